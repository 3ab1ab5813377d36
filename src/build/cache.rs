//! Looks a step's key up and remembers its result.
//!
//! ```text
//! records/step/<key>:  {"diff_id":"sha256:…","size":N,"created":"…"} newline, then the framed inputs
//! ```
//!
//! A result counts only while its layer can still be had in some form; the record keeps the layer from
//! being pruned on its own. The framed inputs stay
//! beside it, so that what changed can be named.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::image::DiffId;
use crate::store::{self, Store};

use super::key::{Inputs, StepKey};

const KIND: &str = "step";

/// The layer that a step made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    /// Digest of its plain tar.
    pub(super) diff_id: DiffId,
    /// Size of its plain tar in bytes.
    pub(super) size: u64,
    /// When it was made, as RFC 3339: an image made from earlier results alone is the earlier image.
    pub(super) created: String,
}

/// Returns what an earlier run of the same step made, if that is still there, and notes that the
/// build that began at `now` used it.
pub(super) fn look_up(
    store: &Store,
    key: &StepKey,
    now: SystemTime,
) -> Result<Option<Made>, store::Error> {
    let records = store.records(KIND);
    let Some(record) = records.get(&key.0)? else {
        return Ok(None);
    };
    let line = record.split(|&b| b == b'\n').next().unwrap_or(&record);
    // A record that can't be read is one that was never written: the step runs.
    let Ok(made) = serde_json::from_slice::<Made>(line) else {
        return Ok(None);
    };
    if !store.has_layer(&made.diff_id)? {
        return Ok(None);
    }
    records.touch(&key.0, now)?;
    Ok(Some(made))
}

/// Remembers what the step with these inputs made in the build that began at `now`.
pub(super) fn remember(
    store: &Store,
    key: &StepKey,
    inputs: &Inputs,
    made: &Made,
    now: SystemTime,
) -> Result<(), store::Error> {
    let mut record = serde_json::to_vec(made).expect("a digest and a number are JSON");
    record.push(b'\n');
    record.extend_from_slice(inputs.framed());
    let records = store.records(KIND);
    records.put_keeping(&key.0, &record, std::slice::from_ref(made.diff_id.digest()))?;
    records.touch(&key.0, now)
}
