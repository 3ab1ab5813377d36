//! A build for each platform: all are planned before any runs, and all are done before any is
//! named.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::Value;

use crate::dockerfile::{self, Dockerfile, Span, Warning, Word, go_bool};
use crate::event::{Event, Sink};
use crate::image::{Attestation, DiffId, Digest, Index, Platform, Raw, Reference, Shape};
use crate::layer::{EncodeOptions, Stack, Time};
use crate::sandbox::network::PrivateNetwork;
use crate::store::{Image, LayerRef, Store};

use super::annotations::{self, Level};
use super::attest::{self, Predicate, sbom};
use super::cache::{self, Imports};
use super::check::{self, Linter};
use super::commit::{self, Built};
use super::epoch;
use super::error::{Error, ScanError, StepError};
use super::eval::{self, Input, Numbers};
use super::exec::{self, Cancel};
use super::form;
use super::images::{self, BaseImage};
use super::output;
use super::request::{Output, Request, Snapshotter};
use super::saved;
use super::scanner::{self, Scanned};
use super::scope::BuildArgs;
use super::secret::Guard;
use super::sources::{Opener, Sources};
use super::squash::squash;
use super::stage::{Counts, World, layer_refs, supply};
use super::step::{ImageNeed, Plan};
use super::steps::remote::Fetches;

/// The plan for one platform.
pub(super) struct Target {
    platform: Platform,
    pub(super) plan: Plan,
    images: Vec<BaseImage>,
}

/// What all platforms of a build share.
pub(super) struct Shared<'a> {
    pub(super) store: &'a Store,
    pub(super) request: &'a Request,
    pub(super) sources: &'a Sources,
    pub(super) named: &'a BTreeMap<usize, super::sources::Files>,
    pub(super) sink: &'a dyn Sink,
    pub(super) cancel: &'a Cancel,
    pub(super) counts: &'a Mutex<Counts>,
    pub(super) fetches: &'a Fetches,
    pub(super) guard: &'a Guard,
    /// Caches that this build has used.
    pub(super) caches: &'a Mutex<BTreeSet<Digest>>,
    /// The caller's `/etc/resolv.conf`.
    pub(super) resolv_conf: &'a [u8],
    /// Where private networks come from.
    pub(super) private: &'a PrivateNetwork,
    /// Becomes true when the caller has been told what network there is.
    pub(super) network_told: &'a AtomicBool,
    pub(super) snapshotter: &'a OnceLock<Snapshotter>,
    /// What other stores' builds have done.
    pub(super) imports: &'a Imports,
    /// Names this build and no other.
    pub(super) invocation: &'a str,
}

/// An image that was made, for one platform.
pub(super) struct Made {
    pub(super) image: Image,
    pub(super) platform: Platform,
    /// What every stage gave, by its place in the plan.
    stages: BTreeMap<usize, Arc<Built>>,
    /// Which of them is the result.
    target: usize,
    /// What selections of files hash to.
    answers: BTreeMap<Digest, Digest>,
    /// What is stated about it.
    pub(super) predicates: Vec<Predicate>,
    /// What a scanner found in it.
    pub(super) scanned: Option<Scanned>,
    /// Its layers as they were made.
    whole: Built,
}

impl Made {
    /// Returns what every stage gave.
    pub(super) fn stages(&self) -> impl Iterator<Item = &Built> {
        self.stages.values().map(|built| &**built)
    }

    /// Returns what the stage of the result gave, as its steps made it.
    pub(super) fn last_stage(&self) -> &Built {
        &self.stages[&self.target]
    }

    /// Returns what selections of files hash to.
    pub(super) fn answers(&self) -> impl Iterator<Item = (Digest, Digest)> {
        self.answers.clone().into_iter()
    }

    /// Returns its file system.
    pub(super) fn files(&self, store: &Store, sink: &dyn Sink) -> Result<Stack, Error> {
        files(&self.whole, store, sink)
    }

    /// Returns its provenance, if one was asked for.
    pub(super) fn provenance(&self) -> Option<(Platform, Value)> {
        let mut stated = self.predicates.iter().filter_map(Predicate::provenance);
        Some((self.platform.clone(), stated.next()?.clone()))
    }

    /// States what there is to state of `image`, a form of it that is called `names`.
    pub(super) fn attestation(
        &self,
        image: &Image,
        names: &[Reference],
        shape: Shape,
    ) -> Option<Attestation> {
        let target = image.descriptor();
        attest::attestation(&self.predicates, &target, &self.platform, names, shape)
    }
}

fn files(built: &Built, store: &Store, sink: &dyn Sink) -> Result<Stack, Error> {
    let trees = store.trees(&layer_refs(&built.layers), sink)?;
    let trees = trees.iter().map(|tree| tree.fd()).collect();
    Ok(Stack::new(trees, store.marks()))
}

/// What there is to do, and what the linter says about it.
pub(super) struct Planned<'r> {
    /// The request, with the epoch that the Dockerfile names.
    pub(super) request: Cow<'r, Request>,
    pub(super) targets: Vec<Target>,
    pub(super) warnings: Vec<Warning>,
}

/// Reads the Dockerfile and plans the build for every platform that was asked for.
pub(super) fn plan<'r>(opener: &Opener<'r>, sources: &Sources) -> Result<Planned<'r>, Error> {
    let Opener {
        store,
        request,
        sink,
        ..
    } = *opener;
    let file = &sources.file;
    let options = check::options(&BuildArgs::new(&request.build_args), file)?;
    let mut found = Vec::new();
    let parsed = dockerfile::parse_reporting(file, &mut found);
    let linter = Linter::new(found);
    let parsed = parsed.map(|parsed| rebased(parsed, request));
    let planned = match &parsed {
        Ok(parsed) => epoch::settle(opener, parsed, sources).and_then(|request| {
            let mut targets = evaluate(store, &request, parsed, sources, &linter, sink)?;
            // A value that is given as an ARG, too, is still a secret.
            let guard = Guard::new(&request.secrets, false);
            for target in &mut targets {
                target.plan.mask(&guard);
            }
            Ok((request, targets))
        }),
        Err(error) => Err(Error::Dockerfile {
            file: Arc::clone(file),
            error: error.clone(),
        }),
    };
    let warnings = linter.findings(&options, parsed.as_ref().ok());
    check::report(&warnings, sink);
    let (request, targets) = planned?;
    match check::violation(&options, &warnings) {
        Some(error) => Err(error),
        None => Ok(Planned {
            request,
            targets,
            warnings,
        }),
    }
}

/// Puts what `--from` names in the place of the first FROM's base.
fn rebased(mut parsed: Dockerfile, request: &Request) -> Dockerfile {
    if let (Some(base), Some(first)) = (&request.first_base, parsed.stages.first_mut()) {
        first.from.base = Word::literal(base, first.from.base.span);
    }
    parsed
}

fn evaluate(
    store: &Store,
    request: &Request,
    parsed: &Dockerfile,
    sources: &Sources,
    linter: &Linter,
    sink: &dyn Sink,
) -> Result<Vec<Target>, Error> {
    let mut platforms: Vec<Platform> = Vec::new();
    for platform in request.platforms.iter().map(Platform::normalised) {
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    if platforms.is_empty() {
        platforms.push(Platform::host());
    }
    let mut numbers = Numbers::new(platforms.len());
    // What the first platform's evaluation finds is not told again.
    let unheard = Linter::new(Vec::new());
    for platform in platforms.iter().filter(|_| platforms.len() > 1) {
        let input = Input {
            dockerfile: parsed,
            file: &sources.file,
            request,
            platform,
            ignore: sources.files.context.ignore(),
            lint: &unheard,
        };
        eval::check_programs(&input)?;
    }
    let mut targets: Vec<Target> = Vec::new();
    for platform in platforms {
        let mut images = Vec::new();
        let mut resolve = |need: &ImageNeed| {
            let image = images::resolve(store, request, need, sink)?;
            let config = image.config().clone();
            images.push(image);
            Ok(Some(config))
        };
        let input = Input {
            dockerfile: parsed,
            file: &sources.file,
            request,
            platform: &platform,
            ignore: sources.files.context.ignore(),
            lint: if targets.is_empty() { linter } else { &unheard },
        };
        let mut plan = eval::evaluate(&input, &mut numbers, &mut resolve)?;
        if let Some(asked) = &request.attest.sbom {
            let image = scanning(store, request, &asked.generator, sink)?;
            let at = (images.len(), &image);
            sbom::add(&mut plan, at, asked, request, numbers.take(2))?;
            images.push(image);
        }
        if let Some(asked) = &request.scanner {
            let image = scanning(store, request, &asked.image, sink)?;
            let contexts = scanner::contexts(&plan);
            let first = numbers.take(asked.steps(contexts.len()));
            let at = (images.len(), &image);
            scanner::add(&mut plan, at, asked, &contexts, request, first);
            images.push(image);
        }
        targets.push(Target {
            platform,
            plan,
            images,
        });
    }
    Ok(targets)
}

/// Gets the image that scans, for this machine.
pub(super) fn scanning(
    store: &Store,
    request: &Request,
    reference: &Reference,
    sink: &dyn Sink,
) -> Result<BaseImage, Error> {
    let need = ImageNeed {
        reference: reference.clone(),
        layout: None,
        platform: Platform::host(),
        span: Span::new(0, 0),
    };
    images::resolve(store, request, &need, sink).map_err(|error| Error::Scan {
        generator: reference.familiar(),
        error: ScanError::Image(Box::new(error)),
    })
}

/// Returns the named contexts that the plans read.
pub(super) fn contexts(targets: &[Target]) -> BTreeSet<usize> {
    let used = targets.iter().flat_map(|target| &target.plan.contexts);
    used.copied().collect()
}

/// Runs one plan, and commits what came of it.
pub(super) fn run(target: &Target, shared: &Shared<'_>) -> Result<Made, Error> {
    let Shared {
        store,
        request,
        sink,
        ..
    } = *shared;
    let answers = Mutex::default();
    let world = World {
        store,
        request,
        file: &shared.sources.file,
        images: &target.images,
        context: &shared.sources.files.context,
        named: shared.named,
        sink,
        cancel: shared.cancel,
        counts: shared.counts,
        fetches: shared.fetches,
        guard: shared.guard,
        caches: shared.caches,
        resolv_conf: shared.resolv_conf,
        private: shared.private,
        network_told: shared.network_told,
        snapshotter: shared.snapshotter,
        imports: shared.imports,
        answers: &answers,
    };
    let stages = run_plan(&target.plan, &world)?;
    shared.imports.remember(store, request.now)?;
    let answers = answers
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let mut labels = saved::save(&target.plan, &stages, &world)?;
    labels.extend_from_slice(&request.labels);
    let (whole, scanned) = scanned(target, &stages, &world)?;
    let built = finished(&whole, &world)?;
    let stage = &target.plan.stages[target.plan.target];
    let platform = platform_of(request, target, &built);
    let epoch = request.source_date_epoch.map(Time::from_secs);
    let author = stage.author.as_deref();
    let config = commit::config(
        &built,
        &stage.config,
        author,
        &platform,
        &labels,
        epoch,
        inline(&target.plan, &world, &stages, &answers, &built),
    );
    let config = request.retouch.finish(config);
    let mut own = annotations::of(
        &request.annotations,
        Level::Manifest,
        Some(&target.platform),
    );
    if let Some((key, created)) = request.retouch.annotation(config.value()) {
        own.entry(key).or_insert(created);
    }
    let manifest = commit::manifest(&built, &config, own);
    let plain = Image::new(manifest, config)?;
    let typed = form::typed(&plain, request.docker_types)?;
    let image = store.put_image(&typed.manifest, &typed.config)?;
    Ok(Made {
        image,
        platform,
        predicates: predicates(target, shared, &stages)?,
        scanned,
        whole,
        stages,
        target: target.plan.target,
        answers,
    })
}

/// What the image says that it is for: the platform that was asked for, whatever its stage and its
/// base are for. Where none was, it is the base's own.
fn platform_of(request: &Request, target: &Target, built: &Built) -> Platform {
    let asked = &target.platform;
    let Some(base) = &built.base else {
        return asked.clone();
    };
    let base = base.platform().normalised();
    let same = (&base.os, &base.architecture) == (&asked.os, &asked.architecture);
    match request.platforms.is_empty() || (same && asked.variant.is_none()) {
        true => base,
        false => asked.clone(),
    }
}

/// Runs the plan until no layer of the result is only promised by a cache. It runs again without
/// the layers that can't be had; what was done by then is the store's, and done.
fn run_plan(plan: &Plan, world: &World<'_>) -> Result<BTreeMap<usize, Arc<Built>>, Error> {
    loop {
        let stages = exec::run(plan, world).and_then(|stages| {
            let wanted =
                |at: usize| at == plan.target || Some(at) == plan.scan || world.request.save_stages;
            for (_, built) in stages.iter().filter(|(at, _)| wanted(**at)) {
                complete(world, &layer_refs(&built.layers))?;
            }
            Ok(stages)
        });
        match stages {
            Err(Error::Absent { .. }) if world.cancel.is_cancelled() => {
                return Err(Error::Cancelled);
            }
            Err(Error::Absent { layers }) if world.imports.refuse(&layers) => {}
            other => return other,
        }
    }
}

/// Sees to it that the store has `layers`, and that they are what they should be.
fn complete(world: &World<'_>, layers: &[LayerRef]) -> Result<(), Error> {
    supply(world, layers).map_err(|error| match error {
        StepError::Build(error) => *error,
        error => Error::Supply(Box::new(error)),
    })?;
    world.imports.check(world.store, layers, world.sink)
}

/// The result with what a scanner found in it, if one was asked for.
fn scanned(
    target: &Target,
    stages: &BTreeMap<usize, Arc<Built>>,
    world: &World<'_>,
) -> Result<(Built, Option<Scanned>), Error> {
    let built = Built::clone(&stages[&target.plan.target]);
    let (Some(scanner), Some(at)) = (&world.request.scanner, target.plan.scan) else {
        return Ok((built, None));
    };
    let found = files(&stages[&at], world.store, world.sink)?;
    let contexts = scanner::contexts(&target.plan).len();
    let scanned = scanner::read(&found, scanner, contexts)?;
    let below = files(&built, world.store, world.sink)?;
    let kept = scanner::kept(&below, scanner, &scanned)?;
    let mut made = stages[&at].history.iter().rev();
    let created = made.find_map(|entry| entry.created.clone());
    let created = created.unwrap_or_else(|| commit::rfc3339(world.request.created()));
    let built = scanner::install(world.store, built, &kept, scanner, created)?;
    Ok((built, Some(scanned)))
}

/// The result as the image holds it: in one layer or with other times, where that was asked for.
fn finished(built: &Built, world: &World<'_>) -> Result<Built, Error> {
    let World {
        store,
        request,
        sink,
        ..
    } = *world;
    let latest = request.latest();
    if request.squash {
        let clamp = latest.map(Time::from_secs);
        let created = commit::rfc3339(request.created());
        return squash(store, built, &EncodeOptions { clamp }, &created, sink);
    }
    match latest {
        Some(latest) => built.retimed(store, latest),
        None => Ok(built.clone()),
    }
}

/// The cache that the image's config carries, if it is to carry one. It can name only layers that
/// are as the steps made them.
fn inline(
    plan: &Plan,
    world: &World<'_>,
    stages: &BTreeMap<usize, Arc<Built>>,
    answers: &BTreeMap<Digest, Digest>,
    built: &Built,
) -> Option<serde_json::Value> {
    if !cache::wants_inline(world.request) {
        return None;
    }
    let done = &stages[&plan.target].layers;
    let stages = stages.values().map(|stage| &**stage);
    let contents = cache::contents(stages, answers.clone());
    let diff_ids: Vec<DiffId> = built.layers.iter().map(|l| l.diff_id.clone()).collect();
    let carried = contents.inline(&diff_ids);
    if carried.is_none() && built.layers != *done {
        let text = "the image carries no cache, since its layers are not as the steps made them";
        world.sink.emit(Event::Warning { text });
    }
    carried
}

/// Finds all that is to be stated about the image of one platform.
fn predicates(
    target: &Target,
    shared: &Shared<'_>,
    done: &BTreeMap<usize, Arc<Built>>,
) -> Result<Vec<Predicate>, Error> {
    let mut found = Vec::new();
    let attest = &shared.request.attest;
    if let (Some(asked), Some(scan)) = (&attest.sbom, target.plan.scan) {
        let files = files(&done[&scan], shared.store, shared.sink)?;
        found.extend(sbom::predicates(&files, asked)?);
    }
    if let Some(asked) = &attest.provenance {
        let facts = attest::Facts {
            request: shared.request,
            file: &shared.sources.file,
            context: &shared.sources.files,
            named: shared.named,
            plan: &target.plan,
            images: &target.images,
            fetches: shared.fetches,
            done,
            guard: shared.guard,
            invocation: shared.invocation,
        };
        found.push(attest::predicate(asked, &facts));
    }
    Ok(found)
}

/// Makes the index over the images of several platforms and what is stated about them, and
/// stores it.
pub(super) fn index(
    store: &Store,
    request: &Request,
    made: &[Made],
) -> Result<Option<Raw<Index>>, Error> {
    let inline = request.attest_inline;
    let mut stated = made.iter().flat_map(|made| &made.predicates);
    if !wants_index(request, made.len()) && !stated.any(|stated| stated.needs_index(inline)) {
        return Ok(None);
    }
    let shape = request.outputs.iter().find_map(|output| match output {
        Output::Image { form, .. } => Some(form.attestations),
        _ => None,
    });
    let names: Vec<Reference> = output::image_names(request).cloned().collect();
    let attestations: Vec<Attestation> = made
        .iter()
        .filter_map(|made| made.attestation(&made.image, &names, shape.unwrap_or_default()))
        .collect();
    for attestation in &attestations {
        store.put_attestation(attestation)?;
    }
    let images = made.iter().map(|made| (&made.image, &made.platform));
    let index = annotations::index(images, &attestations, &request.annotations);
    store.put(index.bytes())?;
    Ok(Some(index))
}

/// Whether, attestations apart, the result is an index: for several platforms, or where the caller insists.
pub(super) fn wants_index(request: &Request, platforms: usize) -> bool {
    let insists = |(key, value): &(String, String)| {
        key == "BUILDKIT_MULTI_PLATFORM" && go_bool(value) == Some(true)
    };
    platforms > 1 || request.build_args.iter().any(insists)
}
