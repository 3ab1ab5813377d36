//! What `run` was told in docker's words, for `inspect`.
//!
//! A container's plan is made from what the options mean. `inspect` shows some of them as they
//! were said, which can't be told from the meaning: these are kept here, and nothing else reads
//! them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::volumes::VolumeMount;

/// Options in docker's words. None is given where a field is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wording {
    /// `-v` with a source, which is a name or an absolute path.
    pub binds: Vec<String>,
    /// `--mount`.
    pub mounts: Vec<VolumeMount>,
    /// `--tmpfs`: targets and their options.
    pub tmpfs: BTreeMap<String, String>,
    /// `--volumes-from`.
    pub volumes_from: Vec<String>,
    /// `--cap-add`: names as in capabilities(7), or `ALL`, sorted.
    pub cap_add: Vec<String>,
    /// `--cap-drop`, in the same way.
    pub cap_drop: Vec<String>,
    /// `--security-opt`.
    pub security_opt: Vec<String>,
    /// `--privileged`.
    pub privileged: bool,
    /// `--ipc`.
    pub ipc: Option<String>,
    /// `--userns`.
    pub userns: Option<String>,
    /// `--cidfile`.
    pub cidfile: Option<PathBuf>,
    /// `--log-opt`.
    pub log_options: BTreeMap<String, String>,
    /// Which of the program's streams the caller of `run` stayed with.
    pub attached: [bool; 3],
}
