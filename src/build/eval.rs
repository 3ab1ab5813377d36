//! Evaluates the instructions a target needs: Dockerfile in, plan out.
//!
//! Nothing here touches a disk, a network or a process; base images come through a closure. The
//! stages a target needs are found by evaluating it: its base, then whatever its COPY reads from,
//! each before the stage that reads it. A stage nobody reads is never looked at, and its base is never
//! fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::dockerfile::{Dockerfile, Expander, Ignore, Instruction, Names, Source, Span, Word};
use crate::event::StepId;
use crate::image::{Config, Platform};

use super::attest::sbom;
use super::check::Linter;
use super::commit::DEFAULT_PATH;
use super::emulation::{self, Answer};
use super::error::{Error, StepError};
use super::froms::FromLine;
use super::instruct::StageState;
use super::meant::meant;
use super::named::{self, NamedSource};
use super::request::Request;
use super::scope::{BuildArgs, Env, Scope};
use super::step::{Base, ImageNeed, Plan, StagePlan, Step};

/// Fetches the config of an image a stage needs; called once an image. `None` where a check does
/// without the image.
pub(super) type Resolve<'a> = dyn FnMut(&ImageNeed) -> Result<Option<Config>, StepError> + 'a;

/// What is evaluated, and with what.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) file: &'a Arc<Source>,
    pub(super) request: &'a Request,
    pub(super) platform: &'a Platform,
    /// What the context leaves out, for the rule about that.
    pub(super) ignore: &'a Ignore,
    /// Where findings go.
    pub(super) lint: &'a Linter,
}

/// How steps are numbered and named over all platforms of a build.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The last number that was given.
    next: u32,
    /// Whether names say the platform.
    several: bool,
}

impl Numbers {
    /// Begins to count for so many platforms.
    pub(super) fn new(platforms: usize) -> Self {
        Self {
            next: 0,
            several: platforms > 1,
        }
    }

    /// Takes the next `count` numbers, and returns the first.
    pub(super) fn take(&mut self, count: u32) -> u32 {
        let first = self.next + 1;
        self.next += count;
        first
    }
}

/// Evaluates all that the target of the request needs.
pub(super) fn evaluate(
    input: &Input<'_>,
    numbers: &mut Numbers,
    resolve: &mut Resolve<'_>,
) -> Result<Plan, Error> {
    let mut evaluator = Evaluator::new(input, resolve);
    let target = evaluator.prepare()?;
    evaluator.check_programs(target)?;
    evaluator.stage(target)?;
    let several = numbers.several.then_some(input.platform);
    let in_file = input.dockerfile.stages.len();
    let next = &mut numbers.next;
    let mut plan = number(evaluator.stages, target, in_file, several, next);
    plan.contexts = evaluator.contexts;
    Ok(plan)
}

/// Refuses what could not run, without looking at any image. Other mistakes are left to
/// [`evaluate`].
pub(super) fn check_programs(input: &Input<'_>) -> Result<(), Error> {
    let mut none = |_: &ImageNeed| Ok(None);
    let mut evaluator = Evaluator::new(input, &mut none);
    match evaluator.prepare() {
        Ok(target) => evaluator.check_programs(target),
        Err(_) => Ok(()),
    }
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
    /// Whether a WORKDIR was seen.
    pub(super) workdir_set: bool,
}

/// What stands behind the name of a context.
pub(super) enum Named {
    /// Files, as an index into the contexts of the request.
    Files(usize),
    /// An image, as an index into the images that were resolved.
    Image(usize),
    /// Nothing at all.
    Nothing,
}

/// The evaluation of one Dockerfile.
pub(super) struct Evaluator<'a, 'r> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) file: &'a Arc<Source>,
    pub(super) request: &'a Request,
    pub(super) platform: Platform,
    pub(super) globals: Env,
    pub(super) build_args: BuildArgs,
    pub(super) ignore: &'a Ignore,
    pub(super) lint: &'a Linter,
    /// Where the stages of a name stand.
    places: BTreeMap<String, Vec<usize>>,
    /// Which names the default of a global ARG takes up.
    pub(super) global_deps: BTreeMap<String, BTreeSet<String>>,
    /// What each FROM says, once [`Evaluator::prepare`] has read them.
    pub(super) froms: Vec<FromLine>,
    resolve: &'a mut Resolve<'r>,
    needs: Vec<ImageNeed>,
    configs: Vec<Option<Config>>,
    /// Named contexts whose files are read.
    contexts: BTreeSet<usize>,
    pub(super) stages: BTreeMap<usize, Evaluated>,
}

impl<'a, 'r> Evaluator<'a, 'r> {
    pub(super) fn new(input: &Input<'a>, resolve: &'a mut Resolve<'r>) -> Self {
        Self {
            dockerfile: input.dockerfile,
            file: input.file,
            request: input.request,
            platform: input.platform.clone(),
            globals: Env::default(),
            build_args: BuildArgs::new(&input.request.build_args),
            ignore: input.ignore,
            lint: input.lint,
            places: places(input.dockerfile),
            global_deps: BTreeMap::new(),
            froms: Vec::new(),
            resolve,
            needs: Vec::new(),
            configs: Vec::new(),
            contexts: BTreeSet::new(),
            stages: BTreeMap::new(),
        }
    }
}

fn places(dockerfile: &Dockerfile) -> BTreeMap<String, Vec<usize>> {
    let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, stage) in dockerfile.stages.iter().enumerate() {
        if let Some(name) = stage.name() {
            places.entry(name.to_owned()).or_default().push(index);
        }
    }
    places
}

impl Evaluator<'_, '_> {
    /// Evaluates what all stages share, and finds the target: global ARGs, FROM lines, and the
    /// order in which stages name each other.
    pub(super) fn prepare(&mut self) -> Result<usize, Error> {
        let target = self.request.target.as_deref();
        self.evaluate_globals(target)?;
        self.read_froms()?;
        let target = find_target(self.dockerfile, target)?;
        self.check_order()?;
        Ok(target)
    }

    pub(super) fn dockerfile_error(&self, error: crate::dockerfile::Error) -> Error {
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
    ///
    /// A stage needs only stages before it, so going by number is enough; only a trigger of an
    /// image can name one that the text did not.
    pub(super) fn stage(&mut self, index: usize) -> Result<(), Error> {
        for needed in self.needed(index) {
            self.evaluate_stage(needed)?;
        }
        Ok(())
    }

    fn evaluate_stage(&mut self, index: usize) -> Result<(), Error> {
        if self.stages.contains_key(&index) {
            return Ok(());
        }
        let dockerfile = self.dockerfile;
        let stage = &dockerfile.stages[index];
        let span = stage.origin.span;
        let base_name = self.froms[index].base.clone();
        let platform = self.platform_of(index);
        let base = self
            .find_base(index, &base_name, &platform, stage.from.base.span)
            .map_err(|error| self.at(&stage.origin.original, span, error))?;
        let platform = self.settled(index, &base, platform);
        let (mut state, triggers) = self.begin(&base)?;
        if let Base::Files(context) = base {
            state.steps.push(Step::all_files(context, &base_name, span));
        }
        self.lint.enter(&stage.origin, Some(index));
        self.lint.reach(index, !state.config.shell.is_empty());
        self.check_platform(&base, &base_name, &platform);
        let label = self.stage_label(index);
        for name in [sbom::SCAN_STAGE, sbom::SCAN_CONTEXT] {
            state.scan.set(name, self.globals.get(name), &label);
        }
        for text in &triggers {
            let source = Source::new("trigger", text.as_str());
            let trigger = crate::dockerfile::parse_instruction(&source).map_err(|error| {
                let name = format!("ONBUILD {text}");
                self.at(&name, span, StepError::Trigger(error.kind))
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
        let is_image = matches!(base, Base::Image(_));
        let from = is_image.then(|| (StepId(0), format!("FROM {base_name}")));
        let filter = &self.request.no_cache_filter;
        let plan = StagePlan {
            no_cache: self.request.no_cache
                || filter.iter().any(|name| name.eq_ignore_ascii_case(&label)),
            label,
            base,
            from,
            steps: state.steps,
            needs: state.needs,
            platform,
            config: state.config,
            author: state.author,
            scan: state.scan,
        };
        self.stages.insert(
            index,
            Evaluated {
                plan,
                scope: state.scope,
                workdir_set: state.workdir_set,
            },
        );
        Ok(())
    }

    /// The platform of stage `index`: what its FROM says, or that of the stage it starts from, or
    /// the target's.
    pub(super) fn platform_of(&self, index: usize) -> Platform {
        let from = &self.froms[index];
        if let Some(platform) = &from.platform {
            return platform.clone();
        }
        match self.earlier_stage(index, &from.base) {
            // What its base made of it, where that is known by now.
            Some(below) => match self.stages.get(&below) {
                Some(evaluated) => evaluated.plan.platform.clone(),
                None => self.platform_of(below),
            },
            None => self.platform.clone(),
        }
    }

    /// The platform of a stage on `base`: where nobody asked for one, it is the image's if this
    /// machine runs the programs of that. Where it does not, what the image says may be wrong, so
    /// they are tried.
    fn settled(&self, index: usize, base: &Base, wanted: Platform) -> Platform {
        let asked = self.froms[index].platform.is_some() || !self.request.platforms.is_empty();
        let Base::Image(image) = base else {
            return wanted;
        };
        let Some(config) = self.config(*image).filter(|_| !asked) else {
            return wanted;
        };
        let own = config.platform().normalised();
        let same = (&own.os, &own.architecture) == (&wanted.os, &wanted.architecture);
        match !same && emulation::ask(&own) == Answer::Runs {
            true => own,
            false => wanted,
        }
    }

    fn find_base(
        &mut self,
        index: usize,
        name: &str,
        platform: &Platform,
        span: Span,
    ) -> Result<Base, StepError> {
        match self.named(index, name, platform, span)? {
            Some(Named::Image(image)) => return Ok(Base::Image(image)),
            Some(Named::Nothing) => return Ok(Base::Scratch),
            Some(Named::Files(context)) => return Ok(Base::Files(context)),
            None => {}
        }
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
        let places = self.places.get(&wanted)?;
        let before = places.partition_point(|place| *place < index);
        before.checked_sub(1).map(|last| places[last])
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
        let need = ImageNeed {
            reference: name.parse()?,
            layout: None,
            platform: platform.clone(),
            span,
        };
        self.need(index, name, need)
    }

    /// Whether a named context stands in the place of `name`.
    pub(super) fn is_named(&self, name: &str) -> bool {
        named::find(&self.request.contexts, name, &self.platform).is_some()
    }

    /// What a named context puts in the place of `name`, if there is one of that name.
    pub(super) fn named(
        &mut self,
        index: usize,
        name: &str,
        platform: &Platform,
        span: Span,
    ) -> Result<Option<Named>, StepError> {
        let contexts = &self.request.contexts;
        let Some(at) = named::find(contexts, name, platform) else {
            return Ok(None);
        };
        let need = |reference, layout| ImageNeed {
            reference,
            layout,
            platform: platform.clone(),
            span,
        };
        Ok(Some(match &contexts[at].source {
            NamedSource::Nothing => Named::Nothing,
            NamedSource::Files(_) => {
                self.contexts.insert(at);
                Named::Files(at)
            }
            NamedSource::Image(image) => {
                Named::Image(self.need(index, name, need(image.clone(), None))?)
            }
            NamedSource::Layout(layout) => {
                let need = need(name.parse()?, Some(layout.clone()));
                Named::Image(self.need(index, name, need)?)
            }
        }))
    }

    fn need(&mut self, index: usize, name: &str, need: ImageNeed) -> Result<usize, StepError> {
        let known = |old: &ImageNeed| {
            (&old.reference, &old.layout, &old.platform)
                == (&need.reference, &need.layout, &need.platform)
        };
        if let Some(at) = self.needs.iter().position(known) {
            return Ok(at);
        }
        let span = need.span;
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

    /// The config of an image in the list of needed ones.
    pub(super) fn config(&self, image: usize) -> Option<&Config> {
        self.configs[image].as_ref()
    }

    /// What a stage has before its first instruction, and the triggers of its base.
    fn begin(&mut self, base: &Base) -> Result<(StageState, Vec<String>), Error> {
        let mut state = StageState::default();
        match base {
            Base::Scratch | Base::Files(_) => state.config.working_dir = "/".to_owned(),
            Base::Image(image) => match &self.configs[*image] {
                Some(config) => {
                    state.config = config.config.clone();
                    state.author.clone_from(&config.author);
                    state.scope.env = Env::from_pairs(&config.config.env);
                }
                None => state.scope.base_unknown = true,
            },
            Base::Stage(stage) => {
                self.stage(*stage)?;
                let evaluated = &self.stages[stage];
                state.config = evaluated.plan.config.clone();
                state.author.clone_from(&evaluated.plan.author);
                state.scope = evaluated.scope.clone();
                state.workdir_set = evaluated.workdir_set;
            }
        }
        if state.config.env_value("PATH").is_none() {
            state.config.set_env("PATH", DEFAULT_PATH);
            state.scope.env.set("PATH", DEFAULT_PATH);
        }
        let retouch = &self.request.retouch;
        retouch.begin(&mut state.config, &mut state.scope.env);
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
        if !triggered {
            self.lint.enter(&instruction.origin, Some(index));
        }
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

/// Expands one word, and tells the names in it; an error names the word's place.
pub(super) fn expand(
    escape: char,
    look_up: &dyn Fn(&str) -> Option<String>,
    file: &Source,
    word: &Word,
) -> Result<(String, Names), crate::dockerfile::Error> {
    let mut expander = Expander::new(escape, look_up);
    match expander.word(&word.text) {
        Ok(text) => Ok((text, expander.take_names())),
        Err(error) => Err(crate::dockerfile::Error::expanding(file, word, error)),
    }
}

/// How a stage's platform is shown: `linux/arm64`, or `linux/amd64->arm64` where it makes something
/// for another one.
fn way(stage: &Platform, target: &Platform) -> String {
    if stage == target {
        return stage.to_string();
    }
    let to = target.to_string();
    let same = format!("{}/", stage.os);
    format!("{stage}->{}", to.strip_prefix(&same).unwrap_or(&to))
}

/// Orders the stages, replaces indices into the file by indices into the plan, and gives every
/// shown step its id and name: `[build 2/5] RUN make`.
fn number(
    stages: BTreeMap<usize, Evaluated>,
    target: usize,
    in_file: usize,
    several: Option<&Platform>,
    next: &mut u32,
) -> Plan {
    let place: BTreeMap<usize, usize> = stages
        .keys()
        .enumerate()
        .map(|(place, index)| (*index, place))
        .collect();
    let mut plan = Plan {
        stages: Vec::new(),
        target: place[&target],
        contexts: BTreeSet::new(),
        scan: None,
    };
    for mut stage in stages.into_values().map(|evaluated| evaluated.plan) {
        if let Base::Stage(base) = &mut stage.base {
            *base = place[base];
        }
        for need in &mut stage.needs {
            *need = place[need];
        }
        let total = stage.shown();
        let width = total.to_string().len();
        let mut label = if in_file == 1 {
            String::new()
        } else {
            format!("{} ", stage.label)
        };
        if let Some(target) = several {
            label = format!("{} {label}", way(&stage.platform, target));
        }
        let mut at = 0;
        let mut name = |text: &str| {
            at += 1;
            *next += 1;
            (
                StepId(*next),
                format!("[{label}{at:>width$}/{total}] {text}"),
            )
        };
        if let Some(from) = &mut stage.from {
            *from = name(&from.1);
        }
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
