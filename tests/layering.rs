//! Holds the rooms apart and keeps the habits that a compiler does not check.
//!
//! A single crate gives no compiler check on layers, so this test reads every file of `src` and
//! `tests` and fails with file and line. It works on text from which comments and the contents of
//! strings are blanked, and knows no macros: it may ask for another spelling.

#![allow(clippy::unwrap_used, reason = "a test that can't go on must stop")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Every room and the rooms it may import. `src/lib.rs` shows the same table.
const TABLE: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("image", &[]),
    ("event", &["image"]),
    ("owners", &[]),
    ("dockerfile", &[]),
    ("layer", &["image", "sys", "owners"]),
    ("store", &["image", "layer", "sys", "event"]),
    ("registry", &["image", "event"]),
    ("sandbox", &["sys", "event", "owners"]),
    ("transfer", &["store", "registry", "image", "event"]),
    (
        "build",
        &[
            "dockerfile",
            "image",
            "layer",
            "store",
            "sandbox",
            "transfer",
            "event",
        ],
    ),
    (
        "runner",
        &["image", "layer", "store", "sandbox", "transfer", "event"],
    ),
    (
        "cli",
        &[
            "sys",
            "image",
            "event",
            "dockerfile",
            "layer",
            "store",
            "registry",
            "sandbox",
            "transfer",
            "build",
            "runner",
        ],
    ),
    ("bin", &["cli", "sandbox"]),
];

/// Longest file, not counting its tests.
const LONGEST: usize = 800;

/// One source file, taken apart.
struct File {
    /// Path from the crate's root.
    path: String,
    /// The room it belongs to; empty for `lib.rs` and the files of `tests`.
    room: String,
    text: String,
    /// Whether all of it is test code.
    test: bool,
}

/// A line of code without comments and without what strings hold.
struct Line {
    number: usize,
    code: String,
    /// Whether it stands in a test module.
    test: bool,
}

impl File {
    fn lines(&self) -> Vec<Line> {
        let code = blanked(&self.text);
        let all: Vec<&str> = code.lines().collect();
        let mut out = Vec::new();
        let mut test = self.test;
        for (at, line) in all.iter().enumerate() {
            let opens_module = all.get(at + 1).is_some_and(|next| {
                next.trim_start_matches("pub(crate) ").starts_with("mod ") && next.ends_with('{')
            });
            test |= *line == "#[cfg(test)]" && opens_module;
            out.push(Line {
                number: at + 1,
                code: (*line).to_owned(),
                test,
            });
        }
        out
    }
}

/// Returns the text with comments and the contents of strings as blanks, line by line the same.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let starts = |c: char| matches!(c, '/' | '"' | '\'' | 'b' | 'c' | 'r');
    while let Some(at) = rest.find(starts) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let whole_word = !out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if rest.starts_with('"') {
            quoted(rest, 0)
        } else if rest.starts_with('\'') {
            character(rest)
        } else if whole_word && let Some(head) = string_head(rest) {
            match rest[..head].contains('r') {
                true => raw(rest, head),
                false => quoted(rest, head),
            }
        } else {
            0
        };
        if len == 0 {
            out.push_str(&rest[..1]);
            rest = &rest[1..];
        } else {
            out.extend(
                rest[..len]
                    .chars()
                    .map(|c| if c == '\n' { '\n' } else { ' ' }),
            );
            rest = &rest[len..];
        }
    }
    out.push_str(rest);
    out
}

/// Returns the length of the prefix of `b"`, `c"`, `r"`, `r#"`, `br"` and the like.
fn string_head(text: &str) -> Option<usize> {
    let letters = ["br", "cr", "b", "c", "r"]
        .into_iter()
        .find(|head| text.starts_with(head))?;
    let hashes = text[letters.len()..]
        .bytes()
        .take_while(|&b| b == b'#')
        .count();
    let raw = letters.ends_with('r');
    let head = letters.len() + if raw { hashes } else { 0 };
    text[head..].starts_with('"').then_some(head)
}

/// Returns the length of a string whose first quote stands at `head`.
fn quoted(text: &str, head: usize) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(head + 1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns the length of a raw string whose first quote stands at `head`.
fn raw(text: &str, head: usize) -> usize {
    let hashes = text[..head].bytes().filter(|&b| b == b'#').count();
    let end = format!("\"{}", "#".repeat(hashes));
    text[head + 1..]
        .find(&end)
        .map_or(text.len(), |at| head + 1 + at + end.len())
}

/// Returns the length of a character literal, 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            chars.next();
            chars.find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1)
        }
        Some(_) => chars
            .next()
            .filter(|(_, c)| *c == '\'')
            .map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

/// Walks a directory for Rust files, sorted.
fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            out.push(path);
        }
    }
}

fn load() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for dir in ["src", "tests"] {
        rust_files(&root.join(dir), &mut paths);
    }
    let files: Vec<(String, String)> = paths
        .iter()
        .map(|path| {
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    let tests = test_modules(&files);
    let make = |(path, text): (String, String)| File {
        room: room_of(&path).to_owned(),
        test: path.starts_with("tests/") || tests.iter().any(|stem| path.starts_with(stem)),
        path,
        text,
    };
    files.into_iter().map(make).collect()
}

/// `src/layer/path.rs` is in `layer`, `src/event.rs` in `event`, `src/lib.rs` in none.
fn room_of(path: &str) -> &str {
    match path.strip_prefix("src/") {
        None | Some("lib.rs") => "",
        Some(rest) => rest.split('/').next().unwrap().trim_end_matches(".rs"),
    }
}

/// Returns the beginnings of paths that `#[cfg(test)] mod x;` declares.
fn test_modules(files: &[(String, String)]) -> Vec<String> {
    let mut out = Vec::new();
    for (path, text) in files {
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if line.trim() != "#[cfg(test)]" {
                continue;
            }
            let Some(name) = lines.peek().and_then(|next| {
                next.split_once("mod ")
                    .and_then(|(_, rest)| rest.strip_suffix(';'))
            }) else {
                continue;
            };
            let dir = match path.strip_suffix("/mod.rs") {
                Some(dir) => dir.to_owned(),
                None => path.trim_end_matches(".rs").to_owned(),
            };
            out.extend([format!("{dir}/{name}.rs"), format!("{dir}/{name}/")]);
        }
    }
    out
}

/// Returns the byte offsets of `word` where it stands as a word of its own.
fn words(code: &str, word: &str) -> Vec<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let stands = |at: usize| {
        let goes_on = word.ends_with(part) && code[at + word.len()..].starts_with(part);
        !goes_on && !code[..at].ends_with(part)
    };
    let found = code.match_indices(word).map(|(at, _)| at);
    found.filter(|&at| stands(at)).collect()
}

/// Returns the rooms that a line reaches with `crate::` (or, from a binary, `cooper::`).
fn imports<'t>(code: &'t str, prefix: &str) -> Vec<&'t str> {
    let name = |at: usize| {
        let rest = &code[at + prefix.len()..];
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        &rest[..end]
    };
    let first = |at: &usize| !code[..*at].ends_with(':');
    words(code, prefix)
        .into_iter()
        .filter(first)
        .map(name)
        .collect()
}

fn check_imports(file: &File, out: &mut Vec<String>) {
    let table: BTreeMap<_, _> = TABLE.iter().copied().collect();
    if file.room.is_empty() {
        return;
    }
    let Some(allowed) = table.get(file.room.as_str()) else {
        out.push(format!(
            "{}:1: `{}` is no room of the table",
            file.path, file.room
        ));
        return;
    };
    let prefix = if file.room == "bin" {
        "cooper::"
    } else {
        "crate::"
    };
    for line in file.lines() {
        for room in imports(&line.code, prefix) {
            if room.is_empty() {
                let text = "one room a `use crate::` line, so that it can be read here";
                out.push(format!("{}:{}: {text}", file.path, line.number));
            } else if room != file.room && !allowed.contains(&room) {
                let may = format!("`{}` may not import `{room}`", file.room);
                out.push(format!("{}:{}: {may}", file.path, line.number));
            }
        }
    }
}

/// Words that only some rooms may use outside tests.
const GUARDED: &[(&[&str], &[&str], &str)] = &[
    (
        &["unsafe", "#![allow(unsafe_code)]"],
        &["src/sys/"],
        "unsafe code belongs to `sys`",
    ),
    (
        &[
            "println!",
            "eprintln!",
            "print!",
            "eprint!",
            "dbg!",
            "stdout()",
            "stderr()",
        ],
        &["src/cli/"],
        "only `cli` prints",
    ),
    (
        &[
            "env::var",
            "env::var_os",
            "env::vars",
            "env::vars_os",
            "env::args",
            "env::args_os",
            "env::set_var",
            "env::home_dir",
            "env::current_dir",
        ],
        &["src/cli/", "src/bin/", "src/sandbox/child/"],
        "only `cli` reads the environment",
    ),
    (
        &["process::exit", "process::abort"],
        &["src/sandbox/child"],
        "only `cli` ends the process",
    ),
    (
        &["async", ".await", "block_on"],
        &["src/registry/", "src/transfer/"],
        "only `registry` and `transfer` are async",
    ),
];

fn check_words(file: &File, out: &mut Vec<String>) {
    for line in file.lines() {
        for (guarded, places, why) in GUARDED {
            let free = places.iter().any(|place| file.path.starts_with(place));
            // Tests run programs and look at the world; unsafe they are not.
            let free = free || (line.test && !guarded.contains(&"unsafe"));
            if let Some(word) = guarded
                .iter()
                .find(|word| !words(&line.code, word).is_empty())
                && !free
            {
                out.push(format!("{}:{}: `{word}`: {why}", file.path, line.number));
            }
        }
        if !words(&line.code, "#[ignore").is_empty() {
            let text = "a test that is ignored tests nothing";
            out.push(format!("{}:{}: {text}", file.path, line.number));
        }
    }
}

fn check_shape(file: &File, out: &mut Vec<String>) {
    if !file.text.starts_with("//! ") {
        out.push(format!(
            "{}:1: the file does not open with `//!`",
            file.path
        ));
    }
    let lines = file.lines();
    let long = lines.iter().filter(|line| !line.test).count();
    if long > LONGEST {
        out.push(format!(
            "{}:{LONGEST}: {long} lines without tests",
            file.path
        ));
    }
}

fn check_block_on(files: &[File], out: &mut Vec<String>) {
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| file.lines().into_iter().map(move |line| (file, line)))
        .filter(|(_, line)| !line.test && !words(&line.code, "block_on(").is_empty())
        .map(|(file, line)| format!("{}:{}", file.path, line.number))
        .collect();
    let async_code = files
        .iter()
        .any(|file| file.room == "transfer" && file.text.contains("async"));
    if found.len() > 1 || (async_code && found.is_empty()) {
        out.push(format!(
            "one `block_on` in `transfer` bridges async, found {found:?}"
        ));
    }
    out.extend(
        found
            .iter()
            .filter(|at| !at.starts_with("src/transfer/"))
            .map(|at| format!("{at}: `block_on` belongs to `transfer`")),
    );
}

fn findings(files: &[File]) -> Vec<String> {
    let mut out = Vec::new();
    for file in files {
        check_imports(file, &mut out);
        check_words(file, &mut out);
        check_shape(file, &mut out);
    }
    check_block_on(files, &mut out);
    out
}

#[test]
fn every_file_keeps_to_its_room_and_habits() {
    let files = load();
    assert!(files.len() > 20, "the walk found {} files", files.len());
    let found = findings(&files);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_table_is_the_one_that_lib_rs_shows() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let mut shown = String::new();
    for line in lib.lines().filter(|line| line.starts_with("//! | [`")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        writeln!(
            shown,
            "{} {}",
            cells[1].trim_matches(['[', '`', ']']),
            cells[3]
        )
        .unwrap();
    }
    let mut held = String::new();
    for (room, allowed) in TABLE.iter().filter(|(room, _)| *room != "bin") {
        let allowed = match *room {
            "cli" => "all".to_owned(),
            _ if allowed.is_empty() => "–".to_owned(),
            _ => allowed.join(", "),
        };
        writeln!(held, "{room} {allowed}").unwrap();
    }
    assert_eq!(shown, held);
}

/// Only people with a nightly compiler build them, so nothing else would say so.
#[test]
fn the_lock_of_the_fuzz_targets_knows_our_crates() {
    let read =
        |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let between = |text: &str, from: &str, to: &str| -> String {
        let (_, rest) = text.split_once(from).unwrap();
        rest.split_once(to).unwrap().0.to_owned()
    };
    let wanted = between(&read("Cargo.toml"), "[dependencies]\n", "\n[");
    let wanted: BTreeSet<&str> = wanted.lines().filter_map(|l| l.split(' ').next()).collect();
    let ours = between(&read("fuzz/Cargo.lock"), "name = \"cooper\"\n", "]\n");
    let known = ours.lines().filter_map(|line| line.split('"').nth(1));
    let known: BTreeSet<&str> = known.skip(1).collect();
    let missing: Vec<_> = wanted
        .difference(&known)
        .filter(|name| !name.is_empty())
        .collect();
    assert!(
        missing.is_empty(),
        "{missing:?}: `cargo metadata --manifest-path fuzz/Cargo.toml` renews fuzz/Cargo.lock"
    );
}

#[test]
fn the_table_has_no_cycle() {
    let mut below = BTreeSet::new();
    for (room, allowed) in TABLE {
        for other in *allowed {
            assert!(
                below.contains(other),
                "`{room}` imports `{other}`, which stands below it"
            );
        }
        below.insert(*room);
    }
}

#[test]
fn offences_are_found_with_file_and_line() {
    let file = |path: &str, text: &str| File {
        path: path.to_owned(),
        room: room_of(path).to_owned(),
        text: text.to_owned(),
        test: path.starts_with("tests/"),
    };
    let cases = [
        (
            "src/store/a.rs",
            "//! x\nuse crate::build::y;",
            "src/store/a.rs:2: `store` may not import `build`",
        ),
        (
            "src/store/a.rs",
            "//! x\nfn f() -> crate::registry::Client {}",
            "src/store/a.rs:2: `store` may not import `registry`",
        ),
        (
            "src/image/a.rs",
            "//! x\n#[cfg(test)]\nmod tests {\n    use crate::store::Store;\n}",
            "src/image/a.rs:4: `image` may not import `store`",
        ),
        (
            "src/build/a.rs",
            "//! x\nuse crate::{image, store};",
            "src/build/a.rs:2: one room a `use crate::` line, so that it can be read here",
        ),
        (
            "src/bin/a.rs",
            "//! x\nuse cooper::store;",
            "src/bin/a.rs:2: `bin` may not import `store`",
        ),
        (
            "src/odd/a.rs",
            "//! x",
            "src/odd/a.rs:1: `odd` is no room of the table",
        ),
        (
            "src/layer/a.rs",
            "//! x\nunsafe { f() }",
            "src/layer/a.rs:2: `unsafe`: unsafe code belongs to `sys`",
        ),
        (
            "src/layer/a.rs",
            "//! x\nprintln!();",
            "src/layer/a.rs:2: `println!`: only `cli` prints",
        ),
        (
            "src/layer/a.rs",
            "//! x\nstd::env::var_os(x)",
            "src/layer/a.rs:2: `env::var_os`: only `cli` reads the environment",
        ),
        (
            "src/cli/a.rs",
            "//! x\nprocess::exit(1)",
            "src/cli/a.rs:2: `process::exit`: only `cli` ends the process",
        ),
        (
            "src/store/a.rs",
            "//! x\nasync fn f() {}",
            "src/store/a.rs:2: `async`: only `registry` and `transfer` are async",
        ),
        (
            "tests/it/a.rs",
            "//! x\n#[ignore]\nfn f() {}",
            "tests/it/a.rs:2: a test that is ignored tests nothing",
        ),
        (
            "src/sys/a.rs",
            "use std::io;",
            "src/sys/a.rs:1: the file does not open with `//!`",
        ),
        (
            "src/registry/a.rs",
            "//! x\nrt.block_on(f)",
            "src/registry/a.rs:2: `block_on` belongs to `transfer`",
        ),
    ];
    for (path, text, want) in cases {
        assert_eq!(findings(&[file(path, text)]), [want], "{text}");
    }
    let long = format!("//! x\n{}", "\n".repeat(LONGEST));
    assert_eq!(findings(&[file("src/sys/a.rs", &long)]).len(), 1);
    for fine in [
        "//! x\nlet x = \"unsafe { println!() } crate::build\"; /* unsafe\nunsafe */ 'u'",
        "//! x\nlet x = r#\"unsafe \"unsafe \"#; b'\\''; fn f<'unsafe_>() {}",
        "//! crate::build::x and unsafe\nuse crate::image::x;\nuse super::y; // println!",
        "//! x\n#[cfg(test)]\nmod tests {\n    std::env::var(x);\n}",
        "//! x\nuse std::env::consts::ARCH;",
    ] {
        assert!(
            findings(&[file("src/layer/a.rs", fine)]).is_empty(),
            "{fine}"
        );
    }
}
