//! Sends images out of the store.
//!
//! A layer that was pulled goes with its original bytes; one that was made here is compressed
//! now, once, and remembered by the store. Compressing the next layer overlaps with sending the
//! ones before it. The manifest goes last, so that a registry never names what it has not.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::thread;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use crate::event::Sink;
use crate::image::{
    Attestation, Compression, Descriptor, DiffId, Digest, Document, Index, Kind, Manifest, Raw,
    Reference, media,
};
use crate::registry::{Repository, Version};
use crate::store::{Image, Store, index_over};

use super::archive;
use super::error::Error;
use super::options::PushOptions;
use super::origin;
use super::place::Place;

/// Sends `image` to `to` and returns the digest of the manifest that is there now.
pub fn push(
    store: &Store,
    image: &Image,
    to: &Place,
    options: &PushOptions,
    sink: &dyn Sink,
) -> Result<Digest, Error> {
    push_attested(store, image, &[], to, options, sink)
}

/// Sends `image` with what is stated about it, and returns the digest of what is there now: the
/// manifest, or an index over it and the attestations.
pub fn push_attested(
    store: &Store,
    image: &Image,
    attestations: &[Attestation],
    to: &Place,
    options: &PushOptions,
    sink: &dyn Sink,
) -> Result<Digest, Error> {
    let _work = store.work()?;
    match to {
        Place::Registry(name) => push_together(store, image, attestations, name, options, sink),
        other => archive::write(store, image, attestations, other, options, sink),
    }
}

pub(super) fn push_together(
    store: &Store,
    image: &Image,
    attestations: &[Attestation],
    name: &Reference,
    options: &PushOptions,
    sink: &dyn Sink,
) -> Result<Digest, Error> {
    if attestations.is_empty() {
        return push_named(store, image, name, options, sink);
    }
    for attestation in attestations {
        store.put_attestation(attestation)?;
    }
    let mut descriptor = image.descriptor();
    descriptor.platform = Some(image.config.value().platform());
    let index = index_over(descriptor, attestations);
    push_index(store, &index, name, options, sink)
}

fn push_named(
    store: &Store,
    image: &Image,
    name: &Reference,
    options: &PushOptions,
    sink: &dyn Sink,
) -> Result<Digest, Error> {
    let (image, options) = &prepared(store, image, options, sink)?;
    let layers = image.manifest.value().layers.iter();
    let sources = origin::sources(store, name, layers.map(|layer| &layer.digest))?;
    let repository = options.transfer.network.writer(name, &sources)?;
    let mut plan = plan(image, options);
    make_up(store, image, &repository, &mut plan, options)?;
    let sender = Sender {
        store,
        image,
        options,
        sink,
    };
    let layers = sender.send(&repository, plan)?;
    let manifest = manifest(image, layers);
    let document = Document::Manifest(manifest.clone());
    let digest = put(&repository, name, &document, options)?;
    store.put_image(&manifest, &image.config)?;
    store.tag(&name.with_digest(digest.clone()), &document.descriptor())?;
    origin::remember(store, name, manifest.value().layers.iter())?;
    Ok(digest)
}

/// Does before what concerns all layers or the config, and leaves the rest to be done by layer.
fn prepared(
    store: &Store,
    image: &Image,
    options: &PushOptions,
    sink: &dyn Sink,
) -> Result<(Image, PushOptions), Error> {
    let mut rest = options.clone();
    let wanted = options.compression.unwrap_or(Compression::Gzip);
    if options.force {
        bring_back(store, image, options, sink)?;
    }
    let image = match wanted {
        Compression::Estargz => {
            rest.compression = None;
            store.estargz(image, options.level, options.force, sink)?
        }
        _ if options.force => store.recompress(image, Some(wanted), options.level, sink)?,
        _ => image.clone(),
    };
    Ok((image, rest))
}

/// Fetches the layers that are here in no form, so that they can be packed anew, from a repository
/// that is known to hold them. Where none is known or answers, packing says what is missing.
fn bring_back(
    store: &Store,
    image: &Image,
    options: &PushOptions,
    sink: &dyn Sink,
) -> Result<(), Error> {
    let network = &options.transfer.network;
    for layer in store.missing_layers(&image.layers())? {
        for home in origin::homes(store, &layer.descriptor.digest)? {
            let reader = network.reader(&home)?;
            if network
                .wait(reader.fetch(&layer.descriptor, store, sink))
                .is_ok()
            {
                break;
            }
        }
    }
    Ok(())
}

/// Names a document in its repository, by its tag or by its digest only.
fn put(
    repository: &Repository,
    name: &Reference,
    document: &Document,
    options: &PushOptions,
) -> Result<Digest, Error> {
    let descriptor = document.descriptor();
    let version = match options.by_digest {
        true => Version::Digest(&descriptor.digest),
        false => Version::of(name),
    };
    let network = &options.transfer.network;
    network.wait(repository.put_document(version, document))
}

/// Sends an index with every image and attestation below it, and returns the digest of the index
/// that is there now: layers that were made here are compressed, which gives their manifests other
/// digests, and attestations follow those.
///
/// [`store::Error::NoBlob`](crate::store::Error::NoBlob) when the store lacks one of them.
pub fn push_index(
    store: &Store,
    index: &Raw<Index>,
    name: &Reference,
    options: &PushOptions,
    sink: &dyn Sink,
) -> Result<Digest, Error> {
    let _work = store.work()?;
    let by_digest = PushOptions {
        by_digest: true,
        ..options.clone()
    };
    let mut value = index.value().clone();
    let mut sent: HashMap<Digest, Descriptor> = HashMap::new();
    for child in value.manifests.iter_mut().filter(|c| c.attests().is_none()) {
        let image = store.image(&child.digest, &options.transfer.platform())?;
        let digest = push_named(store, &image, name, &by_digest, sink)?;
        let there = store.document(&digest)?.descriptor();
        sent.insert(child.digest.clone(), there.clone());
        (child.media_type, child.digest, child.size) = (there.media_type, there.digest, there.size);
    }
    for child in &mut value.manifests {
        if let Some(target) = child.attests() {
            *child = push_attestation(store, child, sent.get(&target), name, &by_digest, sink)?;
        }
    }
    let index = match value == *index.value() {
        true => index.clone(),
        false => Raw::of(value),
    };
    store.put(index.bytes())?;
    let document = Document::Index(index);
    let repository = options.transfer.network.writer(name, &[])?;
    let digest = put(&repository, name, &document, options)?;
    store.tag(&name.with_digest(digest.clone()), &document.descriptor())?;
    Ok(digest)
}

/// Sends what `entry` names, changed to be about `target` where the image has become that, and
/// returns its new entry.
fn push_attestation(
    store: &Store,
    entry: &Descriptor,
    target: Option<&Descriptor>,
    name: &Reference,
    options: &PushOptions,
    sink: &dyn Sink,
) -> Result<Descriptor, Error> {
    let moved = match (entry.attests(), target) {
        (Some(old), Some(target)) if old != target.digest => {
            let attestation = store.attestation(entry, old)?.about(target);
            store.put_attestation(&attestation)?;
            attestation.entry()
        }
        _ => entry.clone(),
    };
    let document = store.document(&moved.digest)?;
    let Document::Manifest(manifest) = &document else {
        return Err(Error::NotCopied {
            name: name.familiar(),
            media_type: moved.media_type,
        });
    };
    let manifest = manifest.value();
    let mut blobs: Vec<Descriptor> = manifest.layers.clone();
    blobs.push(manifest.config.clone());
    let network = &options.transfer.network;
    let repository = network.writer(name, &[])?;
    network.wait(repository.send_all(&blobs, store, sink))?;
    put(&repository, name, &document, options)?;
    Ok(moved)
}

/// What has to be done for a layer before it can be sent.
#[derive(Debug, PartialEq)]
enum Layer {
    /// Nothing: these bytes.
    Ready(Descriptor),
    /// It exists as a plain tar or tree only.
    Compress(DiffId),
}

/// Decides for each layer, bottom first. Pure.
fn plan(image: &Image, options: &PushOptions) -> Vec<Layer> {
    let diff_ids = &image.config.value().rootfs.diff_ids;
    let layers = &image.manifest.value().layers;
    let plain_wanted = options.compression == Some(Compression::None);
    let decide = |(descriptor, diff_id): (&Descriptor, &DiffId)| {
        let plain = descriptor.kind() == Some(Kind::Layer(Compression::None));
        let ours = plain && descriptor.digest == *diff_id.digest();
        match ours && !plain_wanted {
            true => Layer::Compress(diff_id.clone()),
            false => Layer::Ready(descriptor.clone()),
        }
    };
    layers.iter().zip(diff_ids).map(decide).collect()
}

/// A pulled layer may be here as a tree only. Where the registry has not its bytes either, new
/// ones are made of it.
fn make_up(
    store: &Store,
    image: &Image,
    repository: &Repository,
    plan: &mut [Layer],
    options: &PushOptions,
) -> Result<(), Error> {
    let diff_ids = &image.config.value().rootfs.diff_ids;
    for (layer, diff_id) in plan.iter_mut().zip(diff_ids) {
        let Layer::Ready(descriptor) = layer else {
            continue;
        };
        if descriptor.digest == *diff_id.digest() || store.blob(&descriptor.digest)?.is_some() {
            continue;
        }
        let network = &options.transfer.network;
        let there = network.wait(repository.has_blob(&descriptor.digest))?;
        if !there && store.has_layer(diff_id)? {
            *layer = Layer::Compress(diff_id.clone());
        }
    }
    Ok(())
}

/// Puts the descriptors that were sent into the manifest; one that changes nothing keeps its bytes.
fn manifest(image: &Image, layers: Vec<Descriptor>) -> Raw<Manifest> {
    if image.manifest.value().layers == layers {
        return image.manifest.clone();
    }
    let mut value = image.manifest.value().clone();
    value.layers = layers;
    Raw::of(value)
}

/// Docker's manifests name layers by docker's media types.
fn in_words_of(manifest: &Manifest, mut layer: Descriptor) -> Descriptor {
    if manifest.media_type() == media::DOCKER_MANIFEST {
        layer.media_type = match layer.kind() {
            Some(Kind::Layer(Compression::None)) => media::DOCKER_LAYER.to_owned(),
            Some(Kind::Layer(Compression::Gzip)) => media::DOCKER_LAYER_GZIP.to_owned(),
            _ => layer.media_type,
        };
    }
    layer
}

struct Sender<'a> {
    store: &'a Store,
    image: &'a Image,
    options: &'a PushOptions,
    sink: &'a dyn Sink,
}

impl Sender<'_> {
    /// Sends config and layers, and returns the layers' descriptors, bottom first.
    fn send(&self, repository: &Repository, plan: Vec<Layer>) -> Result<Vec<Descriptor>, Error> {
        let (queue, made) = mpsc::channel(1);
        let config = self.image.manifest.value().config.clone();
        let (ready, rest): (Vec<_>, Vec<_>) = plan
            .into_iter()
            .enumerate()
            .partition(|(_, layer)| matches!(layer, Layer::Ready(_)));
        let mut first: Vec<(Option<usize>, Descriptor)> = vec![(None, config)];
        first.extend(ready.into_iter().filter_map(|(at, layer)| match layer {
            Layer::Ready(descriptor) => Some((Some(at), descriptor)),
            Layer::Compress(_) => None,
        }));
        thread::scope(|scope| {
            let compressing = scope.spawn(|| self.compress(rest, queue));
            let sending = self.send_all(repository, first, made);
            let sent = self.options.transfer.network.wait(sending);
            let compressed = compressing.join().expect("compressing does not panic");
            // When compressing fails the sender merely runs out of layers.
            compressed?;
            sent
        })
    }

    /// Compresses one layer after the other; each is spread over all processors already.
    fn compress(
        &self,
        layers: Vec<(usize, Layer)>,
        queue: mpsc::Sender<(Option<usize>, Descriptor)>,
    ) -> Result<(), Error> {
        let compression = self.options.compression.unwrap_or(Compression::Gzip);
        for (at, layer) in layers {
            let Layer::Compress(diff_id) = layer else {
                continue;
            };
            let level = self.options.level;
            let made = self
                .store
                .layer_blob(&diff_id, compression, level, self.sink)?;
            let made = in_words_of(self.image.manifest.value(), made);
            if queue.blocking_send((Some(at), made)).is_err() {
                // Sending went wrong; it says why itself.
                return Ok(());
            }
        }
        Ok(())
    }

    async fn send_all(
        &self,
        repository: &Repository,
        first: Vec<(Option<usize>, Descriptor)>,
        mut made: mpsc::Receiver<(Option<usize>, Descriptor)>,
    ) -> Result<Vec<Descriptor>, Error> {
        let made = stream::poll_fn(move |context| made.poll_recv(context));
        // An image may hold one layer several times; it is sent once.
        let begun = RefCell::new(HashSet::new());
        let begun = &begun;
        let mut sent: Vec<(usize, Descriptor)> = stream::iter(first)
            .chain(made)
            .map(|(at, blob)| async move {
                if begun.borrow_mut().insert(blob.digest.clone()) {
                    repository.send(&blob, self.store, self.sink).await?;
                }
                Ok::<_, Error>(at.map(|at| (at, blob)))
            })
            .buffer_unordered(repository.parallel())
            .try_filter_map(|layer| async move { Ok(layer) })
            .try_collect()
            .await?;
        sent.sort_by_key(|(at, _)| *at);
        Ok(sent.into_iter().map(|(_, layer)| layer).collect())
    }
}
