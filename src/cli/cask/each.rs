//! Doing one thing to several containers: what goes wrong with one does not keep the others.

use std::process::ExitCode;

use crate::cli::report::{Failures, Report};
use crate::cli::ui;
use crate::runner::{self, Container};
use crate::store::Store;

/// Does `act` to each thing of `names` and prints the name of each that it worked for. Errors are
/// shown in their order, the last one by whoever gets it.
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
    each_told(names, |name| act(name).map(Some))
}

/// The same where there may be nothing to print.
pub(super) fn each_told(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<Option<String>, Report>,
) -> Result<ExitCode, Report> {
    let mut failures = Failures::default();
    for name in names {
        match act(name) {
            Ok(Some(shown)) => ui::data(&shown)?,
            Ok(None) => {}
            Err(report) => failures.add(report),
        }
    }
    failures.result().map(|()| ExitCode::SUCCESS)
}

/// Removes each thing of `names` with `act`, which tells how many bytes that frees, under a head
/// as docker's `prune` has them. Returns the bytes of all; without names nothing is printed.
pub(super) fn prune(
    head: &str,
    names: &[String],
    mut act: impl FnMut(&str) -> Result<u64, Report>,
) -> Result<u64, Report> {
    if names.is_empty() {
        return Ok(0);
    }
    ui::data(&head)?;
    let mut freed = 0;
    each(names, |name| {
        freed += act(name)?;
        Ok(())
    })?;
    ui::data(&"")?;
    Ok(freed)
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
