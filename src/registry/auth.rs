//! Proves to a registry who is asking: Basic, or Bearer tokens (distribution spec, "auth").
//!
//! Credentials are looked up once for each repository, lazily: most pulls need none. One token
//! request is under way at a time, so parallel transfers share its result. Credentials go to
//! the registry itself and to the realm it names over a checked URL, nowhere else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::answer::Answer;
use super::authfile::{self, Entry};
use super::challenge::Challenge;
use super::error::Error;
use super::helper::{self, Helper};
use super::options::{Credentials, Options, Secret};
use super::wire::{Ask, Wire};

/// A token answer larger than this is none.
const MAX_TOKEN: u64 = 256 << 10;
/// The specification's life time of a token that says none.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// A token is renewed this long before its end.
const MARGIN: Duration = Duration::from_secs(5);

/// Looks up credentials and remembers what it found.
#[derive(Debug)]
pub(super) struct Keyring {
    options: Arc<Options>,
    host: String,
    known: tokio::sync::Mutex<HashMap<String, Option<Credentials>>>,
    /// A helper that did not work: it matters only if the registry insists on a login.
    trouble: Mutex<Option<Error>>,
}

impl Keyring {
    pub(super) fn new(host: &str, options: Arc<Options>) -> Self {
        Self {
            options,
            host: host.to_owned(),
            known: tokio::sync::Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    /// Returns the credentials for `repository`, if there are any.
    pub(super) async fn get(&self, repository: &str) -> Result<Option<Credentials>, Error> {
        if let Some(given) = &self.options.credentials {
            return Ok(Some(given.clone()));
        }
        let mut known = self.known.lock().await;
        if let Some(found) = known.get(repository) {
            return Ok(found.clone());
        }
        let found = self.search(repository).await?;
        known.insert(repository.to_owned(), found.clone());
        Ok(found)
    }

    async fn search(&self, repository: &str) -> Result<Option<Credentials>, Error> {
        let options = Arc::clone(&self.options);
        let (host, repository) = (self.host.clone(), repository.to_owned());
        let searching = tokio::task::spawn_blocking(move || {
            for path in &options.authfiles {
                match authfile::find(path, &host, &repository)? {
                    Some(Entry::Here(found)) => return Ok(Some(found)),
                    Some(Entry::Helper { program, server }) => {
                        let helper = Helper {
                            program: &program,
                            path: options.helper_path.as_deref(),
                        };
                        if let Some(found) = helper::get(helper, &server)? {
                            return Ok(Some(found));
                        }
                    }
                    None => {}
                }
            }
            Ok(None)
        });
        match searching.await.expect("the search does not panic") {
            Err(trouble @ Error::Helper { .. }) => {
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
                Ok(None)
            }
            other => other,
        }
    }

    /// Returns why a login is missing: the helper's trouble if there was one.
    pub(super) fn missing(&self, what: &str) -> Error {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.take().unwrap_or_else(|| Error::NeedsLogin {
            host: self.host.clone(),
            what: what.to_owned(),
        })
    }
}

#[derive(Debug, Clone)]
struct Token {
    header: HeaderValue,
    until: Instant,
}

/// What is known about proving oneself to one registry.
#[derive(Debug, Default)]
pub(super) struct Auth {
    challenge: Mutex<Option<Challenge>>,
    tokens: tokio::sync::Mutex<HashMap<Vec<String>, Token>>,
}

/// What a request wants to do, in the words of the token specification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// The repository, for looking up credentials and for errors.
    pub(super) repository: String,
    /// `repository:NAME:pull,push`, one for each repository touched.
    pub(super) scopes: Vec<String>,
}

impl Auth {
    /// Learns from a challenge of the registry itself.
    pub(super) fn learn(&self, answer: &Answer) {
        if let Some(challenge) = answer.challenge().filter(|_| answer.home) {
            *self
                .challenge
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(challenge);
        }
    }

    fn challenge(&self) -> Option<Challenge> {
        let challenge = self
            .challenge
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        challenge.clone()
    }

    /// Returns the `Authorization` for a request of `scope`, `None` where none is asked for or
    /// there is nothing to prove oneself with. `stale` was refused and is not given again.
    pub(super) async fn header(
        &self,
        wire: &Wire,
        keyring: &Keyring,
        scope: &Scope,
        stale: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Error> {
        let Some(challenge) = self.challenge() else {
            return Ok(None);
        };
        let credentials = keyring.get(&scope.repository).await?;
        if let Some(Credentials::Token(token)) = &credentials {
            return Ok(Some(bearer(wire, token.reveal())?));
        }
        let (realm, service, asked) = match challenge {
            Challenge::Basic => return credentials.map(|c| basic(&c)).transpose(),
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => (realm, service, scope),
        };
        let mut tokens = self.tokens.lock().await;
        if let Some(token) = tokens.get(&scope.scopes)
            && token.until > Instant::now()
            && stale != Some(&token.header)
        {
            return Ok(Some(token.header.clone()));
        }
        // A registry may want a scope of its own making where the request names none.
        let scopes = match asked {
            Some(asked) if scope.scopes.is_empty() => vec![asked],
            _ => scope.scopes.clone(),
        };
        let mut ask = TokenAsk {
            realm: &realm,
            service: service.as_deref(),
            scopes: &scopes,
            credentials: credentials.as_ref(),
            repository: &scope.repository,
        };
        let token = match ask.fetch(wire, keyring).await {
            // Sources of mounts are only a saving: without a right to them it goes without.
            Err(e) if scopes.len() > 1 && e.is_refusal() => {
                ask.scopes = &scopes[..1];
                ask.fetch(wire, keyring).await?
            }
            other => other?,
        };
        let header = token.header.clone();
        tokens.insert(scope.scopes.clone(), token);
        Ok(Some(header))
    }

    /// Says why the registry still answers 401 after all was tried.
    pub(super) async fn refusal(
        &self,
        keyring: &Keyring,
        scope: &Scope,
        mut answer: Answer,
    ) -> Error {
        let host = answer.host.clone();
        let what = scope.repository.clone();
        match keyring.get(&scope.repository).await {
            Err(e) => e,
            Ok(None) => keyring.missing(&what),
            Ok(Some(credentials)) => {
                let server = answer.server_errors().await;
                match self.challenge() {
                    // The realm took the login, so it is the right that is missing.
                    Some(Challenge::Bearer { .. })
                        if !matches!(credentials, Credentials::Token(_)) =>
                    {
                        Error::Denied { host, what, server }
                    }
                    _ => Error::WrongCredentials {
                        host,
                        user: user_of(&credentials),
                        server: scrub(server, &credentials),
                    },
                }
            }
        }
    }
}

fn user_of(credentials: &Credentials) -> Option<String> {
    match credentials {
        Credentials::Password { username, .. } => Some(username.clone()),
        _ => None,
    }
}

/// Takes our own secret out of what a server echoes.
fn scrub(
    mut server: Vec<super::error::ServerError>,
    credentials: &Credentials,
) -> Vec<super::error::ServerError> {
    let (Credentials::Password {
        password: secret, ..
    }
    | Credentials::Identity(secret)
    | Credentials::Token(secret)) = credentials;
    if !secret.reveal().is_empty() {
        for error in &mut server {
            error.message = error.message.replace(secret.reveal(), "***");
        }
    }
    server
}

fn basic(credentials: &Credentials) -> Result<HeaderValue, Error> {
    let plain = match credentials {
        Credentials::Password { username, password } => format!("{username}:{}", password.reveal()),
        // A registry without tokens takes an identity token in the password's place.
        Credentials::Identity(token) | Credentials::Token(token) => {
            format!("<token>:{}", token.reveal())
        }
    };
    let value = format!("Basic {}", STANDARD.encode(plain));
    Ok(HeaderValue::from_str(&value).expect("base64 is a valid header value"))
}

fn bearer(wire: &Wire, token: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| wire.protocol("its token holds characters that no header may hold"))
}

struct TokenAsk<'a> {
    realm: &'a str,
    service: Option<&'a str>,
    scopes: &'a [String],
    credentials: Option<&'a Credentials>,
    repository: &'a str,
}

impl TokenAsk<'_> {
    async fn fetch(&self, wire: &Wire, keyring: &Keyring) -> Result<Token, Error> {
        let mut url = Url::parse(self.realm)
            .or_else(|_| wire.base.join(self.realm))
            .map_err(|_| wire.protocol("its token realm is no URL"))?;
        wire.check(&url)?;
        let asked = Instant::now();
        let (ask, authorization) = match self.credentials {
            Some(Credentials::Identity(token)) => (self.refresh(url, token), None),
            other => {
                self.query(&mut url);
                let authorization = other.map(basic).transpose()?;
                (Ask::new(DOING, Method::GET, url), authorization)
            }
        };
        let mut answer = patiently(&wire.options, async || {
            wire.send(&ask, authorization.as_ref()).await
        })
        .await?;
        if !answer.status().is_success() {
            return Err(self.refused(answer, keyring).await);
        }
        let body = answer.read("token", MAX_TOKEN).await?;
        let reply: Reply = serde_json::from_slice(&body)
            .map_err(|_| wire.protocol("its token server sends no valid JSON"))?;
        reply.token(wire, asked)
    }

    fn query(&self, url: &mut Url) {
        let mut query = url.query_pairs_mut();
        if let Some(service) = self.service {
            query.append_pair("service", service);
        }
        for scope in self.scopes {
            query.append_pair("scope", scope);
        }
        if let Some(user) = self.credentials.and_then(user_of) {
            query.append_pair("account", &user);
        }
        drop(query);
        if url.query() == Some("") {
            url.set_query(None);
        }
    }

    /// OAuth2 with a refresh token (distribution spec, "oauth").
    fn refresh(&self, url: Url, token: &Secret) -> Ask {
        let mut form = Url::parse("http://form/").expect("a constant URL");
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "cooper")
            .append_pair("service", self.service.unwrap_or_default())
            .append_pair("scope", &self.scopes.join(" "))
            .append_pair("refresh_token", token.reveal());
        let body = form.query().unwrap_or_default().to_owned();
        Ask::new(DOING, Method::POST, url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body.into())
    }

    async fn refused(&self, mut answer: Answer, keyring: &Keyring) -> Error {
        let login = matches!(
            answer.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST
        );
        match self.credentials {
            Some(credentials) if login => {
                let server = answer.server_errors().await;
                Error::WrongCredentials {
                    host: answer.host,
                    user: user_of(credentials),
                    server: scrub(server, credentials),
                }
            }
            None if answer.status() == StatusCode::UNAUTHORIZED => keyring.missing(self.repository),
            _ => answer.into_error(DOING, self.repository).await,
        }
    }
}

const DOING: &str = "give a token";

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Reply {
    fn token(self, wire: &Wire, asked: Instant) -> Result<Token, Error> {
        let text = [self.token, self.access_token]
            .into_iter()
            .flatten()
            .find(|token| !token.is_empty())
            .ok_or_else(|| wire.protocol("its token server sends no token"))?;
        let mut header = bearer(wire, &text)?;
        header.set_sensitive(true);
        let life = self
            .expires_in
            .filter(|&life| life > 0)
            .map_or(TOKEN_LIFE, |life| Duration::from_secs(life.min(86_400)));
        Ok(Token {
            header,
            until: asked + life.saturating_sub(MARGIN),
        })
    }
}

/// Sends until there is an answer that is neither "later" nor a passing trouble, as often and
/// as slowly as the options and the server say.
pub(super) async fn patiently(
    options: &Options,
    mut attempt: impl AsyncFnMut() -> Result<Answer, Error>,
) -> Result<Answer, Error> {
    let mut retry = super::retry::Retry::new(options.attempts, options.backoff);
    loop {
        let outcome = attempt().await;
        let asked = match &outcome {
            Ok(answer) if is_passing(answer.status()) => answer.retry_after(),
            Err(e) if e.is_passing() => None,
            _ => return outcome,
        };
        let Some(pause) = retry.next(asked) else {
            return outcome;
        };
        if let Ok(answer) = outcome {
            answer.drain().await;
        }
        tokio::time::sleep(pause).await;
    }
}

/// 429 and the 5xx that a load balancer sends for a while.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

impl Error {
    fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::WrongCredentials { .. } | Self::NeedsLogin { .. } | Self::Denied { .. }
        )
    }

    /// Whether the same request may well work a moment later.
    pub(super) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Connection { .. } | Self::Timeout { .. } | Self::Refused { .. }
        )
    }
}
