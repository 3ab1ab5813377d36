//! What `build` reads and writes besides images.

use std::fs;

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::TestEnv;

fn hello() -> TestEnv {
    TestEnv::new()
        .dockerfile("FROM scratch\nARG V=1\nCOPY hello /hello\nLABEL v=$V\n")
        .file("hello", "hello\n")
}

#[test]
fn quiet_prints_the_id_and_nothing_else() {
    let t = hello().var("SOURCE_DATE_EPOCH", "1700000000");
    let quiet = t.cooper(&["build", "-q", "."]).ok();
    assert_snapshot!(quiet.shown(), @"[SHA]");
    assert_eq!(quiet.stderr(), "");
    let also = t.cooper(&["build", "--progress=quiet", "."]).ok();
    assert_eq!(also.stdout(), quiet.stdout());
    let loud = t.build().ok();
    assert_eq!(loud.stdout(), "");
    assert!(loud.stderr().contains(&quiet.stdout()));
}

#[test]
fn result_files_hold_ids_and_names() {
    let t = hello();
    let files = [
        "--iidfile",
        "id",
        "--metadata-file",
        "meta",
        "-t",
        "a",
        "-t",
        "b:2",
    ];
    t.build_with(&files).ok();
    let id = fs::read_to_string(t.path("id")).unwrap();
    assert_eq!(
        id,
        t.cooper(&["images", "-q", "--no-trunc", "a"]).ok().stdout()
    );
    let meta: Value = serde_json::from_str(&fs::read_to_string(t.path("meta")).unwrap()).unwrap();
    assert_eq!(meta["containerimage.config.digest"], id);
    assert!(
        meta["containerimage.digest"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    assert_eq!(
        meta["image.name"],
        "docker.io/library/a:latest,docker.io/library/b:2"
    );
}

#[test]
fn build_args_come_from_options_and_the_environment() {
    let t = hello().var("V", "env");
    let label = |args: &[&str]| {
        let mut all = vec!["build", "-q", "-t", "x"];
        all.extend(args);
        all.push(".");
        t.cooper(&all).ok();
        t.cooper(&["inspect", "-f", "{{.Config.Labels.v}}", "x"])
            .ok()
            .stdout()
    };
    assert_eq!(label(&[]), "1");
    assert_eq!(label(&["--build-arg", "V=2"]), "2");
    assert_eq!(label(&["--build-arg", "V=2", "--build-arg", "V=3"]), "3");
    assert_eq!(label(&["--build-arg", "V"]), "env");
    assert_eq!(label(&["--build-arg", "UNSET", "--build-arg", "V="]), "");
}

#[test]
fn standard_input_is_a_dockerfile_or_a_tar() {
    let t = hello();
    let from_text = b"FROM scratch\nLABEL made=here\n";
    let id = t
        .cooper_reading(from_text, &["build", "-q", "-"])
        .ok()
        .stdout();
    assert!(id.starts_with("sha256:"));
    t.cooper_reading(b"FROM scratch\nCOPY hello /\n", &["build", "-q", "-"])
        .fails(1);
    let with_context = b"FROM scratch\nCOPY hello /\n";
    t.cooper_reading(with_context, &["build", "-q", "-f", "-", "."])
        .ok();

    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all("", t.path("")).unwrap();
    let plain = tar.into_inner().unwrap();
    let from_tar = t
        .cooper_reading(&plain, &["build", "-q", "-"])
        .ok()
        .stdout();
    fs::write(t.beside("context.tar"), &plain).unwrap();
    let from_file = t.cooper(&["build", "-q", "../context.tar"]).ok().stdout();
    assert_eq!(from_tar.len(), from_file.len());
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, &plain).unwrap();
    let packed = gz.finish().unwrap();
    t.cooper_reading(&packed, &["build", "-q", "-f", "Dockerfile", "-"])
        .ok();
}

#[test]
fn a_dockerfile_is_found_here_or_in_the_context() {
    let t = TestEnv::new().file("sub/ci.Dockerfile", "FROM scratch\nLABEL x=y\n");
    t.cooper(&["build", "-q", "-f", "sub/ci.Dockerfile", "."])
        .ok();
    t.cooper(&["build", "-q", "-f", "ci.Dockerfile", "sub"])
        .ok();
}

#[test]
fn rawjson_is_one_object_a_line() {
    let t = hello();
    let out = t.cooper(&["build", "--progress=rawjson", "."]).ok();
    let events: Vec<Value> = out
        .stderr()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<&str> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"planned") && names.contains(&"done"),
        "{names:?}"
    );
}

#[test]
fn outputs_go_to_files_and_standard_output() {
    let t = hello();
    t.cooper(&["build", "-o", "out", "."]).ok();
    assert_eq!(fs::read_to_string(t.path("out/hello")).unwrap(), "hello\n");
    let tar = t.cooper(&["build", "-o", "-", "."]).ok();
    let mut archive = tar::Archive::new(tar.bytes());
    let names: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert!(names.contains(&"hello".to_owned()), "{names:?}");
    t.cooper(&["build", "-o", "type=oci,dest=o.tar", "."]).ok();
    t.cooper(&["build", "-o", "type=docker,dest=d.tar", "-t", "x", "."])
        .ok();
    assert!(t.path("o.tar").is_file() && t.path("d.tar").is_file());
    assert_eq!(
        t.cooper(&["images", "-q", "x"]).ok().stdout(),
        "",
        "only an archive was asked for"
    );
}
