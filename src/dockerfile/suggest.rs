//! "Did you mean": the nearest known word to one that was mistyped.
//!
//! A suggestion is made when fewer than three edits lead from one to the other; more would
//! be guessing.

/// Returns the option nearest to `typed`, if it is near enough to be a slip.
///
/// Case is ignored; the answer is spelled as in `options`. The word itself is no slip.
pub fn nearest<'a>(typed: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for option in options {
        let distance = edits(&typed, &option.to_lowercase());
        if distance < 3 && distance > 0 && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, option));
        }
    }
    best.map(|(_, option)| option)
}

/// Counts the least insertions, deletions, replacements and swaps of neighbours that turn `a`
/// into `b`.
fn edits(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    // Words that differ that much in length are no slip; this also bounds the work.
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    // `rows[i][j]`: the edits from the first `i` of `a` to the first `j` of `b`.
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, j) => j,
                (i, 0) => i,
                (i, j) => {
                    let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let least = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                    let swaps = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    if swaps {
                        least.min(rows[i - 2][j - 2] + 1)
                    } else {
                        least
                    }
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_far_ones_are_not() {
        assert_eq!(nearest("FORM", ["FROM", "RUN"]), Some("FROM"));
        assert_eq!(nearest("cpoy", ["COPY", "CMD"]), Some("COPY"));
        assert_eq!(nearest("xyzzy", ["FROM", "RUN"]), None);
        assert_eq!(nearest("chwon", ["chown", "chmod", "from"]), Some("chown"));
        assert_eq!(nearest("RNU", ["ENV", "RUN"]), Some("RUN"));
        assert_eq!(nearest("from", ["from"]), None);
    }
}
