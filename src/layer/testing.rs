//! What the tests of this room share: scratch directories, trees as text, and the kernel's own
//! overlayfs to hold ours against.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::changes::{Change, Changes, Node};
use super::dir::Dir;
use super::entry::{Kind, Meta, Time};
use super::flatten::flatten;
use super::node::Marks;
use super::path::TreePath;
use super::stack::Stack;
use super::tree::Tree;
use super::tree_write::{TreeForm, write_tree};

/// A directory that goes away with the value.
pub(in crate::layer) struct Scratch(PathBuf);

impl Scratch {
    pub(in crate::layer) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cooper-layer-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(in crate::layer) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes a directory in it and returns its path.
    pub(in crate::layer) fn dir(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.0).is_err() {
            // An ordinary user's directories without permissions, such as overlayfs' work dir.
            let _ = Command::new("chmod")
                .args(["-R", "u+rwx"])
                .arg(&self.0)
                .status();
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

pub(in crate::layer) fn path(raw: &str) -> TreePath {
    TreePath::clean(raw.as_bytes()).unwrap()
}

pub(in crate::layer) fn open_dir(path: &Path) -> Arc<OwnedFd> {
    Arc::new(File::open(path).unwrap().into())
}

pub(in crate::layer) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Metadata that any user can give a file: its own ids.
pub(in crate::layer) fn meta(mode: u32) -> Meta {
    Meta {
        mode,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: Time {
            secs: 1_700_000_000 + i64::from(mode),
            nanos: 123_456_789,
        },
        ..Meta::default()
    }
}

/// Reads changes from lines: `dir P`, `opaque P`, `file P TEXT`, `link P TARGET`, `hard P TARGET`,
/// `fifo P`, `gone P`.
pub(in crate::layer) fn changes(text: &str) -> Changes {
    let mut changes = Changes::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let (what, at) = (words.next().unwrap(), path(words.next().unwrap()));
        let rest = words.next().unwrap_or_default();
        let other = |mode, kind| {
            Change::Node(Node {
                meta: meta(mode),
                kind,
                content: None,
            })
        };
        let change = match what {
            "dir" => Change::Node(Node::dir(meta(0o750))),
            "opaque" => Change::Opaque(Node::dir(meta(0o711))),
            "file" => Change::Node(Node::file(meta(0o640), rest.as_bytes())),
            "link" => {
                let target = rest.into();
                other(0o777, Kind::Symlink { target })
            }
            "fifo" => other(0o600, Kind::Fifo),
            "hard" => Change::HardLink(path(rest)),
            "gone" => Change::Whiteout,
            _ => panic!("no such line: {line}"),
        };
        changes.entries.insert(at, change);
    }
    changes
}

/// Writes each of `layers` as an overlay tree and returns the paths, bottom first.
pub(in crate::layer) fn trees(scratch: &Scratch, marks: Marks, layers: &[Changes]) -> Vec<PathBuf> {
    let write = |(index, layer): (usize, &Changes)| {
        let dir = scratch.dir(&format!("tree{index}"));
        let into = open_dir(&dir);
        let mut layer = layer.clone();
        if !is_root() {
            // A parent that is implied would belong to root.
            let nothing = Stack::new(Vec::new(), marks);
            layer.insert_parents(&nothing, &meta(0o755)).unwrap();
        }
        write_tree(
            &layer,
            std::os::fd::AsFd::as_fd(&into),
            TreeForm::Overlay(marks),
            None,
        )
        .unwrap();
        dir
    };
    layers.iter().enumerate().map(write).collect()
}

/// Shows changes as lines that are equal when the changes are, contents included.
pub(in crate::layer) fn show(changes: &Changes) -> Vec<String> {
    let show = |(path, change): (&TreePath, &Change)| match change {
        Change::Whiteout => format!("{path} whiteout"),
        Change::HardLink(target) => format!("{path} hard link to {target}"),
        Change::Opaque(node) => format!("{path} opaque {}", show_node(node)),
        Change::Node(node) => format!("{path} {}", show_node(node)),
    };
    changes.entries.iter().map(show).collect()
}

pub(in crate::layer) fn show_node(node: &Node) -> String {
    let Meta {
        mode,
        uid,
        gid,
        mtime,
        xattrs,
    } = &node.meta;
    let kind = match &node.kind {
        Kind::File { size } => {
            let mut bytes = Vec::new();
            if let Some(content) = &node.content {
                content
                    .open(*size)
                    .unwrap()
                    .read_to_end(&mut bytes)
                    .unwrap();
            }
            assert_eq!(bytes.len() as u64, *size);
            format!("file {:?}", String::from_utf8_lossy(&bytes))
        }
        Kind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
        kind => format!("{kind:?}"),
    };
    let xattrs: Vec<String> = xattrs
        .iter()
        .map(|(name, value)| format!("{}={value:x?}", String::from_utf8_lossy(name)))
        .collect();
    let times = format!("{}.{:09}", mtime.secs, mtime.nanos);
    format!("{kind} {mode:o} {uid}:{gid} {times} {xattrs:?}")
}

/// Shows a whole tree, root included.
pub(in crate::layer) fn show_tree(tree: &dyn Tree) -> Vec<String> {
    let mut lines = vec![show_node(&tree.node(&TreePath::ROOT).unwrap().unwrap())];
    lines.extend(show(&flatten(tree).unwrap()));
    lines
}

/// A mounted overlay in a mount namespace of its own, seen through `/proc`.
pub(in crate::layer) struct Mounted {
    child: Child,
    at: PathBuf,
}

impl Mounted {
    /// Mounts `lower`, bottom first, with `upper` if there is one, and runs `script` in the
    /// mount's root. `None`, with the reason printed, where this user may not mount.
    #[allow(clippy::print_stderr)]
    pub(in crate::layer) fn new(
        scratch: &Scratch,
        marks: Marks,
        lower: &[PathBuf],
        upper: Option<&Path>,
        script: &str,
    ) -> Option<Self> {
        let (at, work) = (scratch.dir("mounted"), scratch.dir("work"));
        let lower: Vec<_> = lower
            .iter()
            .rev()
            .map(|dir| dir.to_str().unwrap())
            .collect();
        let mut options = format!("lowerdir={}", lower.join(":"));
        if let Some(upper) = upper {
            let (upper, work) = (upper.display(), work.display());
            options += &format!(",upperdir={upper},workdir={work}");
        }
        options += match marks {
            Marks::Trusted => ",redirect_dir=off,metacopy=off",
            Marks::User | Marks::Owners | Marks::OwnersAndModes => ",userxattr",
        };
        let script = format!(
            "set -e; umask 022; mount -t overlay overlay -o '{options}' '{0}'; cd '{0}'\n{script}\n\
             cd /; sync -f '{0}'; echo ready; read end",
            at.display()
        );
        let unshare: &[&str] = if is_root() { &["-m"] } else { &["-Urm"] };
        let mut child = Command::new("unshare")
            .args(unshare)
            .args(["sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        if line == "ready\n" {
            let inside = format!("/proc/{}/root{}", child.id(), at.display());
            let at = PathBuf::from(inside);
            return Some(Self { child, at });
        }
        child.wait().unwrap();
        assert!(
            !is_root(),
            "the overlay could not be mounted as root, or the script failed"
        );
        eprintln!("skipped: this user may not mount an overlay");
        None
    }

    pub(in crate::layer) fn tree(&self) -> Dir {
        let root = fs::OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::DIRECTORY.bits().cast_signed())
            .open(&self.at)
            .unwrap();
        Dir::new(Arc::new(root.into()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The shell waits for this line; if it is gone already, that is as good.
        let _ = self
            .child
            .stdin
            .take()
            .map(|mut stdin| stdin.write_all(b"\n"));
        let _ = self.child.wait();
    }
}
