//! Working containers: an image in the making that is changed by one verb at a time.
//!
//! ```text
//! containers/<id>/
//!   working.json   what it is called, what it was made from, the config and history so far
//!   upper/ work/   what was written on top of the image's layers; made when first needed
//!   copy/ before   instead, where no overlay can be mounted: a copy of all files, and how it was
//!   merged/        where `mount` shows the files
//!   shown          says that `mount` was asked for the copy, which is its own place
//!   running        locked by the verb that is at work; the next one waits
//! ```
//!
//! `run`, `copy` and `add` are the instructions RUN, COPY and ADD: evaluated by `eval`, carried out
//! by `steps`, with the container's files in the place of a stage's (`desk`). What they write goes
//! to `upper` or `copy` (`files`), and `commit` makes one layer of that. A verb that is killed
//! leaves what it had written; a config is replaced as a whole.

mod commit;
mod config;
mod container;
mod copy;
mod desk;
mod files;
mod habits;
mod mount;
mod run;
mod streams;

pub use commit::{Commit, Fields, commit};
pub use config::{Change, Health};
pub use container::{Config, Container, New, create, find, list};
pub use copy::{Copy, copy};
pub use desk::reconfigured;
pub use habits::Habits;
pub use run::{Run, run};
pub use streams::Streams;
