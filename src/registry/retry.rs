//! When to try again, and when to stop.
//!
//! Pure: the caller sleeps. The pause doubles with each attempt and carries some jitter, so that
//! parallel transfers do not come back in step; a server's `Retry-After` is obeyed within
//! reason.

use std::time::{Duration, SystemTime};

/// Longest pause taken because a server asked for it.
const LONGEST: Duration = Duration::from_secs(60);

/// Counts the attempts of one request.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    left: u32,
    pause: Duration,
}

impl Retry {
    /// Allows `attempts` attempts in all, the first included.
    pub(super) fn new(attempts: u32, pause: Duration) -> Self {
        Self {
            left: attempts.saturating_sub(1),
            pause,
        }
    }

    /// Returns how long to wait before the next attempt, or `None` when there is none left or
    /// the server wants a longer pause than anybody would sit through.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        if self.left == 0 || asked.is_some_and(|asked| asked > LONGEST) {
            return None;
        }
        self.left -= 1;
        let own = self.pause + jitter(self.pause);
        self.pause = (self.pause * 2).min(LONGEST);
        Some(asked.map_or(own, |asked| asked.max(own)))
    }
}

/// Up to half of `pause`, taken from the clock: spread is all that is wanted of it.
fn jitter(pause: Duration) -> Duration {
    let nanos = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |t| t.subsec_nanos());
    pause / 2 * (nanos % 1000) / 1000
}

/// Reads `Retry-After` (RFC 9110 section 10.2.3): seconds or a date, against `now`.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = chrono::DateTime::parse_from_rfc2822(value).ok()?;
    let at = SystemTime::from(at);
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let mut retry = Retry::new(3, Duration::from_secs(1));
        let first = retry.next(None).unwrap();
        let second = retry.next(None).unwrap();
        assert!((Duration::from_secs(1)..Duration::from_millis(1500)).contains(&first));
        assert!((Duration::from_secs(2)..Duration::from_secs(3)).contains(&second));
        assert_eq!(retry.next(None), None);
    }

    #[test]
    fn a_servers_wish_is_obeyed_within_reason() {
        let mut retry = Retry::new(9, Duration::ZERO);
        assert_eq!(
            retry.next(Some(Duration::from_secs(7))),
            Some(Duration::from_secs(7))
        );
        assert_eq!(retry.next(Some(Duration::from_secs(3600))), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after(" 120", now), Some(Duration::from_secs(120)));
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now),
            Some(Duration::from_secs(10))
        );
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now),
            Some(Duration::ZERO)
        );
        assert_eq!(retry_after("soon", now), None);
    }
}
