//! Named contexts: what `--build-context NAME=…` puts in the place of a stage or an image.
//!
//! A name is looked up where FROM, `--from` or a mount's `from` says one, before stages and
//! before images. It is compared as an image name in its shortest form, so `busybox` answers to
//! `docker.io/library/busybox:latest` too; a context for one platform wins over one for all.
//! Nothing is opened here: a context that no instruction names is never looked at.

use crate::image::{Platform, Reference};
use crate::transfer;

use super::request::ContextSource;

/// One `--build-context`.
#[derive(Debug, Clone)]
pub struct NamedContext {
    name: String,
    platform: Option<Platform>,
    /// What stands behind the name.
    pub source: NamedSource,
}

/// What a named context is.
#[derive(Debug, Clone)]
pub enum NamedSource {
    /// Files, seen through a `.dockerignore` of their own.
    Files(ContextSource),
    /// An image from the store or its registry.
    Image(Reference),
    /// An image of an OCI layout.
    Layout(transfer::Source),
    /// `docker-image://scratch`: no files, no config.
    Nothing,
}

impl NamedContext {
    /// Puts `source` behind `name`, which may end in `::PLATFORM`. `None` when the name is empty
    /// or its platform is none.
    pub fn new(name: &str, source: NamedSource) -> Option<Self> {
        let (name, platform) = match name.split_once("::") {
            Some((name, platform)) => (name, Some(platform.parse::<Platform>().ok()?)),
            None => (name, None),
        };
        (!name.is_empty()).then(|| Self {
            name: shortest(name),
            platform: platform.map(|platform| platform.normalised()),
            source,
        })
    }

    /// Returns the name that it is called by.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// An image name as people write it, without `latest`; what is no image name stays as it is.
fn shortest(name: &str) -> String {
    let Ok(reference) = name.parse::<Reference>() else {
        return name.to_owned();
    };
    let familiar = reference.familiar();
    familiar
        .strip_suffix(":latest")
        .map(str::to_owned)
        .unwrap_or(familiar)
}

/// Returns the place of the context that `name` means on `platform`; a later one of the command
/// line wins.
pub(super) fn find(contexts: &[NamedContext], name: &str, platform: &Platform) -> Option<usize> {
    if contexts.is_empty() {
        return None;
    }
    let (name, platform) = (shortest(name), platform.normalised());
    let with = |wanted: Option<&Platform>| {
        contexts
            .iter()
            .rposition(|context| context.name == name && context.platform.as_ref() == wanted)
    };
    with(Some(&platform)).or_else(|| with(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<NamedContext> {
        let context = |name: &&str| NamedContext::new(name, NamedSource::Nothing).unwrap();
        names.iter().map(context).collect()
    }

    #[test]
    fn names_are_compared_as_image_names() {
        let contexts = named(&["docker.io/library/busybox:latest", "base", "Up", "app:1"]);
        let host = "linux/amd64".parse().unwrap();
        for (name, want) in [
            ("busybox", Some(0)),
            ("busybox:latest", Some(0)),
            ("busybox:1", None),
            ("base", Some(1)),
            ("Up", Some(2)),
            ("docker.io/library/app:1", Some(3)),
            ("other", None),
        ] {
            assert_eq!(find(&contexts, name, &host), want, "{name}");
        }
    }

    #[test]
    fn a_context_for_the_platform_wins() {
        let contexts = named(&["base::linux/arm64", "base", "base::linux/aarch64/v8"]);
        let on = |platform: &str| find(&contexts, "base", &platform.parse().unwrap());
        assert_eq!(on("linux/arm64"), Some(2));
        assert_eq!(on("linux/amd64"), Some(1));
    }

    #[test]
    fn a_name_is_not_empty_and_its_platform_is_one() {
        for bad in ["", "::linux/amd64", "x::nowhere/at/all/ever"] {
            assert!(
                NamedContext::new(bad, NamedSource::Nothing).is_none(),
                "{bad}"
            );
        }
    }
}
