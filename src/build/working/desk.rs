//! Where a verb is carried out as the instruction it is: evaluated, then handed to the steps of
//! a build with the container's files in the place of a stage's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};

use crate::dockerfile::{
    Directives, Dockerfile, From, Ignore, Instruction, Kind, Origin, Source, Span, Stage, Word,
};
use crate::event::Sink;
use crate::image::{ContainerConfig, Platform};
use crate::layer::Changes;
use crate::sandbox::network::PrivateNetwork;

use super::super::cache::Imports;
use super::super::check::Linter;
use super::super::commit::{Built, DEFAULT_PATH};
use super::super::context::Context;
use super::super::error::{Error, StepError};
use super::super::eval::{Evaluator, Input};
use super::super::exec::Cancel;
use super::super::images::{self, BaseImage};
use super::super::instruct::StageState;
use super::super::platforms;
use super::super::request::Request;
use super::super::scanner::{self, Scanned, Scanner};
use super::super::secret::Guard;
use super::super::sources::Opener;
use super::super::stage::{self as stages, Counts, Runner, World};
use super::super::step::{Action, Base, ImageNeed, Plan, StagePlan};
use super::super::steps::remote::Fetches;
use super::container::{Config, Container};

/// What a verb works with.
pub(super) struct Desk<'a> {
    pub(super) container: &'a Container,
    /// Its config, with what the verb changes in it.
    pub(super) config: ContainerConfig,
    pub(super) request: &'a Request,
    /// The caller's files.
    pub(super) context: &'a Context,
    /// Other containers whose files are read, each as the stage of its place here.
    pub(super) from: Vec<(String, Built)>,
    pub(super) sink: &'a dyn Sink,
    pub(super) cancel: &'a Cancel,
}

/// Has `work` done with the container's own config and no other's files, by nobody who could be
/// told to stop.
pub(super) fn alone<T>(
    container: &Container,
    request: &Request,
    sink: &dyn Sink,
    work: impl FnOnce(&Desk<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let cancel = &Cancel::default();
    let opener = Opener {
        store: &container.store,
        request,
        sink,
        cancel,
    };
    let files = opener.plain_context(None)?;
    work(&Desk {
        config: container.config.config.config.clone(),
        container,
        request,
        context: &files.context,
        from: Vec::new(),
        sink,
        cancel,
    })
}

impl Desk<'_> {
    /// Evaluates the instruction, and gives `act` what it is to do and the means to do it.
    pub(super) fn carry_out<T>(
        &self,
        kind: Kind,
        act: impl FnOnce(&Runner<'_>, Action) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let file = Arc::new(Source::new("the command line", ""));
        let instruction = Instruction {
            kind,
            origin: Origin::default(),
        };
        let platform = self.container.config.config.platform();
        let mut images = Vec::new();
        let (state, action) = self.evaluate(&instruction, &file, &platform, &mut images)?;
        let mut done = BTreeMap::new();
        let mut stages = Vec::new();
        for (name, built) in &self.from {
            done.insert(stages.len(), Arc::new(built.clone()));
            stages.push(stage(name, &platform, StageState::default()));
        }
        stages.push(stage(&self.container.config.name, &platform, state));
        let plan = Plan {
            target: stages.len() - 1,
            stages,
            contexts: BTreeSet::new(),
            scan: None,
        };
        self.with_world(&file, &images, |world| {
            let runner = Runner {
                plan: &plan,
                stage: &plan.stages[plan.target],
                done: &done,
                world,
                read_later: true,
            };
            act(&runner, action)
        })
    }

    /// Scans the container, which amounts to `built`. Returns what was found, and what of it is to
    /// be kept in the image.
    pub(super) fn scan(
        &self,
        scanner: &Scanner,
        built: &Built,
    ) -> Result<(Scanned, Changes), Error> {
        let store = &self.container.store;
        let image = platforms::scanning(store, self.request, &scanner.image, self.sink)?;
        let platform = self.container.config.config.platform();
        let mut plan = Plan {
            target: 0,
            stages: vec![stage(
                &self.container.config.name,
                &platform,
                StageState::default(),
            )],
            contexts: BTreeSet::new(),
            scan: None,
        };
        scanner::add(&mut plan, (0, &image), scanner, &[], self.request, 1);
        let done = BTreeMap::from([(0, Arc::new(built.clone()))]);
        let file = Arc::new(Source::new("the command line", ""));
        let failed = self.container.failed("scan");
        self.with_world(&file, &[image], |world| {
            let after = stages::run(&plan, 1, &done, world)?;
            let files = stages::files(world, &after).map_err(&failed)?;
            let scanned = scanner::read(&files, scanner, 0)?;
            let below = stages::files(world, built).map_err(&failed)?;
            let kept = scanner::kept(&below, scanner, &scanned)?;
            Ok((scanned, kept))
        })
    }

    /// Gives `act` what steps work with.
    fn with_world<T>(
        &self,
        file: &Arc<Source>,
        images: &[BaseImage],
        act: impl FnOnce(&World<'_>) -> T,
    ) -> T {
        // A host without the file has no names to resolve.
        let resolv_conf = std::fs::read("/etc/resolv.conf").unwrap_or_default();
        act(&World {
            store: &self.container.store,
            request: self.request,
            file,
            images,
            context: self.context,
            named: &BTreeMap::new(),
            sink: self.sink,
            cancel: self.cancel,
            counts: &Mutex::new(Counts::default()),
            fetches: &Fetches::default(),
            guard: &Guard::new(&self.request.secrets, self.request.secret_guard),
            caches: &Mutex::default(),
            resolv_conf: &resolv_conf,
            private: &PrivateNetwork::default(),
            network_told: &AtomicBool::new(false),
            snapshotter: &OnceLock::new(),
            imports: &Imports::default(),
            answers: &Mutex::default(),
        })
    }

    fn evaluate(
        &self,
        instruction: &Instruction,
        file: &Arc<Source>,
        platform: &Platform,
        images: &mut Vec<BaseImage>,
    ) -> Result<(StageState, Action), Error> {
        let dockerfile = from_scratch();
        let input = Input {
            dockerfile: &dockerfile,
            file,
            request: self.request,
            platform,
            ignore: &Ignore::default(),
            lint: &Linter::default(),
        };
        let (store, sink) = (&self.container.store, self.sink);
        let mut resolve = |need: &ImageNeed| {
            let image = images::resolve(store, self.request, need, sink)?;
            let config = image.config().clone();
            images.push(image);
            Ok(Some(config))
        };
        let mut state = StageState::on(self.config.clone());
        if state.scope.env.get("PATH").is_none() {
            state.scope.env.set("PATH", DEFAULT_PATH);
        }
        let doing = self.container.failed(verb(&instruction.kind));
        let mut evaluator = Evaluator::new(&input, &mut resolve);
        evaluator
            .instruct(0, &mut state, instruction, Span::default(), false)
            .map_err(doing)?;
        let step = state.steps.pop().expect("RUN, COPY and ADD are steps");
        Ok((state, step.action))
    }
}

/// The config of a working container after an instruction that changes nothing else.
pub(super) fn instructed(
    container: &Container,
    config: &Config,
    text: &str,
    request: &Request,
) -> Result<ContainerConfig, Error> {
    let platform = config.config.platform();
    let failed = container.failed("commit");
    let mut state = StageState::on(config.config.config.clone());
    change(&mut state, &platform, text, request, &failed)?;
    Ok(state.config)
}

/// The config of container `name` after instructions that change nothing else, as if they stood
/// in one Dockerfile.
pub fn reconfigured(
    name: &str,
    config: ContainerConfig,
    instructions: &[String],
    request: &Request,
) -> Result<ContainerConfig, Error> {
    let failed = |error| Error::Verb {
        doing: format!("commit `{name}`"),
        source: Box::new(error),
    };
    let mut state = StageState::on(config);
    for text in instructions {
        change(&mut state, &Platform::host(), text, request, &failed)?;
    }
    Ok(state.config)
}

fn change(
    state: &mut StageState,
    platform: &Platform,
    text: &str,
    request: &Request,
    failed: &dyn Fn(StepError) -> Error,
) -> Result<(), Error> {
    let trigger = trigger(text);
    let file = Arc::new(Source::new("--change", trigger.unwrap_or(text)));
    let wrong = |error| Error::Dockerfile {
        file: Arc::clone(&file),
        error,
    };
    let instruction = crate::dockerfile::parse_instruction(&file).map_err(wrong)?;
    if let Some(trigger) = trigger {
        // Carried out by whoever builds on the image.
        state.config.on_build.push(trigger.to_owned());
        return Ok(());
    }
    if matches!(
        instruction.kind,
        Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Arg(_) | Kind::Maintainer(_)
    ) {
        let keyword = instruction.kind.keyword();
        return Err(failed(StepError::NotConfig { keyword }));
    }
    let dockerfile = from_scratch();
    let input = Input {
        dockerfile: &dockerfile,
        file: &file,
        request,
        platform,
        ignore: &Ignore::default(),
        lint: &Linter::default(),
    };
    let mut none = |_: &ImageNeed| Ok(None);
    let mut evaluator = Evaluator::new(&input, &mut none);
    evaluator
        .instruct(0, state, &instruction, Span::default(), false)
        .map_err(|error| match error {
            StepError::Text(error) => wrong(error),
            error => failed(error),
        })
}

/// What follows ONBUILD, if that is what `text` is.
fn trigger(text: &str) -> Option<&str> {
    let (keyword, rest) = text.trim_start().split_once(char::is_whitespace)?;
    keyword.eq_ignore_ascii_case("ONBUILD").then(|| rest.trim())
}

/// What is said to have failed.
fn verb(kind: &Kind) -> &'static str {
    match kind {
        Kind::Run(_) => "run a program in",
        _ => "copy into",
    }
}

/// The Dockerfile that the instruction would stand in.
fn from_scratch() -> Dockerfile {
    let from = From {
        platform: None,
        base: Word::new("scratch", Span::default()),
        name: None,
        as_word: None,
    };
    Dockerfile {
        directives: Directives::default(),
        args: Vec::new(),
        stages: vec![Stage {
            from,
            origin: Origin::default(),
            instructions: Vec::new(),
        }],
        warnings: Vec::new(),
    }
}

fn stage(label: &str, platform: &Platform, state: StageState) -> StagePlan {
    StagePlan {
        label: label.to_owned(),
        base: Base::Scratch,
        from: None,
        steps: Vec::new(),
        needs: Vec::new(),
        platform: platform.clone(),
        config: state.config,
        author: state.author,
        no_cache: false,
        scan: state.scan,
    }
}

/// A word of the command line, which stands for itself.
pub(super) fn word(text: &str) -> Word {
    Word::literal(text, Span::default())
}

/// A value that a Dockerfile does not expand.
pub(super) fn verbatim(text: &str) -> Word {
    Word::new(text, Span::default())
}

/// Reads one `--mount` of the command line.
pub(super) fn mount(text: &str) -> Result<crate::dockerfile::MountSpec, StepError> {
    let word = verbatim(text);
    crate::dockerfile::MountSpec::parse(&word).map_err(|fault| {
        let file = Source::new("the command line", text);
        let kind = crate::dockerfile::ErrorKind::Mount(fault.error);
        let error = crate::dockerfile::Error::new(&file, kind, Span::default());
        StepError::Text(error.suggest(fault.suggestion))
    })
}

#[cfg(test)]
mod tests {
    use crate::dockerfile::Expander;

    use super::*;

    #[test]
    fn words_of_the_command_line_stand_for_themselves() {
        for text in [
            "$HOME/x", r"a\b", "it's", "\"q\"", "a b", "${x:-y}", "", "*.[ch]",
        ] {
            let look_up = |_: &str| Some("expanded".to_owned());
            let back = Expander::new('\\', &look_up).word(&word(text).text);
            assert_eq!(back.unwrap(), text);
        }
    }
}
