//! Reads what `docker save` wrote before it wrote OCI layouts, and what skopeo and podman write
//! as `docker-archive`: `manifest.json` names a config and plain layers by path (Docker image
//! spec v1.2, "Combined Image JSON + Filesystem Changeset Format").

use serde::Deserialize;

use crate::event::Sink;
use crate::image::{Config, MAX_CONFIG, MAX_MANIFEST, Manifest, Raw, Reference, media};

use super::super::Store;
use super::super::error::{ArchiveFlaw, Error};
use super::source::Source;
use super::{Loaded, Pick, oci, take};

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags", default)]
    names: Option<Vec<String>>,
    #[serde(rename = "Layers", default)]
    layers: Option<Vec<String>>,
}

/// Reads the images that `pick` means. Each gets a manifest made here.
pub(super) fn read(
    store: &Store,
    source: &dyn Source,
    pick: Pick<'_>,
    sink: &dyn Sink,
) -> Result<Vec<Loaded>, Error> {
    let all: Vec<Listed> = source.json("manifest.json", MAX_MANIFEST)?;
    let mut loaded = Vec::new();
    for listed in &wanted(source, all, pick)? {
        loaded.push(take_image(store, source, listed, sink)?);
    }
    match pick {
        // Manifests are made here, so their digests are known only now.
        Pick::Digest(_) => oci::choose(source, loaded, pick),
        _ => Ok(loaded),
    }
}

fn names(listed: &Listed) -> Vec<Reference> {
    let texts = listed.names.iter().flatten();
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn wanted(source: &dyn Source, mut all: Vec<Listed>, pick: Pick<'_>) -> Result<Vec<Listed>, Error> {
    let has = || all.iter().flat_map(names).map(|n| n.familiar()).collect();
    match pick {
        Pick::All | Pick::Digest(_) => Ok(all),
        Pick::Only if all.len() == 1 => Ok(all),
        Pick::Only => Err(source.flaw(ArchiveFlaw::NotOne { has: has() })),
        Pick::Named(text) => {
            let name = text.parse::<Reference>().ok();
            let missing = ArchiveFlaw::NoImage {
                wanted: text.to_owned(),
                has: has(),
            };
            all.retain(|listed| {
                name.as_ref()
                    .is_some_and(|name| names(listed).contains(name))
            });
            match all.is_empty() {
                true => Err(source.flaw(missing)),
                false => Ok(all),
            }
        }
    }
}

fn take_image(
    store: &Store,
    source: &dyn Source,
    listed: &Listed,
    sink: &dyn Sink,
) -> Result<Loaded, Error> {
    let config = Raw::<Config>::parse("config", source.bytes(&listed.config, MAX_CONFIG)?)?;
    let diff_ids = &config.value().rootfs.diff_ids;
    let paths = listed.layers.as_deref().unwrap_or_default();
    if paths.len() != diff_ids.len() {
        return Err(source.flaw(ArchiveFlaw::LayerCount {
            layers: paths.len(),
            diff_ids: diff_ids.len(),
        }));
    }
    let mut layers = Vec::with_capacity(paths.len());
    for (path, diff_id) in paths.iter().zip(diff_ids) {
        let member = source.need(path)?;
        layers.push(take::bare_layer(store, source, &member, diff_id, sink)?);
    }
    let manifest = Manifest::oci(config.descriptor(media::CONFIG), layers);
    let image = store.put_image(&Raw::of(manifest), &config)?;
    Ok(Loaded {
        target: image.descriptor(),
        names: names(listed),
        ref_name: None,
    })
}
