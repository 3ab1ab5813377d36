//! Tells from the first bytes what a stream is.
//!
//! ADD unpacks what is an archive whatever its name, and a layer's media type can be wrong, so the
//! bytes decide. [`PREFIX`] bytes are enough for every answer.

use super::tar_header::{BLOCK, Header};

/// How many bytes of a stream [`sniff`] and [`is_tar`] look at, at most.
pub const PREFIX: usize = BLOCK;

/// What a stream is packed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Nothing that we know.
    Plain,
    /// Gzip (RFC 1952).
    Gzip,
    /// Bzip2.
    Bzip2,
    /// The xz container (`.xz`, not the older `.lzma`).
    Xz,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Format {
    /// Returns the usual name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

/// Returns the packing that begins like `prefix`.
pub fn sniff(prefix: &[u8]) -> Format {
    match prefix {
        [0x1f, 0x8b, 8, ..] => Format::Gzip,
        // Digit: the block size. What follows is the mark of a block or of the end.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, ..] => Format::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Format::Zstd,
        // A skippable frame, which may stand in front of the first real one.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        _ => Format::Plain,
    }
}

/// Returns whether a plain stream that begins like `prefix` is a tar: its first block is a header
/// with a right checksum, or the zeros that an empty one ends with.
pub fn is_tar(prefix: &[u8]) -> bool {
    match prefix.first_chunk::<BLOCK>() {
        Some(block) => Header::new(block).checksum_is_right() || block.iter().all(|&b| b == 0),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_their_first_bytes() {
        for (bytes, want) in [
            (&b"\x1f\x8b\x08\x00"[..], Format::Gzip),
            (b"BZh91AY&SY", Format::Bzip2),
            (b"BZh9 is a text", Format::Plain),
            (b"\xfd7zXZ\x00\x00", Format::Xz),
            (b"\x28\xb5\x2f\xfd", Format::Zstd),
            (b"\x5f\x2a\x4d\x18", Format::Zstd),
            (b"", Format::Plain),
            (b"\x1f\x8b", Format::Plain),
        ] {
            assert_eq!(sniff(bytes), want, "{bytes:?}");
        }
    }

    #[test]
    fn text_is_no_tar() {
        assert!(!is_tar(&[b'a'; BLOCK]));
        assert!(!is_tar(b"short"));
    }
}
