//! `inspect`: everything about an image, as docker's JSON.

use serde_json::{Value, json};

use crate::cli::report::{Report, wrong_format};
use crate::cli::ui::template::Template;
use crate::cli::{Session, ui};
use crate::image::{Platform, Reference};
use crate::store::{Image, Store};

/// Show everything about images
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// Names or ids of the images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,

    /// `json`, or a template such as `{{.Config.Env}}`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,

    /// Which image of a name that stands for several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,

    /// What the names are of: image or container [default: whatever there is]
    #[arg(
        short = 't',
        long = "type",
        value_name = "TYPE",
        hide_default_value = true
    )]
    kind: Option<Kind>,

    /// What else the names may stand for, and is looked for first.
    #[arg(skip)]
    first: Option<Look>,
}

/// What a name may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Image,
    Container,
}

/// Everything about the thing of this name, or `None` if there is none.
type Look = fn(&Store, &str) -> Result<Option<Value>, Report>;

impl Inspect {
    /// Looks for other things before images.
    pub(crate) fn look_first(&mut self, look: Look) {
        self.first = Some(look);
    }

    /// Shows it: a JSON list, or a line for each image when there is a template. Images that
    /// are not there are told after those that are.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let template = match self.format.as_deref() {
            None | Some("json") => None,
            Some(text) => Some(Template::parse(text).map_err(wrong_format)?),
        };
        let store = session.store()?;
        let platform = self.platform.unwrap_or_else(Platform::host);
        let mut values = Vec::new();
        let mut missing = None;
        for text in &self.images {
            if let Some(look) = self.first.filter(|_| self.kind != Some(Kind::Image))
                && let Some(value) = look(&store, text)?
            {
                values.push(value);
                continue;
            }
            if self.kind == Some(Kind::Container) {
                return Err(Report::failed(format!("there is no container `{text}`")));
            }
            match store.need(text) {
                Ok(target) => {
                    let image = store.image(&target.descriptor.digest, &platform)?;
                    values.push(value(&store, &image)?);
                }
                Err(error) => missing = missing.or(Some(error)),
            }
        }
        match template {
            Some(template) => {
                for value in &values {
                    ui::data(&template.render(value).map_err(wrong_format)?)?;
                }
            }
            // buildah has one container as it is.
            None if self.kind == Some(Kind::Container) && values.len() == 1 => {
                ui::data(&format!("{:#}", values[0]))?;
            }
            None if self.format.is_some() => ui::data(&Value::Array(values))?,
            None => ui::data(&format!("{:#}", Value::Array(values)))?,
        }
        match missing {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

fn value(store: &Store, image: &Image) -> Result<Value, Report> {
    let config = image.config.value();
    let (tags, digests) = names(store, image)?;
    let descriptor = serde_json::to_value(image.descriptor())?;
    let last = config
        .history
        .iter()
        .rev()
        .find_map(|entry| entry.comment.as_deref());
    let mut value = json!({
        "Id": image.id().to_string(),
        "Digest": image.manifest.digest().as_str(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Comment": last.unwrap_or_default(),
        "Created": config.created,
        "Author": config.author.as_deref().unwrap_or_default(),
        "Config": container(config)?,
        "Architecture": config.architecture,
        "Variant": config.variant.as_deref().unwrap_or_default(),
        "Os": config.os,
        "Size": store.size_of(image)?,
        "RootFS": { "Type": "layers", "Layers": config.rootfs.diff_ids },
        "Annotations": image.manifest.value().annotations,
        "History": config.history,
        "Descriptor": descriptor,
        "Layers": image.manifest.value().layers,
    });
    if config.variant.is_none() {
        value.as_object_mut().map(|fields| fields.remove("Variant"));
    }
    Ok(value)
}

/// The defaults for containers, with the fields that docker always shows.
fn container(config: &crate::image::Config) -> Result<Value, Report> {
    let mut shown = json!({
        "User": "",
        "Env": null,
        "Cmd": null,
        "Entrypoint": null,
        "WorkingDir": "",
        "Volumes": null,
        "Labels": null,
        "OnBuild": null,
    });
    if let (Value::Object(shown), Value::Object(set)) =
        (&mut shown, serde_json::to_value(&config.config)?)
    {
        shown.extend(set);
    }
    Ok(shown)
}

/// The names with a tag, and those with a digest.
fn names(store: &Store, image: &Image) -> Result<(Vec<String>, Vec<String>), Report> {
    let listed = store
        .images()?
        .into_iter()
        .find(|listed| listed.id == image.id());
    let Some(listed) = listed else {
        return Ok((Vec::new(), Vec::new()));
    };
    let shown = |names: Vec<Reference>| names.iter().map(Reference::familiar).collect();
    Ok((shown(listed.names), shown(listed.digests)))
}
