//! A private network for steps and containers, without privilege and without a helper program.
//!
//! ```text
//! PrivateNetwork ── lease ──→ stack process (our own binary again), in the caller's network
//!                               ├ namespace 1: lo, eth0 ⇄ tun ┐
//!   step ── setns ──────────────┘                             ├ TCP, UDP, ICMP echo, DNS by
//!                               ├ namespace 2: lo, eth0 ⇄ tun ┘   sockets of the caller's network
//! ```
//!
//! One stack process serves all steps of a build, or one container. Steps that run at the same
//! time have a namespace each and can't reach one another; a step that ends leaves its namespace
//! to the next one, as BuildKit's pool does. Whatever a program connects to is connected to by
//! the stack with a plain socket, so nothing here needs rights outside the caller's user
//! namespace. What the outside answers (refused, unreachable, reset, half closed) is what the
//! program sees.
//!
//! The promise: the host's loopback addresses can't be reached, except through the gateway's
//! address and only where [`Reach::host_loopback`] was asked for; nothing outside can reach in
//! but through the sockets of [`Lease::publish`], and then never from a loopback address; all of
//! it ends with the lease, with the [`PrivateNetwork`] and with the calling process.
//!
//! The limits: `/dev/net/tun` must be there and open for the caller ([`probe`]); IPv6 is there
//! if the kernel has it; 1024 TCP connections and 1024 UDP and echo flows a namespace; one small
//! range of each address family is taken ([`addresses`]).
//!
//! Networks that users define are made of the same parts: a process of its own for each
//! ([`serve_members`]) takes over the interfaces of its members ([`Interface::join`]), passes
//! packets from one to the other, and is the stack for all else. What it promises is the same, but
//! that members reach one another; the process ends with its last member.

pub mod addresses;
mod desk;
mod dns;
mod flows;
mod hub;
mod interface;
mod link;
mod members;
mod namespace;
mod packet;
mod process;
mod published;
mod reach;
mod stack;
mod subnet;
mod tcp;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

pub use self::hub::{Fabric, Joining, Names};
pub use self::interface::{Interface, Membership, Wiring, bare_namespace, lead_out};
pub use self::members::serve_members;
pub use self::published::{Protocol, Published};
pub use self::reach::Reach;
pub use self::subnet::{RangeError, Subnet, routed};

pub(super) use self::process::{NETWORK_ARGV0, serve};

use self::process::{Answer, Request, receive, send};
use super::error::Error;
use super::spawner::start;

/// Where the kernel hands out network interfaces.
const TUN: &str = "/dev/net/tun";

/// Tells whether private networks can be made here, or what the kernel says to it.
pub fn probe() -> io::Result<()> {
    open_tun().map(drop)
}

fn open_tun() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(TUN, flags, Mode::empty())?)
}

/// The private networks of one build or one container. Costs nothing before the first
/// [`PrivateNetwork::lease`]; dropping it cuts off whatever still uses one.
#[derive(Debug, Default)]
pub struct PrivateNetwork {
    stack: Mutex<Option<Stack>>,
}

/// One namespace of a private network, for one step or container at a time. It is cut off from
/// the world when this is dropped.
#[derive(Debug)]
pub struct Lease {
    namespace: OwnedFd,
    /// The stack listens to it and sees the end of it.
    hold: OwnedFd,
    /// That of the stack.
    publishes: Arc<AtomicBool>,
}

impl Lease {
    /// The network namespace to join.
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Lets `socket`, which is bound (and listens, if that is what it is for) and does not wait,
    /// lead to a port of whoever joins the namespace, until the lease ends.
    pub fn publish(&self, to: Published, socket: BorrowedFd<'_>) -> Result<(), Error> {
        self.publishes.store(true, Ordering::Relaxed);
        send(&self.hold, &to, Some(socket)).map_err(|source| Error::Parent {
            doing: "publish a port",
            source,
        })
    }
}

impl PrivateNetwork {
    /// Makes or reuses a namespace, and starts the stack if this is the first one.
    ///
    /// May be called from any thread, also from several at once.
    pub fn lease(&self, reach: Reach) -> Result<Lease, Error> {
        let failed = |doing| move |source: io::Error| Error::Parent { doing, source };
        let (hold, theirs) = pair().map_err(failed("make a socket"))?;
        let publishes = {
            let mut stack = self.stack.lock().unwrap_or_else(PoisonError::into_inner);
            let stack = match &mut *stack {
                Some(stack) => stack,
                none => none.insert(Stack::start().map_err(failed("start the private network"))?),
            };
            send(&stack.control, &Request { reach }, Some(theirs.as_fd()))
                .map_err(failed("ask for a private network"))?;
            Arc::clone(&stack.publishes)
        };
        // A copy kept here would hide the end of the stack's.
        drop(theirs);
        match receive(&hold).map_err(failed("hear from the private network"))? {
            Some((Answer::Ready, Some(namespace))) => Ok(Lease {
                namespace,
                hold,
                publishes,
            }),
            Some((Answer::Failed(failure), _)) => Err(failure.into()),
            Some((Answer::Ready, None)) | None => Err(Error::Parent {
                doing: "hear from the private network",
                source: io::ErrorKind::UnexpectedEof.into(),
            }),
        }
    }
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        kind,
        flags,
        None,
    )?)
}

/// The running stack process.
#[derive(Debug)]
struct Stack {
    pidfd: OwnedFd,
    control: OwnedFd,
    /// Whether it ever had a port of the machine.
    publishes: Arc<AtomicBool>,
}

impl Stack {
    fn start() -> io::Result<Self> {
        let (control, theirs) = pair()?;
        let null = || {
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            rustix::fs::open("/dev/null", flags, Mode::empty())
        };
        let fds = vec![null()?, null()?, null()?, theirs];
        let (_, pidfd): (Pid, _) = start(NETWORK_ARGV0, 0, fds)?;
        Ok(Self {
            pidfd,
            control,
            publishes: Arc::default(),
        })
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // It holds nothing that it would have to bring to an end in order.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        // The kernel takes tens of milliseconds to take an interface away. Who published a port
        // must find it free afterwards; nobody else needs to wait.
        let unwaited = match (
            self.publishes.load(Ordering::Relaxed),
            self.pidfd.try_clone(),
        ) {
            (false, Ok(pidfd)) => std::thread::Builder::new()
                .spawn(move || reap(&pidfd))
                .is_ok(),
            _ => false,
        };
        if !unwaited {
            reap(&self.pidfd);
        }
    }
}

fn reap(pidfd: &OwnedFd) {
    let _ = rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
    });
}
