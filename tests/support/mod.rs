//! What the tests of the two programs stand on.
//!
//! [`TestEnv`] is a directory with a build context, a store of its own and nothing else: the
//! programs run in an empty environment with only what a test adds. [`Output`] must be judged,
//! by [`ok`](Output::ok) or [`fails`](Output::fails). Shown text has what differs from run to
//! run replaced, so that it can be compared as a whole. No test uses the network beyond
//! loopback.

#![allow(dead_code, reason = "each test binary uses its part")]

mod busybox;
pub(crate) mod canary;
mod filter;
pub(crate) mod git;
pub(crate) mod held;
#[path = "../registry/support.rs"]
mod servers;
pub(crate) mod services;
pub(crate) mod tree;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[allow(unused_imports, reason = "each test binary uses its part")]
pub(crate) use servers::{Certs, Server, Setup, Temp, run};

/// The programs, as cargo built them.
const COOPER: &str = env!("CARGO_BIN_EXE_cooper");
const CASK: &str = env!("CARGO_BIN_EXE_cask");

/// Search path of the programs: newuidmap and credential helpers of tests come from there.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A directory, a store and an environment for one test.
pub(crate) struct TestEnv {
    dir: Temp,
    user: Option<User>,
    vars: Vec<(OsString, OsString)>,
}

/// Somebody to run as.
#[derive(Debug, Clone)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
}

impl TestEnv {
    /// Makes an empty build context and a place for a store.
    pub(crate) fn new() -> Self {
        let dir = Temp::new();
        fs::create_dir(dir.path("context")).unwrap();
        fs::create_dir(dir.path("home")).unwrap();
        Self {
            dir,
            user: None,
            vars: Vec::new(),
        }
    }

    /// The same for the ordinary user `name`: `sub` has sub-ids, `nosub` has none. Needs root,
    /// to become that user.
    pub(crate) fn as_user(name: &str) -> Self {
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let fields = passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let entry = fields.into_iter().find(|fields| fields[0] == name);
        let entry = entry.unwrap_or_else(|| panic!("the tests need a user `{name}`"));
        let user = User {
            name: name.to_owned(),
            uid: entry[2].parse().unwrap(),
            gid: entry[3].parse().unwrap(),
        };
        let mut env = Self::new();
        for path in [env.dir.0.clone(), env.path(""), env.dir.path("home")] {
            std::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid)).unwrap();
        }
        env.user = Some(user);
        env
    }

    /// Returns a path in the build context.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path("context").join(name)
    }

    /// Returns a path beside the build context.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path(name)
    }

    /// Returns where the store is.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path("root")
    }

    /// Writes a file of the context.
    pub(crate) fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        self.write(name, text);
        self
    }

    /// Writes the Dockerfile.
    pub(crate) fn dockerfile(self, text: &str) -> Self {
        self.file("Dockerfile", text)
    }

    /// Returns whether programs are shut in by namespaces here, so that containers and networks
    /// of their own can be had.
    pub(crate) fn isolates(&self) -> bool {
        let chroot = ("COOPER_ISOLATION".into(), "chroot".into());
        !self.vars.contains(&chroot)
    }

    /// Returns the options of a build that needs no network, which are none where each step has
    /// that of the machine.
    pub(crate) fn offline(&self) -> &'static [&'static str] {
        match self.isolates() {
            true => &["--network=none"],
            false => &[],
        }
    }

    /// Sets a variable for the programs.
    pub(crate) fn var(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.vars.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Writes or replaces a file of the context and its parents.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }

    /// Changes the mode of a file of the context.
    pub(crate) fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Makes a symbolic link in the context.
    pub(crate) fn symlink(&self, to: &str, name: &str) {
        std::os::unix::fs::symlink(to, self.path(name)).unwrap();
    }

    /// Removes a file of the context.
    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// Builds the context with plain progress.
    pub(crate) fn build(&self) -> Output {
        self.build_with(&[])
    }

    /// Builds the context with further options.
    pub(crate) fn build_with(&self, options: &[&str]) -> Output {
        let mut args = vec!["build", "--progress=plain"];
        args.extend(options);
        args.push(".");
        self.cooper(&args)
    }

    /// Makes the image `name` of busybox and its applets, without any registry.
    pub(crate) fn busybox(&self, name: &str) {
        let dir = self.beside("busybox");
        fs::create_dir_all(&dir).unwrap();
        busybox::write_rootfs(&dir.join("rootfs.tar"));
        let dockerfile = "FROM scratch\nADD rootfs.tar /\nENV PATH=/bin\nCMD [\"sh\"]\n";
        fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
        self.cooper(&["build", "-q", "-t", name, dir.to_str().unwrap()])
            .ok();
    }

    /// Runs `cooper` in the context.
    pub(crate) fn cooper(&self, args: &[&str]) -> Output {
        self.run(COOPER, args, None)
    }

    /// Runs `cooper` with `input` as standard input.
    pub(crate) fn cooper_reading(&self, input: &[u8], args: &[&str]) -> Output {
        self.run(COOPER, args, Some(input))
    }

    /// Runs `cask` in the context.
    pub(crate) fn cask(&self, args: &[&str]) -> Output {
        self.run(CASK, args, None)
    }

    /// Runs `cask` with `input` as standard input.
    pub(crate) fn cask_reading(&self, input: &[u8], args: &[&str]) -> Output {
        self.run(CASK, args, Some(input))
    }

    /// Prepares one of the programs, for tests that want to kill it or give it a terminal.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = match &self.user {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                let (uid, gid) = (
                    format!("--reuid={}", user.uid),
                    format!("--regid={}", user.gid),
                );
                command.args([&uid, &gid, "--init-groups", "--", program]);
                command
            }
        };
        command
            .current_dir(self.path(""))
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", self.dir.path("home"))
            .env("COOPER_ROOT", self.root())
            .envs(self.vars.iter().cloned());
        command
    }

    fn run(&self, program: &str, args: &[&str], input: Option<&[u8]>) -> Output {
        let mut command = self.command(program);
        command
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        let mut child = command.spawn().unwrap();
        let feeder = child.stdin.take().map(|mut stdin| {
            let input = input.unwrap_or_default().to_vec();
            // A program that does not read all of its input closes it, which is its right.
            std::thread::spawn(move || drop(stdin.write_all(&input)))
        });
        let out = child.wait_with_output().unwrap();
        feeder.map(std::thread::JoinHandle::join);
        let name = Path::new(program).file_name().unwrap().to_string_lossy();
        Output {
            command: format!("{name} {}", args.join(" ")),
            dir: self.dir.0.clone(),
            code: out.status.code(),
            stdout: out.stdout,
            stderr: out.stderr,
        }
    }
}

/// Checks on the rungs that isolate: root, a user with sub-ids, and one with a single id.
pub(crate) fn everybody(mut check: impl FnMut(TestEnv)) {
    for env in [
        TestEnv::new(),
        TestEnv::as_user("sub"),
        TestEnv::as_user("nosub"),
    ] {
        env.busybox("busybox");
        check(env);
    }
}

/// Checks on every rung that runs steps: those of [`everybody`], and by chroot as root.
pub(crate) fn every_runner(mut check: impl FnMut(TestEnv)) {
    everybody(&mut check);
    let env = TestEnv::new().var("COOPER_ISOLATION", "chroot");
    env.busybox("busybox");
    check(env);
}

/// Checks on every rung there is: those that run steps, and as a user without namespaces, for
/// whom all but RUN works.
pub(crate) fn everywhere(mut check: impl FnMut(TestEnv)) {
    every_runner(&mut check);
    let env = TestEnv::as_user("nosub").var("COOPER_ISOLATION", "chroot");
    env.busybox("busybox");
    check(env);
}

/// What a program did.
#[must_use = "an output that nobody judges tests nothing"]
#[derive(Debug)]
pub(crate) struct Output {
    command: String,
    dir: PathBuf,
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// An output whose exit code was the expected one.
#[derive(Debug)]
pub(crate) struct Judged(Output);

impl Output {
    /// Takes success and nothing else.
    #[track_caller]
    pub(crate) fn ok(self) -> Judged {
        self.exits(0)
    }

    /// Takes a failure with this exit code.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> Judged {
        assert_ne!(code, 0, "success is no failure");
        self.exits(code)
    }

    /// Takes any exit code: what counts is what was written.
    pub(crate) fn any(self) -> Judged {
        Judged(self)
    }

    /// Takes any of these exit codes: where a race decides, or refusing is as good as confining.
    #[track_caller]
    pub(crate) fn exits_any(self, codes: &[i32]) -> Judged {
        let code = self.code.filter(|code| codes.contains(code));
        self.exits(code.unwrap_or(codes[0]))
    }

    /// Takes exactly this exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Judged {
        let (out, err) = (text(&self.stdout), text(&self.stderr));
        let got = self.code;
        assert_eq!(
            got,
            Some(code),
            "`{}`\nstdout: {out}\nstderr: {err}",
            self.command
        );
        Judged(self)
    }
}

impl Judged {
    /// Returns standard output as it came.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0.stdout
    }

    /// Returns standard output, without the last line end.
    pub(crate) fn stdout(&self) -> String {
        let text = text(&self.0.stdout);
        text.strip_suffix('\n').map(str::to_owned).unwrap_or(text)
    }

    /// Returns standard error.
    pub(crate) fn stderr(&self) -> String {
        text(&self.0.stderr)
    }

    /// Returns standard output with directories, digests, times and ports replaced.
    pub(crate) fn shown(&self) -> String {
        filter::stable(&self.stdout(), &self.0.dir)
    }

    /// Returns standard error with directories, digests, times and ports replaced.
    pub(crate) fn shown_err(&self) -> String {
        filter::stable(&self.stderr(), &self.0.dir)
    }

    /// Returns the steps that plain progress showed, each with `cached`, `ran` or `failed`, in
    /// the order they ended.
    pub(crate) fn steps(&self) -> Vec<String> {
        filter::steps(&self.stderr())
    }

    /// Takes standard error only when it holds `part`.
    #[track_caller]
    pub(crate) fn says(self, part: &str) -> Self {
        let err = self.stderr();
        assert!(
            err.contains(part),
            "`{}` does not say {part:?}:\n{err}",
            self.0.command
        );
        self
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
