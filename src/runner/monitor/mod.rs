//! The monitor: one small process a container, from its start until it is started no more.
//!
//! It is our own binary again, with its job in a sealed file, and outlives whoever started it.
//! It holds the container's lock, its terminal or pipes, its log and its health checks; it
//! starts the program again where the policy says so; it serves clients on the socket `ctl` in
//! the container's directory. One thread and one poll ([`serve`]) do all of that.
//!
//! ```text
//! 0 1 2  /dev/null     3  the job     4  the first client     5  the lock
//! 6 …    sockets of published ports, and behind them the executable
//! ```
//!
//! The first client is a socket that the starter keeps the other end of: what `run` attaches by
//! is there before the program is, so no byte of output can be missed.
//!
//! When a monitor is killed its container ends with it (the sandbox's promise) and the kernel
//! frees the lock; the next command finds `state.json` saying otherwise and corrects it.

mod client;
mod network;
mod requests;
mod run;
mod serve;

pub(super) use serve::short_path;

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use crate::layer::Ownership;
use crate::sandbox::network::Reach;
use crate::sandbox::{self, Plan, child::Role};
use crate::store::ContainerLock;

use super::container::Container;
use super::control;
use super::error::Error;
use super::health::Check;
use super::logs;
use super::networks::Plug;
use super::ports::Bound;
use super::restart::Restart;
use super::wire::{self, Packet, Request};

/// What a container's monitor is to the binaries.
pub const MONITOR: Role = Role {
    argv0: MONITOR_ARGV0,
    serve: serve::main,
};

const MONITOR_ARGV0: &CStr = c"cooper:monitor";
const JOB_FD: i32 = 3;
const CLIENT_FD: i32 = 4;
const LOCK_FD: i32 = 5;
const PORTS_FD: i32 = 6;

/// The socket's name in the container's directory.
pub(super) const SOCKET: &str = "ctl";

/// All that a monitor knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) id: String,
    /// The container's directory.
    pub(super) dir: PathBuf,
    /// The store's root, and what it must be opened with.
    pub(super) root: PathBuf,
    pub(super) user_xattr: bool,
    pub(super) owners: Ownership,
    pub(super) plan: Plan,
    /// What the program's private network reaches, if it has one.
    pub(super) reach: Option<Reach>,
    /// Whether the program has an input.
    pub(super) interactive: bool,
    /// Whether the input ends with the first client that gives any.
    pub(super) stdin_once: bool,
    /// Whether the container is removed at the end.
    pub(super) remove: bool,
    pub(super) restart: Restart,
    pub(super) check: Option<Check>,
    /// Size and number of log files; `None` keeps no log.
    pub(super) log: Option<(u64, u64)>,
    /// What the journal is told of the container, if that is to have its output as well.
    pub(super) journal: Option<logs::Fields>,
    /// Networks of users that it is on.
    pub(super) plugs: Vec<Plug>,
    /// Whether another container's monitor starts this one. The namespace of its network comes
    /// behind the ports then.
    pub(super) shares: bool,
    /// Whether the program is among the processes of that container. Its pid and IPC namespaces
    /// come next then.
    pub(super) joins: bool,
    /// What is published; their sockets come with the job.
    pub(super) ports: Vec<Bound>,
}

/// Starts a monitor and returns the first client's end of its connection, on which `first` has
/// been asked. The answer says whether the program runs. The monitor of `near`, if there is one,
/// starts it, with its container's network.
pub(super) fn launch(
    job: &Job,
    lock: ContainerLock,
    ports: Vec<OwnedFd>,
    first: Request,
    near: Option<&Container>,
) -> Result<OwnedFd, Error> {
    let failed = |source: std::io::Error| Error::Monitor { source };
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|errno| failed(errno.into()))?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = rustix::fs::memfd_create("job", flags).map_err(|errno| failed(errno.into()))?;
    let mut memfd = File::from(memfd);
    let bytes = serde_json::to_vec(job).expect("a job holds nothing JSON cannot");
    memfd.write_all(&bytes).map_err(failed)?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memfd, seals).map_err(|errno| failed(errno.into()))?;
    let given: [OwnedFd; 3] = [memfd.into(), theirs, lock.into()];
    // Before the monitor lives: it counts on it when it starts the program.
    wire::send(ours.as_fd(), &Packet::Request(first), &[]).map_err(failed)?;
    match near {
        None => {
            let fds = given.into_iter().chain(ports);
            spawn(fds).map_err(failed)?;
        }
        Some(near) => {
            let fds = given.each_ref().map(AsFd::as_fd);
            let request = Request::Launch { joins: job.joins };
            control::connect(near)?.ask_with(&request, &fds)?;
        }
    }
    Ok(ours)
}

/// Starts a monitor with these descriptors, from [`JOB_FD`] on.
fn spawn(given: impl Iterator<Item = OwnedFd>) -> std::io::Result<OwnedFd> {
    let null = || File::options().read(true).write(true).open("/dev/null");
    let mut fds: Vec<OwnedFd> = Vec::new();
    for _ in 0..3 {
        fds.push(null()?.into());
    }
    fds.extend(given);
    sandbox::respawn(MONITOR_ARGV0, fds)
}

/// Reads the job that [`launch`] left.
fn read_job(memfd: OwnedFd) -> std::io::Result<Job> {
    let mut file = File::from(memfd);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}
