//! What each instruction does to the stage it stands in.

use crate::dockerfile::{
    Arg, Command, Expander, Healthcheck as CheckForm, Instruction, Kind, Names, Pairs, Span, Word,
    port_specs,
};
use crate::event::StepId;
use crate::image::{ContainerConfig, Empty, Healthcheck};
use crate::layer::TreePath;

use super::attest::sbom::Scan;
use super::error::StepError;
use super::eval::{Evaluator, expand};
use super::place::destination;
use super::scope::{Env, Scope};
use super::signals::is_signal;
use super::step::{Action, Step, WorkdirStep};
use super::steps::run::with_shell;
use super::text;

mod copy;
mod mount;
mod run;

/// What a step's name shows of a secret.
const MASK: &str = "****";

/// A stage while its instructions are evaluated.
#[derive(Default)]
pub(super) struct StageState {
    pub(super) config: ContainerConfig,
    pub(super) scope: Scope,
    pub(super) author: Option<String>,
    pub(super) steps: Vec<Step>,
    /// Stages whose files the steps read, by their index in the file.
    pub(super) needs: Vec<usize>,
    /// Whether this stage itself set CMD, which a later ENTRYPOINT then leaves alone.
    cmd_is_own: bool,
    /// Whether a WORKDIR was seen, here or in a stage below.
    pub(super) workdir_set: bool,
    /// What of the stage an SBOM is to cover.
    pub(super) scan: Scan,
}

/// What evaluating one instruction needs to know of where it stands.
struct At<'a> {
    index: usize,
    span: Span,
    original: &'a str,
}

impl StageState {
    /// A stage whose base has this config.
    pub(super) fn on(config: ContainerConfig) -> Self {
        let mut state = Self::default();
        state.scope.env = Env::from_pairs(&config.env);
        state.config = config;
        state
    }

    fn config_step(&mut self, at: &At<'_>, created_by: String) {
        self.steps.push(Step {
            span: at.span,
            shown: None,
            created_by,
            action: Action::Config,
        });
    }

    fn shown_step(&mut self, at: &At<'_>, created_by: String, action: Action) {
        let shown = Some((StepId(0), at.original.to_owned()));
        self.steps.push(Step {
            span: at.span,
            shown,
            created_by,
            action,
        });
    }
}

impl Evaluator<'_, '_> {
    /// Evaluates one instruction of stage `index`.
    pub(super) fn instruct(
        &mut self,
        index: usize,
        state: &mut StageState,
        instruction: &Instruction,
        span: Span,
        triggered: bool,
    ) -> Result<(), StepError> {
        let mut original = self.shown(state, instruction);
        if triggered {
            original.insert_str(0, "ONBUILD ");
        }
        let at = At {
            index,
            span,
            original: &original,
        };
        match &instruction.kind {
            Kind::Run(run) => self.run(state, &at, run),
            Kind::Copy(copy) => {
                self.copy(state, &at, copy)?;
                self.check_sources(state, "Copy");
                Ok(())
            }
            Kind::Add(add) => {
                self.add(state, &at, add)?;
                self.check_sources(state, "Add");
                Ok(())
            }
            Kind::Workdir(word) => self.workdir(state, &at, word),
            Kind::Arg(arg) => self.arg(state, &at, arg),
            Kind::Env(pairs) => self.env(state, &at, pairs),
            Kind::Label(pairs) => self.label(state, &at, pairs),
            Kind::User(word) => self.user(state, &at, word),
            Kind::Expose(words) => self.expose(state, &at, words),
            Kind::Volume(words) => self.volume(state, &at, words),
            Kind::StopSignal(word) => self.stop_signal(state, &at, word),
            Kind::Cmd(command) => {
                let cmd = words_of(&state.config, command);
                let text = format!("CMD {}", text::quoted_list(&cmd));
                state.config.cmd = filled(cmd);
                state.config.args_escaped = true;
                state.cmd_is_own = true;
                state.config_step(&at, text);
                Ok(())
            }
            Kind::Entrypoint(command) => {
                let entrypoint = words_of(&state.config, command);
                let text = format!("ENTRYPOINT {}", text::quoted_list(&entrypoint));
                state.config.entrypoint = filled(entrypoint);
                if !state.cmd_is_own {
                    state.config.cmd = None;
                }
                state.config_step(&at, text);
                Ok(())
            }
            Kind::Shell(shell) => {
                state.config.shell.clone_from(shell);
                state.config_step(&at, format!("SHELL [{}]", shell.join(" ")));
                Ok(())
            }
            Kind::Healthcheck(check) => {
                let check = healthcheck(check);
                let text = text::healthcheck(&check);
                state.config.healthcheck = Some(check);
                state.config_step(&at, text);
                Ok(())
            }
            Kind::Maintainer(word) => {
                state.author = Some(word.text.clone());
                state.config_step(&at, format!("MAINTAINER {}", word.text));
                Ok(())
            }
            Kind::Onbuild(onbuild) => {
                state.config.on_build.push(onbuild.text.clone());
                Ok(())
            }
        }
    }

    /// The name of a step as it is shown: variables expanded, except those of a secret; RUN
    /// keeps its quotes and what the builder does not know, and shows how its script begins.
    fn shown(&self, state: &StageState, instruction: &Instruction) -> String {
        let original = &instruction.origin.original;
        let look_up = |name: &str| state.scope.env.get(name).map(str::to_owned);
        let escape = self.dockerfile.directives.escape;
        let expanded = match &instruction.kind {
            Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_) => {
                Expander::new(escape, &look_up).word(original)
            }
            Kind::Run(run) => {
                let mounts = run.mounts.iter().map(|spec| self.resolve(state, spec));
                let secret: Vec<String> = mounts.filter_map(|mount| mount.ok()?.env).collect();
                let masked = |name: &str| match secret.iter().any(|known| known == name) {
                    true => Some(MASK.to_owned()),
                    false => look_up(name),
                };
                let summary = run.summary().map(|line| format!(" ({line})"));
                let text = format!("{original}{}", summary.unwrap_or_default());
                Expander::new(escape, &masked).shown(&text)
            }
            _ => return original.clone(),
        };
        let mut text = expanded.unwrap_or_else(|_| original.clone());
        if let Some(word) = text.split_whitespace().next().map(str::len) {
            text[..word].make_ascii_uppercase();
        }
        text
    }

    fn expand(&self, state: &StageState, word: &Word) -> Result<String, StepError> {
        self.expand_in(&state.scope, word)
    }

    fn expand_in(&self, scope: &Scope, word: &Word) -> Result<String, StepError> {
        let (text, names) = self.expand_unchecked(scope, word)?;
        self.check_variables(&names, scope);
        Ok(text)
    }

    fn expand_unchecked(&self, scope: &Scope, word: &Word) -> Result<(String, Names), StepError> {
        let look_up = |name: &str| scope.env.get(name).map(str::to_owned);
        let escape = self.dockerfile.directives.escape;
        expand(escape, &look_up, self.file, word).map_err(StepError::Text)
    }

    fn arg(&self, state: &mut StageState, at: &At<'_>, arg: &Arg) -> Result<(), StepError> {
        let mut texts = Vec::new();
        for pair in &arg.pairs {
            let name = self.expand(state, &pair.name)?;
            self.check_secret("ARG", &name);
            let value = match (self.build_args.get(&name), &pair.default) {
                (Some(given), _) => Some(given.to_owned()),
                (None, Some(default)) => Some(self.expand(state, default)?),
                (None, None) => self.globals.get(&name).map(str::to_owned),
            };
            texts.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            let label = self.stage_label(at.index);
            if !state.scan.set(&name, value.as_deref(), &label) {
                state.scope.declare(&name, value.as_deref());
            }
        }
        state.config_step(at, format!("ARG {}", texts.join(" ")));
        Ok(())
    }

    fn expand_pairs(
        &self,
        state: &StageState,
        pairs: &Pairs,
    ) -> Result<Vec<(String, String)>, StepError> {
        let expand_pair = |pair: &crate::dockerfile::Pair| {
            Ok((
                self.expand(state, &pair.key)?,
                self.expand(state, &pair.value)?,
            ))
        };
        pairs.pairs.iter().map(expand_pair).collect()
    }

    fn env(&self, state: &mut StageState, at: &At<'_>, pairs: &Pairs) -> Result<(), StepError> {
        let pairs = self.expand_pairs(state, pairs)?;
        for (key, value) in &pairs {
            self.check_secret("ENV", key);
            match state.scope.env.get(key) {
                // What no instruction sees, the config does not have either.
                None => state.config.env.push(format!("{key}={value}")),
                Some(_) => state.config.set_env(key, value),
            }
            state.scope.env.set(key, value);
        }
        state.config_step(at, format!("ENV {}", join_pairs(&pairs)));
        Ok(())
    }

    fn label(&self, state: &mut StageState, at: &At<'_>, pairs: &Pairs) -> Result<(), StepError> {
        let pairs = self.expand_pairs(state, pairs)?;
        state.config_step(at, format!("LABEL {}", join_pairs(&pairs)));
        state.config.labels.extend(pairs);
        Ok(())
    }

    fn user(&self, state: &mut StageState, at: &At<'_>, word: &Word) -> Result<(), StepError> {
        let user = self.expand(state, word)?;
        state.config_step(at, format!("USER {user}"));
        state.config.user = user;
        Ok(())
    }

    fn expose(&self, state: &mut StageState, at: &At<'_>, words: &[Word]) -> Result<(), StepError> {
        let mut ports = Vec::new();
        for word in words {
            // Ports that are not set are no finding of BuildKit's either.
            let (texts, _) = self.expand_unchecked(&state.scope, word)?;
            for text in texts.split_whitespace() {
                self.check_port(text);
                ports.extend(port_specs(text)?.iter().map(ToString::to_string));
            }
        }
        state.config_step(at, format!("EXPOSE [{}]", ports.join(" ")));
        state
            .config
            .exposed_ports
            .extend(ports.into_iter().map(|port| (port, Empty {})));
        Ok(())
    }

    fn volume(&self, state: &mut StageState, at: &At<'_>, words: &[Word]) -> Result<(), StepError> {
        let mut paths = Vec::new();
        for word in words {
            let path = self.expand(state, word)?;
            if path.is_empty() {
                return Err(StepError::EmptyVolume);
            }
            paths.push(path);
        }
        state.config_step(at, format!("VOLUME [{}]", paths.join(" ")));
        state
            .config
            .volumes
            .extend(paths.into_iter().map(|path| (path, Empty {})));
        Ok(())
    }

    fn stop_signal(
        &self,
        state: &mut StageState,
        at: &At<'_>,
        word: &Word,
    ) -> Result<(), StepError> {
        let signal = self.expand(state, word)?;
        if !is_signal(&signal) {
            return Err(StepError::Signal { signal });
        }
        state.config_step(at, format!("STOPSIGNAL {signal}"));
        state.config.stop_signal = Some(signal);
        Ok(())
    }

    fn workdir(&self, state: &mut StageState, at: &At<'_>, word: &Word) -> Result<(), StepError> {
        let text = self.expand(state, word)?;
        self.check_workdir(state, &text);
        state.workdir_set = true;
        let nul = || StepError::NulInPath { path: text.clone() };
        let to = destination(&text, &workdir_of(&state.config)).ok_or_else(nul)?;
        let path = match keeps_its_spelling(&text) {
            true => text.clone(),
            false => to.path.to_string(),
        };
        state.config.working_dir.clone_from(&path);
        let created_by = format!("WORKDIR {path}");
        if to.path.is_root() {
            state.config_step(at, created_by);
        } else {
            let step = WorkdirStep {
                path: to.path,
                user: state.config.user.clone(),
            };
            state.shown_step(at, created_by, Action::Workdir(step));
        }
        Ok(())
    }
}

/// Whether the config shows a WORKDIR as it was written: BuildKit cleans relative ones only. One
/// with `..` is cleaned all the same, because its way may not exist.
fn keeps_its_spelling(workdir: &str) -> bool {
    workdir.starts_with('/') && !workdir.split('/').any(|part| part == "..")
}

fn workdir_of(config: &ContainerConfig) -> TreePath {
    TreePath::clean(config.working_dir.as_bytes()).unwrap_or_default()
}

fn join_pairs(pairs: &[(String, String)]) -> String {
    let texts: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    texts.join(" ")
}

/// The words CMD and ENTRYPOINT store: the list as it is, or the shell and the text.
fn words_of(config: &ContainerConfig, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(text) => with_shell(config, &text.text),
    }
}

/// An empty list clears the field, and what is clear is left out of a config.
fn filled(words: Vec<String>) -> Option<Vec<String>> {
    (!words.is_empty()).then_some(words)
}

fn healthcheck(check: &CheckForm) -> Healthcheck {
    let CheckForm::Check(check) = check else {
        return Healthcheck {
            test: vec!["NONE".to_owned()],
            ..Healthcheck::default()
        };
    };
    let test = match &check.command {
        Command::Exec(words) => std::iter::once("CMD".to_owned())
            .chain(words.clone())
            .collect(),
        Command::Shell(text) => vec!["CMD-SHELL".to_owned(), text.text.clone()],
    };
    let nanos = |duration: Option<std::time::Duration>| {
        duration.map_or(0, |duration| {
            i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
        })
    };
    Healthcheck {
        test,
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        start_period: nanos(check.start_period),
        start_interval: nanos(check.start_interval),
        retries: check.retries.map_or(0, i64::from),
    }
}
