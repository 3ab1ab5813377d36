//! Where the result goes: the store, directories, archives, registries.
//!
//! Files are written beside their place and renamed when they are whole. Standard output is a
//! stream that `cli` hands in; at most one output may use it.

mod files;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::event::Sink;
use crate::image::{Attestation, Compression, Descriptor, Index, Raw, Reference};
use crate::layer::{Changes, EncodeOptions, Time, encode, flatten};
use crate::store::archive::{self, Whole};
use crate::store::{Image, Store};
use crate::transfer::{self, PushOptions, Target};

use super::annotations::{self, Level};
use super::attest::Attest;
use super::commit::rfc3339;
use super::error::{Error, OptionsError};
use super::form;
use super::platforms::{Made, wants_index};
use super::request::{Form, Output, Request};
use super::retouch::CREATED;

/// Refuses outputs that can't go together, before any work is done.
pub(super) fn check(request: &Request) -> Result<(), Error> {
    let wrong = |error| Err(Error::Options(error));
    if request
        .outputs
        .iter()
        .filter(|output| output.is_stdout())
        .count()
        > 1
    {
        return wrong(OptionsError::TwoStdouts);
    }
    let platforms = request.platforms.len();
    let stated = request.attest != Attest::default();
    let has_index = wants_index(request, platforms) || stated;
    if annotations::need_index(&request.annotations) && !has_index {
        return wrong(OptionsError::NoIndex);
    }
    for output in &request.outputs {
        match output {
            Output::Oci {
                dest: None,
                tar: false,
                ..
            }
            | Output::Docker {
                dest: None,
                tar: false,
                ..
            } => return wrong(OptionsError::DirectoryToStdout),
            Output::Docker { .. } if platforms > 1 => {
                return wrong(OptionsError::Platforms(platforms));
            }
            Output::Docker { .. } if stated => {
                return wrong(OptionsError::NoAttestations("`type=docker`"));
            }
            Output::Oci { form, .. } | Output::Image { form, .. }
                if form.docker_types && stated =>
            {
                return wrong(OptionsError::NoAttestations("`oci-mediatypes=false`"));
            }
            Output::Image {
                names, push: true, ..
            } if names.is_empty() && request.tags.is_empty() => {
                return wrong(OptionsError::PushWithoutName);
            }
            Output::Oci { form, .. } | Output::Docker { form, .. } | Output::Image { form, .. }
                if form.has_no_types() =>
            {
                return wrong(OptionsError::OciOnly);
            }
            _ => {}
        }
    }
    Ok(())
}

impl Output {
    /// Whether it is written to standard output.
    pub fn is_stdout(&self) -> bool {
        matches!(
            self,
            Self::Tar { dest: None, .. }
                | Self::Oci { dest: None, .. }
                | Self::Docker { dest: None, .. }
        )
    }

    /// Returns the names it adds to those of the build.
    pub fn names(&self) -> &[Reference] {
        match self {
            Self::Oci { names, .. } | Self::Docker { names, .. } | Self::Image { names, .. } => {
                names
            }
            Self::Local { .. } | Self::Tar { .. } => &[],
        }
    }
}

/// The names of the image in the store and in registries.
pub(super) fn image_names(request: &Request) -> impl Iterator<Item = &Reference> {
    let images = request
        .outputs
        .iter()
        .filter(|output| matches!(output, Output::Image { .. }));
    request.tags.iter().chain(images.flat_map(Output::names))
}

/// What outputs are made from.
pub(super) struct Finished<'a> {
    pub(super) store: &'a Store,
    pub(super) request: &'a Request,
    /// One image a platform.
    pub(super) made: &'a [Made],
    /// The index over them, where there is one.
    pub(super) index: Option<&'a Raw<Index>>,
    pub(super) sink: &'a dyn Sink,
}

impl Finished<'_> {
    /// Writes every output, names the result in the store, and returns its descriptor there or
    /// where it went last.
    pub(super) fn give(&self, stdout: &mut (dyn Write + Send)) -> Result<Descriptor, Error> {
        let own = match (self.index, self.made) {
            (Some(index), _) => index.descriptor(index.value().media_type()),
            (None, [made, ..]) => made.image.descriptor(),
            (None, []) => unreachable!("a build is for at least one platform"),
        };
        let mut last = own.clone();
        for output in &self.request.outputs {
            if let Some(there) = self.write(output, stdout)? {
                last = there;
            }
        }
        // Nothing is synced: what a power cut may damage carries the boot id, and the store
        // verifies it before it serves it after another boot. Then a name whose image got lost
        // has the one again that it had before.
        for tag in self.local_names() {
            self.store.tag(tag, &own)?;
        }
        Ok(last)
    }

    /// The names that the result gets in the store: with no output at all, or `type=image`.
    fn local_names(&self) -> Vec<&Reference> {
        let outputs = &self.request.outputs;
        let is_image = |output| matches!(output, &Output::Image { .. });
        match outputs.is_empty() || outputs.iter().any(is_image) {
            true => image_names(self.request).collect(),
            false => Vec::new(),
        }
    }

    /// States what there is to state of `images`, one form of each that was made, where an index
    /// can hold it.
    fn attested(&self, images: &[Image], names: &[Reference], form: &Form) -> Vec<Attestation> {
        if self.index.is_none() {
            return Vec::new();
        }
        let pairs = self.made.iter().zip(images);
        let state = |(made, image): (&Made, _)| made.attestation(image, names, form.attestations);
        pairs.filter_map(state).collect()
    }

    fn names(&self, output: &Output) -> Vec<Reference> {
        let names = self.request.tags.iter().chain(output.names());
        names.cloned().collect()
    }

    /// Writes one output, and returns what its names mean there.
    fn write(
        &self,
        output: &Output,
        stdout: &mut (dyn Write + Send),
    ) -> Result<Option<Descriptor>, Error> {
        match output {
            Output::Local {
                dest,
                split,
                delete,
                prefix,
            } => {
                let files = self.files(*split, prefix)?;
                files::write_dir(&files, dest, self.epoch(), *delete)?;
                Ok(None)
            }
            Output::Tar {
                dest,
                split,
                prefix,
            } => {
                let files = self.files(*split, prefix)?;
                let options = EncodeOptions {
                    clamp: self.epoch(),
                };
                to_file_or(dest.as_deref(), stdout, |out| {
                    encode(&files, &options, out)?;
                    Ok(())
                })?;
                Ok(None)
            }
            Output::Oci {
                dest, tar, form, ..
            }
            | Output::Docker {
                dest, tar, form, ..
            } => {
                let layout = Layout {
                    dest: dest.as_deref(),
                    tar: *tar,
                    names: self.names(output),
                    form,
                    for_docker: matches!(output, Output::Docker { .. }),
                };
                self.layout(&layout, stdout).map(Some)
            }
            Output::Image {
                push,
                by_digest,
                form,
                ..
            } => {
                let mut there = None;
                for name in self.names(output).iter().filter(|_| *push) {
                    there = Some(self.push(name, *by_digest, form)?);
                }
                Ok(there)
            }
        }
    }

    /// The time that files of outputs are not later than, as those of the layers.
    fn epoch(&self) -> Option<Time> {
        let epoch = self.request.source_date_epoch?;
        Some(Time::from_secs(epoch))
    }

    /// The final file system, of several platforms in a directory each, with what is stated
    /// about it.
    fn files(&self, split: Option<bool>, prefix: &str) -> Result<Changes, Error> {
        let several = self.made.len() > 1;
        let split = split.unwrap_or(several);
        let mut all = Changes::default();
        for made in self.made {
            let mut files = flatten(&made.files(self.store, self.sink)?)?;
            let of = (several && !split).then_some(&made.platform);
            let created = self.request.created();
            files::put_statements(
                self.store,
                &mut files,
                &made.predicates,
                of,
                prefix,
                created,
            )?;
            match split {
                true => files::put_below(&mut all, &made.platform, files, self.request.created()),
                false => all.entries.extend(files.entries),
            }
        }
        Ok(all)
    }

    fn layout(
        &self,
        layout: &Layout<'_>,
        stdout: &mut (dyn Write + Send),
    ) -> Result<Descriptor, Error> {
        let Layout { names, form, .. } = layout;
        let pack = |made: &Made| match (layout.for_docker, form.compression) {
            (true, None) => {
                let plain = archive::plain_image(self.store, &made.image)?;
                form::typed(&plain, form.docker_types)
            }
            _ => form::packed(self.store, &made.image, form, self.sink),
        };
        let images: Vec<Image> = self.made.iter().map(pack).collect::<Result<_, _>>()?;
        let platforms = self.made.iter().map(|made| &made.platform);
        let wanted = &self.request.annotations;
        let attestations = self.attested(&images, names, form);
        let over = self.index.filter(|_| !layout.for_docker);
        let index =
            over.map(|_| annotations::index(images.iter().zip(platforms), &attestations, wanted));
        let mut descriptor = match (&index, images.as_slice(), self.made) {
            (Some(index), ..) => Descriptor {
                annotations: annotations::of(wanted, Level::IndexDescriptor, None),
                ..index.descriptor(index.value().media_type())
            },
            (None, [image, ..], [made, ..]) => {
                annotations::descriptor(image, &made.platform, wanted)
            }
            _ => unreachable!("a build is for at least one platform"),
        };
        if let Some(epoch) = self.epoch() {
            let made = descriptor.annotations.entry(CREATED.to_owned());
            made.or_insert_with(|| rfc3339(epoch));
        }
        let whole = Whole {
            images: &images,
            attestations: &attestations,
            index: index.as_ref(),
            descriptor: &descriptor,
            names,
            for_docker: layout.for_docker,
        };
        match (layout.tar, layout.dest) {
            (false, Some(dest)) => archive::write_whole_layout(self.store, &whole, dest)?,
            _ => to_file_or(layout.dest, stdout, |out| {
                Ok(archive::write_whole_archive(self.store, &whole, out)?)
            })?,
        }
        Ok(descriptor)
    }

    fn push(&self, name: &Reference, by_digest: bool, form: &Form) -> Result<Descriptor, Error> {
        let options = PushOptions {
            transfer: self.request.transfer.clone(),
            compression: form.compression,
            level: form.level,
            force: false,
            by_digest,
        };
        let mut images = Vec::new();
        for made in self.made {
            let whole = form.force || form.compression == Some(Compression::Estargz);
            let image = match whole {
                true => form::packed(self.store, &made.image, form, self.sink)?,
                false => form::typed(&made.image, form.docker_types)?,
            };
            self.store.put_image(&image.manifest, &image.config)?;
            images.push(image);
        }
        let digest = match (self.index, images.as_slice()) {
            (Some(_), images) => {
                let platforms = self.made.iter().map(|made| &made.platform);
                let wanted = &self.request.annotations;
                let names: Vec<Reference> = image_names(self.request).cloned().collect();
                let attestations = self.attested(images, &names, form);
                for attestation in &attestations {
                    self.store.put_attestation(attestation)?;
                }
                let images = images.iter().zip(platforms);
                let index = annotations::index(images, &attestations, wanted);
                transfer::push_index(self.store, &index, name, &options, self.sink)?
            }
            (None, [image, ..]) => {
                let target = Target::Registry(name.clone());
                transfer::push(self.store, image, &target, &options, self.sink)?
            }
            (None, []) => unreachable!("a build is for at least one platform"),
        };
        Ok(self.store.document(&digest)?.descriptor())
    }
}

/// A layout to be written.
struct Layout<'a> {
    /// The file or directory, or `None` for standard output.
    dest: Option<&'a Path>,
    tar: bool,
    names: Vec<Reference>,
    form: &'a Form,
    /// Whether `docker load` of any age has to read it.
    for_docker: bool,
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
