//! `tag`: give an image further names.

use crate::cli::Session;
use crate::cli::report::Report;
use crate::image::Reference;

/// Give an image further names
#[derive(Debug, clap::Args)]
pub(crate) struct Tag {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// The new names
    #[arg(value_name = "NAME", required = true, value_parser = tagged)]
    names: Vec<Reference>,
}

/// Parses a name that can be given: one with a tag and no digest.
pub(crate) fn tagged(text: &str) -> Result<Reference, String> {
    let name: Reference = text
        .parse()
        .map_err(|error: crate::image::ReferenceError| error.to_string())?;
    match name.digest() {
        None => Ok(name),
        Some(_) => Err("a digest is what an image is, not a name to give".to_owned()),
    }
}

impl Tag {
    /// Names it.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let store = session.store()?;
        let target = store.need(&self.image)?;
        for name in &self.names {
            store.tag(name, &target.descriptor)?;
        }
        Ok(())
    }
}
