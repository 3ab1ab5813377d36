//! What can go wrong on the disk, as variants a caller can act on.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};

use crate::image::{DiffId, Digest, DocumentError, Flaw, ImageId, Mismatch, Platform, Reference};

/// Why the store could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The act, as a verb: `open`, `rename`, …
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk or the quota is full. What was being written is gone again.
    #[error("cannot {doing} {}: the disk is full", path.display())]
    Full {
        /// The act, as a verb.
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
    },
    /// The store was laid out by a version that does it differently.
    #[error("store {} has format {got}, this program reads format {want}", root.display())]
    Version {
        /// The store.
        root: PathBuf,
        /// Its format.
        got: u32,
        /// The format of this program.
        want: u32,
    },
    /// The directory holds things and is no store.
    #[error("{} is not empty and is no store", root.display())]
    NotAStore {
        /// The directory.
        root: PathBuf,
    },
    /// The file that says what the store is cannot be read as such.
    #[error("{} does not describe a store", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// The store belongs to another user or id map: the owners of its files would be wrong here.
    #[error("store {} belongs to {got}, this process is {want}", root.display())]
    Owner {
        /// The store.
        root: PathBuf,
        /// Whose it is.
        got: String,
        /// Who asks.
        want: String,
    },
    /// The store marks deleted files with `trusted.` attributes, which this process cannot use.
    #[error("store {} needs `trusted.` attributes, which a user namespace has not", root.display())]
    Attributes {
        /// The store.
        root: PathBuf,
    },
    /// A blob is not in the store.
    #[error("blob {digest} is not in the store")]
    NoBlob {
        /// Which.
        digest: Digest,
    },
    /// Bytes are not what their digest says. The bad copy is gone, so fetching it again heals.
    #[error(transparent)]
    Corrupt(Mismatch),
    /// No hash of this kind is computed here, so the blob cannot be verified.
    #[error("blob {digest} cannot be verified: only sha256 is computed")]
    Unverifiable {
        /// Which.
        digest: Digest,
    },
    /// A manifest, index or config is malformed.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Manifest, config and layers do not fit together.
    #[error(transparent)]
    Flaw(#[from] Flaw),
    /// A manifest names one config and came with another.
    #[error("the manifest names config {want}, it came with {got}")]
    ConfigDigest {
        /// What the manifest names.
        want: Digest,
        /// What came.
        got: Digest,
    },
    /// A layer's plain bytes are not what the image's config says.
    #[error("layer {layer} unpacks to {got}, the config says {want}")]
    DiffId {
        /// The layer's blob.
        layer: Digest,
        /// Diff id in the config.
        want: DiffId,
        /// What was found.
        got: DiffId,
    },
    /// A tree no longer encodes to the layer it was made as.
    #[error("tree {} encodes to {got}, it was made as {want}", path.display())]
    TreeChanged {
        /// The tree.
        path: PathBuf,
        /// What it was.
        want: DiffId,
        /// What it is now.
        got: DiffId,
    },
    /// Neither tree nor blob of the layer is in the store.
    #[error("layer {diff_id} is in the store in no form")]
    NoLayer {
        /// Which.
        diff_id: DiffId,
    },
    /// A layer's bytes could not be unpacked, encoded or decompressed.
    #[error("cannot {doing} layer {layer}")]
    Layer {
        /// The act, as a verb.
        doing: &'static str,
        /// Which.
        layer: Digest,
        /// Why.
        source: crate::layer::Error,
    },
    /// A stream given by the caller could not be read or written.
    #[error("cannot {doing} {what}")]
    Stream {
        /// The act, as a verb.
        doing: &'static str,
        /// Which stream.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// No image has this name or id.
    #[error("no image `{text}` in the store")]
    NoImage {
        /// What was asked for.
        text: String,
        /// Names in the store that come near it, nearest first.
        near: Vec<String>,
    },
    /// Several images have ids that begin so.
    #[error("`{text}` begins the ids of {} images", ids.len())]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// The images.
        ids: Vec<ImageId>,
    },
    /// The image is not there for the platform.
    #[error("image {digest} is not for {want}")]
    NoPlatform {
        /// The index.
        digest: Digest,
        /// What was asked for.
        want: Box<Platform>,
        /// What there is.
        offered: Vec<Platform>,
    },
    /// Containers use the image.
    #[error("image {} is used by container `{}`", image.digest().short(), containers.join("`, `"))]
    InUse {
        /// Which image.
        image: ImageId,
        /// Ids of the containers.
        containers: Vec<String>,
        /// Whether one of them runs; then force does not help.
        running: bool,
    },
    /// The image has names in several repositories, so its id does not say which one to remove.
    #[error("image {} has {} names", image.digest().short(), names.len())]
    SeveralNames {
        /// Which image.
        image: ImageId,
        /// Its names.
        names: Vec<Reference>,
    },
    /// A text cannot be the id of a container.
    #[error("`{id}` cannot name a container")]
    ContainerId {
        /// The text.
        id: String,
    },
    /// A container with this id exists.
    #[error("container `{id}` exists")]
    ContainerExists {
        /// The id.
        id: String,
    },
    /// Files that are to become an archive.
    #[error("cannot pack {}", path.display())]
    Pack {
        /// Where they are.
        path: PathBuf,
        /// Why.
        source: crate::layer::Error,
    },
    /// The tar that an archive is cannot be read.
    #[error("cannot read {} as an archive", path.display())]
    ArchiveTar {
        /// The archive.
        path: PathBuf,
        /// Why.
        source: crate::layer::Error,
    },
    /// An archive or layout is not what it should be.
    #[error("{} {flaw}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        flaw: ArchiveFlaw,
    },
}

/// What is wrong with an archive or layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveFlaw {
    /// The input is no tar, plain or compressed.
    #[error("is no tar archive")]
    NotTar,
    /// It holds neither of the two layouts.
    #[error("holds neither `oci-layout` nor `manifest.json`")]
    NoLayout,
    /// The layout has a version this program does not read.
    #[error("has layout version `{0}`, expected `1.0.0`")]
    Version(String),
    /// No image in it goes by what was asked for.
    #[error("has no image `{wanted}`, only {has:?}")]
    NoImage {
        /// Name, tag or digest that was asked for.
        wanted: String,
        /// What there is.
        has: Vec<String>,
    },
    /// It holds several images and none was asked for, or it holds none.
    #[error("holds {} images, so one must be named", has.len())]
    NotOne {
        /// What there is.
        has: Vec<String>,
    },
    /// A file that another one names is not in it.
    #[error("has no `{0}`")]
    Missing(String),
    /// A JSON file in it is malformed.
    #[error("holds a malformed `{file}`: {why}")]
    Json {
        /// The file.
        file: String,
        /// Where and why.
        why: String,
    },
    /// A file in it is larger than a file of its kind may be.
    #[error("holds `{file}` of {size} bytes, at most {limit} are read")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// It lists a different number of layers than the config has.
    #[error("lists {layers} layers for a config with {diff_ids}")]
    LayerCount {
        /// Layers listed.
        layers: usize,
        /// Layers in the config.
        diff_ids: usize,
    },
}

impl Error {
    /// Builds the error for a failed system call, told apart by whether space ran out.
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_full(&source) {
            Self::Full { doing, path }
        } else {
            Self::Io {
                doing,
                path,
                source,
            }
        }
    }

    /// Builds the error for a failed rustix call.
    pub(super) fn os(doing: &'static str, path: &Path, source: rustix::io::Errno) -> Self {
        Self::io(doing, path, source.into())
    }

    /// Whether something was not there (any more).
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Takes back the error that [`into_io`](Self::into_io) sent through a `std::io` trait.
    pub(super) fn from_io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(own) => own,
            Err(source) => Self::io(doing, path, source),
        }
    }

    /// Wraps the error for a `std::io` trait, with the kind that tells a full disk.
    pub(super) fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::Full { .. } => io::ErrorKind::StorageFull,
            Self::NoBlob { .. } => io::ErrorKind::NotFound,
            Self::Corrupt(mismatch) => {
                return io::Error::new(io::ErrorKind::InvalidData, mismatch.clone());
            }
            Self::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }

    /// Returns whether the cause, at whatever depth, is a full disk or quota.
    pub fn is_full(&self) -> bool {
        if matches!(self, Self::Full { .. }) {
            return true;
        }
        let mut cause = self.source();
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<io::Error>()
                && is_full(io)
            {
                return true;
            }
            if let Some(own) = error.downcast_ref::<Self>()
                && matches!(own, Self::Full { .. })
            {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
