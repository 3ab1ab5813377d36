//! `-o` and its options, what several outputs give, and what is written about the result.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use crate::support::{Certs, Server, TestEnv};

fn hello() -> TestEnv {
    TestEnv::new()
        .var("SOURCE_DATE_EPOCH", "1700000000")
        .dockerfile("FROM scratch\nCOPY a /a\nCOPY b /dir/b\n")
        .file("a", "a".repeat(4000))
        .file("b", "b")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Reads a document of a layout by its digest.
fn document(layout: &Path, digest: &Value) -> Value {
    let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    json(&layout.join("blobs/sha256").join(hex))
}

/// Writes an OCI layout with these options, and returns its index and the manifest it names first.
fn layout(t: &TestEnv, options: &str) -> (Value, Value) {
    let dir = t.beside("layout");
    let _ = fs::remove_dir_all(&dir);
    let output = format!("type=oci,tar=false,dest={}{options}", dir.display());
    t.build_with(&["-o", &output]).ok();
    let index = json(&dir.join("index.json"));
    let manifest = document(&dir, &index["manifests"][0]["digest"]);
    (index, manifest)
}

fn layer_types(manifest: &Value) -> Vec<&str> {
    let layers = manifest["layers"].as_array().unwrap();
    layers
        .iter()
        .map(|layer| layer["mediaType"].as_str().unwrap())
        .collect()
}

#[test]
fn one_build_gives_several_outputs() {
    let t = hello();
    t.build_with(&[
        "-t",
        "x",
        "-o",
        "out",
        "-o",
        "type=tar,dest=../x.tar",
        "-o",
        "type=oci,dest=../x.oci",
        "-o",
        "type=docker,dest=../x.docker",
        "--load",
    ])
    .ok();
    assert_eq!(fs::read_to_string(t.path("out/dir/b")).unwrap(), "b");
    for archive in ["x.tar", "x.oci", "x.docker"] {
        assert!(
            fs::metadata(t.beside(archive)).unwrap().len() > 1024,
            "{archive}"
        );
    }
    t.cooper(&["inspect", "x"]).ok();
}

#[test]
fn an_image_gets_no_name_in_the_store_when_only_files_are_asked_for() {
    let t = hello();
    t.build_with(&["-t", "x", "-o", "out"]).ok();
    t.cooper(&["inspect", "x"]).fails(1);
    t.build_with(&["-t", "x", "-o", "type=image,name=y"]).ok();
    t.cooper(&["inspect", "x", "y"]).ok();
}

#[test]
fn layers_are_compressed_as_the_output_says() {
    let t = hello();
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    let plain = "application/vnd.oci.image.layer.v1.tar";
    for (options, want) in [
        ("", gzip),
        (",compression=gzip,compression-level=9", gzip),
        (",compression=zstd", zstd),
        (",compression=uncompressed", plain),
    ] {
        let (_, manifest) = layout(&t, options);
        assert_eq!(layer_types(&manifest), [want; 2], "{options}");
    }
}

#[test]
fn layers_of_the_base_keep_their_compression_unless_forced() {
    let t = hello();
    let registry = Server::http();
    let base = registry.name("base:1").full();
    t.build_with(&["-t", &base, "--push"]).ok();
    t.cooper(&["rmi", "-f", &base]).ok();
    t.write("Dockerfile", format!("FROM {base}\nCOPY b /c\n"));
    let (_, kept) = layout(&t, ",compression=zstd");
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    assert_eq!(layer_types(&kept), [gzip, gzip, zstd]);
    let (_, forced) = layout(&t, ",compression=zstd,force-compression=true");
    assert_eq!(layer_types(&forced), [zstd; 3]);
}

#[test]
fn docker_media_types_are_written_on_request() {
    let t = hello();
    let (index, manifest) = layout(&t, ",oci-mediatypes=false");
    let want = "application/vnd.docker.distribution.manifest.v2+json";
    assert_eq!(index["manifests"][0]["mediaType"], want);
    assert_eq!(manifest["mediaType"], want);
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.docker.container.image.v1+json"
    );
    let layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    assert_eq!(layer_types(&manifest), [layer; 2]);
    t.build_with(&[
        "-o",
        "type=oci,dest=x,oci-mediatypes=false,compression=zstd",
    ])
    .fails(2)
    .says("need `oci-mediatypes=true`");
}

#[test]
fn a_layout_has_an_entry_for_each_name() {
    let t = hello();
    let (index, _) = layout(&t, r#","name=x,y/z:2""#);
    let entries = index["manifests"].as_array().unwrap();
    let names: Vec<&str> = entries
        .iter()
        .map(|entry| {
            entry["annotations"]["io.containerd.image.name"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(names, ["docker.io/library/x:latest", "docker.io/y/z:2"]);
    assert_eq!(
        entries[1]["annotations"]["org.opencontainers.image.ref.name"],
        "2"
    );
}

#[test]
fn annotations_reach_their_document_and_no_config() {
    let t = hello();
    let (index, manifest) = layout(&t, ",annotation.k=v,annotation-manifest-descriptor.d=w");
    assert_eq!(manifest["annotations"]["k"], "v");
    assert_eq!(index["manifests"][0]["annotations"]["d"], "w");
    let config = document(&t.beside("layout"), &manifest["config"]["digest"]);
    assert!(!config.to_string().contains("\"k\""), "{config}");
    for options in [
        ["--annotation", "index:k=v"],
        ["--annotation", "index-descriptor:k=v"],
        ["-o", "type=image,annotation-index.k=v"],
    ] {
        t.build_with(&options)
            .fails(2)
            .says("only a build for several platforms has an index");
    }
    let arm = ",annotation[linux/arm/v5].k=v";
    let (_, other) = layout(&t, arm);
    assert!(
        other.get("annotations").is_none(),
        "it is for another: {other}"
    );
}

#[test]
fn mode_delete_leaves_only_the_result() {
    let t = hello();
    fs::create_dir_all(t.path("out/dir/old")).unwrap();
    t.write("out/dir/old/x", "x");
    t.write("out/other", "x");
    t.build_with(&["-o", "type=local,dest=out"]).ok();
    assert!(t.path("out/other").exists(), "other files stay");
    t.build_with(&["-o", "type=local,dest=out,mode=delete"])
        .ok();
    assert!(!t.path("out/other").exists() && !t.path("out/dir/old").exists());
    assert_eq!(fs::read_to_string(t.path("out/dir/b")).unwrap(), "b");
}

#[test]
fn a_push_gives_the_digest_that_the_registry_has() {
    let t = hello();
    let registry = Server::http();
    let name = registry.name("app:1").full();
    t.build_with(&["-t", &name, "--push", "--metadata-file", "meta"])
        .ok();
    let meta = json(&t.path("meta"));
    let digest = meta["containerimage.digest"].as_str().unwrap().to_owned();
    assert_eq!(meta["containerimage.descriptor"]["digest"], digest.as_str());
    assert_eq!(meta["image.name"], name.as_str());
    let pinned = format!("{}@{digest}", registry.name("app").name());
    let other = TestEnv::new();
    let id = other.cooper(&["pull", &pinned]).ok().stdout();
    assert_eq!(meta["containerimage.config.digest"], id.as_str());
}

#[test]
fn a_push_by_digest_leaves_the_tag_alone() {
    let t = hello();
    let registry = Server::http();
    let name = registry.name("app:1").full();
    let output = format!("type=image,name={name},push=true,push-by-digest=true");
    t.build_with(&["-o", &output, "--metadata-file", "meta"])
        .ok();
    let digest = json(&t.path("meta"))["containerimage.digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let other = TestEnv::new();
    other.cooper(&["pull", &name]).fails(1);
    let pinned = format!("{}@{digest}", registry.name("app").name());
    other.cooper(&["pull", &pinned]).ok();
}

#[test]
fn options_that_a_type_has_not_are_refused_before_any_work() {
    let t = TestEnv::new().dockerfile("FROM localhost/none\n");
    for (output, why) in [
        (
            "type=local,dest=x,compression=gzip",
            "`type=local` takes no `compression`",
        ),
        ("type=tar,dest=x,push=true", "`type=tar` takes no `push`"),
        (
            "type=oci,dest=x,compression=lz4",
            "expected `gzip`, `zstd`, `estargz` or `uncompressed`",
        ),
        ("type=local,dest=x,mode=move", "expected `copy` or `delete`"),
        ("type=image,push=true", "pushing needs a name"),
    ] {
        t.build_with(&["-o", output]).fails(2).says(why);
    }
    t.build_with(&["--push"])
        .fails(2)
        .says("pushing needs a name");
}

/// The members of a tar.
fn members(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.header().entry_type().is_file());
    files
        .map(|mut entry| {
            let name = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (name, bytes)
        })
        .collect()
}

#[test]
fn an_archive_for_docker_is_packed_as_the_output_says() {
    let t = hello();
    let written = |options: &str| {
        let output = format!("type=docker,dest=../d.tar{options}");
        t.build_with(&["-t", "x", "-o", &output]).ok();
        members(&fs::read(t.beside("d.tar")).unwrap())
    };
    let read = |members: &BTreeMap<String, Vec<u8>>, name: &str| -> Value {
        serde_json::from_slice(&members[name]).unwrap()
    };
    let dockers = "application/vnd.docker.distribution.manifest.v2+json";
    let ocis = "application/vnd.oci.image.manifest.v1+json";
    for (options, magic, types) in [
        ("", &b"a\0\0"[..], dockers),
        (",compression=gzip,annotation.k=v", b"\x1f\x8b", dockers),
        (",compression=zstd", b"\x28\xb5\x2f\xfd", ocis),
        (",oci-mediatypes=true", b"a\0\0", ocis),
    ] {
        let members = written(options);
        let listed = &read(&members, "manifest.json")[0];
        assert_eq!(listed["RepoTags"], serde_json::json!(["x:latest"]));
        let entry = &read(&members, "index.json")["manifests"][0];
        assert_eq!(entry["mediaType"], types, "{options}");
        let hex = entry["digest"].as_str().unwrap().replace(':', "/");
        let manifest = read(&members, &format!("blobs/{hex}"));
        for (at, path) in listed["Layers"].as_array().unwrap().iter().enumerate() {
            let path = path.as_str().unwrap();
            let digest = manifest["layers"][at]["digest"].as_str().unwrap();
            assert_eq!(path, format!("blobs/{}", digest.replace(':', "/")));
            let start = if at == 0 { magic } else { &magic[..0] };
            assert!(members[path].starts_with(start), "{options} {at}");
        }
        let annotated = options.contains("annotation");
        assert_eq!(manifest["annotations"]["k"] == "v", annotated);
    }
    let directory = "type=docker,tar=false,dest=../folder";
    t.build_with(&["-t", "x", "-o", directory]).ok();
    let top = json(&t.beside("folder/index.json"));
    assert_eq!(top["manifests"][0]["mediaType"], dockers);
    t.build_with(&["-o", "type=docker,tar=false"]).fails(2);
    t.build_with(&[
        "-o",
        "type=docker,dest=x,compression=zstd,oci-mediatypes=false",
    ])
    .fails(2)
    .says("need `oci-mediatypes=true`");
    // Whoever reads archives reads them all.
    for options in ["", ",compression=gzip", ",compression=zstd"] {
        written(options);
        let other = TestEnv::new();
        let archive = t.beside("d.tar").display().to_string();
        other.cooper(&["load", "-i", &archive]).ok();
        other.cooper(&["inspect", "x"]).ok();
    }
}

#[test]
fn archives_go_to_standard_output() {
    let t = hello();
    for (output, has) in [
        ("type=oci", "index.json"),
        ("type=oci,dest=-", "index.json"),
        ("type=docker", "manifest.json"),
        ("type=tar", "dir/b"),
    ] {
        let out = t.cooper(&["build", "-o", output, "."]).ok();
        assert!(members(out.bytes()).contains_key(has), "{output}");
    }
    t.cooper(&["build", "-o", "type=oci", "-o", "-", "."])
        .fails(2);
}

#[test]
fn the_level_of_a_compression_counts() {
    let t = hello().file("a", "a text that is worth it ".repeat(2000));
    for compression in ["gzip", "zstd", "estargz"] {
        let size = |level: u32| {
            let options = format!(",compression={compression},compression-level={level}");
            layout(&t, &options).1["layers"][0]["size"]
                .as_u64()
                .unwrap()
        };
        assert!(size(9) < size(1), "{compression}");
    }
}

#[test]
fn every_name_is_pushed_and_a_registry_may_be_insecure() {
    let t = hello();
    let certs = Certs::new("IP:127.0.0.1");
    let registry = certs.serve();
    let (one, two) = (registry.name("app:1").full(), registry.name("b/app").full());
    let output = format!("type=registry,\"name={one},{two}\"");
    t.build_with(&["-o", &output])
        .fails(1)
        .says("is not trusted");
    let output = format!("{output},registry.insecure=true");
    t.build_with(&["-o", &output, "--metadata-file", "meta"])
        .ok();
    assert_eq!(json(&t.path("meta"))["image.name"], format!("{one},{two}"));
    for name in [one, two] {
        let other = TestEnv::new();
        other.cooper(&["pull", "--tls-verify=false", &name]).ok();
    }
}

#[test]
fn a_tar_keeps_owners_and_a_directory_has_the_callers() {
    let t = hello();
    t.write(
        "Dockerfile",
        "FROM scratch\nCOPY --chown=5:6 --chmod=640 a /a\n",
    );
    assert_eq!(t.listing(&[], "."), ["-rw-r----- 5/6 a"]);
    for who in [
        TestEnv::new(),
        TestEnv::as_user("sub"),
        TestEnv::as_user("nosub"),
    ] {
        let text = "FROM scratch\nCOPY --chown=5:6 --chmod=6755 Dockerfile /d/a\n";
        let who = who.dockerfile(text);
        who.build_with(&["-o", "out"]).ok();
        let caller = fs::metadata(who.root()).unwrap();
        for path in ["out/d", "out/d/a"] {
            let made = fs::metadata(who.path(path)).unwrap();
            assert_eq!(
                (made.uid(), made.gid()),
                (caller.uid(), caller.gid()),
                "{path}"
            );
            assert_eq!(
                made.mode() & 0o7777,
                0o755,
                "nobody else becomes the caller by it"
            );
        }
    }
    t.build_with(&["-o", "type=tar,dest=split.tar,platform-split=true"])
        .ok();
    let members = members(&fs::read(t.path("split.tar")).unwrap());
    let names: Vec<&String> = members.keys().collect();
    assert!(
        names[0].starts_with("linux_") && names[0].ends_with("/a"),
        "{names:?}"
    );
}
