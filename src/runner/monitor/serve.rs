//! The monitor's loop: waits for everything at once and does what is due.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::event::Stream;
use crate::sandbox::{self, Child, Signals, adopt_executable, inherited};
use crate::store::{self, Rubbish, Store};

use super::super::container::{self, exit_code, now};
use super::super::error::Error;
use super::super::events;
use super::super::health::{self, Checker};
use super::super::logs::{Journal, Writer};
use super::super::networks;
use super::super::restart::Backoff;
use super::super::state::{self, State, Status};
use super::super::wire::{Answer, Packet, Refusal};
use super::client::{Client, Part};
use super::network::Network;
use super::run::Run;
use super::{CLIENT_FD, JOB_FD, Job, LOCK_FD, PORTS_FD, SOCKET, read_job};

/// A monitor that had nothing to do for so long may have nothing to do for long.
const SETTLED: Duration = Duration::from_millis(250);

/// Exit code of a process that was started by the monitor's name and is none.
const NOT_A_MONITOR: i32 = 125;

/// Serves as the monitor that this process was started to be.
pub(super) fn main() -> i32 {
    let Ok(given) = Given::take() else {
        return NOT_A_MONITOR;
    };
    // It is not to be the child of another container's monitor.
    if given.shared.is_some() && sandbox::go_on_alone().is_err() {
        return NOT_A_MONITOR;
    }
    match Monitor::new(given).map(Monitor::serve) {
        Ok(()) => 0,
        Err(_) => NOT_A_MONITOR,
    }
}

/// What the starter left for the monitor.
struct Given {
    job: Job,
    client: OwnedFd,
    lock: OwnedFd,
    ports: Vec<OwnedFd>,
    shared: Option<OwnedFd>,
    processes: Vec<OwnedFd>,
}

impl Given {
    fn take() -> io::Result<Self> {
        let job = read_job(inherited(JOB_FD)?)?;
        let behind = PORTS_FD + i32::try_from(job.ports.len()).unwrap_or(i32::MAX - PORTS_FD);
        let ports = (PORTS_FD..behind)
            .map(inherited)
            .collect::<io::Result<_>>()?;
        let shared = match job.shares {
            true => Some(inherited(behind)?),
            false => None,
        };
        let behind = behind + i32::from(job.shares);
        let last = behind + if job.joins { 2 } else { 0 };
        let processes = (behind..last).map(inherited).collect::<io::Result<_>>()?;
        adopt_executable(inherited(last)?);
        Ok(Self {
            job,
            client: inherited(CLIENT_FD)?,
            lock: inherited(LOCK_FD)?,
            ports,
            shared,
            processes,
        })
    }
}

/// A program that a client started besides the container's own.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) child: Child,
    /// The number of the client that waits for it.
    pub(super) client: Option<u64>,
}

/// All that the monitor has.
#[derive(Debug)]
pub(super) struct Monitor {
    pub(super) job: Job,
    pub(super) state: State,
    signals: Signals,
    listener: OwnedFd,
    pub(super) clients: Vec<Client>,
    next_client: u64,
    pub(super) run: Option<Run>,
    pub(super) execs: Vec<Exec>,
    log: Option<Writer>,
    journal: Option<Journal>,
    checker: Option<Checker>,
    backoff: Backoff,
    pub(super) restart_at: Option<Instant>,
    /// When to give back the memory that the last thing to do took; `None` when it has been.
    settle_at: Option<Instant>,
    /// The client that asked for a restart, as long as it is there.
    pub(super) restart_asked: Option<u64>,
    /// `None` once the container is started no more.
    lock: Option<OwnedFd>,
    /// The files of the container once it was removed.
    rubbish: Option<Rubbish>,
    /// Sockets of the job's ports.
    ports: Vec<OwnedFd>,
    /// Another container's network.
    shared: Option<OwnedFd>,
    /// Its processes: pid and IPC namespace.
    processes: Vec<OwnedFd>,
}

/// What a descriptor that is waited for belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Signals,
    Listener,
    Client(u64),
    Ended,
    Output(Stream),
    Input,
    Exec,
    Check,
    /// A network of a user's, by its place among the run's.
    Network(usize),
}

impl Monitor {
    fn new(given: Given) -> io::Result<Self> {
        let Given {
            job,
            client,
            lock,
            ports,
            shared,
            processes,
        } = given;
        rustix::process::setsid()?;
        rustix::process::chdir("/")?;
        // Only the name that ps shows; it may stay what it is.
        let _ = rustix::thread::set_name(c"cask-monitor");
        let signals = Signals::take_all()?;
        let listener = listen(&job)?;
        let state = container::read_state(&job.dir).unwrap_or_default();
        let log = match job.log {
            Some((size, files)) => Some(Writer::open(&job.dir, size, files)?),
            None => None,
        };
        let journal = job.journal.as_ref().map(Journal::open).transpose()?;
        let mut monitor = Self {
            job,
            state,
            signals,
            listener,
            clients: Vec::new(),
            next_client: 0,
            run: None,
            execs: Vec::new(),
            log,
            journal,
            checker: None,
            backoff: Backoff::default(),
            restart_at: None,
            settle_at: None,
            restart_asked: None,
            lock: Some(lock),
            rubbish: None,
            ports,
            shared,
            processes,
        };
        monitor.state.restarts = 0;
        monitor.adopt(client);
        // What the starter asked for counts before the program runs.
        monitor.hear(0);
        Ok(monitor)
    }

    fn serve(mut self) {
        self.begin();
        while self.lock.is_some() || !self.clients.is_empty() {
            self.turn();
        }
    }

    /// Starts the program.
    fn begin(&mut self) {
        self.restart_at = None;
        self.restart_asked = None;
        match Run::start(
            &self.job,
            &self.ports,
            self.shared.as_ref(),
            &self.processes,
        ) {
            Ok(run) => {
                let health = self.job.check.as_ref().map(|_| health::unknown());
                self.state = State {
                    status: Status::Running,
                    started: Some(now()),
                    finished: None,
                    exit_code: None,
                    oom_killed: false,
                    error: None,
                    pid: Some(run.child.pid()),
                    born: state::birth(run.child.pid()),
                    monitor: Some(rustix::process::getpid().as_raw_nonzero().get()),
                    restarts: self.state.restarts,
                    stopped: false,
                    lost: false,
                    health,
                    ports: self.job.ports.clone(),
                };
                let check = self.job.check.clone();
                self.checker = check.map(|check| Checker::new(check, Instant::now()));
                self.run = Some(run);
                self.settle_at = Some(Instant::now() + SETTLED);
                self.write_state();
                self.tell("start", &[]);
                self.tell_started(&Answer::Done);
            }
            Err(error) => {
                let refusal = not_started(&error.into());
                self.state.error = Some(match &refusal {
                    Refusal::NotStarted { chain, .. } => chain.join(": "),
                    _ => String::new(),
                });
                let code = match refusal {
                    Refusal::NotStarted { code, .. } => i32::from(code),
                    _ => 125,
                };
                self.state.exit_code = Some(code);
                self.state.status = match self.state.started {
                    None => Status::Created,
                    Some(_) => Status::Exited,
                };
                self.over();
                self.tell_started(&Answer::Refused(refusal));
                self.announce(code);
                self.dismiss();
            }
        }
    }

    fn tell_started(&mut self, answer: &Answer) {
        for client in &mut self.clients {
            let part = client.part;
            match part {
                Part::Start => {
                    client.part = Part::Idle;
                    client.answer(answer.clone());
                }
                Part::Attached { .. } if client.awaits_start() => client.answer(answer.clone()),
                _ => {}
            }
        }
    }

    /// Records an event.
    pub(super) fn tell(&self, action: &str, more: &[(&str, String)]) {
        // A config that can't be read has no name to tell.
        if let Ok(config) = container::read_config(&self.job.dir) {
            events::emit(&self.job.root, action, &self.job.id, &config, more);
        }
    }

    /// Writes the state; a full disk must not end a container.
    pub(super) fn write_state(&self) {
        let _ = state::write(&self.job.dir.join("state.json"), &self.state);
    }

    /// Waits once and does what is due.
    fn turn(&mut self) {
        let settled = self.settle_at.take_if(|at| *at <= Instant::now()).is_some();
        let timeout = self.deadline().map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        let ready = self.wait(timeout.as_ref(), settled);
        // It may be this that ended the wait, and is seen to next.
        if self.settle_at.is_none_or(|at| at > Instant::now()) {
            self.settle_at = Some(Instant::now() + SETTLED);
        }
        for (tag, flags) in ready {
            match tag {
                Tag::Signals => self.obey(),
                Tag::Listener => self.accept(),
                Tag::Client(number) => {
                    if flags.contains(PollFlags::OUT)
                        && let Some(client) = self.client(number)
                    {
                        client.flush();
                    }
                    if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                        self.hear(number);
                    }
                }
                Tag::Output(stream) => self.pass_on(stream),
                Tag::Input => {
                    if let Some(run) = &mut self.run {
                        run.write_input();
                    }
                }
                Tag::Ended => self.ended(),
                Tag::Exec => self.reap_execs(),
                Tag::Check => {}
                Tag::Network(place) => {
                    if let Some(network) = self.network() {
                        network.lost(place);
                    }
                }
            }
        }
        self.check();
        self.come_back();
        if self.next_start().is_some_and(|at| at <= Instant::now()) {
            self.state.restarts += 1;
            self.begin();
        }
        self.forget_clients();
    }

    fn deadline(&self) -> Option<Instant> {
        let paused = self.state.status == Status::Paused;
        let check = self
            .checker
            .as_ref()
            .filter(|_| self.run.is_some() && !paused);
        let check = check.and_then(Checker::deadline);
        let networks = self.run.iter().filter_map(|run| run.network.as_ref());
        let networks = networks.filter_map(Network::deadline);
        let others = [check, self.next_start(), self.settle_at];
        let others = others.into_iter().flatten();
        networks.chain(others).min()
    }

    /// When to start the program again, unless a client is in the way.
    fn next_start(&self) -> Option<Instant> {
        let held = self.clients.iter().any(|client| client.part == Part::Hold);
        self.restart_at.filter(|_| !held)
    }

    /// Waits, with as little memory as can be if this may take long.
    fn wait(&self, timeout: Option<&Timespec>, settled: bool) -> Vec<(Tag, PollFlags)> {
        let mut tags = vec![Tag::Signals, Tag::Listener];
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        let mut add = |tag, fd, flags| {
            tags.push(tag);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        for client in &self.clients {
            let mut flags = PollFlags::IN;
            if client.has_queue() {
                flags |= PollFlags::OUT;
            }
            // Input that the program does not take stays with the client.
            if let (Part::Attached { input: true }, Some(run)) = (client.part, &self.run)
                && run.input_is_full()
            {
                flags -= PollFlags::IN;
            }
            add(Tag::Client(client.number), client.fd(), flags);
        }
        if let Some(run) = &self.run {
            add(Tag::Ended, run.child.pidfd(), PollFlags::IN);
            // Nor is more output made than the clients take.
            if !self.clients.iter().any(Client::is_full) {
                for (stream, fd) in run.outputs() {
                    add(Tag::Output(stream), fd, PollFlags::IN);
                }
            }
            if let Some(fd) = run.wants_input() {
                add(Tag::Input, fd, PollFlags::OUT);
            }
        }
        for exec in &self.execs {
            add(Tag::Exec, exec.child.pidfd(), PollFlags::IN);
        }
        let networks = self.run.iter().filter_map(|run| run.network.as_ref());
        for (place, fd) in networks.flat_map(Network::fds) {
            add(Tag::Network(place), fd, PollFlags::IN);
        }
        for fd in self.checker.iter().flat_map(Checker::fds) {
            add(Tag::Check, fd, PollFlags::IN);
        }
        if settled {
            // Nothing is done between this and the wait that would bring much of it back. What
            // can't be given back is held on to.
            let _ = sandbox::give_back_executable();
        }
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            // Interrupted or out of memory: look again.
            Err(_) => return Vec::new(),
        }
        let ready = fds.iter().map(PollFd::revents);
        let both = tags.into_iter().zip(ready);
        both.filter(|(_, flags)| !flags.is_empty()).collect()
    }

    fn network(&mut self) -> Option<&mut Network> {
        self.run.as_mut().and_then(|run| run.network.as_mut())
    }

    /// Comes back to networks whose process has ended.
    fn come_back(&mut self) {
        if let Some(network) = self.run.as_mut().and_then(|run| run.network.as_mut()) {
            network.come_back(&self.job);
        }
    }

    /// The machine goes down, or somebody is done with us: the program shall hear of it.
    fn obey(&mut self) {
        while let Ok(Some(number)) = self.signals.next() {
            if matches!(number, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT)
                && let Some(run) = &self.run
            {
                // It may just have ended.
                let _ = run.child.kill(number);
            }
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            self.adopt(socket);
        }
    }

    fn adopt(&mut self, socket: OwnedFd) {
        // A client that can't be served sees its connection end.
        if let Ok(client) = Client::new(self.next_client, socket) {
            self.clients.push(client);
        }
        self.next_client += 1;
    }

    pub(super) fn client(&mut self, number: u64) -> Option<&mut Client> {
        self.clients
            .iter_mut()
            .find(|client| client.number == number)
    }

    /// Copies what the program wrote to the log and to everybody who listens.
    fn pass_on(&mut self, stream: Stream) {
        let Some(run) = &mut self.run else { return };
        let Some(bytes) = run.read(stream) else {
            return;
        };
        if let Some(log) = &mut self.log {
            // A full disk must not stop the program; the log has a gap then.
            let _ = log.write(stream, &bytes);
        }
        if let Some(journal) = &mut self.journal {
            journal.write(stream, &bytes);
        }
        for client in &mut self.clients {
            if let Part::Attached { .. } = client.part {
                client.send(&Packet::Output(stream, bytes.clone()));
            }
        }
    }

    /// The program has ended: what it wrote last is passed on, and the policy decides.
    fn ended(&mut self) {
        let Some(run) = &mut self.run else { return };
        let code = match run.child.wait() {
            Ok(exit) => exit_code(exit),
            // The mount points that were made for it stay; how it ended is not known.
            Err(_) => 125,
        };
        self.state.oom_killed = run.child.killed_for_memory();
        self.state.exit_code = Some(code);
        self.state.finished = Some(now());
        // Before all else: a monitor that is killed from here on takes nobody with it. Who hears of
        // the end waits for the rest, output that is still to come among it.
        self.announce(code);
        self.write_state();
        if let Some(run) = &mut self.run {
            run.input_ends();
        }
        while let Some(stream) = self.run.as_ref().and_then(Run::has_output) {
            self.pass_on(stream);
        }
        if let Some(journal) = &mut self.journal {
            journal.finish();
        }
        let ran = self
            .run
            .take()
            .map_or(Duration::ZERO, |run| run.began.elapsed());
        self.checker = None;
        self.state.pid = None;
        if self.state.oom_killed {
            self.tell("oom", &[]);
        }
        self.tell("die", &[("exitCode", code.to_string())]);
        let again = !self.state.stopped && self.job.restart.again(code, self.state.restarts);
        if self.restart_asked.is_some() {
            self.dismiss();
            self.begin();
        } else if again {
            self.state.status = Status::Restarting;
            self.restart_at = Some(Instant::now() + self.backoff.next(ran));
            self.write_state();
            self.dismiss();
        } else {
            self.state.status = Status::Exited;
            self.over();
            self.dismiss();
        }
        self.reap_execs();
    }

    /// Tells the end of the run to those who wait for it, before anything is done about it.
    pub(super) fn announce(&mut self, code: i32) {
        for client in &mut self.clients {
            if let Part::Attached { .. } | Part::End = client.part {
                client.send(&Packet::Ended(code));
            }
        }
    }

    /// Lets those go to whom it was told: all that is due is done.
    pub(super) fn dismiss(&mut self) {
        let over = self.lock.is_none();
        for client in &mut self.clients {
            match client.part {
                Part::Attached { .. } | Part::End => client.close(),
                _ if over => client.close(),
                _ => {}
            }
        }
        // Nobody has waited for the disk.
        self.rubbish = None;
    }

    /// The container is started no more: the last state, no socket, no lock.
    pub(super) fn over(&mut self) {
        self.restart_at = None;
        self.state.monitor = None;
        // Before anybody hears of the end: they are free for the next start.
        self.ports.clear();
        networks::release_leases(&self.job.root, &self.job.id);
        if self.state.stopped {
            self.tell("stop", &[]);
        }
        if self.job.remove {
            match self.remove() {
                Ok(rubbish) => self.rubbish = Some(rubbish),
                Err(_) => self.state.status = Status::Dead,
            }
        }
        if self.rubbish.is_none() {
            self.write_state();
            // The next monitor makes its own.
            let _ = fs::remove_file(self.job.dir.join(SOCKET));
        }
        self.lock = None;
    }

    fn remove(&self) -> Result<Rubbish, Error> {
        let options = store::Options {
            user_xattr: self.job.user_xattr,
            owners: self.job.owners,
        };
        let store = Store::open(&self.job.root, options)?;
        container::erase(&store, &self.job.id, true)
    }

    fn reap_execs(&mut self) {
        let mut ended = Vec::new();
        self.execs.retain_mut(|exec| match exec.child.try_wait() {
            Ok(None) => true,
            Ok(Some(exit)) => {
                ended.push((exec.client, exit_code(exit)));
                false
            }
            Err(_) => {
                ended.push((exec.client, 125));
                false
            }
        });
        for (number, code) in ended {
            if let Some(client) = number.and_then(|number| self.client(number)) {
                client.send(&Packet::Ended(code));
                client.close();
            }
        }
    }

    fn check(&mut self) {
        let (Some(checker), Some(run), Some(health)) =
            (&mut self.checker, &self.run, &mut self.state.health)
        else {
            return;
        };
        if self.state.status == Status::Paused {
            return;
        }
        let found = checker.step(Instant::now(), &self.job.plan, &run.child, health);
        if let Some(found) = found {
            let was = std::mem::replace(&mut health.status, found.status);
            let is = found.status;
            self.state.health = Some(found);
            self.write_state();
            if is != was {
                self.tell(&format!("health_status: {}", is.word()), &[]);
            }
        }
    }

    fn forget_clients(&mut self) {
        let gone: Vec<Client> = self
            .clients
            .extract_if(.., |client| client.is_over())
            .collect();
        for client in gone {
            if let (Part::Attached { input: true }, Some(run)) = (client.part, &mut self.run)
                && self.job.stdin_once
            {
                run.input_ends();
            }
            // The next kill is not its own.
            self.restart_asked = self.restart_asked.filter(|asker| *asker != client.number);
            for exec in &mut self.execs {
                exec.client = exec.client.filter(|number| *number != client.number);
            }
        }
    }
}

/// Why a program did not start, for the client.
pub(super) fn not_started(error: &Error) -> Refusal {
    let mut chain = vec![error.to_string()];
    let mut link: &dyn std::error::Error = error;
    while let Some(source) = link.source() {
        chain.push(source.to_string());
        link = source;
    }
    let remedy = match error {
        Error::Sandbox(sandbox::Error::Limit(limit)) => Some(limit.remedy()),
        _ => None,
    };
    Refusal::NotStarted {
        chain,
        code: error.exit_code(),
        remedy,
    }
}

/// Binds the socket. A path of a socket is short, so it goes by a descriptor of the directory.
fn listen(job: &Job) -> io::Result<OwnedFd> {
    let path = job.dir.join(SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let dir = fs::File::open(&job.dir)?;
    let short = short_path(dir.as_fd());
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&short)?)?;
    rustix::net::listen(&socket, 64)?;
    Ok(socket)
}

/// The socket's path by a descriptor of the container's directory.
pub(in crate::runner) fn short_path(dir: BorrowedFd<'_>) -> PathBuf {
    let number = std::os::fd::AsRawFd::as_raw_fd(&dir);
    PathBuf::from(format!("/proc/self/fd/{number}/{SOCKET}"))
}

/// Starts what a client asked for besides.
pub(super) fn join(
    job: &Job,
    run: &Run,
    request: &super::super::exec::ExecRequest,
    fds: Vec<OwnedFd>,
) -> Result<Child, Error> {
    let plan = super::super::exec::plan(&job.plan, request);
    let stdio = super::super::exec::stdio(fds);
    Ok(run.child.join(&plan, stdio)?)
}
