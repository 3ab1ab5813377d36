//! Reads `WWW-Authenticate` (RFC 9110 section 11.6.1, distribution spec "token authentication").
//!
//! Pure text to value. A header may hold several challenges, parted by commas, and servers
//! quote freely; Bearer wins over Basic where both are offered.

/// How a registry wants to be told who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with every request (RFC 7617).
    Basic,
    /// A token that the realm hands out.
    Bearer {
        /// Where tokens come from: a URL, not checked yet.
        realm: String,
        /// For whom, as the realm wants to hear it.
        service: Option<String>,
        /// What the refused request would have needed.
        scope: Option<String>,
    },
}

/// Picks the best challenge out of all `WWW-Authenticate` headers of an answer.
pub(super) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut best = None;
    for header in headers {
        for (scheme, params) in challenges(header) {
            let get = |key: &str| {
                let found = params.iter().find(|(k, _)| k.eq_ignore_ascii_case(key));
                found.map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = get("realm") {
                    return Some(Challenge::Bearer {
                        realm,
                        service: get("service"),
                        scope: get("scope"),
                    });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                best = Some(Challenge::Basic);
            }
        }
    }
    best
}

type Params = Vec<(String, String)>;

fn challenges(header: &str) -> Vec<(String, Params)> {
    let mut out: Vec<(String, Params)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        if end == 0 {
            return out;
        }
        let (word, after) = rest.split_at(end);
        match after.trim_start_matches([' ', '\t']).strip_prefix('=') {
            Some(value) => {
                let (value, left) = read_value(value.trim_start_matches([' ', '\t']));
                if let Some((_, params)) = out.last_mut() {
                    params.push((word.to_owned(), value));
                }
                rest = left;
            }
            None => {
                out.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        // A lone `=` (token68 padding) is skipped, so that reading always moves on.
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(header: &str) -> Option<Challenge> {
        parse(std::iter::once(header))
    }

    #[test]
    fn bearer_parameters_are_read_quoted_or_not() {
        let want = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: Some("reg, istry".into()),
            scope: Some("repository:a/b:pull,push".into()),
        };
        for header in [
            r#"Bearer realm="https://auth.example/token",service="reg, istry",scope="repository:a/b:pull,push""#,
            r#"bearer  realm = "https://auth.example/token" , Service="reg\, istry", scope="repository:a/b:pull,push", error="invalid_token""#,
            r#"Basic realm="x", Bearer realm="https://auth.example/token",service="reg, istry",scope="repository:a/b:pull,push""#,
        ] {
            assert_eq!(one(header), Some(want.clone()), "{header}");
        }
    }

    #[test]
    fn basic_is_taken_when_bearer_is_not_offered_or_names_no_realm() {
        assert_eq!(one("Basic realm=r"), Some(Challenge::Basic));
        assert_eq!(
            one("Bearer service=x, Basic realm=r"),
            Some(Challenge::Basic)
        );
        assert_eq!(one("Negotiate abc=="), None);
    }

    #[test]
    fn any_text_is_read_to_its_end() {
        for header in [
            "",
            ",,,",
            "=",
            "a=",
            "a==b",
            "\"",
            "a=\"\\",
            "é=\"ü\" ü",
            "= = =",
        ] {
            let _ = one(header);
        }
    }
}
