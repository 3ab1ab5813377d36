//! Images between store, registries and archives, and logins.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Certs, Output, Server, Setup, TestEnv};

fn with_image() -> TestEnv {
    let t = TestEnv::new()
        .var("SOURCE_DATE_EPOCH", "1700000000")
        .dockerfile("FROM scratch\nCOPY a /a\nCOPY b /b\n")
        .file("a", "a".repeat(5000))
        .file("b", "b");
    t.cooper(&["build", "-q", "-t", "app", "."]).ok();
    t
}

fn ids(out: Output) -> String {
    out.ok().stdout()
}

#[test]
fn an_image_goes_to_a_registry_and_back() {
    let registry = Server::http();
    let name = registry.name("team/app:1").full();
    let t = with_image();
    let id = ids(t.cooper(&["images", "-q", "--no-trunc", "app"]));
    let digest = t
        .cooper(&["push", "app", &name, "--digestfile", "digest"])
        .ok()
        .stdout();
    assert_eq!(fs::read_to_string(t.path("digest")).unwrap(), digest);
    let again = t.cooper(&["push", "app", &name]).ok();
    assert_eq!(again.stdout(), digest);
    assert!(
        again.stderr().contains("already there"),
        "{}",
        again.stderr()
    );

    let other = TestEnv::new();
    assert_eq!(ids(other.cooper(&["pull", &name])), id);
    let pinned = format!("{}@{digest}", registry.name("team/app").name());
    assert_eq!(ids(other.cooper(&["pull", "-q", &pinned])), id);
    let shown = other
        .cooper(&["images", "--digests", "--format", "{{.Tag}} {{.Digest}}"])
        .ok();
    assert_eq!(shown.stdout(), format!("1 {digest}"));
    other.write("Dockerfile", format!("FROM {name}\nCOPY c /c\n"));
    other.write("c", "c");
    other.cooper(&["build", "-q", "-o", "out", "."]).ok();
    assert_eq!(fs::read_to_string(other.path("out/b")).unwrap(), "b");
    let missing = registry.name("team/none:1").full();
    let judged = other.cooper(&["pull", &missing]).fails(1);
    assert!(
        judged.stderr().starts_with("error: "),
        "{}",
        judged.stderr()
    );
    other
        .cooper(&["push", "none", &name])
        .fails(1)
        .says("no image `none`");
    let id_alone = &id["sha256:".len()..][..12];
    other
        .cooper(&["push", id_alone])
        .fails(2)
        .says("does not say where to push to");
}

#[test]
fn all_tags_of_a_repository_go_and_come() {
    let registry = Server::http();
    let name = registry.name("team/app").name();
    let t = with_image();
    for tag in ["1", "2"] {
        t.cooper(&["tag", "app", &format!("{name}:{tag}")]).ok();
    }
    let pushed = t.cooper(&["push", "-a", &name]).ok().stdout();
    assert_eq!(pushed.lines().count(), 2, "{pushed}");
    let elsewhere = registry.name("other/app").name();
    t.cask(&["push", "--all-tags", &name, &elsewhere]).ok();
    t.cooper(&["push", "-a", &format!("{name}:1")])
        .fails(2)
        .says("has a tag");
    t.cooper(&["push", "-a", "none"])
        .fails(1)
        .says("no image `none`");

    for name in [&name, &elsewhere] {
        let other = TestEnv::new();
        let pulled = other.cask(&["pull", "--all-tags", name]).ok().stdout();
        assert_eq!(pulled.lines().count(), 2, "{pulled}");
        let shown = other
            .cooper(&["images", "--format", "{{.Tag}}"])
            .ok()
            .stdout();
        let mut tags: Vec<&str> = shown.lines().collect();
        tags.sort_unstable();
        assert_eq!(tags, ["1", "2"]);
        other
            .cooper(&["pull", "-a", &format!("{name}:1")])
            .fails(2)
            .says("is one image");
        other
            .cooper(&["pull", "-a", "oci:x"])
            .fails(2)
            .says("has no tags");
    }
}

/// A store with an index `app` over an image for each of two platforms.
fn with_index() -> TestEnv {
    let t = TestEnv::new().dockerfile("FROM scratch\nARG TARGETARCH\nLABEL for=$TARGETARCH\n");
    t.build_with(&["-t", "app", "--platform=linux/amd64,linux/arm64"])
        .ok();
    t
}

/// What `name` says that it was built for.
fn made_for(t: &TestEnv, name: &str) -> String {
    let shown = t.cooper(&["inspect", "-f", "{{.Config.Labels.for}}", name]);
    shown.ok().stdout()
}

#[test]
fn all_images_of_an_index_are_pushed_or_none() {
    let registry = Server::http();
    let name = registry.name("app:1").full();
    let t = with_index();
    let digest = t.cooper(&["push", "--all", "app", &name]).ok().stdout();
    let pinned = format!("{}@{digest}", registry.name("app").name());
    for arch in ["amd64", "arm64"] {
        let other = TestEnv::new();
        other
            .cooper(&["pull", "--platform", &format!("linux/{arch}"), &pinned])
            .ok();
        assert_eq!(made_for(&other, &pinned), arch);
        // One image of the index is here, which by itself can be sent, and all can't.
        let again = registry.name(&format!("again:{arch}")).full();
        other
            .cooper(&["push", "--all", &pinned, &again])
            .fails(1)
            .says("is not in the store");
        let there = format!("docker/registry/v2/repositories/again/_manifests/tags/{arch}");
        assert!(!registry.data().join(there).exists());
        let platform = format!("--platform=linux/{arch}");
        other.cooper(&["push", &platform, &pinned, &again]).ok();
    }
    for place in ["oci:dir", "oci-archive:a.tar", "dir:d"] {
        t.cooper(&["push", "--all", "app", place])
            .fails(2)
            .says("all images of an index go to a registry")
            .says("--platform");
    }
    t.cooper(&["push", "--all", "--platform=linux/arm64", "app", &name])
        .fails(2);
    // An image that stands for itself alone is all of it.
    t.write("Dockerfile", "FROM scratch\nLABEL a=b\n");
    t.build_with(&["-t", "one"]).ok();
    t.cooper(&["push", "--all", "one", "oci:dir"]).ok();
    let one = registry.name("one").full();
    let digest = t.cooper(&["push", "--all", "one", &one]).ok().stdout();
    assert_eq!(t.cooper(&["push", "one", &one]).ok().stdout(), digest);
}

#[test]
fn a_platform_to_pull_can_be_given_in_parts() {
    let registry = Server::http();
    let name = registry.name("app:1").full();
    let t = TestEnv::new().dockerfile(
        "FROM scratch\nARG TARGETARCH\nARG TARGETVARIANT\nLABEL for=$TARGETARCH$TARGETVARIANT\n",
    );
    let platforms = "--platform=linux/amd64,linux/arm64,linux/arm/v6,linux/arm/v7";
    t.build_with(&["-t", &name, "--push", platforms]).ok();
    let pulled = |options: &[&str]| {
        let other = TestEnv::new();
        let args = [&["pull"], options, &[name.as_str()]].concat();
        other.cooper(&args).ok();
        made_for(&other, &name)
    };
    for (options, want) in [
        (&["--arch=arm64"][..], "arm64"),
        (&["--os=linux", "--arch=amd64"], "amd64"),
        (&["--arch=arm", "--variant=v6"], "armv6"),
        (&["--arch=arm"], "armv7"),
        (&["--arch", "aarch64"], "arm64"),
    ] {
        assert_eq!(pulled(options), want, "{options:?}");
    }
    let other = TestEnv::new();
    other
        .cooper(&["pull", "--os=windows", &name])
        .fails(1)
        .says("windows/");
    other
        .cooper(&["pull", "--arch=arm64", "--platform=linux/arm64", &name])
        .fails(2);
    other.cooper(&["pull", "--arch=a b", &name]).fails(2);
    let cask = other.cask(&["pull", "-q", "--arch=arm64", &name]).ok();
    assert!(cask.stdout().starts_with("sha256:"));
    assert_eq!(made_for(&other, &name), "arm64");
}

#[test]
fn a_private_ca_is_trusted_when_it_is_named() {
    let certs = Certs::new("IP:127.0.0.1");
    let registry = certs.serve();
    let name = registry.name("app").full();
    let t = with_image();
    let judged = t.cooper(&["push", "app", &name]).fails(1);
    assert_snapshot!(judged.shown_err().lines().last().unwrap(), @"hint: its CA belongs in `/etc/docker/certs.d/127.0.0.1:[PORT]/ca.crt`, or in a directory for `--cert-dir`; `--tls-verify=false` trusts anybody");
    fs::create_dir(t.beside("certs")).unwrap();
    fs::copy(certs.ca(), t.beside("certs/ca.crt")).unwrap();
    t.cooper(&["push", "app", &name, "--cert-dir", "../certs"])
        .ok();
    t.cooper(&["pull", "--tls-verify=false", &name]).ok();
}

#[test]
fn logins_are_kept_used_and_forgotten() {
    let registry = Server::start(&Setup {
        tls: None,
        htpasswd: Some(("ann", "s3cret")),
    });
    let host = registry.name("x").registry().to_owned();
    let name = registry.name("app").full();
    let t = with_image();
    let push = |options: &[&str]| {
        let mut args = vec!["push", "app", &name];
        args.extend(options);
        t.cooper(&args)
    };
    let judged = push(&[]).fails(1);
    assert!(
        judged.stderr().contains(&format!("`cooper login {host}`")),
        "{}",
        judged.stderr()
    );
    push(&["--creds", "ann:wrong"])
        .fails(1)
        .says("does not accept the user name or password");
    push(&["--creds", "ann:s3cret"]).ok();

    let login = |password: &[u8]| {
        t.cooper_reading(password, &["login", "-u", "ann", "--password-stdin", &host])
    };
    login(b"wrong\n")
        .fails(1)
        .says("does not accept the user name or password of `ann`");
    let config = t.beside("home/.docker/config.json");
    assert!(!config.exists(), "a wrong password is not kept");
    login(b"s3cret\n")
        .ok()
        .says(&format!("logged in to {host}"));
    assert_eq!(
        fs::metadata(&config).unwrap().permissions().mode() & 0o777,
        0o600
    );
    push(&[]).ok();
    t.cooper(&["logout", &host]).ok().says("logged out");
    push(&[]).fails(1);
    t.cooper(&["logout", &host]).ok().says("not logged in");

    t.cooper(&[
        "login",
        "-u",
        "ann",
        "-p",
        "s3cret",
        "--authfile",
        "auth.json",
        &host,
    ])
    .ok();
    push(&["--authfile", "auth.json"]).ok();
    push(&["--authfile", "none.json"]).fails(1);
    t.cooper(&["login", "--password-stdin", &host]).fails(2);
}

#[test]
fn archives_and_layouts_carry_images_both_ways() {
    let t = with_image();
    let id = ids(t.cooper(&["images", "-q", "--no-trunc", "app"]));
    for place in [
        "oci:layout:1.0",
        "oci-archive:o.tar:app:2",
        "docker-archive:d.tar:saved:3",
    ] {
        t.cooper(&["push", "-q", "app", place]).ok();
        let other = TestEnv::new();
        let (transport, rest) = place.split_once(':').unwrap();
        let there = format!("{transport}:{}", t.path(rest).display());
        assert_eq!(ids(other.cooper(&["pull", "-q", &there])), id, "{place}");
    }
    let index: Value =
        serde_json::from_slice(&fs::read(t.path("layout/index.json")).unwrap()).unwrap();
    let tag = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    assert_eq!(tag, "1.0");
    t.cooper(&["pull", "oci:nowhere"]).fails(1);
    t.cooper(&["pull", "ostree:x"])
        .fails(2)
        .says("is not supported");
}

#[test]
fn save_and_load_keep_names() {
    let t = with_image();
    t.cooper(&["tag", "app", "me/app:2"]).ok();
    let id = ids(t.cooper(&["images", "-q", "--no-trunc", "app"]));
    let saved = t.cooper(&["save", "app", "me/app:2"]).ok();
    t.cooper(&["save", "-o", "oci.tar", "--format", "oci-archive", "app"])
        .ok();
    let other = TestEnv::new();
    let loaded = other.cooper_reading(saved.bytes(), &["load"]).ok().stdout();
    assert_eq!(loaded, "Loaded image: app:latest\nLoaded image: me/app:2");
    assert_eq!(
        ids(other.cooper(&["images", "-q", "--no-trunc", "me/app"])),
        id
    );
    let file = t.path("oci.tar");
    other.cooper(&["load", "-i", file.to_str().unwrap()]).ok();
    other.cooper_reading(b"no archive", &["load"]).fails(1);
}

#[test]
fn import_makes_an_image_of_a_tar() {
    let t = TestEnv::new()
        .var("SOURCE_DATE_EPOCH", "1700000000")
        .file("etc/x", "x");
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all("", t.path("")).unwrap();
    let tar = tar.into_inner().unwrap();
    let id = t
        .cooper_reading(&tar, &["import", "-", "base:1"])
        .ok()
        .stdout();
    assert_eq!(ids(t.cooper(&["images", "-q", "--no-trunc"])), id);
    let history = t
        .cooper(&["history", "--format", "{{.Comment}}", "base:1"])
        .ok();
    assert_eq!(history.stdout(), "Imported from -");
    t.write("root.tar", tar);
    t.cooper(&["import", "-m", "by hand", "root.tar"]).ok();
    t.cooper(&["import", "none.tar"])
        .fails(1)
        .says("cannot open none.tar");
    t.cooper_reading(b"text", &["import", "-"])
        .fails(1)
        .says("standard input is no tar archive");
}

/// Runs a program of the machine in the context and returns its standard output.
fn tool(t: &TestEnv, program: &str, args: &[&str]) -> String {
    let out = std::process::Command::new(program)
        .args(args)
        .current_dir(t.path(""))
        .output()
        .unwrap_or_else(|error| panic!("`{program}` is needed for this test: {error}"));
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {err}");
    String::from_utf8(out.stdout).unwrap()
}

/// How the layers of the image `name` in a registry are compressed.
fn packings(t: &TestEnv, name: &str) -> Vec<String> {
    let from = format!("docker://{name}");
    let shown = tool(
        t,
        "skopeo",
        &["inspect", "--raw", "--tls-verify=false", &from],
    );
    let manifest: Value = serde_json::from_str(&shown).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    let name = |layer: &Value| layer["mediaType"].as_str().unwrap().to_owned();
    let short = |name: String| name.rsplit('+').next().unwrap().to_owned();
    layers.map(name).map(short).collect()
}

#[test]
fn layers_that_are_nowhere_here_are_fetched_to_be_packed_anew() {
    let registry = Server::http();
    let base = registry.name("base:1").full();
    with_image().cooper(&["push", "-q", "app", &base]).ok();
    let t = TestEnv::new().dockerfile(&format!("FROM {base}\nLABEL a=b\n"));
    t.cooper(&["build", "-q", "-t", "app", "."]).ok();
    // As after a repair, which takes damaged blobs away.
    for blob in fs::read_dir(t.root().join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap().path();
        if fs::read(&blob).unwrap().starts_with(&[0x1f, 0x8b]) {
            fs::remove_file(blob).unwrap();
        }
    }
    let name = registry.name("app:1").full();
    let push = ["push", "-q", "--compression=zstd", "app", &name];
    t.cooper(&push).ok();
    assert_eq!(packings(&t, &name), ["gzip", "gzip"]);
    t.cooper(&[&push[..], &["--force-compression"]].concat())
        .ok();
    assert_eq!(packings(&t, &name), ["zstd", "zstd"]);
}

#[test]
fn layers_are_packed_as_buildahs_options_of_push_say() {
    let registry = Server::http();
    let t = with_image();
    let base = registry.name("base:1").full();
    t.cooper(&["push", "-q", "app", &base]).ok();
    t.cooper(&["rmi", "-f", "app", &base]).ok();
    t.cooper(&["pull", "-q", &base]).ok();
    t.write("Dockerfile", format!("FROM {base}\nCOPY a /c\n"));
    t.cooper(&["build", "-q", "-t", "app", "."]).ok();
    let types = |options: &[&str]| -> Vec<String> {
        let name = registry.name("app:1").full();
        t.cooper(&[&["push", "-q", "app", &name], options].concat())
            .ok();
        packings(&t, &name)
    };
    let (gzip, zstd) = ("gzip", "zstd");
    for (options, want) in [
        (&["--compression-format=zstd"][..], [zstd, zstd, zstd]),
        (
            &["--compression-format=zstd", "--force-compression=false"],
            [gzip, gzip, zstd],
        ),
        (&["--compression=zstd:1"], [gzip, gzip, zstd]),
        (
            &["--compression=zstd:1", "--force-compression"],
            [zstd, zstd, zstd],
        ),
        (
            &["--compression-level=9", "--remove-signatures"],
            [gzip, gzip, gzip],
        ),
    ] {
        assert_eq!(types(options), want, "{options:?}");
    }
    for (option, why) in [
        (
            "--compression-format=zstd:chunked",
            "no table of the chunks",
        ),
        (
            "--compression-format=lz4",
            "expected gzip, zstd, estargz or none",
        ),
        ("--compression-level=10", "a number from 0 to 9"),
    ] {
        t.cooper(&["push", "app", option]).fails(2).says(why);
    }
}

#[test]
fn umoci_unpacks_and_runc_runs_what_an_oci_layout_holds() {
    let t = TestEnv::new().dockerfile("FROM busybox\nENV GREETING=hello\nCMD [\"sh\"]\n");
    t.busybox("busybox");
    t.build_with(&["-t", "app"]).ok();
    t.cooper(&["push", "app", "oci:layout:latest"]).ok();
    tool(
        &t,
        "umoci",
        &["unpack", "--image", "layout:latest", "bundle"],
    );
    let path = t.path("bundle/config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let script = "echo $GREETING from runc";
    spec["process"]["args"] = serde_json::json!(["/bin/sh", "-c", script]);
    spec["process"]["terminal"] = false.into();
    // Not every machine lets this test make cgroups or raise limits.
    spec["linux"]["resources"] = serde_json::json!({});
    spec["process"]["rlimits"] = serde_json::json!([]);
    fs::write(&path, spec.to_string()).unwrap();
    let id = format!("cooper-test-{}", std::process::id());
    let said = tool(&t, "runc", &["run", "--bundle", "bundle", &id]);
    assert_eq!(said, "hello from runc\n");
}

#[test]
fn a_bare_directory_holds_one_image_which_skopeo_reads() {
    let t = with_image();
    let id = ids(t.cooper(&["inspect", "-f", "{{.Id}}", "app"]));
    t.cooper(&["push", "-q", "app", "dir:bare"]).ok();
    let version = fs::read_to_string(t.path("bare/version")).unwrap();
    assert_eq!(version, "Directory Transport Version: 1.1\n");
    let shown = tool(&t, "skopeo", &["inspect", "--config", "dir:bare"]);
    assert!(shown.contains("architecture"), "{shown}");
    let other = TestEnv::new();
    let from = format!("dir:{}", t.path("bare").display());
    assert_eq!(ids(other.cooper(&["pull", "-q", &from])), id);
    assert_eq!(
        ids(other.cooper(&["copy", "-q", &from, "oci:again"])).len(),
        71
    );
    // What skopeo writes is read, and an image in such a directory is replaced as a whole.
    tool(&t, "skopeo", &["copy", "-q", "dir:bare", "dir:theirs"]);
    let theirs = format!("dir:{}", t.path("theirs").display());
    assert_eq!(ids(TestEnv::new().cooper(&["pull", "-q", &theirs])), id);
    t.write("Dockerfile", "FROM scratch\nLABEL other=1\n");
    t.build_with(&["-q", "-t", "small"]).ok();
    t.cooper(&["push", "-q", "small", "dir:bare"]).ok();
    assert_eq!(fs::read_dir(t.path("bare")).unwrap().count(), 3);
    assert!(tool(&t, "skopeo", &["inspect", "dir:bare"]).contains("\"other\": \"1\""));
    // Nobody's other files are written among.
    t.write("mine/file", "mine");
    t.cooper(&["push", "-q", "small", "dir:mine"])
        .fails(1)
        .says("version");
    assert_eq!(fs::read_dir(t.path("mine")).unwrap().count(), 1);
}

#[test]
fn a_bare_directory_is_verified() {
    let t = with_image();
    t.cooper(&["push", "-q", "app", "dir:bare"]).ok();
    let manifest = fs::read(t.path("bare/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let layer = t.path("bare").join(layer.strip_prefix("sha256:").unwrap());
    let mut bytes = fs::read(&layer).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&layer, bytes).unwrap();
    let from = format!("dir:{}", t.path("bare").display());
    TestEnv::new().cooper(&["pull", "-q", &from]).fails(1);
    fs::remove_file(&layer).unwrap();
    TestEnv::new().cooper(&["pull", "-q", &from]).fails(1);
    let gone = format!("dir:{}", t.path("none").display());
    t.cooper(&["pull", "-q", &gone]).fails(1);
}

/// A socket that answers one request as docker's daemon would, and keeps what it was sent.
fn daemon(socket: &std::path::Path, answer: Vec<u8>) -> std::thread::JoinHandle<(String, Vec<u8>)> {
    use std::io::{BufRead, BufReader, Read, Write};
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut request, mut size) = (String::new(), 0);
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap() > 2 {
            if request.is_empty() {
                line.trim_end().clone_into(&mut request);
            }
            let lower = line.to_ascii_lowercase();
            if let Some(length) = lower.strip_prefix("content-length:") {
                size = length.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; size];
        reader.read_exact(&mut body).unwrap();
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        let mut stream = stream;
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&answer).unwrap();
        (request, body)
    })
}

#[test]
fn images_go_to_dockers_daemon_and_come_from_it() {
    let t = with_image();
    let socket = t.beside("docker.sock");
    let t = t.var("DOCKER_HOST", format!("unix://{}", socket.display()));
    let serving = daemon(
        &socket,
        b"{\"stream\":\"Loaded image: there:1\\n\"}\n".to_vec(),
    );
    t.cooper(&["push", "-q", "app", "docker-daemon:there:1"])
        .ok();
    let (request, sent) = serving.join().unwrap();
    assert_eq!(request, "POST /images/load?quiet=1 HTTP/1.1");
    fs::remove_file(&socket).unwrap();
    let serving = daemon(&socket, sent);
    let other = TestEnv::new().var("DOCKER_HOST", format!("unix://{}", socket.display()));
    let id = ids(other.cooper(&["pull", "-q", "docker-daemon:there:1"]));
    let (request, _) = serving.join().unwrap();
    assert_eq!(
        request,
        "GET /images/docker.io/library/there:1/get HTTP/1.1"
    );
    let names = other.cooper(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(names.ok().stdout(), "there:1");
    assert_eq!(id, ids(t.cooper(&["inspect", "-f", "{{.Id}}", "app"])));
}

#[test]
fn what_dockers_daemon_refuses_is_told() {
    let t = with_image();
    let socket = t.beside("docker.sock");
    let t = t.var("DOCKER_HOST", format!("unix://{}", socket.display()));
    t.cooper(&["pull", "-q", "docker-daemon:app"])
        .fails(1)
        .says("cannot speak to docker's daemon");
    let answer = b"{\"errorDetail\":{},\"error\":\"no space left\"}\n".to_vec();
    let serving = daemon(&socket, answer);
    t.cooper(&["push", "-q", "app", "docker-daemon:app"])
        .fails(1)
        .says("docker's daemon says: no space left");
    serving.join().unwrap();
    t.cooper(&["push", "-q", "app", "docker-daemon:app@sha256:00"])
        .fails(2);
}
