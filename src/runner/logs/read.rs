//! Readers of a container's log: frames in order, across files, and as lines.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

use crate::event::Stream;

use super::{HEAD, Head, name, numbers};

/// A place in a container's log that moves forward.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    number: u64,
    file: Option<File>,
    at: u64,
}

/// What one read of the program's output gave.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    stream: Stream,
    time: u64,
    bytes: Vec<u8>,
}

impl Reader {
    /// Starts at the oldest frame that is kept in `dir`.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            number: numbers(dir)?.first().copied().unwrap_or(1),
            file: None,
            at: 0,
        })
    }

    /// The next frame; `None` when there is none yet.
    fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if self.file.is_none() {
                match File::open(self.dir.join(name(self.number))) {
                    Ok(file) => (self.file, self.at) = (Some(file), 0),
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        // Files this reader never came to may be gone already.
                        match numbers(&self.dir)?.into_iter().find(|n| *n > self.number) {
                            Some(number) => self.number = number,
                            None => return Ok(None),
                        }
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            if let Some(frame) = self.frame()? {
                return Ok(Some(frame));
            }
            if numbers(&self.dir)?.last().is_none_or(|n| *n <= self.number) {
                return Ok(None);
            }
            // What was written before the next file was made is there by now.
            if let Some(frame) = self.frame()? {
                return Ok(Some(frame));
            }
            self.file = None;
            self.number += 1;
        }
    }

    fn frame(&mut self) -> io::Result<Option<Frame>> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let mut head = [0; HEAD];
        match file.read_exact_at(&mut head, self.at) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let Some(head) = Head::decode(&head) else {
            return Ok(None);
        };
        let mut bytes = vec![0; head.length as usize];
        match file.read_exact_at(&mut bytes, self.at + HEAD as u64) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        self.at += HEAD as u64 + u64::from(head.length);
        Ok(Some(Frame {
            stream: head.stream,
            time: head.time,
            bytes,
        }))
    }
}

/// A line of a container's output, or the part of one that was written so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which stream it was written to.
    pub stream: Stream,
    /// When its first byte was read, in nanoseconds since 1970.
    pub time: u64,
    /// Its bytes, the line end included if it has one.
    pub bytes: Vec<u8>,
    /// Whether this is the beginning of the line.
    pub begins: bool,
}

/// A log as lines.
#[derive(Debug)]
pub struct Lines {
    reader: Reader,
    ready: VecDeque<Line>,
    /// Time of the line that is not ended yet, for both streams.
    open: [Option<u64>; 2],
}

impl Lines {
    /// Reads what `reader` reads.
    pub fn new(reader: Reader) -> Self {
        Self {
            reader,
            ready: VecDeque::new(),
            open: [None; 2],
        }
    }

    /// The next line or part of one; `None` when there is none yet.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        while self.ready.is_empty() {
            let Some(frame) = self.reader.next_frame()? else {
                return Ok(None);
            };
            self.split(&frame);
        }
        Ok(self.ready.pop_front())
    }

    fn split(&mut self, frame: &Frame) {
        let open = match frame.stream {
            Stream::Stdout => &mut self.open[0],
            Stream::Stderr => &mut self.open[1],
        };
        for part in frame.bytes.split_inclusive(|byte| *byte == b'\n') {
            let begun = *open;
            self.ready.push_back(Line {
                stream: frame.stream,
                time: begun.unwrap_or(frame.time),
                bytes: part.to_vec(),
                begins: begun.is_none(),
            });
            *open = match part.ends_with(b"\n") {
                true => None,
                false => Some(begun.unwrap_or(frame.time)),
            };
        }
    }
}

/// Wakes up when something changes in a container's directory: its log or its state.
#[derive(Debug)]
pub struct Follow {
    changes: OwnedFd,
}

impl Follow {
    /// Begins to watch; what changes from now on is not missed.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let changes = inotify::init(flags)?;
        let what = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&changes, dir, what)?;
        Ok(Self { changes })
    }

    /// Waits for a change, but not for long: the end of a killed monitor changes no file.
    pub fn wait(&self) -> io::Result<()> {
        let step = Timespec {
            tv_sec: 0,
            tv_nsec: 200_000_000,
        };
        match poll(
            &mut [PollFd::new(&self.changes, PollFlags::IN)],
            Some(&step),
        ) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            ready => ready?,
        };
        let mut events = [0; 4096];
        loop {
            match rustix::io::read(&self.changes, &mut events) {
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                read => read?,
            };
        }
    }
}
