//! What `inspect` tells of a container: docker's fields with docker's types, since templates and
//! scripts read them.
//!
//! The tables were written down from docker 28.5 over the same options.

use serde_json::{Value, json};

use crate::support::TestEnv;

fn env() -> TestEnv {
    let t = TestEnv::new();
    t.busybox("busybox");
    t.cask(&["volume", "create", "vol"]).ok();
    t
}

fn inspected(t: &TestEnv, name: &str) -> Value {
    let text = t.cask(&["inspect", name]).ok().stdout();
    let all: Value = serde_json::from_str(&text).unwrap();
    all[0].clone()
}

/// Options of `create`, a path in what `inspect` prints then, and what is there.
type Row = (&'static [&'static str], &'static str, Value);

#[rustfmt::skip]
fn host_rows() -> Vec<Row> {
    vec![
        (&["--cap-add", "net_admin", "--cap-add", "CAP_SYS_TIME"], "CapAdd", json!(["CAP_NET_ADMIN", "CAP_SYS_TIME"])),
        (&["--cap-add", "all", "--cap-drop", "chown"], "CapAdd", json!(["ALL"])),
        (&["--cap-add", "all", "--cap-drop", "chown"], "CapDrop", json!(["CAP_CHOWN"])),
        (&["--cap-drop", "ALL"], "CapDrop", json!(["ALL"])),
        (&["--privileged"], "Privileged", json!(true)),
        (&["--privileged"], "SecurityOpt", json!(["label=disable"])),
        (&["--privileged"], "MaskedPaths", json!(null)),
        (&["--security-opt", "no-new-privileges:true", "--security-opt", "seccomp=unconfined"], "SecurityOpt", json!(["no-new-privileges:true", "seccomp=unconfined"])),
        (&["--security-opt", "systempaths=unconfined"], "SecurityOpt", json!(null)),
        (&["--security-opt", "systempaths=unconfined"], "MaskedPaths", json!([])),
        (&["-v", "vol:/data", "-v", "/tmp:/host:ro", "-v", "/anon", "-v", "vol:/d2:rw,nocopy"], "Binds", json!(["vol:/data", "/tmp:/host:ro", "vol:/d2:rw,nocopy"])),
        (&["--tmpfs", "/t:size=64m", "--tmpfs", "/u"], "Tmpfs", json!({"/t": "size=64m", "/u": ""})),
        (&["--mount", "type=bind,source=/tmp,target=/h,readonly"], "Mounts", json!([{"Type": "bind", "Source": "/tmp", "Target": "/h", "ReadOnly": true}])),
        (&["--mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777"], "Mounts", json!([{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 1023}}])),
        (&["--mount", "type=bind,source=/tmp,target=/p,bind-propagation=rslave"], "Mounts", json!([{"Type": "bind", "Source": "/tmp", "Target": "/p", "BindOptions": {"Propagation": "rslave"}}])),
        (&["--mount", "type=volume,source=vol,target=/v"], "Binds", json!(null)),
        (&["--ulimit", "nofile=1024:2048", "--ulimit", "core=-1"], "Ulimits", json!([{"Name": "core", "Hard": -1, "Soft": -1}, {"Name": "nofile", "Hard": 2048, "Soft": 1024}])),
        (&["--device", "/dev/null:/dev/x"], "Devices", json!([{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}])),
        (&["--dns", "1.1.1.1"], "Dns", json!(["1.1.1.1"])),
        (&["--dns-search", "x.y"], "DnsSearch", json!(["x.y"])),
        (&["--dns-option", "ndots:2"], "DnsOptions", json!(["ndots:2"])),
        (&["--add-host", "h:1.2.3.4"], "ExtraHosts", json!(["h:1.2.3.4"])),
        (&["--shm-size", "1g"], "ShmSize", json!(1 << 30)),
        (&["--sysctl", "net.ipv4.ip_forward=1"], "Sysctls", json!({"net.ipv4.ip_forward": "1"})),
        (&["--annotation", "a=b"], "Annotations", json!({"a": "b"})),
        (&["--group-add", "50", "--group-add", "adm"], "GroupAdd", json!(["50", "adm"])),
        (&["--oom-score-adj", "5"], "OomScoreAdj", json!(5)),
        (&["--ipc", "shareable"], "IpcMode", json!("shareable")),
        (&["--userns", "host"], "UsernsMode", json!("host")),
        (&["-m", "64m", "--memory-swap", "-1"], "MemorySwap", json!(-1)),
        (&["-m", "64m"], "Memory", json!(64 << 20)),
        (&["--cpus", "1.5"], "NanoCpus", json!(1_500_000_000)),
        (&["--pids-limit", "9"], "PidsLimit", json!(9)),
        (&["--log-opt", "max-size=1m", "--log-opt", "max-file=3"], "LogConfig", json!({"Type": "json-file", "Config": {"max-file": "3", "max-size": "1m"}})),
        (&["-p", "127.0.0.1:8080:81/udp", "-p", "80"], "PortBindings", json!({"81/udp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "80/tcp": [{"HostIp": "", "HostPort": ""}]})),
        (&["--restart", "on-failure:3"], "RestartPolicy", json!({"Name": "on-failure", "MaximumRetryCount": 3})),
        (&["--read-only"], "ReadonlyRootfs", json!(true)),
        (&["--init=false"], "Init", json!(false)),
        (&["--rm"], "AutoRemove", json!(true)),
    ]
}

#[rustfmt::skip]
fn config_rows() -> Vec<Row> {
    vec![
        (&["-p", "80", "-p", "9000-9001:90-91", "--expose", "70"], "ExposedPorts", json!({"70/tcp": {}, "80/tcp": {}, "90/tcp": {}, "91/tcp": {}})),
        (&["-v", "/anon", "-v", "vol:/data"], "Volumes", json!({"/anon": {}})),
        (&["--mount", "type=volume,target=/w"], "Volumes", json!(null)),
        (&["-e", "A=1"], "Env", json!(["A=1", "PATH=/bin"])),
        (&["--health-cmd", "true x", "--health-interval", "5s", "--health-retries", "2"], "Healthcheck", json!({"Test": ["CMD-SHELL", "true x"], "Interval": 5_000_000_000_u64, "Retries": 2})),
        (&["--no-healthcheck"], "Healthcheck", json!({"Test": ["NONE"]})),
        (&["--stop-signal", "INT"], "StopSignal", json!("INT")),
        (&["--stop-timeout", "3"], "StopTimeout", json!(3)),
        (&["-i"], "AttachStdin", json!(true)),
        (&["-i"], "StdinOnce", json!(true)),
        (&["-h", "hh"], "Hostname", json!("hh")),
        (&["-l", "k=v"], "Labels", json!({"k": "v"})),
        (&["--entrypoint", "sh"], "Entrypoint", json!(["sh"])),
        (&["--entrypoint", ""], "Entrypoint", json!(null)),
    ]
}

#[test]
fn options_are_told_in_dockers_words_and_types() {
    let t = env();
    let image = "FROM busybox\nENV PATH=/bin\nCMD [\"sh\"]\n";
    let t = t.dockerfile(image);
    t.cooper(&["build", "-q", "-t", "app", "."]).ok();
    let host = host_rows().into_iter().map(|row| ("HostConfig", row));
    let config = config_rows().into_iter().map(|row| ("Config", row));
    for (part, (options, field, want)) in host.chain(config) {
        // The program is given where a limit might not be kept, so that no row depends on it.
        let words = [
            &["create", "--limits=best-effort", "--name", "box"],
            options,
            &["app", "sh"],
        ];
        t.cask(&words.concat()).ok();
        assert_eq!(
            inspected(&t, "box")[part][field],
            want,
            "{options:?} {field}"
        );
        t.cask(&["rm", "-v", "box"]).ok();
    }
}

#[test]
fn what_was_not_asked_for_is_as_empty_as_docker_has_it() {
    let t = env();
    t.cask(&["create", "--name", "box", "busybox", "true"]).ok();
    let shown = inspected(&t, "box");
    let host = shown["HostConfig"].as_object().unwrap();
    for field in [
        "Binds",
        "VolumesFrom",
        "CapAdd",
        "CapDrop",
        "ExtraHosts",
        "GroupAdd",
        "Links",
        "SecurityOpt",
        "DeviceCgroupRules",
        "DeviceRequests",
        "MemorySwappiness",
        "PidsLimit",
    ] {
        assert_eq!(host.get(field), Some(&Value::Null), "{field}");
    }
    for field in [
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "Devices",
        "Ulimits",
        "BlkioWeightDevice",
    ] {
        assert_eq!(host.get(field), Some(&json!([])), "{field}");
    }
    for field in ["Mounts", "Tmpfs", "Sysctls", "Annotations"] {
        assert_eq!(host.get(field), None, "{field}");
    }
    for (field, want) in [
        ("PortBindings", json!({})),
        ("LogConfig", json!({"Type": "json-file", "Config": {}})),
        ("ShmSize", json!(67_108_864)),
        ("IpcMode", json!("private")),
        ("PidMode", json!("")),
        ("UTSMode", json!("")),
        ("UsernsMode", json!("")),
        ("CgroupnsMode", json!("private")),
        ("Privileged", json!(false)),
        ("NanoCpus", json!(0)),
        ("ConsoleSize", json!([0, 0])),
        ("ContainerIDFile", json!("")),
    ] {
        assert_eq!(host.get(field), Some(&want), "{field}");
    }
    let masked = host["MaskedPaths"].as_array().unwrap();
    assert!(masked.contains(&json!("/proc/kcore")), "{masked:?}");
    let config = shown["Config"].as_object().unwrap();
    for field in ["Volumes", "Entrypoint", "OnBuild"] {
        assert_eq!(config.get(field), Some(&Value::Null), "{field}");
    }
    for field in [
        "Healthcheck",
        "StopSignal",
        "StopTimeout",
        "Shell",
        "ExposedPorts",
    ] {
        assert_eq!(config.get(field), None, "{field}");
    }
    assert_eq!(config["AttachStdout"], json!(true));
    assert_eq!(config["Labels"], json!({}));
    let top: Vec<&String> = shown.as_object().unwrap().keys().collect();
    let docker = [
        "Id",
        "Created",
        "Path",
        "Args",
        "State",
        "Image",
        "ResolvConfPath",
        "HostnamePath",
        "HostsPath",
        "LogPath",
        "Name",
        "RestartCount",
        "Driver",
        "Platform",
        "MountLabel",
        "ProcessLabel",
        "AppArmorProfile",
        "ExecIDs",
        "HostConfig",
        "GraphDriver",
        "Mounts",
        "Config",
        "NetworkSettings",
    ];
    assert_eq!(top, docker);
    let line = "{{.HostConfig.Binds}} {{.HostConfig.CapAdd}} {{.Config.Entrypoint}} \
        {{.Config.Volumes}} {{.HostConfig.Mounts}} {{.HostConfig.Tmpfs}} {{.HostConfig.PidsLimit}} \
        {{.State.Health}} {{.Config.StopSignal}}|{{len .HostConfig.Binds}}";
    assert_eq!(
        t.cask(&["inspect", "-f", line, "box"]).ok().stdout(),
        "[] [] [] map[] [] map[] <nil> <nil> |0"
    );
}

#[test]
fn mounts_are_told_with_their_options() {
    let t = env();
    t.cask(&[
        "create",
        "--name",
        "box",
        "-v",
        "vol:/data",
        "-v",
        "/tmp:/host:ro",
        "-v",
        "vol:/d2:rw,nocopy",
        "-v",
        "/anon",
        "--tmpfs",
        "/t",
        "--mount",
        "type=tmpfs,target=/m",
        "--mount",
        "type=bind,source=/tmp,target=/p,bind-propagation=rslave",
        "busybox",
        "true",
    ])
    .ok();
    let shown = inspected(&t, "box");
    let of = |target: &str| {
        let mut all = shown["Mounts"].as_array().unwrap().iter();
        all.find(|mount| mount["Destination"] == target).cloned()
    };
    let mut volume = of("/data").unwrap();
    let source = volume.as_object_mut().unwrap().shift_remove("Source");
    assert!(
        source
            .unwrap()
            .as_str()
            .unwrap()
            .ends_with("/volumes/vol/_data")
    );
    assert_eq!(
        volume.to_string(),
        r#"{"Type":"volume","Name":"vol","Destination":"/data","Driver":"local","Mode":"z","RW":true,"Propagation":""}"#
    );
    assert_eq!(
        of("/host").unwrap().to_string(),
        r#"{"Type":"bind","Source":"/tmp","Destination":"/host","Mode":"ro","RW":false,"Propagation":"rprivate"}"#
    );
    assert_eq!(of("/d2").unwrap()["Mode"], "rw,nocopy");
    let anonymous = of("/anon").unwrap();
    assert_eq!(
        (
            &anonymous["Mode"],
            anonymous["Name"].as_str().unwrap().len()
        ),
        (&json!(""), 64)
    );
    assert_eq!(of("/t"), None);
    assert_eq!(of("/m").unwrap()["Type"], "tmpfs");
    assert_eq!(of("/p").unwrap()["Propagation"], "rslave");
    t.cask(&[
        "create",
        "--name",
        "other",
        "--volumes-from",
        "box:ro",
        "busybox",
        "true",
    ])
    .ok();
    let other = inspected(&t, "other");
    assert_eq!(other["HostConfig"]["VolumesFrom"], json!(["box:ro"]));
}

#[test]
fn a_running_container_tells_its_streams_state_and_health() {
    let t = env();
    t.cask(&[
        "run",
        "-d",
        "--name",
        "box",
        "--health-cmd",
        "echo fine",
        "--health-interval",
        "50ms",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    t.cask(&["wait", "--condition=healthy", "box"]).ok();
    let shown = inspected(&t, "box");
    assert_eq!(shown["Config"]["AttachStdout"], json!(false));
    assert_eq!(shown["State"]["Health"]["Status"], "healthy");
    assert_eq!(shown["State"]["Health"]["FailingStreak"], 0);
    let checked = &shown["State"]["Health"]["Log"][0];
    assert_eq!(
        (&checked["ExitCode"], &checked["Output"]),
        (&json!(0), &json!("fine\n"))
    );
    let network = &shown["NetworkSettings"];
    for (field, want) in [
        ("HairpinMode", json!(false)),
        ("SecondaryIPAddresses", json!(null)),
        ("LinkLocalIPv6PrefixLen", json!(0)),
    ] {
        assert_eq!(network[field], want, "{field}");
    }
    t.cask(&["rm", "-f", "box"]).ok();
}

#[test]
fn groups_of_verbs_look_at_one_kind() {
    let t = env();
    t.cask(&[
        "container",
        "create",
        "--name",
        "busybox",
        "busybox",
        "true",
    ])
    .ok();
    let name = |words: &[&str]| t.cask(words).ok().stdout();
    assert_eq!(name(&["inspect", "-f", "{{.Name}}", "busybox"]), "/busybox");
    assert_eq!(
        name(&["container", "inspect", "-f", "{{.Name}}", "busybox"]),
        "/busybox"
    );
    let tags = ["image", "inspect", "-f", "{{.RepoTags}}", "busybox"];
    assert_eq!(name(&tags), "[busybox:latest]");
    let list = name(&["inspect", "--type", "container", "busybox"]);
    assert!(list.starts_with('['), "{list}");
    t.cask(&["container", "inspect", "vol"])
        .fails(1)
        .says("there is no container `vol`");
    assert_eq!(
        name(&["container", "ls", "-a", "--format", "{{.Names}}"]),
        "busybox"
    );
    assert_eq!(
        name(&["image", "ls", "--format", "{{.Repository}}"]),
        "busybox"
    );
    t.cask(&["container", "rm", "busybox"]).ok();
    t.cask(&["image", "tag", "busybox", "other"]).ok();
    assert_eq!(name(&["image", "rm", "other"]), "Untagged: other:latest");
    t.cask(&["container", "run", "--bogus"]).fails(125);
}
