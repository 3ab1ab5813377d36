//! Working containers on disk: made, found, listed, renamed, removed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::dockerfile::Span;
use crate::event::Sink;
use crate::image::{self, Digest, History, ImageId, Platform, Reference};
use crate::store::{
    ContainerLock, Found, Image, LayerRef, Pins, Store, is_container_name, random_id,
};
use crate::transfer::Source;

use super::super::commit::{Built, Layer, rfc3339};
use super::super::error::{Error, StepError};
use super::super::images;
use super::super::request::{Pull, Request};
use super::super::step::ImageNeed;
use super::habits::Habits;

/// What the names of containers end in.
const SUFFIX: &str = "working-container";
/// The file with a container's config.
const FILE: &str = "working.json";

/// What a working container is, apart from its files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// The image it was made from; none for `scratch`.
    pub image: Option<ImageId>,
    /// The digest of that image's manifest.
    pub digest: Option<Digest>,
    /// The image's name as it was given, empty for `scratch`.
    pub image_name: String,
    /// The image's layers, bottom first.
    pub layers: Vec<LayerRef>,
    /// The image's config, with what `config` changed.
    pub config: image::Config,
    /// Annotations of the manifest to be.
    pub annotations: BTreeMap<String, String>,
    /// History that verbs asked for, after the image's.
    pub history: Vec<History>,
    /// `created_by` of the layer to be.
    pub created_by: Option<String>,
    /// `comment` of the layer to be.
    pub comment: Option<String>,
    /// When it was made, as RFC 3339.
    pub created: String,
    /// How programs run in it.
    #[serde(default)]
    pub habits: Habits,
}

/// A working container.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its id: 64 hex digits.
    pub id: String,
    pub(super) dir: PathBuf,
    pub(super) store: Store,
    /// What it is.
    pub config: Config,
}

/// What a container is made from.
#[derive(Debug, Clone)]
pub struct New<'a> {
    /// A name or id of an image, `scratch`, or a place such as `oci:DIR`.
    pub image: &'a str,
    /// The container's name, if it is not to be made up.
    pub name: Option<&'a str>,
    /// The image's platform, if not the host's.
    pub platform: Option<Platform>,
    /// How programs run in it.
    pub habits: Habits,
}

/// Makes a container from an image, which is pulled as `request` says.
pub fn create(
    store: &Store,
    new: &New<'_>,
    request: &Request,
    sink: &dyn Sink,
) -> Result<Container, Error> {
    // Nothing the container is about to pin is deleted while this is held.
    let _work = store.work()?;
    let base = match new.image {
        "scratch" => None,
        text => Some(get_image(store, text, new, request, sink)?),
    };
    let platform = new.platform.clone().unwrap_or_else(Platform::host);
    let config = match &base {
        Some(image) => image.config.value().clone(),
        None => image::Config::empty(&platform),
    };
    let layers = base.as_ref().map(Image::layers).unwrap_or_default();
    let _names = store.container_names()?;
    let name = pick_name(store, new)?;
    let id = random_id().map_err(|source| Error::Io {
        doing: "make an id in",
        path: "/dev/urandom".into(),
        source,
    })?;
    let image = base.as_ref().map(Image::id);
    let pins = Pins {
        image: image.clone(),
        layers: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
    };
    let config = Config {
        name,
        image,
        digest: base.as_ref().map(|base| base.manifest.digest().clone()),
        image_name: match &base {
            Some(_) => new.image.to_owned(),
            None => String::new(),
        },
        layers,
        config,
        annotations: base.map_or_else(BTreeMap::new, |base| {
            base.manifest.value().annotations.clone()
        }),
        history: Vec::new(),
        created_by: None,
        comment: None,
        created: rfc3339(request.created()),
        habits: new.habits.clone(),
    };
    let mut container = Container {
        id,
        dir: PathBuf::new(),
        store: store.clone(),
        config,
    };
    container.dir =
        store.new_container(&container.id, &pins, |dir| save(dir, &container.config))?;
    Ok(container)
}

/// Writes a config into a container's directory as a whole.
fn save(dir: &Path, config: &Config) -> Result<(), Error> {
    let bytes = serde_json::to_vec(config).expect("containers hold nothing JSON cannot");
    let (part, path) = (dir.join("working.json.part"), dir.join(FILE));
    let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, &path));
    written.map_err(io_error("write", &path))
}

/// Gets the image: a name or id that is here, a place, or a name that its registry knows.
fn get_image(
    store: &Store,
    text: &str,
    new: &New<'_>,
    request: &Request,
    sink: &dyn Sink,
) -> Result<Image, Error> {
    let platform = new.platform.clone().unwrap_or_else(Platform::host);
    let doing = || format!("make a container from `{text}`");
    let failed = |error: StepError| Error::Verb {
        doing: doing(),
        source: Box::new(error),
    };
    let asks_first = matches!(request.pull, Pull::Always | Pull::Newer);
    let found = store.find(text, &platform)?;
    let named = text.parse::<Reference>().is_ok();
    match found {
        // An image of another platform will do unless one was asked for.
        Found::OtherPlatform(image) if new.platform.is_none() && !asks_first => return Ok(image),
        Found::Image(image) if !(asks_first && named) => return Ok(image),
        _ => {}
    }
    let place: Source = text.parse().map_err(|error: crate::transfer::PlaceError| {
        let error = StepError::Store(crate::store::Error::NoImage {
            text: error.text,
            near: Vec::new(),
        });
        failed(error)
    })?;
    let (reference, layout) = match place {
        Source::Registry(reference) => (reference, None),
        place => {
            let name = "localhost/image";
            let reference = name.parse::<Reference>();
            (
                reference.map_err(|error| failed(error.into()))?,
                Some(place),
            )
        }
    };
    let need = ImageNeed {
        reference,
        layout,
        platform,
        span: Span::default(),
    };
    images::resolve(store, request, &need, sink)
        .and_then(|base| base.into_image(store, sink))
        .map_err(failed)
}

/// The name that was asked for, or one made of the image's: `alpine-working-container`, then
/// `alpine-working-container-1` and so on.
fn pick_name(store: &Store, new: &New<'_>) -> Result<String, Error> {
    let taken = list(store)?;
    if let Some(wanted) = new.name {
        check_free(&taken, wanted)?;
        return Ok(wanted.to_owned());
    }
    let stem = stem(new.image);
    let free = |name: &String| taken.iter().all(|other| other.config.name != *name);
    let numbered = (1_u64..).map(|number| format!("{stem}-{number}"));
    let mut names = std::iter::once(stem.clone()).chain(numbered);
    Ok(names.find(free).unwrap_or(stem))
}

fn check_free(taken: &[Container], wanted: &str) -> Result<(), Error> {
    // Scripts for buildah have names of one letter, which docker refuses.
    let letter = wanted.len() == 1 && wanted.as_bytes()[0].is_ascii_alphanumeric();
    if !is_container_name(wanted) && !letter {
        return Err(Error::ContainerName {
            name: wanted.to_owned(),
        });
    }
    match taken.iter().find(|other| other.config.name == wanted) {
        Some(by) => Err(Error::NameTaken {
            name: wanted.to_owned(),
            by: by.id[..12].to_owned(),
        }),
        None => Ok(()),
    }
}

/// What the names of containers of an image begin with: the last part of its repository.
fn stem(image: &str) -> String {
    let repository = match image.parse::<Source>() {
        Ok(Source::Registry(reference)) => reference.repository().to_owned(),
        _ => String::new(),
    };
    let last = repository.rsplit('/').next().unwrap_or_default();
    match last {
        "" | "scratch" => SUFFIX.to_owned(),
        last => format!("{last}-{SUFFIX}"),
    }
}

/// Lists all working containers, the oldest first.
pub fn list(store: &Store) -> Result<Vec<Container>, Error> {
    let mut containers = Vec::new();
    for id in store.containers()? {
        // Others belong to a runner, or are being made or removed right now.
        containers.extend(load(store, id)?);
    }
    containers.sort_by(|a, b| {
        (&a.config.created, &a.config.name).cmp(&(&b.config.created, &b.config.name))
    });
    Ok(containers)
}

fn load(store: &Store, id: String) -> Result<Option<Container>, Error> {
    let dir = store.container_dir(&id)?;
    let path = dir.join(FILE);
    let failed = |source| Error::Io {
        doing: "read",
        path: path.clone(),
        source,
    };
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let config = serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?;
    Ok(Some(Container {
        id,
        dir,
        store: store.clone(),
        config,
    }))
}

/// Finds a working container by its name, its id or the beginning of its id.
pub fn find(store: &Store, text: &str) -> Result<Container, Error> {
    let all = list(store)?;
    let exact = |c: &&Container| c.config.name == text || c.id == text;
    if let Some(container) = all.iter().find(exact) {
        return Ok(container.clone());
    }
    let begins = |c: &&Container| !text.is_empty() && c.id.starts_with(text);
    let mut by_prefix = all.iter().filter(begins);
    match (by_prefix.next(), by_prefix.next()) {
        (Some(container), None) => Ok(container.clone()),
        (Some(_), Some(_)) => Err(Error::AmbiguousContainer {
            text: text.to_owned(),
        }),
        (None, _) => {
            let names = all.iter().map(|c| c.config.name.as_str());
            let nearest = crate::dockerfile::suggest::nearest(text, names).map(str::to_owned);
            Err(Error::NoContainer {
                text: text.to_owned(),
                nearest,
            })
        }
    }
}

impl Container {
    /// Waits until no other verb works on the container.
    pub(super) fn hold(&self) -> Result<ContainerLock, Error> {
        loop {
            match self.store.lock_container(&self.id) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                // It was removed while this waited.
                Err(_) if !self.dir.exists() => {
                    return Err(Error::NoContainer {
                        text: self.config.name.clone(),
                        nearest: None,
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes the config as a whole.
    pub(super) fn save(&self) -> Result<(), Error> {
        save(&self.dir, &self.config)
    }

    /// Changes what the container is.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Config)) -> Result<(), Error> {
        let _lock = self.claim()?;
        change(&mut self.config);
        self.save()
    }

    /// As [`Container::hold`], with what others have changed meanwhile.
    pub(super) fn claim(&mut self) -> Result<ContainerLock, Error> {
        let lock = self.hold()?;
        if let Some(now) = load(&self.store, self.id.clone())? {
            self.config = now.config;
        }
        Ok(lock)
    }

    /// Gives it another name.
    pub fn rename(&mut self, name: &str) -> Result<(), Error> {
        let names = self.store.container_names()?;
        check_free(&list(&self.store)?, name)?;
        self.change(|config| name.clone_into(&mut config.name))?;
        drop(names);
        Ok(())
    }

    /// Removes it, with all that was written in it.
    pub fn remove(&self) -> Result<(), Error> {
        let _lock = self.hold()?;
        self.unmount_held()?;
        drop(self.store.remove_container(&self.id)?);
        Ok(())
    }

    /// The image's layers.
    pub(super) fn layers(&self) -> Vec<Layer> {
        let layer = |layer: &LayerRef| Layer {
            diff_id: layer.diff_id.clone(),
            descriptor: layer.descriptor.clone(),
        };
        self.config.layers.iter().map(layer).collect()
    }

    /// What it amounts to so far, as a stage of a build.
    pub(super) fn built(&self) -> Result<Built, Error> {
        let layers = self.layers();
        Ok(Built {
            base: Some(self.config.config.clone()),
            base_layers: layers.len(),
            layers,
            history: self.config.history.clone(),
            known: Vec::new(),
            top: self.top()?,
        })
    }

    /// An error of one of its verbs.
    pub(super) fn failed(&self, doing: &str) -> impl Fn(StepError) -> Error + use<> {
        let doing = format!("{doing} `{}`", self.config.name);
        move |error| match error {
            StepError::Cancelled => Error::Cancelled,
            error => Error::Verb {
                doing: doing.clone(),
                source: Box::new(error),
            },
        }
    }
}

pub(super) fn io_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io {
        doing,
        path: path.clone(),
        source,
    }
}

pub(super) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_last_part_of_the_images() {
        for (image, want) in [
            ("alpine", "alpine-working-container"),
            ("docker.io/library/alpine:3.20", "alpine-working-container"),
            (
                "localhost:5000/team/app@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "app-working-container",
            ),
            ("scratch", "working-container"),
            ("oci:dir", "working-container"),
        ] {
            assert_eq!(stem(image), want, "{image}");
        }
    }
}
