//! When a container is started again: docker's policies and its back-off.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// First delay before a program is started again; it doubles with each time.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_mins(1);
/// A program that ran so long has done well, and the delay begins anew.
const LONG_ENOUGH: Duration = Duration::from_secs(10);

/// `--restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// When it ended badly, so often at most.
    OnFailure {
        /// `None` is for ever.
        most: Option<u32>,
    },
    /// Unless it was stopped, and after the machine has started in any case.
    Always,
    /// Unless it was stopped.
    UnlessStopped,
}

impl Restart {
    /// Returns whether a program that ended with `code` is started again; `times` says how
    /// often that was done already.
    pub fn again(self, code: i32, times: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure { most } => code != 0 && most.is_none_or(|most| times < most),
            Self::Always | Self::UnlessStopped => true,
        }
    }

    /// Returns whether the container is started when the machine is. `was_up` says whether it
    /// ran when the machine went down, `stopped` whether somebody had stopped it.
    pub fn at_boot(self, was_up: bool, stopped: bool) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure { .. } => was_up && !stopped,
            Self::Always => true,
            Self::UnlessStopped => !stopped,
        }
    }

    /// Returns docker's name and the count that goes with it.
    pub fn parts(self) -> (&'static str, u32) {
        match self {
            Self::No => ("no", 0),
            Self::OnFailure { most } => ("on-failure", most.unwrap_or(0)),
            Self::Always => ("always", 0),
            Self::UnlessStopped => ("unless-stopped", 0),
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (name, 0) => f.write_str(name),
            (name, most) => write!(f, "{name}:{most}"),
        }
    }
}

impl FromStr for Restart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, most) = match text.split_once(':') {
            Some((name, most)) => (name, Some(most)),
            None => (text, None),
        };
        match (name, most) {
            ("no" | "", None) => Ok(Self::No),
            ("always", None) => Ok(Self::Always),
            ("unless-stopped", None) => Ok(Self::UnlessStopped),
            ("on-failure", None) => Ok(Self::OnFailure { most: None }),
            ("on-failure", Some(most)) => match most.parse::<u32>() {
                // docker takes 0 for no limit.
                Ok(most) => Ok(Self::OnFailure {
                    most: (most > 0).then_some(most),
                }),
                Err(_) => Err(format!("`{most}` is no number of times")),
            },
            ("no" | "always" | "unless-stopped", Some(_)) => {
                Err("only `on-failure` has a number of times".to_owned())
            }
            _ => Err("expected `no`, `on-failure[:N]`, `always` or `unless-stopped`".to_owned()),
        }
    }
}

/// The delay before the next start.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// Returns how long to wait after a program that ran for `ran`.
    pub(super) fn next(&mut self, ran: Duration) -> Duration {
        let next = match self.last {
            Some(last) if ran < LONG_ENOUGH => (last * 2).min(LONGEST_DELAY),
            _ => FIRST_DELAY,
        };
        self.last = Some(next);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_docker_reads_them() {
        let read = |text: &str| text.parse::<Restart>();
        assert_eq!(read("no"), Ok(Restart::No));
        assert_eq!(
            read("on-failure:3"),
            Ok(Restart::OnFailure { most: Some(3) })
        );
        assert_eq!(read("on-failure"), Ok(Restart::OnFailure { most: None }));
        assert_eq!(read("unless-stopped"), Ok(Restart::UnlessStopped));
        assert!(
            read("always:3").is_err() && read("never").is_err() && read("on-failure:x").is_err()
        );
        for text in [
            "no",
            "always",
            "on-failure:3",
            "on-failure",
            "unless-stopped",
        ] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn policies_decide() {
        let thrice = Restart::OnFailure { most: Some(3) };
        assert!(thrice.again(1, 2) && !thrice.again(1, 3) && !thrice.again(0, 0));
        assert!(Restart::Always.again(0, 99) && !Restart::No.again(1, 0));
        assert!(Restart::Always.at_boot(false, true));
        assert!(!Restart::UnlessStopped.at_boot(true, true));
        assert!(Restart::UnlessStopped.at_boot(false, false));
        assert!(!Restart::No.at_boot(true, false));
    }

    #[test]
    fn delays_double_until_a_program_does_well() {
        let mut backoff = Backoff::default();
        let mut next = |secs| backoff.next(Duration::from_secs(secs)).as_millis();
        assert_eq!([next(0), next(0), next(9)], [100, 200, 400]);
        assert_eq!(next(10), 100);
        let last = (0..20).map(|_| next(0)).last();
        assert_eq!(last, Some(60_000));
    }
}
