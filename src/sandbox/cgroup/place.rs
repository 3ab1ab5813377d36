//! Where groups can be made: the hierarchies of this machine, and what of them is ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::limits::Kind;
use super::scope::{self, ScopeError};
use super::{HIERARCHY, LimitError, make, words, write};

/// `CGROUP2_SUPER_MAGIC` of statfs(2).
const CGROUP2: rustix::fs::FsWord = 0x6367_7270;

/// The groups to make groups in.
#[derive(Debug)]
pub(super) enum Ground {
    /// One for all controllers.
    Unified(PathBuf),
    /// One a controller, by its name in cgroup v2.
    Old(Vec<(&'static str, PathBuf)>),
}

impl Ground {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Unified(_) => Kind::Unified,
            Self::Old(_) => Kind::Old,
        }
    }
}

/// Finds where groups with the controllers `needed` can be made.
pub(super) fn find(
    needed: &[&'static str],
    session_bus: Option<&Path>,
) -> Result<Ground, LimitError> {
    match is_unified(HIERARCHY) {
        true => delegated(needed, session_bus).map(Ground::Unified),
        false => old(needed),
    }
}

fn is_unified(path: &str) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type == CGROUP2)
}

/// The groups that this process is in, of the old hierarchies with the controllers `needed`.
/// Nothing above them is touched: they may be limits of ours.
pub(super) fn old(needed: &[&'static str]) -> Result<Ground, LimitError> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut parents = Vec::new();
    for &controller in needed {
        // The one that has got another name.
        let name = match controller {
            "io" => "blkio",
            other => other,
        };
        let what = || words(needed);
        let hierarchy = Path::new(HIERARCHY).join(name);
        if !hierarchy.join("cgroup.procs").exists() {
            return Err(LimitError::NoHierarchy {
                what: what(),
                controller: name,
            });
        }
        let within = own.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let has = controllers.split(',').any(|one| one == name);
            has.then(|| path.trim_start_matches('/'))
        });
        // In a container the path is one that the machine knows, and may not be there.
        let group = hierarchy.join(within.unwrap_or_default());
        let parent = match group.join("cgroup.procs").exists() {
            true => group,
            false => hierarchy,
        };
        if !may_write(&parent) || !may_write(&parent.join("cgroup.procs")) {
            return Err(LimitError::OldIsRoots { what: what() });
        }
        parents.push((controller, parent));
    }
    Ok(Ground::Old(parents))
}

/// A group of cgroup v2 to make groups without any controllers in. Nobody is asked for one.
pub(super) fn bare() -> Result<PathBuf, LimitError> {
    const BESIDE: &str = "/sys/fs/cgroup/unified";
    let what = || "what runs".to_owned();
    let Some(hierarchy) = [HIERARCHY, BESIDE]
        .into_iter()
        .find(|path| is_unified(path))
    else {
        return Err(LimitError::NoHierarchy {
            what: what(),
            controller: "freezer",
        });
    };
    let hierarchy = Path::new(hierarchy);
    match top(hierarchy)? {
        Some(top) => Ok(top),
        None => writable(hierarchy).ok_or_else(|| LimitError::NotDelegated { what: what() }),
    }
}

/// The group of ours right below the root of the hierarchy, if that is root's to make.
fn top(hierarchy: &Path) -> Result<Option<PathBuf>, LimitError> {
    let is_root = !hierarchy.join("cgroup.events").exists();
    if !is_root || !is_writable(hierarchy) {
        return Ok(None);
    }
    let top = hierarchy.join("cooper");
    make(&top)?;
    Ok(Some(top))
}

/// The group to make groups in, with `needed` switched on for them.
fn delegated(needed: &[&'static str], session_bus: Option<&Path>) -> Result<PathBuf, LimitError> {
    let what = || words(needed);
    let hierarchy = Path::new(HIERARCHY);
    if let Some(top) = top(hierarchy)? {
        enable(hierarchy, needed)?;
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

fn may_write(path: &Path) -> bool {
    let access = rustix::fs::Access::WRITE_OK;
    rustix::fs::accessat(rustix::fs::CWD, path, access, rustix::fs::AtFlags::EACCESS).is_ok()
}

fn is_writable(group: &Path) -> bool {
    let files = ["cgroup.procs", "cgroup.subtree_control"];
    may_write(group) && files.iter().all(|file| may_write(&group.join(file)))
}

/// Switches the controllers on for the groups in `group`.
pub(super) fn enable(group: &Path, needed: &[&'static str]) -> Result<(), LimitError> {
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
