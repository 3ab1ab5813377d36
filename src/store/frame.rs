//! How a small file is framed, so that a torn one is told from a whole one.
//!
//! ```text
//! cooper1 <sha256 of all below, hex>\n
//! {"key":"…","keeps":["sha256:…"]}\n
//! value
//! ```
//!
//! Refs, records and pins are written like this. They are not synced one by one; what a power
//! cut tore does not match its hash and counts as absent.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk;
use super::error::Error;
use crate::image::Digest;

const MAGIC: &str = "cooper1 ";

/// The line that says what a framed value is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The key in full, whatever the file is called.
    pub(super) key: String,
    /// Layers and blobs that the value is worth nothing without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) keeps: Vec<Digest>,
}

/// Frames `value`.
pub(super) fn frame(head: &Head, value: &[u8]) -> Vec<u8> {
    let head = serde_json::to_vec(head).expect("strings and digests are JSON");
    let start = MAGIC.len() + 65;
    let mut bytes = Vec::with_capacity(start + head.len() + 1 + value.len());
    bytes.extend_from_slice(MAGIC.as_bytes());
    // Where the hash of what follows goes.
    bytes.resize(start, b'\n');
    bytes.extend_from_slice(&head);
    bytes.push(b'\n');
    bytes.extend_from_slice(value);
    let digest = Digest::of(&bytes[start..]);
    bytes[MAGIC.len()..start - 1].copy_from_slice(digest.hex().as_bytes());
    bytes
}

/// Takes a frame apart; `None` when it is torn.
pub(super) fn unframe(mut bytes: Vec<u8>) -> Option<(Head, Vec<u8>)> {
    let start = MAGIC.len() + 65;
    let hash = bytes.strip_prefix(MAGIC.as_bytes())?.get(..64)?;
    let body = bytes.get(start..)?;
    if Digest::of(body).hex().as_bytes() != hash {
        return None;
    }
    let line = body.iter().position(|&b| b == b'\n')?;
    let head = serde_json::from_slice(&body[..line]).ok()?;
    bytes.drain(..=start + line);
    Some((head, bytes))
}

/// Reads a framed file; `None` when it is absent or torn.
pub(super) fn read(path: &Path) -> Result<Option<(Head, Vec<u8>)>, Error> {
    Ok(disk::read(path)?.and_then(unframe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_gives_its_value_back_and_a_torn_one_nothing() {
        let head = Head {
            key: "a\nb".to_owned(),
            keeps: vec![Digest::of(b"x")],
        };
        let bytes = frame(&head, b"one\ntwo");
        assert_eq!(unframe(bytes.clone()), Some((head, b"one\ntwo".to_vec())));
        assert_eq!(unframe(bytes[..bytes.len() - 1].to_vec()), None);
        assert_eq!(unframe(vec![0; bytes.len()]), None);
        assert_eq!(unframe(Vec::new()), None);
    }
}
