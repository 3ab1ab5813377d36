//! `info`: the machine and the store as cooper sees them.

use serde_json::{Map, Value, json};

use crate::build::working;
use crate::cli::report::{Report, wrong_format};
use crate::cli::ui::template::Template;
use crate::cli::ui::{self, human};
use crate::cli::{Session, env};
use crate::image::Platform;
use crate::registry::Registries;
use crate::runner::{self, Status};
use crate::store::Store;

/// Show the machine and the store as cooper sees them
///
/// `cooper doctor` says more about what works here and why.
#[derive(Debug, clap::Args)]
pub(crate) struct Info {
    /// `json` or a template such as `{{.store.GraphRoot}}`, docker's names being known as well
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,

    /// Accepted and without effect: `cooper doctor` explains
    #[arg(short, long, hide = true)]
    debug: bool,
}

impl Info {
    /// Shows it.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let rootless = !rustix::process::geteuid().is_root();
        let (store, rung) = session.store_with_power()?;
        let platform = Platform::host();
        let uname = rustix::system::uname();
        let memory = rustix::system::sysinfo();
        let unit = u64::from(memory.mem_unit);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let registries = Registries::read(&env::registries_conf())?;
        let mut value = json!({
            "host": {
                "arch": platform.architecture,
                "os": platform.os,
                "cpus": processors,
                "kernel": uname.release().to_string_lossy(),
                "hostname": uname.nodename().to_string_lossy(),
                "MemTotal": bytes(memory.totalram, unit),
                "MemFree": bytes(memory.freeram, unit),
                "rootless": rootless,
                "isolation": rung.name(),
                "version": env!("CARGO_PKG_VERSION"),
            },
            "store": {
                "GraphRoot": store.root(),
                "GraphDriverName": "overlay",
                "ContainerStore": { "number": working::list(&store)?.len() },
                "ImageStore": { "number": store.images()?.len() },
            },
            "registries": { "files": registries.files() },
        });
        if let (Value::Object(value), Some(_)) = (&mut value, &self.format) {
            value.extend(docker_fields(&store)?);
        }
        let text = match self.format.as_deref() {
            None => lines(&value, 0),
            Some("json") => format!("{value:#}"),
            Some(text) => {
                let template = Template::parse(text).map_err(wrong_format)?;
                template.render(&value).map_err(wrong_format)?
            }
        };
        ui::data(&text)
    }
}

/// What docker's `info` calls the same, and the containers of the runner, for templates.
fn docker_fields(store: &Store) -> Result<Map<String, Value>, Report> {
    let states: Vec<Status> = runner::list(store)?
        .iter()
        .map(|(_, state)| state.status)
        .collect();
    let of = |wanted: &[Status]| {
        states
            .iter()
            .filter(|status| wanted.contains(status))
            .count()
    };
    let (running, paused) = (
        of(&[Status::Running, Status::Restarting]),
        of(&[Status::Paused]),
    );
    let uname = rustix::system::uname();
    let memory = rustix::system::sysinfo();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let fields = json!({
        "Containers": states.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": states.len() - running - paused,
        "Images": store.images()?.len(),
        "Driver": "overlay",
        "LoggingDriver": "json-file",
        "KernelVersion": uname.release().to_string_lossy(),
        "OSType": "linux",
        "Architecture": uname.machine().to_string_lossy(),
        "NCPU": processors,
        "MemTotal": bytes(memory.totalram, u64::from(memory.mem_unit)),
        "DockerRootDir": store.root(),
        "Name": uname.nodename().to_string_lossy(),
        "ServerVersion": env!("CARGO_PKG_VERSION"),
    });
    match fields {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

/// A number of the kernel's, which has its word size, times the bytes that each stands for.
fn bytes(count: impl Into<u64>, unit: u64) -> u64 {
    count.into().saturating_mul(unit)
}

/// Fields as lines, those of inner objects further in.
fn lines(value: &Value, depth: usize) -> String {
    let Value::Object(fields) = value else {
        return String::new();
    };
    let indent = "  ".repeat(depth);
    let line = |(key, value): (&String, &Value)| match value {
        Value::Object(_) => format!("{indent}{key}:\n{}", lines(value, depth + 1)),
        Value::String(text) => format!("{indent}{key}: {text}"),
        Value::Array(items) => {
            let items = items.iter().filter_map(Value::as_str);
            format!("{indent}{key}: {}", items.collect::<Vec<_>>().join(", "))
        }
        Value::Number(number) if key.starts_with("Mem") => {
            let size = human::size(number.as_u64().unwrap_or_default());
            format!("{indent}{key}: {size}")
        }
        value => format!("{indent}{key}: {value}"),
    };
    fields.iter().map(line).collect::<Vec<_>>().join("\n")
}
