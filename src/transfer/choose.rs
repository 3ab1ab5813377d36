//! Which image of an index runs on a platform. Pure.

use crate::image::{Descriptor, Index, Platform};

/// Picks the best manifest for `want`: what runs there, and of those the newest variant, the
/// first named among equals. Attestations (`unknown/unknown`) never match.
pub(super) fn choose<'a>(index: &'a Index, want: &Platform) -> Option<&'a Descriptor> {
    let want = want.normalised();
    let mut best: Option<(u32, &Descriptor)> = None;
    for manifest in &index.manifests {
        let Some(offered) = manifest.platform.as_ref().filter(|p| want.accepts(p)) else {
            continue;
        };
        let rank = want.rank(offered);
        if best.is_none_or(|(least, _)| rank > least) {
            best = Some((rank, manifest));
        }
    }
    if let Some((_, manifest)) = best {
        return Some(manifest);
    }
    // An index that says nothing about platforms and holds one image means that one.
    match index.manifests.as_slice() {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    }
}

/// Names the platforms that an index offers, for an error.
pub(super) fn offered(index: &Index) -> String {
    let mut all: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|manifest| manifest.platform.as_ref())
        .filter(|platform| platform.os != "unknown")
        .map(ToString::to_string)
        .collect();
    all.dedup();
    match all.is_empty() {
        true => "none".to_owned(),
        false => all.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Digest, media};

    fn index(platforms: &[&str]) -> Index {
        let manifests = platforms.iter().map(|text| {
            let mut manifest = Descriptor::new(media::MANIFEST, Digest::of(text.as_bytes()), 1);
            manifest.platform = text.parse().ok();
            manifest
        });
        Index::oci(manifests.collect())
    }

    fn chosen(index: &Index, want: &str) -> Option<String> {
        let found = choose(index, &want.parse().unwrap())?;
        found.platform.as_ref().map(ToString::to_string)
    }

    #[test]
    fn the_best_variant_is_chosen() {
        let all = index(&[
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/arm64",
            "linux/arm/v6",
            "linux/amd64",
        ]);
        for (want, got) in [
            ("linux/arm/v7", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v6")),
            ("linux/arm64", Some("linux/arm64")),
            ("linux/amd64", Some("linux/amd64")),
            ("linux/riscv64", None),
        ] {
            assert_eq!(chosen(&all, want).as_deref(), got, "{want}");
        }
        assert_eq!(
            offered(&all),
            "linux/arm/v5, linux/arm/v7, linux/arm64, linux/arm/v6, linux/amd64"
        );
    }

    #[test]
    fn attestations_are_no_images() {
        let mut all = index(&["linux/amd64"]);
        let mut attestation = Descriptor::new(media::MANIFEST, Digest::of(b"a"), 1);
        attestation.platform = Some(Platform {
            os: "unknown".into(),
            architecture: "unknown".into(),
            ..Platform::host()
        });
        all.manifests.insert(0, attestation);
        assert_eq!(chosen(&all, "linux/amd64").as_deref(), Some("linux/amd64"));
        assert_eq!(offered(&all), "linux/amd64");
    }

    #[test]
    fn a_lone_manifest_without_a_platform_is_taken() {
        let only = Descriptor::new(media::MANIFEST, Digest::of(b"a"), 1);
        let all = Index::oci(vec![only.clone()]);
        assert_eq!(choose(&all, &Platform::host()), Some(&only));
    }
}
