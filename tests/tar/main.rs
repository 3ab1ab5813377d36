//! Layers as tars against a real file system: what unpacking must never do, what it must do as
//! others do it, and which bytes are written.
//!
//! The `t_tar_*` and `t_dos_*` tests are the cases of the security list by those names. Making
//! devices and changing owners needs root, here or in a user namespace; a test that needs it fails
//! without and says so.

#![allow(clippy::unwrap_used, reason = "a test that can't go on must stop")]

mod bytes;
#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "../support/canary.rs"]
mod canary;
mod escape;
mod resources;
mod semantics;
mod strict;
mod support;
