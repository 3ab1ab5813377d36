//! `diff`: the files in which images differ.

use serde_json::{Map, Value, json};

use crate::cli::Session;
use crate::cli::report::Report;
use crate::cli::ui::{self, clean};
use crate::event::Sink;
use crate::layer::{Difference, Stack, compare};
use crate::store::{LayerRef, Store};

/// Show the files in which images differ
///
/// A line begins with A for what is added, C for what is changed and D for what is gone, times
/// not counted; a directory stands for all that is in it. With one image it is told what the
/// newest layer did to the ones below.
#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Image that it became
    #[arg(value_name = "IMAGE")]
    other: Option<String>,

    /// `json` for an object with the lists `added`, `changed` and `deleted`
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    format: Option<String>,
}

impl Diff {
    /// Shows it.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let store = session.store()?;
        let _work = store.work()?;
        let sink = session.modest(false);
        let (before, after) = match &self.other {
            Some(other) => (layers(&store, &self.image)?, layers(&store, other)?),
            None => {
                let all = layers(&store, &self.image)?;
                (all[..all.len().saturating_sub(1)].to_vec(), all)
            }
        };
        let (before, after) = (
            files(&store, &before, &sink)?,
            files(&store, &after, &sink)?,
        );
        drop(sink);
        let mut found = Vec::new();
        compare(&before, &after, &mut |what, path| {
            found.push((what, format!("/{}", path.as_os().to_string_lossy())));
        })?;
        match self.format.as_deref() {
            Some("json") => ui::data(&format!("{:#}", lists(&found))),
            _ => {
                let line = |(what, path): &(Difference, String)| {
                    let path = clean::clean(path, clean::Colours::Drop);
                    format!("{} {path}\n", letter(*what))
                };
                let text: String = found.iter().map(line).collect();
                ui::raw_data(text.as_bytes())
            }
        }
    }
}

fn letter(what: Difference) -> char {
    match what {
        Difference::Added => 'A',
        Difference::Changed => 'C',
        Difference::Deleted => 'D',
    }
}

/// The differences as lists that are there only if they hold something.
fn lists(found: &[(Difference, String)]) -> Value {
    let mut out = Map::new();
    for (name, wanted) in [
        ("changed", Difference::Changed),
        ("added", Difference::Added),
        ("deleted", Difference::Deleted),
    ] {
        let paths: Vec<&String> = found
            .iter()
            .filter(|(what, _)| *what == wanted)
            .map(|(_, path)| path)
            .collect();
        if !paths.is_empty() {
            out.insert(name.to_owned(), json!(paths));
        }
    }
    Value::Object(out)
}

fn layers(store: &Store, text: &str) -> Result<Vec<LayerRef>, Report> {
    let target = store.need(text)?;
    let image = store.image_meant(&target.descriptor.digest, None)?;
    Ok(image.layers())
}

fn files(store: &Store, layers: &[LayerRef], sink: &dyn Sink) -> Result<Stack, Report> {
    let trees = store.trees(layers, sink)?;
    let fds = trees.iter().map(|tree| tree.fd()).collect();
    Ok(Stack::new(fds, store.marks()))
}
