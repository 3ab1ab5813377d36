//! `HostConfig`: what `run` asked for besides the program.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{add_port, list, propagation};
use crate::cli::cask::endpoints;
use crate::cli::cask::ports;
use crate::runner::{Container, Request, VolumeMount, VolumeSource};
use crate::sandbox::{Device, Isolation, Limits, Rlimit, Swap};

/// Bytes of `/dev/shm` where nobody says.
const SHM_SIZE: u64 = 64 << 20;

/// What was asked for, in docker's words and order.
pub(super) fn value(container: &Container) -> Value {
    let request = &container.config.request;
    let mut shown = Map::new();
    for part in [
        storage(request),
        place(request),
        rights(request),
        limits(&request.isolation.limits),
        things(&request.isolation, request.wording.privileged),
    ] {
        if let Value::Object(part) = part {
            shown.extend(part);
        }
    }
    // docker leaves these out when there are none.
    let rare = json!({
        "Annotations": request.annotations,
        "Mounts": request.wording.mounts.iter().map(asked_mount).collect::<Vec<_>>(),
        "Sysctls": request.sysctls.iter().cloned().collect::<BTreeMap<_, _>>(),
        "Tmpfs": request.wording.tmpfs,
    });
    if let Value::Object(rare) = rare {
        let is_empty = |value: &Value| match value {
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        shown.extend(rare.into_iter().filter(|(_, value)| !is_empty(value)));
    }
    Value::Object(shown)
}

fn storage(request: &Request) -> Value {
    let (policy, most) = request.restart.parts();
    let wording = &request.wording;
    let cidfile = wording.cidfile.as_ref();
    json!({
        "Binds": list(&wording.binds),
        "ContainerIDFile": cidfile.map_or_else(String::new, |path| path.display().to_string()),
        "LogConfig": { "Type": request.log.driver.word(), "Config": wording.log_options },
        "NetworkMode": endpoints::first(request),
        "PortBindings": bindings(request),
        "RestartPolicy": { "Name": policy, "MaximumRetryCount": most },
        "AutoRemove": request.remove,
        "VolumeDriver": "",
        "VolumesFrom": list(&wording.volumes_from),
        "ConsoleSize": [0, 0],
    })
}

fn place(request: &Request) -> Value {
    let wording = &request.wording;
    let hosts = request
        .hosts
        .iter()
        .map(|(host, ip)| format!("{host}:{ip}"));
    let mut groups = request.isolation.groups.extra.clone();
    if request.isolation.groups.keep {
        groups.push("keep-groups".to_owned());
    }
    json!({
        "CapAdd": list(&wording.cap_add),
        "CapDrop": list(&wording.cap_drop),
        "CgroupnsMode": "private",
        "Dns": request.dns,
        "DnsOptions": request.dns_options,
        "DnsSearch": request.dns_search,
        "ExtraHosts": list(&hosts.collect::<Vec<_>>()),
        "GroupAdd": list(&groups),
        "IpcMode": wording.ipc.as_deref().unwrap_or("private"),
        "Cgroup": "",
        "Links": null,
    })
}

fn rights(request: &Request) -> Value {
    let wording = &request.wording;
    let mut security = wording.security_opt.clone();
    if wording.privileged {
        security.push("label=disable".to_owned());
    }
    json!({
        "OomScoreAdj": request.oom_score_adj.unwrap_or(0),
        "PidMode": "",
        "Privileged": wording.privileged,
        "PublishAllPorts": request.publish_all,
        "ReadonlyRootfs": request.read_only,
        "SecurityOpt": list(&security),
        "UTSMode": "",
        "UsernsMode": wording.userns.as_deref().unwrap_or_default(),
        "ShmSize": request.isolation.shm_size.unwrap_or(SHM_SIZE),
        "Runtime": "cask",
        "Isolation": "",
        "Init": request.init,
    })
}

/// Limits in docker's words: 0 where there is none.
fn limits(limits: &Limits) -> Value {
    let swap = match limits.total() {
        Some(Swap::Total(total)) => json!(total),
        Some(Swap::Unlimited) => json!(-1),
        None => json!(0),
    };
    json!({
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "Memory": limits.memory.unwrap_or(0),
        // Docker counts billionths.
        "NanoCpus": limits.cpus.map_or(0, |cpus| cpus.saturating_mul(10_000)),
        "CgroupParent": "",
        "BlkioWeight": limits.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [],
        "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteIOps": [],
        "CpuPeriod": limits.cpu_period.unwrap_or(0),
        "CpuQuota": limits.cpu_quota.unwrap_or(0),
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": limits.cpuset_cpus.as_deref().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.as_deref().unwrap_or_default(),
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "MemorySwap": swap,
        "MemorySwappiness": null,
        "OomKillDisable": null,
        "PidsLimit": limits.pids,
    })
}

fn things(isolation: &Isolation, privileged: bool) -> Value {
    let [masked, read_only] = isolation.shut_paths();
    let paths = |paths: Vec<PathBuf>| match privileged {
        true => Value::Null,
        false => paths
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
    };
    let mut ulimits: Vec<&Rlimit> = isolation.rlimits.iter().collect();
    ulimits.sort_by_key(|limit| limit.resource.name());
    json!({
        "Devices": isolation.devices.iter().map(device).collect::<Vec<_>>(),
        "DeviceCgroupRules": null,
        "DeviceRequests": null,
        "Ulimits": ulimits.into_iter().map(ulimit).collect::<Vec<_>>(),
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "MaskedPaths": paths(masked),
        "ReadonlyPaths": paths(read_only),
    })
}

fn device(device: &Device) -> Value {
    json!({
        "PathOnHost": device.source.display().to_string(),
        "PathInContainer": device.target.display().to_string(),
        "CgroupPermissions": "rwm",
    })
}

fn ulimit(limit: &Rlimit) -> Value {
    // docker's word for no limit is -1.
    let number = |value: Option<u64>| value.map_or_else(|| json!(-1), |value| json!(value));
    json!({
        "Name": limit.resource.name(),
        "Hard": number(limit.hard),
        "Soft": number(limit.soft),
    })
}

/// A `--mount` as docker's API has it, what is not given being left out.
fn asked_mount(mount: &VolumeMount) -> Value {
    let (kind, source) = match &mount.source {
        VolumeSource::Bind(path) => ("bind", Some(path.display().to_string())),
        VolumeSource::Named(name) => ("volume", Some(name.clone())),
        VolumeSource::Anonymous => ("volume", None),
        VolumeSource::Tmpfs(_) => ("tmpfs", None),
    };
    let mut shown = json!({ "Type": kind });
    if let Some(source) = source {
        shown["Source"] = json!(source);
    }
    shown["Target"] = json!(mount.target.display().to_string());
    if mount.read_only {
        shown["ReadOnly"] = json!(true);
    }
    let (key, options) = mount_options(kind, mount);
    if !options.is_empty() {
        shown[key] = Value::Object(options);
    }
    shown
}

fn mount_options(kind: &str, mount: &VolumeMount) -> (&'static str, Map<String, Value>) {
    let mut options = Map::new();
    let mut set = |key: &str, value: Value| drop(options.insert(key.to_owned(), value));
    let key = match (kind, &mount.source) {
        ("bind", _) => {
            if mount.shares || mount.follows {
                set("Propagation", json!(propagation(mount)));
            }
            "BindOptions"
        }
        (_, VolumeSource::Tmpfs(memory)) => {
            if let Some(size) = memory.size {
                set("SizeBytes", json!(size));
            }
            if let Some(mode) = memory.mode {
                set("Mode", json!(mode));
            }
            "TmpfsOptions"
        }
        _ => {
            if mount.no_copy {
                set("NoCopy", json!(true));
            }
            if let Some(path) = &mount.subpath {
                set("Subpath", json!(path.display().to_string()));
            }
            if !mount.options.is_empty() {
                set("DriverConfig", json!({ "Options": mount.options }));
            }
            "VolumeOptions"
        }
    };
    (key, options)
}

/// What `-p` asked for.
fn bindings(request: &Request) -> Value {
    let mut all = Map::new();
    for port in &request.publish {
        let outer = match (port.host_port, port.spare) {
            (None, _) => String::new(),
            (Some(first), 0) => first.to_string(),
            (Some(first), spare) => format!("{first}-{}", first + spare),
        };
        let ip = port.host_ip.map_or_else(String::new, |ip| ip.to_string());
        add_port(&mut all, ports::target(port), &ip, &outer);
    }
    Value::Object(all)
}
