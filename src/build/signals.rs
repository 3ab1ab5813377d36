//! Names of signals, as STOPSIGNAL takes them.

/// Names of signal(7), without `SIG`.
const SIGNALS: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Returns whether `text` names a signal: `9`, `KILL`, `SIGKILL`, `RTMIN+3`.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str| {
        let offset = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.parse::<u32>().ok());
        offset.is_some_and(|offset| (1..=15).contains(&offset))
    };
    SIGNALS.contains(&name) || real_time("RTMIN+") || real_time("RTMAX-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert!(
            ["SIGQUIT", "quit", "9", "64", "SIGRTMIN+3"]
                .iter()
                .all(|s| is_signal(s))
        );
        assert!(
            !["", "0", "65", "SIGNOPE", "RTMIN+99"]
                .iter()
                .any(|s| is_signal(s))
        );
    }
}
