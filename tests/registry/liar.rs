//! A web server that says what a test wants it to say, true or not.
//!
//! One thread a connection, one request at a time. The handler answers with raw bytes, so that
//! broken answers can be made; every request is kept for the test to look at.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::Certs;

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path.split('?').next() == Some(path)
    }
}

/// An answer: bytes to send, and whether the connection ends after them.
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) close: bool,
    /// Sent again and again after `bytes`, until the other side has enough.
    pub(crate) forever: Option<Vec<u8>>,
}

/// A whole and correct answer.
pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    raw([head.as_bytes(), b"\r\n", body].concat())
}

/// Exactly these bytes; the connection stays open.
pub(crate) fn raw(bytes: Vec<u8>) -> Reply {
    Reply {
        bytes,
        close: false,
        forever: None,
    }
}

impl Reply {
    /// Sends only the first `keep` bytes of the body and hangs up.
    pub(crate) fn cut(mut self, keep: usize) -> Self {
        let head = self
            .bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .unwrap()
            + 4;
        self.bytes.truncate(head + keep);
        self.close = true;
        self
    }
}

type Handler = dyn Fn(&Asked) -> Reply + Send + Sync;

/// The server.
pub(crate) struct Liar {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Liar {
    pub(crate) fn new(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(None, handler)
    }

    /// Speaks TLS with the certificate of `certs`.
    pub(crate) fn tls(
        certs: &Certs,
        handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let chain = CertificateDer::pem_file_iter(certs.cert()).unwrap();
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(certs.key()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Self::start(Some(Arc::new(config)), handler)
    }

    fn start(
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, handler): (_, Arc<Handler>) = (Arc::clone(&asked), Arc::new(handler));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, handler) = (Arc::clone(&kept), Arc::clone(&handler));
                let tls = tls.clone();
                std::thread::spawn(move || {
                    let other = stream.try_clone().unwrap();
                    let _ = match tls {
                        Some(config) => {
                            let session = ServerConnection::new(config).unwrap();
                            serve(StreamOwned::new(session, stream), &kept, &*handler)
                        }
                        None => serve(stream, &kept, &*handler),
                    };
                    let _ = other.shutdown(Shutdown::Both);
                });
            }
        });
        Self { port, asked }
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.asked().iter().filter(|a| a.is(method, path)).count()
    }
}

fn serve<S: Read + Write>(
    stream: S,
    kept: &Mutex<Vec<Asked>>,
    handler: &Handler,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(asked) = read_request(&mut stream)? else {
            return Ok(());
        };
        kept.lock().unwrap().push(asked.clone());
        let reply = handler(&asked);
        let out = stream.get_mut();
        out.write_all(&reply.bytes)?;
        out.flush()?;
        if let Some(more) = &reply.forever {
            // Far beyond every limit, and still an end: a client without a limit would get there.
            for _ in 0..(64 << 20) / more.len() {
                out.write_all(more)?;
            }
        }
        if reply.close || reply.forever.is_some() {
            return Ok(());
        }
    }
}

fn read_request(stream: &mut impl BufRead) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut asked = Asked {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        ..Asked::default()
    };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        asked
            .headers
            .push((name.to_owned(), value.trim().to_owned()));
    }
    let length = asked.header("content-length").and_then(|n| n.parse().ok());
    asked.body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut asked.body)?;
    Ok(Some(asked))
}
