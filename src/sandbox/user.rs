//! Who `USER www-data:adm` is, by the image's own `/etc/passwd` and `/etc/group`.
//!
//! Pure: bytes and a spec in, numbers out. The rules are Docker's (moby/sys/user,
//! `GetExecUser`) with two differences, both towards refusal: a malformed line is skipped
//! instead of read as uid 0, and a number is never looked up as a name, not even when it is
//! out of range. There is no NSS: only these two files count.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The highest id Docker accepts; above it ids begin to be negative for 32-bit programs.
const MAX_ID: u32 = i32::MAX as u32;

/// Whom to run as, as an image or a flag says it: empty, `name`, `uid`, `name:group`,
/// `uid:gid`, `:group`…
///
/// Only [`resolve`] can tell whether it means anything: that takes the image's files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec(pub String);

impl UserSpec {
    /// The part before the first colon; empty if there is none.
    pub fn user(&self) -> &str {
        self.0
            .split_once(':')
            .map_or(self.0.as_str(), |(user, _)| user)
    }

    /// The part after the first colon; empty if there is none.
    pub fn group(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, group)| group)
    }
}

impl<T: Into<String>> From<T> for UserSpec {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Groups that a program has besides those that the image's files list for its user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// Names in the image's `/etc/group`, or numbers.
    pub extra: Vec<String>,
    /// Whether the program has those of the caller instead of any other: what the caller may
    /// open by its groups, the program may, whether or not they have numbers inside.
    pub keep: bool,
}

/// The numbers behind a [`UserSpec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, ascending, without `gid`'s own entry unless the user is listed
    /// there. Empty when the spec named a group.
    pub groups: Vec<u32>,
    /// The home directory; `/` if the image knows none.
    pub home: String,
}

/// Why a spec has no meaning in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum UserError {
    /// A user name that `/etc/passwd` doesn't have.
    #[error("user `{0}` is not in the image's /etc/passwd")]
    NoUser(String),
    /// A group name that `/etc/group` doesn't have.
    #[error("group `{0}` is not in the image's /etc/group")]
    NoGroup(String),
    /// A number outside the range of ids.
    #[error("id `{0}` is not between 0 and {MAX_ID}")]
    Range(String),
}

/// One usable line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswdEntry {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory, perhaps empty.
    pub home: String,
}

/// One usable line of `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupEntry {
    /// Group name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Names of its members.
    pub members: Vec<String>,
}

/// The usable lines of a passwd(5) file; comments and malformed lines are passed over.
pub fn passwd(file: &[u8]) -> impl Iterator<Item = PasswdEntry> + '_ {
    lines(file).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or_default().to_owned();
        Some(PasswdEntry {
            name,
            uid,
            gid,
            home,
        })
    })
}

/// The usable lines of a group(5) file; comments and malformed lines are passed over.
pub fn group(file: &[u8]) -> impl Iterator<Item = GroupEntry> + '_ {
    lines(file).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or_default();
        let members = members
            .split(',')
            .filter(|m| !m.is_empty())
            .map(str::to_owned)
            .collect();
        Some(GroupEntry { name, gid, members })
    })
}

fn lines(file: &[u8]) -> impl Iterator<Item = &str> {
    file.split(|&byte| byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ':', '+', '-']))
}

/// A number as Docker reads it: optional sign and digits make an id, anything else a name.
///
/// `Some(Err)` is a number no id can have. Never falls back to a name (CVE-2026-46680).
pub fn numeric(text: &str) -> Option<Result<u32, UserError>> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let id = text
        .parse::<i64>()
        .ok()
        .and_then(|id| u32::try_from(id).ok());
    Some(
        id.filter(|&id| id <= MAX_ID)
            .ok_or_else(|| UserError::Range(text.to_owned())),
    )
}

/// Adds groups by name or number to those that `who` has.
pub fn join(who: &mut Identity, extra: &[String], group: &[u8]) -> Result<(), UserError> {
    for text in extra {
        who.groups.push(find_group(text, group)?);
    }
    who.groups.sort_unstable();
    who.groups.dedup();
    Ok(())
}

/// Finds who `spec` is. An empty user means uid 0.
///
/// A user given alone brings the primary and supplementary groups that the files list for it;
/// a uid that no line has runs with gid 0 and no other group, as with Docker.
pub fn resolve(spec: &UserSpec, passwd: &[u8], group: &[u8]) -> Result<Identity, UserError> {
    let (user_text, group_text) = (spec.user(), spec.group());
    let (mut who, login) = find_user(user_text, passwd)?;
    if !group_text.is_empty() {
        who.gid = find_group(group_text, group)?;
    } else if let Some(login) = login {
        let of = |entry: &GroupEntry| entry.members.contains(&login);
        who.groups = self::group(group)
            .filter(of)
            .map(|entry| entry.gid)
            .collect();
        who.groups.sort_unstable();
        who.groups.dedup();
    }
    Ok(who)
}

/// The identity a user text alone gives, and the login name it has in `passwd`, if any.
fn find_user(text: &str, passwd: &[u8]) -> Result<(Identity, Option<String>), UserError> {
    let uid = if text.is_empty() {
        Some(0)
    } else {
        numeric(text).transpose()?
    };
    let entry = self::passwd(passwd).find(|entry| match uid {
        Some(uid) => entry.uid == uid,
        None => entry.name == text,
    });
    match (entry, uid) {
        (
            Some(PasswdEntry {
                name,
                uid,
                gid,
                home,
            }),
            _,
        ) => {
            let home = if home.is_empty() {
                "/".to_owned()
            } else {
                home
            };
            Ok((
                Identity {
                    uid,
                    gid,
                    groups: Vec::new(),
                    home,
                },
                Some(name),
            ))
        }
        (None, Some(uid)) => Ok((
            Identity {
                uid,
                gid: 0,
                groups: Vec::new(),
                home: "/".to_owned(),
            },
            None,
        )),
        (None, None) => Err(UserError::NoUser(text.to_owned())),
    }
}

/// The id of a group given by name or number.
pub fn find_group(text: &str, group: &[u8]) -> Result<u32, UserError> {
    if let Some(gid) = numeric(text) {
        return gid;
    }
    let entry = self::group(group).find(|entry| entry.name == text);
    entry
        .map(|entry| entry.gid)
        .ok_or_else(|| UserError::NoGroup(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # a comment\n\
        www-data:x:33:33::/var/www:/usr/sbin/nologin\n\
        broken:x:abc:0::/:/bin/sh\n\
        1000:x:5:5:a name that is a number:/five:\n\
        app:x:1000:1001::\n\
        \xff\xfe:x:7:7::/:\n\
        short:x:9\n";
    const GROUP: &[u8] =
        b"root:x:0:\nadm:x:4:app,www-data\nstaff:x:50:app\napp:x:1001:\nwheel:x:10:root\n";

    fn who(spec: &str) -> Result<(u32, u32, Vec<u32>, String), UserError> {
        resolve(&spec.into(), PASSWD, GROUP).map(|id| (id.uid, id.gid, id.groups, id.home))
    }

    #[test]
    fn further_groups_are_names_of_the_image_or_numbers() {
        let with = |extra: &[&str]| {
            let extra: Vec<String> = extra.iter().map(ToString::to_string).collect();
            let mut who = resolve(&"app".into(), PASSWD, GROUP).unwrap();
            join(&mut who, &extra, GROUP).map(|()| who.groups)
        };
        assert_eq!(with(&[]), Ok(vec![4, 50]));
        assert_eq!(with(&["wheel", "77", "adm"]), Ok(vec![4, 10, 50, 77]));
        assert_eq!(with(&["nope"]), Err(UserError::NoGroup("nope".to_owned())));
    }

    #[test]
    fn a_spec_becomes_the_ids_docker_would_use() {
        let cases: &[(&str, u32, u32, &[u32], &str)] = &[
            ("", 0, 0, &[10], "/root"),
            ("root", 0, 0, &[10], "/root"),
            ("0", 0, 0, &[10], "/root"),
            ("www-data", 33, 33, &[4], "/var/www"),
            ("33", 33, 33, &[4], "/var/www"),
            ("app", 1000, 1001, &[4, 50], "/"),
            ("app:", 1000, 1001, &[4, 50], "/"),
            ("app:staff", 1000, 50, &[], "/"),
            ("app:77", 1000, 77, &[], "/"),
            (":staff", 0, 50, &[], "/root"),
            ("4242", 4242, 0, &[], "/"),
            ("4242:4343", 4242, 4343, &[], "/"),
            ("007", 7, 0, &[], "/"),
            ("2147483647", 2_147_483_647, 0, &[], "/"),
        ];
        for (spec, uid, gid, groups, home) in cases {
            let want = (*uid, *gid, groups.to_vec(), (*home).to_owned());
            assert_eq!(who(spec), Ok(want), "{spec:?}");
        }
    }

    #[test]
    fn t_rt_8_a_number_is_never_a_name() {
        // The user called `1000` has uid 5; `USER 1000` is uid 1000 all the same.
        assert_eq!(who("1000").map(|who| who.0), Ok(1000));
        for text in [
            "-1",
            "4294967296",
            "4294967295",
            "2147483648",
            "99999999999999999999",
        ] {
            assert_eq!(who(text), Err(UserError::Range(text.to_owned())));
            let group = format!("0:{text}");
            assert_eq!(who(&group), Err(UserError::Range(text.to_owned())));
        }
    }

    #[test]
    fn unknown_names_and_malformed_lines_are_refused() {
        assert_eq!(who("nobody"), Err(UserError::NoUser("nobody".into())));
        assert_eq!(who("broken"), Err(UserError::NoUser("broken".into())));
        assert_eq!(who("short"), Err(UserError::NoUser("short".into())));
        assert_eq!(who("root:none"), Err(UserError::NoGroup("none".into())));
        assert_eq!(who("app "), Err(UserError::NoUser("app ".into())));
        assert_eq!(
            UserError::NoUser("app".into()).to_string(),
            "user `app` is not in the image's /etc/passwd"
        );
    }

    #[test]
    fn without_files_only_numbers_resolve() {
        let id = resolve(&"12:34".into(), b"", b"").unwrap();
        assert_eq!((id.uid, id.gid, id.home.as_str()), (12, 34, "/"));
        assert_eq!(resolve(&"".into(), b"", b"").unwrap().uid, 0);
        assert!(resolve(&"root".into(), b"", b"").is_err());
    }
}
