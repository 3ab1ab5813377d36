//! Finds CA and client certificates for a registry, where docker and podman look for them.
//!
//! A directory holds `*.crt` (CAs), and pairs `NAME.cert` and `NAME.key` (who we are). It is
//! either given (`--cert-dir`) or one named after `HOST[:PORT]` below the system's directories
//! (containers-certs.d(5)). A file that is there and unusable is an error, never passed over.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use reqwest::{Certificate, Identity};

use super::error::Error;
use super::options::Options;

/// Reads all CAs to be trusted for `host` beside the system's.
pub(super) fn extra(options: &Options, host: &str) -> Result<Vec<Certificate>, Error> {
    let mut files = options.ca_files.clone();
    for dir in directories(options, host) {
        files.extend(listed(&dir, "crt")?);
    }
    let mut out = Vec::new();
    for path in files {
        let pem = read(&path)?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .map_err(|source| Error::Certificate { path, source })?;
        out.extend(certificates);
    }
    Ok(out)
}

/// Reads the client certificate for `host`, if there is one.
pub(super) fn identity(options: &Options, host: &str) -> Result<Option<Identity>, Error> {
    for dir in directories(options, host) {
        let Some(path) = listed(&dir, "cert")?.into_iter().next() else {
            continue;
        };
        let mut pem = read(&path)?;
        pem.push(b'\n');
        pem.extend(read(&path.with_extension("key"))?);
        return match Identity::from_pem(&pem) {
            Ok(identity) => Ok(Some(identity)),
            Err(source) => Err(Error::Certificate { path, source }),
        };
    }
    Ok(None)
}

fn directories(options: &Options, host: &str) -> Vec<PathBuf> {
    if let Some(dir) = &options.cert_dir {
        return vec![dir.clone()];
    }
    // A host of a parsed name or URL: it holds no slash and is not `..`.
    if host.is_empty() || host.contains('/') || host.starts_with('.') {
        return Vec::new();
    }
    options
        .cert_roots
        .iter()
        .map(|root| root.join(host))
        .collect()
}

/// Lists the files of `dir` with this extension, by name. A directory that is not there is empty.
fn listed(dir: &Path, extension: &str) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |source| Error::File {
        doing: "list certificates in",
        path: dir.to_owned(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(source) => return Err(unreadable(source)),
    };
    let mut out = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|e| e == extension) {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::File {
        doing: "read",
        path: path.to_owned(),
        source,
    })
}
