//! Options of `build` that buildah has and docker has not.

use std::path::PathBuf;

use super::Build;
use crate::build::{Policy, Request, Retouch};
use crate::cli::args::{self, MadeArgs, NamespaceArgs, RefusedArgs, ScanArgs, refuse};
use crate::cli::cask::mounts;
use crate::cli::env;
use crate::cli::report::Report;
use crate::runner::{self, VolumeMount};

/// The variable by which buildx names a source policy.
const POLICY: &str = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY";

/// What a build reads and what its result says, besides the Dockerfile.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options as of buildah")]
pub(super) struct BuildahArgs {
    /// What the first FROM names, in place of what the Dockerfile says
    #[arg(long = "from", value_name = "IMAGE")]
    first_base: Option<String>,

    /// What the context is seen through, in place of its `.dockerignore`
    #[arg(long, value_name = "FILE")]
    ignorefile: Option<PathBuf>,

    /// Which images, URLs and repositories may be used, and what is used instead: a file of rules
    /// as BuildKit has them; `EXPERIMENTAL_BUILDKIT_SOURCE_POLICY` names a default
    #[arg(long, value_name = "FILE")]
    source_policy_file: Option<PathBuf>,

    #[command(flatten)]
    platform: args::PlatformArgs,

    /// Variable that every stage begins with; without a value the environment's
    #[arg(long = "env", value_name = "KEY[=VALUE]")]
    env: Vec<String>,

    #[command(flatten)]
    pub(super) made: MadeArgs,

    /// Label that is not taken over from a base image
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    unsetlabel: Vec<String>,

    /// `false` takes no label over from a base image
    #[arg(long, value_name = "BOOL")]
    inherit_labels: Option<bool>,

    /// Version of the operating system that the image says it is for
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,

    /// Something that the operating system must have
    #[arg(long, value_name = "FEATURE")]
    os_feature: Vec<String>,

    /// `false` keeps the proxies of the environment from RUN
    #[arg(long, value_name = "BOOL")]
    http_proxy: Option<bool>,

    /// Path of the machine that every RUN finds mounted. That a step was run with it counts for
    /// the cache; what lies there does not
    #[arg(short, long = "volume", value_name = "HOST:INSIDE[:OPTIONS]", value_parser = mounts::volume)]
    volumes: Vec<VolumeMount>,

    /// RUN reads standard input; such steps are never answered for by earlier results
    #[arg(long, value_name = "BOOL")]
    stdin: Option<bool>,

    #[command(flatten)]
    namespaces: NamespaceArgs,

    #[command(flatten)]
    refused: RefusedArgs,

    #[command(flatten)]
    pub(super) scans: ScanArgs,

    #[command(flatten)]
    others: OtherArgs,
}

/// What is refused of `build` alone, and flags of which one value is so anyway.
#[derive(Debug, clap::Args)]
struct OtherArgs {
    #[arg(long, hide = true, value_name = "FLAG", allow_hyphen_values = true)]
    cpp_flag: Vec<String>,
    #[arg(long, hide = true, value_name = "LABEL")]
    layer_label: Vec<String>,
    #[arg(long, hide = true, value_name = "KEY")]
    unsetannotation: Vec<String>,
    #[arg(long, hide = true, value_name = "BOOL")]
    inherit_annotations: Option<bool>,
    #[arg(long, hide = true, value_name = "BOOL")]
    compat_volumes: Option<bool>,
    #[arg(long, hide = true, value_name = "BOOL")]
    skip_unused_stages: Option<bool>,
    #[arg(long, hide = true, value_name = "BOOL")]
    all_platforms: Option<bool>,
    #[arg(long, hide = true, value_name = "BOOL")]
    logsplit: Option<bool>,
}

impl OtherArgs {
    fn check(&self) -> Result<(), Report> {
        let table = [
            (
                "--cpp-flag",
                !self.cpp_flag.is_empty(),
                "Dockerfiles are not run through the C preprocessor",
                "`cpp -P Dockerfile.in | cooper build -f - .`",
            ),
            (
                "--layer-label",
                !self.layer_label.is_empty(),
                "steps leave layers and no images that could have labels",
                "`--save-stages --stage-labels` labels an image for each stage",
            ),
            (
                "--inherit-annotations",
                self.inherit_annotations == Some(true),
                "annotations of a base image are about that image",
                "`--annotation KEY=VALUE`",
            ),
            (
                "--compat-volumes",
                self.compat_volumes == Some(true),
                "what RUN writes below a VOLUME is kept, as BuildKit keeps it",
                "",
            ),
            (
                "--skip-unused-stages=false",
                self.skip_unused_stages == Some(false),
                "stages that the result does not need are not built",
                "`--target STAGE` builds one of them",
            ),
            (
                "--all-platforms",
                self.all_platforms == Some(true),
                "which platforms are meant has to be said",
                "`--platform linux/amd64,linux/arm64`",
            ),
            (
                "--logsplit",
                self.logsplit == Some(true),
                "one log has the steps of all platforms, each with its platform in its name",
                "`--logfile FILE`",
            ),
        ];
        refuse(&table)
    }
}

impl BuildahArgs {
    /// Refuses what is not done here or does not go together.
    pub(super) fn check(&self, reads_stdin: bool) -> Result<(), Report> {
        self.namespaces.check()?;
        self.refused.check()?;
        self.others.check()?;
        if self.stdin == Some(true) && reads_stdin {
            return Err(Report::wrong_use(
                "standard input can't be the Dockerfile or context and be read by RUN, too",
            ));
        }
        mounts::only_paths(&self.volumes)
    }

    fn policy(&self) -> Result<Policy, Report> {
        let named = self.source_policy_file.clone();
        let Some(path) = named.or_else(|| env::path(POLICY).filter(|p| !p.as_os_str().is_empty()))
        else {
            return Ok(Policy::default());
        };
        let failed = || format!("cannot use the source policy {}", path.display());
        let json =
            std::fs::read(&path).map_err(|error| Report::failed(failed()).because(&error))?;
        Policy::parse(&json).map_err(|error| Report::failed(failed()).because(&error))
    }

    /// Puts into a request what these options say.
    pub(super) fn apply(&self, request: &mut Request) -> Result<(), Report> {
        request.platforms.extend(self.platform.platform()?);
        request.policy = self.policy()?;
        request.first_base.clone_from(&self.first_base);
        request.ignore_file.clone_from(&self.ignorefile);
        request.stdin = self.stdin == Some(true);
        if self.http_proxy == Some(false) {
            request.proxies.clear();
        }
        request.labels.splice(0..0, self.made.identity());
        let nowhere = PathBuf::new();
        let mounted = |mount| runner::mounted(mount, &nowhere);
        request.volumes = self.volumes.iter().map(mounted).collect();
        request.retouch = Retouch {
            env: env::pairs(&self.env),
            unset_env: self.made.unsetenv.clone(),
            unset_labels: self.unsetlabel.clone(),
            no_inherited_labels: self.inherit_labels == Some(false),
            os_version: self.os_version.clone(),
            os_features: self.os_feature.clone(),
            omit_history: self.made.omits_history(),
            created_annotation: self.made.annotates_time(),
        };
        Ok(())
    }
}

impl Build {
    /// Whether the Dockerfile or the context is standard input.
    pub(super) fn reads_stdin(&self) -> bool {
        let dash = std::path::Path::new("-");
        self.context() == dash || self.file.as_deref() == Some(dash)
    }
}
