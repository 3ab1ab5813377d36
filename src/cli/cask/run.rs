//! `cask run` and `cask create`: a new container, and what becomes of it.

use std::os::fd::AsFd;
use std::process::ExitCode;

use super::options::NewContainer;
use crate::cli::report::{RUN_FAILED, Report};
use crate::cli::{Session, ui};
use crate::runner::{self, Attach, Container, DetachKeys, Outcome, Terminal};
use crate::sandbox::Signals;
use crate::store::Store;

/// How the caller stays with a program.
#[derive(Debug, Clone)]
pub(super) struct Stay {
    /// Keys that leave it to itself.
    pub(super) keys: DetachKeys,
    /// Whether standard output and error are shown.
    pub(super) shows: [bool; 2],
    /// Whether it gets the caller's signals.
    pub(super) passes_signals: bool,
}

impl Stay {
    /// All output is shown, all signals are passed on.
    pub(super) fn new(keys: &DetachKeys) -> Self {
        Self {
            keys: keys.clone(),
            shows: [true; 2],
            passes_signals: true,
        }
    }

    /// Stays until the program ends or the caller leaves.
    pub(super) fn serve(
        &self,
        attached: runner::Session,
        terminal: &Terminal<'_>,
        signals: &Signals,
    ) -> Result<ExitCode, Report> {
        let attached = attached.showing(self.shows[0], self.shows[1]);
        let attached = match self.passes_signals {
            true => attached,
            false => attached.keeping_signals(),
        };
        let outcome = attached.serve(terminal, signals, &self.keys);
        Ok(exit(outcome.map_err(failed)?))
    }
}

/// How a caller who stays can go.
#[derive(Debug, clap::Args)]
pub(super) struct KeyArgs {
    /// Keys that leave the program to itself
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(super) detach_keys: DetachKeys,
}

/// How the caller of `run` and `attach` stays.
#[derive(Debug, clap::Args)]
#[command(mut_args(crate::cli::args::switches))]
pub(super) struct StayArgs {
    #[command(flatten)]
    keys: KeyArgs,

    /// Whether signals to cask are passed on to the program
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "true",
        action = clap::ArgAction::Set
    )]
    sig_proxy: bool,
}

impl StayArgs {
    /// Stays as asked, with all output.
    pub(super) fn stay(&self) -> Stay {
        Stay {
            passes_signals: self.sig_proxy,
            ..Stay::new(&self.keys.detach_keys)
        }
    }
}

/// A stream that `-a` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

/// Which of the three streams the caller stays with, all if `named` names none.
fn attached(new: &NewContainer, named: &[Stream]) -> [bool; 3] {
    let stays_with = |stream| named.is_empty() || named.contains(&stream);
    [
        new.interactive && stays_with(Stream::Stdin),
        stays_with(Stream::Stdout),
        stays_with(Stream::Stderr),
    ]
}

fn stream(text: &str) -> Result<Stream, String> {
    match text.to_ascii_lowercase().as_str() {
        "stdin" => Ok(Stream::Stdin),
        "stdout" => Ok(Stream::Stdout),
        "stderr" => Ok(Stream::Stderr),
        _ => Err("expected `stdin`, `stdout` or `stderr`".to_owned()),
    }
}

/// Run a program in a new container
///
/// Options stop at IMAGE; what follows is the program's. An image that is not in the store is
/// pulled. The exit code is the program's own, 125 when cask itself fails, 126 when the program
/// can't be executed, 127 when there is none.
///
/// The container has a network of its own that reaches the world, unless `--network` says
/// otherwise or /dev/net/tun can't be opened, which is said.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "cask run [OPTIONS] IMAGE [ARG]...",
    disable_help_flag = true
)]
pub(super) struct Run {
    /// Leave the container to itself and print its id
    #[arg(short, long)]
    detach: bool,

    #[command(flatten)]
    stay: StayArgs,

    /// Streams to stay with, of stdin, stdout and stderr [default: all]
    #[arg(short, long, value_name = "STREAM", value_parser = stream, conflicts_with = "detach")]
    attach: Vec<Stream>,

    #[command(flatten)]
    new: NewContainer,
}

impl Run {
    /// Runs it. Whatever goes wrong before the program runs has docker's exit code for that.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        self.create_and_start(session)
            .map_err(|report| report.exit_if_own(RUN_FAILED))
    }

    fn create_and_start(self, session: &Session) -> Result<ExitCode, Report> {
        let attached = match self.detach {
            true => [false; 3],
            false => attached(&self.new, &self.attach),
        };
        let (store, container) = self.new.create(session, attached)?;
        let [input, shows @ ..] = attached;
        let attach = match self.detach {
            true => Attach::Nobody,
            false => Attach::Caller { input },
        };
        let stay = Stay {
            shows,
            ..self.stay.stay()
        };
        let started = start(session, &store, &container, attach, &stay);
        if started.is_err() {
            self.new.take_back(&container);
        }
        let exit = started?;
        if self.detach {
            ui::data(&container.id)?;
            warn_if_deaf(&container);
        }
        Ok(exit)
    }
}

/// Starts a container, and stays with it until its program ends if the caller is attached.
pub(super) fn start(
    session: &Session,
    store: &Store,
    container: &Container,
    attach: Attach,
    stay: &Stay,
) -> Result<ExitCode, Report> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let terminal = Terminal {
        stdin: stdin.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
    };
    let window = match (container.config.request.tty, attach) {
        (true, Attach::Caller { input }) => Some(terminal.window(input)?),
        _ => None,
    };
    // Before other threads exist, so that they leave the signals to us.
    let signals = match attach {
        Attach::Caller { .. } => Some(take_signals()?),
        Attach::Nobody => None,
    };
    let started = runner::start(store, container, attach, window, &session.modest(true));
    match (started.map_err(failed)?, signals) {
        (Some(attached), Some(signals)) => stay.serve(attached, &terminal, &signals),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Warns of a program that `stop` will have to kill.
pub(super) fn warn_if_deaf(container: &Container) {
    // One that has ended and is gone hears nothing either.
    let Ok(Some(signal)) = runner::deaf(container) else {
        return;
    };
    let name = &container.config.name;
    let why = match container.config.request.init {
        true => "ignores it so far",
        false => "is pid 1 and has no handler for it so far; with `--init` it needs none",
    };
    ui::note(&format!(
        "warning: `{name}` does not stop by signal {signal}: its program {why}"
    ));
}

/// Takes all signals, which are the program's from now on.
pub(super) fn take_signals() -> Result<Signals, Report> {
    let taken = Signals::take_all();
    taken.map_err(|error| Report::failed("cannot wait for signals").because(&error))
}

/// The report with docker's exit code.
pub(super) fn failed(error: runner::Error) -> Report {
    let exit = error.exit_code();
    Report::from(error).exit(exit)
}

/// The exit code of a program, or success when the caller left it.
pub(super) fn exit(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::Ended(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Outcome::Detached => ExitCode::SUCCESS,
        Outcome::Left(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
    }
}

/// Make a container without starting it
///
/// The options are those of `run`. The container's id goes to standard output.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "cask create [OPTIONS] IMAGE [ARG]...",
    disable_help_flag = true
)]
pub(super) struct Create {
    /// Nothing: `start` says what to stay with.
    #[arg(short, long, hide = true, value_name = "STREAM", value_parser = stream)]
    attach: Vec<Stream>,

    #[command(flatten)]
    new: NewContainer,
}

impl Create {
    /// Makes it.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let attached = attached(&self.new, &self.attach);
        let (_, container) = self.new.create(session, attached)?;
        ui::data(&container.id)?;
        Ok(ExitCode::SUCCESS)
    }
}
