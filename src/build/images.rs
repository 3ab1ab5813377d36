//! Gets the images that stages start from: from the store, or from their registry.
//!
//! Of an image that the store has not got only manifest and config come at first. Its layers come,
//! and it is named, when a step reads them or the result holds them: a build whose steps are all
//! known needs no more.

use std::sync::Arc;

use crate::dockerfile::Span;
use crate::event::Sink;
use crate::image::{Config, Digest, Platform, Reference};
use crate::store::{Found, Image, LayerRef, Store};
use crate::transfer::{self, Promised, Source};

use super::commit::{Built, Layer};
use super::error::StepError;
use super::request::{Pull, Request};
use super::step::ImageNeed;

/// An image that stages start from or copy from.
#[derive(Debug, Clone)]
pub(super) struct BaseImage {
    reference: Reference,
    digest: Digest,
    platform: Platform,
    image: Image,
    layers: Vec<Layer>,
    /// Where the layers are, if they are not here.
    promised: Option<Arc<Promised>>,
    /// Where the Dockerfile first names it.
    span: Span,
}

impl BaseImage {
    fn new(need: &ImageNeed, digest: Digest, image: &Image) -> Self {
        let diff_ids = &image.config.value().rootfs.diff_ids;
        let descriptors = &image.manifest.value().layers;
        let layer = |(diff_id, descriptor): (&_, &_)| Layer {
            diff_id: Clone::clone(diff_id),
            descriptor: Clone::clone(descriptor),
        };
        let layers = diff_ids.iter().zip(descriptors).map(layer).collect();
        Self {
            reference: need.reference.clone(),
            digest,
            platform: need.platform.clone(),
            image: image.clone(),
            layers,
            promised: None,
            span: need.span,
        }
    }

    /// Returns the image, which the store has then.
    pub(super) fn into_image(self, store: &Store, sink: &dyn Sink) -> Result<Image, StepError> {
        self.keep(store, sink)?;
        Ok(self.image)
    }

    /// Brings the image if it is not here.
    fn keep(&self, store: &Store, sink: &dyn Sink) -> Result<(), StepError> {
        let Some(promised) = &self.promised else {
            return Ok(());
        };
        let kept = promised.keep(store, sink);
        kept.map_err(|source| StepError::Image {
            reference: Box::new(self.reference.clone()),
            source,
        })
    }

    /// Brings the image if it has any of those of `layers` that are not here.
    pub(super) fn supply(
        &self,
        store: &Store,
        layers: &[LayerRef],
        sink: &dyn Sink,
    ) -> Result<(), StepError> {
        let own = |layer: &LayerRef| self.layers.iter().any(|own| own.diff_id == layer.diff_id);
        // One that the store has already is no reason: bases share layers.
        match self.promised.is_some() && store.missing_layers(layers)?.iter().any(own) {
            true => self.keep(store, sink),
            false => Ok(()),
        }
    }

    /// Returns its name.
    pub(super) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Returns where the Dockerfile first names it.
    pub(super) fn span(&self) -> Span {
        self.span
    }

    /// Returns the digest that its name stands for: of an index, if that is what it means.
    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the platform that it was wanted for.
    pub(super) fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Returns its config.
    pub(super) fn config(&self) -> &Config {
        self.image.config.value()
    }

    /// Returns its layers, bottom first.
    pub(super) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Returns a stage that has done nothing yet on top of this image.
    pub(super) fn built(&self) -> Built {
        Built {
            base: Some(self.image.config.value().clone()),
            layers: self.layers.clone(),
            base_layers: self.layers.len(),
            history: Vec::new(),
            known: Vec::new(),
            top: None,
        }
    }
}

/// Gets an image that a stage needs.
///
/// A local image answers before the network, unless `--pull` says otherwise; names below
/// `localhost/` never go to the network.
pub(super) fn resolve(
    store: &Store,
    request: &Request,
    need: &ImageNeed,
    sink: &dyn Sink,
) -> Result<BaseImage, StepError> {
    let need = &ImageNeed {
        reference: match need.layout {
            None => request.policy.image(&need.reference)?,
            Some(_) => need.reference.clone(),
        },
        ..need.clone()
    };
    let (reference, platform) = (&need.reference, &need.platform);
    if let Some(layout) = &need.layout {
        let image = pull(store, request, layout, need, sink)?;
        let digest = image.manifest.digest().clone();
        return Ok(BaseImage::new(need, digest, &image));
    }
    let (local, other) = match store.find(&reference.full(), platform)? {
        Found::Image(image) => (Some(image), None),
        // Where nobody asked for a platform, one that there is will do. The linter tells of it.
        Found::OtherPlatform(image) if is_open(request, platform) => (None, Some(image)),
        Found::OtherPlatform(_) | Found::Nothing { .. } => (None, None),
    };
    let boxed = || Box::new(reference.clone());
    let wants_network = match request.pull {
        Pull::Missing => local.is_none(),
        Pull::Always | Pull::Newer => true,
        Pull::Never => false,
    };
    let image = match (wants_network && !reference.is_local_only(), local) {
        (false, Some(image)) => image,
        (false, None) => match other {
            Some(image) => image,
            None if reference.is_local_only() => {
                return Err(StepError::NoLocalImage { reference: boxed() });
            }
            None => return Err(StepError::NotPulled { reference: boxed() }),
        },
        (true, None) if request.pull != Pull::Newer => {
            match (promise(store, request, need, sink), other) {
                (Err(_), Some(image)) if request.pull == Pull::Missing => image,
                (promised, _) => return promised,
            }
        }
        (true, local) => {
            let source = Source::Registry(reference.clone());
            match (pull(store, request, &source, need, sink), local) {
                (Ok(image), _) => image,
                (Err(_), Some(image)) if request.pull == Pull::Newer => image,
                (Err(error), _) => return Err(error),
            }
        }
    };
    let named = store.resolve(&reference.full())?;
    let digest = match named {
        Some(named) => named.descriptor.digest,
        None => image.manifest.digest().clone(),
    };
    Ok(BaseImage::new(need, digest, &image))
}

/// Looks at an image of a registry. Its layers come later, unless they are all here.
fn promise(
    store: &Store,
    request: &Request,
    need: &ImageNeed,
    sink: &dyn Sink,
) -> Result<BaseImage, StepError> {
    let failed = |source| StepError::Image {
        reference: Box::new(need.reference.clone()),
        source,
    };
    let options = options(request, need);
    let promised = transfer::promise(store, &need.reference, &options).map_err(failed)?;
    let mut base = BaseImage::new(need, promised.digest(), promised.image());
    match store.missing_layers(&promised.image().layers())?.is_empty() {
        true => promised.keep(store, sink).map_err(failed)?,
        false => base.promised = Some(Arc::new(promised)),
    }
    Ok(base)
}

fn options(request: &Request, need: &ImageNeed) -> transfer::Options {
    transfer::Options {
        platform: Some(need.platform.clone()),
        ..request.transfer.clone()
    }
}

fn pull(
    store: &Store,
    request: &Request,
    from: &Source,
    need: &ImageNeed,
    sink: &dyn Sink,
) -> Result<Image, StepError> {
    let options = options(request, need);
    transfer::pull(store, from, &options, sink).map_err(|source| StepError::Image {
        reference: Box::new(need.reference.clone()),
        source,
    })
}

/// Whether `platform` is only what goes without saying.
fn is_open(request: &Request, platform: &Platform) -> bool {
    request.platforms.is_empty() && *platform == Platform::host()
}
