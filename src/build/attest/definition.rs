//! The steps of a build as `buildConfig.llbDefinition` tells them (provenance, `mode=max`).
//!
//! BuildKit writes the JSON of its own graph there (solver/pb/ops.proto). Ours is told in the same
//! words: a source for each image and context that is read, a file operation for COPY, ADD and
//! WORKDIR, an exec for RUN, and a last step without an operation that names the result. `layers`
//! are the plain tars, whose digests stay the same however they are compressed.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::dockerfile::{Source, Span};
use crate::image::{Descriptor, Platform};

use super::super::mount::StepMount;
use super::super::request::Network;
use super::super::secret::Guard;
use super::super::step::{
    Action, Base, CopyFrom, CopySource, CopyStep, RunStep, Step, WorkdirStep,
};
use super::provenance::Facts;

/// Kinds of mounts, by their numbers in BuildKit's protocol.
const SECRET: u8 = 1;
const SSH: u8 = 2;
const CACHE: u8 = 3;
const TMPFS: u8 = 4;

/// All steps, where they stand in the Dockerfile, and what layers they gave.
#[derive(Debug, Default)]
pub(super) struct Definition {
    /// In order, each after those it needs.
    pub(super) steps: Vec<Value>,
    /// By step.
    pub(super) locations: Map<String, Value>,
    /// By output of a step.
    pub(super) layers: Map<String, Value>,
    /// The steps that stand for sources, by what they read.
    sources: BTreeMap<String, String>,
    /// The last step of each stage.
    stages: BTreeMap<usize, String>,
}

/// Returns the steps that the image comes from: all but the scan of it.
pub(super) fn steps<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = &'a Step> {
    let stages = facts.plan.stages.iter().enumerate();
    let own = stages.filter(|(at, _)| Some(*at) != facts.plan.scan);
    own.flat_map(|(_, stage)| &stage.steps)
}

/// Tells the steps of a build.
pub(super) fn of(facts: &Facts<'_>) -> Definition {
    let mut definition = Definition::default();
    for (index, stage) in facts.plan.stages.iter().enumerate() {
        if Some(index) == facts.plan.scan {
            continue;
        }
        let mut last = match &stage.base {
            Base::Scratch => None,
            Base::Files(at) => definition.from(facts, &CopyFrom::Named(*at)),
            Base::Image(image) => Some(definition.image(facts, *image)),
            Base::Stage(base) => definition.stages.get(base).cloned(),
        };
        let made = &facts.done[&index].layers;
        let own = stage.steps.iter().filter(|step| step.shown.is_some());
        let mut depth = made.len().saturating_sub(own.clone().count());
        for step in own {
            let (op, mut inputs) = definition.operation(facts, step);
            inputs.splice(0..0, last.clone());
            let id = definition.add(&op, &stage.platform, &inputs);
            definition.place(facts.file, &id, step.span);
            depth += 1;
            let layers: Vec<&Descriptor> = made
                .iter()
                .take(depth)
                .map(|layer| &layer.descriptor)
                .collect();
            definition.layers.insert(format!("{id}:0"), json!([layers]));
            last = Some(id);
        }
        if let Some(last) = last {
            definition.stages.insert(index, last);
        }
    }
    if let Some(last) = definition.stages.get(&facts.plan.target).cloned() {
        let id = format!("step{}", definition.steps.len());
        let inputs = [format!("{last}:0")];
        definition
            .steps
            .push(json!({ "id": id, "op": { "Op": null }, "inputs": inputs }));
    }
    definition
}

/// Tells the Dockerfile itself, without values of secrets.
pub(super) fn source(file: &Source, name: &str, guard: &Guard) -> Value {
    let data = STANDARD.encode(guard.masked(file.text()));
    json!({ "filename": name, "language": "Dockerfile", "data": data })
}

impl Definition {
    fn add(&mut self, op: &Value, platform: &Platform, inputs: &[String]) -> String {
        let id = format!("step{}", self.steps.len());
        let inputs: Vec<String> = inputs.iter().map(|input| format!("{input}:0")).collect();
        let mut op = json!({ "Op": op });
        op["platform"] = json!({ "Architecture": platform.architecture, "OS": platform.os });
        if let Some(variant) = &platform.variant {
            op["platform"]["Variant"] = json!(variant);
        }
        let mut step = json!({ "id": id, "op": op });
        if !inputs.is_empty() {
            step["inputs"] = json!(inputs);
        }
        self.steps.push(step);
        id
    }

    fn place(&mut self, file: &Source, id: &str, span: Span) {
        let (first, last) = file.lines(span);
        let range = json!({ "start": { "line": first }, "end": { "line": last } });
        let places = json!({ "locations": [{ "ranges": [range] }] });
        self.locations.insert(id.to_owned(), places);
    }

    /// The step that reads `identifier`, the same for all who read it.
    fn source(&mut self, identifier: String, platform: &Platform) -> String {
        if let Some(known) = self.sources.get(&identifier) {
            return known.clone();
        }
        let op = json!({ "source": { "identifier": identifier } });
        let id = self.add(&op, platform, &[]);
        self.sources.insert(identifier, id.clone());
        id
    }

    fn image(&mut self, facts: &Facts<'_>, image: usize) -> String {
        let image = &facts.images[image];
        let pinned = image.reference().full();
        let pinned = match image.reference().digest() {
            Some(_) => pinned,
            None => format!("{pinned}@{}", image.digest()),
        };
        let id = self.source(format!("docker-image://{pinned}"), image.platform());
        let layers: Vec<&Descriptor> = image
            .layers()
            .iter()
            .map(|layer| &layer.descriptor)
            .collect();
        self.layers.insert(format!("{id}:0"), json!([layers]));
        id
    }

    /// The step whose files `from` reads.
    fn from(&mut self, facts: &Facts<'_>, from: &CopyFrom) -> Option<String> {
        let host = Platform::host();
        match from {
            CopyFrom::Context => Some(self.source("local://context".to_owned(), &host)),
            CopyFrom::Named(at) => {
                let name = facts.request.contexts[*at].name();
                Some(self.source(format!("local://{name}"), &host))
            }
            CopyFrom::Stage(stage) => self.stages.get(stage).cloned(),
            CopyFrom::Image(image) => Some(self.image(facts, *image)),
            CopyFrom::Nothing => None,
        }
    }

    fn operation(&mut self, facts: &Facts<'_>, step: &Step) -> (Value, Vec<String>) {
        match &step.action {
            Action::Run(run) => self.exec(facts, run),
            Action::Copy(copy) => self.copy(facts, copy),
            Action::Workdir(workdir) => (mkdir(workdir), Vec::new()),
            Action::Config => (Value::Null, Vec::new()),
        }
    }

    fn copy(&mut self, facts: &Facts<'_>, copy: &CopyStep) -> (Value, Vec<String>) {
        let mut inputs = Vec::new();
        let mut actions = Vec::new();
        let to = copy.to.path.to_string();
        for source in &copy.sources {
            let (id, path) = match source {
                CopySource::Inline { name, .. } => {
                    let path = format!("{}/{name}", to.trim_end_matches('/'));
                    actions.push(json!({ "Action": { "mkfile": { "path": path } } }));
                    continue;
                }
                CopySource::Path(path) => (self.from(facts, &copy.from), path.clone()),
                CopySource::Url { url, .. } => {
                    let origin = facts.fetches.download(url);
                    let uri = origin.map(|origin| origin.uri).unwrap_or_default();
                    (Some(self.source(uri, &Platform::host())), "/".to_owned())
                }
                CopySource::Git(url) => {
                    let origin = facts.fetches.repository(url);
                    let uri = origin.map(|origin| origin.uri).unwrap_or_default();
                    (Some(self.source(uri, &Platform::host())), "/".to_owned())
                }
            };
            inputs.extend(id);
            let action = json!({ "src": path, "dest": to });
            actions.push(json!({ "Action": { "copy": action } }));
        }
        inputs.dedup();
        (json!({ "file": { "actions": actions } }), inputs)
    }

    fn exec(&mut self, facts: &Facts<'_>, run: &RunStep) -> (Value, Vec<String>) {
        let mut inputs = Vec::new();
        let mut mounts = vec![json!({ "dest": "/" })];
        for mount in &run.mounts {
            inputs.extend(mount.from().and_then(|from| self.from(facts, from)));
            mounts.push(mounted(mount));
        }
        inputs.dedup();
        let env: Vec<String> = run.env.iter().map(|v| format!("{}={}", v.0, v.1)).collect();
        let mut meta = json!({ "args": run.argv, "env": env, "cwd": run.workdir });
        if !run.user.is_empty() {
            meta["user"] = json!(run.user);
        }
        let mut exec = json!({ "meta": meta, "mounts": mounts });
        // BuildKit's numbers: 0 is a network of the step's own, which is not written.
        match run.network {
            Network::Private => {}
            Network::Host => exec["network"] = json!(1),
            Network::None => exec["network"] = json!(2),
        }
        if run.insecure {
            exec["security"] = json!(1);
        }
        (json!({ "exec": exec }), inputs)
    }
}

fn mkdir(workdir: &WorkdirStep) -> Value {
    let mkdir = json!({ "path": workdir.path.to_string(), "mode": 0o755, "makeParents": true });
    json!({ "file": { "actions": [{ "Action": { "mkdir": mkdir } }] } })
}

fn mounted(mount: &StepMount) -> Value {
    match mount {
        StepMount::Bind(bind) => json!({
            "dest": bind.target.to_string(),
            "selector": bind.source.to_string(),
            "readonly": !bind.writable,
        }),
        StepMount::Cache(cache) => json!({
            "dest": cache.target.to_string(),
            "mountType": CACHE,
            "cacheOpt": { "ID": cache.id },
        }),
        StepMount::Tmpfs { target, .. } => {
            json!({ "dest": target.to_string(), "mountType": TMPFS })
        }
        StepMount::Secret(secret) => {
            let dest = secret.target.as_ref().map(ToString::to_string);
            let option = json!({ "ID": secret.id, "optional": !secret.required });
            json!({ "dest": dest, "mountType": SECRET, "secretOpt": option })
        }
        StepMount::Ssh(ssh) => json!({
            "dest": ssh.target.to_string(),
            "mountType": SSH,
            "SSHOpt": { "ID": ssh.id, "optional": !ssh.required },
        }),
    }
}
