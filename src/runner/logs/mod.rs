//! What a container wrote, kept until the container is removed.
//!
//! ```text
//! log.1 log.2 …   the newest is the one with the highest number; the oldest go
//! frame = length u32 · stream u8 · 0 0 0 · time u64 (ns since 1970) · bytes      little endian
//! ```
//!
//! One frame holds what one read of the program's pipe gave, so lines may span frames and frames
//! may hold many lines; nothing is recoded, so the bytes that come out are those that went in.
//! A file that has reached its size is ended and the next one begun; a reader that has read a
//! file to its end goes on when the next one is there, because it is made only after the last
//! frame of the one before. A frame cut by a crash is taken away by the next writer and left
//! unread by readers.

mod journal;
mod read;
mod write;

pub(super) use journal::{Fields, Journal, probe};
pub use read::{Follow, Line, Lines, Reader};
pub(super) use write::Writer;

use std::fs;
use std::io;
use std::path::Path;

use crate::event::Stream;

/// Bytes before those of the program.
const HEAD: usize = 16;
/// More than any frame that is written; a larger length is no length.
const LONGEST: u32 = 1 << 20;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    length: u32,
    stream: Stream,
    /// Nanoseconds since 1970.
    time: u64,
}

impl Head {
    fn encode(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4] = match self.stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        bytes[8..].copy_from_slice(&self.time.to_le_bytes());
        bytes
    }

    /// Reads a head; `None` for what is none.
    fn decode(bytes: &[u8; HEAD]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (middle, time) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        let stream = match middle {
            [1, 0, 0, 0] => Stream::Stdout,
            [2, 0, 0, 0] => Stream::Stderr,
            _ => return None,
        };
        (length <= LONGEST).then_some(Self {
            length,
            stream,
            time: u64::from_le_bytes(time.try_into().ok()?),
        })
    }
}

/// The numbers of the log files in `dir`, ascending.
fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("log."));
        found.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

fn name(number: u64) -> String {
    format!("log.{number}")
}

#[cfg(test)]
mod tests;
