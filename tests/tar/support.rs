//! Hand-made archives, and a target directory with a canary beside it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cooper::image::Digest;
use cooper::layer::{
    Changes, Error, Marks, Stack, TarBody, TarReader, TreeForm, UnpackOptions, Unpacked, index_tar,
    unpack, write_tree,
};

/// An archive in the making. What it writes need not make sense.
#[derive(Default, Clone)]
pub(crate) struct Tar {
    pub(crate) bytes: Vec<u8>,
}

/// The fields of a header that tests change.
#[derive(Clone)]
pub(crate) struct Fields {
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) flag: u8,
    pub(crate) mode: u32,
    pub(crate) ids: (u32, u32),
    pub(crate) size: u64,
    pub(crate) mtime: u64,
    pub(crate) device: (u32, u32),
    pub(crate) magic: [u8; 8],
}

impl Fields {
    pub(crate) fn new(flag: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            link: Vec::new(),
            flag,
            mode: 0o644,
            ids: (0, 0),
            size: 0,
            mtime: 1_600_000_000,
            device: (0, 0),
            magic: *b"ustar\x0000",
        }
    }

    pub(crate) fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(
            108,
            format!("{:07o}\0{:07o}\0", self.ids.0, self.ids.1).as_bytes(),
        );
        put(
            124,
            format!("{:011o}\0{:011o}\0", self.size, self.mtime).as_bytes(),
        );
        put(156, &[self.flag]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, &self.magic);
        put(
            329,
            format!("{:07o}\0{:07o}\0", self.device.0, self.device.1).as_bytes(),
        );
        sum(&mut block);
        block
    }
}

/// Sets the checksum of a header.
pub(crate) fn sum(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

impl Tar {
    pub(crate) fn header(mut self, fields: &Fields) -> Self {
        self.bytes.extend(fields.block());
        self
    }

    /// Appends data with its padding.
    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.bytes.extend(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: impl AsRef<[u8]>, data: &[u8]) -> Self {
        let size = data.len() as u64;
        self.header(&Fields {
            size,
            ..Fields::new(b'0', name)
        })
        .data(data)
    }

    pub(crate) fn dir(self, name: impl AsRef<[u8]>, mode: u32) -> Self {
        self.header(&Fields {
            mode,
            ..Fields::new(b'5', name)
        })
    }

    pub(crate) fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.header(&Fields {
            link: target.as_ref().to_vec(),
            ..Fields::new(b'2', name)
        })
    }

    pub(crate) fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.header(&Fields {
            link: target.as_ref().to_vec(),
            ..Fields::new(b'1', name)
        })
    }

    /// Appends an extended header of type `flag`.
    pub(crate) fn pax(self, flag: u8, records: &[(&str, &[u8])]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let digits = (1..).find(|&n| (rest + n).to_string().len() == n).unwrap();
            bytes.extend(format!("{} {key}=", rest + digits).into_bytes());
            bytes.extend(*value);
            bytes.push(b'\n');
        }
        self.long(flag, &bytes)
    }

    /// Appends a header of type `flag` with this payload.
    pub(crate) fn long(self, flag: u8, payload: &[u8]) -> Self {
        let size = payload.len() as u64;
        self.header(&Fields {
            size,
            ..Fields::new(flag, "././@LongLink")
        })
        .data(payload)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }
}

/// A directory with `tree`, the target, and `canary`, which must stay as it is.
pub(crate) struct Place {
    root: PathBuf,
    before: Vec<String>,
}

impl Place {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cooper-tar-{}-{count}", std::process::id());
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(root.join("tree")).unwrap();
        let canary = root.join("canary");
        fs::create_dir_all(canary.join("dir/below")).unwrap();
        fs::write(canary.join("file"), "secret").unwrap();
        fs::write(canary.join("dir/f"), "more").unwrap();
        fs::set_permissions(canary.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("file", canary.join("link")).unwrap();
        let before = list(&canary);
        Self { root, before }
    }

    pub(crate) fn canary(&self) -> PathBuf {
        self.root.join("canary")
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.root.join("tree")
    }

    /// Makes another target.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let dir = self.root.join(name);
        fs::create_dir(&dir).unwrap();
        dir
    }

    /// Unpacks into the target.
    pub(crate) fn unpack(&self, tar: &[u8]) -> Result<Unpacked, Error> {
        unpack_into(&self.tree(), tar, None)
    }

    /// Fails if anything beside the target changed.
    #[track_caller]
    pub(crate) fn check(&self) {
        assert_eq!(list(&self.canary()), self.before, "the canary changed");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The next run uses another name; a full disk shows elsewhere.
        let _ = fs::remove_dir_all(&self.root);
    }
}

pub(crate) fn open(dir: &Path) -> Arc<OwnedFd> {
    Arc::new(File::open(dir).unwrap().into())
}

pub(crate) fn unpack_into(
    dir: &Path,
    mut tar: &[u8],
    below: Option<&Stack>,
) -> Result<Unpacked, Error> {
    unpack(
        &mut tar,
        open(dir).as_fd(),
        below,
        &UnpackOptions {
            marks: Marks::Trusted,
        },
    )
}

/// Indexes an archive as ADD does.
pub(crate) fn index(tar: &[u8]) -> Result<Changes, Error> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("tar", flags).unwrap());
    file.write_all(tar).unwrap();
    index_tar(Arc::new(file))
}

/// Indexes an archive and writes it to a directory, as for a context that comes as an archive.
pub(crate) fn index_into(dir: &Path, tar: &[u8]) -> Result<(), Error> {
    write_tree(&index(tar)?, open(dir).as_fd(), TreeForm::Plain, None).map(drop)
}

/// Returns each entry's name and what it is, or the error's chain of texts.
pub(crate) fn entries(tar: &[u8]) -> Result<Vec<(String, TarBody)>, String> {
    let mut reader = TarReader::new(tar);
    let mut entries = Vec::new();
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => entries.push((entry.path.to_string(), entry.body)),
            Ok(None) => return Ok(entries),
            Err(error) => return Err(chain(&error)),
        }
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// Lists everything below a directory: name, type, mode, owner, time, contents.
pub(crate) fn list(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    walk(root, Path::new(""), &mut lines);
    lines
}

fn walk(root: &Path, path: &Path, lines: &mut Vec<String>) {
    let full = root.join(path);
    let stat = fs::symlink_metadata(&full).unwrap();
    let kind = stat.file_type();
    let what = if kind.is_dir() {
        "dir".to_owned()
    } else if kind.is_symlink() {
        format!("-> {}", fs::read_link(&full).unwrap().display())
    } else if kind.is_file() {
        let bytes = fs::read(&full).unwrap();
        match std::str::from_utf8(&bytes) {
            Ok(text) if text.len() < 100 => format!("{text:?}"),
            _ => format!("{} bytes {}", bytes.len(), Digest::of(&bytes).short()),
        }
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else {
        let device = stat.rdev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        format!(
            "{} {major}:{minor}",
            if kind.is_char_device() {
                "char"
            } else {
                "block"
            }
        )
    };
    let mode = stat.mode() & 0o7777;
    let shown = path.display();
    lines.push(format!(
        "/{shown} {what} {mode:o} {}:{} {}",
        stat.uid(),
        stat.gid(),
        stat.mtime()
    ));
    if kind.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&full)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        for name in names {
            walk(root, &path.join(name), lines);
        }
    }
}

/// Lists names and what they are, without modes, owners and times.
pub(crate) fn names(root: &Path) -> BTreeMap<String, String> {
    let lines = list(root);
    let split = |line: &String| {
        let (name, rest) = line.split_once(' ').unwrap();
        let what = rest.rsplitn(4, ' ').nth(3).unwrap();
        (name.to_owned(), what.to_owned())
    };
    lines.iter().map(split).collect()
}

/// Fails where files can't be given away and devices can't be made.
#[track_caller]
pub(crate) fn need_root() {
    let root = rustix::process::geteuid().is_root();
    assert!(root, "only root can give files away and make devices");
}

pub(crate) fn read_all(mut from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    Ok(bytes)
}
