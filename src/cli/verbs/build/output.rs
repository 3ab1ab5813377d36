//! `-o`: where the result goes, in docker's CSV.
//!
//! A field may be quoted as in RFC 4180 when it holds a comma: `"name=a,b"`. A value without any
//! `=` is short for `type=local,dest=VALUE`, and `-` for a tar on standard output.

use std::path::PathBuf;

use crate::build::Output;
use crate::image::Reference;

/// One `-o`.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    /// The output itself.
    pub(super) output: Output,
    /// `rewrite-timestamp=`.
    pub(super) rewrite_timestamp: Option<bool>,
    /// `annotation.KEY=`.
    pub(super) annotations: Vec<(String, String)>,
}

/// The keys of every type, and which types take them.
const KEYS: &[(&str, &[&str])] = &[
    ("dest", &["local", "tar", "oci", "docker"]),
    ("name", &["oci", "docker", "image", "registry"]),
    ("push", &["image"]),
    ("tar", &["oci"]),
    (
        "rewrite-timestamp",
        &["local", "tar", "oci", "docker", "image", "registry"],
    ),
    ("annotation.KEY", &["oci", "image", "registry"]),
];

/// Parses the value of `-o`.
pub(super) fn parse(text: &str) -> Result<Parsed, String> {
    if text.is_empty() {
        return Err("expected `type=…`, a directory or `-`".to_owned());
    }
    if !text.contains('=') {
        let output = match text {
            "-" => Output::Tar { dest: None },
            dir => Output::Local {
                dest: PathBuf::from(dir),
            },
        };
        return Ok(Parsed {
            output,
            rewrite_timestamp: None,
            annotations: Vec::new(),
        });
    }
    let mut fields = Fields::default();
    for field in csv(text)? {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("`{field}` is no `key=value`"))?;
        fields.set(key.trim(), value)?;
    }
    fields.finish()
}

#[derive(Default)]
struct Fields {
    kind: Option<String>,
    dest: Option<PathBuf>,
    names: Vec<Reference>,
    push: Option<bool>,
    tar: Option<bool>,
    rewrite_timestamp: Option<bool>,
    annotations: Vec<(String, String)>,
    /// Every key that was given, for the check against the type.
    given: Vec<String>,
}

impl Fields {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let flag = || match value {
            "true" | "1" => Ok(Some(true)),
            "false" | "0" => Ok(Some(false)),
            _ => Err(format!("`{key}={value}`: expected `true` or `false`")),
        };
        match key {
            "type" => self.kind = Some(value.to_owned()),
            // `-` is standard output, which is what no destination means.
            "dest" => self.dest = (value != "-").then(|| PathBuf::from(value)),
            "name" => {
                let names = value
                    .split(',')
                    .map(|name| name.trim().parse::<Reference>());
                let names: Result<Vec<_>, _> = names.collect();
                self.names.extend(names.map_err(|error| error.to_string())?);
            }
            "push" => self.push = flag()?,
            "tar" => self.tar = flag()?,
            "rewrite-timestamp" => self.rewrite_timestamp = flag()?,
            _ => match key.strip_prefix("annotation.") {
                Some(name) if !name.is_empty() => {
                    self.annotations.push((name.to_owned(), value.to_owned()));
                }
                _ => return Err(format!("there is no key `{key}`, only {}", known(None))),
            },
        }
        self.given.push(key.to_owned());
        Ok(())
    }

    fn finish(self) -> Result<Parsed, String> {
        let kind = self.kind.as_deref().ok_or("`type=` is missing")?;
        for key in self.given.iter().filter(|key| *key != "type") {
            let name = if key.starts_with("annotation.") {
                "annotation.KEY"
            } else {
                key
            };
            let takes = |(known, kinds): &&(&str, &[&str])| *known == name && kinds.contains(&kind);
            if is_type(kind) && !KEYS.iter().any(|entry| takes(&entry)) {
                return Err(format!(
                    "`type={kind}` takes no `{key}`, only {}",
                    known(Some(kind))
                ));
            }
        }
        let (dest, names) = (self.dest, self.names);
        let output = match kind {
            "local" => match dest {
                Some(dest) => Output::Local { dest },
                None => return Err("`type=local` needs `dest=DIR`".to_owned()),
            },
            "tar" => Output::Tar { dest },
            "oci" => Output::Oci {
                dest,
                tar: self.tar.unwrap_or(true),
                names,
            },
            "docker" => Output::Docker { dest, names },
            "image" => Output::Image {
                names,
                push: self.push.unwrap_or(false),
            },
            "registry" => Output::Image { names, push: true },
            other => {
                let all = "local, tar, oci, docker, image, registry";
                return Err(format!("there is no type `{other}`, only {all}"));
            }
        };
        Ok(Parsed {
            output,
            rewrite_timestamp: self.rewrite_timestamp,
            annotations: self.annotations,
        })
    }
}

fn is_type(kind: &str) -> bool {
    KEYS.iter().any(|(_, kinds)| kinds.contains(&kind))
}

fn known(kind: Option<&str>) -> String {
    let fits = |kinds: &[&str]| kind.is_none_or(|kind| kinds.contains(&kind));
    let keys: Vec<&str> = KEYS
        .iter()
        .filter(|(_, kinds)| fits(kinds))
        .map(|(key, _)| *key)
        .collect();
    keys.join(", ")
}

/// Splits one line of CSV.
fn csv(text: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (field, after) = quoted_field(quoted).ok_or("a quote is not closed")?;
                match after.strip_prefix(',') {
                    Some(after) => (field, Some(after)),
                    None if after.is_empty() => (field, None),
                    None => return Err("behind a closing quote stands a comma".to_owned()),
                }
            }
            None => match rest.split_once(',') {
                Some((field, after)) => (field.to_owned(), Some(after)),
                None => (rest.to_owned(), None),
            },
        };
        out.push(field);
        match after {
            Some(after) => rest = after,
            None => return Ok(out),
        }
    }
}

/// Reads up to the closing quote; a doubled quote stands for one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Some((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok(parsed) => format!("{:?}", parsed.output),
            Err(why) => why,
        }
    }

    #[test]
    fn outputs_are_read_as_docker_writes_them() {
        for (text, want) in [
            ("out", r#"Local { dest: "out" }"#),
            ("-", "Tar { dest: None }"),
            ("type=local,dest=a b", r#"Local { dest: "a b" }"#),
            ("type=tar", "Tar { dest: None }"),
            ("type=tar,dest=-", "Tar { dest: None }"),
            (r#"type=tar,"dest=a,b""#, r#"Tar { dest: Some("a,b") }"#),
            (
                "type=oci,dest=o.tar",
                r#"Oci { dest: Some("o.tar"), tar: true, names: [] }"#,
            ),
            (
                "type=oci,tar=false,dest=o",
                r#"Oci { dest: Some("o"), tar: false, names: [] }"#,
            ),
            (
                "type=docker,dest=d.tar",
                r#"Docker { dest: Some("d.tar"), names: [] }"#,
            ),
            ("type=image,push=true", "Image { names: [], push: true }"),
            ("type=registry", "Image { names: [], push: true }"),
        ] {
            assert_eq!(shown(text), want, "{text}");
        }
        let parsed =
            parse(r#"type=image,"name=a,b:1",annotation.k=v,rewrite-timestamp=true"#).unwrap();
        let Output::Image { names, .. } = parsed.output else {
            panic!("an image")
        };
        let names: Vec<String> = names.iter().map(Reference::familiar).collect();
        assert_eq!(names, ["a:latest", "b:1"]);
        assert_eq!(parsed.annotations, [("k".to_owned(), "v".to_owned())]);
        assert_eq!(parsed.rewrite_timestamp, Some(true));
    }

    #[test]
    fn mistakes_name_what_would_be_right() {
        for (text, want) in [
            ("", "expected `type=…`, a directory or `-`"),
            ("dest=x", "`type=` is missing"),
            ("type=local", "`type=local` needs `dest=DIR`"),
            (
                "type=zip,dest=x",
                "there is no type `zip`, only local, tar, oci, docker, image, registry",
            ),
            (
                "type=local,dest=x,name=y",
                "`type=local` takes no `name`, only dest, rewrite-timestamp",
            ),
            (
                "type=oci,tar=maybe",
                "`tar=maybe`: expected `true` or `false`",
            ),
            ("type=tar,dest", "`dest` is no `key=value`"),
            (r#"type=tar,"dest=x"#, "a quote is not closed"),
            (
                r#"type=tar,"dest=x"y"#,
                "behind a closing quote stands a comma",
            ),
        ] {
            assert_eq!(shown(text), want, "{text}");
        }
        assert!(shown("type=tar,dst=x").starts_with("there is no key `dst`, only dest, name"));
    }
}
