//! `--cache-to` and `--cache-from`: results of one store that serve another.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::{Certs, Judged, Server, TestEnv};

const CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A stage whose steps take their time in real life, and a result that takes one file of it.
pub(crate) const STAGES: &str = "FROM busybox AS make\nRUN echo tool > /tool; echo big > /big\nRUN echo rest > /rest\n\
                      FROM busybox\nCOPY a /a\nCOPY --from=make /tool /tool\nRUN cat /a /tool > /b\n";

/// A store of its own with the same context.
pub(crate) fn store(text: &str) -> TestEnv {
    // The base is one and the same everywhere, as one from a registry is.
    static BASE: OnceLock<Vec<u8>> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let t = TestEnv::new();
        t.busybox("busybox");
        let saved = t.cooper(&["save", "busybox"]).ok();
        saved.bytes().to_vec()
    });
    let t = TestEnv::new().file("a", "a\n").dockerfile(text);
    t.cooper_reading(base, &["load"]).ok();
    t
}

/// Steps that ran.
pub(crate) fn ran(judged: &Judged) -> Vec<String> {
    let steps = judged.steps();
    let ran = steps.into_iter().filter(|step| step.ends_with("ran"));
    ran.collect()
}

#[track_caller]
pub(crate) fn assert_nothing_ran(judged: &Judged) {
    assert_eq!(ran(judged), Vec::<String>::new(), "{}", judged.stderr());
}

pub(super) fn cache_dir(t: &TestEnv) -> PathBuf {
    t.beside("cache")
}

pub(super) fn to_dir(t: &TestEnv, options: &str) -> String {
    format!("type=local,dest={}{options}", cache_dir(t).display())
}

pub(super) fn from_dir(t: &TestEnv, options: &str) -> String {
    format!("type=local,src={}{options}", cache_dir(t).display())
}

pub(super) fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub(super) fn blob(dir: &Path, digest: &Value) -> PathBuf {
    let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    dir.join("blobs/sha256").join(hex)
}

/// The document that `latest` leads to in a cache directory, and the config that it names.
pub(super) fn cache(dir: &Path) -> (Value, Value) {
    let index = json_of(&dir.join("index.json"));
    let tag = "org.opencontainers.image.ref.name";
    let entries = index["manifests"].as_array().unwrap();
    let entry = entries.iter().find(|e| e["annotations"][tag] == "latest");
    let document = json_of(&blob(dir, &entry.unwrap()["digest"]));
    let config = match document.get("config") {
        Some(config) => config.clone(),
        None => {
            let all = document["manifests"].as_array().unwrap();
            let found = all.iter().find(|entry| entry["mediaType"] == CONFIG);
            found.unwrap().clone()
        }
    };
    assert_eq!(config["mediaType"], CONFIG);
    (document, json_of(&blob(dir, &config["digest"])))
}

pub(super) fn has_blob(t: &TestEnv, digest: &Value) -> bool {
    blob(&t.root(), digest).exists()
}

/// The id of an image, and the file `/b` of its file system.
pub(crate) fn result(t: &TestEnv, name: &str) -> (String, String) {
    let id = t
        .cooper(&["images", "-q", "--no-trunc", name])
        .ok()
        .stdout();
    let b = t.cask(&["run", "--rm", "--network=none", name, "cat", "/b"]);
    (id, b.ok().stdout())
}

#[test]
fn an_empty_store_runs_nothing_with_a_directory_that_another_wrote() {
    let one = store(STAGES);
    one.build_with(&["-t", "x", "--cache-to", &to_dir(&one, "")])
        .ok();
    let two = store(STAGES);
    let judged = two
        .build_with(&["-t", "x", "--cache-from", &from_dir(&one, "")])
        .ok();
    assert_nothing_ran(&judged);
    assert_eq!(result(&two, "x"), result(&one, "x"));
    two.cooper(&["fsck"]).ok();
    let alone = two.build_with(&["-t", "x"]).ok();
    assert_eq!(
        ran(&alone).len(),
        2,
        "the stage that came without its layers: {:?}",
        alone.steps()
    );
}

#[test]
fn an_empty_store_runs_nothing_with_a_registry_that_another_wrote_to() {
    let registry = Server::http();
    let name = registry.name("team/app:cache").full();
    let one = store(STAGES);
    let to = format!("type=registry,ref={name},mode=max");
    one.build_with(&["-t", "x", "--cache-to", &to]).ok();
    let two = store(STAGES);
    let judged = two.build_with(&["-t", "x", "--cache-from", &name]).ok();
    assert_nothing_ran(&judged);
    assert_eq!(result(&two, "x"), result(&one, "x"));
    let full = format!("type=registry,ref={name}");
    let three = store(STAGES);
    three.write(
        "Dockerfile",
        STAGES.replace("cat /a /tool > /b", "cat /tool /a > /b"),
    );
    let judged = three.build_with(&["-t", "x", "--cache-from", &full]).ok();
    let only = ran(&judged);
    assert_eq!(only.len(), 1, "{only:?}");
    assert!(only[0].contains("RUN cat /tool /a"), "{only:?}");
    assert_eq!(result(&three, "x").1, "tool\na");
}

#[test]
fn a_base_image_that_was_made_again_with_the_same_contents_serves_as_well() {
    let one = store(STAGES);
    one.build_with(&["--cache-to", &to_dir(&one, "")]).ok();
    let two = store(STAGES);
    let base = "FROM busybox\nLABEL made=again\n";
    two.cooper_reading(base.as_bytes(), &["build", "-q", "-t", "busybox", "-"])
        .ok();
    let judged = two
        .build_with(&["-t", "x", "--cache-from", &from_dir(&one, "")])
        .ok();
    assert_nothing_ran(&judged);
    assert_eq!(result(&two, "x").1, "a\ntool");
}

#[test]
fn max_holds_the_layers_of_all_stages_and_min_those_of_the_result() {
    let one = store(STAGES);
    let layers = |options: &str| {
        let _ = fs::remove_dir_all(cache_dir(&one));
        one.build_with(&["--cache-to", &to_dir(&one, options)]).ok();
        let (manifest, config) = cache(&cache_dir(&one));
        let layers = manifest["layers"].as_array().unwrap().len();
        assert_eq!(config["layers"].as_array().unwrap().len(), layers);
        layers
    };
    assert_eq!(layers(""), 3);
    assert_eq!(layers(",mode=min"), 3);
    assert_eq!(layers(",mode=max"), 5);
    let steps = |cache: &TestEnv| {
        let two = store(STAGES);
        let text = STAGES.replace("/tool /tool\n", "/big /tool\n");
        two.write("Dockerfile", text);
        let judged = two
            .build_with(&["-t", "x", "--cache-from", &from_dir(cache, "")])
            .ok();
        assert_eq!(result(&two, "x").1, "a\nbig");
        ran(&judged).len()
    };
    assert_eq!(steps(&one), 2, "COPY and RUN of the result");
    layers(",mode=min");
    assert_eq!(steps(&one), 4, "and the stage, whose files are needed now");
}

#[test]
fn a_layer_that_nobody_reads_is_not_fetched() {
    let registry = Server::http();
    let name = registry.name("app:cache").full();
    let one = store(STAGES);
    let to = format!("type=registry,ref={name},mode=max");
    one.build_with(&["--cache-to", &to, "--cache-to", &to_dir(&one, ",mode=max")])
        .ok();
    let (_, config) = cache(&cache_dir(&one));
    let two = store(STAGES);
    two.build_with(&["--cache-from", &name]).ok();
    let fetched = |t: &TestEnv| {
        let layers = config["layers"].as_array().unwrap().iter();
        layers.filter(|layer| has_blob(t, &layer["blob"])).count()
    };
    assert_eq!(fetched(&two), 3, "of five, those of the result");
    let again = registry.name("app:again").full();
    two.build_with(&[
        "--cache-from",
        &name,
        "--cache-to",
        &format!("type=registry,ref={again},mode=max"),
    ])
    .ok();
    assert_eq!(fetched(&two), 3, "nor is one that the registry has already");
    let three = store(STAGES);
    assert_nothing_ran(&three.build_with(&["--cache-from", &again]).ok());
}

#[test]
fn files_of_a_stage_that_came_from_a_cache_serve_copies_and_mounts() {
    let one = store(STAGES);
    one.build_with(&["--cache-to", &to_dir(&one, ",mode=max")])
        .ok();
    let two = store("");
    two.write(
        "Dockerfile",
        "FROM busybox AS make\nRUN echo tool > /tool; echo big > /big\nRUN echo rest > /rest\n\
         FROM busybox\nCOPY --from=make /big /rest /\n\
         RUN --mount=type=bind,from=make,target=/m cat /m/tool /big /rest > /b\n",
    );
    let judged = two
        .build_with(&["-t", "x", "--cache-from", &from_dir(&one, "")])
        .ok();
    assert_eq!(ran(&judged).len(), 2, "{:?}", judged.steps());
    assert_eq!(result(&two, "x").1, "tool\nbig\nrest");
}

#[test]
fn an_image_carries_its_own_cache() {
    let registry = Server::http();
    for (number, ask) in [
        ["--cache-to", "type=inline"],
        ["--build-arg", "BUILDKIT_INLINE_CACHE=1"],
    ]
    .iter()
    .enumerate()
    {
        let name = registry.name(&format!("inline:{number}")).full();
        let one = store(STAGES);
        one.build_with(&[ask[0], ask[1], "-t", &name, "--push"])
            .ok();
        let two = store(STAGES);
        let judged = two
            .build_with(&[ask[0], ask[1], "-t", &name, "--cache-from", &name])
            .ok();
        assert_nothing_ran(&judged);
        assert_eq!(result(&two, &name), result(&one, &name));
        two.write("Dockerfile", format!("FROM {name}\nLABEL a=b\n"));
        let inspect = "{{json .}}";
        two.build_with(&["-t", "on-top"]).ok();
        let config = two.cooper(&["inspect", "--format", inspect, "on-top"]).ok();
        assert!(!config.stdout().contains("moby.buildkit.cache"));
    }
    let plain = registry.name("inline:none").full();
    let one = store(STAGES);
    one.build_with(&["-t", &plain, "--push"]).ok();
    let judged = store(STAGES).build_with(&["--cache-from", &plain]).ok();
    assert_eq!(ran(&judged).len(), 5);
    judged.says("holds nothing that this program wrote");
}

#[test]
fn an_inline_cache_is_in_the_config_where_buildkit_has_it() {
    let t = store(STAGES);
    let config = |options: &[&str]| {
        let dir = t.beside("layout");
        let _ = fs::remove_dir_all(&dir);
        let output = format!("type=oci,tar=false,dest={}", dir.display());
        t.build_with(&[&["-o", &output], options].concat()).ok();
        let index = json_of(&dir.join("index.json"));
        let manifest = json_of(&blob(&dir, &index["manifests"][0]["digest"]));
        json_of(&blob(&dir, &manifest["config"]["digest"]))
    };
    let inline = config(&["--cache-to", "type=inline"]);
    assert!(inline["moby.buildkit.cache.v0"].is_string(), "{inline}");
    let plain = config(&[]);
    assert!(plain.get("moby.buildkit.cache.v0").is_none(), "{plain}");
}

#[test]
fn an_index_carries_the_caches_of_its_images() {
    let registry = Server::http();
    let name = registry.name("many:1").full();
    let text = "FROM scratch\nCOPY a /a\nARG TARGETARCH\nCOPY <<EOF /arch\n$TARGETARCH\nEOF\n";
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    let build = |t: &TestEnv, more: &[&str]| {
        let mut options = platforms.to_vec();
        options.extend(more);
        t.build_with(&options).ok()
    };
    let one = store(text);
    build(&one, &["--cache-to", "type=inline", "-t", &name, "--push"]);
    let judged = build(&store(text), &["--cache-from", &name]);
    assert_nothing_ran(&judged);
    let cache = registry.name("many:cache").full();
    build(&one, &["--cache-to", &cache]);
    assert_nothing_ran(&build(&store(text), &["--cache-from", &cache]));
}

#[test]
fn several_caches_are_read_and_written() {
    let (one, other, two) = (store(STAGES), store(STAGES), store(STAGES));
    one.write(
        "Dockerfile",
        "FROM busybox AS make\nRUN echo tool > /tool; echo big > /big\n",
    );
    one.build_with(&["--cache-to", &to_dir(&one, "")]).ok();
    other.write("Dockerfile", "FROM busybox\nCOPY a /a\n");
    other
        .build_with(&[
            "--cache-to",
            &to_dir(&other, ""),
            "--cache-to",
            &to_dir(&one, ",tag=other"),
        ])
        .ok();
    let (first, second) = (from_dir(&one, ""), from_dir(&one, ",tag=other"));
    let judged = two
        .build_with(&["--cache-from", &first, "--cache-from", &second])
        .ok();
    assert_eq!(ran(&judged).len(), 3, "{:?}", judged.steps());
    let three = store(STAGES);
    let judged = three
        .build_with(&["--cache-from", &from_dir(&other, "")])
        .ok();
    assert_eq!(ran(&judged).len(), 4, "{:?}", judged.steps());
}

#[test]
fn a_cache_is_found_by_its_digest() {
    let one = store(STAGES);
    one.build_with(&["--cache-to", &to_dir(&one, "")]).ok();
    let index = json_of(&cache_dir(&one).join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    one.write("a", "other\n");
    one.build_with(&["--cache-to", &to_dir(&one, "")]).ok();
    let two = store(STAGES);
    let from = from_dir(&one, &format!(",digest={digest}"));
    assert_nothing_ran(&two.build_with(&["--cache-from", &from]).ok());
}

#[test]
fn a_missing_cache_is_a_warning() {
    let registry = Server::http();
    let t = store("FROM busybox\nRUN echo x > /x\n");
    let missing = registry.name("none:1").full();
    let judged = t.build_with(&["--cache-from", &missing]).ok();
    judged
        .says("is not imported")
        .says("is not in the registry");
    let judged = t
        .build_with(&["--cache-from", "type=local,src=nowhere"])
        .ok();
    judged.says("warning: the cache `nowhere` is not imported");
    let nobody = "type=registry,ref=127.0.0.1:1/a";
    let judged = t.build_with(&["--cache-from", nobody]).ok();
    judged.says("refuses connections");
}

#[test]
fn a_cache_that_cannot_be_written_fails_the_build_unless_errors_are_ignored() {
    let t = store("FROM scratch\nCOPY a /a\n");
    let to = "type=registry,ref=127.0.0.1:1/a";
    t.build_with(&["--cache-to", to])
        .fails(1)
        .says("refuses connections");
    let ignoring = format!("{to},ignore-error=true");
    let judged = t.build_with(&["--cache-to", &ignoring]).ok();
    judged.says("warning: the cache `127.0.0.1:1/a:latest` is not exported");
}

#[test]
fn a_cache_registry_is_reached_as_any_other() {
    let certs = Certs::new("IP:127.0.0.1");
    let registry = certs.serve();
    let name = registry.name("app:cache").full();
    let t = store("FROM scratch\nCOPY a /a\n");
    let to = format!("type=registry,ref={name}");
    t.build_with(&["--cache-to", &to])
        .fails(1)
        .says("is not trusted");
    let insecure = format!("{to},registry.insecure=true");
    t.build_with(&["--cache-to", &insecure]).ok();
    let judged = store("FROM scratch\nCOPY a /a\n")
        .build_with(&["--cache-from", &insecure])
        .ok();
    assert_nothing_ran(&judged);
    let judged = store("FROM scratch\nCOPY a /a\n")
        .build_with(&["--cache-from", &to])
        .ok();
    assert_eq!(ran(&judged).len(), 1, "a warning, and no trust");
    judged.says("is not trusted");
    t.build_with(&["--cache-to", &to, "--tls-verify=false"])
        .ok();
}

#[test]
fn a_cache_is_a_manifest_as_buildkit_lays_it_out() {
    let one = store(STAGES);
    let written = |options: &str| {
        one.build_with(&["--cache-to", &to_dir(&one, options)]).ok();
        cache(&cache_dir(&one))
    };
    let (manifest, config) = written("");
    assert_eq!(
        manifest["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(config["layers"][0]["parent"], json!(-1));
    assert_eq!(config["layers"][1]["parent"], json!(0));
    for (at, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
        assert_eq!(layer["mediaType"], GZIP);
        assert_eq!(layer["digest"], config["layers"][at]["blob"]);
        assert!(layer["annotations"]["containerd.io/uncompressed"].is_string());
    }
    let version = json_of(&cache_dir(&one).join("oci-layout"));
    assert_eq!(version["imageLayoutVersion"], "1.0.0");
    let (index, _) = written(",image-manifest=false");
    assert_eq!(
        index["mediaType"],
        "application/vnd.oci.image.index.v1+json"
    );
    assert_eq!(index["manifests"].as_array().unwrap().len(), 4);
    assert_nothing_ran(
        &store(STAGES)
            .build_with(&["--cache-from", &from_dir(&one, "")])
            .ok(),
    );
    let registry = Server::http();
    let name = registry.name("app:index").full();
    let to = format!("type=registry,ref={name},image-manifest=false");
    one.build_with(&["--cache-to", &to]).ok();
    assert_nothing_ran(&store(STAGES).build_with(&["--cache-from", &name]).ok());
    let (list, _) = written(",oci-mediatypes=false");
    assert_eq!(
        list["mediaType"],
        "application/vnd.docker.distribution.manifest.list.v2+json"
    );
    let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    assert_eq!(list["manifests"][0]["mediaType"], docker);
    assert_nothing_ran(
        &store(STAGES)
            .build_with(&["--cache-from", &from_dir(&one, "")])
            .ok(),
    );
}

#[test]
fn layers_of_a_cache_are_compressed_as_it_says() {
    let one = store(STAGES);
    let types = |t: &TestEnv, from: &[&str], options: &str| {
        let to = to_dir(t, options);
        let mut all = vec!["--cache-to", &to];
        all.extend(from);
        t.build_with(&all).ok();
        let (manifest, _) = cache(&cache_dir(t));
        let layers = manifest["layers"].as_array().unwrap();
        let types = layers
            .iter()
            .map(|layer| layer["mediaType"].as_str().unwrap().to_owned());
        types.collect::<Vec<_>>()
    };
    let plain = "application/vnd.oci.image.layer.v1.tar";
    assert_eq!(
        types(&one, &[], ",compression=zstd,compression-level=5"),
        [ZSTD; 3]
    );
    let size = |level: u32| {
        let t = store(STAGES);
        t.write("a", "a text that is worth it ".repeat(2000));
        types(&t, &[], &format!(",compression-level={level}"));
        let sizes = cache(&cache_dir(&t)).0["layers"]
            .as_array()
            .unwrap()
            .clone();
        sizes
            .iter()
            .map(|layer| layer["size"].as_u64().unwrap())
            .sum::<u64>()
    };
    assert!(size(9) < size(1));
    assert_eq!(types(&one, &[], ",compression=uncompressed"), [plain; 3]);
    assert_eq!(types(&one, &[], ""), [GZIP; 3]);
    let (two, from) = (store(STAGES), from_dir(&one, ""));
    let from = ["--cache-from", from.as_str()];
    assert_eq!(
        types(&two, &from, ",compression=zstd"),
        [GZIP; 3],
        "kept as they came"
    );
    let three = store(STAGES);
    let forced = ",compression=zstd,force-compression=true";
    assert_eq!(types(&three, &from, forced), [ZSTD; 3]);
}

#[test]
fn reset_drops_what_nothing_leads_to() {
    let t = store("FROM scratch\nCOPY a /a\n");
    let count = || {
        fs::read_dir(cache_dir(&t).join("blobs/sha256"))
            .unwrap()
            .count()
    };
    t.build_with(&["--cache-to", &to_dir(&t, ",tag=kept")]).ok();
    assert_eq!(count(), 3);
    for (text, options, want) in [("1", "", 6), ("2", "", 9), ("3", ",reset=true", 6)] {
        t.write("a", text);
        t.build_with(&["--cache-to", &to_dir(&t, options)]).ok();
        assert_eq!(count(), want, "{text}");
    }
    let two = store("FROM scratch\nCOPY a /a\n");
    let judged = two
        .build_with(&["--cache-from", &from_dir(&t, ",tag=kept")])
        .ok();
    assert_nothing_ran(&judged);
}

#[test]
fn rewritten_times_never_reach_a_cache_so_it_serves_whatever_the_epoch_is() {
    const STEP: &str =
        "FROM scratch\nCOPY . /c\nFROM busybox\nRUN echo x > /x\nCOPY --from=0 /c /c\n";
    let one = store(STEP);
    let epoch = ["--timestamp", "1600000000"];
    let to = to_dir(&one, "");
    one.build_with(&[epoch[0], epoch[1], "--cache-to", &to])
        .ok();
    let from = from_dir(&one, "");
    // The time of `/x`, and the id of the image.
    let again = |options: &[&str]| {
        let t = store(STEP);
        let mut all = vec![
            "--cache-from",
            from.as_str(),
            "--iidfile",
            "../id",
            "-o",
            "out",
        ];
        all.extend(options);
        assert_nothing_ran(&t.build_with(&all).ok());
        let time = fs::metadata(t.path("out/x")).unwrap().mtime();
        (time, fs::read_to_string(t.beside("id")).unwrap())
    };
    assert!(again(&[]).0 > 1_600_000_000);
    assert_eq!(again(&epoch).0, 1_600_000_000);
    let cold = store(STEP);
    cold.build_with(&["--timestamp", "7", "--iidfile", "../id"])
        .ok();
    let id = fs::read_to_string(cold.beside("id")).unwrap();
    assert_eq!(again(&["--timestamp", "7"]), (7, id));
}

#[test]
fn results_older_than_the_ttl_do_not_count() {
    let t = store("FROM busybox\nRUN echo x > /x\n");
    t.build_with(&["--cache-to", &to_dir(&t, "")]).ok();
    assert_nothing_ran(&t.build_with(&["--cache-ttl", "24h"]).ok());
    assert_eq!(ran(&t.build_with(&["--cache-ttl", "0s"]).ok()).len(), 1);
    let two = store("FROM busybox\nRUN echo x > /x\n");
    let from = from_dir(&t, "");
    let old = two
        .build_with(&["--cache-ttl=1ns", "--cache-from", &from])
        .ok();
    assert_eq!(ran(&old).len(), 1);
}

#[test]
fn no_cache_runs_the_named_stages_again_whatever_is_imported() {
    let one = store(STAGES);
    one.build_with(&["--cache-to", &to_dir(&one, ",mode=max")])
        .ok();
    let from = from_dir(&one, "");
    let two = store(STAGES);
    let judged = two
        .build_with(&["--no-cache-filter", "make", "--cache-from", &from])
        .ok();
    assert_eq!(ran(&judged).len(), 2, "{:?}", judged.steps());
    let judged = store(STAGES)
        .build_with(&["--no-cache", "--cache-from", &from])
        .ok();
    assert_eq!(ran(&judged).len(), 5, "{:?}", judged.steps());
}

#[test]
fn caches_of_other_services_are_refused_with_what_works() {
    let t = store("FROM scratch\n");
    for kind in ["gcs", "oss"] {
        let value = format!("type={kind},mode=max,bucket=b");
        let judged = t.build_with(&["--cache-to", &value]).fails(2);
        judged.says(&format!(
            "`type={kind}` is not supported, only registry, local, inline, s3, azblob, gha"
        ));
        let judged = t.build_with(&["--cache-from", &value]).fails(2);
        judged.says(&format!(
            "`type={kind}` is not supported, only registry, local, s3, azblob, gha"
        ));
    }
}

#[test]
fn a_base_image_that_nobody_reads_is_not_pulled() {
    let registry = Server::http();
    let (base, name) = (registry.name("base:1"), registry.name("app:cache").full());
    let text = STAGES.replace(
        "FROM busybox AS make",
        &format!("FROM {} AS make", base.full()),
    );
    let one = store("FROM busybox\nCOPY a /base\n");
    one.build_with(&["-t", &base.full(), "--push"]).ok();
    one.write("Dockerfile", &text);
    one.build_with(&["--cache-to", &name]).ok();
    let two = store(&text);
    let listed = |t: &TestEnv| {
        let names = t.cooper(&["images", "--format", "{{.Repository}}"]).ok();
        names.stdout().contains(&base.name())
    };
    assert_nothing_ran(&two.build_with(&["-t", "x", "--cache-from", &name]).ok());
    assert!(!listed(&two), "it is not here");
    assert_eq!(result(&two, "x").1, "a\ntool");
    two.write("Dockerfile", text.replace("echo rest", "cat /base"));
    let judged = two.build_with(&["-t", "x", "--cache-from", &name]).ok();
    assert_eq!(ran(&judged).len(), 2, "{:?}", judged.steps());
    assert!(listed(&two), "it was needed");
    two.cooper(&["fsck"]).ok();
}

#[test]
fn stages_are_saved_and_labelled() {
    let text = "FROM busybox AS one\nRUN echo 1 > /1\nFROM one AS two\nRUN echo 2 > /2\n\
                FROM scratch\nCOPY --from=two /2 /2\n";
    let t = store(text);
    let count = || t.cooper(&["images", "-q"]).ok().stdout().lines().count();
    let before = count();
    t.build_with(&["-t", "x"]).ok();
    assert_eq!(count(), before + 1);
    t.build_with(&["-t", "x", "--save-stages", "--stage-labels"])
        .ok();
    assert_eq!(
        count(),
        before + 4,
        "two stages, the result and the one that was"
    );
    let ids = t.cooper(&["images", "-q", "--no-trunc"]).ok().stdout();
    let labels = |id: &str| {
        let shown = t
            .cooper(&["inspect", "--format", "{{json .Config.Labels}}", id])
            .ok();
        serde_json::from_str::<Value>(&shown.stdout()).unwrap_or_default()
    };
    let mut bases = std::collections::BTreeMap::new();
    for id in ids.lines() {
        let labels = labels(id);
        if let Some(name) = labels["io.buildah.stage.name"].as_str() {
            let base = labels["io.buildah.stage.base"].as_str().unwrap();
            bases.insert(name.to_owned(), (id.to_owned(), base.to_owned()));
        }
    }
    assert_eq!(bases["one"].1, "docker.io/library/busybox:latest");
    assert_eq!(bases["two"].1, bases["one"].0, "its base is a stage");
    assert_eq!(bases["stage-2"].1, "scratch");
    t.build_with(&["--stage-labels"])
        .fails(2)
        .says("--save-stages");
}

#[test]
fn one_layer_is_made_of_all_without_layers() {
    let t = store("FROM scratch\nCOPY a /a\nCOPY a /b\n");
    let layers = |option: &str| {
        t.build_with(&["-t", "x", option]).ok();
        let shown = t
            .cooper(&["inspect", "--format", "{{json .RootFS.Layers}}", "x"])
            .ok();
        let layers: Value = serde_json::from_str(&shown.stdout()).unwrap();
        layers.as_array().unwrap().len()
    };
    assert_eq!(layers("--layers"), 2);
    assert_eq!(layers("--layers=false"), 1);
}
