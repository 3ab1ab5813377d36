//! `tree`: the layers of an image, and what made them.

use serde_json::{Value, json};

use crate::cli::Session;
use crate::cli::report::Report;
use crate::cli::ui::{self, clean, human};
use crate::image::Platform;
use crate::store::{Image, Store};

/// Show the layers of an image with their sizes, the lowest first, and what made them
///
/// Below a layer stand the instructions that followed it and made none.
#[derive(Debug, clap::Args)]
pub(crate) struct Tree {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Which image of a name that stands for several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,

    /// `json` for a list of layers
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    format: Option<String>,
}

/// A layer and the history about it.
struct Row {
    diff_id: String,
    /// Bytes of the plain tar, or as it is compressed where no more is known.
    size: u64,
    made_by: String,
    /// Instructions after it without a layer.
    then: Vec<String>,
}

impl Tree {
    /// Shows it.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let store = session.store()?;
        let target = store.need(&self.image)?;
        let image = store.image_meant(&target.descriptor.digest, self.platform.as_ref())?;
        let (before, rows) = rows(&store, &image)?;
        if self.format.as_deref() == Some("json") {
            let list: Vec<Value> = rows.iter().map(value).collect();
            return ui::data(&format!("{:#}", Value::Array(list)));
        }
        let total = rows.iter().map(|row| row.size).sum();
        let name = target
            .name
            .map_or_else(|| self.image.clone(), |name| name.familiar());
        let id = image.id();
        let mut text = format!("{name}  {}  {}\n", id.digest().short(), human::size(total));
        for note in &before {
            text.push_str(&format!("│    {}\n", clean_line(note)));
        }
        for (at, row) in rows.iter().enumerate() {
            let last = at + 1 == rows.len();
            let (branch, bar) = if last {
                ("└──", ' ')
            } else {
                ("├──", '│')
            };
            text.push_str(&format!(
                "{branch} {}  {:>8}  {}\n",
                &row.diff_id[..12],
                human::size(row.size),
                clean_line(&row.made_by)
            ));
            for note in &row.then {
                text.push_str(&format!("{bar}    {}\n", clean_line(note)));
            }
        }
        ui::raw_data(text.as_bytes())
    }
}

fn clean_line(text: &str) -> String {
    let line = text.replace(['\n', '\t'], " ");
    clean::clean(&line, clean::Colours::Drop).into_owned()
}

fn value(row: &Row) -> Value {
    json!({
        "DiffID": format!("sha256:{}", row.diff_id),
        "Size": row.size,
        "CreatedBy": row.made_by,
        "Then": row.then,
    })
}

/// The layers, and what the history says came before any of them.
fn rows(store: &Store, image: &Image) -> Result<(Vec<String>, Vec<Row>), Report> {
    let mut before = Vec::new();
    let mut rows: Vec<Row> = Vec::new();
    let mut layers = image.layers().into_iter();
    let mut add = |rows: &mut Vec<Row>, made_by: String| -> Result<(), Report> {
        if let Some(layer) = layers.next() {
            let size = store.plain_size(&layer.diff_id)?;
            rows.push(Row {
                diff_id: layer.diff_id.digest().hex().to_owned(),
                size: size.unwrap_or(layer.descriptor.size),
                made_by,
                then: Vec::new(),
            });
        }
        Ok(())
    };
    for entry in &image.config.value().history {
        let by = entry.created_by.clone().unwrap_or_default();
        match (entry.empty_layer, rows.last_mut()) {
            (false, _) => add(&mut rows, by)?,
            (true, Some(row)) => row.then.push(by),
            (true, None) => before.push(by),
        }
    }
    // A history may be missing, or name fewer layers than there are.
    for _ in rows.len()..image.config.value().rootfs.diff_ids.len() {
        add(&mut rows, "(not in the history)".to_owned())?;
    }
    Ok((before, rows))
}
