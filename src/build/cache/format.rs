//! What a cache says, in BuildKit's layout (its `cache/remotecache/v1`), with records of our own.
//!
//! ```text
//! {"layers":  [{"blob":"sha256:…","parent":-1,"annotations":{…}}, …],
//!  "records": [{"digest":KEY,"layers":[{"layer":0,"createdAt":…}],"cooper":{"v":1,"diffID":…,"size":…,"createdAt":…}},
//!              {"digest":QUESTION,"cooper":{"v":1,"content":"sha256:…"}}]}
//! ```
//!
//! A record is either what a step with this key made, with the layer where the cache holds it, or
//! what a selection of files in layers hashes to. In an image's config only the records stand, in
//! base64, and `layer` counts the image's own. Records without `cooper`, or of another version, are
//! another builder's and passed over: its keys mean nothing here. All of this is digests and sizes;
//! no value of an argument, variable or secret gets in.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(in crate::build) use crate::image::INLINE_CACHE as INLINE;
use crate::image::{Descriptor, DiffId, Digest};
use crate::store::LayerRef;

use super::super::key::StepKey;
use super::Made;

/// Version of our part of a record.
const VERSION: u32 = 1;

/// What is known of steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::build) struct Contents {
    /// What steps made.
    pub(in crate::build) steps: Vec<(StepKey, Made)>,
    /// What selections of files hash to.
    pub(in crate::build) answers: BTreeMap<Digest, Digest>,
}

#[derive(Serialize, Deserialize)]
struct Config<R> {
    #[serde(default)]
    layers: Vec<Layer>,
    #[serde(default)]
    records: Vec<R>,
}

#[derive(Serialize, Deserialize)]
struct Layer {
    blob: Digest,
    #[serde(default)]
    parent: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<Value>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    digest: Digest,
    #[serde(default, rename = "layers", skip_serializing_if = "Vec::is_empty")]
    results: Vec<ResultOf>,
    cooper: Ours,
}

#[derive(Serialize, Deserialize)]
struct ResultOf {
    layer: usize,
    #[serde(rename = "createdAt")]
    created: String,
}

#[derive(Serialize, Deserialize)]
struct Ours {
    v: u32,
    #[serde(flatten)]
    fact: Fact,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Fact {
    Made {
        #[serde(rename = "diffID")]
        diff_id: DiffId,
        size: u64,
        #[serde(rename = "createdAt")]
        created: String,
    },
    Answer {
        content: Digest,
    },
}

impl Contents {
    /// Writes the records; `place` says which layer holds what a step made, if any does.
    fn records(&self, place: impl Fn(&DiffId) -> Option<usize>) -> Vec<Record> {
        let step = |(key, made): &(StepKey, Made)| Record {
            digest: key.0.clone(),
            results: place(&made.diff_id)
                .map(|layer| ResultOf {
                    layer,
                    created: made.created.clone(),
                })
                .into_iter()
                .collect(),
            cooper: Ours {
                v: VERSION,
                fact: Fact::Made {
                    diff_id: made.diff_id.clone(),
                    size: made.size,
                    created: made.created.clone(),
                },
            },
        };
        let answer = |(question, content): (&Digest, &Digest)| Record {
            digest: question.clone(),
            results: Vec::new(),
            cooper: Ours {
                v: VERSION,
                fact: Fact::Answer {
                    content: content.clone(),
                },
            },
        };
        let steps = self.steps.iter().map(step);
        steps.chain(self.answers.iter().map(answer)).collect()
    }

    /// Writes the config of a cache with these layers, each with the place of the layer below it.
    pub(super) fn config(&self, layers: &[(LayerRef, Option<usize>)]) -> Value {
        let place = |diff_id: &DiffId| layers.iter().position(|(l, _)| l.diff_id == *diff_id);
        let layer = |(layer, below): &(LayerRef, Option<usize>)| Layer {
            blob: layer.descriptor.digest.clone(),
            parent: below.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1),
            annotations: Some(serde_json::json!({
                "mediaType": layer.descriptor.media_type,
                "diffID": layer.diff_id,
                "size": layer.descriptor.size,
            })),
        };
        let config = Config {
            layers: layers.iter().map(layer).collect(),
            records: self.records(place),
        };
        serde_json::to_value(config).expect("digests and numbers are JSON")
    }

    /// Writes the form for the config of an image with these layers. Nothing, where the image holds
    /// no layer that a step made.
    pub(in crate::build) fn inline(&self, diff_ids: &[DiffId]) -> Option<Value> {
        let records = self.records(|diff_id| diff_ids.iter().position(|other| other == diff_id));
        if records.iter().all(|record| record.results.is_empty()) {
            return None;
        }
        let text = serde_json::to_vec(&records).expect("digests and numbers are JSON");
        Some(Value::String(STANDARD.encode(text)))
    }
}

/// What a cache offers.
#[derive(Debug, Default)]
pub(super) struct Offered {
    /// What is known.
    pub(super) contents: Contents,
    /// The layers that can be had.
    pub(super) layers: Vec<LayerRef>,
}

/// Reads the config of a cache, of whose manifest `blobs` are the layers. `None` is no config.
pub(super) fn read(config: &[u8], blobs: &[Descriptor]) -> Option<Offered> {
    let config: Config<Value> = serde_json::from_slice(config).ok()?;
    let blob = |at: usize| {
        let wanted = &config.layers.get(at)?.blob;
        blobs.iter().find(|blob| blob.digest == *wanted).cloned()
    };
    Some(collect(config.records, blob))
}

/// Reads the config of a cache that stands alone: it describes its layers itself. `None` is no
/// config.
pub(super) fn read_alone(config: &[u8]) -> Option<Offered> {
    #[derive(Deserialize)]
    struct Described {
        #[serde(rename = "mediaType")]
        media_type: String,
        size: u64,
    }
    let parsed: Config<Value> = serde_json::from_slice(config).ok()?;
    let describe = |layer: Layer| {
        let Described { media_type, size } = serde_json::from_value(layer.annotations?).ok()?;
        Some(Descriptor::new(&media_type, layer.blob, size))
    };
    let blobs: Vec<_> = parsed.layers.into_iter().filter_map(describe).collect();
    read(config, &blobs)
}

/// Reads what the config of an image with the layers `blobs` carries. `None` is nothing readable.
pub(super) fn read_inline(carried: &Value, blobs: &[Descriptor]) -> Option<Offered> {
    let text = STANDARD.decode(carried.as_str()?).ok()?;
    let records: Vec<Value> = serde_json::from_slice(&text).ok()?;
    Some(collect(records, |at| blobs.get(at).cloned()))
}

fn collect(records: Vec<Value>, blob: impl Fn(usize) -> Option<Descriptor>) -> Offered {
    let mut offered = Offered::default();
    for record in records {
        // Another builder's, or of a version to come.
        let Ok(record) = serde_json::from_value::<Record>(record) else {
            continue;
        };
        if record.cooper.v != VERSION {
            continue;
        }
        match record.cooper.fact {
            Fact::Answer { content } => {
                offered.contents.answers.insert(record.digest, content);
            }
            Fact::Made {
                diff_id,
                size,
                created,
            } => {
                if chrono::DateTime::parse_from_rfc3339(&created).is_err() {
                    continue;
                }
                let blob = record.results.first().and_then(|result| blob(result.layer));
                if let Some(blob) = blob.and_then(bare) {
                    let diff_id = diff_id.clone();
                    offered.layers.push(LayerRef {
                        diff_id,
                        descriptor: blob,
                    });
                }
                let made = Made {
                    diff_id,
                    size,
                    created,
                };
                offered.contents.steps.push((StepKey(record.digest), made));
            }
        }
    }
    offered
}

/// The descriptor without what could lead elsewhere; `None` when it names no layer.
fn bare(blob: Descriptor) -> Option<Descriptor> {
    matches!(blob.kind(), Some(crate::image::Kind::Layer(_)))
        .then(|| Descriptor::new(&blob.media_type, blob.digest, blob.size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::media;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn step(name: &str) -> (StepKey, Made) {
        let made = Made {
            diff_id: DiffId(digest(&format!("{name} plain"))),
            size: 1024,
            created: "2020-01-02T03:04:05Z".to_owned(),
        };
        (StepKey(digest(name)), made)
    }

    fn layer(name: &str) -> LayerRef {
        LayerRef {
            diff_id: step(name).1.diff_id,
            descriptor: Descriptor::new(media::LAYER_GZIP, digest(&format!("{name} packed")), 9),
        }
    }

    fn contents() -> Contents {
        Contents {
            steps: vec![step("one"), step("two")],
            answers: BTreeMap::from([(digest("question"), digest("content"))]),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let config = contents().config(&[(layer("two"), None)]);
        let blobs = [layer("other").descriptor, layer("two").descriptor];
        let offered = read(config.to_string().as_bytes(), &blobs).unwrap();
        assert_eq!(offered.contents, contents());
        assert_eq!(offered.layers, [layer("two")]);
        let alone = read_alone(config.to_string().as_bytes()).unwrap();
        assert_eq!(alone.contents, contents());
        assert_eq!(alone.layers, [layer("two")]);
        let carried = contents().inline(&[layer("zero").diff_id, layer("one").diff_id]);
        let blobs = [layer("zero").descriptor, layer("one").descriptor];
        let offered = read_inline(&carried.unwrap(), &blobs).unwrap();
        assert_eq!(offered.contents, contents());
        assert_eq!(offered.layers, [layer("one")]);
        assert_eq!(contents().inline(&[layer("zero").diff_id]), None);
    }

    #[test]
    fn records_of_others_are_passed_over() {
        let ours = contents().config(&[(layer("one"), None)]);
        let mut mixed = ours.clone();
        let records = mixed["records"].as_array_mut().unwrap();
        records[1]["cooper"]["v"] = 2.into();
        let foreign = r#"{"digest":"sha256:1","inputs":[[{"link":0}]],"layers":[{"layer":-1}]}"#;
        records.insert(0, serde_json::from_str(foreign).unwrap());
        let blobs = [layer("one").descriptor];
        let offered = read(mixed.to_string().as_bytes(), &blobs).unwrap();
        assert_eq!(offered.contents.steps, [step("one")]);
        assert_eq!(offered.contents.answers.len(), 1);
    }

    #[test]
    fn t_mnt_7_a_layer_that_the_manifest_does_not_name_is_not_offered() {
        let config = contents().config(&[(layer("one"), None)]).to_string();
        let offered = read(config.as_bytes(), &[layer("two").descriptor]).unwrap();
        assert!(offered.layers.is_empty());
        let mut blob = layer("one").descriptor;
        blob.media_type = media::CONFIG.to_owned();
        assert!(read(config.as_bytes(), &[blob]).unwrap().layers.is_empty());
        let mut away = layer("one").descriptor;
        away.rest.insert(
            "urls".to_owned(),
            serde_json::json!(["https://evil.example/x"]),
        );
        let offered = read(config.as_bytes(), &[away]).unwrap();
        assert_eq!(offered.layers, [layer("one")]);
    }

    #[test]
    fn what_is_no_cache_is_none() {
        assert!(read(b"no json", &[]).is_none());
        assert!(read(br#"{"layers":[{"blob":5}]}"#, &[]).is_none());
        for carried in [
            serde_json::json!(5),
            serde_json::json!("!"),
            serde_json::json!("e30="),
        ] {
            assert!(read_inline(&carried, &[]).is_none(), "{carried}");
        }
    }
}
