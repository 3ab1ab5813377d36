//! Files of working containers outside of them: `mount`, `umount`, `unshare`, and who owns them on
//! every rung.

use crate::support::TestEnv;
use crate::working::{C, COOPER, field, script, sh, started};

/// Everything through a mount and beside it sees the same files.
const MOUNTED: &str = r#"
m=$($COOPER mount $C)
test "$($COOPER mount)" = "$C $m"
test "$($COOPER mount $C)" = "$m"
echo outside > $m/outside
test "$($COOPER run $C cat /outside)" = outside
$COOPER run $C sh -c 'echo inside > /inside'
test "$(cat $m/inside)" = inside
echo copied > f
$COOPER copy -q $C f /copied
test "$(cat $m/copied)" = copied
test "$($COOPER inspect --type container --format '{{.MountPoint}}' $C)" = "$m"
$COOPER commit -q $C with-mount > /dev/null
$COOPER umount $C > /dev/null
case $m in */copy) ;; *) test ! -e $m/outside;; esac
$COOPER umount $C 2>&1 | grep -q 'is not mounted'
$COOPER mount $C > /dev/null
test -n "$($COOPER umount -a)"
$COOPER mount $C > /dev/null
$COOPER copy -q --from $C $C /outside /again
echo fine
"#;

fn mounts_agree(t: &TestEnv, wrap: &[&str]) {
    let text = format!("COOPER={COOPER}; C={C}\n{MOUNTED}");
    let (ok, said) = script(t, wrap, &text);
    assert!(ok && said.contains("fine\n"), "{said}");
    assert_eq!(
        sh(t, C, "cat /outside /inside /copied /again"),
        "outside\ninside\ncopied\noutside"
    );
    let out = t.cask(&[
        "run",
        "--rm",
        "with-mount",
        "cat",
        "/outside",
        "/inside",
        "/copied",
    ]);
    assert_eq!(out.ok().stdout(), "outside\ninside\ncopied");
    t.cooper(&["rm", C]).ok();
}

#[test]
fn root_mounts_a_containers_files() {
    // In a mount namespace of its own, so that a failed test leaves no mount.
    mounts_agree(&started(), &["unshare", "-m"]);
}

#[test]
fn a_container_of_nothing_is_mounted_as_well() {
    let t = TestEnv::new().file("f", "f");
    t.cooper(&["from", "--name=c", "scratch"]).ok();
    let text = format!(
        "m=$({COOPER} mount c); echo made > $m/made; {COOPER} copy -q c f /f; cat $m/f
        {COOPER} commit -q c image; {COOPER} umount c"
    );
    let (ok, said) = script(&t, &["unshare", "-m"], &text);
    assert!(ok && said.starts_with('f'), "{said}");
    t.write("Dockerfile", "FROM image\n");
    t.cooper(&["build", "-o", "out", "."]).ok();
    let made = std::fs::read_to_string(t.path("out/made")).unwrap();
    assert_eq!(made, "made\n");
}

#[test]
fn a_copy_is_its_own_mount() {
    let t = started().var("COOPER_SNAPSHOTTER", "copy");
    mounts_agree(&t, &["unshare", "-m"]);
    let t = ordinary(None).var("COOPER_SNAPSHOTTER", "copy");
    mounts_agree(&t, &[COOPER, "unshare"]);
}

fn ordinary(isolation: Option<&str>) -> TestEnv {
    let t = TestEnv::as_user("sub");
    let t = match isolation {
        Some(isolation) => t.var("COOPER_ISOLATION", isolation),
        None => t,
    };
    t.busybox("busybox");
    t.cooper(&["from", "busybox"]).ok();
    t
}

#[test]
fn ordinary_users_mount_inside_unshare() {
    let t = ordinary(None);
    t.cooper(&["mount", C]).fails(2).says("cooper unshare");
    mounts_agree(&t, &[COOPER, "unshare"]);
}

#[test]
fn with_one_id_mounts_work_inside_unshare_too() {
    mounts_agree(&ordinary(Some("single-id")), &[COOPER, "unshare"]);
}

#[test]
fn unshare_gives_a_mounted_container_in_a_variable() {
    let t = ordinary(None);
    let out = t.cooper(&[
        "unshare",
        "-m",
        C,
        "-m",
        &format!("ALSO={C}"),
        "sh",
        "-c",
        r#"id -u; test "$CONTAINER" = "$ALSO" && ls -d $CONTAINER/bin/sh | wc -l; exit 5"#,
    ]);
    assert_eq!(out.fails(5).stdout(), "0\n1");
    t.cooper(&["unshare", "/no/such"]).fails(127);
    let (ok, said) = script(
        &t,
        &[COOPER, "unshare"],
        "touch own; chown 7:7 own; stat -c %u own",
    );
    assert!(ok && said == "7\n", "{said}");
}

#[test]
fn owners_reach_the_image_on_every_rung() {
    for isolation in [None, Some("single-id")] {
        let t = ordinary(isolation);
        t.write("f", "x");
        t.cooper(&["copy", "-q", "--chown=5:6", C, "f", "/copied"])
            .ok();
        sh(&t, C, "touch /made; chown 7:8 /made");
        t.cooper(&["commit", "-q", C, "owned"]).ok();
        t.write("Dockerfile", "FROM owned\n");
        let listing = t.listing(&[], ".");
        let owner = |name: &str| {
            let line = listing.iter().find(|line| line.ends_with(name));
            line.unwrap().split_whitespace().nth(1).unwrap().to_owned()
        };
        assert_eq!(
            (owner(" copied"), owner(" made")),
            ("5/6".into(), "7/8".into())
        );
    }
}

#[test]
fn without_namespaces_containers_are_made_and_configured_but_not_run() {
    let t = ordinary(Some("chroot"));
    t.cooper(&["config", "--env=A=1", C]).ok();
    t.cooper(&["commit", "-q", C, "configured"]).ok();
    assert_eq!(
        field(&t, "configured", "{{.Config.Env}}"),
        "[PATH=/bin A=1]"
    );
    t.cooper(&["run", C, "true"])
        .fails(1)
        .says("`chroot` isolation was asked for");
    t.cooper(&["unshare", "true"])
        .fails(1)
        .says("`chroot` isolation was asked for");
}
