//! Which places a name is read from, in the order they are asked, and where it is written to.
//!
//! Pure: a name and what registries.conf says in, places out. A name that nothing is said of is at
//! its own registry, and a short one at the Hub.
//!
//! | | decides |
//! |---|---|
//! | a short name | its alias, or else the registries that are searched |
//! | the longest prefix | mirrors first, then the location |
//! | where that leads | `insecure` and `blocked` of the prefix of *that* name count, too |
//!
//! Writing takes a name as it stands: mirrors and locations are for reading.

use crate::image::Reference;

use super::conf::{Entry, Mode, Registries};
use super::error::Error;

/// A repository at a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// `HOST[:PORT]`.
    pub(super) host: String,
    pub(super) repository: String,
    /// Whether http and certificates that do not verify are taken.
    pub(super) insecure: bool,
    /// Whether the registry is the one that the name says, which credentials given for this run
    /// are for.
    pub(super) own: bool,
}

impl Registries {
    /// Returns where `name` may be, at least one place.
    pub(super) fn to_read(&self, name: &Reference) -> Result<Vec<Place>, Error> {
        let mut places = Vec::new();
        let mut blocked = None;
        for meant in self.meant(name)? {
            match self.places(&meant) {
                Ok(more) => places.extend(more),
                Err(error) => blocked = blocked.or(Some(error)),
            }
        }
        match blocked {
            Some(error) if places.is_empty() => Err(error),
            _ => Ok(places),
        }
    }

    /// Returns where `name` is written to.
    pub(super) fn to_write(&self, name: &Reference) -> Result<Place, Error> {
        let insecure = self.is_insecure(name)?;
        Ok(Place::of(name, insecure, true))
    }

    /// Returns whether the registry at `host` is reached without looking who it is.
    pub(super) fn insecure_host(&self, host: &str) -> Result<bool, Error> {
        self.flags(host, host)
    }

    /// Returns the full names that a short one may stand for, and others as they are.
    fn meant(&self, name: &Reference) -> Result<Vec<Reference>, Error> {
        let short = name.familiar_name();
        let version = &name.full()[name.name().len()..];
        let full = |place: &str| {
            let text = format!("{place}{version}");
            text.parse().map_err(|_| no_name(name, text))
        };
        if !name.is_short() {
            return Ok(vec![name.clone()]);
        }
        if let Some(target) = self.aliases.get(&short) {
            return Ok(vec![full(target)?]);
        }
        match (&self.mode, self.search.as_slice()) {
            (_, []) => Ok(vec![name.clone()]),
            (Mode::Refuse(line), [_, _, ..]) => Err(Error::Ambiguous {
                name: name.familiar(),
                hosts: self.search.join(", "),
                line: line.clone(),
            }),
            (_, hosts) => hosts
                .iter()
                .map(|h| full(&format!("{h}/{short}")))
                .collect(),
        }
    }

    /// Returns the places of a full name, mirrors first. Those that are blocked are left out.
    fn places(&self, name: &Reference) -> Result<Vec<Place>, Error> {
        let text = name.name();
        let Some((len, entry)) = self.find(&text) else {
            return Ok(vec![Place::of(name, false, true)]);
        };
        if entry.blocked {
            return Err(blocked(name.familiar(), entry));
        }
        let version = &name.full()[text.len()..];
        let below = |location: &str| {
            let text = format!("{location}{}{version}", &text[len..]);
            text.parse::<Reference>().map_err(|_| no_name(name, text))
        };
        let pinned = name.digest().is_some();
        let mirrors = entry.mirrors.iter();
        let mirrors = mirrors.filter(|mirror| if pinned { mirror.digests } else { mirror.tags });
        let mut locations = mirrors
            .map(|mirror| Ok((below(&mirror.location)?, mirror.insecure)))
            .collect::<Result<Vec<_>, Error>>()?;
        let last = entry.location.as_deref().map(below);
        locations.push((last.unwrap_or_else(|| Ok(name.clone()))?, entry.insecure));
        let (mut places, mut refused) = (Vec::new(), None);
        for (there, insecure) in locations {
            let own = there.registry() == name.registry();
            match self.is_insecure(&there) {
                Ok(also) => places.push(Place::of(&there, insecure || also, own)),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if places.is_empty() => Err(error),
            _ => Ok(places),
        }
    }

    fn is_insecure(&self, name: &Reference) -> Result<bool, Error> {
        self.flags(&name.name(), &name.familiar())
    }

    /// Returns whether what is at `place` is reached insecurely, unless it is blocked.
    fn flags(&self, place: &str, shown: &str) -> Result<bool, Error> {
        match self.find(place) {
            Some((_, entry)) if entry.blocked => Err(blocked(shown.to_owned(), entry)),
            Some((_, entry)) => Ok(entry.insecure),
            None => Ok(false),
        }
    }

    /// Returns the entry with the longest prefix of `name`, and how much of it the prefix is.
    fn find(&self, name: &str) -> Option<(usize, &Entry)> {
        let fitting = self.entries.iter().filter_map(|(prefix, entry)| {
            let len = matched(prefix, name)?;
            Some((prefix.len(), len, entry))
        });
        let (_, len, entry) = fitting.max_by_key(|(prefix, ..)| *prefix)?;
        Some((len, entry))
    }
}

impl Place {
    fn of(name: &Reference, insecure: bool, own: bool) -> Self {
        Self {
            host: name.registry().to_owned(),
            repository: name.repository().to_owned(),
            insecure,
            own,
        }
    }
}

/// Returns how many bytes of `name` the prefix stands for: whole parts of its path, and of
/// `*.DOMAIN` the host with its port.
fn matched(prefix: &str, name: &str) -> Option<usize> {
    let host = name.split('/').next().unwrap_or(name);
    if let Some(domain) = prefix.strip_prefix('*') {
        let bare = host.split(':').next().unwrap_or(host);
        return bare.ends_with(domain).then_some(host.len());
    }
    let rest = name.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())
}

fn blocked(name: String, entry: &Entry) -> Error {
    Error::ConfBlocked {
        name,
        line: entry.line.clone(),
    }
}

fn no_name(name: &Reference, to: String) -> Error {
    Error::NoPlace {
        name: name.familiar(),
        to,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> Registries {
        Registries::parsed(text).unwrap()
    }

    fn name(text: &str) -> Reference {
        text.parse().unwrap()
    }

    /// Where a name is read from, `!` before what is reached insecurely.
    fn read(conf: &Registries, text: &str) -> Vec<String> {
        let shown = |place: Place| {
            let mark = if place.insecure { "!" } else { "" };
            format!("{mark}{}/{}", place.host, place.repository)
        };
        let places = conf.to_read(&name(text)).unwrap();
        places.into_iter().map(shown).collect()
    }

    #[test]
    fn without_a_file_names_are_docker_s() {
        let none = Registries::default();
        assert_eq!(read(&none, "debian"), ["docker.io/library/debian"]);
        assert_eq!(read(&none, "r.example/a/b"), ["r.example/a/b"]);
    }

    #[test]
    fn the_longest_prefix_of_whole_path_parts_counts() {
        let conf = conf(
            r#"
            [[registry]]
            prefix = "example.com"
            location = "all.example"
            [[registry]]
            prefix = "example.com/foo"
            location = "inner.example/bar"
            insecure = true
            [[registry]]
            prefix = "*.example.org"
            location = "org.example/mirror"
            "#,
        );
        assert_eq!(read(&conf, "example.com/foo/x:1"), ["!inner.example/bar/x"]);
        assert_eq!(read(&conf, "example.com/foo"), ["!inner.example/bar"]);
        assert_eq!(read(&conf, "example.com/food"), ["all.example/food"]);
        assert_eq!(read(&conf, "example.com:5000/x"), ["example.com:5000/x"]);
        assert_eq!(
            read(&conf, "a.b.example.org:5000/x"),
            ["org.example/mirror/x"]
        );
        assert_eq!(read(&conf, "example.org/x"), ["example.org/x"]);
    }

    #[test]
    fn mirrors_come_first_and_some_for_digests_or_tags_only() {
        let conf = conf(
            r#"
            [[registry]]
            location = "docker.io"
            [[registry.mirror]]
            location = "m.example/hub"
            [[registry.mirror]]
            location = "tags.example"
            pull-from-mirror = "tag-only"
            [[registry.mirror]]
            location = "digests.example"
            pull-from-mirror = "digest-only"
            insecure = true
            [[registry]]
            location = "pinned.example"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "m.example"
            "#,
        );
        let digest = crate::image::Digest::of(b"x");
        let (hub, own) = ("m.example/hub/library/debian", "docker.io/library/debian");
        assert_eq!(
            read(&conf, "debian"),
            [hub, "tags.example/library/debian", own]
        );
        let pinned = read(&conf, &format!("debian@{digest}"));
        assert_eq!(pinned, [hub, "!digests.example/library/debian", own]);
        assert_eq!(read(&conf, "pinned.example/x"), ["pinned.example/x"]);
        let pinned = read(&conf, &format!("pinned.example/x@{digest}"));
        assert_eq!(pinned, ["m.example/x", "pinned.example/x"]);
    }

    #[test]
    fn what_is_blocked_is_no_place() {
        let conf = conf(
            r#"
            [[registry]]
            location = "bad.example"
            blocked = true
            [[registry]]
            location = "good.example"
            [[registry.mirror]]
            location = "bad.example/good"
            [[registry]]
            prefix = "moved.example"
            location = "bad.example"
            "#,
        );
        assert_eq!(read(&conf, "good.example/x"), ["good.example/x"]);
        for text in ["bad.example/x", "moved.example/x"] {
            let error = conf.to_read(&name(text)).unwrap_err();
            assert!(matches!(error, Error::ConfBlocked { .. }), "{error}");
        }
        let error = conf.to_write(&name("bad.example/x")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`bad.example/x:latest` is blocked by registries.conf line 2"
        );
        assert!(conf.insecure_host("bad.example").is_err());
    }

    #[test]
    fn writing_takes_a_name_as_it_stands() {
        let conf = conf(
            r#"
            [[registry]]
            prefix = "example.com"
            location = "inner.example"
            insecure = true
            "#,
        );
        let place = conf.to_write(&name("example.com/x")).unwrap();
        assert_eq!((place.host.as_str(), place.insecure), ("example.com", true));
    }

    #[test]
    fn a_short_name_is_its_alias_or_is_searched_for() {
        let conf = conf(
            r#"
            unqualified-search-registries = ["a.example", "docker.io"]
            [aliases]
            "fedora" = "registry.example/f/fedora"
            "#,
        );
        assert_eq!(read(&conf, "fedora:41"), ["registry.example/f/fedora"]);
        assert_eq!(
            read(&conf, "docker.io/library/fedora"),
            ["docker.io/library/fedora"]
        );
        assert_eq!(
            read(&conf, "app"),
            ["a.example/app", "docker.io/library/app"]
        );
        assert_eq!(
            read(&conf, "me/app"),
            ["a.example/me/app", "docker.io/me/app"]
        );
        assert_eq!(read(&conf, "r.example/app"), ["r.example/app"]);
    }

    #[test]
    fn enforcing_is_for_one_registry_only() {
        let one = conf(
            "short-name-mode = \"enforcing\"\nunqualified-search-registries = [\"a.example\"]",
        );
        assert_eq!(read(&one, "app"), ["a.example/app"]);
        let two = conf(
            "short-name-mode = \"enforcing\"\nunqualified-search-registries = [\"a.example\", \"b.example\"]",
        );
        assert_eq!(
            two.to_read(&name("app")).unwrap_err().to_string(),
            "`app:latest` may be at a.example, b.example, and registries.conf line 1 wants that to \
             be said"
        );
    }

    #[test]
    fn t_reg_1_credentials_of_this_run_are_for_the_registry_of_the_name() {
        let conf = conf(
            r#"
            [[registry]]
            location = "example.com"
            [[registry.mirror]]
            location = "m.example"
            [[registry]]
            prefix = "moved.example"
            location = "inner.example"
            "#,
        );
        let own = |text: &str| {
            let places = conf.to_read(&name(text)).unwrap();
            places.iter().map(|place| place.own).collect::<Vec<_>>()
        };
        assert_eq!(own("example.com/x"), [false, true]);
        assert_eq!(own("moved.example/x"), [false]);
    }
}
