//! Remembers which repositories hold a blob, so that a push within one registry can mount it
//! instead of sending it, and what was never brought can be.
//!
//! A record of kind [`KIND`] for each blob: up to [`MOST`] names, newest first. It is a hint: the
//! registry is asked, and a wrong answer costs one request.

use crate::image::{Descriptor, Digest, Reference};
use crate::store::Store;

use super::error::Error;

const KIND: &str = "origin";
/// Names kept for a blob, and sources offered to a registry.
const MOST: usize = 4;

/// Notes that the repository of `name` holds `blobs`.
pub(super) fn remember<'a>(
    store: &Store,
    name: &Reference,
    blobs: impl Iterator<Item = &'a Descriptor>,
) -> Result<(), Error> {
    let here = name.name();
    for blob in blobs {
        let mut names = known(store, &blob.digest)?;
        if names.first() == Some(&here) {
            continue;
        }
        names.retain(|other| *other != here);
        names.insert(0, here.clone());
        names.truncate(MOST);
        let record = names.join("\n");
        store.records(KIND).put(&blob.digest, record.as_bytes())?;
    }
    Ok(())
}

/// Returns the repositories of the registry of `name`, other than its own, that hold any of
/// `blobs`.
pub(super) fn sources<'a>(
    store: &Store,
    name: &Reference,
    blobs: impl Iterator<Item = &'a Digest>,
) -> Result<Vec<String>, Error> {
    let mut found: Vec<String> = Vec::new();
    for blob in blobs {
        for full in known(store, blob)? {
            let Some((registry, repository)) = full.split_once('/') else {
                continue;
            };
            let fits = registry == name.registry() && repository != name.repository();
            if fits && !found.iter().any(|other| other == repository) {
                found.push(repository.to_owned());
            }
        }
    }
    found.truncate(MOST);
    Ok(found)
}

/// Returns the repositories that hold `blob`, newest first.
pub(super) fn homes(store: &Store, blob: &Digest) -> Result<Vec<Reference>, Error> {
    let names = known(store, blob)?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

fn known(store: &Store, blob: &Digest) -> Result<Vec<String>, Error> {
    let record = store.records(KIND).get(blob)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&record);
    Ok(text.lines().map(str::to_owned).collect())
}
