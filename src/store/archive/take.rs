//! Takes blobs and layers of an archive into the store, hashing both sides of a compressed layer
//! in one pass.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{Event, Motion, Sink};
use crate::image::{Compression, Descriptor, DiffId, Digest, Hashing, Mismatch, media};
use crate::layer::{self, Format};

use super::super::Store;
use super::super::blobs::{Blob, BlobWriter};
use super::super::disk;
use super::super::error::Error;
use super::super::images::LayerRef;
use super::super::import::peek;
use super::source::{Member, Source};

/// Bytes of a plain layer between two events.
const STRIDE: u64 = 1 << 20;

/// Takes a blob that the archive must have under its digest.
pub(super) fn blob(store: &Store, source: &dyn Source, want: &Descriptor) -> Result<Blob, Error> {
    if let Some(blob) = store.blob(&want.digest)? {
        return Ok(blob);
    }
    let member = source.need(&path_of(&want.digest))?;
    if member.size != want.size {
        return Err(wrong_size(want, &member));
    }
    let mut writer = store.blob_writer()?;
    let copied = io::copy(&mut member.open(), &mut writer);
    copied.map_err(|e| Error::from_io("read", source.path(), e))?;
    writer.finish_as(&want.digest, want.size)
}

/// Returns where a layout keeps a blob.
pub(super) fn path_of(digest: &Digest) -> String {
    format!("blobs/{}", digest.as_str().replacen(':', "/", 1))
}

fn wrong_size(want: &Descriptor, member: &Member) -> Error {
    let mut hashing = Hashing::new(member.open());
    match disk::drain(&mut hashing) {
        Ok(size) => Error::Corrupt(Mismatch {
            want: want.digest.clone(),
            got: hashing.finish().1,
            size,
        }),
        Err(source) => Error::Stream {
            doing: "read",
            what: format!("blob {}", want.digest),
            source,
        },
    }
}

/// Takes a layer of a layout, unless the store has it and has seen what it unpacks to.
pub(super) fn layer(
    store: &Store,
    source: &dyn Source,
    layer: &LayerRef,
    sink: &dyn Sink,
) -> Result<(), Error> {
    let digest = &layer.descriptor.digest;
    let facts = store.facts(&layer.diff_id)?;
    let seen = *digest == layer.diff_id.0
        || (facts.size.is_some() && facts.origin.is_some_and(|o| o.digest == *digest));
    if seen && store.blob(digest)?.is_some() {
        sink.emit(Event::BlobKnown {
            motion: Motion::Pull,
            blob: digest,
        });
        return Ok(());
    }
    let member = source.need(&path_of(digest))?;
    if member.size != layer.descriptor.size {
        return Err(wrong_size(&layer.descriptor, &member));
    }
    let taken = stream(store, source, &member, Some(digest), &layer.diff_id, sink)?;
    if taken.digest != layer.diff_id.0 {
        let size = taken.plain_size;
        store.amend(&layer.diff_id, |facts| {
            facts.size = Some(size);
            facts.origin = Some(layer.descriptor.clone());
        })?;
    }
    Ok(())
}

/// Takes a layer that is only known by its diff id, as docker archives have them, and returns its
/// descriptor. One in a compression that layers cannot have is kept plain.
pub(super) fn bare_layer(
    store: &Store,
    source: &dyn Source,
    member: &Member,
    diff_id: &DiffId,
    sink: &dyn Sink,
) -> Result<Descriptor, Error> {
    let plain = |size| Descriptor::new(media::LAYER, diff_id.0.clone(), size);
    if let Some(blob) = store.blob(diff_id.digest())? {
        sink.emit(Event::BlobKnown {
            motion: Motion::Pull,
            blob: diff_id.digest(),
        });
        return Ok(plain(blob.size()));
    }
    let taken = stream(store, source, member, None, diff_id, sink)?;
    let Some(compression) = taken.compression else {
        return Ok(plain(taken.plain_size));
    };
    let media_type = compression.layer_media_type();
    let descriptor = Descriptor::new(media_type, taken.digest, taken.size);
    let (origin, size) = (descriptor.clone(), taken.plain_size);
    store.amend(diff_id, |facts| {
        facts.size = Some(size);
        facts.origin = Some(origin);
    })?;
    Ok(descriptor)
}

/// A layer that was taken.
struct Taken {
    digest: Digest,
    size: u64,
    plain_size: u64,
    /// `None`: it was kept plain.
    compression: Option<Compression>,
}

fn stream(
    store: &Store,
    source: &dyn Source,
    member: &Member,
    want: Option<&Digest>,
    diff_id: &DiffId,
    sink: &dyn Sink,
) -> Result<Taken, Error> {
    let shown = want.unwrap_or(diff_id.digest());
    let read = |e| Error::from_io("read", source.path(), e);
    let (prefix, whole) = peek(member.open()).map_err(read)?;
    let format = layer::sniff(&prefix);
    let compression = match format {
        Format::Gzip => Some(Compression::Gzip),
        Format::Zstd => Some(Compression::Zstd),
        _ => None,
    };
    // Kept as it is: compressed as a layer may be, or under a digest that says so.
    let keep_packed = compression.is_some() || want.is_some();
    let writer = Arc::new(Mutex::new(Some(store.blob_writer()?)));
    let packed = Tee {
        inner: whole,
        writer: keep_packed.then(|| writer.clone()),
    };
    let mut plain = Hashing::new(layer::decompress(format, packed));
    let mut keep = |bytes: &[u8]| match keep_packed {
        true => Ok(()),
        false => write_shared(&writer, bytes),
    };
    let outcome = pass_on(&mut plain, &mut keep, shown, sink);
    let (unpacker, got, plain_size) = plain.finish();
    drop(unpacker);
    let writer = writer.lock().unwrap_or_else(PoisonError::into_inner).take();
    let writer = writer.expect("the writer is taken out once, here");
    if let Err(e) = outcome {
        return Err(damaged(source, member, want, e));
    }
    let blob = finish(writer, member, want)?;
    let got = DiffId(got);
    if got != *diff_id {
        return Err(Error::DiffId {
            layer: blob.digest().clone(),
            want: diff_id.clone(),
            got,
        });
    }
    sink.emit(Event::BlobDone {
        motion: Motion::Pull,
        blob: shown,
    });
    Ok(Taken {
        digest: blob.digest().clone(),
        size: blob.size(),
        plain_size,
        compression: compression.filter(|_| keep_packed),
    })
}

/// Reads `plain` to its end, hands on what it gives and says how far it is.
fn pass_on(
    plain: &mut dyn Read,
    keep: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    shown: &Digest,
    sink: &dyn Sink,
) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    let (mut done, mut said) = (0, 0);
    loop {
        let n = match plain.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        keep(&buffer[..n])?;
        done += n as u64;
        if done - said >= STRIDE {
            said = done;
            sink.emit(Event::BlobMoved {
                motion: Motion::Pull,
                blob: shown,
                done,
                total: None,
            });
        }
    }
}

/// Finishes the blob. Packed bytes behind the end of the stream were not read by the unpacker and
/// belong to it all the same.
fn finish(mut writer: BlobWriter, member: &Member, want: Option<&Digest>) -> Result<Blob, Error> {
    let Some(want) = want else {
        return writer.finish();
    };
    let mut all = member.open();
    let skip = io::copy(
        &mut Read::by_ref(&mut all).take(writer.size()),
        &mut io::sink(),
    );
    let rest = skip.and_then(|_| io::copy(&mut all, &mut writer));
    rest.map_err(|source| Error::Stream {
        doing: "read",
        what: format!("blob {want}"),
        source,
    })?;
    writer.finish_as(want, member.size)
}

/// Tells a layer that is not what its digest says from one that was made wrong.
fn damaged(source: &dyn Source, member: &Member, want: Option<&Digest>, error: io::Error) -> Error {
    let ours = error.get_ref().is_some_and(|inner| inner.is::<Error>());
    if let (Some(want), false) = (want, ours) {
        let mut hashing = Hashing::new(member.open());
        if let Ok(size) = disk::drain(&mut hashing) {
            let got = hashing.finish().1;
            if got != *want {
                return Error::Corrupt(Mismatch {
                    want: want.clone(),
                    got,
                    size,
                });
            }
        }
    }
    Error::from_io("read a layer of", source.path(), error)
}

fn write_shared(writer: &Mutex<Option<BlobWriter>>, bytes: &[u8]) -> io::Result<()> {
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    match writer.as_mut() {
        Some(writer) => writer.write_all(bytes),
        None => Ok(()),
    }
}

/// Copies what is read into a blob.
struct Tee {
    inner: Box<dyn Read + Send>,
    writer: Option<Arc<Mutex<Option<BlobWriter>>>>,
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if let Some(writer) = &self.writer {
            write_shared(writer, &buffer[..n])?;
        }
        Ok(n)
    }
}
