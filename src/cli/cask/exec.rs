//! `cask exec`: a program more in a container that runs.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use super::options::{read_env_file, variable};
use super::run::{KeyArgs, exit, failed, take_signals};
use crate::cli::Session;
use crate::cli::report::Report;
use crate::runner::{self, Error, ExecRequest, Terminal};

/// Run a program in a container that runs
///
/// It has the container's user, variables and capabilities unless others are asked for. The exit
/// code is the program's own, 126 when it can't be executed, 127 when there is none.
#[derive(Debug, clap::Args)]
#[command(override_usage = "cask exec [OPTIONS] CONTAINER PROGRAM [ARG]...")]
pub(super) struct Exec {
    /// Name or id of the container, the program and its arguments
    #[arg(
        value_names = ["CONTAINER", "PROGRAM", "ARG"],
        num_args = 2..,
        required = true,
        trailing_var_arg = true
    )]
    words: Vec<String>,

    /// Do not wait for it
    #[arg(short, long)]
    detach: bool,

    #[command(flatten)]
    manner: Manner,

    /// File with such variables, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Name or id of the user, `:GROUP` may follow
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// All capabilities there are
    #[arg(long)]
    privileged: bool,
}

/// How a program is run besides the one that a container is there for.
#[derive(Debug, clap::Args)]
pub(super) struct Manner {
    /// Keep standard input open
    #[arg(short, long)]
    pub(super) interactive: bool,

    /// Give the program a terminal
    #[arg(short, long)]
    pub(super) tty: bool,

    /// Variable for the program; without a value the environment's
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    env: Vec<String>,

    /// Working directory
    #[arg(short, long, value_name = "DIR", value_parser = workdir)]
    pub(super) workdir: Option<String>,

    #[command(flatten)]
    pub(super) keys: KeyArgs,
}

/// Parses a working directory: nothing is the usual one.
pub(super) fn workdir(text: &str) -> Result<String, String> {
    match text.is_empty() || text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` is not absolute")),
    }
}

impl Manner {
    /// The variables, those without a value as the environment has them.
    pub(super) fn variables(&self) -> impl Iterator<Item = String> {
        self.env.iter().filter_map(|pair| variable(pair))
    }
}

impl Exec {
    /// Runs it.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let mut env = Vec::new();
        for file in &self.env_file {
            env.extend(read_env_file(file)?);
        }
        env.extend(self.manner.variables());
        let store = session.store()?;
        let (container, command) = match self.words.split_first() {
            Some((container, command)) => (runner::find(&store, container)?, command.to_vec()),
            None => return Err(Report::wrong_use("no container is named")),
        };
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let terminal = Terminal {
            stdin: stdin.as_fd(),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
        };
        let Manner {
            interactive,
            tty,
            workdir,
            keys,
            ..
        } = self.manner;
        let window = match tty {
            true => Some(terminal.window(interactive && !self.detach)?),
            false => None,
        };
        let request = ExecRequest {
            command,
            env,
            workdir: workdir.filter(|dir| !dir.is_empty()),
            user: self.user,
            privileged: self.privileged,
            window,
            detach: self.detach,
        };
        let signals = take_signals()?;
        let started = runner::exec(&container, &request, interactive, &terminal);
        let attached = started.map_err(|error| match error {
            // Only a program that was looked for has an exit code of its own.
            Error::NotStarted(_) => failed(error),
            error => error.into(),
        })?;
        if self.detach {
            return Ok(ExitCode::SUCCESS);
        }
        let outcome = attached.serve(&terminal, &signals, &keys.detach_keys);
        Ok(exit(outcome.map_err(failed)?))
    }
}
