//! Secrets and agents of RUN: where they are seen, and where they never are.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::support::{self, TestEnv, everybody};

const VALUE: &str = "s3cr3t-b1rd-of-paradise";

fn env(dockerfile: &str) -> TestEnv {
    let t = TestEnv::new().dockerfile(dockerfile);
    t.busybox("busybox");
    std::fs::write(t.beside("value"), format!("{VALUE}\n")).unwrap();
    t
}

/// Whether any file below `dir` holds the value.
fn holds(dir: &Path) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            if let Some(found) = holds(&path) {
                return Some(found);
            }
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            if bytes
                .windows(VALUE.len())
                .any(|part| part == VALUE.as_bytes())
            {
                return Some(path);
            }
        }
    }
    None
}

#[test]
fn a_secret_is_a_file_of_roots_in_memory() {
    let t = env(concat!(
        "FROM busybox\n",
        "RUN --mount=type=secret,id=k test \"$(stat -c %a:%u:%g /run/secrets/k)\" = 400:0:0 && test \"$(wc -c < /run/secrets/k)\" = 24\n",
        "RUN --mount=type=secret,id=a/k,target=/etc/deep/key,mode=0440,uid=1000,gid=7 test \"$(stat -c %a:%u:%g /etc/deep/key)\" = 440:1000:7 && ! touch /etc/deep/key\n",
        "RUN --mount=type=secret,target=/x/k test -e /x/k\n",
        "RUN --mount=type=secret,source=k,dst=rel test -e /rel && grep ' /rel ' /proc/mounts | grep -q tmpfs\n",
        "RUN test ! -e /run && test ! -e /etc/deep && test ! -e /x && test ! -e /rel\n",
    ));
    let src = format!("src={}", t.beside("value").display());
    t.build_with(&[
        "--secret",
        &format!("id=k,{src}"),
        "--secret",
        &format!("id=a/k,{src}"),
    ])
    .ok();
}

#[test]
fn a_secret_can_be_a_variable_alone_or_besides() {
    let t = env(concat!(
        "FROM busybox\nENV K=config\n",
        "RUN --mount=type=secret,id=k,env=K test \"$(echo -n $K | wc -c)\" = 23 && test ! -e /run/secrets\n",
        "RUN --mount=type=secret,id=k,env=J,target=/k test \"$J\" = \"$(cat /k)\" && test $K = config\n",
        "RUN test -z \"$J\"\n",
    ))
    .var("VARIABLE", VALUE);
    t.build_with(&["--secret", "id=k,env=VARIABLE", "-t", "x"])
        .ok();
    // `type=env`, and a variable of the same name.
    t.build_with(&["--no-cache", "--secret", "id=k,type=env,src=VARIABLE"])
        .ok();
    let t = t.var("k", VALUE);
    t.build_with(&["--no-cache", "--secret", "id=k"]).ok();
}

#[test]
fn a_missing_secret_matters_only_where_it_is_required() {
    let t = env("FROM busybox\nRUN --mount=type=secret,id=k test ! -e /run/secrets/k\n");
    t.build().ok();
    t.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=secret,id=k,required true\n",
    );
    t.build().fails(1).says("secret k: not found");
    t.build_with(&["--secret", "id=k,src=/nonexistent/file"])
        .fails(1)
        .says("/nonexistent/file");
    t.build_with(&["--secret", "src=/etc/hostname"])
        .fails(2)
        .says("no `id=`");
}

#[test]
fn t_mnt_8_a_secret_is_nowhere_but_in_its_step() {
    everybody(|t| {
        let text = concat!(
            "FROM busybox\n",
            "RUN --mount=type=secret,id=k cat /run/secrets/k; echo done\n",
            "RUN --mount=type=secret,id=k,env=K echo \"it is $K.\"; printf '%s' \"$K\" | fold -w 5\n",
            "RUN --mount=type=cache,target=/c ! grep -r paradise /c /proc/self/environ /proc/1/environ 2>/dev/null\n",
        );
        t.write("Dockerfile", text);
        std::fs::write(t.beside("value"), format!("{VALUE}\n")).unwrap();
        let secret = format!("id=k,src={}", t.beside("value").display());
        let shown = t
            .cooper(&[
                "build",
                "--progress=rawjson",
                "--secret",
                &secret,
                "-t",
                "x",
                ".",
            ])
            .ok();
        assert!(!shown.stderr().contains(VALUE), "{}", shown.stderr());
        let plain = t.build_with(&["--secret", &secret, "--no-cache"]).ok();
        let err = plain.stderr();
        assert!(!err.contains(VALUE) && err.contains("it is ****"), "{err}");
        t.cooper(&["save", "-o", t.beside("x.tar").to_str().unwrap(), "x"])
            .ok();
        let history = t.cooper(&["history", "--no-trunc", "x"]).ok().stdout();
        assert!(!history.contains(VALUE), "{history}");
        std::fs::remove_file(t.beside("value")).unwrap();
        assert_eq!(holds(&t.beside("")), None, "found on the disk");
    });
}

#[test]
fn a_secret_that_is_an_argument_too_is_masked_in_the_names_of_steps() {
    let t = env("FROM busybox\nARG T\nRUN : $T\nCOPY --chmod=644 value* /$T/\n");
    let secret = format!("id=k,src={}", t.beside("value").display());
    let argument = format!("T={VALUE}");
    let options = [
        "--secret-guard=off",
        "--secret",
        &secret,
        "--build-arg",
        &argument,
    ];
    let told = t.build_with(&options).ok();
    assert!(!told.stderr().contains(VALUE), "{}", told.stderr());
    told.says("RUN : ****").says("value* /****/");
}

#[test]
fn a_changed_secret_does_not_run_the_step_again() {
    let t = env("FROM busybox\nRUN --mount=type=secret,id=k true\n");
    let secret = format!("id=k,src={}", t.beside("value").display());
    t.build_with(&["--secret", &secret]).ok();
    std::fs::write(t.beside("value"), "another value").unwrap();
    let steps = t.build_with(&["--secret", &secret]).ok().steps();
    assert!(
        steps.iter().all(|step| step.ends_with("cached")),
        "{steps:?}"
    );
}

#[test]
fn t_mnt_8_a_step_that_keeps_a_secret_fails_and_is_named() {
    let t = env(concat!(
        "FROM busybox\n",
        "RUN --mount=type=secret,id=k mkdir /conf && dd if=/dev/zero bs=1000 count=262 > /conf/big && cat /run/secrets/k >> /conf/big\n",
    ));
    let secret = format!("id=k,src={}", t.beside("value").display());
    let err = t.build_with(&["--secret", &secret]).fails(1).stderr();
    assert!(
        err.contains("secret `k`") && err.contains("/conf/big"),
        "{err}"
    );
    assert!(err.contains("--secret-guard=off"), "{err}");
    assert!(!err.contains(VALUE), "{err}");
    t.build_with(&["--secret", &secret, "--secret-guard=off"])
        .ok();
    // What that left in the cache does not let a guarded build through.
    t.build_with(&["--secret", &secret]).fails(1);
}

#[test]
fn t_mnt_8_a_secret_in_a_name_or_from_the_context_is_found_too() {
    let t = env("FROM scratch\nCOPY conf /conf\n").file("conf", format!("key = {VALUE}\n"));
    let secret = format!("id=k,src={}", t.beside("value").display());
    t.build_with(&["--secret", &secret])
        .fails(1)
        .says("in /conf");
    t.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=secret,id=k ln -s \"$(cat /run/secrets/k)\" /link\n",
    );
    t.build_with(&["--secret", &secret])
        .fails(1)
        .says("in /link");
}

#[test]
fn an_agents_socket_has_the_mode_and_owner_that_were_asked_for() {
    let t = env(concat!(
        "FROM busybox\n",
        "RUN --mount=type=ssh test \"$SSH_AUTH_SOCK\" = /run/buildkit/ssh_agent.0 && test \"$(stat -c %a:%u:%g $SSH_AUTH_SOCK)\" = 600:0:0\n",
        "RUN test -z \"$SSH_AUTH_SOCK\" && test ! -e /run\n",
        "USER app\n",
        "RUN --mount=type=ssh,id=other,target=/tmp/sock,uid=1000,mode=0660 test -S /tmp/sock -a \"$SSH_AUTH_SOCK\" = /tmp/sock && test \"$(stat -c %a:%u /tmp/sock)\" = 660:1000 && test -r /tmp/sock -a -w /tmp/sock\n",
    ));
    let socket = t.beside("agent.sock");
    let _agent = UnixListener::bind(&socket).unwrap();
    let t = t.var("SSH_AUTH_SOCK", &socket);
    let other = format!("other={}", socket.display());
    t.build_with(&["--ssh", "default", "--ssh", &other]).ok();
}

#[test]
fn a_missing_agent_matters_only_where_it_is_required() {
    let t = env(
        "FROM busybox\nRUN --mount=type=ssh test ! -e \"$SSH_AUTH_SOCK\" && test -n \"$SSH_AUTH_SOCK\"\n",
    );
    t.build().ok();
    t.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=ssh,required=true true\n",
    );
    t.build().fails(1).says("ssh default");
    t.build_with(&["--ssh", "default"])
        .fails(2)
        .says("SSH_AUTH_SOCK");
}

/// Makes an image of OpenSSH's programs with the libraries that they need, from this machine.
fn openssh(t: &TestEnv) {
    let dir = t.beside("openssh");
    let put = |path: &str| {
        let to = dir.join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path, to).unwrap();
    };
    for program in ["/usr/bin/ssh-add", "/usr/bin/ssh-keygen"] {
        put(program);
        let listed = support::run("ldd", &[program]);
        listed
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
            .for_each(put);
    }
    fs::create_dir_all(dir.join("etc")).unwrap();
    fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::write(dir.join("Dockerfile"), "FROM busybox\nCOPY . /\n").unwrap();
    t.cooper(&["build", "-q", "-t", "openssh", dir.to_str().unwrap()])
        .ok();
}

/// Makes a key and returns where it is.
fn ssh_key(t: &TestEnv, name: &str, options: &[&str]) -> String {
    let path = t.beside(name).display().to_string();
    let mut args = vec!["-q", "-f", &path, "-C", name];
    args.extend(options);
    support::run("ssh-keygen", &args);
    path
}

#[test]
fn keys_from_files_sign_and_stay_outside() {
    let t = TestEnv::new();
    t.busybox("busybox");
    openssh(&t);
    let (none, rsa) = (["-N", ""], ["-b", "2048", "-t", "rsa"]);
    let keys = [
        ("ed25519", ["-t", "ed25519"].as_slice()),
        ("rsa", &rsa),
        ("rsa-pkcs1", &["-b", "2048", "-t", "rsa", "-m", "PEM"]),
        ("rsa-pkcs8", &["-b", "2048", "-t", "rsa", "-m", "PKCS8"]),
        ("ecdsa-256", &["-t", "ecdsa", "-b", "256"]),
        ("ecdsa-384", &["-t", "ecdsa", "-b", "384"]),
        ("ecdsa-sec1", &["-t", "ecdsa", "-b", "256", "-m", "PEM"]),
        ("ecdsa-pkcs8", &["-t", "ecdsa", "-b", "384", "-m", "PKCS8"]),
    ];
    let mut paths = Vec::new();
    for (name, options) in keys {
        let path = ssh_key(&t, name, &[options, &none].concat());
        fs::copy(format!("{path}.pub"), t.path(&format!("{name}.pub"))).unwrap();
        paths.push(path);
    }
    t.write("text", "signed");
    t.write(
        "Dockerfile",
        "FROM openssh\nWORKDIR /w\nCOPY *.pub text /w/\n\
         RUN --mount=type=ssh /usr/bin/ssh-add -L | cut -d' ' -f1,2 > listed && ! /usr/bin/ssh-add -D\n\
         RUN --mount=type=ssh for key in *.pub; do \
         /usr/bin/ssh-keygen -q -Y sign -n test -f $key < text > $key.sig || exit 1; done\n",
    );
    let ssh = format!("default={}", paths.join(","));
    t.build_with(&["--ssh", &ssh, "-o", "out"]).ok();
    let listed = fs::read_to_string(t.path("out/w/listed")).unwrap();
    assert_eq!(listed.lines().count(), keys.len(), "{listed}");
    for (name, _) in keys {
        let public = fs::read_to_string(t.path(&format!("{name}.pub"))).unwrap();
        let public = public.rsplit_once(' ').unwrap().0;
        assert!(
            listed.lines().any(|line| line == public),
            "{name}: {listed}"
        );
        let signature = t.path(&format!("out/w/{name}.pub.sig"));
        let check = format!(
            "ssh-keygen -q -Y check-novalidate -n test -s {} < {}",
            signature.display(),
            t.path("text").display()
        );
        support::run("sh", &["-c", &check]);
    }
}

#[test]
fn keys_that_can_not_be_used_say_why() {
    let t = env("FROM busybox\nRUN --mount=type=ssh true\n");
    let ssh = |path: &str| ["--ssh".to_owned(), format!("default={path}")];
    let sealed = ssh_key(&t, "sealed", &["-t", "ed25519", "-N", "secret"]);
    let curve = ssh_key(&t, "curve", &["-t", "ecdsa", "-b", "521", "-N", ""]);
    let none = t.beside("value").display().to_string();
    for (path, said) in [
        (&sealed, "this private key is passphrase protected"),
        (&sealed, "`ssh-add "),
        (&curve, "`ecdsa-sha2-nistp521` is none of ed25519, rsa"),
        (&none, "it holds no private key in PEM form"),
    ] {
        let [option, value] = ssh(path);
        t.build_with(&[&option, &value]).fails(1).says(said);
    }
}
