//! Arguments in, words and exit codes out.
//!
//! The only room that reads the environment and prints. One file holds one subcommand: its
//! argument struct, whose doc comment is its help, and a `run` that resolves the arguments,
//! calls the library and prints the result. What goes wrong becomes a `report`, shown once.
//!
//! `cooper` and `cask` share the verbs about images; each adds its own.

mod args;
pub mod cask;
pub mod cooper;
mod env;
mod files;
mod filters;
mod glob;
mod private;
mod report;
mod session;
mod signals;
mod switches;
mod ui;
mod verbs;
mod working;

use session::Session;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use report::Report;

use crate::sandbox::child::Role;

/// What the two programs are when they execute themselves again.
pub const ROLES: &[Role] = &[crate::runner::MONITOR, crate::runner::NETWORK];

/// Does the work and shows what went wrong, if something did.
fn finish(
    global: args::Global,
    work: impl FnOnce(&Session) -> Result<ExitCode, Report>,
) -> ExitCode {
    #[cfg(debug_assertions)]
    arm_fault();
    let session = Session::new(global);
    let result = work(&session);
    session.close();
    match result {
        Ok(code) => code,
        Err(report) => ExitCode::from(report.show()),
    }
}

/// Takes `COOPER_FAULT=kill:12` (or `full:`, `broken:`) of the crash suite. Test builds only.
#[cfg(debug_assertions)]
fn arm_fault() {
    use crate::store::fault::{Fault, arm};
    let text = env::text("COOPER_FAULT").unwrap_or_default();
    let Some((fault, number)) = text.split_once(':') else {
        return;
    };
    let fault = match fault {
        "kill" => Fault::Kill,
        "full" => Fault::Full,
        _ => Fault::Broken,
    };
    if let Ok(number) = number.parse() {
        arm(fault, number);
    }
}

/// Reads the arguments of a program whose verbs are described to the parser when they are asked
/// for (`defer`), since describing all takes as long as the rest of the start. Help and errors
/// may speak of any verb, so they come from a parser that knows them all, and that takes what the
/// peers take: options that are given twice, the last of which counts, and switches with values.
fn parse<P: Parser>(args: &[OsString]) -> Result<P, clap::Error> {
    P::try_parse_from(args).or_else(|_| {
        let mut command = P::command().args_override_self(true);
        command.build();
        let args = switches::without_values(&command, args);
        let mut matches = command.try_get_matches_from_mut(args)?;
        P::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    })
}

/// Answers `--version` alone as clap would, without describing anything to it first.
fn version_alone(name: &str, args: &[OsString]) -> Option<ExitCode> {
    let [_, option] = args else { return None };
    if option != "--version" && option != "-V" {
        return None;
    }
    let text = format!("{name} {}", env!("CARGO_PKG_VERSION"));
    Some(match ui::data(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => ExitCode::from(report.show()),
    })
}

/// Answers arguments that did not parse, which includes `--help` and `--version`.
fn misuse(error: clap::Error, exit: u8) -> ExitCode {
    let error = private::hidden(error);
    // A reader that went away needs no answer.
    let _ = error.print();
    match error.use_stderr() {
        true => ExitCode::from(exit),
        false => ExitCode::SUCCESS,
    }
}
