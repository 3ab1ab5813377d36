//! Which system calls a program can make, asked through every way into the kernel.

#![allow(clippy::unwrap_used, reason = "a test that can't go on must stop")]

use std::path::Path;
use std::process::Command;

use cooper::sandbox::{Caps, Exit, Profile, Seccomp};

use crate::sandbox::fixture;
use crate::support::{Fixture, run};

const EPERM: &str = "-1";
const ENOSYS: &str = "-38";
const EFAULT: &str = "-14";
const EBADF: &str = "-9";

/// Puts the program of `calls.c` at `/bin/calls`.
fn build(t: &Fixture) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/root/programs/calls.c");
    let built = Command::new("gcc")
        .args(["-O1", "-nostdlib", "-static", "-no-pie", "-ffreestanding"])
        .args(["-fno-stack-protector", "-fcf-protection=none", "-o"])
        .arg(t.base("bin/calls"))
        .arg(source)
        .status()
        .unwrap();
    assert!(built.success());
}

/// What each of `calls` answers, above 0 shown as 1.
fn answers(t: &Fixture, seccomp: Seccomp, caps: Caps, calls: &[&str]) -> Vec<String> {
    let words = calls.join(" , ");
    let argv: Vec<&str> = std::iter::once("/bin/calls")
        .chain(words.split(' '))
        .collect();
    let mut plan = t.plan(&argv);
    plan.seccomp = seccomp;
    plan.caps = caps;
    run(&plan).ok().lines().map(str::to_owned).collect()
}

fn docker(t: &Fixture, calls: &[&str]) -> Vec<String> {
    answers(t, Seccomp::Docker, Caps::DOCKER, calls)
}

#[test]
#[cfg(target_arch = "x86_64")]
fn t_rt_14_af_alg_is_refused_whichever_way_it_is_asked_for() {
    let t = fixture();
    build(&t);
    // socket(38, SOCK_SEQPACKET, 0): native, int 0x80, x32, and socketcall(SYS_SOCKET, …).
    let calls = ["n 41 38 5 0", "i 359 38 5 0", "x 41 38 5 0"];
    assert_eq!(docker(&t, &calls), [EPERM; 3]);
    let calls = ["i 102 1 @ 38 5 0", "i 102 1 @ 40 1 0", "i 102 1 @ -1 1 0"];
    assert_eq!(docker(&t, &calls), [EPERM; 3]);
    // A pointer that leads nowhere.
    assert_eq!(docker(&t, &["i 102 1 8"]), [EFAULT]);
    // AF_VSOCK.
    assert_eq!(docker(&t, &["n 41 40 1 0", "i 359 40 1 0"]), [EPERM; 2]);
    // TCP, UDP and unix sockets are there under both ABIs.
    let calls = ["n 41 2 1 0", "n 41 2 2 0", "n 41 10 1 0", "n 41 1 1 0"];
    assert_eq!(docker(&t, &calls), ["1"; 4]);
    let calls = ["i 359 2 1 0", "i 359 2 2 0", "i 359 10 1 0", "i 359 1 1 0"];
    assert_eq!(docker(&t, &calls), ["1"; 4]);
    // And by socketcall, as glibc makes them: TCP, UDP, TCP over IPv6, unix, with both flags.
    let calls = [
        "i 102 1 @ 2 1 0",
        "i 102 1 @ 2 2 0",
        "i 102 1 @ 10 1 0",
        "i 102 1 @ 1 526337 0",
    ];
    assert_eq!(docker(&t, &calls), ["1"; 4]);
    // The program's own descriptor 3, which listens: listen(3, 1).
    let calls = ["i 102 1 @ 2 1 0", "i 102 4 @ 3 1", "i 102 4 @ 4 1"];
    assert_eq!(docker(&t, &calls), ["1", "0", EBADF]);
    // What takes a capability is not to be had by asking somebody else.
    assert_eq!(docker(&t, &["i 102 1 @ 2 3 1"]), [EPERM]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn without_an_init_32_bit_programs_have_no_socketcall() {
    let t = fixture();
    build(&t);
    let mut plan = t.plan(&["/bin/calls", "i", "102", "1", "@", "2", "1", "0"]);
    plan.seccomp = Seccomp::Docker;
    plan.init = false;
    assert_eq!(run(&plan).ok(), format!("{ENOSYS}\n"));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn t_rt_14_doors_into_the_kernel_are_closed_unless_granted() {
    let t = fixture();
    build(&t);
    // keyctl, add_key, io_uring_setup, userfaultfd, bpf, perf_event_open, kexec_load, mount,
    // unshare(CLONE_NEWUSER).
    let native = [
        "n 250 0 0 0",
        "n 248",
        "n 425 8 0",
        "n 323 1",
        "n 321",
        "n 298",
        "n 246",
        "n 165",
        "n 272 268435456",
    ];
    assert_eq!(docker(&t, &native), [EPERM; 9]);
    let i386 = [
        "i 288",
        "i 286",
        "i 425",
        "i 374",
        "i 357",
        "i 336",
        "i 283",
        "i 21",
        "i 310 268435456",
    ];
    assert_eq!(docker(&t, &i386), [EPERM; 9]);
    // clone3 is as good as absent, a call from the future as well, and x32 is refused.
    assert_eq!(
        docker(&t, &["n 435 0 0", "n 1000", "x 39"]),
        [ENOSYS, ENOSYS, EPERM]
    );
    let admin = Caps(Caps::DOCKER.0 | Caps::named("SYS_ADMIN").unwrap().0);
    let unshare = ["n 272 268435456"];
    assert_eq!(answers(&t, Seccomp::Docker, admin, &unshare), ["0"]);
    assert_eq!(
        answers(&t, Seccomp::Unconfined, Caps::DOCKER, &unshare),
        ["0"]
    );
}

#[test]
fn a_profile_of_the_callers_holds_for_setuid_programs_and_other_users() {
    let t = fixture();
    let profile = Profile::parse(
        br#"{"defaultAction": "SCMP_ACT_ALLOW",
             "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30}]}"#,
    );
    let mut plan = t.sh("mkdir /tmp/x; grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status");
    plan.seccomp = Seccomp::Profile(profile.unwrap());
    for user in ["", "www-data"] {
        plan.user = user.into();
        for no_new_privs in [false, true] {
            plan.no_new_privs = no_new_privs;
            let ran = run(&plan);
            assert!(ran.stderr.contains("Read-only file system"), "{ran:?}");
            let status = format!("NoNewPrivs:\t{}\nSeccomp:\t2\n", u8::from(no_new_privs));
            assert_eq!((ran.exit, ran.stdout), (Exit::Code(0), status));
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn setuid_programs_work_under_the_filter_and_no_capability_is_left_over() {
    let t = fixture();
    build(&t);
    let mut plan = t.sh("/bin/calls n 107; grep -E '^(CapPrm|CapEff|Seccomp):' /proc/self/status");
    plan.user = "www-data".into();
    let none = "0000000000000000";
    let status = format!("CapPrm:\t{none}\nCapEff:\t{none}\nSeccomp:\t2\n");
    // geteuid: anything but root, then root.
    assert_eq!(run(&plan).ok(), format!("1\n{status}"));
    let setuid = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    std::fs::set_permissions(t.base("bin/calls"), setuid).unwrap();
    assert_eq!(run(&plan).ok(), format!("0\n{status}"));
    plan.no_new_privs = true;
    assert_eq!(run(&plan).ok(), format!("1\n{status}"));
}
