//! Images: finding, listing, importing.

use std::io::Cursor;
use std::path::Path;

use crate::event::Silent;
use crate::image::{Config, History, Index, Platform, Raw, Reference};
use crate::store::testing::{
    Item, Temp, check, files, gzip, put_image, put_image_for, put_layer, tar,
};
use crate::store::{ArchiveFlaw, Error, Found, Image, LayerRef, Store};

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn layer(store: &Store) -> LayerRef {
    put_layer(store, &tar(&[Item::File("f", b"file")]))
}

fn found(store: &Store, text: &str) -> Option<Image> {
    match store.find(text, &Platform::host()).unwrap() {
        Found::Image(image) => Some(image),
        _ => None,
    }
}

#[test]
fn an_image_is_found_by_name_id_and_digest() {
    let temp = Temp::new();
    let store = temp.store();
    let image = put_image(&store, &[layer(&store)], "a");
    let id = image.id();
    store.tag(&name("app:v1"), &image.descriptor()).unwrap();
    let pinned = name("app").with_digest(image.manifest.digest().clone());
    store.tag(&pinned, &image.descriptor()).unwrap();
    let manifest = image.manifest.digest().as_str();
    for text in [
        "app:v1",
        "docker.io/library/app:v1",
        id.digest().as_str(),
        id.digest().hex(),
        id.digest().short(),
        &id.digest().as_str()[..12],
        &id.digest().hex()[..1],
        manifest,
        &format!("app@{manifest}"),
        &format!("app:v9@{manifest}"),
    ] {
        let found = found(&store, text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(found.id(), id, "{text}");
    }
    for text in ["app", "other", "sha256:", "zz", &"0".repeat(65)] {
        assert!(found(&store, text).is_none(), "{text}");
    }
}

#[test]
fn a_prefix_of_two_ids_is_ambiguous() {
    let temp = Temp::new();
    let store = temp.store();
    let layer = layer(&store);
    let mut first = std::collections::HashSet::new();
    for number in 0.. {
        let image = put_image(&store, std::slice::from_ref(&layer), &number.to_string());
        let digit = image.id().digest().hex()[..1].to_owned();
        if !first.insert(digit.clone()) {
            let error = store.resolve(&digit).unwrap_err();
            let Error::Ambiguous { ids, .. } = &error else {
                panic!("{error:?}")
            };
            assert_eq!(ids.len(), 2);
            return;
        }
    }
}

#[test]
fn a_name_that_exists_wins_over_an_id_that_begins_so() {
    let temp = Temp::new();
    let store = temp.store();
    let one = put_image(&store, &[layer(&store)], "one");
    let two = put_image(&store, &[layer(&store)], "two");
    let hex = one.id().digest().hex()[..8].to_owned();
    store.tag(&name(&hex), &two.descriptor()).unwrap();
    assert_eq!(found(&store, &hex).unwrap().id(), two.id());
}

#[test]
fn what_is_not_found_comes_with_its_neighbours() {
    let temp = Temp::new();
    let store = temp.store();
    let image = put_image(&store, &[layer(&store)], "a");
    for text in ["debian:12", "alpine", "debian"] {
        store.tag(&name(text), &image.descriptor()).unwrap();
    }
    let error = store.need("debain").unwrap_err();
    let Error::NoImage { near, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(near, &["debian:12", "debian:latest"]);
    let Found::Nothing { nearest } = store.find("alpin", &Platform::host()).unwrap() else {
        panic!("found")
    };
    assert_eq!(nearest, ["alpine:latest"]);
}

#[test]
fn an_index_gives_the_image_of_the_platform() {
    let temp = Temp::new();
    let store = temp.store();
    let layer = layer(&store);
    let [v5, v7, arm64] = ["linux/arm/v5", "linux/arm/v7", "linux/arm64"].map(|text| {
        let platform: Platform = text.parse().unwrap();
        put_image_for(&store, std::slice::from_ref(&layer), text, &platform)
    });
    let children = [&v5, &v7, &arm64].map(|image| {
        let mut descriptor = image.descriptor();
        descriptor.platform = Some(image.config.value().platform());
        descriptor
    });
    let index = Raw::of(Index::oci(children.to_vec()));
    store.put(index.bytes()).unwrap();
    let target = index.descriptor(index.value().media_type());
    store.tag(&name("multi"), &target).unwrap();
    let on = |platform: &str| store.image(index.digest(), &platform.parse().unwrap());
    assert_eq!(on("linux/arm/v7").unwrap().id(), v7.id());
    assert_eq!(on("linux/arm/v6").unwrap().id(), v5.id());
    assert_eq!(on("linux/arm64/v8").unwrap().id(), arm64.id());
    let error = on("linux/s390x").unwrap_err();
    let Error::NoPlatform { offered, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(offered.len(), 3);
    let s390x = "linux/s390x".parse().unwrap();
    let nothing = store.find("multi", &s390x).unwrap();
    assert!(matches!(nothing, Found::Nothing { .. }), "{nothing:?}");
    let other = store.find(v7.id().digest().as_str(), &s390x).unwrap();
    assert!(matches!(other, Found::OtherPlatform(_)), "{other:?}");
    // With the best one gone the next that fits answers.
    std::fs::remove_file(
        store
            .root()
            .join("blobs/sha256")
            .join(v7.manifest.digest().hex()),
    )
    .unwrap();
    assert_eq!(on("linux/arm/v7").unwrap().id(), v5.id());
    let listed = store.images().unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|image| image.names == [name("multi")]));
}

#[test]
fn a_listing_shows_names_digests_sizes_and_what_dangles() {
    let temp = Temp::new();
    let store = temp.store();
    let layer = layer(&store);
    let layers = std::slice::from_ref(&layer);
    let named = put_image(&store, layers, "named");
    let dangling = put_image(&store, layers, "dangling");
    store.tag(&name("b"), &named.descriptor()).unwrap();
    store.tag(&name("a"), &named.descriptor()).unwrap();
    let pinned = name("a").with_digest(named.manifest.digest().clone());
    store.tag(&pinned, &named.descriptor()).unwrap();
    let listed = store.images().unwrap();
    let get = |image: &Image| listed.iter().find(|l| l.id == image.id()).unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(get(&named).names, [name("a"), name("b")]);
    assert_eq!(get(&named).digests, [pinned]);
    assert!(get(&dangling).names.is_empty());
    assert_eq!(get(&named).size, layer.descriptor.size);
    store.trees(layers, &Silent).unwrap();
    let size = store.plain_size(&layer.diff_id).unwrap().unwrap();
    assert_eq!(store.images().unwrap()[0].size, size);
    assert!(size > layer.descriptor.size);
}

#[test]
fn manifest_config_and_layers_must_fit() {
    let temp = Temp::new();
    let store = temp.store();
    let one = put_image(&store, &[layer(&store)], "one");
    let two = put_image(&store, &[layer(&store), layer(&store)], "two");
    let error = store.put_image(&one.manifest, &two.config).unwrap_err();
    assert!(matches!(error, Error::ConfigDigest { .. }), "{error:?}");
    let mut manifest = two.manifest.value().clone();
    manifest.layers.pop();
    let error = store
        .put_image(&Raw::of(manifest), &two.config)
        .unwrap_err();
    assert!(matches!(error, Error::Flaw(_)), "{error:?}");
}

#[test]
fn a_damaged_manifest_is_named_and_removed() {
    let temp = Temp::new();
    let store = temp.store();
    let image = put_image(&store, &[layer(&store)], "one");
    let digest = image.manifest.digest();
    let path = store.root().join("blobs/sha256").join(digest.hex());
    std::fs::write(&path, "{}").unwrap();
    let error = store.image(digest, &Platform::host()).unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "{error:?}");
    assert_eq!(store.blob(digest).unwrap(), None);
    assert!(store.images().unwrap().is_empty());
}

fn config() -> Config {
    let mut config = Config::empty(&Platform::host());
    config.history.push(History::default());
    config
}

#[test]
fn a_tarball_becomes_an_image_of_one_layer() {
    let temp = Temp::new();
    let store = temp.store();
    let tar = tar(&[Item::Dir("bin", 0o755), Item::File("bin/sh", b"#!")]);
    let path = Path::new("rootfs.tar.gz");
    let image = store
        .import(Cursor::new(gzip(&tar)), config(), path)
        .unwrap();
    check(&store, &image);
    let plain = store
        .import(Cursor::new(tar.clone()), config(), path)
        .unwrap();
    assert_eq!(plain.id(), image.id());
    let trees = store.trees(&image.layers(), &Silent).unwrap();
    assert_eq!(
        std::fs::read(trees[0].path().join("bin/sh")).unwrap(),
        b"#!"
    );
    assert_eq!(image.manifest.value().layers[0].size, tar.len() as u64);
}

#[test]
fn what_is_no_whole_tar_is_not_imported() {
    let temp = Temp::new();
    let store = temp.store();
    let path = Path::new("-");
    for text in [&b""[..], b"hello", &[b'x'; 5000]] {
        let error = store.import(text, config(), path).unwrap_err();
        let Error::Archive {
            flaw: ArchiveFlaw::NotTar,
            ..
        } = error
        else {
            panic!("{error:?}")
        };
    }
    let tar = tar(&[Item::File("big", &[7; 4000])]);
    let cut = tar[..3000].to_vec();
    let error = store.import(Cursor::new(cut), config(), path).unwrap_err();
    assert!(matches!(error, Error::Layer { .. }), "{error:?}");
    let mut packed = gzip(&tar);
    packed.truncate(packed.len() - 9);
    let error = store
        .import(Cursor::new(packed), config(), path)
        .unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    assert!(files(&store.root().join("blobs")).is_empty());
    assert!(store.images().unwrap().is_empty());
}
