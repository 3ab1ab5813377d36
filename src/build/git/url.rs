//! Addresses of git repositories, as CONTEXT and ADD name them: text in, what to fetch out.
//!
//! ```text
//! https://host/a.git   http://…   ssh://…   git://…   user@host:path
//!   #ref   #ref:subdir   #:subdir
//!   ?ref= tag= branch= subdir= commit= checksum= keep-git-dir= submodules= mtime= fetch-by-commit=
//! ```
//!
//! Nothing that passes here can become an option, a second line or another transport of the
//! `git` that is run later: no part begins with `-`, none holds a control character, and the
//! schemes are these four (CVE-2019-13139). A subdirectory never climbs.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::secret::{self, Secret};
use crate::dockerfile::go_bool;
use crate::layer::TreePath;

/// A repository, and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitUrl {
    /// The address that git gets: without a password, so that messages may show it.
    pub(super) remote: String,
    /// What an http address holds of user name and password.
    pub(super) login: Option<Login>,
    /// Branch, tag, full ref or commit; the default branch when unset.
    pub(super) reference: Option<String>,
    /// The directory that is wanted; the root for all.
    pub(super) subdir: TreePath,
    /// What the commit's id must begin with.
    pub(super) checksum: Option<String>,
    /// Whether `.git` stays, if the address says it.
    pub(super) keep_git_dir: Option<bool>,
    /// Whether submodules are fetched too.
    pub(super) submodules: bool,
    /// Which time files get.
    pub(super) mtime: Mtime,
}

/// The `Authorization` header that a user name and a password make. Shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login(pub(super) String);

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Which time the files of a checkout get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mtime {
    /// When they were checked out.
    #[default]
    Checkout,
    /// The commit's.
    Commit,
}

/// Why a text is no address of a git repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Another scheme, `ext::` and `file://` among them.
    #[error("only https, http, ssh and git are spoken")]
    Scheme,
    /// A control character or a blank.
    #[error("it holds a blank or a control character")]
    Control,
    /// A part that git or ssh would take for an option.
    #[error("a part of it begins with `-`")]
    Option,
    /// No host or no path.
    #[error("it names no host or no path")]
    Incomplete,
    /// A reference that git would not make.
    #[error("`{0}` is no reference")]
    Reference(String),
    /// A subdirectory that climbs.
    #[error("`{0}` leads out of the repository")]
    Subdir(String),
    /// A key that has no meaning.
    #[error("unexpected query `{0}`")]
    Query(String),
    /// Two values that exclude each other.
    #[error("`{0}` is given twice, with different values")]
    Conflict(&'static str),
    /// A value that is neither true nor false.
    #[error("`{0}` is true or false")]
    Bool(&'static str),
    /// A time that is none of two.
    #[error("`mtime` is checkout or commit")]
    Mtime,
    /// A checksum that is no beginning of a commit id.
    #[error("invalid checksum {0}, expected hex commit hash")]
    Checksum(String),
}

impl GitUrl {
    /// Reads an address. `github.com/owner/name` counts as one, as it does for docker.
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        if unprintable(text) {
            return Err(Flaw::Control);
        }
        let (address, fragment) = cut(text, '#');
        let (address, query) = cut(address, '?');
        let address = if address.starts_with("github.com/") {
            format!("https://{address}")
        } else {
            address.to_owned()
        };
        let (remote, login) = check_address(&address)?;
        let mut url = Self {
            remote,
            login,
            reference: None,
            subdir: TreePath::ROOT,
            checksum: None,
            keep_git_dir: None,
            submodules: true,
            mtime: Mtime::Checkout,
        };
        let fragment = percent_decode(fragment, false);
        let (reference, subdir) = cut(&fragment, ':');
        url.refer("ref", reference.to_owned())?;
        url.descend(subdir)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = cut(pair, '=');
            url.query(&percent_decode(key, true), &percent_decode(value, true))?;
        }
        // A whole commit id needs no other reference.
        if let (None, Some(checksum)) = (&url.reference, &url.checksum)
            && is_commit(checksum)
        {
            url.reference = Some(checksum.clone());
        }
        Ok(url)
    }

    /// Returns the address as messages may show it.
    pub fn shown(&self) -> &str {
        &self.remote
    }

    /// Returns the address with what of the repository is meant: `URL#REF:SUBDIR`.
    pub(in crate::build) fn shown_whole(&self) -> String {
        let reference = self.reference.as_deref().unwrap_or_default();
        match (reference, self.subdir.is_root()) {
            ("", true) => self.remote.clone(),
            (reference, true) => format!("{}#{reference}", self.remote),
            (reference, false) => {
                let subdir = self.subdir.to_string();
                format!(
                    "{}#{reference}:{}",
                    self.remote,
                    subdir.trim_start_matches('/')
                )
            }
        }
    }

    /// Returns scheme and host of an http address, as git scopes settings by them.
    pub(super) fn origin(&self) -> &str {
        let path = self.remote.match_indices('/').nth(2);
        path.map_or(&self.remote, |(at, _)| &self.remote[..at])
    }

    /// Returns whether the repository is reached through ssh.
    pub fn is_ssh(&self) -> bool {
        self.remote.starts_with("ssh://") || !self.remote.contains("://")
    }

    /// Takes the login that secrets hold for an http host, by the names that BuildKit gives them.
    /// One in the address wins.
    pub(in crate::build) fn authorize(mut self, secrets: &[Secret]) -> Self {
        if self.login.is_some() || self.is_ssh() {
            return self;
        }
        let host = cut(self.origin(), '/').1.trim_start_matches('/');
        let header = |name: &str| secret::text(secrets, name);
        let token = |name: &str| {
            let token = secret::text(secrets, name)?;
            let pair = STANDARD.encode(format!("x-access-token:{token}"));
            Some(format!("Basic {pair}"))
        };
        let login = header(&format!("GIT_AUTH_HEADER.{host}"))
            .or_else(|| token(&format!("GIT_AUTH_TOKEN.{host}")))
            .or_else(|| header("GIT_AUTH_HEADER"))
            .or_else(|| token("GIT_AUTH_TOKEN"));
        self.login = login.map(Login);
        self
    }

    /// Takes `--checksum`: a commit id or the beginning of one.
    pub(in crate::build) fn expect(&mut self, checksum: &str) -> Result<(), Flaw> {
        let hex = |b: u8| b.is_ascii_hexdigit();
        if checksum.is_empty() || checksum.len() > 64 || !checksum.bytes().all(hex) {
            return Err(Flaw::Checksum(checksum.to_owned()));
        }
        let checksum = checksum.to_ascii_lowercase();
        match &self.checksum {
            Some(other) if *other != checksum => Err(Flaw::Conflict("checksum")),
            _ => {
                self.checksum = Some(checksum);
                Ok(())
            }
        }
    }

    /// Takes `--keep-git-dir`.
    pub fn keep(&mut self, keep: bool) -> Result<(), Flaw> {
        match self.keep_git_dir {
            Some(other) if other != keep => Err(Flaw::Conflict("keep-git-dir")),
            _ => {
                self.keep_git_dir = Some(keep);
                Ok(())
            }
        }
    }

    /// Returns whether `.git` stays. Below a subdirectory there is none that could.
    pub(super) fn keeps_git_dir(&self) -> bool {
        self.keep_git_dir == Some(true) && self.subdir.is_root()
    }

    fn refer(&mut self, key: &'static str, reference: String) -> Result<(), Flaw> {
        if reference.is_empty() {
            return Ok(());
        }
        if reference.starts_with('-') {
            return Err(Flaw::Option);
        }
        if !is_reference(&reference) {
            return Err(Flaw::Reference(reference));
        }
        match &self.reference {
            Some(other) if *other != reference => Err(Flaw::Conflict(key)),
            _ => {
                self.reference = Some(reference);
                Ok(())
            }
        }
    }

    fn descend(&mut self, subdir: &str) -> Result<(), Flaw> {
        let out = || Flaw::Subdir(subdir.to_owned());
        if unprintable(&subdir.replace(' ', "")) || subdir.split('/').any(|part| part == "..") {
            return Err(out());
        }
        let subdir = TreePath::clean(subdir.as_bytes()).ok_or_else(out)?;
        if subdir.is_root() {
            return Ok(());
        }
        if !self.subdir.is_root() && self.subdir != subdir {
            return Err(Flaw::Conflict("subdir"));
        }
        self.subdir = subdir;
        Ok(())
    }

    fn query(&mut self, key: &str, value: &str) -> Result<(), Flaw> {
        match key {
            "ref" => self.refer("ref", value.to_owned()),
            "tag" => self.refer("tag", below("refs/tags/", value)),
            "branch" => self.refer("branch", below("refs/heads/", value)),
            "subdir" => self.descend(value),
            "commit" | "checksum" => self.expect(value),
            "keep-git-dir" => self.keep(truth("keep-git-dir", value)?),
            "submodules" => {
                self.submodules = truth("submodules", value)?;
                Ok(())
            }
            // How a commit is fetched is this program's business: by its id where that works.
            "fetch-by-commit" => truth("fetch-by-commit", value).map(drop),
            "mtime" => {
                self.mtime = match value {
                    "checkout" => Mtime::Checkout,
                    "commit" => Mtime::Commit,
                    _ => return Err(Flaw::Mtime),
                };
                Ok(())
            }
            _ => Err(Flaw::Query(key.to_owned())),
        }
    }
}

/// Returns whether a text is a whole commit id, SHA-1 or SHA-256.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn cut(text: &str, at: char) -> (&str, &str) {
    text.split_once(at).unwrap_or((text, ""))
}

fn below(prefix: &str, name: &str) -> String {
    if name.is_empty() || name.starts_with('-') || name.starts_with(prefix) {
        return name.to_owned();
    }
    format!("{prefix}{name}")
}

fn unprintable(text: &str) -> bool {
    text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Checks scheme, user, host and path; parts the address from its password.
fn check_address(address: &str) -> Result<(String, Option<Login>), Flaw> {
    if address.starts_with('-') {
        return Err(Flaw::Option);
    }
    let Some((scheme, rest)) = address.split_once("://") else {
        // `ext::sh -c …` is how git spells a transport that runs a program.
        if address.contains("::") {
            return Err(Flaw::Scheme);
        }
        let (login, path) = address.split_once(':').ok_or(Flaw::Incomplete)?;
        let (user, host) = login.split_once('@').ok_or(Flaw::Scheme)?;
        check_parts(user, host, path)?;
        return Ok((address.to_owned(), None));
    };
    if !matches!(scheme, "https" | "http" | "ssh" | "git") {
        return Err(Flaw::Scheme);
    }
    let (authority, path) = cut(rest, '/');
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    check_parts(user, host, path)?;
    let name = cut(user, ':').0;
    Ok(match scheme {
        _ if user.is_empty() => (address.to_owned(), None),
        "ssh" | "git" => (format!("{scheme}://{name}@{host}/{path}"), None),
        _ => {
            let pair = STANDARD.encode(percent_decode(user, false));
            let login = Login(format!("Basic {pair}"));
            (format!("{scheme}://{host}/{path}"), Some(login))
        }
    })
}

fn check_parts(user: &str, host: &str, path: &str) -> Result<(), Flaw> {
    if host.is_empty() || path.is_empty() {
        return Err(Flaw::Incomplete);
    }
    // Decoded too: git decodes before it gives a host to ssh.
    let option = |part: &str| percent_decode(part, false).starts_with('-');
    if option(user) || option(host) || option(path) {
        return Err(Flaw::Option);
    }
    let hidden = |part: &str| unprintable(&percent_decode(part, false).replace(' ', ""));
    if hidden(user) || hidden(host) || hidden(path) {
        return Err(Flaw::Control);
    }
    Ok(())
}

/// The rules of git-check-ref-format(1), as far as they keep patterns and ranges out.
fn is_reference(text: &str) -> bool {
    let bad = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    !text.contains(bad)
        && !text.contains("..")
        && !text.contains("@{")
        && !text.contains("//")
        && !text.starts_with('/')
        && !text.ends_with(['/', '.'])
        && !text.ends_with(".lock")
}

fn truth(key: &'static str, value: &str) -> Result<bool, Flaw> {
    match value {
        "" => Ok(true),
        value => go_bool(value).ok_or(Flaw::Bool(key)),
    }
}

/// Decodes `%xx`, and `+` in a query. What is no UTF-8 afterwards is no name of ours.
fn percent_decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text
            .get(at + 1..at + 3)
            .filter(|_| bytes[at] == b'%')
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(match (hex, bytes[at]) {
            (Some(byte), _) => byte,
            (None, b'+') if plus => b' ',
            (None, byte) => byte,
        });
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> GitUrl {
        GitUrl::parse(text).unwrap_or_else(|flaw| panic!("{text}: {flaw}"))
    }

    #[test]
    fn fragment_and_query_say_the_same() {
        let table = [
            ("https://h/a.git", None, "/"),
            ("https://h/a.git#v1", Some("v1"), "/"),
            ("https://h/a.git#v1:sub/dir", Some("v1"), "/sub/dir"),
            ("https://h/a.git#:sub/", None, "/sub"),
            ("https://h/a.git#:/sub", None, "/sub"),
            ("https://h/a.git#pull/42/head", Some("pull/42/head"), "/"),
            ("https://h/a.git?ref=v1&subdir=x", Some("v1"), "/x"),
            ("https://h/a.git?tag=v1", Some("refs/tags/v1"), "/"),
            ("https://h/a.git?branch=b", Some("refs/heads/b"), "/"),
            ("git@h:a/b.git#v1:s", Some("v1"), "/s"),
            ("ssh://git@h:22/a#v1", Some("v1"), "/"),
            ("git://h/a?ref=x%2Fy", Some("x/y"), "/"),
            ("github.com/o/n#v1", Some("v1"), "/"),
        ];
        for (text, reference, subdir) in table {
            let url = parse(text);
            assert_eq!(url.reference.as_deref(), reference, "{text}");
            assert_eq!(url.subdir.to_string(), subdir, "{text}");
        }
        assert_eq!(parse("github.com/o/n#v1").remote, "https://github.com/o/n");
    }

    #[test]
    fn the_query_sets_options() {
        let id = "0123456789012345678901234567890123456789";
        let url = parse(&format!(
            "https://h/a.git?commit={id}&keep-git-dir=1&submodules=false&mtime=commit"
        ));
        assert_eq!(url.checksum.as_deref(), Some(id));
        assert_eq!(url.reference.as_deref(), Some(id));
        assert!(url.keeps_git_dir() && !url.submodules);
        assert_eq!(url.mtime, Mtime::Commit);
        assert!(!parse("https://h/a.git?keep-git-dir=1&subdir=x").keeps_git_dir());
    }

    #[test]
    fn values_that_exclude_each_other_are_errors() {
        for text in [
            "https://h/a.git?tag=a&branch=a",
            "https://h/a.git?ref=b#a",
            "https://h/a.git?subdir=b#:a",
            "https://h/a.git?commit=aa&checksum=ab",
        ] {
            let flaw = GitUrl::parse(text).unwrap_err();
            assert!(matches!(flaw, Flaw::Conflict(_)), "{text}: {flaw}");
        }
        assert_eq!(
            parse("https://h/a.git?ref=a#a").reference.as_deref(),
            Some("a")
        );
        for (text, want) in [
            ("https://h/a.git?reff=a", Flaw::Query("reff".into())),
            ("https://h/a.git?submodules=x", Flaw::Bool("submodules")),
            ("https://h/a.git?mtime=now", Flaw::Mtime),
            ("https://h/a.git?checksum=xyz", Flaw::Checksum("xyz".into())),
        ] {
            assert_eq!(GitUrl::parse(text), Err(want), "{text}");
        }
    }

    #[test]
    fn t_ctx_3_nothing_becomes_an_option_a_line_or_another_transport() {
        for text in [
            "-upload-pack=x",
            "--upload-pack=x@h:p",
            "https://-h/a.git",
            "ssh://-oProxyCommand=x/a",
            "ssh://%2doProxyCommand=x/a",
            "ssh://-l@h/a",
            "git@h:-x",
            "git@-h:x",
            "https://h/a.git#-x",
            "https://h/a.git#%2dx",
            "https://h/a.git?ref=--upload-pack=x",
            "https://h/a.git?branch=-x",
            "ext::sh -c id",
            "ext::sh",
            "user@ext::sh",
            "file:///etc",
            "ftp://h/a.git",
            "https://h/a.git\n",
            "https://h/a.git#a%0ab",
            "https://h%0a/a.git",
            "https://h/a.git#a b",
            "https://h/a.git#a*",
            "https://h/a.git#a^{}",
            "https://h/a.git#a..b",
            "https:///a.git",
            "plain/path",
        ] {
            assert!(GitUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn t_ctx_2_a_subdirectory_never_climbs() {
        for text in [
            "https://h/a.git#:..",
            "https://h/a.git#:a/../..",
            "https://h/a.git#:%2e%2e/x",
            "https://h/a.git?subdir=../x",
            "https://h/a.git?subdir=a%00b",
        ] {
            let flaw = GitUrl::parse(text).unwrap_err();
            assert!(matches!(flaw, Flaw::Subdir(_)), "{text}: {flaw}");
        }
    }

    #[test]
    fn messages_show_no_password() {
        let url = parse("https://me:s%65cret@h/a.git#x");
        assert_eq!(
            (url.shown(), url.origin()),
            ("https://h/a.git", "https://h")
        );
        assert_eq!(url.login.as_ref().unwrap().0, "Basic bWU6c2VjcmV0");
        assert!(!format!("{url:?}").contains("bWU6"));
        assert_eq!(parse("ssh://me:pw@h/a").remote, "ssh://me@h/a");
    }
}
