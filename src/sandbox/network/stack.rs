//! One namespace's traffic: which flow a packet belongs to, which flows there are.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use smoltcp::time::Instant;

use super::addresses::{GATEWAY, GATEWAY6};
use super::desk::Desk;
use super::dns::Carrier;
use super::flows::{self, Kind};
use super::hub::{Hub, Joining, Way};
use super::link::{self, Link};
use super::packet::{self, Ends, Packet, Unreachable};
use super::process::receive;
use super::published::{self, Door, Protocol, Published};
use super::reach::{Reach, Target, machine, name_servers};
use super::tcp::{self, After};

/// Most connections of a namespace, and most other flows.
const MOST: usize = 1024;
/// Connections that get large buffers, each in both directions; 48 MiB in all if they fill up.
const FAST: usize = 48;
const LARGE: usize = 512 << 10;
/// The buffers of all others, 122 MiB in all; what one packet can hold.
const SMALL: usize = 64 << 10;
/// Packets taken from an interface before others have their turn.
const BATCH: usize = 64;

/// What epoll hands back: which namespace, and which of its descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Token {
    pub(super) network: u16,
    pub(super) what: What,
}

/// A descriptor of a namespace. Flows are numbered and no number comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum What {
    Lease,
    Link,
    Tcp(u32),
    Datagrams(u32),
    Door(u32),
    Desk(u32),
}

/// What is watched for everything, and told once each time.
const EDGES: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

impl From<Token> for EventData {
    fn from(token: Token) -> Self {
        let (kind, number) = match token.what {
            What::Lease => (0, 0),
            What::Link => (1, 0),
            What::Tcp(number) => (2, number),
            What::Datagrams(number) => (3, number),
            What::Door(number) => (4, number),
            What::Desk(number) => (5, number),
        };
        Self::new_u64(u64::from(token.network) << 48 | kind << 40 | u64::from(number))
    }
}

impl From<EventData> for Token {
    fn from(data: EventData) -> Self {
        let bits = data.u64();
        let number = bits as u32;
        let what = match (bits >> 40) as u8 {
            0 => What::Lease,
            1 => What::Link,
            2 => What::Tcp(number),
            3 => What::Datagrams(number),
            4 => What::Door(number),
            _ => What::Desk(number),
        };
        let network = (bits >> 48) as u16;
        Self { network, what }
    }
}

/// One namespace and all that goes through it.
#[derive(Debug)]
pub(super) struct Network {
    number: u16,
    reach: Reach,
    /// The other end of the lease; none while nobody uses the namespace.
    lease: Option<OwnedFd>,
    link: Link,
    /// Whose it is on a network that a user defined.
    member: Option<Joining>,
    connections: HashMap<u32, tcp::Flow>,
    by_ends: HashMap<Ends, u32>,
    others: HashMap<u32, flows::Flow>,
    by_key: HashMap<(Kind, Ends), u32>,
    /// Connections on which names are asked for.
    desks: HashMap<u32, Desk>,
    /// Published ports.
    doors: HashMap<u32, Door>,
    /// Which flow a client's datagrams through a door belong to.
    by_client: HashMap<(u32, SocketAddr), u32>,
    next: u32,
    wakes: BTreeSet<(Instant, What)>,
    wake_of: HashMap<What, Instant>,
}

/// What all namespaces share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) epoll: OwnedFd,
    /// Room for a packet and its header.
    pub(super) room: Vec<u8>,
    pub(super) now: Instant,
    /// What joins the namespaces, if anything does.
    pub(super) hub: Option<Hub>,
}

impl Shared {
    pub(super) fn watch(
        &self,
        fd: impl AsFd,
        token: Token,
        events: EventFlags,
    ) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, token.into(), events)
    }
}

impl Network {
    /// Takes charge of a namespace that nobody uses yet, by the other end of its interface.
    pub(super) fn new(number: u16, tun: OwnedFd, shared: &Shared) -> Result<Self, Errno> {
        let link = Link::new(tun);
        let what = What::Link;
        let token = Token {
            network: number,
            what,
        };
        shared.watch(&link, token, EventFlags::IN)?;
        Ok(Self {
            number,
            reach: Reach::default(),
            lease: None,
            link,
            member: None,
            connections: HashMap::new(),
            by_ends: HashMap::new(),
            others: HashMap::new(),
            by_key: HashMap::new(),
            desks: HashMap::new(),
            doors: HashMap::new(),
            by_client: HashMap::new(),
            next: 0,
            wakes: BTreeSet::new(),
            wake_of: HashMap::new(),
        })
    }

    pub(super) fn is_free(&self) -> bool {
        self.lease.is_none()
    }

    /// The other end of its interface.
    pub(super) fn link(&self) -> &Rc<OwnedFd> {
        self.link.tun()
    }

    /// Makes it that of a member of the network that [`Shared::hub`] is.
    pub(super) fn belongs_to(&mut self, member: Joining) {
        self.member = Some(member);
    }

    /// Belongs to whoever holds the other end of `lease` from now on.
    pub(super) fn lease(
        &mut self,
        lease: OwnedFd,
        reach: Reach,
        shared: &Shared,
    ) -> Result<(), Errno> {
        let token = self.token(What::Lease);
        shared.watch(&lease, token, EventFlags::IN)?;
        self.reach = reach;
        self.lease = Some(lease);
        Ok(())
    }

    /// What the holder of the lease has to say: a port to publish, or that it is over.
    fn hear(&mut self, shared: &Shared) {
        let said = self.lease.as_ref().map(receive::<Published>);
        let Some(Ok(Some((to, Some(socket))))) = said else {
            return self.release(shared);
        };
        self.next = self.next.wrapping_add(1);
        let number = self.next;
        let token = self.token(What::Door(number));
        // A door that can't be watched is closed again.
        if shared.watch(&socket, token, EventFlags::IN).is_ok() {
            let socket = Rc::new(socket);
            self.doors.insert(number, Door { to, socket });
        }
    }

    /// Ends everything that is under way, the lease too.
    fn release(&mut self, shared: &Shared) {
        for door in self.doors.values() {
            // Others hold it too, so closing it would not end the watch.
            let _ = epoll::delete(&shared.epoll, door);
        }
        self.lease = None;
        self.desks.clear();
        self.doors.clear();
        self.by_client.clear();
        self.connections.clear();
        self.by_ends.clear();
        self.others.clear();
        self.by_key.clear();
        self.wakes.clear();
        self.wake_of.clear();
    }

    fn token(&self, what: What) -> Token {
        Token {
            network: self.number,
            what,
        }
    }

    /// When [`Network::wake`] is to be called.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Looks after all flows whose time has come.
    pub(super) fn wake(&mut self, shared: &mut Shared) {
        let now = shared.now;
        while let Some(&(at, what)) = self.wakes.first()
            && at <= now
        {
            self.forget_wake(what);
            match what {
                What::Tcp(number) => {
                    let Some(flow) = self.connections.get_mut(&number) else {
                        continue;
                    };
                    let after = flow.wake(&mut self.link, now);
                    self.settle(number, after, shared);
                }
                What::Datagrams(number) => {
                    match self.others.get(&number).map(flows::Flow::patience) {
                        Some(later) if later > now => self.wake_at(what, later),
                        _ => self.drop_datagrams(number),
                    }
                }
                What::Desk(number) => match self.desks.get(&number).map(Desk::patience) {
                    Some(later) if later > now => self.wake_at(what, later),
                    _ => drop(self.desks.remove(&number)),
                },
                What::Lease | What::Link | What::Door(_) => (),
            }
        }
    }

    fn wake_at(&mut self, what: What, at: Instant) {
        if let Some(before) = self.wake_of.insert(what, at) {
            if before == at {
                return;
            }
            self.wakes.remove(&(before, what));
        }
        self.wakes.insert((at, what));
    }

    fn forget_wake(&mut self, what: What) {
        if let Some(at) = self.wake_of.remove(&what) {
            self.wakes.remove(&(at, what));
        }
    }

    fn settle(&mut self, number: u32, after: After, shared: &Shared) {
        match after {
            After::Wake(at) => self.wake_at(What::Tcp(number), at),
            After::Gone => drop(self.take_connection(number)),
            After::Refused(ends) => {
                let Some(flow) = self.take_connection(number) else {
                    return;
                };
                let ends = self.at_home(ends, shared);
                let free = published::with_free_port(ends, |ends| self.by_ends.contains_key(&ends));
                let (buffer, now) = (self.buffer(), shared.now);
                let again = free.and_then(|ends| flow.retry(&mut self.link, ends, buffer, now));
                if let Some(flow) = again {
                    self.add_connection(flow, |fd, token, events| {
                        epoll::modify(&shared.epoll, fd, token.into(), events)
                    });
                }
            }
        }
    }

    fn take_connection(&mut self, number: u32) -> Option<tcp::Flow> {
        let flow = self.connections.remove(&number)?;
        self.by_ends.remove(&flow.ends());
        self.forget_wake(What::Tcp(number));
        Some(flow)
    }

    /// The size of a new connection's buffers.
    fn buffer(&self) -> usize {
        if self.connections.len() <= FAST {
            LARGE
        } else {
            SMALL
        }
    }

    fn drop_datagrams(&mut self, number: u32) {
        if let Some(flow) = self.others.remove(&number) {
            self.by_key.remove(&flow.key());
            if let Some(client) = flow.client() {
                self.by_client.remove(&client);
            }
        }
        self.forget_wake(What::Datagrams(number));
    }

    /// Something happened to one of its descriptors.
    pub(super) fn ready(&mut self, what: What, events: EventFlags, shared: &mut Shared) {
        match what {
            What::Lease => self.hear(shared),
            What::Link => self.packets(shared),
            What::Tcp(number) => {
                let buffer = self.buffer();
                let Some(flow) = self.connections.get_mut(&number) else {
                    return;
                };
                match flow.ready(&mut self.link, events, buffer, shared.now) {
                    Ok(after) => self.settle(number, after, shared),
                    Err(other) => {
                        let syn = other.syn().to_vec();
                        self.settle(number, After::Gone, shared);
                        self.keep_connection(other, &syn, shared);
                    }
                }
            }
            What::Desk(number) => self.serve_desk(number, shared),
            What::Door(number) => match self.doors.get(&number).map(|door| door.to.protocol) {
                Some(Protocol::Tcp) => self.welcome(number, shared),
                Some(Protocol::Udp) => self.datagrams_of_clients(number, shared),
                None => (),
            },
            What::Datagrams(number) => {
                if let Some(flow) = self.others.get_mut(&number) {
                    flow.ready(&mut self.link, &mut shared.room, shared.now);
                }
            }
        }
    }

    /// Takes packets from the interface.
    fn packets(&mut self, shared: &mut Shared) {
        let mut room = std::mem::take(&mut shared.room);
        for _ in 0..BATCH {
            match self.link.read(&mut room) {
                Ok(Some(bytes)) => match self.way(bytes, shared) {
                    Way::Stack => self.packet(bytes, shared),
                    Way::Member(link) => {
                        let length = bytes.len();
                        link::pass_on(&room, length, link);
                    }
                    // Only what a program asked for is worth an answer.
                    Way::Unreachable(why) if packet::parse(bytes).is_some() => {
                        packet::unreachable(&mut self.link, bytes, why);
                    }
                    Way::Unreachable(_) | Way::Dropped => (),
                },
                Ok(None) => break,
                Err(_) => {
                    // The interface is gone, and would be ready for ever.
                    let _ = epoll::delete(&shared.epoll, &self.link);
                    self.release(shared);
                    break;
                }
            }
        }
        shared.room = room;
    }

    /// Where a packet goes, which only members of a network have a choice of.
    fn way<'s>(&self, bytes: &[u8], shared: &'s Shared) -> Way<'s> {
        match (&shared.hub, &self.member) {
            (Some(hub), Some(member)) => hub.way(member, bytes),
            _ => Way::Stack,
        }
    }

    /// What an address means here: the gateway of a member's own network is the machine as well.
    fn target(&self, to: SocketAddr, shared: &Shared) -> Target {
        let hub = shared.hub.as_ref();
        match hub.is_some_and(|hub| hub.is_gateway(to.ip())) {
            true => self
                .reach
                .target(SocketAddr::new(gateway(to.ip()), to.port())),
            false => self.reach.target(to),
        }
    }

    /// The answer to a question about a name of the member's networks.
    fn named(&self, ends: Ends, question: &[u8], shared: &Shared) -> Option<Vec<u8>> {
        let (hub, member) = (shared.hub.as_ref()?, self.member.as_ref()?);
        match self.target(ends.remote, shared) {
            Target::Dns => hub.answer(member, question, Carrier::Datagram),
            _ => None,
        }
    }

    /// The name servers to ask.
    fn servers(&self) -> Vec<SocketAddr> {
        let own = self.member.iter().flat_map(|member| &member.servers);
        let own: Vec<_> = own.map(|ip| SocketAddr::new(*ip, 53)).collect();
        if own.is_empty() { servers() } else { own }
    }

    fn packet(&mut self, bytes: &[u8], shared: &Shared) {
        match packet::parse(bytes) {
            Some(Packet::Tcp {
                ends,
                opens,
                resets,
            }) => {
                if let Some(&number) = self.by_ends.get(&ends) {
                    let Some(flow) = self.connections.get_mut(&number) else {
                        return;
                    };
                    let after = flow.packet(&mut self.link, bytes, shared.now);
                    self.settle(number, after, shared);
                } else if opens {
                    self.open(ends, bytes, shared);
                } else if !resets {
                    packet::reset(&mut self.link, bytes);
                }
            }
            Some(Packet::Udp { ends, payload }) => {
                let kind = Kind::Udp;
                if let Some(answer) = self.named(ends, payload, shared) {
                    return packet::udp(&mut self.link, ends, &answer);
                }
                if let Some(flow) = self.datagrams(kind, ends, bytes, shared)
                    && let Some(flow) = self.others.get_mut(&flow)
                {
                    flow.send(&mut self.link, bytes, payload, shared.now);
                }
            }
            Some(Packet::Echo {
                ends,
                sequence,
                payload,
            }) => self.echo(ends, bytes, (sequence, payload), shared),
            None => (),
        }
    }

    /// Joins a connection for names to a desk that knows those of the member's networks.
    fn open_desk(&mut self, ends: Ends, syn: &[u8], shared: &Shared) -> Result<(), Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (near, guests) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let desk = Desk::new(near, self.servers(), shared.now);
        self.next = self.next.wrapping_add(1);
        let (number, what) = (self.next, What::Desk(self.next));
        shared.watch(desk.fd(), self.token(what), EDGES)?;
        self.wake_at(what, desk.patience());
        self.desks.insert(number, desk);
        let flow = tcp::Flow::joined(ends, syn, guests, shared.now);
        self.keep_connection(flow, syn, shared);
        Ok(())
    }

    fn serve_desk(&mut self, number: u32, shared: &Shared) {
        let what = What::Desk(number);
        let token = self.token(what);
        let (Some(hub), Some(member), Some(desk)) =
            (&shared.hub, &self.member, self.desks.get_mut(&number))
        else {
            return;
        };
        let ours = |question: &[u8]| hub.answer(member, question, Carrier::Stream);
        let watch = |fd: BorrowedFd<'_>| shared.watch(fd, token, EDGES);
        if desk.serve(&ours, &watch, shared.now) {
            let patience = desk.patience();
            self.wake_at(what, patience);
        } else {
            self.desks.remove(&number);
            self.forget_wake(what);
        }
    }

    fn open(&mut self, ends: Ends, syn: &[u8], shared: &Shared) {
        let target = self.target(ends.remote, shared);
        if target == Target::Dns && self.member.is_some() && self.connections.len() < MOST {
            if let Err(errno) = self.open_desk(ends, syn, shared) {
                tcp::refuse(&mut self.link, syn, errno);
            }
            return;
        }
        let remotes = match target {
            Target::Outside(remote) => vec![remote],
            Target::Dns => self.servers(),
            Target::Gateway => machine(ends.remote).into_iter().collect(),
            Target::Closed => Vec::new(),
        };
        if remotes.is_empty() || self.connections.len() >= MOST {
            return packet::reset(&mut self.link, syn);
        }
        match tcp::Flow::open(ends, syn, &remotes, shared.now) {
            Ok(flow) => self.keep_connection(flow, syn, shared),
            Err(errno) => tcp::refuse(&mut self.link, syn, errno),
        }
    }

    fn keep_connection(&mut self, flow: tcp::Flow, syn: &[u8], shared: &Shared) {
        let watch = |fd: BorrowedFd<'_>, token, events| shared.watch(fd, token, events);
        if !self.add_connection(flow, watch) {
            packet::reset(&mut self.link, syn);
        }
    }

    /// Keeps a connection whose socket `watch` has accepted; tells whether it has.
    fn add_connection(
        &mut self,
        flow: tcp::Flow,
        watch: impl FnOnce(BorrowedFd<'_>, Token, EventFlags) -> Result<(), Errno>,
    ) -> bool {
        self.next = self.next.wrapping_add(1);
        let (number, what) = (self.next, What::Tcp(self.next));
        if watch(flow.fd(), self.token(what), EDGES).is_err() {
            return false;
        }
        self.wake_at(what, flow.patience());
        self.by_ends.insert(flow.ends(), number);
        self.connections.insert(number, flow);
        true
    }

    /// The ends of what a client sends, with a member's own address in place of that which all
    /// others have. A client that seems to be another member is none.
    fn at_home(&self, ends: Ends, shared: &Shared) -> Ends {
        let (Some(member), Some(hub)) = (&self.member, &shared.hub) else {
            return ends;
        };
        let own = |ends: Ends| {
            let mut own = member.addresses.iter();
            own.find(|own| own.is_ipv6() == ends.guest.is_ipv6())
        };
        let mut ends = match own(ends) {
            Some(_) => ends,
            None => published::otherwise(ends).unwrap_or(ends),
        };
        if let Some(own) = own(ends) {
            ends.guest.set_ip(*own);
        }
        if hub.is_inside(ends.remote.ip()) {
            ends.remote.set_ip(gateway(ends.remote.ip()));
        }
        ends
    }

    /// Takes over the clients that wait at a door.
    fn welcome(&mut self, number: u32, shared: &Shared) {
        for _ in 0..BATCH {
            let Some(door) = self.doors.get(&number) else {
                return;
            };
            let Some((socket, client)) = door.accept() else {
                return;
            };
            // One too many sees its connection end.
            if self.connections.len() >= MOST {
                continue;
            }
            let ends = self.at_home(published::seen_from(client, door.to.port), shared);
            let free = published::with_free_port(ends, |ends| self.by_ends.contains_key(&ends));
            let (buffer, now) = (self.buffer(), shared.now);
            let flow =
                free.and_then(|ends| tcp::Flow::dial(&mut self.link, ends, socket, buffer, now));
            if let Some(flow) = flow {
                self.add_connection(flow, |fd, token, events| shared.watch(fd, token, events));
            }
        }
    }

    /// Takes over the datagrams that wait at a door.
    fn datagrams_of_clients(&mut self, number: u32, shared: &mut Shared) {
        let mut room = std::mem::take(&mut shared.room);
        for _ in 0..BATCH {
            let Some(door) = self.doors.get(&number) else {
                break;
            };
            let Some((bytes, client)) = door.receive(&mut room) else {
                break;
            };
            let known = self.by_client.get(&(number, client)).copied();
            let flow = known.or_else(|| self.add_client(number, client, shared));
            if let Some(flow) = flow.and_then(|flow| self.others.get_mut(&flow)) {
                flow.of_clients(&mut self.link, bytes, shared.now);
            }
        }
        shared.room = room;
    }

    fn add_client(&mut self, door: u32, client: SocketAddr, shared: &Shared) -> Option<u32> {
        let Door { to, socket } = self.doors.get(&door)?;
        let ends = self.at_home(published::seen_from(client, to.port), shared);
        let taken = |ends| self.by_key.contains_key(&(Kind::Udp, ends));
        let ends = published::with_free_port(ends, taken)?;
        let socket = (door, Rc::clone(socket));
        let flow = flows::Flow::of_client(ends, socket, client, shared.now);
        if self.others.len() >= MOST {
            self.drop_oldest();
        }
        let number = self.add_datagrams(flow);
        self.by_client.insert((door, client), number);
        Some(number)
    }

    fn add_datagrams(&mut self, flow: flows::Flow) -> u32 {
        self.next = self.next.wrapping_add(1);
        let number = self.next;
        self.wake_at(What::Datagrams(number), flow.patience());
        self.by_key.insert(flow.key(), number);
        self.others.insert(number, flow);
        number
    }

    /// The number of the flow that a datagram belongs to, a new one if there is none.
    fn datagrams(&mut self, kind: Kind, ends: Ends, packet: &[u8], shared: &Shared) -> Option<u32> {
        if let Some(number) = self.by_key.get(&(kind, ends)) {
            return Some(*number);
        }
        let remotes = match self.target(ends.remote, shared) {
            Target::Outside(remote) => vec![remote],
            _ if kind == Kind::Echo => return None,
            Target::Dns => self.servers(),
            Target::Gateway => machine(ends.remote).into_iter().collect(),
            Target::Closed => Vec::new(),
        };
        if remotes.is_empty() {
            packet::unreachable(&mut self.link, packet, Unreachable::Port);
            return None;
        }
        if self.others.len() >= MOST {
            self.drop_oldest();
        }
        let flow = match flows::Flow::open(kind, ends, remotes, shared.now) {
            Ok(flow) => flow,
            Err(Errno::NETUNREACH | Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
                packet::unreachable(&mut self.link, packet, Unreachable::Network);
                return None;
            }
            // No ping sockets for us, or no descriptors left: lost, as datagrams can be.
            Err(_) => return None,
        };
        let token = self.token(What::Datagrams(self.next.wrapping_add(1)));
        let fd = flow.fd()?;
        shared.watch(fd, token, EventFlags::IN).ok()?;
        Some(self.add_datagrams(flow))
    }

    fn drop_oldest(&mut self) {
        let oldest = self.others.iter().min_by_key(|(_, flow)| flow.patience());
        if let Some((&number, _)) = oldest {
            self.drop_datagrams(number);
        }
    }

    fn echo(&mut self, ends: Ends, packet: &[u8], message: (u16, &[u8]), shared: &Shared) {
        // An address without a port is what an echo request is for.
        let address = SocketAddr::new(ends.remote.ip(), 0);
        if self.target(address, shared) == Target::Gateway {
            return packet::echo(&mut self.link, ends, message.0, message.1);
        }
        if let Some(flow) = self.datagrams(Kind::Echo, ends, packet, shared)
            && let Some(flow) = self.others.get_mut(&flow)
        {
            flow.ask(&mut self.link, packet, message, shared.now);
        }
    }
}

/// The gateway of all namespaces, of the family of `like`.
fn gateway(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => GATEWAY.into(),
        IpAddr::V6(_) => GATEWAY6.into(),
    }
}

/// The caller's name servers of this moment.
fn servers() -> Vec<SocketAddr> {
    // Without the file the resolver asks the local machine, and so do we.
    name_servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_were() {
        for what in [
            What::Lease,
            What::Link,
            What::Tcp(u32::MAX),
            What::Datagrams(7),
            What::Door(7),
            What::Desk(7),
        ] {
            let token = Token {
                network: u16::MAX,
                what,
            };
            assert_eq!(Token::from(EventData::from(token)), token);
        }
    }
}
