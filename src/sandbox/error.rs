//! Why a sandbox did not start, as values a caller can act on.
//!
//! What goes wrong in the re-executed child crosses a socket as a [`Failure`] (stage, thing,
//! errno) and is an [`Error`] again on this side; no sentence and no fake exit code travels.
//! Once the program itself runs, nothing here applies: its end is an [`super::Exit`].

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::user::UserError;
use super::wire;

/// Says what the kernel answered without its number, for the middle of a sentence.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// Why a sandbox did not start or could not be waited for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The plan contradicts itself; nothing was started.
    #[error("the plan can't be carried out: {0}")]
    Plan(PlanError),
    /// A limit can't be kept.
    #[error(transparent)]
    Limit(super::cgroup::LimitError),
    /// The caller's side of starting or waiting.
    #[error("cannot {doing}")]
    Parent {
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The child could not set up its world.
    #[error("cannot {stage} {}", path.display())]
    Setup {
        /// What was being done.
        stage: Stage,
        /// To what; a path inside the root or on the host, as the stage has it.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The user that was asked for doesn't exist in the image, or is no possible id.
    #[error(transparent)]
    User(UserError),
    /// The program is nowhere (docker: exit code 127).
    #[error("program `{}` is not in the image{}", program.display(), searched(path))]
    ProgramNotFound {
        /// As the plan names it.
        program: OsString,
        /// The `PATH` that was searched, if it was.
        path: Option<OsString>,
    },
    /// The program is there and may not be executed (docker: exit code 126).
    #[error("program `{}` can't be executed", program.display())]
    ProgramNotExecutable {
        /// Its path inside the root.
        program: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The program is there, what its first line or ELF header asks for is not (docker: exit
    /// code 127).
    #[error("program `{}` needs `{}`, which is not in the image", program.display(), interpreter.display())]
    InterpreterMissing {
        /// Its path inside the root.
        program: PathBuf,
        /// The script interpreter or dynamic loader that is missing.
        interpreter: PathBuf,
    },
    /// The file is no program this kernel can start: another architecture, or a script
    /// without `#!` (docker: exit code 126).
    #[error("`{}` is not a program that this machine can run", program.display())]
    ProgramFormat {
        /// Its path inside the root.
        program: PathBuf,
    },
    /// The child ended before it could report: killed, out of memory, or not our program.
    #[error("the sandbox ended before its program was started ({0})")]
    Lost(super::Exit),
}

fn searched(path: &Option<OsString>) -> String {
    match path {
        Some(path) => format!(" (PATH is `{}`)", path.display()),
        None => String::new(),
    }
}

/// What contradicts itself in a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is nothing to run.
    #[error("it names no program")]
    NoProgram,
    /// A string that must reach the kernel holds a NUL byte.
    #[error("the {0} holds a NUL byte")]
    Nul(&'static str),
    /// A variable name is empty or holds `=`.
    #[error("`{}` can't be the name of a variable", .0.display())]
    Variable(OsString),
    /// A path inside the root doesn't begin with `/`.
    #[error("the {what} `{}` is not absolute", path.display())]
    Relative {
        /// Which path.
        what: &'static str,
        /// Its text.
        path: PathBuf,
    },
    /// More layers than overlayfs can stack.
    #[error("it stacks {0} layers, and overlayfs takes 500 times 500")]
    Layers(usize),
    /// A mount refers to a descriptor that was not handed over.
    #[error("it mounts descriptor {index} of {given}")]
    Descriptor {
        /// The index in the plan.
        index: usize,
        /// How many were handed over.
        given: usize,
    },
    /// Docker's profile can't be translated for this processor.
    #[error("there is no table of system calls for {0}, so only an unconfined program can run")]
    NoSyscallTable(&'static str),
    /// The network refers to a descriptor that was not handed over.
    #[error("it joins the network of descriptor {index} of {given}")]
    Namespace {
        /// The index in the plan.
        index: usize,
        /// How many were handed over.
        given: usize,
    },
    /// The processes to be among are in descriptors that were not handed over.
    #[error("it is among the processes of descriptor {index} of {given}")]
    Processes {
        /// The index of the first in the plan.
        index: usize,
        /// How many were handed over.
        given: usize,
    },
    /// A program that is among another sandbox's processes is no place to enter.
    #[error("it is to be in a sandbox that has no processes of its own")]
    NoProcesses,
    /// A directory as standard input, output or error would be a door to the host.
    #[error("{0} is a directory")]
    DirectoryAsStdio(&'static str),
    /// Something that takes a namespace, in a plan without any.
    #[error("it has no namespaces, and {0}")]
    NoNamespace(&'static str),
    /// A terminal and separate streams exclude each other.
    #[error("it asks for a terminal and for a separate {0}")]
    TerminalAndStream(&'static str),
}

/// The steps of the child, in no order; each reads as the words after "cannot".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Stage {
    /// Reading the plan that the parent left.
    #[error("read the plan from")]
    Plan,
    /// Cutting mount propagation.
    #[error("make private the mounts below")]
    Private,
    /// Entering the group that limits it.
    #[error("enter the control group of")]
    Limits,
    /// Mounting the root file system.
    #[error("mount the root file system on")]
    Root,
    /// Opening the host side of a mount.
    #[error("open the mount source")]
    Source,
    /// Creating a missing mount point.
    #[error("create the mount point")]
    MountPoint,
    /// Mounting.
    #[error("mount")]
    Mount,
    /// Hiding a path.
    #[error("mask")]
    Mask,
    /// Making a path read-only.
    #[error("make read-only")]
    ReadOnly,
    /// Making device nodes and links.
    #[error("create the device")]
    Device,
    /// Making the terminal.
    #[error("open a terminal in")]
    Terminal,
    /// Entering the new root.
    #[error("enter the root file system")]
    Pivot,
    /// Setting the host name.
    #[error("set the host name to")]
    Hostname,
    /// Bringing up the loopback interface.
    #[error("bring up the network interface")]
    Loopback,
    /// Keeping track of processes without a pid namespace.
    #[error("keep track of the processes of")]
    Family,
    /// Making a network namespace.
    #[error("make a network namespace for")]
    NetworkNamespace,
    /// Making a network interface.
    #[error("make a network interface with")]
    Tun,
    /// Giving an interface its addresses and routes.
    #[error("give addresses to the network interface")]
    Address,
    /// Joining a network namespace.
    #[error("join the network namespace of")]
    JoinNetwork,
    /// Joining the processes of another sandbox.
    #[error("join the processes of")]
    JoinProcesses,
    /// Giving ids of its own.
    #[error("give other ids to")]
    Ids,
    /// Giving a mount to the user.
    #[error("give to the user what is mounted at")]
    Owner,
    /// Reading the user database.
    #[error("read the user database")]
    UserDatabase,
    /// Entering the working directory.
    #[error("enter the working directory")]
    WorkDir,
    /// Changing a kernel setting.
    #[error("set the kernel setting")]
    Sysctl,
    /// Telling the kernel when to kill it.
    #[error("set the OOM score of")]
    OomScore,
    /// Setting a resource limit.
    #[error("set the resource limit")]
    Rlimit,
    /// Leaving the caller's keyring.
    #[error("create a session keyring for")]
    Keyring,
    /// Changing user and groups.
    #[error("become the user")]
    Identity,
    /// Dropping capabilities.
    #[error("set the capabilities of")]
    Capabilities,
    /// Entering the namespaces of a sandbox that runs.
    #[error("enter")]
    Join,
    /// Installing a system call filter.
    #[error("filter the system calls of")]
    Seccomp,
    /// Starting the program below the init.
    #[error("start a process for")]
    Fork,
    /// Executing the program.
    #[error("execute")]
    Exec,
}

/// What the child says when it can't go on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    Setup {
        stage: Stage,
        #[serde(with = "wire::name")]
        path: PathBuf,
        errno: i32,
    },
    User(UserError),
    NotFound {
        #[serde(with = "wire::name")]
        program: OsString,
        path: Option<Searched>,
    },
    NotExecutable {
        #[serde(with = "wire::name")]
        program: PathBuf,
        errno: i32,
    },
    Interpreter {
        #[serde(with = "wire::name")]
        program: PathBuf,
        #[serde(with = "wire::name")]
        interpreter: PathBuf,
    },
    Format {
        #[serde(with = "wire::name")]
        program: PathBuf,
    },
}

/// A `PATH`, wrapped so that an absent one can cross.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Searched(#[serde(with = "wire::name")] pub(super) OsString);

impl Failure {
    /// `stage` on `path` got `source` for an answer.
    pub(super) fn setup(
        stage: Stage,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        let source = source.into();
        // An error of ours without a number is about data: EINVAL says that best.
        let errno = source.raw_os_error().unwrap_or(libc::EINVAL);
        Self::Setup {
            stage,
            path: path.into(),
            errno,
        }
    }
}

impl Error {
    /// Returns docker's exit code for a program that did not start.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ProgramNotFound { .. } | Self::InterpreterMissing { .. } => 127,
            Self::ProgramNotExecutable { .. } | Self::ProgramFormat { .. } => 126,
            // docker goes by the kernel's answer here.
            Self::Setup {
                stage: Stage::WorkDir,
                source,
                ..
            } => match source.kind() {
                io::ErrorKind::NotFound => 127,
                io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied => 126,
                _ => 125,
            },
            _ => 125,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let os = io::Error::from_raw_os_error;
        match failure {
            Failure::Setup { stage, path, errno } => Self::Setup {
                stage,
                path,
                source: os(errno),
            },
            Failure::User(error) => Self::User(error),
            Failure::NotFound { program, path } => Self::ProgramNotFound {
                program,
                path: path.map(|Searched(path)| path),
            },
            Failure::NotExecutable { program, errno } => Self::ProgramNotExecutable {
                program,
                source: os(errno),
            },
            Failure::Interpreter {
                program,
                interpreter,
            } => Self::InterpreterMissing {
                program,
                interpreter,
            },
            Failure::Format { program } => Self::ProgramFormat { program },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_child_says_arrives_as_it_was() {
        let failures = [
            Failure::setup(
                Stage::WorkDir,
                "/proc/self/fd/7",
                io::Error::from_raw_os_error(40),
            ),
            Failure::User(UserError::NoUser("app".into())),
            Failure::NotFound {
                program: "tool".into(),
                path: Some(Searched("/bin".into())),
            },
            Failure::NotFound {
                program: "/x".into(),
                path: None,
            },
            Failure::NotExecutable {
                program: "/etc".into(),
                errno: 21,
            },
            Failure::Interpreter {
                program: "/a".into(),
                interpreter: "/bin/bash\r".into(),
            },
            Failure::Format {
                program: "/a".into(),
            },
        ];
        let texts: Vec<String> = failures
            .iter()
            .map(|failure| {
                let json = serde_json::to_vec(failure).unwrap();
                Error::from(serde_json::from_slice::<Failure>(&json).unwrap()).to_string()
            })
            .collect();
        insta::assert_debug_snapshot!(texts);
    }

    #[test]
    fn the_kernels_answer_is_the_source_and_not_in_the_text() {
        use std::error::Error as _;
        let errno = io::Error::from_raw_os_error(libc::EACCES);
        let error = Error::from(Failure::setup(Stage::Mount, "/mnt", errno));
        assert_eq!(error.to_string(), "cannot mount /mnt");
        let source = error.source().map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("Permission denied (os error 13)"));
        let errno = io::Error::from_raw_os_error(libc::EACCES);
        assert_eq!(reason(&errno), "Permission denied");
        assert_eq!(reason(&io::Error::other("odd")), "odd");
    }
}
