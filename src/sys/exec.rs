//! execve with exactly the given environment.

use std::ffi::{CStr, CString};
use std::io;

/// Replaces this process by `program` (execve(2)); returns only to say why it couldn't.
///
/// `std::process::Command` would sort the environment and touch signals; this does neither.
pub fn execve(program: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end in a null pointer, and they and the strings they point to live
    // until the call returns, which it does only on failure.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}
