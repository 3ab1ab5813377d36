//! `cask top`: the processes of a container.
//!
//! docker runs the machine's `ps` for it. Here nothing is run: the usual options of `ps` are
//! understood, and the columns that people ask for are known.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};

use crate::cli::report::Report;
use crate::cli::ui::table;
use crate::cli::{Session, ui};
use crate::runner::{self, Process};

/// Show the processes of a container
///
/// They are shown as `ps -ef` would, with ids of the machine, or as other options of `ps` say.
/// Nothing is run for it.
#[derive(Debug, clap::Args)]
#[command(override_usage = "cask top CONTAINER [PS OPTION]...")]
pub(super) struct Top {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// `-ef`, `aux`, or `-o COLUMN[=HEAD],…` with columns such as pid, ppid, user, uid, comm, args,
    /// stat, tty, start, time, etime, pcpu, pmem, rss, vsz, nice, nlwp
    #[arg(
        value_name = "PS OPTION",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    options: Vec<String>,
}

/// Width of a column at least, as docker shows them.
const WIDTH: usize = 20;

impl Top {
    /// Shows them.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let columns = columns(&self.options).map_err(Report::wrong_use)?;
        let store = session.store()?;
        let container = runner::find(&store, &self.container)?;
        let machine = Machine::look();
        let cells = |process: &Process| {
            let cells = columns
                .iter()
                .map(|(column, _)| (column.cell)(process, &machine));
            cells.collect()
        };
        let rows: Vec<Vec<String>> = runner::top(&container)?.iter().map(cells).collect();
        let heads: Vec<&str> = columns.iter().map(|(_, head)| head.as_str()).collect();
        ui::raw_data(table::render(&heads, &rows, WIDTH).as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A column of `ps`.
struct Column {
    /// What `-o` calls it.
    names: &'static [&'static str],
    head: &'static str,
    cell: fn(&Process, &Machine) -> String,
}

#[rustfmt::skip]
const COLUMNS: &[Column] = &[
    Column { names: &["user", "euser", "uname"], head: "USER", cell: |p, m| m.user(p.uid) },
    Column { names: &["uid", "euid"], head: "UID", cell: |p, _| p.uid.to_string() },
    Column { names: &["pid", "tgid"], head: "PID", cell: |p, _| p.pid.to_string() },
    Column { names: &["ppid"], head: "PPID", cell: |p, _| p.parent.to_string() },
    Column { names: &["pgid", "pgrp"], head: "PGID", cell: |p, _| p.group.to_string() },
    Column { names: &["sid", "sess", "session"], head: "SID", cell: |p, _| p.session.to_string() },
    Column { names: &["c"], head: "C", cell: |p, m| format!("{:.0}", m.processor(p)) },
    Column { names: &["pcpu", "%cpu"], head: "%CPU", cell: |p, m| format!("{:.1}", m.processor(p)) },
    Column { names: &["pmem", "%mem"], head: "%MEM", cell: |p, m| format!("{:.1}", m.memory(p)) },
    Column { names: &["vsz", "vsize"], head: "VSZ", cell: |p, _| (p.size >> 10).to_string() },
    Column { names: &["rss", "rssize", "rsz"], head: "RSS", cell: |p, m| ((p.pages * m.page) >> 10).to_string() },
    Column { names: &["tty", "tt", "tname"], head: "TTY", cell: |p, _| tty(p.tty) },
    Column { names: &["stat"], head: "STAT", cell: |p, _| stat(p) },
    Column { names: &["s", "state"], head: "S", cell: |p, _| p.state.to_string() },
    Column { names: &["stime", "start_time", "start"], head: "START", cell: |p, m| m.started(p) },
    Column { names: &["time", "cputime"], head: "TIME", cell: |p, m| clock(p.ticks / m.hertz) },
    Column { names: &["etime"], head: "ELAPSED", cell: |p, m| elapsed(m.age(p)) },
    Column { names: &["etimes"], head: "ELAPSED", cell: |p, m| m.age(p).to_string() },
    Column { names: &["ni", "nice"], head: "NI", cell: |p, _| p.nice.to_string() },
    Column { names: &["nlwp", "thcount"], head: "NLWP", cell: |p, _| p.threads.to_string() },
    Column { names: &["comm", "ucmd", "ucomm"], head: "COMMAND", cell: |p, _| clean(&p.name) },
    Column { names: &["args", "command"], head: "COMMAND", cell: |p, _| clean(&p.command) },
    Column { names: &["cmd"], head: "CMD", cell: |p, _| clean(&p.command) },
];

/// Columns that do without `-o`, and their heads there.
const FULL: &str = "user=UID,pid,ppid,c,stime=STIME,tty,time,cmd";
const BSD: &str = "user,pid,pcpu,pmem,vsz,rss,tty,stat,start,time,args";

/// The columns that options of `ps` ask for, with their heads.
fn columns(options: &[String]) -> Result<Vec<(&'static Column, String)>, String> {
    let mut chosen = Vec::new();
    let mut bsd = false;
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let letters = option.trim_start_matches('-');
        bsd |= letters.contains('u') && !letters.contains('o');
        match letters.split_once('o') {
            None if letters.chars().all(|c| "aAdefuwxf".contains(c)) => {}
            // What is left of the word, or the next.
            Some((before, list)) if before.chars().all(|c| "aAdefuwx".contains(c)) => {
                let list = match list {
                    "" => options.next().ok_or("`-o` takes a list of columns")?,
                    list => list,
                };
                chosen.extend(listed(list)?);
            }
            _ => {
                return Err(format!(
                    "`{option}` is not understood: `-ef`, `aux` and `-o COLUMN,…` are"
                ));
            }
        }
    }
    match (chosen.is_empty(), bsd) {
        (false, _) => Ok(chosen),
        (true, true) => listed(BSD),
        (true, false) => listed(FULL),
    }
}

fn listed(list: &str) -> Result<Vec<(&'static Column, String)>, String> {
    let columns = list.split(',').map(|word| {
        let (name, head) = word.split_once('=').unwrap_or((word, ""));
        let known = |column: &&Column| column.names.contains(&name);
        let column = COLUMNS.iter().find(known);
        let column = column.ok_or_else(|| {
            let names = COLUMNS.iter().map(|column| column.names[0]);
            format!(
                "there is no column `{name}`, only {}",
                names.collect::<Vec<_>>().join(", ")
            )
        })?;
        let head = if head.is_empty() { column.head } else { head };
        Ok((column, head.to_owned()))
    });
    columns.collect()
}

/// What figures of processes are measured by.
struct Machine {
    hertz: u64,
    page: u64,
    /// Bytes.
    memory: u64,
    /// Seconds since 1970.
    booted: u64,
    now: u64,
    users: BTreeMap<u32, String>,
}

impl Machine {
    fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let number = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|line| line.split_whitespace().next());
            word.and_then(|word| word.parse::<u64>().ok()).unwrap_or(0)
        };
        let user = |line: &str| {
            let mut fields = line.split(':');
            let (name, uid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
            Some((uid, name.to_owned()))
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            hertz: rustix::param::clock_ticks_per_second().max(1),
            page: u64::try_from(rustix::param::page_size()).unwrap_or(4096),
            memory: (number(&read("/proc/meminfo"), "MemTotal:") << 10).max(1),
            booted: number(&read("/proc/stat"), "btime "),
            now: now.map_or(0, |now| now.as_secs()),
            // The first name of an id counts.
            users: read("/etc/passwd").lines().rev().filter_map(user).collect(),
        }
    }

    fn user(&self, uid: u32) -> String {
        let known = self.users.get(&uid);
        known.map_or_else(|| uid.to_string(), |name| clean(name))
    }

    /// Seconds since 1970 when a process started.
    fn born(&self, process: &Process) -> u64 {
        self.booted + process.born / self.hertz
    }

    /// Seconds that it has lived.
    fn age(&self, process: &Process) -> u64 {
        self.now.saturating_sub(self.born(process))
    }

    fn started(&self, process: &Process) -> String {
        let started = i64::try_from(self.born(process)).unwrap_or(0);
        let started = DateTime::<Utc>::from_timestamp(started, 0).unwrap_or_default();
        let pattern = if self.age(process) < 86_400 {
            "%H:%M"
        } else {
            "%b%d"
        };
        started.format(pattern).to_string()
    }

    /// Percent of a processor over its life.
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    fn processor(&self, process: &Process) -> f64 {
        let used = process.ticks as f64 / self.hertz as f64;
        100.0 * used / self.age(process).max(1) as f64
    }

    /// Percent of the machine's memory.
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    fn memory(&self, process: &Process) -> f64 {
        100.0 * (process.pages * self.page) as f64 / self.memory as f64
    }
}

fn tty(number: u32) -> String {
    match (number >> 8, number & 0xff) {
        (0, 0) => "?".to_owned(),
        (136..=143, minor) => format!("pts/{minor}"),
        (major, minor) => format!("{major}:{minor}"),
    }
}

/// The state, and what is special about it, as ps(1) has it.
fn stat(process: &Process) -> String {
    let mut out = process.state.to_string();
    out.extend((process.nice < 0).then_some('<'));
    out.extend((process.nice > 0).then_some('N'));
    out.extend((process.session == process.pid).then_some('s'));
    out.extend((process.threads > 1).then_some('l'));
    out
}

fn clock(secs: u64) -> String {
    format!("{:02}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60)
}

/// `[[DAYS-]HH:]MM:SS`
fn elapsed(secs: u64) -> String {
    match (secs / 86_400, secs % 86_400) {
        (0, secs) if secs < 3600 => format!("{:02}:{:02}", secs / 60, secs % 60),
        (0, secs) => clock(secs),
        (days, secs) => format!("{days}-{}", clock(secs)),
    }
}

fn clean(text: &str) -> String {
    ui::clean::clean(text, ui::clean::Colours::Drop).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(options: &[&str]) -> Result<String, String> {
        let options: Vec<String> = options.iter().map(|&word| word.to_owned()).collect();
        let columns = columns(&options)?.into_iter();
        Ok(columns.map(|(_, head)| head).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn options_of_ps_choose_the_columns() {
        let full = "UID PID PPID C STIME TTY TIME CMD";
        let bsd = "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND";
        for (options, want) in [
            (&[][..], full),
            (&["-ef"], full),
            (&["aux"], bsd),
            (&["-o", "pid,cmd"], "PID CMD"),
            (&["-eo", "user,pid,comm"], "USER PID COMMAND"),
            (&["-opid,etime=AGE"], "PID AGE"),
            (&["o", "pid", "-o", "rss"], "PID RSS"),
        ] {
            assert_eq!(heads(options).as_deref(), Ok(want), "{options:?}");
        }
        assert!(heads(&["-o"]).is_err() && heads(&["--forest"]).is_err());
        assert!(
            heads(&["-o", "pid,shoe"])
                .unwrap_err()
                .starts_with("there is no column `shoe`")
        );
    }

    #[test]
    fn times_read_as_those_of_ps() {
        assert_eq!(elapsed(61), "01:01");
        assert_eq!(elapsed(3_661), "01:01:01");
        assert_eq!(elapsed(90_061), "1-01:01:01");
        assert_eq!((tty(0), tty(0x8803)), ("?".to_owned(), "pts/3".to_owned()));
    }
}
