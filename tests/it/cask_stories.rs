//! The stories people learn containers by, as root and as an ordinary user.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::TestEnv;

fn both(story: impl Fn(&TestEnv)) {
    for t in [TestEnv::new(), TestEnv::as_user("sub")] {
        t.busybox("busybox");
        story(&t);
        let left = t.cask(&["ps", "-aq"]).ok().stdout();
        assert_eq!(left, "", "the story cleans up");
    }
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// What a web server answers, once it does.
fn get(port: &str) -> String {
    let begun = Instant::now();
    loop {
        let answer = TcpStream::connect(format!("127.0.0.1:{port}")).and_then(|mut stream| {
            stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        });
        match answer {
            Ok(text) if text.contains("200 OK") => return text,
            _ => assert!(begun.elapsed() < Duration::from_secs(30), "{answer:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_keeps_its_data_in_a_volume_and_nowhere_else() {
    both(|t| {
        let port = free_port();
        let serve =
            format!("mkdir -p /srv; echo serving; exec httpd -f -p 127.0.0.1:{port} -h /srv");
        let run = |volume: &[&str]| {
            let start = ["run", "-d", "--network=host", "--name", "web"];
            t.cask(&[&start[..], volume, &["busybox", "sh", "-c", &serve]].concat())
                .ok();
        };
        let write = ["exec", "web", "sh", "-c", "echo hello > /srv/index.html"];
        for (volume, kept) in [(&[][..], false), (&["-v", "pages:/srv"][..], true)] {
            run(volume);
            t.cask(&write).ok();
            assert!(get(&port).ends_with("hello\n"));
            assert_eq!(t.cask(&["logs", "web"]).ok().stdout(), "serving");
            t.cask(&["stop", "-t", "5", "web"]).ok();
            assert_eq!(t.cask(&["logs", "web"]).ok().stdout(), "serving");
            t.cask(&["rm", "web"]).ok();
            run(volume);
            let there = ["exec", "web", "test", "-e", "/srv/index.html"];
            drop(t.cask(&there).exits(i32::from(!kept)));
            t.cask(&["rm", "-f", "web"]).ok();
        }
        t.cask(&["volume", "rm", "pages"]).ok();
    });
}

#[test]
fn a_database_survives_kill_and_rm_on_its_volume() {
    both(|t| {
        let program = "trap 'exit 0' TERM; while :; do date +%s%N >> /db/rows; sync /db/rows; sleep 0.01; done";
        let run = [
            "run", "-d", "--name", "db", "-v", "db:/db", "busybox", "sh", "-c", program,
        ];
        t.cask(&run).ok();
        let rows = || {
            let count = t.cask(&[
                "run",
                "--rm",
                "-v",
                "db:/db:ro",
                "busybox",
                "sh",
                "-c",
                "cat /db/rows | wc -l",
            ]);
            count.ok().stdout().trim().parse::<u32>().unwrap()
        };
        while rows() < 5 {}
        t.cask(&["kill", "db"]).ok();
        let before = rows();
        t.cask(&["rm", "db"]).ok();
        assert_eq!(rows(), before, "nothing is lost");
        t.cask(&run).ok();
        while rows() <= before {}
        t.cask(&["volume", "rm", "db"]).fails(1).says("used by db");
        t.cask(&["rm", "-f", "db"]).ok();
        t.cask(&["volume", "rm", "db"]).ok();
    });
}

#[test]
fn two_containers_share_a_volume() {
    both(|t| {
        let reader = "while [ ! -e /shared/done ]; do sleep 0.02; done; cat /shared/done";
        t.cask(&[
            "run",
            "-d",
            "--name",
            "reader",
            "-v",
            "shared:/shared:ro",
            "busybox",
            "sh",
            "-c",
            reader,
        ])
        .ok();
        let write = "echo from the other > /shared/part; mv /shared/part /shared/done";
        t.cask(&[
            "run",
            "--rm",
            "--volumes-from",
            "reader:ro",
            "busybox",
            "sh",
            "-c",
            write,
        ])
        .fails(1);
        t.cask(&[
            "run",
            "--rm",
            "-v",
            "shared:/shared",
            "busybox",
            "sh",
            "-c",
            write,
        ])
        .ok();
        assert_eq!(t.cask(&["wait", "reader"]).ok().stdout(), "0");
        assert_eq!(t.cask(&["logs", "reader"]).ok().stdout(), "from the other");
        t.cask(&["rm", "reader"]).ok();
        t.cask(&["volume", "prune", "-a"]).ok();
        assert_eq!(t.cask(&["volume", "ls", "-q"]).ok().stdout(), "");
    });
}

#[test]
fn a_new_volume_gets_what_the_image_has_there() {
    both(|t| {
        t.write(
            "Dockerfile",
            "FROM busybox\nRUN mkdir -p /srv/sub && echo image > /srv/sub/a && chown -R app /srv && chmod 750 /srv\nVOLUME /srv\n",
        );
        t.build_with(&["-t", "data"]).ok();
        let show = ["sh", "-c", "cat /srv/sub/a; stat -c '%u %a' /srv"];
        let first = t.cask(
            &[
                &["run", "--name", "box", "-v", "named:/srv", "data"],
                &show[..],
            ]
            .concat(),
        );
        assert_eq!(first.ok().stdout(), "image\n1000 750");
        let change = [
            "run",
            "--rm",
            "-v",
            "named:/srv",
            "data",
            "sh",
            "-c",
            "echo mine > /srv/sub/a",
        ];
        t.cask(&change).ok();
        let again = t.cask(&[&["start", "-a", "box"][..]].concat()).ok();
        assert_eq!(again.stdout(), "mine\n1000 750", "a volume is filled once");
        t.cask(&["rm", "box"]).ok();
        let empty = [
            "run",
            "--rm",
            "-v",
            "bare:/srv:nocopy",
            "data",
            "ls",
            "/srv",
        ];
        assert_eq!(t.cask(&empty).ok().stdout(), "");
        // VOLUME makes an anonymous one, which `rm -v` takes along.
        t.cask(&["volume", "prune", "-a"]).ok();
        t.cask(&["create", "--name", "box", "data"]).ok();
        assert_eq!(t.cask(&["volume", "ls", "-q"]).ok().stdout().len(), 64);
        t.cask(&["rm", "-v", "box"]).ok();
        assert_eq!(t.cask(&["volume", "ls", "-q"]).ok().stdout(), "");
    });
}

#[test]
fn a_volume_moves_as_a_tar() {
    both(|t| {
        let write = "echo kept > /v/a; chown 33 /v/a";
        t.cask(&["run", "--rm", "-v", "one:/v", "busybox", "sh", "-c", write])
            .ok();
        let tar = t.cask(&["volume", "export", "one"]).ok().bytes().to_vec();
        t.cask(&["volume", "create", "two"]).ok();
        t.cask_reading(&tar, &["volume", "import", "two"]).ok();
        let read = [
            "run",
            "--rm",
            "-v",
            "two:/v",
            "busybox",
            "sh",
            "-c",
            "cat /v/a; stat -c %u /v/a",
        ];
        assert_eq!(t.cask(&read).ok().stdout(), "kept\n33");
        t.cask(&["volume", "import", "three"])
            .fails(1)
            .says("no volume `three`");
    });
}

#[test]
fn files_come_out_of_a_container_that_has_stopped() {
    both(|t| {
        let write = "mkdir /d; echo kept > /d/a; chown -R app /d";
        t.cask(&["run", "--name", "box", "busybox", "sh", "-c", write])
            .ok();
        t.cask(&["cp", "box:/d", "got"]).ok();
        let got = std::fs::read(t.path("got/a")).unwrap();
        assert_eq!(got, b"kept\n");
        let tar = t.cask(&["cp", "box:/d/a", "-"]).ok();
        let mut tar = tar::Archive::new(tar.bytes());
        let entry = tar.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.header().uid().unwrap(), 1000, "as the image means it");
        t.cask(&["cp", "got/a", "box:/back"]).ok();
        t.cask(&["cp", "box:/back", "again"]).ok();
        assert_eq!(std::fs::read(t.path("again")).unwrap(), b"kept\n");
        t.cask(&["rm", "box"]).ok();
    });
}

#[test]
fn a_shell_that_is_not_there_is_named() {
    both(|t| {
        let busybox = std::fs::read("/bin/busybox").unwrap();
        t.write("sleep", busybox);
        t.chmod("sleep", 0o755);
        t.write(
            "Dockerfile",
            "FROM scratch\nCOPY sleep /sleep\nCMD [\"/sleep\", \"1000\"]\n",
        );
        t.build_with(&["-t", "distroless"]).ok();
        t.cask(&["run", "-d", "--name", "bare", "distroless"]).ok();
        t.cask(&["exec", "bare", "sh"]).fails(127).says("`sh`");
        t.cask(&["rm", "-f", "bare"]).ok();
    });
}

#[test]
fn bad_options_of_volumes_are_refused() {
    let t = TestEnv::new();
    t.busybox("busybox");
    t.cask(&["run", "-v", "/tmp:/x:bogus", "busybox", "true"])
        .fails(125)
        .says("no option `bogus`");
    t.cask(&["run", "-v", "/no/such/dir:/x", "busybox", "true"])
        .fails(125)
        .says("/no/such/dir");
    t.cask(&["volume", "inspect", "nope"])
        .fails(1)
        .says("no volume `nope`");
    assert_eq!(
        t.cask(&["ps", "-aq"]).ok().stdout(),
        "",
        "nothing half-made stays"
    );
    let tmpfs = [
        "run",
        "--rm",
        "--tmpfs",
        "/t:size=1m",
        "busybox",
        "df",
        "-k",
        "/t",
    ];
    assert!(t.cask(&tmpfs).ok().stdout().contains("1024"));
    let read_only = ["run", "--rm", "--read-only", "busybox", "touch", "/x"];
    t.cask(&read_only).fails(1);
}
