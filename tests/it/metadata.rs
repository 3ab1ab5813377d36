//! The instructions that only describe: CMD to ONBUILD, and the config fields they write.
//!
//! Configs are read as they are written, out of a layout, because what is left out counts too.

use std::fs;

use serde_json::{Value, json};

use crate::support::TestEnv;

/// Builds `text` and returns the image's config as it was written.
fn image(t: &TestEnv, text: &str, options: &[&str]) -> Value {
    t.write("Dockerfile", text);
    let layout = t.beside("layout");
    let _ = fs::remove_dir_all(&layout);
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    t.build_with(&[&["-o", &output], options].concat()).ok();
    let blob = |digest: &Value| -> Value {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        let bytes = fs::read(layout.join("blobs/sha256").join(hex)).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    let index = fs::read(layout.join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let manifest = blob(&index["manifests"][0]["digest"]);
    blob(&manifest["config"]["digest"])
}

/// The defaults for a container that `FROM scratch` and these lines give.
fn config(t: &TestEnv, lines: &str) -> Value {
    image(t, &format!("FROM scratch\n{lines}\n"), &[])["config"].take()
}

/// Builds each text of a table on `FROM scratch` and expects it to fail with these words.
fn errors(table: &[(&str, &str)]) {
    let t = TestEnv::new();
    for (lines, want) in table {
        t.write("Dockerfile", format!("FROM scratch\n{lines}\n"));
        let err = t.build().fails(1).stderr();
        assert!(
            err.contains(want),
            "{lines:?} does not say {want:?}:\n{err}"
        );
    }
}

/// Mode, owner and group of each path of the file system that `text` gives.
fn files(t: &TestEnv, text: &str) -> Vec<String> {
    t.write("Dockerfile", text);
    t.build_with(&["-o", "type=tar,dest=../files.tar"]).ok();
    let mut tar = tar::Archive::new(fs::File::open(t.beside("files.tar")).unwrap());
    let shown = |entry: std::io::Result<tar::Entry<'_, fs::File>>| {
        let entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let header = entry.header();
        let (uid, gid) = (header.uid().unwrap(), header.gid().unwrap());
        format!("{path} {:o} {uid}:{gid}", header.mode().unwrap())
    };
    tar.entries().unwrap().map(shown).collect()
}

#[test]
fn commands_are_stored_as_lists_and_the_last_counts() {
    let t = TestEnv::new();
    let made = config(
        &t,
        "CMD [\"no\"]\nCMD echo  $HOME \"a b\"\nENTRYPOINT [\"/e\", \"$x\"]",
    );
    assert_eq!(made["Cmd"], json!(["/bin/sh", "-c", "echo  $HOME \"a b\""]));
    assert_eq!(made["Entrypoint"], json!(["/e", "$x"]));
    assert_eq!(made["ArgsEscaped"], true);
    let made = config(&t, "ENTRYPOINT run it");
    assert_eq!(made["Entrypoint"], json!(["/bin/sh", "-c", "run it"]));
    assert!(made["ArgsEscaped"].is_null(), "only a CMD says so: {made}");
}

#[test]
fn an_entrypoint_leaves_a_cmd_of_its_own_stage_alone_on_either_side() {
    let t = TestEnv::new();
    for lines in [
        "CMD [\"c\"]\nENTRYPOINT [\"e\"]",
        "ENTRYPOINT [\"e\"]\nCMD [\"c\"]",
    ] {
        let made = config(&t, lines);
        assert_eq!(made["Cmd"], json!(["c"]), "{lines}");
    }
    let child = "CMD [\"old\"]\nFROM p\nCMD [\"new\"]\nENTRYPOINT [\"e\"]\n";
    let made = image(&t, &format!("FROM scratch AS p\n{child}"), &[]);
    assert_eq!(made["config"]["Cmd"], json!(["new"]));
}

#[test]
fn an_empty_list_clears_a_command() {
    let t = TestEnv::new();
    let base = "FROM scratch AS p\nENTRYPOINT [\"e\"]\nCMD [\"c\"]\nFROM p\n";
    let made = image(&t, &format!("{base}ENTRYPOINT []\n"), &[]);
    let fields = made["config"].as_object().unwrap();
    assert!(!fields.contains_key("Entrypoint"), "{made}");
    assert!(!fields.contains_key("Cmd"), "{made}");
    let made = image(&t, &format!("{base}CMD []\n"), &[]);
    assert!(made["config"].get("Cmd").is_none(), "{made}");
    assert_eq!(made["config"]["Entrypoint"], json!(["e"]));
}

#[test]
fn a_shell_serves_the_shell_forms_below_it_and_no_health_check() {
    let t = TestEnv::new();
    let made = image(
        &t,
        concat!(
            "FROM scratch AS p\nENTRYPOINT before\nSHELL [\"/ash\", \"-ec\"]\n",
            "HEALTHCHECK CMD probe\nFROM p\nCMD after\n",
        ),
        &[],
    );
    let made = &made["config"];
    assert_eq!(made["Entrypoint"], json!(["/bin/sh", "-c", "before"]));
    assert_eq!(made["Cmd"], json!(["/ash", "-ec", "after"]));
    assert_eq!(made["Shell"], json!(["/ash", "-ec"]));
    assert_eq!(made["Healthcheck"]["Test"], json!(["CMD-SHELL", "probe"]));
    errors(&[(
        "SHELL /bin/ash -c",
        "SHELL requires the arguments to be in JSON form",
    )]);
}

#[test]
fn run_uses_the_shell_in_force() {
    let t = TestEnv::new();
    t.busybox("localhost/busybox");
    t.write(
        "Dockerfile",
        "FROM localhost/busybox\nSHELL [\"/bin/sh\", \"-xc\"]\nRUN echo $((40 + 2))\n",
    );
    t.build().ok().says("+ echo 42");
}

#[test]
fn users_are_stored_as_they_expand() {
    let t = TestEnv::new();
    let made = config(&t, "ARG who=me\nUSER root\nUSER $who:${group:-users}");
    assert_eq!(made["User"], "me:users");
}

#[test]
fn a_workdir_keeps_its_last_slash_and_begins_at_the_bases() {
    let t = TestEnv::new();
    for (lines, want) in [
        ("WORKDIR /a/b/", "/a/b/"),
        ("WORKDIR /a\nWORKDIR b\nWORKDIR ../c", "/a/c"),
        ("WORKDIR /a\nWORKDIR /", "/"),
        ("ENV d=x\nWORKDIR /$d/y", "/x/y"),
    ] {
        assert_eq!(config(&t, lines)["WorkingDir"], want, "{lines}");
    }
    t.write("Dockerfile", "FROM scratch\nWORKDIR /base\n");
    t.build_with(&["-t", "localhost/base"]).ok();
    let made = image(&t, "FROM localhost/base\nWORKDIR sub\n", &[]);
    assert_eq!(made["config"]["WorkingDir"], "/base/sub");
}

#[test]
fn a_workdir_is_a_layer_unless_it_is_the_root() {
    let t = TestEnv::new();
    let layers = |lines: &str| {
        let made = image(&t, &format!("FROM scratch\n{lines}\n"), &[]);
        made["rootfs"]["diff_ids"].as_array().unwrap().len()
    };
    assert_eq!(layers("WORKDIR /"), 0);
    assert_eq!(layers("WORKDIR /a/b\nWORKDIR c"), 2);
}

#[test]
fn a_workdir_is_made_with_its_parents_for_the_user_in_force() {
    let t = TestEnv::new()
        .file("passwd", "root:x:0:0::/:\napp:x:7:8::/:\n")
        .file("old/f", "f");
    let made = files(
        &t,
        concat!(
            "FROM scratch\nCOPY passwd /etc/passwd\nCOPY --chmod=700 old /old\nUSER app\n",
            "WORKDIR /old\nWORKDIR new/er\nUSER 9\nWORKDIR /nine\n",
        ),
    );
    let has = |want: &str| made.iter().any(|line| line == want);
    // What is there stays; a number is its own group, as it is for `--chown`.
    for want in [
        "old/ 700 0:0",
        "old/new/ 755 7:8",
        "old/new/er/ 755 7:8",
        "nine/ 755 9:9",
    ] {
        assert!(has(want), "{want}: {made:?}");
    }
}

#[test]
fn a_workdir_follows_links_and_does_without_a_known_user() {
    let t = TestEnv::new().file("real/f", "f");
    t.symlink("real", "link");
    let made = files(
        &t,
        "FROM scratch\nCOPY . /\nWORKDIR /link/in\nUSER nobody-knows\nWORKDIR /roots\n",
    );
    assert!(
        made.iter().any(|line| line == "real/in/ 755 0:0"),
        "{made:?}"
    );
    assert!(
        made.iter().any(|line| line.starts_with("link 777")),
        "{made:?}"
    );
    assert!(made.iter().any(|line| line == "roots/ 755 0:0"), "{made:?}");
}

#[test]
fn ports_are_split_sorted_and_stored_one_by_one() {
    let t = TestEnv::new();
    let text = "FROM scratch\nENV P=\"81/UDP 80\"\nEXPOSE 9/sctp $P 7-8 127.0.0.1:1:2\n";
    let made = image(&t, text, &[]);
    let ports = json!({
        "2/tcp": {}, "7/tcp": {}, "8/tcp": {}, "9/sctp": {}, "80/tcp": {}, "81/udp": {},
    });
    assert_eq!(made["config"]["ExposedPorts"], ports);
    let history = made["history"].as_array().unwrap();
    let last = history.last().unwrap()["created_by"].as_str().unwrap();
    assert_eq!(last, "EXPOSE [81/udp 80/tcp 2/tcp 7/tcp 8/tcp 9/sctp]");
    errors(&[
        ("EXPOSE 80/tpc", "invalid proto: tpc"),
        ("EXPOSE 9-7", "invalid containerPort: 9-7"),
        ("EXPOSE http", "invalid containerPort: http"),
    ]);
}

#[test]
fn volumes_are_paths_in_words_or_json() {
    let t = TestEnv::new();
    let made = config(&t, "ENV d=/x\nVOLUME $d/a /b\nVOLUME [\"/c d\"]");
    assert_eq!(made["Volumes"], json!({ "/b": {}, "/c d": {}, "/x/a": {} }));
    let empty = "VOLUME specified can not be an empty string";
    errors(&[("VOLUME [\"\"]", empty), ("VOLUME $nothing", empty)]);
}

#[test]
fn what_comes_after_a_volume_stays_in_the_image() {
    let t = TestEnv::new().file("f", "f");
    let made = files(&t, "FROM scratch\nVOLUME /v\nCOPY f /v/f\n");
    assert!(made.iter().any(|line| line.starts_with("v/f ")), "{made:?}");
}

#[test]
fn stop_signals_are_checked_and_stored_as_written() {
    let t = TestEnv::new();
    for signal in ["9", "SIGTERM", "sigquit", "RTMIN+3", "INT"] {
        let made = config(&t, &format!("STOPSIGNAL {signal}"));
        assert_eq!(made["StopSignal"], signal);
    }
    let made = config(&t, "ARG s=SIGHUP\nSTOPSIGNAL $s");
    assert_eq!(made["StopSignal"], "SIGHUP");
    errors(&[("STOPSIGNAL SIGFOO", "invalid signal: SIGFOO")]);
}

#[test]
fn health_checks_hold_words_or_text_and_times_in_nanoseconds() {
    let t = TestEnv::new();
    let check = |lines: &str| config(&t, lines)["Healthcheck"].take();
    let flags = "--interval=1m30s --timeout=1ms --start-period=.5s --start-interval=2s --retries=3";
    assert_eq!(
        check(&format!("HEALTHCHECK {flags} CMD [\"/p\", \"a b\"]")),
        json!({
            "Test": ["CMD", "/p", "a b"], "Interval": 90_000_000_000_i64, "Timeout": 1_000_000,
            "StartPeriod": 500_000_000, "StartInterval": 2_000_000_000, "Retries": 3,
        })
    );
    let want = json!({ "Test": ["CMD-SHELL", "a || exit 1"] });
    assert_eq!(check("HEALTHCHECK --interval=0s CMD a || exit 1"), want);
    let want = json!({ "Test": ["NONE"] });
    assert_eq!(check("HEALTHCHECK CMD x\nHEALTHCHECK NONE"), want);
    errors(&[
        (
            "HEALTHCHECK --interval=1us CMD x",
            "cannot be less than 1ms",
        ),
        (
            "HEALTHCHECK --retries=-1 CMD x",
            "--retries cannot be negative (-1)",
        ),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        (
            "HEALTHCHECK foo",
            "Unknown type \"FOO\" in HEALTHCHECK (try CMD)",
        ),
    ]);
}

#[test]
fn labels_are_inherited_and_the_command_line_has_the_last_word() {
    let t = TestEnv::new();
    let text = concat!(
        "FROM scratch AS other\nLABEL o=1\nWORKDIR /w\n",
        "FROM scratch AS p\nLABEL a=1 b=1 a=2\n",
        "FROM p\nLABEL b=3 c=3\nCOPY --from=other /w /w\n",
    );
    let made = image(&t, text, &["--label", "c=cli", "--label", "d="]);
    let want = json!({ "a": "2", "b": "3", "c": "cli", "d": "" });
    assert_eq!(made["config"]["Labels"], want);
}

#[test]
fn a_maintainer_is_the_author() {
    let t = TestEnv::new();
    let made = image(&t, "FROM scratch\nMAINTAINER Me $X <me@example.org>\n", &[]);
    assert_eq!(made["author"], "Me $X <me@example.org>");
}

#[test]
fn triggers_are_stored_as_written() {
    let t = TestEnv::new();
    let lines = concat!(
        "ONBUILD env  A=$B\nONBUILD RUN --no-such-flag make\n",
        "ONBUILD COPY <<EOF /f\nhello $A\nEOF\nONBUILD RUN a \\\n  b",
    );
    let made = config(&t, lines);
    let want = json!([
        "env  A=$B",
        "RUN --no-such-flag make",
        "COPY <<EOF /f\nhello $A\nEOF",
        "RUN a   b",
    ]);
    assert_eq!(made["OnBuild"], want);
    errors(&[
        (
            "ONBUILD ONBUILD ENV a=1",
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        (
            "ONBUILD MAINTAINER x",
            "MAINTAINER isn't allowed as an ONBUILD trigger",
        ),
    ]);
}

#[test]
fn triggers_of_an_image_run_first_in_order_and_once() {
    let t = TestEnv::new().file("f", "f");
    t.write(
        "Dockerfile",
        "FROM scratch\nONBUILD ENV A=1\nONBUILD ENV A=${A}2\nONBUILD COPY --from=tools f /g\n",
    );
    t.build_with(&["-t", "localhost/base"]).ok();
    let text = "FROM scratch AS tools\nCOPY f /f\nFROM localhost/base\nENV A=${A}3\n";
    let made = image(&t, text, &["-t", "localhost/child"]);
    let env = made["config"]["Env"].as_array().unwrap();
    assert_eq!(env.last().unwrap(), "A=123");
    assert!(made["config"].get("OnBuild").is_none(), "{made}");
    assert!(files(&t, text).iter().any(|line| line.starts_with("g ")));
    t.build_with(&["-t", "localhost/child"]).ok();
    let made = image(&t, "FROM localhost/child\n", &[]);
    assert_eq!(
        made["config"]["Env"].as_array().unwrap().last().unwrap(),
        "A=123"
    );
}

#[test]
fn a_trigger_that_is_wrong_is_shown_at_from() {
    let t = TestEnv::new();
    t.write("Dockerfile", "FROM scratch\nONBUILD COPY --nope a b\n");
    t.build_with(&["-t", "localhost/base"]).ok();
    t.write("Dockerfile", "# first\nFROM localhost/base\nENV a=b\n");
    let err = t.build().fails(1).says("unknown flag: --nope").stderr();
    assert!(err.contains("Dockerfile:2"), "{err}");
}

#[test]
fn only_fields_that_were_set_are_written() {
    let t = TestEnv::new();
    let made = config(&t, "");
    let fields: Vec<&String> = made.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["Env", "WorkingDir"]);
    let made = config(
        &t,
        concat!(
            "USER u\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\nLABEL l=1\nEXPOSE 1\nVOLUME /v\nSTOPSIGNAL 9\n",
            "HEALTHCHECK CMD x\nSHELL [\"s\"]\nONBUILD RUN x\nENV b=1 a=2\nENV b=3",
        ),
    );
    let mut fields: Vec<&String> = made.as_object().unwrap().keys().collect();
    fields.sort();
    let want = "ArgsEscaped Cmd Entrypoint Env ExposedPorts Healthcheck Labels OnBuild Shell \
                StopSignal User Volumes WorkingDir";
    assert_eq!(fields, want.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        made["Env"].as_array().unwrap()[1..],
        [json!("b=3"), json!("a=2")]
    );
    assert_eq!(made["Volumes"], json!({ "/v": {} }));
}
