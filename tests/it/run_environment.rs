//! What a RUN finds around it: user, home, groups, names, streams; and how it may end.

use crate::support::TestEnv;

fn env(dockerfile: &str) -> TestEnv {
    let t = TestEnv::new().dockerfile(dockerfile);
    t.busybox("busybox");
    t
}

#[test]
fn home_is_the_users_and_is_not_kept() {
    let t = env(concat!(
        "FROM busybox\nRUN test $HOME = /root\n",
        "USER app\nRUN test $HOME = /home/app\n",
        "USER 1000\nRUN test $HOME = /home/app\n",
        "USER 4321\nRUN test $HOME = /\n",
        "ENV HOME=/set\nRUN test $HOME = /set\n",
        "FROM busybox\nRUN true\n",
    ));
    t.build_with(&["-t", "x"]).ok();
    let config = t.cooper(&["inspect", "x"]).ok().stdout();
    for name in ["HOME=", "PWD=", "HOSTNAME="] {
        assert!(!config.contains(name), "{name} in {config}");
    }
}

#[test]
fn users_and_groups_are_those_of_the_image() {
    env(concat!(
        "FROM busybox\nRUN printf 'app:x:1000:\\nstaff:x:50:other,app\\nwheel:x:10:app\\nroot:x:0:root\\nadm:x:4:root\\n' > /etc/group\n",
        "RUN test \"$(id -u):$(id -g):$(id -G)\" = '0:0:0 4'\n",
        "USER app\nRUN test \"$(id -u):$(id -g):$(id -G)\" = '1000:1000:1000 10 50'\n",
        "USER app:staff\nRUN test \"$(id -u):$(id -g):$(id -G)\" = '1000:50:50'\n",
        "USER 1000:4\nRUN test \"$(id -u):$(id -g):$(id -G)\" = '1000:4:4'\n",
        "USER 4321\nRUN test \"$(id -u):$(id -g):$(id -G)\" = '4321:0:0'\n",
        "RUN test \"$(sed -n 's/^Groups:\t//p' /proc/self/status)\" = '0 '\n",
        "USER 4321:9\nRUN test \"$(id -u):$(id -g):$(id -G)\" = '4321:9:9'\n",
    ))
    .build()
    .ok();
}

#[test]
fn an_unknown_user_or_group_fails() {
    let t = env("FROM busybox\nUSER nobody-here\nRUN true\n");
    t.build().fails(1).says("nobody-here");
    t.write(
        "Dockerfile",
        "FROM busybox\nUSER app:no-such-group\nRUN true\n",
    );
    t.build().fails(1).says("no-such-group");
}

#[test]
fn the_host_name_is_the_builders_unless_an_argument_says_so() {
    let t =
        env("FROM busybox\nRUN echo \"name $(hostname).\" && grep -q \"$(hostname)\" /etc/hosts\n");
    t.build().ok().says("name buildkitsandbox.");
    t.build_with(&["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=elsewhere"])
        .ok()
        .says("name elsewhere.");
}

#[test]
fn a_step_has_dockers_capabilities_and_namespaces_of_its_own() {
    let outside = |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
    let t = env(concat!(
        "FROM busybox\n",
        "RUN grep -E '^Cap(Prm|Eff|Bnd):' /proc/self/status | cut -f2 | sort -u; echo CapInh $(sed -n 's/CapInh:\\t//p' /proc/self/status)\n",
        "RUN for n in pid mnt ipc uts cgroup; do readlink /proc/self/ns/$n; done\n",
        "RUN ! touch /sys/x && test -c /dev/null -a -c /dev/zero -a -c /dev/full -a -c /dev/random -a -c /dev/urandom -a -c /dev/tty -a -d /dev/pts -a -d /dev/shm -a -L /dev/stdin\n",
        "RUN test -z \"$(cat)\" && test ! -t 0 && test ! -t 1\n",
        "RUN test -z \"$(cat /proc/keys 2>/dev/null)\" && ! cat /proc/kcore >/dev/null 2>&1 || test ! -s /proc/kcore\n",
    ));
    let err = t.build().ok().stderr();
    assert!(err.contains(" 00000000a80425fb\n"), "{err}");
    assert!(err.contains("CapInh 0000000000000000"), "{err}");
    for name in ["pid", "mnt", "ipc", "uts", "cgroup"] {
        let outside = outside(name);
        assert!(!err.contains(outside.to_str().unwrap()), "{name}: {err}");
    }
}

#[test]
fn the_shell_form_uses_shell_and_neither_entrypoint_nor_cmd() {
    env(concat!(
        "FROM busybox\nENTRYPOINT [\"/bin/false\"]\nCMD [\"/bin/false\"]\n",
        "RUN echo \"shell $0\" && test \"$0\" = /bin/sh\n",
        "RUN [\"/bin/echo\", \"$HOME\", \"as  it is\"]\n",
        "SHELL [\"/bin/busybox\", \"sh\", \"-ec\"]\nRUN false; exit 1\n",
    ))
    .build()
    .fails(1)
    .says("$HOME as  it is")
    .says(
        "process \"/bin/busybox sh -ec false; exit 1\" did not complete successfully: exit code: 1",
    );
}

#[test]
fn every_line_of_a_failing_instruction_is_shown() {
    let t = env("FROM busybox\nRUN echo a && \\\n    # why\n    exit 42 && \\\n    echo b\n");
    let err = t.build().fails(1).stderr();
    assert!(
        err.contains("did not complete successfully: exit code: 42"),
        "{err}"
    );
    for line in ["RUN echo a", "exit 42 &&", "echo b"] {
        assert!(
            err.lines().any(|l| l.contains('|') && l.contains(line)),
            "{line}: {err}"
        );
    }
    t.write("Dockerfile", "FROM busybox\nRUN kill -9 $$\n");
    t.build().fails(1).says("did not complete successfully");
}

#[test]
fn a_layer_holds_changed_paths_and_nothing_else() {
    let t = env(concat!(
        "FROM busybox\nRUN mkdir -p /d/sub /keep && echo 1 > /d/f && echo 2 > /d/sub/g && echo 3 > /keep/k\n",
        "RUN rm /d/f && rm -r /keep && mkdir /keep && echo 4 > /keep/new && mkfifo -m 640 /pipe && echo 5 > /one && ln /one /two && ln -s /nowhere /dangling && chmod 4755 /one && mkdir -m 1777 /sticky\n",
    ));
    let layout = t.beside("layout");
    t.build_with(&[
        "-o",
        &format!("type=oci,tar=false,dest={}", layout.display()),
    ])
    .ok();
    let last = last_layer(&layout);
    let listed = std::process::Command::new("tar")
        .args(["-tvf", last.to_str().unwrap()])
        .output()
        .unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let mut seen: Vec<String> = text
        .lines()
        .map(|line| {
            let mode = line.split_whitespace().next().unwrap();
            let name = line
                .split_whitespace()
                .skip(5)
                .collect::<Vec<_>>()
                .join(" ");
            format!("{mode} {name}")
        })
        .collect();
    seen.sort();
    let mut want = vec![
        "drwxr-xr-x d/",
        "---------- d/.wh.f",
        "lrwxrwxrwx dangling -> /nowhere",
        "drwxr-xr-x keep/",
        "---------- keep/.wh..wh..opq",
        "-rw-r--r-- keep/new",
        "-rwsr-xr-x one",
        "prw-r----- pipe",
        "drwxrwxrwt sticky/",
        "hrwsr-xr-x two link to one",
    ];
    want.sort_unstable();
    assert_eq!(seen, want);
}

/// The file of the last layer of an OCI layout.
fn last_layer(layout: &std::path::Path) -> std::path::PathBuf {
    let json = |path: std::path::PathBuf| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let blob = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        layout.join("blobs").join(digest.replace(':', "/"))
    };
    let index = json(layout.join("index.json"));
    let manifest = json(blob(&index["manifests"][0]));
    let layers = manifest["layers"].as_array().unwrap();
    blob(layers.last().unwrap())
}

#[test]
fn a_run_without_changes_still_has_a_layer_and_a_history_entry() {
    let t = env("FROM busybox\nRUN true\nENV A=b\nRUN : nothing\nLABEL l=v\n");
    t.build_with(&["-t", "x"]).ok();
    let text = t
        .cooper(&["inspect", "--format", "json", "x"])
        .ok()
        .stdout();
    let image: serde_json::Value = serde_json::from_str(&text).unwrap();
    let layers = image
        .pointer("/0/RootFS/Layers")
        .or(image.pointer("/RootFS/Layers"));
    let base = t
        .cooper(&["inspect", "--format", "json", "busybox"])
        .ok()
        .stdout();
    let base: serde_json::Value = serde_json::from_str(&base).unwrap();
    let below = base
        .pointer("/0/RootFS/Layers")
        .or(base.pointer("/RootFS/Layers"));
    let count = |layers: Option<&serde_json::Value>| layers.unwrap().as_array().unwrap().len();
    assert_eq!(count(layers), count(below) + 2);
    let history = t.cooper(&["history", "--no-trunc", "x"]).ok().stdout();
    assert!(
        history.contains("RUN /bin/sh -c : nothing # buildkit"),
        "{history}"
    );
}

#[test]
fn hosts_and_resolv_conf_are_there_and_leave_no_trace() {
    let t = env(
        "FROM busybox\nRUN test -f /etc/resolv.conf && grep -q localhost /etc/hosts && grep -q '10.1.2.3.*db' /etc/hosts && echo more >> /etc/hosts; test ! -w /etc/hosts || true\n",
    );
    let out = t.beside("out");
    t.build_with(&["--add-host", "db:10.1.2.3", "-o", out.to_str().unwrap()])
        .ok();
    assert!(!out.join("etc/hosts").exists() && !out.join("etc/resolv.conf").exists());
}
