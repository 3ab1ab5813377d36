//! `run`: a program in a working container.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::build::working::{self, Habits, Streams};
use crate::build::{self, Cancel, ContextSource, Request, StepError};
use crate::cli::args::{self, IsolationArgs, NameArgs, NamespaceArgs, RefusedArgs};
use crate::cli::cask::mounts;
use crate::cli::report::Report;
use crate::cli::verbs::secrets;
use crate::cli::{Session, env, signals};
use crate::runner::{self, VolumeMount};
use crate::sandbox::Exit;
use clap::ArgAction;

/// Run a program in a working container
///
/// It runs as RUN would run it, with the container's user, variables and working directory; its
/// standard streams are the caller's. What it writes stays in the container. The exit code is the
/// program's own, 126 when it can't be executed, 127 when there is none.
///
/// The program uses the network of the machine unless `--network` says otherwise.
#[derive(Debug, clap::Args)]
#[command(override_usage = "cooper run [OPTIONS] CONTAINER [--] PROGRAM [ARG]...")]
#[command(mut_args(crate::cli::args::switches))]
pub(crate) struct Run {
    /// Name or id of the container, the program and its arguments
    #[arg(
        value_names = ["CONTAINER", "PROGRAM", "ARG"],
        num_args = 2..,
        required = true,
        trailing_var_arg = true
    )]
    words: Vec<String>,

    /// User, as USER has it
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Directory that the program starts in
    #[arg(long, visible_alias = "workdir", value_name = "DIR")]
    workingdir: Option<String>,

    /// Variable for the program; without a value the environment's
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    env: Vec<String>,

    /// Path of the machine to mount: `/HOST:/INSIDE[:ro]`
    #[arg(short, long = "volume", value_name = "HOST:INSIDE[:OPTIONS]", value_parser = mounts::volume)]
    volumes: Vec<VolumeMount>,

    /// Something to mount, as RUN has it: `type=cache|tmpfs|secret|ssh`, or `type=bind` with a
    /// path of the machine, or with `from=IMAGE`
    #[arg(long = "mount", value_name = "MOUNT")]
    mounts: Vec<String>,

    /// Directory in memory
    #[arg(long = "tmpfs", value_name = "INSIDE[:OPTIONS]", value_parser = mounts::tmpfs)]
    tmpfs: Vec<VolumeMount>,

    /// Give the program a terminal
    #[arg(
        short,
        long,
        visible_alias = "tty",
        value_name = "BOOL",
        default_value = "false",
        action = ArgAction::Set,
        hide_default_value = true,
    )]
    terminal: bool,

    /// Host name for the program [default: the beginning of the container's id]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,

    /// Network: `private`, `host`, `none` or `default` [default: what `from` was told, or host]
    #[arg(
        long,
        visible_alias = "net",
        value_name = "NETWORK",
        value_parser = args::network
    )]
    network: Option<args::Network>,

    #[command(flatten)]
    names: NameArgs,

    /// Directory that `--mount type=bind` without a source elsewhere takes its paths from
    #[arg(long, value_name = "DIR")]
    contextdir: Option<PathBuf>,

    /// Tell of it in the image's history
    #[arg(long)]
    add_history: bool,

    /// Secret for `--mount type=secret`: `id=ID,src=FILE` or `id=ID,env=VARIABLE`
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<String>,

    /// Agent for `--mount type=ssh`: `default` (the one in SSH_AUTH_SOCK), `ID=SOCKET` or
    /// `ID=KEYFILE[,KEYFILE…]`
    #[arg(long = "ssh", value_name = "ID[=SOCKET|KEYFILE]")]
    ssh: Vec<String>,

    #[command(flatten)]
    isolation: IsolationArgs,

    #[command(flatten)]
    namespaces: NamespaceArgs,

    #[command(flatten)]
    refused: RefusedArgs,
}

impl Run {
    /// Runs it.
    pub(crate) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        self.namespaces.check()?;
        self.refused.check()?;
        let (name, argv) = self.words.split_first().expect("clap asks for two");
        // A `--` after the name is buildah's way to begin the program.
        let argv = match argv.first().map(String::as_str) {
            Some("--") => &argv[1..],
            _ => argv,
        };
        if argv.is_empty() {
            return Err(Report::wrong_use("PROGRAM is missing"));
        }
        let (binds, mounts) = self.mounts()?;
        let secrets = secrets::secrets(&self.secrets)?;
        let agents = secrets::agents(&self.ssh)?;
        let (store, rung) = session.store_with_power()?;
        let mut container = working::find(&store, name)?;
        let mut request = self.request(&container.config.habits)?;
        request.secrets = secrets;
        request.ssh = agents;
        request.walls = rung.walls();
        let network = self.network(&container.config.habits)?;
        let (network, note) = match request.walls {
            build::Walls::Namespaces => network.settle(false)?,
            _ => (network.shared(), None),
        };
        request.network = network.of_steps();
        request.network_note = note;
        let volumes = store.root().join("volumes");
        let run = working::Run {
            argv: argv.to_vec(),
            user: self.user.clone(),
            workdir: self.workingdir.clone(),
            env: env::pairs(&self.env),
            hostname: self.hostname.clone(),
            mounts,
            binds: binds
                .iter()
                .map(|mount| runner::mounted(mount, &volumes))
                .collect(),
            streams: self.streams()?,
            history: self.add_history,
        };
        let cancel = Cancel::default();
        let stop = signals::Stop::on({
            let cancel = cancel.clone();
            move || cancel.cancel()
        })?;
        let shown = session.modest(true);
        match working::run(&mut container, &run, &request, &shown, &cancel) {
            Ok(Exit::Code(code)) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
            Ok(Exit::Signal(number)) => Ok(ExitCode::from(128 + u8::try_from(number).unwrap_or(0))),
            Err(build::Error::Cancelled) => Ok(stop.exit_code()),
            Err(error) => Err(failed(error)),
        }
    }

    /// What is asked of the library, on top of what the container was made with.
    fn request(&self, habits: &Habits) -> Result<Request, Report> {
        let mut request = super::request(&args::Registry::default())?;
        let context = self.contextdir.clone().unwrap_or_else(|| "/".into());
        request.context = ContextSource::Dir(context);
        request.proxies = env::proxies();
        habits.apply(&mut request);
        request.isolation = self.isolation.over(request.isolation)?;
        self.names.apply(&mut request);
        Ok(request)
    }

    fn network(&self, habits: &Habits) -> Result<args::Network, Report> {
        let told = habits.network.as_deref().map(args::network).transpose();
        let told = told.map_err(Report::failed)?;
        Ok(self.network.or(told).unwrap_or(args::Network::Host))
    }

    fn streams(&self) -> Result<Streams, Report> {
        let copy = |fd: std::os::fd::BorrowedFd<'_>| {
            fd.try_clone_to_owned()
                .map_err(|error| Report::failed("cannot hand a stream over").because(&error))
        };
        Ok(Streams::new(
            copy(std::io::stdin().as_fd())?,
            copy(std::io::stdout().as_fd())?,
            copy(std::io::stderr().as_fd())?,
            self.terminal,
        ))
    }

    /// What is mounted of the machine's own, and what is mounted as RUN does it.
    fn mounts(&self) -> Result<(Vec<VolumeMount>, Vec<String>), Report> {
        let mut binds = self.volumes.clone();
        binds.extend(self.tmpfs.iter().cloned());
        let mut others = Vec::new();
        for text in &self.mounts {
            let has = |wanted: &str| text.split(',').any(|field| field == wanted);
            let names = |key: &str| text.split(',').any(|field| field.starts_with(key));
            let of_context = self.contextdir.is_some() || names("from=");
            if (has("type=bind") || !names("type=")) && !of_context {
                let text = match names("type=") {
                    true => text.clone(),
                    false => format!("type=bind,{text}"),
                };
                let wrong = |why| Report::wrong_use(format!("`--mount {text}`: {why}"));
                binds.push(mounts::mount(&text).map_err(wrong)?);
            } else {
                others.push(text.clone());
            }
        }
        mounts::only_paths(&binds)?;
        Ok((binds, others))
    }
}

/// The report with docker's exit code for a program that did not start.
fn failed(error: build::Error) -> Report {
    let code = match &error {
        build::Error::Verb { source, .. } => match &**source {
            StepError::Sandbox { source, .. } => Some(source.exit_code()),
            _ => None,
        },
        _ => None,
    };
    let report = Report::from(error);
    match code {
        Some(code) => report.exit(code),
        None => report,
    }
}
