//! Cache keys: what a step's result depends on, and nothing else.
//!
//! | input | in the key of |
//! |---|---|
//! | semantics version of the instruction kind | every step |
//! | diff ids and platform below the step | RUN, WORKDIR, COPY and ADD but for `--link` |
//! | text after expansion (RUN: as it reaches the shell) | every step |
//! | environment: ENV and declared ARGs, no proxies | RUN |
//! | user, working directory, shell | RUN |
//! | platform, network and security mode, devices by name, host name, extra hosts | RUN |
//! | name servers and how they are asked, whether `/etc/hosts` is the image's own | RUN |
//! | places of `-v` mounts, but not what lies there | RUN |
//! | that standard input is the caller's, which no result answers for | RUN |
//! | capabilities, filters, masks, devices, groups, resource limits where they are not the usual ones | RUN |
//! | contents, modes, owners and link targets of every source | COPY, ADD, bind mounts |
//! | destination, `--chown` and `--chmod` as written; the layers below decide what they mean | COPY, ADD |
//! | identity of cache mounts, ids of secrets | RUN |
//! | the epoch, where layers keep the times that steps give | every step that makes a layer |
//!
//! Left out on purpose: mtimes, metadata instructions above the step, comments, proxies, secrets'
//! values, the ids outside the image and limits of memory and processors. The network and the clock inside RUN are not covered;
//! `--no-cache` is the answer to those.
//!
//! The framed form is kept beside each result, so what changed can be named later. A frame is a
//! name and a value, each behind its length as eight little-endian bytes: no two lists of
//! inputs frame alike.

use crate::image::Digest;

/// The digest of a step's framed inputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct StepKey(pub(super) Digest);

/// The inputs of one step, being collected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Inputs {
    framed: Vec<u8>,
}

impl Inputs {
    /// Begins with the instruction kind and the version of what it means. Raise the version when
    /// the same inputs would give another result than before.
    pub(super) fn new(kind: &str, version: u32) -> Self {
        let mut inputs = Self::default();
        inputs.add("kind", kind);
        inputs.add("version", version.to_le_bytes());
        inputs
    }

    /// Adds one named value.
    pub(super) fn add(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        for part in [name.as_bytes(), value.as_ref()] {
            self.framed
                .extend_from_slice(&(part.len() as u64).to_le_bytes());
            self.framed.extend_from_slice(part);
        }
        self
    }

    /// Adds a list whose order counts.
    pub(super) fn add_list<T: AsRef<[u8]>>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        let mut list = Self::default();
        for value in values {
            list.add("", value);
        }
        self.add(name, list.framed)
    }

    /// Returns the key.
    pub(super) fn key(&self) -> StepKey {
        StepKey(Digest::of(&self.framed))
    }

    /// Returns the framed inputs.
    pub(super) fn framed(&self) -> &[u8] {
        &self.framed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inputs(pairs: &[(String, Vec<u8>)]) -> Inputs {
        let mut inputs = Inputs::new("run", 1);
        for (name, value) in pairs {
            inputs.add(name, value);
        }
        inputs
    }

    #[test]
    fn bytes_do_not_slide_between_neighbours() {
        let mut left = Inputs::new("run", 1);
        left.add("a", "bc").add("d", "");
        let mut right = Inputs::new("run", 1);
        right.add("ab", "c").add("", "d");
        assert_ne!(left.key(), right.key());
        let mut one = Inputs::new("run", 1);
        one.add_list("l", ["ab", ""]);
        let mut two = Inputs::new("run", 1);
        two.add_list("l", ["a", "b"]);
        assert_ne!(one.key(), two.key());
    }

    proptest! {
        #[test]
        fn any_changed_input_changes_the_key(
            pairs in prop::collection::vec(("[a-z]{0,4}", prop::collection::vec(any::<u8>(), 0..8)), 1..6),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut changed = pairs.clone();
            changed[at.index(pairs.len())].1.push(byte);
            prop_assert_ne!(inputs(&pairs).key(), inputs(&changed).key());
            prop_assert_eq!(inputs(&pairs).key(), inputs(&pairs).key());
        }
    }
}
