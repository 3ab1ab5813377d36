//! The sandbox as an ordinary user, and what is left when its caller is killed.
//!
//! A program of its own (no test harness): entering a user namespace must come before the
//! first thread, and a caller to be killed must be a process. Started as root it re-executes
//! itself as the user `sub` (who needs lines in /etc/subuid and /etc/subgid) and `nosub` (who
//! must have none). Without root, `/bin/busybox`, newuidmap or these users it fails and says so.

#![allow(clippy::unwrap_used, reason = "a test that can't go on must stop")]
#![allow(clippy::print_stdout, reason = "this is a test harness")]
#![allow(clippy::exit, reason = "this is a test harness")]

#[path = "root/support.rs"]
mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cooper::sandbox::userns::{HostInfo, Rung, enter};
use cooper::sandbox::{Exit, Mount, Rootfs, Source, Stdio, child, spawn};

use support::{Fixture, pipes, run};

type Case = (&'static str, fn());

/// Run as root.
const AS_ROOT: &[Case] = &[
    (
        "the tree dies with a killed caller that has an init",
        || caller_is_killed("true"),
    ),
    (
        "the tree dies with a killed caller whose program is pid 1",
        || caller_is_killed("false"),
    ),
    ("an ordinary user with sub-ids", || {
        as_user("sub", "rootless")
    }),
    (
        "an ordinary user without sub-ids is told the line to add",
        || as_user("nosub", "refused"),
    ),
    ("root without CAP_SYS_ADMIN makes its own namespace", outer),
    ("a program that was deleted still starts sandboxes", || {
        as_root("deleted")
    }),
    ("a sandbox has a session keyring of its own", || {
        as_root("keyring")
    }),
];

/// Run as `sub`, after entering.
const ROOTLESS: &[Case] = &[
    ("programs run as root of the namespace", || {
        let t = Fixture::new();
        assert_eq!(run(&t.sh("id -u; id -g; exit 0")).ok(), "0\n0\n");
        assert_eq!(run(&t.sh("exit 9")).exit, Exit::Code(9));
    }),
    ("files of uid 33 have the mapped id outside", || {
        let t = Fixture::new();
        fs::set_permissions(t.base("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        let mut plan = t.sh("echo x > /tmp/f; id -G");
        plan.user = "www-data".into();
        assert_eq!(run(&plan).ok(), "33 4\n");
        // We see ids as the namespace does; the outside is looked at by `as_user`.
        assert_eq!(fs::metadata(t.upper("tmp/f")).unwrap().uid(), 33);
        let kept = PathBuf::from(std::env::args().nth(2).unwrap());
        fs::rename(t.upper("tmp/f"), kept.join("mapped")).unwrap();
    }),
    (
        "deletions and opaque directories are kept in user attributes",
        || {
            let t = Fixture::new();
            fs::write(t.base("root/f"), "f").unwrap();
            let _ = run(&t.sh("rm -r /root; mkdir /root; rm /etc/group; chown 33:33 /root")).ok();
            assert_eq!(t.changes(), ["etc", "etc/group", "root"]);
            let mut value = [0_u8; 8];
            let got = rustix::fs::lgetxattr(t.upper("root"), "user.overlay.opaque", &mut value);
            assert_eq!(got, Ok(1));
            assert_eq!(value[0], b'y');
        },
    ),
    ("devices, proc, sys and a host network work", || {
        let t = Fixture::new();
        let mut plan = t.sh(
            "echo x > /dev/null; head -c 2 /dev/zero | wc -c; ls /proc/1/exe 2>/dev/null || echo hidden; \
            test -d /sys/class && echo sys; stat -c %t:%T /proc/interrupts; stat -c %t:%T /dev/null",
        );
        let want = "2\nhidden\nsys\n1:3\n1:3\n";
        assert_eq!(run(&plan).ok(), want);
        plan.network = cooper::sandbox::Network::Host;
        assert_eq!(run(&plan).ok(), want);
    }),
    ("a terminal works", || {
        let t = Fixture::new();
        let mut plan = t.sh("tty");
        plan.tty = Some(cooper::sandbox::WindowSize { rows: 2, cols: 20 });
        let mut child = spawn(&plan, Stdio::default()).unwrap();
        let mut out = Vec::new();
        // EIO is how the other end says good-bye.
        let _ = fs::File::from(child.pty().unwrap().try_clone().unwrap()).read_to_end(&mut out);
        assert_eq!(child.wait().unwrap(), Exit::Code(0));
        assert_eq!(out, b"/dev/pts/0\r\n");
    }),
    ("made mount points vanish", || {
        let t = Fixture::new();
        let mut plan = t.sh("true");
        plan.mounts.push(Mount::tmpfs("/etc/a/b", None));
        let _ = run(&plan).ok();
        assert_eq!(t.changes(), [] as [&str; 0]);
    }),
    (
        "a sandbox in a sandbox runs, and says what it must do without",
        || {
            let t = Fixture::new();
            let mut plan = t.plan(&["/program", "nested"]);
            plan.env.push(("TMPDIR".into(), "/tmp".into()));
            let program = std::env::current_exe().unwrap();
            plan.mounts
                .push(Mount::bind(Source::Path(program), "/program"));
            plan.mounts.push(Mount::bind(
                Source::Path("/bin/busybox".into()),
                "/bin/busybox",
            ));
            // With the capabilities of an ordinary container it takes a further user namespace,
            // which must not see behind the masks of this one. Docker's profile refuses that.
            plan.seccomp = cooper::sandbox::Seccomp::Unconfined;
            assert_eq!(run(&plan).ok(), "Outer [OuterProc, OuterSys]\n");
            plan.caps = cooper::sandbox::Caps::ALL;
            assert_eq!(run(&plan).ok(), "Root []\n");
        },
    ),
    ("three hundred layers stack by either mount call", || {
        let t = Fixture::new();
        let mut lowers = vec![t.dir.join("base")];
        for number in 0..300 {
            let layer = t.dir.join(format!("layer{number}"));
            fs::create_dir(&layer).unwrap();
            fs::write(layer.join(format!("f{number}")), "").unwrap();
            lowers.insert(0, layer);
        }
        for old in [false, true] {
            let mut plan = t.sh("ls / | grep -c ^f[0-9]");
            plan.rootfs = t.overlay(lowers.clone());
            let Rootfs::Overlay(overlay) = &mut plan.rootfs else {
                continue;
            };
            overlay.old_mount_api = old;
            assert_eq!(run(&plan).ok(), "300\n");
        }
    }),
];

fn main() {
    child::run_if_child(&[]);
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("wait") => wait(&args[2], &args[3]),
        Some("rootless") => {
            let host = HostInfo::detect().unwrap();
            assert_eq!(enter(&host, None).unwrap().rung, Rung::SubIds);
            check(ROOTLESS);
        }
        Some("refused") => {
            let host = HostInfo::detect().unwrap();
            let error = enter(&host, Some(Rung::SubIds)).unwrap_err().to_string();
            assert_eq!(
                error,
                "/etc/subuid has no range for `nosub` \
                 (a line such as `nosub:100000:65536` gives one)"
            );
            // Nobody asked for that rung, so the next one is taken.
            let footing = enter(&host, None).unwrap();
            assert_eq!(footing.rung, Rung::SingleId);
            assert_eq!(rustix::process::geteuid().as_raw(), 0);
        }
        Some("outer") => {
            let host = HostInfo::detect().unwrap();
            assert_eq!(enter(&host, None).unwrap().rung, Rung::Outer);
            let t = Fixture::new();
            let mut plan = t.sh("id -u; chown 33 /tmp; stat -c %u /tmp");
            plan.init = false;
            assert_eq!(run(&plan).ok(), "0\n33\n");
        }
        Some("nested") => {
            let rung = enter(&HostInfo::detect().unwrap(), None).unwrap().rung;
            let t = Fixture::new();
            let mut plan = t.sh("test -e /proc/self/status");
            plan.rootfs = Rootfs::Directory {
                path: t.dir.join("base"),
            };
            let mut child = spawn(&plan, Stdio::default()).unwrap();
            assert_eq!(child.wait().unwrap(), Exit::Code(0));
            println!("{rung:?} {:?}", child.notes());
        }
        Some("deleted") => {
            fs::remove_file(std::env::current_exe().unwrap()).unwrap();
            let t = Fixture::new();
            assert_eq!(run(&t.sh("echo here")).ok(), "here\n");
        }
        Some("keyring") => {
            let t = Fixture::new();
            cooper::sys::keyring::new_session().unwrap();
            // Root may list the keys of root, whoever possesses them; which session they belong
            // to can be told by their number only.
            let sessions = |keys: &str| keys.lines().filter(|key| key.contains("_ses:")).count();
            let mut plan = t.sh("cat /proc/keys");
            plan.masked_paths.clear();
            // Sessions of others on this machine may begin or end between two looks.
            let one_more = || {
                let outside = sessions(&fs::read_to_string("/proc/keys").unwrap());
                sessions(&run(&plan).ok()) == outside + 1
            };
            assert!((0..20).any(|_| one_more()), "no session of its own");
        }
        // `cargo test -- --list` and its like.
        Some("--list") => (),
        _ => {
            let host = HostInfo::detect().unwrap();
            assert_eq!(
                host.rung(),
                Ok(Rung::Root),
                "these tests must be started by root"
            );
            check(AS_ROOT);
        }
    }
}

/// Runs every case in a thread and fails if one did.
fn check(cases: &'static [Case]) {
    let mut failed = 0;
    for (name, case) in cases {
        let ended = std::thread::spawn(case).join();
        println!(
            "test {name} ... {}",
            if ended.is_ok() { "ok" } else { "FAILED" }
        );
        failed += usize::from(ended.is_err());
    }
    println!("{} passed, {failed} failed", cases.len() - failed);
    if failed > 0 {
        std::process::exit(1);
    }
}

/// A directory that `user` owns, with a copy of this program that it may run.
fn home_of(user: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("cooper-userns-{}-{user}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    fs::copy(std::env::current_exe().unwrap(), dir.join("program")).unwrap();
    let made = Command::new("chown")
        .arg("-R")
        .arg(user)
        .arg(&dir)
        .status()
        .unwrap();
    assert!(made.success(), "these tests need the user `{user}`");
    dir
}

fn as_user(user: &str, mode: &str) {
    let dir = home_of(user);
    let status = Command::new("setpriv")
        .args(["--reuid", user, "--regid", user, "--init-groups", "--"])
        .arg(dir.join("program"))
        .arg(mode)
        .arg(&dir)
        .env("TMPDIR", &dir)
        .status()
        .unwrap();
    assert!(status.success(), "as {user}: {status}");
    if mode == "rootless" {
        // 0 is the user itself, so 33 is the 32nd of its range.
        let mapped = fs::metadata(dir.join("mapped")).unwrap();
        assert_eq!(mapped.uid(), 100_000 + 32);
    }
    fs::remove_dir_all(dir).unwrap();
}

fn as_root(mode: &str) {
    let dir = home_of("root");
    let status = Command::new(dir.join("program"))
        .arg(mode)
        .env("TMPDIR", &dir)
        .status();
    assert!(status.unwrap().success());
    fs::remove_dir_all(dir).unwrap();
}

fn outer() {
    let dir = home_of("root");
    let status = Command::new("setpriv")
        .args(["--bounding-set", "-sys_admin", "--"])
        .arg(dir.join("program"))
        .arg("outer")
        .env("TMPDIR", &dir)
        .status()
        .unwrap();
    assert!(status.success(), "without CAP_SYS_ADMIN: {status}");
    fs::remove_dir_all(dir).unwrap();
}

/// The caller that is going to be killed: writes its sandbox's pid to `file`.
fn wait(file: &str, init: &str) {
    let t = Fixture::new();
    // A setuid program clears the parent-death signal of its process, if only an init is there
    // to notice the caller's death.
    let mut plan = t.sh("echo ready; sleep 1000 & sleep 1000");
    plan.init = init == "true";
    let mut child = spawn(&plan, pipes()).unwrap();
    let mut ready = [0; 6];
    fs::File::from(child.stdout.take().unwrap())
        .read_exact(&mut ready)
        .unwrap();
    let text = format!("{} {}", child.pid(), t.dir.display());
    fs::write(format!("{file}.new"), text).unwrap();
    fs::rename(format!("{file}.new"), file).unwrap();
    child.wait().unwrap();
}

fn caller_is_killed(init: &str) {
    let file = std::env::temp_dir().join(format!("cooper-wait-{}-{init}", std::process::id()));
    let program = std::env::current_exe().unwrap();
    let mut caller = Killed(
        Command::new(program)
            .arg("wait")
            .arg(&file)
            .arg(init)
            .spawn()
            .unwrap(),
    );
    until("the sandbox is up", || file.exists());
    let text = fs::read_to_string(&file).unwrap();
    let (pid, dir) = text.split_once(' ').unwrap();
    let proc = Path::new("/proc").join(pid);
    let namespace = fs::read_link(proc.join("ns/pid")).unwrap();
    assert!(members(&namespace) >= 2);
    caller.0.kill().unwrap();
    caller.0.wait().unwrap();
    until("every process of the sandbox is gone", || {
        members(&namespace) == 0
    });
    // No mount holds the directories any more.
    fs::remove_dir_all(dir).unwrap();
    fs::remove_file(file).unwrap();
}

/// A process that doesn't outlive a failed test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may be dead already, as it should.
        let _ = self.0.kill();
    }
}

/// How many processes live in a pid namespace.
fn members(namespace: &Path) -> usize {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path().join("ns/pid")).ok())
        .filter(|link| link == namespace)
        .count()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "not within 10 s: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
