//! OCI values: digests, names, descriptors, manifests, configs and platforms.
//!
//! These types prove something: a [`Digest`] is well formed, a [`Raw`] document keeps the bytes
//! that were hashed, a [`Document`] is a manifest or an index and never both. The room reads no
//! disk and no network; [`BlobSource`] and [`BlobSink`] are how others hand it bytes.

mod attestation;
mod blobs;
mod config;
mod descriptor;
mod digest;
mod manifest;
mod platform;
mod reference;
mod validate;

pub use attestation::{Attestation, MAX_STATEMENT, Shape, Statement, digest_set, subject};
pub use blobs::{BlobSink, BlobSource, BlobWrite, Mismatch};
pub use config::{Config, ContainerConfig, Empty, Healthcheck, History, INLINE_CACHE, RootFs};
pub use descriptor::{Compression, Descriptor, Kind, kind_of, media};
pub use digest::{Algorithm, ChainId, DiffId, Digest, DigestError, Hasher, Hashing, ImageId};
pub use manifest::{Document, DocumentError, Index, MAX_CONFIG, MAX_MANIFEST, Manifest, Raw};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use validate::{Flaw, validate};
