//! Bombs, damage and endless streams: bounded in time and memory, and an error.

use std::io::{self, Cursor, Read, Write};
use std::num::NonZero;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cooper::image::Compression;
use cooper::layer::{Damaged, Error, Format, Limited, OverLimit, compressor, decompress, sniff};

use super::support::{Fields, Place, Tar, chain, read_all, unpack_into};

fn pack(data: &[u8], compression: Compression) -> Vec<u8> {
    let mut packer = compressor(Vec::new(), compression, Some(1), NonZero::<usize>::MIN).unwrap();
    packer.write_all(data).unwrap();
    packer.finish().unwrap()
}

/// Packs with a program, or returns nothing where it is not installed.
fn pack_with(program: &str, data: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let data = data.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&data));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output.status.success().then_some(output.stdout)
}

/// Bytes that do not pack well.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Returns one stream of every format that can be made here.
fn streams(data: &[u8]) -> Vec<(Format, Vec<u8>)> {
    let mut streams = vec![(Format::Zstd, pack(data, Compression::Zstd))];
    for (format, program) in [
        (Format::Gzip, "gzip"),
        (Format::Bzip2, "bzip2"),
        (Format::Xz, "xz"),
    ] {
        streams.extend(pack_with(program, data).map(|packed| (format, packed)));
    }
    assert!(streams.len() > 1, "no program to pack with is installed");
    streams
}

fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

/// A stream of zeros, packed: gzip at its limit, and zstd beyond all reason.
fn bomb(compression: Compression, len: u64) -> Vec<u8> {
    let mut packer = compressor(Vec::new(), compression, Some(9), NonZero::<usize>::MIN).unwrap();
    io::copy(&mut io::repeat(0).take(len), &mut packer).unwrap();
    packer.finish().unwrap()
}

#[test]
fn t_dos_1_bombs_stop_at_the_limit() {
    let limit = 64 << 20;
    let gzip = bomb(Compression::Gzip, 64 << 20);
    let zstd = bomb(Compression::Zstd, 256 << 20);
    assert!(
        gzip.len() < 1 << 20 && zstd.len() < 200_000,
        "{} {}",
        gzip.len(),
        zstd.len()
    );
    // Members and frames one after another are one stream.
    for (format, packed) in [
        (Format::Gzip, gzip.repeat(16)),
        (Format::Zstd, zstd.repeat(400)),
    ] {
        assert_eq!(sniff(&packed), format);
        let start = Instant::now();
        let mut stream = Limited::new(decompress(format, Cursor::new(packed)), limit);
        let error = io::copy(&mut stream, &mut io::sink()).unwrap_err();
        let over = error
            .get_ref()
            .unwrap()
            .downcast_ref::<OverLimit>()
            .unwrap();
        assert_eq!(over.limit, limit);
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    let exact = Limited::new(io::repeat(1).take(10), 10);
    assert_eq!(read_all(exact).unwrap().len(), 10);
    assert!(peak_memory_mib() < 300, "{} MiB", peak_memory_mib());
}

#[test]
fn t_dos_1_a_bomb_inside_a_layer_is_heard_of_and_named() {
    let place = Place::new();
    let header = Fields {
        size: 1 << 33,
        ..Fields::new(b'0', "bomb")
    };
    let head = Tar::default()
        .header(&Fields {
            size: 0o777_7777_7777,
            ..header
        })
        .bytes;
    let mut tar = Limited::new(Cursor::new(head).chain(io::repeat(0)), 10 << 20);
    let options = cooper::layer::UnpackOptions {
        marks: cooper::layer::Marks::Trusted,
    };
    let dir = super::support::open(&place.tree());
    let into = std::os::fd::AsFd::as_fd(&dir);
    let error = cooper::layer::unpack(&mut tar, into, None, &options).unwrap_err();
    assert!(matches!(error, Error::Stream { .. }));
    assert!(chain(&error).contains("10485760"), "{}", chain(&error));
}

#[test]
fn t_dos_1_a_window_beyond_the_cap_is_refused() {
    // A frame header that asks for a window of 2 GiB, then a block that repeats one byte.
    let window_log_31 = (31 - 10) << 3;
    let frame = [
        0x28,
        0xb5,
        0x2f,
        0xfd,
        0,
        window_log_31,
        0b11,
        0x01,
        0,
        b'x',
    ];
    let error = read_all(decompress(Format::Zstd, Cursor::new(frame))).unwrap_err();
    assert!(error.get_ref().unwrap().is::<Damaged>(), "{error}");
    if let Some(mut xz) = pack_with("xz", b"data") {
        // The dictionary size is the LZMA2 filter's one property, behind its id 0x21 and length 1.
        let at = xz.windows(2).position(|pair| pair == [0x21, 1]).unwrap() + 2;
        xz[at] = 40;
        assert!(read_all(decompress(Format::Xz, Cursor::new(xz))).is_err());
    }
    assert!(peak_memory_mib() < 300, "{} MiB", peak_memory_mib());
}

#[test]
fn t_dos_3_truncated_streams_are_errors_in_time() {
    let tar = Tar::default()
        .file("noise", &noise(20_000))
        .file("zeros", &[0; 20_000])
        .end();
    for (format, packed) in streams(&tar) {
        assert_eq!(sniff(&packed), format);
        assert!(read_all(decompress(format, Cursor::new(packed.clone()))).unwrap() == tar);
        for cut in (0..packed.len())
            .step_by(1024)
            .chain([1, 5, packed.len() - 1])
        {
            let start = Instant::now();
            let cut_off = packed[..cut].to_vec();
            let result = read_all(decompress(format, Cursor::new(cut_off)));
            // Nothing at all is no stream; whoever reads a tar from it finds none.
            let empty = cut == 0 && result.as_ref().is_ok_and(Vec::is_empty);
            if !empty {
                let error = result.map(|bytes| bytes.len()).expect_err("it was read");
                assert_eq!(
                    error.kind(),
                    io::ErrorKind::InvalidData,
                    "{format:?} at {cut}"
                );
                let damaged = error.get_ref().unwrap().downcast_ref::<Damaged>().unwrap();
                assert_eq!(damaged.format, format);
            }
            assert!(start.elapsed() < Duration::from_secs(5));
        }
    }
}

#[test]
fn t_dos_3_corrupt_streams_are_errors_or_the_same_bytes() {
    let tar = Tar::default().file("noise", &noise(20_000)).end();
    for (format, packed) in streams(&tar) {
        for at in (0..packed.len()).step_by(257) {
            let start = Instant::now();
            let mut bent = packed.clone();
            bent[at] ^= 0x55;
            let stream = Limited::new(decompress(format, Cursor::new(bent)), 1 << 20);
            if let Ok(bytes) = read_all(stream) {
                // A byte that carries nothing, such as the time in gzip's header.
                assert!(
                    bytes == tar || bytes.is_empty(),
                    "{format:?} at {at} reads as other bytes"
                );
            }
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "{format:?} at {at}"
            );
        }
        // Noise behind a whole stream.
        let mut longer = packed.clone();
        longer.extend(noise(100));
        assert!(
            read_all(decompress(format, Cursor::new(longer))).is_err(),
            "{format:?}"
        );
    }
}

#[test]
fn t_dos_3_an_error_of_the_source_comes_through_as_it_is() {
    struct Broken(Cursor<Vec<u8>>);
    impl Read for Broken {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buf)? {
                0 => Err(io::ErrorKind::ConnectionReset.into()),
                got => Ok(got),
            }
        }
    }
    for (format, packed) in streams(&noise(50_000)) {
        let half = packed[..packed.len() / 2].to_vec();
        let error = read_all(decompress(format, Broken(Cursor::new(half)))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{format:?}");
    }
}

#[test]
fn t_dos_3_a_layer_cut_short_is_refused() {
    let tar = Tar::default().file("a", &noise(3000)).dir("d", 0o755).end();
    for cut in (1..tar.len() - 1024).step_by(500) {
        let place = Place::new();
        let result = unpack_into(&place.tree(), &tar[..cut], None);
        assert!(result.is_err(), "cut at {cut}");
    }
}
