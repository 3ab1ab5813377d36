//! `login`: check credentials at a registry and keep them.

use std::io::BufRead;
use std::path::PathBuf;

use crate::cli::args::{self, Registry};
use crate::cli::report::Report;
use crate::cli::{Session, env, ui};
use crate::transfer::{self, Credentials, Network, Secret};

/// The Hub, as its users name it.
pub(super) const HUB: &str = "docker.io";

/// Log in to a registry
///
/// The credentials are checked, and kept in docker's `config.json` or the file that
/// `--authfile` names, or given to the credential helper that the file names.
#[derive(Debug, clap::Args)]
pub(crate) struct Login {
    /// `HOST[:PORT]` of the registry
    #[arg(value_name = "REGISTRY", default_value = HUB)]
    registry: String,

    /// User name; asked for when not given
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,

    /// Password; `--password-stdin` keeps it out of the list of processes
    #[arg(
        short,
        long,
        value_name = "PASSWORD",
        conflicts_with = "password_stdin"
    )]
    password: Option<String>,

    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,

    #[command(flatten)]
    options: Registry,
}

impl Login {
    /// Asks for what is missing, checks and keeps.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let registry = host_of(&self.registry)?.to_owned();
        let authfile = authfile(&self.options)?;
        let mut options = self.options.options()?;
        let credentials = match options.credentials.take() {
            Some(given) => given,
            None => self.credentials()?,
        };
        let network = Network::new(options);
        transfer::login(&network, &registry, &credentials, &authfile)?;
        session.say(&format!("logged in to {registry}"));
        Ok(())
    }
}

impl Login {
    fn credentials(self) -> Result<Credentials, Report> {
        let username = match self.username {
            Some(name) => name,
            None => ask_name()?,
        };
        let password = match self.password {
            Some(password) => password,
            None if self.password_stdin => args::password_from(&mut std::io::stdin())?,
            None => args::ask_password()?,
        };
        if username.is_empty() || password.is_empty() {
            return Err(Report::wrong_use(
                "a login needs a user name and a password",
            ));
        }
        Ok(Credentials::Password {
            username,
            password: Secret::new(password),
        })
    }
}

/// Returns the file that logins are kept in.
pub(super) fn authfile(options: &Registry) -> Result<PathBuf, Report> {
    options
        .authfile
        .clone()
        .or_else(env::own_authfile)
        .ok_or_else(|| {
            Report::wrong_use("there is no file to keep logins in: HOME is not set")
                .hint("`--authfile FILE` names one")
        })
}

/// Takes the host out of what users paste: a URL or an image name.
pub(super) fn host_of(text: &str) -> Result<&str, Report> {
    let bare = ["https://", "http://", "docker://"];
    let bare = bare
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .unwrap_or(text);
    let host = bare.split('/').next().unwrap_or_default();
    match host {
        "" => Err(Report::wrong_use(format!(
            "`{text}` names no registry: expected `HOST[:PORT]`"
        ))),
        "index.docker.io" | "registry-1.docker.io" => Ok(HUB),
        host => Ok(host),
    }
}

fn ask_name() -> Result<String, Report> {
    ui::prompt("Username: ");
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|error| Report::failed("cannot read the user name").because(&error))?;
    Ok(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_may_be_pasted_as_urls() {
        for (text, host) in [
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("https://ghcr.io/v2/", "ghcr.io"),
            ("https://index.docker.io/v1/", HUB),
            ("quay.io/me", "quay.io"),
        ] {
            assert_eq!(host_of(text).unwrap(), host);
        }
        assert!(host_of("https:///x").is_err());
    }
}
