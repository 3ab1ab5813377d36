//! `df`: what takes how much of the disk.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::cli::Session;
use crate::cli::report::{Report, wrong_format};
use crate::cli::ui::listing::{Format, Listing};
use crate::cli::ui::{self, human};
use crate::runner;
use crate::store::{ImageUsage, Store, Usage};

const KINDS: Listing = Listing {
    columns: &["Type", "TotalCount", "Active", "Size", "Reclaimable"],
    heads: &[("TotalCount", "TOTAL")],
};
const IMAGES: Listing = Listing {
    columns: &[
        "Repository",
        "Tag",
        "ID",
        "CreatedSince",
        "Size",
        "SharedSize",
        "UniqueSize",
        "Containers",
    ],
    heads: &[("ID", "IMAGE ID"), ("CreatedSince", "CREATED")],
};

/// Show what takes how much of the disk
///
/// Sizes are those on disk: what several images share is counted once in the total.
#[derive(Debug, clap::Args)]
pub(crate) struct Df {
    /// Every image with what it shares and what only it has
    #[arg(short, long)]
    verbose: bool,

    /// `table`, `json` (one object a line), or a template of the columns' names
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true
    )]
    format: Format,
}

impl Df {
    /// Shows it.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let store = session.store()?;
        let usage = store.usage()?;
        let (listing, rows) = match self.verbose {
            false => (&KINDS, kinds(&usage, &volumes(&store)?)),
            true => (&IMAGES, usage.images.iter().map(image).collect()),
        };
        let text = listing.render(&self.format, &rows).map_err(wrong_format)?;
        ui::raw_data(text.as_bytes())
    }
}

/// What a volume takes, and whether a container mounts it.
fn volumes(store: &Store) -> Result<Vec<(u64, bool)>, Report> {
    let mut taken = Vec::new();
    for volume in runner::list_volumes(store)? {
        let used = !runner::users_of_volume(store, &volume.name)?.is_empty();
        taken.push((runner::volume_size(store, &volume)?, used));
    }
    Ok(taken)
}

fn kinds(usage: &Usage, volumes: &[(u64, bool)]) -> Vec<Value> {
    let row = |kind: &str, total: usize, active: usize, bytes: u64, reclaimable: u64| {
        let share = (reclaimable * 100).checked_div(bytes).unwrap_or(0);
        json!({
            "Type": kind,
            "TotalCount": total.to_string(),
            "Active": active.to_string(),
            "Size": human::size(bytes),
            "Reclaimable": format!("{} ({share}%)", human::size(reclaimable)),
        })
    };
    let used = usage.images.iter().filter(|image| image.containers > 0);
    let running = usage.containers.iter().filter(|c| c.running);
    let stopped = usage.containers.iter().filter(|c| !c.running);
    vec![
        row(
            "Images",
            usage.images.len(),
            used.count(),
            usage.image_bytes,
            usage.image_reclaimable,
        ),
        row(
            "Containers",
            usage.containers.len(),
            running.count(),
            usage.containers.iter().map(|c| c.bytes).sum(),
            stopped.map(|c| c.bytes).sum(),
        ),
        row(
            "Local Volumes",
            volumes.len(),
            volumes.iter().filter(|(_, used)| *used).count(),
            volumes.iter().map(|(bytes, _)| bytes).sum(),
            volumes
                .iter()
                .filter(|(_, used)| !used)
                .map(|(bytes, _)| bytes)
                .sum(),
        ),
        row(
            "Build Cache",
            usage.cached,
            0,
            usage.cache_bytes,
            usage.cache_bytes,
        ),
    ]
}

fn image(usage: &ImageUsage) -> Value {
    let none = || "<none>".to_owned();
    let name = usage.image.names.first();
    let created = human::parse_time(usage.image.created.as_deref());
    json!({
        "Repository": name.map_or_else(none, crate::image::Reference::familiar_name),
        "Tag": name.and_then(|name| name.tag()).map_or_else(none, str::to_owned),
        "ID": usage.image.id.digest().short(),
        "CreatedSince": created.map_or_else(none, |then| human::ago(then, SystemTime::now())),
        "Size": human::size(usage.shared + usage.unique),
        "SharedSize": human::size(usage.shared),
        "UniqueSize": human::size(usage.unique),
        "Containers": usage.containers.to_string(),
    })
}
