//! Fingerprints what was picked: contents hashed on all processors, then one hash over all that
//! counts.
//!
//! What counts of an entry is its name, type, mode, owner, attributes, link target and contents,
//! never a time. Whoever changes what goes into the hash raises [`VERSION`].

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::image::{Digest, Hasher};
use crate::layer::Kind;

use super::error::StepError;
use super::select::{Pick, Picked, Shape};
use super::stat_index::Hash;

/// Which fingerprints [`fingerprint`] gives: part of every key that one goes into.
pub(super) const VERSION: u32 = 3;

/// Files below which another thread is not worth starting.
const WORTH_A_THREAD: usize = 64;
/// Bytes that are gathered before they are hashed.
const GATHERED: usize = 32 << 10;

/// Returns a digest of what counts of the picked entries. `known` is asked for the hash of each
/// file's bytes first, in order; `read` then hashes the others, several at once.
pub(super) fn fingerprint(
    picks: &[Pick],
    known: impl FnMut(&Picked) -> Option<Hash>,
    read: impl Fn(&Picked) -> Result<Hash, StepError> + Sync,
) -> Result<Digest, StepError> {
    let contents = contents(picks, known, read)?;
    let mut contents = contents.iter();
    let mut gather = Gather {
        bytes: Vec::with_capacity(2 * GATHERED),
        hasher: Hasher::new(),
    };
    for pick in picks {
        match &pick.shape {
            Shape::Dir => gather.add(b"dir"),
            Shape::File { name } => {
                gather.add(b"file");
                gather.add(name);
            }
        }
        for entry in &pick.entries {
            gather.entry(entry, &mut contents);
        }
        gather.add(b"end");
    }
    Ok(gather.finish())
}

/// Whether an entry is a file with bytes. Among the empty ones are sockets, which nobody can open.
fn has_bytes(entry: &Picked) -> bool {
    matches!(entry.node.kind, Kind::File { size } if size > 0)
}

/// Returns the hash of each file that has bytes, in order.
fn contents(
    picks: &[Pick],
    mut known: impl FnMut(&Picked) -> Option<Hash>,
    read: impl Fn(&Picked) -> Result<Hash, StepError> + Sync,
) -> Result<Vec<OnceLock<Hash>>, StepError> {
    let entries = picks.iter().flat_map(|pick| &pick.entries);
    let mut hashes = Vec::new();
    let mut unknown: Vec<(usize, &Picked)> = Vec::new();
    for (at, file) in entries.filter(|entry| has_bytes(entry)).enumerate() {
        let hash = known(file);
        if hash.is_none() {
            unknown.push((at, file));
        }
        hashes.push(hash.map_or_else(OnceLock::new, OnceLock::from));
    }
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((at, file)) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
            // Nobody else has this one.
            let _ = hashes[*at].set(read(file)?);
        }
        Ok(())
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(unknown.len() / WORTH_A_THREAD);
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let joined = helpers.into_iter().map(|helper| {
            helper
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        std::iter::once(own)
            .chain(joined)
            .collect::<Result<(), StepError>>()
    })?;
    Ok(hashes)
}

/// Fields on their way into a hash, each with its length before it.
struct Gather {
    bytes: Vec<u8>,
    hasher: Hasher,
}

impl Gather {
    fn add(&mut self, field: &[u8]) {
        self.bytes
            .extend_from_slice(&(field.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(field);
        if self.bytes.len() >= GATHERED {
            self.hasher.update(&self.bytes);
            self.bytes.clear();
        }
    }

    fn entry(&mut self, entry: &Picked, contents: &mut std::slice::Iter<'_, OnceLock<Hash>>) {
        self.add(entry.rel.as_bytes());
        let meta = &entry.node.meta;
        let mut numbers = [0; 12];
        for (to, number) in numbers
            .chunks_exact_mut(4)
            .zip([meta.mode, meta.uid, meta.gid])
        {
            to.copy_from_slice(&number.to_le_bytes());
        }
        self.add(&numbers);
        for (name, value) in &meta.xattrs {
            self.add(name);
            self.add(value);
        }
        match &entry.node.kind {
            Kind::File { size: 0 } => self.add(b"empty"),
            Kind::File { .. } => {
                self.add(b"f");
                let hash = contents.next().and_then(OnceLock::get);
                self.add(hash.expect("every file with bytes was hashed"));
            }
            Kind::Symlink { target } => {
                self.add(b"l");
                self.add(target);
            }
            Kind::Char { major, minor } => self.add(format!("c{major}:{minor}").as_bytes()),
            Kind::Block { major, minor } => self.add(format!("b{major}:{minor}").as_bytes()),
            kind => self.add(format!("{kind:?}").as_bytes()),
        }
    }

    fn finish(mut self) -> Digest {
        self.hasher.update(&self.bytes);
        self.hasher.finish()
    }
}
