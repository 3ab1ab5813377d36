//! Reads what a layer's blob holds when it is unpacked, hashing both sides in one pass.
//!
//! The reader may stop where it likes and fail as it likes: [`PlainReader::end`] reads both sides
//! to their ends and decides what was wrong. A blob that is not what its digest says is the error,
//! whatever it made its reader stumble over, and is removed so that fetching it again heals.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::{Arc, Mutex, PoisonError};

use super::Store;
use super::blobs::Blob;
use super::disk;
use super::error::Error;
use super::images::LayerRef;
use crate::image::{DiffId, Digest, Hasher, Hashing, Mismatch};
use crate::layer;

impl Store {
    /// Begins to read what a blob holds when it is unpacked.
    pub(super) fn plain_reader(&self, blob: &Blob) -> Result<PlainReader, Error> {
        let mut file = self.open_blob(blob)?;
        let path = self.blob_path(blob.digest());
        let read = |e| Error::io("read", &path, e);
        let mut prefix = Vec::with_capacity(layer::PREFIX);
        let head = u64::try_from(layer::PREFIX).unwrap_or(u64::MAX);
        Read::by_ref(&mut file)
            .take(head)
            .read_to_end(&mut prefix)
            .map_err(read)?;
        file.rewind().map_err(read)?;
        let packed = Arc::new(Mutex::new(Packed {
            file,
            hasher: Hasher::new(),
        }));
        let plain = layer::decompress(layer::sniff(&prefix), SharedPacked(packed.clone()));
        Ok(PlainReader {
            blob: blob.clone(),
            packed,
            plain: Hashing::new(plain),
        })
    }
}

/// A blob's file with the hash of what was read of it so far.
struct Packed {
    file: File,
    hasher: Hasher,
}

struct SharedPacked(Arc<Mutex<Packed>>);

impl Read for SharedPacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut packed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let n = packed.file.read(buffer)?;
        packed.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// Reads what a blob holds, hashing both sides on the way.
pub(super) struct PlainReader {
    blob: Blob,
    packed: Arc<Mutex<Packed>>,
    plain: Hashing<Box<dyn Read + Send>>,
}

impl PlainReader {
    /// Returns how many bytes of the blob were read.
    pub(super) fn packed_size(&self) -> u64 {
        let packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        packed.hasher.size()
    }

    /// Reads both sides to their ends and checks them. `outcome` is what the reader of the plain
    /// side came to: when it failed on a blob that turns out corrupt, the corruption is the error,
    /// and the blob is removed. Returns the outcome's value and the bytes of the plain tar.
    pub(super) fn end<T, E: Into<Failure>>(
        mut self,
        store: &Store,
        layer: &LayerRef,
        outcome: Result<T, E>,
    ) -> Result<(T, u64), Error> {
        let want = &layer.diff_id;
        let outcome = outcome.map_err(Into::into).and_then(|value| {
            disk::drain(&mut self.plain).map_err(Failure::Stream)?;
            Ok(value)
        });
        let Self {
            blob,
            packed,
            plain,
        } = self;
        let digest = blob.digest().clone();
        let (unpacker, got, plain_size) = plain.finish();
        drop(unpacker);
        let (found, size) = finish_packed(store, &blob, &packed)?;
        if found != digest {
            store.judge(&digest)?;
            return Err(Error::Corrupt(Mismatch {
                want: digest,
                got: found,
                size,
            }));
        }
        let value = outcome.map_err(|failure| failure.of(&digest))?;
        let right = DiffId(got.clone()) == *want;
        let named = &layer.descriptor;
        let origin = (named.digest == digest && digest != want.0).then(|| named.clone());
        store.amend(want, |facts| {
            if right {
                facts.size = Some(plain_size);
                facts.origin = facts.origin.take().or(origin);
            } else if facts.origin.as_ref().is_some_and(|o| o.digest == digest) {
                // An origin that proves wrong must not stand in the way of the right one.
                facts.origin = None;
            }
        })?;
        if right {
            return Ok((value, plain_size));
        }
        Err(Error::DiffId {
            layer: digest,
            want: want.clone(),
            got: DiffId(got),
        })
    }
}

/// Reads a blob to its end, which may lie behind the end of the packed stream, and returns the
/// digest and number of all its bytes.
fn finish_packed(
    store: &Store,
    blob: &Blob,
    packed: &Arc<Mutex<Packed>>,
) -> Result<(Digest, u64), Error> {
    let path = store.blob_path(blob.digest());
    disk::drain(&mut SharedPacked(packed.clone())).map_err(|e| Error::io("read", &path, e))?;
    let packed = packed.lock().unwrap_or_else(PoisonError::into_inner);
    let hasher = packed.hasher.clone();
    Ok((hasher.clone().finish(), hasher.size()))
}

impl Read for PlainReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.plain.read(buffer)
    }
}

/// Why the reader of a plain tar stopped.
pub(super) enum Failure {
    Stream(io::Error),
    Layer(layer::Error),
}

impl Failure {
    /// Returns the error for a reader of the blob `digest`, which is whole.
    fn of(self, digest: &Digest) -> Error {
        match self {
            Self::Stream(source) => match source.downcast::<Error>() {
                Ok(own) => own,
                Err(source) => Error::Stream {
                    doing: "unpack",
                    what: format!("blob {digest}"),
                    source,
                },
            },
            Self::Layer(source) => Error::Layer {
                doing: "unpack",
                layer: digest.clone(),
                source,
            },
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

impl From<layer::Error> for Failure {
    fn from(error: layer::Error) -> Self {
        Self::Layer(error)
    }
}
