//! Making processes: from threads by clone and exec at once, from a single thread by fork.

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::check;

/// A program to start in new namespaces.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The executable; any open descriptor of it, `O_PATH` included.
    pub exe: BorrowedFd<'a>,
    /// Arguments from `argv[0]` on.
    pub argv: &'a [CString],
    /// The child's descriptors 0, 1, 2…; it gets no other.
    pub fds: &'a [BorrowedFd<'a>],
    /// `CLONE_NEW*` flags of clone(2).
    pub namespaces: c_int,
}

/// Everything the child needs, laid out before it exists: it may not allocate.
struct Birth {
    argv: Vec<*const libc::c_char>,
    env: [*const libc::c_char; 1],
    exe: RawFd,
    sources: Vec<RawFd>,
    errno: c_int,
}

const STACK: usize = 64 << 10;

/// Starts `what` with an empty environment and returns its pid and pidfd.
///
/// One clone(2) with CLONE_VM, CLONE_VFORK and CLONE_PIDFD and one execveat(2): the child
/// borrows the caller's memory until it executes, so the cost doesn't grow with the caller
/// and no lock can be left behind half-held. The caller must have blocked all signals on this
/// thread ([`super::signal::block_all`]), else a handler could run in the borrowed memory; the
/// child starts with them blocked. The error is that of clone or of execveat.
pub fn spawn(what: &Spawn<'_>) -> io::Result<(i32, OwnedFd)> {
    let mut birth = Birth {
        argv: what
            .argv
            .iter()
            .map(|arg| arg.as_ptr())
            .chain([std::ptr::null()])
            .collect(),
        env: [std::ptr::null()],
        exe: what.exe.as_raw_fd(),
        sources: what.fds.iter().map(AsRawFd::as_raw_fd).collect(),
        errno: 0,
    };
    let mut stack = vec![0_u128; STACK / size_of::<u128>()];
    let mut pidfd: c_int = -1;
    let flags =
        libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD | what.namespaces;
    // SAFETY: `top` is the aligned end of a buffer that is far larger than what `born` uses
    // and that lives until this function returns; CLONE_VFORK keeps this thread stopped until
    // the child has left the shared memory by exec or _exit. `born` only makes system calls
    // on memory laid out in `birth`, which is not moved or touched meanwhile. CLONE_PIDFD
    // stores one int through its pointer.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast::<c_void>();
        let birth = (&raw mut birth).cast::<c_void>();
        libc::clone(born, top, flags, birth, &raw mut pidfd)
    };
    check(i64::from(pid))?;
    // SAFETY: clone succeeded, so the kernel put a new descriptor there that is ours.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // SAFETY: a plain read of an initialised field; volatile because another process wrote it.
    let errno = unsafe { (&raw const birth.errno).read_volatile() };
    drop(stack);
    if errno == 0 {
        return Ok((pid, pidfd));
    }
    // The child only lived to say why; take its remains, the answer about it is known.
    let _ = rustix::process::waitid(
        rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)),
        rustix::process::WaitIdOptions::EXITED,
    );
    Err(io::Error::from_raw_os_error(errno))
}

/// The child of [`spawn`], in its parent's memory: system calls only, no allocation, no
/// unwinding, no return.
extern "C" fn born(birth: *mut c_void) -> c_int {
    // SAFETY: `spawn` passed a `Birth` that outlives this process's use of it and that nobody
    // else touches meanwhile. Slices are indexed within their lengths. _exit ends only this
    // process.
    unsafe {
        let birth = &mut *birth.cast::<Birth>();
        if let Err(errno) = arrange(birth) {
            birth.errno = errno;
        } else {
            let exe = birth.sources.len() as c_int;
            libc::syscall(
                libc::SYS_execveat,
                exe,
                c"".as_ptr(),
                birth.argv.as_ptr(),
                birth.env.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
            birth.errno = *libc::__errno_location();
        }
        libc::_exit(127)
    }
}

/// Puts the sources on 0.., the executable behind them, and closes the rest.
///
/// # Safety
/// Only in the child of [`spawn`]: it closes descriptors by number.
unsafe fn arrange(birth: &mut Birth) -> Result<(), c_int> {
    // SAFETY: integers in, integers out; the descriptor table is the child's own copy.
    unsafe {
        let errno = |rc: c_int| {
            if rc < 0 {
                Err(*libc::__errno_location())
            } else {
                Ok(rc)
            }
        };
        let count = birth.sources.len() as c_int;
        // First out of the way of the numbers to come, then down to them.
        for source in &mut birth.sources {
            *source = errno(libc::fcntl(*source, libc::F_DUPFD, count + 1))?;
        }
        birth.exe = errno(libc::fcntl(birth.exe, libc::F_DUPFD, count + 1))?;
        for (number, source) in (0..).zip(&birth.sources) {
            errno(libc::dup2(*source, number))?;
        }
        errno(libc::dup3(birth.exe, count, libc::O_CLOEXEC))?;
        let first = (count + 1) as libc::c_uint;
        let rc = libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0_u32);
        errno(rc as c_int).map(drop)
    }
}

/// Which side of [`fork`] this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, with the new one's pid.
    Parent(i32),
}

/// Splits a process that has one thread (fork(2)); EINVAL if it has more, because the child
/// could then inherit a lock that nobody will ever release.
pub fn fork() -> io::Result<Fork> {
    // SAFETY: an integer; for a process of one thread CLONE_THREAD asks for what already is,
    // for any other the kernel refuses (unshare(2)).
    match check(i64::from(unsafe { libc::unshare(libc::CLONE_THREAD) })) {
        // The filter of the container around us refuses the question.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => never_had_threads()?,
        answer => drop(answer?),
    }
    // SAFETY: with one thread, as just checked, there is no lock that another holds, so the
    // child may do anything the parent may.
    match check(i64::from(unsafe { libc::fork() }))? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as i32)),
    }
}

/// EINVAL if this process has started a thread, as the C library counts them
/// (`<sys/single_threaded.h>`, glibc 2.32).
fn never_had_threads() -> io::Result<()> {
    unsafe extern "C" {
        safe static __libc_single_threaded: libc::c_char;
    }
    match __libc_single_threaded {
        0 => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        _ => Ok(()),
    }
}

/// What is left of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

/// Collects one ended child without waiting (waitpid(2), WNOHANG): its pid and how it ended.
pub fn reap() -> io::Result<Option<(i32, Ended)>> {
    let mut status = 0;
    // SAFETY: `status` is writable for one int.
    let pid = check(i64::from(unsafe {
        libc::waitpid(-1, &raw mut status, libc::WNOHANG)
    }))?;
    let ended = if libc::WIFEXITED(status) {
        Ended::Exited(libc::WEXITSTATUS(status))
    } else {
        Ended::Signaled(libc::WTERMSIG(status))
    };
    Ok((pid != 0).then_some((pid as i32, ended)))
}

/// Ends this process at once, without destructors or buffers (_exit(2)).
pub fn exit_now(code: i32) -> ! {
    // SAFETY: never returns; nothing of ours needs to run afterwards.
    unsafe { libc::_exit(code) }
}

/// Moves this process into a new mount namespace and its next child into a new pid namespace
/// (unshare(2)).
pub fn unshare_mounts_and_pids() -> io::Result<()> {
    // SAFETY: integers only; neither namespace changes memory or descriptors of the process.
    check(i64::from(unsafe {
        libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWPID)
    }))
    .map(drop)
}

/// Moves this process into a new cgroup namespace, whose root is the group it is in
/// (unshare(2)).
pub fn unshare_cgroup() -> io::Result<()> {
    // SAFETY: an integer; this namespace changes neither memory nor descriptors.
    check(i64::from(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })).map(drop)
}

/// Moves this process into a new user namespace (unshare(2)). EINVAL if it has more than one
/// thread.
pub fn unshare_user() -> io::Result<()> {
    // SAFETY: an integer; this namespace changes neither memory nor descriptors.
    check(i64::from(unsafe { libc::unshare(libc::CLONE_NEWUSER) })).map(drop)
}

/// Moves this process into a new user namespace and a new mount namespace (unshare(2)).
/// EINVAL if it has more than one thread.
pub fn unshare_user_and_mounts() -> io::Result<()> {
    // SAFETY: integers only; neither namespace changes memory or descriptors of the process.
    check(i64::from(unsafe {
        libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)
    }))
    .map(drop)
}
