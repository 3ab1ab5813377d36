//! `images`: what is in the store.

use std::collections::HashMap;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::until;
use crate::cli::filters;
use crate::cli::report::{Report, wrong_format};
use crate::cli::ui::listing::{Format, Listing};
use crate::cli::ui::{self, human};
use crate::cli::{Session, glob};
use crate::image::{ImageId, Platform, Reference};
use crate::runner;
use crate::store::{Listed, Store};

const NONE: &str = "<none>";

const IMAGES: Listing = Listing {
    columns: &["Repository", "Tag", "ID", "CreatedSince", "Size"],
    heads: HEADS,
    raw: "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\n\
          virtual_size: {{.Size}}\n",
};
const WITH_DIGESTS: Listing = Listing {
    columns: &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"],
    heads: HEADS,
    raw: "repository: {{.Repository}}\ntag: {{.Tag}}\ndigest: {{.Digest}}\nimage_id: {{.ID}}\n\
          created_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
};
const HEADS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("VirtualSize", "SIZE"),
];

/// List images
#[derive(Debug, clap::Args)]
pub(crate) struct Images {
    /// Only this repository, or this name
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,

    /// Accepted and without effect: there are no intermediate images
    #[arg(short, long, hide = true)]
    all: bool,

    /// Ids only
    #[arg(short, long)]
    quiet: bool,

    /// Ids in full
    #[arg(long)]
    no_trunc: bool,

    /// Also the digests by which registries know the images
    #[arg(long)]
    digests: bool,

    /// Only images that match: `reference=PATTERN`, `label=KEY[=VALUE]`, `dangling=BOOL`,
    /// `before=IMAGE`, `since=IMAGE`, `until=TIME`
    #[arg(short, long = "filter", value_name = "FILTER", value_parser = Filter::parse)]
    filters: Vec<Filter>,

    /// `table`, `json` (one object a line), or a template of Repository, Tag, ID, Digest,
    /// CreatedSince, CreatedAt, Size
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
    Reference(String),
    Label(filters::Label),
    Dangling(bool),
    Before(String),
    Since(String),
    Until(SystemTime),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected `KEY=VALUE`")?;
        let owned = value.to_owned();
        Ok(match key {
            "reference" => Self::Reference(owned),
            "label" => Self::Label(filters::Label::parse(value)),
            "dangling" => Self::Dangling(filters::switch(value)?),
            "before" => Self::Before(owned),
            "since" => Self::Since(owned),
            "until" => Self::Until(until(text)?),
            _ => {
                let known = "reference, label, dangling, before, since, until";
                return Err(format!("there is no filter `{key}`, only {known}"));
            }
        })
    }

    /// The pattern of a `reference`.
    fn pattern(&self) -> Option<&String> {
        match self {
            Self::Reference(pattern) => Some(pattern),
            _ => None,
        }
    }
}

/// One line of the listing: an image under one of its names.
struct Row<'a> {
    image: &'a Listed,
    name: Option<&'a Reference>,
}

impl Row<'_> {
    fn is_one_of(&self, patterns: &[&String]) -> bool {
        self.name
            .is_some_and(|name| patterns.iter().any(|pattern| matches(name, pattern)))
    }
}

impl Images {
    /// Lists them.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let store = session.store()?;
        let images = store.images()?;
        let mut rows: Vec<Row<'_>> = images.iter().flat_map(rows_of).collect();
        if let Some(name) = &self.name {
            rows.retain(|row| row.name.is_some_and(|own| is_named(own, name)));
        }
        let patterns: Vec<&String> = self.filters.iter().filter_map(Filter::pattern).collect();
        rows.retain(|row| patterns.is_empty() || row.is_one_of(&patterns));
        for filter in &self.filters {
            self.apply(filter, &store, &images, &mut rows)?;
        }
        if self.quiet {
            let ids = rows.iter().map(|row| self.id(&row.image.id) + "\n");
            return ui::raw_data(ids.collect::<String>().as_bytes());
        }
        let now = SystemTime::now();
        let users = self.users(&store)?;
        let values = rows.iter().map(|row| self.value(row, now, &users));
        let values: Vec<Value> = values.collect();
        let listing = if self.digests { WITH_DIGESTS } else { IMAGES };
        let text = listing
            .render(&self.format, &values)
            .map_err(wrong_format)?;
        ui::raw_data(text.as_bytes())
    }

    fn apply(
        &self,
        filter: &Filter,
        store: &Store,
        images: &[Listed],
        rows: &mut Vec<Row<'_>>,
    ) -> Result<(), Report> {
        match filter {
            Filter::Dangling(want) => rows.retain(|row| row.name.is_none() == *want),
            // Alternatives, so they were looked at together.
            Filter::Reference(_) => {}
            Filter::Label(label) => {
                let mut kept = Vec::new();
                for row in rows.drain(..) {
                    let image = store.image(&row.image.manifest.digest, &Platform::host())?;
                    if label.fits(&image.config.value().config.labels) {
                        kept.push(row);
                    }
                }
                *rows = kept;
            }
            Filter::Until(time) => rows.retain(|row| {
                let created = human::parse_time(row.image.created.as_deref());
                created.is_some_and(|created| created < *time)
            }),
            // The listing is sorted, the newest first.
            Filter::Before(text) => {
                let at = place_of(store, images, text)?;
                rows.retain(|row| place(images, &row.image.id) > Some(at));
            }
            Filter::Since(text) => {
                let at = place_of(store, images, text)?;
                rows.retain(|row| place(images, &row.image.id) < Some(at));
            }
        }
        Ok(())
    }

    fn id(&self, id: &ImageId) -> String {
        match self.no_trunc {
            true => id.to_string(),
            false => id.digest().short().to_owned(),
        }
    }

    /// How many containers were made from each image, if that may be shown.
    fn users(&self, store: &Store) -> Result<HashMap<ImageId, usize>, Report> {
        let mut users = HashMap::new();
        if matches!(self.format, Format::Json) || self.format.names("Containers") {
            for (container, _) in runner::list(store)? {
                *users.entry(container.config.image).or_default() += 1;
            }
        }
        Ok(users)
    }

    fn value(&self, row: &Row<'_>, now: SystemTime, users: &HashMap<ImageId, usize>) -> Value {
        let repository = row
            .name
            .map_or_else(|| NONE.to_owned(), Reference::familiar_name);
        let tag = row.name.and_then(Reference::tag).unwrap_or(NONE);
        let same = |digest: &&Reference| Some(digest.name()) == row.name.map(Reference::name);
        let digest = row
            .image
            .digests
            .iter()
            .find(same)
            .and_then(Reference::digest);
        let created = human::parse_time(row.image.created.as_deref());
        json!({
            "ID": self.id(&row.image.id),
            "Repository": repository,
            "Tag": tag,
            "Digest": digest.map_or(NONE, |digest| digest.as_str()),
            "CreatedAt": created.map_or_else(|| "N/A".to_owned(), human::date),
            "CreatedSince": created.map_or_else(|| "N/A".to_owned(), |then| human::ago(then, now)),
            "Size": human::size(row.image.size),
            "VirtualSize": human::sum(row.image.size),
            "Containers": users.get(&row.image.id).unwrap_or(&0).to_string(),
            // `df -v` tells.
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
        })
    }
}

fn rows_of(image: &Listed) -> Vec<Row<'_>> {
    match image.names.as_slice() {
        // An image that was pulled by digest only is known by its repository.
        [] => match image.digests.as_slice() {
            [] => vec![Row { image, name: None }],
            digests => digests
                .iter()
                .map(|name| Row {
                    image,
                    name: Some(name),
                })
                .collect(),
        },
        names => names
            .iter()
            .map(|name| Row {
                image,
                name: Some(name),
            })
            .collect(),
    }
}

/// Whether `name` is what was typed: a repository with all its tags, or one tag.
fn is_named(name: &Reference, typed: &str) -> bool {
    match typed.parse::<Reference>() {
        Ok(wanted) if has_tag(typed) => wanted == *name,
        Ok(wanted) => wanted.name() == name.name(),
        Err(_) => matches(name, typed),
    }
}

fn has_tag(typed: &str) -> bool {
    typed
        .rsplit('/')
        .next()
        .is_some_and(|last| last.contains([':', '@']))
}

/// docker's `reference` filter: a pattern for the name, with or without tag.
fn matches(name: &Reference, pattern: &str) -> bool {
    let forms = [
        name.familiar(),
        name.familiar_name(),
        name.full(),
        name.name(),
    ];
    forms.iter().any(|form| glob::matches(pattern, form))
}

fn place(images: &[Listed], id: &ImageId) -> Option<usize> {
    images.iter().position(|image| image.id == *id)
}

fn place_of(store: &Store, images: &[Listed], text: &str) -> Result<usize, Report> {
    let target = store.need(text)?;
    let id = store.image_meant(&target.descriptor.digest, None)?.id();
    place(images, &id).ok_or_else(|| Report::failed(format!("no image `{text}` in the store")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_by_repository_or_tag() {
        let name: Reference = "me/app:1".parse().unwrap();
        for (typed, fits) in [
            ("me/app", true),
            ("docker.io/me/app", true),
            ("me/app:1", true),
            ("me/app:2", false),
            ("app", false),
            ("me/*", true),
        ] {
            assert_eq!(is_named(&name, typed), fits, "{typed}");
        }
        assert!(matches(&name, "*/app") && matches(&name, "me/app:*") && !matches(&name, "*"));
    }

    #[test]
    fn filters_say_what_they_take() {
        assert!(matches!(Filter::parse("label=a=b"), Ok(Filter::Label(_))));
        assert!(matches!(
            Filter::parse("dangling=true"),
            Ok(Filter::Dangling(true))
        ));
        assert!(Filter::parse("size=1").is_err() && Filter::parse("dangling=x").is_err());
    }
}
