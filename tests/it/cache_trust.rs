//! Caches that are not what they say, and what must never be in one or be told of one.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::caches::{
    STAGES, assert_nothing_ran, blob, cache, cache_dir, from_dir, json_of, ran, result, store,
    to_dir,
};
use crate::support::{Server, TestEnv};

#[test]
fn a_cache_of_another_builder_is_passed_over() {
    let t = store("FROM scratch\nCOPY a /a\n");
    t.build_with(&["--cache-to", &to_dir(&t, "")]).ok();
    let two = store("FROM scratch\nCOPY a /a\n");
    rewrite(&cache_dir(&t), |config| {
        for record in config["records"].as_array_mut().unwrap() {
            record.as_object_mut().unwrap().remove("cooper");
        }
    });
    let judged = two.build_with(&["--cache-from", &from_dir(&t, "")]).ok();
    assert_eq!(ran(&judged).len(), 1);
    judged.says("holds nothing that this program wrote");
}

/// Changes what a cache directory says, and makes it say so consistently.
fn rewrite(dir: &Path, change: impl FnOnce(&mut Value)) {
    let put = |value: &Value| {
        let text = value.to_string();
        let digest = cooper::image::Digest::of(text.as_bytes()).to_string();
        fs::write(blob(dir, &json!(digest)), &text).unwrap();
        (json!(digest), json!(text.len()))
    };
    let (mut manifest, mut config) = cache(dir);
    change(&mut config);
    (manifest["config"]["digest"], manifest["config"]["size"]) = put(&config);
    let mut index = json_of(&dir.join("index.json"));
    let entry = &mut index["manifests"][0];
    (entry["digest"], entry["size"]) = put(&manifest);
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
}

#[test]
fn t_mnt_7_a_layer_whose_bytes_are_not_its_digests_is_refused_and_its_step_runs() {
    let registry = Server::http();
    let name = registry.name("app:cache").full();
    let one = store(STAGES);
    let to = format!("type=registry,ref={name}");
    one.build_with(&["--cache-to", &to, "--cache-to", &to_dir(&one, "")])
        .ok();
    let (manifest, _) = cache(&cache_dir(&one));
    for layer in manifest["layers"].as_array().unwrap() {
        let digest = layer["digest"].as_str().unwrap().replace("sha256:", "");
        let stored = format!(
            "docker/registry/v2/blobs/sha256/{}/{digest}/data",
            &digest[..2]
        );
        for path in [
            registry.data().join(stored),
            blob(&cache_dir(&one), &layer["digest"]),
        ] {
            let size = fs::metadata(&path).unwrap().len();
            fs::write(&path, vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
        }
    }
    for from in [name, from_dir(&one, "")] {
        let two = store(STAGES);
        let judged = two.build_with(&["-t", "x", "--cache-from", &from]).ok();
        assert_eq!(result(&two, "x").1, "a\ntool", "{from}");
        let steps = judged.steps();
        assert!(ran(&judged).len() >= 3, "{steps:?}");
        let told: HashSet<&String> = steps.iter().collect();
        assert_eq!(told.len(), steps.len(), "told once each: {steps:?}");
        let counted = format!("{} steps run", ran(&judged).len());
        judged.says("is refused").says(&counted);
        two.cooper(&["fsck"]).ok();
    }
}

#[test]
fn t_mnt_7_a_layer_that_is_not_its_diff_id_is_refused_and_its_step_runs() {
    let one = store(STAGES);
    one.build_with(&["--cache-to", &to_dir(&one, "")]).ok();
    // Every record leads to the layer of another step, which is whole and in its place.
    rewrite(&cache_dir(&one), |config| {
        let places: Vec<Value> = (0..3)
            .map(|at| config["layers"][at]["blob"].clone())
            .collect();
        for at in 0..3 {
            config["layers"][at]["blob"] = places[(at + 1) % 3].clone();
        }
    });
    let two = store(STAGES);
    let judged = two
        .build_with(&["-t", "x", "--cache-from", &from_dir(&one, "")])
        .ok();
    assert_eq!(result(&two, "x").1, "a\ntool");
    assert!(ran(&judged).len() >= 3, "{:?}", judged.steps());
    judged.says("is refused");
    two.cooper(&["fsck"]).ok();
    let alone = two.build_with(&["-t", "x"]).ok();
    assert_nothing_ran(&alone);
}

#[test]
fn t_mnt_7_a_build_writes_only_the_caches_that_it_was_told_to_write() {
    let registry = Server::http();
    let (main, fork) = (
        registry.name("app:main").full(),
        registry.name("app:fork").full(),
    );
    let one = store(STAGES);
    one.build_with(&["--cache-to", &main]).ok();
    let tag = |name: &str| {
        let link =
            format!("docker/registry/v2/repositories/app/_manifests/tags/{name}/current/link");
        fs::read_to_string(registry.data().join(link)).unwrap()
    };
    let before = tag("main");
    let two = store(STAGES);
    two.write("a", "poison\n");
    two.build_with(&["--cache-from", &main, "--cache-to", &fork])
        .ok();
    assert_eq!(tag("main"), before);
    assert_ne!(tag("fork"), before);
    assert_nothing_ran(&store(STAGES).build_with(&["--cache-from", &main]).ok());
}

#[test]
fn nothing_of_values_is_in_a_cache() {
    let text = "FROM busybox AS make\nARG TOKEN\nRUN --mount=type=secret,id=key echo $TOKEN | wc -c > /n; cat /run/secrets/key | wc -c >> /n\n\
                FROM busybox\nENV WORD=env-value\nCOPY --from=make /n /n\nCOPY a /a\n";
    let t = store(text);
    t.write("../key", "secret-value");
    let registry = Server::http();
    let name = registry.name("app:1").full();
    t.build_with(&[
        "--secret",
        "id=key,src=../key",
        "--build-arg",
        "TOKEN=arg-value",
        "--cache-to",
        &to_dir(&t, ",mode=max"),
        "--cache-to",
        &name,
    ])
    .ok();
    let (_, config) = cache(&cache_dir(&t));
    let said = config.to_string();
    for value in [
        "secret-value",
        "arg-value",
        "env-value",
        "/run/secrets",
        "wc -c",
    ] {
        assert!(!said.contains(value), "{value}");
    }
    let two = store(text);
    two.write("../key", "other-value!");
    let judged = two
        .build_with(&[
            "--secret",
            "id=key,src=../key",
            "--build-arg",
            "TOKEN=arg-value",
            "--cache-from",
            &from_dir(&t, ""),
        ])
        .ok();
    assert_nothing_ran(&judged);
}

#[test]
fn a_mistaken_cache_is_told_without_its_values() {
    let t = TestEnv::new().dockerfile("FROM scratch\n");
    for (cache, says) in [
        (
            "type=s3,secret_access_kye=hush",
            "takes no `secret_access_kye`",
        ),
        (
            "type=s3,token=hush,hush",
            "behind the comma after `token=…`",
        ),
        ("type=s3,\"session_token=hush", "a quote is not closed"),
        ("type=azblob,secret_access_key=hush", "needs `account_url="),
        ("type=s4,token=hush", "there is no type `s4`"),
    ] {
        for option in ["--cache-to", "--cache-from"] {
            let told = t.build_with(&[option, cache]).fails(2).says(says);
            assert!(!told.stderr().contains("hush"), "{}", told.stderr());
        }
    }
}
