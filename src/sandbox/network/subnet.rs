//! Ranges of addresses: read, compared, and the next free one found.
//!
//! Pure: who has which range is the caller's to know.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// All addresses with the same first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    first: IpAddr,
    bits: u8,
}

/// Why ranges of addresses can't be a network's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// It is none.
    #[error("`{text}` is no range of addresses, such as 172.30.0.0/16")]
    NoRange {
        /// As it was given.
        text: String,
    },
    /// It has too few addresses for a gateway and a container.
    #[error("{subnet} has too few addresses")]
    TooSmall {
        /// The range.
        subnet: Subnet,
    },
    /// An address or a range is not in a range of the network.
    #[error("{what} {value} lies in no subnet of the network")]
    Outside {
        /// What it is to be.
        what: &'static str,
        /// The address or range.
        value: String,
    },
    /// There can be one of each family.
    #[error("{what} {second} is one too many: a network has one {family}")]
    TooMany {
        /// What there are two of.
        what: &'static str,
        /// The second one.
        second: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// All ranges that networks get by themselves are taken.
    #[error("no range of addresses is free")]
    NoneFree,
}

impl Subnet {
    /// The range of `bits` that `address` lies in.
    pub fn around(address: IpAddr, bits: u8) -> Self {
        let widest = width(address);
        let bits = bits.min(widest);
        let low = number(address) & !mask(widest - bits);
        let first = like(address, low);
        Self { first, bits }
    }

    /// How many first bits are the same.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Whether its addresses are of IPv6.
    pub fn is_ipv6(self) -> bool {
        self.first.is_ipv6()
    }

    /// Whether `address` is one of its addresses.
    pub fn contains(self, address: IpAddr) -> bool {
        self.first.is_ipv6() == address.is_ipv6()
            && (number(address) ^ number(self.first)) & !mask(width(address) - self.bits) == 0
    }

    /// Whether an address is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// Whether all of `other` is in it.
    pub fn covers(self, other: Self) -> bool {
        self.bits <= other.bits && self.contains(other.first)
    }

    /// Whether a container may have `address`: not the range's own, nor all ones for IPv4.
    pub fn is_usable(self, address: IpAddr) -> bool {
        let rest = mask(width(self.first) - self.bits);
        let place = number(address) & rest;
        self.contains(address) && place != 0 && (self.is_ipv6() || place != rest)
    }

    /// All its addresses, from the lowest on.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let first = number(self.first);
        let last = mask(width(self.first) - self.bits);
        (0..=last).map(move |place| like(self.first, first | place))
    }

    /// Its addresses that containers may have, from the lowest on.
    pub fn usable(self) -> impl Iterator<Item = IpAddr> {
        self.addresses()
            .filter(move |address| self.is_usable(*address))
    }

    /// Finds that it holds a gateway and a container at least.
    pub fn is_roomy(self) -> Result<(), RangeError> {
        match self.bits <= width(self.first) - 2 {
            true => Ok(()),
            false => Err(RangeError::TooSmall { subnet: self }),
        }
    }

    /// The first of the ranges that networks get by themselves that overlaps none of `taken`:
    /// those of docker.
    pub fn free(taken: &[Self]) -> Result<Self, RangeError> {
        let large = (18..=31).map(|second| (Ipv4Addr::new(172, second, 0, 0), 16));
        let small = (0..=240)
            .step_by(16)
            .map(|third| (Ipv4Addr::new(192, 168, third, 0), 20));
        let mut ranges = large.chain(small).map(|(first, bits)| Self {
            first: first.into(),
            bits,
        });
        let free = ranges.find(|range| !taken.iter().any(|taken| taken.overlaps(*range)));
        free.ok_or(RangeError::NoneFree)
    }

    /// The IPv6 range of the network with this id, of 64 hex digits: unique local addresses.
    pub fn local(id: &str) -> Self {
        let random = u64::from_str_radix(id.get(..14).unwrap_or_default(), 16).unwrap_or(0);
        let first = 0xfd << 120 | u128::from(random) << 64;
        Self::around(Ipv6Addr::from_bits(first).into(), 64)
    }
}

/// Bits of an address.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

/// The lowest `bits` set.
fn mask(bits: u8) -> u128 {
    match bits {
        128 => u128::MAX,
        bits => (1 << bits) - 1,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address of `family`'s family with this number.
fn like(family: IpAddr, number: u128) -> IpAddr {
    match family {
        IpAddr::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl FromStr for Subnet {
    type Err = RangeError;

    /// Reads `ADDRESS/BITS`; an address in the middle of a range means the range.
    fn from_str(text: &str) -> Result<Self, RangeError> {
        let read = || {
            let (address, bits) = text.split_once('/')?;
            let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
            (bits <= width(address)).then(|| Self::around(address, bits))
        };
        read().ok_or_else(|| RangeError::NoRange {
            text: text.to_owned(),
        })
    }
}

impl TryFrom<String> for Subnet {
    type Error = RangeError;

    fn try_from(text: String) -> Result<Self, RangeError> {
        text.parse()
    }
}

/// The ranges that the machine has routes to, from the text of `/proc/net/route`. The default
/// route is none.
pub fn routed(text: &str) -> Vec<Subnet> {
    let field = |field: &str| u32::from_str_radix(field, 16).ok().map(u32::from_be);
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (to, mask) = (field(fields.get(1)?)?, field(fields.get(7)?)?);
        let bits = mask.count_ones() as u8;
        (bits > 0).then(|| Subnet::around(Ipv4Addr::from_bits(to).into(), bits))
    };
    text.lines().skip(1).filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_read_and_shown() {
        assert_eq!(subnet("172.30.5.1/16").to_string(), "172.30.0.0/16");
        assert_eq!(subnet("fd00::5/64").to_string(), "fd00::/64");
        assert_eq!(subnet("0.0.0.0/0").to_string(), "0.0.0.0/0");
        assert_eq!(subnet("::/0").to_string(), "::/0");
        for none in ["", "10.0.0.0", "10.0.0.0/33", "fd00::/129", "a/8", "1/8"] {
            assert!(none.parse::<Subnet>().is_err(), "{none}");
        }
    }

    #[test]
    fn ranges_are_compared() {
        let wide = subnet("10.0.0.0/8");
        assert!(wide.overlaps(subnet("10.1.0.0/16")) && subnet("10.1.0.0/16").overlaps(wide));
        assert!(!wide.overlaps(subnet("11.0.0.0/8")));
        assert!(!wide.overlaps(subnet("::/0")));
        assert!(wide.covers(subnet("10.1.0.0/16")) && !subnet("10.1.0.0/16").covers(wide));
    }

    #[test]
    fn the_ends_of_a_range_are_nobodys() {
        let all: Vec<String> = subnet("10.0.0.0/30")
            .usable()
            .map(|address| address.to_string())
            .collect();
        assert_eq!(all, ["10.0.0.1", "10.0.0.2"]);
        let first = subnet("fd00::/64").usable().next();
        assert_eq!(first, Some("fd00::1".parse().unwrap()));
        assert!(subnet("10.0.0.0/30").is_roomy().is_ok());
        assert!(subnet("10.0.0.0/31").is_roomy().is_err());
        assert!(subnet("fd00::/127").is_roomy().is_err());
    }

    #[test]
    fn the_next_free_range_overlaps_nothing() {
        assert_eq!(Subnet::free(&[]), Ok(subnet("172.18.0.0/16")));
        let taken = [subnet("172.18.5.0/24"), subnet("172.19.0.0/16")];
        assert_eq!(Subnet::free(&taken), Ok(subnet("172.20.0.0/16")));
        let taken = [subnet("172.16.0.0/12"), subnet("192.168.1.0/24")];
        assert_eq!(Subnet::free(&taken), Ok(subnet("192.168.16.0/20")));
        let all = [subnet("0.0.0.0/0")];
        assert_eq!(Subnet::free(&all), Err(RangeError::NoneFree));
    }

    #[test]
    fn a_network_has_an_ipv6_range_of_its_own() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(Subnet::local(&id).to_string(), "fd01:2345:6789:abcd::/64");
    }

    #[test]
    fn routes_of_the_machine_are_ranges() {
        // The kernel prints what it has in network byte order as a number of the machine's.
        let (to, mask) = (0x0a14_0000_u32.to_be(), 0xffff_0000_u32.to_be());
        let text = format!(
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
             eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\n\
             eth0\t{to:08X}\t00000000\t0001\t0\t0\t0\t{mask:08X}\n"
        );
        assert_eq!(routed(&text), [subnet("10.20.0.0/16")]);
    }
}
