//! COPY and ADD: what lands where, with which mode and owner.

use std::fs;
use std::process::Command;

use crate::support::TestEnv;

/// Builds and returns the final file system.
fn tree(t: &TestEnv) -> Vec<String> {
    t.listing(&[], ".")
}

#[test]
fn a_file_goes_to_a_name_or_into_a_directory() {
    let t = TestEnv::new().file("a", "1").dockerfile(
        "FROM scratch\nCOPY a /as-name\nCOPY a /into/\nWORKDIR /w\nCOPY a .\nCOPY a rel/b\n",
    );
    assert_eq!(
        tree(&t),
        [
            "-rw-r--r-- 0/0 as-name",
            "drwxr-xr-x 0/0 into/",
            "-rw-r--r-- 0/0 into/a",
            "drwxr-xr-x 0/0 w/",
            "-rw-r--r-- 0/0 w/a",
            "drwxr-xr-x 0/0 w/rel/",
            "-rw-r--r-- 0/0 w/rel/b",
        ]
    );
}

#[test]
fn the_contents_of_a_directory_are_copied_not_its_name() {
    let t = TestEnv::new()
        .file("src/x", "1")
        .file("src/sub/y", "2")
        .dockerfile("FROM scratch\nCOPY src /dst\nCOPY src/sub /dst/\n");
    assert_eq!(
        tree(&t),
        [
            "drwxr-xr-x 0/0 dst/",
            "drwxr-xr-x 0/0 dst/sub/",
            "-rw-r--r-- 0/0 dst/sub/y",
            "-rw-r--r-- 0/0 dst/x",
            "-rw-r--r-- 0/0 dst/y",
        ]
    );
}

#[test]
fn patterns_match_as_go_does_and_may_match_nothing() {
    let t = TestEnv::new()
        .file("a.txt", "")
        .file("b.txt", "")
        .file("c.md", "")
        .file("d1/in", "")
        .dockerfile(
            "FROM scratch\nCOPY *.txt /t/\nCOPY d? /d/\nCOPY [c-d].md /t/\nCOPY none* /n/\n",
        );
    assert_eq!(
        tree(&t),
        [
            "drwxr-xr-x 0/0 d/",
            "-rw-r--r-- 0/0 d/in",
            "drwxr-xr-x 0/0 t/",
            "-rw-r--r-- 0/0 t/a.txt",
            "-rw-r--r-- 0/0 t/b.txt",
            "-rw-r--r-- 0/0 t/c.md",
        ]
    );
}

#[test]
fn chown_and_chmod_reach_files_and_created_parents() {
    let t = TestEnv::new()
        .file("etc/passwd", "root:x:0:0::/:\nweb:x:33:44::/:\n")
        .file("etc/group", "root:x:0:\nstaff:x:50:\n")
        .file("f", "1")
        .dockerfile(
            "FROM scratch\nCOPY etc /etc\nCOPY --chown=web f /a/f\nCOPY --chown=web:staff f /b\n\
             COPY --chown=7 --chmod=4750 f /c\nCOPY --chown=1:2 f /d\n",
        );
    let tree = tree(&t);
    for want in [
        "drwxr-xr-x 33/44 a/",
        "-rw-r--r-- 33/44 a/f",
        "-rw-r--r-- 33/50 b",
        "-rwsr-x--- 7/7 c",
        "-rw-r--r-- 1/2 d",
    ] {
        assert!(
            tree.iter().any(|line| line == want),
            "{want} is not in {tree:#?}"
        );
    }
}

#[test]
fn an_unknown_owner_is_an_error_that_names_it() {
    let t = TestEnv::new()
        .file("f", "")
        .dockerfile("FROM scratch\nCOPY --chown=nobody f /f\n");
    t.build()
        .fails(1)
        .says("user `nobody` is not in the image's /etc/passwd")
        .says("Dockerfile:2");
}

#[test]
fn links_are_followed_as_sources_and_kept_below_directories() {
    let t = TestEnv::new().file("real", "text").file("dir/x", "1");
    t.symlink("real", "link");
    t.symlink("../real", "dir/up");
    t.symlink("/nowhere", "dir/dangling");
    t.write("Dockerfile", "FROM scratch\nCOPY link /\nCOPY dir /dir\n");
    assert_eq!(
        tree(&t),
        [
            "drwxr-xr-x 0/0 dir/",
            "lrwxrwxrwx 0/0 dir/dangling -> /nowhere",
            "lrwxrwxrwx 0/0 dir/up -> ../real",
            "-rw-r--r-- 0/0 dir/x",
            "-rw-r--r-- 0/0 link",
        ]
    );
}

#[test]
fn a_link_out_of_the_context_never_reaches_the_host() {
    let t = TestEnv::new();
    t.symlink("/etc/passwd", "passwd");
    t.symlink("/etc", "host-etc");
    t.symlink("../../../../../../../etc/passwd", "up");
    for source in ["passwd", "host-etc/passwd", "up"] {
        t.write(
            "Dockerfile",
            format!("FROM scratch\nCOPY {source} /stolen\n"),
        );
        t.build()
            .fails(1)
            .says(&format!("`{source}` is not in the build context"));
    }
}

#[test]
fn a_destination_link_of_the_image_is_followed_inside_it() {
    let t = TestEnv::new().file("f", "1").file("tree/real/keep", "");
    t.symlink("/real", "tree/abs");
    t.symlink("../../../real", "tree/up");
    t.write(
        "Dockerfile",
        "FROM scratch\nCOPY tree /\nCOPY f /abs/one\nCOPY f /up/two\n",
    );
    let tree = tree(&t);
    for want in [
        "-rw-r--r-- 0/0 real/one",
        "-rw-r--r-- 0/0 real/two",
        "lrwxrwxrwx 0/0 abs -> /real",
    ] {
        assert!(
            tree.iter().any(|line| line == want),
            "{want} is not in {tree:#?}"
        );
    }
}

#[test]
fn an_absent_source_is_named_with_the_ignore_line_that_hides_it() {
    let t = TestEnv::new()
        .file("go.sum", "x")
        .file(".dockerignore", "# sums\n\n*.sum\n")
        .dockerfile("FROM scratch\nCOPY go.sum .\n");
    t.build()
        .fails(1)
        .says("`go.sum` is not in the build context: line 3 of `.dockerignore` (`*.sum`) leaves it out")
        .says("Dockerfile:2");
    t.write("Dockerfile.dockerignore", "go.*\n");
    t.build()
        .fails(1)
        .says("line 1 of `Dockerfile.dockerignore` (`go.*`) leaves it out");
    t.write("Dockerfile", "FROM scratch\nCOPY gone .\n");
    t.build()
        .fails(1)
        .says("`gone` is not in the build context");
}

#[test]
fn ignored_files_are_unknown_and_come_back_with_an_exception() {
    let t = TestEnv::new()
        .file("a/keep", "")
        .file("a/drop", "")
        .file("b/x", "")
        .file(".dockerignore", "a\n!a/keep\nb\n")
        .dockerfile("FROM scratch\nCOPY . /\n");
    let tree = tree(&t);
    let names: Vec<&str> = tree
        .iter()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    assert_eq!(names, [".dockerignore", "Dockerfile", "a/", "a/keep"]);
}

#[test]
fn several_sources_need_a_directory() {
    let t = TestEnv::new()
        .file("a", "")
        .file("b", "")
        .dockerfile("FROM scratch\nCOPY a b /c\n");
    t.build().fails(1).says("end `/c` with `/`");
}

#[test]
fn a_directory_does_not_replace_a_file_nor_a_file_a_directory() {
    let t = TestEnv::new().file("f", "").file("d/x", "");
    t.write("Dockerfile", "FROM scratch\nCOPY f /p\nCOPY d /p\n");
    t.build().fails(1).says("cannot copy to non-directory: /p");
    t.write("Dockerfile", "FROM scratch\nCOPY d /e/f\nCOPY f /e/\n");
    t.build()
        .fails(1)
        .says("cannot replace directory /e/f with a file");
}

#[test]
fn heredocs_become_files_named_after_their_word() {
    let t = TestEnv::new().dockerfile(
        "FROM scratch\nARG WHO=world\nCOPY <<one <<\"two\" /d/\nhello $WHO\none\nraw $WHO\ntwo\n",
    );
    let out = t.beside("out");
    t.build_with(&["-o", out.to_str().unwrap()]).ok();
    assert_eq!(
        fs::read_to_string(out.join("d/one")).unwrap(),
        "hello world\n"
    );
    assert_eq!(fs::read_to_string(out.join("d/two")).unwrap(), "raw $WHO\n");
}

#[test]
fn add_unpacks_archives_of_every_compression_and_copy_does_not() {
    let t = TestEnv::new()
        .file("tree/sub/file", "inside")
        .file("plain.txt", "no archive");
    let context = t.path("");
    for (name, flag) in [
        ("a.tar", ""),
        ("b.tar.gz", "z"),
        ("c.tar.bz2", "j"),
        ("d.tar.xz", "J"),
        ("e.tar.zst", "Z"),
    ] {
        let mut tar = Command::new("tar");
        match flag {
            "" => tar.arg("-cf"),
            "Z" => tar.args(["--zstd", "-cf"]),
            flag => tar.arg(format!("-c{flag}f")),
        };
        let done = tar
            .arg(name)
            .args([
                "-C",
                "tree",
                "--owner=5",
                "--group=6",
                "--numeric-owner",
                ".",
            ])
            .current_dir(&context)
            .status()
            .unwrap();
        assert!(done.success());
    }
    t.write(
        "Dockerfile",
        "FROM scratch\nADD a.tar /a\nADD b.tar.gz /b/\nADD c.tar.bz2 /c\nADD d.tar.xz /d\n\
         ADD e.tar.zst /e\nADD plain.txt /\nCOPY a.tar /kept.tar\nADD --chown=9:9 a.tar /f\n\
         ADD --unpack=false a.tar /g/\n",
    );
    let tree = tree(&t);
    let has = |want: &str| {
        assert!(
            tree.iter().any(|line| line == want),
            "{want} not in {tree:#?}"
        )
    };
    for dir in ["a", "b", "c", "d", "e"] {
        has(&format!("-rw-r--r-- 5/6 {dir}/sub/file"));
    }
    has("-rw-r--r-- 0/0 plain.txt");
    has("-rw-r--r-- 0/0 kept.tar");
    has("-rw-r--r-- 9/9 f/sub/file");
    has("-rw-r--r-- 0/0 g/a.tar");
}

#[test]
fn hard_links_of_one_copy_stay_links() {
    let t = TestEnv::new()
        .file("d/one", "same")
        .dockerfile("FROM scratch\nCOPY d /d\n");
    fs::hard_link(t.path("d/one"), t.path("d/two")).unwrap();
    let tree = tree(&t);
    assert!(
        tree.iter()
            .any(|line| line.ends_with("d/two link to d/one")),
        "{tree:#?}"
    );
}

#[test]
fn a_named_pipe_in_the_context_does_not_stop_the_build() {
    let t = TestEnv::new()
        .file("d/x", "")
        .dockerfile("FROM scratch\nCOPY d /d\n");
    let made = Command::new("mkfifo")
        .arg(t.path("d/pipe"))
        .status()
        .unwrap();
    assert!(made.success());
    assert!(
        tree(&t)
            .iter()
            .any(|line| line.starts_with('p') && line.ends_with("d/pipe"))
    );
}

/// Serves `body` to every request, on loopback, until the test ends.
fn serve(body: &'static [u8]) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut head);
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\
                 Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\n",
                body.len()
            );
            let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
            let _ = std::io::Write::write_all(&mut stream, body);
        }
    });
    url
}

#[test]
fn add_fetches_urls_and_holds_them_to_their_checksum() {
    let url = serve(b"fetched");
    let sum = "sha256:67f82b5df12a776ce40f4a68aeac8ec65bb08d9fed2ca96de64edc0ad1eb21e2";
    let t = TestEnv::new().dockerfile(&format!(
        "FROM scratch\nADD {url}/dir/name.txt /into/\nADD {url}/x /renamed\n"
    ));
    assert_eq!(
        tree(&t),
        [
            "drwxr-xr-x 0/0 into/",
            "-rw------- 0/0 into/name.txt",
            "-rw------- 0/0 renamed",
        ]
    );
    t.write(
        "Dockerfile",
        format!(
            "FROM scratch\nADD --checksum={} {url}/x /x\n",
            sum.replace("67f8", "0000")
        ),
    );
    t.build()
        .fails(1)
        .says("`--checksum` says")
        .says("Dockerfile:2");
}

#[test]
fn two_builds_in_one_store_both_succeed() {
    let t = TestEnv::new()
        .file("a", "1")
        .dockerfile("FROM busybox\nCOPY a /a\nRUN cat /a > /b\nRUN cat /b > /c\n");
    t.busybox("busybox");
    std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4)
            .map(|n| {
                let t = &t;
                scope.spawn(move || {
                    t.build_with(&["-t", &format!("x{n}")]).ok();
                })
            })
            .collect();
        for build in builds {
            build.join().unwrap();
        }
    });
    for n in 0..4 {
        let out = t.cask(&["run", "--rm", &format!("x{n}"), "cat", "/c"]).ok();
        assert_eq!(out.stdout(), "1");
    }
}
