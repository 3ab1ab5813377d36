//! What can go wrong when an image moves.

use std::io;
use std::path::PathBuf;

use crate::image::{Digest, DocumentError, Platform};
use crate::registry;
use crate::store;

/// Why an image could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry's side; it says what happened there.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The store's side.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A server says that a file is unchanged though nobody had it.
    #[error("the server of `{url}` says that it is unchanged, though it was not asked that")]
    Unasked {
        /// The URL.
        url: String,
    },
    /// The machinery for network input and output could not be set up.
    #[error("cannot set up the network")]
    Runtime {
        /// Why.
        source: io::Error,
    },
    /// The name can only mean a local image.
    #[error("`{name}` is a local name and never goes to the network")]
    LocalOnly {
        /// The name.
        name: String,
    },
    /// The image exists for other platforms only.
    #[error("`{name}` has no image for {want}, it has: {offered}")]
    NoPlatform {
        /// The name.
        name: String,
        /// What was asked for.
        want: Box<Platform>,
        /// What there is, parted by commas.
        offered: String,
    },
    /// A manifest, index or config is unusable.
    #[error("`{name}` is not a usable image")]
    Document {
        /// The name.
        name: String,
        /// What is wrong.
        source: DocumentError,
    },
    /// Config and manifest do not speak of the same layers.
    #[error(
        "`{name}` is not a usable image: its config names {diff_ids} layers and its manifest {layers}"
    )]
    Layers {
        /// The name.
        name: String,
        /// Number of diff ids in the config.
        diff_ids: usize,
        /// Number of layers in the manifest.
        layers: usize,
    },
    /// Something else than the sources of an image.
    #[error("`{place}` is no source image")]
    NotSource {
        /// The place.
        place: String,
    },
    /// An archive holds no image.
    #[error("`{place}` holds no image")]
    Empty {
        /// The place.
        place: String,
    },
    /// A digest is what an image has, not what it can be given.
    #[error("`{place}` cannot be written to: the digest is the image's own")]
    ByDigest {
        /// The place.
        place: String,
    },
    /// A file on this machine cannot be written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// The act.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An index names something that is neither a manifest nor an index.
    #[error("`{name}` names a `{media_type}`, which cannot be copied")]
    NotCopied {
        /// The name.
        name: String,
        /// Its media type.
        media_type: String,
    },
    /// An index leads to an index, and so on.
    #[error("`{name}` is not a usable image: index {digest} leads to further indexes only")]
    Nested {
        /// The name.
        name: String,
        /// The innermost index looked at.
        digest: Digest,
    },
}
