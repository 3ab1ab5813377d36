//! The networks of one run of a container: its namespace and what leads out of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use crate::sandbox::network::{Lease, PrivateNetwork, Published, Reach, bare_namespace};
use crate::sandbox::{self, Network as Planned};

use super::super::networks::{Member, Place, Plug};
use super::Job;
use super::run::failed;

/// All of a container's networks. They end with this.
#[derive(Debug)]
pub(super) struct Network {
    namespace: Namespace,
    members: Vec<Member>,
}

#[derive(Debug)]
enum Namespace {
    /// Made by a stack that the container has to itself.
    Private { lease: Lease, _from: PrivateNetwork },
    /// With nothing but what networks of users lead in.
    Bare(OwnedFd),
}

impl Network {
    /// Makes the networks of `job`, if its program has any of its own, and lets `ports` lead in.
    /// `shared` is another container's, used in place of one.
    pub(super) fn new(
        job: &Job,
        ports: &[OwnedFd],
        shared: Option<&OwnedFd>,
    ) -> Result<Option<Self>, sandbox::Error> {
        if !matches!(job.plan.network, Planned::Join(_)) {
            return Ok(None);
        }
        let namespace = match shared {
            Some(shared) => {
                let shared = shared.try_clone();
                Namespace::Bare(shared.map_err(failed("share the network"))?)
            }
            None => Namespace::new(job.reach)?,
        };
        let mut made = Self {
            namespace,
            members: Vec::new(),
        };
        for plug in &job.plugs {
            made.connect(job, plug)?;
        }
        let ports = job.ports.iter().map(|bound| bound.inner).zip(ports);
        made.publish(ports)?;
        Ok(Some(made))
    }

    /// Puts the container on a network.
    pub(super) fn connect(&mut self, job: &Job, plug: &Plug) -> Result<(), sandbox::Error> {
        let place = place(job, &plug.network);
        let member = Member::new(&place, self.namespace(), plug)?;
        self.members.push(member);
        Ok(())
    }

    /// Takes the container off a network. What that was for the container another one is from
    /// now on.
    pub(super) fn disconnect(&mut self, network: &str) -> Result<(), sandbox::Error> {
        let leaving = |member: &mut Member| member.plug().network == network;
        let Some(member) = self.members.extract_if(.., leaving).next() else {
            return Ok(());
        };
        let ports = member.leave().map_err(failed("leave the network"))?;
        let (namespace, private) = (&self.namespace, self.is_private());
        for at in 0..self.members.len() {
            let (before, rest) = self.members.split_at_mut(at);
            let Some((member, behind)) = rest.split_first_mut() else {
                break;
            };
            let others: Vec<&Plug> = before.iter().chain(&*behind).map(Member::plug).collect();
            member.take_over(namespace.as_fd(), &others, private)?;
        }
        self.publish(ports.iter().map(|(to, socket)| (*to, socket)))
    }

    /// How the container is on its networks now.
    pub(super) fn plugs(&self) -> Vec<Plug> {
        let plugs = self.members.iter().map(Member::plug);
        plugs.cloned().collect()
    }

    /// Whether it has a network of its own besides those of users.
    fn is_private(&self) -> bool {
        matches!(self.namespace, Namespace::Private { .. })
    }

    fn publish<'p>(
        &mut self,
        ports: impl Iterator<Item = (Published, &'p OwnedFd)>,
    ) -> Result<(), sandbox::Error> {
        let way = self.members.iter_mut().find(|member| member.leads_out());
        match (&self.namespace, way) {
            (Namespace::Private { lease, .. }, _) => {
                for (to, socket) in ports {
                    lease.publish(to, socket.as_fd())?;
                }
            }
            (Namespace::Bare(_), Some(member)) => {
                for (to, socket) in ports {
                    let published = member.publish(to, socket);
                    published.map_err(failed("publish a port"))?;
                }
            }
            // Nothing outside reaches an internal network.
            (Namespace::Bare(_), None) => (),
        }
        Ok(())
    }

    /// What the program is to join.
    pub(super) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Settles what a network more is for the container.
    pub(super) fn settle(&self, plug: &mut Plug) {
        let others: Vec<&Plug> = self.members.iter().map(Member::plug).collect();
        plug.settle(&others, self.is_private());
    }

    /// What says that a network's process has ended, by the network's place here.
    pub(super) fn fds(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        let members = self.members.iter().enumerate();
        members.filter_map(|(place, member)| Some((place, member.fd()?)))
    }

    /// A network's process has ended.
    pub(super) fn lost(&mut self, place: usize) {
        if let Some(member) = self.members.get_mut(place) {
            member.lost();
        }
    }

    /// When [`Network::come_back`] is to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.members.iter().filter_map(Member::deadline).min()
    }

    /// Comes back to networks that have lost the container.
    pub(super) fn come_back(&mut self, job: &Job) {
        for member in &mut self.members {
            let place = place(job, &member.plug().network);
            member.come_back(&place);
        }
    }
}

impl Namespace {
    fn new(reach: Option<Reach>) -> Result<Self, sandbox::Error> {
        let Some(reach) = reach else {
            return Ok(Self::Bare(bare_namespace()?));
        };
        let from = PrivateNetwork::default();
        let lease = from.lease(reach)?;
        Ok(Self::Private { lease, _from: from })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Private { lease, .. } => lease.namespace(),
            Self::Bare(namespace) => namespace.as_fd(),
        }
    }
}

fn place(job: &Job, network: &str) -> Place {
    Place {
        root: job.root.clone(),
        user_xattr: job.user_xattr,
        owners: job.owners,
        network: network.to_owned(),
    }
}
