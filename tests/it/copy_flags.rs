//! The flags of COPY and ADD: --parents, --exclude, --chmod, --chown and --link.

use crate::support::TestEnv;

/// A context with two levels of directories, and links.
fn env() -> TestEnv {
    let t = TestEnv::new()
        .file("a/b/c.txt", "1")
        .file("a/b/y.md", "2")
        .file("a/x.md", "3")
        .file("f", "4")
        .file("g", "5");
    t.chmod("a/b", 0o750);
    t.chmod("a/b/c.txt", 0o640);
    t.symlink("b/c.txt", "a/link");
    t.symlink("a/b", "dirlink");
    t
}

/// The file system that these instructions make on nothing.
#[track_caller]
fn made(t: &TestEnv, instructions: &str) -> Vec<String> {
    t.write("Dockerfile", format!("FROM scratch\n{instructions}\n"));
    t.listing(&[], ".")
}

/// The names that these instructions make, without modes and directories.
#[track_caller]
fn names(t: &TestEnv, instructions: &str) -> Vec<String> {
    let files = made(t, instructions)
        .into_iter()
        .filter(|line| !line.ends_with('/'));
    files
        .map(|line| line.split(' ').nth(2).unwrap().to_owned())
        .collect()
}

#[test]
fn parents_keeps_the_path_of_a_source() {
    let t = env();
    assert_eq!(
        made(&t, "COPY --parents a/b/c.txt /d"),
        [
            "drwxr-xr-x 0/0 d/",
            "drwxr-xr-x 0/0 d/a/",
            "drwxr-x--- 0/0 d/a/b/",
            "-rw-r----- 0/0 d/a/b/c.txt",
        ]
    );
    for same in ["./a/b/c.txt", "/a/b/c.txt", "../../a/b/c.txt"] {
        let got = names(&t, &format!("COPY --parents {same} /d"));
        assert_eq!(got, ["d/a/b/c.txt"], "{same}");
    }
    assert_eq!(
        names(&t, "COPY --parents a/b f /d/"),
        ["d/a/b/c.txt", "d/a/b/y.md", "d/f"]
    );
    assert_eq!(names(&t, "COPY --parents=false a/b/c.txt /d/"), ["d/c.txt"]);
    // The destination is a directory, with or without a slash.
    assert_eq!(names(&t, "COPY --parents f /h"), ["h/f"]);
}

#[test]
fn parents_begins_at_the_first_pivot() {
    let t = env();
    for (source, want) in [
        ("a/./b/c.txt", "d/b/c.txt"),
        ("a/b/./c.txt", "d/c.txt"),
        ("./a/./b/./c.txt", "d/b/c.txt"),
        ("a/*/./c.txt", "d/c.txt"),
    ] {
        let got = names(&t, &format!("COPY --parents {source} /d/"));
        assert_eq!(got, [want], "{source}");
    }
    assert_eq!(
        names(&t, "COPY --parents a/b/. /d/"),
        ["d/a/b/c.txt", "d/a/b/y.md"]
    );
}

#[test]
fn parents_knows_patterns_and_any_depth() {
    let t = env();
    for (source, want) in [
        ("**/*.md", &["d/a/b/y.md", "d/a/x.md"][..]),
        ("a/*/c.txt", &["d/a/b/c.txt"]),
        ("a/**/c.txt", &["d/a/b/c.txt"]),
        ("a/./**/y.md", &["d/b/y.md"]),
        ("**/x.md", &["d/a/x.md"]),
        ("none*/x", &[]),
        ("**/none", &[]),
    ] {
        let got = names(&t, &format!("COPY --parents {source} /d/"));
        assert_eq!(got, want, "{source}");
    }
    let all = names(&t, "COPY --parents a/** /d/");
    assert_eq!(all, ["d/a/b/c.txt", "d/a/b/y.md", "d/a/link", "d/a/x.md"]);
}

#[test]
fn parents_follows_a_link_on_the_way_and_keeps_one_at_the_end() {
    let t = env();
    assert_eq!(
        names(&t, "COPY --parents dirlink/c.txt /d/"),
        ["d/dirlink/c.txt"]
    );
    let tree = made(&t, "COPY --parents a/link /d/");
    assert!(tree.contains(&"lrwxrwxrwx 0/0 d/a/link -> b/c.txt".to_owned()));
}

#[test]
fn a_missing_path_with_parents_is_named() {
    let t = env();
    t.write("Dockerfile", "FROM scratch\nCOPY --parents a/gone/x /d/\n");
    t.build()
        .fails(1)
        .says("`a/gone/x` is not in the build context")
        .says("Dockerfile:2");
}

#[test]
fn a_flag_that_expands_to_nothing_is_as_good_as_none() {
    let t = env();
    assert_eq!(
        made(&t, "COPY --chmod=$none --chown=$none a/b/c.txt /c"),
        ["-rw-r----- 0/0 c"]
    );
    assert_eq!(
        made(&t, "ADD --checksum=$none --chmod= a/b/c.txt /c"),
        ["-rw-r----- 0/0 c"]
    );
    t.write(
        "Dockerfile",
        "FROM scratch\nCOPY --chmod=$none --chown=${none} f /f\n",
    );
    t.build_with(&["-t", "x"]).ok();
    let history = t.cooper(&["history", "--no-trunc", "x"]).ok().stdout();
    assert!(history.contains("COPY f /f"), "{history}");
}

#[test]
fn parents_are_owned_and_moded_as_asked() {
    let t = env();
    assert_eq!(
        made(&t, "COPY --parents --chown=5:6 --chmod=700 a/b/c.txt /d/"),
        [
            "drwx------ 5/6 d/",
            "drwx------ 5/6 d/a/",
            "drwx------ 5/6 d/a/b/",
            "-rwx------ 5/6 d/a/b/c.txt",
        ]
    );
    // What the source has is copied, with all that is asked for; the way to it is made.
    assert_eq!(
        made(&t, "COPY --parents --chmod=2751 a/b/c.txt /d/"),
        [
            "drwxr-x--x 0/0 d/",
            "drwxr-s--x 0/0 d/a/",
            "drwxr-s--x 0/0 d/a/b/",
            "-rwxr-s--x 0/0 d/a/b/c.txt",
        ]
    );
    assert_eq!(
        made(&t, "COPY --parents --chmod=g-x,o=rX a/b/c.txt /d/"),
        [
            "drwxr-xr-x 0/0 d/",
            "drwxr--r-x 0/0 d/a/",
            "drwxr--r-x 0/0 d/a/b/",
            "-rw-r--r-- 0/0 d/a/b/c.txt",
        ]
    );
}

#[test]
fn parents_reads_stages_as_well() {
    let t = env();
    t.write(
        "Dockerfile",
        "FROM scratch AS one\nCOPY --chown=7:8 a /src/a\nFROM scratch\n\
         COPY --from=one --parents /src/./a/b/c.txt /d/\n",
    );
    let tree = t.listing(&[], ".");
    assert!(
        tree.contains(&"-rw-r----- 7/8 d/a/b/c.txt".to_owned()),
        "{tree:?}"
    );
}

#[test]
fn exclude_leaves_files_of_directories_out() {
    let t = env();
    for (flags, want) in [
        ("--exclude=*.md", &["d/b/c.txt", "d/b/y.md", "d/link"][..]),
        ("--exclude=**/*.md", &["d/b/c.txt", "d/link"]),
        ("--exclude=b", &["d/link", "d/x.md"]),
        ("--exclude=b --exclude=*.md", &["d/link"]),
        (
            "--exclude=**/*.md --exclude=!b/y.md",
            &["d/b/c.txt", "d/b/y.md", "d/link"],
        ),
        ("--exclude=** --exclude=!b/c.txt", &["d/b/c.txt"]),
        ("--exclude=**", &[]),
        (
            "--exclude=a/b",
            &["d/b/c.txt", "d/b/y.md", "d/link", "d/x.md"],
        ),
    ] {
        assert_eq!(names(&t, &format!("COPY {flags} a /d/")), want, "{flags}");
        assert_eq!(names(&t, &format!("ADD {flags} a* /d/")), want, "{flags}");
    }
}

#[test]
fn exclude_does_not_reach_a_source_that_is_a_file() {
    let t = env();
    for sources in ["f g", "[fg]"] {
        let got = names(&t, &format!("COPY --exclude=f {sources} /d/"));
        assert_eq!(got, ["d/f", "d/g"], "{sources}");
    }
}

#[test]
fn exclude_with_parents_counts_from_the_pivot() {
    let t = env();
    assert_eq!(
        names(&t, "COPY --parents --exclude=a/b a /d/"),
        ["d/a/link", "d/a/x.md"]
    );
    assert_eq!(
        names(&t, "COPY --parents --exclude=b a/./b a/./x.md /d/"),
        ["d/x.md"]
    );
}

#[test]
fn an_exclude_that_is_no_pattern_is_refused_and_variables_stay() {
    let t = env();
    for (pattern, says) in [("[", "syntax error"), ("!", "illegal exclusion pattern")] {
        let text = format!("FROM scratch\nCOPY --exclude={pattern} a /d/\n");
        t.write("Dockerfile", text);
        t.build()
            .fails(1)
            .says("`--exclude` is not valid")
            .says(says);
    }
    let got = names(&t, "ARG P=b\nCOPY --exclude=$P a /d/");
    assert!(
        got.contains(&"d/b/c.txt".to_owned()),
        "not expanded: {got:?}"
    );
}

#[test]
fn what_is_excluded_is_not_in_the_key() {
    let t = env();
    t.write("Dockerfile", "FROM scratch\nCOPY --exclude=**/*.md a /d/\n");
    t.build().ok();
    t.write("a/b/y.md", "changed");
    let steps = t.build().ok().steps();
    assert!(
        steps.iter().all(|step| step.ends_with("cached")),
        "{steps:?}"
    );
    t.write("Dockerfile", "FROM scratch\nCOPY --exclude=*.md a /d/\n");
    let steps = t.build().ok().steps();
    assert!(steps.last().unwrap().ends_with("ran"), "{steps:?}");
}

#[test]
fn symbolic_modes_change_each_entry_by_itself() {
    let t = env();
    assert_eq!(
        made(&t, "COPY --chmod=u=rwX,go=rX a /d"),
        [
            "drwxr-xr-x 0/0 d/",
            "drwxr-xr-x 0/0 d/b/",
            "-rw-r--r-- 0/0 d/b/c.txt",
            "-rw-r--r-- 0/0 d/b/y.md",
            "lrwxrwxrwx 0/0 d/link -> b/c.txt",
            "-rw-r--r-- 0/0 d/x.md",
        ]
    );
    for (mode, want) in [
        ("+x", "-rwxr-xr-x"),
        ("g=u", "-rw-rw-r--"),
        ("go-r,u+s", "-rwS------"),
    ] {
        let tree = made(&t, &format!("ARG M={mode}\nADD --chmod=$M f /d/e/"));
        let want = [
            "drwxr-xr-x 0/0 d/",
            "drwxr-xr-x 0/0 d/e/",
            &format!("{want} 0/0 d/e/f"),
        ];
        assert_eq!(tree, want, "{mode}");
    }
}

#[test]
fn octal_modes_reach_created_parents_and_zero_counts() {
    let t = env();
    assert_eq!(
        made(&t, "COPY --chmod=0 f /d/f"),
        ["d--------- 0/0 d/", "---------- 0/0 d/f"]
    );
    assert_eq!(
        made(&t, "COPY --chmod=2770 a/b /d/e"),
        [
            "drwxrwx--- 0/0 d/",
            "drwxrwx--- 0/0 d/e/",
            "-rwxrws--- 0/0 d/e/c.txt",
            "-rwxrws--- 0/0 d/e/y.md",
        ]
    );
    let tree = made(&t, "COPY --chmod=600 <<doc /d\ntext\ndoc");
    assert_eq!(tree, ["-rw------- 0/0 d"]);
}

#[test]
fn a_mode_that_is_none_is_refused() {
    let t = env();
    for mode in ["9", "10000", "u+q", "rwx"] {
        let text = format!("FROM scratch\nCOPY --chmod={mode} f /d/\n");
        t.write("Dockerfile", text);
        t.build()
            .fails(1)
            .says("invalid chmod parameter")
            .says(mode);
    }
}

#[test]
fn chown_takes_names_numbers_and_either_half() {
    let t = env()
        .file("etc/passwd", "web:x:7:3::/:\n")
        .file("etc/group", "staff:x:50:\n");
    let tree = made(
        &t,
        "COPY etc /etc\nCOPY --chown=7 f /n/number\nCOPY --chown=web f /name\n\
         COPY --chown=web:50 f /mixed\nCOPY --chown=7:staff f /other\nCOPY --chown=:staff f /group\n\
         ARG WHO=web:staff\nADD --chown=$WHO f /variable\nCOPY --chown=0 f /root\n\
         COPY --chown=web: f /half\nCOPY --chown=7: f /half-number\nUSER 9:\nWORKDIR /half-dir",
    );
    for want in [
        "drwxr-xr-x 7/7 n/",
        "-rw-r--r-- 7/7 n/number",
        "-rw-r--r-- 7/3 name",
        "-rw-r--r-- 7/50 mixed",
        "-rw-r--r-- 7/50 other",
        "-rw-r--r-- 0/50 group",
        "-rw-r--r-- 7/50 variable",
        "-rw-r--r-- 0/0 root",
        "-rw-r--r-- 7/0 half",
        "-rw-r--r-- 7/0 half-number",
        "drwxr-xr-x 9/0 half-dir/",
    ] {
        assert!(
            tree.contains(&want.to_owned()),
            "{want} is not in {tree:#?}"
        );
    }
}

#[test]
fn names_that_mean_nobody_are_errors() {
    let t = env().file("etc/passwd", "web:x:7:3::/:\n");
    for (who, says) in [
        ("nobody", "user `nobody` is not in the image's /etc/passwd"),
        (
            "web:nogroup",
            "group `nogroup` is not in the image's /etc/group",
        ),
        ("4294967296", "id `4294967296`"),
    ] {
        let text = format!("FROM scratch\nCOPY etc /etc\nCOPY --chown={who} f /f\n");
        t.write("Dockerfile", text);
        t.build().fails(1).says(says).says("Dockerfile:3");
    }
}

/// Diff ids of the image `name`.
fn layers(t: &TestEnv, name: &str) -> Vec<String> {
    let out = t
        .cooper(&["inspect", "-f", "{{json .RootFS.Layers}}", name])
        .ok();
    serde_json::from_str(&out.stdout()).unwrap()
}

#[test]
fn a_linked_layer_is_the_same_on_every_base_and_at_any_time() {
    let t = env();
    let linked = "COPY --link --chown=1:2 a f /into/deep/\nCOPY --link <<doc /doc\ntext\ndoc\n\
                  ADD --link --chmod=600 g /g\n";
    let build = |base: &str, name: &str, options: &[&str]| {
        t.write("Dockerfile", format!("{base}\n{linked}"));
        t.build_with(&[options, &["-t", name]].concat())
            .ok()
            .steps()
    };
    build("FROM scratch", "one", &[]);
    build(
        "FROM scratch\nCOPY f /into/deep\nCOPY a /doc",
        "two",
        &["--no-cache"],
    );
    build("FROM scratch\nCOPY g /g/h", "three", &["--no-cache"]);
    let one = layers(&t, "one");
    for name in ["two", "three"] {
        let other = layers(&t, name);
        assert_eq!(one, other[other.len() - 3..], "{name}");
    }
}

#[test]
fn a_linked_layer_of_a_pattern_is_the_same_and_leaves_out_what_is_ignored() {
    let t = env()
        .file(".dockerignore", "other.md\n")
        .file("own.md", "6");
    t.write("other.md", "7");
    let linked = "COPY --link *.md f* /into/";
    for (base, name) in [
        ("FROM scratch", "one"),
        ("FROM scratch\nCOPY f /into/own.md", "two"),
    ] {
        t.write("Dockerfile", format!("{base}\n{linked}\n"));
        t.build_with(&["--no-cache", "-t", name]).ok();
    }
    let (one, two) = (layers(&t, "one"), layers(&t, "two"));
    assert_eq!(one.last(), two.last());
    assert_eq!(names(&t, linked), ["into/f", "into/own.md"]);
    t.write("other.md", "changed");
    t.build_with(&["-q", "--no-cache", "-t", "made"]).ok();
    assert_eq!(layers(&t, "made"), one, "what is ignored does not count");
}

#[test]
fn a_linked_copy_is_cached_by_its_sources_alone() {
    let t = env();
    t.write(
        "Dockerfile",
        "FROM scratch\nCOPY g /g\nCOPY --link f /f\nCOPY f /plain\n",
    );
    t.build().ok();
    t.write("g", "changed");
    let steps = t.build().ok().steps();
    let ends: Vec<&str> = steps
        .iter()
        .filter_map(|step| step.rsplit(' ').next())
        .collect();
    assert_eq!(ends, ["ran", "cached", "ran"], "{steps:?}");
    t.write("f", "changed");
    let steps = t.build().ok().steps();
    assert!(steps[1].ends_with("ran"), "{steps:?}");
}

#[test]
fn a_linked_copy_follows_no_link_of_the_image() {
    let t = env();
    std::fs::create_dir(t.path("tree")).unwrap();
    t.symlink("/elsewhere", "tree/dest");
    let tree = made(
        &t,
        "COPY tree /\nCOPY f /elsewhere/kept\nCOPY --link g /dest/g",
    );
    for want in [
        "drwxr-xr-x 0/0 dest/",
        "-rw-r--r-- 0/0 dest/g",
        "-rw-r--r-- 0/0 elsewhere/kept",
    ] {
        assert!(
            tree.contains(&want.to_owned()),
            "{want} is not in {tree:#?}"
        );
    }
    let tree = made(
        &t,
        "COPY tree /\nCOPY f /elsewhere/kept\nCOPY --link=false g /dest/g",
    );
    assert!(
        tree.contains(&"-rw-r--r-- 0/0 elsewhere/g".to_owned()),
        "{tree:#?}"
    );
}

#[test]
fn a_linked_copy_can_be_run_on() {
    let t = env();
    t.busybox("busybox");
    t.write(
        "Dockerfile",
        "FROM busybox\nCOPY --link a /opt/a\nRUN cat /opt/a/b/c.txt > /seen && ls /bin/sh\n",
    );
    assert_eq!(t.files(&[], ".").read("seen"), "1");
}

#[test]
fn a_linked_copy_knows_numbers_and_no_names() {
    let t = env().file("etc/passwd", "web:x:7:3::/:\n");
    let tree = made(&t, "COPY --link --chown=7:3 f /f");
    assert_eq!(tree, ["-rw-r--r-- 7/3 f"]);
    t.write(
        "Dockerfile",
        "FROM scratch\nCOPY etc /etc\nCOPY --link --chown=web f /f\n",
    );
    t.build()
        .fails(1)
        .says("`--link` knows no users and groups: `--chown=web` needs numbers");
}

#[test]
fn copy_and_add_refuse_each_others_flags() {
    let t = env();
    for line in [
        "COPY --checksum=sha256:00 f /",
        "COPY --keep-git-dir f /",
        "COPY --unpack f /",
        "ADD --from=x f /",
        "ADD --parents f /",
    ] {
        t.write("Dockerfile", format!("FROM scratch\n{line}\n"));
        let flag = line.split([' ', '=']).nth(1).unwrap();
        t.build().fails(1).says(&format!("unknown flag: {flag}"));
    }
    for (line, says) in [
        ("COPY http://h/x /", "source can't be a URL for COPY"),
        (
            "COPY http://h/x.git /",
            "source can't be a git ref for COPY",
        ),
        ("COPY --from=$X f /", "Dockerfile:2"),
    ] {
        t.write("Dockerfile", format!("FROM scratch\n{line}\n"));
        t.build().fails(1).says(says);
    }
}
