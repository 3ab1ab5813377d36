//! `cask logs`: what a container wrote.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};

use super::options::duration;
use crate::cli::Session;
use crate::cli::report::Report;
use crate::cli::ui;
use crate::event::Stream;
use crate::runner::{self, Container, Follow, Line, Lines, Reader};

/// Show what a container wrote
///
/// What it wrote to standard output and error comes there again, also when it has ended, until
/// it is removed.
#[derive(Debug, clap::Args)]
pub(super) struct Logs {
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// Go on until the container has ended
    #[arg(short, long)]
    follow: bool,

    /// The last lines only: a number, or `all`
    #[arg(
        short = 'n',
        long,
        value_name = "LINES",
        default_value = "all",
        allow_negative_numbers = true,
        value_parser = tail
    )]
    tail: Tail,

    /// Only what was written since then: a time, or so long ago as in `10m`
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<u64>,

    /// Only what was written until then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<u64>,

    /// The time in front of each line
    #[arg(short, long)]
    timestamps: bool,

    /// Accepted and without effect: lines have no other attributes
    #[arg(long, hide = true)]
    details: bool,
}

#[derive(Debug, Clone, Copy)]
enum Tail {
    All,
    Last(usize),
}

fn tail(text: &str) -> Result<Tail, String> {
    match text.parse::<i64>() {
        _ if text == "all" => Ok(Tail::All),
        // docker takes negative numbers for all.
        Ok(lines) => Ok(usize::try_from(lines).map_or(Tail::All, Tail::Last)),
        Err(_) => Err("expected a number of lines, or `all`".to_owned()),
    }
}

/// Parses RFC 3339 with the end left out, seconds since 1970, or a length of time; gives
/// nanoseconds since 1970.
pub(super) fn moment(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is no time, such as `2026-01-02T15:04:05` or `10m`");
    if let Ok(ago) = duration(text) {
        let then = SystemTime::now().checked_sub(ago).ok_or_else(bad)?;
        return Ok(nanos(then.duration_since(UNIX_EPOCH).unwrap_or_default()));
    }
    if let Ok(secs) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(secs)
            .map(nanos)
            .map_err(|_| bad());
    }
    let in_utc = |time: NaiveDateTime| time.and_utc().timestamp_nanos_opt();
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"];
    let plain = text.trim_end_matches('Z');
    let found = DateTime::parse_from_rfc3339(text)
        .ok()
        .and_then(|time| time.timestamp_nanos_opt());
    let found = found.or_else(|| {
        let with_time = formats
            .iter()
            .find_map(|f| NaiveDateTime::parse_from_str(plain, f).ok());
        with_time.and_then(in_utc)
    });
    let found = found.or_else(|| {
        let day = NaiveDate::parse_from_str(plain, "%Y-%m-%d").ok()?;
        in_utc(day.and_hms_opt(0, 0, 0)?)
    });
    found
        .and_then(|nanos| u64::try_from(nanos).ok())
        .ok_or_else(bad)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Logs {
    /// Shows it.
    pub(super) fn run(self, session: &Session) -> Result<ExitCode, Report> {
        let store = session.store()?;
        let container = runner::find(&store, &self.container)?;
        container.refuse_dead()?;
        self.show(&container)?;
        Ok(ExitCode::SUCCESS)
    }

    fn show(&self, container: &Container) -> Result<(), Report> {
        let dir = container.log_dir()?;
        let failed = |error: io::Error| Report::failed("cannot read the log").because(&error);
        // Watching begins before reading, so nothing is missed in between.
        let follow = match self.follow {
            true => Some(Follow::new(dir).map_err(failed)?),
            false => None,
        };
        let mut lines = Lines::new(Reader::open(dir).map_err(failed)?);
        let mut last = VecDeque::new();
        let mut count = 0;
        while let Some(line) = lines.next_line().map_err(failed)? {
            if !self.wants(&line) {
                continue;
            }
            let Tail::Last(most) = self.tail else {
                if !self.print(&line)? {
                    return Ok(());
                }
                continue;
            };
            count += usize::from(line.begins);
            last.push_back(line);
            while count > most {
                count -= usize::from(last.pop_front().is_some_and(|line: Line| line.begins));
                while last.front().is_some_and(|line: &Line| !line.begins) {
                    last.pop_front();
                }
            }
        }
        for line in last {
            if !self.print(&line)? {
                return Ok(());
            }
        }
        let Some(follow) = follow else { return Ok(()) };
        loop {
            // Looked at before reading: what is not there then will never come.
            let over = !container.exists() || !container.state()?.status.is_up();
            while let Some(line) = lines.next_line().map_err(failed)? {
                if self.wants(&line) && !self.print(&line)? {
                    return Ok(());
                }
            }
            if over || self.until.is_some_and(|until| until < now()) {
                return Ok(());
            }
            follow.wait().map_err(failed)?;
        }
    }

    fn wants(&self, line: &Line) -> bool {
        self.since.is_none_or(|since| line.time >= since)
            && self.until.is_none_or(|until| line.time <= until)
    }

    /// Prints a line where it belongs; `false` when nobody reads any more.
    fn print(&self, line: &Line) -> Result<bool, Report> {
        let mut bytes = Vec::new();
        if self.timestamps && line.begins {
            bytes.extend(stamp(line.time).as_bytes());
            bytes.push(b' ');
        }
        bytes.extend(&line.bytes);
        match line.stream {
            Stream::Stdout => ui::open_data(&bytes),
            Stream::Stderr => match io::stderr().write_all(&bytes) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
                Err(error) => Err(Report::failed("cannot write to standard error").because(&error)),
                Ok(()) => Ok(true),
            },
        }
    }
}

fn now() -> u64 {
    nanos(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

/// A moment as docker writes it.
pub(super) fn stamp(time: u64) -> String {
    let secs = i64::try_from(time / 1_000_000_000).unwrap_or(i64::MAX);
    let nanos = u32::try_from(time % 1_000_000_000).unwrap_or(0);
    let time = DateTime::<Utc>::from_timestamp(secs, nanos).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Nanos, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_lengths() {
        let second = 1_000_000_000;
        assert_eq!(moment("1.5"), Ok(3 * second / 2));
        assert_eq!(moment("1970-01-01T00:00:02Z"), Ok(2 * second));
        assert_eq!(moment("1970-01-01T01:00:00+01:00"), Ok(0));
        assert_eq!(moment("1970-01-01T00:00:02.5"), Ok(5 * second / 2));
        assert_eq!(moment("1970-01-02"), Ok(86_400 * second));
        assert!(moment("10m").unwrap() < now());
        assert!(moment("soon").is_err());
        assert_eq!(stamp(2 * second), "1970-01-01T00:00:02.000000000Z");
    }
}
