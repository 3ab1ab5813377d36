//! Buckets of Amazon S3, and of the servers that speak as it does.

use std::time::{Duration, SystemTime};

use chrono::Utc;
use reqwest::header::{HeaderName, HeaderValue, LAST_MODIFIED};
use reqwest::{Method, Url};

use crate::image::Digest;

use super::super::answer::Answer;
use super::super::error::Error;
use super::super::wire::Ask;
use super::sigv4::{self, AwsKey, encoded};
use super::{Depot, Layout};

/// The largest object that is copied, or put, by one request.
pub(super) const MOST: u64 = 5 << 30;
const COPY_SOURCE: HeaderName = HeaderName::from_static("x-amz-copy-source");
const DIRECTIVE: HeaderName = HeaderName::from_static("x-amz-metadata-directive");
const UPDATED: HeaderName = HeaderName::from_static("x-amz-meta-updated-at");

/// A bucket, and how it is used.
#[derive(Debug, Clone, PartialEq)]
pub struct S3 {
    /// Its name.
    pub bucket: String,
    /// Where it lies.
    pub region: String,
    /// Base of the server, for one that is not Amazon's.
    pub endpoint: Option<String>,
    /// Whether the bucket is part of the path, not of the host name.
    pub path_style: bool,
    /// Names of things in it.
    pub layout: Layout,
    /// What proves who is asking.
    pub key: AwsKey,
    /// A blob that is there and was written longer ago than this is written again, so that a rule
    /// that removes old objects spares it.
    pub touch_refresh: Duration,
    /// How many blobs go up at once.
    pub parallel: usize,
    /// How often a request is sent at most.
    pub attempts: Option<u32>,
}

impl S3 {
    /// Returns the URL below which the bucket's objects are. `None` when it makes no URL.
    pub(super) fn base(&self) -> Option<Url> {
        let own;
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint,
            None => {
                let end = match self.region.starts_with("cn-") {
                    true => ".cn",
                    false => "",
                };
                own = format!("https://s3.{}.amazonaws.com{end}", self.region);
                &own
            }
        };
        let mut url = Url::parse(endpoint).ok()?;
        url.set_query(None);
        let path = url.path().trim_end_matches('/').to_owned();
        let host = url.host_str()?.to_owned();
        // A certificate for all names below a host says nothing about names two levels below.
        let dotted = self.bucket.contains('.');
        let literal = !matches!(url.domain(), Some(name) if !name.is_empty());
        if self.path_style || dotted || literal {
            url.set_path(&format!("{path}/{}/", encoded(&self.bucket, false)));
        } else {
            url.set_host(Some(&format!("{}.{host}", self.bucket)))
                .ok()?;
            url.set_path(&format!("{path}/"));
        }
        Some(url)
    }

    /// Adds what the server wants to see, and returns the authorization.
    pub(super) fn sign(&self, ask: &mut Ask, body: &Digest) -> HeaderValue {
        let (method, url) = (&ask.method, &ask.url);
        let headers = &mut ask.headers;
        sigv4::sign(
            &self.key,
            &self.region,
            method,
            url,
            headers,
            body,
            Utc::now(),
        )
    }

    /// Writes the object again that `found` is the head of, if it is old.
    pub(super) async fn touch(
        &self,
        depot: &Depot,
        url: &Url,
        found: &Answer,
    ) -> Result<(), Error> {
        let written = found.header(LAST_MODIFIED);
        let written = written.and_then(|at| chrono::DateTime::parse_from_rfc2822(at).ok());
        let age = written.and_then(|at| SystemTime::now().duration_since(at.into()).ok());
        let large = found.length().is_none_or(|length| length >= MOST);
        if large || age.is_none_or(|age| age <= self.touch_refresh) {
            return Ok(());
        }
        let key = url.path().strip_prefix(depot.wire.base.path());
        let key = key.unwrap_or_default();
        let source = format!("/{}/{key}", encoded(&self.bucket, false));
        let ask = Ask::new("keep a blob", Method::PUT, url.clone())
            .header(COPY_SOURCE, &source)
            .header(DIRECTIVE, "REPLACE")
            .header(UPDATED, &Utc::now().to_rfc3339())
            .body(bytes::Bytes::new());
        let answer = depot.ask(&ask).await?;
        if !answer.status().is_success() {
            return Err(answer.into_error(ask.doing, &self.bucket).await);
        }
        answer.drain().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::options::Secret;
    use super::*;

    fn base(bucket: &str, region: &str, endpoint: Option<&str>, path_style: bool) -> String {
        let bucket = S3 {
            bucket: bucket.to_owned(),
            region: region.to_owned(),
            endpoint: endpoint.map(str::to_owned),
            path_style,
            layout: Layout::joined("", "manifests/", "blobs/", Vec::new()),
            key: AwsKey {
                id: String::new(),
                secret: Secret::new(""),
                token: None,
            },
            touch_refresh: Duration::ZERO,
            parallel: 1,
            attempts: None,
        };
        bucket.base().map_or_else(String::new, String::from)
    }

    #[test]
    fn a_bucket_is_part_of_the_host_name_where_it_can_be() {
        for (bucket, region, endpoint, path_style, want) in [
            (
                "b",
                "eu-west-1",
                None,
                false,
                "https://b.s3.eu-west-1.amazonaws.com/",
            ),
            (
                "b",
                "eu-west-1",
                None,
                true,
                "https://s3.eu-west-1.amazonaws.com/b/",
            ),
            (
                "a.b",
                "us-east-1",
                None,
                false,
                "https://s3.us-east-1.amazonaws.com/a.b/",
            ),
            (
                "b",
                "cn-north-1",
                None,
                false,
                "https://b.s3.cn-north-1.amazonaws.com.cn/",
            ),
            (
                "b",
                "x",
                Some("http://s3.example:9000"),
                false,
                "http://b.s3.example:9000/",
            ),
            (
                "b",
                "x",
                Some("http://s3.example:9000/"),
                true,
                "http://s3.example:9000/b/",
            ),
            (
                "b",
                "x",
                Some("https://h.example/s3"),
                true,
                "https://h.example/s3/b/",
            ),
            (
                "b",
                "x",
                Some("http://127.0.0.1:9000"),
                false,
                "http://127.0.0.1:9000/b/",
            ),
            ("b", "x", Some("nowhere"), true, ""),
        ] {
            assert_eq!(base(bucket, region, endpoint, path_style), want);
        }
    }
}
