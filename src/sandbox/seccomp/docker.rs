//! What Docker lets a container call (moby's default profile of September 2026), as data.
//!
//! Everything that is not named here fails with EPERM. What a capability is needed for anyway
//! is allowed to those who have it. Two deliberate differences: the old i386 call `socketcall`
//! can't be used to make sockets of families that `socket` refuses (CVE-2026-31431), since each
//! such call is looked at ([`super::super::sockets`]), and programs of the x32 ABI, which Debian's kernels don't run either, are refused.

use super::super::caps::Caps;
use super::Rule;
use super::bpf::{Action, Condition, Test};

/// Calls that do no harm beyond what the program may do anyway.
const ALLOWED: &str = "
    accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod
    chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod
    fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr
    flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
    ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat
    get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid
    geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid
    getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage
    getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy
    io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get
    ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown
    lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek
    lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create
    memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt
    mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
    mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock
    munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause
    pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll
    ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv
    process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead
    readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages
    removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop
    semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list
    set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32
    setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32
    setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
    sigprocmask sigreturn socketpair splice stat stat64 statfs statfs64 statmount statx symlink
    symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate
    truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64
    utimes vfork vmsplice wait4 waitid waitpid write writev";

/// Calls that need one of these capabilities, and are allowed to those who have it.
const BY_CAPABILITY: &[(&str, &str)] = &[
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie
         lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog
         umount umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("SYS_RAWIO", "iopl ioperm"),
    (
        "SYS_TIME",
        "settimeofday stime clock_settime clock_settime64",
    ),
    ("SYS_TTY_CONFIG", "vhangup"),
    (
        "SYS_NICE",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

/// Address families of socket(2), first and last of each run. Left out are those that no
/// container needs and that were a way into the kernel: AF_ALG, AF_VSOCK, and the dead ones.
const FAMILIES: &[(u64, u64)] = &[
    (0, 11),
    (13, 18),
    (21, 22),
    (24, 24),
    (26, 33),
    (35, 36),
    (39, 39),
    (41, 45),
];

/// Values of personality(2): the usual one, 32-bit machine names, no randomisation of either,
/// and the question what it is.
const PERSONALITIES: &[u64] = &[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `CLONE_NEWNS`, `CGROUP`, `UTS`, `IPC`, `USER`, `PID` and `NET`.
const NAMESPACES: u64 = 0x7e02_0000;

/// The `SYS_SOCKET` of socketcall(2).
pub(in crate::sandbox) const SOCKET: u64 = 1;

/// Whether sockets of `family` may be made.
pub(in crate::sandbox) fn has_family(family: u32) -> bool {
    let family = u64::from(family);
    FAMILIES
        .iter()
        .any(|(from, to)| (*from..=*to).contains(&family))
}

/// The rules for a program whose bounding set is `caps`. `socketcall` is the answer to the i386
/// call where it makes a socket: its family is in memory, where no filter can look.
pub(super) fn rules(caps: Caps, socketcall: Action) -> Vec<Rule> {
    let admin = caps.has("SYS_ADMIN");
    let first = |test| vec![Condition { index: 0, test }];
    let mut rules = vec![Rule::new(ALLOWED, Action::Allow, vec![])];
    for (_, names) in BY_CAPABILITY.iter().filter(|(name, _)| caps.has(name)) {
        rules.push(Rule::new(names, Action::Allow, vec![]));
    }
    for &(from, to) in FAMILIES {
        let mut run = first(Test::AtLeast(from));
        run.extend(first(Test::AtMost(to)));
        rules.push(Rule::new("socket", Action::Allow, run));
    }
    let other = first(Test::NotEqual(SOCKET));
    rules.push(Rule::new("socketcall", Action::Allow, other));
    rules.push(Rule::new("socketcall", socketcall, vec![]));
    for &value in PERSONALITIES {
        rules.push(Rule::new(
            "personality",
            Action::Allow,
            first(Test::Equal(value)),
        ));
    }
    if !admin {
        let mask = Test::Masked {
            mask: NAMESPACES,
            value: 0,
        };
        rules.push(Rule::new("clone", Action::Allow, first(mask)));
        // Its flags are in memory. ENOSYS makes libraries fall back on clone.
        let unknown = Action::Errno(libc::ENOSYS as u16);
        rules.push(Rule::new("clone3", unknown, vec![]));
    }
    rules
}
