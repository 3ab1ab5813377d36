//! The command line of `cask`.

mod absent;
mod connect;
mod debug;
mod docker;
pub(super) mod each;
mod endpoints;
mod events;
mod exec;
mod files;
mod inspect;
mod logs;
mod look;
pub(super) mod mounts;
mod network;
mod options;
mod ports;
pub(super) mod ps;
mod run;
mod start;
mod stats;
mod stop;
mod top;
mod units;
pub(super) mod volume;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use super::args::Global;
use super::report::{RUN_FAILED, Report, WRONG_USE};
use super::verbs::{Df, ImageVerb, Inspect, Kind, Look, Verb};
use super::working::{completion, copy, info, manifest, tree};
use super::{Session, finish, misuse, parse, version_alone};

/// Runs OCI images, without a daemon and without root
#[derive(Debug, Parser)]
#[command(
    name = "cask",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Cask {
    #[command(flatten)]
    global: Global,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    #[command(flatten)]
    Life(LifeVerb),
    Ps(ps::Ps),
    Debug(debug::Debug),
    Events(events::EventsVerb),
    #[command(subcommand)]
    Container(Box<ContainerVerb>),
    #[command(subcommand)]
    Volume(volume::VolumeVerb),
    #[command(subcommand)]
    Network(network::NetworkVerb),
    #[command(subcommand)]
    System(SystemVerb),
    #[command(subcommand)]
    Manifest(Box<manifest::Manifest>),
    Copy(Box<copy::CopyImage>),
    Tree(tree::Tree),
    Info(info::Info),
    Completion(completion::Completion),
    #[command(subcommand)]
    Image(Box<ImageVerb>),
    #[command(flatten)]
    Shared(Box<Verb>),
}

/// What is done to containers: a verb alone, and one of `cask container`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum LifeVerb {
    Run(Box<run::Run>),
    Create(Box<run::Create>),
    Start(start::Start),
    Stop(stop::Stop),
    Restart(start::Restart),
    Kill(stop::Kill),
    Pause(stop::Pause),
    Unpause(stop::Unpause),
    Rm(stop::Rm),
    Logs(logs::Logs),
    Exec(exec::Exec),
    Attach(start::AttachVerb),
    Wait(stop::Wait),
    Top(top::Top),
    Stats(stats::Stats),
    Port(look::Port),
    Rename(stop::Rename),
    Update(stop::Update),
    Cp(files::Cp),
    Diff(files::Diff),
    Export(files::Export),
    Commit(files::CommitVerb),
}

/// Manage containers
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum ContainerVerb {
    #[command(flatten)]
    Life(LifeVerb),
    Inspect(Inspect),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Ps),
    Prune(stop::PruneContainers),
}

/// Manage the machine's part
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum SystemVerb {
    Boot(start::Boot),
    Df(Df),
    Info(info::Info),
    Prune(stop::PruneSystem),
    Events(events::EventsVerb),
}

/// Runs `cask` with the program's arguments, the first being its name.
///
/// Exit codes: 0 done, 1 the work failed, 2 wrong use. `cask run` exits as its program does;
/// 125 when cask itself fails, 126 when the program can't be executed, 127 when there is none.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(code) = version_alone("cask", &args) {
        return code;
    }
    match parse::<Cask>(&args) {
        Ok(Cask { global, command }) => finish(global, |session| command.run(session)),
        // The program's own exit code may be 2, so wrong use must be told from it.
        Err(error) if asks_to_run(&args) => misuse(error, RUN_FAILED),
        Err(error) => misuse(error, WRONG_USE),
    }
}

impl Command {
    fn run(self, session: &Session) -> Result<ExitCode, Report> {
        match self {
            Self::Ps(verb) => verb.run(session),
            Self::Debug(verb) => verb.run(session),
            Self::Events(verb) => verb.run(session),
            Self::Life(verb) => verb.run(session),
            Self::Container(verb) => match *verb {
                ContainerVerb::Life(verb) => verb.run(session),
                ContainerVerb::Inspect(verb) => done(only(verb, Kind::Container).run(session)),
                ContainerVerb::Ls(verb) => verb.run(session),
                ContainerVerb::Prune(verb) => verb.run(session),
            },
            Self::Volume(verb) => verb.run(session),
            Self::Network(verb) => verb.run(session),
            Self::System(verb) => match verb {
                SystemVerb::Boot(verb) => verb.run(session),
                SystemVerb::Df(verb) => done(verb.run(session)),
                SystemVerb::Info(verb) => done(verb.run(session)),
                SystemVerb::Prune(verb) => verb.run(session),
                SystemVerb::Events(verb) => verb.run(session),
            },
            Self::Manifest(verb) => verb.run(session),
            Self::Copy(verb) => verb.run(session),
            Self::Tree(verb) => done(verb.run(session)),
            Self::Info(verb) => done(verb.run(session)),
            Self::Completion(verb) => done(verb.run(&mut Cask::command(), "cask")),
            Self::Image(verb) => verb.run(session),
            Self::Shared(mut verb) => {
                if let Verb::Inspect(inspect) = &mut *verb {
                    inspect.look_for(OTHERS);
                }
                verb.run(session)
            }
        }
    }
}

impl LifeVerb {
    fn run(self, session: &Session) -> Result<ExitCode, Report> {
        match self {
            Self::Run(verb) => verb.run(session),
            Self::Create(verb) => verb.run(session),
            Self::Start(verb) => verb.run(session),
            Self::Stop(verb) => verb.run(session),
            Self::Restart(verb) => verb.run(session),
            Self::Kill(verb) => verb.run(session),
            Self::Pause(verb) => verb.run(session),
            Self::Unpause(verb) => verb.run(session),
            Self::Rm(verb) => verb.run(session),
            Self::Logs(verb) => verb.run(session),
            Self::Exec(verb) => verb.run(session),
            Self::Attach(verb) => verb.run(session),
            Self::Wait(verb) => verb.run(session),
            Self::Top(verb) => verb.run(session),
            Self::Stats(verb) => verb.run(session),
            Self::Port(verb) => verb.run(session),
            Self::Rename(verb) => verb.run(session),
            Self::Update(verb) => verb.run(session),
            Self::Cp(verb) => verb.run(session),
            Self::Diff(verb) => verb.run(session),
            Self::Export(verb) => verb.run(session),
            Self::Commit(verb) => verb.run(session),
        }
    }
}

/// Looks for things of one kind.
fn only(mut inspect: Inspect, kind: Kind) -> Inspect {
    inspect.look_for(OTHERS);
    inspect.look_only_for(kind);
    inspect
}

/// The exit code of a verb that has no other.
fn done(result: Result<(), Report>) -> Result<ExitCode, Report> {
    result.map(|()| ExitCode::SUCCESS)
}

/// What `inspect` knows besides images.
const OTHERS: &[(Kind, Look)] = &[
    (Kind::Container, inspect::value),
    (Kind::Network, network::value),
    (Kind::Volume, volume::value),
];

/// Finds the subcommand of arguments that did not parse.
fn asks_to_run(args: &[OsString]) -> bool {
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        match arg.to_str() {
            Some("--root" | "--log") => drop(rest.next()),
            Some("container") => {}
            Some(option) if option.starts_with('-') => {}
            word => return matches!(word, Some("run" | "debug")),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cask::command().debug_assert();
    }

    #[test]
    fn wrong_use_of_run_is_told_apart() {
        let asks =
            |args: &[&str]| asks_to_run(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(asks(&["cask", "run", "--bogus"]));
        assert!(asks(&["cask", "--root", "run", "run", "x"]));
        assert!(asks(&["cask", "container", "run"]));
        assert!(!asks(&["cask", "--root", "run", "ps"]));
        assert!(!asks(&["cask", "images", "run"]));
        assert!(!asks(&["cask"]));
    }
}
