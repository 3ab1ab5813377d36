//! `cask run`, `ps` and `rm`.

use crate::support::TestEnv;

fn env() -> TestEnv {
    let t = TestEnv::new();
    t.busybox("busybox");
    t
}

#[test]
fn entrypoint_cmd_and_arguments_combine() {
    let t = env();
    t.write(
        "Dockerfile",
        "FROM busybox\nENTRYPOINT [\"/bin/echo\", \"ep\"]\nCMD [\"cmd\"]\n",
    );
    t.build_with(&["-t", "x"]).ok();
    let out = |args: &[&str]| t.cask(&[&["run", "--rm"], args].concat()).ok().stdout();
    assert_eq!(out(&["x"]), "ep cmd");
    assert_eq!(out(&["x", "a", "--b"]), "ep a --b");
    assert_eq!(out(&["--entrypoint", "/bin/echo", "x"]), "");
    assert_eq!(out(&["--entrypoint", "/bin/echo", "x", "only"]), "only");
}

#[test]
fn the_exit_code_is_the_programs() {
    let t = env();
    let run = |script: &str| t.cask(&["run", "--rm", "busybox", "sh", "-c", script]);
    run("exit 0").ok();
    run("exit 42").fails(42);
    run("kill -9 $$").fails(137);
    t.cask(&["run", "--rm", "busybox", "/no/such"])
        .fails(127)
        .says("`/no/such`");
    t.cask(&["run", "--rm", "busybox", "/etc"]).fails(126);
    t.cask(&["run", "--rm", "--pull=never", "nothing"])
        .fails(125)
        .says("nothing");
}

#[test]
fn options_reach_the_program() {
    let t = env().var("PASSED", "from outside");
    let out = t
        .cask(&[
            "run",
            "--rm",
            "-e",
            "A=1",
            "-e",
            "PASSED",
            "-w",
            "/tmp/new",
            "-u",
            "5:6",
            "--network=none",
            "busybox",
            "sh",
            "-c",
            "echo $A $PASSED $(pwd) $(id -u):$(id -g) $(ls /sys/class/net)",
        ])
        .ok();
    assert_eq!(out.stdout(), "1 from outside /tmp/new 5:6 lo");
}

#[test]
fn standard_streams_are_the_callers() {
    let t = env();
    let out = t
        .cask_reading(b"typed\n", &["run", "-i", "--rm", "busybox", "cat"])
        .ok();
    assert_eq!(out.bytes(), b"typed\n");
    let closed = t
        .cask_reading(b"typed\n", &["run", "--rm", "busybox", "cat"])
        .ok();
    assert_eq!(closed.bytes(), b"");
    let err = t
        .cask(&[
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "echo out; echo err >&2",
        ])
        .ok();
    assert_eq!(
        (err.stdout().as_str(), err.stderr().as_str()),
        ("out", "err\n")
    );
}

#[test]
fn volumes_are_mounted_and_read_only_when_asked() {
    let t = env().file("shared/in", "host");
    let shared = t.path("shared");
    let rw = format!("{}:/v", shared.display());
    let out = t.cask(&[
        "run",
        "--rm",
        "-v",
        &rw,
        "busybox",
        "sh",
        "-c",
        "cat /v/in; echo back > /v/out",
    ]);
    assert_eq!(out.ok().stdout(), "host");
    assert_eq!(
        std::fs::read_to_string(shared.join("out")).unwrap(),
        "back\n"
    );
    let ro = format!("{}:/v:ro", shared.display());
    t.cask(&[
        "run",
        "--rm",
        "-v",
        &ro,
        "busybox",
        "sh",
        "-c",
        "echo x > /v/no",
    ])
    .fails(1);
    assert!(!shared.join("no").exists());
}

#[test]
fn containers_are_listed_until_they_are_removed() {
    let t = env();
    t.cask(&[
        "run",
        "--name",
        "first",
        "busybox",
        "sh",
        "-c",
        "echo hi > /kept; exit 3",
    ])
    .fails(3);
    t.cask(&["run", "--rm", "--name", "gone", "busybox", "true"])
        .ok();
    assert_eq!(t.cask(&["ps", "-q"]).ok().stdout(), "");
    let listed = t.cask(&["ps", "-a"]).ok().stdout();
    assert!(
        listed.contains("first") && listed.contains("Exited (3)"),
        "{listed}"
    );
    assert!(!listed.contains("gone"), "{listed}");
    t.cask(&["run", "--name", "first", "busybox", "true"])
        .fails(125)
        .says("`first` is taken");
    t.cask(&["rm", "fist"]).fails(1).says("no container `fist`");
    t.cask(&["rm", "first"]).ok();
    assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout(), "");
}

#[test]
fn the_image_is_never_changed_by_a_container() {
    let t = env();
    t.cask(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "rm -rf /bin/ls; echo x > /new",
    ])
    .ok();
    let out = t.cask(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "test -e /bin/ls && test ! -e /new && echo intact",
    ]);
    assert_eq!(out.ok().stdout(), "intact");
}

#[test]
fn zombies_are_reaped_by_the_init() {
    let t = env();
    let script = "(sh -c 'sleep 0.1 & exec true' &) ; sleep 0.5; ps -o stat | grep -c Z";
    let out = t
        .cask(&["run", "--rm", "busybox", "sh", "-c", script])
        .fails(1);
    assert_eq!(out.stdout(), "0");
}

#[test]
fn a_signal_to_cask_reaches_the_program() {
    let t = env();
    let mut child = t
        .command(env!("CARGO_BIN_EXE_cask"))
        .args([
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 0.1; done",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    line.clear();
    std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    assert_eq!(line, "got it\n");
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn an_ordinary_user_runs_containers_too() {
    let t = TestEnv::as_user("sub");
    t.busybox("busybox");
    let out = t.cask(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "id -u; touch /x; chown 33:33 /x; stat -c %u /x",
    ]);
    assert_eq!(out.ok().stdout(), "0\n33");
}

#[test]
fn a_terminal_is_passed_on_with_its_size() {
    let t = env();
    let inside = "test -t 0 && stty size; exit 5";
    let run = format!(
        "stty rows 33 cols 77; {} run --rm -it busybox sh -c '{inside}'",
        env!("CARGO_BIN_EXE_cask")
    );
    let out = t
        .command("script")
        .args(["-qec", &run, "/dev/null"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(5), "{said}");
    assert!(said.contains("33 77"), "{said}");
    t.cask_reading(b"", &["run", "--rm", "-it", "busybox", "true"])
        .fails(125)
        .says("standard input is not a terminal");
}
