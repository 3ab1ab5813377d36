//! RUN --network, --security and --device: what a Dockerfile can't give to itself.

use crate::support::TestEnv;

fn env(dockerfile: &str) -> TestEnv {
    let t = TestEnv::new().dockerfile(dockerfile);
    t.busybox("busybox");
    t
}

const CAPS: &str =
    "sed -n 's/^CapEff:\\t/effective /p;s/^Seccomp:\\t/seccomp /p' /proc/self/status";

#[test]
fn the_network_of_the_host_needs_leave() {
    let t = env("FROM busybox\nRUN --network=host true\n");
    t.build_with(&["--network=none"])
        .fails(1)
        .says("network.host is not allowed")
        .says("--allow network.host");
    t.build_with(&["--network=none", "--allow", "network.host"])
        .ok();
    t.build_with(&["--network=host"]).ok();
    t.write("Dockerfile", "FROM busybox\nRUN --network=hosts true\n");
    t.build().fails(1).says("invalid network mode");
}

#[test]
fn the_network_of_the_host_is_the_hosts_and_default_is_the_builds() {
    let t = env(concat!(
        "FROM busybox\n",
        "RUN --network=host readlink /proc/self/ns/net\n",
        "RUN --network=default echo links $(ls /sys/class/net)\n",
    ));
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    t.build_with(&["--network=none", "--allow=network.host"])
        .ok()
        .says(host.to_str().unwrap())
        .says("links lo\n");
}

#[test]
fn t_ctx_6_an_insecure_step_needs_leave_and_the_next_is_normal() {
    let t = env(&format!(
        "FROM busybox\nRUN --security=insecure echo first; {CAPS}; cat /proc/timer_list >/dev/null && mount -t tmpfs x /mnt\nRUN echo second; {CAPS}\n"
    ).replace("/mnt", "/tmp"));
    t.build()
        .fails(1)
        .says("security.insecure is not allowed")
        .says("--allow security.insecure");
    let err = t
        .build_with(&["--allow", "security.insecure"])
        .ok()
        .stderr();
    let (first, second) = err.split_once("second").unwrap();
    assert!(
        first.contains("seccomp 0") && !first.contains("effective 00000000a80425fb"),
        "{err}"
    );
    assert!(
        second.contains("effective 00000000a80425fb") && second.contains("seccomp 2"),
        "{err}"
    );
    t.write("Dockerfile", "FROM busybox\nRUN --security=none true\n");
    t.build().fails(1).says("security \"none\" is not valid");
}

#[test]
fn an_insecure_step_of_an_ordinary_user_gets_what_the_user_has() {
    let t = TestEnv::as_user("sub");
    t.busybox("busybox");
    t.write(
        "Dockerfile",
        format!("FROM busybox\nRUN --security=insecure {CAPS} && mount -t tmpfs x /tmp && ! mknod /dev/sda b 8 0\n"),
    );
    t.build_with(&["--allow", "security.insecure"])
        .ok()
        .says("seccomp 0");
}

/// A specification of the machine that goes with the value.
struct Cdi(std::path::PathBuf);

impl Cdi {
    fn new(kind: &str) -> Self {
        std::fs::create_dir_all("/etc/cdi").unwrap();
        let path =
            std::path::PathBuf::from(format!("/etc/cdi/cooper-test-{}.json", std::process::id()));
        let spec = format!(
            r#"{{"cdiVersion":"0.6.0","kind":"{kind}","devices":[
                {{"name":"a","containerEdits":{{"env":["DEVICE_A=here"],
                  "deviceNodes":[{{"path":"/dev/acme0","hostPath":"/dev/zero"}}],
                  "mounts":[{{"hostPath":"/etc/hostname","containerPath":"/acme/name","options":["ro"]}}]}}}},
                {{"name":"b","containerEdits":{{"env":["DEVICE_B=here"],"hooks":[{{"hookName":"createContainer","path":"/bin/false"}}]}}}}]}}"#
        );
        std::fs::write(&path, spec).unwrap();
        Self(path)
    }

    /// One in YAML whose devices every build may have, by a name that both have in common.
    fn free(kind: &str) -> Self {
        let name = format!("/etc/cdi/cooper-test-free-{}.yaml", std::process::id());
        let spec = format!(
            "cdiVersion: 0.6.0\nkind: {kind}\nannotations:\n  \
             org.mobyproject.buildkit.device.autoallow: \"true\"\n  \
             org.mobyproject.buildkit.device.class: both\ndevices:\n\
             - name: c\n  containerEdits:\n    env: [DEVICE_C=here]\n\
             - name: d\n  containerEdits:\n    env: [DEVICE_D=here]\n"
        );
        std::fs::create_dir_all("/etc/cdi").unwrap();
        std::fs::write(&name, spec).unwrap();
        Self(name.into())
    }
}

impl Drop for Cdi {
    fn drop(&mut self) {
        // Left behind it would only be a device that nobody asks for.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_class_of_devices_may_be_free_to_all_builds() {
    let kind = format!("cooper{}.test/free", std::process::id());
    let _cdi = Cdi::free(&kind);
    let t = env(&format!(
        "FROM busybox\nRUN --device={kind}=both,required test $DEVICE_C$DEVICE_D = herehere\n"
    ));
    t.build().ok();
}

#[test]
fn devices_are_the_machines_and_need_leave() {
    let kind = format!("cooper{}.test/thing", std::process::id());
    let _cdi = Cdi::new(&kind);
    let t = env(&format!(
        "FROM busybox\n\
         RUN --device={kind}=a,required test -c /dev/acme0 && test \"$DEVICE_A\" = here && head -c 3 /dev/acme0 | wc -c && test -s /acme/name && ! touch /acme/name\n\
         RUN --device={kind}=* test $DEVICE_A$DEVICE_B = herehere\n\
         RUN --device={kind} test \"$DEVICE_A$DEVICE_B\" = here\n\
         RUN --device={kind}=none test -z \"$DEVICE_A\" && test ! -e /dev/acme0 && test ! -e /acme\n"
    ));
    t.build()
        .fails(1)
        .says(&format!("device={kind}=a is not allowed"));
    t.build_with(&["--allow", &format!("device={kind}=a")])
        .fails(1)
        .says(&format!("device={kind}=* is not allowed"));
    t.build_with(&["--allow", "device"])
        .ok()
        .says("hooks of device");
    t.write(
        "Dockerfile",
        format!("FROM busybox\nRUN --device={kind}=none,required true\n"),
    );
    t.build_with(&["--allow", "device"])
        .fails(1)
        .says(&format!("device {kind}=none: not found"));
}
