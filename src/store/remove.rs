//! `rmi`: names go first, the image with its last one, as docker does it.
//!
//! - A name that is one of several is only taken away. With the last tag of a repository go the
//!   digests by which that repository knows the image.
//! - The last name takes the image with it, unless a container was made from it: then `force` is
//!   needed, and while such a container runs nothing helps.
//! - By id, an image goes with all its names, if they are of one repository or `force` is given.

use super::Store;
use super::error::Error;
use super::gc::Removed;
use super::images::{Catalog, Name};
use crate::image::{Descriptor, ImageId, Reference};

impl Store {
    /// Removes the name or image that `text` means. What its layers held is freed now, or by the
    /// next prune when another process works in the store.
    pub fn remove_image(&self, text: &str, force: bool) -> Result<Removed, Error> {
        let target = self.need(text)?;
        let catalog = self.catalog()?;
        let plan = match &target.name {
            Some(name) => by_name(&catalog, name),
            None => by_id(&catalog, &target.descriptor, force)?,
        };
        for id in &plan.deleted {
            let (containers, running) = self.users_of(id)?;
            if running || (!force && !containers.is_empty()) {
                return Err(Error::InUse {
                    image: id.clone(),
                    containers,
                    running,
                });
            }
        }
        let mut manifests = vec![target.descriptor];
        for id in &plan.deleted {
            manifests.extend(self.manifests_of(id)?);
        }
        let gone = catalog
            .names
            .iter()
            .filter(|name| plan.untagged.contains(&name.name));
        manifests.extend(gone.map(|name| name.target.clone()));
        let mut removed = plan;
        self.forget(&removed.untagged, &removed.deleted)?;
        if !removed.deleted.is_empty() {
            self.sweep_images(&mut removed, &manifests)?;
        }
        Ok(removed)
    }
}

/// What goes when the name `gone` is removed.
fn by_name(catalog: &Catalog, gone: &Reference) -> Removed {
    let Some(name) = catalog.names.iter().find(|name| name.name == *gone) else {
        // Read a moment ago and removed by somebody else since.
        return Removed::default();
    };
    let others: Vec<&Name> = catalog
        .names
        .iter()
        .filter(|other| other.name != *gone && shares_image(other, name))
        .collect();
    let mut untagged = vec![gone.clone()];
    if gone.digest().is_none() {
        let same_repository = |other: &&Name| other.name.name() == gone.name();
        let (tags, digests): (Vec<&Name>, Vec<&Name>) = others
            .iter()
            .filter(|other| same_repository(other))
            .partition(|other| other.name.digest().is_none());
        if tags.is_empty() {
            untagged.extend(digests.iter().map(|name| name.name.clone()));
        }
    }
    let left = |id: &ImageId| {
        let kept = others
            .iter()
            .filter(|other| !untagged.contains(&other.name));
        kept.into_iter().any(|other| other.images.contains(id))
    };
    let deleted = name.images.iter().filter(|id| !left(id)).cloned().collect();
    Removed {
        untagged,
        deleted,
        ..Removed::default()
    }
}

/// What goes when the image behind `target` is removed.
fn by_id(catalog: &Catalog, target: &Descriptor, force: bool) -> Result<Removed, Error> {
    let has = |(_, manifests): &&(ImageId, Vec<Descriptor>)| {
        manifests.iter().any(|m| m.digest == target.digest)
    };
    let mut ids: Vec<ImageId> = catalog
        .images
        .iter()
        .filter(has)
        .map(|(id, _)| id.clone())
        .collect();
    let named = catalog
        .names
        .iter()
        .filter(|name| name.target.digest == target.digest);
    ids.extend(named.flat_map(|name| name.images.clone()));
    ids.sort();
    ids.dedup();
    let names: Vec<Reference> = catalog
        .names
        .iter()
        .filter(|name| name.images.iter().any(|id| ids.contains(id)))
        .map(|name| name.name.clone())
        .collect();
    let mut repositories: Vec<String> = names
        .iter()
        .filter(|name| name.digest().is_none())
        .map(Reference::name)
        .collect();
    repositories.dedup();
    if repositories.len() > 1
        && !force
        && let Some(image) = ids.first()
    {
        return Err(Error::SeveralNames {
            image: image.clone(),
            names,
        });
    }
    Ok(Removed {
        untagged: names,
        deleted: ids,
        ..Removed::default()
    })
}

fn shares_image(a: &Name, b: &Name) -> bool {
    a.images.iter().any(|id| b.images.contains(id))
}
