//! How the result of a build is told: progress, files, and what goes to the places among its names.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use super::Build;
use crate::build::{self, Outcome, Request};
use crate::cli::report::Report;
use crate::cli::ui::{Progress, Shown, human};
use crate::cli::verbs::{self, Goal};
use crate::cli::{Session, files};
use crate::dockerfile::Warning;
use crate::event::Sink;
use crate::image::Reference;
use crate::store::Store;
use crate::transfer::PushOptions;

/// How the result is told.
#[derive(Debug, clap::Args)]
pub(super) struct ResultArgs {
    /// Write the image id to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,

    /// Write the image id without `sha256:` to this file
    #[arg(long, value_name = "FILE")]
    iidfile_raw: Option<PathBuf>,

    /// Write ids, digests and names to this file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,

    /// How progress is shown on standard error
    #[arg(
        long,
        value_name = "HOW",
        default_value = "auto",
        hide_default_value = true
    )]
    pub(super) progress: Progress,

    /// Write progress as plain lines to the end of this file, and none to standard error
    #[arg(long, value_name = "FILE")]
    logfile: Option<PathBuf>,

    /// Print the image id and nothing else
    #[arg(short, long)]
    pub(super) quiet: bool,
}

impl ResultArgs {
    /// Whether something is written that there is of one image only.
    pub(super) fn names_one(&self) -> bool {
        self.iidfile.is_some() || self.iidfile_raw.is_some()
    }

    /// Makes what shows the progress.
    pub(super) fn shown(&self, session: &Session) -> Result<Shown, Report> {
        match &self.logfile {
            Some(path) => Ok(session.logged(files::append(path)?)),
            None if self.quiet => Ok(session.shown(Progress::Quiet)),
            None => Ok(session.shown(self.progress)),
        }
    }
}

impl Build {
    /// Sends the result to the places among its names.
    pub(super) fn send(
        &self,
        store: &Store,
        outcome: &Outcome,
        request: &Request,
        sink: &dyn Sink,
    ) -> Result<(), Report> {
        let options = PushOptions {
            transfer: request.transfer.clone(),
            ..PushOptions::default()
        };
        for place in Goal::places(&self.tags) {
            verbs::send(store, &outcome.descriptor.digest, place, &options, sink)?;
        }
        Ok(())
    }

    pub(super) fn write_files(&self, outcome: &Outcome) -> Result<(), Report> {
        for scanned in &outcome.scanned {
            self.buildah.scans.write(scanned)?;
        }
        if let (Some(path), Some(image)) = (&self.results.iidfile, &outcome.image) {
            files::write(path, image.to_string().as_bytes())?;
        }
        if let (Some(path), Some(image)) = (&self.results.iidfile_raw, &outcome.image) {
            files::write(path, image.digest().hex().as_bytes())?;
        }
        if let Some(path) = &self.results.metadata_file {
            let names = self.names().join(",");
            files::write(path, metadata(outcome, &names).as_bytes())?;
        }
        Ok(())
    }

    /// All names the result was to get, in full.
    fn names(&self) -> Vec<String> {
        let outputs = &self.output.outputs;
        let more = outputs.iter().flat_map(|parsed| parsed.output.names());
        Goal::names(&self.tags)
            .chain(more)
            .map(Reference::full)
            .collect()
    }

    pub(super) fn summary(&self, session: &Session, outcome: &Outcome, began: Instant) {
        if self.results.progress == Progress::Rawjson {
            return;
        }
        let took = human::elapsed(began.elapsed());
        let steps = format!("{} steps run, {} cached", outcome.ran, outcome.cached);
        match &outcome.image {
            Some(image) => session.say(&format!("built {image} in {took}: {steps}")),
            None => {
                let index = &outcome.descriptor.digest;
                session.say(&format!("built index {index} in {took}: {steps}"));
            }
        }
        for tag in &outcome.tags {
            session.say(&format!("tagged {tag}"));
        }
        if !outcome.warnings.is_empty() {
            session.say(&warnings(&outcome.warnings));
        }
    }
}

/// Returns what the linter found, each with the page about it.
fn warnings(found: &[Warning]) -> String {
    let mut text = match found.len() {
        1 => "1 warning found (`cooper check` shows its place):".to_owned(),
        n => format!("{n} warnings found (`cooper check` shows their places):"),
    };
    for warning in found {
        let line = build::check::line_of(warning);
        text.push_str(&format!("\n - {line} {}", warning.rule.url()));
    }
    text
}

/// Returns what docker's `--metadata-file` holds, as far as there is something to say.
fn metadata(outcome: &Outcome, names: &str) -> String {
    let mut fields = serde_json::Map::new();
    let mut add = |key: &str, value| fields.insert(key.to_owned(), value);
    if let Some(image) = &outcome.image {
        add("containerimage.config.digest", json!(image.to_string()));
    }
    let descriptor = &outcome.descriptor;
    add("containerimage.descriptor", json!(descriptor));
    add("containerimage.digest", json!(descriptor.digest.as_str()));
    if !names.is_empty() {
        add("image.name", json!(names));
    }
    for (platform, provenance) in &outcome.provenance {
        let key = "buildx.build.provenance";
        match outcome.provenance.len() {
            1 => add(key, provenance.clone()),
            _ => add(&format!("{key}/{platform}"), provenance.clone()),
        };
    }
    let value = serde_json::Value::Object(fields);
    format!("{value:#}\n")
}
