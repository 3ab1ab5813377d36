//! `type=local` and the file systems of several platforms beside each other.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::image::Platform;
use crate::layer::{
    Change, Changes, Meta, Node, Time, TreeForm, TreePath, clamp_times, write_tree,
};

use super::super::error::Error;

/// Adds the files of one platform below a directory of its name, such as `linux_arm64`.
pub(super) fn put_below(all: &mut Changes, platform: &Platform, files: Changes, made: Time) {
    let name = platform.to_string().replace('/', "_");
    let dir = TreePath::ROOT.child(name.as_bytes());
    let meta = Meta {
        mode: 0o755,
        mtime: made,
        ..Meta::default()
    };
    let below = files.entries.into_iter().map(|(path, change)| {
        let change = match change {
            Change::HardLink(first) => Change::HardLink(dir.join(&first)),
            change => change,
        };
        (dir.join(&path), change)
    });
    all.entries.extend(below);
    all.entries.insert(dir, Change::Node(Node::dir(meta)));
}

/// Merges files into a directory, which is made when it is missing. No file is later than
/// `latest`; with `delete` what the directory held besides goes.
pub(super) fn write_dir(
    files: &Changes,
    dest: &Path,
    latest: Option<Time>,
    delete: bool,
) -> Result<(), Error> {
    let failed = |doing| {
        move |source: std::io::Error| Error::Io {
            doing,
            path: dest.to_owned(),
            source,
        }
    };
    fs::create_dir_all(dest).map_err(failed("create the output directory"))?;
    let into: OwnedFd = rustix::fs::open(
        dest,
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| failed("open the output directory")(errno.into()))?;
    write_tree(files, into.as_fd(), TreeForm::Plain, None)?;
    if delete {
        remove_others(files, dest, &TreePath::ROOT)
            .map_err(failed("clear the output directory"))?;
    }
    if let Some(latest) = latest {
        clamp_times(into.as_fd(), files, latest)?;
    }
    Ok(())
}

/// Removes what is below `dir` and not among `files`. The directory is the caller's own.
fn remove_others(files: &Changes, dir: &Path, path: &TreePath) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let here = path.child(OsStr::as_bytes(&entry.file_name()));
        let is_dir = entry.file_type()?.is_dir();
        match files.entries.get(&here) {
            Some(_) if is_dir => remove_others(files, &entry.path(), &here)?,
            Some(_) => {}
            None if is_dir => fs::remove_dir_all(entry.path())?,
            None => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}
