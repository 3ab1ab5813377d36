//! Which object a reference means, read from what `git ls-remote` lists.

use super::url::is_commit;

/// What to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The object that the server names: a commit, or a tag that points to one.
    pub(super) object: String,
    /// The commit.
    pub(super) commit: String,
    /// The full name of the ref, where there is one.
    pub(super) name: Option<String>,
}

impl Target {
    /// Returns the target that a commit id names by itself.
    pub(super) fn commit(id: &str) -> Self {
        Self {
            object: id.to_owned(),
            commit: id.to_owned(),
            name: None,
        }
    }

    /// Finds `reference`, or the default branch, in a listing. A ref written in full comes first,
    /// then a branch, then a tag, as `git checkout` chooses.
    pub(super) fn choose(listing: &str, reference: Option<&str>) -> Option<Self> {
        let lines: Vec<(&str, &str)> = listing
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .collect();
        let id_of = |name: &str| {
            let found = lines.iter().find(|(id, at)| *at == name && is_commit(id));
            found.map(|(id, _)| (*id).to_owned())
        };
        let Some(reference) = reference else {
            let object = id_of("HEAD")?;
            let symbolic = lines.iter().find(|(_, name)| *name == "HEAD");
            let name = symbolic.and_then(|(to, _)| to.strip_prefix("ref: "));
            return Some(Self {
                commit: object.clone(),
                object,
                name: name.map(str::to_owned),
            });
        };
        let full = |prefix: &str| {
            let short = reference.strip_prefix(prefix).unwrap_or(reference);
            format!("{prefix}{short}")
        };
        [full("refs/"), full("refs/heads/"), full("refs/tags/")]
            .into_iter()
            .find_map(|name| {
                let object = id_of(&name)?;
                Some(Self {
                    commit: id_of(&format!("{name}^{{}}")).unwrap_or_else(|| object.clone()),
                    object,
                    name: Some(name),
                })
            })
    }

    /// Returns whether the id of the commit, or of its tag, begins with `checksum`.
    pub(super) fn matches(&self, checksum: &str) -> bool {
        self.commit.starts_with(checksum) || self.object.starts_with(checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(c: char) -> String {
        c.to_string().repeat(40)
    }

    fn listing() -> String {
        let line = |c, name: &str| format!("{}\t{name}\n", id(c));
        [
            "ref: refs/heads/main\tHEAD\n".to_owned(),
            line('a', "HEAD"),
            line('a', "refs/heads/main"),
            line('b', "refs/heads/both"),
            line('c', "refs/tags/both"),
            line('d', "refs/tags/v1"),
            line('e', "refs/tags/v1^{}"),
            line('f', "refs/pull/42/head"),
        ]
        .concat()
    }

    #[test]
    fn a_reference_is_found_as_git_checkout_finds_it() {
        let find = |reference| Target::choose(&listing(), reference);
        let head = find(None).unwrap();
        assert_eq!(head.name.as_deref(), Some("refs/heads/main"));
        assert_eq!(head.commit, id('a'));
        assert_eq!(find(Some("both")).unwrap().commit, id('b'));
        assert_eq!(find(Some("refs/tags/both")).unwrap().commit, id('c'));
        assert_eq!(find(Some("tags/both")).unwrap().commit, id('c'));
        assert_eq!(find(Some("pull/42/head")).unwrap().commit, id('f'));
        assert_eq!(find(Some("gone")), None);
    }

    #[test]
    fn an_annotated_tag_stands_for_its_commit() {
        let tag = Target::choose(&listing(), Some("v1")).unwrap();
        assert_eq!(
            (tag.object.as_str(), tag.commit.as_str()),
            (&*id('d'), &*id('e'))
        );
        assert!(tag.matches("ddd") && tag.matches("eee") && !tag.matches("aaa"));
    }

    #[test]
    fn a_server_that_lists_nonsense_gives_nothing() {
        for text in [
            "",
            "x\tHEAD",
            "--upload-pack\trefs/heads/main",
            "ref: x\tHEAD",
        ] {
            assert_eq!(Target::choose(text, None), None, "{text}");
        }
    }
}
