//! The answers themselves.

use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::CapabilitySet;

use crate::owners::{Device, NODE, Record};
use crate::sys::notify::{self, Call, Reply};

use super::super::caps::Caps;
use super::super::seccomp::abi::Abi;
use super::super::sockets::Requests;
use super::filter::{Act, Form, Part, Which, calls};
use super::identity::{Identity, Ids};
use super::links::LinkOwners;

/// A limit above this says which identity a process has. As a limit it is 50 days.
const MARK: u64 = 1 << 42;
/// Identities kept; more than any program has use for, and a bound for one that makes them up.
const MOST: usize = 1 << 16;
/// Groups that one process may have, as the kernel's NGROUPS_MAX.
const MOST_GROUPS: usize = 1 << 16;
const PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Answers calls. Its thread has a root directory of its own.
pub(super) struct Server {
    listener: OwnedFd,
    /// `/proc` of this process, whatever the thread's root is.
    proc: OwnedFd,
    /// `/proc/self/fd` of this process.
    own_fds: OwnedFd,
    /// The sandbox's root directory, and the file system that it is.
    root: OwnedFd,
    device: u64,
    links: Arc<LinkOwners>,
    caps: CapabilitySet,
    /// Who answers for programs of the second convention.
    sockets: Option<Requests>,
    acts: HashMap<i32, Act>,
    /// What marks stand for; the first is root.
    identities: Vec<Identity>,
}

/// A path and where it starts, as a call has them.
#[derive(Clone, Copy)]
struct Named {
    dir: i32,
    path: u64,
    follow: bool,
    /// Whether an empty path means the descriptor itself.
    empty: bool,
}

fn id(argument: u64) -> Option<u32> {
    let id = argument as u32;
    (id != u32::MAX).then_some(id)
}

fn os(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

impl Server {
    pub(super) fn new(
        listener: OwnedFd,
        init: Pid,
        links: Arc<LinkOwners>,
        caps: Caps,
        sockets: Option<Requests>,
    ) -> std::io::Result<Self> {
        let proc = rustix::fs::open("/proc", PATH | OFlags::DIRECTORY, Mode::empty())?;
        let own_fds = rustix::fs::open("/proc/self/fd", PATH | OFlags::DIRECTORY, Mode::empty())?;
        let init = format!("{}/root", init.as_raw_nonzero());
        let root = rustix::fs::openat(&proc, init, PATH, Mode::empty())?;
        Ok(Self {
            device: rustix::fs::fstat(&root)?.st_dev,
            listener,
            proc,
            own_fds,
            root,
            links,
            caps: CapabilitySet::from_bits_retain(caps.0),
            sockets,
            acts: calls(),
            identities: vec![Identity::default()],
        })
    }

    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers one call. A caller that died meanwhile needs no answer.
    pub(super) fn serve(&mut self) {
        let Ok(call) = notify::receive(self.listener.as_fd()) else {
            return;
        };
        if Abi::with_socketcall().is_some_and(|abi| abi.audit == call.convention) {
            match &self.sockets {
                Some(sockets) => sockets.answer(self.listener.as_fd(), &call),
                None => self.reply(&call, Reply::Error(libc::ENOSYS)),
            }
            return;
        }
        let reply = match self.answer(&call) {
            Ok(reply) => reply,
            Err(errno) => Reply::Error(errno.raw_os_error()),
        };
        self.reply(&call, reply);
    }

    fn reply(&self, call: &Call, reply: Reply) {
        let _ = notify::reply(self.listener.as_fd(), call.id, reply);
    }

    fn answer(&mut self, call: &Call) -> Result<Reply, Errno> {
        let Some(act) = self.acts.get(&call.number).copied() else {
            return Ok(Reply::Continue);
        };
        let [a, b, c, d, e, _] = call.args;
        let named = |dir, path, follow| Named {
            dir,
            path,
            follow,
            empty: false,
        };
        let here = libc::AT_FDCWD;
        match act {
            Act::Chown => self.chown(call, named(here, a, true), b, c),
            Act::Lchown => self.chown(call, named(here, a, false), b, c),
            Act::Fchownat => {
                let flags = AtFlags::from_bits(e as u32).ok_or(Errno::INVAL)?;
                let mut at = named(a as i32, b, !flags.contains(AtFlags::SYMLINK_NOFOLLOW));
                at.empty = flags.contains(AtFlags::EMPTY_PATH);
                self.chown(call, at, c, d)
            }
            Act::Fchown => {
                let file = self.descriptor(call, a as i32)?;
                self.give_away(call, &file, b, c)
            }
            Act::Mknod => self.mknod(call, named(here, a, false), b, c),
            Act::Mknodat => self.mknod(call, named(a as i32, b, false), c, d),
            act => self.identify(call, act),
        }
    }

    /// Calls about ids. Root's own, which are most, are not looked at twice.
    fn identify(&mut self, call: &Call, act: Act) -> Result<Reply, Errno> {
        let mark = self.mark(call.pid)?;
        let who = &self.identities[mark];
        let ids = |which| match which {
            Which::Users => who.uid,
            Which::Groups => who.gid,
        };
        match act {
            Act::Get(which, part) => Ok(Reply::Value(match part {
                Part::Real => ids(which).real.into(),
                Part::Effective => ids(which).effective.into(),
            })),
            Act::GetThree(which) => {
                let Ids {
                    real,
                    effective,
                    saved,
                    ..
                } = ids(which);
                for (address, id) in call.args.iter().zip([real, effective, saved]) {
                    notify::write_memory(call.pid, *address, &id.to_ne_bytes()).map_err(os)?;
                }
                Ok(Reply::Value(0))
            }
            Act::Getgroups => {
                let room = usize::try_from(call.args[0] as i32).map_err(|_| Errno::INVAL)?;
                if room != 0 && room < who.groups.len() {
                    return Err(Errno::INVAL);
                }
                if room != 0 && !who.groups.is_empty() {
                    let bytes: Vec<u8> = who.groups.iter().flat_map(|g| g.to_ne_bytes()).collect();
                    notify::write_memory(call.pid, call.args[1], &bytes).map_err(os)?;
                }
                Ok(Reply::Value(who.groups.len() as i64))
            }
            Act::Set(which, form) => {
                let mut new = who.clone();
                let value = self.set(&mut new, which, form, call)?;
                self.become_(call, mark, new)?;
                Ok(Reply::Value(value))
            }
            Act::Setgroups => {
                let count = usize::try_from(call.args[0] as i32).map_err(|_| Errno::INVAL)?;
                if !self.is_powerful(who, CapabilitySet::SETGID) {
                    return Err(Errno::PERM);
                }
                if count > MOST_GROUPS {
                    return Err(Errno::INVAL);
                }
                let mut bytes = vec![0; count * 4];
                if count != 0 {
                    let got =
                        notify::read_memory(call.pid, call.args[1], &mut bytes).map_err(os)?;
                    if got < bytes.len() {
                        return Err(Errno::FAULT);
                    }
                }
                let word =
                    |bytes: &[u8]| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                let mut new = who.clone();
                new.groups = bytes.chunks_exact(4).map(word).collect();
                // As the kernel keeps them.
                new.groups.sort_unstable();
                self.become_(call, mark, new)?;
                Ok(Reply::Value(0))
            }
            _ => Ok(Reply::Continue),
        }
    }

    fn set(&self, who: &mut Identity, which: Which, form: Form, call: &Call) -> Result<i64, Errno> {
        let [a, b, c, ..] = call.args;
        let (ids, power) = match which {
            Which::Users => (who.uid, CapabilitySet::SETUID),
            Which::Groups => (who.gid, CapabilitySet::SETGID),
        };
        let powerful = self.is_powerful(who, power);
        let mut new = ids;
        let mut value = 0;
        match form {
            Form::One => new.set(id(a).ok_or(Errno::INVAL)?, powerful)?,
            Form::Two => new.set_two(id(a), id(b), powerful)?,
            Form::Three => new.set_three([id(a), id(b), id(c)], powerful)?,
            // -1 only asks, and every other answer is the id before, too.
            Form::Fs => value = id(a).map_or(ids.fs, |id| new.set_fs(id, powerful)).into(),
        }
        match which {
            Which::Users => who.uid = new,
            Which::Groups => who.gid = new,
        }
        Ok(value)
    }

    fn is_powerful(&self, who: &Identity, power: CapabilitySet) -> bool {
        who.uid.effective == 0 && self.caps.contains(power)
    }

    /// Which identity a process has.
    fn mark(&self, pid: i32) -> Result<usize, Errno> {
        let limit = notify::real_time_limit(pid).map_err(os)?;
        let index = limit
            .checked_sub(MARK)
            .and_then(|at| usize::try_from(at).ok());
        Ok(index
            .filter(|index| *index < self.identities.len())
            .unwrap_or(0))
    }

    /// Gives the calling process an identity.
    fn become_(&mut self, call: &Call, old: usize, new: Identity) -> Result<(), Errno> {
        if self.identities[old] == new {
            return Ok(());
        }
        let known = self.identities.iter().position(|known| *known == new);
        let index = match known {
            Some(index) => index,
            None if self.identities.len() < MOST => {
                self.identities.push(new);
                self.identities.len() - 1
            }
            None => return Err(Errno::AGAIN),
        };
        if !notify::waits(self.listener.as_fd(), call.id) {
            return Err(Errno::SRCH);
        }
        notify::set_real_time_limit(call.pid, MARK + index as u64).map_err(os)
    }

    fn chown(&self, call: &Call, at: Named, uid: u64, gid: u64) -> Result<Reply, Errno> {
        let file = self.resolve(call, at)?;
        self.give_away(call, &file, uid, gid)
    }

    /// Remembers a new owner of an open file.
    fn give_away(&self, call: &Call, file: &OwnedFd, uid: u64, gid: u64) -> Result<Reply, Errno> {
        let (uid, gid) = (id(uid), id(gid));
        let stat = rustix::fs::fstat(file)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let has_record = matches!(kind, FileType::RegularFile | FileType::Directory)
            && stat.st_dev == self.device;
        let mut record = match has_record {
            true => self.record(file)?,
            false => Record::default(),
        };
        self.may_give_away(call, &record, uid, gid)?;
        // What the kernel does at any change of owner, it does now: copy up, take set-uid bits
        // and capabilities away, refuse on a read-only file system.
        let root = (Some(Uid::ROOT), Some(Gid::ROOT));
        match rustix::fs::chownat(file, "", root.0, root.1, AtFlags::EMPTY_PATH) {
            // What belongs to nobody here, such as a terminal of the caller, stays as it is.
            Err(Errno::PERM | Errno::INVAL) if stat.st_dev != self.device => {}
            done => done?,
        }
        if has_record {
            record.uid = uid.unwrap_or(record.uid);
            record.gid = gid.unwrap_or(record.gid);
            self.set_record(file, record)?;
        } else if stat.st_dev == self.device {
            self.links.set(&self.path_of(file)?, (uid, gid))?;
        }
        Ok(Reply::Value(0))
    }

    /// chown(2): root may; others may give a file of theirs to a group of theirs.
    fn may_give_away(
        &self,
        call: &Call,
        now: &Record,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<(), Errno> {
        let who = &self.identities[self.mark(call.pid)?];
        let owns = who.uid.fs == now.uid
            && uid.is_none_or(|uid| uid == now.uid)
            && gid.is_none_or(|gid| who.is_member(gid));
        match owns || self.is_powerful(who, CapabilitySet::CHOWN) {
            true => Ok(()),
            false => Err(Errno::PERM),
        }
    }

    /// A device is an empty file that stands for it; all else is as the kernel makes it.
    fn mknod(&self, call: &Call, at: Named, mode: u64, device: u64) -> Result<Reply, Errno> {
        let kind = FileType::from_raw_mode(mode as u32);
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let block = kind == FileType::BlockDevice;
        if (!block && kind != FileType::CharacterDevice) || (major, minor) == (0, 0) {
            return Ok(Reply::Continue);
        }
        let who = &self.identities[self.mark(call.pid)?];
        if !self.is_powerful(who, CapabilitySet::MKNOD) {
            return Err(Errno::PERM);
        }
        let path = self.path(call.pid, at.path)?.into_bytes();
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..=slash], &path[slash + 1..]),
            None => (&b"."[..], &path[..]),
        };
        if matches!(name, b"" | b"." | b"..") {
            return Err(Errno::EXIST);
        }
        let dir = self.open(call, at.dir, parent, OFlags::DIRECTORY)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        let device = Some(Device {
            block,
            major,
            minor,
        });
        let record = Record {
            device,
            ..Record::default()
        };
        rustix::fs::fsetxattr(&file, NODE, &record.to_bytes(), XattrFlags::empty())?;
        let mode = mode as u32 & 0o7777 & !self.umask(call.pid);
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(Reply::Value(0))
    }

    fn umask(&self, pid: i32) -> u32 {
        let mut text = [0; 256];
        let status = rustix::fs::openat(
            &self.proc,
            format!("{pid}/status"),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let len = status.and_then(|status| rustix::io::read(&status, &mut text));
        let text = String::from_utf8_lossy(&text[..len.unwrap_or(0)]).into_owned();
        let umask = text.lines().find_map(|line| line.strip_prefix("Umask:"));
        umask
            .and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok())
            .unwrap_or(0o022)
    }

    /// Reads a path of the caller's, once.
    fn path(&self, pid: i32, address: u64) -> Result<CString, Errno> {
        let mut bytes = vec![0; libc::PATH_MAX as usize];
        let mut len = 0;
        // A page at a time: the next one may not be there, and need not.
        while len < bytes.len() {
            let at = address.wrapping_add(len as u64);
            let page = 4096 - (at % 4096) as usize;
            let end = bytes.len().min(len + page);
            let got = notify::read_memory(pid, at, &mut bytes[len..end]).map_err(os)?;
            if let Some(nul) = bytes[len..len + got].iter().position(|&byte| byte == 0) {
                bytes.truncate(len + nul);
                return CString::new(bytes).map_err(|_| Errno::INVAL);
            }
            len += got;
            if got == 0 {
                return Err(Errno::FAULT);
            }
        }
        Err(Errno::NAMETOOLONG)
    }

    fn resolve(&self, call: &Call, at: Named) -> Result<OwnedFd, Errno> {
        let path = self.path(call.pid, at.path)?;
        let path = path.as_bytes();
        if path.is_empty() {
            return match at.empty {
                true if at.dir == libc::AT_FDCWD => self.open(call, at.dir, b".", OFlags::empty()),
                true => self.descriptor(call, at.dir),
                false => Err(Errno::NOENT),
            };
        }
        // The caller's own descriptors by name; the thread's `/proc/self` would be another.
        let own = [&b"/proc/self/fd/"[..], b"/dev/fd/"];
        if let Some(number) = own.iter().find_map(|prefix| path.strip_prefix(*prefix))
            && at.follow
            && let Some(number) = std::str::from_utf8(number)
                .ok()
                .and_then(|n| n.parse().ok())
        {
            return self.descriptor(call, number);
        }
        let flags = match at.follow {
            true => OFlags::empty(),
            false => OFlags::NOFOLLOW,
        };
        self.open(call, at.dir, path, flags)
    }

    /// Opens a path as the caller would: from its root, its working directory or its descriptor.
    fn open(&self, call: &Call, dir: i32, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let of = |what: &str| {
            let at = format!("{}/{what}", call.pid);
            rustix::fs::openat(&self.proc, at, PATH, Mode::empty())
        };
        let root = of("root")?;
        let base = match dir {
            _ if path.starts_with(b"/") => None,
            libc::AT_FDCWD => Some(of("cwd")?),
            number => Some(self.descriptor(call, number)?),
        };
        if !notify::waits(self.listener.as_fd(), call.id) {
            return Err(Errno::SRCH);
        }
        rustix::process::fchdir(&root)?;
        rustix::process::chroot(".")?;
        let base = base.as_ref().map_or(CWD, OwnedFd::as_fd);
        let resolve = ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(base, path, PATH | flags, Mode::empty(), resolve)
    }

    /// Opens what one of the caller's descriptors is.
    fn descriptor(&self, call: &Call, number: i32) -> Result<OwnedFd, Errno> {
        let at = format!("{}/fd/{number}", call.pid);
        match rustix::fs::openat(&self.proc, at, PATH, Mode::empty()) {
            Err(Errno::NOENT) => Err(Errno::BADF),
            _ if !notify::waits(self.listener.as_fd(), call.id) => Err(Errno::SRCH),
            opened => opened,
        }
    }

    /// Where an open file is in the sandbox.
    fn path_of(&self, file: &OwnedFd) -> Result<PathBuf, Errno> {
        rustix::process::fchdir(&self.root)?;
        rustix::process::chroot(".")?;
        let path = rustix::fs::readlinkat(&self.own_fds, name(file), Vec::new())?;
        Ok(OsString::from_vec(path.into_bytes()).into())
    }

    /// Reads the record of an open file or directory.
    fn record(&self, file: &OwnedFd) -> Result<Record, Errno> {
        rustix::process::fchdir(&self.own_fds)?;
        let mut value = [0; 128];
        match rustix::fs::getxattr(name(file), NODE, &mut value) {
            Ok(len) => Ok(Record::parse(&value[..len]).unwrap_or_default()),
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(Record::default()),
            Err(errno) => Err(errno),
        }
    }

    fn set_record(&self, file: &OwnedFd, record: Record) -> Result<(), Errno> {
        rustix::process::fchdir(&self.own_fds)?;
        if !record.is_plain() {
            let value = record.to_bytes();
            return rustix::fs::setxattr(name(file), NODE, &value, XattrFlags::empty());
        }
        match rustix::fs::removexattr(name(file), NODE) {
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
            removed => removed,
        }
    }
}

/// The name of an open file in `/proc/self/fd`.
fn name(file: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    file.as_raw_fd().to_string()
}
