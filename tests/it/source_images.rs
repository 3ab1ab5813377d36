//! `source create|add|push|pull`: the sources of an image as an artifact beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Server, TestEnv};

const CONFIG: &str = "application/vnd.oci.source.image.config.v1+json";

fn document(t: &TestEnv, path: &str) -> Value {
    serde_json::from_slice(&fs::read(t.path(path)).unwrap()).unwrap()
}

fn blob(dir: &str, digest: &Value) -> String {
    let digest = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    format!("{dir}/blobs/sha256/{digest}")
}

/// The manifest of a source image, which must be the only one of its layout.
fn manifest(t: &TestEnv, dir: &str) -> Value {
    let index = document(t, &format!("{dir}/index.json"));
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "{index}");
    let manifest = document(t, &blob(dir, &entries[0]["digest"]));
    assert_eq!(manifest["config"]["mediaType"], CONFIG);
    manifest
}

/// All files below a directory, with what they hold.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    let below =
        |(path, bytes): (String, Vec<u8>)| (path.replace(&*dir.to_string_lossy(), ""), bytes);
    found.into_iter().map(below).collect()
}

fn filled(t: &TestEnv) {
    t.write("file", "111\n");
    t.write("tree/sub/a", "a");
    t.write("tree/b", "b");
    t.cooper(&["source", "create", "--time-stamp=false", "src"])
        .ok();
    let note = "--annotation=what=a file";
    t.cooper(&["source", "add", note, "src", "file"]).ok();
    t.cooper(&["source", "add", "src", "tree"]).ok();
}

#[test]
fn a_source_image_is_made_empty_and_says_by_whom() {
    let t = TestEnv::new();
    let made = t
        .cooper(&["source", "create", "--author=somebody", "src"])
        .ok();
    assert_eq!(made.stdout(), "");
    let manifest = manifest(&t, "src");
    assert_eq!(manifest["layers"], json!([]));
    let config = document(&t, &blob("src", &manifest["config"]["digest"]));
    assert_eq!(config["author"], "somebody");
    assert!(
        config["created"].as_str().unwrap().contains('T'),
        "{config}"
    );
    t.cooper(&["source", "create", "src"])
        .fails(1)
        .says("cannot make a source image at src");
    t.cooper(&["source", "create", "--time-stamp=false", "bare"])
        .ok();
    let bare = self::manifest(&t, "bare");
    let config = document(&t, &blob("bare", &bare["config"]["digest"]));
    assert_eq!(config, json!({}));
}

#[test]
fn files_and_directories_are_added_as_gzipped_tars() {
    for t in [
        TestEnv::new(),
        TestEnv::as_user("sub"),
        TestEnv::as_user("nosub"),
    ] {
        filled(&t);
        let manifest = manifest(&t, "src");
        let layers = manifest["layers"].as_array().unwrap();
        let listed = |layer: &Value| {
            assert_eq!(
                layer["mediaType"],
                "application/vnd.oci.image.layer.v1.tar+gzip"
            );
            let path = t.path(&blob("src", &layer["digest"]));
            assert_eq!(layer["size"], fs::metadata(&path).unwrap().len());
            let out = Command::new("tar").arg("-tzf").arg(&path).output().unwrap();
            assert!(out.status.success());
            String::from_utf8(out.stdout).unwrap()
        };
        let listed: Vec<String> = layers.iter().map(listed).collect();
        assert_eq!(listed, ["file\n", "b\nsub/\nsub/a\n"]);
        assert_eq!(layers[0]["annotations"], json!({ "what": "a file" }));
        // What was replaced is gone.
        assert_eq!(fs::read_dir(t.path("src/blobs/sha256")).unwrap().count(), 4);
    }
}

#[test]
fn a_source_image_goes_to_a_registry_and_back() {
    let t = TestEnv::new();
    filled(&t);
    let registry = Server::http();
    let name = registry.name("team/app:sources").full();
    let pushed = t
        .cooper(&["source", "push", "-q", "--digestfile=digest", "src", &name])
        .ok();
    assert_eq!(
        (pushed.stdout(), pushed.stderr()),
        (String::new(), String::new())
    );
    let index = document(&t, "src/index.json");
    let digest = fs::read_to_string(t.path("digest")).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest);
    let other = TestEnv::new();
    other.cooper(&["source", "pull", "-q", &name, "back"]).ok();
    assert_eq!(files(&other.path("back")), files(&t.path("src")));
    other
        .cooper(&["source", "pull", &name, "back"])
        .fails(1)
        .says("cannot make a source image at back");
    // One that was pulled is a source image like any other.
    other.write("more", "more");
    other.cooper(&["source", "add", "back", "more"]).ok();
    assert_eq!(
        manifest(&other, "back")["layers"].as_array().unwrap().len(),
        3
    );
}

#[test]
fn what_is_no_source_image_is_refused() {
    let registry = Server::http();
    let t = TestEnv::new().dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    t.cooper(&[
        "build",
        "-q",
        "-t",
        "image",
        "-o",
        "type=oci,tar=false,dest=layout",
        ".",
    ])
    .ok();
    let name = registry.name("image:1").full();
    t.cooper(&["build", "-q", "-t", "image", "."]).ok();
    t.cooper(&["push", "-q", "image", &name]).ok();
    let refused = |args: &[&str], why: &str| {
        t.cooper(&[&["source"], args].concat()).fails(1).says(why);
    };
    refused(
        &["add", "layout", "Dockerfile"],
        "`layout` is no source image",
    );
    refused(&["push", "layout", &name], "`layout` is no source image");
    refused(&["pull", &name, "pulled"], "is no source image");
    assert!(!t.path("pulled").exists());
    refused(&["add", "nowhere", "Dockerfile"], "nowhere");
    t.cooper(&["source", "create", "src"]).ok();
    let before = files(&t.path("src"));
    refused(&["add", "src", "absent"], "cannot open absent");
    t.cooper(&[
        "source",
        "add",
        "--annotation=a=1",
        "--annotation=a=2",
        "src",
        "Dockerfile",
    ])
    .fails(2)
    .says("`--annotation a` is given twice");
    t.cooper(&["source", "add", "--annotation=a", "src", "Dockerfile"])
        .fails(2)
        .says("expected `KEY=VALUE`");
    assert_eq!(files(&t.path("src")), before);
}
