//! Secrets of a build: their values, taken out of what steps print and looked for in what they
//! leave behind.
//!
//! A value is matched without the line end that files tend to have. Short values are left alone:
//! redacting every `1` of a log, or failing a build because a file holds `yes`, helps nobody. What
//! a step encodes or encrypts on purpose is not found.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use memchr::memmem::Finder;

use crate::layer::{Change, Changes, Kind, TreePath};

use super::error::StepError;

/// Shorter values are not redacted.
const LEAST_REDACTED: usize = 4;
/// Shorter values are not looked for in layers.
const LEAST_GUARDED: usize = 6;
/// What stands in place of a value.
const MASK: &[u8] = b"****";

/// A secret: a name and bytes that nothing but the step it is for may see.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// What `RUN --mount=type=secret,id=` calls it.
    pub id: String,
    /// Its value.
    pub value: Arc<[u8]>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({:?}, {} bytes)", self.id, self.value.len())
    }
}

/// Returns the value of the secret `id` as a header can hold it: text, without a line end.
pub(super) fn text(secrets: &[Secret], id: &str) -> Option<String> {
    let secret = secrets.iter().rfind(|secret| secret.id == id)?;
    let value = std::str::from_utf8(trimmed(&secret.value)).ok()?;
    Some(value.to_owned())
}

/// What is known of the secrets of one build while it runs.
pub(super) struct Guard {
    redacted: Vec<Needle>,
    guarded: Vec<Needle>,
}

struct Needle {
    id: String,
    finder: Finder<'static>,
}

impl Needle {
    fn len(&self) -> usize {
        self.finder.needle().len()
    }
}

impl Guard {
    /// Looks out for `secrets`, in layers too if `layers` says so.
    pub(super) fn new(secrets: &[Secret], layers: bool) -> Self {
        let needles = |least: usize| {
            let needles = secrets.iter().filter_map(|secret| {
                let value = trimmed(&secret.value);
                (value.len() >= least).then(|| Needle {
                    id: secret.id.clone(),
                    finder: Finder::new(value).into_owned(),
                })
            });
            needles.collect::<Vec<_>>()
        };
        Self {
            redacted: needles(LEAST_REDACTED),
            guarded: if layers {
                needles(LEAST_GUARDED)
            } else {
                Vec::new()
            },
        }
    }

    /// Begins to read a stream of output.
    pub(super) fn redactor(&self) -> Redactor<'_> {
        Redactor {
            needles: &self.redacted,
            held: Vec::new(),
        }
    }

    /// Returns `text` with secrets replaced.
    pub(super) fn masked(&self, text: &str) -> String {
        let mut out = Vec::new();
        let mut redactor = self.redactor();
        redactor.push(text.as_bytes(), &mut |bytes| out.extend_from_slice(bytes));
        redactor.finish(&mut |bytes| out.extend_from_slice(bytes));
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Begins to watch the bytes of a layer on their way to `out`.
    pub(super) fn watch<'a>(&'a self, out: &'a mut (dyn Write + Send)) -> Watch<'a> {
        Watch {
            out,
            needles: &self.guarded,
            longest: self.guarded.iter().map(Needle::len).max().unwrap_or(0),
            tail: Vec::new(),
            found: None,
        }
    }
}

/// The value without line ends behind it.
fn trimmed(value: &[u8]) -> &[u8] {
    let end = value
        .iter()
        .rposition(|byte| !matches!(byte, b'\n' | b'\r'));
    &value[..end.map_or(0, |at| at + 1)]
}

/// A stream of output in which secrets are replaced, wherever it is cut.
pub(super) struct Redactor<'a> {
    needles: &'a [Needle],
    /// The end of what came so far, which may be the beginning of a secret.
    held: Vec<u8>,
}

impl Redactor<'_> {
    /// Takes the next bytes and passes on what is certain.
    pub(super) fn push(&mut self, bytes: &[u8], emit: &mut dyn FnMut(&[u8])) {
        if self.needles.is_empty() {
            return emit(bytes);
        }
        self.held.extend_from_slice(bytes);
        let mut said = 0;
        while let Some((at, len)) = self.next(said) {
            pass(&self.held[said..at], emit);
            emit(MASK);
            said = at + len;
        }
        let keep = self.open_end(&self.held[said..]);
        let end = self.held.len() - keep;
        pass(&self.held[said..end], emit);
        self.held.drain(..end);
    }

    /// Passes on what was held back: the stream is over.
    pub(super) fn finish(self, emit: &mut dyn FnMut(&[u8])) {
        pass(&self.held, emit);
    }

    /// The first secret from `from` on, and of those that begin there the longest.
    fn next(&self, from: usize) -> Option<(usize, usize)> {
        let found = self.needles.iter().filter_map(|needle| {
            let at = needle.finder.find(&self.held[from..])?;
            Some((from + at, needle.len()))
        });
        found.min_by_key(|&(at, len)| (at, std::cmp::Reverse(len)))
    }

    /// How many bytes at the end may be the beginning of a secret.
    fn open_end(&self, bytes: &[u8]) -> usize {
        let open = self.needles.iter().map(|needle| {
            let text = needle.finder.needle();
            let most = bytes.len().min(text.len() - 1);
            (1..=most)
                .rev()
                .find(|&len| bytes.ends_with(&text[..len]))
                .unwrap_or(0)
        });
        open.max().unwrap_or(0)
    }
}

fn pass(bytes: &[u8], emit: &mut dyn FnMut(&[u8])) {
    if !bytes.is_empty() {
        emit(bytes);
    }
}

/// The tar of a layer on its way, searched while it is written.
pub(super) struct Watch<'a> {
    out: &'a mut (dyn Write + Send),
    needles: &'a [Needle],
    longest: usize,
    /// The last bytes of what was written, one less than the longest secret has.
    tail: Vec<u8>,
    found: Option<&'a Needle>,
}

impl<'a> Watch<'a> {
    /// Fails if one of the secrets went by, and names it and its place in `changes`.
    pub(super) fn finish(self, changes: &Changes) -> Result<(), StepError> {
        let Some(needle) = self.found else {
            return Ok(());
        };
        Err(StepError::SecretInLayer {
            id: needle.id.clone(),
            path: locate(changes, needle)?.unwrap_or_default(),
        })
    }

    fn look(&mut self, bytes: &[u8]) {
        let reach = self.longest - 1;
        let mut seam = std::mem::take(&mut self.tail);
        seam.extend_from_slice(&bytes[..bytes.len().min(reach)]);
        let hit = |needle: &&Needle| {
            needle.finder.find(&seam).is_some() || needle.finder.find(bytes).is_some()
        };
        self.found = self.needles.iter().find(hit);
        if bytes.len() < reach {
            let excess = seam.len().saturating_sub(reach);
            seam.drain(..excess);
            self.tail = seam;
        } else {
            self.tail = bytes[bytes.len() - reach..].to_vec();
        }
    }
}

impl Write for Watch<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.out.write(bytes)?;
        if self.longest > 0 && self.found.is_none() {
            self.look(&bytes[..taken]);
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The entry that holds the secret, in its name, in its target or in its bytes.
fn locate(changes: &Changes, needle: &Needle) -> Result<Option<TreePath>, StepError> {
    let holds = |bytes: &[u8]| needle.finder.find(bytes).is_some();
    for (path, change) in &changes.entries {
        let node = match change {
            Change::Node(node) | Change::Opaque(node) => Some(node),
            Change::HardLink(_) | Change::Whiteout => None,
        };
        let target = node.and_then(|node| node.kind.symlink_target());
        if holds(path.as_bytes()) || target.is_some_and(holds) {
            return Ok(Some(path.clone()));
        }
        let Some(node) = node else { continue };
        if node.meta.xattrs.iter().any(|(_, value)| holds(value)) {
            return Ok(Some(path.clone()));
        }
        if let (Kind::File { size }, Some(content)) = (&node.kind, &node.content)
            && reads(&mut content.open(*size)?, needle, path)?
        {
            return Ok(Some(path.clone()));
        }
    }
    Ok(None)
}

/// Whether a file holds the secret.
fn reads(file: &mut dyn Read, needle: &Needle, path: &TreePath) -> Result<bool, StepError> {
    let mut sink = io::sink();
    let mut watch = Watch {
        out: &mut sink,
        needles: std::slice::from_ref(needle),
        longest: needle.len(),
        tail: Vec::new(),
        found: None,
    };
    io::copy(file, &mut watch).map_err(|source| StepError::ReadSource {
        path: path.clone(),
        source,
    })?;
    Ok(watch.found.is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layer::{Meta, Node};

    fn secret(id: &str, value: &str) -> Secret {
        Secret {
            id: id.to_owned(),
            value: Arc::from(value.as_bytes()),
        }
    }

    fn redact(guard: &Guard, pieces: &[&[u8]]) -> String {
        let mut said = Vec::new();
        let mut redactor = guard.redactor();
        for piece in pieces {
            redactor.push(piece, &mut |bytes| said.extend_from_slice(bytes));
        }
        redactor.finish(&mut |bytes| said.extend_from_slice(bytes));
        String::from_utf8(said).unwrap()
    }

    #[test]
    fn a_value_never_shows_and_its_line_end_does() {
        let guard = Guard::new(&[secret("a", "hunter2\n"), secret("b", "hunter22")], true);
        for (text, want) in [
            ("x hunter2\n", "x ****\n"),
            ("hunter22hunter2", "********"),
            ("hunter", "hunter"),
            ("hunthunter2", "hunt****"),
            ("", ""),
        ] {
            assert_eq!(redact(&guard, &[text.as_bytes()]), want);
        }
    }

    #[test]
    fn short_values_are_left_alone() {
        let guard = Guard::new(&[secret("a", "yes\n"), secret("b", "")], true);
        assert_eq!(redact(&guard, &[b"yes"]), "yes");
    }

    #[test]
    fn what_may_be_no_secret_is_passed_on_at_once() {
        let guard = Guard::new(&[secret("a", "hunter2")], true);
        let mut said = Vec::new();
        let mut redactor = guard.redactor();
        redactor.push(b"waiting h", &mut |bytes| said.extend_from_slice(bytes));
        assert_eq!(said, b"waiting ");
    }

    fn changes(path: &str, bytes: &[u8]) -> Changes {
        let path = TreePath::clean(path.as_bytes()).unwrap();
        let node = Node::file(Meta::default(), bytes);
        Changes {
            entries: [(path, Change::Node(node))].into(),
        }
    }

    fn watched(guard: &Guard, changes: &Changes, pieces: &[&[u8]]) -> Result<(), String> {
        let mut out = Vec::new();
        let mut watch = guard.watch(&mut out);
        for piece in pieces {
            watch.write_all(piece).unwrap();
        }
        let result = watch.finish(changes).map_err(|error| error.to_string());
        assert_eq!(out, pieces.concat());
        result
    }

    #[test]
    fn a_layer_with_a_secret_is_refused_with_its_id_and_path() {
        let guard = Guard::new(&[secret("token", "abcdefgh")], true);
        let layer = changes("etc/conf", b"key=abcdefgh");
        let error = watched(&guard, &layer, &[b"key=abc", b"d", b"efgh..."]).unwrap_err();
        assert!(
            error.contains("`token`") && error.contains("/etc/conf"),
            "{error}"
        );
        assert_eq!(watched(&guard, &layer, &[b"key=abc", b"efgh"]), Ok(()));
        let off = Guard::new(&[secret("token", "abcdefgh")], false);
        assert_eq!(watched(&off, &layer, &[b"abcdefgh"]), Ok(()));
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_a_secret_is_found(
            before in "[ab]{0,40}",
            after in "[ab]{0,40}",
            value in "[ab]{6,12}",
            cuts in prop::collection::vec(1..9_usize, 0..40),
        ) {
            let text = format!("{before}{value}{after}");
            let guard = Guard::new(&[secret("s", &value)], true);
            let (mut pieces, mut rest) = (Vec::new(), text.as_bytes());
            for cut in cuts {
                let (piece, left) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = left;
            }
            pieces.push(rest);
            prop_assert!(!redact(&guard, &pieces).contains(&value));
            prop_assert!(watched(&guard, &changes("f", text.as_bytes()), &pieces).is_err());
        }
    }
}
