//! `commit`: an image of a working container.

use std::path::PathBuf;

use crate::build::working::{self, Change, Fields};
use crate::build::{ContextSource, Network};
use crate::cli::args::{self, MadeArgs, RefusedArgs, Registry, ScanArgs, compression};
use crate::cli::report::Report;
use crate::cli::verbs::{Form, Goal, form};
use crate::cli::{Session, env, files, ui};
use crate::image::{Compression, Reference};
use crate::store::{Image, Store};
use crate::transfer::{self, PushOptions, Target};

/// The variable of reproducible-builds.org, in seconds since 1970.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Make an image of a working container
///
/// What was written in the container becomes one layer on top of its image. NAME is a name in the
/// store, or a place such as `docker://NAME`, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`,
/// `docker-archive:FILE[:NAME]`. The image's id goes to standard output. The container stays.
#[derive(Debug, clap::Args)]
#[command(mut_args(crate::cli::args::switches))]
pub(crate) struct Commit {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// Name of the image, or where it goes
    #[arg(value_name = "NAME")]
    to: Option<Goal>,

    /// Further name in the store; may be given several times
    #[arg(short, long = "tag", value_name = "NAME", value_parser = crate::cli::verbs::tagged)]
    tags: Vec<Reference>,

    /// Whose media types the manifest has: oci or docker
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "oci",
        value_parser = form
    )]
    format: Form,

    /// Make one layer of all, the image's own layers too
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "false",
        action = clap::ArgAction::Set,
        hide_default_value = true,
    )]
    squash: bool,

    /// Remove the container afterwards
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "false",
        action = clap::ArgAction::Set,
        hide_default_value = true,
    )]
    rm: bool,

    /// Write the image's id to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,

    /// Seconds since 1970 for `created` and as the latest time of files in the layer;
    /// `SOURCE_DATE_EPOCH` in the environment does the same
    #[arg(
        long,
        visible_alias = "source-date-epoch",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    timestamp: Option<i64>,

    /// `false` leaves the times of files as they are
    #[arg(long, value_name = "BOOL")]
    rewrite_timestamp: Option<bool>,

    /// Annotation of the manifest
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = crate::cli::args::label)]
    annotations: Vec<(String, String)>,

    #[command(flatten)]
    made: MadeArgs,

    /// Annotation that the manifest does not have
    #[arg(long, value_name = "KEY")]
    unsetannotation: Vec<String>,

    /// What the history says that made the layer
    #[arg(long, value_name = "COMMAND")]
    created_by: Option<String>,

    /// Instruction of a Dockerfile about the config: CMD, ENTRYPOINT, ENV, LABEL, USER, WORKDIR,
    /// EXPOSE, VOLUME, STOPSIGNAL, SHELL, HEALTHCHECK or ONBUILD
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,

    /// Fields of the config in place of the container's: a JSON file such as `{"Cmd":["sh"]}`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// File of the machine that the image has besides; the container does not get it
    #[arg(long, value_name = "FILE[:INSIDE]", value_parser = added)]
    add_file: Vec<(String, String)>,

    // Layers are compressed when they leave the store.
    #[arg(short = 'D', long, hide = true, value_name = "BOOL")]
    disable_compression: Option<bool>,

    #[command(flatten)]
    refused: RefusedArgs,

    /// Scan the container with a known scanner: `syft`, `syft-spdx`, `trivy` or `trivy-spdx`
    #[arg(long, value_name = "PRESET", value_parser = preset)]
    sbom: Option<&'static str>,

    #[command(flatten)]
    scans: ScanArgs,

    /// How layers are compressed on the way: gzip, zstd, estargz or none, with `:LEVEL`
    #[arg(long, value_name = "ALGORITHM[:LEVEL]", value_parser = compression)]
    compression: Option<(Compression, Option<i32>)>,

    /// No progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    registry: Registry,
}

/// Reads `FILE[:INSIDE]`: both from the root.
fn added(text: &str) -> Result<(String, String), String> {
    let (file, inside) = text.split_once(':').unwrap_or((text, ""));
    if file.is_empty() {
        return Err("expected `FILE` or `FILE:INSIDE`".to_owned());
    }
    let path = std::path::absolute(file).map_err(|error| error.to_string())?;
    let path = path.to_string_lossy().into_owned();
    match inside {
        "" => Ok((path.clone(), path)),
        inside if inside.starts_with('/') => Ok((path, inside.to_owned())),
        inside => Ok((path, format!("/{inside}"))),
    }
}

fn preset(text: &str) -> Result<&'static str, String> {
    args::preset(text).ok_or_else(|| {
        "expected syft, syft-cyclonedx, syft-spdx, trivy, trivy-cyclonedx or trivy-spdx".to_owned()
    })
}

impl Commit {
    /// Commits it.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        self.refused.check()?;
        let mut request = super::request(&self.registry)?;
        request.context = ContextSource::Dir("/".into());
        request.retouch.created_annotation = self.made.annotates_time();
        request.source_date_epoch = self.epoch()?;
        request.rewrite_timestamp = self.rewrite_timestamp;
        request.scanner = self.scans.scanner(self.sbom)?;
        request.network = Network::Host;
        let (store, rung) = session.store_with_power()?;
        request.walls = rung.walls();
        let mut container = working::find(&store, &self.container)?;
        let how = working::Commit {
            squash: self.squash,
            docker_types: self.format == Form::Docker,
            omit_history: self.made.omits_history(),
            changes: self.own_changes(),
            instructions: self.changes.clone(),
            fields: self.fields()?,
            files: self.add_file.clone(),
        };
        let shown = session.modest(self.quiet);
        let (image, scanned) = working::commit(&mut container, &how, &request, &shown)?;
        for name in &self.tags {
            store.tag(name, &image.descriptor())?;
        }
        if let Some(list) = &self.made.manifest {
            super::manifest::include(&store, list, image.manifest.digest())?;
        }
        match &self.to {
            None => {}
            Some(Goal::Name(name)) => store.tag(name, &image.descriptor())?,
            Some(Goal::Place(place)) => {
                let transfer = request.transfer.clone();
                self.send(&store, &image, place, transfer, &shown)?;
            }
        }
        drop(shown);
        if let Some(scanned) = &scanned {
            self.scans.write(scanned)?;
        }
        let id = image.id().to_string();
        if let Some(path) = &self.iidfile {
            files::write(path, id.as_bytes())?;
        }
        if self.rm {
            container.remove()?;
        }
        session.cap(&store);
        ui::data(&id)
    }

    fn send(
        &self,
        store: &Store,
        image: &Image,
        place: &Target,
        transfer: transfer::Options,
        sink: &dyn crate::event::Sink,
    ) -> Result<(), Report> {
        let (compression, level) = match self.compression {
            Some((compression, level)) => (Some(compression), level),
            None => (None, None),
        };
        let options = PushOptions {
            transfer,
            compression,
            level,
            force: false,
            by_digest: false,
        };
        transfer::push(store, image, place, &options, sink)?;
        Ok(())
    }

    fn fields(&self) -> Result<Fields, Report> {
        let Some(path) = &self.config else {
            return Ok(Fields::default());
        };
        let shown = path.display();
        let bytes = std::fs::read(path)
            .map_err(|error| Report::failed(format!("cannot read {shown}")).because(&error))?;
        Fields::parse(&bytes).map_err(|error| {
            Report::failed(format!("{shown} is no config of an image")).because(&error)
        })
    }

    fn own_changes(&self) -> Vec<Change> {
        let mut out = Vec::new();
        for (key, value) in &self.annotations {
            out.push(Change::Annotation(key.clone(), Some(value.clone())));
        }
        let gone = |key: &String| Change::Annotation(key.clone(), None);
        out.extend(self.unsetannotation.iter().map(gone));
        let unset = |key: &String| Change::Env(key.clone(), None);
        out.extend(self.made.unsetenv.iter().map(unset));
        out.extend(self.created_by.clone().map(Change::CreatedBy));
        let label = |(key, value)| Change::Label(key, Some(value));
        out.extend(self.made.identity().map(label));
        out
    }

    fn epoch(&self) -> Result<Option<i64>, Report> {
        let Some(text) = env::text(EPOCH).filter(|_| self.timestamp.is_none()) else {
            return Ok(self.timestamp);
        };
        text.trim().parse().map(Some).map_err(|_| {
            Report::wrong_use(format!(
                "`{EPOCH}` is `{text}`: expected seconds since 1970 as a number"
            ))
        })
    }
}
