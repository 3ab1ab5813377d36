//! The verbs about images, which `cooper` and `cask` share.

mod build;
mod check;
mod df;
mod doctor;
mod fsck;
mod goal;
mod history;
mod images;
mod import;
mod inspect;
mod load;
mod login;
mod logout;
mod prune;
mod pull;
mod push;
mod rmi;
mod save;
mod tag;
mod untag;
mod version;

pub(crate) use build::{csv, secrets};
pub(crate) use df::Df;
pub(crate) use goal::Goal;
pub(crate) use inspect::{Inspect, Kind, Look, inspect_all};
pub(crate) use prune::{Prune, tell_freed, until};
pub(crate) use push::send;
pub(crate) use tag::tagged;

use std::process::ExitCode;

use clap::Subcommand;

use super::Session;
use super::report::Report;

/// Whose media types a manifest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Oci,
    Docker,
}

/// Parses `--format` of what makes an image.
pub(crate) fn form(text: &str) -> Result<Form, String> {
    match text {
        "oci" | "OCI" => Ok(Form::Oci),
        "docker" | "v2s2" => Ok(Form::Docker),
        _ => Err("expected oci or docker".to_owned()),
    }
}

/// A verb and its arguments.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Verb {
    #[command(visible_alias = "bud", alias = "build-using-dockerfile")]
    Build(Box<build::BuildVerb>),
    Check(Box<check::Check>),
    Images(images::Images),
    Rmi(rmi::Rmi),
    Tag(tag::Tag),
    Untag(untag::Untag),
    Inspect(inspect::Inspect),
    History(history::History),
    Prune(prune::Prune),
    Df(df::Df),
    Doctor(doctor::Doctor),
    Fsck(fsck::Fsck),
    Import(import::Import),
    Save(save::Save),
    Load(load::Load),
    Pull(pull::Pull),
    Push(push::Push),
    Login(login::Login),
    Logout(logout::Logout),
    Version(version::Version),
}

/// Manage images
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum ImageVerb {
    Build(Box<build::BuildVerb>),
    History(history::History),
    Import(import::Import),
    Inspect(Inspect),
    Load(load::Load),
    #[command(visible_alias = "list")]
    Ls(images::Images),
    Prune(Prune),
    Pull(pull::Pull),
    Push(push::Push),
    #[command(visible_alias = "remove")]
    Rm(rmi::Rmi),
    Save(save::Save),
    Tag(tag::Tag),
    Untag(untag::Untag),
}

impl ImageVerb {
    /// Does it: each is one of the verbs alone.
    pub(crate) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let verb = match self {
            Self::Build(verb) => Verb::Build(verb),
            Self::History(verb) => Verb::History(verb),
            Self::Import(verb) => Verb::Import(verb),
            Self::Inspect(mut verb) => {
                verb.look_only_for(Kind::Image);
                Verb::Inspect(verb)
            }
            Self::Load(verb) => Verb::Load(verb),
            Self::Ls(verb) => Verb::Images(verb),
            Self::Prune(verb) => Verb::Prune(verb),
            Self::Pull(verb) => Verb::Pull(verb),
            Self::Push(verb) => Verb::Push(verb),
            Self::Rm(verb) => Verb::Rmi(verb),
            Self::Save(verb) => Verb::Save(verb),
            Self::Tag(verb) => Verb::Tag(verb),
            Self::Untag(verb) => Verb::Untag(verb),
        };
        verb.run(session)
    }
}

impl Verb {
    /// Does it.
    pub(crate) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        match self {
            Self::Build(verb) => return verb.run(session),
            Self::Fsck(verb) => return verb.run(session),
            Self::Check(verb) => return verb.run(session),
            Self::Doctor(verb) => return verb.run(session),
            Self::Images(verb) => verb.run(session),
            Self::Rmi(verb) => verb.run(session),
            Self::Tag(verb) => verb.run(session),
            Self::Untag(verb) => verb.run(session),
            Self::Inspect(verb) => verb.run(session),
            Self::History(verb) => verb.run(session),
            Self::Prune(verb) => verb.run(session),
            Self::Df(verb) => verb.run(session),
            Self::Import(verb) => verb.run(session),
            Self::Save(verb) => verb.run(session),
            Self::Load(verb) => verb.run(session),
            Self::Pull(verb) => verb.run(session),
            Self::Push(verb) => verb.run(session),
            Self::Login(verb) => verb.run(session),
            Self::Logout(verb) => verb.run(session),
            Self::Version(verb) => verb.run(),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}
