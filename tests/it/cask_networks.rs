//! `cask network`: networks that users define, as records.

use crate::support::TestEnv;

/// The verbs need no kernel features, so nobody in particular runs them.
fn env() -> TestEnv {
    TestEnv::new()
}

fn created(t: &TestEnv, args: &[&str]) -> String {
    let id = t.cask(&[&["network", "create"], args].concat()).ok();
    let id = id.stdout();
    assert_eq!(id.len(), 64, "{id}");
    id
}

#[test]
fn networks_are_made_listed_and_removed() {
    let t = env();
    let id = created(&t, &["--label", "tier=front", "web"]);
    created(&t, &["--internal", "data"]);
    let listed = |more: &[&str]| {
        let out = t.cask(&[&["network", "ls"], more].concat()).ok();
        out.stdout()
    };
    let rows: Vec<String> = listed(&[])
        .lines()
        .map(|line| {
            line.split_whitespace()
                .skip(1)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(
        rows,
        [
            "ID NAME DRIVER SCOPE",
            "private bridge local",
            "host host local",
            "none null local",
            "data bridge local",
            "web bridge local"
        ]
    );
    assert_eq!(listed(&["-q", "--filter", "name=web"]), id[..12]);
    assert_eq!(
        listed(&["-q", "--no-trunc", "--filter", "label=tier=front"]),
        id
    );
    assert_eq!(
        listed(&[
            "--filter",
            "type=custom",
            "--format",
            "{{.Name}} {{.Internal}}"
        ]),
        "data true\nweb false"
    );
    let _ = t.cask(&["network", "rm", "web", &id[..5]]).fails(1);
    let _ = t.cask(&["network", "rm", "-f", "web", "data"]).ok();
    assert_eq!(listed(&["-q", "--filter", "type=custom"]), "");
}

#[test]
fn a_network_says_what_it_is() {
    let t = env();
    let options = [
        "--subnet=10.77.0.0/16",
        "--gateway=10.77.0.254",
        "--ip-range=10.77.5.0/24",
        "--ipv6",
        "--subnet=fd77::/64",
        "web",
    ];
    let id = created(&t, &options);
    let show = |format: &str| {
        let args = ["network", "inspect", "--format", format, &id[..8]];
        t.cask(&args).ok().stdout()
    };
    assert_eq!(
        show("{{json .IPAM.Config}}"),
        "[{\"Subnet\":\"10.77.0.0/16\",\"IPRange\":\"10.77.5.0/24\",\"Gateway\":\"10.77.0.254\"},\
         {\"Subnet\":\"fd77::/64\",\"Gateway\":\"fd77::1\"}]"
    );
    assert_eq!(
        show("{{.Name}} {{.Driver}} {{.EnableIPv6}} {{.Internal}} {{json .Containers}}"),
        "web bridge true false {}"
    );
    let both = t.cask(&["network", "inspect", "web", "bridge"]).ok();
    assert!(both.stdout().contains("\"Name\": \"private\""));
}

#[test]
fn what_can_be_no_network_is_refused_and_says_why() {
    let t = env();
    created(&t, &["--subnet=10.77.0.0/16", "web"]);
    for (args, why) in [
        (&["web"][..], "network `web` exists already"),
        (&["host"], "`host` is no name for a network"),
        (&["a b"], "`a b` is no name for a network"),
        (
            &["--subnet=10.77.9.0/24", "x1"],
            "subnet 10.77.9.0/24 overlaps that of network `web`",
        ),
        (
            &["--subnet=10.0.0.0/8", "x1"],
            "subnet 10.0.0.0/8 overlaps that of network `private`",
        ),
        (
            &["--subnet=10.78.0.0/16", "--gateway=10.79.0.1", "x1"],
            "gateway 10.79.0.1 lies in no subnet",
        ),
        (
            &["--subnet=10.78.0.0/31", "x1"],
            "10.78.0.0/31 has too few addresses",
        ),
    ] {
        let _ = t
            .cask(&[&["network", "create"], args].concat())
            .fails(1)
            .says(why);
    }
    let _ = t
        .cask(&["network", "create", "--subnet=10.78", "x1"])
        .fails(2)
        .says("`10.78` is no range of addresses");
    for (args, why) in [
        (["inspect", "we"], "did you mean `web`?"),
        (["rm", "other"], "`cask network ls` lists what is there"),
        (["rm", "host"], "network `host` is always there"),
    ] {
        let _ = t
            .cask(&[&["network"], &args[..]].concat())
            .fails(1)
            .says(why);
    }
    let left = t.cask(&["network", "ls", "-q", "--filter", "type=custom"]);
    assert_eq!(left.ok().stdout().lines().count(), 1, "nothing half made");
}

#[test]
fn options_of_networks_that_can_not_be_had_say_why() {
    let t = env();
    for (options, why) in [
        (&["create", "--ipv4=false", "web"][..], "IPv4 address"),
        (
            &["create", "-o", "com.docker.network.bridge.name=br0", "web"],
            "no bridge",
        ),
        (
            &["create", "--aux-address=a=10.0.0.9", "web"],
            "`--ip-range`",
        ),
        (&["create", "--ipam-driver=dhcp", "web"], "by cask itself"),
        (&["create", "--scope=swarm", "web"], "no swarm"),
        (&["create", "--config-only", "web"], "no swarm"),
        (&["connect", "--gw-priority=1", "web", "box"], "leads out"),
        (&["connect", "--link=db", "web", "box"], "`--alias`"),
    ] {
        t.cask(&[&["network"], options].concat()).fails(2).says(why);
    }
    created(
        &t,
        &[
            "--ipv4=true",
            "--ipam-driver=default",
            "--scope=local",
            "--opt=com.docker.network.bridge.enable_icc=true",
            "web",
        ],
    );
    t.cask(&["network", "inspect", "--verbose", "web"]).ok();
    t.cask(&["network", "rm", "web"]).ok();
}

#[test]
fn prune_removes_what_no_container_is_connected_to() {
    let t = env();
    created(&t, &["--label=keep", "web"]);
    created(&t, &["data"]);
    let out = t.cask(&["network", "prune", "-f"]).ok().stdout();
    assert_eq!(out, "Deleted Networks:\ndata\nweb\n");
    assert_eq!(t.cask(&["network", "prune", "-f"]).ok().stdout(), "");
}

#[test]
fn system_prune_takes_networks_with_the_containers_that_were_on_them() {
    let t = env();
    t.busybox("busybox");
    created(&t, &["web"]);
    created(&t, &["data"]);
    let _ = t
        .cask(&["create", "--name", "box", "--network", "web", "busybox"])
        .ok();
    let out = t.cask(&["network", "prune", "-f"]).ok().stdout();
    assert_eq!(out, "Deleted Networks:\ndata\n");
    let out = t.cask(&["system", "prune", "-f"]).ok().stdout();
    assert!(out.contains("Deleted Networks:\nweb"), "{out}");
    let left = t.cask(&["network", "ls", "-q", "--filter", "type=custom"]);
    assert_eq!(left.ok().stdout(), "");
}

#[test]
fn what_happens_to_networks_is_told() {
    let t = env();
    t.busybox("busybox");
    created(&t, &["web"]);
    created(&t, &["data"]);
    let _ = t
        .cask(&["create", "--name", "box", "--network", "web", "busybox"])
        .ok();
    let _ = t.cask(&["network", "connect", "data", "box"]).ok();
    let _ = t.cask(&["network", "disconnect", "data", "box"]).ok();
    let _ = t.cask(&["rm", "box"]).ok();
    let _ = t.cask(&["network", "rm", "web"]).ok();
    let events = |filter: &str| {
        let format = "--format={{.Type}} {{.Action}} {{.Actor.Attributes.name}}";
        let args = [
            "events",
            "--since=1h",
            "--until=0s",
            "--filter",
            filter,
            format,
        ];
        t.cask(&args).ok().stdout()
    };
    assert_eq!(
        events("type=network"),
        "network create web\nnetwork create data\nnetwork connect data\n\
         network disconnect data\nnetwork destroy web"
    );
    assert_eq!(
        events("network=web"),
        "network create web\nnetwork destroy web"
    );
    assert_eq!(
        events("type=container"),
        "container create box\ncontainer destroy box"
    );
}
