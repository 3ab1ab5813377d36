//! Working containers: `from`, `run`, `copy`, `add`, `containers`, `rm` and `rename`. Commits and
//! mounts have files of their own.

use std::process::Command;

use crate::support::TestEnv;

pub(crate) const C: &str = "busybox-working-container";

/// The program, for scripts.
pub(crate) const COOPER: &str = env!("CARGO_BIN_EXE_cooper");

fn env() -> TestEnv {
    let t = TestEnv::new();
    t.busybox("busybox");
    t
}

/// An environment with one working container of busybox.
pub(crate) fn started() -> TestEnv {
    let t = env();
    t.cooper(&["from", "busybox"]).ok();
    t
}

/// What a shell script in the container prints.
#[track_caller]
pub(crate) fn sh(t: &TestEnv, container: &str, script: &str) -> String {
    t.cooper(&["run", container, "--", "sh", "-c", script])
        .ok()
        .stdout()
}

pub(crate) fn field(t: &TestEnv, what: &str, template: &str) -> String {
    t.cooper(&["inspect", "--format", template, what])
        .ok()
        .stdout()
}

/// Exit code and output of a script that runs as the environment's user.
pub(crate) fn script(t: &TestEnv, program: &[&str], text: &str) -> (bool, String) {
    let mut command: Command = t.command(program[0]);
    command.args(&program[1..]).args(["sh", "-euc", text]);
    let out = command.output().unwrap();
    let all = [out.stdout, out.stderr].concat();
    (
        out.status.success(),
        String::from_utf8_lossy(&all).into_owned(),
    )
}

#[test]
fn containers_are_named_after_their_image() {
    let t = env();
    let from = |args: &[&str]| t.cooper(&[&["from"], args].concat()).ok().stdout();
    assert_eq!(from(&["busybox"]), C);
    assert_eq!(
        from(&["docker.io/library/busybox:latest"]),
        format!("{C}-1")
    );
    assert_eq!(from(&["busybox"]), format!("{C}-2"));
    assert_eq!(from(&["scratch"]), "working-container");
    let id = field(&t, "busybox", "{{.Id}}");
    assert_eq!(from(&["--name", "mine", &id]), "mine");
    t.cooper(&["from", "--name", "mine", "busybox"])
        .fails(1)
        .says("the name `mine` is taken by working container");
    t.cooper(&["from", "--name", "a/b", "busybox"]).fails(1);
    t.cooper(&["from", "--pull=never", "nothing"])
        .fails(1)
        .says("nothing");
}

#[test]
fn a_container_can_come_from_a_layout_and_write_its_id_down() {
    let t = env();
    t.cooper(&["push", "-q", "busybox", "oci:layout:x"]).ok();
    t.cooper(&["from", "--name", "l", "--cidfile", "cid", "oci:layout:x"])
        .ok();
    let id = std::fs::read_to_string(t.path("cid")).unwrap();
    assert_eq!(field(&t, "l", "{{.ContainerID}}"), id);
    assert_eq!(sh(&t, "l", "echo works"), "works");
}

#[test]
fn two_at_once_never_get_one_name() {
    let t = env();
    let names: Vec<String> = std::thread::scope(|scope| {
        let from = || t.cooper(&["from", "busybox"]).ok().stdout();
        let all: Vec<_> = (0..4).map(|_| scope.spawn(from)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), 4, "{names:?}");
}

#[test]
fn containers_are_listed_renamed_and_removed() {
    let t = started();
    t.cooper(&["from", "--name", "empty", "scratch"]).ok();
    t.cask(&["create", "--name", "running", "busybox"]).ok();
    let list = |args: &[&str]| t.cooper(&[&["containers"], args].concat()).ok();
    let names = |args: &[&str]| {
        let format = ["--format", "{{.ContainerName}} {{.Builder}} {{.ImageName}}"];
        list(&[&format[..], args].concat()).stdout()
    };
    assert_eq!(names(&[]), format!("{C} * busybox\nempty * scratch"));
    assert_eq!(names(&["-a", "-f", "name=run"]), "running  busybox");
    assert_eq!(names(&["-f", "ancestor=busybox"]), format!("{C} * busybox"));
    assert!(
        list(&[])
            .stdout()
            .starts_with("CONTAINER ID   BUILDER   IMAGE ID ")
    );
    assert!(!list(&["--noheading"]).stdout().contains("CONTAINER ID"));
    let json: serde_json::Value = serde_json::from_str(&list(&["--json"]).stdout()).unwrap();
    assert_eq!(json[1]["containername"], "empty");
    assert_eq!(json[1]["builder"], true);
    let ids = list(&["-q"]).stdout();
    assert_eq!(ids.lines().count(), 2);
    t.cooper(&["rename", "empty", "full"]).ok();
    t.cooper(&["rename", "full", C]).fails(1).says("is taken");
    t.cooper(&["run", "ful", "true"])
        .fails(1)
        .says("there is no working container `ful`")
        .says("did you mean `full`?");
    let id = ids.lines().next().unwrap();
    assert_eq!(t.cooper(&["rm", &id[..10]]).ok().stdout(), id);
    t.cooper(&["rm", "-a"]).ok();
    assert_eq!(list(&["-q"]).stdout(), "");
    assert_eq!(names(&["-a"]), "running  busybox", "cask's are left alone");
}

#[test]
fn an_image_that_a_container_uses_is_not_removed() {
    let t = started();
    t.cooper(&["rmi", "busybox"])
        .fails(1)
        .says("is used by container");
    t.cooper(&["rm", C]).ok();
    t.cooper(&["rmi", "busybox"]).ok();
}

#[test]
fn what_a_program_writes_stays_however_it_ends() {
    let t = started();
    let run = |script: &str| t.cooper(&["run", C, "sh", "-c", script]);
    run("echo one > /file").ok();
    run("echo two >> /file; exit 42").fails(42);
    run("kill -9 $$").fails(137);
    assert_eq!(sh(&t, C, "cat /file"), "one\ntwo");
    t.cooper(&["run", C, "/no/such"])
        .fails(127)
        .says("`/no/such`");
    t.cooper(&["run", C, "/etc"]).fails(126);
    t.cooper(&["run", C, "--"]).fails(2);
}

#[test]
fn a_program_has_the_callers_streams() {
    let t = started();
    let out = t
        .cooper_reading(b"typed", &["run", C, "sh", "-c", "cat; echo wrong >&2"])
        .ok();
    assert_eq!(
        (out.stdout(), out.stderr()),
        ("typed".to_owned(), "wrong\n".to_owned())
    );
    let with = |option: &str| {
        let out = t.cooper(&[
            "run",
            option,
            C,
            "sh",
            "-c",
            "test -t 1 && echo yes; exit 3",
        ]);
        out.fails(3).stdout()
    };
    assert_eq!(with("-t"), "yes\r");
    assert_eq!(with("--terminal=false"), "");
}

#[test]
fn options_of_run_are_those_of_the_instruction() {
    let t = started()
        .var("PASSED", "outside")
        .file("host/file", "host\n");
    t.cooper(&[
        "config",
        "--env",
        "A=config",
        "--user",
        "7",
        "--workingdir",
        "/tmp",
        C,
    ])
    .ok();
    assert_eq!(sh(&t, C, "echo $A $(id -u) $PWD"), "config 7 /tmp");
    let host = format!("{}:/mnt:ro", t.path("host").display());
    let bind = format!("type=bind,src={},dst=/bound", t.path("host").display());
    let out = t.cooper(&[
        "run",
        "--user=0:9",
        "--workingdir=/new",
        "-e",
        "A=run",
        "--env",
        "PASSED",
        "-v",
        &host,
        "--mount",
        &bind,
        "--mount",
        "type=tmpfs,dst=/scratch",
        "--hostname=named",
        "--network=none",
        "--add-host=db:10.1.2.3",
        "--cap-drop=ALL",
        C,
        "sh",
        "-c",
        "echo $A $PASSED $(id -u):$(id -g) $PWD $(hostname)
         cat /mnt/file; echo no > /mnt/file || echo read-only
         echo back > /bound/back; touch /scratch/x; grep -c 10.1.2.3 /etc/hosts
         grep CapEff /proc/self/status; ls /sys/class/net",
    ]);
    let out = out.ok().stdout();
    assert!(
        out.starts_with("run outside 0:9 /new named\nhost\nread-only\n1\n"),
        "{out}"
    );
    assert!(out.ends_with("CapEff:\t0000000000000000\nlo"), "{out}");
    assert_eq!(
        std::fs::read_to_string(t.path("host/back")).unwrap(),
        "back\n"
    );
    assert_eq!(
        sh(&t, C, "echo $A; ls /scratch /mnt 2>&1 | grep host | wc -l"),
        "config\n0"
    );
    t.cooper(&["run", "-v", "named:/data", C, "true"])
        .fails(2)
        .says("needs a path of the machine");
}

#[test]
fn caches_secrets_and_binds_from_images_are_mounted_as_run_mounts_them() {
    let t = started().file("secret", "s3cret");
    let run = |options: &[&str], script: &str| {
        t.cooper(&[&["run"], options, &[C, "sh", "-c", script]].concat())
            .ok()
            .stdout()
    };
    let cache = ["--mount", "type=cache,target=/cache"];
    run(&cache, "echo kept > /cache/f");
    assert_eq!(run(&cache, "cat /cache/f"), "kept");
    let secret = ["--secret", "id=s,src=secret", "--mount", "type=secret,id=s"];
    assert_eq!(run(&secret, "cat /run/secrets/s"), "s3cret");
    let image = [
        "--mount",
        "type=bind,from=busybox,source=/bin,target=/other",
    ];
    assert_eq!(run(&image, "test -x /other/sh && echo there"), "there");
    assert_eq!(
        run(&[], "ls /cache /run/secrets /other 2>/dev/null | wc -l"),
        "0"
    );
    t.cooper(&["run", "--mount", "type=bogus,target=/x", C, "true"])
        .fails(1)
        .says("bogus");
}

#[test]
fn copy_follows_the_rules_of_the_instruction() {
    let t = started()
        .file("one", "1")
        .file("dir/two", "2")
        .file("dir/sub/three", "3");
    t.chmod("one", 0o600);
    let copy = |args: &[&str]| t.cooper(&[&["copy", "-q"], args].concat());
    copy(&[C, "one", "/into/"]).ok();
    copy(&["--chown=5:6", "--chmod=0751", C, "dir", "/into"]).ok();
    copy(&["--exclude=sub", C, "dir", "/less"]).ok();
    let whole = t.path("one").display().to_string();
    copy(&[C, &whole, "dir/t*", "/many/"]).ok();
    t.cooper(&["config", "--workingdir", "/work", C]).ok();
    copy(&[C, "one"]).ok();
    let listed = "cd /into; find . -type f | sort | xargs stat -c '%n %a %u:%g'; cat one two";
    assert_eq!(
        sh(&t, C, listed),
        "./one 600 0:0\n./sub/three 751 5:6\n./two 751 5:6\n12"
    );
    assert_eq!(
        sh(&t, C, "ls /less /many /work"),
        "/less:\ntwo\n\n/many:\none\ntwo\n\n/work:\none"
    );
    copy(&[C, "one", "dir/two", "/into/one"])
        .fails(1)
        .says("cannot copy into");
    copy(&[C, "absent", "/"]).fails(1).says("absent");
    // What a Dockerfile would expand or quote is taken as it is.
    t.write("$odd 'name'", "odd");
    copy(&[C, "$odd 'name'", "/$to"]).ok();
    assert_eq!(sh(&t, C, "cat '/$to'"), "odd");
}

#[test]
fn copies_replace_what_an_earlier_verb_wrote_and_removed() {
    let t = started().file("d/new", "new");
    sh(
        &t,
        C,
        "rm -r /tmp; mkdir -p /d; echo old > /d/old; echo old > /d/new",
    );
    t.cooper(&["copy", C, "d", "/tmp"]).ok();
    t.cooper(&["copy", C, "d", "/d"]).ok();
    assert_eq!(
        sh(&t, C, "ls /tmp /d; cat /d/new"),
        "/d:\nnew\nold\n\n/tmp:\nnew\nnew"
    );
}

#[test]
fn a_context_directory_keeps_links_inside_and_has_an_ignore_file() {
    let t = started()
        .file("ctx/kept", "kept")
        .file("ctx/left", "left")
        .file("ctx/.dockerignore", "kept\n")
        .file("rules", "left\n");
    t.symlink("/etc/passwd", "ctx/out");
    let copy = |args: &[&str]| t.cooper(&[&["copy", "-q", "--contextdir=ctx"], args].concat());
    copy(&["--ignorefile=rules", C, ".", "/a"]).ok();
    assert_eq!(sh(&t, C, "ls /a"), "kept\nout");
    copy(&[C, "out", "/b"]).fails(1);
    t.cooper(&["copy", "--ignorefile=rules", C, "ctx", "/c"])
        .fails(2);
}

#[test]
fn files_are_copied_from_other_containers_and_images() {
    let t = started();
    t.cooper(&["from", "--name", "builder", "busybox"]).ok();
    sh(
        &t,
        "builder",
        "mkdir /out; echo built > /out/app; chmod 700 /out/app; chown 3:4 /out/app",
    );
    t.cooper(&["copy", "--from", "builder", C, "/out/app", "/bin/app"])
        .ok();
    t.cooper(&["commit", "-q", "builder", "stored"]).ok();
    t.cooper(&["copy", "--from=stored", C, "/out", "/from-image"])
        .ok();
    let seen = "stat -c '%a %u:%g' /bin/app /from-image/app; cat /bin/app /from-image/app";
    assert_eq!(sh(&t, C, seen), "700 3:4\n700 3:4\nbuilt\nbuilt");
    t.cooper(&["copy", "--from=builder", C, "/nothing", "/"])
        .fails(1)
        .says("`builder`");
}

#[test]
fn add_unpacks_archives_and_copy_does_not() {
    let t = started().file("in/x", "x");
    let tar = Command::new("tar")
        .args(["-cf", "a.tar", "in"])
        .current_dir(t.path(""))
        .status();
    assert!(tar.unwrap().success());
    t.cooper(&["add", C, "a.tar", "/added"]).ok();
    t.cooper(&["copy", C, "a.tar", "/copied/"]).ok();
    assert_eq!(sh(&t, C, "cat /added/in/x; ls /copied"), "xa.tar");
    t.cooper(&["add", "--checksum=sha256:00", C, "a.tar", "/"])
        .fails(1)
        .says("checksum");
}

#[test]
fn verbs_on_one_container_wait_for_each_other() {
    let t = started();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let script = "n=$(cat /n 2>/dev/null || echo 0); sleep 0.1; echo $((n + 1)) > /n";
            scope.spawn(|| sh(&t, C, script));
        }
    });
    assert_eq!(sh(&t, C, "cat /n"), "4");
}

#[test]
fn what_from_was_told_of_programs_holds_until_run_says_otherwise() {
    let t = env()
        .file("host/f", "of the host\n")
        .var("http_proxy", "http://p:1");
    let volume = format!("{}:/mnt:ro", t.path("host").display());
    t.cooper(&[
        "from",
        "--name=c",
        "--cap-drop=CHOWN,KILL",
        "--add-host=db:10.1.2.3",
        "--dns=10.9.9.9",
        "--dns-search=x.example",
        "--network=none",
        "--ulimit=nofile=100",
        "--shm-size=2m",
        "--group-add=77",
        "--http-proxy=false",
        "-v",
        &volume,
        "busybox",
    ])
    .ok();
    let shown = "cat /mnt/f; grep -o 10.1.2.3 /etc/hosts; ulimit -n; id -G; ls /sys/class/net
        echo \"<$http_proxy>\"; df -k /dev/shm | tail -n 1 | awk '{ print $2 }'
        chown 1 /tmp 2>/dev/null || echo shut";
    assert_eq!(
        sh(&t, "c", shown),
        "of the host\n10.1.2.3\n100\n0 77\nlo\n<>\n2048\nshut"
    );
    let run = |options: &[&str], script: &str| {
        let args = [&["run"], options, &["c", "sh", "-c", script]].concat();
        t.cooper(&args).ok().stdout()
    };
    assert_eq!(
        run(&["--cap-add=CHOWN"], "chown 1 /tmp && echo open"),
        "open"
    );
    let resolv = run(&["--network=host"], "cat /etc/resolv.conf");
    assert!(
        resolv.contains("nameserver 10.9.9.9") && resolv.contains("search x.example"),
        "{resolv}"
    );
    let resolv = run(
        &["--network=host", "--dns=10.8.8.8"],
        "cat /etc/resolv.conf",
    );
    assert!(!resolv.contains("10.9.9.9"), "{resolv}");
    // None of it is in the image.
    t.cooper(&["commit", "-q", "--rm", "c", "made"]).ok();
    t.cask(&["run", "--rm", "made", "ls", "/mnt"]).fails(1);
    t.cooper(&["from", "--network=bogus", "busybox"]).fails(2);
    t.cooper(&["from", "--pid=host", "busybox"]).fails(2);
}

#[test]
fn mounts_show_files_of_other_containers() {
    let t = started().file("context/f", "of the context\n");
    for name in ["one", "two"] {
        t.cooper(&["from", "--name", name, "busybox"]).ok();
        sh(&t, name, &format!("mkdir /d; echo {name} > /d/f"));
    }
    let out = t.cooper(&[
        "run",
        "--mount=type=bind,from=one,src=/d,dst=/one",
        "--mount=type=bind,from=busybox,dst=/image",
        "--mount=type=bind,from=two,src=/d,dst=/two,rw",
        C,
        "sh",
        "-c",
        "cat /one/f /two/f; ls /image/bin/sh; echo gone > /two/f; touch /one/f || echo read-only",
    ]);
    assert_eq!(out.ok().stdout(), "one\ntwo\n/image/bin/sh\nread-only");
    assert_eq!(sh(&t, "two", "cat /d/f"), "two", "writes are thrown away");
    let context = format!("--contextdir={}", t.path("context").display());
    let out = t.cooper(&[
        "run",
        &context,
        "--mount=type=bind,src=f,dst=/f",
        C,
        "cat",
        "/f",
    ]);
    assert_eq!(out.ok().stdout(), "of the context");
}
