//! The verbs about images that are in the store.

use insta::assert_snapshot;

use crate::support::TestEnv;

const EPOCH: &str = "1700000000";

fn with_image() -> TestEnv {
    let t = TestEnv::new()
        .var("SOURCE_DATE_EPOCH", EPOCH)
        .dockerfile(
            "FROM scratch\nLABEL a.b=x\nENV GREETING=hi\nCOPY hello /hello\nCMD [\"/hello\"]\n",
        )
        .file("hello", "hello\n");
    t.cooper(&["build", "-q", "-t", "app", "-t", "me/other:1", "."])
        .ok();
    t
}

#[test]
fn listings_show_every_name() {
    let t = with_image();
    let listed = t.cooper(&["images"]).ok().shown();
    let rest = listed.split("[ID]   ").nth(1).unwrap();
    let years = rest.split(' ').next().unwrap().to_owned();
    assert_snapshot!(listed.replace(&format!("{years} years ago"), "[AGE]"), @r"
    REPOSITORY   TAG       IMAGE ID       CREATED       SIZE
    app          latest    [ID]   [AGE]   2.05kB
    me/other     1         [ID]   [AGE]   2.05kB
    ");
    assert_snapshot!(t.cooper(&["images", "--format", "{{.Repository}}:{{.Tag}}", "app"]).ok().stdout(), @"app:latest");
    assert_snapshot!(t.cooper(&["images", "-q", "--no-trunc", "me/other"]).ok().shown(), @"[SHA]");
    let filtered = |filter: &str| {
        t.cooper(&["images", "--format", "{{.Repository}}", "--filter", filter])
            .ok()
            .stdout()
    };
    assert_eq!(filtered("reference=me/*"), "me/other");
    assert_eq!(filtered("label=a.b=x").lines().count(), 2);
    assert_eq!(filtered("label=a.b=y"), "");
    assert_eq!(filtered("dangling=true"), "");
    let json = t.cooper(&["images", "--format", "json"]).ok().stdout();
    for line in json.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(row["ID"].is_string() && row["CreatedAt"] == "2023-11-14 22:13:20 +0000 UTC");
    }
}

#[test]
fn inspect_answers_templates_and_json() {
    let t = with_image();
    let field = |template: &str| t.cooper(&["inspect", "-f", template, "app"]).ok().stdout();
    assert_eq!(field("{{index .Config.Env 1}}"), "GREETING=hi");
    assert_eq!(field("{{json .Config.Cmd}}"), r#"["/hello"]"#);
    assert_eq!(field(r#"{{index .Config.Labels "a.b"}}"#), "x");
    assert_eq!(
        field("{{.Os}} {{len .RootFS.Layers}} {{.Created}}"),
        "linux 1 2023-11-14T22:13:20Z"
    );
    assert_eq!(field("{{.RepoTags}}"), "[app:latest me/other:1]");
    let all = t.cooper(&["inspect", "app", "me/other:1"]).ok().stdout();
    let all: serde_json::Value = serde_json::from_str(&all).unwrap();
    assert_eq!(all[0]["Id"], all[1]["Id"]);
    t.cooper(&["inspect", "-f", "{{.Nope}}", "app"])
        .fails(2)
        .says("there is no field `Nope`");
    let judged = t.cooper(&["inspect", "ap"]).fails(1);
    assert_snapshot!(judged.shown_err(), @r"
    error: no image `ap` in the store
    hint: did you mean `app:latest`?
    ");
}

#[test]
fn history_has_the_newest_first() {
    let t = with_image();
    let template = "{{.CreatedBy}}|{{.Comment}}|{{.Size}}";
    let shown = t
        .cooper(&["history", "--no-trunc", "--format", template, "app"])
        .ok()
        .stdout();
    assert_snapshot!(shown, @r#"
    CMD ["/hello"]|buildkit.dockerfile.v0|0B
    COPY hello /hello # buildkit|buildkit.dockerfile.v0|2.05kB
    ENV GREETING=hi|buildkit.dockerfile.v0|0B
    LABEL a.b=x|buildkit.dockerfile.v0|0B
    "#);
    assert_eq!(
        t.cooper(&["history", "-q", "app"])
            .ok()
            .stdout()
            .lines()
            .count(),
        4
    );
}

#[test]
fn names_come_and_go() {
    let t = with_image();
    t.cooper(&["tag", "app", "again:2", "localhost/x"]).ok();
    assert_eq!(
        t.cooper(&["untag", "app", "again:2"]).ok().stdout(),
        "Untagged: again:2"
    );
    t.cooper(&["untag", "app", "again:2"])
        .fails(1)
        .says("`again:2` is no name of image `app`");
    t.cooper(&["tag", "none", "x"])
        .fails(1)
        .says("no image `none`");
    assert_eq!(
        t.cooper(&["rmi", "app"]).ok().stdout(),
        "Untagged: app:latest"
    );
    t.cooper(&["rmi", "localhost/x"]).ok();
    assert_snapshot!(t.cooper(&["rmi", "me/other:1"]).ok().shown(), @r"
    Untagged: me/other:1
    Deleted: [SHA]
    ");
    t.cooper(&["rmi", "app"]).fails(1).says("no image `app`");
    t.cooper(&["rmi", "-f", "app"])
        .ok()
        .says("warning: no image `app`");
    assert_eq!(t.cooper(&["images", "-q"]).ok().stdout(), "");
}

#[test]
fn prune_takes_what_has_no_name() {
    let t = with_image();
    t.write("hello", "changed\n");
    t.cooper(&["build", "-q", "-t", "app", "."]).ok();
    t.cooper(&["untag", "me/other:1"]).ok();
    let dry = t.cooper(&["prune", "--dry-run"]).ok().stdout();
    assert!(
        dry.contains("Deleted Images:\n")
            && dry.contains("deleted: sha256:")
            && dry.contains("Would reclaim"),
        "{dry}"
    );
    assert_eq!(t.cooper(&["images", "-q"]).ok().stdout().lines().count(), 2);
    t.cooper(&["prune"]).ok();
    assert_eq!(t.cooper(&["images", "-q"]).ok().stdout().lines().count(), 1);
    t.cooper(&["prune", "--all", "--cache"]).ok();
    assert_eq!(t.cooper(&["images", "-q"]).ok().stdout(), "");
}
