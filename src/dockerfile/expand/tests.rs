//! The rules of variable expansion, as tables.

use super::*;

const VARS: [(&str, &str); 8] = [
    ("A", "a"),
    ("EMPTY", ""),
    ("PATH_", "/usr/local/bin"),
    ("FILE", "x.tar.gz"),
    ("TWO", "a b"),
    ("STAR", "a*c?d\\e"),
    ("É", "accent"),
    ("LINES", "one\ntwo"),
];

fn vars(name: &str) -> Option<String> {
    VARS.iter()
        .find(|(key, _)| *key == name)
        .map(|(_, value)| (*value).to_owned())
}

fn word(text: &str) -> Result<String, String> {
    Expander::new('\\', &vars)
        .word(text)
        .map_err(|e| e.to_string())
}

fn words(text: &str) -> Vec<String> {
    Expander::new('\\', &vars).words(text).unwrap()
}

fn all(table: &[(&str, &str)]) {
    for (text, want) in table {
        assert_eq!(word(text).as_deref(), Ok(*want), "{text}");
    }
}

fn refused(table: &[(&str, &str)]) {
    for (text, want) in table {
        assert_eq!(word(text), Err((*want).to_owned()), "{text}");
    }
}

#[test]
fn names_are_letters_digits_and_underscores() {
    all(&[
        ("$A", "a"),
        ("${A}", "a"),
        ("$A.b", "a.b"),
        ("$Ab", ""),
        ("x${A}b", "xab"),
        ("$PATH_/x", "/usr/local/bin/x"),
        ("$É", "accent"),
        ("$UNSET", ""),
        ("$1", ""),
        ("$10x", "x"),
        ("$@$*$#$?$-$!$$", ""),
        ("$", "$"),
        ("a$", "a$"),
        ("$.", "$."),
        ("$(A)", "$(A)"),
        ("$((1+2))", "$((1+2))"),
    ]);
}

#[test]
fn choices_look_at_unset_and_empty() {
    all(&[
        ("${A:-w}", "a"),
        ("${A-w}", "a"),
        ("${EMPTY:-w}", "w"),
        ("${EMPTY-w}", ""),
        ("${NO:-w}", "w"),
        ("${NO-w}", "w"),
        ("${A:+w}", "w"),
        ("${EMPTY:+w}", ""),
        ("${EMPTY+w}", "w"),
        ("${NO+w}", ""),
        ("${A:?m}", "a"),
        ("${EMPTY?m}", ""),
        ("${NO:-${A}}", "a"),
        ("${NO:-${NO2:-$A-x}}", "a-x"),
        ("${NO:-\"a }\"}", "a }"),
        ("${NO:-\\}}", "}"),
        ("${NO:-}", ""),
    ]);
    refused(&[
        ("${NO?}", "NO: is not allowed to be unset"),
        ("${NO:?}", "NO: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${NO:?give ${A}}", "NO: give a"),
        ("${EMPTY:?oh no}", "EMPTY: oh no"),
    ]);
}

#[test]
fn prefixes_and_suffixes_are_cut() {
    all(&[
        ("${PATH_#*/}", "usr/local/bin"),
        ("${PATH_##*/}", "bin"),
        ("${PATH_%/*}", "/usr/local"),
        ("${PATH_%%/*}", ""),
        ("${FILE%.*}", "x.tar"),
        ("${FILE%%.*}", "x"),
        ("${FILE#x?}", "tar.gz"),
        ("${FILE#nope}", "x.tar.gz"),
        ("${FILE%$NO}", "x.tar.gz"),
        ("${FILE%.${NO:-gz}}", "x.tar"),
        ("${STAR#a\\*}", "c?d\\e"),
        ("${STAR%\\\\e}", "a*c?d"),
        ("${STAR%\\?*}", "a*c"),
        ("${NO#x}", ""),
        ("${FILE#[x]}", "x.tar.gz"),
        ("${LINES%%*}", "one\n"),
        ("${LINES%?wo}", "one\n"),
    ]);
    refused(&[(
        "${A#\\x}",
        "invalid pattern (\\x) in substitution: invalid escape '\\x'",
    )]);
}

#[test]
fn matches_are_replaced() {
    all(&[
        ("${FILE/./-}", "x-tar.gz"),
        ("${FILE//./-}", "x-tar-gz"),
        ("${PATH_//\\//-}", "-usr-local-bin"),
        ("${FILE/*/y}", "y"),
        ("${FILE//?/y}", "yyyyyyyy"),
        ("${FILE/nope/y}", "x.tar.gz"),
        ("${FILE/.tar/}", "x.gz"),
        ("${FILE/$A/${A}${A}}", "x.taar.gz"),
        ("${A///-}", "-a-"),
        ("${A//*/y}", "y"),
    ]);
    refused(&[
        ("${FILE/.tar}", "syntax error: missing '/' in ${}"),
        ("${FILE/.tar/", "syntax error: missing '}'"),
    ]);
}

#[test]
fn broken_substitutions_are_refused() {
    refused(&[
        ("${}", "syntax error: bad substitution"),
        ("${:-x}", "syntax error: bad substitution"),
        ("${{A}}", "syntax error: bad substitution"),
        ("${", "syntax error: missing '}'"),
        ("${A", "syntax error: missing '}'"),
        ("${A:", "syntax error: missing '}'"),
        ("${A:-x", "syntax error: missing '}'"),
        ("${A:-\"x", "syntax error: missing '}'"),
        ("${A:x}", "unsupported modifier (:x) in substitution"),
        ("${A:#x}", "unsupported modifier (:#) in substitution"),
        ("${A!}", "unsupported modifier (!) in substitution"),
        (
            "'a",
            "unexpected end of statement while looking for matching single-quote",
        ),
        (
            "\"a",
            "unexpected end of statement while looking for matching double-quote",
        ),
        (
            "\"a\\",
            "unexpected end of statement while looking for matching double-quote",
        ),
    ]);
}

#[test]
fn quotes_and_escapes_follow_their_rules() {
    all(&[
        ("'$A \\x \"'", "$A \\x \""),
        ("\"$A\"", "a"),
        ("\"\\$A \\\" \\\\ \\x\"", "$A \" \\ \\x"),
        ("\"'\"", "'"),
        ("\\$A", "$A"),
        ("\\${A}", "${A}"),
        ("a\\ b", "a b"),
        ("\\x", "x"),
        ("a\\", "a"),
        ("a'b'\"c\"", "abc"),
        ("''", ""),
    ]);
}

#[test]
fn another_escape_character_frees_the_backslash() {
    let mut expander = Expander::new('`', &vars);
    assert_eq!(expander.word("C:\\x\\`$A").unwrap(), "C:\\x\\$A");
    assert_eq!(expander.word("\"`\"\\\"").unwrap(), "\"\\");
}

#[test]
fn words_are_cut_after_expansion() {
    assert_eq!(words("80 $TWO"), ["80", "a", "b"]);
    assert_eq!(words("x$TWO.y"), ["xa", "b.y"]);
    assert_eq!(words("\"$TWO\" 'c d' e\\ f"), ["a b", "c d", "e f"]);
    assert_eq!(words("$EMPTY"), Vec::<String>::new());
    assert_eq!(words("  a  "), ["a"]);
    assert_eq!(words("${NO:-a b}"), ["a", "b"]);
}

#[test]
fn heredoc_bodies_keep_quotes() {
    let mut expander = Expander::new('`', &vars);
    let body = "\"$A\" '${A}' \\$A \\\\ `\n\\\nend";
    assert_eq!(expander.heredoc(body).unwrap(), "\"a\" 'a' $A \\ `\n\nend");
}

#[test]
fn the_names_met_are_kept() {
    let mut expander = Expander::new('\\', &vars);
    expander
        .word("$A ${NO} ${NO2:-$EMPTY} ${NO3#x} '$NO4'")
        .unwrap();
    let names = expander.take_names();
    let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
    assert_eq!(list(&names.used), ["A", "EMPTY"]);
    assert_eq!(list(&names.unset), ["NO", "NO3"]);
    assert_eq!(list(&names.provided_for), ["NO2"]);
    assert_eq!(expander.names(), &Names::default());
}

#[test]
fn deep_nesting_ends_in_an_error_and_not_in_the_stack() {
    let text = format!("{}x{}", "${NO:-".repeat(5000), "}".repeat(5000));
    assert_eq!(
        word(&text),
        Err("substitutions are nested deeper than 100 levels".into())
    );
}

/// As docker shows the names of RUN steps.
#[test]
fn a_text_for_a_shell_keeps_its_quotes_and_unknown_variables() {
    for (text, want) in [
        (r#"echo "$A" '$A' $U ${A:-x}"#, r#"echo "a" '$A' $U a"#),
        (
            "${U:-dflt} ${U#x} $(pwd) $$ $1",
            "${U:-dflt} ${U#x} $(pwd) $$ $1",
        ),
        (r#"\$A "a\b" c\d `x`"#, r#"$A "a\b" cd `x`"#),
        (r#""in '$A'" $TWO "#, r#""in 'a'" a b "#),
        ("${A:+$U}", "$U"),
    ] {
        let shown = Expander::new('\\', &vars).shown(text).unwrap();
        assert_eq!(shown, want, "{text}");
    }
    assert!(Expander::new('\\', &vars).shown("it's").is_err());
}
