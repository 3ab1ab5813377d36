//! What the filters of listings have in common, and how labels show in them.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::ui::human;
use super::ui::template::LABEL;
use super::verbs::until;
use crate::dockerfile::go_bool;

/// Labels by their keys.
pub(crate) type Labels = BTreeMap<String, String>;

/// `label=KEY[=VALUE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    key: String,
    value: Option<String>,
}

impl Label {
    /// Parses what follows `label=`.
    pub(crate) fn parse(text: &str) -> Self {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        Self {
            key: key.to_owned(),
            value,
        }
    }

    /// Whether one of `labels` is it.
    pub(crate) fn fits(&self, labels: &Labels) -> bool {
        let found = labels.get(&self.key);
        found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found))
    }
}

/// Whether something passes `filters` as docker combines them: of several filters of one kind one
/// has to fit, but all of the labels.
pub(crate) fn pass<F>(
    filters: &[F],
    is_label: impl Fn(&F) -> bool,
    fits: impl Fn(&F) -> bool,
) -> bool {
    filters.iter().all(|filter| {
        let mut same = filters
            .iter()
            .filter(|other| discriminant(*other) == discriminant(filter));
        match is_label(filter) {
            true => fits(filter),
            false => same.any(&fits),
        }
    })
}

/// Parses the value of a filter that is on or off.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    go_bool(text).ok_or_else(|| format!("`{text}` is neither `true` nor `false`"))
}

/// Puts labels into a row: all of them as one text, and each for `{{.Label "KEY"}}`.
pub(crate) fn show_labels(row: &mut Value, labels: &Labels) {
    let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    row["Labels"] = json!(pairs.join(","));
    row[LABEL] = json!(labels);
}

/// A filter of what is to be pruned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pruned {
    /// Only what was made before.
    Until(SystemTime),
    /// Only what has the label.
    Label(Label),
    /// Only what has it not.
    NotLabel(Label),
}

impl Pruned {
    /// Parses `until=TIME`, `label=KEY[=VALUE]` or `label!=KEY[=VALUE]`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("label", label)) => Ok(Self::Label(Label::parse(label))),
            Some(("label!", label)) => Ok(Self::NotLabel(Label::parse(label))),
            Some(("until", _)) => Ok(Self::Until(until(text)?)),
            _ => Err("expected `until=TIME`, `label=KEY[=VALUE]` or `label!=KEY[=VALUE]`".into()),
        }
    }

    /// The same for what has no age.
    pub(crate) fn parse_label(text: &str) -> Result<Self, String> {
        match Self::parse(text) {
            Ok(Self::Until(_)) | Err(_) => {
                Err("expected `label=KEY[=VALUE]` or `label!=KEY[=VALUE]`".to_owned())
            }
            label => label,
        }
    }

    /// Whether it may go: what was made at `created`, RFC 3339, and has `labels`.
    pub(crate) fn fits(&self, created: &str, labels: &Labels) -> bool {
        match self {
            Self::Until(time) => human::parse_time(Some(created)).is_some_and(|made| made < *time),
            Self::Label(label) => label.fits(labels),
            Self::NotLabel(label) => !label.fits(labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_a_kind_are_alternatives_but_labels_hold_together() {
        #[derive(Clone, Copy)]
        enum Kind {
            Label(bool),
            Name(bool),
            Status(bool),
        }
        use Kind::{Label, Name, Status};
        let passes = |filters: &[Kind]| {
            let is_label = |kind: &Kind| matches!(kind, Label(_));
            pass(filters, is_label, |kind| match kind {
                Label(fits) | Name(fits) | Status(fits) => *fits,
            })
        };
        assert!(passes(&[]) && passes(&[Name(false), Name(true), Status(true)]));
        assert!(!passes(&[Name(true), Status(false)]));
        assert!(passes(&[Label(true), Label(true)]) && !passes(&[Label(true), Label(false)]));
    }

    #[test]
    fn labels_are_told_by_key_or_by_both() {
        let labels = Labels::from([("a".to_owned(), "1=2".to_owned())]);
        for (text, fits) in [("a", true), ("a=1=2", true), ("a=", false), ("b", false)] {
            assert_eq!(Label::parse(text).fits(&labels), fits, "{text}");
        }
    }

    #[test]
    fn what_is_pruned_is_old_or_has_a_label_or_not() {
        let labels = Labels::from([("keep".to_owned(), String::new())]);
        let fits = |text: &str| {
            let filter = Pruned::parse(text).unwrap();
            filter.fits("2026-01-01T00:00:00Z", &labels)
        };
        assert!(fits("label=keep") && !fits("label!=keep") && fits("label!=other"));
        assert!(fits("until=2026-01-02T00:00:00Z") && !fits("until=2025-12-31T00:00:00Z"));
        assert!(Pruned::parse("size=1").is_err() && Pruned::parse_label("until=1h").is_err());
        assert!(Pruned::parse_label("label!=a=b").is_ok());
    }
}
