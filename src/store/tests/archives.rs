//! Layouts and archives, ours and those of others, whole and broken.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use serde_json::json;

use crate::event::Silent;
use crate::image::{Platform, Reference};
use crate::store::archive::{
    self, Loaded, Named, Pick, read_archive, read_layout, read_stream, write_docker_archive,
    write_oci_archive, write_oci_layout, write_oci_layout_as,
};
use crate::store::testing::{Item, Temp, check, diff_id, files, gzip, put_image, put_layer, tar};
use crate::store::{ArchiveFlaw, Error, Image, Store};

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn sample(store: &Store) -> Image {
    let base = put_layer(
        store,
        &tar(&[Item::Dir("etc", 0o755), Item::File("etc/os", b"1")]),
    );
    let plain = tar(&[Item::File("new", &[7; 3000])]);
    let blob = store.put(&plain).unwrap();
    let media_type = crate::image::media::LAYER;
    let descriptor = crate::image::Descriptor::new(media_type, blob.digest().clone(), blob.size());
    let own = crate::store::LayerRef {
        diff_id: diff_id(&plain),
        descriptor,
    };
    put_image(store, &[base, own], "sample")
}

fn image(store: &Store, loaded: &Loaded) -> Image {
    store
        .image(&loaded.target.digest, &Platform::host())
        .unwrap()
}

#[test]
fn an_image_goes_through_a_layout_directory() {
    let temp = Temp::new();
    let store = temp.store();
    let sample = sample(&store);
    let dir = temp.path().join("layout");
    let names = vec![name("app:1"), name("app:2")];
    let named = [Named {
        image: &sample,
        attestations: &[],
        names: names.clone(),
    }];
    write_oci_layout(&store, &named, &dir, &Silent).unwrap();
    write_oci_layout(&store, &named, &dir, &Silent).unwrap();
    write_oci_layout_as(&store, &sample, &[], Some("mine"), &dir, &Silent).unwrap();
    assert!(
        files(&dir).iter().all(|file| !file.contains(".part")),
        "{:?}",
        files(&dir)
    );
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 3);
    let annotations = &index["manifests"][0]["annotations"];
    assert_eq!(
        annotations["io.containerd.image.name"],
        "docker.io/library/app:1"
    );
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "1");
    let other = Temp::new();
    let into = other.store();
    let loaded = read_layout(&into, &dir, Pick::Named("mine"), &Silent).unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].ref_name.as_deref(), Some("mine"));
    let got = image(&into, &loaded[0]);
    check(&into, &got);
    assert_eq!(got.id(), sample.id());
    // The pulled layer kept its bytes, the plain one was compressed.
    assert_eq!(
        got.manifest.value().layers[0],
        sample.manifest.value().layers[0]
    );
    let kind = &got.manifest.value().layers[1].media_type;
    assert_eq!(kind, crate::image::media::LAYER_GZIP);
    let loaded = read_layout(&into, &dir, Pick::Named("app:2"), &Silent).unwrap();
    assert!(loaded[0].names.contains(&names[1]));
    let digest = got.manifest.digest();
    assert_eq!(
        read_layout(&into, &dir, Pick::Digest(digest), &Silent).unwrap()[0]
            .target
            .digest,
        *digest
    );
    let error = read_layout(&into, &dir, Pick::Named("absent"), &Silent).unwrap_err();
    let Error::Archive {
        flaw: ArchiveFlaw::NoImage { has, .. },
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert!(has.contains(&"mine".to_owned()), "{has:?}");
}

#[test]
fn an_oci_archive_is_the_same_each_time_and_reads_back() {
    let temp = Temp::new();
    let store = temp.store();
    let sample = sample(&store);
    let named = [Named {
        image: &sample,
        attestations: &[],
        names: vec![name("app")],
    }];
    let (mut one, mut two) = (Vec::new(), Vec::new());
    write_oci_archive(&store, &named, &mut one, &Silent).unwrap();
    write_oci_archive(&store, &named, &mut two, &Silent).unwrap();
    assert_eq!(one, two);
    for bytes in [one.clone(), gzip(&one)] {
        let other = Temp::new();
        let into = other.store();
        let path = other.path().join("app.tar");
        std::fs::write(&path, &bytes).unwrap();
        let loaded = read_archive(&into, &path, Pick::Only, &Silent).unwrap();
        assert_eq!(loaded[0].names, [name("app")]);
        check(&into, &image(&into, &loaded[0]));
        let other = Temp::new();
        let into = other.store();
        let loaded = read_stream(
            &into,
            Cursor::new(bytes),
            Path::new("-"),
            Pick::All,
            &Silent,
        );
        check(&into, &image(&into, &loaded.unwrap()[0]));
    }
}

#[test]
fn a_docker_archive_reads_back_as_either_layout() {
    let temp = Temp::new();
    let store = temp.store();
    let sample = sample(&store);
    let named = [Named {
        image: &sample,
        attestations: &[],
        names: vec![name("app"), name("host.io/b:2")],
    }];
    let mut bytes = Vec::new();
    write_docker_archive(&store, &named, &mut bytes, &Silent).unwrap();
    let members = unpack(&bytes);
    let listed: serde_json::Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
    assert_eq!(listed[0]["RepoTags"], json!(["app:latest", "host.io/b:2"]));
    let layers = listed[0]["Layers"].as_array().unwrap();
    let diff_ids = &sample.config.value().rootfs.diff_ids;
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        let bytes = &members[layer.as_str().unwrap()];
        assert_eq!(crate::image::Digest::of(bytes), diff_id.0);
    }
    let old: Vec<(&str, &[u8])> = members
        .iter()
        .filter(|(name, _)| *name != "oci-layout" && *name != "index.json")
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    for bytes in [bytes.clone(), pack(&old), gzip(&pack(&old))] {
        let other = Temp::new();
        let into = other.store();
        let loaded = read_stream(
            &into,
            Cursor::new(bytes),
            Path::new("-"),
            Pick::All,
            &Silent,
        );
        let loaded = loaded.unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].names, [name("app"), name("host.io/b:2")]);
        let got = image(&into, &loaded[0]);
        check(&into, &got);
        assert_eq!(got.id(), sample.id());
    }
}

/// Reads a small tar into memory.
fn unpack(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut members = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        if entry.header().entry_type().is_file() {
            members.insert(name, bytes);
        }
    }
    members
}

fn pack(members: &[(&str, &[u8])]) -> Vec<u8> {
    let items: Vec<Item<'_>> = members.iter().map(|(n, b)| Item::File(n, b)).collect();
    tar(&items)
}

/// What docker wrote before version 25: layers in directories, equal ones linked to each other.
#[test]
fn an_old_docker_archive_with_linked_and_packed_layers_is_read() {
    let layers = [
        pack(&[("a", b"1")]),
        pack(&[("b", b"2")]),
        pack(&[("a", b"1")]),
    ];
    let config = json!({
        "architecture": Platform::host().architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|l| diff_id(l)).collect::<Vec<_>>()},
        "history": [{}, {}, {}],
    });
    let manifest = json!([{
        "Config": "0123.json", "RepoTags": null,
        "Layers": ["one/layer.tar", "two/layer.tar", "three/layer.tar"],
    }]);
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    add("one/layer.tar", &layers[0]);
    add("two/layer.tar", &gzip(&layers[1]));
    add("0123.json", config.to_string().as_bytes());
    add("manifest.json", manifest.to_string().as_bytes());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder
        .append_link(&mut header, "three/layer.tar", "../one/layer.tar")
        .unwrap();
    let bytes = builder.into_inner().unwrap();
    let temp = Temp::new();
    let store = temp.store();
    let loaded = read_stream(
        &store,
        Cursor::new(bytes),
        Path::new("-"),
        Pick::Only,
        &Silent,
    );
    let loaded = loaded.unwrap();
    assert!(loaded[0].names.is_empty());
    let got = image(&store, &loaded[0]);
    check(&store, &got);
    assert_eq!(got.manifest.value().layers.len(), 3);
    let kind = &got.manifest.value().layers[1].media_type;
    assert_eq!(kind, crate::image::media::LAYER_GZIP);
}

fn load(members: &BTreeMap<String, Vec<u8>>) -> Result<Vec<Loaded>, Error> {
    let temp = Temp::new();
    let store = temp.store();
    let members: Vec<(&str, &[u8])> = members
        .iter()
        .map(|(n, b)| (n.as_str(), b.as_slice()))
        .collect();
    let bytes = Cursor::new(pack(&members));
    let loaded = read_stream(&store, bytes, Path::new("-"), Pick::All, &Silent);
    assert!(loaded.is_ok() || store.images().unwrap().is_empty());
    loaded
}

fn oci_members() -> (BTreeMap<String, Vec<u8>>, Image) {
    let temp = Temp::new();
    let store = temp.store();
    let sample = sample(&store);
    let named = [Named {
        image: &sample,
        attestations: &[],
        names: vec![name("app")],
    }];
    let mut bytes = Vec::new();
    write_oci_archive(&store, &named, &mut bytes, &Silent).unwrap();
    let written = store.recompress(&sample, None, None, &Silent).unwrap();
    (unpack(&bytes), written)
}

#[test]
fn every_spoiled_blob_of_an_archive_is_refused() {
    let (members, image) = oci_members();
    assert!(load(&members).is_ok());
    let blobs = members
        .keys()
        .filter(|name| name.starts_with("blobs/sha256/"));
    let blobs: Vec<String> = blobs.cloned().collect();
    assert_eq!(blobs.len(), 4);
    for blob in blobs {
        for at in [0, 12, members[&blob].len() - 1] {
            let mut spoiled = members.clone();
            spoiled.get_mut(&blob).unwrap()[at] ^= 1;
            let error = load(&spoiled).unwrap_err();
            assert!(
                matches!(error, Error::Corrupt(_)),
                "{blob} at {at}: {error:?}"
            );
        }
        let mut longer = members.clone();
        longer.get_mut(&blob).unwrap().push(0);
        assert!(
            matches!(load(&longer).unwrap_err(), Error::Corrupt(_)),
            "{blob}"
        );
        let mut without = members.clone();
        without.remove(&blob);
        let manifest = blob.ends_with(image.manifest.digest().hex());
        match load(&without) {
            Err(Error::Archive {
                flaw: ArchiveFlaw::Missing(file),
                ..
            }) => assert_eq!(file, blob),
            other => panic!("{blob} (manifest: {manifest}): {other:?}"),
        }
    }
}

#[test]
fn a_layer_with_a_false_diff_id_is_refused() {
    let (mut members, image) = oci_members();
    let mut config = image.config.value().clone();
    config.rootfs.diff_ids.swap(0, 1);
    let config = crate::image::Raw::of(config);
    let mut manifest = image.manifest.value().clone();
    manifest.config = config.descriptor(crate::image::media::CONFIG);
    let manifest = crate::image::Raw::of(manifest);
    let index = json!({"schemaVersion": 2, "manifests": [manifest.descriptor(crate::image::media::MANIFEST)]});
    members.insert("index.json".to_owned(), index.to_string().into());
    let path = |digest: &crate::image::Digest| format!("blobs/sha256/{}", digest.hex());
    members.insert(path(config.digest()), config.bytes().to_vec());
    members.insert(path(manifest.digest()), manifest.bytes().to_vec());
    let error = load(&members).unwrap_err();
    assert!(matches!(error, Error::DiffId { .. }), "{error:?}");
}

#[test]
fn names_in_an_archive_never_lead_out_of_it() {
    let temp = Temp::new();
    let store = temp.store();
    let secret = temp.path().join("secret");
    std::fs::write(&secret, "[]").unwrap();
    for text in [secret.to_str().unwrap(), "../secret", "layout/../../secret"] {
        let manifest = json!([{"Config": text, "Layers": []}]).to_string();
        let dir = temp.path().join("layout");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("manifest.json"), &manifest).unwrap();
        let error = read_layout(&store, &dir, Pick::All, &Silent).unwrap_err();
        let missing = |error: &Error| {
            matches!(
                error,
                Error::Archive {
                    flaw: ArchiveFlaw::Missing(_),
                    ..
                }
            )
        };
        assert!(missing(&error), "{text}: {error:?}");
        let bytes = Cursor::new(pack(&[("manifest.json", manifest.as_bytes())]));
        let error = read_stream(&store, bytes, Path::new("-"), Pick::All, &Silent).unwrap_err();
        assert!(missing(&error), "{text}: {error:?}");
    }
    let dir = temp.path().join("layout");
    std::fs::remove_file(dir.join("manifest.json")).unwrap();
    std::os::unix::fs::symlink(&secret, dir.join("manifest.json")).unwrap();
    let error = read_layout(&store, &dir, Pick::All, &Silent).unwrap_err();
    let Error::Archive {
        flaw: ArchiveFlaw::NoLayout,
        ..
    } = error
    else {
        panic!("{error:?}")
    };
    let index = json!({"schemaVersion": 2, "manifests": [
        {"mediaType": crate::image::media::MANIFEST, "digest": "sha256:../../secret", "size": 2}
    ]});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let error = read_layout(&store, &dir, Pick::All, &Silent).unwrap_err();
    let Error::Archive {
        flaw: ArchiveFlaw::Json { .. },
        ..
    } = error
    else {
        panic!("{error:?}")
    };
}

#[test]
fn a_pipe_in_a_layout_does_not_make_us_wait() {
    let temp = Temp::new();
    let store = temp.store();
    let mode = rustix::fs::Mode::RWXU;
    let kind = rustix::fs::FileType::Fifo;
    let path = temp.path().join("oci-layout");
    rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
    let error = read_layout(&store, temp.path(), Pick::All, &Silent).unwrap_err();
    let Error::Archive {
        flaw: ArchiveFlaw::NoLayout,
        ..
    } = error
    else {
        panic!("{error:?}")
    };
}

#[test]
fn what_is_no_archive_is_refused_by_its_name() {
    let temp = Temp::new();
    let store = temp.store();
    let path = temp.path().join("x.tar");
    let flaw = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        match read_archive(&store, &path, Pick::All, &Silent).unwrap_err() {
            Error::Archive { path: named, flaw } => {
                assert_eq!(named, path);
                flaw
            }
            error => panic!("{error:?}"),
        }
    };
    assert_eq!(flaw(b"hello"), ArchiveFlaw::NotTar);
    assert_eq!(flaw(&pack(&[("x", b"")])), ArchiveFlaw::NoLayout);
    let old = [
        ("oci-layout", &br#"{"imageLayoutVersion":"2"}"#[..]),
        ("index.json", b"{}"),
    ];
    assert_eq!(flaw(&pack(&old)), ArchiveFlaw::Version("2".to_owned()));
    let broken = flaw(&pack(&[("manifest.json", b"[{}]")]));
    assert!(matches!(broken, ArchiveFlaw::Json { .. }), "{broken:?}");
}

#[test]
fn several_images_must_be_told_apart() {
    let temp = Temp::new();
    let store = temp.store();
    let one = sample(&store);
    let two = put_image(&store, &one.layers(), "two");
    let named = [
        Named {
            image: &one,
            attestations: &[],
            names: vec![name("one")],
        },
        Named {
            image: &two,
            attestations: &[],
            names: vec![name("two")],
        },
    ];
    for docker in [false, true] {
        let mut bytes = Vec::new();
        match docker {
            true => write_docker_archive(&store, &named, &mut bytes, &Silent).unwrap(),
            false => write_oci_archive(&store, &named, &mut bytes, &Silent).unwrap(),
        }
        let members = unpack(&bytes);
        assert_eq!(
            members
                .keys()
                .filter(|name| name.starts_with("blobs/"))
                .count(),
            6
        );
        let path = temp.path().join("two.tar");
        std::fs::write(&path, &bytes).unwrap();
        let into = Temp::new();
        let error = archive::read_archive(&into.store(), &path, Pick::Only, &Silent).unwrap_err();
        let Error::Archive {
            flaw: ArchiveFlaw::NotOne { has },
            ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(has, &["one:latest", "two:latest"]);
        let picked = read_archive(&into.store(), &path, Pick::Named("two"), &Silent).unwrap();
        assert_eq!(image(&into.store(), &picked[0]).id(), two.id());
        assert_eq!(into.store().images().unwrap().len(), 1);
        assert_eq!(
            read_archive(&into.store(), &path, Pick::All, &Silent)
                .unwrap()
                .len(),
            2
        );
    }
}
