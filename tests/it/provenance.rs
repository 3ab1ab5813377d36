//! What provenance says of a build: how much of it, in which version, and where things came from.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::attestations::{Layout, hello, run};
use crate::support::git::{GitServer, Repo};
use crate::support::{Server, TestEnv};

/// The provenance that a build with these options states.
fn provenance(t: &TestEnv, options: &[&str]) -> Value {
    let layout = Layout::of(t, "", options);
    layout.statements(0)[0]["predicate"].clone()
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
