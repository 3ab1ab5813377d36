//! What volumes can be besides directories of the store: parts, directories of the machine, given
//! to a user, and followed when the machine mounts more.

use std::fs;

use crate::support::{TestEnv, everybody};

const CASK: &str = env!("CARGO_BIN_EXE_cask");

fn env() -> TestEnv {
    let t = TestEnv::new();
    t.busybox("busybox");
    t
}

#[test]
fn a_part_of_a_volume_is_mounted_and_leads_nowhere_else() {
    everybody(|t| {
        let script = "mkdir -p /v/a/b && echo in > /v/a/b/f && ln -s /etc /v/out && ln -s a /v/to";
        let fill = [
            "run", "--rm", "-v", "data:/v", "busybox", "sh", "-c", script,
        ];
        t.cask(&fill).ok();
        let part = |path: &str, script: &str| {
            let mount = format!("source=data,target=/x,volume-subpath={path}");
            let run = ["run", "--name", "box", "--mount", &mount, "busybox"];
            t.cask(&[&run[..], &["sh", "-c", script]].concat())
        };
        assert_eq!(part("a/b", "cat /x/f; echo new > /x/g").ok().stdout(), "in");
        // The container does not run, and its files are the part's.
        let copied = t.beside("copied");
        let copied = copied.to_str().unwrap();
        t.cask(&["cp", "box:/x/g", copied]).ok();
        assert_eq!(fs::read_to_string(copied).unwrap(), "new\n");
        t.cask(&["cp", copied, "box:/x/h"]).ok();
        t.cask(&["rm", "box"]).ok();
        assert_eq!(part("to/b", "cat /x/h").ok().stdout(), "new");
        t.cask(&["rm", "box"]).ok();
        // In the volume, `/etc` is a directory of the volume, and there is none.
        for path in ["out", "none"] {
            part(path, "true").fails(125).says(path);
        }
        assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout(), "");
        t.cask(&["volume", "rm", "data"]).ok();
    });
}

#[test]
fn a_volume_may_be_a_directory_of_the_machine() {
    let t = env();
    let dir = t.beside("shared");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("f"), "here").unwrap();
    let device = format!("device={}", dir.display());
    let create = ["volume", "create", "-o", "type=none", "-o", "o=bind"];
    t.cask(&[&create[..], &["-o", &device, "data"]].concat())
        .ok();
    let run = ["run", "--rm", "-v", "data:/v", "busybox", "sh", "-c"];
    let read = [&run[..], &["cat /v/f; echo new > /v/g"]].concat();
    assert_eq!(t.cask(&read).ok().stdout(), "here");
    assert_eq!(fs::read_to_string(dir.join("g")).unwrap(), "new\n");
    let options = ["volume", "inspect", "-f", "{{json .Options}}", "data"];
    let options = t.cask(&options).ok().stdout();
    assert!(options.contains(dir.to_str().unwrap()), "{options}");
    t.cask(&["volume", "rm", "data"]).ok();
    assert!(dir.join("f").exists(), "what is the machine's stays");
    // The same in one mount.
    let mount =
        format!("source=more,target=/v,volume-opt=type=none,volume-opt=o=bind,volume-opt={device}");
    let run = ["run", "--rm", "--mount", &mount, "busybox", "cat", "/v/f"];
    assert_eq!(t.cask(&run).ok().stdout(), "here");
    for (options, code, why) in [
        (&["type=nfs"][..], 1, "`type=nfs`"),
        (
            &["type=tmpfs", "o=size=1m,colour=red"],
            1,
            "no option `colour=red`",
        ),
        (&["o=bind"], 1, "`device` is to be"),
        (&["device=/tmp"], 1, "`o` is to hold `bind`"),
        (&["o=bind", "device=/no/such"], 1, "/no/such does not exist"),
        (&["devise=/tmp"], 2, "did you mean `device`?"),
    ] {
        let mut create = vec!["volume", "create"];
        options
            .iter()
            .for_each(|option| create.extend(["-o", option]));
        t.cask(&[&create[..], &["bad"]].concat())
            .fails(code)
            .says(why);
    }
    assert_eq!(t.cask(&["volume", "ls", "-q"]).ok().stdout(), "more");
}

/// Says how many ids there are, and what `/t` is.
const LOOK: &str = "awk '{ n += $3 } END { print (n > 1) }' /proc/self/uid_map; \
    stat -c '%u:%g %a' /t; df -k /t | awk 'NR == 2 { print $2 }'; df -i /t | awk 'NR == 2 { print $2 }'";

/// What that is with these options.
const OPTIONS: &str = "size=1m,nr_inodes=20,uid=1000,gid=1001,mode=750";

/// What is seen of it then. With one id there is no other owner to be had.
fn looked(out: &str) {
    let (owner, want) = match out.split_once('\n').unwrap() {
        ("1", rest) => ("1000:1001", rest),
        (_, rest) => ("0:0", rest),
    };
    assert_eq!(want, format!("{owner} 750\n1024\n20"));
}

#[test]
fn memory_has_the_options_of_mount() {
    everybody(|t| {
        let run = |options: &str, script: &str| {
            let memory = format!("/t:{options}");
            let run = ["run", "--rm", "--tmpfs", &memory, "busybox", "sh", "-c"];
            t.cask(&[&run[..], &[script]].concat())
        };
        looked(&run(OPTIONS, LOOK).ok().stdout());
        let execute = "echo 'echo done' > /t/x && chmod +x /t/x && /t/x";
        assert_eq!(run("exec", execute).ok().stdout(), "done");
        run("", execute).fails(126);
        run("ro", "touch /t/x").fails(1).says("Read-only");
        for (options, why) in [
            ("uid=root", "`root` is no number"),
            ("size=1m,mpol=bind:0", "`mpol=bind:0` can't be had"),
            ("colour=red", "no option `colour=red`"),
        ] {
            run(options, "true").fails(125).says(why);
        }
    });
}

#[test]
fn a_volume_may_be_memory_of_the_container_that_runs() {
    everybody(|t| {
        let options = format!("o={OPTIONS},noexec");
        let create = ["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs"];
        t.cask(&[&create[..], &["-o", &options, "data"]].concat())
            .ok();
        let run = |options: &[&str], script: &str| {
            let run = [&["run", "-v", "data:/t"], options].concat();
            t.cask(&[&run[..], &["busybox", "sh", "-c", script]].concat())
        };
        looked(&run(&["--rm"], LOOK).ok().stdout());
        assert_eq!(run(&["--rm"], "echo x > /t/f; ls /t").ok().stdout(), "f");
        run(&["-d", "--name", "one"], "ls /t; touch /t/x; sleep 1000").ok();
        let second = run(&["--name", "two"], "true");
        second
            .fails(125)
            .says("volume `data` is memory, and container `one` has it while it runs");
        let names = ["ps", "-a", "--format", "{{.Names}}"];
        assert_eq!(t.cask(&names).ok().stdout(), "one", "nothing stays of it");
        for verb in [&["export", "data"][..], &["import", "data", "-"]] {
            let words = [&["volume"], verb].concat();
            t.cask(&words).fails(1).says("`data` is memory");
        }
        let part = "source=data,target=/x,volume-subpath=a";
        t.cask(&["create", "--mount", part, "busybox"])
            .fails(1)
            .says("`data` is memory");
        t.cask(&["stop", "-t", "0", "one"]).ok();
        run(&["--rm"], "true").ok();
        // Each start begins with nothing.
        assert_eq!(t.cask(&["logs", "one"]).ok().stdout(), "");
        t.cask(&["volume", "rm", "data"])
            .fails(1)
            .says("used by one");
        t.cask(&["rm", "-f", "one"]).ok();
        t.cask(&["volume", "rm", "data"]).ok();
    });
}

#[test]
fn a_volume_is_given_to_the_user_of_the_container() {
    everybody(|t| {
        let run = |options: &[&str], script: &str| {
            let run = [&["run", "--rm", "-u", "app"], options].concat();
            t.cask(&[&run[..], &["busybox", "sh", "-c", script]].concat())
        };
        let root = ["run", "--rm", "-v", "data:/v", "busybox", "sh", "-c"];
        let fill = "mkdir -p /v/d && touch /v/d/f && ln -s /etc/passwd /v/d/l";
        t.cask(&[&root[..], &[fill]].concat()).ok();
        run(
            &["-v", "data:/v:U"],
            "echo x > /v/d/f && rm /v/d/l && touch /v/new",
        )
        .ok();
        // They stay the user's, and no link was followed.
        run(&["-v", "data:/v"], "echo y > /v/d/f").ok();
        let owner = "stat -c %u /etc/passwd";
        assert_eq!(run(&[], owner).ok().stdout(), "0");
    });
}

#[test]
fn a_volume_that_a_mount_makes_gets_its_labels() {
    let t = env();
    let mount = "source=data,target=/v,volume-label=a=1,volume-label=b";
    t.cask(&["run", "--rm", "--mount", mount, "busybox", "true"])
        .ok();
    let labels = ["volume", "inspect", "-f", "{{json .Labels}}", "data"];
    assert_eq!(t.cask(&labels).ok().stdout(), r#"{"a":"1","b":""}"#);
    t.cask(&["volume", "rm", "data"]).ok();
}

#[test]
fn what_the_machine_mounts_later_shows_up_where_it_is_to() {
    let t = env();
    let script = format!(
        "set -e; mkdir dir; mount -t tmpfs none dir; mount --make-shared dir; mkdir dir/sub; \
         {CASK} run -d --name follows -v ./dir:/x:ro,rslave busybox sleep 1000 >&2; \
         {CASK} run -d --name alone -v ./dir:/x busybox sleep 1000 >&2; \
         mount -t tmpfs none dir/sub; echo late > dir/sub/f; \
         {CASK} exec follows cat /x/sub/f; {CASK} exec alone ls /x/sub; \
         {CASK} rm -f follows alone >&2; \
         {CASK} run --rm --mount type=bind,src=./dir,dst=/x,bind-recursive=disabled busybox ls /x/sub"
    );
    let mut unshare = t.command("unshare");
    let out = unshare.args(["-m", "sh", "-c", &script]).output().unwrap();
    let (shown, err) = (out.stdout, String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{err}");
    assert_eq!(String::from_utf8(shown).unwrap(), "late\n", "{err}");
}

#[test]
fn what_a_container_mounts_reaches_the_machine_where_it_is_to() {
    let t = env();
    let mount = "mount -t tmpfs none /x/sub && echo late > /x/sub/f";
    let script = format!(
        "set -e; mkdir dir; mount -t tmpfs none dir; mount --make-private dir; mkdir dir/sub; \
         {CASK} run --rm -v ./dir:/x:rshared busybox true && exit 1; \
         mount --make-shared dir; \
         {CASK} run -d --privileged --name shares -v ./dir:/x:rshared busybox sleep 1000 >&2; \
         {CASK} exec --privileged shares sh -c '{mount}'; cat dir/sub/f; \
         {CASK} inspect --format '{{{{range .Mounts}}}}{{{{.Propagation}}}}{{{{end}}}}' shares; \
         {CASK} rm -f shares >&2; umount dir/sub"
    );
    let mut unshare = t.command("unshare");
    let out = unshare.args(["-m", "sh", "-c", &script]).output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{err}");
    assert_eq!(
        String::from_utf8(out.stdout).unwrap(),
        "late\nrshared\n",
        "{err}"
    );
    assert!(err.contains("which is not shared (rshared)"), "{err}");
    assert!(err.contains("mount --make-shared"), "{err}");
    let t = TestEnv::as_user("sub");
    t.busybox("busybox");
    t.cask(&["run", "--rm", "-v", "/tmp:/x:rshared", "busybox", "true"])
        .fails(125)
        .says("an ordinary user's mounts never reach the machine");
}
