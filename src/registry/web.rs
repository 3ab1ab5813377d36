//! Plain downloads: what ADD fetches from a web server.
//!
//! Redirects are followed from http to http or https and from https to https, never to another
//! scheme, and never from the internet into a private network. A user name in the URL, or else a
//! secret of the caller's, goes to the URL's own origin, and no other credentials are sent.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{
    CONTENT_DISPOSITION, ETAG, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED,
};
use reqwest::{Method, StatusCode, Url};
use tokio::sync::mpsc;

use super::answer::Answer;
use super::auth::patiently;
use super::client::Client;
use super::error::Error;
use super::options::Secret;
use super::wire::{Ask, Wire, shown};

/// Pieces that wait between the network and the writer.
const QUEUE: usize = 8;

/// What a server said about the version of a file, to ask later whether it still is the one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`, as it came.
    pub etag: Option<String>,
    /// `Last-Modified`, as it came.
    pub last_modified: Option<String>,
}

/// A file on a web server, about to be read.
#[derive(Debug)]
pub struct Page {
    answer: Answer,
    url: Url,
    /// Its version.
    pub validators: Validators,
    /// Its name: by `Content-Disposition`, else the last part of the URL's path; `None` when
    /// neither gives one. Never holds a slash and is not `.` or `..`.
    pub name: Option<String>,
    /// Size in bytes, where the server says it.
    pub size: Option<u64>,
}

/// Answer to a download.
#[derive(Debug)]
pub enum Fetched {
    /// The file is still the version that was asked about.
    Unchanged,
    /// Here it is.
    Page(Box<Page>),
}

impl Client {
    /// Asks for `url`. With `known` validators the answer may be that nothing changed.
    pub async fn get(&self, url: &str, known: &Validators) -> Result<Fetched, Error> {
        self.get_as(url, known, None).await
    }

    /// As [`Client::get`], with `authorization` as the header of that name. A user in the URL
    /// wins.
    pub async fn get_as(
        &self,
        url: &str,
        known: &Validators,
        authorization: Option<&Secret>,
    ) -> Result<Fetched, Error> {
        let refuses = |to: String, why| Error::Refuses {
            host: "ADD".to_owned(),
            to,
            why,
        };
        let mut url =
            Url::parse(url).map_err(|_| refuses("its address".to_owned(), "it is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            let to = format!("{}:", url.scheme());
            return Err(refuses(to, "only http and https are spoken"));
        }
        let no_header = |_| refuses(shown(&url), "the secret for it is no header");
        let given = authorization
            .map(|secret| HeaderValue::from_str(secret.reveal()).map_err(no_header))
            .transpose()?;
        let authorization = take_user(&mut url).or(given);
        let mut base = url.clone();
        base.set_path("/");
        base.set_query(None);
        base.set_fragment(None);
        // Not verifying is a choice about a registry, and this is none.
        let wire = Wire::new(&shown(&url), base, true, self.shared_options());
        let mut ask = Ask::new("send a file", Method::GET, url);
        ask = conditional(ask, IF_NONE_MATCH, known.etag.as_deref());
        ask = conditional(ask, IF_MODIFIED_SINCE, known.last_modified.as_deref());
        let answer = patiently(self.options(), async || {
            wire.send(&ask, authorization.as_ref()).await
        })
        .await?;
        match answer.status() {
            StatusCode::NOT_MODIFIED => Ok(Fetched::Unchanged),
            StatusCode::OK => Ok(Fetched::Page(Box::new(Page::new(answer, ask.url)))),
            _ => Err(answer.into_error(ask.doing, ask.url.path()).await),
        }
    }
}

/// Moves user name and password out of the URL. They go to its own origin only.
fn take_user(url: &mut Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let user = percent_decode(url.username());
    let password = percent_decode(url.password().unwrap_or_default());
    // An http URL has a host, so both can be taken away.
    let _ = (url.set_username(""), url.set_password(None));
    let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    HeaderValue::from_str(&value).ok()
}

fn conditional(ask: Ask, name: HeaderName, value: Option<&str>) -> Ask {
    match value {
        Some(value) => ask.header(name, value),
        None => ask,
    }
}

impl Page {
    fn new(answer: Answer, asked: Url) -> Self {
        let text = |name| answer.header(name).map(str::to_owned);
        Self {
            validators: Validators {
                etag: text(ETAG),
                last_modified: text(LAST_MODIFIED),
            },
            name: answer
                .header(CONTENT_DISPOSITION)
                .and_then(disposition_name)
                .or_else(|| path_name(&asked)),
            size: answer.length(),
            url: asked,
            answer,
        }
    }

    /// Writes the body into `into` on a blocking thread and gives `into` back with the number of
    /// bytes. `moved` is told how far it is.
    pub async fn save<W: Write + Send + 'static>(
        mut self,
        mut into: W,
        mut moved: impl FnMut(u64),
    ) -> Result<(W, u64), Error> {
        let (queue, mut pieces) = mpsc::channel::<bytes::Bytes>(QUEUE);
        let writing = tokio::task::spawn_blocking(move || {
            while let Some(piece) = pieces.blocking_recv() {
                into.write_all(&piece)?;
            }
            into.flush()?;
            Ok::<W, std::io::Error>(into)
        });
        let mut done = 0;
        while let Some(piece) = self.answer.chunk().await? {
            done += piece.len() as u64;
            moved(done);
            if queue.send(piece).await.is_err() {
                break;
            }
        }
        drop(queue);
        match writing.await.expect("the writer does not panic") {
            Ok(into) => Ok((into, done)),
            Err(source) => Err(Error::Save {
                url: shown(&self.url),
                source,
            }),
        }
    }
}

/// The last part of the path, percent-decoded.
fn path_name(url: &Url) -> Option<String> {
    let last = url.path_segments()?.next_back()?;
    sane(&percent_decode(last))
}

/// Reads `filename=` (RFC 6266); the extended form is left to the path.
fn disposition_name(value: &str) -> Option<String> {
    let at = value.to_ascii_lowercase().find("filename=")?;
    let rest = value.get(at + "filename=".len()..)?.trim_start();
    let name = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => rest.split(';').next()?.trim(),
    };
    sane(name)
}

fn sane(name: &str) -> Option<String> {
    let bad = name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']);
    (!bad).then(|| name.to_owned())
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .filter(|_| bytes[at] == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_server_or_its_path_and_never_leaves_its_directory() {
        let by_path = |url: &str| path_name(&Url::parse(url).unwrap());
        assert_eq!(
            by_path("http://h/a/b%20c.tar?x=1#y").as_deref(),
            Some("b c.tar")
        );
        assert_eq!(by_path("http://h/a/"), None);
        assert_eq!(by_path("http://h/%2e%2e%2fetc"), None);
        assert_eq!(by_path("http://h/a%2fb"), None);
        let by_header = disposition_name;
        assert_eq!(
            by_header("attachment; filename=\"x.tgz\"").as_deref(),
            Some("x.tgz")
        );
        assert_eq!(
            by_header("attachment; FileName=x.tgz; a=b").as_deref(),
            Some("x.tgz")
        );
        assert_eq!(by_header("attachment; filename=\"../x\""), None);
    }
}
