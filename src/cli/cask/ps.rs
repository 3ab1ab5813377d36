//! `cask ps`: the containers.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{endpoints, look, ports};
use crate::cli::filters::{self, Labels};
use crate::cli::report::{Report, wrong_format};
use crate::cli::ui::listing::{Format, Listing};
use crate::cli::ui::{self, clean, human};
use crate::cli::{Session, glob};
use crate::runner::{self, Bound, Container, Network, State, Status, VolumeSource, Wellness};
use crate::store::Store;

const CONTAINERS: Listing = Listing {
    columns: &[
        "ID",
        "Image",
        "Command",
        "CreatedSince",
        "Status",
        "Ports",
        "Names",
    ],
    heads: &[
        ("ID", "CONTAINER ID"),
        ("CreatedSince", "CREATED"),
        ("RunningFor", "CREATED"),
    ],
};

/// The same with sizes.
const SIZED: Listing = Listing {
    columns: &[
        "ID",
        "Image",
        "Command",
        "CreatedSince",
        "Status",
        "Ports",
        "Names",
        "Size",
    ],
    heads: CONTAINERS.heads,
};

/// Longest command in a table, in characters, as docker cuts it.
const SHOWN: usize = 20;

/// List containers, those that run unless `-a` is given
#[derive(Debug, clap::Args)]
pub(super) struct Ps {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,

    /// Ids only
    #[arg(short, long)]
    quiet: bool,

    /// Ids and commands in full
    #[arg(long)]
    no_trunc: bool,

    /// The newest N, whether they run or not
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    last: Option<i64>,

    /// The newest one, whether it runs or not
    #[arg(short, long)]
    latest: bool,

    /// Show how much each has written, and with its image's files
    #[arg(short, long)]
    size: bool,

    /// Only containers that match: `name=`, `id=`, `label=`, `status=`, `exited=`, `ancestor=`,
    /// `before=`, `since=`, `volume=`, `health=`, `network=`, `publish=` or `expose=PORT[/PROTOCOL]`
    #[arg(short, long = "filter", value_name = "FILTER", value_parser = Filter::parse)]
    filters: Vec<Filter>,

    /// `table`, `json` (one object a line), or a template of ID, Names, Image, Command, State,
    /// Status, CreatedAt, RunningFor, Ports, Labels, Mounts, LocalVolumes, Networks, Size, Platform,
    /// and `.Label "KEY"`
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true
    )]
    format: Format,
}

#[derive(Debug, Clone)]
enum Filter {
    Name(String),
    Id(String),
    Label(filters::Label),
    /// `None` is docker's `removing`, which no container here is seen in.
    Status(Option<Status>),
    Exited(i32),
    Ancestor(String),
    Before(String),
    Since(String),
    Volume(String),
    Health(String),
    Network(String),
    /// Ports of the machine, as `80/tcp`.
    Publish(Vec<String>),
    /// Ports of the container.
    Expose(Vec<String>),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let value = value.to_owned();
        Ok(match key {
            "name" => Self::Name(value),
            "id" => Self::Id(value),
            "label" => Self::Label(filters::Label::parse(&value)),
            "status" if value == "removing" => Self::Status(None),
            "status" => Self::Status(Some(value.parse()?)),
            "exited" => match value.parse() {
                Ok(code) => Self::Exited(code),
                Err(_) => return Err(format!("`{value}` is no exit code")),
            },
            "ancestor" => Self::Ancestor(value),
            "before" => Self::Before(value),
            "since" => Self::Since(value),
            "volume" => Self::Volume(value),
            "health" => match value.as_str() {
                "starting" | "healthy" | "unhealthy" | "none" => Self::Health(value),
                _ => return Err("expected starting, healthy, unhealthy or none".to_owned()),
            },
            "network" => Self::Network(value),
            "publish" => Self::Publish(ports::expose(&value)?),
            "expose" => Self::Expose(ports::expose(&value)?),
            _ => return Err(format!("there is no filter `{key}`")),
        })
    }

    /// A network may be named by its id, and `bridge` is docker's name for `private`.
    fn settle(&mut self, store: &Store) {
        if let Self::Network(text) = self {
            match runner::find_network(store, text) {
                Ok(network) => *text = network.name,
                Err(_) if text == "bridge" => "private".clone_into(text),
                // Containers may still be meant to be on one that is gone.
                Err(_) => {}
            }
        }
    }

    /// Whether it asks for containers that do not run.
    fn wants_all(&self) -> bool {
        matches!(self, Self::Status(_) | Self::Exited(_))
    }

    fn fits(&self, container: &Container, state: &State, all: &[(Container, State)]) -> bool {
        let config = &container.config;
        let made = |text: &str| {
            let known =
                |c: &&(Container, State)| c.0.config.name == text || c.0.id.starts_with(text);
            all.iter()
                .find(known)
                .map(|(c, _)| c.config.created.clone())
        };
        match self {
            // docker finds a name by any part of it.
            Self::Name(name) => {
                config.name.contains(name.as_str()) || glob::matches(name, &config.name)
            }
            Self::Id(id) => container.id.starts_with(id.as_str()),
            Self::Label(label) => label.fits(&labels(container)),
            Self::Status(status) => Some(state.status) == *status,
            Self::Exited(code) => state.status == Status::Exited && state.exit_code == Some(*code),
            Self::Ancestor(image) => {
                config.image_name == *image
                    || config.image_name.strip_suffix(":latest") == Some(image)
                    || image.strip_suffix(":latest") == Some(&config.image_name)
                    || config
                        .image
                        .to_string()
                        .trim_start_matches("sha256:")
                        .starts_with(image.as_str())
            }
            Self::Before(text) => made(text).is_some_and(|then| config.created < then),
            Self::Since(text) => made(text).is_some_and(|then| config.created > then),
            Self::Volume(text) => config.mounts.iter().any(|mount| {
                mount.target == Path::new(text)
                    || matches!(&mount.source, VolumeSource::Named(name) if name == text)
            }),
            Self::Health(text) => {
                let health = state.health.as_ref();
                text == health.map_or("none", |health| health.status.word())
            }
            Self::Network(text) => endpoints::names(&config.request).contains(&text.as_str()),
            Self::Publish(wanted) => {
                let mut outer = bound(container, state).iter().map(ports::outer);
                outer.any(|port| wanted.contains(&port))
            }
            Self::Expose(wanted) => {
                let bound = bound(container, state);
                let mut ports: Vec<String> = bound.iter().map(ports::inner).collect();
                if has_ports(container, state) {
                    ports.extend(ports::unpublished(container, bound));
                }
                ports.iter().any(|port| wanted.contains(port))
            }
        }
    }
}

impl Ps {
    /// Lists them.
    pub(super) fn run(mut self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        for filter in &mut self.filters {
            filter.settle(&store);
        }
        let mut all = runner::list(&store)?;
        let last = if self.latest { Some(1) } else { self.last };
        let last = last.and_then(|last| usize::try_from(last).ok());
        let every = self.all || last.is_some() || self.filters.iter().any(Filter::wants_all);
        let known = all.clone();
        all.retain(|(container, state)| {
            let wanted = every || state.status.is_up();
            let fits = |filter: &Filter| filter.fits(container, state, &known);
            wanted && self.filters.iter().all(fits)
        });
        all.truncate(last.unwrap_or(usize::MAX));
        if self.quiet {
            let ids = all
                .iter()
                .map(|(container, _)| self.id(container).to_owned() + "\n");
            ui::raw_data(ids.collect::<String>().as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        let now = SystemTime::now();
        let rows: Vec<Value> = all
            .iter()
            .map(|(container, state)| {
                let mut row = self.value(container, state, now);
                if self.size || self.format.names("Size") {
                    row["Size"] = json!(size(&store, container)?);
                }
                Ok(row)
            })
            .collect::<Result<_, Report>>()?;
        let listing = if self.size { SIZED } else { CONTAINERS };
        let text = listing.render(&self.format, &rows).map_err(wrong_format)?;
        ui::raw_data(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }

    fn id<'c>(&self, container: &'c Container) -> &'c str {
        if self.no_trunc {
            &container.id
        } else {
            container.short_id()
        }
    }

    fn value(&self, container: &Container, state: &State, now: SystemTime) -> Value {
        let config = &container.config;
        let created = human::parse_time(Some(&config.created));
        let since = created.map_or_else(|| "N/A".to_owned(), |then| human::ago(then, now));
        let mut row = json!({
            "ID": self.id(container),
            "Names": config.name,
            "Image": config.image_name,
            "Command": self.command(&config.command),
            "State": state.status.word(),
            "Status": status(state, now),
            "CreatedAt": created.map_or_else(|| "N/A".to_owned(), human::date),
            "CreatedSince": since,
            "RunningFor": since,
            "Ports": published(container, state),
            "Mounts": mounts(container),
            "LocalVolumes": volumes(container).to_string(),
            "Networks": endpoints::names(&config.request).join(","),
            "Platform": Value::Null,
        });
        filters::show_labels(&mut row, &labels(container));
        row
    }

    fn command(&self, command: &[String]) -> String {
        let text = command.join(" ");
        let text = clean::clean(&text, clean::Colours::Drop).replace('\t', " ");
        if self.no_trunc || text.chars().count() <= SHOWN {
            return format!("\"{text}\"");
        }
        let cut: String = text.chars().take(SHOWN - 1).collect();
        format!("\"{cut}…\"")
    }
}

/// docker's text of a container's size.
fn size(store: &Store, container: &Container) -> Result<String, Report> {
    let size = runner::size(store, container)?;
    let whole = human::size(size.written + size.image);
    Ok(format!("{} (virtual {whole})", human::size(size.written)))
}

/// Ports are there while the container is, and on a network of its own.
fn has_ports(container: &Container, state: &State) -> bool {
    state.status.is_up() && container.config.request.network != Network::Host
}

/// Ports of the machine that lead into it.
fn bound<'s>(container: &Container, state: &'s State) -> &'s [Bound] {
    match has_ports(container, state) {
        true => look::published(state),
        false => &[],
    }
}

fn published(container: &Container, state: &State) -> String {
    if !has_ports(container, state) {
        return String::new();
    }
    let bound = bound(container, state);
    let mut all = ports::shown(bound);
    all.extend(ports::joined(&ports::unpublished(container, bound)));
    all.join(", ")
}

/// The labels of a container: its image's, and its own over them.
pub(super) fn labels(container: &Container) -> Labels {
    let mut labels = container.config.image_config.labels.clone();
    labels.extend(container.config.request.labels.clone());
    labels
}

fn mounts(container: &Container) -> String {
    let names = container
        .config
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            VolumeSource::Bind(path) => Some(path.display().to_string()),
            VolumeSource::Named(name) => Some(name.clone()),
            _ => None,
        });
    names.collect::<Vec<_>>().join(",")
}

fn volumes(container: &Container) -> usize {
    let mounts = container.config.mounts.iter();
    mounts
        .filter(|mount| matches!(mount.source, VolumeSource::Named(_)))
        .count()
}

fn status(state: &State, now: SystemTime) -> String {
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running | Status::Paused => {
            let started = human::parse_time(state.started.as_deref()).unwrap_or(now);
            let since = now.duration_since(started).unwrap_or(Duration::ZERO);
            let mark = match (state.status, &state.health) {
                (Status::Paused, _) => " (Paused)",
                (_, None) => "",
                (_, Some(health)) => match health.status {
                    Wellness::Starting => " (health: starting)",
                    Wellness::Healthy => " (healthy)",
                    Wellness::Unhealthy => " (unhealthy)",
                },
            };
            format!("Up {}{mark}", human::span(since))
        }
        Status::Restarting => ended("Restarting", state, now),
        Status::Exited => ended("Exited", state, now),
        Status::Dead => "Dead".to_owned(),
    }
}

fn ended(word: &str, state: &State, now: SystemTime) -> String {
    let code = state.exit_code.unwrap_or(0);
    match human::parse_time(state.finished.as_deref()) {
        Some(then) => format!("{word} ({code}) {}", human::ago(then, now)),
        None => format!("{word} ({code})"),
    }
}
