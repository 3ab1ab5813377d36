//! Reads a tar strictly: what the common readers would take for different things is refused.
//!
//! Promise: entries agree with Docker's reader (Go `archive/tar`) and GNU tar, or there is an error;
//! nothing panics whatever the bytes; memory is bounded by what one extended header may hold
//! ([`MAX_EXTENDED`]) and never by a size that a header claims.
//!
//! Decisions where readers differ: a hard link has no payload whatever size it gives; a size on
//! anything else that is no file is an error; two blocks of zeros or the end of the stream at a
//! block boundary end an archive, and what comes after the zeros is not looked at; a type
//! other than file, link, directory, device and fifo is an error.
//! User and group names are passed over: ids are what counts in an image.

use std::io::{self, Read};

use super::changes::Extent;
use super::entry::{Kind, Meta, Time};
use super::error::Error;
use super::node::belongs_to_image;
use super::path::TreePath;
use super::pax::{Pax, check_global, shown};
use super::tar_header::{BLOCK, Header, Layout, TarFlaw};

/// The most bytes of an extended header, or of a long name, that are read.
pub const MAX_EXTENDED: u64 = 1 << 20;

/// The longest name and link target, as the kernel's `PATH_MAX` without its NUL.
const MAX_NAME: usize = 4095;

/// One entry of an archive.
#[derive(Debug, Clone)]
pub struct TarEntry {
    /// The name as the archive has it; an empty one is the root.
    pub raw: Vec<u8>,
    /// The name below a root, cleaned lexically.
    pub path: TreePath,
    /// Owner, mode, time and those attributes that belong to an image.
    pub meta: Meta,
    /// What it is.
    pub body: TarBody,
    /// Where its stored bytes begin in the archive.
    pub offset: u64,
    /// How many bytes are stored: for a sparse file fewer than its size.
    pub stored: u64,
    /// What of a sparse file is stored; `None` for all other files.
    pub extents: Option<Vec<Extent>>,
}

impl TarEntry {
    /// Whether nothing is to be made: an empty file in the place of the root. Some archivers
    /// write one with an empty name for the directory they packed; docker passes over it.
    pub(super) fn is_nothing(&self) -> bool {
        self.path.is_root() && self.body == TarBody::Node(Kind::File { size: 0 })
    }
}

/// What an entry of an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TarBody {
    /// A file of its own.
    Node(Kind),
    /// Another name for an entry before it.
    HardLink {
        /// The other name, cleaned as a path from the root.
        target: TreePath,
    },
}

/// Reads the entries of a plain tar one after another.
///
/// As a [`Read`] it gives the stored bytes of the entry that [`TarReader::next_entry`] returned last;
/// what is not read is passed over.
#[derive(Debug)]
pub struct TarReader<R> {
    inner: R,
    /// Bytes read so far.
    pub(super) at: u64,
    /// Stored bytes of the current entry that were not read yet, and the padding behind them.
    pub(super) left: u64,
    padding: u64,
    ended: bool,
}

/// What stands before an entry to say more about it.
#[derive(Default)]
struct Ahead {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Ahead {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.name.is_none() && self.link.is_none()
    }
}

impl<R: Read> TarReader<R> {
    /// Reads the archive that begins where `inner` stands.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            at: 0,
            left: 0,
            padding: 0,
            ended: false,
        }
    }

    /// Returns the next entry, or `None` after the last.
    ///
    /// [`Error::Tar`] with the offset of the header where the archive is malformed,
    /// [`Error::Stream`] when the stream can't be read. After an error there is nothing more.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, Error> {
        if self.ended {
            return Ok(None);
        }
        // Until the entry is whole, so that an error ends the reading.
        self.ended = true;
        self.skip_payload()?;
        let mut ahead = Ahead::default();
        let mut block = [0; BLOCK];
        loop {
            let start = self.at;
            if !self.read_header(&mut block)? {
                let dangling = (!ahead.is_empty()).then_some(TarFlaw::Dangling);
                return dangling.map_or(Ok(None), |flaw| Err(flawed(start, flaw)));
            }
            let header = Header::new(&block);
            let read = if !header.checksum_is_right() {
                Err(flawed(start, TarFlaw::Checksum))
            } else if let flag @ (b'x' | b'g' | b'L' | b'K') = header.flag() {
                let size = header.size().map_err(|flaw| flawed(start, flaw))?;
                let bytes = self.extended(size, start)?;
                note(flag, &bytes, &mut ahead).map_err(|flaw| flawed(start, flaw))?;
                continue;
            } else {
                self.entry(&header, ahead, start)
            };
            let entry = read?;
            self.ended = false;
            return Ok(Some(entry));
        }
    }

    /// Reads what is left of the stream behind the end of the archive, and returns how many bytes
    /// the whole stream has. A layer's digest covers all of them.
    pub fn drain(&mut self) -> Result<u64, Error> {
        let rest = io::copy(&mut self.inner, &mut io::sink());
        self.at += rest.map_err(|source| Error::Stream { source })?;
        Ok(self.at)
    }

    /// Passes over what was not read of the current entry by `skip`, which is told how many bytes,
    /// and returns where its payload ends. For streams that can jump.
    pub(super) fn skip_with(&mut self, skip: impl FnOnce(&mut R, u64)) -> u64 {
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        skip(&mut self.inner, rest);
        self.at += rest;
        self.at
    }

    /// Reads the block of a header. False at the end of the archive.
    fn read_header(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, Error> {
        let start = self.at;
        if !self.read_block(block, true)? {
            return Ok(false);
        }
        if block.iter().any(|&b| b != 0) {
            return Ok(true);
        }
        if self.read_block(block, true)? && block.iter().any(|&b| b != 0) {
            return Err(flawed(start, TarFlaw::LoneZeroBlock));
        }
        Ok(false)
    }

    /// Reads one block; false if the stream ends right before it and may.
    pub(super) fn read_block(
        &mut self,
        block: &mut [u8; BLOCK],
        may_end: bool,
    ) -> Result<bool, Error> {
        let start = self.at;
        let mut have = 0;
        while have < BLOCK {
            let got = self.fill(&mut block[have..])?;
            if got == 0 && have == 0 && may_end {
                return Ok(false);
            }
            if got == 0 {
                return Err(flawed(start, TarFlaw::Truncated));
            }
            have += got;
        }
        Ok(true)
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.inner.read(buf) {
                Ok(got) => {
                    self.at += got as u64;
                    return Ok(got);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Stream { source }),
            }
        }
    }

    /// Passes over what was not read of the current entry, and its padding.
    fn skip_payload(&mut self) -> Result<(), Error> {
        let mut rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        let start = self.at;
        let mut buffer = [0; 16 * BLOCK];
        while rest > 0 {
            let most = usize::try_from(rest)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            match self.fill(&mut buffer[..most])? {
                0 => return Err(flawed(start, TarFlaw::Truncated)),
                got => rest -= got as u64,
            }
        }
        Ok(())
    }

    /// Sets the payload that follows the current position.
    fn expect_payload(&mut self, size: u64, start: u64) -> Result<(), Error> {
        let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        // A stream can't be longer than its offsets can say.
        if self
            .at
            .checked_add(size)
            .and_then(|end| end.checked_add(padding))
            .is_none()
        {
            return Err(flawed(start, TarFlaw::Number { field: "size" }));
        }
        (self.left, self.padding) = (size, padding);
        Ok(())
    }

    /// Reads the payload of an extended header.
    fn extended(&mut self, size: u64, start: u64) -> Result<Vec<u8>, Error> {
        if size > MAX_EXTENDED {
            return Err(flawed(
                start,
                TarFlaw::TooLong {
                    size,
                    cap: MAX_EXTENDED,
                },
            ));
        }
        self.expect_payload(size, start)?;
        let mut bytes = Vec::new();
        let read = self
            .read_to_end(&mut bytes)
            .map_err(|source| Error::Stream { source })?;
        if (read as u64) < size {
            return Err(flawed(start, TarFlaw::Truncated));
        }
        self.skip_payload()?;
        Ok(bytes)
    }

    /// Makes the entry of a header and what stood before it.
    fn entry(&mut self, header: &Header<'_>, ahead: Ahead, start: u64) -> Result<TarEntry, Error> {
        let at = |flaw| flawed(start, flaw);
        let mut map = Vec::new();
        let is_gnu_sparse = header.flag() == b'S' && header.layout() == Layout::Gnu;
        if is_gnu_sparse {
            self.gnu_map(header, &mut map)?;
        }
        let mut head = Head::new(header, ahead).map_err(at)?;
        let size = head.pax.size.unwrap_or(head.size);
        let flag = match header.flag() {
            // Before POSIX a directory was a file with a slash at its end.
            0 if head.raw.ends_with(b"/") => b'5',
            0 | b'7' => b'0',
            b'S' if is_gnu_sparse => b'0',
            flag => flag,
        };
        let (body, stored) = body(flag, header, &mut head, size).map_err(at)?;
        self.expect_payload(stored, start)?;
        let mut entry = TarEntry {
            path: TreePath::clean(&head.raw)
                .filter(|_| head.raw.len() <= MAX_NAME)
                .ok_or_else(|| {
                    at(TarFlaw::Name {
                        len: head.raw.len(),
                    })
                })?,
            raw: head.raw,
            meta: head.meta,
            body,
            offset: self.at,
            stored,
            extents: None,
        };
        let sparse = head.pax.sparse.take();
        if let Some(sparse) = &sparse
            && (flag != b'0' || is_gnu_sparse || sparse.real_size.is_none())
        {
            return Err(at(TarFlaw::Sparse {
                name: shown(&entry.raw),
            }));
        }
        let real = match &sparse {
            Some(sparse) => sparse.real_size,
            None if is_gnu_sparse => Some(header.real_size().map_err(at)?),
            None => None,
        };
        if let Some(real) = real {
            match sparse {
                Some(sparse) if sparse.major == 1 => self.map_in_payload(&mut map, start)?,
                Some(sparse) => map = sparse.map,
                None => {}
            }
            self.make_sparse(&mut entry, &map, real).map_err(at)?;
        }
        Ok(entry)
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = buf
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let got = self.inner.read(&mut buf[..most])?;
        if got == 0 {
            self.ended = true;
            let flaw = TarFlaw::Truncated;
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, flaw));
        }
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

/// Notes an extended header.
fn note(flag: u8, bytes: &[u8], ahead: &mut Ahead) -> Result<(), TarFlaw> {
    // GNU ends its names with a NUL.
    let name = || bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec();
    let twice = match flag {
        b'x' => ahead.pax.replace(Pax::parse(bytes)?).is_some(),
        b'L' => ahead.name.replace(name()).is_some(),
        b'K' => ahead.link.replace(name()).is_some(),
        _ => return check_global(bytes),
    };
    if twice {
        Err(TarFlaw::Contradiction)
    } else {
        Ok(())
    }
}

/// A header together with what stood before it.
struct Head {
    raw: Vec<u8>,
    link: Vec<u8>,
    size: u64,
    meta: Meta,
    pax: Pax,
}

impl Head {
    fn new(header: &Header<'_>, ahead: Ahead) -> Result<Self, TarFlaw> {
        let mut pax = ahead.pax.unwrap_or_default();
        let sparse_name = pax.sparse.as_mut().and_then(|sparse| sparse.name.take());
        let path = sparse_name.or(pax.path.take());
        let raw = one_of(path, ahead.name)?.unwrap_or_else(|| header.name());
        let link = one_of(pax.link.take(), ahead.link)?.unwrap_or_else(|| header.link_name());
        // A field that a record stands in for may hold anything.
        let uid = pax.uid.map_or_else(|| header.uid(), Ok)?;
        let gid = pax.gid.map_or_else(|| header.gid(), Ok)?;
        let mtime = match pax.mtime {
            Some(mtime) => mtime,
            None => Time::from_secs(header.mtime()?),
        };
        let mut xattrs = std::mem::take(&mut pax.xattrs);
        xattrs.retain(|name, _| belongs_to_image(name) && !name.contains(&0) && name.len() < 256);
        let size = if pax.size.is_some() {
            0
        } else {
            header.size()?
        };
        let meta = Meta {
            mode: header.mode()?,
            uid,
            gid,
            mtime,
            xattrs,
        };
        Ok(Self {
            raw,
            link,
            size,
            meta,
            pax,
        })
    }
}

/// Takes the name from a record or from GNU's header; both may be there if they agree.
fn one_of(pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, TarFlaw> {
    match (pax, gnu) {
        (Some(pax), Some(gnu)) if pax != gnu => Err(TarFlaw::Contradiction),
        (pax, gnu) => Ok(pax.or(gnu)),
    }
}

/// Returns what an entry is and how many bytes are stored for it.
fn body(
    flag: u8,
    header: &Header<'_>,
    head: &mut Head,
    size: u64,
) -> Result<(TarBody, u64), TarFlaw> {
    let kind = match flag {
        b'0' => return Ok((TarBody::Node(Kind::File { size }), size)),
        b'1' => {
            if head.pax.size.is_some_and(|size| size > 0) {
                return Err(TarFlaw::Payload {
                    name: shown(&head.raw),
                    size,
                });
            }
            let target = TreePath::clean(link_target(head)?);
            let target = target.ok_or(TarFlaw::Name {
                len: head.link.len(),
            })?;
            return Ok((TarBody::HardLink { target }, 0));
        }
        b'2' => Kind::Symlink {
            target: link_target(head)?.to_vec(),
        },
        b'3' | b'4' => {
            let (major, minor) = header.device()?;
            if flag == b'3' {
                Kind::Char { major, minor }
            } else {
                Kind::Block { major, minor }
            }
        }
        b'5' => Kind::Dir,
        b'6' => Kind::Fifo,
        flag => return Err(TarFlaw::Type { flag }),
    };
    if size > 0 {
        return Err(TarFlaw::Payload {
            name: shown(&head.raw),
            size,
        });
    }
    Ok((TarBody::Node(kind), 0))
}

fn link_target(head: &Head) -> Result<&[u8], TarFlaw> {
    let link = &head.link;
    if link.is_empty() || link.len() > MAX_NAME || link.contains(&0) {
        return Err(TarFlaw::Name { len: link.len() });
    }
    Ok(link)
}

pub(super) fn flawed(at: u64, source: TarFlaw) -> Error {
    Error::Tar { at, source }
}
