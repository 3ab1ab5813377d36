//! Makes a tree of a template's pieces.

use std::collections::BTreeSet;

use serde_json::Value;

use super::functions;
use super::lex::{self, Piece, Token};

#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    Show(Pipeline),
    Block {
        kind: Kind,
        on: Pipeline,
        body: Vec<Self>,
        otherwise: Vec<Self>,
    },
}

/// What decides whether a block's body is shown, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    If,
    With,
    Range,
}

impl Kind {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "if" => Self::If,
            "with" => Self::With,
            "range" => Self::Range,
            _ => return None,
        })
    }
}

/// A value, and the variables that it becomes.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) names: Vec<String>,
    /// Whether the variables are new ones.
    pub(super) declares: bool,
    pub(super) value: Expr,
}

#[derive(Debug, Clone)]
pub(super) enum Expr {
    /// `.A.B`: the path from the value at hand; empty is `.`.
    Field(Vec<String>),
    /// `$name.A.B`; no name is the value that the template is applied to.
    Variable(String, Vec<String>),
    /// `(…).A.B`
    Inner(Box<Self>, Vec<String>),
    /// `.Label "key"`: a field that is asked.
    Ask(String, Box<Self>),
    Literal(Value),
    /// A function and its arguments; a pipe appends one.
    Call(String, Vec<Self>),
}

/// Parses a template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, String> {
    let mut parser = Parser {
        pieces: lex::pieces(text)?.into_iter(),
    };
    match parser.nodes()? {
        (nodes, End::Text) => Ok(nodes),
        (_, End::Else(_)) => Err("`else` closes nothing".to_owned()),
        (_, End::Close) => Err("`end` closes nothing".to_owned()),
    }
}

/// Adds the first names of all fields that may be shown, and an empty one for the whole.
pub(super) fn fields(nodes: &[Node], to: &mut BTreeSet<String>) {
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Show(pipeline) => fields_of(&pipeline.value, to),
            Node::Block {
                on,
                body,
                otherwise,
                ..
            } => {
                fields_of(&on.value, to);
                fields(body, to);
                fields(otherwise, to);
            }
        }
    }
}

fn fields_of(expr: &Expr, to: &mut BTreeSet<String>) {
    match expr {
        Expr::Variable(name, path) if !name.is_empty() => to.extend(path.first().cloned()),
        Expr::Field(path) | Expr::Variable(_, path) => {
            to.insert(path.first().cloned().unwrap_or_default());
        }
        Expr::Inner(inner, _) => fields_of(inner, to),
        Expr::Ask(_, key) => fields_of(key, to),
        Expr::Literal(_) => {}
        Expr::Call(_, arguments) => arguments.iter().for_each(|inner| fields_of(inner, to)),
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
}

/// What ends a run of nodes.
enum End {
    Text,
    Close,
    /// `else`, and what follows it: nothing, or `if …`.
    Else(Vec<Token>),
}

impl Parser {
    fn nodes(&mut self) -> Result<(Vec<Node>, End), String> {
        let mut out = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) if text.is_empty() => continue,
                Piece::Text(text) => {
                    out.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            match tokens.first() {
                Some(Token::Word(word)) if word == "end" => return Ok((out, End::Close)),
                Some(Token::Word(word)) if word == "else" => {
                    return Ok((out, End::Else(tokens[1..].to_vec())));
                }
                _ => out.push(self.node(&tokens)?),
            }
        }
        Ok((out, End::Text))
    }

    fn node(&mut self, tokens: &[Token]) -> Result<Node, String> {
        let (word, kind) = match tokens.first() {
            Some(Token::Word(word)) => (word, Kind::of(word)),
            _ => return Ok(Node::Show(pipeline(tokens)?)),
        };
        let Some(kind) = kind else {
            return Ok(Node::Show(pipeline(tokens)?));
        };
        let on = pipeline(&tokens[1..])?;
        if on.names.len() > 1 && kind != Kind::Range {
            return Err(format!("`{word}` sets one variable"));
        }
        let open = || format!("`{word}` has no `end`");
        let (body, end) = self.nodes()?;
        let otherwise = match end {
            End::Text => return Err(open()),
            End::Close => Vec::new(),
            End::Else(more) if more.is_empty() => match self.nodes()? {
                (otherwise, End::Close) => otherwise,
                _ => return Err(open()),
            },
            // Its `end` is ours.
            End::Else(more) => vec![self.node(&more)?],
        };
        Ok(Node::Block {
            kind,
            on,
            body,
            otherwise,
        })
    }
}

/// Parses `[$name[, $name] :=|=] value`.
fn pipeline(tokens: &[Token]) -> Result<Pipeline, String> {
    let set = |token: &Token| matches!(token, Token::Declare | Token::Assign);
    let (names, declares, rest) = match tokens.iter().position(set) {
        None => (Vec::new(), false, tokens),
        Some(at) => {
            let names = names(&tokens[..at]).ok_or("only variables can be set")?;
            (names, tokens[at] == Token::Declare, &tokens[at + 1..])
        }
    };
    let mut at = 0;
    let value = piped(rest, &mut at)?;
    match rest.get(at) {
        None => Ok(Pipeline {
            names,
            declares,
            value,
        }),
        Some(_) => Err("a `)` closes nothing".to_owned()),
    }
}

/// One variable, or two with a comma between.
fn names(tokens: &[Token]) -> Option<Vec<String>> {
    let name = |token: &Token| match token {
        Token::Variable(name, path) if path.is_empty() && !name.is_empty() => Some(name.clone()),
        _ => None,
    };
    match tokens {
        [one] => Some(vec![name(one)?]),
        [one, Token::Comma, other] => Some(vec![name(one)?, name(other)?]),
        _ => None,
    }
}

fn piped(tokens: &[Token], at: &mut usize) -> Result<Expr, String> {
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

fn command(tokens: &[Token], at: &mut usize) -> Result<Expr, String> {
    let is_over = |at: usize| matches!(tokens.get(at), None | Some(Token::Pipe | Token::Close));
    if let Some(Token::Word(name)) = tokens.get(*at)
        && !matches!(name.as_str(), "true" | "false" | "nil")
    {
        if !functions::NAMES.contains(&name.as_str()) {
            return Err(format!(
                "there is no function `{name}`, only {}",
                functions::NAMES.join(", ")
            ));
        }
        *at += 1;
        let mut arguments = Vec::new();
        while !is_over(*at) {
            arguments.push(operand(tokens, at)?);
        }
        return Ok(Expr::Call(name.clone(), arguments));
    }
    let value = operand(tokens, at)?;
    match &value {
        _ if is_over(*at) => Ok(value),
        Expr::Field(path) if path.len() == 1 => {
            let key = operand(tokens, at)?;
            match is_over(*at) {
                true => Ok(Expr::Ask(path[0].clone(), Box::new(key))),
                false => Err(format!("`.{}` is asked for one thing", path[0])),
            }
        }
        _ => Err("two values stand side by side".to_owned()),
    }
}

fn operand(tokens: &[Token], at: &mut usize) -> Result<Expr, String> {
    let token = tokens.get(*at).ok_or("an action is empty")?;
    *at += 1;
    Ok(match token {
        Token::Path(path) => Expr::Field(path.clone()),
        Token::Variable(name, path) => Expr::Variable(name.clone(), path.clone()),
        Token::Literal(value) => Expr::Literal(value.clone()),
        Token::Word(word) => match word.as_str() {
            "true" => Expr::Literal(Value::Bool(true)),
            "false" => Expr::Literal(Value::Bool(false)),
            "nil" => Expr::Literal(Value::Null),
            // A function without arguments stands alone only in parentheses.
            _ => return Err(format!("`{word}` is no value")),
        },
        Token::Open => {
            let inner = piped(tokens, at)?;
            if tokens.get(*at) != Some(&Token::Close) {
                return Err("a `(` is not closed".to_owned());
            }
            *at += 1;
            match tokens.get(*at) {
                Some(Token::Inner(path)) => {
                    *at += 1;
                    Expr::Inner(Box::new(inner), path.clone())
                }
                _ => inner,
            }
        }
        Token::Comma | Token::Declare | Token::Assign => {
            return Err("only variables can be set".to_owned());
        }
        Token::Pipe | Token::Close | Token::Inner(_) => {
            return Err("a value is missing".to_owned());
        }
    })
}
