//! The caller's signals, for whoever waits for a sandbox and passes them on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::signal;

/// Every signal that can be blocked, blocked and read from a descriptor instead.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks the signals on this thread, and so on every thread that it starts (signalfd(2)).
    pub fn take_all() -> io::Result<Self> {
        signal::block_all()?;
        Ok(Self {
            fd: signal::signalfd_all()?,
        })
    }

    /// Returns the number of the next pending signal, or `None` when there is none.
    pub fn next(&self) -> io::Result<Option<i32>> {
        signal::next_signal(&self.fd)
    }
}

impl AsFd for Signals {
    /// Readable while a signal is pending.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
