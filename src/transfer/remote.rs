//! Reads what a name in a registry leads to: index, manifest and config, each verified.

use crate::image::{
    Config, Digest, Document, DocumentError, Index, MAX_CONFIG, MAX_MANIFEST, Manifest, Platform,
    Raw, Reference,
};
use crate::registry::{Reader, Version};
use crate::store::{self, Store};

use super::choose::{choose, offered};
use super::error::Error;

/// Indexes within indexes deeper than this are not followed.
const MAX_DEPTH: usize = 4;

/// The documents of one image.
#[derive(Debug)]
pub(super) struct Remote {
    /// The indexes on the way, outermost first.
    pub(super) indexes: Vec<Raw<Index>>,
    /// The manifest for the platform.
    pub(super) manifest: Raw<Manifest>,
    /// Its config.
    pub(super) config: Raw<Config>,
}

/// Follows `name` to the image for `want`. What the store has already is not asked for again;
/// what the name means now always is.
pub(super) async fn read(
    reader: &Reader,
    store: &Store,
    name: &Reference,
    want: &Platform,
) -> Result<Remote, Error> {
    let mut indexes = Vec::new();
    let mut document = reader.document(Version::of(name)).await?;
    let manifest = loop {
        let index = match document {
            Document::Manifest(manifest) => break manifest,
            Document::Index(index) => index,
        };
        let Some(next) = choose(index.value(), want) else {
            return Err(Error::NoPlatform {
                name: name.familiar(),
                want: Box::new(want.clone()),
                offered: offered(index.value()),
            });
        };
        if indexes.len() >= MAX_DEPTH {
            return Err(Error::Nested {
                name: name.familiar(),
                digest: index.digest().clone(),
            });
        }
        document = match known(store, "document", &next.digest, MAX_MANIFEST)? {
            Some(bytes) => Document::parse(None, bytes).map_err(|e| unusable(name, e))?,
            None => reader.document(Version::Digest(&next.digest)).await?,
        };
        indexes.push(index);
    };
    let descriptor = &manifest.value().config;
    let bytes = match known(store, "config", &descriptor.digest, MAX_CONFIG)? {
        Some(bytes) => bytes,
        None => reader.small_blob("config", descriptor, MAX_CONFIG).await?,
    };
    let config = Raw::<Config>::parse("config", bytes).map_err(|e| unusable(name, e))?;
    let diff_ids = config.value().rootfs.diff_ids.len();
    let layers = manifest.value().layers.len();
    if diff_ids != layers {
        return Err(Error::Layers {
            name: name.familiar(),
            diff_ids,
            layers,
        });
    }
    Ok(Remote {
        indexes,
        manifest,
        config,
    })
}

fn unusable(name: &Reference, source: DocumentError) -> Error {
    Error::Document {
        name: name.familiar(),
        source,
    }
}

/// Reads a document that the store has. A damaged one is as good as none: it is gone by then.
fn known(
    store: &Store,
    what: &'static str,
    digest: &Digest,
    limit: u64,
) -> Result<Option<Vec<u8>>, Error> {
    if store.blob(digest)?.is_none() {
        return Ok(None);
    }
    match store.read_blob(what, digest, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(store::Error::Corrupt(_) | store::Error::NoBlob { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
