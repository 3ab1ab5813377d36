//! What an image says of its making, and where it is listed: options of buildah's that `build` and
//! `commit` have in common.

use crate::cli::verbs::tagged;
use crate::image::Reference;

/// The label by which an image says what made it.
const IDENTITY: &str = "io.cooper.version";

/// Options of `build` and `commit`.
#[derive(Debug, Clone, clap::Args)]
#[command(mut_args(super::switches))]
pub(crate) struct MadeArgs {
    /// Variable that the image does not have
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub(crate) unsetenv: Vec<String>,

    /// Leave the history out
    #[arg(long, value_name = "BOOL")]
    omit_history: Option<bool>,

    /// Annotate the manifest with the time at which the image was made
    #[arg(long, value_name = "BOOL")]
    created_annotation: Option<bool>,

    /// Label the image with what made it, as `io.cooper.version`
    #[arg(long, value_name = "BOOL")]
    identity_label: Option<bool>,

    /// Index in the store that the image is added to; made where there is none
    #[arg(long, value_name = "INDEX", value_parser = tagged)]
    pub(crate) manifest: Option<Reference>,
}

impl MadeArgs {
    /// Whether the history is left out.
    pub(crate) fn omits_history(&self) -> bool {
        self.omit_history == Some(true)
    }

    /// Whether the manifest says when the image was made.
    pub(crate) fn annotates_time(&self) -> bool {
        self.created_annotation == Some(true)
    }

    /// Returns the label that says what made the image, if it is to have one.
    pub(crate) fn identity(&self) -> Option<(String, String)> {
        let version = || env!("CARGO_PKG_VERSION").to_owned();
        (self.identity_label == Some(true)).then(|| (IDENTITY.to_owned(), version()))
    }
}
