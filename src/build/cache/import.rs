//! `--cache-from`: what other builds have done, and the layers they made.
//!
//! Reading a cache brings its records only. A layer comes when a step reads it or the result holds
//! it, and is held against its digest and its diff id before anybody relies on it. A cache that
//! can't be read is a warning. A layer that can't be had, or is not what its record says, is
//! *refused*: the plan runs again without it, and its step runs for real.
//!
//! A record may come without a layer (`mode=min`): that is enough where nobody reads the layer,
//! and else it is refused in the same way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::event::{Event, Sink};
use crate::image::{Descriptor, DiffId, Digest};
use crate::store::{self, LayerRef, Store};
use crate::transfer::{CachePart, CachePlace};

use super::super::error;
use super::super::key::{Inputs, StepKey};
use super::super::request::Request;
use super::Made;
use super::format::{self, INLINE, Offered};

/// All that the caches of a build offer. Of two that know the same, the first counts.
#[derive(Debug, Default)]
pub(in crate::build) struct Imports {
    places: Vec<CachePlace>,
    steps: HashMap<Digest, Made>,
    answers: HashMap<Digest, Digest>,
    layers: HashMap<DiffId, Offer>,
    state: Mutex<State>,
    bringing: Mutex<()>,
}

/// A layer that can be had.
#[derive(Debug)]
struct Offer {
    /// From which of the places.
    place: usize,
    descriptor: Descriptor,
}

#[derive(Debug, Default)]
struct State {
    /// Layers that turned out not to be had.
    refused: HashSet<DiffId>,
    /// Layers that are what they should be.
    sound: HashSet<DiffId>,
    /// What steps of this build took.
    taken: Vec<(StepKey, Inputs, Made)>,
}

impl Imports {
    /// Reads the caches that were named, unless no result of others counts anyway.
    pub(in crate::build) fn read(request: &Request, sink: &dyn Sink) -> Self {
        let places: &[CachePlace] = match request.no_cache {
            true => &[],
            false => &request.cache_from,
        };
        let mut imports = Self {
            places: places.to_vec(),
            ..Self::default()
        };
        for (at, place) in places.iter().enumerate() {
            match place.read() {
                Ok(parts) => imports.add_all(at, parts, sink),
                Err(error) => {
                    let why = reasons(&error);
                    let text = format!("the cache `{place}` is not imported: {why}");
                    sink.emit(Event::Warning { text: &text });
                }
            }
        }
        imports
    }

    fn add_all(&mut self, place: usize, parts: Vec<CachePart>, sink: &dyn Sink) {
        let mut found = false;
        for part in parts {
            let offered = match part {
                CachePart::Config(config) => format::read_alone(&config),
                CachePart::Cache { config, layers } => format::read(&config, &layers),
                CachePart::Image { config, layers } => {
                    let carried = config.value().rest.get(INLINE);
                    let diff_ids = config.value().rootfs.diff_ids.len();
                    carried
                        .filter(|_| diff_ids == layers.len())
                        .and_then(|carried| format::read_inline(carried, &layers))
                }
            };
            if let Some(offered) = offered {
                found |= !offered.contents.steps.is_empty();
                self.add(place, offered);
            }
        }
        if !found {
            let text = format!(
                "the cache `{}` holds nothing that this program wrote",
                self.places[place]
            );
            sink.emit(Event::Warning { text: &text });
        }
    }

    fn add(&mut self, place: usize, offered: Offered) {
        for LayerRef {
            diff_id,
            descriptor,
        } in offered.layers
        {
            self.layers
                .entry(diff_id)
                .or_insert(Offer { place, descriptor });
        }
        for (key, made) in offered.contents.steps {
            // One whose layer can be had is worth more than one without.
            let better = self.layers.contains_key(&made.diff_id);
            let worse = |old: &Made| !self.layers.contains_key(&old.diff_id);
            if self
                .steps
                .get(&key.0)
                .is_none_or(|old| better && worse(old))
            {
                self.steps.insert(key.0, made);
            }
        }
        for (question, answer) in offered.contents.answers {
            self.answers.entry(question).or_insert(answer);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what another build of the same step made, with the descriptor of its layer if that
    /// can be had.
    pub(in crate::build) fn find(&self, key: &StepKey) -> Option<(Made, Option<Descriptor>)> {
        let made = self.steps.get(&key.0)?;
        if self.state().refused.contains(&made.diff_id) {
            return None;
        }
        let offer = self.layers.get(&made.diff_id);
        Some((made.clone(), offer.map(|offer| offer.descriptor.clone())))
    }

    /// Returns what a selection of files hashes to.
    pub(in crate::build) fn answer(&self, question: &Digest) -> Option<Digest> {
        self.answers.get(question).cloned()
    }

    /// Returns whether the layer can be had.
    pub(super) fn offers(&self, diff_id: &DiffId) -> bool {
        self.layers.contains_key(diff_id) && !self.state().refused.contains(diff_id)
    }

    /// Whether some record named this layer.
    fn names(&self, diff_id: &DiffId) -> bool {
        self.layers.contains_key(diff_id)
            || self.steps.values().any(|made| made.diff_id == *diff_id)
    }

    /// Brings those of `layers` that the store lacks and a cache has. [`error::Error::Absent`] when
    /// one that came from a cache can't be had.
    pub(in crate::build) fn supply(
        &self,
        store: &Store,
        layers: &[LayerRef],
        sink: &dyn Sink,
    ) -> Result<(), error::Error> {
        if self.steps.is_empty() {
            return Ok(());
        }
        // Two stages that want one layer bring it once.
        let _one = self.bringing.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = store.missing_layers(layers)?;
        let mut wanted: BTreeMap<usize, Vec<LayerRef>> = BTreeMap::new();
        let mut lost = Vec::new();
        for layer in missing {
            match self.layers.get(&layer.diff_id) {
                Some(offer) if self.offers(&layer.diff_id) => {
                    let descriptor = offer.descriptor.clone();
                    wanted.entry(offer.place).or_default().push(LayerRef {
                        descriptor,
                        ..layer
                    });
                }
                // A base image's own layer, which is no affair of ours.
                None if !self.names(&layer.diff_id) => {}
                _ => lost.push(layer.diff_id),
            }
        }
        if !lost.is_empty() {
            return Err(error::Error::Absent { layers: lost });
        }
        for (place, layers) in wanted {
            if let Err(error) = self.places[place].bring(store, &layers, sink) {
                self.tell(place, &reasons(&error), sink);
                let lost = store.missing_layers(&layers)?;
                // The store may hold a blob that proved wrong: then all are suspects.
                let lost = if lost.is_empty() { layers } else { lost };
                let layers = lost.into_iter().map(|layer| layer.diff_id).collect();
                return Err(error::Error::Absent { layers });
            }
        }
        Ok(())
    }

    /// Reads through those of `layers` that came from a cache and that nobody has unpacked yet.
    /// [`error::Error::Absent`] when one is not what its record says.
    pub(in crate::build) fn check(
        &self,
        store: &Store,
        layers: &[LayerRef],
        sink: &dyn Sink,
    ) -> Result<(), error::Error> {
        for layer in layers {
            let diff_id = &layer.diff_id;
            let Some(offer) = self.layers.get(diff_id) else {
                continue;
            };
            {
                let state = self.state();
                // What was given up is the store's own by now, made by its step.
                if state.sound.contains(diff_id) || state.refused.contains(diff_id) {
                    continue;
                }
            }
            if store.plain_size(diff_id)?.is_none()
                && let Err(error) = store.check_layer(layer)
            {
                self.tell(offer.place, &reasons(&error), sink);
                let layers = vec![diff_id.clone()];
                return Err(error::Error::Absent { layers });
            }
            let size = store.plain_size(diff_id)?;
            let of_layer = self.steps.values().filter(|made| made.diff_id == *diff_id);
            if let Some(made) = of_layer.into_iter().find(|made| Some(made.size) != size) {
                let why = format!("it has other than the {} bytes of its record", made.size);
                self.tell(offer.place, &why, sink);
                let layers = vec![diff_id.clone()];
                return Err(error::Error::Absent { layers });
            }
            self.state().sound.insert(diff_id.clone());
        }
        Ok(())
    }

    /// Notes that a step takes what another build made.
    pub(in crate::build) fn take(&self, key: &StepKey, inputs: &Inputs, made: &Made) {
        let taken = (key.clone(), inputs.clone(), made.clone());
        self.state().taken.push(taken);
    }

    /// Makes what was taken and proved sound the store's own.
    pub(in crate::build) fn remember(
        &self,
        store: &Store,
        now: SystemTime,
    ) -> Result<(), store::Error> {
        let mut state = self.state();
        let taken = std::mem::take(&mut state.taken);
        for (key, inputs, made) in &taken {
            if state.sound.contains(&made.diff_id) {
                super::remember(store, key, inputs, made, now)?;
            }
        }
        Ok(())
    }

    fn tell(&self, place: usize, why: &str, sink: &dyn Sink) {
        let place = &self.places[place];
        let text = format!("a layer of the cache `{place}` is refused: {why}");
        sink.emit(Event::Warning { text: &text });
    }

    /// Gives up `layers`. Returns whether that changes anything.
    pub(in crate::build) fn refuse(&self, layers: &[DiffId]) -> bool {
        let mut state = self.state();
        let mut changed = false;
        for layer in layers {
            changed |= state.refused.insert(layer.clone());
        }
        changed
    }
}

/// An error with what it came from, as one text.
fn reasons(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::media;

    fn offered(key: &str, plain: &str, has_layer: bool) -> Offered {
        let diff_id = DiffId(Digest::of(plain.as_bytes()));
        let made = Made {
            diff_id: diff_id.clone(),
            size: 512,
            created: "2020-01-02T03:04:05Z".to_owned(),
        };
        let mut offered = Offered::default();
        let key = StepKey(Digest::of(key.as_bytes()));
        offered.contents.steps.push((key, made));
        if has_layer {
            let descriptor = Descriptor::new(media::LAYER_GZIP, Digest::of(b"packed"), 3);
            offered.layers.push(LayerRef {
                diff_id,
                descriptor,
            });
        }
        offered
    }

    #[test]
    fn the_first_cache_with_a_layer_counts() {
        let mut imports = Imports::default();
        imports.add(0, offered("k", "hollow", false));
        imports.add(1, offered("k", "full", true));
        imports.add(2, offered("k", "other", true));
        let key = StepKey(Digest::of(b"k"));
        let (made, layer) = imports.find(&key).unwrap();
        assert_eq!(made.diff_id.0, Digest::of(b"full"));
        assert!(layer.is_some());
        let layers = [made.diff_id];
        assert!(imports.refuse(&layers));
        assert!(!imports.refuse(&layers), "nothing new");
        assert_eq!(imports.find(&key), None);
    }
}
