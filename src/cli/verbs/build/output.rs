//! `-o`: where the result goes, as [`fields`]. A value without any
//! `=` is short for `type=local,dest=VALUE`, and `-` for a tar on standard output.

use std::path::PathBuf;

use super::{annotation, fields};
use crate::build::{Annotation, Form, Output};
use crate::image::{Compression, Reference, Shape};

/// One `-o`.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    /// The output itself.
    pub(super) output: Output,
    /// `rewrite-timestamp=`.
    pub(super) rewrite_timestamp: Option<bool>,
    /// `source-date-epoch=`: empty for none, whatever the environment says.
    pub(super) epoch: Option<String>,
    /// `registry.insecure=`.
    pub(super) insecure: bool,
    /// `annotation.KEY=` and its like.
    pub(super) annotations: Vec<Annotation>,
    /// `attestation-inline=`.
    pub(super) attest_inline: bool,
}

const ALL: &[&str] = &["local", "tar", "oci", "docker", "image", "registry"];
const IMAGES: &[&str] = &["oci", "docker", "image", "registry"];
const ATTESTED: &[&str] = &["oci", "image", "registry"];
const PUSHED: &[&str] = &["image", "registry"];

/// The keys of every type, and which types take them.
const KEYS: &[(&str, &[&str])] = &[
    ("dest", &["local", "tar", "oci", "docker"]),
    ("mode", &["local"]),
    ("platform-split", &["local", "tar"]),
    ("name", IMAGES),
    ("push", PUSHED),
    ("push-by-digest", PUSHED),
    ("registry.insecure", PUSHED),
    ("tar", &["oci", "docker"]),
    ("compression", IMAGES),
    ("compression-level", IMAGES),
    ("force-compression", IMAGES),
    ("oci-mediatypes", IMAGES),
    ("oci-artifact", ATTESTED),
    ("attestation-inline", ATTESTED),
    ("attestation-prefix", &["local", "tar"]),
    ("source-date-epoch", ALL),
    ("rewrite-timestamp", ALL),
    ("annotation.KEY", IMAGES),
];

/// Parses the value of `-o`.
pub(super) fn parse(text: &str) -> Result<Parsed, String> {
    if text.is_empty() {
        return Err("expected `type=…`, a directory or `-`".to_owned());
    }
    if !text.contains('=') {
        let short = match text {
            "-" => Fields::of("tar"),
            dir => Fields {
                dest: Some(PathBuf::from(dir)),
                ..Fields::of("local")
            },
        };
        return short.finish();
    }
    let mut fields = Fields::default();
    for (key, value) in fields::pairs(text)? {
        fields.set(&key, &value)?;
    }
    fields.finish()
}

/// `--load`: the image in the store.
pub(super) fn load() -> Parsed {
    Fields::of("image").finish().expect("an image needs no key")
}

/// `--push`: every name pushed.
pub(super) fn push() -> Parsed {
    Fields::of("registry")
        .finish()
        .expect("a registry needs no key")
}

#[derive(Default)]
struct Fields {
    kind: Option<String>,
    dest: Option<PathBuf>,
    delete: bool,
    split: Option<bool>,
    names: Vec<Reference>,
    push: Option<bool>,
    by_digest: bool,
    insecure: bool,
    tar: Option<bool>,
    form: Form,
    oci_types: Option<bool>,
    epoch: Option<String>,
    rewrite_timestamp: Option<bool>,
    annotations: Vec<Annotation>,
    attest_inline: bool,
    prefix: String,
    /// Every key that was given, for the check against the type.
    given: Vec<String>,
}

impl Fields {
    fn of(kind: &str) -> Self {
        Self {
            kind: Some(kind.to_owned()),
            ..Self::default()
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let flag = || fields::flag(key, value);
        match key {
            "type" => self.kind = Some(value.to_owned()),
            // `-` is standard output, which is what no destination means.
            "dest" => self.dest = (value != "-").then(|| PathBuf::from(value)),
            "mode" => {
                self.delete = match value {
                    "copy" => false,
                    "delete" => true,
                    _ => return Err(format!("`mode={value}`: expected `copy` or `delete`")),
                }
            }
            "name" => {
                let names = value
                    .split(',')
                    .map(|name| name.trim().parse::<Reference>());
                let names: Result<Vec<_>, _> = names.collect();
                self.names.extend(names.map_err(|error| error.to_string())?);
            }
            "platform-split" => self.split = Some(flag()?),
            "push" => self.push = Some(flag()?),
            "push-by-digest" => self.by_digest = flag()?,
            "registry.insecure" => self.insecure = flag()?,
            "tar" => self.tar = Some(flag()?),
            "compression" => self.form.compression = Some(fields::compression(value)?),
            "compression-level" => {
                self.form.level = Some(fields::number(key, value)?);
            }
            "force-compression" => self.form.force = flag()?,
            "oci-mediatypes" => self.oci_types = Some(flag()?),
            "oci-artifact" => {
                self.form.attestations = match flag()? {
                    true => Shape::Artifact,
                    false => Shape::Image,
                }
            }
            "attestation-inline" => self.attest_inline = flag()?,
            "attestation-prefix" if value.contains('/') => {
                return Err(format!("`{key}={value}`: expected a name without `/`"));
            }
            "attestation-prefix" => self.prefix = value.to_owned(),
            "source-date-epoch" => self.epoch = Some(value.to_owned()),
            "rewrite-timestamp" => self.rewrite_timestamp = Some(flag()?),
            _ => match annotation::of_output(key, value) {
                Some(annotation) => self.annotations.push(annotation?),
                None => return Err(format!("there is no key `{key}`, only {}", known(None))),
            },
        }
        self.given.push(key.to_owned());
        Ok(())
    }

    /// Refuses keys that the type does not take.
    fn check(&self, kind: &str) -> Result<(), String> {
        for key in self.given.iter().filter(|key| *key != "type") {
            let name = if key.starts_with("annotation") {
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
        Ok(())
    }

    fn finish(self) -> Result<Parsed, String> {
        let kind = self.kind.as_deref().ok_or("`type=` is missing")?;
        self.check(kind)?;
        let (dest, names, mut form) = (self.dest, self.names, self.form);
        // As for docker itself, its types are the default of its archives where they will do.
        let oci_only = form.compression.is_some_and(Compression::is_oci_only);
        form.docker_types = !self.oci_types.unwrap_or(kind != "docker" || oci_only);
        let output = match kind {
            "local" => match dest {
                Some(dest) => Output::Local {
                    dest,
                    split: self.split,
                    delete: self.delete,
                    prefix: self.prefix,
                },
                None => return Err("`type=local` needs `dest=DIR`".to_owned()),
            },
            "tar" => Output::Tar {
                dest,
                split: self.split,
                prefix: self.prefix,
            },
            "oci" => Output::Oci {
                dest,
                tar: self.tar.unwrap_or(true),
                names,
                form,
            },
            "docker" => Output::Docker {
                dest,
                tar: self.tar.unwrap_or(true),
                names,
                form,
            },
            "image" | "registry" => Output::Image {
                names,
                push: self.push.unwrap_or(kind == "registry"),
                by_digest: self.by_digest,
                form,
            },
            other => {
                let all = ALL.join(", ");
                return Err(format!("there is no type `{other}`, only {all}"));
            }
        };
        Ok(Parsed {
            output,
            rewrite_timestamp: self.rewrite_timestamp,
            epoch: self.epoch,
            insecure: self.insecure,
            annotations: self.annotations,
            attest_inline: self.attest_inline,
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
            (
                "out",
                r#"Local { dest: "out", split: None, delete: false, prefix: "" }"#,
            ),
            ("-", r#"Tar { dest: None, split: None, prefix: "" }"#),
            (
                "type=local,dest=a b,mode=delete,platform-split=false",
                r#"Local { dest: "a b", split: Some(false), delete: true, prefix: "" }"#,
            ),
            (
                "type=tar,dest=-,attestation-prefix=x.",
                r#"Tar { dest: None, split: None, prefix: "x." }"#,
            ),
            (
                r#"type=tar,"dest=a,b""#,
                r#"Tar { dest: Some("a,b"), split: None, prefix: "" }"#,
            ),
            (
                "type=docker,dest=d.tar",
                r#"Docker { dest: Some("d.tar"), tar: true, names: [], form: Form { compression: None, level: None, force: false, docker_types: true, attestations: Artifact } }"#,
            ),
        ] {
            assert_eq!(shown(text), want, "{text}");
        }
        let pushed = |text| match parse(text).unwrap().output {
            Output::Image { push, .. } => push,
            _ => panic!("an image"),
        };
        assert!(pushed("type=registry") && pushed("type=image,push=true"));
        assert!(!pushed("type=image") && !pushed("type=registry,push=false"));
        let parsed =
            parse(r#"type=image,"name=a,b:1",annotation.k=v,rewrite-timestamp=true"#).unwrap();
        let names: Vec<String> = parsed
            .output
            .names()
            .iter()
            .map(Reference::familiar)
            .collect();
        assert_eq!(names, ["a:latest", "b:1"]);
        assert_eq!(parsed.annotations[0].key, "k");
        assert_eq!(parsed.rewrite_timestamp, Some(true));
    }

    #[test]
    fn the_form_of_an_image_is_read() {
        let text = "type=oci,dest=o,tar=false,compression=zstd,compression-level=7,force-compression=true,oci-mediatypes=false";
        let Output::Oci { tar, form, .. } = parse(text).unwrap().output else {
            panic!("a layout")
        };
        let want = Form {
            compression: Some(Compression::Zstd),
            level: Some(7),
            force: true,
            docker_types: true,
            attestations: Shape::Artifact,
        };
        assert_eq!((tar, form), (false, want));
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
                "`type=local` takes no `name`, only dest, mode, platform-split, attestation-prefix, source-date-epoch, rewrite-timestamp",
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
        assert!(shown("type=tar,dst=x").starts_with("there is no key `dst`, only dest, mode"));
    }
}
