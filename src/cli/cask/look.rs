//! `cask port`: where the ports of a container are reachable.

use std::process::ExitCode;

use super::ports;
use crate::cli::report::Report;
use crate::cli::{Session, ui};
use crate::runner::{self, Bound, State};

/// Show where the ports of a container are reachable
#[derive(Debug, clap::Args)]
pub(super) struct Port {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// Only this port of it
    #[arg(value_name = "PORT[/PROTOCOL]", num_args = 0..=1, value_parser = ports::expose)]
    port: Vec<Vec<String>>,
}

impl Port {
    /// Shows them.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        let container = runner::find(&store, &self.container)?;
        let mut found = false;
        for bound in published(&container.state()?) {
            let inner = ports::inner(bound);
            match self.port.first() {
                None => ui::data(&format!("{inner} -> {}", bound.outer))?,
                Some(wanted) if wanted.contains(&inner) => {
                    found = true;
                    ui::data(&bound.outer.to_string())?;
                }
                Some(_) => {}
            }
        }
        match self.port.first() {
            Some(wanted) if !found => Err(Report::failed(format!(
                "no public port `{}` of `{}`",
                wanted.join(","),
                container.config.name
            ))),
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

/// Ports of the machine that lead into a container while it is up.
pub(super) fn published(state: &State) -> &[Bound] {
    match state.status.is_up() {
        true => &state.ports,
        false => &[],
    }
}
