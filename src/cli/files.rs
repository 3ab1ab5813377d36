//! Result files: written in one piece, and only after success.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::report::Report;

/// Replaces the file at `path` by one that holds `bytes`.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Report> {
    write_with(path, |out| out.write_all(bytes))
}

/// Opens the file at `path` to be written on at its end; it is made where there is none.
pub(crate) fn append(path: &Path) -> Result<File, Report> {
    let opened = fs::OpenOptions::new().create(true).append(true).open(path);
    opened
        .map_err(|error| Report::failed(format!("cannot write {}", path.display())).because(&error))
}

/// Replaces the file at `path` by what `fill` writes. What is no plain file, such as
/// `/dev/stdout` or a pipe, is written to as it is.
pub(crate) fn write_with<E>(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), Report>
where
    Report: From<E>,
{
    let failed = |error: io::Error| {
        Report::failed(format!("cannot write {}", path.display())).because(&error)
    };
    let special = fs::metadata(path).is_ok_and(|meta| !meta.is_file());
    if special {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(failed)?;
        return Ok(fill(&mut file)?);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = (|| {
        let mut out = BufWriter::new(File::create(&part).map_err(failed)?);
        fill(&mut out)?;
        out.flush().map_err(failed)?;
        fs::rename(&part, path).map_err(failed)
    })();
    if written.is_err() {
        // The first error is the one to tell; the half-written file is at least tried.
        let _ = fs::remove_file(&part);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let dir = std::env::temp_dir().join(format!("cooper-files-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("id");
        write(&path, b"old").unwrap();
        let failing = write_with(&path, |out| {
            out.write_all(b"new")?;
            Err(io::Error::other("x"))
        });
        assert!(failing.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }
}
