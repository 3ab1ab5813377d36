"""Measures the peak memory of the largest work. Started by `scripts/bench --memory`.

One file of 4 GiB goes through COPY, push, pull and the unpacking before a run; a context of half a million files goes
through COPY, cold and unchanged. Wants 30 GB of disk (below TMPDIR or else /var/tmp) and some minutes.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from table import BUSYBOX, Cooper, Registry, remove, shown, timed

GIB = 1 << 30
COPY = "FROM busybox\nCOPY . /data\n"


def make_large(place, gib):
    """One file of bytes that do not pack: a block of noise, again and again, further apart than gzip looks back."""
    place.mkdir()
    block = os.urandom(16 << 20)
    with open(place / "large", "wb") as file:
        for _ in range(gib * GIB // len(block)):
            file.write(block)


def make_many(place, count):
    for number in range(count):
        if number % 1000 == 0:
            directory = place / f"{number // 1000:04}"
            directory.mkdir(parents=True)
        (directory / f"{number:06}").write_text(f"{number}\n")


def renew(program):
    """Begins with an empty storage; the disk may not have room for one more beside it."""
    program.clean()
    program.reset()


def measure(program, scratch, rootfs, gib, files):
    """Yields what was done, its peak in MiB and the most that it should be."""
    (scratch / "busybox.Dockerfile").write_text(BUSYBOX)
    (scratch / "copy.Dockerfile").write_text(COPY)
    file, tree, registry = scratch / "copy.Dockerfile", scratch / "tree", Registry(scratch)
    image = f"{registry.address}/memory:1"
    try:
        program.reset()
        program.build("busybox", scratch / "busybox.Dockerfile", rootfs.parent)
        program.weigh = True
        make_large(tree, gib)
        yield f"COPY of a file of {gib} GiB", program.build(image, file, tree)[1], 64
        shutil.rmtree(tree)
        yield "push of that layer, gzip", program.push(image)[1], 64
        renew(program)
        yield "pull of that layer", program.pull(image)[1], 64
        run = [os.environ["CASK"], "run", "--rm", "--network=host", image, "true"]
        yield "unpacking it, for `run`", timed(run, program.environment, weigh=True)[1], 64
        renew(program)
        program.build("busybox", scratch / "busybox.Dockerfile", rootfs.parent)
        make_many(tree, files)
        yield f"COPY of {files:,} files", program.build(image, file, tree)[1], 256
        yield "the same again, unchanged", program.build(image, file, tree)[1], 256
    finally:
        registry.stop()


def main():
    parser = argparse.ArgumentParser(prog="bench --memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=int, default=4, help="size of the one file")
    parser.add_argument("--files", type=int, default=500_000, help="number of the many files")
    parser.add_argument("--cache", type=Path, required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="cooper-memory-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    program = Cooper("cooper", [os.environ["COOPER"]], scratch)
    rootfs = arguments.cache / "bases/busybox/rootfs.tar"
    try:
        print("| Work | peak memory | target |\n|---|---|---|")
        for text, peak, most in measure(program, scratch, rootfs, arguments.gib, arguments.files):
            verdict = "met" if peak <= most else "missed"
            print(f"| {text} | {shown('memory', peak)} | ≤ {most} MiB {verdict} |", flush=True)
    finally:
        os.chdir("/")
        program.clean()
        remove(scratch)


if __name__ == "__main__":
    main()
