//! What this machine lets us do, tried gate by gate, for `doctor`.
//!
//! Each gate is tried for real, in a process of its own that then ends, so that one refusal
//! hides no other and nothing is left behind (root's `cooper` control group excepted). Needs a
//! process with one thread. A new gate is a variant of [`GateKind`] and a line in [`gates`].
//!
//! The limits: overlay is tried on a tmpfs where the directory of the store is not there yet.

mod kernel;

use std::io;
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

use crate::sys;
use crate::sys::process::{Fork, exit_now, fork};

use super::cgroup::{self, LimitError};
use super::error::reason;
use super::userns::{HostInfo, Refusal, Rung};

/// What can be open or shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GateKind {
    /// Making a user namespace.
    UserNamespaces,
    /// Having all ids that images need.
    IdMaps,
    /// Mounting overlayfs.
    Overlay,
    /// Mounting a `/proc` of one's own.
    Proc,
    /// Changing the root of a mount namespace.
    PivotRoot,
    /// Filtering system calls.
    Seccomp,
    /// Answering system calls from another process.
    SeccompNotify,
    /// Opening `/dev/net/tun`.
    Tun,
    /// Limiting memory, processors and processes.
    ControlGroups,
    /// Having enough open files.
    OpenFiles,
}

/// Why a gate is shut.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Shut {
    /// The kernel said so.
    #[error("{}", reason(.0))]
    Kernel(io::Error),
    /// No way to all ids.
    #[error("{0}")]
    Ids(Refusal),
    /// AppArmor forbids it to ordinary users.
    #[error("AppArmor forbids user namespaces to programs without a profile")]
    AppArmor,
    /// A setting of Debian's kernels forbids it to ordinary users.
    #[error(
        "the kernel forbids user namespaces to ordinary users (kernel.unprivileged_userns_clone is 0)"
    )]
    DebianSwitch,
    /// They are all taken, or none is allowed.
    #[error("no more user namespaces may exist (user.max_user_namespaces is {0})")]
    NoneLeft(u64),
    /// No control group.
    #[error("{0}")]
    Limits(LimitError),
    /// Too few open files.
    #[error("only {0} files may be open")]
    Files(u64),
}

/// A gate, and why it is shut if it is.
#[derive(Debug)]
pub struct Gate {
    /// Which.
    pub kind: GateKind,
    /// Whether it is open.
    pub outcome: Result<(), Shut>,
}

/// Files that a build of many layers has open at the same time.
const FILES: u64 = 1024;

/// Tries all gates, in the order in which a sandbox meets them; overlay in the directory `place`,
/// which must be writable, or on a tmpfs where it is not there; control groups with the help of
/// the service manager on `session_bus`.
pub fn gates(host: &HostInfo, place: &Path, session_bus: Option<&Path>) -> Vec<Gate> {
    let kernel = |result: io::Result<()>| result.map_err(Shut::Kernel);
    let gate = |kind, outcome| Gate { kind, outcome };
    let ids = match host.rung() {
        Ok(Rung::Root | Rung::SubIds | Rung::Outer) => Ok(()),
        _ if host.uid == 0 => Err(Shut::Ids(Refusal::PowerlessRoot)),
        _ => host.sub_ids().map(drop).map_err(Shut::Ids),
    };
    vec![
        gate(GateKind::UserNamespaces, user_namespaces(host)),
        gate(GateKind::IdMaps, ids),
        gate(GateKind::Overlay, kernel(overlay(host, place))),
        gate(GateKind::Proc, kernel(inside(host, kernel::proc))),
        gate(
            GateKind::PivotRoot,
            kernel(inside(host, kernel::pivot_root)),
        ),
        gate(GateKind::Seccomp, kernel(in_child(kernel::seccomp))),
        gate(GateKind::SeccompNotify, kernel(sys::seccomp::has_notify())),
        gate(GateKind::Tun, kernel(kernel::tun())),
        gate(
            GateKind::ControlGroups,
            cgroup::probe(session_bus).map_err(Shut::Limits),
        ),
        gate(GateKind::OpenFiles, open_files()),
    ]
}

/// Tries to make a user namespace, and finds out who forbids it.
fn user_namespaces(host: &HostInfo) -> Result<(), Shut> {
    let refused = match in_child(kernel::user_namespace) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let is = |file: &str, value: &str| {
        std::fs::read_to_string(file).is_ok_and(|text| text.trim() == value)
    };
    let max = host.max_user_namespaces.unwrap_or(0);
    Err(match refused.raw_os_error() {
        Some(libc::ENOSPC | libc::EUSERS) => Shut::NoneLeft(max),
        _ if is("/proc/sys/kernel/unprivileged_userns_clone", "0") => Shut::DebianSwitch,
        _ if is(
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
        ) =>
        {
            Shut::AppArmor
        }
        _ => Shut::Kernel(refused),
    })
}

/// Tries an overlay as the sandbox of a step would mount it.
fn overlay(host: &HostInfo, place: &Path) -> io::Result<()> {
    let userxattr = host.rung() != Ok(Rung::Root) || host.userxattr();
    inside(host, || match kernel::directory(place)? {
        Some(place) => kernel::overlay(&place, userxattr),
        None => kernel::overlay(&kernel::tmpfs()?, userxattr),
    })
}

/// Whether an overlay can be mounted whose upper directory lies in `place`. Needs the power to
/// mount.
pub fn overlay_in(place: &Path, userxattr: bool) -> io::Result<()> {
    let place = rustix::fs::open(place, kernel::DIRECTORY, Mode::empty())?;
    Ok(kernel::overlay(&place, userxattr)?)
}

fn open_files() -> Result<(), Shut> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    match limit.maximum {
        Some(files) if files < FILES => Err(Shut::Files(files)),
        _ => Ok(()),
    }
}

/// Tries `what` in a process of its own.
fn in_child(what: impl FnOnce() -> Result<(), Errno>) -> io::Result<()> {
    match fork()? {
        Fork::Child => exit_now(what().map_or_else(Errno::raw_os_error, |()| 0)),
        Fork::Parent(pid) => {
            let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
            let wait = || rustix::process::waitpid(Some(pid), WaitOptions::empty());
            let status = rustix::io::retry_on_intr(wait)?;
            match status.and_then(|(_, status)| status.exit_status()) {
                Some(0) => Ok(()),
                Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                None => Err(Errno::INTR.into()),
            }
        }
    }
}

/// Tries `what` as pid 1 of new namespaces, with the power to mount.
fn inside(host: &HostInfo, what: impl FnOnce() -> Result<(), Errno>) -> io::Result<()> {
    in_child(|| {
        kernel::enter(host)?;
        let done = in_child(what);
        done.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    })
}
