//! Looks a step's key up and remembers its result, here and for builds of other stores.
//!
//! ```text
//! records/step/<key>:  {"diff_id":"sha256:…","size":N,"created":"…"} newline, then the framed inputs
//! ```
//!
//! A result counts only while its layer can still be had in some form; the record keeps the layer from
//! being pruned on its own. The framed inputs stay
//! beside it, so that what changed can be named.
//!
//! `import` and `export` are `--cache-from` and `--cache-to`; `format` is what travels. A result
//! that came from elsewhere becomes the store's own once its layer proved to be what it should be.

mod export;
mod format;
mod import;

use std::sync::PoisonError;
use std::time::SystemTime;

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use crate::image::{DiffId, Digest};
use crate::store::{self, Store};

use super::error::StepError;
use super::key::{Inputs, StepKey};
use super::request::Request;
use super::stage::World;

pub(super) use export::{Exporter, check, contents, wants_inline};
pub(super) use format::INLINE;
pub(super) use import::Imports;

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

/// Returns what an earlier run of the same step made, if that is still there and counts, and notes
/// that this build used it.
pub(super) fn look_up(
    store: &Store,
    key: &StepKey,
    request: &Request,
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
    if !is_fresh(&made, request) || !store.has_layer(&made.diff_id)? {
        return Ok(None);
    }
    records.touch(&key.0, request.now)?;
    Ok(Some(made))
}

/// Whether a result is not older than `--cache-ttl` lets results be.
pub(super) fn is_fresh(made: &Made, request: &Request) -> bool {
    let Some(ttl) = request.cache_ttl else {
        return true;
    };
    let made = DateTime::parse_from_rfc3339(&made.created);
    let age = made.map(|made| request.now.duration_since(SystemTime::from(made)));
    // One of the future is new; one without a time is as old as can be.
    age.is_ok_and(|age| age.is_err() || age.is_ok_and(|age| age < ttl))
}

/// Returns the digest that answers a question about files in layers, which never change: worked
/// out once, here or by another build.
pub(super) fn answer(
    world: &World<'_>,
    kind: &'static str,
    question: &Inputs,
    work: impl FnOnce() -> Result<Digest, StepError>,
) -> Result<Digest, StepError> {
    let question = question.key().0;
    let records = world.store.records(kind);
    let known = records.get(&question)?;
    let known = known.and_then(|known| std::str::from_utf8(&known).ok()?.parse().ok());
    let answer = match known.or_else(|| world.imports.answer(&question)) {
        Some(answer) => answer,
        None => {
            let answer = work()?;
            records.put(&question, answer.as_str().as_bytes())?;
            answer
        }
    };
    let mut answers = world.answers.lock().unwrap_or_else(PoisonError::into_inner);
    answers.insert(question, answer.clone());
    Ok(answer)
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
