//! Git repositories as a context and as sources of ADD.
//!
//! `git` itself does the work, as in BuildKit: [`resolve`] asks the server what a reference means,
//! which is all a cache key needs, and [`check_out`] fetches that one commit with its submodules
//! into scratch space. `url` and `refs` decide, `command` acts, `tidy` makes the files the same
//! for every caller: 0644 and 0755, no `.git` unless it is wanted.
//!
//! Promise: nothing of a repository is executed, no file outside the checkout is read or written,
//! and the files are those of the commit that was resolved.
//!
//! Not done: file contents that git-lfs keeps elsewhere stay pointers.

mod command;
mod error;
mod refs;
mod tidy;
mod url;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::exec::Cancel;
use crate::layer::TreePath;
use crate::store::{Scratch, Store};

use command::Git;
use refs::Target;
use tidy::Order;
use url::{Mtime, is_commit};

pub use command::GitTools;
pub(super) use command::without_logins;
pub use error::GitError;
pub use url::{Flaw, GitUrl};

/// A commit that an address stands for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit(Target);

impl Commit {
    /// Returns its id.
    pub(super) fn id(&self) -> &str {
        &self.0.commit
    }

    /// Returns all that the files of a checkout depend on, as text.
    pub(super) fn identity(&self, url: &GitUrl) -> String {
        let mut text = format!("{}:{}", self.0.commit, url.subdir);
        if url.keeps_git_dir() {
            let name = self.0.name.as_deref().unwrap_or_default();
            text.push_str(&format!(" .git {} {name} {}", self.0.object, url.remote));
        }
        if !url.submodules {
            text.push_str(" without submodules");
        }
        if url.mtime == Mtime::Commit {
            text.push_str(" at the commit's time");
        }
        text
    }
}

/// Asks the server what `url` means. A whole commit id needs no asking.
pub(super) fn resolve(
    store: &Store,
    tools: &GitTools,
    url: &GitUrl,
    cancel: &Cancel,
) -> Result<Commit, GitError> {
    let target = match url.reference.as_deref().filter(|name| is_commit(name)) {
        Some(id) => Target::commit(id),
        None => ask(store, tools, url, cancel)?,
    };
    if let Some(want) = &url.checksum
        && !target.matches(want)
    {
        let (want, got) = (want.clone(), target.commit);
        return Err(GitError::Checksum { want, got });
    }
    Ok(Commit(target))
}

fn ask(store: &Store, tools: &GitTools, url: &GitUrl, cancel: &Cancel) -> Result<Target, GitError> {
    let scratch = store.scratch()?;
    let git = Git::new(tools, url, scratch.path(), cancel);
    let list = |patterns: &[&str]| {
        let mut args = vec!["ls-remote", "--symref", "--", &url.remote];
        args.extend(patterns);
        git.run(
            scratch.path(),
            "list the references of the repository",
            &args,
        )
    };
    let listing = match url.reference.as_deref() {
        None => list(&["HEAD"])?,
        Some(name) => list(&[name, &format!("{name}^{{}}")])?,
    };
    let reference = url.reference.as_deref();
    Target::choose(&listing, reference).ok_or_else(|| GitError::NoReference {
        reference: reference.unwrap_or("HEAD").to_owned(),
    })
}

/// A checkout in scratch space, gone when it is dropped.
#[derive(Debug)]
pub(super) struct Checkout {
    /// The directory that was wanted.
    pub(super) root: Arc<OwnedFd>,
    /// Where it lies.
    pub(super) scratch: Scratch,
    /// The time of the commit, in seconds since 1970.
    pub(super) committed: Option<i64>,
}

/// Fetches what `commit` holds.
pub(super) fn check_out(
    store: &Store,
    tools: &GitTools,
    url: &GitUrl,
    commit: &Commit,
    cancel: &Cancel,
) -> Result<Checkout, GitError> {
    let scratch = store.scratch()?;
    let home = scratch.path().join("home");
    let tree = scratch.dir("tree")?;
    drop(scratch.dir("home")?);
    let at = scratch.path().join("tree");
    let work = Work {
        git: Git::new(tools, url, &home, cancel),
        at: &at,
        url,
        target: &commit.0,
    };
    work.fetch()?;
    let committed = work.materialize()?;
    let order = Order {
        keep_git: url.keeps_git_dir(),
        mtime: committed.filter(|_| url.mtime == Mtime::Commit),
    };
    let tidied = tidy::tidy(tree.as_fd(), order);
    tidied.map_err(|errno| GitError::Tidy {
        source: errno.into(),
    })?;
    let root = Arc::new(open_subdir(tree.as_fd(), &url.subdir)?);
    Ok(Checkout {
        root,
        scratch,
        committed,
    })
}

/// Opens a directory of the checkout. No part of the path may be a link (CVE-2026-33748).
fn open_subdir(tree: BorrowedFd<'_>, subdir: &TreePath) -> Result<OwnedFd, GitError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(tree, subdir.as_os(), flags, Mode::empty(), resolve);
    opened.map_err(|errno| GitError::NoSubdir {
        subdir: subdir.to_string(),
        source: errno.into(),
    })
}

/// A repository with a work tree, being filled.
struct Work<'a> {
    git: Git<'a>,
    at: &'a Path,
    url: &'a GitUrl,
    target: &'a Target,
}

impl Work<'_> {
    fn run(&self, doing: &'static str, args: &[&str]) -> Result<String, GitError> {
        self.git.run(self.at, doing, args)
    }

    /// Makes the repository and gets the commit: alone where the server allows that, else with
    /// all branches and tags, as old servers and plain file servers want it.
    fn fetch(&self) -> Result<(), GitError> {
        let mut init = vec!["init", "--quiet", "--template="];
        if self.target.commit.len() == 64 {
            init.push("--object-format=sha256");
        }
        self.run("make a repository", &init)?;
        // Submodules with relative addresses count from here.
        let remote = &self.url.remote;
        self.run("name the remote", &["config", "remote.origin.url", remote])?;
        let get = |more: &[&str]| {
            let mut args = vec!["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
            args.extend(more);
            self.run("fetch the commit", &args)
        };
        let alone = get(&["--depth=1", "--", "origin", &self.target.object]);
        match alone {
            Ok(_) => {}
            Err(GitError::Failed { .. }) => {
                let mut all = vec!["--", "origin", "+refs/heads/*:refs/remotes/origin/*"];
                all.push("+refs/tags/*:refs/tags/*");
                all.extend(self.target.name.as_deref());
                get(&all)?;
            }
            Err(error) => return Err(error),
        }
        let commit = format!("{}^{{commit}}", self.target.object);
        let got = self.run(
            "find the commit",
            &["rev-parse", "--verify", "--quiet", &commit],
        );
        match got {
            Ok(id) if id.trim() == self.target.commit || self.target.name.is_none() => Ok(()),
            Ok(_) | Err(GitError::Failed { .. }) => Err(GitError::Moved {
                commit: self.target.commit.clone(),
            }),
            Err(error) => Err(error),
        }
    }

    /// Writes the files and returns the time of the commit.
    fn materialize(&self) -> Result<Option<i64>, GitError> {
        let commit = self.target.commit.as_str();
        self.run(
            "check the commit out",
            &["checkout", "--quiet", "--force", "--detach", commit],
        )?;
        if self.url.submodules && self.at.join(".gitmodules").is_file() {
            self.submodules()?;
        }
        if self.url.keeps_git_dir() {
            self.finish_git_dir()?;
        }
        let args = ["show", "--no-patch", "--format=%ct", commit];
        let time = self.run("tell the commit's time", &args)?;
        Ok(time.trim().parse().ok())
    }

    /// Fetches the submodules, with all history where the server knows no other way.
    fn submodules(&self) -> Result<(), GitError> {
        let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
        let shallow = [&update[..], &["--depth=1"]].concat();
        match self.run("fetch the submodules", &shallow) {
            Err(GitError::Failed { .. }) => {
                self.run("fetch the submodules", &update)?;
            }
            result => drop(result?),
        }
        Ok(())
    }

    /// Leaves a repository that has its ref, and nothing of how it was fetched.
    fn finish_git_dir(&self) -> Result<(), GitError> {
        if let Some(name) = &self.target.name {
            let args = ["update-ref", "--no-deref", name, &self.target.object];
            self.run("keep the ref", &args)?;
        }
        let removed = std::fs::remove_file(self.at.join(".git/FETCH_HEAD"));
        removed.map_err(|source| GitError::Tidy { source })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use rustix::fs::{CWD, RenameFlags, renameat_with};

    use super::*;

    fn dir(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("cooper-git-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn open_dir(path: &Path) -> OwnedFd {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).unwrap()
    }

    #[test]
    fn t_ctx_2_a_link_is_no_subdirectory() {
        let root = dir("link");
        fs::create_dir_all(root.join("tree/real/sub")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("tree/link")).unwrap();
        std::os::unix::fs::symlink("real", root.join("tree/inner")).unwrap();
        let tree = open_dir(&root.join("tree"));
        let path = |text: &str| TreePath::clean(text.as_bytes()).unwrap();
        assert!(open_subdir(tree.as_fd(), &path("real/sub")).is_ok());
        for bad in ["link", "inner", "inner/sub", "gone"] {
            let error = open_subdir(tree.as_fd(), &path(bad)).unwrap_err();
            assert!(matches!(error, GitError::NoSubdir { .. }), "{bad}");
        }
        fs::remove_dir_all(root).unwrap();
    }

    #[expect(clippy::disallowed_methods, reason = "it is the tests' own switch")]
    fn racing_time() -> Duration {
        match std::env::var_os("COOPER_TEST_LONG") {
            Some(_) => Duration::from_secs(30),
            None => Duration::from_secs(1),
        }
    }

    #[test]
    fn t_ctx_2_a_component_that_turns_into_a_link_leads_nowhere() {
        let root = dir("race");
        fs::create_dir_all(root.join("tree/a/sub")).unwrap();
        fs::create_dir_all(root.join("canary/sub")).unwrap();
        std::os::unix::fs::symlink(root.join("canary"), root.join("b")).unwrap();
        let inside = fs::metadata(root.join("tree/a/sub")).unwrap();
        let tree = open_dir(&root.join("tree"));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let (a, b) = (root.join("tree/a"), root.join("b"));
                    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
                }
            });
            let path = TreePath::clean(b"a/sub").unwrap();
            let began = Instant::now();
            while began.elapsed() < racing_time() {
                if let Ok(fd) = open_subdir(tree.as_fd(), &path) {
                    let stat = rustix::fs::fstat(fd).unwrap();
                    assert_eq!(stat.st_ino, std::os::unix::fs::MetadataExt::ino(&inside));
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        fs::remove_dir_all(root).unwrap();
    }
}
