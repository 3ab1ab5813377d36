//! Lint rules that need only the text.
//!
//! The names are BuildKit's. Rules that need variables, base images or the context belong to
//! the build. Every finding says which stage it is in, since BuildKit reports some rules only
//! for stages that are built; [`Rule::needs_the_stage`] tells which.

use super::instruction::{Command, Dockerfile, Instruction, Kind, Origin, Stage};
use super::rule::Rule;
use super::span::Span;
use std::collections::BTreeMap;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: Rule,
    /// What is wrong, as a sentence without a full stop.
    pub text: String,
    /// The text to mark.
    pub span: Span,
    /// The line (from 1) to report: the first of the instruction.
    pub line: usize,
    /// The last line of the instruction.
    pub last_line: usize,
    /// The index of the stage; nothing for what stands before the first FROM.
    pub stage: Option<usize>,
}

/// Reports an empty line inside an instruction, at the line where the instruction ends.
pub(super) fn empty_continuation(origin: &Origin) -> Warning {
    Warning {
        rule: Rule::NoEmptyContinuation,
        text: "Empty continuation line".to_owned(),
        span: origin.span,
        line: origin.last_line,
        last_line: origin.last_line,
        stage: None,
    }
}

/// Applies the rules to what was read, which is all of a file or the part before an error.
pub(super) fn check(file: &Dockerfile, warnings: &mut Vec<Warning>) {
    casing(file, warnings);
    for global in &file.args {
        let names = global.arg.pairs.iter().map(|pair| pair.name.text.as_str());
        warnings.extend(described(&global.origin, names, None));
    }
    let mut shells: Vec<bool> = Vec::new();
    // The stage a name means so far.
    let mut names = BTreeMap::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let mut report = |rule, text, origin: &Origin, span| {
            warnings.push(Warning {
                rule,
                text,
                span,
                line: origin.line,
                last_line: origin.last_line,
                stage: Some(index),
            });
        };
        let base = stage.from.base.text.to_lowercase();
        let inherited = names
            .get(base.as_str())
            .is_some_and(|at: &usize| shells[*at]);
        let taken = stage.name().and_then(|name| names.insert(name, index));
        stage_names(stage, taken.is_some(), &mut report);
        shells.push(commands(stage, inherited, &mut report));
        repeated(stage, &mut report);
        for instruction in &stage.instructions {
            old_forms(instruction, &mut report);
        }
        warnings.extend(described(&stage.origin, stage.name(), Some(index)));
        for Instruction { kind, origin } in &stage.instructions {
            if let Kind::Arg(arg) = kind {
                let names = arg.pairs.iter().map(|pair| pair.name.text.as_str());
                warnings.extend(described(origin, names, Some(index)));
            }
        }
    }
    warnings.sort_by_key(|warning| (warning.line, warning.span, warning.rule));
}

/// Judges the comment above a definition: where there is one, it begins with a name defined.
fn described<'a>(
    origin: &Origin,
    names: impl IntoIterator<Item = &'a str>,
    stage: Option<usize>,
) -> Option<Warning> {
    let names: Vec<&str> = names.into_iter().collect();
    let comment = origin.comments.iter().rfind(|c| !c.starts_with("check="))?;
    let first = comment.split(' ').next().unwrap_or_default();
    if names.is_empty() || names.contains(&first) {
        return None;
    }
    let name = match names.as_slice() {
        [name] => name,
        _ => "<arg_key>",
    };
    let instruction = origin.keyword.text.to_uppercase();
    Some(Warning {
        rule: Rule::InvalidDefinitionDescription,
        text: format!(
            "Comment for {instruction} should follow the format: `# {name} <description>`"
        ),
        span: origin.span,
        line: origin.line,
        last_line: origin.last_line,
        stage,
    })
}

trait Report: FnMut(Rule, String, &Origin, Span) {}
impl<F: FnMut(Rule, String, &Origin, Span)> Report for F {}

fn stage_names(stage: &Stage, taken: bool, report: &mut impl Report) {
    let Some(name) = &stage.from.name else { return };
    let typed = &name.word;
    if typed.text != name.name {
        let text = format!("Stage name '{}' should be lowercase", typed.text);
        report(Rule::StageNameCasing, text, &stage.origin, typed.span);
    }
    if ["scratch", "context"].contains(&name.name.as_str()) {
        let text = format!(
            "Stage name should not use the same name as reserved stage {:?}",
            typed.text
        );
        report(Rule::ReservedStageName, text, &stage.origin, typed.span);
    }
    if taken {
        let text = format!(
            "Duplicate stage name {:?}, stage names should be unique",
            name.name
        );
        report(Rule::DuplicateStageName, text, &stage.origin, typed.span);
    }
    if let Some(word) = &stage.from.as_word {
        let from = &stage.origin.keyword.text;
        let differs = case(from).is_some_and(|from| case(&word.text) != Some(from));
        if differs {
            let text = format!("'{}' and '{from}' keywords' casing do not match", word.text);
            report(Rule::FromAsCasing, text, &stage.origin, word.span);
        }
    }
}

/// Reports shell forms; answers whether a SHELL is in force at the end of the stage.
fn commands(stage: &Stage, inherited: bool, report: &mut impl Report) -> bool {
    let mut shell = inherited;
    for Instruction { kind, origin } in &stage.instructions {
        match kind {
            Kind::Shell(_) => shell = true,
            Kind::Cmd(Command::Shell(_)) | Kind::Entrypoint(Command::Shell(_)) if !shell => {
                let text = format!(
                    "JSON arguments recommended for {} to prevent unintended behavior related \
                     to OS signals",
                    origin.keyword.text
                );
                report(Rule::JsonArgsRecommended, text, origin, origin.span);
            }
            _ => {}
        }
    }
    shell
}

/// Reports every CMD, ENTRYPOINT and HEALTHCHECK but the last of a stage.
fn repeated(stage: &Stage, report: &mut impl Report) {
    let mut last: BTreeMap<&str, &Origin> = BTreeMap::new();
    for Instruction { kind, origin } in &stage.instructions {
        if !matches!(
            kind,
            Kind::Cmd(_) | Kind::Entrypoint(_) | Kind::Healthcheck(_)
        ) {
            continue;
        }
        if let Some(earlier) = last.insert(kind.keyword(), origin) {
            let text = format!(
                "Multiple {} instructions should not be used in the same stage because only \
                 the last one will be used",
                origin.keyword.text
            );
            report(
                Rule::MultipleInstructionsDisallowed,
                text,
                earlier,
                earlier.span,
            );
        }
    }
}

fn old_forms(instruction: &Instruction, report: &mut impl Report) {
    let Instruction { kind, origin } = instruction;
    match kind {
        Kind::Maintainer(_) => {
            let text = "Maintainer instruction is deprecated in favor of using label".to_owned();
            report(Rule::MaintainerDeprecated, text, origin, origin.span);
        }
        Kind::Env(pairs) | Kind::Label(pairs) if pairs.legacy => {
            let word = &origin.keyword.text;
            let text = format!(
                "\"{word} key=value\" should be used instead of legacy \"{word} key value\" format"
            );
            report(Rule::LegacyKeyValueFormat, text, origin, origin.span);
        }
        _ => {}
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
}

/// Returns the case of a word that is all in one case.
fn case(word: &str) -> Option<Case> {
    if !word.chars().any(char::is_uppercase) {
        Some(Case::Lower)
    } else if !word.chars().any(char::is_lowercase) {
        Some(Case::Upper)
    } else {
        None
    }
}

/// Reports the instruction words that are not in the case of most of them.
fn casing(file: &Dockerfile, warnings: &mut Vec<Warning>) {
    let mut words: Vec<(&Origin, Option<usize>, Option<Case>)> = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let others = stage.instructions.iter().map(|i| &i.origin);
        for origin in std::iter::once(&stage.origin).chain(others) {
            words.push((origin, Some(index), case(&origin.keyword.text)));
        }
    }
    let count = |want| words.iter().filter(|(_, _, is)| *is == Some(want)).count();
    let (want, name) = if count(Case::Lower) > count(Case::Upper) {
        (Case::Lower, "lowercase")
    } else {
        (Case::Upper, "uppercase")
    };
    for (origin, stage, is) in words {
        if is != Some(want) {
            let word = &origin.keyword;
            let text = format!(
                "Command '{}' should match the case of the command majority ({name})",
                word.text
            );
            warnings.push(Warning {
                rule: Rule::ConsistentInstructionCasing,
                text,
                span: word.span,
                line: origin.line,
                last_line: origin.last_line,
                stage,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Source, parse};

    fn found(text: &str) -> Vec<String> {
        let file = parse(&Source::new("Dockerfile", text)).unwrap();
        file.warnings
            .iter()
            .map(|w| format!("{} {}", w.line, w.rule.name()))
            .collect()
    }

    #[test]
    fn every_rule_of_the_text_has_its_trigger() {
        let table: &[(&str, &[&str])] = &[
            ("FROM a AS b\nRUN x\nCMD [\"y\"]", &[]),
            ("FROM a AS B", &["1 StageNameCasing"]),
            ("FROM a as b", &["1 FromAsCasing"]),
            ("from a AS b", &["1 FromAsCasing"]),
            (
                "from a as b\nrun c\nRUN d",
                &["3 ConsistentInstructionCasing"],
            ),
            ("FROM a\nrun b", &["2 ConsistentInstructionCasing"]),
            ("FROM a\nRun b", &["2 ConsistentInstructionCasing"]),
            (
                "FROM a AS x\nFROM a AS X",
                &["2 DuplicateStageName", "2 StageNameCasing"],
            ),
            ("FROM a AS scratch", &["1 ReservedStageName"]),
            ("FROM a AS context", &["1 ReservedStageName"]),
            ("FROM a\nRUN b \\\n\n c", &["4 NoEmptyContinuation"]),
            ("FROM a\nCMD b", &["2 JSONArgsRecommended"]),
            ("FROM a\nSHELL [\"s\"]\nENTRYPOINT b", &[]),
            ("FROM a AS x\nSHELL [\"s\"]\nFROM x\nCMD b", &[]),
            (
                "FROM a AS x\nSHELL [\"s\"]\nFROM a\nCMD b",
                &["4 JSONArgsRecommended"],
            ),
            ("FROM a\nMAINTAINER b", &["2 MaintainerDeprecated"]),
            ("arg x\nFROM a", &[]),
            ("# b is it\nFROM a AS b\n# c: it\n\nARG c", &[]),
            (
                "# it\nFROM a AS b\n# it\nARG c",
                &[
                    "2 InvalidDefinitionDescription",
                    "4 InvalidDefinitionDescription",
                ],
            ),
            (
                "# check=skip=all\nFROM a AS b\n# check=skip=all\nARG c",
                &[],
            ),
            ("FROM a\nENV b c", &["2 LegacyKeyValueFormat"]),
            ("FROM a\nLABEL b c", &["2 LegacyKeyValueFormat"]),
            (
                "FROM a\nCMD [\"b\"]\nRUN c\nCMD [\"d\"]\nFROM e\nCMD [\"f\"]",
                &["2 MultipleInstructionsDisallowed"],
            ),
            (
                "FROM a\nENTRYPOINT [\"b\"]\nHEALTHCHECK NONE\nENTRYPOINT [\"c\"]\nHEALTHCHECK CMD d",
                &[
                    "2 MultipleInstructionsDisallowed",
                    "3 MultipleInstructionsDisallowed",
                ],
            ),
        ];
        for (text, want) in table {
            assert_eq!(&found(text), want, "{text}");
        }
    }

    #[test]
    fn findings_say_which_stage_they_are_in() {
        let text = "FROM a\nFROM b\nCMD c";
        let file = parse(&Source::new("Dockerfile", text)).unwrap();
        assert_eq!(file.warnings[0].stage, Some(1));
        assert!(file.warnings[0].rule.needs_the_stage());
    }
}
