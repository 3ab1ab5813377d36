//! What a program in a working container reads and writes: the caller's own streams, or a
//! terminal that is joined to them.

use std::os::fd::{AsFd, OwnedFd};

use crate::sandbox::{self, Child, Input, Output, Stdio, WindowSize, tty};

/// The streams of a program.
#[derive(Debug)]
pub struct Streams {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    terminal: bool,
}

impl Streams {
    /// Takes the caller's streams; with `terminal` the program gets a terminal of its own that
    /// shows on them.
    pub fn new(stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd, terminal: bool) -> Self {
        Self {
            stdin,
            stdout,
            stderr,
            terminal,
        }
    }

    /// The size of the program's terminal, if it has one.
    pub(in crate::build) fn window(&self) -> Option<WindowSize> {
        // Without a terminal on our side there is no size to take over.
        let usual = WindowSize { rows: 24, cols: 80 };
        self.terminal
            .then(|| tty::window_size(&self.stdin).unwrap_or(usual))
    }

    /// What the program starts with.
    pub(in crate::build) fn stdio(&self) -> Result<Stdio, sandbox::Error> {
        if self.terminal {
            return Ok(Stdio::default());
        }
        let copy = |fd: &OwnedFd| {
            fd.try_clone().map_err(|source| sandbox::Error::Parent {
                doing: "hand a stream over",
                source,
            })
        };
        Ok(Stdio {
            stdin: Input::Fd(copy(&self.stdin)?),
            stdout: Output::Fd(copy(&self.stdout)?),
            stderr: Output::Fd(copy(&self.stderr)?),
            fds: Vec::new(),
        })
    }

    /// Passes bytes on as long as the program has its terminal.
    pub(in crate::build) fn serve(&self, child: &Child) -> Result<(), sandbox::Error> {
        let Some(pty) = child.pty() else {
            return Ok(());
        };
        let served = tty::relay(pty, self.stdin.as_fd(), self.stdout.as_fd());
        served.map_err(|source| sandbox::Error::Parent {
            doing: "serve the terminal",
            source,
        })
    }
}
