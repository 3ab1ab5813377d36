//! Directories of containers: a place, and what must not be deleted under them.
//!
//! What else lies in one is its owner's (`build` for working containers, `runner` for running
//! ones). Whoever runs a container holds an exclusive `flock` on its file `running`, so one whose
//! lock is free does not run, whatever its files say.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Store;
use super::disk;
use super::error::Error;
use super::fault;
use super::frame::{self, Head};
use super::lease::Rubbish;
use crate::image::{DiffId, ImageId};

/// What a container needs in the store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pins {
    /// The image it was made from; it cannot be removed without force.
    pub image: Option<ImageId>,
    /// The layers of its root file system, bottom first; their trees stay.
    pub layers: Vec<DiffId>,
}

/// The lock of a container. Dropping it, or the end of the process, frees it.
#[derive(Debug)]
pub struct ContainerLock {
    lock: File,
}

/// The right to give a container a name; as long as it is held nobody else takes one.
#[derive(Debug)]
pub struct ContainerNames {
    _lock: File,
}

/// Makes a container id: 64 random hex digits.
pub fn random_id() -> io::Result<String> {
    let mut bytes = [0_u8; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags)?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Returns whether docker would take `name` for a container: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn is_container_name(name: &str) -> bool {
    name.len() >= 2 && valid_id(name)
}

impl From<ContainerLock> for OwnedFd {
    /// Whoever holds the descriptor, or a copy of it in another process, holds the lock.
    fn from(lock: ContainerLock) -> Self {
        lock.lock.into()
    }
}

impl Store {
    /// Makes the directory of a new container, with an unlocked file `running` in it and what
    /// `fill` puts there before anybody can see it: a kill leaves the whole container or none.
    /// `id` has letters, digits, `_`, `.` and `-`. Call it while a [`Work`](super::Work) is held
    /// that is older than the look-up of what is pinned.
    pub fn new_container<E: From<Error>>(
        &self,
        id: &str,
        pins: &Pins,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let path = self.container_dir(id)?;
        let scratch = self.scratch()?;
        let made = scratch.path().join("container");
        disk::make_dir(&made)?;
        disk::new_file(&made.join("running"))?;
        self.write_file(&made.join("pins"), &frame_pins(id, pins), false)?;
        fill(&made)?;
        fault::point("make", &path)?;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        let at = rustix::fs::CWD;
        match rustix::fs::renameat_with(at, &made, at, &path, flags) {
            Ok(()) => Ok(path),
            Err(rustix::io::Errno::EXIST) => {
                Err(Error::ContainerExists { id: id.to_owned() }.into())
            }
            Err(e) => Err(Error::os("make", &path, e).into()),
        }
    }

    /// Returns where the container with this id is or would be.
    pub fn container_dir(&self, id: &str) -> Result<PathBuf, Error> {
        if !valid_id(id) {
            return Err(Error::ContainerId { id: id.to_owned() });
        }
        Ok(self.path("containers").join(id))
    }

    /// Returns the ids of all containers, sorted.
    pub fn containers(&self) -> Result<Vec<String>, Error> {
        let mut ids = disk::names(&self.path("containers"))?;
        ids.retain(|id| valid_id(id));
        Ok(ids)
    }

    /// Waits for the right to give a container a name. Who holds it looks for the names that are
    /// taken, and writes down the new one.
    pub fn container_names(&self) -> Result<ContainerNames, Error> {
        let path = self.path("locks/container-names");
        let lock = disk::lock_file(&path)?;
        lock.lock().map_err(|e| Error::io("lock", &path, e))?;
        Ok(ContainerNames { _lock: lock })
    }

    /// Takes the lock of a container; `None` when somebody has it, so the container runs.
    pub fn lock_container(&self, id: &str) -> Result<Option<ContainerLock>, Error> {
        let path = self.container_dir(id)?.join("running");
        let lock = File::open(&path).map_err(|e| Error::io("open", &path, e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(ContainerLock { lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(Error::io("lock", &path, e)),
        }
    }

    /// Returns whether somebody has the lock of a container, so that it runs. Those who ask at the
    /// same time do not see each other; who locks at the same time may have to try again.
    pub fn container_runs(&self, id: &str) -> Result<bool, Error> {
        let path = self.container_dir(id)?.join("running");
        let lock = File::open(&path).map_err(|e| Error::io("open", &path, e))?;
        match lock.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(e)) => Err(Error::io("lock", &path, e)),
        }
    }

    /// Changes what a container needs. Call it while a [`Work`](super::Work) is held that is older
    /// than the look-up of what is pinned.
    pub fn pin_container(&self, id: &str, pins: &Pins) -> Result<(), Error> {
        let path = self.container_dir(id)?.join("pins");
        self.write_file(&path, &frame_pins(id, pins), true)
    }

    /// Returns what a container needs; nothing when it is gone.
    pub fn container_pins(&self, id: &str) -> Result<Pins, Error> {
        let found = frame::read(&self.container_dir(id)?.join("pins"))?;
        Ok(found
            .and_then(|(_, value)| serde_json::from_slice(&value).ok())
            .unwrap_or_default())
    }

    /// Removes a container's directory, at once from sight; it is gone from the disk when the
    /// result is dropped. One that is not there is fine.
    pub fn remove_container(&self, id: &str) -> Result<Rubbish, Error> {
        let path = self.container_dir(id)?;
        let scratch = self.scratch()?;
        fault::point("remove", &path)?;
        match std::fs::rename(&path, scratch.path().join("removed")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path, e)),
            _ => Ok(scratch.into_rubbish()),
        }
    }

    /// Returns the ids of the containers made from an image, and whether one of them runs.
    pub(super) fn users_of(&self, image: &ImageId) -> Result<(Vec<String>, bool), Error> {
        let mut users = Vec::new();
        let mut running = false;
        for id in self.containers()? {
            if self.container_pins(&id)?.image.as_ref() == Some(image) {
                running |= match self.container_runs(&id) {
                    Ok(runs) => runs,
                    // Removed meanwhile, or broken: it does not run.
                    Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                        false
                    }
                    Err(e) => return Err(e),
                };
                users.push(id);
            }
        }
        Ok((users, running))
    }
}

fn frame_pins(id: &str, pins: &Pins) -> Vec<u8> {
    let head = Head {
        key: id.to_owned(),
        keeps: Vec::new(),
    };
    let value = serde_json::to_vec(pins).expect("digests are JSON");
    frame::frame(&head, &value)
}

fn valid_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id.as_bytes()[0].is_ascii_alphanumeric()
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_names_are_checked() {
        let (a, b) = (random_id().unwrap(), random_id().unwrap());
        assert_ne!(a, b);
        assert!(a.len() == 64 && a.bytes().all(|b| b.is_ascii_hexdigit()));
        assert!(is_container_name("a-working-container_1.2"));
        for bad in ["", "a", "-a", "a b", "a/b"] {
            assert!(!is_container_name(bad), "{bad}");
        }
    }
}
