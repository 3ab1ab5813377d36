//! `--annotation [LEVEL[PLATFORM],…:]KEY=VALUE`, and the same as keys of `-o`.

use crate::build::{Annotation, Level};
use crate::image::Platform;

/// Parses the value of `--annotation`; several levels give several annotations.
pub(super) fn parse(text: &str) -> Result<Vec<Annotation>, String> {
    let (key, value) = text
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or("expected `KEY=VALUE`")?;
    let levels = match key.split_once(':') {
        Some((levels, key)) if level(levels.split(',').next().unwrap_or("")).is_some() => {
            return annotate(levels, key, value);
        }
        _ => "manifest",
    };
    annotate(levels, key, value)
}

fn annotate(levels: &str, key: &str, value: &str) -> Result<Vec<Annotation>, String> {
    if key.is_empty() {
        return Err("expected a key behind the colon".to_owned());
    }
    let annotation = |text: &str| {
        let (level, platform) = level(text).ok_or_else(|| format!("`{text}` is not annotated"))?;
        Ok(Annotation {
            level,
            platform: platform.map(platform_of).transpose()?,
            key: key.to_owned(),
            value: value.to_owned(),
        })
    };
    levels.split(',').map(annotation).collect()
}

/// Reads a key of `-o`: `annotation[-LEVEL][[PLATFORM]].KEY`. `None` when it is no annotation.
pub(super) fn of_output(key: &str, value: &str) -> Option<Result<Annotation, String>> {
    let rest = key.strip_prefix("annotation")?;
    // A platform holds no dot, and a key may hold any number.
    let (place, key) = rest.split_once('.')?;
    let place = match place.strip_prefix('-') {
        Some(place) => place.to_owned(),
        None => format!("manifest{place}"),
    };
    let mut annotations = match annotate(&place, key, value) {
        Ok(annotations) => annotations,
        Err(why) => return Some(Err(why)),
    };
    annotations.pop().map(Ok)
}

/// Splits `LEVEL[PLATFORM]`.
fn level(text: &str) -> Option<(Level, Option<&str>)> {
    let (name, platform) = match text.split_once('[') {
        Some((name, platform)) => (name, Some(platform.strip_suffix(']')?)),
        None => (text, None),
    };
    let level = match name {
        "manifest" => Level::Manifest,
        "manifest-descriptor" => Level::ManifestDescriptor,
        "index" => Level::Index,
        "index-descriptor" => Level::IndexDescriptor,
        _ => return None,
    };
    let is_one = matches!(level, Level::Manifest | Level::ManifestDescriptor);
    (platform.is_none() || is_one).then_some((level, platform))
}

fn platform_of(text: &str) -> Result<Platform, String> {
    text.parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(annotations: Vec<Annotation>) -> Vec<String> {
        let show = |a: Annotation| {
            let on = a.platform.map(|p| format!(" on {p}")).unwrap_or_default();
            format!("{:?}{on}: {}={}", a.level, a.key, a.value)
        };
        annotations.into_iter().map(show).collect()
    }

    #[test]
    fn levels_and_platforms_stand_before_the_key() {
        for (text, want) in [
            ("k=v", &["Manifest: k=v"][..]),
            ("k:x=v=w", &["Manifest: k:x=v=w"]),
            ("index:k=", &["Index: k="]),
            (
                "manifest[linux/arm64]:k=v",
                &["Manifest on linux/arm64: k=v"],
            ),
            ("index,manifest:k=v", &["Index: k=v", "Manifest: k=v"]),
            (
                "manifest-descriptor[linux/amd64],index-descriptor:k=v",
                &[
                    "ManifestDescriptor on linux/amd64: k=v",
                    "IndexDescriptor: k=v",
                ],
            ),
        ] {
            assert_eq!(shown(parse(text).unwrap()), want, "{text}");
        }
        for bad in [
            "",
            "k",
            "=v",
            "index:=v",
            "index,other:k=v",
            "manifest[x y]:k=v",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn outputs_have_them_as_keys() {
        for (key, want) in [
            ("annotation.a.b", "Manifest: a.b=v"),
            ("annotation[linux/arm64].k", "Manifest on linux/arm64: k=v"),
            ("annotation-index.k", "Index: k=v"),
            (
                "annotation-manifest-descriptor[linux/amd64].k",
                "ManifestDescriptor on linux/amd64: k=v",
            ),
        ] {
            let got = of_output(key, "v").unwrap().unwrap();
            assert_eq!(shown(vec![got]), [want], "{key}");
        }
        assert!(of_output("dest", "v").is_none());
        assert!(of_output("annotation-layer.k", "v").unwrap().is_err());
    }
}
