//! `df`: what takes how much of the disk.

use std::collections::HashMap;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::cli::Session;
use crate::cli::cask::ps;
use crate::cli::report::{Report, wrong_format};
use crate::cli::ui::listing::{Format, Listing};
use crate::cli::ui::{self, human};
use crate::runner::{self, Volume};
use crate::store::{CacheUsage, ContainerUsage, ImageUsage, Store, Usage};

const KINDS: Listing = Listing {
    columns: &["Type", "TotalCount", "Active", "Size", "Reclaimable"],
    heads: &[("TotalCount", "TOTAL")],
    raw: "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\n\
          reclaimable: {{.Reclaimable}}\n",
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
    raw: "type: Image\nrepository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\n\
          created_since: {{.CreatedSince}}\nvirtual_size: {{.Size}}\n",
};
const CONTAINERS: Listing = Listing {
    columns: &[
        "ID",
        "Image",
        "Command",
        "LocalVolumes",
        "Size",
        "RunningFor",
        "Status",
        "Names",
    ],
    heads: &[("ID", "CONTAINER ID"), ("RunningFor", "CREATED")],
    raw: "type: Container\ncontainer_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\n\
          created_at: {{.CreatedAt}}\nstatus: {{.Status}}\nnames: {{.Names}}\nsize: {{.Size}}\n",
};
const VOLUMES: Listing = Listing {
    columns: &["Name", "Links", "Size"],
    heads: &[("Name", "VOLUME NAME")],
    raw: "type: Volume\nname: {{.Name}}\ndriver: {{.Driver}}\n",
};
const CACHE: Listing = Listing {
    columns: &[
        "ID",
        "CacheType",
        "Size",
        "CreatedSince",
        "LastUsedSince",
        "UsageCount",
        "Shared",
    ],
    heads: &[
        ("ID", "CACHE ID"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
    ],
    raw: "type: Build Cache\nbuild_cache_id: {{.ID}}\nbuild_cache_type: {{.CacheType}}\n\
          created_since: {{.CreatedSince}}\nlast_used_since: {{.LastUsedSince}}\n\
          shared: {{.Shared}}\n",
};

/// Show what takes how much of the disk
///
/// Sizes are those on disk: what several images share is counted once in the total.
#[derive(Debug, clap::Args)]
pub(crate) struct Df {
    /// Every image, container, volume and cached result
    #[arg(short, long)]
    verbose: bool,

    /// `table`, `json` (one object a line), `raw`, or a template of the columns' names; with `-v`
    /// of the lists Images, Containers, Volumes and BuildCache
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
        let volumes = volumes(&store)?;
        let text = match self.verbose {
            true => self.all(&store, &usage, &volumes)?,
            false => {
                let shown = KINDS.render(&self.format, &kinds(&usage, &volumes));
                shown.map_err(wrong_format)?
            }
        };
        ui::raw_data(text.as_bytes())
    }

    /// Everything there is, kind by kind.
    fn all(&self, store: &Store, usage: &Usage, volumes: &[Used]) -> Result<String, Report> {
        let now = SystemTime::now();
        let whole = !self.format.is_table();
        let cache = store.cache_usage()?;
        let cached = format!("Build cache usage: {}", human::sum(usage.cache_bytes));
        let parts: [(&str, &str, &Listing, Vec<Value>); 4] = [
            (
                "Images",
                "Images space usage:",
                &IMAGES,
                rows(&usage.images, |image| image_row(image, now, whole)),
            ),
            (
                "Containers",
                "Containers space usage:",
                &CONTAINERS,
                container_rows(store, &usage.containers, now, whole)?,
            ),
            (
                "Volumes",
                "Local Volumes space usage:",
                &VOLUMES,
                rows(volumes, |used| used.row(store)),
            ),
            (
                "BuildCache",
                &cached,
                &CACHE,
                rows(&cache, |one| cache_row(one, now, whole)),
            ),
        ];
        if let Format::Table | Format::Raw = self.format {
            let mut shown = Vec::new();
            for (_, title, listing, rows) in &parts {
                let text = listing.render(&self.format, rows).map_err(wrong_format)?;
                shown.push(match self.format {
                    Format::Raw => text,
                    _ => format!("{title}\n\n{text}"),
                });
            }
            let between = if whole { "" } else { "\n" };
            return Ok(shown.join(between));
        }
        let all = parts
            .into_iter()
            .map(|(key, _, _, rows)| (key.to_owned(), rows.into()));
        let all = Value::Object(all.collect());
        let shown = match &self.format {
            Format::Lines(template) | Format::Columns(template) => template.render(&all),
            Format::Json | Format::Table | Format::Raw => Ok(all.to_string()),
        };
        Ok(shown.map_err(wrong_format)? + "\n")
    }
}

fn rows<T>(all: &[T], row: impl Fn(&T) -> Value) -> Vec<Value> {
    all.iter().map(row).collect()
}

/// A volume, its bytes, and how many containers mount it.
struct Used {
    volume: Volume,
    bytes: u64,
    links: usize,
}

impl Used {
    fn row(&self, store: &Store) -> Value {
        let mut row = crate::cli::cask::volume::row(store, &self.volume);
        row["Links"] = json!(self.links.to_string());
        row["Size"] = json!(human::size(self.bytes));
        row
    }
}

fn volumes(store: &Store) -> Result<Vec<Used>, Report> {
    let mut taken = Vec::new();
    for volume in runner::list_volumes(store)? {
        taken.push(Used {
            bytes: runner::volume_size(store, &volume)?,
            links: runner::users_of_volume(store, &volume.name)?.len(),
            volume,
        });
    }
    Ok(taken)
}

fn kinds(usage: &Usage, volumes: &[Used]) -> Vec<Value> {
    let row = |kind: &str, total: usize, active: usize, bytes: u64, reclaimable: String| {
        json!({
            "Type": kind,
            "TotalCount": total.to_string(),
            "Active": active.to_string(),
            "Size": human::sum(bytes),
            "Reclaimable": reclaimable,
        })
    };
    let used = usage.images.iter().filter(|image| image.containers > 0);
    let running = usage.containers.iter().filter(|c| c.running);
    let stopped = usage.containers.iter().filter(|c| !c.running);
    let containers = usage.containers.iter().map(|c| c.bytes).sum();
    let mounted = volumes.iter().filter(|used| used.links > 0);
    let unmounted = volumes.iter().filter(|used| used.links == 0);
    let in_volumes = volumes.iter().map(|used| used.bytes).sum();
    vec![
        row(
            "Images",
            usage.images.len(),
            used.count(),
            usage.image_bytes,
            reclaimable(usage.image_reclaimable, usage.image_bytes),
        ),
        row(
            "Containers",
            usage.containers.len(),
            running.count(),
            containers,
            reclaimable(stopped.map(|c| c.bytes).sum(), containers),
        ),
        row(
            "Local Volumes",
            volumes.len(),
            mounted.count(),
            in_volumes,
            reclaimable(unmounted.map(|used| used.bytes).sum(), in_volumes),
        ),
        row(
            "Build Cache",
            usage.cached,
            0,
            usage.cache_bytes,
            human::sum(usage.cache_bytes),
        ),
    ]
}

/// docker's text of what could be freed.
fn reclaimable(bytes: u64, of: u64) -> String {
    match (bytes * 100).checked_div(of) {
        Some(share) => format!("{} ({share}%)", human::sum(bytes)),
        None => human::sum(bytes),
    }
}

fn image_row(usage: &ImageUsage, now: SystemTime, whole: bool) -> Value {
    let none = || "<none>".to_owned();
    let unknown = || "N/A".to_owned();
    let name = usage.image.names.first();
    let created = human::parse_time(usage.image.created.as_deref());
    let id = &usage.image.id;
    let size = usage.shared + usage.unique;
    json!({
        "Containers": usage.containers.to_string(),
        "CreatedAt": created.map_or_else(unknown, human::date),
        "CreatedSince": created.map_or_else(unknown, |then| human::ago(then, now)),
        "Digest": "",
        "ID": if whole { id.to_string() } else { id.digest().short().to_owned() },
        "Repository": name.map_or_else(none, crate::image::Reference::familiar_name),
        "SharedSize": human::sum(usage.shared),
        "Size": human::size(size),
        "Tag": name.and_then(|name| name.tag()).map_or_else(none, str::to_owned),
        "UniqueSize": human::sum(usage.unique),
        "VirtualSize": human::sum(size),
    })
}

fn container_rows(
    store: &Store,
    usage: &[ContainerUsage],
    now: SystemTime,
    whole: bool,
) -> Result<Vec<Value>, Report> {
    let bytes: HashMap<&str, u64> = usage.iter().map(|c| (c.id.as_str(), c.bytes)).collect();
    let all = runner::list(store)?.into_iter();
    Ok(all
        .map(|(container, state)| {
            let mut row = ps::row(&container, &state, now, whole);
            let written = bytes.get(container.id.as_str()).copied();
            row["Size"] = json!(human::size(written.unwrap_or_default()));
            row
        })
        .collect())
}

fn cache_row(usage: &CacheUsage, now: SystemTime, whole: bool) -> Value {
    let id = if whole { &usage.id } else { &usage.id[..12] };
    json!({
        "CacheType": if usage.is_mount { "exec.cachemount" } else { "regular" },
        "CreatedAt": human::exact_date(usage.made),
        "CreatedSince": human::ago(usage.made, now),
        "Description": "",
        "ID": id,
        "InUse": "false",
        "LastUsedAt": human::exact_date(usage.used),
        "LastUsedSince": human::ago(usage.used, now),
        "Parent": "",
        "Shared": usage.shared.to_string(),
        "Size": human::size(usage.bytes),
        // It is known when one was used last, not how often.
        "UsageCount": "N/A",
    })
}
