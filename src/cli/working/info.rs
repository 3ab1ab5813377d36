//! `info`: the machine and the store as cooper sees them.

use serde_json::{Value, json};

use crate::build::working;
use crate::cli::report::{Report, wrong_format};
use crate::cli::ui::template::Template;
use crate::cli::ui::{self, human};
use crate::cli::{Session, env};
use crate::image::Platform;
use crate::registry::Registries;

/// Show the machine and the store as cooper sees them
///
/// `cooper doctor` says more about what works here and why.
#[derive(Debug, clap::Args)]
pub(crate) struct Info {
    /// `json` or a template such as `{{.store.GraphRoot}}`
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
        let value = json!({
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
