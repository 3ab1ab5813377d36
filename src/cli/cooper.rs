//! The command line of `cooper`.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use super::args::Global;
use super::report::WRONG_USE;
use super::working::Command;
use super::{finish, misuse, parse, version_alone};

/// Builds OCI images from any Dockerfile, without a daemon and without root
#[derive(Debug, Parser)]
#[command(
    name = "cooper",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(super) struct Cooper {
    #[command(flatten)]
    global: Global,

    #[command(subcommand)]
    command: Command,
}

/// Runs `cooper` with the program's arguments, the first being its name.
///
/// Exit codes: 0 done, 1 the work failed, 2 wrong use. `cooper run` exits as its program does.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(code) = version_alone("cooper", &args) {
        return code;
    }
    match parse::<Cooper>(&args) {
        Ok(Cooper { global, command }) => finish(global, |session| command.run(session)),
        Err(error) => misuse(error, WRONG_USE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Cooper::command().debug_assert();
    }

    #[test]
    fn help_knows_the_verbs_that_were_not_asked_for() {
        let asked = |words: &[&str]| {
            let args: Vec<OsString> = words.iter().map(OsString::from).collect();
            parse::<Cooper>(&args).unwrap_err().to_string()
        };
        let help = asked(&["cooper", "--help"]);
        assert!(help.contains("Build an image from a Dockerfile"), "{help}");
        let help = asked(&["cooper", "help", "manifest"]);
        assert!(help.contains("Usage: cooper manifest"), "{help}");
    }
}
