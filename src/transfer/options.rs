//! What a caller can choose about moving images, as plain data.

use crate::image::{Compression, Platform};
use crate::registry;

use super::network::Network;

/// Choices for pulls, pushes and downloads. Clones share one [`Network`].
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How registries are reached.
    pub network: Network,
    /// Which image of an index; this machine's platform when unset.
    pub platform: Option<Platform>,
    /// Whether a pull unpacks layers as they come, rather than leaving that to the first use.
    pub unpack: bool,
    /// Whether a pull brings what is stated about the image too. A base image does without.
    pub attestations: bool,
}

impl From<registry::Options> for Options {
    /// Reaches registries as `options` say; everything else has its default.
    fn from(options: registry::Options) -> Self {
        Self {
            network: Network::new(options),
            ..Self::default()
        }
    }
}

impl Options {
    /// Returns the platform that is wanted.
    pub(super) fn platform(&self) -> Platform {
        self.platform.clone().unwrap_or_else(Platform::host)
    }
}

/// Choices for a push.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// How the registry is reached.
    pub transfer: Options,
    /// How layers that were never compressed are compressed; gzip when unset. Layers that were
    /// pulled keep their bytes.
    pub compression: Option<Compression>,
    /// Whether layers that are compressed in another way are compressed anew.
    pub force: bool,
    /// Level of the compression, the algorithm's own default when unset.
    pub level: Option<i32>,
    /// Whether the name's tag is left alone: what is sent is found by its digest only.
    pub by_digest: bool,
}

/// Choices for a copy from one place to another.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// As for the push that is half of it.
    pub push: PushOptions,
    /// How the registry that is copied from is reached; as the other one when unset.
    pub from: Option<Network>,
    /// Between registries: all platforms and the index over them, byte for byte, rather than the
    /// image of one platform.
    pub all: bool,
}
