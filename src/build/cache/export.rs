//! `--cache-to`: what this build knows, for others.
//!
//! `min` holds the layers that the steps of the result made, `max` those of all stages. The records
//! of all stages go along in both: a build that finds the result's layers needs not read the others.
//! Layers of base images are not part of it, and a layer lies in a cache as the step made it.

use std::collections::HashSet;

use crate::dockerfile::go_bool;
use crate::event::{Event, Sink};
use crate::image::{Descriptor, Digest, Document, Index, Manifest, Raw, media};
use crate::store::archive;
use crate::store::{LayerRef, Store};
use crate::transfer::{CacheDocument, CachePlace};

use super::super::commit::Built;
use super::super::error::{Error, OptionsError};
use super::super::form;
use super::super::platforms::Made;
use super::super::request::{CacheExport, CacheTarget, Request};
use super::format::Contents;
use super::import::Imports;

/// Build argument that asks for [`CacheTarget::Inline`].
const INLINE_ARG: &str = "BUILDKIT_INLINE_CACHE";

/// Whether the image is to carry a cache.
pub(in crate::build) fn wants_inline(request: &Request) -> bool {
    let asks = |(key, value): &(String, String)| key == INLINE_ARG && go_bool(value) == Some(true);
    let is_inline = |export: &CacheExport| matches!(export.to, CacheTarget::Inline);
    request.cache_to.iter().any(is_inline) || request.build_args.iter().any(asks)
}

/// Refuses what can't be written, before any work is done.
pub(in crate::build) fn check(request: &Request) -> Result<(), Error> {
    for export in &request.cache_to {
        if export.form.has_no_types() {
            return Err(Error::Options(OptionsError::OciOnly));
        }
    }
    Ok(())
}

/// What the stages of one platform know, each once.
pub(in crate::build) fn contents<'a>(
    stages: impl Iterator<Item = &'a Built>,
    answers: impl IntoIterator<Item = (Digest, Digest)>,
) -> Contents {
    let mut seen = HashSet::new();
    let mut contents = Contents::default();
    for stage in stages {
        for (key, made) in &stage.known {
            if seen.insert(key.clone()) {
                contents.steps.push((key.clone(), made.clone()));
            }
        }
    }
    contents.answers.extend(answers);
    contents
}

/// A build that is done, about to be exported.
pub(in crate::build) struct Exporter<'a> {
    pub(in crate::build) store: &'a Store,
    pub(in crate::build) request: &'a Request,
    pub(in crate::build) imports: &'a Imports,
    pub(in crate::build) made: &'a [Made],
    pub(in crate::build) sink: &'a dyn Sink,
}

impl Exporter<'_> {
    /// Writes every cache that was asked for.
    pub(in crate::build) fn give(&self) -> Result<(), Error> {
        for export in &self.request.cache_to {
            let CacheTarget::Place { place, reset } = &export.to else {
                continue;
            };
            match self.write(export, place, *reset) {
                Err(error) if export.ignore_error => {
                    let text = format!("the cache `{place}` is not exported: {error}");
                    self.sink.emit(Event::Warning { text: &text });
                }
                other => other?,
            }
        }
        Ok(())
    }

    fn write(&self, export: &CacheExport, place: &CachePlace, reset: bool) -> Result<(), Error> {
        let stages = self.made.iter().flat_map(Made::stages);
        let answers = self.made.iter().flat_map(Made::answers);
        let contents = contents(stages, answers);
        let layers = self.layers(export, place)?;
        let config = Raw::of(contents.config(&layers));
        let layers: Vec<LayerRef> = layers.into_iter().map(|(layer, _)| layer).collect();
        let document = document(&config, &layers, export);
        let cache = CacheDocument {
            document: &document,
            config: &config,
            layers: &layers,
        };
        place.write(self.store, &cache, self.sink)?;
        if let (CachePlace::Layout { dir, .. }, true) = (place, reset) {
            archive::drop_unreferenced(dir)?;
        }
        Ok(())
    }

    /// The layers that are exported in their final form, each once, with the place of the one
    /// below it.
    fn layers(
        &self,
        export: &CacheExport,
        place: &CachePlace,
    ) -> Result<Vec<(LayerRef, Option<usize>)>, Error> {
        let mut layers: Vec<(LayerRef, Option<usize>)> = Vec::new();
        let all = self.made.iter().flat_map(Made::stages);
        let last = self.made.iter().map(Made::last_stage);
        let stages: Vec<&Built> = if export.max {
            all.collect()
        } else {
            last.collect()
        };
        for stage in stages {
            let mut below = None;
            for layer in stage.own_layers() {
                let known = layers
                    .iter()
                    .position(|(other, _)| other.diff_id == layer.diff_id);
                if let Some(at) = known {
                    below = Some(at);
                } else if let Some(descriptor) = self.packed(&layer, export, place)? {
                    let diff_id = layer.diff_id;
                    let layer = LayerRef {
                        diff_id,
                        descriptor,
                    };
                    layers.push((layer, below));
                    below = Some(layers.len() - 1);
                }
            }
        }
        Ok(layers)
    }

    /// The layer in the form that it is exported in. `None` for one that nobody has here, which
    /// this build knew of and never read.
    fn packed(
        &self,
        layer: &LayerRef,
        export: &CacheExport,
        place: &CachePlace,
    ) -> Result<Option<Descriptor>, Error> {
        let here = self.store.has_layer(&layer.diff_id)?;
        if !here && !self.imports.offers(&layer.diff_id) {
            return Ok(None);
        }
        let kept = form::keeps(&layer.descriptor, &export.form);
        let there = !here && kept && place.has(&layer.descriptor.digest)?;
        if !here && !there {
            let one = std::slice::from_ref(layer);
            let brought = self.imports.supply(self.store, one, self.sink);
            let checked = brought.and_then(|()| self.imports.check(self.store, one, self.sink));
            if checked.is_err() {
                // It was told why; the record goes without its layer.
                return Ok(None);
            }
        }
        let layer = form::layer(self.store, layer, &export.form, self.sink)?;
        Ok(Some(layer))
    }
}

/// Makes the manifest of a cache, or the index that older builders write.
fn document(
    config: &Raw<serde_json::Value>,
    layers: &[LayerRef],
    export: &CacheExport,
) -> Document {
    let config = config.descriptor(media::CACHE_CONFIG);
    let described = layers.iter().map(|layer| {
        let mut descriptor = layer.descriptor.clone();
        descriptor.annotations.insert(
            "containerd.io/uncompressed".to_owned(),
            layer.diff_id.to_string(),
        );
        descriptor
    });
    if !export.index {
        return Document::Manifest(Raw::of(Manifest::oci(config, described.collect())));
    }
    let mut index = Index::oci(described.chain([config]).collect());
    if export.form.docker_types {
        index.media_type = Some(media::DOCKER_LIST.to_owned());
    }
    Document::Index(Raw::of(index))
}
