//! What a layer costs: `cargo bench --bench layer [-- DIRECTORY]`.
//!
//! Takes the tree in DIRECTORY, or makes one of 16,000 small and a few large files, and shows the
//! best of three runs of each step beside the raw cost of the same bytes. Work files are in the
//! system's temporary directory; it should be a file system as the store's is.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cooper::image::{Compression, Hasher};
use cooper::layer::{
    Dir, EncodeOptions, Format, Marks, UnpackOptions, compressor, decompress, encode, flatten,
    index_tar, read_ahead, unpack,
};

fn main() {
    let work = std::env::temp_dir().join(format!("cooper-bench-{}", std::process::id()));
    fs::create_dir(&work).unwrap();
    let named = std::env::args_os()
        .skip(1)
        .find(|arg| !arg.as_encoded_bytes().starts_with(b"-"));
    let tree = named.map_or_else(|| make_tree(&work.join("tree")), PathBuf::from);
    run(&tree, &work);
    fs::remove_dir_all(&work).unwrap();
}

fn open(dir: &Path) -> Arc<OwnedFd> {
    Arc::new(File::open(dir).unwrap().into())
}

/// Makes a tree like that of a language's packages.
fn make_tree(root: &Path) -> PathBuf {
    let mut state = 1_u64;
    let mut text = |len: usize| -> Vec<u8> {
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        let words: Vec<[u8; 8]> = (0..64)
            .map(|_| [(); 8].map(|()| b'a' + next() % 26))
            .collect();
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend(words[usize::from(next()) % 64]);
            out.push(next());
        }
        out.truncate(len);
        out
    };
    for package in 0..400 {
        let dir = root.join(format!("lib/package{package}/src"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..40 {
            fs::write(dir.join(format!("file{file}")), text(12_000)).unwrap();
        }
    }
    for file in 0..12 {
        fs::write(root.join(format!("lib/large{file}")), text(10 << 20)).unwrap();
    }
    root.to_owned()
}

/// Runs `work` three times, each after `before`, and shows the best time and the processor time
/// that went into it, which other work on the machine disturbs less.
fn show_after(name: &str, bytes: u64, mut before: impl FnMut(), mut work: impl FnMut()) {
    let processor = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
    };
    let (mut best, mut least) = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        before();
        let (start, used) = (Instant::now(), processor());
        work();
        best = best.min(start.elapsed());
        least = least.min(processor() - used);
    }
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (wall, cpu) = (ms(best), ms(least));
    println!(
        "{name:28} {wall:8.1} ms {:6.0} MB/s   processor {cpu:8.1} ms",
        rate(best)
    );
}

fn show(name: &str, bytes: u64, work: impl FnMut()) {
    show_after(name, bytes, || (), work);
}

fn run(tree: &Path, work: &Path) {
    let dir = Dir::new(open(tree));
    let changes = flatten(&dir).unwrap();
    let options = EncodeOptions::default();
    let plain = work.join("layer.tar");
    let size = encode(&changes, &options, &mut File::create(&plain).unwrap()).unwrap();
    println!(
        "{} entries, {:.1} MB of tar",
        changes.len(),
        size as f64 / 1e6
    );

    show("list the tree", size, || drop(flatten(&dir).unwrap()));
    show("encode to nowhere", size, || {
        encode(&changes, &options, &mut io::sink()).unwrap();
    });
    show("encode and hash", size, || {
        encode(&changes, &options, &mut Hashing(Hasher::new())).unwrap();
    });
    show("encode to a file", size, || {
        encode(
            &changes,
            &options,
            &mut File::create(work.join("again.tar")).unwrap(),
        )
        .unwrap();
    });
    show("index the tar", size, || {
        drop(index_tar(Arc::new(File::open(&plain).unwrap())).unwrap());
    });
    for threads in [1, 2] {
        for (name, compression) in [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)] {
            show(&format!("{name}, {threads} threads"), size, || {
                let out = BufWriter::new(File::create(work.join(name)).unwrap());
                let threads = NonZero::new(threads).unwrap();
                let mut packer = compressor(out, compression, None, threads).unwrap();
                io::copy(&mut File::open(&plain).unwrap(), &mut packer).unwrap();
                packer.finish().unwrap().flush().unwrap();
            });
        }
    }
    show_levels(&plain, size);
    for (name, format) in [("gzip", Format::Gzip), ("zstd", Format::Zstd)] {
        let packed = fs::metadata(work.join(name)).unwrap().len();
        println!("{name}: ratio {:.3}", packed as f64 / size as f64);
        show(&format!("read {name}"), size, || {
            let packed = File::open(work.join(name)).unwrap();
            io::copy(&mut decompress(format, packed), &mut io::sink()).unwrap();
        });
    }
    write_trees(&plain, work, size);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    println!(
        "{}",
        status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap()
    );
}

/// Shows what each level of gzip costs on one thread and leaves of the bytes, beside that of zlib-rs.
fn show_levels(plain: &Path, size: u64) {
    let left = |packed: usize| println!("{:28} ratio {:.3}", "", packed as f64 / size as f64);
    for level in [1, 2, 4, 6, 9] {
        let mut packed = 0;
        show(&format!("gzip:{level}"), size, || {
            let one = NonZero::<usize>::MIN;
            let mut packer = compressor(Vec::new(), Compression::Gzip, Some(level), one).unwrap();
            io::copy(&mut File::open(plain).unwrap(), &mut packer).unwrap();
            packed = packer.finish().unwrap().len();
        });
        left(packed);
        show(&format!("zlib-rs, level {level}"), size, || {
            let level = flate2::Compression::new(level.unsigned_abs());
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), level);
            io::copy(&mut File::open(plain).unwrap(), &mut packer).unwrap();
            packed = packer.finish().unwrap().len();
        });
        left(packed);
    }
}

fn write_trees(plain: &Path, work: &Path, size: u64) {
    let dir = work.join("unpacked");
    let fresh = || {
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir(&dir).unwrap();
        rustix::fs::sync();
    };
    let timed = |name: &str, make: &dyn Fn(&Path)| {
        show_after(name, size, fresh, || make(&dir));
    };
    let options = UnpackOptions {
        marks: Marks::Trusted,
    };
    let put = |dir: &Path, stream: &mut dyn Read| {
        unpack(stream, open(dir).as_fd(), None, &options).unwrap();
    };
    timed("one write of the bytes", &|dir| {
        let mut out = File::create(dir.join("all")).unwrap();
        io::copy(&mut File::open(plain).unwrap().take(u64::MAX), &mut out).unwrap();
    });
    timed("unpack the plain tar", &|dir| {
        put(dir, &mut File::open(plain).unwrap())
    });
    for (name, format) in [("gzip", Format::Gzip), ("zstd", Format::Zstd)] {
        timed(&format!("unpack {name}"), &|dir| {
            put(
                dir,
                &mut decompress(format, File::open(work.join(name)).unwrap()),
            );
        });
    }
    timed("unpack gzip, read ahead", &|dir| {
        let packed = File::open(work.join("gzip")).unwrap();
        let plain = read_ahead(decompress(Format::Gzip, packed)).unwrap();
        put(dir, &mut { plain });
    });
    timed("tar -xf of the plain tar", &|dir| {
        let mut tar = std::process::Command::new("tar");
        assert!(
            tar.arg("-xf")
                .arg(plain)
                .arg("-C")
                .arg(dir)
                .status()
                .unwrap()
                .success()
        );
    });
}

struct Hashing(Hasher);

impl Write for Hashing {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
