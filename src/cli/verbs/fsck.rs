//! `fsck`: verify the store.

use std::process::ExitCode;

use crate::cli::report::Report;
use crate::cli::{Session, ui};
use crate::event::Silent;

/// Verify blobs, trees, names and records of the store
///
/// May run beside builds. Exit code 1 says that something is damaged.
#[derive(Debug, clap::Args)]
pub(crate) struct Fsck {
    /// Take away what is damaged, so that it is fetched or made again
    #[arg(long)]
    repair: bool,
}

impl Fsck {
    /// Verifies, and says what is wrong.
    pub(crate) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let (store, _) = session.store_with_power()?;
        let checked = store.fsck(self.repair, &Silent)?;
        for damage in &checked.damage {
            let done = if self.repair { ": repaired" } else { "" };
            ui::data(&format!("{damage}{done}"))?;
        }
        let unproved = match checked.unproved {
            0 => String::new(),
            n => format!(" ({n} of them cannot be proved)"),
        };
        ui::note(&format!(
            "{} blobs, {} trees{unproved}, {} names and records, {} images: {} damaged",
            checked.blobs,
            checked.trees,
            checked.records,
            checked.images,
            checked.damage.len()
        ));
        match checked.damage.is_empty() || self.repair {
            true => Ok(ExitCode::SUCCESS),
            false => Ok(ExitCode::FAILURE),
        }
    }
}
