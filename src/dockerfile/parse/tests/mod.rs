//! What the checklist of the Dockerfile language says, as tables.

mod heredocs;
mod instructions;
mod mounts;
mod text;
mod words;

use super::super::instruction::*;
use super::super::{Error, Source};
use super::parse;

fn file(text: &str) -> Dockerfile {
    match parse(&Source::new("Dockerfile", text)) {
        Ok(file) => file,
        Err(e) => panic!("{e}\n{text}"),
    }
}

fn fails(text: &str) -> Error {
    match parse(&Source::new("Dockerfile", text)) {
        Ok(file) => panic!("parsed: {text}\n{file:?}"),
        Err(e) => e,
    }
}

/// Parses one instruction below a FROM.
fn one(line: &str) -> Kind {
    let mut file = file(&format!("FROM a\n{line}\n"));
    assert_eq!(file.stages[0].instructions.len(), 1, "{line}");
    file.stages.remove(0).instructions.remove(0).kind
}

/// The message of one faulty instruction below a FROM, without its place.
fn fault(line: &str) -> String {
    let e = fails(&format!("FROM a\n{line}\n"));
    assert_eq!(e.line, 2, "{line}");
    match e.suggestion {
        Some(word) => format!("{} (did you mean {word}?)", e.kind),
        None => e.kind.to_string(),
    }
}

fn run(line: &str) -> Run {
    match one(line) {
        Kind::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn copy(line: &str) -> Copy {
    match one(line) {
        Kind::Copy(copy) => copy,
        other => panic!("{other:?}"),
    }
}

fn shell(line: &str) -> String {
    match run(line).script() {
        Script::Shell(text) => text.into_owned(),
        other => panic!("{other:?}"),
    }
}

fn pairs(line: &str) -> Vec<(String, String)> {
    match one(line) {
        Kind::Env(pairs) | Kind::Label(pairs) => pairs
            .pairs
            .into_iter()
            .map(|p| (p.key.text, p.value.text))
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn sources(copy: &Copy) -> Vec<String> {
    let name = |source: &CopySource| match source {
        CopySource::Path(word) => word.text.clone(),
        CopySource::Heredoc(heredoc) => format!("<<{}", heredoc.name),
    };
    copy.sources.iter().map(name).collect()
}
