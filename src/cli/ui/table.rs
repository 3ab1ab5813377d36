//! Tables with blanks between the columns, as docker's listings look.

/// Width of a column with its blanks, at least, in docker's listings.
pub(crate) const LISTED: usize = 10;

/// Blanks between two columns.
const APART: usize = 3;

/// Returns `rows` under `header`, every column as wide as its widest cell and three blanks apart,
/// and no narrower than `least` with these blanks. The last cell of a line is not padded.
pub(crate) fn render(header: &[&str], rows: &[Vec<String>], least: usize) -> String {
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let all = || std::iter::once(&header).chain(rows);
    let width = |at: usize| {
        let cells = all().filter_map(|row| row.get(at));
        let widest = cells.map(|cell| cell.chars().count()).max();
        (widest.unwrap_or_default() + APART).max(least)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut out = String::new();
    for row in all() {
        let last = row.len().saturating_sub(1);
        for (at, cell) in row.iter().enumerate() {
            let width = match widths.get(at) {
                Some(width) if at < last => *width,
                _ => 0,
            };
            out.push_str(&format!("{cell:<width$}"));
        }
        out.push('\n');
    }
    out
}

/// Returns `text` with so many characters at most, the last one telling that there were more.
pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.chars().count() <= most {
        true => text.to_owned(),
        false => text.chars().take(most - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["debian".to_owned(), "12".to_owned()],
            vec!["a".to_owned(), "latest".to_owned()],
        ];
        assert_eq!(
            render(&["REPOSITORY", "TAG"], &rows, 0),
            "REPOSITORY   TAG\ndebian       12\na            latest\n"
        );
        assert_eq!(render(&["A", "B"], &[], 0), "A   B\n");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(cut("äbcd", 4), "äbcd");
        assert_eq!(cut("äbcde", 4), "äbc…");
    }

    #[test]
    fn narrow_columns_have_dockers_width() {
        let rows = vec![vec!["a".to_owned(), String::new(), String::new()]];
        assert_eq!(
            render(&["ID", "PORTS", "NAMES"], &rows, LISTED),
            "ID        PORTS     NAMES\na                   \n"
        );
    }
}
