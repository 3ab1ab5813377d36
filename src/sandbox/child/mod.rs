//! The other side of [`super::spawn`]: the same program again, as pid 1 of new namespaces.
//!
//! The order, and why each step stands where it does:
//!
//! 1. end with the parent; no core, no ptrace, own session; read the plan; enter the control
//!    group, if there is one; join a network that was handed over, which `/sys` in step 4 shows,
//!    and be born among another sandbox's processes, which `/proc` shows, if that is planned;
//! 2. mount propagation off, so that nothing below reaches the host;
//! 3. a scratch tmpfs and the root on it, aside: absolute paths still mean the host;
//! 4. `/proc`, `/dev`, `/sys`, each its own file system, on directories that are no links;
//! 5. the plan's mounts, parents first, every target by descriptor inside the root;
//! 6. masks and read-only paths, below our own `/proc` and `/sys` descriptors;
//! 7. the terminal, which needs the devices; host name, loopback and keyring are made before;
//! 8. read-only root; then pivot: from here on the host's tree is gone;
//! 9. who the user is, by the files now mounted; mounts that are given to them; the working
//!    directory;
//! 10. tell the parent; split off the init; ids of its own; session, terminal, limits, groups, ids,
//!     capabilities, streams; find the program as that user; filter system calls; execute it.
//!
//! By chroot ([`Walls::Chroot`]) steps 2 to 8 are one: the directory becomes `/`.
//!
//! Nothing of the image runs before step 10, so up to there names inside can change only under
//! volumes that other containers share; all of them are walked by descriptor.

mod chroot;
mod devices;
mod exec;
mod give;
mod identity;
mod ids;
mod init;
mod interpreter;
mod join;
mod overlay;
mod place;
mod root;
mod system;

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::SealFlags;
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::sys;

use super::error::{Failure, Stage};
use super::network::NETWORK_ARGV0;
use super::plan::{Network, Plan, Walls};
use super::report::{Envelope, Message, Note, send};
use super::seccomp::Socketcall;
use super::sockets::{self, Maker};

pub(super) use overlay::mount_overlay;

/// `argv[0]` of a sandbox's child.
pub(super) const SANDBOX_ARGV0: &CStr = c"cooper:sandbox";
/// `argv[0]` of a child that enters a running sandbox ([`super::join`]).
pub(super) const JOIN_ARGV0: &CStr = c"cooper:join";
const PLAN_FD: i32 = 3;
const REPORT_FD: i32 = 4;
const LIFELINE_FD: i32 = 5;
/// The first of the descriptors that become mounts; for [`super::join`] the pidfd to enter.
pub(super) const FIRST_MOUNT_FD: i32 = 6;

/// The seals a plan must have to be believed, besides the one on sealing.
pub(super) const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW);

/// A child that another room serves, such as the monitor of a container.
#[derive(Debug, Clone, Copy)]
pub struct Role {
    /// Its `argv[0]`, by which [`super::respawn`] starts it.
    pub argv0: &'static CStr,
    /// What it does; the exit code of the process comes back.
    pub serve: fn() -> i32,
}

/// Serves a re-executed child and never returns, or finds that this is none and returns.
/// `roles` are the children that other rooms serve; those of this room are known here.
///
/// Must be the first statement of `main`.
pub fn run_if_child(roles: &[Role]) {
    use std::os::unix::ffi::OsStrExt;
    let Some(argv0) = std::env::args_os().next() else {
        return;
    };
    let is = |name: &CStr| argv0.as_bytes() == name.to_bytes();
    if is(SANDBOX_ARGV0) {
        serve(run_sandbox)
    }
    if is(JOIN_ARGV0) {
        serve(join::run)
    }
    if is(NETWORK_ARGV0) {
        super::network::serve()
    }
    // Whoever started us may ignore SIGCHLD, and we would inherit that our children leave no
    // status behind.
    sys::signal::default_for_children();
    if let Some(role) = roles.iter().find(|role| is(role.argv0)) {
        sys::process::exit_now((role.serve)())
    }
}

/// An error and what it happened to, for results of system calls.
trait At<T> {
    fn at(self, stage: Stage, path: impl Into<PathBuf>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, stage: Stage, path: impl Into<PathBuf>) -> Result<T, Failure> {
        self.map_err(|source| Failure::setup(stage, path, source))
    }
}

/// Whoever starts us by that name by hand gets this exit code and nothing else.
const NOT_A_CHILD: i32 = 125;

/// The child's ends of what joins it to its parent, and what it made so far.
struct Session {
    /// Gone in the init: the parent waits for the program's end of it.
    report: Option<OwnedFd>,
    lifeline: OwnedFd,
    /// Where mount points are made, until the parent has been told of them.
    places: Option<place::Places>,
}

fn serve(run: fn(&mut Session) -> Result<std::convert::Infallible, Failure>) -> ! {
    let (Ok(report), Ok(lifeline)) = (
        sys::fd::inherited(REPORT_FD),
        sys::fd::inherited(LIFELINE_FD),
    ) else {
        sys::process::exit_now(NOT_A_CHILD)
    };
    let mut session = Session {
        report: Some(report),
        lifeline,
        places: None,
    };
    let Err(failure) = run(&mut session);
    // What can't be looked at any more stays; the failure to tell came first.
    let stubs = session
        .places
        .and_then(|places| places.finish().ok())
        .unwrap_or_default();
    if let Some(report) = session.report {
        // A parent that can't be told is gone.
        let _ = send(&report, &Message::Failed { failure, stubs }, None);
    }
    sys::process::exit_now(NOT_A_CHILD)
}

fn run_sandbox(session: &mut Session) -> Result<std::convert::Infallible, Failure> {
    isolate(&session.lifeline, c"cooper-init").at(Stage::Plan, "the parent")?;
    let Envelope {
        plan,
        mount_fds,
        network_fd,
        process_fds,
        filters,
        socketcall,
        group_fds,
        ids_fd: _,
    } = read_plan().at(Stage::Plan, "memfd")?;
    let own = plan.walls == Walls::Namespaces;
    enter_group(&group_fds, own).at(Stage::Limits, "the sandbox")?;
    set_oom_score(&plan)?;
    network_fd
        .map_or(Ok(()), enter_network)
        .at(Stage::JoinNetwork, "the program")?;
    let plan = match process_fds {
        Some(fds) => among(session, fds, plan)?,
        None => plan,
    };
    let mut notes = Vec::new();
    settle(&plan, &mut notes)?;
    let (tty, mut outside) = match plan.walls {
        Walls::Namespaces => (build_root(session, &plan, &mount_fds, &mut notes)?, None),
        Walls::Chroot => (None, Some(chroot::enter(&plan, &mut notes)?)),
    };
    let who = identity::find(&plan)?;
    give::give(&plan, &who)?;
    let cwd = place::working_directory(&plan.cwd)?;
    let slave = ready(session, notes, tty)?;
    let ids = ids::make(session, plan.ids)?;
    let maker = offer_sockets(session, socketcall)?;
    if plan.init
        && let init::Side::Init(program) = init::split()?
    {
        // What this process still held open would keep pipes from ending, and the parent
        // waiting for the program's end of `report`.
        drop((session.report.take(), slave, cwd, ids));
        init::serve(program, &session.lifeline, outside, maker)
    }
    drop(maker);
    let scope = outside.as_mut().and_then(|outside| outside.scope.take());
    let confine = exec::Confine {
        filters,
        socketcall,
        scope,
        ids,
    };
    exec::become_program(&plan, &confine, &who, &cwd, slave, session.report.as_ref())
}

/// Steps 2 to 8: puts the root together and makes it `/`.
fn build_root(
    session: &mut Session,
    plan: &Plan,
    mount_fds: &[Option<i32>],
    notes: &mut Vec<Note>,
) -> Result<Option<system::Terminal>, Failure> {
    let mut root = root::mount(plan)?;
    let places = session.places.insert(place::Places::new(&root, plan)?);
    let system = system::mount(plan, places, notes)?;
    root::mount_all(plan, mount_fds, &mut root, places)?;
    system.hide(plan, &root)?;
    let tty = plan.tty.map(|size| system.terminal(size)).transpose()?;
    root.enter(plan.read_only_root)?;
    Ok(tty)
}

/// Has the kernel kill us sooner or later than others when memory runs out.
fn set_oom_score(plan: &Plan) -> Result<(), Failure> {
    let Some(score) = plan.oom_score_adj else {
        return Ok(());
    };
    std::fs::write("/proc/self/oom_score_adj", score.to_string()).at(Stage::OomScore, "the program")
}

/// Enters the group that limits us, then its `own` namespace in which it is the root.
fn enter_group(doors: &[i32], own: bool) -> io::Result<()> {
    for &door in doors {
        let door = sys::fd::inherited(door)?;
        rustix::io::write(&door, b"0")?;
    }
    match own && !doors.is_empty() {
        true => sys::process::unshare_cgroup(),
        false => Ok(()),
    }
}

/// Tells the parent that all is set up; keeps the program's side of the terminal.
fn ready(
    session: &mut Session,
    notes: Vec<Note>,
    tty: Option<system::Terminal>,
) -> Result<Option<OwnedFd>, Failure> {
    let stubs = session
        .places
        .take()
        .map(place::Places::finish)
        .transpose()?
        .unwrap_or_default();
    let master = tty.as_ref().map(|tty| tty.master.as_fd());
    if let Some(report) = &session.report {
        let ready = Message::Ready { notes, stubs };
        send(report, &ready, master).at(Stage::Plan, "the parent")?;
    }
    Ok(tty.map(|tty| tty.slave))
}

/// Has the init make sockets for 32-bit programs, and tells the parent where to ask for them.
fn offer_sockets(session: &Session, socketcall: Socketcall) -> Result<Option<Maker>, Failure> {
    let (Some(report), true) = (&session.report, socketcall != Socketcall::Absent) else {
        return Ok(None);
    };
    let (maker, requests) = sockets::ends().at(Stage::Plan, "the parent")?;
    send(report, &Message::Maker, Some(requests.as_fd())).at(Stage::Plan, "the parent")?;
    Ok(Some(maker))
}

/// Enters the network namespace that was handed over.
fn enter_network(number: i32) -> io::Result<()> {
    enter_namespace(number, LinkNameSpaceType::Network)
}

/// Enters a namespace that was handed over.
fn enter_namespace(number: i32, kind: LinkNameSpaceType) -> io::Result<()> {
    let namespace = sys::fd::inherited(number)?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(kind))?)
}

/// Goes on among the processes of another sandbox. A process sees the pid namespace that it was
/// born in, so this one splits: one half stays outside, passes signals on and tells the end; the
/// other returns, and dies with the first.
fn among(session: &mut Session, [pid, ipc]: [i32; 2], plan: Plan) -> Result<Plan, Failure> {
    let stage = Stage::JoinProcesses;
    enter_namespace(ipc, LinkNameSpaceType::InterProcessCommunication)
        .at(stage, "the container")?;
    enter_namespace(pid, LinkNameSpaceType::ProcessID).at(stage, "the container")?;
    if let init::Side::Init(program) = init::split()? {
        drop(session.report.take());
        init::serve(program, &session.lifeline, None, None)
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .at(stage, "the container")?;
    rustix::process::setsid().at(stage, "an own session")?;
    Ok(Plan {
        init: false,
        ..plan
    })
}

/// Ends with the parent, hides from ptrace and `/proc`, leaves the caller's terminal, and is
/// `name` to ps.
pub(super) fn isolate(lifeline: &OwnedFd, name: &CStr) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let mut fds = [PollFd::new(lifeline, PollFlags::IN)];
    // The parent may have died before the line above asked for the signal.
    poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )?;
    if fds[0].revents().contains(PollFlags::HUP) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    rustix::process::setsid()?;
    rustix::process::umask(rustix::fs::Mode::empty());
    // It may stay what it is.
    let _ = rustix::thread::set_name(name);
    Ok(())
}

fn read_plan() -> io::Result<Envelope> {
    let memfd = sys::fd::inherited(PLAN_FD)?;
    if !rustix::fs::fcntl_get_seals(&memfd)?.contains(SEALS | SealFlags::SEAL) {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    let mut file = File::from(memfd);
    io::Seek::rewind(&mut file)?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut file, &mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Names, loopback and keyring.
fn settle(plan: &Plan, notes: &mut Vec<Note>) -> Result<(), Failure> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).at(Stage::Hostname, name)?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes()).at(Stage::Hostname, name)?;
    }
    if plan.network == Network::None {
        sys::net::loopback_up().at(Stage::Loopback, "lo")?;
    }
    match sys::keyring::new_session() {
        Ok(()) => Ok(()),
        // Refused by a seccomp filter around us, or not in this kernel.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
            notes.push(Note::CallersKeyring);
            Ok(())
        }
        Err(error) => Err(Failure::setup(Stage::Keyring, "the program", error)),
    }
}
