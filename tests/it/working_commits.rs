//! What a working container is and becomes: `config`, `commit`, `inspect` and the history.

use crate::working::{C, field, sh, started};

#[test]
fn every_field_of_the_config_can_be_set_and_taken_away() {
    let t = started();
    let config = |args: &[&str]| t.cooper(&[&["config"], args, &[C]].concat());
    config(&[
        "--author=me",
        "--arch=arm64",
        "--variant=v8",
        "--os=linux",
        "--cmd=run 'the thing'",
        "--entrypoint=[\"/init\"]",
        "--env=A=1",
        "--env=B=2",
        "--label=l=1",
        "--label=m=2",
        "--annotation=a=1",
        "--annotation=b=2",
        "--port=80",
        "--port=53/udp",
        "--volume=/data",
        "--volume=/logs",
        "--user=app",
        "--workingdir=/w",
        "--stop-signal=SIGINT",
        "--shell=/bin/ash -c",
        "--onbuild=RUN x",
        "--healthcheck=CMD /ok -q",
        "--healthcheck-interval=30s",
        "--healthcheck-timeout=2s",
        "--healthcheck-retries=3",
        "--healthcheck-start-period=1m",
        "--hostname=h",
        "--domainname=d",
        "--history-comment=why",
        "--created-by=somebody",
    ])
    .ok();
    let image: serde_json::Value = serde_json::from_str(&field(&t, C, "{{json .OCIv1}}")).unwrap();
    assert_eq!(
        (&image["author"], &image["architecture"]),
        (&"me".into(), &"arm64".into())
    );
    assert_eq!(image["variant"], "v8");
    assert_eq!(
        image["config"].to_string(),
        r#"{"User":"app","ExposedPorts":{"53/udp":{},"80/tcp":{}},"Env":["PATH=/bin","A=1","B=2"],"Entrypoint":["/init"],"Cmd":["run","the thing"],"Healthcheck":{"Test":["CMD","/ok","-q"],"Interval":30000000000,"Timeout":2000000000,"StartPeriod":60000000000,"Retries":3},"ArgsEscaped":true,"Volumes":{"/data":{},"/logs":{}},"WorkingDir":"/w","OnBuild":["RUN x"],"Labels":{"l":"1","m":"2"},"StopSignal":"SIGINT","Shell":["/bin/ash","-c"],"Domainname":"d","Hostname":"h"}"#
    );
    config(&[
        "--env=A-",
        "--unsetenv=B",
        "--label=-",
        "--annotation=a-",
        "--port=80-",
        "--volume=-",
        "--onbuild=-",
        "--entrypoint=",
        "--healthcheck=NONE",
    ])
    .ok();
    let image: serde_json::Value = serde_json::from_str(&field(&t, C, "{{json .OCIv1}}")).unwrap();
    assert_eq!(
        image["config"].to_string(),
        r#"{"User":"app","ExposedPorts":{"53/udp":{}},"Env":["PATH=/bin"],"Healthcheck":{"Test":["NONE"],"Interval":30000000000,"Timeout":2000000000,"StartPeriod":60000000000,"Retries":3},"ArgsEscaped":true,"WorkingDir":"/w","StopSignal":"SIGINT","Shell":["/bin/ash","-c"],"Domainname":"d","Hostname":"h"}"#
    );
    assert_eq!(field(&t, C, "{{json .ImageAnnotations}}"), r#"{"b":"2"}"#);
    config(&["--healthcheck-interval=soon"]).fails(2);
    config(&["--port=x"]).fails(2);
}

#[test]
fn a_commit_is_one_layer_on_top_of_the_image() {
    let t = started();
    sh(&t, C, "echo new > /new; rm -r /tmp");
    t.cooper(&[
        "config",
        "--cmd=cat /new",
        "--annotation=k=v",
        "--created-by=us",
        C,
    ])
    .ok();
    let id = t
        .cooper(&["commit", "--iidfile=iid", "-t", "also", C, "made"])
        .ok()
        .stdout();
    assert_eq!(std::fs::read_to_string(t.path("iid")).unwrap(), id);
    assert_eq!(field(&t, "also", "{{.Id}}"), id);
    assert_eq!(t.cask(&["run", "--rm", "made"]).ok().stdout(), "new");
    t.cask(&["run", "--rm", "made", "ls", "/tmp"]).fails(1);
    let layers = |name: &str| field(&t, name, "{{len .RootFS.Layers}}");
    assert_eq!(
        (layers("busybox"), layers("made")),
        ("1".into(), "2".into())
    );
    assert_eq!(field(&t, "made", "{{.Annotations.k}}"), "v");
    let history = t
        .cooper(&["history", "--format", "{{.CreatedBy}}", "made"])
        .ok()
        .stdout();
    assert!(history.starts_with("us\n"), "{history}");
    // The container goes on from there, and what has no new files has no new layer.
    assert_eq!(sh(&t, C, "cat /new"), "new");
    t.cooper(&["from", "--name", "clean", "busybox"]).ok();
    t.cooper(&["commit", "-q", "--rm", "clean", "same"]).ok();
    assert_eq!(layers("same"), "1");
    t.cooper(&["run", "clean", "true"])
        .fails(1)
        .says("no working container `clean`");
}

#[test]
fn a_squashed_commit_is_one_layer_in_all() {
    let t = started();
    sh(&t, C, "echo x > /x; rm -r /tmp");
    t.cooper(&["commit", "-q", "--squash", C, "flat"]).ok();
    assert_eq!(
        field(&t, "flat", "{{len .RootFS.Layers}} {{len .History}}"),
        "1 1"
    );
    assert_eq!(
        t.cask(&["run", "--rm", "flat", "cat", "/x"]).ok().stdout(),
        "x"
    );
    t.cask(&["run", "--rm", "flat", "ls", "/tmp"]).fails(1);
}

#[test]
fn a_commit_goes_where_it_is_told_in_the_form_it_is_told() {
    let t = started();
    t.cooper(&["commit", "-q", "--format=docker", C, "docker"])
        .ok();
    let kind = field(&t, "docker", "{{.Descriptor.mediaType}}");
    assert_eq!(kind, "application/vnd.docker.distribution.manifest.v2+json");
    t.cooper(&["commit", "-q", C, "oci:layout:tag"]).ok();
    assert!(t.path("layout/index.json").exists());
    t.cooper(&["commit", "-q", C, "docker-archive:out.tar:app:1"])
        .ok();
    t.cooper(&["load", "-q", "-i", "out.tar"]).ok();
    assert_eq!(
        t.cask(&["run", "--rm", "app:1", "echo", "hi"])
            .ok()
            .stdout(),
        "hi"
    );
    t.cooper(&["commit", C, "nowhere:x:y:z"]).fails(2);
    t.cooper(&["commit", "--format=bogus", C, "x"]).fails(2);
}

#[test]
fn commits_at_one_time_are_equal() {
    let t = started();
    sh(&t, C, "echo x > /x");
    let commit = |options: &[&str]| {
        let args = [&["commit", "-q"], options, &[C]].concat();
        t.cooper(&args).ok().stdout()
    };
    let first = commit(&["--timestamp=1000"]);
    sh(&t, C, "touch /x");
    assert_eq!(commit(&["--timestamp=1000"]), first);
    assert_ne!(commit(&["--timestamp=1001"]), first);
    assert_eq!(field(&t, &first, "{{.Created}}"), "1970-01-01T00:16:40Z");
    assert_eq!(
        field(&t, &commit(&["--omit-history"]), "{{len .History}}"),
        "0"
    );
}

#[test]
fn a_commit_can_change_what_the_container_keeps() {
    let t = started();
    t.cooper(&["config", "--env=A=1", "--env=B=2", "--annotation=a=1", C])
        .ok();
    t.cooper(&[
        "commit",
        "-q",
        "--unsetenv=A",
        "--unsetannotation=a",
        "--annotation=n=2",
        "--change=ENTRYPOINT [\"/e\"]",
        "--change=ENV C=$B",
        C,
        "changed",
    ])
    .ok();
    assert_eq!(
        field(&t, "changed", "{{.Config.Env}}"),
        "[PATH=/bin B=2 C=2]"
    );
    assert_eq!(
        field(
            &t,
            "changed",
            "{{.Config.Entrypoint}} {{json .Annotations}}"
        ),
        r#"[/e] {"n":"2"}"#
    );
    assert_eq!(field(&t, C, "{{.OCIv1.Config.Env}}"), "[PATH=/bin A=1 B=2]");
    t.cooper(&["commit", "--change=RUN x", C])
        .fails(1)
        .says("RUN does more than change the config");
    t.cooper(&["commit", "--change=BOGUS x", C])
        .fails(1)
        .says("BOGUS");
}

#[test]
fn history_tells_what_it_is_asked_to() {
    let t = started().file("f", "f");
    t.cooper(&["run", "--add-history", C, "touch", "/x"]).ok();
    t.cooper(&["copy", "--add-history", C, "f", "/f"]).ok();
    t.cooper(&["config", "--add-history", "--user=5", C]).ok();
    t.cooper(&["commit", "-q", C, "told"]).ok();
    let history = t.cooper(&[
        "history",
        "--no-trunc",
        "--format",
        "{{.CreatedBy}}",
        "told",
    ]);
    let history = history.ok().stdout();
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(lines[..2], ["/bin/sh", "/bin/sh -c #(nop) USER 5"]);
    assert!(lines[2].starts_with("/bin/sh -c #(nop) COPY ") && lines[2].ends_with(" in /f"));
    assert_eq!(lines[3], "touch /x");
}

#[test]
fn inspect_tells_containers_from_images() {
    let t = started();
    let shown = t.cooper(&["inspect", "--type=container", C]).ok().stdout();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["Container"], &shown["FromImage"]),
        (&C.into(), &"busybox".into())
    );
    assert_eq!(shown["MountPoint"], "");
    t.cooper(&["inspect", "--type=image", C]).fails(1);
    t.cooper(&["inspect", "--type=container", "busybox"])
        .fails(1);
}

#[test]
fn a_commit_takes_files_and_a_config_that_the_container_has_not() {
    let t = started()
        .file("extra", "more\n")
        .file(
            "config",
            r#"{"Cmd":["cat","/in/extra"],"Env":["A=file"],"User":"5"}"#,
        )
        .file("bad", r#"{"Cmd":5}"#);
    t.chmod("extra", 0o640);
    t.cooper(&["config", "--env=A=own", "--label=l=own", C])
        .ok();
    t.cooper(&[
        "commit",
        "-q",
        "--add-file=extra:/in/extra",
        "--add-file=extra:bin/extra",
        "--config=config",
        "--identity-label",
        "--created-annotation",
        "--timestamp=1000",
        "--manifest=list",
        "-D",
        C,
        "made",
    ])
    .ok();
    let shown = field(
        &t,
        "made",
        "{{json .Config.Cmd}} {{.Config.Env}} {{.Config.User}}",
    );
    assert_eq!(shown, r#"["cat","/in/extra"] [A=file] 5"#);
    let labels = field(&t, "made", "{{json .Config.Labels}}");
    assert!(labels.contains(r#""l":"own""#) && labels.contains(env!("CARGO_PKG_VERSION")));
    let annotations = field(&t, "made", "{{json .Annotations}}");
    assert!(
        annotations.contains("1970-01-01T00:16:40Z"),
        "{annotations}"
    );
    let out = t.cask(&[
        "run",
        "--rm",
        "--user=0",
        "made",
        "/bin/sh",
        "-c",
        "cat /in/extra /bin/extra; stat -c %a:%u /in/extra; ls /bin/sh",
    ]);
    assert_eq!(out.ok().stdout(), "more\nmore\n640:0\n/bin/sh");
    t.cooper(&["manifest", "inspect", "list"]).ok();
    t.cooper(&["run", C, "ls", "/in"]).fails(1);
    t.cooper(&["commit", "--config=bad", C]).fails(1);
    t.cooper(&["commit", "--add-file=none:/x", C]).fails(1);
    t.cooper(&["commit", "--encryption-key=k", C])
        .fails(2)
        .says("encrypted layers");
    t.cooper(&["commit", "--sbom=syft", C])
        .fails(2)
        .says("nobody wants what it finds");
}
