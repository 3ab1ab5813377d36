//! What a container writes, as entries of systemd's journal (`--log-driver=journald`).
//!
//! An entry is a datagram in the journal's own protocol, one for each line, with docker's field
//! names, so that `journalctl CONTAINER_NAME=web` finds it. The container's own log is kept
//! besides: `cask logs` needs no journal. A journal that takes nothing for a second has a gap until
//! it takes entries again, for a program must not hang on it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use crate::event::Stream;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// A longer line becomes several entries, all but the last marked as partial.
const LONGEST: usize = 16 << 10;

/// How long the journal may take for one.
const PATIENCE: Duration = Duration::from_millis(990);

/// What every entry of a container says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::runner) struct Fields {
    /// The container's id.
    pub(in crate::runner) id: String,
    /// Its name.
    pub(in crate::runner) name: String,
    /// Its image's name.
    pub(in crate::runner) image: String,
}

/// Writes a container's lines into the journal.
#[derive(Debug)]
pub(in crate::runner) struct Journal {
    /// Connected, so that it can be waited for.
    socket: OwnedFd,
    head: Vec<u8>,
    /// Whether the last entry was not taken in time.
    stuck: bool,
    /// Lines without an end so far, of standard output and of standard error.
    parts: [Vec<u8>; 2],
}

/// Says whether there is a journal to write to.
pub(in crate::runner) fn probe() -> io::Result<()> {
    connect().map(drop)
}

fn connect() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(SOCKET)?)?;
    Ok(socket)
}

impl Journal {
    /// Opens the way to the journal.
    pub(in crate::runner) fn open(fields: &Fields) -> io::Result<Self> {
        let socket = connect()?;
        let short = fields.id.get(..12).unwrap_or(&fields.id);
        let mut head = Vec::new();
        for (name, value) in [
            ("CONTAINER_ID", short),
            ("CONTAINER_ID_FULL", &fields.id),
            ("CONTAINER_NAME", &fields.name),
            ("CONTAINER_TAG", short),
            ("IMAGE_NAME", &fields.image),
            ("SYSLOG_IDENTIFIER", short),
        ] {
            field(&mut head, name, value.as_bytes());
        }
        Ok(Self {
            socket,
            head,
            stuck: false,
            parts: [Vec::new(), Vec::new()],
        })
    }

    /// Takes what `stream` gave; lines that are whole are sent.
    pub(in crate::runner) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let at = usize::from(stream == Stream::Stderr);
        let mut part = std::mem::take(&mut self.parts[at]);
        part.extend_from_slice(bytes);
        let mut rest = &part[..];
        loop {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (line, behind, partial) = match end {
                Some(end) if end <= LONGEST => (&rest[..end], end + 1, false),
                _ if rest.len() > LONGEST => (&rest[..LONGEST], LONGEST, true),
                _ => break,
            };
            self.send(stream, line, partial);
            rest = &rest[behind..];
        }
        self.parts[at] = rest.to_vec();
    }

    /// Sends the lines that have no end: there is no more to come.
    pub(in crate::runner) fn finish(&mut self) {
        for (at, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            let part = std::mem::take(&mut self.parts[at]);
            if !part.is_empty() {
                self.send(stream, &part, false);
            }
        }
    }

    fn send(&mut self, stream: Stream, line: &[u8], partial: bool) {
        let entry = entry(&self.head, stream, line, partial);
        let until = Instant::now() + PATIENCE;
        loop {
            match rustix::net::send(&self.socket, &entry, SendFlags::NOSIGNAL) {
                Ok(_) => self.stuck = false,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) if !self.stuck && self.wait(until) => continue,
                Err(Errno::AGAIN) => self.stuck = true,
                // It has been started again; if not, there is a gap.
                Err(Errno::CONNREFUSED | Errno::CONNRESET | Errno::NOTCONN) => match connect() {
                    Ok(socket) if Instant::now() < until => {
                        self.socket = socket;
                        continue;
                    }
                    _ => {}
                },
                // As documented.
                Err(_) => {}
            }
            return;
        }
    }

    /// Waits for room; `false` when time is up.
    fn wait(&self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
        matches!(poll(&mut fds, Some(&left)), Ok(1..) | Err(Errno::INTR)) && Instant::now() < until
    }
}

fn entry(head: &[u8], stream: Stream, line: &[u8], partial: bool) -> Vec<u8> {
    let mut entry = head.to_vec();
    let priority = match stream {
        Stream::Stdout => "6",
        Stream::Stderr => "3",
    };
    field(&mut entry, "PRIORITY", priority.as_bytes());
    if partial {
        field(&mut entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
    }
    field(&mut entry, "MESSAGE", line);
    entry
}

/// A field: `NAME=value`, or for a value with a line end the name, its length and the value.
fn field(entry: &mut Vec<u8>, name: &str, value: &[u8]) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_in_the_journals_protocol() {
        let made = entry(b"A=1\n", Stream::Stderr, b"hello", false);
        assert_eq!(made, b"A=1\nPRIORITY=3\nMESSAGE=hello\n");
        let made = entry(b"", Stream::Stdout, b"hello", true);
        assert_eq!(
            made,
            b"PRIORITY=6\nCONTAINER_PARTIAL_MESSAGE=true\nMESSAGE=hello\n"
        );
        let mut made = Vec::new();
        field(&mut made, "NAME", b"a\nb");
        assert_eq!(made, b"NAME\n\x03\0\0\0\0\0\0\0a\nb\n");
    }
}
