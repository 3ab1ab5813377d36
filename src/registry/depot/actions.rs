//! The cache of GitHub Actions, in its second version: calls of `CacheService` (Twirp over JSON)
//! that answer with signed URLs of Azure blobs.
//!
//! An entry never changes. So the document of a cache is the newest of `KEY#1`, `KEY#2`, …, and
//! whoever writes takes the next number. Which branches may be read and which one is written is
//! in the claims of the token; the service holds us to them, and we only name our keys after them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::image::Digest;

use super::super::auth::patiently;
use super::super::error::Error;
use super::super::options::Secret;
use super::super::wire::Ask;
use super::Depot;

/// The version of BuildKit's keys.
const VERSION: &str = "1";
/// What BuildKit hashes in place of the paths that other entries hold.
const PATHS: &[u8] = b"|go-actionscache-1.0";
const CALLS: &str = "twirp/github.actions.results.api.v1.CacheService/";
/// An answer larger than this is none.
const MAX_REPLY: u64 = 64 << 10;
/// So many numbers that others took at the same time are passed over.
const MOST_TAKEN: u64 = 20;
const WRITE: u64 = 2;

/// The cache of a repository's workflows.
#[derive(Debug, Clone, PartialEq)]
pub struct Actions {
    /// Base of the service.
    pub url: String,
    /// Token of the running job.
    pub token: Secret,
    /// Which cache.
    pub scope: String,
    /// How long writing it may take.
    pub timeout: Duration,
}

/// What a token lets its bearer do with the cache of one branch.
#[derive(Debug, PartialEq, Deserialize)]
struct Access {
    #[serde(rename = "Scope")]
    branch: String,
    #[serde(rename = "Permission")]
    permission: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reply {
    ok: bool,
    signed_upload_url: String,
    signed_download_url: String,
    matched_key: String,
}

/// The key of a blob.
pub(super) fn blob_key(digest: &Digest) -> String {
    format!("buildkit-blob-{VERSION}-{digest}")
}

impl Actions {
    /// Checks that the token is one that can be used.
    pub fn is_usable(&self) -> bool {
        self.accesses().is_some_and(|accesses| !accesses.is_empty())
    }

    pub(super) fn base(&self) -> Option<Url> {
        let mut url = Url::parse(&self.url).ok()?;
        url.set_path(&format!("{}/", url.path().trim_end_matches('/')));
        Some(url)
    }

    /// Reads the claim `ac` out of the token, whose signature is the service's affair.
    fn accesses(&self) -> Option<Vec<Access>> {
        let claims = self.token.reveal().split('.').nth(1)?;
        let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        serde_json::from_str(claims["ac"].as_str()?).ok()
    }

    /// What the keys of the documents of a branch begin with.
    fn document_key(&self, branch: &str) -> String {
        let branch = Digest::of(branch.as_bytes());
        format!("index-{}-{VERSION}-{}#", self.scope, &branch.hex()[..8])
    }

    /// Where the newest documents are: of each branch that may be read.
    pub(super) async fn document_places(&self, depot: &Depot) -> Result<Vec<Url>, Error> {
        let mut places = Vec::new();
        for access in self.accesses().unwrap_or_default() {
            let key = self.document_key(&access.branch);
            if let Some((url, _)) = self.find(depot, &key).await? {
                places.push(url);
            }
        }
        Ok(places)
    }

    /// Writes a document under the next number.
    pub(super) async fn put_document(&self, depot: &Depot, document: &[u8]) -> Result<(), Error> {
        let accesses = self.accesses().unwrap_or_default();
        let written = accesses
            .iter()
            .rfind(|access| access.permission & WRITE != 0);
        let branch = written.map_or("", |access| access.branch.as_str());
        let key = self.document_key(branch);
        let last = self.find(depot, &key).await?;
        let last = last.and_then(|(_, found)| found.strip_prefix(&key)?.parse::<u64>().ok());
        let next = last.unwrap_or(0) + 1;
        for number in next..next + MOST_TAKEN {
            let key = format!("{key}{number}");
            if let Some(url) = self.room(depot, &key).await? {
                depot.put(url, document).await?;
                return self.close(depot, &key, document.len() as u64).await;
            }
        }
        Err(depot
            .wire
            .protocol("it says that every number of a cache is taken"))
    }

    /// Where the entry with this key is read.
    pub(super) async fn place(&self, depot: &Depot, key: &str) -> Result<Option<Url>, Error> {
        let found = self.find(depot, key).await?;
        Ok(found.filter(|(_, found)| found == key).map(|(url, _)| url))
    }

    /// Finds the newest entry whose key begins with `key`: where it is read, and its key.
    async fn find(&self, depot: &Depot, key: &str) -> Result<Option<(Url, String)>, Error> {
        let what = json!({"key": key, "restore_keys": [key], "version": version()});
        let reply = self.call(depot, "GetCacheEntryDownloadURL", &what).await?;
        match reply.filter(|reply| reply.ok) {
            Some(reply) => {
                let url = signed(depot, &reply.signed_download_url)?;
                Ok(Some((url, reply.matched_key)))
            }
            None => Ok(None),
        }
    }

    /// Begins an entry, and returns where its bytes go. `None` when somebody has it.
    pub(super) async fn room(&self, depot: &Depot, key: &str) -> Result<Option<Url>, Error> {
        let what = json!({"key": key, "version": version()});
        match self.call(depot, "CreateCacheEntry", &what).await? {
            Some(reply) if reply.ok => Ok(Some(signed(depot, &reply.signed_upload_url)?)),
            Some(_) => Err(depot.wire.protocol("it makes no room for an entry")),
            None => Ok(None),
        }
    }

    /// Ends an entry whose bytes are there.
    pub(super) async fn close(&self, depot: &Depot, key: &str, size: u64) -> Result<(), Error> {
        let what = json!({"key": key, "size_bytes": size, "version": version()});
        let reply = self.call(depot, "FinalizeCacheEntryUpload", &what).await?;
        match reply {
            Some(reply) if reply.ok => Ok(()),
            _ => Err(depot
                .wire
                .protocol("it does not keep an entry that it took")),
        }
    }

    /// Calls one function of the service. `None` when there is no such entry, or one already.
    async fn call(&self, depot: &Depot, name: &str, what: &Value) -> Result<Option<Reply>, Error> {
        let wire = &depot.wire;
        let url = wire.base.join(&format!("{CALLS}{name}"));
        let url = url.map_err(|_| wire.protocol("its name makes no URL"))?;
        let ask = Ask::new("answer a call", Method::POST, url)
            .header(CONTENT_TYPE, "application/json")
            .body(what.to_string().into());
        let bearer = format!("Bearer {}", self.token.reveal());
        let bearer = HeaderValue::from_str(&bearer).ok();
        let mut answer = patiently(&wire.options, async || {
            wire.once(&ask, bearer.as_ref()).await
        })
        .await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => {
                answer.drain().await;
                return Ok(None);
            }
            _ => return Err(depot.unexpected(answer, &ask).await),
        }
        let body = answer.read("answer", MAX_REPLY).await?;
        let reply = serde_json::from_slice(&body);
        let reply = reply.map_err(|_| wire.protocol("its answer to a call is not valid JSON"))?;
        Ok(Some(reply))
    }
}

/// A URL that the service gave: to be used as it is, if it leads to no place of ours alone.
fn signed(depot: &Depot, url: &str) -> Result<Url, Error> {
    let url =
        Url::parse(url).map_err(|_| depot.wire.protocol("it names a place that is no URL"))?;
    depot.wire.check(&url)?;
    Ok(url)
}

fn version() -> String {
    Digest::of(PATHS).hex().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(claims: &str) -> Actions {
        Actions {
            url: "https://results.example/x".to_owned(),
            token: Secret::new(format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims))),
            scope: "buildkit".to_owned(),
            timeout: Duration::from_secs(600),
        }
    }

    #[test]
    fn branches_are_read_out_of_the_token() {
        let claims = json!({"ac": r#"[{"Scope":"refs/heads/main","Permission":3}]"#});
        let actions = actions(&claims.to_string());
        let branch = "refs/heads/main".to_owned();
        let permission = 3;
        assert_eq!(
            actions.accesses(),
            Some(vec![Access { branch, permission }])
        );
        assert!(actions.is_usable());
        let key = actions.document_key("refs/heads/main");
        let hash = Digest::of(b"refs/heads/main");
        assert_eq!(key, format!("index-buildkit-1-{}#", &hash.hex()[..8]));
        assert_eq!(
            actions.base().unwrap().as_str(),
            "https://results.example/x/"
        );
    }

    #[test]
    fn a_token_without_branches_is_of_no_use() {
        for claims in ["{}", r#"{"ac":5}"#, r#"{"ac":"[]"}"#, "no json"] {
            assert!(!actions(claims).is_usable(), "{claims}");
        }
        let mut none = actions("{}");
        none.token = Secret::new("plain");
        assert!(!none.is_usable());
    }
}
