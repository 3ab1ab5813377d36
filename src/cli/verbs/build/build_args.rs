//! `--build-arg` and `--build-arg-file`: values for the ARGs of a Dockerfile.

use std::fs;
use std::path::PathBuf;

use super::request::EPOCH;
use crate::cli::env;
use crate::cli::report::Report;

/// Values for ARGs.
#[derive(Debug, clap::Args)]
pub(super) struct BuildArgArgs {
    /// Value for an ARG; without a value the environment's
    #[arg(long = "build-arg", value_name = "KEY[=VALUE]")]
    build_args: Vec<String>,

    /// File with a `KEY[=VALUE]` a line, for ARGs that `--build-arg` gives no value; lines that
    /// begin with `#` are comments, and of several files later ones win
    #[arg(long = "build-arg-file", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl BuildArgArgs {
    /// Returns all values, later ones winning: those of files, then those of the command line.
    ///
    /// Values that only the environment has are looked up; a name it has not is left out. The
    /// time to build with becomes a build argument, as buildx makes it one.
    pub(super) fn resolve(&self) -> Result<Vec<(String, String)>, Report> {
        let mut out = Vec::new();
        for path in &self.files {
            let text = fs::read_to_string(path).map_err(|error| {
                Report::failed(format!("cannot read {}", path.display())).because(&error)
            })?;
            for line in lines(&text) {
                let place = || format!("{}: `{line}`", path.display());
                out.extend(one(line, place)?);
            }
        }
        for text in &self.build_args {
            out.extend(one(text, || format!("`--build-arg {text}`"))?);
        }
        if !out.iter().any(|(key, _)| key == EPOCH) {
            out.extend(env::text(EPOCH).map(|value| (EPOCH.to_owned(), value)));
        }
        Ok(out)
    }
}

/// The lines of a file that hold an argument.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
}

fn one(text: &str, place: impl Fn() -> String) -> Result<Option<(String, String)>, Report> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, env::exact(text)),
    };
    if key.is_empty() {
        let text = format!("{}: expected `KEY` or `KEY=VALUE`", place());
        return Err(Report::wrong_use(text));
    }
    Ok(value.map(|value| (key.to_owned(), value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_an_argument_a_line_and_comments() {
        let text = "# first\nA=1\n\nB=a b # no comment\r\n  \nC=\n";
        let found: Vec<&str> = lines(text).collect();
        assert_eq!(found, ["A=1", "B=a b # no comment", "C="]);
        let pair = one("K=a=b", String::new).unwrap();
        assert_eq!(pair, Some(("K".to_owned(), "a=b".to_owned())));
        assert!(one("=x", String::new).is_err());
    }
}
