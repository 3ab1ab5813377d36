//! Options of docker that are checked against what there is, that mean what is so anyway, or that
//! are not to be had: these are refused with the reason, since a script that says them relies on
//! them.

use crate::cli::args::{Row, refusal, refuse};
use crate::cli::report::Report;
use crate::runner::{Network, Request, Wording};
use crate::sandbox::userns::Rung;

/// Options of `run` that no container here has a use for.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(mut_args(crate::cli::args::switches))]
pub(super) struct Others {
    #[arg(long, hide = true, value_name = "DEVICE:WEIGHT")]
    blkio_weight_device: Vec<String>,
    #[arg(long, hide = true, value_name = "GROUP")]
    cgroup_parent: Option<String>,
    #[arg(long, hide = true, value_name = "NAMESPACE")]
    cgroupns: Option<String>,
    #[arg(long, hide = true, value_name = "N")]
    cpu_count: Option<String>,
    #[arg(long, hide = true, value_name = "N")]
    cpu_percent: Option<String>,
    #[arg(long, hide = true, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,
    #[arg(long, hide = true, value_name = "DEVICE:RATE")]
    device_read_bps: Vec<String>,
    #[arg(long, hide = true, value_name = "DEVICE:RATE")]
    device_read_iops: Vec<String>,
    #[arg(long, hide = true, value_name = "DEVICE:RATE")]
    device_write_bps: Vec<String>,
    #[arg(long, hide = true, value_name = "DEVICE:RATE")]
    device_write_iops: Vec<String>,
    #[arg(long, hide = true, value_name = "BOOL")]
    disable_content_trust: Option<bool>,
    #[arg(long, hide = true, value_name = "GPUS")]
    gpus: Option<String>,
    #[arg(long, hide = true, value_name = "SIZE")]
    io_maxbandwidth: Option<String>,
    #[arg(long, hide = true, value_name = "N")]
    io_maxiops: Option<String>,
    #[arg(long, hide = true, value_name = "NAMESPACE")]
    ipc: Option<String>,
    #[arg(long, hide = true, value_name = "SIZE")]
    kernel_memory: Option<String>,
    #[arg(long, hide = true, value_name = "CONTAINER[:NAME]")]
    link: Vec<String>,
    #[arg(long, hide = true, value_name = "IP")]
    link_local_ip: Vec<String>,
    #[arg(long, hide = true, value_name = "MAC")]
    mac_address: Option<String>,
    #[arg(long, hide = true, value_name = "N", allow_negative_numbers = true)]
    memory_swappiness: Option<i64>,
    #[arg(long, hide = true, value_name = "BOOL")]
    oom_kill_disable: Option<bool>,
    #[arg(long, hide = true, value_name = "NAMESPACE")]
    pid: Option<String>,
    #[command(flatten)]
    real_time: RealTimeArgs,
    #[arg(long, hide = true, value_name = "NAME")]
    runtime: Option<String>,
    #[arg(long, hide = true, value_name = "KEY=VALUE")]
    storage_opt: Vec<String>,
    #[arg(long, hide = true)]
    use_api_socket: bool,
    #[arg(long, hide = true, value_name = "NAMESPACE")]
    userns: Option<String>,
    #[arg(long, hide = true, value_name = "NAMESPACE")]
    uts: Option<String>,
    #[arg(long, hide = true, value_name = "DRIVER")]
    volume_driver: Option<String>,
}

/// Options about real-time processes.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct RealTimeArgs {
    #[arg(long, hide = true, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    #[arg(long, hide = true, value_name = "MICROSECONDS")]
    cpu_rt_runtime: Option<u64>,
}

impl RealTimeArgs {
    /// Refuses what was asked for.
    pub(super) fn check(&self) -> Result<(), Report> {
        let given = self.cpu_rt_period.or(self.cpu_rt_runtime);
        // 0 is docker's word for none.
        match given.is_some_and(|time| time > 0) {
            true => Err(refusal(
                "--cpu-rt-…",
                "cgroup v2 gives no processor time to real-time processes",
                "`--ulimit rtprio=N` lets the program make itself one",
            )),
            false => Ok(()),
        }
    }
}

const DISK_RATE: &str = "reads and writes of single disks are not limited";
const WEIGHT: &str = "`--blkio-weight` weighs the container at all disks";
const WINDOWS: &str = "it is for Windows";

impl Others {
    /// Refuses what can't be had.
    pub(super) fn check(&self) -> Result<(), Report> {
        self.real_time.check()?;
        self.check_namespaces()?;
        refuse(&self.resources())?;
        refuse(&self.places())
    }

    /// Tells `inspect` what was said.
    pub(super) fn word(&self, wording: &mut Wording) {
        wording.ipc.clone_from(&self.ipc);
        wording.userns.clone_from(&self.userns);
    }

    fn resources(&self) -> [Row; 13] {
        let rate = |option, rates: &[String]| (option, !rates.is_empty(), DISK_RATE, WEIGHT);
        let windows = |option, value: &Option<String>| (option, value.is_some(), WINDOWS, "");
        [
            rate("--blkio-weight-device", &self.blkio_weight_device),
            rate("--device-read-bps", &self.device_read_bps),
            rate("--device-read-iops", &self.device_read_iops),
            rate("--device-write-bps", &self.device_write_bps),
            rate("--device-write-iops", &self.device_write_iops),
            windows("--cpu-count", &self.cpu_count),
            windows("--cpu-percent", &self.cpu_percent),
            windows("--io-maxbandwidth", &self.io_maxbandwidth),
            windows("--io-maxiops", &self.io_maxiops),
            (
                "--kernel-memory",
                self.kernel_memory.is_some(),
                "the kernel has given it up, and docker with it",
                "`--memory` holds for what the kernel has for the container, too",
            ),
            (
                "--memory-swappiness",
                self.memory_swappiness.is_some_and(|n| n != -1),
                "cgroup v2 has one for the whole machine",
                "`--memory-swap` the same as `--memory` keeps the container from swapping",
            ),
            (
                "--oom-kill-disable",
                self.oom_kill_disable == Some(true),
                "cgroup v2 can't, and what waits for memory may wait for ever",
                "`--oom-score-adj=-1000`, as root, has others killed first",
            ),
            (
                "--storage-opt",
                !self.storage_opt.is_empty(),
                "what a container writes lies in the store, without a limit of its own",
                "`--tmpfs /DIR:size=64m` limits what is written there",
            ),
        ]
    }

    fn places(&self) -> [Row; 10] {
        [
            (
                "--cgroup-parent",
                self.cgroup_parent.is_some(),
                "control groups are made where the system delegates them",
                "`systemd-run --user --scope --slice NAME cask …` puts all below another",
            ),
            (
                "--device-cgroup-rule",
                !self.device_cgroup_rule.is_empty(),
                "a container sees the devices that it is given, and makes no others",
                "`--device /dev/NAME`",
            ),
            (
                "--disable-content-trust",
                self.disable_content_trust == Some(false),
                "no signature is asked for",
                "",
            ),
            (
                "--gpus",
                self.gpus.is_some(),
                "no vendor's hook is run that would find them",
                "`--device /dev/dri`, or each `/dev/nvidia…` by its name, and the libraries by `-v`",
            ),
            (
                "--link",
                !self.link.is_empty(),
                "containers are not linked one by one",
                "`cask network create NAME`: containers on it find each other by name and `--network-alias`",
            ),
            (
                "--link-local-ip",
                !self.link_local_ip.is_empty(),
                "interfaces have the addresses of their networks only",
                "`--ip` and `--ip6`",
            ),
            (
                "--mac-address",
                self.mac_address.is_some(),
                "networks carry IP and nothing below it",
                "`--ip` makes a container known by its address",
            ),
            (
                "--runtime",
                self.runtime.is_some(),
                "programs are started by cask itself, not by an OCI runtime",
                "",
            ),
            (
                "--use-api-socket",
                self.use_api_socket,
                "there is no daemon, and no socket of one",
                "",
            ),
            (
                "--volume-driver",
                self.volume_driver
                    .as_deref()
                    .is_some_and(|driver| driver != "local"),
                "volumes are directories of the machine",
                "mount the file system on the machine, and `-v /DIR:/INSIDE`",
            ),
        ]
    }

    /// Namespaces are the container's own; the network has an option that is kept.
    fn check_namespaces(&self) -> Result<(), Report> {
        let table = [
            (
                "pid",
                &self.pid,
                "its processes are what a container ends with",
                "`cask debug CONTAINER` is among the processes of another",
            ),
            (
                "ipc",
                &self.ipc,
                "shared memory of other programs is out of a container's reach",
                "a volume is for two containers",
            ),
            (
                "uts",
                &self.uts,
                "a container's host name is its own",
                "`--hostname`, or `--network host`, which has the machine's",
            ),
            (
                "cgroupns",
                &self.cgroupns,
                "the machine's control groups are out of a container's sight",
                "",
            ),
        ];
        for (option, value, why, hint) in table {
            match (option, value.as_deref()) {
                (_, None | Some("private" | "")) | ("ipc", Some("shareable")) => {}
                (_, Some(value)) => {
                    return Err(refusal(&format!("--{option}={value}"), why, hint));
                }
            }
        }
        // Without root there is one user namespace, which is the store's.
        match self.userns.as_deref() {
            None | Some("host" | "auto" | "private" | "") => Ok(()),
            Some(other) => Err(refusal(
                &format!("--userns={other}"),
                "a store belongs to one id map, and its containers share it",
                "`--user-map` says to whom the files in mounts belong",
            )),
        }
    }
}

/// Refuses a map of users that can't be had; answers whether the container needs ids of its own
/// for it.
pub(super) fn check_user_map(wanted: &str, rung: Rung) -> Result<bool, Report> {
    let (why, hint) = match (wanted, rung) {
        ("auto", _) | ("none", Rung::Root) => return Ok(false),
        // All files are the caller's there.
        ("keep", Rung::SingleId) => return Ok(false),
        ("keep", Rung::SubIds | Rung::Outer) => return Ok(true),
        ("keep", _) => (
            "root's containers have the machine's ids, and users inside are those of the machine",
            "`--user $(id -u NAME):$(id -g NAME)` runs the program as that user; `-v SOURCE:TARGET:U` \
             gives a mount to the image's user",
        ),
        _ => (
            "an ordinary user has no power over the ids of the machine",
            "as root, users inside are those of the machine",
        ),
    };
    Err(refusal(&format!("--user-map={wanted}"), why, hint))
}

/// Parses `--sysctl`: only settings that belong to a namespace of the container.
pub(super) fn sysctl(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| "expected `NAME=VALUE`".to_owned())?;
    let parts = name.split('.');
    let fine = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    if !parts.clone().all(fine) {
        return Err(format!("`{name}` is no name of a kernel setting"));
    }
    const IPC: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    match name.starts_with("net.") || name.starts_with("fs.mqueue.") || IPC.contains(&name) {
        true => Ok((name.to_owned(), value.to_owned())),
        false => Err(format!(
            "`{name}` is the whole machine's; containers have their own of `net.*`, `fs.mqueue.*`, \
             `kernel.msg*`, `kernel.sem` and `kernel.shm*`"
        )),
    }
}

/// Refuses settings of a network that is not the container's own.
pub(super) fn check_sysctls(request: &Request) -> Result<(), Report> {
    let own = !matches!(request.network, Network::Host | Network::Container);
    let of_network = request
        .sysctls
        .iter()
        .find(|(name, _)| name.starts_with("net."));
    match of_network.filter(|_| !own) {
        Some((name, _)) => {
            let text = format!("`--sysctl {name}`: the network is not the container's own");
            Err(Report::wrong_use(text).hint("`--network private`"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_those_of_namespaces() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        let text = "net.ipv4.ip_forward=1";
        assert_eq!(sysctl(text), pair("net.ipv4.ip_forward", "1"));
        assert_eq!(sysctl("kernel.sem=1 2 3 4"), pair("kernel.sem", "1 2 3 4"));
        for (text, why) in [
            ("kernel.hostname=x", "whole machine's"),
            ("vm.swappiness=1", "whole machine's"),
            ("net..x=1", "no name"),
            ("net./etc=1", "no name"),
            ("net.x", "expected `NAME=VALUE`"),
        ] {
            assert!(sysctl(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn a_map_of_users_is_what_the_store_or_the_container_has() {
        for (map, rung, own_ids) in [
            ("auto", Rung::SubIds, Some(false)),
            ("none", Rung::Root, Some(false)),
            ("keep", Rung::SingleId, Some(false)),
            ("keep", Rung::SubIds, Some(true)),
            ("keep", Rung::Root, None),
            ("none", Rung::SingleId, None),
        ] {
            assert_eq!(check_user_map(map, rung).ok(), own_ids, "{map} {rung}");
        }
    }
}
