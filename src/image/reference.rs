//! Image names as docker reads them.
//!
//! `app` is `docker.io/library/app:latest`, and is shown short again. The grammar is that of
//! the distribution project's `reference` package: a first part that holds a dot, a colon or is
//! `localhost` is the registry host; names are lower case. A name remembers whether it was written
//! short, since what short names mean can be configured.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::digest::Digest;

const HUB: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";

/// Why a text is no image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image name: {why}")]
pub struct ReferenceError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A full image name: registry host, repository, and a tag or digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
    short: Short,
}

/// Whether a name was written without a registry. Names that differ in nothing else are the same.
#[derive(Debug, Clone, Copy)]
struct Short(bool);

impl PartialEq for Short {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Short {}

impl PartialOrd for Short {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Short {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

impl Hash for Short {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Reference {
    /// Returns the registry host with its port, `docker.io` for the Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository below the registry, such as `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag, which is `latest` when neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, when the name is pinned to one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns the name without tag and digest, in full: `docker.io/library/debian`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Returns the same repository with another tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !valid_tag(tag) {
            return Err(ReferenceError {
                text: tag.into(),
                why: BAD_TAG,
            });
        }
        Ok(Self {
            tag: Some(tag.into()),
            digest: None,
            ..self.clone()
        })
    }

    /// Returns the same repository pinned to `digest`, without a tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// Returns whether the name was written without a registry, as `debian` and `me/app` are.
    pub fn is_short(&self) -> bool {
        self.short.0
    }

    /// Returns the same name as if its registry had been written.
    pub fn qualified(&self) -> Self {
        Self {
            short: Short(false),
            ..self.clone()
        }
    }

    /// Returns whether the name can only mean a local image (`localhost/…`, without a port).
    pub fn is_local_only(&self) -> bool {
        self.registry == "localhost"
    }

    /// Returns the name in full: `docker.io/library/debian:12`.
    pub fn full(&self) -> String {
        self.render(&self.name())
    }

    /// Returns the name as people write it: `debian:12`.
    pub fn familiar(&self) -> String {
        self.render(&self.familiar_name())
    }

    /// Returns the name without tag or digest as people write it: `debian`.
    pub fn familiar_name(&self) -> String {
        if self.registry != HUB {
            return self.name();
        }
        self.repository
            .strip_prefix("library/")
            .unwrap_or(&self.repository)
            .to_owned()
    }

    fn render(&self, name: &str) -> String {
        let mut text = name.to_owned();
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }
}

const BAD_TAG: &str =
    "a tag has 1 to 128 letters, digits, `_`, `.`, `-`, and starts with none of the last two";
const BAD_PATH: &str =
    "a repository has lower-case letters and digits, parted by `/`, `.`, `_`, `__` or `-`";

fn valid_tag(tag: &str) -> bool {
    let bytes = tag.as_bytes();
    (1..=128).contains(&bytes.len())
        && (bytes[0].is_ascii_alphanumeric() || bytes[0] == b'_')
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// One path part: alphanumerics joined by single `.`, `_`, `__` or any number of `-`.
fn valid_path_part(part: &str) -> bool {
    let bytes = part.as_bytes();
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alnum(first) || !alnum(last) {
        return false;
    }
    bytes
        .split(|&b| alnum(b))
        .all(|sep| matches!(sep, b"" | b"." | b"_" | b"__") || sep.iter().all(|&b| b == b'-'))
}

fn valid_host(host: &str) -> bool {
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        let Some((v6, after)) = rest.split_once(']') else {
            return false;
        };
        if v6.is_empty() || !v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
            return false;
        }
        match after.strip_prefix(':') {
            Some(port) => return valid_port(port),
            None => return after.is_empty(),
        }
    } else {
        match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        }
    };
    let part_ok = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.split('.').all(part_ok) && port.is_none_or(valid_port)
}

fn valid_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let bad = |why| ReferenceError {
            text: text.chars().take(300).collect(),
            why,
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let why = "behind `@` stands `sha256:` and 64 lower-case hex digits";
                (rest, Some(digest.parse::<Digest>().map_err(|_| bad(why))?))
            }
            None => (text, None),
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => {
                if !valid_tag(tag) {
                    return Err(bad(BAD_TAG));
                }
                (name, Some(tag.to_owned()))
            }
            _ => (rest, None),
        };
        if rest.is_empty() {
            return Err(bad("it is empty"));
        }
        let (registry, path, short) = match rest.split_once('/') {
            Some((host, path)) if looks_like_host(host) => {
                if !valid_host(host) {
                    return Err(bad("the registry host is malformed"));
                }
                let host = if host == "index.docker.io" { HUB } else { host };
                (host, path, false)
            }
            _ => (HUB, rest, true),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad("a repository name must be lower case"));
        }
        if path.len() > 255 || !path.split('/').all(valid_path_part) {
            return Err(bad(BAD_PATH));
        }
        let repository = if registry == HUB && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        let tag = match (&tag, &digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            _ => tag,
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
            short: Short(short),
        })
    }
}

fn looks_like_host(part: &str) -> bool {
    part.contains(['.', ':', '['])
        || part == "localhost"
        || part.bytes().any(|b| b.is_ascii_uppercase())
}

impl fmt::Display for Reference {
    /// Shows the familiar form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.familiar())
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.full())
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_the_hub_and_are_shown_short() {
        for (text, full, familiar) in [
            ("app", "docker.io/library/app:latest", "app:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("me/app:1", "docker.io/me/app:1", "me/app:1"),
            (
                "localhost/app",
                "localhost/app:latest",
                "localhost/app:latest",
            ),
            (
                "localhost:5000/a/b",
                "localhost:5000/a/b:latest",
                "localhost:5000/a/b:latest",
            ),
            (
                "127.0.0.1:5000/x:y",
                "127.0.0.1:5000/x:y",
                "127.0.0.1:5000/x:y",
            ),
            ("[::1]:5000/x:y", "[::1]:5000/x:y", "[::1]:5000/x:y"),
            (
                "ghcr.io/o/a__b-c.d",
                "ghcr.io/o/a__b-c.d:latest",
                "ghcr.io/o/a__b-c.d:latest",
            ),
            (
                "index.docker.io/library/x",
                "docker.io/library/x:latest",
                "x:latest",
            ),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(
                (reference.full().as_str(), reference.familiar().as_str()),
                (full, familiar)
            );
        }
    }

    #[test]
    fn a_digest_takes_the_place_of_the_default_tag() {
        let digest = Digest::of(b"x");
        let reference: Reference = format!("debian@{digest}").parse().unwrap();
        assert_eq!(reference.tag(), None);
        assert_eq!(reference.digest(), Some(&digest));
        let both: Reference = format!("debian:12@{digest}").parse().unwrap();
        assert_eq!(both.familiar(), format!("debian:12@{digest}"));
    }

    #[test]
    fn a_name_knows_whether_it_was_written_short() {
        let name = |text: &str| text.parse::<Reference>().unwrap();
        assert!(name("debian").is_short() && name("me/app:1").is_short());
        assert!(!name("docker.io/library/debian").is_short());
        assert!(!name("localhost/app").is_short());
        assert!(!name("debian").qualified().is_short());
        assert_eq!(name("debian"), name("docker.io/library/debian"));
    }

    #[test]
    fn malformed_names_say_what_is_wrong() {
        for (text, why) in [
            ("", "it is empty"),
            ("App", "a repository name must be lower case"),
            ("a//b", BAD_PATH),
            ("a:", BAD_TAG),
            ("a/../b", BAD_PATH),
            ("-a", BAD_PATH),
            ("host.io:99999/a", "the registry host is malformed"),
            (
                "a@sha256:12",
                "behind `@` stands `sha256:` and 64 lower-case hex digits",
            ),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap_err().why, why, "{text}");
        }
    }
}
