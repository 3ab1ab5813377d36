//! `/proc`, `/sys` and `/dev`, what is hidden in them, and the terminal.
//!
//! All that is hidden is reached below the descriptors of the file systems mounted here, so no
//! link, volume or race of an image can send a mask elsewhere (CVE-2025-31133,
//! CVE-2025-52565, CVE-2025-52881).

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::pty::OpenptFlags;

use crate::sys::mount::{Attributes, NODEV, NOEXEC, NOSUID, RDONLY, set_attributes};

use super::super::error::{Failure, Stage};
use super::super::plan::{Plan, WindowSize};
use super::super::report::Note;
use super::super::tty::set_window_size;
use super::At;
use super::devices::{self, Devices};
use super::place::{Places, open_inside};
use super::root::{Root, attach, copy, make};

const INERT: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// `CGROUP2_SUPER_MAGIC` of statfs(2).
const CGROUP2: rustix::fs::FsWord = 0x6367_7270;

/// The kernel's own file systems, by descriptor.
pub(super) struct System {
    proc: OwnedFd,
    sys: OwnedFd,
    devices: Devices,
}

/// Step 4 of the order.
pub(super) fn mount(
    plan: &Plan,
    places: &mut Places,
    notes: &mut Vec<Note>,
) -> Result<System, Failure> {
    let place = places.system_directory("proc")?;
    let proc = match make("proc", &[], INERT) {
        Err(Errno::PERM) => {
            notes.push(Note::OuterProc);
            copy(CWD, "/proc", true)
        }
        made => made,
    };
    let proc = proc.at(Stage::Mount, "/proc")?;
    attach(&proc, &place).at(Stage::Mount, "/proc")?;
    let place = places.system_directory("dev")?;
    let devices = devices::mount(&place, plan.shm_size)?;
    let place = places.system_directory("sys")?;
    let sys = mount_sys(&place, notes).at(Stage::Mount, "/sys")?;
    Ok(System { proc, sys, devices })
}

/// Fresh where the network namespace is ours, else the caller's, read-only either way.
fn mount_sys(place: &OwnedFd, notes: &mut Vec<Note>) -> std::io::Result<OwnedFd> {
    let read_only = INERT | MountAttrFlags::MOUNT_ATTR_RDONLY;
    match make("sysfs", &[], read_only) {
        Ok(sys) => {
            attach(&sys, place)?;
            mount_cgroups(&sys)?;
            Ok(sys)
        }
        Err(Errno::PERM) => {
            notes.push(Note::OuterSys);
            let sys = copy(CWD, "/sys", true)?;
            let set = RDONLY | NOSUID | NODEV | NOEXEC;
            set_attributes(
                &sys,
                Attributes {
                    set,
                    private: true,
                    recursive: true,
                },
            )?;
            attach(&sys, place)?;
            Ok(sys)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// The unified hierarchy, seen from our own cgroup namespace, where the host has it. With the
/// old controllers `/sys/fs/cgroup` stays the empty directory it is.
fn mount_cgroups(sys: &OwnedFd) -> Result<(), Errno> {
    let host = rustix::fs::statfs("/sys/fs/cgroup");
    if !host.is_ok_and(|host| host.f_type == CGROUP2) {
        return Ok(());
    }
    let groups = match make("cgroup2", &[], INERT | MountAttrFlags::MOUNT_ATTR_RDONLY) {
        // Not allowed to a nested namespace: then there is none to see.
        Err(Errno::PERM | Errno::BUSY) => return Ok(()),
        made => made?,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = rustix::fs::openat(sys, "fs/cgroup", flags, Mode::empty())?;
    attach(&groups, &place)
}

/// Both ends of a terminal.
pub(super) struct Terminal {
    pub(super) master: OwnedFd,
    pub(super) slave: OwnedFd,
}

impl System {
    /// Step 6 of the order.
    pub(super) fn hide(&self, plan: &Plan, root: &Root) -> Result<(), Failure> {
        for (name, value) in &plan.sysctls {
            self.set(name, value).at(Stage::Sysctl, name)?;
        }
        for path in &plan.read_only_paths {
            if let Some(place) = self.open(path, root).at(Stage::ReadOnly, path)? {
                make_read_only(&place).at(Stage::ReadOnly, path)?;
            }
        }
        for path in &plan.masked_paths {
            if let Some(place) = self.open(path, root).at(Stage::Mask, path)? {
                self.mask(&place, root).at(Stage::Mask, path)?;
            }
        }
        Ok(())
    }

    /// Changes a kernel setting, while `/proc/sys` can be written.
    fn set(&self, name: &str, value: &str) -> Result<(), Errno> {
        let path = Path::new("sys").join(name.replace('.', "/"));
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&self.proc, path, flags, Mode::empty(), resolve)?;
        // One write(2): the kernel reads them so.
        rustix::io::write(&file, value.as_bytes()).map(drop)
    }

    /// `path` below our own `/proc` or `/sys`, or else inside the root; `None` if absent.
    fn open(&self, path: &Path, root: &Root) -> Result<Option<OwnedFd>, Errno> {
        let own = [("/proc", &self.proc), ("/sys", &self.sys)];
        let below = own.iter().find_map(|(top, fd)| {
            path.strip_prefix(top)
                .ok()
                .filter(|rest| rest.components().count() > 0)
                .map(|p| (fd, p))
        });
        let found = match below {
            Some((fd, rest)) => {
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                rustix::fs::openat2(fd, rest, flags, Mode::empty(), resolve)
            }
            None => open_inside(&root.fd, path, OFlags::PATH),
        };
        match found {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn mask(&self, place: &OwnedFd, root: &Root) -> std::io::Result<()> {
        let mode = rustix::fs::fstat(place)?.st_mode;
        let cover = if FileType::from_raw_mode(mode) == FileType::Directory {
            let empty = copy(&root.scratch, "empty", false)?;
            set_attributes(
                &empty,
                Attributes {
                    set: RDONLY,
                    ..Attributes::default()
                },
            )?;
            empty
        } else {
            devices::null(&self.devices.fd)?
        };
        Ok(attach(&cover, place)?)
    }

    /// A terminal of our own devpts, which is also `/dev/console`.
    pub(super) fn terminal(&self, size: WindowSize) -> Result<Terminal, Failure> {
        self.open_terminal(size).at(Stage::Terminal, "/dev/pts")
    }

    fn open_terminal(&self, size: WindowSize) -> std::io::Result<Terminal> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = rustix::fs::openat(&self.devices.terminals, "ptmx", flags, Mode::empty())?;
        rustix::pty::unlockpt(&master)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        set_window_size(&slave, size)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?.into_string();
        let name = name.map(PathBuf::from).unwrap_or_default();
        let name = name.file_name().ok_or(Errno::NOTTY)?;
        let console = devices::new_file(&self.devices.fd, "console")?;
        attach(&copy(&self.devices.terminals, name, false)?, &console)?;
        Ok(Terminal { master, slave })
    }
}

fn make_read_only(place: &OwnedFd) -> std::io::Result<()> {
    let same = copy(place, "", true)?;
    let what = Attributes {
        set: RDONLY,
        private: false,
        recursive: true,
    };
    set_attributes(&same, what)?;
    Ok(attach(&same, place)?)
}
