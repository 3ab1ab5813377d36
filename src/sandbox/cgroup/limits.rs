//! What may be limited, and the files in which the kernel keeps it: those of cgroup v2 and those
//! of v1.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What all processes of a sandbox may use together. `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; as much swap as memory when not given, as docker has
    /// it.
    pub memory_swap: Option<Swap>,
    /// Bytes of memory that are left to it when memory is short.
    pub memory_reservation: Option<u64>,
    /// Processors that may be busy at the same time, in hundred thousandths. Goes before quota
    /// and period.
    pub cpus: Option<u64>,
    /// Microseconds of processor time in each period.
    pub cpu_quota: Option<u64>,
    /// The period in microseconds; 100000 when not given.
    pub cpu_period: Option<u64>,
    /// Weight against others, 1024 being usual, in the units of cgroup v1.
    pub cpu_shares: Option<u64>,
    /// Processors that may be used, such as `0-2,5`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used, such as `0-1`.
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Weight of reads and writes of disks against others, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// Whether to go on where limits can't be kept.
    pub best_effort: bool,
    /// The socket of the bus on which the service manager of the user's session gives groups.
    pub session_bus: Option<PathBuf>,
}

/// A limit of memory and swap together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Swap {
    /// Bytes.
    Total(u64),
    /// As much swap as there is.
    Unlimited,
}

/// The kind of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One for all controllers (cgroup v2).
    Unified,
    /// One a controller (cgroup v1).
    Old,
}

/// One file of a group and what is to stand in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: &'static str,
    pub(super) file: &'static str,
    pub(super) content: String,
    /// File and content for kernels that have not got the other.
    pub(super) instead: Option<(&'static str, String)>,
}

impl Setting {
    fn new(controller: &'static str, file: &'static str, content: impl ToString) -> Self {
        Self {
            controller,
            file,
            content: content.to_string(),
            instead: None,
        }
    }

    /// Whether a kernel may do without: one that does not account for swap has none to limit.
    pub(super) fn may_lack(&self) -> bool {
        matches!(self.file, "memory.swap.max" | "memory.memsw.limit_in_bytes")
    }

    /// What stands in such a file when nothing is limited.
    pub(super) fn undone(&self) -> Self {
        let content = match self.file {
            "memory.low" => "0",
            "cpu.weight" | "io.bfq.weight" | "blkio.bfq.weight" => "100",
            "cpu.shares" => "1024",
            "cpu.cfs_period_us" => "100000",
            // All there are.
            "cpuset.cpus" | "cpuset.mems" => "\n",
            file if file.starts_with("memory.") && file.ends_with("_in_bytes") => "-1",
            "cpu.cfs_quota_us" => "-1",
            _ => "max",
        };
        let instead = self.instead.as_ref();
        Self {
            content: content.to_owned(),
            instead: instead.map(|(file, _)| (*file, "100".to_owned())),
            ..self.clone()
        }
    }
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.settings(Kind::Unified).is_empty()
    }

    /// The files of a group and their contents, in an order that the kernel takes.
    pub(super) fn settings(&self, kind: Kind) -> Vec<Setting> {
        let mut settings = self.memory_settings(kind);
        settings.extend(self.cpu_settings(kind));
        let sets = [
            ("cpuset.cpus", &self.cpuset_cpus),
            ("cpuset.mems", &self.cpuset_mems),
        ];
        for (file, set) in sets {
            settings.extend(set.iter().map(|set| Setting::new("cpuset", file, set)));
        }
        settings.extend(self.pids.map(|pids| Setting::new("pids", "pids.max", pids)));
        settings.extend(self.blkio_weight.map(|weight| blkio(kind, weight)));
        settings
    }

    fn memory_settings(&self, kind: Kind) -> Vec<Setting> {
        let mut settings = Vec::new();
        let mut add = |file, content: String| settings.push(Setting::new("memory", file, content));
        let [most, with_swap, reserved] = match kind {
            Kind::Unified => ["memory.max", "memory.swap.max", "memory.low"],
            Kind::Old => [
                "memory.limit_in_bytes",
                "memory.memsw.limit_in_bytes",
                "memory.soft_limit_in_bytes",
            ],
        };
        if let Some(memory) = self.memory {
            add(most, memory.to_string());
        }
        match (self.total(), kind) {
            (Some(Swap::Unlimited), Kind::Unified) => add(with_swap, "max".to_owned()),
            (Some(Swap::Unlimited), Kind::Old) => add(with_swap, "-1".to_owned()),
            (Some(Swap::Total(total)), Kind::Unified) => {
                let swap = total.saturating_sub(self.memory.unwrap_or(0));
                add(with_swap, swap.to_string());
            }
            (Some(Swap::Total(total)), Kind::Old) => add(with_swap, total.to_string()),
            (None, _) => {}
        }
        if let Some(reservation) = self.memory_reservation {
            add(reserved, reservation.to_string());
        }
        settings
    }

    /// Memory and swap together, as docker fills it in.
    pub fn total(&self) -> Option<Swap> {
        let usual = self.memory.map(|memory| memory.saturating_mul(2));
        self.memory_swap.or(usual.map(Swap::Total))
    }

    fn cpu_settings(&self, kind: Kind) -> Vec<Setting> {
        let mut settings = Vec::new();
        let mut add = |file, content: String| settings.push(Setting::new("cpu", file, content));
        let (quota, period) = match self.cpus {
            Some(cpus) => (Some(cpus), Some(100_000)),
            None => (self.cpu_quota, self.cpu_period),
        };
        match kind {
            Kind::Unified if quota.is_some() || period.is_some() => {
                let quota = quota.map_or("max".to_owned(), |n| n.to_string());
                add("cpu.max", format!("{quota} {}", period.unwrap_or(100_000)));
            }
            Kind::Unified => {}
            Kind::Old => {
                if let Some(period) = period {
                    add("cpu.cfs_period_us", period.to_string());
                }
                if let Some(quota) = quota {
                    add("cpu.cfs_quota_us", quota.to_string());
                }
            }
        }
        if let Some(shares) = self.cpu_shares {
            let shares = shares.clamp(2, 262_144);
            match kind {
                // From 2..=262144 to 1..=10000, as runc and systemd do.
                Kind::Unified => {
                    let weight = 1 + (shares - 2) * 9999 / 262_142;
                    add("cpu.weight", weight.to_string());
                }
                Kind::Old => add("cpu.shares", shares.to_string()),
            }
        }
        settings
    }

    /// The controllers that are needed, each once, by their names in cgroup v2.
    pub(super) fn controllers(&self) -> Vec<&'static str> {
        let settings = self.settings(Kind::Unified);
        let mut needed: Vec<&str> = settings.iter().map(|setting| setting.controller).collect();
        needed.dedup();
        needed
    }
}

/// The weight of a group at the disks, which BFQ keeps, or what the kernel has in its place.
fn blkio(kind: Kind, weight: u16) -> Setting {
    let (file, instead) = match kind {
        // From 10..=1000 to 1..=10000, as runc does.
        Kind::Unified => {
            let wide = 1 + (u32::from(weight).saturating_sub(10)) * 9999 / 990;
            ("io.bfq.weight", ("io.weight", wide.to_string()))
        }
        Kind::Old => ("blkio.bfq.weight", ("blkio.weight", weight.to_string())),
    };
    Setting {
        instead: Some(instead),
        ..Setting::new("io", file, weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(limits: &Limits, kind: Kind) -> Vec<String> {
        let settings = limits.settings(kind).into_iter();
        settings
            .map(|setting| format!("{}={}", setting.file, setting.content))
            .collect()
    }

    fn files(limits: &Limits) -> Vec<String> {
        lines(limits, Kind::Unified)
    }

    #[test]
    fn limits_become_files_as_docker_has_them() {
        assert!(Limits::default().is_empty());
        let memory = Limits {
            memory: Some(1000),
            ..Limits::default()
        };
        assert_eq!(files(&memory), ["memory.max=1000", "memory.swap.max=1000"]);
        let swap = |swap| Limits {
            memory_swap: Some(swap),
            ..memory.clone()
        };
        assert_eq!(files(&swap(Swap::Total(1500)))[1], "memory.swap.max=500");
        assert_eq!(files(&swap(Swap::Total(1000)))[1], "memory.swap.max=0");
        assert_eq!(files(&swap(Swap::Unlimited))[1], "memory.swap.max=max");
        let cpu = all();
        let want = [
            "memory.max=1000",
            "memory.swap.max=1000",
            "memory.low=500",
            "cpu.max=150000 100000",
            "cpu.weight=39",
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "pids.max=10",
            "io.bfq.weight=500",
        ];
        assert_eq!(files(&cpu), want);
        assert_eq!(cpu.controllers(), ["memory", "cpu", "cpuset", "pids", "io"]);
        for (shares, weight) in [(0, 1), (2, 1), (262_144, 10_000), (u64::MAX, 10_000)] {
            let limits = Limits {
                cpu_shares: Some(shares),
                ..Limits::default()
            };
            assert_eq!(files(&limits), [format!("cpu.weight={weight}")]);
        }
    }

    /// One of each.
    fn all() -> Limits {
        Limits {
            memory: Some(1000),
            memory_reservation: Some(500),
            cpus: Some(150_000),
            cpu_shares: Some(1024),
            cpuset_cpus: Some("0-1".to_owned()),
            cpuset_mems: Some("0".to_owned()),
            pids: Some(10),
            blkio_weight: Some(500),
            ..Limits::default()
        }
    }

    #[test]
    fn the_old_hierarchies_have_files_of_their_own() {
        let want = [
            "memory.limit_in_bytes=1000",
            "memory.memsw.limit_in_bytes=2000",
            "memory.soft_limit_in_bytes=500",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=150000",
            "cpu.shares=1024",
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "pids.max=10",
            "blkio.bfq.weight=500",
        ];
        assert_eq!(lines(&all(), Kind::Old), want);
        let undone = all().settings(Kind::Old).into_iter();
        let undone: Vec<String> = undone.map(|setting| setting.undone().content).collect();
        let want = [
            "-1", "-1", "-1", "100000", "-1", "1024", "\n", "\n", "max", "100",
        ];
        assert_eq!(undone, want);
    }
}
