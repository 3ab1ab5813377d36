//! What `cask` says of wrong input, and that nothing half made stays of it. Ports are in `ports`,
//! networks in `cask_networks`, options of volumes in `cask_volumes`.

use crate::support::TestEnv;

fn env() -> TestEnv {
    let t = TestEnv::new();
    t.busybox("busybox");
    t
}

#[test]
fn a_name_that_is_taken_says_by_whom() {
    let t = env();
    let id = t.cask(&["create", "--name", "box", "busybox"]).ok();
    let says = format!("taken by container {}", &id.stdout()[..12]);
    for verb in ["create", "run"] {
        t.cask(&[verb, "--name", "box", "-v", "/data", "busybox", "true"])
            .exits_any(&[1, 125])
            .says(&says)
            .says("`cask rm box`, or another name");
    }
    assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout().lines().count(), 1);
    assert_eq!(t.cask(&["volume", "ls", "-q"]).ok().stdout(), "");
}

#[test]
fn a_container_that_is_not_there_names_those_that_are_near() {
    let t = env();
    t.cask(&["create", "--name", "backend", "busybox"]).ok();
    for verb in [
        "start", "stop", "logs", "top", "port", "diff", "wait", "attach",
    ] {
        for slip in ["back", "bakcend", "backends"] {
            t.cask(&[verb, slip])
                .fails(1)
                .says(&format!("no container `{slip}`"))
                .says("did you mean `backend`?");
        }
    }
    t.cask(&["exec", "nothing", "true"])
        .fails(1)
        .says("`cask ps -a` lists what is there");
}

#[test]
fn what_a_program_lacks_is_named() {
    let t = env();
    t.write("bash", "#!/bin/bash\necho hi\n");
    t.write("crlf", "#!/bin/sh\r\necho hi\n");
    t.write("plain", "no program at all\n");
    ["bash", "crlf", "plain"]
        .iter()
        .for_each(|name| t.chmod(name, 0o755));
    std::fs::copy("/bin/ls", t.path("ls")).unwrap();
    t.write(
        "Dockerfile",
        "FROM busybox\nCOPY bash crlf plain ls /x/\nFROM scratch AS bare\nCOPY --from=0 /x /x\n",
    );
    t.build_with(&["--target", "0", "-t", "app"]).ok();
    t.build_with(&["-t", "bare"]).ok();
    for (image, program, code, why) in [
        (
            "app",
            "/x/bash",
            127,
            "needs `/bin/bash`, which is not in the image",
        ),
        ("app", "/x/crlf", 127, "needs `/bin/sh"),
        ("app", "/x/ls", 127, "needs `/lib64/ld-linux"),
        ("app", "/x/none", 127, "`/x/none`"),
        ("app", "none", 127, "`none`"),
        ("app", "/x", 126, "`/x`"),
        ("app", "/etc/passwd", 126, "`/etc/passwd`"),
        ("app", "", 127, "program `` is not in the image"),
        ("bare", "sh", 127, "`sh`"),
    ] {
        t.cask(&["run", image, program]).fails(code).says(why);
    }
    // The shell of a command in shell form as well.
    let checked = ["run", "--entrypoint", "/bin/sh", "bare", "-c", "true"];
    t.cask(&checked).fails(127).says("`/bin/sh`");
    assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout(), "");
}

#[test]
fn a_working_directory_is_absolute_and_there() {
    let t = env();
    for verb in ["create", "run"] {
        t.cask(&[verb, "-w", "relative", "busybox", "true"])
            .exits_any(&[2, 125])
            .says("`relative` is not absolute");
    }
    assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout(), "");
    t.cask(&["run", "-w", "/etc/passwd", "busybox", "true"])
        .fails(126)
        .says("/etc/passwd");
    let run = ["run", "--rm", "-w", "", "busybox", "pwd"];
    assert_eq!(t.cask(&run).ok().stdout(), "/");
    t.cask(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .ok();
    for (options, code, why) in [
        (&["-w", "/none"][..], 127, "/none"),
        (&["-w", "/etc/passwd"], 126, "/etc/passwd"),
        (&["-w", "relative"], 2, "`relative` is not absolute"),
        (&["-u", "nobody-here"], 125, "`nobody-here`"),
    ] {
        let exec = [&["exec"], options, &["box", "true"]].concat();
        t.cask(&exec).fails(code).says(why);
    }
    t.cask(&["rm", "-f", "box"]).ok();
}

#[test]
fn two_mounts_at_one_place_are_refused() {
    let t = env();
    for options in [
        &["-v", "/tmp:/x", "-v", "data:/x/"][..],
        &["--tmpfs", "/x", "--mount", "type=bind,src=/tmp,dst=/x"],
    ] {
        let run = [&["run"], options, &["busybox", "true"]].concat();
        t.cask(&run).fails(125).says("two mounts are to be at /x");
    }
    assert_eq!(t.cask(&["volume", "ls", "-q"]).ok().stdout(), "");
}

#[test]
fn options_of_volumes_that_are_not_known_say_what_was_meant() {
    let t = env();
    for (options, why) in [
        (&["-v", "data:/x:readnly"][..], "did you mean `readonly`?"),
        (&["-v", "data:/x:what"], "only `ro`, `rw`"),
        (
            &["--mount", "src=data,dst=/x,volume-subpaht=a"],
            "did you mean `volume-subpath`?",
        ),
        (&["-v", "/no/such:/x"], "/no/such does not exist"),
    ] {
        let run = [&["run"], options, &["busybox", "true"]].concat();
        t.cask(&run).fails(125).says(why);
    }
    assert_eq!(t.cask(&["volume", "ls", "-q"]).ok().stdout(), "");
    assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout(), "");
}
