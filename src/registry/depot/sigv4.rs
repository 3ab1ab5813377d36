//! Signs requests as Amazon's services want it: Signature Version 4, in the `Authorization` header.
//!
//! Pure. Every header that is in the request when it is signed is signed, and so is the hash of
//! the body, which for a blob is its digest. The path must be encoded as it goes out, which for
//! S3 is once.

use chrono::{DateTime, Utc};
use reqwest::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use ring::hmac;

use crate::image::Digest;

use super::super::options::Secret;

/// Header that says the hash of the body.
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What proves who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsKey {
    /// Name of the key.
    pub id: String,
    /// The key.
    pub secret: Secret,
    /// Token of a session, for a key that is good for a while only.
    pub token: Option<Secret>,
}

/// Adds date, body hash and token to `headers`, and returns the value of `Authorization`.
pub(super) fn sign(
    key: &AwsKey,
    region: &str,
    method: &Method,
    url: &Url,
    headers: &mut HeaderMap,
    body: &Digest,
    now: DateTime<Utc>,
) -> HeaderValue {
    let time = now.format("%Y%m%dT%H%M%SZ").to_string();
    let day = &time[..8];
    set(headers, CONTENT, body.hex());
    set(headers, DATE, &time);
    if let Some(token) = &key.token {
        set(headers, TOKEN, token.reveal());
    }
    let (lines, names) = canonical_headers(url, headers);
    let request = format!(
        "{method}\n{}\n{}\n{lines}\n{names}\n{}",
        url.path(),
        canonical_query(url),
        body.hex()
    );
    let scope = format!("{day}/{region}/s3/aws4_request");
    let request = Digest::of(request.as_bytes());
    let text = format!("{ALGORITHM}\n{time}\n{scope}\n{}", request.hex());
    let mut signing = format!("AWS4{}", key.secret.reveal()).into_bytes();
    for part in [day, region, "s3", "aws4_request"] {
        signing = mac(&signing, part);
    }
    let signature: String = mac(&signing, &text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let value = format!(
        "{ALGORITHM} Credential={}/{scope},SignedHeaders={names},Signature={signature}",
        key.id
    );
    let mut value = HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static(ALGORITHM));
    value.set_sensitive(true);
    value
}

/// A value that no header can hold is left out: the server will miss it, and says so.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

/// The lines of all headers in order, and their names.
fn canonical_headers(url: &Url, headers: &HeaderMap) -> (String, String) {
    let host = url.host_str().unwrap_or_default();
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let mut all: Vec<(&str, String)> = headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str(), value.trim().to_owned())
        })
        .chain([(HOST.as_str(), host)])
        .collect();
    all.sort();
    let lines = all.iter().map(|(name, value)| format!("{name}:{value}\n"));
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    (lines.collect(), names.join(";"))
}

fn canonical_query(url: &Url) -> String {
    let pair = |(key, value): (_, _)| format!("{}={}", encoded(key, false), encoded(value, false));
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let mut pairs: Vec<String> = pairs.iter().map(|(k, v)| pair((k, v))).collect();
    pairs.sort();
    pairs.join("&")
}

/// Percent-encodes all but unreserved characters (RFC 3986), and `/` where it is `kept`.
pub(super) fn encoded(text: &str, kept: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            b'/' if kept => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signs one of the examples of "Signature Calculations for the Authorization Header" in the
    /// Amazon S3 API reference, and returns the signature.
    fn example(method: Method, url: &str, headers: &[(&'static str, &str)], body: &[u8]) -> String {
        let key = AwsKey {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            token: None,
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            set(&mut map, HeaderName::from_static(name), value);
        }
        let now = DateTime::parse_from_rfc3339("2013-05-24T00:00:00Z").unwrap();
        let url = Url::parse(url).unwrap();
        let (body, now) = (Digest::of(body), now.to_utc());
        let value = sign(&key, "us-east-1", &method, &url, &mut map, &body, now);
        let value = value.to_str().unwrap().to_owned();
        let scope = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";
        assert!(value.contains(scope), "{value}");
        value.rsplit_once('=').unwrap().1.to_owned()
    }

    #[test]
    fn amazons_own_examples_are_signed_as_published() {
        let host = "https://examplebucket.s3.amazonaws.com";
        let get = |path: &str, headers: &[(&'static str, &str)]| {
            example(Method::GET, &format!("{host}{path}"), headers, b"")
        };
        assert_eq!(
            get("/test.txt", &[("range", "bytes=0-9")]),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        assert_eq!(
            get("/?lifecycle", &[]),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        assert_eq!(
            get("/?max-keys=2&prefix=J", &[]),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
        let path = encoded("/test$file.text", true);
        let headers = [
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ];
        let put = example(
            Method::PUT,
            &format!("{host}{path}"),
            &headers,
            b"Welcome to Amazon S3.",
        );
        assert_eq!(
            put,
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
    }

    #[test]
    fn a_digest_is_encoded_and_its_prefix_is_not() {
        assert_eq!(
            encoded("a b/blobs/sha256:1~", true),
            "a%20b/blobs/sha256%3A1~"
        );
        assert_eq!(encoded("a/b", false), "a%2Fb");
    }
}
