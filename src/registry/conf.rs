//! registries.conf: which registries names are read from, and how those are reached.
//!
//! Version 2 of containers-registries.conf(5), from one file and from drop-ins. What a later file
//! says of a prefix, an alias or a setting takes the place of what an earlier one says of it.
//!
//! ```toml
//! unqualified-search-registries = ["HOST[:PORT]", …]
//! short-name-mode = "enforcing" | "permissive" | "disabled"
//! [aliases]
//! "SHORT" = "HOST/REPOSITORY"     # empty: forgets it
//! [[registry]]                    # the longest prefix of a name counts
//! prefix = "HOST[/PATH]"          # or `*.DOMAIN`; the location when it is missing
//! location = "HOST[/PATH]"        # what takes the place of the prefix
//! insecure = BOOL
//! blocked = BOOL
//! mirror-by-digest-only = BOOL
//! [[registry.mirror]]             # asked before the location
//! location = "HOST[/PATH]"
//! insecure = BOOL
//! pull-from-mirror = "all" | "digest-only" | "tag-only"
//! ```
//!
//! Keys that mean nothing here are passed by, as its other readers do; a value that is none of
//! the above is an error with file and line. What follows from it all for a name is
//! [`super::places`]'s.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use crate::image::Reference;

use super::error::Error;

/// Where the files are that say how registries are reached. By default there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigFiles {
    /// The file that is read first.
    pub file: Option<PathBuf>,
    /// Whether that one must be there.
    pub required: bool,
    /// Directories of drop-ins, whose `*.conf` are read after it in the order of their names.
    pub dirs: Vec<PathBuf>,
}

/// What the files say, taken together.
#[derive(Debug, Default)]
pub struct Registries {
    files: Vec<PathBuf>,
    pub(super) search: Vec<String>,
    pub(super) mode: Mode,
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) entries: BTreeMap<String, Entry>,
}

/// What to do about a short name that several registries may have.
#[derive(Debug, Clone, Default)]
pub(super) enum Mode {
    /// They are asked in turn.
    #[default]
    Each,
    /// It is an error, for which this line is named.
    Refuse(Line),
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    file: Arc<Path>,
    line: usize,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} line {}", self.file.display(), self.line)
    }
}

/// A `[[registry]]`.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) location: Option<String>,
    pub(super) insecure: bool,
    pub(super) blocked: bool,
    pub(super) mirrors: Vec<Mirror>,
    pub(super) line: Line,
}

/// A `[[registry.mirror]]`.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) insecure: bool,
    /// Whether names with a tag and no digest are read from it.
    pub(super) tags: bool,
    /// Whether names with a digest are.
    pub(super) digests: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawFile {
    unqualified_search_registries: Option<Vec<Spanned<String>>>,
    short_name_mode: Option<Spanned<String>>,
    #[serde(default)]
    aliases: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    registry: Vec<Spanned<RawEntry>>,
    /// Only version 1 has it.
    registries: Option<Spanned<toml::Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawEntry {
    prefix: Option<Spanned<String>>,
    location: Option<Spanned<String>>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Spanned<RawMirror>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    location: Option<Spanned<String>>,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<Spanned<String>>,
}

/// What is wrong, and where in the text.
type Wrong = (Range<usize>, String);

impl Registries {
    /// Reads the files.
    pub fn read(files: &ConfigFiles) -> Result<Self, Error> {
        let mut all = Self::default();
        if let Some(file) = &files.file {
            all.read_file(file, files.required)?;
        }
        for dir in &files.dirs {
            for file in drop_ins(dir)? {
                all.read_file(&file, false)?;
            }
        }
        Ok(all)
    }

    /// Returns the files that were there, in the order they were read.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    fn read_file(&mut self, path: &Path, required: bool) -> Result<(), Error> {
        match fs::read_to_string(path) {
            Ok(text) => self.add(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => Ok(()),
            Err(source) => Err(unreadable(path, source)),
        }
    }

    /// Adds what the file at `path` says.
    fn add(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let file: Arc<Path> = path.into();
        let at = |span: Range<usize>| Line {
            file: Arc::clone(&file),
            line: 1 + text
                .bytes()
                .take(span.start)
                .filter(|b| *b == b'\n')
                .count(),
        };
        let wrong = |(span, why): Wrong| Error::Conf {
            line: at(span),
            why,
        };
        let raw: RawFile = toml::from_str(text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            wrong((span, error.message().to_owned()))
        })?;
        self.files.push(path.to_owned());
        if let Some(old) = raw.registries {
            let why = "`[registries.…]` is version 1 of this format, and version 2 is read";
            return Err(wrong((old.span(), why.to_owned())));
        }
        if let Some(search) = raw.unqualified_search_registries {
            let hosts = search.into_iter().map(host);
            self.search = hosts.collect::<Result<_, _>>().map_err(wrong)?;
        }
        if let Some(mode) = raw.short_name_mode {
            self.mode = match mode.get_ref().as_str() {
                "enforcing" => Mode::Refuse(at(mode.span())),
                "permissive" | "disabled" | "" => Mode::Each,
                _ => {
                    let why = "`short-name-mode` is `enforcing`, `permissive` or `disabled`";
                    return Err(wrong((mode.span(), why.to_owned())));
                }
            };
        }
        for (name, value) in raw.aliases {
            match alias(&name, &value).map_err(wrong)? {
                Some(target) => self.aliases.insert(name.into_inner(), target),
                None => self.aliases.remove(name.get_ref()),
            };
        }
        let mut entries = BTreeMap::new();
        for entry in raw.registry {
            let (span, line) = (entry.span(), at(entry.span()));
            let (prefix, entry) = entry_of(entry, line).map_err(wrong)?;
            let first: &Entry = match entries.entry(prefix) {
                Vacant(place) => {
                    place.insert(entry);
                    continue;
                }
                Occupied(first) => first.into_mut(),
            };
            if (first.insecure, first.blocked) != (entry.insecure, entry.blocked) {
                let why = format!("{} says otherwise about the same prefix", first.line);
                return Err(wrong((span, why)));
            }
        }
        self.entries.extend(entries);
        Ok(())
    }
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::File {
        doing: "read",
        path: path.to_owned(),
        source,
    }
}

/// Lists the drop-ins of a directory, which need not be there.
fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(unreadable(dir, source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| unreadable(dir, source))?.path();
        if path.extension().is_some_and(|end| end == "conf") && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a `[[registry]]` and the prefix that it is for.
fn entry_of(raw: Spanned<RawEntry>, line: Line) -> Result<(String, Entry), Wrong> {
    let span = raw.span();
    let raw = raw.into_inner();
    let location = raw.location.map(location).transpose()?;
    let prefix = match (raw.prefix, &location) {
        (Some(prefix), _) => self::prefix(prefix)?,
        (None, Some(location)) => location.clone(),
        (None, None) => {
            let why = "a `[[registry]]` has a `prefix` or a `location`";
            return Err((span, why.to_owned()));
        }
    };
    let digests_only = raw.mirror_by_digest_only;
    let mirrors = raw.mirror.into_iter();
    let entry = Entry {
        location,
        insecure: raw.insecure,
        blocked: raw.blocked,
        mirrors: mirrors
            .map(|mirror| mirror_of(mirror, digests_only))
            .collect::<Result<_, _>>()?,
        line,
    };
    Ok((prefix, entry))
}

fn mirror_of(raw: Spanned<RawMirror>, digests_only: bool) -> Result<Mirror, Wrong> {
    let span = raw.span();
    let raw = raw.into_inner();
    let Some(place) = raw.location else {
        return Err((span, "a mirror has a `location`".to_owned()));
    };
    let (tags, digests) = match &raw.pull_from_mirror {
        None => (!digests_only, true),
        Some(set) if digests_only => {
            let why = "`pull-from-mirror` does not go with `mirror-by-digest-only` of the registry";
            return Err((set.span(), why.to_owned()));
        }
        Some(set) => match set.get_ref().as_str() {
            "all" | "" => (true, true),
            "digest-only" => (false, true),
            "tag-only" => (true, false),
            _ => {
                let why = "`pull-from-mirror` is `all`, `digest-only` or `tag-only`";
                return Err((set.span(), why.to_owned()));
            }
        },
    };
    Ok(Mirror {
        location: location(place)?,
        insecure: raw.insecure,
        tags,
        digests,
    })
}

/// Reads `HOST[:PORT][/PATH]`.
fn location(text: Spanned<String>) -> Result<String, Wrong> {
    let span = text.span();
    let place = text.get_ref().trim_end_matches('/');
    let why = if place.contains("://") {
        "has a scheme: `insecure = true` is what allows http"
    } else if is_place(place) {
        return Ok(place.to_owned());
    } else {
        "is no `HOST[:PORT][/PATH]`, without a tag or digest"
    };
    Err((span, format!("`{}` {why}", text.get_ref())))
}

/// Reads a location or `*.DOMAIN`.
fn prefix(text: Spanned<String>) -> Result<String, Wrong> {
    let Some(domain) = text.get_ref().strip_prefix("*.") else {
        return location(text);
    };
    if !domain.contains(['/', ':', '@']) && is_place(&format!("x.{domain}")) {
        return Ok(text.into_inner());
    }
    let why = format!("`{}` is no `*.DOMAIN`", text.get_ref());
    Err((text.span(), why))
}

/// Whether a name below `place` is one of the registry that it begins with.
fn is_place(place: &str) -> bool {
    let host = place.split('/').next().unwrap_or(place);
    format!("{place}/x")
        .parse::<Reference>()
        .is_ok_and(|name| !name.is_short() && name.registry() == host)
}

/// Reads `HOST[:PORT]`.
fn host(text: Spanned<String>) -> Result<String, Wrong> {
    let span = text.span();
    let host = location(text)?;
    match host.contains('/') {
        false => Ok(host),
        true => Err((span, format!("`{host}` is no `HOST[:PORT]`"))),
    }
}

/// Reads what a short name stands for, which may be nothing any more.
fn alias(name: &Spanned<String>, target: &Spanned<String>) -> Result<Option<String>, Wrong> {
    let bare = |text: &str| {
        text.parse::<Reference>()
            .ok()
            .filter(|n| !has_version(text, n))
    };
    let short = bare(name.get_ref()).filter(Reference::is_short);
    if short.is_none() {
        let why = "an alias is a name without registry, tag and digest";
        return Err((name.span(), format!("`{}`: {why}", name.get_ref())));
    }
    if target.get_ref().is_empty() {
        return Ok(None);
    }
    match bare(target.get_ref()).filter(|name| !name.is_short()) {
        Some(name) => Ok(Some(name.name())),
        None => {
            let why = "an alias stands for a name with its registry, without tag and digest";
            Err((target.span(), format!("`{}`: {why}", target.get_ref())))
        }
    }
}

fn has_version(text: &str, name: &Reference) -> bool {
    let last = text.rsplit('/').next().unwrap_or(text);
    name.digest().is_some() || last.contains(':')
}

#[cfg(test)]
impl Registries {
    /// Reads one text as the file `registries.conf`.
    pub(super) fn parsed(text: &str) -> Result<Self, Error> {
        let mut all = Self::default();
        all.add(Path::new("registries.conf"), text)?;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_files_say_the_last_word() {
        let mut all = Registries::parsed(
            "unqualified-search-registries = ['a.example']\n[aliases]\na = 'x.example/a'\n\
             b = 'x.example/b'\n[[registry]]\nlocation = 'r.example'\nblocked = true\n",
        )
        .unwrap();
        let more = "unqualified-search-registries = []\n[aliases]\na = ''\nb = 'y.example/b'\n\
                    [[registry]]\nprefix = 'r.example'\nlocation = 'other.example'\n";
        all.add(Path::new("10.conf"), more).unwrap();
        assert!(all.search.is_empty());
        assert_eq!(all.aliases.len(), 1);
        assert_eq!(all.aliases["b"], "y.example/b");
        let entry = &all.entries["r.example"];
        assert_eq!(entry.location.as_deref(), Some("other.example"));
        assert!(!entry.blocked);
        assert_eq!(all.files().len(), 2);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, said) in [
            ("a = 1\nb = = 2\n", "line 2"),
            (
                "[[registry]]\nlocation = 'r.example'\ninsecure = 'yes'\n",
                "line 3",
            ),
            (
                "\n[[registry]]\nblocked = true\n",
                "line 2: a `[[registry]]` has a `prefix`",
            ),
            (
                "[[registry]]\nlocation = 'https://r.example'\n",
                "line 2: `https://r.example` has a scheme",
            ),
            (
                "[[registry]]\nlocation = 'r'\n",
                "line 2: `r` is no `HOST[:PORT][/PATH]`",
            ),
            (
                "[[registry]]\nprefix = '*.a/b'\n",
                "line 2: `*.a/b` is no `*.DOMAIN`",
            ),
            (
                "[[registry]]\nlocation = 'r.example'\n[[registry.mirror]]\ninsecure = true\n",
                "line 3: a mirror has a `location`",
            ),
            (
                "[[registry]]\nlocation = 'r.example'\n[[registry.mirror]]\n\
                 location = 'm.example'\npull-from-mirror = 'never'\n",
                "line 5: `pull-from-mirror` is `all`",
            ),
            (
                "[[registry]]\nlocation = 'r.example'\nmirror-by-digest-only = true\n\
                 [[registry.mirror]]\nlocation = 'm.example'\npull-from-mirror = 'all'\n",
                "line 6: `pull-from-mirror` does not go with",
            ),
            (
                "[[registry]]\nlocation = 'r.example'\n[[registry]]\nlocation = 'r.example'\n\
                 blocked = true\n",
                "line 3: registries.conf line 1 says otherwise",
            ),
            ("short-name-mode = 'ask'\n", "line 1: `short-name-mode` is"),
            (
                "unqualified-search-registries = ['a.example/x']\n",
                "line 1: `a.example/x` is no",
            ),
            (
                "[aliases]\n'a:1' = 'x.example/a'\n",
                "line 2: `a:1`: an alias is",
            ),
            ("[aliases]\na = 'b'\n", "line 2: `b`: an alias stands for"),
            (
                "[registries.search]\nregistries = ['a.example']\n",
                "is version 1",
            ),
        ] {
            let error = Registries::parsed(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn what_means_nothing_here_is_passed_by() {
        let text = "credential-helpers = ['secretservice']\n[[registry]]\nlocation = 'r.example'\nnew = 1\n";
        assert_eq!(Registries::parsed(text).unwrap().entries.len(), 1);
    }
}
