//! `cask ps`: the containers.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::cli::report::{Report, wrong_format};
use crate::cli::ui::listing::{Format, Listing};
use crate::cli::ui::{self, clean, human};
use crate::cli::{Session, glob};
use crate::runner::{self, Container, State, Status};

const CONTAINERS: Listing = Listing {
    columns: &["ID", "Image", "Command", "CreatedSince", "Status", "Names"],
    heads: &[
        ("ID", "CONTAINER ID"),
        ("CreatedSince", "CREATED"),
        ("RunningFor", "CREATED"),
    ],
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

    /// Only containers that match: `name=PATTERN`, `status=created|running|exited`
    #[arg(short, long = "filter", value_name = "FILTER", value_parser = Filter::parse)]
    filters: Vec<Filter>,

    /// `table`, `json` (one object a line), or a template of ID, Names, Image, Command, State,
    /// Status, CreatedAt, CreatedSince
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
    Status(Status),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("name", name)) => Ok(Self::Name(name.to_owned())),
            Some(("status", status)) => match status {
                "created" => Ok(Self::Status(Status::Created)),
                "running" => Ok(Self::Status(Status::Running)),
                "exited" => Ok(Self::Status(Status::Exited)),
                _ => Err("the status is created, running or exited".to_owned()),
            },
            _ => Err("expected `name=PATTERN` or `status=STATUS`".to_owned()),
        }
    }

    fn fits(&self, container: &Container, state: &State) -> bool {
        match self {
            // docker finds a name by any part of it.
            Self::Name(name) => {
                let own = &container.config.name;
                own.contains(name.as_str()) || glob::matches(name, own)
            }
            Self::Status(status) => state.status == *status,
        }
    }
}

impl Ps {
    /// Lists them.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        let asks_status = self
            .filters
            .iter()
            .any(|filter| matches!(filter, Filter::Status(_)));
        let mut all = runner::list(&store)?;
        all.retain(|(container, state)| {
            let wanted = self.all || asks_status || state.status == Status::Running;
            wanted
                && self
                    .filters
                    .iter()
                    .all(|filter| filter.fits(container, state))
        });
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
            .map(|(container, state)| self.value(container, state, now))
            .collect();
        let text = CONTAINERS
            .render(&self.format, &rows)
            .map_err(wrong_format)?;
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
        json!({
            "ID": self.id(container),
            "Names": config.name,
            "Image": config.image_name,
            "Command": self.command(&config.command),
            "State": word(state.status),
            "Status": status(state, now),
            "CreatedAt": created.map_or_else(|| "N/A".to_owned(), human::date),
            "CreatedSince": since,
            "RunningFor": since,
        })
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

fn word(status: Status) -> &'static str {
    match status {
        Status::Created => "created",
        Status::Running => "running",
        Status::Exited => "exited",
    }
}

fn status(state: &State, now: SystemTime) -> String {
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => {
            let started = human::parse_time(state.started.as_deref()).unwrap_or(now);
            let since = now.duration_since(started).unwrap_or(Duration::ZERO);
            format!("Up {}", human::span(since))
        }
        Status::Exited => {
            // A caller that was killed took its container with it and left no code.
            let code = state
                .exit_code
                .map_or_else(|| "?".to_owned(), |code| code.to_string());
            match human::parse_time(state.finished.as_deref()) {
                Some(then) => format!("Exited ({code}) {}", human::ago(then, now)),
                None => format!("Exited ({code})"),
            }
        }
    }
}
