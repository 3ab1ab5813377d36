//! Arguments, help, versions, exit codes, and where each kind of text goes.

use std::process::Stdio;

use insta::assert_snapshot;

use crate::support::TestEnv;

#[test]
fn version_and_help_touch_nothing() {
    let t = TestEnv::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        t.cooper(&["--version"]).ok().stdout(),
        format!("cooper {version}")
    );
    assert_eq!(
        t.cask(&["--version"]).ok().stdout(),
        format!("cask {version}")
    );
    assert!(t.cooper(&["--help"]).ok().stdout().contains("build"));
    for verb in ["run", "create"] {
        let help = t.cask(&[verb, "--help"]).ok();
        for option in ["--entrypoint", "--publish", "--memory", "--creds", "--help"] {
            assert!(help.stdout().contains(option), "{verb} {option}");
        }
        let hidden = help.stdout().contains("--cpu-percent");
        assert!(!hidden, "what is refused is not offered");
    }
    assert!(
        t.cooper(&["version"])
            .ok()
            .stdout()
            .starts_with(&format!("version {version}"))
    );
    assert_eq!(
        t.cask(&["version", "--format", "{{.Version}}"])
            .ok()
            .stdout(),
        version
    );
    assert!(!t.root().exists(), "no store is made for it");
}

#[test]
fn wrong_use_is_exit_code_2() {
    let t = TestEnv::new().dockerfile("FROM scratch\n");
    for args in [
        &[][..],
        &["bogus"],
        &["build"],
        &["build", "--bogus", "."],
        &["build", "-t", "App", "."],
        &["build", "--pull=sometimes", "."],
        &["build", "-o", "type=zip,dest=x", "."],
        &["build", "--platform", "linux//", "."],
        &["build", "--add-host", "db", "."],
        &["build", "--annotation", "x", "."],
        &["build", "--progress", "loud", "."],
        &["build", "https://example.org/x.git#-x"],
        &["images", "--format", "{{.Nope"],
        &["--log", "loud", "images"],
    ] {
        let judged = t.cooper(args).fails(2);
        assert_eq!(judged.stdout(), "", "{args:?}");
        assert!(
            judged.stderr().starts_with("error: ") || args.is_empty(),
            "{args:?}"
        );
    }
    assert_eq!(t.cask(&["ps", "--bogus"]).fails(2).stdout(), "");
    assert!(!t.root().join("refs/app").exists());
}

#[test]
fn wrong_use_of_cask_run_is_exit_code_125() {
    let t = TestEnv::new();
    t.cask(&["run", "--bogus", "app"])
        .fails(125)
        .says("--bogus");
    t.cask(&["run"]).fails(125).says("<IMAGE>");
    t.cask(&["run", "--network=mesh", "app"])
        .fails(125)
        .says("no network `mesh`");
}

#[test]
fn a_network_that_does_not_exist_is_refused() {
    let t = TestEnv::new().dockerfile("FROM scratch\n");
    t.build_with(&["--network", "mesh"])
        .fails(2)
        .says("expected `default`, `private`, `host` or `none`");
}

#[test]
fn a_missing_dockerfile_is_named() {
    let t = TestEnv::new();
    let judged = t.build().fails(1);
    assert_snapshot!(judged.shown_err(), @r"
    error: there is no Dockerfile at ./Dockerfile
    hint: `-f FILE` names another
    ");
    t.build_with(&["-f", "Other"])
        .fails(1)
        .says("there is no Dockerfile at Other");
    t.cooper(&["build", "nowhere"])
        .fails(1)
        .says("cannot open the build context nowhere");
}

#[test]
fn an_unknown_instruction_is_shown_with_its_line() {
    let t = TestEnv::new().dockerfile("FROM scratch\n\nCOPPY a /a\n");
    let judged = t
        .build_with(&["--iidfile", "id", "--metadata-file", "meta"])
        .fails(1);
    assert_snapshot!(judged.shown_err(), @r"
    error: dockerfile parse error on line 3: unknown instruction: COPPY
     --> Dockerfile:3:1
      |
    3 | COPPY a /a
      | ^^^^^ did you mean `COPY`?
    ");
    assert!(!t.path("id").exists() && !t.path("meta").exists());
}

#[test]
fn the_epoch_must_be_a_number_or_name_what_has_a_time() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\n")
        .var("SOURCE_DATE_EPOCH", "now");
    t.build()
        .fails(2)
        .says("invalid SOURCE_DATE_EPOCH: now: expected seconds since 1970");
    t.build_with(&["--build-arg", "SOURCE_DATE_EPOCH=x"])
        .fails(2)
        .says("invalid SOURCE_DATE_EPOCH: x");
}

#[test]
fn both_inputs_from_one_stdin_are_refused() {
    let t = TestEnv::new();
    t.cooper(&["build", "-f", "-", "-"])
        .fails(2)
        .says("can't both be standard input");
    t.cooper_reading(b"", &["build", "-"])
        .fails(1)
        .says("standard input is empty");
    t.cooper_reading(b"FROM scratch\n", &["build", "-f", "x", "-"])
        .fails(2)
        .says("holds no tar");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let t = TestEnv::new();
    let mut child = t.command(env!("CARGO_BIN_EXE_cooper"));
    let mut child = child
        .args(["images"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

/// Go's, in every option that has a truth value.
#[test]
fn truth_values_are_dockers_words() {
    let t = TestEnv::new().dockerfile("FROM scratch\nLABEL a=b\n");
    for option in ["--squash=T", "--tls-verify=0", "--compress=False", "--rm"] {
        t.build_with(&[option]).ok();
    }
    for option in ["--squash=yes", "--tls-verify=on", "--compress=tRUE"] {
        let refused = t.build_with(&[option]).fails(2);
        let _ = refused.says("expected true or false");
    }
    for option in ["--init=no", "--sig-proxy=off", "--oom-kill-disable=y"] {
        let refused = t.cask(&["run", option, "absent"]).fails(125);
        let _ = refused.says("expected true or false");
    }
}
