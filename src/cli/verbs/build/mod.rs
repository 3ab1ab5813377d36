//! `build`: its options and its course; `request` makes a [`build::Request`](crate::build::Request)
//! of them, `result` tells what came of it.

mod annotation;
mod attest;
mod build_args;
mod buildah;
mod cache;
mod context;
mod fields;
mod grants;
mod named;
mod output;
mod request;
mod result;
pub(crate) mod secrets;

pub(crate) use fields::csv;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use crate::build::{self, Cancel, NamedContext, Pull};
use crate::cli::args::{self, IsolationArgs, NameArgs, Registry};
use crate::cli::report::Report;
use crate::cli::session::Announcing;
use crate::cli::ui::Progress;
use crate::cli::verbs::{Form, Goal, check, form};
use crate::cli::working::manifest;
use crate::cli::{Session, signals, ui};
use crate::image::Platform;

/// Build an image from a Dockerfile
///
/// CONTEXT is a directory, a tar (also compressed), or `-` for a tar or a Dockerfile on standard
/// input. The result goes to the store, unless `-o` says otherwise.
///
/// RUN steps have a network of their own unless `--network` says otherwise.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildVerb {
    #[command(flatten)]
    build: Build,

    // `check`, which takes all else that `build` takes, has another `--format`.
    /// Whose media types the image has: oci or docker
    #[arg(long, value_name = "FORMAT", value_parser = form)]
    format: Option<Form>,
}

impl BuildVerb {
    /// Builds, and tells what came of it.
    pub(crate) fn run(mut self, session: &Session) -> Result<ExitCode, Report> {
        self.build.form = self.format;
        self.build.run(session)
    }
}

/// All that `build` and `check` have in common.
#[derive(Debug, clap::Args)]
#[command(mut_args(crate::cli::args::switches))]
pub(crate) struct Build {
    /// Directory, tar or `-` with the files that COPY and ADD may take
    #[arg(value_name = "CONTEXT")]
    context: Option<PathBuf>,

    /// Dockerfile, `-` for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Files or an image under a name for FROM and `--from`: a directory, a git or http(s) URL,
    /// `docker-image://IMAGE` or `oci-layout://DIR[:TAG|@DIGEST]`
    #[arg(long = "build-context", value_name = "NAME=SOURCE", value_parser = named::parse)]
    contexts: Vec<NamedContext>,

    /// Name for the result, or a place that it goes to as with `push`: `oci:DIR[:TAG]`,
    /// `docker://NAME` and so on; may be given several times
    #[arg(short, long = "tag", value_name = "NAME")]
    tags: Vec<Goal>,

    #[command(flatten)]
    args: build_args::BuildArgArgs,

    /// Stage to build
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,

    /// Platform to build for, such as `linux/arm64`
    #[arg(
        long = "platform",
        value_name = "PLATFORM",
        value_delimiter = ',',
        conflicts_with_all = ["os", "arch", "variant"]
    )]
    platforms: Vec<Platform>,

    #[command(flatten)]
    output: OutputArgs,

    #[command(flatten)]
    cache: cache::CacheArgs,

    /// Ask the registry for newer base images: always, missing, never or newer (always, but an
    /// image that is here will do when the registry does not answer)
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "always",
        default_value = "missing",
        hide_default_value = true,
        value_parser = args::pull_policy
    )]
    pull: Pull,

    /// Label of the image
    #[arg(long = "label", value_name = "KEY[=VALUE]", value_parser = args::label)]
    labels: Vec<(String, String)>,

    /// Annotation, of the manifest or, as `LEVEL:`, of `index`, `manifest-descriptor` or
    /// `index-descriptor`; `LEVEL[PLATFORM]:` is for one image of several
    #[arg(long = "annotation", value_name = "[LEVEL:]KEY=VALUE", value_parser = annotation::parse)]
    annotations: Vec<Annotations>,

    /// Network of RUN steps: `private` reaches the world through the machine's, `host` is the
    /// machine's, `none` is loopback only, `default` is private where /dev/net/tun can be opened
    #[arg(
        long,
        value_name = "NETWORK",
        default_value = "default",
        value_parser = args::network
    )]
    network: args::Network,

    #[command(flatten)]
    names: NameArgs,

    /// How RUN gets at what it changed: `overlay`, or `copy` where that can't be mounted;
    /// `COOPER_SNAPSHOTTER` names another default [default: the better one that works]
    #[arg(long, value_name = "HOW", hide_default_value = true)]
    snapshotter: Option<build::Snapshotter>,

    /// Stages that are built at the same time [default: number of processors]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,

    /// Make one layer of all that is new
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "false",
        action = clap::ArgAction::Set,
        hide_default_value = true,
    )]
    squash: bool,

    /// Seconds since 1970 for `created` and as the latest time of files in new layers;
    /// `SOURCE_DATE_EPOCH` in the environment does the same
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    timestamp: Option<i64>,

    #[command(flatten)]
    idle: IdleArgs,

    /// Check the Dockerfile instead of building it, as `cooper check` does
    #[arg(long)]
    check: bool,

    /// Answer a question about the Dockerfile instead of building it: check, outline, targets or
    /// subrequests.describe, each with `,format=json`
    #[arg(long, value_name = "METHOD", value_parser = check::call, conflicts_with = "check")]
    call: Option<check::Call>,

    #[command(flatten)]
    attest: attest::AttestArgs,

    #[command(flatten)]
    grants: grants::GrantArgs,

    #[command(flatten)]
    secrets: secrets::SecretArgs,

    #[command(flatten)]
    isolation: IsolationArgs,

    #[command(flatten)]
    buildah: buildah::BuildahArgs,

    #[arg(skip)]
    form: Option<Form>,

    #[command(flatten)]
    results: result::ResultArgs,

    #[command(flatten)]
    registry: Registry,
}

/// What scripts for docker and buildah say, and what is so anyway: no containers are left behind,
/// no signature is asked for, and layers are compressed when they leave the store.
#[derive(Debug, clap::Args)]
struct IdleArgs {
    #[arg(long, hide = true, value_name = "BOOL")]
    rm: Option<bool>,
    #[arg(long, hide = true, value_name = "BOOL")]
    force_rm: Option<bool>,
    #[arg(long, hide = true, value_name = "BOOL")]
    disable_content_trust: Option<bool>,
    #[arg(long, hide = true, value_name = "BOOL")]
    compress: Option<bool>,
    #[arg(short = 'D', long, hide = true, value_name = "BOOL")]
    disable_compression: Option<bool>,
}

/// One value of `--annotation`, which may name several levels.
type Annotations = Vec<build::Annotation>;

/// Where the result goes.
#[derive(Debug, clap::Args)]
struct OutputArgs {
    /// Where the result goes: `type=local|tar|oci|docker|image|registry`, with `dest=`, `name=`,
    /// `push=` and more; a directory; or `-` for a tar on standard output. May be given several
    /// times
    #[arg(short, long = "output", value_name = "OUTPUT", value_parser = output::parse)]
    outputs: Vec<output::Parsed>,

    /// Put the image into the store: `-o type=image`
    #[arg(long)]
    load: bool,

    /// Push the image under its names: `-o type=registry`
    #[arg(long)]
    push: bool,
}

impl OutputArgs {
    /// Returns all that were asked for, the short forms last.
    fn all(&self) -> Vec<output::Parsed> {
        let load = self.load.then(output::load);
        let push = self.push.then(output::push);
        self.outputs
            .iter()
            .cloned()
            .chain(load)
            .chain(push)
            .collect()
    }
}

impl Build {
    /// Builds, and tells what came of it.
    pub(crate) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        if let Some(call) = self.call().filter(|call| !call.builds()) {
            return self.look(session, call);
        }
        if self.context.is_none() {
            return Err(
                Report::wrong_use("CONTEXT is missing").hint("`cooper build .` for this directory")
            );
        }
        let began = Instant::now();
        let mut request = self.request()?;
        let (store, rung) = session.store_with_power()?;
        request.rung = rung.name();
        request.walls = rung.walls();
        let (network, note) = match request.walls {
            build::Walls::Namespaces => self.network.settle(false)?,
            // What else was asked for is refused by the step that would need it.
            _ => (self.network.shared(), None),
        };
        request.network = network.of_steps();
        request.network_note = note;
        let spool = context::resolve(&self, &store, &mut request)?;
        let cancel = Cancel::default();
        let stop = signals::Stop::on({
            let cancel = cancel.clone();
            move || cancel.cancel()
        })?;
        let quiet = self.quiet();
        let shown = self.results.shown(session)?;
        let sink = Announcing { rung, to: &shown };
        let built = build::build(&store, &request, &sink, &mut std::io::stdout(), &cancel);
        drop(spool);
        let outcome = match built {
            Err(build::Error::Cancelled) => return Ok(stop.exit_code()),
            other => other?,
        };
        self.send(&store, &outcome, &request, &shown)?;
        drop(shown);
        self.write_files(&outcome)?;
        if let Some(list) = &self.buildah.made.manifest {
            manifest::include(&store, list, &outcome.descriptor.digest)?;
        }
        if !quiet {
            self.summary(session, &outcome, began);
        } else if !self.uses_stdout() {
            match &outcome.image {
                Some(image) => ui::data(image)?,
                None => ui::data(&outcome.descriptor.digest)?,
            }
        }
        session.cap(&store);
        Ok(ExitCode::SUCCESS)
    }

    /// The context; what only looks at a Dockerfile needs none.
    fn context(&self) -> &Path {
        self.context.as_deref().unwrap_or(Path::new("."))
    }

    /// What is asked instead of a build.
    pub(crate) fn call(&self) -> Option<check::Call> {
        match self.check {
            true => Some(check::Call::CHECK),
            false => self.call,
        }
    }

    /// Looks at the Dockerfile without building.
    pub(crate) fn look(&self, session: &Session, call: check::Call) -> Result<ExitCode, Report> {
        let mut request = self.request()?;
        let store = session.store()?;
        let _spool = context::resolve(self, &store, &mut request)?;
        call.run(&store, &request)
    }

    fn quiet(&self) -> bool {
        self.results.quiet || self.results.progress == Progress::Quiet
    }

    fn uses_stdout(&self) -> bool {
        let outputs = &self.output.outputs;
        outputs.iter().any(|parsed| parsed.output.is_stdout())
    }
}
