//! Reads a stream on a thread of its own, some way ahead of whoever wants the bytes.
//!
//! Inflating a layer and writing its files then take the time of the slower of the two and not of
//! both. At most [`DEPTH`] + 2 pieces of [`PIECE`] bytes are in memory, however long the stream is.

use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;

/// Bytes of one piece.
const PIECE: usize = 256 * 1024;
/// Pieces that wait to be read.
const DEPTH: usize = 6;

/// A stream that is read ahead; see [`read_ahead`].
#[derive(Debug)]
pub struct ReadAhead {
    pieces: Receiver<io::Result<Vec<u8>>>,
    /// Gives memory back to the thread.
    empty: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    ended: bool,
}

/// Starts to read `inner` on a new thread. The error is the system's refusal to start one.
///
/// Bytes come in order and unchanged, then the end or the first error of `inner`. When the result
/// is dropped the thread ends as soon as its current read returns.
pub fn read_ahead(inner: impl Read + Send + 'static) -> io::Result<ReadAhead> {
    let (ready, pieces) = mpsc::sync_channel(DEPTH);
    let (empty, used) = mpsc::channel();
    let work = move || fill(inner, &ready, &used);
    thread::Builder::new()
        .name("read ahead".to_owned())
        .spawn(work)?;
    Ok(ReadAhead {
        pieces,
        empty,
        piece: Vec::new(),
        at: 0,
        ended: false,
    })
}

fn fill(mut inner: impl Read, ready: &SyncSender<io::Result<Vec<u8>>>, used: &Receiver<Vec<u8>>) {
    loop {
        let mut piece = used.try_recv().unwrap_or_default();
        piece.clear();
        piece.reserve_exact(PIECE);
        let read = inner.by_ref().take(PIECE as u64).read_to_end(&mut piece);
        let ended = piece.is_empty() || read.is_err();
        // What came before an error is still good. A failed send means that nobody reads on.
        if !piece.is_empty() && ready.send(Ok(piece)).is_err() {
            return;
        }
        if let Err(error) = read
            && ready.send(Err(error)).is_err()
        {
            return;
        }
        if ended {
            return;
        }
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() && !self.ended && !buf.is_empty() {
            let used = std::mem::take(&mut self.piece);
            self.at = 0;
            // The thread may have ended, and then needs no memory.
            let _ = self.empty.send(used);
            match self.pieces.recv() {
                Ok(Ok(piece)) => self.piece = piece,
                Ok(Err(error)) => {
                    self.ended = true;
                    return Err(error);
                }
                // The thread is gone without an error: that is the end.
                Err(_) => self.ended = true,
            }
        }
        let got = (&self.piece[self.at..]).read(buf)?;
        self.at += got;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails(usize);

    impl Read for Fails {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let got = buf.len().min(self.0).min(10_000);
            buf[..got].fill(b'x');
            self.0 -= got;
            Ok(got)
        }
    }

    #[test]
    fn bytes_come_in_order_and_whole() {
        for len in [0, 1, PIECE, PIECE + 1, 10 * PIECE - 1] {
            let bytes: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
            let mut got = Vec::new();
            let mut ahead = read_ahead(io::Cursor::new(bytes.clone())).unwrap();
            ahead.read_to_end(&mut got).unwrap();
            assert!(got == bytes, "{len}");
            assert_eq!(ahead.read(&mut [0; 10]).unwrap(), 0);
        }
    }

    #[test]
    fn an_error_comes_behind_the_bytes_before_it() {
        let mut got = Vec::new();
        let mut ahead = read_ahead(Fails(3 * PIECE + 5)).unwrap();
        let error = ahead.read_to_end(&mut got).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(got.len(), 3 * PIECE + 5);
        assert_eq!(ahead.read(&mut [0; 10]).unwrap(), 0);
    }

    #[test]
    fn a_reader_that_gives_up_ends_the_thread() {
        struct Counts {
            _alive: std::sync::Arc<()>,
        }
        impl Read for Counts {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                Ok(buf.len())
            }
        }
        let alive = std::sync::Arc::new(());
        let mut ahead = read_ahead(Counts {
            _alive: alive.clone(),
        })
        .unwrap();
        ahead.read_exact(&mut [0; 1000]).unwrap();
        drop(ahead);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while std::sync::Arc::strong_count(&alive) > 1 {
            assert!(std::time::Instant::now() < end, "the thread reads on");
            thread::yield_now();
        }
    }
}
