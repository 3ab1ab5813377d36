//! The caller's side of a program in a container: streams, terminal, signals.
//!
//! One thread, one poll: signals arrive on a descriptor and are passed on, bytes go both ways,
//! and the monitor's end of the connection ends it all. What is typed goes through a filter that
//! looks for the keys that detach. With `exec` the bytes take no way through the monitor: the
//! program has the caller's own descriptors, or a terminal whose other end is here.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::event::Stream;
use crate::sandbox::{Signals, WindowSize, tty};

use super::container::Container;
use super::control;
use super::error::Error;
use super::health::nonblocking;
use super::keys::{DetachKeys, Filter};
use super::state::KILLED;
use super::wire::{self, CHUNK, Packet, Request};

/// What the caller's terminal is like.
#[derive(Debug, Clone, Copy)]
pub struct Terminal<'a> {
    /// Standard input.
    pub stdin: BorrowedFd<'a>,
    /// Standard output.
    pub stdout: BorrowedFd<'a>,
    /// Standard error.
    pub stderr: BorrowedFd<'a>,
}

impl Terminal<'_> {
    /// The size for a container's terminal. docker refuses `-it` where standard input is none.
    pub fn window(&self, interactive: bool) -> Result<WindowSize, Error> {
        match tty::window_size(self.stdin).or_else(|error| match interactive {
            true => Err(error),
            false => tty::window_size(self.stdout),
        }) {
            Ok(window) => Ok(window),
            Err(_) if interactive => Err(Error::NoTerminal),
            Err(_) => Ok(WindowSize { rows: 24, cols: 80 }),
        }
    }
}

/// How it came that a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The program ended with this exit code.
    Ended(i32),
    /// The caller typed the keys that detach; the program goes on.
    Detached,
    /// A signal ended the caller's side, which was not to be passed on; the program goes on.
    Left(i32),
}

/// A program that is there, and the way to it.
#[derive(Debug)]
pub struct Session {
    /// Tells the end; with `far` none it also carries the streams.
    socket: OwnedFd,
    /// A terminal whose other end the program has.
    far: Option<OwnedFd>,
    tty: bool,
    interactive: bool,
    /// Whether standard output and error are shown.
    shows: [bool; 2],
    passes_signals: bool,
}

/// Attaches to the program of `container`. Input is sent only if the container takes any.
pub fn attach(
    container: &Container,
    input: bool,
    window: Option<WindowSize>,
) -> Result<Session, Error> {
    let link = control::connect(container)?;
    let request = &container.config.request;
    let input = input && request.interactive;
    link.ask(&Request::Attach { input, window })?;
    Ok(Session::of_container(
        link.into_socket(),
        request.tty,
        input,
    ))
}

impl Session {
    pub(super) fn of_container(socket: OwnedFd, tty: bool, interactive: bool) -> Self {
        Self {
            socket,
            far: None,
            tty,
            interactive,
            shows: [true; 2],
            passes_signals: true,
        }
    }

    pub(super) fn of_exec(socket: OwnedFd, far: Option<OwnedFd>, interactive: bool) -> Self {
        Self {
            socket,
            tty: far.is_some(),
            // Without a terminal the program reads the caller's input by itself.
            interactive: interactive && far.is_some(),
            far,
            shows: [true; 2],
            passes_signals: true,
        }
    }

    /// Shows only some of standard output and error.
    pub fn showing(mut self, stdout: bool, stderr: bool) -> Self {
        self.shows = [stdout, stderr];
        self
    }

    /// Keeps signals here: the program does not get them.
    pub fn keeping_signals(mut self) -> Self {
        self.passes_signals = false;
        self
    }

    /// Serves until the program ends or the caller detaches. Signals in `signals` are passed on.
    pub fn serve(
        self,
        terminal: &Terminal<'_>,
        signals: &Signals,
        keys: &DetachKeys,
    ) -> Result<Outcome, Error> {
        let failed = |doing| move |source| Error::Terminal { doing, source };
        nonblocking(&self.socket).map_err(failed("use the connection to the container"))?;
        if let Some(far) = &self.far {
            nonblocking(far).map_err(failed("use the terminal"))?;
        }
        // Output that goes to a file wants no raw mode, and a stdin that is none allows none.
        let raw = (self.tty && self.interactive)
            .then(|| tty::RawMode::enter(terminal.stdin).ok())
            .flatten();
        let mut pump = Pump {
            reads: self.interactive,
            input_ends: false,
            to_far: VecDeque::new(),
            far_open: self.far.is_some(),
            code: None,
            filter: self.tty.then(|| Filter::new(keys)),
            outcome: None,
            session: &self,
        };
        let outcome = pump.run(terminal, signals);
        drop(raw);
        outcome.map_err(failed("use the terminal"))
    }
}

/// The state of copying between the caller and the program.
struct Pump<'s> {
    session: &'s Session,
    /// Whether the caller's input is read.
    reads: bool,
    /// Whether its end is to be passed on.
    input_ends: bool,
    to_far: VecDeque<u8>,
    far_open: bool,
    /// The program's exit code, once it was told.
    code: Option<i32>,
    filter: Option<Filter>,
    outcome: Option<Outcome>,
}

/// Bytes of input that wait to be sent before no more are read.
const ENOUGH: usize = 64 << 10;

impl Pump<'_> {
    fn run(&mut self, terminal: &Terminal<'_>, signals: &Signals) -> io::Result<Outcome> {
        loop {
            match self.outcome {
                Some(Outcome::Ended(code)) if !self.far_open => return Ok(Outcome::Ended(code)),
                Some(left @ (Outcome::Detached | Outcome::Left(_))) => return Ok(left),
                _ => {}
            }
            let waits = self.has_input();
            let out = |waits| {
                if waits {
                    PollFlags::OUT
                } else {
                    PollFlags::empty()
                }
            };
            let to_socket = waits && self.session.far.is_none();
            let mut fds = vec![
                PollFd::new(signals, PollFlags::IN),
                PollFd::new(&self.session.socket, PollFlags::IN | out(to_socket)),
            ];
            let far = self.session.far.as_ref().filter(|_| self.far_open);
            if let Some(far) = far {
                fds.push(PollFd::new(far, PollFlags::IN | out(waits)));
            }
            let reads = self.reads && self.to_far.len() < ENOUGH;
            if reads {
                fds.push(PollFd::from_borrowed_fd(terminal.stdin, PollFlags::IN));
            }
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            if ready[0].contains(PollFlags::IN) {
                self.forward(terminal, signals)?;
            }
            if !(ready[1] - PollFlags::OUT).is_empty() {
                self.hear(terminal)?;
            }
            if far.is_some() && !(ready[2] - PollFlags::OUT).is_empty() {
                self.read_far(terminal)?;
            }
            if reads && ready.last().is_some_and(|flags| !flags.is_empty()) {
                self.read_input(terminal);
            }
            self.send_input()?;
        }
    }

    fn has_input(&self) -> bool {
        !self.to_far.is_empty() || self.input_ends
    }

    /// One packet of the monitor.
    fn hear(&mut self, terminal: &Terminal<'_>) -> io::Result<()> {
        if self.outcome.is_some() {
            return Ok(());
        }
        match wire::receive(&self.session.socket) {
            Ok(Some((Packet::Output(stream, bytes), _))) => {
                let [stdout, stderr] = self.session.shows;
                match stream {
                    Stream::Stdout if stdout => write_all(terminal.stdout, &bytes),
                    Stream::Stderr if stderr => write_all(terminal.stderr, &bytes),
                    _ => Ok(()),
                }
            }
            Ok(Some((Packet::Ended(code), _))) => {
                self.code = Some(code);
                Ok(())
            }
            Ok(Some(_)) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            // It went without having read all input, which is told once; what it said comes after.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            // All that is due at the end is done, or the monitor was killed and, if it has told
            // nothing, the program with it.
            Ok(None) | Err(_) => {
                self.far_open &= self.code.is_some();
                self.outcome = Some(Outcome::Ended(self.code.unwrap_or(KILLED)));
                Ok(())
            }
        }
    }

    fn read_far(&mut self, terminal: &Terminal<'_>) -> io::Result<()> {
        let Some(far) = &self.session.far else {
            return Ok(());
        };
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(far, &mut buffer) {
            // EIO is how a terminal says that its last user is gone.
            Ok(0) | Err(Errno::IO) => self.far_open = false,
            Ok(n) => write_all(terminal.stdout, &buffer[..n])?,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    fn read_input(&mut self, terminal: &Terminal<'_>) {
        let mut buffer = [0; 4 << 10];
        match rustix::io::read(terminal.stdin, &mut buffer) {
            Ok(n) if n > 0 => match &mut self.filter {
                None => self.to_far.extend(&buffer[..n]),
                Some(filter) => {
                    for &byte in &buffer[..n] {
                        if filter.take(byte, &mut self.to_far) {
                            self.outcome = Some(Outcome::Detached);
                            return;
                        }
                    }
                }
            },
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => {
                self.reads = false;
                match self.session.far {
                    // End of input reaches a program on a terminal as Ctrl-D.
                    Some(_) => self.to_far.push_back(4),
                    None => self.input_ends = true,
                }
            }
        }
    }

    fn send_input(&mut self) -> io::Result<()> {
        while !self.to_far.is_empty() {
            let (front, _) = self.to_far.as_slices();
            let front = &front[..front.len().min(CHUNK)];
            let sent = match &self.session.far {
                Some(far) => rustix::io::write(far, front).map_err(io::Error::from),
                None => wire::send(&self.session.socket, &Packet::Input(front.to_vec()), &[])
                    .map(|()| front.len()),
            };
            match sent {
                Ok(n) => drop(self.to_far.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nobody takes it any more; the end is on the way.
                Err(_) => self.to_far.clear(),
            }
        }
        if self.input_ends {
            match wire::send(&self.session.socket, &Packet::InputEnds, &[]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => self.input_ends = false,
            }
        }
        Ok(())
    }

    /// Passes every pending signal on; a resized window is a size, not a signal.
    fn forward(&mut self, terminal: &Terminal<'_>, signals: &Signals) -> io::Result<()> {
        while let Some(number) = signals.next()? {
            let packet = match number {
                libc::SIGCHLD | libc::SIGPIPE | libc::SIGTTIN | libc::SIGTTOU => continue,
                libc::SIGWINCH => match (tty::window_size(terminal.stdin), &self.session.far) {
                    (Ok(size), Some(far)) => {
                        tty::set_window_size(far, size)?;
                        continue;
                    }
                    (Ok(size), None) if self.session.tty => Packet::Window(size),
                    _ => continue,
                },
                number if self.session.passes_signals => Packet::Signal(number),
                // What would have ended this side; other signals would not.
                libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM => {
                    self.outcome = Some(Outcome::Left(number));
                    return Ok(());
                }
                _ => continue,
            };
            // A monitor that is gone took the program with it.
            let _ = wire::send(&self.session.socket, &packet, &[]);
        }
        Ok(())
    }
}

fn write_all(to: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&to, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&to, PollFlags::OUT)], None)?;
            }
            // A reader that went away wants no more; the program is not told, as with docker.
            Err(Errno::PIPE) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
