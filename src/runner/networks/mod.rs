//! Networks that users define: containers on one find each other by name, others do not.
//!
//! ```text
//! networks/<name>/
//!   network.json   ranges, gateway, labels; written once
//!   leases/<id>    what a container that is up has there: addresses and names (`lease`)
//! networks/.lock   locked (flock) while networks or leases change
//! ```
//!
//! ```text
//!  container ── eth0 ⇄ tun ┐
//!  container ── eth0 ⇄ tun ┴ process of the network (`process`): packets between members, names,
//!                             and the user-space stack for all that leaves the network
//! ```
//!
//! A container's monitor makes the interface and holds it as well (`member`), so a process that
//! is killed is replaced by the monitors that are left, and connections between members go on.
//! There is no bridge of the kernel's: containers of an ordinary user live in user namespaces
//! that have no rights over each other, so no cable could lead from one to the other.
//!
//! A network is made whole and renamed into place, and goes the same way. It is in use while a
//! container that is up has a lease on it, as with docker.

mod connect;
mod lease;
mod member;
mod names;
mod process;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sandbox::network::{RangeError, Reach, Subnet, addresses, routed};
use crate::store::{Store, is_container_name, nearest_names, random_id};

use super::container::{self, Container, now};
use super::error::Error;
use super::events;

pub use connect::{connect, disconnect};
pub use lease::Lease;
pub(super) use member::{Member, Plug};
pub use process::NETWORK;
pub(super) use process::Place;

/// Names of networks that are always there, and words of `--network` that are no names.
const RESERVED: &[&str] = &["private", "bridge", "default", "host", "none", "container"];

/// A network as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNetwork {
    /// Its name.
    pub name: String,
    /// Its id: 64 hex digits.
    pub id: String,
    /// When it was made, as RFC 3339.
    pub created: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether its containers reach each other and nothing else.
    pub internal: bool,
    /// Its addresses: IPv4, and IPv6 if it has it.
    pub ranges: Vec<Range>,
}

/// Addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The subnet.
    pub subnet: Subnet,
    /// The way out of it.
    pub gateway: IpAddr,
    /// What containers get addresses from, if not from all of the subnet.
    pub pool: Option<Subnet>,
}

/// A network to be made.
#[derive(Debug, Clone, Default)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// `--subnet`: one of each family at most; a free one is found for IPv4.
    pub subnets: Vec<Subnet>,
    /// `--gateway`: the first address of the subnet otherwise.
    pub gateways: Vec<IpAddr>,
    /// `--ip-range`.
    pub pools: Vec<Subnet>,
    /// Whether it has IPv6 addresses as well.
    pub ipv6: bool,
    /// Whether nothing outside is reachable.
    pub internal: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// What a container wants of one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// `--network-alias`.
    pub aliases: Vec<String>,
    /// `--ip` and `--ip6`.
    pub addresses: Vec<IpAddr>,
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        doing,
        path,
        source,
    }
}

fn dir(root: &Path, name: &str) -> PathBuf {
    root.join("networks").join(name)
}

/// The right to change networks and leases.
#[derive(Debug)]
struct Guard(#[expect(dead_code, reason = "freed when dropped")] File);

impl Guard {
    fn take(root: &Path) -> Result<Self, Error> {
        let path = root.join("networks/.lock");
        let mut options = File::options();
        let lock = options.create(true).append(true).open(&path);
        let lock = lock.map_err(io_error("open", &path))?;
        lock.lock().map_err(io_error("lock", &path))?;
        Ok(Self(lock))
    }
}

/// Makes a network.
pub fn create_network(store: &Store, request: NetworkRequest) -> Result<UserNetwork, Error> {
    let name = &request.name;
    if !is_container_name(name) || RESERVED.contains(&name.as_str()) {
        return Err(Error::BadNetworkName { name: name.clone() });
    }
    let _guard = Guard::take(store.root())?;
    let others = list_networks(store)?;
    if others.iter().any(|other| other.name == *name) {
        return Err(Error::NetworkTaken { name: name.clone() });
    }
    let id = random_id().map_err(io_error("make an id for", Path::new(name)))?;
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let refused = |source| Error::NetworkRange {
        name: name.clone(),
        source,
    };
    let ranges = ranges(&request, &id, &others, &routed(&routes)).map_err(|why| match why {
        Unfit::Range(source) => refused(source),
        Unfit::Overlap { subnet, other } => Error::NetworkOverlap { subnet, other },
    })?;
    let network = UserNetwork {
        name: request.name,
        id,
        created: now(),
        labels: request.labels,
        internal: request.internal,
        ranges,
    };
    let scratch = store.scratch()?;
    let made = scratch.path().join("network");
    let write = || -> io::Result<()> {
        fs::create_dir_all(made.join("leases"))?;
        fs::write(made.join("network.json"), serde_json::to_vec(&network)?)?;
        fs::rename(&made, dir(store.root(), &network.name))
    };
    write().map_err(io_error("make", &dir(store.root(), &network.name)))?;
    events::emit_network(store.root(), "create", &network, None);
    Ok(network)
}

/// Why a network can't have its ranges.
#[derive(Debug, PartialEq, Eq)]
enum Unfit {
    Range(RangeError),
    Overlap { subnet: Subnet, other: String },
}

impl From<RangeError> for Unfit {
    fn from(error: RangeError) -> Self {
        Self::Range(error)
    }
}

/// Decides which addresses a network has. Ranges it gets by itself avoid `routed`, which the
/// machine itself has a use for; those that are asked for need not.
fn ranges(
    request: &NetworkRequest,
    id: &str,
    others: &[UserNetwork],
    routed: &[Subnet],
) -> Result<Vec<Range>, Unfit> {
    let mut taken: Vec<(Subnet, &str)> = vec![
        (
            Subnet::around(addresses::GATEWAY.into(), addresses::PREFIX),
            "private",
        ),
        (
            Subnet::around(addresses::GATEWAY6.into(), addresses::PREFIX6),
            "private",
        ),
    ];
    for other in others {
        taken.extend(other.ranges.iter().map(|r| (r.subnet, other.name.as_str())));
    }
    let (first, second) = only(&request.subnets, "subnet", Subnet::is_ipv6)?;
    let first = match first {
        Some(subnet) => subnet,
        None => {
            let all: Vec<Subnet> = taken.iter().map(|(subnet, _)| *subnet).collect();
            Subnet::free(&[&all, routed].concat())?
        }
    };
    let second = second.or_else(|| request.ipv6.then(|| Subnet::local(id)));
    let subnets: Vec<Subnet> = [Some(first), second].into_iter().flatten().collect();
    let gateways = only(&request.gateways, "gateway", |gateway| gateway.is_ipv6())?;
    let pools = only(&request.pools, "range", Subnet::is_ipv6)?;
    let outside = |what, value: String| RangeError::Outside { what, value };
    for gateway in &request.gateways {
        if !subnets.iter().any(|subnet| subnet.is_usable(*gateway)) {
            return Err(outside("gateway", gateway.to_string()).into());
        }
    }
    for pool in &request.pools {
        if !subnets.iter().any(|subnet| subnet.covers(*pool)) {
            return Err(outside("range", pool.to_string()).into());
        }
    }
    let mut ranges = Vec::new();
    for subnet in subnets {
        subnet.is_roomy()?;
        if let Some((_, other)) = taken.iter().find(|(taken, _)| taken.overlaps(subnet)) {
            let other = (*other).to_owned();
            return Err(Unfit::Overlap { subnet, other });
        }
        let (gateway, pool) = match subnet.is_ipv6() {
            false => (gateways.0, pools.0),
            true => (gateways.1, pools.1),
        };
        let gateway = gateway.or_else(|| subnet.usable().next());
        ranges.push(Range {
            subnet,
            gateway: gateway.ok_or(RangeError::TooSmall { subnet })?,
            pool,
        });
    }
    Ok(ranges)
}

/// The one of each family, IPv4 first.
fn only<T: Copy + ToString>(
    given: &[T],
    what: &'static str,
    is_ipv6: impl Fn(T) -> bool,
) -> Result<(Option<T>, Option<T>), RangeError> {
    let mut found = (None, None);
    for value in given {
        let (place, family) = match is_ipv6(*value) {
            false => (&mut found.0, "IPv4"),
            true => (&mut found.1, "IPv6"),
        };
        if place.replace(*value).is_some() {
            let second = value.to_string();
            return Err(RangeError::TooMany {
                what,
                second,
                family,
            });
        }
    }
    Ok(found)
}

fn load(root: &Path, name: &str) -> Result<Option<UserNetwork>, Error> {
    if !is_container_name(name) {
        return Ok(None);
    }
    let path = dir(root, name).join("network.json");
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => {
            let bytes = read.map_err(io_error("read", &path))?;
            let network = serde_json::from_slice(&bytes);
            network
                .map(Some)
                .map_err(|e| io_error("read", &path)(e.into()))
        }
    }
}

/// Lists all networks that users defined by name.
pub fn list_networks(store: &Store) -> Result<Vec<UserNetwork>, Error> {
    let names = names_of_networks(store.root())?;
    let networks = names.iter().map(|name| load(store.root(), name));
    networks.filter_map(Result::transpose).collect()
}

fn names_of_networks(root: &Path) -> Result<Vec<String>, Error> {
    let path = root.join("networks");
    let mut names = Vec::new();
    for entry in fs::read_dir(&path).map_err(io_error("list", &path))? {
        let entry = entry.map_err(io_error("list", &path))?;
        names.extend(entry.file_name().into_string());
    }
    names.retain(|name| is_container_name(name));
    names.sort();
    Ok(names)
}

/// Finds a network by its name, its id or the beginning of its id.
pub fn find_network(store: &Store, text: &str) -> Result<UserNetwork, Error> {
    if let Some(network) = load(store.root(), text)? {
        return Ok(network);
    }
    let mut all = list_networks(store)?;
    let by_id = |n: &UserNetwork| !text.is_empty() && n.id.starts_with(text);
    let mut places = (0..all.len()).filter(|at| by_id(&all[*at]));
    if let (Some(at), None) = (places.next(), places.next()) {
        return Ok(all.swap_remove(at));
    }
    Err(Error::NoNetwork {
        text: text.to_owned(),
        nearest: nearest_names(text, all.iter().map(|network| network.name.as_str())),
    })
}

/// Removes a network; one that a container which is up uses is an error.
pub fn remove_network(store: &Store, name: &str) -> Result<(), Error> {
    let _guard = Guard::take(store.root())?;
    let leases = lease::of_network(store, name)?;
    if !leases.is_empty() {
        return Err(Error::NetworkInUse {
            name: name.to_owned(),
            users: leases.into_iter().map(|lease| lease.name).collect(),
        });
    }
    let known = find_network(store, name).ok();
    let path = dir(store.root(), name);
    let scratch = store.scratch()?;
    match fs::rename(&path, scratch.path().join("removed")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", &path)(error));
        }
        _ => {}
    }
    if let Some(network) = known {
        events::emit_network(store.root(), "destroy", &network, None);
    }
    Ok(())
}

/// What the containers that are up have on a network.
pub fn leases_of_network(store: &Store, name: &str) -> Result<Vec<Lease>, Error> {
    lease::of_network(store, name)
}

/// Gives a container, whose lock is held, its addresses on its networks.
pub(super) fn take_leases(
    store: &Store,
    container: &Container,
) -> Result<Vec<(UserNetwork, Lease)>, Error> {
    let wanted = &container.config.request.networks;
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let guard = Guard::take(store.root())?;
    let take = |wanted: &Attachment| {
        let network = find_network(store, &wanted.network)?;
        let lease = lease::take(store, &guard, container, &network, wanted)?;
        Ok((network, lease))
    };
    let taken: Result<Vec<_>, Error> = wanted.iter().map(take).collect();
    if taken.is_err() {
        release_leases(store.root(), &container.id);
    }
    taken
}

/// Gives up all that a container has.
pub(super) fn release_leases(root: &Path, container: &str) {
    // What can't be removed counts for nothing once the container is over.
    for network in names_of_networks(root).unwrap_or_default() {
        let _ = lease::release(root, &network, container);
    }
}

/// Lets a container be found by another name.
pub(super) fn rename(root: &Path, container: &str, name: &str) -> Result<(), Error> {
    for network in names_of_networks(root)? {
        lease::rename(root, &network, container, name)?;
    }
    Ok(())
}

/// What a container has on a network while it is up.
pub fn lease_of(store: &Store, network: &str, container: &str) -> Result<Option<Lease>, Error> {
    lease::find(store.root(), network, container)
}

/// Decides how a container is on its networks; `private` says that it has a private one as well.
pub(super) fn plugs(
    taken: &[(UserNetwork, Lease)],
    private: bool,
    reach: Reach,
    servers: &[IpAddr],
) -> Vec<Plug> {
    let mut plugs: Vec<Plug> = Vec::new();
    for (network, lease) in taken {
        let mut plug = Plug::new(network, lease, reach, servers);
        plug.settle(&plugs.iter().collect::<Vec<_>>(), private);
        plugs.push(plug);
    }
    plugs
}

/// Returns the names of the containers that are connected to a network, running or not.
pub fn users_of_network(store: &Store, name: &str) -> Result<Vec<String>, Error> {
    let mut all = container::list(store)?;
    let uses = |attachment: &Attachment| attachment.network == name;
    all.retain(|(container, _)| container.config.request.networks.iter().any(uses));
    let names = all.into_iter().map(|(container, _)| container.config.name);
    Ok(names.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00000000000000000000000000000000";

    fn asked(subnets: &[&str], gateways: &[&str], pools: &[&str]) -> NetworkRequest {
        NetworkRequest {
            subnets: subnets.iter().map(|text| text.parse().unwrap()).collect(),
            gateways: gateways.iter().map(|text| text.parse().unwrap()).collect(),
            pools: pools.iter().map(|text| text.parse().unwrap()).collect(),
            ..NetworkRequest::default()
        }
    }

    fn decided(request: &NetworkRequest, others: &[UserNetwork]) -> Result<String, Unfit> {
        let ranges = ranges(request, ID, others, &[])?;
        let shown = ranges.iter().map(|range| {
            let pool = range.pool.map(|pool| format!(" {pool}"));
            format!(
                "{} {}{}",
                range.subnet,
                range.gateway,
                pool.unwrap_or_default()
            )
        });
        Ok(shown.collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn ranges_are_what_was_asked_for_or_the_next_free_ones() {
        let none = asked(&[], &[], &[]);
        assert_eq!(decided(&none, &[]).unwrap(), "172.18.0.0/16 172.18.0.1");
        let both = NetworkRequest {
            ipv6: true,
            ..none.clone()
        };
        let shown = "172.18.0.0/16 172.18.0.1; fd00::/64 fd00::1";
        assert_eq!(decided(&both, &[]).unwrap(), shown);
        let all = asked(
            &["10.9.0.0/16", "fd09::/64"],
            &["fd09::9", "10.9.9.9"],
            &["10.9.8.0/24"],
        );
        let shown = "10.9.0.0/16 10.9.9.9 10.9.8.0/24; fd09::/64 fd09::9";
        assert_eq!(decided(&all, &[]).unwrap(), shown);
        let other = UserNetwork {
            name: "other".to_owned(),
            id: ID.to_owned(),
            created: String::new(),
            labels: BTreeMap::new(),
            internal: false,
            ranges: ranges(&none, ID, &[], &[]).unwrap(),
        };
        let others = [other];
        assert_eq!(decided(&none, &others).unwrap(), "172.19.0.0/16 172.19.0.1");
        let overlapping = decided(&asked(&["172.18.7.0/24"], &[], &[]), &others);
        assert_eq!(
            overlapping,
            Err(Unfit::Overlap {
                subnet: "172.18.7.0/24".parse().unwrap(),
                other: "other".to_owned()
            })
        );
    }

    #[test]
    fn ranges_that_contradict_are_refused() {
        let refused = |subnets: &[&str], gateways: &[&str], pools: &[&str]| match decided(
            &asked(subnets, gateways, pools),
            &[],
        ) {
            Err(Unfit::Range(error)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        for (given, why) in [
            (
                refused(&["10.0.0.0/31"], &[], &[]),
                "10.0.0.0/31 has too few addresses",
            ),
            (
                refused(&["10.0.0.0/24"], &["10.0.1.1"], &[]),
                "gateway 10.0.1.1 lies in no subnet of the network",
            ),
            (
                refused(&["10.0.0.0/24"], &[], &["10.0.0.0/16"]),
                "range 10.0.0.0/16 lies in no subnet of the network",
            ),
            (
                refused(&["10.0.0.0/24", "10.1.0.0/24"], &[], &[]),
                "subnet 10.1.0.0/24 is one too many: a network has one IPv4",
            ),
        ] {
            assert_eq!(given, why);
        }
        let private = decided(&asked(&["10.0.0.0/8"], &[], &[]), &[]);
        assert!(matches!(private, Err(Unfit::Overlap { other, .. }) if other == "private"));
    }
}
