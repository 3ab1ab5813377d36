//! The same Dockerfile without RUN gives the same bytes on every rung, whoever owns the inodes.

use std::fs::File;

use crate::support::TestEnv;

/// A tar with what an ordinary user can't have on an inode.
fn odd_tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind, mode, (uid, gid), size| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_size(size);
        header.set_mtime(1_700_000_000);
        header
    };
    let mut dir = |path: &str, mode, owner| {
        let mut header = header(tar::EntryType::Directory, mode, owner, 0);
        tar.append_data(&mut header, path, std::io::empty())
            .unwrap();
    };
    dir("shut/", 0o555, (7, 8));
    dir("none/", 0, (0, 0));
    dir("links/", 0o2755, (0, 50));
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    for (path, mode, owner, capable) in [
        ("shut/file", 0o440, (33, 33), false),
        ("secret", 0, (0, 42), false),
        ("setuid", 0o6755, (1000, 1000), false),
        ("ping", 0o755, (0, 0), true),
    ] {
        if capable {
            let pax = [("SCHILY.xattr.security.capability", &capability[..])];
            tar.append_pax_extensions(pax).unwrap();
        }
        let mut header = header(tar::EntryType::Regular, mode, owner, 4);
        tar.append_data(&mut header, path, &b"text"[..]).unwrap();
    }
    for (path, owner) in [
        ("links/a", (1000, 1001)),
        ("links/b", (0, 0)),
        ("c", (5, 5)),
    ] {
        let mut header = header(tar::EntryType::Symlink, 0o777, owner, 0);
        tar.append_link(&mut header, path, "/secret").unwrap();
    }
    let mut hard = header(tar::EntryType::Link, 0o440, (33, 33), 0);
    tar.append_link(&mut hard, "same", "shut/file").unwrap();
    let mut fifo = header(tar::EntryType::Fifo, 0o620, (4, 5), 0);
    tar.append_data(&mut fifo, "fifo", std::io::empty())
        .unwrap();
    tar.into_inner().unwrap()
}

/// Adds a device, which a user namespace with all ids can't make.
fn device_tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut device = tar::Header::new_ustar();
    device.set_entry_type(tar::EntryType::Char);
    device.set_mode(0o666);
    device.set_uid(0);
    device.set_gid(5);
    device.set_size(0);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    device.set_mtime(1_700_000_000);
    tar.append_data(&mut device, "null", std::io::empty())
        .unwrap();
    tar.into_inner().unwrap()
}

const DOCKERFILE: &str = "
FROM scratch AS first
ADD odd.tar /
COPY --chown=11:12 --chmod=0400 text /new/deep/
WORKDIR /shut/work
FROM scratch
COPY --from=first / /all/
COPY --from=first --chown=3 /shut /given
";

fn env(user: Option<&str>, rung: &str) -> TestEnv {
    let env = match user {
        Some(user) => TestEnv::as_user(user),
        None => TestEnv::new(),
    };
    env.var("COOPER_ISOLATION", rung)
        .file("odd.tar", odd_tar())
        .file("null.tar", device_tar())
        .file("text", "text")
}

fn id(env: &TestEnv, dockerfile: &str) -> String {
    env.write("Dockerfile", dockerfile);
    let built = env.cooper(&[
        "build",
        "-q",
        "--no-cache",
        "--timestamp=1700000000",
        "-t",
        "x",
        ".",
    ]);
    built.ok().stdout()
}

#[test]
fn owners_modes_and_capabilities_are_the_same_on_every_rung() {
    let root = env(None, "root");
    let want = id(&root, DOCKERFILE);
    for (user, rung) in [
        ("sub", "subid"),
        ("nosub", "single-id"),
        ("nosub", "chroot"),
        ("sub", "chroot"),
    ] {
        assert_eq!(id(&env(Some(user), rung), DOCKERFILE), want, "{rung}");
    }
    // Without a name for the rung, the user with sub-ids steps on that and the other below it.
    for (user, rung) in [
        ("sub", "ids mapped by newuidmap"),
        ("nosub", "a single id, owners are remembered"),
    ] {
        let env = TestEnv::as_user(user).dockerfile("FROM scratch\nCOPY Dockerfile /\n");
        let _ = env.build().ok().says(rung);
    }
}

#[test]
fn a_device_is_remembered_where_it_cannot_be_made() {
    let dockerfile = "
FROM scratch AS first
ADD null.tar /dev/
FROM scratch
COPY --from=first /dev /dev
";
    let want = id(&env(None, "root"), dockerfile);
    for rung in ["single-id", "chroot"] {
        let env = env(Some("nosub"), rung);
        assert_eq!(id(&env, dockerfile), want, "{rung}");
    }
}

/// What was pulled or loaded is unpacked by another way than what was built.
#[test]
fn an_image_from_elsewhere_keeps_its_owners_on_every_rung() {
    let root = env(None, "root");
    let _ = id(&root, DOCKERFILE);
    let saved = root.beside("saved.tar");
    let _ = root
        .cooper(&["save", "-o", saved.to_str().unwrap(), "x"])
        .ok();
    let again = "FROM x AS x\nFROM scratch\nCOPY --from=x / /\n";
    let want = id(&root, again);
    for (user, rung) in [
        ("nosub", "single-id"),
        ("nosub", "chroot"),
        ("sub", "subid"),
    ] {
        let env = env(Some(user), rung);
        let copied = env.beside("saved.tar");
        std::io::copy(
            &mut File::open(&saved).unwrap(),
            &mut File::create(&copied).unwrap(),
        )
        .unwrap();
        let _ = env.cooper(&["load", "-i", copied.to_str().unwrap()]).ok();
        assert_eq!(id(&env, again), want, "{rung}");
        // Squashing reads the trees, and so does writing one of them as a tar.
        env.write("Dockerfile", again);
        let squashed = ["build", "-q", "--squash", "--timestamp=1700000000", "."];
        let got = env.cooper(&squashed).ok().stdout();
        assert_eq!(got, root.cooper(&squashed).ok().stdout(), "{rung}");
    }
}

#[test]
fn a_store_of_one_rung_says_so_on_another() {
    let env = env(Some("sub"), "single-id");
    let _ = id(&env, "FROM scratch\nCOPY text /\n");
    let env = env.var("COOPER_ISOLATION", "subid");
    let _ = env
        .cooper(&["images"])
        .fails(1)
        .says("belongs to uid 0 with uid map")
        .says("`--isolation=RUNG` names the rung that made it");
    let _ = env.cooper(&["--isolation=single-id", "images"]).ok();
    let _ = env
        .cooper(&["--isolation=single", "images"])
        .fails(2)
        .says("expected root, subid, outer-userns, single-id or chroot");
    let _ = env
        .cooper(&["--isolation=root", "images"])
        .fails(1)
        .says("`root` isolation is for root");
}
