//! How a plan crosses the re-execution: JSON in which names stay bytes.
//!
//! Paths, arguments and environment values of Linux are bytes, JSON strings are Unicode. A
//! name that is UTF-8 is written as a string, any other as an array of numbers; both come
//! back exactly. The functions are meant for `#[serde(with = …)]`.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Name<'a> {
    Text(Cow<'a, str>),
    Raw(Cow<'a, [u8]>),
}

impl<'a> From<&'a OsStr> for Name<'a> {
    fn from(name: &'a OsStr) -> Self {
        match name.to_str() {
            Some(text) => Name::Text(Cow::Borrowed(text)),
            None => Name::Raw(Cow::Borrowed(name.as_bytes())),
        }
    }
}

impl From<Name<'_>> for OsString {
    fn from(name: Name<'_>) -> Self {
        match name {
            Name::Text(text) => Self::from(text.into_owned()),
            Name::Raw(raw) => Self::from_vec(raw.into_owned()),
        }
    }
}

/// One path or string.
pub(super) mod name {
    use super::*;

    pub(in crate::sandbox) fn serialize<T, S>(value: &T, to: S) -> Result<S::Ok, S::Error>
    where
        T: AsRef<OsStr>,
        S: Serializer,
    {
        Name::from(value.as_ref()).serialize(to)
    }

    pub(in crate::sandbox) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: From<OsString>,
        D: Deserializer<'de>,
    {
        Name::deserialize(from).map(|name| T::from(OsString::from(name)))
    }
}

/// A list of paths or strings.
pub(super) mod names {
    use super::*;

    pub(in crate::sandbox) fn serialize<T, S>(value: &[T], to: S) -> Result<S::Ok, S::Error>
    where
        T: AsRef<OsStr>,
        S: Serializer,
    {
        to.collect_seq(value.iter().map(|name| Name::from(name.as_ref())))
    }

    pub(in crate::sandbox) fn deserialize<'de, T, D>(from: D) -> Result<Vec<T>, D::Error>
    where
        T: From<OsString>,
        D: Deserializer<'de>,
    {
        let names = Vec::<Name<'_>>::deserialize(from)?;
        Ok(names
            .into_iter()
            .map(|name| T::from(OsString::from(name)))
            .collect())
    }
}

/// The environment: pairs of strings, in order.
pub(super) mod pairs {
    use super::*;

    pub(in crate::sandbox) fn serialize<S: Serializer>(
        value: &[(OsString, OsString)],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let pair =
            |(key, value): &'_ (OsString, OsString)| (OsString::clone(key), OsString::clone(value));
        to.collect_seq(
            value
                .iter()
                .map(pair)
                .map(|(key, value)| (OwnedName(key), OwnedName(value))),
        )
    }

    pub(in crate::sandbox) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<(OsString, OsString)>, D::Error> {
        let pairs = Vec::<(Name<'_>, Name<'_>)>::deserialize(from)?;
        Ok(pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect())
    }

    struct OwnedName(OsString);

    impl Serialize for OwnedName {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            Name::from(self.0.as_os_str()).serialize(to)
        }
    }
}
