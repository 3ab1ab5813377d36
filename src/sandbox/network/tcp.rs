//! One TCP connection: a socket of the caller's network on one side, smoltcp on the other.
//!
//! The guest's first segment is kept until the socket is connected, and only then given to
//! smoltcp, so the guest sees the true answer: a connection, a refusal, no route. From then on
//! bytes move until each side has closed its half; a reset on either side resets the other.
//! Each connection has an interface and a socket set of smoltcp's for itself, because smoltcp
//! looks for the owner of a packet one socket after the other.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, ipproto, sockopt,
};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::link::Link;
use super::packet::{self, Ends, Unreachable};
use super::published;

/// A connection on which nothing moves for so long is broken off.
const IDLE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(2 * 60 * 60);
/// Silence on the outer side after which the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(5 * 60);
/// How long the kernel may take for a connection, a little more than its own limit.
const CONNECTING: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(150);

/// What is left of a flow after something happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It lives, and has to be looked at then at the latest.
    Wake(Instant),
    /// It is over.
    Gone,
    /// The guest refused a client, who may try these ends instead ([`Flow::retry`]).
    Refused(Ends),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Flow {
    ends: Ends,
    outside: Outside,
    inside: Inside,
    /// When something moved last.
    last: Instant,
}

/// The socket of the caller's network.
#[derive(Debug)]
struct Outside {
    fd: OwnedFd,
    /// Whether reading or writing may give something, as far as epoll has said.
    readable: bool,
    writable: bool,
    /// Whether it has sent all that it will send.
    ended: bool,
    /// Whether it has been told that nothing more will come.
    shut: bool,
    /// Whether an error ended it.
    broken: bool,
}

#[derive(Debug)]
enum Inside {
    /// The socket is not connected yet: the guest's first segment, and where else to try.
    Waiting {
        syn: Vec<u8>,
        others: Vec<SocketAddr>,
    },
    Open(Box<Endpoint>),
}

struct Endpoint {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// Whether the guest was asked for the connection and has not answered yet.
    dials: bool,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").finish_non_exhaustive()
    }
}

/// A socket that is being connected to `to`.
pub(super) fn connect(to: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = AddressFamily::INET;
    let family = if to.is_ipv6() {
        AddressFamily::INET6
    } else {
        family
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    tune(&fd)?;
    match rustix::net::connect(&fd, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(errno) => Err(errno),
    }
}

fn tune(fd: &OwnedFd) -> Result<(), Errno> {
    sockopt::set_tcp_nodelay(fd, true)?;
    sockopt::set_socket_keepalive(fd, true)?;
    sockopt::set_tcp_keepidle(fd, KEEPALIVE)
}

/// Tells the guest why its first segment came to nothing.
pub(super) fn refuse(link: &mut Link, syn: &[u8], errno: Errno) {
    match errno {
        Errno::NETUNREACH | Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL => {
            packet::unreachable(link, syn, Unreachable::Network);
        }
        Errno::HOSTUNREACH | Errno::ACCESS | Errno::PERM => {
            packet::unreachable(link, syn, Unreachable::Host);
        }
        // The guest has its own patience.
        Errno::TIMEDOUT => (),
        _ => packet::reset(link, syn),
    }
}

impl Flow {
    /// Begins to connect to the first address of `remotes` that can be tried.
    pub(super) fn open(
        ends: Ends,
        syn: &[u8],
        remotes: &[SocketAddr],
        now: Instant,
    ) -> Result<Self, Errno> {
        let mut refused = Errno::CONNREFUSED;
        for (at, remote) in remotes.iter().enumerate() {
            match connect(*remote) {
                Ok(fd) => {
                    return Ok(Self {
                        ends,
                        outside: Outside::new(fd),
                        inside: Inside::Waiting {
                            syn: syn.to_vec(),
                            others: remotes[at + 1..].to_vec(),
                        },
                        last: now,
                    });
                }
                Err(errno) => refused = errno,
            }
        }
        Err(refused)
    }

    /// Takes a socket that is connected already.
    pub(super) fn joined(ends: Ends, syn: &[u8], socket: OwnedFd, now: Instant) -> Self {
        Self {
            ends,
            outside: Outside::new(socket),
            inside: Inside::Waiting {
                syn: syn.to_vec(),
                others: Vec::new(),
            },
            last: now,
        }
    }

    /// Begins to connect the client on `socket`, an accepted one, to the guest. The buffers hold
    /// `buffer` bytes. `None` if the ends can't be those of a connection.
    pub(super) fn dial(
        link: &mut Link,
        ends: Ends,
        socket: OwnedFd,
        buffer: usize,
        now: Instant,
    ) -> Option<Self> {
        // A slower connection is one all the same.
        let _ = tune(&socket);
        let mut endpoint = Endpoint::new(link, ends.remote, buffer, now)?;
        endpoint.connect(ends)?;
        endpoint.send(link, now);
        Some(Self {
            ends,
            outside: Outside::new(socket),
            inside: Inside::Open(Box::new(endpoint)),
            last: now,
        })
    }

    /// Connects the client once more, after [`After::Refused`]. Its socket, which has been
    /// watched already, stays what it is.
    pub(super) fn retry(
        self,
        link: &mut Link,
        ends: Ends,
        buffer: usize,
        now: Instant,
    ) -> Option<Self> {
        Self::dial(link, ends, self.outside.fd, buffer, now)
    }

    /// The socket to watch.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.outside.fd.as_fd()
    }

    /// The guest's first segment, while there is no connection.
    pub(super) fn syn(&self) -> &[u8] {
        match &self.inside {
            Inside::Waiting { syn, .. } => syn,
            Inside::Open(_) => &[],
        }
    }

    /// Both ends.
    pub(super) fn ends(&self) -> Ends {
        self.ends
    }

    /// When it has to be looked at if nothing happens.
    pub(super) fn patience(&self) -> Instant {
        match &self.inside {
            Inside::Waiting { .. } => self.last + CONNECTING,
            Inside::Open(endpoint) if endpoint.dials => self.last + CONNECTING,
            Inside::Open(_) => self.last + IDLE,
        }
    }

    /// Something happened to the outer socket. The buffers of a connection that opens now hold
    /// `buffer` bytes. The error is the flow that takes the place of this one, for another
    /// address.
    pub(super) fn ready(
        &mut self,
        link: &mut Link,
        events: EventFlags,
        buffer: usize,
        now: Instant,
    ) -> Result<After, Self> {
        self.outside.hear(events);
        let Inside::Waiting { syn, others } = &self.inside else {
            return Ok(self.pump(link, now));
        };
        let answer = match sockopt::socket_error(&self.outside.fd) {
            Ok(Ok(())) if !self.outside.writable => return Ok(After::Wake(self.patience())),
            Ok(answer) => answer,
            Err(errno) => Err(errno),
        };
        if let Err(errno) = answer {
            if let Ok(other) = Self::open(self.ends, syn, others, now) {
                return Err(other);
            }
            refuse(link, syn, errno);
            return Ok(After::Gone);
        }
        let Some(mut endpoint) = Endpoint::new(link, self.ends.remote, buffer, now) else {
            packet::reset(link, syn);
            return Ok(After::Gone);
        };
        endpoint.listen(self.ends.remote);
        endpoint.take(link, syn, now);
        self.inside = Inside::Open(Box::new(endpoint));
        Ok(self.pump(link, now))
    }

    /// A segment of the guest's came.
    pub(super) fn packet(&mut self, link: &mut Link, packet: &[u8], now: Instant) -> After {
        // Before there is a connection the guest can only repeat itself.
        if let Inside::Open(endpoint) = &mut self.inside {
            endpoint.take(link, packet, now);
        }
        self.pump(link, now)
    }

    /// Its time has come.
    pub(super) fn wake(&mut self, link: &mut Link, now: Instant) -> After {
        if now < self.patience() {
            return self.pump(link, now);
        }
        self.outside.reset();
        if let Inside::Open(endpoint) = &mut self.inside {
            endpoint.socket().abort();
            endpoint.send(link, now);
        }
        After::Gone
    }

    /// Moves what can be moved in both directions.
    fn pump(&mut self, link: &mut Link, now: Instant) -> After {
        let Inside::Open(endpoint) = &mut self.inside else {
            return After::Wake(self.patience());
        };
        if endpoint.was_refused() {
            return published::otherwise(self.ends).map_or_else(
                || {
                    self.outside.reset();
                    After::Gone
                },
                After::Refused,
            );
        }
        loop {
            let moved = endpoint.give(&mut self.outside) | endpoint.fetch(&mut self.outside);
            if self.outside.broken {
                endpoint.socket().abort();
            }
            endpoint.send(link, now);
            if !moved {
                break;
            }
            self.last = now;
        }
        if endpoint.is_over(&self.outside) {
            return After::Gone;
        }
        let soon = endpoint.wake(now);
        After::Wake(soon.map_or(self.patience(), |at| at.min(self.patience())))
    }
}

impl Outside {
    fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            readable: false,
            writable: false,
            ended: false,
            shut: false,
            broken: false,
        }
    }

    fn hear(&mut self, events: EventFlags) {
        let over = events.intersects(EventFlags::ERR | EventFlags::HUP);
        self.readable |= over || events.intersects(EventFlags::IN | EventFlags::RDHUP);
        self.writable |= over || events.contains(EventFlags::OUT);
    }

    /// Makes the coming close(2) a reset.
    fn reset(&self) {
        // Without it the connection is closed in order, which is the next best.
        let _ = sockopt::set_socket_linger(&self.fd, Some(Duration::ZERO));
    }

    /// Reads into `room`; 0 for nothing to be had, now or ever.
    fn read(&mut self, room: &mut [u8]) -> usize {
        match rustix::net::recv(&self.fd, room, RecvFlags::empty()) {
            Ok((0, _)) => self.ended = true,
            Ok((length, _)) => return length,
            Err(Errno::AGAIN) => (),
            Err(Errno::INTR) => return 0,
            Err(_) => self.broken = true,
        }
        self.readable = false;
        0
    }

    /// Writes the beginning of `bytes` and returns how many.
    fn write(&mut self, bytes: &[u8]) -> usize {
        match rustix::net::send(&self.fd, bytes, SendFlags::NOSIGNAL) {
            Ok(length) => return length,
            Err(Errno::AGAIN) => (),
            Err(Errno::INTR) => return 0,
            Err(_) => self.broken = true,
        }
        self.writable = false;
        0
    }
}

impl Endpoint {
    /// The side of `remote` towards the guest, with `buffer` bytes for each direction. `None` if
    /// the address can't be one side of a connection.
    fn new(link: &mut Link, remote: SocketAddr, buffer: usize, now: Instant) -> Option<Self> {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = random();
        let mut interface = Interface::new(config, &mut link.with(None), now);
        let address = IpAddress::from(remote.ip());
        let bits = if remote.is_ipv6() { 128 } else { 32 };
        interface.update_ip_addrs(|own| own.extend([IpCidr::new(address, bits)]));
        let routes = interface.routes_mut();
        match address {
            IpAddress::Ipv4(via) => routes.add_default_ipv4_route(via).ok()?,
            IpAddress::Ipv6(via) => routes.add_default_ipv6_route(via).ok()?,
        };
        let room = || SocketBuffer::new(vec![0; buffer]);
        let mut socket = Socket::new(room(), room());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Some(Self {
            interface,
            sockets,
            handle,
            dials: false,
        })
    }

    /// Waits for the guest's first segment to `remote`, whose port is none of 0.
    fn listen(&mut self, remote: SocketAddr) {
        // It is fresh, so it can't be connected.
        let _ = self.socket().listen(remote);
    }

    /// Asks the guest for a connection.
    fn connect(&mut self, ends: Ends) -> Option<()> {
        let socket: &mut Socket<'_> = self.sockets.get_mut(self.handle);
        let made = socket.connect(self.interface.context(), ends.guest, ends.remote);
        self.dials = true;
        made.ok()
    }

    /// Whether the guest has said no to [`Endpoint::connect`].
    fn was_refused(&mut self) -> bool {
        let state = self.socket().state();
        if self.dials && state != State::Closed {
            self.dials = matches!(state, State::SynSent | State::SynReceived);
        }
        self.dials && state == State::Closed
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Takes in one segment and answers it.
    fn take(&mut self, link: &mut Link, packet: &[u8], now: Instant) {
        let mut device = link.with(Some(packet));
        self.interface.poll(now, &mut device, &mut self.sockets);
    }

    /// Sends what there is to send to the guest.
    fn send(&mut self, link: &mut Link, now: Instant) {
        let mut device = link.with(None);
        self.interface.poll(now, &mut device, &mut self.sockets);
    }

    /// Gives the outside what the guest sent, and its end after it. Tells whether anything moved.
    fn give(&mut self, outside: &mut Outside) -> bool {
        let socket = self.socket();
        let mut moved = false;
        while outside.writable && socket.can_recv() {
            let taken = socket.recv(|bytes| {
                let written = outside.write(bytes);
                (written, written)
            });
            moved |= taken.is_ok_and(|length| length > 0);
        }
        if !outside.shut && said_all(socket) {
            outside.shut = true;
            // If it is broken, reading says so.
            let _ = rustix::net::shutdown(&outside.fd, Shutdown::Write);
            moved = true;
        }
        moved
    }

    /// Fetches for the guest what the outside sent, and its end after it.
    fn fetch(&mut self, outside: &mut Outside) -> bool {
        let socket = self.socket();
        let mut moved = false;
        while outside.readable && socket.can_send() {
            let given = socket.send(|room| {
                let read = outside.read(room);
                (read, read)
            });
            moved |= given.is_ok_and(|length| length > 0);
        }
        if outside.ended && socket.may_send() {
            socket.close();
            moved = true;
        }
        moved
    }

    /// Tells whether nothing more can happen; what can't be ended in order is reset.
    fn is_over(&mut self, outside: &Outside) -> bool {
        match self.socket().state() {
            // What the guest sent before it ended may still have to go out.
            State::Closed | State::TimeWait if outside.ended && !outside.broken => outside.shut,
            // A reset before the handshake was over brings a listening socket back to its start.
            State::Closed | State::TimeWait | State::Listen => {
                outside.reset();
                true
            }
            _ => false,
        }
    }

    /// When smoltcp wants to repeat something.
    fn wake(&mut self, now: Instant) -> Option<Instant> {
        /// It may want to at once and have nothing to send.
        const PAUSE: smoltcp::time::Duration = smoltcp::time::Duration::from_millis(1);
        let at = self.interface.poll_at(now, &self.sockets)?;
        Some(at.max(now + PAUSE))
    }
}

/// Whether the guest has closed its half and nothing of it waits here.
fn said_all(socket: &Socket<'_>) -> bool {
    let closed = matches!(
        socket.state(),
        State::CloseWait | State::LastAck | State::Closing | State::TimeWait | State::Closed
    );
    closed && socket.recv_queue() == 0
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // The kernel gives so few bytes whole or, long before we run, not at all; a sequence number
    // that can be guessed matters little to a connection that ends in this machine.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u64::from_ne_bytes(bytes)
}
