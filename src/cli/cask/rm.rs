//! `cask rm`: remove containers.

use std::process::ExitCode;

use crate::cli::report::Report;
use crate::cli::{Session, ui};
use crate::runner::{self, Error};
use crate::store::Store;

/// Remove containers and what their programs wrote
///
/// A running container ends with the `cask run` that started it, and can be removed then.
#[derive(Debug, clap::Args)]
pub(super) struct Rm {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,

    /// Containers that are not there are no error
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    /// Removes one after the other; what can't be removed does not keep the others.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        let mut first = None;
        for text in &self.containers {
            match self.remove(&store, text) {
                Ok(()) => ui::data(text)?,
                Err(report) => match &first {
                    None => first = Some(report),
                    Some(_) => drop(report.show()),
                },
            }
        }
        first.map_or(Ok(ExitCode::SUCCESS), Err)
    }

    fn remove(&self, store: &Store, text: &str) -> Result<(), Report> {
        match runner::find(store, text) {
            Ok(container) => Ok(runner::remove(container)?),
            Err(error @ Error::NoContainer { .. }) if self.force => {
                ui::note(&format!("warning: {error}"));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}
