//! What the registry tests stand on: a real `docker-registry`, blobs in memory, a directory that
//! cleans up after itself.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cooper::event::{Event, Sink};
use cooper::image::{
    BlobSink, BlobSource, BlobWrite, Config, Descriptor, Digest, Document, Hasher, Manifest,
    Mismatch, Raw, Reference, media,
};
use cooper::registry::{Client, Credentials, Error, Options, Reader, Secret, Version};

/// A directory of its own for one test, removed at its end.
pub(crate) struct Temp(pub(crate) PathBuf);

impl Temp {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cooper-registry-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a program to its good end.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().expect(program);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {errors}");
    String::from_utf8(out.stdout).unwrap()
}

/// A running `docker-registry` on a loopback port.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    dir: Temp,
}

#[derive(Default)]
pub(crate) struct Setup<'a> {
    pub(crate) tls: Option<(&'a Path, &'a Path)>,
    pub(crate) htpasswd: Option<(&'a str, &'a str)>,
}

impl Server {
    pub(crate) fn http() -> Self {
        Self::start(&Setup::default())
    }

    pub(crate) fn start(setup: &Setup<'_>) -> Self {
        for _ in 0..5 {
            if let Some(server) = Self::try_start(setup) {
                return server;
            }
        }
        panic!("docker-registry does not come up");
    }

    fn try_start(setup: &Setup<'_>) -> Option<Self> {
        let dir = Temp::new();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:{port}\n",
            dir.path("data").display()
        );
        if let Some((cert, key)) = setup.tls {
            config += &format!(
                "  tls:\n    certificate: {}\n    key: {}\n",
                cert.display(),
                key.display()
            );
        }
        if let Some((user, password)) = setup.htpasswd {
            let line = run("htpasswd", &["-nbB", user, password]);
            let file = dir.write("htpasswd", &line);
            config += &format!(
                "auth:\n  htpasswd:\n    realm: r\n    path: {}\n",
                file.display()
            );
        }
        let config = dir.write("config.yml", &config);
        let log = fs::File::create(dir.path("log")).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("docker-registry is installed");
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end && child.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Self { child, port, dir });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    /// Where the registry keeps its files.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path("data")
    }

    pub(crate) fn name(&self, rest: &str) -> Reference {
        format!("127.0.0.1:{}/{rest}", self.port).parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Certificates made by openssl: a private CA, and a server certificate that it signed.
pub(crate) struct Certs {
    pub(crate) dir: Temp,
}

impl Certs {
    pub(crate) fn new(names: &str) -> Self {
        Self::with(names, &["-days", "2"])
    }

    pub(crate) fn expired(names: &str) -> Self {
        Self::with(
            names,
            &[
                "-startdate",
                "20200101000000Z",
                "-enddate",
                "20200102000000Z",
            ],
        )
    }

    fn with(names: &str, validity: &[&str]) -> Self {
        let dir = Temp::new();
        let at = |name: &str| dir.path(name).to_str().unwrap().to_owned();
        let new_key = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ];
        let mut ca = vec!["req", "-x509", "-days", "2", "-subj", "/CN=test CA"];
        let (ca_key, ca_crt) = (at("ca.key"), at("ca.crt"));
        ca.extend(new_key);
        ca.extend(["-keyout", &ca_key, "-out", &ca_crt]);
        run("openssl", &ca);
        let (key, request, crt) = (at("server.key"), at("request"), at("server.pem"));
        let mut server = vec!["req", "-new", "-subj", "/CN=server"];
        server.extend(new_key);
        server.extend(["-keyout", &key, "-out", &request]);
        run("openssl", &server);
        // `openssl ca` alone can date a certificate into the past.
        let config = format!(
            "[ca]\ndefault_ca = own\n[own]\nnew_certs_dir = {0}\ndatabase = {0}/index\n\
             serial = {0}/serial\nprivate_key = {1}\ncertificate = {2}\n\
             default_md = sha256\npolicy = any\nx509_extensions = server\n\
             [any]\ncommonName = supplied\n[server]\nsubjectAltName = {names}\n\
             basicConstraints = critical,CA:FALSE\n",
            dir.0.display(),
            ca_key,
            ca_crt
        );
        dir.write("index", "");
        dir.write("serial", "01\n");
        let config = dir.write("ca.cnf", &config);
        let config = config.to_str().unwrap();
        let mut sign = vec!["ca", "-batch", "-notext", "-config", config];
        sign.extend(validity);
        sign.extend(["-in", &request, "-out", &crt]);
        run("openssl", &sign);
        Self { dir }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path("ca.crt")
    }

    pub(crate) fn cert(&self) -> PathBuf {
        self.dir.path("server.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.dir.path("server.key")
    }

    pub(crate) fn serve(&self) -> Server {
        Server::start(&Setup {
            tls: Some((&self.cert(), &self.key())),
            htpasswd: None,
        })
    }
}

/// Blobs in memory, checked as the store checks them.
#[derive(Default, Clone)]
pub(crate) struct Blobs(pub(crate) Arc<Mutex<HashMap<Digest, Vec<u8>>>>);

impl Blobs {
    pub(crate) fn add(&self, bytes: &[u8]) -> Descriptor {
        let digest = Digest::of(bytes);
        self.0
            .lock()
            .unwrap()
            .insert(digest.clone(), bytes.to_vec());
        Descriptor::new(media::LAYER_GZIP, digest, bytes.len() as u64)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl BlobSource for Blobs {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        let bytes = self.0.lock().unwrap().get(&blob.digest).cloned();
        let bytes = bytes.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(bytes)))
    }
}

impl BlobSink for Blobs {
    fn has(&self, digest: &Digest) -> io::Result<bool> {
        Ok(self.0.lock().unwrap().contains_key(digest))
    }

    fn begin(&self, blob: &Descriptor) -> io::Result<Box<dyn BlobWrite + Send>> {
        Ok(Box::new(Incoming {
            want: blob.clone(),
            bytes: Vec::new(),
            hasher: Hasher::new(),
            into: self.clone(),
        }))
    }
}

struct Incoming {
    want: Descriptor,
    bytes: Vec<u8>,
    hasher: Hasher,
    into: Blobs,
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWrite for Incoming {
    fn finish(self: Box<Self>) -> io::Result<()> {
        let size = self.hasher.size();
        let got = self.hasher.finish();
        if got != self.want.digest || size != self.want.size {
            let want = self.want.digest;
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                Mismatch { want, got, size },
            ));
        }
        self.into.0.lock().unwrap().insert(got, self.bytes);
        Ok(())
    }
}

/// Keeps events as short texts.
#[derive(Debug, Default)]
pub(crate) struct Heard(pub(crate) Mutex<Vec<String>>);

impl Heard {
    pub(crate) fn count(&self, what: &str) -> usize {
        let heard = self.0.lock().unwrap();
        heard.iter().filter(|text| text.starts_with(what)).count()
    }
}

impl Sink for Heard {
    fn emit(&self, event: Event<'_>) {
        let text = match event {
            Event::BlobMoved { done, total, .. } => format!("moved {done} of {total:?}"),
            Event::BlobKnown { .. } => "known".to_owned(),
            Event::BlobDone { .. } => "done".to_owned(),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(text);
    }
}

/// Options that do not look at this machine and do not wait long.
pub(crate) fn options() -> Options {
    Options {
        cert_roots: Vec::new(),
        attempts: 3,
        backoff: Duration::from_millis(5),
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
        ..Options::default()
    }
}

pub(crate) fn login(user: &str, password: &str) -> Credentials {
    Credentials::Password {
        username: user.to_owned(),
        password: Secret::new(password),
    }
}

/// Waits for a future of the library.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, future).await.expect("it hangs")
    })
}

/// Bytes that do not repeat and are the same each time.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// An image: its blobs, and the manifest over them.
pub(crate) fn image(blobs: &Blobs, layers: &[Vec<u8>]) -> (Vec<Descriptor>, Document) {
    let layers: Vec<Descriptor> = layers.iter().map(|layer| blobs.add(layer)).collect();
    let text = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let config = Raw::<Config>::parse("config", text.into()).unwrap();
    let mut descriptor = blobs.add(config.bytes());
    descriptor.media_type = media::CONFIG.to_owned();
    let manifest = Raw::of(Manifest::oci(descriptor.clone(), layers.clone()));
    let mut all = layers;
    all.push(descriptor);
    (all, Document::Manifest(manifest))
}

/// Pushes blobs and manifest under the name.
pub(crate) async fn push(
    client: &Client,
    name: &Reference,
    blobs: &Blobs,
    all: &[Descriptor],
    document: &Document,
    sink: &dyn Sink,
) -> Result<Digest, Error> {
    let repository = client.writer(name, &[]).unwrap();
    repository.send_all(all, blobs, sink).await?;
    repository.put_document(Version::of(name), document).await
}

/// Pulls manifest and all blobs of the name.
pub(crate) async fn pull(
    reader: &Reader,
    name: &Reference,
    into: &Blobs,
    sink: &dyn Sink,
) -> Result<Document, Error> {
    let document = reader.document(Version::of(name)).await?;
    if let Document::Manifest(raw) = &document {
        let mut all = raw.value().layers.clone();
        all.push(raw.value().config.clone());
        reader.fetch_all(&all, into, sink).await?;
    }
    Ok(document)
}
