//! Attestations: statements about an image that lie beside it in an index, as BuildKit keeps them
//! (docs/attestations/attestation-storage.md).
//!
//! ```text
//! index ─ manifest of the image
//!       └ manifest of its attestations: platform `unknown/unknown`, annotated with the digest
//!         of the other; each layer is one in-toto statement about it
//! ```
//!
//! The manifest is an OCI artifact, or made to look like an image for registries that know
//! images only. A statement names its image by digest, and that changes when layers are
//! compressed on their way out: [`Attestation::about`] moves all of it to the new digest.
//! Nothing here is signed, so nothing breaks.

use serde_json::{Value, json};

use super::config::Config;
use super::descriptor::{Descriptor, media};
use super::digest::{DiffId, Digest};
use super::manifest::{Manifest, Raw};
use super::platform::Platform;

/// Media type of a statement.
const STATEMENT: &str = "application/vnd.in-toto+json";
/// Greatest size of a statement: the 40 MiB of a scan, and what stands around it.
pub const MAX_STATEMENT: u64 = (40 << 20) + (1 << 20);

/// What the manifest is, in the words of OCI artifacts.
const ARTIFACT_TYPE: &str = "application/vnd.docker.attestation.manifest.v1+json";
/// Media type of the config of an artifact, which is `{}`.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Says in an index that a manifest is no image.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const ATTESTATION: &str = "attestation-manifest";
/// Says in an index which manifest the statements are about.
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// Says beside a statement what it holds.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";

/// One in-toto statement (in-toto attestation framework, v1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    predicate_type: String,
    bytes: Vec<u8>,
}

impl Statement {
    /// States `predicate` of what the names in `subjects` have as `digest`.
    pub fn new(
        subjects: &[String],
        digest: &Digest,
        predicate_type: &str,
        predicate: &Value,
    ) -> Self {
        let subjects = subjects.iter().map(|name| subject(name, digest));
        Self::of(subjects.collect(), predicate_type, predicate)
    }

    /// States `predicate` of `subjects`, each made by [`subject`].
    pub fn of(subjects: Vec<Value>, predicate_type: &str, predicate: &Value) -> Self {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "predicateType": predicate_type,
            "subject": subjects,
            "predicate": predicate,
        });
        Self {
            predicate_type: predicate_type.to_owned(),
            bytes: statement.to_string().into_bytes(),
        }
    }

    /// Returns it as JSON.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same of `new` where it says something of `old`. Bytes that are no statement stay.
    fn about(&mut self, old: &Digest, new: &Digest) {
        let Ok(mut value) = serde_json::from_slice::<Value>(&self.bytes) else {
            return;
        };
        let subjects = value.get_mut("subject").and_then(Value::as_array_mut);
        for subject in subjects.into_iter().flatten() {
            if subject["digest"][algorithm(old)] == old.hex() {
                subject["digest"] = digest_set(new);
            }
        }
        self.bytes = value.to_string().into_bytes();
    }

    fn descriptor(&self) -> Descriptor {
        let size = self.bytes.len() as u64;
        let mut descriptor = Descriptor::new(STATEMENT, Digest::of(&self.bytes), size);
        let kind = (PREDICATE_TYPE.to_owned(), self.predicate_type.clone());
        descriptor.annotations.extend([kind]);
        descriptor
    }
}

/// Returns one subject of a statement.
pub fn subject(name: &str, digest: &Digest) -> Value {
    json!({ "name": name, "digest": digest_set(digest) })
}

/// Returns a digest as in-toto writes it: `{"sha256": "…"}`.
pub fn digest_set(digest: &Digest) -> Value {
    json!({ algorithm(digest): digest.hex() })
}

fn algorithm(digest: &Digest) -> &str {
    digest.as_str().split(':').next().unwrap_or_default()
}

/// What the manifest of attestations looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// An OCI artifact with a subject.
    #[default]
    Artifact,
    /// An image whose layers are the statements.
    Image,
}

/// All statements about one image, with their manifest.
#[derive(Debug, Clone)]
pub struct Attestation {
    manifest: Raw<Manifest>,
    config: Vec<u8>,
    statements: Vec<Statement>,
    target: Digest,
}

impl Attestation {
    /// Puts statements about the manifest `target` together.
    pub fn new(target: &Descriptor, statements: Vec<Statement>, shape: Shape) -> Self {
        let layers: Vec<Descriptor> = statements.iter().map(Statement::descriptor).collect();
        let (media_type, config) = match shape {
            Shape::Artifact => (EMPTY, b"{}".to_vec()),
            Shape::Image => (media::CONFIG, image_config(&layers)),
        };
        let size = config.len() as u64;
        let descriptor = Descriptor::new(media_type, Digest::of(&config), size);
        let mut manifest = Manifest::oci(descriptor, layers);
        if shape == Shape::Artifact {
            // `{}` in base64, so that nobody needs to fetch it.
            let data = ("data".to_owned(), json!("e30="));
            manifest.config.rest.extend([data]);
            let plain = Descriptor::new(&target.media_type, target.digest.clone(), target.size);
            manifest.rest.extend([
                ("artifactType".to_owned(), json!(ARTIFACT_TYPE)),
                ("subject".to_owned(), json!(plain)),
            ]);
        }
        Self {
            manifest: Raw::of(manifest),
            config,
            statements,
            target: target.digest.clone(),
        }
    }

    /// Puts together what was read: the manifest about `target`, its config and its layers.
    pub fn read(
        target: Digest,
        manifest: Raw<Manifest>,
        config: Vec<u8>,
        layers: Vec<Vec<u8>>,
    ) -> Self {
        let named = manifest.value().layers.iter().zip(layers);
        let statement = |(layer, bytes): (&Descriptor, _)| Statement {
            predicate_type: layer
                .annotations
                .get(PREDICATE_TYPE)
                .cloned()
                .unwrap_or_default(),
            bytes,
        };
        let statements = named.map(statement).collect();
        Self {
            manifest,
            config,
            statements,
            target,
        }
    }

    /// The same about the manifest `target`, which is what the image has become.
    pub fn about(self, target: &Descriptor) -> Self {
        if target.digest == self.target {
            return self;
        }
        let mut statements = self.statements;
        for statement in &mut statements {
            statement.about(&self.target, &target.digest);
        }
        let shape = match self.manifest.value().rest.contains_key("artifactType") {
            true => Shape::Artifact,
            false => Shape::Image,
        };
        Self::new(target, statements, shape)
    }

    /// Returns how an index names it.
    pub fn entry(&self) -> Descriptor {
        let mut entry = self.manifest.descriptor(self.manifest.value().media_type());
        entry.platform = Some(nowhere());
        entry.annotations.extend([
            (REFERENCE_DIGEST.to_owned(), self.target.to_string()),
            (REFERENCE_TYPE.to_owned(), ATTESTATION.to_owned()),
        ]);
        entry
    }

    /// Returns its manifest.
    pub fn manifest(&self) -> &Raw<Manifest> {
        &self.manifest
    }

    /// Returns all its documents, the manifest last.
    pub fn documents(&self) -> impl Iterator<Item = &[u8]> {
        let statements = self.statements.iter().map(Statement::bytes);
        statements.chain([&*self.config, self.manifest.bytes()])
    }
}

impl Descriptor {
    /// Returns the manifest that the one named here makes statements about; `None` for anything
    /// but an attestation.
    pub fn attests(&self) -> Option<Digest> {
        if self.annotations.get(REFERENCE_TYPE)? != ATTESTATION {
            return None;
        }
        self.annotations.get(REFERENCE_DIGEST)?.parse().ok()
    }
}

/// No platform at all, so that nobody takes it for an image that runs.
fn nowhere() -> Platform {
    Platform {
        architecture: "unknown".to_owned(),
        os: "unknown".to_owned(),
        os_version: None,
        os_features: Vec::new(),
        variant: None,
    }
}

/// The config of what only looks like an image.
fn image_config(layers: &[Descriptor]) -> Vec<u8> {
    let mut config = Config::empty(&nowhere());
    let diff_ids = layers.iter().map(|layer| DiffId(layer.digest.clone()));
    config.rootfs.diff_ids = diff_ids.collect();
    Raw::of(config).bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Descriptor {
        Descriptor::new(media::MANIFEST, Digest::of(text.as_bytes()), 7)
    }

    fn made(shape: Shape) -> Attestation {
        let old = target("old");
        let names = ["pkg:docker/a@latest".to_owned()];
        let other = Statement::of(
            vec![subject("other", &Digest::of(b"other"))],
            "https://spdx.dev/Document",
            &json!({}),
        );
        let statement = Statement::new(
            &names,
            &old.digest,
            "https://x/v1",
            &json!({"b": 1, "a": 2}),
        );
        Attestation::new(&old, vec![statement, other], shape)
    }

    #[test]
    fn an_artifact_names_its_subject_and_an_image_has_a_config() {
        let artifact = made(Shape::Artifact);
        let value: Value = serde_json::from_slice(artifact.manifest().bytes()).unwrap();
        assert_eq!(value["artifactType"], ARTIFACT_TYPE);
        assert_eq!(value["subject"]["digest"], target("old").digest.as_str());
        assert_eq!(value["config"]["data"], "e30=");
        assert_eq!(value["config"]["digest"], Digest::of(b"{}").as_str());
        let image = made(Shape::Image);
        let value: Value = serde_json::from_slice(image.manifest().bytes()).unwrap();
        assert!(value.get("artifactType").is_none() && value.get("subject").is_none());
        assert_eq!(value["config"]["mediaType"], media::CONFIG);
        let config: Config = serde_json::from_slice(&image.config).unwrap();
        assert_eq!(
            config.rootfs.diff_ids[0].0.as_str(),
            value["layers"][0]["digest"]
        );
        assert_eq!(config.os, "unknown");
        let layer = &value["layers"][0];
        assert_eq!(layer["mediaType"], STATEMENT);
        assert_eq!(layer["annotations"][PREDICATE_TYPE], "https://x/v1");
    }

    #[test]
    fn an_entry_says_what_it_attests_and_runs_nowhere() {
        let entry = made(Shape::Artifact).entry();
        assert_eq!(entry.attests(), Some(target("old").digest));
        assert_eq!(target("old").attests(), None);
        let text = serde_json::to_value(&entry).unwrap();
        assert_eq!(
            text["platform"],
            json!({"architecture": "unknown", "os": "unknown"})
        );
    }

    #[test]
    fn statements_follow_their_image_and_say_nothing_new_of_others() {
        for shape in [Shape::Artifact, Shape::Image] {
            let moved = made(shape).about(&target("new"));
            assert_eq!(moved.entry().attests(), Some(target("new").digest));
            let read = |at: usize| -> Value {
                serde_json::from_slice(moved.statements[at].bytes()).unwrap()
            };
            assert_eq!(
                read(0)["subject"][0]["digest"]["sha256"],
                target("new").digest.hex()
            );
            assert_eq!(read(0)["predicate"].to_string(), r#"{"b":1,"a":2}"#);
            assert_eq!(
                read(1)["subject"][0]["digest"]["sha256"],
                Digest::of(b"other").hex()
            );
            let back = moved.about(&target("old"));
            assert_eq!(back.manifest().digest(), made(shape).manifest().digest());
        }
    }
}
