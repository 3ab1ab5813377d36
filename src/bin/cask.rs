//! The `cask` program: a re-executed child if it is one, else the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First: we may be re-executed inside new namespaces, and no thread exists yet.
    cooper::sandbox::child::run_if_child(cooper::cli::ROLES);
    cooper::cli::cask::main(std::env::args_os())
}
