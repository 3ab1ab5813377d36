//! Streams blobs out of a registry.
//!
//! The network is read here; a blocking thread for each blob hashes and writes, so that neither
//! waits for the other. A connection that breaks is taken up again where it broke (`Range`,
//! RFC 9110 section 14), within one hash over the whole: a server that continues with other
//! bytes is found out at the end, and nothing becomes visible.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, StatusCode, Url};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::event::{Motion, Sink};
use crate::image::{Algorithm, BlobSink, BlobWrite, Descriptor, Mismatch};

use super::answer::Answer;
use super::client::Repository;
use super::error::Error;
use super::options::Options;
use super::progress::Progress;
use super::retry::Retry;
use super::wire::{Ask, Wire, cause};

/// Pieces that wait between the network and the writer; a piece has at most some 400 KiB.
const QUEUE: usize = 8;

/// A place that blobs are read from.
pub(super) trait Origin {
    /// The host, as shown.
    fn host(&self) -> &str;

    /// How it is spoken to.
    fn options(&self) -> &Options;

    /// Asks for a blob from byte `from` on. The head of the answer was held against that.
    async fn open(&self, blob: &Descriptor, from: u64) -> Result<Answer, Error>;

    /// Brings all `blobs` into `into`, several at once, and leaves out those it has.
    async fn fetch_all(
        &self,
        blobs: &[Descriptor],
        into: &dyn BlobSink,
        sink: &dyn Sink,
    ) -> Result<(), Error> {
        stream::iter(blobs)
            .map(|blob| self.fetch(blob, into, sink))
            .buffer_unordered(self.options().parallel.max(1))
            .try_collect()
            .await
    }

    /// Brings one blob into `into`, verified, unless it is there.
    async fn fetch(
        &self,
        blob: &Descriptor,
        into: &dyn BlobSink,
        sink: &dyn Sink,
    ) -> Result<(), Error> {
        let local = |doing| {
            move |source| Error::Local {
                doing,
                digest: blob.digest.clone(),
                source,
            }
        };
        let mut progress = Progress::new(sink, Motion::Pull, &blob.digest, Some(blob.size));
        if into.has(&blob.digest).map_err(local("look for"))? {
            progress.known();
            return Ok(());
        }
        if blob.digest.algorithm() != Algorithm::Sha256 {
            return Err(Error::Algorithm {
                digest: blob.digest.clone(),
            });
        }
        let writer = into.begin(blob).map_err(local("write"))?;
        let (queue, writing) = spawn_writer(writer);
        let received = receive(self, blob, &queue, &mut progress).await;
        if received.is_ok() {
            // A writer that has gone says why below.
            let _ = queue.send(Piece::End).await;
        }
        drop(queue);
        let written = writing.await.expect("the writer does not panic");
        match (received, written) {
            (Err(Stop::Writer) | Ok(()), Err(source)) => Err(unwritten(self.host(), blob, source)),
            (Err(Stop::Network(e)), _) => Err(e),
            (Err(Stop::Writer), Ok(())) | (Ok(()), Ok(())) => {
                progress.done();
                Ok(())
            }
        }
    }
}

/// Tells bad bytes from a bad disk.
fn unwritten(host: &str, blob: &Descriptor, source: std::io::Error) -> Error {
    match cause::<Mismatch>(&source) {
        Some(mismatch) => Error::Corrupt {
            host: host.to_owned(),
            source: mismatch.clone(),
        },
        None => Error::Local {
            doing: "write",
            digest: blob.digest.clone(),
            source,
        },
    }
}

/// Moves the bytes from the network into the queue, over as many connections as it takes.
async fn receive(
    origin: &(impl Origin + ?Sized),
    blob: &Descriptor,
    queue: &mpsc::Sender<Piece>,
    progress: &mut Progress<'_>,
) -> Result<(), Stop> {
    let options = origin.options();
    let mut retry = Retry::new(options.attempts, options.backoff);
    let mut done = 0;
    loop {
        let before = done;
        let mut answer = origin.open(blob, done).await?;
        let broken = drink(&mut answer, blob, &mut done, queue, progress);
        let Err(stop) = broken.await else {
            return Ok(());
        };
        let Stop::Network(e) = stop else {
            return Err(stop);
        };
        if !e.is_passing() {
            return Err(e.into());
        }
        if done > before {
            // It moves, if slowly: only standing still uses up the attempts.
            retry = Retry::new(options.attempts, options.backoff);
        }
        let Some(pause) = retry.next(None) else {
            return Err(e.into());
        };
        tokio::time::sleep(pause).await;
    }
}

impl Origin for Repository {
    fn host(&self) -> &str {
        &self.host.name
    }

    fn options(&self) -> &Options {
        &self.host.options
    }

    async fn open(&self, blob: &Descriptor, from: u64) -> Result<Answer, Error> {
        self.open_blob(blob, from).await
    }
}

impl Repository {
    /// Brings all `blobs` into `into`, several at once, and leaves out those it has.
    pub async fn fetch_all(
        &self,
        blobs: &[Descriptor],
        into: &dyn BlobSink,
        sink: &dyn Sink,
    ) -> Result<(), Error> {
        Origin::fetch_all(self, blobs, into, sink).await
    }

    /// Brings one blob into `into`, verified, unless it is there.
    pub async fn fetch(
        &self,
        blob: &Descriptor,
        into: &dyn BlobSink,
        sink: &dyn Sink,
    ) -> Result<(), Error> {
        Origin::fetch(self, blob, into, sink).await
    }

    /// Asks for a blob from byte `from` on; foreign layers at their own places, too.
    pub(super) async fn open_blob(&self, blob: &Descriptor, from: u64) -> Result<Answer, Error> {
        let path = format!("{}/blobs/{}", self.name(), blob.digest);
        let url = self.host.url(&path).await?;
        let answer = self.host.request(&ranged(url, from), &self.scope).await?;
        if answer.status() != StatusCode::NOT_FOUND {
            return checked(answer, blob, from, self.name()).await;
        }
        answer.drain().await;
        let wire = self.host.wire().await?;
        let mut last = None;
        for url in foreign_urls(blob) {
            match self.open_foreign(wire, url, blob, from).await {
                Ok(answer) => return Ok(answer),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| Error::UnknownBlob {
            host: self.host.name.clone(),
            repository: self.name().to_owned(),
            digest: blob.digest.clone(),
        }))
    }

    /// Foreign layers (image-spec, descriptor.md, `urls`) never see credentials.
    async fn open_foreign(
        &self,
        wire: &Wire,
        url: &str,
        blob: &Descriptor,
        from: u64,
    ) -> Result<Answer, Error> {
        let url =
            Url::parse(url).map_err(|_| wire.protocol("a layer names a place that is no URL"))?;
        wire.check(&url)?;
        let ask = ranged(url, from);
        let answer =
            super::auth::patiently(&self.host.options, async || wire.send(&ask, None).await)
                .await?;
        checked(answer, blob, from, self.name()).await
    }
}

/// Checks the head of the answer of `what` against what was asked for.
pub(super) async fn checked(
    answer: Answer,
    blob: &Descriptor,
    from: u64,
    what: &str,
) -> Result<Answer, Error> {
    let length = answer.length();
    let whole = match answer.status() {
        StatusCode::OK => length,
        StatusCode::PARTIAL_CONTENT => {
            let start = answer.header(CONTENT_RANGE).and_then(range_start);
            if let Some(start) = start.filter(|&start| start != from) {
                return Err(Error::Protocol {
                    host: answer.host.clone(),
                    why: format!("it sends a blob from byte {start} when asked for {from}"),
                });
            }
            length.map(|length| from + length)
        }
        _ => return Err(answer.into_error("read a blob", what).await),
    };
    if let Some(whole) = whole.filter(|&whole| whole != blob.size) {
        return Err(size_error(&answer, blob, whole));
    }
    Ok(answer)
}

async fn drink(
    answer: &mut Answer,
    blob: &Descriptor,
    done: &mut u64,
    queue: &mpsc::Sender<Piece>,
    progress: &mut Progress<'_>,
) -> Result<(), Stop> {
    // A server that ignores the range starts over; what we have is passed by.
    let mut skip = match answer.status() {
        StatusCode::PARTIAL_CONTENT => 0,
        _ => *done,
    };
    while let Some(mut chunk) = answer.chunk().await? {
        let passed = skip.min(chunk.len() as u64);
        skip -= passed;
        // At most the length of the piece, which fits.
        drop(chunk.split_to(passed as usize));
        if chunk.is_empty() {
            continue;
        }
        *done += chunk.len() as u64;
        if *done > blob.size {
            return Err(size_error(answer, blob, *done).into());
        }
        progress.moved(*done);
        if queue.send(Piece::Bytes(chunk)).await.is_err() {
            return Err(Stop::Writer);
        }
    }
    if *done < blob.size {
        // Without a length, the end of the connection is the end of the body.
        return Err(size_error(answer, blob, *done).into());
    }
    Ok(())
}

fn size_error(answer: &Answer, blob: &Descriptor, got: u64) -> Error {
    Error::Size {
        host: answer.host.clone(),
        digest: blob.digest.clone(),
        want: blob.size,
        got,
    }
}

pub(super) fn ranged(url: Url, from: u64) -> Ask {
    let ask = Ask::new("read a blob", Method::GET, url);
    match from {
        0 => ask,
        from => ask.header(RANGE, &format!("bytes={from}-")),
    }
}

/// Reads the start out of `bytes 5-9/10`.
fn range_start(value: &str) -> Option<u64> {
    value
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .parse()
        .ok()
}

/// Returns the places a foreign layer names.
pub(super) fn foreign_urls(blob: &Descriptor) -> impl Iterator<Item = &str> {
    let urls = blob.rest.get("urls").and_then(|urls| urls.as_array());
    urls.into_iter().flatten().filter_map(|url| url.as_str())
}

/// Why bytes stopped coming in.
enum Stop {
    /// The network's side.
    Network(Error),
    /// The writer has gone; it says why itself.
    Writer,
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Self::Network(e)
    }
}

enum Piece {
    Bytes(Bytes),
    /// All has come. A queue that ends without this was given up.
    End,
}

/// Starts the thread that hashes and writes. It ends when the queue does, or at once on an error.
fn spawn_writer(
    mut writer: Box<dyn BlobWrite + Send>,
) -> (mpsc::Sender<Piece>, JoinHandle<std::io::Result<()>>) {
    let (queue, mut pieces) = mpsc::channel(QUEUE);
    let writing = tokio::task::spawn_blocking(move || {
        while let Some(piece) = pieces.blocking_recv() {
            match piece {
                Piece::Bytes(bytes) => writer.write_all(&bytes)?,
                Piece::End => return writer.finish(),
            }
        }
        Ok(())
    });
    (queue, writing)
}
