//! Where the result goes: the store, directories, archives, registries.
//!
//! Files are written beside their place and renamed when they are whole. Standard output is a
//! stream that `cli` hands in; at most one output may use it.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::event::Sink;
use crate::image::Reference;
use crate::layer::{EncodeOptions, Stack, TreeForm, encode, flatten, write_tree};
use crate::store::archive::{self, Named};
use crate::store::{Image, Store};
use crate::transfer::{self, PushOptions, Target};

use super::error::{Error, OptionsError};
use super::request::{Output, Request};

/// Refuses outputs that can't go together, before any work is done.
pub(super) fn check(request: &Request) -> Result<(), Error> {
    let to_stdout = |output: &&Output| {
        matches!(
            output,
            Output::Tar { dest: None }
                | Output::Oci { dest: None, .. }
                | Output::Docker { dest: None, .. }
        )
    };
    if request.outputs.iter().filter(to_stdout).count() > 1 {
        return Err(Error::Options(OptionsError::TwoStdouts));
    }
    for output in &request.outputs {
        match output {
            Output::Oci {
                dest: None,
                tar: false,
                ..
            } => {
                return Err(Error::Options(OptionsError::DirectoryToStdout));
            }
            Output::Image { names, push: true } if names.is_empty() && request.tags.is_empty() => {
                return Err(Error::Options(OptionsError::PushWithoutName));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns whether the image is to be named in the store: no output at all, or `type=image`.
pub(super) fn keeps_image(request: &Request) -> bool {
    request.outputs.is_empty()
        || request
            .outputs
            .iter()
            .any(|output| matches!(output, Output::Image { .. }))
}

/// What outputs are made from.
pub(super) struct Finished<'a> {
    pub(super) store: &'a Store,
    pub(super) request: &'a Request,
    pub(super) image: &'a Image,
    pub(super) sink: &'a dyn Sink,
}

/// Writes one output. `files` gives the final file system when it is asked for.
pub(super) fn write(
    result: &Finished<'_>,
    output: &Output,
    files: &dyn Fn() -> Result<Stack, Error>,
    stdout: &mut (dyn Write + Send),
) -> Result<(), Error> {
    let names = |more: &[Reference]| -> Vec<Reference> {
        result.request.tags.iter().chain(more).cloned().collect()
    };
    match output {
        Output::Local { dest } => local(&files()?, dest),
        Output::Tar { dest } => {
            let stack = files()?;
            let clamp = result
                .request
                .source_date_epoch
                .map(crate::layer::Time::from_secs);
            to_file_or(dest.as_deref(), stdout, |out| {
                encode(&flatten(&stack)?, &EncodeOptions { clamp }, out)?;
                Ok(())
            })
        }
        Output::Oci {
            dest: Some(dest),
            tar: false,
            names: more,
        } => {
            let named = [Named {
                image: result.image,
                names: names(more),
            }];
            Ok(archive::write_oci_layout(
                result.store,
                &named,
                dest,
                result.sink,
            )?)
        }
        Output::Oci {
            dest, names: more, ..
        } => {
            let named = [Named {
                image: result.image,
                names: names(more),
            }];
            to_file_or(dest.as_deref(), stdout, |out| {
                Ok(archive::write_oci_archive(
                    result.store,
                    &named,
                    out,
                    result.sink,
                )?)
            })
        }
        Output::Docker { dest, names: more } => {
            let named = [Named {
                image: result.image,
                names: names(more),
            }];
            to_file_or(dest.as_deref(), stdout, |out| {
                Ok(archive::write_docker_archive(
                    result.store,
                    &named,
                    out,
                    result.sink,
                )?)
            })
        }
        Output::Image { names: more, push } => {
            if *push {
                for name in names(more) {
                    push_to(result, name)?;
                }
            }
            Ok(())
        }
    }
}

fn push_to(result: &Finished<'_>, name: Reference) -> Result<(), Error> {
    let options = PushOptions {
        transfer: result.request.transfer.clone(),
        ..Default::default()
    };
    let target = Target::Registry(name);
    transfer::push(result.store, result.image, &target, &options, result.sink)?;
    Ok(())
}

/// `type=local`: merges the files into a directory, which is made when it is missing.
fn local(stack: &Stack, dest: &Path) -> Result<(), Error> {
    let failed = |doing| {
        move |source: std::io::Error| Error::Io {
            doing,
            path: dest.to_owned(),
            source,
        }
    };
    std::fs::create_dir_all(dest).map_err(failed("create the output directory"))?;
    let into: OwnedFd = rustix::fs::open(
        dest,
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| failed("open the output directory")(errno.into()))?;
    write_tree(&flatten(stack)?, into.as_fd(), TreeForm::Plain, None)?;
    Ok(())
}

/// Writes to standard output, or to a file that appears under its name only when it is whole.
fn to_file_or(
    dest: Option<&Path>,
    stdout: &mut (dyn Write + Send),
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(dest) = dest else {
        return write(stdout);
    };
    let mut name = dest.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = dest.with_file_name(name);
    let failed = |source| Error::Io {
        doing: "write the output",
        path: dest.to_owned(),
        source,
    };
    let written = (|| {
        let mut file =
            std::io::BufWriter::with_capacity(1 << 20, File::create(&part).map_err(failed)?);
        write(&mut file)?;
        file.flush().map_err(failed)?;
        std::fs::rename(&part, dest).map_err(failed)
    })();
    if written.is_err() {
        // The half-written file must not stay; what went wrong before is what counts.
        let _ = std::fs::remove_file(&part);
    }
    written
}
