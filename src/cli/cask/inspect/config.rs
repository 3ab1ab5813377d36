//! `Config`: the program and what it is told, the image's defaults among it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::list;
use crate::cli::cask::ports;
use crate::image::Healthcheck;
use crate::runner::{self, Container, Request, VolumeSource};

/// What is to run, and what the container says of itself.
pub(super) fn value(container: &Container) -> Value {
    let config = &container.config;
    let (request, image) = (&config.request, &config.image_config);
    let key = |pair: &String| pair.split('=').next().unwrap_or_default().to_owned();
    let given: BTreeSet<String> = request.env.iter().map(key).collect();
    let inherited = image.env.iter().filter(|pair| !given.contains(&key(pair)));
    let env: Vec<&String> = request.env.iter().chain(inherited).collect();
    let mut labels = image.labels.clone();
    labels.extend(request.labels.clone());
    let [stdin, stdout, stderr] = request.wording.attached;
    let mut shown = json!({
        "Hostname": request.hostname.as_deref().unwrap_or(container.short_id()),
        "Domainname": request.domainname.as_deref().unwrap_or_default(),
        "User": request.user.as_deref().unwrap_or(&image.user),
        "AttachStdin": stdin,
        "AttachStdout": stdout,
        "AttachStderr": stderr,
    });
    let ports = exposed(container);
    if !ports.is_empty() {
        shown["ExposedPorts"] = Value::Object(ports);
    }
    let entrypoint = match &request.entrypoint {
        Some(program) if program.is_empty() => Value::Null,
        Some(program) => json!([program]),
        None => json!(image.entrypoint),
    };
    let cmd = match (request.args.is_empty(), &request.entrypoint) {
        (false, _) => json!(request.args),
        // It was for the image's own.
        (true, Some(_)) => Value::Null,
        (true, None) => json!(image.cmd),
    };
    let rest = json!({
        "Tty": request.tty,
        "OpenStdin": request.interactive,
        "StdinOnce": stdin,
        "Env": env,
        "Cmd": cmd,
        "Healthcheck": healthcheck(request, image.healthcheck.as_ref()),
        "Image": config.image_name,
        "Volumes": volumes(container),
        "WorkingDir": request.workdir.as_deref().unwrap_or(&image.working_dir),
        "Entrypoint": entrypoint,
        "OnBuild": list(&image.on_build),
        "Labels": labels,
        "StopSignal": request.stop_signal.as_ref().or(image.stop_signal.as_ref()),
        "StopTimeout": request.stop_timeout,
        "Shell": list(&image.shell),
    });
    // What docker leaves out when there is none.
    let left_out = ["Healthcheck", "StopSignal", "StopTimeout", "Shell"];
    if let (Value::Object(shown), Value::Object(rest)) = (&mut shown, rest) {
        let rest = rest.into_iter();
        shown.extend(rest.filter(|(key, value)| !(value.is_null() && left_out.contains(&&**key))));
    }
    shown
}

/// The image's ports, those of `--expose` and those that are published.
fn exposed(container: &Container) -> Map<String, Value> {
    let request = &container.config.request;
    let image = container.config.image_config.exposed_ports.keys().cloned();
    let published = request.publish.iter().map(ports::target);
    let all = image.chain(request.expose.iter().cloned()).chain(published);
    let all: BTreeSet<String> = all.collect();
    all.into_iter().map(|port| (port, json!({}))).collect()
}

/// Places of volumes without a name, the image's and those of `-v TARGET`.
fn volumes(container: &Container) -> Value {
    let config = &container.config;
    let asked = config.request.mounts.iter();
    let unnamed = asked.filter(|mount| {
        let in_fields = config.request.wording.mounts.contains(mount);
        mount.source == VolumeSource::Anonymous && !in_fields
    });
    let unnamed = unnamed.map(|mount| mount.target.display().to_string());
    let image = config.image_config.volumes.keys().cloned();
    let all: BTreeSet<String> = image.chain(unnamed).collect();
    match all.is_empty() {
        true => Value::Null,
        false => all.into_iter().map(|path| (path, json!({}))).collect(),
    }
}

/// The image's check with what the flags changed about it.
fn healthcheck(request: &Request, image: Option<&Healthcheck>) -> Option<Healthcheck> {
    let flags = &request.health;
    match *flags == Healthcheck::default() {
        true => image.cloned(),
        false => Some(runner::healthcheck(image, flags)),
    }
}
