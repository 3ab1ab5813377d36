//! `cask cp`, `diff`, `export` and `commit`: the files of containers.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use crate::build::{self, Request};
use crate::cli::report::Report;
use crate::cli::ui::clean;
use crate::cli::{Session, args, files, ui};
use crate::image::Reference;
use crate::runner::{self, Bundle, Changed, Commit, Place};
use crate::store::Store;
use crate::transfer;

/// Copy files between a container and the machine
///
/// The container need not run. `-` is a tar on standard input or output. What is in a directory
/// is `DIR/.`.
#[derive(Debug, clap::Args)]
pub(super) struct Cp {
    /// What to copy
    #[arg(value_name = "[CONTAINER:]SOURCE")]
    from: String,

    /// Where to
    #[arg(value_name = "[CONTAINER:]TARGET")]
    to: String,

    /// Keep owners
    #[arg(short, long)]
    archive: bool,

    /// Copy what a symbolic link leads to
    #[arg(short = 'L', long)]
    follow_link: bool,

    /// Nothing is said anyway
    #[arg(short, long)]
    quiet: bool,
}

/// Parts `CONTAINER:PATH`; a path of the machine that has a colon begins with `/` or `.`.
fn container_path(text: &str) -> Option<(&str, &str)> {
    match text.starts_with(['/', '.']) {
        true => None,
        false => text.split_once(':').filter(|(name, _)| !name.is_empty()),
    }
}

impl Cp {
    /// Copies.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let (store, _) = session.store_with_power()?;
        match (container_path(&self.from), container_path(&self.to)) {
            (Some((name, path)), None) => self.take_out(session, &store, name, path)?,
            (None, Some((name, path))) => self.take_in(session, &store, name, path)?,
            (Some(_), Some(_)) => {
                return Err(Report::wrong_use(
                    "containers are copied between by way of the machine",
                )
                .hint("`cask cp A:/x - | cask cp - B:/`"));
            }
            (None, None) => {
                return Err(Report::wrong_use(
                    "one of the two is in a container: `CONTAINER:PATH`",
                ));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn take_out(
        &self,
        session: &Session,
        store: &Store,
        name: &str,
        path: &str,
    ) -> Result<(), Report> {
        let container = runner::find(store, name)?;
        let sink = session.modest(true);
        let follow = self.follow_link;
        let mut bundle = runner::take_out(store, &container, OsStr::new(path), follow, &sink)?;
        if self.to == "-" {
            return to_stdout(|out| Ok(bundle.write_tar(out)?));
        }
        if !self.archive {
            bundle.own();
        }
        Ok(bundle.put(&Place::here(), Path::new(&self.to))?)
    }

    fn take_in(
        &self,
        session: &Session,
        store: &Store,
        name: &str,
        path: &str,
    ) -> Result<(), Report> {
        let container = runner::find(store, name)?;
        let sink = session.modest(true);
        // Paths in a container are absolute, whether they say so or not.
        let path = &Path::new("/").join(path);
        let place = Place::of(store, &container, &sink)?;
        if self.from == "-" {
            let tar = runner::take_tar(&mut io::stdin().lock(), store)?;
            return Ok(tar.put_contents(&place, path)?);
        }
        let mut bundle: Bundle = runner::take_in(Path::new(&self.from), self.follow_link)?;
        if !self.archive {
            bundle.own();
        }
        Ok(bundle.put(&place, path)?)
    }
}

fn to_stdout(write: impl FnOnce(&mut dyn io::Write) -> Result<(), Report>) -> Result<(), Report> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        return Err(Report::wrong_use(
            "a tar is nothing for a terminal: redirect it",
        ));
    }
    write(&mut out)
}

/// Show what a container has changed in its image's files
///
/// A is new, C is changed, D is gone.
#[derive(Debug, clap::Args)]
pub(super) struct Diff {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Diff {
    /// Shows it.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let (store, _) = session.store_with_power()?;
        let container = runner::find(&store, &self.container)?;
        for (what, path) in runner::changed(&store, &container, &session.modest(true))? {
            let letter = match what {
                Changed::Added => 'A',
                Changed::Modified => 'C',
                Changed::Deleted => 'D',
            };
            let path = String::from_utf8_lossy(&path);
            let path = clean::clean(&path, clean::Colours::Drop);
            ui::data(&format!("{letter} /{path}"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Write all files of a container as a tar
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    /// Writes it.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let (store, _) = session.store_with_power()?;
        let container = runner::find(&store, &self.container)?;
        let sink = session.modest(true);
        match &self.output {
            Some(path) => {
                files::write_with(path, |out| runner::export(&store, &container, out, &sink))?;
            }
            None => to_stdout(|out| Ok(runner::export(&store, &container, out, &sink)?))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Make an image of a container
///
/// The image's id goes to standard output.
#[derive(Debug, clap::Args)]
#[command(mut_args(crate::cli::args::switches))]
pub(super) struct CommitVerb {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// Name for the image
    #[arg(value_name = "NAME", value_parser = crate::cli::verbs::tagged)]
    name: Option<Reference>,

    /// Who made it
    #[arg(short, long, value_name = "TEXT")]
    author: Option<String>,

    /// Why it was made
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,

    /// Instruction of a Dockerfile that changes the image's defaults: CMD, ENTRYPOINT, ENV,
    /// EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME or WORKDIR
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,

    /// Whether the container is halted meanwhile
    #[arg(
        short,
        long,
        value_name = "BOOL",
        default_value = "true",
        action = clap::ArgAction::Set
    )]
    pause: bool,
}

impl CommitVerb {
    /// Makes it.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let (store, _) = session.store_with_power()?;
        let container = runner::find(&store, &self.container)?;
        let request = Request::nothing(
            transfer::Options::default(),
            args::git_tools(None),
            SystemTime::now(),
        );
        let name = &container.config.name;
        let config = runner::defaults(&container);
        let config = build::working::reconfigured(name, config, &self.changes, &request)?;
        // One that does not run, or is halted already, stays as it is.
        let halted = self.pause && runner::pause(&container).is_ok();
        let about = Commit {
            author: self.author,
            message: self.message,
            config: Some(config),
        };
        let made = runner::commit(&store, &container, &about, &session.modest(true));
        if halted {
            runner::unpause(&container)?;
        }
        let image = made?;
        if let Some(name) = &self.name {
            store.tag(name, &image.descriptor())?;
        }
        store.sync()?;
        ui::data(&image.id())?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_from_paths() {
        assert_eq!(container_path("box:/etc"), Some(("box", "/etc")));
        assert_eq!(container_path("box:etc"), Some(("box", "etc")));
        for path in ["/a:b", "./a:b", "plain", ":x", "-"] {
            assert_eq!(container_path(path), None, "{path}");
        }
    }
}
