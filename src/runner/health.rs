//! Health checks: a program run in the container time and again by its monitor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::image::Healthcheck;
use crate::sandbox::{self, Child, Exit, Input, Output, Plan, Stdio};

use super::container::now;
use super::exec::{self, ExecRequest};
use super::state::{Checked, Health, Wellness};

/// Bytes of a check's output that are kept, as docker does.
const KEPT: usize = 4096;
/// Checks that are kept.
const LAST: usize = 5;

/// How to check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Check {
    /// Program and arguments.
    pub(super) command: Vec<String>,
    /// Time between checks.
    pub(super) interval: Duration,
    /// Time that one may take.
    pub(super) timeout: Duration,
    /// Time in which failures do not count.
    pub(super) start_period: Duration,
    /// Time between checks in that time.
    pub(super) start_interval: Duration,
    /// Failures in a row that make it unhealthy.
    pub(super) retries: u32,
}

/// Returns the check of an image with what `flags` change about it.
pub fn healthcheck(image: Option<&Healthcheck>, flags: &Healthcheck) -> Healthcheck {
    let image = image.cloned().unwrap_or_default();
    let either = |flag: i64, image: i64| if flag > 0 { flag } else { image };
    Healthcheck {
        test: match flags.test.is_empty() {
            true => image.test,
            false => flags.test.clone(),
        },
        interval: either(flags.interval, image.interval),
        timeout: either(flags.timeout, image.timeout),
        start_period: either(flags.start_period, image.start_period),
        start_interval: either(flags.start_interval, image.start_interval),
        retries: either(flags.retries, image.retries),
    }
}

/// Decides how a container is checked: the flags win over the image, docker's defaults fill up.
/// `shell` is the image's for checks in shell form.
pub(super) fn check(
    image: Option<&Healthcheck>,
    flags: &Healthcheck,
    shell: &[String],
) -> Option<Check> {
    let asked = healthcheck(image, flags);
    let command = match asked.test.split_first() {
        Some((kind, rest)) if kind == "CMD" && !rest.is_empty() => rest.to_vec(),
        Some((kind, rest)) if kind == "CMD-SHELL" => {
            let sh = ["/bin/sh".to_owned(), "-c".to_owned()];
            let shell = if shell.is_empty() { &sh[..] } else { shell };
            [shell, rest].concat()
        }
        _ => return None,
    };
    let or = |nanos: i64, default: u64| match u64::try_from(nanos) {
        Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
        _ => Duration::from_secs(default),
    };
    let retries = u32::try_from(asked.retries).ok();
    Some(Check {
        command,
        interval: or(asked.interval, 30),
        timeout: or(asked.timeout, 30),
        start_period: or(asked.start_period, 0),
        start_interval: or(asked.start_interval, 5),
        retries: retries.filter(|n| *n > 0).unwrap_or(3),
    })
}

/// Runs the checks of one run of a container. Time is an argument, so that it can be tested.
#[derive(Debug)]
pub(super) struct Checker {
    check: Check,
    began: Instant,
    next: Instant,
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    child: Child,
    start: String,
    until: Instant,
    output: Vec<u8>,
    timed_out: bool,
}

impl Checker {
    /// Starts to count from `now`.
    pub(super) fn new(check: Check, now: Instant) -> Self {
        let mut checker = Self {
            check,
            began: now,
            next: now,
            under_way: None,
        };
        checker.next = now + checker.pause(now, Wellness::Starting);
        checker
    }

    fn pause(&self, now: Instant, status: Wellness) -> Duration {
        let starting = now < self.began + self.check.start_period;
        match starting && status == Wellness::Starting {
            true => self.check.start_interval,
            false => self.check.interval,
        }
    }

    /// When there is something to do that no descriptor tells.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.under_way {
            Some(check) if check.timed_out => None,
            Some(check) => Some(check.until),
            None => Some(self.next),
        }
    }

    /// Descriptors to wait for: the check's end and its output.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let check = self.under_way.iter();
        check.flat_map(|check| {
            let pipes = [&check.child.stdout, &check.child.stderr];
            let pipes = pipes.into_iter().flatten().map(AsFd::as_fd);
            std::iter::once(check.child.pidfd()).chain(pipes)
        })
    }

    /// Does what is due. Returns the new finding when a check has ended.
    pub(super) fn step(
        &mut self,
        now: Instant,
        plan: &Plan,
        inside: &Child,
        health: &Health,
    ) -> Option<Health> {
        if self.under_way.is_none() {
            if now < self.next {
                return None;
            }
            match self.start(now, plan, inside) {
                Ok(check) => self.under_way = Some(check),
                Err(error) => return Some(self.end(now, health, failed(&error))),
            }
        }
        let check = self.under_way.as_mut()?;
        check.collect();
        if now >= check.until && !check.timed_out {
            check.timed_out = true;
            // It may just have ended by itself, which is as good.
            let _ = check.child.signal(rustix::process::Signal::KILL);
        }
        let exit = match check.child.try_wait() {
            Ok(None) => return None,
            Ok(Some(exit)) => Some(exit),
            Err(_) => None,
        };
        check.collect();
        let check = self.under_way.take()?;
        let timeout = self.check.timeout;
        Some(self.end(now, health, check.result(exit, timeout)))
    }

    fn start(&self, at: Instant, plan: &Plan, inside: &Child) -> Result<UnderWay, sandbox::Error> {
        let request = ExecRequest {
            command: self.check.command.clone(),
            ..ExecRequest::default()
        };
        let plan = exec::plan(plan, &request);
        let stdio = Stdio {
            stdin: Input::Null,
            stdout: Output::Pipe,
            stderr: Output::Pipe,
            fds: Vec::new(),
        };
        let start = now();
        let child = inside.join(&plan, stdio)?;
        for pipe in [&child.stdout, &child.stderr].into_iter().flatten() {
            // A pipe that stays blocking is read only when there is something.
            let _ = rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK);
        }
        Ok(UnderWay {
            child,
            start,
            until: at + self.check.timeout,
            output: Vec::new(),
            timed_out: false,
        })
    }

    /// Counts a result and decides when to check again.
    fn end(&mut self, now: Instant, before: &Health, result: Checked) -> Health {
        let in_start_period = now < self.began + self.check.start_period;
        let after = judge(before, result, in_start_period, self.check.retries);
        self.next = now + self.pause(now, after.status);
        after
    }
}

impl UnderWay {
    fn collect(&mut self) {
        for pipe in [&mut self.child.stdout, &mut self.child.stderr] {
            let mut buffer = [0; 4096];
            while let Some(fd) = pipe {
                match rustix::io::read(&*fd, &mut buffer) {
                    Ok(n) if n > 0 => {
                        let room = KEPT.saturating_sub(self.output.len()).min(n);
                        self.output.extend_from_slice(&buffer[..room]);
                    }
                    Err(Errno::AGAIN | Errno::INTR) => break,
                    _ => *pipe = None,
                }
            }
        }
    }

    fn result(self, exit: Option<Exit>, timeout: Duration) -> Checked {
        let output = match self.timed_out {
            true => format!("health check exceeded timeout ({timeout:?})"),
            false => String::from_utf8_lossy(&self.output).into_owned(),
        };
        let exit_code = match exit {
            _ if self.timed_out => -1,
            Some(Exit::Code(code)) => code,
            Some(Exit::Signal(signal)) => 128 + signal,
            None => -1,
        };
        Checked {
            start: self.start,
            end: now(),
            exit_code,
            output,
        }
    }
}

fn failed(error: &dyn std::error::Error) -> Checked {
    Checked {
        start: now(),
        end: now(),
        exit_code: -1,
        output: error.to_string(),
    }
}

/// What a check's result makes of the finding.
fn judge(before: &Health, result: Checked, in_start_period: bool, retries: u32) -> Health {
    let mut after = before.clone();
    if result.exit_code == 0 {
        (after.status, after.failing_streak) = (Wellness::Healthy, 0);
    } else if !(in_start_period && before.status == Wellness::Starting) {
        after.failing_streak += 1;
        if after.failing_streak >= retries {
            after.status = Wellness::Unhealthy;
        }
    }
    after.log.push(result);
    if after.log.len() > LAST {
        after.log.remove(0);
    }
    after
}

/// A container that has not been checked yet.
pub(super) fn unknown() -> Health {
    Health {
        status: Wellness::Starting,
        failing_streak: 0,
        log: Vec::new(),
    }
}

/// A descriptor that is read without waiting.
pub(super) fn nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i32) -> Checked {
        Checked {
            start: String::new(),
            end: String::new(),
            exit_code,
            output: String::new(),
        }
    }

    #[test]
    fn the_flags_win_over_the_image_and_defaults_fill_up() {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let image = Healthcheck {
            test: words(&["CMD-SHELL", "true && true"]),
            interval: 2_000_000_000,
            ..Healthcheck::default()
        };
        let flags = Healthcheck {
            retries: 7,
            ..Healthcheck::default()
        };
        let made = check(Some(&image), &flags, &[]).unwrap();
        assert_eq!(made.command, ["/bin/sh", "-c", "true && true"]);
        assert_eq!((made.interval.as_secs(), made.timeout.as_secs()), (2, 30));
        assert_eq!(made.retries, 7);
        let off = Healthcheck {
            test: words(&["NONE"]),
            ..Healthcheck::default()
        };
        assert_eq!(check(Some(&image), &off, &[]), None);
        assert_eq!(check(None, &Healthcheck::default(), &[]), None);
    }

    #[test]
    fn failures_count_in_a_row_and_not_while_it_starts() {
        let mut health = unknown();
        health = judge(&health, result(1), true, 2);
        assert_eq!(
            (health.status, health.failing_streak),
            (Wellness::Starting, 0)
        );
        health = judge(&health, result(1), false, 2);
        assert_eq!(health.status, Wellness::Starting);
        health = judge(&health, result(-1), false, 2);
        assert_eq!(health.status, Wellness::Unhealthy);
        health = judge(&health, result(0), false, 2);
        assert_eq!(
            (health.status, health.failing_streak),
            (Wellness::Healthy, 0)
        );
        for _ in 0..9 {
            health = judge(&health, result(0), false, 2);
        }
        assert_eq!(health.log.len(), LAST);
    }
}
