//! Errors as text, hints and exit codes, shown once.
//!
//! ```text
//! error: step 4/9 `COPY go.sum .` found no file named `go.sum` in the build context
//!  --> Dockerfile:12:6
//!    |
//! 12 | COPY go.sum .
//!    |      ^^^^^^
//! caused by: …
//! hint: `.dockerignore` line 3 (`*.sum`) leaves it out
//! ```
//!
//! The first line is the error's own text, each `caused by` one of its sources, and a hint is a
//! command to type or a line to change. Texts come from files and servers too, so they are
//! cleaned of everything a terminal would obey.

mod hints;

pub(crate) use hints::limit_hint;

use std::error::Error;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::env;
use super::ui::{self, clean, template::TemplateError};

/// Exit code when the work failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code of wrong use.
pub(crate) const WRONG_USE: u8 = 2;
/// Exit code of `cask run` when it fails before its program runs, as docker's.
pub(crate) const RUN_FAILED: u8 = 125;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Report(Box<Parts>);

#[derive(Debug)]
struct Parts {
    exit: u8,
    text: String,
    excerpt: Option<Excerpt>,
    causes: Vec<String>,
    hints: Vec<String>,
}

/// The place in a text that an error is about.
#[derive(Debug)]
pub(crate) struct Excerpt {
    /// Name of the file.
    pub(crate) name: String,
    /// Its whole text.
    pub(crate) text: String,
    /// What to mark, as a range of bytes of the text.
    pub(crate) span: Range<usize>,
    /// Words beside the marker.
    pub(crate) label: Option<String>,
}

impl Report {
    /// The command line asks for something that can't be: exit code 2.
    pub(crate) fn wrong_use(text: impl Into<String>) -> Self {
        Self::new(WRONG_USE, text)
    }

    /// The work failed: exit code 1.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::new(FAILED, text)
    }

    fn new(exit: u8, text: impl Into<String>) -> Self {
        let text = text.into();
        Self(Box::new(Parts {
            exit,
            text,
            excerpt: None,
            causes: Vec::new(),
            hints: Vec::new(),
        }))
    }

    /// Adds a command or a line to change.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Adds the place that the error is about.
    pub(crate) fn at(mut self, excerpt: Excerpt) -> Self {
        self.0.excerpt = Some(excerpt);
        self
    }

    /// Adds what led to it, and to that, with the hints for each.
    pub(crate) fn because(mut self, cause: &(dyn Error + 'static)) -> Self {
        let text = cause.to_string();
        // A variant that hands its source through says the same twice.
        if text != self.0.text && self.0.causes.last() != Some(&text) {
            self.0.causes.push(text);
        }
        self.because_of(cause)
    }

    /// Adds what led to `error`, whose own text has been told.
    fn because_of(mut self, error: &(dyn Error + 'static)) -> Self {
        self.0.hints.extend(hints::hint(error));
        match error.source() {
            Some(source) => self.because(source),
            None => self,
        }
    }

    /// Changes the exit code.
    pub(crate) fn exit(mut self, exit: u8) -> Self {
        self.0.exit = exit;
        self
    }

    /// Changes the exit code, unless somebody chose one of docker's for `run`.
    pub(crate) fn exit_if_own(self, exit: u8) -> Self {
        match self.0.exit {
            FAILED | WRONG_USE => self.exit(exit),
            _ => self,
        }
    }

    /// Prints the report on standard error and returns the exit code.
    pub(crate) fn show(&self) -> u8 {
        ui::note(&self.render(env::colours()));
        self.0.exit
    }

    fn render(&self, colours: bool) -> String {
        let mut out = self.head(colours);
        for cause in &self.0.causes {
            out.push_str(&format!("\ncaused by: {}", clean::clean_lines(cause)));
        }
        for (at, hint) in self.0.hints.iter().enumerate() {
            if !self.0.hints[..at].contains(hint) {
                let word = if colours {
                    "\x1b[1;36mhint\x1b[0m"
                } else {
                    "hint"
                };
                out.push_str(&format!("\n{word}: {}", clean::clean_lines(hint)));
            }
        }
        out
    }

    fn head(&self, colours: bool) -> String {
        let text = clean::clean_lines(&self.0.text);
        let Some(excerpt) = &self.0.excerpt else {
            let word = if colours {
                "\x1b[1;31merror\x1b[0m"
            } else {
                "error"
            };
            return format!("{word}: {text}");
        };
        let span = clip(&excerpt.text, &excerpt.span);
        let mark = AnnotationKind::Primary
            .span(span)
            .label(excerpt.label.as_deref());
        let snippet = Snippet::source(&excerpt.text)
            .path(&excerpt.name)
            .annotation(mark);
        let report = &[Level::ERROR.primary_title(&text).element(snippet)];
        let renderer = if colours {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        renderer.render(report)
    }
}

/// The template of `--format` is wrong: exit code 2.
pub(crate) fn wrong_format(error: TemplateError) -> Report {
    Report::wrong_use(error.to_string())
}

/// Keeps a span within the text and on character boundaries, since drawing counts on both.
fn clip(text: &str, span: &Range<usize>) -> Range<usize> {
    let floor = |at: usize| {
        let mut at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

impl<E: Error + 'static> From<E> for Report {
    fn from(error: E) -> Self {
        hints::report(&error)
    }
}

/// What goes wrong while one thing after the other is dealt with: each is told before the next one
/// is, and the last is left to whoever ends the command.
#[derive(Debug, Default)]
pub(crate) struct Failures(Option<Report>);

impl Failures {
    /// Adds one.
    pub(crate) fn add(&mut self, report: Report) {
        if let Some(earlier) = self.0.replace(report) {
            earlier.show();
        }
    }

    /// The last one, if there is any.
    pub(crate) fn result(self) -> Result<(), Report> {
        self.0.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write \x1b]0;t\x07`x`")]
    struct Outer {
        source: std::io::Error,
    }

    #[test]
    fn causes_and_hints_follow_the_error() {
        let source = std::io::Error::from_raw_os_error(libc::ENOSPC);
        let report = Report::from(Outer { source });
        assert_eq!(report.0.exit, FAILED);
        insta::assert_snapshot!(report.render(false), @r"
        error: cannot write `x`
        caused by: No space left on device (os error 28)
        hint: `cooper prune` removes what no image needs
        ");
    }

    #[test]
    fn the_place_is_drawn() {
        let text = "FROM a\nRUNN make \x1b[2J\n".to_owned();
        let report = Report::failed("unknown instruction `RUNN`").at(Excerpt {
            name: "Dockerfile".to_owned(),
            text,
            span: 7..11,
            label: Some("did you mean `RUN`?".to_owned()),
        });
        insta::assert_snapshot!(report.render(false), @r"
        error: unknown instruction `RUNN`
         --> Dockerfile:2:1
          |
        2 | RUNN make ␛[2J
          | ^^^^ did you mean `RUN`?
        ");
    }

    #[test]
    fn a_span_beside_the_text_is_clipped() {
        let text = "FROM ä".to_owned();
        for span in [6..7, 3..900, 900..901] {
            let report = Report::failed("x").at(Excerpt {
                name: "f".to_owned(),
                text: text.clone(),
                span,
                label: None,
            });
            assert!(report.render(false).contains("f:1:"), "drawn");
        }
    }
}
