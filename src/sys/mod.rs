//! The only room with `unsafe`: one safe function for each system call that rustix lacks.
//!
//! Every function names its manual page, turns `-1` into [`std::io::Error`] and decides
//! nothing. Whoever can use rustix uses rustix; nothing here wraps what it has. Linux only,
//! any architecture.

#![allow(unsafe_code)]

pub mod exec;
pub mod fd;
pub mod keyring;
pub mod landlock;
pub mod memory;
pub mod mount;
pub mod net;
pub mod notify;
pub mod process;
pub mod seccomp;
pub mod signal;

use std::io;

/// The result of a call that answers -1 and sets errno.
fn check(rc: i64) -> io::Result<i64> {
    if rc == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(rc)
    }
}
