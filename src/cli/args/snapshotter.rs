//! How programs get at what they change: by option or else by the environment.

use crate::build::Snapshotter;
use crate::cli::env;
use crate::cli::report::Report;

/// Returns what was asked for; `option` comes first.
pub(crate) fn snapshotter(option: Option<Snapshotter>) -> Result<Option<Snapshotter>, Report> {
    match (option, env::text("COOPER_SNAPSHOTTER")) {
        (None, Some(text)) => {
            let wrong = |why| Report::wrong_use(format!("COOPER_SNAPSHOTTER is `{text}`: {why}"));
            text.parse().map(Some).map_err(wrong)
        }
        (asked, _) => Ok(asked),
    }
}
