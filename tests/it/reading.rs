//! Reading the file: names, lines, directives, flags, words, JSON and heredocs, as
//! [`super::language`] has it for what the text means.

use std::process::Command;

use serde_json::json;

use super::language::{config, env, envs, errors};
use crate::support::TestEnv;

/// The label `from` of the image that the context's own Dockerfile makes.
fn made_from(t: &TestEnv) -> String {
    t.build_with(&["-t", "x"]).ok();
    let label = ["inspect", "-f", "{{.Config.Labels.from}}", "x"];
    t.cooper(&label).ok().stdout()
}

#[test]
fn the_dockerfile_has_one_of_three_names_and_the_first_counts() {
    let t = TestEnv::new();
    for name in ["Containerfile", "dockerfile", "Dockerfile"] {
        t.write(name, format!("FROM scratch\nLABEL from={name}\n"));
        assert_eq!(made_from(&t), name);
    }
    t.build_with(&["-f", "dockerfile", "-t", "x"]).ok();
    t.build_with(&["-f", "DOCKERFILE"])
        .fails(1)
        .says("DOCKERFILE");
}

#[test]
fn a_context_on_standard_input_may_be_compressed_in_any_way() {
    let t = TestEnv::new()
        .file("f", "text")
        .dockerfile("FROM scratch\nCOPY f /f\n");
    for pack in ["--gzip", "--bzip2", "--xz", "--zstd"] {
        let tar = Command::new("tar")
            .args(["-c", pack, "."])
            .current_dir(t.path(""))
            .output()
            .unwrap();
        assert!(tar.status.success(), "{pack}");
        let out = t.beside(pack);
        let output = format!("type=local,dest={}", out.display());
        t.cooper_reading(&tar.stdout, &["build", "-q", "-o", &output, "-"])
            .ok();
        assert_eq!(std::fs::read_to_string(out.join("f")).unwrap(), "text");
    }
}

#[test]
fn a_byte_order_mark_and_crlf_are_not_part_of_any_value() {
    let t = TestEnv::new();
    let text = "\u{feff}FROM scratch\r\nENV a=b \\\r\n  c=d\r\n";
    assert_eq!(env(&t, text, &[]), ["a=b", "c=d"]);
}

#[test]
fn leading_blanks_of_a_continued_line_belong_to_the_value() {
    envs(&[
        ("   ENV a=1", &["a=1"]),
        ("ENV a \"x\\\n   y\"", &["a=x   y"]),
        ("ENV a=x\\\n   b=y", &["a=x", "b=y"]),
    ]);
}

#[test]
fn continuations_end_at_an_escaped_escape_and_may_dangle() {
    envs(&[
        ("ENV a=b\\\\\nENV c=d", &["a=b\\", "c=d"]),
        ("ENV a=b \\\n# comment\n\n c=d", &["a=b", "c=d"]),
        ("ENV \\\n a=b\\", &["a=b"]),
    ]);
}

#[test]
fn a_hash_inside_an_instruction_is_text() {
    envs(&[("ENV a b # text", &["a=b # text"])]);
    let t = TestEnv::new();
    let text = "FROM scratch\n\n  \n   # indented\nWORKDIR /a #b\n";
    assert_eq!(config(&t, text, &[])["WorkingDir"], "/a #b");
    errors(&[(
        "FROM scratch\nENV a=b # no comment\n",
        "Syntax error - can't find = in \"#\". Must be of the form: name=value",
    )]);
}

#[test]
fn unknown_words_and_missing_stages_have_buildkits_errors() {
    errors(&[
        ("FROM scratch\nFORM x\n", "unknown instruction: FORM"),
        ("FROM scratch\nform x\n", "did you mean `from`?"),
        (
            "ENV a=b\nFROM scratch\n",
            "no build stage in current context",
        ),
        ("ARG x\n", "dockerfile contains no stages to build"),
        ("# only\n", "file with no instructions"),
        ("\n\n", "file with no instructions"),
        ("", "the Dockerfile cannot be empty"),
    ]);
    let long = format!("FROM scratch\nENV a={}\n", "x".repeat(65536));
    errors(&[(
        &long,
        "dockerfile line greater than max allowed size of 65535",
    )]);
}

#[test]
fn directives_count_only_at_the_top_and_only_once() {
    let t = TestEnv::new();
    let text = "# Escape = `\nFROM scratch\nENV a=b `\n c=`\"x`\" d=\\y\n";
    assert_eq!(env(&t, text, &[]), ["a=b", "c=\"x\"", "d=\\y"]);
    let text = "#syntax=docker/dockerfile:1\n#   escape=`\nFROM scratch\nENV a=\\x\n";
    assert_eq!(env(&t, text, &[]), ["a=\\x"], "`syntax` runs nobody's code");
    errors(&[
        (
            "# foo=bar\n# escape=`\nFROM scratch\nENV a=b `\n",
            "can't find = in \"`\"",
        ),
        (
            "# escape=x\nFROM scratch\n",
            "invalid escape token 'x' does not match ` or \\",
        ),
        (
            "# escape=`\n# escape=`\nFROM scratch\n",
            "only one escape parser directive can be used",
        ),
        (
            "# check=foo\nFROM scratch\n",
            "invalid check option \"foo\"",
        ),
    ]);
}

#[test]
fn flags_are_checked_by_name_count_and_value() {
    errors(&[
        (
            "FROM scratch\nCOPY --chwon=1 f /\n",
            "unknown flag: --chwon",
        ),
        (
            "FROM scratch\nCOPY --chwon=1 f /\n",
            "did you mean `chown`?",
        ),
        (
            "FROM scratch\nCOPY --chown=1 --chown=2 f /\n",
            "duplicate flag specified: --chown",
        ),
        (
            "FROM scratch\nCOPY --chown f /\n",
            "missing a value on flag: --chown",
        ),
        (
            "FROM scratch\nCOPY --link=x f /\n",
            "expecting boolean value for flag --link, not: x",
        ),
        (
            "FROM scratch\nCOPY --link= f /\n",
            "missing a value on flag: --link",
        ),
        ("FROM scratch\nENV --x a=b\n", "unknown flag: --x"),
        ("FROM scratch\nCMD --x a\n", "unknown flag: --x"),
        ("FROM scratch\nUSER --x a\n", "unknown flag: --x"),
    ]);
    envs(&[
        ("ARG --x a=b\nENV z=$a", &["z=b"]),
        ("STOPSIGNAL --x 9", &[]),
    ]);
}

#[test]
fn text_that_is_no_json_is_the_shell_form_and_json_of_numbers_is_an_error() {
    let t = TestEnv::new();
    for (line, want) in [
        ("CMD [\"a\"", json!(["/bin/sh", "-c", "[\"a\""])),
        ("CMD [a]", json!(["/bin/sh", "-c", "[a]"])),
        ("CMD [\"a\"] x", json!(["/bin/sh", "-c", "[\"a\"] x"])),
        ("CMD", json!(["/bin/sh", "-c", ""])),
        ("CMD [ \"a\" , \"b\" ]", json!(["a", "b"])),
    ] {
        let text = format!("FROM scratch\n{line}\n");
        assert_eq!(config(&t, &text, &[])["Cmd"], want, "{line}");
    }
    let volumes = config(&t, "FROM scratch\nVOLUME [\"/a\", \"/b c\"]\n", &[]);
    assert_eq!(volumes["Volumes"], json!({ "/a": {}, "/b c": {} }));
    errors(&[(
        "FROM scratch\nCMD [\"a\", 1]\n",
        "when using JSON array syntax, arrays must be comprised of strings only",
    )]);
}

#[test]
fn wrong_numbers_of_arguments_have_buildkits_errors() {
    let t = TestEnv::new();
    for (instructions, want) in [
        (
            "MAINTAINER WORKDIR USER STOPSIGNAL",
            "requires exactly one argument",
        ),
        (
            "ENV LABEL ONBUILD HEALTHCHECK EXPOSE VOLUME ARG SHELL",
            "requires at least one argument",
        ),
        (
            "COPY ADD",
            "requires at least two arguments, but only one was provided. Destination could not \
             be determined",
        ),
        ("FROM", "requires either one or three arguments"),
    ] {
        for instruction in instructions.split(' ') {
            t.write("Dockerfile", format!("FROM scratch\n{instruction}\n"));
            t.build().fails(1).says(&format!("{instruction} {want}"));
        }
    }
    errors(&[
        ("FROM scratch\nENV =x\n", "ENV names can not be blank"),
        ("FROM scratch\nARG =x\n", "ARG names can not be blank"),
        ("FROM scratch\nENV a\n", "ENV must have two arguments"),
        ("FROM scratch\nLABEL a\n", "LABEL must have two arguments"),
        (
            "FROM scratch\nENV a=b c\n",
            "Syntax error - can't find = in \"c\"",
        ),
        (
            "FROM scratch\nSHELL a\n",
            "SHELL requires the arguments to be in JSON form",
        ),
    ]);
}

#[test]
fn heredocs_are_files_of_roots_0644_unless_flags_say_otherwise() {
    let t = TestEnv::new().file("f", "near").dockerfile(concat!(
        "FROM scratch\nCOPY f <<a <<'b c' /d/\n1\na\n2\nb c\nCOPY <<x /renamed\n3\nx\n",
        "COPY --chown=5:6 --chmod=750 <<y /owned\n4\ny\nADD <<z /\n5\nz\n",
    ));
    t.chmod("f", 0o755);
    assert_eq!(
        t.listing(&[], "."),
        [
            "drwxr-xr-x 0/0 d/",
            "-rw-r--r-- 0/0 d/a",
            "-rw-r--r-- 0/0 d/b c",
            "-rwxr-xr-x 0/0 d/f",
            "-rwxr-x--- 5/6 owned",
            "-rw-r--r-- 0/0 renamed",
            "-rw-r--r-- 0/0 z",
        ]
    );
    errors(&[(
        "FROM scratch\nCOPY <<a <<b /d\n1\na\n2\nb\n",
        "several files need a directory to go to: end `/d` with `/`",
    )]);
}

#[test]
fn a_script_in_a_heredoc_goes_to_the_stages_shell() {
    let t = TestEnv::new().dockerfile(concat!(
        "FROM busybox\nSHELL [\"/bin/sh\", \"-xc\"]\n",
        "RUN <<EOF > /not-redirected\nexit 3\nEOF\n",
    ));
    t.busybox("busybox");
    // With more on the line the shell is given nothing to run but a redirection.
    t.build().ok();
    t.write(
        "Dockerfile",
        "FROM busybox\nSHELL [\"/bin/sh\", \"-xc\"]\nRUN <<EOF\necho $((20 + 2))\nexit 3\nEOF\n",
    );
    t.build().fails(1).says("+ echo 22").says("exit code: 3");
}

#[test]
fn a_program_in_a_heredoc_is_a_file_of_mode_0755_that_none_can_write() {
    let t = TestEnv::new().dockerfile(concat!(
        "FROM busybox\nRUN <<-EOF\n\t#!/bin/sh\n\tstat -c 'mode %a %u:%g' /dev/pipes/EOF\n",
        "\techo more >> $0 || echo refused\n\tEOF\nRUN test ! -e /dev/pipes\n",
    ));
    t.busybox("busybox");
    t.build().ok().says("mode 755 0:0").says("refused");
}
