//! `import`: a root file system as an image.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};

use super::tag::tagged;
use crate::cli::report::Report;
use crate::cli::{Session, env, ui};
use crate::image::{Config, History, Platform, Reference};

/// Make an image of a tar with a root file system
///
/// The tar may be compressed. The image's id goes to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// The tar, `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Name for the image
    #[arg(value_name = "NAME", value_parser = tagged)]
    name: Option<Reference>,

    /// Comment in the image's history [default: Imported from FILE]
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,

    /// Platform of the file system, such as `linux/arm64`
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
}

impl Import {
    /// Imports it.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let created = created()?;
        let store = session.store()?;
        let stdin = self.file == Path::new("-");
        let from: Box<dyn Read + Send> = match stdin {
            true => Box::new(io::stdin()),
            false => Box::new(File::open(&self.file).map_err(|error| {
                Report::failed(format!("cannot open {}", self.file.display())).because(&error)
            })?),
        };
        let message = match self.message {
            Some(text) => text,
            None => format!("Imported from {}", self.file.display()),
        };
        let mut config = Config::empty(&self.platform.unwrap_or_else(Platform::host));
        config.created = Some(created.clone());
        config.history = vec![History {
            created: Some(created),
            comment: Some(message),
            ..History::default()
        }];
        let shown_name = if stdin {
            Path::new("standard input")
        } else {
            &self.file
        };
        let image = store.import(from, config, shown_name)?;
        if let Some(name) = &self.name {
            store.tag(name, &image.descriptor())?;
        }
        store.sync()?;
        ui::data(&image.id())
    }
}

/// Returns `SOURCE_DATE_EPOCH` or the time, as RFC 3339.
fn created() -> Result<String, Report> {
    let time: DateTime<Utc> = match env::text("SOURCE_DATE_EPOCH") {
        None => SystemTime::now().into(),
        Some(text) => text
            .trim()
            .parse()
            .ok()
            .and_then(|secs| DateTime::from_timestamp(secs, 0))
            .ok_or_else(|| {
                Report::wrong_use(format!(
                    "`SOURCE_DATE_EPOCH` is `{text}`: expected seconds since 1970 as a number"
                ))
            })?,
    };
    Ok(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}
