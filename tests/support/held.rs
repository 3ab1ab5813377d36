//! What a test starts and must not leave behind, whatever becomes of the test.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};

use super::{COOPER, TestEnv};

/// A container that is removed when dropped.
pub(crate) struct Container<'t> {
    env: &'t TestEnv,
    name: &'t str,
}

impl<'t> Container<'t> {
    /// Starts `cask run -d` with these further arguments and without a network.
    pub(crate) fn start(env: &'t TestEnv, name: &'t str, args: &[&str]) -> Self {
        let held = Self { env, name };
        let run = ["run", "-d", "--network=none", "--name", name];
        env.cask(&[&run, args].concat()).ok();
        held
    }

    /// Runs a script in it and returns what it wrote.
    pub(crate) fn sh(&self, script: &str) -> String {
        let exec = ["exec", self.name, "sh", "-c", script];
        self.env.cask(&exec).ok().stdout()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // Where it never began there is nothing to remove.
        let _ = self.env.cask(&["rm", "-f", self.name]).any();
    }
}

/// A shell's loop that swaps the directory `part` and the link `link`, both in `dir`, as long as
/// `goes_on` does.
pub(crate) fn swapping(dir: &str, goes_on: &str) -> String {
    format!(
        "cd {dir}; n=0; while {goes_on}; do mv -T part was; mv -T link part; mv -T part link; \
         mv -T was part; n=$((n+1)); done 2>/dev/null; echo swapped $n times"
    )
}

/// A build whose step swaps a directory and a link inside the cache `r` while others use it. It is
/// killed when dropped.
pub(crate) struct Swapper<'t> {
    env: &'t TestEnv,
    build: Child,
    said: BufReader<ChildStderr>,
}

impl<'t> Swapper<'t> {
    /// Starts it, and returns when `part` and `link`, which leads to `to`, are there.
    pub(crate) fn start(env: &'t TestEnv, to: &Path) -> Self {
        let swapping = swapping("/c", "test ! -e /c/stop");
        let text = format!(
            "FROM busybox\nRUN --mount=type=cache,id=r,target=/c \
             mkdir -p /c/part; ln -sfn {} /c/link; echo both there; {swapping}\n",
            to.display()
        );
        env.write("Dockerfile", text);
        let mut build = env.command(COOPER);
        build.args(["build", "--network=none", "--progress=plain", "."]);
        build.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut build = build.spawn().unwrap();
        let said = BufReader::new(build.stderr.take().unwrap());
        let mut this = Self { env, build, said };
        let mut text = String::new();
        while !text.ends_with(" both there\n") {
            let more = this.said.read_line(&mut text).unwrap();
            assert_ne!(more, 0, "{text}");
        }
        this
    }

    /// Has it end, and fails unless it ran until now.
    pub(crate) fn stop(mut self) {
        self.env.write(
            "Dockerfile",
            "FROM busybox\nRUN --mount=type=cache,id=r,target=/c touch /c/stop\n",
        );
        self.env.build_with(&["--network=none"]).ok();
        let mut text = String::new();
        self.said.read_to_string(&mut text).unwrap();
        assert!(self.build.wait().unwrap().success(), "{text}");
        let swapped = text.contains("swapped ") && !text.contains("swapped 0 ");
        assert!(swapped, "nothing raced: {text}");
    }
}

impl Drop for Swapper<'_> {
    fn drop(&mut self) {
        // It has ended already if all went well.
        let _ = self.build.kill();
        let _ = self.build.wait();
    }
}
