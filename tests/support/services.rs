//! Stand-ins for the services that keep caches, each started once for all tests that want it.
//!
//! `services/*.py` start them, and end with the tests. What they need from elsewhere is set up by
//! `scripts/test` in cooper's cache directory.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A running service.
pub(crate) struct Service {
    /// How it is reached, and what it lets in.
    pub(crate) hello: Value,
    line: Mutex<Line>,
}

struct Line {
    _child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Service {
    /// A server of S3 with one bucket, `caches`.
    pub(crate) fn s3() -> &'static Self {
        static SERVICE: OnceLock<Service> = OnceLock::new();
        SERVICE.get_or_init(|| Self::start(&set_up("python/bin/python"), "s3.py", &[]))
    }

    /// A server of Azure Blob Storage without containers.
    pub(crate) fn azure() -> &'static Self {
        static SERVICE: OnceLock<Service> = OnceLock::new();
        let azurite = || set_up("node_modules/.bin/azurite-blob");
        SERVICE.get_or_init(|| Self::start("python3", "azure.py", &[azurite()]))
    }

    /// A server of the cache of GitHub Actions.
    pub(crate) fn actions() -> &'static Self {
        static SERVICE: OnceLock<Service> = OnceLock::new();
        SERVICE.get_or_init(|| Self::start("python3", "actions.py", &[]))
    }

    fn start(python: &str, script: &str, args: &[String]) -> Self {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support/services");
        let mut child = Command::new(python)
            .arg("-B")
            .arg(dir.join(script))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = Line {
            to: child.stdin.take().unwrap(),
            from: BufReader::new(child.stdout.take().unwrap()),
            _child: child,
        };
        Self {
            hello: line.read(script),
            line: Mutex::new(line),
        }
    }

    /// What the greeting says under `name`.
    pub(crate) fn says(&self, name: &str) -> &str {
        self.hello[name].as_str().unwrap()
    }

    fn command(&self, command: &Value) -> Value {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(line.to, "{command}").unwrap();
        line.read(&command.to_string())
    }

    /// Lists the keys below `prefix`, or in a container.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        serde_json::from_value(self.command(&json!(["keys", prefix]))).unwrap()
    }

    pub(crate) fn get(&self, key: &str) -> Vec<u8> {
        let data = self.command(&json!(["get", key]));
        STANDARD.decode(data.as_str().unwrap()).unwrap()
    }

    pub(crate) fn put(&self, key: &str, data: &[u8]) {
        self.command(&json!(["put", key, STANDARD.encode(data)]));
    }

    /// What is kept beside an object.
    pub(crate) fn metadata(&self, key: &str) -> Value {
        self.command(&json!(["metadata", key]))
    }
}

impl Line {
    fn read(&mut self, after: &str) -> Value {
        let mut text = String::new();
        self.from.read_line(&mut text).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("no answer to {after}: {text}"))
    }
}

/// A program that `scripts/test` installs for the tests.
#[expect(
    clippy::disallowed_methods,
    reason = "the scripts say by the environment where their cache is"
)]
fn set_up(name: &str) -> String {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| {
        let home = std::env::var_os("HOME").unwrap();
        PathBuf::from(home).join(".cache")
    });
    let path = cache.join("cooper/services").join(name);
    assert!(path.exists(), "scripts/test sets up {}", path.display());
    path.to_str().unwrap().to_owned()
}
