//! The caller's side: starts a plan's child, hears whether it got there, waits for its end.

mod control;

use std::ffi::CStr;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mount::OpenTreeFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus};

use super::caps::Caps;
use super::cgroup::{Freezer, Group, Limits};
use super::child::{FIRST_MOUNT_FD, JOIN_ARGV0, SANDBOX_ARGV0};
use super::error::{Error, PlanError};
use super::plan::{MountKind, Network, Overlay, Plan, Processes, Rootfs, Source, Walls};
use super::remember::Supervisor;
use super::report::{self, Envelope, Message, Note};
use super::seccomp::Filter;
use super::sockets::Requests;
use super::spawner::start;
use super::stdio::{Stdio, streams};
use super::stubs::Stubs;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status, 0 to 255.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A running sandbox. Dropping it kills everything in it and cleans up.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    lifeline: UnixStream,
    /// The writing end of the program's input, if it is a pipe.
    pub stdin: Option<OwnedFd>,
    /// The reading end of the program's output, if it is a pipe.
    pub stdout: Option<OwnedFd>,
    /// The reading end of the program's errors, if it is a pipe.
    pub stderr: Option<OwnedFd>,
    pty: Option<OwnedFd>,
    notes: Vec<Note>,
    stubs: Stubs,
    /// Who answers calls about owners, if somebody does.
    supervisor: Option<Supervisor>,
    caps: Caps,
    /// The user namespace that its programs live in, if not ours.
    ids: Option<OwnedFd>,
    /// Where the mount points are that were made for it; none where nothing was mounted.
    base: Option<OwnedFd>,
    ended: Option<Exit>,
    /// Below `group`, so it goes first.
    freezer: Option<Freezer>,
    group: Option<Group>,
    killed_for_memory: bool,
    walls: Walls,
    processes: Processes,
}

/// Ends a sandbox, from any thread.
#[derive(Debug)]
pub struct Stopper {
    pidfd: OwnedFd,
    /// Where an init has to end everybody, what tells it.
    lifeline: Option<UnixStream>,
}

impl Stopper {
    /// Ends it with all its processes. One that has ended by itself is no error.
    pub fn stop(&self) {
        let _ = match &self.lifeline {
            Some(lifeline) => lifeline.shutdown(Shutdown::Both),
            None => rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL)
                .map_err(io::Error::from),
        };
    }
}

/// Starts `plan` and returns once its program has been executed.
///
/// May be called from any thread, also from several at once.
pub fn spawn(plan: &Plan, stdio: Stdio) -> Result<Child, Error> {
    plan.check(stdio.fds.len()).map_err(Error::Plan)?;
    let base = match &plan.rootfs {
        Rootfs::Overlay(overlay) => &overlay.upper,
        Rootfs::Directory { path } => path,
    };
    let base = super::stubs::open_base(base).map_err(|source| Error::Setup {
        stage: super::Stage::Root,
        path: base.clone(),
        source,
    })?;
    let (mut further, mount_fds) = detach(plan, &stdio.fds)?;
    let group = group(&plan.limits)?;
    let mut hand_over = |fd: OwnedFd| {
        further.push(fd);
        FIRST_MOUNT_FD + further.len() as i32 - 1
    };
    let doors = group.as_ref().map(Group::doors).transpose();
    let doors = doors.map_err(Error::Limit)?.into_iter().flatten();
    let group_fds = doors.map(&mut hand_over).collect();
    let mut namespace = |index: usize| -> Result<i32, Error> {
        let fd = stdio.fds[index].try_clone();
        let fd = fd.map_err(|source| Error::Parent {
            doing: "hand a namespace over",
            source,
        });
        Ok(hand_over(fd?))
    };
    let network_fd = match plan.network {
        Network::Join(index) => Some(namespace(index)?),
        Network::Host | Network::None => None,
    };
    let process_fds = match plan.processes {
        Processes::Join(index) => Some([namespace(index)?, namespace(index + 1)?]),
        Processes::Own => None,
    };
    let envelope = Envelope {
        plan: plan.clone(),
        mount_fds,
        network_fd,
        process_fds,
        ids_fd: None,
        filters: filters(plan)?,
        socketcall: super::sockets::decide(plan),
        group_fds,
    };
    let mut child = launch(SANDBOX_ARGV0, &envelope, stdio, further, Some(base))?;
    if group.is_none() && !plan.limits.is_empty() {
        child.notes.push(Note::Unlimited);
    }
    child.group = group;
    Ok(child)
}

/// Starts a program more in a sandbox that runs, and returns once it has been executed.
///
/// `inside` is a pidfd of the sandbox's pid 1 ([`Child::pidfd`]); the caller must have power
/// over its namespaces. Of `plan` counts what is about the program: root, mounts, names and
/// network are those that are there. Dropping the handle kills the program; what it started
/// stays until the sandbox ends.
pub fn join(plan: &Plan, inside: BorrowedFd<'_>, stdio: Stdio) -> Result<Child, Error> {
    join_by(plan, inside, Vec::new(), None, stdio)
}

/// Joins after entering the group behind `doors`; the program lives in the user namespace `ids`.
fn join_by(
    plan: &Plan,
    inside: BorrowedFd<'_>,
    doors: Vec<OwnedFd>,
    ids: Option<OwnedFd>,
    stdio: Stdio,
) -> Result<Child, Error> {
    // The sandbox's namespace is entered by way of the sandbox; no descriptor comes along.
    let plan = &Plan {
        network: match plan.network {
            Network::Join(_) => Network::None,
            network => network,
        },
        ..plan.clone()
    };
    plan.check(0).map_err(Error::Plan)?;
    // The first is the sandbox itself.
    let number = |index: usize| FIRST_MOUNT_FD + 1 + index as i32;
    let inside = inside
        .try_clone_to_owned()
        .map_err(|source| Error::Parent {
            doing: "enter the sandbox",
            source,
        })?;
    let envelope = Envelope {
        plan: plan.clone(),
        mount_fds: Vec::new(),
        network_fd: None,
        process_fds: None,
        // Behind the doors.
        ids_fd: ids.as_ref().map(|_| number(doors.len())),
        filters: filters(plan)?,
        socketcall: super::sockets::decide(plan),
        group_fds: (0..doors.len()).map(number).collect(),
    };
    let further = std::iter::once(inside).chain(doors).chain(ids).collect();
    launch(JOIN_ARGV0, &envelope, stdio, further, None)
}

/// The group that keeps `limits`; none where there is nothing to keep, or where that may fail.
fn group(limits: &Limits) -> Result<Option<Group>, Error> {
    if limits.is_empty() {
        return Ok(None);
    }
    match Group::new(limits) {
        Err(_) if limits.best_effort => Ok(None),
        made => made.map(Some).map_err(Error::Limit),
    }
}

/// The filters for the program's system calls.
fn filters(plan: &Plan) -> Result<Vec<Filter>, Error> {
    let sockets = super::sockets::decide(plan);
    let filter = super::seccomp::filter(&plan.seccomp, plan.caps, sockets).map_err(Error::Plan)?;
    Ok(filter.iter().map(|filter| Filter::clone(filter)).collect())
}

/// Mounts an overlay for the caller to look into and write to: it is attached nowhere and is
/// gone when the descriptor is closed. Needs the power that [`spawn`] needs. Before Linux 6.7 the
/// caller's working directory is another one for a moment.
pub fn mount_overlay(overlay: &Overlay) -> Result<OwnedFd, Error> {
    Ok(super::child::mount_overlay(overlay)?)
}

/// Shows a mount of [`mount_overlay`] at `path`, a directory, in the caller's mount namespace.
pub fn attach_mount(mount: &OwnedFd, path: &Path) -> io::Result<()> {
    use rustix::mount::{MoveMountFlags, move_mount};
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(mount, c"", rustix::fs::CWD, path, flags)?;
    Ok(())
}

fn launch(
    argv0: &'static CStr,
    envelope: &Envelope,
    stdio: Stdio,
    further: Vec<OwnedFd>,
    base: Option<OwnedFd>,
) -> Result<Child, Error> {
    let plan = &envelope.plan;
    let parent = |doing| move |source: io::Error| Error::Parent { doing, source };
    let (streams, ends) = streams(plan, stdio.stdin, stdio.stdout, stdio.stderr)?;
    let memfd = seal(envelope).map_err(parent("hand the plan over"))?;
    let pair = |kind| {
        rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
            .map_err(|errno| parent("make a socket")(errno.into()))
    };
    let (report, reporter) = pair(SocketType::SEQPACKET)?;
    let (lifeline, anchor) = pair(SocketType::STREAM)?;
    let mut fds = streams;
    fds.extend([memfd, reporter, anchor]);
    fds.extend(further);
    let namespaces = match base {
        // The child makes its cgroup namespace where its group is, once it is in there.
        Some(_) if !envelope.group_fds.is_empty() => namespaces(plan) & !libc::CLONE_NEWCGROUP,
        Some(_) => namespaces(plan),
        None => 0,
    };
    let (pid, pidfd) =
        start(argv0, namespaces, fds).map_err(parent("start a process in new namespaces"))?;
    let [stdin, stdout, stderr] = ends;
    let mut child = Child {
        pid,
        pidfd,
        lifeline: UnixStream::from(lifeline),
        stdin,
        stdout,
        stderr,
        pty: None,
        notes: Vec::new(),
        stubs: Stubs::default(),
        supervisor: None,
        caps: plan.caps,
        ids: None,
        base,
        ended: None,
        freezer: None,
        group: None,
        killed_for_memory: false,
        walls: plan.walls,
        processes: plan.processes,
    };
    child.listen(&report)?;
    Ok(child)
}

impl Child {
    /// Hears the child out until its program is executed or it says why not.
    fn listen(&mut self, report: &OwnedFd) -> Result<(), Error> {
        let mut ready = false;
        let mut requests = None;
        loop {
            let next = report::receive(report).map_err(|source| Error::Parent {
                doing: "hear from the sandbox",
                source,
            })?;
            match next {
                Some((Message::Ready { notes, stubs }, pty)) => {
                    (self.notes, self.stubs, self.pty) = (notes, stubs, pty);
                    ready = true;
                }
                Some((Message::Ids, ids)) => self.ids = ids,
                Some((Message::Maker, end)) => requests = end.map(Requests::new),
                Some((Message::Owners, Some(listener))) => {
                    self.supervise(listener, requests.take())?;
                }
                Some((Message::Sockets, Some(listener))) => {
                    if let Some(requests) = requests.take() {
                        super::sockets::answer_all(listener, requests).map_err(|source| {
                            let doing = "make sockets for 32-bit programs";
                            Error::Parent { doing, source }
                        })?;
                    }
                }
                Some((Message::Owners | Message::Sockets, None)) => {}
                Some((Message::Failed { failure, stubs }, _)) => {
                    self.stubs.0.extend(stubs.0);
                    self.wait()?;
                    return Err(failure.into());
                }
                None if ready => return Ok(()),
                None => return Err(Error::Lost(self.wait()?)),
            }
        }
    }

    /// Answers the program's calls about owners from now on.
    fn supervise(&mut self, listener: OwnedFd, sockets: Option<Requests>) -> Result<(), Error> {
        let failed = |source| Error::Parent {
            doing: "watch over owners",
            source,
        };
        let base = self.base.as_ref().map(OwnedFd::try_clone).transpose();
        let base = base.map_err(failed)?;
        let started = Supervisor::start(listener, self.pid, base, self.caps, sockets);
        self.supervisor = Some(started.map_err(failed)?);
        Ok(())
    }

    /// Starts a program more in this sandbox as [`join`] does, within the same limits.
    pub fn join(&self, plan: &Plan, stdio: Stdio) -> Result<Self, Error> {
        if self.processes != Processes::Own {
            // Our process of it is among the caller's.
            return Err(Error::Plan(PlanError::NoProcesses));
        }
        let doors = self.group.as_ref().map(Group::doors).transpose();
        let doors = doors.map_err(Error::Limit)?.unwrap_or_default();
        let ids = self.ids.as_ref().map(OwnedFd::try_clone).transpose();
        let ids = ids.map_err(|source| Error::Parent {
            doing: "enter the sandbox",
            source,
        })?;
        join_by(plan, self.pidfd(), doors, ids, stdio)
    }

    /// The process id of the sandbox's pid 1, as the caller's namespace numbers it.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// A descriptor of that process; readable for poll(2) once everything has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// What ends this sandbox from another thread.
    pub fn stopper(&self) -> io::Result<Stopper> {
        let tells = self.walls == Walls::Chroot;
        let lifeline = tells.then(|| self.lifeline.try_clone()).transpose()?;
        Ok(Stopper {
            pidfd: self.pidfd.try_clone()?,
            lifeline,
        })
    }

    /// The terminal, seen from outside: what is written here is typed in there.
    pub fn pty(&self) -> Option<&OwnedFd> {
        self.pty.as_ref()
    }

    /// What is not as it should be, though it runs.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Whether, after it has ended, the kernel killed one of its processes for using more memory
    /// than its limit.
    pub fn killed_for_memory(&self) -> bool {
        self.killed_for_memory
    }

    /// Sends `signal` to the program; `SIGKILL` ends the whole sandbox. A sandbox that has
    /// ended is no error.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        if signal == Signal::KILL && self.walls == Walls::Chroot {
            // Without a pid namespace it is the init that ends everybody. An error says that it
            // has ended.
            let _ = self.lifeline.shutdown(Shutdown::Both);
            return Ok(());
        }
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::Parent {
                doing: "signal the sandbox",
                source: errno.into(),
            }),
        }
    }

    /// Sends the signal with this number, be it one without a name. A sandbox that has ended is
    /// no error.
    pub fn kill(&self, number: i32) -> io::Result<()> {
        if self.ended.is_some() {
            return Ok(());
        }
        // Nobody has waited for it yet, so the number is still its own.
        match crate::sys::signal::send(self.pid(), number) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            sent => sent,
        }
    }

    /// Waits until the program has ended and nothing of the sandbox is left: no process, no
    /// mount, no mount point that was made for it. Later calls give the same answer.
    pub fn wait(&mut self) -> Result<Exit, Error> {
        let ended = self.wait_with(WaitIdOptions::EXITED)?;
        Ok(ended.expect("waitid without NOHANG returns with an ended child"))
    }

    /// As [`Child::wait`] if it has ended, `None` if it has not.
    pub fn try_wait(&mut self) -> Result<Option<Exit>, Error> {
        self.wait_with(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    fn wait_with(&mut self, options: WaitIdOptions) -> Result<Option<Exit>, Error> {
        if self.ended.is_some() {
            return Ok(self.ended);
        }
        let status = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options)
        })
        .map_err(|errno| Error::Parent {
            doing: "wait for the sandbox",
            source: errno.into(),
        })?;
        let Some(status) = status else {
            return Ok(None);
        };
        self.ended = Some(self.true_end(&status));
        self.freezer = None;
        if let Some(group) = self.group.take() {
            self.killed_for_memory = group.killed_for_memory() > 0;
        }
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.finish().map_err(|source| Error::Parent {
                doing: "write down the owners of links",
                source,
            })?;
        }
        let removed = self.base.as_ref().map(|base| self.stubs.remove(base));
        removed.transpose().map_err(|source| Error::Parent {
            doing: "remove the mount points that were made for the sandbox",
            source,
        })?;
        Ok(self.ended)
    }

    /// The program's own end, if the init lived to tell it; else that of pid 1.
    fn true_end(&mut self, status: &WaitIdStatus) -> Exit {
        let mut said = [0; 4];
        // The init wrote before it ended, so there is something now or never.
        let heard = self
            .lifeline
            .set_nonblocking(true)
            .and_then(|()| self.lifeline.read_exact(&mut said));
        if heard.is_ok() {
            let said = i32::from_ne_bytes(said);
            return if said < 0 {
                Exit::Signal(-said)
            } else {
                Exit::Code(said)
            };
        }
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or(libc::SIGKILL)),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // Nobody is left to tell; a stub that stays is all that could go wrong.
            let _ = self.signal(Signal::KILL);
            let _ = self.wait();
        }
    }
}

fn namespaces(plan: &Plan) -> i32 {
    if plan.walls == Walls::Chroot {
        return 0;
    }
    let mut own = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    if plan.processes == Processes::Own {
        own |= libc::CLONE_NEWPID | libc::CLONE_NEWIPC;
    }
    if plan.network == Network::None {
        own |= libc::CLONE_NEWNET;
    }
    own
}

/// Turns the descriptors that are mounted into detached mounts, which only this mount namespace
/// can do, and numbers them for the child.
fn detach(plan: &Plan, fds: &[OwnedFd]) -> Result<(Vec<OwnedFd>, Vec<Option<i32>>), Error> {
    let mut mounts = Vec::new();
    let mut numbers = Vec::with_capacity(plan.mounts.len());
    for mount in &plan.mounts {
        let MountKind::Bind {
            source: Source::Fd(index),
            recursive,
        } = mount.kind
        else {
            numbers.push(None);
            continue;
        };
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        if recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let fd = fds
            .get(index)
            .expect("check() compared every index with the number given");
        let tree = rustix::mount::open_tree(fd, "", flags).map_err(|errno| Error::Setup {
            stage: super::Stage::Source,
            path: mount.target.clone(),
            source: errno.into(),
        })?;
        numbers.push(Some(FIRST_MOUNT_FD + mounts.len() as i32));
        mounts.push(tree);
    }
    Ok((mounts, numbers))
}

/// The plan in a memfd that nobody can change any more.
fn seal(envelope: &Envelope) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = rustix::fs::memfd_create("plan", flags)?;
    let mut file = std::fs::File::from(memfd);
    file.write_all(&serde_json::to_vec(envelope)?)?;
    rustix::fs::fcntl_add_seals(&file, super::child::SEALS | SealFlags::SEAL)?;
    Ok(file.into())
}
