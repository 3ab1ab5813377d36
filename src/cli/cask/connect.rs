//! `--network` and what goes with it, and `cask network connect|disconnect`: the networks of a
//! container.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use super::absent;
use crate::cli::args;
use crate::cli::report::Report;
use crate::runner::{self, Attachment, Network};
use crate::store::Store;

/// Options about the networks of a new container.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct NetworkOptions {
    /// Network: `private` reaches the world through the machine's, `host` is the machine's,
    /// `none` is loopback only, `default` is private where /dev/net/tun can be opened; or one that
    /// `cask network create` made, by its name or id, where containers find each other by name.
    /// `name=NETWORK,alias=NAME,ip=IP` says more about one; several make several interfaces.
    /// `container:CONTAINER` is the network of a container that runs
    #[arg(
        long = "network",
        visible_alias = "net",
        value_name = "NETWORK",
        value_parser = choice
    )]
    networks: Vec<Choice>,

    /// Another name that the container is found by on its network
    #[arg(long = "network-alias", alias = "net-alias", value_name = "NAME")]
    aliases: Vec<String>,

    /// IPv4 address of the container on its network
    #[arg(long, value_name = "IP")]
    ip: Option<Ipv4Addr>,

    /// IPv6 address of the container on its network
    #[arg(long, value_name = "IP")]
    ip6: Option<Ipv6Addr>,
}

/// One `--network`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    /// One that is always there.
    Mode(args::Network),
    /// One that a user defined.
    Named(Attachment),
    /// That of a container.
    Container(String),
}

/// What the options come to.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) network: Network,
    pub(super) networks: Vec<Attachment>,
    /// Id of the container whose network is used.
    pub(super) shares: Option<String>,
    /// What the caller should know.
    pub(super) note: Option<String>,
}

fn choice(text: &str) -> Result<Choice, String> {
    if let Ok(mode) = args::network(text) {
        return Ok(Choice::Mode(mode));
    }
    if let Some(container) = text.strip_prefix("container:") {
        return match container.is_empty() {
            true => Err("expected `container:CONTAINER`".to_owned()),
            false => Ok(Choice::Container(container.to_owned())),
        };
    }
    let mut named = Attachment::default();
    if !text.contains('=') {
        named.network = text.to_owned();
        return Ok(Choice::Named(named));
    }
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("name", name)) => named.network = name.to_owned(),
            Some(("alias", alias)) => named.aliases.push(alias.to_owned()),
            Some(("ip" | "ip6", ip)) => {
                let ip: IpAddr = ip.parse().map_err(|_| format!("`{ip}` is no address"))?;
                named.addresses.push(ip);
            }
            _ => {
                return Err(format!(
                    "`{field}`: expected `name=`, `alias=`, `ip=` or `ip6=`"
                ));
            }
        }
    }
    match named.network.is_empty() {
        true => Err("expected `name=NETWORK`".to_owned()),
        false => Ok(Choice::Named(named)),
    }
}

impl NetworkOptions {
    /// Says what the options mean; `publishes` says that ports lead in. Must come after
    /// [`crate::cli::Session::store_with_power`], whose rights count.
    pub(super) fn settle(&self, store: &Store, publishes: bool) -> Result<Settled, Report> {
        if let [Choice::Container(other)] = &self.networks[..] {
            return self.share(store, other, publishes);
        }
        let mut modes = Vec::new();
        let mut networks: Vec<Attachment> = Vec::new();
        for choice in &self.networks {
            match choice {
                Choice::Mode(mode) => modes.push(*mode),
                Choice::Container(_) => {
                    let text = "a container's network goes with no other network";
                    return Err(Report::wrong_use(text));
                }
                Choice::Named(named) => {
                    let name = runner::find_network(store, &named.network)?.name;
                    if networks.iter().any(|other| other.network == name) {
                        let text = format!("network `{name}` is named twice");
                        return Err(Report::wrong_use(text));
                    }
                    let mut named = named.clone();
                    named.network = name;
                    networks.push(named);
                }
            }
        }
        let mode = match (&modes[..], networks.is_empty()) {
            ([], true) => args::Network::Default,
            // Networks of users need what a private network needs.
            ([], false) => args::Network::Private,
            ([mode], true) => *mode,
            ([args::Network::Default | args::Network::Private], false) => args::Network::Private,
            _ => {
                return Err(Report::wrong_use(
                    "the machine's network, and none at all, go with no other network",
                ));
            }
        };
        let (mode, note) = mode.settle(publishes)?;
        let network = match mode {
            args::Network::Host => Network::Host,
            args::Network::None => Network::None,
            _ if modes.is_empty() && !networks.is_empty() => Network::Named,
            args::Network::Default | args::Network::Private => Network::Private,
        };
        self.tell_first(&mut networks)?;
        Ok(Settled {
            network,
            networks,
            shares: None,
            note,
        })
    }

    /// Settles that the network is that of another container.
    fn share(&self, store: &Store, other: &str, publishes: bool) -> Result<Settled, Report> {
        if publishes {
            let text = "ports are published by the container whose network it is";
            return Err(Report::wrong_use(text));
        }
        self.tell_first(&mut [])?;
        let other = runner::find(store, other)?;
        Ok(Settled {
            network: Network::Container,
            networks: Vec::new(),
            // That may itself be on the network of another one.
            shares: Some(other.config.request.shares.unwrap_or(other.id)),
            note: None,
        })
    }

    /// What is said of no network in particular is said of the first.
    fn tell_first(&self, networks: &mut [Attachment]) -> Result<(), Report> {
        let addresses = [self.ip.map(IpAddr::from), self.ip6.map(IpAddr::from)];
        match networks.first_mut() {
            Some(first) => {
                first.aliases.extend(self.aliases.iter().cloned());
                first.addresses.extend(addresses.into_iter().flatten());
                Ok(())
            }
            None if self.aliases.is_empty() && self.ip.is_none() && self.ip6.is_none() => Ok(()),
            None => Err(Report::wrong_use(
                "`--network-alias`, `--ip` and `--ip6` go with a network of a user",
            )
            .hint("`cask network create NAME`, then `--network NAME`")),
        }
    }
}

/// Connect a container to a network, also while it runs
#[derive(Debug, clap::Args)]
pub(super) struct Connect {
    /// Name or id of the network
    #[arg(value_name = "NETWORK")]
    network: String,

    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// Another name that the container is found by there
    #[arg(long = "alias", value_name = "NAME")]
    aliases: Vec<String>,

    /// IPv4 address of the container there
    #[arg(long, value_name = "IP")]
    ip: Option<Ipv4Addr>,

    /// IPv6 address of the container there
    #[arg(long, value_name = "IP")]
    ip6: Option<Ipv6Addr>,

    #[command(flatten)]
    absent: absent::OfConnect,
}

impl Connect {
    /// Connects it.
    pub(super) fn run(self, store: &Store) -> Result<ExitCode, Report> {
        self.absent.check()?;
        let mut container = runner::find(store, &self.container)?;
        let addresses = [self.ip.map(IpAddr::from), self.ip6.map(IpAddr::from)];
        let wanted = Attachment {
            network: self.network,
            aliases: self.aliases,
            addresses: addresses.into_iter().flatten().collect(),
        };
        runner::connect(store, &mut container, wanted)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Take a container off a network, also while it runs
#[derive(Debug, clap::Args)]
pub(super) struct Disconnect {
    /// Name or id of the network
    #[arg(value_name = "NETWORK")]
    network: String,

    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// Accepted and without effect: nothing keeps a container on a network
    #[arg(short, long, hide = true)]
    force: bool,
}

impl Disconnect {
    /// Takes it off.
    pub(super) fn run(self, store: &Store) -> Result<ExitCode, Report> {
        let mut container = runner::find(store, &self.container)?;
        runner::disconnect(store, &mut container, &self.network)?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_named_or_described() {
        assert_eq!(choice("host"), Ok(Choice::Mode(args::Network::Host)));
        assert_eq!(choice("bridge"), Ok(Choice::Mode(args::Network::Private)));
        let other = Choice::Container("db".to_owned());
        assert_eq!(choice("container:db"), Ok(other));
        let web = Attachment {
            network: "web".to_owned(),
            ..Attachment::default()
        };
        assert_eq!(choice("web"), Ok(Choice::Named(web.clone())));
        assert_eq!(choice("name=web"), Ok(Choice::Named(web.clone())));
        let more = Attachment {
            aliases: vec!["a".to_owned(), "b".to_owned()],
            addresses: vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
            ..web
        };
        assert_eq!(
            choice("name=web,alias=a,alias=b,ip=10.0.0.5,ip6=fd00::5"),
            Ok(Choice::Named(more))
        );
        for bad in [
            "alias=a",
            "name=web,ip=x",
            "name=web,mtu=1",
            "name=",
            "container:",
        ] {
            assert!(choice(bad).is_err(), "{bad}");
        }
    }
}
