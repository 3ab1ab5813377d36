//! Which services there are, and in what they differ: keys, limits, proofs.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;

use crate::image::Digest;

use super::super::options::Options;
use super::super::wire::Ask;
use super::{Actions, Azure, S3, actions, azure, s3};

/// Where things are in a bucket or container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub(super) manifests: String,
    pub(super) blobs: String,
    pub(super) names: Vec<String>,
}

impl Layout {
    /// Puts `prefix` before both other prefixes, as it is. The cache is written under all `names`.
    pub fn joined(prefix: &str, manifests: &str, blobs: &str, names: Vec<String>) -> Self {
        Self {
            manifests: format!("{prefix}{manifests}"),
            blobs: format!("{prefix}{blobs}"),
            names,
        }
    }
}

/// One service, and what it takes to be let in.
#[derive(Debug, Clone, PartialEq)]
pub enum Service {
    /// Amazon S3 and its like.
    S3(S3),
    /// Azure Blob Storage.
    Azure(Azure),
    /// The cache of GitHub Actions.
    Actions(Actions),
}

impl Service {
    /// Returns the service and its cache as shown to people.
    pub fn shown(&self) -> String {
        let (place, names) = match self {
            Self::S3(s3) => (format!("s3://{}", s3.bucket), self.names()),
            Self::Azure(azure) => {
                let place = format!("azblob://{}/{}", azure.account, azure.container);
                (place, self.names())
            }
            Self::Actions(actions) => return format!("gha://{}", actions.scope),
        };
        format!("{place}/{names}")
    }

    /// The names of the cache, as shown.
    pub(super) fn names(&self) -> String {
        match self {
            Self::S3(S3 { layout, .. }) | Self::Azure(Azure { layout, .. }) => {
                let key = |name: &String| format!("{}{name}", layout.manifests);
                let keys: Vec<_> = layout.names.iter().map(key).collect();
                keys.join(", ")
            }
            Self::Actions(actions) => actions.scope.clone(),
        }
    }

    pub(super) fn base(&self) -> Option<Url> {
        match self {
            Self::S3(s3) => s3.base(),
            Self::Azure(azure) => azure.base(),
            Self::Actions(actions) => actions.base(),
        }
    }

    pub(super) fn options(&self, shared: &Options) -> Options {
        let mut options = shared.clone();
        if let Self::S3(s3) = self {
            options.parallel = s3.parallel;
            options.attempts = s3.attempts.unwrap_or(options.attempts);
        }
        options
    }

    pub(super) fn blob_key(&self, digest: &Digest) -> String {
        match self {
            Self::S3(S3 { layout, .. }) | Self::Azure(Azure { layout, .. }) => {
                format!("{}{digest}", layout.blobs)
            }
            Self::Actions(_) => actions::blob_key(digest),
        }
    }

    /// The largest blob that one request takes.
    pub(super) fn most(&self) -> u64 {
        match self {
            Self::S3(_) => s3::MOST,
            Self::Azure(_) | Self::Actions(_) => azure::MOST,
        }
    }

    /// How long giving may take in all.
    pub(super) fn limit(&self) -> Option<Duration> {
        match self {
            Self::Actions(actions) => Some(actions.timeout),
            Self::S3(_) | Self::Azure(_) => None,
        }
    }

    /// Adds what proves who is asking for something with this body.
    pub(super) fn sign(&self, ask: &mut Ask, body: &Digest) -> Option<HeaderValue> {
        match self {
            Self::S3(s3) => Some(s3.sign(ask, body)),
            Self::Azure(azure) => azure.sign(ask),
            // The service's answers hold URLs that are signed.
            Self::Actions(_) => None,
        }
    }
}
