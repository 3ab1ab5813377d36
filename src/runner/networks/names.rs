//! Who is found by which name, as the leases say.
//!
//! A container knows the names on all networks it is on, those of the network that is asked
//! first.

use std::net::IpAddr;

use crate::sandbox::network::Names;
use crate::store::Store;

use super::lease::{self, Lease};
use super::{Guard, names_of_networks};

/// The leases in a store, for the process of one network.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) store: Store,
    pub(super) network: String,
}

impl Files {
    /// The leases that `asker` knows of, each with its network. What can't be read has no names.
    fn known(&self, asker: &str) -> impl Iterator<Item = (String, Lease)> {
        let root = self.store.root().to_owned();
        let others = names_of_networks(&root).unwrap_or_default();
        let others = others.into_iter().filter(|name| *name != self.network);
        let asker = asker.to_owned();
        [self.network.clone()]
            .into_iter()
            .chain(others)
            .flat_map(move |network| {
                let member = lease::find(&root, &network, &asker);
                let leases = match member {
                    Ok(Some(_)) => lease::read_all(&root, &network).unwrap_or_default(),
                    _ => Vec::new(),
                };
                leases
                    .into_iter()
                    .map(move |lease| (network.clone(), lease))
            })
    }
}

impl Names for Files {
    fn addresses(&self, asker: &str, name: &str) -> Option<Vec<IpAddr>> {
        let known = self.known(asker);
        let found = known.filter(|(network, lease)| lease.answers_to(name, network));
        let found: Vec<Vec<IpAddr>> = found.map(|(_, lease)| lease.addresses).collect();
        (!found.is_empty()).then(|| found.concat())
    }

    fn name(&self, asker: &str, address: IpAddr) -> Option<String> {
        let mut known = self.known(asker);
        let found = known.find(|(_, lease)| lease.addresses.contains(&address));
        found.map(|(network, lease)| format!("{}.{network}", lease.name))
    }

    fn gone(&self, _member: &str) {
        // What can't be removed now is by whoever takes a lease next.
        let _ = Guard::take(self.store.root())
            .and_then(|guard| lease::reap(&self.store, &guard, &self.network));
    }
}
