//! Published ports: sockets of the caller's network that lead to ports of the guest.
//!
//! A client's connection is taken over here and made once more inside, so the guest answers on
//! its own address and not on loopback. It comes from the client's own address where the guest's
//! answers find their way back to us ([`seen_from`]), else from the gateway's.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags};
use serde::{Deserialize, Serialize};

use super::addresses::{GATEWAY, GATEWAY6, GUEST, GUEST6};
use super::packet::Ends;
use super::reach::can_be_told;

/// What a published port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// Returns its name, as `-p` has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Where in the guest a published port leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The port.
    pub port: u16,
    /// What it carries.
    pub protocol: Protocol,
}

/// A socket of the caller's network, bound, and where it leads.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) to: Published,
    /// Flows of datagrams answer through it.
    pub(super) socket: Rc<OwnedFd>,
}

impl Door {
    /// The next client that waits for its connection; `None` when there is none for now.
    pub(super) fn accept(&self) -> Option<(OwnedFd, SocketAddr)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        loop {
            match rustix::net::acceptfrom_with(&self.socket, flags) {
                Ok((socket, client)) => {
                    let client = client.and_then(|client| SocketAddr::try_from(client).ok())?;
                    return Some((socket, client));
                }
                // The client gave up while it waited.
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return None,
            }
        }
    }

    /// The next datagram, read into `room`, and who sent it; `None` when there is none for now.
    pub(super) fn receive<'r>(&self, room: &'r mut [u8]) -> Option<(&'r [u8], SocketAddr)> {
        loop {
            match rustix::net::recvfrom(&self.socket, &mut *room, RecvFlags::empty()) {
                Ok((length, _, client)) => {
                    let client = client.and_then(|client| SocketAddr::try_from(client).ok())?;
                    return Some((&room[..length], client));
                }
                // Somebody did not want an earlier answer.
                Err(Errno::INTR | Errno::CONNREFUSED) => {}
                Err(_) => return None,
            }
        }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The ends of what `client` sends to `port` of the guest.
///
/// The client's address stays unless it means something else inside: loopback, link-local and
/// our own addresses become the gateway's, of the same family.
pub(super) fn seen_from(client: SocketAddr, port: u16) -> Ends {
    let ip = client.ip().to_canonical();
    let (guest, gateway): (IpAddr, IpAddr) = match ip {
        IpAddr::V4(_) => (GUEST.into(), GATEWAY.into()),
        IpAddr::V6(_) => (GUEST6.into(), GATEWAY6.into()),
    };
    let from = if can_be_told(ip) { ip } else { gateway };
    Ends {
        guest: SocketAddr::new(guest, port),
        remote: SocketAddr::new(from, client.port()),
    }
}

/// The same through IPv4 for an IPv6 client, whose address is lost then: many programs listen
/// on IPv4 alone.
pub(super) fn otherwise(ends: Ends) -> Option<Ends> {
    ends.guest.is_ipv6().then(|| Ends {
        guest: SocketAddr::new(GUEST.into(), ends.guest.port()),
        remote: SocketAddr::new(GATEWAY.into(), ends.remote.port()),
    })
}

/// `ends`, with another port for the client if `taken` says that this one has a flow already.
pub(super) fn with_free_port(mut ends: Ends, taken: impl Fn(Ends) -> bool) -> Option<Ends> {
    /// Port 0 is none.
    const PORTS: u16 = u16::MAX;
    for _ in 0..PORTS {
        if ends.remote.port() != 0 && !taken(ends) {
            return Some(ends);
        }
        ends.remote.set_port(ends.remote.port().wrapping_add(1));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(client: &str) -> String {
        let ends = seen_from(client.parse().unwrap(), 80);
        assert_eq!(ends.guest.port(), 80);
        assert_eq!(ends.guest.is_ipv4(), ends.remote.is_ipv4());
        ends.remote.to_string()
    }

    #[test]
    fn clients_keep_their_addresses_but_for_those_that_mean_something_else_inside() {
        assert_eq!(from("192.0.2.7:999"), "192.0.2.7:999");
        assert_eq!(from("10.217.94.1:999"), "10.217.94.1:999");
        assert_eq!(from("[2001:db8::7]:999"), "[2001:db8::7]:999");
        assert_eq!(from("[::ffff:192.0.2.7]:999"), "192.0.2.7:999");
        for other in [
            "127.0.0.1:999",
            "127.8.8.8:999",
            "10.217.93.2:999",
            "0.0.0.0:999",
        ] {
            assert_eq!(from(other), "10.217.93.1:999", "{other}");
        }
        assert_eq!(from("[::ffff:127.0.0.1]:999"), "10.217.93.1:999");
        for other in ["[::1]:999", "[fe80::1]:999", "[fd6b:c1a7:5e0b::2]:999"] {
            assert_eq!(from(other), "[fd6b:c1a7:5e0b::1]:999", "{other}");
        }
    }

    #[test]
    fn two_clients_never_share_a_port_of_one_address() {
        let first = seen_from("127.0.0.1:65535".parse().unwrap(), 80);
        let second = with_free_port(first, |ends| ends == first).unwrap();
        assert_eq!(second.remote.to_string(), "10.217.93.1:1");
        assert_eq!(with_free_port(first, |_| false), Some(first));
        assert_eq!(with_free_port(first, |_| true), None);
    }

    #[test]
    fn an_ipv6_client_can_come_by_ipv4() {
        let ends = seen_from("[2001:db8::7]:999".parse().unwrap(), 80);
        let other = otherwise(ends).unwrap();
        assert_eq!(other.guest.to_string(), "10.217.93.2:80");
        assert_eq!(other.remote.to_string(), "10.217.93.1:999");
        assert_eq!(otherwise(other), None);
    }
}
