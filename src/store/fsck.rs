//! Verifies all that the store holds, and repairs what can be repaired.
//!
//! Blobs are hashed, names, records and pins held against their frames, trees against the layers
//! they stand for, and every image is followed down to its layers. It runs beside builds: nothing
//! is deleted by others meanwhile, and what they add is whole when it appears.
//!
//! A repair only takes away what is damaged, so that nobody is served it: a blob is fetched again,
//! a tree is made again from its blob, a step runs again. An image that lost a layer which only a
//! build can make goes with its names. Nothing whole is ever touched.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::Store;
use super::disk;
use super::error::Error;
use super::frame;
use super::images::LayerRef;
use super::records;
use super::trees;
use crate::event::{Event, Sink};
use crate::image::{DiffId, Digest, Hasher, ImageId, Reference};
use crate::layer::{self, Stack};

/// What is wrong with a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// The bytes of a blob are not the ones of its name.
    Blob(Digest),
    /// The file of a name is torn.
    TornName(PathBuf),
    /// A name points to nothing.
    LostName(Reference),
    /// The file of a record is torn.
    Record(PathBuf),
    /// A tree is not what its layer says.
    Tree(DiffId),
    /// An image has no readable manifest or config.
    Image(ImageId),
    /// An image lacks a layer that no registry has.
    Layer {
        /// The image.
        image: ImageId,
        /// The layer.
        layer: DiffId,
    },
    /// What a container needs can't be read, so nothing keeps it.
    Pins(String),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(digest) => write!(f, "blob {digest} is corrupt"),
            Self::TornName(path) => write!(f, "name {} is torn", path.display()),
            Self::LostName(name) => write!(f, "name `{name}` points to nothing"),
            Self::Record(path) => write!(f, "record {} is torn", path.display()),
            Self::Tree(layer) => write!(f, "the tree of layer {} is damaged", layer.digest()),
            Self::Image(id) => write!(f, "image {id} has no readable manifest and config"),
            Self::Layer { image, layer } => write!(
                f,
                "image {image} lacks layer {}, which only a build can make",
                layer.digest()
            ),
            Self::Pins(id) => write!(f, "container {id} does not say what it needs"),
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// What is wrong, or was before the repair.
    pub damage: Vec<Damage>,
    /// Blobs that were hashed.
    pub blobs: usize,
    /// Trees that were read.
    pub trees: usize,
    /// Trees that nothing here can be held against.
    pub unproved: usize,
    /// Names and records that were read.
    pub records: usize,
    /// Images that were followed.
    pub images: usize,
}

/// A check on its way.
struct Check<'a> {
    store: &'a Store,
    repair: bool,
    sink: &'a dyn Sink,
    found: Checked,
}

impl Store {
    /// Verifies everything; with `repair`, takes away what is damaged.
    pub fn fsck(&self, repair: bool, sink: &dyn Sink) -> Result<Checked, Error> {
        let _work = self.work()?;
        let mut check = Check {
            store: self,
            repair,
            sink,
            found: Checked::default(),
        };
        check.blobs()?;
        check.framed()?;
        check.trees()?;
        if repair {
            // Before names go with images that lost something.
            self.settle_names()?;
        }
        check.images()?;
        check.names()?;
        check.containers()?;
        Ok(check.found)
    }
}

impl Check<'_> {
    fn note(&mut self, damage: Damage) {
        let text = damage.to_string();
        self.sink.emit(Event::Warning { text: &text });
        self.found.damage.push(damage);
    }

    fn blobs(&mut self) -> Result<(), Error> {
        for name in disk::names(&self.store.path("blobs/sha256"))? {
            // A file that is no blob came from nobody here; it is left alone.
            let Ok(digest) = format!("sha256:{name}").parse::<Digest>() else {
                continue;
            };
            self.found.blobs += 1;
            if !self.store.is_sound(&digest)? {
                if self.repair {
                    self.store.judge(&digest)?;
                }
                self.note(Damage::Blob(digest));
            }
        }
        Ok(())
    }

    /// Files that say by themselves whether they are whole.
    fn framed(&mut self) -> Result<(), Error> {
        let dir = self.store.path("refs");
        for name in disk::names(&dir)? {
            self.frame(dir.join(name), Damage::TornName)?;
        }
        for kind in self.store.record_kinds()? {
            let files: Vec<PathBuf> = records::walk(self.store, &kind)?.map(|(p, _)| p).collect();
            for path in files {
                self.frame(path, Damage::Record)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, path: PathBuf, damage: fn(PathBuf) -> Damage) -> Result<(), Error> {
        self.found.records += 1;
        let torn = |path: &Path| -> Result<bool, Error> {
            Ok(disk::exists(path)? && frame::read(path)?.is_none())
        };
        // A second look: it may have been replaced between the two questions.
        if torn(&path)? && torn(&path)? {
            if self.repair {
                disk::remove_file(&path)?;
            }
            self.note(damage(path));
        }
        Ok(())
    }

    fn trees(&mut self) -> Result<(), Error> {
        let stacks = self.stacks()?;
        let mut names = disk::names(&self.store.path("trees"))?;
        names.retain(|name| !name.starts_with(trees::GONE));
        // Trees that took something from below come after those they took it from.
        names.sort_by_key(|name| !name.starts_with("layer-"));
        for name in names {
            self.found.trees += 1;
            let stack = self.stack_of(&name, &stacks)?;
            let Some(stack) = stack.filter(|stack| !self.stands_on_damage(stack)) else {
                self.found.unproved += 1;
                continue;
            };
            let Some(top) = stack.last() else { continue };
            match self.store.proves(&name, &stack, self.sink)? {
                Some(true) => {}
                None => self.found.unproved += 1,
                Some(false) => {
                    if self.repair {
                        self.store
                            .drop_tree(&self.store.path("trees").join(&name))?;
                    }
                    self.note(Damage::Tree(top.diff_id.clone()));
                }
            }
        }
        Ok(())
    }

    /// Whether what a tree would be held against is damaged itself, and still there.
    fn stands_on_damage(&self, stack: &[LayerRef]) -> bool {
        let damaged = |damage: &Damage| match damage {
            Damage::Blob(digest) => stack.iter().any(|layer| layer.descriptor.digest == *digest),
            Damage::Tree(diff_id) => stack.iter().any(|layer| layer.diff_id == *diff_id),
            _ => false,
        };
        !self.repair && self.found.damage.iter().any(damaged)
    }

    /// Every stack of layers that an image has, by its chain id.
    fn stacks(&self) -> Result<HashMap<String, Vec<LayerRef>>, Error> {
        let mut stacks = HashMap::new();
        for (_, manifests) in self.store.recorded_images()? {
            for manifest in manifests {
                let Some(image) = self.store.whole_image(&manifest.digest)? else {
                    continue;
                };
                let layers = image.layers();
                for (at, chain) in trees::chains(&layers).iter().enumerate() {
                    let stack = || layers[..=at].to_vec();
                    stacks.entry(trees::chain_key(chain)).or_insert_with(stack);
                }
            }
        }
        Ok(stacks)
    }

    /// The layers a tree was made from: itself alone, or with those below it.
    fn stack_of(
        &self,
        name: &str,
        stacks: &HashMap<String, Vec<LayerRef>>,
    ) -> Result<Option<Vec<LayerRef>>, Error> {
        let Some(hex) = name.strip_prefix("layer-") else {
            return Ok(stacks.get(name).cloned());
        };
        match format!("sha256:{hex}").parse().map(DiffId) {
            Ok(diff_id) => Ok(Some(vec![self.store.layer_ref(&diff_id)?])),
            Err(_) => Ok(None),
        }
    }

    fn images(&mut self) -> Result<(), Error> {
        for (id, manifests) in self.store.recorded_images()? {
            self.found.images += 1;
            let mut whole = None;
            for manifest in &manifests {
                whole = whole.or(self.store.whole_image(&manifest.digest)?);
            }
            let Some(image) = whole else {
                self.lose_image(&id, Damage::Image(id.clone()))?;
                continue;
            };
            if let Some(layer) = self.store.lost_layer(&image)? {
                let image = id.clone();
                self.lose_image(&id, Damage::Layer { image, layer })?;
            }
        }
        Ok(())
    }

    fn lose_image(&mut self, id: &ImageId, damage: Damage) -> Result<(), Error> {
        if self.repair {
            for (name, target) in self.store.references()? {
                if self.store.manifests_of(id)?.contains(&target) {
                    self.store.untag(&name)?;
                }
            }
            self.store
                .records(super::images::KIND)
                .remove(id.digest())?;
        }
        self.note(damage);
        Ok(())
    }

    fn names(&mut self) -> Result<(), Error> {
        for (name, target) in self.store.references()? {
            if self.store.blob(&target.digest)?.is_none() {
                if self.repair {
                    self.store.untag(&name)?;
                }
                self.note(Damage::LostName(name));
            }
        }
        Ok(())
    }

    fn containers(&mut self) -> Result<(), Error> {
        for id in self.store.containers()? {
            let path = self.store.container_dir(&id)?.join("pins");
            if disk::exists(&path)? && frame::read(&path)?.is_none() {
                self.note(Damage::Pins(id));
            }
        }
        Ok(())
    }
}

impl Store {
    /// Whether a tree is what the topmost layer of `stack` makes on top of the others; `None` when
    /// there is nothing to hold it against.
    fn proves(
        &self,
        name: &str,
        stack: &[LayerRef],
        sink: &dyn Sink,
    ) -> Result<Option<bool>, Error> {
        let Some((top, below)) = stack.split_last() else {
            return Ok(None);
        };
        let path = self.path("trees").join(name);
        let layer = top.diff_id.digest();
        // What can't be read can't be served.
        let Ok(found) = self.tree_digest(&path, layer) else {
            return Ok(Some(false));
        };
        // What our own encoder made of this tree is the layer itself.
        if found == *layer {
            return Ok(Some(true));
        }
        let Some(blob) = self.layer_source(top)? else {
            // It was made here, so nothing but the tree is the layer; or its blob is gone.
            let own = top.descriptor.digest == top.diff_id.0;
            return Ok(own.then_some(false));
        };
        let below = match name.starts_with("layer-") {
            true => Vec::new(),
            false => self.trees(below, sink)?,
        };
        let below = Stack::new(below.iter().map(trees::Tree::fd).collect(), self.marks());
        let scratch = self.scratch()?;
        let into = scratch.dir("tree")?;
        let mut plain = self.plain_reader(&blob)?;
        let options = layer::UnpackOptions {
            marks: self.marks(),
        };
        let outcome = layer::unpack(&mut plain, into.as_fd(), Some(&below), &options);
        match plain.end(self, top, outcome) {
            Ok(_) => Ok(Some(
                self.tree_digest(&scratch.path().join("tree"), layer)? == found,
            )),
            Err(Error::Corrupt(_) | Error::DiffId { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The digest of what our encoder makes of a tree.
    fn tree_digest(&self, path: &Path, layer: &Digest) -> Result<Digest, Error> {
        let tree = std::sync::Arc::new(disk::open_dir(path)?);
        let failed = |source| Error::Layer {
            doing: "read the tree of",
            layer: layer.clone(),
            source,
        };
        let changes = layer::diff(&tree, None, self.marks()).map_err(failed)?;
        let mut hasher = Hasher::new();
        layer::encode(&changes, &layer::EncodeOptions::default(), &mut hasher).map_err(failed)?;
        Ok(hasher.finish())
    }
}
