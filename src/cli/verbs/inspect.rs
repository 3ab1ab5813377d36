//! `inspect`: everything about an image, as docker's JSON.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::cli::report::{Failures, Report, wrong_format};
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

    /// What the names are of: image or container, with cask network or volume as well
    /// [default: whatever there is, in this order but containers first]
    #[arg(
        short = 't',
        long = "type",
        value_name = "TYPE",
        hide_default_value = true
    )]
    kind: Option<Kind>,

    /// Of containers also how much they have written, and with their images' files
    #[arg(short, long)]
    size: bool,

    /// What else the names may stand for.
    #[arg(skip)]
    others: &'static [(Kind, Look)],
}

/// What a name may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Image,
    Container,
    Network,
    Volume,
}

/// Everything about the thing of this name, or `None` if there is none. Sizes are dear, so they
/// are asked for.
pub(crate) type Look = fn(&Store, &str, bool) -> Result<Option<Value>, Report>;

impl Inspect {
    /// Looks for other things as well, for containers before images.
    pub(crate) fn look_for(&mut self, others: &'static [(Kind, Look)]) {
        self.others = others;
    }

    /// Looks for things of one kind, whatever `--type` says.
    pub(crate) fn look_only_for(&mut self, kind: Kind) {
        self.kind = Some(kind);
    }

    /// Shows it: a JSON list, or a line for each image when there is a template. Images that
    /// are not there are told after those that are.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        if let Some(text) = self.format.as_deref().filter(|text| *text != "json") {
            // A slip of the pen comes first.
            Template::parse(text).map_err(wrong_format)?;
        }
        let store = session.store()?;
        let (values, failures) = collect(&self.images, |text| self.find(&store, text));
        let volumes = self.others.iter().any(|(kind, _)| *kind == Kind::Volume);
        match &values[..] {
            // buildah, which knows no volumes, has one container as it is.
            [one] if self.kind == Some(Kind::Container) && self.format.is_none() && !volumes => {
                ui::data(&format!("{one:#}"))?;
            }
            _ => show_inspected(values, self.format.as_deref())?,
        }
        tell(failures)
    }

    fn find(&self, store: &Store, text: &str) -> Result<Value, Report> {
        let wanted = |kind| self.kind.is_none_or(|wanted| wanted == kind);
        let look = |first: bool| {
            let others = self.others.iter().filter(|(kind, _)| wanted(*kind));
            let mut others = others.filter(|(kind, _)| (*kind == Kind::Container) == first);
            let found = others.find_map(|(_, look)| look(store, text, self.size).transpose());
            found.transpose()
        };
        if let Some(value) = look(true)? {
            return Ok(value);
        }
        let missing = match (wanted(Kind::Image), self.kind) {
            (true, _) => match store.need(text) {
                Ok(target) => {
                    let digest = &target.descriptor.digest;
                    let image = store.image_meant(digest, self.platform.as_ref())?;
                    return value(store, &image);
                }
                Err(error) => error.into(),
            },
            (false, kind) => {
                let kind = kind.and_then(|kind| kind.to_possible_value());
                let kind = kind.map_or_else(String::new, |kind| kind.get_name().to_owned());
                Report::failed(format!("there is no {kind} `{text}`"))
            }
        };
        look(false)?.ok_or(missing)
    }
}

/// Shows what `find` finds by each name, and then what it does not find.
pub(crate) fn inspect_all(
    names: &[String],
    format: Option<&str>,
    find: impl Fn(&str) -> Result<Value, Report>,
) -> Result<(), Report> {
    let (values, failures) = collect(names, find);
    show_inspected(values, format)?;
    tell(failures)
}

fn collect(
    names: &[String],
    find: impl Fn(&str) -> Result<Value, Report>,
) -> (Vec<Value>, Vec<Report>) {
    let (mut values, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        match find(name) {
            Ok(value) => values.push(value),
            Err(report) => failures.push(report),
        }
    }
    (values, failures)
}

fn tell(reports: Vec<Report>) -> Result<(), Report> {
    let mut failures = Failures::default();
    reports.into_iter().for_each(|report| failures.add(report));
    failures.result()
}

/// Shows values that were inspected: as a list, or a line for each when there is a template.
fn show_inspected(values: Vec<Value>, format: Option<&str>) -> Result<(), Report> {
    match format {
        None => ui::data(&format!("{:#}", Value::Array(values))),
        Some("json") => ui::data(&Value::Array(values)),
        Some(text) => {
            let template = Template::parse(text).map_err(wrong_format)?;
            for value in &values {
                ui::data(&template.render(value).map_err(wrong_format)?)?;
            }
            Ok(())
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
        // Only docker's old builder knows one.
        "Parent": "",
        "Comment": last.unwrap_or_default(),
        "Created": config.created,
        "DockerVersion": "",
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
