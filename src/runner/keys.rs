//! The keys that detach from a container: `ctrl-p,ctrl-q` unless others are named.

use std::collections::VecDeque;
use std::str::FromStr;

/// A sequence of keys, as docker's `--detach-keys` writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    fn default() -> Self {
        Self(vec![16, 17])
    }
}

impl FromStr for DetachKeys {
    type Err = String;

    /// `KEY,KEY…`, each a character or `ctrl-` and one of `a`–`z`, `@`, `[`, `\`, `]`, `^`, `_`.
    fn from_str(text: &str) -> Result<Self, String> {
        let key = |word: &str| {
            let control = word.strip_prefix("ctrl-").map(str::as_bytes);
            match (control, word.as_bytes()) {
                (Some([letter @ b'a'..=b'z']), _) => Ok(letter - b'a' + 1),
                (Some([letter @ (b'@' | b'['..=b'_')]), _) => Ok(letter - b'@'),
                (None, [byte]) => Ok(*byte),
                _ => Err(format!("`{word}` is no key, such as `a` or `ctrl-p`")),
            }
        };
        text.split(',').map(key).collect::<Result<_, _>>().map(Self)
    }
}

/// Looks for the sequence in what is typed.
#[derive(Debug)]
pub(super) struct Filter {
    keys: Vec<u8>,
    matched: usize,
}

impl Filter {
    pub(super) fn new(keys: &DetachKeys) -> Self {
        Self {
            keys: keys.0.clone(),
            matched: 0,
        }
    }

    /// Takes one byte. Returns whether it completes the sequence; else what can't be a part of
    /// it any more goes to `out`.
    pub(super) fn take(&mut self, byte: u8, out: &mut VecDeque<u8>) -> bool {
        if self.keys.get(self.matched) == Some(&byte) {
            self.matched += 1;
            return self.matched == self.keys.len();
        }
        out.extend(&self.keys[..self.matched]);
        self.matched = 0;
        match self.keys.first() == Some(&byte) {
            true => self.matched = 1,
            false => out.push_back(byte),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_reads_them() {
        assert_eq!("ctrl-p,ctrl-q".parse(), Ok(DetachKeys::default()));
        assert_eq!("a,ctrl-@,ctrl-_".parse(), Ok(DetachKeys(vec![b'a', 0, 31])));
        assert!("ctrl-".parse::<DetachKeys>().is_err() && "ab".parse::<DetachKeys>().is_err());
    }

    #[test]
    fn everything_but_the_sequence_passes() {
        let typed = |text: &[u8]| {
            let mut filter = Filter::new(&DetachKeys::default());
            let mut out = VecDeque::new();
            let at = text.iter().position(|byte| filter.take(*byte, &mut out));
            (Vec::from(out), at)
        };
        assert_eq!(typed(b"ls\r"), (b"ls\r".to_vec(), None));
        assert_eq!(typed(b"a\x10b"), (b"a\x10b".to_vec(), None));
        assert_eq!(typed(b"\x10\x10\x11z"), (b"\x10".to_vec(), Some(2)));
    }
}
