//! The ssh agent that a step or `git` may ask: the caller's, or one of our own that holds keys.
//!
//! Whoever asks may learn which public keys there are and have something signed, and no more:
//! keys can be neither added nor removed, and none leaves this process.

mod key;
mod serve;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;

pub use key::{KeyError, SshKey};
pub(super) use serve::Agent;

/// An agent that `RUN --mount=type=ssh` may ask.
#[derive(Debug, Clone)]
pub struct SshAgent {
    /// What mounts call it.
    pub id: String,
    /// Who answers.
    pub source: SshSource,
}

/// Who answers what an agent is asked.
#[derive(Debug, Clone)]
pub enum SshSource {
    /// The agent that listens at this socket.
    Socket(PathBuf),
    /// We do, for these keys.
    Keys(Arc<[SshKey]>),
}
