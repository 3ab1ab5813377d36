//! `cask events`: what happens to containers, networks and volumes.

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

/// Show what happens to containers, networks and volumes, as it happens
#[derive(Debug, clap::Args)]
pub(super) struct EventsVerb {
    /// Also what happened since then: a time, or so long ago as in `10m`
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<u64>,

    /// Only until then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<u64>,

    /// Only events that match one of each kind, and all labels: `container=`, `event=`, `image=`,
    /// `label=KEY[=VALUE]`, `network=`, `scope=`, `volume=`, `type=container|network|volume`
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
    /// docker's other kinds of things, to which nothing happens here.
    Nothing,
    Scope(String),
    Type(String),
    Volume(String),
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
            "scope" => Self::Scope(value),
            "type" => Self::Type(value),
            "volume" => Self::Volume(value),
            "config" | "daemon" | "node" | "plugin" | "secret" | "service" => Self::Nothing,
            _ => return Err(format!("there is no filter `{key}`")),
        })
    }

    fn is_label(&self) -> bool {
        matches!(self, Self::Label(_))
    }

    fn fits(&self, event: &Happened) -> bool {
        let attribute = |key: &str| event.attributes.get(key).map_or("", String::as_str);
        // docker takes the beginning of a name as well.
        let of = |kind: &str, text: &str| {
            event.kind == kind
                && (attribute("name").starts_with(text) || event.id.starts_with(text))
        };
        match self {
            Self::Container(text) => of("container", text) || attribute("container") == text,
            Self::Network(text) => of("network", text),
            Self::Volume(text) => event.kind == "volume" && event.id.starts_with(text.as_str()),
            Self::Event(action) => {
                event.action == *action || event.action.split(':').next() == Some(action)
            }
            Self::Image(image) => {
                let name = attribute("image");
                name == image || without_tag(name) == image
            }
            Self::Label(label) => label.fits(&event.attributes),
            Self::Nothing => false,
            Self::Scope(scope) => scope == SCOPE,
            Self::Type(kind) => event.kind == *kind,
        }
    }
}

/// Where all of it happens.
const SCOPE: &str = "local";

/// The name of an image without its tag.
fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
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
                let fits = |filter: &Filter| filter.fits(&event);
                if !in_time || !filters::pass(&self.filters, Filter::is_label, fits) {
                    continue;
                }
                let text = match (&template, &self.format) {
                    (Some(template), _) => {
                        let shown = template.render(&with_names(&event));
                        shown.map_err(wrong_format)?
                    }
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

/// An event in docker's JSON, which says some things twice of a container.
fn value(event: &Happened) -> Value {
    let mut shown = match event.kind.as_str() {
        "container" => json!({
            "status": event.action,
            "id": event.id,
            "from": event.attributes.get("image"),
        }),
        _ => json!({}),
    };
    shown["Type"] = json!(event.kind);
    shown["Action"] = json!(event.action);
    shown["Actor"] = json!({ "ID": event.id, "Attributes": event.attributes });
    shown["scope"] = json!(SCOPE);
    shown["time"] = json!(event.time / 1_000_000_000);
    shown["timeNano"] = json!(event.time);
    shown
}

/// The same with all names that templates know, whatever it is about.
fn with_names(event: &Happened) -> Value {
    let mut shown = value(event);
    for name in ["status", "id", "from"] {
        if shown.get(name).is_none() {
            shown[name] = json!("");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_know_what_happened_to_what() {
        let attributes = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            pairs.collect()
        };
        let event = |kind: &str, id: &str, pairs| Happened {
            kind: kind.to_owned(),
            action: "exec_start: sh".to_owned(),
            id: id.to_owned(),
            attributes: attributes(pairs),
            time: 0,
        };
        let all = [
            event(
                "container",
                "abc",
                &[("name", "web"), ("image", "app:1"), ("who", "me")],
            ),
            event("network", "def", &[("name", "lan"), ("container", "abc")]),
            event("volume", "vol", &[("driver", "local")]),
        ];
        for (text, want) in [
            ("container=web", "container"),
            ("container=we", "container"),
            ("container=abc", "container network"),
            ("network=lan", "network"),
            ("volume=vol", "volume"),
            ("volume=web", ""),
            ("event=exec_start", "container network volume"),
            ("event=die", ""),
            ("image=app", "container"),
            ("image=app:1", "container"),
            ("image=ap", ""),
            ("label=who=me", "container"),
            ("scope=local", "container network volume"),
            ("scope=swarm", ""),
            ("daemon=x", ""),
            ("type=volume", "volume"),
        ] {
            let filter = Filter::parse(text).unwrap();
            let found = all.iter().filter(|event| filter.fits(event));
            let found: Vec<&str> = found.map(|event| event.kind.as_str()).collect();
            assert_eq!(found.join(" "), want, "{text}");
        }
        assert!(Filter::parse("shoe=1").is_err());
    }

    #[test]
    fn events_have_dockers_keys() {
        let event = Happened {
            kind: "network".to_owned(),
            action: "create".to_owned(),
            id: "x".to_owned(),
            attributes: [("name".to_owned(), "lan".to_owned())].into(),
            time: 1_500_000_000,
        };
        let want = r#"{"Type":"network","Action":"create","Actor":{"ID":"x","Attributes":{"name":"lan"}},"scope":"local","time":1,"timeNano":1500000000}"#;
        assert_eq!(value(&event).to_string(), want);
        assert_eq!(with_names(&event)["from"], "");
    }
}
