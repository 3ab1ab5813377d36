//! Attestations beside images: their documents are blobs, and an index is what leads to them.

use super::Store;
use super::error::Error;
use crate::image::{
    Attestation, Descriptor, Digest, Document, DocumentError, Index, MAX_CONFIG, MAX_STATEMENT, Raw,
};

impl Store {
    /// Stores all documents of an attestation.
    pub fn put_attestation(&self, attestation: &Attestation) -> Result<(), Error> {
        let _work = self.work()?;
        for document in attestation.documents() {
            self.put(document)?;
        }
        Ok(())
    }

    /// Reads the attestation of the manifest `target` that an index names by `entry`.
    pub fn attestation(&self, entry: &Descriptor, target: Digest) -> Result<Attestation, Error> {
        let manifest = match self.document(&entry.digest)? {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) => {
                let digest = index.digest().clone();
                return Err(DocumentError::Ambiguous { digest }.into());
            }
        };
        let value = manifest.value();
        let config = self.read_blob("config", &value.config.digest, MAX_CONFIG)?;
        let statement =
            |layer: &Descriptor| self.read_blob("statement", &layer.digest, MAX_STATEMENT);
        let layers = value
            .layers
            .iter()
            .map(statement)
            .collect::<Result<_, _>>()?;
        Ok(Attestation::read(target, manifest, config, layers))
    }

    /// Returns the attestations of the manifest `target` that the index `digest` names and the
    /// store has; none if `digest` is no index.
    pub fn attestations(
        &self,
        digest: &Digest,
        target: &Digest,
    ) -> Result<Vec<Attestation>, Error> {
        let Document::Index(index) = self.document(digest)? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for entry in &index.value().manifests {
            if entry.attests().as_ref() == Some(target) && self.blob(&entry.digest)?.is_some() {
                found.push(self.attestation(entry, target.clone())?);
            }
        }
        Ok(found)
    }
}

/// Makes an index over one image and what is stated about it.
pub fn index_over(image: Descriptor, attestations: &[Attestation]) -> Raw<Index> {
    let entries = attestations.iter().map(Attestation::entry);
    Raw::of(Index::oci(std::iter::once(image).chain(entries).collect()))
}
