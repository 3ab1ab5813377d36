//! `cask commit`: a container's writable layer as an image.

use crate::event::Sink;
use crate::image::{ContainerConfig, Descriptor, DiffId, History, Manifest, Raw, media};
use crate::layer::{EncodeOptions, encode};
use crate::store::{Found, Image, Store};

use super::container::{Container, now};
use super::error::Error;
use super::files::written;

/// What is said about the new image.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Who made it.
    pub author: Option<String>,
    /// Why.
    pub message: Option<String>,
    /// Its defaults, if not those of [`defaults`].
    pub config: Option<ContainerConfig>,
}

/// The defaults that a container was made with: its image's, and what was asked for.
pub fn defaults(container: &Container) -> ContainerConfig {
    let request = &container.config.request;
    let mut own = container.config.image_config.clone();
    for pair in &request.env {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        own.set_env(key, value);
    }
    if let Some(program) = &request.entrypoint {
        own.entrypoint = (!program.is_empty()).then(|| vec![program.clone()]);
        own.cmd = None;
    }
    if !request.args.is_empty() {
        own.cmd = Some(request.args.clone());
    }
    if let Some(user) = &request.user {
        own.user.clone_from(user);
    }
    if let Some(workdir) = &request.workdir {
        own.working_dir.clone_from(workdir);
    }
    own.labels.extend(request.labels.clone());
    own
}

/// Makes an image of a container: its image with one layer more, and with the defaults that the
/// container was made with. Volumes are not in it. It gets no name and is not synced.
pub fn commit(
    store: &Store,
    container: &Container,
    about: &Commit,
    sink: &dyn Sink,
) -> Result<Image, Error> {
    container.refuse_dead()?;
    let _work = store.work()?;
    let id = container.config.image.to_string();
    let base = match store.find(&id, &crate::image::Platform::host())? {
        Found::Image(image) | Found::OtherPlatform(image) => image,
        Found::Nothing { nearest } => return Err(Error::NoImage { text: id, nearest }),
    };
    let (changes, _) = written(store, container, sink)?;
    let mut writer = store.blob_writer()?;
    encode(&changes, &EncodeOptions::default(), &mut writer)?;
    let layer = writer.finish()?;
    let diff_id = DiffId(layer.digest().clone());
    let mut config = base.config.value().clone();
    let created = now();
    config.created = Some(created.clone());
    config.author.clone_from(&about.author);
    config.history.push(History {
        created: Some(created),
        created_by: Some(container.config.command.join(" ")),
        author: about.author.clone(),
        comment: about.message.clone(),
        ..History::default()
    });
    config.rootfs.diff_ids.push(diff_id.clone());
    let given = about.config.clone();
    config.config = given.unwrap_or_else(|| defaults(container));
    let config = Raw::of(config);
    let mut layers = base.manifest.value().layers.clone();
    layers.push(Descriptor::new(media::LAYER, diff_id.0, layer.size()));
    let manifest = Manifest::oci(config.descriptor(media::CONFIG), layers);
    Ok(store.put_image(&Raw::of(manifest), &config)?)
}
