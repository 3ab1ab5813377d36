//! What the tests of this room share: a store that goes away, tars and images made on the spot.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Image, LayerRef, Options, Scratch, Store};
use crate::event::{Event, Sink};
use crate::image::{
    Compression, Config, Descriptor, DiffId, Digest, History, Manifest, Platform, Raw, media,
    validate,
};
use crate::layer::{self, Changes, EncodeOptions};

/// A directory that goes with the value.
pub(super) struct Temp(pub(super) PathBuf);

impl Temp {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cooper-store-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Opens the store in it, a new handle each time.
    pub(super) fn store(&self) -> Store {
        Store::open(&self.0.join("store"), options()).unwrap()
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        super::disk::remove_tree(&self.0).unwrap();
    }
}

/// Options that work for whoever runs the tests.
pub(super) fn options() -> Options {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    Options {
        user_xattr: !(whole && rustix::process::geteuid().is_root()),
        ..Options::default()
    }
}

/// An entry of a tar in the making.
pub(super) enum Item<'a> {
    Dir(&'a str, u32),
    File(&'a str, &'a [u8]),
    Link(&'a str, &'a str),
}

/// Makes a tar with the owner of the test's files, so that any user can unpack it.
pub(super) fn tar(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for item in [Item::Dir("./", 0o755)].iter().chain(items) {
        let mut header = tar::Header::new_ustar();
        header.set_mtime(1_000_000_000);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_mode(0o644);
        header.set_size(0);
        match item {
            Item::Dir(path, mode) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                builder
                    .append_data(&mut header, path, std::io::empty())
                    .unwrap();
            }
            Item::File(path, bytes) => {
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, path, *bytes).unwrap();
            }
            Item::Link(path, target) => {
                header.set_entry_type(tar::EntryType::Link);
                builder.append_link(&mut header, path, target).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

pub(super) fn diff_id(tar: &[u8]) -> DiffId {
    DiffId(Digest::of(tar))
}

/// A layer as a registry gives it: gzip, with both digests.
pub(super) fn packed(tar: &[u8]) -> (LayerRef, Vec<u8>) {
    let bytes = gzip(tar);
    let descriptor = Descriptor::new(media::LAYER_GZIP, Digest::of(&bytes), bytes.len() as u64);
    let layer = LayerRef {
        diff_id: diff_id(tar),
        descriptor,
    };
    (layer, bytes)
}

/// Puts a gzip layer into the store.
pub(super) fn put_layer(store: &Store, tar: &[u8]) -> LayerRef {
    let (layer, bytes) = packed(tar);
    store.put(&bytes).unwrap();
    layer
}

/// Keeps the directory `upper` of `scratch`, which holds `changes`, as a build does with an upper dir.
pub(super) fn adopt_upper(store: &Store, scratch: &Scratch, changes: &Changes) -> LayerRef {
    let mut bytes = Vec::new();
    let size = layer::encode(changes, &EncodeOptions::default(), &mut bytes).unwrap();
    let diff_id = diff_id(&bytes);
    store
        .adopt_upper(scratch, "upper", &diff_id, size, changes)
        .unwrap();
    let descriptor = Descriptor::new(media::LAYER, diff_id.0.clone(), size);
    LayerRef {
        diff_id,
        descriptor,
    }
}

/// Puts an image of these layers into the store. `mark` makes its config another.
pub(super) fn put_image(store: &Store, layers: &[LayerRef], mark: &str) -> Image {
    put_image_for(store, layers, mark, &Platform::host())
}

pub(super) fn put_image_for(
    store: &Store,
    layers: &[LayerRef],
    mark: &str,
    platform: &Platform,
) -> Image {
    let mut config = Config::empty(platform);
    config.author = Some(mark.to_owned());
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    config.history = layers.iter().map(|_| History::default()).collect();
    let config = Raw::of(config);
    let layers = layers.iter().map(|layer| layer.descriptor.clone());
    let manifest = Manifest::oci(config.descriptor(media::CONFIG), layers.collect());
    store.put_image(&Raw::of(manifest), &config).unwrap()
}

/// Holds an image against the strict reader.
pub(super) fn check(store: &Store, image: &Image) {
    let inflate = |compression: Compression, stream: Box<dyn Read + Send>| {
        let format = match compression {
            Compression::None => layer::Format::Plain,
            Compression::Gzip | Compression::Estargz => layer::Format::Gzip,
            Compression::Zstd => layer::Format::Zstd,
        };
        Ok(layer::decompress(format, stream))
    };
    validate(image.manifest.value(), &image.config, store, &inflate).unwrap();
}

/// Returns every file below `dir` by its relative path, sorted.
pub(super) fn files(dir: &Path) -> Vec<String> {
    fn walk(top: &Path, dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(top, &path, found);
            } else {
                found.push(path.strip_prefix(top).unwrap().display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.sort();
    found
}

/// Keeps what it is told, as text.
#[derive(Default)]
pub(super) struct Heard(pub(super) Mutex<Vec<String>>);

impl Sink for Heard {
    fn emit(&self, event: Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

/// Says why a test did nothing.
pub(super) fn skip(why: &str) {
    eprintln!("skipped: {why}");
}
