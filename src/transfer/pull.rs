//! Brings images into the store.
//!
//! From a registry: name → index → manifest → config → the layers that the store has in no form,
//! several at once, verified while they come. Names are given last, so an image that has a name
//! is whole. An image may be looked at first, and its layers brought when somebody wants them
//! ([`promise`]). With [`Options::unpack`] a layer becomes a tree while later ones still come.

use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::event::{Event, Motion, Sink};
use crate::image::{Descriptor, Digest, Document, MAX_STATEMENT, Reference};
use crate::registry::{self, Reader, Version};
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
    let promised = promise(store, name, options)?;
    promised.keep(store, sink)?;
    Ok(promised.image)
}

/// An image in a registry whose layers have not been asked for. The store does not know it yet.
#[derive(Debug)]
pub struct Promised {
    name: Reference,
    options: Options,
    reader: Reader,
    remote: Remote,
    image: Image,
    kept: Mutex<bool>,
}

/// Reads what the name in a registry leads to, without its layers.
pub fn promise(store: &Store, name: &Reference, options: &Options) -> Result<Promised, Error> {
    let reader = options.network.reader(name)?;
    let platform = options.platform();
    let reading = remote::read(&reader, store, name, &platform);
    let remote = options.network.wait(reading)?;
    let image = Image::new(remote.manifest.clone(), remote.config.clone())?;
    origin::remember(store, name, image.manifest.value().layers.iter())?;
    Ok(Promised {
        name: name.clone(),
        options: options.clone(),
        reader,
        remote,
        image,
        kept: Mutex::default(),
    })
}

impl Promised {
    /// Returns the digest that the name stands for: of an index, if that is what it means.
    pub fn digest(&self) -> Digest {
        top(&self.remote).digest
    }

    /// Returns the image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Brings the layers that the store lacks, and gives the image the name it was asked for by.
    /// Done once, whoever asks again.
    pub fn keep(&self, store: &Store, sink: &dyn Sink) -> Result<(), Error> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept {
            return Ok(());
        }
        let _work = store.work()?;
        self.bring(store, sink)?;
        let (name, top) = (&self.name, top(&self.remote));
        store.tag(&name.with_digest(top.digest.clone()), &top)?;
        if name.digest().is_none() {
            store.tag(name, &top)?;
        }
        store.sync()?;
        *kept = true;
        Ok(())
    }

    /// Brings the image into the store without a name.
    fn bring(&self, store: &Store, sink: &dyn Sink) -> Result<(), Error> {
        if let Some(place) = self.reader.elsewhere() {
            sink.emit(Event::Chosen {
                what: "registry",
                text: &format!("{} is read from {place}", self.name),
            });
        }
        let layers = self.image.layers();
        bring(store, &self.reader, &layers, &self.options, sink)?;
        if self.options.attestations {
            let bringing = bring_attestations(store, &self.reader, &self.remote, sink);
            self.options.network.wait(bringing)?;
        }
        for index in &self.remote.indexes {
            store.put(index.bytes())?;
        }
        store.put_image(&self.remote.manifest, &self.remote.config)?;
        Ok(())
    }
}

/// Brings the image into the store without a name, and returns it.
pub(super) fn fetch_image(
    store: &Store,
    name: &Reference,
    options: &Options,
    sink: &dyn Sink,
) -> Result<Image, Error> {
    let promised = promise(store, name, options)?;
    promised.bring(store, sink)?;
    Ok(promised.image)
}

/// Brings the attestations that the indexes on the way name for the image. One that the registry
/// has not, as when only images were copied there, is left out, as is one that is too large.
async fn bring_attestations(
    store: &Store,
    reader: &Reader,
    remote: &Remote,
    sink: &dyn Sink,
) -> Result<(), Error> {
    let entries = remote
        .indexes
        .iter()
        .flat_map(|index| &index.value().manifests);
    let digest = remote.manifest.digest();
    for entry in entries.filter(|entry| entry.attests().as_ref() == Some(digest)) {
        let manifest = match reader.document(Version::Digest(&entry.digest)).await {
            Ok(Document::Manifest(manifest)) => manifest,
            Ok(Document::Index(_)) | Err(registry::Error::UnknownManifest { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let value = manifest.value();
        let mut blobs = value.layers.clone();
        blobs.push(value.config.clone());
        if blobs.iter().any(|blob| blob.size > MAX_STATEMENT) {
            continue;
        }
        reader.fetch_all(&blobs, store, sink).await?;
        store.put(manifest.bytes())?;
    }
    Ok(())
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
    reader: &Reader,
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
        let fetching = fetch(reader, store, missing, landed, sink);
        let fetched = options.network.wait(fetching);
        let unpacked = unpacking.map(|thread| thread.join().expect("unpacking does not panic"));
        fetched?;
        unpacked.unwrap_or(Ok(()))
    })
}

type Missing<'a> = [(usize, &'a Descriptor)];

async fn fetch(
    reader: &Reader,
    store: &Store,
    missing: &Missing<'_>,
    landed: mpsc::Sender<usize>,
    sink: &dyn Sink,
) -> Result<(), Error> {
    let landed = &landed;
    stream::iter(missing)
        .map(|&(at, blob)| async move {
            reader.fetch(blob, store, sink).await?;
            // Nobody listens when nothing is unpacked, or when unpacking went wrong already.
            let _ = landed.send(at);
            Ok::<_, Error>(())
        })
        .buffer_unordered(reader.parallel())
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
