//! Starts a container: everything is decided and made ready here, then a monitor takes over.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Gid, Mode, OFlags, Uid};

use crate::event::Sink;
use crate::layer::{Stack, Tree, TreePath};
use crate::sandbox::network::Protocol;
use crate::sandbox::{self, WindowSize};
use crate::store::{ContainerLock, Store};

use super::attached::Session;
use super::container::{self, Config, Container};
use super::control::Link;
use super::debug::Debugged;
use super::error::Error;
use super::health;
use super::ids::{self, Lower};
use super::logs;
use super::monitor::{self, Job};
use super::networks::{self, Lease, Plug, UserNetwork};
use super::ports::{self, Bound};
use super::spec::{self, Ground, LogDriver, Network, Other};
use super::volumes::{self, VolumeSource};
use super::wire::Request;

/// Who wants to be attached from the first byte on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// Nobody: the container is on its own once it runs.
    Nobody,
    /// The caller; `input` says whether it sends any.
    Caller {
        /// Whether the caller's input is the program's.
        input: bool,
    },
}

/// Starts `container` and returns once its program has been executed, with the session if one
/// was asked for. `window` is the size of its terminal, if it has one.
pub fn start(
    store: &Store,
    container: &Container,
    attach: Attach,
    window: Option<WindowSize>,
    sink: &dyn Sink,
) -> Result<Option<Session>, Error> {
    let lock = container.claim()?;
    container.refuse_dead()?;
    let leases = networks::take_leases(store, container)?;
    let started = start_with(store, container, (lock, leases), attach, window, sink);
    // One that was removed at its end does not run either, and why it ended is what counts.
    if started.is_err() && !container.runs().unwrap_or(false) {
        networks::release_leases(store.root(), &container.id);
    }
    started
}

/// The same with the container's lock and what it has on networks.
fn start_with(
    store: &Store,
    container: &Container,
    (lock, leases): (ContainerLock, Vec<(UserNetwork, Lease)>),
    attach: Attach,
    window: Option<WindowSize>,
    sink: &dyn Sink,
) -> Result<Option<Session>, Error> {
    let config = &container.config;
    let request = &config.request;
    let mut ground = ground(store, container, window, sink)?;
    let leased = leases.iter().flat_map(|(_, lease)| &lease.addresses);
    ground.leased = leased.copied().collect();
    check_shared(config)?;
    volumes::check_memory(store, &container.id, &config.mounts)?;
    let other = shared(store, request)?;
    ground.other = other.as_ref().map(|other| seen(store, other)).transpose()?;
    let plan = spec::plan(&container.id, config, ground)?;
    let Kept { log, journal } = kept(container)?;
    let image = &config.image_config;
    let (ports, sockets) = match request.network {
        Network::Private | Network::Named => ports(store, container)?,
        Network::Host | Network::None | Network::Container => (Vec::new(), Vec::new()),
    };
    let joins = matches!(request.debugged, Some(Debugged::Running(_)));
    // The one who has the rights to the other's namespaces is its monitor.
    let near = other.filter(|_| joins || matches!(plan.network, sandbox::Network::Join(_)));
    let job = Job {
        id: container.id.clone(),
        dir: container.dir.clone(),
        root: store.root().to_owned(),
        user_xattr: store.user_xattr(),
        owners: store.marks().ownership(),
        plan,
        reach: spec::reach(request),
        interactive: request.interactive,
        // As with docker: a terminal stays open for whoever attaches next.
        stdin_once: request.interactive && attach != Attach::Nobody && !request.tty,
        remove: request.remove,
        restart: request.restart,
        check: health::check(image.healthcheck.as_ref(), &request.health, &image.shell),
        log,
        journal,
        plugs: plugs(request, &leases),
        shares: near.is_some(),
        joins,
        ports,
    };
    let first = match attach {
        Attach::Nobody => Request::Started,
        Attach::Caller { input } => Request::Attach {
            input,
            window: None,
        },
    };
    let socket = monitor::launch(&job, lock, sockets, first, near.as_ref())?;
    let link = Link::asked(socket, container);
    link.answer()?;
    Ok(match attach {
        Attach::Nobody => None,
        Attach::Caller { input } => Some(Session::of_container(
            link.into_socket(),
            request.tty,
            input && request.interactive,
        )),
    })
}

/// Mounts that are to reach the machine must be able to.
fn check_shared(config: &Config) -> Result<(), Error> {
    for mount in config.mounts.iter().filter(|mount| mount.shares) {
        let VolumeSource::Bind(path) = &mount.source else {
            continue;
        };
        let found = volumes::unshared(path).map_err(|source| Error::Io {
            doing: "find the mount of",
            path: path.clone(),
            source,
        })?;
        if let Some(on) = found {
            return Err(Error::NotShared {
                path: path.clone(),
                on,
            });
        }
    }
    Ok(())
}

/// What keeps a container's output.
struct Kept {
    /// Size and number of its log's files.
    log: Option<(u64, u64)>,
    /// What the journal is told of it.
    journal: Option<logs::Fields>,
}

/// Finds out what keeps its output.
fn kept(container: &Container) -> Result<Kept, Error> {
    let config = &container.config;
    let log = &config.request.log;
    let mut kept = Kept {
        log: Some((log.max_size, log.max_files)),
        journal: None,
    };
    match log.driver {
        LogDriver::None => kept.log = None,
        LogDriver::JsonFile => {}
        LogDriver::Journald => {
            logs::probe().map_err(|source| Error::Journal { source })?;
            kept.journal = Some(logs::Fields {
                id: container.id.clone(),
                name: config.name.clone(),
                image: config.image_name.clone(),
            });
        }
    }
    Ok(kept)
}

/// The container whose network this one uses, which must be up.
fn shared(store: &Store, request: &spec::Request) -> Result<Option<Container>, Error> {
    let Some(id) = &request.shares else {
        return Ok(None);
    };
    let other = container::find(store, id)?;
    match other.state()?.status.is_up() {
        true => Ok(Some(other)),
        false => Err(Error::NotRunning {
            name: other.config.name,
        }),
    }
}

/// What is the same in both containers.
fn seen(store: &Store, other: &Container) -> Result<Other, Error> {
    let request = other.config.request.clone();
    let mut leased = Vec::new();
    for attachment in &request.networks {
        let lease = networks::lease_of(store, &attachment.network, &other.id)?;
        leased.extend(lease.into_iter().flat_map(|lease| lease.addresses));
    }
    Ok(Other {
        id: other.id.clone(),
        request,
        leased,
    })
}

/// How it is on its networks. The private one is the first, if it has that.
fn plugs(request: &spec::Request, leases: &[(UserNetwork, Lease)]) -> Vec<Plug> {
    let private = request.network == Network::Private;
    let reach = spec::asked_reach(request);
    networks::plugs(leases, private, reach, &request.dns)
}

/// Opens the ports it publishes.
fn ports(store: &Store, container: &Container) -> Result<(Vec<Bound>, Vec<OwnedFd>), Error> {
    let config = &container.config;
    let wanted = ports::wanted(&config.request, &config.image_config);
    let opened = ports::open(&wanted, &container.state()?.ports);
    let opened = opened.map_err(|error| match error {
        Error::PortTaken { at, protocol, by } => {
            let by = publisher(store, at, protocol).or(by);
            Error::PortTaken { at, protocol, by }
        }
        other => other,
    })?;
    Ok(opened.into_iter().unzip())
}

/// The container that `at` leads into.
fn publisher(store: &Store, at: SocketAddr, protocol: Protocol) -> Option<String> {
    // If they can't be listed, /proc has the word.
    let all = container::list(store).ok()?;
    let found = all.into_iter().find(|(_, state)| {
        let held = |bound: &Bound| (bound.outer.port(), bound.inner.protocol);
        let mut ports = state.ports.iter().map(held);
        state.status.is_up() && ports.any(|held| held == (at.port(), protocol))
    });
    found.map(|(container, _)| format!("container `{}`", container.config.name))
}

fn ground(
    store: &Store,
    container: &Container,
    window: Option<WindowSize>,
    sink: &dyn Sink,
) -> Result<Ground, Error> {
    let lowers = ids::lowers(store, container, sink)?;
    let (stack, trees) = visible(store, &lowers)?;
    let debugged = container.config.request.debugged.as_ref();
    let target = debugged.map(|debugged| debugged.mount(store, &container.dir, sink));
    take_over_root(store, container, &stack)?;
    let uname = rustix::system::uname();
    Ok(Ground {
        trees,
        target: target.transpose()?.flatten(),
        dir: container.dir.clone(),
        volumes: store.root().join("volumes"),
        user_xattr: store.user_xattr(),
        remember_owners: store.remembers_owners(),
        resolv_conf: container::read_resolv_conf(),
        leased: Vec::new(),
        other: None,
        hostname: uname.nodename().to_string_lossy().into_owned(),
        window: container
            .config
            .request
            .tty
            .then_some(window.unwrap_or(WindowSize { rows: 24, cols: 80 })),
    })
}

/// The files of unpacked layers, and those of them that show them, bottom first.
pub(super) fn visible(store: &Store, lowers: &[Lower]) -> Result<(Stack, Vec<PathBuf>), Error> {
    let stack = stacked(store, lowers);
    // Trees below one whose root is opaque are not part of the file system, and overlayfs does
    // not see that mark.
    let seen = stack.trees()?.len();
    let seen = lowers[lowers.len() - seen..].iter();
    Ok((stack, seen.map(|lower| lower.path.clone()).collect()))
}

/// The files of unpacked layers.
pub(super) fn stacked(store: &Store, lowers: &[Lower]) -> Stack {
    let fds = lowers.iter().map(|lower| lower.fd.clone());
    Stack::new(fds.collect(), store.marks())
}

/// Gives a new upper dir the owner and mode of the image's root: overlayfs shows the upper
/// dir's. Later what the container made of it stays.
fn take_over_root(store: &Store, container: &Container, image: &Stack) -> Result<(), Error> {
    if container.state()?.started.is_some() {
        return Ok(());
    }
    let Some(root) = image.node(&TreePath::ROOT)?.map(|node| node.meta) else {
        return Ok(());
    };
    let path = container.dir.join("upper");
    let change = || {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let upper = rustix::fs::open(&path, flags, Mode::empty())?;
        let (uid, gid) = (Uid::from_raw(root.uid), Gid::from_raw(root.gid));
        // With one id there is no other owner to be had.
        if !store.remembers_owners() {
            rustix::fs::fchown(&upper, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(&upper, Mode::from_raw_mode(root.mode))
    };
    change().map_err(|errno: rustix::io::Errno| Error::Io {
        doing: "prepare the writable layer",
        path: path.clone(),
        source: errno.into(),
    })
}
