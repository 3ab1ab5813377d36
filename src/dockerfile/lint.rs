//! Lint rules that need only the text.
//!
//! The names are BuildKit's. Rules that need variables, base images or the context belong to
//! the build. Every finding says which stage it is in, since BuildKit reports some rules only
//! for stages that are built; [`Rule::needs_the_stage`] tells which.

use super::instruction::{Command, Dockerfile, Instruction, Kind, Origin, Stage};
use super::span::Span;
use std::collections::BTreeMap;

/// A rule of the linter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// A word is not in the case of the majority.
    ConsistentInstructionCasing,
    /// Two stages with one name.
    DuplicateStageName,
    /// `FROM … as` or `from … AS`.
    FromAsCasing,
    /// CMD or ENTRYPOINT in shell form.
    JsonArgsRecommended,
    /// `ENV key value`.
    LegacyKeyValueFormat,
    /// MAINTAINER.
    MaintainerDeprecated,
    /// A second CMD, ENTRYPOINT or HEALTHCHECK in a stage.
    MultipleInstructionsDisallowed,
    /// An empty line inside an instruction.
    NoEmptyContinuation,
    /// A stage called `scratch` or `context`.
    ReservedStageName,
    /// A stage name with capitals.
    StageNameCasing,
}

impl Rule {
    /// Returns the name, as `skip=` and reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConsistentInstructionCasing => "ConsistentInstructionCasing",
            Self::DuplicateStageName => "DuplicateStageName",
            Self::FromAsCasing => "FromAsCasing",
            Self::JsonArgsRecommended => "JSONArgsRecommended",
            Self::LegacyKeyValueFormat => "LegacyKeyValueFormat",
            Self::MaintainerDeprecated => "MaintainerDeprecated",
            Self::MultipleInstructionsDisallowed => "MultipleInstructionsDisallowed",
            Self::NoEmptyContinuation => "NoEmptyContinuation",
            Self::ReservedStageName => "ReservedStageName",
            Self::StageNameCasing => "StageNameCasing",
        }
    }

    /// Returns the page that explains the rule.
    pub fn url(self) -> &'static str {
        match self {
            Self::ConsistentInstructionCasing => {
                "https://docs.docker.com/go/dockerfile/rule/consistent-instruction-casing/"
            }
            Self::DuplicateStageName => {
                "https://docs.docker.com/go/dockerfile/rule/duplicate-stage-name/"
            }
            Self::FromAsCasing => "https://docs.docker.com/go/dockerfile/rule/from-as-casing/",
            Self::JsonArgsRecommended => {
                "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
            }
            Self::LegacyKeyValueFormat => {
                "https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/"
            }
            Self::MaintainerDeprecated => {
                "https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/"
            }
            Self::MultipleInstructionsDisallowed => {
                "https://docs.docker.com/go/dockerfile/rule/multiple-instructions-disallowed/"
            }
            Self::NoEmptyContinuation => {
                "https://docs.docker.com/go/dockerfile/rule/no-empty-continuation/"
            }
            Self::ReservedStageName => {
                "https://docs.docker.com/go/dockerfile/rule/reserved-stage-name/"
            }
            Self::StageNameCasing => {
                "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/"
            }
        }
    }

    /// Returns whether BuildKit reports the rule only for stages that are built.
    pub fn needs_the_stage(self) -> bool {
        matches!(
            self,
            Self::JsonArgsRecommended
                | Self::LegacyKeyValueFormat
                | Self::MultipleInstructionsDisallowed
        )
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: Rule,
    /// What is wrong, as a sentence without a full stop.
    pub text: String,
    /// The text to mark.
    pub span: Span,
    /// The line (from 1) to report.
    pub line: usize,
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
        stage: None,
    }
}

/// Applies the rules to what was read, which is all of a file or the part before an error.
pub(super) fn check(file: &Dockerfile, warnings: &mut Vec<Warning>) {
    casing(file, warnings);
    let mut shells: Vec<bool> = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let mut report = |rule, text, origin: &Origin, span| {
            warnings.push(Warning {
                rule,
                text,
                span,
                line: origin.line,
                stage: Some(index),
            });
        };
        stage_names(file, index, &mut report);
        let inherited = parent(file, index).is_some_and(|parent| shells[parent]);
        shells.push(commands(stage, inherited, &mut report));
        repeated(stage, &mut report);
        for instruction in &stage.instructions {
            old_forms(instruction, &mut report);
        }
    }
    warnings.sort_by_key(|warning| (warning.line, warning.span, warning.rule));
}

/// Returns the earlier stage that a stage is built on.
fn parent(file: &Dockerfile, index: usize) -> Option<usize> {
    let base = file.stages[index].from.base.text.to_lowercase();
    file.stages[..index]
        .iter()
        .rposition(|stage| stage.name() == Some(&base))
}

trait Report: FnMut(Rule, String, &Origin, Span) {}
impl<F: FnMut(Rule, String, &Origin, Span)> Report for F {}

fn stage_names(file: &Dockerfile, index: usize, report: &mut impl Report) {
    let stage = &file.stages[index];
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
    if file.stages[..index]
        .iter()
        .any(|other| other.name() == Some(&name.name))
    {
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
                    kind.keyword()
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
                kind.keyword()
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
            let word = kind.keyword();
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
    if word == word.to_lowercase() {
        Some(Case::Lower)
    } else if word == word.to_uppercase() {
        Some(Case::Upper)
    } else {
        None
    }
}

/// Reports the instruction words that are not in the case of most of them.
fn casing(file: &Dockerfile, warnings: &mut Vec<Warning>) {
    let mut words: Vec<(&Origin, Option<usize>)> =
        file.args.iter().map(|arg| (&arg.origin, None)).collect();
    for (index, stage) in file.stages.iter().enumerate() {
        words.push((&stage.origin, Some(index)));
        words.extend(stage.instructions.iter().map(|i| (&i.origin, Some(index))));
    }
    let count = |want| {
        words
            .iter()
            .filter(|(o, _)| case(&o.keyword.text) == Some(want))
            .count()
    };
    let (want, name) = if count(Case::Lower) > count(Case::Upper) {
        (Case::Lower, "lowercase")
    } else {
        (Case::Upper, "uppercase")
    };
    for (origin, stage) in words {
        let word = &origin.keyword;
        if case(&word.text) != Some(want) {
            let text = format!(
                "Command '{}' should match the case of the command majority ({name})",
                word.text
            );
            warnings.push(Warning {
                rule: Rule::ConsistentInstructionCasing,
                text,
                span: word.span,
                line: origin.line,
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
            ("FROM a\nRUN b \\\n\n c", &["4 NoEmptyContinuation"]),
            ("FROM a\nCMD b", &["2 JSONArgsRecommended"]),
            ("FROM a\nSHELL [\"s\"]\nENTRYPOINT b", &[]),
            ("FROM a AS x\nSHELL [\"s\"]\nFROM x\nCMD b", &[]),
            (
                "FROM a AS x\nSHELL [\"s\"]\nFROM a\nCMD b",
                &["4 JSONArgsRecommended"],
            ),
            ("FROM a\nMAINTAINER b", &["2 MaintainerDeprecated"]),
            ("FROM a\nENV b c", &["2 LegacyKeyValueFormat"]),
            ("FROM a\nLABEL b c", &["2 LegacyKeyValueFormat"]),
            (
                "FROM a\nCMD [\"b\"]\nRUN c\nCMD [\"d\"]\nFROM e\nCMD [\"f\"]",
                &["2 MultipleInstructionsDisallowed"],
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
        assert!(
            file.warnings[0]
                .rule
                .url()
                .ends_with("/json-args-recommended/")
        );
    }
}
