//! The language itself: what BuildKit answers for a text, line of the checklist by line:
//! sections 2 to 4. Section 1 is in [`super::reading`].
//!
//! The answers were taken from BuildKit, with the same text and options. Nothing is run, so each
//! build is one of metadata only.

use serde_json::{Value, json};

use crate::support::TestEnv;

/// Builds `text` and returns the image's config.
pub(super) fn config(t: &TestEnv, text: &str, options: &[&str]) -> Value {
    t.write("Dockerfile", text);
    let mut args = vec!["-t", "x"];
    args.extend(options);
    t.build_with(&args).ok();
    let out = t.cooper(&["inspect", "--format", "json", "x"]).ok();
    let value: Value = serde_json::from_str(&out.stdout()).unwrap();
    match value {
        Value::Array(mut images) => images.remove(0)["Config"].take(),
        mut image => image["Config"].take(),
    }
}

/// Builds `text` and returns its variables without PATH.
pub(super) fn env(t: &TestEnv, text: &str, options: &[&str]) -> Vec<String> {
    let config = config(t, text, options);
    let pairs = config["Env"].as_array().unwrap().iter();
    let pairs = pairs.map(|pair| pair.as_str().unwrap().to_owned());
    pairs.filter(|pair| !pair.starts_with("PATH=")).collect()
}

/// Builds each text of a table on `FROM scratch` and compares the variables.
pub(super) fn envs(table: &[(&str, &[&str])]) {
    let t = TestEnv::new();
    for (text, want) in table {
        let text = format!("FROM scratch\n{text}\n");
        assert_eq!(&env(&t, &text, &[]), want, "{text}");
    }
}

/// Builds each text of a table and expects it to fail with these words.
pub(super) fn errors(table: &[(&str, &str)]) {
    let t = TestEnv::new().file("f", "f");
    for (text, want) in table {
        t.write("Dockerfile", text);
        let err = t.build().fails(1).stderr();
        assert!(err.contains(want), "{text:?} does not say {want:?}:\n{err}");
    }
}

// 2. Variables

#[test]
fn one_instruction_sees_one_snapshot_of_the_variables() {
    envs(&[(
        "ENV a=1 b=$a c=${a}x\nENV d=$a e=$b\nENV n$a=x",
        &["a=1", "b=", "c=x", "d=1", "e=", "n1=x"],
    )]);
}

#[test]
fn special_names_expand_to_nothing_and_other_dollars_stay() {
    envs(&[(
        "ENV a=1\nENV v=\"$1 $@ $$ $# $? $- $é ${a}$.x $/ $\" w=$",
        &["a=1", "v=       1$.x $/ $", "w=$"],
    )]);
}

#[test]
fn modifiers_provide_for_unset_and_empty_variables() {
    let both = "u=|s=v|";
    let line = "ENV u= s=v\nENV A=${u:-w} B=${u-w} C=${s:+w} D=${u:+w} E=${u+w} F=${x-w} \
                G=${x:-${s:-q}} H=${x+w} I=${u?no}";
    let want = format!("{both}A=w|B=|C=w|D=|E=w|F=w|G=v|H=|I=");
    let want: Vec<&str> = want.split('|').collect();
    envs(&[(line, &want)]);
}

#[test]
fn patterns_cut_and_replace() {
    envs(&[
        (
            "ENV s=foobarfoo p=oo\nENV A=${s#f*o} B=${s##f*o} C=${s%o*} D=${s%%o*} E=${s/o/x} \
             F=${s//o/x} G=${s//$p/$p$p} H=${s#?} I=${s/foo/} J=${s%foo}",
            &[
                "s=foobarfoo",
                "p=oo",
                "A=obarfoo",
                "B=",
                "C=foobarfo",
                "D=f",
                "E=fxobarfoo",
                "F=fxxbarfxx",
                "G=foooobarfoooo",
                "H=oobarfoo",
                "I=barfoo",
                "J=foobar",
            ],
        ),
        (
            "ENV s=a*b?c\\\\d/e}f\nENV A=${s#a\\*} B=${s/\\//x} C=${s%\\}f} D=${s#*\\?}",
            &[
                "s=a*b?c\\d/e}f",
                "A=b?c\\d/e}f",
                "B=a*b?c\\dxe}f",
                "C=a*b?c\\d/e",
                "D=c\\d/e}f",
            ],
        ),
    ]);
}

#[test]
fn faults_of_expansion_have_buildkits_texts() {
    let t = TestEnv::new();
    for (word, want) in [
        ("${x:?}", "x: is not allowed to be unset"),
        ("${x?}", "x: is not allowed to be unset"),
        ("${u:?}", "u: is not allowed to be empty"),
        ("${x:?no}", "x: no"),
        ("${}", "syntax error: bad substitution"),
        ("${:x}", "syntax error: bad substitution"),
        ("${x/y}", "syntax error: missing '/' in ${}"),
        ("${x:=y}", "unsupported modifier (:=) in substitution"),
        ("${x!y}", "unsupported modifier (!) in substitution"),
        (
            "'x",
            "unexpected end of statement while looking for matching single-quote",
        ),
        (
            "\"x",
            "unexpected end of statement while looking for matching double-quote",
        ),
        (
            "${s#\\q}",
            "invalid pattern (\\q) in substitution: invalid escape '\\q'",
        ),
    ] {
        t.write(
            "Dockerfile",
            format!("FROM scratch\nENV u= s=v\nENV A={word}\n"),
        );
        t.build().fails(1).says(want).says("Dockerfile:3");
    }
}

#[test]
fn quotes_and_escapes_follow_buildkits_small_shell() {
    envs(&[
        (
            "ENV a=1\nENV A='$a \\n \"x\"' B=\"$a \\$a \\\\ \\n \\\" 'q'\" C=x\\ y\\$a\\${a} \
             D=\\'$a\\' E=a\"b\"'c' F=x\\",
            &[
                "a=1",
                "A=$a \\n \"x\"",
                "B=1 $a \\ \\n \" 'q'",
                "C=x y$a${a}",
                "D='1'",
                "E=abc",
                "F=x",
            ],
        ),
        (
            "ENV a\\ b=c d=e\\=f\nENV \"k\"=v",
            &["a b=c", "d=e=f", "k=v"],
        ),
    ]);
}

#[test]
fn the_legacy_form_takes_the_rest_of_the_line() {
    let t = TestEnv::new();
    let text = "FROM scratch\nENV a=1\nENV L $a 'x  y'   \"z $a\"  w\\ v \nLABEL l  a  $a\n";
    let config = config(&t, text, &[]);
    assert_eq!(config["Env"][2], "L=1 x  y   z 1  w v");
    assert_eq!(config["Labels"], json!({ "l": "a  1" }));
}

#[test]
fn a_redefined_variable_keeps_its_place() {
    envs(&[(
        "ENV a=1 b=2\nENV c=3 a=4\nENV x=a=b=c y=100% z=é\"q\\\"r\"",
        &["a=4", "b=2", "c=3", "x=a=b=c", "y=100%", "z=éq\"r"],
    )]);
}

#[test]
fn each_instruction_expands_what_buildkit_expands() {
    let t = TestEnv::new();
    let text = concat!(
        "FROM scratch\nENV a=1 p=80 r=\"81 82/udp\" s=SIGTERM\nVOLUME [\"/$a\", \"b\"]\n",
        "EXPOSE $p $r ${p}5/SCTP\nUSER $a:$a\nSTOPSIGNAL $s\nWORKDIR /$a\nLABEL $a=$p k$a=v\n",
        "SHELL [\"$a\"]\nCMD [\"$a\"]\nENTRYPOINT [\"$a\"]\nHEALTHCHECK CMD $a\nONBUILD RUN $a\n",
    );
    let config = config(&t, text, &["--target=0"]);
    assert_eq!(config["Volumes"], json!({ "/1": {}, "b": {} }));
    let ports: Vec<&String> = config["ExposedPorts"].as_object().unwrap().keys().collect();
    assert_eq!(ports, ["80/tcp", "805/sctp", "81/tcp", "82/udp"]);
    assert_eq!(config["User"], "1:1");
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(config["WorkingDir"], "/1");
    assert_eq!(config["Labels"], json!({ "1": "80", "k1": "v" }));
    for key in ["Shell", "Cmd", "Entrypoint"] {
        assert_eq!(config[key], json!(["$a"]), "{key}");
    }
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "$a"]));
    assert_eq!(config["OnBuild"], json!(["RUN $a"]));
}

#[test]
fn from_and_the_names_of_args_are_expanded() {
    let t = TestEnv::new();
    let text = "ARG B=base P=riscv64\nFROM scratch AS base\nARG A=NAME\nARG $A=value\nENV got=$NAME\n\
                FROM --platform=linux/${P} $B\n";
    assert_eq!(env(&t, text, &[]), ["got=value"]);
    t.build_with(&["--build-arg=P=a/b/c"])
        .fails(1)
        .says("failed to parse platform linux/${P}");
}

// 3. ARG

#[test]
fn later_args_see_earlier_ones_also_on_one_line() {
    let t = TestEnv::new();
    let text =
        "ARG a=1 b=$a c=${a}${b}\nFROM scratch\nARG a\nARG b c d=$a$b e=$d\nENV o=$a$b$c$d$e\n";
    assert_eq!(env(&t, text, &[]), ["o=11111111"]);
}

#[test]
fn a_build_arg_beats_defaults_and_a_stage_default_the_global_one() {
    let t = TestEnv::new();
    let text = "ARG a=1\nFROM scratch\nARG a=2\nENV o=$a\n";
    assert_eq!(env(&t, text, &[]), ["o=2"]);
    assert_eq!(env(&t, text, &["--build-arg=a=3"]), ["o=3"]);
    let text = "ARG a=1\nFROM scratch\nENV o=$a\n";
    assert_eq!(
        env(&t, text, &[]),
        ["o="],
        "a global ARG has to be taken in"
    );
    let text = "ARG a=1\nFROM scratch\nARG a\nENV o=\"[${a-unset}]\"\n";
    assert_eq!(env(&t, text, &["--build-arg=a="]), ["o=[]"]);
}

#[test]
fn an_arg_without_value_is_unset_and_one_never_declared_ignored() {
    let t = TestEnv::new();
    for (line, options, want) in [
        ("ARG X\n", &[][..], "o=[unset]"),
        ("ARG X=\n", &[], "o=[]"),
        ("", &["--build-arg=X=1"], "o=[unset]"),
    ] {
        let text = format!("FROM scratch\n{line}ENV o=\"[${{X-unset}}]\"\n");
        assert_eq!(env(&t, &text, options), [want], "{line}");
    }
}

#[test]
fn args_and_envs_of_a_stage_are_there_in_stages_built_on_it() {
    let t = TestEnv::new();
    let text = "FROM scratch AS b\nARG v=1\nENV w=2\nFROM b\nENV o=$v$w\n";
    assert_eq!(env(&t, text, &[]), ["w=2", "o=12"]);
}

#[test]
fn an_arg_and_an_env_of_one_name_hide_each_other_in_order() {
    envs(&[
        ("ENV v=e\nARG v=a\nENV o=$v", &["v=e", "o=a"]),
        ("ARG v=a\nENV v=e\nENV o=$v", &["v=e", "o=e"]),
        ("ARG v=a\nENV v=e\nARG v\nENV o=$v", &["v=e", "o=e"]),
    ]);
}

#[test]
fn a_default_that_fails_is_evaluated_only_without_a_build_arg() {
    let t = TestEnv::new();
    for text in [
        "FROM scratch\nARG v=${X:?need}\nENV o=$v\n",
        "ARG v=${X:?need}\nFROM scratch\nARG v\nENV o=$v\n",
    ] {
        assert_eq!(env(&t, text, &["--build-arg=v=1"]), ["o=1"]);
        t.build().fails(1).says("X: need");
    }
}

#[test]
fn platform_args_need_a_declaration_and_build_args_override_them() {
    let t = TestEnv::new();
    let text = "FROM scratch\nARG TARGETOS TARGETSTAGE\nARG TARGETVARIANT\n\
                ENV o=\"$TARGETOS [$TARGETARCH] [$TARGETSTAGE] [$TARGETVARIANT]\"\n";
    assert_eq!(env(&t, text, &[]), ["o=linux [] [default] []"]);
    let text = "FROM scratch\nARG TARGETPLATFORM TARGETARCH TARGETVARIANT\n\
                ENV o=\"$TARGETPLATFORM $TARGETARCH $TARGETVARIANT\"\n";
    let arm = &["--platform=linux/arm/v7"];
    assert_eq!(env(&t, text, arm), ["o=linux/arm/v7 arm v7"]);
    let text = "FROM scratch\nARG TARGETARCH\nENV o=$TARGETARCH\n";
    assert_eq!(env(&t, text, &["--build-arg=TARGETARCH=foo"]), ["o=foo"]);
    let text = "FROM scratch AS x\nARG TARGETSTAGE\nENV o=$TARGETSTAGE\nFROM scratch AS y\n";
    assert_eq!(env(&t, text, &["--target=x"]), ["o=x"]);
    let last = "FROM scratch AS x\nARG TARGETSTAGE\nENV o=$TARGETSTAGE\n";
    assert_eq!(env(&t, last, &[]), ["o=x"]);
}

#[test]
fn a_proxy_is_no_variable_of_the_file_until_it_is_declared() {
    let t = TestEnv::new();
    let option = &["--build-arg=HTTP_PROXY=x"];
    let text = "FROM scratch\nENV o=\"[$HTTP_PROXY]\"\n";
    assert_eq!(env(&t, text, option), ["o=[]"]);
    let text = "FROM scratch\nARG HTTP_PROXY\nENV o=\"[$HTTP_PROXY]\"\n";
    assert_eq!(env(&t, text, option), ["o=[x]"]);
    let text = "FROM scratch\nARG http_proxy\nENV o=\"[$http_proxy]\"\n";
    assert_eq!(env(&t, text, option), ["o=[]"]);
}

#[test]
fn values_of_a_file_are_build_args_that_the_command_line_beats() {
    let t = TestEnv::new()
        .file("one", "# values\nA=file\nB=file\n\nC=a b # c\n")
        .file("two", "B=second\nFROM_ENV\nNOT_SET\n")
        .var("FROM_ENV", "outside");
    let text = "FROM scratch\nARG A\nARG B\nARG C\nARG FROM_ENV\nARG NOT_SET=default\n\
                ENV all=\"$A|$B|$C|$FROM_ENV|$NOT_SET\"\n";
    let files = ["--build-arg-file=one", "--build-arg-file=two"];
    let options = ["--build-arg=A=line", files[0], files[1]];
    assert_eq!(
        env(&t, text, &options),
        ["all=line|second|a b # c|outside|default"]
    );
    t.write("bad", "=x\n");
    t.build_with(&["--build-arg-file=bad"])
        .fails(2)
        .says("bad: `=x`: expected `KEY` or `KEY=VALUE`");
    t.build_with(&["--build-arg-file=none"])
        .fails(1)
        .says("none");
}

#[test]
fn args_of_buildkits_own_need_no_declaration_and_are_no_variables() {
    let t = TestEnv::new();
    let names = [
        "BUILDKIT_SYNTAX=docker/dockerfile:1.99-labs",
        "BUILDKIT_BUILD_NAME=x",
        "BUILDKIT_SBOM_SCAN_STAGE=true",
        "BUILDKIT_SBOM_SCAN_CONTEXT=true",
        "BUILDKIT_CACHE_MOUNT_NS=n",
        "BUILDKIT_SANDBOX_HOSTNAME=h",
        "BUILDKIT_DOCKERFILE_CHECK=skip=all",
    ];
    let options: Vec<String> = names
        .iter()
        .map(|arg| format!("--build-arg={arg}"))
        .collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let text = "FROM scratch\nENV a=[$BUILDKIT_SYNTAX$BUILDKIT_BUILD_NAME]\n";
    assert_eq!(env(&t, text, &options), ["a=[]"]);
    let text = "FROM scratch\nARG BUILDKIT_SBOM_SCAN_STAGE\nENV a=[$BUILDKIT_SBOM_SCAN_STAGE]\n";
    assert_eq!(
        env(&t, text, &options),
        ["a=[]"],
        "that one is never a variable"
    );
}

// 4. FROM and stages

#[test]
fn stage_names_are_lower_case_letters_digits_and_a_few_signs() {
    let t = TestEnv::new();
    let text = "FROM scratch AS a_b-c.d\nENV x=1\n";
    assert_eq!(env(&t, text, &[]), ["x=1"]);
    errors(&[
        (
            "FROM scratch AS 1x\n",
            "invalid name for build stage: \"1x\", name can't start with a number or contain symbols",
        ),
        (
            "FROM scratch AS a/b\n",
            "invalid name for build stage: \"a/b\"",
        ),
    ]);
}

#[test]
fn blank_bases_and_platforms_are_errors_also_in_stages_nobody_needs() {
    errors(&[
        ("ARG b\nFROM $b\n", "base name ($b) should not be blank"),
        (
            "ARG b\nFROM --platform=$b scratch\n",
            "empty platform value from expression $b",
        ),
        (
            "FROM --platform=$BUILDPLATFROM scratch\n",
            "did you mean `$BUILDPLATFORM`?",
        ),
        (
            "FROM --platform=foo/bar/baz/q scratch\n",
            "failed to parse platform foo/bar/baz/q",
        ),
        (
            "FROM Bad:: AS u\nFROM scratch\n",
            "`Bad::` is not an image name",
        ),
        (
            "ARG b\nFROM $b AS u\nFROM scratch\n",
            "base name ($b) should not be blank",
        ),
    ]);
    let t = TestEnv::new();
    let text = "FROM nosuch AS unused\nFROM scratch\nENV a=1\n";
    assert_eq!(env(&t, text, &["--pull=never"]), ["a=1"]);
}

#[test]
fn the_last_of_equal_stage_names_counts() {
    let t = TestEnv::new();
    let text = "FROM scratch AS a\nENV x=1\nFROM scratch AS a\nENV x=2\nFROM a\nENV y=$x\n";
    assert_eq!(env(&t, text, &[]), ["x=2", "y=2"]);
}

#[test]
fn copies_from_later_stages_and_in_circles_are_refused() {
    errors(&[
        (
            "FROM scratch AS a\nCOPY --from=b f /\nFROM scratch AS b\nFROM a\n",
            "cannot copy from stage \"b\", it needs to be defined before current stage \"a\"",
        ),
        (
            "FROM scratch AS a\nCOPY --from=1 f /\nFROM a\n",
            "cannot copy from stage \"1\", it needs to be defined before current stage \"a\"",
        ),
        (
            "FROM scratch AS a\nCOPY --from=a f /\n",
            "circular dependency detected on stage: a",
        ),
        (
            "FROM scratch AS a\nCOPY --from=b f /\nFROM scratch AS b\nCOPY --from=a f /\n",
            "circular dependency detected on stage: a",
        ),
        (
            "FROM scratch\nCOPY --from=0 f /\n",
            "circular dependency detected on stage: stage-0",
        ),
        ("FROM scratch\nCOPY --from=5 f /\n", "invalid stage index 5"),
        (
            "FROM scratch AS u\nCOPY --from=9 f /\nFROM scratch\n",
            "invalid stage index 9",
        ),
    ]);
}

#[test]
fn t_dos_5_a_long_chain_of_stages_neither_overflows_nor_loops() {
    let t = TestEnv::new();
    let mut text = "FROM scratch AS s0\n".to_owned();
    for at in 1..5_000 {
        text.push_str(&format!("FROM s{} AS s{at}\nONBUILD ENV a=1\n", at - 1));
    }
    t.write("Dockerfile", text);
    let out = t.cooper(&["check"]).ok();
    assert_eq!(out.stdout(), "Check complete, no warnings found.");
}

#[test]
fn a_stage_inherits_everything_but_onbuild_whose_triggers_run() {
    let t = TestEnv::new();
    let text = concat!(
        "FROM scratch AS p\nENV e=1\nUSER 1\nLABEL l=1\nEXPOSE 1\nVOLUME /v\nSHELL [\"s\"]\n",
        "STOPSIGNAL 9\nHEALTHCHECK CMD x\nENTRYPOINT [\"e\"]\nCMD [\"c\"]\nWORKDIR /w\n",
        "ONBUILD ENV ob=1\nFROM p\n",
    );
    let config = config(&t, text, &[]);
    assert_eq!(config["Env"][1], "e=1");
    assert_eq!(config["Env"][2], "ob=1");
    assert_eq!(config["User"], "1");
    assert_eq!(config["Labels"], json!({ "l": "1" }));
    assert_eq!(config["ExposedPorts"], json!({ "1/tcp": {} }));
    assert_eq!(config["Volumes"], json!({ "/v": {} }));
    assert_eq!(config["Shell"], json!(["s"]));
    assert_eq!(config["StopSignal"], "9");
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "x"]));
    assert_eq!(config["Cmd"], json!(["c"]));
    assert_eq!(config["Entrypoint"], json!(["e"]));
    assert_eq!(config["WorkingDir"], "/w");
    assert!(config["OnBuild"].is_null());
}

#[test]
fn entrypoint_clears_an_inherited_cmd_and_no_other() {
    let t = TestEnv::new();
    let cmd = |text| config(&t, text, &[])["Cmd"].clone();
    let inherited = "FROM scratch AS p\nCMD [\"c\"]\nFROM p\nENTRYPOINT [\"e\"]\n";
    assert!(cmd(inherited).is_null());
    let own = "FROM scratch\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\n";
    assert_eq!(cmd(own), json!(["c"]));
}

#[test]
fn workdirs_add_up_and_are_cleaned() {
    let t = TestEnv::new();
    for (lines, want) in [
        ("WORKDIR /a/\nWORKDIR b/../c/.\n", "/a/c"),
        ("WORKDIR a\n", "/a"),
        ("WORKDIR /\n", "/"),
        ("", "/"),
    ] {
        let text = format!("FROM scratch\n{lines}");
        assert_eq!(config(&t, &text, &[])["WorkingDir"], want, "{lines}");
    }
}

#[test]
fn values_that_cannot_be_have_buildkits_errors() {
    errors(&[
        ("FROM scratch\nSTOPSIGNAL foo\n", "invalid signal: foo"),
        (
            "FROM scratch\nEXPOSE 99999\n",
            "invalid containerPort: 99999",
        ),
        ("FROM scratch\nEXPOSE 80/foo\n", "invalid proto: foo"),
        (
            "FROM scratch\nVOLUME \"\"\n",
            "VOLUME specified can not be an empty string",
        ),
        (
            "FROM scratch\nHEALTHCHECK foo\n",
            "Unknown type \"FOO\" in HEALTHCHECK (try CMD)",
        ),
        (
            "FROM scratch\nHEALTHCHECK --retries=-1 CMD x\n",
            "--retries cannot be negative (-1)",
        ),
        (
            "FROM scratch\nHEALTHCHECK NONE x\n",
            "HEALTHCHECK NONE takes no arguments",
        ),
        (
            "FROM scratch\nONBUILD ONBUILD ENV a=1\n",
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        (
            "FROM scratch\nONBUILD FROM x\n",
            "FROM isn't allowed as an ONBUILD trigger",
        ),
    ]);
}

// 14. Names of steps

#[test]
fn steps_are_named_and_counted_as_buildkit_does() {
    let t = TestEnv::new().file("f", "f").dockerfile(concat!(
        "FROM scratch AS first\nARG n=f\nCOPY $n /$n\nENV a=1\nWORKDIR /w\n",
        "ONBUILD COPY f /ob\nFROM first\nCOPY --from=first f /g\n",
    ));
    assert_eq!(
        t.build_with(&["--jobs=1"]).ok().steps(),
        [
            "[first 1/2] COPY f /f  ran",
            "[first 2/2] WORKDIR /w  ran",
            "[stage-1 1/2] ONBUILD COPY f /ob  ran",
            "[stage-1 2/2] COPY --from=first f /g  ran",
        ]
    );
    t.write("Dockerfile", "FROM scratch AS only\nCOPY f /\n");
    assert_eq!(t.build().ok().steps(), ["[1/1] COPY f /  ran"]);
    let copies = "COPY f /\n".repeat(10);
    t.write("Dockerfile", format!("FROM scratch\n{copies}"));
    let steps = t.build().ok().steps();
    assert!(steps[1].starts_with("[ 2/10] COPY f /"), "{steps:?}");
    assert!(steps[9].starts_with("[10/10] COPY f /"), "{steps:?}");
}
