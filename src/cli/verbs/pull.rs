//! `pull`: images from registries, layouts and archives into the store.

use crate::cli::args::{PlatformArgs, Registry};
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

    /// All tags of the repositories that the sources name without a tag
    #[arg(short, long)]
    all_tags: bool,

    /// Platform to pull for, such as `linux/arm64`
    #[arg(long, value_name = "PLATFORM", conflicts_with_all = ["os", "arch", "variant"])]
    platform: Option<Platform>,

    #[command(flatten)]
    parts: PlatformArgs,

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
            platform: self.parts.platform()?.or(self.platform),
            unpack: false,
            attestations: true,
        };
        let mut sources = self.sources;
        if self.all_tags {
            sources = all_tags(&options.network, &sources)?;
        }
        for source in &sources {
            let shown = session.modest(self.quiet);
            let image = transfer::pull(&store, source, &options, &shown)?;
            drop(shown);
            ui::data(&image.id())?;
        }
        session.cap(&store);
        Ok(())
    }
}

/// Asks the registries for the tags of repositories.
fn all_tags(network: &Network, repositories: &[Source]) -> Result<Vec<Source>, Report> {
    let mut all = Vec::new();
    for source in repositories {
        let Source::Registry(name) = source else {
            return Err(Report::wrong_use(format!(
                "`{source}` has no tags: `--all-tags` is for repositories of a registry"
            )));
        };
        // A tag that was not given is `latest`, which is one of all.
        if name.digest().is_some() || name.tag() != Some("latest") {
            let text = format!("`{name}` is one image, and `--all-tags` means all");
            return Err(Report::wrong_use(text));
        }
        for tag in transfer::tags(network, name)? {
            let tagged = name.with_tag(&tag);
            let tagged = tagged.map_err(|error| Report::failed(error.to_string()))?;
            all.push(Source::Registry(tagged));
        }
    }
    Ok(all)
}
