//! Manifests and indexes (OCI image-spec, manifest.md and image-index.md).
//!
//! A document is parsed once and keeps its bytes: [`Raw`] never re-serialises what was hashed.
//! A document that could be read both as a manifest and as an index is refused
//! (CVE-2021-41190).

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::descriptor::{Descriptor, Kind, kind_of, media};
use super::digest::{Digest, ImageId};

/// Greatest size of a manifest or index, in bytes (4 MiB, as registries hold it).
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Greatest size of a config, in bytes.
pub const MAX_CONFIG: u64 = 16 << 20;

/// Why bytes are no document of the expected kind.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or a field has the wrong type.
    #[error("{what} {digest} is not valid")]
    Json {
        /// What it should be.
        what: &'static str,
        /// Digest of the bytes.
        digest: Digest,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// It holds fields of both a manifest and an index.
    #[error("document {digest} is both a manifest and an index")]
    Ambiguous {
        /// Digest of the bytes.
        digest: Digest,
    },
    /// Its media type is not one that names an image.
    #[error("document {digest} has media type `{got}`, expected an image manifest or index")]
    MediaType {
        /// Digest of the bytes.
        digest: Digest,
        /// The type it came with.
        got: String,
    },
    /// It is larger than allowed.
    #[error("{what} {digest} has {size} bytes, at most {limit} are read")]
    TooLarge {
        /// What it should be.
        what: &'static str,
        /// Digest it was asked for by.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

/// A parsed document together with the bytes it was parsed from.
#[derive(Debug, Clone)]
pub struct Raw<T> {
    bytes: Vec<u8>,
    digest: Digest,
    value: T,
}

impl<T: DeserializeOwned> Raw<T> {
    /// Parses `bytes`. `what` names the document in errors.
    pub fn parse(what: &'static str, bytes: Vec<u8>) -> Result<Self, DocumentError> {
        let digest = Digest::of(&bytes);
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Self {
                bytes,
                digest,
                value,
            }),
            Err(source) => Err(DocumentError::Json {
                what,
                digest,
                source,
            }),
        }
    }
}

impl<T: Serialize> Raw<T> {
    /// Serialises `value`, compact, fields in declaration order, maps sorted.
    pub fn of(value: T) -> Self {
        let bytes = serde_json::to_vec(&value).expect("these types hold nothing JSON cannot");
        Self {
            digest: Digest::of(&bytes),
            bytes,
            value,
        }
    }
}

impl<T> Raw<T> {
    /// Returns the bytes as they were hashed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the digest of the bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the parsed value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Returns a descriptor of the document.
    pub fn descriptor(&self, media_type: &str) -> Descriptor {
        Descriptor::new(media_type, self.digest.clone(), self.bytes.len() as u64)
    }
}

impl Raw<Config> {
    /// Returns the id of the image that has this config.
    pub fn image_id(&self) -> ImageId {
        ImageId(self.digest.clone())
    }
}

/// An image manifest: one config and its layers, bottom first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// Media type of this document; very old ones leave it out.
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Free key-value pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields this program does not know, kept as they came.
    #[serde(flatten)]
    pub rest: BTreeMap<String, serde_json::Value>,
}

impl Manifest {
    /// Builds an OCI manifest.
    pub fn oci(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media::MANIFEST.to_owned()),
            config,
            layers,
            annotations: BTreeMap::new(),
            rest: BTreeMap::new(),
        }
    }

    /// Returns the media type, OCI's where the document says none.
    pub fn media_type(&self) -> &str {
        self.media_type.as_deref().unwrap_or(media::MANIFEST)
    }

    /// Returns whether it is an image: attestations and other artifacts have something else for
    /// a config or for layers.
    pub fn is_image(&self) -> bool {
        let is_layer = |layer: &Descriptor| matches!(layer.kind(), Some(Kind::Layer(_)));
        self.config.kind() == Some(Kind::Config) && self.layers.iter().all(is_layer)
    }
}

/// An index: manifests for several platforms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// Media type of this document.
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests, or further indexes.
    pub manifests: Vec<Descriptor>,
    /// Free key-value pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields this program does not know, kept as they came.
    #[serde(flatten)]
    pub rest: BTreeMap<String, serde_json::Value>,
}

impl Index {
    /// Builds an OCI index.
    pub fn oci(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media::INDEX.to_owned()),
            manifests,
            annotations: BTreeMap::new(),
            rest: BTreeMap::new(),
        }
    }

    /// Returns the media type, OCI's where the document says none.
    pub fn media_type(&self) -> &str {
        self.media_type.as_deref().unwrap_or(media::INDEX)
    }
}

/// A document that an image name leads to.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it moves rarely"
)]
pub enum Document {
    /// One image.
    Manifest(Raw<Manifest>),
    /// Images for several platforms.
    Index(Raw<Index>),
}

impl Document {
    /// Parses `bytes`, told apart by `media_type` (of a descriptor or a Content-Type header) and
    /// the document's own fields, which must agree. Without a media type the fields decide.
    pub fn parse(media_type: Option<&str>, bytes: Vec<u8>) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        struct Shape {
            #[serde(rename = "mediaType", default)]
            media_type: Option<String>,
            #[serde(default)]
            manifests: Option<serde::de::IgnoredAny>,
            #[serde(default)]
            layers: Option<serde::de::IgnoredAny>,
            #[serde(default)]
            config: Option<serde::de::IgnoredAny>,
        }
        let shape = Raw::<Shape>::parse("document", bytes)?;
        let Raw {
            bytes,
            digest,
            value: shape,
        } = shape;
        let has_manifest = shape.layers.is_some() || shape.config.is_some();
        if has_manifest && shape.manifests.is_some() {
            return Err(DocumentError::Ambiguous { digest });
        }
        let fields = if has_manifest {
            Kind::Manifest
        } else {
            Kind::Index
        };
        for said in [media_type, shape.media_type.as_deref()]
            .into_iter()
            .flatten()
        {
            match kind_of(said) {
                Some(kind @ (Kind::Manifest | Kind::Index)) if kind == fields => {}
                Some(Kind::Manifest | Kind::Index) => {
                    return Err(DocumentError::Ambiguous { digest });
                }
                // A registry may answer with a bare `application/json`; the fields decide then.
                _ if said.starts_with("application/json") || said.starts_with("text/plain") => {}
                _ => {
                    return Err(DocumentError::MediaType {
                        digest,
                        got: said.to_owned(),
                    });
                }
            }
        }
        match fields {
            Kind::Manifest => Raw::parse("manifest", bytes).map(Self::Manifest),
            _ => Raw::parse("index", bytes).map(Self::Index),
        }
    }

    /// Returns the digest of the bytes.
    pub fn digest(&self) -> &Digest {
        match self {
            Self::Manifest(raw) => raw.digest(),
            Self::Index(raw) => raw.digest(),
        }
    }

    /// Returns the bytes as they were hashed.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Manifest(raw) => raw.bytes(),
            Self::Index(raw) => raw.bytes(),
        }
    }

    /// Returns the media type.
    pub fn media_type(&self) -> &str {
        match self {
            Self::Manifest(raw) => raw.value().media_type(),
            Self::Index(raw) => raw.value().media_type(),
        }
    }

    /// Returns a descriptor of the document.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(
            self.media_type(),
            self.digest().clone(),
            self.bytes().len() as u64,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let blob = |media: &str| Descriptor::new(media, Digest::of(media.as_bytes()), 3);
        Manifest::oci(blob(media::CONFIG), vec![blob(media::LAYER_GZIP)])
    }

    #[test]
    fn unknown_fields_and_bytes_survive() {
        let text = r#"{ "schemaVersion":2, "x-new":[1], "manifests":[] }"#;
        let doc = Document::parse(Some(media::INDEX), text.into()).unwrap();
        assert_eq!(doc.bytes(), text.as_bytes());
        let Document::Index(index) = doc else {
            panic!("not an index")
        };
        assert_eq!(index.value().rest["x-new"], serde_json::json!([1]));
    }

    #[test]
    fn a_document_of_two_kinds_is_refused() {
        let mut value = serde_json::to_value(manifest()).unwrap();
        value["manifests"] = serde_json::json!([]);
        let both = serde_json::to_vec(&value).unwrap();
        assert!(matches!(
            Document::parse(Some(media::MANIFEST), both),
            Err(DocumentError::Ambiguous { .. })
        ));
        let plain = serde_json::to_vec(&manifest()).unwrap();
        assert!(matches!(
            Document::parse(Some(media::INDEX), plain),
            Err(DocumentError::Ambiguous { .. })
        ));
    }

    #[test]
    fn a_foreign_media_type_is_refused() {
        let bytes = serde_json::to_vec(&manifest()).unwrap();
        assert!(matches!(
            Document::parse(
                Some("application/vnd.docker.distribution.manifest.v1+json"),
                bytes
            ),
            Err(DocumentError::MediaType { .. })
        ));
    }
}
