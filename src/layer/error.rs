//! What can go wrong between a directory and a layer.
//!
//! Paths in these errors are inside a tree: only the caller knows whether that tree is an image,
//! a stage or a build context, and says so when it shows the error.

use std::io;

use rustix::io::Errno;

use super::path::TreePath;
use super::tar_header::TarFlaw;

/// Why a tree or a layer could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on an entry of a tree was refused.
    #[error("cannot {doing} `{path}`")]
    Io {
        /// What was being done, as a verb: `open`, `list`, `set the owner of`.
        doing: &'static str,
        /// The entry.
        path: TreePath,
        /// What the kernel says.
        source: io::Error,
    },
    /// There is no entry of that name.
    #[error("`{path}` does not exist")]
    Missing {
        /// The entry.
        path: TreePath,
    },
    /// Something other than a directory stands where a directory is needed.
    #[error("`{path}` is not a directory")]
    NotDirectory {
        /// The entry that is none.
        path: TreePath,
    },
    /// A directory stands where something else is to be written.
    #[error("cannot replace the directory `{path}` by something else")]
    IsDirectory {
        /// The directory.
        path: TreePath,
    },
    /// Contents were asked of something that has none.
    #[error("`{path}` is not a regular file")]
    NotRegular {
        /// The entry.
        path: TreePath,
    },
    /// More symbolic links on one path than Linux follows.
    #[error(
        "more than {} symbolic links on the way to `{path}`",
        super::tree::MAX_LINKS
    )]
    LinkLoop {
        /// The path that was asked for.
        path: TreePath,
    },
    /// A file is longer than its reader accepts.
    #[error("`{path}` is {size} bytes long, more than the {cap} that are read of it")]
    TooBig {
        /// The file.
        path: TreePath,
        /// Its length in bytes.
        size: u64,
        /// The most that is read, in bytes.
        cap: u64,
    },
    /// A file changed its length between being listed and being read.
    #[error("`{path}` was {want} bytes long and is {got} now")]
    Changed {
        /// The file.
        path: TreePath,
        /// Length when it was listed, in bytes.
        want: u64,
        /// Length now, in bytes; for a file cut short while it was read, where it ended.
        got: u64,
    },
    /// A tree uses a feature of overlayfs that no tree of ours has.
    #[error("`{path}` carries the overlayfs attribute `{attribute}`, which is not supported")]
    Overlay {
        /// The entry.
        path: TreePath,
        /// The attribute's name.
        attribute: String,
    },
    /// A hard link names something that the layer does not hold, or that can't be linked.
    #[error("`{path}` is a hard link to `{target}`, which is no file of the same layer")]
    BadHardLink {
        /// The link.
        path: TreePath,
        /// What it names.
        target: TreePath,
    },
    /// A tar is malformed, or means different things to different readers.
    #[error("the tar is malformed at byte {at}")]
    Tar {
        /// Offset of the header that is refused, in the plain tar.
        at: u64,
        /// What is wrong with it.
        source: TarFlaw,
    },
    /// The stream that a tar comes from can't be read: see [`super::Damaged`] and
    /// [`super::OverLimit`] for errors of our own decoders.
    #[error("cannot read the tar")]
    Stream {
        /// What the stream says.
        source: io::Error,
    },
    /// A table of contents can't say what an entry is.
    #[error("`{name}` cannot be in an eStargz layer: {why}")]
    NoTable {
        /// The entry's name in the tar.
        name: String,
        /// What it can't say.
        why: &'static str,
    },
    /// What a tar is written to takes no more.
    #[error("cannot write the tar")]
    Output {
        /// What the writer says.
        source: io::Error,
    },
    /// A name that layers use to remove things (image-spec, layer.md, section "Whiteouts").
    #[error("`{path}` cannot be in a layer: a name that begins with `.wh.` removes another")]
    Reserved {
        /// The entry.
        path: TreePath,
    },
}

impl Error {
    /// Returns the error of a system call on `path`.
    pub(super) fn io(doing: &'static str, path: &TreePath, errno: Errno) -> Self {
        Self::Io {
            doing,
            path: path.clone(),
            source: errno.into(),
        }
    }
}
