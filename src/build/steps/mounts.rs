//! `RUN --mount`: what the step's key says of its mounts, and making them.
//!
//! | mount | comes from |
//! |---|---|
//! | bind of a stage or image | its layers stacked for this mount alone, or a copy where RUN has one; writes go to a scratch directory |
//! | bind of the context, read-only | the caller's own files, if the step may see all of them and they are root's |
//! | other bind of the context | a copy: without what the ignore file hides, owned by root, writable |
//! | cache | a directory of the store, by descriptor |
//! | secret | memory |
//! | device | nodes and files that the machine's CDI specifications name |
//! | ssh | a socket of ours that leads to the caller's agent |
//!
//! Whatever a Dockerfile named is opened below a descriptor and mounted by descriptor. Nothing
//! here is in the layer; what a step changes in a bind is gone when it ends.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::dockerfile::Sharing;
use crate::event::Event;
use crate::image::{ChainId, DiffId, Digest};
use crate::layer::{Change, Changes, TreeForm, TreePath, write_tree};
use crate::sandbox::userns::Refusal;
use crate::sandbox::{Access, Content, Mount, MountKind, Overlay, Propagation, Source};
use crate::store::{Cache, CacheRequest, CacheUse, Scratch};

use super::super::contents;
use super::super::context::Context;
use super::super::error::StepError;
use super::super::key::Inputs;
use super::super::mount::{BindMount, CacheMount, Owned, SecretMount, SshMount, StepMount};
use super::super::request::{Snapshotter, Walls};
use super::super::select::{self, Pick, Shape};
use super::super::stage::Runner;
use super::super::step::{CopyFrom, RunStep};
use super::super::{cache, cdi};
use super::agent::Agent;
use super::copy::{files_of, from_label, hash, layers_of};
use super::cover::Cover;
use super::ground::snapshotter;
use super::run::{lowers, take_over_root};

/// Records of what files of a stage or image hash to.
const MOUNTED: &str = "mounted";
/// Where programs look for their agent.
const AGENT: &str = "SSH_AUTH_SOCK";

/// The mounts of one step, made. What they stand on lives as long as this.
#[derive(Default)]
pub(super) struct Mounted {
    /// For the plan.
    pub(super) mounts: Vec<Mount>,
    /// The descriptors that those name by index.
    pub(super) fds: Vec<OwnedFd>,
    /// What is put in their places instead, where nothing can be mounted.
    pub(super) covers: Vec<Cover>,
    /// Variables that come with them.
    pub(super) env: Vec<(String, Vec<u8>)>,
    scratch: Vec<Scratch>,
    caches: BTreeMap<Digest, Cache>,
    agents: Vec<Agent>,
}

/// Adds to the key what the mounts of a step are, with the contents of those that have any.
pub(super) fn inputs(
    runner: &Runner<'_>,
    run: &RunStep,
    inputs: &mut Inputs,
) -> Result<(), StepError> {
    for mount in &run.mounts {
        let path = |path: &TreePath| path.to_string();
        let fields: Vec<String> = match mount {
            StepMount::Bind(bind) => vec![
                "bind".to_owned(),
                path(&bind.target),
                content(runner, &bind.from, &bind.source)?.to_string(),
                bind.writable.to_string(),
            ],
            StepMount::Cache(cache) => vec![
                "cache".to_owned(),
                path(&cache.target),
                cache_key(runner, cache)?.to_string(),
                path(&cache.source),
                format!("{:?} {}", cache.sharing, cache.read_only),
            ],
            StepMount::Tmpfs {
                target,
                size,
                read_only,
            } => vec![
                "tmpfs".to_owned(),
                path(target),
                format!("{size:?} {read_only}"),
            ],
            // Never the value, nor whether there is one.
            StepMount::Secret(secret) => vec![
                "secret".to_owned(),
                secret.id.clone(),
                format!("{:?} {:?}", secret.target, secret.env),
                format!("{:?} {}", secret.owned, secret.required),
            ],
            StepMount::Ssh(ssh) => vec![
                "ssh".to_owned(),
                ssh.id.clone(),
                path(&ssh.target),
                format!("{:?} {}", ssh.owned, ssh.required),
            ],
        };
        inputs.add_list("mount", fields);
    }
    Ok(())
}

/// What `source` is in `from`, with all below it.
fn pick(runner: &Runner<'_>, from: &CopyFrom, source: &TreePath) -> Result<Pick, StepError> {
    let world = runner.world;
    if let Some(context) = world.context(from) {
        return select::pick(context, source)?.ok_or_else(|| StepError::NoSource {
            ignored_by: context.ignored_by(source),
            source_path: source.to_string(),
        });
    }
    let files = files_of(runner, from)?;
    select::pick(&files, source)?.ok_or_else(|| StepError::NoSourceFrom {
        source_path: source.to_string(),
        from: from_label(runner, from),
    })
}

/// Digest of what `source` is in `from`.
fn content(runner: &Runner<'_>, from: &CopyFrom, source: &TreePath) -> Result<Digest, StepError> {
    let world = runner.world;
    if let Some(context) = world.context(from) {
        return context.fingerprint(&[pick(runner, from, source)?]);
    }
    if let CopyFrom::Stage(stage) = from
        && runner.done[stage].top.is_some()
    {
        // What lies on top of the layers of a working container may be another thing next time.
        return contents::fingerprint(&[pick(runner, from, source)?], |_| None, hash);
    }
    let layers = layers_of(runner, from);
    // Layers never change: what is in them is hashed once.
    let diff_ids: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let chain = ChainId::of(&diff_ids).map_or(String::new(), |chain| chain.to_string());
    let mut question = Inputs::new(MOUNTED, contents::VERSION);
    question
        .add("chain", &chain)
        .add("source", source.as_bytes());
    cache::answer(world, MOUNTED, &question, || {
        contents::fingerprint(&[pick(runner, from, source)?], |_| None, hash)
    })
}

/// What tells a cache from others: its id, what a new one begins with, and whose it is.
fn cache_key(runner: &Runner<'_>, cache: &CacheMount) -> Result<Digest, StepError> {
    let mut inputs = Inputs::new("cache", 1);
    inputs
        .add("id", &cache.id)
        .add("owner", format!("{:?}", cache.owner));
    if let Some(from) = &cache.from {
        let content = content(runner, from, &cache.source)?;
        inputs.add("seed", content.as_str());
    }
    Ok(inputs.key().0)
}

/// Makes the mounts of a step, in order; caches that are locked are waited for. Without a mount
/// namespace they are covers, or refused.
pub(super) fn make(runner: &Runner<'_>, run: &RunStep) -> Result<Mounted, StepError> {
    let mut mounted = Mounted::default();
    if let Walls::Chroot(why) = &runner.world.request.walls {
        mounted.cover(runner, run, why)?;
        return Ok(mounted);
    }
    mounted.take_caches(runner, run)?;
    for (name, required) in &run.devices {
        mounted.device(runner, name, *required)?;
    }
    let mut agent = None;
    for mount in &run.mounts {
        match mount {
            StepMount::Bind(bind) => mounted.bind(runner, bind)?,
            StepMount::Cache(cache) => mounted.cache(runner, cache)?,
            StepMount::Tmpfs {
                target,
                size,
                read_only,
            } => {
                let kind = MountKind::Tmpfs {
                    size: *size,
                    inodes: None,
                    mode: 0o1777,
                    owner: (0, 0),
                };
                let access = Access {
                    nosuid: true,
                    ..access(*read_only)
                };
                mounted.add(target, kind, access);
            }
            StepMount::Secret(secret) => mounted.secret(runner, secret)?,
            StepMount::Ssh(ssh) => {
                // Set even when an optional agent is missing, as BuildKit does.
                agent.get_or_insert(&ssh.target);
                mounted.ssh(runner, ssh)?;
            }
        }
    }
    if let Some(target) = agent
        && !run.env.iter().any(|known| known.0 == AGENT)
    {
        let value = target.to_string().into_bytes();
        mounted.env.push((AGENT.to_owned(), value));
    }
    Ok(mounted)
}

fn access(read_only: bool) -> Access {
    Access {
        read_only,
        ..Access::default()
    }
}

fn scratch_error(doing: &'static str) -> impl Fn(Errno) -> StepError {
    move |errno| StepError::Scratch {
        doing,
        source: errno.into(),
    }
}

impl Mounted {
    /// Covers what can be covered by files that go again. A secret in a file would be on a disk,
    /// a cache would have to be copied back, and a socket or device is not to be had by copying.
    fn cover(
        &mut self,
        runner: &Runner<'_>,
        run: &RunStep,
        why: &Refusal,
    ) -> Result<(), StepError> {
        let refused = |kind| {
            let source = why.clone();
            Err(StepError::NoMounts { kind, source })
        };
        if !run.devices.is_empty() || !runner.world.request.isolation.devices.is_empty() {
            return refused("device");
        }
        for mount in &run.mounts {
            match mount {
                StepMount::Bind(bind) => {
                    let pick = pick(runner, &bind.from, &bind.source)?;
                    let what = below(&pick, &TreePath::ROOT);
                    self.covers.push(Cover::at(&bind.target, what));
                }
                StepMount::Tmpfs { target, .. } => {
                    self.covers.push(Cover::directory(target, 0o1777));
                }
                StepMount::Secret(secret) if secret.target.is_none() => {
                    self.secret(runner, secret)?;
                }
                StepMount::Secret(_) => return refused("secret"),
                StepMount::Cache(_) => return refused("cache"),
                StepMount::Ssh(_) => return refused("ssh"),
            }
        }
        Ok(())
    }

    fn add(&mut self, target: &TreePath, kind: MountKind, access: Access) {
        self.mounts.push(Mount {
            target: PathBuf::from("/").join(target.as_os()),
            kind,
            access,
            propagation: Propagation::Private,
            give: false,
        });
    }

    /// Mounts the file or directory behind `fd`.
    fn add_fd(&mut self, target: &TreePath, fd: OwnedFd, access: Access) {
        self.fds.push(fd);
        let kind = MountKind::Bind {
            source: Source::Fd(self.fds.len() - 1),
            recursive: true,
        };
        self.add(target, kind, access);
    }

    fn bind(&mut self, runner: &Runner<'_>, bind: &BindMount) -> Result<(), StepError> {
        match runner.world.context(&bind.from) {
            None => self.bind_layers(runner, bind),
            Some(context) => self.bind_context(runner, bind, context),
        }
    }

    fn bind_layers(&mut self, runner: &Runner<'_>, bind: &BindMount) -> Result<(), StepError> {
        let world = runner.world;
        // What was written on top of a working container's layers is no layer that could be shown.
        let written = |stage: &usize| runner.done[stage].top.is_some();
        let unfinished = matches!(&bind.from, CopyFrom::Stage(stage) if written(stage));
        if unfinished || snapshotter(world)? == Snapshotter::Copy {
            let scratch = world.store.scratch()?;
            let form = TreeForm::Overlay(world.store.marks());
            let fd = materialise(&pick(runner, &bind.from, &bind.source)?, &scratch, form)?;
            self.add_fd(&bind.target, fd, access(!bind.writable));
            self.scratch.push(scratch);
            return Ok(());
        }
        let (lowers, below) = lowers(world, layers_of(runner, &bind.from))?;
        let scratch = world.store.scratch()?;
        take_over_root(&scratch.dir("upper")?, &below)?;
        scratch.dir("work")?;
        let overlay = Overlay {
            lowers,
            upper: scratch.path().join("upper"),
            work: scratch.path().join("work"),
            userxattr: world.store.user_xattr(),
            volatile: true,
            old_mount_api: false,
        };
        let path = PathBuf::from("/").join(bind.source.as_os());
        self.add(
            &bind.target,
            MountKind::Layers { overlay, path },
            access(!bind.writable),
        );
        self.scratch.push(scratch);
        Ok(())
    }

    fn bind_context(
        &mut self,
        runner: &Runner<'_>,
        bind: &BindMount,
        context: &Context,
    ) -> Result<(), StepError> {
        let access = Access {
            nodev: true,
            ..access(!bind.writable)
        };
        let failed = |source: Errno| StepError::ReadContext {
            path: bind.source.clone(),
            source: source.into(),
        };
        if !bind.writable
            && let Some(path) = context.as_it_is(&bind.source)?
        {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let fd = open(context.root().as_fd(), &path, resolve).map_err(failed)?;
            self.add_fd(&bind.target, fd, access);
            return Ok(());
        }
        let pick = pick(runner, &bind.from, &bind.source)?;
        let scratch = runner.world.store.scratch()?;
        let fd = materialise(&pick, &scratch, TreeForm::Plain)?;
        self.add_fd(&bind.target, fd, access);
        self.scratch.push(scratch);
        Ok(())
    }

    /// Takes the caches of a step: each once, in the order of their keys, so that two steps never
    /// wait for each other.
    fn take_caches(&mut self, runner: &Runner<'_>, run: &RunStep) -> Result<(), StepError> {
        let mut wanted: BTreeMap<Digest, (&CacheMount, CacheUse)> = BTreeMap::new();
        for mount in &run.mounts {
            let StepMount::Cache(cache) = mount else {
                continue;
            };
            let share = match cache.sharing {
                Sharing::Shared => CacheUse::Shared,
                Sharing::Private => CacheUse::Private,
                Sharing::Locked => CacheUse::Locked,
            };
            let entry = wanted.entry(cache_key(runner, cache)?);
            let (_, strictest) = entry.or_insert((cache, share));
            *strictest = share.max(*strictest);
        }
        let world = runner.world;
        for (key, (cache, share)) in wanted {
            let request = CacheRequest {
                key: &key,
                id: &cache.id,
                share,
                // BuildKit makes the directory that these are about anew in such a build.
                fresh: runner.stage.no_cache && cache.owner.is_some() && world.first_use(&key),
            };
            let taken =
                world
                    .store
                    .cache(&request, &|| world.cancel.is_cancelled(), &mut |dir| {
                        seed(runner, cache, dir)
                    })?;
            self.caches.insert(key, taken.ok_or(StepError::Cancelled)?);
        }
        Ok(())
    }

    fn cache(&mut self, runner: &Runner<'_>, cache: &CacheMount) -> Result<(), StepError> {
        let key = cache_key(runner, cache)?;
        let within = match cache.from {
            // A new one was filled with what `source` is, so all of it is mounted.
            Some(_) => TreePath::ROOT,
            None => cache.source.clone(),
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let fd = open(self.caches[&key].fd(), &within, resolve).map_err(|errno| {
            StepError::CacheSource {
                id: cache.id.clone(),
                path: within,
                source: errno.into(),
            }
        })?;
        self.add_fd(&cache.target, fd, access(cache.read_only));
        Ok(())
    }

    fn secret(&mut self, runner: &Runner<'_>, secret: &SecretMount) -> Result<(), StepError> {
        let secrets = &runner.world.request.secrets;
        let Some(known) = secrets.iter().rfind(|known| known.id == secret.id) else {
            return match secret.required {
                true => Err(StepError::NoSecret {
                    id: secret.id.clone(),
                }),
                false => Ok(()),
            };
        };
        if let Some(target) = &secret.target {
            let kind = MountKind::File {
                content: Content(known.value.to_vec()),
                mode: secret.owned.mode,
                uid: secret.owned.uid,
                gid: secret.owned.gid,
            };
            let access = Access {
                read_only: true,
                nosuid: true,
                nodev: true,
                noexec: true,
            };
            self.add(target, kind, access);
        }
        if let Some(name) = &secret.env {
            if known.value.contains(&0) {
                return Err(StepError::SecretNul {
                    id: secret.id.clone(),
                    name: name.clone(),
                });
            }
            self.env.push((name.clone(), known.value.to_vec()));
        }
        Ok(())
    }

    /// Gives a device: nodes and files of the host that its specification names.
    fn device(&mut self, runner: &Runner<'_>, name: &str, required: bool) -> Result<(), StepError> {
        let Some(edits) = cdi::find(name) else {
            return match required {
                true => Err(StepError::NoDevice {
                    name: name.to_owned(),
                }),
                false => Ok(()),
            };
        };
        if !edits.hooks.is_empty() {
            let text = format!("the hooks of device {name} are not run");
            runner.world.sink.emit(Event::Warning { text: &text });
        }
        for pair in &edits.env {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.env.push((key.to_owned(), value.as_bytes().to_vec()));
        }
        for node in edits.device_nodes {
            let source = node.host_path.unwrap_or_else(|| node.path.clone());
            self.mounts
                .push(Mount::bind(Source::Path(source), node.path));
        }
        for file in edits.mounts {
            let mut mount = Mount::bind(Source::Path(file.host_path), file.container_path);
            mount.access = access(file.options.iter().any(|option| option == "ro"));
            self.mounts.push(mount);
        }
        Ok(())
    }

    fn ssh(&mut self, runner: &Runner<'_>, ssh: &SshMount) -> Result<(), StepError> {
        let agents = &runner.world.request.ssh;
        let Some(known) = agents.iter().rfind(|known| known.id == ssh.id) else {
            return match ssh.required {
                true => Err(StepError::NoAgent { id: ssh.id.clone() }),
                false => Ok(()),
            };
        };
        let (agent, socket) = Agent::serve(runner.world.store, &known.source, ssh.owned)?;
        self.add_fd(&ssh.target, socket, Access::default());
        self.agents.push(agent);
        Ok(())
    }
}

/// Opens what is at `path` below `dir`, to be mounted.
fn open(dir: BorrowedFd<'_>, path: &TreePath, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    loop {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match rustix::fs::openat2(dir, path.as_os(), flags, Mode::empty(), resolve) {
            // Something was renamed while a `..` was walked (openat2(2)).
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
}

/// Copies picked files into a scratch directory, and opens the copy.
fn materialise(pick: &Pick, scratch: &Scratch, form: TreeForm) -> Result<OwnedFd, StepError> {
    let dir = scratch.dir("view")?;
    let file = TreePath::ROOT.child(b"file");
    let top = match &pick.shape {
        Shape::Dir => TreePath::ROOT,
        Shape::File { .. } => file,
    };
    write_tree(&below(pick, &top), dir.as_fd(), form, None)?;
    open(dir.as_fd(), &top, ResolveFlags::NO_SYMLINKS)
        .map_err(scratch_error("copy what is mounted"))
}

/// Picked files as changes, the source itself at `top`.
fn below(pick: &Pick, top: &TreePath) -> Changes {
    let entries = pick.entries.iter();
    let change = |entry: &select::Picked| {
        let path = top.join(&entry.rel);
        (path, Change::Node(entry.node.clone()))
    };
    Changes {
        entries: entries.map(change).collect(),
    }
}

/// Fills a new cache.
fn seed(runner: &Runner<'_>, cache: &CacheMount, dir: BorrowedFd<'_>) -> Result<(), StepError> {
    if let Some(from) = &cache.from {
        let pick = pick(runner, from, &cache.source)?;
        if !matches!(pick.shape, Shape::Dir) {
            return Err(StepError::CacheSource {
                id: cache.id.clone(),
                path: cache.source.clone(),
                source: Errno::NOTDIR.into(),
            });
        }
        write_tree(&below(&pick, &TreePath::ROOT), dir, TreeForm::Plain, None)?;
    }
    if let Some(Owned { mode, uid, gid }) = cache.owner {
        let give = || {
            rustix::fs::fchown(dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            rustix::fs::fchmod(dir, Mode::from_raw_mode(mode))
        };
        give().map_err(scratch_error("make a cache"))?;
    }
    Ok(())
}
