//! The caller's own terminal while a container has it: raw mode, window size, and passing on
//! what is typed and shown.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, Winsize};

use super::plan::WindowSize;

/// A terminal in raw mode; dropping it brings the old mode back.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Makes `terminal` pass every byte on as it is typed (termios(3), cfmakeraw). ENOTTY if
    /// it is none.
    pub fn enter(terminal: impl AsFd) -> io::Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let before = rustix::termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Drain, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone by now, and then there is nothing to bring back.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// The size of `terminal`; ENOTTY if it is none.
pub fn window_size(terminal: impl AsFd) -> io::Result<WindowSize> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok(WindowSize {
        rows: size.ws_row,
        cols: size.ws_col,
    })
}

/// Gives `terminal` a size; programs on it get SIGWINCH if it differs.
pub fn set_window_size(terminal: impl AsFd, size: WindowSize) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size)?;
    Ok(())
}

/// What a terminal takes for the end of what is typed.
const END: u8 = 4;

/// Joins a program's terminal to the caller's streams until the program has closed it. If `stdin`
/// is a terminal it is raw meanwhile, and its size is the program's.
pub fn relay(pty: &OwnedFd, stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>) -> io::Result<()> {
    // Where the caller has no terminal there is nothing to make raw.
    let _raw = RawMode::enter(stdin).ok();
    let typed = File::from(stdin.try_clone_to_owned()?);
    let to_program = File::from(pty.try_clone()?);
    // It waits for somebody to type, and ends with the process.
    std::thread::spawn(move || type_in(typed, to_program));
    let mut shown = File::from(stdout.try_clone_to_owned()?);
    let mut from_program = File::from(pty.try_clone()?);
    let mut size = window_size(stdin).ok();
    let mut buffer = [0; 16 << 10];
    // How soon a new size is noticed.
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: 200_000_000,
    };
    loop {
        match poll(&mut [PollFd::new(pty, PollFlags::IN)], Some(&pause)) {
            Ok(0) => {
                let now = window_size(stdin).ok();
                if let Some(changed) = now.filter(|_| now != size) {
                    set_window_size(pty, changed)?;
                    size = now;
                }
                continue;
            }
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        match from_program.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => shown.write_all(&buffer[..n])?,
            // The last process that had it open is gone.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Passes on what is typed. A program that does not take it ends the passing, not the caller.
fn type_in(mut from: File, mut to: File) {
    if io::copy(&mut from, &mut to).is_ok() {
        let _ = to.write_all(&[END]);
    }
}
