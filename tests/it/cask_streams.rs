//! Logs, `attach` and `exec`: bytes and terminals of containers.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::support::TestEnv;

const CASK: &str = env!("CARGO_BIN_EXE_cask");

fn env() -> TestEnv {
    let t = TestEnv::new();
    t.busybox("busybox");
    t
}

#[test]
fn logs_keep_streams_times_and_order() {
    let t = env();
    let script = "echo one; echo two >&2; sleep 0.2; printf three";
    t.cask(&["run", "--name", "box", "busybox", "sh", "-c", script])
        .ok();
    let all = t.cask(&["logs", "box"]).ok();
    assert_eq!(
        (all.stdout().as_str(), all.stderr().as_str()),
        ("one\nthree", "two\n")
    );
    assert_eq!(
        t.cask(&["logs", "--tail", "1", "box"]).ok().stdout(),
        "three"
    );
    assert_eq!(t.cask(&["logs", "--tail", "0", "box"]).ok().stdout(), "");
    let stamped = t.cask(&["logs", "-t", "box"]).ok().stdout();
    let times: Vec<&str> = stamped
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert!(times[0] < times[1] && times[0].ends_with('Z'), "{stamped}");
    let since = ["logs", "--since", times[1], "box"];
    assert_eq!(t.cask(&since).ok().stdout(), "three");
    let until = ["logs", "--until", times[0], "box"];
    assert_eq!(t.cask(&until).ok().stdout(), "one");
    t.cask(&[
        "run",
        "--name",
        "mute",
        "--log-driver=none",
        "busybox",
        "echo",
        "x",
    ])
    .ok();
    t.cask(&["logs", "mute"]).fails(1).says("keeps no log");
}

#[test]
fn a_journal_gets_every_line_with_dockers_fields() {
    use std::os::unix::net::UnixDatagram;
    let t = env();
    // A journal of the test's own, where systemd's would be: in a mount namespace with an empty
    // /run, into which the test's socket is bound.
    let socket = t.beside("journal");
    let journal = UnixDatagram::bind(&socket).unwrap();
    let limit = std::time::Duration::from_secs(60);
    journal.set_read_timeout(Some(limit)).unwrap();
    let script =
        "seq 200; echo one; echo two >&2; head -c 20000 /dev/zero | tr '\\0' x; echo; printf end";
    let run = format!(
        "set -e; mount -t tmpfs none /run; mkdir -p /run/systemd/journal; \
         touch /run/systemd/journal/socket; mount --bind {} /run/systemd/journal/socket; \
         exec {CASK} run --name box --log-driver=journald busybox sh -c \"{script}\"",
        socket.display()
    );
    let mut unshare: Command = t.command("unshare");
    let mut ran = unshare.args(["-m", "sh", "-c", &run]).spawn().unwrap();
    let mut entries = Vec::new();
    while entries.len() < 205 {
        let mut buffer = vec![0; 64 << 10];
        let n = journal.recv(&mut buffer).unwrap();
        entries.push(String::from_utf8(buffer[..n].to_vec()).unwrap());
    }
    assert!(ran.wait().unwrap().success());
    let id = t.cask(&["ps", "-aq", "--no-trunc"]).ok().stdout();
    for entry in &entries {
        let has = |line: String| entry.lines().any(|l| l == line);
        assert!(has(format!("CONTAINER_ID_FULL={id}")), "{entry}");
        assert!(has("CONTAINER_NAME=box".to_owned()), "{entry}");
        assert!(has("IMAGE_NAME=busybox".to_owned()), "{entry}");
    }
    let find = |line: &str| entries.iter().find(|entry| entry.contains(line)).unwrap();
    assert!(find("MESSAGE=one\n").contains("PRIORITY=6\n"));
    assert!(find("MESSAGE=two\n").contains("PRIORITY=3\n"));
    assert!(find("MESSAGE=end\n").contains("PRIORITY=6\n"));
    find("MESSAGE=200\n");
    let long = entries.iter().filter(|entry| entry.contains("MESSAGE=x"));
    let partial = |entry: &&String| entry.contains("CONTAINER_PARTIAL_MESSAGE=true\n");
    let (part, last): (Vec<_>, Vec<_>) = long.partition(partial);
    assert_eq!((part.len(), last.len()), (1, 1));
    // The container's own log is whole as well.
    let log = t.cask(&["logs", "box"]).ok();
    let counted: usize = (1..=200).map(|n: i32| n.to_string().len() + 1).sum();
    assert_eq!(
        log.bytes().len(),
        counted + "one\n".len() + 20001 + "end".len()
    );
    t.cask(&["rm", "box"]).ok();
    if !std::path::Path::new("/run/systemd/journal/socket").exists() {
        t.cask(&["run", "--log-driver=journald", "busybox", "true"])
            .fails(125)
            .says("cannot reach the journal");
    }
}

#[test]
fn a_followed_log_is_whole_across_rotation_and_restart() {
    let t = env();
    let options = ["--log-opt", "max-size=20k", "--log-opt", "max-file=1000"];
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i of many; i=$((i+1)); done";
    let run = [
        &["create", "--name", "box"][..],
        &options,
        &["busybox", "sh", "-c", script],
    ];
    t.cask(&run.concat()).ok();
    t.cask(&["start", "box"]).ok();
    let followed = t.cask(&["logs", "-f", "box"]).ok().stdout();
    let want: Vec<String> = (0..3000).map(|i| format!("line {i} of many")).collect();
    assert!(
        followed == want.join("\n"),
        "{} of {} lines",
        followed.lines().count(),
        want.len()
    );
    t.cask(&["start", "-a", "box"]).ok();
    let twice = t.cask(&["logs", "box"]).ok().stdout();
    assert!(
        twice == [&want[..], &want[..]].concat().join("\n"),
        "{}",
        twice.lines().count()
    );
    let id = t.cask(&["ps", "-aq", "--no-trunc"]).ok().stdout();
    let files = std::fs::read_dir(t.root().join("containers").join(id)).unwrap();
    let logs = files
        .flatten()
        .filter(|f| f.file_name().to_string_lossy().starts_with("log."));
    // 100 kB in files of 20 kB, each of which may end with one long read of the pipe.
    let count = logs.count();
    assert!(count > 1, "it was rotated: {count} files");
}

#[test]
fn a_program_that_writes_much_is_read_whole_by_the_caller() {
    let t = env();
    let script =
        "head -c 3000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero | tr '\\0' y >&2";
    let out = t.cask(&["run", "--rm", "busybox", "sh", "-c", script]).ok();
    assert_eq!(
        (out.bytes().len(), out.stderr().len()),
        (3_000_000, 3_000_000)
    );
    let out = t
        .cask_reading(
            &vec![b'z'; 1_000_000],
            &["run", "-i", "--rm", "busybox", "cat"],
        )
        .ok();
    assert!(
        out.bytes() == vec![b'z'; 1_000_000],
        "{}",
        out.bytes().len()
    );
}

#[test]
fn exec_has_the_containers_world_and_docker_exit_codes() {
    let t = env();
    let run = [
        "run", "-d", "--name", "box", "-e", "A=1", "-w", "/tmp", "busybox", "sleep", "1000",
    ];
    t.cask(&run).ok();
    let exec = |args: &[&str]| t.cask(&[&["exec"], args].concat());
    let script = "echo $A $B $(pwd) $(id -u); exit 9";
    let out = exec(&["-e", "B=2", "box", "sh", "-c", script]).fails(9);
    assert_eq!(out.stdout(), "1 2 /tmp 0");
    let out = exec(&[
        "-u",
        "app",
        "-w",
        "/",
        "box",
        "sh",
        "-c",
        "echo $(id -u) $(pwd) $HOME",
    ])
    .ok();
    assert_eq!(out.stdout(), "1000 / /home/app");
    exec(&["box", "/no/such"]).fails(127).says("`/no/such`");
    exec(&["box", "/etc"]).fails(126);
    exec(&["-w", "/no/such", "box", "true"])
        .fails(127)
        .says("/no/such");
    let caps = |args: &[&str]| {
        let grep = ["box", "grep", "CapEff", "/proc/self/status"];
        exec(&[args, &grep].concat()).ok().stdout()
    };
    let own = caps(&[]);
    assert_eq!(own, "CapEff:\t00000000a80425fb");
    assert_ne!(caps(&["--privileged"]), own);
    exec(&["-d", "box", "sh", "-c", "echo left > /tmp/left"]).ok();
    let input = t.cask_reading(b"typed", &["exec", "-i", "box", "cat"]).ok();
    assert_eq!(input.bytes(), b"typed");
    let none = t.cask_reading(b"typed", &["exec", "box", "cat"]).ok();
    assert_eq!(none.bytes(), b"");
    let script = "while [ ! -e /tmp/left ]; do sleep 0.05; done; cat /tmp/left";
    assert_eq!(exec(&["box", "sh", "-c", script]).ok().stdout(), "left");
    t.cask(&["rm", "-f", "box"]).ok();
}

/// A caller with a terminal: what is typed goes to `script`, what is shown comes from it.
struct Typist {
    child: std::process::Child,
    seen: String,
}

impl Typist {
    fn new(t: &TestEnv, command: &str) -> Self {
        let mut script: Command = t.command("script");
        let child = script
            .args(["-qefc", command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            child,
            seen: String::new(),
        }
    }

    fn types(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
    }

    fn sees(&mut self, text: &str) {
        let stdout = self.child.stdout.as_mut().unwrap();
        while !self.seen.contains(text) {
            let mut buffer = [0; 1024];
            let n = stdout.read(&mut buffer).unwrap();
            assert_ne!(n, 0, "{text:?} is not in {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    }

    fn ends(mut self) -> i32 {
        let mut rest = String::new();
        let _ = self.child.stdout.take().unwrap().read_to_string(&mut rest);
        self.child.wait().unwrap().code().unwrap()
    }
}

#[test]
fn a_terminal_is_left_and_attached_to_again() {
    for t in [TestEnv::new(), TestEnv::as_user("sub")] {
        t.busybox("busybox");
        leave_and_attach(&t);
    }
}

fn leave_and_attach(t: &TestEnv) {
    let mut first = Typist::new(t, &format!("{CASK} run -it --name box busybox sh"));
    first.types("echo $((40 + 2))\r");
    first.sees("42");
    first.types("\x10\x11");
    assert_eq!(first.ends(), 0, "the caller left");
    let status = t.cask(&["ps", "--format", "{{.State}}"]).ok().stdout();
    assert_eq!(status, "running");
    let mut second = Typist::new(t, &format!("stty rows 31 cols 71; {CASK} attach box"));
    let mut third = Typist::new(t, &format!("{CASK} attach --detach-keys=ctrl-a,q box"));
    second.types("stty size; echo se''en\r");
    second.sees("seen");
    // Both are attached only once each has seen what it typed itself.
    third.types("echo bo''th\r");
    third.sees("both");
    second.sees("both");
    third.types("\x01q");
    assert_eq!(third.ends(), 0);
    second.types("exit 5\r");
    assert_eq!(second.ends(), 5);
    assert_eq!(t.cask(&["wait", "box"]).ok().stdout(), "5");
    t.cask(&["rm", "box"]).ok();
}

#[test]
fn exec_gives_a_terminal_with_its_size() {
    let t = env();
    t.cask(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .ok();
    let command = format!("stty rows 21 cols 55; {CASK} exec -it box sh");
    let mut caller = Typist::new(&t, &command);
    caller.types("stty size; tty\r");
    caller.sees("21 55");
    caller.sees("/dev/pts/");
    caller.types("exit 4\r");
    assert_eq!(caller.ends(), 4);
    t.cask(&["rm", "-f", "box"]).ok();
}
