//! Caches in services: S3, Azure Blob Storage, GitHub Actions.

use serde_json::Value;

use super::caches::{STAGES, assert_nothing_ran, ran, result, store};
use crate::support::TestEnv;
use crate::support::services::Service;

/// The bucket under `prefix`, with the key that is good for it.
fn bucket(s3: &Service, prefix: &str) -> String {
    format!(
        "{},access_key_id={},secret_access_key={}",
        bucket_alone(s3, prefix),
        s3.says("key"),
        s3.says("secret")
    )
}

fn bucket_alone(s3: &Service, prefix: &str) -> String {
    let url = s3.says("url");
    format!(
        "type=s3,bucket=caches,region=us-east-1,endpoint_url={url},use_path_style=true,prefix={prefix}"
    )
}

fn account(azure: &Service, container: &str) -> String {
    format!(
        "type=azblob,account_url={},account_name={},secret_access_key={},container={container}",
        azure.says("url"),
        azure.says("account"),
        azure.says("key")
    )
}

fn workflow(actions: &Service, scope: &str) -> String {
    let (url, token) = (actions.says("url"), actions.says("token"));
    format!("type=gha,url_v2={url},token={token},scope={scope}")
}

/// Builds with a cache in one store, then in an empty one that must run nothing.
fn serves_another_store(to: &str, from: &str) {
    let one = store(STAGES);
    one.build_with(&["-t", "x", "--cache-to", &format!("{to},mode=max")])
        .ok();
    let two = store(STAGES);
    let judged = two.build_with(&["-t", "x", "--cache-from", from]).ok();
    assert_nothing_ran(&judged);
    assert_eq!(result(&two, "x"), result(&one, "x"));
    two.cooper(&["fsck"]).ok();
    // What the second store never brought is there, and stays part of the cache.
    let again = format!("{to},mode=max");
    two.build_with(&["--cache-from", from, "--cache-to", &again])
        .ok();
}

/// Checks that a document describes its layers as BuildKit's does, and returns their digests.
fn layers(document: &[u8]) -> Vec<String> {
    let document: Value = serde_json::from_slice(document).unwrap();
    let layers = document["layers"].as_array().unwrap();
    let digest = |layer: &Value| {
        let annotations = &layer["annotations"];
        assert_eq!(
            annotations["mediaType"],
            "application/vnd.oci.image.layer.v1.tar+gzip"
        );
        assert!(annotations["size"].as_u64().unwrap() > 0);
        let diff_id = annotations["diffID"].as_str().unwrap();
        assert!(diff_id.starts_with("sha256:"));
        layer["blob"].as_str().unwrap().to_owned()
    };
    layers.iter().map(digest).collect()
}

/// What one layer of `STAGES` is, after something else was put in the place of each.
fn assert_refused_and_made_again(from: &str) {
    let judged = store(STAGES)
        .build_with(&["-t", "x", "--cache-from", from])
        .ok();
    let again = ran(&judged);
    assert!(!again.is_empty(), "{:?}", judged.steps());
    judged.says("is refused");
}

#[test]
fn an_empty_store_runs_nothing_with_a_bucket_that_another_wrote_to() {
    let s3 = Service::s3();
    let cache = bucket(s3, "serves/");
    serves_another_store(&format!("{cache},name=a;b"), &format!("{cache},name=b"));
    let keys = s3.keys("serves/");
    let document = s3.get("serves/manifests/a");
    assert_eq!(document, s3.get("serves/manifests/b"));
    let mut want: Vec<_> = layers(&document)
        .into_iter()
        .map(|digest| format!("serves/blobs/{digest}"))
        .collect();
    want.extend(["serves/manifests/a", "serves/manifests/b"].map(str::to_owned));
    want.sort();
    assert_eq!(keys, want);
}

#[test]
fn the_prefixes_of_a_bucket_are_what_the_options_say() {
    let s3 = Service::s3();
    let cache = bucket(s3, "set/");
    let to = format!("{cache},manifests_prefix=m-,blobs_prefix=b-,upload_parallelism=1");
    let t = store("FROM scratch\nCOPY a /a\n");
    t.build_with(&["--cache-to", &to]).ok();
    let keys = s3.keys("set/");
    let [blob, document] = keys.as_slice() else {
        panic!("{keys:?}");
    };
    assert!(blob.starts_with("set/b-sha256:"), "{blob}");
    assert_eq!(document, "set/m-buildkit");
}

#[test]
fn a_key_is_found_where_amazons_tools_look_for_it() {
    let s3 = Service::s3();
    let cache = bucket_alone(s3, "keys/");
    let scratch = || store("FROM scratch\nCOPY a /a\n");
    let build = |t: &TestEnv| t.build_with(&["--cache-to", &cache]);
    build(&scratch()).fails(2).says("AWS_ACCESS_KEY_ID");
    let by_variables = scratch()
        .var("AWS_ACCESS_KEY_ID", s3.says("session_key"))
        .var("AWS_SECRET_ACCESS_KEY", s3.says("session_secret"))
        .var("AWS_SESSION_TOKEN", s3.says("session_token"));
    build(&by_variables).ok();
    let by_file = scratch().var("AWS_PROFILE", "ci");
    let (key, secret) = (s3.says("key"), s3.says("secret"));
    by_file.write(
        "credentials",
        format!("[ci]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"),
    );
    let file = by_file.path("credentials");
    build(&by_file.var("AWS_SHARED_CREDENTIALS_FILE", file)).ok();
}

#[test]
fn a_key_that_does_not_fit_is_told_with_the_servers_words() {
    let s3 = Service::s3();
    let wrong = format!(
        "{},access_key_id={},secret_access_key=wrong",
        bucket_alone(s3, "denied/"),
        s3.says("key")
    );
    let t = store("FROM scratch\nCOPY a /a\n");
    let judged = t.build_with(&["--cache-to", &wrong]).fails(1);
    judged.says("denies access to `s3://caches/denied/manifests/buildkit`");
    let ignoring = format!("{wrong},ignore-error=true");
    let judged = t.build_with(&["--cache-to", &ignoring]).ok();
    judged.says("warning: the cache `s3://caches/denied/manifests/buildkit` is not exported");
    let judged = t.build_with(&["--cache-from", &wrong]).ok();
    judged.says("is not imported").says("SignatureDoesNotMatch");
}

#[test]
fn an_old_blob_is_written_again_and_a_fresh_one_is_left() {
    let s3 = Service::s3();
    let cache = bucket(s3, "touch/");
    let t = store("FROM scratch\nCOPY a /a\n");
    t.build_with(&["--cache-to", &cache]).ok();
    t.build_with(&["--cache-to", &cache]).ok();
    let keys = s3.keys("touch/blobs/");
    let updated = || s3.metadata(&keys[0])["updated-at"].clone();
    assert_eq!(updated(), Value::Null);
    // The server dates objects to the second, and what is a second old is older than nothing.
    let refreshed = format!("{cache},touch_refresh=0s");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while updated() == Value::Null && std::time::Instant::now() < end {
        t.build_with(&["--cache-to", &refreshed]).ok();
    }
    assert!(updated().is_string());
}

#[test]
fn a_service_without_the_cache_is_a_warning() {
    for from in [
        bucket(Service::s3(), "none/"),
        account(Service::azure(), "none"),
        workflow(Service::actions(), "none"),
    ] {
        let t = store("FROM busybox\nRUN echo x > /x\n");
        let judged = t.build_with(&["--cache-from", &from]).ok();
        judged.says("is not imported").says("has no cache named");
    }
}

#[test]
fn t_mnt_7_a_layer_of_a_service_that_is_not_its_digest_is_refused_and_its_step_runs() {
    let s3 = Service::s3();
    let cache = bucket(s3, "bad/");
    let to = format!("{cache},mode=max");
    store(STAGES).build_with(&["--cache-to", &to]).ok();
    for key in s3.keys("bad/blobs/") {
        let mut data = s3.get(&key);
        data.reverse();
        s3.put(&key, &data);
    }
    assert_refused_and_made_again(&cache);
}

#[test]
fn an_empty_store_runs_nothing_with_a_container_that_another_wrote_to() {
    let azure = Service::azure();
    let cache = format!("{},prefix=/p/", account(azure, "serves"));
    serves_another_store(&format!("{cache},name=a;b"), &format!("{cache},name=b"));
    let document = azure.get("serves/p/manifests/a");
    assert_eq!(document, azure.get("serves/p/manifests/b"));
    let mut want: Vec<_> = layers(&document)
        .into_iter()
        .map(|digest| format!("p/blobs/{digest}"))
        .collect();
    want.extend(["p/manifests/a", "p/manifests/b"].map(str::to_owned));
    want.sort();
    assert_eq!(azure.keys("serves"), want);
}

#[test]
fn a_shared_access_signature_serves_in_place_of_a_key() {
    let azure = Service::azure();
    let (url, signature) = (azure.says("url"), azure.says("signature"));
    let cache = format!(
        "type=azblob,account_url={url}?{signature},account_name={},container=signed",
        azure.says("account")
    );
    serves_another_store(&cache, &cache);
    let alone = cache.replace(&format!("?{signature}"), "");
    let judged = store(STAGES).build_with(&["--cache-to", &alone]).fails(2);
    judged.says("shared access signature");
}

#[test]
fn an_account_whose_key_does_not_fit_is_told() {
    let azure = Service::azure();
    let cache = account(azure, "denied").replace(azure.says("key"), "d3Jvbmc=");
    let judged = store("FROM scratch\nCOPY a /a\n")
        .build_with(&["--cache-to", &cache])
        .fails(1);
    judged.says("denies access to `azblob://devstoreaccount1/denied/manifests/buildkit`");
}

#[test]
fn an_empty_store_runs_nothing_with_the_cache_of_a_workflow() {
    let actions = Service::actions();
    let cache = workflow(actions, "serves");
    serves_another_store(&cache, &cache);
    let documents = actions.keys("index-serves-1-");
    assert_eq!(
        documents.len(),
        2,
        "each export has a number: {documents:?}"
    );
    assert!(documents[1].ends_with("#2"), "{documents:?}");
    for digest in layers(&actions.get(&documents[1])) {
        let key = format!("buildkit-blob-1-{digest}");
        assert_eq!(actions.keys(&key), [key]);
    }
}

#[test]
fn a_workflow_finds_its_service_in_the_environment() {
    let actions = Service::actions();
    let scratch = || store("FROM scratch\nCOPY a /a\n");
    let to = "type=gha,scope=variables";
    let judged = scratch().build_with(&["--cache-to", to]).fails(2);
    judged.says("ACTIONS_RESULTS_URL");
    let t = scratch()
        .var("ACTIONS_RESULTS_URL", actions.says("url"))
        .var("ACTIONS_RUNTIME_TOKEN", actions.says("token"));
    t.build_with(&["--cache-to", to]).ok();
    assert_eq!(actions.keys("index-variables-1-").len(), 1);
    t.build_with(&["--cache-to", "type=gha"]).ok();
    assert_eq!(actions.keys("index-buildkit-1-").len(), 1, "the default");
    let bad = format!("{}x", workflow(actions, "bad").replace(",scope=bad", ""));
    let judged = scratch().build_with(&["--cache-to", &bad]).fails(1);
    judged.says("bad token");
}

#[test]
fn a_workflow_that_does_not_end_in_its_time_fails() {
    let cache = workflow(Service::actions(), "slow");
    let judged = store("FROM scratch\nCOPY a /a\n")
        .build_with(&["--cache-to", &format!("{cache},timeout=1ns")])
        .fails(1);
    judged.says("did not take everything within");
}
