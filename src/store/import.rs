//! A tarball of a root file system as an image of one layer, as `docker import` makes it.
//!
//! The tar is kept byte for byte (unpacked when it was compressed), so its digest is the layer's
//! diff id. It is read through once to its end before anything of it is kept.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use super::Store;
use super::error::{ArchiveFlaw, Error};
use super::images::Image;
use crate::image::{Config, Descriptor, DiffId, Manifest, Raw, media};
use crate::layer;

impl Store {
    /// Makes an image of the tar in `from`, plain or compressed. `config` is the image's config
    /// without a layer, its history with the one entry for it; `name` is what errors call the
    /// input. The image gets no name and is not synced.
    pub fn import(
        &self,
        from: impl Read + Send + 'static,
        mut config: Config,
        name: &Path,
    ) -> Result<Image, Error> {
        let _work = self.work()?;
        let bad = |flaw| Error::Archive {
            path: name.to_owned(),
            flaw,
        };
        let read = |source| Error::from_io("read", name, source);
        let (prefix, from) = peek(from).map_err(read)?;
        let mut plain = layer::decompress(layer::sniff(&prefix), from);
        let mut writer = self.blob_writer()?;
        let mut buffer = vec![0; 128 << 10];
        let mut head = Vec::new();
        loop {
            let n = plain.read(&mut buffer).map_err(read)?;
            if head.len() < layer::PREFIX {
                head.extend_from_slice(&buffer[..n]);
                if (n == 0 || head.len() >= layer::PREFIX) && !layer::is_tar(&head) {
                    return Err(bad(ArchiveFlaw::NotTar));
                }
            }
            if n == 0 {
                break;
            }
            let written = writer.write_all(&buffer[..n]);
            written.map_err(|e| Error::from_io("write", name, e))?;
        }
        let digest = writer.digest_so_far();
        layer::index_tar(Arc::new(writer.reopen()?)).map_err(|source| Error::Layer {
            doing: "read",
            layer: digest,
            source,
        })?;
        let blob = writer.finish()?;
        let diff_id = DiffId(blob.digest().clone());
        config.rootfs.diff_ids = vec![diff_id.clone()];
        let config = Raw::of(config);
        let layer = Descriptor::new(media::LAYER, diff_id.0, blob.size());
        let manifest = Manifest::oci(config.descriptor(media::CONFIG), vec![layer]);
        self.put_image(&Raw::of(manifest), &config)
    }
}

/// Reads the first bytes that tell what a stream is, and returns them with the whole stream.
pub(super) fn peek<R: Read + Send + 'static>(
    mut from: R,
) -> std::io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let mut prefix = Vec::with_capacity(layer::PREFIX);
    let want = u64::try_from(layer::PREFIX).unwrap_or(u64::MAX);
    Read::by_ref(&mut from)
        .take(want)
        .read_to_end(&mut prefix)?;
    let whole = std::io::Cursor::new(prefix.clone()).chain(from);
    Ok((prefix, Box::new(whole)))
}
