//! `containers`: the working containers, and on demand those of `cask`.

use serde_json::{Value, json};

use crate::build::working::{self, Container};
use crate::cli::report::{Report, wrong_format};
use crate::cli::ui::listing::{Format, Listing};
use crate::cli::{Session, glob, ui};
use crate::image::ImageId;
use crate::runner;

const CONTAINERS: Listing = Listing {
    columns: &[
        "ContainerID",
        "Builder",
        "ImageID",
        "ImageName",
        "ContainerName",
    ],
    heads: &[("ContainerID", "CONTAINER ID"), ("ImageID", "IMAGE ID")],
    raw: "container_id: {{.ContainerID}}\nimage: {{.ImageName}}\nname: {{.ContainerName}}\n",
};

/// List working containers
#[derive(Debug, clap::Args)]
pub(crate) struct Containers {
    /// Also the containers of cask
    #[arg(short, long)]
    all: bool,

    /// Ids only
    #[arg(short, long)]
    quiet: bool,

    /// Without the head of the table
    #[arg(short, long, visible_alias = "no-heading")]
    noheading: bool,

    /// Ids in full
    #[arg(long, visible_alias = "no-trunc")]
    notruncate: bool,

    /// A JSON list: the same as `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,

    /// Only containers that match: `name=`, `id=`, `ancestor=`
    #[arg(short, long = "filter", value_name = "FILTER", value_parser = Filter::parse)]
    filters: Vec<Filter>,

    /// `table`, `json` (a list), or a template of ContainerID, Builder, ImageID, ImageName,
    /// ContainerName
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true
    )]
    format: Format,
}

#[derive(Debug, Clone)]
enum Filter {
    Name(String),
    Id(String),
    Ancestor(String),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let value = value.to_owned();
        match key {
            "name" => Ok(Self::Name(value)),
            "id" => Ok(Self::Id(value)),
            "ancestor" => Ok(Self::Ancestor(value)),
            _ => Err(format!("there is no filter `{key}`")),
        }
    }

    fn fits(&self, row: &Row) -> bool {
        let hex = |id: &Option<ImageId>| id.as_ref().map(|id| id.0.hex().to_owned());
        match self {
            Self::Name(name) => row.name.contains(name.as_str()) || glob::matches(name, &row.name),
            Self::Id(id) => row.id.starts_with(id.as_str()),
            Self::Ancestor(image) => {
                let bare = image.trim_start_matches("sha256:");
                row.image_name == *image
                    || row.image_name.strip_suffix(":latest") == Some(image)
                    || hex(&row.image).is_some_and(|id| !bare.is_empty() && id.starts_with(bare))
            }
        }
    }
}

/// What is listed of a container.
struct Row {
    id: String,
    builder: bool,
    image: Option<ImageId>,
    image_name: String,
    name: String,
}

impl Row {
    fn working(container: Container) -> Self {
        let config = container.config;
        Self {
            id: container.id,
            builder: true,
            image: config.image,
            image_name: match config.image_name.as_str() {
                "" => "scratch".to_owned(),
                name => name.to_owned(),
            },
            name: config.name,
        }
    }

    fn running(container: &runner::Container) -> Self {
        Self {
            id: container.id.clone(),
            builder: false,
            image: Some(container.config.image.clone()),
            image_name: container.config.image_name.clone(),
            name: container.config.name.clone(),
        }
    }
}

impl Containers {
    /// Lists them.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let store = session.store()?;
        let mut rows: Vec<Row> = working::list(&store)?
            .into_iter()
            .map(Row::working)
            .collect();
        if self.all {
            let others = runner::list(&store)?;
            rows.extend(others.iter().map(|(container, _)| Row::running(container)));
        }
        rows.retain(|row| self.filters.iter().all(|filter| filter.fits(row)));
        if self.quiet {
            let ids = rows.iter().map(|row| row.id.clone() + "\n");
            return ui::raw_data(ids.collect::<String>().as_bytes());
        }
        if self.json || matches!(self.format, Format::Json) {
            let list: Vec<Value> = rows.iter().map(in_full).collect();
            return ui::data(&format!("{:#}", Value::Array(list)));
        }
        let values: Vec<Value> = rows.iter().map(|row| self.value(row)).collect();
        let text = CONTAINERS
            .render(&self.format, &values)
            .map_err(wrong_format)?;
        let text = match (&self.format, self.noheading) {
            (Format::Table | Format::Columns(_), true) => {
                text.split_once('\n').map_or("", |(_, rows)| rows)
            }
            _ => &text,
        };
        ui::raw_data(text.as_bytes())
    }

    fn value(&self, row: &Row) -> Value {
        let short = |id: &str| match self.notruncate {
            true => id.to_owned(),
            false => id.chars().take(12).collect(),
        };
        json!({
            "ContainerID": short(&row.id),
            "Builder": if row.builder { "*" } else { "" },
            "ImageID": row.image.as_ref().map_or_else(String::new, |id| short(id.0.hex())),
            "ImageName": row.image_name,
            "ContainerName": row.name,
        })
    }
}

/// A container as buildah's JSON has it.
fn in_full(row: &Row) -> Value {
    json!({
        "id": row.id,
        "builder": row.builder,
        "imageid": row.image.as_ref().map_or("", |id| id.0.hex()),
        "imagename": row.image_name,
        "containername": row.name,
    })
}

/// Everything about a working container, by buildah's names.
pub(super) fn value(container: &Container) -> Result<Value, Report> {
    let config = &container.config;
    let image = serde_json::to_value(&config.config)?;
    let mounted = container.mount_point();
    Ok(json!({
        "Type": "buildah 0.0.1",
        "FromImage": config.image_name,
        "FromImageID": config.image.as_ref().map_or("", |id| id.0.hex()),
        "FromImageDigest": config.digest,
        "Container": config.name,
        "ContainerID": container.id,
        "MountPoint": mounted.map(|path| path.display().to_string()).unwrap_or_default(),
        "ImageAnnotations": config.annotations,
        "ImageCreatedBy": config.created_by.as_deref().unwrap_or_default(),
        "OCIv1": image,
        "Docker": image,
    }))
}
