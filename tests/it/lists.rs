//! Looking at images and machines, indexes made by hand, and copies from place to place: `tree`,
//! `diff`, `info`, `version`, `completion`, `manifest` and `copy` between transports.

use std::fs;

use serde_json::Value;

use crate::support::{Server, TestEnv};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Two images, the second with a layer more.
fn layered() -> TestEnv {
    let t = TestEnv::new()
        .dockerfile(
            "FROM scratch AS one\nENV A=1\nCOPY a b /d/\nCMD [\"x\"]\n\
             FROM one\nCOPY a /d/b\nCOPY new /new/\nLABEL l=1\n",
        )
        .file("a", "aaa")
        .file("b", "bbb")
        .file("new", "n");
    t.build_with(&["-q", "--target=one", "-t", "one"]).ok();
    t.build_with(&["-q", "-t", "two"]).ok();
    t
}

#[test]
fn a_tree_shows_layers_and_what_made_them() {
    let t = layered();
    let shown = t.cooper(&["tree", "two"]).ok().stdout();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("two:latest  "), "{shown}");
    assert_eq!(lines[1], "│    ENV A=1");
    for (line, branch, made_by) in [
        (lines[2], "├── ", "COPY a b /d/ # buildkit"),
        (lines[4], "├── ", "COPY a /d/b # buildkit"),
        (lines[5], "└── ", "COPY new /new/ # buildkit"),
    ] {
        assert!(
            line.starts_with(branch) && line.ends_with(made_by),
            "{shown}"
        );
        assert!(line.contains("kB"), "{shown}");
    }
    assert_eq!(lines[3], "│    CMD [\"x\"]");
    assert_eq!(lines[6], "     LABEL l=1");
    let list = json(&t.cooper(&["tree", "--format=json", "two"]).ok().stdout());
    assert_eq!(list.as_array().unwrap().len(), 3);
    assert_eq!(list[0]["Then"], json("[\"CMD [\\\"x\\\"]\"]"));
    t.cooper(&["tree", "none"]).fails(1).says("no image `none`");
}

#[test]
fn a_diff_tells_which_files_differ() {
    let t = layered();
    let diff = |args: &[&str]| t.cooper(&[&["diff"], args].concat()).ok().stdout();
    assert_eq!(diff(&["one", "two"]), "C /d/b\nA /new");
    assert_eq!(diff(&["two", "one"]), "C /d/b\nD /new");
    assert_eq!(diff(&["two"]), "A /new", "the newest layer alone");
    assert_eq!(diff(&["one", "one"]), "");
    let lists = json(&diff(&["--format=json", "one", "two"]));
    assert_eq!(lists, json(r#"{"changed":["/d/b"],"added":["/new"]}"#));
    // Equal contents in another layer, made at another time, are no difference.
    t.write("Dockerfile", "FROM scratch\nCOPY a b /d/\n");
    t.build_with(&["-q", "--no-cache", "-t", "again"]).ok();
    assert_eq!(diff(&["one", "again"]), "");
    t.write("Dockerfile", "FROM one\nCOPY --chmod=0600 a /d/a\n");
    t.build_with(&["-q", "-t", "mode"]).ok();
    assert_eq!(diff(&["one", "mode"]), "C /d/a");
}

#[test]
fn the_machine_and_the_version_are_told() {
    let t = layered();
    let info = json(&t.cooper(&["info", "--format=json"]).ok().stdout());
    assert_eq!(info["store"]["ImageStore"]["number"], 2);
    assert_eq!(info["host"]["rootless"], false);
    let root = t
        .cooper(&["info", "-f", "{{.store.GraphRoot}}"])
        .ok()
        .stdout();
    assert_eq!(root, t.root().display().to_string());
    assert!(
        t.cooper(&["info"])
            .ok()
            .stdout()
            .contains("isolation: root")
    );
    let sub = TestEnv::as_user("sub");
    let rootless = sub.cooper(&["info", "--format", "{{.host.rootless}}"]);
    assert_eq!(rootless.ok().stdout(), "true");
    let version = json(&t.cooper(&["version", "--json"]).ok().stdout());
    assert_eq!(version["Version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        json(&t.cooper(&["version", "-f", "json"]).ok().stdout()),
        version
    );
}

#[test]
fn shells_can_complete_command_lines() {
    let t = TestEnv::new();
    for (shell, part) in [
        ("bash", "complete -F _cooper"),
        ("zsh", "#compdef cooper"),
        ("fish", "complete -c cooper"),
    ] {
        let script = t.cooper(&["completion", shell]).ok().stdout();
        assert!(
            script.contains(part) && script.contains("unshare"),
            "{shell}"
        );
    }
    t.cooper(&["completion", "tcsh"]).fails(2);
    let script = t.cask(&["completion", "bash"]).ok().stdout();
    assert!(script.contains("complete -F _cask") && script.contains("unpause"));
}

#[test]
fn cask_has_the_verbs_about_images_and_the_machine_too() {
    let t = layered();
    let tree = |program: &str| match program {
        "cask" => t.cask(&["tree", "two"]).ok().stdout(),
        _ => t.cooper(&["tree", "two"]).ok().stdout(),
    };
    assert_eq!(tree("cask"), tree("cooper"));
    for info in [&["info"][..], &["system", "info"]] {
        let args = [info, &["-f", "{{.store.ImageStore.number}}"]].concat();
        assert_eq!(t.cask(&args).ok().stdout(), "2");
    }
    t.cask(&["manifest", "create", "list", "one"]).ok();
    let shown = t.cask(&["manifest", "inspect", "list"]).ok().stdout();
    assert_eq!(json(&shown)["manifests"].as_array().unwrap().len(), 1);
    t.cask(&["push", "-q", "two", "oci:layout:two"]).ok();
    let digest = t.cask(&["copy", "-q", "oci:layout:two", "dir:bare"]);
    assert_eq!(digest.ok().stdout().len(), 71);
    assert!(t.path("bare/manifest.json").exists());
}

fn platforms(t: &TestEnv, index: &str) -> Vec<String> {
    let index = json(&t.cooper(&["manifest", "inspect", index]).ok().stdout());
    let children = index["manifests"].as_array().unwrap().iter();
    let platform = |child: &Value| {
        let platform = &child["platform"];
        format!(
            "{}/{}",
            platform["os"].as_str().unwrap(),
            platform["architecture"].as_str().unwrap()
        )
    };
    children.map(platform).collect()
}

#[test]
fn an_index_is_made_changed_pushed_and_removed() {
    let registry = Server::http();
    let t = layered();
    t.write("Dockerfile", "FROM scratch\nCOPY b /b\n");
    t.build_with(&["-q", "--platform=linux/arm64", "-t", "arm"])
        .ok();
    let manifest = |args: &[&str]| t.cooper(&[&["manifest"], args].concat());
    manifest(&["exists", "list"]).fails(1);
    manifest(&["create", "list", "one"]).ok();
    manifest(&["exists", "list"]).ok();
    manifest(&["exists", "one"]).fails(1);
    manifest(&["create", "list"])
        .fails(1)
        .says("is there already")
        .says("--amend");
    manifest(&["create", "--amend", "--annotation=k=v", "list"]).ok();
    let with_arm = manifest(&["add", "list", "arm"]).ok().stdout();
    assert_eq!(
        manifest(&["add", "list", "arm"]).ok().stdout(),
        with_arm,
        "once is enough"
    );
    let host = host();
    assert_eq!(
        platforms(&t, "list"),
        [host.clone(), "linux/arm64".to_owned()]
    );
    manifest(&[
        "annotate",
        "--variant=v8",
        "--annotation=a=b",
        "list",
        "arm",
    ])
    .ok();
    let shown = json(&manifest(&["inspect", "list"]).ok().stdout());
    assert_eq!(shown["annotations"]["k"], "v");
    assert_eq!(shown["manifests"][1]["platform"]["variant"], "v8");
    assert_eq!(shown["manifests"][1]["annotations"]["a"], "b");

    let name = registry.name("team/list:1").full();
    let there = manifest(&["push", "-q", "list", &format!("docker://{name}")])
        .ok()
        .stdout();
    let other = TestEnv::new();
    other
        .cooper(&["manifest", "create", "--all", "mine", &name])
        .ok();
    assert_eq!(platforms(&other, "mine"), platforms(&t, "list"));
    other
        .cooper(&[
            "pull",
            "-q",
            "--platform=linux/arm64",
            &format!("{}@{there}", registry.name("team/list").name()),
        ])
        .ok();
    manifest(&["push", "list", "oci:dir"])
        .fails(2)
        .says("goes to a registry");

    manifest(&["remove", "list", "one"]).ok();
    assert_eq!(platforms(&t, "list"), ["linux/arm64"]);
    manifest(&["remove", "list", "one"])
        .fails(1)
        .says("does not hold `one`");
    manifest(&["rm", "one"]).fails(1).says("no index");
    assert_eq!(manifest(&["rm", "list"]).ok().stdout(), "list:latest");
    t.cooper(&["inspect", "arm"]).ok();
}

#[test]
fn options_that_change_nothing_are_accepted_and_retries_are_counted() {
    let t = layered();
    let idle = ["--rm", "--force-rm=true", "--disable-content-trust"];
    t.build_with(&idle).ok();
    let gone = "127.0.0.1:1/app";
    let pull = |options: &[&str]| t.cooper(&[&["pull", "-q", gone], options].concat());
    // Had it waited, nobody would have seen this end.
    pull(&["--retry=0", "--retry-delay=36000s"]).fails(1);
    pull(&["--retry=1", "--retry-delay=0.01"]).fails(1);
    pull(&["--retry-delay=soon"]).fails(2);
}

/// The platform of this machine, as an index names it.
fn host() -> String {
    let t = TestEnv::new().dockerfile("FROM scratch\nLABEL a=b\n");
    t.build_with(&["-q", "-t", "host"]).ok();
    t.cooper(&["inspect", "-f", "{{.Os}}/{{.Architecture}}", "host"])
        .ok()
        .stdout()
}

#[test]
fn images_are_copied_from_place_to_place_with_their_bytes() {
    let (here, there) = (Server::http(), Server::http());
    let t = layered();
    let from = format!("docker://{}", here.name("app:1").full());
    let to = format!("docker://{}", there.name("copy:1").full());
    let digest = t.cooper(&["push", "-q", "two", &from]).ok().stdout();
    let other = TestEnv::new();
    let copy = |args: &[&str]| other.cooper(&[&["copy", "-q"], args].concat());
    assert_eq!(copy(&[&from, &to]).ok().stdout(), digest);
    assert_eq!(
        copy(&["--digestfile=d", &to, "oci:layout:tag"])
            .ok()
            .stdout(),
        digest
    );
    assert_eq!(fs::read_to_string(other.path("d")).unwrap(), digest);
    assert_eq!(
        copy(&["oci:layout:tag", "oci-archive:a.tar"]).ok().stdout(),
        digest
    );
    copy(&["oci-archive:a.tar", "docker-archive:b.tar:app:2"]).ok();
    let tags = other.cooper(&["images", "--format", "{{.Tag}}"]).ok();
    assert_eq!(tags.stdout(), "<none>", "no name is given here");
    other.cooper(&["load", "-q", "-i", "b.tar"]).ok();
    other.cooper(&["inspect", "app:2"]).ok();
    copy(&["oci:nothing", "oci:y"]).fails(1);
    // The name of a container is never a place.
    other.cooper(&["from", "--name", "oci", "app:2"]).ok();
    other.write("f", "f");
    copy(&["oci", "f", "/f"]).ok();
    copy(&["--all", "oci", "f", "/f"]).fails(2).says("--all");
}

#[test]
fn all_platforms_are_copied_byte_for_byte() {
    let (here, there) = (Server::http(), Server::http());
    let t = TestEnv::new().dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let name = here.name("app:1").full();
    t.build_with(&[
        "-q",
        "--platform=linux/amd64,linux/arm64",
        "-t",
        &name,
        "--push",
    ])
    .ok();
    let (from, to) = (
        format!("docker://{name}"),
        format!("docker://{}", there.name("copy:1").full()),
    );
    let other = TestEnv::new();
    let digest = other
        .cooper(&["copy", "-q", "--all", &from, &to])
        .ok()
        .stdout();
    for platform in ["linux/amd64", "linux/arm64"] {
        let pinned = format!("{}@{digest}", there.name("copy").name());
        let pull = ["pull", "-q", "--platform", platform, &pinned];
        TestEnv::new().cooper(&pull).ok();
    }
}
