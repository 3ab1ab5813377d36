//! What ADD gets from elsewhere: files by URL and trees by git, each once a build.
//!
//! The key of a step and its layer must be made from the same bytes, and a server may answer
//! differently the second time; so what was fetched for the key is kept for the layer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::dockerfile::file_name;
use crate::image::Digest;
use crate::layer::{Content, Dir, Kind, Meta, Node, Time};
use crate::transfer;

use super::super::error::StepError;
use super::super::git::{self, Commit, GitError, GitUrl};
use super::super::secret::{self, Secret};
use super::super::select::Pick;
use super::super::sources::Origin;
use super::super::stage::World;

/// What a build has fetched so far.
#[derive(Debug, Default)]
pub(in crate::build) struct Fetches {
    files: Once<Fetched>,
    commits: Once<Commit>,
}

/// Values that are made once, whichever thread comes first.
#[derive(Debug)]
struct Once<T>(Mutex<HashMap<String, Slot<T>>>);

type Slot<T> = Arc<Mutex<Option<T>>>;

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Once<T> {
    fn get(&self, key: &str, make: impl FnOnce() -> Result<T, StepError>) -> Result<T, StepError> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = Arc::clone(slots.entry(key.to_owned()).or_default());
        drop(slots);
        let mut value = slot.lock().unwrap_or_else(PoisonError::into_inner);
        match &*value {
            Some(known) => Ok(known.clone()),
            None => Ok(value.insert(make()?).clone()),
        }
    }

    fn known(&self, key: &str) -> Option<T> {
        let slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = slots.get(key)?.lock();
        value.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Fetches {
    /// Returns what was fetched from `url`, if anything was.
    pub(in crate::build) fn download(&self, url: &str) -> Option<Origin> {
        let fetched = self.files.known(url)?;
        Some(Origin::download(url, &fetched.digest, fetched.modified))
    }

    /// Returns the commit that `url` was taken for, if it was needed.
    pub(in crate::build) fn repository(&self, url: &GitUrl) -> Option<Origin> {
        let commit = self.commits.known(&format!("{url:?}"))?;
        Some(Origin::commit(url, commit.id(), None))
    }
}

/// A file fetched from a URL.
#[derive(Debug, Clone)]
pub(in crate::build) struct Fetched {
    /// Digest of its bytes.
    pub(in crate::build) digest: Digest,
    /// What Last-Modified said.
    modified: Option<i64>,
    name: String,
    node: Node,
}

impl Fetched {
    /// Returns it as a source.
    pub(in crate::build) fn pick(&self) -> Pick {
        Pick::file(self.name.as_bytes(), self.node.clone())
    }
}

/// Fetches `url`: mode 0600, owner root, time from Last-Modified. Bytes that are not what
/// `checksum` says are seen by nobody.
pub(in crate::build) fn fetch(
    world: &World<'_>,
    url: &str,
    checksum: Option<&Digest>,
) -> Result<Fetched, StepError> {
    let fetched = world.fetches.files.get(url, || download(world, url))?;
    match checksum {
        Some(want) if *want != fetched.digest => Err(StepError::Checksum {
            url: url.to_owned(),
            want: want.clone(),
            got: fetched.digest,
        }),
        _ => Ok(fetched),
    }
}

fn download(world: &World<'_>, url: &str) -> Result<Fetched, StepError> {
    let failed = |source| StepError::Download {
        url: url.to_owned(),
        source,
    };
    let request = world.request;
    let authorization = authorization(&request.secrets, url);
    let got = transfer::download(
        world.store,
        url,
        authorization.as_ref(),
        &request.transfer,
        world.sink,
    )
    .map_err(failed)?;
    let file = world.store.open_blob(&got.blob)?;
    let meta = Meta {
        mode: 0o600,
        mtime: Time::from_secs(got.last_modified.unwrap_or(0)),
        ..Meta::default()
    };
    let size = got.blob.size();
    let content = (size > 0).then(|| Content::Slice {
        file: Arc::new(file),
        offset: 0,
    });
    Ok(Fetched {
        digest: got.blob.digest().clone(),
        modified: got.last_modified,
        name: file_name(url),
        node: Node {
            meta,
            kind: Kind::File { size },
            content,
        },
    })
}

/// The `Authorization` that secrets hold for the URL's host, by the names that BuildKit gives
/// them: `HTTP_AUTH_HEADER_HOST`, or `HTTP_AUTH_TOKEN_HOST` for a bearer token.
pub(in crate::build) fn authorization(secrets: &[Secret], url: &str) -> Option<transfer::Secret> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let header = secret::text(secrets, &format!("HTTP_AUTH_HEADER_{host}"));
    let token = || secret::text(secrets, &format!("HTTP_AUTH_TOKEN_{host}"));
    header
        .or_else(|| token().map(|token| format!("Bearer {token}")))
        .map(transfer::Secret::new)
}

/// Returns the commit that `url` means now.
pub(in crate::build) fn commit(world: &World<'_>, url: &GitUrl) -> Result<Commit, StepError> {
    let key = format!("{url:?}");
    world.fetches.commits.get(&key, || {
        let url = url.clone().authorize(&world.request.secrets);
        git::resolve(world.store, &world.request.git, &url, world.cancel)
            .map_err(|error| failed(&url, error))
    })
}

/// Gives the files of `url` to `with`; they are gone when it returns.
pub(in crate::build) fn check_out(
    world: &World<'_>,
    url: &GitUrl,
) -> Result<(Dir, git::Checkout), StepError> {
    let commit = commit(world, url)?;
    let tools = &world.request.git;
    let url = url.clone().authorize(&world.request.secrets);
    let checkout = git::check_out(world.store, tools, &url, &commit, world.cancel)
        .map_err(|error| failed(&url, error))?;
    let root = Arc::clone(&checkout.root);
    Ok((Dir::new(root).without_xattrs(), checkout))
}

fn failed(url: &GitUrl, error: GitError) -> StepError {
    match error {
        GitError::Cancelled => StepError::Cancelled,
        source => StepError::Git {
            url: url.shown().to_owned(),
            source: Box::new(source),
        },
    }
}
