//! Moves an image from one place to another through the store, where its blobs stay until the
//! next prune. No name is given to it here.

use crate::event::Sink;
use crate::image::{Descriptor, Digest, Document, Kind, Reference};
use crate::registry::{Reader, Repository, Version};
use crate::store::Store;

use super::archive;
use super::error::Error;
use super::network::Network;
use super::options::{CopyOptions, Options};
use super::place::Place;
use super::pull::fetch_image;
use super::push::push;

/// Indexes within indexes deeper than this are not followed.
const MAX_DEPTH: u32 = 4;

/// Copies the image at `from` to `to` and returns the digest of what is there now.
pub fn copy(
    store: &Store,
    from: &Place,
    to: &Place,
    options: &CopyOptions,
    sink: &dyn Sink,
) -> Result<Digest, Error> {
    let _work = store.work()?;
    if let (true, Place::Registry(from), Place::Registry(to)) = (options.all, from, to) {
        return copy_all(store, from, to, options, sink);
    }
    let transfer = &Options {
        network: from_network(options).clone(),
        ..options.push.transfer.clone()
    };
    let image = match from {
        Place::Registry(name) => fetch_image(store, name, transfer, sink)?,
        other => archive::read(store, other, transfer, sink)?,
    };
    push(store, &image, to, &options.push, sink)
}

fn copy_all(
    store: &Store,
    from: &Reference,
    to: &Reference,
    options: &CopyOptions,
    sink: &dyn Sink,
) -> Result<Digest, Error> {
    let network = &options.push.transfer.network;
    let mut sources = Vec::new();
    if from.registry() == to.registry() && from.repository() != to.repository() {
        sources.push(from.repository().to_owned());
    }
    let copier = Copier {
        store,
        from: from_network(options).reader(from)?,
        to: network.writer(to, &sources)?,
        name: from,
        sink,
    };
    network.wait(async {
        let document = copier.from.document(Version::of(from)).await?;
        copier.copy(document, Version::of(to), MAX_DEPTH).await
    })
}

fn from_network(options: &CopyOptions) -> &Network {
    let own = options.from.as_ref();
    own.unwrap_or(&options.push.transfer.network)
}

struct Copier<'a> {
    store: &'a Store,
    from: Reader,
    to: Repository,
    name: &'a Reference,
    sink: &'a dyn Sink,
}

impl Copier<'_> {
    /// Copies what a document names, and then the document itself.
    async fn copy(
        &self,
        document: Document,
        version: Version<'_>,
        depth: u32,
    ) -> Result<Digest, Error> {
        match &document {
            Document::Manifest(manifest) => {
                let manifest = manifest.value();
                let mut blobs: Vec<Descriptor> = Vec::new();
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    if !blobs.iter().any(|other| other.digest == blob.digest) {
                        blobs.push(blob.clone());
                    }
                }
                self.from.fetch_all(&blobs, self.store, self.sink).await?;
                self.to.send_all(&blobs, self.store, self.sink).await?;
            }
            Document::Index(index) if depth == 0 => {
                return Err(Error::Nested {
                    name: self.name.familiar(),
                    digest: index.digest().clone(),
                });
            }
            Document::Index(index) => {
                for child in &index.value().manifests {
                    if !matches!(child.kind(), Some(Kind::Manifest | Kind::Index)) {
                        return Err(Error::NotCopied {
                            name: self.name.familiar(),
                            media_type: child.media_type.clone(),
                        });
                    }
                    let version = Version::Digest(&child.digest);
                    let document = self.from.document(version).await?;
                    Box::pin(self.copy(document, version, depth - 1)).await?;
                }
            }
        }
        Ok(self.to.put_document(version, &document).await?)
    }
}
