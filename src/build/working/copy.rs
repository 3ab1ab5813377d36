//! `copy` and `add`: COPY and ADD into a working container.

use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::dockerfile::{self, Kind};
use crate::event::Sink;
use crate::image::{Digest, Hasher, History};
use crate::layer::{EncodeOptions, encode};

use super::super::commit::Built;
use super::super::error::{Error, StepError};
use super::super::exec::Cancel;
use super::super::request::Request;
use super::super::sources::Opener;
use super::super::stage::Runner;
use super::super::step::{Action, CopyFrom};
use super::super::steps::{self, copy::Copied};
use super::container::{Container, find};
use super::desk::{self, Desk, verbatim, word};

/// What is copied, where to and how.
#[derive(Debug, Clone, Default)]
pub struct Copy {
    /// Whether it is ADD, which unpacks and downloads.
    pub add: bool,
    /// What to copy: paths below the context of the request, or with `from` in another image.
    pub sources: Vec<String>,
    /// Where to.
    pub dest: String,
    /// A working container or an image whose files are copied.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--checksum` of a URL or repository (ADD).
    pub checksum: Option<String>,
    /// `--parents`.
    pub parents: bool,
    /// `--link`, which follows no links of the container.
    pub link: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// A file in the place of `.dockerignore`; nothing is left out where this is empty.
    pub ignore_file: Option<PathBuf>,
    /// Whether the image's history is to tell of it.
    pub history: bool,
}

/// Copies into a container and returns the digest of what was copied, as the tar it would be.
pub fn copy(
    container: &mut Container,
    copy: &Copy,
    request: &Request,
    sink: &dyn Sink,
    cancel: &Cancel,
) -> Result<Digest, Error> {
    let store = container.store.clone();
    let _work = store.work()?;
    let opener = Opener {
        store: &store,
        request,
        sink,
        cancel,
    };
    let files = opener.plain_context(copy.ignore_file.as_deref())?;
    let (from, image) = match &copy.from {
        None => (None, None),
        Some(name) => match find(&store, name) {
            Ok(other) => (Some((name.clone(), other.built()?)), None),
            Err(Error::NoContainer { .. }) => (None, Some(name.as_str())),
            Err(error) => return Err(error),
        },
    };
    let lock = container.claim()?;
    let built = container.built()?;
    let desk = Desk {
        config: container.config.config.config.clone(),
        container,
        request,
        context: &files.context,
        from: from.into_iter().collect(),
        sink,
        cancel,
    };
    let failed = container.failed("copy into");
    let digest = desk.carry_out(instruction(copy, image), |runner, action| {
        let copied = desk.copied(runner, action, &built).map_err(&failed)?;
        let below = container.below(sink)?;
        let root = container.root(&below, request, sink)?;
        let whole = super::super::stage::files(runner.world, &built).map_err(&failed)?;
        let written = store.write_tree(&copied.changes, root.as_fd(), &whole);
        written.map_err(|error| failed(StepError::Layer(error)))?;
        let mut hasher = Hasher::new();
        encode(&copied.changes, &EncodeOptions::default(), &mut hasher)?;
        Ok(hasher.finish())
    })?;
    drop(lock);
    if copy.history {
        let keyword = if copy.add { "ADD" } else { "COPY" };
        let text = format!("/bin/sh -c #(nop) {keyword} {digest} in {}", copy.dest);
        container.change(|config| config.history.push(note(text)))?;
    }
    Ok(digest)
}

/// What copying a file of the machine would change in a container, which stays as it is. The
/// caller holds the lock.
pub(super) fn added(
    container: &Container,
    file: &str,
    dest: &str,
    request: &Request,
    sink: &dyn Sink,
) -> Result<Copied, Error> {
    let copy = Copy {
        sources: vec![file.to_owned()],
        dest: dest.to_owned(),
        ..Copy::default()
    };
    let built = container.built()?;
    desk::alone(container, request, sink, |desk| {
        desk.carry_out(instruction(&copy, None), |runner, action| {
            let copied = desk.copied(runner, action, &built);
            copied.map_err(container.failed("add a file to"))
        })
    })
}

impl Desk<'_> {
    /// What a COPY or ADD changes.
    fn copied(
        &self,
        runner: &Runner<'_>,
        action: Action,
        built: &Built,
    ) -> Result<Copied, StepError> {
        let Action::Copy(mut step) = action else {
            unreachable!("COPY and ADD copy");
        };
        if !self.from.is_empty() {
            step.from = CopyFrom::Stage(0);
        }
        steps::copy::changes(runner, &step, built)
    }
}

/// An entry of the history that made no layer.
pub(super) fn note(created_by: String) -> History {
    History {
        created_by: Some(created_by),
        empty_layer: true,
        ..History::default()
    }
}

fn instruction(copy: &Copy, image: Option<&str>) -> Kind {
    let source = |text: &String| dockerfile::CopySource::Path(word(text));
    let sources = copy.sources.iter().map(source).collect();
    let option = |text: &Option<String>| text.as_deref().map(word);
    let exclude = copy.exclude.iter().map(|text| verbatim(text)).collect();
    let dest = word(&copy.dest);
    let (chown, chmod) = (option(&copy.chown), option(&copy.chmod));
    match copy.add {
        true => Kind::Add(dockerfile::Add {
            sources,
            dest,
            chown,
            chmod,
            link: copy.link,
            exclude,
            checksum: option(&copy.checksum),
            keep_git_dir: None,
            unpack: None,
        }),
        false => Kind::Copy(dockerfile::Copy {
            sources,
            dest,
            from: image.map(verbatim),
            chown,
            chmod,
            link: copy.link,
            parents: copy.parents,
            exclude,
        }),
    }
}
