//! Fetches files for ADD into the store.
//!
//! A file that was fetched before is asked for by its version (`ETag`, `Last-Modified`), so an
//! unchanged one costs one request. What is remembered for a URL is a record of kind
//! [`KIND`]; losing it costs a download.

use serde::{Deserialize, Serialize};

use crate::event::{Event, Motion, Sink};
use crate::image::Digest;
use crate::registry::{Fetched, Page, Progress, Secret, Validators};
use crate::store::{Blob, Store};

use super::error::Error;
use super::options::Options;

/// Record kind: what is remembered of a URL.
const KIND: &str = "download";
/// What BuildKit calls a file whose server and URL give no name.
const NO_NAME: &str = "download";

/// A file that was fetched, or is known to be unchanged since it was.
#[derive(Debug, Clone)]
pub struct Download {
    /// Its bytes.
    pub blob: Blob,
    /// Its name: by the server, the URL, or `download`. Never holds a slash.
    pub name: String,
    /// When it was changed last, in seconds since 1970, where the server says so.
    pub last_modified: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct Memory {
    etag: Option<String>,
    last_modified: Option<String>,
    digest: Digest,
    name: String,
}

impl Memory {
    fn validators(&self) -> Validators {
        Validators {
            etag: self.etag.clone(),
            last_modified: self.last_modified.clone(),
        }
    }
}

/// Fetches `url`. Redirects are followed from http to https and never to another scheme, nor from
/// the internet into a private network. Progress is reported under the digest of the URL's text,
/// because the content's is known at the end only. `authorization` is the header of that name.
pub fn download(
    store: &Store,
    url: &str,
    authorization: Option<&Secret>,
    options: &Options,
    sink: &dyn Sink,
) -> Result<Download, Error> {
    let _work = store.work()?;
    let identity = Digest::of(url.as_bytes());
    let known = recall(store, &identity)?;
    let validators = known.as_ref().map(|(memory, _)| memory.validators());
    let network = &options.network;
    let validators = validators.unwrap_or_default();
    let asking = network.client().get_as(url, &validators, authorization);
    let fetched = network.wait(asking)?;
    match (fetched, known) {
        (Fetched::Page(page), _) => save(store, *page, &identity, options, sink),
        (Fetched::Unchanged, Some((memory, blob))) => {
            sink.emit(Event::BlobKnown {
                motion: Motion::Pull,
                blob: &identity,
            });
            Ok(Download {
                blob,
                last_modified: memory.last_modified.as_deref().and_then(http_date),
                name: memory.name,
            })
        }
        // Nothing was known, so the request held no condition that could be unchanged.
        (Fetched::Unchanged, None) => Err(Error::Unasked {
            url: url.to_owned(),
        }),
    }
}

/// Returns what is remembered of the URL, if its blob is still there.
fn recall(store: &Store, identity: &Digest) -> Result<Option<(Memory, Blob)>, Error> {
    let Some(record) = store.records(KIND).get(identity)? else {
        return Ok(None);
    };
    // A record of another version of this program is as good as none.
    let Ok(memory) = serde_json::from_slice::<Memory>(&record) else {
        return Ok(None);
    };
    let blob = store.blob(&memory.digest)?;
    Ok(blob.map(|blob| (memory, blob)))
}

fn save(
    store: &Store,
    page: Page,
    identity: &Digest,
    options: &Options,
    sink: &dyn Sink,
) -> Result<Download, Error> {
    let mut progress = Progress::new(sink, Motion::Pull, identity, page.size);
    let (validators, name) = (page.validators.clone(), page.name.clone());
    let saving = page.save(store.blob_writer()?, |done| progress.moved(done));
    let (writer, _) = options.network.wait(saving)?;
    let blob = writer.finish()?;
    let name = name.unwrap_or_else(|| NO_NAME.to_owned());
    let last_modified = validators.last_modified.as_deref().and_then(http_date);
    if validators != Validators::default() {
        let memory = Memory {
            etag: validators.etag,
            last_modified: validators.last_modified,
            digest: blob.digest().clone(),
            name: name.clone(),
        };
        let record = serde_json::to_vec(&memory).expect("texts are JSON");
        store.records(KIND).put(identity, &record)?;
    }
    progress.done();
    Ok(Download {
        blob,
        name,
        last_modified,
    })
}

/// Reads an HTTP date (RFC 9110 section 5.6.7).
fn http_date(text: &str) -> Option<i64> {
    let time = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    Some(time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_are_read() {
        assert_eq!(
            http_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(784_111_777)
        );
        assert_eq!(http_date("yesterday"), None);
    }
}
