//! Devices by name, from the specifications that the machine's administrator has installed.
//!
//! Reads the Container Device Interface (CDI) in JSON from `/etc/cdi` and `/var/run/cdi`, the
//! later directory first, as <https://github.com/cncf-tags/container-device-interface> says.
//! `vendor/class=device` is one device, `vendor/class=*` all of a kind, `vendor/class` the first.
//!
//! A device is environment, nodes and mounts. Hooks are programs of the host and are not run; the
//! caller is told of them. Files that are no CDI in JSON (YAML is one) are passed over.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where specifications are; of two devices of one name the later directory's counts.
const DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Longer files are none.
const CAP: u64 = 4 << 20;

/// What a program gets with its devices.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Edits {
    /// `KEY=value`.
    pub(super) env: Vec<String>,
    /// Device nodes.
    pub(super) device_nodes: Vec<Node>,
    /// Files and directories.
    pub(super) mounts: Vec<Mounted>,
    /// Programs of the host, of which only the number counts.
    pub(super) hooks: Vec<serde::de::IgnoredAny>,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Node {
    /// Where it is inside.
    pub(super) path: PathBuf,
    /// Where it is on the host, if elsewhere.
    pub(super) host_path: Option<PathBuf>,
}

/// A file or directory of the host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mounted {
    /// Where it is on the host.
    pub(super) host_path: PathBuf,
    /// Where it is inside.
    pub(super) container_path: PathBuf,
    /// Mount options; `ro` counts.
    #[serde(default)]
    pub(super) options: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    container_edits: Edits,
}

/// Returns what the device `name` is; `None` when no specification has it.
pub(super) fn find(name: &str) -> Option<Edits> {
    let specs: Vec<Spec> = DIRS
        .iter()
        .rev()
        .flat_map(|dir| read(Path::new(dir)))
        .collect();
    select(&specs, name)
}

/// The specifications in a directory, by the names of their files. One that can't be read says
/// nothing of any device.
fn read(dir: &Path) -> Vec<Spec> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
    files.sort();
    let parse = |file: &PathBuf| {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(file).ok()?;
        file.take(CAP).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    files.iter().filter_map(parse).collect()
}

fn select(specs: &[Spec], name: &str) -> Option<Edits> {
    let (kind, device) = name.split_once('=').unwrap_or((name, ""));
    let mut edits = Edits::default();
    let mut found = false;
    for spec in specs.iter().filter(|spec| spec.kind == kind) {
        let mut wanted = spec
            .devices
            .iter()
            .filter(|known| matches!(device, "" | "*") || known.name == device)
            .peekable();
        if wanted.peek().is_none() {
            continue;
        }
        edits.add(&spec.container_edits);
        for known in wanted {
            edits.add(&known.container_edits);
            found = true;
            if device != "*" {
                return Some(edits);
            }
        }
    }
    found.then_some(edits)
}

impl Edits {
    fn add(&mut self, more: &Self) {
        self.env.extend_from_slice(&more.env);
        self.device_nodes.extend_from_slice(&more.device_nodes);
        self.mounts.extend_from_slice(&more.mounts);
        self.hooks.extend_from_slice(&more.hooks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<Spec> {
        let texts = [
            r#"{"cdiVersion":"0.6.0","kind":"acme.com/gpu","containerEdits":{"env":["ALL=1"]},
                "devices":[
                  {"name":"0","containerEdits":{"env":["N=0"],"deviceNodes":[{"path":"/dev/g0","hostPath":"/dev/null"}]}},
                  {"name":"1","containerEdits":{"mounts":[{"hostPath":"/lib","containerPath":"/l","options":["ro"]}],
                   "hooks":[{"hookName":"createContainer","path":"/bin/x"}]}}]}"#,
            r#"{"cdiVersion":"0.6.0","kind":"acme.com/nic","devices":[{"name":"0","containerEdits":{}}]}"#,
        ];
        texts.map(|text| serde_json::from_str(text).unwrap()).into()
    }

    #[test]
    fn a_name_means_one_all_or_the_first() {
        let specs = specs();
        let env = |name| select(&specs, name).map(|edits| edits.env);
        assert_eq!(
            env("acme.com/gpu=0"),
            Some(vec!["ALL=1".into(), "N=0".into()])
        );
        assert_eq!(env("acme.com/gpu"), env("acme.com/gpu=0"));
        assert_eq!(env("acme.com/gpu=1"), Some(vec!["ALL=1".into()]));
        let all = select(&specs, "acme.com/gpu=*").unwrap();
        assert_eq!(
            (
                all.env.len(),
                all.device_nodes.len(),
                all.mounts.len(),
                all.hooks.len()
            ),
            (2, 1, 1, 1)
        );
        for none in ["acme.com/gpu=2", "acme.com/disk", "gpu", ""] {
            assert_eq!(env(none), None, "{none}");
        }
    }
}
