//! What a source of COPY or ADD is, told from its text: a path, a URL or a git reference.

/// The kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A path or pattern in the context, a stage or an image.
    Path,
    /// A file to fetch over http or https.
    Url,
    /// A git repository.
    Git,
}

/// Tells the kind of a source; give it the expanded text.
///
/// `git@host:path`, `ssh://` and `git://` are git, as is an http(s) URL whose path ends in
/// `.git`, with or without `#ref` and `?query`. Text without a scheme is a path.
pub fn source_kind(source: &str) -> SourceKind {
    if let Some((scheme, rest)) = source.split_once("://") {
        return match scheme.to_ascii_lowercase().as_str() {
            "ssh" | "git" if !rest.is_empty() => SourceKind::Git,
            "http" | "https" if !rest.is_empty() => {
                let path = rest.split(['#', '?']).next().unwrap_or(rest);
                let in_path = path.contains('/');
                if in_path && path.ends_with(".git") {
                    SourceKind::Git
                } else {
                    SourceKind::Url
                }
            }
            _ => SourceKind::Path,
        };
    }
    if is_scp_like(source) {
        SourceKind::Git
    } else {
        SourceKind::Path
    }
}

/// Returns the name that ADD gives to what an http(s) URL holds: the last part of its path,
/// decoded, or `__unnamed__` where there is none.
///
/// A decoded name may hold no slash and is not `.` or `..`, so it stays in its directory.
pub fn file_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let (_, path) = path.split_once('/').unwrap_or_default();
    let decoded = percent_decode(path);
    let last = decoded.trim_end_matches('/').rsplit('/').next();
    match last.unwrap_or_default() {
        "" | "." | ".." => "__unnamed__".to_owned(),
        name => name.to_owned(),
    }
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text
            .get(at + 1..at + 3)
            .filter(|_| bytes[at] == b'%')
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .filter(|&byte| byte != 0);
        out.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Returns whether a text is `user@host:path`, the short form of ssh.
fn is_scp_like(text: &str) -> bool {
    let Some((login, path)) = text.split_once(':') else {
        return false;
    };
    let Some((user, host)) = login.split_once('@') else {
        return false;
    };
    let plain = |text: &str, also: &[char]| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || also.contains(&c))
    };
    plain(user, &['-', '_', '.']) && plain(host, &['-', '.']) && !path.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_its_file_by_its_path() {
        let table = [
            ("http://h/a/b.txt?x=1#y", "b.txt"),
            ("http://h/a%20b", "a b"),
            ("http://h/a%2fb", "b"),
            ("http://h/dir/", "dir"),
            ("http://h/", "__unnamed__"),
            ("http://h", "__unnamed__"),
            ("http://h/..", "__unnamed__"),
            ("http://h/%2e%2e", "__unnamed__"),
            ("http://h/a%00b", "a%00b"),
        ];
        for (url, want) in table {
            assert_eq!(file_name(url), want, "{url}");
        }
    }

    #[test]
    fn sources_are_told_apart_by_their_text() {
        let table = [
            ("a/b", SourceKind::Path),
            ("./a.git", SourceKind::Path),
            ("github.com/a/b", SourceKind::Path),
            ("file:///x", SourceKind::Path),
            ("https://host/x.tar.gz", SourceKind::Url),
            ("HTTP://host/x", SourceKind::Url),
            ("https://host/a.git", SourceKind::Git),
            ("https://host/a.git#v1:sub", SourceKind::Git),
            ("https://host/a.git?ref=v1", SourceKind::Git),
            ("https://host.git", SourceKind::Url),
            ("git://host/a", SourceKind::Git),
            ("ssh://git@host/a", SourceKind::Git),
            ("git@github.com:a/b.git", SourceKind::Git),
            ("a@b", SourceKind::Path),
            ("a:b@c", SourceKind::Path),
            ("$URL", SourceKind::Path),
        ];
        for (text, want) in table {
            assert_eq!(source_kind(text), want, "{text}");
        }
    }
}
