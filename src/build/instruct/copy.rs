//! COPY and ADD, evaluated: flags and sources expanded, `--from` resolved, no file looked at.

use crate::dockerfile::ignore::Ignore;
use crate::dockerfile::{Add, Copy, CopySource as Item, SourceKind, Word, source_kind};
use crate::image::Digest;

use super::super::chmod::Chmod;
use super::super::error::{StepError, ValueError};
use super::super::eval::{Evaluator, Named};
use super::super::git::{Flaw, GitUrl};
use super::super::place::destination;
use super::super::step::{Action, CopyFrom, CopySource, CopyStep, Unpack};
use super::{At, StageState, workdir_of};

impl Evaluator<'_, '_> {
    pub(super) fn copy(
        &mut self,
        state: &mut StageState,
        at: &At<'_>,
        copy: &Copy,
    ) -> Result<(), StepError> {
        let from = match &copy.from {
            None => CopyFrom::Context,
            Some(word) => self.copy_from(at, word)?,
        };
        if let CopyFrom::Stage(stage) = from
            && !state.needs.contains(&stage)
        {
            state.needs.push(stage);
        }
        let parts = Parts {
            keyword: "COPY",
            sources: &copy.sources,
            dest: &copy.dest,
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            link: copy.link,
            parents: copy.parents,
            exclude: &copy.exclude,
        };
        let (step, created_by) = self.copy_step(state, from, &parts)?;
        state.shown_step(at, created_by, Action::Copy(step));
        Ok(())
    }

    pub(super) fn add(
        &mut self,
        state: &mut StageState,
        at: &At<'_>,
        add: &Add,
    ) -> Result<(), StepError> {
        let parts = Parts {
            keyword: "ADD",
            sources: &add.sources,
            dest: &add.dest,
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            link: add.link,
            parents: false,
            exclude: &add.exclude,
        };
        let (mut step, created_by) = self.copy_step(state, CopyFrom::Context, &parts)?;
        step.unpack = match add.unpack {
            None => Unpack::LocalArchives,
            Some(true) => Unpack::Always,
            Some(false) => Unpack::Never,
        };
        let checksum = self.option(state, add.checksum.as_ref())?;
        if let Some(text) = checksum.as_ref().filter(|_| step.sources.len() > 1) {
            return Err(StepError::Value(text.clone(), ValueError::ChecksumSources));
        }
        for source in &mut step.sources {
            remote_options(source, checksum.as_deref(), add.keep_git_dir)?;
        }
        state.shown_step(at, created_by, Action::Copy(step));
        Ok(())
    }

    /// Whom `--from` means: a stage before this one by name or index, else an image.
    pub(super) fn copy_from(&mut self, at: &At<'_>, word: &Word) -> Result<CopyFrom, StepError> {
        let name = word.text.as_str();
        let platform = self.platform.clone();
        match self.named(at.index, name, &platform, word.span)? {
            Some(Named::Image(image)) => return Ok(CopyFrom::Image(image)),
            Some(Named::Files(context)) => return Ok(CopyFrom::Named(context)),
            Some(Named::Nothing) => return Ok(CopyFrom::Nothing),
            None => {}
        }
        if let Some(stage) = self.earlier_stage(at.index, name) {
            return Ok(CopyFrom::Stage(stage));
        }
        if let Ok(index) = name.parse::<usize>() {
            if index < at.index {
                return Ok(CopyFrom::Stage(index));
            }
            if index >= self.dockerfile.stages.len() {
                return Err(StepError::StageIndex { index });
            }
            return Err(self.later_stage(at, name));
        }
        let later = self.dockerfile.stages[at.index..]
            .iter()
            .any(|stage| stage.name() == Some(&name.to_lowercase()));
        if later {
            return Err(self.later_stage(at, name));
        }
        let image = self.image(at.index, name, &platform, word.span)?;
        Ok(CopyFrom::Image(image))
    }

    fn later_stage(&self, at: &At<'_>, name: &str) -> StepError {
        StepError::LaterStage {
            stage: name.to_owned(),
            current: self.stage_label(at.index),
        }
    }

    /// Returns the value of a flag. One that expands to nothing is as good as not given.
    fn option(&self, state: &StageState, word: Option<&Word>) -> Result<Option<String>, StepError> {
        let value = word.map(|word| self.expand(state, word)).transpose()?;
        Ok(value.filter(|value| !value.is_empty()))
    }

    fn copy_step(
        &self,
        state: &StageState,
        from: CopyFrom,
        parts: &Parts<'_>,
    ) -> Result<(CopyStep, String), StepError> {
        let (chown, chmod_text) = (
            self.option(state, parts.chown)?,
            self.option(state, parts.chmod)?,
        );
        let chmod = chmod_text.as_deref().map(mode).transpose()?;
        let mut created_by = parts.keyword.to_owned();
        if parts.parents {
            created_by.push_str(" --parents");
        }
        for (flag, value) in [("chown", &chown), ("chmod", &chmod_text)] {
            if let Some(value) = value {
                created_by.push_str(&format!(" --{flag}={value}"));
            }
        }
        let add = parts.keyword == "ADD";
        let mut sources = Vec::new();
        // Files come first and heredocs after them, however they are mixed.
        let is_heredoc = |item: &&Item| matches!(item, Item::Heredoc(_));
        let (heredocs, files): (Vec<_>, Vec<_>) = parts.sources.iter().partition(is_heredoc);
        for item in files.into_iter().chain(heredocs) {
            let (source, shown) = self.copy_source(state, item, add)?;
            created_by.push(' ');
            created_by.push_str(&shown);
            sources.push(source);
        }
        let dest = self.expand(state, parts.dest)?;
        created_by.push_str(&format!(" {dest} # buildkit"));
        let nul = || StepError::NulInPath { path: dest.clone() };
        let to = destination(&dest, &workdir_of(&state.config)).ok_or_else(nul)?;
        let unpack = Unpack::Never;
        // The one flag that BuildKit does not expand.
        let exclude: Vec<String> = parts.exclude.iter().map(|word| word.text.clone()).collect();
        let step = CopyStep {
            add,
            from,
            sources,
            to,
            chown,
            chmod,
            link: parts.link,
            parents: parts.parents,
            excluded: Ignore::from_patterns(exclude.iter().map(String::as_str))
                .map_err(|source| StepError::Exclude { source })?,
            exclude,
            unpack,
        };
        Ok((step, created_by))
    }

    fn copy_source(
        &self,
        state: &StageState,
        item: &Item,
        add: bool,
    ) -> Result<(CopySource, String), StepError> {
        match item {
            Item::Path(word) => {
                let text = self.expand(state, word)?;
                let kind = source_kind(&text);
                let source = match kind {
                    SourceKind::Url | SourceKind::Git if add => {
                        let used = self.request.policy.judge(&text)?;
                        let url = used.identifier;
                        match kind {
                            SourceKind::Url if source_kind(&url) == SourceKind::Url => {
                                let checksum = used.checksum;
                                CopySource::Url { url, checksum }
                            }
                            _ => CopySource::Git(Box::new(git_url(&url)?)),
                        }
                    }
                    _ => CopySource::Path(text.clone()),
                };
                Ok((source, text))
            }
            Item::Heredoc(heredoc) => {
                let body = heredoc.content();
                let look_up = |name: &str| state.scope.env.get(name).map(str::to_owned);
                let text = if heredoc.expand {
                    let mut expander = crate::dockerfile::Expander::new('\\', &look_up);
                    let text = expander.heredoc(&body).map_err(|error| {
                        let word = Word::new(heredoc.name.clone(), heredoc.span);
                        let error = crate::dockerfile::Error::expanding(self.file, &word, error);
                        StepError::Text(error)
                    })?;
                    self.check_variables(expander.names(), &state.scope);
                    text
                } else {
                    body.into_owned()
                };
                let name = heredoc.name.clone();
                let shown = format!("<<{name}");
                Ok((
                    CopySource::Inline {
                        name,
                        text: text.into_bytes(),
                    },
                    shown,
                ))
            }
        }
    }
}

/// What COPY and ADD have in common.
struct Parts<'a> {
    keyword: &'static str,
    sources: &'a [Item],
    dest: &'a Word,
    chown: Option<&'a Word>,
    chmod: Option<&'a Word>,
    link: bool,
    parents: bool,
    exclude: &'a [Word],
}

fn git_url(text: &str) -> Result<GitUrl, StepError> {
    let failed = |flaw| git_error(text, flaw);
    GitUrl::parse(text).map_err(failed)
}

fn git_error(text: &str, source: Flaw) -> StepError {
    let url = text.to_owned();
    StepError::GitAddress { url, source }
}

/// Gives `--checksum` and `--keep-git-dir` to the source they are about.
fn remote_options(
    source: &mut CopySource,
    checksum: Option<&str>,
    keep_git_dir: Option<bool>,
) -> Result<(), StepError> {
    match source {
        CopySource::Url { checksum: want, .. } => {
            // What the source policy says goes before what the file says.
            *want = want.take().or(checksum.map(digest).transpose()?);
        }
        CopySource::Git(url) => {
            let shown = url.shown().to_owned();
            let failed = |flaw| git_error(&shown, flaw);
            checksum
                .map(|text| url.expect(text))
                .transpose()
                .map_err(failed)?;
            keep_git_dir
                .map(|keep| url.keep(keep))
                .transpose()
                .map_err(failed)?;
        }
        CopySource::Path(_) | CopySource::Inline { .. } => {
            if let Some(text) = checksum {
                return Err(StepError::Value(text.to_owned(), ValueError::ChecksumLocal));
            }
        }
    }
    Ok(())
}

/// Reads the `--checksum` of a URL.
fn digest(text: &str) -> Result<Digest, StepError> {
    let why = match text.split_once(':') {
        Some(("sha256", _)) => ValueError::Checksum,
        Some((algorithm, _)) if !algorithm.is_empty() => ValueError::Algorithm,
        _ => ValueError::Checksum,
    };
    text.parse()
        .map_err(|_| StepError::Value(text.to_owned(), why))
}

/// Reads `--chmod`.
fn mode(text: &str) -> Result<Chmod, StepError> {
    Chmod::parse(text).ok_or_else(|| StepError::Value(text.to_owned(), ValueError::Mode))
}
