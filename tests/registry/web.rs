//! Plain downloads, as ADD makes them.

use cooper::registry::{Client, Error, Fetched, Validators};

use crate::liar::{Liar, reply};
use crate::support::{options, wait};

fn fetch(url: &str) -> Result<(Vec<u8>, Option<String>), Error> {
    let client = Client::new(options());
    wait(async {
        match client.get(url, &Validators::default()).await? {
            Fetched::Unchanged => panic!("nothing was known before"),
            Fetched::Page(page) => {
                let name = page.name.clone();
                let (bytes, size) = page.save(Vec::new(), |_| {}).await?;
                assert_eq!(bytes.len() as u64, size);
                Ok((bytes, name))
            }
        }
    })
}

#[test]
fn a_file_is_fetched_with_its_name_and_version() {
    let server = Liar::new(|asked| {
        let dated = [
            ("ETag", "\"v1\""),
            ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ];
        match asked.header("if-none-match") {
            Some("\"v1\"") => reply(304, &dated, b""),
            _ => reply(200, &dated, b"hello"),
        }
    });
    let url = format!("http://{}/files/a%20b.tar", server.host());
    let client = Client::new(options());
    wait(async {
        let first = client.get(&url, &Validators::default()).await.unwrap();
        let Fetched::Page(page) = first else {
            panic!("it is new")
        };
        assert_eq!(
            (page.name.as_deref(), page.size),
            (Some("a b.tar"), Some(5))
        );
        let known = page.validators.clone();
        assert_eq!(
            known.last_modified.as_deref(),
            Some("Sun, 06 Nov 1994 08:49:37 GMT")
        );
        assert_eq!(page.save(Vec::new(), |_| {}).await.unwrap().0, b"hello");
        let second = client.get(&url, &known).await.unwrap();
        assert!(matches!(second, Fetched::Unchanged));
    });
}

#[test]
fn t_ctx_5_redirects_stay_on_the_web_and_out_of_private_networks() {
    for to in [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://user@127.0.0.1/",
    ] {
        let server = Liar::new(move |_| reply(302, &[("Location", to)], b""));
        let e = fetch(&format!("http://{}/x", server.host())).unwrap_err();
        assert!(matches!(e, Error::Refuses { .. }), "{to}: {e:?}");
    }
    for url in ["file:///etc/passwd", "ftp://x/y", "nonsense"] {
        assert!(matches!(fetch(url), Err(Error::Refuses { .. })), "{url}");
    }
}

#[test]
fn redirects_are_followed_and_circles_end() {
    let server = Liar::new(|asked| match asked.path.as_str() {
        "/a" => reply(301, &[("Location", "/dir/b.txt")], b""),
        "/dir/b.txt" => reply(200, &[], b"found"),
        _ => reply(302, &[("Location", "/circle")], b""),
    });
    let at = |path: &str| format!("http://{}{path}", server.host());
    assert_eq!(
        fetch(&at("/a")).unwrap(),
        (b"found".to_vec(), Some("a".to_owned()))
    );
    assert!(matches!(fetch(&at("/circle")), Err(Error::Protocol { .. })));
}

#[test]
fn a_file_that_is_missing_or_breaks_off_is_an_error() {
    let server = Liar::new(|asked| match asked.path.as_str() {
        "/cut" => reply(200, &[], b"0123456789").cut(4),
        _ => reply(404, &[], b""),
    });
    let at = |path: &str| format!("http://{}{path}", server.host());
    assert!(matches!(
        fetch(&at("/none")),
        Err(Error::Status { status: 404, .. })
    ));
    assert!(matches!(fetch(&at("/cut")), Err(Error::Connection { .. })));
}

#[test]
fn a_user_name_in_the_url_goes_to_its_own_server_only() {
    let elsewhere = Liar::new(|_| reply(200, &[], b"x"));
    let there = format!("http://{}/b", elsewhere.host());
    let server = Liar::new(move |_| reply(302, &[("Location", &there)], b""));
    fetch(&format!("http://me:p%40ss@{}/a", server.host())).unwrap();
    let sent = server.asked();
    assert_eq!(sent[0].header("authorization"), Some("Basic bWU6cEBzcw=="));
    assert_eq!(elsewhere.asked()[0].header("authorization"), None);
}
