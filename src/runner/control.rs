//! Asking a container's monitor for something: stop, kill, pause, wait, restart, update.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::container::Container;
use super::error::{Error, Told};
use super::monitor::short_path;
use super::processes::{self, Process, Reaction};
use super::spec::Network;
use super::state::{KILLED, State, Status, Wellness};
use super::wire::{self, Answer, Packet, Refusal, Request};

/// How long a monitor that has just been started may take to open its socket.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to the monitor of a container.
#[derive(Debug)]
pub(super) struct Link {
    socket: OwnedFd,
    name: String,
}

/// Connects to the monitor of `container`; [`Error::NotRunning`] if it has none.
pub(super) fn connect(container: &Container) -> Result<Link, Error> {
    let failed = |source| Error::Monitor { source };
    let not_running = || Error::NotRunning {
        name: container.config.name.clone(),
    };
    let dir = File::open(&container.dir).map_err(failed)?;
    let address = SocketAddrUnix::new(short_path(dir.as_fd())).map_err(|e| failed(e.into()))?;
    let until = Instant::now() + PATIENCE;
    loop {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| failed(errno.into()))?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => {
                return Ok(Link {
                    socket,
                    name: container.config.name.clone(),
                });
            }
            // It is being started, or it has ended, or there is none.
            Err(Errno::NOENT | Errno::CONNREFUSED) => {
                if !container.runs()? || Instant::now() > until {
                    return Err(not_running());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

impl Link {
    /// Takes over a connection whose first request has been sent.
    pub(super) fn asked(socket: OwnedFd, container: &Container) -> Self {
        Self {
            socket,
            name: container.config.name.clone(),
        }
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask(&self, request: &Request) -> Result<(), Error> {
        let packet = Packet::Request(request.clone());
        wire::send(&self.socket, &packet, &[]).map_err(|source| self.lost(source))?;
        self.answer().map(drop)
    }

    /// The same with descriptors, which may come back as well.
    pub(super) fn ask_with(
        self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(OwnedFd, Vec<OwnedFd>), Error> {
        let packet = Packet::Request(request.clone());
        wire::send(&self.socket, &packet, fds).map_err(|source| self.lost(source))?;
        let fds = self.answer()?;
        Ok((self.socket, fds))
    }

    /// Waits for the answer to what was asked.
    pub(super) fn answer(&self) -> Result<Vec<OwnedFd>, Error> {
        let received = wire::receive(&self.socket).map_err(|source| self.lost(source))?;
        match received {
            Some((Packet::Answer(Answer::Done), fds)) => Ok(fds),
            Some((Packet::Answer(Answer::Refused(refusal)), _)) => Err(self.refused(refusal)),
            Some(_) => Err(self.lost(io::ErrorKind::InvalidData.into())),
            None => Err(Error::NotRunning {
                name: self.name.clone(),
            }),
        }
    }

    fn lost(&self, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Error::NotRunning {
                name: self.name.clone(),
            },
            _ => Error::Monitor { source },
        }
    }

    fn refused(&self, refusal: Refusal) -> Error {
        let name = self.name.clone();
        match refusal {
            Refusal::NotRunning => Error::NotRunning { name },
            Refusal::Paused => Error::Paused { name },
            Refusal::NotPaused => Error::NotPaused { name },
            Refusal::NotStarted {
                chain,
                code,
                remedy,
            } => Error::NotStarted(Told::new(chain, code, remedy)),
            Refusal::Os { errno } => Error::Monitor {
                source: io::Error::from_raw_os_error(errno),
            },
        }
    }

    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket
    }
}

/// What became of a request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It did not run.
    WasDown,
    /// The program ended when asked.
    Ended,
    /// It did not end in time, and was killed.
    Killed,
    /// The program ignores the signal, so it was killed at once.
    Deaf {
        /// The signal.
        signal: i32,
    },
}

/// Stops a container: its stop signal, then, after `timeout` seconds, SIGKILL. Negative is for
/// ever, `None` what the container was made with.
pub fn stop(
    container: &Container,
    signal: Option<i32>,
    timeout: Option<i64>,
) -> Result<Stopped, Error> {
    let link = match connect(container) {
        Err(Error::NotRunning { .. }) => return Ok(Stopped::WasDown),
        link => link?,
    };
    let signal = signal.unwrap_or_else(|| container.stop_signal());
    match end(container, &link, signal, timeout) {
        // It ended by itself meanwhile.
        Err(Error::NotRunning { .. }) => Ok(Stopped::Ended),
        stopped => stopped,
    }
}

fn end(
    container: &Container,
    link: &Link,
    signal: i32,
    timeout: Option<i64>,
) -> Result<Stopped, Error> {
    let waiting = connect(container)?;
    waiting.ask(&Request::Wait)?;
    let state = container.state()?;
    let deaf = is_deaf(container, &state, signal);
    let send = |number| {
        link.ask(&Request::Signal {
            number,
            stopping: true,
            of: state.pid,
        })
    };
    send(signal)?;
    let timeout = timeout.unwrap_or_else(|| container.stop_timeout());
    let timeout = match deaf {
        true => Some(Duration::ZERO),
        false => u64::try_from(timeout).ok().map(Duration::from_secs),
    };
    if waiting.ended(timeout)?.is_some() {
        return Ok(Stopped::Ended);
    }
    send(libc::SIGKILL)?;
    waiting.ended(None)?;
    Ok(match deaf {
        true => Stopped::Deaf { signal },
        false => Stopped::Killed,
    })
}

/// How long a program that is deaf so far may take to set up what it does with its stop signal.
const SETTLING: Duration = Duration::from_millis(500);
/// How long one that the signal would end so far is watched, unless it waits for something before:
/// it may be about to ignore the signal.
const BRIEFLY: Duration = Duration::from_millis(100);

/// The stop signal of a container that has just been started, if its program is sure to do
/// nothing about it. Looks once or twice in the usual case; only a program that is still busy
/// with its start, or deaf so far, is given a moment to become otherwise.
pub fn deaf(container: &Container) -> Result<Option<i32>, Error> {
    let signal = container.stop_signal();
    let begun = Instant::now();
    loop {
        let state = container.state()?;
        if state.status != Status::Running {
            return Ok(None);
        }
        match reaction(container, &state, signal) {
            None | Some(Reaction::Handles | Reaction::Ends { asleep: true }) => return Ok(None),
            Some(Reaction::Ends { .. }) if begun.elapsed() > BRIEFLY => return Ok(None),
            Some(Reaction::Nothing) if begun.elapsed() > SETTLING => return Ok(Some(signal)),
            Some(Reaction::Ends { .. }) => std::thread::sleep(Duration::from_millis(2)),
            Some(Reaction::Nothing) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// What the program would do about `signal` now; `None` where that can't be known.
fn reaction(container: &Container, state: &State, signal: i32) -> Option<Reaction> {
    let own_init = container.config.request.init;
    let pid = state.pid?;
    processes::reaction(pid, own_init, signal)
}

/// Whether the program is sure to do nothing about `signal`.
fn is_deaf(container: &Container, state: &State, signal: i32) -> bool {
    let reaction = reaction(container, state, signal);
    reaction == Some(Reaction::Nothing) && state.status != Status::Paused
}

impl Link {
    /// Waits for the end that was asked for, and until the monitor has done all that is due then;
    /// `None` when it takes longer than `timeout`. The code is `None` when the monitor was killed
    /// before it knew one.
    fn ended(&self, timeout: Option<Duration>) -> Result<Option<Option<i32>>, Error> {
        let until = timeout.map(|timeout| Instant::now() + timeout);
        let mut code = None;
        loop {
            let until = until.filter(|_| code.is_none());
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            });
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(self.lost(errno.into())),
            }
            match wire::receive(&self.socket).map_err(|source| self.lost(source)) {
                Ok(Some((Packet::Ended(told), _))) => code = Some(told),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Some(code)),
                Err(_) if code.is_some() => return Ok(Some(code)),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Sends signal `number` to the program of a container.
pub fn kill(container: &Container, number: i32) -> Result<(), Error> {
    let link = connect(container)?;
    let kills = number == libc::SIGKILL;
    let waiting = match kills {
        true => Some(connect(container)?),
        false => None,
    };
    if let Some(waiting) = &waiting {
        waiting.ask(&Request::Wait)?;
    }
    // docker takes any kill as the wish that it stays down.
    link.ask(&Request::Signal {
        number,
        stopping: true,
        of: None,
    })?;
    if let Some(waiting) = &waiting {
        waiting.ended(None)?;
    }
    Ok(())
}

/// Stops and starts a container that runs, without its monitor going away. Returns whether it
/// ran; one that did not is for the caller to start.
pub fn restart(
    container: &Container,
    signal: Option<i32>,
    timeout: Option<i64>,
) -> Result<bool, Error> {
    let link = match connect(container) {
        Err(Error::NotRunning { .. }) => return Ok(false),
        link => link?,
    };
    link.ask(&Request::Restart)?;
    let signal = signal.unwrap_or_else(|| container.stop_signal());
    match end(container, &link, signal, timeout) {
        Ok(_) => {}
        // Between two runs.
        Err(Error::NotRunning { .. }) => {}
        Err(error) => return Err(error),
    }
    match connect(container).and_then(|link| link.ask(&Request::Started)) {
        Err(Error::NotRunning { .. }) => Ok(false),
        asked => asked.map(|()| true),
    }
}

/// Halts all processes of a container.
pub fn pause(container: &Container) -> Result<(), Error> {
    connect(container)?.ask(&Request::Pause)
}

/// Lets them go on.
pub fn unpause(container: &Container) -> Result<(), Error> {
    match container.state()?.status {
        Status::Running | Status::Paused => connect(container)?.ask(&Request::Unpause),
        _ => Err(Error::NotPaused {
            name: container.config.name.clone(),
        }),
    }
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Its program does not run, or ends.
    NotRunning,
    /// It ends the next time.
    NextExit,
    /// It is there no more.
    Removed,
    /// Its health checks succeed.
    Healthy,
}

/// Waits, and returns the exit code there is then.
pub fn wait(container: &Container, until: Until) -> Result<i32, Error> {
    let step = Duration::from_millis(20);
    let mut last = container.state()?;
    let mut seen_end = last.finished.clone();
    let mut known = known_code(&last);
    loop {
        let over = match until {
            Until::NotRunning => !last.status.is_up(),
            Until::NextExit => last.finished.is_some() && last.finished != seen_end,
            Until::Removed => false,
            Until::Healthy => is_healthy(container, &last)?,
        };
        if over {
            return Ok(last.exit_code.unwrap_or(0));
        }
        if until == Until::NextExit && last.status.is_up() {
            seen_end = None;
        }
        // A monitor tells the end; whatever else there is to see is looked at now and then.
        let tells = match until {
            Until::NotRunning | Until::NextExit => true,
            Until::Removed => last.status.is_up(),
            Until::Healthy => false,
        };
        let told = match tells {
            true => connect(container)
                .and_then(|link| link.ask(&Request::Wait).and_then(|()| link.ended(None))),
            false => Ok(None),
        };
        match told {
            // As docker has it, also when it is about to be started again.
            Ok(Some(Some(code))) if until != Until::Removed => return Ok(code),
            // A monitor that was killed took the program with it.
            Ok(Some(code)) => known = Some(code.unwrap_or(KILLED)),
            Ok(None) | Err(Error::NotRunning { .. }) => std::thread::sleep(step),
            Err(_) if !container.exists() => {}
            Err(error) => return Err(error),
        }
        if !container.exists() {
            return known.ok_or_else(|| Error::NoContainer {
                text: container.config.name.clone(),
                nearest: Vec::new(),
            });
        }
        last = match container.state() {
            // It has gone since.
            Err(_) if !container.exists() => continue,
            state => state?,
        };
        known = known_code(&last).or(known);
    }
}

/// The code to tell of a container that is there no more, if this was its last state.
fn known_code(state: &State) -> Option<i32> {
    let ended = !state.status.is_up() || state.finished.is_some();
    ended.then(|| state.exit_code.unwrap_or(0))
}

fn is_healthy(container: &Container, state: &State) -> Result<bool, Error> {
    let name = || container.config.name.clone();
    match &state.health {
        _ if !state.status.is_up() => Err(Error::NotRunning { name: name() }),
        None => Err(Error::NoHealthCheck { name: name() }),
        Some(health) => Ok(health.status == Wellness::Healthy),
    }
}

/// Keeps a container whose program is to be started again from that, as long as the link is there;
/// [`Error::NotRunning`] for any other.
pub(super) fn hold(container: &Container) -> Result<Link, Error> {
    let link = connect(container)?;
    link.ask(&Request::Hold)?;
    Ok(link)
}

/// Lets the monitor read the container's config again.
pub(super) fn reload(container: &Container) -> Result<(), Error> {
    connect(container)?.ask(&Request::Reload)
}

/// Lists the processes of a container that runs.
pub fn top(container: &Container) -> Result<Vec<Process>, Error> {
    let state = container.state()?;
    let Some(monitor) = state.monitor.filter(|_| state.pid.is_some()) else {
        return Err(Error::NotRunning {
            name: container.config.name.clone(),
        });
    };
    processes::inside(monitor).map_err(|source| Error::Monitor { source })
}

/// Bytes that a container that runs has received and sent by networks of its own; `None` where it
/// has none, or they can't be known.
pub fn traffic(container: &Container) -> Result<Option<(u64, u64)>, Error> {
    let own = container.config.request.network != Network::Host;
    let pid = container.state()?.pid.filter(|_| own);
    Ok(pid.and_then(processes::traffic))
}

/// The root directory of a container that runs, as its programs see it.
pub(super) fn root(container: &Container) -> Result<OwnedFd, Error> {
    let (_, mut fds) = connect(container)?.ask_with(&Request::Root, &[])?;
    fds.pop().ok_or(Error::Monitor {
        source: io::ErrorKind::InvalidData.into(),
    })
}
