//! Reads and writes the files that docker and podman keep logins in.
//!
//! docker's `config.json` and podman's `auth.json` (containers-auth.json(5)) share one form:
//!
//! ```json
//! { "auths": { "HOST[/NAMESPACE…]": { "auth": "base64(user:password)", "identitytoken": "…" } },
//!   "credHelpers": { "HOST": "NAME" }, "credsStore": "NAME" }
//! ```
//!
//! The longest key that names the repository or a part of its path wins. A helper of the host
//! comes before an entry, an entry before the store. Writing keeps every other field, replaces
//! the file in one step, and leaves it readable by its owner only.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde_json::{Map, Value, json};

use super::error::Error;
use super::helper::{self, Helper};
use super::options::{Credentials, Secret};

/// An auth file larger than this is none.
const MAX_FILE: u64 = 4 << 20;

/// The key under which docker keeps its own registry.
const HUB_KEY: &str = "https://index.docker.io/v1/";
const HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// What a file says about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// These.
    Here(Credentials),
    /// Ask this helper, for this server.
    Helper { program: String, server: String },
}

/// Looks for credentials of `repository` at `host` in the file at `path`.
pub(super) fn find(path: &Path, host: &str, repository: &str) -> Result<Option<Entry>, Error> {
    let Some(root) = load(path)? else {
        return Ok(None);
    };
    lookup(&root, host, repository).map_err(|why| Error::AuthFile {
        path: path.to_owned(),
        why,
    })
}

fn lookup(root: &Value, host: &str, repository: &str) -> Result<Option<Entry>, &'static str> {
    let helper_of = |name: &Value, server: &str| {
        let name = name.as_str().filter(|name| !name.is_empty())?;
        Some(Entry::Helper {
            program: format!("{}{name}", helper::PREFIX),
            server: server.to_owned(),
        })
    };
    let own_name = if is_hub(host) { HUB_KEY } else { host };
    for key in [host, own_name] {
        if let Some(found) = helper_of(&root["credHelpers"][key], own_name) {
            return Ok(Some(found));
        }
    }
    if let Some(auths) = root["auths"].as_object() {
        for wanted in keys(host, repository) {
            let entry = auths
                .iter()
                .find(|(key, _)| **key == wanted)
                .or_else(|| auths.iter().find(|(key, _)| normal(key) == wanted));
            if let Some((_, entry)) = entry
                && let Some(found) = credentials(entry)?
            {
                return Ok(Some(Entry::Here(found)));
            }
        }
    }
    Ok(helper_of(&root["credsStore"], own_name))
}

/// The keys that may hold the login, most specific first.
fn keys(host: &str, repository: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut path = repository;
    while !path.is_empty() {
        out.push(format!("{host}/{path}"));
        path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    out.push(host.to_owned());
    out
}

/// A key without scheme and, behind a scheme, without path; the Hub under one name.
fn normal(key: &str) -> &str {
    let bare = match key.split_once("://") {
        Some((_, rest)) => rest.split('/').next().unwrap_or(rest),
        None => key,
    };
    if is_hub(bare) { HUB_HOSTS[0] } else { bare }
}

fn is_hub(host: &str) -> bool {
    HUB_HOSTS.contains(&host)
}

fn credentials(entry: &Value) -> Result<Option<Credentials>, &'static str> {
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credentials::Identity(Secret::new(token))));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credentials::Token(Secret::new(token))));
    }
    let (username, password) = if let Some(auth) = text("auth") {
        let lax =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let plain = GeneralPurpose::new(&base64::alphabet::STANDARD, lax)
            .decode(auth)
            .map_err(|_| "an `auth` value is not base64")?;
        let plain = String::from_utf8(plain).map_err(|_| "an `auth` value is not UTF-8")?;
        let (user, password) = plain
            .split_once(':')
            .ok_or("an `auth` value holds no colon")?;
        (user.to_owned(), password.trim_end_matches('\0').to_owned())
    } else if let (Some(user), Some(password)) = (text("username"), text("password")) {
        (user.to_owned(), password.to_owned())
    } else {
        return Ok(None);
    };
    Ok(Some(Credentials::Password {
        username,
        password: Secret::new(password),
    }))
}

/// Puts the login for `host` into the auth file at `path`, which is made when it is not there.
/// A helper that the file names keeps it instead; `search` is where it is looked for.
pub(super) fn store(
    path: &Path,
    host: &str,
    credentials: &Credentials,
    search: Option<&OsStr>,
) -> Result<(), Error> {
    let mut root = load(path)?.unwrap_or_else(|| json!({}));
    if let Some((program, server)) = helper_for(&root, host) {
        let helper = Helper {
            program: &program,
            path: search,
        };
        helper::store(helper, &server, credentials)?;
        return Ok(());
    }
    let entry = match credentials {
        Credentials::Password { username, password } => {
            json!({ "auth": STANDARD.encode(format!("{username}:{}", password.reveal())) })
        }
        Credentials::Identity(token) => json!({ "identitytoken": token.reveal() }),
        Credentials::Token(token) => json!({ "registrytoken": token.reveal() }),
    };
    let auths = object(&mut root, path)?
        .entry("auths")
        .or_insert_with(|| json!({}));
    let auths = object(auths, path)?;
    auths.insert(file_key(host, path), entry);
    save(path, &root)
}

/// Removes the login for `host` from the auth file at `path` and returns whether there was one.
pub(super) fn erase(path: &Path, host: &str, search: Option<&OsStr>) -> Result<bool, Error> {
    let Some(mut root) = load(path)? else {
        return Ok(false);
    };
    let mut found = false;
    if let Some((program, server)) = helper_for(&root, host) {
        let helper = Helper {
            program: &program,
            path: search,
        };
        found = helper::erase(helper, &server)?;
    }
    let wanted = normal(host).to_owned();
    if let Some(auths) = root["auths"].as_object_mut() {
        let before = auths.len();
        auths.retain(|key, _| normal(key) != wanted);
        if auths.len() != before {
            save(path, &root)?;
            found = true;
        }
    }
    Ok(found)
}

fn helper_for(root: &Value, host: &str) -> Option<(String, String)> {
    let server = if is_hub(host) { HUB_KEY } else { host };
    let name = [
        &root["credHelpers"][host],
        &root["credHelpers"][server],
        &root["credsStore"],
    ]
    .into_iter()
    .find_map(|name| name.as_str().filter(|name| !name.is_empty()))?;
    Some((format!("{}{name}", helper::PREFIX), server.to_owned()))
}

/// docker looks for the Hub under its old address only, podman under its name only; both find
/// a key with the address' host, so the file's own habit decides.
fn file_key(host: &str, path: &Path) -> String {
    if !is_hub(host) {
        return host.to_owned();
    }
    if path.file_name().is_some_and(|name| name == "config.json") {
        HUB_KEY.to_owned()
    } else {
        HUB_HOSTS[0].to_owned()
    }
}

fn object<'a>(value: &'a mut Value, path: &Path) -> Result<&'a mut Map<String, Value>, Error> {
    value.as_object_mut().ok_or_else(|| Error::AuthFile {
        path: path.to_owned(),
        why: "it is no JSON object where one is expected",
    })
}

fn load(path: &Path) -> Result<Option<Value>, Error> {
    let bad = |why| Error::AuthFile {
        path: path.to_owned(),
        why,
    };
    let file_error = |source| Error::File {
        doing: "read",
        path: path.to_owned(),
        source,
    };
    match fs::metadata(path) {
        Ok(found) if found.len() > MAX_FILE => return Err(bad("it is too large")),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(file_error(e)),
    }
    let bytes = fs::read(path).map_err(file_error)?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    match serde_json::from_slice(&bytes) {
        Ok(root @ Value::Object(_)) => Ok(Some(root)),
        // What serde says could quote the content, so it is left out.
        _ => Err(bad("it is not a JSON object")),
    }
}

/// Replaces the file in one step. The new one is never readable by others, not for a moment.
fn save(path: &Path, root: &Value) -> Result<(), Error> {
    let fail = |doing, source| Error::File {
        doing,
        path: path.to_owned(),
        source,
    };
    let target = fs::read_link(path).map_or_else(
        |_| path.to_owned(),
        |to| path.parent().unwrap_or(Path::new("")).join(to),
    );
    let dir = match target.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| fail("create the directory of", e))?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let temp = dir.join(format!(".{name}.{}", std::process::id()));
    let write = |temp: &Path| -> io::Result<()> {
        let mut file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temp)?;
        file.write_all(format!("{root:#}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(temp, &target)
    };
    // Left over from a process of the same number that was killed.
    let _ = fs::remove_file(&temp);
    write(&temp).map_err(|e| {
        // The file may not have been made; either way it should not stay.
        let _ = fs::remove_file(&temp);
        fail("write", e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn password(user: &str, secret: &str) -> Credentials {
        Credentials::Password {
            username: user.into(),
            password: Secret::new(secret),
        }
    }

    fn here(user: &str, secret: &str) -> Option<Entry> {
        Some(Entry::Here(password(user, secret)))
    }

    #[test]
    fn the_longest_key_wins_and_schemes_are_left_out() {
        let auth = |text: &str| json!({ "auth": STANDARD.encode(text) });
        let root = json!({ "auths": {
            "r.example": auth("host:1"), "r.example/team": auth("team:2"),
            "r.example/team/app": auth("app:3"), "https://old.example/v1/": auth("old:4"),
            HUB_KEY: auth("hub:5:6"), "empty.example": {}, "plain.example": {"username":"u","password":"p"},
            "token.example": {"auth": "", "identitytoken": "t"},
        }});
        let at = |host, repo| lookup(&root, host, repo).unwrap();
        assert_eq!(at("r.example", "team/app"), here("app", "3"));
        assert_eq!(at("r.example", "team/application"), here("team", "2"));
        assert_eq!(at("r.example", "teams/app"), here("host", "1"));
        assert_eq!(at("old.example", "x"), here("old", "4"));
        assert_eq!(at("docker.io", "library/x"), here("hub", "5:6"));
        assert_eq!(at("plain.example", "x"), here("u", "p"));
        assert_eq!(at("empty.example", "x"), None);
        assert_eq!(at("xr.example", "x"), None);
        assert_eq!(
            at("token.example", "x"),
            Some(Entry::Here(Credentials::Identity(Secret::new("t"))))
        );
    }

    #[test]
    fn helpers_come_before_entries_and_the_store_last() {
        let root = json!({ "credHelpers": {"a.example": "one"}, "credsStore": "all",
            "auths": {"a.example": {"auth": "dTpw"}, "b.example": {"auth": "dTpw"}} });
        let helper = |program: &str, server: &str| {
            Some(Entry::Helper {
                program: program.into(),
                server: server.into(),
            })
        };
        let at = |host| lookup(&root, host, "x").unwrap();
        assert_eq!(
            at("a.example"),
            helper("docker-credential-one", "a.example")
        );
        assert_eq!(at("b.example"), here("u", "p"));
        assert_eq!(at("docker.io"), helper("docker-credential-all", HUB_KEY));
    }

    #[test]
    fn t_reg_8_the_file_keeps_other_fields_and_is_for_its_owner_only() {
        let dir = std::env::temp_dir().join(format!("cooper-authfile-{}", std::process::id()));
        let path = dir.join("sub/auth.json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(
            &path,
            r#"{"detachKeys":"ctrl-x","auths":{"other":{"auth":"dTpw"}}}"#,
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        store(&path, "127.0.0.1:5000", &password("me", "s3cret"), None).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            find(&path, "127.0.0.1:5000", "a/b").unwrap(),
            here("me", "s3cret")
        );
        assert_eq!(find(&path, "other", "a/b").unwrap(), here("u", "p"));
        assert!(fs::read_to_string(&path).unwrap().contains("detachKeys"));
        assert!(erase(&path, "127.0.0.1:5000", None).unwrap());
        assert!(!erase(&path, "127.0.0.1:5000", None).unwrap());
        assert_eq!(find(&path, "127.0.0.1:5000", "a/b").unwrap(), None);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_broken_file_is_named_and_never_quoted() {
        let path = std::env::temp_dir().join(format!("cooper-authfile-bad-{}", std::process::id()));
        fs::write(&path, r#"{"auths": {"h": {"auth": "hunter2"#).unwrap();
        let text = format!("{:?}", find(&path, "h", "x").unwrap_err());
        assert!(
            text.contains("cooper-authfile-bad") && !text.contains("hunter2"),
            "{text}"
        );
        fs::remove_file(path).unwrap();
    }
}
