//! `--format` as docker's users write it: the part of Go's `text/template` that listings and
//! `inspect` need, over JSON values.
//!
//! There are fields (`{{.Config.Env}}`), variables, `if`, `with` and `range` with `else` and
//! `else if`, the trim marks `{{-` and `-}}`, comments, strings, numbers, parentheses, pipes, Go's
//! comparisons, `printf` and its kin, and docker's functions ([`functions`]). There is no `define`
//! and no `call`. Values print as Go prints them: `[a b]`, `map[k:v]`.
//!
//! ```text
//! text ─ lex → pieces ─ parse → nodes ─ eval (with functions, printf) → text
//! ```

mod eval;
mod functions;
mod lex;
mod parse;
mod printf;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use eval::Scope;
use parse::Node;

/// The field that is asked with an argument, `{{.Label "key"}}`. It is an object, and no part of
/// what `{{json .}}` shows.
pub(crate) const LABEL: &str = "Label";

/// Why a template can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`--format` template `{text}`: {why}")]
pub(crate) struct TemplateError {
    text: String,
    why: String,
}

/// A parsed template.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    text: String,
    nodes: Vec<Node>,
    /// The fields that it may show; the empty name is all of them, `{{json .}}`.
    fields: BTreeSet<String>,
}

impl Template {
    /// Whether the field `name`, or all there are, may be shown by it.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.fields.contains(name) || self.fields.contains("")
    }

    /// Parses `text`. `\t` and `\n` outside actions mean a tab and a line end.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let nodes = parse::parse(text).map_err(|why| bad(text, why))?;
        let mut fields = BTreeSet::new();
        parse::fields(&nodes, &mut fields);
        Ok(Self {
            text: text.to_owned(),
            nodes,
            fields,
        })
    }

    /// Applies the template to one value.
    pub(crate) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        let rendered = Scope::of(value).render(&self.nodes);
        rendered.map_err(|why| bad(&self.text, why))
    }

    /// Returns the template with `name` of each field in its place, for the head of a table. As
    /// with docker, most functions leave a head as it is.
    pub(crate) fn header(&self, name: &dyn Fn(&str) -> String) -> Result<String, TemplateError> {
        let heads = self.fields.iter().filter(|field| !field.is_empty());
        let heads = heads.map(|field| (field.clone(), Value::from(name(field))));
        let heads = Value::Object(heads.collect::<Map<_, _>>());
        let rendered = Scope::of_heads(&heads).render(&self.nodes);
        rendered.map_err(|why| bad(&self.text, why))
    }
}

fn bad(text: &str, why: impl Into<String>) -> TemplateError {
    TemplateError {
        text: text.to_owned(),
        why: why.into(),
    }
}

/// The row without what is only there to be asked.
pub(crate) fn whole(row: &Value) -> Value {
    let mut row = row.clone();
    if let Value::Object(fields) = &mut row
        && fields.get(LABEL).is_some_and(Value::is_object)
    {
        fields.shift_remove(LABEL);
    }
    row
}

#[cfg(test)]
mod tests;
