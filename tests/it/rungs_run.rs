//! RUN with one id only: what a step asks for is in the image, and the step does not notice.

use crate::support::TestEnv;

/// Builds on busybox and lists the tar of the result: mode, owner and path a line, without `bin`.
fn listing(user: Option<&str>, rung: &str, steps: &str) -> Vec<String> {
    let env = match user {
        Some(user) => TestEnv::as_user(user),
        None => TestEnv::new(),
    };
    let env = env.var("COOPER_ISOLATION", rung);
    env.busybox("busybox");
    env.write("Dockerfile", format!("FROM busybox\n{steps}"));
    let built = env.cooper(&[
        "build",
        "--network=none",
        "-q",
        "-o",
        "type=tar,dest=-",
        ".",
    ]);
    let built = built.ok();
    let mut archive = tar::Archive::new(built.bytes());
    let lines = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let header = entry.header();
        format!(
            "{:?} {:o} {}:{} {} {:?}",
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            entry.path().unwrap().display(),
            (
                header.device_major().unwrap(),
                header.device_minor().unwrap()
            ),
        )
    });
    let mut lines: Vec<String> = lines.filter(|line| !line.contains(" bin/")).collect();
    lines.sort();
    lines
}

const GIVE_AWAY: &str = "
RUN mkdir -p /d/sub /e && echo x > /d/f && ln -s f /d/l && mkfifo /d/p \\
    && chown 33:34 /d /d/f && chmod 4751 /d/f && chown -h 1000:1001 /d/l && chown 4:5 /d/p \\
    && mknod /d/null c 1 3 && mknod /d/disk b 8 1 && chmod 640 /d/disk && chown 0:6 /d/disk \\
    && touch /d/disk2 && chown 3:4 /d/disk2 && mv /d/l /e/l && ln /d/f /e/hard && (cd /d/sub && echo r > r && chown app:app r ../sub)
# Copied up, renamed, and given away once more: the kernel carries what is remembered along.
RUN mv /e/hard /e/moved && echo more >> /d/disk2 && chown 0:0 /d/p && chmod 600 /d/sub/r
RUN chown -R 9:9 /d/sub && chown app /proc/self/fd/0 < /d/null
";

#[test]
fn what_is_given_away_is_in_the_layer_as_on_the_full_rung() {
    let full = listing(None, "root", GIVE_AWAY);
    assert!(
        full.contains(&r"Symlink 777 1000:1001 e/l (Some(0), Some(0))".to_owned()),
        "{full:#?}"
    );
    let single = listing(Some("nosub"), "single-id", GIVE_AWAY);
    assert_eq!(single, full);
}

/// A later step of root's makes things of its own, and leaves what is not.
const AS_USER: &str = r"
RUN mkdir -m 1777 /w && echo root > /w/roots && chmod 666 /w/roots
USER app
WORKDIR /w
RUN mkdir -p d/e && echo x > d/f && ln -s f d/l && mkfifo d/p && ln d/f d/h && echo y > g && echo more >> roots
USER 33:44
RUN echo z > numbers && mkdir -m 700 shut && echo z > shut/f
USER root
RUN rm /w/g && echo z > /w/d/r && echo more >> /w/d/f && chmod 600 /w/numbers
";

#[test]
fn what_a_user_makes_is_that_users() {
    let full = listing(None, "root", AS_USER);
    let of = |path: &str| full.iter().any(|line| line.contains(path));
    assert!(of(" 1000:1000 w/d/f ") && of(" 33:44 w/shut/f ") && of(" 0:0 w/d/r "));
    let single = listing(Some("nosub"), "single-id", AS_USER);
    assert_eq!(single, full);
}

/// The answers of a program that drops its privileges are all in its output.
const BECOME: &str = r"
RUN su app -c 'id -u; id -g; id -G; chown 0 /tmp 2>&1; (id)' > /out
USER app
RUN id; chown app /etc/passwd 2>&1 || true
";

#[test]
fn a_program_that_drops_root_finds_that_it_did() {
    for (user, rung) in [(None, "root"), (Some("nosub"), "single-id")] {
        let env = match user {
            Some(user) => TestEnv::as_user(user),
            None => TestEnv::new(),
        };
        let env = env.var("COOPER_ISOLATION", rung);
        env.busybox("busybox");
        env.write(
            "Dockerfile",
            format!("FROM busybox\n{BECOME}USER root\nRUN cat /out\n"),
        );
        let built = env
            .cooper(&["build", "--network=none", "--progress=plain", "."])
            .ok();
        let said = built.stderr();
        let lines: Vec<&str> = said
            .lines()
            .filter_map(|line| line.strip_prefix('#')?.splitn(3, ' ').nth(2))
            .collect();
        for want in [
            "uid=1000(app) gid=1000(app) groups=1000(app)",
            "chown: /tmp: Operation not permitted",
            "chown: /etc/passwd: Operation not permitted",
        ] {
            assert!(lines.contains(&want), "{rung}: no `{want}` in\n{said}");
        }
        assert!(
            !said.contains("uid=0(root) gid=0(root) groups=0(root)\n#9"),
            "{said}"
        );
    }
}

#[test]
fn owners_are_kept_across_steps_stages_and_containers() {
    let env = TestEnv::as_user("nosub").dockerfile(
        "FROM busybox AS first\nRUN mkdir /d && echo x > /d/f && chown -R 33:33 /d\n\
         FROM busybox\nCOPY --from=first /d /kept\nRUN mv /kept/f /kept/g\n",
    );
    env.busybox("busybox");
    let _ = env.build_with(&["--network=none", "-t", "x"]).ok();
    let run = [
        "run",
        "--rm",
        "--network=none",
        "--user=app",
        "x",
        "sh",
        "-c",
        "id -u; cat /kept/g",
    ];
    assert_eq!(env.cask(&run).ok().stdout(), "1000\nx");
    env.write("Dockerfile", "FROM x\n");
    let tar = env.cooper(&["build", "-q", "-o", "-", "."]).ok();
    let mut archive = tar::Archive::new(tar.bytes());
    let kept: Vec<_> = archive
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path_bytes().starts_with(b"kept"))
        .map(|entry| (entry.header().uid().unwrap(), entry.header().gid().unwrap()))
        .collect();
    assert_eq!(kept, [(0, 0), (33, 33)]);
}
