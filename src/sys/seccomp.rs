//! Installing system call filters.

use std::io;

use super::check;

/// One instruction of a filter, as the kernel takes it.
pub type Instruction = libc::sock_filter;

/// Installs `program` on this thread and on whatever it executes (seccomp(2),
/// SECCOMP_SET_MODE_FILTER).
///
/// EACCES unless `no_new_privs` is set or the caller has CAP_SYS_ADMIN in its user namespace;
/// EINVAL for a program the kernel's verifier refuses or one longer than 4096 instructions.
pub fn install(program: &[Instruction]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let filter = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, 0);
    // SAFETY: `filter` borrows `program` for the whole call; the kernel copies the
    // instructions and writes nothing through the pointer.
    check(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const filter) }).map(drop)
}

/// Whether the kernel can ask another process about a call (seccomp(2),
/// SECCOMP_GET_ACTION_AVAIL with SECCOMP_RET_USER_NOTIF): ok, or its refusal.
pub fn has_notify() -> io::Result<()> {
    let action: u32 = libc::SECCOMP_RET_USER_NOTIF;
    let (question, flags) = (libc::SECCOMP_GET_ACTION_AVAIL, 0);
    // SAFETY: the kernel reads one u32 through the pointer, and writes nothing.
    check(unsafe { libc::syscall(libc::SYS_seccomp, question, flags, &raw const action) }).map(drop)
}
