//! Which bytes are written: the same for the same changes, on any machine and any number of
//! threads, and as others read them.

use std::fs;
use std::io::{Seek, Write};
use std::num::NonZero;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use cooper::image::{Compression, Digest};
use cooper::layer::{
    COMPRESSOR_VERSION, Change, Changes, Content, ENCODER_VERSION, EncodeOptions, Error, Format,
    Kind, Marks, Meta, Node, Stack, Time, TreePath, compressor, decompress, encode, estargz,
    is_tar, sniff,
};

use super::support::{Place, index, list, names, need_root, open, read_all, unpack_into};

fn path(raw: impl AsRef<[u8]>) -> TreePath {
    TreePath::clean(raw.as_ref()).unwrap()
}

fn meta(mode: u32) -> Meta {
    let mtime = Time {
        secs: 1_700_000_000,
        nanos: 999_999_999,
    };
    Meta {
        mode,
        mtime,
        ..Meta::default()
    }
}

fn other(kind: Kind) -> Change {
    Change::Node(Node {
        meta: meta(0o644),
        kind,
        content: None,
    })
}

/// One of everything that an encoder may meet.
fn everything() -> Changes {
    let mut changes = Changes::default();
    let mut add = |name: &[u8], change| changes.entries.insert(path(name), change);
    add(b"", Change::Node(Node::dir(meta(0o755))));
    add(b"dir", Change::Node(Node::dir(meta(0o1777))));
    add(
        b"dir/file",
        Change::Node(Node::file(meta(0o4755), &b"contents"[..])),
    );
    add(b"dir/hard", Change::HardLink(path("dir/file")));
    add(
        b"dir-before",
        Change::Node(Node::file(meta(0o644), &b""[..])),
    );
    add(b"block", other(Kind::Block { major: 7, minor: 1 }));
    add(
        b"char",
        other(Kind::Char {
            major: 1,
            minor: 1_048_575,
        }),
    );
    add(b"fifo", other(Kind::Fifo));
    add(b"gone", Change::Whiteout);
    add(b"dir/gone", Change::Whiteout);
    add(b"hidden", Change::Opaque(Node::dir(meta(0o700))));
    add(b"socket", other(Kind::Socket));
    add(
        b"link",
        other(Kind::Symlink {
            target: b"../dir/file".to_vec(),
        }),
    );
    add(
        b"long-link",
        other(Kind::Symlink {
            target: vec![b't'; 300],
        }),
    );
    add(&[b'n'; 100], other(Kind::File { size: 0 }));
    add(&[b'm'; 101], other(Kind::File { size: 0 }));
    add(
        &[&[b'p'; 155][..], b"/", &[b's'; 100]].concat(),
        other(Kind::File { size: 0 }),
    );
    add(
        &[&[b'p'; 156][..], b"/", &[b's'; 100]].concat(),
        other(Kind::File { size: 0 }),
    );
    add(
        &[&[b'q'; 60][..], b"/", &[b'd'; 99]].concat(),
        Change::Node(Node::dir(meta(0o755))),
    );
    add(b"caf\xe9", other(Kind::File { size: 0 }));
    add(&[b'\xe9'; 120], other(Kind::File { size: 0 }));
    let mut odd = meta(0o600);
    (odd.uid, odd.gid) = (0o777_7777, 3_000_000_000);
    odd.mtime = Time { secs: -5, nanos: 1 };
    odd.xattrs.insert(b"user.z".to_vec(), b"last".to_vec());
    odd.xattrs
        .insert(b"user.a".to_vec(), b"\0\n=binary".to_vec());
    odd.xattrs.insert(
        b"security.capability".to_vec(),
        b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
    );
    add(b"odd", Change::Node(Node::file(odd, vec![b'x'; 1000])));
    add(b"odd-hard", Change::HardLink(path("odd")));
    changes
}

fn bytes_of(changes: &Changes, options: &EncodeOptions) -> Vec<u8> {
    let mut out = Vec::new();
    let size = encode(changes, options, &mut out).unwrap();
    assert_eq!(size, out.len() as u64);
    out
}

/// Text that packs neither to nothing nor not at all.
fn sample(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    (0..len)
        .map(|at| {
            if at % 7 < 4 {
                b'a' + (at / 50 % 20) as u8
            } else {
                next() as u8
            }
        })
        .collect()
}

fn packed(data: &[u8], compression: Compression, threads: usize) -> Vec<u8> {
    let threads = NonZero::new(threads).unwrap();
    let mut packer = compressor(Vec::new(), compression, None, threads).unwrap();
    // The bytes must not depend on how they arrive.
    for chunk in data.chunks(70_001) {
        packer.write_all(chunk).unwrap();
        packer.flush().unwrap();
    }
    packer.finish().unwrap()
}

/// Packs files of many lengths, one of several chunks among them, in eStargz.
fn seekable(threads: usize) -> (Vec<u8>, Vec<u8>) {
    let mut changes = Changes::default();
    for (name, len) in [
        ("a", 3),
        ("b", 2_500_000),
        ("c", 0),
        ("d", 1 << 20),
        ("e", 9),
    ] {
        let file = Node::file(meta(0o644), sample(len));
        changes.entries.insert(path(name), Change::Node(file));
    }
    let tar = bytes_of(&changes, &EncodeOptions::default());
    let memory = rustix::fs::memfd_create("tar", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut file = fs::File::from(memory);
    file.write_all(&tar).unwrap();
    file.rewind().unwrap();
    let threads = NonZero::new(threads).unwrap();
    (estargz(&file, Vec::new(), None, threads).unwrap().out, tar)
}

#[test]
fn estargz_bytes_do_not_depend_on_threads_and_begin_with_the_tar() {
    let (one, tar) = seekable(1);
    for threads in [2, 3, 16] {
        assert!(seekable(threads).0 == one, "{threads}");
    }
    let unpacked = read_all(decompress(Format::Gzip, std::io::Cursor::new(one))).unwrap();
    assert!(unpacked.starts_with(&tar));
    assert_eq!(unpacked.len() % 512, 0);
}

/// Bytes that may only change together with a version. A failure here means that layers built by
/// an older release get other digests: raise the version and run with the new values.
#[test]
fn bytes_are_the_ones_of_this_version() {
    let clamp = EncodeOptions {
        clamp: Some(Time::from_secs(1_500_000_000)),
    };
    let tar = bytes_of(&everything(), &EncodeOptions::default());
    let data = sample(3_500_000);
    let rows = [
        format!("encoder {ENCODER_VERSION} everything {}", Digest::of(&tar)),
        format!(
            "encoder {ENCODER_VERSION} clamped {}",
            Digest::of(&bytes_of(&everything(), &clamp))
        ),
        format!(
            "encoder {ENCODER_VERSION} empty {}",
            Digest::of(&bytes_of(&Changes::default(), &clamp))
        ),
        format!(
            "gzip {COMPRESSOR_VERSION} sample {}",
            Digest::of(&packed(&data, Compression::Gzip, 2))
        ),
        format!(
            "gzip {COMPRESSOR_VERSION} empty {}",
            Digest::of(&packed(b"", Compression::Gzip, 2))
        ),
        format!(
            "zstd {COMPRESSOR_VERSION} sample {}",
            Digest::of(&packed(&data, Compression::Zstd, 2))
        ),
        format!(
            "estargz {COMPRESSOR_VERSION} files {}",
            Digest::of(&seekable(2).0)
        ),
    ];
    let golden = include_str!("../../testdata/layer-digests.txt");
    let golden: Vec<&str> = golden
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(golden, rows);
}

#[test]
fn packed_bytes_do_not_depend_on_threads_and_unpack() {
    for len in [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000] {
        let data = sample(len);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let one = packed(&data, compression, 1);
            for threads in [2, 3, 16] {
                assert!(
                    packed(&data, compression, threads) == one,
                    "{compression:?} {threads}"
                );
            }
            let format = match compression {
                Compression::None => Format::Plain,
                Compression::Gzip | Compression::Estargz => Format::Gzip,
                Compression::Zstd => Format::Zstd,
            };
            if compression != Compression::None {
                assert_eq!(sniff(&one), format);
            }
            let unpacked = read_all(decompress(format, std::io::Cursor::new(one))).unwrap();
            assert!(unpacked == data, "{compression:?} {len}");
        }
    }
}

#[test]
fn a_writer_that_fails_is_heard_of() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(buf.len())
                .ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let data = sample(9_000_000);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let threads = NonZero::new(2).unwrap();
        let mut packer = compressor(Full(100_000), compression, None, threads).unwrap();
        let result = packer
            .write_all(&data)
            .and_then(|()| packer.finish().map(drop));
        assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    }
    let result = encode(&everything(), &EncodeOptions::default(), &mut Full(1000));
    assert!(matches!(result, Err(Error::Output { .. })));
}

#[test]
fn what_is_encoded_is_what_is_unpacked() {
    need_root();
    let place = Place::new();
    let options = EncodeOptions::default();
    let tar = bytes_of(&everything(), &options);
    assert!(is_tar(&tar) && sniff(&tar) == Format::Plain);
    let done = place.unpack(&tar).unwrap();
    assert_eq!((done.left_out.len(), done.bytes), (0, 1008));
    let lines = list(&place.tree());
    assert!(
        lines.contains(&"/dir dir 1777 0:0 1700000000".to_owned()),
        "{lines:#?}"
    );
    assert!(lines.contains(&"/dir/hard \"contents\" 4755 0:0 1700000000".to_owned()));
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("/odd ") && line.ends_with("600 2097151:3000000000 -5"))
    );
    assert!(lines.contains(&"/char char 1:1048575 644 0:0 1700000000".to_owned()));
    assert_eq!(names(&place.tree())["/gone"], "char 0:0");
    // The tree gives the same tar again, but for what is no part of it: the socket.
    let stack = Stack::new(vec![open(&place.tree())], Marks::Trusted);
    assert!(stack.trees().unwrap().len() == 1);
    let upper = open(&place.tree());
    let mut again = cooper::layer::diff(&upper, None, Marks::Trusted).unwrap();
    let mut changes = everything();
    let nothing = Stack::new(Vec::new(), Marks::Trusted);
    let implied = Meta {
        mode: 0o755,
        ..Meta::default()
    };
    changes.insert_parents(&nothing, &implied).unwrap();
    let root = changes.entries[&TreePath::ROOT].clone();
    again.entries.insert(TreePath::ROOT, root);
    let (tar, again) = (bytes_of(&changes, &options), bytes_of(&again, &options));
    let (want, got) = (
        super::support::entries(&tar),
        super::support::entries(&again),
    );
    assert_eq!(got, want);
    assert!(again == tar, "other bytes for the same entries");
}

#[test]
fn other_readers_see_the_same_entries() {
    let mut changes = everything();
    changes
        .entries
        .retain(|path, _| !path.as_bytes().contains(&0xe9));
    let tar = bytes_of(&changes, &EncodeOptions::default());
    let place = Place::new();
    let file = place.tree().join("tar");
    fs::write(&file, &tar).unwrap();
    let script = "import sys, tarfile\n\
        for m in tarfile.open(sys.argv[1]): print(m.name, m.type.decode(), oct(m.mode), m.uid, m.gid, m.size, int(m.mtime), m.linkname, m.devmajor, m.devminor, sep='|')";
    let mut command = Command::new("python3");
    let run = command.arg("-c").arg(script).arg(&file).output().unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let theirs = String::from_utf8(run.stdout).unwrap();
    let mut reader = cooper::layer::TarReader::new(tar.as_slice());
    let mut ours = String::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        use cooper::layer::TarBody::{HardLink, Node};
        let (flag, size, link, device) = match &entry.body {
            HardLink { target } => ('1', 0, target.as_bytes().to_vec(), (0, 0)),
            Node(Kind::File { size }) => ('0', *size, Vec::new(), (0, 0)),
            Node(Kind::Symlink { target }) => ('2', 0, target.clone(), (0, 0)),
            Node(Kind::Char { major, minor }) => ('3', 0, Vec::new(), (*major, *minor)),
            Node(Kind::Block { major, minor }) => ('4', 0, Vec::new(), (*major, *minor)),
            Node(Kind::Dir) => ('5', 0, Vec::new(), (0, 0)),
            Node(Kind::Fifo) => ('6', 0, Vec::new(), (0, 0)),
            Node(Kind::Socket) => unreachable!("no tar has one"),
        };
        let raw = String::from_utf8(entry.raw).unwrap();
        let meta = &entry.meta;
        let link = String::from_utf8(link).unwrap();
        ours += &format!(
            "{}|{flag}|0o{:o}|{}|{}|{size}|{}|{link}|{}|{}\n",
            raw.trim_end_matches('/'),
            meta.mode,
            meta.uid,
            meta.gid,
            meta.mtime.secs,
            device.0,
            device.1,
        );
    }
    assert_eq!(ours, theirs);
    let run = Command::new("tar").arg("-tf").arg(&file).output().unwrap();
    let complaint = String::from_utf8_lossy(&run.stderr).replace(file.to_str().unwrap(), "");
    assert!(
        run.status.success() && !complaint.contains("unknown"),
        "{complaint}"
    );
    assert_eq!(
        run.stdout.iter().filter(|&&b| b == b'\n').count(),
        ours.lines().count()
    );
}

#[test]
fn times_are_whole_seconds_and_never_later_than_the_epoch_asked_for() {
    let read = |changes: &Changes, clamp| {
        let tar = bytes_of(changes, &EncodeOptions { clamp });
        let times = index(&tar)
            .unwrap()
            .entries
            .into_values()
            .filter_map(|change| {
                change
                    .node()
                    .map(|node| (node.meta.mtime.secs, node.meta.mtime.nanos))
            });
        times.collect::<Vec<_>>()
    };
    let mut changes = Changes::default();
    for (name, secs) in [("a", 5), ("b", 10), ("c", 20)] {
        let meta = Meta {
            mtime: Time { secs, nanos: 7 },
            ..Meta::default()
        };
        changes
            .entries
            .insert(path(name), Change::Node(Node::dir(meta)));
    }
    assert_eq!(read(&changes, None), [(5, 0), (10, 0), (20, 0)]);
    assert_eq!(
        read(&changes, Some(Time::from_secs(10))),
        [(5, 0), (10, 0), (10, 0)]
    );
}

#[test]
fn what_cannot_be_in_a_layer_is_refused() {
    let one = |name: &str, change| Changes {
        entries: [(path(name), change)].into(),
    };
    let failed = |changes: &Changes| {
        encode(changes, &EncodeOptions::default(), &mut std::io::sink()).unwrap_err()
    };
    let empty = || other(Kind::File { size: 0 });
    for name in ["a/.wh.b", ".wh..wh.opq", ".wh.d/x"] {
        assert!(
            matches!(failed(&one(name, empty())), Error::Reserved { .. }),
            "{name}"
        );
    }
    assert!(matches!(
        failed(&one("", empty())),
        Error::NotDirectory { .. }
    ));
    assert!(matches!(
        failed(&one("a", Change::HardLink(path("b")))),
        Error::BadHardLink { .. }
    ));
    let mut late = one("a", Change::HardLink(path("b")));
    late.entries.insert(path("b"), empty());
    assert!(matches!(failed(&late), Error::BadHardLink { .. }));
    late.order_links().unwrap();
    assert!(!bytes_of(&late, &EncodeOptions::default()).is_empty());
}

#[test]
fn a_file_that_changes_is_an_error_that_names_it() {
    let place = Place::new();
    let dir = place.dir("from");
    fs::write(dir.join("real"), "12345").unwrap();
    std::os::unix::fs::symlink("real", dir.join("link")).unwrap();
    rustix::fs::mkfifoat(open(&dir), "fifo", rustix::fs::Mode::RUSR).unwrap();
    let root = open(&dir);
    let encode_as = |from: &str, size| {
        let content = Some(Content::Below {
            root: root.clone(),
            path: path(from),
        });
        let node = Node {
            meta: meta(0o644),
            kind: Kind::File { size },
            content,
        };
        let changes = Changes {
            entries: [(path("etc/name"), Change::Node(node))].into(),
        };
        encode(&changes, &EncodeOptions::default(), &mut std::io::sink())
    };
    assert_eq!(encode_as("real", 5).unwrap(), 512 + 512 + 1024);
    for (from, size) in [
        ("real", 6),
        ("real", 4),
        ("link", 5),
        ("fifo", 5),
        ("none", 5),
    ] {
        let error = encode_as(from, size).unwrap_err();
        assert!(error.to_string().contains("/etc/name"), "{error}");
    }
    assert!(matches!(
        encode_as("real", 6),
        Err(Error::Changed {
            want: 6,
            got: 5,
            ..
        })
    ));
    assert!(matches!(
        encode_as("link", 5),
        Err(Error::NotRegular { .. })
    ));
    assert_eq!(fs::metadata(dir.join("real")).unwrap().size(), 5);
}

#[test]
fn gnu_tar_archives_unpack_as_gnu_tar_unpacks_them() {
    need_root();
    let place = Place::new();
    let from = place.dir("from");
    let deep = from.join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f".repeat(120)), "deep").unwrap();
    fs::write(from.join("grüße"), "umlaut").unwrap();
    fs::hard_link(from.join("grüße"), from.join("zweitname")).unwrap();
    std::os::unix::fs::symlink("x".repeat(200), from.join("long")).unwrap();
    let dir = open(&from);
    let mode = rustix::fs::Mode::from_raw_mode(0o620);
    let char = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(&dir, "tty", char, mode, rustix::fs::makedev(4, 1)).unwrap();
    rustix::fs::mkfifoat(&dir, "fifo", mode).unwrap();
    std::os::unix::fs::lchown(from.join("fifo"), Some(5_000_000), Some(12)).unwrap();
    for format in ["gnu", "oldgnu", "pax", "ustar"] {
        let archive = place.canary().with_file_name(format!("{format}.tar"));
        let mut command = Command::new("tar");
        command
            .arg(format!("--format={format}"))
            .arg("-C")
            .arg(&from)
            .arg("-cf")
            .arg(&archive);
        if format == "ustar" {
            command
                .arg("--exclude=ddd*")
                .arg("--exclude=long")
                .arg("--exclude=fifo");
        }
        assert!(command.arg(".").status().unwrap().success());
        let theirs = place.dir(&format!("theirs-{format}"));
        let mut command = Command::new("tar");
        command
            .arg("-C")
            .arg(&theirs)
            .args(["--numeric-owner", "-xpf"])
            .arg(&archive);
        assert!(command.status().unwrap().success());
        let ours = place.dir(&format!("ours-{format}"));
        unpack_into(&ours, &fs::read(&archive).unwrap(), None).unwrap();
        assert_eq!(list(&ours), list(&theirs), "{format}");
    }
}
