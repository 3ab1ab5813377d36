//! Writes layers in eStargz (stargz-snapshotter, `docs/estargz.md`): gzip that can be read from any
//! file on, with a table of contents at its end.
//!
//! ```text
//! member          headers up to the first file with contents
//! member          the first MiB of those contents; after the last chunk of a file follow its
//! member …        padding and the headers up to the next
//! member          a tar of its own: `stargz.index.json`, the table
//! footer          51 bytes: an empty member whose extra field says where the table begins
//! ```
//!
//! Unpacked, the layer's tar comes first, byte for byte with the zeros at its end, so readers that
//! know nothing of this stop before the table. The digest of all that is unpacked is another one
//! than the tar's: a layer in this form has a diff id of its own. As in BuildKit's there are no
//! landmarks: nobody says here which files are wanted first.
//!
//! Limits: the table is held in memory, about 500 bytes a file. Sparse files, names that are no
//! UTF-8 and a file that has the table's name are refused: the table could not say what they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::num::NonZero;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::compress::{MAX_THREADS, level_of};
use super::entry::{Kind, Meta};
use super::error::Error;
use super::members::{BLOCK, Members};
use super::pax::shown;
use super::tar_header::{BLOCK as TAR_BLOCK, TarFlaw};
use super::tar_index::Positioned;
use super::tar_read::{TarBody, TarEntry, TarReader, flawed};
use crate::image::{Compression, DiffId, Digest, Hasher, Hashing};

/// Bytes that are copied at a time.
const BUFFER: usize = 64 * 1024;
/// The name of the table in its tar.
const TABLE: &str = "stargz.index.json";

/// What became of a layer.
#[derive(Debug)]
pub struct Estargz<W> {
    /// What it was written to.
    pub out: W,
    /// Digest of all that is unpacked.
    pub diff_id: DiffId,
    /// Bytes of that.
    pub size: u64,
    /// Digest of the table.
    pub table: Digest,
}

/// The table of contents.
#[derive(Serialize)]
struct Table {
    version: u32,
    entries: Vec<Row>,
}

/// One name in the tar, or one more chunk of a file.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(rename = "modtime", skip_serializing_if = "String::is_empty")]
    time: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    link_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u64,
    /// The number of the chunk's member until all are written, then where that begins.
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    /// Bytes of the chunk; unset for the last one, which goes to the end of the file.
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<Digest>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Packs the plain tar in `tar`, from its first byte.
///
/// [`Error::NoTable`] for what the table can't say, [`Error::Tar`] for a malformed tar.
pub fn estargz<W: Write>(
    tar: &File,
    out: W,
    level: Option<i32>,
    threads: NonZero<usize>,
) -> Result<Estargz<W>, Error> {
    let level = level_of(Compression::Estargz, level);
    let threads = threads.get().min(MAX_THREADS);
    let members = Members::new(out, level, threads).map_err(written)?;
    let mut packer = Packer {
        members,
        unpacked: Hasher::new(),
        rows: Vec::new(),
    };
    packer.tar(tar)?;
    packer.finish(level)
}

struct Packer<W> {
    members: Members<W>,
    /// All that is unpacked.
    unpacked: Hasher,
    rows: Vec<Row>,
}

impl<W: Write> Packer<W> {
    fn tar(&mut self, tar: &File) -> Result<(), Error> {
        let len = tar.metadata().map_err(unread)?.len();
        let mut entries = TarReader::new(Positioned { file: tar, at: 0 });
        let mut bytes = BufReader::with_capacity(BUFFER, tar);
        while let Some(entry) = entries.next_entry()? {
            let end = entries.skip_with(|file, count| file.at += count);
            if end > len {
                return Err(flawed(entry.offset, TarFlaw::Truncated));
            }
            self.copy(&mut bytes, entry.offset, |_| ())?;
            self.entry(&entry, &mut bytes)?;
        }
        self.copy(&mut bytes, len, |_| ())
    }

    /// Adds an entry to the table, and the bytes of a file to the layer.
    fn entry(&mut self, entry: &TarEntry, bytes: &mut impl Read) -> Result<(), Error> {
        let mut row = row(entry)?;
        if row.kind != "reg" {
            self.rows.push(row);
            return Ok(());
        }
        let (name, first) = (row.name.clone(), self.rows.len());
        let mut whole = Hasher::new();
        let mut at = 0;
        while at < entry.stored {
            let size = (entry.stored - at).min(BLOCK as u64);
            let last = at + size == entry.stored;
            row.offset = self.members.cut().map_err(written)? as u64;
            (row.chunk_offset, row.chunk_size) = (at, if last { 0 } else { size });
            let mut chunk = Hasher::new();
            self.copy(bytes, entry.offset + at + size, |piece| {
                chunk.update(piece);
                whole.update(piece);
            })?;
            row.chunk_digest = Some(chunk.finish());
            self.rows.push(std::mem::take(&mut row));
            (row.name, row.kind) = (name.clone(), "chunk");
            at += size;
        }
        if entry.stored == 0 {
            self.rows.push(row);
        }
        self.rows[first].digest = Some(whole.finish());
        Ok(())
    }

    /// Copies the tar on, up to `end`.
    fn copy(
        &mut self,
        bytes: &mut impl Read,
        end: u64,
        mut see: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let mut buffer = [0; BUFFER];
        let mut rest = bytes.take(end - self.unpacked.size());
        loop {
            let got = rest.read(&mut buffer).map_err(unread)?;
            if got == 0 {
                return Ok(());
            }
            see(&buffer[..got]);
            self.unpacked.update(&buffer[..got]);
            self.members.write_all(&buffer[..got]).map_err(written)?;
        }
    }

    /// Writes the table and the footer.
    fn finish(mut self, level: i32) -> Result<Estargz<W>, Error> {
        let (out, starts) = self.members.finish().map_err(written)?;
        let table_at = starts.last().copied().unwrap_or(0);
        for row in self
            .rows
            .iter_mut()
            .filter(|row| row.chunk_digest.is_some())
        {
            let member = usize::try_from(row.offset).unwrap_or(usize::MAX);
            row.offset = starts[member];
        }
        let table = Table {
            version: 1,
            entries: self.rows,
        };
        // Once for the size and digest, once for the bytes: they are not held.
        let mut counted = Hashing::new(io::sink());
        write_json(&table, &mut counted)?;
        let (_, digest, size) = counted.finish();
        let packed = flate2::GzBuilder::new()
            .mtime(0)
            .operating_system(255)
            .write(out, flate2::Compression::new(level.unsigned_abs()));
        let mut packed = Both(packed, &mut self.unpacked);
        packed.write_all(&header(size)).map_err(written)?;
        write_json(&table, &mut packed)?;
        let padding = (TAR_BLOCK as u64 - size % TAR_BLOCK as u64) % TAR_BLOCK as u64;
        let zeros = padding as usize + 2 * TAR_BLOCK;
        packed.write_all(&vec![0; zeros]).map_err(written)?;
        let mut out = packed.0.finish().map_err(written)?;
        out.write_all(&footer(table_at)).map_err(written)?;
        Ok(Estargz {
            out,
            size: self.unpacked.size(),
            diff_id: DiffId(self.unpacked.finish()),
            table: digest,
        })
    }
}

fn written(source: io::Error) -> Error {
    Error::Output { source }
}

fn unread(source: io::Error) -> Error {
    Error::Stream { source }
}

fn write_json(table: &Table, out: impl Write) -> Result<(), Error> {
    let mut out = io::BufWriter::with_capacity(BUFFER, out);
    serde_json::to_writer(&mut out, table).map_err(|error| written(error.into()))?;
    out.flush().map_err(written)
}

/// Says what the table says of an entry, but for the contents.
fn row(entry: &TarEntry) -> Result<Row, Error> {
    let refused = |why| Error::NoTable {
        name: shown(&entry.raw),
        why,
    };
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(refused("a name in it is no UTF-8")),
    };
    if entry.extents.is_some() {
        return Err(refused("it is a sparse file"));
    }
    if entry.path.as_bytes() == TABLE.as_bytes() {
        return Err(refused("it is where the table of contents goes"));
    }
    let Meta {
        mode,
        uid,
        gid,
        mtime,
        ..
    } = entry.meta;
    let mut row = Row {
        name: text(&entry.raw)?,
        mode: mode.into(),
        uid: uid.into(),
        gid: gid.into(),
        time: match chrono::DateTime::from_timestamp(mtime.secs, 0) {
            Some(time) if mtime.secs != 0 => time.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            _ => String::new(),
        },
        ..Row::default()
    };
    for (key, value) in &entry.meta.xattrs {
        row.xattrs.insert(text(key)?, STANDARD.encode(value));
    }
    row.kind = match &entry.body {
        TarBody::HardLink { target } => {
            row.link_name = text(target.as_bytes())?;
            "hardlink"
        }
        TarBody::Node(Kind::File { size }) => {
            row.size = *size;
            "reg"
        }
        TarBody::Node(Kind::Dir) => "dir",
        TarBody::Node(Kind::Symlink { target }) => {
            row.link_name = text(target)?;
            "symlink"
        }
        TarBody::Node(kind @ (Kind::Char { major, minor } | Kind::Block { major, minor })) => {
            (row.dev_major, row.dev_minor) = ((*major).into(), (*minor).into());
            match kind {
                Kind::Char { .. } => "char",
                _ => "block",
            }
        }
        TarBody::Node(Kind::Fifo) => "fifo",
        TarBody::Node(Kind::Socket) => return Err(refused("it is a socket")),
    };
    Ok(row)
}

/// The header of the table in its tar.
fn header(size: u64) -> [u8; TAR_BLOCK] {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..TABLE.len()].copy_from_slice(TABLE.as_bytes());
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    *header.as_bytes()
}

/// An empty gzip member that says where the table's begins.
fn footer(table: u64) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];
    out.extend(b"\x1a\x00SG\x16\x00");
    out.extend(format!("{table:016x}STARGZ").bytes());
    out.extend(b"\x01\x00\x00\xff\xff");
    out.extend([0; 8]);
    out
}

/// Writes to the first and shows the second.
struct Both<'a, W>(W, &'a mut Hasher);

impl<W: Write> Write for Both<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.0.write(bytes)?;
        self.1.update(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
