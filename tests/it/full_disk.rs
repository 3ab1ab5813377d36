//! What a full disk does to a build.

use std::fs::File;
use std::io::Write;
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

    fn allow_inodes(&self, count: u64) {
        let options = format!("remount,nr_inodes={count}");
        let mut remount = Command::new("mount");
        let status = remount.args(["-o", &options]).arg(&self.0).status();
        assert!(status.unwrap().success());
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

/// Takes the last byte and the last inode of a small file system.
fn fill(disk: &Small) {
    let mut filler = File::create(disk.0.join("filler")).unwrap();
    let full = std::iter::repeat_with(|| filler.write(&[0; 4096]))
        .find_map(Result::err)
        .unwrap();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let counts = rustix::fs::statvfs(&disk.0).unwrap();
    disk.allow_inodes(counts.f_files - counts.f_ffree);
}

#[test]
fn prune_makes_room_where_not_a_byte_is_free() {
    let t = TestEnv::new()
        .file("big", vec![1; 1 << 20])
        .file("small", "fits")
        .dockerfile("FROM scratch\nCOPY big /big\n");
    let disk = Small::mount(t.root(), "4m");
    t.build_with(&["-o", "out"]).ok();
    fill(&disk);
    t.write("Dockerfile", "FROM scratch\nCOPY small /small\n");
    t.build().fails(1).says("the disk is full");
    t.cooper(&["df"]).ok();
    t.cooper(&["fsck"]).ok();
    let pruned = t.cooper(&["prune", "--cache"]).ok().stdout();
    assert!(pruned.ends_with("MB"), "{pruned}");
    // A build makes more files than the prune took away, though it needs no more bytes.
    disk.allow_inodes(100_000);
    t.build_with(&["-t", "x"]).ok();
}
