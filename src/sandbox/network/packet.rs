//! IP packets, taken apart and put together.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable,
    Icmpv6Message, Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr, IpVersion, Ipv4Packet, Ipv6Packet,
    TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::addresses::{GATEWAY, GATEWAY6};
use super::link::Link;

/// Hops a packet may make, as Linux has it.
const HOPS: u8 = 64;

/// Both ends of a flow, as the guest sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    /// The program's side.
    pub(super) guest: SocketAddr,
    /// The side the stack stands in for.
    pub(super) remote: SocketAddr,
}

/// What a packet of the guest's asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'p> {
    /// A TCP segment.
    Tcp {
        ends: Ends,
        /// Whether it begins a connection.
        opens: bool,
        /// Whether it breaks one off.
        resets: bool,
    },
    /// A UDP datagram.
    Udp { ends: Ends, payload: &'p [u8] },
    /// An echo request; the ports of its ends are both its identifier.
    Echo {
        ends: Ends,
        sequence: u16,
        payload: &'p [u8],
    },
}

/// Takes a packet apart. `None` for what the stack has no use for: fragments (an interface with
/// this MTU makes none), other protocols, broken ones.
pub(super) fn parse(packet: &[u8]) -> Option<Packet<'_>> {
    let (from, to, protocol, payload) = parts(packet)?;
    let ends = |from_port, to_port| Ends {
        guest: SocketAddr::new(from, from_port),
        remote: SocketAddr::new(to, to_port),
    };
    match protocol {
        IpProtocol::Tcp => {
            let segment = TcpPacket::new_checked(payload).ok()?;
            Some(Packet::Tcp {
                ends: ends(segment.src_port(), segment.dst_port()),
                opens: segment.syn() && !segment.ack() && !segment.rst(),
                resets: segment.rst(),
            })
        }
        IpProtocol::Udp => {
            let datagram = UdpPacket::new_checked(payload).ok()?;
            let ends = ends(datagram.src_port(), datagram.dst_port());
            let payload = datagram.payload();
            Some(Packet::Udp { ends, payload })
        }
        IpProtocol::Icmp => {
            let message = Icmpv4Packet::new_checked(payload).ok()?;
            (message.msg_type() == Icmpv4Message::EchoRequest).then(|| Packet::Echo {
                ends: ends(message.echo_ident(), message.echo_ident()),
                sequence: message.echo_seq_no(),
                payload: message.data(),
            })
        }
        IpProtocol::Icmpv6 => {
            let message = Icmpv6Packet::new_checked(payload).ok()?;
            (message.msg_type() == Icmpv6Message::EchoRequest).then(|| Packet::Echo {
                ends: ends(message.echo_ident(), message.echo_ident()),
                sequence: message.echo_seq_no(),
                payload: message.payload(),
            })
        }
        _ => None,
    }
}

/// Whom a packet is from and to.
pub(super) fn between(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match version(packet)? {
        IpVersion::Ipv4 => {
            let ip = Ipv4Packet::new_checked(packet).ok()?;
            Some((ip.src_addr().into(), ip.dst_addr().into()))
        }
        IpVersion::Ipv6 => {
            let ip = Ipv6Packet::new_checked(packet).ok()?;
            Some((ip.src_addr().into(), ip.dst_addr().into()))
        }
    }
}

fn parts(packet: &[u8]) -> Option<(IpAddr, IpAddr, IpProtocol, &[u8])> {
    match version(packet)? {
        IpVersion::Ipv4 => {
            let ip = Ipv4Packet::new_checked(packet).ok()?;
            if ip.more_frags() || ip.frag_offset() != 0 {
                return None;
            }
            let (from, to, protocol) = (ip.src_addr(), ip.dst_addr(), ip.next_header());
            Some((from.into(), to.into(), protocol, ip.payload()))
        }
        IpVersion::Ipv6 => {
            let ip = Ipv6Packet::new_checked(packet).ok()?;
            let (from, to, protocol) = (ip.src_addr(), ip.dst_addr(), ip.next_header());
            Some((from.into(), to.into(), protocol, ip.payload()))
        }
    }
}

/// smoltcp takes the first byte for granted.
fn version(packet: &[u8]) -> Option<IpVersion> {
    packet.first()?;
    IpVersion::of_packet(packet).ok()
}

/// Sends one IP packet with `length` bytes that `fill` writes.
fn send(
    link: &mut Link,
    (from, to): (IpAddr, IpAddr),
    protocol: IpProtocol,
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) {
    let ip = IpRepr::new(from.into(), to.into(), protocol, length, HOPS);
    let head = ip.header_len();
    link.send(head + length, |packet| {
        ip.emit(&mut *packet, &ChecksumCapabilities::default());
        fill(&mut packet[head..]);
    });
}

/// Sends a datagram to the guest.
pub(super) fn udp(link: &mut Link, ends: Ends, payload: &[u8]) {
    let (from, to) = (ends.remote, ends.guest);
    let repr = UdpRepr {
        src_port: from.port(),
        dst_port: to.port(),
    };
    let length = repr.header_len() + payload.len();
    send(
        link,
        (from.ip(), to.ip()),
        IpProtocol::Udp,
        length,
        |room| {
            repr.emit(
                &mut UdpPacket::new_unchecked(room),
                &from.ip().into(),
                &to.ip().into(),
                payload.len(),
                |room| room.copy_from_slice(payload),
                &ChecksumCapabilities::default(),
            );
        },
    );
}

/// Sends the answer to an echo request to the guest.
pub(super) fn echo(link: &mut Link, ends: Ends, seq_no: u16, data: &[u8]) {
    let ident = ends.guest.port();
    let checksums = ChecksumCapabilities::default();
    match (ends.remote.ip(), ends.guest.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let reply = Icmpv4Repr::EchoReply {
                ident,
                seq_no,
                data,
            };
            let (between, length) = ((from.into(), to.into()), reply.buffer_len());
            send(link, between, IpProtocol::Icmp, length, |room| {
                reply.emit(&mut Icmpv4Packet::new_unchecked(room), &checksums);
            });
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let reply = Icmpv6Repr::EchoReply {
                ident,
                seq_no,
                data,
            };
            let (between, length) = ((from.into(), to.into()), reply.buffer_len());
            send(link, between, IpProtocol::Icmpv6, length, |room| {
                let mut packet = Icmpv6Packet::new_unchecked(room);
                reply.emit(&from, &to, &mut packet, &checksums);
            });
        }
        // A packet's two addresses are of one family.
        _ => (),
    }
}

/// Refuses the segment in `packet`: the answer of a port where nobody listens.
pub(super) fn reset(link: &mut Link, packet: &[u8]) {
    let Some((guest, remote, IpProtocol::Tcp, payload)) = parts(packet) else {
        return;
    };
    let Ok(segment) = TcpPacket::new_checked(payload) else {
        return;
    };
    // RFC 9293, 3.5.2: the reset stands where the peer expects it.
    let (seq_number, ack_number) = if segment.ack() {
        (segment.ack_number(), None)
    } else {
        let next = segment.seq_number() + segment.segment_len();
        (TcpSeqNumber(0), Some(next))
    };
    let repr = TcpRepr {
        src_port: segment.dst_port(),
        dst_port: segment.src_port(),
        control: TcpControl::Rst,
        seq_number,
        ack_number,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let length = repr.buffer_len();
    send(link, (remote, guest), IpProtocol::Tcp, length, |room| {
        let mut segment = TcpPacket::new_unchecked(room);
        let checksums = ChecksumCapabilities::default();
        repr.emit(&mut segment, &remote.into(), &guest.into(), &checksums);
    });
}

/// Why a packet can't be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreachable {
    /// No route leads there.
    Network,
    /// Nobody answers there.
    Host,
    /// Nobody listens there.
    Port,
}

/// Tells the guest that `packet` can't be delivered. The beginning of the packet is enough.
pub(super) fn unreachable(link: &mut Link, packet: &[u8], why: Unreachable) {
    /// All of the largest IPv4 header and what identifies the flow behind it.
    const QUOTED: usize = 68;
    /// Of an ICMP message.
    const HEADER: usize = 8;
    let quoted = &packet[..packet.len().min(QUOTED)];
    let length = HEADER + quoted.len();
    match version(packet) {
        Some(IpVersion::Ipv4) if packet.len() >= 20 => {
            let guest = Ipv4Packet::new_unchecked(packet).src_addr();
            let between = (GATEWAY.into(), guest.into());
            send(link, between, IpProtocol::Icmp, length, |room| {
                room[..HEADER].fill(0);
                room[HEADER..].copy_from_slice(quoted);
                let mut message = Icmpv4Packet::new_unchecked(room);
                message.set_msg_type(Icmpv4Message::DstUnreachable);
                message.set_msg_code(u8::from(match why {
                    Unreachable::Network => Icmpv4DstUnreachable::NetUnreachable,
                    Unreachable::Host => Icmpv4DstUnreachable::HostUnreachable,
                    Unreachable::Port => Icmpv4DstUnreachable::PortUnreachable,
                }));
                message.fill_checksum();
            });
        }
        Some(IpVersion::Ipv6) if packet.len() >= 40 => {
            let guest = Ipv6Packet::new_unchecked(packet).src_addr();
            let between = (GATEWAY6.into(), guest.into());
            send(link, between, IpProtocol::Icmpv6, length, |room| {
                room[..HEADER].fill(0);
                room[HEADER..].copy_from_slice(quoted);
                let mut message = Icmpv6Packet::new_unchecked(room);
                message.set_msg_type(Icmpv6Message::DstUnreachable);
                message.set_msg_code(u8::from(match why {
                    Unreachable::Network => Icmpv6DstUnreachable::NoRoute,
                    Unreachable::Host => Icmpv6DstUnreachable::AddrUnreachable,
                    Unreachable::Port => Icmpv6DstUnreachable::PortUnreachable,
                }));
                message.fill_checksum(&GATEWAY6, &guest);
            });
        }
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest packet of `protocol` with `payload` between two addresses.
    fn packet(from: &str, to: &str, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let ip = IpRepr::new(from.into(), to.into(), protocol, payload.len(), HOPS);
        let mut bytes = vec![0; ip.header_len()];
        ip.emit(&mut bytes[..], &ChecksumCapabilities::default());
        bytes.extend(payload);
        bytes
    }

    fn ends(guest: &str, remote: &str) -> Ends {
        Ends {
            guest: guest.parse().unwrap(),
            remote: remote.parse().unwrap(),
        }
    }

    #[test]
    fn datagrams_are_taken_apart() {
        let udp = [0, 9, 0, 53, 0, 10, 0, 0, b'h', b'i'];
        for (from, to, expected) in [
            ("10.0.0.1", "10.0.0.2", ends("10.0.0.1:9", "10.0.0.2:53")),
            ("fd00::1", "fd00::2", ends("[fd00::1]:9", "[fd00::2]:53")),
        ] {
            let bytes = packet(from, to, IpProtocol::Udp, &udp);
            let payload = b"hi".as_slice();
            let ends = expected;
            assert_eq!(parse(&bytes), Some(Packet::Udp { ends, payload }));
        }
    }

    #[test]
    fn what_is_cut_off_or_a_fragment_is_nothing() {
        let udp = [0, 9, 0, 53, 0, 10, 0, 0, b'h', b'i'];
        let mut bytes = packet("10.0.0.1", "10.0.0.2", IpProtocol::Udp, &udp);
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), None, "{length}");
        }
        // More fragments follow.
        bytes[6] = 0x20;
        assert_eq!(parse(&bytes), None);
        assert_eq!(
            parse(&packet("10.0.0.1", "10.0.0.2", IpProtocol::Igmp, &udp)),
            None
        );
    }

    #[test]
    fn only_a_first_segment_opens() {
        let segment = |flags: u8| {
            let tcp = [
                0, 9, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0,
            ];
            let bytes = packet("10.0.0.1", "10.0.0.2", IpProtocol::Tcp, &tcp);
            match parse(&bytes) {
                Some(Packet::Tcp { opens, resets, .. }) => (opens, resets),
                other => panic!("{other:?}"),
            }
        };
        const SYN: u8 = 2;
        const RST: u8 = 4;
        const ACK: u8 = 16;
        assert_eq!(segment(SYN), (true, false));
        assert_eq!(segment(SYN | ACK), (false, false));
        assert_eq!(segment(ACK), (false, false));
        assert_eq!(segment(RST | ACK), (false, true));
    }
}
