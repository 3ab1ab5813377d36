//! The life of a container: made from an image, run, listed, removed.
//!
//! ```text
//! containers/<id>/
//!   config.json   what was asked for and what the image adds; written once
//!   state.json    created | running | exited, with times and exit code; replaced as a whole
//!   running       locked (flock) by whoever waits for the program
//!   upper/ work/  the writable layer
//! ```
//!
//! `spec` decides everything as data, `attached` runs it in the foreground. Whether a container runs
//! is what the lock says, not what a file says: a caller that was killed took its container with it,
//! and the next command sees that. Detached containers will be waited for by a monitor process
//! that holds the same lock; nothing else changes for the readers.

mod attached;
mod container;
mod error;
mod name;
mod spec;

pub use attached::{Terminal, run};
pub use container::{Container, State, Status, create, find, list, remove};
pub use error::Error;
pub use spec::{Bind, Network, Request};
