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

/// How many containers are dealt with at the same time.
const AT_ONCE: usize = 50;

/// As [`each_container`], for what may take long with each: many are dealt with at the same time.
pub(super) fn each_container_at_once(
    store: &Store,
    names: &[String],
    act: impl Fn(Container) -> Result<(), Report> + Sync,
) -> Result<ExitCode, Report> {
    let one = |name: &String| act(runner::find(store, name)?);
    let mut done = Vec::new();
    for some in names.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let begun = some.iter().map(|name| scope.spawn(|| one(name)));
            let begun: Vec<_> = begun.collect();
            done.extend(begun.into_iter().map(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }));
        });
    }
    let mut done = done.into_iter();
    each(names, |_| done.next().unwrap_or(Ok(())))
}

/// The same for containers by name, id or the beginning of an id.
pub(super) fn each_container(
    store: &Store,
    names: &[String],
    mut act: impl FnMut(Container) -> Result<(), Report>,
) -> Result<ExitCode, Report> {
    each(names, |name| act(runner::find(store, name)?))
}
