//! Images in and out of archives: OCI layouts as directory or tar, and what `docker save` writes.
//!
//! Reading goes by the files an archive has, not by what it is called: `oci-layout` makes it an
//! OCI layout, `manifest.json` alone an older docker archive. Names inside are only ever looked up
//! in the archive's own index, or below its directory without leaving it; nothing on the host is
//! opened by them. Every digest and diff id is verified while the bytes stream into the store, so
//! memory stays flat; an archive that is compressed, or comes through a pipe, is spooled to
//! scratch space first, because its index stands at the end.

mod artifact;
mod bare;
mod docker;
mod layout;
mod oci;
mod source;
mod take;
mod write;

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use super::Store;
use super::error::{ArchiveFlaw, Error};
use super::images::Image;
use crate::event::Sink;
use crate::image::{Attestation, Descriptor, Digest, Index, Raw, Reference};

pub use artifact::Artifact;
pub use layout::{Layout, Loose, drop_unreferenced, write_loose};
use source::{DirSource, Source, TarSource};

/// An image to be written, with the names it gets in the archive.
#[derive(Debug, Clone)]
pub struct Named<'a> {
    /// The image.
    pub image: &'a Image,
    /// What is stated about it. Docker's own form has no place for that.
    pub attestations: &'a [Attestation],
    /// Its names.
    pub names: Vec<Reference>,
}

/// What is written as it is: images in their final form, and what names them.
#[derive(Debug, Clone, Copy)]
pub struct Whole<'a> {
    /// The images.
    pub images: &'a [Image],
    /// What is stated about them; the index names it.
    pub attestations: &'a [Attestation],
    /// The index over them, where there is one.
    pub index: Option<&'a Raw<Index>>,
    /// What the names lead to: the index, or the only image.
    pub descriptor: &'a Descriptor,
    /// The names.
    pub names: &'a [Reference],
    /// Whether an archive lists its images as docker's does, too.
    pub for_docker: bool,
}

/// Which images of an archive are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick<'a> {
    /// All.
    All,
    /// The only one; an error when there are several.
    Only,
    /// The one with this tag or name, as `org.opencontainers.image.ref.name` or a full name.
    Named(&'a str),
    /// The one with this digest.
    Digest(&'a Digest),
}

/// An image that was read from an archive and lies in the store now, without a name and not yet
/// permanent ([`Store::sync`]).
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its manifest, or an index over manifests.
    pub target: Descriptor,
    /// The names the archive gives it.
    pub names: Vec<Reference>,
    /// Its tag in the layout, which need not be a name.
    pub ref_name: Option<String>,
}

/// Reads images from an OCI layout directory (image-spec, image-layout.md).
pub fn read_layout(
    store: &Store,
    dir: &Path,
    pick: Pick<'_>,
    sink: &dyn Sink,
) -> Result<Vec<Loaded>, Error> {
    let _work = store.work()?;
    let source = DirSource::open(dir)?;
    read(store, &source, pick, sink)
}

/// Reads images from an archive file, plain or compressed, of any layout.
pub fn read_archive(
    store: &Store,
    file: &Path,
    pick: Pick<'_>,
    sink: &dyn Sink,
) -> Result<Vec<Loaded>, Error> {
    let _work = store.work()?;
    let opened = File::open(file).map_err(|e| Error::io("open", file, e))?;
    let source = TarSource::of_file(store, opened, file)?;
    read(store, &source, pick, sink)
}

/// Reads images from an archive that was opened already; `name` is what errors call it.
pub fn read_opened(
    store: &Store,
    opened: File,
    name: &Path,
    pick: Pick<'_>,
    sink: &dyn Sink,
) -> Result<Vec<Loaded>, Error> {
    let _work = store.work()?;
    let source = TarSource::of_file(store, opened, name)?;
    read(store, &source, pick, sink)
}

/// Reads the image of a directory that skopeo's `dir:` or [`write_bare_dir`] wrote.
pub fn read_bare_dir(store: &Store, dir: &Path, sink: &dyn Sink) -> Result<Loaded, Error> {
    let _work = store.work()?;
    bare::read(store, dir, sink)
}

/// Writes one image into such a directory, which is made when it is missing and else must hold
/// nothing but an image, which goes. Layers that were never compressed are, with gzip. Returns the
/// digest of the manifest.
pub fn write_bare_dir(
    store: &Store,
    image: &Image,
    dir: &Path,
    sink: &dyn Sink,
) -> Result<Digest, Error> {
    let image = store.recompress(image, None, None, sink)?;
    bare::write(store, &image, dir)?;
    Ok(image.manifest.digest().clone())
}

/// Reads images from an archive that comes as a stream; `name` is what errors call it.
pub fn read_stream(
    store: &Store,
    from: impl Read + Send + 'static,
    name: &Path,
    pick: Pick<'_>,
    sink: &dyn Sink,
) -> Result<Vec<Loaded>, Error> {
    let _work = store.work()?;
    let source = TarSource::of_stream(store, from, name)?;
    read(store, &source, pick, sink)
}

fn read(
    store: &Store,
    source: &dyn Source,
    pick: Pick<'_>,
    sink: &dyn Sink,
) -> Result<Vec<Loaded>, Error> {
    if source.find("oci-layout")?.is_some() && source.find("index.json")?.is_some() {
        oci::read(store, source, pick, sink)
    } else if source.find("manifest.json")?.is_some() {
        docker::read(store, source, pick, sink)
    } else {
        Err(source.flaw(ArchiveFlaw::NoLayout))
    }
}

/// Writes images into an OCI layout directory, which is made when it is missing. Images that are
/// there already stay, and lose the names that the new ones get. Layers that were never
/// compressed are, with gzip.
pub fn write_oci_layout(
    store: &Store,
    images: &[Named<'_>],
    dir: &Path,
    sink: &dyn Sink,
) -> Result<(), Error> {
    let entries = write::entries(store, images, sink)?;
    write::layout_dir(store, &entries, dir)
}

/// Writes one image, with what is stated about it, into an OCI layout directory under a tag that
/// need not be a name. Returns what the tag leads to.
pub fn write_oci_layout_as(
    store: &Store,
    image: &Image,
    attestations: &[Attestation],
    ref_name: Option<&str>,
    dir: &Path,
    sink: &dyn Sink,
) -> Result<Digest, Error> {
    let (entry, digest) = write::entry_as(store, image, attestations, ref_name, sink)?;
    write::layout_dir(store, &[entry], dir)?;
    Ok(digest)
}

/// Writes images as a tar of an OCI layout. Layers that were never compressed are, with gzip.
pub fn write_oci_archive(
    store: &Store,
    images: &[Named<'_>],
    out: &mut dyn Write,
    sink: &dyn Sink,
) -> Result<(), Error> {
    let entries = write::entries(store, images, sink)?;
    write::oci_tar(store, &entries, out)
}

/// Writes images and their index into an OCI layout directory, as [`write_oci_layout`] does.
pub fn write_whole_layout(store: &Store, whole: &Whole<'_>, dir: &Path) -> Result<(), Error> {
    write::layout_dir(store, &[write::whole(whole)], dir)
}

/// Writes images and their index as a tar of an OCI layout.
pub fn write_whole_archive(
    store: &Store,
    whole: &Whole<'_>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    write::oci_tar(store, &[write::whole(whole)], out)
}

/// Writes one image as [`write_oci_layout_as`] does, as a tar of an OCI layout.
pub fn write_oci_archive_as(
    store: &Store,
    image: &Image,
    attestations: &[Attestation],
    ref_name: Option<&str>,
    out: &mut dyn Write,
    sink: &dyn Sink,
) -> Result<Digest, Error> {
    let (entry, digest) = write::entry_as(store, image, attestations, ref_name, sink)?;
    write::oci_tar(store, &[entry], out)?;
    Ok(digest)
}

/// Writes images as `docker save` does: plain layers, readable by `docker load` of any age and
/// as an OCI layout. The bytes depend on the images alone.
pub fn write_docker_archive(
    store: &Store,
    images: &[Named<'_>],
    out: &mut dyn Write,
    _sink: &dyn Sink,
) -> Result<(), Error> {
    let _work = store.work()?;
    let entries = write::docker_entries(store, images)?;
    write::oci_tar(store, &entries, out)
}

/// Returns the image with plain layers only. A layer that nobody has unpacked yet is read through
/// once, because its size must stand before it.
pub fn plain_image(store: &Store, image: &Image) -> Result<Image, Error> {
    let _work = store.work()?;
    write::plain_image(store, image)
}
