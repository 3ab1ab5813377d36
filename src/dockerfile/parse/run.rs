//! `RUN`, its flags and its mounts.

use super::super::error::{Error, ErrorKind};
use super::super::flags::Holds;
use super::super::instruction::{Device, Network, Run, Security};
use super::super::mount::{MountFault, MountSpec};
use super::super::span::Word;
use super::super::truth::go_bool;
use super::Request;

pub(super) fn parse(request: &Request<'_, '_>) -> Result<Run, Error> {
    let flags = request.flags(&[
        ("mount", Holds::List),
        ("network", Holds::Text),
        ("security", Holds::Text),
        ("device", Holds::List),
    ])?;
    let mut mounts = Vec::new();
    for value in flags.all("mount") {
        mounts.push(mount(request, value)?);
    }
    let mut devices = Vec::new();
    for value in flags.all("device") {
        devices.push(device(value).map_err(|why| {
            let kind = ErrorKind::Device {
                value: value.text.clone(),
                why,
            };
            request.error_at(kind, value.span)
        })?);
    }
    let network = flags
        .text("network")
        .map(|value| network(request, value))
        .transpose()?;
    let security = flags
        .text("security")
        .map(|value| security(request, value))
        .transpose()?;
    Ok(Run {
        command: request.command(request.split.rest.clone())?,
        heredocs: request.heredocs.clone(),
        mounts,
        network,
        security,
        devices,
    })
}

/// Reads a mount, and resolves it for its faults where no value waits for a variable.
fn mount(request: &Request<'_, '_>, value: &Word) -> Result<MountSpec, Error> {
    let fault = |fault: MountFault| {
        let error = request.error_at(ErrorKind::Mount(fault.error), fault.span);
        error.suggest(fault.suggestion)
    };
    let spec = MountSpec::parse(value).map_err(fault)?;
    if let Some(from) = spec.from.as_ref().filter(|from| has_variable(&from.text)) {
        return Err(request.error_at(ErrorKind::NoExpansion { key: "from" }, from.span));
    }
    if !spec.needs_expanding(request.line.escape) {
        spec.resolve(&mut |text| Ok(text.to_owned()))
            .map_err(fault)?;
    }
    Ok(spec)
}

/// Returns whether a text holds `$` and something behind it.
pub(super) fn has_variable(text: &str) -> bool {
    text.find('$').is_some_and(|at| at + 1 < text.len())
}

fn network(request: &Request<'_, '_>, value: Word) -> Result<Network, Error> {
    match value.text.as_str() {
        "default" => Ok(Network::Default),
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        _ => {
            let near = super::suggest::nearest(&value.text, ["default", "none", "host"]);
            let kind = ErrorKind::Network {
                value: value.text.clone(),
            };
            Err(request.error_at(kind, value.span).suggest(near))
        }
    }
}

fn security(request: &Request<'_, '_>, value: Word) -> Result<Security, Error> {
    match value.text.as_str() {
        "sandbox" => Ok(Security::Sandbox),
        "insecure" => Ok(Security::Insecure),
        _ => {
            let near = super::suggest::nearest(&value.text, ["sandbox", "insecure"]);
            let kind = ErrorKind::Security {
                value: value.text.clone(),
            };
            Err(request.error_at(kind, value.span).suggest(near))
        }
    }
}

/// Reads `name[,required[=bool]]`; `name=` may stand in front of the name.
fn device(value: &Word) -> Result<Device, &'static str> {
    let mut name = None;
    let mut required = false;
    for field in value.text.split(',') {
        match field.split_once('=') {
            None if field == "required" => required = true,
            Some(("required", text)) => {
                required = go_bool(text).ok_or("`required` is true or false")?;
            }
            Some(("name", text)) if name.is_none() => name = Some(text),
            // A CDI name has a `=` of its own.
            _ if name.is_none() => name = Some(field),
            _ => return Err("it names more than one device"),
        }
    }
    match name {
        Some(name) if !name.is_empty() => Ok(Device {
            name: name.to_owned(),
            required,
            span: value.span,
        }),
        _ => Err("it names no device"),
    }
}
