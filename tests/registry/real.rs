//! Against Debian's `docker-registry`.

use std::net::TcpListener;

use cooper::event::Silent;
use cooper::image::Reference;
use cooper::registry::{Client, Error, Options, Pushed, Version};

use crate::support::{
    Blobs, Certs, Heard, Server, Setup, Temp, image, login, noise, options, pull, push, wait,
};

#[test]
fn an_image_goes_there_and_comes_back_over_http() {
    let server = Server::http();
    let client = Client::new(options());
    let name = server.name("team/app:1");
    let (here, back, heard) = (Blobs::default(), Blobs::default(), Heard::default());
    let layers = [
        noise(3 << 20, 1),
        noise(10, 2),
        noise(700_000, 3),
        noise(1, 4),
        noise(2, 5),
    ];
    let (all, document) = image(&here, &layers);
    wait(async {
        let digest = push(&client, &name, &here, &all, &document, &heard)
            .await
            .unwrap();
        assert_eq!(digest, *document.digest());
        assert_eq!(heard.count("done"), 6);
        let reader = client.reader(&name).unwrap();
        let got = pull(&reader, &name, &back, &Silent).await.unwrap();
        assert_eq!(got.bytes(), document.bytes());
        let found = reader.resolve(Version::of(&name)).await.unwrap();
        assert_eq!(found, document.descriptor());
        let by_digest = name.with_digest(digest);
        let again = reader.document(Version::of(&by_digest)).await.unwrap();
        assert_eq!(again.bytes(), document.bytes());
    });
    assert_eq!(*back.0.lock().unwrap(), *here.0.lock().unwrap());
}

#[test]
fn what_is_there_already_is_not_moved_again() {
    let server = Server::http();
    let client = Client::new(options());
    let name = server.name("app:1");
    let here = Blobs::default();
    let (all, document) = image(&here, &[noise(50_000, 1)]);
    wait(async {
        push(&client, &name, &here, &all, &document, &Silent)
            .await
            .unwrap();
        let heard = Heard::default();
        push(&client, &name, &here, &all, &document, &heard)
            .await
            .unwrap();
        assert_eq!((heard.count("known"), heard.count("done")), (2, 0));
        let heard = Heard::default();
        pull(&client.reader(&name).unwrap(), &name, &here, &heard)
            .await
            .unwrap();
        assert_eq!((heard.count("known"), heard.count("moved")), (2, 0));
    });
}

#[test]
fn a_blob_of_another_repository_is_mounted() {
    let server = Server::http();
    let client = Client::new(options());
    let (old, new) = (server.name("old:1"), server.name("new:1"));
    let here = Blobs::default();
    let (all, document) = image(&here, &[noise(50_000, 1)]);
    wait(async {
        push(&client, &old, &here, &all, &document, &Silent)
            .await
            .unwrap();
        let sources = ["nowhere".to_owned(), "old".to_owned()];
        let writer = client.writer(&new, &sources).unwrap();
        let how = writer.send(&all[0], &here, &Silent).await.unwrap();
        assert_eq!(how, Pushed::Mounted);
        assert!(writer.has_blob(&all[0].digest).await.unwrap());
        let unknown = here.add(b"not there");
        assert_eq!(
            writer.send(&unknown, &here, &Silent).await.unwrap(),
            Pushed::Sent
        );
    });
}

#[test]
fn an_empty_blob_can_be_pushed_and_pulled() {
    let server = Server::http();
    let client = Client::new(options());
    let name = server.name("app:1");
    let (here, back) = (Blobs::default(), Blobs::default());
    let empty = here.add(b"");
    wait(async {
        client
            .writer(&name, &[])
            .unwrap()
            .send(&empty, &here, &Silent)
            .await
            .unwrap();
        client
            .reader(&name)
            .unwrap()
            .fetch(&empty, &back, &Silent)
            .await
            .unwrap();
    });
    assert_eq!(back.count(), 1);
}

#[test]
fn tags_are_listed_and_what_is_missing_is_named() {
    let server = Server::http();
    let client = Client::new(options());
    let here = Blobs::default();
    let (all, document) = image(&here, &[noise(10, 1)]);
    let name = server.name("app:1");
    wait(async {
        for tag in ["b", "a", "c"] {
            let name = server.name(&format!("app:{tag}"));
            push(&client, &name, &here, &all, &document, &Silent)
                .await
                .unwrap();
        }
        let mut tags = client.reader(&name).unwrap().tags().await.unwrap();
        tags.sort();
        assert_eq!(tags, ["a", "b", "c"]);
        let missing = client
            .reader(&name)
            .unwrap()
            .document(Version::of(&name))
            .await;
        let text = missing.unwrap_err().to_string();
        assert_eq!(
            text,
            format!("`127.0.0.1:{}/app:1` is not in the registry", server.port)
        );
        let none = server.name("none");
        let e = client.reader(&none).unwrap().tags().await.unwrap_err();
        assert!(matches!(e, Error::UnknownRepository { .. }), "{e}");
    });
}

#[test]
fn a_registry_that_is_down_is_said_to_refuse_connections() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let name: Reference = format!("127.0.0.1:{port}/app").parse().unwrap();
    for tls_verify in [None, Some(true), Some(false)] {
        let client = Client::new(Options {
            tls_verify,
            ..options()
        });
        let e = wait(client.reader(&name).unwrap().document(Version::of(&name))).unwrap_err();
        assert!(matches!(e, Error::Refused { .. }), "{e}");
        assert_eq!(
            e.to_string(),
            format!("server `127.0.0.1:{port}` refuses connections")
        );
    }
}

#[test]
fn a_host_without_an_address_is_said_to_have_none() {
    let name: Reference = "no-such-host.invalid/app".parse().unwrap();
    let client = Client::new(options());
    let e = wait(client.reader(&name).unwrap().document(Version::of(&name))).unwrap_err();
    assert!(matches!(e, Error::Lookup { .. }), "{e:?}");
}

fn round_trip(server: &Server, options: Options) -> Result<(), Error> {
    let client = Client::new(options);
    let name = server.name("app:1");
    let (here, back) = (Blobs::default(), Blobs::default());
    let (all, document) = image(&here, &[noise(300_000, 1), noise(300_000, 2)]);
    wait(async {
        push(&client, &name, &here, &all, &document, &Silent).await?;
        pull(&client.reader(&name).unwrap(), &name, &back, &Silent).await
    })?;
    assert_eq!(back.count(), 3);
    Ok(())
}

#[test]
fn a_private_ca_is_trusted_from_every_place_it_can_stand() {
    let certs = Certs::new("IP:127.0.0.1");
    let server = certs.serve();
    let root = Temp::new();
    let ca = std::fs::read_to_string(certs.ca()).unwrap();
    root.write(&format!("127.0.0.1:{}/ca.crt", server.port), &ca);
    let by_root = Options {
        cert_roots: vec![root.0.clone()],
        ..options()
    };
    let by_dir = Options {
        cert_dir: Some(certs.dir.0.clone()),
        ..options()
    };
    let by_file = Options {
        ca_files: vec![certs.ca()],
        tls_verify: Some(true),
        ..options()
    };
    for options in [by_root, by_dir, by_file] {
        round_trip(&server, options).unwrap();
    }
    let unverified = Options {
        tls_verify: Some(false),
        ..options()
    };
    round_trip(&server, unverified).unwrap();
}

#[test]
fn t_reg_7_a_certificate_that_does_not_verify_fails_on_every_path() {
    let good = Certs::new("IP:127.0.0.1");
    let other_name = Certs::new("DNS:r.example");
    let expired = Certs::expired("IP:127.0.0.1");
    for (certs, trusted) in [(&good, false), (&other_name, true), (&expired, true)] {
        let server = certs.serve();
        let ca_files = if trusted {
            vec![certs.ca()]
        } else {
            vec![other_name.ca()]
        };
        let name = server.name("app:1");
        for tls_verify in [None, Some(true)] {
            let client = Client::new(Options {
                tls_verify,
                ca_files: ca_files.clone(),
                ..options()
            });
            let here = Blobs::default();
            let blob = here.add(b"x");
            let (document, reader) = (image(&here, &[]).1, client.reader(&name).unwrap());
            let writer = client.writer(&name, &[]).unwrap();
            wait(async {
                let version = Version::of(&name);
                for e in [
                    reader.document(version).await.err(),
                    reader.resolve(version).await.err(),
                    reader.tags().await.err(),
                    reader
                        .fetch(&here_not(), &Blobs::default(), &Silent)
                        .await
                        .err(),
                    writer.send(&blob, &here, &Silent).await.err(),
                    writer.put_document(version, &document).await.err(),
                    client.login(name.registry(), &login("u", "p")).await.err(),
                    client
                        .get(
                            &format!("https://{}/x", name.registry()),
                            &Default::default(),
                        )
                        .await
                        .err(),
                ] {
                    let e = e.expect("it must not work");
                    assert!(matches!(e, Error::Untrusted { .. }), "{e:?}");
                }
            });
        }
    }
}

fn here_not() -> cooper::image::Descriptor {
    Blobs::default().add(b"somewhere else")
}

#[test]
fn t_reg_7_a_registry_without_tls_is_not_spoken_to_when_tls_is_asked_for() {
    let server = Server::http();
    let strict = Options {
        tls_verify: Some(true),
        ..options()
    };
    let e = round_trip(&server, strict).unwrap_err();
    assert!(matches!(e, Error::NotTls { .. }), "{e:?}");
}

#[test]
fn a_login_is_asked_for_checked_and_used() {
    let server = Server::start(&Setup {
        tls: None,
        htpasswd: Some(("me", "s3cret")),
    });
    let host = format!("127.0.0.1:{}", server.port);
    let with = |credentials| Options {
        credentials,
        ..options()
    };
    let e = round_trip(&server, with(None)).unwrap_err();
    assert_eq!(e.to_string(), format!("`{host}` needs a login for `app`"));
    let e = round_trip(&server, with(Some(login("me", "wrong")))).unwrap_err();
    assert!(
        matches!(&e, Error::WrongCredentials { user: Some(u), .. } if u == "me"),
        "{e:?}"
    );
    round_trip(&server, with(Some(login("me", "s3cret")))).unwrap();

    let client = Client::new(options());
    wait(client.login(&host, &login("me", "s3cret"))).unwrap();
    let e = wait(client.login(&host, &login("me", "wrong"))).unwrap_err();
    assert!(matches!(e, Error::WrongCredentials { .. }), "{e:?}");
}

#[test]
fn logins_are_found_in_auth_files_and_helpers() {
    let server = Server::start(&Setup {
        tls: None,
        htpasswd: Some(("me", "s3cret")),
    });
    let host = format!("127.0.0.1:{}", server.port);
    let dir = Temp::new();
    let file = dir.path("auth.json");
    let with = |file: &std::path::Path| Options {
        authfiles: vec![dir.path("missing.json"), file.to_owned()],
        helper_path: Some(dir.path("bin").into_os_string()),
        ..options()
    };
    let client = Client::new(with(&file));
    client
        .keep_login(&file, &host, &login("me", "s3cret"))
        .unwrap();
    round_trip(&server, with(&file)).unwrap();
    assert!(client.forget_login(&file, &host).unwrap());
    assert!(round_trip(&server, with(&file)).is_err());

    let script = "#!/bin/sh\nread server\nif [ \"$1\" = get ] && [ \"$server\" = 127.0.0.1:PORT ]; then\n\
        echo '{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"s3cret\"}'\nelse\n\
        echo credentials not found in native keychain; exit 1\nfi\n";
    let script = script.replace("PORT", &server.port.to_string());
    let helper = dir.write("bin/docker-credential-mine", &script);
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let store = dir.write("store.json", r#"{"credsStore":"mine"}"#);
    round_trip(&server, with(&store)).unwrap();
    let one = dir.write(
        "one.json",
        &format!(r#"{{"credHelpers":{{"{host}":"mine"}}}}"#),
    );
    round_trip(&server, with(&one)).unwrap();
    let gone = dir.write("gone.json", r#"{"credsStore":"gone"}"#);
    let e = round_trip(&server, with(&gone)).unwrap_err();
    assert_eq!(
        e.to_string(),
        "credential helper `docker-credential-gone` is not installed"
    );
}
