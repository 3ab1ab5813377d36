//! What is shown of an option that was given wrongly.
//!
//! clap quotes the whole value of an option that its parser refused. Values of `--cache-from` and
//! `--cache-to` may hold keys of services and passwords, which belong in no log, so their fields
//! are shown as `key=…`. What is wrong with the value is the parser's to say, without values.

use clap::error::{ContextKind, ContextValue};

/// The options whose values are not to be shown, as they begin in clap's words.
const PRIVATE: [&str; 2] = ["--cache-from ", "--cache-to "];

/// Returns the error without what may be private.
pub(super) fn hidden(mut error: clap::Error) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let (option, value) = (
        text(ContextKind::InvalidArg),
        text(ContextKind::InvalidValue),
    );
    let (Some(option), Some(value)) = (option, value) else {
        return error;
    };
    if PRIVATE.iter().any(|private| option.starts_with(private)) && value.contains('=') {
        let value = ContextValue::String(without_values(&value));
        error.insert(ContextKind::InvalidValue, value);
    }
    error
}

/// Leaves out all values but that of `type`, and what is no `key=value`.
fn without_values(text: &str) -> String {
    let fields = text.split(',').map(|field| {
        let field = field.trim_start_matches('"');
        match field.split_once('=') {
            Some(("type", _)) => field.to_owned(),
            Some((key, _)) => format!("{key}=…"),
            None => "…".to_owned(),
        }
    });
    fields.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_keys_and_lose_their_values() {
        for (text, want) in [
            (
                "type=s3,bucket=b,secret_access_key=k",
                "type=s3,bucket=…,secret_access_key=…",
            ),
            ("type=s3,\"token=a,b\",x", "type=s3,token=…,…,…"),
            ("token=k", "token=…"),
        ] {
            assert_eq!(without_values(text), want, "{text}");
        }
    }
}
