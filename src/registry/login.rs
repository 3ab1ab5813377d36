//! Keeping and forgetting logins, in the files that docker and podman read.

use std::path::Path;

use super::authfile;
use super::client::Client;
use super::error::Error;
use super::options::Credentials;

impl Client {
    /// Keeps the login for `registry` (`HOST[:PORT]`) in the auth file at `path`, or gives it to
    /// the helper that the file names. Other fields stay, the file is readable by its owner
    /// only, and it is replaced in one step.
    pub fn keep_login(
        &self,
        path: &Path,
        registry: &str,
        credentials: &Credentials,
    ) -> Result<(), Error> {
        let search = self.options().helper_path.as_deref();
        authfile::store(path, registry, credentials, search)
    }

    /// Removes the login for `registry` from the auth file at `path` and from its helper.
    /// Returns whether there was one.
    pub fn forget_login(&self, path: &Path, registry: &str) -> Result<bool, Error> {
        authfile::erase(path, registry, self.options().helper_path.as_deref())
    }
}
