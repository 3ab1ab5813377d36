//! To whom files belong: in mounts, and in containers whose user is the caller.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use crate::support::{TestEnv, everybody};

/// Has the image's own user, which is not root, write to a mount and a volume, and returns the
/// owner that the machine sees and the one that the container does.
fn written(t: &TestEnv, options: &[&str]) -> (u32, String) {
    let dir = t.beside("shared");
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let bind = format!("{}:/b", dir.display());
    let run = [
        "run",
        "--rm",
        "-u",
        "1234:1234",
        "-v",
        &bind,
        "-v",
        "data:/v",
    ];
    let script = "echo x > /b/f && echo x > /v/f && stat -c %u:%g /b/f /v/f && rm /v/f";
    let all = [&run[..], options, &["busybox", "sh", "-c", script]].concat();
    let out = t.cask(&all).ok().stdout();
    let owner = fs::metadata(dir.join("f")).unwrap().uid();
    fs::remove_file(dir.join("f")).unwrap();
    (owner, out.replace('\n', " "))
}

#[test]
fn files_in_mounts_belong_to_whom_the_map_of_users_says() {
    everybody(|t| {
        let t = &t;
        // A new volume belongs to what the image has there.
        let make = [
            "run", "--rm", "-v", "data:/v", "busybox", "chmod", "777", "/v",
        ];
        t.cask(&make).ok();
        let caller = fs::metadata(t.root()).unwrap().uid();
        let (owner, inside) = written(t, &["--user-map=auto"]);
        let root = caller == 0;
        let single = owner == caller && !root;
        // With a single id, all files in mounts are of the one who is root inside.
        let shown = if single { "0:0" } else { "1234:1234" };
        assert_eq!(inside, format!("{shown} {shown}"));
        let (accepted, refused) = match root {
            true => {
                assert_eq!(owner, 1234, "the machine's ids");
                ("none", "keep")
            }
            false => ("keep", "none"),
        };
        let mapped = written(t, &[&format!("--user-map={accepted}")]);
        assert_eq!(mapped, (if root { 1234 } else { caller }, inside));
        let refused = format!("--user-map={refused}");
        t.cask(&["run", "--rm", &refused, "busybox", "true"])
            .fails(125)
            .says(&format!("`{refused}` can't be had: "));
        // What is given to the image's user is that user's, whatever the map.
        let owned = [
            "run",
            "--rm",
            "-u",
            "1234:1234",
            "-v",
            "data:/v:U",
            "busybox",
        ];
        let out = t.cask(&[&owned[..], &["stat", "-c", "%u:%g", "/v"]].concat());
        assert_eq!(out.ok().stdout(), shown);
        t.cask(&["volume", "rm", "data"]).ok();
    });
}

/// A user with sub-ids, an image `app` with files of root and of its user, 1000:1001, and an
/// option that mounts a directory of the caller's.
fn keeper() -> (TestEnv, String) {
    let t = TestEnv::as_user("sub").dockerfile(
        "FROM busybox
COPY <<EOF /etc/passwd
root:x:0:0::/root:/bin/sh
app:x:1000:1001::/home/app:/bin/sh
EOF
RUN mkdir -p /home/app /data && echo h > /home/app/f && chown -R 1000:1001 /home/app /data
RUN echo r > /secret && chmod 600 /secret
USER app
",
    );
    t.busybox("busybox");
    t.build_with(&["-t", "app"]).ok();
    let dir = t.beside("own");
    fs::create_dir(&dir).unwrap();
    let caller = fs::metadata(t.root()).unwrap();
    chown(&dir, Some(caller.uid()), Some(caller.gid())).unwrap();
    let bind = format!("-v={}:/b", dir.display());
    (t, bind)
}

/// Owners in the container `box`, as a program in it sees them.
fn owners(t: &TestEnv, paths: &[&str]) -> String {
    let words = ["exec", "box", "stat", "-c", "%u:%g"];
    t.cask(&[&words[..], paths].concat())
        .ok()
        .stdout()
        .replace('\n', " ")
}

#[test]
fn the_user_of_a_container_can_be_the_caller() {
    let (t, bind) = keeper();
    let run = ["run", "-d", "--name=box", "--user-map=keep", &bind];
    let more = ["-v=new:/data", "--tmpfs=/t", "app", "sleep", "1000"];
    t.cask(&[&run[..], &more].concat()).ok();
    let seen = ["/b", "/home/app", "/data", "/secret", "/bin/busybox", "/t"];
    let expected = "1000:1001 1000:1001 1000:1001 0:0 0:0 0:0";
    assert_eq!(owners(&t, &seen), expected);
    assert_eq!(t.cask(&["exec", "box", "id", "-u"]).ok().stdout(), "1000");
    let script = "echo x > /b/x && echo g > /home/app/g && echo d > /data/d";
    t.cask(&["exec", "box", "sh", "-c", script]).ok();
    let caller = fs::metadata(t.root()).unwrap();
    let made = fs::metadata(t.beside("own").join("x")).unwrap();
    assert_eq!((made.uid(), made.gid()), (caller.uid(), caller.gid()));
    // What is root's is not the user's, and root inside is root there.
    t.cask(&["exec", "box", "cat", "/secret"]).fails(1);
    t.cask(&["exec", "box", "sh", "-c", "echo w > /w"]).fails(1);
    let script = "cat /secret && echo w > /w && chown 1000 /w && chown 5:6 /b/x \
                  && kill -0 $(pidof sleep)";
    t.cask(&["exec", "-u=0", "box", "sh", "-c", script]).ok();
    t.cask(&["restart", "-t=0", "box"]).ok();
    assert_eq!(owners(&t, &seen), expected);
    assert_eq!(owners(&t, &["/w", "/b/x"]), "1000:0 5:6");
    t.cask(&["rm", "-f", "box"]).ok();
    t.cask(&["volume", "rm", "new"]).ok();
}

#[test]
fn files_of_such_a_container_leave_and_reach_it_with_its_owners() {
    let (t, bind) = keeper();
    let script = "echo g > /home/app/g";
    let run = ["run", "--name=box", "--user-map=keep", &bind, "app"];
    t.cask(&[&run[..], &["sh", "-c", script]].concat()).ok();
    let changed = t.cask(&["diff", "box"]).ok().stdout();
    assert_eq!(changed, "C /home\nC /home/app\nA /home/app/g");
    t.write("in", "in");
    let inside = t.path("in").display().to_string();
    t.cask(&["cp", &inside, "box:/home/app/in"]).ok();
    let owner = |tar: &[u8], name: &str| {
        let mut archive = tar::Archive::new(tar);
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let is_it = |entry: &tar::Entry<'_, &[u8]>| entry.path_bytes().ends_with(name.as_bytes());
        let entry = entries.find(is_it).unwrap();
        let header = entry.header();
        (header.uid().unwrap(), header.gid().unwrap())
    };
    let all = t.cask(&["export", "box"]).ok().bytes().to_vec();
    let copied = t.cask(&["cp", "box:/home/app", "-"]).ok().bytes().to_vec();
    for tar in [&all, &copied] {
        assert_eq!(owner(tar, "app/f"), (1000, 1001));
        assert_eq!(owner(tar, "app/g"), (1000, 1001));
        assert_eq!(owner(tar, "app/in"), (0, 0));
    }
    assert_eq!(owner(&all, "secret"), (0, 0));
    // Of an image that is made of it nobody can tell whose it was.
    t.cask(&["commit", "box", "out"]).ok();
    let stat = ["stat", "-c", "%u:%g", "/home/app/g", "/home/app/in"];
    let stat = [&["run", "--rm", "out"][..], &stat].concat();
    assert_eq!(t.cask(&stat).ok().stdout(), "1000:1001\n0:0");
    t.cask(&["start", "-a", "box"]).ok();
    t.cask(&["rm", "box"]).ok();
}

#[test]
fn ids_of_its_own_need_no_init_and_a_user_that_is_there() {
    let (t, bind) = keeper();
    let keep = ["run", "--rm", "--user-map=keep", &bind];
    let script = "id -u; stat -c %u /secret /b";
    let program = ["--init=false", "app", "sh", "-c", script];
    let seen = t.cask(&[&keep[..], &program].concat()).ok().stdout();
    assert_eq!(seen, "1000\n0\n1000");
    // Root is the caller without any of this.
    let program = ["-u=0", "app", "sh", "-c", script];
    let seen = t.cask(&[&keep[..], &program].concat()).ok().stdout();
    assert_eq!(seen, "0\n0\n0");
    t.cask(&[&keep[..], &["-u=none", "app", "true"]].concat())
        .fails(125)
        .says("user `none` is not in the image's /etc/passwd");
    t.cask(&[&keep[..], &["-u=99999999", "app", "true"]].concat())
        .fails(125)
        .says("the user 99999999:0 is beyond the ids")
        .says("/etc/subuid");
    assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout(), "");
}
