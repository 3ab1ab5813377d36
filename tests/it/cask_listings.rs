//! `--format` and `--filter` of what lists and inspects, as docker has them.
//!
//! The tables were written down from docker 28.5 over the same containers.

use crate::support::TestEnv;

/// Two containers, a volume and a network, all with labels.
fn env() -> TestEnv {
    let t = TestEnv::new();
    t.busybox("busybox");
    t.cask(&["volume", "create", "--label", "a=b", "vol"]).ok();
    t.cask(&["network", "create", "--label", "who=us", "lan"])
        .ok();
    t.cask(&[
        "create",
        "--name",
        "never",
        "-l",
        "who=me",
        "-l",
        "x.my-key_z=1",
        "-v",
        "vol:/data",
        "busybox",
        "true",
    ])
    .ok();
    t.cask(&[
        "run",
        "-d",
        "--name",
        "up",
        "--expose",
        "90",
        "-p",
        "127.0.0.1::80",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    t
}

fn shown(t: &TestEnv, words: &[&str]) -> String {
    t.cask(words).ok().stdout()
}

#[test]
fn formats_print_what_docker_prints() {
    let t = env();
    for (words, want) in [
        (
            &["ps", "-a", "--format", r#"{{.Label "who"}}|"#][..],
            "|\nme|",
        ),
        (
            &[
                "ps",
                "-a",
                "--format",
                r#"table {{.Label "x.my-key_z"}}\t{{.Names | upper}}"#,
            ],
            "my key z   NAMES\n           UP\n1          NEVER",
        ),
        (
            &[
                "ps",
                "-a",
                "--format",
                r#"{{if eq .State "running"}}r{{else if eq .State "created"}}c{{end}}"#,
            ],
            "r\nc",
        ),
        (
            &[
                "ps",
                "-a",
                "--format",
                r#"{{printf "%-6s|%q" .Names .Image}} {{title .State}}"#,
            ],
            "up    |\"busybox\" Running\nnever |\"busybox\" Created",
        ),
        (
            &[
                "ps",
                "-a",
                "--format",
                "{{.Platform}} {{.LocalVolumes}} {{.Mounts}}",
            ],
            "<nil> 0 \n<nil> 1 vol",
        ),
        (
            &[
                "volume",
                "ls",
                "--format",
                r#"{{.Name}} {{.Label "a"}} {{.Links}} {{.Size}}"#,
            ],
            "vol b N/A N/A",
        ),
        (
            &["volume", "ls", "--format", "table {{.Name}}\t{{.Driver}}"],
            "VOLUME NAME   DRIVER\nvol           local",
        ),
        (
            &[
                "network",
                "ls",
                "--filter",
                "label=who",
                "--format",
                r#"{{.Name}} {{.Label "who"}} {{.Driver}} {{.IPv4}}"#,
            ],
            "lan us bridge true",
        ),
        (
            &[
                "images",
                "--format",
                "{{.Repository}} {{.Containers}} {{len .ID}}",
            ],
            "busybox N/A 12",
        ),
        (
            &[
                "inspect",
                "-f",
                r#"{{with $s := .State}}{{$s.Status}}{{end}} {{index .Config.Labels "who"}}"#,
                "never",
            ],
            "created me",
        ),
        (
            &[
                "inspect",
                "-f",
                "{{range $i, $m := .Mounts}}{{$i}}{{$m.Name}} {{end}}{{(index .Mounts 0).Type}}",
                "never",
            ],
            "0vol volume",
        ),
        (
            &[
                "inspect",
                "--type",
                "volume",
                "-f",
                "{{.Name}} {{json .Labels}}",
                "vol",
            ],
            r#"vol {"a":"b"}"#,
        ),
        (
            &[
                "inspect",
                "--type=network",
                "-f",
                "{{.Name}} {{.Labels}}",
                "lan",
                "bridge",
            ],
            "lan map[who:us]\nprivate map[]",
        ),
        (
            &["inspect", "-f", "{{.Name}}", "vol", "lan", "never"],
            "vol\nlan\n/never",
        ),
        (
            &[
                "inspect",
                "-s",
                "-f",
                "{{.SizeRw}} {{gt .SizeRootFs 1000}}",
                "never",
            ],
            "0 true",
        ),
    ] {
        assert_eq!(shown(&t, words), want, "{words:?}");
    }
    let format = "{{.Type}} {{.TotalCount}} {{.Active}}";
    let kinds = shown(&t, &["system", "df", "--format", format]);
    assert!(kinds.contains("Local Volumes 1 1"), "{kinds}");
    let rows = shown(&t, &["ps", "-a", "--format", "json"]);
    assert!(!rows.contains("\"Label\""), "{rows}");
    assert!(rows.contains(r#""Labels":"who=me,x.my-key_z=1""#), "{rows}");
    let full = shown(
        &t,
        &[
            "stats",
            "--no-stream",
            "--no-trunc",
            "--format",
            "{{.ID}}",
            "up",
        ],
    );
    assert_eq!(full, shown(&t, &["inspect", "-f", "{{.Id}}", "up"]));
    t.cask(&["inspect", "--type", "volume", "lan"])
        .fails(1)
        .says("there is no volume `lan`");
    t.cask(&["rm", "-f", "up"]).ok();
}

#[test]
fn sizes_and_times_of_a_history_may_be_for_machines() {
    let t = TestEnv::new();
    t.busybox("busybox");
    let people = shown(&t, &["history", "busybox"]);
    assert!(
        people.starts_with("IMAGE") && people.contains("CREATED BY"),
        "{people}"
    );
    let machines = shown(&t, &["history", "-H=false", "busybox"]);
    assert!(machines.contains("CREATED AT"), "{machines}");
    let sizes = shown(
        &t,
        &[
            "history",
            "--human=false",
            "--format",
            "{{.Size}}",
            "busybox",
        ],
    );
    assert!(
        sizes.lines().all(|size| size.parse::<u64>().is_ok()),
        "{sizes}"
    );
}

#[test]
fn containers_are_found_by_their_ports_while_they_are_up() {
    let t = env();
    let outer = shown(&t, &["port", "up", "80"]);
    let outer = outer.rsplit(':').next().unwrap();
    let found = |filter: &str| {
        shown(
            &t,
            &["ps", "-a", "--filter", filter, "--format", "{{.Names}}"],
        )
    };
    let published = format!("publish={outer}");
    for (filter, want) in [
        (published.as_str(), "up"),
        (&format!("{published}/tcp"), "up"),
        (&format!("{published}/udp"), ""),
        ("publish=80", ""),
        ("expose=80", "up"),
        ("expose=85-95/tcp", "up"),
        ("expose=90/udp", ""),
        ("label=who", "never"),
        ("label=who=you", ""),
    ] {
        assert_eq!(found(filter), want, "{filter}");
    }
    t.cask(&["stop", "-t", "0", "up"]).ok();
    assert_eq!(found("expose=80"), "");
    t.cask(&["ps", "--filter", "publish=shoe"]).fails(2);
}

#[test]
fn top_takes_the_options_of_ps() {
    let t = env();
    let top = |options: &[&str]| shown(&t, &[&["top", "up"], options].concat());
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for (options, head) in [
        (&[][..], "UID PID PPID C STIME TTY TIME CMD"),
        (&["-ef"], "UID PID PPID C STIME TTY TIME CMD"),
        (
            &["aux"],
            "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
        ),
        (&["-o", "pid,comm"], "PID COMMAND"),
        (&["-eo", "pid,args=WHAT"], "PID WHAT"),
    ] {
        let text = top(options);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(words(lines[0]).join(" "), head, "{options:?}");
        assert!(lines.iter().any(|line| line.contains("sleep")), "{text}");
    }
    let pid = shown(&t, &["inspect", "-f", "{{.State.Pid}}", "up"]);
    assert!(
        top(&["-o", "ppid,pid"])
            .lines()
            .any(|line| words(line)[0] == pid)
    );
    t.cask(&["top", "up", "-o", "shoe"])
        .fails(2)
        .says("there is no column `shoe`");
    t.cask(&["rm", "-f", "up"]).ok();
}

#[test]
fn prune_takes_only_what_its_filters_leave() {
    let t = env();
    t.cask(&["rm", "-f", "up"]).ok();
    t.cask(&["create", "--name", "plain", "busybox", "true"])
        .ok();
    t.cask(&["volume", "create", "other"]).ok();
    let names = |verb: &[&str]| shown(&t, &[verb, &["--format", "{{.Name}}"]].concat());
    let containers = || shown(&t, &["ps", "-a", "--format", "{{.Names}}"]);
    t.cask(&["container", "prune", "-f", "--filter", "until=1h"])
        .ok();
    assert_eq!(containers(), "plain\nnever");
    t.cask(&["container", "prune", "-f", "--filter", "label!=who"])
        .ok();
    assert_eq!(containers(), "never");
    t.cask(&["system", "prune", "-af", "--filter", "until=1h"])
        .ok();
    assert_eq!(containers(), "never");
    t.cask(&["network", "prune", "-f", "--filter", "label=nobody"])
        .ok();
    assert!(names(&["network", "ls"]).contains("lan"));
    t.cask(&["network", "prune", "-f", "--filter", "label=who"])
        .ok();
    assert!(!names(&["network", "ls"]).contains("lan"));
    t.cask(&["container", "prune", "-f", "--filter", "label=who=me"])
        .ok();
    assert_eq!(containers(), "");
    t.cask(&["volume", "prune", "-af", "--filter", "label=a=b"])
        .ok();
    assert_eq!(names(&["volume", "ls"]), "other");
    t.cask(&["volume", "prune", "-f", "--filter", "until=1h"])
        .fails(2);
}
