//! `--squash`: what the build added becomes one layer on top of the base image.

use crate::event::Sink;
use crate::image::{DiffId, History};
use crate::layer::{Change, Changes, EncodeOptions, Stack, Tree, diff, encode};
use crate::store::Store;

use super::cache::Made;
use super::commit::{Built, Layer};
use super::error::Error;
use super::stage::layer_refs;

/// Merges the layers above the base into one. History keeps every instruction, as ones without a
/// layer, and one entry for the layer.
pub(super) fn squash(
    store: &Store,
    built: &Built,
    options: &EncodeOptions,
    created: &str,
    sink: &dyn Sink,
) -> Result<Built, Error> {
    let mut squashed = built.clone();
    if built.layers.len() <= built.base_layers {
        return Ok(squashed);
    }
    let trees = store.trees(&layer_refs(&built.layers), sink)?;
    let mut merged = Changes::default();
    for tree in &trees[built.base_layers..] {
        merged.merge(diff(&tree.fd(), None, store.marks())?);
    }
    // A whiteout over nothing would be listed as an entry that is not there.
    let below = trees[..built.base_layers]
        .iter()
        .map(|tree| tree.fd())
        .collect();
    let below = Stack::new(below, store.marks());
    let mut needless = Vec::new();
    for (path, change) in &merged.entries {
        if matches!(change, Change::Whiteout) && below.node(path)?.is_none() {
            needless.push(path.clone());
        }
    }
    for path in needless {
        merged.entries.remove(&path);
    }
    let mut blob = store.blob_writer()?;
    encode(&merged, options, &mut blob)?;
    let blob = blob.finish()?;
    let made = Made {
        diff_id: DiffId(blob.digest().clone()),
        size: blob.size(),
        created: created.to_owned(),
    };
    squashed.layers.truncate(built.base_layers);
    squashed.layers.push(Layer::plain(&made));
    for entry in &mut squashed.history {
        entry.empty_layer = true;
    }
    squashed.history.push(History {
        created: Some(made.created),
        comment: Some(format!(
            "merge of {} layers",
            built.layers.len() - built.base_layers
        )),
        ..History::default()
    });
    Ok(squashed)
}
