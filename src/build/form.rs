//! The form in which an image leaves the store: how its layers are compressed, whose media types
//! it has.

use crate::event::Sink;
use crate::image::{Compression, Descriptor, Kind, Raw, media};
use crate::store::{self, Image, Store};

use super::request::Form;

/// Returns the image with compressed layers as `form` says. Layers that came compressed keep
/// their bytes unless it forces them.
pub(super) fn packed(
    store: &Store,
    image: &Image,
    form: &Form,
    sink: &dyn Sink,
) -> Result<Image, store::Error> {
    let wanted = form.compression.unwrap_or(Compression::Gzip);
    let mut manifest = image.manifest.value().clone();
    for (layer, into) in image.layers().iter().zip(&mut manifest.layers) {
        let now = layer.descriptor.kind();
        let leave = match form.force {
            true => now == Some(Kind::Layer(wanted)),
            false => now != Some(Kind::Layer(Compression::None)) || wanted == Compression::None,
        };
        if !leave {
            let made = store.layer_blob(&layer.diff_id, wanted, form.level, sink)?;
            (into.media_type, into.digest, into.size) = (made.media_type, made.digest, made.size);
        }
    }
    let image = match manifest == *image.manifest.value() {
        true => image.clone(),
        false => Image::new(Raw::of(manifest), image.config.clone())?,
    };
    typed(&image, form)
}

/// Returns the image with docker's media types, if `form` asks for them.
pub(super) fn typed(image: &Image, form: &Form) -> Result<Image, store::Error> {
    if !form.docker_types {
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
