//! `untag`: take names away from an image.

use crate::cli::report::Report;
use crate::cli::{Session, ui};
use crate::image::Reference;

/// Take names away from an image, all of them unless some are given
///
/// The image stays in the store; `prune` removes images without a name.
#[derive(Debug, clap::Args)]
pub(crate) struct Untag {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// The names to take away
    #[arg(value_name = "NAME")]
    names: Vec<Reference>,
}

impl Untag {
    /// Takes them away.
    pub(crate) fn run(self, session: &Session) -> Result<(), Report> {
        let store = session.store()?;
        let target = store.need(&self.image)?;
        let own = store.references()?.into_iter();
        let own = own.filter(|(_, to)| to.digest == target.descriptor.digest);
        let own: Vec<Reference> = own.map(|(name, _)| name).collect();
        if let Some(foreign) = self.names.iter().find(|name| !own.contains(name)) {
            let text = format!("`{foreign}` is no name of image `{}`", self.image);
            return Err(Report::failed(text));
        }
        let names = if self.names.is_empty() {
            own
        } else {
            self.names
        };
        for name in &names {
            store.untag(name)?;
            ui::data(&format!("Untagged: {name}"))?;
        }
        Ok(())
    }
}
