//! The machine's ways into the kernel, and their system call numbers.
//!
//! This file and `syscalls.txt` are all of the program that knows processors. A new one is a
//! column in the table and a line here.

use std::collections::HashMap;

/// Name, then a number for each of [`COLUMNS`].
const TABLE: &str = include_str!("syscalls.txt");

/// A convention for system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) struct Abi {
    /// Its name in docker's profiles, without `SCMP_ARCH_`.
    pub(super) name: &'static str,
    /// Its `AUDIT_ARCH_*` (linux/audit.h): ELF machine, and bits for 64 bits and little endian.
    pub(in crate::sandbox) audit: u32,
    /// Numbers from here on belong to another ABI that shares `audit`.
    pub(super) foreign_from: Option<u32>,
    column: usize,
}

const X86_64: Abi = Abi {
    name: "X86_64",
    audit: 0xc000_003e,
    // x32.
    foreign_from: Some(0x4000_0000),
    column: 0,
};
const X86: Abi = Abi {
    name: "X86",
    audit: 0x4000_0003,
    foreign_from: None,
    column: 1,
};
const AARCH64: Abi = Abi {
    name: "AARCH64",
    audit: 0xc000_00b7,
    foreign_from: None,
    column: 2,
};

impl Abi {
    /// All that programs on this machine may use, its own first; empty if we have no table.
    pub(in crate::sandbox) fn all() -> Vec<Self> {
        match std::env::consts::ARCH {
            "x86_64" => vec![X86_64, X86],
            "x86" => vec![X86],
            "aarch64" => vec![AARCH64],
            _ => Vec::new(),
        }
    }

    /// The second convention of this machine that has socketcall(2), if there is such.
    pub(in crate::sandbox) fn with_socketcall() -> Option<Self> {
        Self::all().into_iter().skip(1).find(|abi| *abi == X86)
    }

    /// The machine's name as Go has it, which docker's profiles use.
    pub(super) fn go_name() -> &'static str {
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }

    /// Numbers by name.
    pub(in crate::sandbox) fn numbers(&self) -> HashMap<&'static str, u32> {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| {
                let mut words = line.split(' ');
                let name = words.next()?;
                Some((name, words.nth(self.column)?.parse().ok()?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_the_c_library() {
        let Some(own) = Abi::all().first().copied() else {
            return;
        };
        let numbers = own.numbers();
        assert!(numbers.len() > 300, "{}", numbers.len());
        for (name, number) in [
            ("read", libc::SYS_read),
            ("execve", libc::SYS_execve),
            ("openat2", libc::SYS_openat2),
            ("clone3", libc::SYS_clone3),
            ("seccomp", libc::SYS_seccomp),
            ("mseal", libc::SYS_mseal),
        ] {
            assert_eq!(
                numbers.get(name).copied().map(i64::from),
                Some(number),
                "{name}"
            );
        }
    }

    #[test]
    fn every_line_has_a_number_for_each_abi_or_none() {
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words.len(), 4, "{line}");
            assert!(
                words[1..]
                    .iter()
                    .all(|w| *w == "-" || w.parse::<u32>().is_ok()),
                "{line}"
            );
        }
    }
}
