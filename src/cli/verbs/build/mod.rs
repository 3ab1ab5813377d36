//! `build`: arguments to a [`build::Request`](crate::build::Request), and its result to files
//! and standard output.

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
pub(crate) mod secrets;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use serde_json::json;

use crate::build::{self, Cancel, NamedContext, Outcome, Pull, Request};
use crate::cli::args::{self, IsolationArgs, NameArgs, Registry};
use crate::cli::report::Report;
use crate::cli::session::Announcing;
use crate::cli::ui::{Progress, Shown, human};
use crate::cli::verbs::{self, Form, Goal, check, form};
use crate::cli::working::manifest;
use crate::cli::{Session, env, files, signals, ui};
use crate::dockerfile::Warning;
use crate::event::Sink;
use crate::image::{Platform, Reference};
use crate::store::Store;
use crate::transfer::{self, Network, PushOptions};

/// The variable of reproducible-builds.org, in seconds since 1970.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

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
    results: ResultArgs,

    #[command(flatten)]
    registry: Registry,
}

/// What scripts for docker and buildah say, and what is so anyway: no containers are left behind,
/// no signature is asked for, and layers are compressed when they leave the store.
#[derive(Debug, clap::Args)]
struct IdleArgs {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    rm: Option<Option<bool>>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    force_rm: Option<Option<bool>>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    disable_content_trust: Option<Option<bool>>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    compress: Option<Option<bool>>,
    #[arg(short = 'D', long, hide = true, num_args = 0..=1, require_equals = true)]
    disable_compression: Option<Option<bool>>,
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

/// How the result is told.
#[derive(Debug, clap::Args)]
struct ResultArgs {
    /// Write the image id to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,

    /// Write the image id without `sha256:` to this file
    #[arg(long, value_name = "FILE")]
    iidfile_raw: Option<PathBuf>,

    /// Write ids, digests and names to this file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,

    /// How progress is shown on standard error
    #[arg(
        long,
        value_name = "HOW",
        default_value = "auto",
        hide_default_value = true
    )]
    progress: Progress,

    /// Write progress as plain lines to the end of this file, and none to standard error
    #[arg(long, value_name = "FILE")]
    logfile: Option<PathBuf>,

    /// Print the image id and nothing else
    #[arg(short, long)]
    quiet: bool,
}

impl ResultArgs {
    /// Whether something is written that there is of one image only.
    fn names_one(&self) -> bool {
        self.iidfile.is_some() || self.iidfile_raw.is_some()
    }

    /// Makes what shows the progress.
    fn shown(&self, session: &Session) -> Result<Shown, Report> {
        match &self.logfile {
            Some(path) => Ok(session.logged(files::append(path)?)),
            None if self.quiet => Ok(session.shown(Progress::Quiet)),
            None => Ok(session.shown(self.progress)),
        }
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
        if let Some(list) = &self.buildah.manifest {
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

    /// Resolves everything that needs no store. The context follows in [`context::resolve`].
    fn request(&self) -> Result<Request, Report> {
        if self.uses_stdout() && std::io::stdout().is_terminal() {
            return Err(Report::wrong_use("an archive is not written to a terminal")
                .hint("`-o type=…,dest=FILE`, or a pipe behind the command"));
        }
        self.buildah.check(self.reads_stdin())?;
        if self.platforms.len() > 1 && self.results.names_one() {
            let text = "`--iidfile` holds the id of one image, and several platforms give several";
            return Err(Report::wrong_use(text).hint("`--metadata-file` has the index's digest"));
        }
        let build_args = self.args.resolve()?;
        let outputs = self.output.all();
        let own_epoch = outputs.iter().find_map(|output| output.epoch.as_deref());
        let (epoch, epoch_name) = self.epoch(own_epoch, &build_args)?;
        let annotations = self.annotations.iter().flatten();
        let more = outputs.iter().flat_map(|output| &output.annotations);
        let mut registry = self.registry.options()?;
        if outputs.iter().any(|output| output.insecure) {
            registry.tls_verify = Some(false);
        }
        let network = Network::new(registry);
        let agents = self.secrets.agents()?;
        // Of one name the last counts.
        let ssh_agent = agents.iter().rfind(|agent| agent.id == "default");
        let ssh_agent = ssh_agent.map(|agent| agent.source.clone());
        let transfer = transfer::Options {
            network: network.clone(),
            ..transfer::Options::default()
        };
        let mut request = Request {
            contexts: self.contexts.clone(),
            tags: Goal::names(&self.tags).cloned().collect(),
            build_args,
            target: self.target.clone(),
            platforms: self.platforms.clone(),
            no_cache: self.cache.no_cache,
            no_cache_filter: self.cache.no_cache_filter.clone(),
            cache_from: self.cache.imports(&network),
            cache_to: self.cache.exports(&network),
            cache_ttl: self.cache.ttl,
            save_stages: self.cache.save_stages,
            stage_labels: self.cache.stage_labels,
            pull: self.pull,
            labels: self.labels.clone(),
            annotations: annotations.chain(more).cloned().collect(),
            docker_types: self.form == Some(Form::Docker),
            attest: self.attest.resolve()?,
            attest_inline: outputs.iter().any(|output| output.attest_inline),
            rewrite_timestamp: outputs.iter().find_map(|output| output.rewrite_timestamp),
            epoch_from_file: epoch.is_none() && own_epoch.is_none(),
            epoch_name,
            outputs: outputs.into_iter().map(|parsed| parsed.output).collect(),
            allow: self.grants.allow.clone(),
            secrets: self.secrets.secrets()?,
            secret_guard: self.secrets.guard(),
            ssh: agents,
            isolation: self.isolation.resolve()?,
            snapshotter: args::snapshotter(self.snapshotter)?,
            proxies: env::proxies(),
            source_date_epoch: epoch,
            jobs: self.jobs.filter(|&jobs| jobs > 0),
            squash: self.squash || !self.cache.layers,
            // The network is known when rights are, the context when there is a store.
            ..Request::nothing(transfer, args::git_tools(ssh_agent), SystemTime::now())
        };
        self.names.apply(&mut request);
        self.buildah.apply(&mut request)?;
        request.scanner = self.scanner(&request)?;
        Ok(request)
    }

    /// The scanner that is asked for.
    fn scanner(&self, request: &Request) -> Result<Option<build::Scanner>, Report> {
        let scans = &self.buildah.scans;
        let scanner = scans.scanner(self.attest.preset())?;
        if scanner.is_some() && request.attest.sbom.is_some() {
            let text = "`sbom` is asked for twice: of a generator and of a scanner";
            return Err(Report::wrong_use(text));
        }
        if scans.writes() && request.platforms.len() > 1 {
            let text = "`--sbom-output` and `--sbom-purl-output` are one file, and several \
                        platforms give several";
            return Err(
                Report::wrong_use(text).hint("`--sbom-image-output` keeps it in each image")
            );
        }
        Ok(scanner)
    }

    /// Finds the time to build with: that of an output, `--timestamp`, or the build argument,
    /// which may name something instead.
    fn epoch(
        &self,
        own: Option<&str>,
        build_args: &[(String, String)],
    ) -> Result<(Option<i64>, Option<String>), Report> {
        if own.is_none() && self.timestamp.is_some() {
            return Ok((self.timestamp, None));
        }
        let given = build_args.iter().rfind(|(key, _)| key == EPOCH);
        let text = own.or(given.map(|(_, value)| value.as_str()));
        match text.map(str::trim) {
            None | Some("") => Ok((None, None)),
            Some(text) => match text.parse() {
                Ok(seconds) => Ok((Some(seconds), None)),
                Err(_) if own.is_none() => Ok((None, Some(text.to_owned()))),
                Err(_) => Err(Report::wrong_use(format!(
                    "`source-date-epoch={text}`: expected seconds since 1970 as a number"
                ))),
            },
        }
    }

    /// Sends the result to the places among its names.
    fn send(
        &self,
        store: &Store,
        outcome: &Outcome,
        request: &Request,
        sink: &dyn Sink,
    ) -> Result<(), Report> {
        let options = PushOptions {
            transfer: request.transfer.clone(),
            ..PushOptions::default()
        };
        for place in Goal::places(&self.tags) {
            verbs::send(store, &outcome.descriptor.digest, place, &options, sink)?;
        }
        Ok(())
    }

    fn write_files(&self, outcome: &Outcome) -> Result<(), Report> {
        for scanned in &outcome.scanned {
            self.buildah.scans.write(scanned)?;
        }
        if let (Some(path), Some(image)) = (&self.results.iidfile, &outcome.image) {
            files::write(path, image.to_string().as_bytes())?;
        }
        if let (Some(path), Some(image)) = (&self.results.iidfile_raw, &outcome.image) {
            files::write(path, image.digest().hex().as_bytes())?;
        }
        if let Some(path) = &self.results.metadata_file {
            let names = self.names().join(",");
            files::write(path, metadata(outcome, &names).as_bytes())?;
        }
        Ok(())
    }

    /// All names the result was to get, in full.
    fn names(&self) -> Vec<String> {
        let outputs = &self.output.outputs;
        let more = outputs.iter().flat_map(|parsed| parsed.output.names());
        Goal::names(&self.tags)
            .chain(more)
            .map(Reference::full)
            .collect()
    }

    fn summary(&self, session: &Session, outcome: &Outcome, began: Instant) {
        if self.results.progress == Progress::Rawjson {
            return;
        }
        let took = human::elapsed(began.elapsed());
        let steps = format!("{} steps run, {} cached", outcome.ran, outcome.cached);
        match &outcome.image {
            Some(image) => session.say(&format!("built {image} in {took}: {steps}")),
            None => {
                let index = &outcome.descriptor.digest;
                session.say(&format!("built index {index} in {took}: {steps}"));
            }
        }
        for tag in &outcome.tags {
            session.say(&format!("tagged {tag}"));
        }
        if !outcome.warnings.is_empty() {
            session.say(&warnings(&outcome.warnings));
        }
    }
}

/// Returns what the linter found, each with the page about it.
fn warnings(found: &[Warning]) -> String {
    let mut text = match found.len() {
        1 => "1 warning found (`cooper check` shows its place):".to_owned(),
        n => format!("{n} warnings found (`cooper check` shows their places):"),
    };
    for warning in found {
        let line = build::check::line_of(warning);
        text.push_str(&format!("\n - {line} {}", warning.rule.url()));
    }
    text
}

/// Returns what docker's `--metadata-file` holds, as far as there is something to say.
fn metadata(outcome: &Outcome, names: &str) -> String {
    let mut fields = serde_json::Map::new();
    let mut add = |key: &str, value| fields.insert(key.to_owned(), value);
    if let Some(image) = &outcome.image {
        add("containerimage.config.digest", json!(image.to_string()));
    }
    let descriptor = &outcome.descriptor;
    add("containerimage.descriptor", json!(descriptor));
    add("containerimage.digest", json!(descriptor.digest.as_str()));
    if !names.is_empty() {
        add("image.name", json!(names));
    }
    for (platform, provenance) in &outcome.provenance {
        let key = "buildx.build.provenance";
        match outcome.provenance.len() {
            1 => add(key, provenance.clone()),
            _ => add(&format!("{key}/{platform}"), provenance.clone()),
        };
    }
    let value = serde_json::Value::Object(fields);
    format!("{value:#}\n")
}
