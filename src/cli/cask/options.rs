//! What `run` and `create` have in common: the options, and the container that comes of them.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::connect::NetworkOptions;
use super::docker;
use super::exec::workdir;
use super::mounts;
use super::ports;
use crate::cli::args::{self, Given, IsolationArgs, Registry};
use crate::cli::report::Report;
use crate::cli::{Session, env, files, signals, ui};
use crate::event::{Event, Sink};
use crate::image::Healthcheck;
use crate::runner::{
    self, Container, Log, LogDriver, Publish, Request, Restart, VolumeMount, VolumeSource, Wording,
};
use crate::sandbox::Isolation;
use crate::store::Store;
use crate::transfer::{Network, Options};

/// Options of a new container.
#[derive(Debug, clap::Args)]
#[command(mut_args(crate::cli::args::switches))]
pub(super) struct NewContainer {
    /// The image, and what the program gets in place of the image's CMD
    #[arg(value_names = ["IMAGE", "ARG"], num_args = 1.., required = true, trailing_var_arg = true)]
    pub(super) image_and_args: Vec<String>,

    /// Remove the container when its program ends, with the volumes of its own
    #[arg(long)]
    pub(super) rm: bool,

    /// Keep standard input open
    #[arg(short, long)]
    pub(super) interactive: bool,

    /// Give the program a terminal
    #[arg(short, long)]
    pub(super) tty: bool,

    /// Name of the container
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Variable for the program; without a value the environment's
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    env: Vec<String>,

    /// File with such variables, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Working directory
    #[arg(short, long, value_name = "DIR", value_parser = workdir)]
    workdir: Option<String>,

    /// Name or id of the user, `:GROUP` may follow
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Label of the container
    #[arg(short, long = "label", value_name = "KEY[=VALUE]", value_parser = args::label)]
    labels: Vec<(String, String)>,

    /// File with labels, one a line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,

    /// Path of the machine, or volume by its name, that the program sees
    #[arg(short, long = "volume", value_name = "[SOURCE:]TARGET[:OPTIONS]", value_parser = |text: &str| Given::parse(text, mounts::volume))]
    volumes: Vec<Given<VolumeMount>>,

    /// The same in fields: `type=bind|volume|tmpfs,source=…,target=…,readonly`
    #[arg(long = "mount", value_name = "FIELDS", value_parser = mounts::mount)]
    mounts: Vec<VolumeMount>,

    /// Directory in memory: `size=64m`, `mode=1777`, `exec`
    #[arg(long, value_name = "TARGET[:OPTIONS]", value_parser = |text: &str| Given::parse(text, mounts::tmpfs))]
    tmpfs: Vec<Given<VolumeMount>>,

    /// Mount what another container mounts
    #[arg(long, value_name = "CONTAINER[:ro]")]
    volumes_from: Vec<String>,

    /// Program to run in place of the image's ENTRYPOINT
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,

    #[command(flatten)]
    network: NetworkOptions,

    /// Name and address for `/etc/hosts`; `host-gateway` as the address is the machine, with what
    /// listens on its loopback addresses
    #[arg(long = "add-host", value_name = "HOST:IP", value_parser = args::host_address)]
    hosts: Vec<(String, String)>,

    /// Name server to ask in place of the machine's
    #[arg(long, value_name = "IP")]
    dns: Vec<IpAddr>,

    /// Port of the container, and where it is reachable from outside
    #[arg(short, long, value_name = "[[IP:]PORT:]PORT[/PROTOCOL]", value_parser = ports::publish)]
    publish: Vec<Vec<Publish>>,

    /// Make every exposed port reachable at a free one
    #[arg(short = 'P', long)]
    publish_all: bool,

    /// Port that the program listens on
    #[arg(long, value_name = "PORT[/PROTOCOL]", value_parser = ports::expose)]
    expose: Vec<Vec<String>>,

    /// Domain that names without a dot are looked for in; `.` is none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,

    /// Option of the resolver, such as `ndots:2`
    #[arg(long = "dns-option", visible_alias = "dns-opt", value_name = "OPTION")]
    dns_options: Vec<String>,

    /// Host name in the container
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,

    /// Domain of that name
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,

    /// Setting of the kernel for the container's network or its IPC, such as
    /// `net.ipv4.ip_forward=1`
    #[arg(long = "sysctl", value_name = "NAME=VALUE", value_parser = docker::sysctl)]
    sysctls: Vec<(String, String)>,

    /// How soon the kernel kills the program when memory runs out: from -1000, never, to 1000
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(-1000..=1000)
    )]
    oom_score_adj: Option<i32>,

    /// Note about the container, which `inspect` shows
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = args::label)]
    annotations: Vec<(String, String)>,

    /// To whom files belong that programs make in mounts: `auto` is what costs nothing; `keep` is
    /// the caller, whoever the container's user is, or an error; `none` is the user inside, by the
    /// same number, or an error
    #[arg(long, value_name = "MAP", default_value = "auto", value_parser = ["auto", "keep", "none"])]
    user_map: String,

    /// Keep the program from writing to the container's file system
    #[arg(long)]
    read_only: bool,

    /// Whether a small init of ours is pid 1, which reaps and passes signals on
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "true",
        action = clap::ArgAction::Set
    )]
    init: bool,

    /// When to start it again: no, on-failure[:TIMES], always or unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: Restart,

    /// Signal that asks the program to stop
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    stop_signal: Option<String>,

    /// Seconds it may take to stop; negative is for ever
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,

    #[command(flatten)]
    health: HealthOptions,

    /// Where its output is kept: json-file (in the store, until it is removed), journald (there and
    /// in systemd's journal) or none
    #[arg(long, value_name = "DRIVER", default_value = "json-file", value_parser = log_driver)]
    log_driver: LogDriver,

    /// `max-size=10m` of a log file, `max-file=5` files that are kept
    #[arg(long = "log-opt", value_name = "KEY=VALUE")]
    log_options: Vec<String>,

    /// Whether to pull the image: missing, always or never
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["missing", "always", "never"])]
    pull: String,

    /// Platform of the image
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<crate::image::Platform>,

    /// Write the container's id to this file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,

    /// No progress of a pull
    #[arg(short, long)]
    quiet: bool,

    /// Give the program all capabilities and mask nothing
    #[arg(long)]
    privileged: bool,

    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    #[command(flatten)]
    isolation: IsolationArgs,

    #[command(flatten)]
    others: docker::Others,

    #[command(flatten)]
    registry: Registry,
}

/// How to see whether the program is well.
#[derive(Debug, clap::Args)]
struct HealthOptions {
    /// Shell command whose exit code says whether the program is well
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,

    /// Time between two checks
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_interval: Option<Duration>,

    /// Time that a check may take
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_timeout: Option<Duration>,

    /// Time in which failures do not count
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_start_period: Option<Duration>,

    /// Time between two checks while the program starts
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    health_start_interval: Option<Duration>,

    /// Failures in a row that make it unhealthy
    #[arg(long, value_name = "N")]
    health_retries: Option<u32>,

    /// No checks, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthOptions {
    fn given(&self) -> Healthcheck {
        let nanos = |time: Option<Duration>| {
            time.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
        };
        let test = match (&self.health_cmd, self.no_healthcheck) {
            (_, true) => vec!["NONE".to_owned()],
            (Some(command), _) => vec!["CMD-SHELL".to_owned(), command.clone()],
            (None, _) => Vec::new(),
        };
        Healthcheck {
            test,
            interval: nanos(self.health_interval),
            timeout: nanos(self.health_timeout),
            start_period: nanos(self.health_start_period),
            start_interval: nanos(self.health_start_interval),
            retries: self.health_retries.map_or(0, i64::from),
        }
    }
}

/// Parses a length of time as Go does: `1m30s`, `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no length of time, such as `30s` or `1m30s`");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)?;
        let number: f64 = rest[..end].parse().map_err(|_| bad())?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(bad()),
        };
        total += Duration::try_from_secs_f64(number * unit).map_err(|_| bad())?;
        rest = &rest[end..];
    }
    match text.is_empty() {
        true => Err(bad()),
        false => Ok(total),
    }
}

fn signal(text: &str) -> Result<String, String> {
    match runner::signal_number(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("`{text}` is no signal")),
    }
}

fn log_driver(text: &str) -> Result<LogDriver, String> {
    match text {
        "json-file" | "local" => Ok(LogDriver::JsonFile),
        "journald" => Ok(LogDriver::Journald),
        "none" => Ok(LogDriver::None),
        _ => Err("expected `json-file`, `journald` or `none`".to_owned()),
    }
}

fn log(driver: LogDriver, options: &[String]) -> Result<Log, Report> {
    let mut log = Log {
        driver,
        ..Log::default()
    };
    for option in options {
        let bad = |why: String| Report::wrong_use(format!("`--log-opt {option}`: {why}"));
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "max-size" if value == "-1" => log.max_size = u64::MAX,
            "max-size" => log.max_size = runner::bytes(value).map_err(bad)?,
            "max-file" => match value.parse::<u64>() {
                Ok(files) if files > 0 => log.max_files = files,
                _ => return Err(bad("expected a number of files".to_owned())),
            },
            // Files are not compressed, and there is nothing to buffer.
            "compress" | "mode" | "max-buffer-size" | "labels" | "env" | "tag" => {}
            _ => return Err(bad("there are `max-size` and `max-file`".to_owned())),
        }
    }
    Ok(log)
}

impl NewContainer {
    /// Makes the container, pulling its image if that is needed; `attached` are the streams that
    /// the caller is going to stay with.
    pub(super) fn create(
        &self,
        session: &Session,
        attached: [bool; 3],
    ) -> Result<(Store, Container), Report> {
        let mut request = self.request()?;
        request.wording.attached = attached;
        let pull = match self.pull.as_str() {
            "never" => None,
            _ => Some(self.registry.options()?),
        };
        if let Some(path) = self.cidfile.as_deref().filter(|path| path.exists()) {
            return Err(Report::failed(format!("{} exists already", path.display())));
        }
        let (store, rung) = session.store_with_power()?;
        if let Some(refusal) = rung.refusal() {
            let report = Report::failed("a container can't be isolated here");
            return Err(report.because(refusal));
        }
        request.keep = docker::check_user_map(&self.user_map, rung.kind())?;
        // Threads of a pull must not take the signals that are the program's.
        let held = signals::Held::new()?;
        let shown = session.modest(self.quiet);
        rung.announce(&shown);
        // A port leads into a network of the container's own.
        let publishes = request.publish_all || !request.publish.is_empty();
        let settled = self.network.settle(&store, publishes)?;
        if let Some(text) = &settled.note {
            shown.emit(Event::Warning { text });
        }
        if settled.shares.is_some() && request.hostname.is_some() {
            let text = "`--hostname` is up to the container whose network it is";
            return Err(Report::wrong_use(text));
        }
        (request.network, request.networks) = (settled.network, settled.networks);
        request.shares = settled.shares;
        docker::check_sysctls(&request)?;
        request.mounts.extend(self.borrowed(&store)?);
        let pull = pull.map(|options| Options {
            network: Network::new(options),
            platform: self.platform.clone(),
            ..Options::default()
        });
        let choice = runner::Choice {
            platform: self.platform.clone(),
            pull: pull.as_ref(),
            always: self.pull == "always",
        };
        let container = runner::create(&store, &request, &choice, &shown);
        drop(shown);
        drop(held);
        let container = container?;
        if let Some(path) = &self.cidfile {
            let written = files::write(path, container.id.as_bytes());
            // Nobody would know its id.
            written.inspect_err(|_| undo(&container))?;
        }
        let own = matches!(
            request.network,
            runner::Network::Private | runner::Network::Named
        );
        if publishes && !own {
            ui::note("warning: ports are published on a private network only");
        }
        Ok((store, container))
    }

    /// Takes back what [`NewContainer::create`] made, if its program never ran.
    pub(super) fn take_back(&self, container: &Container) {
        undo(container);
        if let Some(path) = self.cidfile.as_deref().filter(|_| !container.exists()) {
            // It names a container that is gone.
            let _ = fs::remove_file(path);
        }
    }

    fn borrowed(&self, store: &Store) -> Result<Vec<VolumeMount>, Report> {
        let mut mounts = Vec::new();
        for text in &self.volumes_from {
            let (name, read_only) = match text.rsplit_once(':') {
                Some((name, "ro")) => (name, true),
                Some((name, "rw")) => (name, false),
                _ => (text.as_str(), false),
            };
            for mut mount in runner::find(store, name)?.config.mounts {
                mount.read_only |= read_only;
                // It is the other container's own.
                mount.anonymous = false;
                mounts.push(mount);
            }
        }
        Ok(mounts)
    }

    fn request(&self) -> Result<Request, Report> {
        let (image, args) = match self.image_and_args.split_first() {
            Some((image, args)) => (image, args.to_vec()),
            None => return Err(Report::wrong_use("no image is named")),
        };
        let mut env = Vec::new();
        for file in &self.env_file {
            env.extend(read_env_file(file)?);
        }
        env.extend(self.env.iter().filter_map(|pair| variable(pair)));
        let mut labels = Vec::new();
        for file in &self.label_file {
            for line in read_lines(file)? {
                labels.push(args::label(&line).map_err(Report::wrong_use)?);
            }
        }
        labels.extend(self.labels.iter().cloned());
        let restart = self.restart;
        if self.rm && restart != Restart::No {
            return Err(Report::wrong_use(
                "`--rm` and `--restart` contradict each other",
            ));
        }
        self.isolation.check_range()?;
        self.others.check()?;
        let volumes = self.volumes.iter().map(|given| &given.means);
        let tmpfs = self.tmpfs.iter().map(|given| &given.means);
        let mounts = volumes.chain(&self.mounts).chain(tmpfs);
        let mounts: Vec<VolumeMount> = mounts.cloned().collect();
        mounts::check_targets(&mounts)?;
        Ok(Request {
            args,
            name: self.name.clone(),
            entrypoint: self.entrypoint.clone(),
            env,
            workdir: self.workdir.clone().filter(|dir| !dir.is_empty()),
            user: self.user.clone(),
            hostname: self.hostname.clone(),
            mounts,
            domainname: self.domainname.clone(),
            dns: self.dns.clone(),
            dns_search: self.dns_search.clone(),
            dns_options: self.dns_options.clone(),
            sysctls: self.sysctls.clone(),
            oom_score_adj: self.oom_score_adj,
            annotations: self.annotations.iter().cloned().collect(),
            isolation: self.isolation.over(match self.privileged {
                true => Isolation::privileged(),
                false => Isolation::default(),
            })?,
            tty: self.tty,
            interactive: self.interactive,
            remove: self.rm,
            read_only: self.read_only,
            labels: labels.into_iter().collect(),
            init: self.init,
            restart,
            stop_signal: self.stop_signal.clone(),
            stop_timeout: self.stop_timeout,
            health: self.health.given(),
            log: log(self.log_driver, &self.log_options)?,
            expose: self.expose.iter().flatten().cloned().collect(),
            publish: self.publish.iter().flatten().cloned().collect(),
            publish_all: self.publish_all,
            hosts: self.hosts.clone(),
            wording: self.wording(),
            ..Request::new(image)
        })
    }
}

impl NewContainer {
    /// What `inspect` is to show as it was said.
    fn wording(&self) -> Wording {
        let mut wording = Wording {
            binds: self.volumes.iter().filter_map(bind).collect(),
            mounts: self.mounts.clone(),
            volumes_from: self.volumes_from.clone(),
            privileged: self.privileged,
            cidfile: self.cidfile.clone(),
            ..Wording::default()
        };
        let parts = |text: &str, at| {
            let (key, value) = text.split_once(at).unwrap_or((text, ""));
            (key.to_owned(), value.to_owned())
        };
        let tmpfs = self.tmpfs.iter().map(|given| parts(&given.text, ':'));
        wording.tmpfs = tmpfs.collect();
        let log = self.log_options.iter().map(|text| parts(text, '='));
        wording.log_options = log.collect();
        self.isolation.word(&mut wording);
        self.others.word(&mut wording);
        wording
    }
}

/// The text of a `-v` with a source; a path is told as the machine knows it.
fn bind(given: &Given<VolumeMount>) -> Option<String> {
    match (&given.means.source, given.text.split_once(':')) {
        (VolumeSource::Bind(path), Some((_, rest))) => Some(format!("{}:{rest}", path.display())),
        (VolumeSource::Named(_), _) => Some(given.text.clone()),
        _ => None,
    }
}

/// Takes back a container whose program never ran; why it did not is what the caller is told.
pub(super) fn undo(container: &Container) {
    if container.state().is_ok_and(|state| state.started.is_none()) {
        let _ = runner::remove(container, false, true);
    }
}

/// Looks up the value of a `KEY` alone; one that is not set is left out.
pub(super) fn variable(pair: &str) -> Option<String> {
    match pair.contains('=') {
        true => Some(pair.to_owned()),
        false => env::exact(pair).map(|value| format!("{pair}={value}")),
    }
}

/// The lines of a file but for empty ones and those that `#` begins.
fn read_lines(path: &Path) -> Result<Vec<String>, Report> {
    let text = fs::read_to_string(path).map_err(|error| {
        Report::failed(format!("cannot read {}", path.display())).because(&error)
    })?;
    let lines = text.lines().map(str::trim_start);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// Reads docker's `--env-file`: a variable a line, `#` begins a comment line, no quotes.
pub(super) fn read_env_file(path: &Path) -> Result<Vec<String>, Report> {
    let mut out = Vec::new();
    for line in read_lines(path)? {
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Report::wrong_use(format!(
                "{}: `{name}` can't be the name of a variable",
                path.display()
            )));
        }
        out.extend(variable(&line));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(disable_help_flag = true)]
    struct Alone {
        #[command(flatten)]
        new: NewContainer,
    }

    fn parse(args: &[&str]) -> Result<NewContainer, String> {
        let args = std::iter::once("run").chain(args.iter().copied());
        Alone::try_parse_from(args)
            .map(|alone| alone.new)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn options_stop_at_the_image() {
        let run = parse(&["--rm", "-it", "-e", "A=1", "app", "-e", "--rm", "--", "-x"]).unwrap();
        assert!(run.rm && run.interactive && run.tty && run.init);
        assert_eq!(run.env, ["A=1"]);
        assert_eq!(run.image_and_args, ["app", "-e", "--rm", "--", "-x"]);
        assert!(parse(&["--bogus", "app"]).is_err());
        assert!(parse(&[]).is_err());
        assert_eq!(
            parse(&["--", "app", "-x"]).unwrap().image_and_args,
            ["app", "-x"]
        );
        assert!(!parse(&["--init=false", "app"]).unwrap().init);
    }

    #[test]
    fn lengths_of_time_are_gos() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert!(duration("").is_err() && duration("5").is_err() && duration("5x").is_err());
    }

    #[test]
    fn contradictions_are_refused() {
        let refused = |args: &[&str]| parse(args).unwrap().request().is_err();
        assert!(refused(&["--rm", "--restart=always", "app"]));
        assert!(refused(&["--log-opt", "max-size=x", "app"]));
        assert!(!refused(&[
            "--log-opt",
            "max-size=1m",
            "--log-opt",
            "max-file=2",
            "app"
        ]));
        assert!(parse(&["--stop-signal", "NOPE", "app"]).is_err());
    }
}
