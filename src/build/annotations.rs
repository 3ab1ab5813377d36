//! Annotations, and the index over the images of several platforms that carries some of them.
//!
//! A key goes to a manifest, to an index, or to the descriptor by which an index names one of
//! them; never into a config. One may be meant for a single platform.

use std::collections::BTreeMap;

use crate::image::{Attestation, Descriptor, Index, Platform, Raw};
use crate::store::Image;

/// The document that an annotation goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// The image's manifest.
    Manifest,
    /// The entry of the manifest in an index or layout.
    ManifestDescriptor,
    /// The index.
    Index,
    /// The entry of the index in a layout.
    IndexDescriptor,
}

/// One annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Where it goes.
    pub level: Level,
    /// The platform whose image it is for; unset for all.
    pub platform: Option<Platform>,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Returns those of one level, for the image of `platform`; a later one of a key wins.
pub(super) fn of(
    annotations: &[Annotation],
    level: Level,
    platform: Option<&Platform>,
) -> BTreeMap<String, String> {
    let fits = |annotation: &&Annotation| {
        annotation.level == level
            && (annotation.platform.is_none()
                || annotation.platform.as_ref().map(Platform::normalised)
                    == platform.map(Platform::normalised))
    };
    annotations
        .iter()
        .filter(fits)
        .map(|annotation| (annotation.key.clone(), annotation.value.clone()))
        .collect()
}

/// Whether any needs an index to go to.
pub(super) fn need_index(annotations: &[Annotation]) -> bool {
    let indexed =
        |annotation: &Annotation| matches!(annotation.level, Level::Index | Level::IndexDescriptor);
    annotations.iter().any(indexed)
}

/// Returns how an index names an image.
pub(super) fn descriptor(
    image: &Image,
    platform: &Platform,
    annotations: &[Annotation],
) -> Descriptor {
    Descriptor {
        platform: Some(platform.clone()),
        annotations: of(annotations, Level::ManifestDescriptor, Some(platform)),
        ..image.descriptor()
    }
}

/// Makes the index over `images`, in their order, and what is stated about them.
pub(super) fn index<'a>(
    images: impl Iterator<Item = (&'a Image, &'a Platform)>,
    attestations: &[Attestation],
    annotations: &[Annotation],
) -> Raw<Index> {
    let manifests = images.map(|(image, platform)| descriptor(image, platform, annotations));
    let entries = attestations.iter().map(Attestation::entry);
    let mut index = Index::oci(manifests.chain(entries).collect());
    index.annotations = of(annotations, Level::Index, None);
    Raw::of(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation(level: Level, platform: Option<&str>, value: &str) -> Annotation {
        Annotation {
            level,
            platform: platform.map(|platform| platform.parse().unwrap()),
            key: "k".to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn an_annotation_reaches_its_level_and_platform_only() {
        let all = [
            annotation(Level::Manifest, None, "all"),
            annotation(Level::Manifest, Some("linux/aarch64"), "arm"),
            annotation(Level::Index, None, "index"),
        ];
        let on =
            |level, platform: &str| of(&all, level, Some(&platform.parse().unwrap())).remove("k");
        assert_eq!(on(Level::Manifest, "linux/amd64").as_deref(), Some("all"));
        assert_eq!(
            on(Level::Manifest, "linux/arm64/v8").as_deref(),
            Some("arm")
        );
        assert_eq!(on(Level::Index, "linux/amd64").as_deref(), Some("index"));
        assert_eq!(on(Level::IndexDescriptor, "linux/amd64"), None);
        assert!(need_index(&all) && !need_index(&all[..2]));
    }
}
