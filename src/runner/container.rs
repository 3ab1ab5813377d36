//! Containers on disk: made, found, listed, removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::event::Sink;
use crate::image::{ContainerConfig, ImageId, Platform};
use crate::sandbox::Exit;
use crate::store::{ContainerLock, Found, Image, LayerRef, Pins, Store};
use crate::transfer::{self, Source};

use super::error::Error;
use super::name;
use super::spec::{self, Request};

/// What was asked for and what the image adds; written once, when the container is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The container's name.
    pub name: String,
    /// What was asked for.
    pub request: Request,
    /// The image's id, which keeps the image from being removed.
    pub image: ImageId,
    /// The image's name as it was given.
    pub image_name: String,
    /// Defaults of the image.
    pub image_config: ContainerConfig,
    /// The image's layers, bottom first.
    pub layers: Vec<LayerRef>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// When it was made, as RFC 3339.
    pub created: String,
}

/// How far a container has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was never started.
    Created,
    /// Its program runs.
    Running,
    /// Its program has ended, or was ended with its caller.
    Exited,
}

/// What changes while a container lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// How far it has come.
    pub status: Status,
    /// When the program started, as RFC 3339.
    pub started: Option<String>,
    /// When it ended, as RFC 3339.
    pub finished: Option<String>,
    /// Its exit code; 128 and the number for a signal.
    pub exit_code: Option<i32>,
}

/// A container.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its id: 64 hex digits.
    pub id: String,
    /// Its directory in the store.
    pub(super) dir: PathBuf,
    store: Store,
    /// What it is.
    pub config: Config,
}

/// Says that the program runs, until it is dropped.
#[derive(Debug)]
pub(super) struct RunningGuard {
    _lock: ContainerLock,
}

/// Makes a container from an image, which is pulled if it is not there and `pull` allows it.
pub fn create(
    store: &Store,
    request: &Request,
    pull: Option<&transfer::Options>,
    sink: &dyn Sink,
) -> Result<Container, Error> {
    for bind in &request.binds {
        if !bind.source.exists() {
            return Err(Error::NoBindSource {
                path: bind.source.clone(),
            });
        }
    }
    // Nothing the container is about to pin is deleted while this is held.
    let _work = store.work()?;
    let image = get_image(store, &request.image, pull, sink)?;
    let command = spec::command(request, &image.config.value().config)?;
    let name = pick_name(store, request.name.as_deref())?;
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io {
            doing,
            path,
            source,
        }
    };
    let id = name::random_id().map_err(failed("make an id for", Path::new(&name)))?;
    let config = Config {
        name,
        request: request.clone(),
        image: image.id(),
        image_name: request.image.clone(),
        image_config: image.config.value().config.clone(),
        layers: image.layers(),
        command,
        created: now(),
    };
    let layers = config
        .layers
        .iter()
        .map(|layer| layer.diff_id.clone())
        .collect();
    let dir = store.new_container(
        &id,
        &Pins {
            image: Some(image.id()),
            layers,
        },
    )?;
    let container = Container {
        id,
        dir,
        store: store.clone(),
        config,
    };
    match container.write_files() {
        Ok(()) => Ok(container),
        Err(error) => {
            // What went wrong first is what counts.
            let _ = store.remove_container(&container.id);
            Err(error)
        }
    }
}

fn get_image(
    store: &Store,
    text: &str,
    pull: Option<&transfer::Options>,
    sink: &dyn Sink,
) -> Result<Image, Error> {
    let nearest = match store.find(text, &Platform::host())? {
        Found::Image(image) | Found::OtherPlatform(image) => return Ok(image),
        Found::Nothing { nearest } => nearest,
    };
    let missing = || Error::NoImage {
        text: text.to_owned(),
        nearest: nearest.clone(),
    };
    let (Some(options), Ok(reference)) = (pull, text.parse::<crate::image::Reference>()) else {
        return Err(missing());
    };
    if reference.is_local_only() {
        return Err(missing());
    }
    let source = Source::Registry(reference.clone());
    transfer::pull(store, &source, options, sink).map_err(|source| Error::Image {
        reference: Box::new(reference),
        source,
    })
}

fn pick_name(store: &Store, wanted: Option<&str>) -> Result<String, Error> {
    let taken = list(store)?;
    let holder = |name: &str| taken.iter().find(|(c, _)| c.config.name == name);
    if let Some(wanted) = wanted {
        if !name::is_valid(wanted) {
            return Err(Error::BadName {
                name: wanted.to_owned(),
            });
        }
        return match holder(wanted) {
            Some((by, _)) => Err(Error::NameTaken {
                name: wanted.to_owned(),
                by: by.short_id().to_owned(),
            }),
            None => Ok(wanted.to_owned()),
        };
    }
    let failed = |source| Error::Io {
        doing: "make a name in",
        path: "/dev/urandom".into(),
        source,
    };
    for _ in 0..20 {
        let name = name::random_name().map_err(failed)?;
        if holder(&name).is_none() {
            return Ok(name);
        }
    }
    // All the short ones met are taken.
    let id = name::random_id().map_err(failed)?;
    Ok(format!(
        "{}_{}",
        name::random_name().map_err(failed)?,
        &id[..8]
    ))
}

fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true)
}

impl Container {
    /// Returns the first twelve digits of the id.
    pub fn short_id(&self) -> &str {
        &self.id[..12]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn io(&self, doing: &'static str, name: &str) -> impl FnOnce(io::Error) -> Error {
        let path = self.path(name);
        move |source| Error::Io {
            doing,
            path,
            source,
        }
    }

    fn write_files(&self) -> Result<(), Error> {
        for name in ["upper", "work"] {
            fs::create_dir(self.path(name)).map_err(self.io("create", name))?;
        }
        // `/` of the container gets the mode of the upper dir.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(self.path("upper"), mode)
            .map_err(self.io("set the mode of", "upper"))?;
        self.write_state(&State {
            status: Status::Created,
            started: None,
            finished: None,
            exit_code: None,
        })?;
        // The config comes last: a directory without it is a container that was never made.
        self.write_json("config.json", &self.config)
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let bytes = serde_json::to_vec(value).expect("containers hold nothing JSON cannot");
        let part = format!("{name}.part");
        fs::write(self.path(&part), bytes).map_err(self.io("write", &part))?;
        fs::rename(self.path(&part), self.path(name)).map_err(self.io("write", name))
    }

    fn write_state(&self, state: &State) -> Result<(), Error> {
        self.write_json("state.json", state)
    }

    /// Returns the state: as it was written, but a container whose caller is gone has exited.
    pub fn state(&self) -> Result<State, Error> {
        let bytes = fs::read(self.path("state.json")).map_err(self.io("read", "state.json"))?;
        let broken = |error: serde_json::Error| error.into();
        let mut state: State = serde_json::from_slice(&bytes)
            .map_err(|error| self.io("read", "state.json")(broken(error)))?;
        if state.status == Status::Running && self.store.lock_container(&self.id)?.is_some() {
            state.status = Status::Exited;
            // Nobody saw how it ended; it was killed with its caller.
            state.exit_code = state.exit_code.or(Some(137));
        }
        Ok(state)
    }

    /// Says that the program is about to run.
    pub(super) fn mark_running(&self) -> Result<RunningGuard, Error> {
        let running = || Error::Running {
            name: self.config.name.clone(),
        };
        let lock = self.store.lock_container(&self.id)?.ok_or_else(running)?;
        self.write_state(&State {
            status: Status::Running,
            started: Some(now()),
            finished: None,
            exit_code: None,
        })?;
        Ok(RunningGuard { _lock: lock })
    }

    /// Says how the program ended, or that it never started.
    pub(super) fn mark_ended(&self, exit: Option<&Exit>) -> Result<(), Error> {
        let started = fs::read(self.path("state.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<State>(&bytes).ok())
            .and_then(|state| state.started);
        self.write_state(&State {
            status: if exit.is_some() {
                Status::Exited
            } else {
                Status::Created
            },
            started,
            finished: Some(now()),
            exit_code: exit.map(|exit| match exit {
                Exit::Code(code) => *code,
                Exit::Signal(signal) => 128 + signal,
            }),
        })
    }
}

/// Lists all containers with their states, the newest first.
pub fn list(store: &Store) -> Result<Vec<(Container, State)>, Error> {
    let mut containers = Vec::new();
    for id in store.containers()? {
        // One that is being made or removed right now is not there.
        if let Some(container) = load(store, id)?
            && let Ok(state) = container.state()
        {
            containers.push((container, state));
        }
    }
    containers.sort_by(|(a, _), (b, _)| b.config.created.cmp(&a.config.created));
    Ok(containers)
}

fn load(store: &Store, id: String) -> Result<Option<Container>, Error> {
    let dir = store.container_dir(&id)?;
    let path = dir.join("config.json");
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

/// Finds a container by name, id or the beginning of its id.
pub fn find(store: &Store, text: &str) -> Result<Container, Error> {
    let all = list(store)?;
    let exact = |c: &Container| c.config.name == text || c.id == text;
    if let Some((container, _)) = all.iter().find(|(c, _)| exact(c)) {
        return Ok(container.clone());
    }
    let mut by_prefix = all
        .iter()
        .filter(|(c, _)| !text.is_empty() && c.id.starts_with(text));
    match (by_prefix.next(), by_prefix.next()) {
        (Some((container, _)), None) => Ok(container.clone()),
        (Some(_), Some(_)) => Err(Error::Ambiguous {
            text: text.to_owned(),
        }),
        (None, _) => {
            let near = |(c, _): &&(Container, State)| {
                let name = &c.config.name;
                name.contains(text) || text.contains(name.as_str())
            };
            let nearest = all
                .iter()
                .filter(near)
                .map(|(c, _)| c.config.name.clone())
                .collect();
            Err(Error::NoContainer {
                text: text.to_owned(),
                nearest,
            })
        }
    }
}

/// Removes a container and its writable layer; a running one is an error.
pub fn remove(container: Container) -> Result<(), Error> {
    let running = || Error::Running {
        name: container.config.name.clone(),
    };
    let store = &container.store;
    let _lock = store.lock_container(&container.id)?.ok_or_else(running)?;
    Ok(store.remove_container(&container.id)?)
}

/// The host's resolver configuration; a host without one has no names to resolve.
pub(super) fn read_resolv_conf() -> Vec<u8> {
    fs::read("/etc/resolv.conf").unwrap_or_default()
}
