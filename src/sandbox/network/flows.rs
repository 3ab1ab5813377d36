//! Flows without a connection: UDP and echo requests, each a connected socket of the caller's
//! network, or one client of a published port.
//!
//! A flow ends when nothing moved for a while; the next datagram makes a new one. Questions to
//! the name server go to the caller's name servers, the first one first, the next one when the
//! guest asks again.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto,
};
use smoltcp::time::{Duration, Instant};

use super::link::Link;
use super::packet::{self, Ends, Unreachable};

/// How long a flow lives on which nothing moves; routers have 30 seconds and more.
const IDLE: Duration = Duration::from_secs(90);
/// How long a question to a name server or an echo request can be answered.
const BRIEF: Duration = Duration::from_secs(20);

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Udp,
    Echo,
}

/// One flow.
#[derive(Debug)]
pub(super) struct Flow {
    kind: Kind,
    ends: Ends,
    outside: Outside,
    /// Where to send when the one before gave no answer; more than one for name servers only.
    remotes: Vec<SocketAddr>,
    /// How many datagrams were sent since the last answer.
    unanswered: usize,
    /// Beginning of the packet that was sent last, for the error that answers it.
    sent: Vec<u8>,
    brief: bool,
    last: Instant,
}

/// The side of the caller's network.
#[derive(Debug)]
enum Outside {
    /// A socket for this flow, connected.
    Own(OwnedFd),
    /// The socket of a published port, the number of its door, and the client.
    Door(Rc<OwnedFd>, u32, SocketAddr),
}

impl Outside {
    fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Self::Own(socket) => rustix::net::send(socket, bytes, SendFlags::NOSIGNAL),
            Self::Door(socket, _, client) => {
                rustix::net::sendto(socket, bytes, SendFlags::NOSIGNAL, client)
            }
        }
    }
}

fn connect(kind: Kind, to: SocketAddr) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (family, protocol): (_, Protocol) = match (to.is_ipv6(), kind) {
        (false, Kind::Udp) => (AddressFamily::INET, ipproto::UDP),
        (false, Kind::Echo) => (AddressFamily::INET, ipproto::ICMP),
        (true, Kind::Udp) => (AddressFamily::INET6, ipproto::UDP),
        (true, Kind::Echo) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let fd = rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(protocol))?;
    rustix::net::connect(&fd, &to)?;
    Ok(fd)
}

impl Flow {
    /// Opens a socket to the first of `remotes`, of which there is one at least.
    pub(super) fn open(
        kind: Kind,
        ends: Ends,
        remotes: Vec<SocketAddr>,
        now: Instant,
    ) -> Result<Self, Errno> {
        let first = *remotes.first().ok_or(Errno::NETUNREACH)?;
        Ok(Self {
            kind,
            ends,
            outside: Outside::Own(connect(kind, first)?),
            brief: kind == Kind::Echo || ends.remote.port() == 53,
            remotes,
            unanswered: 0,
            sent: Vec::new(),
            last: now,
        })
    }

    /// What `client` sends to a published port, the door with this number.
    pub(super) fn of_client(
        ends: Ends,
        (door, socket): (u32, Rc<OwnedFd>),
        client: SocketAddr,
        now: Instant,
    ) -> Self {
        Self {
            kind: Kind::Udp,
            ends,
            outside: Outside::Door(socket, door, client),
            brief: false,
            remotes: vec![client],
            unanswered: 0,
            sent: Vec::new(),
            last: now,
        }
    }

    /// The socket to watch, if it is the flow's own.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.outside {
            Outside::Own(socket) => Some(socket.as_fd()),
            Outside::Door(..) => None,
        }
    }

    /// The door and the client, if it has them.
    pub(super) fn client(&self) -> Option<(u32, SocketAddr)> {
        match self.outside {
            Outside::Own(_) => None,
            Outside::Door(_, door, client) => Some((door, client)),
        }
    }

    /// Passes on what its client sent.
    pub(super) fn of_clients(&mut self, link: &mut Link, bytes: &[u8], now: Instant) {
        self.last = now;
        packet::udp(link, self.ends, bytes);
    }

    /// What identifies it.
    pub(super) fn key(&self) -> (Kind, Ends) {
        (self.kind, self.ends)
    }

    /// When it is over if nothing happens.
    pub(super) fn patience(&self) -> Instant {
        self.last + if self.brief { BRIEF } else { IDLE }
    }

    /// Sends `payload`, which came in `packet`.
    pub(super) fn send(&mut self, link: &mut Link, packet: &[u8], payload: &[u8], now: Instant) {
        /// The largest header and what identifies the flow behind it.
        const HEAD: usize = 68;
        self.last = now;
        self.sent.clear();
        self.sent.extend(&packet[..packet.len().min(HEAD)]);
        let next = self.remotes[self.unanswered % self.remotes.len()];
        if self.remotes.len() > 1
            && self.unanswered > 0
            && let Outside::Own(socket) = &self.outside
        {
            // The socket stays; only the one who is asked changes. If that fails, so does sending.
            let _ = rustix::net::connect(socket, &next);
        }
        self.unanswered += 1;
        let mut sent = self.outside.send(payload);
        if sent == Err(Errno::CONNREFUSED) {
            // That was the answer to an earlier one.
            self.refused(link);
            sent = self.outside.send(payload);
        }
        match sent {
            Err(Errno::NETUNREACH) => {
                packet::unreachable(link, &self.sent, Unreachable::Network);
            }
            Err(Errno::HOSTUNREACH | Errno::ACCESS | Errno::PERM) => {
                packet::unreachable(link, &self.sent, Unreachable::Host);
            }
            // Datagrams may be lost, also to a full buffer.
            _ => (),
        }
    }

    /// Sends an echo request: the kernel puts an identifier of its own into it.
    pub(super) fn ask(
        &mut self,
        link: &mut Link,
        packet: &[u8],
        (sequence, payload): (u16, &[u8]),
        now: Instant,
    ) {
        const ECHO_REQUEST: u8 = 8;
        const ECHO_REQUEST_6: u8 = 128;
        let kind = if self.ends.remote.is_ipv6() {
            ECHO_REQUEST_6
        } else {
            ECHO_REQUEST
        };
        let mut message = vec![kind, 0, 0, 0, 0, 0];
        message.extend(sequence.to_be_bytes());
        message.extend(payload);
        self.send(link, packet, &message, now);
    }

    /// Passes on what came, read into `room`.
    pub(super) fn ready(&mut self, link: &mut Link, room: &mut [u8], now: Instant) {
        loop {
            let Outside::Own(socket) = &self.outside else {
                return;
            };
            match rustix::net::recv(socket, &mut *room, RecvFlags::empty()) {
                Ok((length, _)) => {
                    self.last = now;
                    self.unanswered = 0;
                    self.answer(link, &room[..length]);
                }
                Err(Errno::INTR) => (),
                Err(Errno::CONNREFUSED) => self.refused(link),
                Err(Errno::HOSTUNREACH) => packet::unreachable(link, &self.sent, Unreachable::Host),
                Err(_) => return,
            }
        }
    }

    fn answer(&self, link: &mut Link, bytes: &[u8]) {
        /// Of an echo reply, up to its data.
        const HEADER: usize = 8;
        match self.kind {
            Kind::Udp => packet::udp(link, self.ends, bytes),
            Kind::Echo if bytes.len() >= HEADER => {
                let sequence = u16::from_be_bytes([bytes[6], bytes[7]]);
                packet::echo(link, self.ends, sequence, &bytes[HEADER..]);
            }
            Kind::Echo => (),
        }
    }

    /// Nobody listens there. Of several name servers the next one may.
    fn refused(&self, link: &mut Link) {
        if self.remotes.len() == 1 {
            packet::unreachable(link, &self.sent, Unreachable::Port);
        }
    }
}
