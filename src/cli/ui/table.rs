//! Tables with blanks between the columns, as docker's listings look.

/// Returns `rows` under `header`, every column as wide as its widest cell and three blanks
/// apart. The last column is not padded, so no line ends in blanks unless its cell does.
pub(crate) fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let columns = header.len();
    let all = || std::iter::once(&header).chain(rows);
    let widths: Vec<usize> = (0..columns)
        .map(|at| {
            all()
                .filter_map(|row| row.get(at))
                .map(|cell| cell.chars().count())
                .max()
        })
        .map(Option::unwrap_or_default)
        .collect();
    let mut out = String::new();
    for row in all() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}   "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
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
            render(&["REPOSITORY", "TAG"], &rows),
            "REPOSITORY   TAG\ndebian       12\na            latest\n"
        );
        assert_eq!(render(&["A", "B"], &[]), "A   B\n");
    }
}
