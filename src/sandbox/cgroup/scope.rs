//! A control group for an ordinary user, from the service manager of the user's session.
//!
//! systemd owns the hierarchy there, so it is asked for a transient scope that holds this process
//! and may be divided further (`Delegate=yes`), as `systemd-run --user --scope` would. The scope
//! goes away with its last process.
//!
//! That is one method call over D-Bus, written out here: a bus library would bring an event loop
//! and tens of crates, and those of Rust name their own uid when they log in, which is another
//! one inside a user namespace. We let the kernel say who we are (`AUTH EXTERNAL` without a name).
//!
//! Limits: only buses behind a unix socket; answers of up to 64 KiB; the manager must see this
//! process by the same number as we do.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the manager may take for everything.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest message that is read.
const LONGEST: usize = 1 << 16;

const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// Why the manager gave no group.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeError {
    /// It can't be spoken to.
    #[error("cannot speak to the bus at {}", bus.display())]
    Io {
        /// The bus.
        bus: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// What it says is no D-Bus.
    #[error("what listens at {} is no bus", .0.display())]
    NoBus(PathBuf),
    /// It said no.
    #[error("the service manager says `{0}`")]
    Refused(String),
    /// It said yes, and then nothing happened.
    #[error("the service manager moved nothing within {} seconds", PATIENCE.as_secs())]
    Nothing,
}

/// Has this process moved into a scope of its own, of which `own` tells the group it is in.
pub(super) fn enter(bus: &Path, own: impl Fn() -> PathBuf) -> Result<PathBuf, ScopeError> {
    let name = format!("cooper-{}.scope", std::process::id());
    let asked = || -> io::Result<Answer> {
        let mut stream = log_in(bus)?;
        stream.write_all(&hello())?;
        answer(&mut stream, HELLO)?;
        stream.write_all(&start_scope(&name, std::process::id()))?;
        answer(&mut stream, START)
    };
    match asked() {
        Ok(Answer::Done) => {}
        Ok(Answer::Refused(why)) => return Err(ScopeError::Refused(why)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(ScopeError::NoBus(bus.to_owned()));
        }
        Err(source) => {
            let bus = bus.to_owned();
            return Err(ScopeError::Io { bus, source });
        }
    }
    // The answer only says that there is a job.
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let group = own();
        if group.file_name().is_some_and(|last| *last == *name) {
            return Ok(group);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(ScopeError::Nothing)
}

fn no_bus() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// Connects, and proves by the socket itself who we are.
fn log_in(bus: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(bus)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut say = |words: &[u8], want: &str| {
        stream.write_all(words)?;
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") && line.len() < 1024 {
            stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        match line.starts_with(want.as_bytes()) {
            true => Ok(()),
            false => Err(no_bus()),
        }
    };
    say(b"\0AUTH EXTERNAL\r\n", "DATA")?;
    say(b"DATA\r\n", "OK ")?;
    stream.write_all(b"BEGIN\r\n")?;
    Ok(stream)
}

/// Numbers of our two messages.
const HELLO: u32 = 1;
const START: u32 = 2;

/// The call by which a bus gets to know its clients.
fn hello() -> Vec<u8> {
    let bus = "org.freedesktop.DBus";
    call(HELLO, [bus, "/org/freedesktop/DBus", bus, "Hello"], "", &[])
}

/// The call that makes the scope `name` around the process `pid`.
fn start_scope(name: &str, pid: u32) -> Vec<u8> {
    let mut body = Writer::default();
    body.string(name);
    body.string("fail");
    body.array(8, |body| {
        body.property("Description", "s", |v| v.string("limits of cooper"));
        body.property("PIDs", "au", |v| v.array(4, |v| v.number(pid)));
        body.property("Delegate", "b", |v| v.number(1));
        body.property("CollectMode", "s", |v| v.string("inactive-or-failed"));
    });
    // Further units: none.
    body.array(8, |_| {});
    let to = [
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "StartTransientUnit",
    ];
    call(START, to, "ssa(sv)a(sa(sv))", &body.0)
}

/// A method call: to whom, of what, and its arguments in the bus's own form.
fn call(serial: u32, to: [&str; 4], signature: &str, body: &[u8]) -> Vec<u8> {
    let [destination, path, interface, member] = to;
    let mut message = Writer(vec![b'l', 1, 0, 1]);
    message.number(body.len() as u32);
    message.number(serial);
    message.array(8, |fields| {
        fields.field(1, "o", |v| v.string(path));
        fields.field(2, "s", |v| v.string(interface));
        fields.field(3, "s", |v| v.string(member));
        fields.field(6, "s", |v| v.string(destination));
        if !signature.is_empty() {
            fields.field(8, "g", |v| v.signature(signature));
        }
    });
    message.pad(8);
    message.0.extend(body);
    message.0
}

/// A message being written: little-endian, every value at a multiple of its size.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn pad(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: u32) {
        self.pad(4);
        self.0.extend(number.to_le_bytes());
    }

    fn string(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// An array, whose elements begin at multiples of `align`.
    fn array(&mut self, align: usize, fill: impl FnOnce(&mut Self)) {
        self.number(0);
        let length = self.0.len() - 4;
        self.pad(align);
        let start = self.0.len();
        fill(self);
        let bytes = (self.0.len() - start) as u32;
        self.0[length..length + 4].copy_from_slice(&bytes.to_le_bytes());
    }

    /// One field of a header.
    fn field(&mut self, code: u8, signature: &str, value: impl FnOnce(&mut Self)) {
        self.pad(8);
        self.0.push(code);
        self.signature(signature);
        value(self);
    }

    /// One property of a unit.
    fn property(&mut self, name: &str, signature: &str, value: impl FnOnce(&mut Self)) {
        self.pad(8);
        self.string(name);
        self.signature(signature);
        value(self);
    }
}

/// How a call went.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Done,
    Refused(String),
}

/// Waits for the answer to the call `serial`; what else arrives is passed over.
fn answer(stream: &mut impl Read, serial: u32) -> io::Result<Answer> {
    loop {
        let message = Message::read(stream)?;
        if message.answers()? == Some(serial) {
            match message.kind {
                METHOD_RETURN => return Ok(Answer::Done),
                ERROR => return Ok(Answer::Refused(message.text())),
                _ => {}
            }
        }
    }
}

/// A message that was read.
struct Message {
    kind: u8,
    fields: Vec<u8>,
    body: Vec<u8>,
    /// Whether its numbers are little-endian.
    little: bool,
}

impl Message {
    fn read(stream: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        let little = match head[0] {
            b'l' => true,
            b'B' => false,
            _ => return Err(no_bus()),
        };
        let size = |at: usize| number(&head[at..], little).map_or(LONGEST, |n| n as usize);
        let (body, fields) = (size(4), size(12));
        if body.saturating_add(fields) > LONGEST {
            return Err(no_bus());
        }
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        stream.read_exact(&mut rest)?;
        let body = rest.split_off(fields.next_multiple_of(8));
        rest.truncate(fields);
        Ok(Self {
            kind: head[1],
            fields: rest,
            body,
            little,
        })
    }

    /// The number of the call that this is the answer to.
    fn answers(&self) -> io::Result<Option<u32>> {
        const REPLY_SERIAL: u8 = 5;
        let mut at = 0_usize;
        let get = |from: usize| self.fields.get(from..).filter(|rest| !rest.is_empty());
        while let Some(&[code, length, kind, ..]) = get(at) {
            // Header fields have one of four types, whose signatures are one letter.
            at += 4;
            let value = get(at).ok_or_else(no_bus)?;
            let long = || match number(value, self.little) {
                Some(length) if length as usize <= LONGEST => Ok(length),
                _ => Err(no_bus()),
            };
            at += match (length, kind) {
                (1, b'u') if code == REPLY_SERIAL => return Ok(number(value, self.little)),
                (1, b'u') => 4,
                (1, b's' | b'o') => long()? as usize + 5,
                (1, b'g') => usize::from(value[0]) + 2,
                _ => return Err(no_bus()),
            };
            at = at.next_multiple_of(8);
        }
        Ok(None)
    }

    /// The text that an error begins with.
    fn text(&self) -> String {
        let length = number(&self.body, self.little).unwrap_or(0) as usize;
        let text = self.body.get(4..).and_then(|rest| rest.get(..length));
        let text = text.unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }
}

fn number(bytes: &[u8], little: bool) -> Option<u32> {
    let bytes = *bytes.first_chunk()?;
    Some(match little {
        true => u32::from_le_bytes(bytes),
        false => u32::from_be_bytes(bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a bus would say: an answer of `kind` to `serial`, with a text.
    fn said(kind: u8, serial: u32, text: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.string(text);
        let mut message = Writer(vec![b'l', kind, 1, 1]);
        message.number(body.0.len() as u32);
        message.number(77);
        message.array(8, |fields| {
            fields.field(6, "s", |v| v.string(":1.5"));
            fields.field(8, "g", |v| v.signature("s"));
            fields.field(5, "u", |v| v.number(serial));
        });
        message.pad(8);
        message.0.extend(body.0);
        message.0
    }

    #[test]
    fn a_call_has_the_form_of_the_specification() {
        let bytes = hello();
        // Little-endian, a call, no flags, version 1; no body, serial 1, 109 bytes of fields.
        let head = [b'l', 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 109, 0, 0, 0];
        assert_eq!(bytes[..16], head);
        assert_eq!(bytes[16..24], [1, 1, b'o', 0, 21, 0, 0, 0]);
        assert_eq!(bytes.len(), 16 + 112);
        let bytes = start_scope("x.scope", 0x0102_0304);
        let pid = [4, 0, 0, 0, 4, 3, 2, 1];
        assert!(bytes.windows(8).any(|part| part == pid));
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn the_answer_is_found_among_what_else_arrives() {
        let stream = [said(4, 9, "a signal"), said(2, 1, ":1.5"), said(3, 2, "no")].concat();
        let mut stream = stream.as_slice();
        assert_eq!(answer(&mut stream, 1).unwrap(), Answer::Done);
        let refused = Answer::Refused("no".to_owned());
        assert_eq!(answer(&mut stream, 2).unwrap(), refused);
        assert!(answer(&mut stream, 3).is_err());
    }

    #[test]
    fn what_is_no_message_is_an_error_and_no_panic() {
        let whole = said(2, 1, "text");
        for at in 0..whole.len() {
            for value in [0, 1, 7, b'g', 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = answer(&mut bytes.as_slice(), 1);
            }
            assert!(answer(&mut &whole[..at], 1).is_err(), "{at}");
        }
    }

    #[test]
    fn a_bus_that_is_not_there_is_named() {
        let error = enter(Path::new("/nowhere/bus"), PathBuf::new).unwrap_err();
        assert_eq!(error.to_string(), "cannot speak to the bus at /nowhere/bus");
    }
}
