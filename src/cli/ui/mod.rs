//! Everything that is printed, and nothing else in the crate prints.
//!
//! Standard output holds only what a pipe wants: ids, digests, listings, archives. Progress,
//! notes and errors go to standard error. A reader of standard output that has gone away ends
//! the printing and is no error, as with `cooper images | head -1`.

pub(crate) mod clean;
pub(crate) mod human;
mod lines;
pub(crate) mod listing;
mod plain;
mod quiet;
mod rawjson;
mod steps;
pub(crate) mod table;
pub(crate) mod template;
mod tty;
mod words;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};

use clap::ValueEnum;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::report::Report;
use crate::event::Sink;

/// Lines of output that are kept for a step that fails.
const TAIL: usize = 50;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Progress {
    /// `tty` on a terminal, else `plain`.
    #[default]
    Auto,
    /// Bars and moving output.
    Tty,
    /// Lines, as BuildKit's plain progress.
    Plain,
    /// One JSON object a line.
    Rawjson,
    /// Nothing but the output of a step that failed.
    Quiet,
}

/// How much is said on standard error; each level says what the ones above it say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Level {
    /// Errors.
    Error,
    /// Warnings.
    #[value(alias = "warning")]
    Warn,
    /// Choices that were made, such as the isolation.
    Info,
    /// Where the store is, and how long the command took.
    #[value(alias = "trace")]
    Debug,
}

/// Shows events. Closing ends what is half shown; it may be closed twice.
pub(crate) trait Renderer: Sink {
    /// Prints what is left and clears what moves.
    fn close(&self);
}

/// A renderer that closes itself.
pub(crate) struct Shown(Box<dyn Renderer>);

impl Shown {
    /// Picks the renderer for `progress`.
    pub(crate) fn new(progress: Progress, level: Level) -> Self {
        let err = || Box::new(io::stderr());
        Self(match progress {
            Progress::Auto if io::stderr().is_terminal() => Box::new(tty::Tty::new(level)),
            Progress::Tty => Box::new(tty::Tty::new(level)),
            Progress::Auto | Progress::Plain => Box::new(plain::Plain::new(err(), level)),
            Progress::Rawjson => Box::new(rawjson::RawJson::new(err())),
            Progress::Quiet => Box::new(quiet::Quiet::new(err(), level)),
        })
    }
}

impl Shown {
    /// Writes plain lines to `out`.
    pub(crate) fn to(out: Box<dyn Write + Send>, level: Level) -> Self {
        Self(Box::new(plain::Plain::new(out, level)))
    }
}

impl Sink for Shown {
    fn emit(&self, event: crate::event::Event<'_>) {
        self.0.emit(event);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Prints one value and a line end on standard output.
pub(crate) fn data(value: &dyn Display) -> Result<(), Report> {
    raw_data(format!("{value}\n").as_bytes())
}

/// Prints bytes on standard output as they are.
pub(crate) fn raw_data(bytes: &[u8]) -> Result<(), Report> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Report::failed("cannot write to standard output").because(&error))
        }
        _ => Ok(()),
    }
}

/// Prints bytes on standard output; `false` when nobody reads them any more.
pub(crate) fn open_data(bytes: &[u8]) -> Result<bool, Report> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Report::failed("cannot write to standard output").because(&error)),
    }
}

/// Prints a line on standard error. One that is gone can't be told about.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints on standard error without a line end.
pub(crate) fn prompt(text: &str) {
    let mut err = io::stderr();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// A terminal that does not show what is typed, until this is dropped.
pub(crate) struct Hidden {
    terminal: OwnedFd,
    before: Termios,
}

impl Hidden {
    /// Turns off the echo of `terminal` (termios(3)).
    pub(crate) fn enter(terminal: impl AsFd) -> io::Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod testing {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    /// A writer whose bytes can be looked at.
    #[derive(Clone, Default)]
    pub(super) struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Shared {
        pub(super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Puts `T` for the seconds with three decimals before a line of output.
    pub(super) fn timeless(text: &str) -> String {
        let lines = text.lines().map(|line| {
            let mut words: Vec<&str> = line.split(' ').collect();
            if let Some(word) = words.get_mut(1)
                && word
                    .split_once('.')
                    .is_some_and(|(_, decimals)| decimals.len() == 3)
                && word.parse::<f64>().is_ok()
            {
                *word = "T";
            }
            words.join(" ")
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}
