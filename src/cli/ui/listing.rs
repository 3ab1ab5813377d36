//! Listings: a table by default, `--format` for everything else.
//!
//! Every row is a JSON object with docker's field names, which are shown in the order of their
//! names. `--format` takes `table`, `json` (one object a line), `raw` (a line a field), a template,
//! or `table` and a template whose tabs part the columns.

use std::str::FromStr;

use serde_json::Value;

use super::table;
use super::template::{Template, TemplateError, whole};

/// How a listing is printed.
#[derive(Debug, Clone)]
pub(crate) enum Format {
    /// The listing's own table.
    Table,
    /// A table with these columns.
    Columns(Template),
    /// JSON.
    Json,
    /// The listing's own lines.
    Raw,
    /// A line from this template for each row.
    Lines(Template),
}

impl Format {
    /// Whether a template may show the field `name`, which is dear to find out.
    pub(crate) fn names(&self, name: &str) -> bool {
        match self {
            Self::Table | Self::Json | Self::Raw => false,
            Self::Columns(template) | Self::Lines(template) => template.names(name),
        }
    }

    /// Whether it is a table, for people, so that ids are cut short in it.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self, Self::Table | Self::Columns(_))
    }
}

impl FromStr for Format {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        match text {
            "" | "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "raw" => Ok(Self::Raw),
            _ => match text.strip_prefix("table") {
                Some(columns) => Template::parse(columns.trim_matches(' ')).map(Self::Columns),
                None => Template::parse(text).map(Self::Lines),
            },
        }
    }
}

/// A kind of listing.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The fields of the default table, in order.
    pub(crate) columns: &'static [&'static str],
    /// Heads of columns that are not the field's name in words.
    pub(crate) heads: &'static [(&'static str, &'static str)],
    /// The template of `--format raw`.
    pub(crate) raw: &'static str,
}

impl Listing {
    /// Returns the text of `rows`, every line ended.
    pub(crate) fn render(&self, format: &Format, rows: &[Value]) -> Result<String, TemplateError> {
        let rows: Vec<Value> = rows.iter().map(in_order).collect();
        match format {
            Format::Table => self.columns(&Template::parse(&self.default())?, &rows),
            Format::Columns(template) => self.columns(template, &rows),
            Format::Json => Ok(rows.iter().map(|row| format!("{}\n", whole(row))).collect()),
            Format::Raw => lines(&Template::parse(self.raw)?, &rows),
            Format::Lines(template) => lines(template, &rows),
        }
    }

    fn default(&self) -> String {
        let fields: Vec<String> = self
            .columns
            .iter()
            .map(|field| format!("{{{{.{field}}}}}"))
            .collect();
        fields.join("\t")
    }

    fn columns(&self, template: &Template, rows: &[Value]) -> Result<String, TemplateError> {
        let head = template.header(&|field| self.head(field))?;
        let head: Vec<&str> = head.split('\t').collect();
        let cells = |row: &Value| {
            let line = template.render(row)?;
            Ok(line.split('\t').map(str::to_owned).collect())
        };
        let rows: Vec<Vec<String>> = rows.iter().map(cells).collect::<Result<_, _>>()?;
        Ok(table::render(&head, &rows, table::LISTED))
    }

    /// Turns `CreatedSince` into `CREATED SINCE`; a run of capitals stays one word.
    fn head(&self, field: &str) -> String {
        if let Some((_, head)) = self.heads.iter().find(|(known, _)| *known == field) {
            return (*head).to_owned();
        }
        let mut out = String::new();
        let mut lower = false;
        for c in field.chars() {
            if c.is_uppercase() && lower {
                out.push(' ');
            }
            lower = c.is_lowercase();
            out.extend(c.to_uppercase());
        }
        out
    }
}

fn lines(template: &Template, rows: &[Value]) -> Result<String, TemplateError> {
    let lines = rows.iter().map(|row| Ok(template.render(row)? + "\n"));
    lines.collect()
}

/// The row with its fields sorted, as docker shows them.
fn in_order(row: &Value) -> Value {
    let mut row = row.clone();
    if let Value::Object(fields) = &mut row {
        fields.sort_keys();
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PETS: Listing = Listing {
        columns: &["Name", "BornSince"],
        heads: &[("BornSince", "BORN")],
        raw: "name: {{.Name}}\nborn: {{- pad .BornSince 1 0}}\n",
    };

    fn shown(format: &str) -> String {
        let rows = [
            json!({ "Name": "a", "BornSince": "1 day ago" }),
            json!({ "Name": "bcd", "BornSince": "x" }),
        ];
        PETS.render(&format.parse().unwrap(), &rows).unwrap()
    }

    #[test]
    fn formats_are_those_of_docker() {
        let table = "NAME      BORN\na         1 day ago\nbcd       x\n";
        assert_eq!(shown("table"), table);
        assert_eq!(shown("table{{.Name}}\t{{.BornSince}}"), table);
        assert_eq!(
            shown("table {{.BornSince}}\t{{.Name}}"),
            "BORN        NAME\n1 day ago   a\nx           bcd\n"
        );
        assert_eq!(shown("{{.Name}}!"), "a!\nbcd!\n");
        assert_eq!(
            shown("json"),
            "{\"BornSince\":\"1 day ago\",\"Name\":\"a\"}\n{\"BornSince\":\"x\",\"Name\":\"bcd\"}\n"
        );
        assert_eq!(
            shown("raw"),
            "name: a\nborn: 1 day ago\n\nname: bcd\nborn: x\n\n"
        );
        assert!("{{.x".parse::<Format>().is_err());
    }
}
