//! Doing one thing to several containers: what goes wrong with one does not keep the others.

use std::process::ExitCode;

use crate::cli::report::Report;
use crate::cli::ui;
use crate::runner::{self, Container};
use crate::store::Store;

/// Does `act` to each thing of `names` and prints the name of each that it worked for. The first
/// error is returned at the end, the others are shown as they come.
pub(super) fn each(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<(), Report>,
) -> Result<ExitCode, Report> {
    each_shown(names, |name| act(name).map(|()| name.to_owned()))
}

/// The same, and prints what `act` returns.
pub(in crate::cli) fn each_shown(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<String, Report>,
) -> Result<ExitCode, Report> {
    let mut first = None;
    for name in names {
        match act(name) {
            Ok(shown) => ui::data(&shown)?,
            Err(report) => match &first {
                None => first = Some(report),
                Some(_) => drop(report.show()),
            },
        }
    }
    first.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// The same for containers by name, id or the beginning of an id.
pub(super) fn each_container(
    store: &Store,
    names: &[String],
    mut act: impl FnMut(Container) -> Result<(), Report>,
) -> Result<ExitCode, Report> {
    each(names, |name| act(runner::find(store, name)?))
}
