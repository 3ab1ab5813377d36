//! Where images come from and go to, as users write it.
//!
//! The transports are those of containers-transports(5):
//!
//! | text | meaning |
//! |---|---|
//! | `NAME`, `docker://NAME` | a registry |
//! | `oci:DIR[:TAG]`, `oci:DIR@DIGEST` | an OCI layout directory |
//! | `oci-archive:FILE[:TAG]`, `oci-archive:FILE@DIGEST` | the same in a tar |
//! | `docker-archive:FILE[:NAME]` | what `docker save` writes |
//! | `docker-daemon:NAME` | the images of docker's daemon on this machine |
//! | `dir:DIR` | a directory with the image's blobs and its `manifest.json` |
//!
//! Pure text to value; a path ends at its first colon. Behind `docker://` a short name is one of
//! the Hub, whatever is configured for short names.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::image::{Digest, Reference};

/// One image out of a layout that may hold several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// The only one.
    Only,
    /// The one with this name or tag (`org.opencontainers.image.ref.name`).
    Named(String),
    /// The one with this manifest digest.
    Digest(Digest),
}

/// A place that an image can come from or go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A repository of a registry.
    Registry(Reference),
    /// An OCI layout directory (image-spec, image-layout.md).
    Oci(PathBuf, Pick),
    /// A tar of an OCI layout.
    OciArchive(PathBuf, Pick),
    /// A tar in docker's own form, with the name of the image in it.
    DockerArchive(PathBuf, Option<Reference>),
    /// Docker's daemon, and the name of the image there.
    DockerDaemon(Reference),
    /// A directory with the blobs of one image.
    Dir(PathBuf),
}

/// Why a text names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no place for an image: {why}")]
pub struct PlaceError {
    /// What was given, shortened.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl Place {
    /// Returns the registry name, when the place is a registry.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Registry(reference) => Some(reference),
            _ => None,
        }
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let bad = |why: &dyn fmt::Display| PlaceError {
            text: text.chars().take(300).collect(),
            why: why.to_string(),
        };
        let name = |name: &str| name.parse::<Reference>().map_err(|e| bad(&e.why));
        if let Some(rest) = text.strip_prefix("docker://") {
            return name(rest).map(|name| Self::Registry(name.qualified()));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(bad(&format_args!("`{scheme}://` is no transport")));
        }
        let Some((transport, rest)) = text.split_once(':') else {
            return name(text).map(Self::Registry);
        };
        let path = |path: &str| match path {
            "" => Err(bad(&"the path is empty")),
            path => Ok(PathBuf::from(path)),
        };
        match transport {
            "oci" | "oci-archive" => {
                let (file, pick) = split_pick(rest).map_err(|why| bad(&why))?;
                let file = path(file)?;
                Ok(match transport {
                    "oci" => Self::Oci(file, pick),
                    _ => Self::OciArchive(file, pick),
                })
            }
            "docker-archive" => {
                let (file, inner) = match rest.split_once(':') {
                    Some((file, inner)) => (file, Some(name(inner)?)),
                    None => (rest, None),
                };
                Ok(Self::DockerArchive(path(file)?, inner))
            }
            "dir" => path(rest).map(Self::Dir),
            "docker-daemon" => match name(rest)? {
                named if named.digest().is_some() || rest.starts_with("sha256:") => {
                    Err(bad(&"docker's daemon is asked by name and tag"))
                }
                named => Ok(Self::DockerDaemon(named)),
            },
            "containers-storage" | "tarball" | "ostree" | "sif" => Err(bad(&format_args!(
                "transport `{transport}` is not supported"
            ))),
            _ => name(text).map(Self::Registry),
        }
    }
}

fn split_pick(rest: &str) -> Result<(&str, Pick), String> {
    match rest.find([':', '@']) {
        None => Ok((rest, Pick::Only)),
        Some(at) if rest.as_bytes()[at] == b'@' => match rest[at + 1..].parse() {
            Ok(digest) => Ok((&rest[..at], Pick::Digest(digest))),
            Err(e) => Err(e.to_string()),
        },
        Some(at) if rest[at + 1..].is_empty() => Err("the name behind the path is empty".into()),
        Some(at) => Ok((&rest[..at], Pick::Named(rest[at + 1..].to_owned()))),
    }
}

impl fmt::Display for Place {
    /// Shows the place as it can be typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let picked = |f: &mut fmt::Formatter<'_>, pick: &Pick| match pick {
            Pick::Only => Ok(()),
            Pick::Named(name) => write!(f, ":{name}"),
            Pick::Digest(digest) => write!(f, "@{digest}"),
        };
        match self {
            Self::Registry(reference) => write!(f, "docker://{}", reference.full()),
            Self::Oci(path, pick) => {
                write!(f, "oci:{}", path.display())?;
                picked(f, pick)
            }
            Self::OciArchive(path, pick) => {
                write!(f, "oci-archive:{}", path.display())?;
                picked(f, pick)
            }
            Self::DockerArchive(path, None) => write!(f, "docker-archive:{}", path.display()),
            Self::DockerArchive(path, Some(name)) => {
                write!(f, "docker-archive:{}:{}", path.display(), name.full())
            }
            Self::DockerDaemon(name) => write!(f, "docker-daemon:{}", name.full()),
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_told_from_names() {
        let digest = Digest::of(b"x");
        for (text, shown) in [
            ("debian", "docker://docker.io/library/debian:latest"),
            ("debian:12", "docker://docker.io/library/debian:12"),
            ("docker://127.0.0.1:5000/a:b", "docker://127.0.0.1:5000/a:b"),
            ("localhost:5000/a", "docker://localhost:5000/a:latest"),
            ("oci:1", "oci:1"),
            ("oci:/a/b:1.0", "oci:/a/b:1.0"),
            ("oci:/a/b:docker.io/x:1", "oci:/a/b:docker.io/x:1"),
            ("oci-archive:a.tar", "oci-archive:a.tar"),
            ("docker-archive:a.tar", "docker-archive:a.tar"),
            ("dir:/a/b", "dir:/a/b"),
            (
                "docker-daemon:app",
                "docker-daemon:docker.io/library/app:latest",
            ),
            (
                "docker-archive:a.tar:app:1",
                "docker-archive:a.tar:docker.io/library/app:1",
            ),
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), shown, "{text}");
        }
        let pinned = format!("oci:/a@{digest}");
        assert_eq!(
            pinned.parse(),
            Ok(Place::Oci("/a".into(), Pick::Digest(digest)))
        );
    }

    #[test]
    fn what_is_no_place_says_why() {
        for (text, why) in [
            ("ostree:x", "transport `ostree` is not supported"),
            ("dir:", "the path is empty"),
            (
                "docker-daemon:sha256:0123",
                "docker's daemon is asked by name and tag",
            ),
            ("ftp://x", "`ftp://` is no transport"),
            ("oci:", "the path is empty"),
            ("oci:x:", "the name behind the path is empty"),
            ("docker://App", "a repository name must be lower case"),
        ] {
            assert_eq!(text.parse::<Place>().unwrap_err().why, why, "{text}");
        }
        assert!("oci:x@sha256:1".parse::<Place>().is_err());
    }
}
