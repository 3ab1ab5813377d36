//! Questions to a name server about names of ours, and the answers (RFC 1035).
//!
//! Only what a resolver asks for is understood: one question, no compression. All else is
//! somebody else's to answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes before the question.
const HEADER: usize = 12;
/// Seconds that an answer may be kept: a container that starts again may get another address.
const TTL: u32 = 5;
/// Most records of an answer; with a long name they still fit into the smallest packet.
const MOST: usize = 8;

const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;

/// A question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question<'p> {
    packet: &'p [u8],
    /// Where the question ends in it.
    end: usize,
    /// In lower case, without a dot at the end.
    name: String,
    kind: u16,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<'q> {
    /// The addresses of a name.
    Addresses(&'q str),
    /// The name of an address.
    Name(IpAddr),
}

impl<'p> Question<'p> {
    /// Takes a packet apart. `None` for what is no such question.
    pub(super) fn parse(packet: &'p [u8]) -> Option<Self> {
        let header = packet.get(..HEADER)?;
        // Neither an answer nor another kind of request, and one question.
        if header[2] & 0xf8 != 0 || header[4..6] != [0, 1] {
            return None;
        }
        let mut name = String::new();
        let mut at = HEADER;
        loop {
            let length = usize::from(*packet.get(at)?);
            let label = packet.get(at + 1..at + 1 + length)?;
            at += 1 + length;
            if length == 0 {
                break;
            }
            if length > 63
                || !label
                    .iter()
                    .all(|byte| byte.is_ascii_graphic() && *byte != b'.')
            {
                return None;
            }
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(
                label
                    .iter()
                    .map(|byte| char::from(byte.to_ascii_lowercase())),
            );
        }
        let kind = packet.get(at..at + 4)?;
        if kind[2..] != INTERNET.to_be_bytes() {
            return None;
        }
        Some(Self {
            packet,
            end: at + 4,
            name,
            kind: u16::from_be_bytes([kind[0], kind[1]]),
        })
    }

    /// What it asks for: any question that is not about the name of an address is about a name.
    pub(super) fn asked(&self) -> Asked<'_> {
        match reversed(&self.name) {
            Some(address) if self.kind == PTR => Asked::Name(address),
            _ => Asked::Addresses(&self.name),
        }
    }

    /// The answer that these are the addresses of the name. Those of the other family are left
    /// out, and a name may have none.
    pub(super) fn with_addresses(&self, addresses: &[IpAddr]) -> Vec<u8> {
        let wanted = addresses.iter().filter_map(|address| match address {
            IpAddr::V4(v4) if self.kind == A => Some(v4.octets().to_vec()),
            IpAddr::V6(v6) if self.kind == AAAA => Some(v6.octets().to_vec()),
            _ => None,
        });
        self.answer(0, &wanted.take(MOST).collect::<Vec<_>>())
    }

    /// The answer that this is the name of the address.
    pub(super) fn with_name(&self, name: &str) -> Vec<u8> {
        let mut data = Vec::new();
        for label in name.split('.').filter(|label| !label.is_empty()) {
            // Names of containers and networks have no longer parts.
            let label = &label.as_bytes()[..label.len().min(63)];
            data.push(label.len() as u8);
            data.extend(label);
        }
        data.push(0);
        self.answer(0, &[data])
    }

    /// The answer that there is no such name.
    pub(super) fn without_name(&self) -> Vec<u8> {
        const NO_SUCH_NAME: u8 = 3;
        self.answer(NO_SUCH_NAME, &[])
    }

    fn answer(&self, code: u8, records: &[Vec<u8>]) -> Vec<u8> {
        /// An answer; recursion is available.
        const ANSWER: u8 = 0x80;
        /// The name of the question, by its place.
        const SAME_NAME: [u8; 2] = [0xc0, HEADER as u8];
        let mut answer = self.packet[..self.end].to_vec();
        let recursion = answer[2] & 1;
        answer[2] = ANSWER | recursion;
        answer[3] = ANSWER | code;
        answer[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        answer[8..12].fill(0);
        for record in records {
            answer.extend(SAME_NAME);
            answer.extend(self.kind.to_be_bytes());
            answer.extend(INTERNET.to_be_bytes());
            answer.extend(TTL.to_be_bytes());
            answer.extend((record.len() as u16).to_be_bytes());
            answer.extend(record);
        }
        answer
    }
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let parts: Vec<&str> = digits.split('.').rev().collect();
        return parts.join(".").parse().ok().map(|v4: Ipv4Addr| v4.into());
    }
    let digits: Vec<&str> = name.strip_suffix(".ip6.arpa")?.split('.').collect();
    if digits.len() != 32 || digits.iter().any(|digit| digit.len() != 1) {
        return None;
    }
    let number: String = digits.into_iter().rev().collect();
    let number = u128::from_str_radix(&number, 16).ok()?;
    Some(Ipv6Addr::from_bits(number).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(name: &str, kind: u16) -> Vec<u8> {
        let mut packet = vec![7, 9, 1, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in name.split('.') {
            packet.push(label.len() as u8);
            packet.extend(label.bytes());
        }
        packet.push(0);
        packet.extend([kind.to_be_bytes(), INTERNET.to_be_bytes()].concat());
        packet
    }

    #[test]
    fn questions_are_about_names_or_addresses() {
        let names = asking("Db.Net", A);
        let question = Question::parse(&names).unwrap();
        assert_eq!(question.asked(), Asked::Addresses("db.net"));
        let packet = asking("5.0.18.172.in-addr.arpa", PTR);
        let question = Question::parse(&packet).unwrap();
        assert_eq!(question.asked(), Asked::Name("172.18.0.5".parse().unwrap()));
        let nibbles = format!("2.{}d.f.ip6.arpa", "0.".repeat(29));
        let packet = asking(&nibbles, PTR);
        let question = Question::parse(&packet).unwrap();
        assert_eq!(question.asked(), Asked::Name("fd00::2".parse().unwrap()));
        let packet = asking("x.in-addr.arpa", PTR);
        let question = Question::parse(&packet).unwrap();
        assert_eq!(question.asked(), Asked::Addresses("x.in-addr.arpa"));
    }

    #[test]
    fn answers_repeat_the_question_and_drop_what_followed() {
        let mut packet = asking("db", A);
        let length = packet.len();
        // EDNS, which is not understood.
        packet.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        let question = Question::parse(&packet).unwrap();
        let both = ["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        let answer = question.with_addresses(&both);
        assert_eq!(answer[..12], [7, 9, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(answer[12..length], packet[12..length]);
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, 7];
        assert_eq!(answer[length..], record);
        let none = question.without_name();
        assert_eq!((none[3], none.len()), (0x83, length));
        let packet = asking("db", AAAA);
        let question = Question::parse(&packet).unwrap();
        assert_eq!(
            question.with_addresses(&both[..1])[3..8],
            [0x80, 0, 1, 0, 0]
        );
        let name = question.with_name("db.net");
        assert!(name.ends_with(&[0, 8, 2, b'd', b'b', 3, b'n', b'e', b't', 0]));
    }

    #[test]
    fn anything_else_is_no_question() {
        let good = asking("db", A);
        for length in 0..good.len() {
            assert_eq!(Question::parse(&good[..length]), None, "{length}");
        }
        for (at, byte) in [(2, 0x81), (5, 2), (12, 0xc0), (13, b'.'), (13, 0xff)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(Question::parse(&bad), None, "{at}");
        }
    }
}
