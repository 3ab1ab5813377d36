//! A program more in a container that runs: `cask exec`, and what health checks are.
//!
//! The monitor starts it, since only the monitor has power over the namespaces for sure: an
//! ordinary user's later commands live in user namespaces of their own. The program gets the
//! caller's own descriptors, or a terminal whose other end the caller gets; either way no byte
//! passes through the monitor.

use std::os::fd::OwnedFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::sandbox::{Caps, Input, Output, Plan, Seccomp, Stdio, UserSpec, WindowSize};

use super::attached::{Session, Terminal};
use super::container::Container;
use super::control;
use super::error::Error;
use super::wire::Request;

/// What `exec` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `-e`, `KEY=value`, on top of the container's.
    pub env: Vec<String>,
    /// `-w`; else the container's.
    pub workdir: Option<String>,
    /// `-u`; else the container's.
    pub user: Option<String>,
    /// `--privileged`: all capabilities there are, and no filter.
    pub privileged: bool,
    /// The size of the terminal, if it gets one.
    pub window: Option<WindowSize>,
    /// `-d`: nobody waits for it.
    pub detach: bool,
}

/// Starts a program in `container` and returns once it has been executed. Unless the request
/// has a terminal or is detached, the program's streams are those of `terminal`; without
/// `interactive` it has no input.
pub fn exec(
    container: &Container,
    request: &ExecRequest,
    interactive: bool,
    terminal: &Terminal<'_>,
) -> Result<Session, Error> {
    let link = control::connect(container)?;
    let failed = |source| Error::Terminal {
        doing: "pass on the standard streams",
        source,
    };
    let null;
    let streams = if request.detach || request.window.is_some() {
        Vec::new()
    } else {
        let stdin = if interactive {
            terminal.stdin
        } else {
            null = std::fs::File::open("/dev/null").map_err(failed)?;
            std::os::fd::AsFd::as_fd(&null)
        };
        vec![stdin, terminal.stdout, terminal.stderr]
    };
    let (socket, mut fds) = link.ask_with(&Request::Exec(Box::new(request.clone())), &streams)?;
    Ok(Session::of_exec(socket, fds.pop(), interactive))
}

/// What the program is, in a container that was made by `plan`.
pub(super) fn plan(container: &Plan, request: &ExecRequest) -> Plan {
    let mut plan = container.clone();
    plan.mounts.clear();
    plan.argv = request.command.iter().map(Into::into).collect();
    for pair in &request.env {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        plan.env.retain(|(known, _)| known != key);
        plan.env.push((key.into(), value.into()));
    }
    if request.window.is_some() && !plan.env.iter().any(|(key, _)| key == "TERM") {
        plan.env.push(("TERM".into(), "xterm".into()));
    }
    if let Some(workdir) = &request.workdir {
        plan.cwd.path = Path::new("/").join(workdir);
    }
    plan.cwd.create = false;
    if let Some(user) = &request.user {
        plan.user = UserSpec(user.clone());
    }
    if request.privileged {
        (plan.caps, plan.seccomp) = (Caps::ALL, Seccomp::Unconfined);
        plan.no_new_privs = false;
    }
    plan.tty = request.window;
    plan
}

/// The program's streams from the descriptors that came with a request.
pub(super) fn stdio(fds: Vec<OwnedFd>) -> Stdio {
    let mut fds = fds.into_iter();
    match (fds.next(), fds.next(), fds.next()) {
        (Some(stdin), Some(stdout), Some(stderr)) => Stdio {
            stdin: Input::Fd(stdin),
            stdout: Output::Fd(stdout),
            stderr: Output::Fd(stderr),
            fds: Vec::new(),
        },
        _ => Stdio::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Rootfs;

    #[test]
    fn the_containers_settings_hold_unless_others_are_asked_for() {
        let rootfs = Rootfs::Directory { path: "/x".into() };
        let mut container = Plan::new(rootfs, vec!["main".into()]);
        container.env = vec![("A".into(), "1".into()), ("B".into(), "2".into())];
        container.user = UserSpec("app".into());
        container.cwd.path = "/srv".into();
        let mut request = ExecRequest {
            command: vec!["ls".into()],
            env: vec!["A=9".into()],
            ..ExecRequest::default()
        };
        let made = plan(&container, &request);
        assert_eq!(made.argv, ["ls"]);
        assert_eq!(
            made.env,
            [("B".into(), "2".into()), ("A".into(), "9".into())]
        );
        assert_eq!(
            (made.user.0.as_str(), made.cwd.path.as_path()),
            ("app", Path::new("/srv"))
        );
        assert_eq!(made.caps, container.caps);
        (request.user, request.workdir, request.privileged) =
            (Some("5".into()), Some("/tmp".into()), true);
        let made = plan(&container, &request);
        assert_eq!(
            (made.user.0.as_str(), made.cwd.path.as_path()),
            ("5", Path::new("/tmp"))
        );
        assert_eq!(made.caps, Caps::ALL);
    }
}
