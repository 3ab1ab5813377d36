//! `source`: the sources of an image as an artifact beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Subcommand;

use crate::cli::args::Registry;
use crate::cli::report::Report;
use crate::cli::{Session, files};
use crate::image::Reference;
use crate::transfer::{self, Network, SourceConfig};

/// Make, fill, push and pull source images: archives of source code that go with an image
#[derive(Debug, Subcommand)]
pub(crate) enum Source {
    Create(Create),
    Add(Add),
    Push(Push),
    Pull(Pull),
}

impl Source {
    /// Does it.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        match self {
            Self::Create(verb) => verb.run(session),
            Self::Add(verb) => verb.run(session),
            Self::Push(verb) => verb.run(session),
            Self::Pull(verb) => verb.run(session),
        }
    }
}

/// Make a source image without sources
#[derive(Debug, clap::Args)]
#[command(mut_args(crate::cli::args::switches))]
pub(crate) struct Create {
    /// Directory that it becomes, as an OCI layout
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Who makes it
    #[arg(long, value_name = "NAME")]
    author: Option<String>,

    /// `false` leaves out when it was made
    #[arg(long, value_name = "BOOL")]
    time_stamp: Option<bool>,
}

impl Create {
    fn run(self, session: &Session) -> Result<(), Report> {
        let config = SourceConfig {
            created: (self.time_stamp != Some(false)).then(|| time(Utc::now())),
            author: self.author,
        };
        let store = session.store()?;
        Ok(transfer::create_source(&store, &self.dir, &config)?)
    }
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Add a file, or what is in a directory, to a source image
#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// Directory of the source image
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// What is added, as a gzipped tar
    #[arg(value_name = "ARTIFACT")]
    artifact: PathBuf,

    /// Annotation of what is added
    #[arg(long, value_name = "KEY=VALUE", value_parser = annotation)]
    annotation: Vec<(String, String)>,
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected `KEY=VALUE`".to_owned()),
    }
}

impl Add {
    fn run(self, session: &Session) -> Result<(), Report> {
        let mut annotations = BTreeMap::new();
        for (key, value) in self.annotation {
            if annotations.insert(key.clone(), value).is_some() {
                let text = format!("`--annotation {key}` is given twice");
                return Err(Report::wrong_use(text));
            }
        }
        let store = session.store()?;
        let shown = session.modest(true);
        let (dir, artifact) = (&self.dir, &self.artifact);
        transfer::add_source(&store, dir, artifact, annotations, &shown)?;
        session.cap(&store);
        Ok(())
    }
}

/// Send a source image to a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Push {
    /// Directory of the source image
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Name that it gets in the registry
    #[arg(value_name = "NAME", value_parser = name)]
    name: Reference,

    /// Write the digest of the manifest to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,

    /// No progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    registry: Registry,
}

/// Reads a name, which may say that it is a registry's.
fn name(text: &str) -> Result<Reference, String> {
    let text = text.strip_prefix("docker://").unwrap_or(text);
    text.parse()
        .map_err(|error: crate::image::ReferenceError| error.to_string())
}

impl Push {
    fn run(self, session: &Session) -> Result<(), Report> {
        let network = Network::new(self.registry.options()?);
        let store = session.store()?;
        let shown = session.modest(self.quiet);
        let digest = transfer::push_source(&store, &self.dir, &self.name, &network, &shown)?;
        drop(shown);
        if let Some(path) = &self.digestfile {
            files::write(path, digest.as_str().as_bytes())?;
        }
        session.cap(&store);
        Ok(())
    }
}

/// Bring a source image from a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Pull {
    /// Its name in the registry
    #[arg(value_name = "NAME", value_parser = name)]
    name: Reference,

    /// Directory that it becomes, as an OCI layout
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// No progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    registry: Registry,
}

impl Pull {
    fn run(self, session: &Session) -> Result<(), Report> {
        let network = Network::new(self.registry.options()?);
        let store = session.store()?;
        let shown = session.modest(self.quiet);
        transfer::pull_source(&store, &self.name, &self.dir, &network, &shown)?;
        drop(shown);
        session.cap(&store);
        Ok(())
    }
}
