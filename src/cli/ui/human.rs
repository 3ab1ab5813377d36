//! Numbers as people read them, in docker's wording.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns a size in decimal units with three digits: `1.23kB`, `78.1MB` (docker's
/// `units.HumanSizeWithPrecision`).
pub(crate) fn size(bytes: u64) -> String {
    scaled(bytes, 1000.0, 3, ["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// The same with four digits (docker's `units.HumanSize`), where sums are shown.
pub(crate) fn sum(bytes: u64) -> String {
    scaled(bytes, 1000.0, 4, ["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// Returns a size in powers of 1024 with four digits: `10.25MiB` (docker's `units.BytesSize`).
pub(crate) fn memory(bytes: u64) -> String {
    scaled(
        bytes,
        1024.0,
        4,
        ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"],
    )
}

/// The size in the largest unit that it has one of, `step` between them, with so many digits.
fn scaled(bytes: u64, step: f64, digits: i32, units: [&str; 7]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= step && unit < units.len() - 1 {
        value /= step;
        unit += 1;
    }
    // As many behind the point as fit, once the number is rounded.
    let fits = |after: &i32| {
        let least = 10_f64.powi(digits - 1 - after);
        value >= least - 0.5 * 10_f64.powi(-after - 1)
    };
    let after = match unit {
        0 => 0,
        _ => (0..digits - 1).find(fits).unwrap_or(digits - 1),
    };
    let after = usize::try_from(after).unwrap_or_default();
    let number = format!("{value:.after$}");
    let number = match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => &number,
    };
    format!("{number}{}", units[unit])
}

/// Reads a size as docker's options take it: `512`, `10MB`, `1.5g`, `2GiB`, all in powers of 1024
/// (docker's `units.RAMInBytes`). `None` when it is none.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or(unit.strip_suffix('b'));
    let unit = unit.map_or_else(
        || text[digits..].trim_start().to_ascii_lowercase(),
        str::to_owned,
    );
    let power = match unit.as_str() {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let scale = 1_u64 << (10 * power);
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    let (whole, fraction) = number.split_once('.')?;
    let whole: u64 = whole.parse().ok()?;
    let fraction = fraction
        .get(..fraction.len().min(9))
        .filter(|f| !f.is_empty())?;
    let parts = u128::from(fraction.parse::<u64>().ok()?) * u128::from(scale);
    let rest = u64::try_from(parts / 10_u128.pow(u32::try_from(fraction.len()).ok()?)).ok()?;
    whole.checked_mul(scale)?.checked_add(rest)
}

/// Returns how long ago something was: `3 hours ago`.
pub(crate) fn ago(then: SystemTime, now: SystemTime) -> String {
    match now.duration_since(then) {
        Ok(since) => format!("{} ago", span(since)),
        // A clock that went back, or an image from the future.
        Err(ahead) if ahead.duration().as_secs() < 60 => "Less than a second ago".to_owned(),
        Err(ahead) => format!("{} from now", span(ahead.duration())),
    }
}

/// Returns a length of time in its largest unit (docker's `units.HumanDuration`).
pub(crate) fn span(time: Duration) -> String {
    let secs = time.as_secs();
    let (minutes, hours) = (secs / 60, (secs + 1800) / 3600);
    match () {
        () if secs < 1 => "Less than a second".to_owned(),
        () if secs == 1 => "1 second".to_owned(),
        () if secs < 60 => format!("{secs} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// Returns a short length of time for progress: `0.3s`, `1m12s`.
pub(crate) fn elapsed(time: Duration) -> String {
    let tenths = time.as_millis() / 100;
    match tenths / 10 {
        secs @ 0..60 => format!("{secs}.{}s", tenths % 10),
        secs @ 60..3600 => format!("{}m{:02}s", secs / 60, secs % 60),
        secs => format!("{}h{:02}m", secs / 3600, secs / 60 % 60),
    }
}

/// Reads the RFC 3339 time of an image config; `None` when there is none or it is malformed.
pub(crate) fn parse_time(text: Option<&str>) -> Option<SystemTime> {
    let time = chrono::DateTime::parse_from_rfc3339(text?).ok()?;
    let nanos = time.timestamp_subsec_nanos();
    let whole = u64::try_from(time.timestamp()).ok()?;
    Some(UNIX_EPOCH + Duration::new(whole, nanos))
}

/// Returns a time as docker lists it: `2026-01-02 03:04:05 +0000 UTC`, in UTC so that scripts
/// see the same everywhere.
pub(crate) fn date(time: SystemTime) -> String {
    let time: chrono::DateTime<chrono::Utc> = time.into();
    time.format("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

/// The same with what is known of its fraction of a second, as Go prints it.
pub(crate) fn exact_date(time: SystemTime) -> String {
    let time: chrono::DateTime<chrono::Utc> = time.into();
    let nanos = format!("{:09}", time.timestamp_subsec_nanos());
    let fraction = match nanos.trim_end_matches('0') {
        "" => String::new(),
        digits => format!(".{digits}"),
    };
    time.format(&format!("%Y-%m-%d %H:%M:%S{fraction} +0000 UTC"))
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_at_most() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (77_800_000, "77.8MB"),
            (123_456_789, "123MB"),
            (1_500_000_000, "1.5GB"),
            (10_000, "10kB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(sum(123_456_789), "123.5MB");
        assert_eq!(sum(1_234), "1.234kB");
    }

    #[test]
    fn memory_is_shown_in_powers_of_1024() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1023 << 10, "1023KiB"),
            (10_800_000, "10.3MiB"),
            (64 << 20, "64MiB"),
            (25_300_000_000, "23.56GiB"),
        ] {
            assert_eq!(memory(bytes), text);
        }
    }

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("1b", 1),
            ("10kB", 10 << 10),
            ("3 M", 3 << 20),
            ("1.5g", 3 << 29),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "x", "1x", "-1", "1.", "1..5", ".", "99999999999g", "k"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn ages_are_in_their_largest_unit() {
        let now = UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        for (secs, text) in [
            (0, "Less than a second ago"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (61, "About a minute ago"),
            (60 * 5, "5 minutes ago"),
            (3600, "About an hour ago"),
            (3600 * 5, "5 hours ago"),
            (3600 * 24 * 3, "3 days ago"),
            (3600 * 24 * 21, "3 weeks ago"),
            (3600 * 24 * 100, "3 months ago"),
            (4_000_000_000, "126 years ago"),
        ] {
            assert_eq!(ago(now - Duration::from_secs(secs), now), text);
        }
        assert_eq!(
            ago(now + Duration::from_secs(7200), now),
            "2 hours from now"
        );
    }

    #[test]
    fn elapsed_times_stay_short() {
        for (millis, text) in [
            (0, "0.0s"),
            (312, "0.3s"),
            (59_999, "59.9s"),
            (72_000, "1m12s"),
            (3_720_000, "1h02m"),
        ] {
            assert_eq!(elapsed(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn times_of_configs_are_read() {
        let time = parse_time(Some("2026-01-02T03:04:05.5Z")).unwrap();
        assert_eq!(date(time), "2026-01-02 03:04:05 +0000 UTC");
        assert_eq!(exact_date(time), "2026-01-02 03:04:05.5 +0000 UTC");
        let whole = parse_time(Some("2026-01-02T03:04:05Z")).unwrap();
        assert_eq!(exact_date(whole), date(whole));
        assert_eq!(parse_time(Some("yesterday")), None);
        assert_eq!(parse_time(None), None);
    }
}
