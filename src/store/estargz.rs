//! Images whose layers are in eStargz.
//!
//! What such a layer unpacks to holds its table of contents, too, so its diff id is another one,
//! and the image's config names that: the image has another id, as BuildKit's has. A cache in
//! the config, which names the steps' own layers, is left out.

use super::Store;
use super::error::Error;
use super::images::{Image, LayerRef};
use super::layers::threads;
use crate::event::{Event, Motion, Sink};
use crate::image::{Compression, Descriptor, DiffId, INLINE_CACHE, Kind, Raw, media};
use crate::layer;

impl Store {
    /// Returns the image with those of its layers in eStargz that were never compressed, with
    /// `force` with all of them. Its documents and missing blobs are stored beside the old.
    pub fn estargz(
        &self,
        image: &Image,
        level: Option<i32>,
        force: bool,
        sink: &dyn Sink,
    ) -> Result<Image, Error> {
        let _work = self.work()?;
        let mut manifest = image.manifest.value().clone();
        let mut config = image.config.value().clone();
        let docker = manifest.media_type() == media::DOCKER_MANIFEST;
        let places = manifest.layers.iter_mut().zip(&mut config.rootfs.diff_ids);
        for (descriptor, diff_id) in places {
            let plain = descriptor.kind() == Some(Kind::Layer(Compression::None));
            if descriptor.is_estargz() || !(plain || force) {
                continue;
            }
            let mut made = self.layer_blob(diff_id, Compression::Estargz, level, sink)?;
            if docker {
                media::DOCKER_LAYER_GZIP.clone_into(&mut made.media_type);
            }
            if let Some(own) = made.annotations.remove(media::UNPACKED_DIGEST) {
                *diff_id = DiffId(own.parse().expect("this store wrote a digest"));
            }
            descriptor.annotations.append(&mut made.annotations);
            (descriptor.media_type, descriptor.digest, descriptor.size) =
                (made.media_type, made.digest, made.size);
        }
        if config == *image.config.value() {
            return Ok(image.clone());
        }
        // It would name layers that are not there.
        config.rest.remove(INLINE_CACHE);
        let config = Raw::of(config);
        manifest.config = config.descriptor(&manifest.config.media_type);
        let manifest = Raw::of(manifest);
        self.put(config.bytes())?;
        self.put(manifest.bytes())?;
        Image::new(manifest, config)
    }

    /// Makes the layer's eStargz form. Its descriptor says what the form's own diff id is.
    pub(super) fn estargz_blob(
        &self,
        layer: &LayerRef,
        level: Option<i32>,
        sink: &dyn Sink,
    ) -> Result<Descriptor, Error> {
        let digest = layer.diff_id.digest();
        let failed = |source| Error::Layer {
            doing: "compress",
            layer: digest.clone(),
            source,
        };
        let tar = self.plain_file(&layer.diff_id)?;
        let made = layer::estargz(&tar, self.blob_writer()?, level, threads()).map_err(failed)?;
        let blob = made.out.finish()?;
        let media_type = Compression::Estargz.layer_media_type();
        let mut descriptor = Descriptor::new(media_type, blob.digest().clone(), blob.size());
        for (key, value) in [
            (media::TABLE_DIGEST, made.table.to_string()),
            (media::UNPACKED_SIZE, made.size.to_string()),
            (media::UNPACKED_DIGEST, made.diff_id.to_string()),
        ] {
            descriptor.annotations.insert(key.to_owned(), value);
        }
        sink.emit(Event::BlobDone {
            motion: Motion::Compress,
            blob: digest,
        });
        Ok(descriptor)
    }
}
