//! What changes while a container lives: `state.json`, replaced as a whole.
//!
//! Whoever holds the container's lock writes it. What it says of a running container counts
//! only while the lock is held; readers repair the rest in what they return and leave the file
//! to the next holder.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use super::ports::Bound;
use super::processes::stat;

/// The exit code of a program that the kernel ended with its monitor.
pub(super) const KILLED: i32 = 128 + libc::SIGKILL;

/// How far a container has come, in docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was never started.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are halted.
    Paused,
    /// Its program has ended and is started again in a while.
    Restarting,
    /// Its program has ended, or was ended with its monitor.
    Exited,
    /// It was to be removed, and something was in the way.
    Dead,
}

impl Status {
    /// Returns docker's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Returns whether a monitor has it.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

impl std::str::FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [
            Self::Created,
            Self::Running,
            Self::Paused,
            Self::Restarting,
            Self::Exited,
            Self::Dead,
        ];
        let found = all.into_iter().find(|status| status.word() == text);
        found.ok_or_else(|| format!("the status is one of {}", all.map(Self::word).join(", ")))
    }
}

/// How a container feels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wellness {
    /// No check has succeeded yet, and there is still time.
    Starting,
    /// The last check succeeded.
    Healthy,
    /// As many checks failed in a row as were asked for.
    Unhealthy,
}

impl Wellness {
    /// Returns docker's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One health check that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// When it began, as RFC 3339.
    pub start: String,
    /// When it ended.
    pub end: String,
    /// Its exit code; -1 when it took too long.
    pub exit_code: i32,
    /// What it wrote, the beginning of it.
    pub output: String,
}

/// What the health checks found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The finding.
    pub status: Wellness,
    /// Checks in a row that failed.
    pub failing_streak: u32,
    /// The last five.
    pub log: Vec<Checked>,
}

/// What changes while a container lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// How far it has come.
    pub status: Status,
    /// When the program started last, as RFC 3339.
    pub started: Option<String>,
    /// When it ended last, as RFC 3339. Of a container that runs, its monitor is about to do what
    /// is due at the end.
    pub finished: Option<String>,
    /// Its exit code; 128 and the number for a signal.
    pub exit_code: Option<i32>,
    /// Whether the kernel killed one of its processes last time because its memory was used up.
    pub oom_killed: bool,
    /// Why the program did not start.
    pub error: Option<String>,
    /// Process id of the container's pid 1.
    pub pid: Option<i32>,
    /// Start time of that process, which tells it from a later one with the same number.
    pub born: Option<u64>,
    /// Process id of the monitor.
    pub monitor: Option<i32>,
    /// How often the restart policy has started it again.
    pub restarts: u32,
    /// Whether somebody asked it to stop, so that the policy leaves it alone.
    pub stopped: bool,
    /// Whether it was up when its monitor was killed, by the end of the machine for one.
    pub lost: bool,
    /// What the health checks found, where there are any.
    pub health: Option<Health>,
    /// Ports of the machine that lead into it, while it is up.
    pub ports: Vec<Bound>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            status: Status::Created,
            started: None,
            finished: None,
            exit_code: None,
            oom_killed: false,
            error: None,
            pid: None,
            born: None,
            monitor: None,
            restarts: 0,
            stopped: false,
            lost: false,
            health: None,
            ports: Vec::new(),
        }
    }
}

impl State {
    /// What is true when the file says this and nobody holds the lock: the monitor was killed
    /// and took the program with it.
    pub(super) fn abandoned(mut self) -> Self {
        if self.status.is_up() {
            // The program may have ended before its monitor did.
            let code = match (self.status, &self.finished) {
                (Status::Restarting, _) | (_, Some(_)) => self.exit_code,
                _ => Some(KILLED),
            };
            self.status = Status::Exited;
            self.exit_code = code;
            self.pid = None;
            self.lost = true;
        }
        self
    }

    /// Whether the process that it says is the container's pid 1 has ended.
    pub(super) fn has_ended(&self) -> bool {
        match (self.pid, self.born) {
            (Some(pid), Some(born)) => {
                let fields = stat(pid).unwrap_or_default();
                fields
                    .first()
                    .is_none_or(|state| matches!(state.as_str(), "Z" | "X"))
                    || started(&fields) != Some(born)
            }
            _ => false,
        }
    }

    /// Waits until the processes of a container whose monitor was killed are gone: the kernel
    /// ends them by itself, but not in no time.
    pub(super) fn await_end(&self) {
        let (Some(pid), Some(born)) = (self.pid.and_then(Pid::from_raw), self.born) else {
            return;
        };
        let Ok(fd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
            return;
        };
        let until = Instant::now() + Duration::from_secs(10);
        while birth(pid.as_raw_nonzero().get()) == Some(born) && Instant::now() < until {
            let step = Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            let mut fds = [PollFd::new(&fd, PollFlags::IN)];
            if poll(&mut fds, Some(&step)).is_ok_and(|ready| ready > 0) {
                return;
            }
        }
    }
}

/// Start time of a process in ticks since boot.
pub(super) fn birth(pid: i32) -> Option<u64> {
    started(&stat(pid)?)
}

/// Field 22 of proc_pid_stat(5).
fn started(fields: &[String]) -> Option<u64> {
    fields.get(19)?.parse().ok()
}

/// Reads a state as it was written.
pub(super) fn read(path: &Path) -> std::io::Result<State> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Replaces a state.
pub(super) fn write(path: &Path, state: &State) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(state).expect("a state holds nothing JSON cannot");
    let part = path.with_extension("json.part");
    fs::write(&part, bytes)?;
    fs::rename(&part, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_without_a_monitor_is_repaired() {
        let up = |status| State {
            status,
            exit_code: Some(3),
            pid: Some(1),
            ..State::default()
        };
        let seen = |status| {
            let state = up(status).abandoned();
            assert_eq!(state.lost, status.is_up());
            (state.status, state.exit_code)
        };
        assert_eq!(seen(Status::Running), (Status::Exited, Some(137)));
        assert_eq!(seen(Status::Paused), (Status::Exited, Some(137)));
        assert_eq!(seen(Status::Restarting), (Status::Exited, Some(3)));
        assert_eq!(seen(Status::Exited), (Status::Exited, Some(3)));
        assert_eq!(seen(Status::Created), (Status::Created, Some(3)));
        let ended = State {
            finished: Some("2026-01-31T10:00:00Z".to_owned()),
            ..up(Status::Running)
        };
        assert_eq!(ended.abandoned().exit_code, Some(3), "known before");
    }

    #[test]
    fn a_process_has_one_birth() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        assert!(birth(own).is_some());
        assert_eq!(birth(own), birth(own));
        let mut state = State {
            pid: Some(own),
            born: birth(own),
            ..State::default()
        };
        assert!(!state.has_ended());
        state.born = birth(own).map(|at| at - 1);
        assert!(state.has_ended(), "another process has the number");
        assert_eq!(birth(i32::MAX), None);
    }
}
