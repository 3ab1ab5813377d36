//! What a RUN mounts, with every value decided: defaults filled in, targets absolute, `from` looked up.

use std::collections::BTreeMap;

use crate::dockerfile::Sharing;
use crate::layer::TreePath;

use super::step::CopyFrom;

/// One `--mount` of a RUN.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum StepMount {
    /// Files of the context, a stage or an image.
    Bind(BindMount),
    /// A directory that outlives the build.
    Cache(CacheMount),
    /// An empty directory in memory.
    Tmpfs {
        /// Where.
        target: TreePath,
        /// Bytes it may hold; the kernel's half of the memory when `None`.
        size: Option<u64>,
        /// Whether writes are refused.
        read_only: bool,
    },
    /// A secret file, variable or both.
    Secret(SecretMount),
    /// An agent's socket.
    Ssh(SshMount),
}

/// `type=bind`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BindMount {
    /// Where.
    pub(super) target: TreePath,
    /// Whose files.
    pub(super) from: CopyFrom,
    /// Which of them: a file or a directory; links are followed inside.
    pub(super) source: TreePath,
    /// Whether the step may write; nobody sees it afterwards.
    pub(super) writable: bool,
}

/// `type=cache`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CacheMount {
    /// Where.
    pub(super) target: TreePath,
    /// Its name, with the name space of the build in front.
    pub(super) id: String,
    /// Whose files a new one begins with.
    pub(super) from: Option<CopyFrom>,
    /// Which of them; without `from`, a directory of the cache itself.
    pub(super) source: TreePath,
    /// How several steps use it at once.
    pub(super) sharing: Sharing,
    /// Whether writes are refused.
    pub(super) read_only: bool,
    /// Mode, owner and group of a new one, where the instruction says any of them.
    pub(super) owner: Option<Owned>,
}

/// `type=secret`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SecretMount {
    /// Its name on the command line.
    pub(super) id: String,
    /// The file that holds it, unless it is a variable only.
    pub(super) target: Option<TreePath>,
    /// The variable that holds it.
    pub(super) env: Option<String>,
    /// Mode and owner of the file.
    pub(super) owned: Owned,
    /// Whether the step fails without it.
    pub(super) required: bool,
}

/// `type=ssh`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SshMount {
    /// Its name on the command line.
    pub(super) id: String,
    /// Where the socket is.
    pub(super) target: TreePath,
    /// Mode and owner of the socket.
    pub(super) owned: Owned,
    /// Whether the step fails without it.
    pub(super) required: bool,
}

/// Mode, owner and group of something that a mount makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owned {
    /// Permission bits.
    pub(super) mode: u32,
    /// Owner inside.
    pub(super) uid: u32,
    /// Group inside.
    pub(super) gid: u32,
}

impl StepMount {
    /// Returns whose files it reads.
    pub(super) fn from(&self) -> Option<&CopyFrom> {
        match self {
            Self::Bind(bind) => Some(&bind.from),
            Self::Cache(cache) => cache.from.as_ref(),
            Self::Tmpfs { .. } | Self::Secret(_) | Self::Ssh(_) => None,
        }
    }

    /// Makes it read the files of a stage.
    pub(super) fn read_stage(&mut self, stage: usize) {
        match self {
            Self::Bind(bind) => bind.from = CopyFrom::Stage(stage),
            Self::Cache(cache) => cache.from = Some(CopyFrom::Stage(stage)),
            Self::Tmpfs { .. } | Self::Secret(_) | Self::Ssh(_) => {}
        }
    }

    /// Replaces an index of a stage in the file by its place in the plan.
    pub(super) fn renumber_stages(&mut self, place: &BTreeMap<usize, usize>) {
        let from = match self {
            Self::Bind(bind) => Some(&mut bind.from),
            Self::Cache(cache) => cache.from.as_mut(),
            Self::Tmpfs { .. } | Self::Secret(_) | Self::Ssh(_) => None,
        };
        if let Some(CopyFrom::Stage(stage)) = from {
            *stage = place[&*stage];
        }
    }
}
