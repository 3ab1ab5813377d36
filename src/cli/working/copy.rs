//! `copy` and `add`: files into a working container.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::build::working;
use crate::build::{self, Cancel, ContextSource};
use crate::cli::args::{Registry, compression};
use crate::cli::report::Report;
use crate::cli::{Session, files, signals, ui};
use crate::dockerfile::{SourceKind, source_kind};
use crate::image::{Compression, Platform};
use crate::transfer::{self, CopyOptions, Network, Options, PushOptions, Source as Place};

/// Options of both.
#[derive(Debug, clap::Args)]
struct CopyArgs {
    /// Owner, as `--chown` of COPY has it [default: root]
    #[arg(long, value_name = "USER[:GROUP]")]
    chown: Option<String>,

    /// Mode, octal or as in `u=rwX,go=rX`
    #[arg(long, value_name = "MODE")]
    chmod: Option<String>,

    /// Working container or image whose files are copied
    #[arg(long, value_name = "CONTAINER|IMAGE", conflicts_with = "contextdir")]
    from: Option<String>,

    /// Directory that sources are below, and that no link leads out of
    #[arg(long, value_name = "DIR")]
    contextdir: Option<PathBuf>,

    /// File that says what of the directory is left out, as `.dockerignore` would
    #[arg(long, value_name = "FILE", requires = "contextdir")]
    ignorefile: Option<PathBuf>,

    /// What is left out
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,

    /// Keep the directories that a source is in
    #[arg(long)]
    parents: bool,

    /// Follow no links of the container
    #[arg(long)]
    link: bool,

    /// Do not print the digest of what was copied
    #[arg(short, long)]
    quiet: bool,

    /// Tell of it in the image's history
    #[arg(long)]
    add_history: bool,

    #[command(flatten)]
    registry: Registry,
}

/// Copy files into a working container, or an image from one place to another
///
/// Works as COPY does: the contents of a directory, patterns, links followed inside the
/// container. Sources are paths of the machine, or with `--contextdir` below that directory.
/// Without DESTINATION the container's working directory is meant.
///
/// With two arguments of which one begins with `docker://`, `oci:`, `oci-archive:`,
/// `docker-archive:`, `docker-daemon:` or `dir:`, an image is copied from the first place to the second and the
/// store gets no name for it. Its bytes stay as they are. The digest goes to standard output.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "cooper copy [OPTIONS] CONTAINER SOURCE... [DESTINATION]\n       \
                      cooper copy [OPTIONS] PLACE PLACE"
)]
pub(crate) struct Copy {
    /// Name or id of the container, what to copy, and where to
    #[arg(
        value_names = ["CONTAINER", "SOURCE", "DESTINATION"],
        num_args = 2..,
        required = true
    )]
    words: Vec<String>,

    #[command(flatten)]
    args: CopyArgs,

    #[command(flatten)]
    image: ImageArgs,
}

/// Copy files into a working container, unpack archives and fetch URLs
///
/// Works as ADD does. Without DESTINATION the container's working directory is meant.
#[derive(Debug, clap::Args)]
#[command(override_usage = "cooper add [OPTIONS] CONTAINER SOURCE... [DESTINATION]")]
pub(crate) struct Add {
    /// Name or id of the container, what to add, and where to
    #[arg(
        value_names = ["CONTAINER", "SOURCE", "DESTINATION"],
        num_args = 2..,
        required = true
    )]
    words: Vec<String>,

    /// What the bytes of a URL must hash to, or the commit of a repository
    #[arg(long, value_name = "DIGEST")]
    checksum: Option<String>,

    #[command(flatten)]
    args: CopyArgs,
}

/// Copy an image from one place to another
///
/// Places are `docker://NAME`, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`,
/// `docker-archive:FILE[:NAME]`, `docker-daemon:NAME` and `dir:DIR`; a text without a transport is
/// a name in a registry. The store gets no name for the image, whose bytes stay as they are. The
/// digest goes to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct CopyImage {
    /// Where the image is
    #[arg(value_name = "PLACE")]
    from: String,

    /// Where it goes
    #[arg(value_name = "PLACE")]
    to: String,

    #[command(flatten)]
    image: ImageArgs,

    /// No progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    registry: Registry,
}

impl CopyImage {
    /// Copies it.
    pub(crate) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let (from, to) = (&self.from, &self.to);
        self.image
            .run(session, from, to, self.quiet, &self.registry)
    }
}

impl Copy {
    /// Copies.
    pub(crate) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        if let [from, to] = self.words.as_slice()
            && (is_place(from) || is_place(to))
        {
            let (quiet, registry) = (self.args.quiet, &self.args.registry);
            return self.image.run(session, from, to, quiet, registry);
        }
        if let Some(option) = self.image.given() {
            let text = format!(
                "`{option}` is about images, and `{}` is no place of one",
                self.words[0]
            );
            return Err(Report::wrong_use(text).hint("`docker://NAME` is a place"));
        }
        self.args.run(session, &self.words, false, None)
    }
}

impl Add {
    /// Adds.
    pub(crate) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        self.args.run(session, &self.words, true, self.checksum)
    }
}

/// Whether a text says by its beginning that it is a place of an image. No container is called so.
fn is_place(text: &str) -> bool {
    text.split_once(':')
        .is_some_and(|(transport, rest)| match transport {
            "docker" => rest.starts_with("//"),
            "oci" | "oci-archive" | "docker-archive" | "docker-daemon" | "dir" => true,
            _ => false,
        })
}

/// Options of a copy of an image.
#[derive(Debug, clap::Args)]
#[command(
    next_help_heading = "Options for images",
    mut_args(crate::cli::args::switches)
)]
struct ImageArgs {
    /// Between registries: the images of all platforms, and the index over them
    #[arg(long)]
    all: bool,

    /// Which image of a name that stands for several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,

    /// As `--tls-verify`, for the registry that is copied from
    #[arg(long, value_name = "BOOL")]
    src_tls_verify: Option<bool>,

    /// As `--tls-verify`, for the registry that is copied to
    #[arg(long, value_name = "BOOL")]
    dest_tls_verify: Option<bool>,

    /// How layers that were never compressed are compressed: gzip, zstd, estargz or none,
    /// with `:LEVEL`
    #[arg(long, value_name = "ALGORITHM[:LEVEL]", value_parser = compression)]
    compression: Option<(Compression, Option<i32>)>,

    /// Write the digest of the manifest to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
}

impl ImageArgs {
    /// An option that was given.
    fn given(&self) -> Option<&'static str> {
        let given = [
            ("--all", self.all),
            ("--platform", self.platform.is_some()),
            ("--src-tls-verify", self.src_tls_verify.is_some()),
            ("--dest-tls-verify", self.dest_tls_verify.is_some()),
            ("--compression", self.compression.is_some()),
            ("--digestfile", self.digestfile.is_some()),
        ];
        given
            .iter()
            .find(|(_, given)| *given)
            .map(|(name, _)| *name)
    }

    /// Copies an image.
    fn run(
        &self,
        session: &Session,
        from: &str,
        to: &str,
        quiet: bool,
        registry: &Registry,
    ) -> Result<ExitCode, Report> {
        let place = |text: &str| {
            text.parse::<Place>()
                .map_err(|error| Report::wrong_use(error.to_string()))
        };
        let (from, to) = (place(from)?, place(to)?);
        let network = |verify: Option<bool>| -> Result<Network, Report> {
            let mut options = registry.options()?;
            options.tls_verify = verify.or(options.tls_verify);
            Ok(Network::new(options))
        };
        let (compression, level) = match self.compression {
            Some((compression, level)) => (Some(compression), level),
            None => (None, None),
        };
        let options = CopyOptions {
            push: PushOptions {
                transfer: Options {
                    network: network(self.dest_tls_verify)?,
                    platform: self.platform.clone(),
                    unpack: false,
                    attestations: false,
                },
                compression,
                level,
                force: false,
                by_digest: false,
            },
            from: match self.src_tls_verify == self.dest_tls_verify {
                true => None,
                false => Some(network(self.src_tls_verify)?),
            },
            all: self.all,
        };
        let store = session.store()?;
        let shown = session.modest(quiet);
        let digest = transfer::copy(&store, &from, &to, &options, &shown)?;
        drop(shown);
        if let Some(path) = &self.digestfile {
            files::write(path, digest.as_str().as_bytes())?;
        }
        session.cap(&store);
        ui::data(&digest)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl CopyArgs {
    fn run(
        &self,
        session: &Session,
        words: &[String],
        add: bool,
        checksum: Option<String>,
    ) -> Result<ExitCode, Report> {
        let (name, sources, dest) = match words {
            [name, source] => (name, std::slice::from_ref(source), "."),
            [name, sources @ .., dest] => (name, sources, dest.as_str()),
            _ => unreachable!("clap asks for two"),
        };
        let mut request = super::request(&self.registry)?;
        let root = self.contextdir.clone().unwrap_or_else(|| "/".into());
        request.context = ContextSource::Dir(root);
        let store = session.store()?;
        let mut container = working::find(&store, name)?;
        let copy = working::Copy {
            add,
            sources: self.sources(sources, add)?,
            dest: dest.to_owned(),
            from: self.from.clone(),
            chown: self.chown.clone(),
            chmod: self.chmod.clone(),
            checksum,
            parents: self.parents,
            link: self.link,
            exclude: self.exclude.clone(),
            ignore_file: self.ignorefile.clone(),
            history: self.add_history,
        };
        let cancel = Cancel::default();
        let stop = signals::Stop::on({
            let cancel = cancel.clone();
            move || cancel.cancel()
        })?;
        let shown = session.modest(self.quiet);
        let copied = working::copy(&mut container, &copy, &request, &shown, &cancel);
        drop(shown);
        match copied {
            Err(build::Error::Cancelled) => return Ok(stop.exit_code()),
            Err(error) => return Err(error.into()),
            Ok(_) if self.quiet => {}
            Ok(digest) => ui::data(&digest.hex())?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The sources from the root of what they are copied from: the machine's own are named from
    /// the directory the caller is in.
    fn sources(&self, sources: &[String], add: bool) -> Result<Vec<String>, Report> {
        if self.from.is_some() || self.contextdir.is_some() {
            return Ok(sources.to_vec());
        }
        let place = |text: &String| {
            if add && source_kind(text) != SourceKind::Path {
                return Ok(text.clone());
            }
            let path = std::path::absolute(Path::new(text)).map_err(|error| {
                Report::failed(format!("cannot find out where `{text}` is")).because(&error)
            })?;
            // A `.` at the end says that the contents are meant, and is lost on the way.
            let dots = text == "." || text.ends_with("/.");
            let mut path = path.to_string_lossy().into_owned();
            if dots && !path.ends_with("/.") {
                path.push_str("/.");
            }
            Ok(path)
        };
        sources.iter().map(place).collect()
    }
}
