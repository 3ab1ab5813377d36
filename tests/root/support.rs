//! A busybox root file system in a temporary directory, and what is done with it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on must stop")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use cooper::sandbox::{
    Child, Error, Exit, Network, Output, Overlay, Plan, Rootfs, Stdio, spawn, userns,
};

/// Applets that the tests call by name.
const APPLETS: &[&str] = &[
    "sh", "cat", "ls", "id", "env", "sleep", "true", "false", "stat", "touch", "mkdir", "rm", "mv",
    "ln", "echo", "sort", "grep", "hostname", "mount", "kill", "ps", "wc", "tty", "stty", "head",
    "readlink", "pwd", "chmod", "chown", "setsid", "trap", "dd", "rmdir", "find", "test", "ip",
];

/// Directories of one test, removed at the end.
pub(crate) struct Fixture {
    pub(crate) dir: PathBuf,
}

/// What a program wrote and how it ended.
#[derive(Debug)]
#[must_use]
pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Fixture {
    /// `base` is a busybox root, `upper` and `work` are empty.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cooper-sandbox-{}-{number}", std::process::id());
        let this = Self {
            dir: std::env::temp_dir().join(name),
        };
        for dir in [
            "upper",
            "work",
            "base/bin",
            "base/etc",
            "base/tmp",
            "base/root",
        ] {
            fs::create_dir_all(this.dir.join(dir)).unwrap();
        }
        let busybox = Path::new("/bin/busybox");
        assert!(
            busybox.exists(),
            "the tests need /bin/busybox (Debian: busybox-static)"
        );
        fs::copy(busybox, this.base("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", this.base("bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\n";
        fs::write(this.base("etc/passwd"), passwd).unwrap();
        fs::write(
            this.base("etc/group"),
            "root:x:0:\nwww-data:x:33:\nadm:x:4:www-data\n",
        )
        .unwrap();
        this
    }

    pub(crate) fn base(&self, path: &str) -> PathBuf {
        self.dir.join("base").join(path)
    }

    pub(crate) fn upper(&self, path: &str) -> PathBuf {
        self.dir.join("upper").join(path)
    }

    pub(crate) fn rootfs(&self) -> Rootfs {
        self.overlay(vec![self.dir.join("base")])
    }

    pub(crate) fn overlay(&self, lowers: Vec<PathBuf>) -> Rootfs {
        Rootfs::Overlay(Overlay {
            lowers,
            upper: self.dir.join("upper"),
            work: self.dir.join("work"),
            userxattr: userns::HostInfo::detect().unwrap().userxattr(),
            volatile: false,
            old_mount_api: false,
        })
    }

    /// A plan with a usual environment that runs `argv`.
    pub(crate) fn plan(&self, argv: &[&str]) -> Plan {
        let mut plan = Plan::new(self.rootfs(), argv.iter().map(Into::into).collect());
        plan.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
        plan.network = Network::None;
        plan
    }

    /// A plan that has the shell run `script`.
    pub(crate) fn sh(&self, script: &str) -> Plan {
        self.plan(&["sh", "-c", script])
    }

    /// What was written to the upper directory, as sorted relative paths.
    pub(crate) fn changes(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.dir.join("upper"), "", &mut found);
        found.sort();
        found
    }
}

fn list(dir: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), &format!("{name}/"), found);
        }
        found.push(name);
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // What can't be removed stays in /tmp for whoever looks into the failure.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Both outputs as pipes.
pub(crate) fn pipes() -> Stdio {
    Stdio {
        stdout: Output::Pipe,
        stderr: Output::Pipe,
        ..Stdio::default()
    }
}

pub(crate) fn try_run(plan: &Plan, stdio: Stdio) -> Result<Ran, Error> {
    spawn(plan, stdio).map(finish)
}

/// Reads both pipes of `child` to their ends and waits for it.
pub(crate) fn finish(mut child: Child) -> Ran {
    let err = child.stderr.take();
    let reader = std::thread::spawn(move || read(err));
    let stdout = read(child.stdout.take());
    let stderr = reader.join().unwrap();
    Ran {
        exit: child.wait().unwrap(),
        stdout,
        stderr,
    }
}

fn read(fd: Option<std::os::fd::OwnedFd>) -> String {
    let mut text = String::new();
    if let Some(fd) = fd {
        fs::File::from(fd).read_to_string(&mut text).unwrap();
    }
    text
}

pub(crate) fn run(plan: &Plan) -> Ran {
    match try_run(plan, pipes()) {
        Ok(ran) => ran,
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

impl Ran {
    /// The output of a program that must have succeeded without a complaint.
    pub(crate) fn ok(self) -> String {
        assert_eq!(
            (self.exit, self.stderr.as_str()),
            (Exit::Code(0), ""),
            "{self:?}"
        );
        self.stdout
    }
}
