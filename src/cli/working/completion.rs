//! `completion`: what a shell needs to complete command lines.

use clap_complete::Shell;

use crate::cli::report::Report;
use crate::cli::ui;

/// Print a script that completes command lines
///
/// `source <(PROGRAM completion bash)` in `~/.bashrc`; for zsh a file `_PROGRAM` in a directory of
/// `$fpath`; `PROGRAM completion fish > ~/.config/fish/completions/PROGRAM.fish`.
#[derive(Debug, clap::Args)]
pub(crate) struct Completion {
    /// The shell: bash, zsh, fish, elvish or powershell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completion {
    /// Prints it for the program called `name`.
    pub(crate) fn run(self, command: &mut clap::Command, name: &str) -> Result<(), Report> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, name, &mut script);
        ui::raw_data(&script)
    }
}
