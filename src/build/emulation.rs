//! Which platforms' programs this machine runs: its own, and those that a binfmt_misc handler
//! of the kernel runs (Documentation/admin-guide/binfmt-misc.rst).
//!
//! A handler counts when it is enabled, has the flag `F`, which makes it work inside another root
//! file system, and matches the header of an ELF program of the architecture.

use std::fs;
use std::path::Path;

use crate::image::Platform;

/// Where the kernel shows its handlers.
const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

/// An architecture as ELF headers name it: class, byte order and machine (elf.h).
const MACHINES: [(&str, u8, u8, u16); 9] = [
    ("amd64", 2, 1, 62),
    ("386", 1, 1, 3),
    ("arm64", 2, 1, 183),
    ("arm", 1, 1, 40),
    ("riscv64", 2, 1, 243),
    ("ppc64le", 2, 1, 21),
    ("s390x", 2, 2, 22),
    ("loong64", 2, 1, 258),
    ("mips64le", 2, 1, 8),
];

/// Returns whether programs of `platform` run here.
pub(super) fn runs(platform: &Platform) -> bool {
    let platform = platform.normalised();
    let host = Platform::host();
    if platform.os != host.os {
        return false;
    }
    // A processor of 64 bits runs the programs of its 32-bit ancestor.
    match (host.architecture.as_str(), platform.architecture.as_str()) {
        (own, wanted) if own == wanted => true,
        ("amd64", "386") => true,
        (_, wanted) => handled(wanted, Path::new(HANDLERS)),
    }
}

/// Whether one of the handlers below `dir` runs programs of `architecture`. Handlers that can't be
/// read are as good as none.
fn handled(architecture: &str, dir: &Path) -> bool {
    let Some(header) = header(architecture) else {
        return false;
    };
    let Ok(handlers) = fs::read_dir(dir) else {
        return false;
    };
    handlers
        .filter_map(Result::ok)
        .filter(|entry| !matches!(entry.file_name().to_str(), Some("register" | "status")))
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .any(|text| takes(&text, &header))
}

/// The first bytes of an ELF program.
fn header(architecture: &str) -> Option<[u8; 20]> {
    let (_, class, order, machine) = MACHINES.iter().find(|(name, ..)| *name == architecture)?;
    let mut header = [0; 20];
    header[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', *class, *order, 1, 0]);
    let two = |value: u16| match order {
        1 => value.to_le_bytes(),
        _ => value.to_be_bytes(),
    };
    // ET_EXEC, which handlers match together with ET_DYN.
    header[16..18].copy_from_slice(&two(2));
    header[18..20].copy_from_slice(&two(*machine));
    Some(header)
}

/// Whether the handler that the kernel describes as `text` takes a file that begins so.
fn takes(text: &str, header: &[u8]) -> bool {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let fixed = field("flags:").is_some_and(|flags| flags.contains('F'));
    if text.lines().next() != Some("enabled") || !fixed || field("offset") != Some("0") {
        return false;
    }
    let Some(magic) = field("magic").and_then(bytes) else {
        return false;
    };
    let mask = field("mask").and_then(bytes);
    let mask = mask.unwrap_or_else(|| vec![0xff; magic.len()]);
    magic.len() <= header.len()
        && magic.len() == mask.len()
        && (magic.iter().zip(&mask).zip(header))
            .all(|((magic, mask), byte)| byte & mask == magic & mask)
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM64: &str = "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn a_handler_takes_programs_of_its_machine_only() {
        assert!(takes(ARM64, &header("arm64").unwrap()));
        assert!(!takes(ARM64, &header("riscv64").unwrap()));
        assert!(!takes(ARM64, &header("s390x").unwrap()));
    }

    #[test]
    fn a_handler_must_be_enabled_and_fixed() {
        let header = header("arm64").unwrap();
        assert!(!takes(&ARM64.replace("enabled", "disabled"), &header));
        assert!(!takes(&ARM64.replace("OCF", "OC"), &header));
        assert!(!takes(
            "enabled\ninterpreter /x\nflags: F\nextension .py\n",
            &header
        ));
    }

    #[test]
    fn a_machine_runs_its_own_programs_and_nothing_of_another_system() {
        assert!(runs(&Platform::host()));
        assert!(!runs(&"windows/amd64".parse().unwrap()));
        assert!(!handled("arm64", Path::new("/nonexistent")));
    }
}
