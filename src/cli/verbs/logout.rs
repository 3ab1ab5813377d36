//! `logout`: forget a login.

use super::login::{HUB, authfile, host_of};
use crate::cli::Session;
use crate::cli::args::Registry;
use crate::cli::report::Report;
use crate::transfer::{self, Network};

/// Forget the login for a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Logout {
    /// `HOST[:PORT]` of the registry
    #[arg(value_name = "REGISTRY", default_value = HUB)]
    registry: String,

    #[command(flatten)]
    options: Registry,
}

impl Logout {
    /// Forgets it; that there was none is no error.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let registry = host_of(&self.registry)?;
        let authfile = authfile(&self.options)?;
        let network = Network::new(self.options.options()?);
        let text = match transfer::logout(&network, registry, &authfile)? {
            true => format!("logged out of {registry}"),
            false => format!("not logged in to {registry}"),
        };
        session.say(&text);
        Ok(())
    }
}
