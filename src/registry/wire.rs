//! One HTTP exchange with one host and the places it points to.
//!
//! Follows redirects itself, because each one is checked ([`Guard`]) and an `Authorization`
//! header never leaves the origin it was meant for (CVE-2020-15157). Clients are built when
//! they are first needed: reading the CA store costs milliseconds, and plain http works where
//! there is none. HTTP/1.1 only: blobs in parallel want several connections, not one shared
//! flow-control window.

use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, Once, OnceLock};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Body, Client, ClientBuilder, Method, NoProxy, Proxy, StatusCode, Url};

use super::answer::Answer;
use super::certs;
use super::error::Error;
use super::guard::{Blocked, Guard, NOT_PUBLIC};
use super::options::{Options, Proxies};

/// More redirects than this are a loop.
const MAX_REDIRECTS: usize = 10;

/// A request to be made.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    /// What is asked, for errors: `read the manifest`.
    pub(super) doing: &'static str,
    /// HTTP method.
    pub(super) method: Method,
    /// Where.
    pub(super) url: Url,
    /// Headers, without `Authorization`.
    pub(super) headers: HeaderMap,
    /// A small body, which can be sent again.
    pub(super) body: Option<bytes::Bytes>,
}

impl Ask {
    /// Asks for `url` with `method`.
    pub(super) fn new(doing: &'static str, method: Method, url: Url) -> Self {
        Self {
            doing,
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
        }
    }

    /// Adds a header with a value that is known to be printable.
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Sets the body.
    pub(super) fn body(mut self, body: bytes::Bytes) -> Self {
        self.body = Some(body);
        self
    }
}

/// The connection pools for one registry.
#[derive(Debug)]
pub(super) struct Wire {
    /// The registry as the user wrote it.
    pub(super) host: String,
    /// Its origin, ending in `/`.
    pub(super) base: Url,
    pub(super) guard: Guard,
    pub(super) options: Arc<Options>,
    verify: bool,
    plain: OnceLock<Client>,
    verified: OnceLock<Client>,
    unverified: OnceLock<Client>,
    away: OnceLock<Client>,
}

impl Wire {
    /// Prepares to speak to the origin `base`. Without `verify` any certificate of that very
    /// host is taken; other hosts are always verified.
    pub(super) fn new(host: &str, base: Url, verify: bool, options: Arc<Options>) -> Self {
        Self {
            host: host.to_owned(),
            guard: Guard::new(&base, proxy_hosts(&options.proxies)),
            base,
            options,
            verify,
            plain: OnceLock::new(),
            verified: OnceLock::new(),
            unverified: OnceLock::new(),
            away: OnceLock::new(),
        }
    }

    /// Returns whether `url` has the scheme, host and port of the registry.
    pub(super) fn is_origin(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Checks a URL that the registry named.
    pub(super) fn check(&self, url: &Url) -> Result<(), Error> {
        self.guard
            .check(url, self.base.scheme())
            .map_err(|why| self.refuses(url, why))
    }

    fn refuses(&self, url: &Url, why: &'static str) -> Error {
        Error::Refuses {
            host: self.host.clone(),
            to: format!("{}://{}", url.scheme(), shown(url)),
            why,
        }
    }

    /// Sends `ask` and follows redirects of GET and HEAD. `authorization` goes to the registry's
    /// own origin only, or, for a token, to exactly the URL asked for.
    pub(super) async fn send(
        &self,
        ask: &Ask,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Error> {
        let mut url = ask.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let authorization = authorization.filter(|_| url.origin() == ask.url.origin());
            let answer = self.one(ask, url.clone(), authorization).await?;
            if !redirects(&ask.method, answer.status()) {
                return Ok(answer);
            }
            let to = answer
                .header(LOCATION)
                .and_then(|to| url.join(to).ok())
                .ok_or_else(|| self.protocol("a redirect names no place"))?;
            self.check(&to)?;
            url = to;
        }
        Err(self.protocol("it redirects in a circle"))
    }

    /// Sends `ask` once, and follows nothing.
    pub(super) async fn once(
        &self,
        ask: &Ask,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Error> {
        self.one(ask, ask.url.clone(), authorization).await
    }

    async fn one(
        &self,
        ask: &Ask,
        url: Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Error> {
        let mut request = reqwest::Request::new(ask.method.clone(), url);
        *request.headers_mut() = ask.headers.clone();
        *request.body_mut() = ask.body.clone().map(Body::from);
        self.exchange(request, authorization).await
    }

    /// Sends one request and waits for the head of the answer.
    async fn exchange(
        &self,
        request: reqwest::Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Error> {
        let wait = self.options.idle_timeout;
        let url = request.url().clone();
        let sending = self.start(request, authorization)?;
        match tokio::time::timeout(wait, sending).await {
            Ok(Ok(response)) => Ok(self.answer(response)),
            Ok(Err(source)) => Err(self.failure(&url, "reach", source)),
            Err(_) => Err(Error::Timeout {
                host: self.shown(&url),
                after: wait,
            }),
        }
    }

    /// Starts one request, without waiting, following or timing.
    pub(super) fn start(
        &self,
        mut request: reqwest::Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<impl Future<Output = reqwest::Result<reqwest::Response>> + use<>, Error> {
        if let Some(value) = authorization {
            let mut value = value.clone();
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(self.client(request.url())?.execute(request))
    }

    /// Wraps what came back.
    pub(super) fn answer(&self, response: reqwest::Response) -> Answer {
        let host = self.shown(response.url());
        let home = self.is_origin(response.url());
        Answer::new(response, host, home, self.options.idle_timeout)
    }

    /// Builds a protocol error of this registry.
    pub(super) fn protocol(&self, why: impl Into<String>) -> Error {
        Error::Protocol {
            host: self.host.clone(),
            why: why.into(),
        }
    }

    fn shown(&self, url: &Url) -> String {
        if self.is_origin(url) {
            self.host.clone()
        } else {
            shown(url)
        }
    }

    fn client(&self, url: &Url) -> Result<&Client, Error> {
        let (cell, kind) = if url.scheme() != "https" {
            (&self.plain, Kind::Plain)
        } else if !self.guard.is_home(url) {
            (&self.away, Kind::Away)
        } else if self.verify {
            (&self.verified, Kind::Verified)
        } else {
            (&self.unverified, Kind::Unverified)
        };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let client = self.build(kind, url)?;
        Ok(cell.get_or_init(|| client))
    }

    fn build(&self, kind: Kind, url: &Url) -> Result<Client, Error> {
        install_provider();
        let mut builder = ClientBuilder::new()
            .user_agent(concat!("cooper/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .http1_only()
            .connect_timeout(self.options.connect_timeout)
            .tcp_nodelay(true)
            .dns_resolver(Arc::new(self.guard.clone()));
        builder = with_proxies(builder, &self.options.proxies)?;
        builder = match kind {
            Kind::Plain => builder.tls_certs_only([]),
            Kind::Unverified => builder
                .tls_certs_only([])
                .tls_danger_accept_invalid_certs(true),
            Kind::Verified | Kind::Away => {
                builder.tls_certs_merge(certs::extra(&self.options, &self.host)?)
            }
        };
        if matches!(kind, Kind::Verified | Kind::Unverified)
            && let Some(identity) = certs::identity(&self.options, &self.host)?
        {
            builder = builder.identity(identity);
        }
        builder.build().map_err(|source| Error::NoRoots {
            host: self.shown(url),
            source,
        })
    }

    /// Sorts what the HTTP client reports into what happened.
    pub(super) fn failure(&self, url: &Url, doing: &'static str, error: reqwest::Error) -> Error {
        let host = self.shown(url);
        if cause::<Blocked>(&error).is_some() {
            return self.refuses(url, NOT_PUBLIC);
        }
        if let Some(tls) = cause::<rustls::Error>(&error) {
            return tls_failure(host, tls.clone());
        }
        classify(host, doing, error, &self.options)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Verified,
    Unverified,
    /// Another host, to which we show no certificate of ours.
    Away,
}

fn tls_failure(host: String, source: rustls::Error) -> Error {
    match source {
        rustls::Error::InvalidCertificate(_) => Error::Untrusted { host, source },
        rustls::Error::InvalidMessage(_) => Error::NotTls { host },
        source => Error::Handshake { host, source },
    }
}

/// Sorts a failure in which neither the guard nor TLS had a part.
pub(super) fn classify(
    host: String,
    doing: &'static str,
    error: reqwest::Error,
    options: &Options,
) -> Error {
    let source = error.without_url();
    let refused =
        cause::<io::Error>(&source).is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused);
    if refused {
        Error::Refused { host, source }
    } else if source.is_dns() {
        Error::Lookup { host, source }
    } else if source.is_timeout() {
        Error::Timeout {
            host,
            after: options.connect_timeout,
        }
    } else {
        Error::Connection {
            doing,
            host,
            source,
        }
    }
}

/// Finds a `T` among the causes of an error, also inside an `io::Error`, whose `source` skips
/// the error it wraps.
pub(super) fn cause<'a, T: StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn redirects(method: &Method, status: StatusCode) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
        && matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Host and port of a URL.
pub(super) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// rustls asks for a process-wide choice of cryptography; whoever is first makes it.
pub(super) fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn with_proxies(builder: ClientBuilder, proxies: &Proxies) -> Result<ClientBuilder, Error> {
    // Without a system proxy: the environment is read by `cli` only.
    let mut builder = builder.no_proxy();
    let mut list = proxies.no_proxy.clone().unwrap_or_default();
    list.push_str(",localhost,127.0.0.0/8,::1");
    let direct = NoProxy::from_string(&list);
    for (which, address) in [("http", &proxies.http), ("https", &proxies.https)] {
        let Some(address) = address.as_deref().filter(|a| !a.is_empty()) else {
            continue;
        };
        let proxy = match which {
            "http" => Proxy::http(address),
            _ => Proxy::https(address),
        };
        // The cause would show the address, which may hold a password.
        let proxy = proxy.map_err(|_| Error::Proxy { which })?;
        builder = builder.proxy(proxy.no_proxy(direct.clone()));
    }
    Ok(builder)
}

fn proxy_hosts(proxies: &Proxies) -> Vec<String> {
    [&proxies.http, &proxies.https]
        .into_iter()
        .flatten()
        .filter_map(|address| {
            let parsed = Url::parse(address)
                .ok()
                .filter(Url::has_host)
                .or_else(|| Url::parse(&format!("http://{address}")).ok())?;
            parsed.host_str().map(str::to_ascii_lowercase)
        })
        .collect()
}
