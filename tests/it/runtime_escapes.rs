//! T-RT: what an image may try on the programs that prepare and look after its root, with a canary
//! outside that must come out as it went in.

use std::process::Stdio;
use std::time::Instant;

use crate::support::canary::{Canary, SONG, racing_time};
use crate::support::{TestEnv, everybody};

fn canary(t: &TestEnv) -> Canary {
    Canary::at(t.beside("canary"))
}

#[test]
fn t_rt_6_a_working_directory_behind_links_is_made_inside() {
    everybody(|t| {
        let canary = canary(&t);
        let outside = canary.root().display();
        t.write(
            "Dockerfile",
            format!(
                "FROM busybox
RUN ln -s {outside} /abs && ln -s ../../../../../..{outside} /rel && ln -s /nowhere/at/all /dangling
WORKDIR /abs/new
RUN echo in $PWD > f
WORKDIR /rel/open/new
RUN echo in $PWD > f
WORKDIR /dangling/new
RUN echo in $PWD > f && test -d /nowhere/at/all/new && test -d {outside}/new
"
            ),
        );
        // An ordinary user's directories above the canary are not there, so all are made inside.
        let _ = t.build_with(&["--network=none"]).ok();
        canary.unchanged();
    });
}

/// One step swaps a directory and a link inside a cache for as long as others have their working
/// directory below it, which is made when it is missing.
#[test]
fn t_rt_6_racing_for_a_part_of_the_working_directory_reaches_nothing() {
    everybody(|t| {
        let canary = canary(&t);
        let outside = canary.root().display();
        t.write(
            "Dockerfile",
            format!(
                "FROM busybox\nRUN --mount=type=cache,id=r,target=/c mkdir -p /c/part; ln -sfn {outside}/open /c/link; touch /c/go; \
                 while test -e /c/go; do mv -T /c/part /c/was; mv -T /c/link /c/part; mv -T /c/part /c/link; mv -T /c/was /c/part; done 2>/dev/null; true\n"
            ),
        );
        let mut racer = t
            .command(env!("CARGO_BIN_EXE_cooper"))
            .args(["build", "--network=none", "--progress=plain", "."])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + racing_time();
        let attempt = t.beside("attempt");
        let mut tries = 0;
        while Instant::now() < until {
            tries += 1;
            std::fs::write(
                &attempt,
                format!(
                    "FROM busybox\nWORKDIR /c/part/new{tries}\nRUN --mount=type=cache,id=r,target=/c \
                     cat ../f ../../secret; touch new; chmod 777 .; true\n"
                ),
            )
            .unwrap();
            let out = t.build_with(&["--network=none", "-f", attempt.to_str().unwrap()]);
            let said = out.any().stderr();
            assert!(!said.contains(SONG), "{said}");
        }
        assert!(tries > 0);
        t.write(
            "Dockerfile",
            "FROM busybox\nRUN --mount=type=cache,id=r,target=/c rm -f /c/go\n",
        );
        let _ = t.build_with(&["--network=none"]).ok();
        assert!(racer.wait().unwrap().success());
        canary.unchanged();
    });
}

/// Names that hooks, runtimes, device plugins and service managers act upon elsewhere.
#[test]
fn t_rt_13_labels_and_annotations_do_nothing() {
    everybody(|t| {
        let canary = canary(&t);
        let outside = canary.root().display();
        let names = [
            "run.oci.hooks.stdout",
            "run.oci.mount_context_type",
            "io.podman.annotations.privileged",
            "io.podman.annotations.init",
            "io.containers.capabilities",
            "io.kubernetes.cri-o.Devices",
            "org.systemd.property.ExecStartPre",
            "cdi.k8s.io/gpu",
            "com.docker.official-images.run",
            "RUN",
            "INSTALL",
            "io.containerd.runc.v2.group",
        ];
        let values = [
            format!("touch {outside}/open/new"),
            format!("$(touch {outside}/open/new)"),
            "vendor.com/gpu=all".to_owned(),
            "/dev/mem:/dev/mem:rwm".to_owned(),
            "true".to_owned(),
            "SYS_ADMIN,SYS_MODULE".to_owned(),
        ];
        let mut dockerfile = "FROM busybox\n".to_owned();
        for (name, value) in names.iter().zip(values.iter().cycle()) {
            dockerfile.push_str(&format!("LABEL \"{name}\"='{value}'\n"));
        }
        let look = "ls /dev && grep Cap /proc/self/status && cat /proc/self/mountinfo | wc -l";
        dockerfile.push_str(&format!("RUN {look}\n"));
        t.write("Dockerfile", &dockerfile);
        let annotations: Vec<String> = names
            .iter()
            .zip(values.iter().cycle())
            .map(|(name, value)| format!("--annotation={name}={value}"))
            .collect();
        let mut options = vec!["--network=none", "-t", "labelled"];
        options.extend(annotations.iter().map(String::as_str));
        let _ = t.build_with(&options).ok();
        let seen = |image: &str| {
            let run = ["run", "--rm", "--network=none", image, "sh", "-c", look];
            t.cask(&run).ok().stdout()
        };
        assert_eq!(seen("labelled"), seen("busybox"));
        let _ = t.cask(&["inspect", "labelled"]).ok();
        canary.unchanged();
    });
}
