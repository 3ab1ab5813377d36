//! What profiles mean, asked of the compiled programs by an interpreter of our own.

use super::bpf::run;
use super::*;

const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

/// A compiled profile, asked by name.
struct Asked(Vec<Instruction>);

impl Asked {
    fn docker(caps: Caps) -> Self {
        Self(compile(&Seccomp::Docker, caps, Socketcall::Absent).unwrap())
    }

    fn json(text: &str) -> Self {
        let profile = Profile::parse(text.as_bytes()).unwrap();
        Self(compile(&Seccomp::Profile(profile), Caps::DOCKER, Socketcall::Asked).unwrap())
    }

    fn under(&self, abi: &Abi, name: &str, args: &[u64]) -> u32 {
        let number = abi.numbers()[name];
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        run(&self.0, abi.audit, number, all)
    }

    /// The answer under the machine's own ABI.
    fn own(&self, name: &str, args: &[u64]) -> u32 {
        self.under(&Abi::all()[0], name, args)
    }
}

#[test]
fn dockers_profile_allows_the_usual_and_refuses_the_dangerous() {
    let docker = Asked::docker(Caps::DOCKER);
    for name in [
        "read", "execve", "openat", "ptrace", "chroot", "mknodat", "seccomp",
    ] {
        assert_eq!(docker.own(name, &[]), ALLOW, "{name}");
    }
    let dangerous = "keyctl add_key request_key bpf userfaultfd perf_event_open io_uring_setup \
        io_uring_enter io_uring_register mount umount2 unshare setns kexec_load init_module \
        open_by_handle_at reboot swapon settimeofday move_pages pivot_root fsopen syslog";
    for name in dangerous.split_whitespace() {
        for abi in Abi::all() {
            assert_eq!(docker.under(&abi, name, &[]), EPERM, "{name} {}", abi.name);
        }
    }
}

#[test]
fn capabilities_open_what_needs_them() {
    let with = |name: &str| Asked::docker(Caps(Caps::DOCKER.0 | Caps::named(name).unwrap().0));
    let admin = with("SYS_ADMIN");
    for name in ["mount", "unshare", "clone3", "bpf", "perf_event_open"] {
        assert_eq!(admin.own(name, &[u64::MAX]), ALLOW, "{name}");
    }
    assert_eq!(admin.own("clone", &[0x1000_0000]), ALLOW);
    assert_eq!(admin.own("keyctl", &[]), EPERM);
    assert_eq!(with("SYS_PTRACE").own("kcmp", &[]), ALLOW);
    assert_eq!(with("SYS_NICE").own("mbind", &[]), ALLOW);
    assert_eq!(with("BPF").own("bpf", &[]), ALLOW);
    assert_eq!(with("NET_ADMIN").own("mount", &[]), EPERM);
    assert_eq!(Asked::docker(Caps::NONE).own("chroot", &[]), EPERM);
}

#[test]
fn new_namespaces_need_cap_sys_admin() {
    let docker = Asked::docker(Caps::DOCKER);
    assert_eq!(docker.own("clone", &[0x01_0f00]), ALLOW);
    for bit in [
        0x2_0000,
        0x200_0000,
        0x400_0000,
        0x800_0000,
        0x1000_0000,
        0x2000_0000,
        0x4000_0000,
    ] {
        assert_eq!(docker.own("clone", &[bit | 17]), EPERM, "{bit:#x}");
    }
    assert_eq!(docker.own("clone3", &[]), ENOSYS);
}

#[test]
fn t_rt_14_socket_families_are_chosen_under_every_abi() {
    let docker = Asked::docker(Caps::DOCKER);
    for abi in Abi::all() {
        for family in [1, 2, 10, 16, 17] {
            assert_eq!(docker.under(&abi, "socket", &[family]), ALLOW, "{family}");
        }
        // DECnet, AF_ALG, AF_VSOCK, one yet to come, and AF_ALG with bits the kernel ignores.
        for family in [12, 38, 40, 46, 0x1_0000_0026, u64::MAX] {
            assert_eq!(
                docker.under(&abi, "socket", &[family]),
                EPERM,
                "{family:#x}"
            );
        }
        if abi.numbers().contains_key("socketcall") {
            assert_eq!(docker.under(&abi, "socketcall", &[1]), ENOSYS);
            assert_eq!(docker.under(&abi, "socketcall", &[3]), ALLOW);
            let asked = compile(&Seccomp::Docker, Caps::DOCKER, Socketcall::Asked);
            let asked = Asked(asked.unwrap());
            let notify = libc::SECCOMP_RET_USER_NOTIF;
            assert_eq!(asked.under(&abi, "socketcall", &[1]), notify);
            assert_eq!(asked.under(&abi, "socketcall", &[3]), ALLOW);
        }
    }
}

#[test]
fn personalities_are_the_harmless_ones() {
    let docker = Asked::docker(Caps::DOCKER);
    for (value, want) in [
        (0, ALLOW),
        (8, ALLOW),
        (0x20008, ALLOW),
        (0xffff_ffff, ALLOW),
    ] {
        assert_eq!(docker.own("personality", &[value]), want);
    }
    assert_eq!(docker.own("personality", &[0x004_0000]), EPERM);
}

#[test]
fn other_abis_and_unknown_calls_are_refused() {
    let docker = Asked::docker(Caps::DOCKER);
    let own = Abi::all()[0];
    assert_eq!(run(&docker.0, own.audit, 5000, [0; 6]), ENOSYS);
    assert_eq!(run(&docker.0, 0x8000_0015, 0, [0; 6]), EPERM);
    if let Some(first) = own.foreign_from {
        assert_eq!(run(&docker.0, own.audit, first, [0; 6]), EPERM);
        assert_eq!(run(&docker.0, own.audit, u32::MAX, [0; 6]), EPERM);
    }
}

#[test]
fn every_name_in_dockers_profile_is_in_the_table_or_of_another_machine() {
    let known: std::collections::HashSet<&str> = ["getsid", "recv", "riscv_hwprobe", "send"]
        .into_iter()
        .chain(
            include_str!("syscalls.txt")
                .lines()
                .filter_map(|line| line.split(' ').next()),
        )
        .collect();
    let rules = docker::rules(Caps::ALL, Action::KillProcess);
    let unknown: Vec<&String> = rules
        .iter()
        .flat_map(|rule| &rule.names)
        .filter(|name| !known.contains(name.as_str()))
        .collect();
    assert_eq!(unknown, [] as [&str; 0]);
}

#[test]
fn filters_survive_the_way_to_the_child_and_are_made_once() {
    let filter = super::filter(&Seccomp::Docker, Caps::DOCKER, Socketcall::Absent)
        .unwrap()
        .unwrap();
    let json = serde_json::to_vec(&*filter).unwrap();
    let back: Filter = serde_json::from_slice(&json).unwrap();
    assert_eq!(back, *filter);
    let plain = |program: Vec<Instruction>| -> Vec<_> {
        program.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect()
    };
    let direct = compile(&Seccomp::Docker, Caps::DOCKER, Socketcall::Absent).unwrap();
    assert!(direct.len() < 1500, "{}", direct.len());
    assert_eq!(plain(back.program()), plain(direct));
    let again = super::filter(&Seccomp::Docker, Caps::DOCKER, Socketcall::Absent)
        .unwrap()
        .unwrap();
    assert!(Arc::ptr_eq(&filter, &again));
    assert_eq!(
        super::filter(&Seccomp::Unconfined, Caps::DOCKER, Socketcall::Absent),
        Ok(None)
    );
}

#[test]
fn a_profile_of_the_callers_means_what_runc_makes_of_it() {
    let asked = Asked::json(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30},
            {"name": "chown", "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 6, "op": "SCMP_CMP_EQ"}]},
            {"names": ["kill"], "action": "SCMP_ACT_KILL",
             "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 15, "op": "SCMP_CMP_EQ"}]},
            {"names": ["umask"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}},
            {"names": ["getuid"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "4.8"}},
            {"names": ["getgid"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "99.0"}}
        ]}"#,
    );
    if Abi::all()[0].numbers().contains_key("mkdir") {
        assert_eq!(asked.own("mkdir", &[]), libc::SECCOMP_RET_ERRNO | 30);
        assert_eq!(asked.own("chown", &[0, 5, 6]), EPERM);
        assert_eq!(asked.own("chown", &[0, 5, 7]), ALLOW);
    }
    assert_eq!(asked.own("kill", &[1, 9]), libc::SECCOMP_RET_KILL_THREAD);
    assert_eq!(asked.own("kill", &[1, 15]), libc::SECCOMP_RET_KILL_THREAD);
    assert_eq!(asked.own("kill", &[1, 1]), ALLOW);
    assert_eq!(asked.own("umask", &[]), ALLOW);
    assert_eq!(asked.own("getpid", &[]), ALLOW);
    assert_eq!(asked.own("getuid", &[]), EPERM);
    assert_eq!(asked.own("getgid", &[]), ALLOW);
    let own = Abi::all()[0];
    assert_eq!(run(&asked.0, own.audit, 5000, [0; 6]), ALLOW);
    // Its `architectures` don't name a second ABI.
    assert_eq!(run(&asked.0, 0x4000_0003, 1, [0; 6]), EPERM);
}

#[test]
fn a_profile_that_can_not_be_carried_out_is_refused() {
    let why = |text: &str| Profile::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(why("{").contains("no seccomp profile"));
    assert!(why(r#"{"defaultAction": "SCMP_ACT_SING"}"#).contains("`SCMP_ACT_SING`"));
    assert!(why(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#).contains("listener"));
    let line = |args: &str| {
        why(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW",
                 "syscalls": [{{"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [{args}]}}]}}"#
        ))
    };
    assert!(line(r#"{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}"#).contains("argument 6"));
    assert!(line(r#"{"index": 0, "value": 1, "op": "SCMP_CMP_XX"}"#).contains("`SCMP_CMP_XX`"));
}
