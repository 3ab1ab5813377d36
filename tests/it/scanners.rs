//! `--sbom-scanner-image` and what belongs to it: SBOMs by commands, as buildah has them.

use std::fs;

use serde_json::Value;

use crate::support::TestEnv;

/// Writes an SPDX document with a package for each file: `list DIR FILE`.
const LIST: &str = r#"list() {
  {
    printf '{"spdxVersion":"SPDX-2.3","packages":['
    comma=
    for f in $(cd "$1" && find . -type f | sort); do
      printf '%s{"name":"%s","versionInfo":"1","externalRefs":[{"referenceCategory":"PACKAGE-MANAGER",' \
        "$comma" "${f#./}"
      printf '"referenceType":"purl","referenceLocator":"pkg:generic/%s@1"}]}' "${f#./}"
      comma=,
    done
    echo ']}'
  } > "$2"
}
"#;

/// Makes an image `localhost/scanner` with this program at `path`.
fn scanner(t: &TestEnv, path: &str, script: &str) {
    t.busybox("localhost/busybox");
    let dir = t.beside("scanner");
    fs::create_dir_all(&dir).unwrap();
    fs::write(
        dir.join("scan"),
        format!("#!/bin/sh\nset -e\n{LIST}{script}\n"),
    )
    .unwrap();
    let text =
        format!("FROM localhost/busybox\nCOPY --chmod=755 scan {path}\nENTRYPOINT [\"/no\"]\n");
    fs::write(dir.join("Dockerfile"), text).unwrap();
    let dir = dir.display().to_string();
    t.cooper(&["build", "-q", "-t", "localhost/scanner", &dir])
        .ok();
}

fn hello() -> TestEnv {
    TestEnv::new()
        .dockerfile("FROM scratch\nCOPY a /dir/a\n")
        .file(
            ".dockerignore",
            "Dockerfile\n.dockerignore\nout\n*.json\n*.txt\n",
        )
        .file("a", "a")
        .file("b", "b")
}

const IMAGE: &str = "--sbom-scanner-image=localhost/scanner";
const SPDX: &str = "--sbom-merge-strategy=merge-spdx-by-package-name-and-versioninfo";

/// The names of the packages in a document.
fn packages(bytes: &[u8]) -> Vec<String> {
    let document: Value = serde_json::from_slice(bytes).unwrap();
    let packages = document["packages"].as_array().unwrap().iter();
    let name = |package: &Value| package["name"].as_str().unwrap().to_owned();
    packages.map(name).collect()
}

#[test]
fn commands_scan_the_result_and_the_context_and_their_documents_become_one() {
    let t = hello().file("more/c", "c");
    scanner(&t, "/scan", "list \"$1\" \"$2\"");
    t.write(
        "Dockerfile",
        "FROM scratch\nCOPY a /dir/a\nCOPY --from=extra c /more/c\n",
    );
    t.write(
        ".dockerignore",
        "Dockerfile\n.dockerignore\nmore\nout*\n*.json\n*.txt\n",
    );
    let options = [
        IMAGE,
        "--sbom-scanner-command=/scan {ROOTFS} {OUTPUT}",
        "--sbom-scanner-command=/scan {CONTEXT} {OUTPUT}",
        SPDX,
        "--build-context=extra=more",
        "--sbom-output=sbom.json",
        "--sbom-purl-output=purls.txt",
        "--sbom-image-output=/root/sbom.json",
        "--sbom-image-purl-output=/root/purls.txt",
        "-t",
        "x",
    ];
    t.build_with(&options).ok();
    let document = fs::read(t.path("sbom.json")).unwrap();
    assert_eq!(packages(&document), ["dir/a", "more/c", "a", "b", "c"]);
    let purls = fs::read_to_string(t.path("purls.txt")).unwrap();
    assert_eq!(
        purls,
        "pkg:generic/a@1\npkg:generic/b@1\npkg:generic/c@1\npkg:generic/dir/a@1\npkg:generic/more/c@1\n"
    );
    let id = |t: &TestEnv| {
        t.cooper(&["inspect", "--format", "{{.Id}}", "x"])
            .ok()
            .stdout()
    };
    let first = id(&t);
    let again = t.build_with(&options).ok();
    let steps = again.steps();
    let scans = steps
        .iter()
        .filter(|step| step.contains("scanning with localhost/scanner"));
    assert_eq!(scans.clone().count(), 3, "{steps:?}");
    assert!(
        scans.clone().all(|step| step.ends_with("cached")),
        "{steps:?}"
    );
    assert_eq!(id(&t), first, "the same scan makes the same image");
    t.build_with(&[&options[..], &["-o", "out"]].concat()).ok();
    assert_eq!(fs::read(t.path("out/root/sbom.json")).unwrap(), document);
    assert_eq!(
        fs::read_to_string(t.path("out/root/purls.txt")).unwrap(),
        purls
    );
    t.build_with(&[&options[..], &["--squash", "-t", "squashed"]].concat())
        .ok();
    t.write("Dockerfile", "FROM squashed\n");
    t.build_with(&["-o", "out2"]).ok();
    assert_eq!(fs::read(t.path("out2/root/sbom.json")).unwrap(), document);
    // What changed is scanned anew.
    t.write("Dockerfile", "FROM scratch\nCOPY b /b\n");
    t.build_with(&options[..8]).ok();
    let document = fs::read(t.path("sbom.json")).unwrap();
    assert_eq!(packages(&document), ["b", "a"]);
}

#[test]
fn presets_run_the_commands_that_buildah_runs() {
    for (preset, path, script) in [
        (
            "syft-spdx",
            "/syft",
            r#"test "$1 $2 $4" = "scan -q --output"; list "${3#dir:}" "${5#spdx-json=}""#,
        ),
        (
            "trivy-spdx",
            "/bin/trivy",
            r#"test "$1 $2 $4 $5 $6" = "filesystem -q --format spdx-json --output"; list "$3" "$7""#,
        ),
    ] {
        let t = hello();
        scanner(&t, path, script);
        let image = match preset {
            "syft-spdx" => "ghcr.io/anchore/syft",
            _ => "ghcr.io/aquasecurity/trivy",
        };
        t.cooper(&["tag", "localhost/scanner", image]).ok();
        let sbom = format!("--sbom={preset}");
        t.build_with(&[&sbom, "--pull=never", "--sbom-output=sbom.json"])
            .ok();
        let document = fs::read(t.path("sbom.json")).unwrap();
        assert_eq!(packages(&document), ["dir/a", "a", "b"], "{preset}");
    }
}

#[test]
fn a_working_container_is_scanned_when_it_is_committed() {
    let t = hello();
    scanner(&t, "/scan", "list \"$1\" \"$2\"");
    t.cooper(&["from", "--name=c", "scratch"]).ok();
    t.cooper(&["copy", "-q", "c", "a", "/dir/a"]).ok();
    let commit = |t: &TestEnv| {
        let args = [
            "commit",
            "-q",
            IMAGE,
            "--sbom-scanner-command=/scan {ROOTFS} {OUTPUT}",
            "--sbom-scanner-command=/scan {CONTEXT} {OUTPUT}",
            "--sbom-output=sbom.json",
            "--sbom-image-output=/dir/sbom.json",
            "c",
            "made",
        ];
        t.cooper(&args).ok();
        packages(&fs::read(t.path("sbom.json")).unwrap())
    };
    assert_eq!(commit(&t), ["dir/a"], "a container has no context");
    t.write("Dockerfile", "FROM made\n");
    t.build_with(&["-o", "out"]).ok();
    assert_eq!(
        fs::read(t.path("out/dir/sbom.json")).unwrap(),
        fs::read(t.path("sbom.json")).unwrap()
    );
    assert_eq!(fs::read_to_string(t.path("out/dir/a")).unwrap(), "a");
    t.cooper(&["copy", "-q", "c", "b", "/b"]).ok();
    assert_eq!(commit(&t), ["b", "dir/a"], "an earlier scan is no answer");
}

#[test]
fn a_scanner_cannot_change_what_it_scans() {
    let t = hello();
    let write = "if echo x > \"$1/dir/a\" || echo x > \"$2/a\"; then exit 9; fi 2> /dev/null";
    scanner(&t, "/scan", &format!("{write}\nlist \"$1\" \"$3\""));
    let command = "--sbom-scanner-command=/scan {ROOTFS} {CONTEXT} {OUTPUT}";
    t.build_with(&[IMAGE, command, "--sbom-output=sbom.json", "-o", "out"])
        .ok();
    assert_eq!(fs::read_to_string(t.path("out/dir/a")).unwrap(), "a");
    assert_eq!(fs::read_to_string(t.path("a")).unwrap(), "a");
}

#[test]
fn documents_are_kept_inside_the_image_whatever_its_links_say() {
    let t = hello().dockerfile("FROM scratch\nCOPY a /dir/a\nCOPY links /\n");
    t.write("links/kept", "");
    t.symlink("/dir/../../../dir", "links/etc");
    scanner(&t, "/scan", "list \"$1\" \"$2\"");
    let command = "--sbom-scanner-command=/scan {ROOTFS} {OUTPUT}";
    let keep = |path: &str| {
        let path = format!("--sbom-image-output={path}");
        t.build_with(&[IMAGE, command, &path, "-o", "out"])
    };
    keep("/etc/sbom.json").ok();
    assert!(t.path("out/dir/sbom.json").exists());
    keep("/dir")
        .fails(1)
        .says("cannot replace directory /dir with a file");
}

#[test]
fn what_is_wrong_with_a_scan_is_told() {
    let t = hello();
    scanner(
        &t,
        "/scan",
        "case $1 in silent) ;; bad) echo x > $2;; *) exit 3;; esac",
    );
    let wrong = |options: &[&str], code: i32, why: &str| {
        t.build_with(&[options, &["-t", "never"]].concat())
            .fails(code)
            .says(why);
    };
    wrong(&["--sbom=syft"], 2, "nobody wants what it finds");
    wrong(&[IMAGE], 2, "nobody wants what it finds");
    wrong(
        &["--sbom-output=f", "--sbom-merge-strategy=glue"],
        2,
        "expected cat, merge-cyclonedx-by-component-name-and-version",
    );
    wrong(
        &["--sbom-output=f", "--sbom-scanner-command='x"],
        2,
        "a quote is never closed",
    );
    wrong(
        &["--sbom-output=f", "--sbom-scanner-command="],
        2,
        "is empty",
    );
    wrong(
        &["--sbom-output=f", IMAGE, "--attest=type=sbom,generator=x"],
        2,
        "`sbom` is asked for twice",
    );
    wrong(
        &[
            "--sbom-output=f",
            IMAGE,
            "--platform=linux/amd64,linux/arm64",
        ],
        2,
        "several platforms give several",
    );
    wrong(
        &["--sbom-output=f", "--sbom-scanner-image=localhost/none"],
        1,
        "hint: `--sbom generator=IMAGE` and `--sbom-scanner-image IMAGE` name another",
    );
    let silent = "--sbom-scanner-command=/scan silent {ROOTFS}";
    let bad = "--sbom-scanner-command=/scan bad {OUTPUT}";
    let fails = "--sbom-scanner-command=/scan fails";
    wrong(
        &["--sbom-output=f", IMAGE, silent],
        1,
        "wrote no file to `{OUTPUT}`",
    );
    wrong(
        &["--sbom-output=f", IMAGE, bad, bad],
        1,
        "cannot be merged: expected value",
    );
    wrong(&["--sbom-output=f", IMAGE, fails], 1, "exit code: 3");
    assert!(!t.path("f").exists());
    t.cooper(&["inspect", "never"]).fails(1);
    t.build_with(&[
        "--sbom-output=f",
        IMAGE,
        "--sbom-merge-strategy=cat",
        bad,
        bad,
    ])
    .ok();
    assert_eq!(fs::read_to_string(t.path("f")).unwrap(), "x\nx\n");
}
