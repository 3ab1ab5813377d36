//! The agent's socket inside a step: one of our own, with the mode and owner that the mount asks
//! for.
//!
//! The caller's socket itself is not mounted: its owner may mean nobody inside, agents refuse
//! connections from ids they do not know, and it takes more than a step may say
//! ([`ssh`](super::super::ssh)).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};

use crate::store::{Scratch, Store};

use super::super::error::StepError;
use super::super::mount::Owned;
use super::super::ssh::{self, SshSource};

const NAME: &str = "agent";

/// A socket that is served until this is dropped.
#[derive(Debug)]
pub(super) struct Agent {
    _served: ssh::Agent,
    _scratch: Scratch,
}

impl Agent {
    /// Begins to answer for `source`; returns the descriptor to mount.
    pub(super) fn serve(
        store: &Store,
        source: &SshSource,
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
        let agent = Self {
            _served: ssh::Agent::serve(listener, source.clone()).map_err(failed)?,
            _scratch: scratch,
        };
        Ok((agent, socket))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::store::Options;

    #[test]
    fn the_socket_has_the_mode_that_was_asked_for() {
        let name = format!("cooper-agent-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        let user_xattr = !rustix::process::geteuid().is_root();
        let options = Options {
            user_xattr,
            ..Options::default()
        };
        let store = Store::open(&dir.join("store"), options).unwrap();
        let me = std::fs::metadata(&dir).unwrap();
        let owned = Owned {
            mode: 0o640,
            uid: me.uid(),
            gid: me.gid(),
        };
        let keys = SshSource::Keys([].into());
        let (agent, socket) = Agent::serve(&store, &keys, owned).unwrap();
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        drop(agent);
        drop(store);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
