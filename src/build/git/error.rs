//! Why a repository gave no files.

use std::io;

use crate::store;

/// Why a repository gave no files.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// `git` is not there.
    #[error("`git` is not installed")]
    NotInstalled,
    /// `git` does not run.
    #[error("cannot run `git`")]
    Start {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The keys for `git` can't be offered to it.
    #[error("cannot offer the ssh keys to `git`")]
    Agent {
        /// The kernel's answer.
        source: io::Error,
    },
    /// `git` ran and failed.
    #[error("git cannot {doing}: {says}")]
    Failed {
        /// What it was to do.
        doing: &'static str,
        /// Its own words.
        says: String,
    },
    /// The server has no such reference.
    #[error("repository does not contain ref {reference}")]
    NoReference {
        /// The reference.
        reference: String,
    },
    /// The commit is not the one that was expected.
    #[error("expected checksum to match {want}, got {got}")]
    Checksum {
        /// What the id was to begin with.
        want: String,
        /// The id.
        got: String,
    },
    /// The server gave something else than it had listed.
    #[error("the server does not have commit {commit} any more")]
    Moved {
        /// The commit.
        commit: String,
    },
    /// The subdirectory is not there, or is no directory.
    #[error("`{subdir}` is no directory of the repository")]
    NoSubdir {
        /// The subdirectory.
        subdir: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The checkout can't be put in order.
    #[error("cannot put the checkout in order")]
    Tidy {
        /// The kernel's answer.
        source: io::Error,
    },
    /// Scratch space.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The build was told to stop.
    #[error("the build was cancelled")]
    Cancelled,
}
