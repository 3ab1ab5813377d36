//! What ADD does beyond COPY: archives and files from web servers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::support::canary::{Canary, SONG};
use crate::support::{TestEnv, everywhere};

/// A page: status line, further headers, body.
type Page = (&'static str, String, Vec<u8>);

/// A web server on loopback, until the test ends.
#[derive(Clone)]
struct Web {
    url: String,
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
    asked: Arc<Mutex<Vec<String>>>,
    logins: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let web = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            pages: Arc::default(),
            asked: Arc::default(),
            logins: Arc::default(),
        };
        let served = web.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away early is its own affair.
                let _ = served.answer(stream);
            }
        });
        web
    }

    fn page(&self, path: &str, headers: &str, body: impl Into<Vec<u8>>) {
        let page = ("200 OK", headers.to_owned(), body.into());
        self.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    fn redirect(&self, path: &str, to: &str) {
        let page = ("302 Found", format!("Location: {to}\r\n"), Vec::new());
        self.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    /// What was asked for since the last time, with the status it got.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().unwrap_or(Ok(String::new()))?;
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut condition = None;
        for line in lines {
            let line = line?;
            if let Some(tag) = line.to_lowercase().strip_prefix("if-none-match: ") {
                condition = Some(tag.to_owned());
            }
            if let Some(login) = line.to_lowercase().strip_prefix("authorization: ") {
                self.logins.lock().unwrap().push(format!("{path} {login}"));
            }
            if line.is_empty() {
                break;
            }
        }
        let found = self.pages.lock().unwrap().get(&path).cloned();
        let (mut status, headers, mut body) =
            found.unwrap_or(("404 Not Found", String::new(), Vec::new()));
        if condition.is_some_and(|tag| headers.to_lowercase().contains(&tag)) {
            (status, body) = ("304 Not Modified", Vec::new());
        }
        self.asked
            .lock()
            .unwrap()
            .push(format!("{path} {}", &status[..3]));
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)
    }
}

const DATED: &str = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n";

#[test]
fn a_fetched_file_has_the_name_of_its_url_mode_0600_and_its_time() {
    let web = Web::new();
    let url = &web.url;
    for path in ["/dir/name.txt?x=1", "/", "/a%20b", "/folder/"] {
        let headers = format!("{DATED}Content-Disposition: attachment; filename=\"other\"\r\n");
        web.page(path, &headers, "body");
    }
    let t = TestEnv::new();
    t.write(
        "Dockerfile",
        format!(
            "FROM scratch\nADD {url}/dir/name.txt?x=1 {url}/ {url}/a%20b {url}/folder/ /d/\n\
             ADD {url}/a%20b /renamed\nADD --chmod=644 --chown=3:4 {url}/a%20b /owned\n"
        ),
    );
    let out = t.files(&[], ".");
    for name in [
        "d/name.txt",
        "d/__unnamed__",
        "d/a b",
        "d/folder",
        "renamed",
    ] {
        let meta = fs::metadata(out.path(name)).unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o600, "{name}");
        assert_eq!(meta.mtime(), 1_445_412_480, "{name}");
    }
    let tree = t.listing(&[], ".");
    assert!(
        tree.contains(&"-rw-r--r-- 3/4 owned".to_owned()),
        "{tree:?}"
    );
}

#[test]
fn a_cached_file_is_asked_about_and_not_fetched() {
    let web = Web::new();
    web.page("/f", "ETag: \"one\"\r\n", "first");
    let t = TestEnv::new();
    t.write(
        "Dockerfile",
        format!("FROM scratch\nADD {}/f /f\n", web.url),
    );
    assert_eq!(t.files(&[], ".").read("f"), "first");
    assert_eq!(web.asked(), ["/f 200"], "once for the key and the layer");
    let steps = t.build().ok().steps();
    assert!(
        steps.iter().all(|step| step.ends_with("cached")),
        "{steps:?}"
    );
    assert_eq!(web.asked(), ["/f 304"]);
    web.page("/f", "ETag: \"two\"\r\n", "second");
    assert_eq!(t.files(&[], ".").read("f"), "second");
    assert_eq!(web.asked(), ["/f 200"]);
}

#[test]
fn a_file_without_a_version_is_fetched_once_a_build() {
    let web = Web::new();
    web.page("/f", "", "text");
    let t = TestEnv::new();
    t.write(
        "Dockerfile",
        format!("FROM scratch\nADD {0}/f /a\nADD {0}/f /b\n", web.url),
    );
    t.build().ok();
    assert_eq!(web.asked(), ["/f 200"]);
}

#[test]
fn secrets_named_after_a_host_go_to_that_host_alone() {
    let (web, other) = (Web::new(), Web::new());
    web.page("/f", "", "text");
    other.page("/f", "", "text");
    web.redirect("/away", &format!("{}/f", other.url));
    let host = web.url.strip_prefix("http://").unwrap();
    let t = TestEnv::new()
        .var("TOKEN", "abcdefgh\n")
        .var("HEADER", "Custom ijklmnop");
    for (secret, login) in [
        (
            format!("id=HTTP_AUTH_TOKEN_{host},env=TOKEN"),
            "bearer abcdefgh",
        ),
        (
            format!("id=HTTP_AUTH_HEADER_{host},env=HEADER"),
            "custom ijklmnop",
        ),
    ] {
        for path in ["/f", "/away"] {
            t.write(
                "Dockerfile",
                format!("FROM scratch\nADD {}{path} /f\n", web.url),
            );
            let judged = t.build_with(&["--no-cache", "--secret", &secret]).ok();
            assert!(!judged.stderr().contains("abcdefgh"));
        }
        let logins = std::mem::take(&mut *web.logins.lock().unwrap());
        assert_eq!(logins, [format!("/f {login}"), format!("/away {login}")]);
    }
    t.write(
        "Dockerfile",
        format!("FROM scratch\nADD {}/f /f\n", other.url),
    );
    let secret = format!("id=HTTP_AUTH_TOKEN_{host},env=TOKEN");
    t.build_with(&["--no-cache", "--secret", &secret]).ok();
    assert!(other.logins.lock().unwrap().is_empty());
}

#[test]
fn a_fetched_archive_is_unpacked_only_when_asked() {
    let web = Web::new();
    let t = TestEnv::new().file("inner", "inside");
    let tar = Command::new("tar")
        .args(["-cz", "inner"])
        .current_dir(t.path(""))
        .output()
        .unwrap();
    web.page("/a.tgz", DATED, tar.stdout);
    let url = &web.url;
    t.write(
        "Dockerfile",
        format!(
            "FROM scratch\nADD {url}/a.tgz /kept/\nADD --unpack=true {url}/a.tgz /unpacked\n\
             ADD --unpack {url}/a.tgz /bare/\n"
        ),
    );
    let out = t.files(&[], ".");
    assert!(out.path("kept/a.tgz").is_file());
    assert_eq!(out.read("unpacked/inner"), "inside");
    assert_eq!(out.read("bare/inner"), "inside");
}

#[test]
fn checksums_are_sha256_of_one_remote_file() {
    let web = Web::new();
    web.page("/f", "", "fetched");
    let url = &web.url;
    let sum = "sha256:0c7fcf412c36e9e1cfc3cca37cec9afedcfca86e1943f6827c36e88dfda41642";
    let t = TestEnv::new().file("local", "");
    let build = |line: &str| {
        t.write(
            "Dockerfile",
            format!("FROM scratch\nARG SUM={sum}\nADD {line}\n"),
        );
        t.build()
    };
    build(&format!("--checksum={sum} {url}/f /f")).ok();
    build(&format!("--checksum=$SUM {url}/f /f")).ok();
    for (line, says) in [
        (
            format!("--checksum=md5:12 {url}/f /f"),
            "unsupported digest algorithm",
        ),
        (
            format!("--checksum=sha256:12 {url}/f /f"),
            "invalid checksum digest format",
        ),
        (
            format!("--checksum=12 {url}/f /f"),
            "invalid checksum digest format",
        ),
        (
            format!("--checksum={sum} {url}/f {url}/g /d/"),
            "checksum can't be specified for multiple sources",
        ),
        (
            format!("--checksum=$SUM {url}/f {url}/g /d/"),
            "checksum can't be specified for multiple sources",
        ),
        (
            "--checksum=$SUM local /f".to_owned(),
            "checksum requires HTTP(S) or Git sources",
        ),
        (
            format!("--checksum={sum} local /f"),
            "checksum requires HTTP(S) or Git sources",
        ),
    ] {
        build(&line).fails(1).says(says);
    }
    let local = "--checksum=$SUM $FILE /f";
    t.write(
        "Dockerfile",
        format!("FROM scratch\nARG SUM={sum}\nARG FILE=local\nADD {local}\n"),
    );
    t.build()
        .fails(1)
        .says("checksum requires HTTP(S) or Git sources");
}

#[test]
fn remote_and_local_sources_mix() {
    let web = Web::new();
    web.page("/remote", "", "far");
    let t = TestEnv::new().file("local", "near");
    t.write(
        "Dockerfile",
        format!(
            "FROM scratch\nADD local {}/remote <<doc /d/\nhere\ndoc\n",
            web.url
        ),
    );
    let out = t.files(&[], ".");
    assert_eq!(out.read("d/local"), "near");
    assert_eq!(out.read("d/remote"), "far");
    assert_eq!(out.read("d/doc"), "here\n");
}

#[test]
fn an_archive_is_merged_through_links_of_the_image_and_never_out_of_it() {
    let t = TestEnv::new()
        .file("tree/real/keep", "kept")
        .file("pack/in/f", "new");
    let canary = Canary::at(t.beside("canary"));
    t.symlink("/real", "tree/in");
    t.symlink(canary.root().to_str().unwrap(), "tree/out");
    fs::create_dir_all(t.path("pack/out")).unwrap();
    t.write("pack/out/f", "escaped");
    fs::hard_link(t.path("pack/in/f"), t.path("pack/in/g")).unwrap();
    let tar = Command::new("tar")
        .args([
            "-cf",
            "a.tar",
            "-C",
            "pack",
            "--no-recursion",
            "in/f",
            "in/g",
            "out/f",
        ])
        .current_dir(t.path(""))
        .status()
        .unwrap();
    assert!(tar.success());
    t.write("Dockerfile", "FROM scratch\nCOPY tree /\nADD a.tar /\n");
    let out = t.files(&[], ".");
    assert_eq!(out.read("real/keep"), "kept");
    assert_eq!(out.read("real/f"), "new");
    let (f, g) = (out.path("real/f"), out.path("real/g"));
    assert_eq!(
        fs::metadata(f).unwrap().ino(),
        fs::metadata(g).unwrap().ino()
    );
    canary.unchanged();
}

#[test]
fn t_ctx_5_redirects_lead_to_http_and_nowhere_else() {
    everywhere(|t| {
        let web = Web::new();
        let canary = Canary::at(t.beside("canary"));
        web.page("/real", "", "text");
        web.redirect("/ok", &format!("{}/real", web.url));
        web.redirect("/file", &format!("file://{}/f", canary.root().display()));
        web.redirect("/ftp", "ftp://127.0.0.1/f");
        web.redirect("/data", "data:text/plain,hello");
        web.redirect("/loop", &format!("{}/loop", web.url));
        let url = &web.url;
        t.write("Dockerfile", format!("FROM scratch\nADD {url}/ok /d/\n"));
        assert_eq!(t.files(&[], ".").read("d/ok"), "text");
        for path in ["file", "ftp", "data", "loop"] {
            t.write("Dockerfile", format!("FROM scratch\nADD {url}/{path} /f\n"));
            let judged = t.build().fails(1).says("cannot fetch").says("Dockerfile:2");
            assert!(!judged.stderr().contains(SONG));
        }
        canary.unchanged();
    });
}

#[test]
fn t_ctx_5_bytes_that_fail_their_checksum_are_seen_by_nobody() {
    everywhere(|t| {
        let web = Web::new();
        web.page("/f", "ETag: \"one\"\r\n", "not what was asked for");
        let marker = t.beside("seen");
        let sum = format!("sha256:{}", "0".repeat(64));
        t.write(
            "Dockerfile",
            format!(
                "FROM busybox\nADD --checksum={sum} {}/f /f\nRUN cat /f\n",
                web.url
            ),
        );
        for _ in 0..2 {
            let judged = t
                .build_with(&["-t", "never"])
                .fails(1)
                .says("digest mismatch");
            assert!(!judged.stderr().contains("RUN cat"), "{}", judged.stderr());
        }
        t.cooper(&["inspect", "never"]).fails(1);
        assert!(!marker.exists());
        // A server that changes its mind between the key and the layer has no second chance.
        let sum = "sha256:0c7fcf412c36e9e1cfc3cca37cec9afedcfca86e1943f6827c36e88dfda41642";
        web.page("/g", "", "fetched");
        t.write(
            "Dockerfile",
            format!("FROM scratch\nADD --checksum={sum} {}/g /g\n", web.url),
        );
        web.asked();
        assert_eq!(t.files(&[], ".").read("g"), "fetched");
        assert_eq!(web.asked(), ["/g 200"]);
    });
}

#[test]
fn a_linked_layer_of_a_url_is_the_same_on_every_base() {
    let web = Web::new();
    web.page("/f", DATED, "body");
    let t = TestEnv::new().file("f", "below");
    let layer = |base: &str, name: &str| {
        let add = format!("ADD --link {}/f /d/f", web.url);
        t.write("Dockerfile", format!("FROM scratch\n{base}\n{add}\n"));
        t.build_with(&["-q", "--no-cache", "-t", name]).ok();
        let out = t.cooper(&["inspect", "-f", "{{json .RootFS.Layers}}", name]);
        let layers: Vec<String> = serde_json::from_str(&out.ok().stdout()).unwrap();
        layers.last().unwrap().clone()
    };
    assert_eq!(layer("", "one"), layer("COPY f /d/f", "two"));
}
