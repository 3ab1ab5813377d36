//! Digests as types, so that a compressed, an uncompressed and an accumulated one never mix.
//!
//! A [`Digest`] that exists is well formed: it can be used in a URL or a file name as it is
//! (OCI image-spec, descriptor.md, section "Digests"). Only `sha256` and `sha512` are accepted,
//! in lower case, at their exact length. [`DiffId`] names the plain tar of a layer and
//! [`ChainId`] a stack of layers (image-spec, config.md, section "Layer ChainID").

use std::fmt;
use std::io;
use std::str::FromStr;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest: expected `sha256:` and 64 lower-case hex digits")]
pub struct DigestError {
    text: String,
}

/// The hash algorithm of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, what nearly every image uses.
    Sha256,
    /// SHA-512, which the specification also allows.
    Sha512,
}

/// Content address of some bytes: algorithm and hash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    text: Box<str>,
}

impl Digest {
    /// Hashes `bytes` with SHA-256.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Builds the SHA-256 digest that a finished hash state gave.
    pub fn from_sha256(hash: &[u8; 32]) -> Self {
        let mut text = String::with_capacity(7 + 64);
        text.push_str("sha256:");
        push_hex(&mut text, hash);
        Self { text: text.into() }
    }

    /// Returns the whole text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        if self.text.starts_with("sha256:") {
            Algorithm::Sha256
        } else {
            Algorithm::Sha512
        }
    }

    /// Returns the hex digits behind the colon.
    pub fn hex(&self) -> &str {
        &self.text[7..]
    }

    /// Returns the bytes of a SHA-256 digest, `None` of any other.
    pub fn sha256(&self) -> Option<[u8; 32]> {
        let digit = |b: u8| if b <= b'9' { b - b'0' } else { b - b'a' + 10 };
        let mut hash = [0; 32];
        let (pairs, []) = self.hex().as_bytes().as_chunks::<2>() else {
            return None;
        };
        if pairs.len() != hash.len() {
            return None;
        }
        for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
            *byte = digit(*high) << 4 | digit(*low);
        }
        Some(hash)
    }

    /// Returns the first twelve hex digits, as image listings show them.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hex_len = match text.get(..7) {
            Some("sha256:") => 64,
            Some("sha512:") => 128,
            _ => {
                return Err(DigestError {
                    text: text.chars().take(200).collect(),
                });
            }
        };
        let hex = &text.as_bytes()[7..];
        if hex.len() == hex_len && hex.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self { text: text.into() })
        } else {
            Err(DigestError {
                text: text.chars().take(200).collect(),
            })
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A running SHA-256.
#[derive(Clone)]
pub struct Hasher {
    state: Context,
    size: u64,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Self {
            state: Context::new(&SHA256),
            size: 0,
        }
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// Returns how many bytes were added.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Ends the hash.
    pub fn finish(self) -> Digest {
        Digest::from_sha256(&self.finish_raw())
    }

    /// As [`finish`](Self::finish), without making a digest of it.
    pub fn finish_raw(self) -> [u8; 32] {
        let hash = self.state.finish();
        hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes bytes on and hashes them on the way, reading or writing.
#[derive(Debug)]
pub struct Hashing<T> {
    inner: T,
    hasher: Hasher,
}

impl<T> Hashing<T> {
    /// Wraps `inner`.
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            hasher: Hasher::new(),
        }
    }

    /// Returns how many bytes went through.
    pub fn size(&self) -> u64 {
        self.hasher.size()
    }

    /// Returns the wrapped value, the digest of all bytes that went through, and their number.
    pub fn finish(self) -> (T, Digest, u64) {
        let size = self.hasher.size();
        (self.inner, self.hasher.finish(), size)
    }
}

impl<R: io::Read> io::Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

impl<W: io::Write> io::Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

macro_rules! digest_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// Returns the digest inside.
            pub fn digest(&self) -> &Digest {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

digest_newtype! {
    /// Digest of a layer's plain tar.
    DiffId
}
digest_newtype! {
    /// Digest of a stack of layers, bottom to top.
    ChainId
}
digest_newtype! {
    /// Digest of an image's config, the id that `docker images` shows.
    ImageId
}

impl ChainId {
    /// Returns the chain id of `layers`, bottom first, or `None` for no layer at all.
    pub fn of(layers: &[DiffId]) -> Option<Self> {
        let (first, rest) = layers.split_first()?;
        Some(
            rest.iter()
                .fold(Self(first.0.clone()), |below, layer| below.and(layer)),
        )
    }

    /// Returns the chain id of this stack with `layer` on top.
    pub fn and(&self, layer: &DiffId) -> Self {
        Self(Digest::of(format!("{} {}", self.0, layer.0).as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn hash_of_nothing_is_the_known_one() {
        assert_eq!(Digest::of(b"").as_str(), EMPTY);
    }

    #[test]
    fn digests_that_could_leave_their_folder_are_refused() {
        for bad in [
            "",
            "sha256:",
            "sha256:../../etc/passwd",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8550",
            "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn chain_id_folds_as_the_specification_says() {
        let a = DiffId(Digest::of(b"a"));
        let b = DiffId(Digest::of(b"b"));
        let want = Digest::of(format!("{} {}", a.0, b.0).as_bytes());
        assert_eq!(ChainId::of(&[a.clone(), b]).unwrap().0, want);
        assert_eq!(ChainId::of(std::slice::from_ref(&a)).unwrap().0, a.0);
        assert_eq!(ChainId::of(&[]), None);
    }
}
