//! What a child tells its parent, and the plan's way to the child.
//!
//! Two sockets join them. Over `report` (SOCK_SEQPACKET, close-on-exec on both sides) come
//! [`Message`]s; its end of file means that the program has been executed. Over `lifeline` the
//! init sends the program's wait status as its last act, and learns of the caller's death when
//! the other end closes.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::Failure;
use super::plan::Plan;
use super::seccomp::{Filter, Socketcall};
use super::stubs::Stubs;

/// Something a caller should know about a sandbox that did start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Note {
    /// The kernel refused a fresh `/proc` (we are nested and the outer one is masked), so the
    /// caller's is bound instead: processes outside are visible by number.
    OuterProc,
    /// The kernel refused a fresh `/sys`; the caller's is bound read-only instead.
    OuterSys,
    /// The limits that were asked for can't be kept here.
    Unlimited,
    /// Without namespaces the program can signal whom its user can, also outside.
    OpenSignals,
    /// The kernel refused a new session keyring, so the caller's stays reachable.
    CallersKeyring,
}

/// What stands in the memfd.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope {
    pub(super) plan: Plan,
    /// For each mount of the plan the child's descriptor it comes from, if it comes from one.
    pub(super) mount_fds: Vec<Option<i32>>,
    /// The child's descriptor of the network namespace to join, if there is one.
    pub(super) network_fd: Option<i32>,
    /// The child's descriptors of the pid and IPC namespaces to join, if there are such.
    pub(super) process_fds: Option<[i32; 2]>,
    /// The child's descriptor of the user namespace that its program is to live in, if that is
    /// there already.
    pub(super) ids_fd: Option<i32>,
    /// Filters for the program's system calls, to install in this order.
    pub(super) filters: Vec<Filter>,
    /// What the last of them does about sockets of 32-bit programs.
    pub(super) socketcall: Socketcall,
    /// The descriptors that let the child enter its control group, in each hierarchy.
    pub(super) group_fds: Vec<i32>,
}

/// One packet on the report socket.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// Everything is set up and the program is about to be executed. A terminal's other end
    /// comes with it, if the plan asks for one.
    Ready { notes: Vec<Note>, stubs: Stubs },
    /// The init makes sockets that are asked for over the descriptor that comes with it.
    Maker,
    /// The program's calls for sockets arrive on the descriptor that comes with it.
    Sockets,
    /// The program lives in the user namespace that comes with it.
    Ids,
    /// The program's calls about owners and ids arrive on the descriptor that comes with it.
    Owners,
    /// This was in the way; the child ends. `stubs` is empty if they were told before.
    Failed { failure: Failure, stubs: Stubs },
}

/// Bytes that one message may have: more than thousands of mount points take.
const LIMIT: usize = 128 << 10;

/// Sends `message`, and `fd` with it.
pub(super) fn send<M: Serialize>(
    to: impl AsFd,
    message: &M,
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.as_slice();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(
        to,
        &[IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// The next message and the descriptor that came with it; `None` at the end.
pub(super) fn receive<M: DeserializeOwned>(
    from: impl AsFd,
) -> io::Result<Option<(M, Option<OwnedFd>)>> {
    let mut bytes = vec![0; LIMIT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::io::retry_on_intr(|| {
        let mut buffer = [IoSliceMut::new(&mut bytes)];
        recvmsg(&from, &mut buffer, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    if got.bytes == 0 {
        return Ok(None);
    }
    let fd = control.drain().find_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(Some((serde_json::from_slice(&bytes[..got.bytes])?, fd)))
}
