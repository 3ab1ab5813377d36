//! `cask cp`, `diff`, `export` and `commit`.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::TestEnv;

fn env() -> TestEnv {
    let t = TestEnv::new();
    t.busybox("busybox");
    t
}

/// A container that does not run, or one that does.
fn make(t: &TestEnv, runs: bool) {
    let script = "mkdir -p /d/sub; echo one > /d/a; echo two > /d/sub/b; ln -s a /d/link; touch /up; exec sleep 1000";
    t.cask(&[
        "run", "-d", "--name", "box", "-v", "vol:/vol", "busybox", "sh", "-c", script,
    ])
    .ok();
    let wait = "while [ ! -e /up ]; do sleep 0.02; done";
    t.cask(&["exec", "box", "sh", "-c", wait]).ok();
    if !runs {
        t.cask(&["stop", "-t", "0", "box"]).ok();
    }
}

#[test]
fn files_are_copied_both_ways_by_dockers_rules() {
    let t = env();
    for runs in [false, true] {
        make(&t, runs);
        let out = t.path("out");
        fs::create_dir_all(&out).unwrap();
        let read = |path: &str| fs::read_to_string(out.join(path)).unwrap();
        t.cask(&["cp", "box:/d", "out"]).ok();
        assert_eq!(
            (read("d/a"), read("d/sub/b")),
            ("one\n".into(), "two\n".into())
        );
        assert!(out.join("d/link").is_symlink());
        t.cask(&["cp", "box:/d/.", "out"]).ok();
        assert_eq!(read("a"), "one\n");
        t.cask(&["cp", "box:/d", "out/new"]).ok();
        assert_eq!(read("new/a"), "one\n");
        t.cask(&["cp", "box:/d/a", "out/renamed"]).ok();
        assert_eq!(read("renamed"), "one\n");
        t.cask(&["cp", "-L", "box:/d/link", "out/followed"]).ok();
        assert_eq!(read("followed"), "one\n");
        t.cask(&["cp", "box:/no/such", "out"])
            .fails(1)
            .says("/no/such");
        t.write("in/x", "from outside");
        t.cask(&["cp", "in", "box:/d"]).ok();
        t.cask(&["cp", "in/.", "box:/fresh"]).ok();
        t.cask(&["cp", "in/x", "box:/vol/kept"]).ok();
        t.cask(&["cp", "in/x", "box:/no/dir/x"]).fails(1);
        t.cask(&["cp", "in", "box:/d/a"]).fails(1);
        if !runs {
            t.cask(&["start", "box"]).ok();
        }
        let show = "cat /d/in/x /fresh/x /vol/kept; stat -c %u /fresh/x";
        let seen = t.cask(&["exec", "box", "sh", "-c", show]).ok().stdout();
        assert_eq!(seen, "from outsidefrom outsidefrom outside0");
        t.cask(&["rm", "-f", "box"]).ok();
        t.cask(&["volume", "rm", "vol"]).ok();
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn tars_go_both_ways() {
    let t = env();
    make(&t, true);
    let tar = t.cask(&["cp", "box:/d", "-"]).ok().bytes().to_vec();
    let mut list = Command::new("tar");
    let mut list = list
        .arg("-t")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    list.stdin.take().unwrap().write_all(&tar).unwrap();
    let names = String::from_utf8(list.wait_with_output().unwrap().stdout).unwrap();
    assert!(names.contains("d/sub/b\n"), "{names}");
    t.cask_reading(&tar, &["cp", "-", "box:/tmp"]).ok();
    let seen = t.cask(&["exec", "box", "cat", "/tmp/d/a"]).ok().stdout();
    assert_eq!(seen, "one");
    let all = t.cask(&["export", "box"]).ok().bytes().to_vec();
    assert!(all.windows(8).any(|bytes| bytes == b"d/sub/b\0"));
    t.cask(&["rm", "-f", "box"]).ok();
}

/// A container can put links anywhere; none of them leads out of it.
#[test]
fn links_of_a_container_lead_nowhere_else() {
    let t = env();
    let outside = t.beside("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let (dir, secret) = (outside.display(), outside.join("secret"));
    let script = format!(
        "ln -s {dir} /out; ln -s {} /leak; ln -s /proc/1/root /door; touch /up; exec sleep 1000",
        secret.display()
    );
    for runs in [true, false] {
        t.cask(&["run", "-d", "--name", "box", "busybox", "sh", "-c", &script])
            .ok();
        let wait = "while [ ! -e /up ]; do sleep 0.02; done";
        t.cask(&["exec", "box", "sh", "-c", wait]).ok();
        if !runs {
            t.cask(&["stop", "-t", "0", "box"]).ok();
        }
        t.write("payload", "x");
        // Inside the root these lead to nothing.
        t.cask(&["cp", "payload", "box:/out/payload"]).fails(1);
        t.cask(&["cp", "payload", "box:/door/payload"]).fails(1);
        t.cask(&["cp", "-L", "box:/leak", "got"]).fails(1);
        t.cask(&["cp", "box:/leak", "got"]).ok();
        assert!(t.path("got").is_symlink(), "the link itself");
        t.remove("got");
        // What is replaced is the link, not what it leads to.
        t.cask(&["cp", "payload", "box:/leak"]).ok();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
        assert!(!outside.join("payload").exists());
        t.cask(&["rm", "-f", "box"]).ok();
    }
}

#[test]
fn diff_and_commit_tell_what_was_changed() {
    let t = env();
    t.write(
        "Dockerfile",
        "FROM busybox\nRUN mkdir /old && echo 1 > /old/a && echo 2 > /old/b\nENV A=1\n",
    );
    t.build_with(&["-t", "base"]).ok();
    let script = "echo 3 > /old/a; rm /old/b; mkdir /new; echo 4 > /new/c";
    t.cask(&[
        "run", "--name", "box", "-e", "B=2", "base", "sh", "-c", script,
    ])
    .ok();
    let diff = t.cask(&["diff", "box"]).ok().stdout();
    assert_eq!(diff, "A /new\nA /new/c\nC /old\nC /old/a\nD /old/b");
    let id = t
        .cask(&["commit", "-m", "why", "-a", "who", "box", "made"])
        .ok()
        .stdout();
    assert!(id.starts_with("sha256:"), "{id}");
    let show = "cat /old/a /new/c; test ! -e /old/b; echo $A $B";
    let seen = t
        .cask(&["run", "--rm", "made", "sh", "-c", show])
        .ok()
        .stdout();
    assert_eq!(seen, "3\n4\n1 2");
    let author = t
        .cask(&["inspect", "-f", "{{.Author}} {{.Comment}}", "made"])
        .ok();
    assert_eq!(author.stdout(), "who why");
    t.cask(&["rm", "box"]).ok();
    t.cask(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .ok();
    let nothing = t.cask(&["diff", "box"]).ok().stdout();
    assert_eq!(nothing, "", "what is mounted while it runs is not its own");
    t.cask(&["rm", "-f", "box"]).ok();
}

#[test]
fn commit_takes_every_instruction_that_changes_defaults() {
    let t = env();
    t.cask(&["run", "--name", "box", "-e", "B=2", "busybox", "true"])
        .ok();
    let changes = [
        "ENTRYPOINT [\"/bin/busybox\"]",
        "CMD [\"echo\", \"hi\"]",
        "ENV A=1 B=$B$B",
        "EXPOSE 80 53/udp",
        "HEALTHCHECK --retries=7 CMD true",
        "LABEL one=1 two=\"a b\"",
        "ONBUILD RUN true",
        "SHELL [\"/bin/ash\", \"-c\"]",
        "STOPSIGNAL SIGQUIT",
        "USER app",
        "VOLUME /data",
        "WORKDIR /srv",
    ];
    let mut commit = vec!["commit"];
    changes
        .iter()
        .for_each(|change| commit.extend(["-c", change]));
    commit.extend(["box", "made"]);
    t.cask(&commit).ok();
    let shown = |format: &str| t.cask(&["inspect", "-f", format, "made"]).ok().stdout();
    for (format, want) in [
        ("{{json .Config.Cmd}}", r#"["echo","hi"]"#),
        ("{{json .Config.Entrypoint}}", r#"["/bin/busybox"]"#),
        ("{{json .Config.Env}}", r#"["PATH=/bin","B=22","A=1"]"#),
        (
            "{{json .Config.ExposedPorts}}",
            r#"{"53/udp":{},"80/tcp":{}}"#,
        ),
        ("{{.Config.Healthcheck.Retries}}", "7"),
        ("{{json .Config.Labels}}", r#"{"one":"1","two":"a b"}"#),
        ("{{json .Config.OnBuild}}", r#"["RUN true"]"#),
        ("{{json .Config.Shell}}", r#"["/bin/ash","-c"]"#),
        ("{{.Config.StopSignal}}", "SIGQUIT"),
        ("{{.Config.User}}", "app"),
        ("{{json .Config.Volumes}}", r#"{"/data":{}}"#),
        ("{{.Config.WorkingDir}}", "/srv"),
    ] {
        assert_eq!(shown(format), want, "{format}");
    }
    // As in a Dockerfile, an ENTRYPOINT takes away the CMD that was there, not one given with it.
    let both = ["-c", "CMD [\"x\"]", "-c", "ENTRYPOINT [\"y\"]"];
    for (changes, cmd) in [(&both[..], r#"["x"]"#), (&both[2..], "null")] {
        t.cask(&[&["commit"], changes, &["box", "made"]].concat())
            .ok();
        assert_eq!(shown("{{json .Config.Cmd}}"), cmd, "{changes:?}");
        assert_eq!(shown("{{json .Config.Entrypoint}}"), r#"["y"]"#);
    }
    for (change, why) in [
        ("RUN true", "RUN"),
        ("COPY a b", "COPY"),
        ("NONSENSE x", "NONSENSE"),
    ] {
        t.cask(&["commit", "-c", change, "box", "bad"])
            .fails(1)
            .says(why);
    }
    t.cask(&["run", "--rm", "bad"]).fails(125);
    t.cask(&["rm", "box"]).ok();
}
