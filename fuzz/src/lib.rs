//! What the fuzz targets do with their input, and what must hold of the answer.
//!
//! `tests/seeds.rs` runs the same functions over `fuzz/seeds`, where every input that once broke
//! something is kept.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

use cooper::dockerfile::{self, Expander, Ignore, Kind, Source, Span, parse_reporting};
use cooper::layer::{EncodeOptions, TarReader, TreePath, encode, index_tar};

/// The parser: any bytes give a Dockerfile or an error, and every span lies in the text.
pub fn parser(data: &[u8]) {
    let source = Source::new("Dockerfile", data);
    let inside = |span: Span| {
        assert!(span.start <= span.end && span.end <= source.text().len());
        assert!(source.text().get(span.start..span.end).is_some());
    };
    let mut warnings = Vec::new();
    let parsed = parse_reporting(&source, &mut warnings);
    for warning in &warnings {
        inside(warning.span);
        assert!(warning.line <= warning.last_line && warning.last_line <= source.line_count());
    }
    match parsed {
        Ok(file) => {
            for stage in &file.stages {
                inside(stage.origin.span);
                for instruction in &stage.instructions {
                    inside(instruction.origin.span);
                    instruction_text(&instruction.kind, file.directives.escape);
                }
            }
        }
        Err(error) => {
            inside(error.span);
            assert!(error.line <= error.last_line);
            assert!(!error.to_string().is_empty());
        }
    }
    // A trigger of an image is read by itself.
    if let Err(error) = dockerfile::parse_instruction(&source) {
        inside(error.span);
    }
}

/// What is read again when an instruction is evaluated.
fn instruction_text(kind: &Kind, escape: char) {
    let look_up = |name: &str| Some(name.to_lowercase());
    let mut expander = Expander::new(escape, &look_up);
    match kind {
        Kind::Run(run) => {
            let _ = run.script();
            for mount in &run.mounts {
                let _ = mount.resolve(&mut |text| expander.word(text));
            }
        }
        Kind::Expose(words) => {
            for word in words {
                let _ = dockerfile::port_specs(&word.text);
            }
        }
        Kind::Env(pairs) | Kind::Label(pairs) => {
            for pair in &pairs.pairs {
                let _ = expander.word(&pair.value.text);
            }
        }
        _ => {}
    }
}

/// The word expander: the first byte chooses the escape character, the rest is the word.
pub fn expand(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let escape = if first % 2 == 0 { '\\' } else { '`' };
    let text = String::from_utf8_lossy(rest);
    let look_up = |name: &str| match name {
        "a" => Some(String::new()),
        "unset" => None,
        name => Some(format!("{name} *é\\")),
    };
    let mut expander = Expander::new(escape, &look_up);
    let word = expander.word(&text);
    let words = expander.words(&text);
    assert_eq!(word.is_ok(), words.is_ok(), "both cut at the same faults");
    let _ = expander.heredoc(&text);
    if let Ok(words) = words {
        assert!(words.iter().all(|word| word.len() <= 1 << 24));
    }
}

/// The ignore file: the first line is a path, the rest are patterns. A directory that may be
/// skipped has nothing below it that shows.
pub fn ignore(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (path, patterns) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(ignore) = Ignore::parse(patterns) else {
        return;
    };
    let path = TreePath::clean(path.as_bytes()).unwrap_or_default();
    let verdict = ignore.matches(path.as_bytes());
    assert!(!verdict.ignored || verdict.by.is_some());
    let bytes = path.as_bytes();
    for at in (0..bytes.len()).filter(|at| bytes[*at] == b'/') {
        if ignore.can_prune(&bytes[..at]) {
            assert!(verdict.ignored, "below {at} nothing shows");
        }
    }
}

/// The tar reader: any bytes give entries or an error, and what an index says of an archive can be
/// written as an archive that reads without fault.
pub fn tar(data: &[u8]) {
    let mut reader = TarReader::new(data);
    let mut entries = 0;
    while let Ok(Some(entry)) = reader.next_entry() {
        assert!(entry.path.parts().all(|part| part != b".." && part != b"."));
        let mut body = Vec::new();
        if (&mut reader).take(1 << 16).read_to_end(&mut body).is_err() {
            break;
        }
        entries += 1;
        assert!(entries <= data.len() / 512, "an entry has a header");
    }
    let Ok(changes) = index_tar(Arc::new(in_memory(data))) else {
        return;
    };
    // A few bytes can describe a file of holes that takes hours to write.
    if changes.size() > 1 << 20 {
        return;
    }
    let mut again = Vec::new();
    encode(&changes, &EncodeOptions::default(), &mut again).expect("what was indexed is written");
    let mut reader = TarReader::new(again.as_slice());
    while let Some(entry) = reader.next_entry().expect("what was written is read") {
        assert!(entry.path.parts().all(|part| part != b".."));
    }
}

fn in_memory(data: &[u8]) -> File {
    let fd = rustix::fs::memfd_create("tar", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = File::from(fd.expect("a file in memory"));
    file.write_all(data).expect("memory to write to");
    file
}
