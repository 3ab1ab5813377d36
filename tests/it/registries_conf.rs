//! registries.conf(5): mirrors, locations, short names, what is blocked, and which files count.

use std::fs;

use crate::support::{Certs, Server, Setup, TestEnv};

/// An image in `registry` by `name`, with one file that holds `text`. Returns its id.
fn stock(registry: &Server, name: &str, text: &str) -> String {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY who /who\n")
        .file("who", text);
    let name = registry.name(name).full();
    let id = t.cooper(&["build", "-q", "-t", &name, "."]).ok().stdout();
    t.cooper(&["push", &name]).ok();
    id
}

fn host(registry: &Server) -> String {
    registry.name("x").registry().to_owned()
}

/// An environment whose user has this registries.conf.
fn configured(text: &str) -> TestEnv {
    let t = TestEnv::new();
    write_conf(&t, "registries.conf", text);
    t
}

fn write_conf(t: &TestEnv, name: &str, text: &str) {
    let file = t.beside("home/.config/containers").join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

/// An address of this machine where nothing listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_name_is_read_from_the_first_mirror_that_has_it() {
    let (empty, full) = (Server::http(), Server::http());
    let id = stock(&full, "hub/team/app:1", "mirror");
    let (own, name) = (nobody(), |own: &str| format!("{own}/team/app:1"));
    let name = name(&own);
    let t = configured(&format!(
        "[[registry]]\nlocation = \"{own}\"\n\
         [[registry.mirror]]\nlocation = \"{}\"\n\
         [[registry.mirror]]\nlocation = \"{}\"\n\
         [[registry.mirror]]\nlocation = \"{}/hub\"\n",
        nobody(),
        host(&empty),
        host(&full)
    ));
    assert_eq!(t.cooper(&["pull", &name]).ok().stdout(), id);
    let shown = t.cooper(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(shown.ok().stdout(), name);

    t.cooper(&["rmi", "-f", &name]).ok();
    t.write("Dockerfile", format!("FROM {name}\nCOPY x /x\n"));
    t.write("x", "x");
    let built = t.build_with(&["-o", "out"]).ok();
    let said = format!("{name} is read from {}/hub/team/app", host(&full));
    assert!(built.stderr().contains(&said), "{}", built.stderr());
    assert_eq!(fs::read_to_string(t.path("out/who")).unwrap(), "mirror");

    let judged = t.cooper(&["pull", &format!("{own}/none")]).fails(1);
    for said in [
        format!("`{own}/none` can be had nowhere ("),
        format!(
            "{}/hub/none: `{}/hub/none:latest` is not in",
            host(&full),
            host(&full)
        ),
        format!("server `{own}` refuses connections"),
    ] {
        assert!(
            judged.stderr().contains(&said),
            "{said}: {}",
            judged.stderr()
        );
    }
}

#[test]
fn a_mirror_for_digests_is_not_asked_by_tag() {
    let (own, mirror) = (Server::http(), Server::http());
    stock(&mirror, "app:1", "mirror");
    stock(&own, "app:1", "own");
    let digest = TestEnv::new();
    let name = mirror.name("app:1").full();
    digest.cooper(&["pull", &name]).ok();
    let shown = digest.cooper(&["images", "--digests", "--format", "{{.Digest}}"]);
    let pinned = format!("{}@{}", own.name("app").name(), shown.ok().stdout());
    let conf = |setting: &str, of_mirror: &str| {
        format!(
            "[[registry]]\nlocation = \"{}\"\n{setting}\n[[registry.mirror]]\nlocation = \"{}\"\n\
             {of_mirror}\n",
            host(&own),
            host(&mirror)
        )
    };
    let read = |t: &TestEnv, name: &str| {
        t.write("Dockerfile", format!("FROM {name}\n"));
        t.cooper(&["build", "-q", "--pull", "-o", "out", "."]).ok();
        fs::read_to_string(t.path("out/who")).unwrap()
    };
    let tagged = own.name("app:1").full();
    for (setting, of_mirror) in [
        ("mirror-by-digest-only = true", ""),
        ("", "pull-from-mirror = \"digest-only\""),
    ] {
        let t = configured(&conf(setting, of_mirror));
        assert_eq!(read(&t, &tagged), "own");
        assert_eq!(
            read(&t, &pinned),
            "mirror",
            "the registry itself has no such digest"
        );
    }
    let t = configured(&conf("", "pull-from-mirror = \"tag-only\""));
    assert_eq!(read(&t, &tagged), "mirror");
    t.cooper(&["pull", &pinned])
        .fails(1)
        .says("is not in the registry");
}

#[test]
fn a_prefix_leads_elsewhere_for_reading_only() {
    let registry = Server::http();
    let id = stock(&registry, "inner/app:1", "inner");
    let own = nobody();
    let t = configured(&format!(
        "[[registry]]\nprefix = \"*.corp.invalid\"\nlocation = \"{0}/inner\"\n\
         [[registry]]\nprefix = \"{own}/outer\"\nlocation = \"{0}/inner\"\n",
        host(&registry)
    ));
    let name = "images.corp.invalid/app:1";
    assert_eq!(t.cooper(&["pull", "-q", name]).ok().stdout(), id);
    let archive = format!("oci-archive:{}", t.path("app.tar").display());
    t.cooper(&["copy", name, &archive]).ok();
    let run = t.cask(&["create", "--pull=always", name, "true"]).ok();
    t.cask(&["rm", &run.stdout()]).ok();
    let name = format!("{own}/outer/app:1");
    assert_eq!(t.cooper(&["pull", "-q", &name]).ok().stdout(), id);
    t.cooper(&["push", &name])
        .fails(1)
        .says("refuses connections");
}

#[test]
fn what_is_configured_insecure_needs_no_option() {
    let certs = Certs::new("IP:127.0.0.1");
    let registry = certs.serve();
    let name = registry.name("app").full();
    let t = configured("").dockerfile("FROM scratch\nLABEL a=b\n");
    t.cooper(&["build", "-q", "-t", &name, "."]).ok();
    t.cooper(&["push", &name]).fails(1).says("is not trusted");
    let conf = format!(
        "[[registry]]\nlocation = \"{}\"\ninsecure = true\n",
        host(&registry)
    );
    write_conf(&t, "registries.conf", &conf);
    t.cooper(&["push", &name]).ok();
    t.cooper(&["pull", &name]).ok();
    t.cooper(&["pull", "--tls-verify=true", &name])
        .fails(1)
        .says("is not trusted");
}

#[test]
fn a_blocked_registry_is_not_spoken_to() {
    let registry = Server::http();
    stock(&registry, "app", "x");
    let t = configured(&format!(
        "# ours\n\n[[registry]]\nlocation = \"{}\"\nblocked = true\n",
        host(&registry)
    ));
    let name = registry.name("app").full();
    let conf = t.beside("home/.config/containers/registries.conf");
    let said = format!("`{name}` is blocked by {} line 3", conf.display());
    t.write("Dockerfile", format!("FROM {name}\n"));
    for args in [
        ["pull", &name].as_slice(),
        &["build", "-q", "."],
        &["copy", &name, "dir:out"],
        &["from", &name],
    ] {
        let judged = t.cooper(args).fails(1);
        assert!(judged.stderr().contains(&said), "{}", judged.stderr());
    }
    t.write("Dockerfile", "FROM scratch\nLABEL a=b\n");
    t.cooper(&["build", "-q", "-t", &name, "."]).ok();
    let judged = t.cooper(&["push", &name]).fails(1);
    assert!(judged.stderr().contains(&said), "{}", judged.stderr());
    let login = ["login", "-u", "ann", "--password-stdin", &host(&registry)];
    t.cooper_reading(b"x\n", &login)
        .fails(1)
        .says("is blocked by");
}

#[test]
fn a_container_runs_an_image_of_a_mirror_and_none_that_is_blocked() {
    let mirror = Server::http();
    let maker = TestEnv::new();
    maker.busybox("localhost/busybox");
    let there = mirror.name("hub/tools:1").full();
    maker.cooper(&["push", "localhost/busybox", &there]).ok();
    let (own, blocked) = (nobody(), nobody());
    let t = configured(&format!(
        "[[registry]]\nlocation = \"{own}\"\n\
         [[registry.mirror]]\nlocation = \"{}/hub\"\n\
         [[registry]]\nlocation = \"{blocked}\"\nblocked = true\n",
        host(&mirror)
    ));
    let name = format!("{own}/tools:1");
    let run = [
        "run",
        "--rm",
        "--network=none",
        &name,
        "echo",
        "from a mirror",
    ];
    let out = t.cask(&run).ok();
    assert_eq!(out.stdout(), "from a mirror");
    let names = t.cask(&["images", "--format", "{{.Repository}}"]).ok();
    assert_eq!(names.stdout(), format!("{own}/tools"));
    let name = format!("{blocked}/tools:1");
    for pull in ["missing", "always"] {
        t.cask(&["run", "--rm", "--pull", pull, &name, "true"])
            .fails(125)
            .says(&format!("`{name}` is blocked by"));
    }
    assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout(), "");
}

#[test]
fn caches_are_read_from_mirrors_and_written_to_where_they_are_named() {
    let (mirror, named, blocked) = (Server::http(), Server::http(), nobody());
    let t = configured(&format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}/hub\"\n\
         [[registry]]\nlocation = \"{blocked}\"\nblocked = true\n",
        host(&named),
        host(&mirror)
    ))
    .dockerfile("FROM scratch\nCOPY f /f\n")
    .file("f", "f");
    let cache = named.name("app:cache").full();
    t.build_with(&["--cache-to", &cache]).ok();
    let tag = |at: &Server, repository: &str| {
        let tags = format!("docker/registry/v2/repositories/{repository}/_manifests/tags");
        at.data().join(tags).exists()
    };
    assert!(tag(&named, "app") && !tag(&mirror, "hub/app"));

    // The mirror has the cache of another file by that name, and answers first.
    let other = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY f /f\n")
        .file("f", "g");
    let at_mirror = mirror.name("hub/app:cache").full();
    other.build_with(&["--cache-to", &at_mirror]).ok();
    t.cooper(&["prune", "--all", "--cache"]).ok();
    t.write("f", "g");
    let steps = t.build_with(&["--cache-from", &cache]).ok().steps();
    assert!(steps[0].ends_with("cached"), "{steps:?}");

    let name = format!("{blocked}/app:cache");
    let said = format!("`{name}` is blocked by");
    t.build_with(&["--cache-to", &name]).fails(1).says(&said);
    let ignoring = format!("type=registry,ref={name},ignore-error=true");
    t.build_with(&["--cache-to", &ignoring]).ok().says(&said);
    t.build_with(&["--cache-from", &name]).ok().says(&said);
}

#[test]
fn short_names_have_aliases_and_registries_to_search() {
    let (first, second) = (Server::http(), Server::http());
    let aliased = stock(&second, "team/tool", "aliased");
    let searched = stock(&second, "app", "searched");
    let t = configured(&format!(
        "unqualified-search-registries = [\"{}\", \"{}\"]\n",
        host(&first),
        host(&second)
    ));
    let names = format!("[aliases]\ntool = \"{}/team/tool\"\n", host(&second));
    write_conf(&t, "registries.conf.d/shortnames.conf", &names);
    assert_eq!(t.cooper(&["pull", "-q", "tool"]).ok().stdout(), aliased);
    assert_eq!(t.cooper(&["pull", "-q", "app"]).ok().stdout(), searched);
    let shown = t.cooper(&["images", "--format", "{{.Repository}}"]).ok();
    let shown = shown.stdout();
    let mut names: Vec<&str> = shown.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["app", "tool"]);

    write_conf(
        &t,
        "registries.conf.d/mode.conf",
        "short-name-mode = \"enforcing\"\n",
    );
    let judged = t.cooper(&["pull", "other"]).fails(1);
    assert!(
        judged
            .stderr()
            .contains("mode.conf line 1 wants that to be said"),
        "{}",
        judged.stderr()
    );
    assert_eq!(t.cooper(&["pull", "-q", "tool"]).ok().stdout(), aliased);
}

#[test]
fn t_reg_1_mirrors_do_not_see_the_credentials_of_a_run() {
    let closed = Server::start(&Setup {
        tls: None,
        htpasswd: Some(("ann", "s3cret")),
    });
    let own = nobody();
    let t = configured(&format!(
        "[[registry]]\nlocation = \"{own}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        host(&closed)
    ));
    let name = format!("{own}/app");
    let pull = ["pull", "--creds", "ann:s3cret", &name];
    let said = format!("`{}` needs a login", host(&closed));
    let judged = t.cooper(&pull).fails(1);
    assert!(judged.stderr().contains(&said), "{}", judged.stderr());
}

#[test]
fn files_are_chosen_named_and_shown() {
    let t = configured("unqualified-search-registries = [\"a.invalid\"]\n");
    write_conf(&t, "registries.conf.d/10.conf", "");
    write_conf(&t, "registries.conf.d/20.ignored", "= nonsense");
    let files = |t: &TestEnv| {
        let format = ["info", "--format", "{{json .registries.files}}"];
        t.cooper(&format).ok().stdout()
    };
    let own = |name: &str| {
        format!(
            "{}",
            t.beside("home/.config/containers").join(name).display()
        )
    };
    let both = [own("registries.conf"), own("registries.conf.d/10.conf")];
    assert_eq!(files(&t), serde_json::to_string(&both).unwrap());

    fs::write(t.path("named.conf"), "short-name-mode = \"disabled\"\n").unwrap();
    let t = t.var("CONTAINERS_REGISTRIES_CONF", "named.conf");
    let shown = files(&t);
    assert!(shown.starts_with("[\"named.conf\""), "{shown}");
    assert!(!shown.contains("containers/registries.conf\""), "{shown}");
    fs::write(t.path("named.conf"), "\n[[registry]]\nlocation = 3\n").unwrap();
    let judged = t.cooper(&["pull", "app"]).fails(1);
    assert!(
        judged.stderr().contains("named.conf line 3: "),
        "{}",
        judged.stderr()
    );
    fs::remove_file(t.path("named.conf")).unwrap();
    t.cooper(&["pull", "app"])
        .fails(1)
        .says("cannot read named.conf");
}
