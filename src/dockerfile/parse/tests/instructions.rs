//! One instruction each: what it takes and what it refuses.

use super::super::super::Source;
use super::super::super::instruction::*;
use super::super::parse_instruction;
use super::{fault, file, one, pairs};

#[test]
fn stage_names_are_lower_cased_and_checked() {
    let f = file("from a as Base\nFROM --platform=$P b");
    assert_eq!(f.stages[0].name(), Some("base"));
    assert_eq!(f.stages[0].from.name.as_ref().unwrap().word.text, "Base");
    assert_eq!(f.stages[1].from.platform.as_ref().unwrap().text, "$P");
    for name in ["1a", "a/b", "-a", "é"] {
        let want = format!(
            "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
        );
        assert_eq!(fault(&format!("FROM a AS {name}")), want);
    }
    assert_eq!(file("FROM a AS b-c_d.9").stages[0].name(), Some("b-c_d.9"));
}

#[test]
fn global_args_stand_before_the_first_from() {
    let f = file("ARG A=1 B\nARG C\nFROM $A\nARG D");
    assert_eq!(f.args.len(), 2);
    let pairs = &f.args[0].arg.pairs;
    assert_eq!(pairs[0].default.as_ref().unwrap().text, "1");
    assert_eq!(
        (pairs[1].name.text.as_str(), &pairs[1].default),
        ("B", &None)
    );
    assert_eq!(f.stages[0].instructions.len(), 1);
}

#[test]
fn arg_tells_no_default_from_an_empty_one() {
    let Kind::Arg(arg) = one("ARG A= B C='x y' D=\"\"") else {
        panic!()
    };
    let got: Vec<_> = arg
        .pairs
        .iter()
        .map(|p| {
            (
                p.name.text.as_str(),
                p.default.as_ref().map(|d| d.text.as_str()),
            )
        })
        .collect();
    assert_eq!(
        got,
        [
            ("A", Some("")),
            ("B", None),
            ("C", Some("'x y'")),
            ("D", Some("\"\""))
        ]
    );
}

#[test]
fn env_and_label_have_two_forms() {
    let want = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    let line = "ENV A=1 B=\"two words\" C=three\\ words D='q $x' E=a=b F=";
    let list = [
        ("A", "1"),
        ("B", "\"two words\""),
        ("C", "three\\ words"),
        ("D", "'q $x'"),
        ("E", "a=b"),
        ("F", ""),
    ];
    assert_eq!(pairs(line), want(&list));
    assert_eq!(
        pairs("ENV OLD style  value='x'"),
        want(&[("OLD", "style  value='x'")])
    );
    assert_eq!(pairs("ENV A \\\n  b"), want(&[("A", "b")]));
    assert_eq!(
        pairs("LABEL a=b \"c d\"=\"e f\""),
        want(&[("a", "b"), ("\"c d\"", "\"e f\"")])
    );
    assert_eq!(pairs("ENV A=a\\\n   B=b"), want(&[("A", "a"), ("B", "b")]));
    let hash = "Syntax error - can't find = in \"#\". Must be of the form: name=value";
    assert_eq!(fault("ENV A=b # c=d"), hash);
}

#[test]
fn expose_words_come_sorted() {
    let Kind::Expose(words) = one("EXPOSE 90 80/tcp $X 81-85/udp") else {
        panic!()
    };
    let words: Vec<_> = words.iter().map(|w| w.text.as_str()).collect();
    assert_eq!(words, ["$X", "80/tcp", "81-85/udp", "90"]);
}

#[test]
fn copy_refuses_what_only_add_takes() {
    assert_eq!(
        fault("COPY https://h/x /d"),
        "source can't be a URL for COPY"
    );
    assert_eq!(
        fault("COPY git@h:a/b.git /d"),
        "source can't be a git ref for COPY"
    );
    assert_eq!(
        fault("COPY --from=$X a b"),
        "'from' doesn't support variable expansion, define alias stage instead"
    );
    assert!(matches!(one("ADD https://h/x /d"), Kind::Add(_)));
}

#[test]
fn checksum_needs_one_remote_source() {
    assert_eq!(
        fault("ADD --checksum=sha256:0 a b /d"),
        "checksum can't be specified for multiple sources"
    );
    assert_eq!(
        fault("ADD --checksum=sha256:0 a /d"),
        "checksum requires HTTP(S) or Git sources"
    );
    assert!(matches!(
        one("ADD --checksum=sha256:0 $URL /d"),
        Kind::Add(_)
    ));
}

#[test]
fn add_flags_tell_absent_from_false() {
    let Kind::Add(add) = one("ADD --unpack=false --keep-git-dir a /d") else {
        panic!()
    };
    assert_eq!(
        (add.unpack, add.keep_git_dir, add.link),
        (Some(false), Some(true), false)
    );
}

#[test]
fn health_checks_are_read() {
    use std::time::Duration;
    let line = "HEALTHCHECK --interval=5s --timeout=1m30s --start-period=0 --retries=3 CMD [\"a\"]";
    let Kind::Healthcheck(Healthcheck::Check(check)) = one(line) else {
        panic!()
    };
    assert_eq!(check.interval, Some(Duration::from_secs(5)));
    assert_eq!(check.timeout, Some(Duration::from_secs(90)));
    assert_eq!((check.start_period, check.retries), (None, Some(3)));
    assert_eq!(check.command, Command::Exec(vec!["a".into()]));
    assert!(matches!(
        one("HEALTHCHECK none"),
        Kind::Healthcheck(Healthcheck::None)
    ));
    let Kind::Healthcheck(Healthcheck::Check(check)) = one("healthcheck cmd a b") else {
        panic!()
    };
    assert!(matches!(check.command, Command::Shell(text) if text.text == "a b"));
    let table = [
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        (
            "HEALTHCHECK CMD []",
            "Missing command after HEALTHCHECK CMD",
        ),
        ("HEALTHCHECK NONE a", "HEALTHCHECK NONE takes no arguments"),
        (
            "HEALTHCHECK foo a",
            "Unknown type \"FOO\" in HEALTHCHECK (try CMD)",
        ),
        (
            "HEALTHCHECK --interval=1us CMD a",
            "Interval \"interval\" cannot be less than 1ms",
        ),
        (
            "HEALTHCHECK --interval=5 CMD a",
            "invalid duration \"5\" for --interval",
        ),
        (
            "HEALTHCHECK --retries=-1 CMD a",
            "--retries cannot be negative (-1)",
        ),
        (
            "HEALTHCHECK --retries=x CMD a",
            "invalid value \"x\" for --retries",
        ),
    ];
    for (line, want) in table {
        assert_eq!(fault(line), want, "{line}");
    }
}

#[test]
fn onbuild_is_stored_as_written() {
    let onbuild = |line: &str| match one(line) {
        Kind::Onbuild(onbuild) => onbuild,
        other => panic!("{other:?}"),
    };
    let o = onbuild("onbuild  run --mount=type=cache,target=/x  echo");
    assert_eq!(o.text, "run --mount=type=cache,target=/x  echo");
    assert!(matches!(*o.trigger.unwrap(), Kind::Run(run) if run.mounts.len() == 1));
    let o = onbuild("ONBUILD COPY <<EOF /x\na\nEOF");
    assert_eq!(o.text, "COPY <<EOF /x\na\nEOF");
    assert!(matches!(*o.trigger.unwrap(), Kind::Copy(_)));
    let o = onbuild("ONBUILD RUN --nope a");
    assert_eq!(
        o.trigger.unwrap_err().kind.to_string(),
        "unknown flag: --nope"
    );
    let chain = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed";
    assert_eq!(fault("ONBUILD onbuild RUN a"), chain);
    assert_eq!(
        fault("ONBUILD from a"),
        "FROM isn't allowed as an ONBUILD trigger"
    );
    assert_eq!(
        fault("ONBUILD MAINTAINER a"),
        "MAINTAINER isn't allowed as an ONBUILD trigger"
    );
}

#[test]
fn stored_triggers_are_single_instructions() {
    let trigger = |text: &str| parse_instruction(&Source::new("trigger", text));
    let i = trigger("COPY <<EOF /x\na\nEOF").unwrap();
    assert!(matches!(i.kind, Kind::Copy(_)));
    let i = trigger("RUN a \\\n b").unwrap();
    assert_eq!(i.origin.original, "RUN a  b");
    assert!(trigger("RUN a\nRUN b").is_err());
    assert!(trigger("").is_err());
    assert!(trigger("FROM a").is_err());
    assert!(trigger("ONBUILD RUN a").is_err());
    assert!(trigger("MAINTAINER a").is_err());
}
