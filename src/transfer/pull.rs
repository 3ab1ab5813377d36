//! Brings images into the store.
//!
//! From a registry: name → index → manifest → config → the layers that the store has in no form,
//! several at once, verified while they come. Names are given last, so an image that has a name
//! is whole. With [`Options::unpack`] a layer becomes a tree while later ones still come.

use std::sync::mpsc;
use std::thread;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::event::{Event, Motion, Sink};
use crate::image::{Descriptor, Document, Reference};
use crate::registry::Repository;
use crate::store::{Image, LayerRef, Store};

use super::archive;
use super::error::Error;
use super::options::Options;
use super::origin;
use super::place::Place;
use super::remote::{self, Remote};

/// Brings the image at `from` into the store and returns it. An image from a registry gets the
/// name it was asked for by; one from an archive the names it has there.
pub fn pull(
    store: &Store,
    from: &Place,
    options: &Options,
    sink: &dyn Sink,
) -> Result<Image, Error> {
    let _work = store.work()?;
    match from {
        Place::Registry(name) => pull_named(store, name, options, sink),
        other => archive::read(store, other, options, sink),
    }
}

fn pull_named(
    store: &Store,
    name: &Reference,
    options: &Options,
    sink: &dyn Sink,
) -> Result<Image, Error> {
    let (image, top) = fetch_image(store, name, options, sink)?;
    store.sync()?;
    let pinned = name.with_digest(top.digest.clone());
    store.tag(&pinned, &top)?;
    if name.digest().is_none() {
        store.tag(name, &top)?;
    }
    origin::remember(store, name, image.manifest.value().layers.iter())?;
    Ok(image)
}

/// Brings the image into the store without a name, and returns it with what the name means.
pub(super) fn fetch_image(
    store: &Store,
    name: &Reference,
    options: &Options,
    sink: &dyn Sink,
) -> Result<(Image, Descriptor), Error> {
    let repository = options.network.reader(name)?;
    let platform = options.platform();
    let reading = remote::read(&repository, store, name, &platform);
    let remote = options.network.wait(reading)?;
    bring(store, &repository, &layers(&remote), options, sink)?;
    for index in &remote.indexes {
        store.put(index.bytes())?;
    }
    let image = store.put_image(&remote.manifest, &remote.config)?;
    Ok((image, top(&remote)))
}

fn layers(remote: &Remote) -> Vec<LayerRef> {
    let diff_ids = &remote.config.value().rootfs.diff_ids;
    let descriptors = &remote.manifest.value().layers;
    let layer = |(diff_id, descriptor): (&_, &Descriptor)| LayerRef {
        diff_id: Clone::clone(diff_id),
        descriptor: descriptor.clone(),
    };
    diff_ids.iter().zip(descriptors).map(layer).collect()
}

/// What the name means: the outermost document, so that a later look at the registry can be
/// compared with it.
fn top(remote: &Remote) -> Descriptor {
    match remote.indexes.first() {
        Some(index) => Document::Index(index.clone()).descriptor(),
        None => Document::Manifest(remote.manifest.clone()).descriptor(),
    }
}

/// Brings the layers that are missing, and unpacks all when that is wanted.
fn bring(
    store: &Store,
    repository: &Repository,
    layers: &[LayerRef],
    options: &Options,
    sink: &dyn Sink,
) -> Result<(), Error> {
    let absent = store.missing_layers(layers)?;
    let mut missing: Vec<(usize, &Descriptor)> = Vec::new();
    for (at, LayerRef { descriptor, .. }) in layers.iter().enumerate() {
        if !absent
            .iter()
            .any(|layer| layer.descriptor.digest == descriptor.digest)
        {
            sink.emit(Event::BlobKnown {
                motion: Motion::Pull,
                blob: &descriptor.digest,
            });
        } else if !missing
            .iter()
            .any(|(_, other)| other.digest == descriptor.digest)
        {
            // A layer that is there several times comes once, for the lowest.
            missing.push((at, descriptor));
        }
    }
    let missing = missing.as_slice();
    thread::scope(|scope| {
        let (landed, landing) = mpsc::channel();
        let unpacking = options
            .unpack
            .then(|| scope.spawn(move || unpack(store, layers, missing, landing, sink)));
        let fetching = fetch(repository, store, missing, landed, sink);
        let fetched = options.network.wait(fetching);
        let unpacked = unpacking.map(|thread| thread.join().expect("unpacking does not panic"));
        fetched?;
        unpacked.unwrap_or(Ok(()))
    })
}

type Missing<'a> = [(usize, &'a Descriptor)];

async fn fetch(
    repository: &Repository,
    store: &Store,
    missing: &Missing<'_>,
    landed: mpsc::Sender<usize>,
    sink: &dyn Sink,
) -> Result<(), Error> {
    let landed = &landed;
    stream::iter(missing)
        .map(|&(at, blob)| async move {
            repository.fetch(blob, store, sink).await?;
            // Nobody listens when nothing is unpacked, or when unpacking went wrong already.
            let _ = landed.send(at);
            Ok::<_, Error>(())
        })
        .buffer_unordered(repository.parallel())
        .try_collect()
        .await
}

/// Makes trees of all layers below the first one that has not come yet, until all have.
fn unpack(
    store: &Store,
    layers: &[LayerRef],
    missing: &Missing<'_>,
    landing: mpsc::Receiver<usize>,
    sink: &dyn Sink,
) -> Result<(), Error> {
    let mut waiting: Vec<usize> = missing.iter().map(|(at, _)| *at).collect();
    let mut made = 0;
    loop {
        let ready = waiting.iter().min().copied().unwrap_or(layers.len());
        if ready > made {
            store.trees(&layers[..ready], sink)?;
            made = ready;
        }
        if made == layers.len() {
            return Ok(());
        }
        // The sender goes when a layer could not be fetched; that error is told by its side.
        let Ok(at) = landing.recv() else {
            return Ok(());
        };
        waiting.retain(|&other| other != at);
        for at in landing.try_iter() {
            waiting.retain(|&other| other != at);
        }
    }
}
