//! The environment, read here and nowhere else.

#![expect(
    clippy::disallowed_methods,
    reason = "this file is where the environment is read"
)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::registry::ConfigFiles;

/// Returns a variable that is set and not empty.
pub(crate) fn os(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Returns a variable that is set, not empty, and text.
pub(crate) fn text(name: &str) -> Option<String> {
    os(name)?.into_string().ok()
}

/// Returns a variable that is set, be it to nothing. Bytes that are no UTF-8 are replaced.
pub(crate) fn exact(name: &str) -> Option<String> {
    Some(std::env::var_os(name)?.to_string_lossy().into_owned())
}

/// Returns the bytes of a variable that is set, be it to nothing.
pub(crate) fn exact_bytes(name: &str) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    Some(std::env::var_os(name)?.into_vec())
}

/// Returns a variable as a path.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    os(name).map(PathBuf::from)
}

/// Reads `KEY=VALUE`, and `KEY` for the variable of the environment; one that the environment has
/// not is left out.
pub(crate) fn pairs(texts: &[String]) -> Vec<(String, String)> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Some((key.to_owned(), value.to_owned())),
        None => exact(text).map(|value| (text.clone(), value)),
    };
    texts.iter().filter_map(pair).collect()
}

/// Returns the variables that name proxies, in both spellings, as they are set.
pub(crate) fn proxies() -> Vec<(String, String)> {
    let upper = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "FTP_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
    ];
    let names = upper
        .iter()
        .flat_map(|name| [(*name).to_owned(), name.to_ascii_lowercase()]);
    names
        .filter_map(|name| text(&name).map(|value| (name, value)))
        .collect()
}

/// Returns the directory of the store when no option names one: `/var/lib/cooper` for root,
/// `$XDG_DATA_HOME/cooper` or `~/.local/share/cooper` for others. `None` when there is no home.
pub(crate) fn default_root() -> Option<PathBuf> {
    if let Some(root) = path("COOPER_ROOT") {
        return Some(root);
    }
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/cooper"));
    }
    // The base directory specification: a relative path is to be ignored.
    let data = path("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let data = data.or_else(|| Some(path("HOME")?.join(".local/share")))?;
    Some(data.join("cooper"))
}

/// Returns the auth files in the order they are asked: `REGISTRY_AUTH_FILE` alone, or docker's
/// own, which `login` writes, `$XDG_RUNTIME_DIR/containers/auth.json` and
/// `~/.config/containers/auth.json`.
pub(crate) fn authfiles() -> Vec<PathBuf> {
    if let Some(only) = path("REGISTRY_AUTH_FILE") {
        return vec![only];
    }
    let runtime = path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    let config = config_home().map(|dir| dir.join("containers/auth.json"));
    [docker_config(), runtime, config]
        .into_iter()
        .flatten()
        .collect()
}

/// Returns the files that say how registries are reached, as containers-registries.conf(5) has
/// them: `CONTAINERS_REGISTRIES_CONF` or the user's own or the system's, and drop-ins; the
/// system's only where the user has no file of their own.
pub(crate) fn registries_conf() -> ConfigFiles {
    const SYSTEM: &str = "/etc/containers/registries.conf";
    let own = config_home().map(|dir| dir.join("containers/registries.conf"));
    let dir = |file: &Path| file.with_extension("conf.d");
    let own_dir = own.as_deref().map(dir);
    let all_dirs = || [Some(dir(SYSTEM.as_ref())), own_dir.clone()];
    let named = path("CONTAINERS_REGISTRIES_CONF");
    let required = named.is_some();
    let (file, dirs) = match (named, own.filter(|own| own.exists())) {
        (Some(named), _) => (named, all_dirs()),
        (None, Some(own)) => (own, [None, own_dir]),
        (None, None) => (SYSTEM.into(), all_dirs()),
    };
    ConfigFiles {
        file: Some(file),
        required,
        dirs: dirs.into_iter().flatten().collect(),
    }
}

/// Returns the directory of the user's configuration, `XDG_CONFIG_HOME` or `~/.config`.
fn config_home() -> Option<PathBuf> {
    path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")))
}

/// Returns the auth file that `login` writes and `logout` empties.
pub(crate) fn own_authfile() -> Option<PathBuf> {
    path("REGISTRY_AUTH_FILE").or_else(docker_config)
}

/// Returns the files with git's settings for this user, the least important first.
pub(crate) fn git_settings() -> Vec<PathBuf> {
    let own = config_home().map(|dir| dir.join("git/config"));
    let usual = path("HOME").map(|home| home.join(".gitconfig"));
    let system = Some(PathBuf::from("/etc/gitconfig"));
    [system, own, usual].into_iter().flatten().collect()
}

/// Returns the socket of the bus of the user's session, if there is one.
pub(crate) fn session_bus() -> Option<PathBuf> {
    let named = text("DBUS_SESSION_BUS_ADDRESS").and_then(|address| socket_of(&address));
    let usual = || Some(path("XDG_RUNTIME_DIR")?.join("bus"));
    named.or_else(usual).filter(|socket| socket.exists())
}

/// The first socket in a list of addresses as the D-Bus specification has them. Names with bytes
/// that are escaped there are passed over.
fn socket_of(addresses: &str) -> Option<PathBuf> {
    let sockets = addresses.split(';').filter_map(|address| {
        let mut pairs = address.strip_prefix("unix:")?.split(',');
        pairs.find_map(|pair| pair.strip_prefix("path="))
    });
    let mut plain = sockets.filter(|socket| !socket.contains('%'));
    plain.next().map(PathBuf::from)
}

/// Returns docker's `config.json`, in `DOCKER_CONFIG` or `~/.docker`.
fn docker_config() -> Option<PathBuf> {
    let dir = path("DOCKER_CONFIG").or_else(|| Some(path("HOME")?.join(".docker")));
    dir.map(|dir| dir.join("config.json"))
}

/// Returns whether text on standard error may be coloured (<https://no-color.org>).
pub(crate) fn colours() -> bool {
    use std::io::IsTerminal;
    os("NO_COLOR").is_none()
        && text("TERM").as_deref() != Some("dumb")
        && std::io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_of_a_bus_is_found_in_its_address() {
        for (address, socket) in [
            ("unix:path=/run/user/1000/bus", Some("/run/user/1000/bus")),
            ("unix:path=/run/bus,guid=0123", Some("/run/bus")),
            ("tcp:host=x,port=1;unix:guid=01,path=/b", Some("/b")),
            ("unix:abstract=/tmp/dbus-x", None),
            ("unix:path=/with%20space", None),
            ("", None),
        ] {
            assert_eq!(socket_of(address), socket.map(PathBuf::from), "{address}");
        }
    }
}
