//! `cask debug`: tools for containers and images that have none.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use crate::support::{TestEnv, everybody};

const CASK: &str = env!("CARGO_BIN_EXE_cask");
const COOPER: &str = env!("CARGO_BIN_EXE_cooper");

/// Makes the image `bare`, which has one program and neither a shell nor a link to it.
fn bare(t: &TestEnv) {
    t.write(
        "Dockerfile",
        "FROM busybox AS tools\nFROM scratch\nCOPY --from=tools /bin/busybox /busybox\n\
         CMD [\"/busybox\", \"sleep\", \"1000\"]\n",
    );
    t.build_with(&["-q", "-t", "bare"]).ok();
}

/// Looks at something with the tools of busybox, by a shell script.
fn look(t: &TestEnv, what: &str, script: &str) -> String {
    let debug = ["debug", "--image", "busybox", what, "sh", "-c", script];
    t.cask(&debug).ok().stdout()
}

/// Ends a process that still runs when a test has failed.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_container_without_a_shell_is_looked_at_while_it_runs() {
    everybody(|t| {
        bare(&t);
        t.cask(&["run", "-d", "--name", "box", "-e", "A=1", "bare"])
            .ok();
        t.cask(&["exec", "box", "sh"]).fails(127).says("`sh`");
        // Its processes are there, and its network is the tools'.
        let processes = look(&t, "box", "ps -o args");
        assert!(processes.contains("/busybox sleep 1000"), "{processes}");
        let same = "for n in net pid ipc; do \
             test $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) && echo $n; done";
        assert_eq!(look(&t, "box", same), "net\npid\nipc");
        // Its root is its very own, and the tools' root is none of its business.
        assert_eq!(
            look(&t, "box", "ls /proc/1/root/busybox"),
            "/proc/1/root/busybox"
        );
        let written = "echo mine > /gone; echo yours > /target/kept; cat /target/kept";
        assert_eq!(look(&t, "box", written), "yours");
        let read = ["exec", "box", "/busybox", "cat", "/kept"];
        assert_eq!(t.cask(&read).ok().stdout(), "yours");
        let diff = t.cask(&["diff", "box"]).ok().stdout();
        assert!(diff.contains("A /kept") && !diff.contains("gone"), "{diff}");
        assert_eq!(look(&t, "box", "ls /gone 2>/dev/null; echo $?"), "1");
        // Nothing is left of the tools, and the container goes on.
        let names = ["ps", "-a", "--format", "{{.Names}} {{.State}}"];
        assert_eq!(t.cask(&names).ok().stdout(), "box running");
        t.cask(&["rm", "-f", "box"]).ok();
    });
}

#[test]
fn stopped_containers_and_images_are_looked_at_and_never_changed() {
    everybody(|t| {
        bare(&t);
        let script = "echo kept > /kept; rm /etc/passwd";
        t.cask(&["run", "--name", "box", "busybox", "sh", "-c", script])
            .ok();
        let before = t.cask(&["diff", "box"]).ok().stdout();
        let there = "cat /target/kept; ls /target/etc/passwd 2>/dev/null || echo no passwd; \
             echo more >> /target/kept; echo new > /target/new; cat /target/kept";
        assert_eq!(look(&t, "box", there), "kept\nno passwd\nkept\nmore");
        assert_eq!(
            look(
                &t,
                "box",
                "cat /target/kept; ls /target | grep new || echo none"
            ),
            "kept\nnone"
        );
        assert_eq!(t.cask(&["diff", "box"]).ok().stdout(), before);
        let image = "echo x > /target/new && ls /target";
        assert_eq!(look(&t, "bare", image), "busybox\nnew");
        assert_eq!(look(&t, "bare", "ls /target"), "busybox");
        assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout().lines().count(), 1);
        t.cask(&["rm", "box"]).ok();
    });
}

#[test]
fn the_shell_has_a_terminal_and_input_and_the_commands_exit_code() {
    let t = TestEnv::new();
    t.busybox("busybox");
    bare(&t);
    t.cask(&["run", "-d", "--name", "box", "bare"]).ok();
    fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&["debug", "--image", "busybox"], more].concat()
    }
    t.cask(&with(&["box", "sh", "-c", "exit 7"])).fails(7);
    t.cask(&with(&["box", "/no/such"])).fails(127);
    let out = t.cask_reading(b"echo $((40 + 2)); exit 3\n", &with(&["-i", "box"]));
    assert_eq!(out.fails(3).stdout(), "42");
    // Without a command it is a shell on the caller's terminal.
    let command = format!("{CASK} debug --image busybox box");
    let mut script: Command = t.command("script");
    let mut child = script
        .args(["-qefc", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let typed = b"stty size >/dev/null && echo a te''rminal; exit 5\r";
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), typed).unwrap();
    let mut seen = String::new();
    let _ = child.stdout.take().unwrap().read_to_string(&mut seen);
    assert_eq!(child.wait().unwrap().code(), Some(5), "{seen}");
    assert!(seen.contains("a terminal"), "{seen}");
    t.cask(&["rm", "-f", "box"]).ok();
}

#[test]
fn the_tools_end_with_what_they_look_at() {
    let t = TestEnv::new();
    t.busybox("busybox");
    bare(&t);
    t.cask(&["run", "-d", "--name", "box", "bare"]).ok();
    let mut command = t.command(CASK);
    command.args(["debug", "--image", "busybox", "box", "sh", "-c"]);
    command.args(["echo up; sleep 1000"]).stdout(Stdio::piped());
    let mut debug = Running(command.spawn().unwrap());
    let mut up = [0; 3];
    let stdout = debug.0.stdout.as_mut().unwrap();
    stdout.read_exact(&mut up).unwrap();
    assert_eq!(&up, b"up\n");
    // They are no place to look into further.
    let tools = ["ps", "-q", "--filter", "label=cask.debug=box"];
    let tools = t.cask(&tools).ok().stdout();
    t.cask(&["exec", &tools, "true"]).fails(125);
    t.cask(&["debug", "--image", "busybox", &tools, "true"])
        .fails(125)
        .says("is itself one of `cask debug`");
    t.cask(&["rm", "-f", "box"]).ok();
    assert_eq!(debug.0.wait().unwrap().code(), Some(137));
    assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout(), "");
}

#[test]
fn without_a_toolbox_the_hint_makes_one() {
    for t in [TestEnv::new(), TestEnv::as_user("sub")] {
        t.busybox("busybox");
        bare(&t);
        let refused = t.cask(&["debug", "bare", "ls", "/target"]).fails(125);
        let refused = refused.says("no image `toolbox`").stderr();
        assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout(), "");
        let from = refused.find("printf").unwrap();
        let hint = refused[from..].split('`').next().unwrap();
        let hint = hint.replace("cooper build", &format!("{COOPER} build"));
        let made = t.command("sh").args(["-c", &hint]).output().unwrap();
        assert!(made.status.success(), "{hint}: {made:?}");
        let listed = t.cask(&["debug", "bare", "ls", "/target"]).ok().stdout();
        assert_eq!(listed, "busybox");
        t.cask(&["debug", "--image", "busybox", "bear", "ls"])
            .fails(125)
            .says("no container and no image `bear`");
    }
    let t = TestEnv::new().var("CASK_DEBUG_IMAGE", "tools");
    t.busybox("tools");
    let listed = t.cask(&["debug", "tools", "ls", "-d", "/target/bin"]).ok();
    assert_eq!(listed.stdout(), "/target/bin");
}
