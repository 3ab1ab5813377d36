//! The forms of a layer: tree, plain tar, compressed blob. A missing one is made from another.
//!
//! The diff id names the layer. Its plain tar, when it lies in the store, is the blob of the same
//! digest. Records of this room's own:
//!
//! ```text
//! layer/<diff id>     {"size":N,"origin":{descriptor},"chains":["sha256:…"]}
//! packed/<text>       key "<diff id> gzip 1 v2": descriptor of the blob that compressing gave
//! ```
//!
//! `origin` is the compressed blob that the layer was pulled or loaded as: it is what is pushed
//! again, and what a tree is made from. `chains` are the stacks whose tree of this layer depends
//! on what is below. A plain tar is taken from its blob, else from the origin, else by encoding
//! the tree; whatever the way, the bytes are held against the diff id before anybody relies on
//! them.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::num::NonZero;

use serde::{Deserialize, Serialize};

use super::Store;
use super::blobs::{Blob, BlobWriter};
use super::disk;
use super::error::Error;
use super::images::{self, Image, LayerRef};
use super::locks::Act;
use crate::event::{Event, Motion, Sink};
use crate::image::{ChainId, Compression, Descriptor, DiffId, Digest, Hashing, Kind, media};
use crate::layer;

/// Kind of the records of layers.
pub(super) const KIND: &str = "layer";
/// Kind of the records of compressed forms.
pub(super) const PACKED: &str = "packed";
/// Records that name a layer by another one and the latest time in it.
const RETIMED: &str = "retimed";
/// An event is worth as many bytes.
const STRIDE: u64 = 1 << 20;

/// What is known of a layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Bytes of the plain tar, once somebody has seen all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    /// The compressed blob it came as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<Descriptor>,
    /// Stacks that have their own tree of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) chains: Vec<ChainId>,
}

impl Store {
    /// Returns what is known of a layer.
    pub(super) fn facts(&self, diff_id: &DiffId) -> Result<Facts, Error> {
        let value = self.records(KIND).get(diff_id.digest())?;
        // A record that does not parse is as good as none.
        Ok(value
            .and_then(|value| serde_json::from_slice(&value).ok())
            .unwrap_or_default())
    }

    /// Changes what is known of a layer.
    pub(super) fn amend(
        &self,
        diff_id: &DiffId,
        change: impl FnOnce(&mut Facts),
    ) -> Result<(), Error> {
        let _lock = self.lock(Act::Facts, diff_id.digest())?;
        let old = self.facts(diff_id)?;
        let mut new = old.clone();
        change(&mut new);
        if new == old {
            return Ok(());
        }
        let value = serde_json::to_vec(&new).expect("numbers and digests are JSON");
        self.records(KIND).put(diff_id.digest(), &value)
    }

    /// Records where a layer can be had from, unless that is known or it is plain anyway.
    pub(super) fn note_origin(&self, layer: &LayerRef) -> Result<(), Error> {
        let plain = layer.descriptor.digest == layer.diff_id.0;
        if plain || self.facts(&layer.diff_id)?.origin.is_some() {
            return Ok(());
        }
        let origin = layer.descriptor.clone();
        self.amend(&layer.diff_id, |facts| {
            facts.origin.get_or_insert(origin);
        })
    }

    /// Returns whether the layer is in the store in a form that any other can be made from.
    pub fn has_layer(&self, diff_id: &DiffId) -> Result<bool, Error> {
        if self.layer_tree(diff_id)?.is_some() || self.blob(diff_id.digest())?.is_some() {
            return Ok(true);
        }
        match self.facts(diff_id)?.origin {
            Some(origin) => Ok(self.blob(&origin.digest)?.is_some()),
            None => Ok(false),
        }
    }

    /// Returns those of `layers` that must be fetched before they can be read.
    pub fn missing_layers(&self, layers: &[LayerRef]) -> Result<Vec<LayerRef>, Error> {
        let mut missing = Vec::new();
        let mut chain: Option<ChainId> = None;
        for layer in layers {
            let here = match &chain {
                Some(below) => below.and(&layer.diff_id),
                None => ChainId(layer.diff_id.0.clone()),
            };
            let there = self.tree_of(&layer.diff_id, &here)?.is_some()
                || self.layer_source(layer)?.is_some();
            if !there && !missing.contains(layer) {
                missing.push(layer.clone());
            }
            chain = Some(here);
        }
        Ok(missing)
    }

    /// Returns the bytes of the layer's plain tar, or `None` when nobody has seen all of it yet.
    pub fn plain_size(&self, diff_id: &DiffId) -> Result<Option<u64>, Error> {
        match disk::size(&self.blob_path(diff_id.digest()))? {
            Some(size) => Ok(Some(size)),
            None => Ok(self.facts(diff_id)?.size),
        }
    }

    /// Returns a blob that holds the layer: plain, as the manifest says, or as it came.
    pub(super) fn layer_source(&self, layer: &LayerRef) -> Result<Option<Blob>, Error> {
        if let Some(blob) = self.blob(layer.diff_id.digest())? {
            return Ok(Some(blob));
        }
        if let Some(blob) = self.blob(&layer.descriptor.digest)? {
            return Ok(Some(blob));
        }
        match self.facts(&layer.diff_id)?.origin {
            Some(origin) => self.blob(&origin.digest),
            None => Ok(None),
        }
    }

    /// Writes the layer's plain tar to `out` and returns its bytes. What was written is right only
    /// if this returns without an error: the diff id is checked at the end.
    pub(super) fn copy_plain(&self, layer: &LayerRef, out: &mut dyn Write) -> Result<u64, Error> {
        if let Some(blob) = self.layer_source(layer)? {
            return self.copy_from_blob(layer, &blob, out);
        }
        let Some(tree) = self.layer_tree(&layer.diff_id)? else {
            return Err(Error::NoLayer {
                diff_id: layer.diff_id.clone(),
            });
        };
        let failed = |source| Error::Layer {
            doing: "encode",
            layer: layer.diff_id.0.clone(),
            source,
        };
        let changes = layer::diff(tree.fd_arc(), None, self.marks()).map_err(failed)?;
        let mut hashing = Hashing::new(out);
        let options = layer::EncodeOptions::default();
        let size = layer::encode(&changes, &options, &mut hashing).map_err(failed)?;
        let got = DiffId(hashing.finish().1);
        if got != layer.diff_id {
            return Err(Error::TreeChanged {
                path: tree.path().to_owned(),
                want: layer.diff_id.clone(),
                got,
            });
        }
        Ok(size)
    }

    /// Reads a layer through and checks that it is what its digest and its diff id say.
    pub fn check_layer(&self, layer: &LayerRef) -> Result<(), Error> {
        let _work = self.work()?;
        self.copy_plain(layer, &mut io::sink()).map(drop)
    }

    fn copy_from_blob(
        &self,
        layer: &LayerRef,
        blob: &Blob,
        out: &mut dyn Write,
    ) -> Result<u64, Error> {
        let mut plain = self.plain_reader(blob)?;
        let copied = io::copy(&mut plain, out);
        let (_, size) = plain.end(self, layer, copied)?;
        Ok(size)
    }

    /// Returns the layer's plain tar as a blob, made when it is missing.
    pub(super) fn plain_blob(&self, layer: &LayerRef) -> Result<Blob, Error> {
        if let Some(blob) = self.blob(layer.diff_id.digest())? {
            return Ok(blob);
        }
        let mut writer = self.blob_writer()?;
        let size = self.copy_plain(layer, &mut writer)?;
        writer.finish_as(layer.diff_id.digest(), size)
    }

    /// Returns the layer's plain tar as a file without a name, for a caller that wants it once.
    pub(super) fn plain_file(&self, diff_id: &DiffId) -> Result<File, Error> {
        let layer = self.layer_ref(diff_id)?;
        if !self.has_layer(diff_id)? {
            return Err(Error::NoBlob {
                digest: diff_id.0.clone(),
            });
        }
        let lease = self.lease()?;
        let path = lease.fresh("plain");
        let mut file = disk::new_file(&path)?;
        disk::remove_file(&path)?;
        self.copy_plain(&layer, &mut file)?;
        file.rewind().map_err(|e| Error::io("read", &path, e))?;
        Ok(file)
    }

    /// Returns the layer as a manifest would name it by what is known here.
    pub(super) fn layer_ref(&self, diff_id: &DiffId) -> Result<LayerRef, Error> {
        let facts = self.facts(diff_id)?;
        let plain = || Descriptor::new(media::LAYER, diff_id.0.clone(), facts.size.unwrap_or(0));
        Ok(LayerRef {
            diff_id: diff_id.clone(),
            descriptor: facts.origin.clone().unwrap_or_else(plain),
        })
    }

    /// Returns the layer with no time later than `latest`, in seconds since 1970: its diff id and
    /// the size of its plain tar. It is made once and remembered.
    pub fn retimed(&self, layer: &LayerRef, latest: i64) -> Result<(DiffId, u64), Error> {
        let _work = self.work()?;
        let key = format!("{} {latest}", layer.diff_id);
        if let Some(value) = self.records(RETIMED).get(key.as_str())?
            && let Ok((diff_id, size)) = serde_json::from_slice::<(DiffId, u64)>(&value)
            && self.has_layer(&diff_id)?
        {
            return Ok((diff_id, size));
        }
        let mut out = layer::Retimer::new(self.blob_writer()?, latest);
        self.copy_plain(layer, &mut out)?;
        let digest = layer.diff_id.digest();
        let failed = |source| Error::from_io("retime", &self.blob_path(digest), source);
        let blob = out.finish().map_err(failed)?.finish()?;
        let made = (DiffId(blob.digest().clone()), blob.size());
        let value = serde_json::to_vec(&made).expect("a digest and a number are JSON");
        let keeps = std::slice::from_ref(&made.0.0);
        self.records(RETIMED)
            .put_keeping(key.as_str(), &value, keeps)?;
        Ok(made)
    }

    /// Returns the layer as a blob compressed in this way, made when it is missing. The same
    /// layer, algorithm, level and encoder give the same blob, which is remembered. Whoever asks
    /// for eStargz wants [`Store::estargz`]: such a blob has a diff id of its own, which stands
    /// in an annotation.
    pub fn layer_blob(
        &self,
        diff_id: &DiffId,
        compression: Compression,
        level: Option<i32>,
        sink: &dyn Sink,
    ) -> Result<Descriptor, Error> {
        let _work = self.work()?;
        let layer = self.layer_ref(diff_id)?;
        if compression == Compression::None {
            let blob = self.plain_blob(&layer)?;
            return Ok(Descriptor::new(
                media::LAYER,
                blob.digest().clone(),
                blob.size(),
            ));
        }
        let key = packed_key(diff_id, compression, level);
        if let Some(value) = self.records(PACKED).get(key.as_str())?
            && let Ok(known) = serde_json::from_slice::<Descriptor>(&value)
            && self.blob(&known.digest)?.is_some()
        {
            return Ok(known);
        }
        let descriptor = match compression {
            Compression::Estargz => self.estargz_blob(&layer, level, sink)?,
            _ => {
                let blob = self.compress(&layer, compression, level, sink)?;
                let media_type = compression.layer_media_type();
                Descriptor::new(media_type, blob.digest().clone(), blob.size())
            }
        };
        let value = serde_json::to_vec(&descriptor).expect("a descriptor is JSON");
        self.records(PACKED)
            .put_keeping(key.as_str(), &value, std::slice::from_ref(&diff_id.0))?;
        Ok(descriptor)
    }

    fn compress(
        &self,
        layer: &LayerRef,
        compression: Compression,
        level: Option<i32>,
        sink: &dyn Sink,
    ) -> Result<Blob, Error> {
        let digest = layer.diff_id.digest();
        let failed =
            |source: io::Error| Error::from_io("compress", &self.blob_path(digest), source);
        let out = self.blob_writer()?;
        let packer = layer::compressor(out, compression, level, threads()).map_err(failed)?;
        let mut progress = Progress {
            inner: packer,
            sink,
            blob: digest,
            done: 0,
            said: 0,
            total: self.plain_size(&layer.diff_id)?,
        };
        self.copy_plain(layer, &mut progress)?;
        let blob = progress.inner.finish().map_err(failed)?.finish()?;
        sink.emit(Event::BlobDone {
            motion: Motion::Compress,
            blob: digest,
        });
        Ok(blob)
    }

    /// Returns the image with its layers in another form, its manifest and missing blobs stored
    /// beside the old. `None` compresses plain layers only, with gzip, and keeps all others as
    /// they came.
    pub fn recompress(
        &self,
        image: &Image,
        compression: Option<Compression>,
        level: Option<i32>,
        sink: &dyn Sink,
    ) -> Result<Image, Error> {
        let _work = self.work()?;
        let wanted = compression.unwrap_or(Compression::Gzip);
        let mut layers = Vec::new();
        for layer in image.layers() {
            let now = layer.descriptor.kind();
            let keep = match compression {
                None => now != Some(Kind::Layer(Compression::None)),
                Some(wanted) => now == Some(Kind::Layer(wanted)) && wanted != Compression::None,
            };
            layers.push(match keep {
                true => layer.descriptor,
                false => self.layer_blob(&layer.diff_id, wanted, level, sink)?,
            });
        }
        if layers == image.manifest.value().layers {
            return Ok(image.clone());
        }
        let other = images::repacked(image, layers)?;
        self.put(other.manifest.bytes())?;
        Ok(other)
    }
}

/// How many threads a layer is packed on.
pub(super) fn threads() -> NonZero<usize> {
    std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

/// Key of a record of a compressed form. Begins with the diff id.
fn packed_key(diff_id: &DiffId, compression: Compression, level: Option<i32>) -> String {
    let name = match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
        Compression::Estargz => "estargz",
    };
    let level = layer::level_of(compression, level);
    format!("{diff_id} {name} {level} v{}", layer::COMPRESSOR_VERSION)
}

/// Passes a layer on to its packer and says how far it is.
struct Progress<'a> {
    inner: layer::Compressor<BlobWriter>,
    sink: &'a dyn Sink,
    blob: &'a Digest,
    done: u64,
    said: u64,
    total: Option<u64>,
}

impl Write for Progress<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.done += n as u64;
        if self.done - self.said >= STRIDE {
            self.said = self.done;
            self.sink.emit(Event::BlobMoved {
                motion: Motion::Compress,
                blob: self.blob,
                done: self.done,
                total: self.total,
            });
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
