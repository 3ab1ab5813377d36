//! What a command works with: the store, privileges, and where progress goes.
//!
//! Nothing is opened before a command asks for it, so that `--version` and `--help` cost nothing.

use std::path::PathBuf;
use std::time::Instant;

use super::args::{Global, Power};
use super::env;
use super::report::Report;
use super::ui::{self, Level, Progress, Shown};
use crate::build::Walls;
use crate::event::{Event, Sink};
use crate::layer::Ownership;
use crate::sandbox::userns::{self, Footing, HostInfo, Refusal};
use crate::store::{self, Store};

/// One run of a command.
#[derive(Debug)]
pub(crate) struct Session {
    root: Option<PathBuf>,
    isolation: Option<Power>,
    level: Option<Level>,
    max_store: Option<u64>,
    began: Instant,
}

impl Session {
    /// Takes the options that every command has, and finds out where the store is. That comes
    /// first, since everybody looks like root once the store is open.
    pub(crate) fn new(global: Global) -> Self {
        Self {
            root: global.root.or_else(env::default_root),
            isolation: global.isolation,
            level: global.log,
            max_store: global.max_store,
            began: Instant::now(),
        }
    }

    /// Returns where the store is, if that is known.
    pub(crate) fn root(&self) -> Option<&std::path::Path> {
        self.root.as_deref()
    }

    /// Opens the store for work that runs programs, on the rung that `--isolation` or else
    /// `COOPER_ISOLATION` asks for, or the best there is. An ordinary user becomes root of a
    /// namespace first, so this must come before any thread exists.
    pub(crate) fn store_with_power(&self) -> Result<(Store, Rung), Report> {
        let asked = match (self.isolation, env::text("COOPER_ISOLATION")) {
            (Some(power), _) => power,
            (None, Some(text)) => {
                let wrong = |why| Report::wrong_use(format!("COOPER_ISOLATION is `{text}`: {why}"));
                text.parse().map_err(wrong)?
            }
            (None, None) => Power(None),
        };
        let host = HostInfo::detect()
            .map_err(|error| Report::failed("cannot read /proc").because(&error))?;
        let footing = userns::enter(&host, asked.0)?;
        Ok((self.open(options(&host, &footing))?, Rung(footing)))
    }

    /// Opens the store for everything else, on the same rung, because a store belongs to one id
    /// map. Must come before any thread exists.
    pub(crate) fn store(&self) -> Result<Store, Report> {
        self.store_with_power().map(|(store, _)| store)
    }

    fn open(&self, options: store::Options) -> Result<Store, Report> {
        let root = self.root.as_deref().ok_or_else(|| {
            Report::wrong_use("there is no default store: neither HOME nor XDG_DATA_HOME is set")
                .hint("`--root DIR` or `COOPER_ROOT` names one")
        })?;
        self.debug(|| format!("store: {}", root.display()));
        Ok(Store::open(root, options)?)
    }

    /// Makes the renderer of a build's progress.
    pub(crate) fn shown(&self, progress: Progress) -> Shown {
        Shown::new(progress, self.level.unwrap_or(Level::Info))
    }

    /// Makes a renderer that writes plain lines to `out` and nothing to standard error.
    pub(crate) fn logged(&self, out: std::fs::File) -> Shown {
        Shown::to(Box::new(out), self.level.unwrap_or(Level::Info))
    }

    /// Makes the renderer of all other progress: choices are only told when asked for.
    pub(crate) fn modest(&self, quiet: bool) -> Shown {
        let progress = if quiet {
            Progress::Quiet
        } else {
            Progress::Auto
        };
        Shown::new(progress, self.level.unwrap_or(Level::Warn))
    }

    /// Brings the store below what it may hold. What goes wrong is only told: the work is done.
    pub(crate) fn cap(&self, store: &Store) {
        let named = || env::text("COOPER_MAX_STORE").and_then(|text| ui::human::parse_size(&text));
        let Some(most) = self.max_store.or_else(named) else {
            return;
        };
        match store.cap(most) {
            Ok(removed) if removed.freed > 0 => self.say(&format!(
                "the store held more than {}: {} results of build steps went, {} are free again",
                ui::human::size(most),
                removed.cached,
                ui::human::size(removed.freed)
            )),
            Ok(_) => {}
            Err(error) => self.say(&format!("warning: the store was not made smaller: {error}")),
        }
    }

    /// Tells how long the command took, to those who want to know everything.
    pub(crate) fn close(&self) {
        self.debug(|| format!("took: {:.3?}", self.began.elapsed()));
    }

    fn debug(&self, text: impl FnOnce() -> String) {
        if self.level >= Some(Level::Debug) {
            ui::note(&ui::clean::clean_lines(&text()));
        }
    }

    /// Tells a result on standard error, unless only errors are wanted.
    pub(crate) fn say(&self, text: &str) {
        if self.level.is_none_or(|level| level >= Level::Info) {
            ui::note(&ui::clean::clean_lines(text));
        }
    }
}

/// How a process on this footing keeps files.
fn options(host: &HostInfo, footing: &Footing) -> store::Options {
    let own = !matches!(footing.rung, userns::Rung::Root);
    let owners = match footing.rung {
        userns::Rung::SingleId => Ownership::Remembered { modes: false },
        userns::Rung::Chroot if !host.rules_files() => Ownership::Remembered { modes: true },
        _ => Ownership::Inode,
    };
    store::Options {
        user_xattr: own || host.userxattr(),
        owners,
    }
}

/// The way to privileges that was taken.
#[derive(Debug)]
pub(crate) struct Rung(Footing);

impl Rung {
    /// Reports it.
    pub(crate) fn announce(&self, sink: &dyn Sink) {
        let text = match self.0.rung {
            userns::Rung::Root => "root",
            userns::Rung::SubIds => "user namespace, ids mapped by newuidmap",
            userns::Rung::Outer => "user namespace inside a container, ids mapped by itself",
            userns::Rung::SingleId => "user namespace with a single id, owners are remembered",
            userns::Rung::Chroot if self.0.runs => {
                "chroot, with the processes, network and name of this machine, nothing mounted and \
                 no setuid programs"
            }
            userns::Rung::Chroot => "none, RUN is refused",
        };
        let why = match &self.0.refusal {
            Some(refusal) => format!("{text}: {refusal}"),
            None => text.to_owned(),
        };
        sink.emit(Event::Chosen {
            what: "isolation",
            text: &why,
        });
    }

    /// Returns which it is.
    pub(crate) fn kind(&self) -> userns::Rung {
        self.0.rung
    }

    /// Returns its name, as `--isolation` has it.
    pub(crate) fn name(&self) -> String {
        self.0.rung.to_string()
    }

    /// Returns why no program can be isolated, if that is so.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        self.0.refusal.as_ref()
    }

    /// Returns what RUN is shut in by.
    pub(crate) fn walls(&self) -> Walls {
        match (&self.0.refusal, self.0.runs) {
            (None, _) => Walls::Namespaces,
            (Some(why), true) => Walls::Chroot(why.clone()),
            (Some(why), false) => Walls::Refused(why.clone()),
        }
    }
}

/// A sink that reports the rung once the plan is made, since a Dockerfile that is wrong needs none.
pub(crate) struct Announcing<'s> {
    /// What to report.
    pub(crate) rung: Rung,
    /// Where all events go.
    pub(crate) to: &'s Shown,
}

impl Sink for Announcing<'_> {
    fn emit(&self, event: Event<'_>) {
        let planned = matches!(event, Event::Planned { .. });
        self.to.emit(event);
        if planned {
            self.rung.announce(self.to);
        }
    }
}
