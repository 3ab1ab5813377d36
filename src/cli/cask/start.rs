//! `cask start`, `cask restart` and `cask attach`.

use std::os::fd::AsFd;
use std::process::ExitCode;

use super::each::each_container;
use super::run::{KeyArgs, Stay, StayArgs, start, take_signals, warn_if_deaf};
use super::stop::EndArgs;
use crate::cli::Session;
use crate::cli::args::refusal;
use crate::cli::report::{RUN_FAILED, Report};
use crate::runner::{self, Attach, Container, Error, Status, Terminal};
use crate::store::Store;

/// Start containers that do not run
#[derive(Debug, clap::Args)]
pub(super) struct Start {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,

    /// Stay until the program ends, with its output and signals
    #[arg(short, long)]
    attach: bool,

    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,

    #[command(flatten)]
    keys: KeyArgs,

    #[arg(long, hide = true, value_name = "NAME")]
    checkpoint: Option<String>,

    #[arg(long, hide = true, value_name = "DIR")]
    checkpoint_dir: Option<String>,
}

impl Start {
    /// Starts them; one that runs already is left alone.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        if self.checkpoint.is_some() || self.checkpoint_dir.is_some() {
            let why = "processes are not written to disk and brought back";
            return Err(refusal("--checkpoint", why, ""));
        }
        let stay = Stay::new(&self.keys.detach_keys);
        let (store, _) = session.store_with_power()?;
        if self.attach || self.interactive {
            let [name] = &self.containers[..] else {
                return Err(Report::wrong_use("only one container can be attached to"));
            };
            let container = runner::find(&store, name)?;
            if container.state()?.status.is_up() {
                return attach(&container, self.interactive, &stay);
            }
            container.refuse_dead()?;
            let attach = Attach::Caller {
                input: self.interactive,
            };
            return start(session, &store, &container, attach, &stay)
                .map_err(|report| report.exit_if_own(RUN_FAILED));
        }
        each_container(&store, &self.containers, |container| {
            start_alone(session, &store, &container)
        })
    }
}

/// Starts a container that nobody attaches to.
pub(super) fn start_alone(
    session: &Session,
    store: &Store,
    container: &Container,
) -> Result<(), Report> {
    match container.state()?.status {
        Status::Running | Status::Restarting => return Ok(()),
        Status::Paused => {
            let name = &container.config.name;
            return Err(Report::failed(format!("container `{name}` is paused"))
                .hint(format!("`cask unpause {name}`")));
        }
        Status::Created | Status::Exited | Status::Dead => {}
    }
    match runner::start(
        store,
        container,
        Attach::Nobody,
        None,
        &session.modest(true),
    ) {
        Ok(_) => {
            warn_if_deaf(container);
            Ok(())
        }
        // Somebody was faster.
        Err(Error::Running { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Stop containers and start them again
#[derive(Debug, clap::Args)]
pub(super) struct Restart {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,

    #[command(flatten)]
    end: EndArgs,
}

impl Restart {
    /// Restarts them; one that does not run is started.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let (store, _) = session.store_with_power()?;
        each_container(&store, &self.containers, |container| match runner::restart(
            &container,
            self.end.signal,
            self.end.time,
        )? {
            true => Ok(()),
            false => start_alone(session, &store, &container),
        })
    }
}

/// Attach to the program of a container that runs
///
/// Its output comes here, standard input and signals go there. Ctrl-P Ctrl-Q leaves it to
/// itself if it has a terminal.
#[derive(Debug, clap::Args)]
pub(super) struct AttachVerb {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// Keep standard input here
    #[arg(long)]
    no_stdin: bool,

    #[command(flatten)]
    stay: StayArgs,
}

impl AttachVerb {
    /// Stays until the program ends or the keys are typed.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        let container = runner::find(&store, &self.container)?;
        attach(&container, !self.no_stdin, &self.stay.stay())
    }
}

fn attach(container: &Container, input: bool, stay: &Stay) -> Result<ExitCode, Report> {
    let name = || container.config.name.clone();
    match container.state()?.status {
        Status::Paused => return Err(Error::Paused { name: name() }.into()),
        Status::Restarting => return Err(Error::Restarting { name: name() }.into()),
        _ => {}
    }
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let terminal = Terminal {
        stdin: stdin.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
    };
    let request = &container.config.request;
    let window = match request.tty {
        true => Some(terminal.window(input && request.interactive)?),
        false => None,
    };
    let signals = take_signals()?;
    let attached = runner::attach(container, input, window)?;
    stay.serve(attached, &terminal, &signals)
}

/// Start what is to run when the machine does
#[derive(Debug, clap::Args)]
pub(super) struct Boot {
    /// Print what makes the machine's own init call this instead: systemd, openrc or cron
    #[arg(long, value_name = "INIT", value_parser = ["systemd", "openrc", "cron"])]
    unit: Option<String>,
}

impl Boot {
    /// Starts the containers whose restart policy says so.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        if let Some(unit) = &self.unit {
            return super::units::print(unit, session);
        }
        let (store, _) = session.store_with_power()?;
        let mut names = Vec::new();
        for (container, state) in runner::list(&store)? {
            // One that had ended well by then is not to be started again.
            let was_up = state.lost && state.exit_code != Some(0);
            let policy = container.config.request.restart;
            if !state.status.is_up()
                && state.status != Status::Created
                && policy.at_boot(was_up, state.stopped)
            {
                names.push(container.config.name.clone());
            }
        }
        each_container(&store, &names, |container| {
            start_alone(session, &store, &container)
        })
    }
}
