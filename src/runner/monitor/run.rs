//! One run of a container's program, and the ends of its streams.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::event::Stream;
use crate::sandbox::{self, Child, Input, Output, Stdio, WindowSize, tty};

use super::super::health::nonblocking;
use super::super::wire::CHUNK;
use super::Job;
use super::network::Network;

/// Bytes of input that wait for the program.
const INPUT: usize = 64 << 10;

/// The program while it runs.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) child: Child,
    pub(super) began: Instant,
    outputs: [Option<OwnedFd>; 2],
    input: Option<OwnedFd>,
    to_input: VecDeque<u8>,
    input_ends: bool,
    tty: bool,
    /// Ends with the program.
    pub(super) network: Option<Network>,
}

impl Run {
    /// Starts the program of `job`, with the sockets of its ports and what it has of another
    /// container: its network, and the namespaces of its processes.
    pub(super) fn start(
        job: &Job,
        ports: &[OwnedFd],
        shared: Option<&OwnedFd>,
        processes: &[OwnedFd],
    ) -> Result<Self, sandbox::Error> {
        let tty = job.plan.tty.is_some();
        renew_work(job).map_err(failed("empty the overlay's work directory"))?;
        let stdio = match tty {
            true => Stdio::default(),
            false => Stdio {
                stdin: if job.interactive {
                    Input::Pipe
                } else {
                    Input::Null
                },
                stdout: Output::Pipe,
                stderr: Output::Pipe,
                fds: Vec::new(),
            },
        };
        let network = Network::new(job, ports, shared)?;
        let namespace = network.iter().map(Network::namespace);
        let namespaces = namespace.chain(processes.iter().map(AsFd::as_fd));
        let fds = namespaces.map(|fd| fd.try_clone_to_owned());
        let fds = fds.collect::<Result<_, _>>();
        let stdio = Stdio {
            fds: fds.map_err(failed("hand the namespaces over"))?,
            ..stdio
        };
        let mut child = sandbox::spawn(&job.plan, stdio)?;
        let dup = |fd: Option<&OwnedFd>| fd.map(OwnedFd::try_clone).transpose();
        let mut ends = || -> io::Result<_> {
            let ends = match tty {
                true => [dup(child.pty())?, None, dup(child.pty())?],
                false => [child.stdout.take(), child.stderr.take(), child.stdin.take()],
            };
            ends.iter().flatten().try_for_each(nonblocking)?;
            Ok(ends)
        };
        let [stdout, stderr, input] = ends().map_err(failed("take the program's streams"))?;
        Ok(Self {
            child,
            network,
            began: Instant::now(),
            outputs: [stdout, stderr],
            input: input.filter(|_| job.interactive),
            to_input: VecDeque::new(),
            input_ends: false,
            tty,
        })
    }

    fn slot(stream: Stream) -> usize {
        usize::from(stream == Stream::Stderr)
    }

    /// Outputs that have not ended.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (Stream, BorrowedFd<'_>)> {
        let both = [Stream::Stdout, Stream::Stderr]
            .into_iter()
            .zip(&self.outputs);
        both.filter_map(|(stream, fd)| Some((stream, fd.as_ref()?.as_fd())))
    }

    /// Reads what is there; nothing is no end.
    pub(super) fn read(&mut self, stream: Stream) -> Option<Vec<u8>> {
        let end = &mut self.outputs[Self::slot(stream)];
        let mut buffer = vec![0; CHUNK];
        match rustix::io::read(end.as_ref()?, &mut buffer) {
            Ok(n) if n > 0 => {
                buffer.truncate(n);
                Some(buffer)
            }
            Err(Errno::AGAIN | Errno::INTR) => None,
            // EIO is how a terminal says that its last user is gone.
            _ => {
                *end = None;
                None
            }
        }
    }

    /// A stream that can be read right now.
    pub(super) fn has_output(&self) -> Option<Stream> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        self.outputs().find_map(|(stream, fd)| {
            let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
            let ready = poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0);
            (ready && fds[0].revents().contains(PollFlags::IN)).then_some(stream)
        })
    }

    /// Takes what a client typed.
    pub(super) fn type_in(&mut self, bytes: &[u8]) {
        if self.input.is_some() && !self.input_ends {
            self.to_input.extend(bytes);
            self.write_input();
        }
    }

    /// No more input comes. A program on a terminal sees that as Ctrl-D.
    pub(super) fn input_ends(&mut self) {
        if self.tty && self.input.is_some() && !self.input_ends {
            self.to_input.push_back(4);
        }
        self.input_ends = true;
        self.write_input();
    }

    pub(super) fn input_is_full(&self) -> bool {
        self.input.is_some() && self.to_input.len() >= INPUT
    }

    /// The input, when there is something for it.
    pub(super) fn wants_input(&self) -> Option<BorrowedFd<'_>> {
        let input = self.input.as_ref().filter(|_| !self.to_input.is_empty());
        input.map(AsFd::as_fd)
    }

    pub(super) fn write_input(&mut self) {
        while let (Some(input), false) = (&self.input, self.to_input.is_empty()) {
            let (front, _) = self.to_input.as_slices();
            match rustix::io::write(input, front) {
                Ok(n) => drop(self.to_input.drain(..n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // The program has closed it.
                Err(_) => {
                    self.to_input.clear();
                    self.input = None;
                }
            }
        }
        if self.input_ends && !self.tty {
            self.input = None;
        }
    }

    pub(super) fn resize(&self, size: WindowSize) {
        if let Some(pty) = self.child.pty() {
            // A program that has just ended needs no size.
            let _ = tty::set_window_size(pty, size);
        }
    }
}

pub(super) fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> sandbox::Error {
    move |source| sandbox::Error::Parent { doing, source }
}

/// A volatile overlay can be mounted once; what tells the kernel so is taken away before the
/// next start. Only a crash of the machine, which ends the container, could have lost anything.
fn renew_work(job: &Job) -> io::Result<()> {
    let sandbox::Rootfs::Overlay(overlay) = &job.plan.rootfs else {
        return Ok(());
    };
    let mark: &Path = &overlay.work.join("work/incompat");
    match fs::remove_dir_all(mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
