//! `--sbom`: generators, which are images that look at what was built.

use std::fs;

use crate::attestations::{Layout, hello, json};
use crate::support::TestEnv;

/// Makes an image whose program writes `script`'s idea of an SBOM.
fn generator(t: &TestEnv, script: &str) {
    t.busybox("localhost/busybox");
    let dir = t.beside("generator");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("scan"), format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
    let text = "FROM localhost/busybox\nCOPY --chmod=755 scan /scan\nENTRYPOINT [\"/scan\"]\n";
    fs::write(dir.join("Dockerfile"), text).unwrap();
    let dir = dir.display().to_string();
    t.cooper(&["build", "-q", "-t", "localhost/generator", &dir])
        .ok();
}

/// A script that lists the files it may scan, one statement for each file system.
const LIST: &str = r#"
list() {
  names=$(cd "$1" && find . -type f | sort | tr '\n' ' ')
  printf '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":{"name":"%s"}}' \
    "$names" > "$BUILDKIT_SCAN_DESTINATION/$(basename "$1").spdx.json"
}
list "$BUILDKIT_SCAN_SOURCE"
if [ -n "$BUILDKIT_SCAN_SOURCE_EXTRAS" ]; then
  for extra in "$BUILDKIT_SCAN_SOURCE_EXTRAS"/*; do list "$extra"; done
fi"#;
const SPDX: &str = "https://spdx.dev/Document";
const SBOM: &str = "--sbom=generator=localhost/generator";

#[test]
fn a_generator_scans_the_result_and_is_cached() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY f /dir/f\n")
        .file("f", "f");
    generator(&t, LIST);
    let layout = Layout::of(&t, "", &[SBOM, "--provenance=mode=min"]);
    let statements = layout.statements(0);
    assert_eq!(statements[0]["predicateType"], SPDX);
    assert_eq!(statements[0]["predicate"]["name"], "./dir/f ");
    assert_eq!(statements[0]["_type"], "https://in-toto.io/Statement/v1");
    let dependencies = &statements[1]["predicate"]["buildDefinition"]["resolvedDependencies"];
    let scanner = dependencies[0]["uri"].as_str().unwrap();
    assert!(
        scanner.starts_with("pkg:docker/localhost/generator@latest"),
        "{scanner}"
    );
    let again = t.build_with(&[SBOM]).ok();
    let cached = |step: &&String| step.contains("generating sbom") && step.ends_with("cached");
    assert!(
        again.steps().iter().any(|step| cached(&step)),
        "{:?}",
        again.steps()
    );
    t.build_with(&["-o", "out", SBOM]).ok();
    assert_eq!(
        json(&t.path("out/sbom.spdx.json"))["predicate"]["name"],
        "./dir/f "
    );
}

#[test]
fn further_stages_and_the_context_are_scanned_on_request() {
    let t = TestEnv::new()
        .file("f", "f")
        .file(".dockerignore", "Dockerfile\n.dockerignore\n");
    generator(&t, LIST);
    let scanned = |text: &str, options: &[&str]| -> Vec<String> {
        t.write("Dockerfile", text);
        let layout = Layout::of(&t, "", &[&[SBOM], options].concat());
        let names = layout.statements(0).into_iter();
        names
            .map(|s| s["predicate"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let stages = "FROM scratch AS tools\nCOPY f /t\nFROM scratch AS unused\nCOPY f /u\n\
                  FROM scratch\nCOPY --from=tools /t /r\n";
    assert_eq!(scanned(stages, &[]), ["./r "]);
    let stage = stages.replacen("COPY", "ARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY", 1);
    assert_eq!(scanned(&stage, &[]), ["./r ", "./t "]);
    let global = format!("ARG BUILDKIT_SBOM_SCAN_STAGE=tools,unused\n{stages}");
    assert_eq!(
        scanned(&global, &[]),
        ["./r ", "./t "],
        "only what is built is scanned"
    );
    let none = "--build-arg=BUILDKIT_SBOM_SCAN_STAGE=false";
    assert_eq!(scanned(&global, &[none]), ["./r "]);
    let context = format!("ARG BUILDKIT_SBOM_SCAN_CONTEXT=1\n{stages}");
    assert_eq!(scanned(&context, &[]), ["./r ", "./f "]);
    t.write(
        "Dockerfile",
        "FROM localhost/busybox\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN env\n",
    );
    let err = t.build().ok().stderr();
    assert!(
        !err.contains("BUILDKIT_SBOM_SCAN_STAGE=true\n"),
        "no step sees it: {err}"
    );
}

#[test]
fn a_generator_cannot_change_what_it_scans() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY f /f\n")
        .file("f", "f");
    let script =
        format!("if echo x > \"$BUILDKIT_SCAN_SOURCE/f\"; then exit 9; fi 2>/dev/null\n{LIST}");
    generator(&t, &script);
    t.build_with(&["-o", "out", SBOM]).ok();
    assert_eq!(fs::read_to_string(t.path("out/f")).unwrap(), "f");
}

#[test]
fn what_a_generator_must_not_do_is_said() {
    let t = hello();
    t.build_with(&["--sbom=generator=localhost/none"])
        .fails(1)
        .says("cannot scan the result with `localhost/none:latest`")
        .says(
            "hint: `--sbom generator=IMAGE` and `--sbom-scanner-image IMAGE` name another program",
        );
    for (script, why) in [
        ("true", "wrote no `*.spdx.json`"),
        (
            "echo x > $BUILDKIT_SCAN_DESTINATION/a.json",
            "`a.json` cannot be used",
        ),
        (
            "echo '{\"predicateType\":\"https://slsa.dev/provenance/v1\",\"predicate\":{}}' \
             > $BUILDKIT_SCAN_DESTINATION/a.json",
            "a generator states no provenance",
        ),
        (
            "dd if=/dev/zero of=$BUILDKIT_SCAN_DESTINATION/a.spdx.json bs=1048576 count=41",
            "at most 40 MiB are taken",
        ),
        ("exit 3", "exit code: 3"),
    ] {
        generator(&t, script);
        let told = t.build_with(&[SBOM, "-t", "never"]).fails(1).says(why);
        let told = told.says("cannot scan the result with `localhost/generator:latest`");
        let err = told.stderr();
        assert!(!err.contains("Dockerfile:1"), "no line asks for it: {err}");
        t.cooper(&["inspect", "never"]).fails(1);
    }
}
