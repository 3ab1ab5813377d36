//! Build caches in registries, in layout directories and in services: their documents, and the
//! layers that those name.
//!
//! A cache in a service is its config alone, which describes its layers itself. Elsewhere it is a
//! manifest with a config of type [`media::CACHE_CONFIG`], or an index that names its layers and
//! that config, or an image that carries it in its own config. What the config says is the
//! caller's affair. Layers are brought one by one when somebody wants them.

use std::fmt;
use std::path::PathBuf;

use crate::event::Sink;
use crate::image::{
    Config, Descriptor, Digest, Document, Kind, MAX_CONFIG, Manifest, Raw, Reference, media,
};
use crate::registry::{Reader, Service, Version};
use crate::store::archive::{self, Layout, Loose};
use crate::store::{LayerRef, Store};

use super::error::Error;
use super::network::Network;
use super::origin;
use super::place::Pick;

/// Images of an index beyond this many are not looked at.
const MOST_IMAGES: usize = 32;

/// Where a cache lies or goes.
#[derive(Debug, Clone)]
pub enum CachePlace {
    /// A repository of a registry, and how it is reached.
    Registry {
        /// Its name.
        name: Reference,
        /// The way there.
        network: Network,
    },
    /// An OCI layout directory.
    Layout {
        /// The directory.
        dir: PathBuf,
        /// Which of the caches in it; a written one is named.
        pick: Pick,
    },
    /// A service that keeps caches, and how it is reached.
    Service {
        /// Which.
        service: Box<Service>,
        /// The way there.
        network: Network,
    },
}

impl fmt::Display for CachePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { name, .. } => f.write_str(&name.familiar()),
            Self::Layout { dir, .. } => write!(f, "{}", dir.display()),
            Self::Service { service, .. } => f.write_str(&service.shown()),
        }
    }
}

/// One cache as it was found.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are few, and they move rarely"
)]
pub enum CachePart {
    /// A cache by itself whose config, not looked into, describes its blobs.
    Config(Vec<u8>),
    /// A cache by itself: its config, not looked into, and its blobs.
    Cache {
        /// The config.
        config: Vec<u8>,
        /// The blobs.
        layers: Vec<Descriptor>,
    },
    /// An image, which may carry a cache in its config.
    Image {
        /// The config.
        config: Raw<Config>,
        /// Its layers, bottom first.
        layers: Vec<Descriptor>,
    },
}

/// A cache that is to be written.
#[derive(Debug)]
pub struct CacheDocument<'a> {
    /// Manifest or index.
    pub document: &'a Document,
    /// The config that it names.
    pub config: &'a Raw<serde_json::Value>,
    /// The layers that it names.
    pub layers: &'a [LayerRef],
}

fn descriptors(layers: &[LayerRef]) -> Vec<Descriptor> {
    layers.iter().map(|l| l.descriptor.clone()).collect()
}

/// An open place that keeps documents.
enum Shelf<'a> {
    Registry {
        name: &'a Reference,
        network: &'a Network,
        reader: Reader,
    },
    Layout {
        layout: Layout,
        pick: &'a Pick,
    },
}

impl CachePlace {
    /// Reads what lies there: one cache, or the caches of the images of an index.
    pub fn read(&self) -> Result<Vec<CachePart>, Error> {
        let shelf = match self {
            Self::Registry { name, network } => Shelf::Registry {
                name,
                network,
                reader: network.reader(name)?,
            },
            Self::Layout { dir, pick } => Shelf::Layout {
                layout: Layout::open(dir)?,
                pick,
            },
            Self::Service { service, network } => {
                let documents = network.wait(network.client().depot(service)?.documents())?;
                return Ok(documents.into_iter().map(CachePart::Config).collect());
            }
        };
        let index = match shelf.document(None)? {
            Document::Manifest(manifest) => return Ok(vec![shelf.part(manifest.value())?]),
            Document::Index(index) => index,
        };
        let entries = &index.value().manifests;
        let is_config = |entry: &&Descriptor| entry.media_type == media::CACHE_CONFIG;
        if let Some(config) = entries.iter().find(is_config) {
            return Ok(vec![CachePart::Cache {
                config: shelf.small_blob(config)?,
                layers: entries.clone(),
            }]);
        }
        let mut parts = Vec::new();
        for entry in entries.iter().take(MOST_IMAGES) {
            let platform = entry.platform.as_ref();
            let is_image = platform.is_none_or(|platform| platform.os != "unknown");
            if entry.kind() == Some(Kind::Manifest)
                && is_image
                && shelf.may_have(&entry.digest)?
                && let Document::Manifest(manifest) = shelf.document(Some(&entry.digest))?
            {
                parts.push(shelf.part(manifest.value())?);
            }
        }
        Ok(parts)
    }

    /// Brings the blobs of `layers` from there into the store, each verified by its digest.
    pub fn bring(&self, store: &Store, layers: &[LayerRef], sink: &dyn Sink) -> Result<(), Error> {
        let _work = store.work()?;
        match self {
            Self::Registry { name, network } => {
                let blobs = descriptors(layers);
                network.wait(network.reader(name)?.fetch_all(&blobs, store, sink))?;
                origin::remember(store, name, blobs.iter())
            }
            Self::Layout { dir, .. } => {
                let layout = Layout::open(dir)?;
                let take = |layer| Ok(layout.take(store, layer, sink)?);
                layers.iter().try_for_each(take)
            }
            Self::Service { service, network } => {
                let depot = network.client().depot(service)?;
                network.wait(depot.fetch_all(&descriptors(layers), store, sink))
            }
        }
    }

    /// Returns whether the blob is there already.
    pub fn has(&self, digest: &Digest) -> Result<bool, Error> {
        match self {
            Self::Registry { name, network } => {
                network.wait(network.reader(name)?.has_blob(digest))
            }
            Self::Layout { dir, .. } if !dir.exists() => Ok(false),
            Self::Layout { dir, .. } => Ok(Layout::open(dir)?.has(digest)?),
            Self::Service { service, network } => {
                network.wait(network.client().depot(service)?.has_blob(digest))
            }
        }
    }

    /// Writes a cache there. Its layers must be in the store in the form of their descriptors, but
    /// for those that are there already.
    pub fn write(
        &self,
        store: &Store,
        cache: &CacheDocument<'_>,
        sink: &dyn Sink,
    ) -> Result<(), Error> {
        let _work = store.work()?;
        let (document, config) = (cache.document, cache.config);
        match self {
            Self::Registry { name, network } => {
                store.put(config.bytes())?;
                let mut blobs = descriptors(cache.layers);
                blobs.push(config.descriptor(media::CACHE_CONFIG));
                let digests = blobs.iter().map(|blob| &blob.digest);
                let repository = network.writer(name, &origin::sources(store, name, digests)?)?;
                network.wait(repository.send_all(&blobs, store, sink))?;
                network.wait(repository.put_document(Version::of(name), document))?;
                origin::remember(store, name, blobs.iter())
            }
            Self::Layout { dir, pick } => {
                let tag = match pick {
                    Pick::Named(tag) => tag,
                    Pick::Only | Pick::Digest(_) => "latest",
                };
                let loose = Loose {
                    layers: cache.layers,
                    documents: &[config.bytes(), document.bytes()],
                    top: &document.descriptor(),
                    tag,
                };
                Ok(archive::write_loose(store, &loose, dir)?)
            }
            Self::Service { service, network } => {
                let blobs = descriptors(cache.layers);
                let depot = network.client().depot(service)?;
                network.wait(depot.give(&blobs, config.bytes(), store, sink))
            }
        }
    }
}

impl Shelf<'_> {
    /// Reads the document with this digest, or the one that the place means.
    fn document(&self, digest: Option<&Digest>) -> Result<Document, Error> {
        match self {
            Self::Registry {
                name,
                network,
                reader,
            } => {
                let version = digest.map_or(Version::of(name), Version::Digest);
                network.wait(reader.document(version))
            }
            Self::Layout { layout, pick } => {
                let pick = match (digest, pick) {
                    (Some(digest), _) | (None, Pick::Digest(digest)) => {
                        archive::Pick::Digest(digest)
                    }
                    (None, Pick::Named(name)) => archive::Pick::Named(name),
                    (None, Pick::Only) => archive::Pick::Only,
                };
                Ok(layout.document(pick)?)
            }
        }
    }

    /// A layout often holds some platforms of an index only.
    fn may_have(&self, digest: &Digest) -> Result<bool, Error> {
        match self {
            Self::Registry { .. } => Ok(true),
            Self::Layout { layout, .. } => Ok(layout.has(digest)?),
        }
    }

    fn small_blob(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        match self {
            Self::Registry {
                network, reader, ..
            } => network.wait(reader.small_blob("cache config", blob, MAX_CONFIG)),
            Self::Layout { layout, .. } => Ok(layout.small_blob(blob, MAX_CONFIG)?),
        }
    }

    fn part(&self, manifest: &Manifest) -> Result<CachePart, Error> {
        let config = self.small_blob(&manifest.config)?;
        let layers = manifest.layers.clone();
        if manifest.config.media_type == media::CACHE_CONFIG {
            return Ok(CachePart::Cache { config, layers });
        }
        let config = Raw::parse("config", config).map_err(|source| Error::Document {
            name: manifest.config.digest.to_string(),
            source,
        })?;
        Ok(CachePart::Image { config, layers })
    }
}
