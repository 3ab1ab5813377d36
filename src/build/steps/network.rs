//! The network of a RUN: its part of the key, its name servers and hosts, and the lease of a
//! private one.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use crate::event::Event;
use crate::sandbox;
use crate::sandbox::network::{Lease, Reach, addresses};

use super::super::key::Inputs;
use super::super::request::{Network, Request};
use super::super::stage::World;

/// Adds to the key what a step can observe besides its network mode and `--add-host`.
pub(super) fn inputs(request: &Request, inputs: &mut Inputs) {
    if !request.dns.is_empty() {
        inputs.add_list("dns", request.dns.iter().map(IpAddr::to_string));
    }
}

/// Which name servers a step asks; without a network it asks none.
pub(super) fn resolv_conf(network: Network, callers: Vec<u8>, dns: &[IpAddr]) -> Option<Vec<u8>> {
    match network {
        Network::None => None,
        Network::Host if dns.is_empty() => Some(callers),
        Network::Host | Network::Private => {
            let callers = String::from_utf8_lossy(&callers);
            Some(addresses::resolv_conf(&callers, dns).into_bytes())
        }
    }
}

/// `/etc/hosts` of a step.
pub(super) fn hosts(own: &str, added: &[(String, String)], network: Network) -> Vec<u8> {
    let mut text = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{own}\n"
    );
    for (host, address) in added {
        let address = addresses::host_address(address, network != Network::Host);
        text.push_str(&format!("{address}\t{host}\n"));
    }
    text.into_bytes()
}

/// Leases the network that a step is to have to itself, if it is to have one, and puts it behind
/// the other descriptors of the plan.
pub(super) fn lease(
    network: Network,
    world: &World<'_>,
    fds: &mut Vec<OwnedFd>,
) -> Result<Option<Lease>, sandbox::Error> {
    match network {
        Network::Private => (),
        Network::None => return Ok(None),
        Network::Host => {
            let first = !world.network_told.swap(true, Ordering::Relaxed);
            if let Some(text) = world.request.network_note.as_ref().filter(|_| first) {
                world.sink.emit(Event::Warning { text });
            }
            return Ok(None);
        }
    }
    let hosts = &world.request.add_hosts;
    let host_loopback = hosts
        .iter()
        .any(|(_, address)| address == addresses::HOST_GATEWAY);
    let lease = world.private.lease(Reach { host_loopback })?;
    let namespace = lease.namespace().try_clone_to_owned();
    fds.push(namespace.map_err(|source| sandbox::Error::Parent {
        doing: "hand the network over",
        source,
    })?);
    Ok(Some(lease))
}
