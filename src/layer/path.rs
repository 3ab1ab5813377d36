//! Names inside a tree, as bytes and proved clean.
//!
//! A [`TreePath`] is relative, has no empty, `.` or `..` part and no NUL, so it can be walked
//! part by part below a dirfd. The root itself is the empty path. Paths sort so that a
//! directory stands right before what is below it. Copies of a path share its bytes: of each of half
//! a million files several are held.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// A clean path relative to the root of a tree.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct TreePath(
    /// Never empty; the root has none.
    Option<Arc<[u8]>>,
);

impl TreePath {
    /// The root of the tree.
    pub const ROOT: Self = Self(None);

    fn new(bytes: &[u8]) -> Self {
        Self((!bytes.is_empty()).then(|| bytes.into()))
    }

    /// Cleans `raw` as Go's `path.Clean("/" + raw)` does: leading slashes, `.` and empty parts go,
    /// `..` climbs and stops at the root. `None` when it holds a NUL byte.
    pub fn clean(raw: &[u8]) -> Option<Self> {
        let mut path = Self::ROOT;
        for part in raw.split(|&b| b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => path = path.parent().unwrap_or_default(),
                _ if part.contains(&0) => return None,
                _ => path = path.child(part),
            }
        }
        Some(path)
    }

    /// Returns the path of the entry `name` in this directory. `name` is one part of a path.
    pub fn child(&self, name: &[u8]) -> Self {
        debug_assert!(!name.is_empty() && !name.contains(&b'/') && name != b".." && name != b".");
        match &self.0 {
            None => Self::new(name),
            Some(dir) => Self::new(&[&**dir, b"/", name].concat()),
        }
    }

    /// Returns this path with `below` behind it.
    pub fn join(&self, below: &Self) -> Self {
        match (self.is_root(), below.is_root()) {
            (_, true) => self.clone(),
            (true, _) => below.clone(),
            _ => Self::new(&[self.as_bytes(), b"/", below.as_bytes()].concat()),
        }
    }

    /// Returns the directory that holds this entry, or `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let bytes = self.0.as_deref()?;
        let end = bytes.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(Self::new(&bytes[..end]))
    }

    /// Returns the last part, empty for the root.
    pub fn name(&self) -> &[u8] {
        let bytes = self.as_bytes();
        let slash = bytes.iter().rposition(|&b| b == b'/');
        &bytes[slash.map_or(0, |at| at + 1)..]
    }

    /// Returns the parts, first to last; none for the root.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        let parts = self.as_bytes().split(|&b| b == b'/');
        parts.filter(|part| !part.is_empty())
    }

    /// Returns whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_none()
    }

    /// Returns whether `self` is `dir` or below it.
    pub fn starts_with(&self, dir: &Self) -> bool {
        match self.as_bytes().strip_prefix(dir.as_bytes()) {
            Some(rest) => dir.is_root() || rest.is_empty() || rest[0] == b'/',
            None => false,
        }
    }

    /// Returns the bytes, without a slash in front.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Returns the path for a system call that takes it below a dirfd; `.` for the root.
    pub fn as_os(&self) -> &OsStr {
        OsStr::from_bytes(self.0.as_deref().unwrap_or(b"."))
    }
}

impl Ord for TreePath {
    /// Orders as if `/` sorted before every other byte: a directory, what is below it, the rest.
    fn cmp(&self, other: &Self) -> Ordering {
        // Neighbours share most of their bytes: whole chunks of those are skipped.
        const CHUNK: usize = 16;
        let (a, b) = (self.as_bytes(), other.as_bytes());
        let chunks = a.chunks_exact(CHUNK).zip(b.chunks_exact(CHUNK));
        let same = chunks.take_while(|(a, b)| a == b).count() * CHUNK;
        let key = |&b: &u8| if b == b'/' { 0 } else { u16::from(b) + 1 };
        a[same..].iter().map(key).cmp(b[same..].iter().map(key))
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TreePath {
    /// Shows the path from the image's root, with a slash in front.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(raw: &str) -> TreePath {
        TreePath::clean(raw.as_bytes()).unwrap()
    }

    #[test]
    fn cleaning_never_leaves_the_root() {
        for (raw, want) in [
            ("", "/"),
            ("/", "/"),
            ("a//b/./c/", "/a/b/c"),
            ("../../x", "/x"),
            ("a/../../x", "/x"),
            ("/a/b/../c", "/a/c"),
        ] {
            assert_eq!(path(raw).to_string(), want);
        }
        assert_eq!(TreePath::clean(b"a\0b"), None);
    }

    #[test]
    fn a_directory_stands_right_before_what_is_below_it() {
        let mut paths = ["a-b", "a/b", "a", "a/b/c", "a.b", "b", ""].map(path);
        paths.sort();
        let shown: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["/", "/a", "/a/b", "/a/b/c", "/a-b", "/a.b", "/b"]);
    }

    #[test]
    fn long_paths_differ_where_they_differ() {
        let long = "directory/of/a/long/name/";
        for (less, more) in [("x", "y"), ("x/y", "x-y"), ("", "x"), ("x", "x/y")] {
            let (less, more) = (
                path(&format!("{long}{less}")),
                path(&format!("{long}{more}")),
            );
            assert!(less < more, "{less} {more}");
            assert_eq!(less.cmp(&less.clone()), Ordering::Equal);
        }
    }

    #[test]
    fn prefixes_end_at_a_part() {
        assert!(path("a/b").starts_with(&path("a")));
        assert!(!path("ab").starts_with(&path("a")));
        assert!(path("a").starts_with(&TreePath::ROOT));
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(TreePath::ROOT));
        assert_eq!(TreePath::ROOT.parent(), None);
    }
}
