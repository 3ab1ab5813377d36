//! How far a step or container is shut in, as asked for by the options of build and run.
//!
//! An [`Isolation`] is plain data and changes a [`Plan`] in one place, so that a RUN step and a
//! container understand the same words the same way. [`Isolation::observable`] is the part that
//! a program inside can notice, for cache keys.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::caps::Caps;
use super::cgroup::Limits;
use super::plan::{Access, Mount, MountKind, Plan, Propagation, Rlimit, Rootfs, Source};
use super::seccomp::Seccomp;
use super::user::Groups;

/// What may be changed about Docker's default confinement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// The bounding set.
    pub caps: Caps,
    /// Which system calls can be made.
    pub seccomp: Seccomp,
    /// Whether setuid bits and file capabilities have no effect.
    pub no_new_privs: bool,
    /// Paths that read as empty besides the usual ones.
    pub masked: Vec<PathBuf>,
    /// Paths that are neither masked nor read-only although they usually are; those below count
    /// as well, so that `/` stands for all.
    pub unmasked: Vec<PathBuf>,
    /// Resource limits of the first process.
    pub rlimits: Vec<Rlimit>,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// Bytes that `/dev/shm` may hold; 64 MiB if not given.
    pub shm_size: Option<u64>,
    /// Groups besides those of the user.
    #[serde(default)]
    pub groups: Groups,
    /// Limits of all processes together.
    pub limits: Limits,
}

/// A device node of the host, or a directory with some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path inside.
    pub target: PathBuf,
}

impl Default for Isolation {
    fn default() -> Self {
        Self {
            caps: Caps::DOCKER,
            seccomp: Seccomp::Docker,
            no_new_privs: false,
            masked: Vec::new(),
            unmasked: Vec::new(),
            rlimits: Vec::new(),
            devices: Vec::new(),
            shm_size: None,
            groups: Groups::default(),
            limits: Limits::default(),
        }
    }
}

impl Isolation {
    /// Docker's `--privileged`: all capabilities of the caller, no filter, nothing masked.
    /// Devices of the host still have to be named.
    pub fn privileged() -> Self {
        Self {
            caps: Caps::ALL,
            seccomp: Seccomp::Unconfined,
            unmasked: vec![PathBuf::from("/")],
            ..Self::default()
        }
    }

    /// Makes `plan` as shut in as this says.
    pub fn apply(&self, plan: &mut Plan) {
        plan.caps = self.caps;
        plan.seccomp = self.seccomp.clone();
        plan.no_new_privs = self.no_new_privs;
        let open = |path: &PathBuf| self.unmasked.iter().any(|top| path.starts_with(top));
        plan.masked_paths.retain(|path| !open(path));
        plan.read_only_paths.retain(|path| !open(path));
        plan.masked_paths.extend(self.masked.iter().cloned());
        plan.rlimits = self.rlimits.clone();
        plan.mounts.extend(self.devices.iter().map(Device::mount));
        plan.shm_size = self.shm_size.unwrap_or(plan.shm_size);
        plan.groups = self.groups.clone();
        plan.limits = self.limits.clone();
    }

    /// Paths that read as empty, and those that can't be written, the usual ones among them.
    pub fn shut_paths(&self) -> [Vec<PathBuf>; 2] {
        let root = Rootfs::Directory { path: "/".into() };
        let mut plan = Plan::new(root, Vec::new());
        self.apply(&mut plan);
        [plan.masked_paths, plan.read_only_paths]
    }

    /// A text that differs whenever a program can notice the difference; `None` for the
    /// defaults. Limits of memory and processors are left out: they decide whether a step
    /// succeeds and how fast, not what it makes.
    pub fn observable(&self) -> Option<String> {
        let seen = Self {
            limits: Limits::default(),
            ..self.clone()
        };
        (seen != Self::default()).then(|| {
            serde_json::to_string(&seen).expect("options are texts and numbers, which JSON has")
        })
    }
}

impl Device {
    /// Binds the host's node: it works in a user namespace, too, and needs no device rule.
    fn mount(&self) -> Mount {
        Mount {
            target: self.target.clone(),
            kind: MountKind::Bind {
                source: Source::Path(self.source.clone()),
                recursive: false,
            },
            access: Access {
                nosuid: true,
                noexec: true,
                ..Access::default()
            },
            propagation: Propagation::Private,
            give: false,
        }
    }

    /// Whether this names something that can be a device: a node or a directory.
    pub fn exists(path: &Path) -> bool {
        use std::os::unix::fs::FileTypeExt;
        std::fs::metadata(path).is_ok_and(|found| {
            let kind = found.file_type();
            kind.is_char_device() || kind.is_block_device() || kind.is_dir()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(isolation: &Isolation) -> Plan {
        let root = Rootfs::Directory { path: "/r".into() };
        let mut plan = Plan::new(root, vec!["sh".into()]);
        isolation.apply(&mut plan);
        plan
    }

    #[test]
    fn the_default_is_the_plans_own() {
        let root = Rootfs::Directory { path: "/r".into() };
        let bare = Plan::new(root, vec!["sh".into()]);
        assert_eq!(plan(&Isolation::default()), bare);
        assert_eq!(Isolation::default().observable(), None);
    }

    #[test]
    fn masks_come_and_go() {
        let mut isolation = Isolation {
            masked: vec!["/proc/cpuinfo".into()],
            unmasked: vec!["/proc/kcore".into(), "/proc/sys".into()],
            ..Isolation::default()
        };
        let has = |list: &[PathBuf], path: &str| list.iter().any(|p| p == Path::new(path));
        let shut = plan(&isolation);
        assert!(has(&shut.masked_paths, "/proc/cpuinfo"));
        assert!(!has(&shut.masked_paths, "/proc/kcore"));
        assert!(has(&shut.masked_paths, "/sys/firmware"));
        assert!(!has(&shut.read_only_paths, "/proc/sys"));
        assert!(has(&shut.read_only_paths, "/proc/irq"));
        isolation = Isolation::privileged();
        let open = plan(&isolation);
        assert!(open.masked_paths.is_empty() && open.read_only_paths.is_empty());
        assert_eq!((open.caps, open.seccomp), (Caps::ALL, Seccomp::Unconfined));
    }

    #[test]
    fn what_a_program_can_notice_is_in_the_text() {
        type Change = fn(&mut Isolation);
        let changes: [Change; 8] = [
            |i| i.caps = Caps::NONE,
            |i| i.seccomp = Seccomp::Unconfined,
            |i| i.no_new_privs = true,
            |i| i.masked.push("/x".into()),
            |i| i.unmasked.push("/x".into()),
            |i| i.shm_size = Some(1),
            |i| i.groups.extra.push("adm".into()),
            |i| i.groups.keep = true,
        ];
        let mut texts = std::collections::BTreeSet::new();
        for change in changes {
            let mut isolation = Isolation::default();
            change(&mut isolation);
            texts.insert(isolation.observable().unwrap());
        }
        assert_eq!(texts.len(), changes.len());
        let mut limited = Isolation::default();
        limited.limits.memory = Some(1 << 30);
        assert_eq!(limited.observable(), None);
    }
}
