//! The verbs of `cooper`: those about images, which it shares, and those about working
//! containers, as buildah has them.

mod absent;
mod commit;
pub(crate) mod completion;
mod config;
mod containers;
pub(crate) mod copy;
mod diff;
mod from;
pub(crate) mod info;
pub(crate) mod manifest;
mod mount;
mod remove;
mod run;
mod source;
pub(crate) mod tree;
pub(crate) mod words;

use std::process::ExitCode;
use std::time::SystemTime;

use clap::{CommandFactory, Subcommand};
use serde_json::Value;

use super::Session;
use super::args::{self, Registry};
use super::cooper::Cooper;
use super::report::Report;
use super::verbs::{Kind, Verb};
use crate::build::{self, Request};
use crate::store::Store;
use crate::transfer::{self, Network};

/// A verb and its arguments.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    From(Box<from::From>),
    Run(Box<run::Run>),
    Copy(Box<copy::Copy>),
    Add(Box<copy::Add>),
    Config(Box<config::Config>),
    Commit(Box<commit::Commit>),
    Mount(mount::Mount),
    #[command(visible_alias = "unmount")]
    Umount(mount::Umount),
    Unshare(mount::Unshare),
    #[command(visible_aliases = ["list", "ls", "ps"])]
    Containers(containers::Containers),
    #[command(visible_alias = "delete")]
    Rm(remove::Rm),
    Rename(remove::Rename),
    #[command(subcommand)]
    Manifest(Box<manifest::Manifest>),
    Tree(tree::Tree),
    Diff(diff::Diff),
    Info(info::Info),
    Completion(completion::Completion),
    #[command(subcommand)]
    Source(Box<source::Source>),
    #[command(hide = true)]
    Mkcw(absent::Absent),
    #[command(flatten)]
    Image(Box<Verb>),
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        match self {
            Self::Mkcw(_) => return Err(absent::mkcw()),
            Self::Run(verb) => return verb.run(session),
            Self::Copy(verb) => return verb.run(session),
            Self::Add(verb) => return verb.run(session),
            Self::Unshare(verb) => return verb.run(session),
            Self::Umount(verb) => return verb.run(session),
            Self::Rm(verb) => return verb.run(session),
            Self::Manifest(verb) => return verb.run(session),
            Self::Image(mut verb) => {
                if let Verb::Inspect(inspect) = &mut *verb {
                    inspect.look_for(&[(Kind::Container, look)]);
                }
                return verb.run(session);
            }
            Self::From(verb) => verb.run(session),
            Self::Config(verb) => verb.run(session),
            Self::Commit(verb) => verb.run(session),
            Self::Mount(verb) => verb.run(session),
            Self::Containers(verb) => verb.run(session),
            Self::Rename(verb) => verb.run(session),
            Self::Source(verb) => verb.run(session),
            Self::Tree(verb) => verb.run(session),
            Self::Diff(verb) => verb.run(session),
            Self::Info(verb) => verb.run(session),
            Self::Completion(verb) => verb.run(&mut Cooper::command(), "cooper"),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Everything about a working container, for `inspect`.
fn look(store: &Store, text: &str, _: bool) -> Result<Option<Value>, Report> {
    match build::working::find(store, text) {
        Ok(container) => containers::value(&container).map(Some),
        Err(build::Error::NoContainer { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a verb asks of the library before its own options count.
fn request(registry: &Registry) -> Result<Request, Report> {
    let transfer = transfer::Options {
        network: Network::new(registry.options()?),
        ..transfer::Options::default()
    };
    let git = args::git_tools(None);
    let mut request = Request::nothing(transfer, git, SystemTime::now());
    request.snapshotter = args::snapshotter(None)?;
    Ok(request)
}
