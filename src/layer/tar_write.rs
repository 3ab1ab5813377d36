//! Writes a layer as a tar, the same bytes for the same changes.
//!
//! Headers are POSIX `ustar`; an extended header stands before an entry only for what does not fit:
//! a name that can't be split at 100 and 155 bytes, a number above the octal field, and extended
//! attributes. Entries are in the order of [`Changes`], ids are numbers without names, directories
//! end in a slash, times are whole seconds, attributes are sorted, and two blocks of zeros end it.
//! Whoever changes any of that raises [`ENCODER_VERSION`].
//!
//! Sockets are left out: a tar has no place for them.

use std::io::{Read, Write};

use super::changes::{Change, Changes, Content, Node};
use super::content::Reader;
use super::entry::{Kind, Meta, Time};
use super::error::Error;
use super::path::TreePath;
use super::pax::push_record;
use super::tar_header::BLOCK;

/// Which bytes [`encode`] gives: part of the key of everything made from its output.
pub const ENCODER_VERSION: u32 = 1;

/// What the name of a removal begins with (image-spec, layer.md, section "Whiteouts").
pub(super) const WHITEOUT: &[u8] = b".wh.";
/// The name in a directory that hides all of it in lower layers.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";

/// The largest id that seven octal digits hold.
const MAX_OCTAL_ID: u32 = 0o777_7777;
/// The largest size and time that eleven octal digits hold.
const MAX_OCTAL: u64 = 0o777_7777_7777;

/// How a layer is encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Later times become this one.
    pub clamp: Option<Time>,
}

/// Writes `changes` as a layer tar to `out` and returns how many bytes it has.
///
/// [`Error::Changed`] if a file is not as long as it was planned, [`Error::Reserved`] for a name
/// that would mean a removal, [`Error::BadHardLink`] for a link that does not stand behind its
/// file ([`Changes::order_links`] puts it there), [`Error::Output`] from `out`.
pub fn encode(
    changes: &Changes,
    options: &EncodeOptions,
    out: &mut dyn Write,
) -> Result<u64, Error> {
    let buffer = vec![0; 256 * 1024].into_boxed_slice();
    let mut encoder = Encoder {
        changes,
        options,
        out: Out {
            inner: out,
            buffer,
            used: 0,
            total: 0,
        },
    };
    for (path, change) in &changes.entries {
        encoder.change(path, change)?;
    }
    encoder.out.push(&[0; 2 * BLOCK])?;
    encoder.out.flush()?;
    Ok(encoder.out.total)
}

struct Encoder<'a> {
    changes: &'a Changes,
    options: &'a EncodeOptions,
    out: Out<'a>,
}

impl Encoder<'_> {
    fn change(&mut self, path: &TreePath, change: &Change) -> Result<(), Error> {
        if path.parts().any(|part| part.starts_with(WHITEOUT)) {
            return Err(Error::Reserved { path: path.clone() });
        }
        match change {
            Change::Node(node) => self.node(path, node),
            Change::Opaque(node) if node.kind.is_dir() => {
                self.node(path, node)?;
                self.mark(&path.child(OPAQUE))
            }
            Change::Opaque(_) => Err(Error::NotDirectory { path: path.clone() }),
            Change::HardLink(target) => self.link(path, target),
            Change::Whiteout => match path.parent() {
                Some(parent) => self.mark(&parent.child(&[WHITEOUT, path.name()].concat())),
                None => Err(Error::Reserved { path: path.clone() }),
            },
        }
    }

    fn node(&mut self, path: &TreePath, node: &Node) -> Result<(), Error> {
        if path.is_root() && !node.kind.is_dir() {
            return Err(Error::NotDirectory { path: path.clone() });
        }
        let mut head = Head::of(path, node, self.options.clamp);
        match &node.kind {
            Kind::Socket => return Ok(()),
            Kind::File { size } => {
                head.size = *size;
                head.write(&mut self.out)?;
                return self.contents(path, node.content.as_ref(), *size);
            }
            Kind::Dir => {
                head.flag = b'5';
                head.name.push(b'/');
            }
            Kind::Symlink { target } => {
                head.flag = b'2';
                head.link.clone_from(target);
            }
            Kind::Char { major, minor } => (head.flag, head.device) = (b'3', (*major, *minor)),
            Kind::Block { major, minor } => (head.flag, head.device) = (b'4', (*major, *minor)),
            Kind::Fifo => head.flag = b'6',
        }
        head.write(&mut self.out)
    }

    /// A link carries the metadata of its file, as some readers apply it again.
    fn link(&mut self, path: &TreePath, target: &TreePath) -> Result<(), Error> {
        let node = match self.changes.entries.get(target) {
            Some(Change::Node(node)) if !node.kind.is_dir() && target < path => node,
            _ => {
                let (path, target) = (path.clone(), target.clone());
                return Err(Error::BadHardLink { path, target });
            }
        };
        if node.kind == Kind::Socket {
            return Ok(());
        }
        let mut head = Head::of(path, node, self.options.clamp);
        head.flag = b'1';
        head.link = target.as_bytes().to_vec();
        head.write(&mut self.out)
    }

    /// Writes the empty file whose name means a removal.
    fn mark(&mut self, path: &TreePath) -> Result<(), Error> {
        let meta = Meta::default();
        let head = Head::new(path, &meta, self.options.clamp);
        head.write(&mut self.out)
    }

    fn contents(
        &mut self,
        path: &TreePath,
        content: Option<&Content>,
        size: u64,
    ) -> Result<(), Error> {
        let changed = |got| Error::Changed {
            path: path.clone(),
            want: size,
            got,
        };
        match content {
            None if size == 0 => return Ok(()),
            None => return Err(changed(0)),
            Some(Content::Bytes(bytes)) if bytes.len() as u64 != size => {
                return Err(changed(bytes.len() as u64));
            }
            Some(content) => {
                // An error names the entry, not the place that its bytes come from.
                let mut reader = content.open(size).map_err(|error| match error {
                    Error::Changed { got, .. } => changed(got),
                    Error::Missing { .. } => Error::Missing { path: path.clone() },
                    Error::NotRegular { .. } => Error::NotRegular { path: path.clone() },
                    error => error,
                })?;
                self.out.copy(&mut reader, size, path)?;
                if let (Content::Below { .. }, Reader::File { file, .. }) = (content, &reader) {
                    let failed = |source| Error::Io {
                        doing: "look at",
                        path: path.clone(),
                        source,
                    };
                    let now = file.metadata().map_err(failed)?.len();
                    if now != size {
                        return Err(changed(now));
                    }
                }
            }
        }
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        self.out.push(&[0; BLOCK][..(BLOCK - over) % BLOCK])
    }
}

/// What a header says.
struct Head<'a> {
    name: Vec<u8>,
    link: Vec<u8>,
    flag: u8,
    size: u64,
    device: (u32, u32),
    mtime: i64,
    mode: u32,
    meta: &'a Meta,
}

impl<'a> Head<'a> {
    /// Returns the header of an entry without its type.
    fn of(path: &TreePath, node: &'a Node, clamp: Option<Time>) -> Self {
        let mut head = Self::new(path, &node.meta, clamp);
        if node.kind.symlink_target().is_some() {
            head.mode = 0o777; // It has none of its own, whatever its inode says.
        }
        head
    }

    /// Returns the header of an empty file.
    fn new(path: &TreePath, meta: &'a Meta, clamp: Option<Time>) -> Self {
        let mtime = clamp.map_or(meta.mtime, |clamp| meta.mtime.min(clamp)).secs;
        let name = if path.is_root() {
            b"."
        } else {
            path.as_bytes()
        };
        let (name, link) = (name.to_vec(), Vec::new());
        Self {
            name,
            link,
            flag: b'0',
            size: 0,
            device: (0, 0),
            mtime,
            mode: meta.mode & 0o7777,
            meta,
        }
    }

    fn write(&self, out: &mut Out<'_>) -> Result<(), Error> {
        let split = split_name(&self.name);
        let records = self.records(split.is_none());
        if !records.is_empty() {
            out.push(&extended(&self.name, &records))?;
        }
        let (prefix, name) = split.unwrap_or((b"", &self.name));
        let mut block = Block::new(self.flag, name, prefix);
        block.text(157..257, &self.link);
        block.octal(100..108, self.mode.into());
        // What does not fit is 0 here and said in a record.
        let id = |id: u32| u64::from(if id > MAX_OCTAL_ID { 0 } else { id });
        block.octal(108..116, id(self.meta.uid));
        block.octal(116..124, id(self.meta.gid));
        block.octal(124..136, if self.size > MAX_OCTAL { 0 } else { self.size });
        block.octal(136..148, octal_time(self.mtime).unwrap_or(0));
        if matches!(self.flag, b'3' | b'4') {
            block.octal(329..337, self.device.0.into());
            block.octal(337..345, self.device.1.into());
        }
        out.push(&block.finish())
    }

    /// Returns the extended header: what the block has no room for, keys in order.
    fn records(&self, long_name: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in &self.meta.xattrs {
            push_record(
                &mut out,
                &[b"SCHILY.xattr.", name.as_slice()].concat(),
                value,
            );
        }
        let mut record = |when: bool, key: &str, value: &[u8]| {
            if when {
                push_record(&mut out, key.as_bytes(), value);
            }
        };
        let long_link = self.link.len() > 100;
        let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        let binary = (long_name && !is_text(&self.name)) || (long_link && !is_text(&self.link));
        let Meta { uid, gid, .. } = *self.meta;
        record(gid > MAX_OCTAL_ID, "gid", gid.to_string().as_bytes());
        record(binary, "hdrcharset", b"BINARY");
        record(long_link, "linkpath", &self.link);
        let secs = self.mtime;
        record(
            octal_time(secs).is_none(),
            "mtime",
            secs.to_string().as_bytes(),
        );
        record(long_name, "path", &self.name);
        record(
            self.size > MAX_OCTAL,
            "size",
            self.size.to_string().as_bytes(),
        );
        record(uid > MAX_OCTAL_ID, "uid", uid.to_string().as_bytes());
        out
    }
}

/// Returns the extended header with these records, for the entry `name`.
pub(super) fn extended(name: &[u8], records: &[u8]) -> Vec<u8> {
    let base = name.strip_suffix(b"/").unwrap_or(name);
    let base = base.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let mut name = b"PaxHeaders.0/".to_vec();
    name.extend_from_slice(&base[..base.len().min(80)]);
    let mut block = Block::new(b'x', &name, b"");
    block.octal(100..108, 0o644);
    block.octal(124..136, records.len() as u64);
    let mut out = block.finish().to_vec();
    out.extend_from_slice(records);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out
}

/// Returns the header `block` with another time: 0 for one that a record has to say.
pub(super) fn with_time(block: [u8; BLOCK], secs: i64) -> [u8; BLOCK] {
    let mut block = Block(block);
    block.octal(136..148, octal_time(secs).unwrap_or(0));
    block.finish()
}

/// Returns a time in seconds since 1970 if a header has room for it.
pub(super) fn octal_time(secs: i64) -> Option<u64> {
    u64::try_from(secs).ok().filter(|&secs| secs <= MAX_OCTAL)
}

/// Splits a name into a prefix of at most 155 bytes and a rest of at most 100.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((b"", name));
    }
    // The last slash that leaves a rest and that the prefix reaches.
    let inner = name.strip_suffix(b"/").unwrap_or(name);
    let end = inner.len().min(156);
    let at = inner[..end]
        .iter()
        .rposition(|&b| b == b'/')
        .filter(|&at| at > 0)?;
    let rest = &name[at + 1..];
    (rest.len() <= 100).then_some((&name[..at], rest))
}

/// A header block in the making.
struct Block([u8; BLOCK]);

impl Block {
    fn new(flag: u8, name: &[u8], prefix: &[u8]) -> Self {
        let mut block = Self([0; BLOCK]);
        block.text(0..100, name);
        block.text(345..500, prefix);
        block.0[156] = flag;
        block.0[257..265].copy_from_slice(b"ustar\x0000");
        for field in [100..108, 108..116, 116..124, 329..337, 337..345] {
            block.octal(field, 0);
        }
        for field in [124..136, 136..148] {
            block.octal(field, 0);
        }
        block
    }

    /// Writes as much of `text` as fits.
    fn text(&mut self, field: std::ops::Range<usize>, text: &[u8]) {
        let field = &mut self.0[field];
        let len = field.len().min(text.len());
        field[..len].copy_from_slice(&text[..len]);
    }

    /// Writes a number that is known to fit, with zeros in front and a NUL behind.
    fn octal(&mut self, field: std::ops::Range<usize>, mut value: u64) {
        let field = &mut self.0[field];
        let digits = field.len() - 1;
        for digit in field[..digits].iter_mut().rev() {
            *digit = b'0' + u8::try_from(value & 7).unwrap_or(0);
            value >>= 3;
        }
        field[digits] = 0;
    }

    fn finish(mut self) -> [u8; BLOCK] {
        self.0[148..156].fill(b' ');
        let sum: u64 = self.0.iter().map(|&b| u64::from(b)).sum();
        // Six digits, a NUL, a blank: the historic form.
        self.octal(148..155, sum);
        self.0
    }
}

/// The output, gathered into large writes.
struct Out<'a> {
    inner: &'a mut dyn Write,
    buffer: Box<[u8]>,
    used: usize,
    total: u64,
}

impl Out<'_> {
    fn push(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            if self.used == self.buffer.len() {
                self.flush()?;
            }
            let len = bytes.len().min(self.buffer.len() - self.used);
            self.buffer[self.used..self.used + len].copy_from_slice(&bytes[..len]);
            self.used += len;
            bytes = &bytes[len..];
        }
        Ok(())
    }

    /// Writes exactly `size` bytes of `reader`, the contents of `path`.
    fn copy(&mut self, reader: &mut impl Read, size: u64, path: &TreePath) -> Result<(), Error> {
        let mut left = size;
        while left > 0 {
            if self.used == self.buffer.len() {
                self.flush()?;
            }
            let room = self.buffer.len() - self.used;
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(room);
            let end = match reader.read(&mut self.buffer[self.used..self.used + most]) {
                Ok(0) => true,
                Ok(got) => {
                    self.used += got;
                    left -= got as u64;
                    false
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => false,
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => true,
                Err(source) => {
                    return Err(Error::Io {
                        doing: "read",
                        path: path.clone(),
                        source,
                    });
                }
            };
            if end {
                return Err(Error::Changed {
                    path: path.clone(),
                    want: size,
                    got: size - left,
                });
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let written = self.inner.write_all(&self.buffer[..self.used]);
        written.map_err(|source| Error::Output { source })?;
        self.total += self.used as u64;
        self.used = 0;
        Ok(())
    }
}
