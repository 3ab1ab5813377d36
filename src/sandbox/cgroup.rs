//! Limits of a whole step or container, kept by the kernel's control groups.
//!
//! ```text
//! a group with the controllers we need, that we may write to
//!   ├─ cooper.self          our own processes, moved there if the kernel asks for it
//!   └─ cooper-<pid>-<n>     one for each sandbox with limits; removed when it has ended
//!       └─ frozen           who is halted, once the sandbox was
//! ```
//!
//! With cgroup v2, root makes its groups in `cooper`, right below the hierarchy's root. Anybody
//! else needs a group that was delegated: a scope from the service manager of the user's session,
//! else the one we are in, or one above it. With the hierarchies of v1, which nobody delegates,
//! root makes its groups in those that we are in, one a controller.
//!
//! The child enters its group itself, before its first fork and before it makes its cgroup
//! namespace, so that nothing escapes and the group looks like the root from inside. Who runs
//! already when limits are set is moved.
//!
//! A limit that can't be kept is an error that says why, unless [`Limits::best_effort`].

mod group;
mod limits;
mod place;
mod scope;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(super) use group::{Freezer, Group, Lister};
pub use limits::{Limits, Swap};
pub use scope::ScopeError;

/// Where systemd and everybody else mounts the unified hierarchy, or the old ones below it.
const HIERARCHY: &str = "/sys/fs/cgroup";

/// Why limits can't be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// There is no hierarchy with the controller, of either kind.
    #[error(
        "cannot limit {what}: {HIERARCHY} has neither cgroup v2 nor the controller `{controller}` of v1"
    )]
    NoHierarchy {
        /// What was to be limited.
        what: String,
        /// The controller.
        controller: &'static str,
    },
    /// The hierarchies are of the old kind, and we are not root.
    #[error(
        "cannot limit {what}: the control groups of this machine are of cgroup v1, which only root can use"
    )]
    OldIsRoots {
        /// What was to be limited.
        what: String,
    },
    /// What runs already can't be moved to where it would be limited.
    #[error("cannot move the processes of the container into a control group")]
    NotMoved {
        /// The kernel's answer.
        source: io::Error,
    },
    /// More memory is in use than is to be allowed.
    #[error("cannot limit memory to {wanted} bytes: {used} are in use")]
    InUse {
        /// The limit.
        wanted: String,
        /// What is used.
        used: u64,
    },
    /// The kernel or whoever manages the hierarchy keeps a controller to itself.
    #[error("cannot limit {what}: the controller `{controller}` is not available in {}", group.display())]
    NoController {
        /// What was to be limited.
        what: String,
        /// The controller.
        controller: &'static str,
        /// The group that lacks it.
        group: PathBuf,
    },
    /// No group can be written to.
    #[error("cannot limit {what}: no control group is delegated to this user")]
    NotDelegated {
        /// What was to be limited.
        what: String,
    },
    /// Nor does the service manager of the user's session give one.
    #[error("cannot limit {what}: the user's service manager gives no control group")]
    NoScope {
        /// What was to be limited.
        what: String,
        /// Why not.
        source: ScopeError,
    },
    /// The kernel refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What can be done about a limit that can't be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remedy {
    /// A session of the service manager gives a group.
    Session,
    /// The service manager can be told to give more.
    Delegation,
    /// The kernel can be told to have cgroup v2.
    Unified,
    /// Memory can be freed.
    Memory,
    /// Who starts with a limit need not be moved.
    Restart,
    /// Nothing but to do without the limit.
    None,
}

impl LimitError {
    /// Returns what can be done about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::NotDelegated { .. } | Self::NoScope { .. } => Remedy::Session,
            Self::NoController { group, .. }
                if group.extension().is_some_and(|kind| kind == "scope") =>
            {
                Remedy::Delegation
            }
            Self::NoHierarchy { .. } | Self::OldIsRoots { .. } => Remedy::Unified,
            Self::InUse { .. } => Remedy::Memory,
            Self::NotMoved { .. } => Remedy::Restart,
            Self::NoController { .. } | Self::Io { .. } => Remedy::None,
        }
    }
}

/// Whether memory, processors and processes could be limited here, with the help of the service
/// manager on `session_bus` if there is one.
pub(super) fn probe(session_bus: Option<&Path>) -> Result<(), LimitError> {
    place::find(&["memory", "cpu", "pids"], session_bus).map(drop)
}

fn make(dir: &Path) -> Result<(), LimitError> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done.map_err(|source| LimitError::Io {
            doing: "make the control group",
            path: dir.to_owned(),
            source,
        }),
    }
}

fn write(path: &Path, content: &str) -> Result<(), LimitError> {
    // One write(2) each: the kernel reads them so.
    let written = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, content.as_bytes()));
    written.map_err(|source| LimitError::Io {
        doing: "write to",
        path: path.to_owned(),
        source,
    })
}

/// What the controllers limit, in words.
fn words(controllers: &[&str]) -> String {
    let word = |name: &&str| match *name {
        "cpu" => "processor time",
        "cpuset" => "the processors and memory nodes",
        "pids" => "the number of processes",
        "io" => "the use of disks",
        _ => "memory",
    };
    let words: Vec<&str> = controllers.iter().map(word).collect();
    words.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_limited_is_named() {
        let error = LimitError::NoHierarchy {
            what: words(&["memory", "pids"]),
            controller: "pids",
        };
        assert_eq!(
            error.to_string(),
            "cannot limit memory and the number of processes: /sys/fs/cgroup has neither cgroup v2 \
             nor the controller `pids` of v1"
        );
    }
}
