//! A command in one argument, as shells split it.

/// Splits at blanks; quotes and backslashes keep them, as sh(1) does. `None` for a quote that is
/// never closed.
pub(super) fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (Some(_), '\\') => {
                let next = chars.next()?;
                // Within double quotes only these can be escaped.
                if !matches!(next, '"' | '\\' | '$' | '`') {
                    word.get_or_insert_default().push('\\');
                }
                word.get_or_insert_default().push(next);
            }
            (None, '\\') => word.get_or_insert_default().push(chars.next()?),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// The words of an option: a JSON list, or a text that is split.
pub(crate) fn command(text: &str) -> Result<Vec<String>, String> {
    match serde_json::from_str(text) {
        Ok(words) => Ok(words),
        Err(_) => split(text).ok_or_else(|| "a quote is never closed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_shells_split_it() {
        for (text, want) in [
            ("", Some(vec![])),
            (" a  b\t", Some(vec!["a", "b"])),
            (
                r#"sh -c "echo 'a b' \"c\" \n""#,
                Some(vec!["sh", "-c", r#"echo 'a b' "c" \n"#]),
            ),
            ("a'b 'c", Some(vec!["ab c"])),
            (r"a\ b", Some(vec!["a b"])),
            ("''", Some(vec![""])),
            ("'a", None),
            ("a\\", None),
        ] {
            let want = want.map(|words| words.iter().map(ToString::to_string).collect());
            assert_eq!(split(text), want, "{text}");
        }
        assert_eq!(command(r#"["a b","c"]"#).unwrap(), ["a b", "c"]);
        assert_eq!(command("a b").unwrap(), ["a", "b"]);
    }
}
