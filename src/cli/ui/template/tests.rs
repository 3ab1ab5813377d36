//! What templates make of values, function by function.

use serde_json::json;

use super::*;

fn render(text: &str) -> Result<String, String> {
    let value = json!({
        "Id": "sha256:12",
        "Names": "done1",
        "State": "exited",
        "Config": {"Env": ["A=1", "B=2"], "Labels": {"a.b": "x"}, "Cmd": null, "Volumes": null, "Healthcheck": null, "Tty": false},
        "Mounts": [{"Name": "vol"}],
        "Size": 7,
        "Label": {"who": "me"},
    });
    let template = Template::parse(text).map_err(|error| error.why)?;
    template.render(&value).map_err(|error| error.why)
}

#[test]
fn templates_print_what_docker_prints() {
    for (text, want) in [
        ("plain", "plain"),
        ("{{.Id}}\\t{{ .Size }}", "sha256:12\t7"),
        ("{{json .Config.Env}}", r#"["A=1","B=2"]"#),
        ("{{.Config.Env}} {{.Config.Labels}}", "[A=1 B=2] map[a.b:x]"),
        ("{{.Config.Cmd}} {{.Config.Tty}}", "[] false"),
        (
            "{{$c := .Config}}{{$c.Volumes}}{{$c.Healthcheck}}",
            "map[]<nil>",
        ),
        (
            "{{.Config.Shell}}{{.Config.Sysctls}}{{.Config.Health}}{{.Config.Zzz}}",
            "[]map[]<nil><no value>",
        ),
        ("{{.Config.Labels.zzz}}", "<no value>"),
        (r#"{{index .Config.Labels "a.b"}}"#, "x"),
        (r#"{{index .Config.Labels "none"}}!"#, "!"),
        ("{{index .Config.Env 1}}", "B=2"),
        ("{{len .Config.Env}}", "2"),
        (r#"{{join .Config.Env ","}}"#, "A=1,B=2"),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{if .Config.Cmd}}a{{else}}b{{end}}", "b"),
        ("{{if eq .Size 7}}seven{{end}}", "seven"),
        ("{{.Id | upper}}", "SHA256:12"),
        ("a {{- .Size -}} b", "a7b"),
        ("{{/* note */}}x", "x"),
        ("{{len (index .Config.Env 0)}}", "3"),
        (r#"{{.Label "who"}}|{{.Label "x"}}|"#, "me||"),
        (
            r#"{{lower "AB"}} {{title "a bc"}} {{split .Names "o"}} {{join (split .Names "o") "0"}}"#,
            "ab A Bc [d ne1] d0ne1",
        ),
        ("{{pad .Names 2 3}}|{{truncate .Names 2}}", "  done1   |do"),
        (r#"{{printf "%s-%d-%v" .Names 3 .State}}"#, "done1-3-exited"),
        (
            r#"{{printf "%q %5s|%-8s|%x %t" .Names "a" "b" 255 true}}"#,
            r#""done1"     a|b       |ff true"#,
        ),
        (
            r#"{{printf "%5d|%-5d|%05d|%.3s|%%" 1 2 3 .Id}}"#,
            "    1|2    |00003|sha|%",
        ),
        (
            r#"{{printf "%d %s" .Names}} {{printf "x" 1}}"#,
            "%!d(string=done1) %!s(MISSING) x%!(EXTRA int=1)",
        ),
        (
            "{{with .Names}}{{.}}{{end}}{{with .Config.Cmd}}x{{else}}y{{end}}",
            "done1y",
        ),
        (
            "{{with $s := .Config}}{{$s.Tty}} {{$.Size}}{{end}}",
            "false 7",
        ),
        ("{{$x := .Names}}{{$x}}{{$x = .State}}{{$x}}", "done1exited"),
        (
            r#"{{len .Names}} {{eq .Names "up" "done1"}} {{ne .State "x"}} {{and .Names .State}} {{or "" .State}}"#,
            "5 true true exited exited",
        ),
        (
            "{{lt 1 2}} {{ge 3 3}} {{gt 1.5 2}} {{le \"a\" \"b\"}}",
            "true true false true",
        ),
        (
            r#"{{eq .Config.Cmd nil}} {{and .Config.Tty (index .Config.Env 9)}}"#,
            "true false",
        ),
        (
            r#"{{if eq .State "running"}}r{{else if eq .State "exited"}}e{{else}}o{{end}}"#,
            "e",
        ),
        (
            r#"{{range $i, $c := split .Names "e"}}{{$i}}={{$c}};{{end}}"#,
            "0=don;1=1;",
        ),
        (
            "{{range $i, $e := .Config.Env}}{{if $i}}, {{end}}{{$e}}{{end}}",
            "A=1, B=2",
        ),
        (
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}{{end}}",
            "a.b=x",
        ),
        ("{{(index .Mounts 0).Name}} {{slice .Id 0 3}}", "vol sha"),
        (
            r#"{{print "a" 1 2 "b" true}} {{println "a" 1}}"#,
            "a1 2btrue a 1\n",
        ),
    ] {
        assert_eq!(render(text).as_deref(), Ok(want), "{text}");
    }
}

#[test]
fn mistakes_are_named() {
    for (text, why) in [
        ("{{.Id", "`{{` is not closed by `}}`"),
        (
            "{{.Nope}}",
            "there is no field `Nope`, only Id, Names, State, Config, Mounts, Size, Label",
        ),
        ("{{range .Id}}", "`range` has no `end`"),
        (
            "{{if .Id}}{{else if .Id}}{{end}}{{end}}",
            "`end` closes nothing",
        ),
        ("{{end}}", "`end` closes nothing"),
        ("{{else}}", "`else` closes nothing"),
        ("{{}}", "an action is empty"),
        ("{{index .Config.Env 9}}", "index 9 is out of range"),
        ("{{json}}", "`json` does not take 0 values"),
        ("{{$x}}", "there is no variable `$x`"),
        ("{{if $x := .Id}}{{end}}{{$x}}", "there is no variable `$x`"),
        (".Id := 1{{.Id := 1}}", "only variables can be set"),
        (r#"{{.State "x"}}"#, "`.State` can't be asked for `x`"),
        (r#"{{eq .Size "7"}}"#, "`eq` can't compare 7 with \"7\""),
        ("{{.Id .Size .Size}}", "`.Id` is asked for one thing"),
    ] {
        assert_eq!(render(text), Err(why.to_owned()), "{text}");
    }
    let why = render("{{foo .Id}}").unwrap_err();
    assert!(
        why.starts_with("there is no function `foo`, only json"),
        "{why}"
    );
}

#[test]
fn what_is_only_asked_is_no_part_of_the_row() {
    assert!(!render("{{json .}}").unwrap().contains("Label\""));
    assert_eq!(whole(&json!({"Label": "text"})), json!({"Label": "text"}));
}

#[test]
fn a_template_knows_what_it_may_show() {
    for (text, shows) in [
        ("{{.Size}}", true),
        ("{{json .}}", true),
        ("{{with $x := .}}{{$x.Size}}{{end}}", true),
        ("{{.Names}}", false),
    ] {
        assert_eq!(
            Template::parse(text).unwrap().names("Size"),
            shows,
            "{text}"
        );
    }
}

#[test]
fn a_header_has_names_where_the_fields_are() {
    let head = |text: &str| {
        let template = Template::parse(text).unwrap();
        template.header(&str::to_uppercase).unwrap()
    };
    assert_eq!(
        head("{{.ID}}\\t{{.CreatedSince}} {{json .Tag}}"),
        "ID\tCREATEDSINCE TAG"
    );
    assert_eq!(
        head(r#"{{.Label "x.my-key_z"}} {{.Names | lower}}"#),
        "my key z NAMES"
    );
    assert_eq!(
        head("{{if .A}}{{truncate .B 1}}{{end}}{{pad .A 1 1}}"),
        "B A "
    );
}
