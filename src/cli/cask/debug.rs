//! `cask debug`: tools for a container or image that has none.

use std::io::IsTerminal;
use std::process::ExitCode;

use rustix::thread::CapabilitySet;

use super::exec::Manner;
use super::options;
use super::run::{Stay, start};
use crate::cli::args::{self, Registry};
use crate::cli::report::{RUN_FAILED, Report};
use crate::cli::{Session, env, signals};
use crate::event::{Event, Sink};
use crate::runner::{self, Attach, Container, Network, Request};
use crate::sandbox::{Caps, Isolation};
use crate::store::Store;
use crate::transfer::{self, Options};

/// The image of tools where none is named.
const TOOLBOX: &str = "toolbox";

/// How to make one.
const MAKE_TOOLBOX: &str = "`--image IMAGE` or CASK_DEBUG_IMAGE names one; from busybox-static it is made by \
     `printf 'FROM scratch\\nCOPY busybox /bin/\\nRUN [\"/bin/busybox\",\"--install\",\"-s\",\"/bin\"]\\n' | cooper build -t toolbox -f - /bin`";

/// Open a shell with tools in a container, or on an image, that need have none
///
/// The tools are an image of your choice: its root is `/`, and what is looked at is /target. A
/// container that runs is looked at as it is: its processes and its network are there, and what
/// is written to /target is written to it. Of one that does not run, and of an image, the files
/// are there, and what is written goes away with the tools. So does what is written to the tools.
///
/// Without a command the image's own is run, or a shell, on this terminal if it is one. The exit
/// code is the program's own, 125 when cask itself fails.
#[derive(Debug, clap::Args)]
#[command(override_usage = "cask debug [OPTIONS] CONTAINER|IMAGE [COMMAND]...")]
pub(super) struct Debug {
    /// What to look at, and the command with its arguments
    #[arg(value_names = ["CONTAINER|IMAGE", "COMMAND"], num_args = 1.., required = true, trailing_var_arg = true)]
    words: Vec<String>,

    /// Image of the tools, which is pulled if need be [default: $CASK_DEBUG_IMAGE, or `toolbox`
    /// in the store]
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,

    #[command(flatten)]
    manner: Manner,

    /// Name or id of the user in the image of tools
    #[arg(short, long, value_name = "USER[:GROUP]", default_value = "0")]
    user: String,

    /// Give the command all capabilities and mask nothing
    #[arg(long)]
    privileged: bool,

    #[command(flatten)]
    registry: Registry,
}

impl Debug {
    /// Runs the command, or a shell.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        self.look(session)
            .map_err(|report| report.exit_if_own(RUN_FAILED))
    }

    fn look(&self, session: &Session) -> Result<ExitCode, Report> {
        let (store, rung) = session.store_with_power()?;
        if let Some(refusal) = rung.refusal() {
            let report = Report::failed("a container can't be isolated here");
            return Err(report.because(refusal));
        }
        let (request, pull) = self.request()?;
        let container = self.create(session, &store, request, pull)?;
        let attach = Attach::Caller {
            input: container.config.request.interactive,
        };
        let started = start(
            session,
            &store,
            &container,
            attach,
            &Stay::new(&self.manner.keys.detach_keys),
        );
        if started.is_err() {
            options::undo(&container);
        }
        started
    }

    /// What is asked for, and whether the image may be pulled.
    fn request(&self) -> Result<(Request, bool), Report> {
        let named = self.image.clone().or_else(|| env::text("CASK_DEBUG_IMAGE"));
        let mut request = Request::new(named.as_deref().unwrap_or(TOOLBOX));
        let Some((_, command)) = self.words.split_first() else {
            return Err(Report::wrong_use(
                "neither a container nor an image is named",
            ));
        };
        let shell = command.is_empty() && std::io::stdin().is_terminal();
        request.interactive = self.manner.interactive || shell;
        request.tty = self.manner.tty || shell;
        request.args = command.to_vec();
        // What is asked for is run as it stands.
        request.entrypoint = (!command.is_empty()).then(String::new);
        request.env = self.manner.variables().collect();
        request.workdir.clone_from(&self.manner.workdir);
        request.user = Some(self.user.clone());
        request.isolation = match self.privileged {
            true => Isolation::privileged(),
            // By which the root of a process can be seen.
            false => Isolation {
                caps: Caps(Caps::DOCKER.0 | CapabilitySet::SYS_PTRACE.bits()),
                ..Isolation::default()
            },
        };
        Ok((request, named.is_some()))
    }

    /// Makes the tools' container.
    fn create(
        &self,
        session: &Session,
        store: &Store,
        mut request: Request,
        pull: bool,
    ) -> Result<Container, Report> {
        let shown = session.modest(false);
        let (network, note) = args::Network::Default.settle(false)?;
        request.network = match network {
            args::Network::Private | args::Network::Default => Network::Private,
            args::Network::Host | args::Network::None => Network::Host,
        };
        let runs = runner::look_at(store, &mut request, &self.words[0])?;
        if let Some(text) = note.as_deref().filter(|_| !runs) {
            shown.emit(Event::Warning { text });
        }
        // Threads of a pull must not take the signals that are the program's.
        let held = signals::Held::new()?;
        let pull = match pull {
            true => Some(Options {
                network: transfer::Network::new(self.registry.options()?),
                ..Options::default()
            }),
            false => None,
        };
        let choice = runner::Choice {
            pull: pull.as_ref(),
            ..runner::Choice::default()
        };
        let created = runner::create(store, &request, &choice, &shown);
        drop((shown, held));
        created.map_err(|error| match error {
            runner::Error::NoImage { .. } if pull.is_none() => {
                Report::failed(format!("no image `{TOOLBOX}` with tools in the store"))
                    .hint(MAKE_TOOLBOX)
            }
            error => error.into(),
        })
    }
}
