//! File systems in memory, as `--tmpfs` and volumes of `type=tmpfs` describe them: the options of
//! mount(8) and tmpfs(5) that mean something for one that ends with its container.

use serde::{Deserialize, Serialize};

/// A file system in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Bytes it may hold; half of the machine's memory if nothing is said, any number if 0.
    pub size: Option<u64>,
    /// Files and directories it may hold; any number if 0.
    pub inodes: Option<u64>,
    /// Mode of its root, 1777 if nothing is said.
    pub mode: Option<u32>,
    /// Owner of its root, inside.
    pub uid: u32,
    /// Group of its root, inside.
    pub gid: u32,
    /// Whether programs in it may be executed.
    pub exec: bool,
    /// Whether they may have the rights of their owners.
    pub suid: bool,
    /// Whether its devices may be opened.
    pub dev: bool,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// Options that are known and not to be had, and why.
const REFUSED: &[(&str, &str)] = &[
    (
        "mpol",
        "`--cpuset-mems` chooses the memory nodes of a container",
    ),
    ("huge", "pages have the machine's usual size"),
    ("noswap", "`--memory-swap` limits what is swapped"),
    ("noatime", "times of access are kept as usual (`relatime`)"),
    (
        "nodiratime",
        "times of access are kept as usual (`relatime`)",
    ),
    (
        "strictatime",
        "times of access are kept as usual (`relatime`)",
    ),
    ("tmpcopyup", "it is empty; a volume gets the image's files"),
];

impl Memory {
    /// One in which nothing is forbidden, as a plain mount has it.
    pub fn unrestricted() -> Self {
        Self {
            exec: true,
            suid: true,
            dev: true,
            ..Self::default()
        }
    }

    /// Reads options with commas between them; where none is given, that of `self` holds.
    pub fn with(mut self, options: &str) -> Result<Self, String> {
        for option in options.split(',').filter(|option| !option.is_empty()) {
            self.set(option)?;
        }
        Ok(self)
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match (key, value) {
            ("size", text) => self.size = Some(share(text)?),
            ("nr_blocks", text) => self.size = Some(blocks(text)?),
            ("nr_inodes", text) => self.inodes = Some(bytes(text)?),
            ("mode", text) => self.mode = Some(octal(text)?),
            ("uid", text) => self.uid = id(text)?,
            ("gid", text) => self.gid = id(text)?,
            ("exec", "") => self.exec = true,
            ("noexec", "") => self.exec = false,
            ("suid", "") => self.suid = true,
            ("nosuid", "") => self.suid = false,
            ("dev", "") => self.dev = true,
            ("nodev", "") => self.dev = false,
            ("ro", "") => self.read_only = true,
            ("rw", "") => self.read_only = false,
            // What memory does anyway, or what means nothing for it.
            (
                "defaults" | "async" | "sync" | "dirsync" | "relatime" | "norelatime" | "atime"
                | "diratime" | "nostrictatime" | "nomand" | "inode64" | "notmpcopyup",
                "",
            ) => {}
            _ => return Err(unknown(key, option)),
        }
        Ok(())
    }
}

fn unknown(key: &str, option: &str) -> String {
    match REFUSED.iter().find(|(known, _)| *known == key) {
        Some((_, why)) => format!("`{option}` can't be had for memory: {why}"),
        None => format!(
            "there is no option `{option}` of memory, only `size=`, `nr_inodes=`, `nr_blocks=`, \
             `mode=`, `uid=`, `gid=`, `ro`, `rw`, and `exec`, `suid` and `dev` with and without \
             `no`"
        ),
    }
}

/// A size, or a part of the machine's memory as tmpfs(5) has it, `50%`.
fn share(text: &str) -> Result<u64, String> {
    let Some(percent) = text.strip_suffix('%') else {
        return bytes(text);
    };
    let machine = rustix::system::sysinfo();
    let unit = u64::from(machine.mem_unit);
    let all = wide(machine.totalram).saturating_mul(unit);
    let percent = percent.parse::<u64>().ok();
    let part = percent.map(|percent| (all / 100).saturating_mul(percent));
    part.ok_or_else(|| format!("`{text}` is no size, such as `64m` or `50%`"))
}

/// A number of the kernel's, which has its word size.
fn wide(count: impl Into<u64>) -> u64 {
    count.into()
}

/// So many pages.
fn blocks(text: &str) -> Result<u64, String> {
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    bytes(text).map(|blocks| blocks.saturating_mul(page))
}

/// Parses a size: a number with an optional unit, `64m`, in powers of 1024.
pub fn bytes(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("`{text}` is no size, such as `64m`")),
    };
    let number = digits.parse::<u64>().ok();
    let size = number.and_then(|number| number.checked_mul(1 << shift));
    size.ok_or_else(|| format!("`{text}` is no size, such as `64m`"))
}

/// Parses the mode of a directory.
pub fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("`{text}` is no mode, such as `1777`"))
}

fn id(text: &str) -> Result<u32, String> {
    let id = text.parse::<u32>().ok().filter(|id| *id != u32::MAX);
    id.ok_or_else(|| format!("`{text}` is no number of a user or group"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_mount() {
        let read = |options: &str| Memory::default().with(options);
        let all = "size=64m,nr_inodes=1k,mode=750,uid=7,gid=8,exec,suid,dev,ro,relatime,sync";
        let want = Memory {
            size: Some(64 << 20),
            inodes: Some(1024),
            mode: Some(0o750),
            uid: 7,
            gid: 8,
            exec: true,
            suid: true,
            dev: true,
            read_only: true,
        };
        assert_eq!(read(all), Ok(want));
        assert_eq!(read(",rw,,defaults"), Ok(Memory::default()));
        let closed = Memory::unrestricted().with("noexec,nosuid,nodev");
        assert_eq!(closed, Ok(Memory::default()));
        let half = read("size=50%").unwrap().size.unwrap();
        let quarter = read("size=25%").unwrap().size.unwrap();
        assert!(half > quarter && quarter > 0);
        let page = rustix::param::page_size() as u64;
        assert_eq!(read("nr_blocks=3").unwrap().size, Some(3 * page));
    }

    #[test]
    fn an_option_that_can_not_be_had_is_named() {
        for (options, why) in [
            ("size=x", "`x` is no size"),
            ("size=x%", "`x%` is no size"),
            ("mode=999", "`999` is no mode"),
            ("uid=root", "`root` is no number"),
            ("gid=4294967295", "is no number"),
            ("exec=1", "no option `exec=1`"),
            ("ro,foo=bar", "no option `foo=bar`"),
            ("mpol=bind:0", "`mpol=bind:0` can't be had"),
            ("noatime", "`noatime` can't be had"),
        ] {
            let said = Memory::default().with(options).unwrap_err();
            assert!(said.contains(why), "{options}: {said}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("1024"), Ok(1024));
        assert_eq!(bytes("2GiB"), Ok(2 << 30));
        assert!(bytes("m").is_err() && bytes("1x").is_err());
    }
}
