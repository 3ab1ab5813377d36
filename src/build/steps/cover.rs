//! What a step would have mounted, where nothing can be mounted: files put into the copy of the
//! root, in front of what is there.
//!
//! Like a mount, a cover hides what was in its place, is written to in vain, and is in no layer.
//! Unlike one it can be removed by the step, which changes nothing outside it.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, makedev};

use crate::layer::{Change, Changes, Follow, Kind, Meta, Node, Tree, TreePath};
use crate::sandbox::{Mount, MountKind};

use super::super::error::StepError;

/// Something in front of what is at a place.
pub(super) struct Cover {
    target: TreePath,
    /// What is there, below the target; the target itself first.
    what: Changes,
    follow: Follow,
}

impl Cover {
    /// `what`, whose root is to be at `target`, where links are followed as for a mount.
    pub(super) fn at(target: &TreePath, what: Changes) -> Self {
        Self {
            target: target.clone(),
            what,
            follow: Follow::Last,
        }
    }

    /// An empty directory.
    pub(super) fn directory(target: &TreePath, mode: u32) -> Self {
        Self::at(target, only(Node::dir(meta(mode))))
    }

    /// What a mount of a file in memory would be. Other mounts need a namespace.
    pub(super) fn of_file(mount: &Mount) -> Option<Self> {
        let MountKind::File { content, mode, .. } = &mount.kind else {
            return None;
        };
        let target = TreePath::clean(mount.target.as_os_str().as_bytes())?;
        let file = Node::file(meta(*mode), content.0.clone());
        Some(Self::at(&target, only(file)))
    }

    /// Empty `/proc` and `/sys`, and a `/dev` with the usual devices, if some can be made in
    /// `dir`: else with an empty file as `null`, for what is redirected there.
    pub(super) fn system(dir: BorrowedFd<'_>) -> Vec<Self> {
        let mut dev = only(Node::dir(meta(0o755)));
        let mut add = |name: &str, node: Node| {
            let path = TreePath::ROOT.child(name.as_bytes());
            dev.entries.insert(path, Change::Node(node));
        };
        add("shm", Node::dir(meta(0o1777)));
        match holds_devices(dir) {
            true => {
                for &(name, minor) in DEVICES {
                    let node = Node {
                        meta: meta(0o666),
                        kind: Kind::Char { major: 1, minor },
                        content: None,
                    };
                    add(name, node);
                }
            }
            false => add("null", Node::file(meta(0o666), [])),
        }
        let own = |name: &str, what| Self {
            target: TreePath::ROOT.child(name.as_bytes()),
            what,
            follow: Follow::Parents,
        };
        let empty = || only(Node::dir(meta(0o555)));
        vec![own("dev", dev), own("proc", empty()), own("sys", empty())]
    }
}

/// Devices by their minor numbers; all have the major 1.
const DEVICES: &[(&str, u32)] = &[
    ("null", 3),
    ("zero", 5),
    ("full", 7),
    ("random", 8),
    ("urandom", 9),
];

/// Whether a device can be made in `dir` and opened there.
fn holds_devices(dir: BorrowedFd<'_>) -> bool {
    let name = "null";
    let mode = Mode::from_raw_mode(0o600);
    let made = rustix::fs::mknodat(dir, name, FileType::CharacterDevice, mode, makedev(1, 3));
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let works = made.is_ok() && rustix::fs::openat(dir, name, flags, Mode::empty()).is_ok();
    // What was not made is not there.
    let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
    works
}

fn meta(mode: u32) -> Meta {
    Meta {
        mode,
        ..Meta::default()
    }
}

fn only(node: Node) -> Changes {
    Changes {
        entries: [(TreePath::ROOT, Change::Node(node))].into(),
    }
}

/// Puts `covers` into `all`, which is everything in `below`, parents first. Returns what is
/// covered.
pub(super) fn put(
    covers: &[Cover],
    all: &mut Changes,
    below: &dyn Tree,
) -> Result<BTreeSet<TreePath>, StepError> {
    let mut order: Vec<&Cover> = covers.iter().collect();
    order.sort_by_key(|cover| cover.target.parts().count());
    let mut covered = BTreeSet::new();
    for cover in order {
        let place = below.resolve(&cover.target, cover.follow)?.path;
        let entries = cover.what.entries.iter().map(|(path, change)| {
            let change = match change {
                // Hides what is there.
                Change::Node(node) if path.is_root() && node.kind.is_dir() => {
                    Change::Opaque(node.clone())
                }
                Change::HardLink(to) => Change::HardLink(place.join(to)),
                other => other.clone(),
            };
            (place.join(path), change)
        });
        all.merge(Changes {
            entries: entries.collect(),
        });
        covered.insert(place);
    }
    all.insert_parents(below, &meta(0o755))?;
    for change in all.entries.values_mut() {
        if let Change::Opaque(node) = change {
            *change = Change::Node(node.clone());
        }
    }
    Ok(covered)
}

#[cfg(test)]
mod tests {
    use crate::layer::{Content, Error, Found, Inode, Time};

    use super::*;

    /// A file system with a directory, a file in it and a link to it.
    struct Below;

    impl Below {
        fn all() -> Changes {
            let link = Node {
                meta: meta(0o777),
                kind: Kind::Symlink {
                    target: b"etc".to_vec(),
                },
                content: None,
            };
            let nodes = [
                ("etc", Node::dir(meta(0o700))),
                ("etc/hosts", Node::file(meta(0o600), *b"image")),
                ("link", link),
            ];
            let entries = nodes.map(|(raw, node)| (path(raw), Change::Node(node)));
            Changes {
                entries: entries.into(),
            }
        }
    }

    impl Tree for Below {
        fn find(&self, path: &TreePath) -> Result<Option<Found>, Error> {
            let node = match path.is_root() {
                true => Some(Node::dir(meta(0o755))),
                false => Self::all()
                    .entries
                    .get(path)
                    .and_then(Change::node)
                    .cloned(),
            };
            let inode = Inode {
                tree: 0,
                dev: 0,
                ino: 0,
                links: 1,
                ctime: Time::default(),
                born: None,
            };
            Ok(node.map(|node| Found { node, inode }))
        }

        fn scan(&self, _: &TreePath) -> Result<Vec<(Vec<u8>, Found)>, Error> {
            Ok(Vec::new())
        }
    }

    fn path(raw: &str) -> TreePath {
        TreePath::clean(raw.as_bytes()).unwrap()
    }

    #[test]
    fn a_cover_stands_where_a_mount_would() {
        let mut all = Below::all();
        let file = |text: &[u8]| only(Node::file(meta(0o644), text));
        let covers = [
            Cover::at(&path("link/hosts"), file(b"ours")),
            Cover::at(&path("run/secrets/x"), file(b"new")),
        ];
        let covered = put(&covers, &mut all, &Below).unwrap();
        assert_eq!(covered, [path("etc/hosts"), path("run/secrets/x")].into());
        let node = |raw: &str| all.entries[&path(raw)].node().unwrap();
        let hosts = node("etc/hosts");
        assert!(matches!(&hosts.content, Some(Content::Bytes(bytes)) if **bytes == *b"ours"));
        assert_eq!(node("etc").meta.mode, 0o700);
        assert_eq!(node("run/secrets").meta.mode, 0o755);
        assert!(matches!(node("link").kind, Kind::Symlink { .. }));
    }

    #[test]
    fn a_covered_directory_hides_what_was_in_it() {
        let mut all = Below::all();
        let covers = [Cover::directory(&path("etc"), 0o1777)];
        let covered = put(&covers, &mut all, &Below).unwrap();
        assert_eq!(covered, [path("etc")].into());
        assert!(!all.entries.contains_key(&path("etc/hosts")));
        let etc = &all.entries[&path("etc")];
        assert!(matches!(etc, Change::Node(node) if node.meta.mode == 0o1777));
    }
}
