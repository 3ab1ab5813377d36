//! The form in which an image leaves the store: how its layers are compressed, whose media types
//! it has.

use crate::event::Sink;
use crate::image::{Compression, Descriptor, Kind, Raw, media};
use crate::store::{self, Image, LayerRef, Store};

use super::request::Form;

/// Returns the image with compressed layers as `form` says. Layers that came compressed keep
/// their bytes unless it forces them.
pub(super) fn packed(
    store: &Store,
    image: &Image,
    form: &Form,
    sink: &dyn Sink,
) -> Result<Image, store::Error> {
    if form.compression == Some(Compression::Estargz) {
        return store.estargz(image, form.level, form.force, sink);
    }
    let mut manifest = image.manifest.value().clone();
    for (layer, into) in image.layers().iter().zip(&mut manifest.layers) {
        if !keeps(&layer.descriptor, form) {
            let made = compressed(store, layer, form, sink)?;
            (into.media_type, into.digest, into.size) = (made.media_type, made.digest, made.size);
            for of_estargz in [media::TABLE_DIGEST, media::UNPACKED_SIZE] {
                into.annotations.remove(of_estargz);
            }
        }
    }
    let image = match manifest == *image.manifest.value() {
        true => image.clone(),
        false => Image::new(Raw::of(manifest), image.config.clone())?,
    };
    typed(&image, form.docker_types)
}

/// Returns one layer by itself in that form.
pub(super) fn layer(
    store: &Store,
    layer: &LayerRef,
    form: &Form,
    sink: &dyn Sink,
) -> Result<Descriptor, store::Error> {
    let mut descriptor = match keeps(&layer.descriptor, form) {
        true => layer.descriptor.clone(),
        false => compressed(store, layer, form, sink)?,
    };
    if form.docker_types {
        dockers(&mut descriptor);
    }
    Ok(descriptor)
}

/// Whether a layer keeps the bytes that its descriptor names.
pub(super) fn keeps(layer: &Descriptor, form: &Form) -> bool {
    let wanted = form.compression.unwrap_or(Compression::Gzip);
    let now = layer.kind();
    match form.force {
        true => now == Some(Kind::Layer(wanted)),
        false => now != Some(Kind::Layer(Compression::None)) || wanted == Compression::None,
    }
}

fn compressed(
    store: &Store,
    layer: &LayerRef,
    form: &Form,
    sink: &dyn Sink,
) -> Result<Descriptor, store::Error> {
    let wanted = form.compression.unwrap_or(Compression::Gzip);
    store.layer_blob(&layer.diff_id, wanted, form.level, sink)
}

/// Returns the image with docker's media types, if they are asked for or the image has them
/// already and lately got a layer that has not.
pub(super) fn typed(image: &Image, asked: bool) -> Result<Image, store::Error> {
    let had = image.manifest.value().media_type.as_deref() == Some(media::DOCKER_MANIFEST);
    if !asked && !had {
        return Ok(image.clone());
    }
    let mut manifest = image.manifest.value().clone();
    manifest.media_type = Some(media::DOCKER_MANIFEST.to_owned());
    manifest.config.media_type = media::DOCKER_CONFIG.to_owned();
    manifest.layers.iter_mut().for_each(dockers);
    Image::new(Raw::of(manifest), image.config.clone())
}

fn dockers(layer: &mut Descriptor) {
    let name = match layer.kind() {
        Some(Kind::Layer(Compression::None)) => media::DOCKER_LAYER,
        Some(Kind::Layer(Compression::Gzip)) => media::DOCKER_LAYER_GZIP,
        _ => return,
    };
    name.clone_into(&mut layer.media_type);
}
