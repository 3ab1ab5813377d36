//! The kernel's side of a RUN step or a container: a [`Plan`] in, an [`Exit`] out.
//!
//! ```text
//! Plan ─ spawn ─ sealed memfd ─→ our own binary again, as pid 1 of new namespaces (child)
//!                                  mounts, masks, pivots, becomes the user, drops capabilities
//!      ← report: ready | typed failure, terminal ─┤
//!                                                  ├─ init: forwards signals, reaps, exits last
//!      ← wait: Exit of the program ───────────────┘     └─ execve of the program
//! ```
//!
//! The promise: the program sees its root, its environment and descriptors 0 to 2, nothing
//! else of the caller; its whole process tree ends with it, with the [`Child`] handle and with
//! the calling process, whatever thread called; its mounts exist in its own namespace only.
//!
//! The limits: needs CAP_SYS_ADMIN in the current user namespace (root, or after
//! [`userns::enter`]) and Linux 5.12. Root without that power can have a changed root and no more
//! ([`Walls::Chroot`]): its program sees the processes and the network of the caller. This room knows no images: it gets directories and
//! strings.

mod caps;
mod cgroup;
pub mod child;
mod error;
mod exe;
mod ids;
mod isolation;
pub mod network;
mod parent;
mod plan;
pub mod probe;
mod remember;
mod report;
mod seccomp;
mod signals;
mod sockets;
mod spawner;
mod stdio;
mod stubs;
pub mod tty;
pub mod user;
pub mod userns;
mod wire;

pub use caps::Caps;
pub use cgroup::{LimitError, Limits, Remedy, ScopeError, Swap};
pub use error::{Error, PlanError, Stage, reason};
pub use exe::{adopt_executable, give_back_executable, set_executable};
pub use ids::IdSwap;
pub use isolation::{Device, Isolation};
pub use parent::{Child, Exit, Stopper, attach_mount, join, mount_overlay, spawn};
pub use plan::{
    Access, Content, Mount, MountKind, Network, Overlay, Plan, Processes, Propagation, Resource,
    Rlimit, Rootfs, Source, Walls, WindowSize, WorkDir,
};
pub use report::Note;
pub use seccomp::{Profile, ProfileError, Seccomp};
pub use signals::Signals;
pub use spawner::{go_on_alone, inherited, respawn};
pub use stdio::{Input, Output, Stdio};
pub use user::{Groups, UserError, UserSpec};
