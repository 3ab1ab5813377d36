//! `cask network`: networks on which containers find each other by name.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::absent;
use super::connect::{Connect, Disconnect};
use super::each::{self, each};
use crate::cli::args;
use crate::cli::filters::{self, Labels, Pruned};
use crate::cli::report::{Report, wrong_format};
use crate::cli::ui::human;
use crate::cli::ui::listing::{Format, Listing};
use crate::cli::verbs::inspect_all;
use crate::cli::{Session, ui};
use crate::image::Digest;
use crate::runner::{self, Lease, NetworkRequest, UserNetwork};
use crate::sandbox::network::Subnet;
use crate::store::Store;

const NETWORKS: Listing = Listing {
    columns: &["ID", "Name", "Driver", "Scope"],
    heads: &[("ID", "NETWORK ID")],
    raw: "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
};

/// Networks that are always there, and docker's drivers of them. docker calls the first one
/// `bridge`.
const BUILT_IN: &[(&str, &str)] = &[("private", "bridge"), ("host", "host"), ("none", "null")];

/// Manage networks
#[derive(Debug, Subcommand)]
#[command(defer = true)]
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

    #[command(flatten)]
    absent: absent::OfCreate,
}

impl Create {
    fn run(self, store: &Store) -> Result<ExitCode, Report> {
        self.absent.check()?;
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
    /// IPv4, Internal, Labels, CreatedAt, and `.Label "KEY"`
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
    Label(filters::Label),
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
            ("label", _) => Self::Label(filters::Label::parse(&value)),
            ("driver", _) => Self::Driver(value),
            ("scope", _) => Self::Scope(value),
            ("type", "custom") => Self::Custom(true),
            ("type", "builtin") => Self::Custom(false),
            ("dangling", text) => Self::Dangling(filters::switch(text)?),
            ("type", _) => return Err("expected `type=custom` or `type=builtin`".to_owned()),
            _ => return Err(format!("there is no filter `{key}`")),
        })
    }

    fn fits(&self, row: &Row) -> bool {
        match self {
            Self::Name(part) => row.name.contains(part.as_str()),
            Self::Id(start) => row.id.starts_with(start.as_str()),
            Self::Label(label) => label.fits(&row.labels()),
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
        let mut row = json!({
            "ID": id,
            "Name": self.name,
            "Driver": self.driver,
            "Scope": "local",
            "IPv4": "true",
            "IPv6": self.has_ipv6().to_string(),
            "Internal": network.is_some_and(|network| network.internal).to_string(),
            "CreatedAt": network.map_or_else(String::new, |network| made(&network.created)),
        });
        filters::show_labels(&mut row, &self.labels());
        row
    }

    fn labels(&self) -> Labels {
        let network = self.network.as_ref();
        network
            .map(|network| network.labels.clone())
            .unwrap_or_default()
    }
}

/// The moment in docker's words, to the nanosecond.
fn made(created: &str) -> String {
    let time = human::parse_time(Some(created));
    time.map_or_else(String::new, human::exact_date)
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
        let is_label = |filter: &Filter| matches!(filter, Filter::Label(_));
        rows.retain(|row| filters::pass(&self.filters, is_label, |filter| filter.fits(row)));
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

    /// Accepted and without effect: it tells of swarms
    #[arg(short, long, hide = true)]
    verbose: bool,
}

impl Inspect {
    fn run(self, store: &Store) -> Result<ExitCode, Report> {
        inspect_all(&self.networks, self.format.as_deref(), |text| {
            found(store, text)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Everything about a network; an error if there is none of that name.
fn found(store: &Store, text: &str) -> Result<Value, Report> {
    let name = if text == "bridge" { "private" } else { text };
    if let Some(found) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return Ok(inspected(&Row::built_in(*found), &[]));
    }
    let network = runner::find_network(store, text)?;
    let leases = runner::leases_of_network(store, &network.name)?;
    Ok(inspected(&Row::defined(network, true), &leases))
}

/// Everything about a network; `None` if there is none of that name.
pub(super) fn value(store: &Store, text: &str, _: bool) -> Result<Option<Value>, Report> {
    let built_in = |name: &str| BUILT_IN.iter().any(|(known, _)| *known == name);
    match runner::find_network(store, text) {
        Err(_) if text != "bridge" && !built_in(text) => Ok(None),
        _ => found(store, text).map(Some),
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
        "IPAM": match network {
            Some(_) => json!({ "Driver": "default", "Options": {}, "Config": ipam }),
            None => json!({ "Driver": "default", "Options": null, "Config": null }),
        },
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

    /// Only networks that match: `until=TIME`, `label=KEY[=VALUE]`, `label!=KEY[=VALUE]`
    #[arg(long = "filter", value_name = "FILTER", value_parser = Pruned::parse)]
    filters: Vec<Pruned>,
}

impl Prune {
    fn run(self, store: &Store) -> Result<ExitCode, Report> {
        prune(store, &self.filters)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Removes networks that no container is connected to.
pub(super) fn prune(store: &Store, filters: &[Pruned]) -> Result<(), Report> {
    let mut rows = rows(store)?;
    rows.retain(|row| {
        let created = row.network.as_ref().map_or("", |network| &network.created);
        let fits = |filter: &Pruned| filter.fits(created, &row.labels());
        !row.used && filters.iter().all(fits)
    });
    let names: Vec<String> = rows.into_iter().map(|row| row.name).collect();
    // They take nothing that would be worth telling.
    each::prune("Deleted Networks:", &names, |name| {
        runner::remove_network(store, name)?;
        Ok(0)
    })
    .map(drop)
}
