//! Restricting this process by its own will (landlock(7)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

/// `struct landlock_ruleset_attr` as of ABI 6 (Linux 6.12).
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
const SCOPE_SIGNAL: u64 = 2;

/// Makes a ruleset under which signals and abstract sockets reach only processes under the same
/// ruleset (landlock_create_ruleset(2)). ENOSYS, EOPNOTSUPP, EINVAL or E2BIG where the kernel
/// can't.
pub fn scope() -> io::Result<OwnedFd> {
    let rules = Ruleset {
        handled_access_fs: 0,
        handled_access_net: 0,
        scoped: SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL,
    };
    let (size, flags) = (size_of::<Ruleset>(), 0);
    // SAFETY: the kernel reads `size` bytes through the pointer, and writes nothing.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const rules,
            size,
            flags,
        )
    })?;
    // SAFETY: the call succeeded, so this is a new descriptor that is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Puts this thread and whatever it starts under `ruleset` (landlock_restrict_self(2)). EPERM
/// unless `no_new_privs` is set or the caller has CAP_SYS_ADMIN.
pub fn restrict(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    let (fd, flags) = (ruleset.as_raw_fd(), 0);
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, fd, flags) }).map(drop)
}
