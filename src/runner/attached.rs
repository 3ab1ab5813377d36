//! Runs a container in the foreground: the caller's streams, terminal and signals are the program's.
//!
//! One thread, one poll: signals arrive on a descriptor and are passed on, the terminal's bytes go
//! both ways, and the end of the sandbox ends it all. Without a terminal the program has the
//! caller's own descriptors and nothing is copied.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::event::Sink;
use crate::sandbox::{self, Child, Exit, Input, Output, Signals, Stdio, WindowSize, tty};
use crate::store::Store;

use super::container::{self, Container};
use super::error::Error;
use super::spec::Ground;

/// What the caller's terminal is like.
#[derive(Debug)]
pub struct Terminal<'a> {
    /// Standard input.
    pub stdin: BorrowedFd<'a>,
    /// Standard output.
    pub stdout: BorrowedFd<'a>,
    /// Standard error.
    pub stderr: BorrowedFd<'a>,
}

/// Runs `container` until its program ends and returns how it ended.
///
/// Blocks every signal of the calling process; must be called before other threads exist, so that
/// they inherit that.
pub fn run(
    store: &Store,
    container: &Container,
    terminal: &Terminal<'_>,
    sink: &dyn Sink,
) -> Result<Exit, Error> {
    let request = &container.config.request;
    let window = match (request.tty, tty::window_size(terminal.stdin)) {
        (false, _) => None,
        (true, Ok(window)) => Some(window),
        (true, Err(_)) if request.interactive => return Err(Error::NoTerminal),
        (true, Err(_)) => Some(WindowSize { rows: 24, cols: 80 }),
    };
    let ground = ground(store, container, window, sink)?;
    let plan = super::spec::plan(
        &container.id,
        request,
        &container.config.image_config,
        ground,
    )?;
    let failed = |doing| move |source| Error::Terminal { doing, source };
    let signals = Signals::take_all().map_err(failed("wait for signals"))?;
    let _running = container.mark_running()?;
    let result = start_and_wait(&plan, request.interactive, terminal, &signals);
    container.mark_ended(result.as_ref().ok())?;
    result
}

fn start_and_wait(
    plan: &sandbox::Plan,
    interactive: bool,
    terminal: &Terminal<'_>,
    signals: &Signals,
) -> Result<Exit, Error> {
    let failed = |doing| move |source| Error::Terminal { doing, source };
    let stdio = if plan.tty.is_some() {
        Stdio::default()
    } else {
        let dup = |fd: BorrowedFd<'_>| {
            fd.try_clone_to_owned()
                .map_err(failed("pass on the standard streams"))
        };
        Stdio {
            stdin: if interactive {
                Input::Fd(dup(terminal.stdin)?)
            } else {
                Input::Null
            },
            stdout: Output::Fd(dup(terminal.stdout)?),
            stderr: Output::Fd(dup(terminal.stderr)?),
            fds: Vec::new(),
        }
    };
    let mut child = sandbox::spawn(plan, stdio)?;
    let raw = match child.pty() {
        // Output that goes to a file wants no raw mode, and a stdin that is none allows none.
        Some(_) if interactive => tty::RawMode::enter(terminal.stdin).ok(),
        _ => None,
    };
    let mut pump = Pump {
        interactive,
        to_pty: VecDeque::new(),
        pty_open: child.pty().is_some(),
    };
    pump.run(&child, terminal, signals)?;
    drop(raw);
    Ok(child.wait()?)
}

/// The state of copying between the caller's terminal and the container's.
struct Pump {
    interactive: bool,
    to_pty: VecDeque<u8>,
    pty_open: bool,
}

impl Pump {
    /// Copies and forwards until the sandbox has ended and its terminal is drained.
    fn run(
        &mut self,
        child: &Child,
        terminal: &Terminal<'_>,
        signals: &Signals,
    ) -> Result<(), Error> {
        let failed = |doing| move |source: io::Error| Error::Terminal { doing, source };
        let mut ended = false;
        while !ended || self.pty_open {
            let pty = child.pty().filter(|_| self.pty_open);
            let mut fds = vec![
                PollFd::new(signals, PollFlags::IN),
                PollFd::from_borrowed_fd(child.pidfd(), PollFlags::IN),
            ];
            if let Some(pty) = pty {
                let wants_out = if self.to_pty.is_empty() {
                    PollFlags::empty()
                } else {
                    PollFlags::OUT
                };
                fds.push(PollFd::new(pty, PollFlags::IN | wants_out));
                if self.interactive && self.to_pty.len() < 1 << 16 && !ended {
                    fds.push(PollFd::from_borrowed_fd(terminal.stdin, PollFlags::IN));
                }
            }
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("wait for the container")(errno.into())),
            }
            let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            drop(fds);
            if ready[0].contains(PollFlags::IN) {
                forward(child, terminal, signals).map_err(failed("read a signal"))?;
            }
            ended |= !ready[1].is_empty();
            if let Some(pty) = pty {
                self.copy(pty, terminal, &ready[2..])
                    .map_err(failed("use the terminal"))?;
            } else if ended {
                break;
            }
        }
        Ok(())
    }

    fn copy(
        &mut self,
        pty: &OwnedFd,
        terminal: &Terminal<'_>,
        ready: &[PollFlags],
    ) -> io::Result<()> {
        if ready[0].intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            let mut buffer = [0; 16 << 10];
            match rustix::io::read(pty, &mut buffer) {
                // EIO is how a pty says that its last user is gone.
                Ok(0) | Err(Errno::IO) => self.pty_open = false,
                Ok(n) => write_all(terminal.stdout, &buffer[..n])?,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        if ready[0].contains(PollFlags::OUT) {
            let (front, _) = self.to_pty.as_slices();
            match rustix::io::write(pty, front) {
                Ok(n) => drop(self.to_pty.drain(..n)),
                Err(Errno::AGAIN | Errno::INTR | Errno::IO) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        if ready.get(1).is_some_and(|flags| !flags.is_empty()) {
            let mut buffer = [0; 4 << 10];
            match rustix::io::read(terminal.stdin, &mut buffer) {
                Ok(0) => {
                    // End of input reaches a program on a terminal as Ctrl-D.
                    self.to_pty.push_back(4);
                    self.interactive = false;
                }
                Ok(n) => self.to_pty.extend(&buffer[..n]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => self.interactive = false,
            }
        }
        Ok(())
    }
}

/// Passes every pending signal on; a resized window is a size, not a signal.
fn forward(child: &Child, terminal: &Terminal<'_>, signals: &Signals) -> io::Result<()> {
    while let Some(number) = signals.next()? {
        match number {
            libc::SIGCHLD | libc::SIGPIPE | libc::SIGTTIN | libc::SIGTTOU => {}
            libc::SIGWINCH => {
                if let (Some(pty), Ok(size)) = (child.pty(), tty::window_size(terminal.stdin)) {
                    tty::set_window_size(pty, size)?;
                }
            }
            number => {
                if let Some(signal) = rustix::process::Signal::from_named_raw(number) {
                    // A program that ended meanwhile has nothing to be told.
                    let _ = child.signal(signal);
                }
            }
        }
    }
    Ok(())
}

fn write_all(to: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&to, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&to, PollFlags::OUT)], None)?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn ground(
    store: &Store,
    container: &Container,
    window: Option<WindowSize>,
    sink: &dyn Sink,
) -> Result<Ground, Error> {
    let trees = store.trees(&container.config.layers, sink)?;
    let uname = rustix::system::uname();
    Ok(Ground {
        trees: trees.iter().map(|tree| tree.path().to_owned()).collect(),
        dir: container.dir.clone(),
        user_xattr: store.user_xattr(),
        remember_owners: store.remembers_owners(),
        resolv_conf: container::read_resolv_conf(),
        hostname: uname.nodename().to_string_lossy().into_owned(),
        window,
    })
}
