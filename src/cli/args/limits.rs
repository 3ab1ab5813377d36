//! Options about what all processes of a step or container may use together.

use super::isolation::size;
use crate::cli::report::Report;
use crate::sandbox::{Limits, Swap};

/// Bytes of memory below which docker makes no container: it could not start.
const LEAST_MEMORY: u64 = 6 << 20;

/// Microseconds of a period, in each of which `--cpus` says how many are used.
const PERIOD: u64 = 100_000;

/// Limits of memory, processors, processes and disks.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Isolation options")]
pub(crate) struct LimitArgs {
    /// Memory that all processes may use together
    #[arg(short, long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,

    /// Memory and swap together; -1 is as much swap as there is [default: twice the memory]
    #[arg(long, value_name = "SIZE", value_parser = swap, allow_hyphen_values = true)]
    memory_swap: Option<Swap>,

    /// Memory that is left to them when it is short
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory_reservation: Option<u64>,

    /// Processors that may be busy at the same time, such as `1.5`
    #[arg(long, value_name = "N", value_parser = cpus, conflicts_with_all = ["cpu_quota", "cpu_period"])]
    cpus: Option<u64>,

    /// Share of the processors against others; 1024 is usual
    #[arg(short = 'c', long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,

    /// Period of `--cpu-quota` in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,

    /// Processor time in each period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<u64>,

    /// Processors that may be used, such as `0-2,5`
    #[arg(long, value_name = "LIST", value_parser = numbers)]
    cpuset_cpus: Option<String>,

    /// Memory nodes that may be used, such as `0-1`
    #[arg(long, value_name = "LIST", value_parser = numbers)]
    cpuset_mems: Option<String>,

    /// Processes and threads that may exist at the same time; -1 is no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,

    /// Share of the disks against others, 10 to 1000; 0 is the usual
    #[arg(long, value_name = "WEIGHT", value_parser = disk_weight)]
    blkio_weight: Option<u16>,
}

impl LimitArgs {
    /// Whether none is given.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Says what the options mean, those of `base` holding where none is given.
    pub(crate) fn over(&self, base: Limits) -> Result<Limits, Report> {
        self.check_processors(&base)?;
        // What docker fills in for a container stays when its memory changes.
        let swap = self.memory_swap.or_else(|| base.total());
        let memory = self.memory.or(base.memory);
        let reservation = self.memory_reservation.or(base.memory_reservation);
        check_memory(memory, self.memory_swap.is_some(), swap, reservation)?;
        let pids = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
        Ok(Limits {
            memory,
            memory_swap: swap,
            memory_reservation: reservation,
            cpus: self.cpus.or(base.cpus),
            cpu_quota: self.cpu_quota.or(base.cpu_quota),
            cpu_period: self.cpu_period.or(base.cpu_period),
            cpu_shares: match self.cpu_shares {
                Some(shares) => Some(shares).filter(|shares| *shares > 0),
                None => base.cpu_shares,
            },
            cpuset_cpus: self.cpuset_cpus.clone().or(base.cpuset_cpus),
            cpuset_mems: self.cpuset_mems.clone().or(base.cpuset_mems),
            pids: self.pids_limit.map_or(base.pids, pids),
            blkio_weight: match self.blkio_weight {
                Some(weight) => Some(weight).filter(|weight| *weight > 0),
                None => base.blkio_weight,
            },
            best_effort: base.best_effort,
            session_bus: base.session_bus,
        })
    }

    /// Two ways to say the same.
    fn check_processors(&self, base: &Limits) -> Result<(), Report> {
        let parts = self.cpu_quota.or(self.cpu_period).is_some();
        let set_in_parts = base.cpu_quota.or(base.cpu_period).is_some();
        let clash = (self.cpus.is_some() && set_in_parts) || (parts && base.cpus.is_some());
        match clash {
            true => Err(Report::wrong_use(
                "`--cpus` and `--cpu-quota` with `--cpu-period` say the same, and the other one is set",
            )),
            false => Ok(()),
        }
    }

    /// Refuses what no container can start with, and more processors than the machine has, as
    /// docker does.
    pub(crate) fn check_range(&self) -> Result<(), Report> {
        // A count that is not known refuses nothing.
        let processors = rustix::thread::sched_getaffinity(None).map(|set| set.count());
        self.check_cpus(processors.unwrap_or(u32::MAX))?;
        for (option, wanted, kind) in [
            ("--cpuset-cpus", &self.cpuset_cpus, "cpu"),
            ("--cpuset-mems", &self.cpuset_mems, "node"),
        ] {
            let online = format!("/sys/devices/system/{kind}/online");
            // What there is may be out of sight; the kernel has the word then.
            if let (Some(wanted), Ok(online)) = (wanted, std::fs::read_to_string(online)) {
                check_set(option, wanted, online.trim())?;
            }
        }
        let given = [
            ("--memory", self.memory),
            ("--memory-reservation", self.memory_reservation),
        ];
        let small = given
            .into_iter()
            .find(|(_, bytes)| bytes.is_some_and(|bytes| bytes > 0 && bytes < LEAST_MEMORY));
        small.map_or(Ok(()), |(option, _)| {
            Err(Report::wrong_use(format!("`{option}` is 6 MiB at least")))
        })
    }

    fn check_cpus(&self, processors: u32) -> Result<(), Report> {
        let most = u64::from(processors).saturating_mul(PERIOD);
        match self.cpus {
            Some(cpus) if cpus > most => {
                let text = format!(
                    "range of CPUs is from 0.01 to {processors}.00, as there are only {processors} CPUs available"
                );
                Err(Report::wrong_use(text))
            }
            _ => Ok(()),
        }
    }
}

fn check_memory(
    memory: Option<u64>,
    swap_given: bool,
    swap: Option<Swap>,
    reservation: Option<u64>,
) -> Result<(), Report> {
    if let (Some(Swap::Total(total)), memory) = (swap, memory) {
        let Some(memory) = memory else {
            return Err(Report::wrong_use("`--memory-swap` goes with `--memory`"));
        };
        if total < memory && swap_given {
            let text = "`--memory-swap` is memory and swap together, so no less than `--memory`";
            return Err(Report::wrong_use(text));
        }
        if total < memory {
            let text = format!(
                "`--memory` is more than memory and swap together may be, which are {total} bytes"
            );
            return Err(Report::wrong_use(text).hint("give `--memory-swap` as well"));
        }
    }
    match (memory, reservation) {
        (Some(memory), Some(reservation)) if reservation > memory => Err(Report::wrong_use(
            "`--memory-reservation` is a part of `--memory`, so no more than that",
        )),
        _ => Ok(()),
    }
}

fn swap(text: &str) -> Result<Swap, String> {
    match text {
        "-1" => Ok(Swap::Unlimited),
        other => size(other).map(Swap::Total),
    }
}

/// Processors as microseconds in each tenth of a second.
fn cpus(text: &str) -> Result<u64, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "expected a number, such as `1.5`".to_owned())?;
    if !(0.01..=100_000.0).contains(&number) {
        return Err("expected 0.01 or more".to_owned());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1000 and 10^10"
    )]
    Ok((number * 100_000.0).round() as u64)
}

fn numbers(text: &str) -> Result<String, String> {
    match ranges(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected numbers and ranges, such as `0-2,5`".to_owned()),
    }
}

/// The first and last numbers of a list as the kernel writes it.
fn ranges(text: &str) -> Option<Vec<(u32, u32)>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some((first, last))
    };
    text.split(',').map(range).collect()
}

/// Refuses numbers of processors or memory nodes that are not there, as docker does.
fn check_set(option: &str, wanted: &str, online: &str) -> Result<(), Report> {
    let (Some(asked), Some(there)) = (ranges(wanted), ranges(online)) else {
        return Ok(());
    };
    let is_there = |(first, last): &(u32, u32)| {
        let inside = |(from, to): &(u32, u32)| from <= first && last <= to;
        there.iter().any(inside)
    };
    match asked.iter().all(is_there) {
        true => Ok(()),
        false => Err(Report::wrong_use(format!(
            "`{option}={wanted}` is not available, only {online}"
        ))),
    }
}

fn disk_weight(text: &str) -> Result<u16, String> {
    let weight = text.parse::<u16>().ok();
    let fine = weight.filter(|weight| *weight == 0 || (10..=1000).contains(weight));
    fine.ok_or_else(|| "expected a number from 10 to 1000, or 0".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        limits: LimitArgs,
    }

    fn over(words: &str, base: &Limits) -> Result<Limits, Report> {
        let words = std::iter::once("x").chain(words.split_whitespace());
        let limits = Alone::try_parse_from(words).unwrap().limits;
        limits.over(base.clone())
    }

    #[test]
    fn what_is_given_is_changed_and_the_rest_stays() {
        let base = Limits {
            memory: Some(1 << 20),
            memory_swap: Some(Swap::Total(2 << 20)),
            cpus: Some(50_000),
            pids: Some(9),
            ..Limits::default()
        };
        assert_eq!(over("", &base).unwrap(), base);
        let words = "--memory 1g --memory-swap -1 --cpus 0.25 --pids-limit -1 --cpu-shares 7";
        let changed = over(words, &base).unwrap();
        let want = Limits {
            memory: Some(1 << 30),
            memory_swap: Some(Swap::Unlimited),
            cpus: Some(25_000),
            cpu_shares: Some(7),
            ..Limits::default()
        };
        assert_eq!(changed, want);
        let none = over("--cpu-shares 0 --blkio-weight 0", &changed).unwrap();
        assert_eq!((none.cpu_shares, none.blkio_weight), (None, None));
    }

    #[test]
    fn what_contradicts_what_is_set_is_refused() {
        let base = Limits {
            memory: Some(1 << 20),
            cpus: Some(50_000),
            ..Limits::default()
        };
        // Docker sets twice the memory for both together.
        assert!(over("--memory 2m", &base).is_ok());
        assert!(over("--memory 3m", &base).is_err());
        assert!(over("--memory 3m --memory-swap 3m", &base).is_ok());
        assert!(over("--memory-reservation 2m", &base).is_err());
        assert!(over("--cpu-quota 5000", &base).is_err());
        let none = Limits::default();
        assert!(over("--memory-swap 3m", &none).is_err());
        assert!(over("--memory-reservation 3m", &none).is_ok());
    }

    #[test]
    fn more_processors_than_there_are_are_refused() {
        let check = |cpus: &str| {
            let limits = Alone::try_parse_from(["x", "--cpus", cpus]).unwrap().limits;
            limits.check_cpus(2)
        };
        assert!(check("0.01").is_ok() && check("2").is_ok());
        assert!(check("2.01").is_err() && check("100").is_err());
    }

    #[test]
    fn numbers_are_those_that_the_machine_has() {
        for (list, fine) in [("0-2,5", true), ("7", true), ("5-2", false), ("0,", false)] {
            assert_eq!(numbers(list).is_ok(), fine, "{list}");
        }
        let check = |wanted: &str| check_set("--cpuset-cpus", wanted, "0-3,8").is_ok();
        assert!(check("0") && check("1-3,8"));
        assert!(!check("4") && !check("0-4") && !check("3,9"));
    }

    #[test]
    fn so_little_memory_that_nothing_starts_is_refused() {
        let least = |words: &[&str]| {
            let words = ["x"].iter().chain(words);
            Alone::try_parse_from(words).unwrap().limits.check_range()
        };
        assert!(least(&["--memory", "5m"]).is_err());
        assert!(least(&["--memory-reservation", "1k"]).is_err());
        assert!(least(&["--memory", "6m"]).is_ok());
    }
}
