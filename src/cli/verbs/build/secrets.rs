//! `--secret`, `--ssh` and `--secret-guard`: where values, keys and sockets come from.
//!
//! A secret or key is read here, once, before anything runs: from a file (a pipe will do) or from
//! the environment. Errors name the option, never a value.

use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::build::{KeyError, Secret, SshAgent, SshKey, SshSource};
use crate::cli::env;
use crate::cli::report::Report;

/// What docker allows a secret to hold.
const MOST: u64 = 500 << 10;

/// What RUN steps may be trusted with.
#[derive(Debug, clap::Args)]
pub(super) struct SecretArgs {
    /// Secret for `RUN --mount=type=secret`: `id=ID,src=FILE` or `id=ID,env=VARIABLE`
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<String>,

    /// Agent for `RUN --mount=type=ssh`: `default` (the one in SSH_AUTH_SOCK), `ID=SOCKET`, or
    /// `ID=KEYFILE[,KEYFILE…]`, whose keys sign and do not leave cooper
    #[arg(long = "ssh", value_name = "ID[=SOCKET|KEYFILE]")]
    ssh: Vec<String>,

    /// `off` lets steps leave the value of a secret in their layer
    #[arg(
        long,
        value_name = "on|off",
        default_value = "on",
        hide_default_value = true,
        value_parser = on_or_off,
        action = clap::ArgAction::Set
    )]
    secret_guard: bool,
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("expected `on` or `off`".to_owned()),
    }
}

impl SecretArgs {
    /// Reads the secrets.
    pub(super) fn secrets(&self) -> Result<Vec<Secret>, Report> {
        secrets(&self.secrets)
    }

    /// Finds the agents' sockets, or reads the keys.
    pub(super) fn agents(&self) -> Result<Vec<SshAgent>, Report> {
        agents(&self.ssh)
    }

    /// Whether layers are searched for secrets.
    pub(super) fn guard(&self) -> bool {
        self.secret_guard
    }
}

/// Reads the secrets that `--secret` names.
pub(crate) fn secrets(texts: &[String]) -> Result<Vec<Secret>, Report> {
    texts.iter().map(|text| secret(text)).collect()
}

/// Finds the sockets of the agents that `--ssh` names, or reads the keys.
pub(crate) fn agents(texts: &[String]) -> Result<Vec<SshAgent>, Report> {
    texts.iter().map(|text| agent(text)).collect()
}

/// What one `--secret` says, before it is looked up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Spec {
    id: String,
    file: Option<String>,
    variable: Option<String>,
}

/// Reads `id=…,src=…|env=…[,type=file|env]`, as buildx does.
fn parse(text: &str) -> Result<Spec, String> {
    let mut spec = Spec::default();
    let mut kind = None;
    for field in text.split(',') {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("`{field}` is not `KEY=VALUE`"));
        };
        let value = value.to_owned();
        match key.trim().to_ascii_lowercase().as_str() {
            "id" => spec.id = value,
            "src" | "source" => spec.file = Some(value),
            "env" => spec.variable = Some(value),
            "type" if matches!(value.as_str(), "file" | "env") => kind = Some(value),
            "type" => return Err(format!("`type={value}`: expected `file` or `env`")),
            _ => return Err(format!("`{key}` is none of `id`, `src`, `env` and `type`")),
        }
    }
    // `type=env` reads `src` as the name of the variable.
    if kind.as_deref() == Some("env") && spec.variable.is_none() {
        spec.variable = spec.file.take();
    }
    match (&spec.file, &spec.variable) {
        _ if spec.id.is_empty() => Err("it has no `id=`".to_owned()),
        (Some(_), Some(_)) => Err("`src` and `env` exclude each other".to_owned()),
        _ => Ok(spec),
    }
}

fn secret(text: &str) -> Result<Secret, Report> {
    let wrong = |why: &str| Report::wrong_use(format!("`--secret {text}`: {why}"));
    let spec = parse(text).map_err(|why| wrong(&why))?;
    let from_env = |name: &str| env::exact_bytes(name);
    let value = match (&spec.variable, &spec.file) {
        (Some(name), _) => from_env(name)
            .ok_or_else(|| wrong(&format!("the environment has no variable `{name}`")))?,
        (None, Some(file)) => read_secret(Path::new(file))?,
        (None, None) => match from_env(&spec.id) {
            Some(value) => value,
            None => read_secret(Path::new(&spec.id))?,
        },
    };
    if value.len() as u64 > MOST {
        return Err(wrong("a secret may have 500 KiB"));
    }
    Ok(Secret {
        id: spec.id,
        value: value.into(),
    })
}

fn read_secret(path: &Path) -> Result<Vec<u8>, Report> {
    let doing = format!("cannot read the secret in {}", path.display());
    read(path, &doing).map_err(|report| {
        report.hint(
            "`--secret id=ID,src=FILE` names another file, `--secret id=ID,env=VARIABLE` a variable",
        )
    })
}

/// Reads at most one byte more than a secret may have; `doing` is told when that fails.
fn read(path: &Path, doing: &str) -> Result<Vec<u8>, Report> {
    let failed = |error: std::io::Error| Report::failed(doing).because(&error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut value = Vec::new();
    file.take(MOST + 1)
        .read_to_end(&mut value)
        .map_err(failed)?;
    Ok(value)
}

/// Reads `default`, `ID=SOCKET` or `ID=KEYFILE,…`.
fn agent(text: &str) -> Result<SshAgent, Report> {
    let (id, places) = text.split_once('=').unwrap_or((text, ""));
    let wrong = |why: &str| Report::wrong_use(format!("`--ssh {text}`: {why}"));
    if id.is_empty() {
        return Err(wrong("expected `default`, `ID=SOCKET` or `ID=KEYFILE`"));
    }
    let places: Vec<PathBuf> = match places {
        "" => vec![env::path("SSH_AUTH_SOCK").ok_or_else(|| {
            wrong("the environment has no SSH_AUTH_SOCK").hint("`eval $(ssh-agent)` starts one")
        })?],
        list => list.split(',').map(PathBuf::from).collect(),
    };
    let mut keys = Vec::new();
    for place in &places {
        let stat = rustix::fs::stat(place).map_err(|errno| {
            let text = format!("cannot look at the ssh agent or key {}", place.display());
            Report::failed(text).because(&std::io::Error::from(errno))
        })?;
        match (FileType::from_raw_mode(stat.st_mode), places.as_slice()) {
            (FileType::Socket, [socket]) => {
                return Ok(SshAgent {
                    id: id.to_owned(),
                    source: SshSource::Socket(socket.clone()),
                });
            }
            (FileType::Socket, _) => return Err(wrong("a socket stands alone")),
            _ => keys.push(key(place)?),
        }
    }
    Ok(SshAgent {
        id: id.to_owned(),
        source: SshSource::Keys(keys.into()),
    })
}

/// Reads a private key.
fn key(path: &Path) -> Result<SshKey, Report> {
    let text = format!("cannot use the ssh key {}", path.display());
    let read = read(path, &text)?;
    SshKey::parse(&read).map_err(|error| {
        let report = Report::failed(text).because(&error);
        match error {
            KeyError::Protected => report.hint(format!(
                "`ssh-add {}` gives it to your agent, `--ssh ID` that agent to the build",
                path.display()
            )),
            _ => report,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(id: &str, file: Option<&str>, variable: Option<&str>) -> Spec {
        Spec {
            id: id.to_owned(),
            file: file.map(str::to_owned),
            variable: variable.map(str::to_owned),
        }
    }

    #[test]
    fn secrets_come_from_files_or_variables() {
        for (text, want) in [
            ("id=a,src=f", spec("a", Some("f"), None)),
            ("type=file,id=a,source=f", spec("a", Some("f"), None)),
            ("id=a,env=V", spec("a", None, Some("V"))),
            ("id=a,type=env,src=V", spec("a", None, Some("V"))),
            ("id=a", spec("a", None, None)),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
        for bad in [
            "",
            "a",
            "src=f",
            "id=a,type=x",
            "id=a,src=f,env=V",
            "id=a,x=y",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
