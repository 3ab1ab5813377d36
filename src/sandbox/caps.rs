//! Capabilities by name and as sets (capabilities(7)).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A set of capabilities, bit N standing for capability N of capabilities(7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Caps(pub u64);

/// By number, without `CAP_`.
const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Caps {
    /// What Docker grants: chown, dac_override, fowner, fsetid, kill, setgid, setuid,
    /// setpcap, net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
    pub const DOCKER: Self = Self(0xa804_25fb);
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Everything that the caller itself has.
    pub const ALL: Self = Self(u64::MAX);

    /// The capability called `name`, or all for `ALL`; `CAP_` in front and case don't matter.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        if name == "ALL" {
            return Some(Self::ALL);
        }
        let number = NAMES.iter().position(|known| *known == name)?;
        Some(Self(1 << number))
    }

    /// The name of a single capability, as in capabilities(7), or `ALL`.
    pub fn name(self) -> Option<String> {
        if self == Self::ALL {
            return Some("ALL".to_owned());
        }
        let mut names = NAMES.iter().enumerate();
        let (_, name) = names.find(|(number, _)| self.0 == 1 << number)?;
        Some(format!("CAP_{name}"))
    }

    /// This set with `add` and without `drop`. All that is added stays, also when all are dropped;
    /// when all are added, what is dropped is missing.
    #[must_use]
    pub fn tweaked(self, add: &[Self], drop: &[Self]) -> Self {
        let union = |sets: &[Self]| sets.iter().fold(0, |sum, set| sum | set.0);
        if self == Self::ALL || add.contains(&Self::ALL) {
            let drop: Vec<Self> = drop.iter().copied().filter(|d| *d != Self::ALL).collect();
            return Self(Self::ALL.0 & !union(&drop));
        }
        Self(self.0 & !union(drop) | union(add))
    }

    /// Whether the capability called `name`, without `CAP_`, is in the set.
    pub(super) fn has(self, name: &str) -> bool {
        Self::named(name).is_some_and(|one| self.0 & one.0 == one.0)
    }
}

impl fmt::Debug for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caps({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_kernel() {
        assert_eq!(Caps::named("CAP_SYS_ADMIN"), Some(Caps(1 << 21)));
        assert_eq!(Caps::named("sys_admin"), Some(Caps(1 << 21)));
        assert_eq!(Caps::named("cap_checkpoint_restore"), Some(Caps(1 << 40)));
        assert_eq!(Caps::named("all"), Some(Caps::ALL));
        assert_eq!(Caps::named("CAP_"), None);
        assert_eq!(Caps::named("SYS_ADMIM"), None);
        for name in ["CHOWN", "SETFCAP", "AUDIT_WRITE", "MKNOD"] {
            assert!(Caps::DOCKER.has(name), "{name}");
        }
    }

    #[test]
    fn sets_combine_as_docker_does() {
        let named = |names: &[&str]| -> Vec<Caps> {
            names.iter().filter_map(|name| Caps::named(name)).collect()
        };
        let tweak = |add: &[&str], drop: &[&str]| Caps::DOCKER.tweaked(&named(add), &named(drop)).0;
        let docker = Caps::DOCKER.0;
        assert_eq!(tweak(&[], &[]), docker);
        assert_eq!(tweak(&["SYS_PTRACE"], &["CHOWN"]), docker & !1 | 1 << 19);
        assert_eq!(tweak(&["CHOWN"], &["ALL"]), 1);
        assert_eq!(tweak(&["CHOWN"], &["CHOWN"]), docker);
        assert_eq!(tweak(&["ALL"], &["CHOWN"]), !1);
        assert_eq!(tweak(&["ALL"], &["ALL"]), u64::MAX);
    }
}
