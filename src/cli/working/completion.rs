//! `completion`: what a shell needs to complete command lines.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::cooper::Cooper;
use crate::cli::report::Report;
use crate::cli::ui;

/// Print a script that completes command lines
///
/// `source <(cooper completion bash)` in `~/.bashrc`; for zsh a file `_cooper` in a directory of
/// `$fpath`; `cooper completion fish > ~/.config/fish/completions/cooper.fish`.
#[derive(Debug, clap::Args)]
pub(crate) struct Completion {
    /// The shell: bash, zsh, fish, elvish or powershell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completion {
    /// Prints it.
    pub(crate) fn run(self) -> Result<(), Report> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cooper::command(), "cooper", &mut script);
        ui::raw_data(&script)
    }
}
