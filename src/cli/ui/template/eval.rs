//! Applies a template to a value. `None` stands for Go's `<no value>`.

use serde_json::Value;

use super::functions::{self, shown, truth};
use super::parse::{Expr, Kind, Node, Pipeline};
use super::{LABEL, whole};

/// Where evaluation stands.
pub(super) struct Scope<'v> {
    top: &'v Value,
    /// Whether the values are heads of columns.
    heads: bool,
    variables: Vec<(String, Option<Value>)>,
}

impl<'v> Scope<'v> {
    pub(super) fn of(top: &'v Value) -> Self {
        Self {
            top,
            heads: false,
            variables: Vec::new(),
        }
    }

    pub(super) fn of_heads(top: &'v Value) -> Self {
        Self {
            heads: true,
            ..Self::of(top)
        }
    }

    pub(super) fn render(mut self, nodes: &[Node]) -> Result<String, String> {
        let mut out = String::new();
        self.nodes(nodes, self.top, &mut out)?;
        Ok(out)
    }

    /// Variables that the nodes declare end with them.
    fn nodes(&mut self, nodes: &[Node], dot: &Value, out: &mut String) -> Result<(), String> {
        let outer = self.variables.len();
        for node in nodes {
            self.node(node, dot, out)?;
        }
        self.variables.truncate(outer);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value, out: &mut String) -> Result<(), String> {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Show(pipeline) => {
                let value = self.value(&pipeline.value, dot)?;
                match (&pipeline.names[..], value) {
                    ([], Some(Value::Null)) => out.push_str(nothing(&pipeline.value)),
                    ([], Some(value)) => out.push_str(&shown(&value)),
                    ([], None) => out.push_str(absent(&pipeline.value)),
                    ([name], value) => self.set(name, pipeline.declares, value)?,
                    _ => return Err("only `range` sets two variables".to_owned()),
                }
            }
            Node::Block {
                kind,
                on,
                body,
                otherwise,
            } => {
                let outer = self.variables.len();
                let value = self.value(&on.value, dot)?;
                if *kind == Kind::Range {
                    self.range(on, value, (body, otherwise), dot, out)?;
                } else {
                    let holds = value.as_ref().is_some_and(truth);
                    if let [name] = &on.names[..] {
                        self.set(name, on.declares, value.clone())?;
                    }
                    match (kind, value) {
                        (Kind::With, Some(inner)) if holds => self.nodes(body, &inner, out)?,
                        _ if holds => self.nodes(body, dot, out)?,
                        _ => self.nodes(otherwise, dot, out)?,
                    }
                }
                self.variables.truncate(outer);
            }
        }
        Ok(())
    }

    fn range(
        &mut self,
        on: &Pipeline,
        value: Option<Value>,
        (body, otherwise): (&[Node], &[Node]),
        dot: &Value,
        out: &mut String,
    ) -> Result<(), String> {
        let items: Vec<(Value, Value)> = match value {
            Some(Value::Array(items)) => (0..items.len()).map(Value::from).zip(items).collect(),
            Some(Value::Object(map)) => {
                let mut pairs: Vec<_> = map.into_iter().collect();
                pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
                pairs.into_iter().map(|(k, v)| (k.into(), v)).collect()
            }
            None | Some(Value::Null) => Vec::new(),
            Some(other) => return Err(format!("range can't walk {other}")),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot, out);
        }
        for (key, item) in items {
            let outer = self.variables.len();
            let values = match on.names.len() {
                2 => vec![Some(key), Some(item.clone())],
                _ => vec![Some(item.clone())],
            };
            for (name, value) in on.names.iter().zip(values) {
                self.set(name, on.declares, value)?;
            }
            self.nodes(body, &item, out)?;
            self.variables.truncate(outer);
        }
        Ok(())
    }

    fn set(&mut self, name: &str, declares: bool, value: Option<Value>) -> Result<(), String> {
        if declares {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        let known = self.variables.iter_mut().rev();
        match known.into_iter().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => return Err(no_variable(name)),
        }
        Ok(())
    }

    fn value(&self, expr: &Expr, dot: &Value) -> Result<Option<Value>, String> {
        match expr {
            Expr::Literal(value) => Ok(Some(value.clone())),
            Expr::Field(path) => self.field(path, dot),
            Expr::Variable(name, path) if name.is_empty() => self.field(path, self.top),
            Expr::Variable(name, path) => {
                let mut known = self.variables.iter().rev();
                match known.find(|(known, _)| known == name) {
                    Some((_, value)) => Ok(value.as_ref().and_then(|value| inside(value, path))),
                    None => Err(no_variable(name)),
                }
            }
            Expr::Inner(inner, path) => {
                let value = self.value(inner, dot)?;
                Ok(value.as_ref().and_then(|value| inside(value, path)))
            }
            Expr::Ask(name, key) => self.ask(name, key, dot),
            Expr::Call(name, arguments) => self.call(name, arguments, dot),
        }
    }

    /// A first name that is not there is a slip of the pen; further in it may be a label.
    fn field(&self, path: &[String], dot: &Value) -> Result<Option<Value>, String> {
        let is_top = std::ptr::eq(dot, self.top);
        match path.first() {
            None if is_top => Ok(Some(whole(dot))),
            Some(first) if is_top && named(dot, first).is_none() => {
                let known = dot.as_object().into_iter().flat_map(|map| map.keys());
                let known: Vec<_> = known.map(String::as_str).collect();
                Err(format!(
                    "there is no field `{first}`, only {}",
                    known.join(", ")
                ))
            }
            _ => Ok(inside(dot, path)),
        }
    }

    /// Only labels can be asked for, and their head is the last part of the name.
    fn ask(&self, name: &str, key: &Expr, dot: &Value) -> Result<Option<Value>, String> {
        let key = shown(&self.value(key, dot)?.unwrap_or_default());
        if name != LABEL {
            return Err(format!("`.{name}` can't be asked for `{key}`"));
        }
        if self.heads {
            let last = key.rsplit('.').next().unwrap_or_default();
            return Ok(Some(last.replace(['-', '_'], " ").into()));
        }
        match self.top.get(LABEL) {
            Some(labels) => Ok(Some(labels.get(&key).cloned().unwrap_or_else(|| "".into()))),
            None => Err("nothing here has labels to ask for".to_owned()),
        }
    }

    fn call(&self, name: &str, arguments: &[Expr], dot: &Value) -> Result<Option<Value>, String> {
        // What is decided by the first is not asked for the second.
        if let "and" | "or" = name {
            let mut last = None;
            for argument in arguments {
                last = self.value(argument, dot)?;
                if last.as_ref().is_some_and(truth) == (name == "or") {
                    break;
                }
            }
            return match arguments {
                [] => Err(format!("`{name}` does not take 0 values")),
                _ => Ok(last),
            };
        }
        let values = arguments.iter().map(|argument| self.value(argument, dot));
        let values: Vec<Option<Value>> = values.collect::<Result<_, _>>()?;
        let values: Vec<Value> = values.into_iter().map(Option::unwrap_or_default).collect();
        if self.heads && functions::LEAVE_HEADS.contains(&name) {
            return Ok(values.into_iter().next());
        }
        functions::call(name, &values)
    }
}

fn no_variable(name: &str) -> String {
    format!("there is no variable `${name}`")
}

/// Lists and maps of docker's that may be missing from what it inspects. Go knows them by their
/// types and prints them as empty ones.
const LISTS: [&str; 23] = [
    "Aliases",
    "Binds",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DNSNames",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "MaskedPaths",
    "Mounts",
    "OnBuild",
    "ReadonlyPaths",
    "SecondaryIPAddresses",
    "SecondaryIPv6Addresses",
    "SecurityOpt",
    "Shell",
    "VolumesFrom",
];
const MAPS: [&str; 8] = [
    "Annotations",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "Options",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];
/// What may be missing as a whole, and does not print as `<no value>`.
const OTHERS: [&str; 3] = ["Health", "Healthcheck", "StopTimeout"];

/// How Go prints a field that holds nothing.
fn nothing(field: &Expr) -> &'static str {
    match last_name(field) {
        Some(name) if LISTS.contains(&name) => "[]",
        Some(name) if MAPS.contains(&name) => "map[]",
        _ => "<nil>",
    }
}

/// How it prints a field that is not there.
fn absent(field: &Expr) -> &'static str {
    match (nothing(field), last_name(field)) {
        ("<nil>", Some("StopSignal")) => "",
        ("<nil>", Some(name)) if OTHERS.contains(&name) => "<nil>",
        ("<nil>", _) => "<no value>",
        (empty, _) => empty,
    }
}

fn last_name(field: &Expr) -> Option<&str> {
    match field {
        Expr::Field(path) | Expr::Variable(_, path) | Expr::Inner(_, path) => {
            path.last().map(String::as_str)
        }
        _ => None,
    }
}

fn inside(value: &Value, path: &[String]) -> Option<Value> {
    let found = path
        .iter()
        .try_fold(value, |value, name| named(value, name));
    found.cloned()
}

/// A field by its name. Go's templates say `.Config` where the JSON of an image has `config`.
fn named<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let other_case = || {
        let fields = value.as_object()?.iter();
        let mut fields = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        fields.next().map(|(_, inner)| inner)
    };
    value.get(name).or_else(other_case)
}
