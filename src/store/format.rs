//! What a store is: version of its layout, whose it is, and how deletions are marked in trees.
//!
//! Owners of files in a tree are stored through the id map of the process, so another map would
//! read other owners. The file `format` keeps the map and is compared at every opening.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Options;
use super::disk;
use super::error::Error;
use super::fault;
use crate::layer::{Marks, Ownership};

/// The layout this program reads and writes.
const VERSION: u32 = 1;

/// Directories of a store.
const DIRS: &[&str] = &[
    "blobs",
    "blobs/sha256",
    "refs",
    "trees",
    "records",
    "containers",
    "volumes",
    "networks",
    "locks",
    "unsynced",
    "tmp",
];
/// Those of them in which directories are made that have nothing to do with each other.
const SPREAD: &[&str] = &["containers", "unsynced", "tmp"];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Format {
    version: u32,
    owner: Owner,
    user_xattr: bool,
    /// Stores from before there was a choice have owners on their inodes.
    #[serde(default)]
    owners: Ownership,
}

/// Who a process is, as far as files on the disk can tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    uid: u32,
    uid_map: String,
    gid_map: String,
}

impl Owner {
    fn current() -> Result<Self, Error> {
        let map = |path: &str| -> Result<String, Error> {
            let path = Path::new(path);
            let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
            let lines = text
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            Ok(lines.collect::<Vec<_>>().join(", "))
        };
        Ok(Self {
            uid: rustix::process::geteuid().as_raw(),
            uid_map: map("/proc/self/uid_map")?,
            gid_map: map("/proc/self/gid_map")?,
        })
    }

    fn describe(&self) -> String {
        let Self {
            uid,
            uid_map,
            gid_map,
        } = self;
        format!("uid {uid} with uid map `{uid_map}` and gid map `{gid_map}`")
    }
}

/// Checks that `root` is a store for this process, or makes it one when it is empty or missing.
/// Returns what its trees are marked with.
pub(super) fn open(root: &Path, options: Options) -> Result<Marks, Error> {
    let Options { user_xattr, owners } = options;
    let path = root.join("format");
    let bytes = match disk::read(&path)? {
        Some(bytes) => bytes,
        None => create(root, &path, options)?,
    };
    // The version is read alone first: a later layout may have other fields.
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let malformed = |source| Error::Format {
        path: path.clone(),
        source,
    };
    let Version { version } = serde_json::from_slice(&bytes).map_err(malformed)?;
    if version != VERSION {
        return Err(Error::Version {
            root: root.to_owned(),
            got: version,
            want: VERSION,
        });
    }
    let format: Format = serde_json::from_slice(&bytes).map_err(malformed)?;
    let here = Owner::current()?;
    if format.owner != here {
        return Err(Error::Owner {
            root: root.to_owned(),
            got: format.owner.describe(),
            want: here.describe(),
        });
    }
    if user_xattr && !format.user_xattr {
        return Err(Error::Attributes {
            root: root.to_owned(),
        });
    }
    if owners != format.owners {
        return Err(Error::Owner {
            root: root.to_owned(),
            got: format.owner.describe(),
            want: format!("{}, {}", here.describe(), kept(owners)),
        });
    }
    Ok(match format.user_xattr {
        true => Marks::user(format.owners),
        false => Marks::Trusted,
    })
}

/// Says where owners are.
fn kept(owners: Ownership) -> &'static str {
    match owners {
        Ownership::Inode => "which gives files away",
        Ownership::Remembered { .. } => "which must remember owners",
    }
}

/// Lays out a store; the file `format` comes last and by rename, so what has it is complete.
fn create(root: &Path, path: &Path, options: Options) -> Result<Vec<u8>, Error> {
    match std::fs::create_dir_all(root.parent().unwrap_or(root)) {
        Ok(()) => {}
        Err(e) => return Err(Error::io("make", root, e)),
    }
    disk::make_dir(root)?;
    let foreign = |name: &String| {
        !DIRS.contains(&name.as_str()) && !name.starts_with("format") && name != "lost+found"
    };
    if disk::names(root)?.iter().any(foreign) {
        // Another process may have finished the same work meanwhile.
        return disk::read(path)?.ok_or_else(|| Error::NotAStore {
            root: root.to_owned(),
        });
    }
    let closed = rustix::fs::Mode::RWXU;
    rustix::fs::chmod(root, closed).map_err(|e| Error::os("close to others", root, e))?;
    for dir in DIRS {
        disk::make_dir(&root.join(dir))?;
    }
    for dir in SPREAD {
        disk::spread(&root.join(dir))?;
    }
    let format = Format {
        version: VERSION,
        owner: Owner::current()?,
        user_xattr: options.user_xattr,
        owners: options.owners,
    };
    let mut bytes = serde_json::to_vec(&format).expect("numbers and strings are JSON");
    bytes.push(b'\n');
    let temp = root.join(format!("format.{}", std::process::id()));
    // Two threads of one process may come here at once, each with the same bytes.
    let mut file = disk::lock_file(&temp)?;
    let written = file.write_all(&bytes).and_then(|()| file.sync_all());
    written.map_err(|e| Error::io("write", &temp, e))?;
    fault::point("rename into place", path)?;
    match std::fs::rename(&temp, path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && path.exists() => {}
        Err(e) => return Err(Error::io("rename into place", path, e)),
    }
    disk::read(path)?.ok_or_else(|| Error::NotAStore {
        root: root.to_owned(),
    })
}
