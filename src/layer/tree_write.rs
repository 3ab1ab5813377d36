//! [`Changes`] as a directory: an overlay lower dir, or plain files for `-o type=local`.
//!
//! Everything is made below one descriptor, name by name, and no link is followed: where a link
//! stands in the way of a directory it is replaced, never walked through. A directory
//! gets its metadata when everything in it is made.
//!
//! The caller owns the target directory: a write that stops half way leaves what it made.
//! One file is one call of `Writer::file`, which is where threads would come in.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::changes::{Change, Changes, Node};
use super::content::{DIRECTORY, open_below};
use super::copy::Copier;
use super::entry::{Kind, Meta};
use super::error::Error;
use super::metadata::{self, Made};
use super::node::Marks;
use super::path::TreePath;
use super::tree::Tree;
use super::whiteout;

/// What a tree is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeForm {
    /// A lower dir of an overlay: whiteouts are devices 0/0 (on an overlay marked files), opaque
    /// directories have a mark.
    /// Whatever can't be made as the layer says is an error.
    Overlay(Marks),
    /// Files for their own sake. What only root may do (owners, devices, capabilities) is done
    /// where the kernel lets us, whiteouts are nothing, and what stands there is replaced.
    Plain,
    /// The same for whoever writes them, who owns all of it.
    Callers,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Entries made, implied parents not counted.
    pub entries: u64,
    /// Bytes of regular files.
    pub bytes: u64,
    /// Devices that could not be made outside of an overlay, and sockets.
    pub left_out: Vec<TreePath>,
}

/// Writes `changes` into the directory `into`.
///
/// A parent that is not among them gets the metadata it has in `below`, else mode 0755, 0:0 and
/// the time 0; one that is there already stays as it is.
pub fn write_tree(
    changes: &Changes,
    into: BorrowedFd<'_>,
    form: TreeForm,
    below: Option<&dyn Tree>,
) -> Result<Written, Error> {
    let mut writer = Writer {
        changes,
        into,
        form,
        below,
        levels: Vec::new(),
        copier: Copier::new(),
        written: Written::default(),
    };
    writer.levels.push(Level {
        path: TreePath::ROOT,
        dir: Some(open(into, &TreePath::ROOT)?),
        finish: None,
    });
    for (path, change) in &changes.entries {
        writer.write(path, change)?;
    }
    writer.leave_all_but(0)?;
    Ok(writer.written)
}

/// Directories on the way down that stay open; those above are opened again when they are needed.
const MAX_OPEN: usize = 64;

/// A directory on the way from the root to where entries are being made.
struct Level {
    path: TreePath,
    dir: Option<OwnedFd>,
    /// What it gets when everything in it is made.
    finish: Option<Finish>,
}

struct Finish {
    meta: Meta,
    opaque: bool,
}

struct Writer<'a> {
    changes: &'a Changes,
    into: BorrowedFd<'a>,
    form: TreeForm,
    below: Option<&'a dyn Tree>,
    /// From the root down; never empty while writing.
    levels: Vec<Level>,
    copier: Copier,
    written: Written,
}

impl Writer<'_> {
    fn write(&mut self, path: &TreePath, change: &Change) -> Result<(), Error> {
        let Some(parent) = path.parent() else {
            return self.root(change);
        };
        self.enter(&parent)?;
        match change {
            Change::Whiteout => match self.form {
                TreeForm::Plain | TreeForm::Callers => return Ok(()),
                TreeForm::Overlay(marks) => self.place(path, "make a whiteout at", |dir| {
                    whiteout::make(dir, path.name(), marks)
                })?,
            },
            Change::HardLink(target) => self.link(path, target)?,
            Change::Opaque(node) if !node.kind.is_dir() => {
                return Err(Error::NotDirectory { path: path.clone() });
            }
            Change::Opaque(node) => self.dir(path, node, true)?,
            Change::Node(node) => match &node.kind {
                Kind::Dir => self.dir(path, node, false)?,
                Kind::File { size } => self.file(path, node, *size)?,
                kind => {
                    if !self.special(path, kind, &node.meta)? {
                        self.written.left_out.push(path.clone());
                        return Ok(());
                    }
                }
            },
        }
        self.written.entries += 1;
        Ok(())
    }

    /// The root is there already and gets its metadata at the end.
    fn root(&mut self, change: &Change) -> Result<(), Error> {
        let Some(node) = change.node().filter(|node| node.kind.is_dir()) else {
            let path = TreePath::ROOT;
            return Err(Error::NotDirectory { path });
        };
        self.levels[0].finish = Some(Finish {
            meta: node.meta.clone(),
            opaque: matches!(change, Change::Opaque(_)),
        });
        self.written.entries += 1;
        Ok(())
    }

    /// Makes `parent` the last level: leaves directories, and makes those that are implied.
    fn enter(&mut self, parent: &TreePath) -> Result<(), Error> {
        let mut common = self.levels.len();
        while common > 1 && !parent.starts_with(&self.levels[common - 1].path) {
            common -= 1;
        }
        self.leave_all_but(common)?;
        let here = self.levels[common - 1].path.clone();
        let depth = here.parts().count();
        parent.parts().skip(depth).try_fold(here, |above, part| {
            let path = above.child(part);
            let made = self.make_dir(&path)?;
            let finish = made.then(|| self.implied(&path)).transpose()?;
            self.descend(path.clone(), finish)?;
            Ok(path)
        })?;
        Ok(())
    }

    /// Returns what a parent gets that the layer does not name.
    fn implied(&self, path: &TreePath) -> Result<Finish, Error> {
        let known = match self.below {
            Some(below) => below.node(path)?.filter(|node| node.kind.is_dir()),
            None => None,
        };
        let new = || Meta {
            mode: 0o755,
            ..Meta::default()
        };
        Ok(Finish {
            meta: known.map_or_else(new, |node| node.meta),
            opaque: false,
        })
    }

    /// Opens the directory at `path`, a child of the last level, and makes it the last.
    fn descend(&mut self, path: TreePath, finish: Option<Finish>) -> Result<(), Error> {
        let dir = match fs::openat(self.here()?, path.name(), DIRECTORY, Mode::empty()) {
            Ok(dir) => Some(dir),
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(Error::NotDirectory { path }),
            Err(errno) => return Err(Error::io("open", &path, errno)),
        };
        if let Some(above) = self.levels.len().checked_sub(MAX_OPEN) {
            self.levels[above].dir = None;
        }
        self.levels.push(Level { path, dir, finish });
        Ok(())
    }

    /// Returns the directory of the last level.
    fn here(&mut self) -> Result<BorrowedFd<'_>, Error> {
        let into = self.into;
        let level = self.levels.last_mut().expect("the root is never left");
        let dir = match level.dir.take() {
            Some(dir) => dir,
            None => open(into, &level.path)?,
        };
        let dir: &OwnedFd = level.dir.insert(dir);
        Ok(dir.as_fd())
    }

    /// Leaves levels until `keep` are left. What a directory gets, it gets now.
    fn leave_all_but(&mut self, keep: usize) -> Result<(), Error> {
        while self.levels.len() > keep {
            self.here()?;
            let Some(Level { path, dir, finish }) = self.levels.pop() else {
                break;
            };
            if let (Some(dir), Some(finish)) = (dir, finish) {
                self.finish(&path, &dir, &finish)?;
            }
        }
        Ok(())
    }

    fn finish(&self, path: &TreePath, dir: &OwnedFd, finish: &Finish) -> Result<(), Error> {
        if let (true, TreeForm::Overlay(marks)) = (finish.opaque, self.form) {
            fs::fsetxattr(dir, marks.opaque(), b"y", XattrFlags::empty())
                .map_err(|errno| Error::io("mark as opaque", path, errno))?;
        }
        self.apply(&Made::Open(dir.as_fd()), &finish.meta, path)
    }

    /// Makes a new entry; what stands in its place is removed, unless it is a directory.
    fn place<T>(
        &mut self,
        path: &TreePath,
        doing: &'static str,
        make: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Result<T, Error> {
        let here = self.here()?;
        let made = match make(here) {
            Err(Errno::EXIST) => {
                match fs::unlinkat(here, path.name(), AtFlags::empty()) {
                    Err(Errno::ISDIR) => return Err(Error::IsDirectory { path: path.clone() }),
                    removed => removed.map_err(|errno| Error::io("replace", path, errno))?,
                }
                make(here)
            }
            made => made,
        };
        made.map_err(|errno| Error::io(doing, path, errno))
    }

    /// Makes a directory, for us alone until it is finished. Returns false if there is something.
    fn make_dir(&mut self, path: &TreePath) -> Result<bool, Error> {
        match fs::mkdirat(self.here()?, path.name(), Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(Error::io("make the directory", path, errno)),
        }
    }

    /// A directory that is there stays with what is in it; anything else gives way.
    fn dir(&mut self, path: &TreePath, node: &Node, opaque: bool) -> Result<(), Error> {
        if !self.make_dir(path)? {
            match fs::unlinkat(self.here()?, path.name(), AtFlags::empty()) {
                Ok(()) => {
                    self.make_dir(path)?;
                }
                Err(Errno::ISDIR) => {}
                Err(errno) => return Err(Error::io("replace", path, errno)),
            }
        }
        let meta = node.meta.clone();
        self.descend(path.clone(), Some(Finish { meta, opaque }))
    }

    fn create(&mut self, path: &TreePath) -> Result<OwnedFd, Error> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        self.place(path, "make the file", |dir| {
            fs::openat(dir, path.name(), flags, mode)
        })
    }

    fn file(&mut self, path: &TreePath, node: &Node, size: u64) -> Result<(), Error> {
        let file: File = self.create(path)?.into();
        match &node.content {
            Some(content) => self.copier.copy(content, size, &file, path)?,
            None if size == 0 => {}
            None => {
                let path = path.clone();
                let (want, got) = (size, 0);
                return Err(Error::Changed { path, want, got });
            }
        }
        self.written.bytes += size;
        self.apply(&Made::Open(file.as_fd()), &node.meta, path)
    }

    fn link(&mut self, path: &TreePath, target: &TreePath) -> Result<(), Error> {
        let bad = || Error::BadHardLink {
            path: path.clone(),
            target: target.clone(),
        };
        match self.changes.entries.get(target) {
            Some(Change::Node(node)) if !node.kind.is_dir() => {}
            _ => return Err(bad()),
        }
        let parent = target.parent().unwrap_or_default();
        let from = open(self.into, &parent)?;
        self.place(path, "link", |dir| {
            fs::linkat(&from, target.name(), dir, path.name(), AtFlags::empty())
        })
        .map_err(|error| match error {
            // A link that stands before its file, or a device that was left out.
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => bad(),
            error => error,
        })?;
        let form = self.form;
        metadata::linked(form, from.as_fd(), self.here()?, path)
    }

    /// Makes anything that is no directory and no regular file. Returns false if it is left out.
    fn special(&mut self, path: &TreePath, kind: &Kind, meta: &Meta) -> Result<bool, Error> {
        if let Some(device) = metadata::stand_in(self.form, kind) {
            let file = self.create(path)?;
            metadata::apply_stand_in(self.form, &file, device, meta, path)?;
            return Ok(true);
        }
        let mode = Mode::RUSR | Mode::WUSR;
        let node = |kind, major, minor| {
            move |dir: BorrowedFd<'_>| {
                fs::mknodat(dir, path.name(), kind, mode, fs::makedev(major, minor))
            }
        };
        let doing = "make the device";
        let made = match kind {
            Kind::Symlink { target } => self.place(path, "make the link", |dir| {
                fs::symlinkat(target.as_slice(), dir, path.name())
            }),
            Kind::Fifo => self.place(path, "make the fifo", node(FileType::Fifo, 0, 0)),
            Kind::Char { major, minor } => {
                self.place(path, doing, node(FileType::CharacterDevice, *major, *minor))
            }
            Kind::Block { major, minor } => {
                self.place(path, doing, node(FileType::BlockDevice, *major, *minor))
            }
            Kind::Socket | Kind::Dir | Kind::File { .. } => return Ok(false),
        };
        match made {
            Err(Error::Io { source, .. })
                if !matches!(self.form, TreeForm::Overlay(_))
                    && source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                return Ok(false);
            }
            made => made?,
        }
        let form = self.form;
        let made = Made::Named {
            dir: self.here()?,
            name: path.name(),
            link: matches!(kind, Kind::Symlink { .. }),
        };
        metadata::apply(form, &made, meta, path)?;
        Ok(true)
    }

    fn apply(&self, made: &Made<'_>, meta: &Meta, path: &TreePath) -> Result<(), Error> {
        metadata::apply(self.form, made, meta, path)
    }
}

fn open(into: BorrowedFd<'_>, path: &TreePath) -> Result<OwnedFd, Error> {
    open_below(into, path, DIRECTORY).map_err(|errno| Error::io("open", path, errno))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::super::changes::Content;
    use super::super::dir::Dir;
    use super::super::flatten::flatten;
    use super::super::testing::{Scratch, changes, is_root, meta, open_dir, path, show, show_tree};
    use super::*;

    fn write(changes: &Changes, into: &Path, below: Option<&dyn Tree>) -> Result<Written, Error> {
        let into = open_dir(into);
        write_tree(changes, into.as_fd(), TreeForm::Plain, below)
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let scratch = Scratch::new();
        let mut want = changes(
            "dir d\nfile d/f text\nhard d/g d/f\nlink l d/f\nhard m l\nfifo p\nfile e
             dir sticky\nfile suid x",
        );
        for (name, mode) in [("sticky", 0o1777), ("suid", 0o6755), ("d", 0o500)] {
            if let Some(Change::Node(node)) = want.entries.get_mut(&path(name)) {
                node.meta.mode = mode;
                node.meta
                    .xattrs
                    .insert(b"user.note".to_vec(), b"kept".to_vec());
                if is_root() {
                    (node.meta.uid, node.meta.gid) = (1234, 4321);
                    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                    let name = b"security.capability".to_vec();
                    node.meta.xattrs.insert(name, capability.to_vec());
                }
            }
        }
        if is_root() {
            let kind = Kind::Char { major: 1, minor: 3 };
            let device = Node {
                meta: meta(0o666),
                kind,
                content: None,
            };
            want.entries.insert(path("null"), Change::Node(device));
        }
        let written = write(&want, scratch.path(), None).unwrap();
        assert_eq!((written.entries, written.bytes), (want.len() as u64, 5));
        let got = flatten(&Dir::new(open_dir(scratch.path()))).unwrap();
        assert_eq!(show(&got), show(&want));
    }

    #[test]
    fn parents_that_are_implied_look_as_they_do_below() {
        let (below, into) = (Scratch::new(), Scratch::new());
        write(&changes("dir usr\ndir usr/lib"), below.path(), None).unwrap();
        let below = Dir::new(open_dir(below.path()));
        let layer = changes("file usr/lib/new/f x\nfile usr/g y");
        write(&layer, into.path(), Some(&below)).unwrap();
        let got = Dir::new(open_dir(into.path()));
        let known = |raw: &str| got.node(&path(raw)).unwrap().unwrap().meta;
        for raw in ["usr", "usr/lib"] {
            assert_eq!(known(raw), below.node(&path(raw)).unwrap().unwrap().meta);
        }
        let new = known("usr/lib/new");
        assert_eq!((new.mode, new.mtime.secs), (0o755, 0));
    }

    /// T-TAR-1 and T-TAR-5 for this writer: nothing is made, linked or changed through a link.
    #[test]
    fn nothing_is_written_through_a_link() {
        let canary = Scratch::new();
        write(&changes("file secret x\ndir dir"), canary.path(), None).unwrap();
        let state = || show_tree(&Dir::new(open_dir(canary.path())));
        let before = state();
        let out = canary.path().display();
        for (text, ok) in [
            (format!("link d {out}\nfile d/new x"), false),
            (format!("link d {out}\ndir d/dir"), false),
            (format!("link d {out}/dir\ndir e\nhard f d/secret"), false),
            (format!("link d {out}/secret\nhard e d"), true),
            (format!("link d {out}/secret"), true),
        ] {
            let into = Scratch::new();
            assert_eq!(
                write(&changes(&text), into.path(), None).is_ok(),
                ok,
                "{text}"
            );
            // And onto links that are there already: they are replaced.
            let into = Scratch::new();
            for name in ["d", "x"] {
                std::os::unix::fs::symlink(canary.path(), into.path().join(name)).unwrap();
            }
            write(&changes("dir d\nfile d/new x\nfile x 1"), into.path(), None).unwrap();
            assert!(into.path().join("d/new").is_file());
        }
        assert_eq!(state(), before);
    }

    #[test]
    fn a_directory_is_never_replaced_by_a_file() {
        let into = Scratch::new();
        write(&changes("dir d\nfile d/f x"), into.path(), None).unwrap();
        let error = write(&changes("file d x"), into.path(), None).unwrap_err();
        assert!(matches!(error, Error::IsDirectory { path: at } if at == path("d")));
        write(&changes("dir d\nfile d/f y\nfile d/g y"), into.path(), None).unwrap();
        assert_eq!(std::fs::read(into.path().join("d/f")).unwrap(), b"y");
    }

    #[test]
    fn links_to_what_the_layer_does_not_hold_are_errors() {
        for text in [
            "hard a b",
            "hard a b\nfile b x",
            "hard a d\ndir d",
            "hard a b\ngone b",
        ] {
            let error = write(&changes(text), Scratch::new().path(), None).unwrap_err();
            assert!(
                matches!(error, Error::BadHardLink { .. }),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn large_and_sparse_files_are_copied_whole() {
        let (from, into) = (Scratch::new(), Scratch::new());
        let big: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(from.path().join("big"), &big).unwrap();
        let sparse = File::create(from.path().join("sparse")).unwrap();
        sparse.set_len(64 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 32 << 20).unwrap();
        let mut layer = flatten(&Dir::new(open_dir(from.path()))).unwrap();
        let file = std::sync::Arc::new(File::open(from.path().join("big")).unwrap());
        let slice = Node {
            meta: meta(0o644),
            kind: Kind::File { size: 3_000_000 },
            content: Some(Content::Slice { file, offset: 100 }),
        };
        layer.entries.insert(path("slice"), Change::Node(slice));
        write(&layer, into.path(), None).unwrap();
        let read = |name: &str| std::fs::read(into.path().join(name)).unwrap();
        assert!(read("big") == big);
        assert!(read("slice") == big[100..3_000_100]);
        let got = read("sparse");
        assert_eq!(
            (got.len(), &got[32 << 20..][..7]),
            (64 << 20, &b"middle\0"[..])
        );
        let used = std::fs::metadata(into.path().join("sparse"))
            .unwrap()
            .blocks();
        assert!(used < 1024, "{used} blocks");
    }

    #[test]
    fn trees_deeper_than_a_path_may_be_long_are_fine() {
        let (one, two) = (Scratch::new(), Scratch::new());
        let mut at = TreePath::ROOT;
        let mut layer = Changes::default();
        for depth in 0..300 {
            at = at.child(format!("directory-{depth:010}").as_bytes());
            layer
                .entries
                .insert(at.clone(), Change::Node(Node::dir(meta(0o700))));
        }
        assert!(at.as_bytes().len() > 6000);
        layer.entries.insert(
            at.child(b"f"),
            Change::Node(Node::file(meta(0o600), *b"deep")),
        );
        layer
            .entries
            .insert(path("z"), Change::HardLink(at.child(b"f")));
        layer.order_links().unwrap();
        write(&layer, one.path(), None).unwrap();
        let again = flatten(&Dir::new(open_dir(one.path()))).unwrap();
        assert_eq!(show(&again), show(&layer));
        write(&again, two.path(), None).unwrap();
        assert_eq!(std::fs::read(two.path().join("z")).unwrap(), b"deep");
    }
}
