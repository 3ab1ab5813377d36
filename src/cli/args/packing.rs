//! How layers are packed on their way out, in cooper's own words and in those of buildah and podman.

use std::ops::RangeInclusive;

use crate::cli::report::Report;
use crate::image::Compression;
use crate::transfer::{Options, PushOptions};

/// Options of what pushes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(mut_args(super::switches))]
pub(crate) struct PackingArgs {
    /// How layers that were made here are compressed: gzip, zstd, estargz or none, with
    /// `:LEVEL` if the usual one is not meant. Pulled layers keep their bytes
    #[arg(long, value_name = "ALGORITHM[:LEVEL]", value_parser = compression)]
    compression: Option<(Compression, Option<i32>)>,

    /// Compress pulled layers anew, too, unless they are compressed in this way
    #[arg(long, value_name = "BOOL")]
    force_compression: Option<bool>,

    /// As `--compression`, of all layers unless `--force-compression=false`
    #[arg(long, value_name = "ALGORITHM", conflicts_with = "compression", value_parser = format)]
    compression_format: Option<Compression>,

    /// Level of that, or of gzip
    #[arg(long, value_name = "LEVEL", conflicts_with = "compression")]
    compression_level: Option<i32>,

    // A store has none that could be sent.
    #[arg(long, hide = true, value_name = "BOOL")]
    remove_signatures: Option<bool>,
}

impl PackingArgs {
    /// Returns what these say of a push that reaches registries by `transfer`.
    pub(crate) fn options(&self, transfer: Options) -> Result<PushOptions, Report> {
        let (compression, level) = match self.compression {
            Some((compression, level)) => (Some(compression), level),
            None => (self.compression_format, self.compression_level),
        };
        if let Some(level) = level {
            let levels = levels(compression.unwrap_or(Compression::Gzip));
            in_range(level, &levels).map_err(|why| {
                Report::wrong_use(format!("`--compression-level {level}`: {why}"))
            })?;
        }
        Ok(PushOptions {
            transfer,
            compression,
            level,
            force: self
                .force_compression
                .unwrap_or(self.compression_format.is_some()),
            by_digest: false,
        })
    }
}

fn algorithm(text: &str) -> Result<Compression, String> {
    match text {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        "estargz" => Ok(Compression::Estargz),
        "none" | "uncompressed" => Ok(Compression::None),
        _ => Err("expected gzip, zstd, estargz or none".to_owned()),
    }
}

/// Parses `--compression-format`.
fn format(text: &str) -> Result<Compression, String> {
    match text {
        "zstd:chunked" => Err(
            "no table of the chunks is written; what reads such layers reads `zstd` too".to_owned(),
        ),
        text => algorithm(text),
    }
}

fn levels(compression: Compression) -> RangeInclusive<i32> {
    match compression {
        Compression::None => 0..=0,
        Compression::Gzip | Compression::Estargz => 0..=9,
        Compression::Zstd => 1..=22,
    }
}

fn in_range(level: i32, levels: &RangeInclusive<i32>) -> Result<i32, String> {
    match levels.contains(&level) {
        true => Ok(level),
        false => Err(wrong_level(levels)),
    }
}

fn wrong_level(levels: &RangeInclusive<i32>) -> String {
    format!(
        "the level is a number from {} to {}",
        levels.start(),
        levels.end()
    )
}

/// Parses `--compression`.
pub(crate) fn compression(text: &str) -> Result<(Compression, Option<i32>), String> {
    let (name, level) = match text.split_once(':') {
        Some((name, level)) => (name, Some(level)),
        None => (text, None),
    };
    let algorithm = algorithm(name)?;
    let levels = levels(algorithm);
    let number = |level: &str| level.parse().map_err(|_| wrong_level(&levels));
    let level = level.map(|level| in_range(number(level)?, &levels));
    Ok((algorithm, level.transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressions_may_have_a_level() {
        assert_eq!(compression("gzip"), Ok((Compression::Gzip, None)));
        assert_eq!(compression("zstd:19"), Ok((Compression::Zstd, Some(19))));
        assert_eq!(
            compression("estargz:9"),
            Ok((Compression::Estargz, Some(9)))
        );
        assert_eq!(compression("none"), Ok((Compression::None, None)));
        for bad in ["", "lz4", "gzip:10", "zstd:x", "gzip:"] {
            assert!(compression(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_format_by_itself_is_meant_for_all_layers() {
        let options = |args: PackingArgs| args.options(Options::default());
        let format = PackingArgs {
            compression_format: Some(Compression::Zstd),
            compression_level: Some(19),
            ..PackingArgs::default()
        };
        let said = options(format.clone()).unwrap();
        let zstd = Some(Compression::Zstd);
        assert_eq!(
            (said.compression, said.level, said.force),
            (zstd, Some(19), true)
        );
        let kept = PackingArgs {
            force_compression: Some(false),
            ..format
        };
        assert!(!options(kept).unwrap().force);
        let own = PackingArgs {
            compression: Some((Compression::Zstd, None)),
            ..PackingArgs::default()
        };
        let said = options(own).unwrap();
        assert_eq!(
            (said.compression, said.level, said.force),
            (zstd, None, false)
        );
        let gzip = PackingArgs {
            compression_level: Some(10),
            ..PackingArgs::default()
        };
        assert!(options(gzip).is_err());
    }
}
