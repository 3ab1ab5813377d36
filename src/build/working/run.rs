//! `run`: RUN in a working container, on the caller's own streams.

use crate::dockerfile::{self, Command, Kind};
use crate::event::Sink;
use crate::sandbox::{Exit, Mount};
use crate::store::Store;

use super::super::commit::Built;
use super::super::error::Error;
use super::super::exec::Cancel;
use super::super::request::Request;
use super::super::sources::Opener;
use super::super::step::Action;
use super::super::steps::run::{Attended, attend};
use super::container::{Container, find};
use super::copy::note;
use super::desk::{Desk, mount};
use super::streams::Streams;

/// What a mount shows of a working container: its name and its files.
type Other = Option<(String, Built)>;

/// A program and how it is run. What is not said here is as the container's config says, or as
/// the request does.
#[derive(Debug)]
pub struct Run {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--workingdir`.
    pub workdir: Option<String>,
    /// `--env`, for this program only.
    pub env: Vec<(String, String)>,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `--mount` as RUN has it.
    pub mounts: Vec<String>,
    /// `-v`, `--tmpfs` and binds of the caller's own paths.
    pub binds: Vec<Mount>,
    /// What the program reads and writes.
    pub streams: Streams,
    /// Whether the image's history is to tell of it.
    pub history: bool,
}

/// Runs a program in a container, and says how it ended. What it wrote stays, however it ended.
pub fn run(
    container: &mut Container,
    run: &Run,
    request: &Request,
    sink: &dyn Sink,
    cancel: &Cancel,
) -> Result<Exit, Error> {
    let store = container.store.clone();
    let _work = store.work()?;
    let opener = Opener {
        store: &store,
        request,
        sink,
        cancel,
    };
    let files = opener.plain_context(None)?;
    let lock = container.claim()?;
    let mut config = container.config.config.config.clone();
    for (key, value) in &run.env {
        config.set_env(key, value);
    }
    config.user = run.user.clone().unwrap_or(config.user);
    config.working_dir = run.workdir.clone().unwrap_or(config.working_dir);
    let failed = container.failed("run a program in");
    let (texts, from) = others(&store, &run.mounts)?;
    let mounts: Result<_, _> = texts.iter().map(|text| mount(text)).collect();
    let kind = Kind::Run(dockerfile::Run {
        command: Command::Exec(run.argv.clone()),
        heredocs: Vec::new(),
        mounts: mounts.map_err(&failed)?,
        network: None,
        security: None,
        devices: Vec::new(),
    });
    let own = |name: &str| {
        let value = container.config.config.config.rest.get(name)?;
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let desk = Desk {
        container,
        config,
        request,
        context: &files.context,
        from: from.iter().flatten().cloned().collect(),
        sink,
        cancel,
    };
    let exit = desk.carry_out(kind, |runner, action| {
        let Action::Run(mut step) = action else {
            unreachable!("RUN runs");
        };
        let read = step.mounts.iter_mut().zip(&from);
        let read = read.filter(|(_, from)| from.is_some());
        for (stage, (mount, _)) in read.enumerate() {
            mount.read_stage(stage);
        }
        let hostname = run.hostname.clone().or_else(|| own("Hostname"));
        step.hostname = hostname.unwrap_or_else(|| container.id[..12].to_owned());
        let attended = Attended {
            rootfs: container.rootfs(request, sink)?,
            mounts: &run.binds,
            streams: &run.streams,
            domainname: own("Domainname"),
        };
        attend(runner, &step, attended).map_err(&failed)
    })?;
    drop(lock);
    if run.history {
        let text = run.argv.join(" ");
        container.change(|config| config.history.push(note(text)))?;
    }
    Ok(exit)
}

/// Finds the working containers among what mounts are `from`. Returns the mounts without these
/// words, and for each the container whose files it shows.
fn others(store: &Store, mounts: &[String]) -> Result<(Vec<String>, Vec<Other>), Error> {
    let (mut texts, mut from) = (Vec::new(), Vec::new());
    for text in mounts {
        let name = text
            .split(',')
            .find_map(|field| field.strip_prefix("from="));
        let other = match name.map(|name| (name, find(store, name))) {
            None | Some((_, Err(Error::NoContainer { .. }))) => None,
            Some((name, other)) => Some((name.to_owned(), other?.built()?)),
        };
        let stays = |field: &&str| other.is_none() || !field.starts_with("from=");
        let fields: Vec<&str> = text.split(',').filter(stays).collect();
        texts.push(fields.join(","));
        from.push(other);
    }
    Ok((texts, from))
}
