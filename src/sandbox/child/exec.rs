//! The last steps: from our process to the image's program.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::sys;

use super::super::caps::Caps;
use super::super::error::{Failure, Searched, Stage};
use super::super::plan::{Plan, Resource, Rlimit, Walls};
use super::super::remember;
use super::super::report::{Message, send};
use super::super::seccomp::{Filter, Socketcall};
use super::super::user::Identity;
use super::At;
use super::ids;
use super::interpreter;
use super::place::stands_inside;

/// What shuts the program in last.
pub(super) struct Confine {
    /// Filters for its system calls, to install in this order.
    pub(super) filters: Vec<Filter>,
    /// What the last of them does about sockets of 32-bit programs.
    pub(super) socketcall: Socketcall,
    /// Rules that keep its signals among its own processes.
    pub(super) scope: Option<OwnedFd>,
    /// The user namespace that it is to live in, if not the one around it.
    pub(super) ids: Option<OwnedFd>,
}

/// Takes on everything the plan says about the process and executes the program.
pub(super) fn become_program(
    plan: &Plan,
    confine: &Confine,
    who: &Identity,
    cwd: &OwnedFd,
    tty: Option<OwnedFd>,
    report: Option<&OwnedFd>,
) -> Result<Infallible, Failure> {
    if let (true, Some(report)) = (plan.remember_owners, report) {
        // First, so that what follows is answered as the program's own calls are.
        let listener =
            sys::notify::listen(&remember::program(confine.socketcall == Socketcall::Passed));
        let listener = listener.at(Stage::Seccomp, "owners")?;
        send(report, &Message::Owners, Some(listener.as_fd())).at(Stage::Plan, "the parent")?;
    }
    if let Some(ids) = &confine.ids {
        ids::enter(ids)?;
    }
    if plan.init {
        rustix::process::setsid().at(Stage::Terminal, "an own session")?;
    }
    take_streams(who, tty).at(Stage::Terminal, "/dev/pts")?;
    for limit in &plan.rlimits {
        set_limit(limit).at(
            Stage::Rlimit,
            format!("{:?}", limit.resource).to_lowercase(),
        )?;
    }
    rustix::process::umask(Mode::from_raw_mode(plan.umask));
    rustix::process::fchdir(cwd).at(Stage::WorkDir, &plan.cwd.path)?;
    if !stands_inside().at(Stage::WorkDir, &plan.cwd.path)? {
        return Err(Failure::setup(Stage::WorkDir, &plan.cwd.path, Errno::XDEV));
    }
    become_user(plan, who)?;
    let env = environment(plan, who);
    let program = locate(plan)?;
    sys::signal::default_all();
    sys::signal::unblock_all().at(Stage::Exec, &program)?;
    sys::fd::cloexec_from(3).at(Stage::Exec, &program)?;
    if !plan.init || plan.walls == Walls::Chroot {
        // Changing ids cleared it; with an init the lifeline does this, and by chroot both do.
        let signal = Some(Signal::KILL);
        rustix::process::set_parent_process_death_signal(signal).at(Stage::Exec, &program)?;
    }
    shut_in(plan, who, confine, report).at(Stage::Seccomp, &program)?;
    Err(execute(plan, &program, &env))
}

/// Installs the filters, which takes CAP_SYS_ADMIN or `no_new_privs`, and lets go of the former.
fn shut_in(
    plan: &Plan,
    who: &Identity,
    confine: &Confine,
    report: Option<&OwnedFd>,
) -> std::io::Result<()> {
    if let Some(scope) = &confine.scope {
        sys::landlock::restrict(scope.as_fd())?;
    }
    for filter in &confine.filters {
        match (confine.socketcall, report) {
            (Socketcall::Asked, Some(report)) => install_asking(filter, report)?,
            _ => sys::seccomp::install(&filter.program())?,
        }
    }
    Ok(keep_capabilities(own_capabilities(plan, who))?)
}

/// Installs a filter that asks the parent. Around us may be a filter that asks somebody already,
/// or the kernel may be too old to ask; then what would be asked is as good as absent.
fn install_asking(filter: &Filter, report: &OwnedFd) -> std::io::Result<()> {
    match sys::notify::listen(&filter.program()) {
        Ok(listener) => send(report, &Message::Sockets, Some(listener.as_fd())),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EINVAL)) => {
            sys::seccomp::install(&filter.program())
        }
        Err(error) => Err(error),
    }
}

/// The terminal becomes all three streams. Pipes are given to the user, who may open them
/// again as `/dev/stdout`; files and the caller's own terminal are not touched.
fn take_streams(who: &Identity, tty: Option<OwnedFd>) -> std::io::Result<()> {
    let uid = Some(Uid::from_raw(who.uid));
    if let Some(tty) = tty {
        rustix::process::ioctl_tiocsctty(&tty)?;
        rustix::fs::fchown(&tty, uid, None)?;
        return (0..=2).try_for_each(|number| sys::fd::become_stdio(&tty, number));
    }
    let give = |fd: BorrowedFd<'_>| {
        let mode = rustix::fs::fstat(fd).map_or(0, |stat| stat.st_mode);
        if FileType::from_raw_mode(mode) == FileType::Fifo {
            // Somebody else's pipe stays theirs; the descriptor works all the same.
            let _ = rustix::fs::fchown(fd, uid, None);
        }
    };
    let streams = [
        rustix::stdio::stdin,
        rustix::stdio::stdout,
        rustix::stdio::stderr,
    ];
    for stream in streams {
        give(stream());
    }
    Ok(())
}

fn set_limit(limit: &Rlimit) -> Result<(), Errno> {
    use rustix::process::Resource as R;
    let resource = match limit.resource {
        Resource::As => R::As,
        Resource::Core => R::Core,
        Resource::Cpu => R::Cpu,
        Resource::Data => R::Data,
        Resource::Fsize => R::Fsize,
        Resource::Locks => R::Locks,
        Resource::Memlock => R::Memlock,
        Resource::Msgqueue => R::Msgqueue,
        Resource::Nice => R::Nice,
        Resource::Nofile => R::Nofile,
        Resource::Nproc => R::Nproc,
        Resource::Rss => R::Rss,
        Resource::Rtprio => R::Rtprio,
        Resource::Rttime => R::Rttime,
        Resource::Sigpending => R::Sigpending,
        Resource::Stack => R::Stack,
    };
    let new = rustix::process::Rlimit {
        current: limit.soft,
        maximum: limit.hard,
    };
    rustix::process::setrlimit(resource, new)
}

/// Bounding set, groups, ids, capabilities, no_new_privs: in the only order that works.
///
/// Without no_new_privs CAP_SYS_ADMIN stays until [`shut_in`] has made use of it.
fn become_user(plan: &Plan, who: &Identity) -> Result<(), Failure> {
    drop_bounding(plan.caps).at(Stage::Capabilities, "the program")?;
    let ids = || {
        // The own group is among them, as with Docker: a program that changed its group could
        // else get past permissions that shut the first one out (CVE-2022-36109).
        let own = (!who.groups.contains(&who.gid)).then_some(who.gid);
        let groups = own.into_iter().chain(who.groups.iter().copied());
        let groups: Vec<Gid> = groups.map(Gid::from_raw).collect();
        // Groups without a number in this namespace can only be kept by leaving all as they are.
        if !plan.groups.keep {
            rustix::thread::set_thread_groups(&groups)?;
        }
        let (uid, gid) = (Uid::from_raw(who.uid), Gid::from_raw(who.gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        // Leaving uid 0 would empty the permitted set, and empties the effective one.
        rustix::thread::set_keep_capabilities(true)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    };
    ids().at(Stage::Identity, format!("{}:{}", who.uid, who.gid))?;
    let capabilities = || {
        rustix::thread::clear_ambient_capability_set()?;
        let own = own_capabilities(plan, who);
        match plan.no_new_privs {
            true => {
                keep_capabilities(own)?;
                rustix::thread::set_no_new_privs(true)
            }
            false => keep_capabilities(Caps(own.0 | CapabilitySet::SYS_ADMIN.bits())),
        }
    };
    capabilities().at(Stage::Capabilities, "the program")
}

/// What the program starts with: only uid 0 has capabilities, as after setuid(2).
fn own_capabilities(plan: &Plan, who: &Identity) -> Caps {
    match who.uid {
        0 => plan.caps,
        _ => Caps::NONE,
    }
}

/// Lets go of all capabilities but those in `keep`.
fn keep_capabilities(keep: Caps) -> Result<(), Errno> {
    let now = rustix::thread::capabilities(None)?;
    let kept = now.permitted & CapabilitySet::from_bits_retain(keep.0);
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets)
}

fn drop_bounding(keep: Caps) -> Result<(), Errno> {
    for number in 0..u64::BITS {
        let bit = 1_u64 << number;
        if keep.0 & bit != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(
            bit,
        )) {
            Ok(()) => (),
            // The first number that this kernel has no capability for.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// `NAME=value` strings; `HOME` from the user database if the plan has none.
fn environment(plan: &Plan, who: &Identity) -> Vec<(OsString, OsString)> {
    let mut env = plan.env.clone();
    if !env.iter().any(|(key, _)| key == "HOME") {
        env.push(("HOME".into(), who.home.clone().into()));
    }
    env
}

/// The program's path, by execvp(3)'s rules, with the plan's `PATH`, in the root that is ours.
fn locate(plan: &Plan) -> Result<PathBuf, Failure> {
    let name = plan
        .argv
        .first()
        .map(OsString::as_os_str)
        .unwrap_or_default();
    if name.as_bytes().contains(&b'/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(errno) if is_absent(errno) => Err(Failure::NotFound {
                program: name.to_owned(),
                path: None,
            }),
            Err(errno) => Err(not_executable(name.into(), errno)),
        };
    }
    let path = plan
        .env
        .iter()
        .rev()
        .find(|(key, _)| key == "PATH")
        .map(|(_, value)| value);
    let mut refused = None;
    // Nothing is nowhere, and not the directory itself.
    let searched = path.iter().filter(|_| !name.is_empty());
    for dir in searched.flat_map(|path| path.as_bytes().split(|&byte| byte == b':')) {
        let dir = if dir.is_empty() { b"." } else { dir };
        let candidate = Path::new(OsStr::from_bytes(dir)).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(errno) if !is_absent(errno) => {
                refused.get_or_insert_with(|| not_executable(candidate, errno));
            }
            _ => (),
        }
    }
    let program = name.to_owned();
    let path = Some(Searched(path.cloned().unwrap_or_default()));
    Err(refused.unwrap_or(Failure::NotFound { program, path }))
}

fn is_absent(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR)
}

fn not_executable(program: PathBuf, errno: Errno) -> Failure {
    Failure::NotExecutable {
        program,
        errno: errno.raw_os_error(),
    }
}

/// Whether we, being the user by now, may execute `path`. Magic links don't count: they lead
/// to our own binary (CVE-2019-5736).
fn executable(path: &Path) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fd = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
    match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
        FileType::Directory => Err(Errno::ISDIR),
        FileType::RegularFile => rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()),
        _ => Err(Errno::ACCESS),
    }
}

fn execute(plan: &Plan, program: &Path, env: &[(OsString, OsString)]) -> Failure {
    let c_string = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| Errno::INVAL);
    let argv = plan
        .argv
        .iter()
        .map(|arg| c_string(arg.as_bytes().to_vec()));
    let env = env
        .iter()
        .map(|(key, value)| c_string([key.as_bytes(), b"=", value.as_bytes()].concat()));
    let path = c_string(program.as_os_str().to_owned().into_vec());
    let (Ok(argv), Ok(env), Ok(path)) = (
        argv.collect::<Result<Vec<_>, _>>(),
        env.collect::<Result<Vec<_>, _>>(),
        path,
    ) else {
        return Failure::setup(Stage::Exec, program, Errno::INVAL);
    };
    let error = sys::exec::execve(&path, &argv, &env);
    match error.raw_os_error() {
        Some(libc::ENOENT) => match interpreter::missing(program) {
            Some(interpreter) => Failure::Interpreter {
                program: program.into(),
                interpreter,
            },
            None => Failure::setup(Stage::Exec, program, error),
        },
        Some(libc::ENOEXEC) => Failure::Format {
            program: program.into(),
        },
        Some(errno @ (libc::EACCES | libc::EPERM)) => Failure::NotExecutable {
            program: program.into(),
            errno,
        },
        _ => Failure::setup(Stage::Exec, program, error),
    }
}
