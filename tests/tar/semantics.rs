//! What a layer means: removals, links, replacing, metadata, and what is below.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cooper::layer::{Change, Error, Marks, Stack, TreePath};

use super::support::{
    Fields, Place, Tar, index, index_into, list, names, need_root, open, unpack_into,
};

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let len = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(len);
    Some(value)
}

fn is_opaque(dir: &Path) -> bool {
    xattr(dir, "trusted.overlay.opaque").as_deref() == Some(b"y")
}

#[test]
fn removals_take_overlayfs_form_and_spare_the_same_layer() {
    need_root();
    let place = Place::new();
    let tar = Tar::default()
        .file("d/.wh.gone", b"")
        .file("before", b"1")
        .file(".wh.before", b"")
        .file(".wh.behind", b"")
        .file("behind", b"2")
        .file(".wh.dir", b"")
        .dir("dir", 0o755)
        .file("dir/new", b"3")
        .dir("dir2", 0o755)
        .file(".wh.dir2", b"")
        .file(".wh.implied", b"")
        .file("implied/x", b"4")
        .file("opaque/.wh..wh..opq", b"")
        .file(".wh..wh.plnk/x", b"5")
        .file(".wh..wh.aufs", b"6");
    place.unpack(&tar.end()).unwrap();
    let names = names(&place.tree());
    assert_eq!(names["/d/gone"], "char 0:0");
    assert_eq!(names["/before"], "\"1\"");
    assert_eq!(names["/behind"], "\"2\"");
    assert!(!names.contains_key("/.wh..wh.plnk"));
    let tree = place.tree();
    for (dir, opaque) in [
        ("dir", true),
        ("dir2", true),
        ("implied", true),
        ("opaque", true),
        ("d", false),
    ] {
        assert_eq!(is_opaque(&tree.join(dir)), opaque, "{dir}");
    }
    assert_eq!(names["/dir/new"], "\"3\"");
}

#[test]
fn later_entries_replace_earlier_ones_of_any_type() {
    need_root();
    let place = Place::new();
    let tar = Tar::default()
        .file("a", b"1")
        .file("a", b"2")
        .file("d/x/y", b"3")
        .file("d", b"4")
        .file("f", b"5")
        .dir("f", 0o750)
        .file("f/in", b"6")
        .file("linked", b"old")
        .hard_link("other", "linked")
        .file("linked", b"new")
        .symlink("s", "f")
        .file("s/through", b"7")
        .file("s", b"8")
        .hard_link("s", "s");
    let done = place.unpack(&tar.clone().end()).unwrap();
    let seen = names(&place.tree());
    let want = [
        ("/", "dir"),
        ("/a", "\"2\""),
        ("/d", "\"4\""),
        ("/f", "dir"),
        ("/f/in", "\"6\""),
        ("/f/through", "\"7\""),
        ("/linked", "\"new\""),
        ("/other", "\"old\""),
        ("/s", "\"8\""),
    ];
    let want = want.map(|(name, what)| (name.to_owned(), what.to_owned()));
    assert_eq!(seen, want.clone().into());
    assert!(
        is_opaque(&place.tree().join("f")),
        "a file had hidden what is below"
    );
    assert!(done.self_contained, "the implied directory is gone");
    // ADD's index says the same.
    let changes = index(&tar.end()).unwrap();
    let listed: Vec<String> = changes.entries.keys().map(ToString::to_string).collect();
    assert_eq!(
        listed,
        want[1..]
            .iter()
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
    );
    let f = TreePath::clean(b"f").unwrap();
    assert!(matches!(changes.entries[&f], Change::Opaque(_)));
}

#[test]
fn an_entry_below_a_file_is_refused() {
    let place = Place::new();
    let tar = Tar::default().file("f", b"1").file("f/x", b"2").end();
    assert!(matches!(
        place.unpack(&tar),
        Err(Error::NotDirectory { .. })
    ));
    assert!(matches!(index(&tar), Err(Error::NotDirectory { .. })));
}

#[test]
fn an_entry_without_a_name_is_the_root() {
    let nameless = || Tar::default().file("", b"").dir("", 0o711).file("a", b"1");
    let place = Place::new();
    place.unpack(&nameless().end()).unwrap();
    let indexed = place.dir("indexed");
    index_into(&indexed, &nameless().end()).unwrap();
    for tree in [place.tree(), indexed] {
        assert_eq!(fs::read(tree.join("a")).unwrap(), b"1");
        assert_eq!(fs::metadata(&tree).unwrap().mode() & 0o7777, 0o711);
    }

    // Bytes have no place to go to.
    let full = Tar::default().file("", b"bytes").end();
    assert!(matches!(
        place.unpack(&full),
        Err(Error::NotDirectory { .. })
    ));
    assert!(matches!(index(&full), Err(Error::NotDirectory { .. })));
}

#[test]
fn hard_links_share_an_inode_also_in_an_index() {
    let place = Place::new();
    let tar = Tar::default()
        .file("z", b"shared")
        .hard_link("a", "z")
        .hard_link("./d/../m", "/a")
        .symlink("s", "z")
        .hard_link("s2", "s")
        .end();
    place.unpack(&tar).unwrap();
    let inode = |name: &str| fs::symlink_metadata(place.tree().join(name)).unwrap().ino();
    assert_eq!((inode("a"), inode("m")), (inode("z"), inode("z")));
    assert_eq!(names(&place.tree())["/s2"], "-> z");
    let changes = index(&tar).unwrap();
    let at = |name: &str| &changes.entries[&TreePath::clean(name.as_bytes()).unwrap()];
    assert!(matches!(at("a"), Change::Node(_)));
    for name in ["m", "z"] {
        assert!(
            matches!(at(name), Change::HardLink(first) if first.name() == b"a"),
            "{name}"
        );
    }
    let tar = Tar::default().dir("d", 0o755).hard_link("l", "d").end();
    assert!(matches!(place.unpack(&tar), Err(Error::BadHardLink { .. })));
    assert!(matches!(index(&tar), Err(Error::BadHardLink { .. })));
}

#[test]
fn a_layer_that_needs_what_is_below_gets_it_from_there() {
    need_root();
    let place = Place::new();
    let lower = place.dir("lower");
    let owned = |name: &str, flag, mode| Fields {
        ids: (7, 8),
        mode,
        ..Fields::new(flag, name)
    };
    let capability: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let tar = Tar::default()
        .header(&owned("dir", b'5', 0o1710))
        .pax(b'x', &[("SCHILY.xattr.security.capability", capability)])
        .header(&Fields {
            size: 3,
            ..owned("dir/file", b'0', 0o4711)
        })
        .data(b"low")
        .end();
    assert!(unpack_into(&lower, &tar, None).unwrap().self_contained);
    let below = Stack::new(vec![open(&lower)], Marks::Trusted);
    let upper = Tar::default().hard_link("dir/again", "dir/file").end();
    let done = unpack_into(&place.tree(), &upper, Some(&below)).unwrap();
    assert!(!done.self_contained);
    let lines = list(&place.tree());
    assert!(
        lines[1].starts_with("/dir dir 1710 7:8 1600000000"),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with("/dir/again \"low\" 4711 7:8"),
        "{lines:?}"
    );
    assert!(
        lines[3].starts_with("/dir/file \"low\" 4711 7:8"),
        "{lines:?}"
    );
    let file = place.tree().join("dir/again");
    assert_eq!(
        xattr(&file, "security.capability").as_deref(),
        Some(capability)
    );
    assert_eq!(fs::metadata(&file).unwrap().nlink(), 2);
    // Without knowing what is below it says that it is of no use.
    let done = unpack_into(&place.dir("alone"), &upper, None).unwrap();
    assert!(!done.self_contained);
    // A parent that comes after what is in it is still named.
    let late = Tar::default().file("late/f", b"").dir("late", 0o700).end();
    let dir = place.dir("late");
    assert!(unpack_into(&dir, &late, None).unwrap().self_contained);
    assert!(list(&dir)[1].starts_with("/late dir 700"));
}

#[test]
fn t_tar_7_metadata_is_restored_and_what_belongs_to_the_host_is_not() {
    need_root();
    let place = Place::new();
    let records: &[(&str, &[u8])] = &[
        (
            "SCHILY.xattr.security.selinux",
            b"system_u:object_r:evil_t:s0",
        ),
        ("SCHILY.xattr.security.ima", b"\x01"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.kept", b"yes"),
        ("mtime", b"1500000000.25"),
        ("uid", b"3000000"),
    ];
    let setuid = Fields {
        mode: 0o6755,
        ids: (1, 2),
        ..Fields::new(b'0', "setuid")
    };
    let tar = Tar::default()
        .header(&Fields {
            mode: 0o1777,
            ids: (5, 6),
            mtime: 7,
            ..Fields::new(b'5', "./")
        })
        .pax(b'x', records)
        .header(&Fields {
            mode: 0o2750,
            ..Fields::new(b'5', "dir")
        })
        .file("dir/in", b"later than the directory")
        .header(&setuid)
        .header(&Fields {
            mode: 0o640,
            ..Fields::new(b'6', "fifo")
        })
        .header(&Fields {
            device: (1, 3),
            mode: 0o666,
            ..Fields::new(b'3', "null")
        })
        .header(&Fields {
            device: (7, 0),
            ..Fields::new(b'4', "loop")
        })
        .header(&Fields {
            ids: (9, 9),
            link: b"t".to_vec(),
            ..Fields::new(b'2', "link")
        })
        .header(&Fields::new(b'3', "zero"));
    let done = place.unpack(&tar.end()).unwrap();
    let shown: Vec<String> = done.left_out.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["/zero"], "0/0 would be a removal");
    let want = [
        "/ dir 1777 5:6 7",
        "/dir dir 2750 3000000:0 1500000000",
        "/dir/in \"later than the directory\" 644 0:0 1600000000",
        "/fifo fifo 640 0:0 1600000000",
        "/link -> t 777 9:9 1600000000",
        "/loop block 7:0 644 0:0 1600000000",
        "/null char 1:3 666 0:0 1600000000",
        "/setuid \"\" 6755 1:2 1600000000",
    ];
    assert_eq!(list(&place.tree()), want);
    let dir = place.tree().join("dir");
    let mut names = vec![0; 1024];
    let len = rustix::fs::llistxattr(&dir, &mut names[..]).unwrap();
    assert_eq!(&names[..len], b"user.kept\0");
    assert_eq!(fs::metadata(&dir).unwrap().mtime_nsec(), 250_000_000);
}

#[test]
fn t_tar_7_no_device_is_made_without_the_right_to() {
    need_root();
    let place = Place::new();
    let tar = Tar::default()
        .header(&Fields {
            device: (1, 3),
            ..Fields::new(b'3', "null")
        })
        .header(&Fields {
            device: (8, 0),
            ..Fields::new(b'4', "sda")
        })
        .hard_link("again", "null")
        .file("file", b"1")
        .file(".wh.gone", b"")
        .end();
    // As in a user namespace: this thread alone gives the right away.
    let done = std::thread::scope(|scope| {
        let without = || {
            let mut sets = rustix::thread::capabilities(None).unwrap();
            sets.effective.remove(rustix::thread::CapabilitySet::MKNOD);
            rustix::thread::set_capabilities(None, sets).unwrap();
            place.unpack(&tar).unwrap()
        };
        scope.spawn(without).join().unwrap()
    });
    let left_out: Vec<String> = done.left_out.iter().map(ToString::to_string).collect();
    assert_eq!(left_out, ["/null", "/sda", "/again"]);
    assert!(done.self_contained);
    let seen = names(&place.tree());
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["/", "/file", "/gone"]);
}
