//! Our union view, and our reading of an upper directory, held against the kernel's overlayfs.

use std::os::fd::AsFd;
use std::path::PathBuf;

use proptest::prelude::*;

use super::changes::{Change, Changes, Node};
use super::diff::diff;
use super::entry::Kind;
use super::node::Marks;
use super::stack::Stack;
use super::testing::{
    Mounted, Scratch, changes, is_root, meta, open_dir, path, show, show_tree, trees,
};
use super::tree_write::{TreeForm, write_tree};

fn stack(trees: &[PathBuf], marks: Marks) -> Stack {
    Stack::new(trees.iter().map(|tree| open_dir(tree)).collect(), marks)
}

fn all_marks() -> &'static [Marks] {
    if is_root() {
        &[Marks::Trusted, Marks::User]
    } else {
        &[Marks::User]
    }
}

/// Checks that the kernel and we see the same file system.
fn assert_same_view(marks: Marks, layers: &[Changes]) {
    let scratch = Scratch::new();
    let trees = trees(&scratch, marks, layers);
    let Some(kernel) = Mounted::new(&scratch, marks, &trees, None, "") else {
        return;
    };
    let (ours, theirs) = (show_tree(&stack(&trees, marks)), show_tree(&kernel.tree()));
    assert_eq!(ours, theirs, "ours, the kernel's; layers {layers:#?}");
}

#[test]
fn a_stack_shows_what_a_mount_shows() {
    let cases: &[&[&str]] = &[
        // Whiteouts: of a file, of a directory, of nothing, and of something that comes back.
        &[
            "file a 1\nfile b 2\ndir d\nfile d/e 3",
            "gone a\ngone d\ngone x",
            "file a 4\nfile d 5",
        ],
        // Opaque directories, on several levels.
        &[
            "file d/a 1\nfile d/e/b 2",
            "opaque d\nfile d/c 3",
            "file d/a 4\ndir d/e",
        ],
        &[
            "file d/e/f/a 1\nfile d/e/b 2",
            "file d/e/f/c 3",
            "opaque d/e/f\nfile d/e/g 4",
        ],
        &["file d/a 1", "opaque d", "opaque d\nfile d/b 2"],
        // A file over a directory, and a directory over that file: the first stays hidden.
        &["file d/a 1", "file d 2"],
        &["file d/a 1", "file d 2", "file d/b 3"],
        &["file d/a 1", "gone d", "file d/b 3"],
        &["file a 1", "dir a\nfile a/b 2"],
        // Links to directories do not merge.
        &[
            "dir d\nfile d/a 1\nlink l d",
            "dir l\nfile l/b 2",
            "link d l",
        ],
        &["file usr/bin/x 1\nlink bin usr/bin", "file bin/y 2"],
        // Metadata of merged directories comes from the top.
        &["opaque d\nfile d/a 1", "dir d", "opaque e", "dir e"],
        // Names of one file, one of them replaced above.
        &[
            "file a 1\nhard b a\nhard c a\nfifo p\nhard q p\nlink s t\nhard u s",
            "file a 2\ngone q",
        ],
        &[
            "file a/b/c/d/e/f/g/h/i/j/k/l/m 1",
            "file a/b/c/d/e/f/g/h/i/j/k/l/n 2\ngone a/b/c/d/x",
        ],
    ];
    for &marks in all_marks() {
        for case in cases {
            let mut layers: Vec<Changes> = case.iter().map(|layer| changes(layer)).collect();
            // The kernel mounts no single tree.
            layers.insert(0, Changes::default());
            assert_same_view(marks, &layers);
        }
    }
}

#[test]
fn whiteouts_marked_by_an_attribute_hide_where_the_directory_says_so() {
    let scratch = Scratch::new();
    let marks = all_marks()[0];
    let layers = [
        "file d/a 1\nfile d/b 1\nfile e/a 1",
        "file d/a\nfile d/b\nfile e/a",
    ];
    let trees = trees(&scratch, marks, &layers.map(changes));
    let set = |name: &str, mark: &str, value: &[u8]| {
        let mark = String::from_utf8([marks.prefix(), mark.as_bytes()].concat()).unwrap();
        let name = trees[1].join(name);
        rustix::fs::lsetxattr(&name, &*mark, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("d", "opaque", b"x");
    set("d/a", "whiteout", b"y");
    let lines = show_tree(&stack(&trees, marks));
    if kernel_has_marked_whiteouts()
        && let Some(kernel) = Mounted::new(&scratch, marks, &trees, None, "")
    {
        assert_eq!(lines, show_tree(&kernel.tree()));
    }
    // Without the mark on its directory it is a file. (The kernel lists it and can't find it.)
    set("e/a", "whiteout", b"y");
    let again = show_tree(&stack(&trees, marks));
    assert_eq!(again, lines);
    let names = again[1..]
        .iter()
        .map(|line| line.split(' ').next().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["/d", "/d/b", "/e", "/e/a"]);
}

/// They came with Linux 6.7.
fn kernel_has_marked_whiteouts() -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_str().unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(7))
}

#[test]
fn an_upper_directory_gives_back_what_the_step_did() {
    let lower = "
        file keep 1\nfile gone 1\nfile mode 1\nfile moved 1\nfile text 1\nlink link keep
        dir dir\nfile dir/a 1\nfile dir/b 1\ndir tree\ndir tree/sub\nfile tree/sub/x 1
        file swap 1\ndir swapdir\nfile swapdir/y 1\nfile one 1\nhard two one\ndir empty";
    let script = "
        rm gone; chmod 4755 mode; mv moved elsewhere; echo more >> text
        rm -r dir; mkdir dir; echo new > dir/c; rm -r tree/sub
        rm swap; mkdir swap; echo in > swap/z; rm -r swapdir; echo file > swapdir
        echo linked > h1; ln h1 h2; mkdir fresh; ln h1 fresh/h3; ln two three
        ln -sfn elsewhere link; mkfifo pipe; rm -r empty; mkdir empty
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'";
    for &marks in all_marks() {
        let scratch = Scratch::new();
        let mut trees = trees(&scratch, marks, &[changes(lower)]);
        let upper = scratch.dir("upper");
        let mounted = Mounted::new(&scratch, marks, &trees, Some(&upper), script);
        let Some(kernel) = mounted else { return };
        let below = stack(&trees, marks);
        let got = diff(&open_dir(&upper), Some(&below), marks).unwrap();
        let short: Vec<String> = got
            .entries
            .iter()
            .map(|(at, change)| match change {
                Change::Whiteout => format!("- {at}"),
                Change::HardLink(target) => format!("= {at} {target}"),
                Change::Opaque(_) => format!("o {at}"),
                Change::Node(node) if node.kind.is_dir() => format!("d {at}"),
                Change::Node(_) => format!("+ {at}"),
            })
            .collect();
        let want = [
            "o /dir",
            "+ /dir/c",
            "+ /elsewhere",
            "d /empty",
            "d /fresh",
            "+ /fresh/h3",
            "- /gone",
            "= /h1 /fresh/h3",
            "= /h2 /fresh/h3",
            "+ /link",
            "+ /mode",
            "- /moved",
            "+ /pipe",
            "d /swap",
            "+ /swap/z",
            "+ /swapdir",
            "+ /text",
            "+ /three",
            "d /tree",
            "- /tree/sub",
            "= /two /three",
        ];
        assert_eq!(short, want);
        // Written as a tree of its own, it makes the file system that the step left.
        let again = scratch.dir("again");
        let into = open_dir(&again);
        write_tree(&got, into.as_fd(), TreeForm::Overlay(marks), Some(&below)).unwrap();
        trees.push(again);
        let without = |lines: Vec<String>| -> Vec<String> {
            let seen = lines.into_iter().skip(1); // The root is in no layer.
            seen.filter(|line| !line.starts_with("/sock ")).collect()
        };
        let (ours, theirs) = (show_tree(&stack(&trees, marks)), show_tree(&kernel.tree()));
        assert_eq!(without(ours), without(theirs));
    }
}

#[test]
fn marks_that_hide_nothing_stay_when_nothing_is_known_below() {
    let scratch = Scratch::new();
    let marks = *all_marks().last().unwrap();
    let layer = changes("opaque d\nopaque d/e\ngone d/f\ngone x");
    let tree = trees(&scratch, marks, std::slice::from_ref(&layer)).remove(0);
    let read = |below| show(&diff(&open_dir(&tree), below, marks).unwrap());
    assert_eq!(read(None).len(), 3, "{:?}", read(None));
    assert!(read(None)[0].starts_with("/d opaque"));
    let empty = Stack::new(Vec::new(), marks);
    let lines = read(Some(&empty));
    assert_eq!(lines.len(), 2);
    assert!(
        lines.iter().all(|line| line.contains(" Dir 711 ")),
        "{lines:?}"
    );
}

/// One change of a random layer; what does not fit the layer is left out.
fn random_layer() -> impl Strategy<Value = Changes> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let at = prop::collection::vec(name, 1..4).prop_map(|parts| path(&parts.join("/")));
    let step = (at.clone(), 0..7_u8, at);
    prop::collection::vec(step, 0..8).prop_map(|steps| {
        let mut layer = Changes::default();
        for (at, what, other) in steps {
            let mut above = std::iter::successors(at.parent(), super::path::TreePath::parent);
            let fits = above.all(|dir| layer.entries.get(&dir).is_none_or(Change::is_dir));
            let taken = layer.entries.keys().any(|known| known.starts_with(&at));
            if !fits || taken {
                continue;
            }
            let target = other.to_string().into_bytes();
            let linkable = matches!(
                layer.entries.get(&other),
                Some(Change::Node(node)) if !node.kind.is_dir()
            );
            let change = match what {
                0 => Change::Whiteout,
                1 => Change::Opaque(Node::dir(meta(0o701))),
                2 => Change::Node(Node::dir(meta(0o710))),
                3 => Change::Node(Node {
                    meta: meta(0o777),
                    kind: Kind::Symlink { target },
                    content: None,
                }),
                4 if linkable => Change::HardLink(other),
                _ => Change::Node(Node::file(meta(0o604), target)),
            };
            layer.entries.insert(at, change);
        }
        layer.order_links().unwrap();
        layer
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_layers_show_what_a_mount_shows(layers in prop::collection::vec(random_layer(), 2..5)) {
        let marks = if is_root() { Marks::Trusted } else { Marks::User };
        assert_same_view(marks, &layers);
    }
}
