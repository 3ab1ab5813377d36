//! What the caller's directory says of the repository that it is a work tree of, as buildx tells
//! it: the address and the commit, and where in the tree the context and the Dockerfile lie.
//!
//! `.git` is read, and no `git` is run. A work tree whose `.git` is a file (a linked one, a
//! submodule), or whose refs are not files, says nothing. Whether the files differ from the commit
//! is not looked at.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde_json::{Map, Value, json};

use super::super::git::without_logins;
use super::super::request::DockerfileSource;

/// Greatest size of a file that is read, in bytes.
const CAP: u64 = 4 << 20;

/// Returns the fields of `buildkit_metadata.vcs`; `None` where `context` is in no work tree that
/// has a commit.
pub(super) fn of(context: &Path, dockerfile: &DockerfileSource) -> Option<Value> {
    let context = real(context)?;
    let mut around = context.ancestors();
    let (root, git) = around.find_map(|dir| Some((dir, open(&dir.join(".git"))?)))?;
    let head = read(&git, "HEAD")?;
    let mut fields = Map::new();
    fields.insert("revision".to_owned(), json!(revision(&git, &head)?));
    let config = read(&git, "config").unwrap_or_default();
    if let Some(address) = address(&config, head.trim().strip_prefix("ref: refs/heads/")) {
        fields.insert("source".to_owned(), json!(without_logins(address)));
    }
    let file_dir = match dockerfile {
        DockerfileSource::Default => Some(context.clone()),
        DockerfileSource::File(path) => real(path.parent()?),
        DockerfileSource::Text(_) => None,
    };
    for (name, dir) in [
        ("context", Some(&context)),
        ("dockerfile", file_dir.as_ref()),
    ] {
        if let Some(below) = dir.and_then(|dir| dir.strip_prefix(root).ok()) {
            let below = match below.as_os_str().is_empty() {
                true => Path::new("."),
                false => below,
            };
            fields.insert(format!("localdir:{name}"), json!(below.to_string_lossy()));
        }
    }
    Some(Value::Object(fields))
}

/// Opens a directory that is no link.
fn open(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

/// Returns where a directory is when all links are followed.
fn real(path: &Path) -> Option<PathBuf> {
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()
}

/// Reads a file of the repository.
fn read(git: &OwnedFd, name: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = rustix::fs::openat2(git, name, flags, Mode::empty(), inside).ok()?;
    let file = File::from(file);
    let mut text = String::new();
    let regular = file.metadata().is_ok_and(|meta| meta.is_file());
    let done = regular && file.take(CAP).read_to_string(&mut text).is_ok();
    done.then_some(text)
}

/// The commit that `HEAD` leads to.
fn revision(git: &OwnedFd, head: &str) -> Option<String> {
    let Some(name) = head.trim().strip_prefix("ref: ") else {
        return commit(head);
    };
    if let Some(text) = read(git, name) {
        return commit(&text);
    }
    let packed = read(git, "packed-refs")?;
    let mut refs = packed.lines().filter_map(|line| line.split_once(' '));
    let (id, _) = refs.find(|(_, of)| *of == name)?;
    commit(id)
}

/// The id of a commit, and nothing else that a file may hold.
fn commit(text: &str) -> Option<String> {
    let id = text.trim();
    let is_id = matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.to_owned())
}

/// The address of the remote that `branch` follows, or else of `origin` or `upstream`.
fn address<'a>(config: &'a str, branch: Option<&str>) -> Option<&'a str> {
    let mut remotes: BTreeMap<&str, &str> = BTreeMap::new();
    let mut followed = None;
    let mut section = None;
    for line in config.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.strip_suffix("\"]");
            section = header.and_then(|header| header.split_once(" \""));
        } else if let Some((key, value)) = line.split_once('=') {
            let value = value.trim().trim_matches('"');
            match (section, key.trim()) {
                (Some(("remote", name)), "url") => {
                    remotes.entry(name).or_insert(value);
                }
                (Some(("branch", name)), "remote") if Some(name) == branch => {
                    followed = Some(value);
                }
                _ => {}
            }
        }
    }
    let mut wanted = followed.into_iter().chain(["origin", "upstream"]);
    wanted.find_map(|name| remotes.get(name).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[core]\n\tbare = false\n[remote \"upstream\"]\n\turl = u\n\
                          [remote \"origin\"]\n\turl = o\n\tfetch = +refs/*:x=y\n\
                          [remote \"fork\"]\n\turl = \"f\"\n[branch \"mine\"]\n\tremote = fork\n";

    #[test]
    fn the_remote_of_the_branch_comes_before_origin_and_upstream() {
        assert_eq!(address(CONFIG, Some("mine")), Some("f"));
        assert_eq!(address(CONFIG, Some("main")), Some("o"));
        assert_eq!(address(CONFIG, None), Some("o"));
        assert_eq!(address("[remote \"upstream\"]\nurl=u\n", None), Some("u"));
        assert_eq!(address("[remote \"other\"]\nurl=x\n", None), None);
        assert_eq!(address("[remote\nurl=x\nurl\n", None), None);
    }

    #[test]
    fn only_ids_are_taken_for_commits() {
        let id = "0123456789012345678901234567890123456789";
        assert_eq!(commit(&format!("{id}\n")).as_deref(), Some(id));
        for text in ["", "root:x:0:0", &id[1..], &format!("{id} main")] {
            assert_eq!(commit(text), None, "{text}");
        }
    }
}
