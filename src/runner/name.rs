//! Ids and names of containers.

use std::fmt::Write as _;

const MOODS: &[&str] = &[
    "airy", "amber", "brave", "brisk", "calm", "clear", "cosy", "crisp", "deft", "eager", "fair",
    "fond", "fresh", "gentle", "glad", "grand", "hale", "handy", "jolly", "keen", "kind", "light",
    "lively", "lucid", "merry", "mild", "neat", "noble", "plain", "proud", "quick", "quiet",
    "ready", "round", "sharp", "sleek", "snug", "solid", "sound", "spry", "steady", "stout",
    "sunny", "sure", "swift", "tidy", "vivid", "warm",
];
const THINGS: &[&str] = &[
    "adze",
    "auger",
    "awl",
    "barrel",
    "beam",
    "bench",
    "bung",
    "butt",
    "cask",
    "chime",
    "chisel",
    "croze",
    "drum",
    "firkin",
    "flagon",
    "froe",
    "gauge",
    "head",
    "hogshead",
    "hoop",
    "jointer",
    "keg",
    "kilderkin",
    "mallet",
    "oak",
    "pail",
    "pin",
    "pipe",
    "plane",
    "puncheon",
    "quarter",
    "rivet",
    "rundlet",
    "spigot",
    "stave",
    "tap",
    "tierce",
    "trug",
    "tub",
    "tun",
    "vat",
    "wedge",
];

/// Makes a container id: 64 random hex digits.
pub(super) fn random_id() -> std::io::Result<String> {
    let mut id = String::with_capacity(64);
    for byte in random::<32>()? {
        // Writing to a string does not go wrong.
        let _ = write!(id, "{byte:02x}");
    }
    Ok(id)
}

/// Makes a name such as `steady_stave`.
pub(super) fn random_name() -> std::io::Result<String> {
    let [a, b, c, d] = random::<4>()?;
    let pick = |words: &[&'static str], high, low| {
        words[usize::from(u16::from_le_bytes([high, low])) % words.len()]
    };
    Ok(format!("{}_{}", pick(MOODS, a, b), pick(THINGS, c, d)))
}

fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

/// Returns whether docker would take `name` for a container: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(super) fn is_valid(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() >= 2
        && bytes[0].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_well_formed_and_differ() {
        let (a, b) = (random_id().unwrap(), random_id().unwrap());
        assert_ne!(a, b);
        assert!(a.len() == 64 && a.bytes().all(|b| b.is_ascii_hexdigit()));
        assert!(is_valid(&random_name().unwrap()));
        assert!(
            !["", "a", "-a", "a b", "a/b"]
                .iter()
                .any(|name| is_valid(name))
        );
    }
}
