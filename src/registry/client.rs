//! All registries of one run, and one repository of one of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, LINK};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use crate::image::{
    Algorithm, Descriptor, Digest, Document, DocumentError, MAX_MANIFEST, Mismatch, Reference,
    media,
};

use super::answer::Answer;
use super::auth::Scope;
use super::conf::Registries;
use super::error::Error;
use super::host::Host;
use super::options::{Credentials, Options};
use super::places::Place;
use super::reader::Reader;
use super::wire::Ask;

/// The media types that name an image, best first.
const ACCEPTED: &str = concat!(
    "application/vnd.oci.image.index.v1+json, ",
    "application/vnd.docker.distribution.manifest.list.v2+json, ",
    "application/vnd.oci.image.manifest.v1+json, ",
    "application/vnd.docker.distribution.manifest.v2+json"
);
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// A page of tags larger than this is none.
const MAX_PAGE: u64 = 4 << 20;
/// More tags than this are not listed.
const MAX_TAGS: usize = 100_000;

/// Speaks to registries. Connections, tokens and credentials are kept and shared.
#[derive(Debug)]
pub struct Client {
    options: Arc<Options>,
    registries: OnceLock<Registries>,
    hosts: Mutex<HashMap<HostKey, Arc<Host>>>,
}

/// A registry by its name, and in which way it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct HostKey {
    name: String,
    insecure: bool,
    own: bool,
}

impl Client {
    /// Prepares to speak. Nothing is looked up or connected yet.
    pub fn new(options: Options) -> Self {
        Self {
            options: Arc::new(options),
            registries: OnceLock::new(),
            hosts: Mutex::default(),
        }
    }

    /// Returns the options that the client was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn shared_options(&self) -> Arc<Options> {
        Arc::clone(&self.options)
    }

    /// Returns what is configured about registries, read on first use.
    fn registries(&self) -> Result<&Registries, Error> {
        if let Some(known) = self.registries.get() {
            return Ok(known);
        }
        let read = Registries::read(&self.options.registries)?;
        Ok(self.registries.get_or_init(|| read))
    }

    fn host(&self, place: &Place) -> Arc<Host> {
        let key = HostKey {
            name: place.host.clone(),
            insecure: place.insecure,
            own: place.own,
        };
        let make = || {
            let options = match (place.insecure, place.own) {
                (false, true) => Arc::clone(&self.options),
                _ => Arc::new(self.options_for(place.insecure, place.own)),
            };
            Arc::new(Host::new(&place.host, options))
        };
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hosts.entry(key).or_insert_with(make))
    }

    /// Returns the options for a registry that is configured; an option of this run wins.
    fn options_for(&self, insecure: bool, own: bool) -> Options {
        let options = &self.options;
        Options {
            tls_verify: options.tls_verify.or(insecure.then_some(false)),
            credentials: options.credentials.clone().filter(|_| own),
            ..(**options).clone()
        }
    }

    /// Returns the places that `name` may be in, to read from the first that has it.
    pub fn reader(&self, name: &Reference) -> Result<Reader, Error> {
        let places = self.registries()?.to_read(name)?.into_iter();
        let places = places.map(|place| self.repository(place, "pull", &[]));
        Ok(Reader::new(name.name(), places.collect()))
    }

    /// Returns the repository that `name` is in, to write to it. `sources` are repositories of
    /// the same registry that may hold the blobs already.
    pub fn writer(&self, name: &Reference, sources: &[String]) -> Result<Repository, Error> {
        let place = self.registries()?.to_write(name)?;
        Ok(self.repository(place, "pull,push", sources))
    }

    fn repository(&self, place: Place, actions: &str, sources: &[String]) -> Repository {
        let host = self.host(&place);
        let repository = place.repository;
        let mut scopes = vec![format!("repository:{repository}:{actions}")];
        let sources: Vec<String> = sources
            .iter()
            .filter(|source| **source != repository)
            .cloned()
            .collect();
        scopes.extend(sources.iter().map(|s| format!("repository:{s}:pull")));
        Repository {
            host,
            scope: Scope { repository, scopes },
            sources,
        }
    }

    /// Checks that `credentials` are good at `registry` (`HOST[:PORT]`), without using any
    /// others. A registry that asks for no login takes everything.
    pub async fn login(&self, registry: &str, credentials: &Credentials) -> Result<(), Error> {
        let insecure = self.registries()?.insecure_host(registry)?;
        let options = Options {
            credentials: Some(credentials.clone()),
            ..self.options_for(insecure, true)
        };
        let host = Host::new(registry, Arc::new(options));
        let ask = Ask::new("check a login", Method::GET, host.url("").await?);
        let answer = host.request(&ask, &Scope::default()).await?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(answer.into_error(ask.doing, "").await)
    }
}

/// Which version of an image.
#[derive(Debug, Clone, Copy)]
pub enum Version<'a> {
    /// The one that a tag names now.
    Tag(&'a str),
    /// The one with this digest.
    Digest(&'a Digest),
}

impl<'a> Version<'a> {
    /// Reads the version out of a name: its digest, or else its tag.
    pub fn of(name: &'a Reference) -> Self {
        match name.digest() {
            Some(digest) => Self::Digest(digest),
            None => Self::Tag(name.tag().unwrap_or("latest")),
        }
    }

    fn text(self) -> &'a str {
        match self {
            Self::Tag(tag) => tag,
            Self::Digest(digest) => digest.as_str(),
        }
    }
}

/// One repository of one registry. Cheap to make; what it learns is shared by its [`Client`].
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) host: Arc<Host>,
    pub(super) scope: Scope,
    /// Other repositories of this registry, from which blobs may be mounted.
    pub(super) sources: Vec<String>,
}

impl Repository {
    pub(super) fn name(&self) -> &str {
        &self.scope.repository
    }

    /// Returns where it is, with the registry's host.
    pub(super) fn shown(&self) -> String {
        format!("{}/{}", self.host.name, self.name())
    }

    /// Returns how many blobs should move at once.
    pub fn parallel(&self) -> usize {
        self.host.options.parallel.max(1)
    }

    fn full(&self, version: Version<'_>) -> String {
        let separator = match version {
            Version::Tag(_) => ':',
            Version::Digest(_) => '@',
        };
        format!("{}{separator}{}", self.shown(), version.text())
    }

    async fn manifest_ask(
        &self,
        doing: &'static str,
        method: Method,
        version: Version<'_>,
    ) -> Result<Ask, Error> {
        let path = format!("{}/manifests/{}", self.name(), version.text());
        let url = self.host.url(&path).await?;
        Ok(Ask::new(doing, method, url).header(ACCEPT, ACCEPTED))
    }

    /// Reads a manifest or index, at most 4 MiB, and checks its digest and its kind.
    pub async fn document(&self, version: Version<'_>) -> Result<Document, Error> {
        let ask = self.manifest_ask("read a manifest", Method::GET, version);
        let ask = ask.await?;
        let mut answer = self.host.request(&ask, &self.scope).await?;
        self.expect_manifest(&mut answer, version).await?;
        if !answer.status().is_success() {
            return Err(answer.into_error(ask.doing, self.name()).await);
        }
        let declared = content_digest(&answer)?;
        let kind = answer.header(CONTENT_TYPE).map(str::to_owned);
        let body = answer.read("manifest", MAX_MANIFEST).await?;
        let host = answer.host;
        let wanted = match version {
            Version::Digest(digest) => Some(digest),
            Version::Tag(_) => declared.as_ref(),
        };
        if let Some(want) = wanted {
            verify(&host, want, &body)?;
        }
        Document::parse(kind.as_deref(), body).map_err(|source| Error::Document { host, source })
    }

    /// Asks which document a version is, without reading it. Falls back to reading it where the
    /// registry does not say the digest.
    pub async fn resolve(&self, version: Version<'_>) -> Result<Descriptor, Error> {
        let ask = self.manifest_ask("name a manifest", Method::HEAD, version);
        let ask = ask.await?;
        let mut answer = self.host.request(&ask, &self.scope).await?;
        self.expect_manifest(&mut answer, version).await?;
        if answer.status().is_success()
            && let Some(digest) = content_digest(&answer)?
            && let Some(size) = answer.length()
        {
            let kind = answer.header(CONTENT_TYPE).unwrap_or(media::MANIFEST);
            return Ok(Descriptor::new(kind, digest, size));
        }
        Ok(self.document(version).await?.descriptor())
    }

    async fn expect_manifest(
        &self,
        answer: &mut Answer,
        version: Version<'_>,
    ) -> Result<(), Error> {
        if answer.status() != StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(Error::UnknownManifest {
            name: self.full(version),
        })
    }

    /// Reads a small blob, such as a config, into memory and checks it.
    pub async fn small_blob(
        &self,
        what: &'static str,
        blob: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        if blob.size > limit {
            return Err(Error::Document {
                host: self.host.name.clone(),
                source: DocumentError::TooLarge {
                    what,
                    digest: blob.digest.clone(),
                    size: blob.size,
                    limit,
                },
            });
        }
        let mut answer = self.open_blob(blob, 0).await?;
        let body = answer.read(what, blob.size).await?;
        verify(&answer.host, &blob.digest, &body)?;
        Ok(body)
    }

    /// Writes a manifest or index under a tag or its digest, and returns its digest.
    pub async fn put_document(
        &self,
        version: Version<'_>,
        document: &Document,
    ) -> Result<Digest, Error> {
        let path = format!("{}/manifests/{}", self.name(), version.text());
        let url = self.host.url(&path).await?;
        let ask = Ask::new("write a manifest", Method::PUT, url)
            .header(CONTENT_TYPE, document.media_type())
            .body(document.bytes().to_vec().into());
        let answer = self.host.request(&ask, &self.scope).await?;
        if !answer.status().is_success() {
            return Err(answer.into_error(ask.doing, self.name()).await);
        }
        let stored = content_digest(&answer)?;
        let digest = document.digest();
        if let Some(stored) = stored.filter(|stored| stored != digest) {
            let why = format!("it stored manifest {digest} as {stored}");
            return Err(self.host.wire().await?.protocol(why));
        }
        answer.drain().await;
        Ok(digest.clone())
    }

    /// Lists the tags, in the registry's order.
    pub async fn tags(&self) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let wire = self.host.wire().await?;
        let path = format!("{}/tags/list", self.name());
        let mut next = Some(self.host.url(&path).await?);
        let mut tags = Vec::new();
        while let Some(url) = next.take() {
            let ask = Ask::new("list tags", Method::GET, url);
            let mut answer = self.host.request(&ask, &self.scope).await?;
            if answer.status() == StatusCode::NOT_FOUND {
                return Err(Error::UnknownRepository {
                    host: self.host.name.clone(),
                    repository: self.name().to_owned(),
                });
            }
            if !answer.status().is_success() {
                return Err(answer.into_error(ask.doing, self.name()).await);
            }
            let link = answer
                .header(LINK)
                .and_then(|link| next_page(&ask.url, link));
            let body = answer.read("list of tags", MAX_PAGE).await?;
            let page: Page = serde_json::from_slice(&body)
                .map_err(|_| wire.protocol("its list of tags is not valid JSON"))?;
            let page = page.tags.unwrap_or_default();
            let end = page.is_empty();
            tags.extend(page);
            if tags.len() > MAX_TAGS {
                return Err(wire.protocol("its list of tags does not end"));
            }
            next = link.filter(|url| !end && wire.is_origin(url));
        }
        Ok(tags)
    }
}

/// Reads `Docker-Content-Digest`. One that is no digest is an error and never used.
fn content_digest(answer: &Answer) -> Result<Option<Digest>, Error> {
    let Some(text) = answer.header(DIGEST) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| Error::Protocol {
        host: answer.host.clone(),
        why: "its Docker-Content-Digest is no digest".to_owned(),
    })
}

/// Checks that `body` is what `want` names.
fn verify(host: &str, want: &Digest, body: &[u8]) -> Result<(), Error> {
    if want.algorithm() != Algorithm::Sha256 {
        return Err(Error::Algorithm {
            digest: want.clone(),
        });
    }
    let got = Digest::of(body);
    if got == *want {
        return Ok(());
    }
    Err(Error::Corrupt {
        host: host.to_owned(),
        source: Mismatch {
            want: want.clone(),
            got,
            size: body.len() as u64,
        },
    })
}

/// Reads `Link: <url>; rel="next"` (RFC 8288).
fn next_page(base: &Url, link: &str) -> Option<Url> {
    let (target, params) = link.trim().strip_prefix('<')?.split_once('>')?;
    let params = params.replace(['"', ' '], "");
    params.split(';').any(|p| p == "rel=next").then_some(())?;
    base.join(target).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_next_link_is_followed() {
        let base = Url::parse("https://r.example/v2/a/tags/list").unwrap();
        let next = |link| next_page(&base, link).map(String::from);
        assert_eq!(
            next("</v2/a/tags/list?last=x&n=2>; rel=\"next\"").as_deref(),
            Some("https://r.example/v2/a/tags/list?last=x&n=2")
        );
        assert_eq!(next("</v2/x>; rel=prev"), None);
        assert_eq!(next("nonsense"), None);
    }
}
