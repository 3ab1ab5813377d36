//! Cuts the bytes of a step's stream into lines.
//!
//! Bytes come in pieces of any length. A line ends at a line feed; a carriage return inside it
//! starts it over, as a terminal would show it, so a progress meter leaves its last state. A line
//! without end is cut at [`LONGEST`], so memory stays bounded. Bytes that are no UTF-8 are shown
//! as replacement characters.

/// Longest line that is kept together, in bytes.
pub(crate) const LONGEST: usize = 16 << 10;

/// The unfinished line of one stream.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes bytes and hands each line they complete to `line`, without its end.
    pub(crate) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        let mut pieces = bytes.split(|&b| b == b'\n');
        let last = pieces.next_back().unwrap_or(&[]);
        for piece in pieces {
            self.extend(piece, &mut line);
            self.end(&mut line);
        }
        self.extend(last, &mut line);
    }

    /// Hands out what is left when the stream ends without a line feed.
    pub(crate) fn finish(&mut self, mut line: impl FnMut(&str)) {
        if !self.partial.is_empty() {
            self.end(&mut line);
        }
    }

    /// Returns the line so far, as it would stand on a terminal.
    pub(crate) fn pending(&self) -> Option<String> {
        (!self.partial.is_empty()).then(|| shown(&self.partial))
    }

    fn extend(&mut self, piece: &[u8], line: &mut impl FnMut(&str)) {
        let mut rest = piece;
        while self.partial.len() + rest.len() > LONGEST {
            let (head, tail) = rest.split_at(LONGEST - self.partial.len());
            self.partial.extend_from_slice(head);
            self.end(line);
            rest = tail;
        }
        self.partial.extend_from_slice(rest);
    }

    fn end(&mut self, line: &mut impl FnMut(&str)) {
        line(&shown(&self.partial));
        self.partial.clear();
    }
}

/// Applies carriage returns: one at the end belongs to the line feed, others start over.
fn shown(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let from = line
        .iter()
        .rposition(|&b| b == b'\r')
        .map_or(0, |at| at + 1);
    String::from_utf8_lossy(&line[from..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for piece in pieces {
            lines.push(piece, |line| out.push(line.to_owned()));
        }
        lines.finish(|line| out.push(line.to_owned()));
        out
    }

    #[test]
    fn lines_are_whole_however_the_bytes_come() {
        for pieces in [
            &[&b"one\ntwo\n\nlast"[..]][..],
            &[b"on", b"e\ntw", b"o", b"\n", b"\nla", b"st"],
        ] {
            assert_eq!(cut(pieces), ["one", "two", "", "last"]);
        }
        assert!(cut(&[b""]).is_empty());
        assert_eq!(cut(&[b"x\n"]), ["x"]);
    }

    #[test]
    fn a_carriage_return_starts_the_line_over() {
        assert_eq!(cut(&[b"10%\r50%\r", b"100%\r\nnext\r\n"]), ["100%", "next"]);
    }

    #[test]
    fn characters_split_between_reads_stay_whole() {
        assert_eq!(cut(&[b"\xc3", b"\xa4\n\xff\n"]), ["ä", "\u{fffd}"]);
    }

    #[test]
    fn a_line_without_end_does_not_grow_for_ever() {
        let long = vec![b'x'; LONGEST * 2 + 5];
        let lines = cut(&[&long]);
        assert_eq!(
            lines.iter().map(String::len).collect::<Vec<_>>(),
            [LONGEST, LONGEST, 5]
        );
    }
}
