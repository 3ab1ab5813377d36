//! What `inspect` shows of a container: docker's JSON, field by field and in its order.
//!
//! Templates and scripts read it, so a list that docker shows as `null`, `[]` or not at all when
//! it is empty is the same here. What a daemon would know and nobody does here is as empty as
//! docker has it.

mod config;
mod host;

use std::path::Path;

use serde_json::{Map, Value, json};

use super::look::published;
use super::{endpoints, ports};
use crate::cli::report::Report;
use crate::runner::{self, Container, State, Status, VolumeMount, VolumeSource, Wording};
use crate::store::Store;

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
    let log_dir = container.log_dir().map(|dir| dir.display().to_string());
    let mut shown = json!({
        "Id": container.id,
        "Created": config.created,
        "Path": path,
        "Args": args,
        "State": shown_state(&state),
        "Image": config.image.to_string(),
        // These files are made anew for each start, in memory.
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": log_dir.unwrap_or_default(),
        "Name": format!("/{}", config.name),
        "RestartCount": state.restarts,
        "Driver": "overlay",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host::value(&container),
        "GraphDriver": graph_driver(&container),
    });
    if sized {
        let size = runner::size(store, &container)?;
        shown["SizeRw"] = json!(size.written);
        shown["SizeRootFs"] = json!(size.written + size.image);
    }
    let mounts = config
        .mounts
        .iter()
        .filter(|mount| is_listed(&container, mount));
    let wording = &config.request.wording;
    let mounts = mounts.map(|mount| mounted(store, mount, wording));
    shown["Mounts"] = mounts.collect();
    shown["Config"] = config::value(&container);
    let open = open_ports(&container, &state);
    shown["NetworkSettings"] = endpoints::settings(store, &container, &state, open)?.into();
    Ok(Some(shown))
}

/// `null` for a list without items.
fn list(items: &[String]) -> Value {
    match items.is_empty() {
        true => Value::Null,
        false => json!(items),
    }
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
        let log = health.log.iter().map(|checked| {
            json!({
                "Start": checked.start,
                "End": checked.end,
                "ExitCode": checked.exit_code,
                "Output": checked.output,
            })
        });
        shown["Health"] = json!({
            "Status": health.status.word(),
            "FailingStreak": health.failing_streak,
            "Log": log.collect::<Vec<_>>(),
        });
    }
    shown
}

/// Where its files are. The layers below are unpacked when they are needed, so they are not told.
fn graph_driver(container: &Container) -> Value {
    let [upper, work] = container.writable();
    json!({
        "Data": { "UpperDir": upper.display().to_string(), "WorkDir": work.display().to_string() },
        "Name": "overlay",
    })
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

/// As with docker, what `--tmpfs` made is told by `HostConfig` alone.
fn is_listed(container: &Container, mount: &VolumeMount) -> bool {
    let tmpfs = &container.config.request.wording.tmpfs;
    let target = mount.target.to_string_lossy();
    !(matches!(mount.source, VolumeSource::Tmpfs(_)) && tmpfs.contains_key(&*target))
}

fn mounted(store: &Store, mount: &VolumeMount, wording: &Wording) -> Value {
    let (kind, source) = match &mount.source {
        VolumeSource::Bind(path) => ("bind", path.display().to_string()),
        VolumeSource::Named(name) => {
            let dir = runner::data_dir(store, name);
            ("volume", dir.display().to_string())
        }
        VolumeSource::Anonymous => ("volume", String::new()),
        VolumeSource::Tmpfs(_) => ("tmpfs", String::new()),
    };
    let mut shown = Map::new();
    shown.insert("Type".to_owned(), json!(kind));
    if let VolumeSource::Named(name) = &mount.source {
        shown.insert("Name".to_owned(), json!(name));
    }
    shown.insert("Source".to_owned(), json!(source));
    let target = mount.target.display().to_string();
    shown.insert("Destination".to_owned(), json!(target));
    if kind == "volume" {
        shown.insert("Driver".to_owned(), json!("local"));
    }
    let mode = mode(mount, wording, kind == "volume");
    shown.insert("Mode".to_owned(), json!(mode));
    shown.insert("RW".to_owned(), json!(!mount.read_only));
    let propagation = match kind {
        "bind" => propagation(mount),
        _ => "",
    };
    shown.insert("Propagation".to_owned(), json!(propagation));
    Value::Object(shown)
}

/// The options of `-v` as they were given; docker adds its label to a volume that has none.
fn mode<'w>(mount: &VolumeMount, wording: &'w Wording, is_volume: bool) -> &'w str {
    let mut binds = wording.binds.iter().map(|bind| bind.splitn(3, ':'));
    let bind = binds.find_map(|mut parts| {
        let target = parts.nth(1)?;
        let options = parts.next().unwrap_or_default();
        (mount.target == Path::new(target)).then_some(options)
    });
    let in_fields = wording.mounts.iter();
    let mut in_fields = in_fields.filter(|asked| asked.target == mount.target);
    match (bind, in_fields.next().is_some()) {
        (Some(""), _) | (None, true) if is_volume => "z",
        (bind, _) => bind.unwrap_or_default(),
    }
}

fn propagation(mount: &VolumeMount) -> &'static str {
    match (mount.shares, mount.follows) {
        (true, _) => "rshared",
        (false, true) => "rslave",
        (false, false) => "rprivate",
    }
}
