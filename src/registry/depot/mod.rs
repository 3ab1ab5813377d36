//! Services that keep caches: they hold bytes under keys and know nothing of images.
//!
//! The layout is BuildKit's: a document under each name, which names blobs, and a blob under its
//! digest. What differs from service to service is in [`Service`]: where a key lies, and what
//! proves who is asking. Blobs go up in one request each, so that each has a limit, and come down
//! as from a registry: taken up again where a connection broke, and verified.
//!
//! Nothing is followed: a redirect of a signed request could only lead its signature astray.

mod actions;
mod azure;
mod s3;
mod service;
mod sigv4;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, StatusCode, Url};

use crate::event::{Motion, Sink};
use crate::image::{BlobSink, BlobSource, Descriptor, Digest, MAX_CONFIG};

use super::answer::Answer;
use super::auth::{is_passing, patiently};
use super::client::Client;
use super::error::Error;
use super::options::Options;
use super::progress::Progress;
use super::pull::{Origin, checked, ranged};
use super::push::{streamed, watched};
use super::retry::Retry;
use super::wire::{Ask, Wire, shown};

pub use actions::Actions;
pub use azure::Azure;
pub use s3::S3;
pub use service::{Layout, Service};
pub use sigv4::AwsKey;

const OCTETS: &str = "application/octet-stream";

impl Client {
    /// Returns a service that keeps caches. Nothing is connected yet.
    pub fn depot(&self, service: &Service) -> Result<Depot, Error> {
        let base = service.base().filter(Url::has_host);
        let base = base.ok_or_else(|| Error::NoUrl {
            place: service.shown(),
        })?;
        let options = Arc::new(service.options(self.options()));
        let verify = options.tls_verify != Some(false);
        Ok(Depot {
            wire: Wire::new(&shown(&base), base, verify, options),
            service: service.clone(),
        })
    }
}

/// An open service.
#[derive(Debug)]
pub struct Depot {
    wire: Wire,
    service: Service,
}

impl Depot {
    /// Reads the documents of the cache: one for each name that there is.
    pub async fn documents(&self) -> Result<Vec<Vec<u8>>, Error> {
        let mut documents = Vec::new();
        for url in self.document_places().await? {
            let ask = Ask::new("read a cache", Method::GET, url);
            let mut answer = self.ask(&ask).await?;
            match answer.status() {
                StatusCode::NOT_FOUND => answer.drain().await,
                StatusCode::OK => documents.push(answer.read("cache config", MAX_CONFIG).await?),
                _ => return Err(self.unexpected(answer, &ask).await),
            }
        }
        if documents.is_empty() {
            return Err(Error::NoCache {
                host: self.wire.host.clone(),
                name: self.service.names(),
            });
        }
        Ok(documents)
    }

    async fn document_places(&self) -> Result<Vec<Url>, Error> {
        match &self.service {
            Service::S3(S3 { layout, .. }) | Service::Azure(Azure { layout, .. }) => {
                let place = |name: &String| self.url(&format!("{}{name}", layout.manifests));
                Ok(layout.names.iter().map(place).collect())
            }
            Service::Actions(actions) => actions.document_places(self).await,
        }
    }

    /// Puts all `blobs` there, several at once, and then the document under all names.
    pub async fn give(
        &self,
        blobs: &[Descriptor],
        document: &[u8],
        from: &dyn BlobSource,
        sink: &dyn Sink,
    ) -> Result<(), Error> {
        if let Service::Azure(azure) = &self.service {
            azure.prepare(self).await?;
        }
        let giving = async {
            stream::iter(blobs)
                .map(|blob| self.send(blob, from, sink))
                .buffer_unordered(self.wire.options.parallel.max(1))
                .try_for_each(|()| async { Ok(()) })
                .await?;
            match &self.service {
                Service::Actions(actions) => actions.put_document(self, document).await,
                Service::S3(_) | Service::Azure(_) => {
                    for url in self.document_places().await? {
                        self.put(url, document).await?;
                    }
                    Ok(())
                }
            }
        };
        match self.service.limit() {
            None => giving.await,
            Some(after) => match tokio::time::timeout(after, giving).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Error::Slow {
                    host: self.wire.host.clone(),
                    after,
                }),
            },
        }
    }

    /// Returns whether the blob is there.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let key = self.service.blob_key(digest);
        let Some(url) = self.place(&key).await? else {
            return Ok(false);
        };
        let Some(found) = self.look(&url).await? else {
            return Ok(false);
        };
        if let Service::S3(s3) = &self.service {
            s3.touch(self, &url, &found).await?;
        }
        Ok(true)
    }

    /// Brings all `blobs` into `into`, verified, several at once, and leaves out those it has.
    pub async fn fetch_all(
        &self,
        blobs: &[Descriptor],
        into: &dyn BlobSink,
        sink: &dyn Sink,
    ) -> Result<(), Error> {
        Origin::fetch_all(self, blobs, into, sink).await
    }

    /// Where a plain key is.
    fn url(&self, key: &str) -> Url {
        let mut url = self.wire.base.clone();
        let path = format!("{}{}", url.path(), sigv4::encoded(key, true));
        url.set_path(&path);
        url
    }

    /// Where `key` is read. `None` when the service says that it has nothing there.
    async fn place(&self, key: &str) -> Result<Option<Url>, Error> {
        match &self.service {
            Service::Actions(actions) => actions.place(self, key).await,
            Service::S3(_) | Service::Azure(_) => Ok(Some(self.url(key))),
        }
    }

    /// The head of what is at `url`, if there is something.
    async fn look(&self, url: &Url) -> Result<Option<Answer>, Error> {
        let ask = Ask::new("look for a blob", Method::HEAD, url.clone());
        let answer = self.ask(&ask).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer)),
            _ => Err(self.unexpected(answer, &ask).await),
        }
    }

    async fn send(
        &self,
        blob: &Descriptor,
        from: &dyn BlobSource,
        sink: &dyn Sink,
    ) -> Result<(), Error> {
        let mut progress = Progress::new(sink, Motion::Push, &blob.digest, Some(blob.size));
        if self.has_blob(&blob.digest).await? {
            progress.known();
            return Ok(());
        }
        let limit = self.service.most();
        if blob.size > limit {
            return Err(Error::TooMuch {
                host: self.wire.host.clone(),
                digest: blob.digest.clone(),
                size: blob.size,
                limit,
            });
        }
        let key = self.service.blob_key(&blob.digest);
        let url = match &self.service {
            Service::S3(_) | Service::Azure(_) => Some(self.url(&key)),
            Service::Actions(actions) => actions.room(self, &key).await?,
        };
        let Some(url) = url else {
            progress.known();
            return Ok(());
        };
        self.upload(&url, blob, from, &mut progress).await?;
        if let Service::Actions(actions) = &self.service {
            actions.close(self, &key, blob.size).await?;
        }
        progress.done();
        Ok(())
    }

    /// Sends the bytes of a blob, anew when a connection breaks or the service is busy.
    async fn upload(
        &self,
        url: &Url,
        blob: &Descriptor,
        from: &dyn BlobSource,
        progress: &mut Progress<'_>,
    ) -> Result<(), Error> {
        let wire = &self.wire;
        let mut retry = Retry::new(wire.options.attempts, wire.options.backoff);
        loop {
            let mut ask = self.writing(url.clone(), blob.size);
            let authorization = self.service.sign(&mut ask, &blob.digest);
            let (body, moved) = streamed(blob, from)?;
            let mut request = reqwest::Request::new(ask.method.clone(), url.clone());
            *request.headers_mut() = ask.headers.clone();
            *request.body_mut() = Some(body);
            let sending = wire.start(request, authorization.as_ref())?;
            let (error, asked) = match watched(wire, sending, url, &moved, 0, blob, progress).await
            {
                Ok(answer) if answer.status().is_success() => {
                    answer.drain().await;
                    return Ok(());
                }
                Ok(answer) => {
                    let (passes, asked) = (is_passing(answer.status()), answer.retry_after());
                    let error = self.unexpected(answer, &ask).await;
                    if !passes {
                        return Err(error);
                    }
                    (error, asked)
                }
                Err(error) if error.is_passing() => (error, None),
                Err(error) => return Err(error),
            };
            let Some(pause) = retry.next(asked) else {
                return Err(error);
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Puts something small there.
    async fn put(&self, url: Url, bytes: &[u8]) -> Result<(), Error> {
        let ask = self.writing(url, bytes.len() as u64);
        let ask = ask.body(Bytes::copy_from_slice(bytes));
        let answer = self.ask(&ask).await?;
        if !answer.status().is_success() {
            return Err(self.unexpected(answer, &ask).await);
        }
        answer.drain().await;
        Ok(())
    }

    /// A request to write `size` bytes, without them.
    fn writing(&self, url: Url, size: u64) -> Ask {
        let ask = Ask::new("take a blob", Method::PUT, url)
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_LENGTH, &size.to_string());
        match &self.service {
            Service::S3(_) => ask,
            Service::Azure(_) | Service::Actions(_) => ask.header(azure::KIND, azure::BLOCKS),
        }
    }

    /// Sends `ask`, signed anew each time, until there is an answer that is not "later".
    async fn ask(&self, ask: &Ask) -> Result<Answer, Error> {
        patiently(&self.wire.options, async || {
            let mut ask = ask.clone();
            let body = Digest::of(ask.body.as_deref().unwrap_or_default());
            let authorization = self.service.sign(&mut ask, &body);
            self.wire.once(&ask, authorization.as_ref()).await
        })
        .await
    }

    async fn unexpected(&self, answer: Answer, ask: &Ask) -> Error {
        answer.into_error(ask.doing, &self.service.shown()).await
    }
}

impl Origin for Depot {
    fn host(&self) -> &str {
        &self.wire.host
    }

    fn options(&self) -> &Options {
        &self.wire.options
    }

    async fn open(&self, blob: &Descriptor, from: u64) -> Result<Answer, Error> {
        let key = self.service.blob_key(&blob.digest);
        let absent = || Error::UnknownBlob {
            host: self.wire.host.clone(),
            repository: self.service.shown(),
            digest: blob.digest.clone(),
        };
        let url = self.place(&key).await?.ok_or_else(absent)?;
        let answer = self.ask(&ranged(url, from)).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            answer.drain().await;
            return Err(absent());
        }
        checked(answer, blob, from, &self.service.shown()).await
    }
}
