//! Names for containers that were given none.

use crate::store::random_id;

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

/// Makes a name such as `steady_stave`.
pub(super) fn random_name() -> std::io::Result<String> {
    let id = random_id()?;
    let pick = |words: &[&'static str], digits: &str| {
        let number = usize::from_str_radix(digits, 16).expect("ids are hex digits");
        words[number % words.len()]
    };
    Ok(format!(
        "{}_{}",
        pick(MOODS, &id[..4]),
        pick(THINGS, &id[4..8])
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::is_container_name;

    #[test]
    fn names_are_well_formed() {
        assert!(is_container_name(&random_name().unwrap()));
    }
}
