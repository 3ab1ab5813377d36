//! SLSA provenance in BuildKit's layout (docs/attestations/slsa-definitions.md): where the image
//! came from, who built it and how.
//!
//! `min` tells which sources went in, and leaves out values of build arguments and labels, names
//! of secrets and agents, the steps and the Dockerfile. Values of secrets are in neither; where
//! one slipped into an argument or the file, it is masked as in what steps print.
//!
//! The program itself is named in `runDetails.builder.version`, and how far RUN was shut in under
//! `internalParameters.isolation`: a build without user namespaces is no isolated one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use crate::dockerfile::Source;
use crate::image::{Platform, digest_set};

use super::super::commit::Built;
use super::super::images::BaseImage;
use super::super::mount::StepMount;
use super::super::named::NamedSource;
use super::super::request::{ContextSource, DockerfileSource, Network, Request};
use super::super::secret::Guard;
use super::super::sources::{Files, Origin};
use super::super::step::{Action, CopySource, Plan, RunStep};
use super::super::steps::remote::Fetches;
use super::definition::{self, Definition};
use super::{Predicate, Provenance, SlsaVersion, purl, vcs};

/// How the types of predicates begin that state provenance.
pub(super) const KIND: &str = "https://slsa.dev/provenance/";
/// What the fields mean: BuildKit's page about them.
const BUILD_TYPE: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
/// The same for the older version.
const OLD_BUILD_TYPE: &str = "https://mobyproject.org/buildkit@v1";

/// What is known when the image of one platform is made.
pub(in crate::build) struct Facts<'a> {
    pub(in crate::build) request: &'a Request,
    pub(in crate::build) file: &'a Source,
    /// The build context.
    pub(in crate::build) context: &'a Files,
    /// Named contexts that were read.
    pub(in crate::build) named: &'a BTreeMap<usize, Files>,
    pub(in crate::build) plan: &'a Plan,
    pub(in crate::build) images: &'a [BaseImage],
    pub(in crate::build) fetches: &'a Fetches,
    /// What each stage gave.
    pub(in crate::build) done: &'a BTreeMap<usize, Arc<Built>>,
    pub(in crate::build) guard: &'a Guard,
    /// Names this build and no other.
    pub(in crate::build) invocation: &'a str,
}

/// Makes the name of one build.
pub(in crate::build) fn invocation() -> String {
    let mut bytes = [0; 16];
    // Without randomness the name is not unique, which no part of the build relies on.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    let mut number = u128::from_le_bytes(bytes);
    let mut name = String::new();
    while name.len() < 25 {
        let digit = u32::try_from(number % 36).unwrap_or(0);
        name.extend(char::from_digit(digit, 36));
        number /= 36;
    }
    name
}

/// Returns the provenance of one image, finished now.
pub(in crate::build) fn predicate(asked: &Provenance, facts: &Facts<'_>) -> Predicate {
    let steps = asked.max.then(|| definition::of(facts));
    let mut value = v1(asked, facts, steps.as_ref());
    let kind = match asked.version {
        SlsaVersion::V1 => "https://slsa.dev/provenance/v1",
        SlsaVersion::V02 => {
            value = v02(&mut value);
            "https://slsa.dev/provenance/v0.2"
        }
    };
    mask(&mut value, facts.guard);
    if let Some(steps) = steps {
        put_source(asked.version, &mut value, facts, steps);
    }
    Predicate {
        kind: kind.to_owned(),
        value,
        file: asked.filename.clone(),
        inline_only: asked.inline_only,
    }
}

fn v1(asked: &Provenance, facts: &Facts<'_>, steps: Option<&Definition>) -> Value {
    let (request, told_all) = request(asked, facts);
    let dependencies = dependencies(facts);
    let complete = locals(facts).is_empty();
    let mut internal = json!({ "builderPlatform": Platform::host().to_string() });
    if let Some(steps) = steps {
        internal["buildConfig"] = json!({ "llbDefinition": steps.steps });
    }
    internal["isolation"] = json!(facts.request.rung);
    let mut config_source = Map::new();
    if let Some(origin) = &facts.context.origin {
        config_source.insert("uri".to_owned(), json!(origin.uri));
        config_source.insert("digest".to_owned(), origin.digest_set());
    }
    config_source.insert("path".to_owned(), json!(file_name(facts)));
    let mut metadata = json!({
        "invocationId": facts.invocation,
        "startedOn": rfc3339(facts.request.now),
        "finishedOn": rfc3339(SystemTime::now()),
        "buildkit_metadata": {},
    });
    if let ContextSource::Dir(dir) = &facts.request.context
        && let Some(tree) = vcs::of(dir, &facts.request.dockerfile, &facts.request.git.settings)
    {
        metadata["buildkit_metadata"]["vcs"] = tree;
    }
    if complete && !uses_network(facts) {
        metadata["buildkit_hermetic"] = json!(true);
    }
    metadata["buildkit_completeness"] =
        json!({ "request": told_all, "resolvedDependencies": complete });
    metadata["buildkit_reproducible"] = json!(asked.reproducible);
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": { "configSource": config_source, "request": request },
            "internalParameters": internal,
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {
                "id": asked.builder_id,
                "version": { "cooper": env!("CARGO_PKG_VERSION") },
            },
            "metadata": metadata,
        },
    })
}

/// Moves the fields of version 1 to where version 0.2 has them.
fn v02(v1: &mut Value) -> Value {
    let definition = &mut v1["buildDefinition"];
    let mut source = definition["externalParameters"]["configSource"].take();
    if let Some(fields) = source.as_object_mut()
        && let Some(path) = fields.remove("path")
    {
        fields.insert("entryPoint".to_owned(), path);
    }
    let parameters = definition["externalParameters"]["request"].take();
    let materials = definition["resolvedDependencies"].take();
    let mut environment = definition["internalParameters"].take();
    let config = environment.as_object_mut().and_then(|fields| {
        let platform = fields.shift_remove("builderPlatform");
        let config = fields.shift_remove("buildConfig");
        fields.extend(platform.map(|platform| ("platform".to_owned(), platform)));
        config
    });
    let metadata = &mut v1["runDetails"]["metadata"];
    let complete = metadata["buildkit_completeness"].take();
    let mut moved = json!({
        "buildInvocationID": metadata["invocationId"].take(),
        "buildStartedOn": metadata["startedOn"].take(),
        "buildFinishedOn": metadata["finishedOn"].take(),
        "completeness": {
            "parameters": complete["request"],
            "environment": true,
            "materials": complete["resolvedDependencies"],
        },
        "reproducible": metadata["buildkit_reproducible"].take(),
        "https://mobyproject.org/buildkit@v1#metadata": metadata["buildkit_metadata"].take(),
    });
    if metadata.get("buildkit_hermetic").is_some() {
        moved["https://mobyproject.org/buildkit@v1#hermetic"] = json!(true);
    }
    let mut out = json!({
        "builder": { "id": v1["runDetails"]["builder"]["id"].take() },
        "buildType": OLD_BUILD_TYPE,
        "materials": materials,
        "invocation": {
            "configSource": source,
            "parameters": parameters,
            "environment": environment,
        },
    });
    if let Some(config) = config {
        out["buildConfig"] = config;
    }
    out["metadata"] = moved;
    out
}

/// Adds what the steps stem from, after masking: the text of the Dockerfile is told in base64.
fn put_source(version: SlsaVersion, value: &mut Value, facts: &Facts<'_>, steps: Definition) {
    let metadata = match version {
        SlsaVersion::V1 => &mut value["runDetails"]["metadata"]["buildkit_metadata"],
        SlsaVersion::V02 => &mut value["metadata"]["https://mobyproject.org/buildkit@v1#metadata"],
    };
    metadata["source"] = json!({
        "locations": steps.locations,
        "infos": [definition::source(facts.file, &file_name(facts), facts.guard)],
    });
    metadata["layers"] = json!(steps.layers);
}

/// What was asked of the build, and whether that is all of it.
fn request(asked: &Provenance, facts: &Facts<'_>) -> (Value, bool) {
    let request = facts.request;
    let mut args = Map::new();
    let mut add = |key: &str, value: &str| args.insert(key.to_owned(), json!(value));
    if let Some(target) = &request.target {
        add("target", target);
    }
    if request.no_cache {
        add("no-cache", "");
    } else if !request.no_cache_filter.is_empty() {
        add("no-cache", &request.no_cache_filter.join(","));
    }
    if !request.add_hosts.is_empty() {
        let hosts = request
            .add_hosts
            .iter()
            .map(|(host, ip)| format!("{host}={ip}"));
        add("add-hosts", &hosts.collect::<Vec<_>>().join(","));
    }
    match request.network {
        Network::Host => add("force-network-mode", "host"),
        Network::None => add("force-network-mode", "none"),
        Network::Private => None,
    };
    let told_all = asked.max || (request.build_args.is_empty() && request.labels.is_empty());
    if asked.max {
        for (key, value) in &request.build_args {
            add(&format!("build-arg:{key}"), value);
        }
        for (key, value) in &request.labels {
            add(&format!("label:{key}"), value);
        }
    }
    let mut out = json!({ "frontend": "dockerfile.v0", "args": args });
    if asked.max {
        let (secrets, agents) = asked_of_caller(facts);
        out["secrets"] = json!(secrets);
        out["ssh"] = json!(agents);
    }
    out["locals"] = json!(locals(facts));
    (out, told_all)
}

/// Names of the secrets and agents that steps mount, and which of them they can do without.
fn asked_of_caller(facts: &Facts<'_>) -> (Vec<Value>, Vec<Value>) {
    let mut secrets: BTreeMap<&str, bool> = BTreeMap::new();
    let mut agents: BTreeMap<&str, bool> = BTreeMap::new();
    for mount in runs(facts).flat_map(|run| &run.mounts) {
        let (all, id, required) = match mount {
            StepMount::Secret(secret) => (&mut secrets, &secret.id, secret.required),
            StepMount::Ssh(ssh) => (&mut agents, &ssh.id, ssh.required),
            _ => continue,
        };
        *all.entry(id).or_default() |= required;
    }
    let list = |all: BTreeMap<&str, bool>| {
        let one = |(id, required)| match required {
            true => json!({ "id": id }),
            false => json!({ "id": id, "optional": true }),
        };
        all.into_iter().map(one).collect()
    };
    (list(secrets), list(agents))
}

/// What came from the caller's own disk, which nobody else can fetch.
fn locals(facts: &Facts<'_>) -> Vec<Value> {
    let mut names = BTreeSet::new();
    if matches!(
        facts.request.context,
        ContextSource::Dir(_) | ContextSource::Archive(_)
    ) {
        names.insert("context");
    }
    let inside = facts.context.origin.is_some();
    if !inside || matches!(facts.request.dockerfile, DockerfileSource::Text(_)) {
        names.insert("dockerfile");
    }
    for (at, files) in facts.named {
        if files.origin.is_none() {
            names.insert(facts.request.contexts[*at].name());
        }
    }
    for context in &facts.request.contexts {
        if matches!(context.source, NamedSource::Layout(_)) {
            names.insert(context.name());
        }
    }
    names.iter().map(|name| json!({ "name": name })).collect()
}

/// Everything from elsewhere with its digest: images, repositories, downloads.
fn dependencies(facts: &Facts<'_>) -> Vec<Value> {
    let mut out: BTreeMap<(u8, String), Value> = BTreeMap::new();
    for image in facts.images {
        let uri = purl::image(image.reference(), image.platform());
        let digest = digest_set(image.digest());
        out.insert((0, uri.clone()), json!({ "uri": uri, "digest": digest }));
    }
    let mut add = |kind: u8, origin: &Origin| {
        let value = json!({ "uri": origin.uri, "digest": origin.digest_set() });
        out.insert((kind, origin.uri.clone()), value);
    };
    let contexts = facts.named.values().chain([facts.context]);
    for origin in contexts.filter_map(|files| files.origin.as_ref()) {
        add(1, origin);
    }
    let sources = definition::steps(facts).filter_map(|step| match &step.action {
        Action::Copy(copy) => Some(&copy.sources),
        _ => None,
    });
    for source in sources.flatten() {
        match source {
            CopySource::Url { url, .. } => {
                facts
                    .fetches
                    .download(url)
                    .iter()
                    .for_each(|origin| add(2, origin));
            }
            CopySource::Git(url) => {
                facts
                    .fetches
                    .repository(url)
                    .iter()
                    .for_each(|origin| add(1, origin));
            }
            CopySource::Path(_) | CopySource::Inline { .. } => {}
        }
    }
    out.into_values().collect()
}

fn runs<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = &'a RunStep> {
    definition::steps(facts).filter_map(|step| match &step.action {
        Action::Run(run) => Some(run),
        _ => None,
    })
}

fn uses_network(facts: &Facts<'_>) -> bool {
    runs(facts).any(|run| run.network != Network::None)
}

/// The Dockerfile as one names it in its context.
fn file_name(facts: &Facts<'_>) -> String {
    let name = facts.file.name();
    match facts.context.origin {
        Some(_) => name.to_owned(),
        None => name.rsplit('/').next().unwrap_or(name).to_owned(),
    }
}

fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Masks values of secrets in every text.
fn mask(value: &mut Value, guard: &Guard) {
    match value {
        Value::String(text) => *text = guard.masked(text),
        Value::Array(values) => values.iter_mut().for_each(|value| mask(value, guard)),
        Value::Object(fields) => fields.values_mut().for_each(|value| mask(value, guard)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_build_has_a_name_of_its_own() {
        let (one, two) = (invocation(), invocation());
        assert_ne!(one, two);
        assert!(
            one.len() == 25 && one.chars().all(|c| c.is_ascii_alphanumeric()),
            "{one}"
        );
    }

    #[test]
    fn the_older_version_has_the_same_facts_elsewhere() {
        let mut v1 = json!({
            "buildDefinition": {
                "externalParameters": {
                    "configSource": { "uri": "u", "path": "Dockerfile" }, "request": { "args": {} },
                },
                "internalParameters": {
                    "builderPlatform": "linux/amd64", "buildConfig": { "llbDefinition": [] },
                    "isolation": "root",
                },
                "resolvedDependencies": [{ "uri": "m" }],
            },
            "runDetails": {
                "builder": { "id": "me" },
                "metadata": {
                    "invocationId": "i", "startedOn": "s", "finishedOn": "f",
                    "buildkit_metadata": {}, "buildkit_hermetic": true,
                    "buildkit_completeness": { "request": true, "resolvedDependencies": false },
                    "buildkit_reproducible": false,
                },
            },
        });
        let old = v02(&mut v1);
        assert_eq!(old["builder"]["id"], "me");
        assert_eq!(old["materials"], json!([{ "uri": "m" }]));
        assert_eq!(
            old["invocation"]["configSource"],
            json!({"uri": "u", "entryPoint": "Dockerfile"})
        );
        let environment = json!({ "isolation": "root", "platform": "linux/amd64" });
        assert_eq!(old["invocation"]["environment"], environment);
        assert_eq!(old["buildConfig"], json!({ "llbDefinition": [] }));
        assert_eq!(old["metadata"]["buildInvocationID"], "i");
        let complete = json!({ "parameters": true, "environment": true, "materials": false });
        assert_eq!(old["metadata"]["completeness"], complete);
        assert_eq!(
            old["metadata"]["https://mobyproject.org/buildkit@v1#hermetic"],
            true
        );
    }
}
