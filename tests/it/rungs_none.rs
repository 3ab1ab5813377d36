//! Inside a namespace that somebody else made, and where none can be had.

use std::process::Command;

use crate::support::TestEnv;

const COOPER: &str = env!("CARGO_BIN_EXE_cooper");

const WITHOUT_RUN: &str = "
FROM scratch AS first
ADD rootfs.tar /
COPY --chown=33:34 Dockerfile /d/
FROM scratch
COPY --from=first / /
ENV A=b
";

fn env() -> TestEnv {
    let env = TestEnv::as_user("nosub").dockerfile(WITHOUT_RUN);
    env.busybox("busybox");
    std::fs::copy(env.beside("busybox/rootfs.tar"), env.path("rootfs.tar")).unwrap();
    env
}

/// Runs a command and returns its exit code and what it wrote.
fn run(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.code(), text)
}

#[test]
fn an_unshared_user_namespace_is_used_as_it_is() {
    let env = env();
    env.write(
        "Dockerfile",
        format!("{WITHOUT_RUN}RUN chown 5 /d && su app -c 'id -u'\n"),
    );
    let mut command = env.command("unshare");
    command.args([
        "-Ur",
        COOPER,
        "build",
        "--network=none",
        "--progress=plain",
        ".",
    ]);
    let (code, said) = run(command);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("a single id, owners are remembered"),
        "{said}"
    );
    assert!(said.contains(" 1000\n"), "{said}");
}

#[test]
fn without_user_namespaces_all_but_run_works_and_run_is_refused_with_line_and_fix() {
    let env = env();
    let inside = |dockerfile: &str| {
        env.write("Dockerfile", dockerfile);
        let mut command = env.command("unshare");
        let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                      exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
        command.args(["-Ur", "sh", "-c", script, "sh", COOPER, "--root"]);
        command.arg(env.beside("other"));
        command.args(["build", "--network=none", "--progress=plain", "."]);
        run(command)
    };
    let (code, said) = inside(WITHOUT_RUN);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("isolation: none, RUN is refused: user namespaces are switched off"),
        "{said}"
    );
    let (code, said) = inside(&format!("{WITHOUT_RUN}RUN true\n"));
    assert_eq!(code, Some(1), "{said}");
    for part in [
        "RUN can't be isolated here",
        "--> Dockerfile:8:1",
        "user namespaces are switched off (user.max_user_namespaces is 0)",
        "`sysctl user.max_user_namespaces=15000`, as root",
    ] {
        assert!(said.contains(part), "no `{part}` in\n{said}");
    }
}

#[test]
fn a_container_is_refused_where_it_cannot_be_isolated() {
    let env = env().var("COOPER_ISOLATION", "chroot");
    let root = env.beside("other");
    let root = root.to_str().unwrap();
    let _ = env
        .cooper(&["--root", root, "build", "-q", "-t", "x", "."])
        .ok();
    let _ = env
        .cask(&["--root", root, "run", "--rm", "x", "true"])
        .fails(125)
        .says("a container can't be isolated here")
        .says("`chroot` isolation was asked for");
}
