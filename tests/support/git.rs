//! Git repositories that a test makes, and servers for them on loopback.
//!
//! A server is smart (`git http-backend` answers) or dumb (files as they lie there), and notes
//! what it was asked for.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// A repository `NAME.git` with a work tree beside it.
#[derive(Debug)]
pub(crate) struct Repo {
    dir: PathBuf,
    work: PathBuf,
}

impl Repo {
    /// Makes an empty repository below `root`, with `main` as its branch.
    pub(crate) fn new(root: &Path, name: &str) -> Self {
        let repo = Self {
            dir: root.join(format!("{name}.git")),
            work: root.join(format!("{name}.work")),
        };
        fs::create_dir_all(&repo.work).unwrap();
        repo.git(&["init", "--quiet", "-b", "main"]);
        repo
    }

    /// Returns a path in the work tree.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// Writes a file of the work tree.
    pub(crate) fn file(&self, name: &str, text: &str) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Commits the work tree as it is and returns the commit's id.
    pub(crate) fn commit(&self) -> String {
        self.git(&["add", "--all", "."]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "a commit"]);
        self.git(&["update-server-info"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git on the repository.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let out = Command::new("git")
            .args(args)
            .current_dir(&self.work)
            .env_clear()
            .envs([("PATH", super::PATH), ("HOME", "/nonexistent")])
            .env("GIT_DIR", &self.dir)
            .env("GIT_WORK_TREE", &self.work)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "t")))
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "t@t")))
            .envs(
                ["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_DATE"), "1445412480 +0000")),
            )
            .output()
            .expect("git is installed");
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "git {args:?}: {errors}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }
}

/// How a server answers.
#[derive(Debug, Clone)]
struct Manner {
    root: PathBuf,
    smart: bool,
    /// The `Authorization` that is asked for.
    login: Option<&'static str>,
    asked: Arc<Mutex<Vec<String>>>,
}

/// A server for the repositories below one directory, until the test ends.
#[derive(Debug)]
pub(crate) struct GitServer {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl GitServer {
    /// Speaks git's own protocol.
    pub(crate) fn smart(root: &Path) -> Self {
        Self::start(root, true, None)
    }

    /// Serves files and nothing else.
    pub(crate) fn dumb(root: &Path) -> Self {
        Self::start(root, false, None)
    }

    /// Speaks git's own protocol with those who send this `Authorization`.
    pub(crate) fn private(root: &Path, login: &'static str) -> Self {
        Self::start(root, true, Some(login))
    }

    fn start(root: &Path, smart: bool, login: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let manner = Manner {
            root: root.to_owned(),
            smart,
            login,
            asked: Arc::clone(&asked),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let manner = manner.clone();
                // A client that goes away early is its own affair.
                std::thread::spawn(move || drop(manner.answer(stream)));
            }
        });
        Self { port, asked }
    }

    /// Returns the address of the repository `name`.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}.git", self.port)
    }

    /// Returns host and port.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns what was asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Manner {
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut input = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        input.read_line(&mut line)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            input.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        self.asked
            .lock()
            .unwrap()
            .push(format!("{method} {target}"));
        let header = |name: &str| {
            let found = headers.iter().find(|(key, _)| key == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
        input.read_exact(&mut body)?;
        if self
            .login
            .is_some_and(|login| header("authorization") != login)
        {
            return reply(
                stream,
                "401 Unauthorized",
                "WWW-Authenticate: Basic\r\n",
                b"",
            );
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        if !self.smart {
            return match fs::read(self.root.join(path.trim_start_matches('/'))) {
                Ok(bytes) => reply(stream, "200 OK", "", &bytes),
                Err(_) => reply(stream, "404 Not Found", "", b""),
            };
        }
        let mut child = Command::new("git")
            .arg("http-backend")
            .env_clear()
            .env("PATH", super::PATH)
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .env("REQUEST_METHOD", &method)
            .env("PATH_INFO", path)
            .env("QUERY_STRING", query)
            .env("CONTENT_TYPE", header("content-type"))
            .env("CONTENT_LENGTH", body.len().to_string())
            .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
            .env("GIT_PROTOCOL", header("git-protocol"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut stdin = child.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&body)));
        let out = child.wait_with_output()?.stdout;
        drop(feeder.join());
        let split = out.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&out[..split]);
        let status = head.lines().find_map(|line| line.strip_prefix("Status: "));
        let kept: String = head
            .lines()
            .filter(|line| !line.starts_with("Status"))
            .map(|line| format!("{line}\r\n"))
            .collect();
        reply(stream, status.unwrap_or("200 OK"), &kept, &out[split + 4..])
    }
}

fn reply(mut to: TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    );
    to.write_all(head.as_bytes())?;
    to.write_all(body)
}
