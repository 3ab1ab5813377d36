//! Layers in eStargz, read as those read them who want one file only.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cooper::image::Digest;
use flate2::bufread::{GzDecoder, MultiGzDecoder};
use serde_json::Value;

use crate::support::{Server, TestEnv};

const MIB: usize = 1 << 20;
const TABLE: &str = "containerd.io/snapshot/stargz/toc.digest";
const SIZE: &str = "io.containers.estargz.uncompressed-size";

/// One layer of files of all sizes, with a link and an attribute.
fn tree() -> TestEnv {
    let line = |n: u32| format!("{}\n", n.wrapping_mul(2_654_435_761) >> 8);
    let t = TestEnv::new()
        .var("SOURCE_DATE_EPOCH", "1700000000")
        .dockerfile("FROM scratch\nCOPY --chown=7:8 --chmod=640 tree /\n")
        .file("tree/a/small", "small\n")
        .file("tree/a/empty", "")
        .file("tree/exact", "x".repeat(MIB))
        .file("tree/long", (0..300_000).map(line).collect::<String>())
        .file("tree/z", "last");
    t.symlink("a/small", "tree/link");
    t
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn blob(layout: &Path, digest: &Value) -> PathBuf {
    let name = digest.as_str().unwrap().replacen(':', "/", 1);
    layout.join("blobs").join(name)
}

/// The manifest and config of the one image in a layout.
fn image(layout: &Path) -> (Value, Value) {
    let index = json(&layout.join("index.json"));
    let manifest = json(&blob(layout, &index["manifests"][0]["digest"]));
    let config = json(&blob(layout, &manifest["config"]["digest"]));
    (manifest, config)
}

/// Builds into a layout beside the context.
fn layout(t: &TestEnv, name: &str, options: &str) -> PathBuf {
    let dir = t.beside(name);
    let output = format!("type=oci,tar=false,dest={}{options}", dir.display());
    t.build_with(&["-o", &output]).ok();
    dir
}

/// What the one gzip member at `offset` holds.
fn member(blob: &[u8], offset: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let from = &blob[usize::try_from(offset).unwrap()..];
    GzDecoder::new(from).read_to_end(&mut out).unwrap();
    out
}

fn unpacked(blob: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    MultiGzDecoder::new(blob).read_to_end(&mut out).unwrap();
    out
}

/// The table of contents, found by the footer as the format says.
fn table(blob: &[u8]) -> Vec<u8> {
    let footer = &blob[blob.len() - 51..];
    assert_eq!(&footer[12..16], b"SG\x16\x00");
    assert_eq!(&footer[32..38], b"STARGZ");
    assert_eq!(member(footer, 0), b"");
    let offset = std::str::from_utf8(&footer[16..32]).unwrap();
    let tar = member(blob, u64::from_str_radix(offset, 16).unwrap());
    let mut archive = tar::Archive::new(&tar[..]);
    let mut entries = archive.entries().unwrap();
    let mut entry = entries.next().unwrap().unwrap();
    assert_eq!(&*entry.path_bytes(), b"stargz.index.json");
    let mut table = Vec::new();
    entry.read_to_end(&mut table).unwrap();
    assert!(entries.next().is_none());
    table
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or(0)
}

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output();
    let out = out.unwrap_or_else(|error| panic!("`{program}` is needed for this test: {error}"));
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {err}");
}

#[test]
fn every_chunk_of_every_file_can_be_read_by_itself() {
    let t = tree();
    let layout = layout(&t, "seekable", ",compression=estargz");
    let (manifest, _) = image(&layout);
    let bytes = fs::read(blob(&layout, &manifest["layers"][0]["digest"])).unwrap();
    let table: Value = serde_json::from_slice(&table(&bytes)).unwrap();
    assert_eq!(table["version"], 1);
    let rows = table["entries"].as_array().unwrap();
    let mut chunks = 0;
    for path in ["a/small", "a/empty", "exact", "long", "z"] {
        let want = fs::read(t.path("tree").join(path)).unwrap();
        let of: Vec<&Value> = rows.iter().filter(|row| row["name"] == path).collect();
        let first = of[0];
        let facts = ["size", "uid", "gid", "mode"].map(|key| number(first, key));
        assert_eq!(facts, [want.len() as u64, 7, 8, 0o640], "{path}");
        assert_eq!(first["digest"], Digest::of(&want).as_str());
        assert_eq!(first["modtime"], "2023-11-14T22:13:20Z");
        let mut got = Vec::new();
        for row in of.iter().filter(|row| row["chunkDigest"].is_string()) {
            assert_eq!(number(row, "chunkOffset"), got.len() as u64, "{path}");
            let size = match number(row, "chunkSize") {
                0 => want.len() - got.len(),
                size => usize::try_from(size).unwrap(),
            };
            let chunk = &member(&bytes, number(row, "offset"))[..size];
            assert_eq!(row["chunkDigest"], Digest::of(chunk).as_str(), "{path}");
            got.extend_from_slice(chunk);
            chunks += 1;
        }
        assert!(got == want, "{path}");
    }
    assert_eq!(chunks, 1 + 1 + 3 + 1);
    let link = rows.iter().find(|row| row["name"] == "link").unwrap();
    assert_eq!(
        (&link["type"], &link["linkName"]),
        (&"symlink".into(), &"a/small".into())
    );
    let dir = rows.iter().find(|row| row["name"] == "a/").unwrap();
    assert_eq!(dir["type"], "dir");
}

#[test]
fn the_layer_unpacks_to_the_same_tar_and_the_table_behind_it() {
    let t = tree();
    let plain = layout(&t, "plain", ",compression=uncompressed");
    let (manifest, config) = image(&plain);
    let tar = fs::read(blob(&plain, &manifest["layers"][0]["digest"])).unwrap();
    let seekable = layout(&t, "seekable", ",compression=estargz,compression-level=9");
    let (manifest, own) = image(&seekable);
    let layer = &manifest["layers"][0];
    let bytes = fs::read(blob(&seekable, &layer["digest"])).unwrap();
    let whole = unpacked(&bytes);
    assert!(whole.starts_with(&tar));
    assert_eq!(
        layer["mediaType"],
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
    assert_eq!(layer["annotations"][SIZE], whole.len().to_string());
    assert_eq!(
        layer["annotations"][TABLE],
        Digest::of(&table(&bytes)).as_str()
    );
    assert_eq!(layer["annotations"].as_object().unwrap().len(), 2);
    assert_eq!(own["rootfs"]["diff_ids"][0], Digest::of(&whole).as_str());
    for key in ["history", "config", "created"] {
        assert_eq!(own[key], config[key], "{key}");
    }
    let again = layout(&t, "again", ",compression=estargz,compression-level=9");
    assert_eq!(image(&again).0, manifest);
}

#[test]
fn who_knows_nothing_of_it_reads_a_layer_as_any_other() {
    let t = tree();
    let layout = layout(&t, "seekable", ",compression=estargz");
    let place = format!("oci:{}", layout.display());
    run(
        "skopeo",
        &[
            "copy",
            "-q",
            &place,
            &format!("dir:{}", t.beside("theirs").display()),
        ],
    );
    let other = TestEnv::new();
    other.cooper(&["pull", "-q", &place]).ok();
    let id = other.cooper(&["images", "-q"]).ok().stdout();
    other.cooper(&["tag", &id, "theirs"]).ok();
    other.write("Dockerfile", "FROM theirs\n");
    other.cooper(&["build", "-q", "-o", "out", "."]).ok();
    for path in ["a/small", "a/empty", "exact", "long", "z", "link"] {
        let want = fs::read(t.path("tree").join(path)).unwrap();
        assert!(
            fs::read(other.path("out").join(path)).unwrap() == want,
            "{path}"
        );
    }
    assert!(!other.path("out/stargz.index.json").exists());
}

#[test]
fn registries_get_layers_in_it_and_the_base_keeps_its_own_unless_forced() {
    let registry = Server::http();
    let base = registry.name("base:1").full();
    let t = tree();
    t.build_with(&["-t", &base, "--push"]).ok();
    t.cooper(&["rmi", "-f", &base]).ok();
    t.write("Dockerfile", format!("FROM {base}\nCOPY tree/z /y\n"));
    t.build_with(&["-t", "app"]).ok();
    let seekable = |name: &str| -> Vec<bool> {
        let name = registry.name(name).full();
        let to = t.beside("pulled");
        let _ = fs::remove_dir_all(&to);
        let other = TestEnv::new();
        other.cooper(&["pull", "-q", &name]).ok();
        let place = format!("oci:{}", to.display());
        other.cooper(&["push", "-q", &name, &place]).ok();
        let (manifest, _) = image(&to);
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers
            .map(|layer| layer["annotations"][TABLE].is_string())
            .collect()
    };
    let push = |name: &str, options: &[&str]| {
        let name = registry.name(name).full();
        let push = ["push", "-q", "app", &name, "--compression=estargz"];
        t.cooper(&[&push, options].concat()).ok().stdout()
    };
    let digest = push("app:own", &[]);
    assert_eq!(seekable("app:own"), [false, true]);
    assert_eq!(push("app:own", &[]), digest);
    push("app:all", &["--force-compression"]);
    assert_eq!(seekable("app:all"), [true, true]);
    let built = registry.name("app:built").full();
    t.build_with(&[
        "-o",
        &format!("type=registry,name={built},compression=estargz"),
    ])
    .ok();
    assert_eq!(seekable("app:built"), [false, true]);
}

#[test]
fn a_layer_that_is_compressed_anew_loses_what_was_said_of_its_table() {
    let registry = Server::http();
    let base = registry.name("base:1").full();
    let t = tree();
    t.build_with(&[
        "-o",
        &format!("type=registry,name={base},compression=estargz"),
    ])
    .ok();
    t.cooper(&["rmi", "-f", &base]).ok();
    t.write("Dockerfile", format!("FROM {base}\nCOPY tree/z /y\n"));
    let said = |name: &str, options: &str| -> Vec<bool> {
        let (manifest, _) = image(&layout(&t, name, options));
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers
            .map(|layer| layer.get("annotations").is_some())
            .collect()
    };
    assert_eq!(said("kept", ",compression=zstd"), [true, false]);
    let forced = ",compression=zstd,force-compression=true";
    assert_eq!(said("forced", forced), [false, false]);
}

#[test]
fn attributes_and_hard_links_stand_in_the_table() {
    let t = TestEnv::new().dockerfile("FROM scratch\nADD x.tar /\n");
    let mut tar = tar::Builder::new(Vec::new());
    let records = [("SCHILY.xattr.user.a", &b"value\x00"[..])];
    tar.append_pax_extensions(records).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o4755);
    header.set_size(1);
    tar.append_data(&mut header, "file", &b"1"[..]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    tar.append_link(&mut header, "hard", "file").unwrap();
    t.write("x.tar", tar.into_inner().unwrap());
    let layout = layout(&t, "seekable", ",compression=estargz");
    let (manifest, _) = image(&layout);
    let bytes = fs::read(blob(&layout, &manifest["layers"][0]["digest"])).unwrap();
    let table: Value = serde_json::from_slice(&table(&bytes)).unwrap();
    let rows = table["entries"].as_array().unwrap();
    let file = rows.iter().find(|row| row["name"] == "file").unwrap();
    assert_eq!(number(file, "mode"), 0o4755);
    assert_eq!(file["xattrs"]["user.a"], STANDARD.encode(b"value\x00"));
    let hard = rows.iter().find(|row| row["name"] == "hard").unwrap();
    assert_eq!(
        (&hard["type"], &hard["linkName"]),
        (&"hardlink".into(), &"file".into())
    );
}

#[test]
fn an_image_in_it_carries_no_cache_of_other_layers() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY a /a\n")
        .file("a", "a");
    let carried = |name: &str, options: &str| {
        let dir = t.beside(name);
        let output = format!("type=oci,tar=false,dest={}{options}", dir.display());
        t.build_with(&["--cache-to=type=inline", "-o", &output])
            .ok();
        image(&dir).1["moby.buildkit.cache.v0"].is_string()
    };
    assert!(carried("plain", ""));
    assert!(!carried("seekable", ",compression=estargz"));
}

#[test]
fn what_the_form_can_not_be_for_is_refused() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY a /stargz.index.json\n")
        .file("a", "a");
    t.build_with(&["-o", "type=oci,dest=x,compression=estargz"])
        .fails(1)
        .says("it is where the table of contents goes");
    t.build_with(&[
        "-o",
        "type=oci,dest=x,compression=estargz,oci-mediatypes=false",
    ])
    .fails(2)
    .says("need `oci-mediatypes=true`");
    t.build_with(&["--cache-to", "type=local,dest=x,compression=estargz"])
        .fails(2)
        .says("changes the diff ids");
}
