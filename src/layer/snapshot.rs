//! What a program changed in a plain directory, found by looking before and after: for machines
//! and file systems that can't mount an overlay.
//!
//! A [`Snapshot`] keeps of every entry its inode, change time, number of names and owner. What
//! looks the same afterwards was not changed: the kernel moves the change time with every write,
//! and nobody can set it. The result is what [`super::diff`] says of the upper directory of an
//! overlay for the same commands:
//!
//! - what is gone is a whiteout; a directory that is another one than before hides the old one;
//! - a directory in which something changed stands as itself, and so do those above it;
//! - all names of a file that got a new name or other bytes are there; a file that only lost
//!   another name is not;
//! - sockets and the root directory are left out.
//!
//! The limits: a file that was opened for writing and not written is in the layer of an overlay,
//! and not here; a write to one of two names that share an inode in the layers below changes
//! both here, and with an overlay one.
//!
//! A directory that outlives the process that looked at it has its snapshot in a file ([`kept`]).

mod kept;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use std::vec::IntoIter;

use rustix::time::ClockId;

use super::changes::{Change, Changes, Node};
use super::entry::{Kind, Meta, Time};
use super::error::Error;
use super::flatten::Names;
use super::node::Marks;
use super::path::TreePath;
use super::stack::Stack;
use super::tree::{Found, Tree};

/// A directory and all below it as it was at one moment.
#[derive(Debug)]
pub struct Snapshot {
    root: Arc<OwnedFd>,
    marks: Marks,
    dirs: BTreeMap<TreePath, Listing>,
}

type Listing = BTreeMap<Vec<u8>, Stamp>;

/// What is kept of an entry. All of them are on one file system.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    ino: u64,
    born: Option<Time>,
    ctime: Time,
    links: u64,
    /// Owners of links and special files may be written elsewhere than on their inodes.
    owner: (u32, u32),
}

impl Stamp {
    fn of(found: &Found) -> Self {
        let Found { node, inode } = found;
        Self {
            ino: inode.ino,
            born: inode.born,
            ctime: inode.ctime,
            links: inode.links,
            owner: (node.meta.uid, node.meta.gid),
        }
    }

    /// Whether this is still the same inode.
    fn is_of(&self, found: &Found) -> bool {
        let Found { inode, .. } = found;
        (self.ino, self.born) == (inode.ino, inode.born)
    }
}

/// What came of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Same,
    Changed,
    /// A directory that hides what was there before.
    Replaced,
}

impl Snapshot {
    /// Looks at everything below `root`, a tree with these `marks` in which nothing happens, and
    /// returns when any later change will show.
    pub fn take(root: &Arc<OwnedFd>, marks: Marks) -> Result<Self, Error> {
        let tree = Stack::new(vec![Arc::clone(root)], marks);
        let mut dirs = BTreeMap::new();
        let mut open = vec![TreePath::ROOT];
        let mut newest = Time::default();
        while let Some(dir) = open.pop() {
            let mut listing = Listing::new();
            for (name, found) in tree.scan(&dir)? {
                if found.node.kind.is_dir() {
                    open.push(dir.child(&name));
                }
                newest = newest.max(found.inode.ctime);
                listing.insert(name, Stamp::of(&found));
            }
            dirs.insert(dir, listing);
        }
        wait_until_after(newest);
        Ok(Self {
            root: Arc::clone(root),
            marks,
            dirs,
        })
    }

    /// Returns what has changed since, of a directory that was filled with what is `below`.
    /// Nothing is said about `covered` paths and what is in them.
    pub fn changes(
        &self,
        below: &dyn Tree,
        covered: &BTreeSet<TreePath>,
    ) -> Result<Changes, Error> {
        let mut walk = Walk {
            before: self,
            below,
            covered,
            now: Stack::new(vec![Arc::clone(&self.root)], self.marks),
            seen: Vec::new(),
            gone: Vec::new(),
            touched: HashSet::new(),
        };
        walk.all()?;
        let mut changes = walk.into_changes();
        // All of them are there: this adds those that did not change.
        let now = Stack::new(vec![Arc::clone(&self.root)], self.marks);
        changes.insert_parents(&now, &Meta::default())?;
        Ok(changes)
    }
}

/// Waits until a change gets a change time later than `newest`: the kernel's coarse clock, which
/// they are taken from, stands still for up to ten milliseconds.
fn wait_until_after(newest: Time) {
    // A clock that was set back stays behind; then change times differ without waiting.
    for _ in 0..50 {
        let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
        let later = now.tv_sec > newest.secs
            || now.tv_sec == newest.secs && now.tv_nsec > newest.nanos.into();
        if later {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A directory that is being walked.
struct Level<'a> {
    path: TreePath,
    entries: IntoIter<(Vec<u8>, Found)>,
    /// What it held before; `None` for one that was not there.
    known: Option<&'a Listing>,
}

struct Walk<'a> {
    before: &'a Snapshot,
    below: &'a dyn Tree,
    covered: &'a BTreeSet<TreePath>,
    now: Stack,
    /// Entries that changed, and the names of files that have others, in order.
    seen: Vec<(TreePath, Found, Fate)>,
    gone: Vec<TreePath>,
    /// Files with several names of which one changed.
    touched: HashSet<(usize, u64, u64)>,
}

impl<'a> Walk<'a> {
    fn all(&mut self) -> Result<(), Error> {
        let root = self.before.dirs.get(&TreePath::ROOT);
        let mut open = vec![self.enter(TreePath::ROOT, root)?];
        while let Some(level) = open.last_mut() {
            let Some((name, found)) = level.entries.next() else {
                open.pop();
                continue;
            };
            let path = level.path.child(&name);
            if found.node.kind == Kind::Socket || self.covered.contains(&path) {
                continue;
            }
            let stamp = level.known.and_then(|known| known.get(&name));
            let stamp = stamp.filter(|stamp| stamp.is_of(&found));
            let shows_below = level.known.is_some();
            let is_dir = found.node.kind.is_dir();
            let fate = match is_dir {
                true => self.fate_of_dir(&path, &found, stamp.is_some(), shows_below)?,
                false => self.fate_of_file(&path, &found, stamp)?,
            };
            let linked = !is_dir && found.inode.links > 1;
            if linked && fate == Fate::Changed {
                self.touched.insert(found.inode.identity());
            }
            if is_dir {
                let known = stamp.and_then(|_| self.before.dirs.get(&path));
                open.push(self.enter(path.clone(), known)?);
            }
            if linked || fate != Fate::Same {
                self.seen.push((path, found, fate));
            }
        }
        Ok(())
    }

    /// Lists a directory, and notes what is gone from it.
    fn enter(&mut self, path: TreePath, known: Option<&'a Listing>) -> Result<Level<'a>, Error> {
        let entries = self.now.scan(&path)?;
        if let Some(known) = known {
            let left: HashSet<&[u8]> = entries.iter().map(|(name, _)| name.as_slice()).collect();
            for name in known.keys().filter(|name| !left.contains(name.as_slice())) {
                let path = path.child(name);
                if !self.covered.contains(&path) && self.below.find(&path)?.is_some() {
                    self.gone.push(path);
                }
            }
        }
        Ok(Level {
            path,
            entries: entries.into_iter(),
            known,
        })
    }

    /// Decides about a directory by what it is, not by its change time: mount points that come
    /// and go leave no other trace.
    fn fate_of_dir(
        &self,
        path: &TreePath,
        found: &Found,
        is_old: bool,
        shows_below: bool,
    ) -> Result<Fate, Error> {
        if !shows_below {
            return Ok(Fate::Changed);
        }
        let was = self.below.node(path)?;
        Ok(match (was, is_old) {
            (Some(was), true) if was.kind.is_dir() && was.meta == found.node.meta => Fate::Same,
            // Made for something that is covered.
            (None, true) => Fate::Same,
            (Some(was), false) if was.kind.is_dir() && !self.below.scan(path)?.is_empty() => {
                Fate::Replaced
            }
            _ => Fate::Changed,
        })
    }

    fn fate_of_file(
        &self,
        path: &TreePath,
        found: &Found,
        stamp: Option<&Stamp>,
    ) -> Result<Fate, Error> {
        let Some(stamp) = stamp else {
            return Ok(Fate::Changed);
        };
        if *stamp == Stamp::of(found) {
            return Ok(Fate::Same);
        }
        // A name more or less moves the change time as well, and is no change of this name.
        let renamed = stamp.links != found.inode.links && !matches!(found.node.kind, Kind::Dir);
        match self.below.node(path)? {
            Some(was) if renamed && is_equal(&was, &found.node, path)? => Ok(Fate::Same),
            _ => Ok(Fate::Changed),
        }
    }

    fn into_changes(self) -> Changes {
        let mut names = Names::default();
        let mut entries = BTreeMap::new();
        for (path, found, fate) in self.seen {
            if fate == Fate::Same && !self.touched.contains(&found.inode.identity()) {
                continue;
            }
            let change = match fate {
                Fate::Replaced => Change::Opaque(found.node),
                Fate::Same | Fate::Changed => names.change(&path, found),
            };
            entries.insert(path, change);
        }
        entries.extend(self.gone.into_iter().map(|path| (path, Change::Whiteout)));
        Changes { entries }
    }
}

/// Whether two entries say the same, byte for byte.
fn is_equal(one: &Node, two: &Node, path: &TreePath) -> Result<bool, Error> {
    if one.meta != two.meta || one.kind != two.kind {
        return Ok(false);
    }
    let (Kind::File { size }, Some(left), Some(right)) = (&one.kind, &one.content, &two.content)
    else {
        return Ok(true);
    };
    let (mut left, mut right) = (left.open(*size)?, right.open(*size)?);
    let (mut some, mut other) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut at = 0;
    while at < *size {
        let len = BUFFER.min(usize::try_from(size - at).unwrap_or(BUFFER));
        let read = left.read_exact(&mut some[..len]);
        let read = read.and_then(|()| right.read_exact(&mut other[..len]));
        read.map_err(|source| Error::Io {
            doing: "read",
            path: path.clone(),
            source,
        })?;
        if some[..len] != other[..len] {
            return Ok(false);
        }
        at += len as u64;
    }
    Ok(true)
}

/// Bytes that are compared at once.
const BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::{FileExt, PermissionsExt};
    use std::path::Path;

    use super::super::flatten;
    use super::super::testing::{Scratch, changes, is_root, open_dir, path, trees};
    use super::super::tree_write::{TreeForm, write_tree};
    use super::*;

    const BELOW: &str = "dir d\nfile d/a 1\nfile d/b 2\ndir d/e\nfile d/e/f 3\nfile x 4\nhard y x
        link l x\ndir empty\nfile z 5\nfifo p";

    fn marks() -> Marks {
        if is_root() {
            Marks::Trusted
        } else {
            Marks::User
        }
    }

    /// What `act` changes in a copy of [`BELOW`]; without files' times and owners.
    fn changed(act: impl FnOnce(&Path), covered: &[&str]) -> Vec<String> {
        let scratch = Scratch::new();
        let lower = trees(&scratch, marks(), &[changes(BELOW)]);
        let below = Stack::new(vec![open_dir(&lower[0])], marks());
        let at = scratch.dir("root");
        let root = open_dir(&at);
        let all = flatten(&below).unwrap();
        write_tree(&all, root.as_fd(), TreeForm::Overlay(marks()), None).unwrap();
        let before = Snapshot::take(&root, marks()).unwrap();
        act(&at);
        let covered = covered.iter().map(|raw| path(raw)).collect();
        let found = before.changes(&below, &covered).unwrap();
        let short = |(path, change): (&TreePath, &Change)| match change {
            Change::Node(node) if node.kind.is_dir() => format!("{path}/"),
            Change::Node(_) => path.to_string(),
            Change::HardLink(to) => format!("{path} = {to}"),
            Change::Whiteout => format!("-{path}"),
            Change::Opaque(_) => format!("{path}/!"),
        };
        found.entries.iter().map(short).collect()
    }

    #[test]
    fn what_is_left_alone_is_no_change() {
        let look = |at: &Path| {
            fs::read(at.join("d/a")).unwrap();
            File::options().write(true).open(at.join("x")).unwrap();
            fs::read_dir(at).unwrap().for_each(drop);
        };
        assert!(changed(look, &[]).is_empty());
    }

    #[test]
    fn each_kind_of_change_is_found_and_nothing_else() {
        type Act = fn(&Path);
        let cases: &[(&str, Act, &[&str])] = &[
            (
                "same size and time",
                |at| {
                    let file = File::options().write(true).open(at.join("d/e/f")).unwrap();
                    let time = file.metadata().unwrap().modified().unwrap();
                    file.write_at(b"9", 0).unwrap();
                    file.set_modified(time).unwrap();
                },
                &["/d/", "/d/e/", "/d/e/f"],
            ),
            (
                "mode of a directory",
                |at| {
                    fs::set_permissions(at.join("empty"), PermissionsExt::from_mode(0o700))
                        .unwrap();
                },
                &["/empty/"],
            ),
            (
                "new and gone",
                |at| {
                    fs::remove_file(at.join("d/a")).unwrap();
                    fs::write(at.join("d/new"), "").unwrap();
                },
                &["/d/", "-/d/a", "/d/new"],
            ),
            (
                "a whole directory",
                |at| fs::remove_dir_all(at.join("d")).unwrap(),
                &["-/d"],
            ),
            (
                "a directory anew",
                |at| {
                    fs::rename(at.join("d"), at.join("kept")).unwrap();
                    fs::create_dir_all(at.join("d/e")).unwrap();
                    fs::remove_dir_all(at.join("kept")).unwrap();
                },
                &["/d/!", "/d/e/"],
            ),
            (
                "a directory moved",
                |at| fs::rename(at.join("d/e"), at.join("moved")).unwrap(),
                &["/d/", "-/d/e", "/moved/", "/moved/f"],
            ),
            (
                "another kind",
                |at| {
                    fs::remove_file(at.join("l")).unwrap();
                    fs::create_dir(at.join("l")).unwrap();
                    fs::remove_dir_all(at.join("d")).unwrap();
                    fs::write(at.join("d"), "").unwrap();
                },
                &["/d", "/l/"],
            ),
            (
                "a name less",
                |at| fs::remove_file(at.join("x")).unwrap(),
                &["-/x"],
            ),
            (
                "a name more",
                |at| fs::hard_link(at.join("z"), at.join("zz")).unwrap(),
                &["/z", "/zz = /z"],
            ),
            (
                "bytes of a file with two names",
                |at| fs::write(at.join("x"), "new").unwrap(),
                &["/x", "/y = /x"],
            ),
            (
                "a socket",
                |at| {
                    std::os::unix::net::UnixListener::bind(at.join("empty/s")).unwrap();
                },
                &["/empty/"],
            ),
        ];
        for (name, act, want) in cases {
            assert_eq!(changed(act, &[]), *want, "{name}");
        }
    }

    #[test]
    fn nothing_is_said_of_what_is_covered() {
        let act = |at: &Path| {
            fs::write(at.join("x"), "covered").unwrap();
            fs::remove_dir_all(at.join("d/e")).unwrap();
            fs::remove_file(at.join("z")).unwrap();
        };
        assert_eq!(changed(act, &["x", "d/e", "z"]), ["/d/", "/y"]);
    }
}
