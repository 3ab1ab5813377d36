//! `rm` and `rename` of working containers.

use std::process::ExitCode;

use crate::build::working;
use crate::cli::Session;
use crate::cli::cask::each;
use crate::cli::report::Report;

/// Remove working containers
///
/// The ids of those that went go to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    /// Names or ids of containers
    #[arg(value_name = "CONTAINER", required_unless_present = "all")]
    containers: Vec<String>,

    /// All working containers
    #[arg(short, long, conflicts_with = "containers")]
    all: bool,
}

impl Rm {
    /// Removes them.
    pub(crate) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        let names: Vec<String> = match self.all {
            true => working::list(&store)?.into_iter().map(|c| c.id).collect(),
            false => self.containers,
        };
        each::each_shown(&names, |name| {
            let container = working::find(&store, name)?;
            container.remove()?;
            Ok(container.id)
        })
    }
}

/// Give a working container another name
#[derive(Debug, clap::Args)]
pub(crate) struct Rename {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// The new name
    #[arg(value_name = "NAME")]
    name: String,
}

impl Rename {
    /// Renames it.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let store = session.store()?;
        let mut container = working::find(&store, &self.container)?;
        Ok(container.rename(&self.name)?)
    }
}
