//! What stands before and between the stages: global ARGs, FROM lines, and who copies from whom.
//!
//! All of it is read for the whole file, whatever the target needs, since BuildKit refuses a
//! malformed FROM and a circle of copies in stages it does not build, too.

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::{Instruction, Kind, Names, Rule, Stage, Word};
use crate::image::{Platform, Reference};

use super::check::rules;
use super::error::{Error, StepError};
use super::eval::{Evaluator, expand};
use super::meant::Meant;
use super::scope::{BuildArgs, Env, platform_args};
use super::step::Base;

/// A FROM with its variables expanded.
#[derive(Debug, Clone)]
pub(super) struct FromLine {
    /// An image, a stage or `scratch`.
    pub(super) base: String,
    /// `--platform`.
    pub(super) platform: Option<Platform>,
    /// The variables in it.
    pub(super) used: BTreeSet<String>,
}

impl Evaluator<'_, '_> {
    /// Evaluates the ARGs before the first FROM; later ones see earlier ones.
    pub(super) fn evaluate_globals(&mut self, target: Option<&str>) -> Result<(), Error> {
        let last = self.dockerfile.stages.last().and_then(Stage::name);
        let target = target.or(last).unwrap_or("default");
        let predefined = platform_args(&Platform::host(), &self.platform, target);
        let plain = self.global_args(predefined.clone(), &BuildArgs::default());
        let mut start = Env::default();
        for pair in predefined.pairs() {
            let (key, value) = &**pair;
            start.set(key, self.build_args.get(key).unwrap_or(value));
        }
        if let Ok((defaults, _)) = plain {
            self.check_defaults(&defaults);
        }
        (self.globals, self.global_deps) = self.global_args(start, &self.build_args)?;
        Ok(())
    }

    /// Adds the global ARGs to `globals`; answers, too, which names each default takes up.
    fn global_args(
        &self,
        mut globals: Env,
        build_args: &BuildArgs,
    ) -> Result<(Env, BTreeMap<String, BTreeSet<String>>), Error> {
        let mut deps: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let pairs = self.dockerfile.args.iter().flat_map(|g| &g.arg.pairs);
        for pair in pairs {
            let (name, _) = self.expand_with(&globals, &pair.name)?;
            let value = match (build_args.get(&name), &pair.default) {
                (Some(given), _) => Some(given.to_owned()),
                (None, Some(default)) => {
                    let (value, names) = self.expand_with(&globals, default)?;
                    deps.entry(name.clone()).or_default().extend(names.used);
                    Some(value)
                }
                (None, None) => None,
            };
            if let Some(value) = value {
                globals.set(&name, &value);
            }
        }
        Ok((globals, deps))
    }

    /// Expands a word of the global scope.
    fn expand_with(&self, globals: &Env, word: &Word) -> Result<(String, Names), Error> {
        let look_up = |name: &str| globals.get(name).map(str::to_owned);
        expand(self.dockerfile.directives.escape, &look_up, self.file, word)
            .map_err(|error| self.dockerfile_error(error))
    }

    /// Reports the FROM lines that make no sense unless build arguments are given.
    fn check_defaults(&self, defaults: &Env) {
        for (index, stage) in self.dockerfile.stages.iter().enumerate() {
            let Ok((base, _)) = self.expand_with(defaults, &stage.from.base) else {
                return;
            };
            if base.parse::<Reference>().is_err() {
                let written = &stage.from.base.text;
                self.lint.enter(&stage.origin, Some(index));
                self.lint.report(
                    Rule::InvalidDefaultArgInFrom,
                    format!(
                        "Default value for ARG {written} results in empty or invalid base image name"
                    ),
                );
            }
        }
    }

    /// Expands every FROM of the file.
    pub(super) fn read_froms(&mut self) -> Result<(), Error> {
        let dockerfile = self.dockerfile;
        for (index, stage) in dockerfile.stages.iter().enumerate() {
            self.lint.enter(&stage.origin, Some(index));
            let line = self.read_from(index, stage)?;
            self.froms.push(line);
        }
        Ok(())
    }

    fn read_from(&self, index: usize, stage: &Stage) -> Result<FromLine, Error> {
        let from = &stage.from;
        let (base, mut names) = self.expand_with(&self.globals, &from.base)?;
        self.check_declared(&names);
        let in_from = |word: &Word, error| self.at(&stage.origin.original, word.span, error);
        if base.is_empty() {
            let written = from.base.text.clone();
            return Err(in_from(&from.base, StepError::BlankBase { written }));
        }
        let platform = match &from.platform {
            None => None,
            Some(word) => {
                let (platform, more) = self.stage_platform(stage, word)?;
                names.used.extend(more.used);
                Some(platform)
            }
        };
        if self.earlier_stage(index, &base).is_none() && base != "scratch" {
            base.parse::<Reference>()
                .map_err(|error| in_from(&from.base, error.into()))?;
        }
        Ok(FromLine {
            base,
            platform,
            used: names.used,
        })
    }

    fn stage_platform(&self, stage: &Stage, word: &Word) -> Result<(Platform, Names), Error> {
        let (text, names) = self.expand_with(&self.globals, word)?;
        self.check_declared(&names);
        let target = self.globals.get("TARGETPLATFORM");
        let only_target = names.unset.is_empty() && names.used.iter().eq(["TARGETPLATFORM"]);
        if only_target && target == Some(&text) {
            self.lint.report(
                Rule::RedundantTargetPlatform,
                format!(
                    "Setting platform to predefined {} in FROM is redundant as this is the default \
                     behavior",
                    word.text
                ),
            );
        }
        let written = word.text.clone();
        let platform: Platform = text.parse().map_err(|_| {
            let known = self.globals.names();
            let slip = names.unset.iter().next();
            let meant = slip.and_then(|slip| crate::dockerfile::suggest::nearest(slip, known));
            let error = match text.is_empty() {
                true => StepError::EmptyPlatform { written },
                false => StepError::BadPlatform { written },
            };
            let error = match meant {
                Some(meant) => StepError::Meant {
                    meant: Meant::Variable(meant.to_owned()),
                    span: word.span,
                    error: Box::new(error),
                },
                None => error,
            };
            self.at(&stage.origin.original, word.span, error)
        })?;
        let met = names.used.union(&names.unset).chain(&names.provided_for);
        if rules::constant_platform(stage.name(), &platform, &met.cloned().collect()) {
            self.lint.report(
                Rule::FromPlatformFlagConstDisallowed,
                format!("FROM --platform flag should not use constant value {text:?}"),
            );
        }
        Ok((platform, names))
    }

    /// Reports the variables of a FROM that no global ARG declares.
    fn check_declared(&self, names: &Names) {
        let declared = self.dockerfile.args.iter().flat_map(|g| &g.arg.pairs);
        let known: Vec<&str> = declared
            .map(|pair| pair.name.text.as_str())
            .chain(self.globals.names())
            .collect();
        for name in names.unset.iter().filter(|n| !known.contains(&n.as_str())) {
            let text = rules::undeclared(name, known.iter().copied());
            self.lint.report(Rule::UndefinedArgInFrom, text);
        }
    }

    /// Reports a base image that is for another platform than the stage.
    pub(super) fn check_platform(&self, base: &Base, name: &str, want: &Platform) {
        let Base::Image(image) = base else { return };
        let Some(config) = self.config(*image) else {
            return;
        };
        if config.os == want.os && config.architecture == want.architecture {
            return;
        }
        let got = format!("{}/{}", config.os, config.architecture);
        self.lint.report(
            Rule::InvalidBaseImagePlatform,
            format!(
                "Base image {name} was pulled with platform \"{got}\", expected \"{want}\" for \
                 current build"
            ),
        );
    }

    /// Refuses numbers that no stage has, and stages that copy from each other in a circle.
    pub(super) fn check_order(&self) -> Result<(), Error> {
        let mut edges = Vec::new();
        for stage in &self.dockerfile.stages {
            let sources = stage.instructions.iter().flat_map(|instruction| {
                let words = sources(&instruction.kind).into_iter();
                words.map(move |word| (instruction, word))
            });
            let stages = sources.map(|(instruction, word)| {
                let found = self.stage_anywhere(&word.text);
                let found = found.map_err(|error| {
                    let original = &instruction.origin.original;
                    self.at(original, instruction.origin.span, error)
                })?;
                Ok(found.map(|found| (found, instruction)))
            });
            edges.push(
                stages
                    .filter_map(Result::transpose)
                    .collect::<Result<Vec<_>, Error>>()?,
            );
        }
        let Some((start, instruction)) = circle(&edges) else {
            return Ok(());
        };
        let stage = self.stage_label(start);
        let origin = &instruction.origin;
        Err(self.at(&origin.original, origin.span, StepError::Circle { stage }))
    }

    /// Returns the stages that stage `index` needs, itself included, as far as the text shows it;
    /// those of a name that comes too late are left to the instruction that has it.
    pub(super) fn needed(&self, index: usize) -> BTreeSet<usize> {
        let mut needed = BTreeSet::new();
        let mut open = vec![index];
        while let Some(at) = open.pop() {
            if self.stages.contains_key(&at) || !needed.insert(at) {
                continue;
            }
            let stages = &self.dockerfile.stages;
            let base = &self.froms[at].base;
            let base = self
                .earlier_stage(at, base)
                .filter(|_| !self.is_named(base));
            open.extend(base);
            let own = stages[at].instructions.iter().map(|i| &i.kind);
            let triggers = base.into_iter().flat_map(|base| &stages[base].instructions);
            let triggers = triggers.filter_map(|instruction| match &instruction.kind {
                Kind::Onbuild(onbuild) => onbuild.trigger.as_deref().ok(),
                _ => None,
            });
            let words = own.chain(triggers).flat_map(sources);
            let words = words.filter(|word| !self.is_named(&word.text));
            let found = words.filter_map(|word| self.stage_anywhere(&word.text).ok().flatten());
            open.extend(found.filter(|stage| *stage < at));
        }
        needed
    }

    /// The stage that `--from` names, wherever it stands in the file.
    fn stage_anywhere(&self, from: &str) -> Result<Option<usize>, StepError> {
        let stages = self.dockerfile.stages.len();
        match from.parse::<usize>() {
            Ok(index) if index >= stages => Err(StepError::StageIndex { index }),
            Ok(index) => Ok(Some(index)),
            Err(_) => Ok(self.earlier_stage(stages, from)),
        }
    }

    /// How messages name a stage.
    pub(super) fn stage_label(&self, index: usize) -> String {
        match self.dockerfile.stages[index].name() {
            Some(name) => name.to_owned(),
            None => format!("stage-{index}"),
        }
    }
}

/// What an instruction names with `from`.
fn sources(kind: &Kind) -> Vec<&Word> {
    match kind {
        Kind::Copy(copy) => copy.from.iter().collect(),
        Kind::Run(run) => run.mounts.iter().filter_map(|m| m.from.as_ref()).collect(),
        _ => Vec::new(),
    }
}

/// Finds a circle: the stage the search began with, and the instruction that closes it.
fn circle<'a>(edges: &[Vec<(usize, &'a Instruction)>]) -> Option<(usize, &'a Instruction)> {
    let mut seen = BTreeSet::new();
    for start in 0..edges.len() {
        if !seen.insert(start) {
            continue;
        }
        // The way from `start`: stages, each with the next edge to follow.
        let mut way = vec![(start, 0)];
        let mut on_way = BTreeSet::from([start]);
        while let Some((at, next)) = way.last_mut() {
            let Some((to, instruction)) = edges[*at].get(*next) else {
                on_way.remove(at);
                way.pop();
                continue;
            };
            *next += 1;
            if on_way.contains(to) {
                return Some((start, *instruction));
            }
            if seen.insert(*to) {
                on_way.insert(*to);
                way.push((*to, 0));
            }
        }
    }
    None
}
