//! Which system calls a program may make: a profile in, a program for the kernel out.
//!
//! ```text
//! docker (our data) ─┐
//!                    ├─ rules by name ─ abi (numbers) ─ ranges of numbers ─ bpf ─→ Filter
//! profile (JSON)    ─┘
//! ```
//!
//! The caller's side compiles, once for each profile and set of capabilities in a process; the
//! child installs what it gets, in order, each filter on top of the one before. Of all filters
//! the strictest answer counts, so more of them can be stacked.
//!
//! The limits: arguments that are pointers can't be looked behind. Calls that are newer than our
//! table answer ENOSYS, so that libraries fall back on older ones. Machines for which
//! [`abi`] has no table only run unconfined.

pub(super) mod abi;
mod bpf;
pub(super) mod docker;
mod profile;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use serde::{Deserialize, Serialize};

pub use profile::{Profile, ProfileError};

use crate::sys::seccomp::Instruction;

use super::caps::Caps;
use super::error::PlanError;
use abi::Abi;
use bpf::{Action, Condition, Section, Verdict};

/// What decides about the system calls of a program.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Seccomp {
    /// Docker's default profile, which opens up with the capabilities that are granted.
    Docker,
    /// Nothing.
    Unconfined,
    /// A profile in docker's format.
    Profile(Profile),
}

/// What becomes of sockets that 32-bit programs make by socketcall(2) under docker's profile: the
/// family is behind a pointer, so no filter sees it ([`super::sockets`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Socketcall {
    /// The call is as good as absent.
    Absent,
    /// The filter has a listener that is asked.
    Asked,
    /// Another filter's listener is asked, so this one lets it pass.
    Passed,
}

/// A compiled filter, on its way to the child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Filter(Vec<u64>);

impl Filter {
    fn new(program: &[Instruction]) -> Self {
        let pack = |ins: &Instruction| {
            let jumps = u64::from(ins.jt) << 40 | u64::from(ins.jf) << 32;
            u64::from(ins.code) << 48 | jumps | u64::from(ins.k)
        };
        Self(program.iter().map(pack).collect())
    }

    /// The program as the kernel takes it.
    pub(super) fn program(&self) -> Vec<Instruction> {
        let unpack = |&word: &u64| Instruction {
            code: (word >> 48) as u16,
            jt: (word >> 40) as u8,
            jf: (word >> 32) as u8,
            k: word as u32,
        };
        self.0.iter().map(unpack).collect()
    }
}

/// An action for some system calls, if all conditions hold.
#[derive(Debug)]
struct Rule {
    names: Vec<String>,
    action: Action,
    conditions: Vec<Condition>,
}

impl Rule {
    /// A rule for the calls in `names`, which white space parts.
    fn new(names: &str, action: Action, conditions: Vec<Condition>) -> Self {
        Self {
            names: names.split_whitespace().map(str::to_owned).collect(),
            action,
            conditions,
        }
    }
}

/// The filter for `seccomp` around a program with the bounding set `caps`, made once.
pub(super) fn filter(
    seccomp: &Seccomp,
    caps: Caps,
    sockets: Socketcall,
) -> Result<Option<Arc<Filter>>, PlanError> {
    type Known = Vec<(Seccomp, Caps, Socketcall, Arc<Filter>)>;
    static KNOWN: OnceLock<Mutex<Known>> = OnceLock::new();
    if *seccomp == Seccomp::Unconfined {
        return Ok(None);
    }
    let known = KNOWN.get_or_init(Mutex::default);
    // What a panicking thread left is whole: entries are only ever added.
    let mut known = known
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let asked = (seccomp, caps, sockets);
    let found = known.iter().find(|(s, c, a, _)| (s, *c, *a) == asked);
    if let Some((.., filter)) = found {
        return Ok(Some(Arc::clone(filter)));
    }
    let filter = Arc::new(Filter::new(&compile(seccomp, caps, sockets)?));
    known.push((seccomp.clone(), caps, sockets, Arc::clone(&filter)));
    Ok(Some(filter))
}

fn compile(
    seccomp: &Seccomp,
    caps: Caps,
    sockets: Socketcall,
) -> Result<Vec<Instruction>, PlanError> {
    let refused = Action::Errno(libc::EPERM as u16);
    let sockets = match sockets {
        Socketcall::Absent => Action::Errno(libc::ENOSYS as u16),
        Socketcall::Asked => Action::Notify,
        Socketcall::Passed => Action::Allow,
    };
    let (rules, default, abis) = match seccomp {
        Seccomp::Profile(profile) => {
            let (rules, default) = profile.rules(caps);
            (rules, default, profile.abis())
        }
        _ => (docker::rules(caps, sockets), refused, Abi::all()),
    };
    if abis.is_empty() {
        return Err(PlanError::NoSyscallTable(std::env::consts::ARCH));
    }
    let sections: Vec<Section> = abis
        .iter()
        .map(|abi| section(abi, &rules, default))
        .collect();
    Ok(bpf::assemble(&sections, refused))
}

/// What `rules` mean in the numbers of `abi`: for each call the rules that name it, in order, up
/// to one without conditions.
fn section(abi: &Abi, rules: &[Rule], default: Action) -> Section {
    let numbers = abi.numbers();
    let mut verdicts: BTreeMap<u32, Verdict> = BTreeMap::new();
    for rule in rules {
        for number in rule
            .names
            .iter()
            .filter_map(|name| numbers.get(name.as_str()))
        {
            let verdict = verdicts
                .entry(*number)
                .or_insert_with(|| Verdict::When(Vec::new(), default));
            if let Verdict::When(lines, otherwise) = verdict
                && *otherwise == default
            {
                match (rule.conditions.as_slice(), lines.is_empty()) {
                    ([], true) => *verdict = Verdict::Always(rule.action),
                    ([], false) => lines.push((Vec::new(), rule.action)),
                    (conditions, _) => lines.push((conditions.to_vec(), rule.action)),
                }
            }
        }
    }
    // From the last number we know on, a call is one that was not there when this was written.
    let newest = numbers.values().copied().max().unwrap_or(0);
    let last = match default {
        Action::Errno(_) | Action::KillProcess | Action::KillThread => {
            Action::Errno(libc::ENOSYS as u16)
        }
        lenient => lenient,
    };
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    let mut put = |from: u32, verdict: Verdict| {
        if ranges.last().is_none_or(|(_, before)| *before != verdict) {
            ranges.push((from, verdict));
        }
    };
    for number in 0..=newest {
        let verdict = verdicts.remove(&number);
        put(number, verdict.unwrap_or(Verdict::Always(default)));
    }
    put(newest + 1, Verdict::Always(last));
    if let Some(first) = abi.foreign_from {
        put(first, Verdict::Always(Action::Errno(libc::EPERM as u16)));
    }
    Section {
        audit: abi.audit,
        ranges,
    }
}

#[cfg(test)]
mod tests;
