//! Plans and runs a build: a Dockerfile and a context in, an image out.
//!
//! [`build`] parses, evaluates everything into a plan (`eval`, pure), runs the plan's stages on
//! threads (`exec`, `stage`, `steps`), and commits the result (`commit`, `output`), for each
//! platform that was asked for (`platforms`). A step's key
//! (`key`) covers all it depends on; `cache` remembers what came of it, here and for other stores.
//!
//! Promise: a build that fails or is killed leaves no image, no name and no half-written file, and
//! the results of the steps that were done serve the next one.

use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::dockerfile::Warning;
use crate::event::{Event, Sink};
use crate::sandbox::network::PrivateNetwork;
use crate::store::Store;

mod annotations;
mod attest;
mod cache;
mod cdi;
pub mod check;
mod chmod;
mod commit;
mod contents;
mod context;
mod emulation;
mod epoch;
mod error;
mod eval;
mod exec;
mod form;
mod froms;
mod git;
mod images;
mod instruct;
mod key;
mod meant;
mod mount;
mod named;
mod output;
mod place;
mod platforms;
mod policy;
mod programs;
mod request;
mod retouch;
mod saved;
mod scan;
mod scanner;
mod scope;
mod secret;
mod select;
mod signals;
mod sources;
mod squash;
mod ssh;
mod stage;
mod stat_index;
mod step;
mod steps;
mod text;
pub mod working;

pub use annotations::{Annotation, Level};
pub use attest::{Attest, Provenance, Sbom, SlsaVersion};
pub use error::{Error, IgnoredBy, OptionsError, ScanError, StepError, ValueError};
pub use exec::Cancel;
pub use git::{Flaw, GitError, GitTools, GitUrl};
pub use meant::Meant;
pub use named::{NamedContext, NamedSource};
pub use policy::{Policy, PolicyError};
pub use request::{
    CacheExport, CacheTarget, ContextSource, DockerfileSource, Form, Grant, Network, Outcome,
    Output, Pull, Request, Snapshotter, Walls,
};
pub use retouch::Retouch;
pub use scanner::{Merge, Scanned, Scanner};
pub use secret::Secret;
pub use ssh::{KeyError, SshAgent, SshKey, SshSource};

use stage::Counts;

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
    cache::check(request)?;
    // Nothing the build relies on is deleted while this is held.
    let _work = store.work()?;
    let opener = sources::Opener {
        store,
        request,
        sink,
        cancel,
    };
    let sources = opener.open()?;
    let planned = platforms::plan(&opener, &sources)?;
    let (request, targets) = (&*planned.request, &planned.targets);
    sink.emit(Event::Planned {
        steps: targets.iter().map(|target| target.plan.step_count()).sum(),
    });
    let named = opener.named(&platforms::contexts(targets))?;
    let counts = Mutex::new(Counts::default());
    let shared = platforms::Shared {
        guard: &secret::Guard::new(&request.secrets, request.secret_guard),
        caches: &Mutex::default(),
        store,
        request,
        sources: &sources,
        named: &named,
        sink,
        cancel,
        counts: &counts,
        fetches: &steps::remote::Fetches::default(),
        // A host without the file has no names to resolve.
        resolv_conf: &std::fs::read("/etc/resolv.conf").unwrap_or_default(),
        private: &PrivateNetwork::default(),
        network_told: &AtomicBool::new(false),
        snapshotter: &OnceLock::new(),
        imports: &cache::Imports::read(request, sink),
        invocation: &attest::invocation(),
    };
    let run = |target| platforms::run(target, &shared);
    let made: Result<Vec<_>, Error> = targets.iter().map(run).collect();
    // What was learned of the contexts serves the next build, whatever became of this one.
    for files in named.values().chain([&sources.files]) {
        files.remember(store)?;
    }
    deliver(&shared, &made?, planned.warnings, stdout)
}

/// Writes what was asked for of the images that were made, and says what came of the build.
fn deliver(
    shared: &platforms::Shared<'_>,
    made: &[platforms::Made],
    warnings: Vec<Warning>,
    stdout: &mut (dyn Write + Send),
) -> Result<Outcome, Error> {
    let (store, request, sink) = (shared.store, shared.request, shared.sink);
    let index = platforms::index(store, request, made)?;
    let finished = output::Finished {
        store,
        request,
        made,
        index: index.as_ref(),
        sink,
    };
    let descriptor = finished.give(stdout)?;
    let exporter = cache::Exporter {
        store,
        request,
        imports: shared.imports,
        made,
        sink,
    };
    exporter.give()?;
    let counts = shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Outcome {
        image: match made {
            [made] if !platforms::wants_index(request, 1) => Some(made.image.id()),
            _ => None,
        },
        descriptor,
        tags: request.tags.clone(),
        ran: counts.ran(),
        cached: counts.cached(),
        warnings,
        provenance: made
            .iter()
            .filter_map(platforms::Made::provenance)
            .collect(),
        scanned: made
            .iter()
            .filter_map(|made| made.scanned.clone())
            .collect(),
    })
}
