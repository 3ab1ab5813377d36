//! Encodes a layer while another thread hashes and stores what was encoded so far.
//!
//! Reading files and hashing their bytes then take the time of the slower of the two and not of
//! both. At most [`DEPTH`] + 2 pieces of [`PIECE`] bytes are in memory, however large the layer.
//! The bytes are those of [`encode`].

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;

use super::changes::{Change, Changes};
use super::entry::Kind;
use super::error::Error;
use super::tar_write::{EncodeOptions, encode};

/// Bytes of one piece.
const PIECE: usize = 256 * 1024;
/// Pieces that wait to be written.
const DEPTH: usize = 6;
/// Bytes of files below which a thread costs more than it saves.
const WORTH_IT: u64 = 1 << 20;

/// As [`encode`], with `out` written on another thread when there is enough to write.
pub fn encode_behind(
    changes: &Changes,
    options: &EncodeOptions,
    out: &mut (dyn Write + Send),
) -> Result<u64, Error> {
    if size_of_files(changes) < WORTH_IT {
        return encode(changes, options, out);
    }
    let (ready, pieces) = mpsc::sync_channel(DEPTH);
    let (empty, used) = mpsc::channel();
    let mut behind = Behind {
        ready,
        used,
        piece: Vec::with_capacity(PIECE),
    };
    thread::scope(|scope| {
        let writer = scope.spawn(move || drain(&pieces, &empty, out));
        let encoded = encode(changes, options, &mut behind).and_then(|size| {
            let last = behind.flush();
            last.map_err(|source| Error::Output { source })?;
            Ok(size)
        });
        drop(behind);
        let written = writer.join().unwrap_or_else(|panic| {
            std::panic::resume_unwind(panic);
        });
        // What kept the writer from going on is why the encoder could not.
        written.map_err(|source| Error::Output { source })?;
        encoded
    })
}

fn size_of_files(changes: &Changes) -> u64 {
    let size = |change: &Change| match change.node().map(|node| &node.kind) {
        Some(Kind::File { size }) => *size,
        _ => 0,
    };
    changes.entries.values().map(size).sum()
}

fn drain(
    pieces: &Receiver<Vec<u8>>,
    empty: &Sender<Vec<u8>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    for piece in pieces {
        out.write_all(&piece)?;
        // At the end nobody takes memory back.
        let _ = empty.send(piece);
    }
    Ok(())
}

/// The encoder's end.
struct Behind {
    ready: SyncSender<Vec<u8>>,
    used: Receiver<Vec<u8>>,
    piece: Vec<u8>,
}

impl Behind {
    fn hand_over(&mut self) -> io::Result<()> {
        let mut next = self
            .used
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(PIECE));
        next.clear();
        let full = std::mem::replace(&mut self.piece, next);
        // The writer stopped, and says why when it is joined.
        let stopped = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.ready.send(full).map_err(stopped)
    }
}

impl Write for Behind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..n]);
        if self.piece.len() == PIECE {
            self.hand_over()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.piece.is_empty() {
            true => Ok(()),
            false => self.hand_over(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::changes::Node;
    use super::super::entry::Meta;
    use super::super::path::TreePath;
    use super::*;

    fn layer(sizes: &[usize]) -> Changes {
        let mut changes = Changes::default();
        for (at, size) in sizes.iter().enumerate() {
            let bytes: Vec<u8> = (0..*size).map(|n| (n / 11 + at) as u8).collect();
            let path = TreePath::clean(format!("f{at}").as_bytes()).unwrap();
            let node = Node::file(Meta::default(), bytes);
            changes.entries.insert(path, Change::Node(node));
        }
        changes
    }

    #[test]
    fn the_bytes_are_those_of_the_encoder_alone() {
        let options = EncodeOptions::default();
        for sizes in [&[5][..], &[1 << 20, 7], &[PIECE - 512, 4 * PIECE, 3 << 20]] {
            let changes = layer(sizes);
            let (mut alone, mut behind) = (Vec::new(), Vec::new());
            let size = encode(&changes, &options, &mut alone).unwrap();
            assert_eq!(
                encode_behind(&changes, &options, &mut behind).unwrap(),
                size
            );
            assert!(alone == behind, "{sizes:?}");
        }
    }

    #[test]
    fn an_error_of_the_writer_is_the_error() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self
                    .0
                    .checked_sub(bytes.len())
                    .ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let changes = layer(&[30 * PIECE]);
        let error = encode_behind(&changes, &EncodeOptions::default(), &mut Full(2 * PIECE));
        let Err(Error::Output { source }) = error else {
            panic!("{error:?}")
        };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    }
}
