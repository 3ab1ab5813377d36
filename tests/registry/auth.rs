//! Tokens, realms, and where credentials go.

use std::sync::atomic::{AtomicU32, Ordering};

use cooper::event::Silent;
use cooper::image::Reference;
use cooper::registry::{Client, Credentials, Error, Options, Secret, Version};

use crate::liar::{Asked, Liar, Reply, reply};
use crate::support::{Blobs, Certs, Temp, image, login, options, wait};

const TOKEN: &str = "/token";

/// A registry whose answers need a token, and that hands tokens out itself. `more` answers what
/// has the right token.
fn token_registry(more: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Liar {
    Liar::new(move |asked| {
        let host = asked.header("host").unwrap().to_owned();
        if asked.path.starts_with(TOKEN) {
            return reply(200, &[], br#"{"token":"t-1","expires_in":300}"#);
        }
        if asked.header("authorization") != Some("Bearer t-1") {
            let ask = format!("Bearer realm=\"http://{host}{TOKEN}\",service=\"reg\"");
            return reply(401, &[("WWW-Authenticate", &ask)], b"");
        }
        more(asked)
    })
}

fn client(credentials: Option<Credentials>) -> Client {
    Client::new(Options {
        credentials,
        ..options()
    })
}

fn name(liar: &Liar) -> Reference {
    format!("{}/team/app:1", liar.host()).parse().unwrap()
}

#[test]
fn parallel_transfers_share_one_token_request() {
    let blobs = Blobs::default();
    let layers: Vec<_> = (0..8_u8).map(|n| blobs.add(&[n; 1000])).collect();
    let here = blobs.clone();
    let liar = token_registry(move |asked| {
        let digest = asked.path.rsplit('/').next().unwrap().parse().unwrap();
        let bytes = here.0.lock().unwrap()[&digest].clone();
        reply(200, &[], &bytes)
    });
    let (client, back) = (client(Some(login("me", "pw"))), Blobs::default());
    let repository = client.reader(&name(&liar)).unwrap();
    wait(repository.fetch_all(&layers, &back, &Silent)).unwrap();
    assert_eq!(back.count(), 8);
    assert_eq!(
        (liar.count("GET", TOKEN), liar.count("GET", "/v2/")),
        (1, 1)
    );
    let token = liar
        .asked()
        .into_iter()
        .find(|a| a.is("GET", TOKEN))
        .unwrap();
    assert_eq!(
        token.path,
        "/token?service=reg&scope=repository%3Ateam%2Fapp%3Apull&account=me"
    );
    assert_eq!(token.header("authorization"), Some("Basic bWU6cHc="));
}

#[test]
fn an_identity_token_is_traded_by_post() {
    let (blobs, missing) = (Blobs::default(), Blobs::default());
    let document = image(&blobs, &[]).1;
    let body = document.bytes().to_vec();
    let liar = token_registry(move |_| {
        let kind = ("Content-Type", "application/vnd.oci.image.manifest.v1+json");
        reply(200, &[kind], &body)
    });
    let client = client(Some(Credentials::Identity(Secret::new("refresh me"))));
    let name = name(&liar);
    let got = wait(client.reader(&name).unwrap().document(Version::of(&name))).unwrap();
    assert_eq!(got.bytes(), document.bytes());
    assert_eq!(missing.count(), 0);
    let asked = liar.asked();
    let post = asked.iter().find(|a| a.is("POST", TOKEN)).unwrap();
    let form = String::from_utf8(post.body.clone()).unwrap();
    assert_eq!(
        form,
        "grant_type=refresh_token&client_id=cooper&service=reg\
         &scope=repository%3Ateam%2Fapp%3Apull&refresh_token=refresh+me"
    );
    assert_eq!(post.header("authorization"), None);
}

#[test]
fn a_token_that_runs_out_in_between_is_renewed() {
    let given = AtomicU32::new(0);
    let liar = Liar::new(move |asked| {
        let host = asked.header("host").unwrap();
        let ask = format!("Bearer realm=\"http://{host}{TOKEN}\",service=\"reg\"");
        if asked.path.starts_with(TOKEN) {
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            return reply(
                200,
                &[],
                format!(r#"{{"access_token":"t-{number}"}}"#).as_bytes(),
            );
        }
        let newest = format!("Bearer t-{}", given.load(Ordering::SeqCst));
        // The first token is out before it is used.
        if asked.header("authorization") != Some(&newest) || newest == "Bearer t-1" {
            return reply(401, &[("WWW-Authenticate", &ask)], b"");
        }
        reply(200, &[], br#"{"name":"app","tags":["x"]}"#)
    });
    let tags = wait(client(None).reader(&name(&liar)).unwrap().tags()).unwrap();
    assert_eq!(tags, ["x"]);
}

#[test]
fn a_refused_login_is_told_from_a_missing_right() {
    let says = |status: u16, body: &'static str| {
        let liar = Liar::new(move |asked| {
            let host = asked.header("host").unwrap();
            if asked.path.starts_with(TOKEN) {
                return reply(
                    status,
                    &[("Content-Type", "application/json")],
                    body.as_bytes(),
                );
            }
            let ask = format!("Bearer realm=\"http://{host}{TOKEN}\"");
            reply(401, &[("WWW-Authenticate", &ask)], b"")
        });
        let name = name(&liar);
        move |credentials| {
            let client = client(credentials);
            let e = wait(client.reader(&name).unwrap().document(Version::of(&name))).unwrap_err();
            // The server must live until here.
            assert!(!liar.asked().is_empty());
            e
        }
    };
    let refuses = says(401, r#"{"details":"incorrect password hunter2"}"#);
    let e = refuses(Some(login("me", "hunter2")));
    assert!(matches!(e, Error::WrongCredentials { .. }), "{e:?}");
    assert!(e.to_string().contains("incorrect password ***"), "{e}");
    assert!(matches!(refuses(None), Error::NeedsLogin { .. }));
    let takes = says(200, r#"{"token":"useless"}"#);
    let e = takes(Some(login("me", "pw")));
    assert!(matches!(e, Error::Denied { .. }), "{e:?}");
    assert!(matches!(takes(None), Error::NeedsLogin { .. }));
}

#[test]
fn t_reg_1_nothing_secret_follows_a_redirect() {
    let elsewhere = Liar::new(|_| reply(200, &[], b"blob"));
    let (there, count) = (
        format!("http://{}/blob", elsewhere.host()),
        AtomicU32::new(0),
    );
    let localhost = there.replace("127.0.0.1", "localhost");
    let liar = Liar::new(move |asked| {
        if asked.header("authorization").is_none() {
            return reply(401, &[("WWW-Authenticate", "Basic realm=r")], b"");
        }
        if asked.path == "/v2/" {
            return reply(200, &[("Set-Cookie", "session=secret")], b"");
        }
        let to = match count.fetch_add(1, Ordering::SeqCst) {
            0 => &there,
            _ => &localhost,
        };
        reply(
            307,
            &[("Location", to), ("Set-Cookie", "session=secret")],
            b"",
        )
    });
    let client = client(Some(login("me", "hunter2")));
    let blob = Blobs::default().add(b"blob");
    let repository = client.reader(&name(&liar)).unwrap();
    for _ in 0..2 {
        wait(repository.fetch(&blob, &Blobs::default(), &Silent)).unwrap();
    }
    let asked = elsewhere.asked();
    assert_eq!(asked.len(), 2);
    for asked in asked {
        assert_eq!(
            (asked.header("authorization"), asked.header("cookie")),
            (None, None)
        );
    }
    let sent = liar.asked();
    assert!(sent.iter().any(|a| a.header("authorization").is_some()));
}

#[test]
fn t_reg_1_nothing_secret_goes_to_a_foreign_layer_or_upload_location() {
    let elsewhere = Liar::new(|asked| match asked.method.as_str() {
        "PUT" => reply(201, &[], b""),
        _ => reply(200, &[], b"blob"),
    });
    let there = format!("http://{}/up?state=1", elsewhere.host());
    let liar = Liar::new(move |asked| {
        if asked.header("authorization").is_none() {
            return reply(401, &[("WWW-Authenticate", "Basic realm=r")], b"");
        }
        match asked.method.as_str() {
            "POST" => reply(202, &[("Location", &there)], b""),
            _ => reply(404, &[], b""),
        }
    });
    let client = client(Some(login("me", "hunter2")));
    let here = Blobs::default();
    let mut blob = here.add(b"blob");
    wait(
        client
            .writer(&name(&liar), &[])
            .unwrap()
            .send(&blob, &here, &Silent),
    )
    .unwrap();
    let url = format!("http://{}/layer", elsewhere.host());
    blob.rest.insert("urls".into(), serde_json::json!([url]));
    wait(
        client
            .reader(&name(&liar))
            .unwrap()
            .fetch(&blob, &Blobs::default(), &Silent),
    )
    .unwrap();
    let asked = elsewhere.asked();
    let paths: Vec<_> = asked.iter().map(|a| a.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            &format!("/up?state=1&digest=sha256%3A{}", blob.digest.hex()),
            "/layer"
        ]
    );
    assert!(asked.iter().all(|a| a.header("authorization").is_none()));
}

fn refused_realm(liar: &Liar, options: Options) {
    let name = name(liar);
    let client = Client::new(Options {
        credentials: Some(login("me", "hunter2")),
        ..options
    });
    let e = wait(client.reader(&name).unwrap().document(Version::of(&name))).unwrap_err();
    assert!(matches!(e, Error::Refuses { .. }), "{e:?}");
    assert!(!format!("{e:?} {e}").contains("hunter2"));
    assert!(
        liar.asked()
            .iter()
            .all(|a| a.header("authorization").is_none())
    );
}

#[test]
fn t_reg_2_a_realm_in_another_private_network_gets_no_credentials() {
    for realm in [
        "http://169.254.169.254/token",
        "http://10.0.0.1/token",
        "http://192.168.1.1/token",
        "http://0.0.0.0/token",
        "http://[::ffff:10.0.0.1]/token",
        "http://167772161/token",
        "http://me:pw@127.0.0.1/token",
        "ftp://127.0.0.1/token",
    ] {
        let liar = Liar::new(move |_| {
            reply(
                401,
                &[("WWW-Authenticate", &format!("Bearer realm=\"{realm}\""))],
                b"",
            )
        });
        refused_realm(&liar, options());
    }
}

#[test]
fn t_reg_2_an_https_registry_may_not_name_an_http_realm() {
    let certs = Certs::new("IP:127.0.0.1");
    let liar = Liar::tls(&certs, |asked| {
        let host = asked.header("host").unwrap();
        let ask = format!("Bearer realm=\"http://{host}/token\"");
        reply(401, &[("WWW-Authenticate", &ask)], b"")
    });
    let trusting = Options {
        ca_files: vec![certs.ca()],
        ..options()
    };
    refused_realm(&liar, trusting);
}

#[test]
fn t_reg_1_an_https_registry_may_not_lead_to_http() {
    let certs = Certs::new("IP:127.0.0.1");
    let elsewhere = Liar::new(|_| reply(200, &[], b"blob"));
    let there = format!("http://{}/blob", elsewhere.host());
    let liar = Liar::tls(&certs, move |asked| match asked.path.as_str() {
        "/v2/" => reply(200, &[], b""),
        _ if asked.method == "POST" => reply(202, &[("Location", &there)], b""),
        _ if asked.method == "HEAD" => reply(404, &[], b""),
        _ => reply(307, &[("Location", &there)], b""),
    });
    let client = Client::new(Options {
        ca_files: vec![certs.ca()],
        credentials: Some(login("me", "hunter2")),
        ..options()
    });
    let here = Blobs::default();
    let blob = here.add(b"blob");
    let name = name(&liar);
    let e = wait(
        client
            .reader(&name)
            .unwrap()
            .fetch(&blob, &Blobs::default(), &Silent),
    )
    .unwrap_err();
    assert!(matches!(e, Error::Refuses { .. }), "{e:?}");
    let e = wait(
        client
            .writer(&name, &[])
            .unwrap()
            .send(&blob, &here, &Silent),
    )
    .unwrap_err();
    assert!(matches!(e, Error::Refuses { .. }), "{e:?}");
    assert_eq!(elsewhere.asked().len(), 0);
}

#[test]
fn t_reg_8_no_output_of_ours_holds_a_secret() {
    let secret = "hunter2";
    let dir = Temp::new();
    let file = dir.path("config.json");
    let all = Options {
        credentials: Some(login("me", secret)),
        proxies: cooper::registry::Proxies {
            http: None,
            https: Some(format!("http://me:{secret}@[not a host")),
            no_proxy: None,
        },
        ..options()
    };
    let client = Client::new(all.clone());
    client
        .keep_login(&file, "r.example", &login("me", secret))
        .unwrap();
    let e = wait(client.login("r.example", &login("me", secret))).unwrap_err();
    assert!(matches!(e, Error::Proxy { .. }), "{e:?}");
    let shown = format!("{all:?} {client:?} {e:?} {e}");
    assert!(!shown.contains(secret), "{shown}");
}

#[test]
fn t_reg_2_a_redirect_or_layer_into_another_private_network_is_refused() {
    let mut blob = Blobs::default().add(b"blob");
    blob.rest
        .insert("urls".into(), serde_json::json!(["http://10.0.0.1/layer"]));
    for status in [307, 404] {
        let liar = Liar::new(move |asked| match asked.path.as_str() {
            "/v2/" => reply(200, &[], b""),
            _ => reply(
                status,
                &[("Location", "http://169.254.169.254/latest")],
                b"",
            ),
        });
        let repository = client(None).reader(&name(&liar)).unwrap();
        let e = wait(repository.fetch(&blob, &Blobs::default(), &Silent)).unwrap_err();
        assert!(matches!(e, Error::Refuses { .. }), "{e:?}");
    }
}

#[test]
fn t_reg_7_not_verifying_one_registry_trusts_no_other_host() {
    let certs = Certs::new("IP:127.0.0.1,DNS:localhost");
    let elsewhere = Liar::tls(&certs, |_| reply(200, &[], b"blob"));
    let there = format!("https://localhost:{}/blob", elsewhere.port);
    let liar = Liar::tls(&certs, move |asked| match asked.path.as_str() {
        "/v2/" => reply(200, &[], b""),
        _ => reply(307, &[("Location", &there)], b""),
    });
    let blob = Blobs::default().add(b"blob");
    let fetch = |ca_files| {
        let client = Client::new(Options {
            tls_verify: Some(false),
            ca_files,
            ..options()
        });
        let repository = client.reader(&name(&liar)).unwrap();
        wait(repository.fetch(&blob, &Blobs::default(), &Silent))
    };
    let other = Certs::new("IP:127.0.0.1");
    let e = fetch(vec![other.ca()]);
    assert!(matches!(e, Err(Error::Untrusted { .. })), "{e:?}");
    fetch(vec![certs.ca()]).unwrap();
}

#[test]
fn a_proxy_is_used_for_others_and_never_for_loopback() {
    let proxy = Liar::new(|asked| match asked.method.as_str() {
        "CONNECT" => reply(405, &[], b""),
        _ if asked.path.ends_with("/tags/list") => reply(200, &[], br#"{"tags":["far"]}"#),
        _ => reply(200, &[], b""),
    });
    let near = Liar::new(|asked| match asked.path.as_str() {
        "/v2/" => reply(200, &[], b""),
        _ => reply(200, &[], br#"{"tags":["near"]}"#),
    });
    let address = format!("http://{}", proxy.host());
    let client = Client::new(Options {
        tls_verify: Some(false),
        proxies: cooper::registry::Proxies {
            http: Some(address.clone()),
            https: Some(address),
            no_proxy: Some("direct.invalid".to_owned()),
        },
        ..options()
    });
    let tags = |name: Reference| wait(client.reader(&name).unwrap().tags());
    assert_eq!(tags("r.invalid/app".parse().unwrap()).unwrap(), ["far"]);
    assert_eq!(tags(name(&near)).unwrap(), ["near"]);
    let direct = tags("direct.invalid/app".parse().unwrap());
    assert!(matches!(direct, Err(Error::Lookup { .. })), "{direct:?}");
    let paths: Vec<_> = proxy.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(
        paths,
        [
            "r.invalid:443",
            "http://r.invalid/v2/",
            "http://r.invalid/v2/app/tags/list"
        ]
    );
}
