//! Speaks to credential helpers: `docker-credential-NAME get|store|erase`.
//!
//! The protocol is that of docker-credential-helpers: the server on stdin, JSON on stdout.
//! Secrets go over pipes only, never into arguments. A helper that hangs is ended, and what it
//! prints on stdout is never shown, because that is where the secret is.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use super::error::Error;
use super::options::{Credentials, Secret};

/// What the program names begin with.
pub(super) const PREFIX: &str = "docker-credential-";

/// A helper may ask its user for a password, so it gets some time.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_REPLY: u64 = 256 << 10;

/// A helper, and where to look for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Helper<'a> {
    /// Name of the program.
    pub(super) program: &'a str,
    /// Search path in the form of `PATH`; the process' own when `None`.
    pub(super) path: Option<&'a OsStr>,
}

/// Asks `helper` for the login of `server`; `None` when it knows none.
pub(super) fn get(helper: Helper<'_>, server: &str) -> Result<Option<Credentials>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Reply {
        username: String,
        secret: String,
    }
    let Some(reply) = run(helper, "get", server.as_bytes())? else {
        return Ok(None);
    };
    let reply: Reply = serde_json::from_slice(&reply)
        .map_err(|_| trouble(helper.program, "gives a malformed answer"))?;
    let secret = Secret::new(reply.secret);
    Ok(Some(match reply.username.as_str() {
        "<token>" => Credentials::Identity(secret),
        _ => Credentials::Password {
            username: reply.username,
            password: secret,
        },
    }))
}

/// Gives a login to `helper` to keep.
pub(super) fn store(helper: Helper<'_>, server: &str, login: &Credentials) -> Result<(), Error> {
    let (username, secret) = match login {
        Credentials::Password { username, password } => (username.as_str(), password),
        Credentials::Identity(token) | Credentials::Token(token) => ("<token>", token),
    };
    let entry = json!({ "ServerURL": server, "Username": username, "Secret": secret.reveal() });
    match run(helper, "store", entry.to_string().as_bytes())? {
        Some(_) => Ok(()),
        None => Err(trouble(helper.program, "does not keep the login")),
    }
}

/// Lets `helper` forget the login of `server` and returns whether it knew one.
pub(super) fn erase(helper: Helper<'_>, server: &str) -> Result<bool, Error> {
    Ok(run(helper, "erase", server.as_bytes())?.is_some())
}

fn trouble(program: &str, why: impl Into<String>) -> Error {
    Error::Helper {
        helper: program.to_owned(),
        why: why.into(),
    }
}

/// Runs the helper. `None` means that it says it has no such login.
fn run(helper: Helper<'_>, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    if helper.program.contains('/') {
        return Err(trouble(helper.program, "has a name with a slash"));
    }
    let mut command = Command::new(helper.program);
    if let Some(path) = helper.path {
        command.env("PATH", path);
    }
    let mut child = command
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => trouble(helper.program, "is not installed"),
            kind => trouble(helper.program, format!("cannot be started: {kind}")),
        })?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that ends without reading says why by its status.
        let _ = stdin.write_all(input);
    }
    let ended = wait(&mut child);
    let stdout = stdout.join().unwrap_or_default();
    let stderr = stderr.join().unwrap_or_default();
    match ended {
        None => Err(trouble(
            helper.program,
            format!("gave no answer in {} s", PATIENCE.as_secs()),
        )),
        Some(true) => Ok(Some(stdout)),
        // The protocol says "not found" in words, on stdout.
        Some(false) if is_not_found(&stdout) || is_not_found(&stderr) => Ok(None),
        Some(false) => Err(trouble(
            helper.program,
            format!("does not {verb} the login"),
        )),
    }
}

fn is_not_found(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.contains("credentials not found") || text.contains("no credentials")
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut out = Vec::new();
        if let Some(pipe) = pipe {
            // A broken pipe ends the answer; its form is checked afterwards.
            let _ = pipe.take(MAX_REPLY).read_to_end(&mut out);
        }
        out
    })
}

/// Waits for the end and returns whether it was a good one; `None` after too long.
fn wait(child: &mut Child) -> Option<bool> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if Instant::now() < end => {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            _ => {
                // It may be gone already; then there is nothing to end.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}
