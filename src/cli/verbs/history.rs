//! `history`: the instructions that made an image.

use std::time::SystemTime;

use clap::ArgAction;
use serde_json::{Value, json};

use crate::cli::Session;
use crate::cli::report::{Report, wrong_format};
use crate::cli::ui::listing::{Format, Listing};
use crate::cli::ui::{self, human};
use crate::image::Platform;
use crate::store::{Image, Store};

const HISTORY: Listing = Listing {
    columns: &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"],
    heads: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedBy", "CREATED BY"),
    ],
    raw: "raw",
};

/// The same for machines.
const EXACT: Listing = Listing {
    columns: &["ID", "CreatedAt", "CreatedBy", "Size", "Comment"],
    heads: HISTORY.heads,
    raw: HISTORY.raw,
};

/// Longest instruction in a table, in characters, as docker cuts it.
const SHOWN: usize = 45;

/// Show what made an image, the newest instruction first
#[derive(Debug, clap::Args)]
#[command(mut_args(crate::cli::args::switches))]
pub(crate) struct History {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Nothing cut short
    #[arg(long)]
    no_trunc: bool,

    /// Ids only
    #[arg(short, long)]
    quiet: bool,

    /// Whether sizes and times are for people
    #[arg(short = 'H', long, value_name = "BOOL", default_value = "true", action = ArgAction::Set)]
    human: bool,

    /// Which image of a name that stands for several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,

    /// `table`, `json` (one object a line), or a template of ID, CreatedSince, CreatedAt,
    /// CreatedBy, Size, Comment
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true
    )]
    format: Format,
}

impl History {
    /// Shows it.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let store = session.store()?;
        let target = store.need(&self.image)?;
        let image = store.image_meant(&target.descriptor.digest, self.platform.as_ref())?;
        let rows = self.rows(&store, &image)?;
        if self.quiet {
            let ids = rows
                .iter()
                .filter_map(|row| Some(format!("{}\n", row["ID"].as_str()?)));
            return ui::raw_data(ids.collect::<String>().as_bytes());
        }
        let listing = if self.human { HISTORY } else { EXACT };
        let text = listing.render(&self.format, &rows).map_err(wrong_format)?;
        ui::raw_data(text.as_bytes())
    }

    fn rows(&self, store: &Store, image: &Image) -> Result<Vec<Value>, Report> {
        let now = SystemTime::now();
        let mut layers = image.layers().into_iter();
        let mut rows = Vec::new();
        for entry in &image.config.value().history {
            let size = match (entry.empty_layer, layers.len()) {
                (false, 1..) => match layers.next() {
                    Some(layer) => store
                        .plain_size(&layer.diff_id)?
                        .unwrap_or(layer.descriptor.size),
                    None => 0,
                },
                // A history that names more layers than there are has made none for this entry.
                _ => 0,
            };
            let created = human::parse_time(entry.created.as_deref());
            let by = entry
                .created_by
                .as_deref()
                .unwrap_or_default()
                .replace('\t', " ");
            rows.push(json!({
                "ID": "<missing>",
                "CreatedAt": entry.created.as_deref().unwrap_or("N/A"),
                "CreatedSince": created.map_or_else(|| "N/A".to_owned(), |then| human::ago(then, now)),
                "CreatedBy": self.cut(&by),
                "Size": if self.human { human::size(size) } else { size.to_string() },
                "Comment": entry.comment.as_deref().unwrap_or_default(),
            }));
        }
        rows.reverse();
        let id = image.id();
        if let Some(newest) = rows.first_mut() {
            newest["ID"] = match self.no_trunc {
                true => id.to_string().into(),
                false => id.digest().short().into(),
            };
        }
        Ok(rows)
    }

    fn cut(&self, text: &str) -> String {
        let line = ui::clean::clean(text, ui::clean::Colours::Drop);
        match self.no_trunc {
            true => line.into_owned(),
            false => ui::table::cut(&line, SHOWN),
        }
    }
}
