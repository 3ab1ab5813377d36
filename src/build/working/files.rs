//! The files of a working container: those of its image, and what was written on top.
//!
//! They are written in one of two forms. The first verb that writes chooses, and the choice stays:
//!
//! - an upper directory over the trees of the image's layers, which is the layer to be;
//! - where no overlay can be mounted, a copy of all files. What it looked like at first is kept
//!   beside it, and the layer is what looks different. The root of the copy is marked opaque, so
//!   as the top of a stack it hides the trees it was made of.
//!
//! A form is there as a whole or not at all: it is made under another name. A copy is synced
//! before it counts, since what a power cut took from it would be taken for the image's.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::event::Sink;
use crate::layer::{Change, Changes, Node, Snapshot, Stack, TreePath, diff, flatten};

use super::super::error::{Error, StepError};
use super::super::request::{Request, Snapshotter};
use super::super::steps::ground;
use super::super::steps::run::{root_meta, take_over_root};
use super::container::{Container, io_error, open_dir};

impl Container {
    pub(super) fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    pub(super) fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    pub(super) fn copy(&self) -> PathBuf {
        self.dir.join("copy")
    }

    /// How the copy looked when it was made.
    fn before(&self) -> PathBuf {
        self.dir.join("before")
    }

    /// The files of its image.
    pub(super) fn below(&self, sink: &dyn Sink) -> Result<Stack, Error> {
        let trees = self.store.trees(&self.config.layers, sink)?;
        let fds = trees.iter().map(|tree| tree.fd()).collect();
        Ok(Stack::new(fds, self.store.marks()))
    }

    /// The form in which it was written, if anything was.
    fn form(&self) -> Option<(Snapshotter, PathBuf)> {
        let forms = [
            (Snapshotter::Overlay, self.upper()),
            (Snapshotter::Copy, self.copy()),
        ];
        forms.into_iter().find(|(_, path)| path.exists())
    }

    /// What lies on the trees of its image, if anything was written.
    pub(super) fn top(&self) -> Result<Option<Arc<OwnedFd>>, Error> {
        let Some((_, path)) = self.form() else {
            return Ok(None);
        };
        let fd = open_dir(&path).map_err(io_error("open", &path))?;
        Ok(Some(Arc::new(fd)))
    }

    /// What was written in it.
    pub(super) fn written(&self, sink: &dyn Sink) -> Result<Changes, Error> {
        let (Some((form, _)), Some(top)) = (self.form(), self.top()?) else {
            return Ok(Changes::default());
        };
        let below = self.below(sink)?;
        let changes = match form {
            Snapshotter::Overlay => diff(&top, Some(&below), self.store.marks()),
            Snapshotter::Copy => {
                let path = self.before();
                let file = File::open(&path).map_err(io_error("open", &path))?;
                let marks = self.store.marks();
                let before = Snapshot::read(&top, marks, &mut BufReader::new(file));
                let before = before.map_err(io_error("read", &path))?;
                before.changes(&below, &BTreeSet::new())
            }
        };
        changes.map_err(|error| self.failed("look at what was written in")(error.into()))
    }

    /// Makes what writes go to, if it is not there, and says which form it has. The caller holds
    /// the lock.
    pub(super) fn prepare(
        &self,
        below: &Stack,
        request: &Request,
        sink: &dyn Sink,
    ) -> Result<Snapshotter, Error> {
        if let Some((form, _)) = self.form() {
            return Ok(form);
        }
        let failed = self.failed("make room in");
        let (form, why) = ground::choose(&self.store, request).map_err(&failed)?;
        match form {
            Snapshotter::Overlay => self.make_upper(below)?,
            Snapshotter::Copy => self.make_copy(below)?,
        }
        ground::tell(why.as_deref(), sink);
        Ok(form)
    }

    fn make_upper(&self, below: &Stack) -> Result<(), Error> {
        let part = self.dir.join("upper.part");
        make_dir(&self.work())?;
        make_dir(&part)?;
        let fd = open_dir(&part).map_err(io_error("open", &part))?;
        take_over_root(&fd, below).map_err(self.failed("make room in"))?;
        fs::rename(&part, self.upper()).map_err(io_error("create", &self.upper()))
    }

    fn make_copy(&self, below: &Stack) -> Result<(), Error> {
        let part = self.dir.join("copy.part");
        if part.exists() {
            // A verb was killed here.
            fs::remove_dir_all(&part).map_err(io_error("remove", &part))?;
        }
        make_dir(&part)?;
        let root = Arc::new(open_dir(&part).map_err(io_error("open", &part))?);
        let failed = self.failed("copy the files of");
        let unread = |error| failed(StepError::Layer(error));
        let mut all = flatten(below).map_err(unread)?;
        let top = Change::Opaque(Node::dir(root_meta(below).map_err(&failed)?));
        all.entries.insert(TreePath::ROOT, top);
        let written = self.store.write_tree(&all, root.as_fd(), below);
        written.map_err(unread)?;
        let before = Snapshot::take(&root, self.store.marks()).map_err(unread)?;
        let path = self.before();
        let write = || {
            let mut file = BufWriter::new(File::create(&path)?);
            before.write(&mut file)?;
            file.flush()?;
            Ok(rustix::fs::syncfs(&*root)?)
        };
        write().map_err(io_error("write", &path))?;
        fs::rename(&part, self.copy()).map_err(io_error("create", &self.copy()))
    }
}

fn make_dir(path: &Path) -> Result<(), Error> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(io_error("create", path)(error))
        }
        _ => Ok(()),
    }
}
