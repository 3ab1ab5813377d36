//! Questions to a name server about names of ours, and the answers (RFC 1035), with what a
//! resolver says of itself besides (EDNS, RFC 6891).
//!
//! Only what a resolver asks for is understood: one question, no compression. All else is
//! somebody else's to answer. An answer holds what the asker has room for: what is left out of a
//! datagram is said to be, and the asker comes back over TCP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes before the question.
const HEADER: usize = 12;
/// Seconds that an answer may be kept: a container that starts again may get another address.
const TTL: u32 = 5;
/// Bytes of a datagram that every asker has room for.
const LEAST: usize = 512;
/// Bytes of a message, whatever an asker has room for; with the headers that is one packet.
const MOST: usize = 65_000;
/// Bytes of a datagram that are said to be taken here.
const TAKEN: u16 = 4096;
/// Bytes of a record that says something of its sender.
const OPTIONS: usize = 11;

const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const OPT: u16 = 41;
const INTERNET: u16 = 1;

/// The answer to another version of EDNS than the first; its upper bits go to the record.
const BAD_VERSION: u8 = 16;

/// What a message comes and goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// UDP.
    Datagram,
    /// TCP, where there is room for every answer.
    Stream,
}

/// A question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question<'p> {
    packet: &'p [u8],
    /// Where the question ends in it.
    end: usize,
    /// In lower case, without a dot at the end.
    name: String,
    kind: u16,
    asker: Option<Asker>,
}

/// What a resolver says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Asker {
    /// Bytes of a datagram that it has room for.
    room: usize,
    /// The version of EDNS that it speaks.
    version: u8,
    /// Whether it wants signatures; there are none, but an answer repeats it.
    wants_signatures: bool,
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
        let behind = packet.get(at + 4..)?;
        Some(Self {
            packet,
            end: at + 4,
            name,
            kind: u16::from_be_bytes([kind[0], kind[1]]),
            asker: Asker::parse(header, behind)?,
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
    pub(super) fn with_addresses(&self, addresses: &[IpAddr], by: Carrier) -> Vec<u8> {
        let wanted = addresses.iter().filter_map(|address| match address {
            IpAddr::V4(v4) if self.kind == A => Some(v4.octets().to_vec()),
            IpAddr::V6(v6) if self.kind == AAAA => Some(v6.octets().to_vec()),
            _ => None,
        });
        self.answer(0, &wanted.collect::<Vec<_>>(), by)
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
        // The longest names that there are fit into the smallest datagram.
        self.answer(0, &[data], Carrier::Datagram)
    }

    /// The answer that there is no such name.
    pub(super) fn without_name(&self) -> Vec<u8> {
        const NO_SUCH_NAME: u8 = 3;
        self.answer(NO_SUCH_NAME, &[], Carrier::Datagram)
    }

    fn answer(&self, code: u8, records: &[Vec<u8>], by: Carrier) -> Vec<u8> {
        /// An answer; recursion is available.
        const ANSWER: u8 = 0x80;
        const TRUNCATED: u8 = 2;
        /// The name of the question, by its place.
        const SAME_NAME: [u8; 2] = [0xc0, HEADER as u8];
        let (code, records) = match &self.asker {
            Some(asker) if asker.version > 0 => (BAD_VERSION, &[][..]),
            _ => (code, records),
        };
        let room = self.room(by);
        let mut answer = self.packet[..self.end].to_vec();
        let recursion = answer[2] & 1;
        answer[2] = ANSWER | recursion;
        answer[3] = ANSWER | (code & 0xf);
        answer[6..12].fill(0);
        let mut held: u16 = 0;
        for data in records {
            let mut record = SAME_NAME.to_vec();
            record.extend(self.kind.to_be_bytes());
            record.extend(INTERNET.to_be_bytes());
            record.extend(TTL.to_be_bytes());
            record.extend((data.len() as u16).to_be_bytes());
            record.extend(data);
            if answer.len() + record.len() > room {
                answer[2] |= TRUNCATED;
                break;
            }
            answer.extend(record);
            held += 1;
        }
        answer[6..8].copy_from_slice(&held.to_be_bytes());
        if let Some(asker) = &self.asker {
            answer[11] = 1;
            answer.extend(asker.answered(code));
        }
        answer
    }

    /// How long the answer may be before what is said of its sender.
    fn room(&self, by: Carrier) -> usize {
        match (by, &self.asker) {
            (Carrier::Stream, _) => MOST,
            (Carrier::Datagram, Some(asker)) => asker.room - OPTIONS,
            (Carrier::Datagram, None) => LEAST,
        }
    }
}

impl Asker {
    /// Finds what the sender of a question says of itself `behind` it, if it does. `None` for what
    /// is no question: it holds answers, breaks off, or says it twice.
    fn parse(header: &[u8], behind: &[u8]) -> Option<Option<Self>> {
        if header[6..10] != [0; 4] {
            return None;
        }
        let (mut rest, mut found) = (behind, None);
        for _ in 0..u16::from_be_bytes([header[10], header[11]]) {
            let name = name_length(rest)?;
            let fixed = rest.get(name..name + 10)?;
            let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
            rest = rest.get(name + 10 + length..)?;
            if fixed[..2] != OPT.to_be_bytes() {
                continue;
            }
            let room = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
            let asker = Self {
                room: room.clamp(LEAST, MOST),
                version: fixed[5],
                wants_signatures: fixed[6] & 0x80 != 0,
            };
            if name != 1 || found.replace(asker).is_some() {
                return None;
            }
        }
        Some(found)
    }

    /// What the answer with this code says of us.
    fn answered(&self, code: u8) -> [u8; OPTIONS] {
        let [kind, taken] = [OPT.to_be_bytes(), TAKEN.to_be_bytes()];
        let flags = if self.wants_signatures { 0x80 } else { 0 };
        let rest = [code >> 4, 0, flags, 0, 0, 0];
        let mut record = [0; OPTIONS];
        record[1..3].copy_from_slice(&kind);
        record[3..5].copy_from_slice(&taken);
        record[5..].copy_from_slice(&rest);
        record
    }
}

/// The bytes of the name that `bytes` begin with, which may end in the place of another.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match usize::from(*bytes.get(at)?) {
            0 => return Some(at + 1),
            length if length < 64 => at += 1 + length,
            _ => return Some(at + 2),
        }
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
        let mut packet = vec![7, 9, 1, 0x20, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            packet.push(label.len() as u8);
            packet.extend(label.bytes());
        }
        packet.push(0);
        packet.extend([kind.to_be_bytes(), INTERNET.to_be_bytes()].concat());
        packet
    }

    /// The same from a resolver that has room for so many bytes.
    fn asking_with(name: &str, room: u16) -> Vec<u8> {
        let mut packet = asking(name, A);
        packet[11] = 1;
        let [high, low] = room.to_be_bytes();
        // A cookie, which is not understood, and the wish for signatures.
        packet.extend([0, 0, 41, high, low, 0, 0, 0x80, 0, 0, 12]);
        packet.extend([0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        packet
    }

    fn many(count: u8) -> Vec<IpAddr> {
        let addresses = (1..=count).map(|last| Ipv4Addr::new(10, 0, 0, last).into());
        addresses.collect()
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
        packet.extend(b"whatever");
        let question = Question::parse(&packet).unwrap();
        let both = ["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        let answer = question.with_addresses(&both, Carrier::Datagram);
        assert_eq!(answer[..12], [7, 9, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(answer[12..length], packet[12..length]);
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, 7];
        assert_eq!(answer[length..], record);
        let none = question.without_name();
        assert_eq!((none[3], none.len()), (0x83, length));
        let packet = asking("db", AAAA);
        let question = Question::parse(&packet).unwrap();
        let none = question.with_addresses(&both[..1], Carrier::Datagram);
        assert_eq!(none[3..8], [0x80, 0, 1, 0, 0]);
        let name = question.with_name("db.net");
        assert!(name.ends_with(&[0, 8, 2, b'd', b'b', 3, b'n', b'e', b't', 0]));
    }

    #[test]
    fn what_a_resolver_says_of_itself_is_answered_alike() {
        let packet = asking_with("db", 1232);
        let question = Question::parse(&packet).unwrap();
        let said = [0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0];
        let answer = question.with_addresses(&many(1), Carrier::Datagram);
        assert_eq!(answer[..12], [7, 9, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 1]);
        assert!(answer.ends_with(&said), "{answer:?}");
        let none = question.without_name();
        assert_eq!((none[3], none[11]), (0x83, 1));
        assert!(none.ends_with(&said), "{none:?}");
        // Who wants no signatures hears of none.
        let mut packet = packet;
        let flags = packet.len() - 12 - 4;
        packet[flags] = 0;
        let question = Question::parse(&packet).unwrap();
        let answer = question.without_name();
        assert!(answer.ends_with(&[0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]));
        // Of a later version only the record is known to mean the same.
        packet[flags - 1] = 1;
        let question = Question::parse(&packet).unwrap();
        let answer = question.with_addresses(&many(1), Carrier::Datagram);
        assert_eq!(answer[3..12], [0x80, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert!(answer.ends_with(&[0, 0, 41, 0x10, 0, 1, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn an_answer_holds_what_the_asker_has_room_for() {
        let addresses = many(200);
        // The bytes of an answer, its records, and whether it says that it lacks some.
        let answered = |packet: &[u8], by| {
            let answer = Question::parse(packet)
                .unwrap()
                .with_addresses(&addresses, by);
            let records = u16::from_be_bytes([answer[6], answer[7]]);
            (answer.len(), records, answer[2] & 2 != 0)
        };
        let plain = asking("db", A);
        let head = plain.len();
        assert_eq!(
            answered(&plain, Carrier::Datagram),
            (head + 30 * 16, 30, true)
        );
        assert_eq!(
            answered(&plain, Carrier::Stream),
            (head + 200 * 16, 200, false)
        );
        for (room, records) in [(0, 30), (512, 30), (1232, 75), (4096, 200), (0xffff, 200)] {
            let packet = asking_with("db", room);
            let want = (head + records * 16 + 11, records as u16, records < 200);
            assert_eq!(answered(&packet, Carrier::Datagram), want, "{room}");
            assert!(want.0 <= usize::from(room).max(512));
        }
    }

    #[test]
    fn anything_else_is_no_question() {
        let good = asking_with("db", 1232);
        for length in 0..good.len() {
            assert_eq!(Question::parse(&good[..length]), None, "{length}");
        }
        let record = asking("db", A).len();
        let bad = [
            (2, 0x81),
            (5, 2),
            (7, 1),
            (9, 1),
            (11, 2),
            (12, 0xc0),
            (13, b'.'),
            (13, 0xff),
            (record, 1),
        ];
        for (at, byte) in bad {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(Question::parse(&bad), None, "{at}");
        }
        // A resolver is one.
        let mut twice = good.clone();
        twice[11] = 2;
        twice.extend(&good[record..]);
        assert_eq!(Question::parse(&twice), None);
        // Another record than its own is passed over.
        let mut other = asking("db", A);
        other[11] = 2;
        other.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 0, 0, 1, 0]);
        other.extend(&good[record..]);
        let question = Question::parse(&other).unwrap();
        assert_eq!(question.asker.unwrap().room, 1232);
    }
}
