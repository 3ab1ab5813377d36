//! `cask stats`: what containers use right now.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::report::{Report, wrong_format};
use crate::cli::ui::human;
use crate::cli::ui::listing::{Format, Listing};
use crate::cli::{Session, ui};
use crate::runner::{self, Container, Error, Process};
use crate::store::Store;

const STATS: Listing = Listing {
    columns: &[
        "ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs",
    ],
    heads: &[
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    raw: "raw",
};

/// Time between two looks.
const STEP: Duration = Duration::from_secs(1);

/// Show what containers use, time and again
///
/// The figures are sums over the processes there are: resident memory, disk input and output, and
/// the processor time since the last look. What can't be known shows as `--`.
#[derive(Debug, clap::Args)]
pub(super) struct Stats {
    /// Names or ids of containers [default: all that run]
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,

    /// Show once
    #[arg(long)]
    no_stream: bool,

    /// Also containers that do not run
    #[arg(short, long)]
    all: bool,

    /// Ids in full
    #[arg(long)]
    no_trunc: bool,

    /// `table`, `json` (one object a line), or a template of ID, Name, Container, CPUPerc,
    /// MemUsage, MemPerc, NetIO, BlockIO, PIDs
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true
    )]
    format: Format,
}

/// What a container had used at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    ticks: u64,
    memory: u64,
    pids: u64,
    net: Option<(u64, u64)>,
    disks: Option<(u64, u64)>,
}

/// A container that was looked at.
#[derive(Debug)]
struct Looked {
    container: Container,
    /// How it was asked for.
    called: String,
    /// `None` when it does not run.
    used: Option<Use>,
}

impl Stats {
    /// Shows it until the reader goes away or the process is ended.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        let mut before = (Instant::now(), self.look(&store)?);
        loop {
            std::thread::sleep(STEP);
            let now = (Instant::now(), self.look(&store)?);
            let took = now.0.duration_since(before.0);
            let rows: Vec<Value> = now
                .1
                .iter()
                .map(|now| {
                    let id = &now.container.id;
                    let mut old = before.1.iter().filter(|old| old.container.id == *id);
                    let mut row = row(now, old.next().and_then(|old| old.used), took);
                    if self.no_trunc {
                        row["ID"] = json!(id);
                    }
                    row
                })
                .collect();
            let text = STATS.render(&self.format, &rows).map_err(wrong_format)?;
            if !ui::open_data(text.as_bytes())? || self.no_stream {
                return Ok(ExitCode::SUCCESS);
            }
            before = now;
        }
    }

    /// The containers that were asked for, and what they were called.
    fn wanted(&self, store: &Store) -> Result<Vec<(Container, String)>, Report> {
        if self.containers.is_empty() {
            let all = runner::list(store)?.into_iter();
            let up = all.filter(|(_, state)| self.all || state.status.is_up());
            return Ok(up
                .map(|(container, _)| (container.clone(), container.id))
                .collect());
        }
        let named = self.containers.iter();
        named
            .map(|name| Ok((runner::find(store, name)?, name.clone())))
            .collect()
    }

    fn look(&self, store: &Store) -> Result<Vec<Looked>, Report> {
        let mut looked = Vec::new();
        for (container, called) in self.wanted(store)? {
            let used = match runner::top(&container) {
                Ok(processes) => {
                    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
                    Some(Use {
                        ticks: processes.iter().map(|p| p.ticks).sum(),
                        memory: processes.iter().map(|p| p.pages * page).sum(),
                        pids: processes.iter().map(|p| p.threads).sum(),
                        net: runner::traffic(&container)?,
                        disks: disks(&processes),
                    })
                }
                Err(Error::NotRunning { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            looked.push(Looked {
                container,
                called,
                used,
            });
        }
        Ok(looked)
    }
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn row(looked: &Looked, old: Option<Use>, took: Duration) -> Value {
    let container = &looked.container;
    // docker shows noughts for what does not run.
    let used = looked.used.unwrap_or(Use {
        net: Some((0, 0)),
        disks: Some((0, 0)),
        ..Use::default()
    });
    let hertz = rustix::param::clock_ticks_per_second() as f64;
    let ticks = old.map_or(0, |old| used.ticks.saturating_sub(old.ticks)) as f64;
    let limits = &container.config.request.isolation.limits;
    let limit = match looked.used {
        Some(_) => memory().min(limits.memory.unwrap_or(u64::MAX)),
        None => 0,
    };
    json!({
        "ID": container.short_id(),
        "Container": looked.called,
        "Name": container.config.name,
        "CPUPerc": format!("{:.2}%", 100.0 * ticks / hertz / took.as_secs_f64()),
        "MemUsage": format!("{} / {}", human::memory(used.memory), human::memory(limit)),
        "MemPerc": format!("{:.2}%", 100.0 * used.memory as f64 / limit.max(1) as f64),
        "NetIO": both(used.net),
        "BlockIO": both(used.disks),
        "PIDs": used.pids.to_string(),
    })
}

/// What all processes have read and written; `None` if one does not tell.
fn disks(processes: &[Process]) -> Option<(u64, u64)> {
    let mut total = (0, 0);
    for process in processes {
        let (read, written) = process.disks?;
        total = (total.0 + read, total.1 + written);
    }
    Some(total)
}

fn both(bytes: Option<(u64, u64)>) -> String {
    match bytes {
        Some((one, other)) => format!("{} / {}", human::size(one), human::size(other)),
        None => "-- / --".to_owned(),
    }
}

/// The memory of the machine.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}
