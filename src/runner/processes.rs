//! The processes of a container, seen from outside.
//!
//! They descend from its monitor and live in another pid namespace than it: what `/proc` shows
//! to everybody is enough to tell, and nothing of the image is asked or executed.

use std::collections::BTreeMap;
use std::fs;
use std::io;

/// A process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id outside.
    pub pid: i32,
    /// Its parent's id outside.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// The id of the session's leader.
    pub session: i32,
    /// Its id in the container.
    pub inner: i32,
    /// Its user id outside.
    pub uid: u32,
    /// What it does, by the letter of proc_pid_stat(5): `Z` is one that has ended and whose parent
    /// has not asked how.
    pub state: char,
    /// How far it stands back.
    pub nice: i64,
    /// The terminal's device number, 0 for none.
    pub tty: u32,
    /// Clock ticks of processor time.
    pub ticks: u64,
    /// Start time in clock ticks since boot.
    pub born: u64,
    /// Bytes that it has mapped.
    pub size: u64,
    /// Resident memory in pages.
    pub pages: u64,
    /// Threads.
    pub threads: u64,
    /// Bytes read from and written to disks, where that may be known.
    pub disks: Option<(u64, u64)>,
    /// Its name: the beginning of that of its program.
    pub name: String,
    /// Its command line, or its name in brackets.
    pub command: String,
}

/// Lists the processes of the container whose monitor is `monitor`, by id.
pub(super) fn inside(monitor: i32) -> io::Result<Vec<Process>> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that is gone by now is no process of the container.
        if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let outside = depth(monitor).map_or(1, |(depth, _)| depth);
    let mut found = Vec::new();
    let mut ahead = vec![monitor];
    while let Some(parent) = ahead.pop() {
        for &pid in children.get(&parent).into_iter().flatten() {
            ahead.push(pid);
            match depth(pid) {
                Some((depth, inner)) if depth > outside => found.extend(look(pid, inner)),
                _ => {}
            }
        }
    }
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

/// Fields of proc_pid_stat(5) from the third on.
pub(super) fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses included.
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// How many pid namespaces deep a process is, and its id in the innermost.
fn depth(pid: i32) -> Option<(usize, i32)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    let ids: Vec<i32> = ids
        .split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect();
    Some((ids.len(), *ids.last()?))
}

fn look(pid: i32, inner: i32) -> Option<Process> {
    let fields = stat(pid)?;
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let uid = line("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let name = line("Name:").unwrap_or_default().trim().to_owned();
    let command = match command.trim_end() {
        "" => format!("[{name}]"),
        text => text.to_owned(),
    };
    Some(Process {
        pid,
        parent: i32::try_from(number(1)?).ok()?,
        group: i32::try_from(number(2)?).ok()?,
        session: i32::try_from(number(3)?).ok()?,
        inner,
        uid,
        state: fields.first()?.chars().next()?,
        nice: fields.get(16)?.parse().ok()?,
        tty: u32::try_from(number(4)?).unwrap_or(0),
        ticks: number(11)? + number(12)?,
        born: number(19)?,
        size: number(20)?,
        pages: number(21)?,
        threads: number(17)?,
        disks: disks(pid),
        name,
        command,
    })
}

/// What proc_pid_io(5) says of disks; only those with power over the process may read it.
fn disks(pid: i32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let line = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name))?;
        found.trim().parse().ok()
    };
    Some((line("read_bytes:")?, line("write_bytes:")?))
}

/// Bytes that came in and went out by the interfaces of a process's network, without loopback.
pub(super) fn traffic(pid: i32) -> Option<(u64, u64)> {
    add_up(&fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?)
}

/// Adds up the lines of proc_pid_net(5), `dev`, below the two heads.
fn add_up(text: &str) -> Option<(u64, u64)> {
    let mut total = (0, 0);
    for line in text.lines().skip(2) {
        let (name, fields) = line.split_once(':')?;
        let mut fields = fields.split_whitespace();
        let (received, sent) = (fields.next()?, fields.nth(7)?);
        if name.trim() != "lo" {
            total.0 += received.parse::<u64>().ok()?;
            total.1 += sent.parse::<u64>().ok()?;
        }
    }
    Some(total)
}

/// What a process does with a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// It has a handler, or may wait for it.
    Handles,
    /// The signal ends it.
    Ends {
        /// Whether it waits for something, and so may have set up all it wanted to.
        asleep: bool,
    },
    /// Nothing will happen.
    Nothing,
}

/// Finds out what the main program of a container would do with signal `number`. `init` is the
/// container's pid 1; it is ours and has the program as its first child if `own_init`.
pub(super) fn reaction(init: i32, own_init: bool, number: i32) -> Option<Reaction> {
    let program = match own_init {
        true => {
            let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).ok()?;
            children.split_whitespace().next()?.parse().ok()?
        }
        false => init,
    };
    let status = fs::read_to_string(format!("/proc/{program}/status")).ok()?;
    judge(&status, number, !own_init)
}

/// Judges by proc_pid_status(5). A pid 1 has no default actions, but nobody escapes what comes
/// from outside of its namespace as SIGKILL and SIGSTOP.
fn judge(status: &str, number: i32, is_first: bool) -> Option<Reaction> {
    let bit = 1_u64.checked_shl(u32::try_from(number).ok()?.checked_sub(1)?)?;
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let has = |name: &str| {
        let mask = u64::from_str_radix(line(name)?.trim(), 16).ok()?;
        Some(mask & bit != 0)
    };
    let (blocked, ignored, caught) = (has("SigBlk:")?, has("SigIgn:")?, has("SigCgt:")?);
    // A debugger decides what becomes of a signal.
    let is_traced = line("TracerPid:")?.trim() != "0";
    let asleep = line("State:")?.trim_start().starts_with('S');
    Some(match number {
        libc::SIGKILL | libc::SIGSTOP => Reaction::Ends { asleep },
        _ if blocked || caught || is_traced => Reaction::Handles,
        libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH | libc::SIGCONT => Reaction::Nothing,
        _ if ignored || is_first => Reaction::Nothing,
        _ => Reaction::Ends { asleep },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_that_of_all_interfaces_but_loopback() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets |bytes packets\n    \
             lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n  \
             eth1:5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n";
        assert_eq!(add_up(text), Some((105, 27)));
        assert_eq!(add_up("a\nb\nnonsense\n"), None);
    }

    #[test]
    fn only_what_is_sure_to_do_nothing_is_said_to() {
        let status = |blocked: u64, ignored: u64, caught: u64| {
            format!(
                "State:\tS (sleeping)\nTracerPid:\t0\nSigBlk:\t{blocked:016x}\n\
                 SigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
            )
        };
        let (term, ends) = (1 << 14, Reaction::Ends { asleep: true });
        let judged = |text: &str, first| judge(text, 15, first).unwrap();
        assert_eq!(judged(&status(0, 0, 0), false), ends);
        assert_eq!(judged(&status(0, 0, 0), true), Reaction::Nothing, "a pid 1");
        assert_eq!(judged(&status(0, 0, term), true), Reaction::Handles);
        assert_eq!(judged(&status(0, term, 0), false), Reaction::Nothing);
        let waited_for = judged(&status(term, 0, 0), true);
        assert_eq!(waited_for, Reaction::Handles);
        let traced = status(0, term, 0).replace("TracerPid:\t0", "TracerPid:\t7");
        assert_eq!(judged(&traced, false), Reaction::Handles);
        let awake = status(0, 0, 0).replace("S (sleeping)", "R (running)");
        assert_eq!(judged(&awake, false), Reaction::Ends { asleep: false });
        assert_eq!(judge("SigBlk: 0\n", 15, true), None);
    }

    #[test]
    fn some_signals_do_nothing_by_themselves_and_some_can_not_be_escaped() {
        let status = "State:\tS\nTracerPid:\t0\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\n";
        for number in [libc::SIGCHLD, libc::SIGURG, libc::SIGWINCH, libc::SIGCONT] {
            assert_eq!(judge(status, number, false), Some(Reaction::Nothing));
        }
        let handled = status.replace("SigCgt:\t0", "SigCgt:\t8000000");
        assert_eq!(
            judge(&handled, libc::SIGWINCH, false),
            Some(Reaction::Handles)
        );
        for is_first in [true, false] {
            let killed = judge(status, libc::SIGKILL, is_first);
            assert_eq!(killed, Some(Reaction::Ends { asleep: true }));
        }
    }
}
