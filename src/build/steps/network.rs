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
    for (name, words) in [
        ("dns-search", &request.dns_search),
        ("dns-options", &request.dns_options),
    ] {
        if !words.is_empty() {
            inputs.add_list(name, words);
        }
    }
    for (name, own) in [
        ("own-hosts", request.own_hosts),
        ("own-resolv-conf", request.own_resolv_conf),
    ] {
        if own {
            inputs.add(name, "");
        }
    }
}

/// `/etc/resolv.conf` of a step: which name servers it asks, and how. Without a network it asks
/// none, and has the image's own.
pub(super) fn resolv_conf(network: Network, callers: &[u8], request: &Request) -> Option<Vec<u8>> {
    if request.own_resolv_conf || network == Network::None {
        return None;
    }
    let said = !(request.dns_search.is_empty() && request.dns_options.is_empty());
    if network == Network::Host && request.dns.is_empty() && !said {
        return Some(callers.to_vec());
    }
    let callers = String::from_utf8_lossy(callers);
    let mut text = match network == Network::Host && request.dns.is_empty() {
        true => callers.into_owned(),
        false => addresses::resolv_conf(&callers, &request.dns),
    };
    let lists: [(&[&str], &[String]); 2] = [
        (&["search", "domain"], &request.dns_search),
        (&["options"], &request.dns_options),
    ];
    for (words, own) in lists {
        if !own.is_empty() {
            text = replaced(&text, words, own);
        }
    }
    Some(text.into_bytes())
}

/// A resolv.conf(5) whose lines of these words give way to one with the caller's own values.
fn replaced(text: &str, words: &[&str], own: &[String]) -> String {
    let stays = |line: &&str| {
        let word = line.split_whitespace().next().unwrap_or_default();
        !words.contains(&word)
    };
    let mut out: String = text
        .lines()
        .filter(stays)
        .flat_map(|line| [line, "\n"])
        .collect();
    out.push_str(&format!("{} {}\n", words[0], own.join(" ")));
    out
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
