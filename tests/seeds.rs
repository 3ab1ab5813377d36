//! Runs the fuzz targets over their seeds, without any fuzzer: what once broke stays mended.

#[allow(unreachable_pub, reason = "there it is a library")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::Path;

/// Gives every seed of a target to its function, and says which seed it was when that panics.
#[track_caller]
fn seeds(target: &str, run: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let mut count = 0;
    for entry in fs::read_dir(&dir).expect("the seeds are in the repository") {
        let path = entry.expect("a directory that can be read").path();
        let data = fs::read(&path).expect("a seed that can be read");
        let outcome = std::panic::catch_unwind(|| run(&data));
        assert!(outcome.is_ok(), "{} breaks {target}", path.display());
        count += 1;
    }
    assert!(count > 0, "{target} has seeds");
}

#[test]
fn t_dos_5_no_seed_breaks_the_parser() {
    seeds("parser", targets::parser);
}

#[test]
fn t_dos_5_no_seed_breaks_the_word_expander() {
    seeds("expand", targets::expand);
}

#[test]
fn t_dos_5_no_seed_breaks_the_ignore_file() {
    seeds("ignore", targets::ignore);
}

#[test]
fn t_dos_5_no_seed_breaks_the_tar_reader() {
    seeds("tar", targets::tar);
}
