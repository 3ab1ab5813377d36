//! Image names as package URLs (package-url/purl-spec, type `docker`).

use crate::image::{Platform, Reference};

/// Returns `pkg:docker/NAME@TAG?digest=…&platform=…` with the name as people write it.
pub(super) fn image(name: &Reference, platform: &Platform) -> String {
    let familiar = name.familiar_name();
    let path: Vec<String> = familiar.split('/').map(|part| escaped(part, "")).collect();
    let mut url = format!("pkg:docker/{}", path.join("/"));
    if let Some(tag) = name.tag() {
        url.push('@');
        url.push_str(&escaped(tag, ""));
    }
    let mut separator = '?';
    if let Some(digest) = name.digest() {
        url.push_str(&format!("?digest={}", escaped(digest.as_str(), ":")));
        separator = '&';
    }
    let platform = escaped(&platform.normalised().to_string(), "");
    url.push_str(&format!("{separator}platform={platform}"));
    url
}

/// Writes bytes that mean something in a URL as `%XX`, but for those in `plain`.
fn escaped(text: &str, plain: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let safe = c.is_ascii_alphanumeric() || "-._~".contains(c) || plain.contains(c);
        match safe {
            true => out.push(c),
            false => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    out.push_str(&format!("%{byte:02X}"));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    #[test]
    fn names_become_package_urls() {
        let platform: Platform = "linux/arm64/v8".parse().unwrap();
        let digest = Digest::of(b"x");
        for (name, want) in [
            ("alpine", "pkg:docker/alpine@latest".to_owned()),
            (
                "docker.io/library/alpine:3.15",
                "pkg:docker/alpine@3.15".to_owned(),
            ),
            ("user/test:v2", "pkg:docker/user/test@v2".to_owned()),
            (
                "127.0.0.1:5000/a/b",
                "pkg:docker/127.0.0.1%3A5000/a/b@latest".to_owned(),
            ),
            (
                &format!("alpine:1@{digest}"),
                format!("pkg:docker/alpine@1?digest={digest}"),
            ),
            (
                &format!("alpine@{digest}"),
                format!("pkg:docker/alpine?digest={digest}"),
            ),
        ] {
            let got = image(&name.parse().unwrap(), &platform);
            let end = if want.contains('?') { '&' } else { '?' };
            assert_eq!(got, format!("{want}{end}platform=linux%2Farm64"), "{name}");
        }
    }
}
