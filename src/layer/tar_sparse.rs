//! Where the stored bytes of a sparse file belong: GNU's old map in and behind the header, and that
//! of format 1.0 in front of the data (GNU tar manual, "Sparse Formats"). The maps of 0.0 and 0.1 are
//! records of an extended header, see [`super::pax`].

use std::io::Read;

use super::changes::Extent;
use super::entry::Kind;
use super::error::Error;
use super::pax::{MAX_EXTENTS, decimal, shown};
use super::tar_header::{BLOCK, Header, TarFlaw};
use super::tar_read::{TarBody, TarEntry, TarReader, flawed};

impl<R: Read> TarReader<R> {
    /// Reads the map of a GNU sparse file, which goes on in blocks behind the header.
    pub(super) fn gnu_map(
        &mut self,
        header: &Header<'_>,
        map: &mut Vec<(u64, u64)>,
    ) -> Result<(), Error> {
        let mut at = self.at;
        let mut more = header.sparse(map).map_err(|flaw| flawed(at, flaw))?;
        let mut block = [0; BLOCK];
        while more {
            at = self.at;
            self.read_block(&mut block, false)?;
            let read = Header::new(&block).more_sparse(map);
            more = read.map_err(|flaw| flawed(at, flaw))?;
            if map.len() > MAX_EXTENTS {
                let size = map.len() as u64;
                let cap = MAX_EXTENTS as u64;
                return Err(flawed(at, TarFlaw::TooLong { size, cap }));
            }
        }
        Ok(())
    }

    /// Reads the map in front of the data, GNU's sparse format 1.0: decimal lines, the first
    /// of which counts the extents, padded to a block.
    pub(super) fn map_in_payload(
        &mut self,
        map: &mut Vec<(u64, u64)>,
        start: u64,
    ) -> Result<(), Error> {
        let bad = || {
            flawed(
                start,
                TarFlaw::Sparse {
                    name: "GNU.sparse 1.0".to_owned(),
                },
            )
        };
        let mut numbers = Vec::new();
        let mut wanted = 1;
        let mut line = Vec::new();
        while numbers.len() < wanted {
            let mut block = [0; BLOCK];
            let fits = self.left >= BLOCK as u64;
            if !fits {
                return Err(bad());
            }
            self.read_block(&mut block, false)?;
            self.left -= BLOCK as u64;
            for byte in block {
                match byte {
                    _ if numbers.len() == wanted => break,
                    b'\n' => {
                        let number = decimal(&line).ok_or_else(bad)?;
                        if numbers.is_empty() {
                            let count = usize::try_from(number).ok().filter(|&n| n <= MAX_EXTENTS);
                            wanted = 1 + 2 * count.ok_or_else(bad)?;
                        }
                        numbers.push(number);
                        line.clear();
                    }
                    _ if line.len() < 20 => line.push(byte),
                    _ => return Err(bad()),
                }
            }
        }
        map.extend(numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])));
        Ok(())
    }

    /// Gives an entry its real size and the places of its stored bytes. The map must be in order,
    /// within the file, and use all that is stored.
    pub(super) fn make_sparse(
        &self,
        entry: &mut TarEntry,
        map: &[(u64, u64)],
        real: u64,
    ) -> Result<(), TarFlaw> {
        let bad = || TarFlaw::Sparse {
            name: shown(&entry.raw),
        };
        let mut extents = Vec::new();
        let (mut end, mut from) = (0, self.at);
        for &(at, len) in map {
            if at < end {
                return Err(bad());
            }
            end = at
                .checked_add(len)
                .filter(|&end| end <= real)
                .ok_or_else(bad)?;
            if len > 0 {
                extents.push(Extent { at, from, len });
            }
            from = from.checked_add(len).ok_or_else(bad)?;
        }
        if from - self.at != self.left || i64::try_from(real).is_err() {
            return Err(bad());
        }
        entry.body = TarBody::Node(Kind::File { size: real });
        (entry.offset, entry.stored) = (self.at, self.left);
        entry.extents = Some(extents);
        Ok(())
    }
}
