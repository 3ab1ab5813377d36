//! Unpacks archives for ADD.
//!
//! An archive is never unpacked to disk. It is decompressed into one scratch file, and the
//! entries placed in the image point into that file, with owner, mode and time as the archive says;
//! that needs no privilege. A name in an archive is placed below the destination, through links
//! of the image but never out of it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use crate::layer::{Change, Changes, Format, Kind, TreePath, decompress, index_tar, is_tar, sniff};

use super::super::error::StepError;
use super::super::place::Placer;
use super::super::select::Pick;
use super::super::stage::World;
use super::super::step::CopyStep;

/// Returns the entries of the archive that `pick` is, or `None` if it is none.
pub(in crate::build) fn open(world: &World<'_>, pick: &Pick) -> Result<Option<Changes>, StepError> {
    let [entry] = pick.entries.as_slice() else {
        return Ok(None);
    };
    let (Kind::File { size }, Some(content)) = (&entry.node.kind, &entry.node.content) else {
        return Ok(None);
    };
    let mut head = Vec::new();
    content
        .open(*size)?
        .take(1 << 10)
        .read_to_end(&mut head)
        .map_err(reading)?;
    let format = sniff(&head);
    if format == Format::Plain && !is_tar(&head) {
        return Ok(None);
    }
    let stream = decompress(format, Box::new(content.open(*size)?));
    let mut spool = world.store.scratch()?.file().map_err(writing)?;
    if !copy_if_tar(stream, &mut spool)? {
        return Ok(None);
    }
    Ok(Some(index_tar(Arc::new(spool))?))
}

/// Copies the stream into `spool` unless its first block shows that it is no tar.
fn copy_if_tar(mut stream: Box<dyn Read + Send>, spool: &mut File) -> Result<bool, StepError> {
    let mut head = Vec::new();
    // A file that only begins like a compressed one is copied as it is.
    if stream.by_ref().take(512).read_to_end(&mut head).is_err() || !is_tar(&head) {
        return Ok(false);
    }
    spool.write_all(&head).map_err(writing)?;
    std::io::copy(&mut stream, spool).map_err(reading)?;
    spool.seek(SeekFrom::Start(0)).map_err(writing)?;
    Ok(true)
}

fn reading(source: std::io::Error) -> StepError {
    StepError::Scratch {
        doing: "read the archive",
        source,
    }
}

fn writing(source: std::io::Error) -> StepError {
    StepError::Scratch {
        doing: "write the unpacked archive to scratch space",
        source,
    }
}

/// Places every entry of an archive below the destination.
pub(in crate::build) fn place(
    placer: &mut Placer<'_>,
    archive: Changes,
    step: &CopyStep,
) -> Result<(), StepError> {
    let (dest, kind) = placer.resolve(&step.to.path)?;
    if kind.is_some_and(|kind| !kind.is_dir()) {
        return Err(StepError::NotADirectory { path: dest });
    }
    placer.make_dirs(&dest)?;
    for (path, change) in archive.entries {
        if path.is_root() {
            continue;
        }
        let target = below(placer, &dest, &path)?;
        match change {
            Change::Node(node) | Change::Opaque(node) => placer.put_over(target, node)?,
            Change::HardLink(first) => {
                let first = below(placer, &dest, &first)?;
                placer.link(target, &first)?;
            }
            // In an archive that is no layer, `.wh.` names would be ordinary files; the reader for
            // ADD gives none.
            Change::Whiteout => {}
        }
    }
    Ok(())
}

/// Where a name of the archive lands: its parents followed through links of the image.
fn below(placer: &Placer<'_>, dest: &TreePath, path: &TreePath) -> Result<TreePath, StepError> {
    let parent = path.parent().unwrap_or_default();
    let (parent, _) = placer.resolve(&dest.join(&parent))?;
    Ok(parent.child(path.name()))
}
