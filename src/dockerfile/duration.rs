//! Times as Go writes them: `1m30s`, `1.5h`, `300ms`.
//!
//! Sums that do not fit 63 bits of nanoseconds (292 years) are refused, as Go refuses them.

/// A time in nanoseconds; may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nanos(pub(super) i64);

/// Reads a Go duration; nothing where the text is none.
pub(super) fn parse(text: &str) -> Option<Nanos> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(Nanos(0));
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let (nanos, after) = part(rest)?;
        total = total.checked_add(nanos)?;
        rest = after;
    }
    Some(Nanos(if negative { -total } else { total }))
}

/// Reads one number with its unit; answers the nanoseconds and what follows.
fn part(text: &str) -> Option<(i64, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    let mut end = whole;
    let mut fraction = "";
    if text[end..].starts_with('.') {
        let length = digits(&text[end + 1..]);
        fraction = &text[end + 1..end + 1 + length];
        end += 1 + length;
    }
    if whole == 0 && fraction.is_empty() {
        return None;
    }
    let unit_end = text[end..]
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .map_or(text.len(), |length| end + length);
    let unit: i64 = match &text[end..unit_end] {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => return None,
    };
    let whole: i64 = if whole == 0 {
        0
    } else {
        text[..whole].parse().ok()?
    };
    let mut nanos = whole.checked_mul(unit)?;
    // Digits below a nanosecond count for nothing, so the first eighteen are enough.
    let mut scale = 1i128;
    let mut parts = 0i128;
    for digit in fraction.bytes().take(18) {
        parts = parts * 10 + i128::from(digit - b'0');
        scale *= 10;
    }
    let below = i64::try_from(parts * i128::from(unit) / scale).ok()?;
    nanos = nanos.checked_add(below)?;
    Some((nanos, &text[unit_end..]))
}

/// Reads a Go duration that is not negative, such as `1h30m`; `None` when it is none.
pub fn go_duration(text: &str) -> Option<std::time::Duration> {
    let Nanos(nanos) = parse(text)?;
    u64::try_from(nanos)
        .ok()
        .map(std::time::Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_reads_them() {
        let table = [
            ("0", Some(0)),
            ("5s", Some(5_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("300ms", Some(300_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("1us", Some(1_000)),
            ("2µs", Some(2_000)),
            ("-1s", Some(-1_000_000_000)),
            ("+2ns", Some(2)),
            ("5", None),
            ("", None),
            ("-", None),
            (".s", None),
            ("1x", None),
            ("s", None),
            ("9999999999h", None),
            ("99999999999999999999s", None),
        ];
        for (text, want) in table {
            assert_eq!(parse(text).map(|nanos| nanos.0), want, "{text}");
        }
    }
}
