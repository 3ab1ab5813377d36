//! A tree outside everything that a test hands to the programs: it must come out as it went in.
//!
//! What is attacked in a test leads here: links, `..`, absolute names, racing renames. A
//! [`Canary`] looks at every entry's type, mode, owner, size, times, link target and bytes when it
//! is made and again when it is asked, so that anything read through a writable door, created,
//! changed or removed shows. Its FIFOs block whoever opens them; [`within`] turns that into a
//! failure instead of a test that hangs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes that are nowhere but in the canary's files: to be found nowhere else afterwards.
pub(crate) const SONG: &str = "canary-song-7f3a91";

/// The tree and how it was.
#[derive(Debug)]
pub(crate) struct Canary {
    root: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    /// Makes the tree at `root`, which must not exist: files, directories, a FIFO, and links that
    /// lead in circles, to the root, and to each other.
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        fs::create_dir(&root).unwrap();
        for dir in ["dir", "dir/sub", "etc", "open"] {
            fs::create_dir(root.join(dir)).unwrap();
        }
        for file in ["f", "secret", "dir/f", "dir/sub/f", "etc/passwd", "open/f"] {
            fs::write(root.join(file), format!("{SONG} {file}\n")).unwrap();
        }
        fs::set_permissions(root.join("open"), fs::Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(root.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), fifo, mode, 0).unwrap();
        for (to, link) in [
            ("..", "up"),
            ("/", "slash"),
            ("dir", "in"),
            ("circle", "circle"),
            ("nowhere", "dangling"),
        ] {
            symlink(to, root.join(link)).unwrap();
        }
        let before = snapshot(&root);
        Self { root, before }
    }

    /// Returns where it is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Looks at the tree again; any difference fails the test.
    #[track_caller]
    pub(crate) fn unchanged(&self) {
        let after = snapshot(&self.root);
        if after == self.before {
            return;
        }
        let mut said = String::new();
        for (path, old) in &self.before {
            match after.get(path) {
                None => said.push_str(&format!("- {} {old}\n", path.display())),
                Some(new) if new != old => {
                    said.push_str(&format!("- {0} {old}\n+ {0} {new}\n", path.display()));
                }
                Some(_) => {}
            }
        }
        for (path, new) in after
            .iter()
            .filter(|(path, _)| !self.before.contains_key(*path))
        {
            said.push_str(&format!("+ {} {new}\n", path.display()));
        }
        panic!("the canary was touched:\n{said}");
    }
}

fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let what = if kind.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            todo.extend(entries.map(|entry| entry.unwrap().path()));
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("link to {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else {
            format!("{:?}", String::from_utf8_lossy(&fs::read(&path).unwrap()))
        };
        let owner = (meta.uid(), meta.gid());
        let times = (
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        let text = format!(
            "{:o} {owner:?} {times:?} {} {what}",
            meta.mode(),
            meta.nlink()
        );
        seen.insert(path, text);
    }
    seen
}

/// Runs `work` and fails when it takes longer than `limit`: a blocking open, a dead lock.
#[track_caller]
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (send, receive) = mpsc::channel();
    // The channel is closed by a panic in `work` as well.
    std::thread::spawn(move || drop(send.send(work())));
    match receive.recv_timeout(limit) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("not done within {limit:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the work failed, see above"),
    }
}

/// Returns how long a racing test goes on: moments, or half a minute with `COOPER_TEST_LONG=1`.
#[expect(clippy::disallowed_methods, reason = "it is the tests' own switch")]
pub(crate) fn racing_time() -> Duration {
    match std::env::var_os("COOPER_TEST_LONG") {
        Some(value) if value != "0" => Duration::from_secs(30),
        _ => Duration::from_millis(1500),
    }
}

/// A thread that exchanges two names (renameat2, `RENAME_EXCHANGE`) until it is dropped.
#[derive(Debug)]
pub(crate) struct Racer {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Racer {
    /// Begins to exchange `one` and `other`, which both exist.
    pub(crate) fn between(one: PathBuf, other: PathBuf) -> Self {
        let (stop, swaps) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&swaps));
        let thread = std::thread::spawn(move || {
            let (at, exchange) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
            while !stopped.load(Ordering::Relaxed) {
                // Either may be gone for a moment, when what is tested removes or replaces it.
                if rustix::fs::renameat_with(at, &one, at, &other, exchange).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self {
            stop,
            swaps,
            thread: Some(thread),
        }
    }

    /// Returns how often the names were exchanged so far: a race that never ran shows nothing.
    pub(crate) fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its only panic would be an overflow after centuries.
            let _ = thread.join();
        }
    }
}
