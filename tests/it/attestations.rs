//! `--attest`: provenance and SBOMs beside an image, in layouts, registries, the store and files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::git::{GitServer, Repo};
use crate::support::{Server, TestEnv};

const V1: &str = "https://slsa.dev/provenance/v1";
const SPDX: &str = "https://spdx.dev/Document";

fn hello() -> TestEnv {
    TestEnv::new()
        .dockerfile("FROM scratch\nCOPY a /a\nCOPY b /dir/b\n")
        .file("a", "a".repeat(4000))
        .file("b", "b")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A layout, and the index in it that a build with attestations makes.
struct Layout {
    dir: PathBuf,
    index: Value,
}

impl Layout {
    /// Builds with these options into a layout.
    fn of(t: &TestEnv, form: &str, options: &[&str]) -> Self {
        let dir = t.beside("layout");
        let _ = fs::remove_dir_all(&dir);
        let output = format!("type=oci,tar=false,dest={}{form}", dir.display());
        t.build_with(&[&["-o", &output], options].concat()).ok();
        Self::open(dir)
    }

    fn open(dir: PathBuf) -> Self {
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
    fn statements(&self, at: usize) -> Vec<Value> {
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

/// The provenance that a build with these options states.
fn provenance(t: &TestEnv, options: &[&str]) -> Value {
    let layout = Layout::of(t, "", options);
    layout.statements(0)[0]["predicate"].clone()
}

/// Runs a program that must succeed, and returns what it printed.
fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {err}");
    String::from_utf8(out.stdout).unwrap()
}

/// Makes an image whose program writes `script`'s idea of an SBOM.
fn generator(t: &TestEnv, script: &str) {
    t.busybox("localhost/busybox");
    let dir = t.beside("generator");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("scan"), format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
    let text = "FROM localhost/busybox\nCOPY --chmod=755 scan /scan\nENTRYPOINT [\"/scan\"]\n";
    fs::write(dir.join("Dockerfile"), text).unwrap();
    let dir = dir.display().to_string();
    t.cooper(&["build", "-q", "-t", "localhost/generator", &dir])
        .ok();
}

/// A script that lists the files it may scan, one statement for each file system.
const LIST: &str = r#"
list() {
  names=$(cd "$1" && find . -type f | sort | tr '\n' ' ')
  printf '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":{"name":"%s"}}' \
    "$names" > "$BUILDKIT_SCAN_DESTINATION/$(basename "$1").spdx.json"
}
list "$BUILDKIT_SCAN_SOURCE"
if [ -n "$BUILDKIT_SCAN_SOURCE_EXTRAS" ]; then
  for extra in "$BUILDKIT_SCAN_SOURCE_EXTRAS"/*; do list "$extra"; done
fi"#;
const SBOM: &str = "--sbom=generator=localhost/generator";

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
fn min_tells_no_values_and_max_tells_all_but_secrets() {
    let t = TestEnv::new().dockerfile(concat!(
        "FROM localhost/busybox AS build\nARG A\nARG LEAK\n",
        "RUN --mount=type=secret,id=token --mount=type=cache,target=/c true\nWORKDIR /w\n",
        "FROM scratch\nCOPY --from=build /bin/busybox /b\nCOPY <<EOF /f\nsource-of-secret-value\nEOF\n",
    ));
    t.busybox("localhost/busybox");
    t.write("token", "secret-value\n");
    let options = [
        "--secret=id=token,src=token",
        "--build-arg=A=visible",
        "--build-arg=LEAK=secret-value",
        "--label=l=labelled",
        "--secret-guard=off",
    ];
    let with = |mode: &'static str| provenance(&t, &[&[mode], &options[..]].concat());
    let min = with("--attest=type=provenance,mode=min");
    let text = min.to_string();
    for hidden in [
        "visible",
        "secret-value",
        "token",
        "labelled",
        "llbDefinition",
    ] {
        assert!(!text.contains(hidden), "min tells {hidden}: {text}");
    }
    let metadata = &min["runDetails"]["metadata"];
    let complete = json!({ "request": false, "resolvedDependencies": false });
    assert_eq!(metadata["buildkit_completeness"], complete);
    let max = with("--attest=type=provenance");
    let request = &max["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["frontend"], "dockerfile.v0");
    assert_eq!(request["args"]["build-arg:A"], "visible");
    assert_eq!(request["args"]["label:l"], "labelled");
    assert_eq!(request["args"]["build-arg:LEAK"], "****");
    assert_eq!(
        request["secrets"],
        json!([{ "id": "token", "optional": true }])
    );
    assert_eq!(
        request["locals"],
        json!([{ "name": "context" }, { "name": "dockerfile" }])
    );
    let metadata = &max["runDetails"]["metadata"];
    assert_eq!(metadata["buildkit_completeness"]["request"], true);
    assert!(!max.to_string().contains("secret-value"), "{max}");
    let source = &metadata["buildkit_metadata"]["source"]["infos"][0];
    assert_eq!(source["filename"], "Dockerfile");
    let plain = base64_decoded(source["data"].as_str().unwrap());
    assert!(
        plain.starts_with("FROM localhost/busybox AS build"),
        "{plain}"
    );
    assert!(plain.contains("source-of-****"), "{plain}");
}

/// Decodes by the program that every machine has.
fn base64_decoded(text: &str) -> String {
    let script = format!("printf %s '{text}' | base64 -d");
    run("sh", &["-c", &script])
}

#[test]
fn max_tells_the_steps_their_places_and_layers() {
    let t = TestEnv::new().dockerfile(
        "FROM localhost/busybox\nENV E=1\nRUN --network=none echo hi\nWORKDIR /w\nCOPY f g/\n",
    );
    t.busybox("localhost/busybox");
    t.write("f", "f");
    let stated = provenance(&t, &["--provenance"]);
    let internal = &stated["buildDefinition"]["internalParameters"];
    let steps = internal["buildConfig"]["llbDefinition"].as_array().unwrap();
    let source = steps[0]["op"]["Op"]["source"]["identifier"]
        .as_str()
        .unwrap();
    assert!(
        source.starts_with("docker-image://localhost/busybox:latest@sha256:"),
        "{source}"
    );
    let exec = &steps[1]["op"]["Op"]["exec"];
    assert_eq!(exec["meta"]["args"], json!(["/bin/sh", "-c", "echo hi"]));
    assert_eq!(exec["meta"]["env"], json!(["PATH=/bin", "E=1"]));
    assert_eq!(exec["network"], 2);
    assert_eq!(steps[1]["inputs"], json!(["step0:0"]));
    let mkdir = &steps[2]["op"]["Op"]["file"]["actions"][0]["Action"]["mkdir"];
    assert_eq!(mkdir["path"], "/w");
    assert_eq!(
        steps[3]["op"]["Op"]["source"]["identifier"],
        "local://context"
    );
    let copy = &steps[4]["op"]["Op"]["file"]["actions"][0]["Action"]["copy"];
    assert_eq!(copy["src"], "f");
    assert_eq!(steps[4]["inputs"], json!(["step2:0", "step3:0"]));
    assert_eq!(steps[5]["inputs"], json!(["step4:0"]));
    let metadata = &stated["runDetails"]["metadata"]["buildkit_metadata"];
    let range = &metadata["source"]["locations"]["step1"]["locations"][0]["ranges"][0];
    assert_eq!(
        range,
        &json!({ "start": { "line": 3 }, "end": { "line": 3 } })
    );
    let layers = |step: &str| metadata["layers"][step][0].as_array().unwrap().len();
    assert_eq!(
        (layers("step0:0"), layers("step1:0"), layers("step4:0")),
        (1, 2, 4)
    );
}

#[test]
fn version_1_has_every_field_that_buildkit_writes() {
    let t = TestEnv::new().dockerfile(
        "FROM localhost/busybox\nRUN --network=none --mount=type=ssh --mount=type=ssh,id=k,required true\n",
    );
    t.busybox("localhost/busybox");
    let socket = std::os::unix::net::UnixListener::bind(t.beside("agent")).unwrap();
    let agent = format!("--ssh=k={}", t.beside("agent").display());
    let options = "--provenance=mode=max,builder-id=https://example.org/b/1,reproducible=true";
    let stated = provenance(&t, &[options, &agent, "--target=0"]);
    drop(socket);
    let definition = &stated["buildDefinition"];
    assert_eq!(
        definition["buildType"],
        "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
    );
    let outside = &definition["externalParameters"];
    assert_eq!(outside["configSource"], json!({ "path": "Dockerfile" }));
    assert_eq!(outside["request"]["args"], json!({ "target": "0" }));
    assert_eq!(
        outside["request"]["ssh"],
        json!([{ "id": "default", "optional": true }, { "id": "k" }])
    );
    let platform = &definition["internalParameters"]["builderPlatform"];
    assert_eq!(
        platform,
        cooper::image::Platform::host().to_string().as_str()
    );
    let run = &stated["runDetails"];
    assert_eq!(run["builder"]["id"], "https://example.org/b/1");
    let metadata = &run["metadata"];
    assert_eq!(metadata["buildkit_reproducible"], true);
    let time = |key: &str| {
        let text = metadata[key].as_str().unwrap();
        chrono::DateTime::parse_from_rfc3339(text).unwrap()
    };
    assert!(time("startedOn") <= time("finishedOn"));
    assert!(!metadata["invocationId"].as_str().unwrap().is_empty());
}

#[test]
fn version_0_2_holds_the_same_facts() {
    let t = hello();
    let options = "--provenance=mode=max,version=v0.2,builder-id=https://example.org/b/1,\
                   reproducible=true";
    let layout = Layout::of(&t, "", &[options, "--build-arg=A=b"]);
    let statement = &layout.statements(0)[0];
    assert_eq!(
        statement["predicateType"],
        "https://slsa.dev/provenance/v0.2"
    );
    let stated = &statement["predicate"];
    assert_eq!(stated["buildType"], "https://mobyproject.org/buildkit@v1");
    assert_eq!(
        stated["builder"],
        json!({ "id": "https://example.org/b/1" })
    );
    assert_eq!(
        stated["invocation"]["configSource"]["entryPoint"],
        "Dockerfile"
    );
    assert_eq!(
        stated["invocation"]["parameters"]["args"]["build-arg:A"],
        "b"
    );
    assert!(stated["invocation"]["environment"]["platform"].is_string());
    assert_eq!(stated["metadata"]["reproducible"], true);
    assert!(stated["metadata"]["buildInvocationID"].is_string());
    assert!(stated["buildConfig"]["llbDefinition"].is_array());
}

#[test]
fn what_went_in_is_told_with_its_digest() {
    let t = TestEnv::new();
    t.busybox("localhost/busybox");
    let registry = Server::http();
    let base = registry.name("base:1").full();
    t.cooper(&["push", "localhost/busybox", &base]).ok();
    let digest = t.cooper(&["pull", "-q", &base]).ok();
    drop(digest);
    let url = format!("http://127.0.0.1:{}/v2/", registry.port);
    t.write("Dockerfile", format!("FROM {base}\nADD {url} /answer\n"));
    let stated = provenance(&t, &["--provenance=mode=min"]);
    let dependencies = &stated["buildDefinition"]["resolvedDependencies"];
    let image = dependencies[0]["uri"].as_str().unwrap();
    let name = format!(
        "pkg:docker/127.0.0.1%3A{}/base@1?platform=linux%2F",
        registry.port
    );
    assert!(image.starts_with(&name), "{image}");
    let raw = format!("docker://{base}");
    let manifest = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &raw]);
    let manifest = run(
        "sh",
        &["-c", &format!("printf %s '{manifest}' | sha256sum")],
    );
    let want = manifest.split_whitespace().next().unwrap();
    assert_eq!(dependencies[0]["digest"]["sha256"], want);
    assert_eq!(dependencies[1]["uri"], url.as_str());
    let body = run("sh", &["-c", "printf %s '{}' | sha256sum"]);
    let want = body.split_whitespace().next().unwrap();
    assert_eq!(dependencies[1]["digest"]["sha256"], want);
}

#[test]
fn a_repository_as_context_is_the_source_and_leaves_nothing_untold() {
    let t = TestEnv::new();
    let root = t.beside("git");
    fs::create_dir_all(&root).unwrap();
    let repo = Repo::new(&root, "app");
    repo.file("Dockerfile", "FROM scratch\nCOPY f /f\n")
        .file("f", "f");
    let commit = repo.commit();
    let server = GitServer::smart(&root);
    let url = format!("{}#main", server.url("app"));
    let layout = t.beside("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    t.cooper(&["build", "--provenance=mode=min", "-o", &output, &url])
        .ok();
    let stated = Layout::open(layout).statements(0)[0]["predicate"].clone();
    let source = &stated["buildDefinition"]["externalParameters"]["configSource"];
    let want = json!({ "uri": url, "digest": { "sha1": commit }, "path": "Dockerfile" });
    assert_eq!(source, &want);
    let dependency = json!([{ "uri": url, "digest": { "sha1": commit } }]);
    assert_eq!(
        stated["buildDefinition"]["resolvedDependencies"],
        dependency
    );
    let metadata = &stated["runDetails"]["metadata"];
    let complete = json!({ "request": true, "resolvedDependencies": true });
    assert_eq!(metadata["buildkit_completeness"], complete);
    assert_eq!(metadata["buildkit_hermetic"], true);
}

#[test]
fn a_work_tree_as_context_tells_its_repository_and_commit() {
    let t = hello();
    let git = |args: &[&str]| {
        let out = Command::new("git")
            .args(args)
            .current_dir(t.path(""))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "t")))
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "t@t")))
            .output()
            .unwrap();
        assert!(out.status.success(), "git {args:?}: {out:?}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    let told = |options: &[&str]| {
        let stated = provenance(&t, &[&["--provenance=mode=min"], options].concat());
        stated["runDetails"]["metadata"]["buildkit_metadata"]["vcs"].clone()
    };
    assert_eq!(told(&[]), Value::Null);
    git(&["init", "--quiet", "-b", "main"]);
    assert_eq!(told(&[]), Value::Null, "there is no commit");
    git(&["add", "Dockerfile"]);
    git(&["commit", "--quiet", "-m", "a commit"]);
    git(&[
        "remote",
        "add",
        "origin",
        "https://me:hush@example.org/app.git",
    ]);
    let id = git(&["rev-parse", "HEAD"]);
    let want = json!({
        "revision": id, "source": "https://example.org/app.git",
        "localdir:context": ".", "localdir:dockerfile": ".",
    });
    assert_eq!(told(&[]), want);
    git(&["pack-refs", "--all"]);
    let dockerfile = fs::read_to_string(t.path("Dockerfile")).unwrap();
    t.write("ci/Dockerfile", dockerfile);
    let told = told(&["-f", "ci/Dockerfile"]);
    assert_eq!(told["revision"], id.as_str());
    assert_eq!(told["localdir:dockerfile"], "ci");
}

/// Runs git in a directory, with `t`'s home.
fn git(t: &TestEnv, dir: &str, args: &[&str]) -> String {
    let mut command = t.command("git");
    command
        .args(["-c", "protocol.file.allow=always"])
        .args(args);
    command.current_dir(t.path(dir));
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "t");
        command.env(format!("GIT_{who}_EMAIL"), "t@t");
    }
    let out = command.output().unwrap();
    assert!(out.status.success(), "git {args:?}: {out:?}");
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// What a build of the directory tells of its repository.
fn vcs(t: &TestEnv, dir: &str) -> Value {
    let out = t.beside("layout");
    let _ = fs::remove_dir_all(&out);
    let output = format!("type=oci,tar=false,dest={}", out.display());
    t.cooper(&["build", "--provenance=mode=min", "-o", &output, dir])
        .ok();
    let layout = Layout::open(out);
    let stated = layout.statements(0)[0]["predicate"].clone();
    stated["runDetails"]["metadata"]["buildkit_metadata"]["vcs"].clone()
}

#[test]
fn linked_work_trees_and_submodules_tell_their_own_commit() {
    let t = TestEnv::new()
        .file("lib/Dockerfile", "FROM scratch\nLABEL lib=1\n")
        .file("app/Dockerfile", "FROM scratch\nLABEL app=1\n");
    for (dir, url) in [
        ("lib", "https://example.org/lib.git"),
        ("app", "ssh://git@example.org/app"),
    ] {
        git(&t, dir, &["init", "--quiet", "-b", "main"]);
        git(&t, dir, &["add", "--all", "."]);
        git(&t, dir, &["commit", "--quiet", "-m", "one"]);
        git(&t, dir, &["remote", "add", "origin", url]);
    }
    git(
        &t,
        "app",
        &[
            "submodule",
            "--quiet",
            "add",
            &t.path("lib").display().to_string(),
            "vendor/lib",
        ],
    );
    git(&t, "app", &["commit", "--quiet", "-m", "two"]);
    git(
        &t,
        "app",
        &["worktree", "add", "--quiet", "-b", "side", "../side"],
    );
    git(
        &t,
        "side",
        &["commit", "--quiet", "--allow-empty", "-m", "three"],
    );
    let check = |dir: &str, below: &str, source: &str| {
        let told = vcs(&t, dir);
        assert_eq!(
            told["revision"],
            git(&t, dir, &["rev-parse", "HEAD"]),
            "{dir}"
        );
        assert_eq!(told["localdir:context"], below, "{dir}");
        assert_eq!(told["source"], source, "{dir}");
    };
    check("app", ".", "ssh://example.org/app");
    check("side", ".", "ssh://example.org/app");
    let lib = t.path("lib").display().to_string();
    check("app/vendor/lib", ".", &lib);
    git(&t, "app", &["pack-refs", "--all"]);
    check("side", ".", "ssh://example.org/app");
    git(&t, "side", &["checkout", "--quiet", "--detach"]);
    check("side", ".", "ssh://example.org/app");
    t.write("side/deep/Dockerfile", "FROM scratch\nLABEL deep=1\n");
    check("side/deep", "deep", "ssh://example.org/app");
    // One that the repository does not know says nothing of it.
    t.write("stranger/Dockerfile", "FROM scratch\nLABEL stranger=1\n");
    for pointer in ["side", "app/vendor/lib"] {
        let named = git(&t, pointer, &["rev-parse", "--absolute-git-dir"]);
        t.write("stranger/.git", format!("gitdir: {named}\n"));
        assert_eq!(vcs(&t, "stranger"), Value::Null, "{pointer}");
    }
}

#[test]
fn addresses_are_told_as_git_rewrites_them() {
    let t = TestEnv::new().file("app/Dockerfile", "FROM scratch\nLABEL a=b\n");
    git(&t, "app", &["init", "--quiet", "-b", "main"]);
    git(
        &t,
        "app",
        &["commit", "--quiet", "--allow-empty", "-m", "one"],
    );
    git(&t, "app", &["remote", "add", "origin", "gh:me/app.git"]);
    let source = || {
        let told = vcs(&t, "app")["source"].as_str().unwrap().to_owned();
        assert_eq!(told, git(&t, "app", &["remote", "get-url", "origin"]));
        told
    };
    assert_eq!(source(), "gh:me/app.git");
    fs::create_dir_all(t.beside("home")).unwrap();
    let home = t.beside("home/.gitconfig");
    fs::write(&home, "[url \"https://all.example/\"]\n\tinsteadOf = gh:\n").unwrap();
    assert_eq!(source(), "https://all.example/me/app.git");
    git(
        &t,
        "app",
        &["config", "url.ssh://mine.example/x/.insteadOf", "gh:me/"],
    );
    assert_eq!(source(), "ssh://mine.example/x/app.git");
    git(&t, "app", &["config", "extensions.worktreeConfig", "true"]);
    git(
        &t,
        "app",
        &[
            "config",
            "--worktree",
            "url.https://tree.example/.insteadOf",
            "gh:me/a",
        ],
    );
    assert_eq!(source(), "https://tree.example/pp.git");
}

#[test]
fn the_rung_that_was_taken_is_told() {
    let rung = |t: &TestEnv, options: &[&str]| {
        let stated = provenance(t, &[&["--provenance=mode=min"], options].concat());
        stated["buildDefinition"]["internalParameters"]["isolation"].clone()
    };
    assert_eq!(rung(&hello(), &[]), "root");
    let t = TestEnv::as_user("sub").dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    assert_eq!(rung(&t, &[]), "subid");
    let t = TestEnv::as_user("nosub").dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    assert_eq!(rung(&t, &[]), "single-id");
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
fn a_generator_scans_the_result_and_is_cached() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY f /dir/f\n")
        .file("f", "f");
    generator(&t, LIST);
    let layout = Layout::of(&t, "", &[SBOM, "--provenance=mode=min"]);
    let statements = layout.statements(0);
    assert_eq!(statements[0]["predicateType"], SPDX);
    assert_eq!(statements[0]["predicate"]["name"], "./dir/f ");
    assert_eq!(statements[0]["_type"], "https://in-toto.io/Statement/v1");
    let dependencies = &statements[1]["predicate"]["buildDefinition"]["resolvedDependencies"];
    let scanner = dependencies[0]["uri"].as_str().unwrap();
    assert!(
        scanner.starts_with("pkg:docker/localhost/generator@latest"),
        "{scanner}"
    );
    let again = t.build_with(&[SBOM]).ok();
    let cached = |step: &&String| step.contains("generating sbom") && step.ends_with("cached");
    assert!(
        again.steps().iter().any(|step| cached(&step)),
        "{:?}",
        again.steps()
    );
    t.build_with(&["-o", "out", SBOM]).ok();
    assert_eq!(
        json(&t.path("out/sbom.spdx.json"))["predicate"]["name"],
        "./dir/f "
    );
}

#[test]
fn further_stages_and_the_context_are_scanned_on_request() {
    let t = TestEnv::new()
        .file("f", "f")
        .file(".dockerignore", "Dockerfile\n.dockerignore\n");
    generator(&t, LIST);
    let scanned = |text: &str, options: &[&str]| -> Vec<String> {
        t.write("Dockerfile", text);
        let layout = Layout::of(&t, "", &[&[SBOM], options].concat());
        let names = layout.statements(0).into_iter();
        names
            .map(|s| s["predicate"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let stages = "FROM scratch AS tools\nCOPY f /t\nFROM scratch AS unused\nCOPY f /u\n\
                  FROM scratch\nCOPY --from=tools /t /r\n";
    assert_eq!(scanned(stages, &[]), ["./r "]);
    let stage = stages.replacen("COPY", "ARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY", 1);
    assert_eq!(scanned(&stage, &[]), ["./r ", "./t "]);
    let global = format!("ARG BUILDKIT_SBOM_SCAN_STAGE=tools,unused\n{stages}");
    assert_eq!(
        scanned(&global, &[]),
        ["./r ", "./t "],
        "only what is built is scanned"
    );
    let none = "--build-arg=BUILDKIT_SBOM_SCAN_STAGE=false";
    assert_eq!(scanned(&global, &[none]), ["./r "]);
    let context = format!("ARG BUILDKIT_SBOM_SCAN_CONTEXT=1\n{stages}");
    assert_eq!(scanned(&context, &[]), ["./r ", "./f "]);
    t.write(
        "Dockerfile",
        "FROM localhost/busybox\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN env\n",
    );
    let err = t.build().ok().stderr();
    assert!(
        !err.contains("BUILDKIT_SBOM_SCAN_STAGE=true\n"),
        "no step sees it: {err}"
    );
}

#[test]
fn a_generator_cannot_change_what_it_scans() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY f /f\n")
        .file("f", "f");
    let script =
        format!("if echo x > \"$BUILDKIT_SCAN_SOURCE/f\"; then exit 9; fi 2>/dev/null\n{LIST}");
    generator(&t, &script);
    t.build_with(&["-o", "out", SBOM]).ok();
    assert_eq!(fs::read_to_string(t.path("out/f")).unwrap(), "f");
}

#[test]
fn what_a_generator_must_not_do_is_said() {
    let t = hello();
    t.build_with(&["--sbom=generator=localhost/none"])
        .fails(1)
        .says("cannot scan the result with `localhost/none:latest`")
        .says(
            "hint: `--sbom generator=IMAGE` and `--sbom-scanner-image IMAGE` name another program",
        );
    for (script, why) in [
        ("true", "wrote no `*.spdx.json`"),
        (
            "echo x > $BUILDKIT_SCAN_DESTINATION/a.json",
            "`a.json` cannot be used",
        ),
        (
            "echo '{\"predicateType\":\"https://slsa.dev/provenance/v1\",\"predicate\":{}}' \
             > $BUILDKIT_SCAN_DESTINATION/a.json",
            "a generator states no provenance",
        ),
        (
            "dd if=/dev/zero of=$BUILDKIT_SCAN_DESTINATION/a.spdx.json bs=1048576 count=41",
            "at most 40 MiB are taken",
        ),
        ("exit 3", "exit code: 3"),
    ] {
        generator(&t, script);
        let told = t.build_with(&[SBOM, "-t", "never"]).fails(1).says(why);
        let told = told.says("cannot scan the result with `localhost/generator:latest`");
        let err = told.stderr();
        assert!(!err.contains("Dockerfile:1"), "no line asks for it: {err}");
        t.cooper(&["inspect", "never"]).fails(1);
    }
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
