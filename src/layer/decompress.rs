//! Unpacks streams: gzip with any number of members, zstd with any number of frames, bzip2, xz.
//!
//! Memory is bounded whatever a stream asks for: zstd windows and xz dictionaries of more than
//! 128 MiB are refused. How much comes out is not bounded here: wrap the result in [`Limited`].
//! Corrupt and truncated streams give an error, never silence and never a wait.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::sniff::Format;

/// The largest window or dictionary, as a power of two and in KiB.
const WINDOW_LOG: u32 = 27;
const WINDOW_KIB: u32 = 1 << (WINDOW_LOG - 10);
/// Packed bytes read at a time.
const BUFFER: usize = 128 * 1024;

/// A packed stream that is damaged, cut short, or wants more memory than we give.
#[derive(Debug, thiserror::Error)]
#[error("the {} stream is damaged or cut short", format.name())]
pub struct Damaged {
    /// What the stream is packed with.
    pub format: Format,
    /// What the decoder says.
    pub source: io::Error,
}

/// A stream that is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream is longer than the {limit} bytes it may have")]
pub struct OverLimit {
    /// The most that was allowed, in bytes.
    pub limit: u64,
}

/// Returns what `packed` holds.
///
/// A stream that is damaged gives an error of kind [`io::ErrorKind::InvalidData`] that wraps
/// [`Damaged`]; errors of `packed` itself come through as they are.
pub fn decompress(format: Format, packed: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    if format == Format::Plain {
        return Box::new(packed);
    }
    let failed = Arc::new(AtomicBool::new(false));
    let source = Source {
        inner: packed,
        failed: Arc::clone(&failed),
    };
    let source = BufReader::with_capacity(BUFFER, source);
    let inner: Box<dyn Read + Send> = match format {
        Format::Plain | Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Format::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
            source,
            true,
            WINDOW_KIB + 1024,
        )),
        Format::Zstd => match zstd(source) {
            Ok(decoder) => Box::new(decoder),
            Err(error) => Box::new(Failed(Some(error))),
        },
    };
    Box::new(Decoder {
        inner,
        format,
        failed,
    })
}

fn zstd<R: io::BufRead>(packed: R) -> io::Result<zstd::Decoder<'static, R>> {
    let mut decoder = zstd::Decoder::with_buffer(packed)?;
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(decoder)
}

/// The packed side: remembers that an error was its own.
struct Source<R> {
    inner: R,
    failed: Arc<AtomicBool>,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buf);
        if got
            .as_ref()
            .is_err_and(|error| error.kind() != io::ErrorKind::Interrupted)
        {
            self.failed.store(true, Ordering::Relaxed);
        }
        got
    }
}

/// The unpacked side: names the errors that are not the source's.
struct Decoder<R> {
    inner: R,
    format: Format,
    failed: Arc<AtomicBool>,
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf).map_err(|source| {
            if source.kind() == io::ErrorKind::Interrupted || self.failed.load(Ordering::Relaxed) {
                return source;
            }
            io::Error::new(
                io::ErrorKind::InvalidData,
                Damaged {
                    format: self.format,
                    source,
                },
            )
        })
    }
}

/// A decoder that could not be set up; says so on the first read.
struct Failed(Option<io::Error>);

impl Read for Failed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(self
            .0
            .take()
            .unwrap_or_else(|| io::ErrorKind::InvalidInput.into()))
    }
}

/// Gives at most `limit` bytes; one more is an error of kind [`io::ErrorKind::FileTooLarge`] that
/// wraps [`OverLimit`]. The guard against a small download that unpacks to a full disk.
#[derive(Debug)]
pub struct Limited<R> {
    inner: R,
    limit: u64,
    left: u64,
}

impl<R: Read> Limited<R> {
    /// Lets `limit` bytes of `inner` through.
    pub fn new(inner: R, limit: u64) -> Self {
        Self {
            inner,
            limit,
            left: limit,
        }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !buf.is_empty() {
            return match self.inner.read(&mut [0])? {
                0 => Ok(0),
                _ => {
                    let over = OverLimit { limit: self.limit };
                    Err(io::Error::new(io::ErrorKind::FileTooLarge, over))
                }
            };
        }
        let most = buf
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.inner.read(&mut buf[..most])?;
        self.left -= got as u64;
        Ok(got)
    }
}
