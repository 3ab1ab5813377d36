//! `RUN --mount`: fills in what the stage decides, such as WORKDIR and the names of `from`.

use crate::dockerfile::{Error, ErrorKind, Expander, Mount, MountError, MountKind, MountSpec};
use crate::layer::TreePath;

use super::super::error::StepError;
use super::super::eval::Evaluator;
use super::super::mount::{BindMount, CacheMount, Owned, SecretMount, SshMount, StepMount};
use super::super::step::CopyFrom;
use super::{At, StageState, workdir_of};

/// The build argument that keeps the caches of different projects apart.
const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

impl Evaluator<'_, '_> {
    /// Decides all mounts of one RUN.
    pub(super) fn mounts(
        &mut self,
        state: &mut StageState,
        at: &At<'_>,
        specs: &[MountSpec],
    ) -> Result<Vec<StepMount>, StepError> {
        let mut mounts = Vec::new();
        let mut agents = 0;
        for spec in specs {
            let mount = self.resolve(state, spec)?;
            let decided = match mount.kind {
                MountKind::Bind => self.bind(state, at, spec, mount)?,
                MountKind::Cache => self.cache(state, at, spec, mount)?,
                MountKind::Tmpfs => StepMount::Tmpfs {
                    target: self.target(state, spec, mount.target.as_deref())?,
                    size: mount.size.filter(|size| *size > 0),
                    read_only: mount.read_only,
                },
                MountKind::Secret => self.secret(state, spec, mount)?,
                MountKind::Ssh => {
                    agents += 1;
                    self.ssh(state, spec, mount, agents - 1)?
                }
            };
            if let Some(CopyFrom::Stage(stage)) = decided.from()
                && !state.needs.contains(stage)
            {
                state.needs.push(*stage);
            }
            mounts.push(decided);
        }
        Ok(mounts)
    }

    /// Expands the values of one flag.
    pub(super) fn resolve(&self, state: &StageState, spec: &MountSpec) -> Result<Mount, StepError> {
        let look_up = |name: &str| state.scope.env.get(name).map(str::to_owned);
        let mut expander = Expander::new(self.dockerfile.directives.escape, &look_up);
        spec.resolve(&mut |text| expander.word(text))
            .map_err(|fault| {
                let error = Error::new(self.file, ErrorKind::Mount(fault.error), fault.span);
                StepError::Text(error.suggest(fault.suggestion))
            })
    }

    fn fault(&self, spec: &MountSpec, error: MountError) -> StepError {
        StepError::Text(Error::new(self.file, ErrorKind::Mount(error), spec.span))
    }

    /// The path that `target` names from WORKDIR; nothing at all is WORKDIR itself.
    fn target(
        &self,
        state: &StageState,
        spec: &MountSpec,
        target: Option<&str>,
    ) -> Result<TreePath, StepError> {
        let text = target.unwrap_or_default();
        let path = if text.starts_with('/') {
            clean(text)?
        } else {
            clean(&format!("{}/{text}", workdir_of(&state.config)))?
        };
        if path.is_root() {
            let target = if text.is_empty() { "/" } else { text }.to_owned();
            return Err(self.fault(spec, MountError::Target { target }));
        }
        Ok(path)
    }

    /// Whom `from` means; nothing for none at all.
    fn mount_from(&mut self, at: &At<'_>, spec: &MountSpec) -> Result<Option<CopyFrom>, StepError> {
        match spec.from.as_ref().filter(|from| !from.text.is_empty()) {
            None => Ok(None),
            Some(_) if from_scratch(spec) => Ok(None),
            Some(name) => self.copy_from(at, name).map(Some),
        }
    }

    fn bind(
        &mut self,
        state: &StageState,
        at: &At<'_>,
        spec: &MountSpec,
        mount: Mount,
    ) -> Result<StepMount, StepError> {
        if from_scratch(spec) {
            // Nothing to bind: what may be written is gone afterwards, as in a tmpfs.
            return Ok(StepMount::Tmpfs {
                target: self.target(state, spec, mount.target.as_deref())?,
                size: None,
                read_only: mount.read_only,
            });
        }
        let from = self.mount_from(at, spec)?;
        Ok(StepMount::Bind(BindMount {
            target: self.target(state, spec, mount.target.as_deref())?,
            from: from.unwrap_or(CopyFrom::Context),
            source: clean(mount.source.as_deref().unwrap_or_default())?,
            writable: !mount.read_only,
        }))
    }

    fn cache(
        &mut self,
        state: &StageState,
        at: &At<'_>,
        spec: &MountSpec,
        mount: Mount,
    ) -> Result<StepMount, StepError> {
        let source = clean(mount.source.as_deref().unwrap_or_default())?;
        // BuildKit makes a directory with these only where the cache itself is mounted.
        let owner = owned(&mount, 0o755).filter(|_| source.is_root());
        let target = self.target(state, spec, mount.target.as_deref())?;
        let id = match mount.id.as_ref().filter(|id| !id.is_empty()) {
            Some(id) => id.clone(),
            None => cleaned_id(mount.target.as_deref().unwrap_or_default()),
        };
        let space = self.build_args.get(CACHE_NAMESPACE).unwrap_or_default();
        Ok(StepMount::Cache(CacheMount {
            target,
            id: format!("{space}/{id}"),
            from: self.mount_from(at, spec)?,
            source,
            sharing: mount.sharing,
            read_only: mount.read_only,
            owner,
        }))
    }

    fn secret(
        &self,
        state: &StageState,
        spec: &MountSpec,
        mount: Mount,
    ) -> Result<StepMount, StepError> {
        let named = mount.target.as_deref().filter(|target| !target.is_empty());
        let base = |text: &str| {
            text.rsplit('/')
                .find(|part| !part.is_empty())
                .map(str::to_owned)
        };
        let id = match mount.id.as_ref().filter(|id| !id.is_empty()) {
            Some(id) => id.clone(),
            None => named.and_then(base).unwrap_or_default(),
        };
        let env = mount.env.clone().filter(|env| !env.is_empty());
        let target = match (named, &env) {
            (Some(target), _) => Some(self.target(state, spec, Some(target))?),
            (None, Some(_)) => None,
            (None, None) => {
                let name = base(&id).unwrap_or_default();
                let target = format!("/run/secrets/{name}");
                Some(self.target(state, spec, Some(&target))?)
            }
        };
        Ok(StepMount::Secret(SecretMount {
            id,
            target,
            env,
            owned: owned(&mount, 0o400).unwrap_or(OWNERS_ONLY),
            required: mount.required,
        }))
    }

    fn ssh(
        &self,
        state: &StageState,
        spec: &MountSpec,
        mount: Mount,
        number: usize,
    ) -> Result<StepMount, StepError> {
        let given = mount.target.clone().filter(|target| !target.is_empty());
        let target = given.unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{number}"));
        let id = mount.id.clone().filter(|id| !id.is_empty());
        Ok(StepMount::Ssh(SshMount {
            id: id.unwrap_or_else(|| "default".to_owned()),
            target: self.target(state, spec, Some(&target))?,
            owned: owned(&mount, 0o600).unwrap_or(Owned {
                mode: 0o600,
                ..OWNERS_ONLY
            }),
            required: mount.required,
        }))
    }
}

/// Whether `from` is the image without files.
fn from_scratch(spec: &MountSpec) -> bool {
    spec.from
        .as_ref()
        .is_some_and(|from| from.text == "scratch")
}

/// What a secret file has by default.
const OWNERS_ONLY: Owned = Owned {
    mode: 0o400,
    uid: 0,
    gid: 0,
};

/// Mode and owner as far as the mount says any of them.
fn owned(mount: &Mount, mode: u32) -> Option<Owned> {
    let said = mount.mode.is_some() || mount.uid.is_some() || mount.gid.is_some();
    said.then(|| Owned {
        mode: mount.mode.unwrap_or(mode),
        uid: mount.uid.unwrap_or(0),
        gid: mount.gid.unwrap_or(0),
    })
}

fn clean(text: &str) -> Result<TreePath, StepError> {
    TreePath::clean(text.as_bytes()).ok_or_else(|| StepError::NulInPath {
        path: text.to_owned(),
    })
}

/// The id that a cache has by its target: as Go's `path.Clean` writes it, so that `/a/` and `/a`
/// are one cache, and `a` another.
fn cleaned_id(target: &str) -> String {
    let rooted = target.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    match (rooted, path.is_empty()) {
        (true, _) => format!("/{path}"),
        (false, true) => ".".to_owned(),
        (false, false) => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_named_by_its_cleaned_target() {
        for (target, want) in [
            ("/root/.cache/", "/root/.cache"),
            ("/a//b/../c/.", "/a/c"),
            ("/..", "/"),
            ("cache", "cache"),
            ("../x/..", ".."),
            ("", "."),
        ] {
            assert_eq!(cleaned_id(target), want, "{target:?}");
        }
    }
}
