//! `config`: what images made of a working container say about running them.

use crate::build::working::{self, Change, Health};
use crate::cli::Session;
use crate::cli::report::Report;
use crate::dockerfile::{go_duration, port_specs};

use super::words;

/// Change what images made of a working container say about running them
///
/// Where an option takes `KEY=VALUE`, `KEY-` takes that key away and `-` all of them, as do
/// `PORT-`, `PATH-` and `-` with ports and volumes.
#[derive(Debug, clap::Args)]
pub(crate) struct Config {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// Program that commands are for: a JSON list, or a text for `/bin/sh -c`. Takes the command
    /// away
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,

    /// Default command: a JSON list, or words
    #[arg(long, value_name = "COMMAND", value_parser = words::command)]
    cmd: Option<Words>,

    /// Variable; without a value the environment's
    #[arg(
        short,
        long = "env",
        value_name = "KEY=VALUE",
        allow_hyphen_values = true
    )]
    env: Vec<String>,

    /// Variable to take away
    #[arg(long, value_name = "KEY")]
    unsetenv: Vec<String>,

    /// Label
    #[arg(
        short,
        long = "label",
        value_name = "KEY=VALUE",
        allow_hyphen_values = true
    )]
    labels: Vec<String>,

    /// Label to take away
    #[arg(long, value_name = "KEY")]
    unsetlabel: Vec<String>,

    /// Annotation of the image's manifest
    #[arg(
        short,
        long = "annotation",
        value_name = "KEY=VALUE",
        allow_hyphen_values = true
    )]
    annotations: Vec<String>,

    /// Annotation to take away
    #[arg(long, value_name = "KEY")]
    unsetannotation: Vec<String>,

    /// Port that is exposed, such as `80/tcp`
    #[arg(short, long = "port", value_name = "PORT", allow_hyphen_values = true)]
    ports: Vec<String>,

    /// Path that becomes a volume
    #[arg(
        short,
        long = "volume",
        value_name = "PATH",
        allow_hyphen_values = true
    )]
    volumes: Vec<String>,

    /// User that programs run as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Directory that programs start in
    #[arg(long, visible_alias = "workdir", value_name = "DIR")]
    workingdir: Option<String>,

    /// Signal that asks a container to stop
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,

    /// Shell of instructions that need one: a JSON list, or words
    #[arg(long, value_name = "SHELL", value_parser = words::command)]
    shell: Option<Words>,

    /// Instruction for builds on top of the image; `-` takes all away
    #[arg(long, value_name = "INSTRUCTION", allow_hyphen_values = true)]
    onbuild: Vec<String>,

    #[command(flatten)]
    health: HealthArgs,

    #[command(flatten)]
    about: AboutArgs,
}

/// Several words, as one value of an option.
type Words = Vec<String>;

/// How a container is asked whether it is well.
#[derive(Debug, clap::Args)]
struct HealthArgs {
    /// Check of health: `NONE`, `CMD` and words, a JSON list, or a text for the shell
    #[arg(long, value_name = "COMMAND")]
    healthcheck: Option<String>,

    /// Time between checks
    #[arg(long, value_name = "DURATION", value_parser = nanos)]
    healthcheck_interval: Option<i64>,

    /// Time a check may take
    #[arg(long, value_name = "DURATION", value_parser = nanos)]
    healthcheck_timeout: Option<i64>,

    /// Time the container may take to start
    #[arg(long, value_name = "DURATION", value_parser = nanos)]
    healthcheck_start_period: Option<i64>,

    /// Time between checks while it starts
    #[arg(long, value_name = "DURATION", value_parser = nanos)]
    healthcheck_start_interval: Option<i64>,

    /// Failures in a row until it is unhealthy
    #[arg(long, value_name = "N")]
    healthcheck_retries: Option<u32>,
}

/// What the image says about itself.
#[derive(Debug, clap::Args)]
struct AboutArgs {
    /// Who made the image
    #[arg(long, value_name = "NAME")]
    author: Option<String>,

    /// CPU architecture
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,

    /// Operating system
    #[arg(long, value_name = "OS")]
    os: Option<String>,

    /// Version of the operating system
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,

    /// Something that the operating system must have
    #[arg(long, value_name = "FEATURE")]
    os_feature: Vec<String>,

    /// Variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,

    /// What the history says that made the layer [default: /bin/sh]
    #[arg(long, value_name = "COMMAND")]
    created_by: Option<String>,

    /// Comment of the layer in the history
    #[arg(long, visible_alias = "comment", value_name = "TEXT")]
    history_comment: Option<String>,

    /// Host name of programs
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,

    /// NIS domain name of programs
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,

    /// Tell of the changes in the image's history
    #[arg(long)]
    add_history: bool,
}

impl Config {
    /// Changes it.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let changes = self.changes()?;
        let store = session.store()?;
        let mut container = working::find(&store, &self.container)?;
        Ok(container.configure(changes)?)
    }

    fn changes(&self) -> Result<Vec<Change>, Report> {
        let mut out = Vec::new();
        let about = &self.about;
        let mut text = |text: &Option<String>, change: fn(String) -> Change| {
            out.extend(text.clone().map(change));
        };
        text(&about.author, Change::Author);
        text(&about.arch, Change::Arch);
        text(&about.os, Change::Os);
        text(&about.os_version, Change::OsVersion);
        text(&about.variant, Change::Variant);
        text(&about.created_by, Change::CreatedBy);
        text(&about.history_comment, Change::Comment);
        text(&about.hostname, Change::Hostname);
        text(&about.domainname, Change::Domainname);
        text(&self.user, Change::User);
        text(&self.workingdir, Change::Workdir);
        text(&self.stop_signal, Change::StopSignal);
        out.extend(about.os_feature.iter().cloned().map(Change::OsFeature));
        out.extend(self.shell.clone().map(Change::Shell));
        // The command comes after the entrypoint, which takes it away.
        out.extend(self.entrypoint.as_deref().map(entrypoint));
        out.extend(self.cmd.clone().map(Change::Cmd));
        for text in &self.env {
            out.extend(pair(text, Change::NoEnv, Change::Env, true));
        }
        for text in &self.labels {
            out.extend(pair(text, Change::NoLabels, Change::Label, false));
        }
        for text in &self.annotations {
            out.extend(pair(text, Change::NoAnnotations, Change::Annotation, false));
        }
        let gone = |names: &[String], change: fn(String, Option<String>) -> Change| {
            let change = |name: &String| change(name.clone(), None);
            names.iter().map(change).collect::<Vec<_>>()
        };
        out.extend(gone(&self.unsetenv, Change::Env));
        out.extend(gone(&self.unsetlabel, Change::Label));
        out.extend(gone(&self.unsetannotation, Change::Annotation));
        for text in &self.ports {
            out.extend(ports(text)?);
        }
        for text in &self.volumes {
            out.push(match (text.as_str(), text.strip_suffix('-')) {
                ("-", _) => Change::NoVolumes,
                (_, Some(path)) => Change::Volume(path.to_owned(), false),
                (path, None) => Change::Volume(path.to_owned(), true),
            });
        }
        for text in &self.onbuild {
            out.push(match text.as_str() {
                "-" => Change::NoOnBuild,
                text => Change::OnBuild(text.to_owned()),
            });
        }
        out.extend(self.health.changes()?.into_iter().map(Change::Health));
        if about.add_history {
            out.push(Change::Note(format!("/bin/sh -c #(nop) {}", self.told())));
        }
        Ok(out)
    }

    /// What the history says of the changes.
    fn told(&self) -> String {
        let mut parts = Vec::new();
        let texts = [
            ("USER", &self.user),
            ("WORKDIR", &self.workingdir),
            ("STOPSIGNAL", &self.stop_signal),
            ("ENTRYPOINT", &self.entrypoint),
        ];
        for (keyword, text) in texts {
            parts.extend(text.as_ref().map(|text| format!("{keyword} {text}")));
        }
        for (keyword, words) in [("CMD", &self.cmd), ("SHELL", &self.shell)] {
            parts.extend(words.as_ref().map(|words| format!("{keyword} {words:?}")));
        }
        for (keyword, list) in [
            ("ENV", &self.env),
            ("LABEL", &self.labels),
            ("EXPOSE", &self.ports),
            ("VOLUME", &self.volumes),
            ("ONBUILD", &self.onbuild),
        ] {
            parts.extend(list.iter().map(|text| format!("{keyword} {text}")));
        }
        parts.join("; ")
    }
}

impl HealthArgs {
    fn changes(&self) -> Result<Vec<Health>, Report> {
        let mut out = Vec::new();
        if let Some(text) = &self.healthcheck {
            out.push(Health::Test(test(text)?));
        }
        out.extend(self.healthcheck_interval.map(Health::Interval));
        out.extend(self.healthcheck_timeout.map(Health::Timeout));
        out.extend(self.healthcheck_start_period.map(Health::StartPeriod));
        out.extend(self.healthcheck_start_interval.map(Health::StartInterval));
        out.extend(self.healthcheck_retries.map(|n| Health::Retries(n.into())));
        Ok(out)
    }
}

/// The program of `--entrypoint`: nothing, a JSON list, or a text for the shell.
fn entrypoint(text: &str) -> Change {
    Change::Entrypoint(match serde_json::from_str::<Words>(text) {
        Ok(words) => words,
        Err(_) if text.trim().is_empty() => Vec::new(),
        Err(_) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()],
    })
}

/// What `--healthcheck` tests.
fn test(text: &str) -> Result<Words, Report> {
    let wrong = |why| Report::wrong_use(format!("`--healthcheck {text}`: {why}"));
    if let Ok(words) = serde_json::from_str::<Words>(text) {
        return Ok(words);
    }
    match text.split_once(char::is_whitespace) {
        _ if text == "NONE" => Ok(vec![text.to_owned()]),
        Some(("CMD", rest)) => {
            let rest = words::command(rest).map_err(wrong)?;
            Ok(std::iter::once("CMD".to_owned()).chain(rest).collect())
        }
        Some(("CMD-SHELL", rest)) => Ok(vec!["CMD-SHELL".to_owned(), rest.to_owned()]),
        _ => Ok(vec!["CMD-SHELL".to_owned(), text.to_owned()]),
    }
}

/// A pair to set or to take away; nothing for a variable that the environment has not.
fn pair(
    text: &str,
    none: Change,
    change: fn(String, Option<String>) -> Change,
    environment: bool,
) -> Option<Change> {
    match (text.split_once('='), text.strip_suffix('-')) {
        (Some((key, value)), _) => Some(change(key.to_owned(), Some(value.to_owned()))),
        (None, Some("")) => Some(none),
        (None, Some(key)) => Some(change(key.to_owned(), None)),
        (None, None) if environment => {
            let value = crate::cli::env::exact(text)?;
            Some(change(text.to_owned(), Some(value)))
        }
        (None, None) => Some(change(text.to_owned(), Some(String::new()))),
    }
}

/// The ports of one `--port`, which may be a range.
fn ports(text: &str) -> Result<Vec<Change>, Report> {
    if text == "-" {
        return Ok(vec![Change::NoPorts]);
    }
    let (range, on) = match text.strip_suffix('-') {
        Some(range) => (range, false),
        None => (text, true),
    };
    let ports = port_specs(range).map_err(|error| Report::wrong_use(error.to_string()))?;
    let change = |port: &crate::dockerfile::Port| Change::Port(port.to_string(), on);
    Ok(ports.iter().map(change).collect())
}

fn nanos(text: &str) -> Result<i64, String> {
    let wrong = || "expected a time such as `30s` or `1m30s`".to_owned();
    let time = go_duration(text).ok_or_else(wrong)?;
    i64::try_from(time.as_nanos()).map_err(|_| wrong())
}
