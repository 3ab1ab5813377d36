//! `cask events`: what happens to containers and networks.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::logs::{moment, stamp};
use crate::cli::Session;
use crate::cli::filters;
use crate::cli::report::{Report, wrong_format};
use crate::cli::ui;
use crate::cli::ui::clean;
use crate::cli::ui::template::Template;
use crate::runner::{Events, Follow, Happened};

/// Show what happens to containers and networks, as it happens
#[derive(Debug, clap::Args)]
pub(super) struct EventsVerb {
    /// Also what happened since then: a time, or so long ago as in `10m`
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<u64>,

    /// Only until then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<u64>,

    /// Only events that match: `container=`, `event=`, `image=`, `label=KEY[=VALUE]`, `network=`,
    /// `type=container|network`
    #[arg(short, long = "filter", value_name = "FILTER", value_parser = Filter::parse)]
    filters: Vec<Filter>,

    /// `json` (one object a line), or a template of Type, Action, ID, Time, TimeNano, Actor
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

#[derive(Debug, Clone)]
enum Filter {
    Container(String),
    Event(String),
    Image(String),
    Label(filters::Label),
    Network(String),
    Type(String),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let value = value.to_owned();
        Ok(match key {
            "container" => Self::Container(value),
            "event" => Self::Event(value),
            "image" => Self::Image(value),
            "label" => Self::Label(filters::Label::parse(&value)),
            "network" => Self::Network(value),
            "type" => Self::Type(value),
            _ => return Err(format!("there is no filter `{key}`")),
        })
    }

    fn fits(&self, event: &Happened) -> bool {
        let is = |key: &str, value: &str| event.attributes.get(key).is_some_and(|v| v == value);
        let of = |kind: &str, text: &str| {
            event.kind == kind && (is("name", text) || event.id.starts_with(text))
        };
        match self {
            Self::Container(text) => of("container", text) || is("container", text),
            Self::Network(text) => of("network", text),
            Self::Event(action) => {
                event.action == *action || event.action.split(':').next() == Some(action)
            }
            Self::Image(image) => is("image", image),
            Self::Label(label) => label.fits(&event.attributes),
            Self::Type(kind) => event.kind == *kind,
        }
    }
}

impl EventsVerb {
    /// Shows them until `--until`, or until the process is ended.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let template = match self.format.as_deref() {
            None | Some("json") => None,
            Some(text) => Some(Template::parse(text).map_err(wrong_format)?),
        };
        let store = session.store()?;
        let failed =
            |error: std::io::Error| Report::failed("cannot read the events").because(&error);
        let follow = Follow::new(store.root()).map_err(failed)?;
        let mut events = Events::open(store.root());
        let since = self.since.unwrap_or_else(now);
        loop {
            let over = self.until.is_some_and(|until| until < now());
            for event in events.more().map_err(failed)? {
                let in_time =
                    event.time >= since && self.until.is_none_or(|until| event.time <= until);
                if !in_time || !self.filters.iter().all(|filter| filter.fits(&event)) {
                    continue;
                }
                let text = match (&template, &self.format) {
                    (Some(template), _) => template.render(&value(&event)).map_err(wrong_format)?,
                    (None, Some(_)) => value(&event).to_string(),
                    (None, None) => line(&event),
                };
                if !ui::open_data(format!("{text}\n").as_bytes())? {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            if over {
                return Ok(ExitCode::SUCCESS);
            }
            follow.wait().map_err(failed)?;
        }
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// An event as docker writes it.
fn line(event: &Happened) -> String {
    let attributes: Vec<String> = event
        .attributes
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    let text = format!(
        "{} {} {} {} ({})",
        stamp(event.time),
        event.kind,
        event.action,
        event.id,
        attributes.join(", ")
    );
    clean::clean(&text, clean::Colours::Drop).into()
}

fn value(event: &Happened) -> Value {
    json!({
        "status": event.action,
        "id": event.id,
        "from": event.attributes.get("image"),
        "Type": event.kind,
        "Action": event.action,
        "ID": event.id,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": "local",
        "time": event.time / 1_000_000_000,
        "timeNano": event.time,
        "Time": event.time / 1_000_000_000,
        "TimeNano": event.time,
    })
}
