//! Tests over whole files: golden structures, another parser, arbitrary bytes.

use super::super::{Expander, Glob, Ignore, Kind, PathGlob, Source, Span};
use super::{parse, parse_instruction};
use proptest::prelude::*;
use std::path::{Path, PathBuf};

/// The files of the battery: documented syntax that parsers get wrong.
fn files() -> Vec<(String, Vec<u8>)> {
    let dir = battery();
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.contains(".snap"))
        .map(|name| (name.clone(), std::fs::read(dir.join(name)).unwrap()))
        .collect();
    files.sort();
    assert_eq!(files.len(), 28);
    files
}

fn battery() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dockerfile/battery")
}

#[test]
fn the_battery_parses_to_its_golden_structure() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(battery());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for (name, bytes) in files() {
            let source = Source::new(name.clone(), bytes);
            let file = parse(&source).unwrap_or_else(|e| panic!("{name}: {e}"));
            insta::assert_debug_snapshot!(name, file);
        }
    });
}

/// Texts that two parsers of one language have to cut alike.
const COMMON: &str = "\
# syntax=docker/dockerfile:1
ARG V=1
FROM --platform=linux/amd64 alpine:$V AS base
ENV A=1 \\
    # between
    B=2
RUN --network=none echo a \\
  && echo b
COPY --chown=1:2 a b /d/
ADD [\"x y\", \"/z\"]
CMD [\"a\", \"b\"]

FROM base
ENTRYPOINT exec x
";

#[test]
fn another_parser_sees_the_same_instructions_in_the_same_places() {
    let mut compared = 0;
    let mut texts: Vec<_> = files()
        .into_iter()
        .filter_map(|(_, bytes)| String::from_utf8(bytes).ok())
        .collect();
    texts.push(COMMON.to_owned());
    for text in texts {
        // It counts offsets from behind a byte order mark.
        let text = text.trim_start_matches('\u{feff}').to_owned();
        // What it refuses, and the heredocs it takes for instructions, prove nothing.
        let Ok(theirs) = parse_dockerfile::parse(&text) else {
            continue;
        };
        if text.contains("<<") {
            continue;
        }
        let theirs: Vec<String> = theirs.instructions.iter().map(keyword).collect();
        assert_eq!(ours(&text), theirs, "{text}");
        compared += 1;
    }
    assert!(compared >= 15, "only {compared} files could be compared");
}

/// Lists keyword and line of every instruction.
fn ours(text: &str) -> Vec<String> {
    let source = Source::new("Dockerfile", text);
    let file = parse(&source).unwrap();
    let mut list: Vec<(Span, String)> = Vec::new();
    list.extend(
        file.args
            .iter()
            .map(|arg| (arg.origin.span, "ARG".to_owned())),
    );
    for stage in &file.stages {
        list.push((stage.origin.span, "FROM".to_owned()));
        let inner = stage.instructions.iter();
        list.extend(inner.map(|i| (i.origin.span, i.kind.keyword().to_owned())));
    }
    list.sort();
    list.into_iter()
        .map(|(span, keyword)| format!("{keyword} {}", span.start))
        .collect()
}

fn keyword(instruction: &parse_dockerfile::Instruction<'_>) -> String {
    use parse_dockerfile::Instruction as I;
    let (word, span) = match instruction {
        I::Add(i) => ("ADD", &i.add.span),
        I::Arg(i) => ("ARG", &i.arg.span),
        I::Cmd(i) => ("CMD", &i.cmd.span),
        I::Copy(i) => ("COPY", &i.copy.span),
        I::Entrypoint(i) => ("ENTRYPOINT", &i.entrypoint.span),
        I::Env(i) => ("ENV", &i.env.span),
        I::Expose(i) => ("EXPOSE", &i.expose.span),
        I::From(i) => ("FROM", &i.from.span),
        I::Healthcheck(i) => ("HEALTHCHECK", &i.healthcheck.span),
        I::Label(i) => ("LABEL", &i.label.span),
        I::Maintainer(i) => ("MAINTAINER", &i.maintainer.span),
        I::Onbuild(i) => ("ONBUILD", &i.onbuild.span),
        I::Run(i) => ("RUN", &i.run.span),
        I::Shell(i) => ("SHELL", &i.shell.span),
        I::Stopsignal(i) => ("STOPSIGNAL", &i.stopsignal.span),
        I::User(i) => ("USER", &i.user.span),
        I::Volume(i) => ("VOLUME", &i.volume.span),
        I::Workdir(i) => ("WORKDIR", &i.workdir.span),
        other => panic!("an instruction this test does not know: {other:?}"),
    };
    format!("{word} {}", span.start)
}

/// Pieces that mean something to the parser, to reach deeper than random bytes do.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "FROM a\n",
            "FROM a AS b\n",
            "RUN ",
            "COPY ",
            "ADD ",
            "ENV ",
            "ARG ",
            "LABEL ",
            "ONBUILD ",
            "HEALTHCHECK ",
            "CMD ",
            "SHELL ",
            "VOLUME ",
            "EXPOSE ",
            "USER ",
            "\n",
            "\r\n",
            "\\\n",
            "`\n",
            "# c\n",
            "# escape=`\n",
            "# check=",
            "--mount=",
            "type=bind,",
            "--from=",
            "--link",
            "=",
            "\"",
            "'",
            "\\",
            "[",
            "]",
            "[\"a\"]",
            ",",
            "<<EOF",
            "<<-",
            "EOF\n",
            "\tEOF\n",
            "$",
            "${",
            "}",
            ":-",
            "#",
            "%",
            "/",
            "*",
            "?",
            " ",
            "\t",
            "é",
            "\u{feff}",
            "\u{85}",
            "CMD",
            "NONE",
            "--interval=1s ",
            "a",
            "0",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in pieces()) {
        let source = Source::new("Dockerfile", bytes);
        let end = source.text().len();
        match parse(&source) {
            Err(e) => {
                prop_assert!(e.span.end <= end);
                prop_assert!(e.line <= e.last_line && e.last_line <= source.line_count());
                let _ = e.to_string();
            }
            Ok(file) => {
                for warning in &file.warnings {
                    prop_assert!(warning.span.end <= end && warning.line <= source.line_count());
                }
                for stage in &file.stages {
                    for i in &stage.instructions {
                        prop_assert!(i.origin.span.end <= end);
                        let keyword = source.slice(i.origin.keyword.span);
                        prop_assert!(keyword.eq_ignore_ascii_case(i.kind.keyword()));
                        if let Kind::Run(run) = &i.kind {
                            let _ = run.script();
                        }
                    }
                }
            }
        }
        let _ = parse_instruction(&source);
    }

    #[test]
    fn no_text_makes_the_expander_panic(bytes in pieces()) {
        let text = String::from_utf8_lossy(&bytes);
        let vars = |name: &str| (name.len() == 1).then(|| "a*b/c d".to_owned());
        for escape in ['\\', '`'] {
            let mut expander = Expander::new(escape, &vars);
            let word = expander.word(&text);
            let words = expander.words(&text);
            prop_assert_eq!(word.is_ok(), words.is_ok());
            let _ = expander.heredoc(&text);
        }
    }

    #[test]
    fn no_text_makes_the_patterns_panic(bytes in pieces(), path in pieces()) {
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(ignore) = Ignore::parse(&text) {
            let verdict = ignore.matches(&path);
            if ignore.can_prune(&path) {
                prop_assert!(verdict.ignored);
                let below = [path.as_slice(), b"/x/y"].concat();
                prop_assert!(ignore.matches(&below).ignored);
            }
        }
        if let Ok(glob) = Glob::parse(&text) {
            let matches = glob.matches(&path);
            if let Some(name) = glob.literal() {
                prop_assert_eq!(matches, name.as_bytes() == path.as_slice());
            }
        }
        let _ = PathGlob::parse(&text, true);
    }
}
