//! One build for several platforms: an index, all of it or nothing.

use std::fs;

use serde_json::Value;

use crate::support::{Server, TestEnv};

const BOTH: &str = "linux/amd64,linux/arm64";

fn per_platform() -> TestEnv {
    TestEnv::new()
        .dockerfile(
            "FROM scratch\nARG TARGETARCH\nARG TARGETPLATFORM\nLABEL on=$TARGETPLATFORM\nCOPY $TARGETARCH /which\n",
        )
        .file("amd64", "amd")
        .file("arm64", "arm")
}

fn parsed(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

/// An architecture that this machine has no programs for.
fn foreign() -> &'static str {
    if cfg!(target_arch = "s390x") {
        "linux/ppc64le"
    } else {
        "linux/s390x"
    }
}

#[test]
fn several_platforms_give_an_index_of_that_name() {
    let t = per_platform();
    let quiet = t
        .cooper(&["build", "-q", "--platform", BOTH, "-t", "app", "."])
        .ok();
    assert!(quiet.stdout().starts_with("sha256:"));
    for (platform, want) in [
        ("linux/amd64", "linux/amd64"),
        ("linux/arm64", "linux/arm64"),
    ] {
        t.write("Dockerfile", "FROM app\n");
        t.build_with(&["--platform", platform, "-t", "one"]).ok();
        let label = t
            .cooper(&["inspect", "-f", "{{.Config.Labels.on}}", "one"])
            .ok()
            .stdout();
        assert_eq!(label, want);
    }
}

#[test]
fn a_layout_holds_the_index_and_its_images() {
    let t = per_platform();
    let annotations = [
        "--annotation",
        "index:of=index",
        "--annotation",
        "manifest[linux/arm64]:of=arm",
        "--annotation",
        "index-descriptor:of=entry",
    ];
    let options = [
        "--platform",
        BOTH,
        "-o",
        "type=oci,tar=false,dest=../layout",
    ];
    t.build_with(&[&options[..], &annotations].concat()).ok();
    let read = |digest: &Value| {
        let hex = &digest.as_str().unwrap()["sha256:".len()..];
        parsed(&fs::read(t.beside("layout/blobs/sha256").join(hex)).unwrap())
    };
    let top = parsed(&fs::read(t.beside("layout/index.json")).unwrap());
    let entries = top["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(
        entries[0]["mediaType"],
        "application/vnd.oci.image.index.v1+json"
    );
    assert_eq!(entries[0]["annotations"]["of"], "entry");
    let index = read(&entries[0]["digest"]);
    assert_eq!(index["annotations"]["of"], "index");
    let architectures: Vec<&Value> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["platform"]["architecture"])
        .collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    let of = |at: usize| read(&index["manifests"][at]["digest"])["annotations"]["of"].clone();
    assert_eq!((of(0), of(1)), (Value::Null, Value::from("arm")));
    let config = read(&read(&index["manifests"][1]["digest"])["config"]["digest"]);
    assert_eq!(config["architecture"], "arm64");
}

#[test]
fn the_index_is_pushed_with_all_its_images() {
    let t = per_platform();
    let registry = Server::http();
    let name = registry.name("app:1").full();
    t.build_with(&[
        "--platform",
        BOTH,
        "-t",
        &name,
        "--push",
        "--metadata-file",
        "meta",
    ])
    .ok();
    let built = parsed(&fs::read(t.path("meta")).unwrap());
    let index = "application/vnd.oci.image.index.v1+json";
    assert_eq!(built["containerimage.descriptor"]["mediaType"], index);
    let again = registry.name("again:1").full();
    let digest = t.cooper(&["push", &name, &again]).ok().stdout();
    assert_eq!(built["containerimage.digest"], digest.as_str());
    for (platform, want) in [("linux/amd64", "amd"), ("linux/arm64", "arm")] {
        let other = TestEnv::new().dockerfile(&format!("FROM {again}\n"));
        other
            .build_with(&["--platform", platform, "-o", "out"])
            .ok();
        assert_eq!(fs::read_to_string(other.path("out/which")).unwrap(), want);
    }
}

#[test]
fn files_of_several_platforms_lie_in_a_directory_each() {
    let t = per_platform();
    t.build_with(&[
        "--platform",
        "linux/amd64,linux/arm/v7",
        "-o",
        "out",
        "--build-arg",
        "TARGETARCH=amd64",
    ])
    .ok();
    assert_eq!(
        fs::read_to_string(t.path("out/linux_amd64/which")).unwrap(),
        "amd"
    );
    assert!(t.path("out/linux_arm_v7/which").exists());
    t.build_with(&["--platform", BOTH, "-o", "type=tar,dest=../x.tar"])
        .ok();
    let mut tar = tar::Archive::new(fs::File::open(t.beside("x.tar")).unwrap());
    let names: Vec<String> = tar
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().display().to_string())
        .collect();
    assert!(
        names.iter().any(|name| name.ends_with("linux_arm64/which")),
        "{names:?}"
    );
    t.build_with(&[
        "--platform",
        "linux/arm64",
        "-o",
        "type=local,dest=one,platform-split=true",
    ])
    .ok();
    assert!(t.path("one/linux_arm64/which").exists());
}

#[test]
fn a_failing_platform_leaves_no_name() {
    let t = per_platform();
    t.remove("arm64");
    t.build_with(&["--platform", BOTH, "-t", "app", "--metadata-file", "meta"])
        .fails(1);
    t.cooper(&["inspect", "app"]).fails(1);
    assert!(!t.path("meta").exists());
}

#[test]
fn steps_say_which_platform_they_are_for() {
    let t = per_platform();
    let steps = t.build_with(&["--platform", BOTH]).ok().steps();
    assert!(
        steps
            .iter()
            .any(|step| step.starts_with("[linux/arm64 1/1] COPY")),
        "{steps:?}"
    );
    t.write("Dockerfile", "FROM --platform=linux/riscv64 scratch AS tool\nCOPY amd64 /a\nFROM scratch\nCOPY --from=tool /a /a\n");
    let steps = t.build_with(&["--platform", BOTH]).ok().steps();
    let cross = "[linux/riscv64->arm64 tool 1/1] COPY";
    assert!(
        steps.iter().any(|step| step.starts_with(cross)),
        "{steps:?}"
    );
}

#[test]
fn a_platform_named_twice_is_built_once() {
    let t = per_platform();
    let steps = t
        .build_with(&["--platform", "linux/arm64,linux/aarch64/v8"])
        .ok()
        .steps();
    assert_eq!(
        steps.iter().filter(|step| step.contains("COPY")).count(),
        1,
        "{steps:?}"
    );
}

#[test]
fn programs_of_another_machine_are_refused_before_any_work() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch AS build\nCOPY a /a\nRUN [\"/a\"]\nFROM localhost/none\nCOPY --from=build /a /a\n")
        .file("a", "a");
    let judged = t
        .build_with(&["--platform", &format!("linux/amd64,{}", foreign())])
        .fails(1);
    let judged = judged
        .says("stage `build` runs programs of")
        .says("Dockerfile:3")
        .says("FROM --platform=$BUILDPLATFORM");
    assert!(
        !judged.stderr().contains("localhost/none"),
        "{}",
        judged.stderr()
    );
    t.write(
        "Dockerfile",
        format!(
            "FROM --platform={} scratch\nCOPY a /a\nLABEL a=b\n",
            foreign()
        ),
    );
    t.build_with(&["-t", "x"]).ok();
    let platform = t
        .cooper(&["inspect", "-f", "{{.Os}}/{{.Architecture}}", "x"])
        .ok()
        .stdout();
    assert_eq!(platform, foreign());
}

#[test]
fn a_stage_built_here_serves_another_platform() {
    let t = TestEnv::new();
    t.busybox("localhost/busybox");
    t.write(
        "Dockerfile",
        "FROM --platform=$BUILDPLATFORM localhost/busybox AS build\nARG TARGETARCH\nRUN echo for $TARGETARCH > /made\n\
         FROM build AS more\nRUN echo more >> /made\nFROM scratch\nCOPY --from=more /made /made\n",
    );
    t.build_with(&[
        "--platform",
        &format!("{},linux/amd64", foreign()),
        "-o",
        "out",
    ])
    .ok();
    let dir = foreign().replace('/', "_");
    let arch = foreign().split('/').nth(1).unwrap();
    assert_eq!(
        fs::read_to_string(t.path(&format!("out/{dir}/made"))).unwrap(),
        format!("for {arch}\nmore\n")
    );
    assert_eq!(
        fs::read_to_string(t.path("out/linux_amd64/made")).unwrap(),
        "for amd64\nmore\n"
    );
}

#[test]
fn what_holds_one_image_refuses_several_platforms() {
    let t = per_platform();
    t.build_with(&["--platform", BOTH, "--iidfile", "id"])
        .fails(2)
        .says("`--iidfile` holds the id of one image");
    t.build_with(&["--platform", BOTH, "-o", "type=docker,dest=x"])
        .fails(2)
        .says("`type=docker` holds an image for one platform");
}
