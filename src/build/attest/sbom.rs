//! SBOMs by BuildKit's scanner protocol (docs/attestations/sbom-protocol.md).
//!
//! A generator is an image. Its program is run as one more stage of the plan, with the files of the
//! result mounted read-only at [`CORE`] and those of further stages and the context below
//! [`EXTRAS`], and writes statements into [`OUT`]. So a scan is cached like any step: what was
//! scanned once with the same generator is not scanned again.

use std::io::Read;

use serde_json::Value;

use crate::dockerfile::go_bool;
use crate::image::ContainerConfig;
use crate::layer::{Kind, Tree};

use super::super::error::{Error, ScanError};
use super::super::images::BaseImage;
use super::super::request::Request;
use super::super::scan::{Program, Stage, bind, path};
use super::super::scope::Env;
use super::super::step::{CopyFrom, Plan};
use super::{Predicate, Sbom};

/// Where the files of the result are.
const CORE: &str = "/run/src/core/sbom";
/// Where further files are, each in a directory `sbom-NAME`.
const EXTRAS: &str = "/run/src/extras";
/// Where the generator writes.
const OUT: &str = "/run/out";
/// Greatest size of one statement.
const CAP: u64 = 40 << 20;
/// The statement about the result; it comes first.
const CORE_FILE: &str = "sbom.spdx.json";

/// Variables that say what else is scanned; no step sees them.
pub(in crate::build) const SCAN_STAGE: &str = "BUILDKIT_SBOM_SCAN_STAGE";
/// As [`SCAN_STAGE`], for the build context.
pub(in crate::build) const SCAN_CONTEXT: &str = "BUILDKIT_SBOM_SCAN_CONTEXT";

/// What a stage wants to have scanned besides the result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::build) struct Scan {
    /// Its own files.
    pub(in crate::build) stage: bool,
    /// The build context, if this is the stage that is built.
    pub(in crate::build) context: bool,
}

impl Scan {
    /// Takes the value of one of the two variables in the stage `label`: a boolean, or names of
    /// stages. Returns whether `name` is one of them.
    pub(in crate::build) fn set(&mut self, name: &str, value: Option<&str>, label: &str) -> bool {
        let wanted = match name {
            SCAN_STAGE => &mut self.stage,
            SCAN_CONTEXT => &mut self.context,
            _ => return false,
        };
        if let Some(value) = value {
            let named = || value.split(',').any(|name| name.trim() == label);
            *wanted = go_bool(value).unwrap_or_else(named);
        }
        true
    }
}

/// Adds the scan of the result to a plan. `scanner` is the place of its image among those of the
/// plan, `first` the number of the first of its two steps.
pub(in crate::build) fn add(
    plan: &mut Plan,
    scanner: (usize, &BaseImage),
    asked: &Sbom,
    request: &Request,
    first: u32,
) -> Result<(), Error> {
    let config = &scanner.1.config().config;
    let generator = asked.generator.familiar();
    let extras = extras(plan);
    let mut needs = vec![plan.target];
    let stages = extras.iter().filter_map(|(_, from)| match from {
        CopyFrom::Stage(stage) => Some(*stage),
        _ => None,
    });
    needs.extend(stages);
    let Some(program) = program(config, plan.target, extras, asked) else {
        let error = ScanError::NoProgram;
        return Err(Error::Scan { generator, error });
    };
    let mut stage = Stage::new(plan, scanner, request, (&generator, OUT), first);
    stage.run(format!("generating sbom using {generator}"), program);
    stage.put(plan, needs);
    Ok(())
}

/// The program of the generator over what it is to scan; `None` if the image names none.
fn program(
    config: &ContainerConfig,
    target: usize,
    extras: Vec<(String, CopyFrom)>,
    asked: &Sbom,
) -> Option<Program> {
    let words = [&config.entrypoint, &config.cmd].into_iter().flatten();
    let argv: Vec<String> = words.flatten().cloned().collect();
    if argv.is_empty() {
        return None;
    }
    let mut env = Env::from_pairs(&config.env);
    let mut set = |name: &str, value: &str| env.set(&format!("BUILDKIT_SCAN_{name}"), value);
    set("DESTINATION", OUT);
    set("SOURCE", CORE);
    if !extras.is_empty() {
        set("SOURCE_EXTRAS", EXTRAS);
    }
    for (name, value) in &asked.parameters {
        set(name, value);
    }
    let extra = |(name, from)| bind(&format!("{EXTRAS}/sbom-{name}"), from);
    let core = bind(CORE, CopyFrom::Stage(target));
    Some(Program {
        argv,
        env,
        mounts: std::iter::once(core)
            .chain(extras.into_iter().map(extra))
            .collect(),
        hostname: "buildkitsandbox",
    })
}

/// What is scanned besides the result, by name.
fn extras(plan: &Plan) -> Vec<(String, CopyFrom)> {
    let mut extras = Vec::new();
    if plan.stages[plan.target].scan.context {
        extras.push(("context".to_owned(), CopyFrom::Context));
    }
    for (at, stage) in plan.stages.iter().enumerate() {
        if at != plan.target && stage.scan.stage {
            extras.push((stage.label.clone(), CopyFrom::Stage(at)));
        }
    }
    extras
}

/// Reads what the generator wrote; `files` is its file system after the scan.
pub(in crate::build) fn predicates(
    files: &dyn Tree,
    asked: &Sbom,
) -> Result<Vec<Predicate>, Error> {
    let failed = |error| Error::Scan {
        generator: asked.generator.familiar(),
        error,
    };
    let dir = path(OUT);
    let mut found = Vec::new();
    for (name, entry) in files.scan(&dir)? {
        let Ok(name) = String::from_utf8(name) else {
            continue;
        };
        let (Kind::File { size }, true) = (entry.node.kind, name.ends_with(".json")) else {
            continue;
        };
        if size > CAP {
            return Err(failed(ScanError::TooLarge { file: name, size }));
        }
        let mut bytes = Vec::new();
        if let Some(content) = &entry.node.content {
            let read = content.open(size)?.take(CAP).read_to_end(&mut bytes);
            read.map_err(|source| failed(ScanError::Read { source }))?;
        }
        found.push(read(name, &bytes).map_err(failed)?);
    }
    if found.is_empty() {
        return Err(failed(ScanError::Nothing));
    }
    found.sort_by_key(|predicate| (predicate.file != CORE_FILE, predicate.file.clone()));
    Ok(found)
}

/// Reads one file: a statement, whose subject is ours to name, or a bare document.
fn read(file: String, bytes: &[u8]) -> Result<Predicate, ScanError> {
    let wrong = |why| ScanError::Statement {
        file: file.clone(),
        why,
    };
    let mut value: Value =
        serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
    let kind = value.get("predicateType").and_then(Value::as_str);
    let (kind, value) = match (kind, value.get("spdxVersion"), value.get("bomFormat")) {
        (Some(kind), ..) if kind.starts_with(super::provenance::KIND) => {
            return Err(wrong("a generator states no provenance".to_owned()));
        }
        (Some(kind), ..) => (kind.to_owned(), value["predicate"].take()),
        (None, Some(_), _) => ("https://spdx.dev/Document".to_owned(), value),
        (None, None, Some(_)) => ("https://cyclonedx.org/bom".to_owned(), value),
        (None, None, None) => {
            return Err(wrong("it is no statement and no SPDX document".to_owned()));
        }
    };
    if value.is_null() {
        return Err(wrong("the statement has no predicate".to_owned()));
    }
    Ok(Predicate {
        kind,
        value,
        file,
        inline_only: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_is_asked_for_by_a_boolean_or_by_names() {
        let asked = |value: Option<&str>| {
            let mut scan = Scan::default();
            assert!(scan.set(SCAN_STAGE, value, "build"));
            scan.stage
        };
        assert!(asked(Some("true")) && asked(Some("1")) && asked(Some("base,build")));
        assert!(!asked(Some("false")) && !asked(Some("base")) && !asked(None));
        assert!(!Scan::default().set("OTHER", Some("true"), "build"));
    }

    #[test]
    fn statements_and_bare_documents_are_taken() {
        let kind = |text: &str| read("x.json".to_owned(), text.as_bytes()).map(|p| p.kind);
        let statement = r#"{"predicateType":"https://spdx.dev/Document","predicate":{"a":1}}"#;
        assert_eq!(kind(statement).unwrap(), "https://spdx.dev/Document");
        assert_eq!(
            kind(r#"{"spdxVersion":"SPDX-2.3"}"#).unwrap(),
            "https://spdx.dev/Document"
        );
        assert_eq!(
            kind(r#"{"bomFormat":"CycloneDX"}"#).unwrap(),
            "https://cyclonedx.org/bom"
        );
        for bad in [
            "",
            "{}",
            r#"{"predicateType":"https://spdx.dev/Document"}"#,
            r#"{"predicateType":"https://slsa.dev/provenance/v1","predicate":{}}"#,
        ] {
            assert!(kind(bad).is_err(), "{bad}");
        }
    }
}
