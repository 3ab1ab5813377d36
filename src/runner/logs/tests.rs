//! The log of a container: bytes in, bytes out, whatever happens in between.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;

struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("cask-log-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn drain(lines: &mut Lines, to: &mut [Vec<u8>; 2]) {
    while let Some(line) = lines.next_line().unwrap() {
        to[usize::from(line.stream == Stream::Stderr)].extend(line.bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The writer rotates, is killed (reopened after a torn frame) and goes on; one reader
    /// follows at its own pace, another comes at the end.
    #[test]
    fn bytes_in_are_bytes_out(
        writes in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..200), 0u8..8), 1..60),
    ) {
        let dir = Dir::new();
        let mut writer = Writer::open(&dir.0, 300, 1000).unwrap();
        let mut follower = Lines::new(Reader::open(&dir.0).unwrap());
        let mut sent: [Vec<u8>; 2] = [Vec::new(), Vec::new()];
        let mut seen = sent.clone();
        for (err, bytes, then) in writes {
            let stream = if err { Stream::Stderr } else { Stream::Stdout };
            writer.write(stream, &bytes).unwrap();
            sent[usize::from(err)].extend(&bytes);
            match then {
                0 => drain(&mut follower, &mut seen),
                1 => {
                    let last = name(numbers(&dir.0).unwrap().pop().unwrap());
                    drop(writer);
                    let torn = Head { length: 9, stream, time: 1 }.encode();
                    let mut text = fs::read(dir.0.join(&last)).unwrap();
                    text.extend(&torn[..]);
                    text.extend(b"cut");
                    fs::write(dir.0.join(&last), text).unwrap();
                    drain(&mut follower, &mut seen);
                    writer = Writer::open(&dir.0, 300, 1000).unwrap();
                }
                _ => {}
            }
        }
        drain(&mut follower, &mut seen);
        prop_assert_eq!(&sent, &seen);
        let mut late = [Vec::new(), Vec::new()];
        drain(&mut Lines::new(Reader::open(&dir.0).unwrap()), &mut late);
        prop_assert_eq!(&sent, &late);
    }
}

#[test]
fn old_files_go_and_what_stays_is_whole() {
    let dir = Dir::new();
    let mut writer = Writer::open(&dir.0, 100, 3).unwrap();
    for number in 0..50 {
        let line = format!("line {number}\n");
        writer.write(Stream::Stdout, line.as_bytes()).unwrap();
    }
    assert_eq!(numbers(&dir.0).unwrap().len(), 3);
    let mut seen = [Vec::new(), Vec::new()];
    drain(&mut Lines::new(Reader::open(&dir.0).unwrap()), &mut seen);
    let text = String::from_utf8(seen[0].clone()).unwrap();
    assert!(
        text.starts_with("line ") && text.ends_with("line 49\n"),
        "{text}"
    );
}

#[test]
fn a_line_has_the_time_of_its_beginning() {
    let dir = Dir::new();
    let mut writer = Writer::open(&dir.0, 1 << 20, 3).unwrap();
    writer.write(Stream::Stdout, b"one").unwrap();
    writer.write(Stream::Stderr, b"other\n").unwrap();
    writer.write(Stream::Stdout, b" line\ntwo\n").unwrap();
    let mut lines = Lines::new(Reader::open(&dir.0).unwrap());
    let mut all = Vec::new();
    while let Some(line) = lines.next_line().unwrap() {
        all.push(line);
    }
    let texts: Vec<&[u8]> = all.iter().map(|line| line.bytes.as_slice()).collect();
    assert_eq!(texts, [&b"one"[..], b"other\n", b" line\n", b"two\n"]);
    let begins: Vec<bool> = all.iter().map(|line| line.begins).collect();
    assert_eq!(begins, [true, true, false, true]);
    assert_eq!(all[0].time, all[2].time);
    assert!(all[3].time >= all[1].time);
}
