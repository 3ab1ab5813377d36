//! `push`: an image from the store to a registry, layout or archive.

use std::path::PathBuf;

use crate::cli::args::Registry;
use crate::cli::report::Report;
use crate::cli::{Session, files, ui};
use crate::event::Sink;
use crate::image::{Compression, Digest, Document, Index, Platform, Raw};
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

    /// How layers that were made here are compressed: gzip, zstd or none, with `:LEVEL` if the
    /// usual one is not meant. Pulled layers keep their bytes
    #[arg(long, value_name = "ALGORITHM[:LEVEL]", value_parser = compression)]
    compression: Option<(Compression, Option<i32>)>,

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
    registry: Registry,
}

/// Parses `--compression`.
pub(crate) fn compression(text: &str) -> Result<(Compression, Option<i32>), String> {
    let (algorithm, level) = match text.split_once(':') {
        Some((algorithm, level)) => (algorithm, Some(level)),
        None => (text, None),
    };
    let (algorithm, levels) = match algorithm {
        "gzip" => (Compression::Gzip, 0..=9),
        "zstd" => (Compression::Zstd, 1..=22),
        "none" | "uncompressed" => (Compression::None, 0..=0),
        _ => return Err("expected gzip, zstd or none".to_owned()),
    };
    let wrong = || {
        format!(
            "the level is a number from {} to {}",
            levels.start(),
            levels.end()
        )
    };
    let level: Option<i32> = level
        .map(|level| level.parse().map_err(|_| wrong()))
        .transpose()?;
    match level {
        Some(level) if !levels.contains(&level) => Err(wrong()),
        level => Ok((algorithm, level)),
    }
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
        let (compression, level) = match self.compression {
            Some((compression, level)) => (Some(compression), level),
            None => (None, None),
        };
        let network = Network::new(network);
        let transfer = Options {
            network,
            platform: self.platform,
            unpack: false,
            attestations: false,
        };
        let options = PushOptions {
            transfer,
            compression,
            level,
            by_digest: false,
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressions_may_have_a_level() {
        assert_eq!(compression("gzip"), Ok((Compression::Gzip, None)));
        assert_eq!(compression("zstd:19"), Ok((Compression::Zstd, Some(19))));
        assert_eq!(compression("none"), Ok((Compression::None, None)));
        for bad in ["", "lz4", "gzip:10", "zstd:x", "gzip:"] {
            assert!(compression(bad).is_err(), "{bad}");
        }
    }
}
