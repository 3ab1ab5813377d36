//! The sandbox against the real kernel, as root.
//!
//! Needs uid 0 with CAP_SYS_ADMIN and `/bin/busybox` (Debian: busybox-static); without them the
//! tests fail and say so. The rootless tier is `tests/userns.rs`.

#![allow(clippy::unwrap_used, reason = "a test that can't go on must stop")]

#[path = "root/support.rs"]
mod support;

#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "support/canary.rs"]
mod canary;

#[path = "root/calls.rs"]
mod calls;
#[path = "root/joining.rs"]
mod joining;
#[path = "root/sandbox.rs"]
mod sandbox;
#[path = "root/security.rs"]
mod security;
#[path = "root/stubs.rs"]
mod stubs;
