//! What the checklist of the Dockerfile language says, as tables.

use super::super::instruction::*;
use super::super::{Error, MountKind, Sharing, Source};
use super::{parse, parse_instruction};

fn file(text: &str) -> Dockerfile {
    match parse(&Source::new("Dockerfile", text)) {
        Ok(file) => file,
        Err(e) => panic!("{e}\n{text}"),
    }
}

fn fails(text: &str) -> Error {
    match parse(&Source::new("Dockerfile", text)) {
        Ok(file) => panic!("parsed: {text}\n{file:?}"),
        Err(e) => e,
    }
}

/// Parses one instruction below a FROM.
fn one(line: &str) -> Kind {
    let mut file = file(&format!("FROM a\n{line}\n"));
    assert_eq!(file.stages[0].instructions.len(), 1, "{line}");
    file.stages.remove(0).instructions.remove(0).kind
}

/// The message of one faulty instruction below a FROM, without its place.
fn fault(line: &str) -> String {
    let e = fails(&format!("FROM a\n{line}\n"));
    assert_eq!(e.line, 2, "{line}");
    match e.suggestion {
        Some(word) => format!("{} (did you mean {word}?)", e.kind),
        None => e.kind.to_string(),
    }
}

fn run(line: &str) -> Run {
    match one(line) {
        Kind::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn copy(line: &str) -> Copy {
    match one(line) {
        Kind::Copy(copy) => copy,
        other => panic!("{other:?}"),
    }
}

fn shell(line: &str) -> String {
    match run(line).script() {
        Script::Shell(text) => text.into_owned(),
        other => panic!("{other:?}"),
    }
}

fn pairs(line: &str) -> Vec<(String, String)> {
    match one(line) {
        Kind::Env(pairs) | Kind::Label(pairs) => pairs
            .pairs
            .into_iter()
            .map(|p| (p.key.text, p.value.text))
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn sources(copy: &Copy) -> Vec<String> {
    let name = |source: &CopySource| match source {
        CopySource::Path(word) => word.text.clone(),
        CopySource::Heredoc(heredoc) => format!("<<{}", heredoc.name),
    };
    copy.sources.iter().map(name).collect()
}

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
fn expose_words_come_sorted() {
    let Kind::Expose(words) = one("EXPOSE 90 80/tcp $X 81-85/udp") else {
        panic!()
    };
    let words: Vec<_> = words.iter().map(|w| w.text.as_str()).collect();
    assert_eq!(words, ["$X", "80/tcp", "81-85/udp", "90"]);
}

#[test]
fn a_heredoc_alone_is_the_script() {
    assert_eq!(
        shell("RUN <<EOF\necho a\n# not a comment\nRUN b \\\nEOF"),
        "echo a\n# not a comment\nRUN b \\\n"
    );
    assert_eq!(shell("RUN <<-EOF\n\t\ta\n\t b\n\tEOF"), "a\n b\n");
    assert_eq!(shell("RUN <<'E F'\na\nE F"), "a\n");
    assert_eq!(shell("RUN <<EOF\na\r\nEOF\r\n"), "a\r\n");
}

#[test]
fn a_heredoc_with_a_shebang_is_a_file() {
    let r = run("RUN <<-EOF\n\t#!/usr/bin/python3\n\tprint(1)\nEOF");
    let Script::File { name, body } = r.script() else {
        panic!()
    };
    assert_eq!(
        (name, body.as_ref()),
        ("EOF", "#!/usr/bin/python3\nprint(1)\n")
    );
}

#[test]
fn a_heredoc_with_more_on_the_line_goes_to_the_shell_whole() {
    assert_eq!(
        shell("RUN cat <<EOF > /x\na\nEOF"),
        "cat <<EOF > /x\na\nEOF"
    );
    assert_eq!(
        shell("RUN <<A cat > /a && <<-B cat > /b\none\nA\n\ttwo\n\tB"),
        "<<A cat > /a && <<-B cat > /b\none\nA\n\ttwo\nB"
    );
    let r = run("RUN --mount=type=cache,target=/c <<EOF bash -ex\necho 1\nEOF");
    assert_eq!(
        r.script(),
        Script::Shell("<<EOF bash -ex\necho 1\nEOF".into())
    );
    assert_eq!(r.mounts.len(), 1);
}

#[test]
fn json_run_has_no_heredoc() {
    let r = run("RUN [\"cat\", \"<<EOF\"]");
    assert!(r.heredocs.is_empty());
    assert!(matches!(r.script(), Script::Exec(args) if args.len() == 2));
}

#[test]
fn copy_heredocs_mix_with_paths() {
    let c = copy("COPY a <<x.txt << y /d/\none\nx.txt\n$two\ny");
    assert_eq!(sources(&c), ["a", "<<x.txt", "<<y"]);
    assert_eq!(c.dest.text, "/d/");
    let CopySource::Heredoc(y) = &c.sources[2] else {
        panic!()
    };
    assert_eq!((y.content().as_ref(), y.expand), ("$two\n", true));
    assert_eq!(sources(&copy("COPY <<'a b' /d\n1\na b")), ["<<a b"]);
    assert_eq!(
        fault("COPY a <<EOF\nEOF"),
        "COPY cannot accept a heredoc as a destination"
    );
}

#[test]
fn an_instruction_with_heredocs_covers_all_their_lines() {
    let f = file("FROM a\nRUN <<A <<B\n1\nA\n2\nB\nRUN c\n");
    let list = &f.stages[0].instructions;
    assert_eq!((list[0].origin.line, list[0].origin.last_line), (2, 6));
    assert_eq!(list[0].origin.original, "RUN <<A <<B");
    assert_eq!((list[1].origin.line, list[1].origin.last_line), (7, 7));
}

#[test]
fn a_heredoc_without_end_names_its_word() {
    let e = fails("FROM a\nRUN <<EOF\na\n");
    assert_eq!(
        e.to_string(),
        "dockerfile parse error on line 2: unterminated heredoc: no line with only `EOF` follows"
    );
    assert_eq!((e.span.start, e.span.end), (11, 16));
}

#[test]
fn other_instructions_know_no_heredoc() {
    let Kind::Cmd(Command::Shell(word)) = one("CMD cat <<EOF") else {
        panic!()
    };
    assert_eq!(word.text, "cat <<EOF");
}

#[test]
fn mounts_are_typed_once_their_values_are_known() {
    let r = run(
        "RUN --mount=type=cache,target=/c,id=$I,sharing=Locked,mode=0700,uid=1 \
                 --mount=type=secret,id=s,env=T,required \
                 --mount=type=tmpfs,dst=/t,size=1.5m \
                 --mount=type=bind,\"source=a b\",target=/x,rw x",
    );
    let mounts: Vec<_> = r
        .mounts
        .iter()
        .map(|m| {
            m.resolve(&mut |text| Ok(text.replace("$I", "key")))
                .unwrap()
        })
        .collect();
    assert_eq!(mounts[0].kind, MountKind::Cache);
    assert_eq!(mounts[0].id.as_deref(), Some("key"));
    assert_eq!(mounts[0].sharing, Sharing::Locked);
    assert_eq!(
        (mounts[0].mode, mounts[0].uid, mounts[0].read_only),
        (Some(0o700), Some(1), false)
    );
    assert_eq!(
        (mounts[1].env.as_deref(), mounts[1].required),
        (Some("T"), true)
    );
    assert_eq!(mounts[2].size, Some(1_572_864));
    assert_eq!(
        (mounts[3].source.as_deref(), mounts[3].read_only),
        (Some("a b"), false)
    );
}

#[test]
fn faulty_mounts_are_refused_in_buildkits_words() {
    let table = [
        (
            "type=bnd,target=/x",
            "unsupported mount type \"bnd\" (did you mean bind?)",
        ),
        (
            "type=bind,trget=/x",
            "unexpected key 'trget' in 'trget=/x' (did you mean target?)",
        ),
        (
            "type=cache,target=/x,sharing=lockd",
            "unsupported sharing value \"lockd\" (did you mean locked?)",
        ),
        (
            "type=bind,target=/x,size=1",
            "unexpected key 'size' for mount type 'bind'",
        ),
        (
            "type=bind,target=/x,required",
            "unexpected key 'required' for mount type 'bind'",
        ),
        (
            "type=bind,target=/x,mode=1",
            "mode not allowed for \"bind\" type mounts",
        ),
        (
            "type=tmpfs,target=/x,uid=1",
            "uid not allowed for \"tmpfs\" type mounts",
        ),
        (
            "type=bind,target=/x,sharing=shared",
            "invalid cache sharing set for bind mount",
        ),
        ("type=cache,target=/x,mode=9", "invalid value 9 for mode"),
        ("type=cache,target=/x,uid=-1", "invalid value -1 for uid"),
        (
            "type=cache,target=/x,ro=maybe",
            "invalid value for ro: maybe",
        ),
        (
            "type=cache,target=/x,source",
            "invalid field 'source' must be a key=value pair",
        ),
        (
            "type=bind,from=$X,target=/x",
            "'from' doesn't support variable expansion, define alias stage instead",
        ),
        (
            "type=secret",
            "invalid secret mount. one of source, target required",
        ),
        (
            "type=secret,id=a,source=b",
            "both source and id can't be set",
        ),
        (
            "type=secret,id=a,from=b",
            "secret mount should not have a from",
        ),
        ("type=bind,target=/", "invalid mount target \"/\""),
        (
            "env=A,target=/x",
            "unexpected key 'env' for mount type 'bind'",
        ),
        (
            "type=bind,\\\"a",
            "invalid quotes in mount \"type=bind,\\\"a\"",
        ),
    ];
    for (value, want) in table {
        assert_eq!(fault(&format!("RUN --mount={value} x")), want, "{value}");
    }
    // A bind without a target covers WORKDIR.
    assert_eq!(run("RUN --mount=type=bind make").mounts.len(), 1);
    // A fault behind a variable waits until the variable is known.
    let r = run("RUN --mount=type=$T,target=/x y");
    let fault = r.mounts[0].resolve(&mut |_| Ok("bnd".into())).unwrap_err();
    assert_eq!(fault.error.to_string(), "unsupported mount type \"bnd\"");
    assert_eq!(fault.suggestion, Some("bind"));
}

#[test]
fn devices_are_read() {
    let r = run(
        "RUN --device=vendor.com/class=gpu0,required --device=name=nvidia.com/gpu=* --device=gpu x",
    );
    let names: Vec<_> = r
        .devices
        .iter()
        .map(|d| (d.name.as_str(), d.required))
        .collect();
    assert_eq!(
        names,
        [
            ("vendor.com/class=gpu0", true),
            ("nvidia.com/gpu=*", false),
            ("gpu", false)
        ]
    );
    assert_eq!(
        fault("RUN --device=required x"),
        "invalid device \"required\": it names no device"
    );
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

#[test]
fn an_instruction_is_known_in_any_case() {
    let f = file("from a As x\nrUn b\ncopy --from=x /a /b");
    assert_eq!(f.stages[0].instructions[0].kind.keyword(), "RUN");
    assert_eq!(f.stages[0].instructions[0].origin.keyword.text, "rUn");
}

#[test]
fn lint_rules_of_the_text_are_reported_also_before_an_error() {
    let mut warnings = Vec::new();
    let text = "FROM a AS Base\nRUN x \\\n\n y\nENV a b\nRNU z";
    let source = Source::new("Dockerfile", text);
    assert!(super::parse_reporting(&source, &mut warnings).is_err());
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
