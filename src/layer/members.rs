//! Writes gzip members, packed on several threads.
//!
//! A member holds at most [`BLOCK`] bytes of input and depends on nothing but those and the level,
//! so the bytes are the same on any number of threads. Members are written in the order of their
//! input; not more of them are in work than bound the memory.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The most input of one member.
pub(super) const BLOCK: usize = 1 << 20;

/// A block on its way to a worker, and the way back.
struct Job {
    block: Vec<u8>,
    reply: SyncSender<Packed>,
}

/// What a worker made: the member, and the block's memory to be used again.
struct Packed {
    member: io::Result<Vec<u8>>,
    block: Vec<u8>,
}

/// Packs what is written to it, a member for each full block and each cut.
pub(super) struct Members<W> {
    out: W,
    block: Vec<u8>,
    work: Work,
    spare: Vec<Vec<u8>>,
    /// How many members were given to work.
    begun: usize,
    /// Where each member that was written begins, and where the last one ends.
    starts: Vec<u64>,
}

/// Where members are packed.
enum Work {
    Here(Encoder),
    Threads {
        jobs: mpsc::Sender<Job>,
        /// Blocks in work, oldest first.
        pending: VecDeque<Receiver<Packed>>,
        /// The most blocks in work: it bounds the memory.
        most: usize,
    },
}

impl<W: Write> Members<W> {
    /// Packs into `out` at a level of [`super::level_of`].
    pub(super) fn new(out: W, level: i32, threads: usize) -> io::Result<Self> {
        let work = match threads {
            0 | 1 => Work::Here(Encoder::new(level)),
            _ => Work::Threads {
                jobs: start(level, threads)?,
                pending: VecDeque::new(),
                most: threads * 2,
            },
        };
        Ok(Self {
            out,
            block: Vec::with_capacity(BLOCK),
            work,
            spare: Vec::new(),
            begun: 0,
            starts: vec![0],
        })
    }

    /// Ends the current member, if it has begun, and returns the number of the next.
    pub(super) fn cut(&mut self) -> io::Result<usize> {
        if !self.block.is_empty() {
            self.pack()?;
        }
        Ok(self.begun)
    }

    /// Packs the current block, here or on a worker.
    fn pack(&mut self) -> io::Result<()> {
        self.begun += 1;
        match &mut self.work {
            Work::Here(encoder) => {
                let member = encoder.member(&self.block)?;
                self.block.clear();
                self.put(&member)
            }
            Work::Threads { jobs, pending, .. } => {
                let (reply, packed) = mpsc::sync_channel(1);
                let next = self.spare.pop();
                let next = next.unwrap_or_else(|| Vec::with_capacity(BLOCK));
                let block = std::mem::replace(&mut self.block, next);
                jobs.send(Job { block, reply }).map_err(|_| gone())?;
                pending.push_back(packed);
                self.drain(false)
            }
        }
    }

    /// Writes the oldest members, as long as there are too many in work, or all of them.
    fn drain(&mut self, all: bool) -> io::Result<()> {
        while let Work::Threads { pending, most, .. } = &mut self.work
            && (all || pending.len() >= *most)
            && let Some(oldest) = pending.pop_front()
        {
            let Packed { member, mut block } = oldest.recv().map_err(|_| gone())?;
            block.clear();
            self.spare.push(block);
            self.put(&member?)?;
        }
        Ok(())
    }

    fn put(&mut self, member: &[u8]) -> io::Result<()> {
        let end = self.starts.last().copied().unwrap_or(0) + member.len() as u64;
        self.starts.push(end);
        self.out.write_all(member)
    }

    /// Packs what is left, and returns what it was written to with where each member begins and
    /// the last one ends.
    pub(super) fn finish(mut self) -> io::Result<(W, Vec<u64>)> {
        // No input at all is one empty member: an empty file is no gzip.
        if !self.block.is_empty() || self.begun == 0 {
            self.pack()?;
        }
        self.drain(true)?;
        Ok((self.out, self.starts))
    }
}

impl<W: Write> Write for Members<W> {
    /// Takes some of `buf` into the current block.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let take = buf.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&buf[..take]);
        if self.block.len() == BLOCK {
            self.pack()?;
        }
        Ok(take)
    }

    /// Passes on the members that are ready, and ends none.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Starts workers that end when nobody can send them jobs any more.
fn start(level: i32, threads: usize) -> io::Result<mpsc::Sender<Job>> {
    let (jobs, queue) = mpsc::channel::<Job>();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..threads {
        let queue = Arc::clone(&queue);
        let work = move || {
            let mut encoder = Encoder::new(level);
            loop {
                let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(Job { block, reply }) = job else {
                    return;
                };
                let member = encoder.member(&block);
                // Whoever asked may have given up; then nobody wants the answer.
                let _ = reply.send(Packed { member, block });
            }
        };
        thread::Builder::new().name("gzip".to_owned()).spawn(work)?;
    }
    Ok(jobs)
}

fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "a compression thread ended early",
    )
}

/// Packs one block after the other, with no name, no time and no operating system in the headers.
struct Encoder {
    /// `None` where nothing is to be packed: libdeflate's levels begin at 1.
    deflate: Option<libdeflater::Compressor>,
    room: Vec<u8>,
}

impl Encoder {
    fn new(level: i32) -> Self {
        let level = libdeflater::CompressionLvl::new(level).ok();
        Self {
            deflate: level.map(libdeflater::Compressor::new),
            room: Vec::new(),
        }
    }

    fn member(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let Some(deflate) = &mut self.deflate else {
            return stored(block);
        };
        self.room
            .resize(deflate.gzip_compress_bound(block.len()), 0);
        let packed = deflate.gzip_compress(block, &mut self.room);
        let packed = packed.expect("there is room for the most that it can give");
        Ok(self.room[..packed].to_vec())
    }
}

fn stored(block: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(Vec::new(), flate2::Compression::none());
    encoder.write_all(block)?;
    encoder.finish()
}
