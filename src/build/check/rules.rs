//! The lint rules that need values: what each asks, as functions of plain data.

use std::collections::BTreeSet;

use crate::dockerfile::{Ignore, suggest};
use crate::image::Platform;

use super::super::scope::Scope;

/// Arguments that never become variables.
const NO_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Words in the name of a variable that promise a secret.
const SECRETS: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// Words that say it is none after all.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// Returns whether a variable's name promises a secret: `API_KEY`, but not `KEY_FILE`.
pub(in super::super) fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let has = |words: &[&str]| name.split('_').any(|word| words.contains(&word));
    has(&SECRETS) && !has(&HARMLESS)
}

/// Returns the text about a variable that nobody sets, or nothing where it may be set.
///
/// When the base image is not at hand, a name in capitals may be one of its variables, unless it
/// is a slip of one that is known.
pub(in super::super) fn undefined(name: &str, scope: &Scope) -> Option<String> {
    if NO_VARIABLES.contains(&name) || scope.args.iter().any(|arg| arg.name == name) {
        return None;
    }
    let near = suggest::nearest(name, scope.env.names());
    let may_be_the_bases = scope.base_unknown && !name.chars().any(char::is_lowercase);
    match near {
        None if may_be_the_bases => None,
        near => Some(with_suggestion(
            format!("Usage of undefined variable '${name}'"),
            near.map(|near| format!("${near}")),
        )),
    }
}

/// Returns the text about an argument of FROM that no ARG declares.
pub(in super::super) fn undeclared<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> String {
    let near = suggest::nearest(name, known).map(str::to_owned);
    with_suggestion(format!("FROM argument '{name}' is not declared"), near)
}

fn with_suggestion(text: String, near: Option<String>) -> String {
    match near {
        Some(near) => format!("{text} (did you mean {near}?)"),
        None => text,
    }
}

/// Returns whether a platform without variables should have some: not in a stage whose name says
/// that it is for that system or processor.
pub(in super::super) fn constant_platform(
    stage: Option<&str>,
    platform: &Platform,
    names: &BTreeSet<String>,
) -> bool {
    let stage = stage.unwrap_or_default();
    names.is_empty() && !stage.contains(&platform.os) && !stage.contains(&platform.architecture)
}

/// Returns the path of a source as the rule shows it, if the ignore file leaves it out. An ignore
/// file with exceptions is not judged, since what it leaves out may come back below.
pub(in super::super) fn ignored_source(ignore: &Ignore, source: &str) -> Option<String> {
    if ignore.has_exceptions() {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    if path.is_empty() {
        let all = ["*", "**", "**/*"];
        return ignore
            .patterns()
            .any(|pattern| all.contains(&pattern))
            .then(|| ".".to_owned());
    }
    ignore.matches(path.as_bytes()).ignored.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_promise_secrets_by_their_words() {
        for name in [
            "API_KEY",
            "apikey",
            "DB_PASSWORD",
            "auth",
            "GITHUB_TOKEN_2",
            "secret_MESSAGE",
            "credential",
            "AWS_CREDENTIALS",
            "key",
            "pword",
            "MY_passwd",
        ] {
            assert!(names_a_secret(name), "{name}");
        }
        for name in [
            "MONKEY",
            "PUBLIC_KEY",
            "KEY_FILE",
            "TOKEN_VERSION",
            "PASSWD_FILE",
            "KEYS",
            "AUTHOR",
            "",
        ] {
            assert!(!names_a_secret(name), "{name}");
        }
    }

    #[test]
    fn an_unset_variable_is_undefined_unless_declared_or_perhaps_the_bases() {
        let mut scope = Scope::default();
        scope.env.set("PATH", "/bin");
        scope.declare("declared", None);
        let shown = |name: &str, scope: &Scope| undefined(name, scope).unwrap_or_default();
        assert_eq!(shown("declared", &scope), "");
        assert_eq!(shown("BUILDKIT_SBOM_SCAN_STAGE", &scope), "");
        let usage = "Usage of undefined variable";
        assert_eq!(shown("X", &scope), format!("{usage} '$X'"));
        let slip = format!("{usage} '$PAHT' (did you mean $PATH?)");
        assert_eq!(shown("PAHT", &scope), slip);
        scope.base_unknown = true;
        assert_eq!(shown("NODE_VERSION", &scope), "");
        assert_eq!(shown("foo", &scope), format!("{usage} '$foo'"));
        assert_eq!(shown("PAHT", &scope), slip);
    }

    #[test]
    fn a_constant_platform_is_fine_where_the_stage_says_so() {
        let platform: Platform = "linux/arm64".parse().unwrap();
        let none = BTreeSet::new();
        assert!(constant_platform(None, &platform, &none));
        assert!(constant_platform(Some("build"), &platform, &none));
        assert!(!constant_platform(Some("build-arm64"), &platform, &none));
        assert!(!constant_platform(Some("linux-base"), &platform, &none));
        let names = BTreeSet::from(["P".to_owned()]);
        assert!(!constant_platform(None, &platform, &names));
    }

    #[test]
    fn a_source_is_ignored_only_by_a_file_without_exceptions() {
        let ignore = Ignore::parse("*.txt\ndir").unwrap();
        for (source, want) in [
            ("a.txt", Some("a.txt")),
            ("/./a.txt", Some("a.txt")),
            ("dir/x", Some("dir/x")),
            ("b.md", None),
            (".", None),
        ] {
            assert_eq!(ignored_source(&ignore, source).as_deref(), want, "{source}");
        }
        let all = Ignore::parse("*").unwrap();
        assert_eq!(ignored_source(&all, "./").as_deref(), Some("."));
        let back = Ignore::parse("*\n!a.txt").unwrap();
        assert_eq!(ignored_source(&back, "b.txt"), None);
    }
}
