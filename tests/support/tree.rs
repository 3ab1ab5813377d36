//! The file system that a build gives, as text to compare and as files to read.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::TestEnv;

/// The files of a result, in a directory.
#[derive(Debug)]
pub(crate) struct Files(PathBuf);

impl Files {
    /// Returns where a file of the result is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Returns what a file holds.
    #[track_caller]
    pub(crate) fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

impl TestEnv {
    /// Builds `context` and returns the result's file system as `tar -tv` lists it: mode, owner
    /// and name of each entry, links with their targets, sorted.
    #[track_caller]
    pub(crate) fn listing(&self, options: &[&str], context: &str) -> Vec<String> {
        let tar = self.beside("listing.tar");
        let dest = format!("type=tar,dest={}", tar.display());
        self.build_to(&dest, options, context);
        let out = Command::new("tar")
            .args(["--numeric-owner", "--quoting-style=literal", "-tvf"])
            .arg(&tar)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{errors}");
        let listing = String::from_utf8(out.stdout).unwrap();
        let mut lines: Vec<String> = listing
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                // mode, owner, size, date, time, name …
                format!("{} {} {}", words[0], words[1], words[5..].join(" "))
            })
            .collect();
        lines.sort_by(|a, b| a.split(' ').nth(2).cmp(&b.split(' ').nth(2)));
        lines
    }

    /// Builds `context` and returns the files of the result.
    #[track_caller]
    pub(crate) fn files(&self, options: &[&str], context: &str) -> Files {
        let mut number = 0;
        let mut dir = self.beside("files-0");
        while dir.exists() {
            number += 1;
            dir = self.beside(&format!("files-{number}"));
        }
        self.build_to(
            &format!("type=local,dest={}", dir.display()),
            options,
            context,
        );
        Files(dir)
    }

    #[track_caller]
    fn build_to(&self, output: &str, options: &[&str], context: &str) {
        let mut args = vec!["build", "--progress=plain", "-o", output];
        args.extend(options);
        args.push(context);
        self.cooper(&args).ok();
    }
}
