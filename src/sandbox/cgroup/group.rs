//! One group: its directories, its limits, and who is in it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::limits::{Kind, Limits, Setting};
use super::place::{self, Ground};
use super::{LimitError, make, write};

/// Lists the processes of a sandbox.
pub(in crate::sandbox) type Lister<'l> = dyn Fn() -> io::Result<Vec<i32>> + 'l;

/// A group that limits one sandbox; removed when dropped.
#[derive(Debug)]
pub(in crate::sandbox) struct Group {
    kind: Kind,
    /// One a controller with the old hierarchies, else one.
    places: Vec<Place>,
    name: String,
}

/// A directory of a group, and the controller that it is for; none where it is for all.
#[derive(Debug)]
struct Place {
    controller: Option<&'static str>,
    dir: PathBuf,
}

impl Group {
    /// Makes a group with `limits`.
    pub(in crate::sandbox) fn new(limits: &Limits) -> Result<Self, LimitError> {
        let needed = limits.controllers();
        let ground = place::find(&needed, limits.session_bus.as_deref())?;
        let mut group = Self {
            kind: ground.kind(),
            places: Vec::new(),
            name: fresh_name(),
        };
        group.settle(ground)?;
        group.set(&limits.settings(group.kind))?;
        Ok(group)
    }

    /// Makes the directories that are not there yet; returns whether there were such.
    fn settle(&mut self, ground: Ground) -> Result<bool, LimitError> {
        let before = self.places.len();
        let parents = match ground {
            Ground::Unified(parent) => vec![(None, parent)],
            Ground::Old(parents) => parents
                .into_iter()
                .map(|(controller, parent)| (Some(controller), parent))
                .collect(),
        };
        for (controller, parent) in parents {
            if self
                .places
                .iter()
                .any(|place| place.controller == controller)
            {
                continue;
            }
            sweep(&parent);
            let dir = parent.join(&self.name);
            make(&dir)?;
            self.places.push(Place {
                controller,
                dir: dir.clone(),
            });
            if controller == Some("cpuset") {
                inherit_cpuset(&parent, &dir)?;
            }
        }
        Ok(self.places.len() > before)
    }

    /// The directory in which `controller` is set.
    fn dir(&self, controller: &str) -> Option<&Path> {
        let mut places = self.places.iter();
        let place = places.find(|place| place.controller.is_none_or(|only| only == controller));
        place.map(|place| place.dir.as_path())
    }

    fn set(&self, settings: &[Setting]) -> Result<(), LimitError> {
        for setting in settings {
            let Some(dir) = self.dir(setting.controller) else {
                continue;
            };
            let (file, content) = match &setting.instead {
                Some((file, content)) if !dir.join(setting.file).exists() => (*file, content),
                _ => (setting.file, &setting.content),
            };
            match write(&dir.join(file), content) {
                Err(LimitError::Io { source, .. })
                    if setting.may_lack() && source.kind() == io::ErrorKind::NotFound => {}
                Err(LimitError::Io { source, .. })
                    if file == "memory.limit_in_bytes"
                        && source.raw_os_error() == Some(libc::EBUSY) =>
                {
                    return Err(LimitError::InUse {
                        wanted: content.clone(),
                        used: number_in(&dir.join("memory.usage_in_bytes")).unwrap_or(0),
                    });
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Changes the limits of those who are in it, from `old` to `new`. One that is no longer asked
    /// for is taken away. `processes` lists who is to be in it. On an error the old ones hold.
    pub(in crate::sandbox) fn change(
        &mut self,
        old: &Limits,
        new: &Limits,
        processes: &Lister<'_>,
    ) -> Result<(), LimitError> {
        let (before, after) = (old.settings(self.kind), new.settings(self.kind));
        let grown = match self.kind {
            Kind::Unified => {
                if let Some(parent) = self.places.first().and_then(|place| place.dir.parent()) {
                    place::enable(parent, &new.controllers())?;
                }
                false
            }
            Kind::Old => self.settle(place::old(&new.controllers())?)?,
        };
        self.check_use(new)?;
        let changed = self.exchange(&before, &after).and_then(|()| match grown {
            true => self.take_in_all(processes),
            false => Ok(()),
        });
        if changed.is_err() {
            // What the kernel took before it did not take the rest.
            let _ = self.exchange(&after, &before);
        }
        changed
    }

    fn exchange(&self, before: &[Setting], after: &[Setting]) -> Result<(), LimitError> {
        let kept = |old: &&Setting| after.iter().any(|new| new.file == old.file);
        let gone: Vec<Setting> = before
            .iter()
            .filter(|old| !kept(old))
            .map(Setting::undone)
            .collect();
        // Memory alone is never more than memory and swap, so which is first depends on whether
        // they grow.
        let backwards: Vec<Setting> = after.iter().rev().cloned().collect();
        self.set(after).or_else(|error| match error {
            LimitError::Io { .. } => self.set(&backwards),
            other => Err(other),
        })?;
        self.set(&gone)
    }

    /// The kernel of cgroup v2 kills where the old one refuses, so it is asked first.
    fn check_use(&self, new: &Limits) -> Result<(), LimitError> {
        let (Kind::Unified, Some(wanted), Some(dir)) = (self.kind, new.memory, self.dir("memory"))
        else {
            return Ok(());
        };
        let Some(used) = number_in(&dir.join("memory.current")) else {
            return Ok(());
        };
        // Copies of files can be given up.
        let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
        let field = |name: &str| {
            let mut lines = stat.lines().filter_map(|line| line.strip_prefix(name));
            lines.find_map(|rest| rest.trim().parse::<u64>().ok())
        };
        let files = field("active_file ").unwrap_or(0) + field("inactive_file ").unwrap_or(0);
        let used = used.saturating_sub(files);
        match used > wanted {
            true => Err(LimitError::InUse {
                wanted: wanted.to_string(),
                used,
            }),
            false => Ok(()),
        }
    }

    /// Takes all of `processes` in: asked until there are no new ones.
    pub(in crate::sandbox) fn take_in_all(&self, processes: &Lister<'_>) -> Result<(), LimitError> {
        let dirs: Vec<&Path> = self
            .places
            .iter()
            .map(|place| place.dir.as_path())
            .collect();
        take_in_all(&dirs, processes)
    }

    /// The files through which a process enters.
    pub(in crate::sandbox) fn doors(&self) -> Result<Vec<OwnedFd>, LimitError> {
        let open = |place: &Place| {
            let path = place.dir.join("cgroup.procs");
            let file = fs::File::options().write(true).open(&path);
            file.map(OwnedFd::from).map_err(|source| LimitError::Io {
                doing: "open",
                path,
                source,
            })
        };
        self.places.iter().map(open).collect()
    }

    /// How many processes the kernel has killed because the memory was used up.
    pub(in crate::sandbox) fn killed_for_memory(&self) -> u64 {
        let file = match self.kind {
            Kind::Unified => "memory.events",
            Kind::Old => "memory.oom_control",
        };
        // A group without the memory controller has no such file, and killed nobody.
        let dir = self.dir("memory");
        let events = dir.and_then(|dir| fs::read_to_string(dir.join(file)).ok());
        events
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.places.iter().for_each(|place| remove(&place.dir));
    }
}

/// A group that halts those who are in it; removed when dropped, and they go on.
///
/// It is one of cgroup v2, be it beside the old hierarchies: what is frozen by the old freezer
/// can't be killed, and would outlive its monitor.
#[derive(Debug)]
pub(in crate::sandbox) struct Freezer {
    dir: PathBuf,
}

impl Freezer {
    /// How long the kernel may take to halt everybody. It goes on with who is not halted then.
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

    /// Makes one, below the group that limits the sandbox if that can have it.
    pub(in crate::sandbox) fn new(group: Option<&Group>) -> Result<Self, LimitError> {
        let parent = match group {
            Some(group) if group.kind == Kind::Unified => group.dir("").map(Path::to_owned),
            _ => None,
        };
        let dir = match parent {
            Some(parent) => parent.join(FROZEN),
            None => {
                let parent = place::bare()?;
                sweep(&parent);
                parent.join(fresh_name())
            }
        };
        make(&dir)?;
        Ok(Self { dir })
    }

    /// Halts `processes`, or nobody on an error.
    pub(in crate::sandbox) fn freeze(&self, processes: &Lister<'_>) -> Result<(), LimitError> {
        write(&self.dir.join("cgroup.freeze"), "1")?;
        let frozen = take_in_all(&[&self.dir], processes);
        if frozen.is_err() {
            return self.thaw().and(frozen);
        }
        let until = std::time::Instant::now() + Self::PATIENCE;
        let events = self.dir.join("cgroup.events");
        let is_frozen =
            || fs::read_to_string(&events).is_ok_and(|text| text.lines().any(|l| l == "frozen 1"));
        while !is_frozen() && std::time::Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(())
    }

    /// Lets them go on.
    pub(in crate::sandbox) fn thaw(&self) -> Result<(), LimitError> {
        write(&self.dir.join("cgroup.freeze"), "0")
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

/// The name of a group for the freezer, in one with limits.
const FROZEN: &str = "frozen";

fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("cooper-{}-{number}", std::process::id())
}

/// A group of the old `cpuset` takes nobody in before it has processors and memory.
fn inherit_cpuset(parent: &Path, dir: &Path) -> Result<(), LimitError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let path = parent.join(file);
        let content = fs::read_to_string(&path).map_err(|source| LimitError::Io {
            doing: "read",
            path,
            source,
        })?;
        write(&dir.join(file), content.trim())?;
    }
    Ok(())
}

fn take_in_all(dirs: &[&Path], processes: &Lister<'_>) -> Result<(), LimitError> {
    let mut inside = BTreeSet::new();
    loop {
        let found = processes().map_err(|source| LimitError::Io {
            doing: "list the processes of",
            path: dirs
                .first()
                .map_or_else(PathBuf::new, |dir| (*dir).to_owned()),
            source,
        })?;
        let new: Vec<i32> = found
            .into_iter()
            .filter(|pid| inside.insert(*pid))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        for (pid, dir) in new
            .iter()
            .flat_map(|pid| dirs.iter().map(move |dir| (pid, dir)))
        {
            match write(&dir.join("cgroup.procs"), &pid.to_string()) {
                // It ended meanwhile.
                Err(LimitError::Io { source, .. })
                    if source.raw_os_error() == Some(libc::ESRCH) => {}
                Err(LimitError::Io { source, .. }) => return Err(LimitError::NotMoved { source }),
                done => done?,
            }
        }
    }
}

/// Removes a group. The last process may still be on its way out; what stays is empty and costs
/// nothing until [`sweep`] finds it.
fn remove(dir: &Path) {
    for _ in 0..50 {
        match fs::remove_dir(dir) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            _ => break,
        }
    }
}

/// Removes the groups that killed processes of ours left in `parent`. The kernel keeps those with
/// anybody in them.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| {
            let (pid, _) = name.strip_prefix("cooper-")?.split_once('-')?;
            pid.parse::<u32>().ok()
        });
        if maker.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // It may be gone already, or somebody else's.
            let _ = fs::remove_dir(entry.path().join(FROZEN));
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn number_in(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
