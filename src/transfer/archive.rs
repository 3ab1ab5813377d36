//! Images from and to files: OCI layouts, tars of them, docker's own tars, which its daemon takes
//! and gives, too, and bare directories.
//!
//! The forms are the store's; here a place becomes calls to it. A file is written beside its
//! final name and renamed, so that a broken export leaves nothing.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use crate::event::Sink;
use crate::image::{Attestation, Compression, Digest, Reference};
use crate::store::{self, Image, Store, archive};

use super::error::Error;
use super::options::{Options, PushOptions};
use super::place::{Pick, Place};

/// Reads the image at `from` into the store, with the names it has there.
pub(super) fn read(
    store: &Store,
    from: &Place,
    options: &Options,
    sink: &dyn Sink,
) -> Result<Image, Error> {
    let loaded = match from {
        Place::Oci(dir, pick) => archive::read_layout(store, dir, picked(pick), sink)?,
        Place::OciArchive(file, pick) => archive::read_archive(store, file, picked(pick), sink)?,
        Place::DockerArchive(file, name) => {
            let name = name.as_ref().map(Reference::full);
            let pick = name
                .as_deref()
                .map_or(archive::Pick::Only, archive::Pick::Named);
            archive::read_archive(store, file, pick, sink)?
        }
        Place::DockerDaemon(name) => from_daemon(store, from, name, options, sink)?,
        Place::Dir(dir) => vec![archive::read_bare_dir(store, dir, sink)?],
        Place::Registry(name) => {
            return super::pull::fetch_image(store, name, options, sink);
        }
    };
    let Some(first) = loaded.first() else {
        return Err(Error::Empty {
            place: from.to_string(),
        });
    };
    let image = store.image(&first.target.digest, &options.platform())?;
    for name in &first.names {
        store.tag(name, &first.target)?;
    }
    store.sync()?;
    Ok(image)
}

/// Has docker's daemon write its archive to scratch space, and reads that.
fn from_daemon(
    store: &Store,
    from: &Place,
    name: &Reference,
    options: &Options,
    sink: &dyn Sink,
) -> Result<Vec<archive::Loaded>, Error> {
    let spool = Spool::new(store)?;
    let name = name.full();
    let saving = options.network.daemon();
    options.network.wait(saving.save(&name, spool.again()?))?;
    let pick = archive::Pick::Named(&name);
    let path = PathBuf::from(from.to_string());
    Ok(archive::read_opened(
        store,
        spool.again()?,
        &path,
        pick,
        sink,
    )?)
}

/// Hands docker's daemon an archive by way of scratch space, since it wants to know the size.
fn to_daemon(
    store: &Store,
    image: &Image,
    name: &Reference,
    options: &PushOptions,
    sink: &dyn Sink,
) -> Result<(), Error> {
    let named = [archive::Named {
        image,
        attestations: &[],
        names: vec![name.clone()],
    }];
    let spool = Spool::new(store)?;
    let mut out = BufWriter::with_capacity(1 << 20, spool.again()?);
    archive::write_docker_archive(store, &named, &mut out, sink)?;
    out.flush().map_err(spool_failed("write"))?;
    drop(out);
    let file = spool.again()?;
    let size = file.metadata().map_err(spool_failed("look into"))?.len();
    let network = &options.transfer.network;
    network.wait(network.daemon().load(file, size))
}

/// A file without a name in scratch space.
struct Spool {
    file: File,
    _scratch: store::Scratch,
}

impl Spool {
    fn new(store: &Store) -> Result<Self, Error> {
        let scratch = store.scratch()?;
        let file = scratch.file().map_err(spool_failed("make"))?;
        Ok(Self {
            file,
            _scratch: scratch,
        })
    }

    /// The file, to be read or written from its beginning.
    fn again(&self) -> Result<File, Error> {
        let mut file = self.file.try_clone().map_err(spool_failed("open"))?;
        file.rewind().map_err(spool_failed("open"))?;
        Ok(file)
    }
}

fn spool_failed(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File {
        doing,
        path: PathBuf::from("the spooled archive"),
        source,
    }
}

fn picked(pick: &Pick) -> archive::Pick<'_> {
    match pick {
        Pick::Only => archive::Pick::Only,
        Pick::Named(name) => archive::Pick::Named(name),
        Pick::Digest(digest) => archive::Pick::Digest(digest),
    }
}

/// Writes `image`, and where there is a place for it what is stated about it, to the archive or
/// layout `to`. Returns the digest of what is there now.
pub(super) fn write(
    store: &Store,
    image: &Image,
    attestations: &[Attestation],
    to: &Place,
    options: &PushOptions,
    sink: &dyn Sink,
) -> Result<Digest, Error> {
    // Layers that were never compressed are, by the archive's own rule.
    let wanted = options.compression.filter(|&c| c != Compression::None);
    let image = match wanted {
        Some(Compression::Estargz) => store.estargz(image, options.level, true, sink)?,
        _ => store.recompress(image, wanted, options.level, sink)?,
    };
    match to {
        Place::Oci(dir, pick) => {
            let tag = tag(to, pick)?;
            let write = archive::write_oci_layout_as;
            Ok(write(store, &image, attestations, tag, dir, sink)?)
        }
        Place::OciArchive(file, pick) => {
            let tag = tag(to, pick)?;
            let write = archive::write_oci_archive_as;
            whole(file, |out| {
                write(store, &image, attestations, tag, out, sink)
            })
        }
        Place::DockerArchive(file, name) => {
            let names = name.iter().cloned().collect();
            let named = [archive::Named {
                image: &image,
                attestations: &[],
                names,
            }];
            whole(file, |out| {
                archive::write_docker_archive(store, &named, out, sink)
            })?;
            Ok(image.manifest.digest().clone())
        }
        Place::DockerDaemon(name) => {
            to_daemon(store, &image, name, options, sink)?;
            Ok(image.manifest.digest().clone())
        }
        Place::Dir(dir) => Ok(archive::write_bare_dir(store, &image, dir, sink)?),
        Place::Registry(name) => {
            super::push::push_together(store, &image, attestations, name, options, sink)
        }
    }
}

fn tag<'a>(to: &Place, pick: &'a Pick) -> Result<Option<&'a str>, Error> {
    match pick {
        Pick::Only => Ok(None),
        Pick::Named(name) => Ok(Some(name)),
        Pick::Digest(_) => Err(Error::ByDigest {
            place: to.to_string(),
        }),
    }
}

/// Writes a file that is under its name only when it is whole.
fn whole<T>(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<T, store::Error>,
) -> Result<T, Error> {
    let failed = |source: io::Error| Error::File {
        doing: "write",
        path: path.to_owned(),
        source,
    };
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let temp = Temp(path.with_file_name(name));
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&temp.0).map_err(failed)?);
    let filled = fill(&mut out)?;
    out.flush().map_err(failed)?;
    fs::rename(&temp.0, path).map_err(failed)?;
    Ok(filled)
}

/// A file that goes unless it was renamed.
struct Temp(PathBuf);

impl Drop for Temp {
    fn drop(&mut self) {
        // After the rename there is nothing under this name.
        let _ = fs::remove_file(&self.0);
    }
}
