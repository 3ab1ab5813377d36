//! A container's side of networks that users define: its namespace, and an interface for each
//! network it is on.
//!
//! The interface is made by the container's own side, which has the rights to its namespace; the
//! network's process gets the other end. Both hold it: the interface outlives a process that is
//! killed, and can be handed to the next one. It goes away with its last holder.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::Shutdown;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use super::super::error::{Error, Failure, Stage};
use super::hub::Joining;
use super::namespace;
use super::process::{Answer, receive, send};
use super::published::Published;

/// What an interface has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiring {
    /// Its name, such as `eth0`.
    pub name: String,
    /// Its addresses, with the bits of their subnets.
    pub addresses: Vec<(IpAddr, u8)>,
    /// What everything without a nearer route goes through.
    pub gateways: Vec<IpAddr>,
    /// Single addresses beyond it.
    pub beyond: Vec<IpAddr>,
}

/// Makes a namespace that has a loopback interface only.
pub fn bare_namespace() -> Result<OwnedFd, Error> {
    Ok(namespace::on_a_thread(namespace::bare)?)
}

/// An interface in a container's namespace.
#[derive(Debug)]
pub struct Interface {
    tun: OwnedFd,
}

impl Interface {
    /// Makes one in `namespace`.
    pub fn new(namespace: BorrowedFd<'_>, wiring: &Wiring) -> Result<Self, Error> {
        let tun = within(namespace, wiring, namespace::interface)?;
        Ok(Self { tun })
    }

    /// Hands the other end to the process at the other end of `process`.
    pub fn join(&self, process: OwnedFd, joining: &Joining) -> io::Result<Membership> {
        send(&process, joining, Some(self.tun.as_fd()))?;
        match receive(&process)? {
            Some((Answer::Ready, _)) => Ok(Membership { hold: process }),
            Some((Answer::Failed(_), _)) | None => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

/// Sends what lies beyond an interface, and everything else if it has gateways, through it.
pub fn lead_out(namespace: BorrowedFd<'_>, wiring: &Wiring) -> Result<(), Error> {
    within(namespace, wiring, namespace::lead_out)
}

/// Does `work` in a namespace.
fn within<T: Send + 'static>(
    namespace: BorrowedFd<'_>,
    wiring: &Wiring,
    work: impl FnOnce(&Wiring) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Error> {
    let entered = |error: io::Error| {
        let stage = Stage::JoinNetwork;
        Failure::setup(stage, "the container", error)
    };
    let namespace = namespace.try_clone_to_owned().map_err(entered)?;
    let wiring = wiring.clone();
    let done = namespace::on_a_thread(move || {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), kind).map_err(|e| entered(e.into()))?;
        work(&wiring)
    });
    Ok(done?)
}

/// Being a member of a network. It ends when this is dropped; when the process ends first,
/// [`Membership::as_fd`] says so.
#[derive(Debug)]
pub struct Membership {
    hold: OwnedFd,
}

impl Membership {
    /// Lets `socket` lead to a port of the member, as [`super::Lease::publish`] does.
    pub fn publish(&self, to: Published, socket: BorrowedFd<'_>) -> io::Result<()> {
        send(&self.hold, &to, Some(socket))
    }

    /// Leaves, and returns when the process has let go of the interface.
    pub fn leave(self) -> io::Result<()> {
        rustix::net::shutdown(&self.hold, Shutdown::Write)?;
        // Nothing more is said but the end.
        match receive::<Answer>(&self.hold) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            _ => Ok(()),
        }
    }
}

impl AsFd for Membership {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.hold.as_fd()
    }
}
