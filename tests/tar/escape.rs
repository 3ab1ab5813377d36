//! Nothing outside the target is written, removed, linked or changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cooper::layer::{Error, TarBody};

use super::canary::racing_time;
use super::support::{Fields, Place, Tar, index, index_into, names, need_root, open, unpack_into};

/// How long a busy machine may take until a race has begun.
const LIMIT: Duration = Duration::from_secs(60);

/// Archives that try to leave the target for `outside`.
fn corpus(outside: &str) -> Vec<(&'static str, Vec<u8>)> {
    let climb = format!("../../../../../../..{outside}");
    let file = |name: String| Tar::default().file(name, b"evil").end();
    let link = |target: &str| Tar::default().symlink("d", target);
    let mut corpus = vec![
        ("dots", file("../canary/file".into())),
        ("many dots", file(format!("{climb}/file"))),
        ("absolute", file(format!("{outside}/file"))),
        ("dots inside", file("a/../../canary/file".into())),
        ("dots behind", file("a/b/../../../canary/new".into())),
        (
            "root is a link",
            link("x").symlink(".", outside).file("file", b"evil").end(),
        ),
        ("root is a file", Tar::default().file("./", b"evil").end()),
        (
            "relative hard link",
            Tar::default().hard_link("h", "../canary/file").end(),
        ),
        (
            "absolute hard link",
            Tar::default()
                .hard_link("h", format!("{outside}/file"))
                .end(),
        ),
        (
            "hard link through a link",
            link(outside).hard_link("h", "d/file").end(),
        ),
        (
            "write to a hard link",
            Tar::default()
                .hard_link("h", format!("{outside}/file"))
                .file("h", b"evil")
                .end(),
        ),
        (
            "chain of links",
            link("e")
                .symlink("e", "f")
                .symlink("f", outside)
                .file("d/file", b"evil")
                .end(),
        ),
        (
            "link that climbs",
            link("../canary").file("d/file", b"evil").end(),
        ),
        (
            "link in a link",
            link(outside)
                .symlink("d/link", "/etc")
                .file("d/link/x", b"evil")
                .end(),
        ),
        (
            "whiteout",
            link(outside)
                .file("d/.wh.file", b"")
                .file("d/.wh.dir", b"")
                .end(),
        ),
        ("opaque", link(outside).file("d/.wh..wh..opq", b"").end()),
        ("loop", link("d").file("d/file", b"evil").end()),
    ];
    for flag in [b'0', b'5', b'6', b'3', b'4'] {
        let name = match flag {
            b'0' => "file through a link",
            b'5' => "directory through a link",
            b'6' => "fifo through a link",
            b'3' => "device through a link",
            _ => "block device through a link",
        };
        let header = Fields {
            mode: 0o7777,
            ids: (12, 34),
            device: (1, 3),
            ..Fields::new(flag, "d/dir")
        };
        corpus.push((name, link(outside).header(&header).end()));
        let header = Fields {
            name: b"d".to_vec(),
            ..header
        };
        corpus.push((name, link(outside).header(&header).end()));
        let xattr: &[(&str, &[u8])] = &[("SCHILY.xattr.user.evil", b"1")];
        corpus.push((name, link(outside).pax(b'x', xattr).header(&header).end()));
    }
    corpus
}

#[test]
fn t_tar_1_nothing_is_written_outside_the_target() {
    let place = Place::new();
    let outside = place.canary();
    for (index, (name, tar)) in corpus(outside.to_str().unwrap()).into_iter().enumerate() {
        for (way, write) in [("unpack", true), ("add", false)] {
            let dir = place.dir(&format!("{way}{index}"));
            let result = if write {
                unpack_into(&dir, &tar, None).map(drop)
            } else {
                index_into(&dir, &tar)
            };
            place.check();
            let confined = result.is_err() || fs::read_dir(&dir).unwrap().next().is_some();
            assert!(
                confined || name.contains("hard link"),
                "{way} of `{name}` went elsewhere"
            );
        }
    }
}

#[test]
fn t_tar_1_a_link_of_an_earlier_layer_is_not_followed() {
    let place = Place::new();
    let outside = place.canary();
    let lower = place.dir("lower");
    let link = Tar::default().symlink("d", outside.to_str().unwrap()).end();
    unpack_into(&lower, &link, None).unwrap();
    let below = cooper::layer::Stack::new(vec![open(&lower)], cooper::layer::Marks::Trusted);
    let upper = Tar::default()
        .file("d/file", b"evil")
        .hard_link("h", "d/file")
        .end();
    let done = unpack_into(&place.tree(), &upper, Some(&below)).unwrap();
    assert!(!done.self_contained);
    assert_eq!(names(&place.tree())["/d/file"], "\"evil\"");
    let copied = Tar::default().hard_link("h2", "d").end();
    unpack_into(&place.dir("third"), &copied, Some(&below)).unwrap();
    place.check();
}

#[test]
fn t_tar_2_a_hard_link_never_means_the_working_directory() {
    // Tests run in the package's directory, which has this file.
    assert!(fs::metadata("Cargo.toml").is_ok());
    let place = Place::new();
    let before = fs::metadata("Cargo.toml").unwrap().nlink();
    for target in ["Cargo.toml", "./Cargo.toml", "src/../Cargo.toml"] {
        let tar = Tar::default().hard_link("stolen", target).end();
        let done = unpack_into(&place.tree(), &tar, None).unwrap();
        assert!(!done.self_contained);
        assert!(!names(&place.tree()).contains_key("/stolen"));
        let empty = cooper::layer::Stack::new(Vec::new(), cooper::layer::Marks::Trusted);
        let refused = unpack_into(&place.tree(), &tar, Some(&empty));
        assert!(matches!(refused, Err(Error::BadHardLink { .. })));
        assert!(matches!(index(&tar), Err(Error::BadHardLink { .. })));
    }
    assert_eq!(fs::metadata("Cargo.toml").unwrap().nlink(), before);
}

#[test]
fn t_tar_3_removals_through_links_remove_nothing() {
    need_root();
    let place = Place::new();
    let outside = place.canary();
    let tar = Tar::default()
        .symlink("etc", outside.to_str().unwrap())
        .file("etc/.wh.file", b"")
        .file("etc/.wh..wh..opq", b"")
        .file("etc/.wh...", b"");
    let result = place.unpack(&tar.clone().end());
    assert!(
        matches!(result, Err(Error::Tar { .. })),
        "`.wh...` would remove the parent"
    );
    place.check();
    let tar = Tar::default().file(".wh..", b"").end();
    assert!(matches!(place.unpack(&tar), Err(Error::Tar { .. })));
    place.check();
}

#[test]
fn t_tar_4_a_race_on_any_part_of_a_path_stays_inside() {
    let place = Place::new();
    let outside = place.canary();
    let mut tar = Tar::default()
        .dir("a", 0o755)
        .dir("a/b", 0o755)
        .dir("a/b/c", 0o755);
    for at in 0..200 {
        tar = tar
            .file(format!("a/b/c/f{at}"), b"evil")
            .dir(format!("a/b/d{at}"), 0o777);
        tar = tar
            .file(format!("a/.wh.g{at}"), b"")
            .symlink(format!("a/l{at}"), "x");
    }
    let tar = tar.end();
    let stop = AtomicBool::new(false);
    let swaps = AtomicU64::new(0);
    let target = open(&place.tree());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            for part in ["a", "a/b", "a/b/c"].iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let link = format!("link-{}", part.len());
                // Both names must be there; the next round is soon enough.
                let _ = std::os::unix::fs::symlink(&outside, place.tree().join(&link));
                for _ in 0..20 {
                    let swap = rustix::fs::renameat_with(&target, *part, &target, &link, exchange);
                    swaps.fetch_add(u64::from(swap.is_ok()), Ordering::Relaxed);
                }
            }
        });
        let began = Instant::now();
        let few = || swaps.load(Ordering::Relaxed) < 1000;
        while began.elapsed() < racing_time() || few() && began.elapsed() < LIMIT {
            // Most runs fail, as they should: what they made was moved away.
            let _ = unpack_into(&place.tree(), &tar, None);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(!few(), "the race did not take place");
    });
    place.check();
}

#[test]
fn t_tar_5_a_directory_entry_does_not_chmod_through_a_link() {
    let place = Place::new();
    let outside = place.canary();
    let mode = fs::metadata(&outside).unwrap().mode();
    let tar = Tar::default()
        .symlink("d", outside.to_str().unwrap())
        .dir("d/", 0o777)
        .end();
    place.unpack(&tar).unwrap();
    assert_eq!(names(&place.tree())["/d"], "dir");
    assert_eq!(fs::metadata(&outside).unwrap().mode(), mode);
    place.check();
    let changes = index(&tar).unwrap();
    assert_eq!(changes.entries.len(), 1, "{changes:?}");
}

#[test]
fn names_with_dots_are_confined_lexically() {
    let tar = Tar::default()
        .file("a/../../x", b"1")
        .file("/y", b"2")
        .file("./z/", b"");
    let listed = super::support::entries(&tar.end()).unwrap();
    let names: Vec<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["/x", "/y", "/z"]);
    assert!(
        listed
            .iter()
            .all(|(_, body)| matches!(body, TarBody::Node(_)))
    );
}
