//! Reads what a layer's blob holds when it is unpacked, hashing both sides in one pass.
//!
//! A packed blob is read, hashed and inflated on one thread, what comes out is hashed on another,
//! and both run some way ahead of whoever wants the plain tar: without instructions for SHA-256
//! hashing takes twice as long as inflating. A blob that is plain already is hashed once.
//!
//! The reader may stop where it likes and fail as it likes: [`PlainReader::end`] reads both sides
//! to their ends and decides what was wrong. A blob that is not what its digest says is the error,
//! whatever it made its reader stumble over, and is removed so that fetching it again heals.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Store;
use super::blobs::Blob;
use super::disk;
use super::error::Error;
use super::images::LayerRef;
use crate::image::{DiffId, Digest, Hasher, Mismatch};
use crate::layer::{self, Format};

/// Bytes of a packed blob below which threads cost more than they save.
const WORTH_THREADS: u64 = 128 << 10;

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
        let packed = Hashed::new(file);
        let format = layer::sniff(&prefix);
        if format == Format::Plain {
            return Ok(PlainReader {
                blob: blob.clone(),
                stream: Box::new(packed.clone()),
                packed,
                unpacked: None,
            });
        }
        let threads = blob.size() >= WORTH_THREADS;
        let ahead = |stream: Box<dyn Read + Send>| -> Result<Box<dyn Read + Send>, Error> {
            Ok(match threads {
                true => Box::new(layer::read_ahead(stream).map_err(read)?),
                false => stream,
            })
        };
        let plain = layer::decompress(format, packed.clone());
        let unpacked = Hashed::new(ahead(plain)?);
        let stream = ahead(Box::new(unpacked.clone()))?;
        Ok(PlainReader {
            blob: blob.clone(),
            stream,
            packed,
            unpacked: Some(unpacked),
        })
    }
}

/// A stream that is hashed as it is read. Its copies are one stream, whoever reads from them.
struct Hashed<R>(Arc<Mutex<(R, Hasher)>>);

impl<R> Hashed<R> {
    fn new(inner: R) -> Self {
        Self(Arc::new(Mutex::new((inner, Hasher::new()))))
    }

    fn lock(&self) -> MutexGuard<'_, (R, Hasher)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the digest and the number of the bytes that were read.
    fn so_far(&self) -> (Digest, u64) {
        let hasher = self.lock().1.clone();
        let size = hasher.size();
        (hasher.finish(), size)
    }
}

impl<R> Clone for Hashed<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (inner, hasher) = &mut *self.lock();
        let n = inner.read(buffer)?;
        hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// Reads what a blob holds, hashing both sides on the way.
pub(super) struct PlainReader {
    blob: Blob,
    /// The plain tar, as its reader gets it.
    stream: Box<dyn Read + Send>,
    /// The blob's own bytes.
    packed: Hashed<File>,
    /// What they unpack to; none where they are the plain tar themselves.
    unpacked: Option<Hashed<Box<dyn Read + Send>>>,
}

impl PlainReader {
    /// Returns how many bytes of the blob were read.
    pub(super) fn packed_size(&self) -> u64 {
        self.packed.lock().1.size()
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
            disk::drain(&mut self.stream).map_err(Failure::Stream)?;
            Ok(value)
        });
        let digest = self.blob.digest().clone();
        let path = store.blob_path(&digest);
        // The blob's end may lie behind the end of the packed stream.
        disk::drain(&mut self.packed).map_err(|e| Error::io("read", &path, e))?;
        let (found, size) = self.packed.so_far();
        if found != digest {
            store.judge(&digest)?;
            return Err(Error::Corrupt(Mismatch {
                want: digest,
                got: found,
                size,
            }));
        }
        let value = outcome.map_err(|failure| failure.of(&digest))?;
        let (got, plain_size) = match &self.unpacked {
            Some(unpacked) => unpacked.so_far(),
            None => (found, size),
        };
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

impl Read for PlainReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
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
