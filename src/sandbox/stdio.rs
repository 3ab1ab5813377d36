//! The three standard streams of a program, from the caller's side.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use super::error::{Error, PlanError};
use super::plan::Plan;

/// Where the program's input comes from.
#[derive(Debug, Default)]
pub enum Input {
    /// Nowhere: end of file at once.
    #[default]
    Null,
    /// This descriptor.
    Fd(OwnedFd),
    /// A pipe whose other end is [`Child::stdin`](super::Child::stdin).
    Pipe,
}

/// Where the program's output goes.
#[derive(Debug, Default)]
pub enum Output {
    /// Nowhere.
    #[default]
    Null,
    /// This descriptor.
    Fd(OwnedFd),
    /// A pipe whose other end is [`Child::stdout`](super::Child::stdout) or [`Child::stderr`](super::Child::stderr).
    Pipe,
}

/// The descriptors a child starts with. With a terminal in the plan the three streams must be
/// left `Null`: the terminal is all three.
#[derive(Debug, Default)]
pub struct Stdio {
    /// Standard input.
    pub stdin: Input,
    /// Standard output.
    pub stdout: Output,
    /// Standard error.
    pub stderr: Output,
    /// Files and directories that the plan mounts by index ([`Source::Fd`](super::Source::Fd)).
    pub fds: Vec<OwnedFd>,
}

/// The caller's ends of the streams that are pipes.
pub(super) type Ends = [Option<OwnedFd>; 3];

/// The child's three streams and the caller's ends of those that are pipes.
pub(super) fn streams(
    plan: &Plan,
    stdin: Input,
    stdout: Output,
    stderr: Output,
) -> Result<(Vec<OwnedFd>, Ends), Error> {
    let taken = [
        ("stdin", !matches!(stdin, Input::Null)),
        ("stdout", !matches!(stdout, Output::Null)),
        ("stderr", !matches!(stderr, Output::Null)),
    ];
    if plan.tty.is_some()
        && let Some((name, _)) = taken.iter().find(|(_, taken)| *taken)
    {
        return Err(Error::Plan(PlanError::TerminalAndStream(name)));
    }
    let (zero, to_stdin) = match stdin {
        Input::Null => (null(OFlags::RDONLY)?, None),
        Input::Fd(fd) => (no_directory(fd, "standard input")?, None),
        Input::Pipe => {
            let (read, write) = pipe()?;
            (read, Some(write))
        }
    };
    let (one, from_stdout) = output(stdout, "standard output")?;
    let (two, from_stderr) = output(stderr, "standard error")?;
    Ok((vec![zero, one, two], [to_stdin, from_stdout, from_stderr]))
}

fn output(to: Output, name: &'static str) -> Result<(OwnedFd, Option<OwnedFd>), Error> {
    match to {
        Output::Null => Ok((null(OFlags::WRONLY)?, None)),
        Output::Fd(fd) => Ok((no_directory(fd, name)?, None)),
        Output::Pipe => pipe().map(|(read, write)| (write, Some(read))),
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Error::Parent {
        doing: "make a pipe",
        source: errno.into(),
    })
}

fn null(how: OFlags) -> Result<OwnedFd, Error> {
    rustix::fs::open("/dev/null", how | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
        Error::Parent {
            doing: "open /dev/null",
            source: errno.into(),
        }
    })
}

/// `/proc/self/fd/0` would lead out of the sandbox if it were a directory (CVE-2024-21626).
fn no_directory(fd: OwnedFd, name: &'static str) -> Result<OwnedFd, Error> {
    let stat = rustix::fs::fstat(&fd).map_err(|errno| Error::Parent {
        doing: "look at a standard stream",
        source: errno.into(),
    })?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Err(Error::Plan(PlanError::DirectoryAsStdio(name))),
        _ => Ok(fd),
    }
}
