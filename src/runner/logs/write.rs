//! The one writer of a container's log: its monitor.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::event::Stream;

use super::{HEAD, Head, name, numbers};

/// Appends to a container's log.
#[derive(Debug)]
pub(in crate::runner) struct Writer {
    dir: PathBuf,
    number: u64,
    file: File,
    size: u64,
    /// Bytes a file may hold.
    max_size: u64,
    /// Files that are kept.
    max_files: u64,
    /// The last time written: clocks may go back, logs do not.
    last: u64,
}

impl Writer {
    /// Opens the log in `dir` and takes away what a crash left half-written.
    pub(in crate::runner) fn open(dir: &Path, max_size: u64, max_files: u64) -> io::Result<Self> {
        let number = numbers(dir)?.pop().unwrap_or(1);
        let mut file = open(dir, number)?;
        let (size, last) = whole(&file)?;
        if file.metadata()?.len() != size {
            file.set_len(size)?;
        }
        file.seek(SeekFrom::End(0))?;
        Ok(Self {
            dir: dir.to_owned(),
            number,
            file,
            size,
            max_size,
            max_files: max_files.max(1),
            last,
        })
    }

    /// Appends what `stream` gave, now.
    pub(in crate::runner) fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if self.size > 0 && self.size + (HEAD + bytes.len()) as u64 > self.max_size {
            self.rotate()?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        });
        self.last = self.last.max(now);
        let head = Head {
            length: u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            stream,
            time: self.last,
        };
        let frame = [&head.encode()[..], bytes].concat();
        if let Err(error) = self.file.write_all(&frame) {
            // A reader must find a frame or nothing; what can't be cut is cut by the next writer.
            let _ = self.file.set_len(self.size);
            let _ = self.file.seek(SeekFrom::End(0));
            return Err(error);
        }
        self.size += frame.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = open(&self.dir, self.number + 1)?;
        self.number += 1;
        self.size = 0;
        for old in numbers(&self.dir)? {
            if old + self.max_files <= self.number {
                fs::remove_file(self.dir.join(name(old)))?;
            }
        }
        Ok(())
    }
}

fn open(dir: &Path, number: u64) -> io::Result<File> {
    let path = dir.join(name(number));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

/// Bytes of whole frames at the beginning of a file, and the time of the last one.
fn whole(file: &File) -> io::Result<(u64, u64)> {
    let length = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    let (mut at, mut last) = (0, 0);
    let mut bytes = [0; HEAD];
    while at + HEAD as u64 <= length {
        reader.read_exact(&mut bytes)?;
        let Some(head) = Head::decode(&bytes) else {
            break;
        };
        let end = at + HEAD as u64 + u64::from(head.length);
        if end > length {
            break;
        }
        reader.seek_relative(i64::from(head.length))?;
        (at, last) = (end, head.time);
    }
    Ok((at, last))
}
