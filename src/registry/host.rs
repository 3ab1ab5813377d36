//! One registry that is spoken to: found once, then asked with the right authorization.

use std::sync::Arc;

use reqwest::header::HeaderValue;
use reqwest::{Body, Method, StatusCode, Url};
use tokio::sync::OnceCell;

use super::answer::Answer;
use super::auth::{Auth, Keyring, Scope, patiently};
use super::endpoint::{self, Candidate};
use super::error::Error;
use super::options::Options;
use super::wire::{Ask, Wire};

/// A registry by its name, with what was learned about it so far.
#[derive(Debug)]
pub(super) struct Host {
    /// `HOST[:PORT]` as it stands in image names.
    pub(super) name: String,
    pub(super) options: Arc<Options>,
    pub(super) keyring: Keyring,
    wire: OnceCell<Wire>,
    auth: Auth,
}

impl Host {
    pub(super) fn new(name: &str, options: Arc<Options>) -> Self {
        Self {
            name: name.to_owned(),
            keyring: Keyring::new(name, Arc::clone(&options)),
            options,
            wire: OnceCell::new(),
            auth: Auth::default(),
        }
    }

    /// Returns the connection, finding the registry on first use.
    pub(super) async fn wire(&self) -> Result<&Wire, Error> {
        self.wire.get_or_try_init(|| self.find()).await
    }

    /// Returns the URL of `path` below `/v2/`. Both come from parsed names and digests.
    pub(super) async fn url(&self, path: &str) -> Result<Url, Error> {
        let wire = self.wire().await?;
        let url = wire.base.join(&format!("v2/{path}"));
        url.map_err(|_| wire.protocol("its name makes no URL"))
    }

    async fn find(&self) -> Result<Wire, Error> {
        let candidates = endpoint::candidates(&self.name, self.options.tls_verify);
        let count = candidates.len();
        let has_port = !self.name.ends_with(']') && self.name.contains(':');
        let mut last = None;
        for (index, candidate) in candidates.into_iter().enumerate() {
            let more = index + 1 < count;
            match self.probe(candidate, more).await {
                Ok(Some(wire)) => return Ok(wire),
                Ok(None) => {}
                Err(e @ (Error::Refused { .. } | Error::Timeout { .. })) if has_port => {
                    return Err(e);
                }
                Err(e @ (Error::Untrusted { .. } | Error::Lookup { .. })) => return Err(e),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| Error::Protocol {
            host: self.name.clone(),
            why: "its name makes no URL".to_owned(),
        }))
    }

    /// Asks whether a registry speaks there, and learns how it wants to be asked. `None` when
    /// the answer says that this is the wrong scheme and another one is left.
    async fn probe(&self, candidate: Candidate, more: bool) -> Result<Option<Wire>, Error> {
        let Candidate { base, verify } = candidate;
        let wire = Wire::new(&self.name, base, verify, Arc::clone(&self.options));
        let url = wire.base.join("v2/").expect("a constant path");
        let ask = Ask::new("say whether it is a registry", Method::GET, url);
        // Trouble at the very first contact is reported at once: the registry is down.
        let mut first = Some(wire.send(&ask, None).await?);
        let answer = patiently(&self.options, async || match first.take() {
            Some(answer) => Ok(answer),
            None => wire.send(&ask, None).await,
        })
        .await?;
        let wrong_scheme = wire.base.scheme() == "http"
            && (answer.url().scheme() == "https"
                || matches!(answer.status().as_u16(), 400 | 426 | 497));
        if more && wrong_scheme {
            return Ok(None);
        }
        if answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS {
            return Err(answer.into_error(ask.doing, "").await);
        }
        self.auth.learn(&answer);
        answer.drain().await;
        Ok(Some(wire))
    }

    /// Sends `ask` with whatever authorization `scope` needs, again where that helps. Any
    /// answer but 401 from the registry itself is returned; 429 and 5xx come as errors.
    pub(super) async fn request(&self, ask: &Ask, scope: &Scope) -> Result<Answer, Error> {
        let wire = self.wire().await?;
        let authorization = self.authorization(scope, None).await?;
        let send = async |authorization: Option<&HeaderValue>| {
            patiently(&self.options, async || wire.send(ask, authorization).await).await
        };
        let mut answer = send(authorization.as_ref()).await?;
        if is_challenged(&answer) {
            let fresh = self.reauthorize(scope, authorization, answer).await?;
            answer = send(Some(&fresh)).await?;
        }
        if is_challenged(&answer) {
            return Err(self.auth.refusal(&self.keyring, scope, answer).await);
        }
        let status = answer.status();
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            return Err(answer.into_error(ask.doing, &scope.repository).await);
        }
        Ok(answer)
    }

    /// Returns the authorization for `scope`; `stale` is one that was refused.
    pub(super) async fn authorization(
        &self,
        scope: &Scope,
        stale: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Error> {
        let wire = self.wire().await?;
        self.auth.header(wire, &self.keyring, scope, stale).await
    }

    /// Gets a new authorization after a 401, or says why there is none.
    pub(super) async fn reauthorize(
        &self,
        scope: &Scope,
        used: Option<HeaderValue>,
        refused: Answer,
    ) -> Result<HeaderValue, Error> {
        self.auth.learn(&refused);
        match self.authorization(scope, used.as_ref()).await? {
            Some(fresh) if used.as_ref() != Some(&fresh) => Ok(fresh),
            _ => Err(self.auth.refusal(&self.keyring, scope, refused).await),
        }
    }

    /// Starts a request with a body that exists only once: no redirect, no second try, no clock.
    /// The authorization goes along only when `url` is at the registry's own origin.
    pub(super) async fn start(
        &self,
        method: Method,
        url: &Url,
        headers: reqwest::header::HeaderMap,
        body: Body,
        scope: &Scope,
    ) -> Result<impl Future<Output = reqwest::Result<reqwest::Response>> + use<>, Error> {
        let wire = self.wire().await?;
        let authorization = match wire.is_origin(url) {
            true => self.authorization(scope, None).await?,
            false => None,
        };
        let mut request = reqwest::Request::new(method, url.clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body);
        wire.start(request, authorization.as_ref())
    }
}

/// Whether the registry itself wants to know who is asking.
pub(super) fn is_challenged(answer: &Answer) -> bool {
    answer.home && answer.status() == StatusCode::UNAUTHORIZED
}
