//! Findings as SARIF 2.1.0, which code hosts show beside the lines.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::told;
use crate::build::{self, check::Checked};
use crate::dockerfile::{Rule, Warning};

/// Returns the log of one run.
pub(super) fn log(checked: &Checked) -> Value {
    let rules: BTreeSet<Rule> = checked.warnings.iter().map(|w| w.rule).collect();
    let rules: Vec<Rule> = rules.into_iter().collect();
    let fails = matches!(checked.error, Some(build::Error::Lint { .. }));
    let uri = checked.file.name();
    let place = |first: usize, last: usize| {
        json!([{
            "physicalLocation": {
                "artifactLocation": { "uri": uri },
                "region": { "startLine": first, "endLine": last },
            },
        }])
    };
    let result = |warning: &Warning| {
        json!({
            "ruleId": warning.rule.name(),
            "ruleIndex": rules.iter().position(|rule| *rule == warning.rule),
            "level": if fails { "error" } else { "warning" },
            "message": { "text": warning.text },
            "locations": place(warning.line, warning.last_line),
        })
    };
    let results: Vec<Value> = checked.warnings.iter().map(result).collect();
    let described: Vec<Value> = rules.iter().map(|rule| descriptor(*rule)).collect();
    let mut notes = Vec::new();
    if let Some(error) = checked.error.as_ref().filter(|_| !fails) {
        let (message, lines) = told(error);
        let mut note = json!({ "level": "error", "message": { "text": message } });
        if let Some((first, last)) = lines {
            note["locations"] = place(first, last);
        }
        notes.push(note);
    }
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": {
                    "name": "cooper",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": described,
                },
            },
            "invocations": [{
                "executionSuccessful": notes.is_empty(),
                "toolExecutionNotifications": notes,
            }],
            "results": results,
        }],
    })
}

fn descriptor(rule: Rule) -> Value {
    json!({
        "id": rule.name(),
        "shortDescription": { "text": rule.description() },
        "helpUri": rule.url(),
    })
}
