//! Puts selected sources where a COPY or ADD wants them: selection and destination in, changes out.
//!
//! Follows what BuildKit's copy does. A destination that is a symlink is followed inside the
//! image and survives. The contents of a directory are merged into the destination; entries that
//! are there stay, directories below it take the source's mode. Created parents are `0755`, and
//! `--chown` and `--chmod` reach them too. Existing parents are repeated with the metadata they have,
//! so that the layer can be unpacked without looking at the ones below.

use std::collections::{HashMap, HashSet};

use crate::layer::{Change, Changes, Kind, Meta, Node, Time, Tree, TreePath};

use super::chmod::Chmod;
use super::error::StepError;
use super::select::{Pick, Picked, Shape};

/// How many picked entries are let go of at once while they become changes, so that half a million
/// are not held twice.
const GIVEN_BACK: usize = 1 << 14;

/// How entries change on their way into the image.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// `--chown`: owner and group of everything copied and created.
    pub(super) owner: Option<(u32, u32)>,
    /// Whether files without `--chown` become root's, as those of the context do, or keep the
    /// owner they have, as those of a stage do.
    pub(super) to_root: bool,
    /// Mode of everything copied, and of what is created if it is octal.
    pub(super) chmod: Option<Chmod>,
    /// Time given to created parents.
    pub(super) created: Time,
}

impl Rules {
    /// Applies what `--chown` and `--chmod` ask for.
    fn apply(&self, node: &mut Node) {
        self.own(node);
        if let Some(chmod) = &self.chmod
            && node.kind.symlink_target().is_none()
        {
            node.meta.mode = chmod.apply(node.meta.mode, node.kind.is_dir());
        }
    }

    fn own(&self, node: &mut Node) {
        if let Some((uid, gid)) = self.owner {
            (node.meta.uid, node.meta.gid) = (uid, gid);
        }
    }

    /// Returns a directory that is made because something goes into it.
    pub(super) fn created_dir(&self) -> Node {
        let asked = self.chmod.as_ref().and_then(Chmod::of_created);
        let meta = Meta {
            mode: asked.unwrap_or(0o755),
            mtime: self.created,
            ..Meta::default()
        };
        let mut node = Node {
            meta,
            kind: Kind::Dir,
            content: None,
        };
        self.own(&mut node);
        node
    }
}

/// A destination as an instruction names it, working directory applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    /// The path.
    pub(super) path: TreePath,
    /// Whether it was written as a directory: with `/`, `.` or `/.` at its end.
    pub(super) is_dir: bool,
}

/// The changes of one instruction in the making, on top of the layers below it.
pub(super) struct Placer<'a> {
    below: &'a dyn Tree,
    rules: Rules,
    changes: Changes,
    links: HashMap<(usize, u64, u64), TreePath>,
    /// Directories made here, below which `below` has nothing.
    made: HashSet<TreePath>,
}

impl<'a> Placer<'a> {
    /// Begins on top of `below`.
    pub(super) fn new(below: &'a dyn Tree, rules: Rules) -> Self {
        Self {
            below,
            rules,
            changes: Changes::default(),
            links: HashMap::new(),
            made: HashSet::new(),
        }
    }

    /// Returns what was placed.
    pub(super) fn finish(mut self) -> Result<Changes, StepError> {
        self.changes.order_links()?;
        Ok(self.changes)
    }

    /// Places one source. Sources of one instruction are placed in order; later ones win.
    pub(super) fn place(&mut self, pick: Pick, to: &Destination) -> Result<(), StepError> {
        let (dest, exists) = self.resolve(&to.path)?;
        match pick.shape {
            Shape::Dir => self.place_dir(pick.entries, &dest, exists.as_ref()),
            Shape::File { name } => {
                let exists_as_dir = exists.as_ref().is_some_and(|kind| kind.is_dir());
                let target = match (&exists, to.is_dir || exists_as_dir) {
                    (Some(kind), true) if !kind.is_dir() => {
                        return Err(StepError::NotADirectory { path: dest });
                    }
                    (_, true) => {
                        self.make_dirs(&dest)?;
                        dest.child(&name)
                    }
                    (_, false) => dest,
                };
                for entry in pick.entries {
                    self.put_entry(target.join(&entry.rel), entry)?;
                }
                Ok(())
            }
        }
    }

    fn place_dir(
        &mut self,
        mut entries: Vec<Picked>,
        dest: &TreePath,
        exists: Option<&Kind>,
    ) -> Result<(), StepError> {
        if exists.is_some_and(|kind| !kind.is_dir()) {
            return Err(StepError::NotADirectory { path: dest.clone() });
        }
        self.make_dirs(dest)?;
        entries.reverse();
        while let Some(entry) = entries.pop() {
            if entry.rel.is_root() {
                self.date(dest, entry.node.meta.mtime);
            } else {
                self.put_entry(dest.join(&entry.rel), entry)?;
            }
            if entries.capacity() - entries.len() > GIVEN_BACK {
                entries.shrink_to_fit();
            }
        }
        Ok(())
    }

    /// A directory takes the time of the one whose contents it gets.
    fn date(&mut self, dest: &TreePath, mtime: Time) {
        if let Some(Change::Node(node)) = self.changes.entries.get_mut(dest) {
            node.meta.mtime = mtime;
        }
    }

    /// Puts a picked entry; a second name of one file becomes a hard link.
    fn put_entry(&mut self, path: TreePath, entry: Picked) -> Result<(), StepError> {
        if entry.inode.links < 2 || entry.node.kind.is_dir() {
            return self.put(path, entry.node);
        }
        let first = self.links.get(&entry.inode.identity()).cloned();
        match first {
            Some(first) if first != path && self.changes.entries.contains_key(&first) => {
                if let Some(parent) = path.parent() {
                    self.make_dirs(&parent)?;
                }
                self.check_replace(&path, &entry.node.kind)?;
                self.changes.entries.insert(path, Change::HardLink(first));
                Ok(())
            }
            _ => {
                self.links.insert(entry.inode.identity(), path.clone());
                self.put(path, entry.node)
            }
        }
    }

    /// Puts one entry at a path whose parents are real directories or missing.
    pub(super) fn put(&mut self, path: TreePath, mut node: Node) -> Result<(), StepError> {
        if let Some(parent) = path.parent() {
            self.make_dirs(&parent)?;
        }
        self.check_replace(&path, &node.kind)?;
        if node.kind.is_dir() && self.kind_at(&path)?.is_none() {
            self.made.insert(path.clone());
        }
        if self.rules.to_root {
            (node.meta.uid, node.meta.gid) = (0, 0);
        }
        self.rules.apply(&mut node);
        self.changes.entries.insert(path, Change::Node(node));
        Ok(())
    }

    /// Puts an entry of an archive: it replaces whatever has its name, only directories merge.
    /// Directories that the archive only implies are root's.
    pub(super) fn put_over(&mut self, path: TreePath, mut node: Node) -> Result<(), StepError> {
        if let Some(parent) = path.parent() {
            self.imply_dirs(&parent)?;
        }
        self.rules.own(&mut node);
        if !node.kind.is_dir() {
            self.forget_below(&path);
        }
        self.changes.entries.insert(path, Change::Node(node));
        Ok(())
    }

    /// Gives a placed file of an archive a second name.
    pub(super) fn link(&mut self, path: TreePath, first: &TreePath) -> Result<(), StepError> {
        if let Some(parent) = path.parent() {
            self.imply_dirs(&parent)?;
        }
        self.forget_below(&path);
        let first = match self.changes.entries.get(first) {
            Some(Change::HardLink(first)) => first.clone(),
            _ => first.clone(),
        };
        self.changes.entries.insert(path, Change::HardLink(first));
        Ok(())
    }

    /// Drops what was placed below a path that is about to become something else than a directory.
    fn forget_below(&mut self, path: &TreePath) {
        let below: Vec<TreePath> = self
            .changes
            .entries
            .range(path.clone()..)
            .skip_while(|(at, _)| *at == path)
            .take_while(|(at, _)| at.starts_with(path))
            .map(|(at, _)| at.clone())
            .collect();
        for at in below {
            self.changes.entries.remove(&at);
        }
    }

    /// A directory only goes where a directory or nothing is, and nothing else replaces one.
    fn check_replace(&self, path: &TreePath, new: &Kind) -> Result<(), StepError> {
        match (new.is_dir(), self.kind_at(path)?) {
            (true, Some(old)) if !old.is_dir() => {
                Err(StepError::NotADirectory { path: path.clone() })
            }
            (false, Some(Kind::Dir)) => Err(StepError::IsADirectory { path: path.clone() }),
            _ => Ok(()),
        }
    }

    /// Makes the directory and its parents where they are missing, and repeats those that exist.
    pub(super) fn make_dirs(&mut self, dir: &TreePath) -> Result<(), StepError> {
        self.make_dirs_by(dir, Rules::created_dir)
    }

    /// As [`Placer::make_dirs`], but `--chown` and `--chmod` do not reach what is made.
    fn imply_dirs(&mut self, dir: &TreePath) -> Result<(), StepError> {
        self.make_dirs_by(dir, |rules| {
            let created = rules.created;
            let plain = Rules {
                created,
                ..Rules::default()
            };
            plain.created_dir()
        })
    }

    fn make_dirs_by(
        &mut self,
        dir: &TreePath,
        created: impl Fn(&Rules) -> Node,
    ) -> Result<(), StepError> {
        if self.changes.entries.contains_key(dir) {
            return Ok(()); // And so are its parents.
        }
        let mut path = TreePath::ROOT;
        for part in dir.parts() {
            path = path.child(part);
            if self.changes.entries.contains_key(&path) {
                continue;
            }
            let node = match self.node_below(&path)? {
                Some(node) if node.kind.is_dir() => node,
                Some(_) => return Err(StepError::NotADirectory { path }),
                None => {
                    self.made.insert(path.clone());
                    created(&self.rules)
                }
            };
            self.changes
                .entries
                .insert(path.clone(), Change::Node(node));
        }
        Ok(())
    }

    /// What stands at a real path, with this instruction's own changes on top.
    fn kind_at(&self, path: &TreePath) -> Result<Option<Kind>, StepError> {
        match self.changes.entries.get(path) {
            Some(Change::Node(node) | Change::Opaque(node)) => Ok(Some(node.kind.clone())),
            Some(Change::HardLink(_)) => Ok(Some(Kind::File { size: 0 })),
            Some(Change::Whiteout) => Ok(None),
            None => Ok(self.node_below(path)?.map(|node| node.kind)),
        }
    }

    /// What the layers below have at a real path.
    fn node_below(&self, path: &TreePath) -> Result<Option<Node>, StepError> {
        let hidden = path.parent().is_some_and(|dir| self.made.contains(&dir));
        match hidden {
            true => Ok(None),
            false => Ok(self.below.node(path)?),
        }
    }

    /// Follows links inside the image, those this instruction placed included, and tells what stands
    /// at the end. Parts that do not exist stay as they are.
    pub(super) fn resolve(&self, path: &TreePath) -> Result<(TreePath, Option<Kind>), StepError> {
        let mut todo: Vec<Vec<u8>> = path.parts().rev().map(<[u8]>::to_vec).collect();
        let mut real = TreePath::ROOT;
        let mut kind = Some(Kind::Dir);
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == b".." {
                real = real.parent().unwrap_or_default();
                kind = self.kind_at(&real)?;
                continue;
            }
            let next = real.child(&part);
            let found = match &kind {
                Some(kind) if !kind.is_dir() => {
                    return Err(StepError::NotADirectory { path: real });
                }
                Some(_) => self.kind_at(&next)?,
                None => None,
            };
            let Some(target) = found.as_ref().and_then(Kind::symlink_target) else {
                (real, kind) = (next, found);
                continue;
            };
            links += 1;
            if links > 40 {
                return Err(StepError::LinkLoop { path: path.clone() });
            }
            if target.starts_with(b"/") {
                real = TreePath::ROOT;
            }
            let parts = target.split(|&b| b == b'/').rev();
            todo.extend(
                parts
                    .filter(|p| !matches!(*p, b"" | b"."))
                    .map(<[u8]>::to_vec),
            );
        }
        Ok((real, kind))
    }
}

/// Reads a destination: trailing `/`, `.` and `/.` mean a directory; relative ones start at
/// `workdir`. `None` when it holds a NUL byte.
pub(super) fn destination(text: &str, workdir: &TreePath) -> Option<Destination> {
    let is_dir = text.is_empty()
        || text.ends_with('/')
        || text == "."
        || text.ends_with("/.")
        || text == ".."
        || text.ends_with("/..");
    let raw = if text.starts_with('/') {
        text.as_bytes().to_vec()
    } else {
        [workdir.as_bytes(), b"/", text.as_bytes()].concat()
    };
    Some(Destination {
        path: TreePath::clean(&raw)?,
        is_dir,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Marks, Stack};

    fn file(mode: u32) -> Node {
        let meta = Meta {
            mode,
            uid: 1000,
            gid: 1000,
            ..Meta::default()
        };
        Node::file(meta, b"x".to_vec())
    }

    fn path(text: &str) -> TreePath {
        TreePath::clean(text.as_bytes()).unwrap()
    }

    fn listing(changes: &Changes) -> Vec<String> {
        let line = |(path, change): (&TreePath, &Change)| match change.node() {
            Some(node) => {
                let Meta { mode, uid, gid, .. } = node.meta;
                format!("{path} {mode:o} {uid}:{gid}")
            }
            None => format!("{path} {change:?}"),
        };
        changes.entries.iter().map(line).collect()
    }

    fn to(text: &str) -> Destination {
        destination(text, &path("/w")).unwrap()
    }

    #[test]
    fn destinations_tell_names_from_directories() {
        for (text, want, is_dir) in [
            ("/a", "/a", false),
            ("/a/", "/a", true),
            ("b", "/w/b", false),
            (".", "/w", true),
            ("./", "/w", true),
            ("../x", "/x", false),
            ("", "/w", true),
        ] {
            let got = to(text);
            assert_eq!(
                (got.path.to_string().as_str(), got.is_dir),
                (want, is_dir),
                "{text}"
            );
        }
    }

    #[test]
    fn context_files_become_roots_and_parents_are_made() {
        let below = Stack::new(Vec::new(), Marks::Trusted);
        let rules = Rules {
            to_root: true,
            ..Rules::default()
        };
        let mut placer = Placer::new(&below, rules);
        placer
            .place(Pick::file(b"f", file(0o640)), &to("/d/sub/"))
            .unwrap();
        let changes = placer.finish().unwrap();
        assert_eq!(
            listing(&changes),
            ["/d 755 0:0", "/d/sub 755 0:0", "/d/sub/f 640 0:0"]
        );
    }

    #[test]
    fn chown_and_chmod_reach_parents_that_are_made() {
        let below = Stack::new(Vec::new(), Marks::Trusted);
        let rules = Rules {
            owner: Some((3, 4)),
            chmod: Chmod::parse("700"),
            ..Rules::default()
        };
        let mut placer = Placer::new(&below, rules);
        placer
            .place(Pick::file(b"f", file(0o640)), &to("/d/f"))
            .unwrap();
        assert_eq!(
            listing(&placer.finish().unwrap()),
            ["/d 700 3:4", "/d/f 700 3:4"]
        );
    }

    #[test]
    fn a_link_placed_by_the_same_instruction_is_followed() {
        let below = Stack::new(Vec::new(), Marks::Trusted);
        let mut placer = Placer::new(&below, Rules::default());
        let target = b"/real".to_vec();
        let link = Node {
            meta: Meta::default(),
            kind: Kind::Symlink { target },
            content: None,
        };
        placer.put(path("/link"), link).unwrap();
        placer
            .place(Pick::file(b"f", file(0o600)), &to("/link/f"))
            .unwrap();
        let listed = listing(&placer.finish().unwrap());
        assert!(
            listed.contains(&"/real/f 600 1000:1000".to_owned()),
            "{listed:?}"
        );
    }

    #[test]
    fn directories_that_an_archive_implies_are_roots() {
        let below = Stack::new(Vec::new(), Marks::Trusted);
        let rules = Rules {
            owner: Some((3, 4)),
            chmod: Chmod::parse("700"),
            ..Rules::default()
        };
        let mut placer = Placer::new(&below, rules);
        placer.put_over(path("/d/f"), file(0o640)).unwrap();
        placer.link(path("/e/f"), &path("/d/f")).unwrap();
        assert_eq!(
            listing(&placer.finish().unwrap())[..3],
            ["/d 755 0:0", "/d/f 640 3:4", "/e 755 0:0"]
        );
    }

    #[test]
    fn an_archive_entry_replaces_what_has_its_name() {
        let below = Stack::new(Vec::new(), Marks::Trusted);
        let mut placer = Placer::new(&below, Rules::default());
        placer.put_over(path("/d/x"), file(0o600)).unwrap();
        placer.put_over(path("/d"), file(0o644)).unwrap();
        assert_eq!(listing(&placer.finish().unwrap()), ["/d 644 1000:1000"]);
    }
}
