//! What a Dockerfile offers: its targets, and the parameters of one of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::{self, Arg, Dockerfile, Kind, MountKind, Origin, Stage};
use crate::image::Platform;
use crate::store::Store;

use super::super::error::Error;
use super::super::eval::{Evaluator, Input};
use super::super::request::Request;
use super::super::scope::BuildArgs;
use super::super::sources;
use super::super::step::ImageNeed;
use super::{Linter, local_config};

/// A stage that can be a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, lower case; nothing for a stage without one.
    pub name: Option<String>,
    /// The comment above it that begins with its name.
    pub description: Option<String>,
    /// What it is built on, as written.
    pub base: String,
    /// `--platform` as written.
    pub platform: Option<String>,
    /// Whether it is built when nobody names a target.
    pub default: bool,
    /// The line of its FROM.
    pub line: usize,
}

/// The parameters of a target and of all it needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outline {
    /// The target's name.
    pub name: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// Arguments, in the order of the file.
    pub args: Vec<OutlineArg>,
    /// Secrets, in the order of the file.
    pub secrets: Vec<Named>,
    /// SSH agents or keys, in the order of the file.
    pub ssh: Vec<Named>,
}

/// An argument of an outline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// The value in force.
    pub value: Option<String>,
    /// The comment above it that begins with its name.
    pub description: Option<String>,
    /// The line of the ARG that gives it its value.
    pub line: usize,
}

/// A secret or ssh mount of an outline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// The line of the RUN that first mounts it.
    pub line: usize,
}

/// Lists the targets of a Dockerfile.
pub fn targets(store: &Store, request: &Request) -> Result<Vec<Target>, Error> {
    let sources = sources::open(store, request)?;
    let parsed = parse(&sources)?;
    let last = parsed.stages.len().saturating_sub(1);
    let target = |(index, stage): (usize, &Stage)| Target {
        name: stage.name().map(str::to_owned),
        description: description(stage),
        base: stage.from.base.text.clone(),
        platform: stage.from.platform.as_ref().map(|word| word.text.clone()),
        default: index == last,
        line: stage.origin.line,
    };
    Ok(parsed.stages.iter().enumerate().map(target).collect())
}

/// Lists the parameters of the target and of all it needs.
pub fn outline(store: &Store, request: &Request) -> Result<Outline, Error> {
    let sources = sources::open(store, request)?;
    let parsed = parse(&sources)?;
    let platform = request.platforms.first().cloned();
    let input = Input {
        dockerfile: &parsed,
        file: &sources.file,
        request,
        platform: &platform.unwrap_or_else(Platform::host),
        ignore: sources.files.context.ignore(),
        lint: &Linter::default(),
    };
    let mut resolve = |need: &ImageNeed| local_config(store, need);
    let mut evaluator = Evaluator::new(&input, &mut resolve);
    let target = evaluator.prepare()?;
    evaluator.stage(target)?;
    let build_args = BuildArgs::new(&request.build_args);
    let stage = &parsed.stages[target];
    let mut outline = Outline {
        name: stage.name().map(str::to_owned),
        description: description(stage),
        ..Outline::default()
    };
    let mut args = BTreeMap::new();
    for index in evaluator.stages.keys() {
        for arg in args_of(&evaluator, &build_args, *index) {
            args.entry(arg.name.clone()).or_insert(arg);
        }
        mounts_of(&evaluator, *index, &mut outline);
    }
    outline.args = args.into_values().collect();
    outline.args.sort_by_key(|arg| arg.line);
    Ok(outline)
}

fn parse(sources: &sources::Sources) -> Result<Dockerfile, Error> {
    dockerfile::parse(&sources.file).map_err(|error| Error::Dockerfile {
        file: std::sync::Arc::clone(&sources.file),
        error,
    })
}

fn description(stage: &Stage) -> Option<String> {
    let name = stage.name()?;
    stage.origin.description(name).map(str::to_owned)
}

/// The arguments a stage takes up: those in its FROM with all their defaults take up, and those
/// it declares. One that only hands the global value on is shown where that is given.
fn args_of(evaluator: &Evaluator<'_, '_>, build_args: &BuildArgs, index: usize) -> Vec<OutlineArg> {
    let mut args = Vec::new();
    let mut open: Vec<String> = evaluator.froms[index].used.iter().cloned().collect();
    for instruction in &evaluator.dockerfile.stages[index].instructions {
        let Kind::Arg(arg) = &instruction.kind else {
            continue;
        };
        for pair in &arg.pairs {
            let name = &pair.name.text;
            let handed_on = pair.default.is_none()
                && build_args.get(name).is_none()
                && evaluator.globals.get(name).is_some();
            if handed_on {
                open.push(name.clone());
                continue;
            }
            let declared = &evaluator.stages[&index].scope.args;
            let value = declared.iter().find(|declared| &declared.name == name);
            args.push(OutlineArg {
                name: name.clone(),
                value: value.and_then(|declared| declared.value.clone()),
                description: instruction.origin.description(name).map(str::to_owned),
                line: instruction.origin.line,
            });
        }
    }
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        open.extend(
            evaluator
                .global_deps
                .get(&name)
                .into_iter()
                .flatten()
                .cloned(),
        );
        let declares = |arg: &Arg| arg.pairs.iter().any(|pair| pair.name.text == name);
        let mut globals = evaluator.dockerfile.args.iter();
        if let Some(global) = globals.rfind(|global| declares(&global.arg)) {
            args.push(global_arg(evaluator, &name, &global.origin));
        }
    }
    args
}

fn global_arg(evaluator: &Evaluator<'_, '_>, name: &str, origin: &Origin) -> OutlineArg {
    OutlineArg {
        name: name.to_owned(),
        value: evaluator.globals.get(name).map(str::to_owned),
        description: origin.description(name).map(str::to_owned),
        line: origin.line,
    }
}

/// Adds the secrets and ssh mounts of a stage.
fn mounts_of(evaluator: &Evaluator<'_, '_>, index: usize, outline: &mut Outline) {
    let scope = &evaluator.stages[&index].scope;
    let look_up = |name: &str| scope.env.get(name).map(str::to_owned);
    let escape = evaluator.dockerfile.directives.escape;
    let mut expander = dockerfile::Expander::new(escape, &look_up);
    for instruction in &evaluator.dockerfile.stages[index].instructions {
        let Kind::Run(run) = &instruction.kind else {
            continue;
        };
        for mount in &run.mounts {
            // A mount that is wrong stopped the evaluation before.
            let Ok(mount) = mount.resolve(&mut |text| expander.word(text)) else {
                continue;
            };
            let (into, name) = match mount.kind {
                MountKind::Secret => {
                    let target = mount.target.as_deref().and_then(|t| t.rsplit('/').next());
                    let name = mount.id.as_deref().or(target).unwrap_or_default();
                    (&mut outline.secrets, name.to_owned())
                }
                MountKind::Ssh => {
                    let name = mount.id.unwrap_or_else(|| "default".to_owned());
                    (&mut outline.ssh, name)
                }
                _ => continue,
            };
            if !into.iter().any(|named| named.name == name) {
                into.push(Named {
                    name,
                    required: mount.required,
                    line: instruction.origin.line,
                });
            }
        }
    }
}
