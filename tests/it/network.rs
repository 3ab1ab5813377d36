//! Private networks: what a step or container reaches, what it does not, and what is left of it.
//!
//! Each test is a thread in a network namespace of its own, which plays the machine: its servers
//! and the programs it starts live there, and no packet leaves it. Needs root for that, and
//! `unshare` (Debian: util-linux) to give programs a name server or a /dev/net/tun of their own.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Judged, TestEnv};

/// Addresses of the machine that others can see.
pub(super) const OUTSIDE: &str = "192.0.2.1";
pub(super) const OUTSIDE_6: &str = "2001:db8::1";

/// Runs `test` on a machine of its own: loopback and the two addresses.
pub(super) fn on_a_machine(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        cooper::sys::net::unshare_network().expect("these tests need root");
        cooper::sys::net::loopback_up().unwrap();
        for address in [format!("{OUTSIDE}/32"), format!("{OUTSIDE_6}/128")] {
            let ip = ["ip", "address", "add", &address, "dev", "lo"];
            let done = Command::new("/bin/busybox").args(ip).status().unwrap();
            assert!(done.success(), "{address}");
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Serves one connection after the other on a free port of `address`, until the test ends.
pub(super) fn server(address: &str, serve: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            serve(connection.unwrap());
        }
    });
    port
}

/// Says hello and hangs up.
pub(super) fn hello(mut connection: TcpStream) {
    connection.write_all(b"hello\n").unwrap();
}

/// Sends back all that came, once the other side has sent everything.
fn echo_all(mut connection: TcpStream) {
    let mut all = Vec::new();
    connection.read_to_end(&mut all).unwrap();
    connection.write_all(&all).unwrap();
}

/// Answers every question for an address with 203.0.113.7.
fn name_server(address: &str) {
    let socket = UdpSocket::bind((address, 53)).unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut question) {
            let mut answer = question[..length].to_vec();
            // An answer, recursion available; with one record after the question.
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[6..8].copy_from_slice(&[0, 1]);
            answer[8..12].fill(0);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 7]);
            socket.send_to(&answer, asker).unwrap();
        }
    });
}

fn env() -> TestEnv {
    let t = TestEnv::new();
    t.busybox("busybox");
    t
}

/// Runs `script` in a container with a private network.
fn cask(t: &TestEnv, options: &[&str], script: &str) -> Judged {
    let mut args = vec!["run", "--rm", "--network=private"];
    args.extend(options);
    args.extend(["busybox", "sh", "-c", script]);
    t.cask(&args).ok()
}

/// Runs a program of `t` after `prepare`, which root's shell executes with a mount namespace for
/// itself and the program.
pub(super) fn prepared(
    t: &TestEnv,
    prepare: &str,
    program: &str,
    args: &[&str],
) -> (bool, String, String) {
    let inner = t.command(program);
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-ec"])
        .arg(format!("{prepare}\nexec \"$@\""))
        .arg("sh")
        .arg(inner.get_program())
        .args(inner.get_args())
        .args(args)
        .current_dir(t.path(""))
        .env_clear()
        .stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap());
    }
    let out = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.success(), text(out.stdout), text(out.stderr))
}

const COOPER: &str = env!("CARGO_BIN_EXE_cooper");
pub(super) const CASK: &str = env!("CARGO_BIN_EXE_cask");

/// Opens /dev/net/tun to everyone.
pub(super) const OPEN_TUN: &str = "mount -t tmpfs none /dev/net
mknod /dev/net/tun c 10 200
chmod 666 /dev/net/tun";

/// Tells how many processes live in this thread's network namespace, besides ours.
fn processes() -> usize {
    let namespace = |path: String| std::fs::read_link(path + "/ns/net").ok();
    let here = namespace("/proc/thread-self".to_owned());
    assert!(here.is_some());
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.parse::<u32>().ok()
    });
    pids.filter(|pid| namespace(format!("/proc/{pid}")) == here)
        .count()
}

/// Waits until the last process of this thread's network namespace is gone.
pub(super) fn no_process_is_left() {
    for _ in 0..3000 {
        if processes() == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{} processes are left", processes());
}

/// Waits for the end of a connection, in order or not: which of the two the kernel reports
/// depends on what was under way.
fn ends(connection: &mut TcpStream) {
    match connection.read(&mut [0]) {
        Ok(0) => (),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => (),
        other => panic!("not an end: {other:?}"),
    }
}

#[test]
fn bytes_arrive_whole_in_both_directions_and_halves_close_one_by_one() {
    on_a_machine(|| {
        let t = env();
        let (port, port6) = (server(OUTSIDE, echo_all), server(OUTSIDE_6, echo_all));
        let script = format!(
            "head -c 20000000 /dev/urandom > /tmp/a
            nc {OUTSIDE} {port} < /tmp/a | cmp - /tmp/a && echo same
            nc {OUTSIDE_6} {port6} < /tmp/a | cmp - /tmp/a && echo same"
        );
        assert_eq!(cask(&t, &[], &script).stdout(), "same\nsame");
    });
}

#[test]
fn two_hundred_connections_are_open_at_once() {
    on_a_machine(|| {
        let t = env();
        let listener = TcpListener::bind((OUTSIDE, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            // Nobody is answered before all are there.
            let all: Vec<_> = listener.incoming().take(200).collect();
            for connection in all {
                hello(connection.unwrap());
            }
        });
        let script = format!(
            "for i in $(seq 200); do nc {OUTSIDE} {port} </dev/null >>/tmp/out & done
            wait; grep -c hello /tmp/out"
        );
        assert_eq!(cask(&t, &[], &script).stdout(), "200");
    });
}

#[test]
fn refusals_and_missing_routes_are_told_apart_at_once() {
    on_a_machine(|| {
        let t = env();
        let closed = TcpListener::bind((OUTSIDE, 0)).unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        let script = format!(
            "for to in {OUTSIDE} {OUTSIDE_6} 198.51.100.1 2001:db8:1::1; do
                nc $to {port} </dev/null 2>&1; done; :"
        );
        let said = cask(&t, &[], &script).stdout();
        let why: Vec<_> = said.lines().map(|line| line.rsplit(": ").next()).collect();
        let (refused, none) = (Some("Connection refused"), Some("Network is unreachable"));
        assert_eq!(why, [refused, refused, none, none], "{said}");
    });
}

#[test]
fn a_reset_from_outside_is_a_reset_inside() {
    on_a_machine(|| {
        let t = env();
        let port = server(OUTSIDE, |connection| {
            // What was sent and not read turns the close into a reset.
            let mut first = [0];
            (&connection).read_exact(&mut first).unwrap();
        });
        // EstabResets of RFC 4022: of connections that the program had not begun to close.
        let resets = "awk '/^Tcp:/ { print $9 }' /proc/net/snmp | tail -n 1";
        let script = format!("nc {OUTSIDE} {port} </dev/zero; {resets}");
        assert_eq!(cask(&t, &[], &script).stdout(), "1");
    });
}

#[test]
fn the_machines_loopback_is_out_of_reach_unless_asked_for() {
    on_a_machine(|| {
        let t = env();
        let port = server("127.0.0.1", hello);
        let script = format!(
            "nc 127.0.0.1 {port} </dev/null; nc 10.217.93.1 {port} </dev/null
            nc 10.217.93.3 {port} </dev/null; echo done"
        );
        assert_eq!(cask(&t, &[], &script).stdout(), "done");
        let script = format!("nc host.docker.internal {port} </dev/null");
        let options = ["--add-host=host.docker.internal:host-gateway"];
        assert_eq!(cask(&t, &options, &script).stdout(), "hello");
        t.write(
            "Dockerfile",
            format!("FROM busybox\nRUN nc host.docker.internal {port} </dev/null >/said\n"),
        );
        let _ = t
            .build_with(&["--network=private", options[0], "-t", "x"])
            .ok();
        let _ = t.build_with(&["--network=private", "-t", "x"]).fails(1);
    });
}

#[test]
fn names_are_answered_by_the_machines_server_on_loopback_and_by_the_one_asked_for() {
    on_a_machine(|| {
        let t = env();
        name_server("127.0.0.1");
        name_server(OUTSIDE);
        let resolv = t.beside("resolv.conf");
        std::fs::write(&resolv, "nameserver 127.0.0.1\nsearch example.test\n").unwrap();
        let prepare = format!("mount --bind {} /etc/resolv.conf", resolv.display());
        let run = ["run", "--rm", "--network=private"];
        let look = "cat /etc/resolv.conf; nslookup -type=a app.test | tail -n 3";
        let ask = |options: &[&str]| {
            let args = [&run, options, &["busybox", "sh", "-c", look]].concat();
            let (ok, out, err) = prepared(&t, &prepare, CASK, &args);
            assert!(ok, "{err}");
            assert!(out.contains("Address: 203.0.113.7"), "{out}");
            out
        };
        let out = ask(&[]);
        assert!(
            out.starts_with("nameserver 10.217.93.3\nsearch example.test\n"),
            "{out}"
        );
        let out = ask(&["--dns=192.0.2.1"]);
        assert!(
            out.starts_with("nameserver 192.0.2.1\nsearch example.test\n"),
            "{out}"
        );
    });
}

#[test]
fn the_next_name_server_is_asked_when_the_first_is_silent() {
    on_a_machine(|| {
        let t = env();
        let silent = UdpSocket::bind(("127.0.0.1", 53)).unwrap();
        name_server(OUTSIDE);
        let resolv = t.beside("resolv.conf");
        std::fs::write(&resolv, "nameserver 127.0.0.1\nnameserver 192.0.2.1\n").unwrap();
        let prepare = format!("mount --bind {} /etc/resolv.conf", resolv.display());
        let look = ["busybox", "ping", "-c1", "-W1", "app.test"];
        let run = ["run", "--rm", "--network=private"];
        let (_, out, err) = prepared(&t, &prepare, CASK, &[&run[..], &look[..]].concat());
        assert!(out.starts_with("PING app.test (203.0.113.7)"), "{out}{err}");
        drop(silent);
    });
}

#[test]
fn the_gateway_answers_echo_requests() {
    on_a_machine(|| {
        let t = env();
        let script = "for to in 10.217.93.1 fd6b:c1a7:5e0b::1; do ping -c2 -i0.1 $to; done";
        let out = cask(&t, &[], script).stdout();
        assert_eq!(out.matches("2 packets received").count(), 2, "{out}");
    });
}

#[test]
fn steps_have_networks_of_their_own_and_share_one_stack() {
    on_a_machine(|| {
        let t = env();
        let port = server(OUTSIDE, hello);
        // `a` and `b` run at the same time, and neither may see what the other listens on.
        let stage = |name: &str| {
            format!(
                "FROM busybox AS {name}
                RUN nc -l -p 7777 & nc {OUTSIDE} {port} </dev/null >/{name}; \
                    grep -c :1E61 /proc/net/tcp6 /proc/net/tcp; kill $!
                RUN nc {OUTSIDE} {port} </dev/null >>/{name}; cat /proc/net/tcp | wc -l\n"
            )
        };
        let last = "FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\nRUN cat /a /b\n";
        t.write("Dockerfile", stage("a") + &stage("b") + last);
        let out = t.build_with(&["--network=private", "--jobs=2"]).ok();
        assert_eq!(out.stderr().matches("hello").count(), 4);
        no_process_is_left();
    });
}

#[test]
fn a_build_that_is_killed_takes_its_network_with_it() {
    on_a_machine(|| {
        let t = env();
        let listener = TcpListener::bind((OUTSIDE, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        t.write(
            "Dockerfile",
            format!("FROM busybox\nRUN sleep 1000 | nc {OUTSIDE} {port}\n"),
        );
        let mut build = t
            .command(COOPER)
            .args(["build", "--network=private", "--progress=plain", "."])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (mut connection, _) = listener.accept().unwrap();
        assert!(processes() > 0);
        build.kill().unwrap();
        build.wait().unwrap();
        ends(&mut connection);
        no_process_is_left();
    });
}

#[test]
fn a_program_that_dies_closes_its_connections() {
    on_a_machine(|| {
        let t = env();
        let listener = TcpListener::bind((OUTSIDE, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = format!("sleep 1000 | nc {OUTSIDE} {port} & read x; kill -9 $!; sleep 1000");
        let run = ["run", "--rm", "-i", "--name=talks", "--network=private"];
        let mut run = t
            .command(CASK)
            .args(run)
            .args(["busybox", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut connection, _) = listener.accept().unwrap();
        run.stdin.take().unwrap().write_all(b"go\n").unwrap();
        ends(&mut connection);
        let _ = t.cask(&["rm", "-f", "talks"]).ok();
        // Its container was killed under it, and it says so by its exit code.
        assert_eq!(run.wait().unwrap().code(), Some(137));
        no_process_is_left();
    });
}

#[test]
fn an_ordinary_user_has_a_private_network_where_the_device_is_open() {
    on_a_machine(|| {
        let t = TestEnv::as_user("sub");
        t.busybox("busybox");
        let port = server(OUTSIDE, echo_all);
        let script = format!(
            "head -c 3000000 /dev/urandom > /tmp/a
            nc {OUTSIDE} {port} < /tmp/a | cmp - /tmp/a && echo same"
        );
        let run = [
            "run",
            "--rm",
            "--network=private",
            "busybox",
            "sh",
            "-c",
            &script,
        ];
        let (ok, out, err) = prepared(&t, OPEN_TUN, CASK, &run);
        assert!(ok, "{err}");
        assert_eq!(out, "same\n");
        t.write(
            "Dockerfile",
            format!("FROM busybox\nRUN echo hello | nc {OUTSIDE} {port} >/a\nRUN cat /a\n"),
        );
        let build = ["build", "--network=private", "--progress=plain", "."];
        let (ok, _, err) = prepared(&t, OPEN_TUN, COOPER, &build);
        assert!(ok && err.contains("hello"), "{err}");
    });
}

#[test]
fn a_network_of_its_own_is_the_default_of_steps_and_containers() {
    on_a_machine(|| {
        let t = env();
        let port = server("127.0.0.1", hello);
        let look = format!("nc 127.0.0.1 {port} </dev/null; ls /sys/class/net");
        let run = ["run", "--rm", "busybox", "sh", "-c", &look];
        assert_eq!(t.cask(&run).ok().stdout(), "eth0\nlo");
        t.write("Dockerfile", format!("FROM busybox\nRUN {look} | tee /a\n"));
        let err = t.build().ok().stderr();
        assert!(err.contains("eth0") && !err.contains("hello"), "{err}");
        t.write("Dockerfile", "FROM busybox\nRUN --network=host true\n");
        t.build().fails(1).says("network.host is not allowed");
    });
}

#[test]
fn without_the_device_the_machines_network_is_said_to_be_used_or_refused() {
    on_a_machine(|| {
        let t = TestEnv::as_user("sub");
        t.busybox("busybox");
        let port = server("127.0.0.1", hello);
        t.write(
            "Dockerfile",
            format!("FROM busybox\nRUN nc 127.0.0.1 {port} </dev/null\n"),
        );
        let closed = "mount -t tmpfs none /dev/net
mknod -m 600 /dev/net/tun c 10 200";
        let build = |network: &str| {
            let args = ["build", network, "--progress=plain", "."];
            prepared(&t, closed, COOPER, &args)
        };
        let why = "no private network (Permission denied): ";
        let (ok, _, err) = build("--no-cache");
        assert!(ok && err.contains("hello"), "{err}");
        assert_eq!(err.matches(why).count(), 1, "{err}");
        let script = format!("nc 127.0.0.1 {port} </dev/null");
        let run = ["run", "--rm", "busybox", "sh", "-c", &script];
        let (ok, out, err) = prepared(&t, closed, CASK, &run);
        assert!(ok && out == "hello\n" && err.contains(why), "{out}{err}");
        let (ok, _, err) = build("--network=private");
        assert!(!ok && err.contains("chmod 0666 /dev/net/tun"), "{err}");
    });
}
