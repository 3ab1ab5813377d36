//! `mount`, `umount` and `unshare`: the files of working containers for the caller's own programs.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::build::Request;
use crate::build::working::{self, Container};
use crate::cli::args::Registry;
use crate::cli::cask::each;
use crate::cli::report::Report;
use crate::cli::{Session, env, ui};
use crate::store::Store;

/// Mount the files of working containers
///
/// The place goes to standard output; with several containers each line begins with a name.
/// Without any, those that are mounted are listed. Root's mounts stay until `umount`; others
/// mount in the shell of `cooper unshare`.
#[derive(Debug, clap::Args)]
pub(crate) struct Mount {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,

    /// As JSON
    #[arg(long)]
    json: bool,

    /// Accepted and without effect: ids are shown in full
    #[arg(long, hide = true)]
    notruncate: bool,
}

impl Mount {
    /// Mounts them.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let unprivileged = !rustix::process::geteuid().is_root();
        if unprivileged && !self.containers.is_empty() {
            return Err(
                Report::wrong_use("a mount of an ordinary user's would be gone at once")
                    .hint("`cooper unshare` starts a shell in which it stays"),
            );
        }
        let store = session.store()?;
        let mut shown = Vec::new();
        if self.containers.is_empty() {
            for container in working::list(&store)? {
                if let Some(path) = container.mount_point() {
                    shown.push((container.config.name, path));
                }
            }
        }
        let sink = session.modest(false);
        for name in &self.containers {
            let container = working::find(&store, name)?;
            let path = container.mount(&request(&container)?, &sink)?;
            shown.push((container.config.name.clone(), path));
        }
        drop(sink);
        if self.json {
            let value = |(name, path): &(String, std::path::PathBuf)| json!({ "container": name, "mountPoint": path });
            let list: Vec<Value> = shown.iter().map(value).collect();
            return ui::data(&format!("{:#}", Value::Array(list)));
        }
        let bare = self.containers.len() == 1;
        for (name, path) in shown {
            match bare {
                true => ui::data(&path.display())?,
                false => ui::data(&format!("{name} {}", path.display()))?,
            }
        }
        Ok(())
    }
}

/// What is asked of the library for a container.
fn request(container: &Container) -> Result<Request, Report> {
    let mut request = super::request(&Registry::default())?;
    container.config.habits.apply(&mut request);
    Ok(request)
}

/// Unmount the files of working containers
///
/// The ids of those that were mounted go to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct Umount {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required_unless_present = "all")]
    containers: Vec<String>,

    /// All that are mounted
    #[arg(short, long, conflicts_with = "containers")]
    all: bool,
}

impl Umount {
    /// Unmounts them.
    pub(crate) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        let names = match self.all {
            true => mounted(&store)?.into_iter().map(|c| c.id).collect(),
            false => self.containers,
        };
        each::each_shown(&names, |name| {
            let container = working::find(&store, name)?;
            match container.unmount()? {
                true => Ok(container.id),
                false => {
                    let text = format!("working container `{name}` is not mounted");
                    Err(Report::failed(text))
                }
            }
        })
    }
}

fn mounted(store: &Store) -> Result<Vec<Container>, Report> {
    let mut all = working::list(store)?;
    all.retain(|container| container.mount_point().is_some());
    Ok(all)
}

/// Run a program as root of a user namespace, where `cooper mount` works
///
/// Without a program it is the shell in SHELL. Root needs none of it, and the program just runs.
/// The store is the same inside.
#[derive(Debug, clap::Args)]
#[command(override_usage = "cooper unshare [OPTIONS] [--] [PROGRAM [ARG]...]")]
pub(crate) struct Unshare {
    /// Variable with the place where a container's files are mounted: `NAME=CONTAINER`, or a
    /// container, whose place is in CONTAINER
    #[arg(short, long = "mount", value_name = "[NAME=]CONTAINER")]
    mounts: Vec<String>,

    /// The program and its arguments
    #[arg(value_names = ["PROGRAM", "ARG"], num_args = 0.., trailing_var_arg = true)]
    words: Vec<OsString>,
}

impl Unshare {
    /// Becomes the program.
    pub(crate) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let shell = || vec![env::os("SHELL").unwrap_or_else(|| "/bin/sh".into())];
        let words = match self.words.is_empty() {
            true => shell(),
            false => self.words,
        };
        let (store, rung) = session.store_with_power()?;
        if let Some(refusal) = rung.refusal() {
            return Err(Report::failed("cannot make a user namespace").because(refusal));
        }
        let mut command = std::process::Command::new(&words[0]);
        command
            .args(&words[1..])
            // Inside, everybody looks like root, whose store is another.
            .env("COOPER_ROOT", store.root())
            .env_remove("COOPER_ISOLATION");
        let mut mounted = Vec::new();
        for text in &self.mounts {
            let (name, container) = text.split_once('=').unwrap_or(("CONTAINER", text));
            let container = working::find(&store, container)?;
            let path = container.mount(&request(&container)?, &session.modest(false))?;
            command.env(name, path);
            mounted.push(container);
        }
        let failed = |error: std::io::Error| {
            let program = words[0].to_string_lossy().into_owned();
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            Report::failed(format!("cannot run `{program}`"))
                .because(&error)
                .exit(if missing { 127 } else { 126 })
        };
        if mounted.is_empty() {
            drop(store);
            return Err(failed(command.exec()));
        }
        let status = command.status().map_err(failed)?;
        for container in mounted {
            container.unmount()?;
        }
        let code = status.code().or_else(|| {
            use std::os::unix::process::ExitStatusExt;
            status.signal().map(|number| 128 + number)
        });
        let code = code.and_then(|code| u8::try_from(code).ok());
        Ok(ExitCode::from(code.unwrap_or(u8::MAX)))
    }
}
