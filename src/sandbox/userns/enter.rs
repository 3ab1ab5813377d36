//! Entering an own user namespace, with the ids mapped from outside.
//!
//! Whoever is inside the new namespace has no power outside any more, so a helper is forked
//! first, which stays outside. Order: fork helper; unshare; tell helper; helper maps (newuidmap
//! and newgidmap, or by itself); helper answers; become uid 0. A single id needs no helper: the
//! new namespace may map its maker, once it gave up setgroups(2).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, set_thread_res_gid, set_thread_res_uid};
use serde::{Deserialize, Serialize};

use crate::sys::process::{Fork, exit_now, fork, unshare_user_and_mounts};

use super::subid::{lines, map_for, same_ids};
use super::{HostInfo, Refusal, Rung};

/// Why the process is still what it was.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// There is no rung to step on.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A namespace or process could not be made. EINVAL: the process has threads already.
    /// EPERM or ENOSPC: the system forbids it (seccomp, AppArmor, user.max_user_namespaces).
    #[error("cannot {doing}")]
    Kernel {
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// newuidmap or newgidmap refused the map.
    #[error("`{}` did not map the ids: {said}", program.display())]
    Helper {
        /// Which.
        program: PathBuf,
        /// What it wrote, or how it ended.
        said: String,
    },
}

/// What the helper answers.
#[derive(Serialize, Deserialize)]
enum Answer {
    Done,
    Refused { program: PathBuf, said: String },
    Failed { errno: i32 },
}

/// Where a process came to stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footing {
    /// The rung.
    pub rung: Rung,
    /// Why it is not a better one, on [`Rung::Chroot`].
    pub refusal: Option<Refusal>,
    /// Whether programs can be run: on [`Rung::Chroot`] not by everybody.
    pub runs: bool,
}

/// Makes this process uid 0 of a new user namespace and mount namespace, if it has no
/// privileges yet; says which rung it stands on.
///
/// Must run before the process has a second thread. On [`Rung::Root`] and [`Rung::Chroot`] nothing
/// is changed. A rung that was asked for is had or is an error.
pub fn enter(host: &HostInfo, asked: Option<Rung>) -> Result<Footing, EnterError> {
    let rung = match asked {
        Some(rung) => host.forced(rung)?,
        None => match host.rung() {
            Ok(rung) => rung,
            Err(refusal) => return Ok(Footing::chroot(host, refusal)),
        },
    };
    let done = match rung {
        Rung::Root => Ok(()),
        Rung::Chroot => return Ok(Footing::chroot(host, Refusal::AskedFor)),
        Rung::SingleId => enter_alone(host),
        Rung::SubIds | Rung::Outer => enter_with_helper(host, rung),
    };
    match done {
        Ok(()) => Ok(Footing {
            rung,
            refusal: None,
            runs: true,
        }),
        // EPERM: seccomp, AppArmor or a chroot. ENOSPC, EUSERS: a limit. Nothing was changed.
        Err(EnterError::Kernel {
            doing: UNSHARE,
            source,
        }) if asked.is_none() => Ok(Footing::chroot(
            host,
            Refusal::NamespacesForbidden {
                said: source.to_string(),
            },
        )),
        Err(error) => Err(error),
    }
}

impl Footing {
    fn chroot(host: &HostInfo, refusal: Refusal) -> Self {
        Self {
            rung: Rung::Chroot,
            refusal: Some(refusal),
            runs: host.chroots(),
        }
    }
}

/// What is being done when a user namespace is refused.
const UNSHARE: &str = "make a user namespace";

fn kernel(doing: &'static str) -> impl Fn(io::Error) -> EnterError {
    move |source| EnterError::Kernel { doing, source }
}

/// Maps this user to 0 and nobody else, unless this is a namespace with few ids already.
fn enter_alone(host: &HostInfo) -> Result<(), EnterError> {
    if host.uid == 0 && host.has(CapabilitySet::SYS_ADMIN) && !host.has_all_ids() {
        return Ok(());
    }
    unshare_user_and_mounts().map_err(kernel(UNSHARE))?;
    let write = |file: &str, text: String| std::fs::write(format!("/proc/self/{file}"), text);
    write("setgroups", "deny".to_owned())
        .and_then(|()| write("uid_map", lines(&[[0, host.uid, 1]])))
        .and_then(|()| write("gid_map", lines(&[[0, host.gid, 1]])))
        .map_err(kernel("map a single id"))?;
    become_root().map_err(kernel("become root of the user namespace"))
}

fn enter_with_helper(host: &HostInfo, rung: Rung) -> Result<(), EnterError> {
    let (mut ours, helpers) = UnixStream::pair().map_err(kernel("make a socket"))?;
    let pid = rustix::process::getpid();
    match fork().map_err(kernel("start the helper that maps the ids"))? {
        Fork::Child => {
            drop(ours);
            help(host, rung, pid.as_raw_nonzero().get(), helpers);
        }
        Fork::Parent(_) => drop(helpers),
    }
    let unshared = unshare_user_and_mounts();
    if unshared.is_err() {
        drop(ours);
        // Without a word the helper ends, and its status says nothing.
        let _ = rustix::process::wait(rustix::process::WaitOptions::empty());
        return unshared.map_err(kernel(UNSHARE));
    }
    let answer = ask(&mut ours).map_err(kernel("hear from the helper that maps the ids"))?;
    // The helper has answered and exits; its status says nothing more.
    let _ = rustix::process::wait(rustix::process::WaitOptions::empty());
    match answer {
        Answer::Done => become_root().map_err(kernel("become root of the user namespace")),
        Answer::Refused { program, said } => Err(EnterError::Helper { program, said }),
        Answer::Failed { errno } => Err(kernel("map the ids")(io::Error::from_raw_os_error(errno))),
    }
}

fn ask(helper: &mut UnixStream) -> io::Result<Answer> {
    helper.write_all(b"!")?;
    let mut answer = Vec::new();
    helper.read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}

fn become_root() -> io::Result<()> {
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    Ok(())
}

/// The helper: waits for the word, maps, answers, exits.
fn help(host: &HostInfo, rung: Rung, pid: i32, mut parent: UnixStream) -> ! {
    let mut word = [0];
    // No word means that unshare failed, and that there is nothing to do.
    if parent.read_exact(&mut word).is_ok() {
        let answer = match rung {
            Rung::Outer => map_ourselves(host, pid),
            _ => map_by_helpers(host, pid),
        };
        // If the parent is gone nobody wants the answer.
        let _ = serde_json::to_writer(&mut parent, &answer);
    }
    exit_now(0)
}

fn map_ourselves(host: &HostInfo, pid: i32) -> Answer {
    let write = |file: &str, map: &[[u32; 3]]| {
        std::fs::write(format!("/proc/{pid}/{file}"), lines(&same_ids(map)))
    };
    let done = write("uid_map", &host.uid_map).and_then(|()| write("gid_map", &host.gid_map));
    match done {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Failed {
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        },
    }
}

fn map_by_helpers(host: &HostInfo, pid: i32) -> Answer {
    let uids = map_for(host.uid, &host.subuids);
    let gids = map_for(host.gid, &host.subgids);
    let helpers = [(&host.newuidmap, uids), (&host.newgidmap, gids)];
    for (program, map) in helpers {
        let Some(program) = program else {
            return Answer::Failed {
                errno: libc::ENOENT,
            };
        };
        if let Err(said) = run(program, pid, &map) {
            return Answer::Refused {
                program: program.clone(),
                said,
            };
        }
    }
    Answer::Done
}

fn run(program: &Path, pid: i32, map: &[[u32; 3]]) -> Result<(), String> {
    let output = Command::new(program)
        .arg(pid.to_string())
        .args(map.as_flattened().iter().map(u32::to_string))
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(if said.is_empty() {
        output.status.to_string()
    } else {
        said
    })
}
