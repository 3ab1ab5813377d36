//! `check`, and what `build --check` and `build --call` ask for: a look at the Dockerfile.
//!
//! What was found goes to standard output, in BuildKit's words and in its JSON; an error of the
//! file itself is reported like any other. The exit code is 1 when there is either.

mod outline;
mod sarif;
mod text;

use std::process::ExitCode;

use base64::Engine;
use serde_json::{Value, json};

use super::build::Build;
use crate::build::check::{self, Checked};
use crate::build::{self, Request};
use crate::cli::report::{FAILED, Report};
use crate::cli::{Session, ui};
use crate::dockerfile::{Source, Warning};
use crate::store::Store;

/// Check a Dockerfile without building it
///
/// Applies BuildKit's rules to every stage, or to those that `--target` needs. Nothing is run and
/// no image is pulled. The exit code is 1 when something was found.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    #[command(flatten)]
    build: Build,

    /// How findings are written: text, json or sarif
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: Option<Format>,
}

/// What is asked of a Dockerfile instead of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    method: Method,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Build,
    Check,
    Outline,
    Targets,
    Describe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    Sarif,
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        "sarif" => Ok(Format::Sarif),
        _ => Err("expected text, json or sarif".to_owned()),
    }
}

/// Reads `METHOD[,format=FORMAT]`.
pub(crate) fn call(text: &str) -> Result<Call, String> {
    let mut parts = text.split(',');
    let method = match parts.next().unwrap_or_default() {
        "build" => Method::Build,
        "check" | "lint" => Method::Check,
        "outline" => Method::Outline,
        "targets" => Method::Targets,
        "subrequests.describe" => Method::Describe,
        _ => return Err("expected build, check, outline, targets or subrequests.describe".into()),
    };
    let mut call = Call {
        method,
        format: Format::Text,
    };
    for part in parts {
        match part.split_once('=') {
            Some(("format", text)) => call.format = format(text)?,
            _ => return Err(format!("`{part}`: expected `format=text|json|sarif`")),
        }
    }
    if call.format == Format::Sarif && method != Method::Check {
        return Err("only `check` is written as sarif".to_owned());
    }
    Ok(call)
}

impl Call {
    /// What `--check` means.
    pub(crate) const CHECK: Self = Self {
        method: Method::Check,
        format: Format::Text,
    };

    /// Returns whether the Dockerfile is to be built after all.
    pub(crate) fn builds(self) -> bool {
        self.method == Method::Build
    }

    /// Does it.
    pub(crate) fn run(self, store: &Store, request: &Request) -> Result<ExitCode, Report> {
        match (self.method, self.format) {
            (Method::Build | Method::Check, format) => show(check::check(store, request)?, format),
            (Method::Outline, format) => {
                let outline = check::outline(store, request)?;
                write(&match format {
                    Format::Text => outline::text(&outline),
                    _ => pretty(&outline::json(&outline)),
                })
            }
            (Method::Targets, format) => {
                let targets = check::targets(store, request)?;
                write(&match format {
                    Format::Text => outline::targets_text(&targets),
                    _ => pretty(&outline::targets_json(&targets)),
                })
            }
            (Method::Describe, Format::Text) => write(&outline::methods_text()),
            (Method::Describe, _) => write(&pretty(&outline::methods_json())),
        }
    }
}

impl Check {
    /// Checks, or answers `--call`.
    pub(crate) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let mut call = self.build.call().unwrap_or(Call::CHECK);
        if let Some(format) = self.format {
            call.format = format;
        }
        if call.builds() {
            call.method = Method::Check;
        }
        self.build.look(session, call)
    }
}

fn show(checked: Checked, format: Format) -> Result<ExitCode, Report> {
    let clean = checked.warnings.is_empty() && checked.error.is_none();
    let exit = if clean { 0 } else { FAILED };
    match format {
        Format::Text => {
            if checked.error.is_none() || !checked.warnings.is_empty() {
                ui::raw_data(text::findings(&checked.file, &checked.warnings).as_bytes())?;
            }
            if let Some(error) = checked.error {
                return Err(error.into());
            }
        }
        Format::Json => ui::data(&pretty(&as_json(&checked)))?,
        Format::Sarif => ui::data(&pretty(&sarif::log(&checked)))?,
    }
    Ok(ExitCode::from(exit))
}

fn write(text: &str) -> Result<ExitCode, Report> {
    ui::data(&text.trim_end_matches('\n'))?;
    Ok(ExitCode::SUCCESS)
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// Returns what BuildKit's `lint` request answers.
fn as_json(checked: &Checked) -> Value {
    let warning = |warning: &Warning| {
        json!({
            "ruleName": warning.rule.name(),
            "description": warning.rule.description(),
            "url": warning.rule.url(),
            "detail": warning.text,
            "location": location(warning.line, warning.last_line),
        })
    };
    let warnings: Vec<Value> = checked.warnings.iter().map(warning).collect();
    let mut value = json!({
        "warnings": warnings,
        "sources": [{
            "fileName": checked.file.name(),
            "data": encoded(&checked.file),
            "language": "Dockerfile",
        }],
    });
    if let Some(error) = &checked.error {
        let (message, lines) = told(error);
        let mut told = json!({ "message": message });
        if let Some((first, last)) = lines {
            told["location"] = location(first, last);
        }
        value["buildError"] = told;
    }
    value
}

/// Returns what is wrong with the file, and on which lines.
fn told(error: &build::Error) -> (String, Option<(usize, usize)>) {
    match error {
        build::Error::Dockerfile { error, .. } => {
            (error.to_string(), Some((error.line, error.last_line)))
        }
        build::Error::Step {
            file, span, error, ..
        } => (error.to_string(), Some(file.lines(*span))),
        other => (other.to_string(), None),
    }
}

fn location(first: usize, last: usize) -> Value {
    json!({ "ranges": [{ "start": { "line": first }, "end": { "line": last } }] })
}

fn encoded(file: &Source) -> String {
    base64::engine::general_purpose::STANDARD.encode(file.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_as_buildx_reads_them() {
        let read = |text| call(text).map(|call| (call.method, call.format));
        for check in ["check", "lint"] {
            assert_eq!(read(check), Ok((Method::Check, Format::Text)));
        }
        assert_eq!(
            read("targets,format=json"),
            Ok((Method::Targets, Format::Json))
        );
        assert_eq!(
            read("check,format=sarif"),
            Ok((Method::Check, Format::Sarif))
        );
        for wrong in ["", "chek", "check,json", "outline,format=sarif"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
