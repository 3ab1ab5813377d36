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
            "busybox 2 12",
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
fn tables_have_dockers_widths() {
    let t = env();
    let table = shown(&t, &["ps", "-a", "--filter", "name=^/never$"]);
    let lines: Vec<&str> = table.lines().collect();
    let head = "CONTAINER ID   IMAGE     COMMAND   CREATED   ";
    assert!(lines[0].starts_with(head), "{table}");
    assert!(
        lines[0].ends_with("   STATUS    PORTS     NAMES"),
        "{table}"
    );
    assert!(lines[1].contains("   busybox   \"true\"    "), "{table}");
    assert!(lines[1].ends_with(" Created             never"), "{table}");
    let volumes = shown(&t, &["volume", "ls"]);
    assert_eq!(volumes, "DRIVER    VOLUME NAME\nlocal     vol");
    let networks = shown(&t, &["network", "ls", "--filter", "name=lan"]);
    let (head, row) = networks.split_once('\n').unwrap();
    assert_eq!(head, "NETWORK ID     NAME      DRIVER    SCOPE");
    assert_eq!(&row[12..], "   lan       bridge    local");
    let top = shown(&t, &["top", "up", "-o", "pid,comm"]);
    assert_eq!(top.lines().next(), Some("PID                 COMMAND"));
    let raw = shown(&t, &["volume", "ls", "--format", "raw"]);
    assert_eq!(raw, "name: vol\ndriver: local\n");
    let raw = shown(
        &t,
        &["ps", "-a", "--format", "raw", "--filter", "name=never"],
    );
    let raw: Vec<&str> = raw.lines().collect();
    assert_eq!(
        [&raw[1..3], &raw[4..]].concat(),
        [
            "image: busybox",
            "command: \"true\"",
            "state: created",
            "status: Created",
            "names: never",
            "labels: who=me,x.my-key_z=1",
            "ports:",
        ]
    );
    t.cask(&["rm", "-f", "up"]).ok();
}

#[test]
fn rows_in_json_have_dockers_keys_in_their_order() {
    let t = env();
    for (words, want) in [
        (
            &["ps", "-a", "--format", "json"][..],
            "Command CreatedAt ID Image Labels LocalVolumes Mounts Names Networks Platform Ports \
             RunningFor Size State Status",
        ),
        (
            &["images", "--format", "json"],
            "Containers CreatedAt CreatedSince Digest ID Repository SharedSize Size Tag UniqueSize \
             VirtualSize",
        ),
        (
            &["volume", "ls", "--format", "{{json .}}"],
            "Availability Driver Group Labels Links Mountpoint Name Scope Size Status",
        ),
        (
            &["network", "ls", "--format", "json"],
            "CreatedAt Driver ID IPv4 IPv6 Internal Labels Name Scope",
        ),
        (
            &["stats", "--no-stream", "-a", "--format", "json"],
            "BlockIO CPUPerc Container ID MemPerc MemUsage Name NetIO PIDs",
        ),
        (
            &["history", "--format", "json", "busybox"],
            "Comment CreatedAt CreatedBy CreatedSince ID Size",
        ),
        (
            &["system", "df", "--format", "json"],
            "Active Reclaimable Size TotalCount Type",
        ),
    ] {
        let text = shown(&t, words);
        for line in text.lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let keys: Vec<&String> = row.as_object().unwrap().keys().collect();
            let keys: Vec<&str> = keys.into_iter().map(String::as_str).collect();
            assert_eq!(keys.join(" "), want, "{words:?}");
        }
        assert!(!text.is_empty(), "{words:?}");
    }
    // As with docker, `json` alone does not look for sizes, and a template that has them does.
    let sizes = |format: &str| shown(&t, &["ps", "-a", "--format", format]);
    assert!(sizes("json").contains(r#""Size":"0B""#));
    assert!(sizes("{{json .}}").contains(r#""Size":"0B (virtual "#));
    let called = [
        "stats",
        "--no-stream",
        "--format",
        "{{.Container}} {{.MemUsage}}",
        "never",
    ];
    assert_eq!(shown(&t, &called), "never 0B / 0B");
    t.cask(&["rm", "-f", "up"]).ok();
}

#[test]
fn filters_of_one_kind_are_alternatives() {
    let t = env();
    let found = |filters: &[&str]| {
        let mut words = vec!["ps", "-a", "--format", "{{.Names}}"];
        words.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
        shown(&t, &words)
    };
    for (filters, want) in [
        (&["name=up", "name=never"][..], "up\nnever"),
        (&["status=running", "status=created"], "up\nnever"),
        (&["name=up", "status=created"], ""),
        (&["label=who", "label=x.my-key_z"], "never"),
        (&["label=who", "label=none"], ""),
        (&["name=^(up|never)$"], "up\nnever"),
        (&["name=^u"], "up"),
        (&["name=^/never$"], "never"),
        (&["name=eve"], "never"),
        (&["name=^eve"], ""),
    ] {
        assert_eq!(found(filters), want, "{filters:?}");
    }
    let volumes = [
        "volume", "ls", "-q", "--filter", "name=vol", "--filter", "name=x",
    ];
    assert_eq!(shown(&t, &volumes), "vol");
    let images = ["--filter", "reference=none", "--filter", "reference=busy*"];
    let images = [&["images", "--format", "{{.Tag}}"][..], &images].concat();
    assert_eq!(shown(&t, &images), "latest");
    t.cask(&["rm", "-f", "up"]).ok();
}

#[test]
fn df_tells_of_everything_by_kind() {
    let t = env();
    t.cask(&["stop", "-t", "0", "up"]).ok();
    let text = shown(&t, &["system", "df", "-v"]);
    let parts: Vec<&str> = text.split("\n\n").collect();
    assert_eq!(parts[0], "Images space usage:");
    assert!(
        parts[1].starts_with("REPOSITORY   TAG       IMAGE ID"),
        "{text}"
    );
    assert_eq!(parts[2], "Containers space usage:");
    assert!(
        parts[3].starts_with("CONTAINER ID   IMAGE     COMMAND"),
        "{text}"
    );
    assert!(parts[3].contains("LOCAL VOLUMES   SIZE"), "{text}");
    assert_eq!(parts[4], "Local Volumes space usage:");
    assert_eq!(
        parts[5],
        "VOLUME NAME   LINKS     SIZE\nvol           1         0B"
    );
    assert!(parts[6].starts_with("Build cache usage: "), "{text}");
    assert!(parts[7].starts_with("CACHE ID "), "{text}");
    let json = shown(&t, &["system", "df", "-v", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["Images", "Containers", "Volumes", "BuildCache"]);
    assert_eq!(json["Volumes"][0]["Links"], "1");
    assert_eq!(json["Containers"][1]["ID"].as_str().unwrap().len(), 64);
    assert_eq!(json["Images"][0]["Containers"], "2");
    let template = "{{range .Containers}}{{.Names}} {{end}}";
    let names = shown(&t, &["system", "df", "-v", "--format", template]);
    assert_eq!(names, "up never ");
    let raw = shown(&t, &["system", "df", "-v", "--format", "raw"]);
    assert!(
        raw.contains("type: Volume\nname: vol\ndriver: local\n"),
        "{raw}"
    );
    let raw = shown(&t, &["system", "df", "--format", "raw"]);
    assert!(
        raw.contains("type: Local Volumes\ntotal: 1\nactive: 1\nsize: 0B\nreclaimable: 0B\n"),
        "{raw}"
    );
}

#[test]
fn df_tells_of_each_result_of_a_build() {
    let t = TestEnv::new();
    t.busybox("busybox");
    let t = t.dockerfile("FROM busybox\nRUN --mount=type=cache,target=/c echo x > /x\n");
    t.cooper(&["build", "-q", "-t", "app", "."]).ok();
    let rows = || {
        let json = t.cooper(&["df", "-v", "--format", "json"]).ok().stdout();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        json["BuildCache"].as_array().unwrap().clone()
    };
    let made = rows();
    let of = |kind: &str| made.iter().filter(|row| row["CacheType"] == kind).count();
    assert_eq!(of("exec.cachemount"), 1, "{made:?}");
    assert!(of("regular") >= 1, "{made:?}");
    let shared = |rows: &[serde_json::Value]| rows.iter().any(|row| row["Shared"] == "true");
    assert!(shared(&made), "{made:?}");
    t.cooper(&["rmi", "app"]).ok();
    let left = rows();
    assert_eq!(left.len(), made.len());
    let mut regular = left.iter().filter(|row| row["CacheType"] == "regular");
    assert!(regular.any(|row| row["Shared"] == "false"), "{left:?}");
}

#[test]
fn events_have_dockers_keys_and_filters() {
    let t = TestEnv::new();
    t.busybox("busybox");
    t.cask(&["volume", "create", "vol"]).ok();
    t.cask(&["network", "create", "lan"]).ok();
    for name in ["one", "two"] {
        t.cask(&[
            "run",
            "--name",
            name,
            "-l",
            "who=me",
            "--network",
            "none",
            "busybox",
            "true",
        ])
        .ok();
    }
    t.cask(&["volume", "rm", "vol"]).ok();
    let events = |filters: &[&str], format: &str| {
        let mut words = vec![
            "events", "--since", "1h", "--until", "0s", "--format", format,
        ];
        words.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
        shown(&t, &words)
    };
    let brief = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}";
    for (filters, want) in [
        (
            &["type=volume"][..],
            "volume create <no value>\nvolume destroy <no value>",
        ),
        (
            &["volume=vol", "event=destroy"],
            "volume destroy <no value>",
        ),
        (&["network=lan"], "network create lan"),
        (
            &[
                "event=create",
                "event=die",
                "container=one",
                "container=two",
            ],
            "container create one\ncontainer die one\ncontainer create two\ncontainer die two",
        ),
        (
            &["image=busybox", "event=start", "label=who=me"],
            "container start one\ncontainer start two",
        ),
        (&["image=busybox:latest", "event=start"], ""),
        (&["label=who=me", "label=none"], ""),
        (&["scope=swarm"], ""),
        (&["daemon=x"], ""),
    ] {
        assert_eq!(events(filters, brief), want, "{filters:?}");
    }
    let keys = |filter: &str| {
        let json = events(&[filter], "json");
        let json: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        keys.into_iter().cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        keys("container=one"),
        "status id from Type Action Actor scope time timeNano"
    );
    assert_eq!(
        keys("type=network"),
        "Type Action Actor scope time timeNano"
    );
    let named = events(
        &["type=network"],
        "{{.ID}}|{{.From}}|{{.Scope}}|{{eq .Time 0}}",
    );
    assert_eq!(named, "||local|false");
    t.cask(&["events", "--filter", "shoe=1"])
        .fails(2)
        .says("there is no filter `shoe`");
}

#[test]
fn prune_says_what_went_in_dockers_words() {
    let t = TestEnv::new();
    t.busybox("busybox");
    let prune = |words: &[&str]| {
        let words = [words, &["prune", "-f"]].concat();
        shown(&t, &words)
    };
    assert_eq!(prune(&["container"]), "Total reclaimed space: 0B");
    assert_eq!(prune(&["network"]), "");
    let write = [
        "run",
        "--name",
        "box",
        "--network",
        "none",
        "-v",
        "/anon",
        "busybox",
    ];
    let write = [
        &write[..],
        &["sh", "-c", "printf 12345 > /file; printf 123 > /anon/file"],
    ]
    .concat();
    t.cask(&write).ok();
    let id = shown(&t, &["inspect", "-f", "{{.Id}}", "box"]);
    let volume = shown(&t, &["volume", "ls", "-q"]);
    assert_eq!(
        prune(&["container"]),
        format!("Deleted Containers:\n{id}\n\nTotal reclaimed space: 5B")
    );
    assert_eq!(
        prune(&["volume"]),
        format!("Deleted Volumes:\n{volume}\n\nTotal reclaimed space: 3B")
    );
    t.cask(&["network", "create", "lan"]).ok();
    t.cask(&["create", "--name", "box", "busybox"]).ok();
    let id = shown(&t, &["inspect", "-f", "{{.Id}}", "box"]);
    let all = prune(&["system"]);
    let want =
        format!("Deleted Containers:\n{id}\n\nDeleted Networks:\nlan\n\nTotal reclaimed space: ");
    assert!(all.starts_with(&want), "{all}");
    let images = shown(&t, &["image", "prune", "-a", "-f"]);
    assert!(
        images.starts_with("Deleted Images:\nuntagged: busybox:latest\ndeleted: sha256:"),
        "{images}"
    );
}

#[test]
fn info_and_version_answer_dockers_templates() {
    let t = env();
    let format =
        "{{.Containers}} {{.ContainersRunning}} {{.ContainersStopped}} {{.Images}} {{.OSType}}";
    assert_eq!(shown(&t, &["info", "--format", format]), "2 1 1 1 linux");
    let root = shown(&t, &["info", "-f", "{{.DockerRootDir}} {{gt .NCPU 0}}"]);
    assert_eq!(root, format!("{} true", t.root().display()));
    let version = |side: &str| {
        let format = format!("{{{{.{side}.Version}}}}");
        shown(&t, &["version", "--format", &format])
    };
    assert_eq!(version("Client"), env!("CARGO_PKG_VERSION"));
    assert_eq!(version("Server"), version("Client"));
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
