//! Whole images between stores and a registry.

use std::fs::File;
use std::path::Path;

use cooper::event::Silent;
use cooper::image::{
    Config, Descriptor, DiffId, Digest, Document, Index, Manifest, Platform, Raw, Reference, media,
};
use cooper::layer;
use cooper::store::{self, Image, Store};
use cooper::transfer::{
    self, CopyOptions, Error, Network, Options, PushOptions, Source, download, login, logout, pull,
    push, resolve,
};

use crate::liar::{Liar, reply};
use crate::support::{self, Heard, Server, Setup, Temp, noise, run};

fn store(dir: &Temp, name: &str) -> Store {
    Store::open(&dir.path(name), store::Options::default()).unwrap()
}

fn options() -> Options {
    Options {
        network: Network::new(support::options()),
        ..Options::default()
    }
}

fn push_options() -> PushOptions {
    PushOptions {
        transfer: options(),
        ..PushOptions::default()
    }
}

/// A plain tar with one file.
fn tar(dir: &Temp, file: &str, bytes: &[u8]) -> Vec<u8> {
    std::fs::write(dir.path(file), bytes).unwrap();
    let tar = dir.path("layer.tar");
    let (to, from) = (tar.to_str().unwrap(), dir.0.to_str().unwrap());
    run(
        "tar",
        &["--owner=0", "--group=0", "-cf", to, "-C", from, file],
    );
    std::fs::read(tar).unwrap()
}

/// Puts an image of plain layers into the store, as a build leaves it.
fn built(store: &Store, layers: &[Vec<u8>], platform: &str) -> Image {
    let platform: Platform = platform.parse().unwrap();
    let descriptors: Vec<Descriptor> = layers
        .iter()
        .map(|tar| {
            let blob = store.put(tar).unwrap();
            Descriptor::new(media::LAYER, blob.digest().clone(), blob.size())
        })
        .collect();
    let diff_ids: Vec<DiffId> = descriptors
        .iter()
        .map(|d| DiffId(d.digest.clone()))
        .collect();
    let config = serde_json::json!({
        "architecture": platform.architecture, "os": platform.os,
        "config": { "Cmd": ["/x"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = serde_json::to_vec(&config).unwrap();
    let config = Raw::<Config>::parse("config", config).unwrap();
    let descriptor = config.descriptor(media::CONFIG);
    let manifest = Raw::of(Manifest::oci(descriptor, descriptors));
    store.put_image(&manifest, &config).unwrap()
}

fn place(name: &Reference) -> Source {
    Source::Registry(name.clone())
}

#[test]
fn a_built_image_is_compressed_pushed_pulled_and_pushed_on_unchanged() {
    let (server, dir) = (Server::http(), Temp::new());
    let (here, there) = (store(&dir, "here"), store(&dir, "there"));
    let layers = [tar(&dir, "a", &noise(200_000, 1)), tar(&dir, "b", b"b")];
    let image = built(&here, &layers, "linux/amd64");
    let (first, second) = (server.name("team/app:1"), server.name("other/app:1"));

    let digest = push(&here, &image, &place(&first), &push_options(), &Silent).unwrap();
    let found = resolve(&options().network, &first).unwrap();
    assert_eq!(found.digest, digest);
    let pulled = pull(&there, &place(&first), &options(), &Silent).unwrap();
    assert_eq!(pulled.id(), image.id());
    assert_eq!(*pulled.manifest.digest(), digest);
    let kinds = pulled
        .manifest
        .value()
        .layers
        .iter()
        .map(|l| l.media_type.as_str());
    assert!(kinds.eq([media::LAYER_GZIP; 2]));
    for name in [first.clone(), first.with_digest(digest.clone())] {
        let known = there.reference(&name).unwrap().unwrap();
        assert_eq!(known.digest, digest, "{name}");
    }
    let heard = Heard::default();
    let again = push(&there, &pulled, &place(&second), &push_options(), &heard).unwrap();
    assert_eq!(
        (again, heard.count("known"), heard.count("done")),
        (digest, 3, 0)
    );

    let heard = Heard::default();
    push(&here, &image, &place(&first), &push_options(), &heard).unwrap();
    assert_eq!((heard.count("moved"), heard.count("done")), (0, 0));
    let heard = Heard::default();
    pull(&there, &place(&first), &options(), &heard).unwrap();
    assert_eq!((heard.count("known"), heard.count("moved")), (2, 0));
}

#[test]
fn a_pull_unpacks_while_it_comes_when_that_is_wanted() {
    let (server, dir) = (Server::http(), Temp::new());
    let (here, there) = (store(&dir, "here"), store(&dir, "there"));
    let layers: Vec<_> = (0..5_u64)
        .map(|n| tar(&dir, &format!("file{n}"), &noise(100_000, n)))
        .collect();
    let image = built(&here, &layers, "linux/amd64");
    let name = server.name("app:1");
    push(&here, &image, &place(&name), &push_options(), &Silent).unwrap();
    let unpack = Options {
        unpack: true,
        ..options()
    };
    let pulled = pull(&there, &place(&name), &unpack, &Silent).unwrap();
    let heard = Heard::default();
    let trees = there.trees(&pulled.layers(), &heard).unwrap();
    assert_eq!(heard.count("done"), 0);
    for (n, tree) in (0..5_u64).zip(trees) {
        let bytes = std::fs::read(tree.path().join(format!("file{n}"))).unwrap();
        assert_eq!(bytes, noise(100_000, n));
    }
}

#[test]
fn the_image_for_the_platform_is_taken_out_of_an_index() {
    let (server, dir) = (Server::http(), Temp::new());
    let here = store(&dir, "here");
    let name = server.name("multi:1");
    let network = options().network;
    let mut index = Index::oci(Vec::new());
    let mut images = Vec::new();
    for (platform, file) in [("linux/arm64", "arm"), ("linux/amd64", "amd")] {
        let image = built(&here, &[tar(&dir, file, file.as_bytes())], platform);
        let tag = name.with_tag(file).unwrap();
        let digest = push(&here, &image, &place(&tag), &push_options(), &Silent).unwrap();
        let mut descriptor = resolve(&network, &tag).unwrap();
        descriptor.platform = Some(platform.parse().unwrap());
        index.manifests.push(descriptor);
        images.push((platform, image, digest));
    }
    let document = Document::Index(Raw::of(index));
    let client = cooper::registry::Client::new(support::options());
    let version = cooper::registry::Version::of(&name);
    support::wait(
        client
            .writer(&name, &[])
            .unwrap()
            .put_document(version, &document),
    )
    .unwrap();
    for (platform, image, digest) in &images {
        let there = store(&dir, &platform.replace('/', "-"));
        let options = Options {
            platform: Some(platform.parse().unwrap()),
            ..options()
        };
        let pulled = pull(&there, &place(&name), &options, &Silent).unwrap();
        assert_eq!(
            (pulled.id(), pulled.manifest.digest()),
            (image.id(), digest)
        );
        let named = there.reference(&name).unwrap().unwrap();
        assert_eq!(named.digest, *document.digest());
    }
    let other = Options {
        platform: Some("linux/s390x".parse().unwrap()),
        ..options()
    };
    let e = pull(&here, &place(&name), &other, &Silent).unwrap_err();
    let text = format!("`{name}` has no image for linux/s390x, it has: linux/arm64, linux/amd64");
    assert_eq!(e.to_string(), text);

    let all = CopyOptions {
        push: push_options(),
        from: None,
        all: true,
    };
    let copy = server.name("copied/multi:2");
    let empty = store(&dir, "empty");
    let digest = transfer::copy(&empty, &place(&name), &place(&copy), &all, &Silent).unwrap();
    assert_eq!(digest, *document.digest());
    let there = store(&dir, "there");
    pull(&there, &place(&copy), &options(), &Silent).unwrap();
}

#[test]
fn skopeo_reads_what_was_pushed_and_writes_what_can_be_pulled() {
    let (server, dir) = (Server::http(), Temp::new());
    let (here, there) = (store(&dir, "here"), store(&dir, "there"));
    let image = built(&here, &[tar(&dir, "a", &noise(10_000, 1))], "linux/amd64");
    let (ours, theirs) = (server.name("ours:1"), server.name("theirs:1"));
    let digest = push(&here, &image, &place(&ours), &push_options(), &Silent).unwrap();
    let at = |name: &Reference| format!("docker://{}", name.full());
    let (from, to) = (at(&ours), at(&theirs));
    let text = run("skopeo", &["inspect", "--tls-verify=false", &from]);
    let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(seen["Digest"], digest.as_str());
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let docker = [
        "copy",
        "-q",
        "--format",
        "v2s2",
        insecure[0],
        insecure[1],
        &from,
        &to,
    ];
    run("skopeo", &docker);
    let pulled = pull(&there, &place(&theirs), &options(), &Silent).unwrap();
    assert_eq!(pulled.manifest.value().media_type(), media::DOCKER_MANIFEST);
    let wanted = &image.config.value().rootfs.diff_ids;
    assert_eq!(&pulled.config.value().rootfs.diff_ids, wanted);
    let trees = there.trees(&pulled.layers(), &Silent).unwrap();
    assert!(File::open(trees[0].path().join("a")).is_ok());
}

#[test]
fn a_pull_that_fails_leaves_no_name_and_the_next_one_works() {
    let (server, dir) = (Server::http(), Temp::new());
    let (here, there) = (store(&dir, "here"), store(&dir, "there"));
    let image = built(&here, &[tar(&dir, "a", &noise(10_000, 1))], "linux/amd64");
    let name = server.name("app:1");
    push(&here, &image, &place(&name), &push_options(), &Silent).unwrap();
    // One byte of a layer turns over inside the registry.
    let pushed = resolve(&options().network, &name).unwrap();
    let manifest = here.image(&pushed.digest, &Platform::host()).unwrap();
    let layer = manifest.manifest.value().layers[0].digest.clone();
    let (short, hex) = (&layer.hex()[..2], layer.hex());
    let inside = format!("docker/registry/v2/blobs/sha256/{short}/{hex}/data");
    let path = server.data().join(inside);
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[5000] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    let e = pull(&there, &place(&name), &options(), &Silent).unwrap_err();
    let corrupt = matches!(&e, Error::Registry(cooper::registry::Error::Corrupt { .. }));
    assert!(corrupt, "{e:?}");
    assert_eq!(there.references().unwrap(), []);
    assert!(there.blob(&layer).unwrap().is_none());
    std::fs::write(&path, &good).unwrap();
    pull(&there, &place(&name), &options(), &Silent).unwrap();
}

#[test]
fn an_image_that_is_missing_or_needs_a_login_says_so() {
    let server = Server::start(&Setup {
        tls: None,
        htpasswd: Some(("me", "s3cret")),
    });
    let dir = Temp::new();
    let here = store(&dir, "here");
    let (name, host) = (server.name("app:1"), format!("127.0.0.1:{}", server.port));
    let file = dir.path("auth.json");
    let with_file = || Options {
        network: Network::new(cooper::registry::Options {
            authfiles: vec![file.clone()],
            ..support::options()
        }),
        ..Options::default()
    };
    let e = pull(&here, &place(&name), &with_file(), &Silent).unwrap_err();
    assert_eq!(e.to_string(), format!("`{host}` needs a login for `app`"));
    let network = with_file().network;
    let e = login(&network, &host, &support::login("me", "wrong"), &file).unwrap_err();
    assert!(
        e.to_string()
            .starts_with(&format!("`{host}` does not accept")),
        "{e}"
    );
    assert!(!Path::exists(&file));
    login(&network, &host, &support::login("me", "s3cret"), &file).unwrap();
    let e = pull(&here, &place(&name), &with_file(), &Silent).unwrap_err();
    assert_eq!(
        e.to_string(),
        format!("`{host}/app:1` is not in the registry")
    );
    assert!(logout(&network, &host, &file).unwrap());
    assert!(!logout(&network, &host, &file).unwrap());
}

#[test]
fn a_download_is_kept_and_asked_about_the_next_time() {
    let liar = Liar::new(|asked| {
        let dated = [
            ("ETag", "\"v1\""),
            ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ];
        match asked.header("if-none-match") {
            Some("\"v1\"") => reply(304, &[], b""),
            _ => reply(200, &dated, b"hello"),
        }
    });
    let dir = Temp::new();
    let here = store(&dir, "here");
    let url = format!("http://{}/dir/file.txt", liar.host());
    for heard_of in ["done", "known"] {
        let heard = Heard::default();
        let got = download(&here, &url, None, &options(), &heard).unwrap();
        assert_eq!(*got.blob.digest(), Digest::of(b"hello"));
        assert_eq!(got.name, "file.txt");
        assert_eq!(got.last_modified, Some(784_111_777));
        assert_eq!(heard.count(heard_of), 1);
    }
    assert_eq!(liar.asked().len(), 2);
}

#[test]
fn images_go_through_every_kind_of_file() {
    let (server, dir) = (Server::http(), Temp::new());
    let here = store(&dir, "here");
    let image = built(&here, &[tar(&dir, "a", &noise(10_000, 1))], "linux/amd64");
    let at = |kind: &str, name: &str, tag: &str| -> Source {
        let path = dir.path(name);
        format!("{kind}:{}{tag}", path.display()).parse().unwrap()
    };
    for (number, place) in [
        at("oci", "layout", ""),
        at("oci", "layout2", ":v1"),
        at("oci-archive", "o.tar", ":docker.io/library/app:2"),
        at("docker-archive", "d.tar", ":app:3"),
        at("docker-archive", "e.tar", ""),
    ]
    .into_iter()
    .enumerate()
    {
        push(&here, &image, &place, &push_options(), &Silent).unwrap();
        let there = store(&dir, &format!("there{number}"));
        let pulled = pull(&there, &place, &options(), &Silent).unwrap();
        assert_eq!(pulled.id(), image.id(), "{place}");
        let checked = run("skopeo", &["inspect", "--raw", &place.to_string()]);
        assert!(checked.contains("schemaVersion"), "{place}");
        let name = server.name(&format!("from{number}:1"));
        let copied = store(&dir, &format!("copied{number}"));
        let options = CopyOptions {
            push: push_options(),
            from: None,
            all: false,
        };
        let digest = transfer::copy(
            &copied,
            &place,
            &super::images::place(&name),
            &options,
            &Silent,
        );
        let digest = digest.unwrap();
        assert_eq!(
            resolve(&options.push.transfer.network, &name)
                .unwrap()
                .digest,
            digest
        );
        assert_eq!(copied.images().unwrap()[0].id, image.id());
    }
    let by_digest = at("oci", "layout", &format!("@{}", image.manifest.digest()));
    let e = push(&here, &image, &by_digest, &push_options(), &Silent).unwrap_err();
    assert!(matches!(e, Error::ByDigest { .. }), "{e:?}");
    let left: Vec<_> = std::fs::read_dir(&dir.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_layer_that_is_here_as_a_tree_only_is_made_anew_where_it_is_missing() {
    let (server, dir) = (Server::http(), Temp::new());
    let (here, there) = (store(&dir, "here"), store(&dir, "there"));
    // In our own encoder's form, or the tree would not lead back to the same tar.
    tar(&dir, "a", &noise(10_000, 1));
    let file = File::open(dir.path("layer.tar")).unwrap();
    let changes = layer::index_tar(std::sync::Arc::new(file)).unwrap();
    let mut ours = Vec::new();
    layer::encode(&changes, &layer::EncodeOptions::default(), &mut ours).unwrap();
    let image = built(&here, &[ours], "linux/amd64");
    let (first, second) = (server.name("app:1"), server.name("app:2"));
    let digest = push(&here, &image, &place(&first), &push_options(), &Silent).unwrap();
    let pulled = pull(&there, &place(&first), &options(), &Silent).unwrap();
    there.trees(&pulled.layers(), &Silent).unwrap();
    let layer = &pulled.manifest.value().layers[0].digest;
    let blob = dir.path("there/blobs/sha256").join(layer.hex());
    std::fs::remove_file(blob).unwrap();
    // The registry has the bytes: nothing is made, and the manifest stays.
    let again = push(&there, &pulled, &place(&second), &push_options(), &Silent).unwrap();
    assert_eq!(again, digest);
    let other = Server::http();
    let name = other.name("app:1");
    push(&there, &pulled, &place(&name), &push_options(), &Silent).unwrap();
    let third = store(&dir, "third");
    let back = pull(&third, &place(&name), &options(), &Silent).unwrap();
    assert_eq!(back.id(), image.id());
    third.trees(&back.layers(), &Silent).unwrap();
}
