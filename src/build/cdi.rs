//! Devices by name, from the specifications that the machine's administrator has installed.
//!
//! Reads the Container Device Interface (CDI) in JSON and YAML from `/etc/cdi` and `/var/run/cdi`,
//! the later directory first, as <https://github.com/cncf-tags/container-device-interface> says.
//!
//! | name | devices |
//! |---|---|
//! | `vendor/class=device` | that one, or else those whose annotation [`CLASS`] is `device` |
//! | `vendor/class=*` | all of the kind |
//! | `vendor/class` | the one whose name comes first |
//!
//! A device is environment, nodes and mounts. Hooks are programs of the host and are not run; the
//! caller is told of them. Files that are no CDI are passed over.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde::Deserialize;
use serde_json::Value;

/// Where specifications are; of two devices of one name the later directory's counts.
const DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Longer files are none.
const CAP: u64 = 4 << 20;
/// Annotation of a device or of all devices of a file: a name that stands for several.
const CLASS: &str = "org.mobyproject.buildkit.device.class";
/// Annotation by which the machine's administrator lets every build have the device.
const ALLOWED: &str = "org.mobyproject.buildkit.device.autoallow";

type Annotations = BTreeMap<String, String>;

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
    annotations: Annotations,
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
    annotations: Annotations,
    #[serde(default)]
    container_edits: Edits,
}

/// A device and the file that it stands in.
#[derive(Debug, Clone, Copy)]
struct Known<'a> {
    spec: &'a Spec,
    device: &'a Device,
}

impl<'a> Known<'a> {
    fn annotation(&self, key: &str) -> Option<&'a str> {
        let own = self.device.annotations.get(key);
        own.or_else(|| self.spec.annotations.get(key))
            .map(String::as_str)
    }
}

/// Returns what the device `name` is; `None` when no specification has it.
pub(super) fn find(name: &str) -> Option<Edits> {
    edits(&select(&installed(), name))
}

/// Returns whether the administrator lets every build have what `name` means.
pub(super) fn is_allowed(name: &str) -> bool {
    all_allowed(&select(&installed(), name))
}

fn installed() -> Vec<Spec> {
    let dirs = DIRS.iter().rev();
    dirs.flat_map(|dir| read(Path::new(dir))).collect()
}

/// The specifications in a directory, by the names of their files. One that can't be read says
/// nothing of any device.
fn read(dir: &Path) -> Vec<Spec> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let parse = |file: &PathBuf| {
        let ending = file.extension()?.to_str()?;
        let mut text = String::new();
        let opened = std::fs::File::open(file).ok()?;
        opened.take(CAP).read_to_string(&mut text).ok()?;
        parse(ending, &text)
    };
    files.iter().filter_map(parse).collect()
}

fn parse(ending: &str, text: &str) -> Option<Spec> {
    match ending {
        "json" => serde_json::from_str(text).ok(),
        "yaml" | "yml" => {
            let documents = Yaml::load_from_str(text).ok()?;
            serde_json::from_value(json(documents.first()?)?).ok()
        }
        _ => None,
    }
}

/// The same in JSON, which is the form that the specification is written for; `None` for what JSON
/// has not.
fn json(yaml: &Yaml<'_>) -> Option<Value> {
    Some(match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => (*value).into(),
        Yaml::Value(Scalar::Integer(value)) => (*value).into(),
        Yaml::Value(Scalar::FloatingPoint(value)) => value.into_inner().into(),
        Yaml::Value(Scalar::String(text)) => text.as_ref().into(),
        Yaml::Sequence(items) => items.iter().map(json).collect::<Option<Vec<_>>>()?.into(),
        Yaml::Mapping(pairs) => {
            let pair =
                |(key, value): (&Yaml<'_>, _)| Some((key.as_str()?.to_owned(), json(value)?));
            Value::Object(pairs.iter().map(pair).collect::<Option<_>>()?)
        }
        Yaml::Tagged(_, value) => json(value)?,
        Yaml::Representation(..) | Yaml::Alias(_) | Yaml::BadValue => return None,
    })
}

/// Returns the devices that `name` means, by their names.
fn select<'a>(specs: &'a [Spec], name: &str) -> Vec<Known<'a>> {
    let (kind, wanted) = name.split_once('=').unwrap_or((name, ""));
    let mut devices = BTreeMap::new();
    for spec in specs.iter().filter(|spec| spec.kind == kind) {
        for device in &spec.devices {
            let name = device.name.as_str();
            devices.entry(name).or_insert(Known { spec, device });
        }
    }
    match (wanted, devices.get(wanted)) {
        ("", _) => devices.into_values().take(1).collect(),
        ("*", _) => devices.into_values().collect(),
        (_, Some(known)) => vec![*known],
        (class, None) => devices
            .into_values()
            .filter(|known| known.annotation(CLASS) == Some(class))
            .collect(),
    }
}

/// What the devices are together, with what their files say of all their devices, once.
fn edits(devices: &[Known<'_>]) -> Option<Edits> {
    let mut edits = Edits::default();
    let mut seen: Vec<*const Spec> = Vec::new();
    for Known { spec, device } in devices {
        if !seen.contains(&std::ptr::from_ref(*spec)) {
            seen.push(*spec);
            edits.add(&spec.container_edits);
        }
        edits.add(&device.container_edits);
    }
    (!devices.is_empty()).then_some(edits)
}

fn all_allowed(devices: &[Known<'_>]) -> bool {
    let allowed = |known: &Known<'_>| known.annotation(ALLOWED) == Some("true");
    !devices.is_empty() && devices.iter().all(allowed)
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
            (
                "json",
                r#"{"cdiVersion":"0.6.0","kind":"acme.com/gpu","containerEdits":{"env":["ALL=1"]},
                "devices":[
                  {"name":"1","annotations":{"org.mobyproject.buildkit.device.class":"small"},
                   "containerEdits":{"mounts":[{"hostPath":"/lib","containerPath":"/l","options":["ro"]}],
                   "hooks":[{"hookName":"createContainer","path":"/bin/x"}]}},
                  {"name":"0","containerEdits":{"env":["N=0"],"deviceNodes":[{"path":"/dev/g0","hostPath":"/dev/null"}]}}]}"#,
            ),
            (
                "yaml",
                "---\ncdiVersion: 0.6.0\nkind: acme.com/nic\nannotations:\n  \
                 org.mobyproject.buildkit.device.autoallow: \"true\"\n  \
                 org.mobyproject.buildkit.device.class: port\ndevices:\n\
                 - name: \"0\"\n  containerEdits:\n    env:\n    - NIC=0\n    deviceNodes:\n    \
                 - path: /dev/nic0\n      major: 1\n\
                 - name: all\n  annotations:\n    \
                 org.mobyproject.buildkit.device.autoallow: \"false\"\n  containerEdits: {}\n",
            ),
            (
                "json",
                r#"{"kind":"acme.com/gpu","devices":[{"name":"0"},{"name":"2"}]}"#,
            ),
        ];
        texts
            .map(|(ending, text)| parse(ending, text).unwrap())
            .into()
    }

    #[test]
    fn a_name_means_one_all_or_the_first() {
        let specs = specs();
        let found = |name| edits(&select(&specs, name));
        let env = |name| found(name).map(|edits| edits.env);
        assert_eq!(
            env("acme.com/gpu=0"),
            Some(vec!["ALL=1".into(), "N=0".into()])
        );
        assert_eq!(env("acme.com/gpu"), env("acme.com/gpu=0"));
        assert_eq!(env("acme.com/gpu=1"), Some(vec!["ALL=1".into()]));
        assert_eq!(env("acme.com/gpu=2"), Some(vec![]));
        let all = found("acme.com/gpu=*").unwrap();
        assert_eq!(
            (
                all.env.len(),
                all.device_nodes.len(),
                all.mounts.len(),
                all.hooks.len()
            ),
            (2, 1, 1, 1)
        );
        for none in ["acme.com/gpu=3", "acme.com/disk", "gpu", ""] {
            assert_eq!(env(none), None, "{none}");
        }
    }

    #[test]
    fn files_may_be_yaml() {
        let specs = specs();
        let nic = edits(&select(&specs, "acme.com/nic=0")).unwrap();
        assert_eq!(nic.env, ["NIC=0"]);
        assert_eq!(nic.device_nodes[0].path, Path::new("/dev/nic0"));
        for (ending, text) in [("yaml", ":\n- {"), ("yaml", "a: 1"), ("toml", "kind = 'a'")] {
            assert!(parse(ending, text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_class_stands_for_all_devices_that_name_it() {
        let specs = specs();
        let names = |name| {
            let known = select(&specs, name).into_iter();
            known.map(|k| k.device.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(names("acme.com/gpu=small"), ["1"]);
        assert_eq!(names("acme.com/nic=port"), ["0", "all"]);
        // A device of that name comes before a class.
        assert_eq!(names("acme.com/nic=all"), ["all"]);
        assert!(names("acme.com/gpu=port").is_empty());
    }

    #[test]
    fn the_administrator_may_let_every_build_have_a_device() {
        let specs = specs();
        let allowed = |name| all_allowed(&select(&specs, name));
        assert!(allowed("acme.com/nic=0"));
        for no in [
            "acme.com/nic=all",
            "acme.com/nic=*",
            "acme.com/gpu=0",
            "acme.com/none",
        ] {
            assert!(!allowed(no), "{no}");
        }
    }
}
