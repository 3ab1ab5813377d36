//! Trees, blobs and what is made of what.

use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

use crate::event::Silent;
use crate::image::{Compression, Digest, media};
use crate::layer::{self, EncodeOptions, Stack};
use crate::store::testing::{
    Heard, Item, Temp, adopt_upper, check, diff_id, files, packed, put_image, put_layer, skip, tar,
};
use crate::store::{Error, LayerRef, Store};

fn base() -> Vec<u8> {
    tar(&[
        Item::Dir("etc", 0o751),
        Item::File("etc/os", b"one"),
        Item::File("top", b"t"),
    ])
}

fn tree_names(store: &Store) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(store.root().join("trees"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn layers_are_unpacked_once_and_shared() {
    let temp = Temp::new();
    let store = temp.store();
    let upper = tar(&[Item::Dir("etc", 0o700), Item::File("etc/.wh.os", b"")]);
    let layers = [put_layer(&store, &base()), put_layer(&store, &upper)];
    let heard = Heard::default();
    let trees = store.trees(&layers, &heard).unwrap();
    assert_eq!(trees.len(), 2);
    assert_eq!(
        std::fs::read(trees[0].path().join("etc/os")).unwrap(),
        b"one"
    );
    let whiteout = trees[1].path().join("etc/os");
    assert_eq!(whiteout.symlink_metadata().unwrap().rdev(), 0);
    assert_eq!(heard.0.lock().unwrap().len(), 2, "{:?}", heard.0);
    let again = Heard::default();
    let more = store.trees(&layers, &again).unwrap();
    assert_eq!(more[0].path(), trees[0].path());
    assert!(again.0.lock().unwrap().is_empty());
    let names = [&layers[0], &layers[1]].map(|l| format!("layer-{}", l.diff_id.digest().hex()));
    let mut sorted = names.to_vec();
    sorted.sort();
    assert_eq!(tree_names(&store), sorted);
    assert_eq!(
        store.plain_size(&layers[0].diff_id).unwrap(),
        Some(base().len() as u64)
    );
}

#[test]
fn a_layer_that_implies_a_parent_takes_it_from_below_and_belongs_to_its_stack() {
    if !rustix::process::geteuid().is_root() {
        return skip("this user cannot give a directory to uid 0");
    }
    let temp = Temp::new();
    let store = temp.store();
    let upper = tar(&[Item::File("etc/new", b"n")]);
    let other = tar(&[Item::Dir("etc", 0o710)]);
    let (one, two) = (put_layer(&store, &base()), put_layer(&store, &other));
    let upper = put_layer(&store, &upper);
    let mode = |layers: &[LayerRef]| {
        let trees = store.trees(layers, &Silent).unwrap();
        let etc = trees.last().unwrap().path().join("etc");
        etc.metadata().unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode(&[one.clone(), upper.clone()]), 0o751);
    assert_eq!(mode(&[two.clone(), upper.clone()]), 0o710);
    assert_eq!(mode(std::slice::from_ref(&upper)), 0o755);
    assert_eq!(mode(&[two, upper.clone()]), 0o710);
    let chains = tree_names(&store);
    let chains = chains.iter().filter(|name| name.starts_with("chain-"));
    assert_eq!(chains.count(), 3);
}

#[test]
fn a_hard_link_into_a_lower_layer_is_copied_up() {
    let temp = Temp::new();
    let store = temp.store();
    let filler = tar(&[Item::File("filler", b"f")]);
    let upper = tar(&[Item::Link("alias", "top")]);
    let layers = [base(), filler, upper].map(|tar| put_layer(&store, &tar));
    let trees = store.trees(&layers, &Silent).unwrap();
    assert_eq!(std::fs::read(trees[2].path().join("alias")).unwrap(), b"t");
}

#[test]
fn a_layer_that_occurs_twice_is_given_once() {
    let temp = Temp::new();
    let store = temp.store();
    let empty = tar(&[]);
    let layers = [&base(), &empty, &tar(&[Item::File("x", b"")]), &empty];
    let layers = layers.map(|tar| put_layer(&store, tar));
    let trees = store.trees(&layers, &Silent).unwrap();
    let names: Vec<_> = trees
        .iter()
        .map(|tree| tree.path().file_name().unwrap())
        .collect();
    assert_eq!(names.len(), 3);
    assert_eq!(
        names[2].to_str().unwrap()[6..],
        *layers[1].diff_id.digest().hex()
    );
    assert!(store.trees(&[], &Silent).unwrap().is_empty());
}

/// Spoils the blob as a bad disk would.
fn spoil(store: &Store, digest: &Digest, at: usize) {
    let path = store.root().join("blobs/sha256").join(digest.hex());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at] ^= 0x55;
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn a_corrupt_blob_is_named_and_removed_and_fetching_it_again_heals() {
    let temp = Temp::new();
    let store = temp.store();
    for at in [2, 40, packed(&base()).1.len() - 1] {
        let (layer, bytes) = packed(&base());
        store.put(&bytes).unwrap();
        let want = layer.descriptor.digest.clone();
        spoil(&store, &want, at);
        let layers = [layer];
        let error = store.trees(&layers, &Silent).unwrap_err();
        let Error::Corrupt(mismatch) = &error else {
            panic!("at {at}: {error:?}")
        };
        assert_eq!(mismatch.want, want);
        assert_ne!(mismatch.got, want);
        assert!(tree_names(&store).is_empty());
        assert_eq!(store.blob(&want).unwrap(), None);
        let error = store.trees(&layers, &Silent).unwrap_err();
        assert!(matches!(error, Error::NoBlob { .. }), "{error:?}");
        assert_eq!(store.missing_layers(&layers).unwrap(), layers);
    }
    let layer = put_layer(&store, &base());
    assert!(
        store
            .missing_layers(std::slice::from_ref(&layer))
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.trees(&[layer], &Silent).unwrap().len(), 1);
}

#[test]
fn bytes_behind_the_end_of_a_packed_layer_count() {
    let temp = Temp::new();
    let store = temp.store();
    let (layer, mut bytes) = packed(&base());
    store.put(&bytes).unwrap();
    bytes.extend_from_slice(&[0; 300]);
    let path = store
        .root()
        .join("blobs/sha256")
        .join(layer.descriptor.digest.hex());
    std::fs::write(path, bytes).unwrap();
    let error = store.trees(&[layer], &Silent).unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "{error:?}");
}

#[test]
fn a_layer_with_another_diff_id_than_the_config_says_is_refused() {
    let temp = Temp::new();
    let store = temp.store();
    let mut layer = put_layer(&store, &base());
    let right = std::mem::replace(&mut layer.diff_id, diff_id(b"other"));
    put_image(&store, std::slice::from_ref(&layer), "liar");
    let error = store
        .trees(std::slice::from_ref(&layer), &Silent)
        .unwrap_err();
    let Error::DiffId { want, got, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((want, got), (&layer.diff_id, &right));
    assert!(tree_names(&store).is_empty());
    assert!(!store.has_layer(&layer.diff_id).unwrap());
}

#[test]
fn a_tar_that_is_none_is_refused_and_nothing_stays() {
    let temp = Temp::new();
    let store = temp.store();
    let layer = put_layer(&store, &[b'x'; 2000]);
    let error = store.trees(&[layer], &Silent).unwrap_err();
    assert!(matches!(error, Error::Layer { .. }), "{error:?}");
    assert!(tree_names(&store).is_empty());
    drop(store);
    assert!(files(&temp.path().join("store/tmp")).is_empty());
}

/// Adopts a directory with a few files as a layer, as a build does with an upper dir.
fn adopt(store: &Store) -> LayerRef {
    let scratch = store.scratch().unwrap();
    let upper = Arc::new(scratch.dir("upper").unwrap());
    let path = scratch.path().join("upper");
    std::fs::create_dir(path.join("d")).unwrap();
    std::fs::write(path.join("d/f"), "contents").unwrap();
    std::fs::hard_link(path.join("d/f"), path.join("link")).unwrap();
    std::os::unix::fs::symlink("d/f", path.join("soft")).unwrap();
    let opaque = match store.user_xattr() {
        true => c"user.overlay.opaque",
        false => c"trusted.overlay.opaque",
    };
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path.join("d"), opaque, b"y", flags).unwrap();
    let below = Stack::new(Vec::new(), store.marks());
    let changes = layer::diff(&upper, Some(&below), store.marks()).unwrap();
    adopt_upper(store, &scratch, &changes)
}

#[test]
fn a_layer_that_is_only_a_tree_is_encoded_compressed_and_read_again() {
    let temp = Temp::new();
    let store = temp.store();
    let layer = adopt(&store);
    assert!(files(&store.root().join("blobs")).is_empty());
    assert!(store.has_layer(&layer.diff_id).unwrap());
    assert_eq!(
        store.plain_size(&layer.diff_id).unwrap(),
        Some(layer.descriptor.size)
    );
    let image = put_image(&store, std::slice::from_ref(&layer), "built");
    check(&store, &image);
    assert_eq!(store.blob(layer.diff_id.digest()).unwrap(), None);
    let once = store
        .layer_blob(&layer.diff_id, Compression::Gzip, None, &Silent)
        .unwrap();
    assert_eq!(once.media_type, media::LAYER_GZIP);
    let heard = Heard::default();
    let twice = store
        .layer_blob(&layer.diff_id, Compression::Gzip, Some(1), &heard)
        .unwrap();
    assert_eq!(once, twice);
    assert!(heard.0.lock().unwrap().is_empty(), "compressed twice");
    let pushed = store.recompress(&image, None, None, &Silent).unwrap();
    assert_eq!(pushed.manifest.value().layers, [once]);
    assert_eq!(pushed.id(), image.id());
    check(&store, &pushed);
    let zstd = store
        .recompress(&image, Some(Compression::Zstd), Some(1), &Silent)
        .unwrap();
    check(&store, &zstd);
    let plain = store
        .recompress(&pushed, Some(Compression::None), None, &Silent)
        .unwrap();
    assert_eq!(plain.manifest.value().layers[0].digest, layer.diff_id.0);
    check(&store, &plain);
}

#[test]
fn marks_that_hide_nothing_do_not_stay_on_an_adopted_tree() {
    let temp = Temp::new();
    let store = temp.store();
    let layer = adopt(&store);
    let below = put_layer(
        &store,
        &tar(&[Item::Dir("d", 0o755), Item::File("d/old", b"o")]),
    );
    let trees = store.trees(&[below, layer], &Silent).unwrap();
    let stack = Stack::new(trees.iter().map(|tree| tree.fd()).collect(), store.marks());
    let path = layer::TreePath::clean(b"d/old").unwrap();
    assert!(layer::Tree::node(&stack, &path).unwrap().is_some());
}

#[test]
fn a_tree_that_was_changed_is_not_passed_off_as_its_layer() {
    let temp = Temp::new();
    let store = temp.store();
    let layer = adopt(&store);
    let tree = store
        .trees(std::slice::from_ref(&layer), &Silent)
        .unwrap()
        .remove(0);
    std::fs::write(tree.path().join("d/f"), "CONTENTS").unwrap();
    let error = store
        .layer_blob(&layer.diff_id, Compression::Gzip, None, &Silent)
        .unwrap_err();
    let Error::TreeChanged { want, got, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(want, &layer.diff_id);
    assert_ne!(got, want);
    assert!(files(&store.root().join("blobs")).is_empty());
}

#[test]
fn a_pulled_layer_keeps_its_bytes() {
    let temp = Temp::new();
    let store = temp.store();
    let layer = put_layer(&store, &base());
    let image = put_image(&store, std::slice::from_ref(&layer), "pulled");
    let same = store.recompress(&image, None, None, &Silent).unwrap();
    assert_eq!(same.manifest.bytes(), image.manifest.bytes());
    let same = store
        .recompress(&image, Some(Compression::Gzip), None, &Silent)
        .unwrap();
    assert_eq!(same.manifest.value().layers, [layer.descriptor]);
    check(&store, &image);
}

#[test]
fn written_changes_make_a_tree_of_the_layer() {
    let temp = Temp::new();
    let store = temp.store();
    let source = put_layer(&store, &base());
    let trees = store.trees(std::slice::from_ref(&source), &Silent).unwrap();
    let marks = store.marks();
    let changes = layer::diff(&trees[0].fd(), None, marks).unwrap();
    let scratch = store.scratch().unwrap();
    let into = scratch.dir("tree").unwrap();
    let below = Stack::new(Vec::new(), marks);
    store.write_tree(&changes, into.as_fd(), &below).unwrap();
    let mut bytes = Vec::new();
    let size = layer::encode(&changes, &EncodeOptions::default(), &mut bytes).unwrap();
    let made = diff_id(&bytes);
    store.adopt_tree(&scratch, "tree", &made, size).unwrap();
    let plain = store
        .layer_blob(&made, Compression::None, None, &Silent)
        .unwrap();
    assert_eq!((plain.digest, plain.size), (made.0, size));
}
