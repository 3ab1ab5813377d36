//! Containers of Azure Blob Storage.
//!
//! Requests are signed with the account's key ("Authorize with Shared Key" in the service's REST
//! reference), or carry the shared access signature that the account's URL holds.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RANGE};
use reqwest::{Method, StatusCode, Url};
use ring::hmac;

use super::super::error::Error;
use super::super::options::Secret;
use super::super::wire::Ask;
use super::sigv4::encoded;
use super::{Depot, Layout};

/// The version of the service that is spoken to.
const SPOKEN: &str = "2021-08-06";
/// The largest blob that is put by one request.
pub(super) const MOST: u64 = 5000 << 20;
const VERSION: HeaderName = HeaderName::from_static("x-ms-version");
const DATE: HeaderName = HeaderName::from_static("x-ms-date");
/// Header that says of what kind a new blob is.
pub(super) const KIND: HeaderName = HeaderName::from_static("x-ms-blob-type");
/// The kind of blobs that are put whole.
pub(super) const BLOCKS: &str = "BlockBlob";

/// A container, and how it is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Azure {
    /// Base of the account. Its query, if any, is a shared access signature.
    pub account_url: Secret,
    /// Name of the account.
    pub account: String,
    /// Name of the container. It is made when it is not there.
    pub container: String,
    /// Names of things in it.
    pub layout: Layout,
    /// The account's key, in base64.
    pub key: Option<Secret>,
}

impl Azure {
    /// Returns the URL below which the container's blobs are. `None` when it makes no URL.
    pub(super) fn base(&self) -> Option<Url> {
        let mut url = Url::parse(self.account_url.reveal()).ok()?;
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{path}/{}/", encoded(&self.container, false)));
        Some(url)
    }

    /// Adds what the service wants to see, and returns the authorization, if a key gives one.
    pub(super) fn sign(&self, ask: &mut Ask) -> Option<HeaderValue> {
        let date = Utc::now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        for (name, value) in [(VERSION, SPOKEN), (DATE, date.as_str())] {
            if let Ok(value) = HeaderValue::from_str(value) {
                ask.headers.insert(name, value);
            }
        }
        let key = STANDARD.decode(self.key.as_ref()?.reveal().trim()).ok()?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let signature = hmac::sign(&key, self.text(ask).as_bytes());
        let signature = STANDARD.encode(signature.as_ref());
        let value = format!("SharedKey {}:{signature}", self.account);
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The text that is signed.
    fn text(&self, ask: &Ask) -> String {
        let header = |name: HeaderName| {
            let value = ask.headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let length = match header(CONTENT_LENGTH) {
            zero if zero == "0" => String::new(),
            length => length,
        };
        let (kind, range) = (header(CONTENT_TYPE), header(RANGE));
        // Encoding, language; length; MD5; type; date and four conditions; range.
        let mut text = format!(
            "{}\n\n\n{length}\n\n{kind}\n\n\n\n\n\n{range}\n",
            ask.method
        );
        let mut own: Vec<String> = ask
            .headers
            .keys()
            .filter(|name| name.as_str().starts_with("x-ms-"))
            .map(|name| format!("{name}:{}\n", header(name.clone()).trim()))
            .collect();
        own.sort();
        text.extend(own);
        text.push_str(&format!("/{}{}", self.account, ask.url.path()));
        let pairs = ask.url.query_pairs();
        let mut pairs: Vec<String> = pairs
            .map(|(key, value)| format!("\n{}:{value}", key.to_ascii_lowercase()))
            .collect();
        pairs.sort();
        text.extend(pairs);
        text
    }

    /// Makes the container unless it is there.
    pub(super) async fn prepare(&self, depot: &Depot) -> Result<(), Error> {
        let mut url = depot.wire.base.clone();
        url.set_path(depot.wire.base.path().trim_end_matches('/'));
        url.query_pairs_mut().append_pair("restype", "container");
        let look = Ask::new("look for a container", Method::HEAD, url.clone());
        let found = depot.ask(&look).await?;
        // A signature that is good for blobs only may not even look.
        if found.status() != StatusCode::NOT_FOUND {
            return Ok(());
        }
        let make = Ask::new("make a container", Method::PUT, url)
            .header(CONTENT_LENGTH, "0")
            .body(bytes::Bytes::new());
        let made = depot.ask(&make).await?;
        match made.status() {
            StatusCode::CONFLICT => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(made.into_error(make.doing, &self.container).await),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(url: &str) -> Azure {
        Azure {
            account_url: Secret::new(url),
            account: "myaccount".to_owned(),
            container: "mycontainer".to_owned(),
            layout: Layout::joined("", "manifests/", "blobs/", Vec::new()),
            key: Some(Secret::new("a2V5")),
        }
    }

    #[test]
    fn the_text_that_is_signed_is_the_services_own_example() {
        let azure = container("https://myaccount.blob.core.windows.net");
        let url = "https://myaccount.blob.core.windows.net/mycontainer?restype=container&comp=metadata&timeout=20";
        let ask = Ask::new("", Method::GET, Url::parse(url).unwrap())
            .header(DATE, "Fri, 26 Jun 2015 23:39:12 GMT")
            .header(VERSION, "2015-02-21");
        assert_eq!(
            azure.text(&ask),
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\n\
             x-ms-version:2015-02-21\n/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
        );
    }

    #[test]
    fn a_shared_access_signature_stays_in_the_url() {
        let url = container("https://a.example/x/?sv=1&sig=2").base();
        assert_eq!(
            url.unwrap().as_str(),
            "https://a.example/x/mycontainer/?sv=1&sig=2"
        );
        assert_eq!(container("nowhere").base(), None);
    }
}
