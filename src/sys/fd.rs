//! Descriptors that a process was born with.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use super::check;

static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes ownership of descriptor `number` (3 or higher), which this process inherited at its
/// start, and marks it close-on-exec (fcntl(2)).
///
/// EBADF if nothing is open there, EBUSY if it was taken before. Meant for the first
/// statements of a re-executed child, where the number was agreed with the parent.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    let mut taken = TAKEN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if number < 3 || taken.contains(&number) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: fcntl with F_SETFD reads two integers and no memory.
    check(i64::from(unsafe {
        libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC)
    }))?;
    taken.push(number);
    // SAFETY: the descriptor is open (fcntl said so), `taken` makes sure that this function
    // gives it away once, and by contract it came through exec, so no object of this program
    // owns it yet.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes `fd` descriptor 0, 1 or 2 as well (dup3(2) without close-on-exec).
///
/// # Panics
/// If `number` is not a standard stream.
pub fn become_stdio(fd: &OwnedFd, number: RawFd) -> io::Result<()> {
    assert!(
        (0..=2).contains(&number),
        "only the standard streams have fixed numbers"
    );
    // SAFETY: dup2 takes two integers. Whatever was at 0..=2 is owned by the process as a
    // whole, not by an object that would close it later.
    check(i64::from(unsafe { libc::dup2(fd.as_raw_fd(), number) })).map(drop)
}

/// Marks every descriptor from `first` up close-on-exec (close_range(2), Linux 5.11).
pub fn cloexec_from(first: u32) -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: three integers; the flag closes nothing now, so no owned descriptor dangles.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) }).map(drop)
}
