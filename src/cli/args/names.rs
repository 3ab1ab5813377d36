//! Options about the names of hosts: what programs find in `/etc/hosts` and `/etc/resolv.conf`.

use std::net::IpAddr;

use super::host_address;
use crate::build::Request;

/// Options of `build`, `from` and `run`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(mut_args(super::switches))]
pub(crate) struct NameArgs {
    /// Line for `/etc/hosts`; `host-gateway` as the address is the machine, with what listens on
    /// its loopback addresses
    #[arg(long = "add-host", value_name = "HOST:IP", value_parser = host_address)]
    hosts: Vec<(String, String)>,

    /// Programs find the image's own `/etc/hosts`
    #[arg(long, value_name = "BOOL", conflicts_with = "hosts")]
    no_hosts: Option<bool>,

    /// Name server in place of the machine's; `none` leaves the image's own `/etc/resolv.conf`
    #[arg(long, value_name = "IP", value_delimiter = ',', value_parser = server)]
    dns: Vec<Server>,

    /// Domain in which names without dots are looked for, in place of the machine's
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',', value_parser = word)]
    dns_search: Vec<String>,

    /// Option of resolv.conf(5), in place of the machine's
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION", value_delimiter = ',', value_parser = word)]
    dns_option: Vec<String>,

    // No program gets another `/etc/hostname` than the image's.
    #[arg(long, hide = true, value_name = "BOOL")]
    no_hostname: Option<bool>,
}

/// One `--dns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    At(IpAddr),
    None,
}

fn server(text: &str) -> Result<Server, String> {
    match text {
        "none" => Ok(Server::None),
        text => text
            .parse()
            .map(Server::At)
            .map_err(|_| "expected an IP address or `none`".to_owned()),
    }
}

fn word(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        true => Err("expected one word".to_owned()),
        false => Ok(text.to_owned()),
    }
}

impl NameArgs {
    /// Puts into a request what was said; the rest stays.
    pub(crate) fn apply(&self, request: &mut Request) {
        let at = |server: &Server| match server {
            Server::At(address) => Some(*address),
            Server::None => None,
        };
        request.add_hosts.extend(self.hosts.iter().cloned());
        request.own_hosts = self.no_hosts.unwrap_or(request.own_hosts);
        if !self.dns.is_empty() {
            request.dns = self.dns.iter().filter_map(at).collect();
            request.own_resolv_conf = self.dns.contains(&Server::None);
        }
        if !self.dns_search.is_empty() {
            request.dns_search.clone_from(&self.dns_search);
        }
        if !self.dns_option.is_empty() {
            request.dns_options.clone_from(&self.dns_option);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_is_an_address_or_none() {
        assert_eq!(server("none"), Ok(Server::None));
        assert_eq!(server("::1"), Ok(Server::At("::1".parse().unwrap())));
        assert!(server("dns.example").is_err());
        assert!(word("a b").is_err() && word("").is_err() && word("ndots:2").is_ok());
    }
}
