//! `cask stop`, `kill`, `pause`, `unpause`, `wait` and `rename`.

use std::process::ExitCode;
use std::time::SystemTime;

use super::docker::RealTimeArgs;
use super::each::{each_container, each_container_at_once, each_told, prune};
use super::ps;
use crate::cli::args::{LimitArgs, refusal};
use crate::cli::filters::Pruned;
use crate::cli::report::{Failures, Report};
use crate::cli::verbs::{Prune, tell_freed, until};
use crate::cli::{Session, env, ui};
use crate::runner::{self, Container, Error, Stopped, Until};
use crate::store::Store;

/// Parses a signal.
pub(super) fn signal(text: &str) -> Result<i32, String> {
    runner::signal_number(text).ok_or_else(|| format!("`{text}` is no signal"))
}

/// Stop containers
///
/// The program gets its stop signal and, when it has not ended in time, SIGKILL. One that is
/// known to ignore the signal is killed at once.
#[derive(Debug, clap::Args)]
pub(super) struct Stop {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required_unless_present = "all")]
    containers: Vec<String>,

    /// All that run
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    end: EndArgs,
}

/// How a program is brought to its end.
#[derive(Debug, clap::Args)]
pub(super) struct EndArgs {
    /// Seconds until the program is killed; negative is for ever
    #[arg(
        short,
        long,
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    pub(super) time: Option<i64>,

    /// Signal that asks the program to stop
    #[arg(short, long, value_name = "SIGNAL", value_parser = signal)]
    pub(super) signal: Option<i32>,
}

impl Stop {
    /// Stops them at the same time; one that does not run is left alone.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        let names = match self.all {
            true => running(&store)?,
            false => self.containers,
        };
        each_container_at_once(&store, &names, |container| {
            let stopped = runner::stop(&container, self.end.signal, self.end.time)?;
            if let Stopped::Deaf { signal } = stopped {
                let name = &container.config.name;
                ui::note(&format!(
                    "warning: the program of `{name}` ignores signal {signal}, so it was killed at once"
                ));
            }
            Ok(())
        })
    }
}

fn running(store: &Store) -> Result<Vec<String>, Report> {
    let all = runner::list(store)?.into_iter();
    let up = all.filter(|(_, state)| state.status.is_up());
    Ok(up.map(|(container, _)| container.config.name).collect())
}

/// Send a signal to the programs of containers
#[derive(Debug, clap::Args)]
pub(super) struct Kill {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,

    /// Name or number of the signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = signal)]
    signal: i32,
}

impl Kill {
    /// Sends it.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        each_container(&store, &self.containers, |container| {
            Ok(runner::kill(&container, self.signal)?)
        })
    }
}

/// Halt all processes of containers
#[derive(Debug, clap::Args)]
pub(super) struct Pause {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Pause {
    /// Halts them.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        each_container(&store, &self.containers, |container| {
            Ok(runner::pause(&container)?)
        })
    }
}

/// Let halted containers go on
#[derive(Debug, clap::Args)]
pub(super) struct Unpause {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Unpause {
    /// Lets them go on.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        each_container(&store, &self.containers, |container| {
            Ok(runner::unpause(&container)?)
        })
    }
}

/// Wait until containers have ended, and print their exit codes
#[derive(Debug, clap::Args)]
pub(super) struct Wait {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,

    /// What to wait for: not-running, next-exit, removed or healthy
    #[arg(long, value_name = "CONDITION", default_value = "not-running", value_parser = condition)]
    condition: Until,
}

fn condition(text: &str) -> Result<Until, String> {
    match text {
        "not-running" | "stopped" | "exited" => Ok(Until::NotRunning),
        "next-exit" => Ok(Until::NextExit),
        "removed" => Ok(Until::Removed),
        "healthy" => Ok(Until::Healthy),
        _ => Err("expected not-running, next-exit, removed or healthy".to_owned()),
    }
}

impl Wait {
    /// Waits for one after the other.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        let mut failures = Failures::default();
        for name in &self.containers {
            let waited = runner::find(&store, name)
                .and_then(|container| runner::wait(&container, self.condition));
            match waited {
                Ok(code) => ui::data(&code)?,
                Err(error) => failures.add(error.into()),
            }
        }
        failures.result().map(|()| ExitCode::SUCCESS)
    }
}

/// Give a container another name
#[derive(Debug, clap::Args)]
pub(super) struct Rename {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// Its new name
    #[arg(value_name = "NAME")]
    name: String,
}

impl Rename {
    /// Renames it.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        let mut container = runner::find(&store, &self.container)?;
        container.rename(&self.name)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Change what containers were made with
///
/// Limits hold at once for those that run, and are kept for the next start. Where one can't be
/// kept nothing is changed.
#[derive(Debug, clap::Args)]
pub(super) struct Update {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,

    /// When to start it again: no, on-failure[:TIMES], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<runner::Restart>,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    real_time: RealTimeArgs,
}

impl Update {
    /// Changes it, from now on.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        self.real_time.check()?;
        if self.restart.is_none() && self.limits.is_empty() {
            return Err(Report::wrong_use("no option says what to change"));
        }
        self.limits.check_range()?;
        let store = session.store()?;
        each_container(&store, &self.containers, |container| self.update(container))
    }

    fn update(&self, mut container: Container) -> Result<(), Report> {
        let request = &container.config.request;
        let restart = self.restart.unwrap_or(request.restart);
        if request.remove && restart != runner::Restart::No {
            let text = format!(
                "`{}` is removed when its program ends (`--rm`), so it can't be started again",
                container.config.name
            );
            return Err(Report::failed(text));
        }
        let mut limits = self.limits.over(request.isolation.limits.clone())?;
        if !limits.is_empty() {
            limits.session_bus = env::session_bus();
        }
        Ok(container.update(|request| {
            (request.restart, request.isolation.limits) = (restart, limits);
        })?)
    }
}

/// Remove containers and what their programs wrote
#[derive(Debug, clap::Args)]
pub(super) struct Rm {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,

    /// Also those that run; containers that are not there are no error
    #[arg(short, long)]
    force: bool,

    /// Also the volumes of their own
    #[arg(short, long)]
    volumes: bool,

    #[arg(short, long, hide = true)]
    link: bool,
}

impl Rm {
    /// Removes one after the other; what can't be removed does not keep the others.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        if self.link {
            let why = "containers are not linked; those on one network find each other";
            return Err(refusal(
                "--link",
                why,
                "`cask network disconnect NETWORK CONTAINER`",
            ));
        }
        let store = session.store()?;
        each_told(&self.containers, |name| match runner::find(&store, name) {
            Ok(container) => {
                runner::remove(&container, self.force, self.volumes)?;
                Ok(Some(name.to_owned()))
            }
            Err(error @ Error::NoContainer { .. }) if self.force => {
                ui::note(&format!("warning: {error}"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        })
    }
}

/// Remove all containers that do not run, and what no image or container needs
#[derive(Debug, clap::Args)]
pub(super) struct PruneSystem {
    /// Also the volumes that no container mounts and that have no name
    #[arg(long)]
    volumes: bool,

    /// Also images with a name, unless a container uses them
    #[arg(short, long)]
    all: bool,

    /// Only what was made before: `until=24h`, `until=2026-01-31T10:00:00Z`. Volumes have no age
    #[arg(long = "filter", value_name = "until=TIME", value_parser = until, conflicts_with = "volumes")]
    until: Option<SystemTime>,

    /// Do not ask (nothing is ever asked)
    #[arg(short, long)]
    force: bool,
}

impl PruneSystem {
    /// Removes them, containers first, for they hold images.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        let filters: Vec<Pruned> = self.until.map(Pruned::Until).into_iter().collect();
        let mut freed = prune_containers(&store, &filters)?;
        super::network::prune(&store, &filters)?;
        if self.volumes {
            freed += super::volume::prune(&store, false, &[])?;
        }
        Prune::of(self.all, self.until).run_after(session, freed)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Remove all containers that do not run
#[derive(Debug, clap::Args)]
pub(super) struct PruneContainers {
    /// Do not ask (nothing is ever asked)
    #[arg(short, long)]
    force: bool,

    /// Only containers that match: `until=TIME`, `label=KEY[=VALUE]`, `label!=KEY[=VALUE]`
    #[arg(long = "filter", value_name = "FILTER", value_parser = Pruned::parse)]
    filters: Vec<Pruned>,
}

impl PruneContainers {
    /// Removes them.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let freed = prune_containers(&session.store()?, &self.filters)?;
        tell_freed(freed)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Removes containers that do not run, and returns how many bytes that freed.
fn prune_containers(store: &Store, filters: &[Pruned]) -> Result<u64, Report> {
    let all = runner::list(store)?.into_iter();
    let down = all.filter(|(_, state)| !state.status.is_up());
    let down = down.filter(|(container, _)| {
        let (created, labels) = (&container.config.created, ps::labels(container));
        filters.iter().all(|filter| filter.fits(created, &labels))
    });
    let ids: Vec<String> = down.map(|(container, _)| container.id).collect();
    prune("Deleted Containers:", &ids, |id| {
        let container = runner::find(store, id)?;
        // What can't be measured can be removed nevertheless.
        let written = runner::written_size(&container).unwrap_or(0);
        runner::remove(&container, false, false)?;
        Ok(written)
    })
}
