//! What an address means to the stack.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use serde::{Deserialize, Serialize};

use super::addresses::{DNS, DNS6, GATEWAY, GATEWAY6, is_ours};

/// What a private network lets its programs reach besides the world.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Whether the gateway's address leads to services on the loopback addresses of the machine.
    pub host_loopback: bool,
}

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// To this address of the caller's network.
    Outside(SocketAddr),
    /// To the caller's name servers.
    Dns,
    /// To the gateway itself: it answers echo requests, and stands for the machine as others see
    /// it ([`machine`]).
    Gateway,
    /// Nowhere: connecting is refused.
    Closed,
}

impl Reach {
    /// Decides for a packet to `to`.
    pub(super) fn target(self, to: SocketAddr) -> Target {
        let port = to.port();
        let gateway = |loopback: IpAddr| match self.host_loopback {
            true if port != 0 => Target::Outside(SocketAddr::new(loopback, port)),
            _ => Target::Gateway,
        };
        match to.ip() {
            IpAddr::V4(GATEWAY) => gateway(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(GATEWAY6) => gateway(Ipv6Addr::LOCALHOST.into()),
            IpAddr::V4(DNS) | IpAddr::V6(DNS6) if port == 53 => Target::Dns,
            ip if is_ours(ip) || !is_plain(ip) => Target::Closed,
            _ => Target::Outside(to),
        }
    }
}

/// Whether a connection to `ip` leaves the machine or reaches an address it shows to others.
/// Not plain are loopback, `0.0.0.0` and `::` (which mean loopback to connect(2)), IPv6 forms of
/// IPv4 addresses, and whatever is not one receiver.
fn is_plain(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            first != 0 && !v4.is_loopback() && first < 224
        }
        IpAddr::V6(v6) => {
            let compatible = v6.segments()[..6] == [0; 6];
            let link_local = v6.segments()[0] & 0xffc0 == 0xfe80;
            let mapped = v6.to_ipv4_mapped().is_some();
            !compatible && !mapped && !link_local && !v6.is_multicast()
        }
    }
}

/// Whether `ip` can stand for somebody outside: packets to it come to us and mean nobody else.
pub(super) fn can_be_told(ip: IpAddr) -> bool {
    is_plain(ip) && !is_ours(ip)
}

/// The port of `gateway` at the address that the machine shows to the world, which is the one
/// it would speak from; `None` if it would not speak at all.
pub(super) fn machine(gateway: SocketAddr) -> Option<SocketAddr> {
    /// Nobody is there (RFC 5737, RFC 3849), and nothing is sent.
    const WORLD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
    const WORLD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let (any, world): (IpAddr, IpAddr) = match gateway {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), WORLD.into()),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), WORLD6.into()),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((world, 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    can_be_told(own).then(|| SocketAddr::new(own, gateway.port()))
}

/// The name servers of a resolv.conf(5), or the local one if it names none.
pub(super) fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        let ip: IpAddr = words.next()?.parse().ok()?;
        Some(SocketAddr::new(ip, 53))
    };
    let servers: Vec<_> = resolv_conf.lines().filter_map(server).collect();
    if servers.is_empty() {
        return vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53)];
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(to: &str, host_loopback: bool) -> Target {
        Reach { host_loopback }.target(to.parse().unwrap())
    }

    #[test]
    fn no_address_leads_to_the_hosts_loopback() {
        for closed in [
            "127.0.0.1:80",
            "127.1.2.3:80",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "[::1]:80",
            "[::]:80",
            "[::127.0.0.1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::ffff:8.8.8.8]:80",
            "[fe80::1]:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "[ff02::1]:80",
            "10.217.93.2:80",
            "10.217.93.3:80",
            "[fd6b:c1a7:5e0b::3]:80",
        ] {
            assert_eq!(target(closed, false), Target::Closed, "{closed}");
            assert_eq!(target(closed, true), Target::Closed, "{closed}");
        }
        for open in [
            "8.8.8.8:53",
            "192.168.1.1:80",
            "[2001:db8::1]:443",
            "[fd00::1]:1",
        ] {
            assert_eq!(target(open, false), Target::Outside(open.parse().unwrap()));
        }
    }

    #[test]
    fn the_gateway_is_the_hosts_loopback_only_where_asked_for() {
        let outside = |to: &str| Target::Outside(to.parse().unwrap());
        assert_eq!(target("10.217.93.1:80", false), Target::Gateway);
        assert_eq!(target("10.217.93.1:80", true), outside("127.0.0.1:80"));
        assert_eq!(target("[fd6b:c1a7:5e0b::1]:80", false), Target::Gateway);
        assert_eq!(target("[fd6b:c1a7:5e0b::1]:80", true), outside("[::1]:80"));
        assert_eq!(target("10.217.93.1:0", true), Target::Gateway);
    }

    #[test]
    fn the_name_server_answers_on_its_port_only() {
        assert_eq!(target("10.217.93.3:53", false), Target::Dns);
        assert_eq!(target("[fd6b:c1a7:5e0b::3]:53", false), Target::Dns);
        assert_eq!(target("10.217.93.3:5353", true), Target::Closed);
    }

    #[test]
    fn name_servers_are_read_as_the_resolver_does() {
        let read = |text: &str| -> Vec<String> {
            name_servers(text).iter().map(ToString::to_string).collect()
        };
        let text = "#nameserver 1.1.1.1\nnameserver 127.0.0.53\nnameserver\t::1 x\nnameserver a\n";
        assert_eq!(read(text), ["127.0.0.53:53", "[::1]:53"]);
        assert_eq!(read("search x\n"), ["127.0.0.1:53"]);
    }
}
