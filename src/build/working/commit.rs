//! `commit`: what was written in a working container as a layer, and its config, as an image.

use crate::event::Sink;
use crate::image::{ContainerConfig, DiffId, History};
use crate::layer::{Changes, EncodeOptions, Time, encode, flatten};
use crate::store::{Image, Store};

use super::super::cache::Made;
use super::super::commit::{self, Built, Layer, rfc3339};
use super::super::error::Error;
use super::super::form;
use super::super::request::Request;
use super::super::scanner::{Scanned, Scanner};
use super::config;
use super::container::{Config, Container};
use super::{copy, desk};

/// `created_by` of a layer that nobody says anything about.
const CREATED_BY: &str = "/bin/sh";

/// How an image is made of a container.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Whether all layers become one, the base's too.
    pub squash: bool,
    /// Whether media types are docker's rather than OCI's.
    pub docker_types: bool,
    /// Whether the image has no history.
    pub omit_history: bool,
    /// Changes that are the image's and not the container's.
    pub changes: Vec<config::Change>,
    /// Instructions of a Dockerfile that change the config, after those.
    pub instructions: Vec<String>,
    /// Fields of the config that take the place of the container's, before those.
    pub fields: Fields,
    /// Files of the machine that the image has besides, and where: from the root of both.
    pub files: Vec<(String, String)>,
}

/// Fields of a config, as docker and OCI write them.
#[derive(Debug, Clone, Default)]
pub struct Fields(serde_json::Map<String, serde_json::Value>);

impl Fields {
    /// Reads a JSON object; each field must be what a config has there.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice::<ContainerConfig>(json)?;
        serde_json::from_slice(json).map(Self)
    }

    fn apply(&self, config: &mut ContainerConfig) {
        let mut value = serde_json::to_value(&*config).expect("a config is JSON");
        if let Some(fields) = value.as_object_mut() {
            fields.extend(self.0.clone());
        }
        *config = serde_json::from_value(value).expect("each field was read before");
    }
}

/// Makes an image of a container, which stays as it is. Times are those of the request. Tells what
/// its scanner found, if it names one.
pub fn commit(
    container: &mut Container,
    how: &Commit,
    request: &Request,
    sink: &dyn Sink,
) -> Result<(Image, Option<Scanned>), Error> {
    let store = &container.store.clone();
    let _work = store.work()?;
    let _lock = container.claim()?;
    let mut config = container.config.clone();
    how.fields.apply(&mut config.config.config);
    for change in &how.changes {
        config::apply(&mut config, change.clone());
    }
    for text in &how.instructions {
        config.config.config = desk::instructed(container, &config, text, request)?;
    }
    let epoch = request.source_date_epoch.map(Time::from_secs);
    let options = EncodeOptions {
        clamp: epoch.filter(|_| request.rewrite_timestamp != Some(false)),
    };
    let mut built = container.built()?;
    let scanned = match &request.scanner {
        Some(scanner) => Some(scan(container, scanner, &built, request, sink)?),
        None => None,
    };
    built.base = Some(config.config.clone());
    let mut changes = match how.squash {
        true => {
            let files = flatten(&container.files(&built, sink)?)?;
            if let Some(base) = &mut built.base {
                base.history.clear();
            }
            (built.layers, built.base_layers, built.history) = (Vec::new(), 0, Vec::new());
            files
        }
        false => container.written(sink)?,
    };
    let mut held = Vec::new();
    for (file, dest) in &how.files {
        let copied = copy::added(container, file, dest, request, sink)?;
        changes.entries.extend(copied.changes.entries.clone());
        held.push(copied);
    }
    if let Some((_, kept)) = &scanned {
        include(&mut changes, kept);
    }
    let made = match changes.is_empty() {
        true => None,
        false => Some(keep(store, &changes, &options, request)?),
    };
    built.history.push(entry(&config, made.as_ref(), request));
    built.layers.extend(made.as_ref().map(Layer::plain));
    let mut document = commit::config(
        &built,
        &config.config.config,
        config.config.author.as_deref(),
        &config.config.platform(),
        &[],
        epoch,
        None,
    );
    if how.omit_history {
        let mut value = document.value().clone();
        value.history.clear();
        document = crate::image::Raw::of(value);
    }
    if let Some((key, created)) = request.retouch.annotation(document.value()) {
        config.annotations.entry(key).or_insert(created);
    }
    let manifest = commit::manifest(&built, &document, config.annotations);
    let image = store.put_image(&manifest, &document)?;
    let typed = form::typed(&image, how.docker_types)?;
    let image = store.put_image(&typed.manifest, &typed.config)?;
    Ok((image, scanned.map(|(scanned, _)| scanned)))
}

/// Adds the results of a scan. What holds them is as it was.
fn include(changes: &mut Changes, kept: &Changes) {
    for (path, change) in &kept.entries {
        let is_dir = change.node().is_some_and(|node| node.kind.is_dir());
        if !(is_dir && changes.entries.contains_key(path)) {
            changes.entries.insert(path.clone(), change.clone());
        }
    }
}

/// Scans a container as it is.
fn scan(
    container: &Container,
    scanner: &Scanner,
    built: &Built,
    request: &Request,
    sink: &dyn Sink,
) -> Result<(Scanned, Changes), Error> {
    desk::alone(container, request, sink, |desk| desk.scan(scanner, built))
}

fn keep(
    store: &Store,
    changes: &Changes,
    options: &EncodeOptions,
    request: &Request,
) -> Result<Made, Error> {
    let mut blob = store.blob_writer()?;
    encode(changes, options, &mut blob)?;
    let blob = blob.finish()?;
    Ok(Made {
        diff_id: DiffId(blob.digest().clone()),
        size: blob.size(),
        created: rfc3339(request.created()),
    })
}

/// The last entry of the history.
fn entry(config: &Config, made: Option<&Made>, request: &Request) -> History {
    let base = (!config.image_name.is_empty()).then(|| format!("FROM {}", config.image_name));
    History {
        created: Some(rfc3339(request.created())),
        created_by: Some(config.created_by.clone().unwrap_or(CREATED_BY.to_owned())),
        author: config.config.author.clone(),
        comment: config.comment.clone().or(base),
        empty_layer: made.is_none(),
        ..History::default()
    }
}

impl Container {
    /// All its files.
    fn files(&self, built: &Built, sink: &dyn Sink) -> Result<crate::layer::Stack, Error> {
        let trees = self.store.trees(&self.config.layers, sink)?;
        let fds = trees.iter().map(|tree| tree.fd()).chain(built.top.clone());
        Ok(crate::layer::Stack::new(fds.collect(), self.store.marks()))
    }
}
