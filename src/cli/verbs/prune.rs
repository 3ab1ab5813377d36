//! `prune`: remove what nothing needs.

use super::rmi::tell;
use crate::cli::report::Report;
use crate::cli::ui::human;
use crate::cli::{Session, ui};
use crate::store::Prune as What;

/// Remove images without a name, and layers that nothing needs
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Also images with a name, unless a container uses them
    #[arg(short, long)]
    all: bool,

    /// Also the results of build steps, which then run again
    #[arg(long)]
    cache: bool,

    /// Accepted and without effect: nothing is asked
    #[arg(short, long, hide = true)]
    force: bool,

    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
}

impl Prune {
    /// Removes it.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let store = session.store()?;
        let what = What {
            all: self.all,
            cache: self.cache,
            dry_run: self.dry_run,
        };
        let removed = store.prune(what)?;
        tell(&removed)?;
        if removed.deferred {
            ui::note("another process works in the store; the next prune frees the space");
            return Ok(());
        }
        let verb = if self.dry_run {
            "Would reclaim"
        } else {
            "Total reclaimed space"
        };
        ui::data(&format!("{verb}: {}", human::size(removed.freed)))
    }
}
