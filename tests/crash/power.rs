//! Power cuts: the disk as it was at some moment, without what was only in memory.
//!
//! The store lies on an ext4 in a file, behind a loop device; the nodes for it are the test's own,
//! so that only the kernel need have such devices, and not this machine's /dev. Its programs are killed in the middle of their work,
//! the file is copied while nothing writes to it, and the copy takes the place of the disk: its journal is replayed
//! when it is mounted. In every other round the journal is made to commit first: then the new names are on the
//! disk and the bytes of their files are not, which is the worst that a power cut does. The marks of this boot
//! become another's, so that the store takes the machine for started anew.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::support::{Server, TestEnv};
use super::{COOPER, long, tell};

/// An ext4 in a file, mounted; unmounted when the test ends.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

fn must(program: &str, args: &[&dyn AsRef<std::ffi::OsStr>]) {
    let mut command = Command::new(program);
    for arg in args {
        command.arg(arg);
    }
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "`{program}` needs root");
}

/// Gives the file `$1` a loop device and prints which.
const ATTACH: &str = "mount -t tmpfs tmpfs /dev
mknod /dev/loop-control c 10 237
for number in $(seq 0 63); do mknod /dev/loop$number b 7 $number; done
losetup --find --show \"$1\"";

impl Disk {
    fn make(image: PathBuf, at: PathBuf) -> Self {
        File::create(&image).unwrap().set_len(96 << 20).unwrap();
        must("mkfs.ext4", &[&"-q", &image]);
        fs::create_dir_all(&at).unwrap();
        let disk = Self { image, at };
        disk.mount();
        fs::remove_dir(disk.at.join("lost+found")).unwrap();
        must("chmod", &[&"0700", &disk.at]);
        disk
    }

    fn mount(&self) {
        let mut attach = Command::new("unshare");
        attach.args(["--mount", "sh", "-ec", ATTACH, "sh"]);
        let attached = attach.arg(&self.image).output().unwrap();
        let said = String::from_utf8_lossy(&attached.stderr);
        assert!(
            attached.status.success(),
            "power cuts need root and a kernel with loop devices: {said}"
        );
        let name = String::from_utf8(attached.stdout).unwrap();
        let number = name.trim().strip_prefix("/dev/loop").unwrap();
        let node = self.image.with_extension("loop");
        must("mknod", &[&node, &"b", &"7", &number]);
        must("mount", &[&node, &self.at]);
        // It goes when what is mounted does.
        must("losetup", &[&"--detach", &node]);
        fs::remove_file(node).unwrap();
    }

    /// Waits for the last processes of what was killed.
    fn unmount(&self) {
        let gone = (0..600).any(|_| {
            let status = Command::new("umount")
                .arg(&self.at)
                .stderr(Stdio::null())
                .status();
            status.unwrap().success() || {
                std::thread::sleep(Duration::from_millis(100));
                false
            }
        });
        assert!(gone, "the disk stays busy");
    }

    /// Makes all names permanent that were made so far. Bytes that have no place on the disk yet stay in memory.
    fn commit(&self) {
        let file = File::create(self.at.join("commit")).unwrap();
        file.sync_all().unwrap();
    }

    /// Copies the disk while nothing writes to it.
    fn copy(&self) -> PathBuf {
        let copies = ["cut", "again"].map(|name| self.image.with_extension(name));
        for _ in 0..100 {
            for copy in &copies {
                must("cp", &[&"--sparse=always", &self.image, copy]);
            }
            let same = Command::new("cmp")
                .arg("-s")
                .args(&copies)
                .status()
                .unwrap();
            if same.success() {
                return copies[0].clone();
            }
        }
        panic!("the disk never comes to rest");
    }

    /// Cuts the power for the `number`th time: what is mounted afterwards is what the disk has now.
    fn cut(&self, number: u64) {
        let copy = self.copy();
        self.unmount();
        fs::rename(copy, &self.image).unwrap();
        self.mount();
        let marks = self.at.join("unsynced");
        for entry in fs::read_dir(&marks).into_iter().flatten() {
            let boot = entry.unwrap().path();
            if boot.extension().is_none() {
                fs::rename(&boot, boot.with_extension(number.to_string())).unwrap();
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
    }
}

/// Runs `cooper` for so long, or to its end, and then no more.
fn run_for(t: &TestEnv, words: &[&str], limit: Option<Duration>) {
    let mut command = t.command(COOPER);
    command.args(words).stdin(Stdio::null());
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    if let Some(limit) = limit {
        std::thread::sleep(limit);
        child.kill().unwrap();
    }
    child.wait().unwrap();
}

/// A build of something new by the name `new`, and its pull by the name it has in a registry.
fn prepare(registry: &Server) -> (TestEnv, Disk, String) {
    let t = TestEnv::new().file("f", "f".repeat(50_000)).dockerfile(
        "FROM base AS one\nCOPY f /f\nRUN echo 1 > /one\nFROM base\nCOPY --from=one /one /f /to/\nCOPY number /\n",
    );
    t.write("number", "0");
    let disk = Disk::make(t.beside("disk.img"), t.root());
    t.busybox("base");
    let remote = registry.name("crash/remote:1").full();
    t.cooper(&["build", "-q", "-t", &remote, "."]).ok();
    t.cooper(&["push", "-q", &remote]).ok();
    t.cooper(&["rmi", &remote]).ok();
    t.cooper(&["prune", "--cache"]).ok();
    t.cask(&["run", "--rm", "--network=none", "base", "true"])
        .ok();
    must("sync", &[&"-f", &disk.at]);
    (t, disk, remote)
}

#[test]
fn a_power_cut_at_any_moment_leaves_a_store_that_serves_nothing_damaged() {
    let registry = Server::http();
    let (t, disk, remote) = prepare(&registry);
    let build: &[&str] = &["build", "-q", "--network=none", "-t", "new", "."];
    let pull: &[&str] = &["pull", "-q", &remote];
    let rounds = if long() { 60 } else { 4 };
    let look = |name: &str, file: &str| {
        let run = ["run", "--rm", "--network=none", "--pull=never", name];
        t.cask(&[&run[..], &["cat", file]].concat()).ok().stdout()
    };
    for round in 0..rounds {
        let (words, name) = match round / 2 % 2 {
            0 => (build, "new"),
            _ => (pull, &*remote),
        };
        // The first ones come to their end, the others are stopped ever elsewhere.
        let limit = Duration::from_millis(round * 37 % 500);
        let limit = (round >= 4).then_some(limit);
        let (old, new) = (format!("old {round}"), format!("new {round}"));
        if name == "new" {
            // There is another by this name, built a while ago.
            t.write("number", &old);
            t.cooper(words).ok();
            let file = t.root().join("refs/docker.io+library+new:latest");
            must("touch", &[&"-d", &"2 minutes ago", &file]);
            must("sync", &[&"-f", &disk.at]);
            t.write("number", &new);
        }
        run_for(&t, words, limit);
        if round % 2 == 0 {
            disk.commit();
        }
        disk.cut(round);
        t.cask(&["run", "--rm", "--network=none", "base", "true"])
            .ok();
        if name == "new" {
            let number = look(name, "/number");
            assert!([&old, &new].contains(&&number), "round {round}: {number}");
        } else if limit.is_none() {
            // What came from elsewhere is there once that was said.
            assert_eq!(look(name, "/number"), "0", "round {round}");
        }
        t.cooper(words).ok();
        assert_eq!(look(name, "/to/f").len(), 50_000, "round {round}");
        let number = if name == "new" { &*new } else { "0" };
        assert_eq!(look(name, "/number"), number, "round {round}");
        // What nobody asked for is still there, torn, until somebody looks.
        t.cooper(&["fsck", "--repair"]).ok();
        assert_eq!(t.cooper(&["fsck"]).ok().stdout(), "", "round {round}");
        t.cooper(&["rmi", "-f", name]).ok();
        t.cooper(&["prune", "--cache"]).ok();
        t.cask(&["run", "--rm", "--network=none", "base", "true"])
            .ok();
        must("sync", &[&"-f", &disk.at]);
    }
    tell(&format!("{rounds} power cuts"));
}
