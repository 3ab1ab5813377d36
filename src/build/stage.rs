//! Runs the steps of one stage in order, each from the cache or for real.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use crate::dockerfile::{Source, Span};
use crate::event::{Event, Sink, StepId};
use crate::image::{ChainId, Descriptor, DiffId, Digest, Reference};
use crate::layer::{Changes, EncodeOptions, Stack, Time, encode_behind};
use crate::store::{LayerRef, Scratch, Store, Tree};

use crate::sandbox::network::PrivateNetwork;

use super::cache::{self, Imports, Made};
use super::commit::{Built, Layer, rfc3339};
use super::context::Context;
use super::error::{Error, ScanError, StepError};
use super::exec::Cancel;
use super::images::BaseImage;
use super::key::{Inputs, StepKey};
use super::request::{Request, Snapshotter};
use super::secret::Guard;
use super::sources::Files;
use super::step::{Action, Base, CopyFrom, Plan, StagePlan, Step};
use super::steps;
use super::steps::remote::Fetches;

/// All that the steps of a build share.
pub(super) struct World<'a> {
    pub(super) store: &'a Store,
    pub(super) request: &'a Request,
    pub(super) file: &'a Arc<Source>,
    pub(super) images: &'a [BaseImage],
    pub(super) context: &'a Context,
    /// The named contexts that steps read, by their place in the request.
    pub(super) named: &'a BTreeMap<usize, Files>,
    pub(super) sink: &'a dyn Sink,
    pub(super) cancel: &'a Cancel,
    pub(super) counts: &'a Mutex<Counts>,
    /// What ADD has fetched.
    pub(super) fetches: &'a Fetches,
    /// Keeps secrets out of output and layers.
    pub(super) guard: &'a Guard,
    /// Caches that this build has used.
    pub(super) caches: &'a Mutex<BTreeSet<Digest>>,
    /// The caller's `/etc/resolv.conf`.
    pub(super) resolv_conf: &'a [u8],
    /// Where private networks come from.
    pub(super) private: &'a PrivateNetwork,
    /// Becomes true when the caller has been told what network there is.
    pub(super) network_told: &'a AtomicBool,
    /// How RUN gets at what it changed, once the first one has found that out.
    pub(super) snapshotter: &'a OnceLock<Snapshotter>,
    /// What other stores' builds have done.
    pub(super) imports: &'a Imports,
    /// What selections of files in layers hash to, as far as this build asked.
    pub(super) answers: &'a Mutex<BTreeMap<Digest, Digest>>,
}

/// What became of the steps so far, of each once however often the plan was run.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Whether it ran.
    steps: BTreeMap<StepId, bool>,
    /// Those that the caller has heard of.
    told: BTreeSet<StepId>,
}

impl Counts {
    /// How many steps ran.
    pub(super) fn ran(&self) -> usize {
        self.steps.values().filter(|ran| **ran).count()
    }

    /// How many did not need to.
    pub(super) fn cached(&self) -> usize {
        self.steps.len() - self.ran()
    }
}

impl World<'_> {
    /// The time of what steps make themselves. That of the build is no later than any epoch allows,
    /// once the layers are rewritten.
    pub(super) fn file_time(&self) -> Time {
        let epoch = self.request.epoch_of_steps().map(Time::from_secs);
        epoch.unwrap_or_else(|| self.request.begun())
    }

    /// Whether this build uses the cache of this key for the first time.
    pub(super) fn first_use(&self, cache: &Digest) -> bool {
        let used = self.caches.lock();
        used.unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(cache.clone())
    }

    /// The context that `from` reads; `None` where it reads layers.
    pub(super) fn context(&self, from: &CopyFrom) -> Option<&Context> {
        match from {
            CopyFrom::Context => Some(self.context),
            CopyFrom::Named(at) => Some(&self.named[at].context),
            CopyFrom::Stage(_) | CopyFrom::Image(_) | CopyFrom::Nothing => None,
        }
    }

    fn count<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        let counts = self.counts.lock();
        change(&mut counts.unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Says that a step need not run, unless it was told before what became of it.
    fn tell_cached(&self, step: StepId, name: &str) {
        if self.count(|counts| counts.told.insert(step)) {
            self.sink.emit(Event::StepCached { step, name });
        }
    }
}

/// The file system of a stage so far, as its layers.
pub(super) fn layer_refs(layers: &[Layer]) -> Vec<LayerRef> {
    layers.iter().map(Layer::to_ref).collect()
}

/// The trees of `layers`, brought and unpacked where they are not yet.
pub(super) fn trees(world: &World<'_>, layers: &[Layer]) -> Result<Vec<Tree>, StepError> {
    let (store, sink, layers) = (world.store, world.sink, layer_refs(layers));
    supply(world, &layers)?;
    let trees = store.trees(&layers, sink);
    // A layer that made unpacking fail is told by what it is not.
    world.imports.check(store, &layers, sink)?;
    Ok(trees?)
}

/// Brings those of `layers` that the store lacks, from the registries of base images and from
/// caches.
pub(super) fn supply(world: &World<'_>, layers: &[LayerRef]) -> Result<(), StepError> {
    for image in world.images {
        let brought = image.supply(world.store, layers, world.sink);
        brought.map_err(|error| at_its_name(world, image.span(), error))?;
    }
    Ok(world.imports.supply(world.store, layers, world.sink)?)
}

/// Places what went wrong with an image where the Dockerfile names it, and not at the step that
/// happened to read it first.
fn at_its_name(world: &World<'_>, span: Span, error: StepError) -> StepError {
    if span.is_empty() {
        return error;
    }
    let file = world.file;
    StepError::Build(Box::new(Error::Step {
        name: file.line_text(file.line_of(span.start)).trim().to_owned(),
        file: Arc::clone(file),
        span,
        error: Box::new(error),
    }))
}

/// The union view of `layers`, brought and unpacked where they are not yet.
pub(super) fn stack(world: &World<'_>, layers: &[Layer]) -> Result<Stack, StepError> {
    let trees = trees(world, layers)?;
    Ok(Stack::new(
        trees.iter().map(|tree| tree.fd()).collect(),
        world.store.marks(),
    ))
}

/// The files of a stage so far, with what lies on top of its layers.
pub(super) fn files(world: &World<'_>, built: &Built) -> Result<Stack, StepError> {
    let trees = trees(world, &built.layers)?;
    let layers = trees.iter().map(|tree| tree.fd());
    Ok(Stack::new(
        layers.chain(built.top.clone()).collect(),
        world.store.marks(),
    ))
}

/// Runs one stage. `done` holds the stages it needs.
pub(super) fn run(
    plan: &Plan,
    index: usize,
    done: &BTreeMap<usize, Arc<Built>>,
    world: &World<'_>,
) -> Result<Built, Error> {
    let stage = &plan.stages[index];
    let mut built = base(stage, done, world);
    if let Some((step, name)) = &stage.from {
        world.tell_cached(*step, name);
    }
    let mut chain = Chain::default();
    for (at, step) in stage.steps.iter().enumerate() {
        if world.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let read_later = is_read_later(plan, index, at);
        let runner = Runner {
            plan,
            stage,
            done,
            world,
            read_later,
        };
        let below = chain.of(&built.layers);
        runner
            .step(step, &mut built, below)
            .map_err(|error| match error {
                StepError::Cancelled => Error::Cancelled,
                StepError::Build(error)
                    if matches!(*error, Error::Absent { .. } | Error::Step { .. }) =>
                {
                    *error
                }
                error if Some(index) == plan.scan => scan_failed(world, error),
                error => Error::Step {
                    name: step
                        .shown
                        .as_ref()
                        .map_or(&step.created_by, |(_, name)| name)
                        .clone(),
                    file: Arc::clone(world.file),
                    span: step.span,
                    error: Box::new(error),
                },
            })?;
    }
    Ok(built)
}

/// A scan stands in no file, so its error has no place in one.
fn scan_failed(world: &World<'_>, error: StepError) -> Error {
    let request = world.request;
    let generator = request.attest.sbom.as_ref().map(|sbom| &sbom.generator);
    let scanner = request.scanner.as_ref().map(|scanner| &scanner.image);
    Error::Scan {
        generator: generator
            .or(scanner)
            .map_or_else(String::new, Reference::familiar),
        error: ScanError::Failed(Box::new(error)),
    }
}

fn base(stage: &StagePlan, done: &BTreeMap<usize, Arc<Built>>, world: &World<'_>) -> Built {
    match &stage.base {
        Base::Scratch | Base::Files(_) => Built::scratch(),
        Base::Image(image) => world.images[*image].built(),
        Base::Stage(base) => Built::clone(&done[base]),
    }
}

/// The chain id of a stack of layers that grows: each layer is hashed once, and not once a step.
#[derive(Debug, Default)]
struct Chain {
    layers: usize,
    id: Option<ChainId>,
}

impl Chain {
    /// Returns the chain id of `layers`, of which those at the bottom were given before.
    fn of(&mut self, layers: &[Layer]) -> Option<&ChainId> {
        for layer in &layers[self.layers..] {
            self.id = Some(match &self.id {
                Some(below) => below.and(&layer.diff_id),
                None => ChainId(layer.diff_id.0.clone()),
            });
        }
        self.layers = layers.len();
        self.id.as_ref()
    }
}

/// Whether anything in this build opens the layer that step `at` of a stage makes: a later step of
/// the stage that runs on or looks at its files, or another stage.
fn is_read_later(plan: &Plan, index: usize, at: usize) -> bool {
    let reads = |step: &Step| !matches!(step.action, Action::Config);
    plan.stages[index].steps[at + 1..].iter().any(reads)
        || plan
            .stages
            .iter()
            .any(|other| other.base == Base::Stage(index) || other.needs.contains(&index))
}

/// One step in the making.
pub(super) struct Runner<'a> {
    pub(super) plan: &'a Plan,
    pub(super) stage: &'a StagePlan,
    pub(super) done: &'a BTreeMap<usize, Arc<Built>>,
    pub(super) world: &'a World<'a>,
    pub(super) read_later: bool,
}

impl Runner<'_> {
    /// Takes `step` from the cache or does it. `below` is the chain of the layers so far.
    fn step(
        &self,
        step: &Step,
        built: &mut Built,
        below: Option<&ChainId>,
    ) -> Result<(), StepError> {
        let Some((id, name)) = &step.shown else {
            built.record(&step.created_by, None);
            return Ok(());
        };
        let started = Instant::now();
        let inputs = self.inputs(step, below)?;
        let key = inputs.key();
        let tainted = self.world.request.stdin && matches!(step.action, Action::Run(_));
        if let Some((made, descriptor)) = self.known(&key, &inputs)?.filter(|_| !tainted) {
            self.world
                .count(|counts| *counts.steps.entry(*id).or_default());
            self.world.tell_cached(*id, name);
            built.record_step(&step.created_by, key, made, descriptor);
            return Ok(());
        }
        self.world.count(|counts| counts.told.insert(*id));
        self.world.sink.emit(Event::StepStarted { step: *id, name });
        let made = self.make(step, *id, built).inspect_err(|_| {
            self.world.sink.emit(Event::StepFailed { step: *id });
        })?;
        cache::remember(
            self.world.store,
            &key,
            &inputs,
            &made,
            self.world.request.now,
        )?;
        self.world.count(|counts| counts.steps.insert(*id, true));
        self.world.sink.emit(Event::StepDone {
            step: *id,
            took: started.elapsed(),
        });
        built.record_step(&step.created_by, key, made, None);
        Ok(())
    }

    /// Returns what an earlier run of the same step made, here or elsewhere, with the form that its
    /// layer has there.
    fn known(
        &self,
        key: &StepKey,
        inputs: &Inputs,
    ) -> Result<Option<(Made, Option<Descriptor>)>, StepError> {
        let World {
            store,
            request,
            imports,
            ..
        } = self.world;
        if self.stage.no_cache {
            return Ok(None);
        }
        if let Some(made) = cache::look_up(store, key, request)? {
            return Ok(Some((made, None)));
        }
        let found = imports.find(key);
        let found = found.filter(|(made, _)| cache::is_fresh(made, request));
        if let Some((made, _)) = &found {
            imports.take(key, inputs, made);
        }
        Ok(found)
    }

    /// Collects what the step's result depends on.
    fn inputs(&self, step: &Step, below: Option<&ChainId>) -> Result<Inputs, StepError> {
        let mut inputs = match &step.action {
            Action::Config => Inputs::new("config", 1),
            Action::Run(run) => steps::run::inputs(self, run)?,
            Action::Copy(copy) => steps::copy::inputs(self, copy)?,
            Action::Workdir(workdir) => steps::workdir::inputs(workdir),
        };
        // What `--link` copies depends on its sources alone.
        if !matches!(&step.action, Action::Copy(copy) if copy.link) {
            inputs
                .add("below", below.map_or("", |chain| chain.0.as_str()))
                .add("platform", self.stage.platform.to_string());
        }
        if let Some(epoch) = self.world.request.epoch_of_steps() {
            inputs.add("epoch", epoch.to_le_bytes());
        }
        Ok(inputs)
    }

    fn make(&self, step: &Step, id: StepId, built: &Built) -> Result<Made, StepError> {
        match &step.action {
            Action::Config => unreachable!("metadata is never shown as a step"),
            Action::Run(run) => steps::run::make(self, run, id, built),
            Action::Copy(copy) => {
                let copied = steps::copy::changes(self, copy, built)?;
                let kept = self.keep(&copied.changes, steps::copy::ground(copy, built));
                copied.changes.let_go();
                kept
            }
            Action::Workdir(workdir) => {
                let changes = steps::workdir::changes(self, workdir, built)?;
                self.keep(&changes, &built.layers)
            }
        }
    }

    /// Stores computed changes as a layer: as a tree if something reads it later, else as its tar.
    pub(super) fn keep(&self, changes: &Changes, below: &[Layer]) -> Result<Made, StepError> {
        if self.read_later {
            let scratch = self.world.store.scratch()?;
            let below = stack(self.world, below)?;
            let tree = scratch.dir("tree")?;
            self.world.store.write_tree(changes, tree.as_fd(), &below)?;
            let made = self.digest_of(changes)?;
            self.world
                .store
                .adopt_tree(&scratch, "tree", &made.diff_id, made.size)?;
            return Ok(made);
        }
        let mut blob = self.world.store.blob_writer()?;
        self.encode(changes, &mut blob)?;
        let blob = blob.finish()?;
        Ok(self.made(DiffId(blob.digest().clone()), blob.size()))
    }

    /// Stores the upper dir `name` as a layer: hashed as the tar it would be, then renamed.
    pub(super) fn keep_upper(
        &self,
        scratch: &Scratch,
        name: &str,
        changes: Changes,
    ) -> Result<Made, StepError> {
        let made = self.digest_of(&changes)?;
        self.world
            .store
            .adopt_upper(scratch, name, &made.diff_id, made.size, &changes)?;
        Ok(made)
    }

    fn digest_of(&self, changes: &Changes) -> Result<Made, StepError> {
        let mut hasher = crate::image::Hasher::new();
        let size = self.encode(changes, &mut hasher)?;
        Ok(self.made(DiffId(hasher.finish()), size))
    }

    /// Writes the layer's tar to `out`, watched for secrets.
    fn encode(&self, changes: &Changes, out: &mut (dyn Write + Send)) -> Result<u64, StepError> {
        let mut watch = self.world.guard.watch(out);
        let size = encode_behind(changes, &EncodeOptions::default(), &mut watch)?;
        watch.finish(changes)?;
        Ok(size)
    }

    fn made(&self, diff_id: DiffId, size: u64) -> Made {
        Made {
            diff_id,
            size,
            created: rfc3339(self.world.request.begun()),
        }
    }
}
