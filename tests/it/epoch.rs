//! The time a build is made with: in the config, in the layers, in files that are written.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use crate::support::TestEnv;
use crate::support::git::{GitServer, Repo};

const EPOCH: &str = "1600000000";
const SHOWN: &str = "2020-09-13T12:26:40Z";

fn context() -> TestEnv {
    TestEnv::new()
        .dockerfile("FROM scratch\nWORKDIR /w\nCOPY a a\nLABEL a=b\n")
        .file("a", "a")
}

/// The config of the image `name`.
fn config(t: &TestEnv, name: &str) -> Value {
    t.cooper(&["save", "-o", "../saved.tar", name]).ok();
    let mut tar = tar::Archive::new(fs::File::open(t.beside("saved.tar")).unwrap());
    let mut files = std::collections::HashMap::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        files.insert(path, bytes);
    }
    let listed: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    serde_json::from_slice(&files[listed[0]["Config"].as_str().unwrap()]).unwrap()
}

fn times(config: &Value) -> Vec<&str> {
    let history = config["history"].as_array().unwrap().iter();
    let all = history.chain([config]);
    all.map(|entry| entry["created"].as_str().unwrap())
        .collect()
}

#[test]
fn the_epoch_dates_image_and_history() {
    let t = context().var("SOURCE_DATE_EPOCH", EPOCH);
    t.build_with(&["-t", "x"]).ok();
    assert_eq!(times(&config(&t, "x")), [SHOWN; 4]);
    let t = context();
    t.build_with(&[
        "-t",
        "x",
        "--build-arg",
        &format!("SOURCE_DATE_EPOCH={EPOCH}"),
    ])
    .ok();
    assert_eq!(times(&config(&t, "x")), [SHOWN; 4]);
    t.build_with(&["-t", "y", "--timestamp", EPOCH]).ok();
    assert_eq!(times(&config(&t, "y")), [SHOWN; 4]);
}

#[test]
fn a_global_arg_of_the_dockerfile_is_the_epoch_of_nobody_else() {
    let t = context();
    t.write(
        "Dockerfile",
        format!("ARG SOURCE_DATE_EPOCH={EPOCH}\nFROM scratch\nCOPY a /a\n"),
    );
    t.build_with(&["-t", "x"]).ok();
    assert_eq!(times(&config(&t, "x")), [SHOWN; 2]);
    t.build_with(&["-t", "x", "--build-arg", "SOURCE_DATE_EPOCH=0"])
        .ok();
    assert_eq!(times(&config(&t, "x")), ["1970-01-01T00:00:00Z"; 2]);
    t.write(
        "Dockerfile",
        "ARG SOURCE_DATE_EPOCH=soon\nFROM scratch\nCOPY a /a\n",
    );
    t.build().fails(1).says("expected seconds since 1970");
}

#[test]
fn an_output_has_the_last_word_about_the_epoch() {
    let t = context().var("SOURCE_DATE_EPOCH", EPOCH);
    t.build_with(&["-o", "type=image,name=x,source-date-epoch=0"])
        .ok();
    assert_eq!(times(&config(&t, "x")), ["1970-01-01T00:00:00Z"; 4]);
    t.build_with(&["-o", "type=image,name=y,source-date-epoch="])
        .ok();
    assert!(times(&config(&t, "y")).iter().all(|time| *time != SHOWN));
}

#[test]
fn files_that_are_written_are_not_later_than_the_epoch() {
    let t = context().var("SOURCE_DATE_EPOCH", EPOCH);
    t.build_with(&["-o", "out", "-o", "type=tar,dest=../x.tar"])
        .ok();
    let epoch: i64 = EPOCH.parse().unwrap();
    for name in ["out/w", "out/w/a"] {
        assert_eq!(fs::metadata(t.path(name)).unwrap().mtime(), epoch, "{name}");
    }
    let mut tar = tar::Archive::new(fs::File::open(t.beside("x.tar")).unwrap());
    for entry in tar.entries().unwrap() {
        let time = entry.unwrap().header().mtime().unwrap();
        assert_eq!(i64::try_from(time).unwrap(), epoch);
    }
}

#[test]
fn times_that_are_early_enough_stay() {
    let t = context().var("SOURCE_DATE_EPOCH", EPOCH);
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let file = fs::File::options().write(true).open(t.path("a")).unwrap();
    file.set_modified(old).unwrap();
    t.build_with(&["-o", "out"]).ok();
    assert_eq!(
        fs::metadata(t.path("out/w/a")).unwrap().mtime(),
        1_000_000_000
    );
}

#[test]
fn two_cold_builds_with_an_epoch_give_one_digest() {
    let digest = || {
        let t = TestEnv::new().var("SOURCE_DATE_EPOCH", EPOCH);
        t.busybox("localhost/busybox");
        t.write(
            "Dockerfile",
            "FROM localhost/busybox\nRUN mkdir /d && echo a > /d/a && rm /bin/ls\nCOPY . /c\n",
        );
        t.build_with(&["-o", "type=oci,dest=../x.oci", "--metadata-file", "../meta"])
            .ok();
        let meta: Value = serde_json::from_slice(&fs::read(t.beside("meta")).unwrap()).unwrap();
        meta["containerimage.digest"].as_str().unwrap().to_owned()
    };
    assert_eq!(digest(), digest());
}

#[test]
fn layers_and_history_of_the_base_stay_as_they_are() {
    let t = context();
    t.build_with(&["-t", "localhost/base"]).ok();
    let base = config(&t, "localhost/base");
    t.write("Dockerfile", "FROM localhost/base\nCOPY a /b\n");
    t.build_with(&["-t", "x", "--timestamp", "1"]).ok();
    let made = config(&t, "x");
    let old = base["rootfs"]["diff_ids"].as_array().unwrap();
    assert_eq!(
        &made["rootfs"]["diff_ids"].as_array().unwrap()[..old.len()],
        old.as_slice()
    );
    let old = base["history"].as_array().unwrap();
    assert_eq!(
        &made["history"].as_array().unwrap()[..old.len()],
        old.as_slice()
    );
    assert_eq!(
        made["history"][old.len()]["created"],
        "1970-01-01T00:00:01Z"
    );
}

#[test]
fn without_rewriting_layers_keep_their_times() {
    let t = context().var("SOURCE_DATE_EPOCH", EPOCH);
    t.build_with(&["-o", "type=image,name=x,rewrite-timestamp=false"])
        .ok();
    let kept = config(&t, "x");
    t.build_with(&["-o", "type=image,name=x,rewrite-timestamp=true"])
        .ok();
    let clamped = config(&t, "x");
    assert_eq!(times(&kept), times(&clamped));
    assert_ne!(kept["rootfs"]["diff_ids"], clamped["rootfs"]["diff_ids"]);
}

#[test]
fn an_image_with_rewritten_layers_says_that_it_carries_no_cache() {
    let t = context().var("SOURCE_DATE_EPOCH", EPOCH);
    let inline = ["-t", "x", "--cache-to", "type=inline"];
    let told = t.build_with(&inline).ok();
    told.says("the image carries no cache, since its layers are not as the steps made them");
    assert!(config(&t, "x").get("moby.buildkit.cache.v0").is_none());
    let options = ["-o", "type=image,name=x,rewrite-timestamp=false"];
    let told = t.build_with(&[&options[..], &inline[2..]].concat()).ok();
    assert!(!told.stderr().contains("carries no cache"));
    assert!(config(&t, "x").get("moby.buildkit.cache.v0").is_some());
}

/// The time of every commit of the tests' repositories.
const COMMITTED: &str = "2015-10-21T07:28:00Z";

#[test]
fn a_context_from_elsewhere_gives_the_epoch() {
    let t = TestEnv::new();
    let root = t.beside("git");
    let repo = Repo::new(&root, "app");
    repo.file("Dockerfile", "FROM scratch\nCOPY f /f\n")
        .file("f", "f");
    repo.commit();
    let server = GitServer::smart(&root);
    let url = server.url("app");
    let epoch = "--build-arg=SOURCE_DATE_EPOCH=context";
    t.cooper(&["build", "-t", "x", epoch, &url]).ok();
    assert_eq!(times(&config(&t, "x")), [COMMITTED; 2]);
    let t = context();
    t.build_with(&["-t", "y", epoch]).ok();
    let now = config(&t, "y");
    assert!(
        times(&now).iter().all(|time| *time > "2026"),
        "a directory of the caller's has no time: {now}"
    );
}

#[test]
fn a_named_context_or_a_stage_with_one_remote_add_gives_the_epoch() {
    let t = context();
    let root = t.beside("git");
    let repo = Repo::new(&root, "app");
    repo.file("f", "f");
    repo.commit();
    let server = GitServer::smart(&root);
    let url = server.url("app");
    let context = format!("--build-context=src={url}");
    let env = "--build-arg=SOURCE_DATE_EPOCH=src";
    t.build_with(&["-t", "x", &context, env]).ok();
    assert_eq!(times(&config(&t, "x")), [COMMITTED; 4]);
    t.write(
        "Dockerfile",
        format!(
            "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD {url} /\n\
             FROM scratch\nCOPY --from=src f /f\n"
        ),
    );
    t.build_with(&["-t", "y"]).ok();
    assert_eq!(times(&config(&t, "y")), [COMMITTED; 2]);
    for stage in ["ADD f /\n", "ENV a=b\n", "COPY f /\n"] {
        let text = format!("ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\n{stage}");
        t.write("Dockerfile", text);
        t.build()
            .fails(1)
            .says("SOURCE_DATE_EPOCH")
            .says("one remote ADD");
    }
}

#[test]
fn a_layout_says_when_its_image_was_made_where_that_is_fixed() {
    let t = context();
    let created = |options: &[&str]| {
        let all = [options, &["-o", "type=oci,tar=false,dest=../layout"]].concat();
        t.build_with(&all).ok();
        let index = fs::read(t.beside("layout/index.json")).unwrap();
        let mut index: Value = serde_json::from_slice(&index).unwrap();
        fs::remove_dir_all(t.beside("layout")).unwrap();
        index["manifests"][0]["annotations"]["org.opencontainers.image.created"].take()
    };
    assert_eq!(created(&["--timestamp", EPOCH]), SHOWN);
    let both = "--platform=linux/amd64,linux/arm64";
    assert_eq!(created(&["--timestamp", EPOCH, both]), SHOWN);
    assert_eq!(created(&[]), Value::Null);
    let own = "--annotation=manifest-descriptor:org.opencontainers.image.created=mine";
    assert_eq!(created(&["--timestamp", EPOCH, own]), "mine");
}

#[test]
fn a_named_image_gives_no_epoch() {
    let t = context();
    t.build_with(&["-t", "localhost/base"]).ok();
    t.build_with(&[
        "--build-context=src=docker-image://localhost/base",
        "--build-arg=SOURCE_DATE_EPOCH=src",
    ])
    .fails(2)
    .says("SOURCE_DATE_EPOCH");
}
