//! Packs layers, the same bytes on every machine.
//!
//! Gzip is written as independent members of 1 MiB of input each (RFC 1952 section 2.2), with no
//! name and no time in their headers, so the blocks are packed in parallel and the bytes do not
//! depend on how many threads there were. Zstandard splits its input into jobs of fixed size for
//! the same reason. A change of blocks, levels or libraries that changes bytes is a change of
//! [`COMPRESSOR_VERSION`].

use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::image::Compression;

/// Which bytes the packing gives: part of the key under which a packed layer is remembered.
pub const COMPRESSOR_VERSION: u32 = 1;

/// Input of one gzip member.
const BLOCK: usize = 1 << 20;
/// Input of one zstd job. Fixed, as the bytes depend on it; small, as each thread holds a few.
const ZSTD_JOB: u32 = 2 << 20;
/// More threads than this gain nothing that a disk or a network could take.
const MAX_THREADS: usize = 8;
const GZIP_LEVEL: i32 = 4;
const ZSTD_LEVEL: i32 = 3;

/// Returns the level that `None` stands for, within what the format knows; 0 for no packing.
pub fn level_of(compression: Compression, level: Option<i32>) -> i32 {
    match compression {
        Compression::None => 0,
        Compression::Gzip => level.unwrap_or(GZIP_LEVEL).clamp(0, 9),
        // Above 19 the window outgrows what decoders accept without a flag.
        Compression::Zstd => level.unwrap_or(ZSTD_LEVEL).clamp(1, 19),
    }
}

/// Packs what is written to it.
pub struct Compressor<W: Write> {
    inner: Inner<W>,
}

enum Inner<W: Write> {
    Plain(W),
    Gzip(Gzip<W>),
    Zstd(zstd::Encoder<'static, W>),
}

/// Packs into `out` on as many as `threads` threads; `level` is clamped to what the format knows.
///
/// The result is complete only after [`Compressor::finish`].
pub fn compressor<W: Write>(
    out: W,
    compression: Compression,
    level: Option<i32>,
    threads: NonZero<usize>,
) -> io::Result<Compressor<W>> {
    let level = level_of(compression, level);
    let threads = threads.get().min(MAX_THREADS);
    let inner = match compression {
        Compression::None => Inner::Plain(out),
        Compression::Gzip => Inner::Gzip(Gzip::new(out, level.unsigned_abs(), threads)?),
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(out, level)?;
            encoder.include_checksum(true)?;
            encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(ZSTD_JOB))?;
            // One worker and many give the same bytes; none at all would give others.
            encoder.multithread(u32::try_from(threads.min(4)).unwrap_or(1))?;
            Inner::Zstd(encoder)
        }
    };
    Ok(Compressor { inner })
}

impl<W: Write> Compressor<W> {
    /// Writes what is left and returns what it was written to.
    pub fn finish(self) -> io::Result<W> {
        match self.inner {
            Inner::Plain(out) => Ok(out),
            Inner::Gzip(gzip) => gzip.finish(),
            Inner::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Plain(out) => out.write(buf),
            Inner::Gzip(gzip) => gzip.write(buf),
            Inner::Zstd(encoder) => encoder.write(buf),
        }
    }

    /// Passes on what is ready. It does not end a block: bytes must not depend on when it is called.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.inner {
            Inner::Plain(out) => out.flush(),
            Inner::Gzip(gzip) => gzip.out.flush(),
            Inner::Zstd(_) => Ok(()),
        }
    }
}

impl<W: Write> std::fmt::Debug for Compressor<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.inner {
            Inner::Plain(_) => "Compressor(none)",
            Inner::Gzip(_) => "Compressor(gzip)",
            Inner::Zstd(_) => "Compressor(zstd)",
        };
        f.write_str(name)
    }
}

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

struct Gzip<W> {
    out: W,
    level: u32,
    block: Vec<u8>,
    /// Blocks in work, oldest first.
    pending: VecDeque<Receiver<Packed>>,
    /// The most blocks in work: it bounds the memory.
    most: usize,
    jobs: Option<mpsc::Sender<Job>>,
    spare: Vec<Vec<u8>>,
    any: bool,
}

impl<W: Write> Gzip<W> {
    fn new(out: W, level: u32, threads: usize) -> io::Result<Self> {
        let jobs = if threads > 1 {
            Some(start(level, threads)?)
        } else {
            None
        };
        Ok(Self {
            out,
            level,
            block: Vec::with_capacity(BLOCK),
            pending: VecDeque::new(),
            most: threads * 2,
            jobs,
            spare: Vec::new(),
            any: false,
        })
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let take = buf.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&buf[..take]);
        if self.block.len() == BLOCK {
            self.pack()?;
        }
        Ok(take)
    }

    /// Packs the current block, here or on a worker.
    fn pack(&mut self) -> io::Result<()> {
        self.any = true;
        let Some(jobs) = &self.jobs else {
            let packed = member(&self.block, self.level)?;
            self.block.clear();
            return self.out.write_all(&packed);
        };
        let (reply, packed) = mpsc::sync_channel(1);
        let next = self
            .spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(BLOCK));
        let block = std::mem::replace(&mut self.block, next);
        jobs.send(Job { block, reply }).map_err(|_| gone())?;
        self.pending.push_back(packed);
        while self.pending.len() >= self.most {
            self.take_oldest()?;
        }
        Ok(())
    }

    fn take_oldest(&mut self) -> io::Result<()> {
        let Some(oldest) = self.pending.pop_front() else {
            return Ok(());
        };
        let Packed { member, mut block } = oldest.recv().map_err(|_| gone())?;
        block.clear();
        self.spare.push(block);
        self.out.write_all(&member?)
    }

    fn finish(mut self) -> io::Result<W> {
        // No input at all is one empty member: an empty file is no gzip.
        if !self.block.is_empty() || !self.any {
            self.pack()?;
        }
        while !self.pending.is_empty() {
            self.take_oldest()?;
        }
        Ok(self.out)
    }
}

/// Starts workers that end when nobody can send them jobs any more.
fn start(level: u32, threads: usize) -> io::Result<mpsc::Sender<Job>> {
    let (jobs, queue) = mpsc::channel::<Job>();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..threads {
        let queue = Arc::clone(&queue);
        thread::Builder::new()
            .name("gzip".to_owned())
            .spawn(move || {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(Job { block, reply }) = job else {
                        return;
                    };
                    let member = member(&block, level);
                    // Whoever asked may have given up; then nobody wants the answer.
                    let _ = reply.send(Packed { member, block });
                }
            })?;
    }
    Ok(jobs)
}

fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "a compression thread ended early",
    )
}

/// Packs one block as a gzip member with no name, no time and no operating system in its header.
fn member(block: &[u8], level: u32) -> io::Result<Vec<u8>> {
    let out = Vec::with_capacity(block.len() / 2 + 64);
    let mut encoder = flate2::GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(out, flate2::Compression::new(level));
    encoder.write_all(block)?;
    encoder.finish()
}
