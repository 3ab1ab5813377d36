//! The bytes of layers: the same on every run, on any number of processors and for every user, and the same as
//! they ever were.

use std::fs;
use std::path::PathBuf;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

use crate::support::{TestEnv, everybody};

/// Where the digests are that every build here must give. Others mean that all users' caches and pushed layers
/// begin anew: raise `ENCODER_VERSION` or `COMPRESSOR_VERSION` with them.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/build-digests.txt");

/// Owners, modes, links, a pipe, whiteouts, an opaque directory, and a file of several compressed blocks.
const DOCKERFILE: &str = "\
FROM busybox AS made
RUN mkdir -p /srv/d && cd /srv/d && echo data > f && ln f hard && ln -s f link && mkfifo pipe \\
    && chown -R 1000:100 /srv/d && chmod 4750 f
FROM busybox
COPY --chown=1000:100 --chmod=u=rwX,go=rX tree /app/
COPY --link --chmod=640 big /big
COPY --from=made /srv /srv
WORKDIR /work/place
RUN rm -r /home && mkdir /home && echo new > /home/f && chown 1000 /home/f && rm /etc/group
";

fn fill(t: &TestEnv) {
    t.write("Dockerfile", DOCKERFILE);
    t.write("tree/a", "a");
    t.write("tree/d/b", "b");
    t.symlink("d/b", "tree/link");
    let line = |n: u32| format!("{}\n", n.wrapping_mul(2_654_435_761) >> 8);
    t.write("big", (0..400_000).map(line).collect::<String>());
}

/// Builds, and returns what each layer above the base is: plain and in both compressed forms.
fn digests(t: &TestEnv, options: &[&str]) -> Vec<String> {
    let always = ["--network=none", "--timestamp=1700000000", "-t", "x"];
    t.build_with(&[&always, options].concat()).ok();
    let layers = t
        .cooper(&["inspect", "-f", "{{json .RootFS.Layers}}", "x"])
        .ok()
        .stdout();
    let layers: Vec<String> = serde_json::from_str(&layers).unwrap();
    let mut lines = named("plain", layers);
    for form in ["gzip", "zstd"] {
        let to = format!("oci:../{form}:1");
        t.cooper(&["push", "-q", "--compression", form, "x", &to])
            .ok();
        lines.extend(named(form, packed(t.beside(form))));
    }
    lines
}

/// The digests of the layers of the one image in a layout.
fn packed(layout: PathBuf) -> Vec<String> {
    let json =
        |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let index = json(layout.join("index.json"));
    let manifest = index["manifests"][0]["digest"].as_str().unwrap();
    let manifest = json(layout.join("blobs").join(manifest.replacen(':', "/", 1)));
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers
        .map(|layer| layer["digest"].as_str().unwrap().to_owned())
        .collect()
}

/// Leaves the base's layer out: it holds this machine's busybox.
fn named(form: &str, digests: Vec<String>) -> Vec<String> {
    let above = digests.iter().enumerate().skip(1);
    above
        .map(|(number, digest)| format!("{number} {form} {digest}"))
        .collect()
}

fn golden() -> Vec<String> {
    let text = fs::read_to_string(GOLDEN).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

#[test]
fn layers_are_the_same_bytes_for_every_user_and_as_they_were() {
    everybody(|t| {
        fill(&t);
        assert_eq!(digests(&t, &[]), golden());
    });
}

#[test]
fn layers_are_the_same_bytes_on_one_processor_and_without_overlays() {
    let t = TestEnv::new();
    t.busybox("busybox");
    fill(&t);
    // Only this thread, and the programs it starts, stay on the first processor they may use.
    let may = sched_getaffinity(None).unwrap();
    let first = (0..CpuSet::MAX_CPU).find(|&cpu| may.is_set(cpu)).unwrap();
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).unwrap();
    assert_eq!(digests(&t, &["--jobs=1"]), golden());
    let copied = ["--snapshotter=copy", "--no-cache"];
    assert_eq!(digests(&t, &copied), golden());
}
