//! What a RUN stands on: the layers under an overlay, or a copy of them; and the layer that comes
//! of it.
//!
//! An overlay costs nothing and its upper directory is the layer. Where the kernel or the file
//! system of the store has none, everything below is copied (blocks are shared where the file
//! system can), and what the program changed is found by looking before and after. Both give the
//! same layer. The choice is made once a build, before its first RUN, and told if it is the copy.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use crate::event::{Event, Sink};
use crate::layer::{Snapshot, Stack, TreePath, diff, flatten, give_new};
use crate::sandbox::{self, Overlay, Rootfs, UserSpec};
use crate::store::{Scratch, Store};

use super::super::cache::Made;
use super::super::commit::Layer;
use super::super::error::StepError;
use super::super::request::{Request, Snapshotter, Walls};
use super::super::stage::{Runner, World};
use super::cover::{self, Cover};
use super::owner;
use super::run::{lowers, take_over_root};

/// The root file system of one RUN, before it and after it.
pub(super) struct Ground {
    scratch: Scratch,
    /// The file system so far.
    below: Stack,
    /// Where the program writes.
    written: Arc<OwnedFd>,
    form: Form,
}

enum Form {
    /// Trees below, the top one first.
    Overlay(Vec<PathBuf>),
    /// How the copy looked before, and what in it hides other things.
    Copy {
        before: Snapshot,
        covered: BTreeSet<TreePath>,
    },
}

/// The directory that is written to: an upper directory, or the copy.
const WRITTEN: &str = "upper";

impl Ground {
    /// Lays it over `layers`. Covers are for a copy only.
    pub(super) fn lay(
        world: &World<'_>,
        layers: &[Layer],
        mut covers: Vec<Cover>,
    ) -> Result<Self, StepError> {
        let snapshotter = snapshotter(world)?;
        let (lowers, below) = lowers(world, layers)?;
        let scratch = world.store.scratch()?;
        let written = Arc::new(scratch.dir(WRITTEN)?);
        let form = match snapshotter {
            Snapshotter::Overlay => {
                scratch.dir("work")?;
                Form::Overlay(lowers)
            }
            Snapshotter::Copy => {
                let mut all = flatten(&below)?;
                let mut covered = BTreeSet::new();
                if matches!(world.request.walls, Walls::Chroot(_)) {
                    covers.extend(Cover::system(scratch.fd()));
                    covered = cover::put(&covers, &mut all, &below)?;
                }
                world.store.write_tree(&all, written.as_fd(), &below)?;
                let before = Snapshot::take(&written, world.store.marks())?;
                Form::Copy { before, covered }
            }
        };
        take_over_root(&written, &below)?;
        Ok(Self {
            scratch,
            below,
            written,
            form,
        })
    }

    /// What the sandbox makes its root of.
    pub(super) fn rootfs(&self, world: &World<'_>) -> Rootfs {
        let path = self.scratch.path();
        match &self.form {
            Form::Overlay(lowers) => Rootfs::Overlay(Overlay {
                lowers: lowers.clone(),
                upper: path.join(WRITTEN),
                work: path.join("work"),
                userxattr: world.store.user_xattr(),
                volatile: true,
                old_mount_api: false,
            }),
            Form::Copy { .. } => Rootfs::Directory {
                path: path.join(WRITTEN),
            },
        }
    }

    /// Makes the layer of what changed over `layers`, now that nothing runs any more.
    /// The program ran as `user`.
    pub(super) fn keep(
        self,
        runner: &Runner<'_>,
        layers: &[Layer],
        user: &str,
    ) -> Result<Made, StepError> {
        let store = runner.world.store;
        let mut changes = match &self.form {
            Form::Overlay(_) => diff(&self.written, Some(&self.below), store.marks())?,
            Form::Copy { before, covered } => before.changes(&self.below, covered)?,
        };
        if store.remembers_owners() {
            let owner = owner::runs_as(&self.below, &UserSpec(user.to_owned()))?;
            if owner.0 != 0 {
                give_new(self.written.as_fd(), &mut changes, &self.below, owner)?;
            }
        }
        match &self.form {
            Form::Overlay(_) => runner.keep_upper(&self.scratch, WRITTEN, changes),
            Form::Copy { .. } => runner.keep(&changes, layers),
        }
    }
}

/// What this build takes its snapshots with.
pub(super) fn snapshotter(world: &World<'_>) -> Result<Snapshotter, StepError> {
    if let Some(known) = world.snapshotter.get() {
        return Ok(*known);
    }
    let (choice, why) = choose(world.store, world.request)?;
    // Of stages that come here at the same time one tells.
    if world.snapshotter.set(choice).is_ok() {
        tell(why.as_deref(), world.sink);
    }
    Ok(choice)
}

/// Decides what snapshots are taken with in a store: an overlay, or a copy and why it is one.
pub(in crate::build) fn choose(
    store: &Store,
    request: &Request,
) -> Result<(Snapshotter, Option<String>), StepError> {
    let why = match request.snapshotter {
        _ if matches!(request.walls, Walls::Chroot(_)) => "nothing can be mounted".to_owned(),
        Some(Snapshotter::Overlay) => return Ok((Snapshotter::Overlay, None)),
        Some(Snapshotter::Copy) => "it was asked for".to_owned(),
        None => {
            let scratch = store.scratch()?;
            match sandbox::probe::overlay_in(scratch.path(), store.user_xattr()) {
                Ok(()) => return Ok((Snapshotter::Overlay, None)),
                Err(error) => {
                    let reason = sandbox::reason(&error);
                    format!("an overlay can't be mounted in the store ({reason})")
                }
            }
        }
    };
    Ok((Snapshotter::Copy, Some(why)))
}

/// Tells why it is a copy, if it is.
pub(in crate::build) fn tell(why: Option<&str>, sink: &dyn Sink) {
    if let Some(why) = why {
        sink.emit(Event::Chosen {
            what: "snapshotter",
            text: &format!("copy, because {why}"),
        });
    }
}
