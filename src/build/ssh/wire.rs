//! How ssh writes numbers and strings (RFC 4251 section 5), and the messages of its agent protocol
//! (draft-ietf-sshm-ssh-agent).
//!
//! ```text
//! message   length of the rest, type, contents
//! string    length, bytes            mpint   a string that is a positive big-endian number
//! ```

use std::io::{self, Read, Write};

/// The most that OpenSSH's agent takes, too.
const MAX_MESSAGE: u32 = 256 << 10;

/// Types of messages.
pub(super) const FAILURE: u8 = 5;
pub(super) const LIST_KEYS: u8 = 11;
pub(super) const KEYS: u8 = 12;
pub(super) const SIGN: u8 = 13;
pub(super) const SIGNATURE: u8 = 14;

/// Reads a message without its length. An end in place of one is an error like any other: it ends
/// the conversation.
pub(super) fn read(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let len = u32::from_be_bytes(len);
    if !(1..=MAX_MESSAGE).contains(&len) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; len as usize];
    from.read_exact(&mut message)?;
    Ok(message)
}

/// Writes a message with its length.
pub(super) fn write(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let mut out = Vec::with_capacity(message.len() + 4);
    put_string(&mut out, message);
    to.write_all(&out)
}

/// Appends a number.
pub(super) fn put_number(out: &mut Vec<u8>, number: usize) {
    // Nothing here comes near the limit.
    out.extend(u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
}

/// Appends a string.
pub(super) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len());
    out.extend(bytes);
}

/// Appends a positive number of any size.
pub(super) fn put_mpint(out: &mut Vec<u8>, number: &[u8]) {
    let number = trimmed(number);
    let mut bytes = Vec::with_capacity(number.len() + 1);
    if number.first().is_some_and(|byte| byte & 0x80 != 0) {
        bytes.push(0);
    }
    bytes.extend(number);
    put_string(out, &bytes);
}

/// A number without leading zeros.
pub(super) fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// What is left to be read of some bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// Takes so many bytes, `None` when there are fewer.
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// Takes a number.
    pub(super) fn number(&mut self) -> Option<u32> {
        let bytes = self.take(4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }

    /// Takes a string.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?;
        self.take(usize::try_from(len).ok()?)
    }

    /// Takes a string that is text.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }

    /// Takes a positive number of any size, without leading zeros.
    pub(super) fn mpint(&mut self) -> Option<&'a [u8]> {
        self.string().map(trimmed)
    }
}
