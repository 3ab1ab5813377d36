//! What `cask debug` looks at: a container or an image, from a container of tools.
//!
//! The tools are a container like others, gone with its program: their image is `/`, and what is
//! looked at is [`TARGET`] in it. So the tools may be linked as they like, and what is looked at
//! needs neither a shell nor a loader. Of a container that runs, that is its very root, and the
//! tools are among its processes and on its network. Of a container that does not run, and of an
//! image, it is their files: what is written there goes away with the tools.
//!
//! What a container mounts shows only while it runs. Starting it while its files are looked at
//! is not prevented, and what is then seen of them is undefined.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::event::Sink;
use crate::image::{Healthcheck, Platform};
use crate::sandbox::{Mount, MountKind, Overlay, Propagation};
use crate::store::{Found, LayerRef, Store};

use super::container::{self, Container};
use super::error::Error;
use super::ids;
use super::spec::{LogDriver, Network, Request};
use super::start;
use super::state::Status;

/// Where the tools see what is looked at.
pub const TARGET: &str = "/target";

/// Where that is, for a program among the processes of what is looked at.
const RUNNING_ROOT: &str = "/proc/1/root";

/// What the label of the tools' container says, besides the name of what is looked at.
const LABEL: &str = "cask.debug";

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Debugged {
    /// A container that runs, by its id.
    Running(String),
    /// Files.
    Files {
        /// The layers of an image, bottom first.
        layers: Vec<LayerRef>,
        /// Id of the container that wrote on them.
        written: Option<String>,
    },
}

/// Lets the container that `request` asks for look at `text`: a container, or else an image that
/// is in the store. Returns whether that runs; if not, the network is the caller's to choose.
pub fn look_at(store: &Store, request: &mut Request, text: &str) -> Result<bool, Error> {
    request.labels.insert(LABEL.to_owned(), text.to_owned());
    request.remove = true;
    request.log.driver = LogDriver::None;
    request.health = Healthcheck {
        test: vec!["NONE".to_owned()],
        ..Healthcheck::default()
    };
    let debugged = match container::find(store, text) {
        Ok(container) => of_container(store, request, &container)?,
        Err(Error::NoContainer { nearest, .. }) => of_image(store, text, nearest)?,
        Err(error) => return Err(error),
    };
    let runs = matches!(debugged, Debugged::Running(_));
    request.debugged = Some(debugged);
    Ok(runs)
}

fn of_container(
    store: &Store,
    request: &mut Request,
    container: &Container,
) -> Result<Debugged, Error> {
    let theirs = &container.config.request;
    if theirs.debugged.is_some() {
        return Err(Error::Tools {
            name: container.config.name.clone(),
        });
    }
    let runs = matches!(container.state()?.status, Status::Running | Status::Paused);
    if !runs {
        return Ok(Debugged::Files {
            layers: container.config.layers.clone(),
            written: Some(container.id.clone()),
        });
    }
    let shared = theirs.shares.as_deref();
    let whose = shared.map(|id| container::find(store, id)).transpose()?;
    let network = whose.map_or(theirs.network, |whose| whose.config.request.network);
    request.network = match network {
        Network::Host => Network::Host,
        _ => Network::Container,
    };
    request.shares = Some(container.id.clone());
    Ok(Debugged::Running(container.id.clone()))
}

fn of_image(store: &Store, text: &str, containers: Vec<String>) -> Result<Debugged, Error> {
    match store.find(text, &Platform::host())? {
        Found::Image(image) | Found::OtherPlatform(image) => Ok(Debugged::Files {
            layers: image.layers(),
            written: None,
        }),
        Found::Nothing { nearest } => Err(Error::NothingToDebug {
            text: text.to_owned(),
            nearest: containers.into_iter().chain(nearest).collect(),
        }),
    }
}

impl Debugged {
    /// The layers that must stay while it is looked at.
    pub(super) fn layers(&self) -> &[LayerRef] {
        match self {
            Self::Running(_) => &[],
            Self::Files { layers, .. } => layers,
        }
    }

    /// Makes what the container in `dir` needs to show it.
    pub(super) fn prepare(&self, dir: &Path) -> io::Result<()> {
        match self {
            Self::Running(_) => {
                let link = dir.join("upper").join(TARGET.trim_start_matches('/'));
                std::os::unix::fs::symlink(RUNNING_ROOT, link)
            }
            Self::Files { .. } => {
                fs::create_dir(dir.join("target-upper"))?;
                fs::create_dir(dir.join("target-work"))?;
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                fs::set_permissions(dir.join("target-upper"), mode)
            }
        }
    }

    /// The mount that shows it to the container in `dir`; none where a link does.
    pub(super) fn mount(
        &self,
        store: &Store,
        dir: &Path,
        sink: &dyn Sink,
    ) -> Result<Option<Mount>, Error> {
        let Self::Files { layers, written } = self else {
            return Ok(None);
        };
        let mut lowers = Vec::new();
        let below = match written {
            Some(id) => {
                let container = container::find(store, id)?;
                lowers.push(container.dir.join("upper"));
                ids::lowers(store, &container, sink)?
            }
            None => ids::unpacked(store, layers, sink)?,
        };
        let (_, trees) = start::visible(store, &below)?;
        lowers.extend(trees.into_iter().rev());
        let overlay = Overlay {
            lowers,
            upper: dir.join("target-upper"),
            work: dir.join("target-work"),
            userxattr: store.user_xattr(),
            volatile: true,
            old_mount_api: false,
        };
        Ok(Some(Mount {
            target: TARGET.into(),
            kind: MountKind::Layers {
                overlay,
                path: "/".into(),
            },
            access: crate::sandbox::Access::default(),
            propagation: Propagation::Private,
            give: false,
        }))
    }
}
