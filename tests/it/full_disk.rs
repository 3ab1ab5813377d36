//! What a full disk does to a build.

use std::path::PathBuf;
use std::process::Command;

use crate::support::TestEnv;

/// A small file system, gone when the test ends.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let options = format!("size={size},mode=0700");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&at)
            .status()
            .unwrap();
        assert!(
            status.success(),
            "this test mounts a file system, which needs root"
        );
        Self(at)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_named_and_the_next_build_works() {
    let t = TestEnv::new()
        .file("big", vec![1; 3 << 20])
        .file("small", "fits")
        .dockerfile("FROM scratch\nCOPY big /big\n");
    let _disk = Small::mount(t.root(), "2m");
    t.build()
        .fails(1)
        .says("the disk is full")
        .says("cooper prune")
        .says("Dockerfile:2");
    t.write("Dockerfile", "FROM scratch\nCOPY small /small\n");
    t.build_with(&["-t", "x"]).ok();
    let out = t.cooper(&["images", "-q"]).ok().stdout();
    assert_eq!(
        out.lines().count(),
        1,
        "nothing of the failed build stayed: {out}"
    );
}
