//! `type=local` and the file systems of several platforms beside each other.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use serde_json::Value;

use crate::image::{Hasher, Platform, Statement, subject};
use crate::layer::{
    Change, Changes, Content, Kind, Meta, Node, Time, TreeForm, TreePath, clamp_times, write_tree,
};
use crate::store::Store;

use super::super::attest::Predicate;
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

/// Adds what is stated about `files` to them, at the root. Each regular file is a subject. Names
/// begin with `prefix`, and say the platform where those of several lie together.
pub(super) fn put_statements(
    store: &Store,
    files: &mut Changes,
    predicates: &[Predicate],
    platform: Option<&Platform>,
    prefix: &str,
    made: Time,
) -> Result<(), Error> {
    let mut predicates = predicates.iter().filter(|p| !p.inline_only).peekable();
    if predicates.peek().is_none() {
        return Ok(());
    }
    let subjects = subjects(files)?;
    for predicate in predicates {
        let statement = Statement::of(subjects.clone(), &predicate.kind, &predicate.value);
        let blob = store.put(statement.bytes())?;
        let content = Content::Slice {
            file: Arc::new(store.open_blob(&blob)?),
            offset: 0,
        };
        let node = Node {
            meta: Meta {
                mode: 0o600,
                mtime: made,
                ..Meta::default()
            },
            kind: Kind::File { size: blob.size() },
            content: Some(content),
        };
        let name = format!("{prefix}{}", file_name(&predicate.file, platform));
        let path = TreePath::ROOT.child(name.as_bytes());
        files.entries.insert(path, Change::Node(node));
    }
    Ok(())
}

/// Returns every regular file with its digest.
fn subjects(files: &Changes) -> Result<Vec<Value>, Error> {
    let mut subjects = Vec::new();
    for (path, change) in &files.entries {
        let Change::Node(node) = change else { continue };
        let Kind::File { size } = node.kind else {
            continue;
        };
        let mut hasher = Hasher::new();
        if let Some(content) = &node.content {
            let copied = std::io::copy(&mut content.open(size)?, &mut hasher);
            copied.map_err(|source| Error::Io {
                doing: "read the output",
                path: path.as_os().into(),
                source,
            })?;
        }
        let name = path.to_string();
        subjects.push(subject(name.trim_start_matches('/'), &hasher.finish()));
    }
    Ok(subjects)
}

/// Puts the platform before the extension: `provenance.linux_arm64.json`.
fn file_name(name: &str, platform: Option<&Platform>) -> String {
    let Some(platform) = platform else {
        return name.to_owned();
    };
    let platform = platform.to_string().replace('/', "_");
    match name.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}.{platform}.{extension}"),
        None => format!("{name}.{platform}"),
    }
}

/// Merges files into a directory, which is made when it is missing, as the caller's own. No file is
/// later than `latest`; with `delete` what the directory held besides goes.
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
    write_tree(files, into.as_fd(), TreeForm::Callers, None)?;
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
