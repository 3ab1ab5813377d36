//! Containers on disk: made, found, listed, removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::event::Sink;
use crate::image::{ContainerConfig, ImageId, Platform};
use crate::sandbox::{Exit, IdSwap};
use crate::store::{
    ContainerLock, Found, Image, LayerRef, Pins, Rubbish, Store, is_container_name, nearest_names,
    random_id,
};
use crate::transfer::{self, Source};

use super::control;
use super::debug::Debugged;
use super::error::Error;
use super::events;
use super::ids::{self, Copied};
use super::name;
use super::networks;
use super::spec::{self, LogDriver, Request};
use super::start;
use super::state::{self, State, Status};
use super::volumes::{self, VolumeMount, VolumeSource};

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
    /// The ids that are others than those on disk; it has a copy of its image then.
    #[serde(default)]
    pub ids: Option<IdSwap>,
    /// What is mounted, volumes by their names.
    #[serde(default)]
    pub mounts: Vec<VolumeMount>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// When it was made, as RFC 3339.
    pub created: String,
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

/// Which image a new container is made from, besides its name.
#[derive(Debug, Clone, Default)]
pub struct Choice<'a> {
    /// Its platform, if not the host's.
    pub platform: Option<Platform>,
    /// How to pull; `None` is not at all.
    pub pull: Option<&'a transfer::Options>,
    /// Whether to pull even though it is there.
    pub always: bool,
}

/// Makes a container from an image, which is pulled if it is not there and `choice` allows it.
pub fn create(
    store: &Store,
    request: &Request,
    choice: &Choice<'_>,
    sink: &dyn Sink,
) -> Result<Container, Error> {
    // Nothing the container is about to pin is deleted while this is held.
    let _work = store.work()?;
    let image = get_image(store, &request.image, choice, sink)?;
    let command = spec::command(request, &image.config.value().config)?;
    if let Some(name) = &request.name {
        // Before anything is made; whether it is still free then is looked at again.
        pick_name(store, Some(name))?;
    }
    let layers = image.layers();
    let mut mounts = volumes::wanted(&request.mounts, image.config.value().config.volumes.keys());
    let files = || -> Result<_, Error> {
        let lowers = ids::unpacked(store, &layers, sink)?;
        Ok(start::stacked(store, &lowers))
    };
    let user = request.user.as_deref();
    let user = user.unwrap_or(&image.config.value().config.user);
    let swap = match request.keep {
        true => ids::ids_of(&files()?, user)?,
        false => None,
    };
    let made = volumes::make(store, &mut mounts, swap, &files)
        .and_then(|()| swap.map(|ids| ids::copy(store, &files()?, ids)).transpose())
        .and_then(|own| register(store, request, &image, command, mounts.clone(), own));
    if made.is_err() {
        volumes::take_back(store, &mounts);
    }
    made
}

/// Gives a container that has all it needs its name and its place in the store.
fn register(
    store: &Store,
    request: &Request,
    image: &Image,
    command: Vec<String>,
    mounts: Vec<VolumeMount>,
    own: Option<Copied>,
) -> Result<Container, Error> {
    let names = store.container_names()?;
    let name = pick_name(store, request.name.as_deref())?;
    let id = random_id().map_err(|source| Error::Io {
        doing: "make an id for",
        path: name.clone().into(),
        source,
    })?;
    let config = Config {
        name,
        request: request.clone(),
        image: image.id(),
        image_name: request.image.clone(),
        image_config: image.config.value().config.clone(),
        layers: image.layers(),
        ids: own.as_ref().map(|own| own.ids),
        mounts,
        command,
        created: now(),
    };
    let debugged = request.debugged.iter().flat_map(Debugged::layers);
    let layers = config
        .layers
        .iter()
        .chain(debugged)
        .map(|layer| layer.diff_id.clone())
        .collect();
    let pins = Pins {
        image: Some(image.id()),
        layers,
    };
    let mut container = Container {
        id,
        dir: PathBuf::new(),
        store: store.clone(),
        config,
    };
    container.dir = store.new_container(&container.id, &pins, |dir| {
        let dir = dir.to_owned();
        let unseen = Container {
            dir,
            ..container.clone()
        };
        unseen.write_files(own.as_ref())
    })?;
    drop(names);
    container.tell("create", &[]);
    Ok(container)
}

fn get_image(
    store: &Store,
    text: &str,
    choice: &Choice<'_>,
    sink: &dyn Sink,
) -> Result<Image, Error> {
    let platform = choice.platform.clone().unwrap_or_else(Platform::host);
    let (here, nearest) = match store.find(text, &platform)? {
        Found::Image(image) => (Some(image), Vec::new()),
        // Another platform than the one that was asked for will not do.
        Found::OtherPlatform(_) if choice.platform.is_some() => (None, Vec::new()),
        Found::OtherPlatform(image) => (Some(image), Vec::new()),
        Found::Nothing { nearest } => (None, nearest),
    };
    let is_name = text
        .parse::<crate::image::Reference>()
        .is_ok_and(|r| !r.is_local_only());
    if let Some(image) = here
        && !(choice.always && choice.pull.is_some() && is_name)
    {
        return Ok(image);
    }
    let pull = choice.pull;
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
        if !is_container_name(wanted) {
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
    let id = random_id().map_err(failed)?;
    Ok(format!(
        "{}_{}",
        name::random_name().map_err(failed)?,
        &id[..8]
    ))
}

/// This moment, as RFC 3339.
pub(super) fn now() -> String {
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

    fn write_files(&self, own: Option<&Copied>) -> Result<(), Error> {
        if let Some(own) = own {
            fs::rename(own.path(), self.path(ids::IMAGE)).map_err(self.io("make", ids::IMAGE))?;
        }
        for name in ["upper", "work"] {
            fs::create_dir(self.path(name)).map_err(self.io("create", name))?;
        }
        // `/` of the container gets the mode of the upper dir.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(self.path("upper"), mode)
            .map_err(self.io("set the mode of", "upper"))?;
        if let Some(debugged) = &self.config.request.debugged {
            let prepared = debugged.prepare(&self.dir);
            prepared.map_err(self.io("prepare", "upper"))?;
        }
        self.write_state(&State::default())?;
        self.write_json("config.json", &self.config)
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let bytes = serde_json::to_vec(value).expect("containers hold nothing JSON cannot");
        let part = format!("{name}.part");
        fs::write(self.path(&part), bytes).map_err(self.io("write", &part))?;
        fs::rename(self.path(&part), self.path(name)).map_err(self.io("write", name))
    }

    fn write_state(&self, state: &State) -> Result<(), Error> {
        state::write(&self.path("state.json"), state).map_err(self.io("write", "state.json"))
    }

    /// Returns the state: as it was written, but a container whose monitor is gone has exited.
    pub fn state(&self) -> Result<State, Error> {
        let read = || read_state(&self.dir).map_err(self.io("read", "state.json"));
        let until = Instant::now() + Duration::from_secs(1);
        loop {
            let state = read()?;
            if !state.status.is_up() {
                return Ok(state);
            }
            if !self.runs()? {
                // Its last state may have been written between the two looks.
                return Ok(read()?.abandoned());
            }
            // A monitor that is about to tell the end, or one that the kernel is about to end.
            if !state.has_ended() || Instant::now() > until {
                return Ok(state);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Returns whether a monitor has it.
    pub(super) fn runs(&self) -> Result<bool, Error> {
        Ok(self.store.container_runs(&self.id)?)
    }

    /// Returns whether it is still there.
    pub fn exists(&self) -> bool {
        self.path("config.json").exists()
    }

    /// Returns the directories of its writable layer: what it wrote, and overlayfs's own.
    pub fn writable(&self) -> [PathBuf; 2] {
        ["upper", "work"].map(|name| self.path(name))
    }

    /// Returns the directory that its log lies in.
    pub fn log_dir(&self) -> Result<&Path, Error> {
        match self.config.request.log.driver {
            LogDriver::JsonFile | LogDriver::Journald => Ok(&self.dir),
            LogDriver::None => Err(Error::NoLog {
                name: self.config.name.clone(),
            }),
        }
    }

    /// Returns the signal that asks it to stop.
    pub fn stop_signal(&self) -> i32 {
        let image = self.config.image_config.stop_signal.as_deref();
        let wanted = self.config.request.stop_signal.as_deref().or(image);
        // One that is no signal was refused when the container was made, or is an image's slip.
        wanted.and_then(signal_number).unwrap_or(libc::SIGTERM)
    }

    /// Returns the seconds that it may take; negative is for ever.
    pub fn stop_timeout(&self) -> i64 {
        let image = self.config.image_config.stop_timeout;
        self.config.request.stop_timeout.or(image).unwrap_or(10)
    }

    /// Takes the lock of a container that does not run. Who only looks holds it for a moment, so
    /// it is tried for a while unless the state says that the container is up.
    pub(super) fn claim(&self) -> Result<ContainerLock, Error> {
        self.claim_or(|state| state.status.is_up())
    }

    /// As [`Container::claim`], but gives up at once only when `gives_up` says so of the state.
    fn claim_or(&self, gives_up: impl Fn(&State) -> bool) -> Result<ContainerLock, Error> {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(lock) = self.store.lock_container(&self.id)? {
                let state = read_state(&self.dir).map_err(self.io("read", "state.json"))?;
                if state.status.is_up() {
                    state.await_end();
                    self.write_state(&state.abandoned())?;
                }
                return Ok(lock);
            }
            let up = read_state(&self.dir).is_ok_and(|state| gives_up(&state));
            if up || Instant::now() > until {
                return Err(Error::Running {
                    name: self.config.name.clone(),
                });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Refuses one whose removal has failed: nothing is to be made of it any more.
    pub fn refuse_dead(&self) -> Result<(), Error> {
        match self.state()?.status {
            Status::Dead => Err(Error::Dead {
                name: self.config.name.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Removes it if it was to go at its end and its monitor was killed before that. Returns
    /// whether it is gone.
    fn is_reaped(&self) -> bool {
        let over = || {
            let state = read_state(&self.dir).ok()?;
            (!matches!(state.status, Status::Created | Status::Dead)).then_some(state)
        };
        if !self.config.request.remove || over().is_none() {
            return false;
        }
        // Somebody has it, or it is gone just now.
        let Ok(Some(_lock)) = self.store.lock_container(&self.id) else {
            return !self.exists();
        };
        let Some(state) = over() else { return false };
        state.await_end();
        // What can't be removed is shown as it is, and `rm` says why.
        erase(&self.store, &self.id, true).is_ok()
    }

    /// Records an event.
    fn tell(&self, action: &str, more: &[(&str, String)]) {
        events::emit(self.store.root(), action, &self.id, &self.config, more);
    }

    /// Gives it another name.
    pub fn rename(&mut self, name: &str) -> Result<(), Error> {
        let _names = self.store.container_names()?;
        let name = pick_name(&self.store, Some(name))?;
        let old = std::mem::replace(&mut self.config.name, name);
        self.write_json("config.json", &self.config)?;
        networks::rename(self.store.root(), &self.id, &self.config.name)?;
        self.tell("rename", &[("oldName", old)]);
        Ok(())
    }

    /// Changes what was asked for, and lets the monitor know if there is one. What that can't do
    /// is not changed.
    pub fn update(&mut self, change: impl FnOnce(&mut Request)) -> Result<(), Error> {
        self.refuse_dead()?;
        let before = self.config.request.clone();
        change(&mut self.config.request);
        self.write_json("config.json", &self.config)?;
        match control::reload(self) {
            Err(Error::NotRunning { .. }) | Ok(()) => Ok(()),
            Err(refused) => {
                self.config.request = before;
                self.write_json("config.json", &self.config)?;
                Err(refused)
            }
        }
    }
}

/// docker's exit code: 128 and the number for a signal.
pub(super) fn exit_code(exit: Exit) -> i32 {
    match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
    }
}

/// Reads the state in a container's directory as it was written.
pub(super) fn read_state(dir: &Path) -> io::Result<State> {
    state::read(&dir.join("state.json"))
}

/// Reads the config in a container's directory.
pub(super) fn read_config(dir: &Path) -> io::Result<Config> {
    Ok(serde_json::from_slice(&fs::read(dir.join("config.json"))?)?)
}

/// Reads a signal: a number, or a name with or without `SIG` in front.
pub fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |base: i32, rest: &str, sign: i32| match rest {
        "" => Some(base),
        rest => rest.parse::<i32>().ok().map(|n| base + sign * n),
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return real_time(34, rest.trim_start_matches('+'), 1).filter(|n| (34..=64).contains(n));
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return real_time(64, rest.trim_start_matches('-'), -1).filter(|n| (34..=64).contains(n));
    }
    SIGNALS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
}

const SIGNALS: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// Lists all containers with their states, the newest first.
pub fn list(store: &Store) -> Result<Vec<(Container, State)>, Error> {
    let mut containers = Vec::new();
    for container in all(store)? {
        // One that is being removed right now is not there.
        if let Ok(state) = container.state() {
            containers.push((container, state));
        }
    }
    containers.sort_by(|(a, _), (b, _)| b.config.created.cmp(&a.config.created));
    Ok(containers)
}

/// All containers there are. Whoever asks cleans up after monitors that could not.
fn all(store: &Store) -> Result<Vec<Container>, Error> {
    let mut containers = Vec::new();
    for id in store.containers()? {
        // One that is being made or removed right now is not there.
        containers.extend(load(store, id)?.filter(|container| !container.is_reaped()));
    }
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
    let all = all(store)?;
    let exact = |c: &&Container| c.config.name == text || c.id == text;
    if let Some(container) = all.iter().find(exact) {
        return Ok(container.clone());
    }
    let mut by_prefix = all
        .iter()
        .filter(|c| !text.is_empty() && c.id.starts_with(text));
    match (by_prefix.next(), by_prefix.next()) {
        (Some(container), None) => Ok(container.clone()),
        (Some(_), Some(_)) => Err(Error::Ambiguous {
            text: text.to_owned(),
        }),
        (None, _) => {
            let names = all.iter().map(|container| container.config.name.as_str());
            Err(Error::NoContainer {
                text: text.to_owned(),
                nearest: nearest_names(text, names),
            })
        }
    }
}

/// Removes a container, its writable layer and its log; one that runs is an error unless it is to
/// be killed first. Volumes of its own go with it if `volumes`.
pub fn remove(container: &Container, force: bool, volumes: bool) -> Result<(), Error> {
    if force {
        match control::kill(container, libc::SIGKILL) {
            Err(Error::NotRunning { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    let store = &container.store;
    // What was killed takes a moment to let go.
    let lock = container.claim_or(|state| !force && state.status.is_up());
    let _lock = match lock {
        // `--rm` was faster.
        Err(_) if !container.exists() => return Ok(()),
        lock => lock?,
    };
    erase(store, &container.id, volumes).map(drop)
}

/// Removes the container with this id, whose lock the caller holds. Its files go with the result.
pub(super) fn erase(store: &Store, id: &str, volumes: bool) -> Result<Rubbish, Error> {
    let known = load(store, id.to_owned())?;
    let rubbish = store.remove_container(id)?;
    let Some(container) = known else {
        return Ok(rubbish);
    };
    container.tell("destroy", &[]);
    let own = match volumes {
        true => container.config.mounts,
        false => Vec::new(),
    };
    for mount in own.into_iter().filter(|mount| mount.anonymous) {
        if let VolumeSource::Named(name) = mount.source
            && volumes::users_of_volume(store, &name)?.is_empty()
        {
            volumes::erase(store, &name)?;
        }
    }
    Ok(rubbish)
}

/// The host's resolver configuration; a host without one has no names to resolve.
pub(super) fn read_resolv_conf() -> Vec<u8> {
    fs::read("/etc/resolv.conf").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("TERM", Some(15)),
            ("sigkill", Some(9)),
            ("2", Some(2)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("0", None),
            ("65", None),
            ("NOPE", None),
        ] {
            assert_eq!(signal_number(text), number, "{text}");
        }
    }
}
