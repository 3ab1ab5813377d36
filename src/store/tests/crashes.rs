//! What a kill, a power cut or a full disk leaves.
//!
//! A power cut is played by moving the marks of this boot to another one's name and spoiling
//! files behind the store's back; no disk is cut off.

use std::io::Write;
use std::path::PathBuf;

use crate::event::Silent;
use crate::image::{Digest, Reference};
use crate::layer;
use crate::store::testing::{Item, Temp, adopt_upper, files, packed, put_image, put_layer, tar};
use crate::store::{Image, LayerRef, Prune, Store};

/// Makes the next opener believe that the machine was started anew.
fn power_cut(temp: &Temp) {
    let dir = temp.path().join("store/unsynced");
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let other = format!("{}x", path.display());
        std::fs::rename(path, other).unwrap();
    }
}

fn marks(temp: &Temp) -> Vec<String> {
    files(&temp.path().join("store/unsynced"))
}

fn blob_path(store: &Store, digest: &Digest) -> PathBuf {
    store.root().join("blobs/sha256").join(digest.hex())
}

#[test]
fn after_a_power_cut_a_torn_blob_is_dropped_and_a_whole_one_kept() {
    let temp = Temp::new();
    let store = temp.store();
    let (torn, whole) = (store.put(b"torn").unwrap(), store.put(b"whole").unwrap());
    assert_eq!(marks(&temp).len(), 2);
    let torn_path = blob_path(&store, torn.digest());
    drop(store);
    std::fs::write(&torn_path, [0; 4]).unwrap();
    power_cut(&temp);
    let store = temp.store();
    assert_eq!(store.blob(torn.digest()).unwrap(), None);
    assert!(!torn_path.exists());
    assert_eq!(store.blob(whole.digest()).unwrap(), Some(whole));
    assert!(marks(&temp).is_empty());
    assert!(
        std::fs::read_dir(temp.path().join("store/unsynced"))
            .unwrap()
            .next()
            .is_none()
    );
    store.put(b"torn").unwrap();
    assert_eq!(store.blob(torn.digest()).unwrap(), Some(torn));
}

#[test]
fn what_was_synced_is_not_doubted() {
    let temp = Temp::new();
    let store = temp.store();
    let layer = put_layer(&store, &tar(&[Item::File("f", b"x")]));
    store.trees(&[layer], &Silent).unwrap();
    assert_eq!(marks(&temp).len(), 2);
    store.sync().unwrap();
    assert!(marks(&temp).is_empty());
    store.put(b"later").unwrap();
    assert_eq!(marks(&temp).len(), 1);
}

#[test]
fn a_mark_whose_blob_has_no_name_yet_outlives_a_sync() {
    let temp = Temp::new();
    let store = temp.store();
    let blob = store.put(b"x").unwrap();
    std::fs::remove_file(blob_path(&store, blob.digest())).unwrap();
    store.sync().unwrap();
    assert_eq!(marks(&temp).len(), 1);
}

#[test]
fn after_a_power_cut_a_torn_tree_is_made_again_from_its_blob() {
    let temp = Temp::new();
    let store = temp.store();
    let layer = put_layer(&store, &tar(&[Item::File("f", b"contents")]));
    let layers = [layer];
    let path = store.trees(&layers, &Silent).unwrap()[0].path().to_owned();
    drop(store);
    std::fs::write(path.join("f"), "").unwrap();
    power_cut(&temp);
    let store = temp.store();
    let trees = store.trees(&layers, &Silent).unwrap();
    assert_eq!(
        std::fs::read(trees[0].path().join("f")).unwrap(),
        b"contents"
    );
}

/// Keeps what a step has made: a file `f` with `text`, always of the same time.
fn adopt(store: &Store, text: &str) -> LayerRef {
    let scratch = store.scratch().unwrap();
    let upper = std::sync::Arc::new(scratch.dir("upper").unwrap());
    std::fs::write(scratch.path().join("upper/f"), text).unwrap();
    for path in [scratch.path().join("upper/f"), scratch.path().join("upper")] {
        let at = std::time::UNIX_EPOCH;
        std::fs::File::open(path).unwrap().set_modified(at).unwrap();
    }
    let changes = layer::diff(&upper, None, store.marks()).unwrap();
    adopt_upper(store, &scratch, &changes)
}

#[test]
fn after_a_power_cut_a_torn_tree_makes_way_for_the_same_made_again() {
    let temp = Temp::new();
    let layer = adopt(&temp.store(), "made");
    let trees = |store: &Store| store.trees(std::slice::from_ref(&layer), &Silent);
    let path = trees(&temp.store()).unwrap()[0].path().join("f");
    std::fs::write(&path, [0; 4]).unwrap();
    power_cut(&temp);
    let store = temp.store();
    // Its record is gone, too, so nobody has looked at the tree before the step runs again.
    assert_eq!(adopt(&store, "made"), layer);
    assert_eq!(std::fs::read(&path).unwrap(), b"made");
    assert_eq!(trees(&store).unwrap().len(), 1);
}

#[test]
fn after_a_power_cut_a_tree_without_a_blob_proves_itself_or_goes() {
    let temp = Temp::new();
    let store = temp.store();
    let (torn, whole) = (adopt(&store, "torn"), adopt(&store, "whole"));
    let path = store.trees(std::slice::from_ref(&torn), &Silent).unwrap()[0]
        .path()
        .join("f");
    std::fs::write(path, [0; 4]).unwrap();
    power_cut(&temp);
    let store = temp.store();
    assert!(!store.has_layer(&torn.diff_id).unwrap());
    assert!(store.has_layer(&whole.diff_id).unwrap());
    assert!(marks(&temp).is_empty());
}

/// A name that meant one image, permanently, and was moved to the image of another layer since.
fn moved(temp: &Temp) -> (Store, [Image; 2], LayerRef) {
    let store = temp.store();
    let old = put_image(&store, &[adopt(&store, "old")], "old");
    store.tag(&name(), &old.descriptor()).unwrap();
    store.sync().unwrap();
    let layer = adopt(&store, "new");
    let new = put_image(&store, std::slice::from_ref(&layer), "new");
    store.tag(&name(), &new.descriptor()).unwrap();
    (store, [old, new], layer)
}

fn name() -> Reference {
    "app".parse().unwrap()
}

/// Spoils the file `f` of a layer's tree.
fn spoil(store: &Store, layer: &LayerRef) {
    let trees = store.trees(std::slice::from_ref(layer), &Silent).unwrap();
    std::fs::write(trees[0].path().join("f"), [0; 3]).unwrap();
}

#[test]
fn after_a_power_cut_a_name_means_a_whole_image_the_new_one_or_the_old() {
    for damage in ["none", "layer", "config", "name"] {
        let temp = Temp::new();
        let (store, [old, new], layer) = moved(&temp);
        // Moved once more: what counts is what it meant when it was last permanent.
        let between = put_image(&store, &[], "between");
        store.tag(&name(), &between.descriptor()).unwrap();
        store.tag(&name(), &new.descriptor()).unwrap();
        match damage {
            "layer" => spoil(&store, &layer),
            "config" => std::fs::write(blob_path(&store, new.id().digest()), "").unwrap(),
            "name" => {
                std::fs::write(store.root().join("refs/docker.io+library+app:latest"), "").unwrap();
            }
            _ => {}
        }
        power_cut(&temp);
        let store = temp.store();
        let want = if damage == "none" { &new } else { &old };
        let means = store.reference(&name()).unwrap();
        assert_eq!(means, Some(want.descriptor()), "{damage}");
        // Decided once.
        assert_eq!(temp.store().reference(&name()).unwrap(), means);
        assert!(!marks(&temp).iter().any(|mark| mark.contains("app")));
    }
}

#[test]
fn after_a_power_cut_a_name_means_what_it_meant_for_long_though_nothing_was_synced() {
    let temp = Temp::new();
    let store = temp.store();
    let [old, between, new] = ["old", "between", "new"].map(|text| {
        let layer = adopt(&store, text);
        (put_image(&store, std::slice::from_ref(&layer), text), layer)
    });
    store.tag(&name(), &old.0.descriptor()).unwrap();
    let file = store.root().join("refs/docker.io+library+app:latest");
    let earlier = std::time::SystemTime::now() - std::time::Duration::from_secs(120);
    let file = std::fs::File::open(file).unwrap();
    file.set_modified(earlier).unwrap();
    store.tag(&name(), &between.0.descriptor()).unwrap();
    store.tag(&name(), &new.0.descriptor()).unwrap();
    spoil(&store, &between.1);
    spoil(&store, &new.1);
    power_cut(&temp);
    let means = temp.store().reference(&name()).unwrap();
    assert_eq!(means, Some(old.0.descriptor()));
}

#[test]
fn after_a_power_cut_a_repair_gives_names_back_to_what_is_whole() {
    let temp = Temp::new();
    let (store, [old, _], layer) = moved(&temp);
    spoil(&store, &layer);
    power_cut(&temp);
    let store = temp.store();
    assert!(!store.fsck(true, &Silent).unwrap().damage.is_empty());
    let means = store.reference(&name()).unwrap();
    assert_eq!(means, Some(old.descriptor()));
    assert_eq!(store.fsck(false, &Silent).unwrap().damage, []);
}

#[test]
fn a_name_that_was_removed_stays_so_after_a_power_cut() {
    let temp = Temp::new();
    let (store, ..) = moved(&temp);
    assert!(store.untag(&name()).unwrap());
    power_cut(&temp);
    assert_eq!(temp.store().reference(&name()).unwrap(), None);
}

#[test]
fn what_a_name_meant_is_deleted_only_once_the_new_is_permanent() {
    let temp = Temp::new();
    let (store, [_, new], _) = moved(&temp);
    assert!(marks(&temp).len() > 1);
    let removed = store.prune(Prune::default()).unwrap();
    assert_eq!(removed.deleted.len(), 1);
    assert!(marks(&temp).is_empty());
    let means = store.reference(&name()).unwrap();
    assert_eq!(means, Some(new.descriptor()));
}

#[test]
fn prune_forgets_marks_of_what_is_gone() {
    let temp = Temp::new();
    temp.store().put(b"nobody's").unwrap();
    power_cut(&temp);
    temp.store().prune(Prune::default()).unwrap();
    assert!(
        std::fs::read_dir(temp.path().join("store/unsynced"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn a_dead_process_leaves_its_lease_to_the_next_opener() {
    let temp = Temp::new();
    let store = temp.store();
    let tmp = store.root().join("tmp");
    let dead = tmp.join("4711-0");
    std::fs::create_dir_all(dead.join("scratch-0/upper/d")).unwrap();
    std::fs::write(dead.join("blob-0"), "half").unwrap();
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"alive").unwrap();
    drop(temp.store());
    assert!(!dead.exists());
    writer.finish().unwrap();
    assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 1);
    drop(store);
    assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 0);
}

#[test]
fn a_writer_or_scratch_that_is_dropped_leaves_nothing() {
    let temp = Temp::new();
    let store = temp.store();
    let scratch = store.scratch().unwrap();
    scratch.dir("upper").unwrap();
    let mut file = scratch.file().unwrap();
    file.write_all(b"x").unwrap();
    let path = scratch.path().to_owned();
    drop(scratch);
    assert!(!path.exists());
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(&packed(&tar(&[])).1).unwrap();
    drop(writer);
    assert!(files(&store.root().join("tmp")).is_empty());
    assert!(files(&store.root().join("blobs")).is_empty());
}
