//! Turns what a stage gave into a config and a manifest.
//!
//! The config is the base's with the stage's changes: its own history after the base's, its diff
//! ids after the base's, times from the epoch or now. Base layers keep the descriptors they came with;
//! new ones are plain tars until somebody pushes them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::image::{
    Config, ContainerConfig, Descriptor, DiffId, History, Manifest, Platform, Raw, media,
};
use crate::layer::Time;
use crate::store::{LayerRef, Store};

use super::cache::{INLINE, Made};
use super::error::Error;
use super::key::StepKey;

/// `comment` of the history entries a Dockerfile makes.
const COMMENT: &str = "buildkit.dockerfile.v0";
/// PATH of an image that has none (BuildKit's default for Unix).
pub(super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A layer of the image in the making.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layer {
    /// Digest of the plain tar.
    pub(super) diff_id: DiffId,
    /// How the manifest names it.
    pub(super) descriptor: Descriptor,
}

impl Layer {
    /// Returns a layer that exists as a plain tar or can be made one.
    pub(super) fn plain(made: &Made) -> Self {
        Self::of(made.diff_id.clone(), made.size)
    }

    /// Returns the layer whose plain tar of `size` bytes has this digest.
    fn of(diff_id: DiffId, size: u64) -> Self {
        let descriptor = Descriptor::new(media::LAYER, diff_id.0.clone(), size);
        Self {
            diff_id,
            descriptor,
        }
    }

    /// Returns it as the store knows layers.
    pub(super) fn to_ref(&self) -> LayerRef {
        LayerRef {
            diff_id: self.diff_id.clone(),
            descriptor: self.descriptor.clone(),
        }
    }
}

/// What a stage amounts to.
#[derive(Debug, Clone)]
pub(super) struct Built {
    /// The base's config document, if the stage goes back to an image: what it holds beyond the known
    /// fields is kept.
    pub(super) base: Option<Config>,
    /// All layers, bottom first.
    pub(super) layers: Vec<Layer>,
    /// How many of them are the base image's.
    pub(super) base_layers: usize,
    /// History after the base's.
    pub(super) history: Vec<History>,
    /// The steps that made the layers above the base's, one a layer.
    pub(super) known: Vec<(StepKey, Made)>,
    /// What was written on top of the layers and is none yet: the upper dir of a working container.
    pub(super) top: Option<Arc<OwnedFd>>,
}

impl Built {
    /// An image without layers.
    pub(super) fn scratch() -> Self {
        Self {
            base: None,
            layers: Vec::new(),
            base_layers: 0,
            history: Vec::new(),
            known: Vec::new(),
            top: None,
        }
    }

    /// Returns the layers above the base's.
    pub(super) fn own_layers(&self) -> impl Iterator<Item = LayerRef> + '_ {
        self.layers[self.base_layers..].iter().map(Layer::to_ref)
    }

    /// Returns it with no time in its own layers later than `latest`, in seconds since 1970. Caches
    /// hold the layers as the steps made them, so that they serve whatever the epoch is.
    pub(super) fn retimed(&self, store: &Store, latest: i64) -> Result<Self, Error> {
        let mut retimed = self.clone();
        for layer in &mut retimed.layers[self.base_layers..] {
            let (diff_id, size) = store.retimed(&layer.to_ref(), latest)?;
            if diff_id != layer.diff_id {
                *layer = Layer::of(diff_id, size);
            }
        }
        Ok(retimed)
    }

    /// Adds what a step made. `descriptor` is the form in which its layer came, if it came.
    pub(super) fn record_step(
        &mut self,
        created_by: &str,
        key: StepKey,
        made: Made,
        descriptor: Option<Descriptor>,
    ) {
        self.record(created_by, Some(&made));
        if let (Some(descriptor), Some(layer)) = (descriptor, self.layers.last_mut()) {
            layer.descriptor = descriptor;
        }
        self.known.push((key, made));
    }

    /// Adds what one instruction did. An instruction without a layer has no time of its own.
    pub(super) fn record(&mut self, created_by: &str, made: Option<&Made>) {
        self.history.push(History {
            created: made.map(|made| made.created.clone()),
            created_by: Some(created_by.to_owned()),
            comment: Some(COMMENT.to_owned()),
            empty_layer: made.is_none(),
            ..History::default()
        });
        self.layers.extend(made.map(Layer::plain));
    }
}

/// Writes a time as RFC 3339 in UTC, with nanoseconds where there are any.
pub(super) fn rfc3339(time: Time) -> String {
    DateTime::<Utc>::from_timestamp(time.secs, time.nanos)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Fills in the times of history entries that have none: the first new layer's, then that of the
/// layer before, as BuildKit does. An epoch is every new entry's time.
fn date(history: &mut [History], new: usize, epoch: Option<Time>) {
    if let Some(epoch) = epoch {
        for entry in &mut history[new..] {
            entry.created = Some(rfc3339(epoch));
        }
        return;
    }
    let first_new = history[new..]
        .iter()
        .find_map(|entry| entry.created.clone());
    let last_old = || {
        history[..new]
            .iter()
            .rev()
            .find_map(|entry| entry.created.clone())
    };
    let mut created = first_new.or_else(last_old);
    for entry in &mut history[new..] {
        match &entry.created {
            Some(own) => created = Some(own.clone()),
            None => entry.created.clone_from(&created),
        }
    }
}

/// Makes the config of the result. `inline` is the cache that it carries. It is dated like its last history entry, so that a build in which
/// nothing ran gives the image it gave before.
pub(super) fn config(
    built: &Built,
    container: &ContainerConfig,
    author: Option<&str>,
    platform: &Platform,
    labels: &[(String, String)],
    epoch: Option<Time>,
    inline: Option<serde_json::Value>,
) -> Raw<Config> {
    let mut config = built
        .base
        .clone()
        .unwrap_or_else(|| Config::empty(platform));
    config.architecture.clone_from(&platform.architecture);
    config.os.clone_from(&platform.os);
    config.variant.clone_from(&platform.variant);
    // A base's own cache speaks of the base's layers.
    config.rest.remove(INLINE);
    config
        .rest
        .extend(inline.map(|cache| (INLINE.to_owned(), cache)));
    config.author = author.map(str::to_owned);
    let new = config.history.len();
    config.history.extend(built.history.iter().cloned());
    date(&mut config.history, new, epoch);
    config.created = match epoch {
        Some(epoch) => Some(rfc3339(epoch)),
        None => config
            .history
            .last()
            .and_then(|entry| entry.created.clone())
            .or(config.created),
    };
    config.config = container.clone();
    for (key, value) in labels {
        config.config.labels.insert(key.clone(), value.clone());
    }
    config.rootfs.kind = "layers".to_owned();
    config.rootfs.diff_ids = built
        .layers
        .iter()
        .map(|layer| layer.diff_id.clone())
        .collect();
    Raw::of(config)
}

/// Makes the manifest of the result.
pub(super) fn manifest(
    built: &Built,
    config: &Raw<Config>,
    annotations: BTreeMap<String, String>,
) -> Raw<Manifest> {
    let layers = built
        .layers
        .iter()
        .map(|layer| layer.descriptor.clone())
        .collect();
    let mut manifest = Manifest::oci(config.descriptor(media::CONFIG), layers);
    manifest.annotations = annotations;
    Raw::of(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    fn made(text: &str) -> Made {
        Made {
            diff_id: DiffId(Digest::of(text.as_bytes())),
            size: 1024,
            created: "2020-01-02T03:04:05Z".to_owned(),
        }
    }

    #[test]
    fn history_and_layers_match_one_to_one() {
        let mut built = Built::scratch();
        built.record("ENV a=b", None);
        built.record("COPY a /a # buildkit", Some(&made("x")));
        let platform = "linux/amd64".parse().unwrap();
        let container = ContainerConfig::default();
        let config = config(
            &built,
            &container,
            None,
            &platform,
            &[],
            Some(Time::from_secs(1)),
            None,
        );
        let value = config.value();
        let with_layer = value
            .history
            .iter()
            .filter(|entry| !entry.empty_layer)
            .count();
        assert_eq!(with_layer, value.rootfs.diff_ids.len());
        assert_eq!(value.created.as_deref(), Some("1970-01-01T00:00:01Z"));
        assert_eq!(
            value.history[0].comment.as_deref(),
            Some("buildkit.dockerfile.v0")
        );
        let manifest = manifest(&built, &config, BTreeMap::new());
        assert_eq!(
            manifest.value().layers[0].digest,
            value.rootfs.diff_ids[0].0
        );
    }

    #[test]
    fn times_come_from_the_layers_so_that_a_cached_build_gives_the_same_image() {
        let mut built = Built::scratch();
        built.record("ENV a=b", None);
        built.record("RUN x", Some(&made("x")));
        built.record("CMD x", None);
        let platform = "linux/amd64".parse().unwrap();
        let config = config(
            &built,
            &ContainerConfig::default(),
            None,
            &platform,
            &[],
            None,
            None,
        );
        let times: Vec<_> = config
            .value()
            .history
            .iter()
            .map(|e| e.created.as_deref())
            .collect();
        assert_eq!(times, [Some("2020-01-02T03:04:05Z"); 3]);
        assert_eq!(
            config.value().created.as_deref(),
            Some("2020-01-02T03:04:05Z")
        );
    }

    #[test]
    fn equal_inputs_give_equal_bytes() {
        let mut built = Built::scratch();
        built.record("RUN x", Some(&made("x")));
        let platform = "linux/amd64".parse().unwrap();
        let labels = [
            ("b".to_owned(), "1".to_owned()),
            ("a".to_owned(), "2".to_owned()),
        ];
        let once = |labels: &[(String, String)]| {
            let container = ContainerConfig::default();
            config(&built, &container, None, &platform, labels, None, None)
                .bytes()
                .to_vec()
        };
        let mut turned = labels.clone();
        turned.reverse();
        assert_eq!(once(&labels), once(&turned));
    }

    #[test]
    fn a_base_keeps_what_this_program_does_not_know() {
        let text = r#"{"architecture":"amd64","os":"linux","x-old":1,"rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"base"}]}"#;
        let mut built = Built::scratch();
        built.base = Some(serde_json::from_str(text).unwrap());
        built.record("ENV a=b", None);
        let platform = "linux/amd64".parse().unwrap();
        let raw = config(
            &built,
            &ContainerConfig::default(),
            None,
            &platform,
            &[],
            None,
            None,
        );
        assert_eq!(raw.value().rest["x-old"], serde_json::json!(1));
        assert_eq!(raw.value().history[0].created_by.as_deref(), Some("base"));
        assert_eq!(raw.value().history.len(), 2);
    }
}
