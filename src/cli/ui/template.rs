//! `--format` as docker's users write it: the part of Go's `text/template` that listings and
//! `inspect` need, over JSON values.
//!
//! There are fields (`{{.Config.Env}}`), `{{range X}}…{{else}}…{{end}}`, `{{if X}}…{{end}}`, the
//! trim marks `{{-` and `-}}`, comments, strings, numbers, parentheses, and the functions `json`,
//! `index`, `len`, `join`, `split`, `upper`, `lower`, `println`, `not` and `eq`. There are no
//! variables, no pipes into user templates and no `define`. Values print as Go prints them: `[a b]`, `map[k:v]`.

use serde_json::Value;

/// A field by its name. Go's templates say `.Config` where the JSON of an image has `config`.
fn named<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let other_case = || {
        let fields = value.as_object()?.iter();
        let mut fields = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        fields.next().map(|(_, inner)| inner)
    };
    value.get(name).or_else(other_case)
}

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
}

#[derive(Debug, Clone)]
enum Node {
    Text(String),
    Show(Expr),
    If(Expr, Vec<Self>, Vec<Self>),
    Range(Expr, Vec<Self>, Vec<Self>),
}

#[derive(Debug, Clone)]
enum Expr {
    /// `.A.B`: the path from the value at hand; empty is `.`.
    Field(Vec<String>),
    Literal(Value),
    /// A function and its arguments; a pipe appends one.
    Call(String, Vec<Self>),
}

impl Template {
    /// Whether the field `name` is written somewhere in it.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.text.contains(&format!(".{name}"))
    }

    /// Parses `text`. `\t` and `\n` outside actions mean a tab and a line end.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parser = Parser {
            pieces: pieces(text).map_err(|why| bad(text, why))?,
            at: 0,
        };
        let (nodes, end) = parser.nodes().map_err(|why| bad(text, why))?;
        match end {
            None => Ok(Self {
                text: text.to_owned(),
                nodes,
            }),
            Some(word) => Err(bad(text, format!("`{word}` closes nothing"))),
        }
    }

    /// Applies the template to one value.
    pub(crate) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        let mut out = String::new();
        let scope = Scope { top: value };
        scope
            .render(&self.nodes, value, &mut out)
            .map_err(|why| bad(&self.text, why))?;
        Ok(out)
    }

    /// Returns the template with `name` of each field in its place, for the head of a table.
    pub(crate) fn header(&self, name: &dyn Fn(&str) -> String) -> String {
        let field = |expr: &Expr| match expr {
            Expr::Field(path) => path.last().map(|field| name(field)),
            _ => None,
        };
        let mut out = String::new();
        for node in &self.nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Show(Expr::Call(_, arguments)) => {
                    out.extend(arguments.iter().find_map(field));
                }
                Node::Show(expr) => out.extend(field(expr)),
                Node::If(..) | Node::Range(..) => {}
            }
        }
        out
    }
}

fn bad(text: &str, why: impl Into<String>) -> TemplateError {
    TemplateError {
        text: text.to_owned(),
        why: why.into(),
    }
}

enum Piece {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Path(Vec<String>),
    Text(String),
    Number(i64),
    Pipe,
    Open,
    Close,
}

/// Splits the text at its actions.
fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let (before, action) = match rest.split_once("{{") {
            Some((before, after)) => {
                let end = after.find("}}").ok_or("`{{` is not closed by `}}`")?;
                (before, Some((&after[..end], &after[end + 2..])))
            }
            None => (rest, None),
        };
        let before = if trim { before.trim_start() } else { before };
        let Some((action, after)) = action else {
            out.push(Piece::Text(unescape(before)));
            return Ok(out);
        };
        let (before, action) = match action.strip_prefix("- ") {
            Some(action) => (before.trim_end(), action),
            None => (before, action),
        };
        let action = match action.strip_suffix(" -") {
            Some(action) => {
                trim = true;
                action
            }
            None => {
                trim = false;
                action
            }
        };
        out.push(Piece::Text(unescape(before)));
        if !action.trim_start().starts_with("/*") {
            out.push(Piece::Action(tokens(action)?));
        }
        rest = after;
    }
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn tokens(action: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut rest = action.trim();
    while let Some(first) = rest.chars().next() {
        let word_end = |from: usize, keep: fn(char) -> bool| {
            rest[from..]
                .find(|c| !keep(c))
                .map_or(rest.len(), |at| from + at)
        };
        let used = match first {
            '|' => push(&mut out, Token::Pipe),
            '(' => push(&mut out, Token::Open),
            ')' => push(&mut out, Token::Close),
            '"' => {
                let len = quoted(rest).ok_or("a string is not closed")?;
                let text = serde_json::from_str(&rest[..len])
                    .map_err(|_| format!("`{}` is not a string", &rest[..len]))?;
                out.push(Token::Text(text));
                len
            }
            '`' => {
                let len = rest[1..].find('`').ok_or("a string is not closed")? + 2;
                out.push(Token::Text(rest[1..len - 1].to_owned()));
                len
            }
            '.' => {
                let end = word_end(0, |c| c.is_alphanumeric() || matches!(c, '_' | '.'));
                let names = rest[..end].split('.').filter(|name| !name.is_empty());
                out.push(Token::Path(names.map(str::to_owned).collect()));
                end
            }
            c if c.is_ascii_digit() || c == '-' => {
                let end = word_end(1, |c| c.is_ascii_digit());
                let number = rest[..end].parse();
                out.push(Token::Number(
                    number.map_err(|_| format!("`{}` is no number", &rest[..end]))?,
                ));
                end
            }
            c if c.is_alphabetic() => {
                let end = word_end(0, |c| c.is_alphanumeric() || c == '_');
                out.push(Token::Word(rest[..end].to_owned()));
                end
            }
            c => return Err(format!("`{c}` is not understood")),
        };
        rest = rest[used..].trim_start();
    }
    Ok(out)
}

fn push(out: &mut Vec<Token>, token: Token) -> usize {
    out.push(token);
    1
}

/// Returns the length of the double-quoted string at the start of `text`.
fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

struct Parser {
    pieces: Vec<Piece>,
    at: usize,
}

impl Parser {
    /// Reads up to the end or an `else` or `end`, which is returned.
    fn nodes(&mut self) -> Result<(Vec<Node>, Option<&'static str>), String> {
        let mut out = Vec::new();
        while let Some(piece) = self.pieces.get(self.at) {
            self.at += 1;
            let tokens = match piece {
                Piece::Text(text) if text.is_empty() => continue,
                Piece::Text(text) => {
                    out.push(Node::Text(text.clone()));
                    continue;
                }
                Piece::Action(tokens) => tokens.clone(),
            };
            match tokens.first() {
                Some(Token::Word(word)) if word == "end" => return Ok((out, Some("end"))),
                Some(Token::Word(word)) if word == "else" && tokens.len() == 1 => {
                    return Ok((out, Some("else")));
                }
                Some(Token::Word(word)) if word == "if" || word == "range" => {
                    let condition = expression(&tokens[1..])?;
                    let (then, otherwise) = self.branches(word)?;
                    out.push(match word.as_str() {
                        "if" => Node::If(condition, then, otherwise),
                        _ => Node::Range(condition, then, otherwise),
                    });
                }
                _ => out.push(Node::Show(expression(&tokens)?)),
            }
        }
        Ok((out, None))
    }

    fn branches(&mut self, word: &str) -> Result<(Vec<Node>, Vec<Node>), String> {
        let open = || format!("`{word}` has no `end`");
        let (then, end) = self.nodes()?;
        match end {
            Some("else") => match self.nodes()? {
                (otherwise, Some("end")) => Ok((then, otherwise)),
                _ => Err(open()),
            },
            Some(_) => Ok((then, Vec::new())),
            None => Err(open()),
        }
    }
}

fn expression(tokens: &[Token]) -> Result<Expr, String> {
    let mut at = 0;
    let expr = pipeline(tokens, &mut at)?;
    match tokens.get(at) {
        None => Ok(expr),
        Some(_) => Err("a `)` closes nothing".to_owned()),
    }
}

fn pipeline(tokens: &[Token], at: &mut usize) -> Result<Expr, String> {
    let mut expr = command(tokens, at)?;
    while tokens.get(*at) == Some(&Token::Pipe) {
        *at += 1;
        match command(tokens, at)? {
            Expr::Call(name, mut arguments) => {
                arguments.push(expr);
                expr = Expr::Call(name, arguments);
            }
            _ => return Err("only a function stands behind `|`".to_owned()),
        }
    }
    Ok(expr)
}

const FUNCTIONS: [&str; 10] = [
    "json", "index", "len", "join", "split", "upper", "lower", "println", "not", "eq",
];

fn command(tokens: &[Token], at: &mut usize) -> Result<Expr, String> {
    if let Some(Token::Word(name)) = tokens.get(*at)
        && !matches!(name.as_str(), "true" | "false" | "nil")
    {
        if !FUNCTIONS.contains(&name.as_str()) {
            return Err(format!(
                "there is no function `{name}`, only {}",
                FUNCTIONS.join(", ")
            ));
        }
        *at += 1;
        let mut arguments = Vec::new();
        while !matches!(tokens.get(*at), None | Some(Token::Pipe | Token::Close)) {
            arguments.push(operand(tokens, at)?);
        }
        return Ok(Expr::Call(name.clone(), arguments));
    }
    let value = operand(tokens, at)?;
    match tokens.get(*at) {
        None | Some(Token::Pipe | Token::Close) => Ok(value),
        Some(_) => Err("two values stand side by side".to_owned()),
    }
}

fn operand(tokens: &[Token], at: &mut usize) -> Result<Expr, String> {
    let token = tokens.get(*at).ok_or("an action is empty")?;
    *at += 1;
    Ok(match token {
        Token::Path(path) => Expr::Field(path.clone()),
        Token::Text(text) => Expr::Literal(Value::from(text.clone())),
        Token::Number(number) => Expr::Literal(Value::from(*number)),
        Token::Word(word) => match word.as_str() {
            "true" => Expr::Literal(Value::Bool(true)),
            "false" => Expr::Literal(Value::Bool(false)),
            "nil" => Expr::Literal(Value::Null),
            _ => return Err(format!("`{word}` is no value")),
        },
        Token::Open => {
            let inner = pipeline(tokens, at)?;
            if tokens.get(*at) != Some(&Token::Close) {
                return Err("a `(` is not closed".to_owned());
            }
            *at += 1;
            inner
        }
        Token::Pipe | Token::Close => return Err("a value is missing".to_owned()),
    })
}

/// Evaluates; `None` stands for Go's `<no value>`.
struct Scope<'v> {
    top: &'v Value,
}

impl Scope<'_> {
    fn render(&self, nodes: &[Node], dot: &Value, out: &mut String) -> Result<(), String> {
        for node in nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Show(expr) => match self.value(expr, dot)? {
                    Some(value) => out.push_str(&shown(&value)),
                    None => out.push_str("<no value>"),
                },
                Node::If(condition, then, otherwise) => {
                    let holds = self.value(condition, dot)?.is_some_and(|v| truth(&v));
                    self.render(if holds { then } else { otherwise }, dot, out)?;
                }
                Node::Range(list, body, otherwise) => {
                    let items: Vec<Value> = match self.value(list, dot)? {
                        Some(Value::Array(items)) => items,
                        Some(Value::Object(map)) => map.into_iter().map(|(_, v)| v).collect(),
                        None | Some(Value::Null) => Vec::new(),
                        Some(other) => return Err(format!("range can't walk {other}")),
                    };
                    if items.is_empty() {
                        self.render(otherwise, dot, out)?;
                    }
                    for item in &items {
                        self.render(body, item, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn value(&self, expr: &Expr, dot: &Value) -> Result<Option<Value>, String> {
        match expr {
            Expr::Literal(value) => Ok(Some(value.clone())),
            Expr::Field(path) => self.field(path, dot),
            Expr::Call(name, arguments) => {
                let values = arguments.iter().map(|argument| self.value(argument, dot));
                let values: Vec<Option<Value>> = values.collect::<Result<_, _>>()?;
                call(name, values)
            }
        }
    }

    /// A first name that is not there is a slip of the pen; further in it may be a label.
    fn field(&self, path: &[String], dot: &Value) -> Result<Option<Value>, String> {
        let mut value = dot;
        for (depth, name) in path.iter().enumerate() {
            match named(value, name) {
                Some(inner) => value = inner,
                None if depth == 0 && std::ptr::eq(dot, self.top) => {
                    let known = dot
                        .as_object()
                        .map(|map| map.keys().cloned().collect::<Vec<_>>());
                    let known = known.unwrap_or_default().join(", ");
                    return Err(format!("there is no field `{name}`, only {known}"));
                }
                None => return Ok(None),
            }
        }
        Ok(Some(value.clone()))
    }
}

fn call(name: &str, values: Vec<Option<Value>>) -> Result<Option<Value>, String> {
    let values: Vec<Value> = values.into_iter().map(Option::unwrap_or_default).collect();
    let text = |at: usize| values.get(at).map(shown).unwrap_or_default();
    let one = values.first();
    Ok(Some(match (name, values.len()) {
        ("json", 1) => Value::from(one.unwrap_or(&Value::Null).to_string()),
        ("len", 1) => match one {
            Some(Value::Array(items)) => Value::from(items.len()),
            Some(Value::Object(map)) => Value::from(map.len()),
            Some(Value::String(text)) => Value::from(text.len()),
            _ => Value::from(0),
        },
        ("upper", 1) => Value::from(text(0).to_uppercase()),
        ("lower", 1) => Value::from(text(0).to_lowercase()),
        ("not", 1) => Value::Bool(!one.is_some_and(truth)),
        ("eq", 2) => Value::Bool(values[0] == values[1]),
        ("join", 2) => match one {
            Some(Value::Array(items)) => {
                Value::from(items.iter().map(shown).collect::<Vec<_>>().join(&text(1)))
            }
            _ => Value::from(""),
        },
        ("split", 2) => Value::from(text(0).split(&text(1)).collect::<Vec<_>>()),
        ("println", _) => {
            Value::from(values.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n")
        }
        ("index", 1..) => return index(&values),
        _ => return Err(format!("`{name}` does not take {} values", values.len())),
    }))
}

fn index(values: &[Value]) -> Result<Option<Value>, String> {
    let mut value = &values[0];
    for key in &values[1..] {
        let inner = match key {
            Value::String(name) => value.get(name.as_str()),
            Value::Number(number) => number
                .as_u64()
                .and_then(|at| value.get(usize::try_from(at).ok()?)),
            other => return Err(format!("{other} is no index")),
        };
        match (inner, key) {
            (Some(inner), _) => value = inner,
            // A map answers for a missing key with nothing, a list does not.
            (None, Value::String(_)) => return Ok(Some(Value::from(""))),
            (None, _) => return Err(format!("index {key} is out of range")),
        }
    }
    Ok(Some(value.clone()))
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Prints a value as Go's `fmt` does.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!(
                "[{}]",
                items.iter().map(shown).collect::<Vec<_>>().join(" ")
            )
        }
        Value::Object(map) => {
            let mut pairs: Vec<_> = map
                .iter()
                .map(|(k, v)| format!("{k}:{}", shown(v)))
                .collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(text: &str) -> Result<String, String> {
        let value = json!({
            "Id": "sha256:12",
            "Config": {"Env": ["A=1", "B=2"], "Labels": {"a.b": "x"}, "Cmd": null, "Tty": false},
            "Size": 7,
        });
        let template = Template::parse(text).map_err(|error| error.why)?;
        template.render(&value).map_err(|error| error.why)
    }

    #[test]
    fn templates_print_what_docker_prints() {
        for (text, want) in [
            ("plain", "plain"),
            ("{{.Id}}\\t{{ .Size }}", "sha256:12\t7"),
            ("{{json .Config.Env}}", r#"["A=1","B=2"]"#),
            ("{{.Config.Env}} {{.Config.Labels}}", "[A=1 B=2] map[a.b:x]"),
            ("{{.Config.Cmd}} {{.Config.Tty}}", "<nil> false"),
            ("{{.Config.Labels.zzz}}", "<no value>"),
            (r#"{{index .Config.Labels "a.b"}}"#, "x"),
            (r#"{{index .Config.Labels "none"}}!"#, "!"),
            ("{{index .Config.Env 1}}", "B=2"),
            ("{{len .Config.Env}}", "2"),
            (r#"{{join .Config.Env ","}}"#, "A=1,B=2"),
            ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
            ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
            ("{{if .Config.Cmd}}a{{else}}b{{end}}", "b"),
            ("{{if eq .Size 7}}seven{{end}}", "seven"),
            ("{{.Id | upper}}", "SHA256:12"),
            ("a {{- .Size -}} b", "a7b"),
            ("{{/* note */}}x", "x"),
            ("{{len (index .Config.Env 0)}}", "3"),
        ] {
            assert_eq!(render(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, why) in [
            ("{{.Id", "`{{` is not closed by `}}`"),
            (
                "{{.Nope}}",
                "there is no field `Nope`, only Id, Config, Size",
            ),
            ("{{range .Id}}", "`range` has no `end`"),
            ("{{end}}", "`end` closes nothing"),
            ("{{}}", "an action is empty"),
            ("{{index .Config.Env 9}}", "index 9 is out of range"),
            ("{{json}}", "`json` does not take 0 values"),
        ] {
            assert_eq!(render(text), Err(why.to_owned()), "{text}");
        }
        let why = render("{{foo .Id}}").unwrap_err();
        assert!(
            why.starts_with("there is no function `foo`, only json"),
            "{why}"
        );
    }

    #[test]
    fn a_header_has_names_where_the_fields_are() {
        let template = Template::parse("{{.ID}}\\t{{.CreatedSince}} {{json .Tag}}").unwrap();
        assert_eq!(template.header(&str::to_uppercase), "ID\tCREATEDSINCE TAG");
    }
}
