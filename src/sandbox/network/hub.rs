//! What joins the members of a network that a user defined: packets from one to the other, and
//! the names they find each other by.
//!
//! Packets between members are passed on as they are, so whatever runs over IP works between
//! them. A member speaks from its own addresses only. There is no broadcast and no multicast.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::addresses::{DNS, DNS6};
use super::dns::{Asked, Carrier, Question};
use super::packet::{self, Unreachable};
use super::reach::Reach;
use super::subnet::Subnet;

/// A network that a user defined, as its process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fabric {
    /// Where its members have their addresses.
    pub subnets: Vec<Subnet>,
    /// The ways out of the subnets.
    pub gateways: Vec<IpAddr>,
    /// Whether nothing outside is reachable.
    pub internal: bool,
}

/// Who is found by which name; it belongs to another room.
pub trait Names: std::fmt::Debug {
    /// The addresses of `name` as the member `asker` knows it; `None` if it is nobody's.
    fn addresses(&self, asker: &str, name: &str) -> Option<Vec<IpAddr>>;
    /// The name of `address` as the member `asker` knows it.
    fn name(&self, asker: &str, address: IpAddr) -> Option<String>;
    /// Hears that a member has gone.
    fn gone(&self, member: &str);
}

/// What a member says of itself when it joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joining {
    /// Its name for [`Names`].
    pub member: String,
    /// The addresses that are its own.
    pub addresses: Vec<IpAddr>,
    /// What it reaches besides the world.
    pub reach: Reach,
    /// The name servers it asks for names that are nobody's here; the machine's if there are none.
    pub servers: Vec<IpAddr>,
}

/// Where a member's packet goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way<'h> {
    /// To another member.
    Member(&'h OwnedFd),
    /// To the stack.
    Stack,
    /// Nowhere, of which the member is told.
    Unreachable(Unreachable),
    /// Nowhere.
    Dropped,
}

/// All that the members have in common.
#[derive(Debug)]
pub(super) struct Hub {
    fabric: Fabric,
    names: Box<dyn Names>,
    links: HashMap<IpAddr, Rc<OwnedFd>>,
}

impl Hub {
    pub(super) fn new(fabric: Fabric, names: Box<dyn Names>) -> Self {
        Self {
            fabric,
            names,
            links: HashMap::new(),
        }
    }

    /// Takes in a member.
    pub(super) fn add(&mut self, joining: &Joining, link: &Rc<OwnedFd>) {
        for address in &joining.addresses {
            self.links.insert(*address, Rc::clone(link));
        }
    }

    /// Forgets a member, unless another one has its addresses by now.
    pub(super) fn remove(&mut self, joining: &Joining, link: &Rc<OwnedFd>) {
        for address in &joining.addresses {
            if self
                .links
                .get(address)
                .is_some_and(|known| Rc::ptr_eq(known, link))
            {
                self.links.remove(address);
            }
        }
        self.names.gone(&joining.member);
    }

    /// Whether `address` is one of the network's gateways.
    pub(super) fn is_gateway(&self, address: IpAddr) -> bool {
        self.fabric.gateways.contains(&address)
    }

    /// Whether `address` lies in the network.
    pub(super) fn is_inside(&self, address: IpAddr) -> bool {
        self.fabric
            .subnets
            .iter()
            .any(|subnet| subnet.contains(address))
    }

    /// Decides for a packet of `member`'s.
    pub(super) fn way(&self, member: &Joining, bytes: &[u8]) -> Way<'_> {
        let Some((from, to)) = packet::between(bytes) else {
            return Way::Dropped;
        };
        if !member.addresses.contains(&from) {
            return Way::Dropped;
        }
        if let Some(link) = self.links.get(&to) {
            return Way::Member(link);
        }
        if to == IpAddr::V4(DNS) || to == IpAddr::V6(DNS6) || self.is_gateway(to) {
            return Way::Stack;
        }
        match (self.is_inside(to), self.fabric.internal) {
            (true, _) => Way::Unreachable(Unreachable::Host),
            (false, true) => Way::Unreachable(Unreachable::Network),
            (false, false) => Way::Stack,
        }
    }

    /// Answers a question of `member`'s that came `by` something. `None` leaves it to the name
    /// servers outside.
    pub(super) fn answer(&self, member: &Joining, question: &[u8], by: Carrier) -> Option<Vec<u8>> {
        let question = Question::parse(question)?;
        let answer = match question.asked() {
            Asked::Addresses(name) => self
                .names
                .addresses(&member.member, name)
                .map(|addresses| question.with_addresses(&addresses, by)),
            Asked::Name(address) => match self.names.name(&member.member, address) {
                Some(name) => Some(question.with_name(&name)),
                None => self.is_inside(address).then(|| question.without_name()),
            },
        };
        // What can't be reached need not be known.
        answer.or_else(|| self.fabric.internal.then(|| question.without_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nobody;

    impl Names for Nobody {
        fn addresses(&self, _: &str, name: &str) -> Option<Vec<IpAddr>> {
            (name == "db").then(|| vec!["10.9.0.3".parse().unwrap()])
        }
        fn name(&self, _: &str, _: IpAddr) -> Option<String> {
            None
        }
        fn gone(&self, _: &str) {}
    }

    fn hub(internal: bool) -> Hub {
        let fabric = Fabric {
            subnets: vec!["10.9.0.0/16".parse().unwrap()],
            gateways: vec!["10.9.0.1".parse().unwrap()],
            internal,
        };
        Hub::new(fabric, Box::new(Nobody))
    }

    fn member(address: &str) -> (Joining, Rc<OwnedFd>) {
        let joining = Joining {
            member: "a".to_owned(),
            addresses: vec![address.parse().unwrap()],
            reach: Reach::default(),
            servers: Vec::new(),
        };
        let file = std::fs::File::open("/dev/null").unwrap();
        (joining, Rc::new(file.into()))
    }

    /// An IPv4 packet that holds nothing.
    fn packet(from: &str, to: &str) -> Vec<u8> {
        let octets = |address: &str| address.parse::<std::net::Ipv4Addr>().unwrap().octets();
        let mut packet = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0];
        packet.extend(octets(from));
        packet.extend(octets(to));
        packet
    }

    #[test]
    fn packets_go_to_members_to_the_stack_or_nowhere() {
        let (a, b) = (member("10.9.0.2"), member("10.9.0.3"));
        for (internal, outside) in [(false, "Stack"), (true, "Unreachable(Network)")] {
            let mut hub = hub(internal);
            hub.add(&a.0, &a.1);
            hub.add(&b.0, &b.1);
            let shown = |hub: &Hub, from: &str, to: &str| match hub.way(&a.0, &packet(from, to)) {
                Way::Member(link) if std::ptr::eq(link, &*b.1) => "b".to_owned(),
                way => format!("{way:?}"),
            };
            for (to, way) in [
                ("10.9.0.3", "b"),
                ("10.9.0.1", "Stack"),
                ("10.217.93.3", "Stack"),
                ("8.8.8.8", outside),
                ("10.9.0.4", "Unreachable(Host)"),
            ] {
                assert_eq!(shown(&hub, "10.9.0.2", to), way, "{to}");
            }
            let not_its_own = shown(&hub, "10.9.0.3", "10.9.0.2");
            assert_eq!(not_its_own, "Dropped");
            assert!(matches!(hub.way(&a.0, &[0x45, 0]), Way::Dropped));
            hub.remove(&b.0, &b.1);
            assert_eq!(shown(&hub, "10.9.0.2", "10.9.0.3"), "Unreachable(Host)");
        }
    }

    #[test]
    fn names_of_nobody_are_left_to_others_unless_there_are_none() {
        let ask = |name: &str| {
            let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() as u8];
            question.extend(name.bytes());
            question.extend([0, 0, 1, 0, 1]);
            question
        };
        let a = member("10.9.0.2").0;
        let code = |answer: Option<Vec<u8>>| answer.map(|answer| answer[3] & 0xf);
        assert_eq!(
            code(hub(false).answer(&a, &ask("db"), Carrier::Datagram)),
            Some(0)
        );
        assert_eq!(
            code(hub(false).answer(&a, &ask("other"), Carrier::Datagram)),
            None
        );
        assert_eq!(
            code(hub(true).answer(&a, &ask("other"), Carrier::Datagram)),
            Some(3)
        );
    }
}
