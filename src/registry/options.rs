//! What a caller can choose about the network, as plain data.
//!
//! Nothing here reads the environment: `cli` does, and fills the fields. Secrets are
//! [`Secret`]s, which no `Debug` output shows.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::conf::ConfigFiles;

/// A password or token. Shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// How to prove who one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User name and password (or access token used as one).
    Password {
        /// User name.
        username: String,
        /// Password.
        password: Secret,
    },
    /// An OAuth2 refresh token, which docker calls identity token.
    Identity(Secret),
    /// A bearer token, sent as it is.
    Token(Secret),
}

/// Proxies, as `HTTP_PROXY` and its like name them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http:` URLs.
    pub http: Option<String>,
    /// For `https:` URLs.
    pub https: Option<String>,
    /// Hosts and networks that are reached without one, parted by commas. Loopback always is.
    pub no_proxy: Option<String>,
}

impl fmt::Debug for Proxies {
    /// A proxy URL may hold a password, so only its presence is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// Choices for all registries of one run.
#[derive(Debug, Clone)]
pub struct Options {
    /// `Some(true)`: https with a verified certificate, always. `Some(false)`: an unverified
    /// certificate and plain http are accepted. `None`: as `Some(true)`, except that a
    /// registry on a loopback address may speak http.
    pub tls_verify: Option<bool>,
    /// Credentials given for this run; they win over all files. Other registries that a name is
    /// read from do not see them.
    pub credentials: Option<Credentials>,
    /// Files that say how registries are reached, read when the first one is spoken to.
    pub registries: ConfigFiles,
    /// Auth files (docker's `config.json`, podman's `auth.json`), the first match wins.
    pub authfiles: Vec<PathBuf>,
    /// Where credential helpers are looked for, in the form of `PATH`; the process' own when unset.
    pub helper_path: Option<OsString>,
    /// A directory with `*.crt`, `*.cert` and `*.key`, used in place of [`cert_roots`](Self::cert_roots).
    pub cert_dir: Option<PathBuf>,
    /// Directories that hold one such directory for each `HOST[:PORT]`.
    pub cert_roots: Vec<PathBuf>,
    /// PEM files with further CAs, trusted beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// Proxies.
    pub proxies: Proxies,
    /// Where docker's daemon listens.
    pub docker_socket: PathBuf,
    /// How many blobs move at once.
    pub parallel: usize,
    /// How often a request is sent at most before its trouble is reported.
    pub attempts: u32,
    /// Pause before the second attempt; doubles each time.
    pub backoff: Duration,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long the other side may say nothing.
    pub idle_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls_verify: None,
            credentials: None,
            registries: ConfigFiles::default(),
            authfiles: Vec::new(),
            helper_path: None,
            cert_dir: None,
            cert_roots: vec![
                PathBuf::from("/etc/containers/certs.d"),
                PathBuf::from("/etc/docker/certs.d"),
            ],
            ca_files: Vec::new(),
            proxies: Proxies::default(),
            docker_socket: PathBuf::from("/var/run/docker.sock"),
            parallel: 4,
            attempts: 5,
            backoff: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
        }
    }
}
