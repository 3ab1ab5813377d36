//! `save`: images as one archive.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use clap::ValueEnum;

use crate::cli::report::Report;
use crate::cli::{Session, files};
use crate::image::{Attestation, Platform};
use crate::store::archive::{self, Named};
use crate::store::{Error, Image, Store};

/// Write images to an archive
#[derive(Debug, clap::Args)]
pub(crate) struct Save {
    /// Names or ids of the images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,

    /// The archive; without it standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// docker-archive is what `docker load` reads, oci-archive a tar of an OCI layout
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive")]
    format: Format,

    /// Which image of a name that stands for several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    DockerArchive,
    OciArchive,
}

impl Save {
    /// Writes them.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        if self.output.is_none() && io::stdout().is_terminal() {
            return Err(Report::wrong_use("an archive is not written to a terminal")
                .hint("`-o FILE`, or a pipe behind the command"));
        }
        let store = session.store()?;
        let mut found: Vec<(Image, Vec<Attestation>, Vec<_>)> = Vec::new();
        for text in &self.images {
            let target = store.need(text)?;
            let digest = &target.descriptor.digest;
            let image = store.image_meant(digest, self.platform.as_ref())?;
            let stated = store.attestations(digest, image.manifest.digest())?;
            let name = target.name.filter(|name| name.digest().is_none());
            // One image under several names is one entry of the archive.
            let same = found
                .iter_mut()
                .find(|(other, ..)| other.id() == image.id());
            match same {
                Some((.., names)) => names.extend(name),
                None => found.push((image, stated, name.into_iter().collect())),
            }
        }
        let named: Vec<Named<'_>> = found
            .iter()
            .map(|(image, attestations, names)| Named {
                image,
                attestations,
                names: names.clone(),
            })
            .collect();
        let shown = session.modest(false);
        let write = |out: &mut dyn Write| self.write(&store, &named, out, &shown);
        match &self.output {
            Some(path) => files::write_with(path, write),
            None => {
                let mut out = BufWriter::new(io::stdout().lock());
                write(&mut out)?;
                out.flush().map_err(|error| {
                    Report::failed("cannot write to standard output").because(&error)
                })
            }
        }
    }

    fn write(
        &self,
        store: &Store,
        images: &[Named<'_>],
        out: &mut dyn Write,
        sink: &dyn crate::event::Sink,
    ) -> Result<(), Error> {
        match self.format {
            Format::DockerArchive => archive::write_docker_archive(store, images, out, sink),
            Format::OciArchive => archive::write_oci_archive(store, images, out, sink),
        }
    }
}
