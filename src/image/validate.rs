//! Checks a whole image the way a strict reader would.
//!
//! Every image a test makes goes through [`validate`], and so does `inspect --verify` in time.
//! It holds manifest, config and layers against each other; it does not unpack anything.

use std::io::Read;

use super::blobs::BlobSource;
use super::config::Config;
use super::descriptor::{Compression, Descriptor, Kind};
use super::digest::{DiffId, Hasher};
use super::manifest::{Manifest, Raw};

/// What is wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// The manifest's config or a layer has a type that is none.
    #[error("`{media_type}` is no media type of {what}")]
    MediaType {
        /// What it should be.
        what: &'static str,
        /// What it says.
        media_type: String,
    },
    /// Manifest and config disagree on the number of layers.
    #[error("the manifest has {layers} layers, the config {diff_ids} diff ids")]
    LayerCount {
        /// Layers in the manifest.
        layers: usize,
        /// Diff ids in the config.
        diff_ids: usize,
    },
    /// The history does not match the layers one to one.
    #[error("the history has {history} entries that made a layer, the image {layers} layers")]
    HistoryCount {
        /// History entries that are not empty.
        history: usize,
        /// Layers.
        layers: usize,
    },
    /// A blob can't be read.
    #[error("cannot read blob {}", blob.digest)]
    Unreadable {
        /// Which.
        blob: Box<Descriptor>,
        /// Why.
        source: std::io::Error,
    },
    /// A blob is not what its descriptor says.
    #[error(transparent)]
    Corrupt(#[from] super::blobs::Mismatch),
    /// A layer's plain bytes are not what the config says.
    #[error("layer {layer} unpacks to {got}, the config says {want}")]
    DiffId {
        /// The layer's blob.
        layer: super::digest::Digest,
        /// Diff id in the config.
        want: DiffId,
        /// What was found.
        got: DiffId,
    },
}

/// Reads every blob of the image once and returns its first flaw. `inflate` opens a compressed
/// stream (the `layer` room has one; this room knows no codecs).
pub fn validate(
    manifest: &Manifest,
    config: &Raw<Config>,
    blobs: &dyn BlobSource,
    inflate: &dyn Fn(Compression, Box<dyn Read + Send>) -> std::io::Result<Box<dyn Read + Send>>,
) -> Result<(), Flaw> {
    if manifest.config.kind() != Some(Kind::Config) {
        let media_type = manifest.config.media_type.clone();
        return Err(Flaw::MediaType {
            what: "a config",
            media_type,
        });
    }
    check_hash(&manifest.config, blobs)?;
    let diff_ids = &config.value().rootfs.diff_ids;
    if manifest.layers.len() != diff_ids.len() {
        return Err(Flaw::LayerCount {
            layers: manifest.layers.len(),
            diff_ids: diff_ids.len(),
        });
    }
    let history = config
        .value()
        .history
        .iter()
        .filter(|entry| !entry.empty_layer)
        .count();
    if !config.value().history.is_empty() && history != diff_ids.len() {
        return Err(Flaw::HistoryCount {
            history,
            layers: diff_ids.len(),
        });
    }
    for (layer, want) in manifest.layers.iter().zip(diff_ids) {
        let Some(Kind::Layer(compression)) = layer.kind() else {
            let media_type = layer.media_type.clone();
            return Err(Flaw::MediaType {
                what: "a layer",
                media_type,
            });
        };
        check_hash(layer, blobs)?;
        let unreadable = |source| Flaw::Unreadable {
            blob: Box::new(layer.clone()),
            source,
        };
        let plain = blobs
            .open(layer)
            .and_then(|stream| inflate(compression, stream))
            .map_err(unreadable)?;
        let got = DiffId(hash(plain).map_err(unreadable)?.0);
        if got != *want {
            return Err(Flaw::DiffId {
                layer: layer.digest.clone(),
                want: want.clone(),
                got,
            });
        }
    }
    Ok(())
}

fn check_hash(blob: &Descriptor, blobs: &dyn BlobSource) -> Result<(), Flaw> {
    let unreadable = |source| Flaw::Unreadable {
        blob: Box::new(blob.clone()),
        source,
    };
    let (got, size) = blobs.open(blob).and_then(hash).map_err(unreadable)?;
    if got == blob.digest && size == blob.size {
        return Ok(());
    }
    Err(super::blobs::Mismatch {
        want: blob.digest.clone(),
        got,
        size,
    }
    .into())
}

fn hash(mut stream: Box<dyn Read + Send>) -> std::io::Result<(super::digest::Digest, u64)> {
    let mut hasher = Hasher::new();
    let size = std::io::copy(&mut stream, &mut hasher)?;
    Ok((hasher.finish(), size))
}
