//! Scanners that run on commands, as buildah has them: presets, and what takes the place of their
//! parts.

use std::path::PathBuf;

use crate::build::{Merge, Scanned, Scanner};
use crate::cli::files;
use crate::cli::report::Report;
use crate::cli::working::words;
use crate::image::Reference;

/// The presets: their names, image, command for each `{ROOTFS}` and `{CONTEXT}`, and format.
const PRESETS: &[(&str, Preset)] = &[
    ("syft", SYFT_CYCLONEDX),
    ("syft-cyclonedx", SYFT_CYCLONEDX),
    ("syft-spdx", SYFT_SPDX),
    ("trivy", TRIVY_CYCLONEDX),
    ("trivy-cyclonedx", TRIVY_CYCLONEDX),
    ("trivy-spdx", TRIVY_SPDX),
];

/// A scanner that is known by name.
#[derive(Debug, Clone, Copy)]
struct Preset {
    image: &'static str,
    /// What is run; `{}` is `{ROOTFS}` first and `{CONTEXT}` then.
    command: &'static str,
    merge: Merge,
}

const SYFT: &str = "ghcr.io/anchore/syft";
const TRIVY: &str = "ghcr.io/aquasecurity/trivy";

const SYFT_CYCLONEDX: Preset = Preset {
    image: SYFT,
    command: "/syft scan -q dir:{} --output cyclonedx-json={OUTPUT}",
    merge: Merge::CycloneDx,
};
const SYFT_SPDX: Preset = Preset {
    image: SYFT,
    command: "/syft scan -q dir:{} --output spdx-json={OUTPUT}",
    merge: Merge::Spdx,
};
const TRIVY_CYCLONEDX: Preset = Preset {
    image: TRIVY,
    command: "trivy filesystem -q {} --format cyclonedx --output {OUTPUT}",
    merge: Merge::CycloneDx,
};
const TRIVY_SPDX: Preset = Preset {
    image: TRIVY,
    command: "trivy filesystem -q {} --format spdx-json --output {OUTPUT}",
    merge: Merge::Spdx,
};

/// Whether `name` is a preset, of which it is the name.
pub(crate) fn preset(name: &str) -> Option<&'static str> {
    let known = PRESETS.iter().find(|(known, _)| *known == name);
    known.map(|(known, _)| *known)
}

/// A scanner and where its results go.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ScanArgs {
    /// Image with a scanner, whose commands are run over the result
    #[arg(long, value_name = "IMAGE")]
    sbom_scanner_image: Option<Reference>,

    /// Command of the scanner; `{ROOTFS}` and `{CONTEXT}` are what it scans, `{OUTPUT}` the file
    /// that it writes. With `{CONTEXT}` it is run for each context
    #[arg(long, value_name = "COMMAND", value_parser = words::command)]
    sbom_scanner_command: Vec<std::vec::Vec<String>>,

    /// How several documents become one: `cat`, `merge-cyclonedx-by-component-name-and-version`
    /// or `merge-spdx-by-package-name-and-versioninfo`
    #[arg(long, value_name = "STRATEGY")]
    sbom_merge_strategy: Option<Merge>,

    /// Write what the scanner found to this file
    #[arg(long, value_name = "FILE")]
    sbom_output: Option<PathBuf>,

    /// Write the package URLs in it to this file
    #[arg(long, value_name = "FILE")]
    sbom_purl_output: Option<PathBuf>,

    /// Keep what the scanner found in the image, at this path
    #[arg(long, value_name = "PATH")]
    sbom_image_output: Option<String>,

    /// Keep the package URLs in it in the image, at this path
    #[arg(long, value_name = "PATH")]
    sbom_image_purl_output: Option<String>,
}

impl ScanArgs {
    /// The scanner that is asked for, on top of a preset: `syft` where none is named.
    pub(crate) fn scanner(&self, named: Option<&str>) -> Result<Option<Scanner>, Report> {
        let kept = self.sbom_image_output.is_some() || self.sbom_image_purl_output.is_some();
        let results = self.writes() || kept;
        let asked = self.sbom_scanner_image.is_some()
            || self.sbom_merge_strategy.is_some()
            || !self.sbom_scanner_command.is_empty();
        if !results && !asked && named.is_none() {
            return Ok(None);
        }
        if !results {
            return Err(Report::wrong_use(
                "a scanner is asked for, and nobody wants what it finds",
            )
            .hint(
                "`--sbom-output FILE` writes it to a file, `--sbom-image-output PATH` keeps it \
                     in the image",
            ));
        }
        let name = named.unwrap_or("syft");
        let found = PRESETS.iter().find(|(known, _)| *known == name);
        let (_, preset) = found.expect("names were looked up when they were read");
        let commands = match self.sbom_scanner_command.is_empty() {
            true => preset.commands(),
            false => self.sbom_scanner_command.clone(),
        };
        if commands.iter().any(Vec::is_empty) {
            return Err(Report::wrong_use("`--sbom-scanner-command` is empty"));
        }
        let image = || preset.image.parse().expect("presets name images");
        Ok(Some(Scanner {
            image: self.sbom_scanner_image.clone().unwrap_or_else(image),
            commands,
            merge: self.sbom_merge_strategy.unwrap_or(preset.merge),
            document_path: self.sbom_image_output.clone(),
            purls_path: self.sbom_image_purl_output.clone(),
        }))
    }

    /// Whether files of the caller's are written, of which there is one for all platforms.
    pub(crate) fn writes(&self) -> bool {
        self.sbom_output.is_some() || self.sbom_purl_output.is_some()
    }

    /// Writes them.
    pub(crate) fn write(&self, scanned: &Scanned) -> Result<(), Report> {
        for (path, bytes) in [
            (&self.sbom_output, &scanned.document),
            (&self.sbom_purl_output, &scanned.purls),
        ] {
            if let Some(path) = path {
                files::write(path, bytes)?;
            }
        }
        Ok(())
    }
}

impl Preset {
    fn commands(self) -> Vec<Vec<String>> {
        let over = |what| {
            let words = self.command.split(' ');
            words.map(|word| word.replace("{}", what)).collect()
        };
        vec![over("{ROOTFS}"), over("{CONTEXT}")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_gives_what_is_not_said() {
        let args = ScanArgs {
            sbom_output: Some("f".into()),
            ..ScanArgs::default()
        };
        let scanner = args.scanner(Some("trivy-spdx")).unwrap().unwrap();
        assert_eq!(
            scanner.image.familiar(),
            "ghcr.io/aquasecurity/trivy:latest"
        );
        assert_eq!(
            scanner.commands[1].join(" "),
            "trivy filesystem -q {CONTEXT} --format spdx-json --output {OUTPUT}"
        );
        assert_eq!(scanner.merge, Merge::Spdx);
        let own = ScanArgs {
            sbom_scanner_image: Some("mine".parse().unwrap()),
            sbom_scanner_command: vec![vec!["scan".to_owned()]],
            sbom_merge_strategy: Some(Merge::Cat),
            ..args
        };
        let scanner = own.scanner(None).unwrap().unwrap();
        assert_eq!(scanner.image.familiar(), "mine:latest");
        assert_eq!((scanner.commands.len(), scanner.merge), (1, Merge::Cat));
        assert!(ScanArgs::default().scanner(None).unwrap().is_none());
        assert!(ScanArgs::default().scanner(Some("syft")).is_err());
    }
}
