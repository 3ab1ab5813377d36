//! What a RUN step or a container is to look like, as plain data.
//!
//! A [`Plan`] holds every decision and makes none: it can be printed, compared and tested
//! without root. [`crate::sandbox::spawn`] hands it to a fresh process, which carries it out
//! in the one order that [`crate::sandbox::child`] documents. Paths on the host (layers,
//! sources of bind mounts) are trusted and are resolved on the host; everything that names a
//! place *inside* (targets, working directory, program, user) is resolved in the mounted root
//! and can't leave it.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use super::caps::Caps;
use super::cgroup::Limits;
use super::error::PlanError;
use super::ids::IdSwap;
use super::seccomp::Seccomp;
use super::user::{Groups, UserSpec};
use super::wire;

/// All that is decided about one step or container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What keeps the program in.
    pub walls: Walls,
    /// What `/` is.
    pub rootfs: Rootfs,
    /// Whether `/` refuses writes (mounts keep their own rule).
    pub read_only_root: bool,
    /// What is mounted below `/`, besides the system's own `/proc`, `/sys` and `/dev`. Parents
    /// are mounted before what lies below them, whatever the order here.
    pub mounts: Vec<Mount>,
    /// The program and its arguments. A program without a slash is looked for in the `PATH`
    /// of `env`, inside the root.
    #[serde(with = "wire::names")]
    pub argv: Vec<OsString>,
    /// The whole environment of the program; nothing of the caller's is added. Only `HOME` is
    /// filled in from the image's `/etc/passwd` when it is missing here.
    #[serde(with = "wire::pairs")]
    pub env: Vec<(OsString, OsString)>,
    /// Where the program starts.
    pub cwd: WorkDir,
    /// Whom the program runs as, in the image's own terms.
    pub user: UserSpec,
    /// Its further groups.
    pub groups: Groups,
    /// The host name inside; the caller's when `None`.
    pub hostname: Option<String>,
    /// The NIS domain name inside; the caller's when `None`.
    pub domainname: Option<String>,
    /// What the program can reach.
    pub network: Network,
    /// Whose processes the program is among.
    pub processes: Processes,
    /// The bounding set, and for uid 0 the capabilities it starts with.
    pub caps: Caps,
    /// Whether setuid programs and file capabilities are without effect inside
    /// (`no_new_privs`).
    pub no_new_privs: bool,
    /// Which system calls the program may make.
    pub seccomp: Seccomp,
    /// Whether owners and ids are remembered, because the user namespace has one id only
    /// ([`crate::owners`]). Must be set there and only there.
    pub remember_owners: bool,
    /// Which ids of the program change places with root's, if some do: it lives in a user
    /// namespace of its own then, and without power over mounts and network.
    pub ids: Option<IdSwap>,
    /// Files and directories below `/proc` and `/sys` (or elsewhere in the root) that read as
    /// empty. Absent ones are skipped.
    #[serde(with = "wire::names")]
    pub masked_paths: Vec<PathBuf>,
    /// Files and directories that can't be written. Absent ones are skipped.
    #[serde(with = "wire::names")]
    pub read_only_paths: Vec<PathBuf>,
    /// Limits to set, in order; one that can't be set is an error.
    pub rlimits: Vec<Rlimit>,
    /// What all of its processes may use together.
    pub limits: Limits,
    /// Kernel settings of its own namespaces, by their names below `/proc/sys` with dots.
    pub sysctls: Vec<(String, String)>,
    /// How soon the kernel kills its processes when memory runs out, -1000 to 1000; the caller's
    /// when `None`.
    pub oom_score_adj: Option<i32>,
    /// The file mode creation mask.
    pub umask: u32,
    /// Whether a small init of ours is pid 1 (reaps zombies, forwards signals) and the program
    /// its child; else the program itself is pid 1.
    pub init: bool,
    /// A terminal of this size for the program's stdin, stdout and stderr.
    pub tty: Option<WindowSize>,
    /// Bytes that `/dev/shm` may hold.
    pub shm_size: u64,
}

impl Plan {
    /// A plan with Docker's defaults: its capabilities, system calls, masked and read-only paths, umask
    /// 0022, 64 MiB of `/dev/shm`, an init, no network, no terminal, user root in `/`.
    pub fn new(rootfs: Rootfs, argv: Vec<OsString>) -> Self {
        Self {
            walls: Walls::Namespaces,
            rootfs,
            read_only_root: false,
            mounts: Vec::new(),
            argv,
            env: Vec::new(),
            cwd: WorkDir {
                path: PathBuf::from("/"),
                create: false,
            },
            user: UserSpec::default(),
            groups: Groups::default(),
            hostname: None,
            domainname: None,
            network: Network::None,
            processes: Processes::Own,
            caps: Caps::DOCKER,
            no_new_privs: false,
            seccomp: Seccomp::Docker,
            remember_owners: false,
            ids: None,
            masked_paths: MASKED.iter().map(PathBuf::from).collect(),
            read_only_paths: READ_ONLY.iter().map(PathBuf::from).collect(),
            rlimits: Vec::new(),
            limits: Limits::default(),
            sysctls: Vec::new(),
            oom_score_adj: None,
            umask: 0o022,
            init: true,
            tty: None,
            shm_size: 64 << 20,
        }
    }

    /// Does without namespaces and CAP_SYS_ADMIN: what takes either is taken out, and so are the
    /// two capabilities by which root gets out of a changed root, and setuid programs, since
    /// filters need no_new_privs then. Mounts and an own network are not taken out: they would be
    /// missed.
    pub fn by_chroot(&mut self) {
        let out = CapabilitySet::SYS_CHROOT | CapabilitySet::MKNOD;
        self.walls = Walls::Chroot;
        self.caps = Caps(self.caps.0 & !out.bits());
        self.no_new_privs = true;
        self.init = true;
        self.hostname = None;
        self.domainname = None;
        self.masked_paths.clear();
        self.read_only_paths.clear();
    }

    /// Finds what needs a namespace in a plan without any.
    fn check_chroot(&self) -> Result<(), PlanError> {
        let wanting = [
            (!self.mounts.is_empty(), "mounts something"),
            (self.network != Network::Host, "has a network of its own"),
            (
                self.processes != Processes::Own,
                "is among another's processes",
            ),
            (self.tty.is_some(), "has a terminal of its own"),
            (self.read_only_root, "has a read-only root"),
            (self.remember_owners, "remembers owners"),
            (self.ids.is_some(), "has ids of its own"),
            (
                self.hostname.is_some() || self.domainname.is_some(),
                "has a name of its own",
            ),
            (
                !matches!(self.rootfs, Rootfs::Directory { .. }),
                "stacks layers",
            ),
        ];
        match wanting.iter().find(|(wanted, _)| *wanted) {
            Some((_, what)) => Err(PlanError::NoNamespace(what)),
            None => Ok(()),
        }
    }

    /// Finds what is contradictory before anything is started; `given` descriptors come along.
    pub(super) fn check(&self, given: usize) -> Result<(), PlanError> {
        if self.argv.is_empty() {
            return Err(PlanError::NoProgram);
        }
        if self.walls == Walls::Chroot {
            self.check_chroot()?;
        }
        if let Rootfs::Overlay(overlay) = &self.rootfs {
            overlay.check()?;
        }
        let nul = |bytes: &[u8]| bytes.contains(&0);
        if self.argv.iter().any(|arg| nul(arg.as_bytes())) {
            return Err(PlanError::Nul("command line"));
        }
        for (key, value) in &self.env {
            if nul(key.as_bytes()) || nul(value.as_bytes()) {
                return Err(PlanError::Nul("environment"));
            }
            if key.is_empty() || key.as_bytes().contains(&b'=') {
                return Err(PlanError::Variable(key.clone()));
            }
        }
        let absolute = |what, path: &PathBuf| match path.is_absolute() {
            true => Ok(()),
            false => Err(PlanError::Relative {
                what,
                path: path.clone(),
            }),
        };
        absolute("working directory", &self.cwd.path)?;
        for mount in &self.mounts {
            absolute("mount target", &mount.target)?;
            if let MountKind::Layers { overlay, .. } = &mount.kind {
                overlay.check()?;
            }
            if let MountKind::Bind {
                source: Source::Fd(index),
                ..
            } = mount.kind
                && index >= given
            {
                return Err(PlanError::Descriptor { index, given });
            }
        }
        if let Network::Join(index) = self.network
            && index >= given
        {
            return Err(PlanError::Namespace { index, given });
        }
        if let Processes::Join(index) = self.processes
            && index + 1 >= given
        {
            return Err(PlanError::Processes { index, given });
        }
        let mut lists = self.masked_paths.iter().chain(&self.read_only_paths);
        lists.try_for_each(|path| absolute("masked or read-only path", path))
    }
}

/// Docker's masked paths (moby, `oci/defaults.go`).
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Docker's read-only paths (moby, `oci/defaults.go`).
const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What keeps a program in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Walls {
    /// Namespaces of its own, with mounts in them.
    Namespaces,
    /// A changed root and nothing else ([`Plan::by_chroot`]): processes, network and names are the
    /// caller's.
    Chroot,
}

/// What `/` is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// Layers with a writable directory on top.
    Overlay(Overlay),
    /// A directory of the host, used as it is: what the program writes is written there.
    Directory {
        /// The directory.
        #[serde(with = "wire::name")]
        path: PathBuf,
    },
}

/// How many directories one overlay mount stacks (`OVL_MAX_STACK` in the kernel's `fs/overlayfs`).
pub(super) const MAX_LOWERS: usize = 500;

/// An overlay mount (`Documentation/filesystems/overlayfs.rst`).
///
/// The options keep `upper` a plain diff against `lowers`: no redirects, no metadata-only
/// copies, no index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Unpacked layers, the top one first. With none, `upper` alone is the root.
    #[serde(with = "wire::names")]
    pub lowers: Vec<PathBuf>,
    /// Where everything that is written goes. Must exist; its mode and owner become those of
    /// `/`.
    #[serde(with = "wire::name")]
    pub upper: PathBuf,
    /// The kernel's scratch directory: exists, empty, on the file system of `upper`.
    #[serde(with = "wire::name")]
    pub work: PathBuf,
    /// Whether opaque marks and whiteouts are kept in `user.overlay.*` attributes instead of
    /// `trusted.overlay.*`. Must be set inside a user namespace
    /// ([`super::userns::HostInfo::userxattr`]) and only there.
    pub userxattr: bool,
    /// Skip the sync of `upper` when the mount goes away. A crash of the machine may then lose
    /// what was written, and `work` can't be mounted a second time.
    pub volatile: bool,
    /// Whether to use mount(2) even where the kernel has fsopen(2) with `lowerdir+` (6.7). For
    /// tests; older kernels get it without being told.
    pub old_mount_api: bool,
}

impl Overlay {
    fn check(&self) -> Result<(), PlanError> {
        match self.lowers.len() {
            count if count > MAX_LOWERS * MAX_LOWERS => Err(PlanError::Layers(count)),
            _ => Ok(()),
        }
    }
}

/// One mount below `/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, as a path inside the root. What is missing is created, and taken away after the
    /// program has ended if nobody used it.
    #[serde(with = "wire::name")]
    pub target: PathBuf,
    /// What.
    pub kind: MountKind,
    /// With which restrictions.
    pub access: Access,
    /// What becomes of mounts that are made below it later, on either side.
    pub propagation: Propagation,
    /// Whether what is mounted is given to the plan's user first, with all that is in it.
    pub give: bool,
}

impl Mount {
    /// `source` and what is mounted below it, at `target`, without restrictions.
    pub fn bind(source: Source, target: impl Into<PathBuf>) -> Self {
        let kind = MountKind::Bind {
            source,
            recursive: true,
        };
        Self {
            target: target.into(),
            kind,
            access: Access::default(),
            propagation: Propagation::Private,
            give: false,
        }
    }

    /// An empty file system in memory at `target`, mode 1777, as `docker run --tmpfs` has it:
    /// no devices, no setuid, nothing executable.
    pub fn tmpfs(target: impl Into<PathBuf>, size: Option<u64>) -> Self {
        let access = Access {
            read_only: false,
            nosuid: true,
            nodev: true,
            noexec: true,
        };
        let kind = MountKind::Tmpfs {
            size,
            inodes: None,
            mode: 0o1777,
            owner: (0, 0),
        };
        Self {
            target: target.into(),
            kind,
            access,
            propagation: Propagation::Private,
            give: false,
        }
    }

    /// A file of root's with `content` at `target`.
    pub fn file(target: impl Into<PathBuf>, content: Vec<u8>, mode: u32) -> Self {
        let kind = MountKind::File {
            content: Content(content),
            mode,
            uid: 0,
            gid: 0,
        };
        Self {
            target: target.into(),
            kind,
            access: Access::default(),
            propagation: Propagation::Private,
            give: false,
        }
    }
}

/// Where mounts that are made later show up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Only where they are made.
    #[default]
    Private,
    /// What the host mounts below the source is seen inside, as far as the host lets it
    /// (`rslave`).
    Follows,
    /// That, and what is mounted inside is seen by the host (`rshared`). Takes a bind of a path
    /// on a mount that the host shares, without a user namespace in between.
    Shared,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Which.
        source: Source,
        /// Whether what is mounted below the source comes along.
        recursive: bool,
    },
    /// A file or directory of layers that are stacked for this mount alone. What is written goes
    /// to its `upper`.
    Layers {
        /// The layers.
        overlay: Overlay,
        /// What of them is mounted; links are followed inside.
        #[serde(with = "wire::name")]
        path: PathBuf,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Bytes it may hold; the kernel's half of the memory when `None`.
        size: Option<u64>,
        /// Files and directories it may hold; as many as half of the memory has pages when `None`.
        inodes: Option<u64>,
        /// Mode of its root directory.
        mode: u32,
        /// Its owner and group inside. With one id there is no other than root.
        owner: (u32, u32),
    },
    /// A file that exists in memory only.
    File {
        /// What it holds.
        content: Content,
        /// Its mode.
        mode: u32,
        /// Its owner inside.
        uid: u32,
        /// Its group inside.
        gid: u32,
    },
}

/// Where a bind mount takes its content from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A trusted path of the host, symbolic links followed.
    Path(#[serde(with = "wire::name")] PathBuf),
    /// What a path that is not trusted leads to inside a directory that is: links are followed
    /// there and lead nowhere else.
    Below {
        /// The trusted directory.
        #[serde(with = "wire::name")]
        dir: PathBuf,
        /// The path inside.
        #[serde(with = "wire::name")]
        path: PathBuf,
    },
    /// The file or directory behind [`super::Stdio::fds`] at this index. For anything that an
    /// image, a context or a cache directory named: open it below a dirfd, hand in the
    /// descriptor.
    Fd(usize),
}

/// The bytes of a file mount. `Debug` shows their number only: they may be a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content(pub Vec<u8>);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}

/// Restrictions of one mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Refuses writes; recursively, if the mount is recursive.
    pub read_only: bool,
    /// setuid bits and file capabilities have no effect.
    pub nosuid: bool,
    /// Device nodes can't be opened.
    pub nodev: bool,
    /// Nothing can be executed.
    pub noexec: bool,
}

/// The directory the program starts in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkDir {
    /// Its absolute path inside the root.
    #[serde(with = "wire::name")]
    pub path: PathBuf,
    /// Whether it is created (mode 0755, owned by root) when missing.
    pub create: bool,
}

/// What the program can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Network {
    /// All that the caller can reach: the network namespace is shared.
    Host,
    /// Only itself: an own network namespace with a loopback interface.
    None,
    /// What the network namespace behind [`super::Stdio::fds`] at this index reaches, such as
    /// that of a [`super::network::Lease`].
    Join(usize),
}

/// Whose processes the program is among.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Processes {
    /// Its own, which end with it.
    Own,
    /// Those of the sandbox whose pid namespace is behind [`super::Stdio::fds`] at this index and
    /// whose IPC namespace is behind the next. The program ends with that sandbox; what it leaves
    /// running ends then, not before.
    Join(usize),
}

/// A resource limit (getrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// What is limited.
    pub resource: Resource,
    /// The limit in force; `None` is no limit.
    pub soft: Option<u64>,
    /// How far the program may raise it; `None` is no limit.
    pub hard: Option<u64>,
}

/// The resources of getrlimit(2), by the names of `docker run --ulimit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of getrlimit(2)")]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

impl Resource {
    /// Its name in `ulimit` options.
    pub fn name(self) -> String {
        format!("{self:?}").to_ascii_lowercase()
    }

    /// The resource called `name` by `ulimit` options, such as `nofile`.
    pub fn named(name: &str) -> Option<Self> {
        const ALL: &[Resource] = &[
            Resource::As,
            Resource::Core,
            Resource::Cpu,
            Resource::Data,
            Resource::Fsize,
            Resource::Locks,
            Resource::Memlock,
            Resource::Msgqueue,
            Resource::Nice,
            Resource::Nofile,
            Resource::Nproc,
            Resource::Rss,
            Resource::Rtprio,
            Resource::Rttime,
            Resource::Sigpending,
            Resource::Stack,
        ];
        let is = |one: &&Self| one.name().eq_ignore_ascii_case(name);
        ALL.iter().find(is).copied()
    }
}

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub cols: u16,
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn plan() -> Plan {
        let overlay = Overlay {
            lowers: vec!["/trees/b".into(), "/trees/a".into()],
            upper: "/tmp/upper".into(),
            work: "/tmp/work".into(),
            userxattr: false,
            volatile: true,
            old_mount_api: false,
        };
        let mut plan = Plan::new(Rootfs::Overlay(overlay), vec!["/bin/sh".into()]);
        plan.mounts
            .push(Mount::file("/run/secrets/key", b"hunter2".to_vec(), 0o400));
        plan
    }

    #[test]
    fn a_plan_shows_all_it_decides_and_no_secret() {
        insta::assert_debug_snapshot!(plan());
    }

    #[test]
    fn any_bytes_survive_the_way_to_the_child() {
        let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let mut before = plan();
        before
            .argv
            .extend([odd(b"\xff\x01"), odd(b""), odd("å\"\n".as_bytes())]);
        before.env.push((odd(b"K\xfe"), odd(b"v\xfd")));
        before.cwd.path = odd(b"/w\x80").into();
        before
            .mounts
            .push(Mount::bind(Source::Path(odd(b"/\xf0").into()), "/m"));
        before.mounts.push(Mount::bind(Source::Fd(0), "/n"));
        before.rlimits.push(Rlimit {
            resource: Resource::Nofile,
            soft: Some(1),
            hard: None,
        });
        let json = serde_json::to_vec(&before).unwrap();
        assert_eq!(serde_json::from_slice::<Plan>(&json).unwrap(), before);
    }

    #[test]
    fn a_plan_without_namespaces_has_nothing_that_takes_one() {
        let root = Rootfs::Directory { path: "/r".into() };
        let mut bare = Plan::new(root, vec!["sh".into()]);
        bare.hostname = Some("name".into());
        bare.network = Network::Host;
        bare.by_chroot();
        assert_eq!(bare.check(0), Ok(()));
        assert!(bare.no_new_privs && bare.masked_paths.is_empty());
        assert_eq!(bare.caps, Caps(Caps::DOCKER.0 & !(1 << 18 | 1 << 27)));
        let mut mounting = bare.clone();
        mounting.mounts.push(Mount::tmpfs("/t", None));
        let said = mounting.check(0).unwrap_err().to_string();
        assert_eq!(said, "it has no namespaces, and mounts something");
        bare.network = Network::None;
        assert!(bare.check(0).is_err());
        let mut stacked = plan();
        stacked.by_chroot();
        assert!(stacked.check(0).is_err());
    }

    #[test]
    fn contradictions_are_named() {
        let refuse = |change: &dyn Fn(&mut Plan)| {
            let mut plan = plan();
            change(&mut plan);
            plan.check(1).unwrap_err().to_string()
        };
        assert_eq!(plan().check(0), Ok(()));
        assert_eq!(refuse(&|plan| plan.argv.clear()), "it names no program");
        assert_eq!(
            refuse(&|plan| plan.argv.push("a\0b".into())),
            "the command line holds a NUL byte"
        );
        assert_eq!(
            refuse(&|plan| plan.env.push(("A=".into(), "".into()))),
            "`A=` can't be the name of a variable"
        );
        assert_eq!(
            refuse(&|plan| plan.mounts.push(Mount::tmpfs("x/y", None))),
            "the mount target `x/y` is not absolute"
        );
        assert_eq!(
            refuse(&|plan| plan.mounts.push(Mount::bind(Source::Fd(1), "/x"))),
            "it mounts descriptor 1 of 1"
        );
        assert_eq!(
            refuse(&|plan| plan.network = Network::Join(1)),
            "it joins the network of descriptor 1 of 1"
        );
        assert_eq!(
            refuse(&|plan| {
                let Rootfs::Overlay(overlay) = &mut plan.rootfs else {
                    return;
                };
                overlay.lowers = vec!["/l".into(); 250_001];
            }),
            "it stacks 250001 layers, and overlayfs takes 500 times 500"
        );
    }
}
