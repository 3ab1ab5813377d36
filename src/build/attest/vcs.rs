//! What the caller's directory says of the repository that it is a work tree of, as buildx tells
//! it: the address and the commit, and where in the tree the context and the Dockerfile lie.
//!
//! `.git` is read, and no `git` is run. In a linked work tree and in a submodule it is a file that
//! names a directory elsewhere. That is believed where the directory names the work tree in turn:
//! who can only write a context must not have us tell about another repository of the caller's.
//! Refs that are no files say nothing. Whether the files differ from the commit is not looked at.

mod config;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde_json::{Map, Value, json};

use self::config::Config;
use super::super::git::without_logins;
use super::super::request::DockerfileSource;

/// Greatest size of a file that is read, in bytes.
const CAP: u64 = 4 << 20;

/// Returns the fields of `buildkit_metadata.vcs`; `None` where `context` is in no work tree that
/// has a commit. `settings` are the caller's own of git, the least important first.
pub(super) fn of(
    context: &Path,
    dockerfile: &DockerfileSource,
    settings: &[PathBuf],
) -> Option<Value> {
    let context = real(context)?;
    let mut around = context.ancestors();
    let (root, git) = around.find_map(|dir| Some((dir, Repository::of(dir)?)))?;
    let head = read(&git.own, "HEAD")?;
    let mut fields = Map::new();
    fields.insert("revision".to_owned(), json!(git.revision(&head)?));
    let branch = head.trim().strip_prefix("ref: refs/heads/");
    if let Some(address) = git.config(settings).address(branch) {
        fields.insert("source".to_owned(), json!(without_logins(&address)));
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

/// Where a work tree keeps what is its own, and what it shares with others.
struct Repository {
    own: OwnedFd,
    common: OwnedFd,
}

impl Repository {
    /// The repository of the work tree `root`, if it is one.
    fn of(root: &Path) -> Option<Self> {
        let git = root.join(".git");
        if let Some(own) = open(&git) {
            let common = own.try_clone().ok()?;
            return Some(Self { own, common });
        }
        let dir = open(root)?;
        let named = read(&dir, ".git")?;
        let at = root.join(named.trim().strip_prefix("gitdir: ")?);
        let own = open(&at)?;
        match read(&own, "commondir") {
            Some(common) => {
                // A linked work tree: its directory names the file that named it.
                let back = at.join(read(&own, "gitdir")?.trim());
                let names_it = back.ends_with(".git") && real(back.parent()?)? == root;
                let common = open(&real(&at.join(common.trim()))?)?;
                names_it.then_some(Self { own, common })
            }
            None => {
                let mut config = Config::default();
                config.read(&read(&own, "config")?);
                let back = at.join(config.get("core", "worktree")?);
                let common = own.try_clone().ok()?;
                (real(&back)? == root).then_some(Self { own, common })
            }
        }
    }

    /// All settings that hold for the work tree.
    fn config(&self, settings: &[PathBuf]) -> Config {
        let mut config = Config::default();
        for path in settings {
            if let Some(text) = read_file(CWD, path, ResolveFlags::empty()) {
                config.read(&text);
            }
        }
        config.read(&read(&self.common, "config").unwrap_or_default());
        if config.get("extensions", "worktreeconfig") == Some("true") {
            config.read(&read(&self.own, "config.worktree").unwrap_or_default());
        }
        config
    }

    /// The commit that `HEAD` leads to.
    fn revision(&self, head: &str) -> Option<String> {
        let Some(name) = head.trim().strip_prefix("ref: ") else {
            return commit(head);
        };
        // A branch that is being bisected or rebased may be the work tree's own.
        if let Some(text) = read(&self.own, name).or_else(|| read(&self.common, name)) {
            return commit(&text);
        }
        let packed = read(&self.common, "packed-refs")?;
        let mut refs = packed.lines().filter_map(|line| line.split_once(' '));
        let (id, _) = refs.find(|(_, of)| *of == name)?;
        commit(id)
    }
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
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    read_file(git.as_fd(), Path::new(name), inside)
}

fn read_file(dir: BorrowedFd<'_>, path: &Path, resolve: ResolveFlags) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve).ok()?;
    let file = File::from(file);
    let mut text = String::new();
    let regular = file.metadata().is_ok_and(|meta| meta.is_file());
    let done = regular && file.take(CAP).read_to_string(&mut text).is_ok();
    done.then_some(text)
}

/// The id of a commit, and nothing else that a file may hold.
fn commit(text: &str) -> Option<String> {
    let id = text.trim();
    let is_id = matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_are_taken_for_commits() {
        let id = "0123456789012345678901234567890123456789";
        assert_eq!(commit(&format!("{id}\n")).as_deref(), Some(id));
        for text in ["", "root:x:0:0", &id[1..], &format!("{id} main")] {
            assert_eq!(commit(text), None, "{text}");
        }
    }
}
