//! Being "root" without being root: which rung this process stands on, and the step up.
//!
//! [`HostInfo::detect`] gathers facts, [`HostInfo::rung`] decides (pure), [`enter`] acts, once
//! and before any thread exists. Afterwards the process is uid 0 of its own user namespace and
//! everything else in this room works as for root, but for [`Rung::Chroot`], where nothing
//! changed: programs are run in a changed root by who can change it, and what needs no privilege
//! works for everybody. Ranges come from `/etc/subuid` and
//! `/etc/subgid` and, where a name service has them, from `getsubids`.
//! Supplementary groups are kept, for they may be what lets the caller read its own build
//! context; every sandbox drops them for its program.

mod enter;
mod rung;
mod subid;

pub use enter::{EnterError, Footing, enter};
pub use rung::{Refusal, Rung};
pub use subid::{Range, ranges};

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};
use rustix::thread::CapabilitySet;

use super::user;

/// Where newuidmap and newgidmap may be. The caller's `PATH` is not asked: these two get
/// privileges.
const HELPER_DIRS: &[&str] = &["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"];

/// The first user namespace; its number is fixed (`PROC_USER_INIT_INO` in the kernel). An id
/// map says nothing: a nested namespace may map everything onto itself, too.
const INITIAL: &str = "user:[4026531837]";

/// What matters about this process and its machine, as plain facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInfo {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// The name `/etc/passwd` gives `uid`.
    pub name: Option<String>,
    /// Effective capabilities, bit N being capability N.
    pub caps: u64,
    /// Whether this is the user namespace that the machine started with.
    pub initial_namespace: bool,
    /// The current id map, as `/proc/self/uid_map` and `gid_map` have it: inside, outside,
    /// count.
    pub uid_map: Vec<[u32; 3]>,
    /// The same for groups.
    pub gid_map: Vec<[u32; 3]>,
    /// The user's ranges in `/etc/subuid`.
    pub subuids: Vec<Range>,
    /// The user's ranges in `/etc/subgid`.
    pub subgids: Vec<Range>,
    /// newuidmap(1), if installed.
    pub newuidmap: Option<PathBuf>,
    /// newgidmap(1), if installed.
    pub newgidmap: Option<PathBuf>,
    /// `user.max_user_namespaces`; `None` if the kernel has no user namespaces.
    pub max_user_namespaces: Option<u64>,
    /// Whether `no_new_privs` is set, which makes the helpers powerless.
    pub no_new_privs: bool,
}

impl HostInfo {
    /// Looks at the current process and the machine. Missing files count as empty; the error
    /// is about `/proc`.
    pub fn detect() -> io::Result<Self> {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let name = user::passwd(&read("/etc/passwd"))
            .find(|e| e.uid == uid)
            .map(|e| e.name);
        let owned = |file: &str, flags: &[&str]| {
            let mut found = ranges(&read(file), name.as_deref(), uid);
            // Only a name service can know more, and asking it costs a process.
            if found.is_empty() && uid != 0 {
                found = subid::ask(&helper("getsubids"), flags, name.as_deref());
            }
            found
        };
        let max = fs::read_to_string("/proc/sys/user/max_user_namespaces").ok();
        Ok(Self {
            uid,
            gid,
            caps: rustix::thread::capabilities(None)?.effective.bits(),
            initial_namespace: fs::read_link("/proc/self/ns/user")?.as_os_str() == INITIAL,
            uid_map: subid::id_map(&fs::read_to_string("/proc/self/uid_map")?),
            gid_map: subid::id_map(&fs::read_to_string("/proc/self/gid_map")?),
            subuids: owned("/etc/subuid", &[]),
            subgids: owned("/etc/subgid", &["-g"]),
            newuidmap: helper("newuidmap"),
            newgidmap: helper("newgidmap"),
            max_user_namespaces: max.and_then(|text| text.trim().parse().ok()),
            no_new_privs: rustix::thread::no_new_privs()?,
            name,
        })
    }

    /// Whether this is a user namespace other than the machine's first, where overlayfs keeps
    /// its marks in `user.overlay.*` attributes.
    pub fn userxattr(&self) -> bool {
        !self.initial_namespace
    }

    pub(super) fn has(&self, capability: CapabilitySet) -> bool {
        self.caps & capability.bits() == capability.bits()
    }
}

/// A system file, at most 16 MiB of it; empty if it can't be read.
fn read(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    // An unreadable file says nothing about the user, just as a missing one.
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(16 << 20).read_to_end(&mut bytes);
    }
    bytes
}

fn helper(name: &str) -> Option<PathBuf> {
    HELPER_DIRS
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}
