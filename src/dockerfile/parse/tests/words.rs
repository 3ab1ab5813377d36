//! How a line is cut: its first word, flags, JSON form, numbers of arguments.

use super::super::super::Source;
use super::super::super::instruction::*;
use super::super::parse;
use super::{copy, fails, fault, file, one, shell, sources};

#[test]
fn unknown_words_get_a_suggestion_in_the_typed_case() {
    assert_eq!(
        fault("RNU x"),
        "unknown instruction: RNU (did you mean RUN?)"
    );
    assert_eq!(
        fault("cpy a b"),
        "unknown instruction: cpy (did you mean copy?)"
    );
    assert_eq!(fault("FOOBAR x"), "unknown instruction: FOOBAR");
    let e = fails("FORM a");
    assert_eq!(
        e.to_string(),
        "dockerfile parse error on line 1: unknown instruction: FORM (did you mean FROM?)"
    );
}

#[test]
fn flags_are_checked() {
    let table = [
        (
            "COPY --form=x a b",
            "unknown flag: --form (did you mean from?)",
        ),
        (
            "COPY --from=x --from=y a b",
            "duplicate flag specified: --from",
        ),
        ("COPY --from a b", "missing a value on flag: --from"),
        ("COPY --link= a b", "missing a value on flag: --link"),
        (
            "COPY --link=maybe a b",
            "expecting boolean value for flag --link, not: maybe",
        ),
        ("ADD --from=x a b", "unknown flag: --from"),
        ("COPY --checksum=x a b", "unknown flag: --checksum"),
        ("ENV --x a=b", "unknown flag: --x"),
        ("LABEL --x a=b", "unknown flag: --x"),
        ("EXPOSE --x 80", "unknown flag: --x"),
        ("USER --x a", "unknown flag: --x"),
        ("VOLUME --x /a", "unknown flag: --x"),
        ("WORKDIR --x /a", "unknown flag: --x"),
        ("CMD --x a", "unknown flag: --x"),
        ("ENTRYPOINT --x a", "unknown flag: --x"),
        ("SHELL --x [\"a\"]", "unknown flag: --x"),
        ("ONBUILD --x RUN a", "unknown flag: --x"),
        ("MAINTAINER --x a", "unknown flag: --x"),
        (
            "RUN --network=hots a",
            "invalid network mode \"hots\" (did you mean host?)",
        ),
        ("RUN --security=none a", "security \"none\" is not valid"),
    ];
    for (line, want) in table {
        assert_eq!(fault(line), want, "{line}");
    }
}

#[test]
fn arg_and_stopsignal_ignore_flags() {
    assert!(matches!(one("ARG --x A"), Kind::Arg(_)));
    assert!(matches!(one("STOPSIGNAL --x 9"), Kind::StopSignal(w) if w.text == "9"));
}

#[test]
fn flags_know_quotes_and_end_at_a_bare_double_dash() {
    let c = copy("COPY --from='a b' --chown=\"1:2\" --chmod=\\6\\4\\4 --link -- --a b /d");
    let text = |word: Option<super::super::Word>| word.map(|word| word.text);
    assert_eq!(text(c.from.clone()).as_deref(), Some("a b"));
    assert_eq!(text(c.chown.clone()).as_deref(), Some("1:2"));
    assert_eq!(text(c.chmod.clone()).as_deref(), Some("644"));
    assert!(c.link);
    assert_eq!(sources(&c), ["--a", "b"]);
    assert_eq!(shell("RUN --network=none -- --x"), "--x");
    assert_eq!(shell("RUN -x --network=none"), "-x --network=none");
}

#[test]
fn json_form_is_taken_only_when_all_of_it_parses() {
    let exec = |line: &str| match one(line) {
        Kind::Cmd(Command::Exec(args)) => args,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        exec("CMD [\"a\", \"b\\\"c\", \"d\\u00e9\"]"),
        ["a", "b\"c", "dé"]
    );
    assert_eq!(exec("CMD []"), Vec::<String>::new());
    assert_eq!(exec("CMD [ \\\n \"a\" ]"), ["a"]);
    for text in [
        "[ 'a' ]",
        "[ \"$X\" = 1 ] && echo",
        "[\"a\",]",
        "[\"a\"] b",
        "{\"a\":1}",
    ] {
        let Kind::Cmd(Command::Shell(word)) = one(&format!("CMD {text}")) else {
            panic!("{text}")
        };
        assert_eq!(word.text, text);
    }
    let want = "when using JSON array syntax, arrays must be comprised of strings only";
    for line in [
        "CMD [1]",
        "RUN [\"a\", null]",
        "COPY [\"a\", 1]",
        "VOLUME [[\"a\"]]",
        "SHELL [true]",
    ] {
        assert_eq!(fault(line), want, "{line}");
    }
}

#[test]
fn json_words_of_copy_keep_blanks_and_places() {
    let c = copy("COPY [\"a b\", \"c\", \"/d e/\"]");
    assert_eq!(sources(&c), ["a b", "c"]);
    assert_eq!(c.dest.text, "/d e/");
    // "FROM a\nCOPY [" is 13 bytes long.
    let CopySource::Path(first) = &c.sources[0] else {
        panic!()
    };
    assert_eq!((first.span.start, first.span.end), (13, 18));
}

#[test]
fn copy_without_json_cuts_at_blanks_whatever_the_quotes() {
    let c = copy("COPY \"a b\" c /d");
    assert_eq!(sources(&c), ["\"a", "b\"", "c"]);
    assert_eq!(sources(&copy("COPY [a, b")), ["[a,"]);
}

#[test]
fn argument_counts_are_checked() {
    let table = [
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("USER", "USER requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("ENV", "ENV requires at least one argument"),
        ("LABEL", "LABEL requires at least one argument"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        ("ARG", "ARG requires at least one argument"),
        ("SHELL", "SHELL requires at least one argument"),
        ("SHELL []", "SHELL requires at least one argument"),
        (
            "SHELL a b",
            "SHELL requires the arguments to be in JSON form",
        ),
        (
            "COPY a",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        (
            "ADD",
            "ADD requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a b c", "FROM requires either one or three arguments"),
        (
            "FROM a AS b c",
            "FROM requires either one or three arguments",
        ),
        ("FROM a AS", "FROM requires either one or three arguments"),
        ("ENV =b", "ENV names can not be blank"),
        ("LABEL =b", "LABEL names can not be blank"),
        ("ARG =b", "ARG names can not be blank"),
        ("ENV A", "ENV must have two arguments"),
        ("LABEL A", "LABEL must have two arguments"),
        (
            "ENV a=b c",
            "Syntax error - can't find = in \"c\". Must be of the form: name=value",
        ),
        (
            "VOLUME [\"\"]",
            "VOLUME specified can not be an empty string",
        ),
    ];
    for (line, want) in table {
        assert_eq!(fault(line), want, "{line}");
    }
}

#[test]
fn words_know_where_they_stand() {
    let text = "FROM a\nENV A=1 \\\n    BB=\"x y\"\n";
    let source = Source::new("Dockerfile", text);
    let f = parse(&source).unwrap();
    let Kind::Env(env) = &f.stages[0].instructions[0].kind else {
        panic!()
    };
    let slices: Vec<_> = env
        .pairs
        .iter()
        .flat_map(|p| [source.slice(p.key.span), source.slice(p.value.span)])
        .collect();
    assert_eq!(slices, ["A", "1", "BB", "\"x y\""]);
    let origin = &f.stages[0].instructions[0].origin;
    assert_eq!((origin.line, origin.last_line), (2, 3));
    assert_eq!(source.slice(origin.span), "ENV A=1 \\\n    BB=\"x y\"");
}

#[test]
fn an_instruction_is_known_in_any_case() {
    let f = file("from a As x\nrUn b\ncopy --from=x /a /b");
    assert_eq!(f.stages[0].instructions[0].kind.keyword(), "RUN");
    assert_eq!(f.stages[0].instructions[0].origin.keyword.text, "rUn");
}
