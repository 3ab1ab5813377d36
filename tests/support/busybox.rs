//! A root file system of one static program: `/bin/busybox` (Debian: busybox-static).

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// Writes the file system as a tar: busybox, a link for each applet, users and a `/tmp`.
pub(super) fn write_rootfs(to: &Path) {
    let program = fs::read("/bin/busybox").expect("busybox-static is installed");
    let applets = Command::new("/bin/busybox")
        .arg("--list")
        .output()
        .unwrap()
        .stdout;
    let applets = String::from_utf8(applets).unwrap();
    let mut tar = tar::Builder::new(File::create(to).unwrap());
    for (dir, mode) in [
        ("bin/", 0o755),
        ("etc/", 0o755),
        ("root/", 0o700),
        ("home/app/", 0o755),
        ("tmp/", 0o1777),
    ] {
        let mut header = header(tar::EntryType::Directory, mode, 0);
        tar.append_data(&mut header, dir, std::io::empty()).unwrap();
    }
    file(&mut tar, "bin/busybox", 0o755, &program);
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")
            .unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n";
    file(&mut tar, "etc/passwd", 0o644, passwd.as_bytes());
    file(&mut tar, "etc/group", 0o644, b"root:x:0:\napp:x:1000:\n");
    tar.finish().unwrap();
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header
}

fn file(tar: &mut tar::Builder<File>, path: &str, mode: u32, bytes: &[u8]) {
    let mut header = header(tar::EntryType::Regular, mode, bytes.len() as u64);
    tar.append_data(&mut header, path, bytes).unwrap();
}
