//! A name that is read from the first of its places that has it.
//!
//! Mirrors come before the place itself (registries.conf). The place that answered first is asked
//! first from then on; when it fails, the others may help, because all but the first question
//! name what they want by its digest.

use std::sync::OnceLock;

use crate::event::Sink;
use crate::image::{BlobSink, Descriptor, Digest, Document};

use super::client::{Repository, Version};
use super::error::Error;

/// A repository to be read, at one place or at several that hold the same.
#[derive(Debug)]
pub struct Reader {
    name: String,
    /// At least one.
    places: Vec<Repository>,
    chosen: OnceLock<usize>,
}

impl Reader {
    pub(super) fn new(name: String, places: Vec<Repository>) -> Self {
        Self {
            name,
            places,
            chosen: OnceLock::new(),
        }
    }

    /// Returns how many blobs should move at once.
    pub fn parallel(&self) -> usize {
        self.places[0].parallel()
    }

    /// Returns where the name was read from, when that is not what the name says.
    pub fn elsewhere(&self) -> Option<String> {
        let place = self.places[*self.chosen.get()?].shown();
        (place != self.name).then_some(place)
    }

    /// See [`Repository::document`].
    pub async fn document(&self, version: Version<'_>) -> Result<Document, Error> {
        self.ask(async |place| place.document(version).await).await
    }

    /// See [`Repository::resolve`].
    pub async fn resolve(&self, version: Version<'_>) -> Result<Descriptor, Error> {
        self.ask(async |place| place.resolve(version).await).await
    }

    /// See [`Repository::tags`].
    pub async fn tags(&self) -> Result<Vec<String>, Error> {
        self.ask(async |place| place.tags().await).await
    }

    /// See [`Repository::has_blob`].
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        self.ask(async |place| place.has_blob(digest).await).await
    }

    /// See [`Repository::small_blob`].
    pub async fn small_blob(
        &self,
        what: &'static str,
        blob: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        self.ask(async |place| place.small_blob(what, blob, limit).await)
            .await
    }

    /// See [`Repository::fetch`].
    pub async fn fetch(
        &self,
        blob: &Descriptor,
        into: &dyn BlobSink,
        sink: &dyn Sink,
    ) -> Result<(), Error> {
        self.ask(async |place| place.fetch(blob, into, sink).await)
            .await
    }

    /// See [`Repository::fetch_all`].
    pub async fn fetch_all(
        &self,
        blobs: &[Descriptor],
        into: &dyn BlobSink,
        sink: &dyn Sink,
    ) -> Result<(), Error> {
        self.ask(async |place| place.fetch_all(blobs, into, sink).await)
            .await
    }

    /// Asks one place after the other until one answers.
    async fn ask<T>(&self, ask: impl AsyncFn(&Repository) -> Result<T, Error>) -> Result<T, Error> {
        let first = self.chosen.get().copied();
        let others = (0..self.places.len()).filter(|at| Some(*at) != first);
        let mut failed = Vec::new();
        for at in first.into_iter().chain(others) {
            match ask(&self.places[at]).await {
                Ok(answer) => {
                    // Whoever was first has set it, which is as good.
                    let _ = self.chosen.set(at);
                    return Ok(answer);
                }
                // Another place would not help against a full disk.
                Err(error @ Error::Local { .. }) => return Err(error),
                Err(error) => failed.push((at, error)),
            }
        }
        Err(self.all_failed(failed))
    }

    /// The error of the place itself, which is the last of all, and what the others said before.
    fn all_failed(&self, mut failed: Vec<(usize, Error)>) -> Error {
        failed.sort_by_key(|(at, _)| *at);
        let (_, last) = failed.pop().expect("there is at least one place");
        let unknown = |error: &Error| matches!(error, Error::UnknownManifest { .. });
        if unknown(&last) && failed.iter().all(|(_, error)| unknown(error)) || failed.is_empty() {
            return last;
        }
        let told = |(at, error): &(usize, Error)| format!("{}: {error}", self.places[*at].shown());
        Error::Nowhere {
            name: self.name.clone(),
            others: failed.iter().map(told).collect(),
            source: Box::new(last),
        }
    }
}
