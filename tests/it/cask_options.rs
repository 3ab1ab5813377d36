//! Options of docker's `run` about names, settings and streams; what is refused of them with the
//! reason.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use crate::support::{TestEnv, everybody};

const CASK: &str = env!("CARGO_BIN_EXE_cask");

fn env() -> TestEnv {
    let t = TestEnv::new();
    t.busybox("busybox");
    t
}

#[test]
fn names_are_looked_up_as_asked_for() {
    everybody(|t| {
        let script = "hostname; hostname -d; cat /proc/sys/kernel/domainname; grep me /etc/hosts; grep -E '^(search|options)' /etc/resolv.conf";
        let run = [
            "run",
            "--rm",
            "-h",
            "me",
            "--domainname=example.test",
            "--dns-search=a.test",
            "--dns-search=b.test",
            "--dns-option=ndots:3",
            "--network=none",
            "busybox",
        ];
        let out = t.cask(&[&run[..], &["sh", "-c", script]].concat()).ok();
        let out = out.stdout();
        assert!(out.starts_with("me\n"), "{out}");
        assert!(out.contains("\nexample.test\n"), "{out}");
        assert!(out.contains("\tme.example.test me"), "{out}");
        assert!(
            out.ends_with("search a.test b.test\noptions ndots:3"),
            "{out}"
        );
    });
}

#[test]
fn kernel_settings_of_the_container_are_set() {
    everybody(|t| {
        let t = &t;
        let script = "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax; \
                      echo 1 2> /dev/null > /proc/sys/net/ipv4/ip_default_ttl || echo read-only";
        let run = [
            "run",
            "--rm",
            "--sysctl=net.ipv4.ip_default_ttl=33",
            "--sysctl=kernel.msgmax=4321",
        ];
        let caller = fs::metadata(t.root()).unwrap().uid();
        // Whoever may not open the tun device has no other network.
        let networks: &[&str] = match caller {
            0 => &["private", "none"],
            _ => &["none"],
        };
        for network in networks {
            let network = format!("--network={network}");
            let all = [&run[..], &[&network, "busybox", "sh", "-c", script]].concat();
            assert_eq!(t.cask(&all).ok().stdout(), "33\n4321\nread-only");
        }
        let none = [
            "run",
            "--rm",
            "--network=none",
            "--sysctl=net.ipv4.nothing=1",
        ];
        t.cask(&[&none[..], &["busybox", "true"]].concat())
            .fails(125)
            .says("cannot set the kernel setting net.ipv4.nothing");
        assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout(), "");
    });
    let t = env();
    for (setting, why) in [
        (
            &["--sysctl=kernel.hostname=x"][..],
            "is the whole machine's",
        ),
        (
            &["--network=host", "--sysctl=net.ipv4.ip_forward=1"],
            "the network is not the container's own",
        ),
    ] {
        let run = [&["run", "--rm"], setting, &["busybox", "true"]].concat();
        t.cask(&run).fails(125).says(why);
    }
}

#[test]
fn the_kernel_is_told_whom_to_kill_first() {
    everybody(|t| {
        let own = "cat /proc/self/oom_score_adj";
        let run = ["run", "-d", "--name=box", "--oom-score-adj=700", "busybox"];
        let script = format!("{own}; exec sleep 1000");
        t.cask(&[&run[..], &["sh", "-c", &script]].concat()).ok();
        let out = t.cask(&["exec", "box", "sh", "-c", own]).ok().stdout();
        assert_eq!(out, "700");
        t.cask(&["rm", "-f", "box"]).ok();
        t.cask(&["run", "--rm", "--oom-score-adj=1001", "busybox", "true"])
            .fails(125)
            .says("1001");
    });
}

#[test]
fn inspect_shows_what_was_asked_for() {
    let t = env();
    let create = [
        "create",
        "--name=box",
        "--annotation=a=b",
        "--dns-search=x.test",
        "--dns-opt=ndots:2",
        "--sysctl=kernel.msgmax=4321",
        "--oom-score-adj=5",
        "--domainname=d.test",
        "busybox",
    ];
    t.cask(&create).ok();
    let shown = "{{json .HostConfig.Annotations}} {{json .HostConfig.DnsSearch}} \
        {{json .HostConfig.DnsOptions}} {{json .HostConfig.Sysctls}} {{.HostConfig.OomScoreAdj}} \
        {{.Config.Domainname}}";
    let out = t.cask(&["inspect", "--format", shown, "box"]).ok().stdout();
    let want = "{\"a\":\"b\"} [\"x.test\"] [\"ndots:2\"] {\"kernel.msgmax\":\"4321\"} 5 d.test";
    assert_eq!(out, want);
    t.cask(&["rm", "box"]).ok();
}

#[test]
fn the_caller_stays_with_the_streams_it_names() {
    let t = env();
    let script = "echo out; echo err >&2; cat";
    let run = |streams: &[&str]| {
        let all = [&["run", "--rm"], streams, &["busybox", "sh", "-c", script]].concat();
        let out = t.cask(&all).ok();
        (out.stdout(), out.stderr().contains("err"))
    };
    assert_eq!(run(&[]), ("out".to_owned(), true));
    assert_eq!(run(&["-a", "stdout"]), ("out".to_owned(), false));
    assert_eq!(run(&["--attach=STDERR"]), (String::new(), true));
    t.cask(&["run", "-a", "stdout", "-d", "busybox", "true"])
        .fails(125)
        .says("cannot be used with");
    t.cask(&["run", "-a", "nothing", "busybox", "true"])
        .fails(125)
        .says("`stdout`");
}

#[test]
fn signals_stay_with_the_caller_when_they_are_to() {
    let t = env();
    let run = [
        "run",
        "--name=box",
        "--sig-proxy=false",
        "busybox",
        "sleep",
        "1000",
    ];
    let mut caller = t.command(CASK).args(run).spawn().unwrap();
    let status = || {
        let out = t.cask(&["ps", "-a", "--format={{.State}}"]).ok();
        out.stdout()
    };
    let begun = Instant::now();
    while status() != "running" {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never runs");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&caller);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(caller.wait().unwrap().code(), Some(143));
    assert_eq!(status(), "running", "the program did not get it");
    t.cask(&["rm", "-f", "box"]).ok();
}

#[test]
fn options_that_can_not_be_had_say_why() {
    let t = env();
    for (option, why) in [
        ("--gpus=all", "no vendor's hook"),
        ("--link=x", "`cask network create NAME`"),
        (
            "--mac-address=92:d0:c6:0a:29:33",
            "carry IP and nothing below it",
        ),
        ("--memory-swappiness=5", "one for the whole machine"),
        ("--oom-kill-disable", "`--oom-score-adj=-1000`"),
        ("--device-read-bps=/dev/sda:1mb", "`--blkio-weight`"),
        ("--device-cgroup-rule=c 1:1 rwm", "`--device /dev/NAME`"),
        ("--cgroup-parent=x", "control groups"),
        ("--cpu-rt-runtime=5", "real-time"),
        ("--pid=host", "its processes are what a container ends with"),
        ("--ipc=host", "shared memory"),
        ("--uts=host", "host name is its own"),
        ("--cgroupns=host", "out of a container's sight"),
        ("--userns=keep-id", "`--user-map`"),
        ("--runtime=runsc", "not by an OCI runtime"),
        ("--storage-opt=size=1g", "`--tmpfs"),
        ("--volume-driver=nfs", "volumes are directories"),
        ("--use-api-socket", "no daemon"),
        ("--kernel-memory=50m", "given it up"),
        ("--isolation=hyperv", "isolation"),
        ("--cpu-count=1", "for Windows"),
    ] {
        t.cask(&["create", option, "busybox"]).fails(2).says(why);
    }
    // What holds anyway.
    for option in [
        "--pid=private",
        "--ipc=private",
        "--ipc=shareable",
        "--uts=",
        "--cgroupns=private",
        "--userns=host",
        "--disable-content-trust",
        "--oom-kill-disable=false",
        "--memory-swappiness=-1",
        "--volume-driver=local",
        "--cpu-rt-period=0",
    ] {
        let id = t.cask(&["create", option, "busybox"]).ok().stdout();
        t.cask(&["rm", &id]).ok();
    }
    t.cask(&["create", "--name=box", "busybox"]).ok();
    for (words, why) in [
        (
            &["start", "--checkpoint=x", "box"][..],
            "not written to disk",
        ),
        (&["rm", "--link", "box"], "containers are not linked"),
        (&["update", "--cpu-rt-runtime=5", "box"], "real-time"),
    ] {
        t.cask(words).fails(2).says(why);
    }
    t.cask(&["rm", "box"]).ok();
}

#[test]
fn switches_have_values_and_what_is_said_last_counts() {
    let t = env();
    for options in [
        &["--rm=true"][..],
        &["-t=false", "--rm", "-i=0"],
        &["--rm", "--rm"],
        &["--rm=false", "--name", "other", "--name=box", "--rm"],
    ] {
        let run = [&["run"], options, &["busybox", "echo", "--rm=false"]].concat();
        assert_eq!(t.cask(&run).ok().stdout(), "--rm=false", "{options:?}");
        assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout(), "", "{options:?}");
    }
    t.cask(&["create", "--rm=false", "--name", "box", "busybox"])
        .ok();
    t.cask(&["run", "--rm=maybe", "busybox"]).fails(125);
    t.cask(&["rm", "--force=true", "box"]).ok();
}

#[test]
fn a_file_for_the_id_that_can_not_be_written_leaves_no_container() {
    let t = env();
    for verb in ["create", "run"] {
        let words = ["--cidfile=/no/such/file", "-v", "/data", "busybox", "true"];
        t.cask(&[&[verb], &words[..]].concat())
            .exits_any(&[1, 125])
            .says("/no/such/file");
        assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout(), "");
        assert_eq!(t.cask(&["volume", "ls", "-q"]).ok().stdout(), "");
    }
}
