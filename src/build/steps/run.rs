//! RUN: a program in a sandbox over the layers so far; what it changed is the layer.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::event::{Event, StepId, Stream};
use crate::image::ContainerConfig;
use crate::layer::{Meta, Stack, Tree, TreePath, dress};
use crate::sandbox::network::Lease;
use crate::sandbox::{
    self, Access, Child, Content, Exit, Input, Isolation, Mount, MountKind, Output, Plan,
    Propagation, Rootfs, Stdio, UserSpec, WorkDir,
};

use super::super::cache::Made;
use super::super::commit::{Built, Layer};
use super::super::error::StepError;
use super::super::key::Inputs;
use super::super::mount::StepMount;
use super::super::request::{Network, Request, Walls};
use super::super::scope::Variable;
use super::super::stage::{Runner, World, trees};
use super::super::step::RunStep;
use super::super::working::Streams;
use super::cover::Cover;
use super::ground::Ground;
use super::mounts::{self, Mounted};
use super::network;

/// Adds to the key what a RUN can observe.
pub(in crate::build) fn inputs(runner: &Runner<'_>, run: &RunStep) -> Result<Inputs, StepError> {
    let request = runner.world.request;
    let mut inputs = Inputs::new("run", 1);
    let variable = |pair: &Variable| format!("{}={}", pair.0, pair.1);
    let host = |(name, address): &(String, String)| format!("{name}={address}");
    inputs
        .add_list("argv", &run.argv)
        .add_list("env", run.env.iter().map(variable))
        .add("user", &run.user)
        .add("workdir", &run.workdir)
        .add("network", format!("{:?}", run.network))
        .add_list("hosts", request.add_hosts.iter().map(host));
    if matches!(request.walls, Walls::Chroot(_)) {
        inputs.add("walls", "chroot");
    }
    if let Some(isolation) = request.isolation.observable() {
        inputs.add("isolation", isolation);
    }
    network::inputs(request, &mut inputs);
    if let Some(script) = &run.script {
        inputs.add("script", &script.path).add("text", &script.text);
    }
    inputs.add("hostname", &run.hostname);
    if !request.volumes.is_empty() {
        let shown = request.volumes.iter().map(|mount| format!("{mount:?}"));
        inputs.add_list("volumes", shown);
    }
    if request.stdin {
        inputs.add("stdin", "the caller's");
    }
    if run.insecure {
        inputs.add("security", "insecure");
    }
    for (name, required) in &run.devices {
        inputs.add_list("device", [name.as_bytes(), &[u8::from(*required)]]);
    }
    mounts::inputs(runner, run, &mut inputs)?;
    let secrets = run.mounts.iter().any(|m| matches!(m, StepMount::Secret(_)));
    if secrets && !request.secret_guard {
        // What such a step left behind must not answer for one that is watched.
        inputs.add("secret-guard", "off");
    }
    Ok(inputs)
}

/// Decides what the sandbox looks like.
fn plan(world: &World<'_>, run: &RunStep, rootfs: Rootfs, mounted: &Mounted) -> Plan {
    let mut plan = Plan::new(rootfs, run.argv.iter().map(OsString::from).collect());
    plan.remember_owners = world.store.remembers_owners();
    plan.env = run
        .env
        .iter()
        .map(|pair| (OsString::from(&pair.0), OsString::from(&pair.1)))
        .collect();
    for (key, value) in &run.proxies {
        if !run.env.iter().any(|known| known.0 == *key) {
            plan.env.push((key.into(), value.into()));
        }
    }
    for (key, value) in &mounted.env {
        plan.env.retain(|(known, _)| known != key.as_str());
        plan.env
            .push((key.into(), OsString::from_vec(value.clone())));
    }
    let workdir = if run.workdir.is_empty() {
        "/"
    } else {
        &run.workdir
    };
    plan.cwd = WorkDir {
        path: PathBuf::from(workdir),
        create: true,
    };
    plan.user = UserSpec(run.user.clone());
    plan.hostname = Some(run.hostname.clone());
    plan.network = match run.network {
        Network::Private => sandbox::Network::Join(mounted.fds.len()),
        Network::Host => sandbox::Network::Host,
        Network::None => sandbox::Network::None,
    };
    plan.mounts.extend(mounted.mounts.iter().cloned());
    plan
}

/// The files that every step finds.
fn files(world: &World<'_>, run: &RunStep) -> Vec<Mount> {
    let request = world.request;
    let mut files = Vec::new();
    if !request.own_hosts {
        let hosts = network::hosts(&run.hostname, &request.add_hosts, run.network);
        files.push(file("/etc/hosts", hosts, 0o644));
    }
    if let Some(text) = network::resolv_conf(run.network, world.resolv_conf, request) {
        files.push(file("/etc/resolv.conf", text, 0o644));
    }
    if let Some(script) = &run.script {
        files.push(file(&script.path, script.text.clone(), 0o755));
    }
    files
}

fn file(target: &str, content: Vec<u8>, mode: u32) -> Mount {
    Mount {
        target: PathBuf::from(target),
        kind: MountKind::File {
            content: Content(content),
            mode,
            uid: 0,
            gid: 0,
        },
        access: Access {
            read_only: true,
            ..Access::default()
        },
        propagation: Propagation::Private,
        give: false,
    }
}

/// What is particular to a program that somebody runs by hand in a working container.
pub(in crate::build) struct Attended<'a> {
    /// Its files; what it writes stays there.
    pub(in crate::build) rootfs: Rootfs,
    /// What is mounted besides.
    pub(in crate::build) mounts: &'a [Mount],
    /// What it reads and writes.
    pub(in crate::build) streams: &'a Streams,
    /// Its NIS domain name, if it has one of its own.
    pub(in crate::build) domainname: Option<String>,
}

/// Runs a step on the caller's own streams, and says how it ended.
pub(in crate::build) fn attend(
    runner: &Runner<'_>,
    run: &RunStep,
    attended: Attended<'_>,
) -> Result<Exit, StepError> {
    let world = runner.world;
    if let Walls::Chroot(source) | Walls::Refused(source) = world.request.walls.clone() {
        return Err(StepError::NoIsolation { source });
    }
    let mut mounted = mounts::make(runner, run)?;
    mounted.mounts.splice(..0, files(world, run));
    let mut plan = plan(world, run, attended.rootfs, &mounted);
    isolation(run, &world.request.isolation).apply(&mut plan);
    let lasting = world.request.volumes.iter();
    plan.mounts.extend(lasting.chain(attended.mounts).cloned());
    plan.domainname = attended.domainname;
    plan.tty = attended.streams.window();
    let failed = |source| StepError::Sandbox {
        command: run.shown.clone(),
        source,
    };
    let stdio = attended.streams.stdio().map_err(failed)?;
    let (mut child, _lease) = start(&plan, &mut mounted, run, stdio, world)?;
    attended.streams.serve(&child).map_err(failed)?;
    let exit = child.wait().map_err(failed)?;
    if world.cancel.is_cancelled() && exit != Exit::Code(0) {
        return Err(StepError::Cancelled);
    }
    if child.killed_for_memory() {
        return Err(StepError::Memory {
            command: run.shown.clone(),
            limit: plan.limits.memory.unwrap_or_default(),
        });
    }
    Ok(exit)
}

/// Runs the step over the layers so far and returns the layer it made.
pub(in crate::build) fn make(
    runner: &Runner<'_>,
    run: &RunStep,
    step: StepId,
    built: &Built,
) -> Result<Made, StepError> {
    let world = runner.world;
    let by_chroot = by_chroot(run, world.request)?;
    let mut mounted = mounts::make(runner, run)?;
    let mut covers = std::mem::take(&mut mounted.covers);
    let files = files(world, run);
    if by_chroot {
        covers.extend(files.iter().filter_map(Cover::of_file));
    } else {
        mounted.mounts.splice(..0, files);
    }
    let ground = Ground::lay(world, &built.layers, covers)?;
    let mut plan = plan(world, run, ground.rootfs(world), &mounted);
    isolation(run, &world.request.isolation).apply(&mut plan);
    plan.mounts.extend(world.request.volumes.iter().cloned());
    if by_chroot {
        plan.by_chroot();
    }
    execute(&plan, mounted, run, step, world)?;
    ground.keep(runner, &built.layers, &run.user)
}

/// Whether the step is shut in by a changed root alone; an error where that is not enough.
fn by_chroot(run: &RunStep, request: &Request) -> Result<bool, StepError> {
    match &request.walls {
        Walls::Namespaces => Ok(false),
        Walls::Chroot(why) if !request.volumes.is_empty() => Err(StepError::NoMounts {
            kind: "bind",
            source: why.clone(),
        }),
        Walls::Chroot(_) if run.network == Network::Host => Ok(true),
        Walls::Chroot(why) => Err(StepError::NoNetworks {
            source: why.clone(),
        }),
        Walls::Refused(why) => Err(StepError::NoIsolation {
            source: why.clone(),
        }),
    }
}

/// How shut in the step is: as `usual`, unless it was given leave to be less so.
fn isolation(run: &RunStep, usual: &Isolation) -> Isolation {
    match run.insecure {
        false => usual.clone(),
        true => {
            let open = Isolation::privileged();
            Isolation {
                caps: open.caps,
                seccomp: open.seccomp,
                no_new_privs: open.no_new_privs,
                masked: open.masked,
                unmasked: open.unmasked,
                ..usual.clone()
            }
        }
    }
}

/// The trees of `layers` that show, the top one first, and the file system that they are.
pub(super) fn lowers(
    world: &World<'_>,
    layers: &[Layer],
) -> Result<(Vec<PathBuf>, Stack), StepError> {
    let trees = trees(world, layers)?;
    let below = Stack::new(
        trees.iter().map(|tree| tree.fd()).collect(),
        world.store.marks(),
    );
    // Trees below one whose root is opaque are not part of the file system, and overlayfs does not
    // see that mark.
    let seen = below.trees()?.len();
    let shown = trees[trees.len() - seen..].iter().rev();
    let lowers = shown.map(|tree| tree.path().to_owned()).collect();
    Ok((lowers, below))
}

/// Gives the upper dir the owner and mode of the root below: overlayfs shows the upper dir's.
pub(in crate::build) fn take_over_root(upper: &OwnedFd, below: &Stack) -> Result<(), StepError> {
    Ok(dress(upper.as_fd(), &root_meta(below)?, below.marks())?)
}

/// What the root over `below` says of itself.
pub(in crate::build) fn root_meta(below: &Stack) -> Result<Meta, StepError> {
    let root = below.node(&TreePath::ROOT)?.map(|node| node.meta);
    let usual = || Meta {
        mode: 0o755,
        ..Meta::default()
    };
    Ok(Meta {
        xattrs: BTreeMap::new(),
        ..root.unwrap_or_else(usual)
    })
}

/// Starts the program, on the network that it is to have.
fn start(
    plan: &Plan,
    mounted: &mut Mounted,
    run: &RunStep,
    stdio: Stdio,
    world: &World<'_>,
) -> Result<(Child, Option<Lease>), StepError> {
    let failed = |source| StepError::Sandbox {
        command: run.shown.clone(),
        source,
    };
    let lease = network::lease(run.network, world, &mut mounted.fds).map_err(failed)?;
    let stdio = Stdio {
        fds: std::mem::take(&mut mounted.fds),
        ..stdio
    };
    let child = sandbox::spawn(plan, stdio).map_err(failed)?;
    if child.notes().contains(&sandbox::Note::Unlimited) {
        world.sink.emit(Event::Chosen {
            what: "limits",
            text: "not kept: no control group can be had",
        });
    }
    if child.notes().contains(&sandbox::Note::OpenSignals) {
        world.sink.emit(Event::Warning {
            text: "this kernel lets the step signal all processes of its user (Linux 6.12 does not)",
        });
    }
    world.cancel.watch(&child);
    Ok((child, lease))
}

/// Runs `plan` to its end, its output going to the sink as it comes.
fn execute(
    plan: &Plan,
    mut mounted: Mounted,
    run: &RunStep,
    step: StepId,
    world: &World<'_>,
) -> Result<(), StepError> {
    let failed = |source| StepError::Sandbox {
        command: run.shown.clone(),
        source,
    };
    let stdin = match world.request.stdin {
        true => Input::Fd(callers_stdin().map_err(failed)?),
        false => Input::default(),
    };
    let stdio = Stdio {
        stdin,
        stdout: Output::Pipe,
        stderr: Output::Pipe,
        ..Stdio::default()
    };
    let (mut child, _lease) = start(plan, &mut mounted, run, stdio, world)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(|| pump(stdout, step, Stream::Stdout, world));
        pump(stderr, step, Stream::Stderr, world);
    });
    let exit = child.wait().map_err(failed)?;
    if world.cancel.is_cancelled() && exit != Exit::Code(0) {
        return Err(StepError::Cancelled);
    }
    match exit {
        Exit::Code(0) => Ok(()),
        _ if child.killed_for_memory() => Err(StepError::Memory {
            command: run.shown.clone(),
            limit: plan.limits.memory.unwrap_or_default(),
        }),
        exit => Err(StepError::Exit {
            command: run.shown.clone(),
            exit,
        }),
    }
}

fn callers_stdin() -> Result<OwnedFd, sandbox::Error> {
    let stdin = std::io::stdin();
    let copy = stdin.as_fd().try_clone_to_owned();
    copy.map_err(|source| sandbox::Error::Parent {
        doing: "hand standard input over",
        source,
    })
}

/// Passes bytes on until the last writer is gone. A read error ends it: the program's end says
/// what matters.
fn pump(from: Option<OwnedFd>, step: StepId, stream: Stream, world: &World<'_>) {
    let Some(from) = from else { return };
    let mut from = std::fs::File::from(from);
    let mut buffer = [0; 16 << 10];
    let mut say = |bytes: &[u8]| {
        world.sink.emit(Event::StepOutput {
            step,
            stream,
            bytes,
        });
    };
    let mut redactor = world.guard.redactor();
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        redactor.push(&buffer[..n], &mut say);
    }
    redactor.finish(&mut say);
}

/// The words of a shell-form command: the stage's shell, then the text.
pub(in crate::build) fn with_shell(config: &ContainerConfig, text: &str) -> Vec<String> {
    let mut argv = if config.shell.is_empty() {
        vec!["/bin/sh".to_owned(), "-c".to_owned()]
    } else {
        config.shell.clone()
    };
    argv.push(text.to_owned());
    argv
}
