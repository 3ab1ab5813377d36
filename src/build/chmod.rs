//! `--chmod`: octal, or symbolic as in chmod(1).
//!
//! ```text
//! clause[,clause]…   clause = [ugoa]… op [perms] [op [perms]]…   op = + - =   perms = rwxXst… | ugo…
//! ```
//!
//! Symbolic modes change the mode that an entry has, so they say nothing of directories that are
//! made on the way; octal ones hold for these too (as in BuildKit). The umask plays no part: no
//! letter before the operator means all. `X` is `x` for directories and for files that somebody
//! may execute already.

/// What `--chmod` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chmod {
    text: String,
    how: How,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum How {
    Octal(u32),
    Symbolic(Vec<Change>),
}

/// One operator with what stands on both sides of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    /// Bits of those who are meant: their `rwx`, and set-id or sticky.
    who: u32,
    op: char,
    perms: String,
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o1007;

impl Chmod {
    /// Reads a mode; `None` when it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let how = if text.starts_with(|c: char| c.is_ascii_digit()) {
            How::Octal(octal(text)?)
        } else {
            let mut changes = Vec::new();
            for clause in text.split(',') {
                changes.extend(clause_changes(clause)?);
            }
            How::Symbolic(changes)
        };
        let text = text.to_owned();
        Some(Self { text, how })
    }

    /// Returns the mode as it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the mode that an entry gets that has `mode`.
    pub(super) fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match &self.how {
            How::Octal(octal) => *octal,
            How::Symbolic(changes) => changes
                .iter()
                .fold(mode, |mode, change| change.apply(mode, is_dir)),
        }
    }

    /// Returns the mode of a directory that is made on the way, where one is asked for. As with
    /// BuildKit, set-id and sticky bits are for what is copied alone.
    pub(super) fn of_created(&self) -> Option<u32> {
        match self.how {
            How::Octal(octal) => Some(octal & 0o777),
            How::Symbolic(_) => None,
        }
    }
}

impl Change {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let mut bits = 0;
        for perm in self.perms.chars() {
            bits |= match perm {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_dir || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'u' => everybody(mode >> 6),
                'g' => everybody(mode >> 3),
                'o' => everybody(mode),
                _ => 0,
            };
        }
        bits &= self.who;
        match self.op {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !self.who) | bits,
        }
    }
}

/// Spreads the lowest `rwx` over user, group and others.
fn everybody(mode: u32) -> u32 {
    (mode & 7) * 0o111
}

fn octal(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok()?;
    (digits && mode <= 0o7777).then_some(mode)
}

fn clause_changes(clause: &str) -> Option<Vec<Change>> {
    let operator = |c: char| matches!(c, '+' | '-' | '=');
    let at = clause.find(operator)?;
    let (letters, mut rest) = clause.split_at(at);
    let mut who = 0;
    for letter in letters.chars() {
        who |= match letter {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHERS,
            'a' => USER | GROUP | OTHERS,
            _ => return None,
        };
    }
    if letters.is_empty() {
        who = USER | GROUP | OTHERS;
    }
    let mut changes = Vec::new();
    while let Some(op) = rest.chars().next() {
        let after = &rest[1..];
        let end = after.find(operator).unwrap_or(after.len());
        let perms = &after[..end];
        if !perms.chars().all(|c| "rwxXstugo".contains(c)) {
            return None;
        }
        let perms = perms.to_owned();
        changes.push(Change { who, op, perms });
        rest = &after[end..];
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_changes_them() {
        // mode before, whether it is a directory, what is asked for, mode after
        let table = [
            (0o640, false, "755", 0o755),
            (0o640, false, "0", 0),
            (0o640, true, "4750", 0o4750),
            (0o640, false, "u=rwX,go=rX", 0o644),
            (0o750, true, "u=rwX,go=rX", 0o755),
            (0o700, false, "u=rwX,go=rX", 0o755),
            (0o644, false, "+x", 0o755),
            (0o640, false, "g=u", 0o660),
            (0o644, false, "u=g", 0o444),
            (0o644, false, "go-rwx,u+s", 0o4600),
            (0o644, false, "a=rwxt,u+s", 0o5777),
            (0o644, false, "a-w+x", 0o555),
            (0o644, false, "u=,g=,o=x", 0o001),
            (0o640, false, "g+s", 0o2640),
            (0o644, false, "u+xX,g+r+w", 0o764),
            (0o755, false, "-x", 0o644),
            (0o4755, false, "u=rx", 0o555),
            (0o604, false, "g=o,o=", 0o640),
        ];
        for (before, is_dir, text, after) in table {
            let got = Chmod::parse(text).unwrap().apply(before, is_dir);
            assert_eq!(got, after, "{text} on {before:o}: {got:o}");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in [
            "", "9", "10000", "0x1", "u", "u+q", "z+r", "u+r,", ",u+r", "7 5", "+é",
        ] {
            assert_eq!(Chmod::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn only_octal_modes_reach_created_directories() {
        assert_eq!(Chmod::parse("700").unwrap().of_created(), Some(0o700));
        assert_eq!(Chmod::parse("7711").unwrap().of_created(), Some(0o711));
        assert_eq!(Chmod::parse("go-rwx").unwrap().of_created(), None);
    }
}
