//! Packs layers, the same bytes on every machine.
//!
//! Gzip is written as independent members of 1 MiB of input each (RFC 1952 section 2.2), with no
//! name and no time in their headers, so the blocks are packed in parallel and the bytes do not
//! depend on how many threads there were. libdeflate packs them; its levels have the numbers of
//! zlib's and leave fewer bytes. Zstandard splits its input into jobs of fixed size for the same
//! reason. A change of blocks, levels or libraries that changes bytes is a change of
//! [`COMPRESSOR_VERSION`].

use std::io::{self, Write};
use std::num::NonZero;

use super::members::Members;
use crate::image::Compression;

/// Which bytes the packing gives: part of the key under which a packed layer is remembered.
pub const COMPRESSOR_VERSION: u32 = 2;

/// Input of one zstd job. Fixed, as the bytes depend on it; small, as each thread holds a few.
const ZSTD_JOB: u32 = 2 << 20;
/// More threads than this gain nothing that a disk or a network could take.
pub(super) const MAX_THREADS: usize = 8;
const GZIP_LEVEL: i32 = 1;
const ZSTD_LEVEL: i32 = 3;

/// Returns the level that `None` stands for, within what the format knows; 0 for no packing.
pub fn level_of(compression: Compression, level: Option<i32>) -> i32 {
    match compression {
        Compression::None => 0,
        Compression::Gzip | Compression::Estargz => level.unwrap_or(GZIP_LEVEL).clamp(0, 9),
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
    Gzip(Members<W>),
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
        // What makes eStargz of it is [`super::estargz`], which wants the whole tar.
        Compression::Gzip | Compression::Estargz => Inner::Gzip(Members::new(out, level, threads)?),
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
            Inner::Gzip(members) => Ok(members.finish()?.0),
            Inner::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Plain(out) => out.write(buf),
            Inner::Gzip(members) => members.write(buf),
            Inner::Zstd(encoder) => encoder.write(buf),
        }
    }

    /// Passes on what is ready. It does not end a block: bytes must not depend on when it is called.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.inner {
            Inner::Plain(out) => out.flush(),
            Inner::Gzip(members) => members.flush(),
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
