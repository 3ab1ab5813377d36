//! FROM, stages, ARG scopes, ONBUILD, and the config that comes out.

use serde_json::Value;

use crate::support::TestEnv;

fn config(t: &TestEnv, name: &str) -> Value {
    let text = t
        .cooper(&["inspect", "--format", "json", name])
        .ok()
        .stdout();
    let value: Value = serde_json::from_str(&text).unwrap();
    match value {
        Value::Array(mut images) => images.remove(0),
        other => other,
    }
}

#[test]
fn metadata_reaches_the_config_in_the_fields_docker_reads() {
    let t = TestEnv::new().dockerfile(concat!(
        "FROM scratch\nENV A=1 B=\"two words\"\nENV A=3\nLABEL l=v\nWORKDIR /w\nWORKDIR rel\n",
        "USER app:1\nEXPOSE 80 53/udp 7000-7001\nVOLUME /data\nSTOPSIGNAL SIGQUIT\n",
        "SHELL [\"/bin/ash\", \"-c\"]\nENTRYPOINT [\"/ep\"]\nCMD run me\n",
        "HEALTHCHECK --interval=30s --retries=2 CMD [\"/probe\"]\nONBUILD RUN make\nMAINTAINER me\n",
    ));
    t.build_with(&["-t", "x", "--label", "cli=yes"]).ok();
    let image = config(&t, "x");
    let config = &image["Config"];
    assert_eq!(config["Env"][1], "A=3");
    assert_eq!(config["Env"][2], "B=two words");
    assert!(config["Env"][0].as_str().unwrap().starts_with("PATH="));
    assert_eq!(config["Labels"]["l"], "v");
    assert_eq!(config["Labels"]["cli"], "yes");
    assert_eq!(config["WorkingDir"], "/w/rel");
    assert_eq!(config["User"], "app:1");
    let ports: Vec<&String> = config["ExposedPorts"].as_object().unwrap().keys().collect();
    assert_eq!(ports, ["53/udp", "7000/tcp", "7001/tcp", "80/tcp"]);
    assert!(config["Volumes"]["/data"].is_object());
    assert_eq!(config["StopSignal"], "SIGQUIT");
    assert_eq!(config["Shell"], serde_json::json!(["/bin/ash", "-c"]));
    assert_eq!(config["Entrypoint"], serde_json::json!(["/ep"]));
    assert_eq!(
        config["Cmd"],
        serde_json::json!(["/bin/ash", "-c", "run me"])
    );
    assert_eq!(
        config["Healthcheck"]["Test"],
        serde_json::json!(["CMD", "/probe"])
    );
    assert_eq!(config["Healthcheck"]["Interval"], 30_000_000_000_i64);
    assert_eq!(config["OnBuild"], serde_json::json!(["RUN make"]));
    assert_eq!(image["Author"], "me");
}

#[test]
fn history_reads_as_buildkit_writes_it() {
    let t = TestEnv::new().file("f", "1").dockerfile(
        "FROM busybox\nARG V=1\nENV E=$V\nCOPY f /f\nRUN echo hi\nWORKDIR /w\nEXPOSE 80\nCMD [\"a\", \"b\"]\n",
    );
    t.busybox("busybox");
    t.build_with(&["-t", "x"]).ok();
    let text = t
        .cooper(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "x"])
        .ok()
        .stdout();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..7],
        [
            "CMD [\"a\" \"b\"]",
            "EXPOSE [80/tcp]",
            "WORKDIR /w",
            "RUN |1 V=1 /bin/sh -c echo hi # buildkit",
            "COPY f /f # buildkit",
            "ENV E=1",
            "ARG V=1",
        ]
    );
}

#[test]
fn a_stage_inherits_config_and_args_of_its_base_stage() {
    let t = TestEnv::new().dockerfile(concat!(
        "ARG TAG=busybox\nFROM $TAG AS base\nARG A=1\nENV E=2\nWORKDIR /w\nCMD [\"x\"]\n",
        "FROM base\nRUN echo \"got $A $E $(pwd)\"\nENTRYPOINT [\"e\"]\n",
    ));
    t.busybox("busybox");
    let err = t.build_with(&["-t", "x"]).ok().stderr();
    assert!(err.contains("got 1 2 /w"), "{err}");
    let image = config(&t, "x");
    assert_eq!(image["Config"]["Entrypoint"], serde_json::json!(["e"]));
    assert!(
        image["Config"]["Cmd"].is_null(),
        "ENTRYPOINT clears an inherited CMD"
    );
}

#[test]
fn a_target_is_found_by_name_or_number_and_else_the_nearest_is_named() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch AS build\nENV S=1\nFROM scratch AS final\nENV S=2\n");
    for (target, want) in [
        ("build", "S=1"),
        ("BUILD", "S=1"),
        ("0", "S=1"),
        ("final", "S=2"),
    ] {
        t.build_with(&["-t", "x", "--target", target]).ok();
        assert_eq!(config(&t, "x")["Config"]["Env"][1], want);
    }
    t.build_with(&["--target", "biuld"])
        .fails(1)
        .says("target stage \"biuld\" could not be found")
        .says("`--target build`");
}

#[test]
fn copy_from_a_stage_keeps_owners_and_needs_it_to_come_first() {
    let t = TestEnv::new().dockerfile(concat!(
        "FROM busybox AS make\nRUN mkdir /o && echo x > /o/f && chown -R 5:6 /o && chmod 640 /o/f\n",
        "FROM busybox\nCOPY --from=make /o /o\nCOPY --from=0 /o/f /\n",
        "RUN stat -c '%u:%g %a' /o/f /f\n",
    ));
    t.busybox("busybox");
    let err = t.build().ok().stderr();
    assert_eq!(err.matches("5:6 640").count(), 2, "{err}");
    t.write(
        "Dockerfile",
        "FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b\nFROM a\n",
    );
    t.build().fails(1).says("Dockerfile:2");
}

#[test]
fn copy_from_an_image_reads_its_files() {
    let t = TestEnv::new().dockerfile("FROM scratch\nCOPY --from=busybox /bin/busybox /busybox\n");
    t.busybox("busybox");
    t.build_with(&["-t", "x"]).ok();
    let run = t
        .cask(&[
            "run",
            "--rm",
            "--network=none",
            "x",
            "/busybox",
            "echo",
            "from it",
        ])
        .ok();
    assert_eq!(run.stdout(), "from it");
}

#[test]
fn onbuild_triggers_run_in_the_child_once() {
    let t = TestEnv::new()
        .file("src", "hello")
        .dockerfile("FROM busybox\nONBUILD COPY src /src\nONBUILD RUN cat /src > /copied\n");
    t.busybox("busybox");
    t.build_with(&["-t", "base"]).ok();
    t.write("Dockerfile", "FROM base\nRUN cat /copied\n");
    let err = t.build_with(&["-t", "child"]).ok().stderr();
    assert!(err.contains("hello"), "{err}");
    assert!(config(&t, "child")["Config"]["OnBuild"].is_null());
}

#[test]
fn a_base_that_is_not_there_is_named_with_its_line() {
    let t = TestEnv::new().dockerfile("FROM localhost/missing:1\n");
    t.build()
        .fails(1)
        .says("localhost/missing:1")
        .says("Dockerfile:1");
    t.write("Dockerfile", "FROM missing\n");
    t.build_with(&["--pull=never"])
        .fails(1)
        .says("`missing:latest` is not in the store");
}

#[test]
fn a_slip_in_the_name_of_a_stage_or_common_image_is_told_beside_it() {
    let t = TestEnv::new().dockerfile("FROM scratch AS build\nFROM biuld\n");
    let shown = t.build_with(&["--pull=never"]).fails(1).shown_err();
    insta::assert_snapshot!(shown, @r"
    error: FROM biuld: image `biuld:latest` is not in the store, and `--pull=never` keeps it from being pulled
     --> Dockerfile:2:6
      |
    2 | FROM biuld
      |      ^^^^^ did you mean the stage `build`?
    ");
    for (target, text, label) in [
        (
            "1",
            "FROM scratch AS build\nFROM scratch\nCOPY --from=bulid a b\n",
            "^^^^^ did you mean the stage `build`?",
        ),
        (
            "0",
            "FROM build\nFROM scratch AS build\n",
            "^^^^^ the stage `build` is defined later, on line 2",
        ),
        (
            "0",
            "FROM ubunut:24.04\n",
            "^^^^^^^^^^^^ did you mean the image `ubuntu:24.04`?",
        ),
    ] {
        t.write("Dockerfile", text);
        t.build_with(&["--pull=never", "--target", target])
            .fails(1)
            .says(label);
    }
}

#[test]
fn unknown_instructions_and_flags_say_what_was_meant() {
    let t = TestEnv::new().dockerfile("FROM scratch\nCPOY a b\n");
    t.build()
        .fails(1)
        .says("unknown instruction: CPOY")
        .says("COPY")
        .says("Dockerfile:2");
    t.write("Dockerfile", "FROM scratch\nCOPY --form=x a b\n");
    t.build()
        .fails(1)
        .says("--form")
        .says("from")
        .says("Dockerfile:2");
}

#[test]
fn the_same_inputs_give_the_same_digest_as_root_and_as_an_ordinary_user() {
    let text = "FROM busybox\nCOPY f /f\nRUN mkdir /d && echo x > /d/x && chown 5:6 /d/x && ln -s x /d/l\nWORKDIR /w\n";
    let digest = |t: TestEnv| {
        let t = t
            .file("f", "1")
            .dockerfile(text)
            .var("SOURCE_DATE_EPOCH", "1700000000");
        t.chmod("f", 0o644);
        t.busybox("busybox");
        t.build_with(&["-q"]).ok().stdout()
    };
    let root = digest(TestEnv::new());
    assert_eq!(root, digest(TestEnv::new()), "two builds as root");
    assert_eq!(
        root,
        digest(TestEnv::as_user("sub")),
        "root and an ordinary user"
    );
}

#[test]
fn squash_leaves_one_layer_on_top_of_the_base() {
    let t = TestEnv::new().dockerfile(
        "FROM busybox\nRUN mkdir /d && echo 1 > /d/gone && echo 2 > /d/kept\nRUN rm /d/gone\n",
    );
    t.busybox("busybox");
    t.build_with(&["-t", "x", "--squash"]).ok();
    let layers = |name: &str| {
        config(&t, name)["RootFS"]["Layers"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(layers("x"), layers("busybox") + 1);
    let out = t.cask(&["run", "--rm", "x", "ls", "/d"]).ok();
    assert_eq!(out.stdout(), "kept");
}

/// A build with more layers than the 500 that overlayfs stacks. Removals and merged directories
/// must reach through the seam.
fn many_layers() -> TestEnv {
    let mut file = String::from("FROM busybox\nCOPY --link <<EOF /d/f\nEOF\n");
    for number in 0..510 {
        file += &format!("COPY --link <<EOF /n/{number}\nlayer {number}\nEOF\n");
    }
    file += concat!(
        "RUN [ $(ls /n | wc -l) = 510 ] && cat /n/0 /n/509 && rm -rf /d /n/1 && mkdir /d\n",
        "RUN [ $(ls /n | wc -l) = 509 ] && [ ! -e /n/1 ] && [ -z \"$(ls /d)\" ] && ls /bin/sh\n",
    );
    let t = TestEnv::new().dockerfile(&file);
    t.busybox("busybox");
    t
}

/// Builds them and reads the lowest and the highest in a container.
fn many_layers_work(t: &TestEnv, options: &[&str]) {
    let options = [&["-t", "x", "--network=none"], options].concat();
    let built = t.build_with(&options).ok();
    let _ = built.says("layer 0").says("layer 509");
    let run = ["run", "--rm", "--network=none", "x"];
    let read = t.cask(&[&run[..], &["cat", "/n/0", "/n/509"]].concat());
    assert_eq!(read.ok().stdout(), "layer 0\nlayer 509");
}

#[test]
fn more_layers_than_overlayfs_stacks_are_built_and_run() {
    let t = many_layers();
    many_layers_work(&t, &[]);
    t.cask(&["create", "--name", "box", "x"]).ok();
    t.cask(&["cp", "box:/n/2", t.path("got").to_str().unwrap()])
        .ok();
    t.cask(&["rm", "box"]).ok();
    assert_eq!(std::fs::read_to_string(t.path("got")).unwrap(), "layer 2\n");
}

#[test]
fn more_layers_than_overlayfs_stacks_are_built_on_a_copy() {
    many_layers_work(&many_layers(), &["--snapshotter=copy"]);
}

/// Word for word what docker writes.
#[test]
fn every_instruction_is_in_the_history_as_buildkit_writes_it() {
    let t = TestEnv::new().file("f", "1").file("d/x", "2");
    t.busybox("busybox");
    let base = config(&t, "busybox");
    t.write(
        "Dockerfile",
        concat!(
            "FROM busybox\nARG a=1\nARG none\nARG b=2 c\nENV k=v l=\"w x\"\nLABEL a=b c=\"d e\"\n",
            "WORKDIR w\nUSER u\nEXPOSE 81/udp 80\nVOLUME /a /b\nSTOPSIGNAL SIGTERM\n",
            "SHELL [\"/bin/sh\", \"-c\"]\nCMD [\"a\", \"b c\"]\nCMD a  b\nENTRYPOINT [\"a\"]\n",
            "HEALTHCHECK --interval=3s --retries=2 CMD x y\nMAINTAINER me\nUSER root\n",
            "COPY --chown=1:2 --chmod=644 f d/x /dst/\nCOPY --parents f /p/\nCOPY --link f /l\n",
            "ADD --chown=3 f /add\nCOPY <<EOT <<X /h/\na\nEOT\nb\nX\n",
            "RUN --mount=type=tmpfs,target=/t --network=none echo  hi   there\nRUN [\"echo\", \"a\"]\n",
            "RUN <<EOT\n: one\nEOT\nRUN <<EOT\n#!/bin/sh\nEOT\nARG a=3\nRUN echo\nONBUILD RUN x\n",
        ),
    );
    t.build_with(&["-t", "x"]).ok();
    let format = ["history", "--no-trunc", "--format", "{{.CreatedBy}}", "x"];
    let text = t.cooper(&format).ok().stdout();
    let lines: Vec<&str> = text.lines().rev().collect();
    assert_eq!(
        lines[base_entries(&t)..],
        [
            "ARG a=1",
            "ARG none",
            "ARG b=2 c",
            "ENV k=v l=w x",
            "LABEL a=b c=d e",
            "WORKDIR /w",
            "USER u",
            "EXPOSE [80/tcp 81/udp]",
            "VOLUME [/a /b]",
            "STOPSIGNAL SIGTERM",
            "SHELL [/bin/sh -c]",
            "CMD [\"a\" \"b c\"]",
            "CMD [\"/bin/sh\" \"-c\" \"a  b\"]",
            "ENTRYPOINT [\"a\"]",
            "HEALTHCHECK &{[\"CMD-SHELL\" \"x y\"] \"3s\" \"0s\" \"0s\" \"0s\" '\\x02'}",
            "MAINTAINER me",
            "USER root",
            "COPY --chown=1:2 --chmod=644 f d/x /dst/ # buildkit",
            "COPY --parents f /p/ # buildkit",
            "COPY f /l # buildkit",
            "ADD --chown=3 f /add # buildkit",
            "COPY <<EOT <<X /h/ # buildkit",
            "RUN |4 a=1 none= b=2 c= /bin/sh -c echo  hi   there # buildkit",
            "RUN |4 a=1 none= b=2 c= echo a # buildkit",
            "RUN |4 a=1 none= b=2 c= /bin/sh -c : one  # buildkit",
            "RUN |4 a=1 none= b=2 c= /bin/sh -c /dev/pipes/EOT # buildkit",
            "ARG a=3",
            "RUN |4 a=3 none= b=2 c= /bin/sh -c echo # buildkit",
        ]
    );
    let count = |image: &Value| image["RootFS"]["Layers"].as_array().unwrap().len();
    assert_eq!(count(&config(&t, "x")), count(&base) + 11);
}

/// How many entries the history of the tests' busybox has.
fn base_entries(t: &TestEnv) -> usize {
    let history = t.cooper(&["history", "-q", "busybox"]).ok().stdout();
    history.lines().count()
}

#[test]
fn an_entry_of_the_history_has_time_comment_and_whether_it_is_a_layer() {
    let t = TestEnv::new()
        .file("f", "1")
        .dockerfile("FROM scratch\nLABEL a=b\nCOPY f /f\nONBUILD LABEL c=d\n");
    t.build_with(&[
        "--timestamp=1",
        "-o",
        "type=docker,dest=../x.tar",
        "-t",
        "x",
    ])
    .ok();
    let mut tar = tar::Archive::new(std::fs::File::open(t.beside("x.tar")).unwrap());
    let history = tar.entries().unwrap().find_map(|entry| {
        let value: Value = serde_json::from_reader(entry.unwrap()).ok()?;
        value.get("history").cloned()
    });
    let time = "1970-01-01T00:00:01Z";
    let comment = "buildkit.dockerfile.v0";
    let want = serde_json::json!([
        { "created": time, "created_by": "LABEL a=b", "comment": comment, "empty_layer": true },
        { "created": time, "created_by": "COPY f /f # buildkit", "comment": comment },
    ]);
    assert_eq!(history, Some(want));
}

#[test]
fn a_base_without_layers_gives_its_config_and_a_path() {
    let t = TestEnv::new()
        .file("f", "1")
        .dockerfile("FROM scratch\nENV a=b\n");
    t.build_with(&["-t", "empty", "--unsetenv", "PATH"]).ok();
    assert_eq!(
        config(&t, "empty")["Config"]["Env"],
        serde_json::json!(["a=b"])
    );
    t.write("Dockerfile", "FROM empty\nCOPY f /f\n");
    assert_eq!(t.listing(&[], "."), ["-rw-r--r-- 0/0 f"]);
    t.build_with(&["-t", "x"]).ok();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let image = config(&t, "x");
    assert_eq!(image["Config"]["Env"], serde_json::json!(["a=b", path]));
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 1);
}

#[test]
fn a_stage_hides_the_image_of_its_name_and_is_found_in_any_case() {
    let t = TestEnv::new().file("f", "stage").dockerfile(concat!(
        "FROM scratch AS BusyBox\nCOPY f /f\nFROM busybox\nCOPY --from=BUSYBOX /f /by-name\n",
        "COPY --from=0 /f /by-number\n",
    ));
    t.busybox("busybox");
    let out = t.files(&[], ".");
    assert!(!out.path("bin").exists(), "it is the stage");
    assert_eq!(out.read("by-name") + &out.read("by-number"), "stagestage");
}

#[test]
fn what_fails_to_come_of_a_base_is_told_where_the_file_names_it() {
    let registry = crate::support::Server::http();
    let name = registry.name("base:1").full();
    let t = TestEnv::new()
        .file("f", "1")
        .dockerfile("FROM scratch\nCOPY f /f\n");
    t.build_with(&["-t", &name, "--push"]).ok();
    assert_eq!(damage_layers(&registry.data()), 1);
    let t = TestEnv::new().dockerfile(&format!(
        "FROM scratch AS first\nFROM {name} AS second\nENV a=b\nWORKDIR /w\n"
    ));
    let told = t.build().fails(1).says("Dockerfile:2");
    assert!(!told.stderr().contains("Dockerfile:4"), "{}", told.stderr());
}

/// Overwrites what is compressed below `dir`, and returns how much that is.
fn damage_layers(dir: &std::path::Path) -> usize {
    let paths = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    paths
        .map(|path| match path.is_dir() {
            true => damage_layers(&path),
            false if std::fs::read(&path).unwrap().starts_with(&[0x1f, 0x8b]) => {
                std::fs::write(&path, "damaged").unwrap();
                1
            }
            false => 0,
        })
        .sum()
}
