//! Which platforms' programs this machine runs: its own, and those that a binfmt_misc handler
//! of the kernel runs (Documentation/admin-guide/binfmt-misc.rst).
//!
//! A handler counts when it is enabled and matches the header of an ELF program of the
//! architecture. Without the flag `F` the kernel would look for its interpreter inside the image,
//! so such a one is told and not used. Handlers are the user namespace's or, where it has none of
//! its own, those of the one around it; a step sees what its caller sees.

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

/// What this machine does with a platform's programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// They run.
    Runs,
    /// The handler of this name would run them, had it the flag `F`.
    Unfixed(String),
    /// Nothing runs them.
    Nothing,
}

/// Returns what becomes of programs of `platform` here.
pub(super) fn ask(platform: &Platform) -> Answer {
    let platform = platform.normalised();
    let host = Platform::host();
    if platform.os != host.os {
        return Answer::Nothing;
    }
    // A processor of 64 bits runs the programs of its 32-bit ancestor.
    match (host.architecture.as_str(), platform.architecture.as_str()) {
        (own, wanted) if own == wanted => Answer::Runs,
        ("amd64", "386") => Answer::Runs,
        (_, wanted) => handled(wanted, Path::new(HANDLERS)),
    }
}

/// What the handlers below `dir` do with programs of `architecture`. Handlers that can't be read
/// are as good as none.
fn handled(architecture: &str, dir: &Path) -> Answer {
    let Some(header) = header(architecture) else {
        return Answer::Nothing;
    };
    let Ok(handlers) = fs::read_dir(dir) else {
        return Answer::Nothing;
    };
    let mut answer = Answer::Nothing;
    for entry in handlers.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if matches!(name.as_str(), "register" | "status") {
            continue;
        }
        let Ok(text) = fs::read_to_string(entry.path()) else {
            continue;
        };
        match takes(&text, &header) {
            Some(true) => return Answer::Runs,
            Some(false) => answer = Answer::Unfixed(name),
            None => {}
        }
    }
    answer
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

/// Whether the handler that the kernel describes as `text` has the flag `F`, if it takes a file
/// that begins so.
fn takes(text: &str, header: &[u8]) -> Option<bool> {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    if text.lines().next() != Some("enabled") || field("offset") != Some("0") {
        return None;
    }
    let magic = field("magic").and_then(bytes)?;
    let mask = field("mask").and_then(bytes);
    let mask = mask.unwrap_or_else(|| vec![0xff; magic.len()]);
    let matches = magic.len() <= header.len()
        && magic.len() == mask.len()
        && (magic.iter().zip(&mask).zip(header))
            .all(|((magic, mask), byte)| byte & mask == magic & mask);
    let fixed = field("flags:").is_some_and(|flags| flags.contains('F'));
    matches.then_some(fixed)
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
        let takes = |architecture| takes(ARM64, &header(architecture).unwrap());
        assert_eq!(takes("arm64"), Some(true));
        assert_eq!(takes("riscv64"), None);
        assert_eq!(takes("s390x"), None);
    }

    #[test]
    fn a_handler_must_be_enabled_and_fixed() {
        let header = header("arm64").unwrap();
        let disabled = ARM64.replace("enabled", "disabled");
        assert_eq!(takes(&disabled, &header), None);
        let unfixed = ARM64.replace("OCF", "OC");
        assert_eq!(takes(&unfixed, &header), Some(false));
        let by_name = "enabled\ninterpreter /x\nflags: F\nextension .py\n";
        assert_eq!(takes(by_name, &header), None);
    }

    #[test]
    fn a_machine_runs_its_own_programs_and_nothing_of_another_system() {
        assert_eq!(ask(&Platform::host()), Answer::Runs);
        assert_eq!(ask(&"windows/amd64".parse().unwrap()), Answer::Nothing);
        let nowhere = Path::new("/nonexistent");
        assert_eq!(handled("arm64", nowhere), Answer::Nothing);
    }
}
