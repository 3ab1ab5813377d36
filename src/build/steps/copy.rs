//! COPY and ADD: selects what the sources name, fingerprints it for the key, places it.

use std::sync::Arc;

use crate::image::{ChainId, DiffId, Digest, Hasher};
use crate::layer::{Changes, Content, Kind, Meta, Node, Stack, Time, TreePath};

use super::super::cache;
use super::super::chmod::Chmod;
use super::super::commit::{Built, Layer};
use super::super::contents;
use super::super::context::Context;
use super::super::error::StepError;
use super::super::git::Checkout;
use super::super::key::Inputs;
use super::super::place::{Placer, Rules};
use super::super::select::{self, Choice, Pick, Picked};
use super::super::stage::{Runner, World, files, stack};
use super::super::stat_index::Hash;
use super::super::step::{CopyFrom, CopySource, CopyStep, Unpack};
use super::{archive, owner, remote};

/// Records of what a selection in a stage's or image's files hashes to.
const SELECTION: &str = "selection";

/// Adds to the key what the copy depends on.
pub(in crate::build) fn inputs(runner: &Runner<'_>, step: &CopyStep) -> Result<Inputs, StepError> {
    let mut inputs = Inputs::new(if step.add { "add" } else { "copy" }, contents::VERSION);
    inputs
        .add("to", step.to.path.as_bytes())
        .add("to-dir", [u8::from(step.to.is_dir)])
        .add("chown", step.chown.as_deref().unwrap_or("\0"))
        .add("chmod", step.chmod.as_ref().map_or("\0", Chmod::text))
        .add("link", [u8::from(step.link)])
        .add("unpack", format!("{:?}", step.unpack));
    for source in &step.sources {
        match source {
            CopySource::Path(path) => {
                inputs.add("content", content(runner, step, path)?.as_str());
            }
            CopySource::Inline { name, text } => {
                inputs.add("name", name).add("inline", text);
            }
            CopySource::Url { url, checksum } => {
                let fetched = remote::fetch(runner.world, url, checksum.as_ref())?;
                inputs
                    .add("url", url)
                    .add("content", fetched.digest.as_str());
            }
            CopySource::Git(url) => {
                let commit = remote::commit(runner.world, url)?;
                inputs.add("git", commit.identity(url));
            }
        }
    }
    Ok(inputs)
}

/// Digest of what one source names.
fn content(runner: &Runner<'_>, step: &CopyStep, source: &str) -> Result<Digest, StepError> {
    let world = runner.world;
    if let Some(context) = world.context(&step.from) {
        let picks = select_from_context(context, source, step, runner)?;
        return context.fingerprint(&picks);
    }
    let layers = layers_of(runner, &step.from);
    // Layers never change: what a selection in them hashes to is worked out once.
    let diff_ids: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let chain = ChainId::of(&diff_ids).map_or(String::new(), |chain| chain.to_string());
    let mut question = Inputs::new(SELECTION, contents::VERSION);
    question
        .add("chain", &chain)
        .add("source", source)
        .add("parents", [u8::from(step.parents)])
        .add_list("exclude", &step.exclude);
    cache::answer(world, SELECTION, &question, || {
        let stack = stack(world, layers)?;
        let picks = select_from(&stack, source, step, runner)?;
        contents::fingerprint(&picks, |_| None, hash)
    })
}

/// The layers that `--from` reads, which a context has none of.
pub(super) fn layers_of<'a>(runner: &'a Runner<'_>, from: &CopyFrom) -> &'a [Layer] {
    match from {
        CopyFrom::Context | CopyFrom::Named(_) | CopyFrom::Nothing => &[],
        CopyFrom::Stage(stage) => &runner.done[stage].layers,
        CopyFrom::Image(image) => runner.world.images[*image].layers(),
    }
}

/// The files that `--from` reads, where it is no context.
pub(super) fn files_of(runner: &Runner<'_>, from: &CopyFrom) -> Result<Stack, StepError> {
    match from {
        CopyFrom::Stage(stage) => files(runner.world, &runner.done[stage]),
        from => stack(runner.world, layers_of(runner, from)),
    }
}

fn select_from_context(
    context: &Context,
    source: &str,
    step: &CopyStep,
    runner: &Runner<'_>,
) -> Result<Vec<Pick>, StepError> {
    select::select(context, source, choice(step)).map_err(|error| match error {
        StepError::NoSource { source_path, .. } => {
            let path = TreePath::clean(source_path.as_bytes()).unwrap_or_default();
            let ignored_by = context.ignored_by(&path);
            match step.from {
                CopyFrom::Named(_) if ignored_by.is_none() => StepError::NoSourceFrom {
                    source_path,
                    from: from_label(runner, &step.from),
                },
                _ => StepError::NoSource {
                    source_path,
                    ignored_by,
                },
            }
        }
        error => error,
    })
}

fn select_from(
    stack: &Stack,
    source: &str,
    step: &CopyStep,
    runner: &Runner<'_>,
) -> Result<Vec<Pick>, StepError> {
    select::select(stack, source, choice(step)).map_err(|error| match error {
        StepError::NoSource { source_path, .. } => StepError::NoSourceFrom {
            source_path,
            from: from_label(runner, &step.from),
        },
        error => error,
    })
}

fn choice(step: &CopyStep) -> Choice<'_> {
    Choice {
        parents: step.parents,
        exclude: &step.excluded,
    }
}

pub(super) fn from_label(runner: &Runner<'_>, from: &CopyFrom) -> String {
    match from {
        CopyFrom::Context => "the build context".to_owned(),
        CopyFrom::Named(at) => format!("context `{}`", runner.world.request.contexts[*at].name()),
        CopyFrom::Nothing => "scratch".to_owned(),
        CopyFrom::Stage(stage) => format!("stage `{}`", runner.plan.stages[*stage].label),
        CopyFrom::Image(image) => format!("image `{}`", runner.world.images[*image].reference()),
    }
}

/// Hashes the bytes of a file in a stage or image.
pub(super) fn hash(file: &Picked) -> Result<Hash, StepError> {
    let mut hasher = Hasher::new();
    if let (Some(content), Kind::File { size }) = (&file.node.content, &file.node.kind) {
        let failed = |source| StepError::ReadSource {
            path: file.path.clone(),
            source,
        };
        std::io::copy(&mut content.open(*size)?, &mut hasher).map_err(failed)?;
    }
    Ok(hasher.finish_raw())
}

/// What a copy adds, and what must stay until it is stored.
pub(in crate::build) struct Copied {
    /// The changes.
    pub(in crate::build) changes: Changes,
    /// Where their bytes are.
    _held: Vec<Checkout>,
}

/// Where files are copied from.
enum From<'a> {
    Context(&'a Context),
    Layers(Stack),
}

/// Returns what the copy adds on top of the layers so far.
pub(in crate::build) fn changes(
    runner: &Runner<'_>,
    step: &CopyStep,
    built: &Built,
) -> Result<Copied, StepError> {
    let world = runner.world;
    let below = match step.link {
        true => stack(world, ground(step, built))?,
        false => files(world, built)?,
    };
    let created = created(step, world);
    let rules = Rules {
        owner: owner(step, &below)?,
        to_root: world.context(&step.from).is_some(),
        chmod: step.chmod.clone(),
        created,
    };
    let mut placer = Placer::new(&below, rules);
    let from = match world.context(&step.from) {
        Some(context) => From::Context(context),
        None => From::Layers(files_of(runner, &step.from)?),
    };
    let mut placed = 0;
    let mut held = Vec::new();
    for source in &step.sources {
        let picks = match source {
            CopySource::Path(path) => match &from {
                From::Layers(stack) => select_from(stack, path, step, runner)?,
                From::Context(context) => select_from_context(context, path, step, runner)?,
            },
            CopySource::Inline { name, text } => vec![inline(name, text, created)],
            CopySource::Url { url, checksum } => {
                vec![remote::fetch(world, url, checksum.as_ref())?.pick()]
            }
            CopySource::Git(url) => {
                let (tree, checkout) = remote::check_out(world, url)?;
                held.push(checkout);
                select::select(&tree, "/", choice(step))?
            }
        };
        for pick in picks {
            placed += 1;
            check_destination(&placer, step, placed)?;
            match archive_in(world, step, source, &pick)? {
                Some(archive) => archive::place(&mut placer, archive, step)?,
                None => placer.place(pick, &step.to)?,
            }
        }
    }
    Ok(Copied {
        changes: placer.finish()?,
        _held: held,
    })
}

/// The archive that a source is, where it is one and is to be unpacked.
fn archive_in(
    world: &World<'_>,
    step: &CopyStep,
    source: &CopySource,
    pick: &Pick,
) -> Result<Option<Changes>, StepError> {
    let unpacks = match step.unpack {
        Unpack::Never => false,
        Unpack::LocalArchives => matches!(source, CopySource::Path(_)),
        Unpack::Always => true,
    };
    match unpacks {
        true => archive::open(world, pick),
        false => Ok(None),
    }
}

/// The layers that a copy stands on: none for `--link`.
pub(in crate::build) fn ground<'a>(step: &CopyStep, built: &'a Built) -> &'a [Layer] {
    if step.link { &[] } else { &built.layers }
}

/// The time of what is made on the way. A `--link` layer is the same whenever it is made.
fn created(step: &CopyStep, world: &World<'_>) -> Time {
    match world.request.epoch_of_steps() {
        None if step.link => Time::from_secs(0),
        _ => world.file_time(),
    }
}

fn owner(step: &CopyStep, below: &Stack) -> Result<Option<(u32, u32)>, StepError> {
    let Some(chown) = &step.chown else {
        return Ok(None);
    };
    if step.link && !owner::is_numeric(chown) {
        let chown = chown.clone();
        return Err(StepError::LinkOwner { chown });
    }
    owner::look_up(below, chown).map(Some)
}

/// Several files that all go to one name would leave only the last of them.
fn check_destination(placer: &Placer<'_>, step: &CopyStep, placed: usize) -> Result<(), StepError> {
    if placed < 2 || step.to.is_dir {
        return Ok(());
    }
    let (_, kind) = placer.resolve(&step.to.path)?;
    if kind.is_some_and(|kind| kind.is_dir()) {
        return Ok(());
    }
    let to = step.to.path.to_string();
    Err(StepError::ManySources { to })
}

/// A heredoc as a file of its own.
fn inline(name: &str, text: &[u8], mtime: Time) -> Pick {
    let meta = Meta {
        mode: 0o644,
        mtime,
        ..Meta::default()
    };
    let content = (!text.is_empty()).then(|| Content::Bytes(Arc::from(text)));
    let node = Node {
        meta,
        kind: Kind::File {
            size: text.len() as u64,
        },
        content,
    };
    Pick::file(name.as_bytes(), node)
}
