//! The four rungs, and which of them the facts allow: pure.
//!
//! An image needs the ids 0 to 65534 (`nobody`). Where a process has them all, files are given
//! away for real. Where it has fewer, owners are remembered instead ([`crate::owners`]), so a map
//! with a gap is no better than one of a single id and is not used.

use std::fmt;
use std::str::FromStr;

use rustix::thread::CapabilitySet;

use super::HostInfo;
use super::subid::{covered, map_for};

/// Ids from 0 on that an image needs: up to `nobody`, 65534.
const NEEDED: u32 = 65_535;

/// How privileges for a sandbox are come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rung {
    /// They are there: uid 0 with CAP_SYS_ADMIN and all ids an image needs, of the machine or of
    /// an outer namespace.
    Root,
    /// A user namespace of our own, its ids mapped by newuidmap and newgidmap.
    SubIds,
    /// A user namespace of our own, its ids mapped by ourselves: uid 0 of a container that has
    /// CAP_SETUID and CAP_SETGID, but not CAP_SYS_ADMIN.
    Outer,
    /// A user namespace with one id, or with too few; owners are remembered.
    SingleId,
    /// No user namespace. Programs are run by root alone, in a changed root
    /// ([`HostInfo::chroots`]); everything else works. Owners are remembered unless this is root.
    Chroot,
}

impl Rung {
    const ALL: [Self; 5] = [
        Self::Root,
        Self::SubIds,
        Self::Outer,
        Self::SingleId,
        Self::Chroot,
    ];
}

/// The name that `--isolation` knows it by.
impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::SubIds => "subid",
            Self::Outer => "outer-userns",
            Self::SingleId => "single-id",
            Self::Chroot => "chroot",
        })
    }
}

impl FromStr for Rung {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|rung| rung.to_string() == text)
            .ok_or_else(|| "expected root, subid, outer-userns, single-id or chroot".to_owned())
    }
}

/// Why a rung can't be had here, and what would change that.
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
    /// The system forbids user namespaces: seccomp, AppArmor or a limit that is reached.
    #[error("user namespaces are forbidden here (the kernel says: {said})")]
    NamespacesForbidden {
        /// The kernel's answer to unshare(2).
        said: String,
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
    /// The user's ranges are too small.
    #[error("{file} gives `{user}` {count} ids, and images need 65534")]
    SmallRange {
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// The user, by name where it has one.
        user: String,
        /// How many there are.
        count: u32,
    },
    /// `no_new_privs` keeps newuidmap from working.
    #[error("this process may gain no privileges (no_new_privs), so newuidmap can't map ids")]
    NoNewPrivs,
    /// The rung that was asked for is for root.
    #[error("`{asked}` isolation is for root, and this is uid {uid}")]
    NotRoot {
        /// What was asked for.
        asked: Rung,
        /// Who asks.
        uid: u32,
    },
    /// The rung that was asked for is for ordinary users.
    #[error("`subid` isolation is for ordinary users, and this is root")]
    NotOrdinary,
    /// This process has less than the rung that was asked for needs.
    #[error("`root` isolation needs CAP_SYS_ADMIN and the ids up to 65534")]
    NotWhole,
    /// It was asked for.
    #[error("`chroot` isolation was asked for")]
    AskedFor,
}

impl HostInfo {
    /// The best rung, or why it is [`Rung::Chroot`].
    pub fn rung(&self) -> Result<Rung, Refusal> {
        let admin = self.uid == 0 && self.has(CapabilitySet::SYS_ADMIN);
        if admin {
            return Ok(if self.has_all_ids() {
                Rung::Root
            } else {
                Rung::SingleId
            });
        }
        self.namespaces()?;
        let full = match self.uid {
            0 => self.outer(),
            _ => self.sub_ids(),
        };
        Ok(full.unwrap_or(Rung::SingleId))
    }

    /// The rung that was asked for, or why it can't be had.
    pub fn forced(&self, asked: Rung) -> Result<Rung, Refusal> {
        let admin = self.uid == 0 && self.has(CapabilitySet::SYS_ADMIN);
        match asked {
            Rung::Chroot => Ok(Rung::Chroot),
            Rung::Root | Rung::Outer if self.uid != 0 => Err(Refusal::NotRoot {
                asked,
                uid: self.uid,
            }),
            Rung::Root if admin && self.has_all_ids() => Ok(Rung::Root),
            Rung::Root => Err(Refusal::NotWhole),
            // What root has already is taken as it is.
            Rung::SingleId if admin && !self.has_all_ids() => Ok(Rung::SingleId),
            Rung::SubIds if self.uid == 0 => Err(Refusal::NotOrdinary),
            Rung::SubIds => self.namespaces().and_then(|()| self.sub_ids()),
            Rung::Outer => self.namespaces().and_then(|()| self.outer()),
            Rung::SingleId => self.namespaces().map(|()| Rung::SingleId),
        }
    }

    /// Whether the current map has every id that an image needs.
    pub fn has_all_ids(&self) -> bool {
        covered(&self.uid_map).min(covered(&self.gid_map)) >= NEEDED
    }

    /// Whether files can be given away, written and looked at whoever they belong to, without any
    /// namespace.
    pub fn rules_files(&self) -> bool {
        let needed = CapabilitySet::CHOWN
            | CapabilitySet::DAC_OVERRIDE
            | CapabilitySet::FOWNER
            | CapabilitySet::FSETID;
        self.has_all_ids() && self.uid == 0 && self.has(needed)
    }

    /// Whether programs can be run by chroot(2): who does that must be able to become others,
    /// to kill them, and to lose what it can do itself.
    pub fn chroots(&self) -> bool {
        let needed = CapabilitySet::SYS_CHROOT
            | CapabilitySet::SETUID
            | CapabilitySet::SETGID
            | CapabilitySet::SETPCAP
            | CapabilitySet::KILL;
        self.rules_files() && self.has(needed)
    }

    fn namespaces(&self) -> Result<(), Refusal> {
        match self.max_user_namespaces.unwrap_or(0) {
            0 => Err(Refusal::NamespacesOff { max: 0 }),
            _ => Ok(()),
        }
    }

    fn outer(&self) -> Result<Rung, Refusal> {
        let able = self.has(CapabilitySet::SETUID | CapabilitySet::SETGID);
        match able && self.has_all_ids() {
            true => Ok(Rung::Outer),
            false => Err(Refusal::PowerlessRoot),
        }
    }

    /// [`Rung::SubIds`], or what an ordinary user lacks for it.
    pub fn sub_ids(&self) -> Result<Rung, Refusal> {
        let user = || self.name.clone().unwrap_or_else(|| self.uid.to_string());
        for (ranges, file) in [
            (&self.subuids, "/etc/subuid"),
            (&self.subgids, "/etc/subgid"),
        ] {
            if ranges.is_empty() {
                return Err(Refusal::NoRange { file, user: user() });
            }
            let count = covered(&map_for(0, ranges));
            if count < NEEDED {
                let user = user();
                return Err(Refusal::SmallRange { file, user, count });
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
}

#[cfg(test)]
mod tests {
    use super::super::super::caps::Caps;
    use super::super::Range;
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

    fn root(caps: CapabilitySet) -> HostInfo {
        HostInfo {
            uid: 0,
            caps: caps.bits(),
            ..user()
        }
    }

    #[test]
    fn the_rung_follows_from_the_facts() {
        let ids = CapabilitySet::SETUID | CapabilitySet::SETGID;
        let few = vec![[0, 1000, 1]];
        assert_eq!(user().rung(), Ok(Rung::SubIds));
        assert_eq!(root(CapabilitySet::SYS_ADMIN).rung(), Ok(Rung::Root));
        assert_eq!(root(ids).rung(), Ok(Rung::Outer));
        assert_eq!(root(CapabilitySet::empty()).rung(), Ok(Rung::SingleId));
        for without in [
            HostInfo {
                subuids: vec![],
                ..user()
            },
            HostInfo {
                newgidmap: None,
                ..user()
            },
            HostInfo {
                no_new_privs: true,
                ..user()
            },
            HostInfo {
                uid_map: few.clone(),
                ..root(CapabilitySet::SYS_ADMIN)
            },
            HostInfo {
                gid_map: few.clone(),
                ..root(ids)
            },
        ] {
            assert_eq!(without.rung(), Ok(Rung::SingleId), "{without:?}");
        }
        let off = HostInfo {
            max_user_namespaces: None,
            ..user()
        };
        assert_eq!(off.rung(), Err(Refusal::NamespacesOff { max: 0 }));
    }

    #[test]
    fn a_forced_rung_is_that_rung_or_an_error() {
        let admin = root(CapabilitySet::SYS_ADMIN);
        for (host, asked, is_had) in [
            (user(), Rung::SubIds, true),
            (user(), Rung::SingleId, true),
            (user(), Rung::Chroot, true),
            (user(), Rung::Root, false),
            (user(), Rung::Outer, false),
            (admin.clone(), Rung::Root, true),
            (admin.clone(), Rung::SingleId, true),
            (admin.clone(), Rung::SubIds, false),
            (admin, Rung::Outer, false),
        ] {
            let want = is_had.then_some(asked);
            assert_eq!(host.forced(asked).ok(), want, "{asked} as {}", host.uid);
        }
        for rung in Rung::ALL {
            assert_eq!(rung.to_string().parse(), Ok(rung));
        }
        assert!("none".parse::<Rung>().is_err());
    }

    #[test]
    fn root_with_dockers_capabilities_can_change_its_root() {
        let docker = CapabilitySet::from_bits_retain(Caps::DOCKER.0);
        assert!(root(docker).chroots());
        for lacking in [
            CapabilitySet::SYS_CHROOT,
            CapabilitySet::KILL,
            CapabilitySet::CHOWN,
        ] {
            assert!(!root(docker - lacking).chroots(), "{lacking:?}");
        }
        let ordinary = HostInfo {
            caps: docker.bits(),
            ..user()
        };
        assert!(!ordinary.chroots());
    }

    #[test]
    fn each_refusal_names_its_fix() {
        let text = |info: HostInfo| info.sub_ids().unwrap_err().to_string();
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
                subuids: vec![Range { start: 1, count: 9 }],
                ..user()
            }),
            "/etc/subuid gives `ann` 10 ids, and images need 65534"
        );
        assert_eq!(
            text(HostInfo {
                newuidmap: None,
                ..user()
            }),
            "`newuidmap` is not installed (Debian's package `uidmap` has it)"
        );
        assert!(
            text(HostInfo {
                no_new_privs: true,
                ..user()
            })
            .contains("no_new_privs")
        );
        let off = HostInfo {
            max_user_namespaces: Some(0),
            ..user()
        };
        assert_eq!(
            off.rung().unwrap_err().to_string(),
            "user namespaces are switched off (user.max_user_namespaces is 0)"
        );
    }
}
