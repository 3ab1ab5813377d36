//! Replaces in shown text what differs from run to run.

use std::path::Path;

/// Replaces the test's directory by `[DIR]`, digests by `[SHA]`, short ids by `[ID]`, times by
/// `[TIME]` and loopback ports by `[PORT]`.
pub(super) fn stable(text: &str, dir: &Path) -> String {
    let text = text.replace(dir.to_str().unwrap(), "[DIR]");
    let lines = text.lines().map(|line| {
        let words = line.split(' ').map(word).collect::<Vec<_>>();
        words.join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn word(word: &str) -> String {
    let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if let Some((before, after)) = word.split_once("sha256:")
        && let Some(digits) = after.get(..64).filter(|digits| hex(digits))
    {
        return format!("{before}[SHA]{}", &after[digits.len()..]);
    }
    if let Some((before, after)) = word.split_once("127.0.0.1:") {
        let end = after
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(after.len());
        return format!("{before}127.0.0.1:[PORT]{}", &after[end..]);
    }
    let bare = word.trim_end_matches([',', ':', ';']);
    let tail = &word[bare.len()..];
    if bare.len() == 12 && hex(bare) && bare.bytes().any(|b| b.is_ascii_digit()) {
        return format!("[ID]{tail}");
    }
    let seconds = bare.strip_suffix('s').unwrap_or(bare);
    if seconds.contains('.') && seconds.parse::<f64>().is_ok() {
        return format!("[TIME]{tail}");
    }
    word.to_owned()
}

/// Reads the steps and their ends out of plain progress.
pub(super) fn steps(text: &str) -> Vec<String> {
    let mut names = std::collections::HashMap::new();
    let mut out = Vec::new();
    for line in text.lines() {
        let Some((number, rest)) = line.strip_prefix('#').and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        let Some(name) = names.get(number) else {
            names.insert(number, rest.to_owned());
            continue;
        };
        let end = match rest.split(' ').next() {
            Some("CACHED") if rest == "CACHED" => "cached",
            Some("ERROR") if rest == "ERROR" => "failed",
            Some("DONE") => "ran",
            _ => continue,
        };
        out.push(format!("{name}  {end}"));
    }
    out
}
