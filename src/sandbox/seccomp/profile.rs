//! Profiles in docker's JSON format (`--security-opt seccomp=FILE`).
//!
//! What a profile says is resolved as runc does it: rules without conditions come before those
//! with, several conditions on one argument are alternatives, and names or architectures that
//! are not known here are passed over. Rules for other kernels, machines or capabilities than
//! the ones at hand don't count.

use serde::{Deserialize, Serialize};

use super::super::caps::Caps;
use super::Rule;
use super::abi::Abi;
use super::bpf::{Action, Condition, Test};

/// Why a profile can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// It is not what docker takes.
    #[error("it is no seccomp profile in docker's format")]
    Format(#[source] serde_json::Error),
    /// It names an action that means nothing here.
    #[error("it names the action `{0}`, which is not known")]
    Action(String),
    /// It names a comparison that does not exist.
    #[error("it names the comparison `{0}`, which is not known")]
    Comparison(String),
    /// It asks for more than six arguments.
    #[error("it looks at argument {0}, and a call has six, from 0 on")]
    Argument(u32),
    /// It needs a listener.
    #[error("it asks a listener, which is not supported")]
    Listener,
}

/// A profile that was understood.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u16>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchMap>>,
    #[serde(default)]
    syscalls: Option<Vec<Line>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Arg>>,
    #[serde(default)]
    includes: Option<Circumstances>,
    #[serde(default)]
    excludes: Option<Circumstances>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Circumstances {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

impl Profile {
    /// Reads a profile, and refuses what could not be carried out.
    pub fn parse(json: &[u8]) -> Result<Self, ProfileError> {
        let profile: Self = serde_json::from_slice(json).map_err(ProfileError::Format)?;
        action(&profile.default_action, profile.default_errno_ret)?;
        for line in profile.syscalls.iter().flatten() {
            action(&line.action, line.errno_ret)?;
            for arg in line.args.iter().flatten() {
                condition(arg)?;
            }
        }
        Ok(profile)
    }

    /// The rules for a program whose bounding set is `caps`, and what holds where none does.
    pub(super) fn rules(&self, caps: Caps) -> (Vec<Rule>, Action) {
        let parsed = |result: Result<Action, _>| result.unwrap_or(Action::KillProcess);
        let default = parsed(action(&self.default_action, self.default_errno_ret));
        let mut rules = Vec::new();
        for line in self
            .syscalls
            .iter()
            .flatten()
            .filter(|line| line.applies(caps))
        {
            let names: Vec<&str> = line
                .names
                .iter()
                .flatten()
                .chain(&line.name)
                .map(String::as_str)
                .collect();
            let action = parsed(action(
                &line.action,
                line.errno_ret.or(self.default_errno_ret),
            ));
            for conditions in line.alternatives() {
                rules.push(Rule::new(&names.join(" "), action, conditions));
            }
        }
        rules.sort_by_key(|rule| !rule.conditions.is_empty());
        (rules, default)
    }

    /// The machine's own ABI, and those others that the profile names.
    pub(super) fn abis(&self) -> Vec<Abi> {
        let all = Abi::all();
        let own = all.first().map_or("", |own| own.name);
        let is = |text: &str, name: &str| text.strip_prefix("SCMP_ARCH_") == Some(name);
        let mapped = self.arch_map.iter().flatten();
        let below = mapped
            .filter(|map| is(&map.architecture, own))
            .flat_map(|map| map.sub_architectures.iter().flatten());
        let named: Vec<&String> = self.architectures.iter().flatten().chain(below).collect();
        let keep = |abi: &Abi| abi.name == own || named.iter().any(|text| is(text, abi.name));
        all.into_iter().filter(keep).collect()
    }
}

impl Line {
    fn applies(&self, caps: Caps) -> bool {
        let has = |name: &String| Caps::named(name).is_some_and(|one| caps.0 & one.0 == one.0);
        let here = |arch: &String| arch == Abi::go_name();
        let includes = self.includes.as_ref().is_none_or(|when| {
            when.caps.iter().flatten().all(has)
                && when
                    .arches
                    .as_ref()
                    .is_none_or(|arches| arches.is_empty() || arches.iter().any(here))
                && when.min_kernel.as_deref().is_none_or(is_kernel_at_least)
        });
        let excludes = self.excludes.as_ref().is_some_and(|when| {
            when.caps.iter().flatten().any(has)
                || when.arches.iter().flatten().any(here)
                || when.min_kernel.as_deref().is_some_and(is_kernel_at_least)
        });
        includes && !excludes
    }

    /// All conditions together; each by itself if two are about the same argument.
    fn alternatives(&self) -> Vec<Vec<Condition>> {
        let args: Vec<&Arg> = self.args.iter().flatten().collect();
        // `parse` has refused what fails here.
        let conditions: Vec<Condition> =
            args.iter().filter_map(|arg| condition(arg).ok()).collect();
        let twice = (0..6).any(|n| args.iter().filter(|arg| arg.index == n).count() > 1);
        match twice {
            true => conditions.into_iter().map(|one| vec![one]).collect(),
            false => vec![conditions],
        }
    }
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, ProfileError> {
    let errno = errno.unwrap_or(libc::EPERM as u16);
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        // Numbers beyond the kernel's MAX_ERRNO would come back as success.
        "SCMP_ACT_ERRNO" => Action::Errno(errno.min(4095)),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_TRACE" => Action::Trace(errno),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_NOTIFY" => return Err(ProfileError::Listener),
        _ => return Err(ProfileError::Action(name.to_owned())),
    })
}

fn condition(arg: &Arg) -> Result<Condition, ProfileError> {
    let value = arg.value;
    let test = match arg.op.as_str() {
        "SCMP_CMP_EQ" => Test::Equal(value),
        "SCMP_CMP_NE" => Test::NotEqual(value),
        "SCMP_CMP_LT" => Test::Less(value),
        "SCMP_CMP_LE" => Test::AtMost(value),
        "SCMP_CMP_GE" => Test::AtLeast(value),
        "SCMP_CMP_GT" => Test::Greater(value),
        "SCMP_CMP_MASKED_EQ" => Test::Masked {
            mask: value,
            value: arg.value_two,
        },
        other => return Err(ProfileError::Comparison(other.to_owned())),
    };
    match u8::try_from(arg.index) {
        Ok(index @ 0..6) => Ok(Condition { index, test }),
        _ => Err(ProfileError::Argument(arg.index)),
    }
}

/// Whether this kernel is `least` (`major.minor`) or newer. What is no version holds never.
fn is_kernel_at_least(least: &str) -> bool {
    let version = |text: &str| {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next()?.parse::<u32>().ok();
        Some((next()?, next()?))
    };
    let own = rustix::system::uname();
    let own = own.release().to_str().ok().and_then(version);
    matches!((own, version(least)), (Some(own), Some(least)) if own >= least)
}
