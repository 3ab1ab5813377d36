//! RUN without overlay: on a copy of what is below, of which the changes are found.

use crate::support::TestEnv;

const COOPER: &str = env!("CARGO_BIN_EXE_cooper");

/// Every kind of change, on what earlier steps made: bytes, modes, owners, names more and less,
/// directories that go, come back and are moved, other kinds in the same place. What is moved is
/// root's: with one id `mv` between layers of an overlay sees no other owner.
const CHANGES: &str = "FROM busybox
RUN mkdir -p /d/sub /e/f /gone/deep /opt && echo 1 > /d/a && echo 2 > /d/b && echo 3 > /d/sub/c \\
    && ln -s a /d/l && mkfifo /d/p && echo x > /e/f/x && echo y > /gone/deep/y && echo z > /z
RUN echo more >> /d/a && rm /d/b && chmod 700 /d/sub && chown 33:34 /d/l /e/f/x
RUN rm -r /gone && rm -r /e && mkdir /e && echo new > /e/new && rm /d/l && mkdir /d/l \\
    && rm -r /d/sub && echo file > /d/sub && chown -h 5:6 /d/p
RUN ln /z /zz && chown -R 0:0 /d && mv /d /moved && echo host > /etc/hostname2 && touch -d @5 /opt && true > /etc/hosts2
RUN cat /z > /dev/null; test -p /moved/p && ls -l /moved /e
";

fn env(user: Option<&str>) -> TestEnv {
    let env = match user {
        Some(user) => TestEnv::as_user(user),
        None => TestEnv::new(),
    };
    env.busybox("busybox");
    env
}

fn id(env: &TestEnv, snapshotter: &str) -> String {
    let option = format!("--snapshotter={snapshotter}");
    let built = env.cooper(&[
        "build",
        "-q",
        "--no-cache",
        "--network=none",
        "--timestamp=1700000000",
        &option,
        ".",
    ]);
    built.ok().stdout()
}

#[test]
fn a_copy_gives_the_same_image_as_an_overlay() {
    for user in [None, Some("sub"), Some("nosub")] {
        let env = env(user);
        env.write("Dockerfile", CHANGES);
        assert_eq!(id(&env, "copy"), id(&env, "overlay"), "{user:?}");
    }
}

#[test]
fn mounts_work_on_a_copy_and_leave_no_trace() {
    let env = env(None).var("COOPER_SNAPSHOTTER", "copy");
    env.write("from-context", "context\n");
    env.write(
        "Dockerfile",
        "FROM busybox AS tools
RUN mkdir /t && echo tool > /t/tool && chown 7:8 /t/tool
FROM busybox
RUN --mount=type=bind,from=tools,source=/t,target=/mnt/t,rw \\
    --mount=type=bind,target=/mnt/c --mount=type=tmpfs,target=/scratch --mount=type=cache,target=/c \\
    cat /mnt/t/tool /mnt/c/from-context && stat -c %u:%g /mnt/t/tool && echo lost > /mnt/t/tool \\
    && echo lost > /scratch/x && echo kept > /c/x && ls -a /mnt > /seen
RUN --mount=type=bind,from=tools,source=/t,target=/mnt cat /mnt/tool
RUN test ! -e /mnt && test ! -e /scratch && test ! -e /c && cat /seen
",
    );
    let built = env
        .build_with(&["--network=none", "-o", "type=tar,dest=-"])
        .ok();
    let said = built.stderr();
    for line in ["tool", "7:8", "context"] {
        assert!(said.contains(&format!(" {line}\n")), "no {line}:\n{said}");
    }
    assert!(!said.contains(" lost\n"), "{said}");
    let mut archive = tar::Archive::new(built.bytes());
    let names = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        entry.path().unwrap().display().to_string()
    });
    let names: Vec<String> = names.filter(|name| !name.starts_with("bin/")).collect();
    for absent in ["mnt/", "scratch/", "c/", "t/", "proc/", "dev/", "sys/"] {
        assert!(!names.contains(&absent.to_owned()), "{absent}: {names:?}");
    }
    assert!(names.contains(&"seen".to_owned()), "{names:?}");
}

/// The store lies on an overlay, which can't be the upper layer of another.
#[test]
fn where_no_overlay_can_be_mounted_a_copy_is_taken_and_told() {
    let env = TestEnv::new();
    for dir in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(env.beside(dir)).unwrap();
    }
    env.busybox("busybox");
    let archive = env.beside("busybox.tar");
    let archive = archive.to_str().unwrap();
    let _ = env.cooper(&["save", "-o", archive, "busybox"]).ok();
    env.write(
        "Dockerfile",
        "FROM busybox\nRUN echo one > /one && mkdir /d && echo two > /d/two\n\
         RUN test -e /one && rm -r /one /d/two && mkdir /d/one\n\
         RUN test ! -e /one && test ! -e /d/two && rm -r /d\n\
         RUN test ! -e /d && mkdir /d && touch /d/new\n\
         RUN test \"$(ls /d)\" = new\n",
    );
    let script =
        "mount -t overlay overlay -o lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work $1/merged
        set -e
        $2 --root $1/merged/store load -i $3
        $2 --root $1/merged/store doctor
        $2 --root $1/merged/store build --network=none --progress=plain .";
    let dir = env.beside("");
    let mut command = env.command("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]);
    command.args([dir.to_str().unwrap(), COOPER, archive]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("snapshotter:    copy, because an overlay can't be mounted ("),
        "{said}"
    );
    let told = "snapshotter: copy, because an overlay can't be mounted in the store (";
    assert_eq!(said.matches(told).count(), 1, "{said}");
}

#[test]
fn a_choice_is_told_and_a_wrong_one_refused() {
    let env = env(None);
    env.write("Dockerfile", "FROM busybox\nRUN true\n");
    let _ = env
        .build_with(&["--network=none", "--snapshotter=copy"])
        .ok()
        .says("snapshotter: copy, because it was asked for");
    let overlay = env.build_with(&["--network=none", "--no-cache", "--snapshotter=overlay"]);
    assert!(!overlay.ok().stderr().contains("snapshotter"));
    let _ = env
        .build_with(&["--snapshotter=zfs"])
        .fails(2)
        .says("expected overlay or copy");
    let env = env.var("COOPER_SNAPSHOTTER", "zfs");
    let _ = env
        .build()
        .fails(2)
        .says("COOPER_SNAPSHOTTER is `zfs`: expected overlay or copy");
}
