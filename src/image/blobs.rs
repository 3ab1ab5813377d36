//! Where blobs come from and go to, without saying what that is.
//!
//! `registry` streams into a [`BlobSink`] and out of a [`BlobSource`] and never learns that a
//! store is behind them.

use std::io::{self, Read, Write};

use super::descriptor::Descriptor;
use super::digest::Digest;

/// Gives the bytes of blobs.
pub trait BlobSource: Sync {
    /// Opens the blob for one pass from its first byte.
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>>;
}

/// Takes the bytes of blobs.
pub trait BlobSink: Sync {
    /// Returns whether the blob is there already.
    fn has(&self, digest: &Digest) -> io::Result<bool>;

    /// Begins to take a blob. Nothing is visible under its name until
    /// [`finish`](BlobWrite::finish) has verified it.
    fn begin(&self, blob: &Descriptor) -> io::Result<Box<dyn BlobWrite + Send>>;
}

/// A blob on its way in. Dropping it leaves nothing behind.
pub trait BlobWrite: Write {
    /// Checks digest and size against the descriptor the write began with, and makes the blob
    /// visible. A mismatch is an [`io::ErrorKind::InvalidData`] that wraps a [`Mismatch`].
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Bytes that are not what their descriptor says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("blob {want} is corrupt: its {size} bytes hash to {got}")]
pub struct Mismatch {
    /// The digest that was asked for.
    pub want: Digest,
    /// The digest of what came.
    pub got: Digest,
    /// How many bytes came.
    pub size: u64,
}
