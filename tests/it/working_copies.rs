//! Working containers where no overlay can be mounted: on a copy of their image's files.

use std::fs;

use crate::support::TestEnv;
use crate::working::{COOPER, field, script, sh};

/// Files that the verbs change, in layers of their own.
const BASE: &str = "FROM busybox
RUN mkdir -p /d/sub /e/f /gone/deep /opt && echo 1 > /d/a && echo 2 > /d/b && echo 3 > /d/sub/c \\
    && ln -s a /d/l && mkfifo /d/p && echo x > /e/f/x && echo y > /gone/deep/y && echo z > /z
RUN echo w > /w && chown 7:8 /w && chmod 4711 /w
";

/// What programs do, one after the other. With one id what is moved between layers must be root's.
const PROGRAMS: [&str; 4] = [
    "echo more >> /d/a && rm /d/b && chmod 700 /d/sub && chown 33:34 /d/l /e/f/x",
    "rm -r /gone && rm -r /e && mkdir /e && echo new > /e/new && rm /d/l && mkdir /d/l
     rm -r /d/sub && echo file > /d/sub && chown -h 5:6 /d/p && echo short-lived > /short-lived",
    "ln /z /zz && chown -R 0:0 /d && mv /d /moved && touch -d @5 /opt && rm /short-lived",
    "echo again > /moved/a && cat /w > /dev/null",
];

fn env(user: Option<&str>) -> TestEnv {
    let t = match user {
        Some(user) => TestEnv::as_user(user),
        None => TestEnv::new(),
    };
    t.busybox("busybox");
    t.write("Dockerfile", BASE);
    t.cooper(&["build", "-q", "--network=none", "-t", "base", "."])
        .ok();
    t
}

fn from(t: &TestEnv, snapshotter: &str) {
    let how = format!("--snapshotter={snapshotter}");
    let name = format!("--name={snapshotter}");
    t.cooper(&["from", &how, &name, "base"]).ok();
}

/// Where a container's files are.
fn dir(t: &TestEnv, name: &str) -> std::path::PathBuf {
    t.root()
        .join("containers")
        .join(field(t, name, "{{.ContainerID}}"))
}

#[test]
fn a_copy_gives_the_same_image_as_an_overlay() {
    for user in [None, Some("sub"), Some("nosub")] {
        let t = env(user);
        t.write("in/one", "1");
        t.write("in/sub/two", "2");
        t.chmod("in/one", 0o755);
        let made = ["overlay", "copy"].map(|name| {
            from(&t, name);
            for program in PROGRAMS {
                sh(&t, name, program);
            }
            let copy = |args: &[&str]| t.cooper(&[&["copy", "-q"], args].concat()).ok();
            copy(&["--chown=3:4", name, "in", "/opt"]);
            copy(&[name, "in/one", "/z"]);
            copy(&["--from", name, name, "/moved/a", "/copied/a"]);
            t.cooper(&["config", "--env=A=1", name]).ok();
            let commit = |options: &[&str]| {
                let args = ["commit", "-q", "--timestamp=1700000000", name];
                t.cooper(&[&args, options].concat()).ok().stdout()
            };
            (commit(&[]), commit(&["--squash"]))
        });
        assert_eq!(made[0], made[1], "{user:?}");
        assert!(dir(&t, "copy").join("copy/moved/a").exists(), "{user:?}");
        assert!(dir(&t, "overlay").join("upper").exists(), "{user:?}");
        let seen = sh(&t, "copy", "cat /z /moved/a /copied/a /opt/sub/two");
        assert_eq!(seen, "1again\nagain\n2", "{user:?}");
        t.cooper(&["rm", "-a"]).ok();
        assert_eq!(t.cooper(&["containers", "-q"]).ok().stdout(), "");
    }
}

#[test]
fn a_commit_of_a_copy_that_was_only_looked_at_adds_no_layer() {
    let t = env(None);
    from(&t, "copy");
    sh(&t, "copy", "cat /d/a; ls -R /d /e");
    t.cooper(&["commit", "-q", "copy", "same"]).ok();
    let layers = |image: &str| field(&t, image, "{{.RootFS.Layers}}");
    assert_eq!(layers("same"), layers("base"));
}

#[test]
fn a_container_can_begin_with_nothing_in_either_form() {
    for user in [None, Some("sub"), Some("nosub")] {
        let t = match user {
            Some(user) => TestEnv::as_user(user),
            None => TestEnv::new(),
        };
        let t = t.file("f", "f");
        for how in ["overlay", "copy"] {
            let snapshotter = format!("--snapshotter={how}");
            t.cooper(&["from", &snapshotter, "--name", how, "scratch"])
                .ok();
            t.cooper(&["copy", "-q", how, "f", "/dir/f"]).ok();
            t.cooper(&["copy", "-q", how, "f", "/dir/g"]).ok();
            t.cooper(&["commit", "-q", how, how]).ok();
            t.write("Dockerfile", format!("FROM {how}\n"));
            let dest = format!("type=local,dest=out-{how}");
            t.cooper(&["build", "-o", &dest, "."]).ok();
            let file = t.path(&format!("out-{how}/dir/g"));
            assert_eq!(fs::read_to_string(file).unwrap(), "f", "{user:?} {how}");
        }
    }
}

#[test]
fn the_form_that_a_container_was_written_in_stays() {
    let t = env(None);
    from(&t, "copy");
    sh(&t, "copy", "echo 1 > /one");
    let t = t.var("COOPER_SNAPSHOTTER", "overlay");
    sh(&t, "copy", "cat /one && echo 2 > /two");
    assert!(dir(&t, "copy").join("copy/two").exists());
    assert!(!dir(&t, "copy").join("upper").exists());
}

#[test]
fn what_a_killed_verb_left_of_a_copy_is_made_anew() {
    let t = env(None);
    from(&t, "copy");
    let part = dir(&t, "copy").join("copy.part");
    fs::create_dir_all(part.join("left/over")).unwrap();
    fs::write(part.join("d"), "no directory").unwrap();
    assert_eq!(
        sh(&t, "copy", "cat /d/a; ls -d /left || echo gone"),
        "1\ngone"
    );
    assert!(!part.exists());
    // What is half known is not taken for an answer.
    let before = dir(&t, "copy").join("before");
    let bytes = fs::read(&before).unwrap();
    fs::write(&before, &bytes[..bytes.len() / 2]).unwrap();
    t.cooper(&["commit", "-q", "copy"])
        .fails(1)
        .says("cannot read")
        .says("before");
}

#[test]
fn files_of_a_copy_are_mounted_and_copied_in_other_containers() {
    let t = env(None);
    from(&t, "copy");
    sh(&t, "copy", "rm /z; echo new > /d/new");
    t.cooper(&["from", "--name=other", "base"]).ok();
    let mount = "--mount=type=bind,from=copy,dst=/m";
    let out = t.cooper(&[
        "run",
        mount,
        "other",
        "sh",
        "-c",
        "ls /m/d; ls /m/z || echo gone",
    ]);
    assert_eq!(out.ok().stdout(), "a\nb\nl\nnew\np\nsub\ngone");
    t.cooper(&["copy", "-q", "--from=copy", "other", "/d/new", "/new"])
        .ok();
    assert_eq!(sh(&t, "other", "cat /new"), "new");
}

/// The store lies on an overlay, which can't be the upper layer of another.
#[test]
fn where_no_overlay_can_be_mounted_containers_live_on_a_copy() {
    let t = env(None);
    for dir in ["lower", "upper", "work", "merged"] {
        fs::create_dir(t.beside(dir)).unwrap();
    }
    let archive = t.beside("base.tar");
    t.cooper(&["save", "-o", archive.to_str().unwrap(), "base"])
        .ok();
    let text = format!(
        "cd {0}
        mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged
        cooper() {{ {COOPER} --root {0}/merged/store \"$@\"; }}
        cooper load -q -i base.tar
        cooper from --name c base
        cooper run c sh -c 'echo made > /made; rm /z'
        cooper run c sh -c 'test ! -e /z && cat /made'
        m=$(cooper mount c)
        cat $m/made
        cooper commit -q c image
        cooper diff base image
        cooper rm c > /dev/null",
        t.beside("").display()
    );
    let (ok, said) = script(&t, &["unshare", "-m"], &text);
    assert!(ok, "{said}");
    assert!(said.contains("\nmade\nmade\n"), "{said}");
}

#[test]
fn without_namespaces_files_are_copied_in_and_committed() {
    let t = TestEnv::as_user("sub").var("COOPER_ISOLATION", "chroot");
    t.busybox("busybox");
    t.write("f", "text");
    t.cooper(&["from", "--name=c", "busybox"]).ok();
    t.cooper(&["copy", "-q", "--chown=5:6", "c", "f", "/f"])
        .ok();
    t.cooper(&["commit", "-q", "c", "made"]).ok();
    t.write("Dockerfile", "FROM made\n");
    let listing = t.listing(&[], ".");
    let line = listing.iter().find(|line| line.ends_with(" f"));
    assert!(
        line.is_some_and(|line| line.contains(" 5/6 ")),
        "{listing:?}"
    );
}
