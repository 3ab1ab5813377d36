//! How programs run in a working container unless `run` says otherwise: what `from` was told.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::super::request::{Request, Snapshotter};
use crate::sandbox::{Isolation, Mount};

/// What `from` was told about the programs of a container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Habits {
    /// As `--network` of `run` has it; that one's own default when unset.
    pub network: Option<String>,
    /// How what they write is kept; the better way that works when unset.
    snapshotter: Option<Snapshotter>,
    isolation: Isolation,
    add_hosts: Vec<(String, String)>,
    own_hosts: bool,
    dns: Vec<IpAddr>,
    dns_search: Vec<String>,
    dns_options: Vec<String>,
    own_resolv_conf: bool,
    volumes: Vec<Mount>,
    no_proxies: bool,
}

impl Habits {
    /// Takes them from what a request says; `no_proxies` keeps the caller's proxies out.
    pub fn of(request: &Request, network: Option<String>, no_proxies: bool) -> Self {
        Self {
            network,
            snapshotter: request.snapshotter,
            isolation: request.isolation.clone(),
            add_hosts: request.add_hosts.clone(),
            own_hosts: request.own_hosts,
            dns: request.dns.clone(),
            dns_search: request.dns_search.clone(),
            dns_options: request.dns_options.clone(),
            own_resolv_conf: request.own_resolv_conf,
            volumes: request.volumes.clone(),
            no_proxies,
        }
    }

    /// Makes a request say the same.
    pub fn apply(&self, request: &mut Request) {
        request.snapshotter = self.snapshotter.or(request.snapshotter);
        request.isolation.clone_from(&self.isolation);
        request.add_hosts.clone_from(&self.add_hosts);
        request.own_hosts = self.own_hosts;
        request.dns.clone_from(&self.dns);
        request.dns_search.clone_from(&self.dns_search);
        request.dns_options.clone_from(&self.dns_options);
        request.own_resolv_conf = self.own_resolv_conf;
        request.volumes.clone_from(&self.volumes);
        if self.no_proxies {
            request.proxies.clear();
        }
    }
}
