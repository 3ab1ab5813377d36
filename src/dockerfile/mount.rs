//! `RUN --mount=…`: read in two steps, since values may hold variables.
//!
//! [`MountSpec`] is the flag as written, split into fields. [`MountSpec::resolve`] expands
//! the values and gives a [`Mount`], or says what is wrong. A flag without variables is
//! resolved by the parser already, so that its faults are found without a build.

use super::error::{ExpandError, MountError};
use super::span::{Span, Word};
use super::suggest;
use super::truth::go_bool;

/// One `--mount` as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// The fields in order.
    pub fields: Vec<MountField>,
    /// `from`: a stage, a named context or an image. Never expanded.
    pub from: Option<Word>,
    /// The whole flag.
    pub span: Span,
}

/// `key=value` or a bare key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountField {
    /// The key, lower case.
    pub key: String,
    /// The value; nothing for a bare key.
    pub value: Option<Word>,
    /// The field as written.
    pub text: Word,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// A directory in memory.
    Tmpfs,
    /// A secret file or variable.
    Secret,
    /// An agent socket.
    Ssh,
}

impl MountKind {
    const NAMES: [&'static str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

    /// Returns the word for `type=`.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "bind" => Some(Self::Bind),
            "cache" => Some(Self::Cache),
            "tmpfs" => Some(Self::Tmpfs),
            "secret" => Some(Self::Secret),
            "ssh" => Some(Self::Ssh),
            _ => None,
        }
    }
}

/// How several steps use one cache at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sharing {
    /// All at once.
    #[default]
    Shared,
    /// Each a copy of its own.
    Private,
    /// One after the other.
    Locked,
}

impl Sharing {
    const NAMES: [&'static str; 3] = ["shared", "private", "locked"];

    fn parse(text: &str) -> Option<Self> {
        match text {
            "shared" => Some(Self::Shared),
            "private" => Some(Self::Private),
            "locked" => Some(Self::Locked),
            _ => None,
        }
    }
}

/// A mount with its values expanded; defaults that need the stage are left open.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// `target`; a relative one starts at WORKDIR, and WORKDIR is meant where a bind, cache or
    /// tmpfs has none.
    pub target: Option<String>,
    /// `source`.
    pub source: Option<String>,
    /// `from`.
    pub from: Option<String>,
    /// Whether writes are refused: the default of the kind, or what was said.
    pub read_only: bool,
    /// `id`; for a secret also what `source` said.
    pub id: Option<String>,
    /// `sharing` of a cache.
    pub sharing: Sharing,
    /// `required` of a secret or ssh mount.
    pub required: bool,
    /// `size` of a tmpfs, in bytes.
    pub size: Option<u64>,
    /// `mode`.
    pub mode: Option<u32>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
    /// `env` of a secret: the variable that holds it.
    pub env: Option<String>,
}

/// A fault in a mount: what, where, and what was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFault {
    /// What is wrong.
    pub error: MountError,
    /// The field, or the whole flag.
    pub span: Span,
    /// The word that was probably meant.
    pub suggestion: Option<&'static str>,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl MountSpec {
    /// Splits the value of one `--mount`.
    pub fn parse(value: &Word) -> Result<Self, MountFault> {
        let mut fields = Vec::new();
        let mut from = None;
        let quotes = || MountError::Quotes {
            text: value.text.clone(),
        };
        let split = split_csv(&value.text).ok_or_else(|| MountFault {
            error: quotes(),
            span: value.span,
            suggestion: None,
        })?;
        for (text, range) in split {
            let text = match range {
                Some(range) => value.part(range),
                None => Word::new(text, value.span),
            };
            let (key, value) = match text.text.find('=') {
                Some(at) => (at, Some(text.part(at + 1..text.text.len()))),
                None => (text.text.len(), None),
            };
            let key = text.text[..key].to_lowercase();
            if key == "from" {
                from.clone_from(&value);
            }
            fields.push(MountField { key, value, text });
        }
        Ok(Self {
            fields,
            from,
            span: value.span,
        })
    }

    /// Returns whether some value needs variables or quotes taken out.
    pub fn needs_expanding(&self, escape: char) -> bool {
        self.fields
            .iter()
            .any(|f| f.value.as_ref().is_some_and(|v| !v.is_plain(escape)))
    }

    /// Expands the values with `expand` and checks the whole.
    ///
    /// `from` is taken as written.
    pub fn resolve(
        &self,
        expand: &mut dyn FnMut(&str) -> Result<String, ExpandError>,
    ) -> Result<Mount, MountFault> {
        let mut draft = Draft::default();
        for field in &self.fields {
            let fault = |error, suggestion| MountFault {
                error,
                span: field.text.span,
                suggestion,
            };
            let Some(raw) = &field.value else {
                draft
                    .flag(field)
                    .map_err(|error| fault(error, near_key(&field.key)))?;
                continue;
            };
            let value = if field.key == "from" {
                raw.text.clone()
            } else {
                expand(&raw.text).map_err(|error| {
                    fault(
                        MountError::Expand {
                            value: raw.text.clone(),
                            error,
                        },
                        None,
                    )
                })?
            };
            draft.set(field, value).map_err(|error| {
                let suggestion = suggestion(&error, &field.key);
                fault(error, suggestion)
            })?;
        }
        draft.finish().map_err(|error| MountFault {
            error,
            span: self.span,
            suggestion: None,
        })
    }
}

fn near_key(key: &str) -> Option<&'static str> {
    suggest::nearest(key, KEYS)
}

fn suggestion(error: &MountError, key: &str) -> Option<&'static str> {
    match error {
        MountError::Key { .. } => near_key(key),
        MountError::Type { value } => suggest::nearest(value, MountKind::NAMES),
        MountError::Sharing { value } => suggest::nearest(value, Sharing::NAMES),
        _ => None,
    }
}

/// A mount while its fields come in; what depends on the type waits for the end.
#[derive(Default)]
struct Draft {
    mount: Mount,
    read_only: Option<bool>,
    sharing: Option<Sharing>,
}

impl Draft {
    /// Takes a bare key.
    fn flag(&mut self, field: &MountField) -> Result<(), MountError> {
        match field.key.as_str() {
            "ro" | "readonly" => self.read_only = Some(true),
            "rw" | "readwrite" => self.read_only = Some(false),
            "required" => {
                self.only_for(&field.key, &[MountKind::Secret, MountKind::Ssh])?;
                self.mount.required = true;
            }
            _ => {
                return Err(MountError::NotPair {
                    field: field.text.text.clone(),
                });
            }
        }
        Ok(())
    }

    /// Takes a key with its expanded value.
    fn set(&mut self, field: &MountField, value: String) -> Result<(), MountError> {
        let key = field.key.as_str();
        let m = &mut self.mount;
        match key {
            "type" => {
                m.kind =
                    MountKind::parse(&value.to_lowercase()).ok_or(MountError::Type { value })?;
            }
            "from" => m.from = Some(value),
            "source" | "src" => m.source = Some(value),
            "target" | "dst" | "destination" => m.target = Some(value),
            "ro" | "readonly" => self.read_only = Some(boolean(key, &value)?),
            "rw" | "readwrite" => self.read_only = Some(!boolean(key, &value)?),
            "required" => {
                self.only_for(key, &[MountKind::Secret, MountKind::Ssh])?;
                self.mount.required = boolean(key, &value)?;
            }
            "size" => {
                self.only_for(key, &[MountKind::Tmpfs])?;
                let size = bytes(&value);
                self.mount.size = Some(size.ok_or_else(|| MountError::Value {
                    key: key.to_owned(),
                    value,
                })?);
            }
            "env" => m.env = Some(value),
            "id" => m.id = Some(value),
            "sharing" => {
                self.sharing = Some(
                    Sharing::parse(&value.to_lowercase()).ok_or(MountError::Sharing { value })?,
                );
            }
            "mode" => m.mode = Some(number("mode", value, 8)?),
            "uid" => m.uid = Some(number("uid", value, 10)?),
            "gid" => m.gid = Some(number("gid", value, 10)?),
            _ => {
                let field = field.text.text.clone();
                return Err(MountError::Key {
                    key: key.to_owned(),
                    field,
                });
            }
        }
        Ok(())
    }

    /// Refuses a key that the type named so far does not have.
    fn only_for(&self, key: &str, kinds: &[MountKind]) -> Result<(), MountError> {
        if kinds.contains(&self.mount.kind) {
            return Ok(());
        }
        Err(MountError::KeyForType {
            key: key.to_owned(),
            kind: self.mount.kind.name(),
        })
    }

    /// Checks what only the whole shows, and fills in what the type implies.
    fn finish(self) -> Result<Mount, MountError> {
        let Self {
            mut mount,
            read_only,
            sharing,
        } = self;
        let kind = mount.kind.name();
        if matches!(mount.kind, MountKind::Bind | MountKind::Tmpfs) {
            let given = [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)];
            if let Some((key, _)) = given.iter().find(|(_, value)| value.is_some()) {
                return Err(MountError::NotAllowed { key, kind });
            }
        }
        if mount.env.is_some() && mount.kind != MountKind::Secret {
            return Err(MountError::KeyForType {
                key: "env".to_owned(),
                kind,
            });
        }
        let writable = matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs);
        mount.read_only = read_only.unwrap_or(!writable);
        if mount.kind == MountKind::Secret {
            check_secret(&mut mount, sharing)?;
        }
        if sharing.is_some() && mount.kind != MountKind::Cache {
            return Err(MountError::SharingForType { kind });
        }
        mount.sharing = sharing.unwrap_or_default();
        check_target(&mount)?;
        Ok(mount)
    }
}

fn check_secret(mount: &mut Mount, sharing: Option<Sharing>) -> Result<(), MountError> {
    if mount.from.as_ref().is_some_and(|from| !from.is_empty()) {
        return Err(MountError::SecretFrom);
    }
    if sharing.is_some() {
        return Err(MountError::SecretSharing);
    }
    let filled = |value: &Option<String>| value.as_ref().is_some_and(|v| !v.is_empty());
    if !filled(&mount.source) && !filled(&mount.target) && !filled(&mount.id) {
        return Err(MountError::SecretUnnamed);
    }
    if filled(&mount.source) && filled(&mount.id) {
        return Err(MountError::SecretTwice);
    }
    if !filled(&mount.id) {
        mount.id = mount.source.take().filter(|source| !source.is_empty());
    }
    Ok(())
}

/// Refuses a mount over the root.
///
/// No target at all is the WORKDIR, and dots may climb to the root; both are decided where
/// WORKDIR is known.
fn check_target(mount: &Mount) -> Result<(), MountError> {
    match mount.target.as_deref() {
        Some(target) if !target.is_empty() && target.chars().all(|c| c == '/') => {
            Err(MountError::Target {
                target: target.to_owned(),
            })
        }
        _ => Ok(()),
    }
}

/// Reads a Go boolean.
fn boolean(key: &str, value: &str) -> Result<bool, MountError> {
    go_bool(value).ok_or_else(|| MountError::Value {
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

fn number(key: &'static str, value: String, radix: u32) -> Result<u32, MountError> {
    // `from_str_radix` takes a sign, Go's ParseUint does not.
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    match u32::from_str_radix(&value, radix) {
        Ok(number) if digits => Ok(number),
        _ => Err(MountError::Number { key, value }),
    }
}

/// Reads a size as docker does: `10m`, `1.5GiB`, `512 kB`, all in powers of 1024.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let at = text.rfind(|c: char| c.is_ascii_digit() || c == '.')? + 1;
    let number = &text[..at];
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let unit = text[at..]
        .strip_prefix(' ')
        .unwrap_or(&text[at..])
        .to_lowercase();
    let power = match unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b'))
        .unwrap_or(&unit)
    {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let scale = 1024u64.pow(power);
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    let size = number.parse::<f64>().ok()? * scale as f64;
    (size.is_finite() && size >= 0.0 && size < u64::MAX as f64).then_some(size as u64)
}

/// A field of a CSV line: its text, and its range where it stands unquoted.
type CsvField = (String, Option<std::ops::Range<usize>>);

/// Splits one line of CSV; nothing where its quotes do not match.
fn split_csv(line: &str) -> Option<Vec<CsvField>> {
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let rest = &line[at..];
        if let Some(quoted) = rest.strip_prefix('"') {
            let (text, used) = csv_quoted(quoted)?;
            fields.push((text, None));
            at += 1 + used;
            match line[at..].chars().next() {
                None => return Some(fields),
                Some(',') => at += 1,
                Some(_) => return None,
            }
            continue;
        }
        let end = rest.find(',').unwrap_or(rest.len());
        if rest[..end].contains('"') {
            return None;
        }
        fields.push((rest[..end].to_owned(), Some(at..at + end)));
        if end == rest.len() {
            return Some(fields);
        }
        at += end + 1;
    }
}

/// Reads a quoted field up to its closing quote; answers the text and the bytes used.
fn csv_quoted(text: &str) -> Option<(String, usize)> {
    let mut field = String::new();
    let mut at = 0;
    loop {
        let end = at + text[at..].find('"')?;
        field.push_str(&text[at..end]);
        if !text[end + 1..].starts_with('"') {
            return Some((field, end + 1));
        }
        field.push('"');
        at = end + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        let table = [
            ("100", Some(100)),
            ("10k", Some(10 << 10)),
            ("1.5m", Some(3 << 19)),
            ("2GiB", Some(2 << 30)),
            ("512 kB", Some(512 << 10)),
            ("7b", Some(7)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1x", None),
            ("1 x m", None),
            ("99999999999999p", None),
        ];
        for (text, want) in table {
            assert_eq!(bytes(text), want, "{text}");
        }
    }

    #[test]
    fn fields_are_cut_as_csv() {
        let texts = |line| split_csv(line).map(|list| list.into_iter().map(|f| f.0).collect());
        let some = |list: &[&str]| Some(list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(texts("a=b,c"), some(&["a=b", "c"]));
        assert_eq!(texts("\"a=b,c\",d"), some(&["a=b,c", "d"]));
        assert_eq!(texts("\"a\"\"b\""), some(&["a\"b"]));
        assert_eq!(texts("a\"b"), None);
        assert_eq!(texts("\"a"), None);
        assert_eq!(texts("\"a\"b"), None);
    }
}
