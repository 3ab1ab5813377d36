//! Whom a name means in an image: `/etc/passwd` and `/etc/group` of the layers below.

use crate::layer::{Tree, TreePath};
use crate::sandbox::user::{self, UserSpec};

use super::super::error::StepError;

/// How much of a user database is read, in bytes.
const CAP: u64 = 1 << 20;

/// Returns owner and group that `spec` (`user`, `user:group`, names or numbers) stands for.
///
/// Without a group: the user's own from the database, or for a number that it does not list the
/// same number.
pub(in crate::build) fn look_up(below: &dyn Tree, spec: &str) -> Result<(u32, u32), StepError> {
    let spec = UserSpec(spec.to_owned());
    let passwd = database(below, b"etc/passwd")?;
    let group = database(below, b"etc/group")?;
    let failed = |error| StepError::Owner { error };
    let who = user::resolve(&spec, &passwd, &group).map_err(failed)?;
    let unlisted = user::numeric(spec.user()).is_some()
        && !user::passwd(&passwd).any(|entry| entry.uid == who.uid);
    let gid = if unlisted && spec.group().is_empty() {
        who.uid
    } else {
        who.gid
    };
    Ok((who.uid, gid))
}

/// An image without the file knows nobody by name.
fn database(below: &dyn Tree, path: &[u8]) -> Result<Vec<u8>, StepError> {
    let path = TreePath::clean(path).unwrap_or_default();
    Ok(below.read_small(&path, CAP)?.unwrap_or_default())
}
