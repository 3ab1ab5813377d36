//! Where files and images of a build come from besides its own context: named contexts and URLs.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use insta::assert_snapshot;

use crate::support::TestEnv;

/// Builds with `options` and gives the result as a directory beside the context.
#[track_caller]
fn out(t: &TestEnv, options: &[&str]) -> impl Fn(&str) -> String + use<> {
    let dir = t.beside("out");
    let _ = fs::remove_dir_all(&dir);
    let output = format!("type=local,dest={}", dir.display());
    t.build_with(&[options, &["-o", &output]].concat()).ok();
    move |name| fs::read_to_string(dir.join(name)).unwrap()
}

/// Serves `body` to every request on a loopback port.
pub(super) fn serve(body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let length = body.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            // A client that has seen enough goes away.
            let _ = stream
                .write_all(answer.as_bytes())
                .and_then(|()| stream.write_all(&body));
        }
    });
    format!("http://{address}")
}

fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

#[test]
fn a_named_directory_takes_the_place_of_a_stage() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch AS files\nCOPY no /no\nFROM scratch\nCOPY --from=files a /a\n")
        .file("named/a", "named\n");
    let out = out(&t, &["--build-context", "files=named"]);
    assert_eq!(out("a"), "named\n");
}

#[test]
fn a_named_directory_obeys_its_own_ignore_file_and_no_other() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY --from=files . /\n")
        .file(".dockerignore", "a\n")
        .file("named/.dockerignore", "b\n")
        .file("named/a", "a")
        .file("named/b", "b");
    let out = out(&t, &["--build-context", "files=named"]);
    assert_eq!(out("a"), "a");
    assert!(!t.beside("out/b").exists());
    t.write("Dockerfile", "FROM scratch\nCOPY --from=files b /\n");
    let judged = t.build_with(&["--build-context", "files=named"]).fails(1);
    judged.says("line 1 of");
}

#[test]
fn a_stage_starts_from_the_files_of_a_named_directory() {
    let t = TestEnv::new()
        .file("Dockerfile", "FROM files\nCOPY own /own\nENV A=b\n")
        .file("own", "own")
        .file("named/deep/f", "named")
        .file("named/out", "left out")
        .file("named/.dockerignore", "out\n");
    let options = ["--build-context", "files=named"];
    let out = out(&t, &options);
    assert_eq!([out("deep/f"), out("own")], ["named", "own"]);
    assert!(!t.beside("out/out").exists());
    t.build_with(&[&options[..], &["-t", "made"]].concat()).ok();
    let config = t.cooper(&["inspect", "made"]).ok().stdout();
    for want in ["\"A=b\"", "PATH=/usr/local/sbin", "\"WorkingDir\": \"/\""] {
        assert!(config.contains(want), "{want} is not in {config}");
    }
    // The files count for the cache.
    t.write("named/deep/f", "changed");
    assert_eq!(self::out(&t, &options)("deep/f"), "changed");
}

#[test]
fn a_missing_file_of_a_named_directory_names_the_context() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY --from=files nothing /\n")
        .file("named/a", "a");
    let judged = t.build_with(&["--build-context", "files=named"]).fails(1);
    judged.says("`nothing` is not in context `files`");
}

#[test]
fn only_what_is_copied_from_a_named_directory_counts_for_the_cache() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY --from=files a /a\n")
        .file("named/a", "1")
        .file("named/b", "1");
    let build = || {
        t.build_with(&["--build-context", "files=named"])
            .ok()
            .steps()
    };
    build();
    t.write("named/b", "2");
    assert_snapshot!(build().last().unwrap(), @"[1/1] COPY --from=files a /a  cached");
    t.write("named/a", "2");
    assert_snapshot!(build().last().unwrap(), @"[1/1] COPY --from=files a /a  ran");
}

#[test]
fn a_context_that_nothing_names_is_never_opened() {
    let t = TestEnv::new().dockerfile("FROM scratch\nLABEL a=b\n");
    let nowhere = [
        "--build-context",
        "x=/nowhere/at/all",
        "--build-context",
        "y=docker-image://localhost/none",
    ];
    t.build_with(&nowhere).ok();
    t.write("Dockerfile", "FROM scratch\nCOPY --from=x . /\n");
    t.build_with(&nowhere).fails(1).says("/nowhere/at/all");
}

#[test]
fn a_named_image_brings_its_config_and_answers_to_every_spelling() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nENV FROM_BASE=yes\nCOPY a /a\n")
        .file("a", "base");
    t.cooper(&["build", "-q", "-t", "localhost/base", "."]).ok();
    for from in ["busybox", "busybox:latest", "docker.io/library/busybox"] {
        t.write(
            "Dockerfile",
            format!("FROM {from}\nCOPY --from={from} a /b\n"),
        );
        t.build_with(&[
            "-t",
            "x",
            "--build-context",
            "busybox=docker-image://localhost/base",
        ])
        .ok();
        let env = t
            .cooper(&["inspect", "-f", "{{index .Config.Env 1}}", "x"])
            .ok()
            .stdout();
        assert_eq!(env, "FROM_BASE=yes", "{from}");
    }
}

#[test]
fn scratch_can_stand_behind_a_name() {
    let t = TestEnv::new()
        .dockerfile("FROM base\nCOPY --from=base . /none/\nCOPY a /a\n")
        .file("a", "a");
    let out = out(&t, &["--build-context", "base=docker-image://scratch"]);
    assert_eq!(out("a"), "a");
}

#[test]
fn a_layout_is_named_by_tag_and_by_digest() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nENV A=1\nCOPY a /a\n")
        .file("a", "layout");
    let dest = format!("type=oci,tar=false,dest={}", t.beside("layout").display());
    t.build_with(&["-t", "img:7", "-o", &dest]).ok();
    let index = fs::read_to_string(t.beside("layout/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    t.write("Dockerfile", "FROM base\nCOPY --from=base /a /b\n");
    let layout = t.beside("layout").display().to_string();
    for pick in ["", ":7", &format!("@{digest}"), &format!(":7@{digest}")] {
        let out = out(
            &t,
            &[
                "--build-context",
                &format!("base=oci-layout://{layout}{pick}"),
            ],
        );
        assert_eq!(out("b"), "layout", "{pick}");
    }
    let wrong = format!("base=oci-layout://{layout}:8");
    t.build_with(&["--build-context", &wrong])
        .fails(1)
        .says("has no image `8`");
}

#[test]
fn a_context_for_the_platform_wins_over_one_for_all() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY --from=files a /a\n")
        .file("all/a", "all")
        .file("arm/a", "arm");
    let contexts = [
        "--build-context",
        "files=all",
        "--build-context",
        "files::linux/arm64=arm",
    ];
    let out_on = |platform| out(&t, &[&contexts[..], &["--platform", platform]].concat())("a");
    assert_eq!(out_on("linux/arm64"), "arm");
    assert_eq!(out_on("linux/riscv64"), "all");
}

#[test]
fn a_url_gives_a_named_context() {
    let url = serve(gzip(&tar_of(&[("a", "from the net"), ("sub/b", "b")])));
    let t = TestEnv::new().dockerfile("FROM scratch\nCOPY --from=net a sub/b /\n");
    let out = out(&t, &["--build-context", &format!("net={url}/ctx.tgz")]);
    assert_eq!(out("a"), "from the net");
}

#[test]
fn a_url_gives_the_context_or_a_dockerfile() {
    let url = serve(tar_of(&[
        ("Dockerfile", "FROM scratch\nCOPY a /a\n"),
        ("a", "net"),
    ]));
    let t = TestEnv::new();
    t.cooper(&["build", "-q", "-o", "../out", &format!("{url}/ctx.tar")])
        .ok();
    assert_eq!(fs::read_to_string(t.beside("out/a")).unwrap(), "net");
    let url = serve(b"FROM scratch\nLABEL made=there\n".to_vec());
    t.cooper(&["build", "-q", "-t", "x", &format!("{url}/Dockerfile")])
        .ok();
    let label = t
        .cooper(&["inspect", "-f", "{{.Config.Labels.made}}", "x"])
        .ok()
        .stdout();
    assert_eq!(label, "there");
}

#[test]
fn t_ctx_a_downloaded_context_shows_no_file_of_the_host() {
    let mut tar = tar::Builder::new(tar_of(&[]));
    for (name, to) in [("Dockerfile", "/etc/passwd"), ("leak", "/etc/passwd")] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, name, to).unwrap();
    }
    let url = serve(tar.into_inner().unwrap());
    let t = TestEnv::new();
    t.cooper(&["build", &format!("{url}/x.tar")])
        .fails(1)
        .says("there is no Dockerfile");
    t.write("Dockerfile", "FROM scratch\nCOPY --from=net leak /leak\n");
    t.build_with(&["--build-context", &format!("net={url}/x.tar")])
        .fails(1);
}

#[test]
fn an_ignore_file_beside_the_dockerfile_replaces_that_of_the_context() {
    let t = TestEnv::new()
        .file("ci/Dockerfile", "FROM scratch\nCOPY . /\n")
        .file("ci/Dockerfile.dockerignore", "b\nci\n")
        .file(".dockerignore", "a\n")
        .file("a", "a")
        .file("b", "b");
    let out = out(&t, &["-f", "ci/Dockerfile"]);
    assert_eq!(out("a"), "a");
    assert!(!t.beside("out/b").exists() && !t.beside("out/ci").exists());
}

#[test]
fn an_ignored_dockerfile_is_read_and_not_copied() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY . /\n")
        .file(
            ".dockerignore",
            "\u{feff}# all of it\nDockerfile\n.dockerignore\n",
        )
        .file("a", "a");
    let out = out(&t, &[]);
    assert_eq!(out("a"), "a");
    assert!(!t.beside("out/Dockerfile").exists() && !t.beside("out/.dockerignore").exists());
}

#[test]
fn a_lone_exclamation_mark_is_no_pattern() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY . /\n")
        .file(".dockerignore", "a\n!\n");
    t.build().fails(1).says("illegal exclusion pattern: \"!\"");
}

#[test]
fn files_that_nothing_names_are_not_read() {
    let t = TestEnv::as_user("nosub")
        .dockerfile("FROM scratch\nCOPY a /a\n")
        .file("a", "a")
        .file("locked/b", "b");
    t.chmod("locked/b", 0);
    t.chmod("locked", 0);
    let output = format!("type=local,dest={}", t.beside("out").display());
    t.build_with(&["-o", &output]).ok();
    assert_eq!(fs::read_to_string(t.beside("out/a")).unwrap(), "a");
    t.write("Dockerfile", "FROM scratch\nCOPY . /\n");
    t.build().fails(1).says("locked");
}

#[test]
fn a_containerignore_counts_where_there_is_no_dockerignore() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY . /\n")
        .file(".containerignore", "a\n")
        .file("a", "a")
        .file("b", "b");
    let out = out(&t, &[]);
    assert_eq!(out("b"), "b");
    assert!(!t.beside("out/a").exists());
    t.write(".dockerignore", "b\n");
    let out = self::out(&t, &[]);
    assert_eq!(out("a"), "a");
    assert!(!t.beside("out/b").exists());
}
