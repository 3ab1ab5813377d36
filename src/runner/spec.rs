//! What a container is to be: flags and image config in, a sandbox plan out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::image::{ContainerConfig, Healthcheck};
use crate::sandbox::network::{Protocol, Published, Reach, addresses};
use crate::sandbox::{
    self, Access, IdSwap, Isolation, Mount, MountKind, Overlay, Plan, Propagation, Rootfs, Source,
    UserSpec, WindowSize, WorkDir,
};

use super::container::Config;
use super::debug::Debugged;
use super::error::Error;
use super::memory::Memory;
use super::networks::Attachment;
use super::restart::Restart;
use super::volumes::{VolumeMount, VolumeSource};
use super::wording::Wording;

/// What docker and podman call the machine inside a container.
const HOST_NAMES: [&str; 2] = ["host.docker.internal", "host.containers.internal"];

/// PATH of a container whose image sets none, as docker has it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a container can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// What the caller can reach, from a network of its own.
    Private,
    /// What the caller can reach.
    Host,
    /// A loopback interface of its own.
    None,
    /// The networks of users that it is on, and what they lead to.
    Named,
    /// That of another container, which [`Request::shares`] names.
    Container,
}

/// Where a container's output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// In the container's directory, until it is removed. The name is docker's.
    JsonFile,
    /// There, and in systemd's journal.
    Journald,
    /// Nowhere.
    None,
}

/// `--log-driver` and `--log-opt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Where to.
    pub driver: LogDriver,
    /// Bytes of one file.
    pub max_size: u64,
    /// Files that are kept.
    pub max_files: u64,
}

impl LogDriver {
    /// Returns docker's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::Journald => "journald",
            Self::None => "none",
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            driver: LogDriver::JsonFile,
            max_size: 10 << 20,
            max_files: 5,
        }
    }
}

/// A port that is reachable from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Address of the host; all of them when `None`.
    pub host_ip: Option<IpAddr>,
    /// Port of the host; any free one when `None`.
    pub host_port: Option<u16>,
    /// How many of the ports behind that may be taken in its place.
    pub spare: u16,
    /// Port in the container.
    pub port: u16,
    /// What it carries.
    pub protocol: Protocol,
}

impl Publish {
    /// Returns where it leads.
    pub fn inner(&self) -> Published {
        Published {
            port: self.port,
            protocol: self.protocol,
        }
    }
}

/// What `run` asks for. Everything but `image` has docker's default when left alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// Name or id of the image.
    pub image: String,
    /// What follows the image: replaces CMD.
    pub args: Vec<String>,
    /// `--name`.
    pub name: Option<String>,
    /// `--entrypoint`: replaces ENTRYPOINT and clears CMD; empty means none.
    pub entrypoint: Option<String>,
    /// `-e`, `KEY=value`; a `KEY` alone was looked up by the caller.
    pub env: Vec<String>,
    /// `-w`.
    pub workdir: Option<String>,
    /// `-u`.
    pub user: Option<String>,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `--domainname`.
    pub domainname: Option<String>,
    /// `-v`, `--mount`, `--tmpfs`.
    pub mounts: Vec<VolumeMount>,
    /// `--network`.
    pub network: Network,
    /// Networks that users defined, the first one the way to the world.
    pub networks: Vec<Attachment>,
    /// Id of the container whose network is used.
    pub shares: Option<String>,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub interactive: bool,
    /// How far the program is shut in.
    pub isolation: Isolation,
    /// `--rm`.
    pub remove: bool,
    /// `--read-only`.
    pub read_only: bool,
    /// `-l`.
    pub labels: BTreeMap<String, String>,
    /// `--init`: ours is pid 1, and the program its child.
    pub init: bool,
    /// `--restart`.
    pub restart: Restart,
    /// `--stop-signal`.
    pub stop_signal: Option<String>,
    /// `--stop-timeout`, in seconds.
    pub stop_timeout: Option<i64>,
    /// `--health-*`: what is set wins over the image.
    pub health: Healthcheck,
    /// `--log-driver`, `--log-opt`.
    pub log: Log,
    /// `--expose`, as `80/tcp`.
    pub expose: Vec<String>,
    /// `-p`.
    pub publish: Vec<Publish>,
    /// `-P`.
    pub publish_all: bool,
    /// `--add-host`: names and their addresses.
    pub hosts: Vec<(String, String)>,
    /// `--dns`; empty is the caller's.
    pub dns: Vec<IpAddr>,
    /// `--dns-search`; empty is the caller's, `.` alone is none.
    pub dns_search: Vec<String>,
    /// `--dns-option`; empty is the caller's.
    pub dns_options: Vec<String>,
    /// `--sysctl`: names and values.
    pub sysctls: Vec<(String, String)>,
    /// `--oom-score-adj`.
    pub oom_score_adj: Option<i32>,
    /// `--annotation`: kept to be shown.
    pub annotations: BTreeMap<String, String>,
    /// What `inspect` shows as it was said.
    pub wording: Wording,
    /// `--user-map=keep`, where the caller is another inside: the container's user is the caller.
    pub keep: bool,
    /// `debug`: what its tools look at.
    pub debugged: Option<Debugged>,
}

impl Request {
    /// Asks for `image` with docker's defaults, on the host's network.
    pub fn new(image: &str) -> Self {
        Self {
            image: image.to_owned(),
            args: Vec::new(),
            name: None,
            entrypoint: None,
            env: Vec::new(),
            workdir: None,
            user: None,
            hostname: None,
            domainname: None,
            mounts: Vec::new(),
            network: Network::Host,
            networks: Vec::new(),
            shares: None,
            tty: false,
            interactive: false,
            isolation: Isolation::default(),
            remove: false,
            read_only: false,
            labels: BTreeMap::new(),
            init: true,
            restart: Restart::No,
            stop_signal: None,
            stop_timeout: None,
            health: Healthcheck::default(),
            log: Log::default(),
            expose: Vec::new(),
            publish: Vec::new(),
            publish_all: false,
            hosts: Vec::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            sysctls: Vec::new(),
            oom_score_adj: None,
            annotations: BTreeMap::new(),
            wording: Wording::default(),
            keep: false,
            debugged: None,
        }
    }
}

impl Default for Request {
    /// What older versions wrote lacks fields; they have docker's defaults then.
    fn default() -> Self {
        Self::new("")
    }
}

/// Combines ENTRYPOINT and CMD with what the command line gives, as docker does.
pub(super) fn command(request: &Request, image: &ContainerConfig) -> Result<Vec<String>, Error> {
    let image_entrypoint = image.entrypoint.clone().unwrap_or_default();
    let image_cmd = image.cmd.clone().unwrap_or_default();
    let (entrypoint, cmd) = match &request.entrypoint {
        Some(program) if program.is_empty() => (Vec::new(), Vec::new()),
        Some(program) => (vec![program.clone()], Vec::new()),
        None => (image_entrypoint, image_cmd),
    };
    let tail = if request.args.is_empty() {
        cmd
    } else {
        request.args.clone()
    };
    let argv: Vec<String> = entrypoint.into_iter().chain(tail).collect();
    match (argv.is_empty(), &request.debugged) {
        (false, _) => Ok(argv),
        (true, Some(_)) => Ok(vec!["/bin/sh".to_owned()]),
        (true, None) => Err(Error::NoCommand),
    }
}

/// The environment: docker's own, then the image's, then the caller's.
fn environment(
    request: &Request,
    image: &ContainerConfig,
    hostname: &str,
) -> Vec<(String, String)> {
    let mut env = ContainerConfig::default();
    env.set_env("PATH", DEFAULT_PATH);
    env.set_env("HOSTNAME", hostname);
    if request.tty {
        env.set_env("TERM", "xterm");
    }
    for pair in image.env.iter().chain(&request.env) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        env.set_env(key, value);
    }
    let split = |pair: &String| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key.to_owned(), value.to_owned())
    };
    env.env.iter().map(split).collect()
}

/// What the plan needs to know of the host.
#[derive(Debug)]
pub(super) struct Ground {
    /// Unpacked layers, bottom first.
    pub(super) trees: Vec<PathBuf>,
    /// The container's directory.
    pub(super) dir: PathBuf,
    /// The store's volumes.
    pub(super) volumes: PathBuf,
    /// Whether overlayfs keeps its marks in `user.overlay.*`.
    pub(super) user_xattr: bool,
    /// Whether owners are remembered.
    pub(super) remember_owners: bool,
    /// The caller's `/etc/resolv.conf`.
    pub(super) resolv_conf: Vec<u8>,
    /// The caller's host name, for the host network.
    pub(super) hostname: String,
    /// Its addresses on networks of users.
    pub(super) leased: Vec<IpAddr>,
    /// Whose network it is, if not its own.
    pub(super) other: Option<Other>,
    /// The caller's terminal.
    pub(super) window: Option<WindowSize>,
    /// What shows the files that are looked at, if some are.
    pub(super) target: Option<Mount>,
}

/// A container whose network another one uses: what it is called and knows is the same in both.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) id: String,
    pub(super) request: Request,
    pub(super) leased: Vec<IpAddr>,
}

/// Decides what the sandbox looks like.
pub(super) fn plan(id: &str, config: &Config, ground: Ground) -> Result<Plan, Error> {
    let (request, image) = (&config.request, &config.image_config);
    let rootfs = Rootfs::Overlay(Overlay {
        lowers: ground.trees.into_iter().rev().collect(),
        upper: ground.dir.join("upper"),
        work: ground.dir.join("work"),
        userxattr: ground.user_xattr,
        volatile: request.remove,
        old_mount_api: false,
    });
    let own = Other {
        id: id.to_owned(),
        request: request.clone(),
        leased: ground.leased,
    };
    let seen = ground.other.unwrap_or(own);
    let hostname = match (&seen.request.hostname, seen.request.network) {
        (Some(name), _) => name.clone(),
        (None, Network::Host) => ground.hostname,
        (None, _) => seen.id[..12].to_owned(),
    };
    let argv = command(request, image)?;
    let mut plan = Plan::new(rootfs, argv.iter().map(OsString::from).collect());
    let pair = |(key, value): (String, String)| (key.into(), value.into());
    plan.env = environment(request, image, &hostname)
        .into_iter()
        .map(pair)
        .collect();
    plan.remember_owners = ground.remember_owners;
    plan.ids = config.ids;
    plan.init = request.init;
    plan.read_only_root = request.read_only;
    let workdir = request.workdir.as_deref().unwrap_or(&image.working_dir);
    let workdir = if workdir.is_empty() { "/" } else { workdir };
    plan.cwd = WorkDir {
        path: Path::new("/").join(workdir),
        create: true,
    };
    plan.user = UserSpec(request.user.clone().unwrap_or_else(|| image.user.clone()));
    plan.network = match request.network {
        Network::Container if seen.request.network == Network::Host => sandbox::Network::Host,
        // The one descriptor that comes along.
        Network::Private | Network::Named | Network::Container => sandbox::Network::Join(0),
        Network::Host => sandbox::Network::Host,
        Network::None => sandbox::Network::None,
    };
    if let Some(Debugged::Running(_)) = &request.debugged {
        // Their descriptors come behind that of the network.
        let behind = usize::from(matches!(plan.network, sandbox::Network::Join(_)));
        plan.processes = sandbox::Processes::Join(behind);
    }
    let mounts = config.mounts.iter();
    plan.mounts = mounts
        .map(|mount| mounted(mount, &ground.volumes))
        .chain(ground.target)
        .map(|mount| owned(mount, config.ids.unwrap_or_default()))
        .collect();
    let covered = |path: &str| {
        let mut targets = config.mounts.iter().map(|mount| &mount.target);
        targets.any(|target| target == Path::new(path))
    };
    let files = [
        ("/etc/hostname", format!("{hostname}\n").into_bytes()),
        ("/etc/hosts", hosts(&hostname, &seen.request, &seen.leased)),
        (
            "/etc/resolv.conf",
            resolv_conf(ground.resolv_conf, &seen.request),
        ),
    ];
    for (path, content) in files.into_iter().filter(|(path, _)| !covered(path)) {
        plan.mounts.push(Mount::file(path, content, 0o644));
    }
    request.isolation.apply(&mut plan);
    plan.hostname = Some(hostname);
    plan.domainname.clone_from(&request.domainname);
    plan.sysctls.clone_from(&request.sysctls);
    plan.oom_score_adj = request.oom_score_adj;
    plan.tty = request.tty.then_some(ground.window).flatten();
    Ok(plan)
}

/// What a mount is in a plan; named volumes lie below `volumes`.
pub fn mounted(mount: &VolumeMount, volumes: &Path) -> Mount {
    let bind = |source: PathBuf| Mount::bind(Source::Path(source), &mount.target);
    let mut made = match (&mount.source, &mount.memory) {
        (VolumeSource::Tmpfs(memory), _) | (VolumeSource::Named(_), Some(memory)) => {
            in_memory(mount, memory)
        }
        (VolumeSource::Bind(path), _) => {
            let mut made = bind(path.clone());
            if let MountKind::Bind { recursive, .. } = &mut made.kind {
                *recursive = !mount.shallow;
            }
            made
        }
        (VolumeSource::Named(name), None) => {
            let dir = volumes.join(name).join("_data");
            match mount.subpath.clone() {
                None => bind(dir),
                Some(path) => Mount::bind(Source::Below { dir, path }, &mount.target),
            }
        }
        // Has got its name when the container was made.
        (VolumeSource::Anonymous, _) => Mount::tmpfs(&mount.target, None),
    };
    made.access.read_only |= mount.read_only;
    made.give = mount.give;
    made.propagation = match (mount.shares, mount.follows) {
        (true, _) => Propagation::Shared,
        (false, true) => Propagation::Follows,
        (false, false) => Propagation::Private,
    };
    made
}

/// Gives a mount that is memory to whom it is to belong in the container; it is made outside.
fn owned(mut mount: Mount, ids: IdSwap) -> Mount {
    if let MountKind::Tmpfs { owner, .. } = &mut mount.kind {
        *owner = ids.owner(*owner);
    }
    mount
}

fn in_memory(mount: &VolumeMount, memory: &Memory) -> Mount {
    let mut made = Mount::tmpfs(&mount.target, None);
    made.kind = MountKind::Tmpfs {
        size: memory.size,
        inodes: memory.inodes,
        mode: memory.mode.unwrap_or(0o1777),
        owner: (memory.uid, memory.gid),
    };
    made.access = Access {
        read_only: memory.read_only,
        nosuid: !memory.suid,
        nodev: !memory.dev,
        noexec: !memory.exec,
    };
    made
}

/// What a private network reaches besides the world; none for another network.
pub(super) fn reach(request: &Request) -> Option<Reach> {
    (request.network == Network::Private).then(|| asked_reach(request))
}

/// What a container is to reach besides the world.
pub(super) fn asked_reach(request: &Request) -> Reach {
    let mut hosts = request.hosts.iter().map(|(_, address)| address);
    let host_loopback = hosts.any(|address| address == addresses::HOST_GATEWAY);
    Reach { host_loopback }
}

/// The name servers the container asks.
fn resolv_conf(callers: Vec<u8>, request: &Request) -> Vec<u8> {
    let words = |word: &str, given: &[String]| match given {
        [] => String::new(),
        [none] if none == "." => String::new(),
        given => format!("{word} {}\n", given.join(" ")),
    };
    let (search, options) = (&request.dns_search, &request.dns_options);
    let asks_callers = matches!(request.network, Network::Host | Network::None);
    if asks_callers && request.dns.is_empty() && search.is_empty() && options.is_empty() {
        return callers;
    }
    // What is given takes the place of the caller's.
    let replaced = |line: &&str| match line.split_whitespace().next() {
        Some("search" | "domain") => search.is_empty(),
        Some("options") => options.is_empty(),
        _ => true,
    };
    let callers = String::from_utf8_lossy(&callers);
    let kept = callers.lines().filter(replaced);
    let mut callers: String = kept.map(|line| format!("{line}\n")).collect();
    callers.push_str(&words("search", search));
    callers.push_str(&words("options", options));
    if asks_callers && request.dns.is_empty() {
        return callers.into_bytes();
    }
    if request.network != Network::Named {
        return addresses::resolv_conf(&callers, &request.dns).into_bytes();
    }
    // The network asks the others for what is nobody's on it. A name without a dot is one of
    // its containers', so it is asked for as it stands first.
    let mut text = addresses::resolv_conf(&callers, &[]);
    if !text.contains("ndots:") {
        text.push_str("options ndots:0\n");
    }
    text.into_bytes()
}

fn hosts(hostname: &str, request: &Request, leased: &[IpAddr]) -> Vec<u8> {
    let mut own: Vec<IpAddr> = match request.network {
        Network::Private => vec![addresses::GUEST.into()],
        Network::Host | Network::None => vec![Ipv4Addr::new(127, 0, 1, 1).into()],
        Network::Named | Network::Container => Vec::new(),
    };
    own.extend(leased);
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    let full = request.domainname.as_ref();
    let full = full.map_or_else(String::new, |domain| format!("{hostname}.{domain} "));
    for own in own {
        text.push_str(&format!("{own}\t{full}{hostname}\n"));
    }
    if matches!(request.network, Network::Private | Network::Named) {
        let named = |name: &&&str| !request.hosts.iter().any(|(host, _)| host == **name);
        for name in HOST_NAMES.iter().filter(named) {
            text.push_str(&format!("{}\t{name}\n", addresses::GATEWAY));
        }
    }
    for (host, address) in &request.hosts {
        let address = addresses::host_address(address, request.network != Network::Host);
        text.push_str(&format!("{address}\t{host}\n"));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(entrypoint: &[&str], cmd: &[&str]) -> ContainerConfig {
        let list = |words: &[&str]| {
            (!words.is_empty()).then(|| words.iter().map(ToString::to_string).collect())
        };
        ContainerConfig {
            entrypoint: list(entrypoint),
            cmd: list(cmd),
            ..ContainerConfig::default()
        }
    }

    fn combined(entrypoint: Option<&str>, args: &[&str], image: &ContainerConfig) -> String {
        let mut request = Request::new("x");
        request.entrypoint = entrypoint.map(str::to_owned);
        request.args = args.iter().map(ToString::to_string).collect();
        command(&request, image).map_or_else(|error| error.to_string(), |argv| argv.join(" "))
    }

    #[test]
    fn entrypoint_and_cmd_combine_as_docker_does() {
        let both = image(&["ep"], &["cmd"]);
        assert_eq!(combined(None, &[], &both), "ep cmd");
        assert_eq!(combined(None, &["arg"], &both), "ep arg");
        assert_eq!(combined(Some("sh"), &[], &both), "sh");
        assert_eq!(combined(Some("sh"), &["-c", "x"], &both), "sh -c x");
        assert_eq!(combined(Some(""), &["x"], &both), "x");
        assert_eq!(combined(None, &["x"], &image(&[], &["cmd"])), "x");
        assert!(combined(None, &[], &image(&[], &[])).starts_with("no command"));
    }

    #[test]
    fn what_is_given_about_names_takes_the_place_of_the_callers() {
        let callers = b"nameserver 1.2.3.4\nsearch a b\noptions edns0\n";
        let text = |change: fn(&mut Request)| {
            let mut request = Request::new("x");
            change(&mut request);
            String::from_utf8(resolv_conf(callers.to_vec(), &request)).unwrap()
        };
        assert_eq!(text(|_| {}).as_bytes(), callers);
        let searched = text(|r| r.dns_search = vec!["c".into(), "d".into()]);
        assert_eq!(searched, "nameserver 1.2.3.4\noptions edns0\nsearch c d\n");
        let none = text(|r| {
            r.network = Network::Private;
            r.dns_search = vec![".".into()];
            r.dns_options = vec!["ndots:3".into()];
        });
        assert_eq!(none, "nameserver 10.217.93.3\noptions ndots:3\n");
    }

    #[test]
    fn the_callers_variables_win_over_the_images() {
        let mut config = image(&["x"], &[]);
        config.env = vec!["A=image".into(), "PATH=/bin".into()];
        let mut request = Request::new("x");
        request.env = vec!["A=caller".into(), "B=".into()];
        let env = environment(&request, &config, "h");
        let get = |name: &str| env.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
        assert_eq!(get("A"), Some("caller"));
        assert_eq!(get("PATH"), Some("/bin"));
        assert_eq!(
            (get("B"), get("HOSTNAME"), get("TERM")),
            (Some(""), Some("h"), None)
        );
    }
}
