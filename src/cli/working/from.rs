//! `from`: a working container, made from an image.

use std::path::PathBuf;

use crate::build::Pull;
use crate::build::working::{self, New};
use crate::cli::args::{self, Registry};
use crate::cli::report::Report;
use crate::cli::{Session, files, ui};
use crate::image::Platform;

/// Make a working container from an image
///
/// IMAGE is a name or id, `scratch`, or a place such as `docker://NAME`, `oci:DIR[:TAG]`,
/// `oci-archive:FILE` or `docker-archive:FILE`. The container's name goes to standard output.
#[derive(Debug, clap::Args)]
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

    /// Operating system of the image
    #[arg(long, value_name = "OS")]
    os: Option<String>,

    /// CPU architecture of the image
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,

    /// Variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,

    /// Write the container's id to this file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,

    /// No progress
    #[arg(short, long)]
    quiet: bool,

    /// Accepted and without effect: the form is chosen by `commit`
    #[arg(short, long, value_name = "FORMAT", hide = true)]
    format: Option<String>,

    #[command(flatten)]
    registry: Registry,
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
        let platform = self.platform()?;
        let store = session.store()?;
        let shown = session.modest(self.quiet);
        let new = New {
            image: &self.image,
            name: self.name.as_deref(),
            platform,
        };
        let container = working::create(&store, &new, &request, &shown)?;
        drop(shown);
        if let Some(path) = &self.cidfile {
            files::write(path, container.id.as_bytes())?;
        }
        session.cap(&store);
        ui::data(&container.config.name)
    }

    /// The platform that was asked for, in one piece or in parts.
    fn platform(&self) -> Result<Option<Platform>, Report> {
        if self.os.is_none() && self.arch.is_none() && self.variant.is_none() {
            return Ok(self.platform.clone());
        }
        let host = Platform::host();
        let os = self.os.as_ref().unwrap_or(&host.os);
        let arch = self.arch.as_ref().unwrap_or(&host.architecture);
        let mut text = format!("{os}/{arch}");
        if let Some(variant) = &self.variant {
            text.push_str(&format!("/{variant}"));
        }
        let platform = text.parse::<Platform>();
        platform
            .map(Some)
            .map_err(|error| Report::wrong_use(error.to_string()))
    }
}
