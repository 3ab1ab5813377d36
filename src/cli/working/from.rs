//! `from`: a working container, made from an image.

use std::path::PathBuf;

use crate::build::working::{self, Habits, New};
use crate::build::{self, Pull, Request};
use crate::cli::args::{self, IsolationArgs, NameArgs, NamespaceArgs, RefusedArgs, Registry};
use crate::cli::cask::mounts;
use crate::cli::report::Report;
use crate::cli::{Session, files, ui};
use crate::image::Platform;
use crate::runner::{self, VolumeMount};

/// Make a working container from an image
///
/// IMAGE is a name or id, `scratch`, or a place such as `docker://NAME`, `oci:DIR[:TAG]`,
/// `oci-archive:FILE` or `docker-archive:FILE`. The container's name goes to standard output.
/// Options about programs hold for every `run` that does not say otherwise.
#[derive(Debug, clap::Args)]
#[command(mut_args(crate::cli::args::switches))]
pub(crate) struct From {
    /// What to make it from
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Name of the container [default: IMAGE-working-container]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Ask the registry for a newer image: always, missing, never or newer
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

    /// The same as `--pull=always`
    #[arg(long, hide = true, conflicts_with = "pull_never")]
    pull_always: bool,

    /// The same as `--pull=never`
    #[arg(long, hide = true)]
    pull_never: bool,

    /// Platform of the image, such as `linux/arm64`
    #[arg(long, value_name = "PLATFORM", conflicts_with_all = ["os", "arch", "variant"])]
    platform: Option<Platform>,

    #[command(flatten)]
    parts: args::PlatformArgs,

    /// Write the container's id to this file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,

    /// No progress
    #[arg(short, long)]
    quiet: bool,

    /// Accepted and without effect: the form is chosen by `commit`
    #[arg(short, long, value_name = "FORMAT", hide = true)]
    format: Option<String>,

    /// Network of programs: `private`, `host`, `none` or `default`
    #[arg(long, visible_alias = "net", value_name = "NETWORK", value_parser = network)]
    network: Option<String>,

    /// Path of the machine that programs find mounted
    #[arg(short, long = "volume", value_name = "HOST:INSIDE[:OPTIONS]", value_parser = mounts::volume)]
    volumes: Vec<VolumeMount>,

    /// `false` keeps the proxies of the environment from programs
    #[arg(long, value_name = "BOOL")]
    http_proxy: Option<bool>,

    /// How what programs write is kept: `overlay`, or `copy` where that can't be mounted;
    /// `COOPER_SNAPSHOTTER` names another default [default: the better one that works]
    #[arg(long, value_name = "HOW", hide_default_value = true)]
    snapshotter: Option<build::Snapshotter>,

    #[command(flatten)]
    names: NameArgs,

    #[command(flatten)]
    isolation: IsolationArgs,

    #[command(flatten)]
    namespaces: NamespaceArgs,

    #[command(flatten)]
    refused: RefusedArgs,

    #[command(flatten)]
    registry: Registry,
}

/// Checks a network, whose name is kept until a program runs.
fn network(text: &str) -> Result<String, String> {
    args::network(text).map(|_| text.to_owned())
}

impl From {
    /// Makes it.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let mut request = super::request(&self.registry)?;
        request.pull = match (self.pull_always, self.pull_never) {
            (true, _) => Pull::Always,
            (_, true) => Pull::Never,
            _ => self.pull,
        };
        let habits = self.habits(&mut request)?;
        let platform = self.platform()?;
        let store = session.store()?;
        let shown = session.modest(self.quiet);
        let new = New {
            image: &self.image,
            name: self.name.as_deref(),
            platform,
            habits,
        };
        let container = working::create(&store, &new, &request, &shown)?;
        drop(shown);
        if let Some(path) = &self.cidfile {
            files::write(path, container.id.as_bytes())?;
        }
        session.cap(&store);
        ui::data(&container.config.name)
    }

    /// How programs are to run.
    fn habits(&self, request: &mut Request) -> Result<Habits, Report> {
        self.namespaces.check()?;
        self.refused.check()?;
        mounts::only_paths(&self.volumes)?;
        let nowhere = PathBuf::new();
        let mounted = |mount| runner::mounted(mount, &nowhere);
        request.volumes = self.volumes.iter().map(mounted).collect();
        request.isolation = self.isolation.resolve()?;
        request.snapshotter = args::snapshotter(self.snapshotter)?;
        self.names.apply(request);
        let no_proxies = self.http_proxy == Some(false);
        Ok(Habits::of(request, self.network.clone(), no_proxies))
    }

    /// The platform that was asked for, in one piece or in parts.
    fn platform(&self) -> Result<Option<Platform>, Report> {
        let parts = self.parts.platform()?;
        Ok(parts.or_else(|| self.platform.clone()))
    }
}
