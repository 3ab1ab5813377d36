//! Options of docker's network verbs that say what holds anyway, or that are not to be had: these
//! are refused with the reason, as those of `run` are in [`super::docker`].

use crate::cli::args::refuse;
use crate::cli::report::Report;

const SWARM: &str = "networks are this machine's, and there is no swarm";

/// Options of `network create`.
#[derive(Debug, Default, clap::Args)]
pub(super) struct OfCreate {
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv4: Option<bool>,
    #[arg(short, long = "opt", hide = true, value_name = "KEY=VALUE")]
    options: Vec<String>,
    #[arg(long, hide = true, value_name = "NAME=IP")]
    aux_address: Vec<String>,
    #[arg(long, hide = true, value_name = "DRIVER")]
    ipam_driver: Option<String>,
    #[arg(long, hide = true, value_name = "KEY=VALUE")]
    ipam_opt: Vec<String>,
    #[arg(long, hide = true, value_name = "SCOPE")]
    scope: Option<String>,
    #[arg(long, hide = true, value_name = "NETWORK")]
    config_from: Option<String>,
    #[arg(long, hide = true)]
    config_only: bool,
    #[arg(long, hide = true)]
    ingress: bool,
}

/// Options of docker's bridges that hold here, too.
const HOLDING: &[&str] = &[
    "com.docker.network.bridge.enable_icc=true",
    "com.docker.network.bridge.enable_ip_masquerade=true",
];

impl OfCreate {
    /// Refuses what was asked for.
    pub(super) fn check(&self) -> Result<(), Report> {
        let asks = |value: &Option<String>, usual| value.as_deref().is_some_and(|v| v != usual);
        refuse(&[
            (
                "--ipv4=false",
                self.ipv4 == Some(false),
                "the name server of a network has an IPv4 address",
                "`--ipv6` gives addresses of both families",
            ),
            (
                "--opt",
                self.options.iter().any(|o| !HOLDING.contains(&o.as_str())),
                "there is no bridge on the machine that could be set up",
                "`-p IP:PORT:PORT` publishes at one address; `--internal` cuts a network off",
            ),
            (
                "--aux-address",
                !self.aux_address.is_empty(),
                "nobody but containers has addresses there",
                "`--ip-range` leaves the rest of the subnet alone",
            ),
            (
                "--ipam-driver",
                asks(&self.ipam_driver, "default"),
                "addresses are given out by cask itself",
                "`--subnet`, `--ip-range` and `run --ip`",
            ),
            (
                "--ipam-opt",
                !self.ipam_opt.is_empty(),
                "addresses are given out by cask itself",
                "`--subnet`, `--ip-range` and `run --ip`",
            ),
            ("--scope", asks(&self.scope, "local"), SWARM, ""),
            ("--config-from", self.config_from.is_some(), SWARM, ""),
            ("--config-only", self.config_only, SWARM, ""),
            ("--ingress", self.ingress, SWARM, ""),
        ])
    }
}

/// Options of `network connect`.
#[derive(Debug, Default, clap::Args)]
pub(super) struct OfConnect {
    #[arg(long, hide = true, value_name = "KEY=VALUE")]
    driver_opt: Vec<String>,
    #[arg(long, hide = true, value_name = "N", allow_negative_numbers = true)]
    gw_priority: Option<i64>,
    #[arg(long, hide = true, value_name = "CONTAINER[:NAME]")]
    link: Vec<String>,
    #[arg(long, hide = true, value_name = "IP")]
    link_local_ip: Vec<String>,
}

impl OfConnect {
    /// Refuses what was asked for.
    pub(super) fn check(&self) -> Result<(), Report> {
        refuse(&[
            (
                "--driver-opt",
                !self.driver_opt.is_empty(),
                "there is no bridge on the machine that could be set up",
                "",
            ),
            (
                "--gw-priority",
                self.gw_priority.is_some_and(|priority| priority != 0),
                "the first network that is not internal leads out",
                "name that first: `run --network A --network B`",
            ),
            (
                "--link",
                !self.link.is_empty(),
                "containers are not linked one by one",
                "`--alias` is a name that all on the network know",
            ),
            (
                "--link-local-ip",
                !self.link_local_ip.is_empty(),
                "interfaces have the addresses of their networks only",
                "`--ip` and `--ip6`",
            ),
        ])
    }
}
