//! One connection of a monitor: what it asked for, and what is still to be sent to it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::super::health::nonblocking;
use super::super::wire::{self, Answer, Packet};

/// Bytes that may wait for a client before the container's output is left where it is.
const ENOUGH: usize = 256 << 10;

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// It has asked for nothing, or all it asked for is answered.
    Idle,
    /// To hear that the program runs.
    Start,
    /// The program's output, until it ends.
    Attached { input: bool },
    /// The end of this run.
    End,
    /// The end of a program that it started by `exec`.
    Exec,
    /// Nothing: it keeps the program from being started again.
    Hold,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Client {
    /// Its number, never used again.
    pub(super) number: u64,
    pub(super) part: Part,
    socket: OwnedFd,
    queue: VecDeque<Vec<u8>>,
    queued: usize,
    /// Whether it is dropped once everything is sent.
    closing: bool,
    gone: bool,
    /// Whether it has not heard yet that the program runs.
    awaits_start: bool,
}

impl Client {
    pub(super) fn new(number: u64, socket: OwnedFd) -> io::Result<Self> {
        nonblocking(&socket)?;
        Ok(Self {
            number,
            part: Part::Idle,
            socket,
            queue: VecDeque::new(),
            queued: 0,
            closing: false,
            gone: false,
            awaits_start: false,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether something waits to be sent.
    pub(super) fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether so much waits that no more should be made.
    pub(super) fn is_full(&self) -> bool {
        self.queued > ENOUGH
    }

    /// Whether it can be forgotten.
    pub(super) fn is_over(&self) -> bool {
        self.gone || (self.closing && self.queue.is_empty())
    }

    /// The next packet, if there is one; `None` as well when the other side has gone.
    pub(super) fn receive(&mut self) -> Option<(Packet, Vec<OwnedFd>)> {
        match wire::receive(&self.socket) {
            Ok(Some(packet)) => Some(packet),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Ok(None) | Err(_) => {
                self.gone = true;
                None
            }
        }
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        self.send(&Packet::Answer(answer));
    }

    /// Answers with a descriptor. The queue is empty then, for the client waits for the answer.
    pub(super) fn answer_with(&mut self, fd: BorrowedFd<'_>) {
        let packet = Packet::Answer(Answer::Done);
        if wire::send(&self.socket, &packet, &[fd]).is_err() {
            self.gone = true;
        }
    }

    pub(super) fn send(&mut self, packet: &Packet) {
        let bytes = packet.encode();
        self.queued += bytes.len();
        self.queue.push_back(bytes);
        self.flush();
    }

    /// Leaves its request open until the program runs.
    pub(super) fn await_start(&mut self) {
        self.awaits_start = true;
    }

    /// Whether it is to be told now that the program runs; asks once.
    pub(super) fn awaits_start(&mut self) -> bool {
        std::mem::take(&mut self.awaits_start)
    }

    /// Says that nothing more will come.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) {
        while let Some(bytes) = self.queue.front() {
            match wire::send_bytes(&self.socket, bytes, &[]) {
                Ok(()) => {
                    self.queued -= bytes.len();
                    self.queue.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Full of other sockets' packets; poll says when to try again.
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => return,
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }
}
