//! Why a container could not be made, run or removed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::image::Reference;
use crate::layer;
use crate::sandbox::network::{Protocol, RangeError, Subnet};
use crate::sandbox::{self, IdSwap, Remedy};
use crate::store;
use crate::transfer;

/// Why a container command did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image is not there and can't be had.
    #[error("cannot get image `{reference}`")]
    Image {
        /// Its name.
        reference: Box<Reference>,
        /// The reason.
        source: transfer::Error,
    },
    /// The image is not there, and it was not to be pulled.
    #[error("no image `{text}` in the store")]
    NoImage {
        /// As it was asked for.
        text: String,
        /// Names that are nearest to it.
        nearest: Vec<String>,
    },
    /// Neither the image nor the command line names a program.
    #[error("no command: the image has neither ENTRYPOINT nor CMD, and none was given")]
    NoCommand,
    /// The name belongs to another container.
    #[error("the name `{name}` is taken by container {by}")]
    NameTaken {
        /// The name.
        name: String,
        /// Short id of the container that has it.
        by: String,
    },
    /// The name has characters that names can't have.
    #[error(
        "`{name}` is no container name: letters, digits, `_`, `.` and `-`, two at least, the first a letter or digit"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// No container has this name or id.
    #[error("no container `{text}`")]
    NoContainer {
        /// As it was asked for.
        text: String,
        /// Names that are nearest to it.
        nearest: Vec<String>,
    },
    /// Several containers' ids begin so.
    #[error("`{text}` is the beginning of several container ids")]
    Ambiguous {
        /// As it was asked for.
        text: String,
    },
    /// The container runs.
    #[error("container `{name}` is running")]
    Running {
        /// Its name.
        name: String,
    },
    /// The container was to be removed, and something was in the way.
    #[error("container `{name}` is dead: it was to be removed, and something was in the way")]
    Dead {
        /// Its name.
        name: String,
    },
    /// The source of a bind mount is not there.
    #[error("bind source {} does not exist", path.display())]
    NoBindSource {
        /// The path on the host.
        path: PathBuf,
    },
    /// What a container mounts there can't reach the machine.
    #[error("{} lies on the mount {}, which is not shared (rshared)", path.display(), on.display())]
    NotShared {
        /// The source.
        path: PathBuf,
        /// The mount point.
        on: PathBuf,
    },
    /// A file or directory of a container.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No volume has this name.
    #[error("no volume `{text}`")]
    NoVolume {
        /// As it was asked for.
        text: String,
        /// Names that are nearest to it.
        nearest: Vec<String>,
    },
    /// The name has characters that names can't have.
    #[error(
        "`{name}` is no volume name: letters, digits, `_`, `.` and `-`, two at least, the first a letter or digit"
    )]
    BadVolumeName {
        /// The name.
        name: String,
    },
    /// A volume can't be made so.
    #[error("volume options: {why}")]
    VolumeOptions {
        /// What is wrong.
        why: String,
    },
    /// The volume has files in a container that runs only.
    #[error("volume `{name}` is memory, which has files only while a container runs")]
    VolumeInMemory {
        /// The volume.
        name: String,
    },
    /// Another container has the memory that the volume is.
    #[error("volume `{name}` is memory, and container `{by}` has it while it runs")]
    VolumeMemoryTaken {
        /// The volume.
        name: String,
        /// Name of the container.
        by: String,
    },
    /// Containers mount the volume.
    #[error("volume `{name}` is used by {}", users.join(", "))]
    VolumeInUse {
        /// The volume.
        name: String,
        /// Names of the containers.
        users: Vec<String>,
    },
    /// No network has this name or id.
    #[error("no network `{text}`")]
    NoNetwork {
        /// As it was asked for.
        text: String,
        /// Names that are nearest to it.
        nearest: Vec<String>,
    },
    /// The name has characters that names can't have, or means something else.
    #[error(
        "`{name}` is no name for a network: letters, digits, `_`, `.` and `-`, two at least, the first a letter or digit, and no word that `--network` knows"
    )]
    BadNetworkName {
        /// The name.
        name: String,
    },
    /// The name belongs to another network.
    #[error("network `{name}` exists already")]
    NetworkTaken {
        /// The name.
        name: String,
    },
    /// Running containers use the network.
    #[error("network `{name}` is used by {}", users.join(", "))]
    NetworkInUse {
        /// The network.
        name: String,
        /// Names of the containers.
        users: Vec<String>,
    },
    /// Somebody has the address.
    #[error("address {address} is taken by {by}")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Who has it.
        by: String,
    },
    /// The container has no network that could be added to.
    #[error("container `{name}` uses the machine's network, another container's or none")]
    NoOwnNetwork {
        /// The container.
        name: String,
    },
    /// The container is on the network already.
    #[error("container `{name}` is connected to network `{network}` already")]
    Connected {
        /// The container.
        name: String,
        /// The network.
        network: String,
    },
    /// The container is not on the network.
    #[error("container `{name}` is not connected to network `{network}`")]
    NotConnected {
        /// The container.
        name: String,
        /// The network.
        network: String,
    },
    /// All addresses of the network are taken.
    #[error("network `{network}` has no free address")]
    NoAddress {
        /// The network.
        network: String,
    },
    /// The network can't have these addresses.
    #[error("cannot give network `{name}` its addresses")]
    NetworkRange {
        /// The network.
        name: String,
        /// The reason.
        source: RangeError,
    },
    /// Another network has these addresses.
    #[error("subnet {subnet} overlaps that of network `{other}`")]
    NetworkOverlap {
        /// The subnet that was asked for.
        subnet: Subnet,
        /// The other network.
        other: String,
    },
    /// Somebody has the port of the machine.
    #[error("port {at}/{} is taken{}", protocol.word(), by.as_ref().map_or_else(String::new, |by| format!(" by {by}")))]
    PortTaken {
        /// The port.
        at: SocketAddr,
        /// What it carries.
        protocol: Protocol,
        /// Who has it, where that can be told.
        by: Option<String>,
    },
    /// Not everyone may have the port of the machine.
    #[error("port {port}/{} is for root alone", protocol.word())]
    PortPrivileged {
        /// The port.
        port: u16,
        /// What it carries.
        protocol: Protocol,
    },
    /// The port of the machine can't be had.
    #[error("cannot publish a port at {at}/{}", protocol.word())]
    Port {
        /// The port.
        at: SocketAddr,
        /// What it carries.
        protocol: Protocol,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The container's program does not run.
    #[error("container `{name}` is not running")]
    NotRunning {
        /// The container.
        name: String,
    },
    /// The container's program has ended and is to be started again.
    #[error("container `{name}` is waiting to be started again")]
    Restarting {
        /// The container.
        name: String,
    },
    /// The container's processes are halted.
    #[error("container `{name}` is paused")]
    Paused {
        /// The container.
        name: String,
    },
    /// The container's processes are not halted.
    #[error("container `{name}` is not paused")]
    NotPaused {
        /// The container.
        name: String,
    },
    /// Nothing says whether the container is healthy.
    #[error("container `{name}` has no health check")]
    NoHealthCheck {
        /// The container.
        name: String,
    },
    /// Neither a container nor an image has this name.
    #[error("no container and no image `{text}`")]
    NothingToDebug {
        /// As it was asked for.
        text: String,
        /// Names that are nearest to it.
        nearest: Vec<String>,
    },
    /// The container only looks at another.
    #[error("container `{name}` is itself one of `cask debug`")]
    Tools {
        /// The container.
        name: String,
    },
    /// There is no such file in the container.
    #[error("no file {} in container `{name}`", path.display())]
    NoFile {
        /// The container.
        name: String,
        /// As it was asked for.
        path: PathBuf,
    },
    /// The container keeps no log.
    #[error("container `{name}` keeps no log (--log-driver=none)")]
    NoLog {
        /// The container.
        name: String,
    },
    /// There is no journal to write to.
    #[error("cannot reach the journal (--log-driver=journald)")]
    Journal {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The program did not start; its monitor says why.
    #[error(transparent)]
    NotStarted(Told),
    /// The monitor could not be started or spoken to.
    #[error("cannot talk to the container's monitor")]
    Monitor {
        /// The kernel's answer.
        source: io::Error,
    },
    /// A terminal was asked for, and standard input is none.
    #[error("standard input is not a terminal")]
    NoTerminal,
    /// The caller's terminal or signals.
    #[error("cannot {doing}")]
    Terminal {
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A container's user can't be the caller, because the caller has too few ids.
    #[error("the user {}:{} is beyond the ids of this user's containers", .ids.uid, .ids.gid)]
    BeyondIds {
        /// The user and group.
        ids: IdSwap,
    },
    /// The program did not start, or could not be waited for.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A layer.
    #[error(transparent)]
    Layer(#[from] layer::Error),
}

impl Error {
    /// Returns the exit code that `docker run` would give: 127 for a program that is not there, 126 for
    /// one that can't be executed, 125 for all else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Sandbox(error) => error.exit_code(),
            Self::NotStarted(told) => told.code,
            _ => 125,
        }
    }
}

/// An error of another process: its text, and what it came from.
#[derive(Debug)]
pub struct Told {
    text: String,
    /// docker's exit code for it.
    code: u8,
    remedy: Option<Remedy>,
    source: Option<Box<Self>>,
}

impl Told {
    /// Makes one of a chain, the outermost first.
    pub(super) fn new(chain: Vec<String>, code: u8, remedy: Option<Remedy>) -> Self {
        let make = |source, text| Self {
            text,
            code,
            remedy,
            source,
        };
        let link = |source: Option<Box<Self>>, text| Some(Box::new(make(source, text)));
        let made = chain.into_iter().rev().fold(None, link);
        made.map_or_else(
            || make(None, "the program did not start".to_owned()),
            |made| *made,
        )
    }

    /// What to do about a limit that can't be kept, if that was in the way.
    pub fn remedy(&self) -> Option<Remedy> {
        self.remedy
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Told {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.source.as_deref();
        source.map(|source| source as &(dyn std::error::Error + 'static))
    }
}
