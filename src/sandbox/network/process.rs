//! The stack process: one thread that waits for all descriptors at once.
//!
//! Over its control socket come [`Request`]s, each with the stack's end of a lease; on that goes
//! the [`Answer`], with the namespace. The end of a lease frees its namespace for the next one,
//! the end of the control socket ends the process.
//!
//! It reads packets that nobody has checked, so of its rights it keeps only those that making
//! namespaces takes.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};
use smoltcp::time::Instant;

use crate::sys;

use super::super::child::isolate;
use super::super::error::{Failure, Stage};
use super::super::report;
use super::hub::Hub;
use super::namespace::{self, MTU};
use super::reach::Reach;
use super::stack::{Network, Shared, Token};

/// `argv[0]` of the stack process.
pub(in crate::sandbox) const NETWORK_ARGV0: &CStr = c"cooper:network";
const CONTROL_FD: i32 = 3;
/// Exit code of a stack process that was started by hand or can't wait for anything.
const NOT_A_CHILD: i32 = 125;
/// Descriptors that all flows of several namespaces need.
const DESCRIPTORS: u64 = 16 << 10;
/// What epoll hands back for the control socket; no namespace has this number.
pub(super) const CONTROL: u64 = u64::MAX;

/// Asks for a namespace; the stack's end of the lease comes with it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) reach: Reach,
}

/// Answers on the lease.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The namespace comes with it.
    Ready,
    Failed(Failure),
}

pub(super) use report::{receive, send};

/// Serves as the stack process and never returns.
pub(in crate::sandbox) fn serve() -> ! {
    let Ok(control) = sys::fd::inherited(CONTROL_FD) else {
        sys::process::exit_now(NOT_A_CHILD)
    };
    // Whoever asks next hears the end of the control socket.
    let _ = prepare(&control).and_then(|()| Process::new(control)?.run());
    sys::process::exit_now(NOT_A_CHILD)
}

fn prepare(control: &OwnedFd) -> io::Result<()> {
    isolate(control, c"cooper-network")?;
    restrict(CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN)
}

/// Gives up all rights but `rights` and makes room for descriptors.
pub(super) fn restrict(rights: CapabilitySet) -> io::Result<()> {
    let kept = rustix::thread::capabilities(None)?.permitted & rights;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets)?;
    rustix::thread::set_no_new_privs(true)?;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    let wanted = Rlimit {
        current: Some(most),
        maximum: limit.maximum,
    };
    Ok(rustix::process::setrlimit(Resource::Nofile, wanted)?)
}

struct Process {
    control: OwnedFd,
    turns: Turns,
    /// Namespaces by the numbers of what goes through them.
    namespaces: BTreeMap<u16, OwnedFd>,
}

/// What a process that serves namespaces does all the time.
#[derive(Debug)]
pub(super) struct Turns {
    pub(super) networks: BTreeMap<u16, Network>,
    pub(super) shared: Shared,
    began: std::time::Instant,
}

impl Turns {
    /// Waits for `control` as well as for all that belongs to namespaces.
    pub(super) fn new(control: &OwnedFd, hub: Option<Hub>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let data = EventData::new_u64(CONTROL);
        epoll::add(&epoll, control, data, EventFlags::IN)?;
        let shared = Shared {
            epoll,
            room: vec![0; MTU + sys::net::PACKET_HEADER],
            now: Instant::ZERO,
            hub,
        };
        Ok(Self {
            networks: BTreeMap::new(),
            shared,
            began: std::time::Instant::now(),
        })
    }

    /// Waits once, until `until` at most, and serves the namespaces. What else happened comes
    /// back.
    pub(super) fn turn(&mut self, until: Option<Instant>) -> io::Result<Vec<EventData>> {
        let mut events: Vec<Event> = Vec::with_capacity(256);
        let next = self.networks.values().filter_map(Network::next_wake);
        let timeout = next.chain(until).min().map(|at| self.until(at));
        match epoll::wait(
            &self.shared.epoll,
            spare_capacity(&mut events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(errno) => return Err(errno.into()),
        }
        self.shared.now = self.now();
        let mut others = Vec::new();
        for Event { data, flags, .. } in events.iter().copied() {
            let token = Token::from(data);
            match self.networks.get_mut(&token.network) {
                Some(network) if data.u64() != CONTROL => {
                    network.ready(token.what, flags, &mut self.shared);
                }
                _ => others.push(data),
            }
        }
        for network in self.networks.values_mut() {
            network.wake(&mut self.shared);
        }
        Ok(others)
    }

    fn now(&self) -> Instant {
        let micros = self.began.elapsed().as_micros();
        Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// The moment that comes after `time`.
    pub(super) fn after(&self, time: std::time::Duration) -> Instant {
        self.now() + time.into()
    }

    /// Whether a moment has come.
    pub(super) fn is_past(&self, at: Instant) -> bool {
        at <= self.now()
    }

    fn until(&self, at: Instant) -> Timespec {
        let micros = (at.total_micros() - self.now().total_micros()).max(0);
        Timespec {
            tv_sec: micros / 1_000_000,
            tv_nsec: (micros % 1_000_000) * 1000,
        }
    }
}

impl Process {
    fn new(control: OwnedFd) -> io::Result<Self> {
        let turns = Turns::new(&control, None)?;
        Ok(Self {
            control,
            turns,
            namespaces: BTreeMap::new(),
        })
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            for event in self.turns.turn(None)? {
                // What belongs to a namespace that is gone is no request.
                if event.u64() == CONTROL && !self.request()? {
                    return Ok(());
                }
            }
        }
    }

    /// Serves one request; `false` when there will be no more.
    fn request(&mut self) -> io::Result<bool> {
        let Some((Request { reach }, lease)) = receive(&self.control)? else {
            return Ok(false);
        };
        let Some(lease) = lease else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        // If the asker is gone, the lease has ended, which epoll will say.
        let _ = match self.lend(lease.as_fd(), reach) {
            Ok(namespace) => send(&lease, &Answer::Ready, Some(namespace)),
            Err(failure) => send(&lease, &Answer::Failed(failure), None),
        };
        Ok(true)
    }

    /// A namespace that nobody uses, now lent to the holder of the other end of `lease`.
    fn lend(&mut self, lease: BorrowedFd<'_>, reach: Reach) -> Result<BorrowedFd<'_>, Failure> {
        let failed = |error: io::Error| {
            Failure::setup(Stage::NetworkNamespace, "the private network", error)
        };
        let lease = lease.try_clone_to_owned().map_err(failed)?;
        let turns = &mut self.turns;
        let free = turns.networks.iter().find(|(_, network)| network.is_free());
        let number = match free {
            Some((&number, _)) => number,
            None => {
                let number = turns.networks.len() as u16;
                let made = namespace::make()?;
                let network = Network::new(number, made.tun, &turns.shared);
                let network = network.map_err(|errno| failed(errno.into()))?;
                turns.networks.insert(number, network);
                self.namespaces.insert(number, made.fd);
                number
            }
        };
        let gone = || failed(Errno::NOENT.into());
        let network = turns.networks.get_mut(&number).ok_or_else(gone)?;
        let lent = network.lease(lease, reach, &turns.shared);
        lent.map_err(|errno| failed(errno.into()))?;
        let namespace = self.namespaces.get(&number).ok_or_else(gone)?;
        Ok(namespace.as_fd())
    }
}
