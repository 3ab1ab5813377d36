//! `cask port` and what `cask inspect` shows of a container.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::{endpoints, ports};
use crate::cli::report::Report;
use crate::cli::{Session, ui};
use crate::runner::{self, Bound, Container, State, Status, VolumeMount, VolumeSource};
use crate::sandbox::{Limits, Swap};
use crate::store::Store;

/// Show where the ports of a container are reachable
#[derive(Debug, clap::Args)]
pub(super) struct Port {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// Only this port of it
    #[arg(value_name = "PORT[/PROTOCOL]", num_args = 0..=1, value_parser = ports::expose)]
    port: Vec<Vec<String>>,
}

impl Port {
    /// Shows them.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        let container = runner::find(&store, &self.container)?;
        let mut found = false;
        for bound in published(&container.state()?) {
            let inner = ports::inner(bound);
            match self.port.first() {
                None => ui::data(&format!("{inner} -> {}", bound.outer))?,
                Some(wanted) if wanted.contains(&inner) => {
                    found = true;
                    ui::data(&bound.outer.to_string())?;
                }
                Some(_) => {}
            }
        }
        match self.port.first() {
            Some(wanted) if !found => Err(Report::failed(format!(
                "no public port `{}` of `{}`",
                wanted.join(","),
                container.config.name
            ))),
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

/// Everything about a container, as docker's JSON; `None` if there is none of that name.
pub(super) fn value(store: &Store, text: &str, sized: bool) -> Result<Option<Value>, Report> {
    let container = match runner::find(store, text) {
        Ok(container) => container,
        Err(runner::Error::NoContainer { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let state = container.state()?;
    let config = &container.config;
    let (path, args) = config
        .command
        .split_first()
        .map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    let mut settings = endpoints::settings(store, &container, &state)?;
    settings.insert("Ports".to_owned(), open_ports(&container, &state));
    let mounts: Vec<Value> = config
        .mounts
        .iter()
        .map(|mount| mounted(store, mount))
        .collect();
    let mut shown = json!({
        "Id": container.id,
        "Created": config.created,
        "Path": path,
        "Args": args,
        "State": shown_state(&state),
        "Image": config.image.to_string(),
        "LogPath": container.log_dir().map(|dir| dir.display().to_string()).unwrap_or_default(),
        "Name": format!("/{}", config.name),
        "RestartCount": state.restarts,
        "Driver": "overlay",
        "Platform": "linux",
        "HostConfig": host_config(&container),
        "Mounts": mounts,
        "Config": shown_config(&container)?,
        "NetworkSettings": settings,
    });
    if sized {
        let size = runner::size(store, &container)?;
        shown["SizeRw"] = json!(size.written);
        shown["SizeRootFs"] = json!(size.written + size.image);
    }
    Ok(Some(shown))
}

/// What `run` asked for besides the program.
fn host_config(container: &Container) -> Value {
    let request = &container.config.request;
    let (policy, most) = request.restart.parts();
    let mut shown = json!({
        "NetworkMode": endpoints::first(request),
        "PortBindings": bindings(container),
        "RestartPolicy": { "Name": policy, "MaximumRetryCount": most },
        "AutoRemove": request.remove,
        "LogConfig": { "Type": request.log.driver.word() },
        "ReadonlyRootfs": request.read_only,
        "Init": request.init,
        "PublishAllPorts": request.publish_all,
        "Annotations": request.annotations,
        "Dns": request.dns,
        "DnsOptions": request.dns_options,
        "DnsSearch": request.dns_search,
        "OomScoreAdj": request.oom_score_adj.unwrap_or(0),
        "Sysctls": request.sysctls.iter().cloned().collect::<BTreeMap<_, _>>(),
        "ExtraHosts": request.hosts.iter().map(|(h, a)| format!("{h}:{a}")).collect::<Vec<_>>(),
    });
    if let (Value::Object(shown), Value::Object(limits)) =
        (&mut shown, limits(&request.isolation.limits))
    {
        shown.extend(limits);
    }
    shown
}

/// Limits in docker's words: 0 where there is none.
fn limits(limits: &Limits) -> Value {
    let swap = match limits.total() {
        Some(Swap::Total(total)) => json!(total),
        Some(Swap::Unlimited) => json!(-1),
        None => json!(0),
    };
    json!({
        "Memory": limits.memory.unwrap_or(0),
        "MemorySwap": swap,
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        // Docker counts billionths.
        "NanoCpus": limits.cpus.map_or(0, |cpus| cpus.saturating_mul(10_000)),
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "CpuPeriod": limits.cpu_period.unwrap_or(0),
        "CpuQuota": limits.cpu_quota.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus.as_deref().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.as_deref().unwrap_or_default(),
        "PidsLimit": limits.pids,
        "BlkioWeight": limits.blkio_weight.unwrap_or(0),
    })
}

fn shown_state(state: &State) -> Value {
    let zero = "0001-01-01T00:00:00Z";
    let mut shown = json!({
        "Status": state.status.word(),
        "Running": state.status.is_up(),
        "Paused": state.status == Status::Paused,
        "Restarting": state.status == Status::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": state.status == Status::Dead,
        "Pid": state.pid.unwrap_or(0),
        "ExitCode": state.exit_code.unwrap_or(0),
        "Error": state.error.as_deref().unwrap_or_default(),
        "StartedAt": state.started.as_deref().unwrap_or(zero),
        "FinishedAt": state.finished.as_deref().unwrap_or(zero),
    });
    if let Some(health) = &state.health {
        let log: Vec<Value> = health
            .log
            .iter()
            .map(|checked| {
                json!({
                    "Start": checked.start,
                    "End": checked.end,
                    "ExitCode": checked.exit_code,
                    "Output": checked.output,
                })
            })
            .collect();
        shown["Health"] = json!({
            "Status": health.status.word(),
            "FailingStreak": health.failing_streak,
            "Log": log,
        });
    }
    shown
}

fn shown_config(container: &Container) -> Result<Value, Report> {
    let config = &container.config;
    let request = &config.request;
    let mut shown = serde_json::to_value(&config.image_config)?;
    let mut env = config.image_config.clone();
    for pair in &request.env {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        env.set_env(key, value);
    }
    let mut labels = config.image_config.labels.clone();
    labels.extend(request.labels.clone());
    let fields = json!({
        "Hostname": request.hostname.as_deref().unwrap_or(&container.id[..12]),
        "Domainname": request.domainname.as_deref().unwrap_or_default(),
        "User": request.user.as_deref().unwrap_or(&config.image_config.user),
        "Tty": request.tty,
        "OpenStdin": request.interactive,
        "StdinOnce": request.interactive,
        "Env": env.env,
        "Cmd": if request.args.is_empty() { json!(config.image_config.cmd) } else { json!(request.args) },
        "Image": config.image_name,
        "WorkingDir": request.workdir.as_deref().unwrap_or(&config.image_config.working_dir),
        "Entrypoint": request.entrypoint.as_ref().map_or_else(
            || json!(config.image_config.entrypoint), |program| json!([program])),
        "Labels": labels,
    });
    if let (Value::Object(shown), Value::Object(fields)) = (&mut shown, fields) {
        shown.extend(fields);
    }
    Ok(shown)
}

/// What `-p` asked for.
fn bindings(container: &Container) -> Value {
    let mut ports = Map::new();
    for port in &container.config.request.publish {
        let outer = match (port.host_port, port.spare) {
            (None, _) => String::new(),
            (Some(first), 0) => first.to_string(),
            (Some(first), spare) => format!("{first}-{}", first + spare),
        };
        let ip = port.host_ip.map_or_else(String::new, |ip| ip.to_string());
        let inner = format!("{}/{}", port.port, port.protocol.word());
        add_port(&mut ports, inner, &ip, &outer);
    }
    Value::Object(ports)
}

/// What leads into the container right now; `null` for a port that nothing leads to.
fn open_ports(container: &Container, state: &State) -> Value {
    let mut ports = Map::new();
    let bound = published(state);
    for bound in bound {
        let (ip, outer) = (bound.outer.ip().to_string(), bound.outer.port().to_string());
        add_port(&mut ports, ports::inner(bound), &ip, &outer);
    }
    if state.status.is_up() {
        let closed = ports::unpublished(container, bound).into_iter();
        ports.extend(closed.map(|port| (port, Value::Null)));
    }
    Value::Object(ports)
}

fn add_port(ports: &mut Map<String, Value>, inner: String, ip: &str, outer: &str) {
    let entry = ports.entry(inner).or_insert_with(|| json!([]));
    if let Value::Array(list) = entry {
        list.push(json!({ "HostIp": ip, "HostPort": outer }));
    }
}

/// Ports of the machine that lead into a container while it is up.
pub(super) fn published(state: &State) -> &[Bound] {
    match state.status.is_up() {
        true => &state.ports,
        false => &[],
    }
}

fn mounted(store: &Store, mount: &VolumeMount) -> Value {
    let (kind, name, source) = match &mount.source {
        VolumeSource::Bind(path) => ("bind", None, path.display().to_string()),
        VolumeSource::Named(name) => {
            let dir = runner::data_dir(store, name);
            ("volume", Some(name.as_str()), dir.display().to_string())
        }
        VolumeSource::Anonymous => ("volume", None, String::new()),
        VolumeSource::Tmpfs(_) => ("tmpfs", None, String::new()),
    };
    let mut shown = json!({
        "Type": kind,
        "Source": source,
        "Destination": mount.target.display().to_string(),
        "Mode": "",
        "RW": !mount.read_only,
        "Propagation": match (kind, mount.follows) {
            ("bind", _) if mount.shares => "rshared",
            ("bind", true) => "rslave",
            ("bind", false) => "rprivate",
            _ => "",
        },
    });
    if let Some(name) = name {
        shown["Name"] = json!(name);
        shown["Driver"] = json!("local");
    }
    shown
}
