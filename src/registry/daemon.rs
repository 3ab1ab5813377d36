//! Docker's daemon, through its socket: images in and out as the tars of `docker save`.
//!
//! Only a socket of this machine is spoken to. What the daemon sends is not trusted more than any
//! archive; whoever reads it verifies it.

use std::path::{Path, PathBuf};

use reqwest::{Body, Client, RequestBuilder, Response};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use super::error::Error;
use super::wire::install_provider;

/// More than the daemon says about one load.
const MAX_ANSWER: usize = 1 << 20;
/// More than this of what the daemon says is not told on.
const MAX_SAID: usize = 500;

/// A daemon.
#[derive(Debug)]
pub struct Daemon {
    socket: PathBuf,
}

/// One line of an answer.
#[derive(Deserialize)]
struct Said {
    #[serde(alias = "message")]
    error: Option<String>,
}

impl Daemon {
    /// The daemon at a socket. Nothing is connected yet.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Writes the image called `name` to `out`.
    pub async fn save(&self, name: &str, out: std::fs::File) -> Result<(), Error> {
        let asking = self
            .client()?
            .get(format!("http://docker/images/{name}/get"));
        let mut answer = self.send(asking).await?;
        let mut out = tokio::fs::File::from_std(out);
        let spooled = |source| Error::DaemonSpool { source };
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.broken(e))? {
            out.write_all(&chunk).await.map_err(spooled)?;
        }
        out.flush().await.map_err(spooled)
    }

    /// Hands the daemon an archive of `size` bytes.
    pub async fn load(&self, archive: std::fs::File, size: u64) -> Result<(), Error> {
        let body = Body::from(tokio::fs::File::from_std(archive));
        let asking = self
            .client()?
            .post("http://docker/images/load?quiet=1")
            .header("content-type", "application/x-tar")
            .header("content-length", size)
            .body(body);
        let mut answer = self.send(asking).await?;
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.broken(e))? {
            if text.len() + chunk.len() <= MAX_ANSWER {
                text.extend_from_slice(&chunk);
            }
        }
        // The status was sent before the archive was read: an error comes as a line of its own.
        match complaint(&text) {
            Some(said) => Err(Error::DaemonSaid { said }),
            None => Ok(()),
        }
    }

    fn client(&self) -> Result<Client, Error> {
        install_provider();
        let builder = Client::builder()
            .unix_socket(self.socket.as_path())
            .tls_certs_only([])
            .no_proxy();
        builder.build().map_err(|source| self.broken(source))
    }

    async fn send(&self, asking: RequestBuilder) -> Result<Response, Error> {
        let mut answer = asking.send().await.map_err(|e| self.broken(e))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.broken(e))? {
            if text.len() + chunk.len() <= MAX_ANSWER {
                text.extend_from_slice(&chunk);
            }
        }
        let said = complaint(&text).unwrap_or_else(|| status.to_string());
        Err(Error::DaemonSaid { said })
    }

    fn broken(&self, source: reqwest::Error) -> Error {
        Error::Daemon {
            socket: self.socket.clone(),
            source,
        }
    }
}

/// The first error among the lines of an answer.
fn complaint(text: &[u8]) -> Option<String> {
    let lines = text.split(|&b| b == b'\n');
    let said = lines.filter_map(|line| serde_json::from_slice::<Said>(line).ok()?.error);
    let short = |said: String| said.chars().take(MAX_SAID).collect();
    said.map(short).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_found_among_what_the_daemon_says() {
        assert_eq!(complaint(b"{\"stream\":\"Loaded image: a\\n\"}\r\n"), None);
        let late = b"{\"stream\":\"x\"}\r\n{\"errorDetail\":{},\"error\":\"no space\"}\r\n";
        assert_eq!(complaint(late), Some("no space".to_owned()));
        let status = br#"{"message":"No such image: a"}"#;
        assert_eq!(complaint(status), Some("No such image: a".to_owned()));
        assert_eq!(complaint(b"<html>"), None);
    }
}
