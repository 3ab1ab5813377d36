//! T-TAR-6 and T-TAR-8: archives that readers could take for different things.
//!
//! Where GNU tar and Python are there, their lists of names are held against ours: they must be
//! equal, or we refuse the archive.

use std::fs;
use std::process::Command;

use cooper::layer::{Kind, TarBody, TarReader};
use proptest::prelude::*;

use super::support::{Fields, Place, Tar, chain, entries, index, list, names, sum};

const GNU: [u8; 8] = *b"ustar  \0";

/// Runs a reader on the archive in `path` and returns its list of names, or `None` if it fails.
fn others(program: &str, path: &str) -> Option<Vec<String>> {
    const PYTHON: &str = "import sys, tarfile, os\n\
        for m in tarfile.open(sys.argv[1], errorlevel=2, encoding='utf-8'): print(m.name)";
    let mut command = Command::new(program);
    match program {
        "tar" => command.args(["-tPf", path, "--quoting-style=literal"]),
        _ => command.args(["-c", PYTHON, path]),
    };
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let clean = |name: &str| format!("/{}", name.trim_start_matches("./").trim_matches('/'));
    output
        .status
        .success()
        .then(|| text.lines().map(clean).collect())
}

/// Holds our list of an archive against the other readers', and returns ours.
#[track_caller]
fn agree(tar: &[u8]) -> Result<Vec<(String, TarBody)>, String> {
    let ours = entries(tar)?;
    let place = Place::new();
    let path = place.tree().join("tar");
    fs::write(&path, tar).unwrap();
    let listed: Vec<&String> = ours.iter().map(|(name, _)| name).collect();
    for program in ["tar", "python3"] {
        if Command::new(program).arg("--version").output().is_ok() {
            let theirs = others(program, path.to_str().unwrap());
            let theirs =
                theirs.unwrap_or_else(|| panic!("{program} refuses what we read: {ours:?}"));
            assert_eq!(
                listed,
                theirs.iter().collect::<Vec<_>>(),
                "{program} reads otherwise"
            );
        }
    }
    Ok(ours)
}

fn file(size: u64) -> TarBody {
    TarBody::Node(Kind::File { size })
}

#[track_caller]
fn refused(tar: Tar, why: &str) {
    let error = entries(&tar.end()).expect_err("it was read");
    assert!(error.contains(why), "{error}");
}

/// An archive in an archive, to be smuggled past a reader that takes the wrong size.
fn inner() -> Vec<u8> {
    Tar::default().file("smuggled", b"evil").end()
}

#[test]
fn t_tar_6_the_size_of_an_extended_header_counts_for_every_reader() {
    let inner = inner();
    let size = inner.len().to_string();
    let tar = Tar::default()
        .pax(b'x', &[("size", size.as_bytes())])
        .header(&Fields::new(b'0', "outer"))
        .data(&inner)
        .file("last", b"1");
    let listed = agree(&tar.end()).unwrap();
    assert_eq!(
        listed,
        [
            ("/outer".into(), file(inner.len() as u64)),
            ("/last".into(), file(1))
        ]
    );
}

#[test]
fn t_tar_6_a_path_in_an_extended_header_names_the_next_entry_only() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(140));
    let tar = Tar::default()
        .pax(b'x', &[("path", long.as_bytes()), ("comment", b"x")])
        .file("short", b"1")
        .file("second", b"22");
    let listed = agree(&tar.end()).unwrap();
    assert_eq!(listed[0], (format!("/{long}"), file(1)));
    assert_eq!(listed[1], ("/second".into(), file(2)));
}

#[test]
fn t_tar_6_gnu_long_names_are_read() {
    let name = "n".repeat(300);
    let target = "t".repeat(200);
    let gnu = |flag, name: &str| Fields {
        magic: GNU,
        ..Fields::new(flag, name)
    };
    let ended = |text: &str| [text.as_bytes(), b"\0"].concat();
    let tar = Tar::default()
        .long(b'L', &ended(&name))
        .header(&gnu(b'0', "cut"))
        .long(b'K', &ended(&target))
        .long(b'L', &ended("link"))
        .header(&Fields {
            link: b"cut".to_vec(),
            ..gnu(b'2', "cut")
        })
        .header(&gnu(b'5', "plain/"));
    let listed = agree(&tar.end()).unwrap();
    assert_eq!(listed[0], (format!("/{name}"), file(0)));
    let link = Kind::Symlink {
        target: target.into_bytes(),
    };
    assert_eq!(listed[1], ("/link".into(), TarBody::Node(link)));
    assert_eq!(listed[2].0, "/plain");
}

#[test]
fn t_tar_6_global_headers_that_readers_apply_differently_are_refused() {
    let global = |key, value| Tar::default().pax(b'g', &[(key, value)]).file("name", b"1");
    let comment = global("comment", b"0123abc").end();
    assert_eq!(agree(&comment).unwrap().len(), 1);
    refused(global("path", b"other"), "global");
    refused(global("size", b"512"), "global");
    refused(global("linkpath", b"/x"), "global");
    refused(global("GNU.sparse.name", b"other"), "global");
    refused(global("SCHILY.xattr.security.capability", b"x"), "global");
}

#[test]
fn t_tar_6_contradictions_and_damage_are_refused() {
    let path = |name: &'static [u8]| Tar::default().pax(b'x', &[("path", name)]);
    refused(
        path(b"a").pax(b'x', &[("path", b"b")]).file("c", b""),
        "contradict",
    );
    refused(path(b"a").long(b'L', b"b\0").file("c", b""), "contradict");
    refused(
        Tar::default()
            .long(b'L', b"a\0")
            .long(b'L', b"b\0")
            .file("c", b""),
        "contradict",
    );
    refused(path(b"a"), "no entry behind");
    refused(
        Tar::default().long(b'x', b"12 path=abc").file("c", b""),
        "malformed record",
    );
    refused(
        Tar::default().long(b'x', b"999 path=abc\n").file("c", b""),
        "malformed record",
    );
    refused(
        Tar::default().long(b'x', b"garbage").file("c", b""),
        "malformed record",
    );
    refused(path(b"a\0b").file("c", b""), "NUL");
    refused(
        Tar::default().pax(b'x', &[("size", b"-1")]).file("c", b""),
        "`size`",
    );
    refused(
        Tar::default().pax(b'x', &[("size", b"1e3")]).file("c", b""),
        "`size`",
    );
    refused(
        Tar::default()
            .pax(b'x', &[("uid", b"4294967295")])
            .file("c", b""),
        "`uid`",
    );
    let huge = Fields {
        size: 2 << 20,
        ..Fields::new(b'x', "x")
    };
    refused(Tar::default().header(&huge), "more than the");
    refused(Tar::default().symlink("a", ""), "empty");
    for flag in [b'2', b'3', b'5', b'6'] {
        let header = Fields {
            size: 512,
            link: b"t".to_vec(),
            ..Fields::new(flag, "a")
        };
        refused(
            Tar::default().header(&header).data(&inner()[..512]),
            "bytes of data",
        );
    }
    for flag in [b'M', b'V', b'D', b'N', b'X', b'A', b'8', b's', 0xff] {
        refused(Tar::default().header(&Fields::new(flag, "a")), "type");
    }
    let mut zeros = Tar::default().file("a", b"1");
    zeros.bytes.extend([0; 512]);
    refused(zeros.file("b", b"1"), "single block of zeros");
    let mut bent = Tar::default().file("a", b"1").end();
    bent[3] ^= 1;
    assert!(entries(&bent).unwrap_err().contains("checksum"));
}

#[test]
fn t_tar_6_a_hard_link_has_no_payload_whatever_it_says() {
    let link = Fields {
        size: 4,
        link: b"a".to_vec(),
        ..Fields::new(b'1', "b")
    };
    let tar = Tar::default()
        .file("a", b"1")
        .header(&link)
        .file("c", b"2")
        .end();
    let listed = agree(&tar).unwrap();
    assert_eq!(listed.len(), 3);
    let tar = Tar::default()
        .file("a", b"1")
        .header(&link)
        .data(b"1234")
        .file("c", b"2")
        .end();
    assert!(entries(&tar).unwrap_err().contains("checksum"));
}

#[test]
fn t_tar_6_an_archive_cut_anywhere_is_refused_or_ends_between_entries() {
    let tar = Tar::default()
        .file("a", &[b'1'; 700])
        .pax(b'x', &[("path", b"b")])
        .file("x", b"2")
        .hard_link("c", "a")
        .end();
    for cut in 0..tar.len() - 1024 {
        let result = entries(&tar[..cut]);
        let at_end = [0, 512 + 1024, 512 + 1024 + 4 * 512].contains(&cut);
        assert_eq!(result.is_ok(), at_end, "cut at {cut}: {result:?}");
        assert_eq!(index(&tar[..cut]).is_ok(), at_end, "cut at {cut}");
    }
}

#[test]
fn t_tar_6_names_may_be_split_or_old() {
    let mut split = Fields::new(b'0', "rest").block();
    split[345..348].copy_from_slice(b"pre");
    sum(&mut split);
    let old = Fields {
        magic: [0; 8],
        ..Fields::new(0, "old/")
    };
    let mut tar = Tar::default();
    tar.bytes.extend(split);
    let listed = agree(&tar.header(&old).end()).unwrap();
    assert_eq!(listed[0].0, "/pre/rest");
    assert_eq!(listed[1], ("/old".into(), TarBody::Node(Kind::Dir)));
}

/// Makes a sparse file, has GNU tar pack it, and compares what we unpack.
#[test]
fn t_tar_6_sparse_files_of_every_format_are_restored() {
    let place = Place::new();
    let from = place.dir("from");
    let sparse = fs::File::create(from.join("sparse")).unwrap();
    for at in [0_u64, 1 << 20, (3 << 20) + 12345] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[b'x'; 5000], at).unwrap();
    }
    sparse.set_len(5 << 20).unwrap();
    fs::File::create(from.join("hole"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    fs::write(from.join("full"), [b'f'; 3000]).unwrap();
    let many = fs::File::create(from.join("many")).unwrap();
    for at in 0..200 {
        std::os::unix::fs::FileExt::write_all_at(&many, b"y", at * 65536).unwrap();
    }
    let want = list(&from);
    for (index, format) in [
        &["gnu"][..],
        &["pax", "--sparse-version=0.0"],
        &["pax", "--sparse-version=0.1"],
        &["pax"],
    ]
    .iter()
    .enumerate()
    {
        let archive = place.canary().with_file_name(format!("{index}.tar"));
        let mut command = Command::new("tar");
        command.args([
            "-cSf",
            archive.to_str().unwrap(),
            "-C",
            from.to_str().unwrap(),
        ]);
        command
            .arg(format!("--format={}", format[0]))
            .args(&format[1..])
            .arg(".");
        let Ok(status) = command.status() else { return };
        assert!(status.success());
        let tar = fs::read(&archive).unwrap();
        assert!(tar.len() < 3 << 20, "GNU tar packed no holes");
        let dir = place.dir(&format!("unpacked{index}"));
        super::support::unpack_into(&dir, &tar, None).unwrap();
        assert_eq!(list(&dir), want, "{format:?}");
        let dir = place.dir(&format!("indexed{index}"));
        super::support::index_into(&dir, &tar).unwrap();
        assert_eq!(names(&dir), names(&from), "{format:?}");
        // The encoder writes the holes out, and reads the same.
        let mut plain = Vec::new();
        let file = std::sync::Arc::new(fs::File::open(&archive).unwrap());
        let changes = cooper::layer::index_tar(file).unwrap();
        cooper::layer::encode(&changes, &Default::default(), &mut plain).unwrap();
        let dir = place.dir(&format!("encoded{index}"));
        super::support::unpack_into(&dir, &plain, None).unwrap();
        assert_eq!(names(&dir), names(&from), "{format:?}");
    }
}

#[test]
fn t_tar_6_sparse_maps_that_do_not_fit_are_refused() {
    let sparse = |map: &[u8], real: &[u8], stored: &[u8]| {
        let records = [
            ("GNU.sparse.map", map),
            ("GNU.sparse.size", real),
            ("GNU.sparse.name", b"s"),
        ];
        Tar::default().pax(b'x', &records).file("x", stored)
    };
    assert_eq!(
        entries(&sparse(b"0,2,10,1", b"11", b"abc").end()).unwrap()[0].1,
        file(11)
    );
    refused(sparse(b"0,2,10,1", b"10", b"abc"), "map");
    refused(sparse(b"0,2,1,1", b"11", b"abc"), "map");
    refused(sparse(b"0,2", b"11", b"abc"), "map");
    refused(sparse(b"0,2,10,2", b"12", b"abc"), "map");
    refused(sparse(b"18446744073709551615,2", b"5", b"ab"), "map");
    refused(sparse(b"0,2,3", b"11", b"abc"), "GNU.sparse.map");
    let records: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"9"),
    ];
    for map in [
        &b"1\n0\n"[..],
        b"999999999\n",
        b"x\n",
        b"111111111111111111111111111\n",
        b"",
    ] {
        refused(Tar::default().pax(b'x', records).file("x", map), "map");
    }
}

#[test]
fn t_tar_8_odd_names_have_one_meaning() {
    let odd: &[&[u8]] = &[
        b"caf\xe9",
        b"\xff\xfe",
        b"new\nline",
        b"back\\slash",
        "é".as_bytes(),
    ];
    let mut tar = Tar::default();
    for name in odd {
        tar = tar.file(name, b"1");
    }
    let long = vec![b'l'; 4000];
    let component = [b"dir/".as_slice(), &[b'c'; 255]].concat();
    tar = tar.pax(b'x', &[("path", &component)]).file("x", b"2");
    tar = tar
        .file("a/", b"")
        .file("A/", b"")
        .dir("twice", 0o700)
        .dir("twice/", 0o755);
    let place = Place::new();
    place.unpack(&tar.clone().end()).unwrap();
    assert_eq!(names(&place.tree()).len(), 1 + odd.len() + 2 + 2 + 1);
    // One part that no file system takes, and a path that no call takes.
    let tar = Tar::default()
        .pax(b'x', &[("path", &long)])
        .file("x", b"")
        .end();
    assert!(chain(&place.unpack(&tar).unwrap_err()).contains("File name too long"));
    let path = vec![b'a'; 5000];
    let tar = Tar::default()
        .pax(b'x', &[("path", &path)])
        .file("x", b"")
        .end();
    assert!(entries(&tar).unwrap_err().contains("5000 bytes"));
}

#[test]
fn t_tar_8_paths_do_not_grow_without_end_through_links() {
    let deep = "d/".repeat(2000);
    let place = Place::new();
    let tar = Tar::default()
        .pax(b'x', &[("path", deep.as_bytes())])
        .dir("x", 0o755)
        .pax(b'x', &[("linkpath", deep.as_bytes())])
        .symlink("l", "x")
        .pax(b'x', &[("path", format!("l/{deep}f").as_bytes())])
        .file("x", b"")
        .end();
    assert!(chain(&place.unpack(&tar).unwrap_err()).contains("File name too long"));
    // What is that deep can also be replaced.
    let tar = Tar::default()
        .pax(b'x', &[("path", deep.as_bytes())])
        .dir("x", 0o755)
        .file("d", b"now a file")
        .end();
    let place = Place::new();
    place.unpack(&tar).unwrap();
    assert_eq!(names(&place.tree())["/d"], "\"now a file\"");
}

#[test]
fn t_tar_8_many_entries_take_linear_time() {
    let build = |count: usize| {
        let mut tar = Tar::default();
        for at in 0..count {
            // The same names again and again, in a directory of many.
            tar.bytes
                .extend(Fields::new(b'0', format!("d/{:07}", at / 2)).block());
        }
        tar.end()
    };
    let time = |tar: &[u8]| {
        let start = std::time::Instant::now();
        index(tar).unwrap();
        start.elapsed()
    };
    let (small, large) = (build(4_000), build(32_000));
    time(&small);
    let (small, large) = (time(&small), time(&large));
    assert!(
        large < small * 8 * 4 + std::time::Duration::from_millis(200),
        "{small:?} {large:?}"
    );
}

fn blocks() -> impl Strategy<Value = Vec<u8>> {
    let flag = prop::sample::select(b"01234567xgLKSD\0".to_vec());
    let name = "[a-c/.]{0,12}";
    let header = (flag, name, "[a-c/.]{0,8}", 0_u64..2000, any::<bool>()).prop_map(
        |(flag, name, link, size, gnu)| {
            let magic = if gnu { GNU } else { *b"ustar\x0000" };
            let fields = Fields {
                size,
                link: link.into(),
                magic,
                ..Fields::new(flag, name)
            };
            fields.block().to_vec()
        },
    );
    let noise = prop::collection::vec(any::<u8>(), 0..1500);
    let records =
        "([0-9]{1,3} (path|size|GNU.sparse.map|GNU.sparse.size|mtime)=[0-9,]{0,9}\n){0,3}";
    let records = records.prop_map(|text| Tar::default().long(b'x', text.as_bytes()).bytes);
    let part = prop_oneof![4 => header, 1 => noise, 1 => records, 1 => Just(vec![0; 512])];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn t_dos_5_no_bytes_make_the_reader_panic(tar in blocks()) {
        let mut reader = TarReader::new(tar.as_slice());
        while let Ok(Some(entry)) = reader.next_entry() {
            prop_assert!(entry.stored <= tar.len() as u64 || entry.extents.is_none());
        }
        // It has ended, and stays so.
        prop_assert!(matches!(reader.next_entry(), Ok(None)));
        let _ = index(&tar);
    }

}

proptest! {
    // Each case unpacks, so fewer do.
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn t_dos_5_no_change_of_a_good_archive_makes_the_reader_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        fix in any::<bool>(),
    ) {
        let mut tar = Tar::default()
            .pax(b'x', &[("path", b"a"), ("SCHILY.xattr.user.x", b"1"), ("mtime", b"1.5")])
            .file("x", b"data")
            .symlink("l", "a")
            .hard_link("h", "a")
            .end();
        for (at, byte) in changes {
            let at = at.index(tar.len());
            tar[at] = byte;
        }
        if fix {
            for block in tar.chunks_exact_mut(512) {
                sum(block.try_into().unwrap());
            }
        }
        let _ = index(&tar);
        let place = Place::new();
        let _ = place.unpack(&tar);
        place.check();
    }
}
