//! From verdicts by system call number to a classic BPF program.
//!
//! A program first looks at the ABI, then walks a binary tree over ranges of numbers that share
//! a verdict: about nine comparisons for any call, and for calls that are always allowed the
//! kernel remembers the answer. Jumps only lead forward, as the kernel's verifier wants it.

use crate::sys::seccomp::Instruction;

/// What the kernel does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Allow,
    /// Allow, and write to the audit log.
    Log,
    /// Fail with this error number.
    Errno(u16),
    Trap,
    /// Ask a tracer.
    Trace(u16),
    /// Ask whoever holds the filter's listener.
    Notify,
    KillThread,
    KillProcess,
}

impl Action {
    /// `SECCOMP_RET_*` of seccomp(2).
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Log => libc::SECCOMP_RET_LOG,
            Self::Errno(number) => libc::SECCOMP_RET_ERRNO | u32::from(number),
            Self::Trap => libc::SECCOMP_RET_TRAP,
            Self::Notify => libc::SECCOMP_RET_USER_NOTIF,
            Self::Trace(data) => libc::SECCOMP_RET_TRACE | u32::from(data),
            Self::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            Self::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

/// How an argument is compared, always as 64 bits without sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Test {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    AtMost(u64),
    AtLeast(u64),
    Greater(u64),
    /// The argument's bits under `mask` are `value`.
    Masked {
        mask: u64,
        value: u64,
    },
}

/// A test of argument `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Condition {
    pub(super) index: u8,
    pub(super) test: Test,
}

/// What is done with one system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Always(Action),
    /// The first line whose conditions all hold; else the last action.
    When(Vec<(Vec<Condition>, Action)>, Action),
}

/// What is done under one ABI.
#[derive(Debug)]
pub(super) struct Section {
    /// `AUDIT_ARCH_*` of the ABI.
    pub(super) audit: u32,
    /// Ascending; each verdict holds from its number up to the next one. Begins with 0.
    pub(super) ranges: Vec<(u32, Verdict)>,
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const ALWAYS: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

fn ins(code: u16, k: u32) -> Instruction {
    jump(code, k, 0, 0)
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// Lays out the program; under an ABI that no section is for, `foreign` is the answer.
pub(super) fn assemble(sections: &[Section], foreign: Action) -> Vec<Instruction> {
    let mut program = vec![ins(LOAD, ARCH)];
    for section in sections {
        let mut body = vec![ins(LOAD, NUMBER)];
        body.extend(tree(&section.ranges));
        program.push(jump(IF_EQUAL, section.audit, 1, 0));
        program.push(ins(ALWAYS, body.len() as u32));
        program.extend(body);
    }
    program.push(ins(RETURN, foreign.code()));
    program
}

/// The accumulator holds the number; returns in any case.
fn tree(ranges: &[(u32, Verdict)]) -> Vec<Instruction> {
    if let [(_, verdict)] = ranges {
        return leaf(verdict);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (left, right) = (tree(low), tree(high));
    let mut out = match u8::try_from(right.len()) {
        Ok(past) => vec![jump(IF_AT_LEAST, high[0].0, 0, past)],
        Err(_) => vec![
            jump(IF_AT_LEAST, high[0].0, 1, 0),
            ins(ALWAYS, right.len() as u32),
        ],
    };
    out.extend(right);
    out.extend(left);
    out
}

fn leaf(verdict: &Verdict) -> Vec<Instruction> {
    let (lines, otherwise) = match verdict {
        Verdict::Always(action) => return vec![ins(RETURN, action.code())],
        Verdict::When(lines, otherwise) => (lines, otherwise),
    };
    let mut out = Vec::new();
    for (conditions, action) in lines {
        // Built from the end, so that each test knows how far the next line is.
        let mut line = vec![ins(RETURN, action.code())];
        for condition in conditions.iter().rev() {
            let mut test = examine(*condition, line.len() as u8);
            test.append(&mut line);
            line = test;
        }
        out.extend(line);
    }
    out.push(ins(RETURN, otherwise.code()));
    out
}

/// Goes on behind itself if `condition` holds, and skips `rest` instructions if not.
fn examine(condition: Condition, rest: u8) -> Vec<Instruction> {
    // The kernel hands 64-bit arguments over in the machine's own byte order.
    let (first, second) = if cfg!(target_endian = "little") {
        (4, 0)
    } else {
        (0, 4)
    };
    let at = ARGUMENTS + 8 * u32::from(condition.index);
    let (high, low) = (ins(LOAD, at + first), ins(LOAD, at + second));
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    // Whether the argument compares as `code` says, after the higher half decided or was equal.
    let ordered = |code: u16, value: u64, holds: bool| {
        let (h, l) = halves(value);
        let (yes, no) = if holds { (0, rest) } else { (rest, 0) };
        vec![
            high,
            jump(IF_GREATER, h, 3 + yes, 0),
            jump(IF_EQUAL, h, 0, 2 + no),
            low,
            jump(code, l, yes, no),
        ]
    };
    match condition.test {
        Test::AtLeast(value) => ordered(IF_AT_LEAST, value, true),
        Test::Greater(value) => ordered(IF_GREATER, value, true),
        Test::Less(value) => ordered(IF_AT_LEAST, value, false),
        Test::AtMost(value) => ordered(IF_GREATER, value, false),
        Test::Equal(value) => {
            let (h, l) = halves(value);
            let miss = jump(IF_EQUAL, h, 0, 2 + rest);
            vec![high, miss, low, jump(IF_EQUAL, l, 0, rest)]
        }
        Test::NotEqual(value) => {
            let (h, l) = halves(value);
            let hit = jump(IF_EQUAL, h, 0, 2);
            vec![high, hit, low, jump(IF_EQUAL, l, rest, 0)]
        }
        Test::Masked { mask, value } => {
            let ((mh, ml), (h, l)) = (halves(mask), halves(value));
            let miss = jump(IF_EQUAL, h, 0, 3 + rest);
            let last = jump(IF_EQUAL, l, 0, rest);
            vec![high, ins(AND, mh), miss, low, ins(AND, ml), last]
        }
    }
}

/// Answers as the kernel would; for tests.
#[cfg(test)]
pub(super) fn run(program: &[Instruction], audit: u32, number: u32, args: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        NUMBER => number,
        ARCH => audit,
        _ => {
            let arg = args[((offset - ARGUMENTS) / 8) as usize];
            if offset.is_multiple_of(8) == cfg!(target_endian = "little") {
                arg as u32
            } else {
                (arg >> 32) as u32
            }
        }
    };
    let (mut at, mut a) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let mut decide = |yes: bool| at += usize::from(if yes { jt } else { jf });
        match code {
            LOAD => a = word(k),
            AND => a &= k,
            RETURN => return k,
            ALWAYS => at += k as usize,
            IF_EQUAL => decide(a == k),
            IF_GREATER => decide(a > k),
            IF_AT_LEAST => decide(a >= k),
            other => panic!("instruction {other:#x} is not known"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(test: Test, arg: u64) -> bool {
        match test {
            Test::Equal(value) => arg == value,
            Test::NotEqual(value) => arg != value,
            Test::Less(value) => arg < value,
            Test::AtMost(value) => arg <= value,
            Test::AtLeast(value) => arg >= value,
            Test::Greater(value) => arg > value,
            Test::Masked { mask, value } => arg & mask == value,
        }
    }

    /// Values whose halves are often the same.
    fn word() -> impl Strategy<Value = u64> {
        let half = prop_oneof![
            0..3_u64,
            Just(0xffff_ffff),
            any::<u32>().prop_map(u64::from)
        ];
        (half.clone(), half).prop_map(|(high, low)| high << 32 | low)
    }

    fn test() -> impl Strategy<Value = Test> {
        (0..7, word(), word()).prop_map(|(kind, value, mask)| match kind {
            0 => Test::Equal(value),
            1 => Test::NotEqual(value),
            2 => Test::Less(value),
            3 => Test::AtMost(value),
            4 => Test::AtLeast(value),
            5 => Test::Greater(value),
            _ => Test::Masked { mask, value },
        })
    }

    proptest! {
        #[test]
        fn conditions_mean_what_they_say(
            lines in prop::collection::vec(prop::collection::vec((0..6_u8, test()), 0..4), 0..4),
            args in prop::array::uniform6(word()),
        ) {
            let met = |line: &Vec<(u8, Test)>| {
                line.iter().all(|&(index, test)| holds(test, args[usize::from(index)]))
            };
            let first = lines.iter().position(met).map_or(99, |at| at as u16);
            let lines = (0..).zip(&lines).map(|(at, line)| {
                let conditions = line.iter().map(|&(index, test)| Condition { index, test });
                (conditions.collect(), Action::Errno(at))
            });
            let verdict = Verdict::When(lines.collect(), Action::Errno(99));
            let section = Section { audit: 7, ranges: vec![(0, verdict)] };
            let program = assemble(&[section], Action::KillProcess);
            prop_assert_eq!(run(&program, 7, 1, args), Action::Errno(first).code());
        }

        #[test]
        fn every_number_finds_its_range(
            starts in prop::collection::btree_set(1..2000_u32, 0..700),
            number in 0..2100_u32,
        ) {
            let starts: Vec<u32> = std::iter::once(0).chain(starts).collect();
            let ranges = starts.iter().map(|&from| {
                (from, Verdict::Always(Action::Errno(from as u16)))
            });
            let section = Section { audit: 7, ranges: ranges.collect() };
            let program = assemble(&[section], Action::KillProcess);
            let want = starts.iter().rfind(|&&from| from <= number).copied().unwrap();
            prop_assert_eq!(run(&program, 7, number, [0; 6]), Action::Errno(want as u16).code());
            prop_assert_eq!(run(&program, 8, number, [0; 6]), Action::KillProcess.code());
        }
    }
}
