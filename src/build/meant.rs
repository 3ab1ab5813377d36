//! What was probably meant by a name that no image has: a stage of the file, or a common image.
//!
//! A slip in a stage's name makes an image name out of it, and then the registry's answer hides
//! the slip. Suggestions are made only once getting the image has failed.

use std::fmt;

use crate::dockerfile::{Dockerfile, suggest};

/// Images that Dockerfiles start from most, without their tags.
const COMMON: [&str; 16] = [
    "almalinux",
    "alpine",
    "busybox",
    "centos",
    "debian",
    "fedora",
    "golang",
    "httpd",
    "nginx",
    "node",
    "php",
    "postgres",
    "python",
    "redis",
    "ruby",
    "ubuntu",
];

/// What a name was probably meant to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    /// A stage that can be named here.
    Stage(String),
    /// The name of a stage that is defined too late to be named here.
    Later {
        /// The stage.
        stage: String,
        /// The line of its FROM.
        line: usize,
    },
    /// A common image, with the tag that was given.
    Image(String),
    /// A variable.
    Variable(String),
}

impl fmt::Display for Meant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(stage) => write!(f, "did you mean the stage `{stage}`?"),
            Self::Later { stage, line } => {
                write!(f, "the stage `{stage}` is defined later, on line {line}")
            }
            Self::Variable(name) => write!(f, "did you mean `${name}`?"),
            Self::Image(image) => write!(f, "did you mean the image `{image}`?"),
        }
    }
}

/// Finds what `name` was meant to be in stage `index`.
pub(super) fn meant(dockerfile: &Dockerfile, index: usize, name: &str) -> Option<Meant> {
    let wanted = name.to_lowercase();
    let earlier = dockerfile.stages[..index].iter().filter_map(|s| s.name());
    if let Some(stage) = suggest::nearest(&wanted, earlier) {
        return Some(Meant::Stage(stage.to_owned()));
    }
    let later = dockerfile.stages[index..].iter();
    if let Some(stage) = later.into_iter().find(|s| s.name() == Some(&wanted)) {
        return Some(Meant::Later {
            stage: wanted,
            line: stage.origin.line,
        });
    }
    let (repository, tag) = match name.find([':', '@']) {
        Some(at) => name.split_at(at),
        None => (name, ""),
    };
    suggest::nearest(repository, COMMON).map(|image| Meant::Image(format!("{image}{tag}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::{Source, parse};

    #[test]
    fn stages_before_are_meant_first_then_stages_after_then_common_images() {
        let text = "FROM a AS build\nFROM b\nFROM c AS debia";
        let file = parse(&Source::new("Dockerfile", text)).unwrap();
        let shown = |index, name| meant(&file, index, name).map(|meant| meant.to_string());
        for (index, name, want) in [
            (1, "biuld", Some("did you mean the stage `build`?")),
            (0, "biuld", None),
            (
                0,
                "build",
                Some("the stage `build` is defined later, on line 1"),
            ),
            (
                1,
                "debia",
                Some("the stage `debia` is defined later, on line 3"),
            ),
            (
                1,
                "ubunut:24.04",
                Some("did you mean the image `ubuntu:24.04`?"),
            ),
            (
                1,
                "pyton@sha256:0",
                Some("did you mean the image `python@sha256:0`?"),
            ),
            (1, "python", None),
            (1, "registry.test/app", None),
        ] {
            assert_eq!(shown(index, name).as_deref(), want, "{name}");
        }
    }
}
