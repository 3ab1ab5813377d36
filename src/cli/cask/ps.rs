//! `cask ps`: the containers.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{endpoints, look, ports};
use crate::cli::filters::{self, Labels};
use crate::cli::report::{Report, wrong_format};
use crate::cli::ui::listing::{Format, Listing};
use crate::cli::ui::{self, human, table};
use crate::cli::{Session, glob};
use crate::runner::{self, Bound, Container, Network, State, Status, VolumeSource, Wellness};
use crate::store::Store;

const CONTAINERS: Listing = Listing {
    columns: &[
        "ID",
        "Image",
        "Command",
        "RunningFor",
        "Status",
        "Ports",
        "Names",
    ],
    heads: &[("ID", "CONTAINER ID"), ("RunningFor", "CREATED")],
    raw: concat!(
        "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\n",
        "created_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\n",
        "names: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n"
    ),
};

/// The same with sizes.
const SIZED: Listing = Listing {
    columns: &[
        "ID",
        "Image",
        "Command",
        "RunningFor",
        "Status",
        "Ports",
        "Names",
        "Size",
    ],
    heads: CONTAINERS.heads,
    raw: concat!(
        "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\n",
        "created_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\n",
        "names: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n",
        "size: {{.Size}}\n"
    ),
};

/// Longest command and longest name of a mount, in characters, as docker cuts them.
const SHOWN: usize = 20;
const SHOWN_MOUNT: usize = 15;

/// List containers, those that run unless `-a` is given
#[derive(Debug, clap::Args)]
pub(super) struct Ps {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,

    /// Ids only
    #[arg(short, long)]
    quiet: bool,

    /// Ids, commands and names of mounts in full
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

    /// Only containers that match one of each kind, and all labels: `name=`, `id=`, `label=`, `status=`, `exited=`, `ancestor=`,
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

    fn is_label(&self) -> bool {
        matches!(self, Self::Label(_))
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
            Self::Name(pattern) => is_called(&config.name, pattern),
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
            wanted && filters::pass(&self.filters, Filter::is_label, fits)
        });
        all.truncate(last.unwrap_or(usize::MAX));
        if self.quiet {
            let ids = all
                .iter()
                .map(|(container, _)| id(container, self.no_trunc).to_owned() + "\n");
            ui::raw_data(ids.collect::<String>().as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        let now = SystemTime::now();
        let sized = self.size || self.format.names("Size");
        let rows: Vec<Value> = all
            .iter()
            .map(|(container, state)| {
                let mut row = row(container, state, now, self.no_trunc);
                // As docker has it, where nobody asked.
                row["Size"] = json!(human::size(0));
                if sized {
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
}

fn id(container: &Container, whole: bool) -> &str {
    match whole {
        true => &container.id,
        false => container.short_id(),
    }
}

/// What is listed of a container but for its size; `whole` cuts nothing short.
pub(in crate::cli) fn row(
    container: &Container,
    state: &State,
    now: SystemTime,
    whole: bool,
) -> Value {
    let config = &container.config;
    let created = human::parse_time(Some(&config.created));
    let unknown = || "N/A".to_owned();
    let mut row = json!({
        "ID": id(container, whole),
        "Names": config.name,
        "Image": config.image_name,
        "Command": command(&config.command, whole),
        "State": state.status.word(),
        "Status": status(state, now),
        "CreatedAt": created.map_or_else(unknown, human::date),
        "RunningFor": created.map_or_else(unknown, |then| human::ago(then, now)),
        "Ports": published(container, state),
        "Mounts": mounts(container, whole),
        "LocalVolumes": volumes(container).to_string(),
        "Networks": endpoints::names(&config.request).join(","),
        "Platform": Value::Null,
    });
    filters::show_labels(&mut row, &labels(container));
    row
}

/// The program as docker shows it: what has blanks is quoted in it, and it is quoted as a whole.
fn command(command: &[String], whole: bool) -> String {
    let word = |word: &String| match word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    };
    let (program, arguments) = command.split_at(command.len().min(1));
    let words = program.iter().cloned().chain(arguments.iter().map(word));
    let text = words.collect::<Vec<_>>().join(" ");
    match whole {
        true => format!("{text:?}"),
        false => format!("{:?}", table::cut(&text, SHOWN)),
    }
}

/// Whether docker's `name` filter, a pattern for some part of the name, finds `name`. Of regular
/// expressions it may have `^`, `$`, `.*`, alternatives in parentheses, and classes; the name may
/// be written with the slash that docker puts in front.
fn is_called(name: &str, pattern: &str) -> bool {
    let begun = pattern.strip_prefix('^').unwrap_or(pattern);
    let ended = begun.strip_suffix('$').unwrap_or(begun);
    let bare = ended.strip_prefix('/').unwrap_or(ended);
    let open = |open: bool| if open { "*" } else { "" };
    let before = open(begun == pattern && bare == ended);
    let after = open(ended == begun);
    let inner = bare
        .strip_prefix('(')
        .and_then(|bare| bare.strip_suffix(')'));
    let mut ways = inner.unwrap_or(bare).split('|');
    ways.any(|way| {
        let way = way.replace(".*", "*");
        glob::matches(&format!("{before}{way}{after}"), name)
    })
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
    ports::listed(bound, &ports::unpublished(container, bound))
}

/// The labels of a container: its image's, and its own over them.
pub(super) fn labels(container: &Container) -> Labels {
    let mut labels = container.config.image_config.labels.clone();
    labels.extend(container.config.request.labels.clone());
    labels
}

fn mounts(container: &Container, whole: bool) -> String {
    let mounts = container.config.mounts.iter();
    let names = mounts.filter_map(|mount| match &mount.source {
        VolumeSource::Bind(path) => Some(path.display().to_string()),
        VolumeSource::Named(name) => Some(name.clone()),
        _ => None,
    });
    let shown = names.map(|name| match whole {
        true => name,
        false => table::cut(&name, SHOWN_MOUNT),
    });
    shown.collect::<Vec<_>>().join(",")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_as_docker_quotes_them() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            (command(&words, true), command(&words, false))
        };
        let both = |text: &str| (text.to_owned(), text.to_owned());
        assert_eq!(of(&["sh", "-c", "a \"b\""]), both(r#""sh -c 'a \"b\"'""#));
        assert_eq!(of(&["sh\n\x1b"]), both(r#""sh\n\u{1b}""#));
        assert_eq!(of(&[]), both(r#""""#));
        let long = of(&["sleep", "1000000000000000"]);
        assert_eq!(long.1, "\"sleep 1000000000000…\"");
    }

    #[test]
    fn names_are_found_by_a_part_or_a_pattern() {
        for (pattern, found) in [
            ("eb", true),
            ("web-1", true),
            ("^web-1$", true),
            ("^/web-1$", true),
            ("/web-1", true),
            ("^web", true),
            ("1$", true),
            ("w.*1", true),
            ("^(db|web-[0-9])$", true),
            ("^web$", false),
            ("^eb", false),
            ("/eb", false),
            ("db|x", false),
        ] {
            assert_eq!(is_called("web-1", pattern), found, "{pattern}");
        }
    }
}
