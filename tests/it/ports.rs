//! Published ports: who reaches a container by them, and whom the container sees.
//!
//! The machines are those of [`super::network`]. What listens in a container is mostly a thread
//! of the test that has joined the container's network.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use super::network::{CASK, OPEN_TUN, OUTSIDE, OUTSIDE_6, hello, on_a_machine, prepared, server};
use crate::support::TestEnv;

/// A machine with busybox, for one test.
fn env() -> TestEnv {
    let t = TestEnv::new();
    t.busybox("busybox");
    t
}

/// Starts a container with a private network that does nothing by itself.
fn start(t: &TestEnv, name: &str, options: &[&str]) {
    let run = ["run", "-d", "--network=private", "--name", name];
    let args = [&run, options, &["busybox", "sleep", "1000"]].concat();
    t.cask(&args).ok();
}

/// Runs `serve` on a thread in the network of a container.
fn inside<T: Send + 'static>(
    t: &TestEnv,
    name: &str,
    serve: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let pid = t.cask(&["inspect", "-f", "{{.State.Pid}}", name]).ok();
    let path = format!("/proc/{}/ns/net", pid.stdout());
    std::thread::spawn(move || {
        let namespace = std::fs::File::open(path).unwrap();
        rustix::thread::move_into_link_name_space(namespace.as_fd(), None).unwrap();
        serve()
    })
}

/// Tells each client which address it comes from, on a port of the container.
fn tell_addresses(t: &TestEnv, name: &str, at: &'static str) {
    let listener = inside(t, name, move || TcpListener::bind(at).unwrap());
    let listener = listener.join().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let client = connection.peer_addr().unwrap();
            // A client that has gone does not want to know.
            let _ = connection.write_all(client.to_string().as_bytes());
        }
    });
}

/// All that a server says.
fn said(to: impl std::net::ToSocketAddrs) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(to)?;
    let mut text = String::new();
    connection.read_to_string(&mut text)?;
    Ok(text)
}

/// What comes back for a datagram; those that are lost are sent again.
fn answer(client: &UdpSocket) -> String {
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    for _ in 0..20 {
        client.send(b"who am I").unwrap();
        let mut room = [0; 100];
        if let Ok(length) = client.recv(&mut room) {
            return String::from_utf8(room[..length].to_vec()).unwrap();
        }
    }
    panic!("no answer");
}

/// The address in a text of one with a port.
fn ip(text: &str) -> String {
    let address: SocketAddr = text.parse().unwrap_or_else(|_| panic!("{text}"));
    address.ip().to_canonical().to_string()
}

/// The ports of a container as `cask port` tells them.
fn ports(t: &TestEnv, args: &[&str]) -> Vec<String> {
    let out = t.cask(&[&["port"], args].concat()).ok().stdout();
    out.lines().map(str::to_owned).collect()
}

#[test]
fn t_rt_12_clients_keep_their_addresses_and_none_comes_from_loopback() {
    on_a_machine(|| {
        let t = env();
        start(&t, "web", &["-p", "8080:80", "-p", "8080:80/udp"]);
        tell_addresses(&t, "web", "[::]:80");
        for (host, seen) in [
            ("127.0.0.1", "10.217.93.1"),
            ("::1", "fd6b:c1a7:5e0b::1"),
            (OUTSIDE, OUTSIDE),
            (OUTSIDE_6, OUTSIDE_6),
        ] {
            assert_eq!(ip(&said((host, 8080)).unwrap()), seen, "{host}");
        }
        let socket = inside(&t, "web", || UdpSocket::bind("[::]:80").unwrap());
        let socket = socket.join().unwrap();
        std::thread::spawn(move || {
            let mut room = [0; 100];
            while let Ok((_, client)) = socket.recv_from(&mut room) {
                socket
                    .send_to(client.to_string().as_bytes(), client)
                    .unwrap();
            }
        });
        for (host, seen) in [
            ("127.0.0.1", "10.217.93.1"),
            ("::1", "fd6b:c1a7:5e0b::1"),
            (OUTSIDE, OUTSIDE),
            (OUTSIDE_6, OUTSIDE_6),
        ] {
            let client = UdpSocket::bind((host, 0)).unwrap();
            client.connect((host, 8080)).unwrap();
            for _ in 0..3 {
                assert_eq!(ip(&answer(&client)), seen, "{host}");
            }
        }
        t.cask(&["rm", "-f", "web"]).ok();
    });
}

#[test]
fn a_program_on_loopback_of_the_container_is_not_reached() {
    on_a_machine(|| {
        let t = env();
        start(&t, "web", &["-p", "8080:80"]);
        tell_addresses(&t, "web", "127.0.0.1:80");
        // The connection is taken before the container is asked, so a refusal is its end.
        match said(("127.0.0.1", 8080)) {
            Ok(text) => assert_eq!(text, ""),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        t.cask(&["rm", "-f", "web"]).ok();
    });
}

#[test]
fn a_program_that_knows_only_ipv4_is_reached_by_ipv6() {
    on_a_machine(|| {
        let t = env();
        start(&t, "web", &["-p", "8080:80"]);
        tell_addresses(&t, "web", "0.0.0.0:80");
        for host in ["::1", OUTSIDE_6] {
            assert_eq!(ip(&said((host, 8080)).unwrap()), "10.217.93.1", "{host}");
        }
        t.cask(&["rm", "-f", "web"]).ok();
    });
}

#[test]
fn bytes_pass_whole_through_a_published_port_and_halves_close_one_by_one() {
    on_a_machine(|| {
        let t = env();
        start(&t, "echo", &["-p", "7000:7"]);
        let listener = inside(&t, "echo", || TcpListener::bind("0.0.0.0:7").unwrap());
        let listener = listener.join().unwrap();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut all = Vec::new();
                connection.read_to_end(&mut all).unwrap();
                connection.write_all(&all).unwrap();
            }
        });
        let sent: Vec<u8> = (0..5_000_000_u32)
            .map(|n| (n.wrapping_mul(n) >> 7) as u8)
            .collect();
        for host in ["127.0.0.1", OUTSIDE] {
            let mut connection = TcpStream::connect((host, 7000)).unwrap();
            connection.write_all(&sent).unwrap();
            connection.shutdown(std::net::Shutdown::Write).unwrap();
            let mut got = Vec::new();
            connection.read_to_end(&mut got).unwrap();
            assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
        }
        t.cask(&["rm", "-f", "echo"]).ok();
    });
}

#[test]
fn two_hundred_clients_are_served_at_once() {
    on_a_machine(|| {
        let t = env();
        start(&t, "web", &["-p", "8080:80"]);
        let listener = inside(&t, "web", || TcpListener::bind("0.0.0.0:80").unwrap());
        let listener = listener.join().unwrap();
        std::thread::spawn(move || {
            // Nobody is answered before all are there.
            let all: Vec<_> = listener.incoming().take(200).collect();
            for connection in all {
                hello(connection.unwrap());
            }
        });
        let clients: Vec<_> = (0..200)
            .map(|_| TcpStream::connect(("127.0.0.1", 8080)).unwrap())
            .collect();
        for mut client in clients {
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello\n");
        }
        t.cask(&["rm", "-f", "web"]).ok();
    });
}

#[test]
fn ports_stay_over_stop_start_and_restart_and_go_with_the_container() {
    on_a_machine(|| {
        let t = env();
        start(&t, "web", &["-p", "127.0.0.1:8080:80", "-p", "9"]);
        let before = ports(&t, &["web"]);
        assert_eq!(before.len(), 3, "{before:?}");
        assert_eq!(before[0], "80/tcp -> 127.0.0.1:8080");
        for verbs in [&["stop", "start"][..], &["restart"], &["kill", "start"]] {
            for verb in verbs {
                match *verb {
                    "stop" => drop(t.cask(&["stop", "-t", "0", "web"]).ok()),
                    "restart" => drop(t.cask(&["restart", "-t", "0", "web"]).ok()),
                    "kill" => {
                        t.cask(&["kill", "web"]).ok();
                        // Until then it may still be up, and `start` has nothing to do.
                        t.cask(&["wait", "web"]).ok();
                    }
                    verb => drop(t.cask(&[verb, "web"]).ok()),
                }
                if *verb == "stop" {
                    assert_eq!(ports(&t, &["web"]).len(), 0);
                    drop(TcpListener::bind("127.0.0.1:8080").unwrap());
                }
            }
            assert_eq!(ports(&t, &["web"]), before, "{verbs:?}");
            tell_addresses(&t, "web", "0.0.0.0:80");
            assert_eq!(ip(&said("127.0.0.1:8080").unwrap()), "10.217.93.1");
        }
        t.cask(&["rm", "-f", "web"]).ok();
        drop(TcpListener::bind("127.0.0.1:8080").unwrap());
    });
}

#[test]
fn a_port_that_is_taken_is_told_with_its_holder() {
    on_a_machine(|| {
        let t = env();
        let _holder = TcpListener::bind("127.0.0.1:8080").unwrap();
        let run = |port: &str| {
            t.cask(&[
                "run",
                "--rm",
                "--network=private",
                "-p",
                port,
                "busybox",
                "true",
            ])
        };
        let pid = std::process::id();
        run("8080:80")
            .fails(125)
            .says("port 0.0.0.0:8080/tcp is taken by")
            .says(&format!("(process {pid})"));
        let _datagrams = UdpSocket::bind("0.0.0.0:8080").unwrap();
        run("8080:80/udp").fails(125).says("8080/udp is taken by");
        start(&t, "web", &["-p", "8081:80"]);
        run("127.0.0.1:8081:80")
            .fails(125)
            .says("is taken by container `web`");
        // Of a range the first free one is taken.
        start(&t, "other", &["-p", "8080-8085:80"]);
        let found = ports(&t, &["other", "80"]);
        assert_eq!(found, ["0.0.0.0:8082", "[::]:8082"]);
        run("203.0.113.9:80:80")
            .fails(125)
            .says("cannot publish a port at 203.0.113.9:80/tcp");
        assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout().lines().count(), 2);
        t.cask(&["rm", "-f", "web", "other"]).ok();
    });
}

#[test]
fn ranges_and_all_exposed_ports_are_listed_everywhere() {
    on_a_machine(|| {
        let t = env();
        let options = [
            "-p",
            "127.0.0.1:8000-8001:80-81",
            "-P",
            "--expose=53/udp",
            "--expose=80",
        ];
        start(&t, "web", &options);
        let all = ports(&t, &["web"]);
        let expected = ["80/tcp -> 127.0.0.1:8000", "81/tcp -> 127.0.0.1:8001"];
        assert_eq!(all[..2], expected, "{all:?}");
        let free = ports(&t, &["web", "53/udp"]);
        let port = free[0].strip_prefix("0.0.0.0:").unwrap();
        assert_ne!(port, "0");
        assert_eq!(free, [format!("0.0.0.0:{port}"), format!("[::]:{port}")]);
        let shown = t.cask(&["ps", "--format={{.Ports}}"]).ok().stdout();
        assert_eq!(
            shown,
            format!(
                "0.0.0.0:{port}->53/udp, [::]:{port}->53/udp, 127.0.0.1:8000->80/tcp, \
                 127.0.0.1:8001->81/tcp"
            )
        );
        let look = |format: &str| t.cask(&["inspect", "-f", format, "web"]).ok().stdout();
        let settings = look("{{json .NetworkSettings.Ports}}");
        assert!(
            settings.contains(r#""80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8000"}]"#),
            "{settings}"
        );
        let asked = look("{{json .HostConfig.PortBindings}}");
        assert!(!asked.contains("53/udp"), "{asked}");
        t.cask(&["port", "web", "99"]).fails(1).says("99/tcp");
        t.cask(&["rm", "-f", "web"]).ok();
    });
}

#[test]
fn the_machine_has_a_name_inside_and_keeps_its_loopback_to_itself() {
    on_a_machine(|| {
        let t = env();
        let route = ["ip", "route", "add", "default", "dev", "lo"];
        let done = Command::new("/bin/busybox").args(route).status().unwrap();
        assert!(done.success());
        let (open, closed) = (server(OUTSIDE, hello), server("127.0.0.1", hello));
        let script = format!(
            "for host in host.docker.internal host.containers.internal; do
                nc $host {open} </dev/null; nc $host {closed} </dev/null; done; :"
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
        assert_eq!(t.cask(&run).ok().stdout(), "hello\nhello");
    });
}

#[test]
fn an_ordinary_user_publishes_ports_where_the_device_is_open() {
    on_a_machine(|| {
        let t = TestEnv::as_user("sub");
        t.busybox("busybox");
        let serve = "mkdir /srv; echo served > /srv/index.html; exec httpd -f -h /srv";
        let run = |port: &str| {
            let args = [
                "run",
                "-d",
                "--network=private",
                "--name=web",
                "-p",
                port,
                "busybox",
                "sh",
                "-c",
                serve,
            ];
            prepared(&t, OPEN_TUN, CASK, &args)
        };
        let (ok, _, err) = run("8080:80");
        assert!(ok, "{err}");
        let get = || {
            let mut connection = TcpStream::connect((OUTSIDE, 8080))?;
            connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            connection.read_to_string(&mut text)?;
            std::io::Result::Ok(text)
        };
        let begun = Instant::now();
        // The port is there before the server is.
        while !get().is_ok_and(|text| text.ends_with("served\n")) {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(20));
        }
        t.cask(&["rm", "-f", "web"]).ok();
        let (ok, _, err) = run("80:80");
        assert!(
            !ok && err.contains("port 80/tcp is for root alone"),
            "{err}"
        );
        assert!(
            err.contains("sysctl net.ipv4.ip_unprivileged_port_start=80"),
            "{err}"
        );
        t.cask(&["rm", "-f", "web"]).ok();
    });
}

#[test]
fn without_the_device_a_port_is_refused_with_the_reason() {
    on_a_machine(|| {
        let t = TestEnv::as_user("sub");
        t.busybox("busybox");
        let closed = "mount -t tmpfs none /dev/net
mknod -m 600 /dev/net/tun c 10 200";
        let run = [
            "run",
            "--rm",
            "--network=default",
            "-p",
            "8080:80",
            "busybox",
            "true",
        ];
        let (ok, _, err) = prepared(&t, closed, CASK, &run);
        assert!(!ok && err.contains("chmod 0666 /dev/net/tun"), "{err}");
        assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout(), "");
    });
}
