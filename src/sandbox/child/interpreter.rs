//! Which file a program needs besides itself: its `#!` line or its ELF dynamic loader.
//!
//! execve(2) answers a bare ENOENT when that file is missing; this finds out its name. Reads
//! the program inside the root, trusts nothing it reads, and gives up rather than guess.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// As deep as the kernel follows interpreters of interpreters.
const DEPTH: usize = 5;

/// The first file in `program`'s chain of interpreters that doesn't exist.
pub(super) fn missing(program: &Path) -> Option<PathBuf> {
    let mut at = program.to_owned();
    for _ in 0..DEPTH {
        let next = needed(&File::open(&at).ok()?)?;
        if !next.exists() {
            return Some(next);
        }
        at = next;
    }
    None
}

fn needed(file: &File) -> Option<PathBuf> {
    let mut head = [0; 256];
    let read = file.read_at(&mut head, 0).ok()?;
    let head = &head[..read];
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next()?.trim_ascii_start();
        let path = line.split(|&byte| matches!(byte, b' ' | b'\t')).next()?;
        return (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)));
    }
    loader(head, |offset, buffer| {
        file.read_exact_at(buffer, offset).ok()
    })
}

/// The PT_INTERP of an ELF file with this `head` (elf(5)), of either width and byte order.
fn loader(head: &[u8], read: impl Fn(u64, &mut [u8]) -> Option<()>) -> Option<PathBuf> {
    const PT_INTERP: u64 = 3;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let (wide, big) = (*head.get(4)? == 2, *head.get(5)? == 2);
    let number = |bytes: &[u8], at: usize, size: usize| {
        let field = bytes.get(at..at + size)?.iter();
        let add = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
        Some(if big {
            field.fold(0, add)
        } else {
            field.rev().fold(0, add)
        })
    };
    let (offset, size, count) = if wide {
        (
            number(head, 32, 8)?,
            number(head, 54, 2)?,
            number(head, 56, 2)?,
        )
    } else {
        (
            number(head, 28, 4)?,
            number(head, 42, 2)?,
            number(head, 44, 2)?,
        )
    };
    for index in 0..count.min(256) {
        let mut header = [0; 56];
        let header = header.get_mut(..usize::try_from(size).ok()?)?;
        read(offset.checked_add(index * size)?, header)?;
        if number(header, 0, 4)? != PT_INTERP {
            continue;
        }
        let (at, len) = if wide {
            (number(header, 8, 8)?, number(header, 32, 8)?)
        } else {
            (number(header, 4, 4)?, number(header, 16, 4)?)
        };
        let mut path = vec![0; usize::try_from(len.min(4096)).ok()?];
        read(at, &mut path)?;
        let path = path.split(|&byte| byte == 0).next()?;
        return Some(PathBuf::from(OsStr::from_bytes(path)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(wide: bool, big: bool, interpreter: &[u8]) -> Vec<u8> {
        let mut file = vec![0_u8; 512];
        file[..4].copy_from_slice(b"\x7fELF");
        file[4] = 1 + u8::from(wide);
        file[5] = 1 + u8::from(big);
        let mut put = |at: usize, size: usize, value: u64| {
            let bytes = value.to_be_bytes();
            let bytes = &bytes[8 - size..];
            for (index, byte) in bytes.iter().enumerate() {
                file[if big {
                    at + index
                } else {
                    at + size - 1 - index
                }] = *byte;
            }
        };
        let (word, header) = if wide { (8, 56) } else { (4, 32) };
        put(if wide { 32 } else { 28 }, word, 128);
        put(if wide { 54 } else { 42 }, 2, header);
        put(if wide { 56 } else { 44 }, 2, 2);
        let second = 128 + header as usize;
        put(second, 4, 3);
        put(second + if wide { 8 } else { 4 }, word, 400);
        put(
            second + if wide { 32 } else { 16 },
            word,
            interpreter.len() as u64,
        );
        file[400..400 + interpreter.len()].copy_from_slice(interpreter);
        file
    }

    fn of(file: &[u8]) -> Option<PathBuf> {
        loader(&file[..file.len().min(256)], |offset, buffer| {
            let at = usize::try_from(offset).ok()?;
            buffer.copy_from_slice(file.get(at..at.checked_add(buffer.len())?)?);
            Some(())
        })
    }

    #[test]
    fn the_loader_is_found_in_every_elf_layout() {
        for (wide, big) in [(false, false), (false, true), (true, false), (true, true)] {
            let file = elf(wide, big, b"/lib/ld.so\0");
            assert_eq!(
                of(&file),
                Some("/lib/ld.so".into()),
                "wide {wide} big {big}"
            );
        }
    }

    #[test]
    fn damaged_files_have_no_loader() {
        let file = elf(true, false, b"/lib/ld.so\0");
        for cut in 0..410 {
            assert_eq!(of(&file[..cut]), None, "cut at {cut}");
        }
        assert_eq!(of(b"MZ"), None);
        let mut wild = file;
        wild[32..40].fill(0xff);
        assert_eq!(of(&wild), None);
    }
}
