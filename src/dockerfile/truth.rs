//! Truth values as Go's `strconv.ParseBool` reads them, which is what docker's options, BuildKit's
//! variables and the keys of mounts go through.

/// Returns the truth value of a text, or `None` when it is neither.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::go_bool;

    #[test]
    fn six_words_are_true_and_six_are_false() {
        for (words, truth) in [
            (["1", "t", "T", "true", "TRUE", "True"], Some(true)),
            (["0", "f", "F", "false", "FALSE", "False"], Some(false)),
            (["", "yes", "on", "tRUE", "no", " 1"], None),
        ] {
            for word in words {
                assert_eq!(go_bool(word), truth, "{word}");
            }
        }
    }
}
