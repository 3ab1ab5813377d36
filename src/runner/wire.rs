//! What a container's monitor and its clients say to each other.
//!
//! The socket keeps packets apart (SOCK_SEQPACKET), so a packet is a letter and what follows:
//! bytes of a stream as they are, all else as JSON. A client's first packet is a [`Request`];
//! the monitor answers it with an [`Answer`], and what then follows depends on the request.
//! Both sides are the same program, seldom of different versions: what a side does not
//! understand is an error and ends the connection.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::event::Stream;
use crate::sandbox::{Remedy, WindowSize};

use super::exec::ExecRequest;
use super::networks::Plug;

/// Most bytes of a stream in one packet.
pub(super) const CHUNK: usize = 32 << 10;
/// Most bytes of a packet: an environment can be large.
const LIMIT: usize = 192 << 10;

/// What a client asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Request {
    /// To hear whether the program starts, and no more.
    Started,
    /// The program's streams, until it ends: answered by output and [`Packet::Ended`].
    Attach {
        /// Whether the client sends input.
        input: bool,
        /// The size of the client's terminal.
        window: Option<WindowSize>,
    },
    /// A signal for the program. `stopping` says that it is not to be started again. With `of`,
    /// the process that is meant: if another runs by now, nothing is sent.
    Signal {
        number: i32,
        stopping: bool,
        of: Option<i32>,
    },
    /// That all processes of the container halt.
    Pause,
    /// That they go on.
    Unpause,
    /// The end of this run: [`Packet::Ended`].
    Wait,
    /// That the program is started again as soon as it ends, whatever the policy says.
    Restart,
    /// That the program, which has ended, is not started again as long as the client is there.
    Hold,
    /// To look at `config.json` again.
    Reload,
    /// A program more. The three standard streams come along, unless it is detached or has a
    /// terminal; the terminal's other end comes with the answer.
    Exec(Box<ExecRequest>),
    /// To be on a network more.
    Connect(Box<Plug>),
    /// To leave the network of this name.
    Disconnect(String),
    /// The monitor of another container that is to use the network: its job, first client and
    /// lock come along. With `joins` it is to be among the processes as well.
    Launch { joins: bool },
    /// The root directory, as a descriptor that comes with the answer.
    Root,
}

/// What a request came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It is done, or begun.
    Done,
    /// It could not be done.
    Refused(Refusal),
}

/// Why a request was not done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Refusal {
    /// The program has ended.
    NotRunning,
    /// The container is paused.
    Paused,
    /// The container is not paused.
    NotPaused,
    /// A program did not start.
    NotStarted {
        /// What was in the way, outermost first.
        chain: Vec<String>,
        /// docker's exit code for it.
        code: u8,
        /// What to do about a limit that can't be kept.
        remedy: Option<Remedy>,
    },
    /// The kernel refused.
    Os {
        /// Its answer.
        errno: i32,
    },
}

/// One packet.
#[derive(Debug, Clone)]
pub(super) enum Packet {
    Request(Request),
    Input(Vec<u8>),
    InputEnds,
    Window(WindowSize),
    Signal(i32),
    Answer(Answer),
    Output(Stream, Vec<u8>),
    /// The exit code. It is told as soon as it is known: what is due then is done, the container
    /// removed for one, when the connection ends.
    Ended(i32),
}

impl Packet {
    /// Returns the packet as bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let with = |letter: u8, rest: &[u8]| [&[letter], rest].concat();
        let json = |letter, value: serde_json::Result<Vec<u8>>| {
            with(letter, &value.expect("packets hold nothing JSON cannot"))
        };
        match self {
            Self::Request(request) => json(b'r', serde_json::to_vec(request)),
            Self::Input(bytes) => with(b'i', bytes),
            Self::InputEnds => vec![b'c'],
            Self::Window(size) => json(b'w', serde_json::to_vec(size)),
            Self::Signal(number) => with(b'k', &number.to_ne_bytes()),
            Self::Answer(answer) => json(b'a', serde_json::to_vec(answer)),
            Self::Output(Stream::Stdout, bytes) => with(b'o', bytes),
            Self::Output(Stream::Stderr, bytes) => with(b'e', bytes),
            Self::Ended(code) => with(b'x', &code.to_ne_bytes()),
        }
    }

    fn decode(bytes: &[u8]) -> io::Result<Self> {
        let strange = || io::Error::from(io::ErrorKind::InvalidData);
        let (letter, rest) = bytes.split_first().ok_or_else(strange)?;
        let number = || {
            rest.try_into()
                .map(i32::from_ne_bytes)
                .map_err(|_| strange())
        };
        Ok(match letter {
            b'r' => Self::Request(serde_json::from_slice(rest)?),
            b'i' => Self::Input(rest.to_vec()),
            b'c' => Self::InputEnds,
            b'w' => Self::Window(serde_json::from_slice(rest)?),
            b'k' => Self::Signal(number()?),
            b'a' => Self::Answer(serde_json::from_slice(rest)?),
            b'o' => Self::Output(Stream::Stdout, rest.to_vec()),
            b'e' => Self::Output(Stream::Stderr, rest.to_vec()),
            b'x' => Self::Ended(number()?),
            _ => return Err(strange()),
        })
    }
}

/// Sends `packet` and `fds`, at most three, with it.
pub(super) fn send(to: impl AsFd, packet: &Packet, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_bytes(to, &packet.encode(), fds)
}

/// Sends an encoded packet.
pub(super) fn send_bytes(to: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::io::retry_on_intr(|| {
        sendmsg(
            &to,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    Ok(())
}

/// The next packet and the descriptors that came with it; `None` when the other side is gone.
pub(super) fn receive(from: impl AsFd) -> io::Result<Option<(Packet, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LIMIT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let mut buffer = [IoSliceMut::new(&mut bytes)];
        match recvmsg(&from, &mut buffer, &mut control, RecvFlags::CMSG_CLOEXEC) {
            // The other side went without having read all of ours, which the kernel says once,
            // and before it hands out what came from there.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            got => break got?,
        }
    };
    if got.bytes == 0 {
        return Ok(None);
    }
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = part {
            fds.extend(some);
        }
    }
    Packet::decode(&bytes[..got.bytes]).map(|packet| Some((packet, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_packet_of_one_who_did_not_read_ours_arrives() {
        let (kind, flags) = (
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
        );
        let family = rustix::net::AddressFamily::UNIX;
        let (ours, theirs) = rustix::net::socketpair(family, kind, flags, None).unwrap();
        send(theirs.as_fd(), &Packet::Ended(5), &[]).unwrap();
        send(ours.as_fd(), &Packet::InputEnds, &[]).unwrap();
        drop(theirs);
        let (packet, _) = receive(&ours).unwrap().unwrap();
        assert!(matches!(packet, Packet::Ended(5)), "{packet:?}");
        assert!(receive(&ours).unwrap().is_none());
    }

    #[test]
    fn packets_survive_the_way() {
        for packet in [
            Packet::Request(Request::Signal {
                number: 15,
                stopping: true,
                of: Some(7),
            }),
            Packet::Input(b"\0\xff".to_vec()),
            Packet::InputEnds,
            Packet::Window(WindowSize { rows: 3, cols: 4 }),
            Packet::Signal(10),
            Packet::Answer(Answer::Refused(Refusal::Os { errno: 5 })),
            Packet::Output(Stream::Stdout, vec![1]),
            Packet::Output(Stream::Stderr, Vec::new()),
            Packet::Ended(-1),
        ] {
            let back = Packet::decode(&packet.encode()).unwrap();
            assert_eq!(format!("{packet:?}"), format!("{back:?}"));
        }
        for strange in [&b""[..], b"?", b"k1", b"r{}"] {
            assert!(Packet::decode(strange).is_err());
        }
    }
}
