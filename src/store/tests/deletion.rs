//! `rmi`, prune, containers.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::event::Silent;
use crate::image::{Platform, Reference};
use crate::store::testing::{Item, Temp, files, put_image, put_layer, tar};
use crate::store::{Error, Image, LayerRef, Pins, Prune, Store};

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn layer(store: &Store, text: &str) -> LayerRef {
    put_layer(store, &tar(&[Item::File("f", text.as_bytes())]))
}

fn tagged(store: &Store, layers: &[LayerRef], tags: &[&str]) -> Image {
    let image = put_image(store, layers, &tags.join(" "));
    for tag in tags {
        store.tag(&name(tag), &image.descriptor()).unwrap();
    }
    image
}

fn blobs(store: &Store) -> usize {
    files(&store.root().join("blobs")).len()
}

fn trees(store: &Store) -> usize {
    std::fs::read_dir(store.root().join("trees"))
        .unwrap()
        .count()
}

fn lives(store: &Store, image: &Image) -> bool {
    store
        .image(image.manifest.digest(), &Platform::host())
        .is_ok()
}

#[test]
fn one_of_several_names_is_only_taken_away() {
    let temp = Temp::new();
    let store = temp.store();
    let image = tagged(&store, &[layer(&store, "x")], &["app:1", "app:2"]);
    let pinned = name("app").with_digest(image.manifest.digest().clone());
    store.tag(&pinned, &image.descriptor()).unwrap();
    let removed = store.remove_image("app:1", false).unwrap();
    assert_eq!(removed.untagged, [name("app:1")]);
    assert!(removed.deleted.is_empty() && lives(&store, &image));
    let removed = store.remove_image("app:2", false).unwrap();
    assert_eq!(removed.untagged, [name("app:2"), pinned]);
    assert_eq!(removed.deleted, [image.id()]);
    assert!(removed.freed > 0 && !removed.deferred);
    assert_eq!(blobs(&store), 0);
    let error = store.remove_image("app:2", false).unwrap_err();
    assert!(matches!(error, Error::NoImage { .. }), "{error:?}");
}

#[test]
fn a_layer_that_another_image_has_stays() {
    let temp = Temp::new();
    let store = temp.store();
    let (shared, own) = (layer(&store, "shared"), layer(&store, "own"));
    let one = tagged(&store, std::slice::from_ref(&shared), &["one"]);
    let two = tagged(&store, &[shared.clone(), own.clone()], &["two"]);
    store.trees(&two.layers(), &Silent).unwrap();
    store.remove_image("two", false).unwrap();
    assert!(lives(&store, &one));
    assert!(store.has_layer(&shared.diff_id).unwrap());
    assert!(!store.has_layer(&own.diff_id).unwrap());
    assert_eq!(trees(&store), 1);
    assert_eq!(blobs(&store), 3);
}

#[test]
fn by_id_an_image_goes_with_its_names_of_one_repository() {
    let temp = Temp::new();
    let store = temp.store();
    let one = tagged(&store, &[layer(&store, "1")], &["app:1", "app:2"]);
    let two = tagged(&store, &[layer(&store, "2")], &["app:3", "other:1"]);
    let removed = store
        .remove_image(one.id().digest().short(), false)
        .unwrap();
    assert_eq!(removed.untagged, [name("app:1"), name("app:2")]);
    assert!(!lives(&store, &one));
    let id = two.id().digest().to_string();
    let error = store.remove_image(&id, false).unwrap_err();
    let Error::SeveralNames { names, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(names, &[name("app:3"), name("other:1")]);
    store.remove_image(&id, true).unwrap();
    assert_eq!(blobs(&store), 0);
}

/// A container with nothing of its owner's in it.
fn nothing(_: &Path) -> Result<(), Error> {
    Ok(())
}

#[test]
fn a_container_that_could_not_be_filled_was_never_there() {
    let temp = Temp::new();
    let store = temp.store();
    let image = tagged(&store, &[layer(&store, "1")], &["app"]);
    let pins = Pins {
        image: Some(image.id()),
        layers: Vec::new(),
    };
    let made = store.new_container("c1", &pins, |dir| {
        std::fs::write(dir.join("part"), "half").unwrap();
        assert!(store.containers().unwrap().is_empty(), "nobody sees it yet");
        Err(Error::ContainerId { id: "c1".into() })
    });
    assert!(matches!(made, Err(Error::ContainerId { .. })));
    assert!(store.containers().unwrap().is_empty());
    store.remove_image("app", false).unwrap();
}

#[test]
fn an_image_with_a_container_needs_force_and_a_running_one_has_none() {
    let temp = Temp::new();
    let store = temp.store();
    let image = tagged(&store, &[layer(&store, "1")], &["app", "more"]);
    store.trees(&image.layers(), &Silent).unwrap();
    let pins = Pins {
        image: Some(image.id()),
        layers: image.layers().into_iter().map(|l| l.diff_id).collect(),
    };
    store.new_container("c1", &pins, nothing).unwrap();
    let error = store.new_container("c1", &pins, nothing).unwrap_err();
    assert!(matches!(error, Error::ContainerExists { .. }), "{error:?}");
    store.remove_image("more", false).unwrap();
    let error = store.remove_image("app", false).unwrap_err();
    let Error::InUse {
        containers,
        running,
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(
        (containers.as_slice(), *running),
        (&["c1".to_owned()][..], false)
    );
    assert!(
        store
            .prune(Prune {
                all: true,
                ..Prune::default()
            })
            .unwrap()
            .deleted
            .is_empty()
    );
    let lock = store.lock_container("c1").unwrap().unwrap();
    assert!(store.lock_container("c1").unwrap().is_none());
    let error = store.remove_image("app", true).unwrap_err();
    assert!(
        matches!(error, Error::InUse { running: true, .. }),
        "{error:?}"
    );
    drop(lock);
    store.remove_image("app", true).unwrap();
    assert!(store.images().unwrap().is_empty());
    // What the container stands on stays as long as it does.
    assert_eq!(trees(&store), 1);
    store.prune(Prune::default()).unwrap();
    assert_eq!(trees(&store), 1);
    let rubbish = store.remove_container("c1").unwrap();
    drop(store.remove_container("c1").unwrap());
    assert!(store.containers().unwrap().is_empty());
    // Its files are there until somebody has the time, and keep nothing else.
    let files_left = || files(&store.root().join("tmp")).len();
    assert_eq!(files_left(), 2);
    store.prune(Prune::default()).unwrap();
    assert_eq!((trees(&store), blobs(&store)), (0, 0));
    drop(rubbish);
    assert_eq!(files_left(), 0);
    for id in ["", "../x", "a/b", ".x", "a b"] {
        let error = store.new_container(id, &pins, nothing).unwrap_err();
        assert!(matches!(error, Error::ContainerId { .. }), "{id}");
    }
}

#[test]
fn prune_takes_what_dangles_and_says_before_what_it_would_take() {
    let temp = Temp::new();
    let store = temp.store();
    let kept = tagged(&store, &[layer(&store, "kept")], &["app"]);
    let old = put_image(&store, &[layer(&store, "old")], "old");
    store.trees(&old.layers(), &Silent).unwrap();
    store.put(b"nobody's").unwrap();
    let dry = Prune {
        dry_run: true,
        ..Prune::default()
    };
    let would = store.prune(dry).unwrap();
    assert_eq!(would.deleted, [old.id()]);
    assert!(lives(&store, &old));
    let did = store.prune(Prune::default()).unwrap();
    assert_eq!((did.freed, &did.deleted), (would.freed, &would.deleted));
    assert!(did.freed > 0 && lives(&store, &kept));
    assert_eq!((blobs(&store), trees(&store)), (3, 0));
    assert_eq!(store.prune(Prune::default()).unwrap().freed, 0);
    let all = store
        .prune(Prune {
            all: true,
            ..Prune::default()
        })
        .unwrap();
    assert_eq!(all.deleted, [kept.id()]);
    assert_eq!(all.untagged, [name("app")]);
    assert_eq!(blobs(&store), 0);
    assert!(files(&store.root().join("refs")).is_empty());
    assert!(files(&store.root().join("records")).is_empty());
}

#[test]
fn a_record_keeps_its_layer_until_the_cache_is_pruned() {
    let temp = Temp::new();
    let store = temp.store();
    let layer = layer(&store, "cached");
    store.trees(std::slice::from_ref(&layer), &Silent).unwrap();
    let keeps = [layer.diff_id.0.clone()];
    store
        .records("step")
        .put_keeping("key", b"made", &keeps)
        .unwrap();
    store.records("stat").put("index", b"kept").unwrap();
    store
        .prune(Prune {
            all: true,
            ..Prune::default()
        })
        .unwrap();
    assert!(store.has_layer(&layer.diff_id).unwrap());
    let cache = Prune {
        cache: true,
        ..Prune::default()
    };
    let would = store
        .prune(Prune {
            dry_run: true,
            ..cache
        })
        .unwrap();
    let did = store.prune(cache).unwrap();
    assert_eq!(did.freed, would.freed);
    assert!(!store.has_layer(&layer.diff_id).unwrap());
    assert_eq!(store.records("step").get("key").unwrap(), None);
    assert!(store.records("stat").get("index").unwrap().is_some());
    assert_eq!((blobs(&store), trees(&store)), (0, 0));
}

#[test]
fn while_somebody_works_names_go_and_bytes_stay() {
    let temp = Temp::new();
    let store = temp.store();
    let image = tagged(&store, &[layer(&store, "x")], &["app"]);
    let other = temp.store();
    let work = other.work().unwrap();
    let removed = store.remove_image("app", false).unwrap();
    assert!(removed.deferred && removed.freed == 0);
    assert_eq!(store.resolve("app").unwrap(), None);
    assert!(lives(&store, &image));
    assert!(store.prune(Prune::default()).unwrap().deferred);
    drop(work);
    let scratch = other.scratch().unwrap();
    assert!(store.prune(Prune::default()).unwrap().deferred);
    drop(scratch);
    let pruned = store.prune(Prune::default()).unwrap();
    assert!(!pruned.deferred && pruned.freed > 0);
    assert_eq!(blobs(&store), 0);
}

#[test]
fn compressed_forms_go_with_their_layer() {
    let temp = Temp::new();
    let store = temp.store();
    let tar = tar(&[Item::File("f", b"x")]);
    let blob = store.put(&tar).unwrap();
    let diff_id = crate::image::DiffId(blob.digest().clone());
    let descriptor =
        crate::image::Descriptor::new(crate::image::media::LAYER, diff_id.0.clone(), blob.size());
    let image = tagged(
        &store,
        &[LayerRef {
            diff_id,
            descriptor,
        }],
        &["app"],
    );
    let pushed = store.recompress(&image, None, None, &Silent).unwrap();
    assert_eq!(blobs(&store), 5);
    store.prune(Prune::default()).unwrap();
    // The form that was pushed is made once: only its manifest, which nothing names, is gone.
    assert_eq!(blobs(&store), 4);
    assert!(
        store
            .blob(&pushed.manifest.value().layers[0].digest)
            .unwrap()
            .is_some()
    );
    store.remove_image("app", false).unwrap();
    assert_eq!(blobs(&store), 0);
    assert!(files(&store.root().join("records")).is_empty());
}

#[test]
fn deep_and_closed_directories_are_removed() {
    let temp = Temp::new();
    let top = temp.path().join("deep");
    std::fs::create_dir(&top).unwrap();
    let mut dir = std::fs::File::open(&top).unwrap();
    let mode = rustix::fs::Mode::RWXU;
    for _ in 0..3000 {
        rustix::fs::mkdirat(&dir, "d", mode).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        dir = rustix::fs::openat(&dir, "d", flags, mode).unwrap().into();
        rustix::fs::symlinkat("/etc", &dir, "link").unwrap();
    }
    rustix::fs::fchmod(&dir, rustix::fs::Mode::empty()).unwrap();
    drop(dir);
    assert!(crate::store::disk::remove_tree(&top).unwrap() > 0);
    assert!(!top.exists());
    assert!(std::path::Path::new("/etc/passwd").exists());
    assert_eq!(crate::store::disk::remove_tree(&top).unwrap(), 0);
}

#[test]
fn cached_results_go_least_recently_used_and_latest_made_first() {
    let temp = Temp::new();
    let store = temp.store();
    let now = SystemTime::now();
    let old = now - Duration::from_secs(3600);
    let cached = |key: &'static str, used| {
        let layer = layer(&store, key);
        store.trees(std::slice::from_ref(&layer), &Silent).unwrap();
        let keeps = [layer.diff_id.0.clone()];
        let records = store.records("step");
        records.put_keeping(key, b"made", &keeps).unwrap();
        records.touch(key, used).unwrap();
    };
    // One build made a base and a leaf on it, another used a third later.
    for (key, used) in [("base", old), ("leaf", old), ("fresh", now)] {
        cached(key, used);
    }
    let left = || {
        let has = |key: &&str| store.records("step").get(*key).unwrap().is_some();
        ["base", "leaf", "fresh"]
            .into_iter()
            .filter(has)
            .collect::<Vec<_>>()
    };
    let total = store.usage().unwrap().total;
    let keep = |bytes| Prune {
        keep: Some(bytes),
        ..Prune::default()
    };
    assert_eq!(store.prune(keep(total)).unwrap().cached, 0);
    let dry = Prune {
        dry_run: true,
        ..keep(total - 1)
    };
    let would = store.prune(dry).unwrap();
    assert_eq!((would.cached, left().len()), (1, 3));
    let did = store.prune(keep(total - 1)).unwrap();
    assert_eq!((did.cached, did.freed), (would.cached, would.freed));
    assert_eq!(left(), ["base", "fresh"]);
    store.prune(keep(store.usage().unwrap().total - 1)).unwrap();
    assert_eq!(left(), ["fresh"]);
    let aged = Prune {
        cache: true,
        until: Some(now - Duration::from_secs(60)),
        ..Prune::default()
    };
    assert_eq!(store.prune(aged).unwrap().cached, 0);
    store.prune(keep(0)).unwrap();
    assert!(left().is_empty());
    assert_eq!((blobs(&store), trees(&store)), (0, 0));
}

#[test]
fn usage_counts_what_images_share_once() {
    let temp = Temp::new();
    let store = temp.store();
    let common = layer(&store, "common");
    let one = tagged(&store, &[common.clone(), layer(&store, "one")], &["one"]);
    tagged(&store, &[common, layer(&store, "two")], &["two"]);
    let pins = Pins {
        image: Some(one.id()),
        layers: Vec::new(),
    };
    store.new_container("c1", &pins, nothing).unwrap();
    store.put(b"nobody's").unwrap();
    let usage = store.usage().unwrap();
    let [a, b] = usage.images.as_slice() else {
        panic!("{usage:?}")
    };
    assert!(a.shared > 0 && a.shared == b.shared);
    assert!(a.unique > 0 && b.unique > 0);
    assert_eq!(usage.image_bytes, a.shared + a.unique + b.unique);
    let idle = if a.containers == 0 { a } else { b };
    assert_eq!((idle.containers, usage.image_reclaimable), (0, idle.unique));
    assert!(usage.cache_bytes > 0 && usage.containers.len() == 1);
    let sum = usage.image_bytes + usage.cache_bytes + usage.containers[0].bytes;
    assert_eq!(usage.total, sum);
}
