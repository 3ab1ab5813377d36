//! What Ctrl-C does while work is going on.
//!
//! Signals are blocked and read from a descriptor by a thread. [`Stop`] is for work that cleans up
//! after itself: the first SIGINT, SIGTERM or SIGHUP asks it to stop, the second ends the process
//! at once. [`Held`] keeps all signals for the program of a container, which gets them later. Both
//! must be set up before other threads exist, since those inherit the mask.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::event::{PollFd, PollFlags, poll};

use crate::cli::report::Report;
use crate::sys::signal;

const SIGNALS: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
/// What ends a process that waits for a pull.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// The wish to stop.
pub(crate) struct Stop {
    /// The signal that asked for it, 0 for none.
    first: Arc<AtomicI32>,
}

impl Stop {
    /// Calls `stop` when the first signal comes.
    pub(crate) fn on(stop: impl FnOnce() + Send + 'static) -> Result<Self, Report> {
        let failed = |error: io::Error| Report::failed("cannot watch for signals").because(&error);
        signal::block(&SIGNALS).map_err(failed)?;
        let signals = signal::signalfd(&SIGNALS).map_err(failed)?;
        let first = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&first);
        let watch = move || watch(&signals, &seen, stop);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(watch)
            .map_err(failed)?;
        Ok(Self { first })
    }

    /// Returns the exit code of work that was stopped: 128 and the signal's number, as shells
    /// show it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        let signal = u8::try_from(self.first.load(Ordering::Acquire)).unwrap_or(0);
        ExitCode::from(match signal {
            0 => 1,
            signal => 128 + signal,
        })
    }
}

fn watch(signals: &OwnedFd, first: &AtomicI32, stop: impl FnOnce()) {
    let mut stop = Some(stop);
    loop {
        // An interrupted wait is begun again; nothing else can be wrong with one descriptor.
        if poll(&mut [PollFd::new(signals, PollFlags::IN)], None).is_err() {
            continue;
        }
        let Ok(Some(number)) = signal::next_signal(signals) else {
            continue;
        };
        match stop.take() {
            Some(stop) => {
                first.store(number, Ordering::Release);
                stop();
            }
            None => die_of(number),
        }
    }
}

/// Ends the process as `number` would have, had it not been blocked.
fn die_of(number: i32) {
    signal::default_all();
    // The signal waits until this thread lets it through, and then ends the process.
    let _ = signal::send(rustix::process::getpid().as_raw_nonzero().get(), number);
    let _ = signal::unblock_all();
}

/// All signals held back from threads that are started now, and from the calling one.
///
/// Those that end a process still end it, until this is dropped; whoever drops it reads signals
/// by itself from then on.
pub(crate) struct Held {
    /// Closing it ends the watcher.
    _open: OwnedFd,
}

impl Held {
    /// Blocks every signal and starts to watch for those that end the process.
    pub(crate) fn new() -> Result<Self, Report> {
        let failed = |error: io::Error| Report::failed("cannot watch for signals").because(&error);
        signal::block_all().map_err(failed)?;
        let signals = signal::signalfd(&ENDING).map_err(failed)?;
        let (closed, open) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| failed(errno.into()))?;
        let watch = move || {
            loop {
                let mut fds = [
                    PollFd::new(&signals, PollFlags::IN),
                    PollFd::new(&closed, PollFlags::IN),
                ];
                if poll(&mut fds, None).is_err() {
                    continue;
                }
                if !fds[1].revents().is_empty() {
                    return;
                }
                if let Ok(Some(number)) = signal::next_signal(&signals) {
                    die_of(number);
                }
            }
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(watch)
            .map_err(failed)?;
        Ok(Self { _open: open })
    }
}
