//! Source policies: which images, URLs and repositories a build may use, and what it uses instead.
//! Pure.
//!
//! The file is BuildKit's (`sourcepolicy/pb/policy.proto`, as JSON). A source has an identifier,
//! such as `docker-image://docker.io/library/debian:12`, `https://…` or `git://…`. Its rules are
//! asked in order, and the last ALLOW or DENY that matches decides; a CONVERT that changes the
//! source begins again with what it became. Regular expressions and constraints on attributes are
//! refused when the file is read: a rule that is passed over would allow what it forbids.

use serde::Deserialize;

use crate::image::{Digest, Reference};

/// A source that changes more often than this goes round in circles.
const MOST_CHANGES: u32 = 10;
/// What identifiers of images begin with.
const IMAGE: &str = "docker-image://";

/// Rules about sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    act: Act,
    selector: String,
    exact: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    Allow,
    Deny,
    Convert {
        to: String,
        checksum: Option<Digest>,
    },
}

/// What is wrong with a policy, or what it says against a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The file is not what it should be.
    #[error("it is no source policy: {0}")]
    Form(String),
    /// A rule says something that is not done here.
    #[error("rule {number}: {what}")]
    Rule {
        /// Which, from 1 on.
        number: usize,
        /// What it says.
        what: &'static str,
    },
    /// A source is forbidden.
    #[error("the source policy denies `{0}`")]
    Denied(String),
    /// Rules turn sources into each other for ever.
    #[error("the source policy changes `{0}` again and again")]
    Circle(String),
    /// A rule makes something of a source that is none.
    #[error("the source policy makes `{from}` into `{to}`, which is no source of its kind")]
    Kind {
        /// What it was.
        from: String,
        /// What it became.
        to: String,
    },
}

/// What a source is by the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// What is used.
    pub(super) identifier: String,
    /// What its bytes must hash to, if the policy says so.
    pub(super) checksum: Option<Digest>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    rules: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    #[serde(default)]
    action: String,
    selector: SelectorText,
    #[serde(default)]
    updates: Updates,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SelectorText {
    identifier: String,
    #[serde(default, alias = "matchType")]
    match_type: String,
    #[serde(default)]
    constraints: Vec<serde_json::Value>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Updates {
    #[serde(default)]
    identifier: String,
    #[serde(default)]
    attrs: std::collections::BTreeMap<String, String>,
}

impl Policy {
    /// Reads a policy.
    pub fn parse(json: &[u8]) -> Result<Self, PolicyError> {
        let file: File =
            serde_json::from_slice(json).map_err(|error| PolicyError::Form(error.to_string()))?;
        let numbered = file.rules.into_iter().enumerate();
        let read = |(at, text)| {
            rule(text).map_err(|what| PolicyError::Rule {
                number: at + 1,
                what,
            })
        };
        let rules = numbered.map(read).collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// What a source is by this policy.
    pub(super) fn judge(&self, identifier: &str) -> Result<Source, PolicyError> {
        let mut source = Source {
            identifier: identifier.to_owned(),
            checksum: None,
        };
        for _ in 0..MOST_CHANGES {
            match self.pass(&source)? {
                None => return Ok(source),
                Some(changed) => source = changed,
            }
        }
        Err(PolicyError::Circle(identifier.to_owned()))
    }

    /// One pass over the rules: what the source becomes, if it becomes anything else.
    fn pass(&self, source: &Source) -> Result<Option<Source>, PolicyError> {
        let mut denied = false;
        for rule in &self.rules {
            let Some(parts) = rule.matches(&source.identifier) else {
                continue;
            };
            match &rule.act {
                Act::Allow => denied = false,
                Act::Deny => denied = true,
                Act::Convert { to, checksum } => {
                    let changed = Source {
                        identifier: match to.as_str() {
                            "" => source.identifier.clone(),
                            to => filled(to, &parts),
                        },
                        checksum: checksum.clone().or(source.checksum.clone()),
                    };
                    if changed != *source {
                        return Ok(Some(changed));
                    }
                }
            }
        }
        match denied {
            true => Err(PolicyError::Denied(source.identifier.clone())),
            false => Ok(None),
        }
    }

    /// Which image is used where one is named.
    pub(super) fn image(&self, name: &Reference) -> Result<Reference, PolicyError> {
        let asked = format!("{IMAGE}{}", name.full());
        let source = self.judge(&asked)?;
        if source.identifier == asked {
            return Ok(name.clone());
        }
        let named = source.identifier.strip_prefix(IMAGE);
        let reference = named.and_then(|text| text.parse().ok());
        reference.ok_or(PolicyError::Kind {
            from: asked,
            to: source.identifier,
        })
    }
}

fn rule(text: RuleText) -> Result<Rule, &'static str> {
    if !text.selector.constraints.is_empty() {
        return Err("constraints on attributes are not understood here");
    }
    let exact = match text.selector.match_type.as_str() {
        "" | "WILDCARD" => false,
        "EXACT" => true,
        "REGEX" => return Err("regular expressions are not understood here"),
        _ => return Err("the match type is WILDCARD or EXACT"),
    };
    let act = match text.action.as_str() {
        "" | "ALLOW" => Act::Allow,
        "DENY" => Act::Deny,
        "CONVERT" => convert(text.updates)?,
        _ => return Err("the action is ALLOW, DENY or CONVERT"),
    };
    Ok(Rule {
        act,
        selector: text.selector.identifier,
        exact,
    })
}

fn convert(updates: Updates) -> Result<Act, &'static str> {
    let mut checksum = None;
    for (key, value) in updates.attrs {
        match key.as_str() {
            "http.checksum" => {
                let digest = value.parse::<Digest>();
                checksum = Some(digest.map_err(|_| "`http.checksum` is no digest")?);
            }
            _ => return Err("of attributes only `http.checksum` is understood here"),
        }
    }
    Ok(Act::Convert {
        to: updates.identifier,
        checksum,
    })
}

impl Rule {
    /// What the stars of the selector stand for, if the source is one that it selects.
    fn matches<'a>(&self, identifier: &'a str) -> Option<Vec<&'a str>> {
        // A name of the hub may be written short, as in a Dockerfile.
        let selector = match self.selector.strip_prefix(IMAGE) {
            Some(name) if !name.contains('*') => name.parse::<Reference>().ok(),
            _ => None,
        };
        let selector = selector.map_or_else(
            || self.selector.clone(),
            |name| format!("{IMAGE}{}", name.full()),
        );
        match self.exact {
            true => (selector == identifier).then(Vec::new),
            false => stars(&selector, identifier),
        }
    }
}

/// What the stars of a pattern stand for, each for as much as it can.
fn stars<'a>(pattern: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let Some((before, rest)) = pattern.split_once('*') else {
        return (pattern == text).then(Vec::new);
    };
    let left = text.strip_prefix(before)?;
    let ends = left.char_indices().map(|(at, _)| at).chain([left.len()]);
    for end in ends.collect::<Vec<_>>().into_iter().rev() {
        if let Some(mut others) = stars(rest, &left[end..]) {
            others.insert(0, &left[..end]);
            return Some(others);
        }
    }
    None
}

/// Puts what stars stood for in the place of `${1}` and so on.
fn filled(template: &str, parts: &[&str]) -> String {
    let mut text = template.to_owned();
    for (at, part) in parts.iter().enumerate() {
        text = text.replace(&format!("${{{}}}", at + 1), part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &str) -> Policy {
        Policy::parse(format!("{{\"rules\":[{rules}]}}").as_bytes()).unwrap()
    }

    fn judged(rules: &str, identifier: &str) -> Result<String, PolicyError> {
        let source = policy(rules).judge(identifier)?;
        Ok(source.identifier)
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        let rules = r#"{"action":"DENY","selector":{"identifier":"*"}},
            {"action":"ALLOW","selector":{"identifier":"docker-image://docker.io/library/*"}},
            {"action":"DENY","selector":{"identifier":"docker-image://old","matchType":"EXACT"}}"#;
        let image = |name: &str| judged(rules, &format!("{IMAGE}{name}")).is_ok();
        assert!(image("docker.io/library/new:1"));
        assert!(!image("docker.io/library/old:latest"));
        assert!(!image("r.example/new:1"));
        assert!(judged("", "https://x").is_ok());
    }

    #[test]
    fn a_source_becomes_what_the_rules_make_of_it() {
        let rules = r#"{"action":"CONVERT","selector":{"identifier":"docker-image://docker.io/*:*"},
              "updates":{"identifier":"docker-image://mirror.example/${1}:${2}-x"}},
            {"action":"DENY","selector":{"identifier":"docker-image://mirror.example/library/bad*"}}"#;
        let image = |name: &str| policy(rules).image(&name.parse().unwrap());
        assert_eq!(image("a:1").unwrap().full(), "mirror.example/library/a:1-x");
        assert_eq!(image("r.example/a:1").unwrap().full(), "r.example/a:1");
        let denied = PolicyError::Denied(format!("{IMAGE}mirror.example/library/bad:2-x"));
        assert_eq!(image("bad:2"), Err(denied));
    }

    #[test]
    fn a_circle_and_another_kind_are_errors() {
        let turn = |from: &str, to: &str| {
            format!(
                r#"{{"action":"CONVERT","selector":{{"identifier":"{from}"}},"updates":{{"identifier":"{to}"}}}}"#
            )
        };
        let circle = format!("{},{}", turn("a", "b"), turn("b", "a"));
        let round = PolicyError::Circle("a".to_owned());
        assert_eq!(judged(&circle, "a"), Err(round));
        let away = policy(&turn("docker-image://*", "https://x"));
        assert!(matches!(
            away.image(&"a".parse().unwrap()),
            Err(PolicyError::Kind { .. })
        ));
    }

    #[test]
    fn a_file_is_held_to_a_checksum() {
        let digest = Digest::of(b"x");
        let rules = format!(
            r#"{{"action":"CONVERT","selector":{{"identifier":"https://x/f"}},"updates":{{"attrs":{{"http.checksum":"{digest}"}}}}}}"#
        );
        let source = policy(&rules).judge("https://x/f").unwrap();
        assert_eq!(source.checksum, Some(digest));
        assert_eq!(source.identifier, "https://x/f");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for rule in [
            r#"{"action":"DENY","selector":{"identifier":"a","matchType":"REGEX"}}"#,
            r#"{"action":"DENY","selector":{"identifier":"a","constraints":[{"key":"k"}]}}"#,
            r#"{"action":"MAYBE","selector":{"identifier":"a"}}"#,
            r#"{"action":"CONVERT","selector":{"identifier":"a"},"updates":{"attrs":{"x":"y"}}}"#,
            r#"{"action":"DENY","selector":{"identifier":"a"},"more":1}"#,
            r#"{"action":"DENY"}"#,
        ] {
            let file = format!("{{\"rules\":[{rule}]}}");
            assert!(Policy::parse(file.as_bytes()).is_err(), "{rule}");
        }
        assert!(Policy::parse(b"rules").is_err());
    }

    #[test]
    fn stars_stand_for_as_much_as_they_can() {
        assert_eq!(stars("a*c*", "abcc"), Some(vec!["bc", ""]));
        assert_eq!(stars("*", ""), Some(vec![""]));
        assert_eq!(stars("a", "ab"), None);
        assert_eq!(stars("a*b", "a"), None);
    }
}
