//! A layer's tar again, with no time later than a given one.
//!
//! A builder stamps what it makes with the time of the build, and an image that is to be the same
//! whenever it is made must not say so. [`Retimer`] changes the times and nothing else while a tar
//! of our own passes through it; what comes out are the bytes that [`super::encode`] gives with
//! [`super::EncodeOptions::clamp`].
//!
//! Limits: holds one header, with its extended header, and no payload.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::pax::{self, Pax, push_record};
use super::tar_header::{BLOCK, Header, TarFlaw};
use super::tar_read::MAX_EXTENDED;
use super::tar_write::{extended, octal_time, with_time};

/// Passes a tar on to `W`.
#[derive(Debug)]
pub struct Retimer<W> {
    out: W,
    /// Seconds since 1970.
    latest: i64,
    /// The header that is being gathered.
    gathered: Vec<u8>,
    /// How long it is, as far as is known.
    wanted: usize,
    /// The extended header before it, as it came, and the records in it.
    before: Option<(Vec<u8>, Vec<u8>)>,
    /// Bytes of payload to come.
    payload: u64,
}

impl<W: Write> Retimer<W> {
    /// Makes `latest`, in seconds since 1970, of every time that is later.
    pub fn new(out: W, latest: i64) -> Self {
        Self {
            out,
            latest,
            gathered: Vec::new(),
            wanted: BLOCK,
            before: None,
            payload: 0,
        }
    }

    /// Returns what it wrote to, once the whole tar has passed.
    pub fn finish(self) -> io::Result<W> {
        let ended = self.gathered.is_empty() && self.before.is_none() && self.payload == 0;
        if ended {
            Ok(self.out)
        } else {
            Err(flawed(TarFlaw::Truncated))
        }
    }

    /// Looks at the header that has been gathered.
    fn header(&mut self) -> io::Result<()> {
        let block: [u8; BLOCK] = self.gathered[..BLOCK].try_into().expect("a whole block");
        let header = Header::new(&block);
        if block == [0; BLOCK] {
            return self.pass();
        }
        if !header.checksum_is_right() {
            return Err(flawed(TarFlaw::Checksum));
        }
        let size = header.size().map_err(flawed)?;
        if header.flag() == b'x' {
            return self.extended_header(size);
        }
        let (raw, records) = self.before.take().unwrap_or_default();
        let pax = Pax::parse(&records).map_err(flawed)?;
        let own = header.mtime().map_err(flawed)?;
        let time = pax.mtime.map_or(own, |time| time.secs);
        self.payload = padded(pax.size.unwrap_or(size));
        if time <= self.latest {
            self.out.write_all(&raw)?;
            return self.pass();
        }
        let records = self.records(&records)?;
        if !records.is_empty() {
            let name = pax.path.unwrap_or_else(|| header.name());
            self.out.write_all(&extended(&name, &records))?;
        }
        self.gathered.clear();
        self.out.write_all(&with_time(block, self.latest))
    }

    /// Keeps an extended header until the header that it belongs to is there.
    fn extended_header(&mut self, size: u64) -> io::Result<()> {
        let whole = usize::try_from(padded(size)).unwrap_or(usize::MAX);
        if size > MAX_EXTENDED {
            let cap = MAX_EXTENDED;
            return Err(flawed(TarFlaw::TooLong { size, cap }));
        }
        if self.gathered.len() < BLOCK + whole {
            self.wanted = BLOCK + whole;
            return Ok(());
        }
        let raw = std::mem::take(&mut self.gathered);
        let end = BLOCK + usize::try_from(size).unwrap_or(whole);
        let records = raw[BLOCK..end].to_vec();
        self.before = Some((raw, records));
        self.wanted = BLOCK;
        Ok(())
    }

    /// The records of an entry that takes the latest time, which is among them where a header has
    /// no room for it.
    fn records(&self, old: &[u8]) -> io::Result<Vec<u8>> {
        let mut records = BTreeMap::new();
        pax::records(old, |key, value| {
            records.insert(key.to_vec(), value.to_vec());
            Ok(())
        })
        .map_err(flawed)?;
        records.remove(&b"mtime"[..]);
        if octal_time(self.latest).is_none() {
            records.insert(b"mtime".to_vec(), self.latest.to_string().into_bytes());
        }
        let mut out = Vec::new();
        for (key, value) in records {
            push_record(&mut out, &key, &value);
        }
        Ok(out)
    }

    fn pass(&mut self) -> io::Result<()> {
        self.out.write_all(&self.gathered)?;
        self.gathered.clear();
        Ok(())
    }
}

impl<W: Write> Write for Retimer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.payload > 0 {
                let most = usize::try_from(self.payload).unwrap_or(usize::MAX);
                let (now, later) = rest.split_at(most.min(rest.len()));
                self.out.write_all(now)?;
                self.payload -= now.len() as u64;
                rest = later;
                continue;
            }
            let lacking = self.wanted - self.gathered.len();
            let (now, later) = rest.split_at(lacking.min(rest.len()));
            self.gathered.extend_from_slice(now);
            rest = later;
            if self.gathered.len() == self.wanted {
                self.header()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn padded(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64)
}

fn flawed(flaw: TarFlaw) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, flaw)
}

#[cfg(test)]
mod tests {
    use super::super::changes::{Change, Changes, Node};
    use super::super::entry::{Meta, Time};
    use super::super::path::TreePath;
    use super::super::tar_write::{EncodeOptions, encode};
    use super::*;

    fn bytes(changes: &Changes, clamp: Option<i64>) -> Vec<u8> {
        let clamp = clamp.map(Time::from_secs);
        let mut out = Vec::new();
        encode(changes, &EncodeOptions { clamp }, &mut out).unwrap();
        out
    }

    fn retimed(tar: &[u8], latest: i64, step: usize) -> Vec<u8> {
        let mut retimer = Retimer::new(Vec::new(), latest);
        for piece in tar.chunks(step) {
            retimer.write_all(piece).unwrap();
        }
        retimer.finish().unwrap()
    }

    /// Entries of all times that need another form, long names, attributes and payloads.
    fn layer() -> Changes {
        let mut changes = Changes::default();
        let times = [-7, 0, 1_400_000_000, 1_700_000_000, 1 << 34, 1 << 40];
        for (at, secs) in times.into_iter().enumerate() {
            let mut meta = Meta {
                mode: 0o644,
                mtime: Time { secs, nanos: 5 },
                ..Meta::default()
            };
            let long = format!("{at}-{}", "long".repeat(60));
            for (name, size) in [(format!("a{at}"), 0), (format!("b{at}"), 512), (long, 700)] {
                let node = Node::file(meta.clone(), vec![7; size]);
                let path = TreePath::clean(name.as_bytes()).unwrap();
                changes.entries.insert(path, Change::Node(node));
                meta.xattrs.insert(b"user.x".to_vec(), vec![b'v'; 300]);
            }
            let gone = TreePath::clean(format!("gone{at}").as_bytes()).unwrap();
            changes.entries.insert(gone, Change::Whiteout);
        }
        changes
    }

    #[test]
    fn what_comes_out_is_what_the_encoder_gives_with_that_time() {
        let layer = layer();
        let tar = bytes(&layer, None);
        for latest in [-9, -1, 0, 1_500_000_000, 1 << 35, i64::MAX] {
            let want = bytes(&layer, Some(latest));
            for step in [1, 511, 512, 100_000] {
                assert!(retimed(&tar, latest, step) == want, "{latest} by {step}");
            }
        }
    }

    #[test]
    fn what_is_no_whole_tar_is_refused() {
        let tar = bytes(&layer(), None);
        let mut retimer = Retimer::new(Vec::new(), 0);
        retimer.write_all(&tar[..700]).unwrap();
        assert!(retimer.finish().is_err());
        let mut retimer = Retimer::new(Vec::new(), 0);
        assert!(retimer.write_all(&[b'x'; 600]).is_err());
    }
}
