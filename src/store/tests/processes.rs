//! Many threads and processes in one store at once.
//!
//! A child is this test program again, told to run [`child`] alone; its task is a file in its
//! working directory. Without such a file `child` has nothing to do.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::event::Silent;
use crate::image::Reference;
use crate::store::testing::{
    Heard, Item, Temp, check, files, options, put_image, put_layer, skip, tar,
};
use crate::store::{Error, LayerRef, Prune, Store};

const TASK: &str = "task-of-the-child";

/// Layers large enough for two processes to meet in.
fn layers(store: &Store) -> Vec<LayerRef> {
    let contents: Vec<String> = (0..200).map(|n| format!("file {n}").repeat(50)).collect();
    let layer = |number: u32| {
        let names: Vec<String> = (0..200).map(|n| format!("l{number}-{n}")).collect();
        let files = names.iter().zip(&contents);
        let items: Vec<Item<'_>> = files.map(|(n, c)| Item::File(n, c.as_bytes())).collect();
        put_layer(store, &tar(&items))
    };
    (0..4).map(layer).collect()
}

fn spawn(temp: &Temp, number: u32, task: &str) -> Child {
    let dir = temp.path().join(format!("child-{number}"));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(TASK), task).unwrap();
    command(&std::env::current_exe().unwrap(), &dir)
        .spawn()
        .unwrap()
}

fn command(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--exact", "store::tests::processes::child", "--nocapture"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

#[test]
fn child() {
    let Ok(task) = std::fs::read_to_string(TASK) else {
        return;
    };
    if let Some(root) = task.strip_prefix("umask ") {
        rustix::process::umask(rustix::fs::Mode::empty());
        let store = Store::open(Path::new(root), options()).unwrap();
        store.put(b"x").unwrap();
        store.records("test").put("k", b"v").unwrap();
        let scratch = store.scratch().unwrap();
        return assert_closed(&[store.root(), scratch.path()], store.root());
    }
    if let Some(root) = task.strip_prefix("full ") {
        return fill_the_disk(Path::new(root));
    }
    let store = Store::open(Path::new("../store"), options()).unwrap();
    match task.as_str() {
        "work" => build_something(&store),
        "hang" => {
            let mut writer = store.blob_writer().unwrap();
            writer.write_all(b"half").unwrap();
            let scratch = store.scratch().unwrap();
            std::fs::write(scratch.path().join("file"), "x").unwrap();
            std::fs::write("ready", "").unwrap();
            loop {
                std::thread::park();
            }
        }
        other => panic!("no task `{other}`"),
    }
}

/// What a pull and a build do to a store.
fn build_something(store: &Store) {
    let _work = store.work().unwrap();
    let layers = layers(store);
    let image = put_image(store, &layers, "the same everywhere");
    let name: Reference = "app".parse().unwrap();
    store.tag(&name, &image.descriptor()).unwrap();
    let trees = store.trees(&layers, &Silent).unwrap();
    assert_eq!(std::fs::read_dir(trees[3].path()).unwrap().count(), 200);
    for layer in &layers {
        store
            .records("step")
            .put(layer.diff_id.digest(), b"made")
            .unwrap();
    }
    store.sync().unwrap();
    check(store, &image);
}

#[test]
fn processes_and_threads_build_at_once_and_all_succeed() {
    let temp = Temp::new();
    let children: Vec<Child> = (0..4).map(|number| spawn(&temp, number, "work")).collect();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| build_something(&temp.store()));
        }
        scope.spawn(|| {
            for _ in 0..20 {
                // Deletes what nothing needs, at the worst of times.
                temp.store().prune(Prune::default()).unwrap();
            }
        });
    });
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let store = temp.store();
    let names: Vec<_> = std::fs::read_dir(store.root().join("trees"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(files(&store.root().join("tmp")).is_empty());
    assert_eq!(store.images().unwrap().len(), 1);
}

#[test]
fn of_two_that_unpack_the_same_layers_one_does_each() {
    let temp = Temp::new();
    let (one, two) = (temp.store(), temp.store());
    let layers = layers(&one);
    let heard = Heard::default();
    std::thread::scope(|scope| {
        for store in [&one, &two] {
            scope.spawn(|| store.trees(&layers, &heard).unwrap());
        }
    });
    let done = heard.0.lock().unwrap();
    let done = done.iter().filter(|event| event.starts_with("BlobDone"));
    assert_eq!(done.count(), 4);
}

#[test]
fn a_killed_process_leaves_nothing_behind() {
    let temp = Temp::new();
    let store = temp.store();
    let mut child = spawn(&temp, 0, "hang");
    let ready = temp.path().join("child-0/ready");
    while !ready.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the child ended early");
        std::thread::yield_now();
    }
    let before = store.prune(Prune::default()).unwrap();
    assert!(
        before.deferred,
        "a lease of a living process was not respected"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    drop(temp.store());
    assert_eq!(
        std::fs::read_dir(store.root().join("tmp")).unwrap().count(),
        0
    );
    assert!(files(&store.root().join("blobs")).is_empty());
    assert!(!store.prune(Prune::default()).unwrap().deferred);
}

#[test]
fn a_store_is_closed_to_others_under_any_umask() {
    let temp = Temp::new();
    let task = format!("umask {}", temp.path().join("store").display());
    assert!(spawn(&temp, 0, &task).wait().unwrap().success());
}

fn assert_closed(more: &[&Path], root: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mut all: Vec<_> = more.iter().map(|path| (*path).to_owned()).collect();
    all.extend(std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()));
    all.extend(files(root).iter().map(|file| root.join(file)));
    for path in all {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing_half_written() {
    let temp = Temp::new();
    let small = temp.path().join("small");
    let dir = temp.path().join("child-0");
    std::fs::create_dir(&small).unwrap();
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join(TASK), format!("full {}", small.display())).unwrap();
    let exe = std::env::current_exe().unwrap();
    let script = r#"mount -t tmpfs -o size=1m none "$1" || exit 77; shift; exec "$@""#;
    let inner = command(&exe, &dir);
    let mut outer = Command::new("unshare");
    let uid_zero = rustix::process::geteuid().is_root();
    outer
        .args(if uid_zero { &["-m"][..] } else { &["-mr"] })
        .args(["sh", "-c", script, "sh"])
        .arg(&small)
        .arg(&exe)
        .args(inner.get_args())
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    match outer.status() {
        Ok(status) if status.code() == Some(77) => skip("no tmpfs can be mounted here"),
        // `unshare` itself ends with 1 where it may not.
        Ok(status) if status.code() == Some(1) => skip("no mount namespace can be made here"),
        Ok(status) => assert!(status.success(), "{status}"),
        Err(error) => skip(&format!("no `unshare`: {error}")),
    }
}

/// Runs on a file system of 1 MiB.
fn fill_the_disk(root: &Path) {
    let root = root.join("store");
    let store = Store::open(
        &root,
        crate::store::Options {
            user_xattr: true,
            ..crate::store::Options::default()
        },
    )
    .unwrap();
    let kept = store.put(&[1; 100_000]).unwrap();
    let mut writer = store.blob_writer().unwrap();
    let error = loop {
        match writer.write_all(&[2; 65_536]) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    let error: Error = error.downcast().unwrap();
    assert!(error.is_full() && matches!(&error, Error::Full { doing: "write", .. }));
    drop(writer);
    let big = vec![3; 2 << 20];
    let error = store.put(&big).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    let tar = tar(&[Item::File("big", &vec![0; 2 << 20])]);
    let layer = put_layer(&store, &tar);
    let error = store.trees(&[layer], &Silent).unwrap_err();
    assert!(error.is_full(), "{error:?}");
    assert_eq!(files(&root.join("blobs")).len(), 2);
    assert_eq!(std::fs::read_dir(root.join("trees")).unwrap().count(), 0);
    assert!(files(&root.join("tmp")).is_empty());
    assert_eq!(store.blob(kept.digest()).unwrap(), Some(kept));
    // At zero bytes free there is still a way out.
    let mut writer = store.blob_writer().unwrap();
    while writer.write_all(&[4; 4096]).is_ok() {}
    let pruned = store.prune(Prune::default()).unwrap();
    assert!(pruned.freed > 0);
    assert!(files(&root.join("blobs")).is_empty());
}
