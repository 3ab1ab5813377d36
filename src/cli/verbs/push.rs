//! `push`: an image from the store to a registry, layout or archive.

use std::path::PathBuf;

use crate::cli::args::{PackingArgs, Registry};
use crate::cli::report::Report;
use crate::cli::{Session, files, ui};
use crate::event::Sink;
use crate::image::{Digest, Document, Index, Platform, Raw};
use crate::store::Store;
use crate::transfer::{self, Network, Options, PushOptions, Target};

/// Send an image somewhere
///
/// DESTINATION is a name in a registry, also as `docker://NAME`, or `oci:DIR[:TAG]`,
/// `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:NAME]`, `docker-daemon:NAME`, `dir:DIR`;
/// without one the image's own name says where to. The digest of the manifest goes to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct Push {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Where to
    #[arg(value_name = "DESTINATION")]
    to: Option<Target>,

    /// Which image of a name that stands for several [default: all, if all are here]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,

    /// Write the digest of the manifest to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,

    /// No progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    packing: PackingArgs,

    #[command(flatten)]
    registry: Registry,
}

impl Push {
    /// Pushes it.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let network = self.registry.options()?;
        let typed = self.image.strip_prefix("docker://").unwrap_or(&self.image);
        let store = session.store()?;
        let target = store.need(typed)?;
        let to = match (self.to, target.name.filter(|name| name.digest().is_none())) {
            (Some(to), _) => to,
            (None, Some(name)) => Target::Registry(name),
            // An id or digest is no name that the image could have there.
            (None, None) => {
                return Err(
                    Report::wrong_use(format!("`{typed}` does not say where to push to"))
                        .hint(format!("`push {typed} DESTINATION`")),
                );
            }
        };
        let network = Network::new(network);
        let transfer = Options {
            network,
            platform: self.platform,
            unpack: false,
            attestations: false,
        };
        let options = self.packing.options(transfer)?;
        let shown = session.modest(self.quiet);
        let digest = send(&store, &target.descriptor.digest, &to, &options, &shown)?;
        drop(shown);
        if let Some(path) = &self.digestfile {
            files::write(path, digest.as_str().as_bytes())?;
        }
        ui::data(&digest)
    }
}

/// Sends what `digest` leads to, and returns the digest of what is there now: of an index all
/// images, where they are here, none is asked for by its platform, and the place can hold them.
pub(crate) fn send(
    store: &Store,
    digest: &Digest,
    to: &Target,
    options: &PushOptions,
    sink: &dyn Sink,
) -> Result<Digest, Report> {
    let wanted = &options.transfer.platform;
    let index = match wanted {
        None => whole_index(store, digest)?,
        Some(_) => None,
    };
    if let (Some(index), Target::Registry(name)) = (&index, to) {
        return Ok(transfer::push_index(store, index, name, options, sink)?);
    }
    let platform = wanted.clone().unwrap_or_else(Platform::host);
    let image = store.image(digest, &platform)?;
    let stated = store.attestations(digest, image.manifest.digest())?;
    Ok(transfer::push_attested(
        store, &image, &stated, to, options, sink,
    )?)
}

/// Returns the index that the name means, if all its images are in the store.
fn whole_index(store: &Store, digest: &Digest) -> Result<Option<Raw<Index>>, Report> {
    let Document::Index(index) = store.document(digest)? else {
        return Ok(None);
    };
    for child in &index.value().manifests {
        if store.blob(&child.digest)?.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(index))
}
