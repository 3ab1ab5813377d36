//! The process of a network that a user defined: one thread that waits for all descriptors of
//! all members at once.
//!
//! Each connection to its socket is a member: over it comes [`Joining`] with the other end of the
//! member's interface, back goes [`Answer::Ready`], and its end is the member's. The process ends
//! with its last member.
//!
//! It reads packets that nobody has checked and needs no rights, so it keeps none.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::DumpableBehavior;
use rustix::thread::CapabilitySet;

use super::super::spawner::go_on_alone;
use super::hub::{Fabric, Hub, Joining, Names};
use super::process::{Answer, CONTROL, Turns, receive, restrict, send};
use super::stack::{Network, Token, What};

/// How long the first member may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves the members that connect to `listener`, which does not wait, until the last one has
/// gone. The process must be a fresh one and belongs to this.
pub fn serve_members(listener: OwnedFd, fabric: Fabric, names: Box<dyn Names>) -> io::Result<()> {
    go_on_alone()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    // Only the name that ps shows; it may stay what it is.
    let _ = rustix::thread::set_name(c"cask-network");
    restrict(CapabilitySet::empty())?;
    let turns = Turns::new(&listener, Some(Hub::new(fabric, names)))?;
    let mut members = Members {
        listener,
        turns,
        waiting: BTreeMap::new(),
        joined: BTreeMap::new(),
    };
    members.run()
}

#[derive(Debug)]
struct Members {
    listener: OwnedFd,
    turns: Turns,
    /// Connections on which nothing was said yet, by the numbers that their namespaces will have.
    waiting: BTreeMap<u16, OwnedFd>,
    /// Those who joined, and their connections, which end when nothing of them is left here.
    joined: BTreeMap<u16, (Joining, OwnedFd)>,
}

impl Members {
    fn run(&mut self) -> io::Result<()> {
        let until = self.turns.after(PATIENCE);
        let mut came = false;
        loop {
            let others = self.turns.turn((!came).then_some(until))?;
            for event in others {
                match event.u64() {
                    CONTROL => self.accept()?,
                    _ => self.greet(Token::from(event).network),
                }
            }
            self.part();
            came |= !self.joined.is_empty();
            let nobody = self.joined.is_empty() && self.waiting.is_empty();
            if nobody && (came || self.turns.is_past(until)) {
                return Ok(());
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        loop {
            let connection = match rustix::net::accept_with(&self.listener, flags) {
                Ok(connection) => connection,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let taken = |n: &u16| self.waiting.contains_key(n) || self.joined.contains_key(n);
            // Who can't be served sees the connection end.
            let Some(number) = (0..u16::MAX).find(|number| !taken(number)) else {
                continue;
            };
            let token = Token {
                network: number,
                what: What::Lease,
            };
            let shared = &self.turns.shared;
            if shared.watch(&connection, token, EventFlags::IN).is_ok() {
                self.waiting.insert(number, connection);
            }
        }
    }

    /// Hears what a connection is for, or that it is over.
    fn greet(&mut self, number: u16) {
        let Some(connection) = self.waiting.remove(&number) else {
            return;
        };
        let shared = &self.turns.shared;
        // It is watched anew as a member's.
        let _ = epoll::delete(&shared.epoll, &connection);
        let Ok(Some((joining, Some(tun)))) = receive::<Joining>(&connection) else {
            return;
        };
        if self.join(number, connection, joining, tun).is_err() {
            self.turns.networks.remove(&number);
        }
    }

    fn join(
        &mut self,
        number: u16,
        connection: OwnedFd,
        joining: Joining,
        tun: OwnedFd,
    ) -> io::Result<()> {
        let turns = &mut self.turns;
        let hold = connection.try_clone()?;
        let mut network = Network::new(number, tun, &turns.shared)?;
        network.lease(connection, joining.reach, &turns.shared)?;
        network.belongs_to(joining.clone());
        if let Some(hub) = &mut turns.shared.hub {
            hub.add(&joining, network.link());
        }
        turns.networks.insert(number, network);
        // If it is gone, epoll will say so.
        let _ = send(&hold, &Answer::Ready, None);
        self.joined.insert(number, (joining, hold));
        Ok(())
    }

    /// Forgets those who have gone.
    fn part(&mut self) {
        let turns = &mut self.turns;
        let gone = turns
            .networks
            .extract_if(.., |_, network| network.is_free());
        for (number, network) in gone.collect::<Vec<_>>() {
            // Its owner may still hold the interface, so closing it would not end the watch. It
            // is not watched any more if it was the interface that ended.
            let _ = epoll::delete(&turns.shared.epoll, network.link());
            let Some((joining, hold)) = self.joined.remove(&number) else {
                continue;
            };
            if let Some(hub) = &mut turns.shared.hub {
                hub.remove(&joining, network.link());
            }
            drop(network);
            // Only now does the member hear that it has left.
            drop(hold);
        }
    }
}
