//! Servers that lie, break off, or never end.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use cooper::event::Silent;
use cooper::image::{Descriptor, Digest, Reference};
use cooper::registry::{Client, Error, Options, Version};

use crate::liar::{Asked, Liar, Reply, raw, reply};
use crate::support::{Blobs, Heard, image, noise, options, wait};

const MANIFEST: (&str, &str) = ("Content-Type", "application/vnd.oci.image.manifest.v1+json");

fn name(liar: &Liar) -> Reference {
    format!("{}/app:1", liar.host()).parse().unwrap()
}

/// A registry without login that answers everything but `/v2/` by `more`.
fn registry(more: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Liar {
    Liar::new(move |asked| match asked.path.as_str() {
        "/v2/" => reply(200, &[], b"{}"),
        _ => more(asked),
    })
}

fn document(liar: &Liar) -> Result<cooper::image::Document, Error> {
    let name = name(liar);
    wait(
        Client::new(options())
            .reader(&name)
            .unwrap()
            .document(Version::of(&name)),
    )
}

/// Fetches `blob`; on an error nothing may have become visible.
fn fetch(liar: &Liar, blob: &Descriptor) -> Result<Heard, Error> {
    let (into, heard) = (Blobs::default(), Heard::default());
    let client = Client::new(options());
    let got = wait(
        client
            .reader(&name(liar))
            .unwrap()
            .fetch(blob, &into, &heard),
    );
    assert_eq!(into.count(), usize::from(got.is_ok()));
    assert_eq!(heard.count("done"), usize::from(got.is_ok()));
    got.map(|()| heard)
}

#[test]
fn t_reg_6_bytes_that_are_not_the_blob_are_found_out() {
    let blob = Blobs::default().add(b"the right bytes");
    for lie in ["the wrong bytes", "the wrong bytes and more", "too few", ""] {
        let liar = registry(move |_| reply(200, &[], lie.as_bytes()));
        let e = fetch(&liar, &blob).unwrap_err();
        let found = matches!(e, Error::Corrupt { .. } | Error::Size { .. });
        assert!(found, "{lie}: {e:?}");
    }
    // Without a length, the size is noticed while it streams.
    let endless = registry(|_| Reply {
        forever: Some(vec![b'x'; 65536]),
        ..raw(b"HTTP/1.1 200 X\r\n\r\n".to_vec())
    });
    let e = fetch(&endless, &blob).unwrap_err();
    assert!(matches!(e, Error::Size { .. }), "{e:?}");
}

#[test]
fn t_reg_6_a_manifest_that_is_not_its_digest_is_found_out() {
    let manifest = image(&Blobs::default(), &[]).1;
    let (body, other) = (manifest.bytes().to_vec(), Digest::of(b"other"));
    let liar = registry(move |_| {
        reply(
            200,
            &[MANIFEST, ("Docker-Content-Digest", other.as_str())],
            &body,
        )
    });
    assert!(matches!(document(&liar), Err(Error::Corrupt { .. })));
    // Asked for by digest, a header that agrees with the lie does not help it.
    let body = manifest.bytes().to_vec();
    let right = manifest.digest().clone();
    let liar = registry(move |_| {
        reply(
            200,
            &[MANIFEST, ("Docker-Content-Digest", right.as_str())],
            &body,
        )
    });
    let pinned = name(&liar).with_digest(Digest::of(b"pinned"));
    let client = Client::new(options());
    let got = wait(
        client
            .reader(&pinned)
            .unwrap()
            .document(Version::of(&pinned)),
    );
    assert!(matches!(got, Err(Error::Corrupt { .. })));
}

/// Answers ranges of `bytes`; the first `breaks` answers break off in the middle.
fn breaking(bytes: Vec<u8>, breaks: u32, ranges: bool) -> Liar {
    let count = AtomicU32::new(0);
    registry(move |asked| {
        let from = asked
            .header("range")
            .filter(|_| ranges)
            .map_or(0, |r| r["bytes=".len()..r.len() - 1].parse().unwrap());
        let rest = &bytes[from..];
        let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        let answer = match from {
            0 => reply(200, &[], rest),
            _ => reply(206, &[("Content-Range", &range)], rest),
        };
        if count.fetch_add(1, Ordering::SeqCst) < breaks {
            return answer.cut(rest.len() / 2);
        }
        answer
    })
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let bytes = noise(1_000_000, 7);
    let blob = Blobs::default().add(&bytes);
    let liar = breaking(bytes.clone(), 4, true);
    fetch(&liar, &blob).unwrap();
    let asked = liar.asked();
    let ranges: Vec<_> = asked.iter().filter_map(|a| a.header("range")).collect();
    assert_eq!(ranges[..2], ["bytes=500000-", "bytes=750000-"]);
    // A server that ignores the range sends all again, and that works, too.
    fetch(&breaking(bytes, 1, false), &blob).unwrap();
}

#[test]
fn t_reg_6_a_download_that_goes_on_with_other_bytes_is_found_out() {
    let bytes = noise(100_000, 7);
    let blob = Blobs::default().add(&bytes);
    let swap = move |from_lie: usize| {
        let bytes = bytes.clone();
        registry(move |asked| match asked.header("range") {
            None => reply(200, &[], &bytes).cut(50_000),
            Some(_) => {
                let range = format!("bytes {from_lie}-99999/100000");
                let rest = vec![0; 100_000 - from_lie];
                reply(206, &[("Content-Range", &range)], &rest)
            }
        })
    };
    assert!(matches!(
        fetch(&swap(50_000), &blob),
        Err(Error::Corrupt { .. })
    ));
    assert!(matches!(
        fetch(&swap(40_000), &blob),
        Err(Error::Protocol { .. })
    ));
}

#[test]
fn a_download_that_always_breaks_at_the_same_place_ends() {
    let blob = Blobs::default().add(b"0123456789");
    let liar = registry(|asked| match asked.header("range") {
        None => reply(200, &[], b"0123456789").cut(5),
        Some(_) => reply(206, &[("Content-Range", "bytes 5-9/10")], b"56789").cut(0),
    });
    let e = fetch(&liar, &blob).unwrap_err();
    assert!(matches!(e, Error::Connection { .. }), "{e:?}");
}

#[test]
fn later_means_later() {
    let manifest = image(&Blobs::default(), &[]).1;
    for (status, header) in [(429, "1"), (503, "0"), (500, "0"), (502, "0")] {
        let (body, count) = (manifest.bytes().to_vec(), AtomicU32::new(0));
        let liar = registry(move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 => reply(status, &[("Retry-After", header)], b"not now"),
            _ => reply(200, &[MANIFEST], &body),
        });
        let begun = Instant::now();
        document(&liar).unwrap();
        let waited = begun.elapsed().as_secs();
        assert!(waited >= header.parse().unwrap(), "{status}: {waited}");
    }
}

#[test]
fn a_registry_that_stays_busy_is_said_to_be() {
    let liar = registry(|_| {
        let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}"#;
        reply(429, &[("Retry-After", "3600")], body)
    });
    let e = document(&liar).unwrap_err();
    assert!(matches!(e, Error::Busy { .. }), "{e:?}");
    assert_eq!(
        e.to_string(),
        format!(
            "`{}` limits the number of requests, next try in 3600 s \
             (TOOMANYREQUESTS: pull rate limit)",
            liar.host()
        )
    );
    assert_eq!(liar.count("GET", "/v2/app/manifests/1"), 1);
}

#[test]
fn a_denied_repository_keeps_the_servers_words() {
    let liar = registry(|_| {
        reply(
            403,
            &[],
            br#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#,
        )
    });
    let e = document(&liar).unwrap_err();
    assert_eq!(
        e.to_string(),
        format!(
            "`{}` denies access to `app` (DENIED: not yours)",
            liar.host()
        )
    );
}

#[test]
fn a_server_that_says_nothing_times_out() {
    let liar = registry(|_| Reply {
        close: false,
        ..raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n".to_vec())
    });
    let client = Client::new(Options {
        idle_timeout: std::time::Duration::from_millis(200),
        attempts: 2,
        ..options()
    });
    let name = name(&liar);
    let e = wait(client.reader(&name).unwrap().document(Version::of(&name))).unwrap_err();
    assert!(matches!(e, Error::Timeout { .. }), "{e:?}");
}

#[test]
fn t_dos_2_what_never_ends_is_cut_off() {
    let endless = |head: &'static str| {
        registry(move |_| Reply {
            forever: Some(vec![b' '; 65536]),
            ..raw(format!("HTTP/1.1 {head}\r\n\r\n").into_bytes())
        })
    };
    let e = document(&endless("200 OK\r\nContent-Type: application/json")).unwrap_err();
    assert!(
        matches!(e, Error::TooLarge { limit, .. } if limit == 4 << 20),
        "{e:?}"
    );
    // An error body only explains; it is cut, not refused.
    let e = document(&endless("418 Teapot")).unwrap_err();
    assert!(matches!(e, Error::Status { status: 418, .. }), "{e:?}");
    // A length that is too large is refused before a byte is read.
    let e = document(&endless("200 OK\r\nContent-Length: 99999999999")).unwrap_err();
    assert!(matches!(e, Error::TooLarge { .. }), "{e:?}");
    let liar = endless("200 OK");
    let e = wait(Client::new(options()).reader(&name(&liar)).unwrap().tags()).unwrap_err();
    assert!(matches!(e, Error::TooLarge { .. }), "{e:?}");
    let config = Descriptor::new("x", Digest::of(b"config"), 6);
    let reader = Client::new(options()).reader(&name(&liar)).unwrap();
    let e = wait(reader.small_blob("config", &config, 1 << 20)).unwrap_err();
    assert!(matches!(e, Error::TooLarge { limit: 6, .. }), "{e:?}");
}

#[test]
fn t_dos_2_an_endless_token_is_cut_off() {
    let liar = Liar::new(|asked| {
        if asked.path.starts_with("/token") {
            return Reply {
                forever: Some(vec![b' '; 65536]),
                ..raw(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())
            };
        }
        let host = asked.header("host").unwrap();
        let ask = format!("Bearer realm=\"http://{host}/token\"");
        reply(401, &[("WWW-Authenticate", &ask)], b"")
    });
    assert!(matches!(
        document(&liar),
        Err(Error::TooLarge { what: "token", .. })
    ));
}

#[test]
fn t_dos_2_pages_of_tags_come_to_an_end() {
    let liar = registry(|_| {
        let tags: Vec<String> = (0..5000).map(|n| format!("tag{n}")).collect();
        let body = serde_json::json!({ "name": "app", "tags": tags }).to_string();
        let link = "</v2/app/tags/list?last=x>; rel=\"next\"";
        reply(200, &[("Link", link)], body.as_bytes())
    });
    let e = wait(Client::new(options()).reader(&name(&liar)).unwrap().tags()).unwrap_err();
    assert!(matches!(e, Error::Protocol { .. }), "{e:?}");
}

#[test]
fn t_reg_4_a_text_that_is_no_digest_is_never_used() {
    let good = image(&Blobs::default(), &[noise(10, 1)]).1;
    let long = "a".repeat(64);
    for bad in [
        "sha256:../../../../v2/secret/manifests/1".to_owned(),
        format!("sha256:{}", "A".repeat(64)),
        format!("sha256:{}", "a".repeat(63)),
        format!("md5:{}", "a".repeat(32)),
        format!("sha256:{long}/../x"),
        String::new(),
    ] {
        let body = good.bytes().to_vec();
        let header = bad.clone();
        let liar =
            registry(move |_| reply(200, &[MANIFEST, ("Docker-Content-Digest", &header)], &body));
        assert!(
            matches!(document(&liar), Err(Error::Protocol { .. })),
            "{bad}"
        );
        let mut value: serde_json::Value = serde_json::from_slice(good.bytes()).unwrap();
        for place in ["/config/digest", "/layers/0/digest"] {
            *value.pointer_mut(place).unwrap() = bad.clone().into();
            let body = serde_json::to_vec(&value).unwrap();
            let liar = registry(move |_| reply(200, &[MANIFEST], &body));
            assert!(
                matches!(document(&liar), Err(Error::Document { .. })),
                "{bad}"
            );
        }
        let body = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"x","size":1,"digest":"{bad}"}}]}}"#
        );
        let liar = registry(move |_| {
            let index = ("Content-Type", "application/vnd.oci.image.index.v1+json");
            reply(200, &[index], body.as_bytes())
        });
        assert!(
            matches!(document(&liar), Err(Error::Document { .. })),
            "{bad}"
        );
    }
}

#[test]
fn t_reg_5_a_document_that_could_be_two_things_is_refused() {
    let manifest = image(&Blobs::default(), &[]).1;
    let text = String::from_utf8(manifest.bytes().to_vec()).unwrap();
    let index = ("Content-Type", "application/vnd.oci.image.index.v1+json");
    let both = text.replacen('{', r#"{"manifests":[],"#, 1);
    let twice = text.replacen('{', r#"{"schemaVersion":2,"#, 1);
    let schema1 = (
        "Content-Type",
        "application/vnd.docker.distribution.manifest.v1+json",
    );
    for (kind, body) in [
        (MANIFEST, both),
        (index, text.clone()),
        (MANIFEST, twice),
        (schema1, text),
        (MANIFEST, "not json".to_owned()),
    ] {
        let liar = registry(move |_| reply(200, &[kind], body.as_bytes()));
        let got = document(&liar);
        assert!(
            matches!(got, Err(Error::Document { .. })),
            "{kind:?}: {got:?}"
        );
    }
}

#[test]
fn a_registry_that_takes_no_whole_blobs_gets_them_in_parts() {
    let bytes = noise((8 << 20) + 4321, 9);
    let liar = registry(|asked| {
        let size = asked.body.len();
        match asked.method.as_str() {
            "HEAD" => reply(404, &[], b""),
            "POST" => reply(202, &[("Location", "/v2/app/blobs/uploads/1?n=0")], b""),
            "PUT" if size > 0 => reply(413, &[], b""),
            "PUT" => reply(201, &[], b""),
            _ => reply(202, &[("Location", "2?n=1")], b""),
        }
    });
    let here = Blobs::default();
    let blob = here.add(&bytes);
    let client = Client::new(options());
    wait(
        client
            .writer(&name(&liar), &[])
            .unwrap()
            .send(&blob, &here, &Silent),
    )
    .unwrap();
    let asked = liar.asked();
    let parts: Vec<_> = asked.iter().filter(|a| a.method == "PATCH").collect();
    let ranges: Vec<_> = parts
        .iter()
        .filter_map(|a| a.header("content-range"))
        .collect();
    assert_eq!(ranges, ["0-8388607", "8388608-8392928"]);
    let together: Vec<u8> = parts.iter().flat_map(|a| a.body.clone()).collect();
    assert_eq!(together, bytes);
    let last = asked.last().unwrap();
    assert_eq!(last.method, "PUT");
    assert_eq!(
        last.path,
        format!(
            "/v2/app/blobs/uploads/2?n=1&digest=sha256%3A{}",
            blob.digest.hex()
        )
    );
}

#[test]
fn a_proxy_that_hangs_up_on_whole_blobs_gets_them_in_parts() {
    let here = Blobs::default();
    let blob = here.add(&noise(100_000, 1));
    let mute = Liar::new(move |asked| match asked.method.as_str() {
        "GET" => reply(200, &[], b""),
        "HEAD" => reply(404, &[], b""),
        "PUT" if !asked.body.is_empty() => Reply {
            close: true,
            ..raw(Vec::new())
        },
        "PUT" => reply(201, &[], b""),
        _ => reply(202, &[("Location", "/up")], b""),
    });
    let client = Client::new(options());
    wait(
        client
            .writer(&name(&mute), &[])
            .unwrap()
            .send(&blob, &here, &Silent),
    )
    .unwrap();
    assert_eq!(
        (mute.count("PUT", "/up"), mute.count("PATCH", "/up")),
        (3, 1)
    );
}

#[test]
fn an_upload_that_fails_for_a_moment_begins_anew() {
    let count = AtomicU32::new(0);
    let liar = registry(move |asked| match asked.method.as_str() {
        "HEAD" => reply(404, &[], b""),
        "POST" => reply(202, &[("Location", "/up")], b""),
        _ => match count.fetch_add(1, Ordering::SeqCst) {
            0 => reply(503, &[], b""),
            _ => reply(201, &[], b""),
        },
    });
    let here = Blobs::default();
    let blob = here.add(&noise(100_000, 1));
    let client = Client::new(options());
    wait(
        client
            .writer(&name(&liar), &[])
            .unwrap()
            .send(&blob, &here, &Silent),
    )
    .unwrap();
    assert_eq!(liar.count("PUT", "/up"), 2);
}

#[test]
fn a_manifest_is_written_by_digest_without_a_location_in_the_answer() {
    let liar = registry(|_| reply(201, &[], b""));
    let document = image(&Blobs::default(), &[]).1;
    let client = Client::new(options());
    let writer = client.writer(&name(&liar), &[]).unwrap();
    let version = Version::Digest(document.digest());
    let digest = wait(writer.put_document(version, &document)).unwrap();
    assert_eq!(digest, *document.digest());
    let put = liar.asked().pop().unwrap();
    assert_eq!(put.path, format!("/v2/app/manifests/{digest}"));
    assert_eq!(
        (put.body.as_slice(), put.header("content-type")),
        (document.bytes(), Some(MANIFEST.1))
    );
}

#[test]
fn an_upload_without_a_location_breaks_the_protocol() {
    let liar = registry(|asked| match asked.method.as_str() {
        "HEAD" => reply(404, &[], b""),
        _ => reply(202, &[], b""),
    });
    let here = Blobs::default();
    let blob = here.add(b"x");
    let client = Client::new(options());
    let e = wait(
        client
            .writer(&name(&liar), &[])
            .unwrap()
            .send(&blob, &here, &Silent),
    )
    .unwrap_err();
    assert!(matches!(e, Error::Protocol { .. }), "{e:?}");
}
