//! Heredocs: which instructions have them, and what they are there.

use super::super::super::instruction::*;
use super::{copy, fails, fault, file, one, run, shell, sources};

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
