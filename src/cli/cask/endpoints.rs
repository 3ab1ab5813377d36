//! What `ps` and `inspect` show of a container's networks.

use serde_json::{Map, Value, json};

use crate::cli::report::Report;
use crate::image::Digest;
use crate::runner::{self, Attachment, Container, Lease, Network, Request, State, UserNetwork};
use crate::sandbox::network::addresses;
use crate::store::Store;

/// The network that is always there, which a container is on besides those of users, if it is.
fn mode(network: Network) -> Option<&'static str> {
    match network {
        Network::Private => Some("private"),
        Network::Host => Some("host"),
        Network::None => Some("none"),
        Network::Named | Network::Container => None,
    }
}

/// The names of a container's networks.
pub(super) fn names(request: &Request) -> Vec<&str> {
    let named = request.networks.iter().map(|one| one.network.as_str());
    mode(request.network).into_iter().chain(named).collect()
}

/// What `NetworkMode` says: the first network.
pub(super) fn first(request: &Request) -> String {
    match &request.shares {
        Some(other) => format!("container:{other}"),
        None => names(request).first().copied().unwrap_or("none").to_owned(),
    }
}

/// `NetworkSettings`, with what leads in.
pub(super) fn settings(
    store: &Store,
    container: &Container,
    state: &State,
    ports: Value,
) -> Result<Map<String, Value>, Report> {
    let request = &container.config.request;
    let up = state.status.is_up();
    let mut networks = Map::new();
    let default = built_in(request.network, up);
    if let Some(name) = mode(request.network) {
        networks.insert(name.to_owned(), default.clone());
    }
    for attachment in &request.networks {
        // One that was removed since has nothing more to show.
        let network = runner::find_network(store, &attachment.network).ok();
        let lease = match up {
            true => runner::lease_of(store, &attachment.network, &container.id)?,
            false => None,
        };
        let shown = endpoint(container, attachment, network.as_ref(), lease.as_ref());
        networks.insert(attachment.network.clone(), shown);
    }
    let mut settings = Map::new();
    for key in ["Bridge", "SandboxID", "SandboxKey"] {
        settings.insert(key.to_owned(), json!(""));
    }
    settings.insert("Ports".to_owned(), ports);
    for (key, value) in [
        ("HairpinMode", json!(false)),
        ("LinkLocalIPv6Address", json!("")),
        ("LinkLocalIPv6PrefixLen", json!(0)),
        ("SecondaryIPAddresses", Value::Null),
        ("SecondaryIPv6Addresses", Value::Null),
    ] {
        settings.insert(key.to_owned(), value);
    }
    // As with docker, the network that is there by itself is shown once more.
    for key in [
        "EndpointID",
        "Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "MacAddress",
    ] {
        let value = match mode(request.network) {
            Some(_) => default[key].clone(),
            None => empty()[key].clone(),
        };
        settings.insert(key.to_owned(), value);
    }
    settings.insert("Networks".to_owned(), Value::Object(networks));
    Ok(settings)
}

/// A network on which a container has nothing.
fn empty() -> Value {
    json!({
        "IPAMConfig": null,
        "Links": null,
        "Aliases": null,
        "MacAddress": "",
        "DriverOpts": null,
        "GwPriority": 0,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": null,
    })
}

fn built_in(network: Network, up: bool) -> Value {
    let mut shown = empty();
    if let Some(name) = mode(network) {
        shown["NetworkID"] = json!(Digest::of(name.as_bytes()).hex());
    }
    if network == Network::Private && up {
        shown["Gateway"] = json!(addresses::GATEWAY);
        shown["IPAddress"] = json!(addresses::GUEST);
        shown["IPPrefixLen"] = json!(addresses::PREFIX);
        shown["IPv6Gateway"] = json!(addresses::GATEWAY6);
        shown["GlobalIPv6Address"] = json!(addresses::GUEST6);
        shown["GlobalIPv6PrefixLen"] = json!(addresses::PREFIX6);
    }
    shown
}

fn endpoint(
    container: &Container,
    attachment: &Attachment,
    network: Option<&UserNetwork>,
    lease: Option<&Lease>,
) -> Value {
    let mut shown = empty();
    let mut asked = Map::new();
    for address in &attachment.addresses {
        let key = match address.is_ipv6() {
            false => "IPv4Address",
            true => "IPv6Address",
        };
        asked.insert(key.to_owned(), json!(address));
    }
    if !asked.is_empty() {
        shown["IPAMConfig"] = Value::Object(asked);
    }
    let names = [container.config.name.as_str(), container.short_id()];
    let aliases = attachment.aliases.iter().map(String::as_str);
    shown["Aliases"] = json!(attachment.aliases);
    shown["DNSNames"] = json!(names.into_iter().chain(aliases).collect::<Vec<_>>());
    let Some(network) = network else { return shown };
    shown["NetworkID"] = json!(network.id);
    let Some(lease) = lease else { return shown };
    shown["EndpointID"] = json!(lease.id);
    for (range, address) in network.ranges.iter().zip(&lease.addresses) {
        let (gateway, own, bits) = match address.is_ipv6() {
            false => ("Gateway", "IPAddress", "IPPrefixLen"),
            true => ("IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen"),
        };
        if !network.internal {
            shown[gateway] = json!(range.gateway);
        }
        shown[own] = json!(address);
        shown[bits] = json!(range.subnet.bits());
    }
    shown
}
