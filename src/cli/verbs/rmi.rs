//! `rmi`: remove names and images.

use crate::cli::report::{Failures, Report};
use crate::cli::{Session, ui};
use crate::store::{Error, Removed, Store};

/// Remove images
///
/// A name that is one of several is only taken away; the last one takes the image with it.
#[derive(Debug, clap::Args)]
pub(crate) struct Rmi {
    /// Names or ids of images
    #[arg(value_name = "IMAGE", required_unless_present = "all")]
    images: Vec<String>,

    /// All images
    #[arg(short, long, conflicts_with = "images")]
    all: bool,

    /// Also images with several names or with containers that do not run; images that are not
    /// there are no error
    #[arg(short, long)]
    force: bool,
}

impl Rmi {
    /// Removes one after the other; what can't be removed does not keep the others.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let store = session.store()?;
        let images = match self.all {
            true => store
                .images()?
                .iter()
                .map(|image| image.id.to_string())
                .collect(),
            false => self.images,
        };
        let mut failures = Failures::default();
        for text in &images {
            if let Err(report) = remove(&store, text, self.force) {
                failures.add(report);
            }
        }
        failures.result()
    }
}

fn remove(store: &Store, text: &str, force: bool) -> Result<(), Report> {
    match store.remove_image(text, force) {
        Ok(removed) => tell(&removed),
        Err(error @ Error::NoImage { .. }) if force => {
            ui::note(&format!("warning: {error}"));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Says what went, in docker's words.
fn tell(removed: &Removed) -> Result<(), Report> {
    for name in &removed.untagged {
        ui::data(&format!("Untagged: {name}"))?;
    }
    for id in &removed.deleted {
        ui::data(&format!("Deleted: {id}"))?;
    }
    Ok(())
}
