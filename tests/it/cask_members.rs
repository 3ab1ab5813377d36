//! Containers on networks that users define: how they find each other, who can't reach them, and
//! what a kill leaves. Root's and an ordinary user's do the same.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::network::{
    CASK, OPEN_TUN, OUTSIDE, hello, no_process_is_left, on_a_machine, prepared, server,
};
use crate::support::TestEnv;

/// Serves a page that says who serves it.
const SERVE: &str = "mkdir -p /srv; hostname > /srv/index.html; exec httpd -f -p 80 -h /srv";

/// Fetches such a page from a host, and a port of it if not 80, as soon as it is served.
const FETCH: &str = "fetch() { for i in $(seq 300); do \
    printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 $1 ${2:-80} 2>/dev/null | tail -n 1 | grep . && return; \
    sleep 0.1; done; return 1; };";

/// Somebody's programs on a machine that belongs to the test.
struct Machine {
    t: TestEnv,
    prepare: &'static str,
}

impl Machine {
    fn new(user: Option<&str>) -> Self {
        let (t, prepare) = match user {
            None => (TestEnv::new(), ":"),
            Some(user) => (TestEnv::as_user(user), OPEN_TUN),
        };
        t.busybox("busybox");
        Self { t, prepare }
    }

    #[track_caller]
    fn cask(&self, args: &[&str]) -> String {
        let (ok, out, err) = prepared(&self.t, self.prepare, CASK, args);
        assert!(ok, "cask {args:?}: {err}{out}");
        out.trim_end().to_owned()
    }

    #[track_caller]
    fn refuses(&self, args: &[&str], why: &str) {
        let (ok, out, err) = prepared(&self.t, self.prepare, CASK, args);
        assert!(!ok && err.contains(why), "cask {args:?}: {err}{out}");
    }

    /// Starts a server by this name and host name.
    #[track_caller]
    fn serve(&self, name: &str, options: &[&str]) -> String {
        let run = ["run", "-d", "--name", name, "--hostname", name];
        self.cask(&[&run, options, &["busybox", "sh", "-c", SERVE]].concat())
    }

    /// Runs `script`, which may [`FETCH`], and returns what it says.
    #[track_caller]
    fn script(&self, options: &[&str], script: &str) -> String {
        let script = format!("{FETCH} {script}");
        self.cask(&[&["run", "--rm"], options, &["busybox", "sh", "-c", &script]].concat())
    }

    /// Runs `script` in a container that is there.
    #[track_caller]
    fn inside(&self, name: &str, script: &str) -> String {
        let script = format!("{FETCH} {script}");
        self.cask(&["exec", name, "sh", "-c", &script])
    }

    #[track_caller]
    fn remove(&self, names: &[&str]) {
        let _ = self.cask(&[&["rm", "-f"], names].concat());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A test that failed leaves containers.
        let (_, left, _) = prepared(&self.t, self.prepare, CASK, &["ps", "-aq"]);
        let left: Vec<&str> = left.lines().collect();
        if !left.is_empty() {
            let _ = prepared(
                &self.t,
                self.prepare,
                CASK,
                &[&["rm", "-f"], &left[..]].concat(),
            );
        }
    }
}

/// Plays `story` as root and as an ordinary user. Nothing may be left of it.
fn both(story: impl Fn(&Machine) + Send + 'static) {
    on_a_machine(move || {
        for user in [None, Some("sub")] {
            let machine = Machine::new(user);
            story(&machine);
            assert_eq!(machine.cask(&["ps", "-aq"]), "", "the story cleans up");
            no_process_is_left();
            let networks = machine.t.root().join("networks");
            for network in std::fs::read_dir(networks).unwrap() {
                let network = network.unwrap().path();
                assert!(!network.join("ctl").exists(), "{}", network.display());
                if let Ok(mut leases) = std::fs::read_dir(network.join("leases")) {
                    assert!(leases.next().is_none(), "{}", network.display());
                }
            }
        }
    });
}

/// Processes on this thread's machine that ps shows by this name.
fn processes(name: &str) -> Vec<i32> {
    let namespace = |path: String| std::fs::read_link(path + "/ns/net").ok();
    let here = namespace("/proc/thread-self".to_owned());
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.unwrap().file_name().into_string().unwrap();
        pid.parse::<i32>().ok()
    });
    let is = |pid: &i32| {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name) && namespace(format!("/proc/{pid}")) == here
    };
    pids.filter(is).collect()
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Waits until `holds`.
#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks the name server over TCP for the address of a name of two letters, and shows the answer.
const ASK: &str = r"ask() { printf '\000\024\007\011\001\000\000\001\000\000\000\000\000\000\002'$1'\000\000\001\000\001' | nc -w 30 10.217.93.3 53; };";

#[test]
fn names_are_known_over_tcp_and_long_answers_come_whole() {
    on_a_machine(|| {
        let listener = std::net::TcpListener::bind((OUTSIDE, 53)).unwrap();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut question = [0; 22];
                connection.read_exact(&mut question).unwrap();
                let answer = [&[0x9c, 0x42][..], &question[2..4], &[b'x'; 40_000]].concat();
                connection.write_all(&answer).unwrap();
            }
        });
        for user in [None, Some("sub")] {
            let m = Machine::new(user);
            m.cask(&["network", "create", "--subnet=10.87.0.0/16", "net"]);
            m.serve("db", &["--network=net", "--ip=10.87.0.9"]);
            let dns = format!("--dns={OUTSIDE}");
            let ask = |script: &str| m.script(&["--network=net", &dns], &format!("{ASK} {script}"));
            let out = ask("ask db | tail -c 4 | hexdump -e '4/1 \"%d.\"'");
            assert_eq!(out, "10.87.0.9.");
            // Nobody's name, so the name server of the machine is asked.
            assert_eq!(ask("ask no | wc -c"), "40004");
            m.remove(&["db"]);
            m.cask(&["network", "rm", "net"]);
        }
    });
}

/// Asks the name server for the address of `db` from inside a container; `more` is a record that
/// follows the question.
fn ask_from(pid: &str, more: &[u8]) -> Vec<u8> {
    let path = format!("/proc/{pid}/ns/net");
    let records = u8::from(!more.is_empty());
    let head = [7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, records];
    let question = [&head[..], &[2, b'd', b'b', 0, 0, 1, 0, 1], more].concat();
    let asking = std::thread::spawn(move || {
        let namespace = std::fs::File::open(path).unwrap();
        rustix::thread::move_into_link_name_space(namespace.as_fd(), None).unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut answer = vec![0; 4096];
        for _ in 0..12 {
            socket.send_to(&question, "10.217.93.3:53").unwrap();
            if let Ok(length) = socket.recv(&mut answer) {
                answer.truncate(length);
                return answer;
            }
        }
        panic!("no answer");
    });
    asking.join().unwrap()
}

#[test]
fn a_resolver_that_says_what_it_has_room_for_is_answered_alike() {
    both(|m| {
        m.cask(&["network", "create", "--subnet=10.87.0.0/16", "net"]);
        m.serve("db", &["--network=net", "--ip=10.87.0.9"]);
        let pid = m.cask(&["inspect", "-f", "{{.State.Pid}}", "db"]);
        let address = [192, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 87, 0, 9];
        let plain = ask_from(&pid, &[]);
        assert_eq!(plain[2..12], [0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert!(plain.ends_with(&address), "{plain:?}");
        // A room of 1232 bytes, and signatures are wanted.
        let said = ask_from(&pid, &[0, 0, 41, 4, 208, 0, 0, 128, 0, 0, 0]);
        let record = [0, 0, 41, 16, 0, 0, 0, 128, 0, 0, 0];
        assert_eq!(said[2..12], [0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 1]);
        assert!(
            said.ends_with(&[&address[..], &record].concat()),
            "{said:?}"
        );
        // A version that is not known: BADVERS.
        let said = ask_from(&pid, &[0, 0, 41, 4, 208, 0, 1, 0, 0, 0, 0]);
        assert_eq!(said[2..12], [0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert!(said.ends_with(&[0, 0, 41, 16, 0, 1, 0, 0, 0, 0, 0]));
        m.remove(&["db"]);
        m.cask(&["network", "rm", "net"]);
    });
}

#[test]
fn members_find_each_other_by_name_alias_id_and_address() {
    both(|m| {
        m.cask(&[
            "network",
            "create",
            "--ipv6",
            "--subnet=10.88.0.0/16",
            "web",
        ]);
        let id = m.serve("db", &["--network=web", "--network-alias=data"]);
        let script = format!(
            "for who in db data {} db.web DB 10.88.0.2; do fetch $who; done
            ping -c1 -W20 data >/dev/null && echo pinged
            ping6 -c1 -W20 db >/dev/null && echo pinged
            nslookup -type=ptr 2.0.88.10.in-addr.arpa | grep name
            nslookup app.test 10.88.0.2 >/dev/null 2>&1; :",
            &id[..12]
        );
        let said = m.script(&["--network=web"], &script);
        let served = "db\n".repeat(6);
        let named = "2.0.88.10.in-addr.arpa\tname = db.web";
        assert_eq!(said, format!("{served}pinged\npinged\n{named}"));
        // The question that it does not answer has reached it: NoPorts of RFC 4113.
        let datagrams = "awk '/^Udp:/ { print $3 }' /proc/net/snmp | tail -n 1";
        assert_ne!(m.inside("db", datagrams), "0");
        m.cask(&["rename", "db", "store"]);
        assert_eq!(m.script(&["--network=web"], "fetch store"), "db");
        m.remove(&["store"]);
        m.cask(&["network", "rm", "web"]);
    });
}

/// What a web server on this thread's machine answers, once it does.
fn get(port: u16) -> String {
    let mut text = String::new();
    wait_until("nothing answers", || {
        let answer = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
            stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        });
        text = answer.unwrap_or_default();
        text.starts_with("HTTP/1.")
    });
    text
}

#[test]
fn a_published_server_has_logs_after_its_end_and_data_only_in_a_volume() {
    both(|m| {
        let serve = "mkdir -p /srv; echo serving; exec httpd -f -p 80 -h /srv";
        let write = ["exec", "web", "sh", "-c", "echo hello > /srv/index.html"];
        for (volume, kept) in [(&[][..], false), (&["-v", "pages:/srv"][..], true)] {
            let run = ["run", "-d", "--name", "web", "-p", "8080:80"];
            let run = [&run[..], volume, &["busybox", "sh", "-c", serve]].concat();
            m.cask(&run);
            assert!(get(8080).contains("404 Not Found"));
            m.cask(&write);
            assert!(get(8080).ends_with("hello\n"));
            assert_eq!(m.cask(&["logs", "web"]), "serving");
            m.cask(&["stop", "web"]);
            assert_eq!(m.cask(&["logs", "web"]), "serving");
            m.cask(&["start", "web"]);
            assert!(
                get(8080).ends_with("hello\n"),
                "it stays over stop and start"
            );
            m.cask(&["rm", "-f", "web"]);
            m.cask(&run);
            let answer = get(8080);
            assert_eq!(answer.ends_with("hello\n"), kept, "{answer}");
            m.remove(&["web"]);
        }
        m.cask(&["volume", "rm", "pages"]);
    });
}

#[test]
fn a_front_end_finds_its_back_end_and_a_third_network_does_not() {
    both(|m| {
        let port = server(OUTSIDE, hello);
        for network in ["shop", "other"] {
            m.cask(&["network", "create", network]);
        }
        m.cask(&["network", "create", "--internal", "vault"]);
        m.serve("backend", &["--network=shop"]);
        m.serve("secret", &["--network=vault"]);
        let outside = format!("nc -w 5 {OUTSIDE} {port} </dev/null 2>&1");
        let front = format!("fetch backend; {outside}");
        assert_eq!(m.script(&["--network=shop"], &front), "backend\nhello");
        let address = m.cask(&[
            "inspect",
            "--format={{.NetworkSettings.Networks.shop.IPAddress}}",
            "backend",
        ]);
        let strangers = format!(
            "nslookup backend >/dev/null 2>&1 || echo unknown
            nc -w 5 {address} 80 </dev/null 2>/dev/null || echo unreachable"
        );
        for network in ["other", "private", "vault"] {
            let network = format!("--network={network}");
            let said = m.script(&[&network], &strangers);
            assert_eq!(said, "unknown\nunreachable", "{network}");
        }
        let said = m.script(&["--network=vault"], &format!("fetch secret; {outside}; :"));
        assert!(said.starts_with("secret\n"), "{said}");
        assert!(said.ends_with("Network is unreachable"), "{said}");
        m.remove(&["backend", "secret"]);
    });
}

#[test]
fn a_network_whose_process_is_killed_is_repaired_by_its_members() {
    both(|m| {
        let port = server(OUTSIDE, hello);
        m.cask(&["network", "create", "web"]);
        m.serve("one", &["--network=web"]);
        m.serve("two", &["--network=web", "-p", "192.0.2.1:8080:80"]);
        let one = processes("cask-network");
        assert_eq!(one.len(), 1, "one process a network");
        kill(one[0]);
        wait_until("another process", || {
            let now = processes("cask-network");
            now.len() == 1 && now != one
        });
        // Containers keep their addresses; names, the world and ports are there again.
        assert_eq!(m.inside("one", "fetch two"), "two");
        let outside = format!("until nc -w 5 {OUTSIDE} {port} </dev/null; do sleep 0.1; done");
        assert_eq!(m.inside("two", &outside), "hello");
        wait_until("the port", || {
            let mut page = String::new();
            let mut get = || -> std::io::Result<()> {
                let mut to = TcpStream::connect((OUTSIDE, 8080))?;
                std::io::Write::write_all(&mut to, b"GET / HTTP/1.0\r\n\r\n")?;
                to.read_to_string(&mut page).map(drop)
            };
            get().is_ok() && page.ends_with("two\n")
        });
        assert_eq!(m.script(&["--network=web"], "fetch one"), "one");
        m.refuses(
            &["network", "rm", "web"],
            "network `web` is used by one, two",
        );
        let killed = processes("cask-network");
        kill(killed[0]);
        m.remove(&["one", "two"]);
        m.cask(&["network", "rm", "web"]);
    });
}

#[test]
fn the_lease_of_a_container_that_was_killed_counts_for_nothing() {
    both(|m| {
        m.cask(&["network", "create", "--subnet=10.88.0.0/16", "web"]);
        let fixed = ["--network=web", "--ip=10.88.7.7"];
        m.serve("db", &fixed);
        let taken = "address 10.88.7.7 is taken by container `db`";
        m.refuses(
            &[&["run", "--rm"], &fixed[..], &["busybox", "true"]].concat(),
            taken,
        );
        kill(processes("cask-monitor")[0]);
        wait_until("the end", || m.cask(&["ps", "-q"]).is_empty());
        let users = ["network", "inspect", "--format={{json .Containers}}", "web"];
        assert_eq!(m.cask(&users), "{}");
        assert_eq!(m.script(&fixed, "hostname -i"), "10.88.7.7");
        m.cask(&["start", "db"]);
        assert_eq!(m.script(&["--network=web"], "fetch db"), "db");
        m.remove(&["db"]);
    });
}

#[test]
fn addresses_are_what_was_asked_for_or_the_next_free_ones() {
    on_a_machine(|| {
        let m = Machine::new(None);
        let ranges = ["--subnet=10.88.0.0/16", "--ip-range=10.88.5.0/30"];
        let create = ["network", "create", "--ipv6", "--subnet=fd88::/64"];
        m.cask(&[&create[..], &ranges, &["web"]].concat());
        m.serve("first", &["--network=web"]);
        m.serve(
            "fixed",
            &["--network=web", "--ip=10.88.9.9", "--ip6=fd88::99"],
        );
        let show = |name: &str, field: &str| {
            let format = format!("--format={{{{.NetworkSettings.Networks.web.{field}}}}}");
            m.cask(&["inspect", &format, name])
        };
        assert_eq!(show("first", "IPAddress"), "10.88.5.0");
        assert_eq!(show("first", "GlobalIPv6Address"), "fd88::2");
        assert_eq!(show("first", "Gateway"), "10.88.0.1");
        assert_eq!(show("fixed", "IPAddress"), "10.88.9.9");
        assert_eq!(show("fixed", "GlobalIPv6Address"), "fd88::99");
        assert_eq!(show("fixed", "IPPrefixLen"), "16");
        let hosts = m.inside("fixed", "grep fixed /etc/hosts");
        assert_eq!(hosts, "10.88.9.9\tfixed\nfd88::99\tfixed");
        let resolv = m.inside("fixed", "cat /etc/resolv.conf");
        assert!(resolv.starts_with("nameserver 10.217.93.3\n"), "{resolv}");
        let run =
            |options: &[&'static str]| [&["run", "--rm"], options, &["busybox", "true"]].concat();
        for (options, why) in [
            (
                &["--network=web", "--ip=10.89.0.5"][..],
                "address 10.89.0.5 lies in no subnet",
            ),
            (&["--network=web", "--ip=10.88.0.1"], "taken by the gateway"),
            (&["--network=wep"], "no network `wep`"),
            (
                &["--network=web", "--network=host"],
                "go with no other network",
            ),
            (&["--network=web", "--network=web"], "named twice"),
            (
                &["--network=private", "--ip=10.88.9.1"],
                "go with a network of a user",
            ),
        ] {
            m.refuses(&run(options), why);
        }
        assert_eq!(
            m.cask(&["ps", "-aq"]).lines().count(),
            2,
            "nothing half made"
        );
        let listed = |filter: &str| {
            m.cask(&[
                "ps",
                "--filter",
                filter,
                "--format={{.Names}} {{.Networks}}",
            ])
        };
        assert_eq!(listed("network=web"), "fixed web\nfirst web");
        assert_eq!(listed("network=private"), "");
        m.remove(&["first", "fixed"]);
        no_process_is_left();
    });
}

#[test]
fn a_running_container_is_connected_and_taken_off_again() {
    both(|m| {
        let port = server(OUTSIDE, hello);
        let outside = format!("nc -w 5 {OUTSIDE} {port} </dev/null");
        for network in ["front", "back"] {
            m.cask(&["network", "create", network]);
        }
        m.serve("web", &["--network=front"]);
        m.serve("db", &["--network=back"]);
        m.serve("alone", &["--network=private"]);
        let asks = "nslookup db >/dev/null 2>&1 && echo known || echo unknown";
        assert_eq!(m.inside("web", asks), "unknown");
        m.cask(&["network", "connect", "--alias=gate", "back", "web"]);
        let both = format!("fetch db; {outside}");
        assert_eq!(m.inside("web", &both), "db\nhello");
        assert_eq!(m.inside("db", "fetch gate"), "web");
        m.refuses(
            &["network", "connect", "back", "web"],
            "connected to network `back` already",
        );
        // One with a private network finds names as well, and keeps its way out.
        m.cask(&["network", "connect", "back", "alone"]);
        assert_eq!(m.inside("alone", &both), "db\nhello");
        let networks = [
            "ps",
            "--filter=network=back",
            "--format={{.Names}} {{.Networks}}",
        ];
        assert_eq!(
            m.cask(&networks),
            "alone private,back\ndb back\nweb front,back"
        );
        // What the first network did is now the second one's.
        m.cask(&["network", "disconnect", "front", "web"]);
        let interfaces = "ls /sys/class/net | tr '\\n' ' '";
        assert_eq!(m.inside("web", interfaces).trim_end(), "eth1 lo");
        assert_eq!(m.inside("web", &both), "db\nhello");
        m.refuses(&["network", "disconnect", "front", "web"], "not connected");
        // It comes back as it was left.
        m.cask(&["restart", "-t", "0", "web"]);
        assert_eq!(m.inside("web", &both), "db\nhello");
        m.cask(&["network", "disconnect", "back", "web"]);
        assert_eq!(m.inside("web", interfaces).trim_end(), "lo");
        m.remove(&["web", "db", "alone"]);
    });
}

#[test]
fn a_container_begins_on_several_networks() {
    on_a_machine(|| {
        let m = Machine::new(None);
        m.cask(&[
            "network",
            "create",
            "--internal",
            "--subnet=10.87.0.0/16",
            "back",
        ]);
        m.cask(&["network", "create", "--subnet=10.88.0.0/16", "front"]);
        let port = server(OUTSIDE, hello);
        m.serve("db", &["--network=back"]);
        m.serve(
            "web",
            &[
                "--network=name=back,alias=gate,ip=10.87.5.5",
                "--network=front",
            ],
        );
        let script = format!("fetch db; nc -w 5 {OUTSIDE} {port} </dev/null; hostname -i");
        assert_eq!(m.inside("web", &script), "db\nhello\n10.87.5.5");
        assert_eq!(m.script(&["--network=front"], "fetch web"), "web");
        assert_eq!(m.inside("db", "fetch gate"), "web");
        let stopped = ["create", "--name=idle", "--network=none", "busybox", "true"];
        m.cask(&stopped);
        m.refuses(
            &["network", "connect", "front", "idle"],
            "container `idle` uses the machine's network",
        );
        m.remove(&["db", "web", "idle"]);
        no_process_is_left();
    });
}

#[test]
fn two_containers_share_one_network() {
    both(|m| {
        m.cask(&["network", "create", "--subnet=10.88.0.0/16", "web"]);
        m.serve("main", &["--network=web"]);
        m.serve("other", &["--network=web"]);
        let beside = ["--network=container:main"];
        let script =
            "fetch localhost; fetch other; hostname; hostname -i; grep -c 10.88 /etc/hosts";
        assert_eq!(m.script(&beside, script), "main\nother\nmain\n10.88.0.2\n1");
        let side = ["run", "-d", "--name=side", beside[0], "busybox"];
        let serve = "mkdir /srv; echo side > /srv/index.html; exec httpd -f -p 8080 -h /srv";
        m.cask(&[&side[..], &["sh", "-c", serve]].concat());
        assert_eq!(m.inside("other", "fetch main 8080"), "side");
        let mode = m.cask(&["inspect", "--format={{.HostConfig.NetworkMode}}", "side"]);
        assert!(mode.starts_with("container:") && mode.len() == 74, "{mode}");
        let run =
            |options: &[&'static str]| [&["run", "--rm"], options, &["busybox", "true"]].concat();
        let published = [beside[0], "-p", "80"];
        m.refuses(&run(&published), "ports are published by the container");
        m.refuses(
            &run(&["--network=container:nobody"]),
            "no container `nobody`",
        );
        // It stays up without the other, and does not come back without it.
        m.remove(&["main"]);
        assert_eq!(m.inside("side", "fetch localhost 8080"), "side");
        m.cask(&["stop", "-t", "0", "side"]);
        m.refuses(&["start", "side"], "no container");
        m.cask(&["stop", "-t", "0", "other"]);
        m.refuses(
            &run(&["--network=container:other"]),
            "container `other` is not running",
        );
        m.remove(&["side", "other"]);
    });
}
