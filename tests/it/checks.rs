//! `cooper check`, `build --check` and `build --call`: what is found and how it is told.

use serde_json::{Value, json};

use crate::support::TestEnv;

/// Checks a Dockerfile and returns `line rule: text` of every finding.
fn found(t: &TestEnv, text: &str, options: &[&str]) -> Vec<String> {
    t.write("Dockerfile", text);
    let mut args = vec!["check", "--format=json"];
    args.extend(options);
    let out = t.cooper(&args);
    let value: Value = serde_json::from_str(&out.any().stdout()).unwrap();
    let warnings = value["warnings"].as_array().unwrap();
    let show = |warning: &Value| {
        let line = &warning["location"]["ranges"][0]["start"]["line"];
        let text = |key: &str| warning[key].as_str().unwrap().to_owned();
        format!("{line} {}: {}", text("ruleName"), text("detail"))
    };
    warnings.iter().map(show).collect()
}

#[test]
fn a_finding_is_shown_with_its_rule_page_and_lines_as_buildkit_shows_it() {
    let t = TestEnv::new().dockerfile("FROM scratch as a\nCOPY Dockerfile /\n");
    let out = t.cooper(&["check"]).fails(1);
    insta::assert_snapshot!(out.stdout(), @r"
    Check complete, 1 warning has been found!

    WARNING: FromAsCasing - https://docs.docker.com/go/dockerfile/rule/from-as-casing/
    'as' and 'FROM' keywords' casing do not match
    Dockerfile:1
    --------------------
       1 | >>> FROM scratch as a
       2 |     COPY Dockerfile /
       3 |     
    --------------------
    ");
    t.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let out = t.cooper(&["build", "--check", "."]).ok();
    assert_eq!(out.stdout(), "Check complete, no warnings found.");
}

#[test]
fn rules_that_need_values_have_buildkits_texts() {
    let t = TestEnv::new()
        .file("kept.md", "")
        .file("ignored.txt", "")
        .file(".dockerignore", "*.txt\n");
    let table: &[(&str, &[&str])] = &[
        (
            "ARG TAGS=1\nFROM scratch$TAG",
            &["2 UndefinedArgInFrom: FROM argument 'TAG' is not declared (did you mean TAGS?)"],
        ),
        ("ARG TAG\nFROM scratch$TAG", &[]),
        (
            "FROM --platform=$BULIDPLATFORM scratch",
            &[
                "1 UndefinedArgInFrom: FROM argument 'BULIDPLATFORM' is not declared (did you mean BUILDPLATFORM?)",
            ],
        ),
        (
            "FROM scratch\nARG foo=1\nENV B=$fooo C=${D:-1} E=$PATH",
            &["3 UndefinedVar: Usage of undefined variable '$fooo' (did you mean $foo?)"],
        ),
        (
            "FROM scratch\nARG D\nENV C=$D\nRUN echo $no\nEXPOSE $no\nHEALTHCHECK CMD $no\nCMD [\"$no\"]",
            &[],
        ),
        (
            "FROM scratch\nARG foo=1\nCOPY <<A <<'B' <<C /d/\n${fooo}\nA\n$fooo\nB\n'$foo' \\$fooo\nC",
            &["3 UndefinedVar: Usage of undefined variable '$fooo' (did you mean $foo?)"],
        ),
        (
            "ARG B\nFROM scratch AS x\nFROM x:$B",
            &[
                "3 InvalidDefaultArgInFrom: Default value for ARG x:$B results in empty or invalid base image name",
            ],
        ),
        (
            "FROM scratch AS a\nWORKDIR r\nWORKDIR s\nFROM a\nWORKDIR t",
            &[
                "2 WorkdirRelativePath: Relative workdir \"r\" can have unexpected results if the base image changes",
            ],
        ),
        ("FROM scratch\nWORKDIR /r\nWORKDIR s", &[]),
        (
            "FROM --platform=${TARGETPLATFORM} scratch",
            &[
                "1 RedundantTargetPlatform: Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior",
            ],
        ),
        (
            "FROM --platform=linux/arm64 scratch AS x",
            &[
                "1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/arm64\"",
            ],
        ),
        ("FROM --platform=linux/arm64 scratch AS arm64-x", &[]),
        ("FROM --platform=$BUILDPLATFORM scratch AS x", &[]),
        (
            "ARG TOKEN=1\nFROM scratch\nARG API_KEY\nENV PASSWORD=x PUBLIC_KEY=y",
            &[
                "3 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"API_KEY\")",
                "4 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"PASSWORD\")",
            ],
        ),
        (
            "FROM scratch\nCOPY kept.md ignored.txt /\nADD ./ignored.txt /x",
            &[
                "2 CopyIgnoredFile: Attempting to Copy file \"ignored.txt\" that is excluded by .dockerignore",
                "3 CopyIgnoredFile: Attempting to Add file \"ignored.txt\" that is excluded by .dockerignore",
            ],
        ),
        (
            "FROM scratch\nEXPOSE 80/TCP",
            &[
                "2 ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
            ],
        ),
        (
            "FROM scratch\nEXPOSE 127.0.0.1:80:81",
            &[
                "2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:81'",
            ],
        ),
    ];
    for (text, want) in table {
        assert_eq!(&found(&t, text, &[]), want, "{text}");
    }
}

#[test]
fn a_base_image_is_asked_only_where_the_store_has_it() {
    let t = TestEnv::new();
    t.busybox("busybox");
    let text = "FROM busybox\nENV A=$PATH B=$BB_VERSION C=$lower\n";
    let undefined = |names: &[&str]| -> Vec<String> {
        let line = |name| format!("2 UndefinedVar: Usage of undefined variable '${name}'");
        names.iter().map(line).collect()
    };
    assert_eq!(
        found(&t, text, &[]),
        undefined(&["BB_VERSION", "lower"]),
        "its variables are known"
    );
    let text = "FROM registry.invalid/x\nENV A=$PATH B=$BB_VERSION C=$lower\n";
    assert_eq!(
        found(&t, text, &[]),
        undefined(&["lower"]),
        "capitals may be its"
    );
    let text = "FROM busybox\nCMD x\n";
    let other = found(&t, text, &["--platform=linux/riscv64"]);
    assert_eq!(
        other[0],
        format!(
            "1 InvalidBaseImagePlatform: Base image busybox was pulled with platform \
             \"linux/{}\", expected \"linux/riscv64\" for current build",
            go_arch()
        )
    );
}

/// The architecture in Go's words.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[test]
fn rules_are_left_out_by_directive_argument_and_comment() {
    let t = TestEnv::new();
    let body = "FROM scratch as a\nMAINTAINER me\n";
    let names = |text: &str, options: &[&str]| -> Vec<String> {
        let lines = found(&t, text, options);
        let name = |line: &String| line.split([' ', ':']).nth(1).unwrap().to_owned();
        lines.iter().map(name).collect()
    };
    assert_eq!(names(body, &[]), ["FromAsCasing", "MaintainerDeprecated"]);
    let skipped = format!("# check=skip=FromAsCasing\n{body}");
    assert_eq!(names(&skipped, &[]), ["MaintainerDeprecated"]);
    let other = "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=MaintainerDeprecated";
    assert_eq!(names(&skipped, &[other]), ["FromAsCasing"]);
    assert!(names(&format!("# check=skip=all\n{body}"), &[]).is_empty());
    let above = "FROM scratch as a\n# check=skip=MaintainerDeprecated\nMAINTAINER me\nCMD x\n";
    assert_eq!(names(above, &[]), ["FromAsCasing", "JSONArgsRecommended"]);
    let experimental = "# it\nFROM scratch AS a\n";
    assert!(names(&format!("\n{experimental}"), &[]).is_empty());
    for asked in ["all", "InvalidDefinitionDescription"] {
        let asked = format!("# check=experimental={asked}\n\n{experimental}");
        assert_eq!(names(&asked, &[]), ["InvalidDefinitionDescription"]);
    }
    let both = "# check=skip=FromAsCasing,MaintainerDeprecated;experimental=all;error=true\n";
    assert_eq!(names(&format!("{both}{body}"), &[]), [""; 0]);
    // Names are what they are, and a comment is for the instruction right below it.
    let other = format!("# check=skip=fromascasing\n{body}");
    assert_eq!(names(&other, &[]).len(), 2);
    let apart = "FROM scratch as a\n# check=skip=MaintainerDeprecated\n\nMAINTAINER me\n";
    assert_eq!(names(apart, &[]).len(), 2);
    t.cooper(&["check", "--build-arg=BUILDKIT_DOCKERFILE_CHECK=oops"])
        .fails(2)
        .says("invalid check option \"oops\"");
}

#[test]
fn findings_show_in_a_build_and_fail_it_only_where_the_file_says_so() {
    let t = TestEnv::new().dockerfile("FROM scratch as a\nCOPY Dockerfile /\n");
    let finding = "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)";
    let out = t.build().ok();
    let err = out.stderr();
    assert!(err.contains(&format!("warning: {finding}")), "{err}");
    let end = format!("{finding} https://docs.docker.com/go/dockerfile/rule/from-as-casing/");
    assert!(err.contains(&end), "{err}");
    t.write("Dockerfile", "# check=error=true\nFROM scratch as a\n");
    t.build()
        .fails(1)
        .says("lint violation found for rules: FromAsCasing");
    t.cooper(&["check"])
        .fails(1)
        .says("lint violation found for rules: FromAsCasing");
    t.write("Dockerfile", "FROM scratch as a\nCPOY x\n");
    t.build()
        .fails(1)
        .says("FromAsCasing")
        .says("unknown instruction: CPOY");
}

#[test]
fn a_check_covers_every_stage_unless_a_target_is_given() {
    let t = TestEnv::new();
    let text = "FROM scratch AS a\nCMD x\nFROM scratch AS b\nCMD y\nRUN [\"/never\"]\n";
    let lines = |options: &[&str]| found(&t, text, options).len();
    assert_eq!(lines(&[]), 2);
    assert_eq!(lines(&["--target=b"]), 1);
    // A build looks at what it needs; what the text alone shows is told for all of it.
    let text = "FROM scratch AS unused\nENV A=$none\nFROM scratch as b\nENV A=1\n";
    assert_eq!(found(&t, text, &[]).len(), 2);
    let told = t.build().ok().stderr();
    assert!(
        told.contains("FromAsCasing") && !told.contains("UndefinedVar"),
        "{told}"
    );
    t.cooper(&["check", "--target=c"])
        .fails(1)
        .says("target stage \"c\" could not be found");
}

#[test]
fn what_is_wrong_with_the_file_fails_the_check_after_its_findings() {
    let t = TestEnv::new().dockerfile("FROM scratch as a\nCOPY --from=b / /\nFROM scratch AS b\n");
    let out = t.cooper(&["check"]).fails(1);
    assert!(out.stdout().contains("FromAsCasing"), "{}", out.stdout());
    let _ = out
        .says("cannot copy from stage \"b\", it needs to be defined before current stage \"a\"")
        .says("Dockerfile:2");
    let out = t.cooper(&["check", "--format=json"]).fails(1);
    let value: Value = serde_json::from_str(&out.stdout()).unwrap();
    assert_eq!(
        value["buildError"]["location"]["ranges"][0]["start"]["line"],
        2
    );
}

#[test]
fn sarif_names_rules_and_places() {
    let t = TestEnv::new().dockerfile("FROM scratch as a\n");
    let out = t.cooper(&["check", "--format=sarif"]).fails(1);
    let value: Value = serde_json::from_str(&out.stdout()).unwrap();
    assert_eq!(value["version"], "2.1.0");
    let run = &value["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"][0]["id"], "FromAsCasing");
    let result = &run["results"][0];
    assert_eq!(result["ruleId"], "FromAsCasing");
    assert_eq!(result["level"], "warning");
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "Dockerfile");
    assert_eq!(place["region"], json!({ "startLine": 1, "endLine": 1 }));
}

#[test]
fn an_outline_lists_the_parameters_of_a_target_and_of_what_it_needs() {
    let t = TestEnv::new().dockerfile(concat!(
        "# VERSION is the version\nARG VERSION=1\nARG UNUSED=2\nARG DEP=$VERSION-x\n",
        "FROM scratch AS first\nARG INOTHER=3\n",
        "FROM scratch AS base\n# FOO is foo\nARG FOO=foo\nARG NONE\nARG VERSION\n",
        "# app builds the app\nFROM base AS app\nARG BAR=$FOO\nARG DEP\nCOPY --from=first / /\n",
        "FROM scratch\nARG X\n",
    ));
    let out = t
        .cooper(&[
            "build",
            "--call=outline",
            "--target=app",
            "--build-arg=NONE=5",
            ".",
        ])
        .ok();
    insta::assert_snapshot!(out.stdout(), @r"
    TARGET:      app
    DESCRIPTION: builds the app

    BUILD ARG   VALUE   DESCRIPTION
    VERSION     1       is the version
    DEP         1-x
    INOTHER     3
    FOO         foo     is foo
    NONE        5
    BAR         foo
    ");
    let out = t.cooper(&["build", "--call=outline,format=json", "--target=app", "."]);
    let value: Value = serde_json::from_str(&out.ok().stdout()).unwrap();
    assert_eq!(value["name"], "app");
    assert_eq!(value["args"][0]["name"], "VERSION");
    assert_eq!(value["args"][0]["description"], "is the version");
    assert_eq!(
        value["args"][0]["location"]["ranges"][0]["start"]["line"],
        2
    );
}

#[test]
fn an_outline_lists_the_secrets_and_agents_of_a_target() {
    let t = TestEnv::new().dockerfile(concat!(
        "FROM scratch AS base\n",
        "RUN --mount=type=secret,id=token,required --mount=type=secret,target=/run/x/file true\n",
        "FROM base AS app\nRUN --mount=type=ssh --mount=type=ssh,id=deploy,required true\n",
        "RUN --mount=type=secret,id=token true\n",
        "FROM scratch AS other\nRUN --mount=type=secret,id=unused true\n",
    ));
    let out = t.cooper(&["build", "--call=outline,format=json", "--target=app", "."]);
    let value: Value = serde_json::from_str(&out.ok().stdout()).unwrap();
    let names = |key: &str| {
        let list = value[key].as_array().unwrap().iter();
        let mut names: Vec<(&str, bool)> = list
            .map(|entry| (entry["name"].as_str().unwrap(), entry["required"] == true))
            .collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names("secrets"), [("file", false), ("token", true)]);
    assert_eq!(names("ssh"), [("default", false), ("deploy", true)]);
    assert_eq!(
        value["secrets"][0]["location"]["ranges"][0]["start"]["line"],
        2
    );
}

#[test]
fn what_can_be_asked_is_described() {
    let t = TestEnv::new();
    let out = t
        .cooper(&["build", "--call=subrequests.describe", "."])
        .ok();
    for name in ["outline", "targets", "check", "subrequests.describe"] {
        assert!(out.stdout().contains(name), "{name}: {}", out.stdout());
    }
    let asked = ["check", "--call=subrequests.describe,format=json"];
    let value: Value = serde_json::from_str(&t.cooper(&asked).ok().stdout()).unwrap();
    assert_eq!(value[0]["name"], "frontend.outline");
    assert_eq!(value[0]["opts"][0]["name"], "target");
    assert_eq!(value[3]["name"], "frontend.subrequests.describe");
    t.cooper(&["build", "--call=llb", "."])
        .fails(2)
        .says("outline");
}

#[test]
fn targets_are_listed_with_their_descriptions() {
    let t = TestEnv::new().dockerfile(
        "# base is below\nFROM scratch AS base\nFROM --platform=$BUILDPLATFORM base AS app\n",
    );
    let out = t.cooper(&["check", "--call=targets"]).ok();
    insta::assert_snapshot!(out.stdout(), @r"
    TARGET          DESCRIPTION
    base            is below
    app (default)
    ");
    let out = t.cooper(&["check", "--call=targets,format=json"]).ok();
    let value: Value = serde_json::from_str(&out.stdout()).unwrap();
    assert_eq!(value["targets"][1]["default"], true);
    assert_eq!(value["targets"][1]["base"], "base");
    assert_eq!(value["targets"][1]["platform"], "$BUILDPLATFORM");
}
