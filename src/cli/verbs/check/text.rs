//! Findings as BuildKit prints them: rule and page, text, and the lines around.

use crate::cli::ui::clean::{Colours, clean};
use crate::dockerfile::{Source, Warning};

const RULE: &str = "--------------------\n";

/// Returns all findings.
pub(super) fn findings(file: &Source, warnings: &[Warning]) -> String {
    let mut out = match warnings.len() {
        0 => return "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        n => format!("Check complete, {n} warnings have been found!\n"),
    };
    // BuildKit counts the empty line behind the last line end, too.
    let count = file.text().split('\n').count();
    for warning in warnings {
        let (name, url) = (warning.rule.name(), warning.rule.url());
        let text = clean(&warning.text, Colours::Drop);
        out.push_str(&format!("\nWARNING: {name} - {url}\n{text}\n"));
        out.push_str(&excerpt(file, count, warning.line, warning.last_line));
    }
    out
}

/// Returns the lines of an instruction, of `count` in the file, and about four around it, as BuildKit chooses them.
fn excerpt(file: &Source, count: usize, first: usize, last: usize) -> String {
    let last = last.clamp(first, count.max(first));
    let around = if first == last { 2 } else { 1 };
    let (start, end) = (
        first.saturating_sub(around).max(1),
        (last + around).min(count),
    );
    let mut out = format!("{}:{first}\n{RULE}", file.name());
    for number in start..=end {
        let mark = if (first..=last).contains(&number) {
            ">>>"
        } else {
            "   "
        };
        let line = clean(file.line_text(number), Colours::Drop);
        out.push_str(&format!(" {number:>3} | {mark} {line}\n"));
    }
    out + RULE
}
