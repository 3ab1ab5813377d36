//! Contexts and Dockerfiles that somebody hostile wrote (T-CTX-1, 4 and 6).

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::Instant;

use crate::contexts::serve;
use crate::support::canary::{Canary, Racer, SONG, racing_time};
use crate::support::{TestEnv, everywhere};

/// A tar of links and files made by python, so that names need not exist here.
fn tar(t: &TestEnv, entries: &[(&str, &str, &str)]) -> Vec<u8> {
    let script = "import sys, tarfile, io\n\
        out = tarfile.open(fileobj=sys.stdout.buffer, mode='w|')\n\
        args = sys.argv[1:]\n\
        while args:\n\
        \x20   name, kind, text = args[:3]; args = args[3:]\n\
        \x20   entry = tarfile.TarInfo(name)\n\
        \x20   data = text.encode()\n\
        \x20   if kind == 'link': entry.type, entry.linkname, data = tarfile.SYMTYPE, text, b''\n\
        \x20   elif kind == 'hard': entry.type, entry.linkname, data = tarfile.LNKTYPE, text, b''\n\
        \x20   entry.size = len(data)\n\
        \x20   out.addfile(entry, io.BytesIO(data))\n\
        out.close()\n";
    let mut python = Command::new("python3");
    python.args(["-c", script]).current_dir(t.path(""));
    for (name, kind, text) in entries {
        python.args([name, kind, text]);
    }
    let out = python.output().expect("python3 is installed");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

#[test]
fn t_ctx_1_a_linked_dockerfile_of_an_archive_leads_nowhere() {
    everywhere(|t| {
        let canary = Canary::at(t.beside("canary"));
        let at = |name: &str| canary.root().join(name).display().to_string();
        for (name, kind, to) in [
            ("Dockerfile", "link", at("f")),
            (
                "Dockerfile",
                "link",
                "../../../../../../../../etc/passwd".to_owned(),
            ),
            ("Dockerfile", "link", at("fifo")),
            ("Dockerfile", "hard", at("f")),
            ("Dockerfile", "link", "Dockerfile".to_owned()),
        ] {
            let archive = tar(&t, &[(name, kind, &to)]);
            let judged = t.cooper_reading(&archive, &["build", "-"]).fails(1);
            assert!(!judged.stderr().contains(SONG), "{}", judged.stderr());
            assert!(!judged.stderr().contains("root:"), "{}", judged.stderr());
            fs::write(t.path("context.tar"), &archive).unwrap();
            t.cooper(&["build", "context.tar"]).fails(1);
        }
        canary.unchanged();
    });
}

#[test]
fn t_ctx_1_links_of_an_archive_are_not_written_through() {
    everywhere(|t| {
        let canary = Canary::at(t.beside("canary"));
        let root = canary.root().display().to_string();
        let archive = tar(
            &t,
            &[
                (
                    "Dockerfile",
                    "file",
                    "FROM scratch\nCOPY d/new /new\nCOPY . /all\n",
                ),
                ("d", "link", &root),
                ("d/new", "file", "written through"),
                ("d/open/new", "file", "written through"),
                (".dockerignore", "link", &format!("{root}/f")),
            ],
        );
        // Refused or confined: either way nothing outside changes.
        let judged = t
            .cooper_reading(&archive, &["build", "-"])
            .exits_any(&[0, 1]);
        assert!(!judged.stderr().contains(SONG), "{}", judged.stderr());
        canary.unchanged();
    });
}

#[test]
fn t_ctx_1_an_archive_of_a_url_leads_nowhere() {
    everywhere(|t| {
        let canary = Canary::at(t.beside("canary"));
        let at = |name: &str| canary.root().join(name).display().to_string();
        let build = |entries: &[(&str, &str, &str)], options: &[&str]| {
            let url = format!("{}/context.tar", serve(tar(&t, entries)));
            let judged = t.cooper(&[&["build"], options, &[&url]].concat());
            let judged = judged.exits_any(&[0, 1]);
            assert!(!judged.stderr().contains(SONG), "{}", judged.stderr());
            judged.stderr()
        };
        let no_file = |stderr: String| assert!(stderr.contains("no Dockerfile"), "{stderr}");
        for kind in ["link", "hard"] {
            build(&[("Dockerfile", kind, &at("f"))], &[]);
        }
        no_file(build(&[("Dockerfile", "link", &at("f"))], &[]));
        let sub = [
            ("sub", "link", at("")),
            ("Dockerfile", "file", "FROM scratch\n".to_owned()),
        ];
        let sub: Vec<_> = sub
            .iter()
            .map(|(n, k, text)| (*n, *k, text.as_str()))
            .collect();
        no_file(build(&sub, &["-f", "sub/f"]));
        let text = "FROM scratch\nCOPY d/f /f\nCOPY . /all\n";
        // Refused or confined: either way nothing outside is read or written.
        build(
            &[
                ("Dockerfile", "file", text),
                ("d", "link", &at("")),
                ("d/new", "file", "written through"),
            ],
            &[],
        );
        canary.unchanged();
    });
}

#[test]
fn t_ctx_1_a_linked_component_of_f_stays_inside_the_archive() {
    everywhere(|t| {
        let canary = Canary::at(t.beside("canary"));
        let archive = tar(
            &t,
            &[
                ("sub", "link", canary.root().to_str().unwrap()),
                ("Dockerfile", "file", "FROM scratch\n"),
            ],
        );
        for file in ["sub/f", "sub/dir/f", "sub/fifo"] {
            let judged = t
                .cooper_reading(&archive, &["build", "-f", file, "-"])
                .fails(1);
            assert!(
                !judged.stderr().contains(SONG),
                "{file}: {}",
                judged.stderr()
            );
        }
        canary.unchanged();
    });
}

#[test]
fn t_ctx_4_links_of_the_context_reach_nothing_outside() {
    everywhere(|t| {
        t.write("real/passwd", "inside");
        let canary = Canary::at(t.beside("canary"));
        let root = canary.root().display().to_string();
        t.symlink(&format!("{root}/etc/passwd"), "file");
        t.symlink(&root, "dir");
        t.symlink("../canary", "up");
        fs::create_dir(t.path("deep")).unwrap();
        t.symlink("../../canary/dir", "deep/mid");
        for source in [
            "file",
            "dir",
            "dir/f",
            "dir/etc/passwd",
            "dir/fifo",
            "up/f",
            "deep/mid/f",
            "deep/mid/sub",
            "dir/in/f",
        ] {
            for line in [
                format!("COPY {source} /stolen"),
                format!("ADD {source} /stolen"),
                format!("COPY --parents {source} /stolen/"),
                format!("COPY --link {source} /stolen"),
            ] {
                t.write("Dockerfile", format!("FROM scratch\n{line}\n"));
                // With --parents the link itself is what is copied.
                let codes = if line.contains("--parents") {
                    &[0, 1][..]
                } else {
                    &[1]
                };
                let tar = t.beside("out.tar");
                let dest = format!("type=tar,dest={}", tar.display());
                t.build_with(&["-o", &dest]).exits_any(codes);
                let bytes = fs::read(&tar).unwrap_or_default();
                assert!(!holds_song(&bytes), "{line}");
            }
        }
        for pattern in ["dir/*", "*/f", "dir/**", "deep/*/f"] {
            for flag in ["", "--parents "] {
                let text = format!("FROM scratch\nCOPY {flag}{pattern} /stolen/\n");
                t.write("Dockerfile", text);
                let stolen = t.files(&[], ".").path("stolen");
                let found = Command::new("grep")
                    .args(["-rs", SONG])
                    .arg(stolen)
                    .output()
                    .unwrap();
                assert_eq!(found.stdout, b"", "{flag}{pattern}");
            }
        }
        canary.unchanged();
    });
}

#[test]
fn t_ctx_4_links_of_a_named_context_reach_nothing_outside() {
    everywhere(|t| {
        t.write("named/real", "inside");
        let canary = Canary::at(t.beside("canary"));
        let root = canary.root().display().to_string();
        t.symlink(&format!("{root}/etc/passwd"), "named/file");
        t.symlink(&root, "named/dir");
        t.symlink("../../canary", "named/up");
        let tar = t.beside("out.tar");
        let dest = format!("type=tar,dest={}", tar.display());
        let options = ["--build-context", "named=named", "-o", &dest];
        for source in ["file", "dir", "dir/f", "dir/etc/passwd", "up/f", "dir/*"] {
            for line in [
                format!("FROM scratch\nCOPY --from=named {source} /stolen/"),
                format!("FROM scratch\nCOPY --link --from=named {source} /stolen/"),
                format!("FROM named\nCOPY --from=named {source} /stolen/"),
            ] {
                t.write("Dockerfile", format!("{line}\n"));
                // A pattern that finds nothing is no mistake.
                t.build_with(&options).exits_any(&[0, 1]);
                let bytes = fs::read(&tar).unwrap_or_default();
                assert!(!holds_song(&bytes), "{line}");
            }
        }
        canary.unchanged();
    });
}

fn holds_song(bytes: &[u8]) -> bool {
    bytes
        .windows(SONG.len())
        .any(|window| window == SONG.as_bytes())
}

#[test]
fn t_ctx_4_a_component_that_turns_into_a_link_is_not_followed() {
    everywhere(|t| {
        t.write("d/f", "inside");
        t.write("d/sub/f", "inside");
        t.write(
            "Dockerfile",
            "FROM scratch\nCOPY d /d\nCOPY d/sub/f /f\nADD d/f /g\n",
        );
        let canary = Canary::at(t.beside("canary"));
        std::os::unix::fs::symlink(canary.root().join("dir"), t.beside("swap")).unwrap();
        let tar = t.beside("out.tar");
        let dest = format!("type=tar,dest={}", tar.display());
        let racer = Racer::between(t.path("d"), t.beside("swap"));
        let began = Instant::now();
        let mut builds = 0;
        while began.elapsed() < racing_time() || builds < 3 {
            // A build that sees the change may fail; what it may not do is follow it.
            let judged = t
                .build_with(&["--no-cache", "-o", &dest])
                .exits_any(&[0, 1]);
            assert!(!judged.stderr().contains(SONG), "{}", judged.stderr());
            assert!(!holds_song(&fs::read(&tar).unwrap_or_default()));
            builds += 1;
        }
        assert!(racer.swaps() > 0, "nothing raced");
        drop(racer);
        canary.unchanged();
    });
}

#[test]
fn t_ctx_6_a_syntax_line_runs_nobodys_code() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let host = listener.local_addr().unwrap();
    let t = TestEnv::new().file("f", "text");
    for line in [
        format!("# syntax={host}/evil:latest"),
        format!("#syntax = {host}/evil@sha256:{}", "0".repeat(64)),
        format!("#!/bin/sh\n# syntax={host}/evil"),
        format!("// syntax={host}/evil"),
    ] {
        t.write("Dockerfile", format!("{line}\nFROM scratch\nCOPY f /f\n"));
        // Some of these are no Dockerfile to us; none is a reason to ask anybody.
        t.build().exits_any(&[0, 1]);
    }
    t.write("Dockerfile", "FROM scratch\nCOPY f /f\n");
    let argument = format!("BUILDKIT_SYNTAX={host}/evil");
    t.build_with(&["--build-arg", &argument]).ok();
    let asked = listener.accept();
    assert!(asked.is_err(), "somebody was asked for a frontend");
}

#[test]
fn t_ctx_6_a_dockerfile_alone_grants_itself_nothing() {
    let t = TestEnv::new();
    t.busybox("busybox");
    for line in [
        "RUN --security=insecure echo reached",
        "RUN --device=vendor.com/class=name echo reached",
        "# syntax=docker/dockerfile:1-labs\nRUN --security=insecure echo reached",
    ] {
        t.write("Dockerfile", format!("FROM busybox\n{line}\n"));
        let judged = t.build().fails(1);
        assert!(
            !judged.stderr().contains("\n#2 reached"),
            "{}",
            judged.stderr()
        );
    }
    t.write(
        "Dockerfile",
        "FROM busybox\nRUN --network=host echo reached\n",
    );
    t.build_with(&["--network=none"])
        .fails(1)
        .says("Dockerfile:2");
}
