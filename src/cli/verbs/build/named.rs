//! `--build-context NAME=SOURCE`, as buildx and buildah write it.

use std::path::PathBuf;

use crate::build::{ContextSource, NamedContext, NamedSource};
use crate::transfer::{Pick, Source};

/// Parses the value of `--build-context`.
pub(super) fn parse(text: &str) -> Result<NamedContext, String> {
    let (name, source) = text
        .split_once('=')
        .filter(|(_, source)| !source.is_empty())
        .ok_or("expected `NAME=SOURCE`")?;
    NamedContext::new(name, self::source(source)?)
        .ok_or_else(|| format!("`{name}` is no name: expected `NAME` or `NAME::OS/ARCHITECTURE`"))
}

fn source(text: &str) -> Result<NamedSource, String> {
    for scheme in ["docker-image://", "container-image://", "docker://"] {
        match text.strip_prefix(scheme) {
            None => {}
            Some("scratch") => return Ok(NamedSource::Nothing),
            Some(image) => {
                let image = image.parse();
                return image.map(NamedSource::Image).map_err(|e| format!("{e}"));
            }
        }
    }
    if let Some(layout) = text.strip_prefix("oci-layout://") {
        return layout_source(layout).map(NamedSource::Layout);
    }
    if text.starts_with("target:") {
        return Err(
            "`target:` is for bake files; a stage is named by `--from` as it is".to_owned(),
        );
    }
    super::context::remote(text).map(|remote| {
        NamedSource::Files(remote.unwrap_or_else(|| ContextSource::Dir(PathBuf::from(text))))
    })
}

/// `DIR`, `DIR:TAG` or `DIR@DIGEST`; with both a tag and a digest the digest counts.
fn layout_source(text: &str) -> Result<Source, String> {
    let (text, digest) = match text.split_once('@') {
        Some((text, digest)) => (text, Some(digest.parse().map_err(|e| format!("{e}"))?)),
        None => (text, None),
    };
    let (dir, tag) = match text.rsplit_once(':') {
        Some((dir, tag)) if !tag.contains('/') => (dir, Some(tag)),
        _ => (text, None),
    };
    if dir.is_empty() {
        return Err("the path of the layout is empty".to_owned());
    }
    let pick = match (digest, tag) {
        (Some(digest), _) => Pick::Digest(digest),
        (None, Some(tag)) => Pick::Named(tag.to_owned()),
        (None, None) => Pick::Only,
    };
    Ok(Source::Oci(PathBuf::from(dir), pick))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart_by_how_they_begin() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, want) in [
            ("../dir", "Files(Dir(\"../dir\"))"),
            ("http://x/ctx.tar", "Files(Url(\"http://x/ctx.tar\"))"),
            ("docker-image://scratch", "Nothing"),
            ("oci-layout:///a/b", "Layout(Oci(\"/a/b\", Only))"),
            ("oci-layout://a:1", "Layout(Oci(\"a\", Named(\"1\")))"),
        ] {
            assert_eq!(format!("{:?}", source(text).unwrap()), want, "{text}");
        }
        for scheme in ["docker-image", "container-image", "docker"] {
            let image = source(&format!("{scheme}://app:2")).unwrap();
            assert!(matches!(image, NamedSource::Image(image) if image.familiar() == "app:2"));
        }
        let NamedSource::Layout(Source::Oci(_, Pick::Digest(got))) =
            source(&format!("oci-layout://a:1@{digest}")).unwrap()
        else {
            panic!("a digest")
        };
        assert_eq!(got.as_str(), digest);
    }

    #[test]
    fn mistakes_are_named() {
        for bad in [
            "",
            "x",
            "x=",
            "=y",
            "x=target:base",
            "x=oci-layout://",
            "x=docker-image://A B",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
