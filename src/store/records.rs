//! Small facts by kind and key, one file each, with a hash that shows a torn one.
//!
//! A record is a hint that saves work: losing one costs time and nothing else. It may name the
//! layers and blobs it is worth nothing without ([`Record::keeps`]); those stay in the store
//! until the record goes. 5 µs to read, 30 µs to write, nothing is synced.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use super::Store;
use super::disk;
use super::error::Error;
use super::frame::{self, Head};
use crate::image::Digest;

/// The key of a record. A digest is its own file name, a text is filed by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordKey {
    text: String,
    hex: String,
}

impl RecordKey {
    /// Returns the key as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl From<&Digest> for RecordKey {
    fn from(digest: &Digest) -> Self {
        Self {
            text: digest.to_string(),
            hex: digest.hex().to_owned(),
        }
    }
}

impl From<&str> for RecordKey {
    fn from(text: &str) -> Self {
        match text.parse::<Digest>() {
            Ok(digest) => Self::from(&digest),
            Err(_) => Self {
                text: text.to_owned(),
                hex: Digest::of(text.as_bytes()).hex().to_owned(),
            },
        }
    }
}

/// A record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: String,
    /// Layers (by diff id) and blobs it is worth nothing without.
    pub keeps: Vec<Digest>,
    /// What it says.
    pub value: Vec<u8>,
}

/// The records of one kind.
#[derive(Debug)]
pub struct Records<'a> {
    store: &'a Store,
    kind: &'static str,
}

impl Store {
    /// Returns the records of a kind; the kind is a plain lower-case word.
    pub fn records(&self, kind: &'static str) -> Records<'_> {
        Records { store: self, kind }
    }

    /// Returns the kinds there are records of.
    pub(super) fn record_kinds(&self) -> Result<Vec<String>, Error> {
        disk::names(&self.path("records"))
    }
}

impl Records<'_> {
    /// Returns the value under `key`. A torn record counts as absent.
    pub fn get<'k>(&self, key: impl Into<RecordKey> + 'k) -> Result<Option<Vec<u8>>, Error> {
        let key = key.into();
        let found = frame::read(&self.path(&key))?;
        Ok(found.and_then(|(head, value)| (head.key == key.text).then_some(value)))
    }

    /// Sets the value under `key`; of two writers at once, one wins whole.
    pub fn put<'k>(&self, key: impl Into<RecordKey> + 'k, value: &[u8]) -> Result<(), Error> {
        self.put_keeping(key, value, &[])
    }

    /// As [`put`](Self::put), for a record that needs the layers and blobs `keeps`: while it
    /// exists they are not deleted.
    pub fn put_keeping<'k>(
        &self,
        key: impl Into<RecordKey> + 'k,
        value: &[u8],
        keeps: &[Digest],
    ) -> Result<(), Error> {
        let key = key.into();
        let path = self.path(&key);
        let head = Head {
            key: key.text,
            keeps: keeps.to_vec(),
        };
        let bytes = frame::frame(&head, value);
        match self.store.write_file(&path, &bytes, false) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                disk::make_dir(&self.store.path("records").join(self.kind))?;
                disk::make_dir(path.parent().unwrap_or(&path))?;
                self.store.write_file(&path, &bytes, false)
            }
            other => other,
        }
    }

    /// Says that the record under `key` was used at `time`. Records that keep something go least
    /// recently used first, and those of one time latest made first: one build uses one time.
    pub fn touch<'k>(&self, key: impl Into<RecordKey> + 'k, time: SystemTime) -> Result<(), Error> {
        disk::touch(&self.path(&key.into()), time)
    }

    /// Removes the record under `key`; returns whether there was one.
    pub fn remove<'k>(&self, key: impl Into<RecordKey> + 'k) -> Result<bool, Error> {
        disk::remove_file(&self.path(&key.into()))
    }

    /// Returns all records of the kind, whole ones only, in the order of their file names.
    pub fn iter(&self) -> Result<impl Iterator<Item = Result<Record, Error>>, Error> {
        walk(self.store, self.kind)
            .map(|records| records.filter_map(|(_, record)| record.transpose()))
    }

    fn path(&self, key: &RecordKey) -> PathBuf {
        let mut path = self.store.path("records");
        path.push(self.kind);
        path.push(&key.hex[..2]);
        path.push(&key.hex[2..]);
        path
    }
}

/// Returns every file of a kind with the record in it; `None` is a torn one.
pub(super) fn walk(
    store: &Store,
    kind: &str,
) -> Result<impl Iterator<Item = (PathBuf, Result<Option<Record>, Error>)> + use<>, Error> {
    let dir = store.path("records").join(kind);
    let mut files = Vec::new();
    for shard in disk::names(&dir)? {
        let shard = dir.join(shard);
        files.extend(
            disk::names(&shard)?
                .into_iter()
                .map(|name| shard.join(name)),
        );
    }
    Ok(files.into_iter().map(|path| {
        let record = frame::read(&path).map(|found| {
            found.map(|(head, value)| Record {
                key: head.key,
                keeps: head.keeps,
                value,
            })
        });
        (path, record)
    }))
}

/// Returns the keys of a kind that are digests whose hex digits begin with `prefix`, at most
/// `limit` of them, without reading a record.
pub(super) fn keys_beginning(
    store: &Store,
    kind: &str,
    prefix: &str,
    limit: usize,
) -> Result<Vec<Digest>, Error> {
    let dir = store.path("records").join(kind);
    let (shard_prefix, rest) = prefix.split_at(prefix.len().min(2));
    let mut keys = Vec::new();
    for shard in disk::names(&dir)? {
        if !shard.starts_with(shard_prefix) {
            continue;
        }
        for name in disk::names(&dir.join(&shard))? {
            if name.starts_with(rest)
                && let Ok(digest) = format!("sha256:{shard}{name}").parse()
            {
                keys.push(digest);
                if keys.len() >= limit {
                    return Ok(keys);
                }
            }
        }
    }
    Ok(keys)
}
