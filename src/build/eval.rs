//! Evaluates the instructions a target needs: Dockerfile in, plan out.
//!
//! Nothing here touches a disk, a network or a process; base images come through a closure. The
//! stages a target needs are found by evaluating it: its base, then whatever its COPY reads from,
//! each before the stage that reads it. A stage nobody reads is never looked at, and its base is never
//! fetched.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dockerfile::{Dockerfile, Expander, Instruction, Source, Span, Word};
use crate::event::StepId;
use crate::image::{Config, Platform, Reference};

use super::commit::DEFAULT_PATH;
use super::error::{Error, StepError, ValueError};
use super::instruct::StageState;
use super::meant::meant;
use super::request::Request;
use super::scope::{BuildArgs, Env, Scope, platform_args};
use super::step::{Base, ImageNeed, Plan, StagePlan};

/// Fetches the config of an image a stage needs; called once an image.
pub(super) type Resolve<'a> = dyn FnMut(&ImageNeed) -> Result<Config, StepError> + 'a;

/// Evaluates all that the target of `request` needs.
pub(super) fn evaluate(
    dockerfile: &Dockerfile,
    file: &Arc<Source>,
    request: &Request,
    platform: &Platform,
    resolve: &mut Resolve<'_>,
) -> Result<Plan, Error> {
    let target = find_target(dockerfile, request.target.as_deref())?;
    let build_args = BuildArgs::new(&request.build_args);
    let mut evaluator = Evaluator {
        dockerfile,
        file,
        request,
        platform: platform.clone(),
        globals: Env::default(),
        build_args,
        resolve,
        needs: Vec::new(),
        configs: Vec::new(),
        stages: BTreeMap::new(),
    };
    evaluator.evaluate_globals(target)?;
    evaluator.stage(target)?;
    Ok(number(evaluator.stages, target, dockerfile.stages.len()))
}

/// The stage `--target` means: a name in any case, or an index; the last one by default.
fn find_target(dockerfile: &Dockerfile, target: Option<&str>) -> Result<usize, Error> {
    let last = dockerfile.stages.len().saturating_sub(1);
    let Some(target) = target.filter(|target| !target.is_empty()) else {
        return Ok(last);
    };
    let wanted = target.to_lowercase();
    let by_name = dockerfile
        .stages
        .iter()
        .rposition(|stage| stage.name() == Some(&wanted));
    let by_index = target.parse().ok().filter(|index| *index <= last);
    by_name.or(by_index).ok_or_else(|| {
        let names = dockerfile.stages.iter().filter_map(|stage| stage.name());
        let nearest = crate::dockerfile::suggest::nearest(&wanted, names).map(str::to_owned);
        Error::NoTarget {
            target: target.to_owned(),
            nearest,
        }
    })
}

/// A stage and what stages built on it inherit beyond the config.
pub(super) struct Evaluated {
    pub(super) plan: StagePlan,
    pub(super) scope: Scope,
}

/// The evaluation of one Dockerfile.
pub(super) struct Evaluator<'a, 'r> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) file: &'a Arc<Source>,
    pub(super) request: &'a Request,
    pub(super) platform: Platform,
    pub(super) globals: Env,
    pub(super) build_args: BuildArgs,
    resolve: &'a mut Resolve<'r>,
    needs: Vec<ImageNeed>,
    configs: Vec<Config>,
    pub(super) stages: BTreeMap<usize, Evaluated>,
}

impl Evaluator<'_, '_> {
    /// Evaluates the ARGs before the first FROM; later ones see earlier ones.
    fn evaluate_globals(&mut self, target: usize) -> Result<(), Error> {
        let name = self.dockerfile.stages[target].name().unwrap_or("default");
        let predefined = platform_args(&Platform::host(), &self.platform, name);
        for (key, value) in predefined.pairs() {
            let value = self.build_args.get(key).unwrap_or(value).to_owned();
            self.globals.set(key, &value);
        }
        for global in &self.dockerfile.args {
            for pair in &global.arg.pairs {
                let name = self.expand_global(&pair.name)?;
                let value = match (self.build_args.get(&name), &pair.default) {
                    (Some(given), _) => Some(given.to_owned()),
                    (None, Some(default)) => Some(self.expand_global(default)?),
                    (None, None) => None,
                };
                if let Some(value) = value {
                    self.globals.set(&name, &value);
                }
            }
        }
        Ok(())
    }

    /// Expands a word of the global scope.
    fn expand_global(&self, word: &Word) -> Result<String, Error> {
        let look_up = |name: &str| self.globals.get(name).map(str::to_owned);
        expand(self.dockerfile.directives.escape, &look_up, self.file, word)
            .map_err(|error| self.dockerfile_error(error))
    }

    fn dockerfile_error(&self, error: crate::dockerfile::Error) -> Error {
        Error::Dockerfile {
            file: Arc::clone(self.file),
            error,
        }
    }

    /// Places an error at an instruction.
    pub(super) fn at(&self, name: &str, span: Span, error: StepError) -> Error {
        match error {
            StepError::Text(error) => self.dockerfile_error(error),
            error => Error::Step {
                name: name.to_owned(),
                file: Arc::clone(self.file),
                span,
                error: Box::new(error),
            },
        }
    }

    /// Evaluates stage `index`, and before it the stages it needs, unless that has been done.
    pub(super) fn stage(&mut self, index: usize) -> Result<(), Error> {
        if self.stages.contains_key(&index) {
            return Ok(());
        }
        let dockerfile = self.dockerfile;
        let stage = &dockerfile.stages[index];
        let span = stage.origin.span;
        let from = &stage.from;
        let platform = match &from.platform {
            Some(word) => self.stage_platform(word, &stage.origin.original)?,
            None => self.platform.clone(),
        };
        let base_name = self.expand_global(&from.base)?;
        let in_from = |this: &Self, error| this.at(&stage.origin.original, span, error);
        if base_name.is_empty() {
            let error = StepError::Value(from.base.text.clone(), ValueError::Empty);
            return Err(in_from(self, error));
        }
        let base = self
            .find_base(index, &base_name, &platform, from.base.span)
            .map_err(|error| in_from(self, error))?;
        let (mut state, triggers) = self.begin(&base)?;
        let label = match stage.name() {
            Some(name) => name.to_owned(),
            None => format!("stage-{index}"),
        };
        for text in &triggers {
            let source = Arc::new(Source::new(
                "ONBUILD trigger of the base image",
                text.as_str(),
            ));
            let trigger = crate::dockerfile::parse_instruction(&source).map_err(|error| {
                Error::Dockerfile {
                    file: source,
                    error,
                }
            })?;
            self.instruction(index, &mut state, &trigger, span, true)?;
        }
        for instruction in &stage.instructions {
            self.instruction(
                index,
                &mut state,
                instruction,
                instruction.origin.span,
                false,
            )?;
        }
        let filter = &self.request.no_cache_filter;
        let plan = StagePlan {
            no_cache: self.request.no_cache
                || filter.iter().any(|name| name.eq_ignore_ascii_case(&label)),
            label,
            base,
            from: StepId(0),
            from_name: format!("FROM {base_name}"),
            steps: state.steps,
            needs: state.needs,
            platform,
            config: state.config,
            author: state.author,
        };
        self.stages.insert(
            index,
            Evaluated {
                plan,
                scope: state.scope,
            },
        );
        Ok(())
    }

    fn stage_platform(&self, word: &Word, original: &str) -> Result<Platform, Error> {
        let text = self.expand_global(word)?;
        let why = if text.is_empty() {
            ValueError::Empty
        } else {
            ValueError::Platform
        };
        text.parse().map_err(|_| {
            self.at(
                original,
                word.span,
                StepError::Value(word.text.clone(), why),
            )
        })
    }

    fn find_base(
        &mut self,
        index: usize,
        name: &str,
        platform: &Platform,
        span: Span,
    ) -> Result<Base, StepError> {
        if let Some(stage) = self.earlier_stage(index, name) {
            // An error inside the base stage is placed there, not at this FROM.
            return Ok(Base::Stage(stage));
        }
        if name == "scratch" {
            return Ok(Base::Scratch);
        }
        let image = self.image(index, name, platform, span)?;
        Ok(Base::Image(image))
    }

    /// The last stage before `index` that has this name.
    pub(super) fn earlier_stage(&self, index: usize, name: &str) -> Option<usize> {
        let wanted = name.to_lowercase();
        self.dockerfile.stages[..index]
            .iter()
            .rposition(|stage| stage.name() == Some(&wanted))
    }

    /// Gets an image's place in the list of needed ones, fetching its config the first time.
    /// Stage `index` names it at `span`.
    pub(super) fn image(
        &mut self,
        index: usize,
        name: &str,
        platform: &Platform,
        span: Span,
    ) -> Result<usize, StepError> {
        let reference: Reference = name.parse()?;
        let known = |need: &ImageNeed| need.reference == reference && need.platform == *platform;
        if let Some(at) = self.needs.iter().position(known) {
            return Ok(at);
        }
        let need = ImageNeed {
            reference,
            platform: platform.clone(),
            span,
        };
        let config =
            (self.resolve)(&need).map_err(|error| match meant(self.dockerfile, index, name) {
                Some(meant) => StepError::Meant {
                    meant,
                    span,
                    error: Box::new(error),
                },
                None => error,
            })?;
        self.needs.push(need);
        self.configs.push(config);
        Ok(self.needs.len() - 1)
    }

    /// What a stage has before its first instruction, and the triggers of its base.
    fn begin(&mut self, base: &Base) -> Result<(StageState, Vec<String>), Error> {
        let mut state = StageState::default();
        match base {
            Base::Scratch => state.config.working_dir = "/".to_owned(),
            Base::Image(image) => {
                let config = &self.configs[*image];
                state.config = config.config.clone();
                state.author.clone_from(&config.author);
                state.scope.env = Env::from_pairs(&config.config.env);
            }
            Base::Stage(stage) => {
                self.stage(*stage)?;
                let evaluated = &self.stages[stage];
                state.config = evaluated.plan.config.clone();
                state.author.clone_from(&evaluated.plan.author);
                state.scope = evaluated.scope.clone();
            }
        }
        if state.config.env_value("PATH").is_none() {
            state.config.set_env("PATH", DEFAULT_PATH);
            state.scope.env.set("PATH", DEFAULT_PATH);
        }
        let triggers = std::mem::take(&mut state.config.on_build);
        Ok((state, triggers))
    }

    fn instruction(
        &mut self,
        index: usize,
        state: &mut StageState,
        instruction: &Instruction,
        span: Span,
        triggered: bool,
    ) -> Result<(), Error> {
        let before = state.needs.len();
        let result = self.instruct(index, state, instruction, span, triggered);
        let name = instruction.origin.original.clone();
        result.map_err(|error| match error {
            // A trigger's own spans point into a text that the user never saw.
            StepError::Text(error) if triggered => {
                let kind = *error.kind;
                self.dockerfile_error(crate::dockerfile::Error::new(self.file, kind, span))
            }
            StepError::Meant { meant, error, .. } if triggered => {
                self.at(&name, span, StepError::Meant { meant, span, error })
            }
            error => self.at(&name, span, error),
        })?;
        for stage in state.needs[before..].iter().copied() {
            self.stage(stage)?;
        }
        Ok(())
    }
}

/// Expands one word; an error names the word's place.
pub(super) fn expand(
    escape: char,
    look_up: &dyn Fn(&str) -> Option<String>,
    file: &Source,
    word: &Word,
) -> Result<String, crate::dockerfile::Error> {
    Expander::new(escape, look_up)
        .word(&word.text)
        .map_err(|error| crate::dockerfile::Error::expanding(file, word, error))
}

/// Orders the stages, replaces indices into the file by indices into the plan, and gives every
/// shown step its id and name: `[build 2/5] RUN make`.
fn number(stages: BTreeMap<usize, Evaluated>, target: usize, in_file: usize) -> Plan {
    let place: BTreeMap<usize, usize> = stages
        .keys()
        .enumerate()
        .map(|(place, index)| (*index, place))
        .collect();
    let mut next = 0;
    let mut plan = Plan {
        stages: Vec::new(),
        target: place[&target],
    };
    for mut stage in stages.into_values().map(|evaluated| evaluated.plan) {
        if let Base::Stage(base) = &mut stage.base {
            *base = place[base];
        }
        for need in &mut stage.needs {
            *need = place[need];
        }
        let total = 1 + stage
            .steps
            .iter()
            .filter(|step| step.shown.is_some())
            .count();
        let label = if in_file == 1 && stage.label == "stage-0" {
            String::new()
        } else {
            format!("{} ", stage.label)
        };
        let mut at = 0;
        let mut name = |text: &str| {
            at += 1;
            next += 1;
            (StepId(next), format!("[{label}{at}/{total}] {text}"))
        };
        (stage.from, stage.from_name) = name(&stage.from_name);
        for step in &mut stage.steps {
            if let Some(shown) = &mut step.shown {
                *shown = name(&shown.1);
            }
            step.renumber_stages(&place);
        }
        plan.stages.push(stage);
    }
    plan
}
