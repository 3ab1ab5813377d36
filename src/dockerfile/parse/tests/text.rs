//! The text as a whole: lines, comments, directives, stages.

use super::super::super::Source;
use super::super::{parse, parse_reporting};
use super::{fails, file, shell};

#[test]
fn lines_are_joined_and_comments_between_them_go() {
    let table = [
        ("RUN a \\\n  && b", "a   && b"),
        ("RUN a \\  \t\n b", "a  b"),
        ("RUN a \\\n# c\n  # d\n b", "a  b"),
        ("RUN a \\\n\n b", "a  b"),
        ("RUN a \\\r\n b\r", "a  b"),
        ("RUN a \\\\", "a \\\\"),
        ("RUN a # b", "a # b"),
        ("RUN \\\n\\\n  a", "a"),
        ("\\\nRUN a", "a"),
        ("  RUN   a  ", "a"),
        ("RUN a \\", "a"),
    ];
    for (line, want) in table {
        assert_eq!(shell(line), want, "{line}");
    }
}

#[test]
fn a_byte_order_mark_and_crlf_are_accepted() {
    let file = file("\u{feff}FROM a\r\nRUN b\r\n");
    assert_eq!(file.stages[0].from.base.text, "a");
    assert_eq!(file.stages[0].origin.line, 1);
}

#[test]
fn files_without_stages_say_what_is_missing() {
    assert_eq!(fails("").kind.to_string(), "the Dockerfile cannot be empty");
    assert_eq!(
        fails("# only\n\n").kind.to_string(),
        "file with no instructions"
    );
    assert_eq!(
        fails("ARG A").kind.to_string(),
        "dockerfile contains no stages to build"
    );
    let e = fails("ARG A\nRUN x");
    assert!(
        e.to_string()
            .starts_with("dockerfile parse error on line 2: no build stage in current context")
    );
}

#[test]
fn a_line_may_have_65535_bytes() {
    let line = |length: usize| format!("FROM a\nRUN {}\n", "x".repeat(length - 4));
    assert_eq!(file(&line(65535)).stages.len(), 1);
    let e = fails(&line(65536));
    assert_eq!(
        e.kind.to_string(),
        "dockerfile line greater than max allowed size of 65535"
    );
    assert_eq!(e.line, 2);
}

#[test]
fn bytes_that_are_not_utf8_pass_in_comments_only() {
    let source = Source::new(
        "Dockerfile",
        b"# caf\xe9\nFROM a\nRUN a \\\n# \xe9\n b".to_vec(),
    );
    assert!(parse(&source).is_ok());
    let source = Source::new("Dockerfile", b"FROM a\nRUN caf\xe9".to_vec());
    assert_eq!(
        parse(&source).unwrap_err().kind.to_string(),
        "the text of `RUN` is not UTF-8"
    );
}

#[test]
fn comments_above_an_instruction_describe_it() {
    let file =
        file("# lost\n\n# base the base\n# more\nFROM a AS base\n#\n# B says b\nARG A B=1\n");
    let stage = &file.stages[0];
    assert_eq!(stage.origin.comments, ["base the base", "more"]);
    assert_eq!(stage.origin.description("base"), Some("the base"));
    assert_eq!(
        stage.instructions[0].origin.description("B"),
        Some("says b")
    );
    assert_eq!(stage.instructions[0].origin.description("A"), None);
    let file = self::file("# lost\n#\n# kept\nFROM a");
    assert_eq!(file.stages[0].origin.comments, ["kept"]);
}

#[test]
fn directives_count_only_at_the_very_top() {
    let escape = |text: &str| file(text).directives.escape;
    assert_eq!(escape("# escape=`\nFROM a"), '`');
    assert_eq!(escape("#ESCAPE = ` \nFROM a"), '`');
    assert_eq!(escape("# syntax=x\n# escape=`\nFROM a"), '`');
    assert_eq!(escape("# hello\n# escape=`\nFROM a"), '\\');
    assert_eq!(escape("# unknown=x\n# escape=`\nFROM a"), '\\');
    assert_eq!(escape("\n# escape=`\nFROM a"), '\\');
    assert_eq!(escape("FROM a\n# escape=`"), '\\');
    // No line of them is continued.
    assert_eq!(escape("# syntax=x \\\n# escape=`\nFROM a"), '`');
    let twice = fails("# escape=`\n# escape=`\nFROM a");
    assert_eq!(
        twice.to_string(),
        "dockerfile parse error on line 2: only one escape parser directive can be used"
    );
    let wrong = fails("# escape=x\nFROM a").kind.to_string();
    assert_eq!(wrong, "invalid escape token 'x' does not match ` or \\");
}

#[test]
fn a_directive_is_no_comment_of_the_first_instruction() {
    let file = file("# syntax=docker/dockerfile:1 extra words\n# about\nFROM a");
    let syntax = file.directives.syntax.unwrap();
    assert_eq!(
        (syntax.reference.as_str(), syntax.rest.as_str()),
        ("docker/dockerfile:1", "extra words")
    );
    assert_eq!(file.stages[0].origin.comments, ["about"]);
}

#[test]
fn check_options_are_read() {
    let check = |text: &str| file(&format!("# check={text}\nFROM a")).directives.check;
    let options = check("skip=A,B;error=true;experimental=all rest");
    assert!(options.skip.contains("B") && !options.skip.contains("b") && options.error);
    assert!(options.experimental.contains("X"));
    assert!(check("skip=all").skip.contains("Any"));
    // There are three parts at most: what follows belongs to the third.
    let options = check("skip=A;error=false;experimental=B;skip=C");
    assert!(options.skip.contains("A") && !options.skip.contains("C"));
    assert!(options.experimental.contains("B;skip=C"));
    for wrong in ["nonsense", "a=b", "error=maybe"] {
        let e = fails(&format!("# check={wrong}\nFROM a"));
        assert!(
            e.kind.to_string().starts_with("invalid check option"),
            "{e}"
        );
    }
}

#[test]
fn the_escape_directive_changes_continuation_and_frees_the_backslash() {
    let file = file("# escape=`\nFROM a\nRUN a `\n b\nWORKDIR C:\\\\x\\\n");
    let kinds: Vec<_> = file.stages[0]
        .instructions
        .iter()
        .map(|i| i.origin.original.clone())
        .collect();
    assert_eq!(kinds, ["RUN a  b", "WORKDIR C:\\\\x\\"]);
}

#[test]
fn lint_rules_of_the_text_are_reported_also_before_an_error() {
    let mut warnings = Vec::new();
    let text = "FROM a AS Base\nRUN x \\\n\n y\nENV a b\nRNU z";
    let source = Source::new("Dockerfile", text);
    assert!(parse_reporting(&source, &mut warnings).is_err());
    let found: Vec<_> = warnings.iter().map(|w| (w.rule.name(), w.line)).collect();
    assert_eq!(
        found,
        [
            ("StageNameCasing", 1),
            ("NoEmptyContinuation", 4),
            ("LegacyKeyValueFormat", 5)
        ]
    );
}
