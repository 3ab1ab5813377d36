//! mount_setattr, which rustix lacks.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::check;

/// Attributes to set on a mount, and those to clear (mount_setattr(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// Whether the mount's propagation becomes private.
    pub private: bool,
    /// Whether everything below is changed too.
    pub recursive: bool,
}

/// `MOUNT_ATTR_RDONLY`
pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// `MOUNT_ATTR_NOSUID`
pub const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// `MOUNT_ATTR_NODEV`
pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
/// `MOUNT_ATTR_NOEXEC`
pub const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

/// Changes the mount that `mount` is the root of (mount_setattr(2), Linux 5.12).
pub fn set_attributes(mount: impl AsFd, what: Attributes) -> io::Result<()> {
    const PRIVATE: u64 = 1 << 18; // MS_PRIVATE, whose type differs between architectures
    let propagation = if what.private { PRIVATE } else { 0 };
    let attr = libc::mount_attr {
        attr_set: what.set,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    let recursive = if what.recursive {
        libc::AT_RECURSIVE
    } else {
        0
    };
    let flags = libc::AT_EMPTY_PATH | recursive;
    let fd = mount.as_fd().as_raw_fd();
    // SAFETY: the path is an empty C string, `attr` is initialised and its true size is
    // passed; both outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}
