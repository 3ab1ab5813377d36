//! A platform in parts: `--os`, `--arch` and `--variant`, as buildah takes it.

use crate::cli::report::Report;
use crate::image::Platform;

/// The parts; whoever has `--platform` too lets that conflict with them.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct PlatformArgs {
    /// Operating system of the image
    #[arg(long, value_name = "OS")]
    os: Option<String>,

    /// CPU architecture of the image
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,

    /// Variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
}

impl PlatformArgs {
    /// The platform that they make, if any is given; this machine's stand for those that are
    /// missing.
    pub(crate) fn platform(&self) -> Result<Option<Platform>, Report> {
        let [os, arch, variant] = [&self.os, &self.arch, &self.variant].map(Option::as_deref);
        if os.is_none() && arch.is_none() && variant.is_none() {
            return Ok(None);
        }
        let host = Platform::host();
        let os = os.unwrap_or(&host.os);
        let arch = arch.unwrap_or(&host.architecture);
        let mut text = format!("{os}/{arch}");
        if let Some(variant) = variant {
            text.push_str(&format!("/{variant}"));
        }
        let platform = text.parse::<Platform>();
        platform
            .map(Some)
            .map_err(|error| Report::wrong_use(error.to_string()))
    }
}
