//! What clients ask the monitor for.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, WaitId, WaitIdOptions};

use super::super::container;
use super::super::exec::ExecRequest;
use super::super::networks::Plug;
use super::super::processes;
use super::super::state::Status;
use super::super::wire::{Answer, Packet, Refusal, Request};
use super::client::Part;
use super::run::Run;
use super::serve::{Exec, Monitor, join, not_started};
use super::spawn;

impl Monitor {
    /// Takes one packet of a client.
    pub(super) fn hear(&mut self, number: u64) {
        let Some((packet, fds)) = self.client(number).and_then(|client| client.receive()) else {
            return;
        };
        match packet {
            Packet::Request(request) => self.serve_request(number, request, fds),
            Packet::Input(bytes) => {
                if let Some(run) = self.input_of(number) {
                    run.type_in(&bytes);
                }
            }
            Packet::InputEnds => {
                let closes = self.job.stdin_once;
                if let Some(run) = self.input_of(number)
                    && closes
                {
                    run.input_ends();
                }
            }
            Packet::Window(size) => {
                if let Some(run) = &self.run {
                    run.resize(size);
                }
            }
            Packet::Signal(signal) => self.pass_signal(number, signal),
            // Nothing that a client says.
            Packet::Answer(_) | Packet::Output(..) | Packet::Ended(_) => {}
        }
    }

    fn input_of(&mut self, number: u64) -> Option<&mut Run> {
        let part = self.client(number)?.part;
        match part {
            Part::Attached { input: true } => self.run.as_mut(),
            _ => None,
        }
    }

    /// A signal that an attached client got is the program's, or that of its own `exec`.
    fn pass_signal(&mut self, number: u64, signal: i32) {
        let exec = self.execs.iter().find(|exec| exec.client == Some(number));
        let child = match exec {
            Some(exec) => &exec.child,
            None => match &self.run {
                Some(run) => &run.child,
                None => return,
            },
        };
        // It may just have ended.
        let _ = child.kill(signal);
    }

    fn serve_request(&mut self, number: u64, request: Request, fds: Vec<OwnedFd>) {
        let answer = match request {
            Request::Started => {
                return self.become_part(number, Part::Start);
            }
            Request::Attach { input, window } => {
                if let (Some(size), Some(run)) = (window, &self.run) {
                    run.resize(size);
                }
                return self.become_part(number, Part::Attached { input });
            }
            Request::Wait => {
                return self.become_part(number, Part::End);
            }
            // A restart may have put another program in the place of the one that is meant.
            Request::Signal { of: Some(pid), .. } if self.state.pid.is_some_and(|p| p != pid) => {
                Answer::Done
            }
            Request::Signal {
                number: signal,
                stopping,
                ..
            } => self.signal(number, signal, stopping),
            Request::Pause => self.pause(),
            Request::Unpause => self.unpause(),
            Request::Restart => {
                self.restart_asked = Some(number);
                Answer::Done
            }
            Request::Hold => self.hold(number),
            Request::Reload => self.reload(),
            Request::Connect(plug) => self.connect(*plug),
            Request::Disconnect(network) => self.disconnect(&network),
            Request::Launch { joins } => self.launch(fds, joins),
            Request::Exec(request) => return self.exec(number, &request, fds),
            Request::Root => return self.root(number),
        };
        if let Some(client) = self.client(number) {
            client.answer(answer);
        }
    }

    /// Gives a client its part. Who comes before the program runs is answered when it does.
    fn become_part(&mut self, number: u64, part: Part) {
        let runs = self.run.is_some();
        if let Some(client) = self.client(number) {
            client.part = part;
            if runs || part == Part::End {
                client.answer(Answer::Done);
                if part == Part::Start {
                    client.part = Part::Idle;
                }
            } else {
                client.await_start();
            }
        }
    }

    /// Leaves the container's files to a client until it has gone.
    fn hold(&mut self, number: u64) -> Answer {
        let waits = self.restart_at.is_some();
        match self.client(number) {
            Some(client) if waits => {
                client.part = Part::Hold;
                Answer::Done
            }
            _ => Answer::Refused(Refusal::NotRunning),
        }
    }

    /// Passes on a signal of a client. One that is to stop the program ends a restart as well,
    /// unless it is a part of that.
    fn signal(&mut self, client: u64, signal: i32, stopping: bool) -> Answer {
        if stopping && self.restart_asked != Some(client) {
            self.restart_asked = None;
            self.state.stopped = true;
        }
        let Some(run) = &self.run else {
            // It waits to be started again, which is now off.
            if stopping && self.restart_at.is_some() {
                self.state.status = Status::Exited;
                self.announce(self.state.exit_code.unwrap_or(0));
                self.over();
                self.dismiss();
                return Answer::Done;
            }
            return Answer::Refused(Refusal::NotRunning);
        };
        let sent = run.child.kill(signal);
        self.tell("kill", &[("signal", signal.to_string())]);
        if self.state.status == Status::Paused && (stopping || signal == libc::SIGKILL) {
            // A halted program can't take the signal.
            let _ = self.unpause();
        }
        self.write_state();
        match sent {
            Ok(()) => Answer::Done,
            Err(error) => os(&error),
        }
    }

    /// Takes over what `update` may change.
    fn reload(&mut self) -> Answer {
        let Ok(config) = container::read_config(&self.job.dir) else {
            return Answer::Done;
        };
        let limits = config.request.isolation.limits;
        if let Some(run) = &mut self.run
            && limits != self.job.plan.limits
        {
            let changed = run.child.limit(&self.job.plan.limits, &limits, &all);
            if let Err(error) = changed {
                return Answer::Refused(not_started(&error.into()));
            }
        }
        (self.job.restart, self.job.plan.limits) = (config.request.restart, limits);
        Answer::Done
    }

    /// Halts every process of the container, by the kernel's freezer or, where that is not to be
    /// had, by a signal.
    fn pause(&mut self) -> Answer {
        match self.state.status {
            Status::Running => {}
            Status::Paused => return Answer::Refused(Refusal::Paused),
            _ => return Answer::Refused(Refusal::NotRunning),
        }
        let init = self.init();
        let others = || {
            Ok(all()?
                .into_iter()
                .filter(|pid| Some(*pid) != init)
                .collect())
        };
        let frozen = self
            .run
            .as_mut()
            .is_some_and(|run| run.child.freeze(&others));
        if !frozen && let Err(error) = signal_all(Signal::STOP, init) {
            return os(&error);
        }
        self.state.status = Status::Paused;
        self.write_state();
        self.tell("pause", &[]);
        Answer::Done
    }

    fn unpause(&mut self) -> Answer {
        if self.state.status != Status::Paused {
            return Answer::Refused(Refusal::NotPaused);
        }
        let thawed = self.run.as_mut().map_or(Ok(false), |run| run.child.thaw());
        match thawed {
            Ok(true) => {}
            Ok(false) => {
                if let Err(error) = signal_all(Signal::CONT, self.init()) {
                    return os(&error);
                }
            }
            Err(error) => return Answer::Refused(not_started(&error.into())),
        }
        self.state.status = Status::Running;
        self.write_state();
        self.tell("unpause", &[]);
        Answer::Done
    }

    /// Our own init is spared: it must stay able to hear that its monitor is gone.
    fn init(&self) -> Option<i32> {
        self.state.pid.filter(|_| self.job.plan.init)
    }

    /// Starts the monitor of a container that uses this one's network.
    fn launch(&mut self, fds: Vec<OwnedFd>, joins: bool) -> Answer {
        let Some(pid) = self.state.pid.filter(|_| self.run.is_some()) else {
            return Answer::Refused(Refusal::NotRunning);
        };
        let names: &[&str] = if joins {
            &["net", "pid", "ipc"]
        } else {
            &["net"]
        };
        let open = |name: &&str| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::fs::open(format!("/proc/{pid}/ns/{name}"), flags, Mode::empty())
        };
        let namespaces = names.iter().map(open).collect::<Result<Vec<_>, _>>();
        let started = namespaces
            .map_err(std::io::Error::from)
            .and_then(|namespaces| {
                let started = spawn(fds.into_iter().chain(namespaces))?;
                // What was started leaves another process behind and ends.
                rustix::io::retry_on_intr(|| {
                    rustix::process::waitid(WaitId::PidFd(started.as_fd()), WaitIdOptions::EXITED)
                })
                .map_err(std::io::Error::from)
            });
        match started {
            Ok(_) => Answer::Done,
            Err(error) => os(&error),
        }
    }

    fn connect(&mut self, mut plug: Plug) -> Answer {
        let Some(network) = self.run.as_mut().and_then(|run| run.network.as_mut()) else {
            return Answer::Refused(Refusal::NotRunning);
        };
        network.settle(&mut plug);
        match network.connect(&self.job, &plug) {
            Ok(()) => {
                self.job.plugs = network.plugs();
                Answer::Done
            }
            Err(error) => Answer::Refused(not_started(&error.into())),
        }
    }

    fn disconnect(&mut self, name: &str) -> Answer {
        let Some(network) = self.run.as_mut().and_then(|run| run.network.as_mut()) else {
            return Answer::Refused(Refusal::NotRunning);
        };
        let left = network.disconnect(name);
        self.job.plugs = network.plugs();
        match left {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Refused(not_started(&error.into())),
        }
    }

    fn exec(&mut self, number: u64, request: &ExecRequest, fds: Vec<OwnedFd>) {
        let refused = match (&self.run, self.state.status) {
            (None, _) => Some(Refusal::NotRunning),
            (_, Status::Paused) => Some(Refusal::Paused),
            _ => None,
        };
        let joined = match (&self.run, refused) {
            (Some(run), None) => {
                join(&self.job, run, request, fds).map_err(|error| not_started(&error))
            }
            (_, refused) => Err(refused.unwrap_or(Refusal::NotRunning)),
        };
        let Some(client) = self.client(number) else {
            return;
        };
        match joined {
            Ok(child) => {
                client.part = Part::Exec;
                match child.pty() {
                    Some(pty) => client.answer_with(pty.as_fd()),
                    None => client.answer(Answer::Done),
                }
                let client = (!request.detach).then_some(number);
                self.execs.push(Exec { child, client });
            }
            Err(refusal) => client.answer(Answer::Refused(refusal)),
        }
    }

    fn root(&mut self, number: u64) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = self
            .state
            .pid
            .filter(|_| self.run.is_some())
            .map(|pid| rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty()));
        let Some(client) = self.client(number) else {
            return;
        };
        match root {
            None => client.answer(Answer::Refused(Refusal::NotRunning)),
            Some(Err(errno)) => client.answer(os(&errno.into())),
            Some(Ok(root)) => client.answer_with(root.as_fd()),
        }
    }
}

fn os(error: &std::io::Error) -> Answer {
    Answer::Refused(Refusal::Os {
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    })
}

/// Lists all processes of this monitor's container.
fn all() -> std::io::Result<Vec<i32>> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let all = processes::inside(own)?;
    Ok(all.iter().map(|process| process.pid).collect())
}

/// Sends `signal` to all processes of this monitor's container but `init`. Between listing and
/// halting a process may have made another, so it goes on until there is none that is new.
fn signal_all(signal: Signal, init: Option<i32>) -> std::io::Result<()> {
    let mut done: Vec<i32> = init.into_iter().collect();
    loop {
        let found = all()?.into_iter();
        let new: Vec<i32> = found.filter(|pid| !done.contains(pid)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for pid in new {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                // One that has ended meanwhile needs no halt.
                let _ = rustix::process::kill_process(pid, signal);
            }
            done.push(pid);
        }
    }
}
