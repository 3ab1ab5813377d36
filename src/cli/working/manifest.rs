//! `manifest`: indexes of images for several platforms, made by hand.
//!
//! An index is in the store under its name like any image, so `tag`, `rmi` and `push` know it
//! too. Each verb reads it, changes the value, and stores what came of it under the same name.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::args::{PackingArgs, Registry, label};
use crate::cli::cask::each;
use crate::cli::report::Report;
use crate::cli::verbs::tagged;
use crate::cli::{Session, files, ui};
use crate::event::Sink;
use crate::image::{Descriptor, Digest, Document, Index, Platform, Raw, Reference};
use crate::store::{Store, Target as Found};
use crate::transfer::{self, Network, Options, Source, Target};

/// Make and change indexes of images for several platforms
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Manifest {
    Create(Create),
    Add(Add),
    Annotate(Annotate),
    Inspect(Inspect),
    Push(Push),
    Remove(Remove),
    Rm(Rm),
    Exists(Exists),
}

impl Manifest {
    /// Does it.
    pub(crate) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        match self {
            Self::Rm(verb) => return verb.run(session),
            Self::Exists(verb) => return verb.run(session),
            Self::Create(verb) => verb.run(session),
            Self::Add(verb) => verb.run(session),
            Self::Annotate(verb) => verb.run(session),
            Self::Inspect(verb) => verb.run(session),
            Self::Push(verb) => verb.run(session),
            Self::Remove(verb) => verb.run(session),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Make an index
///
/// Images that are not in the store are pulled. The digest of the index goes to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Name of the index
    #[arg(value_name = "INDEX", value_parser = tagged)]
    index: Reference,

    /// Names, ids or places of images
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,

    /// Add to an index that is there
    #[arg(short, long)]
    amend: bool,

    /// Of an index take the images of all platforms
    #[arg(long)]
    all: bool,

    /// Annotation of the index
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = label)]
    annotations: Vec<(String, String)>,

    #[command(flatten)]
    registry: Registry,
}

impl Create {
    fn run(self, session: &Session) -> Result<(), Report> {
        let options = options(&self.registry)?;
        let store = session.store()?;
        let _work = store.work()?;
        let mut index = match store.reference(&self.index)? {
            Some(_) if self.amend => read(&store, &self.index.full())?.1,
            Some(_) => {
                let name = self.index.familiar();
                return Err(Report::failed(format!("`{name}` is there already"))
                    .hint("`--amend` adds to it, `cooper manifest rm` removes it"));
            }
            None => Index::oci(Vec::new()),
        };
        index.annotations.extend(self.annotations);
        let sink = session.modest(false);
        for image in &self.images {
            for child in children(&store, image, self.all, &options, &sink)? {
                put(&mut index, child);
            }
        }
        drop(sink);
        ui::data(&write(&store, &self.index, index)?)
    }
}

/// What the index says of an image.
#[derive(Debug, Default, clap::Args)]
struct About {
    /// CPU architecture
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,

    /// Operating system
    #[arg(long, value_name = "OS")]
    os: Option<String>,

    /// Version of the operating system
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,

    /// Something that the operating system must have
    #[arg(long, value_name = "FEATURE")]
    os_features: Vec<String>,

    /// Variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,

    /// Annotation of the image in the index
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = label)]
    annotations: Vec<(String, String)>,
}

impl About {
    fn apply(&self, child: &mut Descriptor) {
        let platform = child.platform.get_or_insert_with(Platform::host);
        let set = |to: &mut String, from: &Option<String>| {
            if let Some(text) = from {
                text.clone_into(to);
            }
        };
        set(&mut platform.architecture, &self.arch);
        set(&mut platform.os, &self.os);
        platform.os_version = self.os_version.clone().or(platform.os_version.take());
        platform.variant = self.variant.clone().or(platform.variant.take());
        platform
            .os_features
            .extend(self.os_features.iter().cloned());
        child.annotations.extend(self.annotations.iter().cloned());
    }
}

/// Add an image to an index
///
/// An image that is not in the store is pulled. The digest of the index goes to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// Name of the index
    #[arg(value_name = "INDEX", value_parser = tagged)]
    index: Reference,

    /// Name, id or place of the image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Of an index take the images of all platforms
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    about: About,

    #[command(flatten)]
    registry: Registry,
}

impl Add {
    fn run(self, session: &Session) -> Result<(), Report> {
        let options = options(&self.registry)?;
        let store = session.store()?;
        let _work = store.work()?;
        let (_, mut index) = read(&store, &self.index.full())?;
        let sink = session.modest(false);
        for mut child in children(&store, &self.image, self.all, &options, &sink)? {
            self.about.apply(&mut child);
            put(&mut index, child);
        }
        drop(sink);
        ui::data(&write(&store, &self.index, index)?)
    }
}

/// Change what an index says of an image
///
/// The digest of the index goes to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct Annotate {
    /// Name of the index
    #[arg(value_name = "INDEX", value_parser = tagged)]
    index: Reference,

    /// Digest, name or id of an image in it
    #[arg(value_name = "IMAGE")]
    image: String,

    #[command(flatten)]
    about: About,
}

impl Annotate {
    fn run(self, session: &Session) -> Result<(), Report> {
        let store = session.store()?;
        let (_, mut index) = read(&store, &self.index.full())?;
        let at = find(&store, &index, &self.image)?;
        self.about.apply(&mut index.manifests[at]);
        ui::data(&write(&store, &self.index, index)?)
    }
}

/// Show an index
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// Name, id or digest of the index
    #[arg(value_name = "INDEX")]
    index: String,
}

impl Inspect {
    fn run(self, session: &Session) -> Result<(), Report> {
        let store = session.store()?;
        let (_, index) = read(&store, &self.index)?;
        ui::data(&serde_json::to_string_pretty(&index)?)
    }
}

/// Push an index with all its images
///
/// The digest of the index goes to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct Push {
    /// Name of the index
    #[arg(value_name = "INDEX", value_parser = tagged)]
    index: Reference,

    /// Where to [default: the index's own name]
    #[arg(value_name = "DESTINATION")]
    to: Option<Target>,

    /// Accepted and without effect: the images always go with the index
    #[arg(long, hide = true)]
    all: bool,

    /// Remove the index from the store afterwards
    #[arg(long, visible_alias = "purge", short = 'p')]
    rm: bool,

    /// Write the digest of the index to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,

    /// No progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    packing: PackingArgs,

    #[command(flatten)]
    registry: Registry,
}

impl Push {
    fn run(self, session: &Session) -> Result<(), Report> {
        let options = self.packing.options(options(&self.registry)?)?;
        let to = match self.to {
            None => self.index.clone(),
            Some(Target::Registry(name)) => name,
            Some(place) => {
                return Err(Report::wrong_use(format!(
                    "an index goes to a registry, not to `{place}`"
                ))
                .hint("`cooper build --platform … -o type=oci,dest=FILE` writes one to a file"));
            }
        };
        let store = session.store()?;
        let (raw, _) = read(&store, &self.index.full())?;
        let sink = session.modest(self.quiet);
        let digest = transfer::push_index(&store, &raw, &to, &options, &sink)?;
        drop(sink);
        if self.rm {
            store.untag(&self.index)?;
        }
        if let Some(path) = &self.digestfile {
            files::write(path, digest.as_str().as_bytes())?;
        }
        ui::data(&digest)
    }
}

/// Take an image out of an index
///
/// The digest of the index goes to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// Name of the index
    #[arg(value_name = "INDEX", value_parser = tagged)]
    index: Reference,

    /// Digest, name or id of an image in it
    #[arg(value_name = "IMAGE")]
    image: String,
}

impl Remove {
    fn run(self, session: &Session) -> Result<(), Report> {
        let store = session.store()?;
        let (_, mut index) = read(&store, &self.index.full())?;
        let at = find(&store, &index, &self.image)?;
        index.manifests.remove(at);
        ui::data(&write(&store, &self.index, index)?)
    }
}

/// Remove indexes; their images stay
#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    /// Names of indexes
    #[arg(value_name = "INDEX", required = true)]
    indexes: Vec<String>,
}

impl Rm {
    fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        each::each_shown(&self.indexes, |text| {
            let name = tagged(text).map_err(Report::wrong_use)?;
            read(&store, text)?;
            store.untag(&name)?;
            Ok(name.familiar())
        })
    }
}

/// Say by the exit code whether an index is there
#[derive(Debug, clap::Args)]
pub(crate) struct Exists {
    /// Name of the index
    #[arg(value_name = "INDEX")]
    index: String,
}

impl Exists {
    fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        let there = match store.resolve(&self.index)? {
            Some(found) => {
                let document = store.document(&found.descriptor.digest)?;
                matches!(document, Document::Index(_))
            }
            None => false,
        };
        Ok(match there {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

fn options(registry: &Registry) -> Result<Options, Report> {
    Ok(Options {
        network: Network::new(registry.options()?),
        ..Options::default()
    })
}

fn read(store: &Store, text: &str) -> Result<(Raw<Index>, Index), Report> {
    let found = store.need(text)?;
    match store.document(&found.descriptor.digest)? {
        Document::Index(raw) => {
            let value = raw.value().clone();
            Ok((raw, value))
        }
        Document::Manifest(_) => Err(Report::failed(format!(
            "`{text}` is one image and no index"
        ))),
    }
}

fn write(store: &Store, name: &Reference, index: Index) -> Result<Digest, Report> {
    let raw = Raw::of(index);
    store.put(raw.bytes())?;
    let document = raw.descriptor(raw.value().media_type());
    store.tag(name, &document)?;
    Ok(document.digest)
}

/// Adds an image, or all of an index, to the index called `name`, which is made where there is
/// none. An image of the same platform stays: it may be wanted under its digest.
pub(crate) fn include(store: &Store, name: &Reference, digest: &Digest) -> Result<(), Report> {
    let _work = store.work()?;
    let mut index = match store.reference(name)? {
        Some(_) => read(store, &name.full())?.1,
        None => Index::oci(Vec::new()),
    };
    let children = match store.document(digest)? {
        Document::Index(made) => made.value().manifests.clone(),
        Document::Manifest(_) => vec![child(store, digest)?],
    };
    for child in children {
        put(&mut index, child);
    }
    write(store, name, index)?;
    Ok(())
}

/// How an index names one image.
fn child(store: &Store, digest: &Digest) -> Result<Descriptor, Report> {
    let image = store.image(digest, &Platform::host())?;
    let mut child = image.descriptor();
    child.platform = Some(image.config.value().platform());
    Ok(child)
}

/// Adds an image; one with the same digest gives way.
fn put(index: &mut Index, child: Descriptor) {
    index.manifests.retain(|old| old.digest != child.digest);
    index.manifests.push(child);
}

/// Where an image stands in an index.
fn find(store: &Store, index: &Index, text: &str) -> Result<usize, Report> {
    let digest = match text.parse::<Digest>() {
        Ok(digest) => digest,
        Err(_) => store.need(text)?.descriptor.digest,
    };
    let at = index
        .manifests
        .iter()
        .position(|child| child.digest == digest);
    at.ok_or_else(|| Report::failed(format!("the index does not hold `{text}`")))
}

/// The images that a text stands for: one, or with `all` those of an index.
fn children(
    store: &Store,
    text: &str,
    all: bool,
    options: &Options,
    sink: &dyn Sink,
) -> Result<Vec<Descriptor>, Report> {
    let found = match store.resolve(text)? {
        Some(found) => found,
        None => pull(store, text, options, sink)?,
    };
    let digest = &found.descriptor.digest;
    match store.document(digest)? {
        Document::Index(index) if all => {
            let children = &index.value().manifests;
            for child in children {
                // A pull brought the image of this machine's platform only.
                if let (None, Some(name)) = (store.blob(&child.digest)?, &found.name) {
                    let place = Source::Registry(name.with_digest(child.digest.clone()));
                    transfer::pull(store, &place, options, sink)?;
                }
            }
            Ok(children.clone())
        }
        _ => Ok(vec![child(store, digest)?]),
    }
}

fn pull(store: &Store, text: &str, options: &Options, sink: &dyn Sink) -> Result<Found, Report> {
    let place: Source = text
        .parse()
        .map_err(|error: transfer::PlaceError| Report::wrong_use(error.to_string()))?;
    let image = transfer::pull(store, &place, options, sink)?;
    let known = match &place {
        Source::Registry(name) => store.resolve(&name.full())?,
        _ => None,
    };
    Ok(known.unwrap_or(Found {
        name: None,
        descriptor: image.descriptor(),
    }))
}
