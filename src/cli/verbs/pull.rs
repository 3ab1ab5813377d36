//! `pull`: images from registries, layouts and archives into the store.

use crate::cli::args::Registry;
use crate::cli::report::Report;
use crate::cli::{Session, ui};
use crate::image::Platform;
use crate::transfer::{self, Network, Options, Source};

/// Bring images into the store
///
/// SOURCE is a name in a registry, also as `docker://NAME`, or `oci:DIR[:TAG]`,
/// `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:NAME]`, `docker-daemon:NAME`, `dir:DIR`. The image's id goes to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct Pull {
    /// What to pull
    #[arg(value_name = "SOURCE", required = true)]
    sources: Vec<Source>,

    /// Platform to pull for, such as `linux/arm64`
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,

    /// No progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    registry: Registry,
}

impl Pull {
    /// Pulls one after the other.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let network = self.registry.options()?;
        let store = session.store()?;
        let network = Network::new(network);
        let options = Options {
            network,
            platform: self.platform,
            unpack: false,
            attestations: true,
        };
        for source in &self.sources {
            let shown = session.modest(self.quiet);
            let image = transfer::pull(&store, source, &options, &shown)?;
            drop(shown);
            ui::data(&image.id())?;
        }
        session.cap(&store);
        Ok(())
    }
}
