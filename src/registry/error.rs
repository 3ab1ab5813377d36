//! Everything that can go wrong between this machine and a registry.
//!
//! Each variant is one thing that happened, told with the host it happened at, so that `cli` can
//! add the hint that helps. No text holds a secret: URLs are cut to scheme, host and path, and
//! what a server said is capped and cleaned before it is kept.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::image::{Digest, DocumentError, Mismatch};

use super::conf::Line;

/// Why a registry operation did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Docker's daemon does not answer at its socket.
    #[error("cannot speak to docker's daemon at {}", socket.display())]
    Daemon {
        /// The socket.
        socket: PathBuf,
        /// What the connection said.
        source: reqwest::Error,
    },
    /// Docker's daemon refuses.
    #[error("docker's daemon says: {said}")]
    DaemonSaid {
        /// Its words, shortened.
        said: String,
    },
    /// What docker's daemon sends can't be kept.
    #[error("cannot keep what docker's daemon sends")]
    DaemonSpool {
        /// Why.
        source: std::io::Error,
    },
    /// Nothing listens at the host's port.
    #[error("server `{host}` refuses connections")]
    Refused {
        /// Host and port as the user wrote them.
        host: String,
        /// What the connection attempt said.
        source: reqwest::Error,
    },
    /// The host name has no address.
    #[error("cannot look up the address of `{host}`")]
    Lookup {
        /// Host and port.
        host: String,
        /// What the resolver said.
        source: reqwest::Error,
    },
    /// The connection could not be made or broke, also after retries.
    #[error("cannot {doing} `{host}`")]
    Connection {
        /// The act, such as `connect to`.
        doing: &'static str,
        /// Host and port.
        host: String,
        /// What the connection said.
        source: reqwest::Error,
    },
    /// The other side said nothing for too long.
    #[error("`{host}` sent nothing for {} s", after.as_secs())]
    Timeout {
        /// Host and port.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// The certificate does not verify: `--tls-verify=false` or a CA file would change that.
    #[error("the TLS certificate of `{host}` is not trusted")]
    Untrusted {
        /// Host and port.
        host: String,
        /// Why: unknown issuer, expired, wrong name.
        source: rustls::Error,
    },
    /// The TLS handshake ended for another reason than the certificate.
    #[error("cannot agree on TLS with `{host}`")]
    Handshake {
        /// Host and port.
        host: String,
        /// What the TLS library said.
        source: rustls::Error,
    },
    /// The host answers https with something that is no TLS: it speaks http, most likely.
    /// `--tls-verify=false` would allow that.
    #[error("`{host}` answers the https request without TLS")]
    NotTls {
        /// Host and port.
        host: String,
    },
    /// The system has no CA certificates at all, so that no https server can be verified.
    #[error("no CA certificates are installed, so the certificate of `{host}` cannot be verified")]
    NoRoots {
        /// Host and port.
        host: String,
        /// What the TLS library said.
        source: reqwest::Error,
    },
    /// A CA or client certificate file is unusable.
    #[error("cannot use the certificates in {}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: reqwest::Error,
    },
    /// A proxy address is unusable. It is not shown, because it may hold a password.
    #[error("the {which} proxy address is malformed")]
    Proxy {
        /// `http` or `https`.
        which: &'static str,
    },
    /// A file on this machine cannot be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// The act.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An auth file is not the JSON it should be.
    #[error("{} is not a valid auth file", path.display())]
    AuthFile {
        /// The file.
        path: PathBuf,
        /// Where it is wrong; never holds the content.
        why: &'static str,
    },
    /// A file says something about registries that can't be used.
    #[error("{line}: {why}")]
    Conf {
        /// Where.
        line: Line,
        /// What is wrong with it.
        why: String,
    },
    /// A file forbids to speak to the registry.
    #[error("`{name}` is blocked by {line}")]
    ConfBlocked {
        /// The name, or the registry.
        name: String,
        /// The entry that says so.
        line: Line,
    },
    /// Several registries are searched for short names, and a file wants no guess.
    #[error("`{name}` may be at {hosts}, and {line} wants that to be said")]
    Ambiguous {
        /// The short name.
        name: String,
        /// The registries, parted by commas.
        hosts: String,
        /// The mode that forbids to try them.
        line: Line,
    },
    /// A file leads a name to what is none.
    #[error("`{name}` leads to `{to}` by registries.conf, which is no image name")]
    NoPlace {
        /// The name.
        name: String,
        /// What became of it.
        to: String,
    },
    /// None of several places gives what is asked for; the source is the error of the last.
    #[error("`{name}` can be had nowhere ({})", others.join("; "))]
    Nowhere {
        /// The name without tag or digest.
        name: String,
        /// The other places, each with what went wrong there.
        others: Vec<String>,
        /// What went wrong at the last, which is the name's own.
        source: Box<Self>,
    },
    /// A credential helper did not give credentials.
    #[error("credential helper `{helper}` {why}")]
    Helper {
        /// Program name.
        helper: String,
        /// What it did.
        why: String,
    },
    /// The registry wants credentials and there are none for it.
    #[error("`{host}` needs a login{}", of_what("for", what))]
    NeedsLogin {
        /// Host and port.
        host: String,
        /// The repository, or empty.
        what: String,
    },
    /// The registry does not accept the credentials.
    #[error(
        "`{host}` does not accept the user name or password{}{}",
        of_user(user),
        said(server)
    )]
    WrongCredentials {
        /// Host and port.
        host: String,
        /// The user name, where there is one.
        user: Option<String>,
        /// What the server said.
        server: Vec<ServerError>,
    },
    /// The login is good and this is not allowed with it.
    #[error("`{host}` denies access{}{}", of_what("to", what), said(server))]
    Denied {
        /// Host and port.
        host: String,
        /// The repository, or empty.
        what: String,
        /// What the server said.
        server: Vec<ServerError>,
    },
    /// The registry has no such image.
    #[error("`{name}` is not in the registry")]
    UnknownManifest {
        /// Full name with tag or digest.
        name: String,
    },
    /// The registry has no such repository.
    #[error("the registry `{host}` has no repository `{repository}`")]
    UnknownRepository {
        /// Host and port.
        host: String,
        /// The repository.
        repository: String,
    },
    /// The registry names a blob that it does not have.
    #[error("`{host}` does not have blob {digest} of `{repository}`")]
    UnknownBlob {
        /// Host and port.
        host: String,
        /// The repository.
        repository: String,
        /// The blob.
        digest: Digest,
    },
    /// A service that keeps caches has none by this name.
    #[error("`{host}` has no cache named `{name}` yet")]
    NoCache {
        /// Host and port.
        host: String,
        /// The name, or several.
        name: String,
    },
    /// A blob is larger than a service takes.
    #[error("blob {digest} has {size} bytes, and `{host}` takes {limit} at most")]
    TooMuch {
        /// Host and port.
        host: String,
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The most that is taken, in bytes.
        limit: u64,
    },
    /// Caching did not end in the time that it was given.
    #[error("`{host}` did not take everything within {} s", after.as_secs())]
    Slow {
        /// Host and port.
        host: String,
        /// The time.
        after: Duration,
    },
    /// The address of a service is no URL.
    #[error("`{place}` makes no URL")]
    NoUrl {
        /// The service, as shown.
        place: String,
    },
    /// Too many requests, also after waiting.
    #[error(
        "`{host}` limits the number of requests{}{}",
        wait(retry_after),
        said(server)
    )]
    Busy {
        /// Host and port.
        host: String,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
        /// What the server said.
        server: Vec<ServerError>,
    },
    /// Any other answer that is not the expected one.
    #[error("`{host}` answers {status} when asked to {doing}{}", said(server))]
    Status {
        /// Host and port.
        host: String,
        /// The act.
        doing: &'static str,
        /// HTTP status code.
        status: u16,
        /// What the server said.
        server: Vec<ServerError>,
    },
    /// The answer breaks the protocol.
    #[error("`{host}` breaks the registry protocol: {why}")]
    Protocol {
        /// Host and port.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// The bytes are not those that the digest names.
    #[error("`{host}` sent other bytes than asked for")]
    Corrupt {
        /// Host and port.
        host: String,
        /// Which digest and what came.
        source: Mismatch,
    },
    /// A blob has another size than its descriptor says.
    #[error("`{host}` sends {got} bytes for blob {digest}, its manifest says {want}")]
    Size {
        /// Host and port.
        host: String,
        /// The blob.
        digest: Digest,
        /// Size by the descriptor, in bytes.
        want: u64,
        /// Size by the server, in bytes; a lower bound while streaming.
        got: u64,
    },
    /// An answer is larger than is ever read.
    #[error("`{host}` sends a {what} of more than {limit} bytes")]
    TooLarge {
        /// Host and port.
        host: String,
        /// What it should be.
        what: &'static str,
        /// Limit in bytes.
        limit: u64,
    },
    /// A digest of an algorithm that cannot be checked here.
    #[error("digest {digest} uses an algorithm that is not verified here")]
    Algorithm {
        /// The digest.
        digest: Digest,
    },
    /// A manifest, index or config is malformed.
    #[error("`{host}` sent an unusable document")]
    Document {
        /// Host and port.
        host: String,
        /// What is wrong.
        source: DocumentError,
    },
    /// The registry points to a place that is not followed.
    #[error("`{host}` points to `{to}`, which is not followed: {why}")]
    Refuses {
        /// Host and port.
        host: String,
        /// Scheme and host of the place.
        to: String,
        /// Which rule.
        why: &'static str,
    },
    /// A download cannot be written.
    #[error("cannot write what `{url}` sends")]
    Save {
        /// Host and port.
        url: String,
        /// Why.
        source: io::Error,
    },
    /// The local end of a transfer does not work.
    #[error("cannot {doing} blob {digest}")]
    Local {
        /// The act.
        doing: &'static str,
        /// The blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
}

/// One entry of the `errors` list of a registry's answer (distribution spec, "Error Codes").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The code, such as `MANIFEST_UNKNOWN`; empty when the server sent plain text.
    pub code: String,
    /// The message, cut to 300 characters, control characters left out.
    pub message: String,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code.is_empty(), self.message.is_empty()) {
            (false, false) => write!(f, "{}: {}", self.code, self.message),
            (false, true) => f.write_str(&self.code),
            _ => f.write_str(&self.message),
        }
    }
}

fn said(server: &[ServerError]) -> String {
    if server.is_empty() {
        return String::new();
    }
    let all: Vec<String> = server.iter().map(ServerError::to_string).collect();
    format!(" ({})", all.join("; "))
}

fn of_what(word: &str, what: &str) -> String {
    if what.is_empty() {
        String::new()
    } else {
        format!(" {word} `{what}`")
    }
}

fn of_user(user: &Option<String>) -> String {
    user.as_ref()
        .map(|user| format!(" of `{user}`"))
        .unwrap_or_default()
}

fn wait(after: &Option<Duration>) -> String {
    after
        .map(|after| format!(", next try in {} s", after.as_secs()))
        .unwrap_or_default()
}
