//! A container's part in its networks, as its monitor keeps it up.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::sandbox;
use crate::sandbox::network::{
    Interface, Joining, Membership, Published, Reach, Wiring, addresses, lead_out,
};

use super::UserNetwork;
use super::lease::Lease;
use super::process::{self, Place};

/// How often a network is asked to take a member that it may be losing at the same moment.
const TRIES: usize = 10;
/// The time between two attempts to come back to a network.
const PAUSE: Duration = Duration::from_secs(1);

/// One network that a container is on: the interface, and what the network's process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::runner) struct Plug {
    pub(in crate::runner) network: String,
    pub(in crate::runner) wiring: Wiring,
    pub(in crate::runner) joining: Joining,
    /// What leads to the world there; nothing does from an internal network.
    ways: Vec<IpAddr>,
}

impl Plug {
    /// Decides how a container is on a network.
    pub(in crate::runner) fn new(
        network: &UserNetwork,
        lease: &Lease,
        reach: Reach,
        servers: &[IpAddr],
    ) -> Self {
        let ranges = network.ranges.iter().zip(&lease.addresses);
        let gateways = network.ranges.iter().map(|range| range.gateway);
        Self {
            network: network.name.clone(),
            wiring: Wiring {
                name: String::new(),
                addresses: ranges
                    .map(|(range, address)| (*address, range.subnet.bits()))
                    .collect(),
                gateways: Vec::new(),
                beyond: Vec::new(),
            },
            joining: Joining {
                member: lease.container.clone(),
                addresses: lease.addresses.clone(),
                reach,
                servers: servers.to_vec(),
            },
            ways: gateways.filter(|_| !network.internal).collect(),
        }
    }

    /// Makes it the next interface of a container that is on `others`; `private` says that it
    /// has a private network as well, by the first interface. One network answers for names, and
    /// one leads to the world. Tells whether it does anything that it did not do before.
    pub(in crate::runner) fn settle(&mut self, others: &[&Self], private: bool) -> bool {
        let before = self.wiring.clone();
        if before.name.is_empty() {
            let taken = |name: &String| others.iter().any(|other| other.wiring.name == *name);
            let mut names = (usize::from(private)..).map(|number| format!("eth{number}"));
            self.wiring.name = names.find(|name| !taken(name)).unwrap_or_default();
        }
        if others.iter().all(|other| other.wiring.beyond.is_empty()) {
            self.wiring.beyond = vec![addresses::DNS.into()];
        }
        if !private && others.iter().all(|other| other.wiring.gateways.is_empty()) {
            self.wiring.gateways.clone_from(&self.ways);
        }
        before != self.wiring
    }
}

/// A container on a network.
#[derive(Debug)]
pub(in crate::runner) struct Member {
    plug: Plug,
    interface: Interface,
    /// `None` while the network has lost it.
    membership: Option<Membership>,
    /// What leads into the container by this network.
    ports: Vec<(Published, OwnedFd)>,
    /// When it tries to come back.
    again: Instant,
}

impl Member {
    /// Makes the interface in `namespace` and joins the network.
    pub(in crate::runner) fn new(
        place: &Place,
        namespace: BorrowedFd<'_>,
        plug: &Plug,
    ) -> Result<Self, sandbox::Error> {
        let interface = Interface::new(namespace, &plug.wiring)?;
        let membership = join(place, &interface, plug);
        let membership = membership.map_err(|source| sandbox::Error::Parent {
            doing: "join the network",
            source,
        })?;
        Ok(Self {
            plug: plug.clone(),
            interface,
            membership: Some(membership),
            ports: Vec::new(),
            again: Instant::now(),
        })
    }

    /// Which network it is.
    pub(in crate::runner) fn plug(&self) -> &Plug {
        &self.plug
    }

    /// Whether it is the container's way to the world.
    pub(in crate::runner) fn leads_out(&self) -> bool {
        !self.plug.wiring.gateways.is_empty()
    }

    /// Takes over the part of a network that the container has left, if there is one to take
    /// over.
    pub(in crate::runner) fn take_over(
        &mut self,
        namespace: BorrowedFd<'_>,
        others: &[&Plug],
        private: bool,
    ) -> Result<(), sandbox::Error> {
        match self.plug.settle(others, private) {
            true => lead_out(namespace, &self.plug.wiring),
            false => Ok(()),
        }
    }

    /// Leaves the network, and returns when the interface is gone, with the ports that led in.
    pub(in crate::runner) fn leave(self) -> io::Result<Vec<(Published, OwnedFd)>> {
        drop(self.interface);
        self.membership.map_or(Ok(()), Membership::leave)?;
        Ok(self.ports)
    }

    /// Lets `socket` lead to a port of the container.
    pub(in crate::runner) fn publish(&mut self, to: Published, socket: &OwnedFd) -> io::Result<()> {
        if let Some(membership) = &self.membership {
            membership.publish(to, socket.as_fd())?;
        }
        self.ports.push((to, socket.try_clone()?));
        Ok(())
    }

    /// What says something when the network's process has ended, and nothing before.
    pub(in crate::runner) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.membership.as_ref().map(AsFd::as_fd)
    }

    /// The network's process has ended: the next one has to take it in.
    pub(in crate::runner) fn lost(&mut self) {
        self.membership = None;
        self.again = Instant::now();
    }

    /// When [`Member::come_back`] is to be called.
    pub(in crate::runner) fn deadline(&self) -> Option<Instant> {
        self.membership.is_none().then_some(self.again)
    }

    /// Comes back to a network that has lost it, if it is time to.
    pub(in crate::runner) fn come_back(&mut self, place: &Place) {
        let now = Instant::now();
        if self.membership.is_some() || self.again > now {
            return;
        }
        let joined = join(place, &self.interface, &self.plug).and_then(|membership| {
            for (to, socket) in &self.ports {
                membership.publish(*to, socket.as_fd())?;
            }
            Ok(membership)
        });
        self.membership = joined.ok();
        self.again = now + PAUSE;
    }
}

fn join(place: &Place, interface: &Interface, plug: &Plug) -> io::Result<Membership> {
    let mut joined = Err(io::ErrorKind::ConnectionReset.into());
    for _ in 0..TRIES {
        joined = process::connect(place).and_then(|it| interface.join(it, &plug.joining));
        match &joined {
            // It ended with its last member at that moment.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                ) => {}
            _ => break,
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plug(internal: bool) -> Plug {
        Plug {
            network: "web".to_owned(),
            wiring: Wiring {
                name: String::new(),
                addresses: Vec::new(),
                gateways: Vec::new(),
                beyond: Vec::new(),
            },
            joining: Joining {
                member: String::new(),
                addresses: Vec::new(),
                reach: Reach::default(),
                servers: Vec::new(),
            },
            ways: match internal {
                true => Vec::new(),
                false => vec!["10.0.0.1".parse().unwrap()],
            },
        }
    }

    #[test]
    fn one_network_answers_for_names_and_one_leads_out() {
        let does = |plug: &Plug| {
            (
                !plug.wiring.beyond.is_empty(),
                !plug.wiring.gateways.is_empty(),
            )
        };
        let (mut first, mut second, mut third) = (plug(true), plug(false), plug(false));
        assert!(first.settle(&[], false));
        assert!(second.settle(&[&first], false));
        assert!(third.settle(&[&first, &second], false));
        assert_eq!(does(&first), (true, false));
        assert_eq!(does(&second), (false, true));
        assert_eq!(does(&third), (false, false));
        let name = |plug: &Plug| plug.wiring.name.clone();
        assert_eq!(
            [name(&first), name(&second), name(&third)],
            ["eth0", "eth1", "eth2"]
        );
        // Once the first two are left, the third does it all by the same interface.
        assert!(third.settle(&[], false) && !third.settle(&[], false));
        assert_eq!(
            (does(&third), name(&third)),
            ((true, true), "eth2".to_owned())
        );
        let mut beside = plug(false);
        assert!(beside.settle(&[], true));
        assert_eq!(
            (does(&beside), name(&beside)),
            ((true, false), "eth1".to_owned())
        );
    }
}
