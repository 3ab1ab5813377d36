//! The agent's socket inside a step: one of our own, with the mode and owner that the mount asks
//! for, whose connections are carried to the caller's agent.
//!
//! The caller's socket itself is not mounted: its owner may mean nobody inside, and agents refuse
//! connections from ids they do not know. Nothing is read or kept on the way.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};

use crate::store::{Scratch, Store};

use super::super::error::StepError;
use super::super::mount::Owned;

const NAME: &str = "agent";

/// A socket that is served until this is dropped.
#[derive(Debug)]
pub(super) struct Agent {
    /// Closed to say that it is over.
    stop: Option<UnixStream>,
    thread: Option<std::thread::JoinHandle<()>>,
    _scratch: Scratch,
}

impl Agent {
    /// Begins to carry connections to the socket `to`; returns the descriptor to mount.
    pub(super) fn serve(
        store: &Store,
        to: &Path,
        owned: Owned,
    ) -> Result<(Self, OwnedFd), StepError> {
        let scratch = store.scratch()?;
        let dir = scratch.dir("ssh")?;
        let failed = |source: io::Error| StepError::Scratch {
            doing: "offer the ssh agent to the step",
            source,
        };
        // A socket's path has room for 107 bytes only; a descriptor's is short.
        let path = format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd());
        let listener = UnixListener::bind(path).map_err(failed)?;
        let give = || -> rustix::io::Result<OwnedFd> {
            let (uid, gid) = (Uid::from_raw(owned.uid), Gid::from_raw(owned.gid));
            let mode = Mode::from_raw_mode(owned.mode);
            rustix::fs::chownat(&dir, NAME, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            rustix::fs::chmodat(&dir, NAME, mode, AtFlags::empty())?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&dir, NAME, flags, Mode::empty())
        };
        let socket = give().map_err(|errno| failed(errno.into()))?;
        let (stop, stopped) = UnixStream::pair().map_err(failed)?;
        let to = to.to_owned();
        let thread = std::thread::Builder::new()
            .name("ssh agent".to_owned())
            .spawn(move || accept(&listener, &stopped, &to))
            .map_err(failed)?;
        let agent = Self {
            stop: Some(stop),
            thread: Some(thread),
            _scratch: scratch,
        };
        Ok((agent, socket))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// Takes connections until `stopped` ends. One that fails is the client's loss alone.
fn accept(listener: &UnixListener, stopped: &UnixStream, to: &PathBuf) {
    let mut ends = Vec::new();
    loop {
        let mut wait = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
        ];
        match poll(&mut wait, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
        if !wait[1].revents().is_empty() {
            break;
        }
        if wait[0].revents().is_empty() {
            continue;
        }
        let Ok((client, _)) = listener.accept() else {
            continue;
        };
        // A client of an agent that is gone sees its connection end.
        if let Ok(agent) = UnixStream::connect(to) {
            ends.extend(
                [client.try_clone(), agent.try_clone()]
                    .into_iter()
                    .flatten(),
            );
            carry(client, agent);
        }
    }
    for end in ends {
        // Ended already, or ends now.
        let _ = end.shutdown(Shutdown::Both);
    }
}

/// Carries bytes both ways, each on a thread, until both sides have ended.
fn carry(client: UnixStream, agent: UnixStream) {
    let pairs = [
        (client.try_clone(), agent.try_clone()),
        (Ok(agent), Ok(client)),
    ];
    for (from, to) in pairs {
        let (Ok(mut from), Ok(mut to)) = (from, to) else {
            return;
        };
        std::thread::spawn(move || {
            // Whatever ended it, the other side is to know that no more comes.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::store::Options;

    /// Answers every byte with the next one.
    fn upstream(listener: UnixListener) {
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut byte = [0];
                while client.read_exact(&mut byte).is_ok() {
                    client.write_all(&[byte[0] + 1]).unwrap();
                }
            }
        });
    }

    #[test]
    fn connections_are_carried_until_the_step_is_over() {
        let name = format!("cooper-agent-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        let user_xattr = !rustix::process::geteuid().is_root();
        let options = Options {
            user_xattr,
            ..Options::default()
        };
        let store = Store::open(&dir.join("store"), options).unwrap();
        let to = dir.join("upstream");
        upstream(UnixListener::bind(&to).unwrap());
        let me = std::fs::metadata(&dir).unwrap();
        let owned = Owned {
            mode: 0o640,
            uid: me.uid(),
            gid: me.gid(),
        };
        let (agent, socket) = Agent::serve(&store, &to, owned).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", socket.as_raw_fd()));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        // One after the other, since the upstream of this test serves one.
        for byte in [7, 41] {
            let mut client = UnixStream::connect(&path).unwrap();
            client.write_all(&[byte]).unwrap();
            let mut answer = [0];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [byte + 1]);
        }
        let mut open = UnixStream::connect(&path).unwrap();
        open.write_all(&[1]).unwrap();
        open.read_exact(&mut [0]).unwrap();
        drop(agent);
        assert_eq!(open.read(&mut [0]).unwrap(), 0);
        assert!(UnixStream::connect(&path).is_err());
        drop(store);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
