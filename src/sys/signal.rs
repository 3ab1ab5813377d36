//! Signal masks, dispositions and signalfd, for processes that are about to become another.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::check;

fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the whole set it is given.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Blocks every signal that can be blocked on the calling thread (pthread_sigmask(3)).
pub fn block_all() -> io::Result<()> {
    set_mask(&full_set())
}

/// Blocks `signals` on the calling thread and on those it starts from now on, besides what is
/// blocked already (pthread_sigmask(3)). EINVAL for a number that is no signal.
pub fn block(signals: &[i32]) -> io::Result<()> {
    let set = set_of(signals)?;
    // SAFETY: `set` is an initialised set that outlives the call; no old set is asked for.
    let rc = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(rc))
    }
}

fn set_of(signals: &[i32]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set it is given.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for &signal in signals {
        // SAFETY: `set` is initialised; a number that is no signal is answered with EINVAL.
        check(i64::from(unsafe { libc::sigaddset(&mut set, signal) }))?;
    }
    Ok(set)
}

/// Lets every signal through again on the calling thread (pthread_sigmask(3)).
pub fn unblock_all() -> io::Result<()> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set it is given.
    let set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    set_mask(&set)
}

fn set_mask(set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is an initialised set that outlives the call; no old set is asked for.
    let rc = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set, std::ptr::null_mut()) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(rc))
    }
}

/// Gives every signal its default effect again (sigaction(2)): ignored ones would stay ignored
/// across exec. Signals that the C library keeps for itself are left alone.
pub fn default_all() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL installs no code of ours, so nothing can run in signal context. An
        // answer of EINVAL (SIGKILL, SIGSTOP, the C library's own) changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Gives SIGCHLD its default effect (sigaction(2)), so that ended children can be waited for.
pub fn default_for_children() {
    // SAFETY: SIG_DFL installs no code of ours; SIGCHLD is a valid signal.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// A descriptor that reports every signal sent to this process (signalfd(2)); the signals must
/// be blocked.
pub fn signalfd_all() -> io::Result<OwnedFd> {
    signalfd_of(&full_set())
}

/// A descriptor that reports `signals` (signalfd(2)), which must be blocked; reads of it do not
/// wait.
pub fn signalfd(signals: &[i32]) -> io::Result<OwnedFd> {
    signalfd_of(&set_of(signals)?)
}

fn signalfd_of(set: &libc::sigset_t) -> io::Result<OwnedFd> {
    // SAFETY: `set` is initialised and outlives the call.
    let fd = unsafe { libc::signalfd(-1, set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    check(i64::from(fd))?;
    // SAFETY: the kernel just made this descriptor, nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next pending signal's number from a [`signalfd`] or [`signalfd_all`] descriptor, `None` if there is none.
pub fn next_signal(from: &OwnedFd) -> io::Result<Option<i32>> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the buffer is writable for `size` bytes.
    let rc = unsafe { libc::read(from.as_raw_fd(), info.as_mut_ptr().cast(), size) };
    match check(rc as i64) {
        Ok(read) if read as usize == size => {
            // SAFETY: the kernel filled the whole structure, whose fields are all integers.
            let info = unsafe { info.assume_init() };
            Ok(i32::try_from(info.ssi_signo).ok())
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends signal `number` to `pid` (kill(2)); for numbers that rustix has no name for.
pub fn send(pid: i32, number: i32) -> io::Result<()> {
    // SAFETY: two integers.
    check(i64::from(unsafe { libc::kill(pid, number) })).map(drop)
}
