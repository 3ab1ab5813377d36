//! Fault points: what the crash suite makes go wrong, and where.
//!
//! Every act that changes the store passes a point first. In a test build (debug assertions on)
//! one of them can be armed, by its number in the order in which they are passed: there the
//! process is killed, or the act and all after it find the disk full, or it fails once with EIO.
//! In a release build a point is nothing.

#[cfg(not(debug_assertions))]
use std::path::Path;

use super::error::Error;

/// What goes wrong.
#[cfg(debug_assertions)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed, as by `kill -9`.
    Kill,
    /// From here on the disk is full; what is there can be removed.
    Full,
    /// This one act fails with EIO.
    Broken,
}

#[cfg(debug_assertions)]
mod armed {
    use std::io;
    use std::path::Path;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Error, Fault};

    static ARMED: OnceLock<(Fault, u64)> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    /// Arms the point with this number, the first being 1, for the rest of the process.
    pub fn arm(fault: Fault, number: u64) {
        // Only the first call counts; nobody makes two.
        let _ = ARMED.set((fault, number));
    }

    pub(in crate::store) fn point(doing: &'static str, path: &Path) -> Result<(), Error> {
        let Some((fault, number)) = ARMED.get() else {
            return Ok(());
        };
        let passed = PASSED.fetch_add(1, Ordering::Relaxed) + 1;
        let errno = match fault {
            Fault::Kill if passed == *number => {
                let _ = rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                );
                // The signal is on its way; nothing more may be done.
                loop {
                    std::thread::park();
                }
            }
            Fault::Full if passed >= *number && doing != "remove" => rustix::io::Errno::NOSPC,
            Fault::Broken if passed == *number => rustix::io::Errno::IO,
            _ => return Ok(()),
        };
        Err(Error::io(doing, path, io::Error::from(errno)))
    }
}

#[cfg(debug_assertions)]
pub use armed::arm;
#[cfg(debug_assertions)]
pub(super) use armed::point;

/// Nothing, in a build for users.
#[cfg(not(debug_assertions))]
pub(super) fn point(_doing: &'static str, _path: &Path) -> Result<(), Error> {
    Ok(())
}
