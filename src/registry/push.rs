//! Streams blobs into a registry.
//!
//! A blob that is there is not sent; one that another repository of the registry holds is
//! mounted; else it goes in one PUT (distribution spec, "POST then PUT"), and where the registry
//! refuses that, in pieces. The bytes are read on a blocking thread and never held whole. A
//! connection that breaks begins the blob anew: what the server kept of it is its own secret.

use std::io::Read;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION,
};
use reqwest::{Body, Method, StatusCode, Url};
use tokio::sync::mpsc;

use crate::event::{Motion, Sink};
use crate::image::{BlobSource, Descriptor, Digest};

use super::answer::Answer;
use super::client::Repository;
use super::error::Error;
use super::host::is_challenged;
use super::progress::Progress;
use super::pull::foreign_urls;
use super::retry::Retry;
use super::wire::{Ask, Wire};

/// Size of the pieces read from a blob, in bytes.
const PIECE: usize = 256 << 10;
const QUEUE: usize = 4;
/// Size of the parts sent when one PUT is refused, in bytes.
const PART: usize = 8 << 20;
const TICK: Duration = Duration::from_millis(100);
/// A registry may take long to check and store what it got.
const COMMIT: Duration = Duration::from_secs(600);

/// How a blob came to be in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Known,
    /// Another repository had it.
    Mounted,
    /// Its bytes were sent.
    Sent,
    /// It is a foreign layer, which stays where it is.
    Foreign,
}

impl Repository {
    /// Returns whether the registry has the blob in this repository.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let path = format!("{}/blobs/{digest}", self.name());
        let ask = Ask::new("look for a blob", Method::HEAD, self.host.url(&path).await?);
        let answer = self.host.request(&ask, &self.scope).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(answer.into_error(ask.doing, self.name()).await),
        }
    }

    /// Puts all `blobs` into the registry, several at once.
    pub async fn send_all(
        &self,
        blobs: &[Descriptor],
        from: &dyn BlobSource,
        sink: &dyn Sink,
    ) -> Result<(), Error> {
        stream::iter(blobs)
            .map(|blob| self.send(blob, from, sink))
            .buffer_unordered(self.parallel())
            .try_for_each(|_| async { Ok(()) })
            .await
    }

    /// Puts one blob into the registry, by the cheapest way that works.
    pub async fn send(
        &self,
        blob: &Descriptor,
        from: &dyn BlobSource,
        sink: &dyn Sink,
    ) -> Result<Pushed, Error> {
        let mut progress = Progress::new(sink, Motion::Push, &blob.digest, Some(blob.size));
        if is_foreign(blob) {
            progress.known();
            return Ok(Pushed::Foreign);
        }
        if self.has_blob(&blob.digest).await? {
            progress.known();
            return Ok(Pushed::Known);
        }
        let session = match self.begin(Some(&blob.digest)).await? {
            Session::Mounted => {
                progress.known();
                return Ok(Pushed::Mounted);
            }
            Session::At(url) => url,
        };
        self.upload(session, blob, from, &mut progress).await?;
        progress.done();
        Ok(Pushed::Sent)
    }

    /// Begins an upload, or mounts the blob from a source that has it.
    async fn begin(&self, mount: Option<&Digest>) -> Result<Session, Error> {
        let path = format!("{}/blobs/uploads/", self.name());
        let plain = self.host.url(&path).await?;
        let sources = self
            .sources
            .iter()
            .filter_map(|source| Some((source, mount?)));
        let mut session = None;
        for (source, digest) in sources {
            let mut url = plain.clone();
            url.query_pairs_mut()
                .append_pair("mount", digest.as_str())
                .append_pair("from", source);
            match self.open_session(url).await {
                Ok(Session::Mounted) => return Ok(Session::Mounted),
                // Not mounted, and a session was opened instead: it serves for the upload.
                Ok(Session::At(url)) => session = Some(url),
                // A source that may not be read is no reason not to push.
                Err(Error::Denied { .. } | Error::Status { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        match session {
            Some(url) => Ok(Session::At(url)),
            None => self.open_session(plain).await,
        }
    }

    async fn open_session(&self, url: Url) -> Result<Session, Error> {
        let ask = Ask::new("begin an upload", Method::POST, url)
            .header(CONTENT_LENGTH, "0")
            .body(Bytes::new());
        let answer = self.host.request(&ask, &self.scope).await?;
        let session = match answer.status() {
            StatusCode::CREATED => Session::Mounted,
            StatusCode::ACCEPTED => Session::At(self.location(&answer).await?),
            _ => return Err(answer.into_error(ask.doing, self.name()).await),
        };
        answer.drain().await;
        Ok(session)
    }

    /// Reads where the upload goes on: an absolute or relative URL, checked.
    async fn location(&self, answer: &Answer) -> Result<Url, Error> {
        let wire = self.host.wire().await?;
        let to = answer
            .header(LOCATION)
            .and_then(|to| answer.url().join(to).ok())
            .ok_or_else(|| wire.protocol("it begins an upload and does not say where"))?;
        wire.check(&to)?;
        Ok(to)
    }

    async fn upload(
        &self,
        mut session: Url,
        blob: &Descriptor,
        from: &dyn BlobSource,
        progress: &mut Progress<'_>,
    ) -> Result<(), Error> {
        let options = &self.host.options;
        let mut retry = Retry::new(options.attempts, options.backoff);
        let mut in_parts = false;
        let mut renewed = false;
        let mut broken = 0;
        loop {
            let outcome = match in_parts {
                false => self.put(&session, blob, from, progress).await,
                true => self.put_parts(session.clone(), blob, from, progress).await,
            };
            let asked = match outcome {
                Ok(answer) if answer.status().is_success() => {
                    answer.drain().await;
                    return Ok(());
                }
                Ok(answer) if is_challenged(&answer) && !renewed => {
                    renewed = true;
                    let used = self.host.authorization(&self.scope, None).await?;
                    self.host.reauthorize(&self.scope, used, answer).await?;
                    Some(Duration::ZERO)
                }
                Ok(answer) if !in_parts && refuses_whole(answer.status()) => {
                    in_parts = true;
                    Some(Duration::ZERO)
                }
                Ok(answer) => {
                    let status = answer.status();
                    let asked = answer.retry_after();
                    let e = answer.into_error("take a blob", self.name()).await;
                    if !(status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS) {
                        return Err(e);
                    }
                    Some(retry.next(asked).ok_or(e)?)
                }
                Err(e) if e.is_passing() => {
                    // A proxy that takes no large bodies may hang up without a word.
                    broken += 1;
                    in_parts |= broken > 1;
                    Some(retry.next(None).ok_or(e)?)
                }
                Err(e) => return Err(e),
            };
            tokio::time::sleep(asked.unwrap_or_default()).await;
            session = match self.begin(None).await? {
                Session::At(url) => url,
                Session::Mounted => return Ok(()),
            };
        }
    }

    /// Sends the whole blob in one PUT.
    async fn put(
        &self,
        session: &Url,
        blob: &Descriptor,
        from: &dyn BlobSource,
        progress: &mut Progress<'_>,
    ) -> Result<Answer, Error> {
        let (body, moved) = streamed(blob, from)?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, OCTETS);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(blob.size));
        let url = closing(session, &blob.digest);
        self.exchange(Method::PUT, &url, headers, body, &moved, 0, blob, progress)
            .await
    }

    /// Sends the blob in several PATCHes and closes the upload with an empty PUT.
    async fn put_parts(
        &self,
        mut session: Url,
        blob: &Descriptor,
        from: &dyn BlobSource,
        progress: &mut Progress<'_>,
    ) -> Result<Answer, Error> {
        let mut pieces = read(blob, from)?;
        let still = AtomicU64::new(0);
        let mut done = 0_u64;
        while done < blob.size {
            let mut part = Vec::with_capacity(PART.min((blob.size - done) as usize));
            while part.len() < PART {
                match pieces.recv().await {
                    Some(Ok(piece)) => part.extend_from_slice(&piece),
                    Some(Err(source)) => return Err(unreadable(blob, source)),
                    None => break,
                }
            }
            let size = part.len() as u64;
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, OCTETS);
            headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
            let range = format!("{done}-{}", (done + size).saturating_sub(1));
            headers.insert(CONTENT_RANGE, range.parse().expect("digits and a dash"));
            let (method, body) = (Method::PATCH, Body::from(part));
            let sending = self.exchange(
                method, &session, headers, body, &still, done, blob, progress,
            );
            let answer = sending.await?;
            if answer.status() != StatusCode::ACCEPTED && !answer.status().is_success() {
                return Ok(answer);
            }
            session = self.location(&answer).await?;
            answer.drain().await;
            done += size;
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0_u64));
        let url = closing(&session, &blob.digest);
        let body = Body::from(Bytes::new());
        self.exchange(
            Method::PUT,
            &url,
            headers,
            body,
            &still,
            done,
            blob,
            progress,
        )
        .await
    }

    /// Sends one request with a body, tells how far it is, and gives up when nothing moves.
    #[expect(clippy::too_many_arguments, reason = "one request and who watches it")]
    async fn exchange(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Body,
        moved: &AtomicU64,
        before: u64,
        blob: &Descriptor,
        progress: &mut Progress<'_>,
    ) -> Result<Answer, Error> {
        let wire = self.host.wire().await?;
        let sending = self
            .host
            .start(method, url, headers, body, &self.scope)
            .await?;
        watched(wire, sending, url, moved, before, blob, progress).await
    }
}

/// Waits for the answer to a request with a body, tells how far it is, and gives up when nothing
/// moves.
pub(super) async fn watched(
    wire: &Wire,
    sending: impl Future<Output = reqwest::Result<reqwest::Response>>,
    url: &Url,
    moved: &AtomicU64,
    before: u64,
    blob: &Descriptor,
    progress: &mut Progress<'_>,
) -> Result<Answer, Error> {
    let mut sending = pin!(sending);
    let mut watch = Watch::new(wire.options.idle_timeout);
    loop {
        match select(sending.as_mut(), pin!(tokio::time::sleep(TICK))).await {
            Either::Left((Ok(response), _)) => return Ok(wire.answer(response)),
            Either::Left((Err(e), _)) => {
                return Err(match super::wire::cause::<Unreadable>(&e) {
                    Some(local) => unreadable(blob, local.error()),
                    None => wire.failure(url, "send to", e),
                });
            }
            Either::Right(_) => {}
        }
        let done = before + moved.load(Ordering::Relaxed);
        progress.moved(done);
        if let Some(after) = watch.stalled(done, done >= blob.size) {
            return Err(Error::Timeout {
                host: wire.host.clone(),
                after,
            });
        }
    }
}

/// A body of the blob's bytes, and the count of those that have gone out.
pub(super) fn streamed(
    blob: &Descriptor,
    from: &dyn BlobSource,
) -> Result<(Body, Arc<AtomicU64>), Error> {
    let mut pieces = read(blob, from)?;
    let moved = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&moved);
    let body = stream::poll_fn(move |context| {
        let piece = pieces.poll_recv(context);
        if let std::task::Poll::Ready(Some(Ok(bytes))) = &piece {
            counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        piece
    });
    Ok((Body::wrap_stream(body), moved))
}

/// Starts the thread that reads the blob.
fn read(blob: &Descriptor, from: &dyn BlobSource) -> Result<Pieces, Error> {
    let mut reader = from.open(blob).map_err(|e| unreadable(blob, e))?;
    let (queue, pieces) = mpsc::channel(QUEUE);
    // Nobody waits for the thread: it ends when the blob does or nobody listens any more.
    drop(tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE];
            let sent = match fill(&mut *reader, &mut piece) {
                Ok(0) => return,
                Ok(size) => {
                    piece.truncate(size);
                    queue.blocking_send(Ok(Bytes::from(piece)))
                }
                Err(e) => queue.blocking_send(Err(std::io::Error::other(Unreadable::new(e)))),
            };
            if sent.is_err() {
                return;
            }
        }
    }));
    Ok(pieces)
}

/// Reads until `piece` is full or the end is there.
fn fill(reader: &mut dyn Read, piece: &mut [u8]) -> std::io::Result<usize> {
    let mut size = 0;
    while size < piece.len() {
        match reader.read(&mut piece[size..]) {
            Ok(0) => break,
            Ok(n) => size += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(size)
}

type Pieces = mpsc::Receiver<std::io::Result<Bytes>>;

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

enum Session {
    Mounted,
    At(Url),
}

/// A local read that went wrong, to be told apart from the network's troubles.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the blob: {kind}")]
struct Unreadable {
    kind: std::io::ErrorKind,
    code: Option<i32>,
}

impl Unreadable {
    fn new(e: std::io::Error) -> Self {
        Self {
            kind: e.kind(),
            code: e.raw_os_error(),
        }
    }

    fn error(&self) -> std::io::Error {
        self.code
            .map_or(self.kind.into(), std::io::Error::from_raw_os_error)
    }
}

fn unreadable(blob: &Descriptor, source: std::io::Error) -> Error {
    Error::Local {
        doing: "read",
        digest: blob.digest.clone(),
        source,
    }
}

/// A layer that must not be copied and says where it is.
fn is_foreign(blob: &Descriptor) -> bool {
    let kind = blob.media_type.as_str();
    (kind.contains(".nondistributable.") || kind.contains(".foreign."))
        && foreign_urls(blob).next().is_some()
}

/// Statuses by which registries and the proxies before them refuse a body in one piece.
fn refuses_whole(status: StatusCode) -> bool {
    matches!(status.as_u16(), 404 | 405 | 411 | 413 | 416 | 501)
}

fn closing(session: &Url, digest: &Digest) -> Url {
    let mut url = session.clone();
    url.query_pairs_mut().append_pair("digest", digest.as_str());
    url
}

/// Notices when nothing moves.
struct Watch {
    idle: Duration,
    seen: u64,
    since: Instant,
}

impl Watch {
    fn new(idle: Duration) -> Self {
        Self {
            idle,
            seen: 0,
            since: Instant::now(),
        }
    }

    /// Returns for how long nothing moved, once that is too long.
    fn stalled(&mut self, done: u64, all_sent: bool) -> Option<Duration> {
        if done != self.seen {
            self.seen = done;
            self.since = Instant::now();
        }
        let allowed = if all_sent {
            COMMIT.max(self.idle)
        } else {
            self.idle
        };
        (self.since.elapsed() > allowed).then_some(allowed)
    }
}
