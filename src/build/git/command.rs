//! Runs `git` so that neither its surroundings nor a repository decide what is executed.
//!
//! The program sees an environment made here: no configuration of the machine or the user, an
//! empty home, no prompts, no hooks, no file system monitor, and only four transports, for
//! submodules too (T-CTX-3). What a user name or a token in an address says stays out of
//! messages. The program is ended when the build is told to stop.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::AtFlags;
use rustix::process::{Pid, Signal, kill_process_group};

use super::super::exec::Cancel;
use super::super::ssh::{Agent, SshSource};
use super::error::GitError;
use super::url::{GitUrl, Login};

/// How much of an answer is read, in bytes: about half a million refs.
const MAX_ANSWER: u64 = 32 << 20;
/// Time between two looks at whether the build was told to stop.
const PATIENCE: Duration = Duration::from_millis(20);

/// What `git` may use of the caller's, as plain data.
#[derive(Debug, Clone, Default)]
pub struct GitTools {
    /// Where `git` and `ssh` are looked for, in the form of `PATH`.
    pub path: Option<OsString>,
    /// Proxy variables.
    pub proxies: Vec<(String, String)>,
    /// The ssh agent, where it may be asked.
    pub ssh_agent: Option<SshSource>,
    /// Keys of hosts that are known; the key of any other is taken as it comes.
    pub known_hosts: Option<PathBuf>,
    /// A PEM file with CAs, used in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// The caller's own settings, the least important first. No `git` that is run here sees them;
    /// they tell what a work tree's addresses mean.
    pub settings: Vec<PathBuf>,
}

/// Settings that hold whatever a repository says; git-config(1).
const SETTINGS: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.autocrlf", "false"),
    ("core.symlinks", "true"),
    ("core.logAllRefUpdates", "false"),
    ("credential.helper", ""),
    ("advice.detachedHead", "false"),
    ("init.defaultBranch", "master"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    // Git waits for a silent server as long as it takes otherwise.
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "60"),
];

/// `git`, ready to run.
pub(super) struct Git<'a> {
    tools: &'a GitTools,
    url: &'a GitUrl,
    /// A directory of ours: its home.
    home: &'a Path,
    cancel: &'a Cancel,
}

impl<'a> Git<'a> {
    pub(super) fn new(
        tools: &'a GitTools,
        url: &'a GitUrl,
        home: &'a Path,
        cancel: &'a Cancel,
    ) -> Self {
        Self {
            tools,
            url,
            home,
            cancel,
        }
    }

    /// Runs `git` with `args` in `dir` and returns what it printed.
    pub(super) fn run(
        &self,
        dir: &Path,
        doing: &'static str,
        args: &[&str],
    ) -> Result<String, GitError> {
        let own = self.own_agent()?;
        let mut command = self.command(dir, args);
        if let Some(own) = &own {
            command.env("SSH_AUTH_SOCK", &own.path);
        }
        let mut child = command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => GitError::NotInstalled,
            _ => GitError::Start { source },
        })?;
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let ended = self.wait(&mut child);
        let stdout = stdout.join().unwrap_or_default();
        let stderr = stderr.join().unwrap_or_default();
        match ended? {
            true => Ok(stdout),
            false => Err(GitError::Failed {
                doing,
                says: without_logins(stderr.trim()),
            }),
        }
    }

    fn command(&self, dir: &Path, args: &[&str]) -> Command {
        let tools = self.tools;
        let known_hosts = tools.known_hosts.as_deref();
        let mut command = Command::new("git");
        command
            .args(args)
            .current_dir(dir)
            .env_clear()
            .env("HOME", self.home)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", "https:http:ssh:git")
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_SSH_VARIANT", "ssh")
            .env("GIT_SSH_COMMAND", SSH)
            .env("COOPER_NEW_HOSTS", self.home.join("known_hosts"))
            .env(
                "COOPER_KNOWN_HOSTS",
                known_hosts.unwrap_or(Path::new("/dev/null")),
            )
            .envs(tools.proxies.iter().map(|(key, value)| (key, value)));
        let settings = self.settings();
        command.env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (at, (key, value)) in settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{at}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{at}"), value);
        }
        let optional = [
            ("PATH", tools.path.as_deref()),
            (
                "SSH_AUTH_SOCK",
                match &tools.ssh_agent {
                    Some(SshSource::Socket(path)) => Some(path.as_os_str()),
                    Some(SshSource::Keys(_)) | None => None,
                },
            ),
            (
                "GIT_SSL_CAINFO",
                tools.ca_file.as_deref().map(Path::as_os_str),
            ),
        ];
        for (key, value) in optional {
            command.envs(value.map(|value| (key, value)));
        }
        // A group of its own: git leaves the network to programs it starts, and all must end.
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Begins to answer for keys that `git` may use, which have no agent of their own.
    fn own_agent(&self) -> Result<Option<OwnAgent>, GitError> {
        let Some(source @ SshSource::Keys(_)) = &self.tools.ssh_agent else {
            return Ok(None);
        };
        let serve = || {
            let home = File::open(self.home)?;
            // A socket's path has room for 107 bytes only; a descriptor's is short.
            let (process, fd) = (std::process::id(), home.as_raw_fd());
            let path = PathBuf::from(format!("/proc/{process}/fd/{fd}/agent"));
            let listener = UnixListener::bind(&path)?;
            Ok(OwnAgent {
                _served: Agent::serve(listener, source.clone())?,
                home,
                path,
            })
        };
        serve()
            .map(Some)
            .map_err(|source| GitError::Agent { source })
    }

    /// Settings go through the environment: an argument list is everybody's to read.
    fn settings(&self) -> Vec<(String, String)> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let mut settings: Vec<_> = SETTINGS.iter().map(own).collect();
        if let Some(Login(header)) = &self.url.login {
            let scope = self.url.origin();
            let key = format!("http.{scope}/.extraHeader");
            settings.push((key, format!("Authorization: {header}")));
            // The header would go wherever the server points.
            settings.push(("http.followRedirects".to_owned(), "false".to_owned()));
        }
        settings
    }

    /// Waits for the end and returns whether it was a good one.
    fn wait(&self, child: &mut Child) -> Result<bool, GitError> {
        loop {
            if let Some(status) = child
                .try_wait()
                .map_err(|source| GitError::Start { source })?
            {
                return Ok(status.success());
            }
            if self.cancel.is_cancelled() {
                // All of them may be gone already; then there is nothing to end.
                let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
                let _ = child.wait();
                return Err(GitError::Cancelled);
            }
            thread::sleep(PATIENCE);
        }
    }
}

/// An agent of ours for as long as one command runs.
struct OwnAgent {
    _served: Agent,
    home: File,
    /// Its socket, below the descriptor of `home`.
    path: PathBuf,
}

impl Drop for OwnAgent {
    fn drop(&mut self) {
        // The next command makes its own; what is left goes with the home.
        let _ = rustix::fs::unlinkat(&self.home, "agent", AtFlags::empty());
    }
}

/// `ssh` without the user's configuration. It expands the variables itself (ssh_config(5)), so
/// that no path has to be quoted for two readers. New hosts are noted in a file of ours.
const SSH: &str = "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new \
                   -o 'UserKnownHostsFile=${COOPER_NEW_HOSTS} ${COOPER_KNOWN_HOSTS}'";

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut out = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks ends the answer; whether it was a good one the status says.
            let _ = pipe.by_ref().take(MAX_ANSWER).read_to_end(&mut out);
            // Reading on lets the program end.
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        String::from_utf8_lossy(&out).into_owned()
    })
}

/// Takes user names and passwords out of the addresses in a text.
pub(in crate::build) fn without_logins(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after
            .find(|c: char| c == '/' || c == '\'' || c.is_whitespace())
            .unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(login) => &after[login + 1..],
            None => after,
        };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_taken_out_of_what_git_says() {
        assert_eq!(
            without_logins("fatal: 'https://me:pw@h/a.git/' and http://x@y/ not git@h:p"),
            "fatal: 'https://h/a.git/' and http://y/ not git@h:p"
        );
    }

    #[test]
    fn t_ctx_3_the_environment_is_made_here() {
        let tools = GitTools::default();
        let cancel = Cancel::default();
        let url = GitUrl::parse("https://me:pw@h/a.git").unwrap();
        let git = Git::new(&tools, &url, Path::new("/home"), &cancel);
        let command = git.command(Path::new("/"), &["version"]);
        let value = |name: &str| {
            let found = command.get_envs().find(|(key, _)| *key == name);
            found.and_then(|(_, value)| value?.to_str())
        };
        assert_eq!(value("GIT_ALLOW_PROTOCOL"), Some("https:http:ssh:git"));
        assert_eq!(value("GIT_CONFIG_NOSYSTEM"), Some("1"));
        assert_eq!(value("GIT_CONFIG_GLOBAL"), Some("/dev/null"));
        assert_eq!(value("GIT_TERMINAL_PROMPT"), Some("0"));
        assert_eq!(value("SSH_AUTH_SOCK"), None, "no agent unless it is given");
        let keys = (0..40).filter_map(|at| value(&format!("GIT_CONFIG_KEY_{at}")));
        let keys: Vec<&str> = keys.collect();
        for key in [
            "core.hooksPath",
            "core.fsmonitor",
            "http.https://h/.extraHeader",
        ] {
            assert!(keys.contains(&key), "{key} is not in {keys:?}");
        }
        assert!(
            command.get_args().all(|arg| arg == "version"),
            "no login among them"
        );
    }
}
