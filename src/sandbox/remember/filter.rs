//! Which system calls are answered by us, as a seccomp filter.

use std::collections::HashMap;

use crate::sys::seccomp::Instruction;

use super::super::seccomp::abi::Abi;
use super::super::seccomp::docker::SOCKET;

/// What a call is about. The names are those of the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Chown,
    Lchown,
    Fchown,
    Fchownat,
    Mknod,
    Mknodat,
    Set(Which, Form),
    Setgroups,
    Get(Which, Part),
    GetThree(Which),
    Getgroups,
}

/// Users or groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Users,
    Groups,
}

/// How ids are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    One,
    Two,
    Three,
    Fs,
}

/// Which of the ids is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Real,
    Effective,
}

const CALLS: &[(&str, Act)] = &[
    ("chown", Act::Chown),
    ("lchown", Act::Lchown),
    ("fchown", Act::Fchown),
    ("fchownat", Act::Fchownat),
    ("mknod", Act::Mknod),
    ("mknodat", Act::Mknodat),
    ("setuid", Act::Set(Which::Users, Form::One)),
    ("setreuid", Act::Set(Which::Users, Form::Two)),
    ("setresuid", Act::Set(Which::Users, Form::Three)),
    ("setfsuid", Act::Set(Which::Users, Form::Fs)),
    ("setgid", Act::Set(Which::Groups, Form::One)),
    ("setregid", Act::Set(Which::Groups, Form::Two)),
    ("setresgid", Act::Set(Which::Groups, Form::Three)),
    ("setfsgid", Act::Set(Which::Groups, Form::Fs)),
    ("setgroups", Act::Setgroups),
    ("getuid", Act::Get(Which::Users, Part::Real)),
    ("geteuid", Act::Get(Which::Users, Part::Effective)),
    ("getgid", Act::Get(Which::Groups, Part::Real)),
    ("getegid", Act::Get(Which::Groups, Part::Effective)),
    ("getresuid", Act::GetThree(Which::Users)),
    ("getresgid", Act::GetThree(Which::Groups)),
    ("getgroups", Act::Getgroups),
];

/// The calls by number, in this machine's own convention; empty if we have no table of it.
pub(super) fn calls() -> HashMap<i32, Act> {
    let Some(abi) = Abi::all().first().copied() else {
        return HashMap::new();
    };
    let numbers = abi.numbers();
    let known = CALLS.iter().filter_map(|(name, act)| {
        let number = *numbers.get(name)?;
        Some((i32::try_from(number).ok()?, *act))
    });
    known.collect()
}

/// The program that hands these calls to a listener and lets all others pass. Programs of a
/// machine's second convention (32 bits) get the kernel's own answers, but for the sockets of
/// socketcall(2) if `sockets` is set.
pub(in crate::sandbox) fn program(sockets: bool) -> Vec<Instruction> {
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let give = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let allow = step(give, 0, 0, libc::SECCOMP_RET_ALLOW);
    let notify = step(give, 0, 0, libc::SECCOMP_RET_USER_NOTIF);
    let audit = Abi::all().first().map_or(0, |abi| abi.audit);
    let mut program = vec![step(load, 0, 0, ARCH)];
    if let Some(abi) = Abi::with_socketcall().filter(|_| sockets) {
        const FIRST_ARGUMENT: u32 = 16;
        let number = abi.numbers().get("socketcall").copied().unwrap_or(u32::MAX);
        program.extend([
            step(equal, 0, 6, abi.audit),
            step(load, 0, 0, NUMBER),
            step(equal, 0, 3, number),
            step(load, 0, 0, FIRST_ARGUMENT),
            step(equal, 0, 1, SOCKET as u32),
            notify,
            allow,
        ]);
    }
    program.extend([step(equal, 1, 0, audit), allow, step(load, 0, 0, NUMBER)]);
    let mut numbers: Vec<i32> = calls().into_keys().collect();
    numbers.sort_unstable();
    for number in numbers {
        program.push(step(equal, 0, 1, number as u32));
        program.push(notify);
    }
    program.push(allow);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_this_machine_is_in_the_program_once() {
        let calls = calls();
        assert_eq!(calls[&(libc::SYS_fchownat as i32)], Act::Fchownat);
        assert!(
            calls.len() >= CALLS.len() - 3,
            "newer machines lack chown, lchown and mknod"
        );
        let notified = |i: &&Instruction| i.k == libc::SECCOMP_RET_USER_NOTIF && i.code == 6;
        assert_eq!(program(false).iter().filter(notified).count(), calls.len());
        let more = usize::from(cfg!(target_arch = "x86_64"));
        let all = program(true);
        assert_eq!(all.iter().filter(notified).count(), calls.len() + more);
    }
}
