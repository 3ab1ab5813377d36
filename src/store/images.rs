//! Images: manifests, configs and indexes as blobs, with a record of each image by its id.
//!
//! An image's id is the digest of its config; the record `image/<id>` lists the manifests that
//! have it, newest first (a built image and the form in which it was pushed are two). Documents
//! are hashed whenever they are read. A layer need not be in the store: it is fetched when
//! something wants to read it.

use std::collections::HashMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Store;
use super::error::Error;
use super::locks::Act;
use super::records;
use crate::image::{
    Compression, Config, Descriptor, DiffId, Digest, Document, Flaw, ImageId, Index, Kind,
    MAX_CONFIG, MAX_MANIFEST, Manifest, Platform, Raw, Reference, media,
};

/// Kind of the records of images.
pub(super) const KIND: &str = "image";

/// How deep indexes may lie in indexes.
const MAX_NESTING: u32 = 4;

/// One image for one platform.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its manifest.
    pub manifest: Raw<Manifest>,
    /// Its config.
    pub config: Raw<Config>,
}

/// A layer of an image: what it is and where its bytes are from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRef {
    /// Digest of the plain tar.
    pub diff_id: DiffId,
    /// The blob in the manifest, plain or compressed.
    pub descriptor: Descriptor,
}

impl Image {
    /// Returns its id: the digest of its config.
    pub fn id(&self) -> ImageId {
        self.config.image_id()
    }

    /// Returns a descriptor of its manifest.
    pub fn descriptor(&self) -> Descriptor {
        self.manifest.descriptor(self.manifest.value().media_type())
    }

    /// Returns its layers, bottom first.
    pub fn layers(&self) -> Vec<LayerRef> {
        let diff_ids = self.config.value().rootfs.diff_ids.iter();
        diff_ids
            .zip(&self.manifest.value().layers)
            .map(|(diff_id, descriptor)| LayerRef {
                diff_id: diff_id.clone(),
                descriptor: descriptor.clone(),
            })
            .collect()
    }

    /// Checks that manifest and config belong together, and holds them. Nothing is stored:
    /// [`Store::put_image`] does that, and this is for an image that is only written somewhere.
    pub fn new(manifest: Raw<Manifest>, config: Raw<Config>) -> Result<Self, Error> {
        let value = manifest.value();
        if value.config.digest != *config.digest() {
            return Err(Error::ConfigDigest {
                want: value.config.digest.clone(),
                got: config.digest().clone(),
            });
        }
        let layer_of_none = |layer: &&Descriptor| !matches!(layer.kind(), Some(Kind::Layer(_)));
        if let Some(layer) = value.layers.iter().find(layer_of_none) {
            return Err(Error::Flaw(Flaw::MediaType {
                what: "a layer",
                media_type: layer.media_type.clone(),
            }));
        }
        let diff_ids = config.value().rootfs.diff_ids.len();
        if value.layers.len() != diff_ids {
            return Err(Error::Flaw(Flaw::LayerCount {
                layers: value.layers.len(),
                diff_ids,
            }));
        }
        Ok(Self { manifest, config })
    }
}

/// What is recorded of an image.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    /// Manifests with this config, newest first.
    manifests: Vec<Descriptor>,
}

/// An image as a listing shows it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its id.
    pub id: ImageId,
    /// Its newest manifest.
    pub manifest: Descriptor,
    /// What it runs on.
    pub platform: Platform,
    /// When it was made, as RFC 3339.
    pub created: Option<String>,
    /// Bytes of its layers' plain tars; of the blobs, for layers that nobody has opened yet.
    pub size: u64,
    /// Its names with a tag. None: it dangles.
    pub names: Vec<Reference>,
    /// Its names with a digest: what repositories call it.
    pub digests: Vec<Reference>,
}

impl Store {
    /// Stores an image. Its layers may be missing or lie in any form.
    pub fn put_image(
        &self,
        manifest: &Raw<Manifest>,
        config: &Raw<Config>,
    ) -> Result<Image, Error> {
        let image = Image::new(manifest.clone(), config.clone())?;
        let _work = self.work()?;
        self.put(config.bytes())?;
        self.put(manifest.bytes())?;
        for layer in image.layers() {
            self.note_origin(&layer)?;
        }
        let id = image.id();
        let _lock = self.lock(Act::Image, id.digest())?;
        let mut record = self.image_record(&id)?;
        let descriptor = image.descriptor();
        if record.manifests.first() != Some(&descriptor) {
            record
                .manifests
                .retain(|old| old.digest != descriptor.digest);
            record.manifests.insert(0, descriptor);
            let value = serde_json::to_vec(&record).expect("descriptors are JSON");
            self.records(KIND).put(id.digest(), &value)?;
        }
        Ok(image)
    }

    fn image_record(&self, id: &ImageId) -> Result<Record, Error> {
        let value = self.records(KIND).get(id.digest())?;
        // A record that does not parse is as good as none.
        Ok(value
            .and_then(|value| serde_json::from_slice(&value).ok())
            .unwrap_or_default())
    }

    /// Returns the manifests that have this config, newest first.
    pub(super) fn manifests_of(&self, id: &ImageId) -> Result<Vec<Descriptor>, Error> {
        Ok(self.image_record(id)?.manifests)
    }

    /// Returns every recorded image with its manifests, newest first.
    pub(super) fn recorded_images(&self) -> Result<Vec<(ImageId, Vec<Descriptor>)>, Error> {
        let mut all = Vec::new();
        for (_, record) in records::walk(self, KIND)? {
            let Some(record) = record? else { continue };
            // A torn or foreign record is as good as none; its blobs can be put again.
            if let Ok(id) = record.key.parse::<Digest>()
                && let Ok(Record { manifests }) = serde_json::from_slice(&record.value)
            {
                all.push((ImageId(id), manifests));
            }
        }
        Ok(all)
    }

    /// Reads the manifest or index `digest`.
    pub fn document(&self, digest: &Digest) -> Result<Document, Error> {
        let bytes = self.read_blob("document", digest, MAX_MANIFEST)?;
        Ok(Document::parse(None, bytes)?)
    }

    /// Returns the image of the manifest `digest`, or the one of the index `digest` that suits
    /// `platform` best among those in the store. The platform of a lone manifest is not looked at.
    pub fn image(&self, digest: &Digest, platform: &Platform) -> Result<Image, Error> {
        self.image_below(digest, platform, MAX_NESTING)
    }

    /// Returns the image that `digest` means for `platform`. Where nobody says for which, it is this
    /// machine's, or the only one that is here, as when another platform's was pulled.
    pub fn image_meant(
        &self,
        digest: &Digest,
        platform: Option<&Platform>,
    ) -> Result<Image, Error> {
        if let Some(platform) = platform {
            return self.image(digest, platform);
        }
        let missing = match self.image(digest, &Platform::host()) {
            Err(error @ (Error::NoBlob { .. } | Error::NoPlatform { .. })) => error,
            found => return found,
        };
        let here = self.manifests_below(digest)?.into_iter();
        // What is no image, or a statement about one that looks like it, is for no platform.
        let images = here.filter_map(|manifest| self.image_of(manifest).ok());
        let mut images = images.filter(|image| image.config.value().platform().os != "unknown");
        match (images.next(), images.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(missing),
        }
    }

    fn image_below(
        &self,
        digest: &Digest,
        platform: &Platform,
        depth: u32,
    ) -> Result<Image, Error> {
        let index = match self.document(digest)? {
            Document::Manifest(manifest) => return self.image_of(manifest),
            Document::Index(index) => index,
        };
        let (fit, offered) = self.choose(index.value(), platform)?;
        let no_platform = || Error::NoPlatform {
            digest: digest.clone(),
            want: Box::new(platform.clone()),
            offered,
        };
        let Some((best, _)) = fit.first() else {
            return Err(no_platform());
        };
        if depth == 0 {
            return Err(no_platform());
        }
        let there = fit.iter().find(|(_, there)| *there);
        let chosen = there.map_or(best, |(chosen, _)| chosen);
        self.image_below(&chosen.digest, platform, depth - 1)
    }

    /// Returns the manifests of an index that suit `platform`, best first, each with whether it is
    /// in the store, and all platforms that the index offers.
    #[expect(clippy::type_complexity, reason = "two lists, used in one place")]
    fn choose(
        &self,
        index: &Index,
        platform: &Platform,
    ) -> Result<(Vec<(Descriptor, bool)>, Vec<Platform>), Error> {
        let platform = platform.normalised();
        let mut fit = Vec::new();
        let mut offered = Vec::new();
        for child in &index.manifests {
            let there = self.blob(&child.digest)?.is_some();
            let runs_on = match (&child.platform, there) {
                (Some(platform), _) => platform.clone(),
                (None, true) => match self.document(&child.digest)? {
                    Document::Manifest(manifest) => {
                        self.image_of(manifest)?.config.value().platform()
                    }
                    // An index in an index answers for itself.
                    Document::Index(_) => platform.clone(),
                },
                (None, false) => continue,
            };
            if platform.accepts(&runs_on) {
                fit.push((platform.rank(&runs_on), child.clone(), there));
            }
            if runs_on.os != "unknown" {
                offered.push(runs_on);
            }
        }
        // Stable: the first named wins among equals.
        fit.sort_by_key(|(rank, _, _)| std::cmp::Reverse(*rank));
        let fit = fit.into_iter().map(|(_, child, there)| (child, there));
        Ok((fit.collect(), offered))
    }

    fn image_of(&self, manifest: Raw<Manifest>) -> Result<Image, Error> {
        let digest = &manifest.value().config.digest;
        let bytes = self.read_blob("config", digest, MAX_CONFIG)?;
        let config = Raw::parse("config", bytes)?;
        Image::new(manifest, config)
    }

    /// Returns the image of a manifest, unless a document of it is missing or damaged.
    pub(super) fn whole_image(&self, manifest: &Digest) -> Result<Option<Image>, Error> {
        match self.image(manifest, &Platform::host()) {
            Ok(image) => Ok(Some(image)),
            Err(
                Error::NoBlob { .. }
                | Error::Corrupt(_)
                | Error::Document(_)
                | Error::Flaw(_)
                | Error::ConfigDigest { .. },
            ) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns a layer that the image lacks and only a build can make.
    pub(super) fn lost_layer(&self, image: &Image) -> Result<Option<DiffId>, Error> {
        let missing = self.missing_layers(&image.layers())?;
        let mut local = missing
            .into_iter()
            .filter(|layer| layer.descriptor.digest == layer.diff_id.0);
        Ok(local.next().map(|layer| layer.diff_id))
    }

    /// Whether all images that a manifest or index leads to can be had: their documents are whole,
    /// and so are the layers that only a build can make.
    pub(super) fn is_served(&self, digest: &Digest) -> Result<bool, Error> {
        if self.blob(digest)?.is_none() {
            return Ok(false);
        }
        for manifest in self.manifests_below(digest)? {
            if !manifest.value().is_image() {
                continue;
            }
            let lost = match self.whole_image(manifest.digest())? {
                Some(image) => self.lost_layer(&image)?.is_some(),
                None => true,
            };
            if lost {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the manifests that a manifest or index in the store leads to, itself or below it,
    /// as far as they are in the store.
    pub(super) fn manifests_below(&self, digest: &Digest) -> Result<Vec<Raw<Manifest>>, Error> {
        let mut found = Vec::new();
        let mut todo = vec![(digest.clone(), MAX_NESTING)];
        while let Some((digest, depth)) = todo.pop() {
            let document = match self.document(&digest) {
                Ok(document) => document,
                // The other platforms of an index are rarely there; what is damaged or no image
                // (an attestation's layers are read by nobody here) leads nowhere.
                Err(Error::NoBlob { .. } | Error::Document(_) | Error::Corrupt(_)) => continue,
                Err(e) => return Err(e),
            };
            match document {
                Document::Manifest(manifest) => found.push(manifest),
                Document::Index(index) if depth > 0 => {
                    let below = index.value().manifests.iter().rev();
                    todo.extend(below.map(|child| (child.digest.clone(), depth - 1)));
                }
                Document::Index(_) => {}
            }
        }
        Ok(found)
    }

    /// Lists all images, named and dangling, the newest first.
    pub fn images(&self) -> Result<Vec<Listed>, Error> {
        let catalog = self.catalog()?;
        let mut named: HashMap<&ImageId, Vec<&Reference>> = HashMap::new();
        for name in &catalog.names {
            for id in &name.images {
                named.entry(id).or_default().push(&name.name);
            }
        }
        let mut all = Vec::new();
        for (id, manifests) in &catalog.images {
            let Some(manifest) = manifests.first() else {
                continue;
            };
            let image = match self.image(&manifest.digest, &Platform::host()) {
                Ok(image) => image,
                // Damaged or being removed: a listing shows the others all the same.
                Err(Error::NoBlob { .. } | Error::Document(_) | Error::Corrupt(_)) => continue,
                Err(e) => return Err(e),
            };
            let (digests, names) = named
                .remove(id)
                .unwrap_or_default()
                .into_iter()
                .cloned()
                .partition(|name| name.digest().is_some());
            all.push(Listed {
                id: id.clone(),
                manifest: manifest.clone(),
                platform: image.config.value().platform(),
                created: image.config.value().created.clone(),
                size: self.size_of(&image)?,
                names,
                digests,
            });
        }
        all.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(all)
    }

    /// Returns when an image says it was made, if it can be read and says so.
    pub(super) fn created(&self, id: &ImageId) -> Result<Option<SystemTime>, Error> {
        let bytes = match self.read_blob("config", id.digest(), MAX_CONFIG) {
            Ok(bytes) => bytes,
            Err(Error::NoBlob { .. } | Error::Corrupt(_) | Error::Document(_)) => return Ok(None),
            Err(e) => return Err(e),
        };
        let config = Raw::<Config>::parse("config", bytes).ok();
        let text = config.and_then(|config| config.value().created.clone());
        let time = text.and_then(|text| chrono::DateTime::parse_from_rfc3339(&text).ok());
        Ok(time.map(SystemTime::from))
    }

    /// Returns the bytes of an image's layers: of the plain tars where they are known.
    pub fn size_of(&self, image: &Image) -> Result<u64, Error> {
        let mut size = 0;
        for layer in image.layers() {
            let plain = self.plain_size(&layer.diff_id)?;
            size += plain.unwrap_or(layer.descriptor.size);
        }
        Ok(size)
    }

    /// Returns all names and images, and which belong together.
    pub(super) fn catalog(&self) -> Result<Catalog, Error> {
        let images = self.recorded_images()?;
        let by_manifest: HashMap<&Digest, &ImageId> = images
            .iter()
            .flat_map(|(id, manifests)| manifests.iter().map(move |m| (&m.digest, id)))
            .collect();
        let mut names = Vec::new();
        for (name, target) in self.references()? {
            let images = match by_manifest.get(&target.digest) {
                Some(id) => vec![(*id).clone()],
                None => {
                    let below = self.manifests_below(&target.digest)?;
                    below
                        .iter()
                        .filter(|manifest| manifest.value().is_image())
                        .map(|manifest| ImageId(manifest.value().config.digest.clone()))
                        .collect()
                }
            };
            names.push(Name {
                name,
                target,
                images,
            });
        }
        Ok(Catalog { names, images })
    }
}

/// All names and images of a store.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// The names.
    pub(super) names: Vec<Name>,
    /// The images with their manifests, newest first.
    pub(super) images: Vec<(ImageId, Vec<Descriptor>)>,
}

/// A name with what it leads to.
#[derive(Debug, Clone)]
pub(super) struct Name {
    /// The name.
    pub(super) name: Reference,
    /// The manifest or index.
    pub(super) target: Descriptor,
    /// The images: one, or those of the index that are in the store.
    pub(super) images: Vec<ImageId>,
}

/// Returns an image like `image` with other layers in its manifest, in docker's words where it has
/// those and they have one for every layer.
pub(super) fn repacked(image: &Image, mut layers: Vec<Descriptor>) -> Result<Image, Error> {
    let old = image.manifest.value();
    let word = |layer: &Descriptor| match layer.kind() {
        Some(Kind::Layer(Compression::None)) => Some(media::DOCKER_LAYER),
        Some(Kind::Layer(Compression::Gzip)) => Some(media::DOCKER_LAYER_GZIP),
        _ => None,
    };
    let words: Option<Vec<&str>> = layers.iter().map(word).collect();
    let Some(words) = words.filter(|_| old.media_type() == media::DOCKER_MANIFEST) else {
        return with_layers(image, layers);
    };
    for (layer, word) in layers.iter_mut().zip(words) {
        word.clone_into(&mut layer.media_type);
    }
    let manifest = Manifest {
        layers,
        ..old.clone()
    };
    Image::new(Raw::of(manifest), image.config.clone())
}

/// Returns an image like `image` with other layers in its manifest, in OCI's words.
pub(super) fn with_layers(image: &Image, layers: Vec<Descriptor>) -> Result<Image, Error> {
    let old = image.manifest.value();
    let mut manifest = Manifest::oci(image.config.descriptor(media::CONFIG), layers);
    manifest.annotations = old.annotations.clone();
    Image::new(Raw::of(manifest), image.config.clone())
}
