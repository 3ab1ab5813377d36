//! The addresses of a private network: the same few in each, since each is alone.
//!
//! The ranges are small and out of the way of what routers, clouds, virtual machines and docker
//! give out, because whatever stands there outside can't be reached from inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The machine, for those who may reach it ([`super::Reach::host_loopback`]).
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 217, 93, 1);
/// The program.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 217, 93, 2);
/// The machine's name servers, whichever they are at the time of a question.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 217, 93, 3);
/// Bits of the IPv4 range.
pub const PREFIX: u8 = 29;

/// The machine.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd6b, 0xc1a7, 0x5e0b, 0, 0, 0, 0, 1);
/// The program.
pub const GUEST6: Ipv6Addr = Ipv6Addr::new(0xfd6b, 0xc1a7, 0x5e0b, 0, 0, 0, 0, 2);
/// The machine's name servers.
pub const DNS6: Ipv6Addr = Ipv6Addr::new(0xfd6b, 0xc1a7, 0x5e0b, 0, 0, 0, 0, 3);
/// Bits of the IPv6 range.
pub const PREFIX6: u8 = 64;

/// Tells whether `address` lies in one of the two ranges.
pub(super) fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => (v4.to_bits() ^ GUEST.to_bits()) >> (32 - PREFIX) == 0,
        IpAddr::V6(v6) => (v6.to_bits() ^ GUEST6.to_bits()) >> (128 - u32::from(PREFIX6)) == 0,
    }
}

/// What `--add-host` says for the machine itself.
pub const HOST_GATEWAY: &str = "host-gateway";

/// The address that [`HOST_GATEWAY`] stands for, in a private network or on the machine's own;
/// any other text is what it is.
pub fn host_address(text: &str, private: bool) -> String {
    match text {
        HOST_GATEWAY if private => GATEWAY.to_string(),
        HOST_GATEWAY => Ipv4Addr::LOCALHOST.to_string(),
        address => address.to_owned(),
    }
}

/// What `/etc/resolv.conf` says inside a private network: the servers that `--dns` names, else
/// ours, and all that `host`, the caller's file, says besides name servers.
pub fn resolv_conf(host: &str, servers: &[IpAddr]) -> String {
    let mut text = match servers {
        [] => format!("nameserver {DNS}\n"),
        servers => servers
            .iter()
            .map(|server| format!("nameserver {server}\n"))
            .collect(),
    };
    for line in host.lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        if matches!(word, "search" | "domain" | "options" | "sortlist") {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_small_ranges_are_ours() {
        for address in [GATEWAY, GUEST, DNS] {
            assert!(is_ours(address.into()));
        }
        for address in [GATEWAY6, GUEST6, DNS6] {
            assert!(is_ours(address.into()));
        }
        for address in [
            "10.217.93.8",
            "10.217.92.255",
            "fd6b:c1a7:5e0b:1::1",
            "fd00::1",
        ] {
            assert!(!is_ours(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn resolv_conf_keeps_all_but_the_name_servers() {
        let host = "# made by hand\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch a.b c\n";
        let inside = "nameserver 10.217.93.3\noptions edns0 trust-ad\nsearch a.b c\n";
        assert_eq!(resolv_conf(host, &[]), inside);
        assert_eq!(resolv_conf("", &[]), "nameserver 10.217.93.3\n");
        let asked = ["8.8.8.8".parse().unwrap(), "::1".parse().unwrap()];
        let inside = "nameserver 8.8.8.8\nnameserver ::1\n";
        assert_eq!(resolv_conf("nameserver 1.1.1.1\n", &asked), inside);
    }

    #[test]
    fn the_host_gateway_is_the_machine() {
        assert_eq!(host_address("host-gateway", true), "10.217.93.1");
        assert_eq!(host_address("host-gateway", false), "127.0.0.1");
        assert_eq!(host_address("10.0.0.5", true), "10.0.0.5");
    }
}
