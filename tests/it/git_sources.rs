//! Git repositories as contexts and as sources of ADD, and what a hostile one cannot do.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::canary::{Canary, SONG};
use crate::support::git::{GitServer, Repo};
use crate::support::{self, TestEnv, everywhere};

/// A test with a directory for repositories.
fn env() -> (TestEnv, Repo) {
    let t = TestEnv::new();
    let repo = Repo::new(&t.beside("git"), "repo");
    (t, repo)
}

#[test]
fn a_repository_is_a_context() {
    let (t, repo) = env();
    repo.file("Dockerfile", "FROM scratch\nCOPY . /\n")
        .file("a", "one")
        .file("sub/Dockerfile", "FROM scratch\nCOPY . /sub\n")
        .file("sub/b", "two");
    let run = repo.path("run");
    fs::write(&run, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).unwrap();
    repo.commit();
    for server in [
        GitServer::smart(&t.beside("git")),
        GitServer::dumb(&t.beside("git")),
    ] {
        let url = server.url("repo");
        assert_eq!(
            t.listing(&[], &url),
            [
                "-rw-r--r-- 0/0 Dockerfile",
                "-rw-r--r-- 0/0 a",
                "-rwxr-xr-x 0/0 run",
                "drwxr-xr-x 0/0 sub/",
                "-rw-r--r-- 0/0 sub/Dockerfile",
                "-rw-r--r-- 0/0 sub/b",
            ]
        );
        assert_eq!(
            t.listing(&[], &format!("{url}#main:sub")),
            [
                "drwxr-xr-x 0/0 sub/",
                "-rw-r--r-- 0/0 sub/Dockerfile",
                "-rw-r--r-- 0/0 sub/b",
            ]
        );
        assert_eq!(t.listing(&[], &format!("{url}?subdir=sub")).len(), 3);
    }
}

#[test]
fn a_branch_a_tag_and_a_commit_name_the_files() {
    let (t, repo) = env();
    let first = repo.file("f", "first").commit();
    repo.git(&["tag", "light"]);
    repo.git(&["tag", "-m", "annotated", "heavy"]);
    repo.git(&["branch", "old"]);
    repo.file("f", "second").commit();
    repo.git(&["update-server-info"]);
    let server = GitServer::smart(&t.beside("git"));
    let url = server.url("repo");
    let text = |source: &str| {
        t.write("Dockerfile", format!("FROM scratch\nADD {source} /\n"));
        t.files(&[], ".").read("f")
    };
    assert_eq!(text(&url), "second");
    for suffix in [
        "#light",
        "#heavy",
        "#old",
        "#refs/heads/old",
        "?tag=heavy",
        "?branch=old",
        "?ref=refs/tags/light",
    ] {
        assert_eq!(text(&format!("{url}{suffix}")), "first", "{suffix}");
    }
    assert_eq!(text(&format!("{url}#{first}")), "first");
    assert_eq!(text(&format!("{url}?commit={first}")), "first");
    t.write("Dockerfile", format!("FROM scratch\nADD {url}#gone /\n"));
    t.build()
        .fails(1)
        .says("repository does not contain ref gone")
        .says("Dockerfile:2");
}

#[test]
fn a_checksum_holds_the_commit() {
    let (t, repo) = env();
    let id = repo.file("f", "text").commit();
    let server = GitServer::smart(&t.beside("git"));
    let url = server.url("repo");
    let build = |checksum: &str, url: &str| {
        let text = format!("FROM scratch\nADD --checksum={checksum} {url} /\n");
        t.write("Dockerfile", text);
        t.build()
    };
    build(&id, &url).ok();
    build(&id[..8], &url).ok();
    build(&id, &format!("{url}#{id}")).ok();
    t.write("Dockerfile", format!("FROM scratch\nADD {url} /\n"));
    let plain = t.build().ok().steps();
    assert!(
        plain[0].ends_with("cached"),
        "the commit is the key: {plain:?}"
    );
    build("0123456", &url)
        .fails(1)
        .says(&format!("expected checksum to match 0123456, got {id}"));
    build("sha256:12", &url)
        .fails(1)
        .says("invalid checksum sha256:12, expected hex commit hash");
    build("ab", &format!("{url}?checksum=cd"))
        .fails(1)
        .says("`checksum` is given twice");
}

#[test]
fn the_git_directory_stays_only_when_it_is_wanted() {
    let (t, repo) = env();
    let id = repo.file("Dockerfile", "FROM scratch\nCOPY . /\n").commit();
    let server = GitServer::smart(&t.beside("git"));
    let url = server.url("repo");
    t.write(
        "Dockerfile",
        format!("FROM scratch\nADD {url} /without\nADD --keep-git-dir {url} /with\n"),
    );
    let out = t.files(&[], ".");
    assert!(!out.path("without/.git").exists());
    assert_eq!(out.read("with/.git/HEAD").trim(), id);
    assert_eq!(out.read("with/.git/refs/heads/main").trim(), id);
    assert!(out.read("with/.git/config").contains(&url));
    assert!(!out.path("with/.git/FETCH_HEAD").exists());

    assert!(!t.files(&[], &url).path(".git").exists());
    let asked = format!("{url}?keep-git-dir=1");
    assert!(t.files(&[], &asked).path(".git/HEAD").exists());
    let argument = ["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"];
    assert!(t.files(&argument, &url).path(".git/HEAD").exists());
}

#[test]
fn an_unchanged_commit_is_not_fetched_again() {
    let (t, repo) = env();
    repo.file("f", "one").commit();
    let server = GitServer::smart(&t.beside("git"));
    t.write(
        "Dockerfile",
        format!("FROM scratch\nADD {} /\n", server.url("repo")),
    );
    assert!(t.build().ok().steps().last().unwrap().ends_with("ran"));
    server.asked();
    let again = t.build().ok();
    assert!(again.steps().iter().all(|step| step.ends_with("cached")));
    let asked = server.asked();
    assert!(!asked.is_empty(), "a branch may move");
    let wants = |line: &&String| line.starts_with("POST");
    assert_eq!(
        asked.iter().filter(wants).count(),
        1,
        "refs alone: {asked:?}"
    );

    let id = repo.file("f", "two").commit();
    assert_eq!(t.files(&[], ".").read("f"), "two");
    let pinned = format!("FROM scratch\nADD {}#{id} /\n", server.url("repo"));
    t.write("Dockerfile", pinned);
    server.asked();
    t.build().ok();
    assert_eq!(server.asked(), [""; 0], "a commit id says it all");
}

#[test]
fn submodules_come_along_unless_they_are_refused() {
    let (t, repo) = env();
    let server = GitServer::smart(&t.beside("git"));
    let inner = Repo::new(&t.beside("git"), "inner");
    let id = inner.file("deep", "inside").commit();
    repo.file("f", "outside").file(
        ".gitmodules",
        "[submodule \"inner\"]\n\tpath = inner\n\turl = ../inner.git\n",
    );
    repo.git(&["add", "--all", "."]);
    let entry = format!("160000,{id},inner");
    repo.git(&["update-index", "--add", "--cacheinfo", &entry]);
    repo.git(&["commit", "--quiet", "-m", "with a submodule"]);
    let url = server.url("repo");
    t.write(
        "Dockerfile",
        format!("FROM scratch\nADD {url} /all\nADD {url}?submodules=false /part\n"),
    );
    let out = t.files(&[], ".");
    assert_eq!(out.read("all/inner/deep"), "inside");
    assert!(!out.path("all/inner/.git").exists());
    assert!(!out.path("part/inner/deep").exists());
    assert_eq!(out.read("part/f"), "outside");
}

#[test]
fn a_login_in_the_address_reaches_its_server_and_no_message() {
    let (t, repo) = env();
    repo.file("f", "private").commit();
    // me:hush
    let server = GitServer::private(&t.beside("git"), "Basic bWU6aHVzaA==");
    let host = server.host();
    t.write(
        "Dockerfile",
        format!("FROM scratch\nADD --keep-git-dir http://me:hush@{host}/repo.git /\n"),
    );
    let out = t.files(&[], ".");
    assert_eq!(out.read("f"), "private");
    assert!(!out.read(".git/config").contains("hush"));
    let wrong = format!("http://me:wrong@{host}/repo.git");
    let judged = t.cooper(&["build", "--progress=plain", &wrong]).fails(1);
    assert!(!judged.stderr().contains("wrong"), "{}", judged.stderr());
}

#[test]
fn what_is_missing_is_said_with_what_helps() {
    let (t, repo) = env();
    repo.file("f", "").commit();
    let server = GitServer::private(&t.beside("git"), "Basic none");
    let url = server.url("repo");
    t.cooper(&["build", &url])
        .fails(1)
        .says("git cannot list the references of the repository")
        .says("hint: `--secret id=GIT_AUTH_TOKEN.HOST,env=VARIABLE`");
    let t = t.var("PATH", "/nonexistent");
    t.cooper(&["build", &url])
        .fails(1)
        .says("`git` is not installed")
        .says("hint: `apt-get install git`");
}

#[test]
fn secrets_log_in_to_a_server() {
    let (t, repo) = env();
    repo.file("Dockerfile", "FROM scratch\nCOPY f /f\n")
        .file("f", "private")
        .commit();
    // x-access-token:hush-hush
    let server = GitServer::private(&t.beside("git"), "Basic eC1hY2Nlc3MtdG9rZW46aHVzaC1odXNo");
    let (url, host) = (server.url("repo"), server.host());
    let t = t
        .var("TOKEN", "hush-hush")
        .var("HEADER", "Basic eC1hY2Nlc3MtdG9rZW46aHVzaC1odXNo");
    for id in [
        format!("GIT_AUTH_TOKEN.{host},env=TOKEN"),
        "GIT_AUTH_TOKEN,env=TOKEN".to_owned(),
        format!("GIT_AUTH_HEADER.{host},env=HEADER"),
        "GIT_AUTH_HEADER,env=HEADER".to_owned(),
    ] {
        let secret = ["--no-cache", "--secret", &format!("id={id}")];
        assert_eq!(t.files(&secret, &url).read("f"), "private", "{id}");
        t.write("Dockerfile", format!("FROM scratch\nADD {url} /\n"));
        assert_eq!(t.files(&secret, ".").read("f"), "private", "{id}");
    }
    let other = [
        "--no-cache",
        "--secret",
        "id=GIT_AUTH_TOKEN.other,env=TOKEN",
    ];
    let judged = t.build_with(&other).fails(1);
    assert!(!judged.stderr().contains("hush"), "{}", judged.stderr());
}

#[test]
fn ssh_is_asked_without_the_users_configuration() {
    let (t, repo) = env();
    repo.file("Dockerfile", "FROM scratch\nCOPY f /f\n")
        .file("f", "by ssh")
        .commit();
    // Stands in for ssh: notes how it was called, and serves the repository from here.
    let bin = t.beside("bin");
    fs::create_dir(&bin).unwrap();
    let log = t.beside("ssh.log");
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" \"agent=$SSH_AUTH_SOCK\" \"secret=$SENTINEL\" > {}\n\
         for last; do :; done\ncd {} && exec sh -c \"$last\"\n",
        log.display(),
        t.beside("git").display()
    );
    fs::write(bin.join("ssh"), &script).unwrap();
    fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let t = t
        .var("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .var("SSH_AUTH_SOCK", "/run/agent")
        .var("SENTINEL", "leaked");
    assert_eq!(t.files(&[], "git@host:repo.git").read("f"), "by ssh");
    let called = fs::read_to_string(&log).unwrap();
    for want in [
        "-F\n/dev/null",
        "BatchMode=yes",
        "git@host",
        "agent=/run/agent",
        "secret=\n",
    ] {
        assert!(called.contains(want), "{want:?} is not in {called}");
    }
    // A Dockerfile gets the agent only with --ssh.
    t.write("Dockerfile", "FROM scratch\nADD git@host:repo.git /\n");
    t.build().ok();
    assert!(fs::read_to_string(&log).unwrap().contains("agent=\n"));
    let socket = t.beside("agent");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let agent = format!("default={}", socket.display());
    t.build_with(&["--no-cache", "--ssh", &agent]).ok();
    let want = format!("agent={}\n", socket.display());
    assert!(fs::read_to_string(&log).unwrap().contains(&want));
    // A key from a file is found as an agent's is.
    let key = t.beside("key").display().to_string();
    support::run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key]);
    let script = script.replace("agent=$SSH_AUTH_SOCK", "$(ssh-add -L)");
    fs::write(bin.join("ssh"), script).unwrap();
    let agent = format!("default={key}");
    t.build_with(&["--no-cache", "--ssh", &agent]).ok();
    let public = fs::read_to_string(format!("{key}.pub")).unwrap();
    assert!(fs::read_to_string(&log).unwrap().contains(public.trim()));
}

#[test]
fn an_ordinary_user_builds_from_git() {
    let served = TestEnv::new();
    let repo = Repo::new(&served.beside("git"), "repo");
    repo.file("Dockerfile", "FROM scratch\nCOPY f /f\n")
        .file("f", "text")
        .commit();
    let server = GitServer::smart(&served.beside("git"));
    for name in ["sub", "nosub"] {
        let t = TestEnv::as_user(name);
        let url = server.url("repo");
        let id = t.cooper(&["build", "-q", &url]).ok().stdout();
        assert!(id.starts_with("sha256:"), "{name}: {id}");
        t.write("Dockerfile", format!("FROM scratch\nADD {url} /src/\n"));
        t.build().ok();
    }
}

#[test]
fn the_commits_time_is_given_to_files_that_ask_for_it() {
    let (t, repo) = env();
    repo.file("f", "").file("d/g", "").commit();
    let server = GitServer::smart(&t.beside("git"));
    let url = server.url("repo");
    t.write(
        "Dockerfile",
        format!("FROM scratch\nADD {url}?mtime=commit /\n"),
    );
    let out = t.files(&[], ".");
    for name in ["f", "d/g"] {
        let meta = fs::metadata(out.path(name)).unwrap();
        let secs = std::os::unix::fs::MetadataExt::mtime(&meta);
        assert_eq!(secs, 1_445_412_480, "{name}");
    }
}

#[test]
fn t_ctx_2_a_committed_link_is_no_way_out() {
    everywhere(|t| {
        let repo = Repo::new(&t.beside("git"), "repo");
        let canary = Canary::at(t.beside("canary"));
        let to = canary.root().to_str().unwrap();
        symlink(to, repo.path("out")).unwrap();
        symlink("../../../../../../..", repo.path("up")).unwrap();
        symlink(canary.root().join("f"), repo.path("Dockerfile")).unwrap();
        repo.file("real/f", "fine").commit();
        let server = GitServer::smart(&t.beside("git"));
        let url = server.url("repo");
        for subdir in ["out", "out/dir", "up/etc"] {
            let context = format!("{url}#:{subdir}");
            t.cooper(&["build", &context])
                .fails(1)
                .says("is no directory of the repository");
            t.write("Dockerfile", format!("FROM scratch\nADD {context} /\n"));
            t.build().fails(1).says("Dockerfile:2");
        }
        for subdir in ["..", "../x", "real/../../x"] {
            t.cooper(&["build", &format!("{url}#:{subdir}")])
                .fails(2)
                .says("leads out of the repository");
        }
        let judged = t.cooper(&["build", &url]).fails(1);
        assert!(!judged.stderr().contains(SONG));
        t.write("Dockerfile", format!("FROM scratch\nADD {url} /\n"));
        let listing = t.listing(&[], ".");
        assert!(
            listing.contains(&format!("lrwxrwxrwx 0/0 out -> {to}")),
            "{listing:?}"
        );
        canary.unchanged();
    });
}

#[test]
fn t_ctx_3_addresses_that_git_would_obey_are_refused() {
    let t = TestEnv::new();
    let canary = Canary::at(t.beside("canary"));
    let marker = t.beside("marker");
    let touch = format!("touch${{IFS}}{}", marker.display());
    for url in [
        format!("ssh://-oProxyCommand={touch}/x.git"),
        format!("git@-oProxyCommand={touch}:x.git"),
        format!("https://127.0.0.1:1/x.git#--upload-pack={touch}"),
        "https://127.0.0.1:1/x.git#a%0ab".to_owned(),
    ] {
        t.cooper(&["build", &url])
            .exits(if url.starts_with("git@-") { 1 } else { 2 });
        t.write("Dockerfile", format!("FROM scratch\nADD {url} /\n"));
        t.build().fails(1).says("Dockerfile:2");
    }
    // To this program these are names of files, and there are none.
    let file = format!("file://{}/dir", canary.root().display());
    let ext = format!("ext::sh -c {touch}");
    for url in [file.as_str(), ext.as_str()] {
        t.cooper(&["build", url]).fails(1).says("cannot open");
        t.write(
            "Dockerfile",
            format!("FROM scratch\nADD [\"{url}\", \"/\"]\n"),
        );
        t.build().fails(1);
    }
    assert!(!marker.exists(), "something was executed");
    canary.unchanged();
}

#[test]
fn t_ctx_3_nothing_of_a_repository_is_executed() {
    let (t, repo) = env();
    let canary = Canary::at(t.beside("canary"));
    let marker = t.beside("marker");
    let touch = format!("touch {}", marker.display());
    // What a clone never carries, and what the caller's own settings would add.
    for (name, text) in [
        (".githooks/post-checkout", format!("#!/bin/sh\n{touch}\n")),
        (".gitattributes", "* filter=evil\n".to_owned()),
        ("f", "text".to_owned()),
    ] {
        repo.file(name, &text);
    }
    let settings = format!(
        "[core]\n\tfsmonitor = \"{touch}\"\n\thooksPath = {}\n\tsshCommand = {touch}\n\
         [filter \"evil\"]\n\tsmudge = {touch}\n\tclean = {touch}\n",
        repo.path(".githooks").display()
    );
    fs::write(t.beside("home/.gitconfig"), &settings).unwrap();
    repo.commit();
    let server = GitServer::smart(&t.beside("git"));
    t.write(
        "Dockerfile",
        format!("FROM scratch\nADD {} /\n", server.url("repo")),
    );
    let t = t
        .var("GIT_CONFIG_COUNT", "1")
        .var("GIT_CONFIG_KEY_0", "core.fsmonitor")
        .var("GIT_CONFIG_VALUE_0", &touch)
        .var("GIT_SSH_COMMAND", &touch)
        .var("GIT_EXTERNAL_DIFF", &touch);
    assert_eq!(t.files(&[], ".").read("f"), "text");
    assert!(!marker.exists(), "something was executed");
    canary.unchanged();
}

#[test]
fn t_ctx_3_submodules_do_not_reach_the_file_system() {
    let (t, repo) = env();
    let canary = Canary::at(t.beside("canary"));
    let local = Repo::new(&t.beside("local"), "secret");
    let id = local.file("stolen", SONG).commit();
    let server = GitServer::smart(&t.beside("git"));
    let marker = t.beside("marker");
    for (url, path) in [
        (
            format!("file://{}", t.beside("local/secret.git").display()),
            "m",
        ),
        (t.beside("local/secret.git").display().to_string(), "m"),
        (format!("ext::sh -c 'touch {}'", marker.display()), "m"),
        ("--upload-pack=x".to_owned(), "m"),
        ("../../../local/secret.git".to_owned(), "m"),
    ] {
        let text = format!("[submodule \"m\"]\n\tpath = {path}\n\turl = {url}\n");
        repo.file(".gitmodules", &text);
        repo.git(&["add", ".gitmodules"]);
        let entry = format!("160000,{id},{path}");
        repo.git(&["update-index", "--add", "--cacheinfo", &entry]);
        repo.git(&["commit", "--quiet", "--allow-empty", "-m", "hostile"]);
        t.write(
            "Dockerfile",
            format!("FROM scratch\nADD {} /\n", server.url("repo")),
        );
        t.build().fails(1).says("git cannot fetch the submodules");
    }
    // Names that climb are git's own to refuse.
    let text = "[submodule \"../../x\"]\n\tpath = m\n\turl = ../repo.git\n";
    repo.file(".gitmodules", text).git(&["add", ".gitmodules"]);
    repo.git(&["commit", "--quiet", "-m", "hostile"]);
    t.build().fails(1);
    assert!(!marker.exists(), "something was executed");
    canary.unchanged();
}
