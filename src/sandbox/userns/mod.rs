//! Being "root" without being root: which rung this process stands on, and the step up.
//!
//! [`HostInfo::detect`] gathers facts, [`HostInfo::rung`] decides (pure), [`enter`] acts, once
//! and before any thread exists. Afterwards the process is uid 0 of its own user namespace and
//! everything else in this room works as for root. Ranges come from `/etc/subuid` and
//! `/etc/subgid` alone; users and ranges that only a name service knows are not seen.
//! Supplementary groups are kept, for they may be what lets the caller read its own build
//! context; every sandbox drops them for its program.

mod enter;
mod subid;

pub use enter::{EnterError, enter};
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

/// How privileges for a sandbox are come by.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rung {
    /// They are there: uid 0 with CAP_SYS_ADMIN, of the machine or of an outer namespace.
    Root,
    /// A user namespace of our own, its ids mapped by newuidmap and newgidmap.
    SubIds,
    /// A user namespace of our own, its ids mapped by ourselves: uid 0 of a container that has
    /// CAP_SETUID and CAP_SETGID, but not CAP_SYS_ADMIN.
    Outer,
}

/// Why no sandbox can be had here, and what would change that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// uid 0 in name only.
    #[error("root lacks CAP_SYS_ADMIN here, and CAP_SETUID and CAP_SETGID to make up for it")]
    PowerlessRoot,
    /// The kernel has user namespaces off.
    #[error("user namespaces are switched off (user.max_user_namespaces is {max})")]
    NamespacesOff {
        /// The limit; 0 also where the kernel was built without.
        max: u64,
    },
    /// newuidmap or newgidmap is missing.
    #[error("`{program}` is not installed (Debian's package `uidmap` has it)")]
    NoHelper {
        /// Which.
        program: &'static str,
    },
    /// The user has no range.
    #[error("{file} has no range for `{user}` (a line such as `{user}:100000:65536` gives one)")]
    NoRange {
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// The user, by name where it has one.
        user: String,
    },
    /// `no_new_privs` keeps newuidmap from working.
    #[error("this process may gain no privileges (no_new_privs), so newuidmap can't map ids")]
    NoNewPrivs,
}

impl HostInfo {
    /// Looks at the current process and the machine. Missing files count as empty; the error
    /// is about `/proc`.
    pub fn detect() -> io::Result<Self> {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let name = user::passwd(&read("/etc/passwd"))
            .find(|e| e.uid == uid)
            .map(|e| e.name);
        let owned = |file: &str| ranges(&read(file), name.as_deref(), uid);
        let max = fs::read_to_string("/proc/sys/user/max_user_namespaces").ok();
        Ok(Self {
            uid,
            gid,
            caps: rustix::thread::capabilities(None)?.effective.bits(),
            initial_namespace: fs::read_link("/proc/self/ns/user")?.as_os_str() == INITIAL,
            uid_map: subid::id_map(&fs::read_to_string("/proc/self/uid_map")?),
            gid_map: subid::id_map(&fs::read_to_string("/proc/self/gid_map")?),
            subuids: owned("/etc/subuid"),
            subgids: owned("/etc/subgid"),
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

    /// The way to privileges, or why there is none.
    pub fn rung(&self) -> Result<Rung, Refusal> {
        if self.uid == 0 && self.has(CapabilitySet::SYS_ADMIN) {
            return Ok(Rung::Root);
        }
        let max = self.max_user_namespaces.unwrap_or(0);
        if max == 0 {
            return Err(Refusal::NamespacesOff { max });
        }
        if self.uid == 0 {
            let able = self.has(CapabilitySet::SETUID) && self.has(CapabilitySet::SETGID);
            return if able {
                Ok(Rung::Outer)
            } else {
                Err(Refusal::PowerlessRoot)
            };
        }
        self.sub_ids()
    }

    fn sub_ids(&self) -> Result<Rung, Refusal> {
        let user = || self.name.clone().unwrap_or_else(|| self.uid.to_string());
        for (ranges, file) in [
            (&self.subuids, "/etc/subuid"),
            (&self.subgids, "/etc/subgid"),
        ] {
            if ranges.is_empty() {
                return Err(Refusal::NoRange { file, user: user() });
            }
        }
        for (path, program) in [
            (&self.newuidmap, "newuidmap"),
            (&self.newgidmap, "newgidmap"),
        ] {
            if path.is_none() {
                return Err(Refusal::NoHelper { program });
            }
        }
        if self.no_new_privs {
            return Err(Refusal::NoNewPrivs);
        }
        Ok(Rung::SubIds)
    }

    fn has(&self, capability: CapabilitySet) -> bool {
        self.caps & capability.bits() != 0
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

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> HostInfo {
        let range = vec![Range {
            start: 100_000,
            count: 65_536,
        }];
        HostInfo {
            uid: 1000,
            gid: 1000,
            name: Some("ann".into()),
            caps: 0,
            initial_namespace: true,
            uid_map: vec![[0, 0, u32::MAX]],
            gid_map: vec![[0, 0, u32::MAX]],
            subuids: range.clone(),
            subgids: range,
            newuidmap: Some("/usr/bin/newuidmap".into()),
            newgidmap: Some("/usr/bin/newgidmap".into()),
            max_user_namespaces: Some(1000),
            no_new_privs: false,
        }
    }

    #[test]
    fn the_rung_follows_from_the_facts() {
        let ids = (CapabilitySet::SETUID | CapabilitySet::SETGID).bits();
        let admin = CapabilitySet::SYS_ADMIN.bits();
        assert_eq!(user().rung(), Ok(Rung::SubIds));
        assert_eq!(
            HostInfo {
                uid: 0,
                caps: admin,
                ..user()
            }
            .rung(),
            Ok(Rung::Root)
        );
        assert_eq!(
            HostInfo {
                uid: 0,
                caps: ids,
                ..user()
            }
            .rung(),
            Ok(Rung::Outer)
        );
        assert_eq!(
            HostInfo { uid: 0, ..user() }.rung(),
            Err(Refusal::PowerlessRoot)
        );
    }

    #[test]
    fn each_refusal_names_its_fix() {
        let text = |info: HostInfo| info.rung().unwrap_err().to_string();
        assert_eq!(
            text(HostInfo {
                subgids: vec![],
                ..user()
            }),
            "/etc/subgid has no range for `ann` (a line such as `ann:100000:65536` gives one)"
        );
        assert_eq!(
            text(HostInfo {
                subuids: vec![],
                name: None,
                ..user()
            }),
            "/etc/subuid has no range for `1000` (a line such as `1000:100000:65536` gives one)"
        );
        assert_eq!(
            text(HostInfo {
                newuidmap: None,
                ..user()
            }),
            "`newuidmap` is not installed (Debian's package `uidmap` has it)"
        );
        assert_eq!(
            text(HostInfo {
                max_user_namespaces: Some(0),
                ..user()
            }),
            "user namespaces are switched off (user.max_user_namespaces is 0)"
        );
        assert!(
            text(HostInfo {
                no_new_privs: true,
                ..user()
            })
            .contains("no_new_privs")
        );
    }
}
