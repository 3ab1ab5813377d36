//! T-RT: what an image may try on the programs that prepare and look after its root, with a canary
//! outside that must come out as it went in.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::canary::{Canary, SONG, racing_time, within};
use crate::support::held::{Container, Swapper, swapping};
use crate::support::{Output, TestEnv, every_runner, everybody};

fn canary(t: &TestEnv) -> Canary {
    Canary::at(t.beside("canary"))
}

/// Builds `dockerfile`.
fn built(t: &TestEnv, dockerfile: &str) -> Output {
    t.write("Dockerfile", dockerfile);
    t.build_with(t.offline())
}

/// What a step wrote, line by line.
fn lines(said: &str) -> Vec<&str> {
    said.lines()
        .filter_map(|line| line.strip_prefix('#')?.splitn(3, ' ').nth(2))
        .collect()
}

#[test]
fn t_rt_1_no_descriptor_is_a_working_directory() {
    every_runner(|t| {
        let canary = canary(&t);
        for path in [
            "/proc/self/fd/3",
            "/proc/self/fd/7",
            "/proc/self/cwd",
            "/proc/1/root",
        ] {
            let text = format!(
                "FROM busybox\nWORKDIR {path}\nRUN ls -a . ../../..; cat secret ../secret; pwd\n"
            );
            let out = built(&t, &text);
            if !t.isolates() {
                // Only what WORKDIR made in the image is there.
                let said = out.ok().stderr();
                assert!(!said.contains(SONG), "{said}");
                assert!(lines(&said).contains(&path), "{said}");
                continue;
            }
            out.fails(1).says("cannot enter the working directory");
            let run = ["run", "--rm", "--network=none", "-w", path, "busybox", "ls"];
            t.cask(&run).exits_any(&[125, 126, 127]);
        }
        if t.isolates() {
            let _container = Container::start(&t, "in", &["busybox", "sleep", "1000"]);
            for path in ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/1/root"] {
                t.cask(&["exec", "-w", path, "in", "ls"])
                    .exits_any(&[125, 126, 127]);
            }
        }
        canary.unchanged();
    });
}

/// What would differ if somebody had written to one of our programs.
fn programs() -> Vec<(u64, i64, i64, u64)> {
    let programs = [env!("CARGO_BIN_EXE_cooper"), env!("CARGO_BIN_EXE_cask")];
    let look = |path| {
        let found = std::fs::metadata(path).unwrap();
        (found.len(), found.mtime(), found.mtime_nsec(), found.ino())
    };
    programs.map(look).to_vec()
}

#[test]
fn t_rt_2_our_own_programs_are_out_of_reach() {
    every_runner(|t| {
        let before = programs();
        built(&t, "FROM busybox\nRUN [\"/proc/self/exe\"]\n").fails(1);
        let write = "for p in /proc/[0-9]* /proc/self; do (echo x >> $p/exe) 2> /dev/null && echo wrote; done; true";
        let said = built(&t, &format!("FROM busybox\nRUN {write}\n")).ok();
        assert!(!lines(&said.stderr()).contains(&"wrote"));
        if t.isolates() {
            let run = |args: &[&str]| t.cask(&[&["run", "--rm", "--network=none"], args].concat());
            run(&["busybox", "/proc/self/exe"]).fails(126);
            for power in ["--cap-add=ALL", "--privileged"] {
                let said = run(&[power, "busybox", "sh", "-c", write]).ok().stdout();
                assert_eq!(said, "", "{power}");
            }
        }
        assert_eq!(programs(), before);
    });
}

#[test]
fn t_rt_3_system_directories_that_are_links_lead_nowhere() {
    every_runner(|t| {
        let canary = canary(&t);
        for name in ["proc", "sys", "dev"] {
            let link = format!("{name}-links/{name}");
            t.write(&format!("{name}-links/f"), "");
            t.symlink(canary.root().join("open").to_str().unwrap(), &link);
            let text = format!(
                "FROM busybox\nCOPY {name}-links /\nRUN echo x > /dev/null; echo x > /{name}/f; touch /{name}/new; true\n"
            );
            let out = built(&t, &text);
            match t.isolates() {
                true => out
                    .fails(1)
                    .says(&format!("cannot create the mount point /{name}")),
                // There it is a directory of ours that stands in the link's place.
                false => out.ok(),
            };
        }
        canary.unchanged();
    });
}

#[test]
fn t_rt_4_nothing_is_mounted_over_or_into_proc() {
    everybody(|t| {
        let refused = "cannot create the mount point /proc";
        for target in ["/proc", "/proc/self", "/proc/sys/kernel"] {
            let text = format!("FROM busybox\nRUN --mount=type=tmpfs,target={target} true\n");
            built(&t, &text).fails(1).says(refused);
            let volume = format!("vol:{target}");
            for mount in [["--tmpfs", target], ["-v", &volume]] {
                let run = [
                    &["run", "--rm", "--network=none"],
                    &mount[..],
                    &["busybox", "true"],
                ];
                t.cask(&run.concat()).fails(125).says(refused);
            }
        }
    });
}

/// A container swaps a directory and a link on a volume for as long as others have a mount on it.
#[test]
fn t_rt_5_racing_for_a_mount_point_on_a_volume_reaches_nothing() {
    everybody(|t| {
        let canary = canary(&t);
        let container = racing(&t, "-v=shared:/d", &canary.root().join("open"));
        let until = Instant::now() + racing_time();
        let mut tries = 0;
        while Instant::now() < until || tries < 3 {
            tries += 1;
            let run = [
                "run",
                "--rm",
                "--network=none",
                "-v=shared:/v",
                "-v=other:/v/part/made",
            ];
            let args = [&run, &["busybox", "sh", "-c", "cat /v/part/*; true"][..]].concat();
            let out = t.cask(&args).any();
            assert!(!out.stdout().contains(SONG), "{}", out.stdout());
        }
        drop(container);
        canary.unchanged();
    });
}

/// A container that swaps `/d/part` and a link to `to` until it is removed.
fn racing<'t>(t: &'t TestEnv, option: &str, to: &Path) -> Container<'t> {
    let script = format!(
        "mkdir -p /d/part && echo inside > /d/part/f && ln -s {} /d/link && touch /up; {}",
        to.display(),
        swapping("/d", "true")
    );
    let container = Container::start(t, "racer", &[option, "busybox", "sh", "-c", &script]);
    container.sh("until test -e /up; do sleep 0.02; done");
    container
}

#[test]
fn t_rt_6_a_working_directory_behind_links_is_made_inside() {
    every_runner(|t| {
        let canary = canary(&t);
        let outside = canary.root().display();
        let text = format!(
            "FROM busybox
RUN ln -s {outside} /abs && ln -s ../../../../../..{outside} /rel && ln -s /nowhere/at/all /dangling
WORKDIR /abs/new
RUN echo in $PWD > f
WORKDIR /rel/open/new
RUN echo in $PWD > f
WORKDIR /dangling/new
RUN echo in $PWD > f && test -d /nowhere/at/all/new && test -d {outside}/new
"
        );
        // An ordinary user's directories above the canary are not there, so all are made inside.
        built(&t, &text).ok();
        canary.unchanged();
    });
}

/// One step swaps a directory and a link inside a cache for as long as others have their working
/// directory below it, which is made when it is missing.
#[test]
fn t_rt_6_racing_for_a_part_of_the_working_directory_reaches_nothing() {
    everybody(|t| {
        let canary = canary(&t);
        let racer = Swapper::start(&t, &canary.root().join("open"));
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
        racer.stop();
        canary.unchanged();
    });
}

/// Numbers are what they say, whatever names look like them, and groups are those of the image.
#[test]
fn t_rt_8_users_are_the_numbers_that_were_asked_for() {
    every_runner(|t| {
        let mut text = "FROM busybox
RUN echo 1234:x:7:8::/:/bin/sh >> /etc/passwd; echo extra:x:77:app >> /etc/group
"
        .to_owned();
        for user in ["1000", "1000:1000", "0", "007", "1234", "app", "app:77"] {
            text.push_str(&format!(
                "USER {user}\nRUN echo $(id -u) $(id -g) $(id -G)\n"
            ));
        }
        let said = built(&t, &text).ok().stderr();
        let want = [
            "1000 1000 1000 77",
            "1000 1000 1000",
            "0 0 0",
            "7 8 8",
            "1234 0 0",
            "1000 1000 1000 77",
            "1000 77 77",
        ];
        let ids = |line: &&str| line.split(' ').all(|word| word.parse::<u32>().is_ok());
        let mut seen = lines(&said);
        seen.retain(ids);
        assert_eq!(seen, want, "{said}");
        for user in [
            "-1",
            "4294967296",
            "4294967295",
            "nobody-here",
            "0:nobody-here",
        ] {
            built(&t, &format!("FROM busybox\nUSER {user}\nRUN id\n"))
                .fails(1)
                .says("Dockerfile:3");
        }
    });
}

#[test]
fn t_rt_9_control_groups_cannot_be_changed_from_inside() {
    every_runner(|t| {
        let script = "cd /sys/fs/cgroup && for d in . *; do mkdir $d/x && echo changed; \
                      (echo $$ > $d/cgroup.procs) && echo changed; done 2> /dev/null; true";
        let said = built(&t, &format!("FROM busybox\nRUN {script}\n")).ok();
        assert!(
            !lines(&said.stderr()).contains(&"changed"),
            "{}",
            said.stderr()
        );
        if t.isolates() {
            let run = [
                "run",
                "--rm",
                "--network=none",
                "busybox",
                "sh",
                "-c",
                script,
            ];
            assert_eq!(t.cask(&run).ok().stdout(), "");
        }
    });
}

/// Looking at a container runs nothing of its image, and files of ours go to no place that a link
/// of the image names.
#[test]
fn t_rt_10_helpers_run_nothing_of_the_image_and_follow_none_of_its_links() {
    everybody(|t| {
        let canary = canary(&t);
        for (link, to) in [("resolv.conf", "f"), ("hostname", "f"), ("inner", "etc")] {
            t.write("etc/kept", "");
            let to = canary.root().join(to);
            t.symlink(to.to_str().unwrap(), &format!("etc/{link}"));
        }
        let names = "newuidmap newgidmap git ssh ps top tar gzip cp df mount nsenter";
        let text = format!(
            "FROM busybox
COPY etc /etc
RUN mkdir -p /usr/bin; for name in {names}; do rm -f /bin/$name; for dir in /bin /usr/bin; do \
    printf '#!/bin/sh\\ntouch /evil-%s\\n' $name > $dir/$name; chmod 755 $dir/$name; done; done
"
        );
        t.write("Dockerfile", text);
        t.build_with(&["--network=none", "-t", "evil"]).ok();
        let container = Container::start(&t, "looked", &["evil", "sleep", "1000"]);
        for look in [
            &["top", "looked"][..],
            &["ps"],
            &["diff", "looked"],
            &["stats", "--no-stream", "looked"],
            &["inspect", "looked"],
            &["logs", "looked"],
            &["cp", "looked:/etc/passwd", "-"],
            &["export", "-o", "/dev/null", "looked"],
            &["commit", "looked", "committed"],
        ] {
            t.cask(look).ok();
        }
        container.sh("! ls -d /evil-*");
        drop(container);
        canary.unchanged();
    });
}

/// A container swaps a directory and a link for as long as files are copied from and to it, and a
/// volume that it does this on is taken out as a whole.
#[test]
fn t_rt_11_racing_against_copies_reaches_nothing() {
    everybody(|t| {
        let canary = canary(&t);
        t.write("payload", "from outside");
        let container = racing(&t, "-v=shared:/d", canary.root());
        let until = Instant::now() + racing_time();
        let holds_song = |bytes: &[u8]| {
            let mut parts = bytes.windows(SONG.len());
            parts.any(|part| part == SONG.as_bytes())
        };
        let mut tries = 0;
        while Instant::now() < until || tries < 3 {
            tries += 1;
            for from in [
                &["cp", "racer:/d/part/f", "-"][..],
                &["cp", "-L", "racer:/d/part/secret", "-"],
                &["cp", "racer:/d", "-"],
                &["volume", "export", "shared"],
            ] {
                let out = t.cask(from).any();
                assert!(!holds_song(out.bytes()), "{from:?}");
            }
            let to = ["cp", "payload", "racer:/d/part/open/new"];
            t.cask(&to).exits_any(&[0, 1]);
        }
        drop(container);
        canary.unchanged();
    });
}

/// Names that hooks, runtimes, device plugins and service managers act upon elsewhere.
#[test]
fn t_rt_13_labels_and_annotations_do_nothing() {
    every_runner(|t| {
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
        let look = "ls /dev; grep Cap /proc/self/status; wc -l < /proc/self/mountinfo; true";
        dockerfile.push_str(&format!("RUN {look}\n"));
        t.write("Dockerfile", &dockerfile);
        let annotations: Vec<String> = names
            .iter()
            .zip(values.iter().cycle())
            .map(|(name, value)| format!("--annotation={name}={value}"))
            .collect();
        let mut options = [t.offline(), &["-t", "labelled"]].concat();
        options.extend(annotations.iter().map(String::as_str));
        t.build_with(&options).ok();
        canary.unchanged();
        if !t.isolates() {
            return;
        }
        let seen = |image: &str| {
            let run = ["run", "--rm", "--network=none", image, "sh", "-c", look];
            t.cask(&run).ok().stdout()
        };
        assert_eq!(seen("labelled"), seen("busybox"));
        t.cask(&["inspect", "labelled"]).ok();
        canary.unchanged();
    });
}

/// The program of `tests/root`, asked from steps on each rung and from a container.
#[test]
#[cfg(target_arch = "x86_64")]
fn t_rt_14_doors_into_the_kernel_are_closed_in_steps_and_containers() {
    every_runner(|t| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/root/programs/calls.c");
        let gcc = std::process::Command::new("gcc")
            .args(["-O1", "-nostdlib", "-static", "-no-pie", "-ffreestanding"])
            .args(["-fno-stack-protector", "-fcf-protection=none", "-o"])
            .arg(t.path("calls"))
            .arg(source)
            .status();
        assert!(gcc.unwrap().success());
        // socket(AF_ALG) native, by int 0x80, by socketcall and as x32; io_uring_setup, userfaultfd,
        // keyctl, bpf and perf_event_open; last TCP and UDP by both ABIs and by socketcall, which
        // work.
        let refused = "n 41 38 5 0 , i 359 38 5 0 , i 102 1 @ 38 5 0 , x 41 38 5 0 , n 425 8 0 , n 323 1 , n 250 0 0 0 , n 321 , n 298";
        let fine = "n 41 2 1 0 , n 41 2 2 0 , i 359 2 1 0 , i 359 2 2 0 , i 102 1 @ 2 1 0 , i 102 1 @ 2 2 0";
        let look = format!("echo answers $(calls {refused} , {fine})");
        let want = format!("answers {}{}", "-1 ".repeat(9), "1 1 1 1 1 1");
        let text = format!("FROM busybox\nCOPY --chmod=755 calls /bin/\nRUN {look}\n");
        t.write("Dockerfile", text);
        let said = t.build_with(&[t.offline(), &["-t", "calls"]].concat()).ok();
        assert!(
            lines(&said.stderr()).contains(&want.as_str()),
            "{}",
            said.stderr()
        );
        if t.isolates() {
            let run = ["run", "--rm", "--network=none", "calls", "sh", "-c", &look];
            assert_eq!(t.cask(&run).ok().stdout(), want);
            t.cask(&[
                "run",
                "-d",
                "--name=joined",
                "--network=none",
                "calls",
                "sleep",
                "600",
            ])
            .ok();
            let joined = t.cask(&["exec", "joined", "sh", "-c", &look]);
            assert_eq!(joined.ok().stdout(), want);
            t.cask(&["rm", "-f", "joined"]).ok();
        }
    });
}

#[test]
fn t_dos_4_a_user_database_that_is_no_file_blocks_nothing() {
    every_runner(|t| {
        let canary = canary(&t);
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, t.path("pipe"), fifo, mode, 0).unwrap();
        t.write("etc/kept", "");
        t.symlink(canary.root().join("fifo").to_str().unwrap(), "etc/passwd");
        t.write("zero/kept", "");
        t.symlink("/dev/zero", "zero/passwd");
        let t = within(Duration::from_secs(120), move || {
            for copy in ["pipe /etc/passwd", "etc /etc", "zero /etc"] {
                built(
                    &t,
                    &format!("FROM busybox\nCOPY {copy}\nUSER app\nRUN true\n"),
                )
                .fails(1);
            }
            t
        });
        canary.unchanged();
        drop(t);
    });
}
