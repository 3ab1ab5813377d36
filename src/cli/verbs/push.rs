//! `push`: an image from the store to a registry, layout or archive.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::cli::args::{PackingArgs, Registry};
use crate::cli::report::Report;
use crate::cli::{Session, files, ui};
use crate::event::Sink;
use crate::image::{Digest, Document, Index, Platform, Raw, Reference, ReferenceError};
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
    #[arg(long, value_name = "PLATFORM", conflicts_with = "all")]
    platform: Option<Platform>,

    /// All images of a name that stands for several, and an error where one is not here
    #[arg(long)]
    all: bool,

    /// All tags of the repository that IMAGE names without a tag
    #[arg(short, long, conflicts_with = "digestfile")]
    all_tags: bool,

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
        let store = session.store()?;
        let sendings = match self.all_tags {
            true => self.tags(&store)?,
            false => vec![self.one(&store)?],
        };
        let network = Network::new(network);
        let transfer = Options {
            network,
            platform: self.platform.clone(),
            unpack: false,
            attestations: false,
        };
        let options = self.packing.options(transfer)?;
        for (digest, to) in sendings {
            let shown = session.modest(self.quiet);
            let digest = match self.all {
                true => send_all(&store, &digest, &to, &options, &shown)?,
                false => send(&store, &digest, &to, &options, &shown)?,
            };
            drop(shown);
            if let Some(path) = &self.digestfile {
                files::write(path, digest.as_str().as_bytes())?;
            }
            ui::data(&digest)?;
        }
        Ok(())
    }

    fn typed(&self) -> &str {
        self.image.strip_prefix("docker://").unwrap_or(&self.image)
    }

    /// Finds the image and where it goes.
    fn one(&self, store: &Store) -> Result<(Digest, Target), Report> {
        let typed = self.typed();
        let target = store.need(typed)?;
        let name = target.name.filter(|name| name.digest().is_none());
        let to = match (&self.to, name) {
            (Some(to), _) => to.clone(),
            (None, Some(name)) => Target::Registry(name),
            // An id or digest is no name that the image could have there.
            (None, None) => {
                return Err(
                    Report::wrong_use(format!("`{typed}` does not say where to push to"))
                        .hint(format!("`push {typed} DESTINATION`")),
                );
            }
        };
        Ok((target.descriptor.digest, to))
    }

    /// Finds all tags of the repository and where each goes.
    fn tags(&self, store: &Store) -> Result<Vec<(Digest, Target)>, Report> {
        let typed = self.typed();
        let repository = repository(typed)?;
        let to = match &self.to {
            None => &repository,
            Some(Target::Registry(to)) => to,
            Some(_) => return Err(Report::wrong_use("`--all-tags` sends to a registry")),
        };
        let images = store.images()?;
        let names = images.iter().flat_map(|image| &image.names);
        let tags = names.filter(|name| name.name() == repository.name());
        let tags: BTreeSet<&str> = tags.filter_map(Reference::tag).collect();
        if tags.is_empty() {
            // Says what there is in place of it, unless an id begins like the name.
            store.need(typed)?;
            let text = format!("no image in the store is called `{typed}`");
            return Err(Report::failed(text));
        }
        let sending = |tag| {
            let named = |name: &Reference| {
                let tagged = name.with_tag(tag);
                tagged.map_err(|error| Report::failed(error.to_string()))
            };
            let found = store.need(&named(&repository)?.full())?;
            Ok((found.descriptor.digest, Target::Registry(named(to)?)))
        };
        tags.into_iter().map(sending).collect()
    }
}

/// Reads the name of a repository, for `--all-tags`.
fn repository(text: &str) -> Result<Reference, Report> {
    let wrong = |why: String| Report::wrong_use(why);
    let name: Reference = text
        .parse()
        .map_err(|e: ReferenceError| wrong(e.to_string()))?;
    match name.digest().is_none() && !text.ends_with(&format!(":{}", name.tag().unwrap_or(""))) {
        true => Ok(name),
        false => Err(wrong(format!(
            "`{text}` has a tag, and `--all-tags` means all"
        ))),
    }
}

/// Sends an index with all that it names, of which nothing may be missing.
fn send_all(
    store: &Store,
    digest: &Digest,
    to: &Target,
    options: &PushOptions,
    sink: &dyn Sink,
) -> Result<Digest, Report> {
    match (store.document(digest)?, to) {
        (Document::Index(index), Target::Registry(name)) => {
            Ok(transfer::push_index(store, &index, name, options, sink)?)
        }
        (Document::Index(_), place) => Err(Report::wrong_use(format!(
            "all images of an index go to a registry, not to `{place}`"
        ))
        .hint("`--platform` says which one of them does")),
        _ => send(store, digest, to, options, sink),
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
    let image = store.image_meant(digest, wanted.as_ref())?;
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
