//! The process of a network: found, started when there is none, and what it does.
//!
//! ```text
//! networks/<name>/running   locked (flock) by the process
//! networks/<name>/ctl       its socket, for the container's owner only
//! ```
//!
//! The first member's monitor takes the lock, opens the socket and hands both over; so members
//! that come at the same time never start two. It is nobody's child. Its end, also by a kill,
//! frees the lock, and all members that are left start one again.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::{WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};

use crate::layer::Ownership;
use crate::sandbox::child::Role;
use crate::sandbox::network::{Fabric, serve_members};
use crate::sandbox::{inherited, respawn};
use crate::store::{self, Store};

use super::super::monitor::{SOCKET, short_path};
use super::names::Files;
use super::{dir, load};

/// What the process of a network is to the binaries.
pub const NETWORK: Role = Role {
    argv0: ARGV0,
    serve: main,
};

const ARGV0: &CStr = c"cooper:members";
const JOB_FD: i32 = 3;
const LISTENER_FD: i32 = 4;
const LOCK_FD: i32 = 5;
const EXE_FD: i32 = 6;

/// Exit code of a process that was started by the name and is none.
const NOT_A_NETWORK: i32 = 125;
/// How long a process may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a network is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::runner) struct Place {
    /// The store's root, and what it must be opened with.
    pub(in crate::runner) root: PathBuf,
    pub(in crate::runner) user_xattr: bool,
    pub(in crate::runner) owners: Ownership,
    /// The network's name.
    pub(in crate::runner) network: String,
}

/// Connects to the process of a network, and starts it if there is none.
pub(super) fn connect(place: &Place) -> io::Result<OwnedFd> {
    let path = dir(&place.root, &place.network);
    let dir = File::open(&path)?;
    let address = SocketAddrUnix::new(short_path(dir.as_fd()))?;
    let until = Instant::now() + PATIENCE;
    loop {
        let socket = socket(SocketFlags::empty())?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::NOENT | Errno::CONNREFUSED) if Instant::now() < until => {}
            Err(errno) => return Err(errno.into()),
        }
        match lock(&path)? {
            Some(lock) => launch(place, &path, &address, lock)?,
            // It starts or ends right now.
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Takes the lock of a network's process; `None` when one has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let lock = File::create(path.join("running"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let (kind, flags) = (SocketType::SEQPACKET, flags | SocketFlags::CLOEXEC);
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        kind,
        flags,
        None,
    )?)
}

/// Starts the process of a network whose lock is held.
fn launch(place: &Place, path: &Path, address: &SocketAddrUnix, lock: File) -> io::Result<()> {
    // One that was killed has left its socket.
    match fs::remove_file(path.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = socket(SocketFlags::NONBLOCK)?;
    // The file gets the mode of the socket.
    rustix::fs::fchmod(&listener, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&listener, address)?;
    rustix::net::listen(&listener, 1024)?;
    let (job, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // Less than a pipe takes.
    File::from(writer).write_all(&serde_json::to_vec(place)?)?;
    let null = || File::options().read(true).write(true).open("/dev/null");
    let mut fds: Vec<OwnedFd> = Vec::new();
    for _ in 0..3 {
        fds.push(null()?.into());
    }
    fds.extend([job, listener, lock.into()]);
    let started = respawn(ARGV0, fds)?;
    // What was started leaves another process behind and ends.
    rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(started.as_fd()), WaitIdOptions::EXITED)
    })?;
    Ok(())
}

/// Serves as the process of a network.
fn main() -> i32 {
    match serve() {
        Ok(()) => 0,
        Err(_) => NOT_A_NETWORK,
    }
}

fn serve() -> io::Result<()> {
    let mut text = Vec::new();
    File::from(inherited(JOB_FD)?).read_to_end(&mut text)?;
    let (listener, lock) = (inherited(LISTENER_FD)?, inherited(LOCK_FD)?);
    // It starts nothing.
    drop(inherited(EXE_FD)?);
    let place: Place = serde_json::from_slice(&text)?;
    let options = store::Options {
        user_xattr: place.user_xattr,
        owners: place.owners,
    };
    let store = Store::open(&place.root, options).map_err(io::Error::other)?;
    let network = load(&place.root, &place.network).map_err(io::Error::other)?;
    let network = network.ok_or(io::ErrorKind::NotFound)?;
    let fabric = Fabric {
        subnets: network.ranges.iter().map(|range| range.subnet).collect(),
        gateways: network.ranges.iter().map(|range| range.gateway).collect(),
        internal: network.internal,
    };
    let socket = dir(&place.root, &place.network).join(SOCKET);
    let network = place.network;
    let served = serve_members(listener, fabric, Box::new(Files { store, network }));
    // The lock is still held, so it is ours. A network that was removed took it along.
    let _ = fs::remove_file(socket);
    drop(lock);
    served
}
