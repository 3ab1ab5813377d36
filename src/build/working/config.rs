//! What `config` and `commit` change in the config of a working container: pure.

use crate::image::{Empty, Healthcheck};

use super::super::error::Error;
use super::container::{Config, Container};
use super::copy::note;

/// One change of a container's config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An annotation of the manifest, or none of this key.
    Annotation(String, Option<String>),
    /// No annotations.
    NoAnnotations,
    /// The CPU architecture.
    Arch(String),
    /// The operating system.
    Os(String),
    /// The version of the operating system.
    OsVersion(String),
    /// Something that the operating system must have.
    OsFeature(String),
    /// The variant of the architecture; empty is none.
    Variant(String),
    /// Who made the image.
    Author(String),
    /// The default command.
    Cmd(Vec<String>),
    /// The program that the command is for; empty is none. The command goes, as in a Dockerfile.
    Entrypoint(Vec<String>),
    /// A variable, or none of this name.
    Env(String, Option<String>),
    /// No variables.
    NoEnv,
    /// A label, or none of this key.
    Label(String, Option<String>),
    /// No labels.
    NoLabels,
    /// Whether a port such as `80/tcp` is exposed.
    Port(String, bool),
    /// No ports.
    NoPorts,
    /// Whether a path is a volume.
    Volume(String, bool),
    /// No volumes.
    NoVolumes,
    /// The user.
    User(String),
    /// The directory that programs start in.
    Workdir(String),
    /// The signal that asks a container to stop.
    StopSignal(String),
    /// The shell of instructions that need one.
    Shell(Vec<String>),
    /// An instruction for builds on top of the image.
    OnBuild(String),
    /// No such instructions.
    NoOnBuild,
    /// A field of the health check.
    Health(Health),
    /// The host name of programs.
    Hostname(String),
    /// The NIS domain name of programs.
    Domainname(String),
    /// `created_by` of the layer to be.
    CreatedBy(String),
    /// `comment` of the layer to be.
    Comment(String),
    /// An entry of the history without a layer.
    Note(String),
}

/// A field of the health check; times are in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    Test(Vec<String>),
    /// Time between checks.
    Interval(i64),
    /// Time a check may take.
    Timeout(i64),
    /// Time the container may take to start.
    StartPeriod(i64),
    /// Time between checks while it starts.
    StartInterval(i64),
    /// Failures in a row until it is unhealthy.
    Retries(i64),
}

impl Container {
    /// Changes the config, in order.
    pub fn configure(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        self.change(|config| {
            for change in changes {
                apply(config, change);
            }
        })
    }
}

/// Applies one change.
pub(super) fn apply(config: &mut Config, change: Change) {
    let image = &mut config.config;
    let own = &mut image.config;
    match change {
        Change::Annotation(key, value) => set(&mut config.annotations, key, value),
        Change::NoAnnotations => config.annotations.clear(),
        Change::Arch(text) => image.architecture = text,
        Change::Os(text) => image.os = text,
        Change::OsVersion(text) => image.os_version = Some(text),
        Change::OsFeature(text) => image.os_features.push(text),
        Change::Variant(text) => image.variant = Some(text).filter(|text| !text.is_empty()),
        Change::Author(text) => image.author = Some(text),
        Change::Cmd(words) => own.cmd = Some(words),
        Change::Entrypoint(words) => {
            own.entrypoint = Some(words).filter(|words| !words.is_empty());
            own.cmd = None;
        }
        Change::Env(name, Some(value)) => own.set_env(&name, &value),
        Change::Env(name, None) => own
            .env
            .retain(|pair| pair.split('=').next() != Some(name.as_str())),
        Change::NoEnv => own.env.clear(),
        Change::Label(key, value) => set(&mut own.labels, key, value),
        Change::NoLabels => own.labels.clear(),
        Change::Port(port, on) => set(&mut own.exposed_ports, port, on.then_some(Empty {})),
        Change::NoPorts => own.exposed_ports.clear(),
        Change::Volume(path, on) => set(&mut own.volumes, path, on.then_some(Empty {})),
        Change::NoVolumes => own.volumes.clear(),
        Change::User(text) => own.user = text,
        Change::Workdir(text) => own.working_dir = text,
        Change::StopSignal(text) => own.stop_signal = Some(text),
        Change::Shell(words) => own.shell = words,
        Change::OnBuild(text) => own.on_build.push(text),
        Change::NoOnBuild => own.on_build.clear(),
        Change::Health(field) => check(own.healthcheck.get_or_insert_default(), field),
        Change::Hostname(text) => drop(own.rest.insert("Hostname".to_owned(), text.into())),
        Change::Domainname(text) => drop(own.rest.insert("Domainname".to_owned(), text.into())),
        Change::CreatedBy(text) => config.created_by = Some(text),
        Change::Comment(text) => config.comment = Some(text),
        Change::Note(text) => config.history.push(note(text)),
    }
}

fn set<V>(map: &mut std::collections::BTreeMap<String, V>, key: String, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

fn check(check: &mut Healthcheck, field: Health) {
    match field {
        Health::Test(words) => check.test = words,
        Health::Interval(nanos) => check.interval = nanos,
        Health::Timeout(nanos) => check.timeout = nanos,
        Health::StartPeriod(nanos) => check.start_period = nanos,
        Health::StartInterval(nanos) => check.start_interval = nanos,
        Health::Retries(count) => check.retries = count,
    }
}
