//! System calls that another process answers (seccomp_unotify(2)), and what answering takes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;
use super::seccomp::Instruction;

/// A system call that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// What names it in the answer.
    pub id: u64,
    /// The calling thread, as the reader's pid namespace numbers it.
    pub pid: i32,
    /// The convention it was made by, an `AUDIT_ARCH_*` of linux/audit.h.
    pub convention: u32,
    /// The call.
    pub number: i32,
    /// Its arguments.
    pub args: [u64; 6],
}

/// What a call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// This.
    Value(i64),
    /// This error number.
    Error(i32),
    /// What the kernel answers.
    Continue,
}

/// Installs `program` on this thread and on whatever it executes, and returns the descriptor on
/// which its SECCOMP_RET_USER_NOTIF calls arrive.
///
/// EBUSY if there is such a filter already; else as [`super::seccomp::install`].
pub fn listen(program: &[Instruction]) -> io::Result<OwnedFd> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let filter = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // With the second flag (Linux 5.19) a signal does not restart a call that is being answered.
    let patient = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let mut flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | patient;
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    let install = |flags: libc::c_ulong| {
        // SAFETY: `filter` borrows `program` for the whole call; the kernel copies the
        // instructions and writes nothing through the pointer.
        check(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const filter) })
    };
    let mut installed = install(flags);
    if matches!(&installed, Err(error) if error.raw_os_error() == Some(libc::EINVAL)) {
        flags &= !patient;
        installed = install(flags);
    }
    let number = installed? as i32;
    // SAFETY: the call succeeded, so this is a new descriptor that is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Waits for a call; false when nobody is left who could make one.
pub fn wait(listener: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        let mut fds = [PollFd::new(&listener, PollFlags::IN)];
        // Interrupted or not, what is readable is looked at again.
        let _ = poll(&mut fds, None);
        let ready = fds[0].revents();
        if ready.contains(PollFlags::IN) {
            return true;
        }
        if ready.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return false;
        }
    }
}

/// Returns the next call; ENOENT if its process died meanwhile. Waits, even when nobody is left
/// who could call: [`wait`] tells that.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Call> {
    // SAFETY: all-zero is a valid value of this plain structure, and what the kernel asks for.
    let mut got: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one such structure.
    check(i64::from(unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            &raw mut got,
        )
    }))?;
    Ok(Call {
        id: got.id,
        pid: got.pid as i32,
        convention: got.data.arch,
        number: got.data.nr,
        args: got.data.args,
    })
}

/// Returns whether a call still waits, so that its pid is still the pid of who called.
pub fn waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    let request = libc::SECCOMP_IOCTL_NOTIF_ID_VALID;
    // SAFETY: the kernel reads eight bytes through the pointer.
    let rc = unsafe { libc::ioctl(listener.as_raw_fd(), request, &raw const id) };
    rc == 0
}

/// Answers a call; ENOENT if nobody waits for it any more.
pub fn reply(listener: BorrowedFd<'_>, id: u64, reply: Reply) -> io::Result<()> {
    let (val, error, flags) = match reply {
        Reply::Value(value) => (value, 0, 0),
        Reply::Error(number) => (0, -number, 0),
        Reply::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
    };
    let mut answer = libc::seccomp_notif_resp {
        id,
        val,
        error,
        flags,
    };
    // SAFETY: the kernel reads one such structure.
    check(i64::from(unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw mut answer,
        )
    }))
    .map(drop)
}

/// Answers a call with a descriptor: `fd` becomes one of the caller's (Linux 5.9), and what the
/// call returns. ENOENT if nobody waits for it any more.
pub fn reply_descriptor(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: BorrowedFd<'_>,
    close_on_exec: bool,
) -> io::Result<()> {
    let give = |flags: libc::c_ulong| {
        let mut asked = libc::seccomp_notif_addfd {
            id,
            flags: flags as u32,
            srcfd: fd.as_raw_fd() as u32,
            newfd: 0,
            newfd_flags: if close_on_exec {
                libc::O_CLOEXEC as u32
            } else {
                0
            },
        };
        // SAFETY: the kernel reads one such structure; `fd` is open for the whole call.
        check(i64::from(unsafe {
            libc::ioctl(
                listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_ADDFD,
                &raw mut asked,
            )
        }))
    };
    match give(libc::SECCOMP_ADDFD_FLAG_SEND) {
        // Before Linux 5.14 it takes two calls.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            reply(listener, id, Reply::Value(give(0)?))
        }
        answered => answered.map(drop),
    }
}

/// Asks that whoever answers runs on the caller's processor, which is faster (Linux 6.6).
pub fn prefer_one_processor(listener: BorrowedFd<'_>) -> io::Result<()> {
    const SYNC_WAKE_UP: libc::c_ulong = 1;
    // SAFETY: this request takes its flags by value.
    check(i64::from(unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS,
            SYNC_WAKE_UP,
        )
    }))
    .map(drop)
}

/// Reads another process's memory at `address` (process_vm_readv(2)); returns how much there was.
pub fn read_memory(pid: i32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    let remote = libc::iovec {
        iov_base: address as usize as *mut libc::c_void,
        iov_len: into.len(),
    };
    // SAFETY: the kernel writes at most `iov_len` bytes into `into`, and only looks at the other
    // process's memory, which it checks itself.
    let got = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    check(got as i64).map(|got| got as usize)
}

/// Writes to another process's memory (process_vm_writev(2)).
pub fn write_memory(pid: i32, address: u64, from: &[u8]) -> io::Result<()> {
    let local = libc::iovec {
        iov_base: from.as_ptr().cast_mut().cast(),
        iov_len: from.len(),
    };
    let remote = libc::iovec {
        iov_base: address as usize as *mut libc::c_void,
        iov_len: from.len(),
    };
    // SAFETY: the kernel only reads `from`; what it writes is another process's, and checked.
    let put = unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match check(put as i64)? as usize == from.len() {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EFAULT)),
    }
}

/// Gives this thread a root and a working directory of its own (unshare(2), CLONE_FS).
pub fn unshare_directories() -> io::Result<()> {
    // SAFETY: one integer; descriptors and memory stay shared.
    check(i64::from(unsafe { libc::unshare(libc::CLONE_FS) })).map(drop)
}

/// Returns the soft limit on real-time processor time of another process (prlimit(2),
/// RLIMIT_RTTIME), in microseconds.
pub fn real_time_limit(pid: i32) -> io::Result<u64> {
    limit(pid, None).map(|limit| limit.rlim_cur)
}

/// Sets that limit, below the hard one.
pub fn set_real_time_limit(pid: i32, soft: u64) -> io::Result<()> {
    let mut new = limit(pid, None)?;
    new.rlim_cur = soft;
    limit(pid, Some(new)).map(drop)
}

fn limit(pid: i32, new: Option<libc::rlimit>) -> io::Result<libc::rlimit> {
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let new = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `new` is null or points to a limit that outlives the call; `old` is written.
    check(i64::from(unsafe {
        libc::prlimit(pid, libc::RLIMIT_RTTIME, new, &raw mut old)
    }))?;
    Ok(old)
}
