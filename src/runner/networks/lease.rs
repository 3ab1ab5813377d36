//! What a container that is up has on a network: addresses, and the names it is found by.
//!
//! A lease is made while the container's lock is held and goes when the container is over. After
//! a kill it stays behind, and counts for nothing: a container whose lock is free is not up.
//! Whoever changes leases next, or the network's process, removes it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sandbox::network::RangeError;
use crate::store::{self, Store, random_id};

use super::super::container::Container;
use super::super::error::Error;
use super::{Attachment, Guard, Range, UserNetwork, dir, io_error};

/// A container's part of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The container's id.
    pub container: String,
    /// The container's name.
    pub name: String,
    /// What else it is found by, besides its short id.
    pub aliases: Vec<String>,
    /// Id of this lease: 64 hex digits.
    pub id: String,
    /// An address of each of the network's ranges, in their order.
    pub addresses: Vec<IpAddr>,
}

impl Lease {
    /// All that the container is found by.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let short = self.container.get(..12).unwrap_or_default();
        let aliases = self.aliases.iter().map(String::as_str);
        [self.name.as_str(), short].into_iter().chain(aliases)
    }

    /// Whether it is found by `name`, which may end in the name of its network.
    pub(super) fn answers_to(&self, name: &str, network: &str) -> bool {
        let is = |name: &str| self.names().any(|own| own.eq_ignore_ascii_case(name));
        let qualified = name.rsplit_once('.');
        is(name) || qualified.is_some_and(|(name, n)| n.eq_ignore_ascii_case(network) && is(name))
    }
}

fn path(root: &Path, network: &str, container: &str) -> PathBuf {
    dir(root, network).join("leases").join(container)
}

/// All leases on a network, also those that count for nothing.
pub(super) fn read_all(root: &Path, network: &str) -> Result<Vec<Lease>, Error> {
    let path = dir(root, network).join("leases");
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error("list", &path))?,
    };
    let mut leases: Vec<Lease> = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_error("list", &path))?.path();
        if path.extension().is_some() {
            continue;
        }
        let bytes = match fs::read(&path) {
            // It has just gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes.map_err(io_error("read", &path))?,
        };
        let lease = serde_json::from_slice(&bytes);
        leases.push(lease.map_err(|e| io_error("read", &path)(e.into()))?);
    }
    leases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(leases)
}

/// The leases on a network of the containers that are up.
pub(super) fn of_network(store: &Store, network: &str) -> Result<Vec<Lease>, Error> {
    let mut leases = Vec::new();
    for lease in read_all(store.root(), network)? {
        if is_up(store, &lease.container)? {
            leases.push(lease);
        }
    }
    Ok(leases)
}

/// What a container has on a network.
pub(super) fn find(root: &Path, network: &str, container: &str) -> Result<Option<Lease>, Error> {
    let path = path(root, network, container);
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => {
            let lease = serde_json::from_slice(&bytes.map_err(io_error("read", &path))?);
            lease
                .map(Some)
                .map_err(|e| io_error("read", &path)(e.into()))
        }
    }
}

/// Whether a container is up, and there.
fn is_up(store: &Store, container: &str) -> Result<bool, Error> {
    match store.container_runs(container) {
        Err(store::Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(false)
        }
        runs => Ok(runs?),
    }
}

/// Gives a container, whose lock is held, its addresses on a network.
pub(super) fn take(
    store: &Store,
    _guard: &Guard,
    container: &Container,
    network: &UserNetwork,
    wanted: &Attachment,
) -> Result<Lease, Error> {
    reap(store, _guard, &network.name)?;
    let mut others = read_all(store.root(), &network.name)?;
    others.retain(|lease| lease.container != container.id);
    let mut addresses = Vec::new();
    for range in &network.ranges {
        let mut asked = wanted.addresses.iter();
        let asked = asked.find(|address| address.is_ipv6() == range.subnet.is_ipv6());
        addresses.push(match asked {
            Some(address) => claim(network, range, *address, &others)?,
            None => next(range, &others).ok_or_else(|| Error::NoAddress {
                network: network.name.clone(),
            })?,
        });
    }
    let outside = wanted.addresses.iter().find(|a| !addresses.contains(a));
    if let Some(address) = outside {
        return Err(not_inside(network, *address));
    }
    let failed = io_error("make an id for", Path::new(&network.name));
    let lease = Lease {
        container: container.id.clone(),
        name: container.config.name.clone(),
        aliases: wanted.aliases.clone(),
        id: random_id().map_err(failed)?,
        addresses,
    };
    write(store.root(), &network.name, &lease)?;
    Ok(lease)
}

fn not_inside(network: &UserNetwork, address: IpAddr) -> Error {
    Error::NetworkRange {
        name: network.name.clone(),
        source: RangeError::Outside {
            what: "address",
            value: address.to_string(),
        },
    }
}

/// The address that was asked for, if it can be had.
fn claim(
    network: &UserNetwork,
    range: &Range,
    address: IpAddr,
    others: &[Lease],
) -> Result<IpAddr, Error> {
    if !range.subnet.is_usable(address) {
        return Err(not_inside(network, address));
    }
    let taken = |by: &str| Error::AddressTaken {
        address,
        by: by.to_owned(),
    };
    if address == range.gateway {
        return Err(taken("the gateway"));
    }
    match others
        .iter()
        .find(|lease| lease.addresses.contains(&address))
    {
        Some(holder) => Err(taken(&format!("container `{}`", holder.name))),
        None => Ok(address),
    }
}

/// The lowest free address.
fn next(range: &Range, others: &[Lease]) -> Option<IpAddr> {
    let pool = range.pool.unwrap_or(range.subnet);
    let taken: Vec<IpAddr> = others
        .iter()
        .flat_map(|lease| lease.addresses.iter().copied())
        .chain([range.gateway])
        .collect();
    let mut usable = pool
        .addresses()
        .filter(|address| range.subnet.is_usable(*address));
    usable.find(|address| !taken.contains(address))
}

fn write(root: &Path, network: &str, lease: &Lease) -> Result<(), Error> {
    let path = path(root, network, &lease.container);
    let part = path.with_extension("part");
    let bytes = serde_json::to_vec(lease).expect("leases hold nothing JSON cannot");
    fs::write(&part, bytes)
        .and_then(|()| fs::rename(&part, &path))
        .map_err(io_error("write", &path))
}

/// Gives up what a container has on a network.
pub(super) fn release(root: &Path, network: &str, container: &str) -> Result<(), Error> {
    let path = path(root, network, container);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", &path)(error))
        }
        _ => Ok(()),
    }
}

/// Lets a container be found by another name.
pub(super) fn rename(root: &Path, network: &str, container: &str, name: &str) -> Result<(), Error> {
    if let Some(mut lease) = find(root, network, container)? {
        lease.name = name.to_owned();
        write(root, network, &lease)?;
    }
    Ok(())
}

/// Removes the leases of containers that are not up.
pub(super) fn reap(store: &Store, _guard: &Guard, network: &str) -> Result<(), Error> {
    for lease in read_all(store.root(), network)? {
        if !is_up(store, &lease.container)? {
            release(store.root(), network, &lease.container)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(name: &str, address: &str) -> Lease {
        Lease {
            container: "0123456789abcdef".to_owned(),
            name: name.to_owned(),
            aliases: vec!["Db".to_owned()],
            id: String::new(),
            addresses: vec![address.parse().unwrap()],
        }
    }

    fn range(subnet: &str, pool: Option<&str>) -> Range {
        let subnet: crate::sandbox::network::Subnet = subnet.parse().unwrap();
        Range {
            subnet,
            gateway: subnet.usable().next().unwrap(),
            pool: pool.map(|pool| pool.parse().unwrap()),
        }
    }

    #[test]
    fn a_container_is_found_by_name_alias_and_short_id() {
        let lease = lease("web", "10.0.0.2");
        for name in ["web", "WEB", "db", "0123456789ab", "web.net", "db.NET"] {
            assert!(lease.answers_to(name, "net"), "{name}");
        }
        for name in ["we", "0123456789abcdef", "web.other", "x.net", "net", ""] {
            assert!(!lease.answers_to(name, "net"), "{name}");
        }
    }

    #[test]
    fn the_lowest_free_address_is_next() {
        let next = |range: &Range, others: &[Lease]| {
            next(range, others).map(|address| address.to_string())
        };
        let small = range("10.0.0.0/30", None);
        assert_eq!(next(&small, &[]).as_deref(), Some("10.0.0.2"));
        assert_eq!(next(&small, &[lease("a", "10.0.0.2")]), None);
        let pool = range("10.0.0.0/16", Some("10.0.5.0/30"));
        assert_eq!(next(&pool, &[]).as_deref(), Some("10.0.5.0"));
        let others = [lease("a", "10.0.5.0"), lease("b", "10.0.5.2")];
        assert_eq!(next(&pool, &others).as_deref(), Some("10.0.5.1"));
        let six = range("fd00::/64", None);
        assert_eq!(next(&six, &[]).as_deref(), Some("fd00::2"));
    }
}
