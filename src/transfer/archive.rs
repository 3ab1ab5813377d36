//! Images from and to files: OCI layouts, tars of them, and docker's own tars.
//!
//! The forms are the store's; here a place becomes calls to it. A file is written beside its
//! final name and renamed, so that a broken export leaves nothing.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
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
    Ok(image)
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
    let image = store.recompress(image, wanted, options.level, sink)?;
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
