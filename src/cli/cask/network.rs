//! `cask network`: networks on which containers find each other by name.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::connect::{Connect, Disconnect};
use super::each::each;
use crate::cli::args;
use crate::cli::report::{Report, wrong_format};
use crate::cli::ui::listing::{Format, Listing};
use crate::cli::ui::template::Template;
use crate::cli::{Session, ui};
use crate::image::Digest;
use crate::runner::{self, Lease, NetworkRequest, UserNetwork};
use crate::sandbox::network::Subnet;
use crate::store::Store;

const NETWORKS: Listing = Listing {
    columns: &["ID", "Name", "Driver", "Scope"],
    heads: &[("ID", "NETWORK ID")],
};

/// Networks that are always there, and docker's drivers of them. docker calls the first one
/// `bridge`.
const BUILT_IN: &[(&str, &str)] = &[("private", "bridge"), ("host", "host"), ("none", "null")];

/// Manage networks
#[derive(Debug, Subcommand)]
pub(super) enum NetworkVerb {
    Create(Create),
    #[command(visible_alias = "list")]
    Ls(Ls),
    Inspect(Inspect),
    #[command(visible_alias = "remove")]
    Rm(Rm),
    Prune(Prune),
    Connect(Connect),
    Disconnect(Disconnect),
}

impl NetworkVerb {
    /// Does it.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        match self {
            Self::Create(verb) => verb.run(&store),
            Self::Ls(verb) => verb.run(&store),
            Self::Inspect(verb) => verb.run(&store),
            Self::Rm(verb) => verb.run(&store),
            Self::Prune(verb) => verb.run(&store),
            Self::Connect(verb) => verb.run(&store),
            Self::Disconnect(verb) => verb.run(&store),
        }
    }
}

/// Make a network and print its id
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,

    /// Range of its addresses; one of each family [default: a free IPv4 range]
    #[arg(long = "subnet", value_name = "RANGE")]
    subnets: Vec<Subnet>,

    /// The way out of its subnet [default: the subnet's first address]
    #[arg(long = "gateway", value_name = "IP")]
    gateways: Vec<IpAddr>,

    /// Range that containers get addresses from [default: the subnet]
    #[arg(long = "ip-range", value_name = "RANGE")]
    pools: Vec<Subnet>,

    /// Give it IPv6 addresses as well
    #[arg(long)]
    ipv6: bool,

    /// Let its containers reach nothing outside
    #[arg(long)]
    internal: bool,

    /// Label of the network
    #[arg(long = "label", value_name = "KEY[=VALUE]", value_parser = args::label)]
    labels: Vec<(String, String)>,

    /// Driver: bridge is all there is
    #[arg(short, long, default_value = "bridge", value_parser = ["bridge"])]
    driver: String,

    /// Accepted and without effect: containers can be connected by hand to any network
    #[arg(long, hide = true)]
    attachable: bool,
}

impl Create {
    fn run(self, store: &Store) -> Result<ExitCode, Report> {
        let request = NetworkRequest {
            name: self.name,
            subnets: self.subnets,
            gateways: self.gateways,
            pools: self.pools,
            ipv6: self.ipv6,
            internal: self.internal,
            labels: self.labels.into_iter().collect(),
        };
        ui::data(&runner::create_network(store, request)?.id)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// List networks
#[derive(Debug, clap::Args)]
pub(super) struct Ls {
    /// Ids only
    #[arg(short, long)]
    quiet: bool,

    /// Ids in full
    #[arg(long)]
    no_trunc: bool,

    /// Only networks that match: `name=PART`, `id=START`, `label=KEY[=VALUE]`, `driver=`,
    /// `scope=`, `type=custom|builtin`, `dangling=true|false`
    #[arg(short, long = "filter", value_name = "FILTER", value_parser = Filter::parse)]
    filters: Vec<Filter>,

    /// `table`, `json` (one object a line), or a template of ID, Name, Driver, Scope, IPv6,
    /// Internal, Labels, CreatedAt
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true
    )]
    format: Format,
}

#[derive(Debug, Clone)]
enum Filter {
    Name(String),
    Id(String),
    Label(String, Option<String>),
    Driver(String),
    Scope(String),
    Custom(bool),
    Dangling(bool),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let value = value.to_owned();
        Ok(match (key, value.as_str()) {
            ("name", _) => Self::Name(value),
            ("id", _) => Self::Id(value),
            ("label", _) => match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(value, None),
            },
            ("driver", _) => Self::Driver(value),
            ("scope", _) => Self::Scope(value),
            ("type", "custom") => Self::Custom(true),
            ("type", "builtin") => Self::Custom(false),
            ("dangling", "true" | "1") => Self::Dangling(true),
            ("dangling", "false" | "0") => Self::Dangling(false),
            ("type", _) => return Err("expected `type=custom` or `type=builtin`".to_owned()),
            ("dangling", _) => return Err("expected `dangling=true` or `false`".to_owned()),
            _ => return Err(format!("there is no filter `{key}`")),
        })
    }

    fn fits(&self, row: &Row) -> bool {
        match self {
            Self::Name(part) => row.name.contains(part.as_str()),
            Self::Id(start) => row.id.starts_with(start.as_str()),
            Self::Label(key, value) => {
                let found = row.network.as_ref().and_then(|n| n.labels.get(key));
                found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
            }
            Self::Driver(driver) => row.driver == driver,
            Self::Scope(scope) => scope == "local",
            Self::Custom(custom) => *custom == row.network.is_some(),
            Self::Dangling(dangling) => row.network.is_some() && *dangling != row.used,
        }
    }
}

/// A network that is always there, or one that a user defined.
#[derive(Debug)]
struct Row {
    name: String,
    id: String,
    driver: &'static str,
    network: Option<UserNetwork>,
    /// Whether a container is connected to it, running or not.
    used: bool,
}

impl Row {
    fn built_in((name, driver): (&str, &'static str)) -> Self {
        Self {
            name: name.to_owned(),
            id: Digest::of(name.as_bytes()).hex().to_owned(),
            driver,
            network: None,
            used: true,
        }
    }

    fn defined(network: UserNetwork, used: bool) -> Self {
        Self {
            name: network.name.clone(),
            id: network.id.clone(),
            driver: "bridge",
            network: Some(network),
            used,
        }
    }

    fn has_ipv6(&self) -> bool {
        match &self.network {
            Some(network) => network.ranges.iter().any(|range| range.subnet.is_ipv6()),
            None => self.driver == "bridge",
        }
    }

    fn value(&self, id: &str) -> Value {
        let network = self.network.as_ref();
        let labels = network.map(|network| {
            let pairs = network.labels.iter().map(|(k, v)| format!("{k}={v}"));
            pairs.collect::<Vec<_>>().join(",")
        });
        json!({
            "ID": id,
            "Name": self.name,
            "Driver": self.driver,
            "Scope": "local",
            "IPv4": "true",
            "IPv6": self.has_ipv6().to_string(),
            "Internal": network.is_some_and(|network| network.internal).to_string(),
            "Labels": labels.unwrap_or_default(),
            "CreatedAt": network.map_or("", |network| &network.created),
        })
    }
}

/// All networks, those that are always there first.
fn rows(store: &Store) -> Result<Vec<Row>, Report> {
    let mut rows: Vec<Row> = BUILT_IN.iter().copied().map(Row::built_in).collect();
    for network in runner::list_networks(store)? {
        let used = !runner::users_of_network(store, &network.name)?.is_empty();
        rows.push(Row::defined(network, used));
    }
    Ok(rows)
}

impl Ls {
    fn run(self, store: &Store) -> Result<ExitCode, Report> {
        let mut rows = rows(store)?;
        rows.retain(|row| self.filters.iter().all(|filter| filter.fits(row)));
        let id = |row: &Row| match self.no_trunc {
            true => row.id.clone(),
            false => row.id[..12].to_owned(),
        };
        let text = if self.quiet {
            rows.iter().map(|row| id(row) + "\n").collect()
        } else {
            let values: Vec<Value> = rows.iter().map(|row| row.value(&id(row))).collect();
            let shown = NETWORKS.render(&self.format, &values);
            shown.map_err(wrong_format)?
        };
        ui::raw_data(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Show everything about networks
#[derive(Debug, clap::Args)]
pub(super) struct Inspect {
    /// Names or ids of networks
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,

    /// `json`, or a template such as `{{.Internal}}`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Inspect {
    fn run(self, store: &Store) -> Result<ExitCode, Report> {
        let mut values = Vec::new();
        for text in &self.networks {
            let name = if text == "bridge" { "private" } else { text };
            let found = BUILT_IN.iter().find(|(known, _)| *known == name);
            let (row, leases) = match found {
                Some(found) => (Row::built_in(*found), Vec::new()),
                None => {
                    let network = runner::find_network(store, text)?;
                    let leases = runner::leases_of_network(store, &network.name)?;
                    (Row::defined(network, true), leases)
                }
            };
            values.push(inspected(&row, &leases));
        }
        match self.format.as_deref() {
            None => ui::data(&format!("{:#}", Value::Array(values)))?,
            Some("json") => ui::data(&Value::Array(values))?,
            Some(text) => {
                let template = Template::parse(text).map_err(wrong_format)?;
                for value in &values {
                    ui::data(&template.render(value).map_err(wrong_format)?)?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn inspected(row: &Row, leases: &[Lease]) -> Value {
    let network = row.network.as_ref();
    let ranges = network.map_or(&[][..], |network| &network.ranges);
    let ipam: Vec<Value> = ranges
        .iter()
        .map(|range| {
            let mut shown = json!({ "Subnet": range.subnet.to_string() });
            if let Some(pool) = range.pool {
                shown["IPRange"] = json!(pool.to_string());
            }
            shown["Gateway"] = json!(range.gateway.to_string());
            shown
        })
        .collect();
    let mut containers = Map::new();
    for lease in leases {
        let address = |ipv6: bool| {
            let mut both = ranges.iter().zip(&lease.addresses);
            let found = both.find(|(_, address)| address.is_ipv6() == ipv6);
            found.map_or_else(String::new, |(range, address)| {
                format!("{address}/{}", range.subnet.bits())
            })
        };
        let shown = json!({
            "Name": lease.name,
            "EndpointID": lease.id,
            "MacAddress": "",
            "IPv4Address": address(false),
            "IPv6Address": address(true),
        });
        containers.insert(lease.container.clone(), shown);
    }
    json!({
        "Name": row.name,
        "Id": row.id,
        "Created": network.map_or("", |network| &network.created),
        "Scope": "local",
        "Driver": row.driver,
        "EnableIPv4": true,
        "EnableIPv6": row.has_ipv6(),
        "IPAM": { "Driver": "default", "Options": {}, "Config": ipam },
        "Internal": network.is_some_and(|network| network.internal),
        "Attachable": network.is_some(),
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers,
        "Options": {},
        "Labels": network.map(|network| &network.labels).cloned().unwrap_or_default(),
    })
}

/// Remove networks that no running container uses
#[derive(Debug, clap::Args)]
pub(super) struct Rm {
    /// Names or ids of networks
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,

    /// Networks that are not there are no error
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    fn run(self, store: &Store) -> Result<ExitCode, Report> {
        each(&self.networks, |text| {
            if text == "bridge" || BUILT_IN.iter().any(|(known, _)| known == &text) {
                let why = format!("network `{text}` is always there and can't be removed");
                return Err(Report::failed(why));
            }
            match runner::find_network(store, text) {
                Err(runner::Error::NoNetwork { .. }) if self.force => Ok(()),
                found => Ok(runner::remove_network(store, &found?.name)?),
            }
        })
    }
}

/// Remove all networks that no container is connected to, running or not
#[derive(Debug, clap::Args)]
pub(super) struct Prune {
    /// Do not ask (nothing is ever asked)
    #[arg(short, long)]
    force: bool,

    /// Only networks that match, as for `ls`
    #[arg(long = "filter", value_name = "FILTER", value_parser = Filter::parse)]
    filters: Vec<Filter>,
}

impl Prune {
    /// All of them.
    pub(super) fn all() -> Self {
        Self {
            force: true,
            filters: Vec::new(),
        }
    }

    pub(super) fn run(self, store: &Store) -> Result<ExitCode, Report> {
        let mut rows = rows(store)?;
        rows.retain(|row| !row.used && self.filters.iter().all(|filter| filter.fits(row)));
        if !rows.is_empty() {
            ui::data(&"Deleted Networks:")?;
        }
        let names: Vec<String> = rows.into_iter().map(|row| row.name).collect();
        each(&names, |name| Ok(runner::remove_network(store, name)?))
    }
}
