//! Which URLs a registry name may mean, in the order they are tried.
//!
//! Pure: a host and the caller's wish in, candidates out. Trying them is [`super::host`]'s.
//!
//! | host | `tls_verify` | tried |
//! |---|---|---|
//! | any | true | https |
//! | loopback | unset | http, then https |
//! | loopback | false | http, then https without verification |
//! | other | unset | https |
//! | other | false | https without verification, then http |
//!
//! A loopback registry is asked over http first, because that is what runs there and it spares
//! reading the CA store. Nothing secret is sent before the registry is found, and an untrusted
//! certificate never leads to http.

use std::net::IpAddr;

use reqwest::Url;

/// One way to reach a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Origin, ending in `/`.
    pub(super) base: Url,
    /// Whether the certificate must verify.
    pub(super) verify: bool,
}

/// Returns the candidates for `host` (`HOST[:PORT]`), empty when it makes no URL.
pub(super) fn candidates(host: &str, tls_verify: Option<bool>) -> Vec<Candidate> {
    let real = if host == "docker.io" {
        "registry-1.docker.io"
    } else {
        host
    };
    let make = |scheme: &str, verify| {
        let base = Url::parse(&format!("{scheme}://{real}/")).ok()?;
        Some(Candidate { base, verify })
    };
    let all = match tls_verify {
        Some(true) => vec![make("https", true)],
        None if is_loopback(host) => vec![make("http", true), make("https", true)],
        None => vec![make("https", true)],
        Some(false) if is_loopback(host) => vec![make("http", false), make("https", false)],
        Some(false) => vec![make("https", false), make("http", false)],
    };
    all.into_iter().flatten().collect()
}

/// Returns whether `HOST[:PORT]` is this machine: `localhost`, `127/8` or `::1`, by its text.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(host: &str, verify: Option<bool>) -> Vec<String> {
        candidates(host, verify)
            .into_iter()
            .map(|c| format!("{}{}", c.base, if c.verify { "" } else { " unverified" }))
            .collect()
    }

    #[test]
    fn only_loopback_or_a_flag_allows_http() {
        assert_eq!(tried("docker.io", None), ["https://registry-1.docker.io/"]);
        assert_eq!(tried("r.example:5000", None), ["https://r.example:5000/"]);
        assert_eq!(tried("10.0.0.1:5000", None), ["https://10.0.0.1:5000/"]);
        for host in [
            "127.0.0.1:5000",
            "localhost:5000",
            "127.9.9.9:5000",
            "[::1]:5000",
        ] {
            assert_eq!(
                tried(host, None),
                [format!("http://{host}/"), format!("https://{host}/")]
            );
            assert_eq!(tried(host, Some(true)), [format!("https://{host}/")]);
        }
    }

    #[test]
    fn t_reg_7_without_verification_https_still_comes_first() {
        assert_eq!(
            tried("r.example", Some(false)),
            [
                "https://r.example/ unverified",
                "http://r.example/ unverified"
            ]
        );
    }

    #[test]
    fn t_reg_3_lookalikes_of_loopback_are_not_loopback() {
        for host in [
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "notlocalhost",
            "[::2]",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
