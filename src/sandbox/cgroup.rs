//! Limits of a whole step or container, kept by the kernel's control groups (cgroup v2).
//!
//! ```text
//! a group with the controllers we need, that we may write to
//!   ├─ cooper.self          our own processes, moved there if the kernel asks for it
//!   └─ cooper-<pid>-<n>     one for each sandbox with limits; removed when it has ended
//! ```
//!
//! Root makes its groups in `cooper`, right below the hierarchy's root. Anybody else needs a group
//! that was delegated: a scope from the service manager of the user's session, else the one we
//! are in, or one above it. The child enters its group itself, before its first fork and before it makes its cgroup namespace, so that nothing
//! escapes and the group looks like the root from inside.
//!
//! A limit that can't be kept is an error that says why, unless [`Limits::best_effort`].

mod scope;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

pub use scope::ScopeError;

/// Where systemd and everybody else mounts the unified hierarchy.
const HIERARCHY: &str = "/sys/fs/cgroup";

/// `CGROUP2_SUPER_MAGIC` of statfs(2).
const CGROUP2: rustix::fs::FsWord = 0x6367_7270;

/// What all processes of a sandbox may use together. `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; as much swap as memory when not given, as docker has
    /// it.
    pub memory_swap: Option<Swap>,
    /// Microseconds of processor time in each period.
    pub cpu_quota: Option<u64>,
    /// The period in microseconds; 100000 when not given.
    pub cpu_period: Option<u64>,
    /// Weight against others, 1024 being usual, in the units of cgroup v1.
    pub cpu_shares: Option<u64>,
    /// Processors that may be used, such as `0-2,5`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used, such as `0-1`.
    #[serde(default)]
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Whether to go on where limits can't be kept.
    pub best_effort: bool,
    /// The socket of the bus on which the service manager of the user's session gives groups.
    pub session_bus: Option<PathBuf>,
}

/// A limit of memory and swap together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Swap {
    /// Bytes.
    Total(u64),
    /// As much swap as there is.
    Unlimited,
}

/// Why limits can't be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// The hierarchy is missing or of the old kind.
    #[error("cannot limit {what}: {HIERARCHY} is no cgroup v2 hierarchy")]
    NoHierarchy {
        /// What was to be limited.
        what: String,
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

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.files().is_empty()
    }

    /// File and content for each limit.
    fn files(&self) -> Vec<(&'static str, String)> {
        let mut files = Vec::new();
        if let Some(memory) = self.memory {
            files.push(("memory.max", memory.to_string()));
        }
        match (self.memory_swap, self.memory) {
            (Some(Swap::Unlimited), _) => files.push(("memory.swap.max", "max".to_owned())),
            (Some(Swap::Total(total)), memory) => {
                let swap = total.saturating_sub(memory.unwrap_or(0));
                files.push(("memory.swap.max", swap.to_string()));
            }
            (None, Some(memory)) => files.push(("memory.swap.max", memory.to_string())),
            (None, None) => {}
        }
        if self.cpu_quota.is_some() || self.cpu_period.is_some() {
            let quota = self.cpu_quota.map_or("max".to_owned(), |n| n.to_string());
            let period = self.cpu_period.unwrap_or(100_000);
            files.push(("cpu.max", format!("{quota} {period}")));
        }
        if let Some(shares) = self.cpu_shares {
            // From 2..=262144 to 1..=10000, as runc and systemd do.
            let shares = shares.clamp(2, 262_144);
            let weight = 1 + (shares - 2) * 9999 / 262_142;
            files.push(("cpu.weight", weight.to_string()));
        }
        if let Some(cpus) = &self.cpuset_cpus {
            files.push(("cpuset.cpus", cpus.clone()));
        }
        if let Some(nodes) = &self.cpuset_mems {
            files.push(("cpuset.mems", nodes.clone()));
        }
        if let Some(pids) = self.pids {
            files.push(("pids.max", pids.to_string()));
        }
        files
    }

    /// The controllers that are needed, each once.
    fn controllers(&self) -> Vec<&'static str> {
        let mut needed: Vec<&str> = self
            .files()
            .iter()
            .map(|(file, _)| file.split('.').next().unwrap_or(file))
            .collect();
        needed.dedup();
        needed
    }
}

/// A group that limits one sandbox; removed when dropped.
#[derive(Debug)]
pub(super) struct Group {
    dir: PathBuf,
}

impl Group {
    /// Makes a group with `limits`.
    pub(super) fn new(limits: &Limits) -> Result<Self, LimitError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let needed = limits.controllers();
        let parent = delegated(&needed, limits.session_bus.as_deref())?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("cooper-{}-{number}", std::process::id()));
        make(&dir)?;
        let group = Self { dir };
        for (file, content) in limits.files() {
            match write(&group.dir.join(file), &content) {
                // A kernel without swap accounting has no swap to limit.
                Err(LimitError::Io { source, .. })
                    if file == "memory.swap.max" && source.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
        Ok(group)
    }

    /// The file through which a process enters.
    pub(super) fn door(&self) -> Result<OwnedFd, LimitError> {
        let path = self.dir.join("cgroup.procs");
        let file = fs::File::options().write(true).open(&path);
        file.map(OwnedFd::from).map_err(|source| LimitError::Io {
            doing: "open",
            path,
            source,
        })
    }

    /// How many processes the kernel has killed because the memory was used up.
    pub(super) fn killed_for_memory(&self) -> u64 {
        // A group without the memory controller has no such file, and killed nobody.
        let events = fs::read_to_string(self.dir.join("memory.events")).unwrap_or_default();
        events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The last process may still be on its way out. A group that stays is empty and costs
        // nothing; whoever makes the next one goes by another name.
        for _ in 0..50 {
            match fs::remove_dir(&self.dir) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                _ => break,
            }
        }
    }
}

/// Whether memory, processors and processes could be limited here, with the help of the service
/// manager on `session_bus` if there is one.
pub(super) fn probe(session_bus: Option<&Path>) -> Result<(), LimitError> {
    delegated(&["memory", "cpu", "pids"], session_bus).map(drop)
}

/// The group to make groups in, with `needed` switched on for them.
fn delegated(needed: &[&'static str], session_bus: Option<&Path>) -> Result<PathBuf, LimitError> {
    let what = || words(needed);
    let hierarchy = Path::new(HIERARCHY);
    if !rustix::fs::statfs(HIERARCHY).is_ok_and(|fs| fs.f_type == CGROUP2) {
        return Err(LimitError::NoHierarchy { what: what() });
    }
    let is_root = !hierarchy.join("cgroup.events").exists();
    if is_root && is_writable(hierarchy) {
        enable(hierarchy, needed)?;
        let top = hierarchy.join("cooper");
        make(&top)?;
        enable(&top, needed)?;
        return Ok(top);
    }
    let group = match session_bus.map(|bus| given(bus, hierarchy)) {
        Some(Ok(group)) => group,
        asked => match (writable(hierarchy), asked) {
            (Some(group), _) => group,
            (None, Some(Err(source))) => {
                let what = what();
                return Err(LimitError::NoScope { what, source });
            }
            (None, _) => return Err(LimitError::NotDelegated { what: what() }),
        },
    };
    match enable(&group, needed) {
        Err(LimitError::Io { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {
            evacuate(&group)?;
            enable(&group, needed)?;
        }
        done => done?,
    }
    Ok(group)
}

/// The scope that this process has from the service manager of the user's session, which is asked
/// once. Above it all belongs to that manager, though we could write there.
fn given(bus: &Path, hierarchy: &Path) -> Result<PathBuf, ScopeError> {
    static GIVEN: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(group) = &*given {
        return Ok(group.clone());
    }
    let group = scope::enter(bus, || own_group(hierarchy))?;
    Ok(given.insert(group).clone())
}

/// The topmost group that we may divide, of those that we are in.
fn writable(hierarchy: &Path) -> Option<PathBuf> {
    let own = own_group(hierarchy);
    let mut groups = own.ancestors();
    let ours = |dir: &&Path| dir.starts_with(hierarchy) && is_writable(dir);
    let mut topmost = None;
    while let Some(group) = groups.next().filter(ours) {
        topmost = Some(group.to_owned());
    }
    topmost
}

/// The group of this process, below the hierarchy.
fn own_group(hierarchy: &Path) -> PathBuf {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"));
    hierarchy.join(own.unwrap_or_default())
}

fn is_writable(group: &Path) -> bool {
    let may = |path: &Path| {
        let access = rustix::fs::Access::WRITE_OK;
        rustix::fs::accessat(rustix::fs::CWD, path, access, rustix::fs::AtFlags::EACCESS).is_ok()
    };
    may(group) && may(&group.join("cgroup.procs")) && may(&group.join("cgroup.subtree_control"))
}

/// Switches the controllers on for the groups in `group`.
fn enable(group: &Path, needed: &[&'static str]) -> Result<(), LimitError> {
    let read = |name: &str| fs::read_to_string(group.join(name)).unwrap_or_default();
    let available = read("cgroup.controllers");
    let on = read("cgroup.subtree_control");
    let has = |list: &str, name: &str| list.split_whitespace().any(|word| word == name);
    for &controller in needed {
        if !has(&available, controller) {
            return Err(LimitError::NoController {
                what: words(needed),
                controller,
                group: group.to_owned(),
            });
        }
        if !has(&on, controller) {
            write(
                &group.join("cgroup.subtree_control"),
                &format!("+{controller}"),
            )?;
        }
    }
    Ok(())
}

/// Moves the processes of `group` to a group below: one with groups below may have none itself.
fn evacuate(group: &Path) -> Result<(), LimitError> {
    let shelter = group.join("cooper.self");
    make(&shelter)?;
    let procs = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in procs.lines() {
        match write(&shelter.join("cgroup.procs"), pid) {
            // It ended meanwhile.
            Err(LimitError::Io { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => {}
            done => done?,
        }
    }
    Ok(())
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
        _ => "memory",
    };
    let words: Vec<&str> = controllers.iter().map(word).collect();
    words.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(limits: &Limits) -> Vec<String> {
        let line = |(file, content): (&str, String)| format!("{file}={content}");
        limits.files().into_iter().map(line).collect()
    }

    #[test]
    fn limits_become_files_as_docker_has_them() {
        assert!(Limits::default().is_empty());
        let memory = Limits {
            memory: Some(1000),
            ..Limits::default()
        };
        assert_eq!(files(&memory), ["memory.max=1000", "memory.swap.max=1000"]);
        let swap = |swap| Limits {
            memory_swap: Some(swap),
            ..memory.clone()
        };
        assert_eq!(files(&swap(Swap::Total(1500)))[1], "memory.swap.max=500");
        assert_eq!(files(&swap(Swap::Total(1000)))[1], "memory.swap.max=0");
        assert_eq!(files(&swap(Swap::Unlimited))[1], "memory.swap.max=max");
        let cpu = Limits {
            cpu_quota: Some(150_000),
            cpu_shares: Some(1024),
            cpuset_cpus: Some("0-1".to_owned()),
            cpuset_mems: Some("0".to_owned()),
            pids: Some(10),
            ..Limits::default()
        };
        let want = [
            "cpu.max=150000 100000",
            "cpu.weight=39",
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "pids.max=10",
        ];
        assert_eq!(files(&cpu), want);
        assert_eq!(cpu.controllers(), ["cpu", "cpuset", "pids"]);
        for (shares, weight) in [(0, 1), (2, 1), (262_144, 10_000), (u64::MAX, 10_000)] {
            let limits = Limits {
                cpu_shares: Some(shares),
                ..Limits::default()
            };
            assert_eq!(files(&limits), [format!("cpu.weight={weight}")]);
        }
    }

    #[test]
    fn what_can_not_be_limited_is_named() {
        let error = LimitError::NoHierarchy {
            what: words(&["memory", "pids"]),
        };
        assert_eq!(
            error.to_string(),
            "cannot limit memory and the number of processes: /sys/fs/cgroup is no cgroup v2 hierarchy"
        );
    }
}
