//! `--cache-from` and `--cache-to`, as [`fields`]. A value without any `=` is a name in a registry.

mod service;

use std::path::PathBuf;
use std::time::Duration;

use super::fields;
use crate::build::{CacheExport, CacheTarget, Form};
use crate::dockerfile;
use crate::image::{Compression, Reference};
use crate::transfer::{CachePlace, Network, Pick, Service};

/// Services whose caches are not spoken to.
const ELSEWHERE: [&str; 2] = ["gcs", "oss"];

/// Earlier results: which count, and where they come from and go to.
#[derive(Debug, clap::Args)]
pub(super) struct CacheArgs {
    /// Run every step again
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "false",
        action = clap::ArgAction::Set,
        hide_default_value = true,
    )]
    pub(super) no_cache: bool,

    /// Run every step of this stage again
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(super) no_cache_filter: Vec<String>,

    /// Results that other builds left: a name in a registry, `type=registry,ref=NAME` (also an
    /// image that carries them), `type=local,src=DIR[,tag=TAG|,digest=DIGEST]`,
    /// `type=s3,bucket=NAME,region=REGION`, `type=azblob,account_url=URL` or `type=gha`. May be
    /// given several times
    #[arg(long = "cache-from", value_name = "CACHE", value_parser = parse_import)]
    from: Vec<Place>,

    /// Where this build leaves its results: a name in a registry, `type=registry,ref=NAME`,
    /// `type=local,dest=DIR`, `type=inline`, or one of the services of `--cache-from`, with
    /// `mode=min|max`, `compression=` and more. May be given several times
    #[arg(long = "cache-to", value_name = "CACHE", value_parser = parse_export)]
    to: Vec<Export>,

    /// Results made longer ago than this do not count, such as `24h`
    #[arg(long = "cache-ttl", value_name = "DURATION", value_parser = ttl)]
    pub(super) ttl: Option<Duration>,

    /// One layer for each step, which is the default; `false` makes one of all, as `--squash`
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "true",
        action = clap::ArgAction::Set,
        hide_default_value = true,
    )]
    pub(super) layers: bool,

    /// Keep the stages that the result needs as images without a name
    #[arg(long)]
    pub(super) save_stages: bool,

    /// Label the result and saved stages with their stage's name and base
    #[arg(long, requires = "save_stages")]
    pub(super) stage_labels: bool,
}

/// A place, before it is known how registries are reached.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    Registry { name: Reference, insecure: bool },
    Layout { dir: PathBuf, pick: Pick },
    Service(Box<Service>),
}

/// One `--cache-to`.
#[derive(Debug, Clone)]
struct Export {
    /// `None` is the image itself.
    place: Option<Place>,
    reset: bool,
    max: bool,
    form: Form,
    index: bool,
    ignore_error: bool,
}

impl CacheArgs {
    /// Returns where results come from.
    pub(super) fn imports(&self, network: &Network) -> Vec<CachePlace> {
        self.from.iter().map(|place| place.by(network)).collect()
    }

    /// Returns where results go.
    pub(super) fn exports(&self, network: &Network) -> Vec<CacheExport> {
        let export = |export: &Export| CacheExport {
            to: match &export.place {
                None => CacheTarget::Inline,
                Some(place) => CacheTarget::Place {
                    place: place.by(network),
                    reset: export.reset,
                },
            },
            max: export.max,
            form: export.form.clone(),
            index: export.index,
            ignore_error: export.ignore_error,
        };
        self.to.iter().map(export).collect()
    }
}

impl Place {
    fn by(&self, network: &Network) -> CachePlace {
        match self.clone() {
            Self::Registry { name, insecure } => CachePlace::Registry {
                name,
                network: match insecure {
                    true => network.unverified(),
                    false => network.clone(),
                },
            },
            Self::Layout { dir, pick } => CachePlace::Layout { dir, pick },
            Self::Service(service) => CachePlace::Service {
                service,
                network: network.clone(),
            },
        }
    }
}

/// The keys of a direction, with the types that take them.
type Keys = [(&'static str, &'static [&'static str])];

const IMPORT: &Keys = &[
    ("ref", &["registry"]),
    ("registry.insecure", &["registry"]),
    ("src", &["local"]),
    ("tag", &["local"]),
    ("digest", &["local"]),
];

const IMPORTED: &[&str] = &["registry", "local", "s3", "azblob", "gha"];

const WRITTEN: &[&str] = &["registry", "local"];
const KEPT: &[&str] = &["registry", "local", "s3", "azblob", "gha"];
const EXPORTED: &[&str] = &["registry", "local", "inline", "s3", "azblob", "gha"];
const EXPORT: &Keys = &[
    ("ref", &["registry"]),
    ("registry.insecure", &["registry"]),
    ("dest", &["local"]),
    ("tag", &["local"]),
    ("reset", &["local"]),
    ("mode", EXPORTED),
    ("compression", WRITTEN),
    ("compression-level", WRITTEN),
    ("force-compression", WRITTEN),
    ("oci-mediatypes", WRITTEN),
    ("image-manifest", WRITTEN),
    ("ignore-error", KEPT),
];

/// What was given, held against a table of keys.
struct Given {
    kind: String,
    pairs: Vec<(String, String)>,
}

impl Given {
    /// Reads `text` for one direction, of which `types` are there.
    fn read(text: &str, keys: &Keys, types: &[&str]) -> Result<Self, String> {
        let pairs = match text.contains('=') {
            true => fields::private_pairs(text)?,
            false => vec![
                ("type".to_owned(), "registry".to_owned()),
                ("ref".to_owned(), text.to_owned()),
            ],
        };
        let kind = pairs.iter().rfind(|(key, _)| key == "type");
        let kind = kind.map(|(_, kind)| kind.clone());
        let kind = kind.ok_or("`type=` is missing")?;
        if ELSEWHERE.contains(&kind.as_str()) {
            let works = types.join(", ");
            return Err(format!("`type={kind}` is not supported, only {works}"));
        }
        if !types.contains(&kind.as_str()) {
            return Err(format!(
                "there is no type `{kind}`, only {}",
                types.join(", ")
            ));
        }
        for (key, _) in pairs.iter().filter(|(key, _)| key != "type") {
            let takes = |entry: &&(&str, &[&str])| entry.1.contains(&kind.as_str());
            let known = keys.iter().chain(service::KEYS).filter(takes);
            let known: Vec<_> = known.map(|(key, _)| *key).collect();
            if !known.contains(&key.as_str()) {
                let known = known.join(", ");
                return Err(format!("`type={kind}` takes no `{key}`, only {known}"));
            }
        }
        Ok(Self { kind, pairs })
    }

    fn get(&self, wanted: &str) -> Option<&str> {
        let found = self.pairs.iter().rfind(|(key, _)| key == wanted);
        found.map(|(_, value)| value.as_str())
    }

    fn need(&self, key: &str, value: &str) -> Result<&str, String> {
        self.get(key)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| format!("`type={}` needs `{key}={value}`", self.kind))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.get(key)
            .map(|value| fields::flag(key, value))
            .transpose()
    }

    fn registry(&self) -> Result<Place, String> {
        let name = self.need("ref", "NAME")?;
        Ok(Place::Registry {
            name: name.parse().map_err(|error| format!("{error}"))?,
            insecure: self.flag("registry.insecure")?.unwrap_or(false),
        })
    }

    fn service(&self) -> Result<Place, String> {
        Ok(Place::Service(Box::new(service::read(self)?)))
    }

    fn layout(&self, key: &str) -> Result<Place, String> {
        let dir = PathBuf::from(self.need(key, "DIR")?);
        let pick = match (self.get("digest"), self.get("tag")) {
            (Some(_), Some(_)) => return Err("a `digest` has no `tag`".to_owned()),
            (Some(digest), None) => {
                Pick::Digest(digest.parse().map_err(|error| format!("{error}"))?)
            }
            (None, tag) => Pick::Named(tag.unwrap_or("latest").to_owned()),
        };
        Ok(Place::Layout { dir, pick })
    }
}

fn parse_import(text: &str) -> Result<Place, String> {
    let given = Given::read(text, IMPORT, IMPORTED)?;
    match given.kind.as_str() {
        "local" => given.layout("src"),
        "registry" => given.registry(),
        _ => given.service(),
    }
}

fn parse_export(text: &str) -> Result<Export, String> {
    let given = Given::read(text, EXPORT, EXPORTED)?;
    let place = match given.kind.as_str() {
        "inline" => None,
        "local" => Some(given.layout("dest")?),
        "registry" => Some(given.registry()?),
        _ => Some(given.service()?),
    };
    let max = match given.get("mode") {
        None | Some("min") => false,
        Some("max") if place.is_none() => {
            return Err(
                "an image holds its own layers only: `type=inline` has no `mode=max`".into(),
            );
        }
        Some("max") => true,
        Some(mode) => return Err(format!("`mode={mode}`: expected `min` or `max`")),
    };
    let docker_types = given.flag("oci-mediatypes")? == Some(false);
    let manifest = given.flag("image-manifest")?;
    if docker_types && manifest == Some(true) {
        return Err("`image-manifest=true` needs `oci-mediatypes=true`".to_owned());
    }
    let level = given.get("compression-level");
    Ok(Export {
        place,
        reset: given.flag("reset")?.unwrap_or(false),
        max,
        form: Form {
            compression: given.get("compression").map(packed).transpose()?,
            level: level
                .map(|level| fields::number("compression-level", level))
                .transpose()?,
            force: given.flag("force-compression")?.unwrap_or(false),
            docker_types,
            ..Form::default()
        },
        index: !manifest.unwrap_or(!docker_types),
        ignore_error: given.flag("ignore-error")?.unwrap_or(false),
    })
}

fn ttl(text: &str) -> Result<Duration, String> {
    let parsed = dockerfile::go_duration(text);
    parsed.ok_or_else(|| "expected a duration such as `24h` or `1h30m`".to_owned())
}

/// Reads how layers of a cache are compressed.
fn packed(text: &str) -> Result<Compression, String> {
    match fields::compression(text)? {
        Compression::Estargz => Err(format!(
            "`compression={text}` changes the diff ids by which a cache knows its layers"
        )),
        compression => Ok(compression),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(text: &str) -> String {
        match parse_import(text) {
            Ok(Place::Registry { name, insecure }) => format!("{} {insecure}", name.full()),
            Ok(Place::Layout { dir, pick }) => format!("{} {pick:?}", dir.display()),
            Ok(Place::Service(service)) => service.shown(),
            Err(why) => why,
        }
    }

    fn refused(text: &str) -> String {
        parse_export(text).unwrap_err()
    }

    #[test]
    fn a_bare_name_is_a_cache_in_a_registry() {
        assert_eq!(imported("user/app:cache"), "docker.io/user/app:cache false");
        let export = parse_export("user/app").unwrap();
        let name = "user/app".parse().unwrap();
        let insecure = false;
        assert_eq!(export.place, Some(Place::Registry { name, insecure }));
        assert!(!export.max && !export.index && !export.ignore_error);
    }

    #[test]
    fn imports_are_read_as_docker_writes_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, want) in [
            (
                "type=registry,ref=r.example/a:b,registry.insecure=true",
                "r.example/a:b true".to_owned(),
            ),
            ("type=local,src=d", "d Named(\"latest\")".to_owned()),
            ("type=local,src=d,tag=x", "d Named(\"x\")".to_owned()),
            (
                &format!("type=local,src=d,digest={digest}"),
                format!("d Digest({digest})"),
            ),
        ] {
            assert_eq!(imported(text), want, "{text}");
        }
    }

    #[test]
    fn the_form_of_an_export_is_read() {
        let text = "type=local,dest=d,tag=t,mode=max,compression=zstd,compression-level=3,\
                    force-compression=true,image-manifest=false,ignore-error=true,reset=true";
        let export = parse_export(text).unwrap();
        assert!(export.max && export.index && export.ignore_error && export.reset);
        assert_eq!(export.form.level, Some(3));
        assert!(export.form.force && !export.form.docker_types);
        let docker = parse_export("type=registry,ref=a,oci-mediatypes=false").unwrap();
        assert!(docker.index && docker.form.docker_types);
        assert_eq!(parse_export("type=inline").unwrap().place, None);
    }

    #[test]
    fn mistakes_name_what_would_be_right() {
        for (text, want) in [
            ("type=local", "`type=local` needs `dest=DIR`"),
            ("type=registry", "`type=registry` needs `ref=NAME`"),
            ("mode=max", "`type=` is missing"),
            (
                "type=zip",
                "there is no type `zip`, only registry, local, inline, s3, azblob, gha",
            ),
            (
                "type=gcs",
                "`type=gcs` is not supported, only registry, local, inline, s3, azblob, gha",
            ),
            (
                "type=inline,mode=max",
                "an image holds its own layers only: `type=inline` has no `mode=max`",
            ),
            (
                "type=inline,ref=a",
                "`type=inline` takes no `ref`, only mode",
            ),
            (
                "type=registry,ref=a,mode=most",
                "`mode=most`: expected `min` or `max`",
            ),
            (
                "type=registry,ref=a,compression=estargz",
                "`compression=estargz` changes the diff ids by which a cache knows its layers",
            ),
            (
                "type=registry,ref=a,oci-mediatypes=false,image-manifest=true",
                "`image-manifest=true` needs `oci-mediatypes=true`",
            ),
        ] {
            assert_eq!(refused(text), want, "{text}");
        }
        assert_eq!(
            imported("type=oss,bucket=b"),
            "`type=oss` is not supported, only registry, local, s3, azblob, gha"
        );
        assert_eq!(
            imported("type=azblob,mode=max"),
            "`type=azblob` takes no `mode`, only name, prefix, manifests_prefix, blobs_prefix, \
             secret_access_key, account_url, account_name, container"
        );
        assert_eq!(
            imported("type=local,src=d,tag=a,digest=b"),
            "a `digest` has no `tag`"
        );
        assert_eq!(ttl("90m"), Ok(Duration::from_secs(5400)));
        assert!(ttl("-1h").is_err() && ttl("soon").is_err());
    }
}
