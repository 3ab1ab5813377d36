//! The paths of COPY and ADD: what a source names and where it lands.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::support::TestEnv;

#[track_caller]
fn made(t: &TestEnv, instructions: &str) -> Vec<String> {
    t.write("Dockerfile", format!("FROM scratch\n{instructions}\n"));
    t.listing(&[], ".")
}

#[track_caller]
fn has(tree: &[String], wanted: &[&str]) {
    for want in wanted {
        assert!(
            tree.iter().any(|line| line == want),
            "{want} is not in {tree:#?}"
        );
    }
}

#[test]
fn sources_never_leave_the_context() {
    let t = TestEnv::new().file("a/f", "inside");
    let file = ["-rw-r--r-- 0/0 got"];
    for source in [
        "a/f",
        "/a/f",
        "./a/f",
        "../../a/f",
        "a/../../a/f",
        "/../a/./f",
    ] {
        assert_eq!(made(&t, &format!("COPY {source} /got")), file, "{source}");
    }
}

#[test]
fn several_files_do_not_go_to_one_name() {
    let t = TestEnv::new()
        .file("a.txt", "a")
        .file("b.txt", "b")
        .file("Dockerfile", "FROM scratch\nCOPY *.txt /got\n");
    t.build()
        .fails(1)
        .says("several files need a directory to go to: end `/got` with `/`");
    // A pattern that finds one file names that.
    assert_eq!(made(&t, "COPY a*.txt /got"), ["-rw-r--r-- 0/0 got"]);
}

#[test]
fn sources_of_a_stage_begin_at_its_root() {
    let t = TestEnv::new().file("f", "").file("w/f", "");
    let tree = made(
        &t,
        "WORKDIR /w\nCOPY f /f\nFROM scratch\nCOPY --from=0 f /top\nCOPY --from=0 w /dir",
    );
    assert_eq!(tree, ["drwxr-xr-x 0/0 dir/", "-rw-r--r-- 0/0 top"]);
}

#[test]
fn a_directory_is_emptied_into_the_destination_however_it_is_written() {
    let t = TestEnv::new().file("d1/x", "").file("d2/y", "");
    for source in ["d1", "d1/", "d1/.", "./d1", "d1/../d1"] {
        let want = ["drwxr-xr-x 0/0 to/", "-rw-r--r-- 0/0 to/x"];
        assert_eq!(made(&t, &format!("COPY {source} /to")), want, "{source}");
    }
    assert_eq!(
        made(&t, "COPY d? /to"),
        [
            "drwxr-xr-x 0/0 to/",
            "-rw-r--r-- 0/0 to/x",
            "-rw-r--r-- 0/0 to/y"
        ]
    );
}

#[test]
fn a_directory_that_is_made_for_a_source_is_roots_and_0755() {
    let t = TestEnv::new().file("d/sub/f", "");
    t.chmod("d", 0o700);
    t.chmod("d/sub", 0o711);
    has(
        &made(&t, "COPY d /to"),
        &["drwxr-xr-x 0/0 to/", "drwx--x--x 0/0 to/sub/"],
    );
    // One that is there is not touched.
    let tree = made(
        &t,
        "COPY --chown=1:2 --chmod=750 d /to\nCOPY d /to\nCOPY d/sub /to/",
    );
    has(&tree, &["drwxr-x--- 1/2 to/", "-rw-r--r-- 0/0 to/f"]);
}

#[test]
fn destinations_begin_at_workdir_and_may_climb() {
    let t = TestEnv::new().file("f", "").file("g", "");
    let tree = made(
        &t,
        "WORKDIR /w/x\nARG EMPTY\nCOPY f ..\nCOPY g ../../../up\nCOPY f ${EMPTY}\nCOPY f sub/",
    );
    has(
        &tree,
        &[
            "-rw-r--r-- 0/0 w/f",
            "-rw-r--r-- 0/0 up",
            "-rw-r--r-- 0/0 w/x/f",
            "-rw-r--r-- 0/0 w/x/sub/f",
        ],
    );
}

#[test]
fn patterns_escape_and_never_cross_a_slash() {
    let t = TestEnv::new()
        .file("[x", "")
        .file("a*b", "")
        .file("axb", "")
        .file("d/deep.txt", "")
        .file("ü.txt", "");
    for (source, want) in [
        ("[[]x", &["-rw-r--r-- 0/0 d/[x"][..]),
        ("a\\\\*b", &["-rw-r--r-- 0/0 d/a*b"]),
        ("a[*]b", &["-rw-r--r-- 0/0 d/a*b"]),
        ("*.txt", &["-rw-r--r-- 0/0 d/ü.txt"]),
        ("?.txt", &["-rw-r--r-- 0/0 d/ü.txt"]),
        ("*/*.txt", &["-rw-r--r-- 0/0 d/deep.txt"]),
        ("[^x]xb", &["-rw-r--r-- 0/0 d/axb"]),
    ] {
        let tree = made(&t, &format!("COPY {source} /d/"));
        assert_eq!(&tree[1..], want, "{source}");
    }
    t.write("Dockerfile", "FROM scratch\nCOPY a[ /d/\n");
    t.build().fails(1).says("`a[` is not a pattern");
}

#[test]
fn names_are_taken_literally_and_json_allows_blanks() {
    let t = TestEnv::new()
        .file("a%20b", "")
        .file("c+d", "")
        .file("with blank", "")
        .file("日本", "");
    let out = {
        let text = "FROM scratch\nCOPY a%20b c+d 日本 /d/\nCOPY [\"with blank\", \"/d/e f\"]\n";
        t.write("Dockerfile", text);
        t.files(&[], ".")
    };
    for name in ["a%20b", "c+d", "日本", "e f"] {
        assert!(out.path("d").join(name).exists(), "{name}");
    }
}

#[test]
fn a_dangling_link_at_the_destination_is_followed_and_survives() {
    let t = TestEnv::new().file("f", "text");
    for (link, to) in [
        ("abs", "/made/here"),
        ("rel", "made/there"),
        ("up", "../../../made/up"),
    ] {
        t.symlink(to, &format!("tree-{link}"));
    }
    let tree = made(
        &t,
        "COPY tree-abs tree-rel tree-up /nothing/\nFROM scratch\nCOPY f /keep",
    );
    assert_eq!(
        tree,
        ["-rw-r--r-- 0/0 keep"],
        "links that lead nowhere are no sources"
    );
    fs::create_dir(t.path("tree")).unwrap();
    t.symlink("/made/here", "tree/abs");
    t.symlink("made/there", "tree/rel");
    t.symlink("../../../made/up", "tree/up");
    has(
        &made(&t, "COPY tree /\nCOPY f /abs\nCOPY f /rel\nCOPY f /up/\n"),
        &[
            "-rw-r--r-- 0/0 made/here",
            "-rw-r--r-- 0/0 made/there",
            "-rw-r--r-- 0/0 made/up/f",
            "lrwxrwxrwx 0/0 abs -> /made/here",
            "lrwxrwxrwx 0/0 rel -> made/there",
            "lrwxrwxrwx 0/0 up -> ../../../made/up",
        ],
    );
}

#[test]
fn modes_times_pipes_and_sockets_are_kept_or_made_plain() {
    let t = TestEnv::new().file("d/setuid", "1").file("d/sticky/x", "2");
    t.chmod("d/setuid", 0o6755);
    t.chmod("d/sticky", 0o1777);
    let touched = Command::new("touch")
        .args(["-d", "@1445412480", "d/setuid"])
        .current_dir(t.path(""))
        .status()
        .unwrap();
    assert!(touched.success());
    let _socket = std::os::unix::net::UnixListener::bind(t.path("d/socket")).unwrap();
    t.write("Dockerfile", "FROM scratch\nCOPY d /d\n");
    has(
        &t.listing(&[], "."),
        &["-rwsr-sr-x 0/0 d/setuid", "drwxrwxrwt 0/0 d/sticky/"],
    );
    let out = t.files(&[], ".");
    let time = fs::metadata(out.path("d/setuid")).unwrap().mtime();
    assert_eq!(time, 1_445_412_480);
    let socket = fs::symlink_metadata(out.path("d/socket")).unwrap();
    assert!(socket.is_file() && socket.len() == 0);
}

#[test]
fn owners_come_along_from_stages_and_not_from_the_context() {
    let t = TestEnv::new().file("f", "");
    std::os::unix::fs::chown(t.path("f"), Some(12), Some(34)).unwrap();
    let tree = made(
        &t,
        "COPY f /context\nCOPY --chown=5:6 f /theirs\nFROM scratch\nCOPY --from=0 / /",
    );
    assert_eq!(tree, ["-rw-r--r-- 0/0 context", "-rw-r--r-- 5/6 theirs"]);
}

#[test]
fn attributes_come_along_between_stages_only() {
    let t = TestEnv::new().file("f", "");
    t.busybox("busybox");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(t.path("f"), "user.mine", b"1", flags).unwrap();
    let tar = t.beside("attributes.tar");
    let make = Command::new("tar")
        .args(["--xattrs", "-cf"])
        .arg(&tar)
        .arg("f")
        .current_dir(t.path(""))
        .status()
        .unwrap();
    assert!(make.success());
    fs::copy(&tar, t.path("a.tar")).unwrap();
    t.write(
        "Dockerfile",
        "FROM scratch AS one\nADD a.tar /from-tar/\nFROM scratch\n\
         COPY --from=one /from-tar/f /stage\nCOPY f /context\n",
    );
    let result = t.beside("result.tar");
    t.build_with(&["-o", &format!("type=tar,dest={}", result.display())])
        .ok();
    let list = Command::new("tar")
        .args(["--xattrs", "-tvvf"])
        .arg(&result)
        .output()
        .unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let carried: Vec<&str> = list
        .lines()
        .filter(|line| line.contains("user.mine"))
        .collect();
    assert_eq!(carried.len(), 1, "{list}");
    let at = list
        .lines()
        .position(|line| line.contains("user.mine"))
        .unwrap();
    assert!(
        list.lines().nth(at - 1).unwrap().ends_with("stage"),
        "{list}"
    );
}

#[test]
fn merging_directories_keeps_what_is_there() {
    let t = TestEnv::new()
        .file("one/a", "1")
        .file("one/s/b", "2")
        .file("two/s/c", "3");
    let tree = made(&t, "COPY one /d\nCOPY two /d");
    has(
        &tree,
        &[
            "-rw-r--r-- 0/0 d/a",
            "-rw-r--r-- 0/0 d/s/b",
            "-rw-r--r-- 0/0 d/s/c",
        ],
    );
    // A file goes into a directory that has its name.
    has(
        &made(&t, "COPY one /d\nCOPY one/a /d/s"),
        &["-rw-r--r-- 0/0 d/s/a"],
    );
    t.write("Dockerfile", "FROM scratch\nCOPY one/a /d/s\nCOPY two /d\n");
    t.build()
        .fails(1)
        .says("cannot copy to non-directory: /d/s");
}
