//! `prune`: remove what nothing needs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cli::report::Report;
use crate::cli::ui::human;
use crate::cli::{Session, args, ui};
use crate::dockerfile::go_duration;
use crate::store::{Prune as What, Removed};

/// Remove images without a name, and layers that nothing needs
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Prune {
    /// Also images with a name, unless a container uses them
    #[arg(short, long)]
    all: bool,

    /// Also the results of build steps, which then run again, and the caches of `RUN --mount`
    #[arg(long)]
    cache: bool,

    /// Only what is older: `until=24h`, `until=2026-01-31T10:00:00Z` or seconds since 1970. Images
    /// count from when they were made, results of build steps from when they were last used
    #[arg(long = "filter", value_name = "until=TIME", value_parser = until)]
    until: Option<SystemTime>,

    /// Results of build steps, least recently used first, until the store takes no more than this
    /// on disk: `10GB`, `512m`
    #[arg(long = "keep-storage", value_name = "SIZE", value_parser = args::size)]
    keep: Option<u64>,

    /// Accepted and without effect: nothing is asked
    #[arg(short, long, hide = true)]
    force: bool,

    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
}

/// Parses `until=TIME`.
pub(crate) fn until(text: &str) -> Result<SystemTime, String> {
    let Some(time) = text.strip_prefix("until=") else {
        return Err("expected `until=TIME`".to_owned());
    };
    let ago = |ago| SystemTime::now().checked_sub(ago);
    let since = |secs| UNIX_EPOCH.checked_add(Duration::from_secs(secs));
    let parsed = match (go_duration(time), time.parse::<u64>()) {
        (_, Ok(secs)) => since(secs),
        (Some(duration), _) => ago(duration),
        (None, Err(_)) => human::parse_time(Some(time)),
    };
    parsed.ok_or_else(|| {
        "expected a duration such as `24h`, a time such as `2026-01-31T10:00:00Z` or seconds \
         since 1970"
            .to_owned()
    })
}

impl Prune {
    /// What `system prune` asks for; `all` takes images with a name as well.
    pub(crate) fn of(all: bool, until: Option<SystemTime>) -> Self {
        Self {
            all,
            until,
            ..Self::default()
        }
    }

    /// Removes it.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        self.run_after(session, 0)
    }

    /// Removes it, after other things that freed so many bytes.
    pub(crate) fn run_after(self, session: &Session, freed: u64) -> Result<(), Report> {
        let store = session.store()?;
        let what = What {
            all: self.all,
            cache: self.cache,
            until: self.until,
            keep: self.keep,
            images: true,
            dry_run: self.dry_run,
        };
        let removed = store.prune(what)?;
        tell(&removed)?;
        if removed.deferred {
            ui::note("another process works in the store; the next prune frees the space");
            return Ok(());
        }
        if removed.cached > 0 {
            ui::data(&format!(
                "Deleted build cache objects: {}\n",
                removed.cached
            ))?;
        }
        match self.dry_run {
            true => ui::data(&format!("Would reclaim: {}", human::sum(removed.freed))),
            false => tell_freed(freed + removed.freed),
        }
    }
}

/// Says which images went, in the words of docker's `prune`, which are not those of its `rmi`.
fn tell(removed: &Removed) -> Result<(), Report> {
    if removed.untagged.is_empty() && removed.deleted.is_empty() {
        return Ok(());
    }
    ui::data(&"Deleted Images:")?;
    for name in &removed.untagged {
        ui::data(&format!("untagged: {name}"))?;
    }
    for id in &removed.deleted {
        ui::data(&format!("deleted: {id}"))?;
    }
    ui::data(&"")
}

/// Says how many bytes a `prune` freed.
pub(crate) fn tell_freed(bytes: u64) -> Result<(), Report> {
    ui::data(&format!("Total reclaimed space: {}", human::sum(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_is_a_duration_a_time_or_seconds() {
        let known = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        assert_eq!(until("until=1767225600"), Ok(known));
        assert_eq!(until("until=2026-01-01T00:00:00Z"), Ok(known));
        assert!(until("until=1h").unwrap() < SystemTime::now() - Duration::from_secs(3599));
        for bad in ["24h", "until=", "until=soon", "label=x"] {
            assert!(until(bad).is_err(), "{bad}");
        }
    }
}
