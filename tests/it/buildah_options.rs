//! Options that buildah's `build` and `run` have and docker's have not: each with what it does, or
//! with the reason why it is refused.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::support::TestEnv;

/// An environment with busybox and this Dockerfile.
fn with(dockerfile: &str) -> TestEnv {
    let t = TestEnv::new().dockerfile(dockerfile);
    t.busybox("busybox");
    t
}

fn field(t: &TestEnv, image: &str, template: &str) -> String {
    t.cooper(&["inspect", "--format", template, image])
        .ok()
        .stdout()
}

/// What a program of the image prints.
fn output(t: &TestEnv, image: &str, program: &[&str]) -> String {
    let args = [&["run", "--rm", image], program].concat();
    t.cask(&args).ok().stdout()
}

#[test]
fn variables_of_a_build_reach_every_stage_and_can_be_left_out_of_the_result() {
    let t = with(
        "FROM busybox AS one\nRUN echo $A > /a\nENV A=mine\n\
         FROM busybox\nRUN echo $A $B > /b\nCOPY --from=one /a /a\n",
    )
    .var("PASSED", "outside");
    let build = |more: &[&str]| t.build_with(&[&["-q", "-t", "x"], more].concat()).ok();
    build(&["--env=A=1", "--env=B=2", "--env=PASSED", "--env=NONE"]);
    assert_eq!(output(&t, "x", &["cat", "/a", "/b"]), "1\n1 2");
    let env = field(&t, "x", "{{json .Config.Env}}");
    assert!(env.contains(r#""A=1","B=2","PASSED=outside""#), "{env}");
    assert!(!env.contains("NONE"), "{env}");
    build(&["--env=A=1", "--env=B=2", "--unsetenv=A,C"]);
    let env = field(&t, "x", "{{json .Config.Env}}");
    assert!(env.contains(r#""B=2""#) && !env.contains("A=1"), "{env}");
    assert_eq!(output(&t, "x", &["cat", "/b"]), "1 2", "steps had it");
    build(&["--env=A=3"]);
    assert_eq!(output(&t, "x", &["cat", "/a", "/b"]), "3\n3");
}

#[test]
fn labels_of_a_base_are_taken_over_unless_they_are_not_wanted() {
    let t = with("FROM busybox\nLABEL a=base b=base\n");
    t.build_with(&["-q", "-t", "base"]).ok();
    t.write("Dockerfile", "FROM base\nLABEL c=own\n");
    let labels = |more: &[&str]| {
        t.build_with(&[&["-q", "-t", "x"], more].concat()).ok();
        field(&t, "x", "{{json .Config.Labels}}")
    };
    assert_eq!(labels(&[]), r#"{"a":"base","b":"base","c":"own"}"#);
    let some = labels(&["--unsetlabel=a", "--unsetlabel=c"]);
    assert_eq!(some, r#"{"b":"base","c":"own"}"#, "its own stay");
    let none = labels(&["--inherit-labels=false", "--label=d=more"]);
    assert_eq!(none, r#"{"c":"own","d":"more"}"#);
    let identity = labels(&["--inherit-labels=false", "--identity-label"]);
    assert!(identity.contains(env!("CARGO_PKG_VERSION")), "{identity}");
    assert!(!labels(&["--identity-label=false"]).contains("version"));
}

#[test]
fn what_an_image_says_of_itself_can_be_chosen() {
    let t = with("FROM busybox\nRUN touch /x\n");
    t.build_with(&["-q", "-t", "x", "--format=docker", "--omit-history"])
        .ok();
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    assert_eq!(field(&t, "x", "{{.Descriptor.mediaType}}"), docker);
    assert_eq!(field(&t, "x", "{{len .History}}"), "0");
    assert_eq!(output(&t, "x", &["ls", "/x"]), "/x");
    t.cooper(&["push", "-q", "x", "dir:out"]).ok();
    let manifest: Value =
        serde_json::from_slice(&fs::read(t.path("out/manifest.json")).unwrap()).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        let kind = layer["mediaType"].as_str().unwrap();
        assert!(kind.starts_with("application/vnd.docker."), "{kind}");
    }
    t.build_with(&[
        "-q",
        "-t",
        "y",
        "--timestamp=1000",
        "--created-annotation",
        "--os-version=6.1",
        "--os-feature=f",
    ])
    .ok();
    let created = field(
        &t,
        "y",
        r#"{{index .Annotations "org.opencontainers.image.created"}}"#,
    );
    assert_eq!(created, "1970-01-01T00:16:40Z");
    t.cooper(&["push", "-q", "y", "dir:y"]).ok();
    let manifest: Value =
        serde_json::from_slice(&fs::read(t.path("y/manifest.json")).unwrap()).unwrap();
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config = config.strip_prefix("sha256:").unwrap();
    let config: Value =
        serde_json::from_slice(&fs::read(t.path("y").join(config)).unwrap()).unwrap();
    assert_eq!(config["os.version"], "6.1");
    assert_eq!(config["os.features"], serde_json::json!(["f"]));
    t.build_with(&["--format=bogus"]).fails(2);
}

#[test]
fn the_first_base_and_the_ignore_file_can_be_named() {
    let t = with("FROM nothing-like-it AS one\nCOPY . /d/\nFROM one\nRUN ls /d > /list\n")
        .file("a", "a")
        .file("b", "b")
        .file(".dockerignore", "a\n")
        .file("ignore/own", "b\nDockerfile\nignore\n.dockerignore\n");
    t.build_with(&["-q", "-t", "x", "--from=busybox", "--ignorefile=ignore/own"])
        .ok();
    assert_eq!(output(&t, "x", &["cat", "/list"]), "a");
    t.build_with(&["--from=busybox", "--ignorefile=none"])
        .fails(1)
        .says("none");
}

#[test]
fn a_platform_can_be_given_in_parts() {
    let t =
        TestEnv::new().dockerfile("FROM scratch\nARG TARGETPLATFORM\nLABEL p=$TARGETPLATFORM\n");
    t.build_with(&["-q", "-t", "x", "--arch=arm", "--variant=v7", "--os=linux"])
        .ok();
    let about = field(&t, "x", "{{.Os}}/{{.Architecture}} {{.Config.Labels.p}}");
    assert_eq!(about, "linux/arm linux/arm/v7");
    t.build_with(&["--arch=arm", "--platform=linux/amd64"])
        .fails(2);
}

#[test]
fn images_are_added_to_an_index_only_when_all_is_done() {
    let t = TestEnv::new().dockerfile("FROM scratch\nARG TARGETARCH\nLABEL a=$TARGETARCH\n");
    let build = |more: &[&str]| t.build_with(&[&["-q", "--manifest=list"], more].concat());
    let platforms = || {
        let shown = t.cooper(&["manifest", "inspect", "list"]).ok().stdout();
        let index: Value = serde_json::from_str(&shown).unwrap();
        let arch = |entry: &Value| {
            entry["platform"]["architecture"]
                .as_str()
                .map(str::to_owned)
        };
        let entries = index["manifests"].as_array().unwrap();
        entries.iter().filter_map(arch).collect::<Vec<_>>()
    };
    build(&["--platform=linux/arm64"]).ok();
    assert_eq!(platforms(), ["arm64"]);
    build(&["--platform=linux/amd64,linux/riscv64"]).ok();
    assert_eq!(platforms(), ["arm64", "amd64", "riscv64"]);
    build(&["--platform=linux/arm64"]).ok();
    assert_eq!(platforms().len(), 3, "the same image is there once");
    t.write(
        "Dockerfile",
        "FROM scratch AS amd64\nFROM scratch AS arm64\nCOPY none /\nFROM $TARGETARCH\n",
    );
    let failing = [
        "-q",
        "--manifest=other",
        "--platform=linux/amd64,linux/arm64",
    ];
    t.build_with(&failing).fails(1);
    t.cooper(&["manifest", "exists", "other"]).exits(1);
}

#[test]
fn paths_of_the_machine_are_mounted_into_every_run() {
    let t =
        with("FROM busybox\nRUN cat /host/f > /seen; touch /host/back\n").file("host/f", "one\n");
    let host = format!("{}:/host", t.path("host").display());
    let build = |more: &[&str]| t.build_with(&[&["-t", "x"], more].concat());
    build(&["-v", &host]).ok();
    assert_eq!(output(&t, "x", &["cat", "/seen"]), "one");
    assert!(t.path("host/back").exists());
    t.cask(&["run", "--rm", "x", "ls", "/host"]).fails(1);
    // What lies there does not count, as with a cache; that it is mounted does.
    t.write("host/f", "two\n");
    let again = build(&["-v", &host]).ok().stderr();
    assert!(again.contains("CACHED"), "{again}");
    let fails = build(&[]).fails(1).stderr();
    assert!(fails.contains("exit code"), "{fails}");
    build(&["-v", "name:/host"])
        .fails(2)
        .says("needs a path of the machine");
}

#[test]
fn run_reads_standard_input_when_it_may_and_is_never_answered_for() {
    let t = with("FROM busybox\nRUN cat > /in\n");
    let build = |input: &[u8], more: &[&str]| {
        let args = [&["build", "-q", "-t", "x"], more, &["."]].concat();
        t.cooper_reading(input, &args)
    };
    build(b"one", &["--stdin"]).ok();
    assert_eq!(output(&t, "x", &["cat", "/in"]), "one");
    build(b"two", &["--stdin"]).ok();
    assert_eq!(output(&t, "x", &["cat", "/in"]), "two");
    build(b"three", &[]).ok();
    assert_eq!(output(&t, "x", &["cat", "/in"]), "");
    t.cooper_reading(b"FROM busybox\n", &["build", "--stdin", "-f", "-", "."])
        .fails(2)
        .says("standard input");
}

#[test]
fn standard_input_is_left_to_the_caller() {
    let t = with("FROM busybox\nRUN cat > /in\n");
    let script = "cooper=$1; $cooper build -q -t x . >/dev/null; cat";
    let mut shell = t.command("sh");
    shell
        .args(["-euc", script, "sh", env!("CARGO_BIN_EXE_cooper")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    shell.stdin.take().unwrap().write_all(b"for later").unwrap();
    let out = shell.wait_with_output().unwrap();
    assert!(out.status.success());
    assert_eq!(out.stdout, b"for later");
}

#[test]
fn names_of_hosts_can_be_the_images_own_or_the_callers() {
    let t = with(
        "FROM busybox AS base\nCOPY hosts /etc/hosts\nCOPY hosts /etc/resolv.conf\n\
         FROM base\nRUN cat /etc/hosts > /h; cat /etc/resolv.conf > /r\n",
    )
    .file("hosts", "10.9.8.7 own\n");
    let seen = |more: &[&str], file: &str| {
        let args = [&["-q", "-t", "x", "--network=host"], more].concat();
        t.build_with(&args).ok();
        output(&t, "x", &["cat", file])
    };
    assert!(seen(&[], "/h").contains("localhost"));
    assert_eq!(seen(&["--no-hosts"], "/h"), "10.9.8.7 own");
    assert_eq!(seen(&["--dns=none"], "/r"), "10.9.8.7 own");
    let chosen = seen(
        &[
            "--dns=10.1.1.1",
            "--dns-search=a.example,b.example",
            "--dns-option=ndots:2",
            "--no-hostname",
        ],
        "/r",
    );
    for line in [
        "nameserver 10.1.1.1",
        "search a.example b.example",
        "options ndots:2",
    ] {
        assert!(chosen.lines().any(|found| found == line), "{chosen}");
    }
    t.build_with(&["--no-hosts", "--add-host=a:1.2.3.4"])
        .fails(2);
}

#[test]
fn groups_are_added_by_name_and_number_and_count_for_the_cache() {
    let t = with(
        "FROM busybox AS base\nCOPY group passwd /etc/\nFROM base\nUSER app\nRUN id -G > /tmp/g\n",
    )
    .file("group", "root:x:0:\napp:x:7:\nextra:x:50:\n")
    .file("passwd", "root:x:0:0::/:/bin/sh\napp:x:7:7::/:/bin/sh\n");
    let groups = |more: &[&str]| {
        t.build_with(&[&["-q", "-t", "x"], more].concat()).ok();
        output(&t, "x", &["cat", "/tmp/g"])
    };
    assert_eq!(groups(&[]), "7");
    assert_eq!(groups(&["--group-add=extra", "--group-add=77"]), "7 50 77");
    assert_eq!(groups(&[]), "7");
    t.build_with(&["--group-add=nope"])
        .fails(1)
        .says("group `nope`");
    t.build_with(&["--group-add=keep-groups,extra"]).fails(2);
    t.build_with(&["-q", "--group-add=keep-groups"]).ok();
    t.cooper(&["from", "--name=c", "x"]).ok();
    let run = t.cooper(&["run", "--group-add=extra", "c", "id", "-G"]);
    assert_eq!(run.ok().stdout(), "7 50");
}

#[test]
fn a_log_file_has_the_progress_and_standard_error_has_not() {
    let t = with("FROM busybox\nRUN echo in the log\n");
    let out = t.build_with(&["--no-cache", "--logfile=log"]).ok();
    assert!(!out.stderr().contains("in the log"), "{}", out.stderr());
    let first = fs::read_to_string(t.path("log")).unwrap();
    assert!(first.contains("RUN echo in the log") && first.contains("DONE"));
    t.build_with(&["-q", "--no-cache", "--logfile=log"]).ok();
    let both = fs::read_to_string(t.path("log")).unwrap();
    assert!(both.starts_with(&first) && both.len() > first.len());
}

#[test]
fn an_id_can_be_written_without_its_algorithm() {
    let t = with("FROM busybox\n");
    t.build_with(&["--iidfile=id", "--iidfile-raw=raw"]).ok();
    let read = |name: &str| fs::read_to_string(t.path(name)).unwrap();
    assert_eq!(read("id"), format!("sha256:{}", read("raw")));
    t.build_with(&["--iidfile-raw=raw", "--platform=linux/amd64,linux/arm64"])
        .fails(2);
}

#[test]
fn proxies_can_be_kept_from_run() {
    let t = with("FROM busybox\nRUN echo \"<$http_proxy>\" > /p\n").var("HTTP_PROXY", "http://p:1");
    let seen = |more: &[&str]| {
        t.build_with(&[&["-q", "--no-cache", "-t", "x"], more].concat())
            .ok();
        output(&t, "x", &["cat", "/p"])
    };
    assert_eq!(seen(&[]), "<http://p:1>");
    assert_eq!(seen(&["--http-proxy=false"]), "<>");
}

#[test]
fn tags_may_be_places() {
    let t = with("FROM busybox\nRUN touch /x\n");
    t.build_with(&["-q", "-t", "x", "-t", "oci:layout:tag", "-t", "dir:bare"])
        .ok();
    let id = field(&t, "x", "{{.Id}}");
    for place in ["oci:layout:tag", "dir:bare"] {
        let other = TestEnv::new();
        let (transport, path) = place.split_once(':').unwrap();
        let from = format!("{transport}:{}", t.path(path).display());
        assert_eq!(other.cooper(&["pull", "-q", &from]).ok().stdout(), id);
    }
    t.build_with(&["-t", "nonsense://x"]).fails(2);
}

#[test]
fn a_source_policy_denies_and_replaces_images_and_urls() {
    let t = with("FROM old:1 AS one\nRUN touch /x\nFROM busybox\nCOPY --from=one /x /x\n").file(
        "policy",
        r#"{"rules":[
            {"action":"CONVERT","selector":{"identifier":"docker-image://docker.io/library/old:*"},
             "updates":{"identifier":"docker-image://docker.io/library/busybox:latest"}},
            {"action":"DENY","selector":{"identifier":"https://*"}}]}"#,
    );
    t.build_with(&["-q", "-t", "x", "--source-policy-file=policy"])
        .ok();
    assert_eq!(output(&t, "x", &["ls", "/x"]), "/x");
    t.write("Dockerfile", "FROM busybox\nADD https://127.0.0.1:1/f /f\n");
    t.build_with(&["--source-policy-file=policy"])
        .fails(1)
        .says("the source policy denies `https://127.0.0.1:1/f`");
    t.write(
        "policy",
        r#"{"rules":[{"action":"DENY","selector":{"identifier":"docker-image://busybox","matchType":"EXACT"}}]}"#,
    );
    t.write("Dockerfile", "FROM scratch\nCOPY --from=busybox /bin /b\n");
    let denied = "the source policy denies `docker-image://docker.io/library/busybox:latest`";
    t.build_with(&["--source-policy-file=policy"])
        .fails(1)
        .says(denied);
    let t = t.var("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", "policy");
    t.build().fails(1).says(denied);
    t.build_with(&["--source-policy-file=none"]).fails(1);
    t.write(
        "policy",
        r#"{"rules":[{"action":"BOGUS","selector":{"identifier":"a"}}]}"#,
    );
    t.build().fails(1).says("rule 1");
}

#[test]
fn what_holds_anyway_is_accepted() {
    let t = with("FROM busybox\nRUN true\n");
    t.build_with(&[
        "-q",
        "--isolation=oci",
        "--userns=host",
        "--pid=private",
        "--ipc=private",
        "--uts=private",
        "--cgroupns=private",
        "--rm",
        "--force-rm",
        "--layers",
        "--compress",
        "--disable-compression",
        "--disable-content-trust",
        "--inherit-annotations=false",
        "--skip-unused-stages",
        "--compat-volumes=false",
        "--logsplit=false",
    ])
    .ok();
    t.cooper(&["--isolation=rootless", "build", "-q", "."]).ok();
    t.cooper(&["from", "--name=c", "busybox"]).ok();
    t.cooper(&["run", "--pid=private", "--no-pivot=false", "c", "true"])
        .ok();
}

#[test]
fn what_can_not_be_had_is_refused_with_the_reason() {
    let t = with("FROM busybox\nRUN true\n");
    for (option, why) in [
        ("--pid=host", "has this namespace to itself"),
        ("--ipc=host", "has this namespace to itself"),
        ("--uts=/proc/1/ns/uts", "has this namespace to itself"),
        ("--cgroupns=host", "has this namespace to itself"),
        ("--userns=container", "belongs to one id map"),
        ("--userns-uid-map=0:1:2", "belongs to one id map"),
        ("--runtime=crun", "not by an OCI runtime"),
        ("--runtime-flag=debug", "not by an OCI runtime"),
        ("--hooks-dir=/x", "not by an OCI runtime"),
        ("--cgroup-parent=x", "control groups"),
        ("--decryption-key=k", "encrypted layers"),
        ("--sign-by=k", "not signed"),
        ("--signature-policy=f", "not signed"),
        ("--cw=type=snp", "encrypted disk images"),
        ("--cpp-flag=-DX", "preprocessor"),
        ("--layer-label=a=b", "leave layers"),
        ("--inherit-annotations", "about that image"),
        ("--compat-volumes", "is kept"),
        ("--skip-unused-stages=false", "are not built"),
        ("--all-platforms", "has to be said"),
        ("--logsplit", "one log"),
        ("--isolation=kata", "expected root, subid"),
    ] {
        t.build_with(&[option]).fails(2).says(why);
    }
    t.cooper(&["from", "--name=c", "busybox"]).ok();
    for (option, why) in [
        ("--pid=host", "has this namespace to itself"),
        ("--runtime=crun", "not by an OCI runtime"),
        ("--no-pivot", "pivot_root"),
    ] {
        t.cooper(&["run", option, "c", "true"]).fails(2).says(why);
    }
    t.cooper(&["mkcw", "create", "--x", "y"])
        .fails(2)
        .says("encrypted disk images");
}
