//! Commands of buildah that are not here: their names are known, so that a script hears why.

use crate::cli::args::refusal;
use crate::cli::report::Report;

/// A command with whatever stands behind it.
#[derive(Debug, clap::Args)]
pub(crate) struct Absent {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _words: Vec<String>,
}

/// Says why there is no `mkcw`.
pub(crate) fn mkcw() -> Report {
    refusal(
        "mkcw",
        "no encrypted disk images are made for confidential machines",
        "",
    )
}
