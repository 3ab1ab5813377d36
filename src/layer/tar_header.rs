//! One 512-byte header block of a tar, and why a tar is refused.
//!
//! ```text
//!   0 name 100   100 mode 8   108 uid 8   116 gid 8   124 size 12   136 mtime 12   148 checksum 8
//! 156 type 1   157 linkname 100   257 magic 6   263 version 2   265 uname 32   297 gname 32
//! 329 major 8   337 minor 8   345 prefix 155 (POSIX)
//!                             345 … GNU: sparse map at 386, more at 482, real size at 483
//! ```
//!
//! POSIX.1-2017 `pax`, section "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
//! Numbers are octal text, or binary where the first bit says so. What the common readers would
//! read differently from each other is a [`TarFlaw`], not a guess.

/// Length of a block: headers are one, payloads are padded to a multiple.
pub(super) const BLOCK: usize = 512;

/// Why an archive is refused. Nothing after the flaw is looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarFlaw {
    /// A block that is to be a header is none.
    #[error("no header stands there: its checksum is wrong")]
    Checksum,
    /// A header holds something else than a number that fits.
    #[error("the header's `{field}` is no number that fits")]
    Number {
        /// The field's name in the standard.
        field: &'static str,
    },
    /// The archive ends inside an entry.
    #[error("the archive ends before the entry does")]
    Truncated,
    /// One block of zeros with more behind it, where two end an archive.
    #[error("a single block of zeros, and more behind it")]
    LoneZeroBlock,
    /// An entry of a type that is no file.
    #[error("an entry of type `{}`, which is not supported", char::from(*flag).escape_default())]
    Type {
        /// The type byte.
        flag: u8,
    },
    /// Data behind something that has none; readers disagree on whether to skip it.
    #[error("`{name}` is no file, but {size} bytes of data are said to follow")]
    Payload {
        /// The entry.
        name: String,
        /// The size its header gives.
        size: u64,
    },
    /// A record of an extended header does not have the form `LENGTH KEY=VALUE\n`.
    #[error("a malformed record in an extended header")]
    Record,
    /// A record whose value makes no sense for its key.
    #[error("the extended header `{key}` has a value that makes no sense")]
    Value {
        /// The key.
        key: String,
    },
    /// An extended header for all later entries that would change what they are.
    #[error("a global extended header sets `{key}`, which readers do not agree on")]
    Global {
        /// The key.
        key: String,
    },
    /// Two extended headers of one kind, or two that name the entry differently.
    #[error("two extended headers that contradict each other stand before one entry")]
    Contradiction,
    /// An extended header with no entry behind it.
    #[error("an extended header with no entry behind it")]
    Dangling,
    /// An extended header that is larger than any real one.
    #[error("an extended header of {size} bytes, more than the {cap} that are read")]
    TooLong {
        /// Its size in bytes.
        size: u64,
        /// The most that is read, in bytes.
        cap: u64,
    },
    /// A name or link target that no file can have: too long, with a NUL in it, or an empty target.
    #[error("a name or link target that holds a NUL byte, is empty, or is {len} bytes long")]
    Name {
        /// Its length in bytes.
        len: usize,
    },
    /// The map of a sparse file does not fit the file.
    #[error("the map of the sparse file `{name}` does not fit it")]
    Sparse {
        /// The file.
        name: String,
    },
}

/// Which of the historic layouts a header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Before POSIX: nothing behind the link name.
    Old,
    /// `ustar` with a prefix to the name.
    Posix,
    /// POSIX with a shorter prefix and times behind it.
    Star,
    /// GNU's, with sparse maps.
    Gnu,
}

/// A header block.
#[derive(Clone, Copy)]
pub(super) struct Header<'a> {
    block: &'a [u8; BLOCK],
}

/// Returns `field` up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or_default()
}

impl<'a> Header<'a> {
    pub(super) fn new(block: &'a [u8; BLOCK]) -> Self {
        Self { block }
    }

    /// Returns whether the block is a header: its checksum holds, summed as unsigned bytes or, as
    /// some old writers did, as signed ones.
    pub(super) fn checksum_is_right(&self) -> bool {
        let Ok(want) = octal(&self.block[148..156]) else {
            return false;
        };
        // The field itself counts as blanks.
        let (blanks, field) = (8 * i64::from(b' '), &self.block[148..156]);
        let unsigned = |bytes: &[u8]| bytes.iter().map(|&b| u32::from(b)).sum::<u32>();
        let signed = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|&b| i32::from(b.cast_signed()))
                .sum::<i32>()
        };
        let unsigned = i64::from(unsigned(self.block)) - i64::from(unsigned(field)) + blanks;
        let signed = i64::from(signed(self.block)) - i64::from(signed(field)) + blanks;
        text(&self.block[148..156]).iter().any(u8::is_ascii_digit)
            && (i64::try_from(want) == Ok(unsigned) || i64::try_from(want) == Ok(signed))
    }

    pub(super) fn layout(&self) -> Layout {
        match &self.block[257..265] {
            b"ustar  \0" => Layout::Gnu,
            magic if magic.starts_with(b"ustar\0") && self.block[508..] == *b"tar\0" => {
                Layout::Star
            }
            magic if magic.starts_with(b"ustar\0") => Layout::Posix,
            _ => Layout::Old,
        }
    }

    pub(super) fn flag(&self) -> u8 {
        self.block[156]
    }

    /// Returns the name with its prefix.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.block[..100]);
        let prefix = match self.layout() {
            Layout::Posix => text(&self.block[345..500]),
            Layout::Star => text(&self.block[345..476]),
            Layout::Old | Layout::Gnu => b"",
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(super) fn link_name(&self) -> Vec<u8> {
        text(&self.block[157..257]).to_vec()
    }

    pub(super) fn size(&self) -> Result<u64, TarFlaw> {
        unsigned("size", &self.block[124..136])
    }

    /// Returns the permission bits. Some writers put the type beside them, which is left out.
    pub(super) fn mode(&self) -> Result<u32, TarFlaw> {
        Ok((unsigned("mode", &self.block[100..108])? & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<u32, TarFlaw> {
        id("uid", unsigned("uid", &self.block[108..116])?)
    }

    pub(super) fn gid(&self) -> Result<u32, TarFlaw> {
        id("gid", unsigned("gid", &self.block[116..124])?)
    }

    pub(super) fn mtime(&self) -> Result<i64, TarFlaw> {
        number("mtime", &self.block[136..148])
    }

    pub(super) fn device(&self) -> Result<(u32, u32), TarFlaw> {
        if self.layout() == Layout::Old {
            return Ok((0, 0));
        }
        // The kernel has 12 bits for the one and 20 for the other.
        let part = |field, bytes, limit| {
            let value = u32::try_from(unsigned(field, bytes)?).ok();
            value
                .filter(|&value| value < limit)
                .ok_or(TarFlaw::Number { field })
        };
        let major = part("devmajor", &self.block[329..337], 1 << 12)?;
        Ok((major, part("devminor", &self.block[337..345], 1 << 20)?))
    }

    /// Returns the size of a GNU sparse file with its holes.
    pub(super) fn real_size(&self) -> Result<u64, TarFlaw> {
        unsigned("realsize", &self.block[483..495])
    }

    /// Adds the extents of a GNU sparse header to `map`; returns whether another block follows.
    pub(super) fn sparse(&self, map: &mut Vec<(u64, u64)>) -> Result<bool, TarFlaw> {
        extents(&self.block[386..482], map)?;
        Ok(self.block[482] != 0)
    }

    /// As [`Header::sparse`], for a block that continues the map.
    pub(super) fn more_sparse(&self, map: &mut Vec<(u64, u64)>) -> Result<bool, TarFlaw> {
        extents(&self.block[..504], map)?;
        Ok(self.block[504] != 0)
    }
}

/// Reads pairs of offset and length up to the first that is empty.
fn extents(field: &[u8], map: &mut Vec<(u64, u64)>) -> Result<(), TarFlaw> {
    for pair in field
        .chunks_exact(24)
        .take_while(|pair| pair[0] != 0 && pair[12] != 0)
    {
        map.push((
            unsigned("sparse", &pair[..12])?,
            unsigned("sparse", &pair[12..])?,
        ));
    }
    Ok(())
}

/// An owner or group: `u32::MAX` means "none" to the kernel and is no id.
pub(super) fn id(field: &'static str, value: u64) -> Result<u32, TarFlaw> {
    u32::try_from(value)
        .ok()
        .filter(|&id| id != u32::MAX)
        .ok_or(TarFlaw::Number { field })
}

fn unsigned(field: &'static str, bytes: &[u8]) -> Result<u64, TarFlaw> {
    u64::try_from(number(field, bytes)?).map_err(|_| TarFlaw::Number { field })
}

/// Reads a number: octal text, or big-endian two's complement if the first bit is set.
fn number(field: &'static str, bytes: &[u8]) -> Result<i64, TarFlaw> {
    let flaw = TarFlaw::Number { field };
    if bytes[0] & 0x80 == 0 {
        return octal(bytes)
            .and_then(|value| i64::try_from(value).map_err(|_| ()))
            .map_err(|()| flaw);
    }
    // The second bit is the sign; the rest of the first byte belongs to the number.
    let negative = bytes[0] & 0x40 != 0;
    let first = if negative {
        bytes[0] | 0x80
    } else {
        bytes[0] & 0x7f
    };
    let mut value = i128::from(first.cast_signed());
    for &byte in &bytes[1..] {
        value = value.checked_mul(256).ok_or(flaw.clone())? + i128::from(byte);
    }
    i64::try_from(value).map_err(|_| flaw)
}

/// Reads octal digits between blanks. Nothing at all is zero.
fn octal(bytes: &[u8]) -> Result<u64, ()> {
    let blank = |b: &u8| *b == b' ' || *b == 0;
    let start = bytes.iter().position(|b| !blank(b)).unwrap_or(bytes.len());
    let digits = &bytes[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    if !digits[end..].iter().all(blank) {
        return Err(());
    }
    digits[..end].iter().try_fold(0_u64, |value, &b| match b {
        b'0'..=b'7' => value
            .checked_mul(8)
            .map(|v| v + u64::from(b - b'0'))
            .ok_or(()),
        _ => Err(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number("n", b"0000644\0"), Ok(0o644));
        assert_eq!(number("n", b"   644 \0"), Ok(0o644));
        assert_eq!(number("n", b"\0\0\0\0\0\0\0\0"), Ok(0));
        assert_eq!(number("n", b"\x80\0\0\0\0\0\x01\0"), Ok(256));
        assert_eq!(number("n", b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Ok(-2));
        assert_eq!(number("n", b"77777777"), Ok(0o7777_7777));
        for bad in [
            &b"00x0644\0"[..],
            b"12 4 \0\0\0",
            b"-1\0\0\0\0\0\0",
            b"8\0\0\0\0\0\0\0",
        ] {
            assert!(number("n", bad).is_err(), "{bad:?}");
        }
        assert!(number("n", b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
        assert!(unsigned("n", b"\xff\xff\xff\xff\xff\xff\xff\xfe").is_err());
    }

    #[test]
    fn no_id_is_larger_than_the_kernel_takes() {
        assert_eq!(id("uid", 4_294_967_294), Ok(4_294_967_294));
        assert!(id("uid", 4_294_967_295).is_err());
        assert!(id("uid", 1 << 40).is_err());
    }
}
