//! What a check of the whole store finds and mends.

use std::path::{Path, PathBuf};

use crate::event::Silent;
use crate::image::{DiffId, Digest, Reference};
use crate::layer::{EncodeOptions, diff, encode};
use crate::store::testing::{Item, Temp, put_image, put_layer, tar};
use crate::store::{Checked, Damage, Image, LayerRef, Store};

/// A store with an image of three layers: one that stands alone, one that implies a parent and
/// links into the first, and one with a whiteout; all of them unpacked.
fn filled(temp: &Temp) -> (Store, Image) {
    let store = temp.store();
    let layers = [
        tar(&[Item::Dir("d/", 0o750), Item::File("d/f", b"one")]),
        tar(&[Item::Link("d/g", "d/f"), Item::File("d/h", b"two")]),
        tar(&[Item::Dir("d/", 0o755), Item::File("d/.wh.f", b"")]),
    ];
    let layers: Vec<LayerRef> = layers.iter().map(|tar| put_layer(&store, tar)).collect();
    let image = put_image(&store, &layers, "whole");
    store.tag(&name("app"), &image.descriptor()).unwrap();
    store.trees(&image.layers(), &Silent).unwrap();
    let keeps = [layers[0].diff_id.0.clone()];
    store
        .records("step")
        .put_keeping("key", b"made", &keeps)
        .unwrap();
    (store, image)
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn spoil(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn blob_path(store: &Store, digest: &Digest) -> PathBuf {
    store.root().join("blobs/sha256").join(digest.hex())
}

fn tree_path(store: &Store, diff_id: &DiffId) -> PathBuf {
    let hex = diff_id.digest().hex();
    store.root().join("trees").join(format!("layer-{hex}"))
}

fn check(store: &Store, repair: bool) -> Vec<Damage> {
    store.fsck(repair, &Silent).unwrap().damage
}

/// Found twice while nothing is repaired, then mended, then gone.
fn finds_and_mends(store: &Store, want: &[Damage]) {
    assert_eq!(check(store, false), want);
    assert_eq!(check(store, true), want);
    assert_eq!(check(store, false), []);
}

#[test]
fn a_whole_store_is_found_whole() {
    let temp = Temp::new();
    let (store, _) = filled(&temp);
    let found = store.fsck(false, &Silent).unwrap();
    let want = Checked {
        damage: Vec::new(),
        blobs: 5,
        trees: 3,
        unproved: 0,
        ..found.clone()
    };
    assert_eq!((found.images, &found), (1, &want));
}

#[test]
fn a_spoilt_layer_blob_is_named_and_fetching_it_again_heals() {
    let temp = Temp::new();
    let (store, image) = filled(&temp);
    let layer = image.layers().remove(0);
    let path = blob_path(&store, &layer.descriptor.digest);
    let whole = std::fs::read(&path).unwrap();
    spoil(&path);
    finds_and_mends(&store, &[Damage::Blob(layer.descriptor.digest.clone())]);
    assert!(!path.exists());
    store.put(&whole).unwrap();
    assert_eq!(check(&store, false), []);
}

#[test]
fn a_changed_tree_is_dropped_and_made_again_from_its_blob() {
    let temp = Temp::new();
    let (store, image) = filled(&temp);
    let first = image.layers().remove(0).diff_id;
    let file = tree_path(&store, &first).join("d/f");
    spoil(&file);
    finds_and_mends(&store, &[Damage::Tree(first)]);
    store.trees(&image.layers(), &Silent).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"one");
}

#[test]
fn a_tree_made_here_is_proved_by_its_own_encoding_and_lost_with_its_image() {
    let temp = Temp::new();
    let store = temp.store();
    let scratch = store.scratch().unwrap();
    let tree = std::sync::Arc::new(scratch.dir("tree").unwrap());
    std::fs::write(scratch.path().join("tree/f"), b"made here").unwrap();
    let changes = diff(&tree, None, store.marks()).unwrap();
    let mut bytes = Vec::new();
    encode(&changes, &EncodeOptions::default(), &mut bytes).unwrap();
    let diff_id = DiffId(Digest::of(&bytes));
    let size = bytes.len() as u64;
    store.adopt_tree(&scratch, "tree", &diff_id, size).unwrap();
    let descriptor =
        crate::image::Descriptor::new(crate::image::media::LAYER, diff_id.0.clone(), size);
    let layer = LayerRef {
        diff_id: diff_id.clone(),
        descriptor,
    };
    let image = put_image(&store, &[layer], "own");
    store.tag(&name("own"), &image.descriptor()).unwrap();
    assert_eq!(check(&store, false), []);
    spoil(&tree_path(&store, &diff_id).join("f"));
    let tree = Damage::Tree(diff_id.clone());
    assert_eq!(check(&store, false), std::slice::from_ref(&tree));
    let lost = Damage::Layer {
        image: image.id(),
        layer: diff_id,
    };
    assert_eq!(check(&store, true), [tree, lost]);
    assert_eq!(check(&store, false), []);
    assert_eq!(store.reference(&name("own")).unwrap(), None);
}

#[test]
fn torn_names_and_records_and_lost_images_are_taken_away() {
    let temp = Temp::new();
    let (store, image) = filled(&temp);
    let other = put_image(&store, &image.layers(), "other");
    store.tag(&name("other"), &other.descriptor()).unwrap();
    let torn = store.root().join("refs/docker.io+library+app:latest");
    spoil(&torn);
    finds_and_mends(&store, &[Damage::TornName(torn)]);
    std::fs::remove_file(blob_path(&store, other.manifest.digest())).unwrap();
    assert_eq!(
        check(&store, false),
        [Damage::Image(other.id()), Damage::LostName(name("other"))]
    );
    // The name goes with its image, so the repair has nothing more to say of it.
    assert_eq!(check(&store, true), [Damage::Image(other.id())]);
    assert_eq!(check(&store, false), []);
    let key = Digest::of(b"key");
    let record = store
        .root()
        .join("records/step")
        .join(&key.hex()[..2])
        .join(&key.hex()[2..]);
    spoil(&record);
    finds_and_mends(&store, &[Damage::Record(record)]);
}
