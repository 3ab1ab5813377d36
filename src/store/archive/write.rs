//! Writes layouts and archives. What is written depends on the images alone: times are 0, owners
//! 0:0, the order is fixed and each blob stands once.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::event::Sink;
use crate::image::{
    Attestation, Descriptor, Digest, Hashing, Index, MAX_MANIFEST, Raw, Reference, media,
};

use super::super::Store;
use super::super::attestations::index_over;
use super::super::disk;
use super::super::error::{ArchiveFlaw, Error};
use super::super::images::{self, Image, LayerRef};
use super::oci::{IMAGE_NAME, REF_NAME};
use super::take::path_of;
use super::{Loose, Named, Whole};

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// What is written, in the form it is written in, and its entries in the layout.
pub(super) struct Entry {
    images: Vec<Image>,
    /// Layers of no image.
    layers: Vec<LayerRef>,
    /// Documents besides those of the images.
    documents: Vec<Vec<u8>>,
    index: Vec<Descriptor>,
    /// What docker's list in an archive says of the image.
    listed: Option<Listed>,
}

impl Entry {
    /// An image and what is stated about it, with `name` making the entries of what the two are.
    fn of(
        image: Image,
        attestations: &[Attestation],
        name: impl FnOnce(Descriptor) -> Vec<Descriptor>,
    ) -> Self {
        let bare = described(&image);
        let about = |attestation: &Attestation| attestation.clone().about(&image.descriptor());
        let attestations: Vec<Attestation> = attestations.iter().map(about).collect();
        let over = (!attestations.is_empty()).then(|| index_over(bare.clone(), &attestations));
        let documents = documents(&attestations, over.as_ref());
        let index = match &over {
            Some(over) => name(over.descriptor(media::INDEX)),
            None => name(bare),
        };
        Self {
            images: vec![image],
            layers: Vec::new(),
            documents,
            index,
            listed: None,
        }
    }

    /// Writes all but the entries.
    fn put(&self, files: &mut dyn Files, store: &Store) -> Result<(), Error> {
        for image in &self.images {
            put_image(files, store, image)?;
        }
        put_layers(files, store, &self.layers)?;
        for document in &self.documents {
            let name = path_of(&Digest::of(document));
            if !files.has(&name) {
                put_bytes(files, &name, document)?;
            }
        }
        Ok(())
    }
}

/// All documents of attestations, and the index that names them.
fn documents(attestations: &[Attestation], index: Option<&Raw<Index>>) -> Vec<Vec<u8>> {
    let stated = attestations.iter().flat_map(Attestation::documents);
    let all = stated.chain(index.map(Raw::bytes));
    all.map(<[u8]>::to_vec).collect()
}

/// Takes images as they are.
pub(super) fn whole(whole: &Whole<'_>) -> Entry {
    let documents = documents(whole.attestations, whole.index);
    let listed = whole.images.first().filter(|_| whole.for_docker);
    Entry {
        images: whole.images.to_vec(),
        layers: Vec::new(),
        documents,
        index: named(whole.descriptor, whole.names),
        listed: listed.map(|image| Listed::of(image, whole.names)),
    }
}

/// Takes layers and documents that are no image, and what the layout's index says of them.
pub(super) fn loose(loose: &Loose<'_>, entry: Descriptor) -> Entry {
    Entry {
        images: Vec::new(),
        layers: loose.layers.to_vec(),
        documents: loose.documents.iter().map(|d| d.to_vec()).collect(),
        index: vec![entry],
        listed: None,
    }
}

/// Takes layers and documents of an artifact, of which `top` is the one that names the others.
pub(super) fn lone(layers: Vec<LayerRef>, documents: &[&[u8]], top: Descriptor) -> Entry {
    Entry {
        images: Vec::new(),
        layers,
        documents: documents.iter().map(|d| d.to_vec()).collect(),
        index: vec![top],
        listed: None,
    }
}

/// Prepares images for an OCI layout.
pub(super) fn entries(
    store: &Store,
    images: &[Named<'_>],
    sink: &dyn Sink,
) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for named in images {
        let image = store.recompress(named.image, None, None, sink)?;
        let name = |bare| self::named(&bare, &named.names);
        entries.push(Entry::of(image, named.attestations, name));
    }
    Ok(entries)
}

/// Prepares one image for an OCI layout under a tag, and tells what the tag leads to.
pub(super) fn entry_as(
    store: &Store,
    image: &Image,
    attestations: &[Attestation],
    ref_name: Option<&str>,
    sink: &dyn Sink,
) -> Result<(Entry, Digest), Error> {
    let image = store.recompress(image, None, None, sink)?;
    let mut digest = image.manifest.digest().clone();
    let entry = Entry::of(image, attestations, |mut bare| {
        digest = bare.digest.clone();
        let tag = ref_name.map(|tag| (REF_NAME.to_owned(), tag.to_owned()));
        bare.annotations.extend(tag);
        vec![bare]
    });
    Ok((entry, digest))
}

/// Prepares images for what `docker save` writes.
pub(super) fn docker_entries(store: &Store, images: &[Named<'_>]) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for named in images {
        let image = plain_image(store, named.image)?;
        let listed = Listed::of(&image, &named.names);
        let name = |bare| self::named(&bare, &named.names);
        entries.push(Entry {
            listed: Some(listed),
            ..Entry::of(image, &[], name)
        });
    }
    Ok(entries)
}

fn described(image: &Image) -> Descriptor {
    let mut descriptor = image.descriptor();
    descriptor.platform = Some(image.config.value().platform());
    descriptor
}

/// Returns the entries of an image in an index: one for each name, one without when it has none.
fn named(bare: &Descriptor, names: &[Reference]) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![bare.clone()];
    }
    let named = names.iter().map(|name| {
        let tag = name.tag().unwrap_or("latest").to_owned();
        let mut named = bare.clone();
        named.annotations.extend([
            (IMAGE_NAME.to_owned(), name.full()),
            (REF_NAME.to_owned(), tag),
        ]);
        named
    });
    named.collect()
}

/// Where files of a layout go.
pub(super) trait Files {
    /// Returns whether the file is there already.
    fn has(&self, name: &str) -> bool;
    /// Writes a file of exactly `size` bytes, given by `fill`.
    fn put(&mut self, name: &str, size: u64, fill: Fill<'_>) -> Result<(), Error>;
}

pub(super) type Fill<'a> = &'a mut dyn FnMut(&mut dyn Write) -> Result<(), Error>;

/// Writes a small file.
pub(super) fn put_bytes(files: &mut dyn Files, name: &str, bytes: &[u8]) -> Result<(), Error> {
    files.put(name, bytes.len() as u64, &mut |out| {
        out.write_all(bytes).map_err(stopped(name))
    })
}

fn stopped(name: &str) -> impl FnOnce(io::Error) -> Error + use<> {
    let what = name.to_owned();
    move |source| match source.downcast::<Error>() {
        Ok(own) => own,
        Err(source) => Error::Stream {
            doing: "write",
            what,
            source,
        },
    }
}

/// Writes the documents and layers of an image.
fn put_image(files: &mut dyn Files, store: &Store, image: &Image) -> Result<(), Error> {
    put_layers(files, store, &image.layers())?;
    for (digest, bytes) in [
        (image.config.digest(), image.config.bytes()),
        (image.manifest.digest(), image.manifest.bytes()),
    ] {
        let name = path_of(digest);
        if !files.has(&name) {
            put_bytes(files, &name, bytes)?;
        }
    }
    Ok(())
}

/// Writes those layers that are not there yet.
pub(super) fn put_layers(
    files: &mut dyn Files,
    store: &Store,
    layers: &[LayerRef],
) -> Result<(), Error> {
    for layer in layers {
        let name = path_of(&layer.descriptor.digest);
        if !files.has(&name) {
            put_layer(files, store, layer, &name)?;
        }
    }
    Ok(())
}

/// Writes a layer as its descriptor says: its blob, or the plain tar made from another form.
fn put_layer(
    files: &mut dyn Files,
    store: &Store,
    layer: &LayerRef,
    name: &str,
) -> Result<(), Error> {
    let wanted = &layer.descriptor;
    let blob = store.blob(&wanted.digest)?;
    if blob.is_none() && wanted.digest != layer.diff_id.0 {
        return Err(Error::NoBlob {
            digest: wanted.digest.clone(),
        });
    }
    files.put(name, wanted.size, &mut |out| {
        let Some(blob) = &blob else {
            return store.copy_plain(layer, out).map(drop);
        };
        let mut hashing = Hashing::new(store.open_blob(blob)?);
        io::copy(&mut hashing, out).map_err(stopped(name))?;
        let (_, got, size) = hashing.finish();
        if got == wanted.digest {
            return Ok(());
        }
        store.judge(&wanted.digest)?;
        Err(Error::Corrupt(crate::image::Mismatch {
            want: wanted.digest.clone(),
            got,
            size,
        }))
    })
}

/// Writes a layout into a directory, beside what it holds already.
pub(super) fn layout_dir(store: &Store, entries: &[Entry], dir: &Path) -> Result<(), Error> {
    let index = old_index(dir)?;
    write_dir(store, entries, dir, index)
}

/// Writes a layout that holds one entry and nothing else; blobs that are there stay.
pub(super) fn lone_dir(store: &Store, entry: &Entry, dir: &Path) -> Result<(), Error> {
    write_dir(
        store,
        std::slice::from_ref(entry),
        dir,
        Index::oci(Vec::new()),
    )
}

/// What the layout at `dir` holds; nothing where there is none.
fn old_index(dir: &Path) -> Result<Index, Error> {
    let index_path = dir.join("index.json");
    Ok(match disk::read(&index_path)? {
        None => Index::oci(Vec::new()),
        Some(bytes) if bytes.len() as u64 > MAX_MANIFEST => {
            return Err(Error::Archive {
                path: dir.to_owned(),
                flaw: ArchiveFlaw::TooLarge {
                    file: "index.json".to_owned(),
                    size: bytes.len() as u64,
                    limit: MAX_MANIFEST,
                },
            });
        }
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| Error::Archive {
            path: dir.to_owned(),
            flaw: ArchiveFlaw::Json {
                file: "index.json".to_owned(),
                why: e.to_string(),
            },
        })?,
    })
}

fn write_dir(store: &Store, entries: &[Entry], dir: &Path, mut index: Index) -> Result<(), Error> {
    let _work = store.work()?;
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(|e| Error::io("make", &blobs, e))?;
    let mut files = DirFiles::new(dir, str::to_owned);
    for entry in entries {
        entry.put(&mut files, store)?;
        for descriptor in &entry.index {
            let tag = descriptor.annotations.get(REF_NAME);
            let name = descriptor.annotations.get(IMAGE_NAME);
            index.manifests.retain(|old| match tag {
                Some(_) => {
                    old.annotations.get(REF_NAME) != tag
                        || (name.is_some() && old.annotations.get(IMAGE_NAME) != name)
                }
                None => old.digest != descriptor.digest || !old.annotations.is_empty(),
            });
            index.manifests.push(descriptor.clone());
        }
    }
    put_bytes(&mut files, "oci-layout", LAYOUT)?;
    // Last, so that whoever reads meanwhile sees only what is complete.
    put_bytes(&mut files, "index.json", Raw::of(index).bytes())
}

/// Files of a directory.
pub(super) struct DirFiles {
    dir: PathBuf,
    /// What a file of a layout is called in it.
    called: fn(&str) -> String,
}

impl DirFiles {
    /// Files below `dir`, called as `called` says.
    pub(super) fn new(dir: &Path, called: fn(&str) -> String) -> Self {
        Self {
            dir: dir.to_owned(),
            called,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join((self.called)(name))
    }
}

impl Files for DirFiles {
    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    fn put(&mut self, name: &str, _size: u64, fill: Fill<'_>) -> Result<(), Error> {
        let path = self.path(name);
        let mut temp = path.clone().into_os_string();
        temp.push(format!(".{}.part", std::process::id()));
        let temp = super::super::blobs::Temp(temp.into());
        disk::remove_file(&temp.0)?;
        let mut file = File::create_new(&temp.0).map_err(|e| Error::io("make", &temp.0, e))?;
        fill(&mut file).map_err(|e| match e {
            // The file that is being written says more than its name in the layout.
            Error::Stream { source, .. } => Error::io("write", &path, source),
            e => e,
        })?;
        disk::rename(&temp.0, &path)
    }
}

/// Writes a tar of an OCI layout, with docker's list where entries have one.
pub(super) fn oci_tar(store: &Store, entries: &[Entry], out: &mut dyn Write) -> Result<(), Error> {
    let _work = store.work()?;
    let mut files = TarFiles::new(out);
    put_bytes(&mut files, "oci-layout", LAYOUT)?;
    for entry in entries {
        entry.put(&mut files, store)?;
    }
    let all = entries.iter().flat_map(|entry| entry.index.clone());
    let index = Raw::of(Index::oci(all.collect()));
    put_bytes(&mut files, "index.json", index.bytes())?;
    let listed: Vec<&Listed> = entries.iter().filter_map(|e| e.listed.as_ref()).collect();
    if !listed.is_empty() {
        let listed = serde_json::to_vec(&listed).expect("strings are JSON");
        put_bytes(&mut files, "manifest.json", &listed)?;
    }
    files.end()
}

/// One image of docker's `manifest.json`.
#[derive(Serialize)]
struct Listed {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    names: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

impl Listed {
    fn of(image: &Image, names: &[Reference]) -> Self {
        let names: Vec<String> = names.iter().map(Reference::familiar).collect();
        let layers = image.manifest.value().layers.iter();
        Self {
            config: path_of(image.config.digest()),
            names: (!names.is_empty()).then_some(names),
            layers: layers.map(|layer| path_of(&layer.digest)).collect(),
        }
    }
}

/// Returns the image with plain layers only.
pub(super) fn plain_image(store: &Store, image: &Image) -> Result<Image, Error> {
    let mut layers = Vec::new();
    for layer in image.layers() {
        let size = match store.plain_size(&layer.diff_id)? {
            Some(size) => size,
            None => store.copy_plain(&layer, &mut io::sink())?,
        };
        layers.push(Descriptor::new(media::LAYER, layer.diff_id.0, size));
    }
    images::with_layers(image, layers)
}

/// Writes files into a tar.
struct TarFiles<'a> {
    out: &'a mut dyn Write,
    written: HashSet<String>,
}

impl<'a> TarFiles<'a> {
    fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            written: HashSet::new(),
        }
    }

    fn header(&mut self, name: &str, size: u64, kind: tar::EntryType) -> Result<(), Error> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(name).map_err(stopped(name))?;
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes()).map_err(stopped(name))
    }

    fn end(self) -> Result<(), Error> {
        let zeros = [0; 1024];
        let end = self.out.write_all(&zeros).and_then(|()| self.out.flush());
        end.map_err(stopped("the end of the archive"))
    }
}

impl Files for TarFiles<'_> {
    fn has(&self, name: &str) -> bool {
        self.written.contains(name)
    }

    fn put(&mut self, name: &str, size: u64, fill: Fill<'_>) -> Result<(), Error> {
        let mut dir = String::new();
        for part in name.split_inclusive('/').filter(|part| part.ends_with('/')) {
            dir.push_str(part);
            if self.written.insert(dir.clone()) {
                self.header(&dir.clone(), 0, tar::EntryType::Directory)?;
            }
        }
        self.header(name, size, tar::EntryType::Regular)?;
        let mut exact = Exact {
            out: self.out,
            left: size,
        };
        fill(&mut exact)?;
        let left = exact.left;
        if left > 0 {
            let short = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(stopped(name)(short));
        }
        let padding = size.next_multiple_of(512) - size;
        let zeros = [0; 512];
        let padding = usize::try_from(padding).unwrap_or(0);
        self.out
            .write_all(&zeros[..padding])
            .map_err(stopped(name))?;
        self.written.insert(name.to_owned());
        Ok(())
    }
}

/// Lets exactly as many bytes through as the header said.
struct Exact<'a> {
    out: &'a mut dyn Write,
    left: u64,
}

impl Write for Exact<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let n = self.out.write(bytes)?;
        self.left -= n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
