//! Where an image that was made goes: a name in the store, or a place elsewhere.

use std::str::FromStr;

use super::tag::tagged;
use crate::image::Reference;
use crate::transfer::Target;

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Goal {
    /// A name in the store.
    Name(Reference),
    /// Somewhere else.
    Place(Target),
}

impl Goal {
    /// The names among `goals`.
    pub(crate) fn names(goals: &[Self]) -> impl Iterator<Item = &Reference> {
        goals.iter().filter_map(|goal| match goal {
            Self::Name(name) => Some(name),
            Self::Place(_) => None,
        })
    }

    /// The places among `goals`.
    pub(crate) fn places(goals: &[Self]) -> impl Iterator<Item = &Target> {
        goals.iter().filter_map(|goal| match goal {
            Self::Name(_) => None,
            Self::Place(place) => Some(place),
        })
    }
}

impl FromStr for Goal {
    type Err = String;

    /// A text without a transport is a name in the store, as with buildah.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("containers-storage:") {
            return tagged(rest).map(Self::Name);
        }
        match text.parse::<Target>() {
            Ok(Target::Registry(_)) if !text.starts_with("docker://") => {
                tagged(text).map(Self::Name)
            }
            Ok(place) => Ok(Self::Place(place)),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_tells_a_place_from_a_name() {
        let is_name = |text: &str| matches!(text.parse::<Goal>(), Ok(Goal::Name(_)));
        assert!(is_name("app") && is_name("r.example:5000/app:1"));
        assert!(is_name("containers-storage:app"));
        for place in [
            "docker://r.example/app",
            "oci:dir:tag",
            "dir:d",
            "docker-daemon:a:1",
        ] {
            assert!(matches!(place.parse(), Ok(Goal::Place(_))), "{place}");
        }
        assert!("x://y".parse::<Goal>().is_err());
    }
}
