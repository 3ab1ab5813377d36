//! Whom a name means in an image: `/etc/passwd` and `/etc/group` of the layers below.

use crate::layer::{Tree, TreePath};
use crate::sandbox::user::{self, UserSpec};

use super::super::error::StepError;

/// How much of a user database is read, in bytes.
const CAP: u64 = 1 << 20;

/// Returns whether `spec` names nobody: it needs no database.
pub(in crate::build) fn is_numeric(spec: &str) -> bool {
    let spec = UserSpec(spec.to_owned());
    let numeric = |text: &str| text.is_empty() || user::numeric(text).is_some();
    numeric(spec.user()) && numeric(spec.group())
}

/// Returns owner and group that `spec` (`user`, `user:group`, names or numbers) stands for.
///
/// Without a group: a name brings its own from the database, a number is its own group, as in
/// BuildKit. What is empty before or behind a colon is root.
pub(in crate::build) fn look_up(below: &dyn Tree, spec: &str) -> Result<(u32, u32), StepError> {
    let spec = UserSpec(match spec.split_once(':') {
        Some((user, group)) => format!("{}:{}", or_root(user), or_root(group)),
        None => spec.to_owned(),
    });
    let (uid, gid) = runs_as(below, &spec)?;
    if user::numeric(spec.user()).is_some() && spec.group().is_empty() {
        return Ok((uid, uid));
    }
    Ok((uid, gid))
}

fn or_root(part: &str) -> &str {
    match part {
        "" => "0",
        part => part,
    }
}

/// Returns the user and group that a program started as `spec` has.
pub(super) fn runs_as(below: &dyn Tree, spec: &UserSpec) -> Result<(u32, u32), StepError> {
    let passwd = database(below, b"etc/passwd")?;
    let group = database(below, b"etc/group")?;
    let failed = |error| StepError::Owner { error };
    let who = user::resolve(spec, &passwd, &group).map_err(failed)?;
    Ok((who.uid, who.gid))
}

/// An image without the file knows nobody by name.
fn database(below: &dyn Tree, path: &[u8]) -> Result<Vec<u8>, StepError> {
    let path = TreePath::clean(path).unwrap_or_default();
    Ok(below.read_small(&path, CAP)?.unwrap_or_default())
}
