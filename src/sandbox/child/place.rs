//! Names inside the root become descriptors, and missing ones are made.
//!
//! What exists is opened by the kernel in one call that can't leave the root (openat2,
//! RESOLVE_IN_ROOT, no magic links). What is missing is walked to one component at a time on
//! held descriptors: links are read and followed as text inside the root, `..` goes back to the
//! descriptor it came from, and each new directory is opened again without following. So a
//! racing rename can send us to another place inside, never outside.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, Stat, StatxFlags,
};
use rustix::io::Errno;

use super::super::error::{Failure, Stage};
use super::super::plan::{Plan, Rootfs, WorkDir};
use super::super::stubs::{self, Kind, Stub, Stubs};
use super::At;
use super::root::Root;

/// What a missing mount point becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Directory,
    File,
}

impl Want {
    /// The kind of mount point that `stat` can be mounted on.
    pub(super) fn like(stat: &Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Self::Directory,
            _ => Self::File,
        }
    }
}

/// Symbolic links followed before giving up, as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// A directory on the way down, by the name it has in the one above.
struct Level {
    name: OsString,
    fd: OwnedFd,
}

/// Opens `path` inside `root` without leaving it.
///
/// The kernel answers EAGAIN when a `..` met a rename or mount anywhere on the machine and asks
/// to be asked again (openat2(2)); on a busy machine that takes a few times.
pub(super) fn open_inside(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    const ATTEMPTS: usize = 1000;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC;
    let mut answer = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        answer = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
        if !matches!(answer, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    answer
}

/// Where mounts go, and what had to be made for them.
pub(super) struct Places {
    root: OwnedFd,
    mount_id: u64,
    /// The upper directory, if what is created there was perhaps copied up.
    upper: Option<PathBuf>,
    made: Vec<(Stub, OwnedFd)>,
}

impl Places {
    pub(super) fn new(root: &Root, plan: &Plan) -> Result<Self, Failure> {
        let upper = match &plan.rootfs {
            Rootfs::Overlay(overlay) if !overlay.lowers.is_empty() => Some(overlay.upper.clone()),
            _ => None,
        };
        let fd = root.fd.try_clone().at(Stage::Root, "/")?;
        let mount_id = mount_id(&fd).at(Stage::Root, "/")?;
        Ok(Self {
            root: fd,
            mount_id,
            upper,
            made: Vec::new(),
        })
    }

    /// The directory `name` right below the root, made if missing; never through a link.
    pub(super) fn system_directory(&mut self, name: &str) -> Result<OwnedFd, Failure> {
        let path = Path::new("/").join(name);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.root, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => self.find_or_make(&path, Want::Directory),
            found => found.at(Stage::MountPoint, path),
        }
    }

    /// A descriptor of `target`, made as `want` if missing. Nothing on a procfs will do.
    pub(super) fn find_or_make(&mut self, target: &Path, want: Want) -> Result<OwnedFd, Failure> {
        let found = match open_inside(&self.root, target, OFlags::PATH) {
            Err(Errno::NOENT) => {
                let root = self.root.try_clone().at(Stage::MountPoint, target)?;
                walk(&root, target, want, Some(self)).at(Stage::MountPoint, target)?
            }
            found => found.at(Stage::MountPoint, target)?,
        };
        match on_procfs(&found).at(Stage::MountPoint, target)? {
            true => Err(Failure::setup(Stage::MountPoint, target, Errno::ACCESS)),
            false => Ok(found),
        }
    }

    /// What was made, with the change times it has now that all is in place.
    pub(super) fn finish(self) -> Result<Stubs, Failure> {
        let stubs = self.made.into_iter().map(|(mut stub, fd)| {
            let path: PathBuf = stub.names.iter().collect();
            stub.changed = stubs::changed(&rustix::fs::fstat(fd).at(Stage::MountPoint, path)?);
            Ok(stub)
        });
        stubs.collect::<Result<_, _>>().map(Stubs)
    }

    /// Remembers the directory `levels` lead to, before something is created in it.
    fn before_making(&mut self, levels: &[Level]) -> Result<(), Errno> {
        let inside = levels.last().map_or(&self.root, |level| &level.fd);
        if mount_id(inside)? != self.mount_id {
            return Ok(());
        }
        for depth in 0..=levels.len() {
            let names: Vec<OsString> = levels[..depth].iter().map(|l| l.name.clone()).collect();
            if self.made.iter().any(|(stub, _)| stub.names == names) {
                continue;
            }
            let copied_up = match &self.upper {
                Some(upper) => !stubs::exists_below(upper, &names).map_err(errno)?,
                None => false,
            };
            if depth < levels.len() && !copied_up {
                continue;
            }
            let fd = depth
                .checked_sub(1)
                .map_or(&self.root, |above| &levels[above].fd);
            let stat = rustix::fs::fstat(fd)?;
            let kind = Kind::Parent {
                accessed: (stat.st_atime, stat.st_atime_nsec as i64),
                modified: (stat.st_mtime, stat.st_mtime_nsec as i64),
                copied_up,
            };
            let fd = rustix::io::fcntl_dupfd_cloexec(fd, 3)?;
            self.made.push((
                Stub {
                    names,
                    kind,
                    changed: (0, 0),
                },
                fd,
            ));
        }
        Ok(())
    }

    fn after_making(
        &mut self,
        levels: &[Level],
        new: &OwnedFd,
        name: &OsStr,
        want: Want,
    ) -> Result<(), Errno> {
        if mount_id(new)? != self.mount_id {
            return Ok(());
        }
        let kind = match want {
            Want::Directory => Kind::Directory,
            Want::File => Kind::File,
        };
        let mut names: Vec<OsString> = levels.iter().map(|level| level.name.clone()).collect();
        names.push(name.to_owned());
        let fd = rustix::io::fcntl_dupfd_cloexec(new, 3)?;
        self.made.push((
            Stub {
                names,
                kind,
                changed: (0, 0),
            },
            fd,
        ));
        Ok(())
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn mount_id(fd: &OwnedFd) -> Result<u64, Errno> {
    Ok(rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}

fn on_procfs(fd: &OwnedFd) -> Result<bool, Errno> {
    Ok(rustix::fs::fstatfs(fd)?.f_type == PROC_SUPER_MAGIC)
}

/// Goes to `path` inside `root`, making what is missing: directories, and `want` at the end.
fn walk(
    root: &OwnedFd,
    path: &Path,
    want: Want,
    mut places: Option<&mut Places>,
) -> Result<OwnedFd, Errno> {
    let mut levels: Vec<Level> = Vec::new();
    let mut ahead: VecDeque<OsString> = VecDeque::new();
    put_in_front(&mut ahead, path);
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            levels.pop();
            continue;
        }
        let here = levels.last().map_or(root, |level| &level.fd);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(here, &name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                let want = if ahead.is_empty() {
                    want
                } else {
                    Want::Directory
                };
                if let Some(places) = places.as_deref_mut() {
                    places.before_making(&levels)?;
                }
                let (new, ours) = create(here, &name, want)?;
                if ours && let Some(places) = places.as_deref_mut() {
                    places.after_making(&levels, &new, &name, want)?;
                }
                new
            }
            found => found?,
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        match kind {
            FileType::Symlink => {
                links += 1;
                let text = read_link(&fd, links)?;
                if text.is_absolute() {
                    levels.clear();
                }
                put_in_front(&mut ahead, &text);
            }
            FileType::Directory => levels.push(Level { name, fd }),
            _ if ahead.is_empty() => return Ok(fd),
            _ => return Err(Errno::NOTDIR),
        }
    }
    match levels.pop() {
        Some(level) => Ok(level.fd),
        None => rustix::io::fcntl_dupfd_cloexec(root, 3),
    }
}

/// The text of the `count`th link on a way. Links on a procfs may be magic: their text is not
/// where they lead.
fn read_link(link: &OwnedFd, count: usize) -> Result<PathBuf, Errno> {
    if count > MAX_LINKS || on_procfs(link)? {
        return Err(Errno::LOOP);
    }
    let text = rustix::fs::readlinkat(link, "", Vec::new())?.into_bytes();
    Ok(PathBuf::from(OsString::from_vec(text)))
}

fn put_in_front(ahead: &mut VecDeque<OsString>, path: &Path) {
    let names: Vec<&OsStr> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            Component::ParentDir => Some(OsStr::new("..")),
            _ => None,
        })
        .collect();
    for name in names.into_iter().rev() {
        ahead.push_front(name.to_owned());
    }
}

/// Makes `name` in `dir` and opens it; says whether it was us, for on a directory that is
/// shared somebody else may be faster.
fn create(dir: &OwnedFd, name: &OsStr, want: Want) -> Result<(OwnedFd, bool), Errno> {
    let made = match want {
        Want::Directory => rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        Want::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    let ours = match made {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno),
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok((rustix::fs::openat(dir, name, flags, Mode::empty())?, ours))
}

/// Opens the working directory in the root that is `/` by now, and makes it if the plan says
/// so. `/proc/self/fd/7` and its like are refused (CVE-2024-21626).
pub(super) fn working_directory(cwd: &WorkDir) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let root = rustix::fs::open("/", flags | OFlags::CLOEXEC, Mode::empty());
    let root = root.at(Stage::WorkDir, "/")?;
    match open_inside(&root, &cwd.path, flags) {
        Err(Errno::NOENT) if cwd.create => {
            walk(&root, &cwd.path, Want::Directory, None).at(Stage::WorkDir, &cwd.path)
        }
        found => found.at(Stage::WorkDir, &cwd.path),
    }
}

/// Whether the process now stands somewhere below its own `/`.
pub(super) fn stands_inside() -> Result<bool, Errno> {
    // The kernel writes "(unreachable)" in front of a directory that is not below the root.
    let cwd = rustix::process::getcwd(Vec::new())?;
    Ok(OsStr::from_bytes(cwd.to_bytes())
        .as_bytes()
        .starts_with(b"/"))
}
