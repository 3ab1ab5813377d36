//! Blobs, names, records, the format file.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use crate::image::{BlobSink, Descriptor, Digest, Reference, media};
use crate::store::testing::{Temp, files, options};
use crate::store::{Error, Options, Store};

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn put_target(store: &Store, text: &str) -> Descriptor {
    let blob = store.put(text.as_bytes()).unwrap();
    Descriptor::new(media::MANIFEST, blob.digest().clone(), blob.size())
}

#[test]
fn the_same_bytes_are_kept_once() {
    let temp = Temp::new();
    let store = temp.store();
    let one = store.put(b"bytes").unwrap();
    let two = store.put(b"bytes").unwrap();
    assert_eq!(one, two);
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"by").unwrap();
    writer.write_all(b"tes").unwrap();
    assert_eq!(writer.finish().unwrap(), one);
    assert_eq!(files(&store.root().join("blobs")).len(), 1);
    let read = store.read_blob("text", one.digest(), 100).unwrap();
    assert_eq!(read, b"bytes");
}

#[test]
fn a_blob_that_is_not_what_was_promised_is_not_kept() {
    let temp = Temp::new();
    let store = temp.store();
    let want = Digest::of(b"right");
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"wrong").unwrap();
    let error = writer.finish_as(&want, 5).unwrap_err();
    let Error::Corrupt(mismatch) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (&mismatch.want, &mismatch.got),
        (&want, &Digest::of(b"wrong"))
    );
    drop(store.blob_writer().unwrap());
    let descriptor = Descriptor::new(media::LAYER, want.clone(), 5);
    let mut sink = store.begin(&descriptor).unwrap();
    sink.write_all(b"righ").unwrap();
    assert!(sink.write_all(b"teous").is_err());
    drop(sink);
    let mut sink = store.begin(&descriptor).unwrap();
    sink.write_all(b"right").unwrap();
    sink.finish().unwrap();
    assert!(store.has(&want).unwrap());
    assert_eq!(files(&store.root().join("blobs")).len(), 1);
    drop(store);
    assert!(files(&temp.path().join("store/tmp")).is_empty());
}

#[test]
fn what_cannot_be_verified_is_refused() {
    let temp = Temp::new();
    let store = temp.store();
    let digest: Digest = format!("sha512:{}", "a".repeat(128)).parse().unwrap();
    let writer = store.blob_writer().unwrap();
    let error = writer.finish_as(&digest, 0).unwrap_err();
    assert!(matches!(error, Error::Unverifiable { .. }), "{error:?}");
    assert_eq!(store.blob(&digest).unwrap(), None);
}

#[test]
fn a_name_is_moved_and_taken_away() {
    let temp = Temp::new();
    let store = temp.store();
    let (one, two) = (put_target(&store, "one"), put_target(&store, "two"));
    let app = name("app");
    assert_eq!(store.reference(&app).unwrap(), None);
    store.tag(&app, &one).unwrap();
    store.tag(&app, &two).unwrap();
    assert_eq!(store.reference(&app).unwrap(), Some(two.clone()));
    let long = format!(
        "host.example:5000/{}/x:{}",
        "p".repeat(200),
        "t".repeat(120)
    );
    store.tag(&name(&long), &one).unwrap();
    let all = store.references().unwrap();
    assert_eq!(all, [(app.clone(), two), (name(&long), one)]);
    assert!(store.untag(&app).unwrap());
    assert!(!store.untag(&app).unwrap());
    let nothing = Descriptor::new(media::MANIFEST, Digest::of(b"none"), 4);
    let error = store.tag(&app, &nothing).unwrap_err();
    assert!(matches!(error, Error::NoBlob { .. }), "{error:?}");
}

#[test]
fn a_torn_name_or_record_counts_as_absent() {
    let temp = Temp::new();
    let store = temp.store();
    let target = put_target(&store, "one");
    store.tag(&name("app"), &target).unwrap();
    let records = store.records("test");
    records.put("key", b"value").unwrap();
    for dir in ["refs", "records"] {
        for file in files(&store.root().join(dir)) {
            let path = store.root().join(dir).join(file);
            let size = std::fs::metadata(&path).unwrap().len();
            std::fs::write(&path, vec![0; usize::try_from(size).unwrap()]).unwrap();
        }
    }
    assert_eq!(store.reference(&name("app")).unwrap(), None);
    assert!(store.references().unwrap().is_empty());
    assert_eq!(records.get("key").unwrap(), None);
    assert_eq!(records.iter().unwrap().count(), 0);
    store.tag(&name("app"), &target).unwrap();
    assert_eq!(store.reference(&name("app")).unwrap(), Some(target));
}

#[test]
fn records_are_kept_by_text_or_digest() {
    let temp = Temp::new();
    let store = temp.store();
    let records = store.records("test");
    let digest = Digest::of(b"x");
    records.put(&digest, b"by digest").unwrap();
    records.put("some / text\n", b"by text").unwrap();
    records.put("some / text\n", b"again").unwrap();
    assert_eq!(records.get(&digest).unwrap().unwrap(), b"by digest");
    assert_eq!(records.get(digest.as_str()).unwrap().unwrap(), b"by digest");
    assert_eq!(records.get("some / text\n").unwrap().unwrap(), b"again");
    assert_eq!(store.records("other").get(&digest).unwrap(), None);
    let mut keys: Vec<String> = records.iter().unwrap().map(|r| r.unwrap().key).collect();
    keys.sort();
    let mut want = vec![digest.to_string(), "some / text\n".to_owned()];
    want.sort();
    assert_eq!(keys, want);
    assert!(records.remove(&digest).unwrap());
    assert!(!records.remove(&digest).unwrap());
}

#[test]
fn a_store_of_another_owner_or_version_is_refused() {
    let temp = Temp::new();
    let root = temp.store().root().to_owned();
    let path = root.join("format");
    let text = std::fs::read_to_string(&path).unwrap();
    let other = text.replacen("\"uid_map\":\"", "\"uid_map\":\"0 77 1, ", 1);
    assert_ne!(other, text);
    std::fs::write(&path, &other).unwrap();
    let error = Store::open(&root, options()).unwrap_err();
    assert!(matches!(error, Error::Owner { .. }), "{error:?}");
    assert!(error.to_string().contains("0 77 1"), "{error}");
    std::fs::write(&path, text.replacen("\"version\":1", "\"version\":9", 1)).unwrap();
    let error = Store::open(&root, options()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Version {
                got: 9,
                want: 1,
                ..
            }
        ),
        "{error:?}"
    );
    std::fs::write(&path, "{").unwrap();
    let error = Store::open(&root, options()).unwrap_err();
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    std::fs::write(
        &path,
        text.replace("\"user_xattr\":true", "\"user_xattr\":false"),
    )
    .unwrap();
    let error = Store::open(
        &root,
        Options {
            user_xattr: true,
            ..Options::default()
        },
    )
    .unwrap_err();
    assert!(matches!(error, Error::Attributes { .. }), "{error:?}");
}

#[test]
fn a_directory_with_other_things_in_it_is_no_store() {
    let temp = Temp::new();
    std::fs::write(temp.path().join("thesis.txt"), "dear").unwrap();
    let error = Store::open(temp.path(), options()).unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error:?}");
    assert_eq!(files(temp.path()), ["thesis.txt"]);
}

#[test]
fn nobody_else_may_enter_a_store() {
    let temp = Temp::new();
    let root = temp.path().join("store");
    std::fs::create_dir(&root).unwrap();
    std::fs::set_permissions(&root, PermissionsExt::from_mode(0o777)).unwrap();
    let store = temp.store();
    store.put(b"x").unwrap();
    store.records("test").put("k", b"v").unwrap();
    let scratch = store.scratch().unwrap();
    let mut dirs = vec![root.clone(), scratch.path().to_owned()];
    dirs.extend(std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()));
    for dir in dirs.iter().filter(|path| path.is_dir()) {
        let mode = std::fs::metadata(dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", dir.display());
    }
    for file in files(&root) {
        let mode = std::fs::metadata(root.join(&file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{file}");
    }
}

#[test]
fn scratch_is_spread_over_the_disk_where_the_file_system_takes_the_hint() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let temp = Temp::new();
    let store = temp.store();
    let spread = |dir: &std::path::Path| {
        let dir = std::fs::File::open(dir).unwrap();
        ioctl_getflags(&dir).is_ok_and(|flags| flags.contains(IFlags::TOPDIR))
    };
    let other = std::fs::File::open(temp.path()).unwrap();
    let taken =
        ioctl_getflags(&other).and_then(|flags| ioctl_setflags(&other, flags | IFlags::TOPDIR));
    for dir in ["containers", "tmp", "unsynced"] {
        let wanted = taken.is_ok() && spread(temp.path());
        assert_eq!(spread(&store.root().join(dir)), wanted, "{dir}");
    }
    assert!(!spread(&store.root().join("refs")));
}
