//! `--attest`: what is stated beside an image, in layouts, registries, the store and files. What
//! provenance says is in `provenance`, how SBOMs are made in `generators`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Server, TestEnv};

const V1: &str = "https://slsa.dev/provenance/v1";

pub(super) fn hello() -> TestEnv {
    TestEnv::new()
        .dockerfile("FROM scratch\nCOPY a /a\nCOPY b /dir/b\n")
        .file("a", "a".repeat(4000))
        .file("b", "b")
}

pub(super) fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A layout, and the index in it that a build with attestations makes.
pub(super) struct Layout {
    dir: PathBuf,
    index: Value,
}

impl Layout {
    /// Builds with these options into a layout.
    pub(super) fn of(t: &TestEnv, form: &str, options: &[&str]) -> Self {
        let dir = t.beside("layout");
        let _ = fs::remove_dir_all(&dir);
        let output = format!("type=oci,tar=false,dest={}{form}", dir.display());
        t.build_with(&[&["-o", &output], options].concat()).ok();
        Self::open(dir)
    }

    pub(super) fn open(dir: PathBuf) -> Self {
        let mut layout = Self {
            index: Value::Null,
            dir,
        };
        let top = json(&layout.dir.join("index.json"));
        layout.index = layout.blob(&top["manifests"][0]["digest"]);
        layout
    }

    fn blob(&self, digest: &Value) -> Value {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        json(&self.dir.join("blobs/sha256").join(hex))
    }

    /// The entries of the index: images first, then attestations.
    fn entries(&self) -> Vec<Value> {
        self.index["manifests"].as_array().unwrap().clone()
    }

    /// The statements about the image at `at`, in order.
    pub(super) fn statements(&self, at: usize) -> Vec<Value> {
        let entries = self.entries();
        let about = &entries[at]["digest"];
        let attests =
            |entry: &&Value| entry["annotations"]["vnd.docker.reference.digest"] == *about;
        let found = entries.iter().find(attests).expect("an attestation");
        let manifest = self.blob(&found["digest"]);
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers.map(|layer| self.blob(&layer["digest"])).collect()
    }
}

/// Runs a program that must succeed, and returns what it printed.
pub(super) fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {err}");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn an_index_names_the_attestation_beside_its_image() {
    let t = hello();
    let layout = Layout::of(&t, "", &["--provenance", "-t", "app:1"]);
    let entries = layout.entries();
    assert_eq!(entries.len(), 2);
    let entry = &entries[1];
    assert_eq!(
        entry["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(
        entry["platform"],
        json!({ "architecture": "unknown", "os": "unknown" })
    );
    let annotations = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": entries[0]["digest"],
    });
    assert_eq!(entry["annotations"], annotations);
    let manifest = layout.blob(&entry["digest"]);
    assert_eq!(
        manifest["artifactType"],
        "application/vnd.docker.attestation.manifest.v1+json"
    );
    assert_eq!(manifest["subject"]["digest"], entries[0]["digest"]);
    assert_eq!(manifest["subject"]["size"], entries[0]["size"]);
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.oci.empty.v1+json"
    );
    assert_eq!(layout.blob(&manifest["config"]["digest"]), json!({}));
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
    assert_eq!(
        layer["annotations"],
        json!({ "in-toto.io/predicate-type": V1 })
    );
    let statement = &layout.statements(0)[0];
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], V1);
    let subject = &statement["subject"][0];
    let name = subject["name"].as_str().unwrap();
    assert!(
        name.starts_with("pkg:docker/app@1?platform=linux%2F"),
        "{name}"
    );
    let digest = entries[0]["digest"].as_str().unwrap();
    assert_eq!(
        format!("sha256:{}", subject["digest"]["sha256"].as_str().unwrap()),
        digest
    );
}

#[test]
fn the_metadata_file_has_the_provenance_of_each_platform() {
    let t = hello();
    let meta = |options: &[&str]| {
        let fixed = ["--metadata-file", "../meta"];
        t.build_with(&[&fixed, options].concat()).ok();
        json(&t.beside("meta"))
    };
    let one = meta(&["--provenance=mode=min"]);
    let what = &one["buildx.build.provenance"]["buildDefinition"]["externalParameters"];
    assert_eq!(what["configSource"]["path"], "Dockerfile");
    let two = meta(&["--provenance", "--platform=linux/amd64,linux/arm64"]);
    for platform in ["linux/amd64", "linux/arm64"] {
        let stated = &two[format!("buildx.build.provenance/{platform}")];
        assert!(stated["runDetails"].is_object(), "{platform}: {two}");
    }
    let none = meta(&[]);
    assert!(none.get("buildx.build.provenance").is_none());
}

#[test]
fn an_attestation_looks_like_an_image_when_it_is_to_be_no_artifact() {
    let t = hello();
    let layout = Layout::of(&t, ",oci-artifact=false", &["--provenance=mode=min"]);
    let manifest = layout.blob(&layout.entries()[1]["digest"]);
    assert!(manifest.get("artifactType").is_none() && manifest.get("subject").is_none());
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.oci.image.config.v1+json"
    );
    let config = layout.blob(&manifest["config"]["digest"]);
    assert_eq!(config["os"], "unknown");
    assert_eq!(
        config["rootfs"]["diff_ids"][0],
        manifest["layers"][0]["digest"]
    );
}

#[test]
fn nothing_is_stated_unless_somebody_asks_and_the_image_stays_the_same() {
    let t = hello().var("SOURCE_DATE_EPOCH", "1700000000");
    let plain = t.cooper(&["build", "-q", "."]).ok().stdout();
    let layout = t.beside("plain");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    t.build_with(&["-o", &output, "--provenance=false", "--sbom=false"])
        .ok();
    let index = json(&layout.join("index.json"));
    let kind = &index["manifests"][0]["mediaType"];
    assert_eq!(kind, "application/vnd.oci.image.manifest.v1+json");
    let stated = t
        .cooper(&["build", "-q", "--provenance", "-t", "x", "."])
        .ok()
        .stdout();
    assert_eq!(stated, plain);
    let id = t.cooper(&["inspect", "-f", "{{.Id}}", "x"]).ok().stdout();
    assert_eq!(id, plain);
}

#[test]
fn each_platform_has_provenance_of_its_own_and_all_are_one_build() {
    let t = hello();
    let options = [
        "--platform=linux/amd64,linux/arm64",
        "--provenance=mode=min",
    ];
    let layout = Layout::of(&t, "", &options);
    assert_eq!(layout.entries().len(), 4);
    let of = |at: usize| layout.statements(at)[0]["predicate"]["runDetails"]["metadata"].clone();
    assert_eq!(of(0)["invocationId"], of(1)["invocationId"]);
}

#[test]
fn a_registry_has_the_attestation_of_the_image_that_is_there() {
    let t = hello();
    let registry = Server::http();
    let name = registry.name("app:1").full();
    t.build_with(&["-t", &name, "--push", "--provenance"]).ok();
    let from = format!("docker://{name}");
    let there = |t: &TestEnv, from: &str, dir: &str| {
        let to = t.beside(dir);
        let copy = ["copy", "--all", "--src-tls-verify=false", from];
        let to_text = format!("oci:{}", to.display());
        run("skopeo", &[&copy[..], &[&to_text]].concat());
        Layout::open(to)
    };
    let layout = there(&t, &from, "copied");
    let check = |layout: &Layout| {
        let entries = layout.entries();
        let statement = &layout.statements(0)[0];
        let digest = statement["subject"][0]["digest"]["sha256"]
            .as_str()
            .unwrap();
        assert_eq!(entries[0]["digest"], format!("sha256:{digest}"));
        let manifest = layout.blob(&entries[1]["digest"]);
        assert_eq!(manifest["subject"]["digest"], entries[0]["digest"]);
        let layer = &layout.blob(&entries[0]["digest"])["layers"][0]["mediaType"];
        assert_eq!(layer, "application/vnd.oci.image.layer.v1.tar+gzip");
    };
    check(&layout);
    // Pushed from the store, where layers are plain, and pulled and pushed again by somebody else.
    let again = registry.name("again:1").full();
    t.build_with(&["-t", "localhost/app", "--provenance"]).ok();
    t.cooper(&["push", "localhost/app", &again]).ok();
    check(&there(&t, &format!("docker://{again}"), "again"));
    let other = TestEnv::new();
    other.cooper(&["pull", &name]).ok();
    let third = registry.name("third:1").full();
    other.cooper(&["push", &name, &third]).ok();
    let moved = there(&t, &format!("docker://{third}"), "third");
    check(&moved);
    assert_eq!(
        moved.index, layout.index,
        "a pulled index is pushed as it is"
    );
}

#[test]
fn an_attested_image_is_an_image_like_any_other() {
    let t = TestEnv::new().dockerfile("FROM localhost/busybox\nCMD [\"echo\", \"it runs\"]\n");
    t.busybox("localhost/busybox");
    t.build_with(&["-t", "localhost/app", "--provenance"]).ok();
    let out = t
        .cask(&["run", "--rm", "--network=none", "localhost/app"])
        .ok();
    assert_eq!(out.stdout(), "it runs");
    let images = t
        .cooper(&["images", "--format", "{{.Repository}}"])
        .ok()
        .stdout();
    assert_eq!(images.matches("localhost/app").count(), 1, "{images}");
    assert!(!images.contains("<none>"), "{images}");
    t.write("Dockerfile", "FROM localhost/app\nRUN echo below\n");
    t.build().ok();
    t.cooper(&["pull", "--platform=unknown/unknown", "oci:nowhere"])
        .fails(1);
    // The statement stays while the name does, and goes with it.
    let statements = || {
        let blobs = fs::read_dir(t.root().join("blobs/sha256")).unwrap();
        let texts = blobs.map(|blob| fs::read(blob.unwrap().path()).unwrap());
        let is_statement = |text: &Vec<u8>| text.starts_with(b"{\"_type\":\"https://in-toto.io");
        texts.filter(is_statement).count()
    };
    t.cooper(&["prune", "--cache"]).ok();
    assert_eq!(statements(), 1);
    t.cooper(&["rmi", "localhost/app"]).ok();
    t.cooper(&["prune", "--all"]).ok();
    assert_eq!(statements(), 0);
    assert_eq!(t.cooper(&["images", "-q"]).ok().stdout(), "");
}

#[test]
fn archives_carry_attestations_in_and_out() {
    let t = hello();
    t.build_with(&["-t", "app:1", "--provenance"]).ok();
    t.cooper(&["save", "--format=oci-archive", "-o", "../app.tar", "app:1"])
        .ok();
    t.cooper(&["push", "app:1", "oci:../pushed:1"]).ok();
    let pushed = Layout::open(t.beside("pushed"));
    assert_eq!(pushed.statements(0)[0]["predicateType"], V1);
    let other = TestEnv::new();
    let archive = t.beside("app.tar").display().to_string();
    other.cooper(&["load", "-i", &archive]).ok();
    other.cooper(&["push", "app:1", "oci:../there"]).ok();
    let there = Layout::open(other.beside("there"));
    assert_eq!(there.statements(0)[0]["predicateType"], V1);
    assert_eq!(there.index, pushed.index);
}

#[test]
fn files_have_statements_beside_them() {
    let t = hello();
    t.build_with(&["-o", "out", "--provenance"]).ok();
    let statement = json(&t.path("out/provenance.json"));
    let names: Vec<&str> = statement["subject"]
        .as_array()
        .unwrap()
        .iter()
        .map(|subject| subject["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "dir/b"]);
    let sum = run("sha256sum", &[t.path("b").to_str().unwrap()]);
    assert_eq!(
        statement["subject"][1]["digest"]["sha256"],
        sum.split_whitespace().next().unwrap()
    );
    let named = "type=local,dest=named,attestation-prefix=x.";
    t.build_with(&["-o", named, "--provenance=filename=p.json"])
        .ok();
    assert!(t.path("named/x.p.json").exists());
    t.build_with(&["-o", "inline", "--provenance=inline-only=true"])
        .ok();
    assert!(!t.path("inline/provenance.json").exists());
    let platforms = "--platform=linux/amd64,linux/arm64";
    let flat = "type=local,dest=flat,platform-split=false";
    t.build_with(&["-o", flat, "-o", "each", platforms, "--provenance"])
        .ok();
    assert!(t.path("flat/provenance.linux_arm64.json").exists());
    assert!(t.path("each/linux_amd64/provenance.json").exists());
}

#[test]
fn what_is_inline_only_makes_no_index_unless_it_is_forced() {
    let t = hello();
    let inline = "--attest=type=provenance,inline-only=true";
    let dir = t.beside("inline");
    let output = format!("type=oci,tar=false,dest={}", dir.display());
    t.build_with(&["-o", &output, inline]).ok();
    let top = json(&dir.join("index.json"));
    let kind = &top["manifests"][0]["mediaType"];
    assert_eq!(kind, "application/vnd.oci.image.manifest.v1+json");
    let forced = Layout::of(&t, ",attestation-inline=true", &[inline]);
    assert_eq!(forced.entries().len(), 2);
}

#[test]
fn outputs_without_a_place_for_attestations_refuse_them() {
    let t = TestEnv::new().dockerfile("FROM localhost/none\n");
    let docker = "type=docker,dest=x.tar";
    t.build_with(&["-o", docker, "--provenance"])
        .fails(2)
        .says("`type=docker` has no place for attestations");
    let types = "type=oci,dest=x.tar,oci-mediatypes=false";
    t.build_with(&["-o", types, "--provenance"])
        .fails(2)
        .says("`oci-mediatypes=false` has no place for attestations");
    t.build_with(&["--provenance", "--attest=type=provenance,mode=min"])
        .fails(2)
        .says("`provenance` is asked for twice");
    t.build_with(&["--attest=type=vex"])
        .fails(2)
        .says("there is no type `vex`");
}
