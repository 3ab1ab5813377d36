//! Platforms: operating system, architecture and variant, in the names Go and OCI use.
//!
//! Normalised as containerd's `platforms` package documents it: `x86_64` is `amd64`,
//! `aarch64` is `arm64`, whose default variant `v8` is left out; `arm` without a variant is `v7`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image runs on (image-spec, image-index.md, `platform`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture: `amd64`, `arm64`, …
    pub architecture: String,
    /// Operating system: `linux`.
    pub os: String,
    /// Version of the operating system; Windows uses it.
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Features the operating system must have.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the architecture: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a platform: expected `os/architecture` or `os/architecture/variant`")]
pub struct PlatformError {
    text: String,
}

impl Platform {
    /// Returns the platform this program runs on.
    pub fn host() -> Self {
        Self::linux(std::env::consts::ARCH, None)
    }

    fn linux(architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = normalise(architecture, variant.unwrap_or(""));
        Self {
            architecture,
            os: "linux".to_owned(),
            os_version: None,
            os_features: Vec::new(),
            variant,
        }
    }

    /// Returns whether an image for `offered` runs where `self` is asked for: the same system and
    /// architecture, and the same variant or an older one of the same family.
    pub fn accepts(&self, offered: &Self) -> bool {
        let offered = offered.normalised();
        if self.os != offered.os || self.architecture != offered.architecture {
            return false;
        }
        match (self.level(), offered.level()) {
            (Some(want), Some(got)) => got <= want,
            (_, None) => true,
            (None, Some(got)) => got <= default_level(&self.architecture),
        }
    }

    /// Returns how good a match `offered` is among accepted ones: the newest variant wins.
    pub fn rank(&self, offered: &Self) -> u32 {
        offered
            .normalised()
            .level()
            .unwrap_or_else(|| default_level(&offered.architecture))
    }

    /// Returns the platform with its names in normal form.
    pub fn normalised(&self) -> Self {
        let (architecture, variant) =
            normalise(&self.architecture, self.variant.as_deref().unwrap_or(""));
        Self {
            architecture,
            variant,
            os: self.os.to_ascii_lowercase(),
            ..self.clone()
        }
    }

    fn level(&self) -> Option<u32> {
        self.variant.as_deref()?.strip_prefix('v')?.parse().ok()
    }
}

fn default_level(architecture: &str) -> u32 {
    match architecture {
        "arm64" => 8,
        "arm" => 7,
        _ => 1,
    }
}

fn normalise(architecture: &str, variant: &str) -> (String, Option<String>) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
        ("i386" | "i486" | "i586" | "i686" | "x86" | "386", _) => ("386", ""),
        ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
        ("aarch64" | "arm64", v) => ("arm64", v),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("powerpc64le", v) => ("ppc64le", v),
        (a, v) => (a, v),
    };
    (
        architecture.to_owned(),
        (!variant.is_empty()).then(|| variant.to_owned()),
    )
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/arch[/variant]`; a lone word is an architecture of this machine's system, or `linux`.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let bad = || PlatformError {
            text: text.to_owned(),
        };
        let well_formed = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| well_formed(part)) {
            return Err(bad());
        }
        let mut platform = match parts.as_slice() {
            ["linux"] => return Ok(Self::host()),
            ["local"] => return Ok(Self::host()),
            [arch]
                if KNOWN_ARCHITECTURES.contains(&Self::linux(arch, None).architecture.as_str()) =>
            {
                Self::linux(arch, None)
            }
            [os, arch] => Self {
                os: os.to_ascii_lowercase(),
                ..Self::linux(arch, None)
            },
            [os, arch, variant] => Self {
                os: os.to_ascii_lowercase(),
                ..Self::linux(arch, Some(variant))
            },
            _ => return Err(bad()),
        };
        if platform.os == "macos" {
            platform.os = "darwin".to_owned();
        }
        Ok(platform)
    }
}

const KNOWN_ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x",
];

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        for (text, want) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/arm/v6", "linux/arm/v6"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), want);
        }
        for bad in ["", "linux/", "a/b/c/d", "linux/a b", "nonsense"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_older_variant_runs_on_a_newer_one_and_not_the_reverse() {
        let v7: Platform = "linux/arm/v7".parse().unwrap();
        let v6: Platform = "linux/arm/v6".parse().unwrap();
        assert!(v7.accepts(&v6));
        assert!(!v6.accepts(&v7));
        assert!(!v7.accepts(&"linux/arm64".parse().unwrap()));
    }
}
