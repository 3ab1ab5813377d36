//! Kernel keyrings.

use std::io;

use super::check;

/// Leaves the session keyring for a new, empty, unnamed one (keyctl(2),
/// KEYCTL_JOIN_SESSION_KEYRING), so that no key of the caller can be reached.
pub fn new_session() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    let name = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring; nothing is read or written.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name) }).map(drop)
}
