//! `--attest`, and its short forms `--provenance` and `--sbom`, in docker's CSV.
//!
//! The short forms take what stands behind `type=…,`, or `true` and `false`. Each type may be asked
//! for once.

use super::fields;
use crate::build::{Attest, Provenance, Sbom, SlsaVersion};
use crate::cli::args;
use crate::cli::report::Report;

/// The generator that BuildKit uses when none is named.
const GENERATOR: &str = "docker/buildkit-syft-scanner:stable-1";

/// What is stated about the image.
#[derive(Debug, clap::Args)]
pub(super) struct AttestArgs {
    /// Statement that goes with the image: `type=provenance[,mode=min|max,version=v1|v0.2,
    /// builder-id=URL,filename=NAME,reproducible=BOOL,inline-only=BOOL]` or
    /// `type=sbom[,generator=IMAGE]`
    #[arg(long = "attest", value_name = "STATEMENT", value_parser = parse)]
    attests: Vec<One>,

    /// How the image came to be: `--attest type=provenance,…`
    #[arg(
        long,
        value_name = "OPTIONS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = provenance
    )]
    provenance: Option<One>,

    /// What is in the image: `--attest type=sbom,…`, or a preset of buildah's for the options
    /// `--sbom-…`: `syft`, `syft-spdx`, `trivy` or `trivy-spdx`
    #[arg(
        long,
        value_name = "OPTIONS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = sbom
    )]
    sbom: Option<One>,
}

/// One statement, or that there is to be none of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
enum One {
    Provenance(Option<Provenance>),
    Sbom(Option<Sbom>),
    /// A preset of buildah's, which states nothing.
    Preset(&'static str),
}

impl AttestArgs {
    /// Puts all together.
    pub(super) fn resolve(&self) -> Result<Attest, Report> {
        let mut attest = Attest::default();
        let (mut provenances, mut sboms) = (0, 0);
        for one in self
            .attests
            .iter()
            .chain(&self.provenance)
            .chain(&self.sbom)
        {
            match one.clone() {
                One::Provenance(provenance) => {
                    provenances += 1;
                    attest.provenance = provenance;
                }
                One::Sbom(sbom) => {
                    sboms += 1;
                    attest.sbom = sbom;
                }
                One::Preset(_) => {}
            }
        }
        match (provenances, sboms) {
            (2.., _) => Err(Report::wrong_use("`provenance` is asked for twice")),
            (_, 2..) => Err(Report::wrong_use("`sbom` is asked for twice")),
            _ => Ok(attest),
        }
    }

    /// The preset of a scanner that is named.
    pub(super) fn preset(&self) -> Option<&'static str> {
        match self.sbom {
            Some(One::Preset(name)) => Some(name),
            _ => None,
        }
    }
}

fn parse(text: &str) -> Result<One, String> {
    let mut kind = None;
    let mut options = Vec::new();
    for (key, value) in fields::pairs(text)? {
        match key.as_str() {
            "type" => kind = Some(value),
            _ => options.push((key, value)),
        }
    }
    match kind.as_deref() {
        Some("provenance") => of_provenance(options).map(One::Provenance),
        Some("sbom") => of_sbom(options).map(One::Sbom),
        Some(other) => Err(format!(
            "there is no type `{other}`, only provenance and sbom"
        )),
        None => Err("`type=` is missing".to_owned()),
    }
}

fn provenance(text: &str) -> Result<One, String> {
    parse(&long("provenance", text))
}

fn sbom(text: &str) -> Result<One, String> {
    match args::preset(text) {
        Some(name) => Ok(One::Preset(name)),
        None => parse(&long("sbom", text)),
    }
}

/// The long form of a short one.
fn long(kind: &str, text: &str) -> String {
    match fields::flag(kind, text) {
        Ok(wanted) => format!("type={kind},disabled={}", !wanted),
        Err(_) => format!("type={kind},{text}"),
    }
}

fn of_provenance(options: Vec<(String, String)>) -> Result<Option<Provenance>, String> {
    let mut out = Provenance::default();
    let mut disabled = false;
    for (key, value) in options {
        match key.as_str() {
            "mode" => {
                out.max = match value.as_str() {
                    "min" => false,
                    "max" => true,
                    _ => return Err(format!("`mode={value}`: expected `min` or `max`")),
                }
            }
            "version" => {
                out.version = match value.as_str() {
                    "v1" => SlsaVersion::V1,
                    "v0.2" => SlsaVersion::V02,
                    _ => return Err(format!("`version={value}`: expected `v1` or `v0.2`")),
                }
            }
            "builder-id" => out.builder_id = value,
            "filename" if value.is_empty() || value.contains('/') => {
                return Err(format!("`filename={value}`: expected a name without `/`"));
            }
            "filename" => out.filename = value,
            "reproducible" => out.reproducible = fields::flag(&key, &value)?,
            "inline-only" => out.inline_only = fields::flag(&key, &value)?,
            "disabled" => disabled = fields::flag(&key, &value)?,
            _ => {
                let known = "mode, version, builder-id, filename, reproducible, inline-only";
                return Err(format!("`type=provenance` takes no `{key}`, only {known}"));
            }
        }
    }
    Ok((!disabled).then_some(out))
}

fn of_sbom(options: Vec<(String, String)>) -> Result<Option<Sbom>, String> {
    let mut generator = GENERATOR.to_owned();
    let mut parameters = Vec::new();
    let mut disabled = false;
    let is_name = |key: &str| {
        key.bytes()
            .all(|b| b == b'_' || b.is_ascii_uppercase() || b.is_ascii_digit())
    };
    for (key, value) in options {
        match key.as_str() {
            "generator" if !value.is_empty() => generator = value,
            "generator" => {}
            "disabled" => disabled = fields::flag(&key, &value)?,
            name if is_name(name) => parameters.push((key, value)),
            _ => {
                let known = "generator, and names in capitals for the generator";
                return Err(format!("`type=sbom` takes no `{key}`, only {known}"));
            }
        }
    }
    let generator = generator.parse().map_err(|error| format!("{error}"))?;
    Ok((!disabled).then_some(Sbom {
        generator,
        parameters,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_are_long_ones() {
        for (short, long) in [
            (provenance("true"), "type=provenance"),
            (provenance("mode=min"), "type=provenance,mode=min"),
            (provenance("false"), "type=provenance,disabled=true"),
            (sbom("true"), "type=sbom"),
            (sbom("generator=a/b"), "type=sbom,generator=a/b"),
        ] {
            assert_eq!(short, parse(long), "{long}");
        }
        let Ok(One::Sbom(Some(sbom))) = parse("type=sbom,LEVEL=2") else {
            panic!("a scan")
        };
        assert_eq!(sbom.generator.familiar(), GENERATOR);
        assert_eq!(sbom.parameters, [("LEVEL".to_owned(), "2".to_owned())]);
    }

    #[test]
    fn options_of_provenance_are_read() {
        let text = "type=provenance,mode=min,version=v0.2,builder-id=https://b/1,filename=p.json,\
                    reproducible=true,inline-only=1";
        let want = Provenance {
            max: false,
            version: SlsaVersion::V02,
            builder_id: "https://b/1".to_owned(),
            filename: "p.json".to_owned(),
            reproducible: true,
            inline_only: true,
        };
        assert_eq!(parse(text), Ok(One::Provenance(Some(want))));
        assert_eq!(
            parse("type=provenance"),
            Ok(One::Provenance(Some(Provenance::default())))
        );
    }

    #[test]
    fn mistakes_name_what_would_be_right() {
        for (text, want) in [
            ("mode=min", "`type=` is missing"),
            (
                "type=vex",
                "there is no type `vex`, only provenance and sbom",
            ),
            (
                "type=provenance,mode=all",
                "`mode=all`: expected `min` or `max`",
            ),
            (
                "type=provenance,version=v2",
                "`version=v2`: expected `v1` or `v0.2`",
            ),
            (
                "type=provenance,filename=../x",
                "`filename=../x`: expected a name without `/`",
            ),
            ("type=provenance,max", "`max` is no `key=value`"),
            (
                "type=provenance,reproducible=yes",
                "expected `true` or `false`",
            ),
            (
                "type=provenance,x=y",
                "`type=provenance` takes no `x`, only mode",
            ),
            (
                "type=sbom,scanner=x",
                "`type=sbom` takes no `scanner`, only generator",
            ),
            ("type=sbom,generator=A B", "A B"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(want), "{text}: {why}");
        }
    }
}
