//! Plans and runs a build: a Dockerfile and a context in, an image out.
//!
//! [`build`] parses, evaluates everything into a plan (`eval`, pure), runs the plan's stages on
//! threads (`exec`, `stage`, `steps`), and commits the result (`commit`, `output`). A step's key
//! (`key`) covers all it depends on; `cache` remembers what came of it.
//!
//! Promise: a build that fails or is killed leaves no image, no name and no half-written file, and
//! the results of the steps that were done serve the next one.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use crate::dockerfile;
use crate::event::{Event, Sink};
use crate::image::Platform;
use crate::store::Store;

mod cache;
mod cdi;
pub mod check;
mod chmod;
mod commit;
mod context;
mod error;
mod eval;
mod exec;
mod froms;
mod git;
mod images;
mod instruct;
mod key;
mod meant;
mod mount;
mod output;
mod place;
mod request;
mod scope;
mod secret;
mod select;
mod signals;
mod sources;
mod squash;
mod stage;
mod stat_index;
mod step;
mod steps;
mod text;

pub use error::{Error, IgnoredBy, OptionsError, StepError, ValueError};
pub use exec::Cancel;
pub use git::{Flaw, GitError, GitTools, GitUrl};
pub use meant::Meant;
pub use request::{
    ContextSource, DockerfileSource, Grant, Network, Outcome, Output, Pull, Request, SshAgent,
};
pub use secret::Secret;

use stage::{Counts, World};

/// Builds an image.
///
/// Events go to `sink`; an output that asks for standard output is written to `stdout`. `cancel`
/// stops the build from another thread.
pub fn build(
    store: &Store,
    request: &Request,
    sink: &dyn Sink,
    stdout: &mut (dyn Write + Send),
    cancel: &Cancel,
) -> Result<Outcome, Error> {
    output::check(request)?;
    // Nothing the build relies on is deleted while this is held.
    let _work = store.work()?;
    let platform = match request.platforms.as_slice() {
        [] => Platform::host(),
        [platform] => platform.clone(),
        several => return Err(Error::Options(OptionsError::Platforms(several.len()))),
    };
    let sources = sources::open(store, request, cancel)?;
    let file = Arc::clone(&sources.file);
    let lint_options = check::options(&scope::BuildArgs::new(&request.build_args), &file)?;
    let mut found = Vec::new();
    let parsed = dockerfile::parse_reporting(&file, &mut found);
    let linter = check::Linter::new(found);
    let findings = || {
        let findings = linter.findings(&lint_options, parsed.as_ref().ok());
        check::report(&findings, sink);
        findings
    };
    let parsed = match &parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            findings();
            return Err(Error::Dockerfile {
                file: Arc::clone(&file),
                error: error.clone(),
            });
        }
    };
    let mut images = Vec::new();
    let mut resolve = |need: &step::ImageNeed| {
        let image = images::resolve(store, request, &need.reference, &need.platform, sink)?;
        let config = image.config().clone();
        images.push(image);
        Ok(Some(config))
    };
    let input = eval::Input {
        dockerfile: parsed,
        file: &file,
        request,
        platform: &platform,
        ignore: sources.context.ignore(),
        lint: &linter,
    };
    let plan = eval::evaluate(&input, &mut resolve);
    let warnings = findings();
    let plan = plan?;
    if let Some(error) = check::violation(&lint_options, &warnings) {
        return Err(error);
    }
    sink.emit(Event::Planned {
        steps: plan.step_count(),
    });

    let counts = Mutex::new(Counts::default());
    let world = World {
        guard: &secret::Guard::new(&request.secrets, request.secret_guard),
        caches: &Mutex::default(),
        store,
        request,
        file: &file,
        images: &images,
        context: &sources.context,
        sink,
        cancel,
        counts: &counts,
        fetches: &steps::remote::Fetches::default(),
        // A host without the file has no names to resolve.
        resolv_conf: &std::fs::read("/etc/resolv.conf").unwrap_or_default(),
    };
    let built = exec::run(&plan, &world);
    // What was learned of the context serves the next build, whatever became of this one.
    sources.remember(store)?;
    let built = built?;
    let target = &plan.stages[plan.target];
    let mut result = Arc::clone(&built[&plan.target]);
    if request.squash {
        let options = crate::layer::EncodeOptions {
            clamp: world.clamp(),
        };
        let created = commit::rfc3339(request.created());
        result = Arc::new(squash::squash(store, &result, &options, &created, sink)?);
    }
    let result = &result;
    let labels = &request.labels;
    let epoch = request.source_date_epoch.map(crate::layer::Time::from_secs);
    let author = target.author.as_deref();
    let config = commit::config(result, &target.config, author, &platform, labels, epoch);
    let manifest = commit::manifest(result, &config, &request.annotations);
    let image = store.put_image(&manifest, &config)?;
    let finished = output::Finished {
        store,
        request,
        image: &image,
        sink,
    };
    let files = || {
        let trees = store.trees(&stage::layer_refs(&result.layers), sink)?;
        Ok(crate::layer::Stack::new(
            trees.iter().map(|tree| tree.fd()).collect(),
            store.marks(),
        ))
    };
    for output in &request.outputs {
        output::write(&finished, output, &files, stdout)?;
    }
    // Nothing is synced: what a power cut may damage carries the boot id, and the store verifies it
    // before it serves it after another boot.
    if output::keeps_image(request) {
        for tag in &request.tags {
            store.tag(tag, &manifest.descriptor(manifest.value().media_type()))?;
        }
    }
    let counts = *counts.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Outcome {
        image: Some(config.image_id()),
        manifest: Some(manifest.digest().clone()),
        tags: request.tags.clone(),
        ran: counts.ran,
        cached: counts.cached,
        warnings,
    })
}
