//! Descriptors and media types (OCI image-spec, descriptor.md and media-types.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::platform::Platform;

/// Media types, OCI's and the Docker ones that mean the same.
pub mod media {
    /// OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image config.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Plain tar layer.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// Gzip layer.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// Zstandard layer.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker gzip layer.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// What a build cache knows of its layers, as BuildKit writes it.
    pub const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
    /// What a source image says of itself, as buildah writes it.
    pub const SOURCE_CONFIG: &str = "application/vnd.oci.source.image.config.v1+json";
    /// Annotation of an eStargz layer: the digest of its table of contents.
    pub const TABLE_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";
    /// Annotation of an eStargz layer: bytes of all that is unpacked of it.
    pub const UNPACKED_SIZE: &str = "io.containers.estargz.uncompressed-size";
    /// Annotation of a compressed layer, in records only: the digest of what is unpacked of it.
    pub const UNPACKED_DIGEST: &str = "containerd.io/uncompressed";
    /// Docker plain layer.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
}

/// What a media type says about a document or blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An image manifest.
    Manifest,
    /// An index of manifests.
    Index,
    /// An image config.
    Config,
    /// A layer, compressed in this way.
    Layer(Compression),
}

/// How a layer's bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// A plain tar.
    None,
    /// Gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// Gzip of which single files can be read (stargz-snapshotter's eStargz). No media type says
    /// so: those of such layers are gzip's, and annotations tell them apart.
    Estargz,
}

impl Compression {
    /// Returns the OCI layer media type for this compression.
    pub fn layer_media_type(self) -> &'static str {
        match self {
            Self::None => media::LAYER,
            Self::Gzip | Self::Estargz => media::LAYER_GZIP,
            Self::Zstd => media::LAYER_ZSTD,
        }
    }

    /// Returns whether docker has no words for layers of this kind, or nobody who reads them there.
    pub fn is_oci_only(self) -> bool {
        matches!(self, Self::Zstd | Self::Estargz)
    }
}

/// Tells what a media type means, parameters such as `; charset=utf-8` left out.
pub fn kind_of(media_type: &str) -> Option<Kind> {
    let bare = media_type.split(';').next().unwrap_or("").trim();
    Some(match bare {
        media::MANIFEST | media::DOCKER_MANIFEST => Kind::Manifest,
        media::INDEX | media::DOCKER_LIST => Kind::Index,
        media::CONFIG | media::DOCKER_CONFIG => Kind::Config,
        media::LAYER | media::DOCKER_LAYER => Kind::Layer(Compression::None),
        media::LAYER_GZIP | media::DOCKER_LAYER_GZIP => Kind::Layer(Compression::Gzip),
        media::LAYER_ZSTD => Kind::Layer(Compression::Zstd),
        "application/vnd.oci.image.layer.nondistributable.v1.tar" => Kind::Layer(Compression::None),
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => {
            Kind::Layer(Compression::Gzip)
        }
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => Kind::Layer(Compression::Zstd),
        _ => return None,
    })
}

/// Names a blob: what it is, its digest and its size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Media type of the content.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// Content address.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// In an index: what the manifest's image runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free key-value pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields this program does not know, kept as they came.
    #[serde(flatten)]
    pub rest: BTreeMap<String, serde_json::Value>,
}

impl Descriptor {
    /// Builds a bare descriptor.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            rest: BTreeMap::new(),
        }
    }

    /// Returns whether it names a layer in eStargz.
    pub fn is_estargz(&self) -> bool {
        self.annotations.contains_key(media::TABLE_DIGEST)
    }

    /// Tells what the descriptor points to.
    pub fn kind(&self) -> Option<Kind> {
        kind_of(&self.media_type)
    }
}
