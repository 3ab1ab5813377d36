//! Volumes: directories that outlive containers, and what containers mount besides.
//!
//! ```text
//! volumes/<name>/
//!   volume.json   who made it when, labels; written once
//!   _data/        what containers see, or a link to a directory of the machine; empty for memory
//! ```
//!
//! A volume is made whole and renamed into place, and goes the same way. Whether it is in use is
//! what the containers' configs say. A new volume that is mounted where the image has a
//! directory gets a copy of that directory first, with owner and mode, as with docker. A volume
//! that is memory is a new file system in each container, so one container has it at a time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};
use serde::{Deserialize, Serialize};

use crate::layer::{
    Dir, EncodeOptions, Follow, Stack, Tree, TreeForm, TreePath, encode, flatten, write_tree,
};
use crate::sandbox::IdSwap;
use crate::store::{Store, is_container_name, nearest_names, random_id};

use super::container::{self, Container, now};
use super::copy;
use super::error::Error;
use super::events;
use super::files::{Subtree, open_dir};
use super::ids;
use super::memory::Memory;

/// What a container mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    /// A directory or file of the host.
    Bind(PathBuf),
    /// A volume; it is made if it is not there.
    Named(String),
    /// A volume of this container's own, gone with `rm -v` and `--rm`.
    Anonymous,
    /// Memory.
    Tmpfs(Memory),
}

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// What.
    pub source: VolumeSource,
    /// Absolute path in the container.
    pub target: PathBuf,
    /// Whether the container can only read it.
    pub read_only: bool,
    /// Whether a new volume stays empty.
    pub no_copy: bool,
    /// Whether the volume was made for this container alone.
    pub anonymous: bool,
    /// What of the volume is mounted, all of it by default. Links are followed inside.
    #[serde(default)]
    pub subpath: Option<PathBuf>,
    /// Options of the volume, if it has to be made.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Labels of the volume, if it has to be made.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What the volume is if it is memory.
    #[serde(default)]
    pub memory: Option<Memory>,
    /// Whether what the machine mounts below a path stays out.
    #[serde(default)]
    pub shallow: bool,
    /// Whether it is given to the container's user, with all that is in it.
    #[serde(default)]
    pub give: bool,
    /// Whether later mounts of the machine show up in it.
    #[serde(default)]
    pub follows: bool,
    /// Whether that holds both ways: mounts of the container show up on the machine, too.
    #[serde(default)]
    pub shares: bool,
}

impl VolumeMount {
    /// A mount that can be written.
    pub fn new(source: VolumeSource, target: impl Into<PathBuf>) -> Self {
        Self {
            source,
            target: target.into(),
            read_only: false,
            no_copy: false,
            anonymous: false,
            subpath: None,
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            memory: None,
            shallow: false,
            give: false,
            follows: false,
            shares: false,
        }
    }
}

/// A volume as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// When it was made, as RFC 3339.
    pub created: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it was made for one container.
    pub anonymous: bool,
    /// docker's options of the local driver, as they were given.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// What holds the files of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Medium {
    /// The store.
    Store,
    /// A directory of the machine.
    Directory(PathBuf),
    /// Memory, of one container while it runs.
    Memory(Memory),
}

/// What options of docker's local driver make a volume of. With `type=none` and `o=bind` it is the
/// directory `device`, with `type=tmpfs` memory, of which `o` says more.
fn medium(options: &BTreeMap<String, String>) -> Result<Medium, Error> {
    let wrong = |why: &str| Error::VolumeOptions {
        why: why.to_owned(),
    };
    if options.is_empty() {
        return Ok(Medium::Store);
    }
    let get = |key: &str| options.get(key).map(String::as_str);
    let kind = get("type").unwrap_or("none");
    let flags = get("o").unwrap_or_default().split(',');
    let is_bind = flags
        .into_iter()
        .any(|flag| matches!(flag, "bind" | "rbind"));
    match (kind, is_bind, get("device")) {
        ("tmpfs", _, _) => {
            let read = Memory::unrestricted().with(get("o").unwrap_or_default());
            read.map(Medium::Memory).map_err(|why| wrong(&why))
        }
        ("none" | "bind", true, Some(device)) if Path::new(device).is_absolute() => {
            let path = PathBuf::from(device);
            match path.is_dir() {
                true => Ok(Medium::Directory(path)),
                false => Err(Error::NoBindSource { path }),
            }
        }
        ("none" | "bind", true, _) => Err(wrong("`device` is to be the path of a directory")),
        ("none" | "bind", false, _) => Err(wrong("`o` is to hold `bind`")),
        (other, _, _) => Err(wrong(&format!(
            "`type={other}`: a volume is a directory of the machine (`type=none`, `o=bind`) or memory (`type=tmpfs`)"
        ))),
    }
}

/// Whether mounts below `path` can reach the machine: returns the mount that it lies on if that is
/// not shared.
pub(super) fn unshared(path: &Path) -> io::Result<Option<PathBuf>> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = rustix::fs::open(path, flags, Mode::empty())?;
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", found.as_raw_fd()))?;
    let id = about.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let id = id.map(str::trim);
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut lines = mounts.lines();
    let line = lines.find(|line| line.split(' ').next() == id);
    let mut fields = line.unwrap_or_default().split(' ').skip(4);
    let place = PathBuf::from(fields.next().unwrap_or("/"));
    let mut flags = fields.take_while(|field| *field != "-");
    let shared = flags.any(|flag| flag.starts_with("shared:"));
    Ok((!shared).then_some(place))
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        doing,
        path,
        source,
    }
}

fn dir(store: &Store, name: &str) -> PathBuf {
    store.root().join("volumes").join(name)
}

/// Where the files of a volume are.
pub fn data_dir(store: &Store, name: &str) -> PathBuf {
    dir(store, name).join("_data")
}

/// Finds a volume by its name.
pub fn find_volume(store: &Store, text: &str) -> Result<Volume, Error> {
    match load(store, text)? {
        Some(volume) => Ok(volume),
        None => {
            let all = list_volumes(store)?;
            Err(Error::NoVolume {
                text: text.to_owned(),
                nearest: nearest_names(text, all.iter().map(|volume| volume.name.as_str())),
            })
        }
    }
}

fn load(store: &Store, name: &str) -> Result<Option<Volume>, Error> {
    if !is_container_name(name) {
        return Ok(None);
    }
    let path = dir(store, name).join("volume.json");
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => {
            let bytes = read.map_err(io_error("read", &path))?;
            let volume = serde_json::from_slice(&bytes);
            volume
                .map(Some)
                .map_err(|e| io_error("read", &path)(e.into()))
        }
    }
}

/// Lists all volumes by name.
pub fn list_volumes(store: &Store) -> Result<Vec<Volume>, Error> {
    let path = store.root().join("volumes");
    let mut names = Vec::new();
    match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries.map_err(io_error("list", &path))? {
                let entry = entry.map_err(io_error("list", &path))?;
                names.extend(entry.file_name().into_string());
            }
        }
    }
    names.sort();
    let volumes = names.iter().map(|name| load(store, name));
    volumes.filter_map(Result::transpose).collect()
}

/// Makes a volume with docker's options of the local driver; one of that name that is there
/// already stays as it is. Returns whether it is
/// new. Without a name it gets one of 64 random hex digits.
pub fn create_volume(
    store: &Store,
    wanted: Option<&str>,
    labels: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
) -> Result<(Volume, bool), Error> {
    let random = || random_id().map_err(io_error("make a name for", Path::new("a volume")));
    let name = wanted.map_or_else(random, |name| Ok(name.to_owned()))?;
    if !is_container_name(&name) {
        return Err(Error::BadVolumeName { name });
    }
    if let Some(volume) = load(store, &name)? {
        return Ok((volume, false));
    }
    let volume = Volume {
        anonymous: wanted.is_none(),
        created: now(),
        labels,
        name,
        options,
    };
    let medium = medium(&volume.options)?;
    let scratch = store.scratch()?;
    let made = scratch.path().join("volume");
    let write = || -> io::Result<()> {
        fs::create_dir_all(&made)?;
        match &medium {
            Medium::Directory(device) => std::os::unix::fs::symlink(device, made.join("_data"))?,
            // For memory it stays empty.
            Medium::Store | Medium::Memory(_) => {
                fs::create_dir(made.join("_data"))?;
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                fs::set_permissions(made.join("_data"), mode)?;
            }
        }
        fs::write(made.join("volume.json"), serde_json::to_vec(&volume)?)?;
        fs::create_dir_all(store.root().join("volumes"))
    };
    write().map_err(io_error("write", &made))?;
    let path = dir(store, &volume.name);
    let at = rustix::fs::CWD;
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    match rustix::fs::renameat_with(at, &made, at, &path, flags) {
        Ok(()) => {
            events::emit_volume(store.root(), "create", &volume.name);
            Ok((volume, true))
        }
        // Somebody was faster.
        Err(rustix::io::Errno::EXIST) => Ok((volume, false)),
        Err(errno) => Err(io_error("make", &path)(errno.into())),
    }
}

/// Returns the names of the containers that mount a volume.
pub fn users_of_volume(store: &Store, name: &str) -> Result<Vec<String>, Error> {
    let all = container::list(store)?.into_iter();
    let users = all.filter(|(container, _)| uses(container, name));
    Ok(users.map(|(container, _)| container.config.name).collect())
}

/// Removes a volume and what is in it; one that a container mounts is an error.
pub fn remove_volume(store: &Store, name: &str) -> Result<(), Error> {
    let users = users_of_volume(store, name)?;
    if !users.is_empty() {
        return Err(Error::VolumeInUse {
            name: name.to_owned(),
            users,
        });
    }
    erase(store, name)
}

/// Refuses a volume that is memory: outside of its container it has no files.
fn refuse_memory(volume: &Volume) -> Result<(), Error> {
    match medium(&volume.options) {
        Ok(Medium::Memory(_)) => Err(Error::VolumeInMemory {
            name: volume.name.clone(),
        }),
        _ => Ok(()),
    }
}

/// Writes the files of a volume as a tar.
pub fn export_volume(store: &Store, volume: &Volume, out: &mut dyn io::Write) -> Result<(), Error> {
    refuse_memory(volume)?;
    let path = data_dir(store, &volume.name);
    let dir = open_dir(&path).map_err(|errno| io_error("open", &path)(errno.into()))?;
    let tree = Dir::new(Arc::new(dir));
    encode(&flatten(&tree)?, &EncodeOptions::default(), out)?;
    Ok(())
}

/// Puts the files of a tar into a volume.
pub fn import_volume(store: &Store, volume: &Volume, from: &mut dyn io::Read) -> Result<(), Error> {
    refuse_memory(volume)?;
    let tar = copy::take_tar(from, store)?;
    tar.put_contents(&copy::Place::here(), &data_dir(store, &volume.name))
}

/// Opens the directory of the machine that a container mounts, if it is one.
pub(super) fn open_source(store: &Store, mount: &VolumeMount) -> Option<OwnedFd> {
    let source = match &mount.source {
        VolumeSource::Bind(path) => path.clone(),
        VolumeSource::Named(name) if mount.memory.is_none() => data_dir(store, name),
        VolumeSource::Named(_) | VolumeSource::Anonymous | VolumeSource::Tmpfs(_) => return None,
    };
    let top = open_dir(&source).ok()?;
    let Some(path) = &mount.subpath else {
        return Some(top);
    };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(&top, path, flags, Mode::empty(), resolve).ok()
}

/// Refuses to start the container `own` beside another one that has the memory of one of its
/// volumes: they would not see the same files. Its lock is held, so that of two that start at
/// once one sees the other.
pub(super) fn check_memory(store: &Store, own: &str, mounts: &[VolumeMount]) -> Result<(), Error> {
    let names = mounts.iter().filter(|mount| mount.memory.is_some());
    let names = names.filter_map(|mount| match &mount.source {
        VolumeSource::Named(name) => Some(name),
        _ => None,
    });
    for name in names {
        for (other, _) in container::list(store)? {
            if other.id != own && uses(&other, name) && is_up_or_starts(&other)? {
                return Err(Error::VolumeMemoryTaken {
                    name: name.clone(),
                    by: other.config.name,
                });
            }
        }
    }
    Ok(())
}

fn uses(container: &Container, volume: &str) -> bool {
    let mut mounts = container.config.mounts.iter();
    mounts.any(|mount| matches!(&mount.source, VolumeSource::Named(name) if name == volume))
}

/// Whether it runs, or is about to: whoever only looks at one that does not has its lock for a
/// moment only.
fn is_up_or_starts(container: &Container) -> Result<bool, Error> {
    let until = Instant::now() + Duration::from_secs(2);
    loop {
        // One that was removed meanwhile does not run.
        let up = container.state().is_ok_and(|state| state.status.is_up());
        if up || !container.exists() || !container.runs()? {
            return Ok(up);
        }
        if Instant::now() > until {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Takes back the volumes that were made for a container alone which then was not made.
pub(super) fn take_back(store: &Store, mounts: &[VolumeMount]) {
    for mount in mounts.iter().filter(|mount| mount.anonymous) {
        if let VolumeSource::Named(name) = &mount.source {
            // What was in the container's way is what the caller is told.
            let _ = erase(store, name);
        }
    }
}

/// Removes a volume whatever uses it.
pub(super) fn erase(store: &Store, name: &str) -> Result<(), Error> {
    let path = dir(store, name);
    let scratch = store.scratch()?;
    match fs::rename(&path, scratch.path().join("removed")) {
        Ok(()) => events::emit_volume(store.root(), "destroy", name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("remove", &path)(error)),
    }
    Ok(())
}

/// Decides what a new container mounts: what was asked for, and a volume for each path that the
/// image declares and nothing else covers.
pub(super) fn wanted<'i>(
    asked: &[VolumeMount],
    declared: impl Iterator<Item = &'i String>,
) -> Vec<VolumeMount> {
    let mut mounts = asked.to_vec();
    for path in declared {
        let target = Path::new("/").join(path);
        if !mounts.iter().any(|mount| mount.target == target) {
            mounts.push(VolumeMount::new(VolumeSource::Anonymous, target));
        }
    }
    mounts
}

/// Makes the volumes that `mounts` name and are not there; anonymous ones get their names.
/// `image` gives the image's files when they are needed, of which owners are written as `ids` say.
pub(super) fn make(
    store: &Store,
    mounts: &mut [VolumeMount],
    ids: Option<IdSwap>,
    image: &dyn Fn() -> Result<Stack, Error>,
) -> Result<(), Error> {
    // What can't be is found before anything is made.
    for mount in mounts.iter() {
        if let VolumeSource::Bind(path) = &mount.source
            && !path.exists()
        {
            return Err(Error::NoBindSource { path: path.clone() });
        }
    }
    for mount in mounts {
        let wanted = match &mount.source {
            VolumeSource::Named(name) => Some(name.clone()),
            VolumeSource::Anonymous => None,
            VolumeSource::Bind(_) | VolumeSource::Tmpfs(_) => continue,
        };
        let (volume, new) = create_volume(
            store,
            wanted.as_deref(),
            mount.labels.clone(),
            mount.options.clone(),
        )?;
        mount.anonymous = wanted.is_none();
        mount.source = VolumeSource::Named(volume.name.clone());
        if let Ok(Medium::Memory(memory)) = medium(&volume.options) {
            if mount.subpath.is_some() {
                return Err(Error::VolumeInMemory { name: volume.name });
            }
            mount.memory = Some(memory);
            continue;
        }
        let data = data_dir(store, &volume.name);
        let empty = || is_empty(&data).map_err(io_error("list", &data));
        if !mount.no_copy && (new || empty()?) {
            let owners = Owners {
                one: store.remembers_owners(),
                ids,
            };
            fill(&data, &mount.target, &image()?, owners)?;
        }
    }
    Ok(())
}

fn is_empty(dir: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(dir)?.next().is_none())
}

/// How the owners of an image's files are written.
#[derive(Debug, Clone, Copy)]
struct Owners {
    /// There is one id, so no other owner is to be had.
    one: bool,
    /// The ids that change places.
    ids: Option<IdSwap>,
}

/// Copies what the image has at `target` into a new volume.
fn fill(data: &Path, target: &Path, image: &Stack, owners: Owners) -> Result<(), Error> {
    use std::os::unix::ffi::OsStrExt;
    let Some(path) = TreePath::clean(target.as_os_str().as_bytes()) else {
        return Ok(());
    };
    let resolved = image.resolve(&path, Follow::Last)?;
    let Some(node) = resolved.exists.filter(|node| node.kind.is_dir()) else {
        return Ok(());
    };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let failed = |errno: rustix::io::Errno| io_error("fill the volume", data)(errno.into());
    let into: OwnedFd = rustix::fs::open(data, flags, Mode::empty()).map_err(failed)?;
    let subtree = Subtree::new(image, resolved.path);
    let mut changes = flatten(&subtree)?;
    ids::translate(owners.ids, &mut changes);
    write_tree(&changes, into.as_fd(), TreeForm::Plain, None)?;
    if !owners.one {
        let ids = owners.ids.unwrap_or_default();
        let (uid, gid) = ids.owner((node.meta.uid, node.meta.gid));
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::fchown(&into, Some(uid), Some(gid)).map_err(failed)?;
    }
    rustix::fs::fchmod(&into, Mode::from_raw_mode(node.meta.mode)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_volumes_give_way_to_what_is_asked_for() {
        let asked = [VolumeMount::new(VolumeSource::Named("v".into()), "/data")];
        let declared = ["/data".to_owned(), "/var/log".to_owned()];
        let mounts = wanted(&asked, declared.iter());
        let shown: Vec<_> = mounts
            .iter()
            .map(|mount| (mount.target.to_str().unwrap(), &mount.source))
            .collect();
        assert_eq!(
            shown,
            [
                ("/data", &VolumeSource::Named("v".into())),
                ("/var/log", &VolumeSource::Anonymous)
            ]
        );
    }
}
