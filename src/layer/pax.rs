//! Extended headers: what did not fit into a header block.
//!
//! POSIX.1-2017 `pax`, section "pax Extended Header": records `LENGTH KEY=VALUE\n`. Attributes come
//! as `SCHILY.xattr.NAME` (raw) or `LIBARCHIVE.xattr.NAME` (name percent-encoded, value in base64),
//! sparse maps as `GNU.sparse.*` in three versions (GNU tar manual, "Sparse Formats").
//! Keys that say nothing about a file's bytes, name or metadata are passed over.

use std::collections::BTreeMap;

use super::entry::Time;
use super::tar_header::{TarFlaw, id};

/// What the extended header of one entry says.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<Time>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub sparse: Option<Sparse>,
}

/// The `GNU.sparse.*` records.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    pub major: u64,
    /// Version 1 has its map in front of the data, not here.
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    /// Offsets and lengths of what is no hole.
    pub map: Vec<(u64, u64)>,
    offset: Option<u64>,
}

/// The most extents that a sparse file may have.
pub(super) const MAX_EXTENTS: usize = 1 << 18;

impl Pax {
    /// Reads the payload of an `x` header.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, TarFlaw> {
        let mut pax = Self::default();
        let mut archived = Vec::new();
        records(bytes, |key, value| {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                pax.xattrs.insert(name.to_vec(), value.to_vec());
            } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                let pair = percent_decode(name).zip(base64_decode(value));
                archived.push(pair.ok_or_else(|| bad(key))?);
            } else if let Some(field) = key.strip_prefix(b"GNU.sparse.") {
                let sparse = pax.sparse.get_or_insert_default();
                sparse.record(field, value).ok_or_else(|| bad(key))?;
            } else {
                pax.record(key, value)?;
            }
            Ok(())
        })?;
        // Where a writer gave both forms, the raw one is the truth.
        for (name, value) in archived {
            pax.xattrs.entry(name).or_insert(value);
        }
        Ok(pax)
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarFlaw> {
        // An empty value takes back what an earlier header said.
        let set = !value.is_empty();
        let number = || decimal(value).ok_or_else(|| bad(key));
        match key {
            b"path" => self.path = set.then(|| value.to_vec()),
            b"linkpath" => self.link = set.then(|| value.to_vec()),
            b"size" => self.size = set.then(number).transpose()?,
            b"uid" => self.uid = set.then(|| id("uid", number()?)).transpose()?,
            b"gid" => self.gid = set.then(|| id("gid", number()?)).transpose()?,
            b"mtime" => {
                self.mtime = set
                    .then(|| time(value).ok_or_else(|| bad(key)))
                    .transpose()?;
            }
            _ => return Ok(()),
        }
        Ok(())
    }
}

impl Sparse {
    fn record(&mut self, field: &[u8], value: &[u8]) -> Option<()> {
        match field {
            b"major" => self.major = decimal(value).filter(|&major| major <= 1)?,
            b"minor" => _ = decimal(value)?,
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.real_size = Some(decimal(value)?),
            b"numblocks" => _ = decimal(value).filter(|&count| count <= MAX_EXTENTS as u64)?,
            b"offset" => self.offset = Some(decimal(value)?),
            b"numbytes" => self.map.push((self.offset.take()?, decimal(value)?)),
            b"map" => {
                let mut numbers = value.split(|&b| b == b',').map(decimal);
                while let Some(offset) = numbers.next() {
                    if self.map.len() == MAX_EXTENTS {
                        return None;
                    }
                    self.map.push((offset?, numbers.next()??));
                }
            }
            _ => {}
        }
        Some(())
    }
}

/// Refuses a `g` header that would change what later entries are. GNU tar applies such a header,
/// Go's reader, and so Docker, does not; `comment`, as git writes it, is harmless.
pub(super) fn check_global(bytes: &[u8]) -> Result<(), TarFlaw> {
    records(bytes, |key, _| {
        let matters = [&b"path"[..], b"linkpath", b"size", b"uid", b"gid"].contains(&key)
            || [&b"GNU.sparse."[..], b"SCHILY.xattr.", b"LIBARCHIVE.xattr."]
                .iter()
                .any(|start| key.starts_with(start));
        if matters {
            Err(TarFlaw::Global { key: shown(key) })
        } else {
            Ok(())
        }
    })
}

/// Calls `each` with every record.
pub(super) fn records(
    mut bytes: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), TarFlaw>,
) -> Result<(), TarFlaw> {
    while !bytes.is_empty() {
        let blank = bytes
            .iter()
            .take(20)
            .position(|&b| b == b' ')
            .ok_or(TarFlaw::Record)?;
        let len = decimal(&bytes[..blank]).and_then(|len| usize::try_from(len).ok());
        let len = len.filter(|&len| len > blank + 1).ok_or(TarFlaw::Record)?;
        let record = bytes.get(blank + 1..len).ok_or(TarFlaw::Record)?;
        let record = record.strip_suffix(b"\n").ok_or(TarFlaw::Record)?;
        let equals = record
            .iter()
            .position(|&b| b == b'=')
            .ok_or(TarFlaw::Record)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return Err(TarFlaw::Record);
        }
        each(key, value)?;
        bytes = &bytes[len..];
    }
    Ok(())
}

fn bad(key: &[u8]) -> TarFlaw {
    TarFlaw::Value { key: shown(key) }
}

/// Text from an archive for a message: not longer than a line, and no control characters.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    text.replace(char::is_control, "\u{fffd}")
}

/// Reads decimal digits and nothing else.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_u64, |value, &b| match b {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

/// Reads seconds since 1970 with an optional sign and fraction; digits beyond nanoseconds are cut.
fn time(bytes: &[u8]) -> Option<Time> {
    let (negative, bytes) = match bytes.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, bytes),
    };
    let mut parts = bytes.splitn(2, |&b| b == b'.');
    let secs = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nanos = 0;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    for at in 0..9 {
        nanos = nanos * 10 + u32::from(fraction.get(at).map_or(0, |b| b - b'0'));
    }
    Some(match (negative, nanos) {
        (false, _) => Time { secs, nanos },
        (true, 0) => Time { secs: -secs, nanos },
        (true, _) => Time {
            secs: -secs - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}

fn percent_decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let hex = |b: &u8| char::from(*b).to_digit(16);
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let value = hex(bytes.get(at + 1)?)? * 16 + hex(bytes.get(at + 2)?)?;
            out.push(u8::try_from(value).ok()?);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    Some(out)
}

/// Decodes base64 (RFC 4648 section 4) with or without padding.
fn base64_decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() / 4 * 3);
    let (mut bits, mut have) = (0_u32, 0);
    for &b in bytes.iter().take_while(|&&b| b != b'=') {
        let value = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push(u8::try_from((bits >> have) & 0xff).ok()?);
        }
    }
    Some(out)
}

/// Appends the record `LENGTH KEY=VALUE\n`, whose length counts its own digits.
pub(super) fn push_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + digits(rest);
    len = rest + digits(len);
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_record(&mut out, key, value);
        out
    }

    #[test]
    fn records_are_read_as_they_are_written() {
        for len in [0, 1, 85, 86, 87, 88, 89, 90, 985, 990, 995, 9980, 9990] {
            let value = vec![b'v'; len];
            let bytes = record(b"path", &value);
            let said: usize = std::str::from_utf8(&bytes)
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(said, bytes.len());
            assert_eq!(Pax::parse(&bytes).unwrap().path, (len > 0).then_some(value));
        }
    }

    #[test]
    fn malformed_records_are_errors() {
        for bad in [
            &b"9 path=a"[..],
            b"9 path=ab",
            b"99 path=a\n",
            b"9  path=a\n",
            b"0 path=a\n",
            b"2 \n",
            b"7 path\n",
            b"5 =a\n",
            b"-9 path=a\n",
            b"99999999999999999999999 path=a\n",
            b"\0\0\0\0",
        ] {
            assert_eq!(Pax::parse(bad).unwrap_err(), TarFlaw::Record, "{bad:?}");
        }
    }

    #[test]
    fn times_before_1970_and_fractions_are_read() {
        for (text, secs, nanos) in [
            ("0", 0, 0),
            ("1700000000.123456789123", 1_700_000_000, 123_456_789),
            ("1.5", 1, 500_000_000),
            ("-1", -1, 0),
            ("-1.25", -2, 750_000_000),
        ] {
            assert_eq!(time(text.as_bytes()), Some(Time { secs, nanos }), "{text}");
        }
        for bad in ["", "-", "x", "1.x", "1e9", "99999999999999999999"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn both_forms_of_attributes_are_read_and_the_raw_one_wins() {
        let mut bytes = record(b"LIBARCHIVE.xattr.user.a%3db", b"aGVsbG8");
        bytes.extend(record(b"SCHILY.xattr.user.c", b"raw\0\n"));
        bytes.extend(record(b"LIBARCHIVE.xattr.user.c", b"eA=="));
        let pax = Pax::parse(&bytes).unwrap();
        assert_eq!(pax.xattrs[&b"user.a=b"[..]], b"hello");
        assert_eq!(pax.xattrs[&b"user.c"[..]], b"raw\0\n");
        assert!(Pax::parse(&record(b"LIBARCHIVE.xattr.a", b"!!")).is_err());
    }

    #[test]
    fn global_headers_may_comment_but_not_rename() {
        assert_eq!(check_global(&record(b"comment", b"0123")), Ok(()));
        assert!(check_global(&record(b"path", b"x")).is_err());
        assert!(check_global(&record(b"size", b"1")).is_err());
    }
}
