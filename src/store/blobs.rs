//! Blobs: content-addressed files, verified before they get their name.
//!
//! A [`Blob`] that exists was hashed and lies whole under its name. Bytes go through a
//! [`BlobWriter`] into the lease and by rename into place; storing the same bytes twice keeps one
//! copy. Everything streams: memory stays flat whatever the size.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::Store;
use super::disk;
use super::error::Error;
use super::fault;
use super::lease::Lease;
use super::locks::Act;
use crate::image::{
    Algorithm, BlobSink, BlobSource, BlobWrite, Descriptor, Digest, Hasher, Hashing, Mismatch,
};

/// A blob in the store: it was hashed before this value existed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    digest: Digest,
    size: u64,
}

impl Blob {
    /// Returns its digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Store {
    /// Returns the blob when it is in the store. One that a power cut may have torn is hashed
    /// first, and removed when it is.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        let Some(size) = disk::size(&self.blob_path(digest))? else {
            return Ok(None);
        };
        let marks = self.suspicions(&item(digest))?;
        if !marks.is_empty() {
            let whole = self.judge(digest)?;
            self.acquit(&marks)?;
            if !whole {
                return Ok(None);
            }
        }
        Ok(Some(Blob {
            digest: digest.clone(),
            size,
        }))
    }

    /// Returns the blob, or the error that it is not there.
    pub(super) fn need_blob(&self, digest: &Digest) -> Result<Blob, Error> {
        self.blob(digest)?.ok_or_else(|| Error::NoBlob {
            digest: digest.clone(),
        })
    }

    /// Opens a blob for reading.
    pub fn open_blob(&self, blob: &Blob) -> Result<File, Error> {
        let path = self.blob_path(&blob.digest);
        match File::open(&path) {
            Ok(file) => Ok(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::NoBlob {
                digest: blob.digest.clone(),
            }),
            Err(e) => Err(Error::io("open", &path, e)),
        }
    }

    /// Reads a whole small blob and verifies it. `limit` in bytes is what its kind may have.
    pub fn read_blob(
        &self,
        what: &'static str,
        digest: &Digest,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let path = self.blob_path(digest);
        let size = disk::size(&path)?.unwrap_or(0);
        if size > limit {
            return Err(crate::image::DocumentError::TooLarge {
                what,
                digest: digest.clone(),
                size,
                limit,
            }
            .into());
        }
        let Some(bytes) = disk::read(&path)? else {
            return Err(Error::NoBlob {
                digest: digest.clone(),
            });
        };
        let got = Digest::of(&bytes);
        if got == *digest {
            return Ok(bytes);
        }
        self.judge(digest)?;
        Err(Error::Corrupt(Mismatch {
            want: digest.clone(),
            got,
            size: bytes.len() as u64,
        }))
    }

    /// Begins a new blob. Nothing is visible until it is finished; dropped, it is gone.
    pub fn blob_writer(&self) -> Result<BlobWriter, Error> {
        let lease = self.lease()?;
        let path = lease.fresh("blob");
        let file = disk::new_file(&path)?;
        Ok(BlobWriter {
            store: self.clone(),
            file,
            temp: Temp(path),
            hasher: Hasher::new(),
            _lease: lease,
        })
    }

    /// Stores `bytes`.
    pub fn put(&self, bytes: &[u8]) -> Result<Blob, Error> {
        let digest = Digest::of(bytes);
        if let Some(blob) = self.blob(&digest)?
            && blob.size == bytes.len() as u64
        {
            return Ok(blob);
        }
        let mut writer = self.blob_writer()?;
        writer.take(bytes)?;
        writer.finish()
    }

    /// Hashes a blob; one that is gone is sound.
    pub(super) fn is_sound(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.hashes_right(digest)? != Some(false))
    }

    /// Hashes a blob that is doubted and removes it when it is not what its name says. Returns
    /// whether it is whole. The lock keeps two judges from removing the good copy that healed it.
    pub(super) fn judge(&self, digest: &Digest) -> Result<bool, Error> {
        let _lock = self.lock(Act::Blob, digest)?;
        let right = self.hashes_right(digest)?;
        if right == Some(false) {
            disk::remove_file(&self.blob_path(digest))?;
        }
        Ok(right == Some(true))
    }

    /// Whether the bytes of a blob are those of its name; `None` when it is gone.
    fn hashes_right(&self, digest: &Digest) -> Result<Option<bool>, Error> {
        let path = self.blob_path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        let mut hashing = Hashing::new(&mut file);
        disk::drain(&mut hashing).map_err(|e| Error::io("read", &path, e))?;
        Ok(Some(hashing.finish().1 == *digest))
    }

    /// Returns where a blob lies or would lie.
    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        let algorithm = match digest.algorithm() {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        };
        let mut path = self.path("blobs");
        path.push(algorithm);
        path.push(digest.hex());
        path
    }
}

/// Name of a blob's mark.
fn item(digest: &Digest) -> String {
    format!("blob-{}", digest.as_str().replacen(':', "-", 1))
}

/// A path that is removed when the value goes.
#[derive(Debug)]
pub(super) struct Temp(pub(super) PathBuf);

impl Drop for Temp {
    fn drop(&mut self) {
        // After a rename there is nothing; else what stays goes with the lease.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A blob on its way in.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    file: File,
    temp: Temp,
    hasher: Hasher,
    _lease: Arc<Lease>,
}

impl BlobWriter {
    /// Adds `bytes`; the error is this room's own.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write_all(bytes)
            .map_err(|e| Error::from_io("write", &self.temp.0, e))
    }

    /// Returns how many bytes were written so far.
    pub(super) fn size(&self) -> u64 {
        self.hasher.size()
    }

    /// Returns the digest of what was written so far.
    pub(super) fn digest_so_far(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Opens what was written so far for reading from its start.
    pub(super) fn reopen(&self) -> Result<File, Error> {
        File::open(&self.temp.0).map_err(|e| Error::io("open", &self.temp.0, e))
    }

    /// Makes the blob visible under the digest its bytes have.
    pub fn finish(self) -> Result<Blob, Error> {
        let Self {
            store,
            file,
            temp,
            hasher,
            _lease,
        } = self;
        drop(file);
        let size = hasher.size();
        let digest = hasher.finish();
        store.settle(&temp, &digest, size)?;
        Ok(Blob { digest, size })
    }

    /// Makes the blob visible if its bytes are the ones of `digest` and `size`; else it is gone.
    pub fn finish_as(self, digest: &Digest, size: u64) -> Result<Blob, Error> {
        if digest.algorithm() != Algorithm::Sha256 {
            return Err(Error::Unverifiable {
                digest: digest.clone(),
            });
        }
        let got_size = self.hasher.size();
        let got = self.hasher.clone().finish();
        if got != *digest || got_size != size {
            return Err(Error::Corrupt(Mismatch {
                want: digest.clone(),
                got,
                size: got_size,
            }));
        }
        self.finish()
    }
}

impl Store {
    /// Gives the verified file `temp` its name.
    fn settle(&self, temp: &Temp, digest: &Digest, size: u64) -> Result<(), Error> {
        let path = self.blob_path(digest);
        if self.blob(digest)?.is_some_and(|there| there.size == size) {
            return Ok(());
        }
        self.mark(&item(digest))?;
        disk::rename(&temp.0, &path)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        fault::point("write", &self.temp.0).map_err(Error::into_io)?;
        match self.file.write(bytes) {
            Ok(n) => {
                self.hasher.update(&bytes[..n]);
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => Err(Error::io("write", &self.temp.0, e).into_io()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobSource for Store {
    /// Opens the blob; the plain tar of a layer that exists as a tree or compressed is made.
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        let open = || -> Result<File, Error> {
            match self.blob(&blob.digest)? {
                Some(there) => self.open_blob(&there),
                None => self.plain_file(&crate::image::DiffId(blob.digest.clone())),
            }
        };
        match open() {
            Ok(file) => Ok(Box::new(file)),
            Err(e) => Err(e.into_io()),
        }
    }
}

impl BlobSink for Store {
    fn has(&self, digest: &Digest) -> io::Result<bool> {
        match self.blob(digest) {
            Ok(blob) => Ok(blob.is_some()),
            Err(e) => Err(e.into_io()),
        }
    }

    fn begin(&self, blob: &Descriptor) -> io::Result<Box<dyn BlobWrite + Send>> {
        match self.blob_writer() {
            Ok(writer) => Ok(Box::new(Expected {
                writer,
                digest: blob.digest.clone(),
                size: blob.size,
            })),
            Err(e) => Err(e.into_io()),
        }
    }
}

/// A writer that knows what must come.
struct Expected {
    writer: BlobWriter,
    digest: Digest,
    size: u64,
}

impl Write for Expected {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.size.saturating_sub(self.writer.hasher.size());
        if bytes.len() as u64 > room {
            // More than was promised is never the right blob, and might never end.
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                TooLong {
                    digest: self.digest.clone(),
                    size: self.size,
                },
            ));
        }
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl BlobWrite for Expected {
    fn finish(self: Box<Self>) -> io::Result<()> {
        let Self {
            writer,
            digest,
            size,
        } = *self;
        match writer.finish_as(&digest, size) {
            Ok(_) => Ok(()),
            Err(e) => Err(e.into_io()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("blob {digest} is longer than the {size} bytes its descriptor says")]
struct TooLong {
    digest: Digest,
    size: u64,
}
