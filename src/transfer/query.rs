//! Questions to a registry that move no image, and logins.

use std::path::Path;

use crate::image::{Descriptor, Reference};
use crate::registry::{Credentials, Version};

use super::error::Error;
use super::network::Network;

/// Asks which document `name` leads to now, without reading it: what `--pull=newer` needs.
pub fn resolve(network: &Network, name: &Reference) -> Result<Descriptor, Error> {
    let reader = network.reader(name)?;
    network.wait(reader.resolve(Version::of(name)))
}

/// Lists the tags of the repository that `name` is in.
pub fn tags(network: &Network, name: &Reference) -> Result<Vec<String>, Error> {
    network.wait(network.reader(name)?.tags())
}

/// Checks `credentials` at `registry` (`HOST[:PORT]`) and keeps them in the auth file, or in the
/// helper that it names. Nothing is kept when they are not accepted.
pub fn login(
    network: &Network,
    registry: &str,
    credentials: &Credentials,
    authfile: &Path,
) -> Result<(), Error> {
    network.wait(network.client().login(registry, credentials))?;
    let kept = network.client().keep_login(authfile, registry, credentials);
    Ok(kept?)
}

/// Forgets the login for `registry` and returns whether there was one.
pub fn logout(network: &Network, registry: &str, authfile: &Path) -> Result<bool, Error> {
    Ok(network.client().forget_login(authfile, registry)?)
}
