//! `--save-stages`: the stages that the result needed as images without a name, and
//! `--stage-labels`, which say of each what it is called and what it stands on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::image::ImageId;
use crate::layer::Time;

use super::commit::{self, Built};
use super::error::Error;
use super::stage::World;
use super::step::{Base, Plan, StagePlan};

const NAME: &str = "io.buildah.stage.name";
const BASE: &str = "io.buildah.stage.base";

/// Stores every stage but the result, if that was asked for. Returns the labels that the result
/// gets.
pub(super) fn save(
    plan: &Plan,
    stages: &BTreeMap<usize, Arc<Built>>,
    world: &World<'_>,
) -> Result<Vec<(String, String)>, Error> {
    let request = world.request;
    let mut ids = BTreeMap::new();
    if request.save_stages {
        for (at, stage) in plan.stages.iter().enumerate() {
            if at != plan.target {
                let own = labels(stage, &ids, world);
                ids.insert(at, store_image(stage, &stages[&at], &own, world)?);
            }
        }
    }
    Ok(labels(&plan.stages[plan.target], &ids, world))
}

fn store_image(
    stage: &StagePlan,
    built: &Built,
    labels: &[(String, String)],
    world: &World<'_>,
) -> Result<ImageId, Error> {
    let epoch = world.request.source_date_epoch.map(Time::from_secs);
    let author = stage.author.as_deref();
    let retimed = match world.request.latest() {
        Some(latest) => Some(built.retimed(world.store, latest)?),
        None => None,
    };
    let built = retimed.as_ref().unwrap_or(built);
    let config = commit::config(
        built,
        &stage.config,
        author,
        &stage.platform,
        labels,
        epoch,
        None,
    );
    let manifest = commit::manifest(built, &config, BTreeMap::new());
    Ok(world.store.put_image(&manifest, &config)?.id())
}

/// The labels of a stage; `ids` are the stages before it.
fn labels(
    stage: &StagePlan,
    ids: &BTreeMap<usize, ImageId>,
    world: &World<'_>,
) -> Vec<(String, String)> {
    if !world.request.stage_labels {
        return Vec::new();
    }
    let base = match &stage.base {
        Base::Scratch => "scratch".to_owned(),
        Base::Image(image) => world.images[*image].reference().full(),
        Base::Files(context) => world.request.contexts[*context].name().to_owned(),
        Base::Stage(base) => ids.get(base).map_or_else(String::new, ImageId::to_string),
    };
    vec![
        (NAME.to_owned(), stage.label.clone()),
        (BASE.to_owned(), base),
    ]
}
