//! Outlines and lists of targets, as BuildKit and buildx write them.

use serde_json::{Map, Value, json};

use super::location;
use crate::build::check::{Named, Outline, OutlineArg, Target};
use crate::cli::ui::clean::{Colours, clean};
use crate::cli::ui::table::render;

/// What `--call` can ask, as BuildKit describes it.
const METHODS: [(&str, &str); 4] = [
    (
        "outline",
        "List all parameters current build target supports",
    ),
    ("targets", "List all targets current build supports"),
    ("check", "Lint a Dockerfile"),
    ("subrequests.describe", "List available subrequest types"),
];

/// Returns an outline as tables.
pub(super) fn text(outline: &Outline) -> String {
    let mut out = String::new();
    if let Some(name) = &outline.name {
        out.push_str(&format!("TARGET:      {name}\n"));
    }
    if let Some(description) = &outline.description {
        let description = clean(description, Colours::Drop);
        out.push_str(&format!("DESCRIPTION: {description}\n"));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    if !outline.args.is_empty() {
        let row = |arg: &OutlineArg| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            vec![arg.name.clone(), text(&arg.value), text(&arg.description)]
        };
        let rows = outline.args.iter().map(row).collect();
        out.push_str(&table(&["BUILD ARG", "VALUE", "DESCRIPTION"], rows));
        out.push('\n');
    }
    for (title, named) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !named.is_empty() {
            let required = |named: &Named| if named.required { "true" } else { "" }.to_owned();
            let row = |named: &Named| vec![named.name.clone(), required(named)];
            let rows = named.iter().map(row).collect();
            out.push_str(&table(&[title, "REQUIRED"], rows));
            out.push('\n');
        }
    }
    out
}

/// Returns an outline in BuildKit's JSON.
pub(super) fn json(outline: &Outline) -> Value {
    let arg = |arg: &OutlineArg| {
        let mut fields = Map::new();
        fields.insert("name".into(), json!(arg.name));
        set(&mut fields, "description", arg.description.as_deref());
        set(&mut fields, "value", arg.value.as_deref());
        fields.insert("location".into(), location(arg.line, arg.line));
        Value::Object(fields)
    };
    let named = |named: &Named| {
        let mut fields = Map::new();
        fields.insert("name".into(), json!(named.name));
        if named.required {
            fields.insert("required".into(), json!(true));
        }
        fields.insert("location".into(), location(named.line, named.line));
        Value::Object(fields)
    };
    let mut fields = Map::new();
    set(&mut fields, "name", outline.name.as_deref());
    set(&mut fields, "description", outline.description.as_deref());
    let lists = [
        ("args", outline.args.iter().map(arg).collect::<Vec<_>>()),
        ("secrets", outline.secrets.iter().map(named).collect()),
        ("ssh", outline.ssh.iter().map(named).collect()),
    ];
    for (key, list) in lists {
        if !list.is_empty() {
            fields.insert(key.into(), Value::Array(list));
        }
    }
    Value::Object(fields)
}

/// Returns the targets as a table.
pub(super) fn targets_text(targets: &[Target]) -> String {
    let row = |target: &Target| {
        let name = target.name.clone().unwrap_or_default();
        let name = match (target.default, name.is_empty()) {
            (true, true) => "(default)".to_owned(),
            (true, false) => format!("{name} (default)"),
            (false, _) => name,
        };
        vec![name, target.description.clone().unwrap_or_default()]
    };
    let rows = targets.iter().map(row).collect();
    table(&["TARGET", "DESCRIPTION"], rows)
}

/// Returns the targets in BuildKit's JSON.
pub(super) fn targets_json(targets: &[Target]) -> Value {
    let target = |target: &Target| {
        let mut fields = Map::new();
        set(&mut fields, "name", target.name.as_deref());
        if target.default {
            fields.insert("default".into(), json!(true));
        }
        set(&mut fields, "description", target.description.as_deref());
        set(&mut fields, "base", Some(&target.base));
        set(&mut fields, "platform", target.platform.as_deref());
        fields.insert("location".into(), location(target.line, target.line));
        Value::Object(fields)
    };
    json!({ "targets": targets.iter().map(target).collect::<Vec<_>>() })
}

/// Returns what can be asked for, as a table.
pub(super) fn methods_text() -> String {
    let row = |(name, about): &(&str, &str)| {
        vec![(*name).to_owned(), "1.0.0".to_owned(), (*about).to_owned()]
    };
    let rows = METHODS.iter().map(row).collect();
    table(&["NAME", "VERSION", "DESCRIPTION"], rows)
}

/// Returns what can be asked for, in BuildKit's JSON and by its names.
pub(super) fn methods_json() -> Value {
    let named = |name: &str, about: &str| json!({ "name": name, "description": about });
    let method = |(name, about): &(&str, &str)| {
        let options = match *name {
            "outline" => vec![named("target", "Target build stage")],
            _ => Vec::new(),
        };
        let name = if *name == "check" { "lint" } else { name };
        json!({
            "name": format!("frontend.{name}"),
            "version": "1.0.0",
            "type": "rpc",
            "description": about,
            "opts": options,
            "inputs": null,
            "metadata": [named("result.json", ""), named("result.txt", "")],
            "refs": null,
        })
    };
    METHODS.iter().map(method).collect()
}

fn set(fields: &mut Map<String, Value>, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        fields.insert(key.to_owned(), json!(value));
    }
}

/// Returns cleaned cells in columns.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let clean = |cell: &String| clean(cell, Colours::Drop).into_owned();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(clean).collect())
        .collect();
    let text = render(head, &rows, 0);
    // What is empty at the end of a line leaves no blanks there.
    let lines = text.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}
