//! The variables an instruction sees: ARG and ENV of its stage, and the global ARGs.
//!
//! A stage keeps one ordered environment in which ENV and ARG overwrite each other in file order
//! (an ARG after an ENV of the same name hides it for the build, an ENV after an ARG hides the
//! ARG). Only ENV reaches the image. Stages built FROM another inherit all of it.
//!
//! Proxy variables need no declaration: RUN gets them in both spellings, and they are in neither
//! the history nor the key. Declared, they are ARGs like any other.

use std::collections::HashMap;
use std::sync::Arc;

use crate::image::Platform;

/// Names that reach RUN without an ARG.
const PROXIES: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// Build-args of the command line by name; a later one wins.
#[derive(Debug, Clone, Default)]
pub(super) struct BuildArgs(HashMap<String, String>);

impl BuildArgs {
    /// Takes them in the order of the command line.
    pub(super) fn new(args: &[(String, String)]) -> Self {
        Self(args.iter().cloned().collect())
    }

    /// Returns the value given for `name`.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns the proxies RUN gets, both spellings, sorted: `callers` first, build-args win.
    pub(super) fn proxies(&self, callers: &[(String, String)]) -> Vec<(String, String)> {
        let mut proxies = Vec::new();
        for name in PROXIES {
            let lower = name.to_ascii_lowercase();
            let from_caller = |name: &str| {
                callers
                    .iter()
                    .rev()
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value.as_str())
            };
            let value = self
                .get(name)
                .or_else(|| self.get(&lower))
                .or_else(|| from_caller(name))
                .or_else(|| from_caller(&lower));
            if let Some(value) = value {
                proxies.push((lower, value.to_owned()));
                proxies.push((name.to_owned(), value.to_owned()));
            }
        }
        proxies.sort();
        proxies
    }
}

/// Returns whether `name` is a proxy variable in either spelling.
pub(super) fn is_proxy(name: &str) -> bool {
    PROXIES.contains(&name.to_ascii_uppercase().as_str())
        && (name.bytes().all(|b| b == b'_' || b.is_ascii_uppercase())
            || name.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()))
}

/// A variable and its value. Every step keeps those it sees, so they are shared.
pub(super) type Variable = Arc<(String, String)>;

/// Variables in the order they were first set; a set one keeps its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Env {
    pairs: Vec<Variable>,
    /// Where each name stands in `pairs`.
    places: HashMap<String, usize>,
}

impl Env {
    /// Reads `KEY=value` pairs; a pair without `=` has an empty value.
    pub(super) fn from_pairs(pairs: &[String]) -> Self {
        let mut env = Self::default();
        for pair in pairs {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            env.set(key, value);
        }
        env
    }

    /// Returns the value of `name`.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|place| self.value(*place))
    }

    /// Returns the value of the variable that was the `place`th to be set.
    fn value(&self, place: usize) -> &str {
        &self.pairs[place].1
    }

    /// Sets `name`, and returns its place.
    pub(super) fn set(&mut self, name: &str, value: &str) -> usize {
        let pair = Arc::new((name.to_owned(), value.to_owned()));
        if let Some(place) = self.places.get(name) {
            self.pairs[*place] = pair;
            return *place;
        }
        let place = self.pairs.len();
        self.places.insert(name.to_owned(), place);
        self.pairs.push(pair);
        place
    }

    /// Returns the pairs in order.
    pub(super) fn pairs(&self) -> &[Variable] {
        &self.pairs
    }

    /// Returns the names in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|pair| pair.0.as_str())
    }
}

/// An ARG that a stage declared, with the value in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeclaredArg {
    /// Its name.
    pub(super) name: String,
    /// Its value; `None` when nobody gave one.
    pub(super) value: Option<String>,
    /// Its place in the environment, where that has it.
    place: Option<usize>,
}

/// The variables of a stage at one point of its text.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    /// ENV and ARG as instructions see them.
    pub(super) env: Env,
    /// Declared ARGs, each once, in the order they were first seen.
    pub(super) args: Vec<DeclaredArg>,
    /// Whether the base's variables are missing, since a check does without the image.
    pub(super) base_unknown: bool,
}

impl Scope {
    /// Declares an ARG with the value in force.
    pub(super) fn declare(&mut self, name: &str, value: Option<&str>) {
        let declared = DeclaredArg {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            place: value.map(|value| self.env.set(name, value)),
        };
        match self.args.iter_mut().find(|arg| arg.name == name) {
            Some(arg) => *arg = declared,
            None => self.args.push(declared),
        }
    }

    /// Returns how many ARGs are declared, and `name=value` of each, as the history names them: the
    /// value that the instruction sees, which a later ENV may have set, and nothing where there is
    /// none.
    pub(super) fn arg_text(&self) -> Option<String> {
        if self.args.is_empty() {
            return None;
        }
        let mut text = format!("|{}", self.args.len());
        for DeclaredArg { name, place, .. } in &self.args {
            let seen = match place {
                Some(place) => self.env.value(*place),
                None => self.env.get(name).unwrap_or(""),
            };
            text.extend([" ", name, "=", seen]);
        }
        Some(text)
    }
}

/// The ARGs that every Dockerfile has: platforms of the build and of the result, and the target.
pub(super) fn platform_args(host: &Platform, target: &Platform, stage: &str) -> Env {
    let mut env = Env::default();
    for (side, platform) in [("BUILD", host), ("TARGET", target)] {
        env.set(&format!("{side}PLATFORM"), &platform.to_string());
        env.set(&format!("{side}OS"), &platform.os);
        let version = platform.os_version.as_deref().unwrap_or("");
        env.set(&format!("{side}OSVERSION"), version);
        env.set(&format!("{side}ARCH"), &platform.architecture);
        env.set(
            &format!("{side}VARIANT"),
            platform.variant.as_deref().unwrap_or(""),
        );
    }
    env.set("TARGETSTAGE", stage);
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arg_and_an_env_of_one_name_hide_each_other_in_order() {
        let mut scope = Scope::default();
        scope.env.set("V", "env");
        scope.declare("V", Some("arg"));
        assert_eq!(scope.env.get("V"), Some("arg"));
        scope.env.set("V", "later");
        assert_eq!(scope.env.get("V"), Some("later"));
        assert_eq!(scope.arg_text().as_deref(), Some("|1 V=later"));
    }

    #[test]
    fn an_arg_without_a_value_is_absent() {
        let mut scope = Scope::default();
        scope.declare("X", None);
        scope.declare("Y", Some(""));
        assert_eq!(scope.env.pairs(), [Arc::new(("Y".into(), "".into()))]);
        assert_eq!(scope.arg_text().as_deref(), Some("|2 X= Y="));
        assert_eq!(Scope::default().arg_text(), None);
    }

    #[test]
    fn proxies_come_in_both_spellings_and_build_args_win() {
        let args = BuildArgs::new(&[("https_proxy".into(), "b".into())]);
        let callers = [
            ("HTTPS_PROXY".to_owned(), "a".to_owned()),
            ("HOME".into(), "/".into()),
        ];
        let got = args.proxies(&callers);
        let want = [("HTTPS_PROXY", "b"), ("https_proxy", "b")];
        assert_eq!(got, want.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert!(is_proxy("no_proxy") && is_proxy("NO_PROXY") && !is_proxy("No_Proxy"));
    }

    #[test]
    fn platform_args_name_both_sides() {
        let host: Platform = "linux/amd64".parse().unwrap();
        let target: Platform = "linux/arm/v7".parse().unwrap();
        let env = platform_args(&host, &target, "default");
        for (name, want) in [
            ("BUILDPLATFORM", "linux/amd64"),
            ("BUILDOS", "linux"),
            ("BUILDOSVERSION", ""),
            ("BUILDARCH", "amd64"),
            ("BUILDVARIANT", ""),
            ("TARGETPLATFORM", "linux/arm/v7"),
            ("TARGETOS", "linux"),
            ("TARGETOSVERSION", ""),
            ("TARGETARCH", "arm"),
            ("TARGETVARIANT", "v7"),
            ("TARGETSTAGE", "default"),
        ] {
            assert_eq!(env.get(name), Some(want), "{name}");
        }
    }
}
