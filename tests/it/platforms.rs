//! One build for several platforms: an index, all of it or nothing.

use std::fs;

use cooper::image::Platform;
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
fn a_finding_is_told_once_however_many_platforms_have_it() {
    let t = TestEnv::new().dockerfile("FROM scratch\nENV A=$none\n");
    let options = [
        "--platform=linux/amd64",
        "--platform=linux/arm64,linux/s390x",
    ];
    let dir = "type=oci,tar=false,dest=../layout";
    let told = t.build_with(&[&options[..], &["-o", dir]].concat()).ok();
    let finding = "warning: UndefinedVar: Usage of undefined variable '$none' (line 2)";
    let err = told.stderr();
    assert_eq!(err.matches(finding).count(), 1, "{err}");
    told.says("1 warning found");
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
    assert_eq!(
        platform,
        Platform::host().to_string(),
        "as nobody asked for another"
    );
}

/// What the image `x` says that it is for.
fn made_for(t: &TestEnv) -> String {
    let out = t.cooper(&["inspect", "--format", "json", "x"]).ok();
    let image = parsed(out.stdout().as_bytes())[0].take();
    let fields = ["Os", "Architecture", "Variant"].map(|field| image[field].as_str());
    fields.into_iter().flatten().collect::<Vec<_>>().join("/")
}

#[test]
fn an_image_is_for_the_platform_that_was_asked_for_whatever_its_stage_is_for() {
    let t = TestEnv::new().file("a", "a");
    for text in [
        "FROM --platform=linux/riscv64 scratch\nCOPY a /a\n",
        "FROM --platform=linux/riscv64 scratch AS b\nCOPY a /a\nFROM b\n",
        "FROM scratch\nCOPY a /a\n",
    ] {
        t.write("Dockerfile", text);
        t.build_with(&["-t", "x", "--platform=linux/arm/v6"]).ok();
        assert_eq!(made_for(&t), "linux/arm/v6", "{text}");
    }
    // A base of another platform is taken where its stage says so.
    t.build_with(&["-t", "base", "--platform=linux/riscv64"])
        .ok();
    t.write(
        "Dockerfile",
        "FROM --platform=linux/riscv64 base\nLABEL a=b\n",
    );
    t.build_with(&["-t", "x", "--platform=linux/arm64"]).ok();
    assert_eq!(made_for(&t), "linux/arm64");
    t.build_with(&["-t", "x"]).ok();
    assert_eq!(
        made_for(&t),
        "linux/riscv64",
        "nobody asked: it is the base's"
    );
}

#[test]
fn a_base_for_another_platform_will_do_where_nobody_asked_for_one() {
    let t = TestEnv::new()
        .file("a", "a")
        .dockerfile("FROM scratch\nCOPY a /a\n");
    let arch = foreign();
    t.build_with(&["-t", "localhost/base", "-t", "base", "--platform", arch])
        .ok();
    let told = format!(
        "was pulled with platform \"{arch}\", expected \"{}\" for current build",
        Platform::host()
    );
    for (base, pull) in [("localhost/base", "missing"), ("base", "never")] {
        t.write("Dockerfile", format!("FROM {base}\nLABEL b=c\n"));
        let pull = format!("--pull={pull}");
        let out = t.build_with(&["-t", "x", &pull]).ok();
        out.says(&told).says("InvalidBaseImagePlatform");
        assert_eq!(made_for(&t), arch);
        let host = Platform::host().to_string();
        t.build_with(&[&pull, "--platform", &host]).fails(1);
    }
}

/// How programs of the foreign architecture begin (elf(5)).
fn foreign_header() -> [u8; 20] {
    let mut header = *b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\x16";
    if foreign() == "linux/ppc64le" {
        header[5] = 1;
        header[16..].copy_from_slice(b"\x02\0\x15\0");
    }
    header
}

/// Writes a program of the foreign architecture, for [`build_with_handler`].
fn write_foreign(t: &TestEnv) {
    let text = b"\necho a foreign program > /made\nexit 0\n";
    t.write("foreign", [&foreign_header()[..], text].concat());
    t.chmod("foreign", 0o755);
}

/// Builds where the kernel hands programs of the foreign architecture to a shell: one takes the
/// header for a mistake, and goes on with the lines behind it.
///
/// The handler is that of a user namespace of its own (Linux 6.7), and the machine's stay as they are.
fn build_with_handler(t: &TestEnv, flags: &str, options: &[&str]) -> std::process::Output {
    let shell = t.beside("sh");
    fs::copy("/bin/busybox", &shell).expect("busybox-static is installed");
    let header = foreign_header();
    let magic: String = header.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let rule = format!(":foreign:M::{magic}::{}:{flags}", shell.display());
    write_foreign(t);
    let prepare = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
        printf %s \"$1\" > /proc/sys/fs/binfmt_misc/register
        shift; exec \"$@\"";
    t.command("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "--mount"])
        .args(["sh", "-ec", prepare, "sh", &rule])
        .args([env!("CARGO_BIN_EXE_cooper"), "build", "--network=host"])
        .args(options)
        .arg(".")
        .output()
        .unwrap()
}

#[test]
fn a_run_for_another_platform_goes_through_the_kernels_handler() {
    let t = TestEnv::as_user("sub");
    fs::copy("/bin/busybox", t.path("busybox")).expect("busybox-static is installed");
    let own = Platform::host();
    let (arch, own_arch) = (foreign().split('/').nth(1).unwrap(), &own.architecture);
    t.write(
        "Dockerfile",
        format!(
            "ARG TARGETARCH\nFROM scratch AS {own_arch}\nCOPY busybox /bin/sh\nRUN echo our own > /made\n\
             FROM scratch AS {arch}\nCOPY foreign /\nRUN [\"/foreign\"]\nFROM $TARGETARCH\n"
        ),
    );
    let platforms = format!("--platform={},{}", Platform::host(), foreign());
    let out = build_with_handler(&t, "F", &[&platforms, "-o", "out"]);
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{told}");
    let made = |dir: &str| fs::read_to_string(t.path(&format!("out/{dir}/made"))).unwrap();
    assert_eq!(made(&own.to_string().replace('/', "_")), "our own\n");
    assert_eq!(made(&foreign().replace('/', "_")), "a foreign program\n");
}

#[test]
fn a_handler_that_would_look_inside_the_image_is_told_and_not_used() {
    let t = TestEnv::as_user("sub");
    t.write(
        "Dockerfile",
        "FROM scratch\nCOPY foreign /\nRUN [\"/foreign\"]\n",
    );
    let platform = format!("--platform={}", foreign());
    let out = build_with_handler(&t, "C", &[&platform]);
    let told = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{told}");
    for part in [
        "this machine's handler for them, `foreign`, lacks the flag F",
        "Dockerfile:3",
        "register it again with flag F",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn programs_of_a_base_for_another_platform_run_if_they_can() {
    let t = TestEnv::as_user("sub");
    let base = "FROM scratch\nCOPY foreign /\n";
    let runs = "FROM base AS a\nRUN [\"/foreign\"]\nFROM a\nCOPY Dockerfile /\n";
    t.write("Dockerfile", base);
    let platform = format!("--platform={}", foreign());
    let out = build_with_handler(&t, "F", &[&platform, "-t", "base"]);
    assert!(out.status.success(), "{out:?}");
    t.write("Dockerfile", runs);
    let out = build_with_handler(&t, "F", &["--pull=never", "-o", "out"]);
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{told}");
    assert!(!told.contains("InvalidBaseImagePlatform"), "{told}");
    let made = fs::read_to_string(t.path("out/made")).unwrap();
    assert_eq!(made, "a foreign program\n");

    // Without a handler they are tried, since what an image says of itself may be wrong.
    let t = TestEnv::new();
    write_foreign(&t);
    t.write("Dockerfile", base);
    t.build_with(&[&platform, "-t", "base"]).ok();
    t.write("Dockerfile", runs);
    t.build_with(&["--pull=never"])
        .fails(1)
        .says("was pulled with platform")
        .says("`/foreign` is not a program that this machine can run")
        .says("Dockerfile:2");
    fs::copy("/bin/busybox", t.path("foreign")).expect("busybox-static is installed");
    t.write("Dockerfile", "FROM scratch\nCOPY foreign /bin/sh\n");
    t.build_with(&[&platform, "-t", "base"]).ok();
    t.write("Dockerfile", "FROM base\nRUN true\n");
    t.build_with(&["--pull=never"]).ok();
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
