//! Attestations of a build (`--attest`): what is asked for, and what is stated in the end.
//!
//! A [`Predicate`] is what is stated about the image of one platform: its provenance
//! (`provenance`, `definition`), or what a scan of its files found (`sbom`). Which image it is
//! about is known only when an output is made, since compressing layers gives the manifest another
//! digest; [`attestation`] puts the two together then. Nothing is stated unless somebody asks, so
//! nobody's digests change.

mod definition;
mod provenance;
mod purl;
pub(super) mod sbom;
mod vcs;

use serde_json::Value;

use crate::image::{Attestation, Descriptor, Platform, Reference, Shape, Statement};

pub(super) use provenance::{Facts, invocation, predicate};

/// What a caller wants to have stated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attest {
    /// How the image came to be.
    pub provenance: Option<Provenance>,
    /// What is in the image.
    pub sbom: Option<Sbom>,
}

/// `type=provenance`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Whether build arguments, names of secrets, steps and sources are told too (`mode=max`).
    pub max: bool,
    /// The version of the predicate.
    pub version: SlsaVersion,
    /// Who built, as a URL.
    pub builder_id: String,
    /// The file it becomes in outputs that are files.
    pub filename: String,
    /// Whether the caller says that the result can be built again, byte for byte.
    pub reproducible: bool,
    /// Whether it alone is no reason for an index, and whether files go without it.
    pub inline_only: bool,
}

impl Default for Provenance {
    fn default() -> Self {
        Self {
            max: true,
            version: SlsaVersion::V1,
            builder_id: String::new(),
            filename: "provenance.json".to_owned(),
            reproducible: false,
            inline_only: false,
        }
    }
}

/// A version of the SLSA provenance predicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlsaVersion {
    /// <https://slsa.dev/provenance/v1>
    V1,
    /// <https://slsa.dev/provenance/v0.2>
    V02,
}

/// `type=sbom`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sbom {
    /// The image whose program scans.
    pub generator: Reference,
    /// What it is told besides, as `BUILDKIT_SCAN_NAME=VALUE`.
    pub parameters: Vec<(String, String)>,
}

/// Something that can be stated about the image of one platform.
#[derive(Debug, Clone)]
pub(super) struct Predicate {
    /// Its type, a URL.
    pub(super) kind: String,
    /// What is stated.
    pub(super) value: Value,
    /// The file it becomes in outputs that are files.
    pub(super) file: String,
    /// As [`Provenance::inline_only`].
    pub(super) inline_only: bool,
}

impl Predicate {
    /// Returns what it states, if that is where the image came from.
    pub(super) fn provenance(&self) -> Option<&Value> {
        let states = self.kind.starts_with(provenance::KIND);
        states.then_some(&self.value)
    }

    /// Whether it makes a lone image one of an index.
    pub(super) fn needs_index(&self, inline: bool) -> bool {
        inline || !self.inline_only
    }
}

/// States `predicates` of the image `target`, known by `names`.
pub(super) fn attestation(
    predicates: &[Predicate],
    target: &Descriptor,
    platform: &Platform,
    names: &[Reference],
    shape: Shape,
) -> Option<Attestation> {
    if predicates.is_empty() {
        return None;
    }
    let mut subjects: Vec<String> = names
        .iter()
        .map(|name| purl::image(name, platform))
        .collect();
    if subjects.is_empty() {
        subjects.push("_".to_owned());
    }
    let state = |predicate: &Predicate| {
        Statement::new(&subjects, &target.digest, &predicate.kind, &predicate.value)
    };
    let statements = predicates.iter().map(state).collect();
    Some(Attestation::new(target, statements, shape))
}
