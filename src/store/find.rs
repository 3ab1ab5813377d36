//! What a text that a user typed means: a name, an id, the beginning of an id, a digest.
//!
//! Docker's order: a name that exists wins, then an id or its beginning, then the digest of a
//! manifest. `sha256:abc` is the beginning of an id. Reading a name costs one file.

use super::Store;
use super::error::Error;
use super::images::{self, Image};
use super::records;
use crate::image::{Descriptor, ImageId, Platform, Reference};

/// What a text led to.
#[derive(Debug, Clone)]
pub enum Found {
    /// An image for the platform.
    Image(Image),
    /// One for another platform only.
    OtherPlatform(Image),
    /// Nothing in the store.
    Nothing {
        /// Names in the store that come near, nearest first.
        nearest: Vec<String>,
    },
}

/// A text resolved to a manifest or index.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The name, when the text was one.
    pub name: Option<Reference>,
    /// The manifest or index.
    pub descriptor: Descriptor,
}

impl Store {
    /// Looks up a name, id, beginning of an id, or digest. `Ambiguous` when several ids begin so.
    pub fn resolve(&self, text: &str) -> Result<Option<Target>, Error> {
        let name = text.parse::<Reference>().ok();
        if let Some(name) = name {
            // `name:tag@digest` is filed under its digest alone.
            let filed = match name.digest() {
                Some(digest) => name.with_digest(digest.clone()),
                None => name,
            };
            if let Some(descriptor) = self.reference(&filed)? {
                return Ok(Some(Target {
                    name: Some(filed),
                    descriptor,
                }));
            }
        }
        let Some(prefix) = id_prefix(text) else {
            return Ok(None);
        };
        let ids = records::keys_beginning(self, images::KIND, prefix, 10)?;
        match ids.as_slice() {
            [] => self.by_manifest_digest(prefix),
            [id] => {
                let manifests = self.manifests_of(&ImageId(id.clone()))?;
                Ok(manifests.into_iter().next().map(|descriptor| Target {
                    name: None,
                    descriptor,
                }))
            }
            _ => Err(Error::Ambiguous {
                text: text.to_owned(),
                ids: ids.into_iter().map(ImageId).collect(),
            }),
        }
    }

    /// As [`resolve`](Self::resolve), with the error that says what comes near.
    pub fn need(&self, text: &str) -> Result<Target, Error> {
        match self.resolve(text)? {
            Some(target) => Ok(target),
            None => Err(Error::NoImage {
                text: text.to_owned(),
                near: self.nearest(text)?,
            }),
        }
    }

    /// Returns the image that a text means on `platform`.
    pub fn find(&self, text: &str, platform: &Platform) -> Result<Found, Error> {
        let nothing = || -> Result<Found, Error> {
            Ok(Found::Nothing {
                nearest: self.nearest(text)?,
            })
        };
        let Some(target) = self.resolve(text)? else {
            return nothing();
        };
        match self.image(&target.descriptor.digest, platform) {
            Ok(image)
                if platform
                    .normalised()
                    .accepts(&image.config.value().platform()) =>
            {
                Ok(Found::Image(image))
            }
            Ok(image) => Ok(Found::OtherPlatform(image)),
            // The name is an index of which other platforms were pulled, or none.
            Err(Error::NoBlob { .. } | Error::NoPlatform { .. }) => nothing(),
            Err(e) => Err(e),
        }
    }

    fn by_manifest_digest(&self, hex: &str) -> Result<Option<Target>, Error> {
        let Ok(digest) = format!("sha256:{hex}").parse() else {
            return Ok(None);
        };
        match self.document(&digest) {
            Ok(document) => Ok(Some(Target {
                name: None,
                descriptor: document.descriptor(),
            })),
            // No blob, or one that is no document: a layer's digest names no image.
            Err(Error::NoBlob { .. } | Error::Document(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Returns up to three names in the store that `text` may have meant, nearest first.
    pub fn nearest(&self, text: &str) -> Result<Vec<String>, Error> {
        let mut near: Vec<(usize, String)> = Vec::new();
        for (name, _) in self.references()? {
            if name.digest().is_some() {
                continue;
            }
            let forms = [name.familiar(), name.familiar_name()];
            let distance = forms.iter().map(|form| distance(text, form)).min();
            if let Some(distance) = distance
                && distance <= 1 + text.len() / 4
            {
                near.push((distance, name.familiar()));
            }
        }
        near.sort();
        Ok(near.into_iter().take(3).map(|(_, name)| name).collect())
    }
}

/// Returns up to three of `names` that `text` may have meant, nearest first: a slip away, or one
/// part of the other.
pub fn nearest_names<'n>(text: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<String> {
    let near = |name: &str| {
        let slip = distance(text, name) <= 1 + text.len() / 4;
        slip || name.contains(text) || text.contains(name)
    };
    let names = names.into_iter().filter(|name| near(name));
    let mut near: Vec<(usize, &str)> = names.map(|name| (distance(text, name), name)).collect();
    near.sort_unstable();
    let near = near.into_iter().take(3);
    near.map(|(_, name)| name.to_owned()).collect()
}

/// Returns the hex digits when `text` can be an id or its beginning.
fn id_prefix(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let all_hex = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    ((1..=64).contains(&hex.len()) && all_hex).then_some(hex)
}

/// Edit distance between two texts (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_single_changes() {
        assert_eq!(distance("debain", "debian"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("app", "app"), 0);
    }

    #[test]
    fn only_lower_case_hex_begins_an_id() {
        assert_eq!(id_prefix("sha256:0af"), Some("0af"));
        assert_eq!(id_prefix("dead"), Some("dead"));
        for bad in ["", "sha256:", "DEAD", "xyz", "sha512:aa"] {
            assert_eq!(id_prefix(bad), None, "{bad}");
        }
    }
}
