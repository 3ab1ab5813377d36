//! What a container that is up has on a network: addresses, and the names it is found by.
//!
//! A lease is made while the container's lock is held and goes when the container is over. After
//! a kill it stays behind, and counts for nothing: a container whose lock is free is not up.
//! Whoever changes leases next removes it.

use std::fs;
use std::io;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::store::{self, Store};

use super::super::error::Error;
use super::{dir, io_error};

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

/// The leases on a network of the containers that are up.
pub(super) fn of_network(store: &Store, network: &str) -> Result<Vec<Lease>, Error> {
    let path = dir(store.root(), network).join("leases");
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error("list", &path))?,
    };
    let mut leases = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_error("list", &path))?.path();
        let bytes = match fs::read(&path) {
            // It has just gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes.map_err(io_error("read", &path))?,
        };
        let lease: Lease =
            serde_json::from_slice(&bytes).map_err(|e| io_error("read", &path)(e.into()))?;
        if is_up(store, &lease.container)? {
            leases.push(lease);
        }
    }
    leases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(leases)
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
